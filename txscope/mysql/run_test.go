package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// TestOddSettings: whatever a connection is set up with, the rows that a statement changes are among
// those that are published.
func TestOddSettings(t *testing.T) {
	long := strings.Repeat("q", 50)
	for _, c := range []struct {
		name string
		data []string // what the tables hold beforehand
		run  []string // on one connection
		row  tokens.ID
	}{
		{"sql_select_limit, an UPDATE that misses a row", nil,
			[]string{"SET sql_select_limit = 1", "UPDATE users SET v = 9 WHERE id IN (1, 2, 3, 77)"}, user(3)},
		{"sql_select_limit, an upsert", nil,
			[]string{"SET sql_select_limit = 1", "INSERT INTO tags VALUES ('x', 9), ('y', 9) ON DUPLICATE KEY UPDATE v = 9"}, tokens.Row("tags", "y")},
		{"an upsert with a key that the database makes", nil,
			[]string{"INSERT INTO notes (id, v) VALUES (0, 1), (2, 5) ON DUPLICATE KEY UPDATE v = 9"}, tokens.Row("notes", 4)},
		{"an upsert with a key that the database makes, where zero is one", []string{"SET STATEMENT sql_mode = 'NO_AUTO_VALUE_ON_ZERO' FOR INSERT INTO notes (id, v) VALUES (0, 1)"},
			[]string{"INSERT INTO notes (id, v) VALUES (0, 1), (2, 5) ON DUPLICATE KEY UPDATE v = 9"}, tokens.Row("notes", 4)},
		{"an upsert with text for a number", nil,
			[]string{"SET sql_mode = ''", "INSERT INTO notes (id, v) VALUES ('', 1), (2, 5) ON DUPLICATE KEY UPDATE v = 9"}, tokens.Row("notes", 4)},
		{"an upsert with a number for text", []string{"INSERT INTO tags VALUES ('1', 1), ('01', 1), ('" + long + "', 1)"},
			[]string{"SET sql_mode = ''", "INSERT INTO tags VALUES (1, 1), ('" + long + "q', 5) ON DUPLICATE KEY UPDATE v = 9"}, tokens.Row("tags", long)},
		{"an upsert with text that is cut", []string{"INSERT INTO tags VALUES ('" + long + "', 1)"},
			[]string{"SET sql_mode = ''", "INSERT INTO tags VALUES ('" + long + "q', 1), ('x', 5) ON DUPLICATE KEY UPDATE v = 9"}, tokens.Row("tags", long)},
		{"an upsert with a number that is cut", []string{"CREATE TABLE tiny (id TINYINT PRIMARY KEY, v INT)", "INSERT INTO tiny VALUES (127, 1), (1, 1)"},
			[]string{"SET sql_mode = ''", "INSERT INTO tiny VALUES (300, 1), (1, 5) ON DUPLICATE KEY UPDATE v = 9"}, tokens.Row("tiny", 127)},
		{"CHAR that is padded", []string{"CREATE TABLE cc (id CHAR(10) PRIMARY KEY, v INT)", "INSERT INTO cc VALUES ('abc', 1)"},
			[]string{"SET sql_mode = 'PAD_CHAR_TO_FULL_LENGTH'", "UPDATE cc SET v = 5 WHERE v = 1"}, tokens.Row("cc", "abc")},
		{"SET NAMES", []string{"INSERT INTO tags VALUES ('ü', 1)"},
			[]string{"SET NAMES latin1", "UPDATE tags SET v = 5 WHERE v = 1"}, tokens.Row("tags", "ü")},
		{"character_set_results, DELETE", []string{"INSERT INTO tags VALUES ('ü', 1)"},
			[]string{"SET character_set_results = latin1", "DELETE FROM tags WHERE v = 1"}, tokens.Row("tags", "ü")},
		{"character_set_results that has no such letter", []string{"INSERT INTO tags VALUES ('ż', 1)"},
			[]string{"SET character_set_results = latin1", "DELETE FROM tags WHERE v = 1 AND tag <> 'Abc'"}, tokens.Row("tags", "ż")},
		{"character_set_results that has another letter there", []string{"INSERT INTO tags VALUES ('å', 1)"},
			[]string{"SET character_set_results = swe7", "UPDATE tags SET v = 5 WHERE v = 1"}, tokens.Row("tags", "å")},
		{"character_set_results NULL", []string{"CREATE TABLE old (id VARCHAR(9) CHARACTER SET latin1 PRIMARY KEY, v INT)", "INSERT INTO old VALUES ('ü', 1)"},
			[]string{"SET character_set_results = NULL", "UPDATE old SET v = 5 WHERE v = 1"}, tokens.Row("old", "ü")},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := setUp(t, nil)
			for _, text := range c.data {
				f.execOn(f.bare, text)
			}
			conn := f.conn(f.db)
			got := f.published(func() {
				for _, text := range c.run {
					f.execOn(conn, text)
				}
			})
			if !slices.Contains(got, c.row.Table+"#"+c.row.Row) && !slices.Contains(got, c.row.Table+"#!") {
				t.Errorf("published %v, which has no %v\n%s", got, c.row, f.reasons())
			}
		})
	}
}

