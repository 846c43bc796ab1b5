package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope/txscopetest"
)

// TestReturningAnotherRow: what a statement's own RETURNING returns can be another row of the table
// that it writes.
func TestReturningAnotherRow(t *testing.T) {
	for _, c := range []struct {
		name, query string
		rows, in    bool // run as a query; in a transaction
	}{
		{"the other's key", `UPDATE emp e SET v = 2 FROM emp m WHERE m.id = e.boss RETURNING m.id`, true, false},
		{"both keys", `UPDATE emp e SET v = 2 FROM emp m WHERE m.id = e.boss RETURNING e.id, m.id`, false, false},
		{"both keys, the other way", `UPDATE emp e SET v = 2 FROM emp m WHERE m.id = e.boss RETURNING m.id, e.id`, false, true},
		{"delete", `DELETE FROM emp e USING emp m WHERE m.id = e.boss RETURNING m.id`, true, true},
		{"WITH", `WITH m AS (SELECT id FROM emp WHERE boss IS NULL) UPDATE emp e SET v = 2 FROM m WHERE m.id = e.boss RETURNING m.id`, true, false},
		{"by key", `UPDATE emp e SET v = 2 FROM emp m WHERE m.id = e.boss AND e.id = 2 RETURNING m.id`, true, false},
		{"a subquery", `UPDATE emp e SET v = 2 WHERE boss IS NOT NULL RETURNING (SELECT m.id FROM emp m WHERE m.id = e.boss)`, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := setUp(t, `CREATE TABLE emp (id int PRIMARY KEY, boss int, v int); INSERT INTO emp VALUES (1, NULL, 0), (2, 1, 0)`)
			written := tokens.Row("emp", 2)
			was := f.stamp(written)
			run := func(e execer) {
				if c.rows {
					f.query(e, c.query)
				} else {
					f.exec(e, c.query)
				}
			}
			if c.in {
				f.inTx(func(tx *sql.Tx) { run(tx) })
			} else {
				run(f.db)
			}
			if f.stamp(written) == was {
				t.Errorf("%v has not changed; published %q", written, f.published())
			}
		})
	}
}

// TestUnseenDefinitions: while a connection finds out what a body has done to the schema, no other tells
// rows by what was known before.
func TestUnseenDefinitions(t *testing.T) {
	const trigger = `CREATE TRIGGER audit AFTER UPDATE ON pairs FOR EACH ROW EXECUTE FUNCTION audit()`
	const function = `CREATE OR REPLACE FUNCTION pure(n int) RETURNS int LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO audit (what) VALUES (''f''); RETURN n; END $f$`
	for _, c := range []struct{ name, define, run, write, want string }{
		{"DO", "", `DO $$ BEGIN ` + trigger + `; END $$`, `UPDATE pairs SET v = 2 WHERE a = 1 AND b = 1`, "audit!"},
		{"function", `CREATE FUNCTION def() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE '` + trigger + `'; END $$`, `SELECT def()`, `UPDATE pairs SET v = 2 WHERE a = 1 AND b = 1`, "audit!"},
		{"procedure", `CREATE PROCEDURE def() LANGUAGE plpgsql AS $$ BEGIN EXECUTE '` + trigger + `'; COMMIT; END $$`, `CALL def()`, `UPDATE pairs SET v = 2 WHERE a = 1 AND b = 1`, "audit!"},
		// No lock on a table tells of this one.
		{"function that makes another", `CREATE FUNCTION def() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE '` + function + `'; END $$`, `SELECT def()`, `SELECT pure(1)`, "audit!"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := setUp(t, plainSchema+plainData+c.define)
			first, second, third := f.conn(), f.conn(), f.conn()
			for _, conn := range []*sql.Conn{first, second, third} {
				f.exec(conn, c.write)
			}
			f.exec(first, c.run)
			f.published()
			locking, err := f.bare.Begin()
			f.must(err)
			f.exec(locking, `LOCK TABLE pg_catalog.pg_policy IN ACCESS EXCLUSIVE MODE`) // reading takes its time
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = third.ExecContext(f.ctx, `SELECT 1`)
			}()
			for end := time.Now().Add(30 * time.Second); len(f.query(locking, `SELECT 1 FROM pg_locks WHERE NOT granted`)) == 0; {
				select {
				case <-done:
					t.Fatal("nobody has asked for the schema")
				default:
				}
				if time.Now().After(end) {
					f.must(locking.Rollback())
					t.Fatal("nobody waits for the schema")
				}
			}
			_, err = second.ExecContext(hurried{f.ctx}, c.write) // it does not wait long for the schema
			f.must(err)
			got := f.published()
			f.must(locking.Rollback())
			<-done
			if !strings.Contains(got, c.want) && !strings.Contains(got, "*!") {
				t.Errorf("published %q; audit has %v", got, f.query(f.bare, `SELECT * FROM audit`))
			}
		})
	}
}

// hurried is a context that says that it ends soon, and does not.
type hurried struct{ context.Context }

func (hurried) Deadline() (time.Time, bool) { return time.Now().Add(800 * time.Millisecond), true }

