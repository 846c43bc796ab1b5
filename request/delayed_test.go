package request_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// batches is a value store that is a Batcher, and counts.
type batches struct {
	*values
	sets, many atomic.Int64
	last       atomic.Int64 // how many items were set at once
	fault      error
}

func (b *batches) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	b.sets.Add(1)
	return b.values.Set(ctx, key, value, ttl)
}

func (b *batches) SetMany(ctx context.Context, items []cache.Item) error {
	b.many.Add(1)
	b.last.Store(int64(len(items)))
	if b.fault != nil {
		return b.fault
	}
	for _, item := range items {
		if err := b.values.Set(ctx, item.Key, item.Value, item.TTL); err != nil {
			return err
		}
	}
	return nil
}

func (b *batches) was(t *testing.T, what string, sets, many, last int64) {
	t.Helper()
	if s, m, l := b.sets.Swap(0), b.many.Swap(0), b.last.Swap(0); s != sets || m != many || l != last {
		t.Errorf("%s: %d values are set one by one, and %d times many, the last time %d; want %d, %d and %d", what, s, m, l, sets, many, last)
	}
}

// usersTo returns the numbers from 1 to n, whose users' tokens exist.
func usersTo(t testing.TB, s *tokens.Store, n int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i + 1
		warm(t, s, tokens.Row("users", i+1))
	}
	return ids
}

// TestFetchManyStoresAtOnce: what one fill has made is stored together, each by its own right.
func TestFetchManyStoresAtOnce(t *testing.T) {
	store, _ := newStore(t)
	b := &batches{values: newValues()}
	f := newFetcher(t, request.Config{Tokens: store, Values: b})
	ids := usersTo(t, store, 100)
	get := func(ctx context.Context, ids []int, during func(context.Context)) int {
		t.Helper()
		made := 0
		_, err := request.FetchMany(ctx, ids, func(id int) []any { return []any{tokens.Row("users", id), "x"} },
			func(ctx context.Context, missing []int) (map[int]string, error) {
				made = len(missing)
				if during != nil {
					during(ctx)
				}
				return map[int]string{}, nil
			})
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	get(f.open(t), ids, nil)
	b.was(t, "all", 0, 1, 100)
	if made := get(f.open(t), ids, nil); made != 0 {
		t.Errorf("%d are made again", made)
	}
	b.was(t, "none", 0, 0, 0)
	publish(t, store, user1)
	warm(t, store, user1)
	get(f.open(t), ids, nil)
	b.was(t, "one", 1, 0, 0)

	// A commit of the request itself, in the fill: what it changed is not stored, the rest is.
	for _, id := range ids[:10] {
		publish(t, store, tokens.Row("users", id))
		warm(t, store, tokens.Row("users", id))
	}
	get(f.open(t), ids, func(ctx context.Context) {
		if err := txscope.Changed(ctx, user1, user2); err != nil {
			t.Error(err)
		}
	})
	b.was(t, "all but two", 0, 1, 8)

	// The end of the context.
	publish(t, store, tokens.Global)
	for _, id := range ids {
		publish(t, store, tokens.Row("users", id))
	}
	usersTo(t, store, 100)
	ctx, cancel := context.WithCancel(f.open(t))
	_, err := request.FetchMany(ctx, ids, func(id int) []any { return []any{tokens.Row("users", id), "x"} },
		func(context.Context, []int) (map[int]string, error) {
			cancel()
			return nil, nil
		})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	b.was(t, "none, for the context has ended", 0, 0, 0)
}

// resolveUsers makes a page of a part for each user.
func resolveUsers(ctx context.Context, ids []int, before func(ctx context.Context, id int)) error {
	parts := make([]*request.Part, len(ids))
	for i, id := range ids {
		parts[i] = &request.Part{Args: []any{tokens.Row("users", id), "part"}, Fill: func(ctx context.Context) ([]request.Piece, error) {
			if before != nil {
				before(ctx, id)
			}
			return []request.Piece{{Text: fmt.Append(nil, id)}}, nil
		}}
	}
	return request.Resolve(ctx, parts...)
}

// TestResolveStoresAtOnce runs on a clock of its own: nothing takes time but what says so.
func TestResolveStoresAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, _ := newStore(t)
		b := &batches{values: newValues()}
		f := newFetcher(t, request.Config{Tokens: store, Values: b})
		ids := usersTo(t, store, 100)
		resolve := func(ctx context.Context, before func(context.Context, int)) {
			t.Helper()
			if err := resolveUsers(ctx, ids, before); err != nil {
				t.Fatal(err)
			}
		}
		change := func() {
			t.Helper()
			for _, id := range ids {
				publish(t, store, tokens.Row("users", id))
			}
			usersTo(t, store, 100)
		}
		resolve(f.open(t), nil)
		b.was(t, "a cold page", 0, 1, 100)
		resolve(f.open(t), func(context.Context, int) { t.Error("a miss") })

		// What is slow is stored when it is made: others want it.
		change()
		time.Sleep(time.Second) // a request's tokens are older than it
		resolve(f.open(t), func(context.Context, int) { time.Sleep(20 * time.Millisecond) })
		if n := b.sets.Load() + b.many.Load(); n < 45 {
			t.Errorf("a page of two seconds is stored in %d times", n)
		}
		b.sets.Store(0)
		b.many.Store(0)
		b.last.Store(0)

		// The last fill changes what the first ones have made and what is not stored yet.
		change()
		resolve(f.open(t), func(ctx context.Context, id int) {
			if id == 100 {
				if err := txscope.Changed(ctx, user1, user2); err != nil {
					t.Error(err)
				}
			}
		})
		b.was(t, "a page that has changed two", 0, 1, 98)

		// The context ends in the last fill.
		change()
		ctx, cancel := context.WithCancel(f.open(t))
		_ = resolveUsers(ctx, ids, func(_ context.Context, id int) {
			if id == 100 {
				cancel()
			}
		})
		b.was(t, "a page whose reader has left", 0, 0, 0)

		// A fill fails: what does not depend on it is stored.
		failing := errors.New("no")
		parts := []*request.Part{
			{Args: []any{user1, "part"}, Fill: func(context.Context) ([]request.Piece, error) { return nil, nil }},
			{Args: []any{user2, "part"}, Fill: func(context.Context) ([]request.Piece, error) { return nil, nil }},
			{Args: []any{orders, "part"}, Fill: func(context.Context) ([]request.Piece, error) { return nil, failing }},
		}
		if err := request.Resolve(f.open(t), parts...); !errors.Is(err, failing) {
			t.Error(err)
		}
		b.was(t, "a page that fails", 0, 1, 2)
	})
}

