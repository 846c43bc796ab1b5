package sqlite_test

import (
	"database/sql/driver"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

func TestTouch(t *testing.T) {
	p, c := tokens.Table("p"), tokens.Table("c")
	parent := func(key ...any) tokens.ID { return tokens.Row("p", key...) }
	child := func(key ...any) tokens.ID { return tokens.Row("c", key...) }
	const integers = `CREATE TABLE p (id INTEGER PRIMARY KEY, v INT); CREATE TABLE c (id INTEGER PRIMARY KEY, p INT REFERENCES p, v INT);
		INSERT INTO p VALUES (1, 0), (2, 0), (3, 0); INSERT INTO c VALUES (11, 1, 0), (12, 2, 0), (13, NULL, 0);`
	for _, test := range []struct {
		name  string
		setUp string
		run   string
		want  []tokens.ID
		not   []tokens.ID
	}{
		{"insert", integers, `INSERT INTO c (p) VALUES (2)`, ids(child(14), parent(2)), ids(parent(1))},
		{"delete", integers, `DELETE FROM c WHERE id = 11`, ids(child(11), parent(1)), ids(parent(2))},
		{"change", integers, `UPDATE c SET v = 1 WHERE id = 11`, ids(child(11), parent(1)), ids(parent(2))},
		{"move", integers, `UPDATE c SET p = 2 WHERE id = 11`, ids(child(11), parent(1), parent(2)), ids(parent(3))},
		{"adopt", integers, `UPDATE c SET p = 3 WHERE id = 13`, ids(child(13), parent(3)), ids(parent(1))},
		{"leave", integers, `UPDATE c SET p = NULL WHERE id = 12`, ids(child(12), parent(2)), ids(parent(1))},
		{"none", integers, `UPDATE c SET v = 1 WHERE id = 13`, ids(child(13)), ids(parent(1), parent(2), p)},
		{"replace", integers, `REPLACE INTO c VALUES (11, 2, 0)`, ids(child(11), parent(1), parent(2)), ids(parent(3))},
		{"many rows of few parents", integers, `WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i+1 FROM n WHERE i < 3000) INSERT INTO c SELECT i, CASE WHEN i < 2999 THEN 1 ELSE 2 END, 0 FROM n`,
			ids(c, parent(1), parent(2)), ids(parent(3))},
		{"by a trigger", integers + `CREATE TRIGGER t AFTER UPDATE ON users BEGIN UPDATE c SET v = v + 1 WHERE id = 12; END`, `UPDATE users SET name = 'z' WHERE id = 1`,
			ids(user(1), child(12), parent(2)), ids(parent(1))},
		{"set null by a cascade", `CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE q (id INTEGER PRIMARY KEY);
			CREATE TABLE c (id INTEGER PRIMARY KEY, p INT REFERENCES p, q INT REFERENCES q ON DELETE SET NULL); INSERT INTO p VALUES (1), (2); INSERT INTO q VALUES (5); INSERT INTO c VALUES (7, 1, 5)`,
			`DELETE FROM q`, ids(tokens.Row("q", 5), child(7), parent(1)), ids(parent(2))},
		{"name in other letters", `CREATE TABLE p ("Id" INTEGER PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, "The Parent" INT REFERENCES "P"(ID)); INSERT INTO p VALUES (1), (2)`,
			`INSERT INTO c VALUES (7, 2)`, ids(child(7), parent(2)), ids(parent(1))},
		{"text for an integer", `CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p TEXT REFERENCES p); INSERT INTO p VALUES (1), (7)`,
			`INSERT INTO c VALUES (1, ' 007 ')`, ids(child(1), parent(7)), ids(parent(1))},
		{"integer for a text", `CREATE TABLE p (id TEXT PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p INT REFERENCES p); INSERT INTO p VALUES ('1'), ('7')`,
			`INSERT INTO c VALUES (1, 7)`, ids(child(1), parent("7")), ids(parent("1"))},
		{"what is no integer", `CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p TEXT REFERENCES p); INSERT INTO p VALUES (1), (7)`,
			`INSERT INTO c VALUES (1, '7.0')`, ids(child(1), p), nil},
		{"float for an integer", `CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p REAL REFERENCES p); INSERT INTO p VALUES (7)`,
			`INSERT INTO c VALUES (1, 7)`, ids(child(1), p), nil},
		{"another collation", `CREATE TABLE p (id TEXT COLLATE NOCASE PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p TEXT REFERENCES p); INSERT INTO p VALUES ('A')`,
			`INSERT INTO c VALUES (1, 'a')`, ids(child(1), p), nil},
		{"no affinity", `CREATE TABLE p (id PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p REFERENCES p); INSERT INTO p VALUES (x'00ff'), ('t'), (7)`,
			`INSERT INTO c VALUES (1, x'00ff'), (2, 't'), (3, 7)`, ids(child(1), child(2), child(3), parent([]byte{0, 255}), parent("t"), parent(7)), ids(parent(1))},
		{"strict and any", `CREATE TABLE p (id ANY PRIMARY KEY) STRICT; CREATE TABLE c (id INTEGER PRIMARY KEY, p ANY REFERENCES p) STRICT; INSERT INTO p VALUES ('007')`,
			`INSERT INTO c VALUES (1, '007')`, ids(child(1), p), nil},
		{"spelled otherwise by Go", `CREATE TABLE p (id TEXT PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p TEXT REFERENCES p); INSERT INTO p VALUES ('007')`,
			`INSERT INTO c VALUES (1, '007')`, ids(child(1), parent("007"), parent(7)), ids(parent(1))},
		{"composite", `CREATE TABLE p (a INT, b TEXT, PRIMARY KEY (b, a)); CREATE TABLE c (id INTEGER PRIMARY KEY, a INT, b TEXT, FOREIGN KEY (a, b) REFERENCES p(a, b)); INSERT INTO p VALUES (1, 'x'), (2, 'y')`,
			`INSERT INTO c VALUES (1, 1, 'x')`, ids(child(1), parent("x", 1)), ids(parent("y", 2), parent(1, "x"))},
		{"composite by position", `CREATE TABLE p (a INT, b TEXT, PRIMARY KEY (b, a)) WITHOUT ROWID; CREATE TABLE c (id INTEGER PRIMARY KEY, x TEXT, y INT, FOREIGN KEY (x, y) REFERENCES p); INSERT INTO p VALUES (1, 'x')`,
			`INSERT INTO c VALUES (1, 'x', 1)`, ids(child(1), parent("x", 1)), ids(parent("y", 2))},
		{"composite with a NULL", `CREATE TABLE p (a INT, b TEXT, PRIMARY KEY (b, a)); CREATE TABLE c (id INTEGER PRIMARY KEY, a INT, b TEXT, FOREIGN KEY (a, b) REFERENCES p(a, b)); INSERT INTO p VALUES (1, 'x')`,
			`INSERT INTO c VALUES (1, NULL, 'x')`, ids(child(1)), ids(parent("x", 1), p)},
		{"other columns", `CREATE TABLE p (id INTEGER PRIMARY KEY, code TEXT UNIQUE); CREATE TABLE c (id INTEGER PRIMARY KEY, code TEXT REFERENCES p(code)); INSERT INTO p VALUES (1, 'x')`,
			`INSERT INTO c VALUES (1, 'x')`, ids(child(1), p), nil},
		{"other columns, NULL", `CREATE TABLE p (id INTEGER PRIMARY KEY, code TEXT UNIQUE); CREATE TABLE c (id INTEGER PRIMARY KEY, code TEXT REFERENCES p(code)); INSERT INTO p VALUES (1, 'x')`,
			`INSERT INTO c VALUES (1, NULL)`, ids(child(1)), ids(p)},
		{"two keys", `CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE q (id INTEGER PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p INT REFERENCES p, q INT REFERENCES q); INSERT INTO p VALUES (1); INSERT INTO q VALUES (1)`,
			`INSERT INTO c VALUES (1, 1, 1)`, ids(child(1), parent(1), tokens.Row("q", 1)), ids(parent(2))},
		{"to itself", ``, `INSERT INTO users (id, boss) VALUES (4, 2)`, ids(user(4), user(2)), ids(user(1))},
		{"child without a key", `CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p INT REFERENCES p); INSERT INTO p VALUES (1)`,
			`INSERT INTO c VALUES (1)`, ids(c, parent(1)), ids(parent(2))},
		{"drop", integers, `DROP TABLE c`, ids(c, p), nil},
		{"add a column", integers, `ALTER TABLE c ADD COLUMN w INT DEFAULT 1`, ids(c, p), nil},
		{"made in the same text", ``, `BEGIN; CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p INT REFERENCES p); INSERT INTO p VALUES (1); INSERT INTO c VALUES (1); COMMIT`, ids(tokens.Global), nil},
		{"temporary", `CREATE TABLE p (id INTEGER PRIMARY KEY); INSERT INTO p VALUES (1)`, `CREATE TEMP TABLE c (id INTEGER PRIMARY KEY, p INT REFERENCES p)`, ids(c), ids(parent(1))},
		{"truncated text", `CREATE TABLE p (id TEXT PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p TEXT REFERENCES p); INSERT INTO p VALUES ('a' || char(0) || 'b'), ('a')`,
			`INSERT INTO c VALUES (1, 'a' || char(0) || 'b')`, ids(child(1), parent("a\x00b")), ids(parent("a"))},
	} {
		for _, enforced := range []string{"1", "0"} {
			if enforced == "0" && strings.Contains(test.name, "cascade") {
				continue // there are none
			}
			t.Run(test.name+", enforced: "+enforced, func(t *testing.T) {
				f := setUpFile(t, filepath.Join(t.TempDir(), "test.db")+options, txscope.Touch())
				f.db.SetMaxOpenConns(1)
				f.exec(test.setUp)
				f.exec(`PRAGMA foreign_keys = ` + enforced)
				f.changes(func() { f.exec(test.run) }, test.want, test.not...)
			})
		}
	}
}

// tree makes three generations: 1 above 11 and 12 above 111, 112 and 121.
const tree = `CREATE TABLE a (id INTEGER PRIMARY KEY, v INT);
	CREATE TABLE b (id INTEGER PRIMARY KEY, a INT REFERENCES a, at DATETIME);
	CREATE TABLE c (id INTEGER PRIMARY KEY, b INT REFERENCES b, v INT);
	INSERT INTO a VALUES (1, 0), (2, 0); INSERT INTO b (id, a) VALUES (11, 1), (12, 1), (21, 2);
	INSERT INTO c VALUES (111, 11, 0), (121, 12, 0), (211, 21, 0);`

func TestTouchTables(t *testing.T) {
	a := func(n int) tokens.ID { return tokens.Row("a", n) }
	b := func(n int) tokens.ID { return tokens.Row("b", n) }
	c := func(n int) tokens.ID { return tokens.Row("c", n) }
	all := ids(a(1), a(2), b(11), b(12), b(21), c(111), c(121), c(211))
	for _, test := range []struct {
		name string
		opts []txscope.Option
		run  string
		want []tokens.ID
	}{
		{"none", nil, `UPDATE c SET v = 1 WHERE id = 111`, ids(c(111))},
		{"parents only", []txscope.Option{txscope.Touch()}, `UPDATE c SET v = 1 WHERE id = 111`, ids(c(111), b(11))},
		{"of one table", []txscope.Option{txscope.TouchTables("C")}, `UPDATE c SET v = 1 WHERE id = 111`, ids(c(111), b(11))},
		{"of another table", []txscope.Option{txscope.TouchTables("b")}, `UPDATE c SET v = 1 WHERE id = 111`, ids(c(111))},
		{"all above", []txscope.Option{txscope.Touch(), txscope.TouchAncestors()}, `UPDATE c SET v = 1 WHERE id = 111`, ids(c(111), b(11), a(1))},
		{"above of one table only", []txscope.Option{txscope.TouchTables("c"), txscope.TouchAncestors()}, `UPDATE c SET v = 1 WHERE id = 111`, ids(c(111), b(11))},
		{"above of both tables", []txscope.Option{txscope.TouchTables("c", "b"), txscope.TouchAncestors()}, `UPDATE c SET v = 1 WHERE id = 111`, ids(c(111), b(11), a(1))},
		{"above old and new", []txscope.Option{txscope.Touch(), txscope.TouchAncestors()}, `UPDATE c SET b = 21 WHERE id = 111`, ids(c(111), b(11), b(21), a(1), a(2))},
		{"the middle moves, then the child", []txscope.Option{txscope.Touch(), txscope.TouchAncestors()}, `UPDATE b SET a = 2 WHERE id = 11; UPDATE c SET v = 1 WHERE id = 111`, ids(c(111), b(11), a(1), a(2))},
		{"the child, then the middle moves", []txscope.Option{txscope.Touch(), txscope.TouchAncestors()}, `UPDATE c SET v = 1 WHERE id = 111; UPDATE b SET a = 2 WHERE id = 11`, ids(c(111), b(11), a(1), a(2))},
		{"the middle goes", []txscope.Option{txscope.Touch(), txscope.TouchAncestors()}, `DELETE FROM c WHERE id = 111; DELETE FROM b WHERE id = 11`, ids(c(111), b(11), a(1))},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := setUp(t, test.opts...)
			f.exec(tree)
			f.changes(func() {
				tx, err := f.db.BeginTx(f.ctx, nil)
				f.must(err)
				f.execOn(tx, test.run)
				f.must(tx.Commit())
			}, test.want, all...)
			f.changes(func() { // by text, on one connection
				conn := f.conn()
				f.execOn(conn, `BEGIN`)
				f.execOn(conn, `UPDATE c SET v = v + 1 WHERE id = 211`)
				f.execOn(conn, `ROLLBACK`)
				f.must(conn.Close())
			}, nil, all...)
		})
	}
}