// TestAnnouncedNoneAfterChange: a statement that says that it has written no row can have written other
// tables, if the schema has changed since it was announced. That is fenced before it runs.
func TestAnnouncedNoneAfterChange(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	first, second := f.conn(), f.conn()
	f.exec(first, `UPDATE pairs SET v = 1 WHERE a = 1 AND b = 1`)
	f.exec(second, `SELECT 1`)
	f.published()
	once := false
	var early, late int
	f.backend.OnCall(func(c txscopetest.Call) {
		if !once {
			once = true
			f.exec(second, `CREATE RULE r AS ON UPDATE TO pairs DO INSTEAD INSERT INTO audit (what) VALUES ('r')`)
			f.published() // by the change itself
		}
		if c.Op == "fence" && slices.ContainsFunc(c.IDs, func(id tokens.ID) bool { return id.IsSweep() && id.Table == tokens.Global.Table }) {
			if len(f.query(f.bare, `SELECT FROM audit WHERE what = 'r'`)) == 0 {
				early++
			} else {
				late++
			}
		}
	})
	f.exec(first, `UPDATE pairs SET v = 2 WHERE a = 1 AND b = 1`)
	if early == 0 || late > 0 {
		t.Errorf("everything was fenced %d times before the statement, and %d times after", early, late)
	}
	if got := f.published(); !once || !strings.Contains(got, "audit") && !strings.Contains(got, "*!") {
		t.Errorf("published %q; audit has %v", got, f.query(f.bare, `SELECT * FROM audit`))
	}
}

// TestForeignDeferredTrigger: a trigger that waits for COMMIT is seen though another program has made it
// since the schema was read.
func TestForeignDeferredTrigger(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	f.exec(f.db, `UPDATE users SET seen = 1 WHERE id = 1`)
	f.exec(f.bare, `CREATE CONSTRAINT TRIGGER other AFTER UPDATE ON users DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit()`)
	f.published()
	f.inTx(func(tx *sql.Tx) { f.exec(tx, `UPDATE users SET seen = 2 WHERE id = 1`) })
	if got := f.published(); !strings.Contains(got, "audit!") {
		t.Errorf("published %q; audit has %v", got, f.query(f.bare, `SELECT * FROM audit`))
	}
}

// TestWorkOnReturnedRows: rows that are few hold no locks while they are read.
func TestWorkOnReturnedRows(t *testing.T) {
	f := setUp(t, `CREATE TABLE jobs (id int PRIMARY KEY, state text); INSERT INTO jobs VALUES (1, 'new'), (2, 'new')`)
	for name, db := range map[string]*sql.DB{"bare": f.bare, "wrapped": f.db} {
		f.exec(f.bare, `UPDATE jobs SET state = 'new'`)
		f.published()
		rows, err := db.QueryContext(f.ctx, `UPDATE jobs SET state = 'taken' WHERE state = 'new' RETURNING id`)
		f.must(err)
		if db == f.db {
			f.expect("jobs#1 jobs#2") // it is committed
		}
		n := 0
		for ; rows.Next(); n++ {
			var id int
			f.must(rows.Scan(&id))
			ctx, cancel := context.WithTimeout(f.ctx, 10*time.Second)
			if _, err := db.ExecContext(ctx, `UPDATE jobs SET state = 'done' WHERE id = $1`, id); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
		}
		f.must(rows.Err())
		f.must(rows.Close())
		if n != 2 {
			t.Errorf("%s: %d rows", name, n)
		}
	}
}

// TestReadAhead: rows are the same whether they are read ahead or not, and their descriptions too.
func TestReadAhead(t *testing.T) {
	f := setUp(t, `CREATE TABLE k (id int PRIMARY KEY, b bytea, n numeric(9,2), w varchar(7), j jsonb, at timestamptz, u uuid, a int[], o bool, x xml);
		CREATE TABLE logs (id serial PRIMARY KEY, k int REFERENCES k DEFERRABLE INITIALLY DEFERRED)`)
	for _, c := range []struct {
		name  string
		query string
		empty bool
	}{
		{"none", `DELETE FROM k WHERE id < 0 RETURNING *`, true},
		{"few", insertMany(5, 10), false},
		{"as many as are read ahead", insertMany(1000, 1), false},
		{"more rows", insertMany(1001, 1), false},
		{"more bytes", insertMany(60, 40000), false},
		{"division in the middle", `UPDATE k SET n = 1 RETURNING id, 1 / (id - 3)`, false},
		{"division at once", `INSERT INTO k (id) VALUES (-1), (0) RETURNING 1 / (id + 1)`, false},
		{"infinity", `INSERT INTO k (id, at) VALUES (1, now()), (2, 'infinity'), (3, 'epoch') RETURNING id, at = 'infinity', b`, false},
		{"refused by COMMIT", `INSERT INTO logs (k) VALUES (7777) RETURNING id, k`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want, got *heard
			for _, db := range []*sql.DB{f.bare, f.db} {
				f.exec(f.bare, `TRUNCATE k, logs RESTART IDENTITY`)
				if strings.HasPrefix(c.query, "UPDATE") {
					f.exec(f.bare, insertMany(5, 10))
				}
				h := hear(f.ctx, db, c.query)
				h.left = f.query(f.bare, `SELECT count(*), (SELECT count(*) FROM logs) FROM k`)
				if db == f.bare {
					want = h
				} else {
					got = h
				}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got\n%.500v\nwant\n%.500v", got, want)
			}
		})
	}
}

