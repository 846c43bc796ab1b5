package mysql_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// TestKeySpelling: the identifier is the database's spelling, and what a model has that reads the row.
func TestKeySpelling(t *testing.T) {
	const id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	upper := strings.ToUpper(id)
	raw := []byte{0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}
	for _, c := range []struct {
		column string
		stored any
		by     any // compares equal
		ids    []any

		converted bool // by is of another type than the column
	}{
		{"INT", 7, " 07", []any{7}, true},
		{"INT", -7, -7, []any{-7}, false},
		{"BIGINT UNSIGNED", "18446744073709551615", uint64(1<<64 - 1), []any{uint64(1<<64 - 1)}, false},
		{"INT(5) ZEROFILL", 7, 7, []any{7}, false},
		{"TINYINT(1)", true, 1, []any{true, 1}, false},
		{"VARCHAR(50)", "Abc", "ABC ", []any{"Abc"}, false},
		{"VARCHAR(50)", "007", "007", []any{"007", 7}, false},
		{"VARCHAR(50)", "a/b,c", "a/b,c", []any{"a/b,c"}, false},
		{"CHAR(10)", "Abc", "abc", []any{"Abc"}, false},
		{"VARCHAR(50) COLLATE utf8mb4_bin", "Abc", "Abc", []any{"Abc"}, false},
		{"CHAR(36)", upper, id, []any{upper, id}, false},
		{"UUID", upper, upper, []any{id}, false},
		{"BINARY(16)", raw, raw, []any{raw, id}, false},
		{"VARBINARY(20)", []byte{1, 0, 255}, []byte{1, 0, 255}, []any{[]byte{1, 0, 255}}, false},
		{"BINARY(4)", []byte("ab"), []byte("ab\x00\x00"), []any{[]byte("ab\x00\x00")}, false},
		{"ENUM('x','Y')", "y", "y", []any{"Y"}, true},
		{"INET6", "2001:DB8::1", "2001:db8::1", []any{"2001:db8::1"}, true},
	} {
		for _, interpolate := range []bool{false, true} {
			t.Run(c.column, func(t *testing.T) {
				f := setUp(t, func(cfg *gomysql.Config) { cfg.InterpolateParams = interpolate })
				f.execOn(f.bare, "CREATE TABLE k (id "+c.column+" PRIMARY KEY, v INT)")
				var want []string
				for _, v := range c.ids {
					id := "k#" + tokens.Row("k", v).Row
					if !slices.Contains(want, id) {
						want = append(want, id)
					}
				}
				slices.Sort(want)
				for _, step := range []struct {
					query string
					args  []any
				}{
					{"INSERT INTO k VALUES (?, 1)", []any{c.stored}},
					{"UPDATE k SET v = 2 WHERE id = ?", []any{c.by}},
					{"INSERT INTO k VALUES (?, 1) ON DUPLICATE KEY UPDATE v = 3", []any{c.by}},
					{"DELETE FROM k WHERE id = ?", []any{c.by}},
				} {
					got := f.published(func() { f.execOn(f.db, step.query, step.args...) })
					if strings.Contains(step.query, "DUPLICATE") && c.converted && slices.Equal(got, []string{"k#!"}) {
						continue // what the server makes of the value is not known
					}
					if !slices.Equal(got, want) {
						t.Errorf("%s: published %v, want %v\n%s", step.query, got, want, f.reasons())
					}
				}
			})
		}
	}
	for _, column := range []string{"DECIMAL(10,2)", "DOUBLE", "DATETIME", "DATE", "BIT(8)", "YEAR"} {
		f := setUp(t, nil)
		f.execOn(f.bare, "CREATE TABLE k (id "+column+" PRIMARY KEY, v INT)")
		value := "'1'"
		if strings.HasPrefix(column, "DATE") {
			value = "'2001-01-01'"
		}
		f.execOn(f.bare, "INSERT INTO k VALUES ("+value+", 1)")
		if got := f.published(func() { f.execOn(f.db, "UPDATE k SET v = 2") }); !slices.Equal(got, []string{"k#!"}) {
			t.Errorf("%s: published %v", column, got)
		}
	}
}

