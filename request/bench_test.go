package request_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/internal/versus"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
)

// benchmarkScope is a request that finds what it asks for, in process.
func benchmarkScope(b *testing.B) (context.Context, *request.Scope, []*user) {
	b.Helper()
	store := tokens.NewMemory()
	b.Cleanup(func() { _ = store.Close() })
	users := make([]*user, 100)
	for i := range users {
		users[i] = &user{ID: 1000 + i, Name: "Ann"}
	}
	kit := newKit(b, request.Config{Tokens: store})
	ctx, scope := kit.Open(b.Context())
	if err := scope.Prefetch(ctx, users); err != nil {
		b.Fatal(err)
	}
	ctx, scope = kit.Open(b.Context())
	if err := scope.Prefetch(ctx, users); err != nil {
		b.Fatal(err)
	}
	return ctx, scope, users
}

// BenchmarkKey is the key of one instance and one text with its token in the scope, as text.
func BenchmarkKey(b *testing.B) {
	ctx, scope, users := benchmarkScope(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		k, err := scope.Key(ctx, users[i%len(users)], "page")
		if err != nil || len(k.String()) != len("hof5npxcjl/alkey:users#1000/page") {
			b.Fatal(k, err)
		}
		i++
	}
}

// BenchmarkCacheKey is the same through the request.
func BenchmarkCacheKey(b *testing.B) {
	ctx, _, users := benchmarkScope(b)
	r := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if k := request.CacheKey(r, users[i%len(users)], "page"); len(k) != len("hof5npxcjl/alkey:users#1000/page") {
			b.Fatal(k)
		}
		i++
	}
}

