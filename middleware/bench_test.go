package middleware_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/internal/versus"
	"github.com/alkey-go/alkey/middleware"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
)

// discard is a ResponseWriter that costs nothing.
type discard struct {
	header http.Header
	n      int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { d.n += len(p); return len(p), nil }
func (d *discard) Flush()                      {}

// BenchmarkPageHit is a page that is found, beside a handler that writes the same bytes; with tokens and
// values on Redis beside one that gets them by two raw MGETs at once.
func BenchmarkPageHit(b *testing.B) {
	for _, size := range []int{300, 3000, 100_000} {
		body := make([]byte, size)
		_, _ = rand.Read(body)
		body = []byte(base64.StdEncoding.EncodeToString(body))[:size]
		write := func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Content-Type", "text/html; charset=utf-8")
			h.Set("Cache-Control", "no-cache")
			h.Set("ETag", `"a"`)
			_, _ = w.Write(body)
		}
		for _, place := range []string{"process", "redis"} {
			b.Run(fmt.Sprintf("size=%d/in=%s", size, place), func(b *testing.B) {
				config := middleware.Config{Tokens: newStore(b), Version: "bench", Logger: slog.New(slog.DiscardHandler)}
				baseline := http.HandlerFunc(write)
				if place == "redis" {
					client := redis.NewClient(&redis.Options{Addr: testserver.Redis(b).Addr(), ContextTimeoutEnabled: true})
					b.Cleanup(func() { _ = client.Close() })
					store, err := tokens.NewRedis(b.Context(), tokens.RedisOptions{Client: client})
					if err != nil {
						b.Fatal(err)
					}
					b.Cleanup(func() { _ = store.Close() })
					tokenstest.Ready(b, store)
					values := cache.NewRedis(client, 0)
					b.Cleanup(func() { _ = values.Close() })
					config.Tokens, config.Values = store, values
					ctx := context.Background()
					if err := client.MSet(ctx, "a", "1", "b", "2", "c", "3", "value", body).Err(); err != nil {
						b.Fatal(err)
					}
					baseline = func(w http.ResponseWriter, r *http.Request) {
						done := make(chan []any)
						go func() { done <- client.MGet(ctx, "value").Val() }()
						if err := client.MGet(ctx, "a", "b", "c").Err(); err != nil {
							b.Error(err)
						}
						v := <-done
						h := w.Header()
						h.Set("Content-Type", "text/html; charset=utf-8")
						h.Set("Cache-Control", "no-cache")
						h.Set("ETag", `"a"`)
						_, _ = io.WriteString(w, v[0].(string))
					}
				}
				key := func(*http.Request) []any { return []any{article1, "page"} }
				h := newMiddleware(b, config)(middleware.CachePage(key)(http.HandlerFunc(write)))
				r := httptest.NewRequest("GET", "/articles/1", nil)
				r.RequestURI = "/articles/1"
				serve := func(h http.Handler) {
					w := &discard{header: make(http.Header, 4)}
					if h.ServeHTTP(w, r); w.n != size {
						b.Fatalf("%d bytes", w.n)
					}
				}
				ran := false
				probe := newMiddleware(b, config)(middleware.CachePage(key)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					ran = true
					write(w, r)
				})))
				eventually(b, "it is stored", func() bool {
					serve(h)
					ran = false
					serve(probe)
					return !ran
				})
				versus.Run(b, func() { serve(baseline) }, func() { serve(h) })
			})
		}
	}
}

// BenchmarkPageMiss is what it costs that a page is looked for, made and stored.
func BenchmarkPageMiss(b *testing.B) {
	config := middleware.Config{Tokens: newStore(b), Version: "bench", Logger: slog.New(slog.DiscardHandler)}
	page := text(string(make([]byte, 3000)))
	h := newMiddleware(b, config)(middleware.CachePage(func(r *http.Request) []any { return []any{r.Header.Get("X-Number")} })(page))
	i := 0
	serve := func(h http.Handler) {
		r := httptest.NewRequest("GET", "/", nil)
		i++
		r.Header.Set("X-Number", strconv.Itoa(i))
		h.ServeHTTP(&discard{header: make(http.Header, 4)}, r)
	}
	versus.Run(b, func() { serve(page) }, func() { serve(h) })
}

// BenchmarkETagCheck is what it costs that the header is checked before it is written: a page of a handler
// that calls NotModified, beside the same below the scope alone.
func BenchmarkETagCheck(b *testing.B) {
	kit, err := request.New(middleware.Config{Tokens: newStore(b), Version: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request.NotModified(w, r, article1)
		w.WriteHeader(http.StatusOK)
	})
	scoped := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, _ := kit.Open(r.Context())
		page(w, r.WithContext(ctx))
	})
	h := middleware.For(kit)(page)
	r := httptest.NewRequest("GET", "/", nil)
	serve := func(h http.Handler) { h.ServeHTTP(&discard{header: make(http.Header, 4)}, r) }
	versus.Run(b, func() { serve(scoped) }, func() { serve(h) })
}
