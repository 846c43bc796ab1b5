package txscope_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/txscopetest"
)

func init() { txscope.Register("seam", seamCapture{}) }

// seamDriver is a fakeDriver whose capture does what the test wants.
type seamDriver struct {
	fakeDriver

	control func(query string)
	after   func(s *seamSession, call *txscope.Call)
	before  func(s *seamSession, call *txscope.Call)
	exec    func(s *seamSession, ctx context.Context, call *txscope.Call, run func() (driver.Result, error)) (driver.Result, error)
	query   func(s *seamSession, ctx context.Context, call *txscope.Call, run func() (driver.Rows, error)) (driver.Rows, error)
	commit  func(s *seamSession, ctx context.Context) error
	begin   func(s *seamSession) error
}

func (d *seamDriver) Open(string) (driver.Conn, error) {
	c, err := d.fakeDriver.Open("")
	if err != nil {
		return nil, err
	}
	return &seamConn{newConn: c.(*newConn), d: d}, nil
}

func (d *seamDriver) Connect(context.Context) (driver.Conn, error) { return d.Open("") }
func (d *seamDriver) Driver() driver.Driver                        { return d }

type seamConn struct {
	*newConn
	d *seamDriver
}

type seamCapture struct{}

func (seamCapture) Handles(d driver.Driver) bool { _, ok := d.(*seamDriver); return ok }

func (seamCapture) Database(txscope.Setup) txscope.Database { return seamCapture{} }

func (seamCapture) Session(c driver.Conn, rec txscope.Recorder) (txscope.Session, error) {
	conn := c.(*seamConn)
	return &seamSession{fakeSession: &fakeSession{c: conn.fakeConn, rec: rec}, conn: conn}, nil
}

// seamSession has all that a session can have. It understands BEGIN, COMMIT and ROLLBACK by text.
type seamSession struct {
	*fakeSession
	conn *seamConn
}

var (
	_ txscope.RunningSession    = (*seamSession)(nil)
	_ txscope.CommittingSession = (*seamSession)(nil)
	_ txscope.BeginningSession  = (*seamSession)(nil)
)

func (s *seamSession) Control(query string) txscope.Control {
	if s.conn.d.control != nil {
		s.conn.d.control(query)
	}
	switch query {
	case "BEGIN":
		return txscope.Control{Kind: txscope.KindBegin}
	case "ROLLBACK":
		return txscope.Control{Kind: txscope.KindRollback}
	}
	return s.fakeSession.Control(query)
}

func (s *seamSession) Idle(context.Context) {} // fakeSession counts it, for one connection

func (s *seamSession) Before(ctx context.Context, call *txscope.Call) {
	if s.conn.d.before != nil {
		s.conn.d.before(s, call)
		return
	}
	s.fakeSession.Before(ctx, call)
}

func (s *seamSession) After(_ context.Context, call *txscope.Call, err error) {
	if s.conn.d.after != nil {
		s.conn.d.after(s, call)
	}
	switch {
	case err != nil:
	case call.Query == "BEGIN":
		s.c.inTx = true
	case call.Query == "COMMIT", call.Query == "ROLLBACK":
		s.c.inTx = false
	}
}

func (s *seamSession) Exec(ctx context.Context, call *txscope.Call, run func() (driver.Result, error)) (driver.Result, error) {
	if s.conn.d.exec != nil {
		return s.conn.d.exec(s, ctx, call, run)
	}
	return run()
}

func (s *seamSession) Query(ctx context.Context, call *txscope.Call, run func() (driver.Rows, error)) (driver.Rows, error) {
	if s.conn.d.query != nil {
		return s.conn.d.query(s, ctx, call, run)
	}
	return run()
}

func (s *seamSession) BeforeCommit(ctx context.Context) error {
	if s.conn.d.commit != nil {
		return s.conn.d.commit(s, ctx)
	}
	return nil
}

func (s *seamSession) BeforeBegin(context.Context) error {
	if s.conn.d.begin != nil {
		return s.conn.d.begin(s)
	}
	return nil
}

// seam is a test of the seam: a wrapped database over a driver that notes what it is asked.
type seam struct {
	*testing.T
	*txscopetest.Fixture
	d  *seamDriver
	db *sql.DB
}

func newSeam(t *testing.T, opts ...txscope.Option) *seam {
	t.Helper()
	s := &seam{T: t, Fixture: txscopetest.NewFixture(t), d: &seamDriver{fakeDriver: fakeDriver{kind: "new"}}}
	s.db = s.Wrap(s.d, opts...)
	s.db.SetMaxOpenConns(1)
	// What the store is asked is noted in between.
	s.Backend.OnCall(func(c txscopetest.Call) { _ = s.d.note("%s", c.Op) })
	return s
}

