package request_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// fetcher counts what Fetch does.
type fetcher struct {
	kit    *request.Kit
	store  *tokens.Store
	events []request.FetchEvent
}

func newFetcher(t *testing.T, cfg request.Config) *fetcher {
	t.Helper()
	f := new(fetcher)
	if cfg.Tokens == nil {
		cfg.Tokens, _ = newStore(t)
	}
	f.store = cfg.Tokens
	cfg.OnFetch = func(_ context.Context, e request.FetchEvent) { f.events = append(f.events, e) }
	f.kit = newKit(t, cfg)
	warm(t, f.store, user1, user2, orders)
	return f
}

// open begins a request.
func (f *fetcher) open(t *testing.T) context.Context { return first(f.kit.Open(t.Context())) }

// timeless is an event without what the clock says.
func timeless(e request.FetchEvent) request.FetchEvent {
	e.Took = 0
	return e
}

func (f *fetcher) last() request.FetchEvent { return f.events[len(f.events)-1] }

// fetch runs Fetch with a fill that returns want if it is called.
func fetch[T any](t *testing.T, ctx context.Context, fresh T, args ...any) (got T, made bool) {
	t.Helper()
	got, err := request.Fetch(ctx, func(context.Context) (T, error) {
		made = true
		return fresh, nil
	}, args...)
	if err != nil {
		t.Fatal(err)
	}
	return got, made
}

// is checks what a fetch gave.
func is[T comparable](t *testing.T, what string, got T, made bool, want T, wantMade bool) {
	t.Helper()
	if got != want || made != wantMade {
		t.Errorf("%s: %v, made %t; want %v, made %t", what, got, made, want, wantMade)
	}
}

func TestFetch(t *testing.T) {
	for _, c := range []struct {
		name   string
		values cache.Store
	}{
		{"by default", nil},
		{"in process", cache.NewMemory(1 << 20)},
		{"elsewhere", newValues()},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFetcher(t, request.Config{Values: c.values})
			ctx := f.open(t)
			text := key(t, ctx, user1, "name").String()
			v, made := fetch(t, ctx, "Ann", user1, "name")
			is(t, "first", v, made, "Ann", true)
			if e := f.last(); e.Took <= 0 || timeless(e) != (request.FetchEvent{Key: text, Stored: true, Dependencies: 1}) {
				t.Errorf("first: %+v", e)
			}
			v, made = fetch(t, ctx, "?", user1, "name")
			is(t, "in the same request", v, made, "Ann", false)
			if e := f.last(); e != (request.FetchEvent{Key: text, Hit: true, Dependencies: 1}) {
				t.Errorf("in the same request: %+v", e)
			}
			v, made = fetch(t, f.open(t), "?", &user{ID: 1}, "name")
			is(t, "in the next", v, made, "Ann", false)
			v, made = fetch(t, f.open(t), "Ben", user2, "name")
			is(t, "another row", v, made, "Ben", true)
			v, made = fetch(t, f.open(t), "Ann Lee", user1, "full name")
			is(t, "another text", v, made, "Ann Lee", true)

			publish(t, f.store, user1)
			warm(t, f.store, user1)
			v, made = fetch(t, f.open(t), "Eve", user1, "name")
			is(t, "after a change", v, made, "Eve", true)
			v, made = fetch(t, f.open(t), "?", user1, "name")
			is(t, "the new version", v, made, "Eve", false)
			v, made = fetch(t, f.open(t), "?", user2, "name")
			is(t, "the other row", v, made, "Ben", false)
		})
	}
}

// TestFetchReplaces: entries are replaced when their data changes, and do not pile up.
func TestFetchReplaces(t *testing.T) {
	store := newValues()
	f := newFetcher(t, request.Config{Values: store})
	for i := range 50 {
		publish(t, f.store, user1)
		warm(t, f.store, user1)
		v, made := fetch(t, f.open(t), i, user1)
		is(t, "after a change", v, made, i, true)
	}
	if n := store.len(); n != 1 {
		t.Errorf("%d entries for one value", n)
	}
}

func TestFetchYounger(t *testing.T) {
	f := newFetcher(t, request.Config{})
	old := f.open(t)
	publish(t, f.store, user1)
	v, made := fetch(t, old, "from old data", user1)
	is(t, "a request that is older than the token", v, made, "from old data", true)
	if e := f.last(); e.Stored || e.Hit || e.Reason != request.Younger || !strings.HasPrefix(e.Key, "%once-") {
		t.Errorf("%+v", e)
	}
	v, made = fetch(t, f.open(t), "from new data", user1)
	is(t, "a newer request", v, made, "from new data", true)
	v, made = fetch(t, old, "?", user1)
	is(t, "the older one again", v, made, "from new data", false)
}

