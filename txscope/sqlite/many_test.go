package sqlite_test

import (
	"database/sql/driver"
	"testing"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// After a statement has swept a table for its many rows, the rows of other tables are seen as before:
// those that the same statement writes by triggers and foreign keys, late, and those of statements
// that follow, in the same text or elsewhere.
func TestManyRowsHideNoOthers(t *testing.T) {
	log := tokens.Table("log")
	late := func(n int) tokens.ID { return tokens.Row("late", n) }
	const many = `CREATE TABLE log (a INTEGER PRIMARY KEY, b INT);
		CREATE TABLE late (a INTEGER PRIMARY KEY, log INT REFERENCES log ON DELETE CASCADE, b INT);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 3000) INSERT INTO log SELECT i, i FROM n;
		INSERT INTO late VALUES (1, 2999, 0), (2, NULL, 0), (3, NULL, 0);`
	const update = `UPDATE log SET b = b + 1`
	for _, c := range []struct {
		name, setUp, run string
		want             []tokens.ID
	}{
		{"nothing else", many, update, ids(log)},
		{"a cascade", many, `DELETE FROM log`, ids(log, late(1))},
		{"a trigger", many + `CREATE TRIGGER tr AFTER UPDATE ON log WHEN new.a = 2990 BEGIN UPDATE late SET b = 1 WHERE a = 2; END`, update, ids(log, late(2))},
		{"another statement", many, update + `; UPDATE late SET b = 1 WHERE a = 3`, ids(log, late(3))},
		{"the same twice, and another", many, update + `;` + update + `; UPDATE late SET b = 1 WHERE a = 3`, ids(log, late(3))},
		{"rows that are returned", many, update + ` RETURNING a`, ids(log)},
		{"a transaction in a text", many, `BEGIN; ` + update + `; UPDATE late SET b = 1 WHERE a = 3; COMMIT`, ids(log, late(3))},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := setUp(t)
			f.db.SetMaxOpenConns(1)
			f.exec(c.setUp)
			others := ids(late(1), late(2), late(3))
			f.changes(func() { f.exec(c.run) }, c.want, others...)
			f.changes(func() { f.exec(`UPDATE late SET b = b + 10 WHERE a = 2`) }, ids(late(2)), others...)
			f.changes(func() { f.exec(`REPLACE INTO log VALUES (7, 0)`) }, ids(tokens.Row("log", 7)), tokens.Row("log", 8))
		})
	}

	t.Run("prepared", func(t *testing.T) {
		f := setUp(t)
		f.db.SetMaxOpenConns(1)
		f.exec(many)
		all, err := f.db.PrepareContext(f.ctx, update)
		f.must(err)
		defer all.Close()
		one, err := f.db.PrepareContext(f.ctx, `UPDATE late SET b = b + 1 WHERE a = ?`)
		f.must(err)
		defer one.Close()
		for range 2 {
			f.changes(func() {
				_, err := all.ExecContext(f.ctx)
				f.must(err)
				_, err = one.ExecContext(f.ctx, 1)
				f.must(err)
			}, ids(log, late(1)), late(2))
		}
		// The statement writes to more from here on.
		f.exec(`CREATE TRIGGER tr AFTER UPDATE ON log WHEN new.a = 2990 BEGIN UPDATE late SET b = b + 1 WHERE a = 2; END`)
		f.changes(func() {
			_, err := all.ExecContext(f.ctx)
			f.must(err)
		}, ids(log, late(2)), late(1))
	})

	t.Run("fails", func(t *testing.T) {
		f := setUp(t)
		f.db.SetMaxOpenConns(1)
		f.exec(many)
		if _, err := f.db.ExecContext(f.ctx, `UPDATE log SET a = CASE a WHEN 2990 THEN 1 ELSE a END`); err == nil {
			t.Fatal("the statement has not failed")
		}
		f.changes(func() { f.exec(`UPDATE late SET b = b + 10 WHERE a = 2`) }, ids(late(2)), late(1), late(3))
	})

	t.Run("touches", func(t *testing.T) {
		f := setUp(t, txscope.Touch())
		f.exec(many)
		f.exec(`INSERT INTO late SELECT a + 10, 1, 0 FROM log`)
		f.exec(`UPDATE late SET log = 2 WHERE a = 3000`)
		f.changes(func() { f.exec(`UPDATE late SET b = b + 1 WHERE a > 3`) }, ids(tokens.Table("late"), tokens.Row("log", 1), tokens.Row("log", 2)), tokens.Row("log", 3))
	})

	t.Run("by the bare connection", func(t *testing.T) {
		f := setUp(t)
		f.exec(many)
		f.changes(func() {
			conn := f.conn()
			f.execOn(conn, `SELECT 1`) // what the schema is like is found out between transactions
			f.must(conn.Raw(func(c any) error {
				bare := c.(*txscope.Conn).Bare().(driver.ExecerContext)
				for _, text := range []string{update, `UPDATE late SET b = 1 WHERE a = 1`} {
					if _, err := bare.ExecContext(f.ctx, text, nil); err != nil {
						return err
					}
				}
				return nil
			}))
			f.must(conn.Close())
		}, ids(log, late(1)), late(2))
	})
}
