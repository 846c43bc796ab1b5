package sqlite_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"modernc.org/sqlite"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// Each case is run on the bare driver and on the wrapped one, and gives the same.
func TestAsTheBareDriver(t *testing.T) {
	type person struct {
		ID   int64
		Name sql.NullString
		Born *time.Time
		Data []byte
	}
	ctx := context.Background()
	gone, cancel := context.WithCancel(ctx)
	cancel()
	cases := map[string]func(db *sqlx.DB) (any, error){
		"driver name": func(db *sqlx.DB) (any, error) {
			return fmt.Sprintf("%s %T %d", db.DriverName(), db.Driver(), sqlx.BindType(db.DriverName())), nil
		},
		"named query": func(db *sqlx.DB) (any, error) {
			rows, err := db.NamedQuery(`SELECT id, name FROM people WHERE name = :name OR id = :id`, map[string]any{"name": "b", "id": 1})
			if err != nil {
				return nil, err
			}
			defer rows.Close()
			var all []person
			for rows.Next() {
				var p person
				if err := rows.StructScan(&p); err != nil {
					return nil, err
				}
				all = append(all, p)
			}
			return all, rows.Err()
		},
		"named exec": func(db *sqlx.DB) (any, error) {
			res, err := db.NamedExec(`INSERT INTO people (id, name) VALUES (:id, :name)`, []person{{ID: 7}, {ID: 8, Name: sql.NullString{String: "x", Valid: true}}})
			if err != nil {
				return nil, err
			}
			n, err := res.RowsAffected()
			return n, err
		},
		"named arguments": func(db *sqlx.DB) (any, error) {
			var name string
			err := db.QueryRow(`SELECT name FROM people WHERE id = @id`, sql.Named("id", 2)).Scan(&name)
			return name, err
		},
		"in": func(db *sqlx.DB) (any, error) {
			query, args, err := sqlx.In(`SELECT name FROM people WHERE id IN (?)`, []int{1, 2, 3})
			if err != nil {
				return nil, err
			}
			var names []sql.NullString
			err = db.Select(&names, db.Rebind(query), args...)
			return names, err
		},
		"null, time, blob": func(db *sqlx.DB) (any, error) {
			born := time.Date(2001, 2, 3, 4, 5, 6, 7000, time.UTC)
			if _, err := db.Exec(`INSERT INTO people VALUES (9, NULL, ?, ?)`, born, []byte{0, 1}); err != nil {
				return nil, err
			}
			var p person
			err := db.Get(&p, `SELECT * FROM people WHERE id = 9`)
			return fmt.Sprint(p.Name.Valid, p.Born, p.Data), err
		},
		"last insert id": func(db *sqlx.DB) (any, error) {
			res, err := db.Exec(`INSERT INTO people (name) VALUES ('z')`)
			if err != nil {
				return nil, err
			}
			return res.LastInsertId()
		},
		"prepared": func(db *sqlx.DB) (any, error) {
			s, err := db.Preparex(`UPDATE people SET name = ? WHERE id = ? RETURNING name`)
			if err != nil {
				return nil, err
			}
			defer s.Close()
			var all []string
			for i := range 3 {
				var name string
				if err := s.QueryRow(fmt.Sprint(i), 1).Scan(&name); err != nil {
					return nil, err
				}
				all = append(all, name)
			}
			return all, nil
		},
		"statement in a transaction": func(db *sqlx.DB) (any, error) {
			s, err := db.Prepare(`DELETE FROM people WHERE id = ?`)
			if err != nil {
				return nil, err
			}
			defer s.Close()
			tx, err := db.Begin()
			if err != nil {
				return nil, err
			}
			if _, err := tx.Stmt(s).Exec(1); err != nil {
				return nil, err
			}
			return nil, tx.Commit()
		},
		"several statements": func(db *sqlx.DB) (any, error) {
			var n int
			err := db.Get(&n, `DELETE FROM people WHERE id = 1; SELECT count(*) FROM people`)
			return n, err
		},
		"returning nothing": func(db *sqlx.DB) (any, error) {
			var n []int
			err := db.Select(&n, `DELETE FROM people WHERE id = 99 RETURNING id`)
			return n, err
		},
		"column types": func(db *sqlx.DB) (any, error) {
			all := ""
			for _, query := range []string{`SELECT * FROM people`, `UPDATE people SET name = 'q' RETURNING *`, `SELECT * FROM people WHERE 0`} {
				rows, err := db.Query(query)
				if err != nil {
					return nil, err
				}
				rows.Next()
				types, err := rows.ColumnTypes()
				if err != nil {
					return nil, err
				}
				for _, c := range types {
					length, hasLength := c.Length()
					null, knownNull := c.Nullable()
					precision, scale, decimal := c.DecimalSize()
					all += fmt.Sprintln(c.Name(), c.DatabaseTypeName(), c.ScanType(), length, hasLength, null, knownNull, precision, scale, decimal)
				}
				if err := rows.Close(); err != nil {
					return nil, err
				}
			}
			return all, nil
		},
		"next result set": func(db *sqlx.DB) (any, error) {
			rows, err := db.Query(`INSERT INTO people (id) VALUES (11) RETURNING id`)
			if err != nil {
				return nil, err
			}
			defer rows.Close()
			return fmt.Sprint(rows.NextResultSet(), rows.Next()), rows.Err()
		},
		"constraint": func(db *sqlx.DB) (any, error) {
			_, err := db.Exec(`INSERT INTO people (id) VALUES (1)`)
			var e *sqlite.Error
			return errors.As(err, &e) && e.Code() != 0, err
		},
		"constraint in rows": func(db *sqlx.DB) (any, error) {
			_, err := db.Query(`INSERT INTO people (id) VALUES (20), (1) RETURNING id`)
			var e *sqlite.Error
			return errors.As(err, &e), err
		},
		"syntax error": func(db *sqlx.DB) (any, error) { return db.Exec(`SELEC`) },
		"syntax error, second of several": func(db *sqlx.DB) (any, error) {
			_, err := db.Exec(`DELETE FROM people WHERE id = 1; SELEC`)
			return nil, err
		},
		"no such table":     func(db *sqlx.DB) (any, error) { return db.Prepare(`SELECT * FROM nowhere`) },
		"too few arguments": func(db *sqlx.DB) (any, error) { return db.Exec(`DELETE FROM people WHERE id = ?`) },
		"unsupported argument": func(db *sqlx.DB) (any, error) {
			return db.Exec(`DELETE FROM people WHERE id = ?`, struct{}{})
		},
		"cancelled before": func(db *sqlx.DB) (any, error) { return db.ExecContext(gone, `DELETE FROM people`) },
		"cancelled before begin": func(db *sqlx.DB) (any, error) {
			_, err := db.BeginTx(gone, nil)
			return nil, err
		},
		"cancelled during": func(db *sqlx.DB) (any, error) {
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			var n int
			err := db.GetContext(short, &n, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n`)
			return nil, err
		},
		"serializable": func(db *sqlx.DB) (any, error) {
			tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
			if err != nil {
				return nil, err
			}
			return nil, tx.Rollback()
		},
		"begin in begin": func(db *sqlx.DB) (any, error) {
			tx, err := db.Begin()
			if err != nil {
				return nil, err
			}
			_, err = tx.Exec(`BEGIN`)
			return nil, errors.Join(err, tx.Commit())
		},
		"commit of nothing": func(db *sqlx.DB) (any, error) {
			_, err := db.Exec(`COMMIT`)
			return nil, err
		},
		"commit by text, then by the API": func(db *sqlx.DB) (any, error) {
			tx, err := db.Begin()
			if err != nil {
				return nil, err
			}
			if _, err := tx.Exec(`COMMIT`); err != nil {
				return nil, err
			}
			return nil, tx.Commit()
		},
		"release of nothing": func(db *sqlx.DB) (any, error) {
			_, err := db.Exec(`RELEASE x`)
			return nil, err
		},
		"deferred constraint": func(db *sqlx.DB) (any, error) {
			tx, err := db.Begin()
			if err != nil {
				return nil, err
			}
			if _, err := tx.Exec(`INSERT INTO jobs VALUES (1, 99)`); err != nil {
				return nil, err
			}
			err = tx.Commit()
			var n int
			return n, errors.Join(err, db.Get(&n, `SELECT count(*) FROM jobs`))
		},
		"statistics": func(db *sqlx.DB) (any, error) {
			db.SetMaxOpenConns(2)
			db.SetMaxIdleConns(1)
			a, err := db.Conn(ctx)
			if err != nil {
				return nil, err
			}
			b, err := db.Conn(ctx)
			if err != nil {
				return nil, err
			}
			err = errors.Join(a.Close(), b.Close())
			s := db.Stats()
			return []int{s.MaxOpenConnections, s.OpenConnections, s.InUse, s.Idle, int(s.MaxIdleClosed)}, err
		},
		"raw": func(db *sqlx.DB) (any, error) {
			c, err := db.Conn(ctx)
			if err != nil {
				return nil, err
			}
			defer c.Close()
			var info any
			err = c.Raw(func(c any) error {
				if w, ok := c.(*txscope.Conn); ok {
					c = w.Bare()
				}
				columns, err := c.(interface {
					ColumnInfo(string) ([]sqlite.ColumnInfo, error)
				}).ColumnInfo(`SELECT name FROM people`)
				info = columns
				return err
			})
			return info, err
		},
		"bad connection in raw": func(db *sqlx.DB) (any, error) {
			c, err := db.Conn(ctx)
			if err != nil {
				return nil, err
			}
			defer c.Close()
			err = c.Raw(func(any) error { return driver.ErrBadConn })
			return db.Stats().OpenConnections, err
		},
		"select in the middle of a select": func(db *sqlx.DB) (any, error) {
			c, err := db.Conn(ctx)
			if err != nil {
				return nil, err
			}
			defer c.Close()
			rows, err := c.QueryContext(ctx, `SELECT id FROM people ORDER BY id`)
			if err != nil {
				return nil, err
			}
			defer rows.Close()
			total := 0
			for rows.Next() {
				var id, n int
				if err := rows.Scan(&id); err != nil {
					return nil, err
				}
				if err := c.QueryRowContext(ctx, `UPDATE people SET name = name || 'x' WHERE id = ? RETURNING id`, id).Scan(&n); err != nil {
					return nil, err
				}
				total += n
			}
			return total, rows.Err()
		},
	}
	for name, run := range cases {
		t.Run(name, func(t *testing.T) {
			outcome := func(open func(dsn string) (*sqlx.DB, error)) string {
				db, err := open("file:" + filepath.Join(t.TempDir(), "t.db") + "?_foreign_keys=1")
				if err != nil {
					t.Fatal(err)
				}
				defer db.Close()
				db.MustExec(`CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, born DATETIME, data BLOB);
					CREATE TABLE jobs (id INTEGER PRIMARY KEY, person INT REFERENCES people(id) DEFERRABLE INITIALLY DEFERRED)`)
				db.MustExec(`INSERT INTO people (id, name) VALUES (1, 'a'), (2, 'b'), (3, NULL)`)
				value, err := run(db)
				var contents []string
				if serr := db.Select(&contents, `SELECT id || coalesce(name, '-') FROM people`); serr != nil {
					t.Fatal(serr)
				}
				if _, ok := value.(*sql.Stmt); ok {
					value = nil
				}
				return fmt.Sprintf("%v\n%v\n%T\n%v", value, err, err, contents)
			}
			want := outcome(func(dsn string) (*sqlx.DB, error) { return sqlx.Open("sqlite", dsn) })
			store := tokens.NewMemory()
			defer store.Close()
			got := outcome(func(dsn string) (*sqlx.DB, error) { return txscope.Open("sqlite", dsn, store) })
			if got != want {
				t.Errorf("wrapped:\n%s\n\nbare:\n%s", got, want)
			}
		})
	}
}

// What is not the bare driver's error in text is its error all the same.
func TestErrorsOfOpen(t *testing.T) {
	store := tokens.NewMemory()
	defer store.Close()
	for _, dsn := range []string{"file:" + filepath.Join(t.TempDir(), "x.db") + "?vfs=a&vfs=b", "/does/not/exist/x.db", "file:" + filepath.Join(t.TempDir(), "x.db") + "?_journal_mode=nonsense"} {
		fails := func(db *sqlx.DB, err error) string {
			if err == nil {
				defer db.Close()
				err = db.Ping()
			}
			return err.Error()
		}
		bare, wrapped := fails(sqlx.Open("sqlite", dsn)), fails(txscope.Open("sqlite", dsn, store))
		if bare != wrapped {
			t.Errorf("%s:\n%s\n%s", dsn, bare, wrapped)
		}
	}
}
