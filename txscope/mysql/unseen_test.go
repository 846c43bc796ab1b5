package mysql_test

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"testing"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// Texts of the same length: the server runs the one where the capture has seen the other.
const (
	standIn = "DO 'nothing of note'"
	commits = "FLUSH TABLES        "
)

// TestUnseenCommit: a statement commits what is open, and the analysis has not seen that coming. What was
// committed is published, also if the store is down and commits are refused that cannot be fenced.
func TestUnseenCommit(t *testing.T) {
	ends := map[string]func(f *fixture, conn *sql.Conn){
		"ROLLBACK": func(f *fixture, conn *sql.Conn) { f.execOn(conn, "ROLLBACK") },
		"closed": func(f *fixture, conn *sql.Conn) {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		},
	}
	for _, c := range []struct {
		name, text   string
		strict, down bool
		fails        bool
	}{
		{"strict, down", standIn, true, true, false},
		{"strict", standIn, true, false, false},
		{"down", standIn, false, true, false},
		{"up", standIn, false, false, false},
		{"before an error", standIn + "; SELECT nope FROM users", false, false, true},
		{"before an error, strict, down", standIn + "; SELECT nope FROM users", true, true, true},
	} {
		for end, finish := range ends {
			t.Run(c.name+", "+end, func(t *testing.T) {
				wire := new(tap)
				var opts []txscope.Option
				if c.strict {
					opts = append(opts, txscope.Strict())
				}
				f := setUp(t, func(cfg *gomysql.Config) {
					quiet(cfg)
					cfg.DialFunc, cfg.MultiStatements = wire.dial, true
				}, opts...)
				wire.set(func(b []byte) error {
					if i := bytes.Index(b, []byte(standIn)); i >= 0 {
						copy(b[i:], commits)
					}
					return nil
				}, nil)
				was := f.stamp(user(1))
				conn := f.conn(f.db)
				f.execOn(conn, "BEGIN")
				f.execOn(conn, "UPDATE users SET v = 9 WHERE id = 1")
				f.backend.SetDown(c.down)
				if _, err := conn.ExecContext(f.ctx, c.text); (err != nil) != c.fails || errors.Is(err, txscope.ErrFence) {
					t.Fatalf("got %v", err)
				}
				finish(f, conn)
				if v := f.count("SELECT v FROM users WHERE id = 1"); v != 9 {
					t.Fatalf("the test is wrong: v is %d", v)
				}
				f.backend.SetDown(false)
				f.changed(user(1), was)
			})
		}
	}
}

// changed waits until the store is trusted, and fails unless id has another stamp then, or is fenced.
func (f *fixture) changed(id tokens.ID, was tokens.Stamp) {
	f.Helper()
	var token []tokens.Token
	f.until("the store is back", func() (ok bool) {
		var err error
		token, err = f.store.Read(f.ctx, []tokens.ID{id})
		return err == nil
	})
	if token[0].Stamp == was && !token[0].Fenced {
		f.Errorf("what was committed to %s is neither published nor fenced: %+v", id, f.statistics())
	}
}

// TestCommitsForeseen: SETs that commit what is open are fenced before they run, and refused where that cannot
// be done.
func TestCommitsForeseen(t *testing.T) {
	for _, text := range []string{
		"SET DEFAULT ROLE NONE",
		"SET autocommit = 0, autocommit = 1",
		"SET autocommit = 0; SET autocommit = 1",
		"SET @a = 1, autocommit = 1, DEFAULT ROLE NONE",
		"SET autocommit = 1, PASSWORD = ''",
		"SET STATEMENT max_statement_time = 5 FOR COMMIT",
		"SET STATEMENT max_statement_time = 5 FOR BEGIN",
		"SET STATEMENT max_statement_time = 5 FOR SET DEFAULT ROLE NONE",
	} {
		for _, down := range []bool{false, true} {
			t.Run(fmt.Sprint(text, ", down ", down), func(t *testing.T) {
				wire := new(tap)
				f := setUp(t, func(cfg *gomysql.Config) {
					cfg.DialFunc, cfg.MultiStatements = wire.dial, true
				}, txscope.Strict())
				was := f.stamp(user(1))
				conn := f.conn(f.db)
				f.execOn(conn, "BEGIN")
				f.execOn(conn, "UPDATE users SET v = 9 WHERE id = 1")
				f.backend.SetDown(down)
				f.backend.Calls()
				fenced := false
				wire.set(func(b []byte) error {
					if bytes.Contains(b, []byte(text)) {
						found, err := f.store.Read(f.ctx, []tokens.ID{user(1)})
						fenced = err == nil && found[0].Fenced
					}
					return nil
				}, nil)
				_, err := conn.ExecContext(f.ctx, text)
				wire.set(nil, nil)
				if errors.Is(err, txscope.ErrFence) != down || !down && err != nil {
					t.Errorf("got %v", err)
				}
				if !down && !fenced {
					t.Error("not fenced when it was sent")
				}
				f.execOn(conn, "ROLLBACK")
				if v := f.count("SELECT v FROM users WHERE id = 1"); (v == 9) == down {
					t.Errorf("v is %d", v)
				}
				f.backend.SetDown(false)
				if !down {
					f.changed(user(1), was)
				}
			})
		}
	}
}

// TestBareIsLost: what was written through the bare connection is not taken for rolled back because the
// connection is lost before it is followed again.
func TestBareIsLost(t *testing.T) {
	for _, open := range []bool{false, true} {
		t.Run(fmt.Sprint("in a transaction ", open), func(t *testing.T) {
			f := setUp(t, quiet)
			was := f.stamp(user(1))
			conn := f.conn(f.db)
			texts := []string{"UPDATE users SET v = 9 WHERE id = 1"}
			if open {
				f.execOn(conn, "BEGIN")
				f.execOn(conn, "UPDATE users SET v = 8 WHERE id = 2")
				texts = append(texts, "COMMIT")
			}
			_ = conn.Raw(func(c any) error {
				bare := c.(*txscope.Conn).Bare()
				for _, text := range texts {
					_, err := bare.(driver.ExecerContext).ExecContext(context.Background(), text, nil)
					f.must(err)
				}
				return bare.Close()
			})
			_ = conn.Close()
			if v := f.count("SELECT v FROM users WHERE id = 1"); v != 9 {
				t.Fatalf("the test is wrong: v is %d", v)
			}
			f.changed(user(1), was)
		})
	}
}
