package tokens_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alkey-go/alkey/tokens"
)

var (
	users   = tokens.ID{Table: "users", Row: "*"}
	user1   = tokens.ID{Table: "users", Row: "1"}
	user2   = tokens.ID{Table: "users", Row: "2"}
	orders  = tokens.ID{Table: "orders", Row: "*"}
	order1  = tokens.ID{Table: "orders", Row: "1"}
	lease   = 30 * time.Second
	forever = time.Hour // longer than any outage here takes to be noticed as over
)

// read reads one argument that must be usable.
func read(t *testing.T, s *tokens.Store, id tokens.ID) tokens.Stamp {
	t.Helper()
	got, err := s.Read(t.Context(), []tokens.ID{id})
	if err != nil {
		t.Fatalf("Read(%s): %v", id, err)
	}
	if got[0].Fenced {
		t.Fatalf("%s is fenced", id)
	}
	return got[0].Stamp
}

// down reads while no token can be trusted.
func down(t *testing.T, s *tokens.Store, when string) {
	t.Helper()
	if got, err := s.Read(t.Context(), []tokens.ID{user1}); !errors.Is(err, tokens.ErrDown) {
		t.Fatalf("%s: Read gave %v, %v; want ErrDown", when, got, err)
	}
}

// TestArgumentsDependOnChanges is the table of what depends on what: which tokens change with each
// write.
func TestArgumentsDependOnChanges(t *testing.T) {
	arguments := []tokens.ID{user1, user2, users, order1, orders, tokens.Global}
	for change, want := range map[tokens.ID][]tokens.ID{
		user1:         {user1, users, tokens.Global},
		user2:         {user2, users, tokens.Global},
		users:         {user1, user2, users, tokens.Global},
		order1:        {order1, orders, tokens.Global},
		orders:        {order1, orders, tokens.Global},
		tokens.Global: arguments,
	} {
		t.Run(change.String(), func(t *testing.T) {
			s := tokens.NewMemory()
			defer s.Close()
			state := func() []tokens.Token {
				t.Helper()
				got, err := s.Read(t.Context(), arguments)
				if err != nil {
					t.Fatal(err)
				}
				return got
			}
			before := state()
			changes := tokens.NewChanges(change)
			if err := s.Fence(t.Context(), "w", changes, lease); err != nil {
				t.Fatal(err)
			}
			for i, token := range state() {
				if token.Fenced != slices.Contains(want, arguments[i]) {
					t.Errorf("fenced %s: %s has %+v", change, arguments[i], token)
				}
			}
			stamp, err := s.Publish(t.Context(), "w", changes)
			if err != nil {
				t.Fatal(err)
			}
			if s.Seen() < stamp {
				t.Errorf("published %d, seen %d", stamp, s.Seen())
			}
			for i, token := range state() {
				expect := before[i]
				if slices.Contains(want, arguments[i]) {
					expect.Stamp = stamp
				}
				if token != expect {
					t.Errorf("published %s: %s has %+v, want %+v", change, arguments[i], token, expect)
				}
			}
			before = state()
			if err := s.Fence(t.Context(), "w", changes, lease); err != nil {
				t.Fatal(err)
			}
			if err := s.Release(t.Context(), "w", changes); err != nil {
				t.Fatal(err)
			}
			if after := state(); !slices.Equal(after, before) {
				t.Errorf("released %s: %+v, before %+v", change, after, before)
			}
			// One by one and in any company, arguments have the same tokens.
			for i, id := range arguments {
				if got := read(t, s, id); got != before[i].Stamp {
					t.Errorf("%s alone has %d, want %d", id, got, before[i].Stamp)
				}
			}
			again, err := s.Read(t.Context(), []tokens.ID{order1, user1, order1, tokens.Global, user1, users})
			if err != nil {
				t.Fatal(err)
			}
			for i, at := range []int{3, 0, 3, 5, 0, 2} {
				if again[i] != before[at] {
					t.Errorf("in another order, %s has %+v, want %+v", arguments[at], again[i], before[at])
				}
			}
		})
	}
}

