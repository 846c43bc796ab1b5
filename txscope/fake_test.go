package txscope_test

//lint:file-ignore SA1019 old drivers are tested too

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

func init() { txscope.Register("fake", fakeCapture{}) }

// fakeDriver is a driver that notes what it is asked, and does what the test wants.
type fakeDriver struct {
	kind string // which of the connections below it makes

	mu   sync.Mutex
	log  []string
	idle int // how often the capture was told that no transaction is open

	reading bool // rows are open, says the capture

	// on is called for every call that is noted; its error is the call's.
	on func(call string) error
	// onCommit replaces on for COMMIT.
	onCommit func() error
}

func (d *fakeDriver) note(format string, args ...any) error {
	call := fmt.Sprintf(format, args...)
	d.mu.Lock()
	d.log = append(d.log, call)
	on := d.on
	d.mu.Unlock()
	if on != nil {
		return on(call)
	}
	return nil
}

func (d *fakeDriver) calls() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	log := d.log
	d.log = nil
	return log
}

func (d *fakeDriver) Open(string) (driver.Conn, error) {
	if err := d.note("open"); err != nil {
		return nil, err
	}
	plain := &fakeConn{d: d}
	switch d.kind {
	case "plain":
		return plain, nil
	case "old":
		return &oldConn{plain}, nil
	case "queryer":
		return &queryerConn{plain}, nil
	default:
		return &newConn{fakeConn: plain}, nil
	}
}

func (d *fakeDriver) Connect(context.Context) (driver.Conn, error) { return d.Open("") }
func (d *fakeDriver) Driver() driver.Driver                        { return d }

// fakeConn has nothing that is optional.
type fakeConn struct {
	d    *fakeDriver
	inTx bool
}

func (c *fakeConn) state() *fakeConn { return c }

func (c *fakeConn) Prepare(query string) (driver.Stmt, error) {
	if err := c.d.note("prepare %s", query); err != nil {
		return nil, err
	}
	s := &fakeStmt{c: c, query: query}
	switch c.d.kind {
	case "old":
		return &oldStmt{s}, nil
	case "new":
		return &newStmt{s}, nil
	}
	return s, nil
}

func (c *fakeConn) Close() error { return c.d.note("close") }

func (c *fakeConn) Begin() (driver.Tx, error) {
	if err := c.d.note("begin"); err != nil {
		return nil, err
	}
	c.inTx = true
	return fakeTx{c}, nil
}

type fakeTx struct{ c *fakeConn }

func (t fakeTx) Commit() error {
	err := t.c.d.note("commit")
	if on := t.c.d.onCommit; on != nil {
		err = on()
	}
	if err == nil {
		t.c.inTx = false
	}
	return err
}

func (t fakeTx) Rollback() error {
	t.c.inTx = false
	return t.c.d.note("rollback")
}

type fakeStmt struct {
	c     *fakeConn
	query string
}

func (s *fakeStmt) Close() error  { return s.c.d.note("close statement") }
func (s *fakeStmt) NumInput() int { return strings.Count(s.query, "?") }

func (s *fakeStmt) Exec(args []driver.Value) (driver.Result, error) {
	return driver.RowsAffected(1), s.c.d.note("statement exec %s %v", s.query, args)
}

func (s *fakeStmt) Query(args []driver.Value) (driver.Rows, error) {
	return &fakeRows{d: s.c.d}, s.c.d.note("statement query %s %v", s.query, args)
}

type fakeRows struct {
	d *fakeDriver
	n int
}

func (r *fakeRows) Columns() []string { return []string{"a"} }
func (r *fakeRows) Close() error      { return r.d.note("close rows") }

func (r *fakeRows) Next(dest []driver.Value) error {
	if r.n++; r.n > 2 {
		return io.EOF
	}
	dest[0] = int64(r.n)
	return nil
}

// oldConn has what there was before contexts.
type oldConn struct{ *fakeConn }

func (c *oldConn) Exec(query string, args []driver.Value) (driver.Result, error) {
	if strings.Contains(query, "SKIP") {
		return nil, driver.ErrSkip
	}
	return driver.RowsAffected(1), c.d.note("exec %s %v", query, args)
}

func (c *oldConn) Query(query string, args []driver.Value) (driver.Rows, error) {
	if strings.Contains(query, "SKIP") {
		return nil, driver.ErrSkip
	}
	return &fakeRows{d: c.d}, c.d.note("query %s %v", query, args)
}

type oldStmt struct{ *fakeStmt }

func (s *oldStmt) ColumnConverter(i int) driver.ValueConverter {
	_ = s.c.d.note("converter %d", i)
	return upper{}
}