func TestFetchFenced(t *testing.T) {
	f := newFetcher(t, request.Config{})
	fetch(t, f.open(t), "old", user1)
	owner, changes := tokens.NewOwner(), tokens.NewChanges(user1)
	if err := f.store.Fence(t.Context(), owner, changes, time.Hour); err != nil {
		t.Fatal(err)
	}
	v, made := fetch(t, f.open(t), "new", user1)
	is(t, "fenced", v, made, "new", true)
	if e := f.last(); e.Stored || e.Reason != request.Fenced {
		t.Errorf("%+v", e)
	}
	if err := f.store.Release(t.Context(), owner, changes); err != nil {
		t.Fatal(err)
	}
	v, made = fetch(t, f.open(t), "?", user1)
	is(t, "released", v, made, "old", false)
}

// TestFetchStoreDown: requests go uncached while the token store is down.
func TestFetchStoreDown(t *testing.T) {
	store, b := newStore(t)
	f := newFetcher(t, request.Config{Tokens: store})
	fetch(t, f.open(t), "before", user1)
	b.down.Store(true)
	for i := range 3 {
		v, made := fetch(t, f.open(t), i, user1)
		is(t, "while it is down", v, made, i, true)
		if e := f.last(); e.Stored || e.Reason != request.StoreDown {
			t.Errorf("%+v", e)
		}
	}
	b.down.Store(false)
	eventually(t, "hits again", func() bool {
		v, made := fetch(t, f.open(t), "?", user1)
		return v == "before" && !made
	})
}

func TestFetchFillFails(t *testing.T) {
	f := newFetcher(t, request.Config{})
	broken := errors.New("broken")
	v, err := request.Fetch(f.open(t), func(context.Context) (string, error) { return "half", broken }, user1)
	if v != "half" || !errors.Is(err, broken) {
		t.Errorf("got %q, %v", v, err)
	}
	if e := f.last(); e.Stored || !errors.Is(e.Err, broken) {
		t.Errorf("%+v", e)
	}
	w, made := fetch(t, f.open(t), "whole", user1)
	is(t, "next", w, made, "whole", true)
}

func TestFetchFillPanics(t *testing.T) {
	store := newValues()
	f := newFetcher(t, request.Config{Values: store})
	func() {
		defer func() {
			if p := fmt.Sprint(recover()); !strings.HasPrefix(p, "oops\n") || !strings.Contains(p, "TestFetchFillPanics") {
				t.Errorf("recovered %v", p)
			}
		}()
		_, _ = request.Fetch(f.open(t), func(context.Context) (string, error) { panic("oops") }, user1)
	}()
	if store.len() != 0 {
		t.Error("something is stored")
	}
}

func TestFetchContextEndsInFill(t *testing.T) {
	store := newValues()
	f := newFetcher(t, request.Config{Values: store})
	ctx, cancel := context.WithCancel(f.open(t))
	v, err := request.Fetch(ctx, func(context.Context) (string, error) { cancel(); return "half", nil }, user1)
	if v != "half" || err != nil {
		t.Errorf("got %q, %v", v, err)
	}
	if store.len() != 0 || f.last().Stored {
		t.Error("a value is stored whose request has ended")
	}
}

func TestFetchContextEndedBefore(t *testing.T) {
	j := new(journal)
	f := newFetcher(t, request.Config{Logger: j.logger()})
	ctx, cancel := context.WithCancel(f.open(t))
	cancel()
	v, made := fetch(t, ctx, "fresh", user1)
	is(t, "cancelled", v, made, "fresh", true)
	if e := f.last(); e.Stored || e.Reason != request.StoreDown {
		t.Errorf("%+v", e)
	}
	if n := j.count("alkey"); n != 0 {
		t.Errorf("%d lines are logged of a client that went away", n)
	}
}

