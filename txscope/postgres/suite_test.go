package postgres_test

import (
	"database/sql"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"pgregory.net/rapid"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/txscopetest"
)

// TestSuite runs the suite by default, and in the modes that pgx has for servers behind a pooler.
func TestSuite(t *testing.T) {
	for _, mode := range []string{"", "exec", "simple_protocol"} {
		t.Run("mode="+mode, func(t *testing.T) {
			txscopetest.Fewer(t)
			s := suite()
			s.Open = suiteDatabases(t, mode)
			if mode != "" {
				s.Statements = append(s.Statements, widening()...)
			}
			txscopetest.Run(t, s)
		})
	}
}

func TestSuiteTouch(t *testing.T) {
	txscopetest.Fewer(t)
	t.Run("parents", func(t *testing.T) {
		s := suite()
		s.Open = suiteDatabases(t, "", txscope.Touch())
		s.TouchParents = true
		txscopetest.Run(t, s)
	})
	t.Run("ancestors", func(t *testing.T) {
		s := suite()
		s.Open = suiteDatabases(t, "", txscope.Touch(), txscope.TouchAncestors())
		s.TouchParents, s.TouchAncestors = true, true
		txscopetest.Run(t, s)
	})
}

// suiteDatabases makes one database, which is emptied for every check.
func suiteDatabases(t *testing.T, mode string, opts ...txscope.Option) func(*rapid.T, *tokens.Store) (wrapped, bare *sql.DB) {
	dsn := server.Get(t).Database(t)
	config, err := pgx.ParseConfig(dsn + "&default_query_exec_mode=" + mode)
	if mode == "" {
		config, err = pgx.ParseConfig(dsn)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func(t *rapid.T, store *tokens.Store) (wrapped, bare *sql.DB) {
		c := stdlib.GetConnector(*config)
		bare = sql.OpenDB(c)
		if _, err := bare.Exec(`DROP SCHEMA IF EXISTS archive CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public`); err != nil {
			t.Fatal(err)
		}
		w, err := txscope.Wrap(c, store, opts...)
		if err != nil {
			t.Fatal(err)
		}
		return sql.OpenDB(w), bare
	}
}

// suite adds to what all databases have in common what is PostgreSQL's own.
func suite() txscopetest.Suite {
	d := txscopetest.Postgres()
	d.Exact = func(name string, g txscopetest.Grade) bool {
		switch name {
		case "insert returning something else", "update that fails in the middle":
			return false // rows are told by what is returned, and the key is not
		}
		return g <= txscopetest.Returned
	}
	s := txscopetest.Shapes(d)
	s.Statements = slices.DeleteFunc(s.Statements, isWidening)
	s.Refuses = func(err error) bool { return code(err) == "23503" }

	var numbers, words, pairs [][]any
	for i := range 120 {
		numbers = append(numbers, []any{i})
	}
	for _, w := range []string{"a", "b", "C", "x/y", "", "it's"} {
		words = append(words, []any{w})
		for i := range 8 {
			pairs = append(pairs, []any{i, w})
		}
	}
	s.Schema = append(s.Schema,
		`CREATE TABLE stamped (id int PRIMARY KEY, v int, updated_at timestamptz)`,
		`CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$`,
		`CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION stamp()`,
		`CREATE TABLE shifted (id int PRIMARY KEY, v int)`,
		`CREATE FUNCTION shift() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.v % 2 = 0 THEN NEW.id := NEW.id + 8; END IF; RETURN NEW; END $$`,
		`CREATE TRIGGER shift BEFORE INSERT OR UPDATE ON shifted FOR EACH ROW EXECUTE FUNCTION shift()`,
		`CREATE VIEW offers AS SELECT p.id, p.v, n.id AS note FROM products p LEFT JOIN notes n ON n.sku = p.sku`,
		`CREATE FUNCTION offer() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO products (id, v) VALUES (NEW.id, NEW.v); UPDATE plain SET a = NEW.v; RETURN NEW; END $$`,
		`CREATE TRIGGER offer INSTEAD OF INSERT ON offers FOR EACH ROW EXECUTE FUNCTION offer()`,
		`CREATE TABLE ruled (id int PRIMARY KEY, v int)`,
		`CREATE RULE logged AS ON UPDATE TO ruled DO ALSO INSERT INTO journal VALUES ('ruled', NEW.v)`,
		`CREATE RULE kept AS ON DELETE TO ruled DO INSTEAD UPDATE ruled SET v = v + 1 WHERE id = OLD.id`,
		`CREATE TABLE parted (id int, v int, PRIMARY KEY (id)) PARTITION BY RANGE (id)`,
		`CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (4)`,
		`CREATE TABLE parted_high (v int, id int NOT NULL)`,
		`ALTER TABLE parted ATTACH PARTITION parted_high FOR VALUES FROM (4) TO (1000)`,
		`CREATE TABLE base (id int PRIMARY KEY, v int)`,
		`CREATE TABLE derived (PRIMARY KEY (id)) INHERITS (base)`,
		`CREATE SCHEMA archive`,
		`CREATE TABLE archive.users (id int PRIMARY KEY, v int)`,
		`CREATE TYPE mood AS ENUM ('a', 'b', 'C', 'x/y', '', 'it''s')`,
		`CREATE DOMAIN small AS int CHECK (VALUE < 100)`,
		`CREATE TABLE moods (id mood PRIMARY KEY, v int)`,
		`CREATE TABLE domains (a small, b text, v int, PRIMARY KEY (a, b))`,
		`CREATE TABLE numerics (id numeric PRIMARY KEY, v int)`,
		`CREATE TABLE parents (id int PRIMARY KEY, children int DEFAULT 0, v int)`,
		`CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, v int)`,
		`CREATE FUNCTION count_children() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE parents SET children = children + 1 WHERE id = NEW.parent; RETURN NULL; END $$`,
		`CREATE CONSTRAINT TRIGGER counted AFTER INSERT ON children DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION count_children()`,
		`CREATE FUNCTION write_note(n int, x int) RETURNS int LANGUAGE sql AS $$ UPDATE notes SET v = x WHERE id = n RETURNING v $$`,
		`CREATE FUNCTION write_any(t text, x int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('UPDATE %I SET v = $1', t) USING x; RETURN x; END $$`,
		`CREATE FUNCTION write_later(x int) RETURNS int STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN write_note(1, x); END $$`,
		`CREATE FUNCTION write_atomic(x int) RETURNS void LANGUAGE sql BEGIN ATOMIC UPDATE parted SET v = x WHERE id > 2; END`,
		`CREATE FUNCTION twice(x int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 2 * x; END $$`,
		`CREATE VIEW writing AS SELECT id, write_note(id, 1) AS v FROM users`,
		`CREATE TABLE defaulted (id int PRIMARY KEY, v int DEFAULT write_note(2, 17))`,
		`CREATE PROCEDURE proceed(x int) LANGUAGE plpgsql AS $$ BEGIN UPDATE plain SET a = x; UPDATE archive.users SET v = x; END $$`,
		`CREATE PROCEDURE proceed_and_commit(x int) LANGUAGE plpgsql AS $$ BEGIN UPDATE plain SET a = x; COMMIT; UPDATE archive.users SET v = x; END $$`,
		`INSERT INTO stamped VALUES (1, 1), (2, 1)`,
		`INSERT INTO shifted VALUES (1, 1), (2, 1), (3, 1)`,
		`INSERT INTO ruled VALUES (1, 1), (2, 1)`,
		`INSERT INTO parted VALUES (1, 1), (2, 1), (5, 1), (6, 1)`,
		`INSERT INTO base VALUES (1, 1), (2, 1)`,
		`INSERT INTO derived VALUES (2, 1), (3, 1)`,
		`INSERT INTO archive.users VALUES (1, 1), (2, 1)`,
		`INSERT INTO moods VALUES ('a', 1), ('x/y', 1)`,
		`INSERT INTO domains VALUES (1, 'a', 1), (1, 'b', 1), (2, 'a', 1)`,
		`INSERT INTO numerics VALUES (1, 1), (2.0, 1)`,
		`INSERT INTO parents VALUES (1, 0, 1), (2, 0, 1)`,
		`INSERT INTO children VALUES (1, 1, 1), (2, 1, 1)`,
	)
	s.Tables = append(s.Tables,
		txscopetest.Table{Name: "stamped", Key: []string{"id"}, Candidates: numbers},
		txscopetest.Table{Name: "shifted", Key: []string{"id"}, Candidates: numbers},
		txscopetest.Table{Name: "ruled", Key: []string{"id"}, Candidates: numbers},
		txscopetest.Table{Name: "parted", Key: []string{"id"}, Candidates: numbers},
		txscopetest.Table{Name: "base"},
		txscopetest.Table{Name: "derived", Key: []string{"id"}, Candidates: numbers},
		txscopetest.Table{Name: "archive.users", Key: []string{"id"}, Candidates: numbers},
		txscopetest.Table{Name: "moods", Key: []string{"id"}, Candidates: words},
		txscopetest.Table{Name: "domains", Key: []string{"a", "b"}, Candidates: pairs},
		txscopetest.Table{Name: "numerics"},
		txscopetest.Table{Name: "parents", Key: []string{"id"}, Candidates: numbers},
		txscopetest.Table{Name: "children", Key: []string{"id"}, Candidates: numbers},
		txscopetest.Table{Name: "defaulted", Key: []string{"id"}, Candidates: numbers},
	)
	s.Foreign = append(s.Foreign, txscopetest.Foreign{Child: "children", Columns: []string{"parent"}, Parent: "parents"})

	n, v, w := txscopetest.Argument(txscopetest.Number), txscopetest.Argument(txscopetest.Value), txscopetest.Argument(txscopetest.Word)
	do, query := d.Statement, d.Query
	s.Statements = append(s.Statements,
		do("update with a trigger that stamps", txscopetest.ByKey, `UPDATE stamped SET v = ? WHERE id = ?`, v, n),
		do("upsert with a trigger that stamps", txscopetest.ByKey, `INSERT INTO stamped VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET v = excluded.v`, n, v),
		do("update with a trigger that changes keys", txscopetest.Seen, `UPDATE shifted SET v = ? WHERE id = ?`, v, n),
		do("insert with a trigger that changes keys", txscopetest.Returned, `INSERT INTO shifted VALUES (?, ?)`, n, v),
		do("insert through a trigger of a view", txscopetest.Unknown, `INSERT INTO offers (id, v) VALUES (?, ?)`, n, v),
		do("update with a rule", txscopetest.Unknown, `UPDATE ruled SET v = ? WHERE id = ?`, v, n),
		do("delete with a rule instead", txscopetest.Unknown, `DELETE FROM ruled WHERE id = ?`, n),
		do("insert with rules for others", txscopetest.Unknown, `INSERT INTO ruled VALUES (?, ?)`, n, v),
		do("partitioned", txscopetest.ByKey, `UPDATE parted SET v = ? WHERE id = ?`, v, n),
		do("partitioned, by range", txscopetest.Returned, `UPDATE parted SET v = ? WHERE id > ?`, v, n),
		do("partitioned, moved", txscopetest.Seen, `UPDATE parted SET id = id + 4, v = ? WHERE id = ?`, v, n),
		do("insert into partitions", txscopetest.ByKey, `INSERT INTO parted VALUES (?, ?)`, n, v),
		do("a partition", txscopetest.ByKey, `UPDATE parted_high SET v = ? WHERE id = ?`, v, n),
		do("truncate of a partition", txscopetest.Unknown, `TRUNCATE parted_low`),
		do("parent by inheritance", txscopetest.Unknown, `UPDATE base SET v = ? WHERE id = ?`, v, n),
		do("only the parent", txscopetest.Unknown, `UPDATE ONLY base SET v = ? WHERE id = ?`, v, n),
		do("child by inheritance", txscopetest.Unknown, `UPDATE derived SET v = ? WHERE id = ?`, v, n),
		do("another schema", txscopetest.ByKey, `UPDATE archive.users SET v = ? WHERE id = ?`, v, n),
		do("another schema, all", txscopetest.Returned, `UPDATE "archive"."users" AS x SET v = ?`, v),
		do("enum", txscopetest.Returned, `UPDATE moods SET v = ? WHERE id <> 'a'`, v),
		do("domain", txscopetest.Returned, `UPDATE domains SET v = ? WHERE a = ?`, v, n),
		do("domain and text", txscopetest.Returned, `INSERT INTO domains VALUES (?, ?, ?)`, n, w, v),
		do("numeric", txscopetest.Unknown, `UPDATE numerics SET v = ? WHERE id = ?`, v, n),
		do("deferred trigger", txscopetest.Seen, `INSERT INTO children VALUES (?, ?, ?)`, n, n, v),
		do("deferred constraint", txscopetest.Seen, `UPDATE children SET parent = ?, v = ? WHERE id = ?`, n, v, n),
		do("deferred constraint of parents", txscopetest.Seen, `DELETE FROM parents WHERE id = ?`, n),
		do("default with a function", txscopetest.Seen, `INSERT INTO defaulted (id) VALUES (?)`, n),
		query("function", txscopetest.Seen, `SELECT write_note(?, ?)`, n, v),
		query("function in a condition", txscopetest.Seen, `SELECT * FROM users WHERE write_note(id, ?) IS NULL`, v),
		query("function by a stable one", txscopetest.Seen, `SELECT write_later(?)`, v),
		query("function with a parsed body", txscopetest.Seen, `SELECT write_atomic(?)`, v),
		query("function with dynamic SQL", txscopetest.Unknown, `SELECT write_any('tags', ?)`, v),
		query("view with a function", txscopetest.Seen, `SELECT * FROM writing WHERE id = ?`, n),
		query("function that writes nothing", txscopetest.ByKey, `SELECT twice(?)`, n),
		do("function that writes nothing in a write", txscopetest.ByKey, `UPDATE users SET v = twice(?) WHERE id = ?`, v, n),
		do("do", txscopetest.Unknown, `DO $$ BEGIN UPDATE notes SET v = v + 1; DELETE FROM plain; END $$`),
		do("do with dynamic SQL", txscopetest.Unknown, `DO $$ BEGIN EXECUTE 'UPDATE ' || 'domains SET v = v + 1'; END $$`),
		do("call", txscopetest.Unknown, `CALL proceed(?)`, v),
		do("several", txscopetest.Unknown, `UPDATE users SET v = v + 1 WHERE id = 1; DELETE FROM notes WHERE id = 2`),
		do("several with a savepoint", txscopetest.Unknown, `SAVEPOINT inner_one; UPDATE users SET v = v + 1 WHERE id = 3; ROLLBACK TO inner_one; UPDATE users SET v = v + 1 WHERE id = 2; RELEASE inner_one`),
		do("explain analyze", txscopetest.Unknown, `EXPLAIN ANALYZE UPDATE users SET v = v + ?`, v),
		do("select into", txscopetest.Unknown, `CREATE TABLE later AS SELECT * FROM users`),
		do("truncate with what refers to it", txscopetest.Unknown, `TRUNCATE parents CASCADE`),
		do("constraints at once", txscopetest.Unknown, `SET CONSTRAINTS ALL IMMEDIATE`),
		do("lock", txscopetest.Unknown, `LOCK TABLE tags IN ROW EXCLUSIVE MODE`),
		do("function replaced", txscopetest.Unknown, `CREATE OR REPLACE FUNCTION twice(x int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN UPDATE plain SET a = x; RETURN 2 * x; END $$`),
		do("function restored", txscopetest.Unknown, `CREATE OR REPLACE FUNCTION twice(x int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 2 * x; END $$`),
	)
	return s
}

// isWidening reports whether a statement gives a table another column. After it pgx, by default, fails
// once to read all columns of the table by a statement that it has prepared.
func isWidening(s txscopetest.Statement) bool { return s.Name == "add a column" }

func widening() []txscopetest.Statement {
	all := txscopetest.Shapes(txscopetest.Postgres()).Statements
	return slices.DeleteFunc(all, func(s txscopetest.Statement) bool { return !isWidening(s) })
}
