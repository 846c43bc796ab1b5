package middleware_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/middleware"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

// crowd sends n requests at once and waits until the handler, which must wait too, has been reached.
type crowd struct {
	w       *site
	wg      sync.WaitGroup
	mu      sync.Mutex
	answers []answer
	errs    []error
}

func (c *crowd) send(ctx context.Context, n int, path string, header ...string) {
	for range n {
		c.wg.Go(func() {
			a, err := c.w.try(ctx, "GET", path, header...)
			c.mu.Lock()
			defer c.mu.Unlock()
			if err != nil {
				c.errs = append(c.errs, err)
				return
			}
			c.answers = append(c.answers, a)
		})
	}
}

// bodies returns how many of each body came back.
func (c *crowd) bodies() map[string]int {
	c.wg.Wait()
	n := map[string]int{}
	for _, a := range c.answers {
		n[fmt.Sprint(a.StatusCode, " ", a.body)]++
	}
	return n
}

// entering counts requests that have come in.
func entering(n *atomic.Int64) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.Add(1)
			next.ServeHTTP(w, r)
		})
	}
}

// TestOneMakesThePage: of requests at once one runs the handler.
func TestOneMakesThePage(t *testing.T) {
	stores(t, func(t *testing.T, config middleware.Config) {
		var in atomic.Int64
		gate := make(chan struct{})
		w := newSite(t, setup{config: config, outside: []func(http.Handler) http.Handler{entering(&in)}, handler: func(w http.ResponseWriter, r *http.Request) {
			_ = request.CacheKey(r, article2)
			<-gate
			fmt.Fprint(w, "page")
		}})
		c := &crowd{w: w}
		c.send(t.Context(), 20, "/")
		eventually(t, "all are in", func() bool { return in.Load() == 20 && w.runs.Load() > 0 })
		close(gate)
		if b := c.bodies(); b["200 page"] != 20 {
			t.Errorf("%v %v", b, c.errs)
		}
		w.ran("20 requests", 1)
	})
}

// TestWaitersJudge: who has waited takes what would be a hit for him.
func TestWaitersJudge(t *testing.T) {
	var in, n atomic.Int64
	gate := make(chan struct{})
	w := newSite(t, setup{outside: []func(http.Handler) http.Handler{entering(&in)}, handler: func(w http.ResponseWriter, r *http.Request) {
		k := n.Add(1)
		if k == 1 {
			<-gate
		}
		_ = request.CacheKey(r, article2)
		fmt.Fprint(w, k)
	}})
	c := &crowd{w: w}
	c.send(t.Context(), 1, "/")
	eventually(t, "the first is in", func() bool { return n.Load() == 1 })
	w.publish(article2) // after its scope was opened: its page may be old
	c.send(t.Context(), 5, "/")
	eventually(t, "all are in", func() bool { return in.Load() == 6 })
	close(gate)
	b := c.bodies()
	if b["200 1"] != 1 {
		t.Errorf("others have got the page of who began before the change: %v", b)
	}
}

// TestVariantsAtOnce: who waits and wants another variant makes his own.
func TestVariantsAtOnce(t *testing.T) {
	var in atomic.Int64
	gate := make(chan struct{})
	w := newSite(t, setup{outside: []func(http.Handler) http.Handler{entering(&in)}, handler: func(w http.ResponseWriter, r *http.Request) {
		<-gate
		w.Header().Set("Vary", "Accept-Language")
		fmt.Fprint(w, r.Header.Get("Accept-Language"))
	}})
	c := &crowd{w: w}
	for _, language := range []string{"de", "en", "fr"} {
		c.send(t.Context(), 8, "/", "Accept-Language", language)
	}
	eventually(t, "all are in", func() bool { return in.Load() == 24 && w.runs.Load() > 0 })
	close(gate)
	if b := c.bodies(); b["200 de"] != 8 || b["200 en"] != 8 || b["200 fr"] != 8 {
		t.Errorf("%v", b)
	}
	if n := w.runs.Load(); n > 5 {
		t.Errorf("the handler ran %d times for 3 variants", n)
	}
}

// bubble has a handler behind CachePage, which requests enter at the same time and leave when they are told
// to.
type bubble struct {
	http.Handler
	mu      sync.Mutex
	running map[string]int           // by language, all that have come in
	gates   map[string]chan struct{} // by language
	served  map[string]int           // by status and body
}

