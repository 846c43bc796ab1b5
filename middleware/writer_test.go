package middleware_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"github.com/alkey-go/alkey/middleware"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// abilitiesOf lists the optional interfaces of a writer.
func abilitiesOf(w http.ResponseWriter) string {
	var list []string
	if _, ok := w.(http.Flusher); ok {
		list = append(list, "flush")
	}
	if _, ok := w.(http.Hijacker); ok {
		list = append(list, "hijack")
	}
	if _, ok := w.(io.ReaderFrom); ok {
		list = append(list, "read")
	}
	if _, ok := w.(http.Pusher); ok {
		list = append(list, "push")
	}
	return strings.Join(list, " ")
}

type (
	bare     struct{ http.ResponseWriter }
	unwraps  struct{ bare }
	flushes  struct{ bare }
	hijacks  struct{ bare }
	flushErr struct{ bare }
)

func (b bare) Header() http.Header                           { return b.ResponseWriter.Header() }
func (u unwraps) Unwrap() http.ResponseWriter                { return u.ResponseWriter }
func (flushes) Flush()                                       {}
func (flushErr) FlushError() error                           { return nil }
func (hijacks) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, io.ErrUnexpectedEOF }

// TestWriterAbilities: the handler's writer can do what the one beneath can, and nothing else.
func TestWriterAbilities(t *testing.T) {
	type place struct {
		name string
		wrap func(http.Handler) http.Handler
	}
	key := func(*http.Request) []any { return []any{"page"} }
	m := newMiddleware(t, middleware.Config{Tokens: newStore(t)})
	places := []place{
		{"the middleware", m},
		{"CachePage", func(h http.Handler) http.Handler { return m(middleware.CachePage(key)(h)) }},
	}
	for _, p := range places {
		for _, c := range []struct {
			under http.ResponseWriter
			want  string
		}{
			{bare{httptest.NewRecorder()}, ""},
			{flushes{bare{httptest.NewRecorder()}}, "flush"},
			{flushErr{bare{httptest.NewRecorder()}}, "flush"},
			{hijacks{bare{httptest.NewRecorder()}}, "hijack"},
			{unwraps{bare{httptest.NewRecorder()}}, "flush"},
			{unwraps{bare{hijacks{bare{httptest.NewRecorder()}}}}, "hijack"},
			{httptest.NewRecorder(), "flush"},
		} {
			got := "not asked"
			p.wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { got = abilitiesOf(w) })).
				ServeHTTP(c.under, httptest.NewRequest("GET", "/", nil))
			if got != c.want {
				t.Errorf("%s over %T: %q, want %q", p.name, c.under, got, c.want)
			}
		}
		for http2, want := range map[bool]string{false: "flush hijack read", true: "flush push"} {
			got := "not asked"
			s := httptest.NewUnstartedServer(p.wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { got = abilitiesOf(w) })))
			if s.EnableHTTP2 = http2; http2 {
				s.StartTLS()
			} else {
				s.Start()
			}
			res, err := s.Client().Get(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			s.Close()
			if got != want {
				t.Errorf("%s over HTTP/2 %t: %q, want %q", p.name, http2, got, want)
			}
		}
	}
	// Where nothing is checked the writer is the server's own.
	w := httptest.NewRecorder()
	m(http.HandlerFunc(func(got http.ResponseWriter, _ *http.Request) {
		if got != http.ResponseWriter(w) {
			t.Errorf("the handler of a POST got a %T", got)
		}
	})).ServeHTTP(w, httptest.NewRequest("POST", "/", nil))
}