// TestFetchWritesInFill: what a fill's own writes may have put into the value is not stored.
func TestFetchWritesInFill(t *testing.T) {
	type step func(ctx context.Context, f *fetcher) (undo func())
	write := func(outcome tokens.Outcome, ended bool) step {
		return func(_ context.Context, f *fetcher) func() {
			w := f.store.Ledger().Begin()
			w.Add(user1)
			if ended {
				w.End(outcome)
				return func() {}
			}
			return func() { w.End(outcome) }
		}
	}
	for _, c := range []struct {
		name string
		step step
	}{
		{"rolled back inside", write(tokens.RolledBack, true)},
		{"unknown inside", write(tokens.Unknown, true)},
		{"still open", write(tokens.RolledBack, false)},
		{"committed inside", func(ctx context.Context, _ *fetcher) func() {
			if err := txscope.Changed(ctx, user1); err != nil {
				t.Error(err)
			}
			return func() {}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := newValues()
			f := newFetcher(t, request.Config{Values: store})
			v, err := request.Fetch(f.open(t), func(ctx context.Context) (string, error) {
				t.Cleanup(c.step(ctx, f))
				return "seen in a transaction", nil
			}, user1, "x")
			if v != "seen in a transaction" || err != nil {
				t.Errorf("got %q, %v", v, err)
			}
			if e := f.last(); e.Stored || e.Reason != request.OwnWrite {
				t.Errorf("%+v", e)
			}
			if store.len() != 0 {
				t.Error("it is stored")
			}
		})
	}
}

// TestFetchDoesNotServeOwnWrites: while a transaction has changed a row, its value is made anew
// each time.
func TestFetchDoesNotServeOwnWrites(t *testing.T) {
	f := newFetcher(t, request.Config{})
	ctx := f.open(t)
	fetch(t, ctx, "old", user1)
	fetch(t, ctx, "other", user2)
	w := f.store.Ledger().Begin()
	w.Add(user1)
	v, made := fetch(t, ctx, "dirty", user1)
	is(t, "changed", v, made, "dirty", true)
	v, made = fetch(t, ctx, "?", user2)
	is(t, "unchanged", v, made, "other", false)
	w.End(tokens.RolledBack)
	v, made = fetch(t, ctx, "?", user1)
	is(t, "rolled back", v, made, "old", false)
}

// TestFetchJudgesAHit: a transaction that writes while the value store is asked keeps its answer
// from being served.
func TestFetchJudgesAHit(t *testing.T) {
	store := newValues()
	f := newFetcher(t, request.Config{Values: store})
	fetch(t, f.open(t), "old", user1)
	w := f.store.Ledger().Begin()
	defer w.End(tokens.Committed)
	store.during = func() { w.Add(user1) }
	v, made := fetch(t, f.open(t), "dirty", user1)
	is(t, "written meanwhile", v, made, "dirty", true)
	if e := f.last(); e.Stored || e.Reason != request.OwnWrite {
		t.Errorf("%+v", e)
	}
}

// TestFetchOtherVersions: values of another build, of another type, or under other arguments are
// misses.
func TestFetchOtherVersions(t *testing.T) {
	shared := newValues()
	store, _ := newStore(t)
	one := newFetcher(t, request.Config{Tokens: store, Values: shared, Version: "1"})
	two := newFetcher(t, request.Config{Tokens: store, Values: shared, Version: "2"})
	twin := newFetcher(t, request.Config{Tokens: store, Values: shared, Version: "2"})
	fetch(t, one.open(t), "one", user1)
	v, made := fetch(t, two.open(t), "two", user1)
	is(t, "another version", v, made, "two", true)
	v, made = fetch(t, twin.open(t), "?", user1)
	is(t, "the same version", v, made, "two", false)

	b, made := fetch(t, two.open(t), []byte("bytes"), user1)
	is(t, "another type", string(b), made, "bytes", true)
	n, made := fetch(t, two.open(t), 7, user1)
	is(t, "a third type", n, made, 7, true)
	type number int
	m, made := fetch(t, two.open(t), number(8), user1)
	is(t, "a named type", m, made, 8, true)
	m, made = fetch(t, two.open(t), number(9), user1)
	is(t, "the named type again", m, made, 8, false)
}

func TestFetchDefaultVersion(t *testing.T) {
	shared := newValues()
	store, _ := newStore(t)
	warm(t, store, user1)
	for i := range 2 {
		kit, err := request.New(request.Config{Tokens: store, Values: shared})
		if err != nil {
			t.Fatal(err)
		}
		v, made := fetch(t, first(kit.Open(t.Context())), i, user1)
		is(t, "the same executable", v, made, 0, i == 0)
	}
	if n := len(request.ExecutableDigest()); n != 32 {
		t.Errorf("the digest of the executable has %d bytes", n)
	}
}

