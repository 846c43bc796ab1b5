package datalayers

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
)

type bunAuthor struct {
	bun.BaseModel `bun:"table:authors"`

	ID        int64 `bun:",pk,autoincrement"`
	Name      string
	Visits    int
	DeletedAt time.Time  `bun:",soft_delete,nullzero"`
	Books     []*bunBook `bun:"rel:has-many,join:id=author_id"`
}

func (bunAuthor) TableName() string { return "authors" }

var _ bun.AfterInsertHook = (*bunAuthor)(nil)

// AfterInsert notes who is new, over the connection of the insert.
func (*bunAuthor) AfterInsert(ctx context.Context, query *bun.InsertQuery) error {
	a, ok := query.GetModel().Value().(*bunAuthor)
	if !ok || a.Name != "hooked" {
		return nil
	}
	_, err := query.DB().NewInsert().Model(&bunAudit{Note: "after"}).Exec(ctx)
	return err
}

type bunBook struct {
	bun.BaseModel `bun:"table:books"`

	ID       int64 `bun:",pk,autoincrement"`
	AuthorID *int64
	Title    string
	Tags     []*bunTag `bun:"m2m:book_tags,join:Book=Tag"`
}

func (bunBook) TableName() string { return "books" }

type bunTag struct {
	bun.BaseModel `bun:"table:tags"`

	ID   int64 `bun:",pk,autoincrement"`
	Name string
}

func (bunTag) TableName() string { return "tags" }

type bunBookTag struct {
	bun.BaseModel `bun:"table:book_tags"`

	BookID int64    `bun:",pk" alkey:"pk"`
	TagID  int64    `bun:",pk" alkey:"pk"`
	Book   *bunBook `bun:"rel:belongs-to,join:book_id=id"`
	Tag    *bunTag  `bun:"rel:belongs-to,join:tag_id=id"`
}

func (bunBookTag) TableName() string { return "book_tags" }

type bunAudit struct {
	bun.BaseModel `bun:"table:audits"`

	ID   int64 `bun:",pk,autoincrement"`
	Note string
}

func (bunAudit) TableName() string { return "audits" }

type bunDocument struct {
	bun.BaseModel `bun:"table:documents"`

	ID    uuid.UUID `bun:",pk"`
	Title string
}

func (bunDocument) TableName() string { return "documents" }

// TestBun uses bun.
func TestBun(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		db := bun.NewDB(f.db, f.bun())
		db.RegisterModel((*bunBookTag)(nil))
		f.run(t, bunSteps(db))
	})
}

// bunResult drops the result.
func bunResult(_ sql.Result, err error) error { return err }

