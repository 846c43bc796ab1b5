package sqlite_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"modernc.org/sqlite"

	"github.com/alkey-go/alkey/internal/versus"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	_ "github.com/alkey-go/alkey/txscope/sqlite"
)

// BenchmarkDriver compares the wrapped driver with the bare one, each on a file of its own.
func BenchmarkDriver(b *testing.B) {
	for _, c := range []struct {
		name string
		work versus.Work
	}{
		{"select", versus.Select(`SELECT name, email FROM users WHERE id = ?`)},
		{"prepared", versus.SelectPrepared(`SELECT name, email FROM users WHERE id = ?`)},
		{"update", versus.ExecInTx(`UPDATE users SET visits = visits + 1 WHERE id = ?`, versus.User)},
		{"update10000", updatesOfMany},
	} {
		b.Run("work="+c.name, func(b *testing.B) { versus.Drivers(b, benchDB, c.work) })
	}
}

func benchDB(b *testing.B, wrapped bool) *sql.DB {
	b.Helper()
	c, err := sqlite.NewConnector("file:" + filepath.Join(b.TempDir(), "bench.db") + "?_journal_mode=WAL&_synchronous=NORMAL")
	if err != nil {
		b.Fatal(err)
	}
	if wrapped {
		store := tokens.NewMemory()
		b.Cleanup(func() { _ = store.Close() })
		if c, err = txscope.Wrap(c, store); err != nil {
			b.Fatal(err)
		}
	}
	db := sql.OpenDB(c)
	b.Cleanup(func() { _ = db.Close() })
	_, err = db.Exec(`CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, email TEXT, visits INTEGER);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 1000)
		INSERT INTO users SELECT i, 'user ' || i, 'user' || i || '@example.com', 0 FROM n`)
	if err != nil {
		b.Fatal(err)
	}
	return db
}

func updatesOfMany(b *testing.B, db *sql.DB) func() {
	_, err := db.Exec(`WITH RECURSIVE n(i) AS (SELECT 1001 UNION ALL SELECT i+1 FROM n WHERE i < 10000)
		INSERT INTO users SELECT i, 'user ' || i, 'user' || i || '@example.com', 0 FROM n`)
	if err != nil {
		b.Fatal(err)
	}
	return versus.Exec(`UPDATE users SET visits = visits + 1`, versus.Args())(b, db)
}

// BenchmarkIdle reports what a connection keeps of the heap. SQLite's own memory is not of it, and is
// the same either way.
func BenchmarkIdle(b *testing.B) {
	versus.IdleConnections(b, benchDB, func(ctx context.Context, c *sql.Conn) error {
		_, err := c.ExecContext(ctx, `SELECT count(*) FROM users`)
		return err
	})
}
