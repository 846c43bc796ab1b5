package middleware_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"github.com/alkey-go/alkey/middleware"
)

// responses are handlers whose responses can be kept.
var responses = map[string]http.HandlerFunc{
	"text":    text("hello"),
	"html":    text("<html><body>hello</body></html>"),
	"a page":  text("<!doctype html>" + strings.Repeat("<p>hello</p>", 1000)),
	"2048":    text(strings.Repeat("a", 2048)),
	"2049":    text(strings.Repeat("a", 2049)),
	"at once": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) },
	"in pieces": func(w http.ResponseWriter, _ *http.Request) {
		for range 700 {
			_, _ = io.WriteString(w, "<b>")
			_, _ = w.Write([]byte("b</b>"))
		}
	},
	"a tag in two pieces": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<ht")
		_, _ = io.WriteString(w, "ml>")
	},
	"copied": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, strings.NewReader(strings.Repeat("%PDF-1.4 ", 5000)))
	},
	"an empty piece first": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(nil)
		_, _ = io.WriteString(w, "\x89PNG\x0D\x0A\x1A\x0A")
	},
	"an image": text("\x89PNG\x0D\x0A\x1A\x0A"),
	"headers": func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=latin1")
		h.Set("Content-Language", "de")
		h.Add("Link", "</a.css>; rel=preload")
		h.Add("Link", "</b.css>; rel=preload")
		h.Set("Cache-Control", "public, max-age=5")
		h.Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		h.Set("ETag", `"a"`)
		h.Set("X-Frame-Options", "")
		w.WriteHeader(200)
		h.Set("Content-Type", "too/late")
		h.Set("X-Late", "late")
		_, _ = io.WriteString(w, "hello")
	},
	"no type": func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		fmt.Fprint(w, "<html>")
	},
	"an encoding": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "x")
		fmt.Fprint(w, "<html>")
	},
	"a length": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "5")
		fmt.Fprint(w, "hello")
	},
	"a length of much": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "5000")
		fmt.Fprint(w, strings.Repeat("hello", 1000))
	},
	"a length of none": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(200)
	},
	"closes": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Robots-Tag", "none")
		fmt.Fprint(w, "a")
	},
	"deletes a header": func(w http.ResponseWriter, _ *http.Request) { w.Header().Del("X-Frame-Options"); fmt.Fprint(w, "a") },
	"replaces a header": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Frame-Options", "SAMEORIGIN")
		fmt.Fprint(w, "a")
	},
	"adds to a header": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Link", "</c>; rel=next")
		fmt.Fprint(w, "a")
	},
	"adds twice": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Link", "</c>; rel=next")
		w.Header().Add("Link", "</c>; rel=next")
		fmt.Fprint(w, "a")
	},
	"a limit": text(strings.Repeat("a", 1<<20)),
	"a file": func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "a.txt", time.Unix(1e9, 0), strings.NewReader("hello"))
	},
}

// outer sets headers as middlewares above do.
func outer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Frame-Options", "DENY")
		w.Header().Set("X-Request-Id", "1")
		w.Header().Add("Link", "</icon>; rel=icon")
		next.ServeHTTP(w, r)
	})
}

// TestSameOnTheWire: what a client reads is the same to the byte without CachePage, when the page is made and
// when it is found, over HTTP/1.1, HTTP/1.0 and HTTP/2.
func TestSameOnTheWire(t *testing.T) {
	for name, handler := range responses {
		around := []func(http.Handler) http.Handler{outer}
		plain := newSite(t, setup{plain: true, outside: around, handler: handler})
		kept := newSite(t, setup{outside: around, handler: handler})
		for _, version := range []string{"1.1", "1.0"} {
			want := plain.raw("GET / HTTP/" + version)
			if !strings.HasPrefix(want, "HTTP/"+version+" 200 OK\r\n") {
				t.Fatalf("%s: %q", name, want)
			}
			for _, how := range []string{"made", "found"} {
				if got := kept.raw("GET / HTTP/" + version); got != want {
					t.Errorf("%s, HTTP/%s, %s: %.600q\nwant %.600q", name, version, how, got, want)
				}
			}
		}
		kept.ran(name, 1)

		// HEAD says what GET does, and how long it is.
		head, get := kept.do("HEAD", "/"), kept.get("/")
		want := get.Header.Clone()
		want.Set("Content-Length", strconv.Itoa(len(get.body)))
		want.Set("Date", head.Header.Get("Date"))
		if head.body != "" || head.StatusCode != 200 || !equal(head.Header, want) {
			t.Errorf("%s: HEAD says %v, want %v", name, head.Header, want)
		}
		kept.ran(name+" by HEAD", 0)

		plain = newSite(t, setup{plain: true, http2: true, outside: around, handler: handler})
		kept = newSite(t, setup{http2: true, outside: around, handler: handler})
		one, two, three := plain.get("/"), kept.get("/"), kept.get("/")
		for how, a := range map[string]answer{"made": two, "found": three} {
			a.Header.Set("Date", one.Header.Get("Date"))
			if a.Proto != "HTTP/2.0" || a.body != one.body || !equal(a.Header, one.Header) {
				t.Errorf("%s, HTTP/2, %s: %v %.100q, want %v %.100q", name, how, a.Header, a.body, one.Header, one.body)
			}
		}
		kept.ran(name+" over HTTP/2", 1)
	}
}

