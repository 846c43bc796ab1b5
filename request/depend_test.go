package request_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// TestRecords: a value depends on all that was asked for while it was made, however that was done.
func TestRecords(t *testing.T) {
	scope := func(ctx context.Context) *request.Scope {
		s, _ := request.FromContext(ctx)
		return s
	}
	for _, c := range []struct {
		name string
		ask  func(t *testing.T, inner, outer context.Context)
	}{
		{"a key", func(t *testing.T, inner, _ context.Context) { key(t, inner, orders) }},
		{"a key of several", func(t *testing.T, inner, _ context.Context) { key(t, inner, user2, "x", orders) }},
		{"with the request's context", func(t *testing.T, _, outer context.Context) { key(t, outer, orders) }},
		{"prefetched", func(t *testing.T, inner, _ context.Context) {
			if err := scope(inner).Prefetch(inner, orders); err != nil {
				t.Error(err)
			}
		}},
		{"a value that is made", func(t *testing.T, inner, _ context.Context) { fetch(t, inner, 1, orders, t.Name()) }},
		{"a value that is found", func(t *testing.T, inner, _ context.Context) {
			fetch(t, inner, 1, orders, "found")
			if _, made := fetch(t, inner, 1, orders, "found"); made {
				t.Error("it is not found")
			}
		}},
		{"what a found value depends on", func(t *testing.T, inner, outer context.Context) {
			deep(t, inner)
		}},
		{"by a goroutine", func(t *testing.T, inner, _ context.Context) {
			var wg sync.WaitGroup
			wg.Go(func() { fetch(t, inner, 1, orders, "goroutine") })
			wg.Wait()
		}},
		{"two fills deep", func(t *testing.T, inner, outer context.Context) {
			_, err := request.Fetch(inner, func(context.Context) (int, error) {
				key(t, outer, orders)
				return 1, nil
			}, user2, "two deep")
			if err != nil {
				t.Error(err)
			}
		}},
		{"many", func(t *testing.T, inner, _ context.Context) {
			_, err := request.FetchMany(inner, []int{1}, func(int) []any { return []any{orders, "many"} },
				func(context.Context, []int) (map[int]int, error) { return nil, nil })
			if err != nil {
				t.Error(err)
			}
		}},
		{"a part of a part", func(t *testing.T, inner, _ context.Context) {
			leaf := &request.Part{Args: []any{orders, "leaf"}, Fill: func(context.Context) ([]request.Piece, error) { return nil, nil }}
			whole := &request.Part{Args: []any{user2, "whole"}, Fill: func(context.Context) ([]request.Piece, error) { return []request.Piece{{Part: leaf}}, nil }}
			if err := request.Resolve(inner, whole); err != nil {
				t.Error(err)
			}
		}},
		{"through a scope of another Kit", func(t *testing.T, inner, _ context.Context) {
			other := newKit(t, request.Config{Tokens: scope(inner).Kit().Config().Tokens})
			key(t, first(other.Open(inner)), orders)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFetcher(t, request.Config{})
			// A value that names orders, and whose key does not.
			if !deep(t, f.open(t)) || deep(t, f.open(t)) {
				t.Fatal("it is not made, or not found")
			}
			get := func() (made bool) {
				ctx := f.open(t)
				v, err := request.Fetch(ctx, func(inner context.Context) (string, error) {
					made = true
					c.ask(t, inner, ctx)
					return "value", nil
				}, user1, "outer")
				if v != "value" || err != nil {
					t.Errorf("%q, %v", v, err)
				}
				return made
			}
			if !get() {
				t.Fatal("found before it was made")
			}
			if e := f.last(); !e.Stored || e.Dependencies < 2 {
				t.Errorf("made: %+v", e)
			}
			if get() {
				t.Error("not found")
			}
			if e := f.last(); !e.Hit || e.Dependencies < 2 {
				t.Errorf("found: %+v", e)
			}
			publish(t, f.store, tokens.Row("others", 1))
			if get() {
				t.Error("not found after a change of something else")
			}
			publish(t, f.store, tokens.Row("orders", 1))
			warm(t, f.store, orders)
			if !get() {
				t.Error("found after a change of what was asked for")
			}
			if get() {
				t.Error("the new value is not found")
			}
		})
	}
}

// deep asks for a value that depends on orders, as its key does not say.
func deep(t *testing.T, ctx context.Context) (made bool) {
	t.Helper()
	_, err := request.Fetch(ctx, func(ctx context.Context) (int, error) {
		made = true
		key(t, ctx, orders)
		return 1, nil
	}, user2, "deep")
	if err != nil {
		t.Error(err)
	}
	return made
}

