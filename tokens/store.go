package tokens

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of a Store.
var (
	// ErrDown is returned while the backend does not answer. Reads fail at once until a probe in
	// the background succeeds.
	ErrDown = errors.New("alkey: token store is down")
	// ErrFenced is returned by Get while a commit that changes the argument is under way.
	ErrFenced = errors.New("alkey: a commit is under way")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("alkey: token store is closed")
)

// Store is one process's view of one backend: the largest stamp seen, whether the backend is down,
// the publishes that wait for it, and what open transactions have changed. An application has one
// Store and gives it to its databases and to the middleware. Safe for concurrent use.
type Store struct {
	backend  Backend
	restorer Restorer // the backend, if its server can lose what it holds
	logger   *slog.Logger
	now      func() time.Time
	limits   limits
	off      rules

	seen      atomic.Int64 // a Stamp
	history   history
	ledger    Ledger
	databases atomic.Int64

	writers atomic.Int64 // writing operations under way: Close waits for them
	written chan struct{}

	reads  limiter
	plans  sync.Pool // *[]ID: a page reads at every request, and the lists are used again
	outage outage
}

type limits struct {
	read, write time.Duration // 0: none
	waiting     int           // records affected
	probe       [2]time.Duration
}

// Option sets up a Store.
type Option func(*Store)

// WithLogger sets where outages are reported. Default: slog.Default.
func WithLogger(l *slog.Logger) Option { return func(s *Store) { s.logger = l } }

// WithReadTimeout limits how long a read waits for the backend; the first that waits longer makes
// all others fail at once until the backend is back. Default 250 ms; none for a backend in this process.
func WithReadTimeout(d time.Duration) Option { return func(s *Store) { s.limits.read = d } }

// WithWriteTimeout limits how long a fence, a publish or a release waits. Default 500 ms; none for
// a backend in this process.
func WithWriteTimeout(d time.Duration) Option { return func(s *Store) { s.limits.write = d } }

// WithMaxWaiting bounds the records that changes kept during an outage may affect. Past it, what
// waits becomes one change of everything. Default 10,000.
func WithMaxWaiting(records int) Option { return func(s *Store) { s.limits.waiting = records } }

// New makes a Store over a backend, which Close closes.
func New(b Backend, opts ...Option) *Store {
	s := &Store{
		backend: b,
		logger:  slog.Default(),
		now:     time.Now,
		limits: limits{
			read:    250 * time.Millisecond,
			write:   500 * time.Millisecond,
			waiting: 10_000,
			probe:   [2]time.Duration{25 * time.Millisecond, 250 * time.Millisecond},
		},
	}
	if s.InProcess() {
		s.limits.read, s.limits.write = 0, 0
	}
	for _, o := range opts {
		o(s)
	}
	s.reads.limit = s.limits.read
	s.restorer, _ = b.(Restorer)
	if b, ok := b.(interface{ report(*slog.Logger) }); ok {
		b.report(s.logger)
	}
	s.written = make(chan struct{}, 1)
	s.ledger.outlive()
	s.outage.init()
	return s
}

// NewMemory makes a Store for one process: nothing is shared with others, and nothing outlives it.
func NewMemory() *Store { return New(NewMemoryBackend(MemoryOptions{})) }

// InProcess reports whether the Store's backend serves this process only.
func (s *Store) InProcess() bool {
	_, ok := s.backend.(*Memory)
	return ok
}

// AddDatabase notes that a database was opened over the Store.
func (s *Store) AddDatabase() { s.databases.Add(1) }

// Databases returns how many databases were opened over the Store.
func (s *Store) Databases() int { return int(s.databases.Load()) }

// Closed reports whether the Store was closed.
func (s *Store) Closed() bool { return s.outage.state.Load()&closed != 0 }

// Seen returns the largest stamp that this process has seen of the Store. It does no I/O.
func (s *Store) Seen() Stamp { return Stamp(s.seen.Load()) }