// TestFetchBrokenEntries breaks a stored value in every place.
func TestFetchBrokenEntries(t *testing.T) {
	store := newValues()
	f := newFetcher(t, request.Config{Values: store})
	fetch(t, f.open(t), "value", user1)
	const name = "alkey:users#1"
	good := slices.Clone(store.m[name])
	if string(good[request.HeaderSize:]) != "value" {
		t.Fatalf("stored as %q", good)
	}
	broken := [][]byte{{}, []byte("page"), append(slices.Clone(good), 0)}
	for i := range good {
		b := slices.Clone(good)
		b[i] ^= 1
		broken = append(broken, b, good[:i])
	}
	for _, b := range broken {
		store.m[name] = b
		v, made := fetch(t, f.open(t), "fresh", user1)
		is(t, fmt.Sprintf("%q", b), v, made, "fresh", true)
	}
	store.m[name] = good
	v, made := fetch(t, f.open(t), "?", user1)
	is(t, "as it was", v, made, "value", false)
}

type named string

type profile struct {
	Name   string
	Scores map[string][]float64
	When   time.Time
	Parent *profile `json:",omitempty"`
}

func TestFetchTypes(t *testing.T) {
	f := newFetcher(t, request.Config{})
	roundTrip(t, f, "", "text")
	roundTrip(t, f, "text € \xff\x00", "text")
	roundTrip(t, f, []byte{}, "bytes")
	roundTrip(t, f, []byte("\xff\x00"), "bytes")
	roundTrip(t, f, -7, "int")
	roundTrip(t, f, 1.5, "float")
	roundTrip(t, f, true, "bool")
	roundTrip(t, f, named("<x>"), "named")
	roundTrip(t, f, []string{"a", "b"}, "list")
	roundTrip(t, f, map[string]int{"a": 1}, "map")
	roundTrip(t, f, (*profile)(nil), "nil")
	roundTrip(t, f, struct{}{}, "nothing")
	roundTrip(t, f, &profile{
		Name: "Ann", Scores: map[string][]float64{"x": {1, 2.5}},
		When: time.Date(2026, 11, 1, 2, 3, 4, 5, time.UTC), Parent: &profile{Name: "Eve"},
	}, "struct")
}

func roundTrip[T any](t *testing.T, f *fetcher, v T, name string) {
	t.Helper()
	f.events = nil
	// Each value has a key of its own, also among values of one type.
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	args := []any{user1, name, tokens.Text(string(text))}
	if _, made := fetch(t, f.open(t), v, args...); !made {
		t.Fatalf("%s: found before it was made", name)
	}
	var other T
	got, made := fetch(t, f.open(t), other, args...)
	if made {
		t.Errorf("%s: not found", name)
	}
	if a, b := fmt.Sprintf("%#v", indirect(got)), fmt.Sprintf("%#v", indirect(v)); a != b {
		t.Errorf("%s: %s became %s", name, b, a)
	}
}

// indirect makes a value printable without its addresses.
func indirect(v any) any {
	if p, ok := v.(*profile); ok && p != nil {
		c := *p
		parent := indirect(c.Parent)
		c.Parent = nil
		return []any{c, parent}
	}
	return v
}

// TestFetchBytesAreTheCallers: who gets bytes may change them.
func TestFetchBytesAreTheCallers(t *testing.T) {
	f := newFetcher(t, request.Config{})
	made, _ := fetch(t, f.open(t), []byte("value"), user1)
	made[0] = 'X'
	for range 2 {
		found, again := fetch(t, f.open(t), []byte("?"), user1)
		is(t, "found", string(found), again, "value", false)
		found[0] = 'Y'
	}
}

type undecodable struct{ N int }

func (*undecodable) UnmarshalJSON([]byte) error { return errors.New("no way back") }

func TestFetchWhatCannotBeStored(t *testing.T) {
	j := new(journal)
	f := newFetcher(t, request.Config{Logger: j.logger()})
	for range 3 {
		if v, made := fetch(t, f.open(t), make(chan int), user1, "channel"); v == nil || !made {
			t.Errorf("a channel: %v, made %t", v, made)
		}
		if f.last().Stored {
			t.Error("a channel is stored")
		}
		v, made := fetch(t, f.open(t), undecodable{7}, user1, "undecodable")
		is(t, "undecodable", v, made, undecodable{7}, true)
	}
	if n := j.count("cannot be stored"); n != 1 {
		t.Errorf("%d lines of the channel", n)
	}
	if n := j.count("no way back"); n != 1 {
		t.Errorf("%d lines of what cannot be decoded", n)
	}
}