// TestPrivileges: what the user may not see is taken to be anything, and the log says what to do.
func TestPrivileges(t *testing.T) {
	for _, c := range []struct {
		name   string
		grants []string
		query  string
		want   string
		remedy string
	}{
		{"all", []string{"ALL ON $db.*", "SELECT ON mysql.proc"}, "UPDATE users SET v = 9 WHERE id = 1", "users#1", ""},
		{"without TRIGGER", []string{"SELECT, UPDATE ON $db.*"}, "UPDATE users SET v = 9 WHERE id = 1", "*#!", "TRIGGER"},
		{"without SELECT", []string{"TRIGGER, INSERT, EXECUTE ON $db.*"}, "INSERT INTO tags SELECT 'n', 1", "tags#!", "grant SELECT"},
		{"without routines' source", []string{"ALL ON $db.*"}, "SELECT note_it(1)", "*#!", "mysql.proc"},
		{"with routines' source", []string{"ALL ON $db.*", "SELECT ON mysql.proc"}, "SELECT note_it(1)", "notes#!", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := setUp(t, nil)
			name := f.config.DBName
			f.execOn(f.bare, "CREATE USER app_"+name+"@'%'")
			t.Cleanup(func() { f.execOn(f.bare, "DROP USER app_"+name+"@'%'") })
			for _, g := range c.grants {
				f.execOn(f.bare, "GRANT "+strings.ReplaceAll(g, "$db", name)+" TO app_"+name+"@'%'")
			}
			cfg := f.config.Clone()
			cfg.User = "app_" + name
			db := f.wrap(cfg, txscope.WithLogger(f.log.Logger()))
			if got := f.published(func() { f.execOn(db, c.query) }); strings.Join(got, " ") != c.want {
				t.Errorf("published %v, want %s", got, c.want)
			}
			if log := f.log.String(); c.remedy == "" && log != "" || !strings.Contains(log, c.remedy) {
				t.Errorf("log: %s", log)
			}
		})
	}
}

// TestSchemaChanges: what one connection changes counts on the others at once; what others change, after
// MaxSchemaAge.
func TestSchemaChanges(t *testing.T) {
	f := setUp(t, nil, txscope.MaxSchemaAge(time.Second))
	one, two := f.conn(f.db), f.conn(f.db)
	update := "UPDATE users SET v = v + 1 WHERE id = 1"
	prepared, err := two.PrepareContext(f.ctx, update)
	f.must(err)
	defer func() { _ = prepared.Close() }()
	run := func() string {
		return strings.Join(f.published(func() {
			_, err := prepared.ExecContext(f.ctx)
			f.must(err)
		}), " ")
	}
	if got := run(); got != "users#1" {
		t.Fatalf("published %s", got)
	}
	f.execOn(one, "CREATE TRIGGER mine AFTER UPDATE ON users FOR EACH ROW INSERT INTO seen (v) VALUES (1)")
	if got := run(); got != "seen#! users#1" {
		t.Errorf("with a trigger: published %s", got)
	}
	f.execOn(one, "DROP TRIGGER mine")
	if got := run(); got != "users#1" {
		t.Errorf("without the trigger: published %s", got)
	}
	f.execOn(f.bare, "CREATE TRIGGER theirs AFTER UPDATE ON users FOR EACH ROW INSERT INTO seen (v) VALUES (1)")
	deadline := time.Now().Add(20 * time.Second)
	for run() != "seen#! users#1" {
		if time.Now().After(deadline) {
			t.Fatal("a trigger that another program has made is not found")
		}
	}
}

