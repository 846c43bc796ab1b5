package mysql_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// TestUse: however USE is written, and wherever it stands, what follows is in that database.
func TestUse(t *testing.T) {
	for _, text := range []string{"USE %s", "USE\t%s", "use/**/%s", "USE`%s`", "/* x */ USE %s", "! USE %s; SELECT nothing", "SET STATEMENT max_statement_time = 5 FOR USE %s", "USE %s; UPDATE users SET v = 2 WHERE id = 1"} {
		t.Run(text, func(t *testing.T) {
			f := setUp(t, func(c *gomysql.Config) { c.MultiStatements = true })
			other := f.otherDatabase()
			c := f.conn(f.db)
			row := tokens.Row(other+".users", 1)
			was := f.stamp(row)
			text, fails := strings.CutPrefix(text, "! ")
			if _, err := c.ExecContext(f.ctx, fmt.Sprintf(text, other)); (err != nil) != fails {
				t.Fatal(err)
			}
			if strings.Contains(text, "UPDATE") && f.stamp(row) == was {
				t.Error("the key has not changed")
			}
			got := f.published(func() { f.execOn(c, "UPDATE users SET v = 9 WHERE id = 1") })
			if !slices.Equal(got, []string{other + ".users#1"}) {
				t.Errorf("published %v", got)
			}
		})
	}
}

// TestLocked: however LOCK TABLES is written, it stays in force, and ends when it does.
func TestLocked(t *testing.T) {
	for _, text := range []string{"LOCK TABLES users WRITE", "LOCK\nTABLES users WRITE", "/* x */ lock/**/tables users write", "LOCK TABLES users WRITE; SELECT 1", "! LOCK TABLES users WRITE; SELECT nothing"} {
		t.Run(text, func(t *testing.T) {
			f := setUp(t, func(c *gomysql.Config) { c.MultiStatements = true })
			c := f.conn(f.db)
			text, fails := strings.CutPrefix(text, "! ")
			if _, err := c.ExecContext(f.ctx, text); (err != nil) != fails {
				t.Fatal(err)
			}
			if got := f.published(func() { f.execOn(c, "UPDATE users SET v = 7 WHERE v > 0") }); !slices.Equal(got, []string{"users#!"}) {
				t.Errorf("published %v", got)
			}
			if _, err := c.ExecContext(f.ctx, "SELECT * FROM tags"); !isNumber(err, 1100) {
				t.Errorf("the lock is gone: %v", err)
			}
			f.execOn(c, "BEGIN") // which ends it
			f.execOn(c, "ROLLBACK")
			if got := f.published(func() { f.execOn(c, "UPDATE users SET v = 8 WHERE v > 0") }); !slices.Equal(got, []string{"users#1", "users#2", "users#3"}) {
				t.Errorf("without locks: published %v\n%s", got, f.reasons())
			}
		})
	}
}

// TestBeginAfterSchemaChange: a transaction knows the schema, also where the one before has changed it and
// was rolled back.
func TestBeginAfterSchemaChange(t *testing.T) {
	f := setUp(t, nil)
	c := f.conn(f.db)
	first, err := c.BeginTx(f.ctx, nil)
	f.must(err)
	f.execOn(first, "CREATE TABLE other (id INT)")
	f.must(first.Rollback())
	got := f.published(func() {
		second, err := c.BeginTx(f.ctx, nil)
		f.must(err)
		f.execOn(second, "UPDATE users SET v = 9 WHERE id = 1")
		f.must(second.Commit())
	})
	if !slices.Equal(got, []string{"users#1"}) {
		t.Errorf("published %v\n%s", got, f.reasons())
	}
}

// TestPreparedAfterDeadlock: what the server answers to a statement that is prepared does not say that the
// transaction goes on.
func TestPreparedAfterDeadlock(t *testing.T) {
	f := setUp(t, nil, txscope.Strict())
	f.execOn(f.bare, "CREATE TABLE wide (id INT PRIMARY KEY, pad VARCHAR(2000))")
	f.execOn(f.bare, "INSERT INTO wide SELECT seq, REPEAT('x', 2000) FROM seq_1_to_100")
	f.execOn(f.bare, "CREATE TABLE heavy (id INT PRIMARY KEY, v INT)")
	tx, err := f.db.BeginTx(f.ctx, nil)
	f.must(err)
	defer func() { _ = tx.Rollback() }()
	other, err := f.bare.BeginTx(f.ctx, nil)
	f.must(err)
	defer func() { _ = other.Rollback() }()
	f.deadlockAmongRows(tx, other, "SELECT * FROM wide FOR UPDATE", "Next")
	f.must(other.Rollback())
	insert, err := tx.PrepareContext(f.ctx, "INSERT INTO users VALUES (70, 'x', 1)")
	f.must(err)
	f.backend.SetDown(true)
	_, err = insert.ExecContext(f.ctx)
	f.backend.SetDown(false)
	if n := f.count("SELECT COUNT(*) FROM users WHERE id = 70"); n != 0 {
		t.Errorf("committed by itself without a fence (%v)", err)
	}
}