// endingContext ends when it is asked for the left-th time whether it has.
type endingContext struct {
	context.Context
	mu   sync.Mutex
	left int
	done chan struct{}
}

func newEndingContext(ctx context.Context, left int) *endingContext {
	return &endingContext{Context: ctx, left: left, done: make(chan struct{})}
}

func (c *endingContext) Done() <-chan struct{} { return c.done }

func (c *endingContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left > 0 {
		return nil
	}
	if c.left == 0 {
		close(c.done)
	}
	return context.Canceled
}

// TestContextEnds: whenever the context of a statement in a transaction ends, what the statement has
// changed is published if the transaction commits.
func TestContextEnds(t *testing.T) {
	for _, c := range []struct {
		query   string
		touch   bool
		changed string // reports whether there is a change
		want    string // one of these is published then
	}{
		{"INSERT INTO tags VALUES ('x', 9) ON DUPLICATE KEY UPDATE v = 9", false, "SELECT COUNT(*) FROM tags WHERE v = 9", "tags#"},
		{"UPDATE users SET v = 9 WHERE id IN (1, 2, 3, 77)", false, "SELECT COUNT(*) FROM users WHERE v = 9", "users#"},
		{"UPDATE users SET v = 9 WHERE v > 0", false, "SELECT COUNT(*) FROM users WHERE v = 9", "users#"},
		{"DELETE FROM users WHERE v > 0", false, "SELECT COUNT(*) = 0 FROM users", "users#"},
		{"INSERT INTO notes (v) VALUES (9)", false, "SELECT COUNT(*) FROM notes WHERE v = 9", "notes#"},
		{"UPDATE children SET parent_id = 2 WHERE id = 1", true, "SELECT COUNT(*) <> 1 FROM children WHERE parent_id = 2", "parents#2 parents#!"},
		{"UPDATE children SET parent_id = 2 WHERE v < 2", true, "SELECT COUNT(*) <> 1 FROM children WHERE parent_id = 2", "parents#2 parents#!"},
		{"INSERT INTO children VALUES (9, 2, 1)", true, "SELECT COUNT(*) <> 1 FROM children WHERE parent_id = 2", "parents#2 parents#!"},
		{"INSERT INTO children VALUES (1, 2, 1) ON DUPLICATE KEY UPDATE parent_id = 2", true, "SELECT COUNT(*) <> 1 FROM children WHERE parent_id = 2", "parents#2 parents#!"},
	} {
		t.Run(c.query, func(t *testing.T) {
			var opts []txscope.Option
			if c.touch {
				opts = append(opts, txscope.Touch())
			}
			f := setUp(t, quiet, opts...)
			if c.touch {
				f.execOn(f.bare, "DELETE FROM children WHERE id > 3")
			}
			tables := []string{"users", "notes", "tags", "children"}
			for _, table := range tables {
				f.execOn(f.bare, "CREATE TABLE was_"+table+" AS SELECT * FROM "+table)
			}
			f.execOn(f.db, "SELECT 1")
			for n := 1; n < 16; n++ {
				for _, table := range tables {
					f.execOn(f.bare, "DELETE FROM "+table)
					f.execOn(f.bare, "INSERT INTO "+table+" SELECT * FROM was_"+table)
				}
				conn, err := f.db.Conn(f.ctx)
				f.must(err)
				f.execOn(conn, "START TRANSACTION")
				var failed, refused error
				got := strings.Join(f.published(func() {
					_, failed = conn.ExecContext(newEndingContext(f.ctx, n), c.query)
					_, refused = conn.ExecContext(f.ctx, "COMMIT")
				}), " ")
				_ = conn.Close()
				var changed int
				f.must(f.bare.QueryRow(c.changed).Scan(&changed))
				known := false
				for want := range strings.FieldsSeq(c.want) {
					known = known || strings.Contains(got, want)
				}
				if changed > 0 && !known {
					t.Errorf("n = %d: published %q; the statement: %v, COMMIT: %v", n, got, failed, refused)
				}
			}
		})
	}
}

