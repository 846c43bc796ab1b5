package request

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/alkey-go/alkey/tokens"
)

// flights are the fills of a process that others may wait for, one for each value and version.
//
// Who waits takes the result only if it would be a hit for him: what it depends on is known when it
// is there, and may have changed between the request that made it and the one that waits.
type flights struct {
	mu      sync.Mutex
	open    map[flightKey]*flight
	running map[uint64]*runner // by goroutine
}

// flightKey is a value and the version of what its arguments name.
type flightKey struct {
	identity
	stamp tokens.Stamp
}

// flight is a value that is being made.
type flight struct {
	key    flightKey
	runner *runner
	done   chan struct{}
	landing
}

// landing is how a flight ended. It is there when the flight is done.
type landing struct {
	value []byte // as it is stored; nil if it is not for others
	err   error  // of the fill: value then has no payload, and tells who may take the error
	crash *crash
	// The fill failed when who had asked for it was gone: try once more.
	orphaned bool
}

// runner makes values, one after the other, and knows what it waits for: flights of others, and the
// runners that its fills have started. All fields but parent need flights.mu.
type runner struct {
	parent    *runner
	goroutine uint64  // that the fill runs on
	outer     *runner // that the goroutine runs too
	children  []*runner
	flights   []*flight // that it ends
	blocked   []*flight // that it waits for
	waiting   int       // callers that wait for its values; it goes on as long as there is one
	stop      context.CancelFunc
	left      bool // who asked for the values does not wait any more
}

// board returns the flight of a value: a new one that r has to end, or one that waiter, nil for none,
// is to wait for. It returns nil if the caller must make the value for himself: he would wait for
// somebody who waits for waiter, or perhaps for him, which is so for those of others who do not lead
// the flight; or he does not want to wait.
func (t *flights) board(key flightKey, r, waiter *runner, others []*runner, wait bool) (f *flight, leads bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, ok := t.open[key]
	if !ok {
		f = &flight{key: key, runner: r, done: make(chan struct{})}
		if t.open == nil {
			t.open = make(map[flightKey]*flight)
		}
		t.open[key] = f
		r.flights = append(r.flights, f)
		return f, true
	}
	if !wait {
		return nil, false
	}
	waits := func(at *runner) bool {
		for mine := waiter; mine != nil; mine = mine.parent {
			if mine == at {
				return true
			}
		}
		return at != f.runner && slices.Contains(others, at)
	}
	if f.runner.reaches(waits, make(map[*runner]bool)) {
		return nil, false
	}
	f.runner.waiting++
	if waiter != nil {
		waiter.blocked = append(waiter.blocked, f)
	}
	return f, false
}

// reaches reports whether r waits, directly or not, for a runner that is wanted.
func (r *runner) reaches(wanted func(*runner) bool, seen map[*runner]bool) bool {
	if wanted(r) {
		return true
	}
	seen[r] = true
	for _, f := range r.blocked {
		if !seen[f.runner] && f.runner.reaches(wanted, seen) {
			return true
		}
	}
	for _, c := range r.children {
		if !seen[c] && c.reaches(wanted, seen) {
			return true
		}
	}
	return false
}

// await waits for the end of a flight that waiter has boarded. The error is ctx's.
func (t *flights) await(ctx context.Context, f *flight, waiter *runner) error {
	var err error
	select {
	case <-f.done:
	default:
		select {
		case <-f.done:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	t.disembark(f, waiter)
	return err
}

// disembark undoes the boarding of a flight that waiter does not lead.
func (t *flights) disembark(f *flight, waiter *runner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if waiter != nil {
		if i := slices.Index(waiter.blocked, f); i >= 0 {
			waiter.blocked = slices.Delete(waiter.blocked, i, i+1)
		}
	}
	t.leave(f.runner)
}

// desert is called when who asked for the values of r gives up. It is false if nobody else waits for
// them: then the fill is told to stop, and its end is near.
func (t *flights) desert(r *runner) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.waiting > 1 {
		r.waiting--
		r.left = true
		return true
	}
	t.stop(r)
	return false
}

// abandoned reports whether nobody waits for the values of r but who asked for them, and stops r if so:
// he is about to give up.
func (t *flights) abandoned(r *runner) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.left || r.waiting > 1 {
		return false
	}
	t.stop(r)
	return true
}

