package middleware_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alkey-go/alkey/middleware"
	"github.com/alkey-go/alkey/request"
)

// TestManyUsers: while handlers fail in all ways, clients leave and data changes, nobody gets what was made
// for somebody else, and nobody what was cut short for another.
func TestManyUsers(t *testing.T) {
	stores(t, func(t *testing.T, config middleware.Config) {
		var n, cut atomic.Int64
		var calm atomic.Bool
		page := func(who string) string { return strings.Repeat(who+" ", 1000) }
		w := newSite(t, setup{config: config, handler: func(w http.ResponseWriter, r *http.Request) {
			who := r.Header.Get("Cookie")
			w.Header().Set("Vary", "Cookie")
			_ = request.CacheKey(r, article2)
			how := n.Add(1) % 13
			if calm.Load() {
				how = 0
			}
			switch how {
			case 3, 5:
				cut.Add(1)
				_, _ = io.WriteString(w, "cut "+who)
				if how == 3 {
					panic(http.ErrAbortHandler)
				}
				http.Error(w, "error", 500)
				return
			case 7:
				w.Header().Set("Set-Cookie", "a=1")
			case 9:
				runtime.Gosched()
			case 11:
				_ = http.NewResponseController(w).Flush()
			}
			for range 1000 {
				_, _ = io.WriteString(w, who+" ")
			}
		}})
		var wg sync.WaitGroup
		var cuts atomic.Int64
		for i := range 8 {
			wg.Go(func() {
				for range 60 {
					who := "user=" + strconv.Itoa(rand.IntN(3))
					ctx, cancel := t.Context(), context.CancelFunc(func() {})
					if rand.IntN(4) == 0 {
						ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(3000))*time.Microsecond)
					}
					a, err := w.try(ctx, "GET", "/", "Cookie", who)
					cancel()
					switch {
					case err != nil: // it has left, or the handler has panicked
					case strings.HasPrefix(a.body, "cut "+who):
						cuts.Add(1)
					case a.body != page(who):
						t.Errorf("%s got %d %.60q", who, a.StatusCode, a.body)
					}
					if i == 0 && rand.IntN(8) == 0 {
						w.publish(article1, article2)
					}
				}
			})
		}
		wg.Wait()
		if n := cut.Load(); cuts.Load() > n {
			t.Errorf("%d got a page that was cut short %d times", cuts.Load(), n)
		}
		calm.Store(true)
		for i := range 3 {
			who := "user=" + strconv.Itoa(i)
			if a := w.get("/", "Cookie", who); a.body != page(who) {
				t.Errorf("%s at last: %.60q", who, a.body)
			}
		}
	})
}

// TestTimeoutHandler: what a handler does after http.TimeoutHandler has answered for it is not stored,
// whether that stands above CachePage or below, and disturbs nobody.
func TestTimeoutHandler(t *testing.T) {
	for _, above := range []bool{true, false} {
		limited := func(next http.Handler) http.Handler {
			short, long := http.TimeoutHandler(next, 20*time.Millisecond, "timeout"), http.TimeoutHandler(next, time.Minute, "timeout")
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Slow") != "" {
					short.ServeHTTP(w, r)
					return
				}
				long.ServeHTTP(w, r)
			})
		}
		keeps := middleware.CachePage(func(*http.Request) []any { return []any{article1} })
		var late atomic.Int64
		var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "pa")
			if r.Header.Get("X-Slow") == "" {
				_, _ = io.WriteString(w, "ge")
				return
			}
			late.Add(1)
			defer late.Add(-1)
			<-r.Context().Done()
			_ = request.CacheKey(r, article2)
			w.Header().Set("Content-Language", "de")
			_, _ = io.WriteString(w, "ge")
		})
		if above {
			h = limited(keeps(h))
		} else {
			h = keeps(limited(h))
		}
		store := newStore(t)
		w := &site{t: t, store: store, Server: httptest.NewServer(newMiddleware(t, middleware.Config{Tokens: store, Debug: true})(h))}
		t.Cleanup(w.Close)
		w.warm(article1, article2)
		c := &crowd{w: w}
		c.send(t.Context(), 5, "/", "X-Slow", "1")
		if b := c.bodies(); b["503 timeout"] != 5 {
			t.Errorf("above %t: %v", above, b)
		}
		eventually(t, "the handlers have returned", func() bool { return late.Load() == 0 })
		for range 2 {
			if a := w.get("/"); a.StatusCode != 200 || a.body != "page" {
				t.Errorf("above %t: %d %q", above, a.StatusCode, a.body)
			}
		}
	}
}