func TestStoreOfNoChanges(t *testing.T) {
	s, b, _ := outages(t)
	b.set(fails)
	none := new(tokens.Changes)
	if err := s.Fence(t.Context(), "w", none, lease); err != nil {
		t.Error(err)
	}
	if stamp, err := s.Publish(t.Context(), "w", none); err != nil || stamp != s.Seen() {
		t.Errorf("published %d, %v", stamp, err)
	}
	if err := errors.Join(s.Release(t.Context(), "w", none), s.Abandon(t.Context(), "w", none, lease)); err != nil {
		t.Error(err)
	}
	for _, op := range []string{"Fence", "Publish", "Release"} {
		if b.count(op) != 0 {
			t.Errorf("%s was sent with nothing to say", op)
		}
	}
}

func TestSeenNeverGoesBack(t *testing.T) {
	b := newFaulty()
	s, other := tokens.New(b), tokens.New(b)
	defer s.Close()
	defer other.Close()
	if s.Seen() != 0 {
		t.Errorf("a Store that has read nothing has seen %d", s.Seen())
	}
	stamp, err := tokens.Bump(t.Context(), other, user1)
	if err != nil {
		t.Fatal(err)
	}
	if s.Seen() != 0 {
		t.Errorf("seen %d without reading", s.Seen())
	}
	read(t, s, order1)
	if s.Seen() < stamp {
		t.Errorf("seen %d after a read, %d was published before it", s.Seen(), stamp)
	}
	last := s.Seen()
	read(t, s, order1)
	if s.Seen() < last {
		t.Errorf("seen went from %d to %d", last, s.Seen())
	}
}

// The first read waits for the limit, all others fail at once, without asking the backend.
func TestReadsOfAHangingBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, l := outages(t, tokens.WithReadTimeout(70*time.Millisecond))
		read(t, s, user1)
		b.set(hangs)
		start := time.Now()
		down(t, s, "the backend hangs")
		if waited := time.Since(start); waited != 70*time.Millisecond {
			t.Errorf("the first read waited %v", waited)
		}
		start = time.Now()
		asked := b.count("Read")
		for range 1000 {
			down(t, s, "the breaker is open")
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("reads behind the breaker waited %v", waited)
		}
		if n := b.count("Read"); n != asked {
			t.Errorf("reads behind the breaker asked the backend %d times", n-asked)
		}

		b.set(works)
		time.Sleep(10 * time.Second)
		read(t, s, user1)
		if l.count(slog.LevelWarn) != 1 || l.count(slog.LevelInfo) != 1 {
			t.Errorf("logged %v", l.levels)
		}
	})
}

func TestDefaultLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, _ := outages(t)
		b.set(hangs)
		start := time.Now()
		down(t, s, "the backend hangs")
		if waited := time.Since(start); waited != 250*time.Millisecond {
			t.Errorf("a read waited %v", waited)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s, b, _ := outages(t)
		b.set(hangs)
		start := time.Now()
		if err := s.Fence(t.Context(), "w", tokens.NewChanges(user1), lease); !errors.Is(err, tokens.ErrDown) {
			t.Errorf("Fence: %v", err)
		}
		if waited := time.Since(start); waited != 500*time.Millisecond {
			t.Errorf("a fence waited %v", waited)
		}
		// The rest of the commit does not wait again.
		start = time.Now()
		if _, err := s.Publish(t.Context(), "w", tokens.NewChanges(user1)); !errors.Is(err, tokens.ErrDown) {
			t.Errorf("Publish: %v", err)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("a publish behind the breaker waited %v", waited)
		}
	})
}

// The one who waits no longer is the caller: that says nothing about the backend.
func TestCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, l := outages(t)
		read(t, s, user1)
		b.set(hangs)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := s.Read(ctx, []tokens.ID{user1}); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, tokens.ErrDown) {
			t.Errorf("a read whose caller gave up: %v", err)
		}
		b.set(works)
		read(t, s, user1)
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		if _, err := s.Read(ctx, []tokens.ID{user1}); !errors.Is(err, context.Canceled) || errors.Is(err, tokens.ErrDown) {
			t.Errorf("a read whose caller had given up before: %v", err)
		}
		read(t, s, user1)
		if n := l.count(slog.LevelWarn); n != 0 {
			t.Errorf("%d warnings", n)
		}
	})
}

