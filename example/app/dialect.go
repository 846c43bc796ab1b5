package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jmoiron/sqlx"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// dialect is what the databases do not have in common, beside the placeholders, which sqlx writes.
type dialect struct {
	schema    string // makes the tables, and a few rows
	made      string // asks whether they are there
	alone     func(ctx context.Context, db *sqlx.DB, do func(querier) error) error
	returning bool // a new row's id comes from RETURNING, not from LastInsertId
}

var (
	//go:embed schema/sqlite.sql
	sqliteSchema string
	//go:embed schema/postgres.sql
	postgresSchema string
	//go:embed schema/mysql.sql
	mysqlSchema string
)

// querier is a transaction or a connection.
type querier interface {
	sqlx.QueryerContext
	sqlx.ExecerContext
}

// dialects are named as their drivers are.
var dialects = map[string]dialect{
	"sqlite": {
		schema: sqliteSchema,
		made:   `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'orders'`,
		alone:  inTransaction(""), // which is BEGIN IMMEDIATE: see settings
	},
	"pgx": {
		schema:    postgresSchema,
		made:      `SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'orders'`,
		alone:     inTransaction(`SELECT pg_advisory_xact_lock(hashtext('alkey example'))`),
		returning: true,
	},
	"mysql": {
		schema: mysqlSchema,
		made:   `SELECT count(*) FROM information_schema.tables WHERE table_schema = database() AND table_name = 'orders'`,
		alone:  underLock,
	},
}

// migrate makes the tables of a new database and puts a few rows into them. Programs that start at
// the same time wait for each other.
func (s store) migrate(ctx context.Context) error {
	return s.alone(ctx, s.db, func(db querier) error {
		var made bool
		if err := sqlx.GetContext(ctx, db, &made, s.made); err != nil || made {
			return err
		}
		for statement := range strings.SplitSeq(strings.TrimSpace(s.schema), ";\n") {
			if _, err := db.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

// inTransaction is for databases whose transactions make tables too: all is done, or nothing.
func inTransaction(lock string) func(context.Context, *sqlx.DB, func(querier) error) error {
	return func(ctx context.Context, db *sqlx.DB, do func(querier) error) error {
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if lock != "" {
			if _, err := tx.ExecContext(ctx, lock); err != nil {
				return err
			}
		}
		if err := do(tx); err != nil {
			return err
		}
		return tx.Commit()
	}
}

// underLock is for MySQL, where making a table ends the transaction. The lock is the connection's, and
// ends with it at the latest.
func underLock(ctx context.Context, db *sqlx.DB, do func(querier) error) (err error) {
	conn, err := db.Connx(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var locked bool
	if err := conn.GetContext(ctx, &locked, `SELECT COALESCE(GET_LOCK('alkey example', 60), 0)`); err != nil {
		return err
	}
	if !locked {
		return errors.New("another program holds the lock for more than a minute")
	}
	defer func() {
		_, unlocked := conn.ExecContext(context.WithoutCancel(ctx), `SELECT RELEASE_LOCK('alkey example')`)
		err = errors.Join(err, unlocked)
	}()
	return do(conn)
}

// meaning tells what a constraint that refused a write means here.
func meaning(err error) error {
	var code any
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		code = e.Code()
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		code = e.Code
	}
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		code = e.Number
	}
	switch code {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, "23505", uint16(1062):
		return fmt.Errorf("%w: %w", errEmailTaken, err)
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY, "23503", uint16(1452):
		return fmt.Errorf("%w: %w", errNotFound, err)
	}
	return err
}
