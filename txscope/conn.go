package txscope

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"

	"github.com/alkey-go/alkey/tokens"
)

// Conn is a connection whose writes are seen. Get at it by database/sql's Conn.Raw:
//
//	err := conn.Raw(func(c any) error {
//		bare := c.(*txscope.Conn).Bare()
//		...
//	})
//
// database/sql makes one call at a time on a connection and all that belongs to it, also where it
// rolls back from another goroutine because a context has ended. Conn relies on that as drivers do.
type Conn struct {
	bare    driver.Conn
	db      *database
	session Session
	// session, where it is one.
	reading    SnapshotSession
	running    RunningSession
	committing CommittingSession
	beginning  BeginningSession

	// What the bare connection can do; nil where it cannot.
	execer        driver.ExecerContext
	queryer       driver.QueryerContext
	legacyExecer  legacyExecer
	legacyQueryer legacyQueryer
	checker       driver.NamedValueChecker
	resetter      driver.SessionResetter
	validator     driver.Validator

	tx *transaction // open, or ended and not settled; nil if there is none
	// since is the watermark from when the connection was last known to hold no snapshot: just
	// before a call that found it with no transaction and no statement open. What it reads is at
	// least as new.
	since watermark
	// Of the call that is running.
	ctx     context.Context
	call    Call
	sending bool // a COMMIT, by the wrapper
	// What the session said of tx.
	announced bool  // it is committed by itself, in the statement that runs
	undone    bool  // it is rolled back
	refused   error // why Committing did not let it happen

	renewal renewal

	// OnCommit's functions of transactions that ended inside a statement, where the database cannot
	// be used: they are called when the statement is over.
	inside bool
	due    []*transaction

	unread   int  // rows that may commit when they are closed
	lentBare bool // the bare connection was handed out
	broken   bool // not to be used again
	closed   bool
}

func newConn(bare driver.Conn, db *database) *Conn {
	c := &Conn{bare: bare, db: db, since: watermarkOf(db.store)}
	c.execer, _ = bare.(driver.ExecerContext)
	c.queryer, _ = bare.(driver.QueryerContext)
	if c.execer == nil {
		c.legacyExecer, _ = bare.(legacyExecer)
	}
	if c.queryer == nil {
		c.legacyQueryer, _ = bare.(legacyQueryer)
	}
	c.checker, _ = bare.(driver.NamedValueChecker)
	c.resetter, _ = bare.(driver.SessionResetter)
	c.validator, _ = bare.(driver.Validator)
	return c
}

var (
	_ driver.ExecerContext      = (*Conn)(nil)
	_ driver.QueryerContext     = (*Conn)(nil)
	_ driver.ConnPrepareContext = (*Conn)(nil)
	_ driver.ConnBeginTx        = (*Conn)(nil)
	_ driver.Pinger             = (*Conn)(nil)
	_ driver.NamedValueChecker  = (*Conn)(nil)
	_ driver.SessionResetter    = (*Conn)(nil)
	_ driver.Validator          = (*Conn)(nil)
	_ Recorder                  = recorder{}
)

// Bare returns the driver's own connection, for what the driver offers beyond database/sql. It must
// not be used after the function given to Raw has returned. What is written through it is seen as
// well as the capture can; each capture's package tells how well. The transaction that is open
// meanwhile stores nothing.
func (c *Conn) Bare() driver.Conn {
	if c.tx == nil && !c.lentBare {
		c.refresh() // what is begun through it is no older
	}
	c.lentBare = true
	return c.bare
}

// watch ties the session to the connection.
func (c *Conn) watch(s Session) {
	c.session = s
	c.reading, _ = s.(SnapshotSession)
	c.running, _ = s.(RunningSession)
	c.committing, _ = s.(CommittingSession)
	c.beginning, _ = s.(BeginningSession)
}

// enter begins a call: what an earlier one left is settled, and the transaction that the call runs
// in learns of the scope. Outside of any, the scope learns how old the snapshot is that rows left
// open hold.
func (c *Conn) enter(ctx context.Context) {
	c.rest()
	c.ctx = ctx
	if c.tx != nil {
		c.tx.join(ctx)
		return
	}
	if !c.refresh() {
		if s, ok := scopeOf(ctx, c.db.store); ok {
			s.lower(c.since)
		}
	}
	c.db.watch(ctx)
	c.session.Idle(ctx)
}

