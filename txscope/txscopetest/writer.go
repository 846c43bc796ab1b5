package txscopetest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// writer is one transaction, or one statement outside of any.
type writer struct {
	*run
	ctx    context.Context
	cancel func() // ends what a failed check has left open
	scope  *txscope.Scope
	conn   *sql.Conn // nil if the pool gives one
	own    bool      // conn goes back to the pool after the transaction
	tx     *sql.Tx   // nil if it was begun by text, or not at all
	open   bool      // a transaction is open, for all that the writer knows

	shapes []Statement // that are drawn

	least, most int  // steps
	reads       bool // only such as write nothing
	exact       bool // so far

	start  *contents // of the tables
	before *contents // what is committed: start, unless a statement has committed
	// What was ever different inside, and was not rolled back to a savepoint.
	visited changes
	// What was ever different inside.
	dirty      changes
	savepoints []savepoint

	blind bool // as Suite.BareBlinds has it

	steps []string // what was done, to tell
}

type savepoint struct {
	name    string
	visited changes
}

// ending is how a transaction ended.
type ending int

const (
	committed ending = iota // or a part of it
	rolledBack
	lost // rolled back, as the connection was lost or may have been
)

func (r *run) newWriter() *writer {
	w := &writer{run: r, visited: make(changes), dirty: make(changes), exact: true}
	if r.now == nil {
		r.now = r.read(r.bare)
	}
	w.start = r.now
	w.before = w.start
	w.ctx, w.scope = txscope.OpenScope(r.ctx, r.store)
	w.ctx, w.cancel = context.WithCancel(w.ctx)
	w.choose()
	return w
}

// choose draws what kinds of statements there will be.
func (w *writer) choose() {
	mode := rapid.SampledFrom([]string{"any", "any", "any", "any", "exact", "exact", "exact", "reads"}).Draw(w.T, "statements of")
	w.least, w.most = 0, 10
	if mode == "exact" {
		w.least, w.most = 1, 3 // the fewer there are the more often none fails
	}
	for _, s := range w.suite.Statements {
		if mode == "any" || mode == "exact" && s.Exact && !s.Reads || mode == "reads" && s.Reads {
			w.shapes = append(w.shapes, s)
		}
	}
	if len(w.shapes) == 0 {
		w.shapes = w.suite.Statements
	}
	w.reads = !slices.ContainsFunc(w.shapes, func(s Statement) bool { return !s.Reads })
}

// note keeps what was done.
func (w *writer) note(format string, args ...any) {
	w.steps = append(w.steps, fmt.Sprintf(format, args...))
}

// script tells what was done.
func (w *writer) script() string { return "\t" + strings.Join(w.steps, "\n\t") }

func (w *writer) fail(format string, args ...any) {
	w.Helper()
	w.Fatalf("%s\n%s", fmt.Sprintf(format, args...), w.script())
}

// demand fails for an error that nothing but a fault can explain.
func (w *writer) demand(err error) {
	w.Helper()
	if err != nil {
		w.fail("%v", err)
	}
}

// abandon ends what is left open.
func (w *writer) abandon() {
	w.cancel()
	if w.tx != nil {
		_ = w.tx.Rollback()
	}
	w.finish()
}

// finish gives the connection back. It waits for a rollback that database/sql does by itself.
func (w *writer) finish() {
	if w.conn != nil && w.own {
		_ = w.conn.Close()
	}
	w.conn = nil
}

// perform draws and runs the transaction.
func (w *writer) perform() ending {
	ways := []string{"api", "api", "text", "none", "none"}
	if w.suite.SavepointBegins {
		ways = append(ways, "savepoint")
	}
	if w.suite.Batches {
		ways = append(ways, "batch")
	}
	way := rapid.SampledFrom(ways).Draw(w.T, "begin by")
	w.connect(way)
	switch way {
	case "none":
		w.statement()
		return committed
	case "batch":
		return w.wholeInOneText()
	}
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	w.begin(ctx, way)
	canBeLost := way == "api" && w.conn != nil && rapid.IntRange(0, 9).Draw(w.T, "is lost") == 0
	for range rapid.IntRange(w.least, w.most).Draw(w.T, "steps") {
		w.step()
		if w.aborted() && len(w.savepoints) == 0 {
			break
		}
		if w.exact || rapid.Bool().Draw(w.T, "look") {
			w.check()
		}
	}
	if canBeLost && !w.committed() {
		return w.lose(ctx, cancel)
	}
	return w.end(way)
}

