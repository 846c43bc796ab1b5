package request_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// bubble runs a test on fake time, where synctest.Wait tells that all goroutines wait.
func bubble(t *testing.T, fn func(t *testing.T, f *fetcher)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store := tokens.NewMemory()
		defer store.Close()
		f := &fetcher{store: store}
		f.kit = newKit(t, request.Config{Tokens: store})
		warm(t, store, user1, user2, orders)
		fn(t, f)
	})
}

// asking is a Fetch that runs.
type asking struct {
	value string
	err   error
	made  atomic.Bool
	done  atomic.Bool
	out   any // what it panicked with
}

// ask begins a Fetch whose fill waits for release, if there is one.
func ask(ctx context.Context, value string, release <-chan struct{}, args ...any) *asking {
	a := new(asking)
	go func() {
		defer func() {
			a.out = recover()
			a.done.Store(true)
		}()
		a.value, a.err = request.Fetch(ctx, func(ctx context.Context) (string, error) {
			a.made.Store(true)
			if release != nil {
				select {
				case <-release:
				case <-ctx.Done():
					return "", ctx.Err()
				}
			}
			return value, nil
		}, args...)
	}()
	return a
}

func (a *asking) is(t *testing.T, what, value string, made bool) {
	t.Helper()
	if !a.done.Load() {
		t.Errorf("%s: it still waits", what)
	} else if a.value != value || a.err != nil || a.made.Load() != made {
		t.Errorf("%s: %q, %v, made %t; want %q, made %t", what, a.value, a.err, a.made.Load(), value, made)
	}
}

func TestFlightIsShared(t *testing.T) {
	bubble(t, func(t *testing.T, f *fetcher) {
		release := make(chan struct{})
		var all []*asking
		for i := range 20 {
			all = append(all, ask(f.open(t), fmt.Sprint(i), release, user1))
		}
		other := ask(f.open(t), "other", nil, user2)
		synctest.Wait()
		other.is(t, "another value", "other", true)
		made := 0
		for _, a := range all {
			if a.made.Load() {
				made++
			}
			if a.done.Load() {
				t.Error("one does not wait")
			}
		}
		if made != 1 {
			t.Errorf("%d fills", made)
		}
		close(release)
		synctest.Wait()
		for _, a := range all {
			if a.value != all[0].value || a.err != nil {
				t.Errorf("%q, %v", a.value, a.err)
			}
		}
	})
}

// TestFlightWithinARequest: goroutines of one request share a fill too.
func TestFlightWithinARequest(t *testing.T) {
	bubble(t, func(t *testing.T, f *fetcher) {
		release := make(chan struct{})
		ctx := f.open(t)
		first := ask(ctx, "first", release, user1)
		synctest.Wait()
		second := ask(ctx, "second", release, user1)
		synctest.Wait()
		close(release)
		synctest.Wait()
		first.is(t, "first", "first", true)
		second.is(t, "second", "first", false)
	})
}

// TestFlightOfTheStorable: who may not store makes his own value, and nobody waits for it.
func TestFlightOfTheStorable(t *testing.T) {
	bubble(t, func(t *testing.T, f *fetcher) {
		release := make(chan struct{})
		old := f.open(t)
		publish(t, f.store, user1)
		warm(t, f.store, user1)
		younger := ask(old, "old data", release, user1)
		synctest.Wait()
		fresh := ask(f.open(t), "new data", nil, user1)
		synctest.Wait()
		fresh.is(t, "while one that may not store fills", "new data", true)
		close(release)
		synctest.Wait()
		younger.is(t, "the one that may not store", "old data", true)
	})
}

