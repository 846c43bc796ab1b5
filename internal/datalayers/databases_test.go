package datalayers

import (
	"database/sql"
	"database/sql/driver"
	"path/filepath"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/schema"
	gormsqlite "gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"modernc.org/sqlite"

	_ "github.com/alkey-go/alkey/txscope/sqlite"
)

// database is a kind of database.
type database struct {
	name     string
	driver   string                              // its name in database/sql, which sqlx goes by
	open     func(t *testing.T) driver.Connector // to an empty database of the test's own
	schema   []string
	empty    []string // deletes all rows
	counters []string // makes generated keys follow those of the seed
	upsert   string   // a clause for INSERT INTO authors (name, visits)
	gorm     func(*sql.DB) gorm.Dialector
	bun      func() schema.Dialect
}

// bind writes the placeholders of a query as the driver has them.
func (d *database) bind(query string) string {
	return sqlx.Rebind(sqlx.BindType(d.driver), query)
}

const onSQLite = "SQLite"

var databases = []database{
	{
		name:   onSQLite,
		driver: "sqlite",
		open: func(t *testing.T) driver.Connector {
			c, err := sqlite.NewConnector("file:" + filepath.ToSlash(t.TempDir()) + "/test.db?_journal_mode=WAL&_synchronous=OFF&_foreign_keys=1")
			must(t, err)
			return c
		},
		schema: []string{
			`CREATE TABLE authors (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, visits INTEGER NOT NULL DEFAULT 0, deleted_at DATETIME)`,
			`CREATE TABLE books (id INTEGER PRIMARY KEY, author_id INTEGER REFERENCES authors (id), title TEXT NOT NULL)`,
			`CREATE TABLE tags (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)`,
			`CREATE TABLE book_tags (book_id INTEGER NOT NULL REFERENCES books (id), tag_id INTEGER NOT NULL REFERENCES tags (id), PRIMARY KEY (book_id, tag_id))`,
			`CREATE TABLE audits (id INTEGER PRIMARY KEY, note TEXT NOT NULL)`,
			`CREATE TABLE documents (id TEXT PRIMARY KEY, title TEXT NOT NULL)`,
		},
		empty: []string{
			`DELETE FROM documents`, `DELETE FROM audits`, `DELETE FROM book_tags`, `DELETE FROM tags`, `DELETE FROM books`, `DELETE FROM authors`,
		},
		upsert: `ON CONFLICT (name) DO UPDATE SET visits = excluded.visits`,
		// The dialector imports the C library's driver, for programs that name no other. With an
		// existing pool it never opens it, so go.mod replaces that driver with an empty package.
		gorm: func(db *sql.DB) gorm.Dialector { return gormsqlite.New(gormsqlite.Config{Conn: db}) },
		bun:  func() schema.Dialect { return sqlitedialect.New() },
	},
}