// leave takes one caller from those that wait. Without any the fill is told to stop, and nobody joins
// it any more. It needs t.mu.
func (t *flights) leave(r *runner) {
	if r.waiting--; r.waiting == 0 {
		t.stop(r)
	}
}

// stop keeps others from joining r, and ends its context. It needs t.mu.
func (t *flights) stop(r *runner) {
	for _, f := range r.flights {
		t.remove(f)
	}
	if r.stop != nil {
		r.stop()
	}
}

// start notes which goroutine runs r.
func (t *flights) start(r *runner, goroutine uint64) {
	if goroutine == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running == nil {
		t.running = make(map[uint64]*runner)
	}
	r.goroutine, r.outer = goroutine, t.running[goroutine]
	t.running[goroutine] = r
}

// finish undoes start.
func (t *flights) finish(r *runner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.running[r.goroutine] != r:
	case r.outer != nil:
		t.running[r.goroutine] = r.outer
	default:
		delete(t.running, r.goroutine)
	}
}

// on returns what a goroutine runs, whichever request it is for: a fill may serve another.
func (t *flights) on(goroutine uint64) *runner {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running[goroutine]
}

// idle reports whether nothing is being made.
func (t *flights) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.running) == 0
}

// begin enters r among what its parent waits for.
func (t *flights) begin(r *runner) {
	if r.parent == nil {
		return
	}
	t.mu.Lock()
	r.parent.children = append(r.parent.children, r)
	t.mu.Unlock()
}

// end undoes begin.
func (t *flights) end(r *runner) {
	if r.parent == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(r.parent.children, r); i >= 0 {
		r.parent.children = slices.Delete(r.parent.children, i, i+1)
	}
}

// land ends a flight. It reports whether anybody waits for it.
func (t *flights) land(f *flight, l landing) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(f)
	return t.show(f, l)
}

// approach is land for a value that is still to be stored: until the flight is dropped, those who come find
// it here.
func (t *flights) approach(f *flight, l landing) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.show(f, l)
}

// drop keeps others from joining a flight.
func (t *flights) drop(f *flight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(f)
}

// remove is drop for who has t.mu.
func (t *flights) remove(f *flight) {
	if t.open[f.key] == f {
		delete(t.open, f.key)
	}
}

// show gives the result to those who wait, and reports whether there are any. It needs t.mu.
func (t *flights) show(f *flight, l landing) bool {
	if l.err != nil && (f.runner.left || errors.Is(l.err, context.Canceled) || errors.Is(l.err, context.DeadlineExceeded)) {
		// It may be of the making of who is gone. Others have contexts of their own.
		l.value, l.orphaned = nil, true
	}
	f.landing = l
	close(f.done)
	return f.runner.waiting > 0
}

// crash is a fill that did not return.
type crash struct {
	panicked any // nil: it called runtime.Goexit
}

// again does in another goroutine what the fill did in its own.
func (c *crash) again() {
	if c == nil {
		return
	}
	if c.panicked == nil {
		runtime.Goexit()
	}
	panic(c.panicked)
}

// fillPanic is what a fill panicked with, and where: the goroutines that go on to panic with it have
// stacks of their own.
type fillPanic struct {
	value any
	stack []byte
}

// Error is part of error: what is not recovered is printed by it.
func (p *fillPanic) Error() string {
	return fmt.Sprintf("%v\n\nin a fill of alkey:\n%s", p.value, p.stack)
}

// Unwrap returns the value, if it is an error.
func (p *fillPanic) Unwrap() error {
	err, _ := p.value.(error)
	return err
}

// newFillPanic is called by the deferred function that recovered the value.
func newFillPanic(value any) any {
	if value == http.ErrAbortHandler {
		return value // which net/http knows by itself
	}
	if p, ok := value.(*fillPanic); ok {
		return p // of a fill inside
	}
	stack := debug.Stack()
	// The first line names a goroutine that will be gone.
	if line := bytes.IndexByte(stack, '\n'); line >= 0 {
		stack = stack[line+1:]
	}
	return &fillPanic{value: value, stack: stack}
}

// guarded runs fn and then, however it ended, then.
func guarded(fn func(), then func(*crash)) {
	returned := false
	defer func() {
		switch p := recover(); {
		case returned:
			then(nil)
		case p != nil:
			then(&crash{panicked: newFillPanic(p)})
		default:
			then(new(crash))
		}
	}()
	fn()
	returned = true
}
