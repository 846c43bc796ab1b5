package datalayers

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/alkey-go/alkey/internal/datalayers/sqlc/mysql"
	"github.com/alkey-go/alkey/internal/datalayers/sqlc/postgres"
	"github.com/alkey-go/alkey/internal/datalayers/sqlc/sqlite"
)

// sqlcQueries is what sqlc makes for every kind of database alike.
type sqlcQueries interface {
	CreateBook(ctx context.Context, authorID sql.NullInt64, title string) error
	UpsertAuthor(ctx context.Context, name string, visits int64) error
	SetVisits(ctx context.Context, visits, id int64) error
	VisitAuthorsOver(ctx context.Context, visits int64) (int64, error)
	SoftDeleteAuthor(ctx context.Context, id int64) error
	DeleteAuthor(ctx context.Context, id int64) (int64, error)
	Close() error
}

// sqlcLayer is the code that sqlc made for one kind of database.
type sqlcLayer struct {
	queries  sqlcQueries
	inTx     func(*sql.Tx) sqlcQueries
	prepared func(context.Context) (sqlcQueries, error)

	create func(context.Context) error // an author
	read   func(context.Context) error // authors, one and many
	author any                         // author 1, as sqlc's model
}

// sqlcGenerated is what differs in its types from one kind of database to the other.
type sqlcGenerated[Queries, Author, Created any] interface {
	sqlcQueries
	WithTx(*sql.Tx) Queries
	CreateAuthor(ctx context.Context, name string, visits int64) (Created, error)
	GetAuthor(ctx context.Context, id int64) (Author, error)
	ListAuthors(ctx context.Context) ([]Author, error)
}

func newSQLCLayer[Q sqlcGenerated[Q, Author, Created], Author, Created any](q Q, prepare func(context.Context) (Q, error), author Author) sqlcLayer {
	return sqlcLayer{
		queries:  q,
		inTx:     func(tx *sql.Tx) sqlcQueries { return q.WithTx(tx) },
		prepared: func(ctx context.Context) (sqlcQueries, error) { return prepare(ctx) },
		create: func(ctx context.Context) error {
			_, err := q.CreateAuthor(ctx, "Dee", 1)
			return err
		},
		read: func(ctx context.Context) error {
			_, err := q.GetAuthor(ctx, 1)
			_, all := q.ListAuthors(ctx)
			return errors.Join(err, all)
		},
		author: author,
	}
}

// sqlcOn are what sqlc made, by database.
var sqlcOn = map[string]func(*sql.DB) sqlcLayer{
	onSQLite: func(db *sql.DB) sqlcLayer {
		prepare := func(ctx context.Context) (*sqlite.Queries, error) { return sqlite.Prepare(ctx, db) }
		return newSQLCLayer(sqlite.New(db), prepare, sqlite.Author{ID: 1})
	},
	onPostgres: func(db *sql.DB) sqlcLayer {
		prepare := func(ctx context.Context) (*postgres.Queries, error) { return postgres.Prepare(ctx, db) }
		return newSQLCLayer(postgres.New(db), prepare, postgres.Author{ID: 1})
	},
	onMariaDB: func(db *sql.DB) sqlcLayer {
		prepare := func(ctx context.Context) (*mysql.Queries, error) { return mysql.Prepare(ctx, db) }
		return newSQLCLayer(mysql.New(db), prepare, mysql.Author{ID: 1})
	},
}

// TestSQLC uses code that sqlc has generated: see the folder sqlc.
func TestSQLC(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		l := sqlcOn[f.name](f.db)
		q := l.queries
		inTx := func(ctx context.Context, fn func(q sqlcQueries) error) error {
			return within(func(tx *sql.Tx) error { return fn(l.inTx(tx)) })(f.db.BeginTx(ctx, nil))
		}

		f.run(t, []step{
			{"create", l.create, changes(author(4))},
			{"create a book", func(ctx context.Context) error {
				return q.CreateBook(ctx, sql.NullInt64{Int64: 2, Valid: true}, "D")
			}, changes(book(4))},
			{"update", func(ctx context.Context) error { return q.SetVisits(ctx, 11, 1) }, changes(l.author)},
			{"bulk update", func(ctx context.Context) error {
				n, err := q.VisitAuthorsOver(ctx, 15)
				if n != 2 {
					return errors.Join(errors.New("two authors have more visits"), err)
				}
				return err
			}, changes(author(2), author(3))},
			{"upsert", func(ctx context.Context) error { return q.UpsertAuthor(ctx, "Bob", 99) }, changes(author(2)).atMostOn(onMariaDB, sweeps("authors"))},
			{"soft delete", func(ctx context.Context) error { return q.SoftDeleteAuthor(ctx, 2) }, changes(author(2))},
			{"delete", func(ctx context.Context) error {
				_, err := q.DeleteAuthor(ctx, 3)
				return err
			}, changes(author(3))},
			{"prepared", func(ctx context.Context) error {
				q, err := l.prepared(ctx)
				if err != nil {
					return err
				}
				return errors.Join(q.SetVisits(ctx, 11, 1), q.SetVisits(ctx, 33, 3), q.Close())
			}, changes(l.author, author(3))},
			{"transaction", func(ctx context.Context) error {
				return inTx(ctx, func(q sqlcQueries) error {
					return errors.Join(q.SetVisits(ctx, 11, 1), q.SoftDeleteAuthor(ctx, 2))
				})
			}, changes(author(1), author(2))},
			{"transaction rolled back", func(ctx context.Context) error {
				return undone(inTx(ctx, func(q sqlcQueries) error {
					return errors.Join(q.SetVisits(ctx, 11, 1), errUndo)
				}))
			}, nothing},
			{"read", l.read, nothing},
		})
	})
}