func (s *Store) see(stamp Stamp) {
	for {
		have := s.seen.Load()
		if int64(stamp) <= have {
			return
		}
		if s.seen.CompareAndSwap(have, int64(stamp)) {
			if s.history.lag.Load() != 0 {
				s.history.note(s.now(), stamp)
			}
			return
		}
	}
}

// Epoch counts the losses of the store that this process has noticed. A token that was read in
// another epoch is not to be used any more: forget it and read it again. It does no I/O.
func (s *Store) Epoch() uint64 {
	if s.restorer == nil {
		return 0
	}
	return s.restorer.Epoch()
}

// Ledger returns what transactions that were begun without a scope have changed, and those whose fence was
// confirmed too late.
func (s *Store) Ledger() *Ledger { return &s.ledger }

// Token is what a reader sees of one argument: the state of all its records together. Its stamp is
// the largest of theirs, and it is fenced, which means not usable, if one of them is.
type Token = State

// Read returns the token of every argument in ids, in order, with one round trip for all. The
// error wraps ErrDown if the backend does not answer, also while changes of this process wait to
// be published: no token can be trusted before they are.
func (s *Store) Read(ctx context.Context, ids []ID) ([]Token, error) {
	if err := s.outage.readable(); err != nil {
		return nil, err
	}
	list, ok := s.plans.Get().(*[]ID)
	if !ok {
		list = new([]ID)
	}
	records := appendPlan((*list)[:0], ids)
	snap, err := s.read(ctx, records)
	if err != nil {
		// The list is not used again: after a timeout a backend may still be reading it.
		return nil, s.failed(ctx, err, false)
	}
	tokens := s.tokens(ids, records, snap)
	clear(records)
	*list = records
	s.plans.Put(list)
	return tokens, nil
}

func (s *Store) read(ctx context.Context, records []ID) (Snapshot, error) {
	if s.reads.limit > 0 {
		limited := s.reads.begin(ctx)
		defer s.reads.end(limited)
		return s.backend.Read(limited, records)
	}
	return s.backend.Read(ctx, records)
}

func (s *Store) tokens(ids, records []ID, snap Snapshot) []Token {
	tokens := snap.States[:len(ids):len(ids)]
	everything := snap.States[len(snap.States)-1]
	seen := snap.Clock
	for i, id := range ids {
		t := merge(tokens[i], everything)
		if id.Row != all {
			at := sweepOf(id, records, len(ids))
			t = merge(t, snap.States[at])
		}
		seen = max(seen, t.Stamp)
		tokens[i] = t
	}
	s.see(seen)
	return tokens
}

func merge(t, s Token) Token {
	return Token{Stamp: max(t.Stamp, s.Stamp), Fenced: t.Fenced || s.Fenced}
}

// appendPlan appends the records that the arguments depend on to an empty list: the arguments
// themselves, then the sweeps of their tables, then the sweep of everything.
func appendPlan(records, ids []ID) []ID {
	records = append(records, ids...)
	for _, id := range ids {
		if id.Row != all && sweepOf(id, records, len(ids)) < 0 {
			records = append(records, ID{id.Table, sweep})
		}
	}
	return append(records, sweepAll)
}

// sweepOf tells where the sweep of id's table is in the records, of which the first are arguments. A
// page has rows of a few tables.
func sweepOf(id ID, records []ID, arguments int) int {
	for i := arguments; i < len(records); i++ {
		if records[i].Table == id.Table {
			return i
		}
	}
	return -1
}

// failed makes of a backend's error what the caller gets, and opens the breaker unless the caller
// himself gave up.
func (s *Store) failed(ctx context.Context, err error, writing bool) error {
	if errors.Is(err, ErrClosed) {
		return err
	}
	if cause := ctx.Err(); cause != nil {
		return fmt.Errorf("alkey: token store not read: %w", cause)
	}
	s.outage.begin(s, err, writing || errors.Is(err, ErrRefused))
	return fmt.Errorf("%w: %w", ErrDown, err)
}