func equal(a, b http.Header) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// refused are handlers whose responses are not kept. They pass as if there were no CachePage.
var refused = map[string]http.HandlerFunc{
	"not found":          http.NotFound,
	"an error":           func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 500) },
	"created":            func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); fmt.Fprint(w, "a") },
	"no content":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204); _, _ = w.Write(nil) },
	"not modified":       func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("ETag", `"a"`); w.WriteHeader(304) },
	"elsewhere":          func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) },
	"forever elsewhere":  func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusMovedPermanently) },
	"partial":            func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(206); fmt.Fprint(w, "a") },
	"a cookie":           set("Set-Cookie", "a=b"),
	"no-store":           set("Cache-Control", "no-store"),
	"no-store in a list": set("Cache-Control", "max-age=5,  NO-STORE ,x"),
	"no-store in a line": set("Cache-Control", "max-age=5", "Cache-Control", "No-Store"),
	"private":            set("Cache-Control", "private"),
	"private fields":     set("Cache-Control", `max-age=1, Private="X-A, X-B"`),
	"private, at last":   set("Cache-Control", `ext="a, b\" c" , private`),
	"private, assigned":  set("Cache-Control", `private=1`),
	"a broken control":   set("Cache-Control", `ext="a, public`),
	"varies":             set("Vary", "*"),
	"varies in a list":   set("Vary", "Accept, *"),
	"varies in a line":   set("Vary", "Accept", "Vary", "*"),
	"varies in nonsense": set("Vary", "a b"),
	"for one origin":     set("Access-Control-Allow-Origin", "https://a.example"),
	"for null":           set("Access-Control-Allow-Origin", "null", "Access-Control-Allow-Credentials", "true"),
	"a nonce":            set("Content-Security-Policy", "script-src 'Nonce-abc'"),
	"a nonce reported":   set("Content-Security-Policy-Report-Only", "script-src 'nonce-abc'"),
	"a piece":            set("Content-Range", "bytes 0-0/1"),
	"chunked by hand":    set("Transfer-Encoding", "identity"),
	"nothing":            func(http.ResponseWriter, *http.Request) {},
	"too long":           text(strings.Repeat("a", 1<<20+1)),
	"too long a length": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1048577")
		_, _ = w.Write(make([]byte, 1<<20+1))
	},
	"too long a copy": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, strings.NewReader(strings.Repeat("a", 3<<20)))
	},
	"a trailer": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "a")
		w.Header().Set("X-Sum", "1")
	},
	"a trailer from the start": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		_, _ = io.WriteString(w, "a")
	},
	"a late trailer": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("a", 5000))
		w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
	},
	"a late trailer of a short page": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "a")
		w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		w.Header().Set("X-Late", "late")
	},
	"flushed": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "a")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "b")
	},
	"flushed first": func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		w.Header().Set("X-Late", "late")
		_, _ = io.WriteString(w, "b")
	},
	"flushed last": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "a")
		w.(http.Flusher).Flush()
	},
	"an error too late": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<p>half of a pa")
		http.Error(w, "no", 500)
	},
	"two headers": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(200)
		w.WriteHeader(200)
		_, _ = io.WriteString(w, "a")
	},
	"a hint too late": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(200)
		w.WriteHeader(103)
		_, _ = io.WriteString(w, "a")
	},
	"shorter than it says": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "5")
		_, _ = io.WriteString(w, "a")
	},
	"longer than it says": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1")
		_, _ = io.WriteString(w, "a")
		if _, err := io.WriteString(w, "b"); err != http.ErrContentLength {
			panic(err)
		}
	},
	"a length that is none": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "x")
		_, _ = io.WriteString(w, "a")
	},
	"panics": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("a", 100))
		panic(http.ErrAbortHandler)
	},
}

