package tokens

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What context.WithTimeout does, limiter does too.
func TestLimiter(t *testing.T) {
	type key struct{}
	const limit = time.Minute
	for name, begin := range map[string]func(context.Context) (context.Context, func()){
		"WithTimeout": func(parent context.Context) (context.Context, func()) {
			return context.WithTimeout(parent, limit)
		},
		"limiter": func(parent context.Context) (context.Context, func()) {
			// The alarm has served another before, and half of its time is over.
			l := &limiter{limit: limit}
			l.end(l.begin(context.Background()))
			time.Sleep(limit / 2)
			c := l.begin(parent)
			return c, func() { l.end(c) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent := context.WithValue(t.Context(), key{}, "value")
				open := func(what string, c context.Context, from time.Time) {
					t.Helper()
					if d, ok := c.Deadline(); !ok || !d.Equal(from.Add(limit)) {
						t.Errorf("%s: the deadline is %v, %v", what, d, ok)
					}
					if c.Value(key{}) != "value" {
						t.Errorf("%s: the parent's value is not there", what)
					}
					select {
					case <-c.Done():
						t.Errorf("%s: it is done", what)
					default:
					}
					if err := c.Err(); err != nil {
						t.Errorf("%s: %v", what, err)
					}
				}
				ended := func(what string, c context.Context, after time.Duration, want error) {
					t.Helper()
					from := time.Now()
					<-c.Done()
					if d := time.Since(from); d != after {
						t.Errorf("%s: it ends after %v, not %v", what, d, after)
					}
					if err := c.Err(); !errors.Is(err, want) {
						t.Errorf("%s: the error is %v, not %v", what, err, want)
					}
				}

				c, end := begin(parent)
				from := time.Now()
				open("new", c, from)
				time.Sleep(limit - 1)
				synctest.Wait()
				open("just before", c, from)
				ended("the limit", c, 1, context.DeadlineExceeded)
				end()

				cancelled, cancel := context.WithCancel(parent)
				c, end = begin(cancelled)
				open("cancelled later", c, time.Now())
				time.AfterFunc(limit/4, cancel)
				ended("cancelled later", c, limit/4, context.Canceled)
				end()
				c, end = begin(cancelled)
				ended("cancelled before", c, 0, context.Canceled)
				if err := c.Err(); !errors.Is(err, context.Canceled) {
					t.Errorf("cancelled before: %v", err)
				}
				end()

				earlier, cancel := context.WithTimeout(parent, limit)
				defer cancel()
				time.Sleep(limit / 3)
				if d, _ := earlier.Deadline(); true {
					c, end = begin(earlier)
					if have, ok := c.Deadline(); !ok || !have.Equal(d) {
						t.Errorf("the deadline is %v, %v, and not the parent's, %v", have, ok, d)
					}
					ended("the parent's deadline", c, time.Until(d), context.DeadlineExceeded)
					end()
				}
			})
		})
	}
}

// An alarm serves one operation after another, and what ends one of them ends no other.
func TestLimiterAlarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{limit: time.Second}
		var group sync.WaitGroup
		for n := range 8 {
			group.Go(func() {
				for i := range 200 {
					parent, cancel := context.WithCancel(t.Context())
					c := l.begin(parent)
					from := time.Now()
					switch (i + n) % 4 {
					case 0: // in time
						time.Sleep(time.Duration(i%10) * 100 * time.Millisecond)
						if err := c.Err(); err != nil {
							t.Errorf("after %v of a second: %v", time.Since(from), err)
						}
					case 1: // too late
						<-c.Done()
						if d, err := time.Since(from), c.Err(); d != time.Second || !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("after %v: %v", d, err)
						}
					case 2: // while it is cancelled
						go cancel()
					case 3:
						cancel()
						<-c.Done()
						if err := c.Err(); time.Since(from) != 0 || !errors.Is(err, context.Canceled) {
							t.Errorf("after %v: %v", time.Since(from), err)
						}
					}
					l.end(c)
					cancel()
				}
			})
		}
		group.Wait()
	})
}

func BenchmarkLimiter(b *testing.B) {
	parent, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.Run("by=baseline", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, cancel := context.WithTimeout(parent, time.Second)
			cancel()
		}
	})
	b.Run("by=alkey", func(b *testing.B) {
		b.ReportAllocs()
		l := &limiter{limit: time.Second}
		for b.Loop() {
			l.end(l.begin(parent))
		}
	})
}
