package mysql_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

func (f *fixture) count(query string) (n int) {
	f.Helper()
	f.must(f.bare.QueryRow(query).Scan(&n))
	return n
}

// until polls for a condition.
func (f *fixture) until(what string, ok func() bool) {
	f.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			f.Fatal("not in time: ", what)
		}
	}
}

// altering keeps a change of the schema under way while fn runs.
func (f *fixture) altering(text string, fn func()) {
	f.Helper()
	block := f.conn(f.bare)
	f.execOn(block, "BEGIN")
	var n int
	f.must(block.QueryRowContext(f.ctx, "SELECT COUNT(*) FROM plain").Scan(&n))
	done := make(chan error)
	go func() {
		_, err := f.db.Exec(text)
		done <- err
	}()
	f.until("the change of the schema waits", func() bool {
		return f.count("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE '%metadata lock%' AND DB = DATABASE()") > 0
	})
	fn()
	f.execOn(block, "ROLLBACK")
	f.must(<-done)
}

// TestSchemaWithSelectLimit: a limit of the connection's cuts nothing from what is known.
func TestSchemaWithSelectLimit(t *testing.T) {
	for _, limit := range []string{"0", "1", "60"} {
		t.Run(limit, func(t *testing.T) {
			f := setUp(t, func(c *gomysql.Config) { c.Params = map[string]string{"sql_select_limit": limit} })
			f.execOn(f.bare, "CREATE TABLE aaa (id INT PRIMARY KEY, v INT)")
			for i := range 70 {
				f.execOn(f.bare, fmt.Sprintf("CREATE TRIGGER a%02d BEFORE INSERT ON aaa FOR EACH ROW SET @x = 1", i))
			}
			f.execOn(f.bare, "CREATE TRIGGER last AFTER UPDATE ON aaa FOR EACH ROW UPDATE users SET v = 77 WHERE id = 1")
			f.execOn(f.bare, "INSERT INTO aaa VALUES (1, 1)")
			got := f.published(func() { f.execOn(f.db, "UPDATE aaa SET v = 3 WHERE id = 1") })
			if want := []string{"aaa#1", "users#!"}; !slices.Equal(got, want) {
				t.Errorf("published %v, want %v\n%s", got, want, f.log)
			}
		})
	}
}

