// Package txscopetest holds captures to what package txscope asks of them: random transactions are
// judged by the difference of the tables before and after, read on a connection of their own.
package txscopetest

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// Suite is one kind of database, with a schema and statements that show its peculiarities.
type Suite struct {
	// Open makes an empty database. wrapped is the one under test; bare is another way to the same
	// data, which sees what is committed while a transaction on wrapped is open.
	Open func(t *rapid.T, store *tokens.Store) (wrapped, bare *sql.DB)

	// Schema is run before every check, in one transaction, one text after the other.
	Schema []string

	// Tables are those that are compared.
	Tables []Table

	// Statements are drawn at random. They can fail: what they have done by then counts.
	Statements []Statement
}

// Table is a table that is compared.
type Table struct {
	Name string // as in identifiers and in SQL
	// Key names the columns of the primary key; none means that the table is swept.
	Key []string
	// Candidates are keys that rows may come to have, so that their tokens are read beforehand.
	Candidates [][]any
}

// Statement is a shape of statements.
type Statement struct {
	Name string
	Draw func(t *rapid.T) (query string, args []any)
	// Rows says that the statement returns rows, of which a random number is read.
	Rows bool
}

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	var needless, stayed int
	t.Run("transactions", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			r := newRun(t, s)
			defer r.close()
			for range rapid.IntRange(1, 6).Draw(t, "transactions") {
				r.transaction()
			}
			needless += r.needless
			stayed += r.stayed
		})
	})
	if all := needless + stayed; all > 0 {
		t.Logf("keys of rows that are the same after a commit as before: %d, changed all the same: %d (%.2f %%)", all, needless, 100*float64(needless)/float64(all))
	}
}

// run is one check.
type run struct {
	*rapid.T
	suite Suite
	ctx   context.Context
	store *tokens.Store
	db    *sql.DB
	bare  *sql.DB

	needless, stayed int
}

func newRun(t *rapid.T, s Suite) *run {
	r := &run{T: t, suite: s, ctx: context.Background(), store: tokens.NewMemory()}
	r.db, r.bare = s.Open(t, r.store)
	tx, err := r.db.BeginTx(r.ctx, nil)
	r.must(err)
	for _, text := range s.Schema {
		if _, err := tx.ExecContext(r.ctx, text); err != nil {
			t.Fatalf("schema: %v\n%s", err, text)
		}
	}
	r.must(tx.Commit())
	return r
}

func (r *run) close() {
	r.must(r.db.Close())
	r.must(r.bare.Close())
	r.must(r.store.Close())
}

func (r *run) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// rows is the contents of all tables: by identifier, and for tables without a key as a whole.
type rows map[tokens.ID]string

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func (r *run) read(q querier) rows {
	all := make(rows)
	for _, table := range r.suite.Tables {
		r.readTable(q, table, all)
	}
	return all
}

func (r *run) readTable(q querier, table Table, into rows) {
	found, err := q.QueryContext(r.ctx, "SELECT * FROM "+table.Name)
	r.must(err)
	defer func() { r.must(found.Close()) }()
	columns, err := found.Columns()
	r.must(err)
	values := make([]any, len(columns))
	dest := make([]any, len(columns))
	for i := range dest {
		dest[i] = &values[i]
	}
	for found.Next() {
		r.must(found.Scan(dest...))
		var key []any
		for _, name := range table.Key {
			for i, column := range columns {
				if strings.EqualFold(column, name) {
					key = append(key, values[i])
				}
			}
		}
		id := tokens.Row(table.Name, key...)
		into[id] += fmt.Sprintf("%#v\n", values)
	}
	r.must(found.Err())
}

// differences are the identifiers of rows, and of tables without a key, that are not the same.
func differences(before, after rows) map[tokens.ID]bool {
	changed := make(map[tokens.ID]bool)
	for id, row := range before {
		if after[id] != row {
			changed[id] = true
		}
	}
	for id, row := range after {
		if before[id] != row {
			changed[id] = true
		}
	}
	return changed
}