// TestDoesNotRecord: what is asked for when no fill is open is nobody's, and what a value depends on is
// not the business of what was made before it.
func TestDoesNotRecord(t *testing.T) {
	f := newFetcher(t, request.Config{})
	ctx := f.open(t)
	key(t, ctx, orders)
	fetch(t, ctx, 1, user1)
	key(t, ctx, orders)
	fetch(t, ctx, 1, user2)
	publish(t, f.store, orders, user2)
	if _, made := fetch(t, f.open(t), 2, user1); made {
		t.Error("a value depends on what was asked for beside it")
	}
}

// TestRecordsWhatIsNotStorable: a value with a part that must not be stored is not stored, whether its
// own key is storable or not.
func TestRecordsWhatIsNotStorable(t *testing.T) {
	for _, c := range []struct {
		name string
		why  request.Reason
		ask  func(t *testing.T, f *fetcher, b *backend, ctx context.Context)
	}{
		{"younger", request.Younger, func(t *testing.T, f *fetcher, _ *backend, ctx context.Context) {
			publish(t, f.store, orders)
			key(t, ctx, orders)
		}},
		{"fenced", request.Fenced, func(t *testing.T, f *fetcher, _ *backend, ctx context.Context) {
			owner := tokens.NewOwner()
			if err := f.store.Fence(t.Context(), owner, tokens.NewChanges(orders), time.Hour); err != nil {
				t.Error(err)
			}
			key(t, ctx, orders)
			if err := f.store.Release(t.Context(), owner, tokens.NewChanges(orders)); err != nil {
				t.Error(err)
			}
		}},
		{"own write", request.OwnWrite, func(t *testing.T, f *fetcher, _ *backend, ctx context.Context) {
			w := f.store.Ledger().Begin()
			w.Add(orders)
			key(t, ctx, orders)
			w.End(tokens.Committed)
		}},
		{"rolled back afterwards", request.OwnWrite, func(t *testing.T, f *fetcher, _ *backend, ctx context.Context) {
			key(t, ctx, orders)
			w := f.store.Ledger().Begin()
			w.Add(orders)
			w.End(tokens.RolledBack)
		}},
		{"committed afterwards", request.Younger, func(t *testing.T, f *fetcher, _ *backend, ctx context.Context) {
			key(t, ctx, orders)
			if err := txscope.Changed(ctx, orders); err != nil {
				t.Error(err)
			}
		}},
		{"unstable", request.Unstable, func(t *testing.T, f *fetcher, _ *backend, ctx context.Context) {
			s, _ := request.FromContext(ctx)
			if _, err := s.Key(ctx, func() {}); err == nil {
				t.Error("a function is a key")
			}
		}},
		{"store down", request.StoreDown, func(t *testing.T, f *fetcher, b *backend, ctx context.Context) {
			b.down.Store(true)
			key(t, ctx, tokens.Row("not", "read"))
			b.down.Store(false)
		}},
		{"of another store", request.Unstable, func(t *testing.T, f *fetcher, _ *backend, ctx context.Context) {
			store, _ := newStore(t)
			key(t, first(newKit(t, request.Config{Tokens: store}).Open(ctx)), orders)
		}},
		{"too many", request.TooMany, func(t *testing.T, f *fetcher, _ *backend, ctx context.Context) {
			list := make([]any, 10_001)
			for i := range list {
				list[i] = tokens.Row("users", i+10)
			}
			warm(t, f.store, tokens.Row("users", 10)) // the rest is younger, which counts less
			s, _ := request.FromContext(ctx)
			if err := s.Prefetch(ctx, list...); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			store, b := newStore(t)
			values := newValues()
			f := newFetcher(t, request.Config{Tokens: store, Values: values})
			v, err := request.Fetch(f.open(t), func(ctx context.Context) (string, error) {
				c.ask(t, f, b, ctx)
				return "value", nil
			}, user1)
			if v != "value" || err != nil {
				t.Errorf("%q, %v", v, err)
			}
			if e := f.last(); e.Stored || e.Reason != c.why {
				t.Errorf("%+v, want %s", e, c.why)
			}
			if values.len() != 0 {
				t.Error("it is stored")
			}
		})
	}
}

