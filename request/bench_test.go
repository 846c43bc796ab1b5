package request_test

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
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
	ctx, _, users := benchmarkScope(b)
	for _, u := range users {
		if _, err := request.Fetch(ctx, func(context.Context) (T, error) { return v, nil }, u, "page"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
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