// Fence announces that owner is about to commit changes, with one round trip. Call it again to
// renew the fence, and to fence more. Whatever it returned, exactly one of Publish, Release and
// Abandon must follow with the same owner and all its changes. After an error nothing protects the
// commit: until the call that follows, this Store trusts no token, and other processes can serve
// what the commit makes stale.
// The caller's cancellation does not cut it short; the write timeout does.
func (s *Store) Fence(ctx context.Context, owner Owner, changes *Changes, lease time.Duration) error {
	if changes.Empty() {
		return nil
	}
	if s.off.has(ruleFence) {
		return nil
	}
	owner = s.owner(owner)
	s.enter()
	defer s.leave()
	err := s.write(ctx, func(ctx context.Context) error {
		return s.backend.Fence(ctx, owner, changes.records(), lease)
	})
	if err != nil && !errors.Is(err, ErrClosed) {
		s.outage.hold(owner)
	}
	return err
}

// Publish gives what changed a new stamp and lifts owner's fences, with one round trip. Call it
// after COMMIT. If it fails, the changes are kept and published as soon as the backend is back,
// before this Store trusts any token again; the error says so.
// The caller's cancellation does not cut it short; the write timeout does.
func (s *Store) Publish(ctx context.Context, owner Owner, changes *Changes) (Stamp, error) {
	if changes.Empty() {
		return s.Seen(), nil
	}
	owner = s.owner(owner)
	s.enter()
	defer s.leave()
	var stamp Stamp
	err := s.write(ctx, func(ctx context.Context) (err error) {
		stamp, err = s.backend.Publish(ctx, owner, changes.records())
		return err
	})
	if errors.Is(err, ErrClosed) {
		return 0, err
	}
	if err != nil {
		if !s.outage.keep(s, waiting{owner: owner, changes: changes}) {
			return 0, ErrClosed
		}
		return 0, fmt.Errorf("%w (the change is kept and published when the store is back)", err)
	}
	s.outage.settle(owner)
	s.see(stamp)
	return stamp, nil
}

// Release lifts owner's fences and changes no key. Call it after a certain rollback. If it fails,
// the fences run out with their lease.
// The caller's cancellation does not cut it short; the write timeout does.
func (s *Store) Release(ctx context.Context, owner Owner, changes *Changes) error {
	if changes.Empty() {
		return nil
	}
	owner = s.owner(owner)
	s.enter()
	defer s.leave()
	err := s.write(ctx, func(ctx context.Context) error {
		return s.backend.Release(ctx, owner, changes.records())
	})
	s.outage.settle(owner)
	return err
}

// Abandon leaves owner's fences to run out, after one renewal: nobody knows how its transaction
// ended, and it may still commit. If they cannot be renewed they are when the store is back, before
// this Store trusts any token again.
func (s *Store) Abandon(ctx context.Context, owner Owner, changes *Changes, lease time.Duration) error {
	if changes.Empty() {
		return nil
	}
	owner = s.owner(owner)
	s.enter()
	defer s.leave()
	err := s.write(ctx, func(ctx context.Context) error {
		return s.backend.Fence(ctx, owner, changes.records(), lease)
	})
	if errors.Is(err, ErrClosed) {
		return err
	}
	if err != nil {
		if !s.outage.keep(s, waiting{owner, changes, lease}) {
			return ErrClosed
		}
		return err
	}
	s.outage.settle(owner)
	return nil
}

// owner is the owner under which the store knows a transaction: itself.
func (s *Store) owner(o Owner) Owner {
	if s.off.has(ruleOwner) {
		return "everybody"
	}
	return o
}

// write runs one writing operation within its limits, detached from the caller's cancellation: a
// commit's fences and publishes must not depend on whether the client is still there.
func (s *Store) write(ctx context.Context, op func(context.Context) error) error {
	if err := s.outage.reachable(); err != nil {
		return err
	}
	if ctx.Done() != nil {
		ctx = context.WithoutCancel(ctx)
	}
	if d := s.limits.write; d > 0 {
		limited, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return s.wrote(op(limited))
	}
	return s.wrote(op(ctx))
}

func (s *Store) wrote(err error) error {
	if err == nil {
		return nil
	}
	return s.failed(context.Background(), err, true)
}

