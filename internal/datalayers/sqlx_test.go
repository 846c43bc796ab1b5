package datalayers

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/jmoiron/sqlx"
)

type sqlxAuthor struct {
	ID        int64        `db:"id"`
	Name      string       `db:"name"`
	Visits    int          `db:"visits"`
	DeletedAt sql.NullTime `db:"deleted_at"`
}

// TableName makes authors something that a key can name.
func (sqlxAuthor) TableName() string { return "authors" }

// TestSQLX uses sqlx.
func TestSQLX(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		db := sqlx.NewDb(f.db, f.driver)
		inTx := func(ctx context.Context, fn func(tx *sqlx.Tx) error) error {
			return within(fn)(db.BeginTxx(ctx, nil))
		}
		var bob sqlxAuthor

		f.run(t, []step{
			{"named create", func(ctx context.Context) error {
				_, err := db.NamedExecContext(ctx, `INSERT INTO authors (name, visits) VALUES (:name, :visits)`, sqlxAuthor{Name: "Dee", Visits: 1})
				return err
			}, changes(sqlxAuthor{ID: 4})},
			{"named batch", func(ctx context.Context) error {
				_, err := db.NamedExecContext(ctx, `INSERT INTO authors (name, visits) VALUES (:name, :visits)`,
					[]sqlxAuthor{{Name: "Dee"}, {Name: "Eve"}, {Name: "Fay"}})
				return err
			}, changes(author(4), author(5), author(6))},
			{"named create that returns its row", func(ctx context.Context) error {
				rows, err := db.NamedQueryContext(ctx, `INSERT INTO authors (name) VALUES (:name) RETURNING id, name`, map[string]any{"name": "Dee"})
				if err != nil {
					return err
				}
				defer func() { _ = rows.Close() }()
				var dee sqlxAuthor
				for rows.Next() {
					if err := rows.StructScan(&dee); err != nil {
						return err
					}
				}
				if dee.ID != 4 {
					return errors.New("the new row has another key than 4")
				}
				return rows.Err()
			}, changes(author(4))},
			{"get, then named update", func(ctx context.Context) error {
				if err := db.GetContext(ctx, &bob, db.Rebind(`SELECT * FROM authors WHERE name = ?`), "Bob"); err != nil {
					return err
				}
				bob.Visits++
				_, err := db.NamedExecContext(ctx, `UPDATE authors SET visits = :visits WHERE id = :id`, bob)
				return err
			}, changes(&bob)},
			{"update of a list", func(ctx context.Context) error {
				query, args, err := sqlx.In(`UPDATE authors SET visits = 0 WHERE id IN (?)`, []int64{1, 3})
				if err != nil {
					return err
				}
				_, err = db.ExecContext(ctx, db.Rebind(query), args...)
				return err
			}, changes(author(1), author(3))},
			{"delete", func(ctx context.Context) error {
				db.MustExecContext(ctx, db.Rebind(`DELETE FROM authors WHERE id = ?`), 3)
				return nil
			}, changes(author(3))},
			{"named and prepared", func(ctx context.Context) error {
				stmt, err := db.PrepareNamedContext(ctx, `UPDATE books SET title = :title WHERE id = :id`)
				if err != nil {
					return err
				}
				defer func() { _ = stmt.Close() }()
				for _, id := range []int64{1, 2} {
					if _, err := stmt.ExecContext(ctx, map[string]any{"title": "new", "id": id}); err != nil {
						return err
					}
				}
				return nil
			}, changes(book(1), book(2))},
			{"prepared, then used in a transaction", func(ctx context.Context) error {
				stmt, err := db.PreparexContext(ctx, db.Rebind(`UPDATE books SET title = ? WHERE id = ?`))
				if err != nil {
					return err
				}
				defer func() { _ = stmt.Close() }()
				return inTx(ctx, func(tx *sqlx.Tx) error {
					_, err := tx.StmtxContext(ctx, stmt).ExecContext(ctx, "new", 3)
					return err
				})
			}, changes(book(3))},
			{"transaction", func(ctx context.Context) error {
				return inTx(ctx, func(tx *sqlx.Tx) error {
					tx.MustExecContext(ctx, tx.Rebind(`INSERT INTO authors (name) VALUES (?)`), "Dee")
					_, err := tx.NamedExecContext(ctx, `INSERT INTO books (author_id, title) VALUES (:a, :t)`, map[string]any{"a": 4, "t": "D"})
					return err
				})
			}, changes(author(4), book(4))},
			{"transaction rolled back", func(ctx context.Context) error {
				return undone(inTx(ctx, func(tx *sqlx.Tx) error {
					tx.MustExecContext(ctx, tx.Rebind(`UPDATE authors SET visits = 0 WHERE id = ?`), 1)
					return errUndo
				}))
			}, nothing},
			{"select", func(ctx context.Context) error {
				var all []sqlxAuthor
				if err := db.SelectContext(ctx, &all, `SELECT * FROM authors ORDER BY id`); err != nil {
					return err
				}
				if len(all) != 3 {
					return errors.New("there are three authors")
				}
				return nil
			}, nothing},
		})
	})
}