// TestFlightIsJudged: a result that depends on what has changed since is not taken.
func TestFlightIsJudged(t *testing.T) {
	bubble(t, func(t *testing.T, f *fetcher) {
		release, asked := make(chan struct{}), make(chan struct{})
		var first string
		go func() {
			first, _ = request.Fetch(f.open(t), func(ctx context.Context) (string, error) {
				key(t, ctx, orders) // what the value of user1 shows
				close(asked)
				<-release
				return "old orders", nil
			}, user1)
		}()
		<-asked
		publish(t, f.store, orders)
		warm(t, f.store, orders)
		second := ask(f.open(t), "new orders", nil, user1)
		synctest.Wait()
		if second.done.Load() {
			t.Error("it does not wait for the fill of the same version")
		}
		close(release)
		synctest.Wait()
		second.is(t, "who began after the change", "new orders", true)
		if first != "old orders" {
			t.Errorf("who began before has %q", first)
		}
	})
}

// TestFlightNotStorableIsNotTaken: a transaction in the fill of another.
func TestFlightNotStorableIsNotTaken(t *testing.T) {
	bubble(t, func(t *testing.T, f *fetcher) {
		release := make(chan struct{})
		go func() {
			_, _ = request.Fetch(f.open(t), func(ctx context.Context) (string, error) {
				<-release
				return "dirty", txscope.Changed(ctx, user1)
			}, user1)
		}()
		synctest.Wait()
		second := ask(f.open(t), "clean", nil, user1)
		synctest.Wait()
		close(release)
		synctest.Wait()
		second.is(t, "who waited", "clean", true)
	})
}

func TestFlightCallersLeave(t *testing.T) {
	t.Run("one who waits", func(t *testing.T) {
		bubble(t, func(t *testing.T, f *fetcher) {
			release := make(chan struct{})
			leader := ask(f.open(t), "value", release, user1)
			synctest.Wait()
			ctx, cancel := context.WithCancel(f.open(t))
			waits := ask(ctx, "?", nil, user1)
			synctest.Wait()
			cancel()
			synctest.Wait()
			if !waits.done.Load() || !errors.Is(waits.err, context.Canceled) {
				t.Errorf("it got %v", waits.err)
			}
			close(release)
			synctest.Wait()
			leader.is(t, "the one who fills", "value", true)
		})
	})
	t.Run("the one who fills", func(t *testing.T) {
		bubble(t, func(t *testing.T, f *fetcher) {
			release := make(chan struct{})
			ctx, cancel := context.WithTimeout(f.open(t), time.Second)
			defer cancel()
			leader := ask(ctx, "value", release, user1)
			synctest.Wait()
			waits := ask(f.open(t), "?", nil, user1)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if !leader.done.Load() || !errors.Is(leader.err, context.DeadlineExceeded) {
				t.Errorf("it got %v", leader.err)
			}
			close(release)
			synctest.Wait()
			waits.is(t, "who waited", "value", false)
			found := ask(f.open(t), "?", nil, user1)
			synctest.Wait()
			found.is(t, "who comes later", "value", false)
		})
	})
	t.Run("all", func(t *testing.T) {
		bubble(t, func(t *testing.T, f *fetcher) {
			ctx1, cancel1 := context.WithCancel(f.open(t))
			ctx2, cancel2 := context.WithCancel(f.open(t))
			ended := make(chan error, 1)
			go func() {
				_, _ = request.Fetch(ctx1, func(ctx context.Context) (string, error) {
					<-ctx.Done()
					ended <- ctx.Err()
					return "", ctx.Err()
				}, user1)
			}()
			synctest.Wait()
			waits := ask(ctx2, "?", nil, user1)
			synctest.Wait()
			cancel1()
			synctest.Wait()
			if len(ended) != 0 {
				t.Error("the fill has ended while somebody waits")
			}
			cancel2()
			synctest.Wait()
			if len(ended) != 1 || !errors.Is(waits.err, context.Canceled) {
				t.Errorf("the fill goes on for nobody; who waited got %v", waits.err)
			}
			next := ask(f.open(t), "next", nil, user1)
			synctest.Wait()
			next.is(t, "who comes next", "next", true)
		})
	})
	t.Run("alone", func(t *testing.T) {
		bubble(t, func(t *testing.T, f *fetcher) {
			ctx, cancel := context.WithCancel(f.open(t))
			release := make(chan struct{})
			a := new(asking)
			go func() {
				a.value, a.err = request.Fetch(ctx, func(ctx context.Context) (string, error) {
					<-ctx.Done()
					<-release
					return "half", ctx.Err()
				}, user1)
				a.done.Store(true)
			}()
			synctest.Wait()
			cancel()
			synctest.Wait()
			if a.done.Load() {
				t.Error("Fetch returned while its fill runs, and nobody else waits for it")
			}
			// It is not joined any more.
			next := ask(f.open(t), "next", nil, user1)
			synctest.Wait()
			next.is(t, "who comes next", "next", true)
			close(release)
			synctest.Wait()
			if a.value != "half" || !errors.Is(a.err, context.Canceled) {
				t.Errorf("%q, %v", a.value, a.err)
			}
		})
	})
}