// What commits by itself has no moment in which somebody could be asked.
func TestAncestorsAreSweptOutsideOfATransaction(t *testing.T) {
	f := setUp(t, txscope.Touch(), txscope.TouchAncestors())
	f.exec(tree)
	b := func(n int) tokens.ID { return tokens.Row("b", n) }
	f.changes(func() { f.exec(`UPDATE c SET v = 1 WHERE id = 111`) }, ids(tokens.Row("c", 111), b(11), tokens.Table("a")), b(12))
	f.changes(func() { f.exec(`UPDATE b SET a = 2 WHERE id = 11`) }, ids(b(11), tokens.Row("a", 1), tokens.Row("a", 2)), b(12))
	f.changes(func() { f.exec(`BEGIN; UPDATE c SET v = 1 WHERE id = 111; COMMIT`) }, ids(tokens.Row("c", 111), b(11), tokens.Table("a")), b(12))
	f.changes(func() { f.exec(`UPDATE users SET name = 'z' WHERE id = 1`) }, ids(user(1)), tokens.Row("a", 1))
}

// Who reads a parent in a transaction that is rolled back has seen the child in it.
func TestTouchedAndRolledBack(t *testing.T) {
	f := setUp(t, txscope.Touch(), txscope.TouchAncestors())
	f.exec(tree)
	ctx, scope := txscope.OpenScope(f.ctx, f.Store)
	a, b := tokens.Row("a", 1), tokens.Row("b", 11)
	f.Backend.Ops()
	tx, err := f.db.BeginTx(ctx, nil)
	f.must(err)
	f.execOn(tx, `UPDATE c SET v = 1 WHERE id = 111`)
	if scope.Usable(b) || scope.Usable(a) {
		t.Error("what the open transaction touches is usable in it")
	}
	f.must(tx.Rollback())
	if scope.Storable(a) || scope.Storable(b) {
		t.Error("what was touched and rolled back can be stored")
	}
	if ops := f.Backend.Ops(); len(ops) > 0 {
		t.Errorf("a rollback has asked the store for %v", ops)
	}
}

