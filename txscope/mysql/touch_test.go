package mysql_test

import (
	"database/sql"
	"slices"
	"strings"
	"testing"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// TestTouch: who writes to a child changes its parents.
func TestTouch(t *testing.T) {
	for _, c := range []struct {
		query string
		args  []any
		want  string
	}{
		{"INSERT INTO children VALUES (9, 2, 1)", nil, "children#9 parents#2"},
		{"INSERT INTO children VALUES (9, NULL, 1)", nil, "children#9"},
		{"INSERT INTO children (id, v) VALUES (?, 1)", []any{9}, "children#9"},
		{"INSERT INTO children SELECT id + 10, parent_id, v FROM children WHERE id > ?", []any{1}, "children#12 children#13 parents#1 parents#2"},
		{"INSERT INTO children VALUES (1, 2, 1) ON DUPLICATE KEY UPDATE parent_id = 2", nil, "children#1 parents#1 parents#2"},
		{"REPLACE INTO children VALUES (1, 2, 1)", nil, "children#1 parents#1 parents#2"},
		{"UPDATE children SET v = 9 WHERE id = 1", nil, "children#1 parents#1"},
		{"UPDATE children SET v = 1 WHERE id = 1", nil, ""},
		{"UPDATE children SET v = ? WHERE v > ?", []any{9, 1}, "children#2 children#3 parents#1 parents#2"},
		{"UPDATE children SET parent_id = 2 WHERE id = 1", nil, "children#1 parents#1 parents#2"},
		{"UPDATE children SET parent_id = NULL WHERE v = 1", nil, "children#1 parents#1"},
		{"UPDATE children SET v = RAND() * 1000 + 5 WHERE v < RAND() + 1", nil, "children#! parents#!"},
		{"DELETE FROM children WHERE id = 3", nil, "children#3 parents#2"},
		{"DELETE FROM children WHERE v < ?", []any{3}, "children#1 children#2 parents#1"},
		{"DELETE FROM parents WHERE id = 1", nil, "children#! parents#!"},
		{"TRUNCATE grandchildren", nil, "children#! grandchildren#!"},
		{"UPDATE parents SET v = 9 WHERE id = 1", nil, "parents#1"},
		// The parent's key is spelled as the database has it.
		{"INSERT INTO tagged VALUES (5, 'ABC')", nil, "tagged#5 tags#Abc"},
		{"DELETE FROM tagged WHERE id = 1", nil, "tagged#1 tags#Abc"},
		// By another key than the primary key.
		{"INSERT INTO mailed VALUES (5, 'a')", nil, "mailed#5 mails#!"},
	} {
		for _, mode := range []string{"alone", "in a transaction"} {
			t.Run(c.query+" "+mode, func(t *testing.T) {
				f := setUpFamily(t, txscope.Touch())
				got := f.published(func() {
					if mode == "alone" {
						f.execOn(f.db, c.query, c.args...)
						return
					}
					tx, err := f.db.BeginTx(f.ctx, nil)
					f.must(err)
					defer func() { _ = tx.Rollback() }()
					f.execOn(tx, c.query, c.args...)
					f.must(tx.Commit())
				})
				if strings.Join(got, " ") != c.want {
					t.Errorf("published %v, want %s\n%s", got, c.want, f.reasons())
				}
			})
		}
	}
}

func setUpFamily(t *testing.T, opts ...txscope.Option) *fixture {
	t.Helper()
	f := setUp(t, nil, opts...)
	for _, text := range []string{
		`CREATE TABLE grandchildren (id INT PRIMARY KEY, child_id INT, FOREIGN KEY (child_id) REFERENCES children (id))`,
		`CREATE TABLE tagged (id INT PRIMARY KEY, tag VARCHAR(50), FOREIGN KEY (tag) REFERENCES tags (tag))`,
		`CREATE TABLE mailed (id INT PRIMARY KEY, mail VARCHAR(50), FOREIGN KEY (mail) REFERENCES mails (mail))`,
		`CREATE TABLE staff (id INT PRIMARY KEY, boss INT, FOREIGN KEY (boss) REFERENCES staff (id))`,
		`INSERT INTO tagged VALUES (1, 'aBC')`,
		`INSERT INTO staff VALUES (1, NULL), (2, 1), (3, 2), (4, NULL)`,
		`UPDATE staff SET boss = 3 WHERE id = 1`, // a ring
	} {
		f.execOn(f.bare, text)
	}
	return f
}

// TestTouchAncestors goes on to the parents' parents.
func TestTouchAncestors(t *testing.T) {
	f := setUpFamily(t, txscope.Touch(), txscope.TouchAncestors())
	for _, c := range []struct{ query, want string }{
		{"INSERT INTO grandchildren VALUES (1, 1), (2, 3)", "children#1 children#3 grandchildren#1 grandchildren#2 parents#1 parents#2"},
		{"DELETE FROM grandchildren WHERE id = 1", "children#1 grandchildren#1 parents#1"},
		{"INSERT INTO staff VALUES (5, 3)", "staff#1 staff#2 staff#3 staff#5"},
		{"INSERT INTO staff VALUES (6, 4)", "staff#4 staff#6"},
	} {
		if got := f.published(func() { f.execOn(f.db, c.query) }); strings.Join(got, " ") != c.want {
			t.Errorf("%s: published %v, want %s\n%s", c.query, got, c.want, f.reasons())
		}
	}
	// A parent that somebody else has locked is not waited for.
	other, err := f.bare.BeginTx(f.ctx, nil)
	f.must(err)
	f.execOn(other, "UPDATE children SET v = 100 WHERE id = 3")
	got := f.published(func() { f.execOn(f.db, "DELETE FROM grandchildren WHERE id = 2") })
	if want := []string{"children#!", "grandchildren#2", "parents#!"}; !slices.Equal(got, want) {
		t.Errorf("published %v, want %v", got, want)
	}
	f.must(other.Rollback())
}

// TestTouchAncestorsBeforeImplicitCommits: what commits by the way is a commit too.
func TestTouchAncestorsBeforeImplicitCommits(t *testing.T) {
	for name, end := range map[string]func(*fixture, *sql.Conn){
		"START TRANSACTION": func(f *fixture, c *sql.Conn) { f.execOn(c, "START TRANSACTION") },
		"BeginTx": func(f *fixture, c *sql.Conn) {
			tx, err := c.BeginTx(f.ctx, nil)
			f.must(err)
			f.must(tx.Rollback())
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := setUpFamily(t, txscope.Touch(), txscope.TouchAncestors())
			c, err := f.db.Conn(f.ctx)
			f.must(err)
			defer c.Close()
			f.execOn(c, "START TRANSACTION")
			f.execOn(c, "INSERT INTO grandchildren VALUES (1, 1)")
			got := f.published(func() { end(f, c) })
			if want := "children#1 grandchildren#1 parents#1"; strings.Join(got, " ") != want {
				t.Errorf("published %v, want %s", got, want)
			}
		})
	}
}