// TestWriterWorks: what handlers do with a server's writer, with chi's wrapper above and below.
func TestWriterWorks(t *testing.T) {
	wrap := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(chimiddleware.NewWrapResponseWriter(w, r.ProtoMajor), r)
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(strings.Repeat("file ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	handler := func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		switch r.URL.Path {
		case "/flush":
			fmt.Fprint(w, "a")
			w.(http.Flusher).Flush()
			<-gate
			if err := control.Flush(); err != nil {
				t.Error(err)
			}
			fmt.Fprint(w, "b")
		case "/hijack":
			conn, _, err := control.Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
			conn.Close()
			if _, err := w.Write(nil); err != http.ErrHijacked {
				t.Errorf("a write after Hijack: %v", err)
			}
		case "/file":
			f, err := os.Open(file)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			if n, err := io.Copy(w, f); n != 500 || err != nil {
				t.Errorf("copied %d, %v", n, err)
			}
		case "/deadline":
			if err := control.SetWriteDeadline(time.Now().Add(time.Hour)); err != nil {
				t.Error(err)
			}
			if err := control.EnableFullDuplex(); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(w, "deadline")
		case "/nothing":
		}
	}
	none := []func(http.Handler) http.Handler{}
	one := []func(http.Handler) http.Handler{wrap}
	for _, debug := range []bool{false, true} {
		for _, plain := range []bool{false, true} {
			for i, around := range [][2][]func(http.Handler) http.Handler{{none, none}, {one, none}, {none, one}, {one, one}} {
				w := newSite(t, setup{config: middleware.Config{Debug: debug}, plain: plain, outside: around[0], inside: around[1], handler: handler})
				for range 2 {
					for path, want := range map[string]string{"/hijack": "hello", "/file": strings.Repeat("file ", 100), "/deadline": "deadline", "/nothing": ""} {
						a := w.get(path)
						if a.body != want || a.StatusCode != 200 {
							t.Errorf("%d: %s: %d %q", i, path, a.StatusCode, a.body)
						}
						if timed := a.Header.Get("Server-Timing") != ""; timed != debug && path != "/hijack" {
							t.Errorf("%d: %s: Server-Timing %q", i, path, a.Header.Get("Server-Timing"))
						}
					}
					r, err := http.NewRequestWithContext(t.Context(), "GET", w.URL+"/flush", nil)
					if err != nil {
						t.Fatal(err)
					}
					res, err := w.Client().Do(r)
					if err != nil {
						t.Fatal(err)
					}
					first := make([]byte, 1)
					if _, err := io.ReadFull(res.Body, first); err != nil || first[0] != 'a' {
						t.Errorf("%q %v", first, err)
					}
					gate <- struct{}{}
					rest, err := io.ReadAll(res.Body)
					res.Body.Close()
					if err != nil || string(rest) != "b" {
						t.Errorf("%q %v", rest, err)
					}
				}
			}
		}
	}
}

func TestServerTiming(t *testing.T) {
	w := newSite(t, setup{config: middleware.Config{Debug: true}, handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Server-Timing", "db;dur=1")
		for range 2 {
			_, _ = request.Fetch(r.Context(), func(context.Context) (int, error) { return 1, nil }, article2)
		}
		if r.URL.Path == "/error" {
			http.Error(w, "no", http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, "a")
	}})
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/", `alkey;desc="keys=3 hits=1 misses=2 stored=2 page=stored";dur=N`},
		{"GET", "/", `alkey;desc="keys=1 hits=1 page=hit";dur=N`},
		{"HEAD", "/", `alkey;desc="keys=1 hits=1 page=hit";dur=N`},
		{"GET", "/error", `alkey;desc="keys=3 hits=2 page=status";dur=N`},
		{"POST", "/", `alkey;desc="keys=2 hits=2";dur=N`},
	} {
		got := w.do(c.method, c.path).Header.Values("Server-Timing")
		if n := len(got); n == 0 || regexp.MustCompile(`dur=\d+\.\d$`).ReplaceAllString(got[n-1], "dur=N") != c.want {
			t.Errorf("%s %s: %q, want %q", c.method, c.path, got, c.want)
		}
		if own := strings.Contains(strings.Join(got, ","), "db;dur=1"); own != (len(got) == 2) || own == strings.Contains(c.want, "page=hit") {
			t.Errorf("%s %s: %q", c.method, c.path, got)
		}
	}
	owner := tokens.NewOwner()
	if err := w.store.Fence(t.Context(), owner, tokens.NewChanges(article2), time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := w.do("POST", "/").Header.Values("Server-Timing"); len(got) != 2 || !strings.Contains(got[1], `keys=2 hits=0 misses=2 bypass=fenced:2"`) {
		t.Errorf("%q", got)
	}
	w = newSite(t, setup{handler: text("a")})
	if a := w.get("/"); a.Header.Get("Server-Timing") != "" {
		t.Error("without Debug it is sent")
	}
}