// TestFlightErrors: an error is shared as a value is, and not if it may be of the making of somebody
// who is gone.
func TestFlightErrors(t *testing.T) {
	broken := errors.New("broken")
	t.Run("shared", func(t *testing.T) {
		bubble(t, func(t *testing.T, f *fetcher) {
			release := make(chan struct{})
			go func() {
				_, _ = request.Fetch(f.open(t), func(context.Context) (string, error) { <-release; return "", broken }, user1)
			}()
			synctest.Wait()
			waits := ask(f.open(t), "?", nil, user1)
			synctest.Wait()
			close(release)
			synctest.Wait()
			if waits.err != broken || waits.made.Load() {
				t.Errorf("%v, made %t", waits.err, waits.made.Load())
			}
			next := ask(f.open(t), "next", nil, user1)
			synctest.Wait()
			next.is(t, "who comes next", "next", true)
		})
	})
	t.Run("of one who has left", func(t *testing.T) {
		bubble(t, func(t *testing.T, f *fetcher) {
			release := make(chan struct{})
			ctx, cancel := context.WithCancel(f.open(t))
			go func() {
				_, _ = request.Fetch(ctx, func(context.Context) (string, error) { <-release; return "", broken }, user1)
			}()
			synctest.Wait()
			first, second := ask(f.open(t), "mine", nil, user1), ask(f.open(t), "mine", nil, user1)
			synctest.Wait()
			cancel()
			synctest.Wait()
			close(release)
			synctest.Wait()
			if first.value != "mine" || second.value != "mine" || first.made.Load() == second.made.Load() {
				t.Errorf("%q made %t, %q made %t", first.value, first.made.Load(), second.value, second.made.Load())
			}
		})
	})
}

func TestFlightPanics(t *testing.T) {
	bubble(t, func(t *testing.T, f *fetcher) {
		release := make(chan struct{})
		var all []*asking
		for range 3 {
			a := new(asking)
			all = append(all, a)
			go func() {
				defer func() { a.out = recover() }()
				_, _ = request.Fetch(f.open(t), func(context.Context) (string, error) {
					<-release
					panicInFill()
					return "", nil
				}, user1)
			}()
		}
		synctest.Wait()
		close(release)
		synctest.Wait()
		for i, a := range all {
			text := fmt.Sprint(a.out)
			if !strings.HasPrefix(text, "broken\n") || !strings.Contains(text, "panicInFill") {
				t.Errorf("the %d. panicked with %.200q", i, text)
			}
			if err, ok := a.out.(error); !ok || !errors.Is(err, errPanic) {
				t.Errorf("the %d. panicked with %T", i, a.out)
			}
		}
		next := ask(f.open(t), "next", nil, user1)
		synctest.Wait()
		next.is(t, "who comes next", "next", true)
	})
}

var errPanic = errors.New("broken")

//go:noinline
func panicInFill() { panic(errPanic) }

func TestFillAborts(t *testing.T) {
	f := newFetcher(t, request.Config{})
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("net/http would see %v", p)
		}
	}()
	_, _ = request.Fetch(f.open(t), func(context.Context) (int, error) { panic(http.ErrAbortHandler) }, user1)
}

