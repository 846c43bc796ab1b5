package txscope

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alkey-go/alkey/tokens"
)

// transaction is one database transaction, or one statement outside of any, under the commit
// protocol that package tokens describes: fence, COMMIT, publish. The connection that runs it calls
// its methods one at a time; only add and afterwards may be called from elsewhere.
type transaction struct {
	db       *database
	ctx      context.Context // of BEGIN: its values and its scope
	explicit atomic.Bool     // has a BEGIN
	began    watermark       // from before BEGIN
	writes   *tokens.Writes
	tally    tally

	// Savepoints, for as long as their text was followed.
	bySavepoint bool // the first of them began the transaction, and releasing it commits
	lost        bool // what was done to them is not known: nothing is forgotten any more

	owner    tokens.Owner
	fenced   *tokens.Changes // what the store was told to fence; nil before the first fence
	fencedAt time.Time       // just before the newest fence was sent
	refused  bool            // the store took no fence, or confirmed it too late
	more     atomic.Bool     // something was changed after the newest fence

	mu     sync.Mutex
	phase  phase
	ending bool          // end has begun: what is marked from now on is published by itself
	ended  chan struct{} // made by the first who waits; closed when the phase is no longer committing
	scopes []*Scope
	after  []afterCommit

	due []afterCommit // the connection's, after the commit
}

type phase int

const (
	running phase = iota
	committing
	over
)

type afterCommit struct {
	ctx context.Context
	fn  func(context.Context)
}

// ErrFence is returned by a commit that Strict refused, because the token store did not take its
// fence, or confirmed it too late. The transaction was rolled back; it can be tried again.
var ErrFence = errors.New("alkey: commit refused: the token store took no fence")

// begin enters a transaction; call it before BEGIN is sent.
func (db *database) begin(ctx context.Context, explicit bool) *transaction {
	t := &transaction{db: db, ctx: ctx, began: watermarkOf(db.store)}
	t.explicit.Store(explicit)
	if s, ok := scopeOf(ctx, db.store); ok {
		t.writes = s.ledger.Begin()
		t.scopes = []*Scope{s}
		s.enter(t)
	} else {
		t.writes = db.store.Ledger().Begin()
	}
	t.writes.Limit(&db.limits)
	return t
}

// join ties the transaction to the scope of a query in it, if that is another than it began with.
func (t *transaction) join(ctx context.Context) {
	s, ok := scopeOf(ctx, t.db.store)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, have := range t.scopes {
		if have == s {
			return
		}
	}
	if t.phase == over {
		return
	}
	s.lower(t.began)
	s.ledger.Join(t.writes)
	t.scopes = append(t.scopes, s)
	s.enter(t)
}

// sweep notes that rows of a table have changed, and the capture does not know which.
func (t *transaction) sweep(table tokens.ID, why string) {
	t.tally.sweep(table, why)
	t.change(table)
}

// change notes what the capture has seen. In this order, who finds no more has found it among writes.
func (t *transaction) change(id tokens.ID) {
	t.writes.Add(id)
	t.more.Store(true)
}

// incomplete notes that the capture, or what follows the savepoints, has lost sight.
func (t *transaction) incomplete() {
	t.lost = true
	t.writes.Incomplete()
}

func (t *transaction) savepoint(name string) {
	if !t.lost {
		t.writes.Savepoint(name)
	}
}

func (t *transaction) releaseSavepoint(name string) {
	if !t.lost && !t.writes.ReleaseSavepoint(name) {
		t.incomplete()
	}
}

func (t *transaction) rollbackTo(name string) {
	if !t.lost && !t.writes.RollbackTo(name) {
		t.incomplete()
	}
}

// outermost reports whether releasing the savepoint commits the transaction.
func (t *transaction) outermost(name string) bool {
	return !t.lost && t.bySavepoint && t.writes.Outermost(name)
}

