package alkey_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

// That a row does not exist is stored like any value. Whatever makes the row exist changes the key, and
// what makes it exist for nobody does not.
func TestNotFound(t *testing.T) {
	for _, d := range capturedDatabases {
		t.Run(d.name, func(t *testing.T) {
			f := newCaptured(t, d)
			kit, err := request.New(request.Config{Tokens: f.store, Version: "test"})
			if err != nil {
				t.Fatal(err)
			}
			f.fill(t)
			for _, c := range appearances {
				do := c.on[d.name]
				if do == nil {
					if do = c.on[""]; do == nil {
						continue
					}
				}
				t.Run(c.name, func(t *testing.T) {
					f.fill(t)
					row := c.row(t, f)
					s := &seeker{captured: f, kit: kit, name: c.name, missing: row}
					s.warm(t)
					s.finds(t, "at first", false, true)
					s.finds(t, "again", false, false)
					ctx, _ := kit.Open(t.Context())
					if err := do(ctx, f.db); err != nil {
						t.Fatal(err)
					}
					if c.never {
						s.finds(t, "afterwards", false, false)
						return
					}
					s.finds(t, "afterwards", true, true)
					s.finds(t, "afterwards, again", true, false)
				})
			}
			t.Run("while it is inserted", func(t *testing.T) { whileInserted(t, f, kit) })
			t.Run("deleted and inserted", func(t *testing.T) { deletedAndInserted(t, f, kit) })
			t.Run("as an error", func(t *testing.T) { notFoundError(t, f, kit) })
		})
	}
}

// missingRow is a row that does not exist yet.
type missingRow struct {
	table string
	where string // of a SELECT
	key   []any
}

// seeker looks for a row in every way in which it can be known that there is none.
type seeker struct {
	*captured
	kit     *request.Kit
	name    string
	missing missingRow
}

func (s *seeker) load(ctx context.Context) (v int64, err error) {
	query := "SELECT v FROM " + s.missing.table + " WHERE " + s.missing.where
	err = s.db.GetContext(ctx, &v, s.db.Rebind(query), s.missing.key...)
	return v, err
}

// warm makes the record of the row's token: the request that does is older than it.
func (s *seeker) warm(t *testing.T) {
	t.Helper()
	if _, err := s.store.Read(t.Context(), []tokens.ID{s.id()}); err != nil {
		t.Fatal(err)
	}
}

func (s *seeker) id() tokens.ID { return tokens.Row(s.missing.table, s.missing.key...) }

// sought is a row, or that there is none.
type sought struct {
	Found bool
	V     int64
}

// finds begins a request and looks for the row.
func (s *seeker) finds(t *testing.T, when string, want, wantFilled bool) {
	t.Helper()
	ctx, _ := s.kit.Open(t.Context())
	check := func(form string, found, filled bool, err error) {
		t.Helper()
		if err != nil || found != want || filled != wantFilled {
			t.Errorf("%s, %s: found %t, filled %t, %v; want %t, %t", when, form, found, filled, err, want, wantFilled)
		}
	}
	filled := false
	pointer, err := request.Fetch(ctx, func(ctx context.Context) (*int64, error) {
		filled = true
		v, err := s.load(ctx)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, nil
		}
		return &v, err
	}, s.id(), s.name, "pointer")
	check("a pointer", pointer != nil, filled, err)

	filled = false
	row, err := request.Fetch(ctx, func(ctx context.Context) (sought, error) {
		filled = true
		v, err := s.load(ctx)
		if errors.Is(err, sql.ErrNoRows) {
			return sought{}, nil
		}
		return sought{true, v}, err
	}, s.id(), s.name, "struct")
	check("a struct", row.Found, filled, err)

	filled = false
	many, err := request.FetchMany(ctx, []string{s.name},
		func(name string) []any { return []any{s.id(), name, "many"} },
		func(ctx context.Context, missing []string) (map[string]int64, error) {
			filled = true
			v, err := s.load(ctx)
			if errors.Is(err, sql.ErrNoRows) {
				return nil, nil
			}
			return map[string]int64{s.name: v}, err
		})
	check("one of many", len(many) == 1, filled, err)
}

// appearance is a way in which a row comes to exist.
type appearance struct {
	name  string
	row   func(t *testing.T, f *captured) missingRow
	on    map[string]func(ctx context.Context, db *sqlx.DB) error // by database; "" for all others
	never bool                                                    // in the end the row does not exist
}