// A client that goes away does not take its commit's fence and publish with it.
func TestWritesOutliveTheirCaller(t *testing.T) {
	s, _, _ := outages(t)
	before := read(t, s, user1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	changes := tokens.NewChanges(user1)
	if err := s.Fence(ctx, "w", changes, lease); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Read(t.Context(), []tokens.ID{user1}); err != nil || !got[0].Fenced {
		t.Fatalf("after the fence: %+v, %v", got, err)
	}
	if _, err := s.Publish(ctx, "w", changes); err != nil {
		t.Fatal(err)
	}
	if got := read(t, s, user1); got <= before {
		t.Errorf("stamp %d after a publish, %d before", got, before)
	}
	if err := errors.Join(s.Fence(ctx, "v", changes, lease), s.Release(ctx, "v", changes)); err != nil {
		t.Fatal(err)
	}
	read(t, s, user1)
}

// A commit that could not be fenced keeps tokens from being trusted until it has ended, also when
// the backend is back long before that.
func TestCommitWithoutFence(t *testing.T) {
	changes := tokens.NewChanges(user1)
	ends := map[string]struct {
		end     func(*testing.T, *tokens.Store)
		changed bool
	}{
		"publish": {func(t *testing.T, s *tokens.Store) {
			if _, err := s.Publish(t.Context(), "w", changes); err != nil {
				t.Error(err)
			}
		}, true},
		"release": {func(t *testing.T, s *tokens.Store) {
			if err := s.Release(t.Context(), "w", changes); err != nil {
				t.Error(err)
			}
		}, false},
		"abandon": {func(t *testing.T, s *tokens.Store) {
			if err := s.Abandon(t.Context(), "w", changes, lease); err != nil {
				t.Error(err)
			}
			if got, err := s.Read(t.Context(), []tokens.ID{user1}); err != nil || !got[0].Fenced {
				t.Errorf("after Abandon: %+v, %v", got, err)
			}
			time.Sleep(lease + time.Second)
		}, true},
	}
	for _, f := range []fault{fails, hangs, loses, lates} {
		for name, test := range ends {
			t.Run(fmt.Sprint(name, " after fault ", f), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s, b, _ := outages(t)
					before := read(t, s, user1)
					b.set(f)
					if err := s.Fence(t.Context(), "w", changes, lease); !errors.Is(err, tokens.ErrDown) {
						t.Fatalf("Fence: %v", err)
					}
					b.set(works)
					time.Sleep(forever) // the breaker has closed
					down(t, s, "a commit without a fence is under way")
					test.end(t, s)
					if got := read(t, s, user1); f != lates && f != loses && test.changed != (got != before) || got < before {
						t.Errorf("stamp %d became %d", before, got)
					}
				})
			})
		}
	}
}

// What was committed during an outage is published before any token is trusted again.
func TestChangesWaitForTheBackend(t *testing.T) {
	for _, f := range []fault{fails, hangs, loses, lates} {
		for _, fenced := range []bool{true, false} {
			t.Run(fmt.Sprint("fault ", f, " fenced ", fenced), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s, b, l := outages(t)
					before := make(map[tokens.ID]tokens.Stamp)
					for _, id := range []tokens.ID{user1, user2, order1} {
						before[id] = read(t, s, id)
					}
					if !fenced {
						b.set(f)
					}
					for i, id := range []tokens.ID{user1, order1} {
						owner, changes := tokens.Owner(fmt.Sprint("w", i)), tokens.NewChanges(id)
						if err := s.Fence(t.Context(), owner, changes, lease); (err == nil) != (fenced && i == 0) {
							t.Errorf("Fence: %v", err)
						}
						b.set(f)
						if _, err := s.Publish(t.Context(), owner, changes); !errors.Is(err, tokens.ErrDown) {
							t.Errorf("Publish: %v", err)
						}
					}
					for range 200 {
						down(t, s, "changes wait")
						time.Sleep(17 * time.Millisecond)
					}
					b.set(works)
					for start := time.Now(); ; time.Sleep(time.Millisecond) {
						got, err := s.Read(t.Context(), []tokens.ID{user1, order1, user2})
						if err == nil {
							if got[0].Stamp <= before[user1] || got[1].Stamp <= before[order1] {
								t.Errorf("trusted before it was published: %+v, before %v", got, before)
							}
							if got[2].Stamp != before[user2] {
								t.Errorf("the token of %s changed too", user2)
							}
							break
						}
						if time.Since(start) > 2*time.Second {
							t.Fatalf("not back after %v: %v", time.Since(start), err)
						}
					}
					time.Sleep(2 * time.Second) // by then it is over for good
					if l.count(slog.LevelWarn) != 1 || l.count(slog.LevelInfo) != 1 {
						t.Errorf("logged %v", l.levels)
					}
				})
			})
		}
	}
}

