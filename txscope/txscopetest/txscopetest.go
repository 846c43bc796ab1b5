// Package txscopetest holds captures to what package txscope asks of them: random transactions are
// judged by the difference of the tables before and after, read on a connection of their own.
//
// A suite for a database is short: Shapes has a schema and statements for all of them, to which the
// capture's own test adds what is peculiar to its database.
package txscopetest

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/alkey-go/alkey/tokens"
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

	// TouchParents says that Open wraps with txscope.Touch, or TouchTables: whoever writes to the child
	// of one of Foreign must change the keys of its parents too. TouchAncestors says that theirs are
	// changed as well.
	TouchParents, TouchAncestors bool
	Foreign                      []Foreign

	// What the driver and the database can do.

	Batches           bool // several statements in one text, without arguments
	Bare              bool // driver.ExecerContext, or statements, on the connection that Conn.Bare returns
	BareBlinds        bool // after that, what the transaction does can change keys though it is rolled back
	ReadOnly          bool // sql.TxOptions.ReadOnly
	Aborts            bool // after an error a transaction can only be rolled back, if to a savepoint
	SavepointBegins   bool // SAVEPOINT outside of a transaction begins one, and its RELEASE commits
	SavepointReplaces bool // a savepoint takes the place of one with the same name
	ControlAtOnce     bool // SAVEPOINT and the like cannot be prepared
	FoldsKeys         bool // foreign keys take texts for equal in any case of letters

	// Refuses reports whether the error of a COMMIT, or of a statement outside of a transaction, is that
	// of a constraint that waits for COMMIT. Nil if there are none: then every COMMIT must succeed.
	Refuses func(error) bool

	// Begin and Commit are texts that do so. Nil is a selection that SQLite and PostgreSQL take.
	Begin, Commit []string
}

// Table is a table that is compared.
type Table struct {
	Name string // as in identifiers and in SQL

	// Key names the columns of the primary key; none means that the table is swept.
	Key []string

	// ID makes a row's identifier from its key as the driver reads it; nil is tokens.Row.
	ID func(key []any) tokens.ID

	// Candidates are keys that rows may come to have, so that their tokens are read beforehand.
	Candidates [][]any

	// Apart says that the table knows no transactions: what is written stays.
	Apart bool
}

func (t *Table) row(key []any) tokens.ID {
	if t.ID != nil && len(key) > 0 {
		return t.ID(key)
	}
	return tokens.Row(t.Name, key...)
}

// Foreign is a foreign key by which children touch their parents.
type Foreign struct {
	Child   string
	Columns []string
	Parent  string
	// References are the columns of the parent that the foreign key names. Nil is the primary key; if
	// they are others, the parent's table is expected to be swept.
	References []string
}

// Statement is a shape of statements.
type Statement struct {
	Name string
	Draw func(t *rapid.T) (query string, args []any)

	// Rows says that the statement returns rows, of which a random number is read.
	Rows bool

	// Exact says that the capture knows the rows that the statement changes. Transactions of such
	// statements only, none of which fails, must change less than 1 % of keys without need.
	Exact bool

	// Reads says that the statement writes nothing. Transactions of such statements only must not ask
	// anything of the token store.
	Reads bool

	// Commits says that the statement commits the transaction that it is in, as some databases do for
	// a change of the schema.
	Commits bool

	// Fails says that the statement is meant to fail, always.
	Fails bool

	// Rare statements are drawn less often than others.
	Rare bool
}

// Run runs the suite. It fails if a row has changed and its key has not; if a rollback has changed a
// key; if a request is served what its own open transaction has changed, or stores it; if a
// transaction that only reads costs the token store anything; and if 1 % of the keys or more that
// transactions of exact statements have changed need not have changed. It fails, too, if there is a
// statement that never succeeds.
//
// What failed is told with the statements of the transaction, in order.
func Run(t *testing.T, s Suite) {
	var total tally
	total.shapes = make(map[string]*usage)
	t.Run("transactions", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			r := newRun(t, &s, &total)
			defer r.close()
			for range rapid.IntRange(1, 15).Draw(t, "transactions") {
				if !r.transaction() {
					break
				}
			}
		})
	})
	if !t.Failed() {
		total.judge(t)
	}
}

