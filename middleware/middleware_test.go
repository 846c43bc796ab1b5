package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"go.uber.org/goleak"

	"github.com/alkey-go/alkey/middleware"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newStore(t testing.TB) *tokens.Store {
	s := tokens.NewMemory()
	s.AddDatabase()
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newMiddleware(t testing.TB, cfg middleware.Config) func(http.Handler) http.Handler {
	t.Helper()
	m, err := middleware.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func get(h http.Handler) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/users/1", nil))
	return w
}

func TestConfigIsChecked(t *testing.T) {
	m, err := middleware.New(middleware.Config{})
	if m != nil || !errors.Is(err, request.ErrConfig) || !strings.Contains(err.Error(), "Config.Tokens") {
		t.Errorf("%v", err)
	}
}

func TestScopeForEachRequest(t *testing.T) {
	m := newMiddleware(t, middleware.Config{Tokens: newStore(t)})
	seen := map[*request.Scope]bool{}
	h := m(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, ok := request.FromContext(r.Context())
		if !ok {
			t.Error("the request has no scope")
		}
		seen[s] = true
		fmt.Fprint(w, request.CacheKey(r, tokens.Row("users", 1), "page"))
	}))
	texts := map[string]bool{}
	for range 4 {
		texts[get(h).Body.String()] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d scopes for 4 requests", len(seen))
	}
	if len(texts) != 2 {
		t.Errorf("a one-shot key and three equal ones were expected: %v", texts)
	}
}

// TestMountedTwice: in nested routers, and twice on one, the outer scope is the scope.
func TestMountedTwice(t *testing.T) {
	m := newMiddleware(t, middleware.Config{Tokens: newStore(t)})
	var outer *http.Request
	note := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			outer = r
			next.ServeHTTP(w, r)
		})
	}
	inner := chi.NewRouter()
	inner.Use(m)
	inner.Get("/{id}", func(_ http.ResponseWriter, r *http.Request) {
		a, _ := request.FromContext(outer.Context())
		b, _ := request.FromContext(r.Context())
		if a == nil || a != b {
			t.Error("the nested router opened another scope")
		}
		if chi.URLParam(r, "id") != "1" {
			t.Error("the route's parameters are lost")
		}
	})
	r := chi.NewRouter()
	r.Use(m, m, note)
	r.Mount("/users", inner)
	if w := get(r); w.Code != http.StatusOK {
		t.Errorf("status %d", w.Code)
	}

	same := false
	get(note(m(m(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		get := m(http.HandlerFunc(func(_ http.ResponseWriter, again *http.Request) { same = again == r }))
		get.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
		get.ServeHTTP(httptest.NewRecorder(), r)
	})))))
	if !same {
		t.Error("a request with a scope is copied")
	}
}

func TestPanicsPass(t *testing.T) {
	m := newMiddleware(t, middleware.Config{Tokens: newStore(t)})
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("recovered %v", p)
		}
	}()
	get(m(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })))
}

// TestFor: jobs and requests share a Kit.
func TestFor(t *testing.T) {
	kit, err := request.New(request.Config{Tokens: newStore(t)})
	if err != nil {
		t.Fatal(err)
	}
	get(middleware.For(kit)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if s, _ := request.FromContext(r.Context()); s == nil || s.Kit() != kit {
			t.Error("the scope is of another Kit")
		}
	})))
}

// elsewhere is a backend that is not in process, as far as a Store can tell.
type elsewhere struct{ tokens.Backend }

func TestWarnsOfTwoStores(t *testing.T) {
	for _, c := range []struct {
		name  string
		store func() *tokens.Store
		lines int
	}{
		{"in process and no database", tokens.NewMemory, 1},
		{"in process with a database", func() *tokens.Store { return newStore(t) }, 0},
		{"elsewhere", func() *tokens.Store {
			return tokens.New(elsewhere{tokens.NewMemoryBackend(tokens.MemoryOptions{})})
		}, 0},
	} {
		var (
			mu  sync.Mutex
			log bytes.Buffer
		)
		logger := slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return log.Write(p)
		}), nil))
		store := c.store()
		h := newMiddleware(t, middleware.Config{Tokens: store, Logger: logger})(http.NotFoundHandler())
		if log.Len() > 0 {
			t.Errorf("%s: warned before the first request: %s", c.name, &log)
		}
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() { get(h) })
		}
		wg.Wait()
		if n := strings.Count(log.String(), "the same store"); n != c.lines {
			t.Errorf("%s: %d warnings, want %d: %s", c.name, n, c.lines, &log)
		}
		_ = store.Close()
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// BenchmarkMiddleware is what a request costs before its handler does anything.
func BenchmarkMiddleware(b *testing.B) {
	bare := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	run := func(b *testing.B, h http.Handler) {
		r := httptest.NewRequestWithContext(context.Background(), "GET", "/", nil)
		w := httptest.NewRecorder()
		b.ReportAllocs()
		for b.Loop() {
			h.ServeHTTP(w, r)
		}
	}
	b.Run("by=baseline", func(b *testing.B) { run(b, bare) })
	m := newMiddleware(b, middleware.Config{Tokens: newStore(b)})
	b.Run("by=alkey", func(b *testing.B) { run(b, m(bare)) })
	b.Run("by=alkey-twice", func(b *testing.B) { run(b, m(m(bare))) })
}

func ExampleNew() {
	store := tokens.NewMemory()
	defer store.Close()
	store.AddDatabase() // as alkey.Open does
	m, err := middleware.New(middleware.Config{Tokens: store})
	if err != nil {
		fmt.Println(err)
		return
	}
	r := chi.NewRouter()
	r.Use(m)
	r.Get("/users/{id}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, request.CacheKey(r, "page", chi.URLParam(r, "id")))
	})
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest("GET", "/users/1", nil))
	fmt.Print(w.Body)
	// Output: page/1
}