// TestETagIsChecked: what happens between NotModified and the header decides whether the tag is sent.
func TestETagIsChecked(t *testing.T) {
	for _, c := range []struct {
		name   string
		during func(w *site, rw http.ResponseWriter, r *http.Request)
		tagged bool
		status int
	}{
		{"nothing", func(*site, http.ResponseWriter, *http.Request) {}, true, 200},
		// The page may be newer than its tag: then the client asks in vain, once.
		{"a commit of somebody else", func(w *site, _ http.ResponseWriter, _ *http.Request) { w.publish(article1) }, true, 200},
		{"an own commit", func(_ *site, _ http.ResponseWriter, r *http.Request) { _ = txscope.Changed(r.Context(), article1) }, false, 200},
		{"an own commit of something else", func(_ *site, _ http.ResponseWriter, r *http.Request) { _ = txscope.Changed(r.Context(), article2) }, true, 200},
		{"an own transaction", func(w *site, _ http.ResponseWriter, _ *http.Request) {
			open := w.store.Ledger().Begin()
			open.Add(article1)
			w.t.Cleanup(func() { open.End(tokens.RolledBack) })
		}, false, 200},
		{"one that is rolled back", func(w *site, _ http.ResponseWriter, _ *http.Request) {
			open := w.store.Ledger().Begin()
			open.Add(article1)
			open.End(tokens.RolledBack)
		}, false, 200},
		{"an error", func(_ *site, rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(500) }, false, 500},
		{"not found", func(_ *site, rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(404) }, false, 404},
		{"a hint before", func(_ *site, rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(103) }, true, 200},
		{"a hint, then an own commit", func(_ *site, rw http.ResponseWriter, r *http.Request) {
			rw.WriteHeader(103)
			_ = txscope.Changed(r.Context(), article1)
		}, false, 200},
		{"an own tag", func(_ *site, rw http.ResponseWriter, r *http.Request) {
			_ = txscope.Changed(r.Context(), article1)
			rw.Header().Set("ETag", `"own"`)
		}, true, 200},
	} {
		for _, write := range []string{"text", "bytes", "copy", "header", "flush", "nothing"} {
			var w *site
			w = newSite(t, setup{plain: true, handler: func(rw http.ResponseWriter, r *http.Request) {
				if request.NotModified(rw, r, article1) {
					return
				}
				c.during(w, rw, r)
				switch write {
				case "text":
					_, _ = io.WriteString(rw, "a")
				case "bytes":
					_, _ = rw.Write([]byte("a"))
				case "copy":
					_, _ = io.Copy(rw, strings.NewReader("a"))
				case "header":
					rw.WriteHeader(c.status)
				case "flush":
					_ = http.NewResponseController(rw).Flush()
				}
			}})
			a := w.get("/")
			if got := a.Header.Get("ETag") != ""; got != c.tagged || a.StatusCode != c.status {
				t.Errorf("%s, then %s: ETag %q, status %d", c.name, write, a.Header.Get("ETag"), a.StatusCode)
			}
			// What the client was given a tag of it has, as long as nothing changes.
			b := w.get("/", "If-None-Match", a.Header.Get("ETag"))
			if same := b.StatusCode == 304; same != (c.name == "nothing" || c.name == "a hint before" || c.name == "an own commit of something else") {
				t.Errorf("%s, then %s: asked again: %d", c.name, write, b.StatusCode)
			}
		}
	}
}

// TestETagAfterAPanic: who recovers above the middleware writes an error, and that does not have the tag of
// the page.
func TestETagAfterAPanic(t *testing.T) {
	for _, c := range []struct{ set, want string }{{"", ""}, {`"own"`, `"own"`}} {
		recoverer := func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() {
					if recover() != nil {
						w.WriteHeader(500)
					}
				}()
				next.ServeHTTP(w, r)
			})
		}
		m := newMiddleware(t, middleware.Config{Tokens: newStore(t)})
		for range 2 { // at first the token is not known yet, and there is no tag
			w := get(recoverer(m(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				request.NotModified(w, r, article1)
				if c.set != "" {
					w.Header().Set("ETag", c.set)
				}
				panic("no")
			}))))
			if got := w.Header().Get("ETag"); w.Code != 500 || got != c.want {
				t.Errorf("%d with ETag %q, want %q", w.Code, got, c.want)
			}
		}
	}
}