// note is a row of notes.
func note(id int) func(*testing.T, *captured) missingRow {
	return func(*testing.T, *captured) missingRow { return missingRow{"notes", "id = ?", []any{id}} }
}

// next is the row of a table that numbers its rows which is made after so many others.
func next(table string, others int) func(*testing.T, *captured) missingRow {
	return func(t *testing.T, f *captured) missingRow {
		t.Helper()
		f.run(t, "INSERT INTO "+table+" (v) VALUES (-1)")
		var last int
		if err := f.bare.QueryRow("SELECT id FROM " + table + " WHERE v = -1").Scan(&last); err != nil {
			t.Fatal(err)
		}
		return missingRow{table, "id = ?", []any{last + 1 + others}}
	}
}

type doing = map[string]func(ctx context.Context, db *sqlx.DB) error

var appearances = []appearance{
	{name: "insert", row: note(7), on: doing{"": alone(`INSERT INTO notes (id, v) VALUES (?, ?) -- 7, 70`)}},
	{name: "insert of a literal", row: note(7), on: doing{"": alone(`INSERT INTO notes (id, v) VALUES (7, 70)`)}},
	{name: "insert in a transaction", row: note(7), on: doing{"": inTx(`INSERT INTO notes (id, v) VALUES (?, ?) -- 7, 70`)}},
	{name: "insert of several", row: note(8), on: doing{"": alone(`INSERT INTO notes (id, v) VALUES (?, ?), (?, ?) -- 7, 70, 8, 80`)}},
	{name: "insert, returning", row: note(7), on: doing{"": func(ctx context.Context, db *sqlx.DB) error {
		var id int
		return db.GetContext(ctx, &id, db.Rebind(`INSERT INTO notes (id, v) VALUES (?, ?) RETURNING id`), 7, 70)
	}}},
	{name: "insert, prepared", row: note(7), on: doing{"": func(ctx context.Context, db *sqlx.DB) error {
		insert, err := db.PreparexContext(ctx, db.Rebind(`INSERT INTO notes (id, v) VALUES (?, ?)`))
		if err != nil {
			return err
		}
		defer insert.Close()
		_, err = insert.ExecContext(ctx, 7, 70)
		return err
	}}},
	{name: "insert, named", row: note(7), on: doing{"": func(ctx context.Context, db *sqlx.DB) error {
		_, err := db.NamedExecContext(ctx, `INSERT INTO notes (id, v) VALUES (:id, :v)`, map[string]any{"id": 7, "v": 70})
		return err
	}}},
	{name: "insert by a text", row: note(7), on: doing{"": func(ctx context.Context, db *sqlx.DB) error {
		conn, err := db.Connx(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		for _, text := range []string{"BEGIN", "INSERT INTO notes (id, v) VALUES (7, 70)", "COMMIT"} {
			if _, err := conn.ExecContext(ctx, text); err != nil {
				return err
			}
		}
		return nil
	}}},
	{name: "insert by a job", row: note(7), on: doing{"": func(_ context.Context, db *sqlx.DB) error {
		return alone(`INSERT INTO notes (id, v) VALUES (?, ?) -- 7, 70`)(context.Background(), db)
	}}},

	{name: "numbered", row: next("numbered", 0), on: doing{"": alone(`INSERT INTO numbered (v) VALUES (?) -- 1`)}},
	{name: "numbered in a transaction", row: next("numbered", 0), on: doing{"": inTx(`INSERT INTO numbered (v) VALUES (?) -- 1`)}},
	{name: "numbered, the third", row: next("numbered", 2), on: doing{"": alone(`INSERT INTO numbered (v) VALUES (?), (?), (?) -- 1, 2, 3`)}},
	{name: "numbered, returning", row: next("numbered", 0), on: doing{"": func(ctx context.Context, db *sqlx.DB) error {
		var id int
		return db.GetContext(ctx, &id, db.Rebind(`INSERT INTO numbered (v) VALUES (?) RETURNING id`), 1)
	}}},
	{name: "numbered by a trigger", row: next("journal", 0), on: doing{"": alone(`UPDATE audited SET v = v + 1 WHERE id = ? -- 1`)}},

	{name: "text", row: func(*testing.T, *captured) missingRow { return missingRow{"tags", "tag = ?", []any{"z"}} },
		on: doing{"": alone(`INSERT INTO tags (tag, v) VALUES (?, ?) -- 'z', 1`)}},
	{name: "two columns", row: func(*testing.T, *captured) missingRow {
		return missingRow{"members", "grp = ? AND who = ?", []any{9, "y"}}
	}, on: doing{"": alone(`INSERT INTO members (grp, who, v) VALUES (?, ?, ?) -- 9, 'y', 1`)}},
	{name: "uuid", row: func(*testing.T, *captured) missingRow {
		return missingRow{"devices", "id = ?", []any{"6ba7b810-9dad-11d1-80b4-00c04fd430c9"}}
	}, on: doing{"": alone(`INSERT INTO devices (id, v) VALUES (?, ?) -- '6ba7b810-9dad-11d1-80b4-00c04fd430c9', 1`)}},

	{name: "another row moves there", row: note(7), on: doing{"": alone(`UPDATE notes SET id = ? WHERE id = ? -- 7, 1`)}},
	{name: "another row moves there in a transaction", row: note(7), on: doing{"": inTx(`UPDATE notes SET id = 7 WHERE id = ? -- 1`)}},
	{name: "all rows move", row: note(43), on: doing{"": alone(`UPDATE notes SET id = id + 40`)}},
	{name: "insert of what is selected", row: note(103), on: doing{"": alone(`INSERT INTO notes (id, v) SELECT id + 100, v FROM others`)}},
	{name: "insert of what is selected in a transaction", row: note(101),
		on: doing{"": inTx(`INSERT INTO notes (id, v) SELECT id + 100, v FROM others WHERE id = ? -- 1`)}},

	{name: "upsert", row: note(7), on: doing{
		"":        alone(`INSERT INTO notes (id, v) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET v = excluded.v -- 7, 70`),
		"MariaDB": alone(`INSERT INTO notes (id, v) VALUES (?, ?) ON DUPLICATE KEY UPDATE v = VALUES(v) -- 7, 70`),
	}},
	{name: "upsert in a transaction", row: note(7), on: doing{
		"":        inTx(`INSERT INTO notes (id, v) VALUES (?, ?), (?, ?) ON CONFLICT (id) DO UPDATE SET v = excluded.v -- 1, 10, 7, 70`),
		"MariaDB": inTx(`INSERT INTO notes (id, v) VALUES (?, ?), (?, ?) ON DUPLICATE KEY UPDATE v = VALUES(v) -- 1, 10, 7, 70`),
	}},
	{name: "insert unless it is there", row: note(7), on: doing{
		"":        alone(`INSERT INTO notes (id, v) VALUES (?, ?), (?, ?) ON CONFLICT DO NOTHING -- 1, 10, 7, 70`),
		"MariaDB": alone(`INSERT IGNORE INTO notes (id, v) VALUES (?, ?), (?, ?) -- 1, 10, 7, 70`),
	}},
	{name: "upsert that moves another row there", row: func(*testing.T, *captured) missingRow {
		return missingRow{"products", "id = ?", []any{12}}
	}, on: doing{
		"":        alone(`INSERT INTO products (id, sku, v) VALUES (?, ?, ?) ON CONFLICT (sku) DO UPDATE SET id = 12 -- 11, 1, 5`),
		"MariaDB": alone(`INSERT INTO products (id, sku, v) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE id = 12 -- 11, 1, 5`),
	}},
	{name: "replace", row: func(*testing.T, *captured) missingRow { return missingRow{"products", "id = ?", []any{11}} },
		on: doing{
			"SQLite":  alone(`REPLACE INTO products (id, sku, v) VALUES (?, ?, ?) -- 11, 1, 5`),
			"MariaDB": alone(`REPLACE INTO products (id, sku, v) VALUES (?, ?, ?) -- 11, 1, 5`),
		}},
	{name: "numbered upsert", row: next("numbered", 0), on: doing{
		"":        alone(`INSERT INTO numbered (v) VALUES (?) ON CONFLICT (id) DO UPDATE SET v = excluded.v -- 1`),
		"MariaDB": alone(`INSERT INTO numbered (v) VALUES (?) ON DUPLICATE KEY UPDATE v = VALUES(v) -- 1`),
	}},
	{name: "insert in a WITH", row: note(7), on: doing{"PostgreSQL": func(ctx context.Context, db *sqlx.DB) error {
		var n int
		return db.GetContext(ctx, &n, `WITH made AS (INSERT INTO notes (id, v) VALUES ($1, $2) RETURNING id) SELECT count(*) FROM made`, 7, 70)
	}}},
	{name: "merge", row: note(7), on: doing{
		"PostgreSQL": alone(`MERGE INTO notes USING (VALUES (1), (7)) AS given (id) ON notes.id = given.id WHEN NOT MATCHED THEN INSERT (id, v) VALUES (given.id, 70)`),
	}},

	{name: "rolled back", row: note(7), never: true, on: doing{"": rolledBack(`INSERT INTO notes (id, v) VALUES (?, ?) -- 7, 70`)}},
	{name: "rolled back, returning", row: note(7), never: true, on: doing{"": func(ctx context.Context, db *sqlx.DB) error {
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			return err
		}
		var id int
		if err := tx.GetContext(ctx, &id, db.Rebind(`INSERT INTO notes (id, v) VALUES (?, ?) RETURNING id`), 7, 70); err != nil {
			return err
		}
		return tx.Rollback()
	}}},
	{name: "rolled back to a savepoint", row: note(7), never: true, on: doing{"": inTx(
		`UPDATE others SET v = v + 1 WHERE id = ? -- 1`, `SAVEPOINT a`, `INSERT INTO notes (id, v) VALUES (?, ?) -- 7, 70`, `ROLLBACK TO SAVEPOINT a`)}},
	{name: "of another key", row: note(7), never: true, on: doing{"": alone(`INSERT INTO notes (id, v) VALUES (?, ?) -- 8, 80`)}},
	{name: "refused", row: note(7), never: true, on: doing{"": func(ctx context.Context, db *sqlx.DB) error {
		if err := alone(`INSERT INTO notes (id, v) VALUES (?, ?) -- 1, 10`)(ctx, db); err == nil {
			return errors.New("a second row of one key is inserted")
		}
		return nil
	}}},
}