// TestFlightGoexit: as when a test fails in a fill.
func TestFlightGoexit(t *testing.T) {
	bubble(t, func(t *testing.T, f *fetcher) {
		release := make(chan struct{})
		var returned, ended atomic.Int32
		for range 2 {
			go func() {
				defer ended.Add(1)
				_, _ = request.Fetch(f.open(t), func(context.Context) (string, error) {
					<-release
					runtime.Goexit()
					return "", nil
				}, user1)
				returned.Add(1)
			}()
		}
		synctest.Wait()
		close(release)
		synctest.Wait()
		if returned.Load() != 0 || ended.Load() != 2 {
			t.Errorf("%d returned, %d ended", returned.Load(), ended.Load())
		}
	})
}

// TestFillsInsideEachOther: two fills that ask for each other's values do not wait for each other.
func TestFillsInsideEachOther(t *testing.T) {
	for _, outside := range []bool{false, true} {
		t.Run(fmt.Sprintf("with the request's context %t", outside), func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fetcher) {
				release := make(chan struct{})
				results := make(chan string, 2)
				run := func(first, second tokens.ID) {
					ctx := f.open(t)
					v, err := request.Fetch(ctx, func(inner context.Context) (string, error) {
						<-release
						if outside {
							inner = ctx
						}
						return request.Fetch(inner, func(context.Context) (string, error) { return "leaf", nil }, second)
					}, first)
					results <- fmt.Sprint(v, err)
				}
				go run(user1, user2)
				go run(user2, user1)
				synctest.Wait()
				close(release)
				synctest.Wait()
				if len(results) != 2 {
					t.Fatal("they wait for each other")
				}
				for range 2 {
					if got := <-results; got != "leaf<nil>" {
						t.Errorf("got %q", got)
					}
				}
			})
		})
	}
}

// TestFillsInALoop is three of them, by way of goroutines that fills start.
func TestFillsInALoop(t *testing.T) {
	bubble(t, func(t *testing.T, f *fetcher) {
		release := make(chan struct{})
		ids := []tokens.ID{user1, user2, orders}
		var done atomic.Int32
		for i := range ids {
			go func() {
				_, err := request.Fetch(f.open(t), func(ctx context.Context) (string, error) {
					<-release
					var wg sync.WaitGroup
					for _, next := range []int{1, 2} {
						wg.Go(func() {
							_, _ = request.Fetch(ctx, func(context.Context) (string, error) { return "leaf", nil }, ids[(i+next)%3])
						})
					}
					wg.Wait()
					return "outer", nil
				}, ids[i])
				if err != nil {
					t.Error(err)
				}
				done.Add(1)
			}()
		}
		synctest.Wait()
		close(release)
		synctest.Wait()
		if done.Load() != 3 {
			t.Fatalf("%d of 3 are done", done.Load())
		}
	})
}