// refresh moves since on. It is false if the connection holds a snapshot.
func (c *Conn) refresh() bool {
	if c.reading != nil && c.reading.Reading() {
		return false
	}
	c.since = watermarkOf(c.db.store)
	return true
}

// begin enters a transaction. What it reads is at least as new as since: also if it is met later
// than it began, in the middle of a text or after the bare connection was used.
func (c *Conn) begin(ctx context.Context, explicit bool) {
	c.tx = c.db.begin(ctx, explicit)
	c.tx.began = c.since
}

// exec runs a statement: a prepared one, or a text, for which prepared is nil.
func (c *Conn) exec(ctx context.Context, call Call, prepared driver.Stmt) (driver.Result, error) {
	control := c.session.Control(call.Query)
	if c.start(ctx, call, control) {
		var res driver.Result
		err := c.commitText(ctx, func() (err error) {
			res, err = c.sendExec(ctx, prepared)
			return err
		})
		return res, err
	}
	res, err := c.sendExec(ctx, prepared)
	return res, c.after(control, err)
}

// query is exec for a statement that returns rows.
func (c *Conn) query(ctx context.Context, call Call, prepared driver.Stmt) (driver.Rows, error) {
	control := c.session.Control(call.Query)
	if c.start(ctx, call, control) {
		var rows driver.Rows
		err := c.commitText(ctx, func() (err error) {
			rows, err = c.sendQuery(ctx, prepared)
			return err
		})
		return rows, err
	}
	bare, err := c.sendQuery(ctx, prepared)
	if err != nil || c.tx == nil || c.tx.explicit.Load() {
		return bare, c.after(control, err)
	}
	c.unread++
	err = c.after(control, nil)
	return &rows{Rows: Rows{bare}, c: c, ctx: ctx}, err
}

func (c *Conn) sendExec(ctx context.Context, prepared driver.Stmt) (driver.Result, error) {
	if c.running == nil {
		return c.runExec(ctx, prepared)
	}
	return c.running.Exec(ctx, &c.call, func() (driver.Result, error) { return c.runExec(ctx, prepared) })
}

func (c *Conn) runExec(ctx context.Context, prepared driver.Stmt) (driver.Result, error) {
	if prepared != nil {
		return execStmt(ctx, prepared, c.call.Args)
	}
	return c.execBare(ctx, c.call.Query, c.call.Args)
}

func (c *Conn) sendQuery(ctx context.Context, prepared driver.Stmt) (driver.Rows, error) {
	if c.running == nil {
		return c.runQuery(ctx, prepared)
	}
	return c.running.Query(ctx, &c.call, func() (driver.Rows, error) { return c.runQuery(ctx, prepared) })
}

func (c *Conn) runQuery(ctx context.Context, prepared driver.Stmt) (driver.Rows, error) {
	if prepared != nil {
		return queryStmt(ctx, prepared, c.call.Args)
	}
	return c.queryBare(ctx, c.call.Query, c.call.Args)
}

// start prepares for a statement. If commits is true it commits the open transaction, and is to be
// sent by commitText; else the caller sends it and then calls after.
func (c *Conn) start(ctx context.Context, call Call, control Control) (commits bool) {
	c.enter(ctx)
	switch control.Kind {
	case KindNone:
	case KindCommit, KindRelease:
		commits = c.commits(control)
	case KindMixed:
		if c.tx != nil {
			c.tx.incomplete()
		}
	case KindBegin, KindSavepoint:
		if c.tx == nil {
			c.begin(ctx, true)
			c.tx.bySavepoint = control.Kind == KindSavepoint
		}
	}
	c.call = call
	c.session.Before(ctx, &c.call)
	return commits
}

// after takes in what a statement did. It returns the error that the caller gets.
func (c *Conn) after(control Control, err error) error {
	c.session.After(c.ctx, &c.call, err)
	c.call = Call{}
	if t := c.tx; t != nil && control.Kind != KindNone && !errors.Is(err, driver.ErrSkip) {
		c.controlled(t, control, err)
	}
	err = c.refusal(err)
	c.settle(err)
	if control.Kind == KindMixed && c.tx == nil && c.session.InTransaction() {
		c.begin(c.ctx, true)
		c.tx.incomplete()
	}
	c.ctx = nil
	c.callDue()
	return err
}