// TestTouchTables names the children.
func TestTouchTables(t *testing.T) {
	f := setUpFamily(t, txscope.TouchTables("tagged"))
	for query, want := range map[string]string{
		"INSERT INTO children VALUES (9, 2, 1)":  "children#9",
		"INSERT INTO tagged VALUES (5, 'x')":     "tagged#5 tags#x",
		"UPDATE children SET v = 9 WHERE id = 1": "children#1",
	} {
		if got := f.published(func() { f.execOn(f.db, query) }); strings.Join(got, " ") != want {
			t.Errorf("%s: published %v, want %s", query, got, want)
		}
	}
}

// TestTouchedAndRolledBack: what was written after a savepoint and taken back has touched nobody.
func TestTouchedAndRolledBack(t *testing.T) {
	for _, c := range []struct {
		name string
		text []string
		want string
	}{
		{"all of it", []string{"SAVEPOINT a", "INSERT INTO tagged VALUES (5, 'x')", "ROLLBACK TO a"}, ""},
		{"with what it refers to", []string{"SAVEPOINT a", "INSERT INTO tags VALUES ('new', 1)", "INSERT INTO tagged VALUES (5, 'new')", "ROLLBACK TO SAVEPOINT A"}, ""},
		{"a part", []string{"INSERT INTO tagged VALUES (5, 'x')", "SAVEPOINT a", "INSERT INTO tagged VALUES (6, 'y')", "ROLLBACK TO a"}, "tagged#5 tags#x"},
		{"and again", []string{"SAVEPOINT a", "INSERT INTO tagged VALUES (5, 'x')", "ROLLBACK TO a", "INSERT INTO tagged VALUES (6, 'x')"}, "tagged#6 tags#x"},
		{"what came before a savepoint of the same name stays", []string{"SAVEPOINT a", "INSERT INTO tagged VALUES (5, 'x')", "SAVEPOINT a", "INSERT INTO tagged VALUES (6, 'y')", "ROLLBACK TO a"}, "tagged#5 tags#x"},
		{"to an outer savepoint", []string{"SAVEPOINT a", "SAVEPOINT b", "INSERT INTO tagged VALUES (5, 'x')", "RELEASE SAVEPOINT b", "ROLLBACK TO a"}, ""},
		{"what is released stays", []string{"SAVEPOINT a", "INSERT INTO tagged VALUES (5, 'x')", "RELEASE SAVEPOINT a"}, "tagged#5 tags#x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := setUpFamily(t, txscope.Touch())
			got := f.published(func() {
				tx, err := f.db.BeginTx(f.ctx, nil)
				f.must(err)
				defer func() { _ = tx.Rollback() }()
				for _, text := range c.text {
					f.execOn(tx, text)
				}
				f.must(tx.Commit())
			})
			if strings.Join(got, " ") != c.want {
				t.Errorf("published %v, want %s\n%s", got, c.want, f.reasons())
			}
		})
	}
}