// TestUnknownSchema: while another connection changes the schema, tables can be without transactions and
// names those of views that write.
func TestUnknownSchema(t *testing.T) {
	f := setUp(t, nil)
	f.execOn(f.bare, "CREATE FUNCTION noted_once() RETURNS INT DETERMINISTIC BEGIN INSERT IGNORE INTO notes (id, v) VALUES (8, 1); RETURN 1; END")
	c := f.conn(f.db)
	f.execOn(c, "SELECT 1")
	for _, step := range []struct {
		name    string
		run     func()
		written string
		id      tokens.ID
	}{
		{"an error in the middle", func() {
			if _, err := c.ExecContext(f.ctx, "INSERT INTO logs (id, v) VALUES (30, 1), (1, 1)"); !isNumber(err, 1062) {
				t.Error(err)
			}
		}, "SELECT COUNT(*) FROM logs WHERE id = 30", tokens.Row("logs", 30)},
		{"a rollback", func() {
			f.execOn(c, "BEGIN")
			f.execOn(c, "INSERT INTO logs (id, v) VALUES (31, 1)")
			f.execOn(c, "ROLLBACK")
		}, "SELECT COUNT(*) FROM logs WHERE id = 31", tokens.Row("logs", 31)},
		{"a view", func() {
			rows, err := c.QueryContext(f.ctx, "SELECT * FROM writers")
			f.must(err)
			for rows.Next() {
			}
			f.must(rows.Close())
		}, "SELECT COUNT(*) FROM notes WHERE id = 4", tokens.Row("notes", 4)},
		{"a table of what a view gives", func() {
			f.execOn(c, "CREATE TABLE made AS SELECT * FROM writers")
		}, "SELECT COUNT(*) FROM notes WHERE id = 5", tokens.Row("notes", 5)},
		{"the same behind a comment", func() {
			f.execOn(c, "CREATE /* for the sake of the test */ TABLE made_again AS SELECT * FROM writers")
		}, "SELECT COUNT(*) FROM notes WHERE id = 6", tokens.Row("notes", 6)},
		{"a table of what a function gives", func() {
			f.execOn(c, "CREATE TABLE made_of_values AS VALUES (note_it(3))")
		}, "SELECT COUNT(*) FROM notes WHERE id = 7", tokens.Row("notes", 7)},
		{"EXPLAIN of a function", func() {
			f.execOn(c, "EXPLAIN SELECT * FROM pairs WHERE a = noted_once()")
		}, "SELECT COUNT(*) FROM notes WHERE id = 8", tokens.Row("notes", 8)},
	} {
		f.altering("ALTER TABLE plain COMMENT '"+step.name+"'", func() {
			was := f.stamp(step.id)
			step.run()
			if n := f.count(step.written); n != 1 {
				t.Errorf("%s: %d rows", step.name, n)
			}
			if f.stamp(step.id) == was {
				t.Errorf("%s: nothing was published\n%s", step.name, f.reasons())
			}
		})
	}
	// What reads tables only publishes nothing all the same.
	f.execOn(f.db, "SELECT 1")
	f.altering("ALTER TABLE plain COMMENT 'read'", func() {
		got := f.published(func() {
			for _, query := range []string{"SELECT u.v FROM users AS u", "SELECT COUNT(*) FROM notes", "SHOW TABLES", "SET @x = 1"} {
				rows, err := c.QueryContext(f.ctx, query)
				f.must(err)
				f.must(rows.Close())
			}
		})
		if len(got) > 0 {
			t.Errorf("reading has published %v", got)
		}
	})
}

// TestTurnedIntoView: a name that a change of the schema makes that of a view is one, also in a
// transaction that knows the schema from before.
func TestTurnedIntoView(t *testing.T) {
	f := setUp(t, nil)
	f.execOn(f.bare, "CREATE TABLE shown (n INT)")
	c := f.conn(f.db)
	f.execOn(c, "BEGIN")
	f.execOn(c, "SELECT v FROM users")
	f.execOn(f.db, "DROP TABLE shown")
	f.execOn(f.db, "CREATE VIEW shown AS SELECT note_it(8) AS n")
	id := tokens.Row("notes", 4)
	was := f.stamp(id)
	var n int
	f.must(c.QueryRowContext(f.ctx, "SELECT n FROM shown").Scan(&n))
	f.execOn(c, "COMMIT")
	if f.stamp(id) == was {
		t.Errorf("nothing was published\n%s", f.reasons())
	}
}

// TestStrangerWithoutTransactions: a table that another program has just made can be any.
func TestStrangerWithoutTransactions(t *testing.T) {
	f := setUp(t, nil)
	c := f.conn(f.db)
	f.execOn(c, "BEGIN")
	f.execOn(c, "UPDATE users SET v = 9 WHERE id = 1")
	f.execOn(f.bare, "CREATE TABLE theirs (id INT PRIMARY KEY, v INT) ENGINE=MyISAM")
	got := f.published(func() { f.execOn(c, "INSERT INTO theirs VALUES (1, 1)") })
	if !slices.Equal(got, []string{"theirs#!"}) {
		t.Errorf("published %v", got)
	}
	f.execOn(c, "ROLLBACK")
}

