package tokens

import (
	"context"
	"sync"
	"time"
)

// limiter gives one operation after another a context that ends after a limit, as context.WithTimeout does,
// without a timer for each: one is set at most once in a limit, is not stopped when an operation ends in time,
// and serves those that follow. Setting a timer, which mostly wakes another thread, costs a twentieth of
// a round trip on loopback. Safe for concurrent use.
type limiter struct {
	limit time.Duration
	free  sync.Pool // *alarm, none of which has rung
}

// begin returns the context of an operation, which ends with end. After that it must not be used: it does not
// end with this operation, and may end with another.
func (l *limiter) begin(parent context.Context) *limited {
	a, ok := l.free.Get().(*alarm)
	if !ok {
		a = &alarm{done: make(chan struct{})}
	}
	now := time.Now()
	c := &limited{Context: parent, alarm: a, deadline: now.Add(l.limit)}
	if d, ok := parent.Deadline(); ok && d.Before(c.deadline) {
		c.deadline = d
	}
	a.set(c.deadline, l.limit)
	switch {
	case parent.Done() == nil:
	case parent.Err() != nil:
		a.ring(parent.Err())
	default:
		c.stop = context.AfterFunc(parent, func() { a.ring(parent.Err()) })
	}
	return c
}

// end gives back what c has taken.
func (l *limiter) end(c *limited) {
	// What has begun to ring for this operation must not ring for another.
	if silent := c.stop == nil || c.stop(); c.alarm.unset() && silent {
		l.free.Put(c.alarm)
	}
}

// limited is a context of a limiter.
type limited struct {
	context.Context // of the caller: its values, and its end
	alarm           *alarm
	deadline        time.Time
	stop            func() bool
}

func (c *limited) Deadline() (time.Time, bool) { return c.deadline, true }

func (c *limited) Done() <-chan struct{} { return c.alarm.done }

func (c *limited) Err() error {
	select {
	case <-c.alarm.done:
		return c.alarm.err
	default:
		return nil
	}
}

// alarm ends contexts, one at a time, the last of which it ends for good.
type alarm struct {
	done chan struct{} // closed when it has rung
	err  error         // why; not written any more when done is closed

	mu      sync.Mutex
	timer   *time.Timer
	running bool      // the timer
	due     time.Time // zero: nobody is waiting
}

// set sets it to ring at due, which is left from now or earlier.
func (a *alarm) set(due time.Time, left time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.due = due
	switch {
	case a.running:
		// It looks at due when it fires, which is before that: all limits are the same.
	case a.timer == nil:
		a.running = true
		a.timer = time.AfterFunc(left, a.look)
	default:
		a.running = true
		a.timer.Reset(left)
	}
}

// unset is false if it has rung.
func (a *alarm) unset() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.due = time.Time{}
	return a.err == nil
}

// look is what the timer does.
func (a *alarm) look() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running = false
	if a.due.IsZero() {
		return
	}
	if left := time.Until(a.due); left > 0 {
		a.running = true
		a.timer.Reset(left)
		return
	}
	a.end(context.DeadlineExceeded)
}

func (a *alarm) ring(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.end(err)
}

// end needs a.mu. It ends the context, the first time.
func (a *alarm) end(err error) {
	if a.err == nil {
		a.err = err
		close(a.done)
	}
}