// TestStoringManyFails: many values are one failure, which is logged once.
func TestStoringManyFails(t *testing.T) {
	store, _ := newStore(t)
	b := &batches{values: newValues(), fault: cache.ErrDown}
	j := new(journal)
	f := newFetcher(t, request.Config{Tokens: store, Values: b, Logger: j.logger()})
	ids := usersTo(t, store, 100)
	for range 3 {
		if err := resolveUsers(f.open(t), ids, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := j.count("level=WARN"); n != 1 {
		t.Errorf("%d warnings: %q", n, j.lines())
	}
	for _, e := range f.events {
		if e.Stored {
			t.Fatalf("%+v", e)
		}
	}
}

// TestResolveShowsWhatIsNotStored: what is made and waits to be stored is found by other requests, and a
// page that panics takes it with it.
func TestResolveShowsWhatIsNotStored(t *testing.T) {
	for _, panics := range []bool{false, true} {
		t.Run(fmt.Sprint("panics=", panics), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, _ := newStore(t)
				b := &batches{values: newValues()}
				f := newFetcher(t, request.Config{Tokens: store, Values: b})
				usersTo(t, store, 2)
				release := make(chan struct{})
				done := make(chan any)
				ctx := f.open(t)
				go func() {
					defer func() { done <- recover() }()
					if err := resolveUsers(ctx, []int{1, 2}, func(_ context.Context, id int) {
						if id == 2 {
							<-release
							if panics {
								panic("fill")
							}
						}
					}); err != nil {
						t.Error(err)
					}
				}()
				synctest.Wait()
				b.was(t, "while the second is made", 0, 0, 0)
				if err := resolveUsers(f.open(t), []int{1}, func(context.Context, int) { t.Error("the first is made again") }); err != nil {
					t.Fatal(err)
				}
				close(release)
				if p := <-done; (p != nil) != panics {
					t.Fatalf("it panics with %v", p)
				}
				made := 0
				if err := resolveUsers(f.open(t), []int{1, 2}, func(context.Context, int) { made++ }); err != nil {
					t.Fatal(err)
				}
				if want := map[bool]int{false: 0, true: 2}[panics]; made != want {
					t.Errorf("afterwards %d are made, want %d", made, want)
				}
			})
		})
	}
}

// TestColdPagesOverRedis counts round trips to a real server.
func TestColdPagesOverRedis(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: testserver.Redis(t).Addr(), ContextTimeoutEnabled: true})
	defer client.Close()
	values := cache.NewRedisWith(client, cache.RedisOptions{Timeout: 10 * time.Second})
	defer values.Close()
	store := tokens.New(tokens.NewMemoryBackend(tokens.MemoryOptions{}), tokens.WithLogger(slog.New(slog.DiscardHandler)))
	defer store.Close()
	kit := newKit(t, request.Config{Tokens: store, Values: values})
	ids := usersTo(t, store, 100)
	sent := new(testserver.Commands)
	client.AddHook(sent)

	ctx, _ := kit.Open(t.Context())
	_, err := request.FetchMany(ctx, ids, func(id int) []any { return []any{tokens.Row("users", id), "many"} },
		func(_ context.Context, missing []int) (map[int]string, error) { return map[int]string{}, nil })
	if err != nil {
		t.Fatal(err)
	}
	if n := awaited(sent); n != 2 {
		t.Errorf("FetchMany of 100 that are missing takes %d round trips", n)
	}
	ctx, _ = kit.Open(t.Context())
	from := time.Now()
	if err := resolveUsers(ctx, ids, nil); err != nil {
		t.Fatal(err)
	}
	// A machine that stalls stores before all are made.
	if n, most := awaited(sent), 2+int64(time.Since(from)/(10*time.Millisecond)); n > most {
		t.Errorf("a page of 100 that are missing takes %d round trips", n)
	}
	if n, err := client.DBSize(t.Context()).Result(); err != nil || n != 200 {
		t.Errorf("%d values are stored, %v", n, err)
	}
}

// awaited counts the round trips that have to be waited for, and not those that make connections.
func awaited(sent *testserver.Commands) (n int64) {
	for _, trip := range sent.Take() {
		if name := trip[0].Name(); name == "mget" || name == "set" {
			n++
		}
	}
	return n
}