// controlled takes in what a statement did that is there to control t. What the wrapper knew to
// commit t is not among them.
func (c *Conn) controlled(t *transaction, control Control, err error) {
	switch control.Kind {
	case KindBegin:
		if c.session.InTransaction() {
			t.explicit.Store(true)
		}
	case KindSavepoint:
		switch {
		case err == nil:
			t.explicit.Store(true)
			t.savepoint(control.Name)
		case c.session.InTransaction():
			t.explicit.Store(true)
			t.incomplete() // an error does not tell whether it is there
		}
	case KindRelease:
		if err == nil {
			t.releaseSavepoint(control.Name)
		} else {
			t.incomplete()
		}
	case KindRollbackTo:
		if err == nil {
			t.rollbackTo(control.Name)
		} else {
			t.incomplete()
		}
	case KindRollback:
		if err == nil {
			c.undone = true
		}
	}
	switch control.Kind {
	case KindCommit, KindRelease, KindMixed:
		// It can have ended what nothing was written in, of which the session hears nothing.
		if c.announced || c.undone || c.unread > 0 || c.session.InTransaction() {
			return
		}
		v := c.session.Judge(err)
		if err == nil && v == VerdictRolledBack {
			// Nobody has rolled it back: it committed, and what was marked by hand has changed.
			v = VerdictCommitted
		}
		c.finish(v)
	}
}

// settle brings the transaction to its end if that has come; err is what the last call returned.
func (c *Conn) settle(err error) {
	lent := c.lentBare
	if lent {
		c.lentBare = false
		c.session.Bare()
		c.refused = nil // the bare connection has told whom it concerns
		if c.tx != nil {
			c.tx.incomplete()
		}
	}
	t := c.tx
	switch {
	case t == nil:
		if lent && c.session.InTransaction() {
			c.begin(context.Background(), true)
			c.tx.incomplete()
		}
	case c.undone:
		c.finish(VerdictRolledBack)
	case c.unread > 0 && err == nil && !lent && !t.explicit.Load():
		// It is committed, or not, when they are closed, also if that was announced.
	case c.announced:
		verdict := VerdictCommitted
		if err != nil || lent {
			verdict = c.session.Judge(err)
		}
		c.finish(verdict)
	case t.explicit.Load() && err == nil && !lent:
		// It goes on. What ends a transaction without a word is found out below or by Judge.
	case c.unread > 0:
		// It is committed, or not, when they are closed.
	case c.session.InTransaction():
		t.explicit.Store(true)
	case t.explicit.Load() && !t.writes.Dirty():
		c.finish(VerdictRolledBack) // nothing was written: either is true
	default:
		// The session announces every commit beforehand, so this was none.
		c.finish(c.session.Judge(err))
	}
}

// finish ends the transaction by the verdict, or lets it go on.
func (c *Conn) finish(v Verdict) {
	if c.announced {
		c.renewal.stop()
	}
	c.announced, c.undone = false, false
	if c.tx.conclude(v) {
		c.tx.explicit.Store(true)
		return
	}
	c.forget()
}

// finishInside is finish in the middle of a statement.
func (c *Conn) finishInside(v Verdict) {
	c.inside = true
	c.finish(v)
	c.inside = false
}

// forget lets go of the transaction, which is over.
func (c *Conn) forget() {
	if len(c.tx.due) > 0 {
		c.due = append(c.due, c.tx)
	}
	c.tx = nil
	c.session.Ended()
	if !c.inside {
		c.callDue()
	}
}

// callDue calls the functions of OnCommit whose turn it is. They may use other connections, and
// through them come back to what they are called by.
func (c *Conn) callDue() {
	for len(c.due) > 0 {
		t := c.due[0]
		c.due = slices.Delete(c.due, 0, 1)
		t.callDue()
	}
}

