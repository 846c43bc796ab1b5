package request_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

// late is a value store in which others store at awkward moments: the first looks for a value find
// nothing, the next finds it.
type late struct {
	*cache.Memory
	mu    sync.Mutex
	looks map[string]int // that find nothing, by the end of the key
}

func (l *late) hides(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for end := range l.looks {
		if strings.HasSuffix(key, end) && l.looks[end] > 0 {
			l.looks[end]--
			return true
		}
	}
	return false
}

func (l *late) hide(end string, looks int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looks = map[string]int{end: looks}
}

func (l *late) Get(ctx context.Context, keys []string) ([][]byte, error) {
	values, err := l.Memory.Get(ctx, keys)
	for i, key := range keys {
		if l.hides(key) && err == nil {
			values[i] = nil
		}
	}
	return values, err
}

func (l *late) Lookup(key string) ([]byte, bool) {
	if l.hides(key) {
		return nil, false
	}
	return l.Memory.Lookup(key)
}

// Lease is held by whoever stores meanwhile.
func (l *late) Lease(context.Context, string, time.Duration) (func(), error) { return nil, nil }

// TestFoundLate: a value that turns up when its fill is about to begin hands on all that it depends on,
// as every hit does.
func TestFoundLate(t *testing.T) {
	for _, c := range []struct {
		name  string
		looks int // before it turns up
		opts  []request.Option
	}{
		{"at once", 0, nil},
		{"when the fill is about to begin", 2, nil},
		{"while another process has the lease", 3, []request.Option{request.Lease(time.Minute)}},
		{"after it was asked for there, too", 5, []request.Option{request.Lease(time.Minute)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := tokens.NewMemory()
				defer store.Close()
				values := &late{Memory: cache.NewMemory(1 << 20)}
				f := newFetcher(t, request.Config{Tokens: store, Values: values})
				ask := func(ctx context.Context) (made bool) {
					args := []any{user2, "inner"}
					for _, o := range c.opts {
						args = append(args, o)
					}
					if _, err := request.Fetch(ctx, func(ctx context.Context) (string, error) {
						made = true
						key(t, ctx, orders)
						return "inner", nil
					}, args...); err != nil {
						t.Error(err)
					}
					return made
				}
				outer := func(ctx context.Context) (made bool) {
					if _, err := request.Fetch(ctx, func(ctx context.Context) (string, error) {
						made = true
						if ask(ctx) {
							t.Error("the inner value is made, and it was there")
						}
						return "outer", nil
					}, user1, "outer"); err != nil {
						t.Error(err)
					}
					return made
				}
				if !ask(f.open(t)) {
					t.Fatal("the inner value is not made")
				}
				values.hide("inner", c.looks)
				if !outer(f.open(t)) {
					t.Fatal("the outer value is not made")
				}
				if outer(f.open(t)) {
					t.Error("the outer value was not stored")
				}
				publish(t, store, orders)
				warm(t, store, orders)
				values.hide("", 0)
				fresh := false
				if _, err := request.Fetch(f.open(t), func(ctx context.Context) (string, error) {
					fresh = true
					return "outer", nil
				}, user1, "outer"); err != nil {
					t.Error(err)
				}
				if !fresh {
					t.Error("a stale hit: what the inner value depends on has changed")
				}
			})
		})
	}
}

// TestManyHasNoLeases: a single key that is missing is made, whoever has the lease of a value like it.
func TestManyHasNoLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := tokens.NewMemory()
		defer store.Close()
		values := &late{Memory: cache.NewMemory(1 << 20)}
		f := newFetcher(t, request.Config{Tokens: store, Values: values, Lease: time.Minute})
		if got, missing, err := names(f.open(t), "many", 1); len(got) != 1 || len(missing) != 1 || err != nil {
			t.Fatalf("%v, %v, %v", got, missing, err)
		}
		values.hide("name", 2)
		from := time.Now()
		got, _, err := names(f.open(t), "many", 1)
		if len(got) != 1 || err != nil {
			t.Errorf("%v, %v: a value is lost", got, err)
		}
		if waited := time.Since(from); waited != 0 {
			t.Errorf("it waits for a lease for %v", waited)
		}
	})
}

// TestOutdatedCopies: what another process has stored is found behind a copy that is out of date, in
// every way of asking for it.
func TestOutdatedCopies(t *testing.T) {
	far := cache.NewMemory(1 << 20)
	backend := tokens.NewMemoryBackend(tokens.MemoryOptions{})
	var f [2]*fetcher
	for i := range f {
		f[i] = newFetcher(t, request.Config{
			Tokens: tokens.New(backend, tokens.WithLogger(slog.New(slog.DiscardHandler))),
			Values: cache.TieredFor(cache.NewMemory(1<<20), far, time.Hour),
		})
		defer f[i].store.Close()
	}
	part := func(f *fetcher) bool {
		made := false
		p := &request.Part{Args: []any{user1, "part"}, Fill: func(context.Context) ([]request.Piece, error) {
			made = true
			return []request.Piece{{Text: []byte("text")}}, nil
		}}
		if err := request.Resolve(f.open(t), p); err != nil || string(p.Value) != "text" {
			t.Errorf("%q, %v", p.Value, err)
		}
		return made
	}
	ways := map[string]func(f *fetcher) bool{
		"Fetch":   func(f *fetcher) bool { _, made := fetch(t, f.open(t), "text", user1, "one"); return made },
		"Resolve": part,
		"FetchMany": func(f *fetcher) bool {
			got, missing, err := names(f.open(t), "many", 1, 2)
			if len(got) != 2 || err != nil {
				t.Errorf("%v, %v", got, err)
			}
			return len(missing) > 0
		},
	}
	for name, get := range ways {
		for round := range 3 {
			what := fmt.Sprintf("%s, round %d", name, round)
			maker, other := f[round%2], f[1-round%2]
			if !get(maker) {
				t.Errorf("%s: not made", what)
			}
			if get(other) {
				t.Errorf("%s: made again by who has an old copy", what)
			}
			publish(t, f[0].store, user1)
			for _, f := range f {
				warm(t, f.store, user1)
			}
		}
	}
}