type upper struct{}

func (upper) ConvertValue(v any) (driver.Value, error) {
	if s, ok := v.(string); ok {
		return strings.ToUpper(s), nil
	}
	return driver.DefaultParameterConverter.ConvertValue(v)
}

// queryerConn can query at once, and not execute.
type queryerConn struct{ *fakeConn }

func (c *queryerConn) QueryContext(_ context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return &fakeRows{d: c.d}, c.d.note("query %s %v", query, args)
}

// newConn has all that is optional.
type newConn struct{ *fakeConn }

// special is a type of argument that only newConn takes.
type special struct{ s string }

func (c *newConn) CheckNamedValue(nv *driver.NamedValue) error {
	if s, ok := nv.Value.(special); ok {
		if s.s == "remove" {
			return driver.ErrRemoveArgument
		}
		nv.Value = "special " + s.s
		return nil
	}
	return driver.ErrSkip
}

func (c *newConn) Ping(context.Context) error         { return c.d.note("ping") }
func (c *newConn) ResetSession(context.Context) error { return c.d.note("reset") }

func (c *newConn) IsValid() bool {
	return c.d.note("valid") == nil
}

func (c *newConn) PrepareContext(_ context.Context, query string) (driver.Stmt, error) {
	return c.Prepare(query)
}

func (c *newConn) BeginTx(_ context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if err := c.d.note("begin %+v", opts); err != nil {
		return nil, err
	}
	c.inTx = true
	return fakeTx{c.fakeConn}, nil
}

func (c *newConn) ExecContext(_ context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if strings.Contains(query, "SKIP") {
		return nil, driver.ErrSkip
	}
	return driver.RowsAffected(1), c.d.note("exec %s %v", query, args)
}

func (c *newConn) QueryContext(_ context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if strings.Contains(query, "SKIP") {
		return nil, driver.ErrSkip
	}
	return &fakeRows{d: c.d}, c.d.note("query %s %v", query, args)
}

type newStmt struct{ *fakeStmt }

func (s *newStmt) ExecContext(_ context.Context, args []driver.NamedValue) (driver.Result, error) {
	return driver.RowsAffected(1), s.c.d.note("statement exec %s %v", s.query, args)
}

func (s *newStmt) QueryContext(_ context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return &fakeRows{d: s.c.d}, s.c.d.note("statement query %s %v", s.query, args)
}

// fakeCapture takes "WRITE" for a statement that writes row 1 of t.
type fakeCapture struct{}

func (fakeCapture) Handles(d driver.Driver) bool { _, ok := d.(*fakeDriver); return ok }

func (fakeCapture) Database(txscope.Setup) txscope.Database { return fakeCapture{} }

func (fakeCapture) Session(c driver.Conn, rec txscope.Recorder) (txscope.Session, error) {
	return &fakeSession{c: c.(interface{ state() *fakeConn }).state(), rec: rec}, nil
}

type fakeSession struct {
	c   *fakeConn
	rec txscope.Recorder
}

var (
	_ txscope.SnapshotSession = (*fakeSession)(nil)

	errLost = errors.New("the connection was lost")
	errBusy = errors.New("busy")
	row1    = tokens.Row("t", 1)
)

func (s *fakeSession) Control(query string) txscope.Control {
	if query == "COMMIT" {
		return txscope.Control{Kind: txscope.KindCommit}
	}
	return txscope.Control{}
}

func (s *fakeSession) Prepare(_ string, prepare func() error) (any, error) { return nil, prepare() }
func (s *fakeSession) Idle(context.Context)                                { s.c.d.idle++ }
func (s *fakeSession) Reading() bool                                       { return s.c.d.reading }

func (s *fakeSession) Before(_ context.Context, call *txscope.Call) {
	if !strings.Contains(call.Query, "WRITE") {
		return
	}
	s.rec.Add(row1)
	if !s.c.inTx {
		_ = s.rec.Committing() // this database cannot prevent it
	}
}

func (s *fakeSession) After(context.Context, *txscope.Call, error) {}
func (s *fakeSession) InTransaction() bool                         { return s.c.inTx }

func (s *fakeSession) Judge(err error) txscope.Verdict {
	switch {
	case errors.Is(err, errBusy):
		return txscope.VerdictOngoing
	case errors.Is(err, errLost):
		return txscope.VerdictUnknown
	default:
		return txscope.VerdictRolledBack
	}
}

func (s *fakeSession) Ended() {}
func (s *fakeSession) Bare()  { s.rec.Add(tokens.Global); _ = s.rec.Committing() }
func (s *fakeSession) Close() {}