// BenchmarkPrefetch reads the tokens of 100 rows in one request, in process.
func BenchmarkPrefetch(b *testing.B) {
	_, scope, users := benchmarkScope(b)
	kit := scope.Kit()
	b.ReportAllocs()
	for b.Loop() {
		ctx, s := kit.Open(b.Context())
		if err := s.Prefetch(ctx, users); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFetchHit is a hit in process with the tokens in the scope.
func BenchmarkFetchHit(b *testing.B) {
	b.Run("string", func(b *testing.B) { fetchHit(b, string(make([]byte, 300))) })
	b.Run("bytes", func(b *testing.B) { fetchHit(b, make([]byte, 300)) })
	b.Run("struct", func(b *testing.B) { fetchHit(b, user{ID: 1, Name: "Ann"}) })
}

func fetchHit[T any](b *testing.B, v T) {
	get := storedValues(b, v)
	b.ReportAllocs()
	for b.Loop() {
		get()
	}
}

// storedValues stores a value for each of a hundred users and returns how to fetch one after the other.
func storedValues[T any](b *testing.B, v T) (get func()) {
	ctx, _, users := benchmarkScope(b)
	for _, u := range users {
		if _, err := request.Fetch(ctx, func(context.Context) (T, error) { return v, nil }, u, "page"); err != nil {
			b.Fatal(err)
		}
	}
	i := 0
	return func() {
		_, err := request.Fetch(ctx, func(context.Context) (T, error) {
			b.Fatal("a miss")
			return v, nil
		}, users[i%len(users)], "page")
		if err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkFetchHitVersus compares a hit of 300 bytes with what somebody needs who knows the key: one
// look into the same store, and a copy.
func BenchmarkFetchHitVersus(b *testing.B) {
	values := cache.NewMemory(64 << 20)
	keys := make([]string, 100)
	for i := range keys {
		keys[i] = tokens.Row("users", 1000+i).String() + "/page"
		if err := values.Set(b.Context(), keys[i], make([]byte, 300), 0); err != nil {
			b.Fatal(err)
		}
	}
	i, text := 0, ""
	versus.Run(b, func() {
		v, ok := values.Lookup(keys[i%len(keys)])
		if text = string(v); !ok || len(text) != 300 {
			b.Fatal("a miss")
		}
		i++
	}, storedValues(b, string(make([]byte, 300))))
}

// BenchmarkFetchMiss is a fill that returns at once, its flight, and the value stored.
func BenchmarkFetchMiss(b *testing.B) {
	ctx, _, users := benchmarkScope(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		_, err := request.Fetch(ctx, func(context.Context) (string, error) { return "value", nil }, users[i%len(users)], i)
		if err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkResolve is a page of a hundred parts that are found in process.
func BenchmarkResolve(b *testing.B) {
	ctx, scope, users := benchmarkScope(b)
	kit := scope.Kit()
	text := make([]byte, 300)
	page := func(ctx context.Context) {
		parts := make([]request.Part, len(users))
		list := make([]*request.Part, len(users))
		for i, u := range users {
			parts[i] = request.Part{Args: []any{u, "row"}, Fill: func(context.Context) ([]request.Piece, error) {
				return []request.Piece{{Text: text}}, nil
			}}
			list[i] = &parts[i]
		}
		if err := request.Resolve(ctx, list...); err != nil {
			b.Fatal(err)
		}
	}
	page(ctx)
	b.ReportAllocs()
	for b.Loop() {
		ctx, _ := kit.Open(b.Context())
		page(ctx)
	}
}

// BenchmarkNotModified answers 304, with the tokens in the scope.
func BenchmarkNotModified(b *testing.B) {
	ctx, _, users := benchmarkScope(b)
	r := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
	w := httptest.NewRecorder()
	request.NotModified(w, r, users[0], "page")
	r.Header.Set("If-None-Match", w.Header().Get("ETag"))
	b.ReportAllocs()
	for b.Loop() {
		if !request.NotModified(httptest.NewRecorder(), r, users[0], "page") {
			b.Fatal("modified")
		}
	}
}

// BenchmarkNotModifiedVersus is a request that is answered by 304 with its tokens on Redis, its scope
// included, beside a plain MGET of the same keys and a 304.
func BenchmarkNotModifiedVersus(b *testing.B) {
	client := redis.NewClient(&redis.Options{Addr: testserver.Redis(b).Addr(), ContextTimeoutEnabled: true})
	b.Cleanup(func() { _ = client.Close() })
	backend, err := tokens.NewRedisBackend(tokens.RedisOptions{Client: client})
	if err != nil {
		b.Fatal(err)
	}
	// A machine that stalls must not count as an outage here.
	store := tokens.New(backend, tokens.WithReadTimeout(10*time.Second), tokens.WithWriteTimeout(10*time.Second))
	b.Cleanup(func() { _ = store.Close() })
	tokenstest.Ready(b, store)
	kit := newKit(b, request.Config{Tokens: store})
	for _, n := range []int{1, 10} {
		args := []any{"page"}
		keys := []string{"alkey.cache.TOKENS:clock"}
		for i := range n {
			args = append(args, &user{ID: 1000 + i})
			keys = append(keys, "alkey.cache.TOKENS:"+tokens.Row("users", 1000+i).String())
		}
		keys = append(keys, "alkey.cache.TOKENS:alkey:users#!", "alkey.cache.TOKENS:alkey:*#!")
		plain := httptest.NewRequest("GET", "/", nil)
		ask := func(etag string) (*httptest.ResponseRecorder, bool) {
			ctx, _ := kit.Open(b.Context())
			r := plain.WithContext(ctx)
			r.Header["If-None-Match"] = []string{etag}
			w := httptest.NewRecorder()
			return w, request.NotModified(w, r, args...)
		}
		ask("") // makes the records
		first, _ := ask("")
		etag := first.Header().Get("ETag")
		if etag == "" {
			b.Fatal("no ETag")
		}
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			versus.Run(b, func() {
				r := plain.WithContext(b.Context())
				r.Header["If-None-Match"] = []string{etag}
				w := httptest.NewRecorder()
				if err := client.MGet(b.Context(), keys...).Err(); err != nil {
					b.Fatal(err)
				}
				h := w.Header()
				h.Set("Cache-Control", "private, no-cache")
				h.Set("Vary", "Cookie")
				h.Set("ETag", etag)
				w.WriteHeader(http.StatusNotModified)
			}, func() {
				if _, sent := ask(etag); !sent {
					b.Fatal("modified")
				}
			})
		})
	}
}