// TestFetchValueStoreFails: a value store that fails is a miss, and is logged when it begins to
// fail and when it works again.
func TestFetchValueStoreFails(t *testing.T) {
	synctest.Test(t, fetchValueStoreFails)
}

func fetchValueStoreFails(t *testing.T) {
	j, store, token := new(journal), newValues(), tokens.NewMemory()
	defer token.Close()
	f := newFetcher(t, request.Config{Tokens: token, Values: store, Logger: j.logger()})
	for range 3 {
		store.get, store.set = errors.New("no get"), errors.New("no set")
		v, made := fetch(t, f.open(t), 1, user1)
		is(t, "failing", v, made, 1, true)
		if e := f.last(); e.Stored || e.Reason != 0 {
			t.Errorf("failing: %+v", e)
		}
	}
	if n := j.count("fails"); n != 2 {
		t.Errorf("%d lines of get and set that failed three times", n)
	}
	store.get, store.set = nil, nil
	time.Sleep(5 * time.Second)
	v, made := fetch(t, f.open(t), 2, user1)
	is(t, "back", v, made, 2, true)
	v, made = fetch(t, f.open(t), 3, user1)
	is(t, "back, again", v, made, 2, false)
	if n := j.count("works again"); n != 2 {
		t.Errorf("%d lines of get and set that work again", n)
	}
	store.missing = true
	v, made = fetch(t, f.open(t), 4, user1)
	is(t, "an answer of no values", v, made, 4, true)
}

func TestFetchWithoutScope(t *testing.T) {
	v, err := request.Fetch(t.Context(), func(context.Context) (int, error) {
		t.Error("fill is called")
		return 1, nil
	}, user1)
	if v != 0 || !errors.Is(err, request.ErrNoScope) || !errors.Is(err, txscope.ErrNoScope) {
		t.Errorf("got %d, %v", v, err)
	}
}

// TestFetchEmptyText: an empty text names a value as any other text does.
func TestFetchEmptyText(t *testing.T) {
	store := newValues()
	f := newFetcher(t, request.Config{Values: store})
	for i := range 2 {
		v, made := fetch(t, f.open(t), "empty", "")
		is(t, "the empty text", v, made, "empty", i == 0)
	}
	for k := range store.m {
		if k == "" {
			t.Error("the value store was given a key of no bytes")
		}
	}
}

// TestFetchOverClosedStores: a process that is going down still answers.
func TestFetchOverClosedStores(t *testing.T) {
	t.Run("tokens", func(t *testing.T) {
		store, _ := newStore(t)
		j := new(journal)
		var last request.FetchEvent
		kit := newKit(t, request.Config{Tokens: store, Logger: j.logger(), OnFetch: func(_ context.Context, e request.FetchEvent) { last = e }})
		ctx, _ := kit.Open(t.Context())
		fetch(t, ctx, 0, user1)
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			ctx, _ := kit.Open(t.Context())
			v, made := fetch(t, ctx, i, user1)
			is(t, "closed", v, made, i, true)
			if last.Stored || last.Reason != request.StoreDown {
				t.Errorf("%+v", last)
			}
		}
		if n := j.count(tokens.ErrClosed.Error()); n != 1 {
			t.Errorf("%d lines of the closed store: %q", n, j.lines())
		}
	})
	t.Run("values", func(t *testing.T) {
		j, values := new(journal), cache.NewMemory(1<<20)
		f := newFetcher(t, request.Config{Values: values, Logger: j.logger()})
		for i := range 2 {
			v, made := fetch(t, f.open(t), "before", "text")
			is(t, "open", v, made, "before", i == 0)
		}
		if err := values.Close(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			v, made := fetch(t, f.open(t), "after", "text")
			is(t, "closed", v, made, "after", true)
		}
		if n := j.count(cache.ErrClosed.Error()); n != 2 {
			t.Errorf("%d lines of get and set over a closed store: %q", n, j.lines())
		}
	})
}

// TestFetchBadArguments: a request does not fail because it cannot be cached.
func TestFetchBadArguments(t *testing.T) {
	j := new(journal)
	f := newFetcher(t, request.Config{Logger: j.logger()})
	for i := range 3 {
		v, made := fetch(t, f.open(t), i, user1, func() {})
		is(t, "a function", v, made, i, true)
		if e := f.last(); e.Stored || e.Reason != request.Unstable {
			t.Errorf("a function: %+v", e)
		}
		v, made = fetch(t, f.open(t), i)
		is(t, "nothing", v, made, i, true)
	}
	if n := j.count("argument 2 (func())"); n != 1 {
		t.Errorf("%d lines of the function", n)
	}
	if n := j.count("at least one argument"); n != 1 {
		t.Errorf("%d lines of nothing", n)
	}
}