func newBubble(m func(http.Handler) http.Handler, answer http.HandlerFunc) *bubble {
	b := &bubble{running: map[string]int{}, gates: map[string]chan struct{}{}, served: map[string]int{}}
	page := middleware.CachePage(func(*http.Request) []any { return []any{article1, "page"} })
	b.Handler = m(page(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		language := r.Header.Get("Accept-Language")
		b.mu.Lock()
		b.running[language]++
		gate := b.gates[language]
		b.mu.Unlock()
		if gate != nil {
			<-gate
		}
		answer(w, r)
	})))
	return b
}

// send sends n requests, and waits until they can go no further.
func (b *bubble) send(n int, header ...string) {
	for range n {
		go func() {
			r := httptest.NewRequest("GET", "/", nil)
			for i := 0; i < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
			w := httptest.NewRecorder()
			b.ServeHTTP(w, r)
			b.mu.Lock()
			defer b.mu.Unlock()
			b.served[fmt.Sprint(w.Code, " ", w.Body)]++
		}()
	}
	synctest.Wait()
}

// let opens the gate of a language, and waits until all can go no further.
func (b *bubble) let(language string) {
	b.mu.Lock()
	close(b.gates[language])
	b.mu.Unlock()
	synctest.Wait()
}

// TestVariantsWait: who has waited and sees another variant waits for his own, and makes it if nobody does.
func TestVariantsWait(t *testing.T) {
	for name, values := range map[string]cache.Store{"in process": nil, "elsewhere": new(listing)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newStore(t)
				if _, err := store.Read(t.Context(), []tokens.ID{article1}); err != nil {
					t.Fatal(err)
				}
				b := newBubble(newMiddleware(t, middleware.Config{Tokens: store, Values: values, Version: "test"}), func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Vary", "Accept-Language")
					fmt.Fprint(w, r.Header.Get("Accept-Language"))
				})
				languages := []string{"de", "en", "fr"}
				for _, l := range languages {
					b.gates[l] = make(chan struct{})
				}
				for _, l := range languages {
					b.send(4, "Accept-Language", l)
				}
				if len(b.running) != 1 || b.running["de"] != 1 {
					t.Fatalf("at first: %v", b.running)
				}
				b.let("de")
				if b.served["200 de"] != 4 || b.running["en"] != 1 || b.running["fr"] != 1 {
					t.Errorf("when one variant is there: %v run, %v", b.running, b.served)
				}
				b.let("en")
				b.let("fr")
				if len(b.served) != 3 || b.served["200 en"] != 4 || b.served["200 fr"] != 4 || b.running["en"] != 1 || b.running["fr"] != 1 {
					t.Errorf("at last: %v run, %v", b.running, b.served)
				}
			})
		})
	}
}

// TestNotModifiedIsNoRefusal: a page that one client has already is one that others wait for.
func TestNotModifiedIsNoRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		if _, err := store.Read(t.Context(), []tokens.ID{article1}); err != nil {
			t.Fatal(err)
		}
		m := newMiddleware(t, middleware.Config{Tokens: store, Version: "test"})
		answer := func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-cache")
			if !request.NotModified(w, r, article1) {
				_, _ = io.WriteString(w, "page")
			}
		}
		tag := get(m(http.HandlerFunc(answer))).Header().Get("ETag") // from elsewhere: the page is not stored
		b := newBubble(m, answer)
		b.send(1, "If-None-Match", tag)
		if b.served["304 "] != 1 || tag == "" {
			t.Fatalf("tag %q: %v", tag, b.served)
		}
		b.gates[""] = make(chan struct{})
		b.send(5)
		if b.running[""] != 2 {
			t.Errorf("%d run, and they are to wait for one", b.running[""]-1)
		}
		b.let("")
		if b.served["200 page"] != 5 {
			t.Errorf("%v", b.served)
		}
	})
}

// TestClientGoesAway: what a handler writes when its client has gone is not stored, and those who have waited
// get the page, once more from one of them.
func TestClientGoesAway(t *testing.T) {
	for _, how := range []string{"blank", "half", "whole", "stays"} {
		var in, n atomic.Int64
		gone, gate := make(chan struct{}), make(chan struct{})
		w := newSite(t, setup{outside: []func(http.Handler) http.Handler{entering(&in)}, handler: func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				<-r.Context().Done()
				close(gone)
				switch how {
				case "half":
					_, _ = io.WriteString(w, "pa")
				case "whole":
					_, _ = io.WriteString(w, "page")
				case "stays":
					<-gate // without looking at its context
					_, _ = io.WriteString(w, "pa")
				}
				w.WriteHeader(200)
				return
			}
			_, _ = io.WriteString(w, "page")
		}})
		c := &crowd{w: w}
		ctx, leave := context.WithCancel(t.Context())
		c.send(ctx, 1, "/")
		eventually(t, "the first is in", func() bool { return n.Load() == 1 })
		c.send(t.Context(), 10, "/")
		eventually(t, "all are in", func() bool { return in.Load() == 11 })
		leave()
		<-gone
		if b := c.bodies(); b["200 page"] != 10 || len(b) != 1 {
			t.Errorf("%s: %v", how, b)
		}
		if len(c.errs) != 1 || !errors.Is(c.errs[0], context.Canceled) {
			t.Errorf("%s: %v", how, c.errs)
		}
		close(gate)
		w.ran(how, 2)
		if a := w.get("/"); a.body != "page" {
			t.Errorf("%s: stored is %q", how, a.body)
		}
	}
}