// A table whose rows are too many to ask for their parents one by one sweeps those.
func TestTooManyAncestors(t *testing.T) {
	f := setUp(t, txscope.Touch(), txscope.TouchAncestors())
	f.exec(tree)
	f.exec(`WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i+1 FROM n WHERE i < 3000) INSERT INTO b (id, a) SELECT i, 2 FROM n`)
	f.changes(func() {
		tx, err := f.db.BeginTx(f.ctx, nil)
		f.must(err)
		f.execOn(tx, `INSERT INTO c (b) SELECT id FROM b WHERE id >= 1000`)
		f.must(tx.Commit())
	}, ids(tokens.Table("a"), tokens.Table("b"), tokens.Table("c")))
}

// The parents of parents are found by keys of all kinds, and theirs in turn.
func TestAncestorsByKeysOfAllKinds(t *testing.T) {
	f := setUp(t, txscope.Touch(), txscope.TouchAncestors())
	f.exec(`CREATE TABLE a (id DATETIME_TEXT PRIMARY KEY);
		CREATE TABLE b (x INT, y TEXT, a DATETIME_TEXT REFERENCES a, PRIMARY KEY (y, x));
		CREATE TABLE c (id BLOB PRIMARY KEY, x INT, y TEXT, FOREIGN KEY (x, y) REFERENCES b(x, y));
		CREATE TABLE d (id INTEGER PRIMARY KEY, c BLOB REFERENCES c, v INT);
		INSERT INTO a VALUES ('2020' || char(0) || 'x'), ('2020');
		INSERT INTO b VALUES (1, 'it''s', '2020' || char(0) || 'x'), (2, 'it''s', NULL);
		INSERT INTO c VALUES (x'00ff', 1, 'it''s'), (x'00', NULL, 'it''s');
		INSERT INTO d VALUES (1, x'00ff', 0), (2, x'00', 0)`)
	a := func(s string) tokens.ID { return tokens.Row("a", s) }
	b := func(x int) tokens.ID { return tokens.Row("b", "it's", x) }
	c := func(bytes ...byte) tokens.ID { return tokens.Row("c", bytes) }
	update := func(id int) func() {
		return func() {
			tx, err := f.db.BeginTx(f.ctx, nil)
			f.must(err)
			f.execOn(tx, `UPDATE d SET v = v + 1 WHERE id = ?`, id)
			f.must(tx.Commit())
		}
	}
	f.changes(update(1), ids(tokens.Row("d", 1), c(0, 255), b(1), a("2020\x00x")), a("2020"), b(2), c(0))
	f.changes(update(2), ids(tokens.Row("d", 2), c(0)), a("2020"), b(1), b(2), c(0, 255))
}

