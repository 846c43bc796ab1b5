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
	for _, mode := range []string{"", "&_pragma=recursive_triggers(1)"} {
		t.Run("mode"+mode, func(t *testing.T) {
			dir := t.TempDir()
			txscopetest.Run(t, suite(func(t *rapid.T, store *tokens.Store) (wrapped, bare *sql.DB) {
				return suiteDatabase(t, dir, mode, store)
			}))
		})
	}
}

func suiteDatabase(t *rapid.T, dir, mode string, store *tokens.Store) (wrapped, bare *sql.DB) {
	f, err := os.CreateTemp(dir, "*.db")
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	dsn := "file:" + filepath.ToSlash(f.Name()) + "?_journal_mode=WAL&_synchronous=OFF&_foreign_keys=1" + mode
	c, err := sqlite.NewConnector(dsn)
	if err != nil {
		t.Fatal(err)
	}
	w, err := txscope.Wrap(c, store)
	if err != nil {
		t.Fatal(err)
	}
	return sql.OpenDB(w), sql.OpenDB(c)
}

func suite(open func(*rapid.T, *tokens.Store) (wrapped, bare *sql.DB)) txscopetest.Suite {
	ints := func(t *rapid.T, name string) int { return rapid.IntRange(0, 7).Draw(t, name) }
	texts := []string{"a", "b", "C", "x/y", "ü#*", "", "a\x00b", "007", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8"}
	text := func(t *rapid.T, name string) string { return rapid.SampledFrom(texts).Draw(t, name) }

	var numbers, names, pairs [][]any
	for i := range 40 {
		numbers = append(numbers, []any{i})
	}
	for _, s := range texts {
		names = append(names, []any{s})
		for i := range 8 {
			pairs = append(pairs, []any{i, s})
		}
	}
	exec := func(name, query string, args ...func(*rapid.T) any) txscopetest.Statement {
		return txscopetest.Statement{Name: name, Draw: func(t *rapid.T) (string, []any) {
			var drawn []any
			for _, arg := range args {
				drawn = append(drawn, arg(t))
			}
			return query, drawn
		}}
	}
	returning := func(name, query string, args ...func(*rapid.T) any) txscopetest.Statement {
		s := exec(name, query, args...)
		s.Rows = true
		return s
	}
	n := func(t *rapid.T) any { return ints(t, "n") }
	s := func(t *rapid.T) any { return text(t, "s") }
	v := func(t *rapid.T) any { return rapid.IntRange(1000, 9999).Draw(t, "v") }

	return txscopetest.Suite{
		Open: open,
		Schema: []string{
			`CREATE TABLE users (id INTEGER PRIMARY KEY, v INT, boss INT REFERENCES users(id) ON DELETE SET NULL ON UPDATE CASCADE)`,
			`CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, user_id INT NOT NULL REFERENCES users(id) ON DELETE CASCADE ON UPDATE CASCADE, v INT)`,
			`CREATE TABLE "Tags" (v INT, tag TEXT PRIMARY KEY)`,
			`CREATE TABLE counters (name TEXT PRIMARY KEY, n INT) WITHOUT ROWID`,
			`CREATE TABLE members (v BLOB, who TEXT, grp INT, PRIMARY KEY (grp, who))`,
			`CREATE TABLE pairs (v INT, who TEXT, grp INT, PRIMARY KEY (grp, who)) WITHOUT ROWID`,
			`CREATE TABLE plain (a INT, b TEXT)`,
			`CREATE TABLE descending (id INTEGER PRIMARY KEY DESC, v INT)`,
			`CREATE TABLE generated (twice INT GENERATED ALWAYS AS (2 * v), hidden INT AS (v + 1) STORED, id INTEGER, v INT, PRIMARY KEY (id))`,
			`CREATE TABLE unique_too (id INTEGER PRIMARY KEY, v INT UNIQUE)`,
			`CREATE TRIGGER tagged AFTER UPDATE ON "Tags" BEGIN
				INSERT INTO counters VALUES (new.tag, 1) ON CONFLICT DO UPDATE SET n = n + 1;
			END`,
			`CREATE TRIGGER untagged BEFORE DELETE ON "Tags" BEGIN
				UPDATE counters SET n = n + 100 WHERE name = old.tag;
				INSERT INTO plain VALUES (1, old.tag);
			END`,
			`CREATE VIEW people AS SELECT id, v FROM users`,
			`CREATE TRIGGER hired INSTEAD OF INSERT ON people BEGIN
				INSERT INTO users (id, v) VALUES (new.id, new.v);
				INSERT OR REPLACE INTO unique_too VALUES (new.id, new.v);
			END`,
			`INSERT INTO users (id, v) VALUES (0, 1), (1, 1), (2, 1), (3, 1)`,
			`INSERT INTO orders (user_id, v) VALUES (1, 1), (1, 2), (2, 3)`,
			`INSERT INTO "Tags" VALUES (1, 'a'), (1, 'C'), (1, '007')`,
		},
		Tables: []txscopetest.Table{
			{Name: "users", Key: []string{"id"}, Candidates: numbers},
			{Name: "orders", Key: []string{"id"}, Candidates: numbers},
			{Name: "Tags", Key: []string{"tag"}, Candidates: names},
			{Name: "counters", Key: []string{"name"}, Candidates: names},
			{Name: "members", Key: []string{"grp", "who"}, Candidates: pairs},
			{Name: "pairs", Key: []string{"grp", "who"}, Candidates: pairs},
			{Name: "plain"},
			{Name: "descending", Key: []string{"id"}, Candidates: numbers},
			{Name: "generated", Key: []string{"id"}, Candidates: numbers},
			{Name: "unique_too", Key: []string{"id"}, Candidates: numbers},
		},
		Statements: []txscopetest.Statement{
			exec("insert", `INSERT INTO users (id, v) VALUES (?, ?)`, n, v),
			exec("insert without key", `INSERT INTO users (v) VALUES (?)`, v),
			exec("insert several, failing in the middle", `INSERT INTO users (id, v) VALUES (?, ?), (20, 1), (20, 1)`, n, v),
			exec("insert or fail", `INSERT OR FAIL INTO users (id, v) VALUES (?, ?), (21, 1), (21, 1)`, n, v),
			exec("insert or ignore", `INSERT OR IGNORE INTO "Tags" (tag, v) VALUES (?, ?), (?, ?)`, s, v, s, v),
			exec("update", `UPDATE users SET v = ? WHERE id = ?`, v, n),
			exec("update of several", `UPDATE users SET v = ? WHERE id > ?`, v, n),
			exec("update of the boss", `UPDATE users SET boss = ? WHERE id = ?`, n, n),
			exec("update of the key", `UPDATE users SET id = ? WHERE id = ?`, n, n),
			exec("update of all keys", `UPDATE users SET id = id + 8 WHERE id BETWEEN ? AND 7`, n),
			exec("update from", `UPDATE users SET v = orders.v + ? FROM orders WHERE orders.user_id = users.id`, v),
			exec("delete", `DELETE FROM users WHERE id = ?`, n),
			exec("delete of all", `DELETE FROM orders`),
			exec("delete of all from without a key", `DELETE FROM plain`),
			exec("insert of a child", `INSERT INTO orders (user_id, v) VALUES (?, ?)`, n, v),
			exec("insert select", `INSERT INTO orders (user_id, v) SELECT id, v FROM users WHERE id > ?`, n),
			exec("upsert", `INSERT INTO users (id, v) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET v = excluded.v`, n, v),
			exec("replace", `REPLACE INTO users (id, v) VALUES (?, ?)`, n, v),
			exec("replace by another key", `REPLACE INTO unique_too VALUES (?, ?)`, n, n),
			exec("update or replace", `UPDATE OR REPLACE unique_too SET v = ? WHERE id = ?`, n, n),
			exec("text key", `INSERT INTO "Tags" (tag, v) VALUES (?, ?)`, s, v),
			exec("text key update", `UPDATE tags SET v = ?`, v),
			exec("text key of text key", `UPDATE tags SET tag = ? WHERE tag = ?`, s, s),
			exec("text key delete", `DELETE FROM tags WHERE tag = ?`, s),
			exec("composite", `REPLACE INTO members (v, who, grp) VALUES (?, ?, ?)`, v, s, n),
			exec("composite update", `UPDATE members SET grp = ? WHERE who = ?`, n, s),
			exec("composite delete", `DELETE FROM members WHERE grp > ?`, n),
			exec("without rowid", `REPLACE INTO pairs (v, who, grp) VALUES (?, ?, ?)`, v, s, n),
			exec("without rowid update", `UPDATE OR REPLACE pairs SET grp = ? WHERE grp = ?`, n, n),
			exec("without rowid delete", `DELETE FROM pairs WHERE who = ?`, s),
			exec("without rowid from another", `INSERT OR IGNORE INTO pairs SELECT v, who, grp FROM members`),
			exec("without a key", `INSERT INTO plain VALUES (?, ?)`, n, s),
			exec("without a key update", `UPDATE plain SET a = ? WHERE b = ?`, v, s),
			exec("descending", `REPLACE INTO descending VALUES (?, ?)`, n, v),
			exec("descending update", `UPDATE descending SET v = ? WHERE id = ?`, v, n),
			exec("generated", `REPLACE INTO generated (id, v) VALUES (?, ?)`, n, v),
			exec("generated update", `UPDATE generated SET v = ? WHERE id > ?`, v, n),
			exec("through a view", `INSERT INTO people VALUES (?, ?)`, n, v),
			exec("two statements", `UPDATE users SET v = v + 1 WHERE id = 1; UPDATE tags SET v = v + 1 WHERE tag = 'a'`),
			exec("two statements, the second failing", `UPDATE users SET v = v + 1 WHERE id = 2; INSERT INTO users (id) VALUES (2), (2)`),
			exec("a savepoint in a text", `SAVEPOINT mine; UPDATE users SET v = v + 1 WHERE id = 3; ROLLBACK TO mine; UPDATE users SET v = v + 1 WHERE id = 2; RELEASE mine`),
			exec("nothing", `UPDATE users SET v = 1 WHERE id = 99`),
			returning("insert returning", `INSERT INTO orders (user_id, v) VALUES (?, ?), (1, 1), (2, 2) RETURNING id`, n, v),
			returning("update returning", `UPDATE users SET v = ? WHERE id > ? RETURNING id, v`, v, n),
			returning("delete returning", `DELETE FROM users WHERE id = ? RETURNING id`, n),
			returning("select", `SELECT * FROM users WHERE id > ?`, n),
		},
	}
}