// otherDatabase makes a second database with a table of the same name as in the first.
func (f *fixture) otherDatabase() string {
	f.Helper()
	other := f.config.DBName + "_other"
	f.execOn(f.bare, "CREATE DATABASE "+other)
	f.Cleanup(func() { f.execOn(f.bare, "DROP DATABASE "+other) })
	f.execOn(f.bare, "CREATE TABLE "+other+".users (id INT PRIMARY KEY, v INT)")
	f.execOn(f.bare, "INSERT INTO "+other+".users VALUES (1, 1)")
	return other
}

// TestOtherDatabases: identifiers have the name of a database that is not the connection's first one.
func TestOtherDatabases(t *testing.T) {
	f := setUp(t, nil)
	other := f.otherDatabase()
	f.execOn(f.bare, "CREATE TABLE "+other+".kids (id INT PRIMARY KEY, user_id INT, FOREIGN KEY (user_id) REFERENCES "+f.config.DBName+".users (id) ON DELETE CASCADE)")
	c := f.conn(f.db)
	for _, step := range []struct{ query, want string }{
		{"UPDATE " + other + ".users SET v = 9 WHERE id = 1", other + ".users#1"},
		{"UPDATE users SET v = 9 WHERE id = 1", "users#1"},
		{"DELETE FROM users WHERE id = 2", other + ".kids#! users#2"},
		{"USE " + other, ""},
		{"UPDATE users SET v = 8 WHERE id = 1", other + ".users#1"},
		{"UPDATE users SET v = 7 WHERE v > 0", other + ".users#1"},
		{"UPDATE " + f.config.DBName + ".users SET v = 8 WHERE id = 1", "users#1"},
		{"USE " + f.config.DBName, ""},
		{"UPDATE users SET v = 7 WHERE id = 1", "users#1"},
	} {
		if got := f.published(func() { f.execOn(c, step.query) }); strings.Join(got, " ") != step.want {
			t.Errorf("%s: published %v, want %s", step.query, got, step.want)
		}
	}
}

// TestPreparedInAnotherDatabase: a prepared statement goes on in the database that it was prepared in.
func TestPreparedInAnotherDatabase(t *testing.T) {
	f := setUp(t, nil)
	other := f.otherDatabase()
	c := f.conn(f.db)
	s, err := c.PrepareContext(f.ctx, "UPDATE users SET v = ? WHERE id = 1")
	f.must(err)
	defer func() { _ = s.Close() }()
	f.execOn(c, "USE "+other)
	got := f.published(func() {
		_, err := s.ExecContext(f.ctx, 9)
		f.must(err)
	})
	if !slices.Equal(got, []string{"users#1"}) {
		t.Errorf("published %v", got)
	}
}

// TestLasting: what a rollback does not take back is published when it is written.
func TestLasting(t *testing.T) {
	f := setUp(t, nil)
	tx, err := f.db.BeginTx(f.ctx, nil)
	f.must(err)
	f.execOn(tx, "UPDATE users SET v = 9 WHERE id = 1")
	if got := f.published(func() { f.execOn(tx, "UPDATE logs SET v = 9 WHERE id = 2") }); !slices.Equal(got, []string{"logs#2"}) {
		t.Errorf("published %v", got)
	}
	if got := f.published(func() { f.execOn(tx, "INSERT INTO logs (v) VALUES (1)") }); !slices.Equal(got, []string{"logs#!"}) {
		t.Errorf("published %v", got)
	}
	if got := f.published(func() { f.must(tx.Rollback()) }); len(got) != 0 {
		t.Errorf("the rollback has published %v", got)
	}
	// A statement that fails in the middle has written what comes before.
	got := f.published(func() {
		if _, err := f.db.ExecContext(f.ctx, "INSERT INTO logs (id, v) VALUES (50, 1), (1, 1)"); err == nil {
			t.Error("the statement has not failed")
		}
	})
	if !slices.Equal(got, []string{"logs#1", "logs#50"}) {
		t.Errorf("published %v", got)
	}
}