// Close waits for the fences and publishes that are being sent, publishes what waits, as far as the
// backend lets it within five seconds, stops the Store's goroutine and closes the backend. What could
// not be published is logged as an error. Calling it again does nothing.
//
// Close the databases first. A commit that has been fenced and is under way meanwhile cannot be published
// any more: what it changes is not used by anybody until its lease ends. A later one is not
// even fenced, and is refused where txscope.Strict is set.
func (s *Store) Close() error {
	if !s.outage.close(s) {
		return nil
	}
	return s.backend.Close()
}

// Bump changes args by hand, outside any transaction: models, identifiers, tokens.Table (all rows
// of the table) or tokens.Global. It returns the new stamp. If the store is down the error wraps
// ErrDown, and the change is kept and made as soon as the store is back.
func Bump(ctx context.Context, s *Store, args ...any) (Stamp, error) {
	changes, err := ParseChanges(args...)
	if err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("alkey: nothing was changed: %w", err)
	}
	return s.Publish(ctx, "", changes)
}

// Get reads one argument's token. The error wraps ErrFenced while a commit that changes the
// argument is under way, and ErrDown if the store does not answer.
func Get(ctx context.Context, s *Store, arg any) (Stamp, error) {
	id, err := identify(arg)
	if err != nil {
		return 0, err
	}
	t, err := s.Read(ctx, []ID{id})
	if err != nil {
		return 0, err
	}
	if t[0].Fenced {
		return 0, fmt.Errorf("%w on %s", ErrFenced, id)
	}
	return t[0].Stamp, nil
}

// outage is what a Store does while its backend is down: a breaker that a probe closes, and the
// publishes that wait.
type outage struct {
	state atomic.Int32 // bits below; 0 is the state in which reads are trusted

	mu      sync.Mutex
	held    map[Owner]struct{} // commits under way that could not be fenced
	waiting []waiting
	size    int           // records that waiting affects
	running bool          // the probing goroutine
	woken   chan struct{} // holds one value when there is something to do for it
	writing bool          // writes have failed: reads alone do not end the outage
	again   bool          // something has failed since the last probe began, which does not end the outage then
	since   Stamp         // the largest that the backend had met when it went down
	from    time.Time
	warned  bool // the outage was logged, and its end was not
	final   bool // the last attempt to publish has begun
	ctx     context.Context
	stop    context.CancelFunc
	done    sync.WaitGroup
}

const (
	down      = 1 << iota // the backend does not answer
	untrusted             // commits are held or publishes wait
	closed
)

// lastAttempt bounds how long Close tries to publish what waits.
const lastAttempt = 5 * time.Second

// waiting is what the store has still to be told of one transaction.
type waiting struct {
	owner   Owner
	changes *Changes
	lease   time.Duration // if the outcome is unknown: to be fenced; 0: to be published
}

func (o *outage) init() {
	o.held = make(map[Owner]struct{})
	o.woken = make(chan struct{}, 1)
	o.ctx, o.stop = context.WithCancel(context.Background())
}

func (o *outage) readable() error {
	switch state := o.state.Load(); {
	case state == 0:
		return nil
	case state&closed != 0:
		return ErrClosed
	default:
		return ErrDown
	}
}

func (o *outage) reachable() error {
	switch state := o.state.Load(); {
	case state&closed != 0:
		return ErrClosed
	case state&down != 0:
		return ErrDown
	default:
		return nil
	}
}

// set needs o.mu.
func (o *outage) set(bit int32, on bool) {
	if on {
		o.state.Or(bit)
	} else {
		o.state.And(^bit)
	}
}

func (o *outage) begin(s *Store, cause error, writing bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing, o.again = o.writing || writing, true
	if o.state.Load()&(down|closed) == 0 {
		if s.restorer != nil {
			o.since = s.restorer.Seen()
		}
		o.from = s.now().Add(-max(s.limits.read, s.limits.write)) // what has failed was not sent before, if it had a limit
		o.set(down, true)
		if !o.warned {
			o.warned = true
			s.logger.Warn("alkey: the token store does not answer: requests go uncached, commits are published when it is back", "error", cause)
		}
	}
	o.run(s)
}

