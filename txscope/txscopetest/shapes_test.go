package txscopetest_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"
	"pgregory.net/rapid"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/txscope/txscopetest"
)

var (
	postgres = testserver.Share(testserver.Postgres)
	mariaDB  = testserver.Share(testserver.MariaDB)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testserver.StopAfter(m, postgres, mariaDB)) }

// TestShapes runs every statement on the databases that it is for, on bare drivers: each succeeds
// for some arguments.
func TestShapes(t *testing.T) {
	for _, database := range []struct {
		name, driver string
		dialect      txscopetest.Dialect
		dsn          func(t *testing.T) string
	}{
		{"SQLite", "sqlite", txscopetest.SQLite(), func(t *testing.T) string {
			return "file:" + filepath.ToSlash(filepath.Join(t.TempDir(), "test.db")) + "?_foreign_keys=1&_synchronous=OFF"
		}},
		{"Postgres", "pgx", txscopetest.Postgres(), func(t *testing.T) string { return postgres.Get(t).Database(t) }},
		{"MariaDB", "mysql", txscopetest.MariaDB(), func(t *testing.T) string { return mariaDB.Get(t).Database(t) }},
	} {
		t.Run(database.name, func(t *testing.T) {
			db, err := sql.Open(database.driver, database.dsn(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			suite := txscopetest.Shapes(database.dialect)
			for _, text := range suite.Schema {
				if _, err := db.ExecContext(t.Context(), text); err != nil {
					t.Fatalf("%v\n%s", err, text)
				}
			}
			names := make(map[string]bool)
			for _, s := range suite.Statements {
				if names[s.Name] {
					t.Errorf("two statements are called %q", s.Name)
				}
				names[s.Name] = true
				if err := succeeds(t.Context(), db, s); (err != nil) != s.Fails {
					t.Errorf("%s: fails: %v, which should be %v: %v", s.Name, err != nil, s.Fails, err)
				}
			}
		})
	}
}

type drawn struct {
	text string
	args []any
}

// succeeds runs a statement with some arguments until it succeeds. The error is the last.
func succeeds(ctx context.Context, db *sql.DB, s txscopetest.Statement) error {
	draw := rapid.Custom(func(t *rapid.T) drawn {
		_ = rapid.Bool().Draw(t, "anything") // Custom wants something to be drawn
		text, args := s.Draw(t)
		return drawn{text, args}
	})
	var err error
	for seed := range 100 {
		d := draw.Example(seed)
		if err = tried(ctx, db, s, d); err == nil {
			return nil
		}
	}
	return err
}

func tried(ctx context.Context, db *sql.DB, s txscopetest.Statement, d drawn) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if !s.Rows {
		if _, err := tx.ExecContext(ctx, d.text, d.args...); err != nil {
			return err
		}
		if s.Rare {
			return tx.Commit() // others undo what it has made
		}
		return nil
	}
	rows, err := tx.QueryContext(ctx, d.text, d.args...)
	if err != nil {
		return err
	}
	for rows.Next() {
	}
	return errors.Join(rows.Err(), rows.Close())
}