// TestHealthOfTiers: while the store behind is down it is said once, whatever is found in front of it.
func TestHealthOfTiers(t *testing.T) {
	for name, hidden := range map[string]bool{"as it is": false, "behind a store that counts": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j, far := new(journal), newValues()
				values := cache.TieredFor(cache.NewMemory(1<<20), far, time.Hour)
				if hidden {
					values = struct{ cache.Store }{values}
				}
				store := tokens.NewMemory()
				defer store.Close()
				f := newFetcher(t, request.Config{Tokens: store, Values: values, Logger: j.logger()})
				fetch(t, f.open(t), 1, user1)
				far.mu.Lock()
				far.get = errors.New("no get")
				far.mu.Unlock()
				for i := range 20 {
					fetch(t, f.open(t), 1, user1)    // in front
					fetch(t, f.open(t), 1, user2, i) // not there
					names(f.open(t), "many", i, i+1) // some
				}
				if n, back := j.count("fails"), j.count("works again"); n != 1 || back != 0 {
					t.Errorf("while it is down: said to fail %d times, and to work %d times", n, back)
				}
				far.mu.Lock()
				far.get = nil
				far.mu.Unlock()
				for i := range 20 {
					fetch(t, f.open(t), 1, user2, "later", i)
					time.Sleep(time.Second)
				}
				if n, back := j.count("fails"), j.count("works again"); n != 1 || back != 1 {
					t.Errorf("when it is back: said to fail %d times, and to work %d times", n, back)
				}
			})
		})
	}
}

// picky is a Codec that cannot read what somebody has written, on demand.
type picky struct {
	request.JSON
	refuses *atomic.Bool
}

func (p picky) Unmarshal(data []byte, v any) error {
	if p.refuses.Load() {
		return errors.New("not this one")
	}
	return p.JSON.Unmarshal(data, v)
}

// TestFoundAndNotTaken: what a value depends on that was found, or that others have made, is not what the one
// depends on that is made in its place because that was of no use.
func TestFoundAndNotTaken(t *testing.T) {
	type number struct{ N int }
	args := func(int) []any { return []any{user1, "value"} }
	for i := range 4 {
		waits, asks := i&1 != 0, i&2 != 0 // what is made in its place depends on the same
		for _, how := range []string{"there is none", "Fetch cannot decode it", "FetchMany cannot decode it"} {
			t.Run(fmt.Sprintf("%s, waits=%t, asks=%t", how, waits, asks), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := tokens.NewMemory()
					defer store.Close()
					var refuses atomic.Bool
					kit := newKit(t, request.Config{Tokens: store, Codec: picky{refuses: &refuses}, Logger: slog.New(slog.DiscardHandler)})
					open := func() context.Context { return first(kit.Open(t.Context())) }
					newer := user1 // its stamp is the value's, whatever else that depends on
					if !asks {
						newer = user2
					}
					warm(t, store, user1, user2)
					publish(t, store, newer)
					warm(t, store, newer)
					gate := make(chan struct{})
					many := func(ctx context.Context, made map[int]number, gate chan struct{}, asks bool) (runs bool) {
						if _, err := request.FetchMany(ctx, []int{1}, args, func(ctx context.Context, _ []int) (map[int]number, error) {
							runs = true
							if asks {
								key(t, ctx, user2)
							}
							<-gate
							return made, nil
						}); err != nil {
							t.Error(err)
						}
						return runs
					}
					one := func(ctx context.Context) (runs bool) {
						if how == "FetchMany cannot decode it" {
							passes := make(chan struct{})
							close(passes)
							return many(ctx, map[int]number{1: {2}}, passes, asks)
						}
						if _, err := request.Fetch(ctx, func(ctx context.Context) (number, error) {
							runs = true
							if asks {
								key(t, ctx, user2)
							}
							return number{2}, nil
						}, args(1)...); err != nil {
							t.Error(err)
						}
						return runs
					}
					var made map[int]number
					if how != "there is none" {
						made = map[int]number{1: {1}}
						refuses.Store(true)
					}
					var wg sync.WaitGroup
					earlier, later := open(), open()
					wg.Go(func() { many(earlier, made, gate, true) })
					synctest.Wait()
					if !waits {
						close(gate)
						wg.Wait()
					}
					wg.Go(func() {
						if !one(later) {
							t.Error("it takes what it cannot use")
						}
					})
					synctest.Wait()
					if waits {
						close(gate)
					}
					wg.Wait()
					refuses.Store(false)
					if one(open()) {
						t.Error("what it has made in its place was not stored")
					}
					publish(t, store, user2)
					warm(t, store, user2)
					if made := one(open()); made != asks {
						t.Errorf("after a change of what it depends on if %t, it is made anew: %t", asks, made)
					}
				})
			})
		}
	}
}