// TestHiddenTriggerWithoutTransactions: a trigger that cannot be seen can write such a table.
func TestHiddenTriggerWithoutTransactions(t *testing.T) {
	f := setUp(t, nil)
	f.execOn(f.bare, "CREATE TRIGGER logging AFTER UPDATE ON users FOR EACH ROW INSERT INTO logs (v) VALUES (7)")
	c := f.conn(f.wrap(f.user("SELECT, UPDATE, INSERT ON $db.*")))
	f.execOn(c, "BEGIN")
	id := tokens.Row("logs", 3)
	was := f.stamp(id)
	f.execOn(c, "UPDATE users SET v = 9 WHERE id = 1")
	f.execOn(c, "ROLLBACK")
	if n := f.count("SELECT COUNT(*) FROM logs WHERE id = 3"); n != 1 {
		t.Fatalf("%d rows", n)
	}
	if f.stamp(id) == was {
		t.Errorf("nothing was published\n%s", f.reasons())
	}
}

// user makes a user with grants, in which $db is the database, and gives the configuration with it.
func (f *fixture) user(grants ...string) *gomysql.Config {
	f.Helper()
	cfg := f.config.Clone()
	cfg.User = fmt.Sprintf("u%d_%s", f.count("SELECT COUNT(*) FROM mysql.user"), f.config.DBName)
	f.execOn(f.bare, "CREATE USER "+cfg.User+"@'%'")
	f.Cleanup(func() { f.execOn(f.bare, "DROP USER "+cfg.User+"@'%'") })
	for _, g := range grants {
		f.execOn(f.bare, "GRANT "+strings.ReplaceAll(g, "$db", f.config.DBName)+" TO "+cfg.User+"@'%'")
	}
	return cfg
}

// TestMerge: the rows of a table of the MERGE engine are those of others.
func TestMerge(t *testing.T) {
	f := setUp(t, nil)
	f.execOn(f.bare, "CREATE TABLE m1 (id INT PRIMARY KEY, v INT) ENGINE=MyISAM")
	f.execOn(f.bare, "CREATE TABLE mm (id INT PRIMARY KEY, v INT) ENGINE=MRG_MYISAM UNION=(m1) INSERT_METHOD=LAST")
	f.execOn(f.bare, "INSERT INTO m1 VALUES (1, 1)")
	for _, step := range []struct {
		query string
		id    tokens.ID
	}{
		{"UPDATE mm SET v = 5", tokens.Row("m1", 1)},
		{"UPDATE mm SET v = 6 WHERE id = 1", tokens.Row("m1", 1)},
		{"UPDATE m1 SET v = 7 WHERE id = 1", tokens.Row("mm", 1)},
		{"INSERT INTO m1 VALUES (2, 1)", tokens.Row("mm", 2)},
	} {
		was := f.stamp(step.id)
		f.execOn(f.db, step.query)
		if f.stamp(step.id) == was {
			t.Errorf("%s: %v was not published", step.query, step.id)
		}
	}
	// Tables with transactions are none of its parts.
	if got := f.published(func() { f.execOn(f.db, "UPDATE users SET v = 9 WHERE id = 1") }); !slices.Equal(got, []string{"users#1"}) {
		t.Errorf("published %v", got)
	}
}

// TestAskedAbout: where another connection has changed the schema, it is not read between a statement and
// one that asks about it.
func TestAskedAbout(t *testing.T) {
	f := setUp(t, nil)
	ask := func(db *sql.DB, run []string, ask string) (answer []string) {
		c := f.conn(db)
		f.execOn(c, "SET sql_mode = 'ERROR_FOR_DIVISION_BY_ZERO'")
		for _, text := range run {
			if strings.HasPrefix(text, "SELECT") {
				rows, err := c.QueryContext(f.ctx, text)
				f.must(err)
				f.must(rows.Close())
				continue
			}
			_, _ = c.ExecContext(f.ctx, text)
		}
		f.execOn(f.db, "CREATE OR REPLACE TABLE other (id INT)")
		rows, err := c.QueryContext(f.ctx, ask)
		f.must(err)
		defer func() { _ = rows.Close() }()
		columns, err := rows.Columns()
		f.must(err)
		for rows.Next() {
			values, into := make([]string, len(columns)), make([]any, len(columns))
			for i := range into {
				into[i] = &values[i]
			}
			f.must(rows.Scan(into...))
			answer = append(answer, strings.Join(values, " "))
		}
		f.must(rows.Err())
		return answer
	}
	for _, c := range []struct {
		run []string
		ask string
	}{
		{[]string{"UPDATE users SET v = v + 1 WHERE id = 1"}, "SELECT ROW_COUNT()"},
		{[]string{"DELETE FROM users WHERE id = 77"}, "SELECT row_count() AS n"},
		{[]string{"SELECT SQL_CALC_FOUND_ROWS * FROM users LIMIT 1"}, "SELECT FOUND_ROWS()"},
		{[]string{"SELECT 1/0"}, "SHOW WARNINGS"},
		{[]string{"SELECT 1/0"}, "show warnings limit 1"},
		{[]string{"SELECT 1/0"}, "SELECT @@warning_count"},
		{[]string{"INSERT INTO users VALUES (1, 'a', 1)"}, "SHOW ERRORS"},
		{[]string{"INSERT INTO users VALUES (1, 'a', 1)"}, "SELECT @@error_count"},
	} {
		if bare, got := ask(f.bare, c.run, c.ask), ask(f.db, c.run, c.ask); !slices.Equal(got, bare) {
			t.Errorf("%s; %s: %q, on the bare connection %q", c.run, c.ask, got, bare)
		}
	}
}