func TestCycle(t *testing.T) {
	for _, c := range []struct {
		name    string
		outside bool
		kits    int
	}{
		{"with the fill's context", false, 1},
		{"with the request's context", true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFetcher(t, request.Config{})
			for _, storable := range []bool{true, false} {
				ctx := f.open(t)
				if !storable {
					publish(t, f.store, user1, user2)
				}
				fills := 0
				var get func(ctx context.Context, ids ...tokens.ID) (string, error)
				get = func(asker context.Context, ids ...tokens.ID) (string, error) {
					return request.Fetch(asker, func(inner context.Context) (string, error) {
						if fills++; fills > 10 {
							t.Fatal("without an end")
						}
						if c.outside {
							inner = ctx
						}
						return get(inner, ids[1], ids[0])
					}, ids[0], "cycle")
				}
				v, err := get(ctx, user1, user2)
				if v != "" || !errors.Is(err, request.ErrCycle) || fills != 2 {
					t.Errorf("storable %t: %q, %v after %d fills", storable, v, err, fills)
				}
				if err != nil && (strings.Count(err.Error(), "users#1") != 2 || strings.Count(err.Error(), "users#2") != 1) {
					t.Errorf("the error does not tell the way: %v", err)
				}
				// Another type is another value.
				if _, err := request.Fetch(ctx, func(ctx context.Context) (int, error) {
					_, err := request.Fetch(ctx, func(context.Context) (string, error) { return "", nil }, user1, "types")
					return 1, err
				}, user1, "types"); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestAfterAFill: the context of a fill that has ended is no fill's.
func TestAfterAFill(t *testing.T) {
	f := newFetcher(t, request.Config{})
	var kept context.Context
	ctx := f.open(t)
	for i := range 2 {
		asker := ctx
		if i == 1 {
			asker = kept
			publish(t, f.store, user1)
			if err := txscope.Changed(ctx, user1); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := request.Fetch(asker, func(ctx context.Context) (int, error) { kept = ctx; return i, nil }, user1); err != nil {
			t.Error(err)
		}
	}
}

// leasing is a value store of two processes with leases that can be made to fail.
type leasing struct {
	cache.Store
	cache.Leaser
	asked atomic.Int32
	err   error
}

func (l *leasing) Lease(ctx context.Context, key string, ttl time.Duration) (func(), error) {
	l.asked.Add(1)
	if l.err != nil {
		return nil, l.err
	}
	return l.Leaser.Lease(ctx, key, ttl)
}

func TestLease(t *testing.T) {
	setUp := func(t *testing.T) (one, two context.Context, values *leasing, store *tokens.Store) {
		store = tokens.NewMemory()
		t.Cleanup(func() { store.Close() })
		m := cache.NewMemory(1 << 20)
		values = &leasing{Store: m, Leaser: m}
		warm(t, store, user1)
		kits := [2]*request.Kit{}
		for i := range kits {
			kits[i] = newKit(t, request.Config{Tokens: store, Values: values, Lease: time.Second})
		}
		return first(kits[0].Open(t.Context())), first(kits[1].Open(t.Context())), values, store
	}
	t.Run("the others wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			one, two, _, _ := setUp(t)
			release := make(chan struct{})
			a := ask(one, "one", release, user1)
			synctest.Wait()
			b := ask(two, "two", nil, user1)
			time.Sleep(500 * time.Millisecond)
			synctest.Wait()
			if b.done.Load() {
				t.Error("it does not wait")
			}
			close(release)
			time.Sleep(200 * time.Millisecond)
			synctest.Wait()
			a.is(t, "who has the lease", "one", true)
			b.is(t, "who waits", "one", false)
		})
	})
	t.Run("not for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			one, two, _, _ := setUp(t)
			release := make(chan struct{})
			a := ask(one, "one", release, user1)
			synctest.Wait()
			b := ask(two, "two", nil, user1)
			time.Sleep(1100 * time.Millisecond)
			synctest.Wait()
			b.is(t, "when the lease has run out", "two", true)
			close(release)
			synctest.Wait()
			a.is(t, "who had it", "one", true)
		})
	})
	t.Run("a fill that fails", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			one, two, _, _ := setUp(t)
			release := make(chan struct{})
			go func() {
				_, _ = request.Fetch(one, func(context.Context) (string, error) { <-release; return "", errPanic }, user1)
			}()
			synctest.Wait()
			b := ask(two, "two", nil, user1)
			time.Sleep(100 * time.Millisecond)
			close(release)
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			b.is(t, "who waited", "two", true)
		})
	})
	t.Run("a store that fails", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			one, _, values, _ := setUp(t)
			values.err = errors.New("no leases")
			a := ask(one, "one", nil, user1)
			synctest.Wait()
			a.is(t, "without a lease", "one", true)
		})
	})
	t.Run("by option", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			one, _, values, _ := setUp(t)
			a := ask(one, "one", nil, user1, request.Lease(0))
			synctest.Wait()
			a.is(t, "without", "one", true)
			if n := values.asked.Load(); n != 0 {
				t.Errorf("%d leases are asked for", n)
			}
		})
	})
}