// TestHiddenCalls: a function that is called in an odd spelling gives another value a moment later all the
// same.
func TestHiddenCalls(t *testing.T) {
	f := setUp(t, nil)
	f.execOn(f.bare, "CREATE SEQUENCE sq")
	conn := f.conn(f.db)
	f.execOn(conn, "SET sql_mode = 'ORACLE'")
	for _, where := range []string{"`rand`() < 2", "rand\f() < 2", "rand\v() < 2", "NEXT VALUE FOR sq > 0", "sq.nextval > 0", "sq . nextval > 0", "sq.currval > 0"} {
		got := f.published(func() { f.execOn(conn, "UPDATE users SET v = v + 1 WHERE id < 3 AND "+where) })
		if !slices.Equal(got, []string{"users#!"}) {
			t.Errorf("%q: published %v", where, got)
		}
	}
}

// TestDeadlockAmongRows: a deadlock that a SELECT meets after its first rows ends the transaction, and
// what follows is outside of any.
func TestDeadlockAmongRows(t *testing.T) {
	f := setUp(t, nil, txscope.Strict())
	// More than the server's buffer holds, so that rows arrive before the deadlock.
	f.execOn(f.bare, "CREATE TABLE wide (id INT PRIMARY KEY, pad VARCHAR(2000))")
	f.execOn(f.bare, "INSERT INTO wide SELECT seq, REPEAT('x', 2000) FROM seq_1_to_100")
	f.execOn(f.bare, "CREATE TABLE heavy (id INT PRIMARY KEY, v INT)")
	for _, query := range []string{"SELECT * FROM wide FOR UPDATE", "SELECT * FROM wide LOCK IN SHARE MODE"} {
		for _, way := range []string{"Next", "Close"} {
			t.Run(query+" "+way, func(t *testing.T) {
				tx, err := f.db.BeginTx(f.ctx, nil)
				f.must(err)
				defer func() { _ = tx.Rollback() }()
				other, err := f.bare.BeginTx(f.ctx, nil)
				f.must(err)
				defer func() { _ = other.Rollback() }()
				f.deadlockAmongRows(tx, other, query, way)
				f.must(other.Rollback())
				f.backend.SetDown(true)
				_, err = tx.ExecContext(f.ctx, "INSERT INTO users VALUES (70, 'x', 1)")
				f.backend.SetDown(false)
				var n int
				f.must(f.bare.QueryRow("SELECT COUNT(*) FROM users WHERE id = 70").Scan(&n))
				if n != 0 {
					t.Errorf("committed by itself without a fence (%v)", err)
				}
			})
		}
	}
}

// deadlockAmongRows has a query of tx's end in a deadlock with other after its first rows.
func (f *fixture) deadlockAmongRows(tx, other *sql.Tx, query, way string) {
	f.Helper()
	// The server gives up the transaction that has written less.
	f.execOn(other, "INSERT INTO heavy SELECT seq, 1 FROM seq_1_to_2000")
	f.execOn(other, "UPDATE wide SET pad = '' WHERE id = 100")
	f.execOn(tx, "UPDATE users SET v = 60 WHERE id = 1")
	done := make(chan error, 1)
	go func() {
		rows, err := tx.QueryContext(f.ctx, query)
		if err == nil {
			for way == "Next" && rows.Next() {
			}
			if err = rows.Close(); err == nil {
				err = rows.Err()
			}
		}
		done <- err
	}()
	f.waitsForLock()
	f.execOn(other, "UPDATE users SET v = 51 WHERE id = 1")
	if err := <-done; !isNumber(err, 1213) {
		f.Fatalf("no deadlock: %v", err)
	}
}