// TestHiddenForeignKeys: information_schema does not show the foreign keys of a database to a user who has
// no more than SELECT on it.
func TestHiddenForeignKeys(t *testing.T) {
	f := setUp(t, nil)
	other := f.otherDatabase()
	f.execOn(f.bare, "CREATE TABLE "+other+".kids (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES "+f.config.DBName+".parents (id) ON DELETE CASCADE)")
	many := f.config.DBName + "_many"
	f.execOn(f.bare, "CREATE DATABASE "+many)
	t.Cleanup(func() { f.execOn(f.bare, "DROP DATABASE "+many) })
	for i := range 201 {
		f.execOn(f.bare, fmt.Sprintf("CREATE TABLE %s.t%d (id INT PRIMARY KEY)", many, i))
	}
	for _, c := range []struct{ grant, want, log string }{
		{"SELECT, TRIGGER ON " + many + ".*", "children#! parents#2", "mysql.proc"},
		{"SELECT (id) ON " + many + ".t0", "*#!", "foreign keys cannot be seen"}, // it cannot be shown
		{"SELECT ON " + many + ".*", "*#!", "foreign keys of more than 200 tables"},
		{"SELECT ON " + other + ".*", "*#!", "TRIGGER"}, // triggers are hidden, too
		{"SELECT, TRIGGER ON " + other + ".*", other + ".kids#! children#! parents#2", "mysql.proc"},
		{"SELECT (id) ON " + other + ".kids", "*#!", "foreign keys cannot be seen"},
	} {
		f.execOn(f.bare, "INSERT IGNORE INTO parents VALUES (2, 2)")
		f.execOn(f.bare, "INSERT IGNORE INTO "+other+".kids VALUES (5, 2)")
		db := f.wrap(f.user("ALL ON $db.*", c.grant), txscope.WithLogger(f.log.Logger()))
		got := f.published(func() { f.execOn(db, "DELETE FROM parents WHERE id = 2") })
		for _, want := range strings.Fields(c.want) {
			if !slices.Contains(got, want) {
				t.Errorf("%s: published %v, want %s\n%s", c.grant, got, c.want, f.log)
			}
		}
		if log := f.log.String(); !strings.Contains(log, c.log) || strings.Contains(log, "foreign keys") != strings.Contains(c.log, "foreign keys") {
			t.Errorf("%s: log: %s", c.grant, log)
		}
		if c.grant == "SELECT ON "+other+".*" {
			// What those keys do not refer to is as ever.
			if got := f.published(func() { f.execOn(db, "DELETE FROM users WHERE id = 1") }); !slices.Equal(got, []string{"users#1"}) {
				t.Errorf("%s: published %v\n%s", c.grant, got, f.log)
			}
		}
		// The log is one for all.
		f.log.Reset()
	}
}
