package sqlite_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"modernc.org/sqlite"
	"pgregory.net/rapid"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/txscopetest"
)

func TestSuite(t *testing.T) {
	for _, mode := range []struct {
		name            string
		touch, andAbove bool
	}{
		{name: "without touch"},
		{name: "touch", touch: true},
		{name: "touch all above", touch: true, andAbove: true},
	} {
		t.Run(mode.name, func(t *testing.T) {
			if mode.touch {
				txscopetest.Fewer(t)
			}
			dir := t.TempDir()
			var opts []txscope.Option
			if mode.touch {
				opts = append(opts, txscope.Touch())
			}
			if mode.andAbove {
				opts = append(opts, txscope.TouchAncestors())
			}
			s := suite(func(t *rapid.T, store *tokens.Store) (wrapped, bare *sql.DB) {
				return suiteDatabase(t, dir, store, opts...)
			})
			s.TouchParents, s.TouchAncestors = mode.touch, mode.andAbove
			s.Foreign = append(s.Foreign, txscopetest.Foreign{Child: "staff", Columns: []string{"boss"}, Parent: "staff"})
			if mode.andAbove {
				for i := range s.Statements {
					s.Statements[i].Exact = false // outside of a transaction nobody can be asked
				}
			}
			txscopetest.Run(t, s)
		})
	}
}