// add marks more as changed. A commit under way is waited for; if the transaction is over then, or
// was already, it is false. A statement outside of any transaction, whose rows the caller himself may
// be reading, is not waited for: what is marked is published with it.
func (t *transaction) add(ctx context.Context, changes *tokens.Changes) (bool, error) {
	for {
		t.mu.Lock()
		switch {
		case t.phase == running, t.phase == committing && !t.ending && !t.explicit.Load():
			for id := range changes.All {
				if id.IsTable() || id == tokens.Global {
					t.sweep(id, whyByHand)
				} else {
					t.change(id)
				}
			}
			t.mu.Unlock()
			return true, nil
		case t.phase == over:
			t.mu.Unlock()
			return false, nil
		}
		if t.ended == nil {
			t.ended = make(chan struct{})
		}
		ended := t.ended
		t.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return false, fmt.Errorf("alkey: nothing was marked as changed: %w", ctx.Err())
		}
	}
}

func (t *transaction) afterwards(ctx context.Context, fn func(context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase == over {
		return false
	}
	t.after = append(t.after, afterCommit{ctx, fn})
	return true
}

// fence announces the commit to the store, last thing before it is sent. Nothing is sent for a
// transaction that has changed nothing. The error wraps ErrFence and comes with Strict only: the
// caller must then roll back and call end. Call it again whenever time may have passed or more has
// changed since.
func (t *transaction) fence() error {
	t.mu.Lock()
	t.phase = committing
	t.mu.Unlock()
	if t.fenced == nil && !t.writes.Dirty() {
		return nil
	}
	changes := t.fenced
	if t.more.Swap(false) { // what add notes from here on is more again
		changes = t.gather()
	}
	if changes == nil || changes.Empty() {
		return nil
	}
	if t.owner == "" {
		t.owner = tokens.NewOwner()
	}
	t.fenced = changes
	var err error
	for range maxFences {
		t.fencedAt = time.Now()
		err = t.db.store.Fence(t.ctx, t.owner, changes, t.db.lease)
		t.refused = err != nil
		if t.refused || t.fresh() {
			break
		}
		err = errSlowFence
	}
	t.refused = err != nil
	if t.refused && t.db.strict {
		return fmt.Errorf("%w: %w", ErrFence, err)
	}
	if err == errSlowFence {
		// After a fence that fails the store itself trusts nothing until the publish. This one may be in
		// force or not: no request of this process uses what the commit changes, with a fence or without.
		t.db.store.Ledger().Join(t.writes)
		t.db.slow()
	}
	return nil
}

// maxFences is how often in a row a fence is too old when the store has confirmed it.
const maxFences = 3

var errSlowFence = errors.New("alkey: " + slowFence)

const slowFence = "the token store confirms fences too late to rely on them: give this process CPU time, and see that the store answers within a second, and within half of txscope.Lease"

// maxFenceAge is how old a fence can be when COMMIT is sent, beside half the lease. A store that loses the
// fence lets nothing be used for two seconds afterwards: until then it must have been renewed, which is
// begun a second and a quarter after it was set at the latest.
const maxFenceAge = renewEvery

// fresh reports whether COMMIT may be sent under the fence: a process that was paused must fence
// again. Time is judged by the monotonic clock.
func (t *transaction) fresh() bool {
	return t.fenced == nil || t.refused || time.Since(t.fencedAt) <= min(t.db.lease/2, maxFenceAge)
}

// covered reports whether everything that has changed is under a fresh fence.
func (t *transaction) covered() bool { return !t.more.Load() && t.fresh() }

// commit runs send, which sends COMMIT, under the protocol, after prepare. judge tells what send, or
// rollback, has done. If prepare fails, or with Strict the store takes no fence, COMMIT is not
// sent: rollback is called, and the error is prepare's, or wraps ErrFence. open is true if the
// transaction goes on all the same, as when the database is busy.
func (t *transaction) commit(r *renewal, prepare, send func() error, rollback func(why error) error, judge func(error) Verdict) (open bool, err error) {
	if err = prepare(); err == nil {
		err = t.fence()
	}
	if err != nil {
		verdict := VerdictRolledBack
		if rerr := rollback(err); rerr != nil {
			if judge(rerr) == VerdictOngoing {
				verdict = VerdictOngoing
			} // else it is over, and nobody has sent a COMMIT
			if errors.Is(err, ErrFence) {
				err = errors.Join(err, rerr)
			}
		}
		return t.conclude(verdict), err
	}
	r.start(t)
	err = send()
	r.stop()
	return t.conclude(judge(err)), err
}

// conclude ends the transaction by the verdict, or lets it go on.
func (t *transaction) conclude(v Verdict) (open bool) {
	if v == VerdictOngoing {
		t.reopen()
		return true
	}
	t.end(v.outcome())
	return false
}

// reopen lets a transaction go on whose COMMIT has not ended it. Its fences stay: they are released
// or renewed when it ends, and lapse if that takes long, without harm: it fences again first.
func (t *transaction) reopen() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase != committing {
		return
	}
	t.phase = running
	if t.ended != nil {
		close(t.ended)
		t.ended = nil
	}
}

