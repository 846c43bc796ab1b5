package txscope

import (
	"sync"
	"time"

	"github.com/alkey-go/alkey/tokens"
)

// renewals renew the fences of all commits of a database that take long. One timer serves them all,
// and runs only while there are commits: most are over long before their fence is due, and should
// not pay for a timer.
type renewals struct {
	every time.Duration

	mu      sync.Mutex
	running map[*renewal]time.Time // when each is due
	timer   *time.Timer
	next    time.Time // when it fires; zero if it does not
}

// renewEvery is how often the fence is renewed while COMMIT runs; the first time it can be a quarter later.
const renewEvery = time.Second

func newRenewals(lease time.Duration) *renewals {
	return &renewals{every: min(renewEvery, lease/4), running: make(map[*renewal]time.Time)}
}

// renewal renews the fence of the commit of one connection.
type renewal struct {
	sending sync.Mutex // held while a renewal is sent; guards what follows
	t       *transaction
	fenced  *tokens.Changes // t's own field belongs to the connection
}

// start renews t's fence from now on, if it has one.
func (r *renewal) start(t *transaction) {
	if t.fenced == nil {
		return
	}
	r.sending.Lock()
	r.t, r.fenced = t, t.fenced
	r.sending.Unlock()

	all := t.db.renewals
	due := t.fencedAt.Add(all.every)
	if soon := time.Now().Add(all.every / 4); due.Before(soon) {
		due = soon // most commits are over by then, however old their fence
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	all.running[r] = due
	if all.next.IsZero() || due.Before(all.next) {
		all.arm(due)
	}
}

// arm has the timer fire. It needs all.mu.
func (all *renewals) arm(at time.Time) {
	all.next = at
	if all.timer == nil {
		all.timer = time.AfterFunc(time.Until(at), all.fire)
	} else {
		all.timer.Reset(time.Until(at))
	}
}

// stop ends the renewal. One that is being sent is waited for, since it must not arrive after what
// lifts the fence; one that has not begun finds nothing to do.
func (r *renewal) stop() {
	if r.t == nil {
		return // only start, on the same connection, sets it
	}
	all := r.t.db.renewals
	all.mu.Lock()
	delete(all.running, r)
	all.mu.Unlock()

	r.sending.Lock()
	r.t, r.fenced = nil, nil
	r.sending.Unlock()
}

// fire has the fences renewed that are due, and waits for the next.
func (all *renewals) fire() {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.next = time.Time{}
	now := time.Now()
	var next time.Time
	for r, due := range all.running {
		if !due.After(now) {
			go r.renew()
			due = now.Add(all.every)
			all.running[r] = due
		}
		if next.IsZero() || due.Before(next) {
			next = due
		}
	}
	if !next.IsZero() {
		all.arm(next)
	}
}

// renew sends a renewal, unless one is still being sent.
func (r *renewal) renew() {
	if !r.sending.TryLock() {
		return
	}
	defer r.sending.Unlock()
	if r.t == nil {
		return
	}
	// An error leaves the older fence; if the store is down, it distrusts itself.
	_ = r.t.db.store.Fence(r.t.ctx, r.t.owner, r.fenced, r.t.db.lease)
}

// close stops the timer, or leaves it to the commits that are still under way: the timer stops by
// itself after the last.
func (all *renewals) close() {
	all.mu.Lock()
	defer all.mu.Unlock()
	if !all.next.IsZero() && len(all.running) == 0 {
		all.timer.Stop()
		all.next = time.Time{}
	}
}