// tally is what all checks have in common.
type tally struct {
	transactions, statements int
	all, exact               precision
	shapes                   map[string]*usage
	examples                 []string // of keys changed without need by exact statements
}

// precision counts keys of rows. Those of rows that a transaction has changed and changed back count
// as neither.
type precision struct {
	transactions int
	needed       int // changed, as they must
	needless     int // changed, and the row is as it was
	stayed       int // not changed, nor the row
}

func (p precision) String() string {
	return fmt.Sprintf("%d transactions have changed the keys of %d rows, %d (%.2f %%) without need; %d keys of rows that stayed the same did so too",
		p.transactions, p.needed+p.needless, p.needless, 100*p.share(), p.stayed)
}

// share is that of the needless among the changed.
func (p precision) share() float64 {
	if p.needless == 0 {
		return 0
	}
	return float64(p.needless) / float64(p.needed+p.needless)
}

type usage struct {
	drawn, succeeded int
	fails            bool // and is meant to
}

const (
	enoughKeys  = 5  // needless ones, to judge the share of them
	enoughDrawn = 50 // to judge that a statement cannot succeed

	enoughExamples = 5
)

func (total *tally) judge(t *testing.T) {
	t.Logf("%d transactions with %d statements; rows that changed and whose key did not: none", total.transactions, total.statements)
	t.Logf("all: %s", total.all)
	t.Logf("exact statements only: %s", total.exact)
	for _, example := range total.examples {
		t.Logf("exact, and changed without need: %s", example)
	}
	if p := total.exact; p.needless >= enoughKeys && p.share() >= 0.01 {
		t.Errorf("statements that are exact have changed %.2f %% of keys without need, and may less than 1 %%", 100*p.share())
	}
	for _, name := range slices.Sorted(maps.Keys(total.shapes)) {
		if u := total.shapes[name]; u.drawn >= enoughDrawn && u.succeeded == 0 && !u.fails {
			t.Errorf("the test is wrong: %q was drawn %d times and always failed", name, u.drawn)
		}
	}
}

// run is one check.
type run struct {
	*rapid.T
	suite   *Suite
	total   *tally
	ctx     context.Context
	backend *Backend
	store   *tokens.Store
	db      *sql.DB
	bare    *sql.DB
	now     *contents // of the tables; nil before they are read

	kept     *sql.Conn            // used by several transactions
	prepared map[string]*sql.Stmt // on kept
	pooled   map[string]*sql.Stmt // on db
}

func newRun(t *rapid.T, s *Suite, total *tally) *run {
	r := &run{T: t, suite: s, total: total, ctx: context.Background(), backend: NewBackend(), pooled: make(map[string]*sql.Stmt)}
	r.store = tokens.New(r.backend)
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
	r.release()
	for _, s := range r.pooled {
		r.must(s.Close())
	}
	r.must(r.db.Close())
	r.must(r.bare.Close())
	r.must(r.store.Close())
}

// keep returns the connection that is kept.
func (r *run) keep() *sql.Conn {
	if r.kept == nil {
		conn, err := r.db.Conn(r.ctx)
		r.must(err)
		r.kept, r.prepared = conn, make(map[string]*sql.Stmt)
	}
	return r.kept
}

// release gives the connection back that is kept.
func (r *run) release() {
	if r.kept == nil {
		return
	}
	for _, s := range r.prepared {
		_ = s.Close() // the connection may be lost
	}
	_ = r.kept.Close()
	r.kept, r.prepared = nil, nil
}

func (r *run) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// contents is what is in all tables.
type contents struct {
	ids     map[tokens.ID]string // by row, and of tables without a key as a whole
	records map[string][]record  // by table
}

// record is one row.
type record struct {
	id     tokens.ID
	values map[string]any
	text   string
}

