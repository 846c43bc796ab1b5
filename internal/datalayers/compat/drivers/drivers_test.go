package drivers

import (
	"database/sql"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/alkey-go/alkey/txscope"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestEnvironment shows that the comparison compares two things.
func TestEnvironment(t *testing.T) {
	for _, value := range []string{"wrapped", "bare"} {
		t.Setenv(Environment, value)
		db, err := sql.Open("compat-sqlite3", filepath.Join(t.TempDir(), "test.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		err = conn.Raw(func(c any) error {
			if _, wrapped := c.(*txscope.Conn); wrapped != (value == "wrapped") {
				t.Errorf("with %s the connection is a %T", value, c)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
