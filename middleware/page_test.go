package middleware_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/middleware"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// stores runs a test with every kind of value store.
func stores(t *testing.T, test func(t *testing.T, config middleware.Config)) {
	for _, kind := range []string{"memory", "redis", "tiered", "all on redis"} {
		t.Run(kind, func(t *testing.T) {
			var config middleware.Config
			if kind != "memory" {
				client := redis.NewClient(&redis.Options{Addr: testserver.Redis(t).Addr(), ContextTimeoutEnabled: true})
				t.Cleanup(func() { _ = client.Close() })
				// The machine may be busy: what is slow would be a miss.
				config.Values = cache.NewRedisWith(client, cache.RedisOptions{Timeout: 20 * time.Second})
				t.Cleanup(func() { _ = config.Values.Close() })
				switch kind {
				case "tiered":
					config.Values = cache.Tiered(cache.NewMemory(1<<20), config.Values)
				case "all on redis":
					backend, err := tokens.NewRedisBackend(tokens.RedisOptions{Client: client})
					if err != nil {
						t.Fatal(err)
					}
					store := tokens.New(backend, tokens.WithReadTimeout(20*time.Second), tokens.WithWriteTimeout(20*time.Second))
					t.Cleanup(func() { _ = store.Close() })
					config.Tokens = store
					// A server that nobody knew is swept, and what is swept is fenced for a moment.
					eventually(t, "the store is ready", func() bool {
						k, err := request.New(middleware.Config{Tokens: store, Logger: slog.New(slog.DiscardHandler)})
						if err != nil {
							t.Fatal(err)
						}
						ctx, s := k.Open(context.Background())
						key, err := s.Key(ctx, article1, article2, articles, tokens.Global)
						return err == nil && key.Storable()
					})
				}
			}
			test(t, config)
		})
	}
}

func TestPageIsKept(t *testing.T) {
	stores(t, func(t *testing.T, config middleware.Config) {
		n := 0
		w := newSite(t, setup{config: config, handler: func(w http.ResponseWriter, r *http.Request) {
			n++
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("X-Own", "own")
			_ = request.CacheKey(r, article2)
			fmt.Fprintf(w, "version %d", n)
		}})
		same := func(what, body string, runs int64) {
			t.Helper()
			for range 3 {
				if a := w.get("/"); a.StatusCode != 200 || a.body != body || a.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
					t.Errorf("%s: %d %q %v", what, a.StatusCode, a.body, a.Header)
				}
			}
			w.ran(what, runs)
		}
		same("at first", "version 1", 1)
		w.publish(article1)
		same("what the key names has changed", "version 2", 1)
		w.publish(article2)
		same("what the handler has asked for has changed", "version 3", 1)
		w.publish(tokens.Row("articles", 3))
		same("something else has changed", "version 3", 0)
		if a := w.get("/"); a.Header.Get("X-Own") != "" {
			t.Error("a header that is not listed is kept")
		}
	})
}

// TestPageUnnamed: a page without arguments depends on what its handler asks for.
func TestPageUnnamed(t *testing.T) {
	w := newSite(t, setup{
		key: func(*http.Request) []any { return []any{} },
		handler: func(w http.ResponseWriter, r *http.Request) {
			v, err := request.Fetch(r.Context(), func(context.Context) (string, error) { return "value", nil }, article1)
			fmt.Fprint(w, v, err)
		},
	})
	w.get("/")
	w.get("/")
	w.ran("at first", 1)
	w.publish(article1)
	w.get("/")
	w.get("/")
	w.ran("after a change", 1)
}

func TestPageWithoutKey(t *testing.T) {
	w := newSite(t, setup{
		key: func(r *http.Request) []any {
			switch r.URL.Path {
			case "/nil":
				return nil
			case "/bad":
				return []any{func() {}}
			}
			return []any{"page"}
		},
		handler: text("a"),
	})
	for range 3 {
		for _, path := range []string{"/nil", "/bad"} {
			if a := w.get(path); a.body != "a" {
				t.Errorf("%s: %q", path, a.body)
			}
		}
	}
	w.ran("nil and unstable", 6)
	if n := strings.Count(w.log.String(), "not cached"); n != 1 {
		t.Errorf("%d complaints: %s", n, w.log)
	}
	for what, fn := range map[string]func(){
		"no key":   func() { middleware.CachePage(nil) },
		"limit":    func() { middleware.PageLimit(0) },
		"cookie":   func() { middleware.PageHeaders("set-cookie") },
		"no token": func() { middleware.PageHeaders("a b") },
		"no scope": func() {
			get(middleware.CachePage(func(*http.Request) []any { return []any{1} })(text("a")))
		},
	} {
		func() {
			defer func() {
				if p, ok := recover().(string); !ok || !strings.HasPrefix(p, "alkey: ") {
					t.Errorf("%s: recovered %v", what, p)
				}
			}()
			fn()
		}()
	}
}