// refusal makes of the error of a statement that was not let commit what the caller gets.
func (c *Conn) refusal(err error) error {
	refused := c.refused
	if refused == nil {
		return err
	}
	c.refused = nil
	if err == nil {
		return nil // the session could not prevent the commit
	}
	if c.tx != nil && !c.announced {
		c.tx.withdraw()
	}
	if errors.Is(err, refused) {
		return err
	}
	return fmt.Errorf("%w: %w", refused, err)
}

// commit sends a COMMIT under the protocol.
func (c *Conn) commit(ctx context.Context, send func() error, rollback func(why error) error) error {
	c.sending = true
	prepare := func() error { return nil }
	if c.committing != nil {
		prepare = func() error { return c.committing.BeforeCommit(ctx) }
	}
	open, err := c.tx.commit(&c.renewal, prepare, send, rollback, c.judge)
	c.sending = false
	c.undone, c.announced = false, false
	if !open {
		c.forget()
	}
	return c.refusal(err)
}

// judge tells what a COMMIT or a ROLLBACK with the error err has done to the transaction.
func (c *Conn) judge(err error) Verdict {
	switch {
	case c.undone:
		return VerdictRolledBack
	case err == nil:
		return VerdictCommitted
	}
	return c.session.Judge(err)
}

// commits reports whether the statement that control is of commits c's transaction.
func (c *Conn) commits(control Control) bool {
	switch control.Kind {
	case KindCommit:
		return c.tx != nil && c.tx.explicit.Load()
	case KindRelease:
		return c.tx != nil && c.tx.outermost(control.Name)
	}
	return false
}

// commitText sends a COMMIT that the user has written. It is not sent if the driver has no such
// method: then send returns driver.ErrSkip.
func (c *Conn) commitText(ctx context.Context, send func() error) error {
	err := c.commit(ctx, func() error {
		err := send()
		c.session.After(ctx, &c.call, err)
		return err
	}, func(why error) error {
		c.session.After(ctx, &c.call, why)
		return c.rollbackText(ctx)
	})
	c.call, c.ctx = Call{}, nil
	return err
}

// rollbackText sends the ROLLBACK that follows a COMMIT that was refused.
func (c *Conn) rollbackText(ctx context.Context) error {
	const text = "ROLLBACK"
	ctx = context.WithoutCancel(ctx)
	_, err := c.execBare(ctx, text, nil)
	if !errors.Is(err, driver.ErrSkip) {
		return err
	}
	s, err := c.prepareBare(ctx, text)
	if err != nil {
		return err
	}
	_, err = execStmt(ctx, s, nil)
	return errors.Join(err, s.Close())
}

// ExecContext is part of driver.ExecerContext.
func (c *Conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if c.execer == nil && c.legacyExecer == nil {
		return nil, driver.ErrSkip
	}
	return c.exec(ctx, Call{Query: query, Args: args}, nil)
}

func (c *Conn) execBare(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if c.execer != nil {
		return c.execer.ExecContext(ctx, query, args)
	}
	if c.legacyExecer == nil {
		return nil, driver.ErrSkip
	}
	values, err := plainValues(ctx, args)
	if err != nil {
		return nil, err
	}
	return c.legacyExecer.Exec(query, values)
}

// QueryContext is part of driver.QueryerContext.
func (c *Conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if c.queryer == nil && c.legacyQueryer == nil {
		return nil, driver.ErrSkip
	}
	return c.query(ctx, Call{Query: query, Args: args}, nil)
}

func (c *Conn) queryBare(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if c.queryer != nil {
		return c.queryer.QueryContext(ctx, query, args)
	}
	values, err := plainValues(ctx, args)
	if err != nil {
		return nil, err
	}
	return c.legacyQueryer.Query(query, values)
}

// PrepareContext is part of driver.ConnPrepareContext.
func (c *Conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.enter(ctx)
	var bare driver.Stmt
	memo, err := c.session.Prepare(query, func() (err error) {
		bare, err = c.prepareBare(ctx, query)
		return err
	})
	c.ctx = nil
	if err != nil {
		return nil, err
	}
	return newStmt(c, bare, query, memo), nil
}

