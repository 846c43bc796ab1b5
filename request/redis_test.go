package request_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
)

// TestOneCommandOverRedis counts what a request sends to Redis.
func TestOneCommandOverRedis(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: testserver.Redis(t).Addr(), ContextTimeoutEnabled: true})
	defer client.Close()
	sent := new(testserver.Commands)
	store, err := tokens.NewRedis(t.Context(), tokens.RedisOptions{Client: client, Hooks: []redis.Hook{sent}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	tokenstest.Ready(t, store)
	users := make([]*user, 100)
	for i := range users {
		users[i] = &user{ID: i + 1}
	}
	kit := newKit(t, request.Config{Tokens: store})
	ctx, scope := kit.Open(t.Context())
	if err := scope.Prefetch(ctx, users, orders); err != nil { // makes the records
		t.Fatal(err)
	}

	sent.Take()
	ctx, scope = kit.Open(t.Context())
	if err := scope.Prefetch(ctx, users, orders); err != nil {
		t.Fatal(err)
	}
	if got := sent.TakeNames(); got != "setrange mget" {
		t.Errorf("Prefetch sent %q", got)
	}
	for _, u := range users {
		judged(t, "prefetched", key(t, ctx, u, orders, "row"), true, 0)
	}
	if got := sent.TakeNames(); got != "" {
		t.Errorf("keys that were prefetched sent %q", got)
	}
	ctx, _ = kit.Open(t.Context())
	key(t, ctx, users, orders)
	if got := sent.TakeNames(); got != "setrange mget" {
		t.Errorf("a key of all sent %q", got)
	}
	for range 2 {
		v, _ := fetch(t, ctx, "value", users[0], "x")
		if v != "value" {
			t.Errorf("fetched %q", v)
		}
	}
	if got := sent.TakeNames(); got != "" {
		t.Errorf("Fetch of what is known sent %q", got)
	}
}

// overRedis is two processes that share a server for tokens and one for values, with copies in the
// second.
func overRedis(t *testing.T, cfg request.Config) (fetchers [2]*fetcher) {
	p := onRedis(t)
	for i := range fetchers {
		cfg.Tokens, cfg.Values = p.tokens[i], p.values[i]
		fetchers[i] = newFetcher(t, cfg)
	}
	return fetchers
}

// TestValuesOverRedis goes through what values promise, on servers.
func TestValuesOverRedis(t *testing.T) {
	f := overRedis(t, request.Config{})
	one, two := f[0], f[1]
	get := func(f *fetcher, value string) (string, bool) {
		made := false
		v, err := request.Fetch(f.open(t), func(ctx context.Context) (string, error) {
			made = true
			inner, _ := fetch(t, ctx, value, user2, "inner")
			key(t, ctx, orders)
			return "outer " + inner, nil
		}, user1, "outer")
		if err != nil {
			t.Error(err)
		}
		return v, made
	}
	check := func(what string, f *fetcher, value, want string, wantMade bool) {
		t.Helper()
		v, made := get(f, value)
		is(t, what, v, made, want, wantMade)
	}
	changed := func(f *fetcher, ids ...tokens.ID) {
		publish(t, f.store, ids...)
		for _, other := range []*fetcher{one, two} {
			warm(t, other.store, append(ids, user1, user2, orders)...)
		}
	}
	check("first", one, "a", "outer a", true)
	check("found", one, "?", "outer a", false)
	check("found by the other", two, "?", "outer a", false)
	changed(two, user2)
	check("after a change of the inner row", two, "b", "outer b", true)
	check("in the one that had the old", one, "?", "outer b", false)
	changed(one, orders)
	check("after a change of what was asked for", one, "?", "outer b", true)
	check("in the other, which has an old copy", two, "?", "outer b", false)
	changed(one, user1)
	check("after a change of the outer row", two, "?", "outer b", true)

	owner := tokens.NewOwner()
	if err := one.store.Fence(t.Context(), owner, tokens.NewChanges(orders), time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, made := get(two, "?"); !made || two.last().Reason != request.Fenced || two.last().Stored {
		t.Errorf("while a commit is under way: made %t, %+v", made, two.last())
	}
	if err := one.store.Release(t.Context(), owner, tokens.NewChanges(orders)); err != nil {
		t.Fatal(err)
	}
	if _, made := get(two, "?"); made {
		t.Error("after it was rolled back: made")
	}

	for i, want := range []int{2, 0} {
		got, missing, err := names(f[i].open(t), "many", 1, 2)
		if len(got) != 2 || len(missing) != want || err != nil {
			t.Errorf("many: %v, %v, %v", got, missing, err)
		}
	}
	b := new(book)
	for i, want := range []string{"whole part", ""} {
		p := b.part(user1, "whole", b.part(user2, "part"))
		if err := request.Resolve(f[i].open(t), p); err != nil || string(p.Value) != "<whole<part>>" {
			t.Errorf("parts: %q, %v", p.Value, err)
		}
		if filled := b.take(); filled != want {
			t.Errorf("parts: filled %q, want %q", filled, want)
		}
	}
	w, _ := visit(one.open(t), "GET", nil, []any{user1, "page"})
	if w, sent := visit(two.open(t), "GET", nil, []any{user1, "page"}, "If-None-Match", w.Header().Get("ETag")); !sent {
		t.Errorf("the other process does not know the ETag: %v", w.Header())
	}
}

// TestLeaseOverRedis: two processes, one fill.
func TestLeaseOverRedis(t *testing.T) {
	f := overRedis(t, request.Config{Lease: time.Minute})
	release := make(chan struct{})
	a := ask(f[0].open(t), "one", release, user1)
	eventually(t, "the fill begins", a.made.Load)
	b := ask(f[1].open(t), "two", nil, user1)
	for from := time.Now(); time.Since(from) < 100*time.Millisecond; runtime.Gosched() {
		if b.done.Load() {
			t.Fatal("it does not wait")
		}
	}
	close(release)
	eventually(t, "both are done", func() bool { return a.done.Load() && b.done.Load() })
	a.is(t, "who has the lease", "one", true)
	b.is(t, "who waits", "one", false)
	if e := f[1].last(); !e.Shared || e.Stored {
		t.Errorf("%+v", e)
	}
}