// TestPageURL: what of the URL tells pages apart.
func TestPageURL(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Query()["page"], r.Host, r.URL.Path) }
	for _, c := range []struct {
		name     string
		opts     []middleware.PageOption
		one, two []string
		same     bool
	}{
		{"the path", nil, []string{"/a"}, []string{"/b"}, false},
		{"an encoded slash", nil, []string{"/a/b"}, []string{"/a%2Fb"}, false},
		{"a question mark in the path", nil, []string{"/a?b"}, []string{"/a%3Fb"}, false},
		{"the query", nil, []string{"/?page=1"}, []string{"/?page=2"}, false},
		{"none", nil, []string{"/"}, []string{"/?page=2"}, false},
		{"an empty one", nil, []string{"/"}, []string{"/?"}, true},
		{"in another order", nil, []string{"/?page=1&a=b"}, []string{"/?a=b&page=1"}, true},
		{"values in another order", nil, []string{"/?page=1&page=2"}, []string{"/?page=2&page=1"}, false},
		{"unknown ones", nil, []string{"/"}, []string{"/?utm=1"}, false},
		{"malformed ones", nil, []string{"/?page=1;x"}, []string{"/?page=1;y"}, false},
		{"one of the named", []middleware.PageOption{middleware.PageQuery("page", "sort")}, []string{"/?page=1"}, []string{"/?page=2"}, false},
		{"none of the named", []middleware.PageOption{middleware.PageQuery("page", "sort")}, []string{"/?page=1"}, []string{"/?page=1&utm=2"}, true},
		{"malformed ones of the named", []middleware.PageOption{middleware.PageQuery("page")}, []string{"/?page=1;x"}, []string{"/?page=2;x"}, false},
		{"malformed ones, none is named", []middleware.PageOption{middleware.PageQuery()}, []string{"/?page=1;x"}, []string{"/?page=2;x"}, true},
		{"by two options", []middleware.PageOption{middleware.PageQuery("sort"), middleware.PageQuery("page")}, []string{"/?page=1"}, []string{"/?page=2"}, false},
		{"none is named", []middleware.PageOption{middleware.PageQuery()}, []string{"/?a=1"}, []string{"/?a=2"}, true},
		{"the host", nil, []string{"/"}, []string{"/", "Host", "evil.example"}, false},
		{"the host's letters", nil, []string{"/", "Host", "a.example"}, []string{"/", "Host", "A.example"}, true},
	} {
		w := newSite(t, setup{opts: c.opts, handler: echo})
		w.get(c.one[0], c.one[1:]...)
		a := w.get(c.two[0], c.two[1:]...)
		if same := w.runs.Load() == 1; same != c.same {
			t.Errorf("%s: the same page is %t", c.name, same)
		}
		w.runs.Store(0)
		if b := w.get(c.two[0], c.two[1:]...); b.body != a.body {
			t.Errorf("%s: %q and %q", c.name, a.body, b.body)
		}
		w.ran(c.name, 0)
	}
}

// TestPageHosts: who sends a host that looks like a part of a URL, which HTTP/2 servers let pass, gets no
// page of another path, and makes none for others.
func TestPageHosts(t *testing.T) {
	w := newSite(t, setup{handler: func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%q %q", r.Host, r.URL.Path) }})
	for _, c := range [][4]string{ // host and path of the one and of the other
		{"a.example/b", "/c", "a.example", "/b/c"},
		{"a.example/b /b", "/", "a.example", "/b"},
		{"a.example?b=/", "/", "a.example", "/?b=/"},
		{"a.example%2fb", "/", "a.example/b", "/"},
	} {
		for i := 0; i < 4; i += 2 {
			r := httptest.NewRequest("GET", c[i+1], nil)
			r.Host = c[i]
			got := httptest.NewRecorder()
			w.Config.Handler.ServeHTTP(got, r)
			if want := fmt.Sprintf("%q %q", r.Host, r.URL.Path); got.Body.String() != want {
				t.Errorf("%s got %s", want, got.Body)
			}
		}
	}
}

// TestPageRewritten: two paths that a middleware has made one are two.
func TestPageRewritten(t *testing.T) {
	strip := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			was := r.URL.Path
			url := *r.URL
			again := r.WithContext(context.WithValue(r.Context(), pathKey{}, was))
			again.URL = &url
			again.URL.Path = "/x"
			next.ServeHTTP(w, again)
		})
	}
	w := newSite(t, setup{outside: []func(http.Handler) http.Handler{strip}, handler: func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Context().Value(pathKey{}))
	}})
	for range 2 {
		if a, b := w.get("/a/x").body, w.get("/b/x").body; a != "/a/x" || b != "/b/x" {
			t.Errorf("%q and %q", a, b)
		}
	}
	w.ran("rewritten", 2)
}