// hold keeps tokens from being trusted until owner's commit has ended.
func (o *outage) hold(owner Owner) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held[owner] = struct{}{}
	o.set(untrusted, true)
}

// settle notes that owner's commit has ended and nothing of it waits.
func (o *outage) settle(owner Owner) {
	if o.state.Load()&untrusted == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.held, owner)
	o.set(untrusted, len(o.held)+len(o.waiting) > 0)
}

// keep makes changes wait. It is false if Close does not wait for them any more: nobody is left to
// publish them.
func (o *outage) keep(s *Store, w waiting) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.held, w.owner)
	if o.final {
		return false
	}
	if o.size+w.changes.size() > s.limits.waiting {
		// One change of everything stands for all. A fence that runs out gives a new stamp too; the
		// owners' own are left to their leases.
		everything := waiting{owner: NewOwner(), changes: NewChanges(Global), lease: w.lease}
		for _, other := range o.waiting {
			everything.lease = max(everything.lease, other.lease)
		}
		w, o.waiting, o.size = everything, nil, 0
	}
	w.changes = w.changes.Clone() // the caller may go on with his
	o.waiting = append(o.waiting, w)
	o.size += w.changes.size()
	o.set(untrusted, true)
	o.run(s)
	return true
}

// run has the goroutine that ends the outage see to it. It needs o.mu.
func (o *outage) run(s *Store) {
	if o.running {
		select {
		case o.woken <- struct{}{}:
		default:
		}
		return
	}
	if o.ctx.Err() == nil {
		o.running = true
		o.done.Go(func() { o.recover(s) })
	}
}

// steady is how long an outage has to be over to be over for good. One that begins again before goes on: where
// probes succeed and requests fail, because they ask for more than probes do, the store is not probed all the more
// often, and it is not logged each time.
const steady = time.Second

// recover probes the backend and publishes what waits, until nothing was left to do for a while.
func (o *outage) recover(s *Store) {
	pause := s.limits.probe[0]
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for published := 0; ; {
		select {
		case <-o.ctx.Done():
			return
		case <-timer.C:
		}
		n, err := o.flush(o.ctx, s)
		published += n
		if err == nil && o.over() && o.calm(timer) && o.ended(s, published) {
			return
		}
		pause = min(2*pause, s.limits.probe[1])
		timer.Reset(pause)
	}
}

// calm waits for a while in which nothing is left to do. It is false if something is before that.
func (o *outage) calm(timer *time.Timer) bool {
	timer.Reset(steady)
	for {
		select {
		case <-o.ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-o.woken:
			o.mu.Lock()
			idle := o.idle()
			o.mu.Unlock()
			if !idle { // else that was done before it was over
				return false
			}
		}
	}
}

// idle reports whether nothing is left to do for the goroutine. It needs o.mu.
func (o *outage) idle() bool { return o.state.Load()&down == 0 && len(o.waiting) == 0 }

// flush publishes what waits, or probes the backend where nothing does.
func (o *outage) flush(ctx context.Context, s *Store) (published int, err error) {
	limit := s.limits.write
	if limit == 0 {
		limit = time.Second
	}
	for {
		o.mu.Lock()
		if len(o.waiting) == 0 {
			writing, since, away := o.writing, o.since, o.state.Load()&down != 0
			o.again = false
			if s.now().Sub(o.from) < briefOutage {
				since = 0
			}
			o.mu.Unlock()
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			err := s.probe(ctx, writing)
			if err == nil && away {
				err = s.restore(ctx, since)
			}
			return published, err
		}
		next := o.waiting[0]
		o.mu.Unlock()

		limited, cancel := context.WithTimeout(ctx, limit)
		var stamp Stamp
		var err error
		if next.lease > 0 {
			err = s.backend.Fence(limited, next.owner, next.changes.records(), next.lease)
		} else {
			stamp, err = s.backend.Publish(limited, next.owner, next.changes.records())
		}
		cancel()
		if err != nil {
			return published, err
		}
		s.see(stamp)
		published++

		o.mu.Lock()
		// What waits may have been replaced by a change of everything meanwhile.
		if len(o.waiting) > 0 && o.waiting[0].changes == next.changes {
			o.waiting = o.waiting[1:]
			o.size -= next.changes.size()
		}
		o.mu.Unlock()
	}
}