// TestManyIdentifiers: up to the bound all is as with few.
func TestManyIdentifiers(t *testing.T) {
	f := newFetcher(t, request.Config{})
	ids := make([]tokens.ID, 9_999)
	for i := range ids {
		ids[i] = tokens.Row("items", fmt.Sprintf("%d,%x", i, i))
	}
	warm(t, f.store, ids...)
	get := func(ctx context.Context) {
		_, err := request.Fetch(ctx, func(ctx context.Context) (int, error) { key(t, ctx, ids); return 1, nil }, user1)
		if err != nil {
			t.Error(err)
		}
	}
	get(f.open(t))
	if e := f.last(); !e.Stored || e.Dependencies != 10_000 {
		t.Fatalf("%+v", e)
	}
	get(f.open(t))
	if e := f.last(); !e.Hit || e.Dependencies != 10_000 {
		t.Errorf("%+v", e)
	}
	publish(t, f.store, ids[5000])
	get(f.open(t))
	if f.last().Hit {
		t.Error("a hit after a change of one of them")
	}
}

// TestHitIsJudgedWithAll: an open transaction that has changed what a value was found to depend on.
func TestHitIsJudgedWithAll(t *testing.T) {
	f := newFetcher(t, request.Config{})
	get := func(value string) string {
		v, err := request.Fetch(f.open(t), func(ctx context.Context) (string, error) { key(t, ctx, orders); return value, nil }, user1)
		if err != nil {
			t.Error(err)
		}
		return v
	}
	get("old")
	w := f.store.Ledger().Begin()
	w.Add(orders)
	if v := get("dirty"); v != "dirty" {
		t.Errorf("%q is served to a transaction that has changed what it depends on", v)
	}
	w.End(tokens.RolledBack)
	if v := get("?"); v != "old" {
		t.Errorf("%q after it was rolled back", v)
	}
	owner := tokens.NewOwner()
	if err := f.store.Fence(t.Context(), owner, tokens.NewChanges(orders), time.Hour); err != nil {
		t.Fatal(err)
	}
	if v := get("fenced"); v != "fenced" {
		t.Errorf("%q is served while what it depends on is fenced", v)
	}
}

// TestRoundTrips counts what is asked of the stores: what only a value names costs a process one round
// trip more, once.
func TestRoundTrips(t *testing.T) {
	store, b := newStore(t)
	values := &counted{values: newValues()}
	config := request.Config{Tokens: store, Values: values}
	f := newFetcher(t, config)
	get := func(ctx context.Context) bool {
		made := false
		_, err := request.Fetch(ctx, func(ctx context.Context) (string, error) {
			made = true
			fetch(t, ctx, "inner", user2)
			key(t, ctx, orders)
			return "value", nil
		}, user1)
		if err != nil {
			t.Error(err)
		}
		return made
	}
	if !get(f.open(t)) {
		t.Fatal("found")
	}
	count := func(what string, ctx context.Context, reads, gets int64) {
		t.Helper()
		b.reads.Store(0)
		values.gets.Store(0)
		if get(ctx) {
			t.Errorf("%s: made", what)
		}
		if b.reads.Load() != reads || values.gets.Load() != gets {
			t.Errorf("%s: %d reads of tokens and %d of values, want %d and %d", what, b.reads.Load(), values.gets.Load(), reads, gets)
		}
	}
	count("the process that made it", f.open(t), 1, 1)
	fresh := newKit(t, config)
	count("a process that does not know it", first(fresh.Open(t.Context())), 2, 1)
	ctx := first(fresh.Open(t.Context()))
	count("the same again", ctx, 1, 1)
	count("in one request", ctx, 0, 1)
}

type counted struct {
	*values
	gets atomic.Int64
}

func (c *counted) Get(ctx context.Context, keys []string) ([][]byte, error) {
	c.gets.Add(1)
	return c.values.Get(ctx, keys)
}

// TestOldFormat: what an older release has stored is not there.
func TestOldFormat(t *testing.T) {
	values := newValues()
	f := newFetcher(t, request.Config{Values: values})
	fetch(t, f.open(t), "value", user1)
	for name, v := range values.m {
		old := append([]byte("akv1"), v[4:]...)
		values.m[name] = old
	}
	if v, made := fetch(t, f.open(t), "new", user1); v != "new" || !made {
		t.Errorf("%q", v)
	}
}

// TestNotFoundIsAValue: and an insert of the row changes its key.
func TestNotFoundIsAValue(t *testing.T) {
	f := newFetcher(t, request.Config{})
	get := func(row *profile) *profile {
		v, err := request.Fetch(f.open(t), func(context.Context) (*profile, error) { return row, nil }, tokens.Row("users", 7))
		if err != nil {
			t.Error(err)
		}
		return v
	}
	warm(t, f.store, tokens.Row("users", 7))
	get(nil)
	if v := get(&profile{Name: "?"}); v != nil {
		t.Errorf("%+v, though it is known that there is none", v)
	}
	publish(t, f.store, tokens.Row("users", 7))
	if v := get(&profile{Name: "Ann"}); v == nil || v.Name != "Ann" {
		t.Errorf("%+v after the insert", v)
	}
}