// Foreign keys stay within a database, also one that is attached.
func TestTouchAttached(t *testing.T) {
	f := setUp(t, txscope.Touch(), txscope.TouchAncestors())
	conn := f.conn()
	f.execOn(conn, `ATTACH ? AS "Si""de"`, filepath.Join(t.TempDir(), "side.db"))
	for text := range strings.SplitSeq(strings.ReplaceAll(tree, "\n", ""), ";") {
		text = strings.NewReplacer("TABLE ", `TABLE "Si""de".`, "INTO ", `INTO "Si""de".`).Replace(text)
		if strings.TrimSpace(text) != "" {
			f.execOn(conn, text)
		}
	}
	side := func(table string, n int) tokens.ID { return tokens.Row(`Si"de.`+table, n) }
	f.changes(func() {
		tx, err := conn.BeginTx(f.ctx, nil)
		f.must(err)
		f.execOn(tx, `UPDATE "Si""de".c SET v = 1 WHERE id = 111`)
		f.must(tx.Commit())
	}, ids(side("c", 111), side("b", 11), side("a", 1)), side("a", 2), tokens.Row("a", 1))
}

// What the bare connection writes in a transaction touches as well.
func TestTouchByBareConnection(t *testing.T) {
	f := setUp(t, txscope.Touch(), txscope.TouchAncestors())
	f.exec(tree)
	f.changes(func() {
		conn := f.conn()
		tx, err := conn.BeginTx(f.ctx, nil)
		f.must(err)
		f.must(conn.Raw(func(c any) error {
			_, err := c.(*txscope.Conn).Bare().(driver.ExecerContext).ExecContext(f.ctx, `UPDATE c SET v = 1 WHERE id = 111`, nil)
			return err
		}))
		f.must(tx.Commit())
		f.must(conn.Close())
	}, ids(tokens.Row("c", 111), tokens.Row("b", 11), tokens.Row("a", 1)), tokens.Row("a", 2))
}