func (c *contents) has(table string, row record) bool {
	return slices.ContainsFunc(c.records[table], func(other record) bool { return other.id == row.id && other.text == row.text })
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func (r *run) read(q querier) *contents {
	c := &contents{ids: make(map[tokens.ID]string), records: make(map[string][]record)}
	for i := range r.suite.Tables {
		table := &r.suite.Tables[i]
		found := r.readTable(q, table)
		// The order of rows means nothing.
		slices.SortFunc(found, func(a, b record) int { return strings.Compare(a.text, b.text) })
		for _, row := range found {
			c.ids[row.id] += row.text
		}
		c.records[table.Name] = found
	}
	return c
}

func (r *run) readTable(q querier, table *Table) (all []record) {
	found, err := q.QueryContext(r.ctx, "SELECT * FROM "+table.Name)
	r.must(err)
	defer func() { r.must(found.Close()) }()
	columns, err := found.Columns()
	r.must(err)
	for found.Next() {
		values := make([]any, len(columns))
		dest := make([]any, len(columns))
		for i := range dest {
			dest[i] = &values[i]
		}
		r.must(found.Scan(dest...))
		row := record{text: fmt.Sprintf("%#v\n", values), values: make(map[string]any, len(columns))}
		for i, column := range columns {
			row.values[strings.ToLower(column)] = values[i]
		}
		row.id = table.row(pick(row.values, table.Key))
		all = append(all, row)
	}
	r.must(found.Err())
	return all
}

// pick returns the values of some columns.
func pick(values map[string]any, columns []string) []any {
	picked := make([]any, len(columns))
	for i, column := range columns {
		picked[i] = values[strings.ToLower(column)]
	}
	return picked
}

// changes are identifiers of rows, and of tables without a key.
type changes map[tokens.ID]bool

// differences are the identifiers of what is not the same.
func differences(before, after *contents) changes {
	changed := make(changes)
	for id, row := range before.ids {
		if after.ids[id] != row {
			changed[id] = true
		}
	}
	for id, row := range after.ids {
		if before.ids[id] != row {
			changed[id] = true
		}
	}
	return changed
}

func (r *run) table(name string) *Table {
	i := slices.IndexFunc(r.suite.Tables, func(t Table) bool { return t.Name == name })
	if i < 0 {
		r.Fatalf("the test is wrong: there is no table %q", name)
	}
	return &r.suite.Tables[i]
}

// parents are those that must be touched when before becomes after.
func (r *run) parents(before, after *contents) changes {
	touched := make(changes)
	if !r.suite.TouchParents {
		return touched
	}
	both := []*contents{before, after}
	var from func(f Foreign, child record)
	from = func(f Foreign, child record) {
		for _, c := range both {
			for _, parent := range r.referenced(f, child, c) {
				if touched[parent.id] {
					continue
				}
				touched[parent.id] = true
				if !r.suite.TouchAncestors {
					continue
				}
				for _, up := range r.suite.Foreign {
					for _, c := range both {
						for _, row := range c.records[f.Parent] {
							if up.Child == f.Parent && row.id == parent.id {
								from(up, row)
							}
						}
					}
				}
			}
		}
	}
	for _, f := range r.suite.Foreign {
		for i, c := range both {
			for _, child := range c.records[f.Child] {
				if !both[1-i].has(f.Child, child) {
					from(f, child)
				}
			}
		}
	}
	return touched
}

// referenced returns the rows that a child's foreign key names.
func (r *run) referenced(f Foreign, child record, in *contents) (rows []record) {
	names := f.References
	if names == nil {
		names = r.table(f.Parent).Key
	}
	values := pick(child.values, f.Columns)
	if slices.Contains(values, nil) {
		return nil
	}
	equal := func(a, b any) bool {
		return plain(a) == plain(b) || r.suite.FoldsKeys && strings.EqualFold(plain(a), plain(b))
	}
	for _, row := range in.records[f.Parent] {
		if slices.EqualFunc(pick(row.values, names), values, equal) {
			rows = append(rows, row)
		}
	}
	return rows
}

// absent are rows that foreign keys name and that there may not be, where those are not enforced.
func (r *run) absent(all ...*contents) changes {
	named := make(changes)
	for _, f := range r.suite.Foreign {
		if !r.suite.TouchParents || f.References != nil {
			continue
		}
		for _, c := range all {
			for _, child := range c.records[f.Child] {
				if values := pick(child.values, f.Columns); !slices.Contains(values, nil) && len(r.referenced(f, child, c)) == 0 {
					named[r.table(f.Parent).row(values)] = true
				}
			}
		}
	}
	return named
}

func plain(v any) string {
	if b, ok := v.([]byte); ok {
		return string(b)
	}
	return fmt.Sprint(v)
}

// universe lists everything whose tokens are compared.
func (r *run) universe(present *contents) []tokens.ID {
	ids := []tokens.ID{tokens.Global}
	seen := map[tokens.ID]bool{}
	add := func(id tokens.ID) {
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	for i := range r.suite.Tables {
		table := &r.suite.Tables[i]
		add(tokens.Table(table.Name))
		for _, key := range table.Candidates {
			add(table.row(key))
		}
	}
	for id := range present.ids {
		add(id)
	}
	return ids
}

func (w *writer) tokens(ids []tokens.ID) map[tokens.ID]tokens.Stamp {
	found, err := w.store.Read(w.run.ctx, ids)
	w.must(err)
	stamps := make(map[tokens.ID]tokens.Stamp, len(ids))
	for i, id := range ids {
		if found[i].Fenced {
			w.fail("%s is fenced and nothing is under way", id)
		}
		stamps[id] = found[i].Stamp
	}
	return stamps
}

// transaction runs one transaction, or one statement outside of any, and judges it. It is false if
// nothing more can be told after it.
func (r *run) transaction() bool {
	w := r.newWriter()
	defer w.abandon()
	ids := r.universe(w.before)
	was := w.tokens(ids)
	r.backend.Calls()

	ending := w.perform()
	w.finish()
	ops := r.backend.Ops()
	after := r.read(r.bare)
	r.now = after
	r.total.transactions++
	if w.reads && len(ops) > 0 {
		w.fail("a transaction that only reads has asked the token store for %v", ops)
	}
	switch ending {
	case lost:
		if changed := w.undoable(differences(w.start, after)); len(changed) > 0 {
			w.fail("the test is wrong: a transaction that was lost has changed %v", changed)
		}
		w.checkTaken()
		return false
	case rolledBack:
		if changed := w.undoable(differences(w.start, after)); len(changed) > 0 {
			w.fail("the test is wrong: a rollback has changed %v", changed)
		}
		w.checkTaken()
	}
	w.judge(ending, ids, was, w.tokens(ids), after)
	return true
}

// judge compares what has changed with the keys that have.
func (w *writer) judge(ending ending, ids []tokens.ID, was, is map[tokens.ID]tokens.Stamp, after *contents) {
	changed := differences(w.start, after)
	maps.Copy(changed, w.parents(w.start, after))
	// Neither needless nor not: what was changed and changed back, and tables that are swept for
	// foreign keys to other columns.
	neutral := maps.Clone(w.visited)
	maps.Copy(neutral, w.absent(w.start, after))
	swept := make(map[string]bool)
	for _, f := range w.suite.Foreign {
		if w.suite.TouchParents && f.References != nil && !slices.Equal(f.References, w.table(f.Parent).Key) {
			swept[tokens.Table(f.Parent).Table] = true
		}
	}
	tables := make(map[string]bool)
	for id := range changed {
		tables[id.Table] = true
	}
	var p precision
	for _, id := range ids {
		stale := changed[id] || id == tokens.Global && len(changed) > 0 || id.IsTable() && tables[id.Table]
		switch same := was[id] == is[id]; {
		case stale && same:
			w.fail("%s has changed and its key has not", id)
		case !stale && !same && ending == rolledBack && !w.blind:
			w.fail("a rollback has changed the key of %s", id)
		case id == tokens.Global || id.IsTable():
		case stale:
			p.needed++
		case neutral[id]:
		case same:
			p.stayed++
		case !swept[id.Table]:
			p.needless++
			if w.exact && len(w.total.examples) < enoughExamples {
				w.total.examples = append(w.total.examples, fmt.Sprintf("%s\n%s", id, w.script()))
			}
		}
	}
	if ending == rolledBack {
		return
	}
	w.total.all.add(p)
	if w.exact {
		w.total.exact.add(p)
	}
}

func (p *precision) add(one precision) {
	p.transactions++
	p.needed += one.needed
	p.needless += one.needless
	p.stayed += one.stayed
}