// connect draws a connection.
func (w *writer) connect(way string) {
	from := []string{"kept", "own"}
	if way == "api" || way == "none" {
		from = append(from, "pool")
	}
	switch from := rapid.SampledFrom(from).Draw(w.T, "connection"); from {
	case "kept":
		w.conn = w.keep()
	case "own":
		conn, err := w.db.Conn(w.ctx)
		w.demand(err)
		w.conn, w.own = conn, true
	}
}

func (w *writer) begin(ctx context.Context, way string) {
	switch way {
	case "api":
		opts := new(sql.TxOptions)
		opts.ReadOnly = w.reads && w.suite.ReadOnly && rapid.Bool().Draw(w.T, "read only")
		begin := w.db.BeginTx
		if w.conn != nil {
			begin = w.conn.BeginTx
		}
		w.note("BeginTx(%+v)", *opts)
		tx, err := begin(ctx, opts)
		w.demand(err)
		w.tx = tx
	case "text":
		w.control(w.oneOf(w.suite.Begin, "BEGIN", "begin;", "/* x */ BEGIN -- y"))
	case "savepoint":
		w.control("SAVEPOINT outermost")
	}
	w.open = true
}

func (w *writer) oneOf(texts []string, otherwise ...string) string {
	if texts == nil {
		texts = otherwise
	}
	return rapid.SampledFrom(texts).Draw(w.T, "text")
}

func (w *writer) step() {
	kinds := []string{"statement", "statement", "statement", "statement", "guarded", "savepoint"}
	if len(w.savepoints) > 0 {
		kinds = append(kinds, "release", "rollback to")
	}
	switch {
	case w.aborted():
		kinds = []string{"rollback to"}
	case w.committed():
		kinds = []string{"statement"} // outside of any transaction
	}
	switch rapid.SampledFrom(kinds).Draw(w.T, "step") {
	case "statement":
		w.statement()
	case "guarded":
		w.guarded()
	case "savepoint":
		w.savepoint(rapid.SampledFrom([]string{"s0", "s1"}).Draw(w.T, "name")) // names repeat
	case "release":
		w.releaseSavepoint(w.anySavepoint())
	case "rollback to":
		w.rollbackTo(w.anySavepoint())
	}
}

// guarded runs a statement as data layers do that nest transactions: in a savepoint.
func (w *writer) guarded() {
	shape := w.draw()
	if shape.Commits {
		w.runOne(shape)
		return
	}
	w.savepoint("guard")
	if w.runOne(shape) && rapid.IntRange(0, 3).Draw(w.T, "keep") > 0 {
		w.releaseSavepoint("guard")
	} else {
		w.rollbackTo("guard")
	}
}

func (w *writer) savepoint(name string) {
	w.control("SAVEPOINT " + name)
	if w.suite.SavepointReplaces {
		w.savepoints = slices.DeleteFunc(w.savepoints, func(s savepoint) bool { return s.name == name })
	}
	w.savepoints = append(w.savepoints, savepoint{name, maps.Clone(w.visited)})
}

func (w *writer) anySavepoint() string {
	return w.savepoints[rapid.IntRange(0, len(w.savepoints)-1).Draw(w.T, "savepoint")].name
}

// newest is the place of the newest savepoint with the name.
func (w *writer) newest(name string) int {
	for i, s := range slices.Backward(w.savepoints) {
		if s.name == name {
			return i
		}
	}
	return -1
}

func (w *writer) releaseSavepoint(name string) {
	w.control("release savepoint " + strings.ToUpper(name))
	w.savepoints = w.savepoints[:w.newest(name)]
}

func (w *writer) rollbackTo(name string) {
	w.control("ROLLBACK TO " + name)
	i := w.newest(name)
	w.visited = maps.Clone(w.savepoints[i].visited)
	w.savepoints = w.savepoints[:i+1]
}

