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
	running map[*renewal]struct{}
	timer   *time.Timer
	armed   bool
}

// renewEvery is how often the fence is renewed while COMMIT runs; it can be half as long again.
const renewEvery = time.Second

func newRenewals(lease time.Duration) *renewals {
	return &renewals{every: min(renewEvery, lease/4), running: make(map[*renewal]struct{})}
}

// renewal renews the fence of the commit of one connection.
type renewal struct {
	sending sync.Mutex // held while a renewal is sent; guards what follows
	t       *transaction
	fenced  *tokens.Changes // t's own field belongs to the connection
	last    time.Time
}

// start renews t's fence from now on, if it has one.
func (r *renewal) start(t *transaction) {
	if t.fenced == nil {
		return
	}
	r.sending.Lock()
	r.t, r.fenced, r.last = t, t.fenced, t.fencedAt
	r.sending.Unlock()

	all := t.db.renewals
	all.mu.Lock()
	defer all.mu.Unlock()
	all.running[r] = struct{}{}
	switch {
	case all.armed:
	case all.timer == nil:
		all.timer = time.AfterFunc(all.every/2, all.tick)
	default:
		all.timer.Reset(all.every / 2)
	}
	all.armed = true
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

func (all *renewals) tick() {
	all.mu.Lock()
	defer all.mu.Unlock()
	if len(all.running) == 0 {
		all.armed = false
		return
	}
	for r := range all.running {
		go r.renew(all.every)
	}
	all.timer.Reset(all.every / 2)
}

// renew sends a renewal if it is time and none is being sent.
func (r *renewal) renew(every time.Duration) {
	if !r.sending.TryLock() {
		return
	}
	defer r.sending.Unlock()
	if r.t == nil || time.Since(r.last) < every {
		return
	}
	r.last = time.Now()
	// An error leaves the older fence; if the store is down, it distrusts itself.
	_ = r.t.db.store.Fence(r.t.ctx, r.t.owner, r.fenced, r.t.db.lease)
}

// close stops the timer, or leaves it to the commits that are still under way: the timer stops by
// itself after the last.
func (all *renewals) close() {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.armed && len(all.running) == 0 {
		all.timer.Stop()
		all.armed = false
	}
}