type pathKey struct{}

// TestPageOptionsAmongArguments: TTL and the like are no part of the key.
func TestPageOptionsAmongArguments(t *testing.T) {
	values := cache.NewMemory(1 << 20)
	w := newSite(t, setup{
		config:  middleware.Config{Values: values},
		key:     func(*http.Request) []any { return []any{article1, request.TTL(1)} }, // a nanosecond
		handler: text("a"),
	})
	w.get("/")
	w.get("/")
	w.ran("past its ttl", 2)
}

// TestPageIsJudged: what a request may not store it does not, and what it may not be served it makes.
func TestPageIsJudged(t *testing.T) {
	var w *site
	write := func(how func(r *http.Request)) *site {
		return newSite(t, setup{handler: func(rw http.ResponseWriter, r *http.Request) {
			_ = request.CacheKey(r, article2)
			how(r)
			_, _ = io.WriteString(rw, "a")
		}})
	}
	twice := func(what string, want int64) {
		t.Helper()
		w.get("/")
		w.get("/")
		w.ran(what, want)
	}
	w = write(func(*http.Request) {})
	twice("nothing", 1)

	w = write(func(r *http.Request) {
		if err := txscope.Changed(r.Context(), article1); err != nil {
			t.Error(err)
		}
	})
	twice("it changes what its key names", 2)

	var open *tokens.Writes
	w = write(func(*http.Request) {
		open = w.store.Ledger().Begin()
		open.Add(article2)
	})
	w.get("/")
	open.End(tokens.RolledBack)
	w.get("/")
	open.End(tokens.RolledBack)
	w.ran("a transaction is open that changes what it asks for", 2)

	w = write(func(r *http.Request) { w.publish(article2) })
	w.get("/")
	w.get("/")
	w.ran("a commit of somebody else while it is made", 2)

	w = write(func(*http.Request) {})
	w.get("/")
	owner := tokens.NewOwner()
	if err := w.store.Fence(t.Context(), owner, tokens.NewChanges(article2), 1<<40); err != nil {
		t.Fatal(err)
	}
	w.ran("before", 1)
	twice("fenced", 2)
	if err := w.store.Release(t.Context(), owner, tokens.NewChanges(article2)); err != nil {
		t.Fatal(err)
	}
	twice("released", 0)
}

// TestPageInsideItself: what the inner one of two requests for a page gets is not the page, whatever
// becomes of the outer one.
func TestPageInsideItself(t *testing.T) {
	for _, kept := range []bool{true, false} {
		var w *site
		w = newSite(t, setup{handler: func(rw http.ResponseWriter, r *http.Request) {
			if r.Context().Value(pathKey{}) != nil {
				_, _ = io.WriteString(rw, "inner")
				return
			}
			inner := httptest.NewRecorder()
			w.Config.Handler.ServeHTTP(inner, r.WithContext(context.WithValue(r.Context(), pathKey{}, "inner")))
			if !kept {
				rw.Header().Set("Set-Cookie", "a=1")
			}
			_, _ = io.WriteString(rw, "outer "+inner.Body.String())
		}})
		for range 2 {
			if a := w.get("/"); a.body != "outer inner" {
				t.Errorf("%q", a.body)
			}
		}
		w.ran(fmt.Sprintf("kept=%t", kept), map[bool]int64{true: 2, false: 4}[kept])
	}
}

// TestPageInsidePage: a page that is inside itself is stored once; one inside another hands on what it
// depends on.
func TestPageInsidePage(t *testing.T) {
	same := middleware.CachePage(func(*http.Request) []any { return []any{article1, "page"} })
	other := middleware.CachePage(func(*http.Request) []any { return []any{article2, "inner"} })
	w := newSite(t, setup{inside: []func(http.Handler) http.Handler{same, other}, handler: text("a")})
	for i, id := range []tokens.ID{article1, article2} {
		for range 2 {
			if a := w.get("/"); a.body != "a" {
				t.Errorf("%q", a.body)
			}
		}
		if i == 0 {
			w.ran("at first", 1)
		}
		w.publish(id)
	}
	w.runs.Store(0)
	w.get("/")
	w.get("/")
	w.ran("after the inner one has changed", 1)
}