// The outcome of a transaction that was abandoned during an outage is still open when the backend
// comes back: it is fenced again, and what it may have changed gets new stamps after the lease.
func TestAbandonDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, _ := outages(t)
		before := read(t, s, user1)
		changes := tokens.NewChanges(user1)
		if err := s.Fence(t.Context(), "w", changes, lease); err != nil {
			t.Fatal(err)
		}
		b.set(fails)
		if err := s.Abandon(t.Context(), "w", changes, lease); !errors.Is(err, tokens.ErrDown) {
			t.Errorf("Abandon: %v", err)
		}
		down(t, s, "nobody knows how the transaction ended")
		b.set(works)
		time.Sleep(2 * time.Second)
		if got, err := s.Read(t.Context(), []tokens.ID{user1}); err != nil || !got[0].Fenced {
			t.Errorf("usable while the database may still commit: %+v, %v", got, err)
		}
		time.Sleep(lease)
		if got := read(t, s, user1); got <= before {
			t.Errorf("stamp %d after the lease, %d before", got, before)
		}
	})
}

// What waits is bounded: past the bound it is one change of everything.
func TestWaitingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, _ := outages(t, tokens.WithMaxWaiting(30))
		ids := []tokens.ID{user1, users, order1, orders, tokens.Global}
		before := make([]tokens.Stamp, len(ids))
		for i, id := range ids {
			before[i] = read(t, s, id)
		}
		b.set(fails)
		for i := range 100 {
			changes := tokens.NewChanges(tokens.ID{Table: "users", Row: fmt.Sprint(i)})
			if _, err := s.Publish(t.Context(), tokens.Owner(fmt.Sprint(i)), changes); !errors.Is(err, tokens.ErrDown) {
				t.Fatal(err)
			}
		}
		asked := b.count("Publish")
		b.set(works)
		time.Sleep(10 * time.Second)
		if n := b.count("Publish") - asked; n > 12 {
			t.Errorf("%d publishes made up for the outage", n)
		}
		for i, id := range ids {
			if got := read(t, s, id); got <= before[i] {
				t.Errorf("%s has stamp %d, %d before the outage", id, got, before[i])
			}
		}
	})
}

// One transaction can be larger than the bound.
func TestWaitingOfOneLargeChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, _ := outages(t, tokens.WithMaxWaiting(30))
		before := read(t, s, order1)
		b.set(fails)
		changes := new(tokens.Changes)
		for i := range 100 {
			changes.Add(tokens.ID{Table: "users", Row: fmt.Sprint(i)})
		}
		if _, err := s.Publish(t.Context(), "w", changes); !errors.Is(err, tokens.ErrDown) {
			t.Fatal(err)
		}
		b.set(works)
		time.Sleep(10 * time.Second)
		if got := read(t, s, order1); got <= before {
			t.Error("a change of everything did not change everything")
		}
		if got := b.published(); !slices.Contains(got, tokens.Global) || len(got) > 2 {
			t.Errorf("published %v", got)
		}
	})
}

// The caller may go on to use what it has published.
func TestWaitingChangesAreACopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, _ := outages(t)
		b.set(fails)
		changes := tokens.NewChanges(user1)
		if _, err := s.Publish(t.Context(), "w", changes); !errors.Is(err, tokens.ErrDown) {
			t.Fatal(err)
		}
		changes.Add(order1)
		b.set(works)
		time.Sleep(10 * time.Second)
		if got := b.published(); !slices.Contains(got, user1) || slices.Contains(got, order1) {
			t.Errorf("published %v", got)
		}
	})
}

func TestCloseFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, l := outages(t)
		read(t, s, user1)
		b.set(fails)
		if _, err := s.Publish(t.Context(), "w", tokens.NewChanges(user1)); !errors.Is(err, tokens.ErrDown) {
			t.Fatal(err)
		}
		b.set(works)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if got := b.published(); !slices.Contains(got, user1) {
			t.Errorf("published %v", got)
		}
		if n := l.count(slog.LevelError); n != 0 {
			t.Errorf("%d errors logged", n)
		}
		asked := b.count("Publish")
		if err := s.Close(); err != nil || b.count("Publish") != asked {
			t.Errorf("closed again: %v", err)
		}
		closedStore(t, s)
	})
}

func TestCloseDuringAnOutage(t *testing.T) {
	for _, f := range []fault{fails, hangs} {
		synctest.Test(t, func(t *testing.T) {
			s, b, l := outages(t)
			b.set(f)
			for i := range 50 {
				if _, err := s.Publish(t.Context(), tokens.Owner(fmt.Sprint(i)), tokens.NewChanges(user1)); !errors.Is(err, tokens.ErrDown) {
					t.Fatal(err)
				}
			}
			start := time.Now()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if waited := time.Since(start); waited > time.Second {
				t.Errorf("Close waited %v", waited)
			}
			if n := l.count(slog.LevelError); n != 1 {
				t.Errorf("%d errors say that changes were lost", n)
			}
		})
	}
}

// TestCloseIsBounded: a backend that is slow does not hold a program up for as long as it has to do.
func TestCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, l := outages(t)
		b.set(fails)
		for i := range 50 {
			if _, err := s.Publish(t.Context(), tokens.Owner(fmt.Sprint(i)), tokens.NewChanges(user1)); !errors.Is(err, tokens.ErrDown) {
				t.Fatal(err)
			}
		}
		b.set(drags)
		start := time.Now()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if waited := time.Since(start); waited > 6*time.Second {
			t.Errorf("Close waited %v", waited)
		}
		if n := l.count(slog.LevelError); n != 1 {
			t.Errorf("%d errors say that changes were lost", n)
		}
	})
}

func closedStore(t *testing.T, s *tokens.Store) {
	t.Helper()
	changes := tokens.NewChanges(user1)
	for name, op := range map[string]func() error{
		"Read":    func() error { _, err := s.Read(t.Context(), []tokens.ID{user1}); return err },
		"Fence":   func() error { return s.Fence(t.Context(), "w", changes, lease) },
		"Publish": func() error { _, err := s.Publish(t.Context(), "w", changes); return err },
		"Release": func() error { return s.Release(t.Context(), "w", changes) },
		"Abandon": func() error { return s.Abandon(t.Context(), "w", changes, lease) },
		"Bump":    func() error { _, err := tokens.Bump(t.Context(), s, user1); return err },
		"Get":     func() error { _, err := tokens.Get(t.Context(), s, user1); return err },
	} {
		if err := op(); !errors.Is(err, tokens.ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
}

func TestClosedStore(t *testing.T) {
	s := tokens.NewMemory()
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	closedStore(t, s)

	// The backend was closed under the Store.
	b := newFaulty()
	s = tokens.New(b)
	_ = b.Close()
	if _, err := s.Read(t.Context(), []tokens.ID{user1}); !errors.Is(err, tokens.ErrClosed) {
		t.Errorf("Read: %v", err)
	}
	if _, err := tokens.Bump(t.Context(), s, user1); !errors.Is(err, tokens.ErrClosed) {
		t.Errorf("Bump: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestBump(t *testing.T) {
	s, b, _ := outages(t)
	before := read(t, s, user1)
	other := read(t, s, user2)
	stamp, err := tokens.Bump(t.Context(), s, user1, "alkey:orders#*")
	if err != nil || stamp <= before {
		t.Fatalf("Bump gave %d, %v; the stamp was %d", stamp, err, before)
	}
	if got, err := tokens.Get(t.Context(), s, "alkey:users#1"); err != nil || got != stamp {
		t.Errorf("Get gave %d, %v; bumped to %d", got, err, stamp)
	}
	if got := read(t, s, user2); got != other {
		t.Errorf("bumping row 1 made %d of row 2's %d", got, other)
	}
	asked := b.count("Publish")
	for _, args := range [][]any{{"text"}, {nil}, {user1, "alkey:users"}, {tokens.Text("alkey:users#1")}, {tokens.ID{}}, {func() {}}} {
		if _, err := tokens.Bump(t.Context(), s, args...); err == nil {
			t.Errorf("Bump(%v) is no error", args)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tokens.Bump(ctx, s, user1); !errors.Is(err, context.Canceled) {
		t.Errorf("Bump with a cancelled context: %v", err)
	}
	if b.count("Publish") != asked {
		t.Error("a Bump that is an error changed something")
	}
	if got, err := tokens.Bump(t.Context(), s); err != nil || got != s.Seen() {
		t.Errorf("Bump of nothing: %d, %v", got, err)
	}
}

func TestBumpDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, _ := outages(t)
		before := read(t, s, user1)
		b.set(fails)
		if _, err := tokens.Bump(t.Context(), s, user1); !errors.Is(err, tokens.ErrDown) || !errors.Is(err, errFault) {
			t.Errorf("Bump: %v", err)
		}
		b.set(works)
		time.Sleep(10 * time.Second)
		if got := read(t, s, user1); got <= before {
			t.Errorf("stamp %d after the outage, %d before", got, before)
		}
	})
}

func TestGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, _ := outages(t)
		if got, err := tokens.Get(t.Context(), s, user1); err != nil || got != read(t, s, user1) {
			t.Errorf("Get: %d, %v", got, err)
		}
		if err := s.Fence(t.Context(), "w", tokens.NewChanges(user1), lease); err != nil {
			t.Fatal(err)
		}
		if _, err := tokens.Get(t.Context(), s, user1); !errors.Is(err, tokens.ErrFenced) {
			t.Errorf("Get of a fenced row: %v", err)
		}
		for _, arg := range []any{nil, "text", "alkey:users", 7, tokens.ID{}, tokens.Text("alkey:users#1")} {
			if _, err := tokens.Get(t.Context(), s, arg); err == nil {
				t.Errorf("Get(%v) is no error", arg)
			}
		}
		b.set(fails)
		if _, err := tokens.Get(t.Context(), s, user1); !errors.Is(err, tokens.ErrDown) {
			t.Errorf("Get during an outage: %v", err)
		}
	})
}

