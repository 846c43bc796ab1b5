package datalayers

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/uptrace/bun"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/alkey-go/alkey/txscope"
)

// TestOwnWrites shows that layers pass on the context that they are given: inside a transaction the
// request is not served what it has changed, and stores nothing.
func TestOwnWrites(t *testing.T) {
	layers := map[string]func(ctx context.Context, f *fixture, inside func()) error{
		"database/sql": func(ctx context.Context, f *fixture, inside func()) error {
			tx, err := f.db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, f.bind(`UPDATE authors SET visits = 0 WHERE id = ?`), 1)
			inside()
			return errors.Join(err, tx.Commit())
		},
		"sqlx": func(ctx context.Context, f *fixture, inside func()) error {
			tx, err := sqlx.NewDb(f.db, f.driver).BeginTxx(ctx, nil)
			if err != nil {
				return err
			}
			_, err = tx.NamedExecContext(ctx, `UPDATE authors SET visits = 0 WHERE id = :id`, sqlxAuthor{ID: 1})
			inside()
			return errors.Join(err, tx.Commit())
		},
		"GORM": func(ctx context.Context, f *fixture, inside func()) error {
			db, err := gorm.Open(f.gorm(f.db), &gorm.Config{Logger: logger.Discard})
			if err != nil {
				return err
			}
			return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
				err := tx.Model(&gormAuthor{ID: 1}).Update("visits", 0).Error
				inside()
				return err
			})
		},
		"bun": func(ctx context.Context, f *fixture, inside func()) error {
			return bun.NewDB(f.db, f.bun()).RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
				_, err := tx.NewUpdate().Model(&bunAuthor{ID: 1}).Column("visits").WherePK().Exec(ctx)
				inside()
				return err
			})
		},
		"sqlc": func(ctx context.Context, f *fixture, inside func()) error {
			tx, err := f.db.BeginTx(ctx, &sql.TxOptions{})
			if err != nil {
				return err
			}
			err = sqlcOn[f.name](f.db).inTx(tx).SetVisits(ctx, 0, 1)
			inside()
			return errors.Join(err, tx.Commit())
		},
	}
	onEach(t, func(t *testing.T, f *fixture) {
		for name, inTx := range layers {
			t.Run(name, func(t *testing.T) {
				f.reset(t)
				ctx, scope := txscope.OpenScope(t.Context(), f.store)
				met := false
				must(t, inTx(ctx, f, func() {
					met = true
					if scope.Usable(author(1)) {
						t.Error("what the open transaction has changed is usable")
					}
					if !scope.Usable(author(2)) {
						t.Error("what it has not changed is not usable")
					}
					if scope.Storable(author(2)) {
						t.Error("something is storable while the transaction is open")
					}
				}))
				if !met {
					t.Error("nobody has looked inside")
				}
				if !scope.Usable(author(1)) || !scope.Storable(author(2)) {
					t.Error("the transaction is over, and the scope does not know")
				}
			})
		}
	})
}