// probe asks the backend whether it is there, and if need be whether it takes writes: a server that
// is full, or a replica, only answers reads.
func (s *Store) probe(ctx context.Context, writing bool) error {
	snap, err := s.backend.Read(ctx, []ID{sweepAll})
	if err != nil {
		return err
	}
	s.see(snap.Clock)
	if !writing || s.off.has(ruleHealth) {
		return nil
	}
	// One owner for all probes of all processes: nobody reads the record, so a fence that a probe
	// could not lift is lifted by the next.
	const owner = Owner("probe")
	records := []ID{{Table: "alkey", Row: "probe"}}
	if err := s.backend.Fence(ctx, owner, records, time.Second); err != nil {
		return err
	}
	return s.backend.Release(ctx, owner, records)
}

// briefOutage is how long a store can be away without a sweep when it is back. A process that stalls for a
// moment, and takes that for an outage, must not cost all processes their cache: that the server is the one of
// before, and has lost nothing, every new connection finds out.
const briefOutage = time.Second

// restore sweeps a store that has been down, unless somebody has done so since: while this process did
// not hear of it, it may have been replaced by one that had not heard of this process's fences. With since 0,
// after a brief outage, it asks only whether that is so.
func (s *Store) restore(ctx context.Context, since Stamp) error {
	if s.restorer == nil || s.off.has(ruleIdentity) {
		return nil
	}
	stamp, err := s.restorer.Restore(ctx, since)
	s.see(stamp)
	return err
}

// over closes the breaker after a flush that succeeded. It is false while something is left for
// the goroutine to do.
func (o *outage) over() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state.Load()&down != 0 {
		if o.again {
			return false
		}
		o.set(down, false)
		o.writing = false
	}
	o.set(untrusted, len(o.held)+len(o.waiting) > 0)
	// Held commits end in keep or settle, which see to the rest.
	return len(o.waiting) == 0
}

// ended lets the goroutine end, unless something is left to do.
func (o *outage) ended(s *Store, published int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.idle() {
		return false
	}
	o.running = false
	if o.warned {
		o.warned = false
		s.logger.Info("alkey: the token store is back", "published", published)
	}
	return true
}

// close stops the goroutine and makes a last attempt. It is false if the Store was closed before.
func (o *outage) close(s *Store) bool {
	o.mu.Lock()
	if o.state.Load()&closed != 0 {
		o.mu.Unlock()
		return false
	}
	o.set(closed, true)
	o.stop()
	o.mu.Unlock()
	o.done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), lastAttempt)
	defer cancel()
	s.drain(ctx)

	o.mu.Lock()
	o.final = true
	left := len(o.waiting)
	o.mu.Unlock()
	if left == 0 {
		return true
	}
	if _, err := o.flush(ctx, s); err != nil {
		o.mu.Lock()
		left = len(o.waiting)
		o.mu.Unlock()
		s.logger.Error("alkey: the token store was closed with changes that could not be published: other processes may serve what they made stale", "transactions", left, "error", err)
	}
	return true
}

// enter begins a writing operation. One that Close does not see here finds the Store closed.
func (s *Store) enter() { s.writers.Add(1) }

// leave ends it.
func (s *Store) leave() {
	if s.writers.Add(-1) == 0 && s.Closed() {
		select {
		case s.written <- struct{}{}:
		default:
		}
	}
}

// drain waits until the writing operations that have begun are over, as far as they are before ctx ends:
// those without a limit end when the backend is closed.
func (s *Store) drain(ctx context.Context) {
	for s.writers.Load() > 0 {
		select {
		case <-s.written:
		case <-ctx.Done():
			return
		}
	}
}
