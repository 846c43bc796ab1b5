package alkey_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/alkey-go/alkey"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope/txscopetest"
)

// The page on captures says how many round trips to the database a transaction takes with alkey and
// without, and how many to the token store.
func TestCapturePageCosts(t *testing.T) {
	page := readCaptureTable(t, "| work |")
	for _, d := range capturedDatabases {
		if d.name == "SQLite" {
			continue // it has no round trips
		}
		t.Run(d.name, func(t *testing.T) {
			dsn := d.dsn(t)
			turns := new(atomic.Int64)
			proxied := address.ReplaceAllStringFunc(dsn, func(server string) string { return countTurns(t, server, turns) })
			backend := txscopetest.NewBackend()
			store := tokens.New(backend)
			bare, err := sqlx.Open(d.driver, proxied)
			if err != nil {
				t.Fatal(err)
			}
			wrapped, err := alkey.Open(d.driver, proxied, store)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				bare.Close()
				wrapped.Close()
				store.Close()
			}()
			bare.MustExec(d.types.Replace(`CREATE TABLE notes (id SERIAL PRIMARY KEY, v INTEGER)`))
			for i := range 20 {
				bare.MustExec(fmt.Sprintf(`INSERT INTO notes (v) VALUES (%d)`, i))
			}
			for _, w := range capturedWork {
				want, ok := page[w.name][d.name]
				if !ok {
					t.Errorf("the page has no row %q", w.name)
				}
				count := func(db *sqlx.DB) int64 {
					var n int64
					for range 3 { // the first times the connection, and statements, are made
						turns.Store(0)
						backend.Calls()
						if err := w.do(t.Context(), db); err != nil {
							t.Fatalf("%s: %v", w.name, err)
						}
						n = turns.Load()
					}
					return n
				}
				without := count(bare)
				got := fmt.Sprintf("%d + %d", without, count(wrapped)-without)
				if got != want {
					t.Errorf("%s: the page says %q round trips, and it is %q", w.name, want, got)
				}
				if ops := fmt.Sprint(len(backend.Ops())); ops != page[w.name]["token store"] {
					t.Errorf("%s: the page says %s round trips to the token store, and there are %s", w.name, page[w.name]["token store"], ops)
				}
			}
		})
	}
	if len(page) != len(capturedWork) {
		t.Errorf("the page has %d rows, and this test %d", len(page), len(capturedWork))
	}
}

var address = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// countTurns forwards connections to the server, and counts how often a client speaks after the
// server has.
func countTurns(t *testing.T, server string, turns *atomic.Int64) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				return
			}
			var answered atomic.Bool
			answered.Store(true)
			wg.Go(func() {
				forward(upstream, client, func(said []byte) {
					if !closesStatements(said) && answered.Swap(false) {
						turns.Add(1)
					}
				})
			})
			wg.Go(func() { forward(client, upstream, func([]byte) { answered.Store(true) }) })
		}
	})
	return l.Addr().String()
}

// closesStatements reports whether a MySQL client says no more than that it needs prepared statements no
// longer, which it waits for no answer to.
func closesStatements(said []byte) bool {
	const packet = "\x05\x00\x00\x00\x19"
	for len(said) >= 9 && string(said[:len(packet)]) == packet {
		said = said[9:]
	}
	return len(said) == 0
}

func forward(to, from net.Conn, spoken func(said []byte)) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			spoken(buf[:n])
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				from.Close()
			}
			return
		}
	}
}

var capturedWork = []struct {
	name string
	do   func(ctx context.Context, db *sqlx.DB) error
}{
	{"a `SELECT`", func(ctx context.Context, db *sqlx.DB) error {
		var n int
		return db.GetContext(ctx, &n, `SELECT count(*) FROM notes`)
	}},
	{"a transaction that reads", inTx(`SELECT id FROM notes WHERE id = ? -- 1`)},
	{"a transaction that is rolled back", func(ctx context.Context, db *sqlx.DB) error {
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			return err
		}
		if err := execArgs(ctx, tx, `UPDATE notes SET v = v + 1 WHERE id = ? -- 1`); err != nil {
			return err
		}
		return tx.Rollback()
	}},
	{"a transaction with an `UPDATE` by integer key", inTx(`UPDATE notes SET v = v + 1 WHERE id = ? -- 1`)},
	{"a transaction with three of these", inTx(`UPDATE notes SET v = v + 1 WHERE id = ? -- 1`, `UPDATE notes SET v = v + 1 WHERE id = ? -- 2`, `UPDATE notes SET v = v + 1 WHERE id = ? -- 3`)},
	{"a transaction with an `UPDATE` by another condition", inTx(`UPDATE notes SET v = v + 1 WHERE v > ? -- 5`)},
	{"a transaction with an `INSERT` whose key the database makes", inTx(`INSERT INTO notes (v) VALUES (?) -- 1`)},
	{"an `UPDATE` by integer key, alone", alone(`UPDATE notes SET v = v + 1 WHERE id = ? -- 1`)},
	{"an `UPDATE` by another condition, alone", alone(`UPDATE notes SET v = v + 1 WHERE v > ? -- 5`)},
	{"an `INSERT` whose key the database makes, alone", alone(`INSERT INTO notes (v) VALUES (?) -- 1`)},
}

func inTx(texts ...string) func(context.Context, *sqlx.DB) error {
	return func(ctx context.Context, db *sqlx.DB) error {
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		for _, text := range texts {
			if err := execArgs(ctx, tx, text); err != nil {
				return err
			}
		}
		return tx.Commit()
	}
}

func alone(text string) func(context.Context, *sqlx.DB) error {
	return func(ctx context.Context, db *sqlx.DB) error { return execArgs(ctx, db, text) }
}

// execArgs runs a text whose arguments follow " -- ".
func execArgs(ctx context.Context, db interface {
	Rebind(query string) string
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}, text string) error {
	query, list, some := strings.Cut(text, " -- ")
	var args []any
	if some {
		for _, arg := range strings.Split(list, ", ") {
			args = append(args, argument(arg))
		}
	}
	_, err := db.ExecContext(ctx, db.Rebind(query), args...)
	return err
}

// argument is an integer, or a text in quotes.
func argument(text string) any {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	return strings.Trim(text, "'")
}
