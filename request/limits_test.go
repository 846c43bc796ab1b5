package request_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
)

// usersFrom are n rows of users, which nobody has asked for before, from the first on.
func usersFrom(first, n int) []any {
	list := make([]any, n)
	for i := range list {
		list[i] = tokens.Row("users", first+i)
	}
	return list
}

// TestMillionIdentifiers: a request that asks for a million identifiers, together and one by one, leaves no
// more in Redis than the bound.
func TestMillionIdentifiers(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: testserver.Redis(t).Addr(), ContextTimeoutEnabled: true})
	defer client.Close()
	b, err := tokens.NewRedisBackend(tokens.RedisOptions{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	store := tokens.New(b, tokens.WithReadTimeout(20*time.Second), tokens.WithLogger(slog.New(slog.DiscardHandler)))
	defer store.Close()
	tokenstest.Ready(t, store)
	warm(t, store, tokens.Row("users", 0))
	size := func() int64 {
		t.Helper()
		n, err := client.DBSize(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := size()
	ctx, s := newKit(t, request.Config{Tokens: store, Logger: slog.New(slog.DiscardHandler)}).Open(t.Context())
	const million = 1_000_000
	const together = 900_000
	if err := s.Prefetch(ctx, usersFrom(1, together)...); err != nil {
		t.Fatal(err)
	}
	if made := size() - before; made != 10_000 {
		t.Errorf("%d identifiers leave %d records", together, made)
	}
	for id := together; id < million; id++ {
		k, err := s.Key(ctx, tokens.Row("users", 1+id))
		if err != nil {
			t.Fatal(err)
		}
		if k.Usable() || k.Reason() != request.TooMany {
			t.Fatalf("the key of row %d: usable %v, %q", id, k.Usable(), k.Reason())
		}
	}
	if made := size() - before; made != 10_000 {
		t.Errorf("%d identifiers leave %d records", million, made)
	}
	judged(t, "one of the first", key(t, ctx, tokens.Row("users", 10_000)), true, request.Younger)
}

// TestIdentifiersPastTheBound: what comes too late has one-shot keys and is not stored, and what was asked for
// before is as it was.
func TestIdentifiersPastTheBound(t *testing.T) {
	log := new(journal)
	store, b := newStore(t)
	values := newValues()
	kit := newKit(t, request.Config{Tokens: store, Values: values, MaxIdentifiers: 5, Logger: log.logger()})
	for i := range 30 {
		warm(t, store, tokens.Row("users", i))
	}
	ctx, s := kit.Open(t.Context())
	for i := range 3 {
		judged(t, "within the bound", key(t, ctx, tokens.Row("users", i)), true, 0)
	}
	if err := s.Prefetch(ctx, usersFrom(1, 10)...); err != nil { // 1 and 2 are known, there is room for 3 and 4
		t.Fatal(err)
	}
	reads := b.reads.Load()
	for i := range 5 {
		judged(t, "prefetched within the bound", key(t, ctx, tokens.Row("users", i)), true, 0)
	}
	for range 3 {
		judged(t, "past it", key(t, ctx, tokens.Row("users", 5)), false, request.TooMany)
	}
	judged(t, "past it, beside another", key(t, ctx, tokens.Row("users", 1), tokens.Row("users", 5)), false, request.TooMany)
	judged(t, "no identifier", key(t, ctx, "text"), true, 0)
	if n := b.reads.Load() - reads; n != 0 {
		t.Errorf("the store is asked %d times for what is too much", n)
	}
	for i, want := range []int{1, 1, 2} {
		made := 0
		args := []any{tokens.Row("users", i*4), "value"} // 0, 4, 8
		for range 2 {
			v, err := request.Fetch(ctx, func(context.Context) (string, error) { made++; return "v", nil }, args...)
			if err != nil || v != "v" {
				t.Fatal(v, err)
			}
		}
		if made != want {
			t.Errorf("the value of row %d is made %d times, want %d", i*4, made, want)
		}
	}
	// A value that asks for too much is not stored either, by whatever way it asks.
	for name, ask := range map[string]func(ctx context.Context){
		"key":      func(ctx context.Context) { key(t, ctx, tokens.Row("users", 20)) },
		"prefetch": func(ctx context.Context) { _ = s.Prefetch(ctx, tokens.Row("users", 20)) },
		"fetch":    func(ctx context.Context) { fetch(t, ctx, "inner", tokens.Row("users", 20)) },
	} {
		for range 2 {
			made := false
			if _, err := request.Fetch(ctx, func(ctx context.Context) (string, error) { made = true; ask(ctx); return "v", nil }, tokens.Row("users", 1), name); err != nil {
				t.Fatal(err)
			}
			if !made {
				t.Errorf("%s: a value is found that depends on what was not read", name)
			}
		}
	}
	if n := log.count("MaxIdentifiers"); n != 1 {
		t.Errorf("it is logged %d times:\n%s", n, strings.Join(log.lines(), "\n"))
	}
	// The next request has room again, and finds what was stored.
	ctx, _ = kit.Open(t.Context())
	judged(t, "the next request", key(t, ctx, tokens.Row("users", 5)), true, 0)
	if _, made := fetch(t, ctx, "w", tokens.Row("users", 4), "value"); made {
		t.Error("what was stored is made again")
	}
}

// TestValueThatNamesTooMuch: a stored value is a hit only for who may read all that it depends on.
func TestValueThatNamesTooMuch(t *testing.T) {
	store, b := newStore(t)
	values := newValues()
	large := newKit(t, request.Config{Tokens: store, Values: values, MaxIdentifiers: 20_000})
	small := newKit(t, request.Config{Tokens: store, Values: values, MaxIdentifiers: 15_000, Logger: slog.New(slog.DiscardHandler)})
	for _, id := range usersFrom(0, 15_000) {
		warm(t, store, id.(tokens.ID))
	}
	warm(t, store, orders)
	get := func(kit *request.Kit) (made bool) {
		t.Helper()
		ctx, s := kit.Open(t.Context())
		_, err := request.Fetch(ctx, func(ctx context.Context) (string, error) {
			made = true
			return "v", s.Prefetch(ctx, usersFrom(0, 15_000)...)
		}, orders)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	if !get(large) || get(large) {
		t.Error("a value that depends on 15,001 identifiers is not stored, and 20,000 are allowed")
	}
	before := b.reads.Load()
	if !get(small) {
		t.Error("a value that depends on 15,001 identifiers is found, and 15,000 are allowed")
	}
	if n := b.reads.Load() - before; n > 3 {
		t.Errorf("the store was asked %d times", n)
	}
	if get(large) {
		t.Error("who has not stored a value has replaced it")
	}
}

// TestBoundOfGoroutines: goroutines of one request share its bound, also while they read.
func TestBoundOfGoroutines(t *testing.T) {
	store, b := newStore(t)
	const most = 40
	ctx, s := newKit(t, request.Config{Tokens: store, MaxIdentifiers: most, Logger: slog.New(slog.DiscardHandler)}).Open(t.Context())
	warm(t, store, tokens.Row("users", -1))
	var wg, together sync.WaitGroup
	together.Add(8)
	// Some are still reading when others ask.
	slow := func() { runtime.Gosched() }
	b.afterRead.Store(&slow)
	for g := range 8 {
		wg.Go(func() {
			together.Done()
			together.Wait()
			for i := range 5 {
				if err := s.Prefetch(ctx, usersFrom(100*g+10*i, 10)...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	read := 0
	for id := range 800 {
		if k := key(t, ctx, tokens.Row("users", id)); k.Usable() {
			read++
		} else if k.Reason() != request.TooMany {
			t.Errorf("row %d: %q", id, k.Reason())
		}
	}
	if read != most {
		t.Errorf("%d identifiers were read, want %d", read, most)
	}
}

// TestBoundIsGivenBack: what could not be read does not count, nor does what the request itself has made old.
func TestBoundIsGivenBack(t *testing.T) {
	b := &backend{Backend: tokens.NewMemoryBackend(tokens.MemoryOptions{})}
	store := tokens.New(b, tokens.WithLogger(slog.New(slog.DiscardHandler)))
	defer store.Close()
	kit := newKit(t, request.Config{Tokens: store, MaxIdentifiers: 10, Logger: slog.New(slog.DiscardHandler)})
	ctx, _ := kit.Open(t.Context())
	b.down.Store(true)
	for range 5 {
		judged(t, "down", key(t, ctx, usersFrom(0, 10)...), false, request.StoreDown)
	}
	b.down.Store(false)
	eventually(t, "the store is back", func() bool { return key(t, ctx, usersFrom(0, 10)...).Reason() == request.Younger })
	judged(t, "one more", key(t, ctx, tokens.Row("users", 10)), false, request.TooMany)
}

// TestSameIdentifierManyTimes: what is asked for again in one call counts once.
func TestSameIdentifierManyTimes(t *testing.T) {
	store, _ := newStore(t)
	warm(t, store, tokens.Row("users", 1))
	warm(t, store, tokens.Row("users", 2))
	warm(t, store, tokens.Row("users", 3))
	ctx, s := newKit(t, request.Config{Tokens: store, MaxIdentifiers: 2, Logger: slog.New(slog.DiscardHandler)}).Open(t.Context())
	var list []any
	for i := range 99 {
		list = append(list, tokens.Row("users", 1+i%2))
	}
	if err := s.Prefetch(ctx, list...); err != nil {
		t.Fatal(err)
	}
	judged(t, "the first", key(t, ctx, tokens.Row("users", 1)), true, 0)
	judged(t, "the second", key(t, ctx, tokens.Row("users", 2)), true, 0)
	judged(t, "all", key(t, ctx, list...), true, 0)
	judged(t, "the third", key(t, ctx, tokens.Row("users", 3)), false, request.TooMany)
	ctx, _ = newKit(t, request.Config{Tokens: store, MaxIdentifiers: 2, Logger: slog.New(slog.DiscardHandler)}).Open(t.Context())
	judged(t, "a third among them", key(t, ctx, append(list, tokens.Row("users", 3))...), false, request.TooMany)
	judged(t, "all of the rest", key(t, ctx, list...), true, 0)
}

// TestLongIdentifierKeys: a row with a very long key has keys as any other, and they change with it.
func TestLongIdentifierKeys(t *testing.T) {
	store, _ := newStore(t)
	long := strings.Repeat("/path", 10_000)
	warm(t, store, tokens.Row("files", long), tokens.Row("files", long+"x"))
	kit := newKit(t, request.Config{Tokens: store})
	ctx, _ := kit.Open(t.Context())
	k, other := key(t, ctx, tokens.Row("files", long)), key(t, ctx, tokens.Row("files", long+"x"))
	judged(t, "a long key", k, true, 0)
	if len(k.String()) > 200 || k.String() == other.String() {
		t.Errorf("the keys are %.300q and %.300q", k, other)
	}
	publish(t, store, tokens.Row("files", long))
	ctx, _ = kit.Open(t.Context())
	if again := key(t, ctx, tokens.Row("files", long)); again.String() == k.String() {
		t.Error("its key has not changed")
	}
	if again := key(t, ctx, tokens.Row("files", long+"x")); again.String() != other.String() {
		t.Error("another's key has changed")
	}
	if id := fmt.Sprint("alkey:files#", strings.Repeat("%2Fpath", 10_000)); key(t, ctx, id).String() != key(t, ctx, tokens.Row("files", long)).String() {
		t.Error("the identifier's text gives another key")
	}
}

// TestIdentifiersCountOnce: one that a request asks for again and again takes the room of one.
func TestIdentifiersCountOnce(t *testing.T) {
	store, _ := newStore(t)
	row := func(i int) tokens.ID { return tokens.Row("users", i) }
	for i := range 4 {
		warm(t, store, row(i))
	}
	for name, again := range map[string][]any{
		"within the bound": {row(0), row(0), row(1)},
		"past the bound":   {row(0), row(0), row(1), row(1), row(1)},
	} {
		t.Run(name, func(t *testing.T) {
			kit := newKit(t, request.Config{Tokens: store, MaxIdentifiers: 3, Logger: slog.New(slog.DiscardHandler)})
			ctx, s := kit.Open(t.Context())
			if err := s.Prefetch(ctx, again...); err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				judged(t, "one of three", key(t, ctx, row(i)), true, 0)
			}
			judged(t, "the fourth", key(t, ctx, row(3)), false, request.TooMany)
		})
	}
}