// TestFetchText: what names nothing that can change is kept as long as ValueTTL says.
func TestFetchText(t *testing.T) {
	store := newValues()
	f := newFetcher(t, request.Config{Values: store, ValueTTL: time.Hour})
	fetch(t, f.open(t), 1, "greeting", "en")
	publish(t, f.store, tokens.Global)
	v, made := fetch(t, f.open(t), 2, "greeting", "en")
	is(t, "again", v, made, 1, false)
	if store.ttl != time.Hour {
		t.Errorf("stored for %v", store.ttl)
	}
}

// TestFetchLongKeys: however long the arguments are, the key in the value store is not.
func TestFetchLongKeys(t *testing.T) {
	store := newValues()
	f := newFetcher(t, request.Config{Values: store})
	long := strings.Repeat("x", 100_000)
	for i := range 2 {
		v, made := fetch(t, f.open(t), "a", user1, long, "a")
		is(t, "a long key", v, made, "a", i == 0)
		v, made = fetch(t, f.open(t), "b", user1, long, "b")
		is(t, "another one", v, made, "b", i == 0)
	}
	if store.len() != 2 {
		t.Errorf("%d entries", store.len())
	}
	for k := range store.m {
		if len(k) > 512 {
			t.Errorf("a key of %d bytes", len(k))
		}
	}
}

func TestFetchConcurrently(t *testing.T) {
	store, _ := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	ctx, _ := kit.Open(t.Context())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 100 {
				id := tokens.Row("users", i%5)
				want := "user " + id.Row
				v, err := request.Fetch(ctx, func(context.Context) (string, error) { return want, nil }, id)
				if v != want || err != nil {
					t.Errorf("%s: %q, %v", id, v, err)
				}
				if i%10 == 0 {
					if err := txscope.Changed(ctx, id); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestTypeNames(t *testing.T) {
	type local struct{ A int }
	names := []string{
		request.TypeName[string](), request.TypeName[[]byte](), request.TypeName[int](), request.TypeName[named](),
		request.TypeName[*profile](), request.TypeName[profile](), request.TypeName[[]profile](), request.TypeName[[2]profile](),
		request.TypeName[map[string]profile](), request.TypeName[map[string]*profile](), request.TypeName[local](),
		request.TypeName[struct{ A int }](), request.TypeName[struct {
			A int `json:"a"`
		}](), request.TypeName[any](), request.TypeName[func()](),
	}
	slices.Sort(names)
	if n := len(slices.Compact(slices.Clone(names))); n != len(names) {
		t.Errorf("%d names for %d types: %q", n, len(names), names)
	}
	const want = "map[.string]*github.com/alkey-go/alkey/request_test.profile"
	if got := request.TypeName[map[string]*profile](); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzStoredValue(f *testing.F) {
	f.Add([]byte{}, []byte("akv2"))
	f.Add([]byte("payload"), request.SealValue([]byte("payload")))
	f.Add([]byte("payload"), request.SealValue([]byte("payload"), user1, orders))
	f.Add([]byte("payload"), []byte("\x02\x03a#1\x7fa#2"))
	f.Add([]byte("payload"), []byte("\x02\x03a#1\xff\x7f"))
	f.Fuzz(func(t *testing.T, payload, foreign []byte) {
		for _, extras := range [][]tokens.ID{nil, {user1}, {orders, user2, tokens.Global}} {
			got, ids, ok := request.OpenValue(request.SealValue(payload, extras...))
			if !ok || string(got) != string(payload) || !slices.Equal(ids, extras) {
				t.Errorf("%q of %v became %q of %v, %t", payload, extras, got, ids, ok)
			}
		}
		// What is accepted says the same when it is written again. Identifiers can make no sense under a
		// checksum that is right.
		signed := append(request.SealValue(nil)[:request.HeaderSize-1], foreign...)
		binary.BigEndian.PutUint32(signed[4:], crc32.Checksum(signed[8:], crc32.MakeTable(crc32.Castagnoli)))
		for _, foreign := range [][]byte{foreign, signed} {
			if got, ids, ok := request.OpenValue(foreign); ok {
				again, same, ok := request.OpenValue(request.SealValue(got, ids...))
				if !ok || string(again) != string(got) || !slices.Equal(same, ids) {
					t.Errorf("%q was taken for a value", foreign)
				}
			}
		}
	})
}