func (c *Conn) prepareBare(ctx context.Context, query string) (driver.Stmt, error) {
	if p, ok := c.bare.(driver.ConnPrepareContext); ok {
		return p.PrepareContext(ctx, query)
	}
	s, err := c.bare.Prepare(query)
	if err == nil && ctx.Err() != nil {
		_ = s.Close() // as database/sql does
		return nil, ctx.Err()
	}
	return s, err
}

// Prepare is part of driver.Conn.
func (c *Conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// BeginTx is part of driver.ConnBeginTx.
func (c *Conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	c.enter(ctx)
	defer func() { c.ctx = nil }()
	if c.tx == nil {
		c.begin(ctx, true)
	} else if c.beginning != nil {
		if err := c.beginning.BeforeBegin(ctx); err != nil {
			return nil, c.refusal(err)
		}
	}
	bare, err := beginConn(ctx, c.bare, opts)
	if err != nil {
		c.settle(err)
		return nil, err
	}
	if c.announced {
		c.finish(VerdictCommitted)
		c.refresh()
		c.begin(ctx, true)
	}
	c.tx.explicit.Store(true)
	return &tx{c: c, bare: bare, ctx: ctx}, nil
}

// Begin is part of driver.Conn.
func (c *Conn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// Ping is part of driver.Pinger.
func (c *Conn) Ping(ctx context.Context) error {
	c.rest()
	if p, ok := c.bare.(driver.Pinger); ok {
		return p.Ping(ctx)
	}
	return nil
}

// CheckNamedValue is part of driver.NamedValueChecker.
func (c *Conn) CheckNamedValue(nv *driver.NamedValue) error {
	switch {
	case c.execer == nil && c.legacyExecer == nil && c.queryer == nil && c.legacyQueryer == nil:
		// ExecContext and QueryContext will return driver.ErrSkip: the statement checks.
		return nil
	case c.checker != nil:
		return c.checker.CheckNamedValue(nv)
	default:
		return driver.ErrSkip
	}
}

// ResetSession is part of driver.SessionResetter.
func (c *Conn) ResetSession(ctx context.Context) error {
	c.rest()
	if c.resetter != nil {
		return c.resetter.ResetSession(ctx)
	}
	return nil
}

// IsValid is part of driver.Validator. database/sql asks when the connection goes back to the pool.
func (c *Conn) IsValid() bool {
	c.rest()
	return !c.broken && (c.validator == nil || c.validator.IsValid())
}

// rest settles what is left between two uses of the connection.
func (c *Conn) rest() {
	switch {
	case c.announced && !c.undone && !c.lentBare && c.unread == 0:
		// The session said so after the statement, of which nobody knows any more that it went well.
		c.finish(c.session.Judge(nil))
	case c.lentBare, c.announced, c.undone:
		c.settle(nil)
	}
	c.callDue()
}

// Close closes the connection, and with it what is open on it.
func (c *Conn) Close() error {
	if c.closed {
		return c.bare.Close()
	}
	c.closed = true
	c.rest()
	c.session.Close()
	err := c.bare.Close()
	if c.tx != nil {
		verdict := VerdictUnknown
		switch {
		case c.announced: // in doubt: the fences are left to their lease
		case c.undone, err == nil && c.unread == 0:
			verdict = VerdictRolledBack
		}
		c.finish(verdict)
	}
	return err
}

// tx is a transaction that was begun by the API.
type tx struct {
	c    *Conn
	bare driver.Tx
	ctx  context.Context
}

// Commit is part of driver.Tx. The transaction on the connection can be another than was begun, or
// none, if the user's own text ended it.
func (x *tx) Commit() error {
	c := x.c
	c.enter(x.ctx)
	defer func() { c.ctx = nil }()
	if c.tx == nil || !c.tx.explicit.Load() {
		err := x.bare.Commit()
		c.settle(err)
		return err
	}
	err := c.commit(x.ctx, x.bare.Commit, func(error) error { return x.bare.Rollback() })
	if c.tx != nil {
		// database/sql is done with it and would give the connection to others.
		c.broken = true
	}
	return err
}

// Rollback is part of driver.Tx.
func (x *tx) Rollback() error {
	c := x.c
	c.rest()
	err := x.bare.Rollback()
	if t := c.tx; t != nil {
		if err == nil || c.undone {
			c.undone = true
			c.settle(nil)
		} else {
			c.finish(c.session.Judge(err))
			c.broken = c.broken || c.tx != nil
		}
	}
	if x.ctx.Err() != nil && (c.resetter == nil || c.validator == nil) {
		// database/sql keeps a connection after such a rollback only if it can be reset and validated.
		c.broken = true
	}
	return err
}

// recorder is what a session sees of its connection.
type recorder struct{ c *Conn }

// Add is part of Recorder.
func (r recorder) Add(row tokens.ID) { r.c.current().change(row) }

// Sweep is part of Recorder.
func (r recorder) Sweep(table tokens.ID, why string) { r.c.current().sweep(table, why) }

// Widen is part of Recorder. Other than after Sweep, what is announced is not over.
func (r recorder) Widen(table tokens.ID, why string) {
	if c := r.c; c.announced && !c.undone {
		c.tx.sweep(table, why)
	} else {
		c.current().sweep(table, why)
	}
}

// Unsure is part of Recorder.
func (r recorder) Unsure() { r.c.current().writes.Incomplete() }

// Apart is part of Recorder.
func (r recorder) Apart(changes *tokens.Changes, why string) (done func(certain bool), err error) {
	t := r.c.db.begin(r.c.callContext(), false)
	for id := range changes.All {
		if id.IsTable() || id == tokens.Global {
			t.sweep(id, why)
		} else {
			t.change(id)
		}
	}
	if err := t.fence(); err != nil {
		t.end(tokens.RolledBack)
		return nil, err
	}
	var renewed renewal
	renewed.start(t)
	return func(certain bool) {
		renewed.stop()
		if certain {
			t.end(tokens.Committed)
		} else {
			t.end(tokens.Unknown)
		}
	}, nil
}

// Incomplete is part of Recorder.
func (r recorder) Incomplete() { r.c.current().incomplete() }

// current returns the transaction that the running statement writes in. A statement that commits
// or rolls back can be followed by others in the same text.
func (c *Conn) current() *transaction {
	switch {
	case c.tx == nil:
	case c.undone:
		c.finishInside(VerdictRolledBack)
	case c.announced:
		t := c.tx
		c.finishInside(VerdictCommitted)
		if c.lentBare {
			// Nobody could tell that it was: what it changed is published now, and fenced again with
			// what follows.
			c.beginInside()
			for _, id := range t.total().IDs() {
				c.tx.change(id)
			}
		}
	}
	if c.tx == nil {
		c.beginInside()
	}
	return c.tx
}

// beginInside enters a transaction that is met when it writes.
func (c *Conn) beginInside() { c.begin(c.callContext(), false) }

// callContext returns the context of the call that is running.
func (c *Conn) callContext() context.Context {
	if c.ctx == nil {
		return context.Background() // by way of the bare connection
	}
	return c.ctx
}

// Committing is part of Recorder.
func (r recorder) Committing() error {
	c := r.c
	t := c.tx
	if t == nil {
		return nil
	}
	if c.sending || c.announced {
		if t.covered() {
			return nil
		}
	}
	if err := t.fence(); err != nil {
		c.refused = err
		return err
	}
	c.announced = c.announced || !c.sending
	c.renewal.start(t) // again, if more is fenced than before
	return nil
}

// Missed is part of Recorder.
func (r recorder) Missed() {
	c := r.c
	t := c.tx
	if t == nil {
		return
	}
	_ = t.fence() // it is too late to refuse anything
	c.announced = c.announced || !c.sending
	c.renewal.start(t)
}

// Committed is part of Recorder.
func (r recorder) Committed() {
	if r.c.announced && !r.c.undone {
		r.c.finishInside(VerdictCommitted)
	}
}

// Ongoing is part of Recorder.
func (r recorder) Ongoing() {
	if r.c.announced && !r.c.undone {
		r.c.finishInside(VerdictOngoing)
	}
}

// RolledBack is part of Recorder.
func (r recorder) RolledBack() {
	c := r.c
	switch {
	case c.tx == nil:
	case c.announced && c.lentBare:
		c.finishInside(VerdictCommitted) // what was rolled back can be another transaction
	default:
		c.undone = true
	}
}