func rolledBack(texts ...string) func(context.Context, *sqlx.DB) error {
	return func(ctx context.Context, db *sqlx.DB) error {
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			return err
		}
		for _, text := range texts {
			if err := execArgs(ctx, tx, text); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		return tx.Rollback()
	}
}

// While the row is inserted it does not exist for others, and what its own request finds is not stored.
func whileInserted(t *testing.T, f *captured, kit *request.Kit) {
	f.fill(t)
	s := &seeker{captured: f, kit: kit, name: "while", missing: note(7)(t, f)}
	s.warm(t)
	s.finds(t, "at first", false, true)
	ctx, _ := kit.Open(t.Context())
	tx, err := f.db.BeginTxx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if err := execArgs(ctx, tx, `INSERT INTO notes (id, v) VALUES (?, ?) -- 7, 70`); err != nil {
		t.Fatal(err)
	}
	s.finds(t, "before the commit", false, false)
	own, err := request.Fetch(ctx, func(ctx context.Context) (*int64, error) {
		var v int64
		err := tx.GetContext(ctx, &v, f.db.Rebind("SELECT v FROM notes WHERE id = ?"), 7)
		return &v, err
	}, s.id(), s.name, "pointer")
	if err != nil || own == nil || *own != 70 {
		t.Errorf("the request does not find its own row: %v, %v", own, err)
	}
	s.finds(t, "before the commit, and after its own request has looked", false, false)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	s.finds(t, "after the commit", true, true)
}