// steps are what handlers do with a writer, by themselves harmless or not.
var steps = []func(w http.ResponseWriter){
	func(w http.ResponseWriter) { w.Header().Add("Link", "</a>") },
	func(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/x") },
	func(w http.ResponseWriter) { w.Header()["Content-Type"] = nil },
	func(w http.ResponseWriter) { w.Header().Set("Content-Length", "5") },
	func(w http.ResponseWriter) { w.Header().Set("Content-Length", "3000") },
	func(w http.ResponseWriter) { w.Header().Set("Content-Encoding", "x") },
	func(w http.ResponseWriter) { w.Header().Del("X-Frame-Options") },
	func(w http.ResponseWriter) { w.Header().Set("Cache-Control", "max-age=5") },
	func(w http.ResponseWriter) { w.Header().Add("Set-Cookie", "a=b") },
	func(w http.ResponseWriter) { w.Header().Set("Etag", `"a"`) },
	func(w http.ResponseWriter) { w.Header().Set("Trailer", "X-T") },
	func(w http.ResponseWriter) { w.Header().Set("X-T", "1") },
	func(w http.ResponseWriter) { w.Header().Set(http.TrailerPrefix+"X-U", "1") },
	func(w http.ResponseWriter) { w.WriteHeader(200) },
	func(w http.ResponseWriter) { w.WriteHeader(404) },
	func(w http.ResponseWriter) { w.WriteHeader(204) },
	func(w http.ResponseWriter) { _, _ = w.Write(nil) },
	func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<p>") },
	func(w http.ResponseWriter) { _, _ = w.Write([]byte("hello")) },
	func(w http.ResponseWriter) { _, _ = w.Write([]byte(strings.Repeat("<b>", 1000))) },
	func(w http.ResponseWriter) { _, _ = io.WriteString(w, strings.Repeat("b", 2048)) },
	func(w http.ResponseWriter) { _, _ = io.Copy(w, strings.NewReader(strings.Repeat("c", 600))) },
	func(w http.ResponseWriter) { _, _ = io.Copy(w, strings.NewReader(strings.Repeat("d", 40_000))) },
	func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() },
	func(w http.ResponseWriter) { http.Error(w, "no", 500) },
}

// TestAnyHandler: whatever a handler does comes out as it would without CachePage.
func TestAnyHandler(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		for step := range strings.SplitSeq(r.URL.RawQuery, ".") {
			n, err := strconv.Atoi(step)
			if err != nil {
				t.Error(err)
			}
			steps[n](w)
		}
	}
	compress := chimiddleware.Compress(5, "text/x", "text/html")
	for name, s := range map[string]setup{
		"around":           {outside: []func(http.Handler) http.Handler{outer}},
		"compress outside": {outside: []func(http.Handler) http.Handler{compress}},
		"compress inside":  {inside: []func(http.Handler) http.Handler{outer, compress}},
		"recover inside":   {inside: []func(http.Handler) http.Handler{chimiddleware.Recoverer}},
	} {
		s.handler = handler
		s.opts = []middleware.PageOption{middleware.PageLimit(20_000), middleware.PageHeaders("X-T", "X-Request-Id")}
		kept := newSite(t, s)
		s.plain = true
		plain := newSite(t, s)
		for range 200 {
			list := make([]string, 1+rand.IntN(6))
			for i := range list {
				list[i] = strconv.Itoa(rand.IntN(len(steps)))
			}
			line := "GET /?" + strings.Join(list, ".") + " HTTP/1." + strconv.Itoa(rand.IntN(2)) + "\r\nAccept-Encoding: gzip"
			want := plain.raw(line)
			for i := range 3 {
				if got := kept.raw(line); got != want {
					t.Fatalf("%s: %q, time %d: %.500q\nwant %.500q", name, line, i, got, want)
				}
			}
		}
		if n := kept.runs.Load(); n < 200 || n > 550 {
			t.Errorf("%s: %d runs for 600 requests: nothing was found, or nothing was refused", name, n)
		}
	}
}