// TestBlankPage: a client that goes away leaves nothing, even if nobody else waits.
func TestBlankPage(t *testing.T) {
	done := make(chan struct{}, 1)
	first := true
	ctx, leave := context.WithCancel(t.Context())
	w := newSite(t, setup{config: middleware.Config{Values: new(listing)}, handler: func(w http.ResponseWriter, r *http.Request) {
		if first {
			first = false
			leave()
			<-r.Context().Done()
			w.WriteHeader(200)
			done <- struct{}{}
			return
		}
		_, _ = io.WriteString(w, "page")
	}})
	if _, err := w.try(ctx, "GET", "/"); err == nil {
		t.Error("no error")
	}
	<-done
	if a := w.get("/"); a.body != "page" {
		t.Errorf("%q", a.body)
	}
}

// TestTimedOut: an inner middleware answers for a handler that was too slow, when it has written half a page.
func TestTimedOut(t *testing.T) {
	slow := true
	w := newSite(t, setup{inside: []func(http.Handler) http.Handler{chimiddleware.Timeout(20 * time.Millisecond)}, handler: func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "pa")
		if slow {
			slow = false
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, "ge")
	}})
	w.get("/")
	if a := w.get("/"); a.body != "page" {
		t.Errorf("%q", a.body)
	}
}

// TestNobodyWaitsTooLong: who waits does so until his own context ends.
func TestNobodyWaitsTooLong(t *testing.T) {
	var in atomic.Int64
	gate := make(chan struct{})
	w := newSite(t, setup{
		outside: []func(http.Handler) http.Handler{func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Wait") != "" {
					ctx, cancel := context.WithTimeout(r.Context(), 10*time.Millisecond)
					defer cancel()
					r = r.WithContext(ctx)
				}
				in.Add(1)
				next.ServeHTTP(w, r)
			})
		}},
		handler: func(w http.ResponseWriter, r *http.Request) {
			if r.Context().Err() != nil {
				http.Error(w, "too late", http.StatusGatewayTimeout)
				return
			}
			<-gate
			_, _ = io.WriteString(w, "page")
		},
	})
	c := &crowd{w: w}
	c.send(t.Context(), 1, "/")
	eventually(t, "the first is in", func() bool { return w.runs.Load() == 1 })
	if a := w.get("/", "X-Wait", "little"); a.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("%d %q", a.StatusCode, a.body)
	}
	close(gate)
	if b := c.bodies(); b["200 page"] != 1 {
		t.Errorf("%v", b)
	}
	if a := w.get("/"); a.body != "page" {
		t.Errorf("%d %q", a.StatusCode, a.body)
	}
}

// TestSlowReader: a client that does not read does not keep the page from others.
func TestSlowReader(t *testing.T) {
	const size = 8 << 20 // more than sockets hold
	w := newSite(t, setup{opts: []middleware.PageOption{middleware.PageLimit(size)}, handler: func(w http.ResponseWriter, _ *http.Request) {
		for range size >> 10 {
			_, _ = w.Write(make([]byte, 1<<10))
		}
	}})
	conn, err := net.Dial("tcp", w.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", w.Listener.Addr())
	if line, err := bufio.NewReaderSize(conn, 16).ReadString('\n'); line != "HTTP/1.1 200 OK\r\n" {
		t.Fatalf("%q %v", line, err)
	}
	if a := w.get("/"); len(a.body) != size {
		t.Errorf("%d bytes", len(a.body))
	}
	w.ran("two clients", 1)
}

// TestRefusedInParallel: requests whose responses cannot be kept do not wait for each other, but for the
// first of them.
func TestRefusedInParallel(t *testing.T) {
	for name, c := range map[string]func(w http.ResponseWriter, r *http.Request){
		"a cookie": func(w http.ResponseWriter, _ *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
			w.WriteHeader(200)
		},
		"an error": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"flushed":  func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() },
		"too long": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2<<20)) },
		"panics":   func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		var in, running, most atomic.Int64
		gate := make(chan struct{})
		w := newSite(t, setup{outside: []func(http.Handler) http.Handler{entering(&in)}, handler: func(w http.ResponseWriter, r *http.Request) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			if name == "panics" && running.Load() > 1 {
				<-gate
			}
			c(w, r)
			// From here on nobody waits.
			<-gate
		}})
		all := &crowd{w: w}
		all.send(t.Context(), 10, "/")
		if name == "panics" {
			eventually(t, name, func() bool { return in.Load() == 10 })
		} else {
			eventually(t, name+": all run at once", func() bool { return running.Load() == 10 })
		}
		close(gate)
		all.wg.Wait()
		w.ran(name, 10)
	}
}