// TestConfirmedETag: a 304 has the tag that it confirms, though a page that was made now would not get it.
func TestConfirmedETag(t *testing.T) {
	taken := false
	store := newStore(t)
	w := newSite(t, setup{config: middleware.Config{Tokens: store}, plain: true, handler: func(rw http.ResponseWriter, r *http.Request) {
		if taken {
			open := store.Ledger().Begin()
			open.Add(article1)
			open.End(tokens.RolledBack)
		}
		if !request.NotModified(rw, r, article1) {
			_, _ = io.WriteString(rw, "a")
		}
	}})
	tag := w.get("/").Header.Get("ETag")
	taken = true
	if a := w.get("/"); a.Header.Get("ETag") != "" {
		t.Errorf("made now: %q", a.Header.Get("ETag"))
	}
	if a := w.get("/", "If-None-Match", tag); a.StatusCode != 304 || a.Header.Get("ETag") != tag || tag == "" {
		t.Errorf("confirmed: %d %q, want %q", a.StatusCode, a.Header.Get("ETag"), tag)
	}
}

// noting is a writer that notes what it is asked for, and the sets of interfaces that one can have.
type (
	noting struct {
		header http.Header
		notes  []string
	}
	flushNoting  struct{ *noting }
	hijackNoting struct{ *noting }
	bothNoting   struct {
		flushNoting
		hijackNoting
	}
	pushNoting struct{ flushNoting }
)

func (n *noting) note(what string) { n.notes = append(n.notes, what) }

func (n *noting) Header() http.Header         { return n.header }
func (n *noting) WriteHeader(int)             {}
func (n *noting) Write(p []byte) (int, error) { return len(p), nil }

func (f flushNoting) Flush() { f.note("flush") }

func (h hijackNoting) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.note("hijack")
	return nil, nil, nil
}

func (b bothNoting) Header() http.Header         { return b.flushNoting.Header() }
func (b bothNoting) WriteHeader(int)             {}
func (b bothNoting) Write(p []byte) (int, error) { return len(p), nil }
func (b bothNoting) ReadFrom(src io.Reader) (int64, error) {
	b.flushNoting.note("read")
	return io.Copy(io.Discard, src)
}

func (p pushNoting) Push(string, *http.PushOptions) error {
	p.note("push")
	return nil
}

// TestFrontsPassOn: each set of interfaces that a writer can have does what the one beneath does.
func TestFrontsPassOn(t *testing.T) {
	m := newMiddleware(t, middleware.Config{Tokens: newStore(t)})
	page := middleware.CachePage(func(*http.Request) []any { return []any{"page"} })
	for _, h := range []func(http.Handler) http.Handler{m, func(h http.Handler) http.Handler { return m(page(h)) }} {
		for _, c := range []struct {
			under func(*noting) http.ResponseWriter
			want  string
		}{
			{func(n *noting) http.ResponseWriter { return n }, ""},
			{func(n *noting) http.ResponseWriter { return flushNoting{n} }, "flush flush"},
			{func(n *noting) http.ResponseWriter { return hijackNoting{n} }, "hijack hijack"},
			{func(n *noting) http.ResponseWriter { return bothNoting{flushNoting{n}, hijackNoting{n}} }, "flush read hijack flush hijack"},
			{func(n *noting) http.ResponseWriter { return pushNoting{flushNoting{n}} }, "flush push flush"},
		} {
			n := &noting{header: http.Header{}}
			h(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if f, ok := w.(http.Flusher); ok {
					f.Flush()
				}
				if r, ok := w.(io.ReaderFrom); ok {
					if k, err := r.ReadFrom(strings.NewReader("abc")); k != 3 || err != nil {
						t.Error(k, err)
					}
				}
				if p, ok := w.(http.Pusher); ok {
					if err := p.Push("/", nil); err != nil {
						t.Error(err)
					}
				}
				if h, ok := w.(http.Hijacker); ok {
					if _, _, err := h.Hijack(); err != nil {
						t.Error(err)
					}
				}
				control := http.NewResponseController(w)
				if err := control.Flush(); (err == nil) != strings.Contains(c.want, "flush") {
					t.Errorf("%q: flushed: %v", c.want, err)
				}
				if _, _, err := control.Hijack(); (err == nil) != strings.Contains(c.want, "hijack") {
					t.Errorf("%q: hijacked: %v", c.want, err)
				}
			})).ServeHTTP(c.under(n), httptest.NewRequest("GET", "/", nil))
			if got := strings.Join(n.notes, " "); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		}
	}
}