// TestAutocommitOff: the first statement begins a transaction that nobody has asked for.
func TestAutocommitOff(t *testing.T) {
	f := setUp(t, nil)
	cfg := f.config.Clone()
	cfg.Params = map[string]string{"autocommit": "0"}
	c := f.conn(f.wrap(cfg))
	ctx, scope := txscope.OpenScope(f.ctx, f.store)
	before := scope.Watermark()
	var n int
	f.must(c.QueryRowContext(f.ctx, "SELECT COUNT(*) FROM users").Scan(&n)) // it takes a snapshot
	_, err := f.store.Publish(f.ctx, "", tokens.NewChanges(user(77)))
	f.must(err)
	ctx2, later := txscope.OpenScope(f.ctx, f.store)
	f.must(c.QueryRowContext(ctx2, "SELECT COUNT(*) FROM users").Scan(&n))
	if later.Watermark() > before {
		t.Errorf("data of a snapshot counts as newer than it is: %v, %v", later.Watermark(), before)
	}
	if got := f.published(func() { f.execOn(c, "UPDATE users SET v = 9 WHERE id = 1") }); len(got) != 0 {
		t.Errorf("published before COMMIT: %v", got)
	}
	if got := f.published(func() {
		if _, err := c.ExecContext(ctx, "COMMIT"); err != nil {
			t.Error(err)
		}
	}); !slices.Equal(got, []string{"users#1"}) {
		t.Errorf("COMMIT has published %v", got)
	}
	f.execOn(c, "UPDATE users SET v = 10 WHERE v > 0")
	if got := f.published(func() { f.execOn(c, "ROLLBACK") }); len(got) != 0 {
		t.Errorf("ROLLBACK has published %v", got)
	}
}

// TestStrict: nothing is committed that cannot be fenced.
func TestStrict(t *testing.T) {
	f := setUp(t, nil, txscope.Strict())
	f.execOn(f.db, "UPDATE users SET v = 100 WHERE id = 3")
	f.backend.SetDown(true)
	for _, query := range []string{
		"UPDATE users SET v = 9 WHERE id = 1",       // rows are known
		"UPDATE users SET v = 9 WHERE v = 2",        // in a transaction of its own
		"UPDATE logs SET v = 9",                     // in a table without transactions
		"UPDATE users SET v = 9 WHERE RAND() < 2",   // swept
		"CALL tame(7)",                              // by a procedure
		"ALTER TABLE users ADD COLUMN extra INT",    // which commits by itself
		"INSERT INTO plain SELECT v FROM users",     // without a key
		"DELETE FROM users WHERE name IN ('a','b')", // by RETURNING
	} {
		if _, err := f.db.ExecContext(f.ctx, query); !errors.Is(err, txscope.ErrFence) {
			t.Errorf("%s: %v", query, err)
		}
	}
	f.backend.SetDown(false)
	var sum int
	f.must(f.bare.QueryRow("SELECT SUM(v) FROM users").Scan(&sum))
	if sum != 103 {
		t.Errorf("the sum is %d: something was written", sum)
	}
}

// TestBare: what is written past the capture sweeps everything, and the connection is followed again
// afterwards.
func TestBare(t *testing.T) {
	f := setUp(t, nil)
	c := f.conn(f.db)
	got := f.published(func() {
		f.must(c.Raw(func(conn any) error {
			_, err := conn.(*txscope.Conn).Bare().(driver.ExecerContext).ExecContext(f.ctx, "UPDATE users SET v = 9 WHERE id = 1", nil)
			return err
		}))
		f.execOn(c, "SELECT 1")
	})
	if !slices.Equal(got, []string{"*#!"}) {
		t.Errorf("published %v", got)
	}
	if got := f.published(func() { f.execOn(c, "UPDATE users SET v = 8 WHERE v > 0") }); !slices.Equal(got, []string{"users#1", "users#2", "users#3"}) {
		t.Errorf("afterwards: published %v\n%s", got, f.reasons())
	}
	// LOCK TABLES that nobody has seen stays in force.
	f.must(c.Raw(func(conn any) error {
		_, err := conn.(*txscope.Conn).Bare().(driver.ExecerContext).ExecContext(f.ctx, "LOCK TABLES users WRITE", nil)
		return err
	}))
	if got := f.published(func() { f.execOn(c, "UPDATE users SET v = 7 WHERE v > 0") }); !slices.Equal(got, []string{"*#!", "users#!"}) {
		t.Errorf("under LOCK TABLES: published %v", got)
	}
	if _, err := c.ExecContext(f.ctx, "SELECT * FROM tags"); !isNumber(err, 1100) {
		t.Errorf("the lock is gone: %v", err)
	}
}