// suiteDatabase makes a database in which triggers are recursive or not, and foreign keys enforced or
// only declared.
func suiteDatabase(t *rapid.T, dir string, store *tokens.Store, opts ...txscope.Option) (wrapped, bare *sql.DB) {
	f, err := os.CreateTemp(dir, "*.db")
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	dsn := "file:" + filepath.ToSlash(f.Name()) + "?_journal_mode=WAL&_synchronous=OFF"
	if rapid.Bool().Draw(t, "recursive triggers") {
		dsn += "&_pragma=recursive_triggers(1)"
	}
	if rapid.IntRange(0, 4).Draw(t, "foreign keys") > 0 {
		dsn += "&_foreign_keys=1"
	}
	c, err := sqlite.NewConnector(dsn)
	if err != nil {
		t.Fatal(err)
	}
	w, err := txscope.Wrap(c, store, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return sql.OpenDB(w), sql.OpenDB(c)
}

// suite adds to what all databases have in common what is SQLite's own.
func suite(open func(*rapid.T, *tokens.Store) (wrapped, bare *sql.DB)) txscopetest.Suite {
	d := txscopetest.SQLite()
	s := txscopetest.Shapes(d)
	s.Open = open

	var numbers, pairs [][]any
	for i := range 40 {
		numbers = append(numbers, []any{i})
	}
	texts := []string{"a", "b", "C", "ü#*", "", "a\x00b"}
	for _, text := range texts {
		for i := range 8 {
			pairs = append(pairs, []any{i, text})
		}
	}
	s.Schema = append(s.Schema,
		`CREATE TABLE staff (id INTEGER PRIMARY KEY, v INT, boss INT REFERENCES staff(id) ON DELETE CASCADE ON UPDATE CASCADE)`,
		`CREATE TABLE "Words" (v INT, word TEXT PRIMARY KEY)`,
		`CREATE TABLE pairs (v INT, who TEXT, grp INT, PRIMARY KEY (grp, who)) WITHOUT ROWID`,
		`CREATE TABLE descending (id INTEGER PRIMARY KEY DESC, v INT)`,
		`CREATE TABLE generated (twice INT GENERATED ALWAYS AS (2 * v), hidden INT AS (v + 1) STORED, id INTEGER, v INT, PRIMARY KEY (id))`,
		`CREATE TRIGGER replaced BEFORE DELETE ON "Words" BEGIN
			UPDATE pairs SET v = v + 100 WHERE who = old.word;
			INSERT INTO plain VALUES (1, old.word);
		END`,
		`CREATE VIEW people AS SELECT id, v FROM staff`,
		`CREATE TRIGGER hired INSTEAD OF INSERT ON people BEGIN
			INSERT INTO staff (id, v) VALUES (new.id, new.v);
			INSERT OR REPLACE INTO products (id, sku, v) VALUES (new.id, new.id + 1, new.v);
		END`,
		`INSERT INTO staff VALUES (0, 1, NULL), (1, 1, 0), (2, 1, 1), (3, 1, 1)`,
		`INSERT INTO "Words" VALUES (1, 'a'), (1, 'C'), (1, 'b')`,
	)
	s.Tables = append(s.Tables,
		txscopetest.Table{Name: "staff", Key: []string{"id"}, Candidates: numbers},
		txscopetest.Table{Name: "Words", Key: []string{"word"}, Candidates: words(texts)},
		txscopetest.Table{Name: "pairs", Key: []string{"grp", "who"}, Candidates: pairs},
		txscopetest.Table{Name: "descending", Key: []string{"id"}, Candidates: numbers},
		txscopetest.Table{Name: "generated", Key: []string{"id"}, Candidates: numbers},
	)
	n, v := txscopetest.Argument(txscopetest.Number), txscopetest.Argument(txscopetest.Value)
	w := func(t *rapid.T) any { return rapid.SampledFrom(texts).Draw(t, "word") }
	do := func(name, text string, args ...txscopetest.Argument) txscopetest.Statement {
		return d.Statement(name, txscopetest.Seen, text, args...)
	}
	inexact := func(name, text string, args ...txscopetest.Argument) txscopetest.Statement {
		return d.Statement(name, txscopetest.Unknown, text, args...)
	}
	s.Statements = append(s.Statements,
		do("insert or fail", `INSERT OR FAIL INTO staff (id, v) VALUES (?, ?), (21, 1), (21, 1)`, n, v),
		do("insert or replace of several", `INSERT OR REPLACE INTO staff (id, v) VALUES (?, ?), (?, ?)`, n, v, n, v),
		do("insert or replace by returning", `REPLACE INTO products (id, sku, v) VALUES (?, ?, ?) RETURNING sku`, n, n, v),
		do("update or replace", `UPDATE OR REPLACE products SET sku = ?, v = ? WHERE id = ?`, n, v, n),
		do("update of a boss", `UPDATE staff SET boss = ?, v = ? WHERE id = ?`, n, v, n),
		do("update of a key down a tree", `UPDATE staff SET id = ?, v = ? WHERE id = ?`, n, v, n),
		do("update of all keys down a tree", `UPDATE staff SET id = id + 8 WHERE id BETWEEN ? AND 7`, n),
		do("delete down a tree", `DELETE FROM staff WHERE id = ?`, n),
		do("word", `INSERT INTO words (word, v) VALUES (?, ?)`, w, v),
		do("word replaced", `REPLACE INTO words (word, v) VALUES (?, ?)`, w, v),
		inexact("word deleted", `DELETE FROM words WHERE word = ?`, w),
		do("without rowid", `REPLACE INTO pairs (v, who, grp) VALUES (?, ?, ?)`, v, w, n),
		do("without rowid update", `UPDATE OR REPLACE pairs SET grp = ?, v = v + ? WHERE grp = ?`, n, v, n),
		do("without rowid delete", `DELETE FROM pairs WHERE who = ?`, w),
		do("without rowid from another", `INSERT OR IGNORE INTO pairs SELECT v, who, grp FROM members`),
		do("descending", `REPLACE INTO descending VALUES (?, ?)`, n, v),
		do("descending update", `UPDATE descending SET v = ? WHERE id = ?`, v, n),
		do("generated", `REPLACE INTO generated (id, v) VALUES (?, ?)`, n, v),
		do("generated update", `UPDATE generated SET v = ? WHERE id > ?`, v, n),
		inexact("through a view", `INSERT INTO people VALUES (?, ?)`, n, v),
		inexact("two statements", `UPDATE users SET v = v + 1 WHERE id = ?; UPDATE words SET v = v + 1 WHERE word = ?`, n, w),
		inexact("two statements, the second failing", `UPDATE users SET v = v + 1 WHERE id = 2; INSERT INTO users (id) VALUES (2), (2)`),
		inexact("a savepoint in a text", `SAVEPOINT mine; UPDATE users SET v = v + 1 WHERE id = 3; ROLLBACK TO mine; UPDATE users SET v = v + 1 WHERE id = 2; RELEASE mine`),
	)
	return s
}

func words(texts []string) (keys [][]any) {
	for _, text := range texts {
		keys = append(keys, []any{text})
	}
	return keys
}