// withdraw takes back the fence of a commit that was refused and has not happened. It was that of a statement:
// the transaction around it goes on, more can be marked as changed in it, and this process trusts the store
// again as soon as it is back.
func (t *transaction) withdraw() {
	if !t.explicit.Load() {
		return // it ends with the statement
	}
	// An error leaves what there is of it to the lease.
	_ = t.db.store.Release(t.ctx, t.owner, t.fenced)
	t.reopen()
}

// end tells the store how the transaction ended, then those who must know: the scopes whose memos
// are out of date, and the ledgers. OnCommit's functions are due then. Calling it again does nothing.
func (t *transaction) end(outcome tokens.Outcome) {
	t.mu.Lock()
	if t.phase == over {
		t.mu.Unlock()
		return
	}
	t.phase, t.ending = committing, true
	scopes := t.scopes
	t.mu.Unlock()

	var changes *tokens.Changes
	if outcome != tokens.RolledBack {
		changes = t.total()
	}
	if t.writes.Dirty() {
		t.db.stats.ended(outcome, changes, &t.tally)
	}
	switch {
	case outcome == tokens.Committed:
		// What was changed and never fenced is published all the same: late is better than never.
		if !changes.Empty() {
			// After most errors the store keeps the changes and publishes them itself.
			_, err := t.db.store.Publish(t.ctx, t.owner, changes)
			t.db.lost(err)
			for _, s := range scopes {
				s.changed(changes)
			}
		}
	case outcome == tokens.RolledBack:
		if t.fenced != nil {
			// An error leaves the fences to their lease.
			_ = t.db.store.Release(t.ctx, t.owner, t.fenced)
		}
	default:
		if !changes.Empty() {
			if t.owner == "" {
				t.owner = tokens.NewOwner()
			}
			t.db.lost(t.db.store.Abandon(t.ctx, t.owner, changes, t.db.lease))
			for _, s := range scopes {
				s.changed(changes)
			}
		}
	}
	t.writes.End(outcome)

	t.mu.Lock()
	t.phase = over
	after := t.after
	t.after = nil
	scopes = t.scopes
	if t.ended != nil {
		close(t.ended)
	}
	t.mu.Unlock()
	for _, s := range scopes {
		s.leave(t)
	}
	if outcome != tokens.Committed {
		return
	}
	t.due = after
}

// callDue calls the functions of OnCommit, once the transaction has committed and what knew of it
// has let it go.
func (t *transaction) callDue() {
	for _, a := range t.due {
		t.call(a)
	}
	t.due = nil
}

// call calls a function of OnCommit. A panic must not pass through the driver: database/sql would
// lose the connection by it, and the transaction has committed.
func (t *transaction) call(a afterCommit) {
	defer func() {
		if p := recover(); p != nil {
			t.db.logger.ErrorContext(a.ctx, "alkey: a function of OnCommit panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	callDetached(a.ctx, a.fn)
}

// total is all that the transaction has changed and fenced.
func (t *transaction) total() *tokens.Changes {
	switch {
	case t.more.Load():
		return t.gather()
	case t.fenced != nil:
		return t.fenced
	default:
		return new(tokens.Changes)
	}
}

func (t *transaction) gather() *tokens.Changes {
	changes := t.writes.Changes()
	if t.fenced != nil {
		changes.Merge(t.fenced)
	}
	return changes
}