func (s *seam) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// calls is what the driver and the store were asked, in order, without what the pool asks.
func (s *seam) calls() []string {
	return slices.DeleteFunc(s.d.calls(), func(c string) bool { return c == "open" || c == "reset" || c == "valid" })
}

func (s *seam) wantCalls(want ...string) {
	s.Helper()
	if got := s.calls(); !slices.Equal(got, want) {
		s.Errorf("got  %q\nwant %q", got, want)
	}
}

func (s *seam) exec(e interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}, ctx context.Context, query string) {
	s.Helper()
	_, err := e.ExecContext(ctx, query)
	s.must(err)
}

func (s *seam) stats() txscope.Statistics {
	s.Helper()
	got, err := txscope.Stats(s.Context(), s.db)
	s.must(err)
	return got
}

var row2 = tokens.Row("t", 2)

// What is not known yet counts as changed to the own request, and to nobody else.
func TestUnsure(t *testing.T) {
	for _, commits := range []bool{true, false} {
		t.Run(fmt.Sprint("commits: ", commits), func(t *testing.T) {
			s := newSeam(t)
			s.d.before = func(session *seamSession, call *txscope.Call) {
				if strings.Contains(call.Query, "WRITE") {
					session.rec.Unsure()
				}
			}
			s.d.commit = func(session *seamSession, _ context.Context) error {
				session.rec.Add(row1)
				return nil
			}
			ctx, scope := txscope.OpenScope(t.Context(), s.Store)
			_, other := txscope.OpenScope(t.Context(), s.Store)
			was, wasOther := s.Stamp(row1), s.Stamp(row2)
			tx, err := s.db.BeginTx(ctx, nil)
			s.must(err)
			if !scope.Usable(row1) || !scope.Storable(row1) {
				t.Error("a transaction that has done nothing changes something")
			}
			s.exec(tx, ctx, "WRITE")
			if scope.Usable(row1) || scope.Usable(row2) || scope.Usable(tokens.Row("other", 1)) || scope.Storable(row2) {
				t.Error("what may have changed is usable")
			}
			if !other.Usable(row1) || !other.Storable(row1) {
				t.Error("another request is held up")
			}
			if commits {
				s.must(tx.Commit())
			} else {
				s.must(tx.Rollback())
			}
			if !scope.Usable(row1) || !scope.Usable(row2) {
				t.Error("it is over and something is not usable")
			}
			if got := scope.Storable(row1) && scope.Storable(tokens.Row("other", 1)); got != commits {
				t.Errorf("storable: %v", got)
			}
			if got := s.Stamp(row1) != was; got != commits {
				t.Errorf("changed: %v", got)
			}
			if s.Stamp(row2) != wasOther {
				t.Error("another row has changed")
			}
		})
	}
}

// A transaction that was unsure, and has changed nothing, asks nothing of the store.
func TestUnsureOfNothing(t *testing.T) {
	s := newSeam(t)
	s.d.before = func(session *seamSession, call *txscope.Call) { session.rec.Unsure() }
	tx, err := s.db.BeginTx(t.Context(), nil)
	s.must(err)
	s.exec(tx, t.Context(), "WRITE")
	s.must(tx.Commit())
	s.wantCalls("begin {Isolation:0 ReadOnly:false}", "exec WRITE []", "commit")
}