// TestNextTransaction: SET TRANSACTION is for the user's next transaction, not for the capture's queries.
func TestNextTransaction(t *testing.T) {
	f := setUp(t, nil)
	c := f.conn(f.db)
	f.execOn(c, "SELECT 1")
	for _, begin := range []string{"START TRANSACTION", "UPDATE users SET v = 9 WHERE v > 0"} {
		f.execOn(f.db, "CREATE OR REPLACE TABLE other (id INT)") // so the schema has to be read
		f.execOn(c, "SET TRANSACTION READ ONLY")
		_, err := c.ExecContext(f.ctx, begin)
		if err == nil {
			_, err = c.ExecContext(f.ctx, "UPDATE users SET v = 9 WHERE id = 1")
		}
		if !isNumber(err, 1792) {
			t.Errorf("%s: the transaction is not READ ONLY: %v", begin, err)
		}
		_, _ = c.ExecContext(f.ctx, "ROLLBACK")
	}
}

// TestSettingOfOneStatement: what SET STATEMENT sets counts for rows that are told by arithmetic.
func TestSettingOfOneStatement(t *testing.T) {
	f := setUp(t, nil)
	c := f.conn(f.db)
	f.execOn(c, "INSERT INTO notes (v) VALUES (1), (2)") // the connection's settings are known
	row := tokens.Row("notes", 0)
	for _, text := range []string{"SET STATEMENT auto_increment_increment = 7 FOR INSERT INTO notes (v) VALUES (8), (8)"} {
		f.execOn(f.bare, "DELETE FROM notes WHERE v = 8")
		got := f.published(func() { f.execOn(c, text) })
		row = tokens.Row("notes", f.count("SELECT MAX(id) FROM notes WHERE v = 8"))
		if !slices.Contains(got, "notes#"+row.Row) && !slices.Contains(got, "notes#!") {
			t.Errorf("%s: published %v, which has no %v", text, got, row)
		}
	}
}

// TestSwitchedInTheMiddle: statements of one text commit one by one, whatever it says of autocommit.
func TestSwitchedInTheMiddle(t *testing.T) {
	for _, text := range []string{
		"UPDATE users SET v = 9 WHERE id = 1; SET autocommit = 1",
		"UPDATE users SET v = 9 WHERE id = 1; SET\tautocommit = 1; SELEC 1",
		"UPDATE users SET v = 9 WHERE id = 1; UNLOCK TABLES; SELEC 1",
	} {
		for _, down := range []bool{true, false} {
			f := setUp(t, func(c *gomysql.Config) { c.MultiStatements = true }, txscope.Strict())
			c := f.conn(f.db)
			f.execOn(c, "SELECT 1")
			was := f.stamp(user(1))
			f.backend.SetDown(down)
			_, err := c.ExecContext(f.ctx, text)
			switch n := f.count("SELECT COUNT(*) FROM users WHERE v = 9"); {
			case down && n != 0:
				t.Errorf("%s: committed without a fence (%v)", text, err)
			case !down && n != 1:
				t.Errorf("%s: not run (%v)", text, err)
			case !down && f.stamp(user(1)) == was:
				t.Errorf("%s: not published", text)
			}
		}
	}
}

// TestStrangersWithoutTransactions: of several tables that a statement writes one can be such as another
// program has just made.
func TestStrangersWithoutTransactions(t *testing.T) {
	f := setUp(t, nil)
	c := f.conn(f.db)
	f.execOn(c, "BEGIN")
	f.execOn(c, "UPDATE users SET v = 9 WHERE id = 1")
	f.execOn(f.bare, "CREATE TABLE theirs (id INT PRIMARY KEY, v INT) ENGINE=MyISAM")
	f.execOn(f.bare, "INSERT INTO theirs VALUES (1, 1)")
	row := tokens.Row("theirs", 1)
	for _, text := range []string{
		"UPDATE theirs x JOIN users u ON u.id = x.id SET x.v = 5",
		"UPDATE theirs, users SET theirs.v = 6, users.v = 6 WHERE users.id = theirs.id",
		"DELETE theirs, users FROM theirs JOIN users ON users.id = theirs.id",
	} {
		was := f.stamp(row)
		f.execOn(c, text)
		if f.stamp(row) == was {
			t.Errorf("%s: nothing was published", text)
		}
	}
	f.execOn(c, "ROLLBACK")
}

// TestExplained: what EXPLAIN runs is seen, and a large text is read in no time.
func TestExplained(t *testing.T) {
	f := setUp(t, nil)
	f.execOn(f.bare, "CREATE FUNCTION five() RETURNS INT DETERMINISTIC BEGIN UPDATE users SET v = v + 1; RETURN 5; END")
	for _, text := range []string{
		"EXPLAIN SELECT * FROM pairs WHERE a = five()",
		"EXPLAIN/**/SELECT * FROM pairs WHERE a = five()",
		"/* x */ DESCRIBE EXTENDED SELECT * FROM pairs WHERE a = five()",
		"EXPLAIN FORMAT = JSON SELECT * FROM pairs WHERE a = five()",
		"DESC UPDATE pairs SET v = 1 WHERE a = five()",
		"EXPLAIN WITH x AS (SELECT * FROM pairs WHERE a = five()) SELECT * FROM x",
	} {
		was, v := f.stamp(user(1)), f.count("SELECT v FROM users WHERE id = 1")
		f.execOn(f.db, text)
		if f.count("SELECT v FROM users WHERE id = 1") == v {
			t.Errorf("the test is wrong: %s runs nothing", text)
		} else if f.stamp(user(1)) == was {
			t.Errorf("%s: nothing was published", text)
		}
	}
}