// TestOwnEnds: a COMMIT of the capture's own begins no other transaction, and closes nothing.
func TestOwnEnds(t *testing.T) {
	for _, how := range []string{"'CHAIN'", "'RELEASE'"} {
		t.Run(how, func(t *testing.T) {
			f := setUp(t, quiet)
			conn := f.conn(f.db)
			f.execOn(conn, "SET completion_type = "+how)
			f.execOn(conn, "UPDATE users SET v = 50 WHERE v > 1")
			if _, err := conn.ExecContext(f.ctx, "INSERT INTO users SELECT 1, 'x', 1"); !isNumber(err, 1062) {
				t.Fatal(err) // which rolls back
			}
			f.execOn(conn, "INSERT INTO users VALUES (77, 'x', 1)")
			var n int
			f.must(f.bare.QueryRow("SELECT COUNT(*) FROM users WHERE id = 77").Scan(&n))
			if n != 1 {
				t.Error("an INSERT outside of any transaction was not committed")
			}
		})
	}
}

// TestSemiConsistent: an UPDATE under READ COMMITTED does not wait for rows that it does not match, and
// waits itself for those that it does.
func TestSemiConsistent(t *testing.T) {
	f := setUp(t, nil)
	other, err := f.bare.BeginTx(f.ctx, nil)
	f.must(err)
	defer func() { _ = other.Rollback() }()
	f.execOn(other, "UPDATE users SET v = 60 WHERE id = 1")
	conn := f.conn(f.db)
	f.execOn(conn, "SET innodb_lock_wait_timeout = 1")
	f.execOn(conn, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
	got := f.published(func() { f.execOn(conn, "UPDATE users SET v = 9 WHERE name = 'c'") })
	if fmt.Sprint(got) != "[users#3]" {
		t.Errorf("published %v\n%s", got, f.reasons())
	}
	var failed error
	got = f.published(func() { _, failed = conn.ExecContext(f.ctx, "UPDATE users SET v = 8 WHERE name < 'd'") })
	if !isNumber(failed, 1205) {
		t.Errorf("a row that another has locked: %v, published %v", failed, got)
	}
	// A row that comes in while the statement waits is not known to the capture beforehand.
	f.execOn(conn, "SET innodb_lock_wait_timeout = 50")
	got = f.published(func() {
		done := make(chan error, 1)
		go func() {
			_, err := conn.ExecContext(f.ctx, "UPDATE users SET v = 8 WHERE name < 'd'")
			done <- err
		}()
		f.waitsForLock()
		f.must(other.Commit())
		f.must(<-done)
	})
	if fmt.Sprint(got) != "[users#!]" {
		t.Errorf("with a row that another had locked: published %v", got)
	}
}

// TestLostAmongRows: a connection that is lost while a SELECT writes a table without transactions leaves
// that in doubt, and takes what else the transaction has done with it: this is not taken for committed.
func TestLostAmongRows(t *testing.T) {
	for _, how := range []string{"rolled back", "closed"} {
		t.Run(how, func(t *testing.T) {
			f := setUp(t, nil)
			f.execOn(f.bare, "CREATE FUNCTION log_it(x INT) RETURNS INT BEGIN INSERT INTO logs (v) VALUES (x); RETURN x; END")
			row := tokens.Row("users", 1)
			f.stamp(row)
			ctx, scope := txscope.OpenScope(f.ctx, f.store)
			conn := f.conn(f.db)
			limited, cancel := context.WithCancel(ctx)
			defer cancel()
			tx, err := conn.BeginTx(limited, nil)
			f.must(err)
			if _, err := tx.ExecContext(ctx, "UPDATE users SET v = 77 WHERE id = 1"); err != nil {
				t.Fatal(err)
			}
			// More than the server's buffer holds, so that it is not done with them.
			rows, err := tx.QueryContext(limited, "SELECT log_it(id), REPEAT('x', 20000) FROM users, (SELECT 1 FROM seq_1_to_200) AS many")
			f.must(err)
			rows.Next()
			got := f.published(func() {
				cancel()
				_ = rows.Close()
				if how == "rolled back" && tx.Commit() == nil {
					t.Error("a transaction was committed whose context had ended")
				}
				_ = conn.Close()
			})
			if slices.Contains(got, "users#1") {
				t.Errorf("what was lost was published: %v", got)
			}
			if scope.Storable(row) {
				t.Error("what was lost can be stored")
			}
		})
	}
}