// universe lists everything whose tokens are compared.
func (r *run) universe(present rows) []tokens.ID {
	ids := []tokens.ID{tokens.Global}
	seen := map[tokens.ID]bool{}
	add := func(id tokens.ID) {
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	for _, table := range r.suite.Tables {
		add(tokens.Table(table.Name))
		for _, key := range table.Candidates {
			add(tokens.Row(table.Name, key...))
		}
	}
	for id := range present {
		add(id)
	}
	return ids
}

func (r *run) tokens(ids []tokens.ID) map[tokens.ID]tokens.Stamp {
	found, err := r.store.Read(r.ctx, ids)
	r.must(err)
	stamps := make(map[tokens.ID]tokens.Stamp, len(ids))
	for i, id := range ids {
		if found[i].Fenced {
			r.Fatalf("%s is fenced and nothing is under way", id)
		}
		stamps[id] = found[i].Stamp
	}
	return stamps
}

// transaction runs one transaction, or one statement outside of any, and judges it.
func (r *run) transaction() {
	before := r.read(r.bare)
	ids := r.universe(before)
	was := r.tokens(ids)

	w := &writer{run: r, before: before, dirty: make(map[tokens.ID]bool)}
	w.ctx, w.scope = txscope.OpenScope(r.ctx, r.store)
	conn, err := r.db.Conn(w.ctx)
	r.must(err)
	w.conn = conn
	how := rapid.SampledFrom([]string{"api", "text", "none"}).Draw(r.T, "begin by")
	committed := w.outcome(how)
	r.must(conn.Close())

	after := r.read(r.bare)
	changed := differences(before, after)
	is := r.tokens(ids)
	if !committed {
		if len(changed) > 0 {
			r.Fatalf("the test is wrong: a rollback has changed %v", changed)
		}
		for _, id := range ids {
			if was[id] != is[id] {
				r.Fatalf("a rollback has changed the key of %s", id)
			}
		}
		for id := range w.dirty {
			if w.scope.Storable(id) {
				r.Fatalf("%s was rolled back and can be stored", id)
			}
		}
		return
	}
	tables := make(map[string]bool)
	for id := range changed {
		tables[id.Table] = true
	}
	for _, id := range ids {
		stale := changed[id] || id == tokens.Global && len(changed) > 0 || id.IsTable() && tables[id.Table]
		switch same := was[id] == is[id]; {
		case stale && same:
			r.Fatalf("%s has changed and its key has not", id)
		case stale || id == tokens.Global || id.IsTable():
		case same:
			r.stayed++
		default:
			r.needless++
		}
	}
}

// writer is one transaction.
type writer struct {
	*run
	ctx    context.Context
	scope  *txscope.Scope
	conn   *sql.Conn
	tx     *sql.Tx
	before rows
	dirty  map[tokens.ID]bool // what was ever different inside
}

// outcome runs the transaction and reports whether it has committed.
func (w *writer) outcome(how string) bool {
	switch how {
	case "none":
		w.statement()
		return true
	case "api":
		tx, err := w.conn.BeginTx(w.ctx, nil)
		w.must(err)
		w.tx = tx
	case "text":
		w.exec(rapid.SampledFrom([]string{"BEGIN", "begin;", "/* x */ BEGIN -- y"}).Draw(w.T, "text"))
	}
	depth := 0
	for range rapid.IntRange(0, 8).Draw(w.T, "statements") {
		switch rapid.SampledFrom([]string{"statement", "statement", "statement", "savepoint", "release", "rollback to"}).Draw(w.T, "step") {
		case "savepoint":
			w.exec(fmt.Sprintf("SAVEPOINT s%d", depth%2)) // names repeat
			depth++
		case "release":
			if depth > 0 {
				depth--
				w.exec(fmt.Sprintf("release savepoint S%d", depth%2))
			}
		case "rollback to":
			if depth > 0 {
				w.exec(fmt.Sprintf("ROLLBACK TO s%d", (depth-1)%2))
			}
		default:
			w.statement()
		}
		w.check()
	}
	commit := rapid.Bool().Draw(w.T, "commit")
	switch {
	case w.tx != nil && commit:
		w.must(w.tx.Commit())
	case w.tx != nil:
		w.must(w.tx.Rollback())
	case commit:
		w.exec(rapid.SampledFrom([]string{"COMMIT", "END;", "commit transaction"}).Draw(w.T, "text"))
	default:
		w.exec("ROLLBACK")
	}
	return commit
}

func (w *writer) exec(query string, args ...any) {
	w.Helper()
	_, err := w.tryExec(query, args...)
	if err != nil {
		w.Fatalf("%s: %v", query, err)
	}
}

func (w *writer) tryExec(query string, args ...any) (sql.Result, error) {
	if rapid.Bool().Draw(w.T, "at once") {
		return w.session().ExecContext(w.ctx, query, args...)
	}
	s, err := w.session().PrepareContext(w.ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { w.must(s.Close()) }()
	return s.ExecContext(w.ctx, args...)
}

// session is what *sql.Conn and *sql.Tx have in common.
type session interface {
	querier
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

func (w *writer) session() session {
	if w.tx != nil {
		return w.tx
	}
	return w.conn
}

func (w *writer) statement() {
	shape := rapid.SampledFrom(w.suite.Statements).Draw(w.T, "shape")
	query, args := shape.Draw(w.T)
	w.Logf("%s: %s %v", shape.Name, query, args)
	if !shape.Rows {
		if _, err := w.tryExec(query, args...); err != nil {
			w.Logf("failed: %v", err)
		}
		return
	}
	found, err := w.session().QueryContext(w.ctx, query, args...)
	if err != nil {
		w.Logf("failed: %v", err)
		return
	}
	for range rapid.IntRange(0, 3).Draw(w.T, "rows read") {
		if !found.Next() {
			break
		}
	}
	w.must(found.Close())
}

// check asserts that nobody of the request is served, or stores, what the transaction has changed.
func (w *writer) check() {
	inside := w.read(w.session())
	for id := range differences(w.before, inside) {
		w.dirty[id] = true
		if w.scope.Usable(id) {
			w.Fatalf("%s was changed in the open transaction and is usable", id)
		}
	}
	for id := range w.dirty {
		if w.scope.Storable(id) {
			w.Fatalf("%s was changed in the open transaction and is storable", id)
		}
	}
}