func bunSteps(db *bun.DB) []step {
	var (
		dee     = &bunAuthor{Name: "Dee"}
		several = []*bunAuthor{{Name: "Dee"}, {Name: "Eve"}}
		bob     = &bunAuthor{ID: 2, Name: "Bob", Visits: 21}
		link    = &bunBookTag{BookID: 3, TagID: 2}
	)
	visit := func(ctx context.Context, db bun.IDB, id int64) error {
		return bunResult(db.NewUpdate().Model((*bunAuthor)(nil)).Set("visits = visits + 1").Where("id = ?", id).Exec(ctx))
	}
	upsert := func(q *bun.InsertQuery) *bun.InsertQuery {
		if db.Dialect().Name() == dialect.MySQL {
			return q.On("DUPLICATE KEY UPDATE")
		}
		return q.On("CONFLICT (name) DO UPDATE").Set("visits = EXCLUDED.visits")
	}
	return []step{
		{"create", func(ctx context.Context) error {
			return bunResult(db.NewInsert().Model(dee).Exec(ctx))
		}, changes(dee)},
		{"create a batch", func(ctx context.Context) error {
			return bunResult(db.NewInsert().Model(&several).Exec(ctx))
		}, changes(author(4), author(5))},
		{"create from a map", func(ctx context.Context) error {
			return bunResult(db.NewInsert().Model(&map[string]any{"name": "Dee"}).TableExpr("authors").Exec(ctx))
		}, changes(author(4))},
		{"a key of another type", func(ctx context.Context) error {
			return bunResult(db.NewInsert().Model(&bunDocument{ID: documentC, Title: "C"}).Exec(ctx))
		}, changes(bunDocument{ID: documentC})},
		{"hook", func(ctx context.Context) error {
			return bunResult(db.NewInsert().Model(&bunAuthor{Name: "hooked"}).Exec(ctx))
		}, changes(author(4), audit(1))},

		{"update", func(ctx context.Context) error {
			return bunResult(db.NewUpdate().Model(bob).Column("visits").WherePK().Exec(ctx))
		}, changes(bob)},
		{"update by an expression", func(ctx context.Context) error { return visit(ctx, db, 1) }, changes(author(1))},
		{"update by condition", func(ctx context.Context) error {
			return bunResult(db.NewUpdate().Table("authors").Set("visits = ?", 0).Where("visits > ?", 15).Exec(ctx))
		}, changes(author(2), author(3))},
		{"bulk update", func(ctx context.Context) error {
			books := []*bunBook{{ID: 1, Title: "AA"}, {ID: 3, Title: "CC"}}
			return bunResult(db.NewUpdate().Model(&books).Column("title").Bulk().Exec(ctx))
		}, changes(book(1), book(3)).notOn(onMariaDB, "bun writes VALUES ROW(…), which MySQL has and MariaDB has not")},
		{"update by a key of another type", func(ctx context.Context) error {
			return bunResult(db.NewUpdate().Model(&bunDocument{ID: documentB, Title: "new"}).WherePK().Exec(ctx))
		}, changes(bunDocument{ID: documentB})},

		{"soft delete", func(ctx context.Context) error {
			return bunResult(db.NewDelete().Model(bob).WherePK().Exec(ctx))
		}, changes(bob)},
		{"delete", func(ctx context.Context) error {
			return bunResult(db.NewDelete().Model((*bunAuthor)(nil)).Where("id = ?", 3).ForceDelete().Exec(ctx))
		}, changes(author(3))},
		{"bulk delete", func(ctx context.Context) error {
			return bunResult(db.NewDelete().Model((*bunBookTag)(nil)).Where("book_id IN (?)", bun.List([]int{1, 2})).Exec(ctx))
		}, changes(tagged(1, 1), tagged(2, 2))},
		{"join table", func(ctx context.Context) error {
			return bunResult(db.NewInsert().Model(link).Exec(ctx))
		}, changes(link)},
		{"upsert of an old row", func(ctx context.Context) error {
			return bunResult(upsert(db.NewInsert().Model(&bunAuthor{Name: "Bob", Visits: 99})).Exec(ctx))
		}, changes(author(2)).atMostOn(onMariaDB, sweeps("authors"))},
		{"insert that is ignored", func(ctx context.Context) error {
			return bunResult(db.NewInsert().Model(&bunTag{Name: "new"}).Ignore().Exec(ctx))
		}, nothing},

		{"transaction", func(ctx context.Context) error {
			return db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
				return errors.Join(visit(ctx, tx, 1), visit(ctx, tx, 3))
			})
		}, changes(author(1), author(3))},
		{"transaction rolled back", func(ctx context.Context) error {
			return undone(db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
				return errors.Join(visit(ctx, tx, 1), errUndo)
			}))
		}, nothing},
		{"inner transaction rolled back", func(ctx context.Context) error {
			return db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
				inner := tx.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
					return errors.Join(visit(ctx, tx, 2), errUndo)
				})
				return errors.Join(undone(inner), visit(ctx, tx, 1))
			})
		}, changes(author(1))},
		{"inner transaction committed", func(ctx context.Context) error {
			return db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
				return tx.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
					return visit(ctx, tx, 2)
				})
			})
		}, changes(author(2))},

		{"raw", func(ctx context.Context) error {
			return bunResult(db.NewRaw("UPDATE authors SET visits = ? WHERE id = ?", 7, 3).Exec(ctx))
		}, changes(author(3))},
		{"prepared", func(ctx context.Context) error {
			stmt, err := db.PrepareContext(ctx, "UPDATE authors SET visits = 8 WHERE id = 1")
			if err != nil {
				return err
			}
			_, err = stmt.ExecContext(ctx)
			return errors.Join(err, stmt.Close())
		}, changes(author(1))},

		{"read", func(ctx context.Context) error {
			var authors []bunAuthor
			if err := db.NewSelect().Model(&authors).Relation("Books.Tags").Scan(ctx); err != nil {
				return err
			}
			if len(authors) != 3 || len(authors[0].Books) != 2 || len(authors[0].Books[0].Tags) != 1 {
				return errors.New("a relation is missing")
			}
			n, err := db.NewSelect().Model((*bunBook)(nil)).Count(ctx)
			if n != 3 {
				return errors.Join(errors.New("there are three books"), err)
			}
			return err
		}, nothing},
	}
}