// control runs a text that controls the transaction.
func (w *writer) control(text string) {
	w.Helper()
	w.demand(w.tryControl(text))
}

func (w *writer) tryControl(text string) error {
	if w.suite.ControlAtOnce || rapid.Bool().Draw(w.T, "at once") {
		w.note("%s", text)
		_, err := w.session().ExecContext(w.ctx, text)
		return err
	}
	w.note("%s, prepared", text)
	s, err := w.session().PrepareContext(w.ctx, text)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(w.ctx)
	return errors.Join(err, s.Close())
}

// end draws how the transaction ends, and ends it.
func (w *writer) end(way string) ending {
	commit := rapid.IntRange(0, 2).Draw(w.T, "commit") > 0
	refused := w.aborted()
	err := w.endBy(way, commit)
	w.open, w.tx = false, nil
	switch {
	case w.committed():
		w.demand(err)
		return committed // what came before, at least
	case refused:
		if err != nil {
			w.note("failed: %v", err)
		}
		return rolledBack
	case !commit:
		w.demand(err)
		return rolledBack
	case err != nil && w.suite.Refuses != nil && w.suite.Refuses(err):
		w.note("refused: %v", err)
		return rolledBack
	default:
		w.demand(err)
		return committed
	}
}

func (w *writer) endBy(way string, commit bool) error {
	switch {
	case way == "api" && commit:
		w.note("Commit()")
		return w.tx.Commit()
	case way == "api":
		w.note("Rollback()")
		return w.tx.Rollback()
	case way == "savepoint" && commit && rapid.Bool().Draw(w.T, "release"):
		return w.tryControl("RELEASE outermost")
	case commit:
		return w.tryControl(w.oneOf(w.suite.Commit, "COMMIT", "END;", "commit transaction"))
	default:
		return w.tryControl("ROLLBACK")
	}
}

// committed reports whether a statement has committed the transaction by the way.
func (w *writer) committed() bool { return w.before != w.start }

// lose cancels the transaction's context, sometimes while rows are being read.
func (w *writer) lose(ctx context.Context, cancel func()) ending {
	var rows *sql.Rows
	if !w.aborted() && rapid.Bool().Draw(w.T, "with rows open") {
		query := "SELECT * FROM " + w.suite.Tables[0].Name
		w.note("%s", query)
		var err error
		rows, err = w.tx.QueryContext(ctx, query)
		w.demand(err)
		rows.Next()
	}
	w.note("the context is cancelled")
	cancel()
	if rows != nil {
		_ = rows.Close()
	}
	if err := w.tx.Commit(); err == nil {
		w.fail("a transaction was committed whose context had ended")
	}
	// Who gives the connection back waits for the rollback.
	w.tx, w.open = nil, false
	if !w.own {
		w.release()
	}
	w.finish()
	return lost
}

// wholeInOneText runs a transaction in one text.
func (w *writer) wholeInOneText() ending {
	w.exact, w.reads = false, false
	begin, end := w.oneOf(w.suite.Begin, "BEGIN"), rapid.SampledFrom([]string{"COMMIT", "ROLLBACK"}).Draw(w.T, "end")
	texts := w.withoutArguments(3)
	w.total.statements += len(texts)
	text := strings.Join(slices.Concat([]string{begin}, texts, []string{end}), "\n;\n")
	w.note("%s", text)
	if _, err := w.session().ExecContext(w.ctx, text); err != nil {
		w.note("failed: %v", err)
		w.note("ROLLBACK")
		_, _ = w.session().ExecContext(w.ctx, "ROLLBACK") // there may be nothing any more
	}
	return committed
}

// withoutArguments draws texts of statements that need none and can stand in one text.
func (w *writer) withoutArguments(n int) (texts []string) {
	for range n {
		shape := w.draw()
		if text, args := shape.Draw(w.T); len(args) == 0 {
			texts = append(texts, text)
		}
	}
	return texts
}