func TestDatabases(t *testing.T) {
	s := tokens.NewMemory()
	defer s.Close()
	if !s.InProcess() || s.Databases() != 0 {
		t.Errorf("a new store: in process %t, %d databases", s.InProcess(), s.Databases())
	}
	s.AddDatabase()
	if s.Databases() != 1 {
		t.Errorf("%d databases", s.Databases())
	}
	other := tokens.New(newFaulty())
	defer other.Close()
	if other.InProcess() {
		t.Error("a Store over some backend says that it is in process")
	}
}

// TestNoStaleHitWhateverFails runs writers and readers of one process on a backend that fails in all
// ways, at any time. Commits go through; no reader may find a value that is older than what had
// been committed when it began to read the value's token.
func TestNoStaleHitWhateverFails(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chaos(t, seed) })
		})
	}
}

func chaos(t *testing.T, seed uint64) {
	s, b, _ := outages(t, tokens.WithMaxWaiting(50))
	var (
		committed [2]atomic.Int64
		locks     [2]chan struct{} // of the rows; a bubble's time stands still before a mutex
		values    sync.Map         // from stamp to [2]int64
		done      atomic.Bool
		group     sync.WaitGroup
		hits      atomic.Int64
		outage    atomic.Int64
	)
	for i := range locks {
		locks[i] = make(chan struct{}, 1)
	}
	load := func() (db [2]int64) {
		for i := range db {
			db[i] = committed[i].Load()
		}
		return db
	}
	pause := func(r *rand.Rand, most time.Duration) { time.Sleep(time.Duration(r.Int64N(int64(most)))) }
	for i := range 4 {
		group.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			row := i % 2
			changes := tokens.NewChanges(tokens.ID{Table: "users", Row: fmt.Sprint(row + 1)})
			for n := 0; !done.Load(); n++ {
				pause(r, 400*time.Millisecond)
				owner := tokens.Owner(fmt.Sprint(i, ".", n))
				locks[row] <- struct{}{}
				if err := s.Fence(t.Context(), owner, changes, lease); err != nil {
					outage.Add(1)
				}
				pause(r, 5*time.Millisecond)
				switch r.IntN(10) {
				case 0:
					<-locks[row]
					_ = s.Release(t.Context(), owner, changes) // the fence runs out
				case 1: // the connection is lost, and the database commits later
					_ = s.Abandon(t.Context(), owner, changes, lease)
					pause(r, 5*time.Second)
					committed[row].Add(1)
					<-locks[row]
				default:
					committed[row].Add(1)
					<-locks[row]
					pause(r, 5*time.Millisecond)
					_, _ = s.Publish(t.Context(), owner, changes) // the Store sees to it
				}
			}
		})
	}
	for i := range 3 {
		group.Go(func() {
			r := rand.New(rand.NewPCG(seed, 100+uint64(i)))
			for !done.Load() {
				watermark := s.Seen()
				early := load()
				pause(r, 20*time.Millisecond)
				current := load()
				got, err := s.Read(t.Context(), []tokens.ID{users})
				if err != nil || got[0].Fenced {
					continue
				}
				if hit, ok := values.Load(got[0].Stamp); ok {
					hits.Add(1)
					for j, n := range hit.([2]int64) {
						if n < current[j] {
							t.Errorf("a value of %v was found under stamp %d, and %v had been committed", hit, got[0].Stamp, current)
							done.Store(true)
						}
					}
				} else if got[0].Stamp <= watermark {
					values.Store(got[0].Stamp, early)
				}
			}
		})
	}
	r := rand.New(rand.NewPCG(seed, 1000))
	for start := time.Now(); time.Since(start) < 6*time.Minute && !done.Load(); {
		b.set(works)
		pause(r, 90*time.Second)
		f := fault(1 + r.IntN(int(lates)))
		if r.IntN(2) == 0 {
			b.setWrites(f)
		} else {
			b.set(f)
		}
		pause(r, 5*time.Second)
	}
	done.Store(true)
	b.set(works)
	group.Wait()
	if hits.Load() == 0 || outage.Load() == 0 {
		t.Errorf("%d hits, %d commits without a fence: nothing was tested", hits.Load(), outage.Load())
	}
}