// TestAuthorizedInParallel: those who are authorised do not wait for each other, and do not make others do
// without waiting.
func TestAuthorizedInParallel(t *testing.T) {
	var in, running atomic.Int64
	gate := make(chan struct{})
	w := newSite(t, setup{outside: []func(http.Handler) http.Handler{entering(&in)}, handler: func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Add(-1)
		<-gate
		_, _ = io.WriteString(w, r.Header.Get("Authorization"))
	}})
	c := &crowd{w: w}
	c.send(t.Context(), 3, "/", "Authorization", "a")
	eventually(t, "all run at once", func() bool { return running.Load() == 3 })
	for range 3 {
		gate <- struct{}{}
	}
	c.wg.Wait()
	c.send(t.Context(), 5, "/")
	eventually(t, "all are in, and one runs", func() bool { return in.Load() == 8 && running.Load() > 0 })
	close(gate)
	if b := c.bodies(); b["200 a"] != 3 || b["200 "] != 5 {
		t.Errorf("%v", b)
	}
	w.ran("three authorised, and five others", 4)
}

// TestPanicsReachTheirOwn: a handler that panics does so with its value, where the recoverer is, and those
// who have waited run it themselves.
func TestPanicsReachTheirOwn(t *testing.T) {
	for _, value := range []any{"value", http.ErrAbortHandler} {
		var in, n atomic.Int64
		var recovered atomic.Value
		gate := make(chan struct{})
		w := newSite(t, setup{
			outside: []func(http.Handler) http.Handler{entering(&in), func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer func() {
						if p := recover(); p != nil {
							recovered.Store(fmt.Sprint(p))
							if p == http.ErrAbortHandler {
								panic(p)
							}
							w.WriteHeader(500)
							_, _ = io.WriteString(w, "sorry")
						}
					}()
					next.ServeHTTP(w, r)
				})
			}},
			handler: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "100")
				if n.Add(1) == 1 {
					<-gate
					_, _ = io.WriteString(w, "pa")
					panic(value)
				}
				w.Header().Set("Content-Length", "4")
				_, _ = io.WriteString(w, "page")
			},
		})
		c := &crowd{w: w}
		c.send(t.Context(), 1, "/")
		eventually(t, "the first is in", func() bool { return n.Load() == 1 })
		c.send(t.Context(), 5, "/")
		eventually(t, "all are in", func() bool { return in.Load() == 6 })
		close(gate)
		b := c.bodies()
		if b["200 page"] != 5 || recovered.Load() != fmt.Sprint(value) {
			t.Errorf("%v: %v, recovered %v", value, b, recovered.Load())
		}
		if sorry := b["500 sorry"] == 1; sorry != (value == "value") || len(c.errs) != map[bool]int{true: 0, false: 1}[sorry] {
			t.Errorf("%v: %v, %v", value, b, c.errs)
		}
		if a := w.get("/"); a.body != "page" {
			t.Errorf("%q", a.body)
		}
	}
}

// TestEarlyHints: they are on their way before the page is there.
func TestEarlyHints(t *testing.T) {
	gate := make(chan struct{})
	w := newSite(t, setup{handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		<-gate
		_, _ = io.WriteString(w, "page")
	}})
	conn, err := net.Dial("tcp", w.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", w.Listener.Addr())
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); line != "HTTP/1.1 103 Early Hints\r\n" {
		t.Errorf("%q %v", line, err)
	}
	close(gate)
	rest, err := io.ReadAll(r)
	if err != nil || !strings.Contains(string(rest), "HTTP/1.1 200 OK\r\n") || strings.Count(string(rest), "Link: ") != 2 {
		t.Errorf("%q %v", rest, err)
	}
	if a := w.get("/"); a.Header.Get("Link") == "" || a.body != "page" {
		t.Errorf("%v %q", a.Header, a.body)
	}
	w.ran("hints", 1)
}