// session is what *sql.DB, *sql.Conn and *sql.Tx have in common.
type session interface {
	querier
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

func (w *writer) session() session {
	switch {
	case w.tx != nil:
		return w.tx
	case w.conn != nil:
		return w.conn
	default:
		return w.db
	}
}

func (w *writer) draw() Statement {
	rare := rapid.IntRange(0, 9).Draw(w.T, "rare") == 0
	shapes := slices.DeleteFunc(slices.Clone(w.shapes), func(s Statement) bool { return s.Rare != rare })
	if len(shapes) == 0 {
		shapes = w.shapes
	}
	return rapid.SampledFrom(shapes).Draw(w.T, "shape")
}

// statement runs one statement, or several in one text.
func (w *writer) statement() {
	if w.suite.Batches && rapid.IntRange(0, 9).Draw(w.T, "several") == 0 {
		texts := w.withoutArguments(3)
		if len(texts) > 1 {
			w.exact, w.reads = false, false
			w.total.statements += len(texts)
			text := strings.Join(texts, "\n;\n")
			w.note("%s", text)
			w.outcome(second(w.session().ExecContext(w.ctx, text)))
			return
		}
	}
	w.runOne(w.draw())
}

// runOne runs one statement and reports whether it succeeded.
func (w *writer) runOne(shape Statement) bool {
	query, args := shape.Draw(w.T)
	use := w.total.shapes[shape.Name]
	if use == nil {
		use = &usage{fails: shape.Fails}
		w.total.shapes[shape.Name] = use
	}
	use.drawn++
	w.total.statements++
	w.exact = w.exact && shape.Exact
	if shape.Commits && w.open {
		defer w.begun()
	}
	err := w.send(shape, query, args)
	if err == nil {
		use.succeeded++
	}
	return w.outcome(err)
}

// outcome takes in a statement's error.
func (w *writer) outcome(err error) bool {
	if err != nil {
		w.exact = false
		w.note("\tfailed: %v", err)
	}
	return err == nil
}

// begun takes in that what was done is committed, and that what follows is as outside of a
// transaction.
func (w *writer) begun() {
	w.before = w.read(w.bare)
	w.savepoints = nil
	w.visited, w.dirty = make(changes), make(changes)
	w.exact = false
}

// send runs a statement in one of many ways.
func (w *writer) send(shape Statement, query string, args []any) error {
	ways := []string{"at once", "at once", "prepared", "kept", "kept", "the other way"}
	if w.suite.Bare && w.conn != nil && !w.reads {
		ways = append(ways, "bare")
	}
	way := rapid.SampledFrom(ways).Draw(w.T, "way")
	w.note("%s: %s: %s %v", shape.Name, way, query, args)
	rows := shape.Rows
	switch way {
	case "bare":
		w.exact = false
		w.blind = w.suite.BareBlinds
		err := w.conn.Raw(func(c any) error { return execBare(w.ctx, c.(*txscope.Conn).Bare(), query, args) })
		if !w.open {
			// What was written is settled when the connection is used again, or given back.
			w.demand(second(w.conn.ExecContext(w.ctx, "SELECT 1")))
		}
		return err
	case "the other way": // Query for what returns no rows, and Exec for what does
		w.exact = false
		rows = !rows
	}
	s := statement(textStatement{w.session(), query})
	if way == "kept" {
		kept, err := w.keptStatement(query)
		if err != nil {
			return err
		}
		if kept == nil {
			way = "prepared"
		} else {
			s = kept
		}
	}
	if way == "prepared" {
		prepared, err := w.session().PrepareContext(w.ctx, query)
		if err != nil {
			return err
		}
		defer func() { w.demand(prepared.Close()) }()
		s = prepared
	}
	if !rows {
		return second(s.ExecContext(w.ctx, args...))
	}
	return w.query(s, args)
}

func second[T any](_ T, err error) error { return err }

// statement is a text, or a prepared one.
type statement interface {
	ExecContext(ctx context.Context, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, args ...any) (*sql.Rows, error)
}

type textStatement struct {
	session
	text string
}

func (s textStatement) ExecContext(ctx context.Context, args ...any) (sql.Result, error) {
	return s.session.ExecContext(ctx, s.text, args...)
}

func (s textStatement) QueryContext(ctx context.Context, args ...any) (*sql.Rows, error) {
	return s.session.QueryContext(ctx, s.text, args...)
}

// keptStatement returns a statement that stays prepared for other transactions: on the connection
// that is kept, or in the pool. It is nil where there can be none: nothing is prepared in the pool
// during a transaction, for it could wait for that on another connection.
func (w *writer) keptStatement(query string) (*sql.Stmt, error) {
	var statements map[string]*sql.Stmt
	var on session
	switch {
	case w.own:
		return nil, nil
	case w.conn != nil:
		statements, on = w.prepared, w.conn
	default:
		statements, on = w.pooled, w.db
	}
	s := statements[query]
	if s == nil {
		if w.conn == nil && w.open {
			return nil, nil
		}
		var err error
		if s, err = on.PrepareContext(w.ctx, query); err != nil {
			return nil, err
		}
		statements[query] = s
	}
	if w.tx != nil {
		return w.tx.StmtContext(w.ctx, s), nil
	}
	return s, nil
}

// query reads a random number of rows.
func (w *writer) query(s statement, args []any) error {
	most := rapid.SampledFrom([]int{0, 1, 2, 1000, 1000, 1000}).Draw(w.T, "rows read")
	rows, err := s.QueryContext(w.ctx, args...)
	if err != nil {
		return err
	}
	n := 0
	for n < most && rows.Next() {
		n++
	}
	if n == most {
		w.exact = false
		w.note("\tclosed after %d rows", n)
	}
	err = rows.Err()
	return errors.Join(err, rows.Close())
}

// execBare runs a statement on the driver's own connection.
func execBare(ctx context.Context, conn driver.Conn, query string, args []any) error {
	values := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		v, err := driver.DefaultParameterConverter.ConvertValue(arg)
		if err != nil {
			return err
		}
		values[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	if e, ok := conn.(driver.ExecerContext); ok {
		if _, err := e.ExecContext(ctx, query, values); !errors.Is(err, driver.ErrSkip) {
			return err
		}
	}
	p, ok := conn.(driver.ConnPrepareContext)
	if !ok {
		return fmt.Errorf("a connection of type %T cannot prepare", conn)
	}
	s, err := p.PrepareContext(ctx, query)
	if err != nil {
		return err
	}
	e, ok := s.(driver.StmtExecContext)
	if !ok {
		return errors.Join(fmt.Errorf("a statement of type %T cannot be run", s), s.Close())
	}
	_, err = e.ExecContext(ctx, values)
	return errors.Join(err, s.Close())
}

// aborted reports whether the transaction can only be rolled back.
func (w *writer) aborted() bool {
	if !w.suite.Aborts || !w.open {
		return false
	}
	rows, err := w.session().QueryContext(w.ctx, "SELECT 1")
	if err != nil {
		return true
	}
	return rows.Close() != nil
}

// check asserts that nobody of the request is served, or stores, what the transaction has changed.
func (w *writer) check() {
	if w.aborted() || w.committed() {
		return
	}
	inside := w.read(w.session())
	for id := range w.undoable(differences(w.before, inside)) {
		w.dirty[id], w.visited[id] = true, true
		if w.scope.Usable(id) {
			w.fail("%s was changed in the open transaction and is usable", id)
		}
	}
	for id := range w.parents(w.before, inside) {
		w.dirty[id], w.visited[id] = true, true
	}
	for id := range w.dirty {
		if w.scope.Storable(id) {
			w.fail("%s was changed in the open transaction and is storable", id)
		}
	}
}

// checkTaken asserts that the request stores nothing that was made of what was rolled back.
func (w *writer) checkTaken() {
	for id := range w.dirty {
		if w.scope.Storable(id) {
			w.fail("%s was rolled back and can be stored", id)
		}
	}
}

// undoable leaves out what knows no transactions.
func (w *writer) undoable(all changes) changes {
	maps.DeleteFunc(all, func(id tokens.ID, _ bool) bool {
		return slices.ContainsFunc(w.suite.Tables, func(t Table) bool { return t.Apart && tokens.Table(t.Name).Table == id.Table })
	})
	return all
}
