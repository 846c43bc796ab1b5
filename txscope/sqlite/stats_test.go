package sqlite_test

import (
	"database/sql"
	"slices"
	"strings"
	"testing"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

func (f *fixture) stats() txscope.Statistics {
	f.Helper()
	s, err := txscope.Stats(f.ctx, f.db)
	f.must(err)
	return s
}

// sweeps are one of each table, for a reason.
func sweeps(tablesAndReasons ...string) (all []txscope.Sweep) {
	for pair := range slices.Chunk(tablesAndReasons, 2) {
		all = append(all, txscope.Sweep{Table: pair[0], Why: pair[1], Count: 1})
	}
	return all
}

// Who wonders why the keys of a whole table change finds the reason.
func TestStatsTellWhy(t *testing.T) {
	for _, c := range []struct {
		name  string
		setUp string
		run   string
		want  []txscope.Sweep
	}{
		{"no key", `CREATE TABLE log (a)`, `INSERT INTO log VALUES (1)`, sweeps("log", "no primary key")},
		{"no key, written to by a trigger", `CREATE TABLE log (a); CREATE TRIGGER tr AFTER UPDATE ON users BEGIN INSERT INTO log VALUES (new.id); END`, `UPDATE users SET name = 'z' WHERE id = 1`,
			sweeps("log", "no primary key")},
		{"a key of times", `CREATE TABLE log (a DATETIME PRIMARY KEY)`, `INSERT INTO log VALUES ('2020-01-01')`, sweeps("log", "a primary key of a type that Go reads as a time")},
		{"a float", `CREATE TABLE log (a PRIMARY KEY)`, `INSERT INTO log VALUES (1.5)`, sweeps("log", "a primary key whose value has no exact text: a float, or NULL")},
		{"many rows", `CREATE TABLE log (a INTEGER PRIMARY KEY)`, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 1001) INSERT INTO log SELECT i FROM n`,
			sweeps("log", "too many rows in one transaction")},
		{"too many spellings", `CREATE TABLE log (a TEXT, b TEXT, c TEXT, d TEXT, e TEXT, PRIMARY KEY (a, b, c, d, e))`, `INSERT INTO log VALUES ('01', '02', '03', '04', '05')`,
			sweeps("log", "a primary key that Go can spell in too many ways")},
		{"definition", ``, `ALTER TABLE notes ADD COLUMN more`, sweeps("notes", "its definition was changed")},
		{"renamed", ``, `ALTER TABLE notes RENAME TO papers`, sweeps("*", "a table was renamed")},
		{"virtual", `CREATE VIRTUAL TABLE log USING rtree(id, a, b)`, `INSERT INTO log VALUES (1, 2, 3)`, sweeps("log", "a virtual table")},
		{"view", `CREATE VIEW log AS SELECT * FROM users; CREATE TRIGGER tr INSTEAD OF UPDATE ON log BEGIN UPDATE users SET name = new.name WHERE id = new.id; END`, `UPDATE log SET name = 'z' WHERE id = 1`,
			sweeps("log", "written to through a view")},
		{"SQLite's own", `ANALYZE`, `INSERT INTO sqlite_stat1 VALUES ('users', NULL, '1')`, sweeps("sqlite_stat1", "a table of SQLite's own")},
		{"in the transaction that changes the schema", ``, `BEGIN; CREATE TABLE log (a INTEGER PRIMARY KEY); UPDATE users SET name = 'z' WHERE id = 1; COMMIT`,
			sweeps("log", "its definition was changed", "users", "the schema was being changed")},
		{"rows only", ``, `UPDATE users SET name = name || 'z'`, nil},
		{"touched otherwise", `CREATE TABLE p (id INTEGER PRIMARY KEY, code TEXT UNIQUE); CREATE TABLE c (id INTEGER PRIMARY KEY, code TEXT REFERENCES p(code)); INSERT INTO p VALUES (1, 'x')`,
			`INSERT INTO c VALUES (1, 'x')`, sweeps("p", "touched by a foreign key to other columns than the primary key")},
		{"touched outside of a transaction", tree, `UPDATE c SET v = 1 WHERE id = 111`, sweeps("a", "touched by its children's children outside of an explicit transaction")},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := setUp(t, txscope.TouchTables("c", "b"), txscope.TouchAncestors())
			if c.setUp != "" {
				f.exec(c.setUp)
			}
			before := f.stats()
			f.exec(c.run)
			var got []txscope.Sweep
			for _, s := range f.stats().Sweeps {
				for _, b := range before.Sweeps {
					if b.Table == s.Table && b.Why == s.Why {
						s.Count -= b.Count
					}
				}
				if s.Count > 0 {
					got = append(got, s)
				}
			}
			slices.SortFunc(got, func(a, b txscope.Sweep) int { return strings.Compare(a.Table, b.Table) })
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestStatsCount(t *testing.T) {
	f := setUp(t)
	before := f.stats()
	f.exec(`UPDATE users SET name = name || 'z'`)
	tx, err := f.db.BeginTx(f.ctx, nil)
	f.must(err)
	f.execOn(tx, `UPDATE users SET name = 'y' WHERE id = 1`)
	f.must(tx.Rollback())
	tx, err = f.db.BeginTx(f.ctx, nil)
	f.must(err)
	f.execOn(tx, `SELECT 1`)
	f.must(tx.Commit())
	ctx, _ := txscope.OpenScope(f.ctx, f.Store)
	tx, err = f.db.BeginTx(ctx, nil)
	f.must(err)
	f.execOn(tx, `UPDATE users SET name = 'y' WHERE id = 1`)
	f.must(txscope.Changed(ctx, tokens.Table("weather")))
	f.must(tx.Commit())
	after := f.stats()
	if got := after.Committed - before.Committed; got != 2 {
		t.Errorf("committed: %d", got)
	}
	if got := after.RolledBack - before.RolledBack; got != 1 {
		t.Errorf("rolled back: %d", got)
	}
	if got := after.Rows - before.Rows; got != 4 {
		t.Errorf("rows: %d", got)
	}
	if !slices.Contains(after.Sweeps, txscope.Sweep{Table: "weather", Why: "marked by hand", Count: 1}) {
		t.Errorf("sweeps: %v", after.Sweeps)
	}
}

// The first write after another program has changed the schema is told by its table, and why.
func TestStatsSchemaChangedOutside(t *testing.T) {
	f := setUp(t)
	outside, err := sql.Open("sqlite", f.file)
	f.must(err)
	defer outside.Close()
	_, err = outside.Exec(`CREATE TABLE log (a)`)
	f.must(err)
	for range 2 {
		f.exec(`UPDATE users SET name = name || 'z' WHERE id = 1`)
		want := txscope.Sweep{Table: "users", Why: "the schema had not been read, or had changed since", Count: 1}
		if got := f.stats().Sweeps; !slices.Contains(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}