// A row comes and goes.
func deletedAndInserted(t *testing.T, f *captured, kit *request.Kit) {
	f.fill(t)
	s := &seeker{captured: f, kit: kit, name: "comes and goes", missing: note(3)(t, f)}
	s.warm(t)
	s.finds(t, "at first", true, true)
	for round := range 3 {
		for _, step := range []struct {
			text string
			want bool
		}{{`DELETE FROM notes WHERE id = ? -- 3`, false}, {`INSERT INTO notes (id, v) VALUES (?, ?) -- 3, 30`, true}} {
			ctx, _ := kit.Open(t.Context())
			if err := alone(step.text)(ctx, f.db); err != nil {
				t.Fatal(err)
			}
			s.finds(t, fmt.Sprintf("%s, %d", step.text, round), step.want, true)
			s.finds(t, fmt.Sprintf("%s, %d, again", step.text, round), step.want, false)
		}
	}
}

// An error says nothing about tomorrow: sql.ErrNoRows that is returned, and not made into a value, is
// not stored.
func notFoundError(t *testing.T, f *captured, kit *request.Kit) {
	f.fill(t)
	s := &seeker{captured: f, kit: kit, name: "error", missing: note(7)(t, f)}
	s.warm(t)
	for range 2 {
		ctx, _ := kit.Open(t.Context())
		filled := false
		_, err := request.Fetch(ctx, func(ctx context.Context) (int64, error) {
			filled = true
			return s.load(ctx)
		}, s.id(), s.name)
		if !filled || !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("filled %t, %v", filled, err)
		}
	}
}