// TestQueryWithRows: rows of statements that write, read to the end or not.
func TestQueryWithRows(t *testing.T) {
	for _, c := range []struct {
		query string
		read  int
		want  string
	}{
		{"INSERT INTO notes (v) VALUES (1), (2), (3) RETURNING id, v", 9, "notes#4 notes#5 notes#6"},
		{"INSERT INTO notes (v) VALUES (1), (2), (3) RETURNING id, v", 1, "notes#4 notes#5 notes#6"},
		{"INSERT INTO notes (v) VALUES (1), (2), (3) RETURNING *", 0, "notes#4 notes#5 notes#6"},
		{"INSERT INTO notes (v) VALUES (1) RETURNING v AS id", 9, "notes#!"},
		{"INSERT INTO users VALUES (9, 'x', 1) RETURNING name", 9, "users#9"},
		{"DELETE FROM users WHERE v > 1 RETURNING id", 1, "users#2 users#3"},
		{"DELETE FROM users WHERE v > 1 RETURNING name", 9, "users#!"},
		{"DELETE FROM watched RETURNING id", 9, "watched#1"},
		{"INSERT INTO logs (v) VALUES (5) RETURNING id", 9, "logs#!"},
		{"SELECT note_it(4)", 9, "notes#!"},
		{"CALL tame(5)", 9, "plain#!"},
		{"UPDATE users SET v = 9 WHERE id = 1", 9, "users#1"},
	} {
		for _, mode := range []string{"alone", "in a transaction", "with a context"} {
			t.Run(c.query+" "+mode, func(t *testing.T) {
				f := setUp(t, nil)
				got := f.published(func() {
					ctx := f.ctx
					if mode == "with a context" {
						var cancel context.CancelFunc
						ctx, cancel = context.WithCancel(ctx)
						defer cancel()
					}
					type queryer interface {
						QueryContext(context.Context, string, ...any) (*sql.Rows, error)
					}
					var on queryer = f.db
					if mode == "in a transaction" {
						tx, err := f.db.BeginTx(f.ctx, nil)
						f.must(err)
						defer func() { f.must(tx.Commit()) }()
						on = tx
					}
					rows, err := on.QueryContext(ctx, c.query)
					f.must(err)
					for range c.read {
						if !rows.Next() {
							break
						}
					}
					f.must(rows.Err())
					f.must(rows.Close())
				})
				if strings.Join(got, " ") != c.want {
					t.Errorf("published %v, want %s\n%s", got, c.want, f.reasons())
				}
			})
		}
	}
}

// TestTemporaryTables: they are private, and hide no other table's writes.
func TestTemporaryTables(t *testing.T) {
	f := setUp(t, nil)
	c := f.conn(f.db)
	f.execOn(c, "CREATE TEMPORARY TABLE scratch (id INT PRIMARY KEY, v INT)")
	tx, err := c.BeginTx(f.ctx, nil)
	f.must(err)
	got := f.published(func() {
		f.execOn(tx, "INSERT INTO scratch SELECT id, v FROM users")
		f.execOn(tx, "UPDATE users u JOIN scratch s ON s.id = u.id SET u.v = s.v + 1")
		f.must(tx.Commit())
	})
	if !slices.Equal(got, []string{"scratch#!", "users#!"}) {
		t.Errorf("published %v\n%s", got, f.reasons())
	}
}
