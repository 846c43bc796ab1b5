package datalayers

import (
	"context"
	"database/sql"
	"errors"
	"testing"
)

// errUndo makes a layer roll back.
var errUndo = errors.New("as the test wants it")

// undone is nil if err is errUndo.
func undone(err error) error {
	if errors.Is(err, errUndo) {
		return nil
	}
	return errors.Join(errors.New("nothing was undone"), err)
}

// within takes a transaction that was begun, or the error of BEGIN, runs fn in it, and commits it, or
// rolls it back with fn's error.
func within[T interface {
	Commit() error
	Rollback() error
}](fn func(tx T) error) func(tx T, err error) error {
	return func(tx T, err error) error {
		if err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		return tx.Commit()
	}
}

// TestDatabaseSQL uses database/sql alone.
func TestDatabaseSQL(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) { f.run(t, plainSteps(f, f.db)) })
}

func plainSteps(f *fixture, db *sql.DB) []step {
	exec := func(query string, args ...any) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := db.ExecContext(ctx, f.bind(query), args...)
			return err
		}
	}
	inTx := func(fn func(ctx context.Context, tx *sql.Tx) error) func(context.Context) error {
		return func(ctx context.Context) error {
			return within(func(tx *sql.Tx) error { return fn(ctx, tx) })(db.BeginTx(ctx, nil))
		}
	}
	visit := func(ctx context.Context, tx *sql.Tx, id int64) error {
		_, err := tx.ExecContext(ctx, f.bind(`UPDATE authors SET visits = visits + 1 WHERE id = ?`), id)
		return err
	}
	undo := func(do func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error { return undone(do(ctx)) }
	}

	return []step{
		{"create", exec(`INSERT INTO authors (name) VALUES (?)`, "Dee"), changes(author(4))},
		{"create several", exec(`INSERT INTO authors (name) VALUES (?), (?)`, "Dee", "Eve"), changes(author(4), author(5))},
		{"update by key", exec(`UPDATE authors SET visits = 11 WHERE id = ?`, 1), changes(author(1))},
		{"update by condition", exec(`UPDATE authors SET visits = visits + 1 WHERE visits > ?`, 15), changes(author(2), author(3))},
		{"update all", exec(`UPDATE authors SET visits = 0`), changes(author(1), author(2), author(3))},
		{"update none", exec(`UPDATE authors SET visits = 0 WHERE id = ?`, 99), nothing.atMostOn(onMariaDB, changes(author(99)))},
		{"soft delete", exec(`UPDATE authors SET deleted_at = CURRENT_TIMESTAMP WHERE id = ?`, 2), changes(author(2))},
		{"delete", exec(`DELETE FROM authors WHERE id = ?`, 3), changes(author(3))},
		{"delete several", exec(`DELETE FROM book_tags WHERE book_id IN (?, ?)`, 1, 2), changes(tagged(1, 1), tagged(2, 2))},
		{"join table", exec(`INSERT INTO book_tags (book_id, tag_id) VALUES (?, ?)`, 3, 1), changes(tagged(3, 1))},
		{"a key of text", exec(`UPDATE documents SET title = ? WHERE id = ?`, "new", documentB.String()), changes(document(documentB))},
		{"upsert of an old row", exec(`INSERT INTO authors (name, visits) VALUES (?, ?) `+f.upsert, "Bob", 21), changes(author(2)).atMostOn(onMariaDB, sweeps("authors"))},
		{"upsert of a new row", exec(`INSERT INTO authors (name, visits) VALUES (?, ?) `+f.upsert, "Dee", 21), changes(author(4)).atMostOn(onMariaDB, sweeps("authors"))},
		{"prepared", func(ctx context.Context) error {
			stmt, err := db.PrepareContext(ctx, f.bind(`UPDATE authors SET visits = ? WHERE id = ?`))
			if err != nil {
				return err
			}
			defer func() { _ = stmt.Close() }()
			for _, id := range []int64{1, 3} {
				if _, err := stmt.ExecContext(ctx, 99, id); err != nil {
					return err
				}
			}
			return nil
		}, changes(author(1), author(3))},
		{"prepared in a transaction", inTx(func(ctx context.Context, tx *sql.Tx) error {
			stmt, err := tx.PrepareContext(ctx, f.bind(`DELETE FROM books WHERE id = ?`))
			if err != nil {
				return err
			}
			_, err = stmt.ExecContext(ctx, 3)
			return err
		}), changes(book(3))},
		{"transaction", inTx(func(ctx context.Context, tx *sql.Tx) error {
			return errors.Join(visit(ctx, tx, 1), visit(ctx, tx, 2))
		}), changes(author(1), author(2))},
		{"transaction rolled back", undo(inTx(func(ctx context.Context, tx *sql.Tx) error {
			return errors.Join(visit(ctx, tx, 1), errUndo)
		})), nothing},
		{"savepoint rolled back", inTx(func(ctx context.Context, tx *sql.Tx) error {
			if err := visit(ctx, tx, 1); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `SAVEPOINT here`); err != nil {
				return err
			}
			if err := visit(ctx, tx, 2); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, `ROLLBACK TO SAVEPOINT here`)
			return err
		}), changes(author(1))},
		{"transaction on one connection by text", func(ctx context.Context) error {
			conn, err := db.Conn(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			for _, text := range []string{`BEGIN`, `UPDATE authors SET visits = 0 WHERE id = 3`, `COMMIT`} {
				if _, err := conn.ExecContext(ctx, text); err != nil {
					return err
				}
			}
			return nil
		}, changes(author(3))},
		{"transaction whose context ends", func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				cancel()
				return err
			}
			err = visit(ctx, tx, 1)
			cancel()
			if tx.Commit() == nil {
				return errors.New("the transaction was committed")
			}
			return err
		}, nothing},
		{"read", func(ctx context.Context) error {
			rows, err := db.QueryContext(ctx, f.bind(`SELECT name FROM authors WHERE id > ?`), 1)
			if err != nil {
				return err
			}
			for rows.Next() {
			}
			return errors.Join(rows.Err(), rows.Close())
		}, nothing},
	}
}