func set(header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		_, _ = io.WriteString(w, "a")
	}
}

func TestNotKept(t *testing.T) {
	for name, handler := range refused {
		plain := newSite(t, setup{plain: true, handler: handler})
		kept := newSite(t, setup{handler: handler})
		for _, version := range []string{"1.1", "1.0"} {
			want := plain.raw("GET / HTTP/" + version)
			for range 2 {
				if got := kept.raw("GET / HTTP/" + version); got != want {
					t.Errorf("%s, HTTP/%s: %.300q\nwant %.300q", name, version, got, want)
				}
			}
		}
		kept.ran(name, 4)
		superfluous := func(w *site) int { return strings.Count(w.log.String(), "superfluous") }
		if got, want := superfluous(kept), 2*superfluous(plain); got != want {
			t.Errorf("%s: the server complains %d times, want %d", name, got, want)
		}
	}
}

// TestKeptAllTheSame: headers that look like those of responses that are not kept.
func TestKeptAllTheSame(t *testing.T) {
	for _, header := range [][]string{
		{"Cache-Control", "no-cache, must-revalidate, max-age=0"},
		{"Cache-Control", `no-cache="Set-Cookie"`},
		{"Cache-Control", `ext="no-store, private", x-private=1, privates`},
		{"Cache-Control", ` , ,public,`},
		{"Vary", ""},
		{"Access-Control-Allow-Origin", "*", "Access-Control-Expose-Headers", "X-A"},
		{"Content-Security-Policy", "default-src 'self'"},
		{"Expires", "0"},
	} {
		w := newSite(t, setup{handler: set(header...)})
		a, b := w.get("/"), w.get("/")
		if b.Header.Set("Date", a.Header.Get("Date")); a.body != b.body || !equal(a.Header, b.Header) {
			t.Errorf("%q: %v and %v", header, a.Header, b.Header)
		}
		w.ran(fmt.Sprint(header), 1)
	}
}

// TestCookieOfOthers: a cookie that a middleware sets for one request keeps the page, which may have been
// made for who gets it, from others.
func TestCookieOfOthers(t *testing.T) {
	w := newSite(t, setup{outside: []func(http.Handler) http.Handler{func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := r.Cookie("session"); err != nil {
				http.SetCookie(w, &http.Cookie{Name: "session", Value: strconv.Itoa(rand.Int())})
			}
			next.ServeHTTP(w, r)
		})
	}}, handler: text("a")})
	if a, b := w.get("/"), w.get("/"); a.Header.Get("Set-Cookie") == b.Header.Get("Set-Cookie") {
		t.Errorf("two clients got %q", a.Header.Get("Set-Cookie"))
	}
	w.ran("new clients", 2)
	w.get("/", "Cookie", "session=1")
	if a := w.get("/", "Cookie", "session=2"); a.Header.Get("Set-Cookie") != "" {
		t.Error("a client that has a session gets a cookie")
	}
	w.ran("old clients", 1)
	if a := w.get("/"); a.Header.Get("Set-Cookie") == "" {
		t.Error("a new client gets no cookie")
	}
	w.ran("a new client, found", 0)
}