// TestTouchedBehindASavepoint: a savepoint that was set where nobody could follow keeps what came before it.
func TestTouchedBehindASavepoint(t *testing.T) {
	for _, hidden := range []string{"EXECUTE IMMEDIATE 'SAVEPOINT a'", "SET @x = 1; SAVEPOINT a"} {
		t.Run(hidden, func(t *testing.T) {
			f := setUp(t, func(c *gomysql.Config) { c.MultiStatements = true }, txscope.Touch())
			f.execOn(f.bare, `CREATE TABLE tagged (id INT PRIMARY KEY, tag VARCHAR(50), FOREIGN KEY (tag) REFERENCES tags (tag))`)
			row := tokens.Row("tags", "x")
			was := f.stamp(row)
			c := f.conn(f.db)
			for _, text := range []string{"BEGIN", "SAVEPOINT a", "INSERT INTO tagged VALUES (5, 'x')", hidden, "ROLLBACK TO a", "COMMIT"} {
				f.execOn(c, text)
			}
			if n := f.count("SELECT COUNT(*) FROM tagged WHERE id = 5"); n != 1 {
				t.Fatalf("the test is wrong: %d rows", n)
			}
			if f.stamp(row) == was {
				t.Error("the parent's key has not changed")
			}
		})
	}
}

// TestTouchedBeforeASavepoint: what could have committed and has not loses no parent by what is rolled back
// later.
func TestTouchedBeforeASavepoint(t *testing.T) {
	for _, text := range []string{"SET autocommit = 1", "UNLOCK TABLES", "LOAD INDEX INTO CACHE logs", "CACHE INDEX logs IN default", "CALL tame(1)", "EXECUTE IMMEDIATE 'SELECT 1'"} {
		t.Run(text, func(t *testing.T) {
			f := setUpFamily(t, txscope.Touch())
			c := f.conn(f.db)
			row := tokens.Row("tags", "x")
			was := f.stamp(row)
			for _, text := range []string{"BEGIN", "INSERT INTO tagged VALUES (5, 'x')", "SAVEPOINT a", text, "ROLLBACK TO a", "COMMIT"} {
				f.execOn(c, text)
			}
			if n := f.count("SELECT COUNT(*) FROM tagged WHERE id = 5"); n != 1 {
				t.Fatalf("the test is wrong: %d rows", n)
			}
			if f.stamp(row) == was {
				t.Error("the parent's key has not changed")
			}
		})
	}
}

// TestTouchWhileTheSchemaChanges: parents that are looked up at the end of a transaction have parents too,
// also if another connection has changed the schema meanwhile.
func TestTouchWhileTheSchemaChanges(t *testing.T) {
	f := setUpFamily(t, txscope.Touch(), txscope.TouchAncestors())
	tx, err := f.db.BeginTx(f.ctx, nil)
	f.must(err)
	f.execOn(tx, "INSERT INTO grandchildren VALUES (1, 1)")
	f.execOn(f.db, "CREATE TABLE other (id INT)")
	f.execOn(f.db, "SELECT 1") // the schema is read
	got := f.published(func() { f.must(tx.Commit()) })
	if want := "children#! grandchildren#1 parents#!"; strings.Join(got, " ") != want {
		t.Errorf("published %v, want %s", got, want)
	}
}

// TestTouchUnreadableParent: the old parent of a row is swept where its spelling cannot be read.
func TestTouchUnreadableParent(t *testing.T) {
	for _, query := range []string{"REPLACE INTO tagged VALUES (7, 'x')", "INSERT INTO tagged VALUES (7, 'x') ON DUPLICATE KEY UPDATE tag = 'x'", "UPDATE tagged SET tag = 'x' WHERE id = 7"} {
		t.Run(query, func(t *testing.T) {
			f := setUpFamily(t, txscope.Touch())
			f.execOn(f.bare, "INSERT INTO tags VALUES ('ü', 1)")
			f.execOn(f.bare, "INSERT INTO tagged VALUES (7, 'ü')")
			c := f.conn(f.db)
			f.execOn(c, "SET character_set_results = latin1")
			row := tokens.Row("tags", "ü")
			was := f.stamp(row)
			f.execOn(c, query)
			if f.stamp(row) == was {
				t.Error("the old parent's key has not changed")
			}
		})
	}
}
