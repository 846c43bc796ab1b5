package sqlite_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/jmoiron/sqlx"
	"go.uber.org/goleak"
	"modernc.org/libc"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/txscopetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a wrapped database with two tables.
type fixture struct {
	*testing.T
	*txscopetest.Fixture
	ctx  context.Context
	file string
	db   *sqlx.DB
}

const options = "?_journal_mode=WAL&_synchronous=OFF&_foreign_keys=1&_busy_timeout=2000"

func setUp(t *testing.T, opts ...txscope.Option) *fixture {
	t.Helper()
	return setUpFile(t, filepath.Join(t.TempDir(), "test.db")+options, opts...)
}

func setUpFile(t *testing.T, dsn string, opts ...txscope.Option) *fixture {
	t.Helper()
	f := &fixture{T: t, Fixture: txscopetest.NewFixture(t), ctx: t.Context(), file: dsn}
	db, err := txscope.Open("sqlite", dsn, f.Store, f.Options(opts...)...)
	f.must(err)
	f.db = db
	t.Cleanup(func() { f.must(db.Close()) })
	f.exec(`CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT UNIQUE, boss INT REFERENCES users(id) ON DELETE CASCADE)`)
	f.exec(`CREATE TABLE notes (slug TEXT PRIMARY KEY, body TEXT)`)
	f.exec(`INSERT INTO users (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c')`)
	f.exec(`INSERT INTO notes VALUES ('x', ''), ('y', '')`)
	f.Backend.Ops()
	return f
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// conn takes a connection. It goes back when the test is over and its context has ended: before
// that, closing it would wait for rows that a failed test has left open.
func (f *fixture) conn() *sql.Conn {
	f.Helper()
	c, err := f.db.Conn(f.ctx)
	f.must(err)
	f.Cleanup(func() { _ = c.Close() })
	return c
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func (f *fixture) exec(query string, args ...any) { f.Helper(); f.execOn(f.db, query, args...) }

func (f *fixture) execOn(e execer, query string, args ...any) {
	f.Helper()
	if _, err := e.ExecContext(f.ctx, query, args...); err != nil {
		f.Fatalf("%s: %v", query, err)
	}
}

func user(id int) tokens.ID   { return tokens.Row("users", id) }
func note(s string) tokens.ID { return tokens.Row("notes", s) }

func (f *fixture) stamps(ids ...tokens.ID) []tokens.Stamp {
	f.Helper()
	found, err := f.Store.Read(context.Background(), ids)
	f.must(err)
	stamps := make([]tokens.Stamp, len(found))
	for i, token := range found {
		if token.Fenced {
			f.Fatalf("%s is fenced", ids[i])
		}
		stamps[i] = token.Stamp
	}
	return stamps
}

// changes asserts that do changes the keys of want, and of nothing else among the rows and tables
// of the fixture and what is in want and also.
func (f *fixture) changes(do func(), want []tokens.ID, also ...tokens.ID) {
	f.Helper()
	ids := []tokens.ID{user(1), user(2), user(3), user(4), note("x"), note("y"), tokens.Table("users"), tokens.Table("notes"), tokens.Global}
	for _, id := range append(slices.Clone(want), also...) {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	before := f.stamps(ids...)
	do()
	after := f.stamps(ids...)
	for i, id := range ids {
		expected := slices.ContainsFunc(want, func(w tokens.ID) bool {
			return w == id || w == tokens.Global || id == tokens.Global || id.Table == w.Table && (id.IsTable() || w.IsTable())
		})
		switch changed := before[i] != after[i]; {
		case expected && !changed:
			f.Errorf("the key of %s has not changed", id)
		case changed && !expected:
			f.Errorf("the key of %s has changed", id)
		}
	}
}

func ids(ids ...tokens.ID) []tokens.ID { return ids }

func TestWrites(t *testing.T) {
	for _, c := range []struct {
		name  string
		setUp string
		run   string
		want  []tokens.ID
	}{
		{"update", ``, `UPDATE users SET name = 'z' WHERE id = 1`, ids(user(1))},
		{"insert", ``, `INSERT INTO users (id) VALUES (4)`, ids(user(4))},
		{"delete", ``, `DELETE FROM users WHERE id = 2`, ids(user(2))},
		{"delete of all, the truncate optimisation", ``, `DELETE FROM users`, ids(user(1), user(2), user(3))},
		{"key change", ``, `UPDATE users SET id = 4 WHERE id = 3`, ids(user(3), user(4))},
		{"cascade", `UPDATE users SET boss = 1 WHERE id = 3`, `DELETE FROM users WHERE id = 1`, ids(user(1), user(3))},
		{"replace deletes another row", ``, `REPLACE INTO users (id, name) VALUES (4, 'b')`, ids(user(2), user(4))},
		{"text key", ``, `UPDATE notes SET body = 'z' WHERE slug = 'x'`, ids(note("x"))},
		{"text key change", ``, `UPDATE notes SET slug = 'z' WHERE slug = 'x'`, ids(note("x"), note("z"))},
		{"two tables in one text", ``, `UPDATE users SET name = 'z' WHERE id = 1; DELETE FROM notes WHERE slug = 'y';`, ids(user(1), note("y"))},
		{"nothing", ``, `UPDATE users SET name = 'z' WHERE id = 99`, nil},
		{"select", ``, `SELECT * FROM users`, nil},
		{"rolled back in the text", ``, `BEGIN; UPDATE users SET name = 'z' WHERE id = 1; ROLLBACK`, nil},
		{"committed in the text", ``, `BEGIN; UPDATE users SET name = 'z' WHERE id = 1; COMMIT`, ids(user(1))},
		{"committed in the text, then more", ``, `BEGIN; UPDATE users SET name = 'z' WHERE id = 1; COMMIT; UPDATE users SET name = 'y' WHERE id = 2`, ids(user(1), user(2))},
		{"committed in the text, then rolled back", ``, `BEGIN; UPDATE users SET name = 'z' WHERE id = 1; COMMIT; BEGIN; UPDATE users SET name = 'y' WHERE id = 2; ROLLBACK`, ids(user(1))},
		{"no key", `CREATE TABLE log (a)`, `INSERT INTO log VALUES (1)`, ids(tokens.Table("log"))},
		{"float key", `CREATE TABLE log (a REAL PRIMARY KEY)`, `INSERT INTO log VALUES (1.5)`, ids(tokens.Table("log"))},
		{"null key", `CREATE TABLE log (a TEXT PRIMARY KEY)`, `INSERT INTO log VALUES (NULL)`, ids(tokens.Table("log"))},
		{"time key", `CREATE TABLE log (a DATETIME PRIMARY KEY)`, `INSERT INTO log VALUES ('2020-01-01')`, ids(tokens.Table("log"))},
		{"boolean key", `CREATE TABLE log (a BOOLEAN PRIMARY KEY)`, `INSERT INTO log VALUES (1)`, ids(tokens.Row("log", true))},
		{"boolean key as text", `CREATE TABLE log (a BOOLEAN PRIMARY KEY)`, `INSERT INTO log VALUES ('true')`, ids(tokens.Table("log"))},
		{"blob key", `CREATE TABLE log (a BLOB PRIMARY KEY)`, `INSERT INTO log VALUES (x'00ff')`, ids(tokens.Row("log", []byte{0, 255}))},
		{"text with NUL as key", `CREATE TABLE log (a TEXT PRIMARY KEY)`, `INSERT INTO log VALUES ('a' || char(0) || 'b')`, ids(tokens.Row("log", "a\x00b"))},
		{"integer spelt otherwise", `CREATE TABLE log (a TEXT PRIMARY KEY)`, `INSERT INTO log VALUES ('007')`, ids(tokens.Row("log", "007"), tokens.Row("log", 7))},
		{"uuid spelt otherwise", `CREATE TABLE log (a TEXT PRIMARY KEY)`, `INSERT INTO log VALUES ('6BA7B8109DAD11D180B400C04FD430C8')`, ids(tokens.Row("log", "6BA7B8109DAD11D180B400C04FD430C8"), tokens.Row("log", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"))},
		{"uuid as bytes", `CREATE TABLE log (a BLOB PRIMARY KEY)`, `INSERT INTO log VALUES (x'6BA7B8109DAD11D180B400C04FD430C8')`, ids(tokens.Row("log", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"))},
		{"text key beyond ASCII", ``, `UPDATE notes SET slug = 'ü' WHERE slug = 'x'`, ids(note("x"), note("ü"))},
		{"name in capitals", `CREATE TABLE "Log Book" (a INTEGER PRIMARY KEY)`, `INSERT INTO "log book" VALUES (1)`, ids(tokens.Row("Log Book", 1))},
		{"many rows", `CREATE TABLE log (a INTEGER PRIMARY KEY)`, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 2000) INSERT INTO log SELECT i FROM n`, ids(tokens.Table("log"))},
		{"drop", `CREATE TABLE log (a INTEGER PRIMARY KEY)`, `DROP TABLE log`, ids(tokens.Table("log"))},
		{"drop of a parent", `CREATE TABLE p (a INTEGER PRIMARY KEY); CREATE TABLE c (a INTEGER PRIMARY KEY, p INT REFERENCES p ON DELETE CASCADE); INSERT INTO p VALUES (1); INSERT INTO c VALUES (7, 1)`, `DROP TABLE p`, ids(tokens.Table("p"), tokens.Table("c"))},
		{"create", ``, `CREATE TABLE log (a)`, ids(tokens.Table("log"))},
		{"create as select", ``, `CREATE TABLE log AS SELECT * FROM users`, ids(tokens.Table("log"))},
		{"alter", ``, `ALTER TABLE notes ADD COLUMN more`, ids(tokens.Table("notes"))},
		{"drop column", ``, `ALTER TABLE notes DROP COLUMN body`, ids(tokens.Table("notes"))},
		{"rename", ``, `ALTER TABLE notes RENAME TO papers`, ids(tokens.Global)},
		{"create index", ``, `CREATE INDEX i ON users (boss)`, nil},
		{"view", ``, `CREATE VIEW log AS SELECT * FROM users`, ids(tokens.Table("log"))},
		{"through a view", `CREATE VIEW log AS SELECT * FROM users; CREATE TRIGGER tr INSTEAD OF UPDATE ON log BEGIN UPDATE users SET name = new.name WHERE id = new.id; END`, `UPDATE log SET name = 'z' WHERE id = 1`, ids(user(1), tokens.Table("log"))},
		{"temporary table", ``, `CREATE TEMP TABLE log (a INTEGER PRIMARY KEY)`, ids(tokens.Table("log"))},
		{"full text", `CREATE VIRTUAL TABLE log USING fts5(body); INSERT INTO log VALUES ('one')`, `UPDATE log SET body = 'two'`, ids(tokens.Table("log"))},
		{"full text by a trigger", `CREATE VIRTUAL TABLE log USING fts5(body); CREATE TRIGGER tr AFTER UPDATE ON notes BEGIN INSERT INTO log VALUES (new.body); END`, `UPDATE notes SET body = 'two' WHERE slug = 'x'`, ids(note("x"), tokens.Table("log"))},
		{"r-tree", `CREATE VIRTUAL TABLE log USING rtree(id, a, b)`, `INSERT INTO log VALUES (1, 2, 3)`, ids(tokens.Table("log"))},
		{"vacuum", ``, `VACUUM`, nil},
		{"analyze", ``, `ANALYZE`, ids(tokens.Table("sqlite_stat1"))},
		{"sequence", `CREATE TABLE log (a INTEGER PRIMARY KEY AUTOINCREMENT)`, `INSERT INTO log DEFAULT VALUES`, ids(tokens.Row("log", 1))},
		{"user version", ``, `PRAGMA user_version = 7`, nil},
		{"merge by upsert", ``, `INSERT INTO users (id, name) VALUES (1, 'z') ON CONFLICT DO UPDATE SET name = excluded.name`, ids(user(1))},
	} {
		t.Run(c.name, func(t *testing.T) {
			ways := map[string]func(f *fixture){
				"exec": func(f *fixture) { f.exec(c.run) },
				"prepared": func(f *fixture) {
					s, err := f.db.PrepareContext(f.ctx, c.run)
					f.must(err)
					defer s.Close()
					_, err = s.ExecContext(f.ctx)
					f.must(err)
				},
				"query": func(f *fixture) {
					rows, err := f.db.QueryContext(f.ctx, c.run)
					f.must(err)
					f.must(rows.Close())
				},
			}
			if !strings.Contains(c.run, "BEGIN") && c.name != "vacuum" {
				ways["transaction"] = func(f *fixture) {
					tx, err := f.db.BeginTx(f.ctx, nil)
					f.must(err)
					f.execOn(tx, c.run)
					f.must(tx.Commit())
				}
			}
			for way, run := range ways {
				t.Run(way, func(t *testing.T) {
					f := setUp(t)
					if c.setUp != "" {
						f.exec(c.setUp)
					}
					f.changes(func() { run(f) }, c.want)
				})
			}
		})
	}
}

// A prepared statement is prepared again by SQLite when the schema has changed, and tells what it
// is to sweep then too.
func TestPreparedBeforeSchemaChange(t *testing.T) {
	f := setUp(t)
	f.db.SetMaxOpenConns(1)
	f.exec(`CREATE TABLE log (a INTEGER PRIMARY KEY, b INT)`)
	s, err := f.db.PrepareContext(f.ctx, `INSERT INTO log (a, b) VALUES (?, ?)`)
	f.must(err)
	defer s.Close()
	log := func(n int) tokens.ID { return tokens.Row("log", n) }
	f.changes(func() { _, err = s.Exec(1, 2); f.must(err) }, ids(log(1)), log(2))
	f.exec(`DROP TABLE log`)
	f.exec(`CREATE TABLE log (a INT, b INTEGER PRIMARY KEY)`)
	f.changes(func() { _, err = s.Exec(1, 2); f.must(err) }, ids(log(2)), log(1))
	f.exec(`DROP TABLE log`)
	f.exec(`CREATE VIRTUAL TABLE log USING fts5(a, b)`)
	for range 3 {
		f.changes(func() { _, err = s.Exec(1, 2); f.must(err) }, ids(tokens.Table("log")))
	}
}

// What SQLite says when it prepares a statement anew is remembered with it.
func TestPreparedBeforeTrigger(t *testing.T) {
	for _, how := range []string{"exec", "query", "transaction"} {
		t.Run(how, func(t *testing.T) {
			f := setUp(t)
			conn := f.conn()
			s, err := conn.PrepareContext(f.ctx, `UPDATE notes SET body = body || 'z' WHERE slug = 'x'`)
			f.must(err)
			defer s.Close()
			f.execOn(conn, `CREATE VIRTUAL TABLE log USING fts5(body)`)
			f.execOn(conn, `CREATE TRIGGER tr AFTER UPDATE ON notes BEGIN INSERT INTO log VALUES (new.body); END`)
			for range 3 {
				f.changes(func() {
					switch how {
					case "exec":
						_, err := s.ExecContext(f.ctx)
						f.must(err)
					case "query":
						rows, err := s.QueryContext(f.ctx)
						f.must(err)
						f.must(rows.Close())
					case "transaction":
						tx, err := conn.BeginTx(f.ctx, nil)
						f.must(err)
						_, err = tx.StmtContext(f.ctx, s).ExecContext(f.ctx)
						f.must(err)
						f.must(tx.Commit())
					}
				}, ids(note("x"), tokens.Table("log")))
			}
		})
	}
}

// A schema change on one connection is known on the others.
func TestSchemaChangeElsewhere(t *testing.T) {
	f := setUp(t)
	one := f.conn()
	two := f.conn()
	log := func(n int) tokens.ID { return tokens.Row("log", n) }
	f.execOn(one, `CREATE TABLE log (a INTEGER PRIMARY KEY, b INT)`)
	f.changes(func() { f.execOn(two, `INSERT INTO log VALUES (1, 2)`) }, ids(log(1)), log(2))

	// While it is not committed, nothing is certain.
	f.execOn(one, `BEGIN; DROP TABLE log; CREATE TABLE log (a INT, b INTEGER PRIMARY KEY)`)
	f.changes(func() {
		f.execOn(one, `INSERT INTO log VALUES (3, 4)`)
		f.execOn(one, `COMMIT`)
	}, ids(tokens.Table("log")))
	f.changes(func() { f.execOn(two, `INSERT INTO log VALUES (1, 2)`) }, ids(log(2)), log(1))

	// Nor is it once it was rolled back, before that is known.
	f.execOn(one, `BEGIN; DROP TABLE log; CREATE TABLE log (a INTEGER PRIMARY KEY, b INT)`)
	f.execOn(one, `ROLLBACK`)
	f.changes(func() { f.execOn(two, `INSERT INTO log VALUES (5, 6)`) }, ids(log(6)), log(5))
}

// Between the commit of a schema change and the moment at which all connections know of it, what
// they know is not trusted.
func TestSchemaChangeInTheMoment(t *testing.T) {
	f := setUp(t)
	one := f.conn()
	two := f.conn()
	f.execOn(one, `CREATE TABLE log (a INTEGER PRIMARY KEY, b INT)`)
	f.execOn(two, `INSERT INTO log VALUES (1, 1)`)
	f.execOn(one, `BEGIN; DROP TABLE log; CREATE TABLE log (a INT, b INTEGER PRIMARY KEY)`)
	var calls []txscopetest.Call
	f.Backend.OnCall(func(c txscopetest.Call) {
		if c.Op != "publish" {
			return
		}
		f.Backend.OnCall(nil)
		f.Backend.Calls()
		f.execOn(two, `INSERT INTO log VALUES (1, 2)`)
		calls = f.Backend.Calls()
	})
	f.execOn(one, `COMMIT`)
	if len(calls) != 2 || calls[1].Op != "publish" {
		t.Fatalf("got %v", calls)
	}
	if !slices.ContainsFunc(calls[1].IDs, func(id tokens.ID) bool {
		return id == tokens.Row("log", 2) || id.Table == "log" && id.IsSweep()
	}) {
		t.Errorf("published by what was known before: %v", calls[1].IDs)
	}
}

// A table that another program has changed is not as it was known.
func TestSchemaChangeOutside(t *testing.T) {
	f := setUp(t)
	bare, err := sql.Open("sqlite", f.file)
	f.must(err)
	defer bare.Close()
	f.execOn(bare, `CREATE TABLE log (a INTEGER PRIMARY KEY, b INT)`)
	log := func(n int) tokens.ID { return tokens.Row("log", n) }
	f.changes(func() { f.exec(`INSERT INTO log VALUES (1, 2)`) }, ids(tokens.Table("log")))
	f.changes(func() { f.exec(`INSERT INTO log VALUES (2, 2)`) }, ids(log(2)), log(1))
	f.execOn(bare, `ALTER TABLE log ADD COLUMN c`)
	f.changes(func() { f.exec(`INSERT INTO log (a, b, c) VALUES (3, 2, 1)`) }, ids(tokens.Table("log")))
	f.changes(func() { f.exec(`INSERT INTO log (a, b, c) VALUES (4, 2, 1)`) }, ids(log(4)), log(1))
}

// Another program's change shows in SQLite's schema cookie, also where the table looks alike.
func TestSchemaChangeOutsideThatLooksAlike(t *testing.T) {
	log := func(s string) tokens.ID { return tokens.Row("log", s) }
	for _, c := range []struct {
		name, before, after, run string
		want                     []tokens.ID // once the schema has been read again
	}{
		{"columns change places", `CREATE TABLE log (a TEXT PRIMARY KEY, b)`, `CREATE TABLE log (b, a TEXT PRIMARY KEY)`,
			`REPLACE INTO log (a, b) VALUES ('k', 'v')`, ids(log("k"))},
		{"another key", `CREATE TABLE log (a TEXT PRIMARY KEY, b TEXT)`, `CREATE TABLE log (a TEXT, b TEXT PRIMARY KEY)`,
			`REPLACE INTO log (a, b) VALUES ('k', 'v')`, ids(log("v"))},
		{"virtual", `CREATE TABLE log (a TEXT PRIMARY KEY, b TEXT)`, `CREATE VIRTUAL TABLE log USING fts5(a, b)`,
			`INSERT INTO log (a, b) VALUES ('k', 'v')`, ids(tokens.Table("log"))},
		{"a virtual table behind it", `CREATE TABLE log (a TEXT PRIMARY KEY, b TEXT)`,
			`CREATE VIRTUAL TABLE hidden USING fts5(a); CREATE TABLE log (a TEXT PRIMARY KEY, b TEXT); CREATE TRIGGER tr AFTER INSERT ON log BEGIN INSERT INTO hidden VALUES (new.a); END`,
			`REPLACE INTO log (a, b) VALUES ('k', 'v')`, ids(log("k"), tokens.Table("hidden"))},
	} {
		for _, how := range []string{"exec", "prepared"} {
			t.Run(c.name+"/"+how, func(t *testing.T) {
				f := setUp(t)
				conn := f.conn()
				bare, err := sql.Open("sqlite", f.file)
				f.must(err)
				defer bare.Close()
				f.execOn(conn, c.before)
				run := func() { f.execOn(conn, c.run) }
				if how == "prepared" {
					s, err := conn.PrepareContext(f.ctx, c.run)
					f.must(err)
					defer s.Close()
					run = func() { _, err := s.ExecContext(f.ctx); f.must(err) }
				}
				run()
				f.execOn(bare, `DROP TABLE log;`+c.after)
				first := c.want
				if !slices.Contains(first, tokens.Table("log")) {
					first = append(slices.Clone(first), tokens.Table("log"))
				}
				f.changes(run, first)
				for range 2 {
					f.changes(run, c.want, log("k"), log("v"))
				}
			})
		}
	}
}

// What is temporary on one connection is no matter of the others.
func TestTemporaryTablesDisturbNobody(t *testing.T) {
	f := setUp(t)
	one, two := f.conn(), f.conn()
	f.execOn(one, `SELECT 1`)
	f.changes(func() {
		f.execOn(two, `BEGIN`)
		f.execOn(two, `UPDATE users SET name = 'z' WHERE id = 1`)
		f.execOn(one, `BEGIN; CREATE TEMP TABLE scratch (a INTEGER PRIMARY KEY)`)
		f.execOn(one, `INSERT INTO scratch VALUES (1)`)
		f.execOn(one, `ROLLBACK`)
		f.execOn(two, `UPDATE users SET name = 'y' WHERE id = 2`)
		f.execOn(two, `COMMIT`)
	}, ids(user(1), user(2)))
}

// A schema change counts as such also behind what the same text has rolled back: nobody reads the
// schema before it is committed and takes it for the new one.
func TestSchemaChangeAfterRollback(t *testing.T) {
	for _, how := range []string{"exec", "prepared"} {
		t.Run(how, func(t *testing.T) {
			f := setUp(t)
			one, two := f.conn(), f.conn()
			f.execOn(one, `CREATE TABLE log (x, a INTEGER PRIMARY KEY, b INT)`)
			f.execOn(two, `INSERT INTO log (a, b) VALUES (1, 1)`)
			text := `BEGIN; UPDATE users SET name = 'z' WHERE id = 1; ROLLBACK; ALTER TABLE log DROP COLUMN x`
			looked := false
			f.Backend.OnCall(func(c txscopetest.Call) {
				if c.Op == "fence" {
					f.Backend.OnCall(nil)
					f.execOn(two, `SELECT 1`)
					looked = true
				}
			})
			if how == "exec" {
				f.execOn(one, text)
			} else {
				s, err := one.PrepareContext(f.ctx, text)
				f.must(err)
				_, err = s.ExecContext(f.ctx)
				f.must(errors.Join(err, s.Close()))
			}
			if !looked {
				t.Fatal("the test is wrong: nothing was fenced")
			}
			log := func(n int) tokens.ID { return tokens.Row("log", n) }
			f.changes(func() { f.execOn(two, `INSERT INTO log (a, b) VALUES (2, 2)`) }, ids(log(2)), log(1))
		})
	}
}

func TestAttached(t *testing.T) {
	f := setUp(t)
	conn := f.conn()
	f.execOn(conn, `ATTACH ? AS "Side"`, filepath.Join(t.TempDir(), "side.db"))
	f.execOn(conn, `CREATE TABLE side.users (name TEXT, id INTEGER PRIMARY KEY)`)
	side := func(n int) tokens.ID { return tokens.Row("side.users", n) }
	f.changes(func() { f.execOn(conn, `INSERT INTO side.users (id) VALUES (1)`) }, ids(side(1)), side(2))
	f.changes(func() { f.execOn(conn, `UPDATE users SET name = 'z' WHERE id = 1`) }, ids(user(1)), side(1))
	f.execOn(conn, `CREATE TEMP TABLE users (x INT, id INTEGER PRIMARY KEY)`)
	f.changes(func() { f.execOn(conn, `INSERT INTO users (x, id) VALUES (3, 2)`) }, ids(user(2)), side(2))
	f.execOn(conn, `DETACH side`)
}

// What must be set before the database is made is set in time, although the capture reads the
// schema first.
func TestEncodingAndPageSize(t *testing.T) {
	store := tokens.NewMemory()
	defer store.Close()
	db, err := txscope.Open("sqlite", filepath.Join(t.TempDir(), "utf16.db"), store)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	db.MustExec(`PRAGMA encoding = 'UTF-16le'`)
	db.MustExec(`PRAGMA page_size = 8192`)
	db.MustExec(`PRAGMA auto_vacuum = 1`)
	db.MustExec(`CREATE TABLE notes (slug TEXT PRIMARY KEY)`)
	for pragma, want := range map[string]string{"encoding": "UTF-16le", "page_size": "8192", "auto_vacuum": "1"} {
		var got string
		if err := db.Get(&got, `PRAGMA `+pragma); err != nil || got != want {
			t.Errorf("%s: %s, %v", pragma, got, err)
		}
	}
	before, err := tokens.Get(t.Context(), store, note("ü€"))
	if err != nil {
		t.Fatal(err)
	}
	other, _ := tokens.Get(t.Context(), store, note("u"))
	db.MustExec(`INSERT INTO notes VALUES ('ü€')`)
	after, err := tokens.Get(t.Context(), store, note("ü€"))
	if err != nil || after == before {
		t.Errorf("the key has not changed: %v", err)
	}
	if same, _ := tokens.Get(t.Context(), store, note("u")); same != other {
		t.Error("another key has changed")
	}
}

// Connections to ":memory:" are databases of their own, with schemas of their own.
func TestMemoryDatabases(t *testing.T) {
	f := setUpFile(t, ":memory:")
	log := func(n int) tokens.ID { return tokens.Row("log", n) }
	one := f.conn()
	two := f.conn()
	f.execOn(one, `CREATE TABLE log (a INTEGER PRIMARY KEY, b INT)`)
	f.execOn(two, `CREATE TABLE log (a INT, b INTEGER PRIMARY KEY)`)
	for range 2 {
		f.changes(func() { f.execOn(one, `REPLACE INTO log VALUES (1, 2)`) }, ids(log(1)), log(2))
		f.changes(func() { f.execOn(two, `REPLACE INTO log VALUES (1, 2)`) }, ids(log(2)), log(1))
	}
}

func TestSavepoints(t *testing.T) {
	set := func(id int) string { return fmt.Sprintf(`UPDATE users SET name = name || 'z' WHERE id = %d`, id) }
	for _, c := range []struct {
		name  string
		texts []string
		want  []tokens.ID
	}{
		{"forgotten", []string{"BEGIN", set(1), "SAVEPOINT a", set(2), "ROLLBACK TO a", "COMMIT"}, ids(user(1))},
		{"kept", []string{"BEGIN", set(1), "SAVEPOINT a", set(2), "RELEASE a", "COMMIT"}, ids(user(1), user(2))},
		{"the same name", []string{"BEGIN", "SAVEPOINT a", set(1), "SAVEPOINT A", set(2), "ROLLBACK TO a", set(3), "COMMIT"}, ids(user(1), user(3))},
		{"nested", []string{"BEGIN", "SAVEPOINT a", set(1), "SAVEPOINT b", set(2), "ROLLBACK TO a", set(3), "COMMIT"}, ids(user(3))},
		{"quoted", []string{"BEGIN", `SAVEPOINT "a b"`, set(1), "SAVEPOINT [x]", set(2), "ROLLBACK TRANSACTION TO SAVEPOINT `A B`", set(3), "COMMIT"}, ids(user(3))},
		{"it is the transaction", []string{"SAVEPOINT a", set(1), "SAVEPOINT b", set(2), "ROLLBACK TO b", "RELEASE a"}, ids(user(1))},
		{"it is the transaction, rolled back", []string{"SAVEPOINT a", set(1), "ROLLBACK TO a", "RELEASE a"}, nil},
		{"it is the transaction, all rolled back", []string{"SAVEPOINT a", set(1), "ROLLBACK"}, nil},
		{"not in ASCII", []string{"BEGIN", "SAVEPOINT ä", set(1), "ROLLBACK TO ä", set(2), "COMMIT"}, ids(user(1), user(2))},
		{"several in one text", []string{"BEGIN", "SAVEPOINT a; " + set(1), set(2) + "; ROLLBACK TO a", set(3), "COMMIT"}, ids(user(1), user(2), user(3))},
		{"the same name in a text with others", []string{"BEGIN", "SAVEPOINT a", set(1), "SELECT 1; SAVEPOINT a", set(2), "ROLLBACK TO a", "COMMIT"}, ids(user(1), user(2))},
		{"commit among others", []string{"BEGIN", set(1) + "; COMMIT; " + set(2)}, ids(user(1), user(2))},
		{"begin among others", []string{set(1) + "; BEGIN; " + set(2), "ROLLBACK"}, ids(user(1))},
	} {
		for _, how := range []string{"exec", "prepared", "query"} {
			t.Run(c.name+"/"+how, func(t *testing.T) {
				f := setUp(t)
				conn := f.conn()
				f.changes(func() {
					for _, text := range c.texts {
						switch how {
						case "exec":
							f.execOn(conn, text)
						case "prepared":
							s, err := conn.PrepareContext(f.ctx, text)
							f.must(err)
							_, err = s.ExecContext(f.ctx)
							f.must(err)
							f.must(s.Close())
						case "query":
							rows, err := conn.QueryContext(f.ctx, text)
							f.must(err)
							f.must(rows.Close())
						}
					}
				}, c.want)
				if n := f.stamps(user(1)); n[0] == 0 {
					t.Fatal("no token")
				}
			})
		}
	}
}

// A text of several statements that fails has committed those before.
func TestFailureAfterCommit(t *testing.T) {
	f := setUp(t)
	for i, text := range []string{
		`UPDATE users SET name = 'z' WHERE id = 1; INSERT INTO users (id) VALUES (2)`,
		`BEGIN; UPDATE users SET name = 'y' WHERE id = 1; COMMIT; INSERT INTO users (id) VALUES (2)`,
		`UPDATE users SET name = 'x' WHERE id = 1; SELEC`,
		`UPDATE users SET name = 'w' WHERE id = 1; BEGIN; UPDATE users SET name = 'v' WHERE id = 2; ROLLBACK`,
		`UPDATE users SET name = 'u' WHERE id = 1; INSERT OR ROLLBACK INTO users (id) VALUES (9), (2)`,
	} {
		f.changes(func() {
			if _, err := f.db.ExecContext(f.ctx, text); (err == nil) != (i == 3) {
				t.Errorf("%s: %v", text, err)
			}
		}, ids(user(1)))
		if ops := f.Backend.Ops(); !slices.Equal(ops, []string{"fence", "publish"}) {
			t.Errorf("%s: %v", text, ops)
		}
	}
}

// A commit by text is fenced before it is sent, not by the commit hook, which holds readers off.
func TestFencedBeforeCommitIsSent(t *testing.T) {
	for _, texts := range [][]string{{"BEGIN", "COMMIT"}, {"SAVEPOINT a", "RELEASE a"}} {
		f := setUp(t)
		conn := f.conn()
		f.execOn(conn, texts[0])
		f.execOn(conn, `UPDATE users SET name = 'z' WHERE id = 1`)
		if ops := f.Backend.Ops(); len(ops) != 0 {
			t.Errorf("before COMMIT: %v", ops)
		}
		f.execOn(conn, texts[1])
		if ops := f.Backend.Ops(); !slices.Equal(ops, []string{"fence", "publish"}) {
			t.Errorf("%s: %v", texts[1], ops)
		}
	}
}

func TestReadOnlyCostsNothing(t *testing.T) {
	f := setUp(t)
	tx, err := f.db.BeginTx(f.ctx, &sql.TxOptions{ReadOnly: true})
	f.must(err)
	var n int
	f.must(tx.QueryRow(`SELECT count(*) FROM users`).Scan(&n))
	f.must(tx.Commit())
	tx, err = f.db.BeginTx(f.ctx, nil)
	f.must(err)
	f.execOn(tx, `UPDATE users SET name = 'z' WHERE id = 1`)
	f.must(tx.Rollback())
	if ops := f.Backend.Ops(); len(ops) != 0 {
		t.Errorf("the store was asked for %v", ops)
	}
}

func TestRollbackTaints(t *testing.T) {
	f := setUp(t)
	ctx, scope := txscope.OpenScope(f.ctx, f.Store)
	_, other := txscope.OpenScope(f.ctx, f.Store)
	tx, err := f.db.BeginTx(ctx, nil)
	f.must(err)
	rows, err := tx.QueryContext(ctx, `UPDATE users SET name = 'z' WHERE id = 1 RETURNING id`)
	f.must(err)
	if !rows.Next() {
		t.Fatal("no row")
	}
	// In the middle of the statement already.
	if scope.Usable(user(1)) || scope.Storable(user(1)) || scope.Storable(user(2)) {
		t.Error("dirty data can be served or stored")
	}
	if !scope.Usable(user(2)) || !other.Storable(user(1)) {
		t.Error("others suffer")
	}
	f.must(rows.Close())
	f.must(tx.Rollback())
	if scope.Storable(user(1)) || scope.Storable(tokens.Table("users")) || !scope.Storable(user(2)) || !scope.Usable(user(1)) {
		t.Error("what was rolled back counts wrongly")
	}
	if !other.Storable(user(1)) {
		t.Error("others suffer")
	}
}

// SQLite rolls back by itself after some errors; the wrapper must not go on as if it had not.
func TestRollbackByTheDatabase(t *testing.T) {
	f := setUp(t)
	ctx, scope := txscope.OpenScope(f.ctx, f.Store)
	tx, err := f.db.BeginTx(ctx, nil)
	f.must(err)
	f.execOn(tx, `UPDATE users SET name = 'z' WHERE id = 1`)
	f.changes(func() {
		if _, err := tx.ExecContext(ctx, `INSERT OR ROLLBACK INTO users (id) VALUES (1)`); err == nil {
			t.Fatal("no error")
		}
	}, nil)
	if scope.Storable(user(1)) || !scope.Storable(user(2)) {
		t.Error("what was rolled back counts wrongly")
	}
	// What follows is outside of any transaction.
	f.changes(func() { f.execOn(tx, `UPDATE users SET name = 'y' WHERE id = 2`) }, ids(user(2)))
	if err := tx.Commit(); err == nil {
		t.Error("no error")
	}
}

func TestReturning(t *testing.T) {
	insert := `INSERT INTO users (id) VALUES (10), (11), (12) RETURNING id`
	want := ids(user(10), user(11), user(12))
	f := setUp(t)
	conn := f.conn()

	f.changes(func() {
		rows, err := conn.QueryContext(f.ctx, insert)
		f.must(err)
		if !rows.Next() {
			t.Fatal("no row")
		}
		if ops := f.Backend.Ops(); len(ops) != 0 {
			t.Errorf("before it commits: %v", ops)
		}
		types, err := rows.ColumnTypes()
		f.must(err)
		if got := types[0].ScanType().Kind().String(); got != "int64" {
			t.Errorf("scan type %s", got)
		}
		f.must(rows.Close())
		if ops := f.Backend.Ops(); !slices.Equal(ops, []string{"fence", "publish"}) {
			t.Errorf("closed: %v", ops)
		}
	}, want)

	f.exec(`DELETE FROM users WHERE id >= 10`)
	f.changes(func() {
		var got []int
		f.must(sqlx.SelectContext(f.ctx, f.db, &got, insert))
		if len(got) != 3 {
			t.Errorf("got %v", got)
		}
	}, want)

	f.exec(`DELETE FROM users WHERE id >= 10`)
	f.changes(func() {
		rows, err := conn.QueryContext(f.ctx, insert)
		f.must(err)
		// Another statement meanwhile: SQLite commits when both are done.
		f.execOn(conn, `UPDATE users SET name = 'q' WHERE id = 1`)
		f.must(rows.Close())
	}, append(want, user(1)))

	f.exec(`DELETE FROM users WHERE id >= 10`)
	f.changes(func() {
		rows, err := conn.QueryContext(f.ctx, insert)
		f.must(err)
		// It becomes part of a transaction.
		tx, err := conn.BeginTx(f.ctx, nil)
		f.must(err)
		f.must(rows.Close())
		f.must(tx.Rollback())
	}, nil)
}

func TestRaw(t *testing.T) {
	f := setUp(t)
	conn, err := f.db.Conn(f.ctx)
	f.must(err)
	raw := func(query string) {
		t.Helper()
		f.must(conn.Raw(func(c any) error {
			_, err := c.(*txscope.Conn).Bare().(driver.ExecerContext).ExecContext(f.ctx, query, nil)
			return err
		}))
	}
	f.changes(func() {
		raw(`UPDATE users SET name = 'z' WHERE id = 1`)
		if !f.Fenced(user(1)) {
			t.Error("not fenced")
		}
		f.must(conn.PingContext(f.ctx))
		f.execOn(conn, `SELECT 1`)
	}, ids(user(1)))

	f.changes(func() {
		raw(`BEGIN; UPDATE users SET name = 'y' WHERE id = 1`)
		raw(`SAVEPOINT a`)
		f.execOn(conn, `UPDATE users SET name = 'x' WHERE id = 2`)
		raw(`ROLLBACK TO a`)
		f.execOn(conn, `COMMIT`)
	}, ids(user(1), user(2)))

	f.changes(func() {
		tx, err := conn.BeginTx(f.ctx, nil)
		f.must(err)
		raw(`UPDATE users SET name = 'v' WHERE id = 1`)
		f.must(tx.Rollback())
	}, nil)

	f.changes(func() {
		raw(`UPDATE users SET name = 'u' WHERE id = 3`)
		f.must(conn.Close()) // back to the pool
	}, ids(user(3)))

	// Hooks that were replaced are put back.
	conn = f.conn()
	f.must(conn.Raw(func(c any) error {
		bare := c.(*txscope.Conn).Bare()
		bare.(sqlite.HookRegisterer).RegisterPreUpdateHook(nil)
		bare.(sqlite.HookRegisterer).RegisterCommitHook(nil)
		return bare.(sqlite.AuthorizerRegisterer).RegisterAuthorizer(nil)
	}))
	f.changes(func() { f.execOn(conn, `UPDATE users SET name = 't' WHERE id = 1`) }, ids(user(1)))
}

// The user may close the bare connection, and what the wrapper does then must not reach SQLite.
func TestBareConnectionIsClosed(t *testing.T) {
	bare := func(c any) driver.Conn { return c.(*txscope.Conn).Bare() }
	for name, use := range map[string]func(f *fixture, conn *sql.Conn) error{
		"closed": func(f *fixture, conn *sql.Conn) error {
			return conn.Raw(func(c any) error { return bare(c).Close() })
		},
		"closed, and said so": func(f *fixture, conn *sql.Conn) error {
			err := conn.Raw(func(c any) error { return errors.Join(bare(c).Close(), driver.ErrBadConn) })
			if !errors.Is(err, driver.ErrBadConn) {
				return fmt.Errorf("got %w", err)
			}
			return nil
		},
		"closed twice": func(f *fixture, conn *sql.Conn) error {
			return conn.Raw(func(c any) error { return errors.Join(c.(driver.Conn).Close(), c.(driver.Conn).Close()) })
		},
		"closed after a write": func(f *fixture, conn *sql.Conn) error {
			return conn.Raw(func(c any) error {
				_, err := bare(c).(driver.ExecerContext).ExecContext(f.ctx, `UPDATE users SET name = name || 'z' WHERE id = 1`, nil)
				return errors.Join(err, bare(c).Close())
			})
		},
		"closed in a transaction": func(f *fixture, conn *sql.Conn) error {
			f.execOn(conn, `BEGIN`)
			f.execOn(conn, `UPDATE users SET name = name || 'z' WHERE id = 1`)
			return conn.Raw(func(c any) error { return bare(c).Close() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t)
			conn, err := f.db.Conn(f.ctx)
			f.must(err)
			before := f.stamps(user(1))
			f.must(use(f, conn))
			if err := conn.Close(); err != nil && !errors.Is(err, sql.ErrConnDone) {
				t.Error(err)
			}
			var is string
			f.must(f.db.Get(&is, `SELECT name FROM users WHERE id = 1`))
			if after := f.stamps(user(1)); (is != "a") != (after[0] != before[0]) {
				t.Errorf("row a -> %s, key %v -> %v", is, before, after)
			}
		})
	}
}

func TestWrappedConnectionIsRefused(t *testing.T) {
	store := tokens.NewMemory()
	defer store.Close()
	c, err := txscope.Wrap(telemetry{connector{new(sqlite.Driver), ":memory:"}}, store)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(c)
	defer db.Close()
	err = db.Ping()
	for _, want := range []string{"sqlite_test.observed", "around the connector that txscope.Wrap returns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// telemetry wraps connections where it must not.
type telemetry struct{ connector }

type observed struct{ driver.Conn }

func (t telemetry) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := t.connector.Connect(ctx)
	return &observed{c}, err
}

func TestOccupiedConnectionIsRefused(t *testing.T) {
	d := new(sqlite.Driver)
	d.RegisterConnectionHook(func(c sqlite.ExecQuerierContext, _ string) error {
		return c.(sqlite.AuthorizerRegisterer).RegisterAuthorizer(func(sqlite.AuthorizerActionCode, string, string, string, string) sqlite.AuthorizerReturnCode {
			return sqlite.AuthorizerOK
		})
	})
	store := tokens.NewMemory()
	defer store.Close()
	c, err := txscope.Wrap(connector{d, ":memory:"}, store)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(c)
	defer db.Close()
	if err := db.Ping(); err == nil || !strings.Contains(err.Error(), "hooks of its own") {
		t.Errorf("got %v", err)
	}
}

type connector struct {
	d   *sqlite.Driver
	dsn string
}

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.d.Open(c.dsn) }
func (c connector) Driver() driver.Driver                        { return c.d }

func TestStoreDown(t *testing.T) {
	f := setUp(t)
	before := f.stamps(user(1), user(2))
	f.Backend.SetDown(true)
	f.exec(`UPDATE users SET name = 'z' WHERE id = 1`)
	tx, err := f.db.BeginTx(f.ctx, nil)
	f.must(err)
	f.execOn(tx, `UPDATE users SET name = 'y' WHERE id = 2`)
	f.must(tx.Commit())
	f.Backend.SetDown(false)
	eventually(t, func() bool {
		_, err := f.Store.Read(f.ctx, ids(user(1)))
		return err == nil
	})
	after := f.stamps(user(1), user(2))
	if before[0] == after[0] || before[1] == after[1] {
		t.Error("not published when the store was back")
	}
	if n := strings.Count(f.Logged.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, f.Logged)
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not happen")
		}
	}
}

func TestStrict(t *testing.T) {
	update := `UPDATE users SET name = 'z' WHERE id = 1`
	returning := update + ` RETURNING id`
	for name, run := range map[string]func(f *fixture, conn *sql.Conn) error{
		"autocommit": func(f *fixture, conn *sql.Conn) error {
			_, err := conn.ExecContext(f.ctx, update)
			return err
		},
		"prepared": func(f *fixture, conn *sql.Conn) error {
			s, err := conn.PrepareContext(f.ctx, update)
			f.must(err)
			defer s.Close()
			_, err = s.ExecContext(f.ctx)
			return err
		},
		"returning, closed": func(f *fixture, conn *sql.Conn) error {
			rows, err := conn.QueryContext(f.ctx, returning)
			f.must(err)
			return rows.Close()
		},
		"returning, read": func(f *fixture, conn *sql.Conn) error {
			rows, err := conn.QueryContext(f.ctx, returning)
			f.must(err)
			for rows.Next() {
				continue
			}
			return rows.Err()
		},
		"api": func(f *fixture, conn *sql.Conn) error {
			tx, err := conn.BeginTx(f.ctx, nil)
			f.must(err)
			f.execOn(tx, update)
			return tx.Commit()
		},
		"text": func(f *fixture, conn *sql.Conn) error {
			f.execOn(conn, `BEGIN`)
			f.execOn(conn, update)
			_, err := conn.ExecContext(f.ctx, `COMMIT`)
			return err
		},
		"text in one": func(f *fixture, conn *sql.Conn) error {
			_, err := conn.ExecContext(f.ctx, `BEGIN; `+update+`; COMMIT`)
			return err
		},
		"savepoint": func(f *fixture, conn *sql.Conn) error {
			f.execOn(conn, `SAVEPOINT a`)
			f.execOn(conn, update)
			_, err := conn.ExecContext(f.ctx, `RELEASE a`)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t, txscope.Strict())
			conn := f.conn()
			f.Backend.SetDown(true)
			if err := run(f, conn); !errors.Is(err, txscope.ErrFence) {
				t.Fatalf("got %v", err)
			}
			var name string
			f.must(conn.QueryRowContext(f.ctx, `SELECT name FROM users WHERE id = 1`).Scan(&name))
			if name != "a" {
				t.Errorf("it was committed: %s", name)
			}
			f.Backend.SetDown(false)
			eventually(t, func() bool {
				_, err := f.Store.Read(f.ctx, ids(user(1)))
				return err == nil
			})
			f.changes(func() { f.execOn(conn, update) }, ids(user(1)))
		})
	}
}

// The error of a statement that was not let commit is SQLite's too.
func TestStrictErrorIsSQLites(t *testing.T) {
	f := setUp(t, txscope.Strict())
	f.Backend.SetDown(true)
	_, err := f.db.ExecContext(f.ctx, `UPDATE users SET name = 'z' WHERE id = 1`)
	var e *sqlite.Error
	if !errors.As(err, &e) || e.Code() != sqlite3.SQLITE_CONSTRAINT_COMMITHOOK {
		t.Errorf("got %v", err)
	}
}

// A COMMIT that finds the database busy leaves the transaction open: it is neither published nor
// released before it has ended.
func TestBusyCommit(t *testing.T) {
	f := setUpFile(t, filepath.Join(t.TempDir(), "test.db")+"?_journal_mode=DELETE&_busy_timeout=1")
	writer := f.conn()
	reader := f.conn()

	f.execOn(writer, `BEGIN`)
	f.execOn(writer, `UPDATE users SET name = 'z' WHERE id = 1`)
	rows, err := reader.QueryContext(f.ctx, `SELECT * FROM users`)
	f.must(err)
	if !rows.Next() {
		t.Fatal("no row")
	}
	before := f.stamps(user(1))
	if _, err := writer.ExecContext(f.ctx, `COMMIT`); err == nil {
		t.Fatal("not busy")
	}
	if ops := f.Backend.Ops(); !slices.Equal(ops, []string{"fence"}) {
		t.Errorf("busy: %v", ops)
	}
	f.must(rows.Close())
	f.execOn(writer, `UPDATE users SET name = 'y' WHERE id = 2`)
	f.execOn(writer, `COMMIT`)
	if ops := f.Backend.Ops(); !slices.Equal(ops, []string{"fence", "publish"}) {
		t.Errorf("committed: %v", ops)
	}
	if after := f.stamps(user(1)); before[0] == after[0] {
		t.Error("the key has not changed")
	}

	// By the API the driver rolls back.
	tx, err := writer.BeginTx(f.ctx, nil)
	f.must(err)
	f.execOn(tx, `UPDATE users SET name = 'x' WHERE id = 1`)
	rows, err = reader.QueryContext(f.ctx, `SELECT * FROM users`)
	f.must(err)
	if !rows.Next() {
		t.Fatal("no row")
	}
	if err := tx.Commit(); err == nil {
		t.Fatal("not busy")
	}
	if ops := f.Backend.Ops(); !slices.Equal(ops, []string{"fence", "release"}) {
		t.Errorf("rolled back: %v", ops)
	}

	// And SQLite does outside of a transaction, before its commit hook.
	if _, err := writer.ExecContext(f.ctx, `UPDATE users SET name = 'x' WHERE id = 1`); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Fatalf("not busy: %v", err)
	}
	if ops := f.Backend.Ops(); len(ops) != 0 {
		t.Errorf("rolled back by SQLite: %v", ops)
	}
	f.must(rows.Close())
	f.changes(func() { f.execOn(writer, `UPDATE users SET name = 'x' WHERE id = 1`) }, ids(user(1)))
}

// The request may be gone when COMMIT has returned: what it has committed is published all the same.
func TestCancelAfterCommitPublishes(t *testing.T) {
	update := `UPDATE users SET name = name || 'z' WHERE id = 1`
	for name, run := range map[string]func(f *fixture, ctx context.Context) error{
		"transaction": func(f *fixture, ctx context.Context) error {
			tx, err := f.db.BeginTx(ctx, nil)
			f.must(err)
			f.execOn(tx, update)
			return tx.Commit()
		},
		"text": func(f *fixture, ctx context.Context) error {
			conn := f.conn()
			f.execOn(conn, `BEGIN`)
			f.execOn(conn, update)
			_, err := conn.ExecContext(ctx, `COMMIT`)
			return err
		},
		"autocommit": func(f *fixture, ctx context.Context) error {
			_, err := f.db.ExecContext(ctx, update)
			return err
		},
		"returning": func(f *fixture, ctx context.Context) error {
			rows, err := f.db.QueryContext(ctx, update+` RETURNING id`)
			f.must(err)
			return rows.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t)
			ctx, cancel := context.WithCancel(f.ctx)
			defer cancel()
			before := f.stamps(user(1))
			f.Backend.OnCall(func(c txscopetest.Call) {
				if c.Op == "publish" {
					cancel()
				}
			})
			f.must(run(f, ctx))
			if ctx.Err() == nil {
				t.Error("nothing was published")
			}
			var is string
			f.must(f.db.Get(&is, `SELECT name FROM users WHERE id = 1`))
			if is != "az" {
				t.Errorf("the row is %s", is)
			}
			if after := f.stamps(user(1)); before[0] == after[0] {
				t.Error("the key has not changed")
			}
		})
	}
}

// A context that ends between the fence and COMMIT, which SQLite may notice or not, leaves the key as
// it leaves the row.
func TestCancelBeforeCommit(t *testing.T) {
	f := setUp(t)
	for name, run := range map[string]func(ctx context.Context){
		"transaction": func(ctx context.Context) {
			tx, err := f.db.BeginTx(ctx, nil)
			f.must(err)
			f.execOn(tx, `UPDATE users SET name = name || 'z' WHERE id = 1`)
			_ = tx.Commit()
		},
		"autocommit": func(ctx context.Context) {
			_, _ = f.db.ExecContext(ctx, `UPDATE users SET name = name || 'z' WHERE id = 1`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(f.ctx)
			defer cancel()
			f.Backend.OnCall(func(c txscopetest.Call) {
				if c.Op == "fence" {
					cancel()
				}
			})
			var was, is string
			f.must(f.db.Get(&was, `SELECT name FROM users WHERE id = 1`))
			before := f.stamps(user(1))
			run(ctx)
			f.Backend.OnCall(nil)
			after := f.stamps(user(1))
			f.must(f.db.Get(&is, `SELECT name FROM users WHERE id = 1`))
			if (was != is) != (before[0] != after[0]) {
				t.Errorf("row %s -> %s, key %v -> %v", was, is, before, after)
			}
		})
	}
}

// With several databases a commit can be visible in one when another fails: then nobody says that it
// was rolled back.
func TestHalfCommitted(t *testing.T) {
	for _, how := range []string{"text", "api", "autocommit"} {
		t.Run(how, func(t *testing.T) {
			f := setUp(t)
			conn := f.conn()
			f.execOn(conn, `ATTACH 'file:/half?vfs=memdb' AS side`)
			f.execOn(conn, `CREATE TABLE side.big (a)`)
			f.execOn(conn, `CREATE TEMP TRIGGER both AFTER UPDATE ON main.users BEGIN INSERT INTO side.big VALUES (zeroblob(100000)); END`)
			f.must(conn.Raw(func(c any) error { return limitSize(c.(*txscope.Conn).Bare(), "side", 64<<10) }))
			f.execOn(conn, `SELECT 1`)
			f.Backend.Ops()

			update := `UPDATE users SET name = 'z' WHERE id = 1`
			var err error
			switch how {
			case "text":
				f.execOn(conn, `BEGIN`)
				f.execOn(conn, update)
				_, err = conn.ExecContext(f.ctx, `COMMIT`)
			case "api":
				tx, begun := conn.BeginTx(f.ctx, nil)
				f.must(begun)
				f.execOn(tx, update)
				err = tx.Commit()
			case "autocommit":
				_, err = conn.ExecContext(f.ctx, update)
			}
			if err == nil {
				t.Fatal("the test is wrong: it was committed")
			}
			var name string
			f.must(f.db.Get(&name, `SELECT name FROM users WHERE id = 1`))
			if name != "z" {
				t.Fatalf("the test is wrong: nothing was committed: %q, %v", name, err)
			}
			if !f.Fenced(user(1)) {
				t.Errorf("the row was committed, and served as before: %v", f.Backend.Ops())
			}
			// It is over, for the wrapper too.
			before := f.stamps(note("x"))
			f.execOn(conn, `DELETE FROM notes WHERE slug = 'x'`)
			if after := f.stamps(note("x")); before[0] == after[0] {
				t.Error("what is written next changes no key")
			}
		})
	}
}

// limitSize limits the size of a database of the memdb VFS, in bytes.
func limitSize(bare driver.Conn, database string, size int64) error {
	v := reflect.ValueOf(bare).Elem()
	tls, db := (*libc.TLS)(v.FieldByName("tls").UnsafePointer()), uintptr(v.FieldByName("db").Uint())
	name, err := libc.CString(database)
	if err != nil {
		return err
	}
	defer libc.Xfree(tls, name)
	limit := tls.Alloc(8)
	defer tls.Free(8)
	**(**int64)(unsafe.Pointer(&limit)) = size
	if rc := sqlite3.Xsqlite3_file_control(tls, db, name, sqlite3.SQLITE_FCNTL_SIZE_LIMIT, limit); rc != sqlite3.SQLITE_OK {
		return fmt.Errorf("SQLite says %d", rc)
	}
	return nil
}

// A COMMIT that a deferred constraint forbids has changed nothing.
func TestDeferredConstraint(t *testing.T) {
	f := setUp(t)
	f.exec(`CREATE TABLE jobs (id INTEGER PRIMARY KEY, user_id INT REFERENCES users(id) DEFERRABLE INITIALLY DEFERRED)`)
	conn := f.conn()
	job := tokens.Row("jobs", 1)
	f.changes(func() {
		tx, err := conn.BeginTx(f.ctx, nil)
		f.must(err)
		f.execOn(tx, `INSERT INTO jobs VALUES (1, 99)`)
		if err := tx.Commit(); err == nil {
			t.Error("no error")
		}
	}, nil, job)
	f.changes(func() {
		f.execOn(conn, `BEGIN`)
		f.execOn(conn, `INSERT INTO jobs VALUES (1, 99)`)
		if _, err := conn.ExecContext(f.ctx, `COMMIT`); err == nil {
			t.Error("no error")
		}
		f.execOn(conn, `ROLLBACK`)
	}, nil, job)
}

// Contexts that end at any time leave neither a race nor a stale key.
func TestCancelAnywhere(t *testing.T) {
	f := setUp(t)
	for i := range 60 {
		var was, is string
		f.must(f.db.Get(&was, `SELECT name FROM users WHERE id = 1`))
		before := f.stamps(user(1))
		ctx, cancel := context.WithTimeout(f.ctx, time.Duration(i*20)*time.Microsecond)
		tx, err := f.db.BeginTx(ctx, nil)
		if err == nil {
			_, _ = tx.ExecContext(ctx, `UPDATE users SET name = name || 'z' WHERE id = 1`)
			_, _ = tx.ExecContext(ctx, `SAVEPOINT a`)
			_, _ = tx.ExecContext(ctx, `UPDATE users SET name = name || 'z' WHERE id = 1`)
			_, _ = tx.ExecContext(ctx, `ROLLBACK TO a`)
			_ = tx.Commit()
		}
		_, _ = f.db.ExecContext(ctx, `UPDATE users SET boss = NULL WHERE id = 1`)
		cancel()
		f.must(f.db.Get(&is, `SELECT name FROM users WHERE id = 1`))
		var after []tokens.Stamp
		eventually(t, func() bool { // the rollback can be under way in another goroutine
			found, err := f.Store.Read(f.ctx, ids(user(1)))
			f.must(err)
			after = []tokens.Stamp{found[0].Stamp}
			return !found[0].Fenced
		})
		if was != is && before[0] == after[0] {
			t.Fatalf("row %s -> %s, and the key stays", was, is)
		}
	}
}

func TestScopeless(t *testing.T) {
	f := setUp(t)
	request := context.WithValue(f.ctx, http.ServerContextKey, new(http.Server))
	inside, _ := txscope.OpenScope(request, f.Store)
	_, err := f.db.ExecContext(inside, `SELECT 1`)
	f.must(err)
	if s := f.Logged.String(); s != "" {
		t.Errorf("logged: %s", s)
	}
	for range 3 {
		_, err = f.db.ExecContext(request, `SELECT 1`)
		f.must(err)
	}
	if n := strings.Count(f.Logged.String(), "put the middleware first in the chain"); n != 1 {
		t.Errorf("logged %d times: %s", n, f.Logged)
	}
}

func TestWatermark(t *testing.T) {
	f := setUp(t)
	ctx, scope := txscope.OpenScope(f.ctx, f.Store)
	began := f.Store.Seen()
	tx, err := f.db.BeginTx(f.ctx, nil) // without the scope
	f.must(err)
	conn := f.conn()
	f.execOn(conn, `BEGIN`)
	f.exec(`UPDATE users SET name = 'z' WHERE id = 1`)
	_, late := txscope.OpenScope(f.ctx, f.Store)
	if late.Watermark() <= began {
		t.Fatalf("the test is wrong: %v, %v", late.Watermark(), began)
	}
	lateCtx, _ := txscope.OpenScope(f.ctx, f.Store)
	_, err = tx.QueryContext(lateCtx, `SELECT 1`)
	f.must(err)
	lower, _ := txscope.FromContext(lateCtx)
	if lower.Watermark() > began {
		t.Error("a query in a transaction has not lowered the watermark")
	}
	textCtx, text := txscope.OpenScope(f.ctx, f.Store)
	if _, err = conn.ExecContext(textCtx, `SELECT 1`); err != nil || text.Watermark() > began {
		t.Errorf("nor has one in a transaction by text: %v", err)
	}
	if scope.Watermark() > began {
		t.Error("the watermark has gone up")
	}
	_ = ctx
	f.must(tx.Rollback())
	f.execOn(conn, `ROLLBACK`)
}

// Rows that are left open keep later statements on the connection from seeing what is new, with or
// without a transaction.
func TestOpenRowsHoldTheSnapshot(t *testing.T) {
	read := `SELECT name FROM users WHERE id = 1`
	for name, by := range map[string]func(f *fixture, ctx context.Context, conn *sql.Conn) string{
		"statement": func(f *fixture, ctx context.Context, conn *sql.Conn) (name string) {
			f.must(conn.QueryRowContext(ctx, read).Scan(&name))
			return name
		},
		"prepared": func(f *fixture, ctx context.Context, conn *sql.Conn) (name string) {
			s, err := conn.PrepareContext(f.ctx, read)
			f.must(err)
			defer s.Close()
			f.must(s.QueryRowContext(ctx).Scan(&name))
			return name
		},
		"transaction": func(f *fixture, ctx context.Context, conn *sql.Conn) (name string) {
			tx, err := conn.BeginTx(ctx, nil)
			f.must(err)
			f.must(tx.QueryRowContext(ctx, read).Scan(&name))
			f.must(tx.Commit())
			return name
		},
		"transaction without the scope": func(f *fixture, ctx context.Context, conn *sql.Conn) (name string) {
			tx, err := conn.BeginTx(f.ctx, nil)
			f.must(err)
			f.must(tx.QueryRowContext(ctx, read).Scan(&name))
			f.must(tx.Rollback())
			return name
		},
		"savepoint": func(f *fixture, ctx context.Context, conn *sql.Conn) (name string) {
			f.execOn(conn, `SAVEPOINT a`)
			f.must(conn.QueryRowContext(ctx, read).Scan(&name))
			f.execOn(conn, `RELEASE a`)
			return name
		},
		"begun in a text": func(f *fixture, ctx context.Context, conn *sql.Conn) (name string) {
			f.execOn(conn, `SELECT 1; BEGIN`)
			f.must(conn.QueryRowContext(ctx, read).Scan(&name))
			f.execOn(conn, `COMMIT`)
			return name
		},
		"after a transaction": func(f *fixture, ctx context.Context, conn *sql.Conn) (name string) {
			f.execOn(conn, `BEGIN`)
			f.execOn(conn, `SELECT 1`)
			f.execOn(conn, `COMMIT`)
			f.must(conn.QueryRowContext(ctx, read).Scan(&name))
			return name
		},
		"begun through the bare connection": func(f *fixture, ctx context.Context, conn *sql.Conn) (name string) {
			f.must(conn.Raw(func(c any) error {
				_, err := c.(*txscope.Conn).Bare().(driver.ExecerContext).ExecContext(f.ctx, `BEGIN`, nil)
				return err
			}))
			f.must(conn.QueryRowContext(ctx, read).Scan(&name))
			f.execOn(conn, `COMMIT`)
			return name
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t)
			conn := f.conn()
			f.stamps(user(1)) // there is a record to be published
			rows, err := conn.QueryContext(f.ctx, `SELECT id FROM users`)
			f.must(err)
			if !rows.Next() {
				t.Fatal("no row")
			}
			f.exec(`UPDATE users SET name = 'z' WHERE id = 1`)
			published := f.stamps(user(1))[0]
			ctx, scope := txscope.OpenScope(f.ctx, f.Store)
			if scope.Watermark() < published {
				t.Fatal("the test is wrong: the scope is older than the change")
			}
			if got := by(f, ctx, conn); got != "a" {
				t.Fatalf("the test is wrong: it reads %q", got)
			}
			if scope.Watermark() >= published {
				t.Error("what was read before the change can be stored as if it were read after it")
			}
			f.must(rows.Close())

			ctx, scope = txscope.OpenScope(f.ctx, f.Store)
			if got := by(f, ctx, conn); got != "z" {
				t.Fatalf("the test is wrong: it reads %q", got)
			}
			if scope.Watermark() < published {
				t.Error("the rows are closed, and the watermark is lowered all the same")
			}
		})
	}
}

// Rows that a transaction leaves open hold its snapshot when it is over.
func TestRowsOutliveTheTransaction(t *testing.T) {
	f := setUp(t)
	conn := f.conn()
	f.stamps(user(1))
	f.execOn(conn, `BEGIN`)
	rows, err := conn.QueryContext(f.ctx, `SELECT id FROM users`)
	f.must(err)
	if !rows.Next() {
		t.Fatal("no row")
	}
	f.execOn(conn, `COMMIT`)
	f.exec(`UPDATE users SET name = 'z' WHERE id = 1`)
	published := f.stamps(user(1))[0]
	ctx, scope := txscope.OpenScope(f.ctx, f.Store)
	var name string
	f.must(conn.QueryRowContext(ctx, `SELECT name FROM users WHERE id = 1`).Scan(&name))
	if name != "a" || scope.Watermark() >= published {
		t.Errorf("read %q, watermark %v, published %v", name, scope.Watermark(), published)
	}
	f.must(rows.Close())
}

// A transaction is over when its outermost savepoint is released, also if the text that set it was
// not followed.
func TestReleaseEndsWhatOnlyRead(t *testing.T) {
	for _, texts := range [][]string{
		{`SAVEPOINT a; SELECT 1`, `RELEASE a`},
		{`SAVEPOINT "ä"; SELECT 1`, `RELEASE "ä"`},
		{`BEGIN; SELECT 1`, `SELECT 1; COMMIT`},
	} {
		f := setUp(t)
		conn := f.conn()
		ctx, _ := txscope.OpenScope(f.ctx, f.Store)
		for _, text := range texts {
			_, err := conn.ExecContext(ctx, text)
			f.must(err)
		}
		called := false
		txscope.OnCommit(ctx, func(context.Context) { called = true })
		if !called {
			t.Errorf("%q: OnCommit waits for a transaction that is over", texts)
		}
	}
}

func TestOnCommitAndChanged(t *testing.T) {
	f := setUp(t)
	ctx, scope := txscope.OpenScope(f.ctx, f.Store)
	var heard []*tokens.Changes
	scope.OnChange(func(c *tokens.Changes) { heard = append(heard, c) })

	tx, err := f.db.BeginTx(ctx, nil)
	f.must(err)
	f.execOn(tx, `UPDATE users SET name = 'z' WHERE id = 1`)
	called := false
	txscope.OnCommit(ctx, func(inner context.Context) {
		called = true
		if f.Fenced(user(1)) {
			t.Error("called before it was published")
		}
		if _, ok := inner.Deadline(); !ok {
			t.Error("no deadline")
		}
	})
	f.must(txscope.Changed(ctx, note("x")))
	if called {
		t.Error("called before the commit")
	}
	f.changes(func() { f.must(tx.Commit()) }, ids(user(1), note("x")))
	if !called || len(heard) != 1 || !heard[0].Affect(note("x")) {
		t.Errorf("called: %v, heard: %d", called, len(heard))
	}

	tx, err = f.db.BeginTx(ctx, nil)
	f.must(err)
	f.execOn(tx, `UPDATE users SET name = 'y' WHERE id = 1`)
	txscope.OnCommit(ctx, func(context.Context) { t.Error("called after a rollback") })
	f.must(txscope.Changed(ctx, note("y")))
	f.changes(func() { f.must(tx.Rollback()) }, nil)
}

// Connections write at the same time, each for itself.
func TestConcurrent(t *testing.T) {
	f := setUp(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				ctx, scope := txscope.OpenScope(f.ctx, f.Store)
				id := 100 + i
				_, err := f.db.ExecContext(ctx, `REPLACE INTO users (id, name) VALUES (?, ?)`, id, fmt.Sprint(i, j))
				if err != nil {
					t.Error(err)
					return
				}
				if !scope.Storable(user(id)) {
					t.Error("not storable after the commit")
				}
			}
		})
	}
	wg.Wait()
	f.stamps(user(100))
}