// upper is a codec that writes in capital letters.
type upper struct{ request.JSON }

func (upper) Marshal(v any) ([]byte, error) {
	b, err := request.JSON{}.Marshal(v)
	return []byte(strings.ToUpper(string(b))), err
}

func TestOptions(t *testing.T) {
	values := newValues()
	f := newFetcher(t, request.Config{Values: values, ValueTTL: time.Hour})
	get := func(v any, args ...any) any {
		got, err := request.Fetch(f.open(t), func(context.Context) (any, error) { return v, nil }, args...)
		if err != nil {
			t.Error(err)
		}
		return got
	}
	for _, c := range []struct {
		name string
		args []any
		ttl  time.Duration
	}{
		{"none", []any{user1, "none"}, time.Hour},
		{"a ttl", []any{user1, request.TTL(time.Minute), "ttl"}, time.Minute},
		{"the last of two", []any{request.TTL(time.Minute), user1, "two", request.TTL(time.Second)}, time.Second},
		{"no limit", []any{user1, "unlimited", request.TTL(0)}, 0},
		{"nil", []any{user1, "nil", request.Option(nil), request.EncodeWith(nil)}, time.Hour},
	} {
		get("value", c.args...)
		if values.ttl != c.ttl {
			t.Errorf("%s: stored for %v", c.name, values.ttl)
		}
	}
	// They are no part of the key.
	if v := get("?", user1, "ttl"); v != "value" {
		t.Errorf("without its option it is %v", v)
	}
	if n := values.len(); n != 5 {
		t.Errorf("%d entries", n)
	}
	// A codec is part of the version: what another wrote is not read.
	get("small", user2, request.EncodeWith(upper{}))
	if v := get("?", user2, request.EncodeWith(upper{})); v != "SMALL" {
		t.Errorf("by its own codec it is %v", v)
	}
	if v := get("other", user2); v != "other" {
		t.Errorf("by another codec it is %v", v)
	}
	// An Option is no argument of a key.
	s, _ := request.FromContext(f.open(t))
	if _, err := s.Key(t.Context(), user1, request.TTL(1)); !errors.Is(err, tokens.ErrUnstable) {
		t.Errorf("as an argument of a key: %v", err)
	}
}

func TestConfigCodec(t *testing.T) {
	f := newFetcher(t, request.Config{Codec: upper{}})
	fetch(t, f.open(t), named("small"), user1)
	if v, made := fetch(t, f.open(t), named("?"), user1); v != "SMALL" || made {
		t.Errorf("%q, made %t", v, made)
	}
	fetch(t, f.open(t), "small", user2)
	if v, _ := fetch(t, f.open(t), "?", user2); v != "small" {
		t.Errorf("a string is %q", v)
	}
}

func TestStats(t *testing.T) {
	f := newFetcher(t, request.Config{})
	ctx, s := f.kit.Open(t.Context())
	key(t, ctx, user1)
	fetch(t, ctx, 1, user1, "x")
	fetch(t, ctx, 1, user1, "x")
	publish(t, f.store, orders)
	fetch(t, ctx, 1, orders)
	got := s.Stats()
	if got.Tokens <= 0 || got.Fills <= 0 {
		t.Errorf("no time has passed: %+v", got)
	}
	got.Tokens, got.Values, got.Both, got.Fills = 0, 0, 0, 0
	want := request.Stats{Keys: 4, Hits: 1, Misses: 2, Stored: 1}
	want.Bypasses[request.Younger] = 1
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestWaitingOnce: while tokens and values are waited for at the same time, time passes once.
func TestWaitingOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, b := newStore(t)
		v := newValues()
		f := newFetcher(t, request.Config{Tokens: store, Values: v})
		slow := func() { time.Sleep(30 * time.Millisecond) }
		b.afterRead.Store(&slow)
		v.during = func() { time.Sleep(50 * time.Millisecond) }
		for _, c := range []struct {
			args []any
			want string
		}{
			{[]any{user1, "x"}, "dur=50.0"},
			{[]any{user1, "y"}, "dur=100.0"}, // the token is known
			{[]any{user2, "x"}, "dur=50.0"},
		} {
			ctx, s := f.kit.Open(t.Context())
			fetch(t, ctx, 1, c.args...)
			if c.want == "dur=100.0" {
				fetch(t, ctx, 1, user1, "z")
			}
			stats := s.Stats()
			if got := stats.ServerTiming(); !strings.HasSuffix(got, c.want) || stats.Both != 30*time.Millisecond || stats.Tokens != 30*time.Millisecond {
				t.Errorf("%s, want %s: %+v", got, c.want, stats)
			}
		}
	})
}
