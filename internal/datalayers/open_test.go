package datalayers

import (
	"context"
	"database/sql"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	queries "github.com/alkey-go/alkey/internal/datalayers/sqlc/postgres"
)

// How to open each layer over a wrapped database, as docs/capture.md shows it.

func openSQLX(plain *sql.DB) *sqlx.DB {
	db := sqlx.NewDb(plain, "pgx")
	return db
}

func openSQLC(plain *sql.DB) *queries.Queries {
	q := queries.New(plain)
	return q
}

func openGORM(plain *sql.DB) (*gorm.DB, error) {
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: plain}), &gorm.Config{})
	if err != nil {
		return nil, err
	}
	return db, nil
}

func openBun(plain *sql.DB) *bun.DB {
	db := bun.NewDB(plain, pgdialect.New())
	return db
}

// TestOpenAsDocumented writes through layers that were opened like that: on PostgreSQL, as the
// documentation shows.
func TestOpenAsDocumented(t *testing.T) {
	onSome(t, []database{postgresServed}, func(t *testing.T, f *fixture) {
		f.run(t, []step{
			{"sqlx", func(ctx context.Context) error {
				_, err := openSQLX(f.db).NamedExecContext(ctx, `UPDATE authors SET visits = :v WHERE id = :id`, map[string]any{"v": 5, "id": 1})
				return err
			}, changes(author(1))},
			{"sqlc", func(ctx context.Context) error { return openSQLC(f.db).SetVisits(ctx, 5, 2) }, changes(author(2))},
			{"GORM", func(ctx context.Context) error {
				db, err := openGORM(f.db)
				if err != nil {
					return err
				}
				return db.WithContext(ctx).Model(&gormAuthor{ID: 3}).Update("visits", 5).Error
			}, changes(author(3))},
			{"bun", func(ctx context.Context) error {
				_, err := openBun(f.db).NewUpdate().Model((*bunAuthor)(nil)).Set("visits = 5").Where("id = 1").Exec(ctx)
				return err
			}, changes(author(1))},
		})
	})
}

// Every block of the documentation that is marked "go datalayers" stands in this file, and so compiles
// and runs.
func TestDocumentation(t *testing.T) {
	own, err := os.ReadFile("open_test.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/capture.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```go datalayers\n(.*?)^```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) == 0 {
		t.Fatal("the documentation shows none")
	}
	for _, block := range blocks {
		indented := "\t" + strings.ReplaceAll(strings.TrimSuffix(block[1], "\n"), "\n", "\n\t") + "\n"
		if !strings.Contains(string(own), indented) {
			t.Errorf("this is not what is tested:\n%s", block[1])
		}
	}
}