func insertMany(rows, bytes int) string {
	return fmt.Sprintf(`INSERT INTO k SELECT i, convert_to(repeat('b', %d), 'UTF8'), i / 3.0, 'w' || i, '{"a": 1}', timestamptz '2020-02-02 02:02:02Z' + i * interval '1 day', `+
		`NULL, ARRAY[i, NULL], i %% 2 = 0, '<x/>' FROM generate_series(1, %d) i RETURNING *`, bytes, rows)
}

// heard is all that a query has told.
type heard struct {
	err, next, closing string
	columns            []column
	rows               [][]any
	left               []string
}

type column struct {
	name, database            string
	scan                      reflect.Type
	length, precision, scale  int64
	sized, decimal, knows, is bool
}

func hear(ctx context.Context, db *sql.DB, query string) *heard {
	h := new(heard)
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		h.err = err.Error()
		return h
	}
	types, _ := rows.ColumnTypes()
	for _, c := range types {
		one := column{name: c.Name(), database: c.DatabaseTypeName(), scan: c.ScanType()}
		one.length, one.sized = c.Length()
		one.precision, one.scale, one.decimal = c.DecimalSize()
		one.is, one.knows = c.Nullable()
		h.columns = append(h.columns, one)
	}
	for rows.Next() {
		row, dest := make([]any, len(types)), make([]any, len(types))
		for i := range row {
			dest[i] = &row[i]
		}
		if err := rows.Scan(dest...); err != nil {
			h.err = err.Error()
		}
		h.rows = append(h.rows, row)
	}
	h.next, h.closing = fmt.Sprint(rows.Err()), fmt.Sprint(rows.Close())
	return h
}

// TestKeyTypeChanges: a statement to which RETURNING is added does not fail after the key's type has
// changed.
func TestKeyTypeChanges(t *testing.T) {
	f := setUp(t, `CREATE TABLE k (id int PRIMARY KEY, v int, name text); INSERT INTO k VALUES (1, 0, 'a')`)
	first, second := f.conn(), f.conn()
	const query = `UPDATE k SET v = v + 1 WHERE name = $1 -- all`
	for range 2 {
		f.exec(second, query, "a")
	}
	f.exec(first, `ALTER TABLE k ALTER id TYPE bigint`)
	f.published()
	tx, err := second.BeginTx(f.ctx, nil)
	f.must(err)
	defer func() { _ = tx.Rollback() }()
	f.exec(tx, query, "a")
	f.must(tx.Commit())
	f.expect("k#1")
}

// TestSlowCatalogue: a catalogue that is slow to read fails no statement, and is not waited for by each.
func TestSlowCatalogue(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	locking, err := f.bare.Begin()
	f.must(err)
	f.exec(locking, `LOCK TABLE pg_catalog.pg_policy IN ACCESS EXCLUSIVE MODE`)
	conn := f.conn()
	for range 3 {
		ctx, cancel := context.WithTimeout(f.ctx, 3*time.Second)
		if _, err := conn.ExecContext(ctx, `UPDATE tags SET v = 2 WHERE tag = 'x'`); err != nil {
			t.Error(err)
		}
		cancel()
	}
	if got := f.published(); !strings.Contains(got, "tags!") {
		t.Errorf("published %q", got)
	}
	if n := strings.Count(f.log.String(), "too long"); n != 1 {
		t.Errorf("%d warnings\n%s", n, f.log)
	}
	f.must(locking.Rollback())
}

// TestUnrescued: a transaction that has failed before COMMIT is not taken for committed.
func TestUnrescued(t *testing.T) {
	f := setUp(t, `CREATE TABLE k (id int PRIMARY KEY, v int); INSERT INTO k VALUES (1, 0);
		CREATE FUNCTION ends() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'late' USING ERRCODE = '23514'; END $$;
		CREATE CONSTRAINT TRIGGER ends AFTER UPDATE ON k DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ends()`)
	for name, run := range map[string]func() error{
		"exec": func() error { _, err := f.db.ExecContext(f.ctx, `UPDATE k SET v = 1`); return err },
		"query": func() error {
			rows, err := f.db.QueryContext(f.ctx, `UPDATE k SET v = 1 RETURNING v`)
			if err != nil {
				return err
			}
			for rows.Next() {
			}
			return errors.Join(rows.Err(), rows.Close())
		},
		"text": func() error {
			conn := f.conn()
			f.exec(conn, `BEGIN`)
			f.exec(conn, `UPDATE k SET v = 1`)
			_, err := conn.ExecContext(f.ctx, `COMMIT`)
			return err
		},
	} {
		if err := run(); code(err) != "23514" {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.expect("")
	if got := f.query(f.bare, `SELECT v FROM k`); got[0] != "0" {
		t.Errorf("it has %v", got)
	}
}