// A server that answers reads and takes no writes, because it is full or has become a replica, is
// down until it takes writes again. It is logged once.
func TestWritesRefusedWhileReadsWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, l := outages(t)
		before := read(t, s, user1)
		b.setWrites(fails)
		changes := tokens.NewChanges(user1)
		for i := range 5 {
			owner := tokens.Owner(fmt.Sprint("w", i))
			if err := s.Fence(t.Context(), owner, changes, lease); !errors.Is(err, tokens.ErrDown) {
				t.Fatalf("Fence: %v", err)
			}
			if err := s.Release(t.Context(), owner, changes); !errors.Is(err, tokens.ErrDown) {
				t.Fatalf("Release: %v", err)
			}
			time.Sleep(forever)
			down(t, s, "no write is taken")
		}
		if n := l.count(slog.LevelWarn); n != 1 {
			t.Errorf("logged %d times", n)
		}
		// Probes that are executed and do not hear of it leave no more than one fence, and the probe
		// that succeeds leaves none.
		b.setWrites(loses)
		time.Sleep(forever)
		down(t, s, "no write is confirmed")
		b.setWrites(works)
		time.Sleep(forever)
		if got := read(t, s, user1); got != before {
			t.Errorf("stamp %d became %d without a commit", before, got)
		}
		if n := b.Memory.Fences(tokens.ID{Table: "alkey", Row: "probe"}); n != 0 {
			t.Errorf("the probes have left %d fences", n)
		}
	})
}

// A publish that is under way when the Store is closed, and fails then, is not said to be kept.
func TestPublishFailsAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b, l := outages(t, tokens.WithWriteTimeout(time.Minute))
		b.setWrites(hangs)
		done := make(chan error)
		go func() {
			_, err := s.Publish(t.Context(), "w", tokens.NewChanges(user1))
			done <- err
		}()
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, tokens.ErrClosed) {
			t.Errorf("Publish: %v", err)
		}
		if n := l.count(slog.LevelWarn); n > 1 {
			t.Errorf("%d warnings logged", n)
		}
		if !s.Closed() {
			t.Error("the Store does not know that it is closed")
		}
	})
}
