package postgres_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/goleak"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	_ "github.com/alkey-go/alkey/txscope/postgres"
	"github.com/alkey-go/alkey/txscope/txscopetest"
)

var server = testserver.Share(testserver.Postgres, "-c", "max_prepared_transactions=5")

func TestMain(m *testing.M) { goleak.VerifyTestMain(testserver.StopAfter(m, server)) }

// fixture is a wrapped database over a store that tells what was asked of it, and another way to the
// same data.
type fixture struct {
	testing.TB
	ctx     context.Context
	dsn     string
	backend *txscopetest.Backend
	store   *tokens.Store
	db      *sql.DB
	bare    *sql.DB
	log     *txscopetest.Log
}

// setUp makes a database with the schema, which is run by the bare driver.
func setUp(t testing.TB, schema string, opts ...txscope.Option) *fixture {
	t.Helper()
	return setUpOn(t, server.Get(t).Database(t), schema, opts...)
}

func setUpOn(t testing.TB, dsn, schema string, opts ...txscope.Option) *fixture {
	t.Helper()
	shared := txscopetest.NewFixture(t)
	f := &fixture{TB: t, ctx: context.Background(), dsn: dsn, backend: shared.Backend, store: shared.Store, log: shared.Logged}
	config, err := pgx.ParseConfig(dsn)
	f.must(err)
	f.bare = sql.OpenDB(stdlib.GetConnector(*config))
	if schema != "" {
		_, err = f.bare.ExecContext(f.ctx, schema)
		f.must(err)
	}
	f.db = shared.Wrap(stdlib.GetConnector(*config), opts...)
	t.Cleanup(func() {
		f.must(f.db.Close())
		f.must(f.bare.Close())
	})
	return f
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// conn takes a connection, which goes back when the test is over.
func (f *fixture) conn() *sql.Conn {
	f.Helper()
	c, err := f.db.Conn(f.ctx)
	f.must(err)
	f.Cleanup(func() { _ = c.Close() })
	return c
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func (f *fixture) exec(e execer, query string, args ...any) {
	f.Helper()
	if _, err := e.ExecContext(f.ctx, query, args...); err != nil {
		f.Fatalf("%s: %v", query, err)
	}
}

// query reads all rows of a query, in text.
func (f *fixture) query(e execer, query string, args ...any) (all []string) {
	f.Helper()
	rows, err := e.QueryContext(f.ctx, query, args...)
	if err != nil {
		f.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	f.must(err)
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		dest := make([]any, len(columns))
		for i := range values {
			dest[i] = &values[i]
		}
		f.must(rows.Scan(dest...))
		var texts []string
		for _, v := range values {
			texts = append(texts, v.String)
		}
		all = append(all, strings.Join(texts, ","))
	}
	f.must(rows.Err())
	return all
}

// published tells what was published since it was asked last: rows as "users#1", swept tables as
// "users!", everything as "*!". What a table and everything is told beside is left out.
func (f *fixture) published() string {
	return strings.ReplaceAll(strings.Join(f.backend.Published(), " "), "#!", "!")
}

// reasons are those of the sweeps so far, by table.
func (f *fixture) reasons() map[string]string {
	f.Helper()
	stats, err := txscope.Stats(f.ctx, f.db)
	f.must(err)
	reasons := make(map[string]string)
	for _, s := range stats.Sweeps {
		reasons[s.Table] = s.Why
	}
	return reasons
}

// inTx runs fn in a transaction that is committed.
func (f *fixture) inTx(fn func(*sql.Tx)) {
	f.Helper()
	tx, err := f.db.BeginTx(f.ctx, nil)
	f.must(err)
	fn(tx)
	f.must(tx.Commit())
}