func TestSweepTellsWhy(t *testing.T) {
	s := newSeam(t)
	s.d.before = func(session *seamSession, call *txscope.Call) {
		if call.Query == "WRITE" {
			session.rec.Sweep(tokens.Table("t"), "the first reason")
			session.rec.Sweep(tokens.Table("t"), "another reason")
			session.rec.Sweep(tokens.Table("u"), "its own reason")
		}
	}
	was := s.Stamp(row1)
	tx, err := s.db.BeginTx(t.Context(), nil)
	s.must(err)
	s.exec(tx, t.Context(), "WRITE")
	s.must(tx.Commit())
	if s.Stamp(row1) == was {
		t.Error("a row of the table has not changed")
	}
	want := []txscope.Sweep{{Table: "t", Why: "the first reason", Count: 1}, {Table: "u", Why: "its own reason", Count: 1}}
	if got := s.stats().Sweeps; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// What becomes visible by itself is fenced before and published after, and stays when the
// transaction around it is rolled back.
func TestApart(t *testing.T) {
	s := newSeam(t)
	s.d.exec = func(session *seamSession, _ context.Context, call *txscope.Call, run func() (driver.Result, error)) (driver.Result, error) {
		if call.Query != "APART" {
			return run()
		}
		done, err := session.rec.Apart(tokens.NewChanges(row2, tokens.Table("u")), "a table without transactions")
		if err != nil {
			return nil, err
		}
		defer done(true)
		if !s.Fenced(row2) || s.Fenced(row1) {
			t.Error("the fences are not those that were asked for")
		}
		return run()
	}
	ctx, scope := txscope.OpenScope(t.Context(), s.Store)
	was1, was2, wasU := s.Stamp(row1), s.Stamp(row2), s.Stamp(tokens.Row("u", 5))
	tx, err := s.db.BeginTx(ctx, nil)
	s.must(err)
	s.exec(tx, ctx, "WRITE")
	s.exec(tx, ctx, "APART")
	if s.Stamp(row2) == was2 || s.Stamp(tokens.Row("u", 5)) == wasU {
		t.Error("what is visible has not changed")
	}
	if !scope.Usable(row2) || scope.Usable(row1) {
		t.Error("only what the open transaction has changed is to be held back")
	}
	s.must(tx.Rollback())
	if s.Stamp(row1) != was1 {
		t.Error("what was rolled back has changed")
	}
	s.wantCalls("begin {Isolation:0 ReadOnly:false}", "exec WRITE []", "fence", "exec APART []", "publish", "rollback")
	if got := s.stats(); got.Committed != 1 || got.RolledBack != 1 || !slices.Equal(got.Sweeps, []txscope.Sweep{{Table: "u", Why: "a table without transactions", Count: 1}}) {
		t.Errorf("got %+v", got)
	}
}

func TestApartWhileTheStoreIsDown(t *testing.T) {
	for _, strict := range []bool{true, false} {
		t.Run(fmt.Sprint("strict: ", strict), func(t *testing.T) {
			var opts []txscope.Option
			if strict {
				opts = append(opts, txscope.Strict())
			}
			s := newSeam(t, opts...)
			s.d.exec = func(session *seamSession, _ context.Context, _ *txscope.Call, run func() (driver.Result, error)) (driver.Result, error) {
				done, err := session.rec.Apart(tokens.NewChanges(row2), "a table without transactions")
				if err != nil {
					return nil, err
				}
				defer done(true)
				return run()
			}
			s.Backend.SetDown(true)
			_, err := s.db.ExecContext(t.Context(), "APART")
			ran := slices.Contains(s.calls(), "exec APART []")
			switch {
			case strict && (!errors.Is(err, txscope.ErrFence) || ran):
				t.Errorf("err %v, ran %v", err, ran)
			case !strict && (err != nil || !ran):
				t.Errorf("err %v, ran %v", err, ran)
			}
		})
	}
}

// BeforeCommit has the last word on what is fenced.
func TestBeforeCommit(t *testing.T) {
	s := newSeam(t)
	s.d.commit = func(session *seamSession, _ context.Context) error {
		session.rec.Add(row2)
		return session.conn.d.note("before commit")
	}
	was := s.Stamp(row2)
	tx, err := s.db.BeginTx(t.Context(), nil)
	s.must(err)
	s.must(tx.Commit())
	s.wantCalls("begin {Isolation:0 ReadOnly:false}", "before commit", "fence", "commit", "publish")
	if now := s.Stamp(row2); now == was {
		t.Error("what BeforeCommit has found has not changed")
	}
	conn, err := s.db.Conn(t.Context())
	s.must(err)
	s.exec(conn, t.Context(), "BEGIN")
	s.exec(conn, t.Context(), "COMMIT")
	s.exec(conn, t.Context(), "BEGIN")
	s.exec(conn, t.Context(), "ROLLBACK")
	s.must(conn.Close())
	s.wantCalls("exec BEGIN []", "before commit", "fence", "exec COMMIT []", "publish", "exec BEGIN []", "exec ROLLBACK []")
}

// What BeforeCommit fails with is what COMMIT would have failed with, and COMMIT is not sent.
func TestBeforeCommitFails(t *testing.T) {
	deferred := errors.New("a deferred constraint")
	for _, by := range []string{"api", "text"} {
		t.Run(by, func(t *testing.T) {
			s := newSeam(t)
			s.d.commit = func(*seamSession, context.Context) error { return deferred }
			ctx, scope := txscope.OpenScope(t.Context(), s.Store)
			was := s.Stamp(row1)
			var err error
			if by == "api" {
				var tx *sql.Tx
				tx, err = s.db.BeginTx(ctx, nil)
				s.must(err)
				s.exec(tx, ctx, "WRITE")
				err = tx.Commit()
				s.wantCalls("begin {Isolation:0 ReadOnly:false}", "exec WRITE []", "rollback")
			} else {
				conn, cerr := s.db.Conn(ctx)
				s.must(cerr)
				s.exec(conn, ctx, "BEGIN")
				s.exec(conn, ctx, "WRITE")
				_, err = conn.ExecContext(ctx, "COMMIT")
				s.must(conn.Close())
				s.wantCalls("exec BEGIN []", "exec WRITE []", "exec ROLLBACK []")
			}
			if err != deferred {
				t.Errorf("got %v", err)
			}
			if s.Stamp(row1) != was {
				t.Error("what was rolled back has changed")
			}
			if scope.Storable(row1) || !scope.Usable(row1) {
				t.Error("the transaction does not count as rolled back")
			}
			if got := s.stats(); got.RolledBack != 1 || got.Committed != 0 {
				t.Errorf("got %+v", got)
			}
			// The connection is as good as before.
			tx, err := s.db.BeginTx(t.Context(), nil)
			s.must(err)
			s.d.commit = nil
			s.exec(tx, t.Context(), "WRITE")
			s.must(tx.Commit())
			if s.Stamp(row1) == was {
				t.Error("the next transaction changes nothing")
			}
		})
	}
}

// A session stands between the wrapper and the driver, and passes on what the driver says.
func TestRunningSession(t *testing.T) {
	s := newSeam(t)
	failed := errors.New("failed")
	s.d.exec = func(session *seamSession, _ context.Context, call *txscope.Call, run func() (driver.Result, error)) (driver.Result, error) {
		_ = session.conn.d.note("session %s", call.Query)
		return run()
	}
	s.d.query = func(session *seamSession, _ context.Context, call *txscope.Call, run func() (driver.Rows, error)) (driver.Rows, error) {
		_ = session.conn.d.note("session asks %s", call.Query)
		return run()
	}
	res, err := s.db.ExecContext(t.Context(), "READ", 1)
	s.must(err)
	if n, err := res.RowsAffected(); n != 1 || err != nil {
		t.Errorf("rows affected: %d, %v", n, err)
	}
	s.wantCalls("session READ", "exec READ [{ 1 1}]")

	// A driver that skips is asked again by way of a statement.
	s.exec(s.db, t.Context(), "SKIP")
	s.wantCalls("session SKIP", "prepare SKIP", "session SKIP", "statement exec SKIP []", "close statement")
	rows, err := s.db.QueryContext(t.Context(), "SKIP")
	s.must(err)
	s.must(rows.Close())
	s.wantCalls("session asks SKIP", "prepare SKIP", "session asks SKIP", "statement query SKIP []", "close rows", "close statement")

	s.d.on = func(call string) error {
		if strings.HasPrefix(call, "exec") || strings.HasPrefix(call, "query") {
			return failed
		}
		return nil
	}
	if _, err := s.db.ExecContext(t.Context(), "READ"); err != failed {
		t.Errorf("got %v", err)
	}
	if _, err := s.db.QueryContext(t.Context(), "READ"); err != failed {
		t.Errorf("got %v", err)
	}
}

// inOwn runs a statement in a transaction of its own, as the seam says it is done.
func inOwn(session *seamSession, run func() error) error {
	session.rec.Unsure()
	d := session.conn.d
	_ = d.note("own begin")
	session.c.inTx = true
	if err := run(); err != nil {
		_ = d.note("own rollback")
		session.c.inTx = false
		session.rec.RolledBack()
		return err
	}
	return commitOwn(session)
}

func commitOwn(session *seamSession) error {
	d := session.conn.d
	session.rec.Add(row2)
	if err := session.rec.Committing(); err != nil {
		_ = d.note("own rollback")
		session.c.inTx = false
		session.rec.RolledBack()
		return err
	}
	err := d.note("own commit")
	session.c.inTx = false
	return err
}

func TestStatementInATransactionOfItsOwn(t *testing.T) {
	deadlock := errors.New("deadlock")
	for _, c := range []struct {
		name    string
		opts    []txscope.Option
		down    bool
		on      func(call string) error
		err     error
		want    []string
		changed bool
		lost    bool
	}{
		{name: "committed", want: []string{"own begin", "exec READ []", "fence", "own commit", "publish"}, changed: true},
		{name: "failed", on: failing("exec", deadlock), err: deadlock, want: []string{"own begin", "exec READ []", "own rollback"}},
		{name: "rolled back in COMMIT", on: failing("own commit", deadlock), err: deadlock, want: []string{"own begin", "exec READ []", "fence", "own commit", "release"}},
		{name: "lost in COMMIT", on: failing("own commit", errLost), err: errLost, want: []string{"own begin", "exec READ []", "fence", "own commit", "fence"}, lost: true},
		{name: "strict", opts: []txscope.Option{txscope.Strict()}, down: true, err: txscope.ErrFence, want: []string{"own begin", "exec READ []", "fence", "own rollback"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSeam(t, c.opts...)
			s.d.exec = func(session *seamSession, _ context.Context, _ *txscope.Call, run func() (driver.Result, error)) (res driver.Result, err error) {
				err = inOwn(session, func() error {
					res, err = run()
					return err
				})
				return res, err
			}
			s.d.on = c.on
			ctx, scope := txscope.OpenScope(t.Context(), s.Store)
			was := s.Stamp(row2)
			s.Backend.SetDown(c.down)
			_, err := s.db.ExecContext(ctx, "READ")
			if !errors.Is(err, c.err) {
				t.Errorf("got %v, want %v", err, c.err)
			}
			got := s.calls()
			if len(got) < len(c.want) || !slices.Equal(got[:len(c.want)], c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			if !scope.Usable(row2) {
				t.Error("it is over and the row is not usable")
			}
			if got := scope.Storable(row2); got != c.changed {
				t.Errorf("storable: %v", got)
			}
			if c.down {
				return // nobody can be asked
			}
			if s.Fenced(row2) != c.lost {
				t.Errorf("fenced: %v", !c.lost)
			}
			if now := s.Stamp(row2) != was; now != c.changed && !c.lost {
				t.Errorf("changed: %v", now)
			}
		})
	}
}

func failing(prefix string, err error) func(string) error {
	return func(call string) error {
		if strings.HasPrefix(call, prefix) {
			return err
		}
		return nil
	}
}

// committingRows end a transaction of their own when they are read to the end, or closed before.
type committingRows struct {
	txscope.Rows
	session *seamSession
	over    bool
	err     error
}

func (r *committingRows) Next(dest []driver.Value) error {
	err := r.Rows.Next(dest)
	if err == io.EOF && r.commit() != nil {
		return r.err
	}
	return err
}

func (r *committingRows) Close() error { return errors.Join(r.Rows.Close(), r.commit()) }

func (r *committingRows) commit() error {
	if !r.over {
		r.over = true
		r.err = commitOwn(r.session)
	}
	return r.err
}

func TestRowsInATransactionOfTheirOwn(t *testing.T) {
	constraint := errors.New("constraint")
	for _, c := range []struct {
		name    string
		read    int // rows; then they are closed
		on      func(call string) error
		want    []string
		changed bool
	}{
		{"read to the end", 3, nil, []string{"own begin", "query READ []", "fence", "own commit", "close rows", "publish"}, true},
		{"closed early", 1, nil, []string{"own begin", "query READ []", "close rows", "fence", "own commit", "publish"}, true},
		{"closed at once", 0, nil, []string{"own begin", "query READ []", "close rows", "fence", "own commit", "publish"}, true},
		{"COMMIT fails", 3, failing("own commit", constraint), []string{"own begin", "query READ []", "fence", "own commit", "close rows", "release"}, false},
		{"COMMIT fails in Close", 1, failing("own commit", constraint), []string{"own begin", "query READ []", "close rows", "fence", "own commit", "release"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSeam(t)
			s.d.on = c.on
			s.d.query = func(session *seamSession, _ context.Context, _ *txscope.Call, run func() (driver.Rows, error)) (driver.Rows, error) {
				session.rec.Unsure()
				_ = s.d.note("own begin")
				session.c.inTx = true
				rows, err := run()
				return &committingRows{Rows: txscope.Rows{Rows: rows}, session: session}, err
			}
			ctx, scope := txscope.OpenScope(t.Context(), s.Store)
			was := s.Stamp(row2)
			rows, err := s.db.QueryContext(ctx, "READ")
			s.must(err)
			if scope.Usable(row1) || scope.Storable(row1) {
				t.Error("what may have changed is usable")
			}
			n := 0
			for n < c.read && rows.Next() {
				n++
			}
			err = errors.Join(rows.Err(), rows.Close())
			if c.on != nil && !errors.Is(err, constraint) || c.on == nil && err != nil {
				t.Errorf("got %v", err)
			}
			s.wantCalls(c.want...)
			if now := s.Stamp(row2) != was; now != c.changed {
				t.Errorf("changed: %v", now)
			}
			if !scope.Usable(row2) || scope.Storable(row2) != c.changed {
				t.Error("the request does not know how it ended")
			}
			if s.Fenced(row2) {
				t.Error("a fence was left")
			}
		})
	}
}