// TestRequestsThatPass: CachePage leaves some requests alone.
func TestRequestsThatPass(t *testing.T) {
	w := newSite(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "a.txt", time.Unix(1, 0), strings.NewReader("hello"))
	}})
	if w.get("/"); w.get("/").body != "hello" {
		t.Error("no page")
	}
	w.ran("the page", 1)
	for _, header := range [][]string{
		{"Range", "bytes=1-2"},
		{"Range", "bytes=1-2", "If-Range", `"a"`},
		{"If-Match", "*"},
		{"If-Unmodified-Since", "Mon, 02 Jan 2006 15:04:05 GMT"},
		{"Upgrade", "websocket", "Connection", "upgrade"},
	} {
		a := w.get("/", header...)
		if partial := header[0] == "Range" && len(header) == 2; partial && (a.StatusCode != 206 || a.body != "el") {
			t.Errorf("%q: %d %q", header, a.StatusCode, a.body)
		}
		w.ran(fmt.Sprint(header), 1)
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"} {
		w.do(method, "/")
		w.ran(method, 1)
	}
	for _, lines := range [][]string{
		{"GET / HTTP/1.1", "Content-Length: 1\r\nX: a"},
		{"GET / HTTP/1.1", "Transfer-Encoding: chunked"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", w.URL, strings.NewReader("a"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(lines[1], "chunked") {
			r.ContentLength = -1
		}
		res, err := w.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		w.ran("a body", 1)
	}
	w.get("/")
	w.ran("the page, again", 0)

	// HEAD leaves nothing.
	if a := w.do("HEAD", "/head"); a.body != "" || a.Header.Get("Content-Length") != "5" {
		t.Errorf("%q %v", a.body, a.Header)
	}
	if a := w.get("/head"); a.body != "hello" {
		t.Errorf("%q", a.body)
	}
	w.ran("HEAD and GET", 2)
	w = newSite(t, setup{handler: func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Method) }})
	w.do("HEAD", "/")
	if a := w.get("/"); a.body != "GET" {
		t.Errorf("%q", a.body)
	}
	w.ran("HEAD and GET of a handler that does not care", 2)
}

// TestAuthorized: what was made for who is authorised is his.
func TestAuthorized(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/public" {
			w.Header().Set("Cache-Control", "max-age=1, Public")
		}
		fmt.Fprint(w, r.Header.Get("Authorization"))
	}
	w := newSite(t, setup{handler: handler})
	for range 2 {
		for _, who := range []string{"a", "b"} {
			if a := w.get("/", "Authorization", who); a.body != who {
				t.Errorf("%s got the page of %q", who, a.body)
			}
		}
	}
	w.ran("authorised", 4)
	if w.get("/"); w.get("/").body != "" {
		t.Error("nobody got somebody's page")
	}
	w.ran("nobody", 1)
	if a := w.get("/", "Authorization", "a"); a.body != "a" {
		t.Errorf("a got the page of %q", a.body)
	}
	w.ran("after nobody", 1)
	w.get("/public", "Authorization", "a")
	if a := w.get("/public", "Authorization", "b"); a.body != "a" {
		t.Errorf("b got the page of %q", a.body)
	}
	if a := w.get("/public"); a.body != "a" {
		t.Errorf("nobody got the page of %q", a.body)
	}
	w.ran("public", 1)
}

// TestLargeResponses: what is longer than the limit is on its way before the handler is done.
func TestLargeResponses(t *testing.T) {
	read := make(chan struct{})
	w := newSite(t, setup{opts: []middleware.PageOption{middleware.PageLimit(10)}, handler: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/small" {
			_, _ = io.WriteString(w, "0123456789")
			return
		}
		for range 100 {
			_, _ = io.WriteString(w, strings.Repeat("a", 1000))
		}
		<-read
	}})
	w.get("/small")
	w.get("/small")
	w.ran("of the limit's length", 1)
	res, err := w.Client().Get(w.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadFull(res.Body, make([]byte, 50_000)); err != nil {
		t.Error(err)
	}
	close(read)
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) != 50_000 {
		t.Errorf("%d more, %v", len(rest), err)
	}
}

// TestPageHeaders: what is added to the list is kept, and what is of one response is not.
func TestPageHeaders(t *testing.T) {
	w := newSite(t, setup{
		opts: []middleware.PageOption{middleware.PageHeaders("x-total-count", "X-Both")},
		outside: []func(http.Handler) http.Handler{func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Both", r.Header.Get("X-Number"))
				w.Header().Set("Content-Language", r.Header.Get("X-Number"))
				next.ServeHTTP(w, r)
			})
		}},
		handler: set("X-Total-Count", "5", "X-Other", "1", "X-Both", "inner", "Server-Timing", "a", "Age", "1", "Connection", "close"),
	})
	w.get("/", "X-Number", "1")
	a := w.get("/", "X-Number", "2")
	w.ran("two requests", 1)
	for name, want := range map[string]string{
		"X-Total-Count": "[5]", "X-Other": "[]", "X-Both": "[2 inner]", "Content-Language": "[2]", "Server-Timing": "[]", "Age": "[]",
	} {
		if got := fmt.Sprint(a.Header.Values(name)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if a.Close {
		t.Error("the connection is closed")
	}
}
