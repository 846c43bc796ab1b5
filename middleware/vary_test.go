package middleware_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"github.com/alkey-go/alkey/middleware"
	"github.com/alkey-go/alkey/request"
)

// TestVary: several variants of a page live side by side, and each request gets its own.
func TestVary(t *testing.T) {
	stores(t, func(t *testing.T, config middleware.Config) {
		w := newSite(t, setup{config: config, handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Vary", "accept-language,  Accept")
			fmt.Fprint(w, r.Header.Values("Accept-Language"), r.Header.Get("Accept"))
		}})
		variants := [][]string{
			{"Accept-Language", "de", "Accept", "a"},
			{"Accept-Language", "en", "Accept", "a"},
			{"Accept-Language", "de", "Accept", "b"},
			{"Accept-Language", ""},
			{},
			{"Accept-Language", "de", "Accept-Language", "en"},
		}
		for round := range 3 {
			for _, v := range variants {
				a := w.get("/", v...)
				var want answer
				want.Response = &http.Response{Header: http.Header{}}
				for i := 0; i < len(v); i += 2 {
					want.Header.Add(v[i], v[i+1])
				}
				if text := fmt.Sprint(want.Header.Values("Accept-Language"), want.Header.Get("Accept")); a.body != text {
					t.Errorf("%q got %q", text, a.body)
				}
			}
			w.ran(fmt.Sprint("round ", round), map[int]int64{0: int64(len(variants))}[round])
		}
		// These mean the same as one of them.
		w.get("/", "Accept-Language", " de ,en")
		w.get("/", "Accept-Language", "de, \ten ")
		w.ran("other spellings", 0)
		w.get("/", "Accept-Language", "en,de")
		w.get("/", "Accept-Language", `"de", en`)
		w.get("/", "Accept-Language", `"de",en`)
		w.ran("other values", 3)

		w.publish(article1)
		for range 2 {
			for _, v := range variants[:2] {
				w.get("/", v...)
			}
		}
		w.ran("after a change", 2)
	})
}

// TestVaryToTheByte: what is no list of what is accepted is compared as it is.
func TestVaryToTheByte(t *testing.T) {
	w := newSite(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Cookie, X-User")
		fmt.Fprintf(w, "%q %q", r.Header["Cookie"], r.Header["X-User"])
	}})
	for _, pair := range [][2][]string{
		{{"Cookie", "s=a,b"}, {"Cookie", "s=a, b"}},
		{{"Cookie", "s=a,s=b"}, {"Cookie", "s=a", "Cookie", "s=b"}},
		{{"X-User", "doe, j"}, {"X-User", "doe,j"}},
		{{"X-User", "doe,j"}, {"X-User", "doe", "X-User", "j"}},
		{{"X-User", ""}, {}},
		{{"X-User", "a", "Cookie", "b"}, {"X-User", "b", "Cookie", "a"}},
	} {
		if a, b := w.get("/", pair[0]...), w.get("/", pair[1]...); a.body == b.body {
			t.Errorf("%q: %q", pair, a.body)
		}
	}
}

// TestEncodedWithoutVary: an encoded response is for those who take the encoding, also if it does not say so.
func TestEncodedWithoutVary(t *testing.T) {
	w := newSite(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		encoding := r.Header.Get("Accept-Encoding")
		if encoding != "" {
			w.Header().Set("Content-Encoding", encoding)
		}
		fmt.Fprint(w, encoding)
	}})
	for range 2 {
		for _, encoding := range []string{"x-a", "", "x-b"} {
			var header []string
			if encoding != "" {
				header = []string{"Accept-Encoding", encoding}
			}
			a := w.get("/", header...)
			if a.body != encoding || a.Header.Get("Content-Encoding") != encoding || a.Header.Get("Vary") != "" {
				t.Errorf("%q: %q %v", encoding, a.body, a.Header)
			}
		}
	}
	w.ran("three encodings", 3)
}

// TestVaryNowAndThen: a handler that names a header in some responses only.
func TestVaryNowAndThen(t *testing.T) {
	stores(t, func(t *testing.T, config middleware.Config) {
		w := newSite(t, setup{config: config, handler: func(w http.ResponseWriter, r *http.Request) {
			if who := r.Header.Get("Cookie"); who != "" {
				w.Header().Add("Vary", "Cookie")
				fmt.Fprint(w, who)
				return
			}
			fmt.Fprint(w, "nobody")
		}})
		for range 3 {
			for _, who := range []string{"a=1", "b=2", ""} {
				a := w.get("/", "Cookie", who)
				if who == "" {
					who = "nobody"
				}
				if a.body != who {
					t.Errorf("%s got the page of %s", who, a.body)
				}
			}
		}
		w.ran("three visitors", 3)
	})
}

// TestSecretsAreNotStored: of the headers that a page varies in a digest is kept.
func TestSecretsAreNotStored(t *testing.T) {
	values := &listing{}
	w := newSite(t, setup{config: middleware.Config{Values: values}, handler: set("Vary", "Cookie")})
	w.get("/", "Cookie", "session=verysecret")
	w.get("/", "Cookie", "session=verysecret")
	w.ran("a visitor", 1)
	if all := values.all(); !strings.Contains(all, "Cookie") || strings.Contains(all, "verysecret") {
		t.Errorf("%q", all)
	}
}

func TestVaryInTooMuch(t *testing.T) {
	for n, want := range map[int]int64{request.MaxVary: 1, request.MaxVary + 1: 2} {
		w := newSite(t, setup{handler: func(w http.ResponseWriter, _ *http.Request) {
			for i := range n {
				w.Header().Add("Vary", "X-"+strconv.Itoa(i))
			}
			fmt.Fprint(w, "a")
		}})
		w.get("/")
		w.get("/")
		w.ran(fmt.Sprint(n, " headers"), want)
	}
}

// TestCompression: with chi's middleware inside and outside, whoever comes first.
func TestCompression(t *testing.T) {
	page := strings.Repeat("<p>hello</p>", 500)
	handler := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, page)
	}
	compress := []func(http.Handler) http.Handler{chimiddleware.Compress(5)}
	for _, inside := range []bool{false, true} {
		for _, order := range [][]string{{"gzip", "", "identity"}, {"", "gzip", "deflate"}} {
			s := setup{handler: handler, outside: compress}
			if inside {
				s = setup{handler: handler, inside: compress}
			}
			w := newSite(t, s)
			for range 3 {
				for _, encoding := range order {
					a := w.get("/", "Accept-Encoding", encoding)
					body := a.body
					switch got := a.Header.Get("Content-Encoding"); {
					case got == "gzip" && encoding == "gzip":
						r, err := gzip.NewReader(strings.NewReader(body))
						if err != nil {
							t.Fatal(err)
						}
						all, err := io.ReadAll(r)
						if err != nil {
							t.Fatal(err)
						}
						body = string(all)
					case got != "" && got != encoding:
						t.Errorf("inside %t: asked for %q, got %q", inside, encoding, got)
						continue
					case got == "deflate":
						continue
					case encoding == "gzip" && !inside:
						t.Error("gzip was asked for, and there is none")
					}
					if body != page {
						t.Errorf("inside %t, %q: %.100q", inside, encoding, body)
					}
				}
			}
			if n := w.runs.Load(); n > 3 || !inside && n != 1 {
				t.Errorf("inside %t: the handler ran %d times", inside, n)
			}
		}
	}
}

// cors is what CORS middlewares do.
func cors(always bool) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			origin := r.Header.Get("Origin")
			if origin != "" || always {
				w.Header().Add("Vary", "Origin")
			}
			if origin != "" && origin != "https://evil.example" {
				w.Header().Set("Access-Control-Allow-Origin", origin)
				w.Header().Set("Access-Control-Allow-Credentials", "true")
			}
			next.ServeHTTP(w, r)
		})
	}
}

// forgetful is one that does not name Origin in Vary.
func forgetful(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if origin := r.Header.Get("Origin"); origin != "" && origin != "https://evil.example" {
			w.Header().Set("Access-Control-Allow-Origin", origin)
		}
		next.ServeHTTP(w, r)
	})
}

// TestOrigins: what was said to one origin is not said to another.
func TestOrigins(t *testing.T) {
	for name, m := range map[string]func(http.Handler) http.Handler{"cors": cors(true), "cors sometimes": cors(false), "forgetful": forgetful} {
		for _, inside := range []bool{false, true} {
			list := []func(http.Handler) http.Handler{m}
			s := setup{handler: text("a"), outside: list}
			if inside {
				s = setup{handler: text("a"), inside: list}
			}
			w := newSite(t, s)
			for round := range 3 {
				for _, origin := range []string{"https://a.example", "https://b.example", "https://evil.example", ""} {
					var header []string
					if origin != "" {
						header = []string{"Origin", origin}
					}
					want := origin
					if origin == "https://evil.example" {
						want = ""
					}
					a := w.get("/", header...)
					got := a.Header.Get("Access-Control-Allow-Origin")
					if got == "" && name == "forgetful" && inside {
						continue // what was made for nobody is for all, says the response
					}
					if got != want || len(a.Header.Values("Access-Control-Allow-Origin")) > 1 {
						t.Errorf("%s, inside %t, round %d: %q is told %q", name, inside, round, origin, got)
					}
					if n := len(a.Header.Values("Vary")); n > 1 {
						t.Errorf("%s, inside %t, round %d: %d times Vary", name, inside, round, n)
					}
				}
			}
			most := int64(4)
			if name == "forgetful" {
				most = map[bool]int64{false: 1, true: 10}[inside]
			}
			if n := w.runs.Load(); n > most {
				t.Errorf("%s, inside %t: the handler ran %d times", name, inside, n)
			}
		}
	}
}

// TestPageNotModified: a client that has a page is told so, whether the page is found or made, and what
// others get is whole.
func TestPageNotModified(t *testing.T) {
	const tag = `"v1"`
	aware := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag)
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Language", "de")
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		if request.MatchesETag(r.Header, tag) || r.Header.Get("If-Modified-Since") != "" {
			w.WriteHeader(304)
			return
		}
		fmt.Fprint(w, "whole")
	}
	check := func(what string, a answer, status int) {
		t.Helper()
		body := map[int]string{200: "whole", 304: ""}[status]
		if a.StatusCode != status || a.body != body || a.Header.Get("ETag") != tag || a.Header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: %d %q %v", what, a.StatusCode, a.body, a.Header)
		}
		if status == 304 && (a.Header.Get("Content-Type") != "" || a.Header.Get("Content-Length") != "" || a.Header.Get("Last-Modified") != "") {
			t.Errorf("%s: %v", what, a.Header)
		}
	}
	w := newSite(t, setup{handler: aware})
	check("made for who has it", w.get("/", "If-None-Match", `W/"v0", W/`+tag), 304)
	check("found", w.get("/"), 200)
	check("found by who has it", w.get("/", "If-None-Match", `W/`+tag), 304)
	check("found by who has any", w.get("/", "If-None-Match", `*`), 304)
	check("found by who has another", w.get("/", "If-None-Match", `"v0"`), 200)
	check("found by who has it from a time", w.get("/", "If-Modified-Since", "Mon, 02 Jan 2036 15:04:05 GMT"), 200)
	check("found by who has another from a time", w.get("/", "If-None-Match", `"v0"`, "If-Modified-Since", "Mon, 02 Jan 2036 15:04:05 GMT"), 200)
	if a := w.do("HEAD", "/", "If-None-Match", tag); a.StatusCode != 304 {
		t.Errorf("HEAD: %d", a.StatusCode)
	}
	w.ran("a page with a tag", 1)
	w.publish(article1)
	check("made for who has it from a time", w.get("/", "If-Modified-Since", "Mon, 02 Jan 2036 15:04:05 GMT"), 200)
	check("found again", w.get("/"), 200)
	w.ran("after a change", 1)

	w = newSite(t, setup{handler: text("a")})
	w.get("/")
	if a := w.get("/", "If-None-Match", "*"); a.StatusCode != 200 {
		t.Errorf("a page without a tag: %d", a.StatusCode)
	}

	// A page that cannot be kept: who has it is told so all the same, each time.
	w = newSite(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-A", "a")
		w.Header().Set("Set-Cookie", "a=b")
		aware(w, r)
		if n, err := w.Write([]byte(" of it")); err != nil && (err != http.ErrBodyNotAllowed || n != 0) {
			t.Error(n, err)
		}
		_, _ = io.WriteString(w, ".")
		_, _ = io.Copy(w, strings.NewReader("."))
	}})
	for i := range 4 {
		a := w.get("/", "If-None-Match", tag)
		if a.StatusCode != 304 || a.body != "" || a.Header.Get("X-A") != "a" {
			t.Errorf("%d: %d %q %v", i, a.StatusCode, a.body, a.Header)
		}
	}
	if a := w.get("/"); a.body != "whole of it.." {
		t.Errorf("%q", a.body)
	}
	w.ran("a page that cannot be kept", 5)
}

// TestPageWithNotModified: inside CachePage it spares the work where it can, and lets the page be kept if the
// response does not say private.
func TestPageWithNotModified(t *testing.T) {
	for _, control := range []string{"", "no-cache"} {
		var loads int64
		w := newSite(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
			if control != "" {
				w.Header().Set("Cache-Control", control)
			}
			if request.NotModified(w, r, article1, "tag") {
				return
			}
			loads++
			fmt.Fprint(w, "whole")
		}})
		loaded := func(what string, want int64) {
			t.Helper()
			if loads != want {
				t.Errorf("%q: %s: loaded %d times, want %d", control, what, loads, want)
			}
			loads = 0
		}
		tag := w.get("/").Header.Get("ETag")
		loaded("at first", 1)
		for range 2 {
			if a := w.get("/", "If-None-Match", tag); a.StatusCode != 304 || a.Header.Get("ETag") != tag {
				t.Errorf("%q: %d %v", control, a.StatusCode, a.Header)
			}
			loaded("who has it", 0)
		}
		if a := w.get("/"); a.body != "whole" || a.Header.Get("ETag") != tag {
			t.Errorf("%q: %q", control, a.body)
		}
		loaded("who has not", map[string]int64{"": 1}[control])
		w.publish(article1)
		if a := w.get("/", "If-None-Match", tag); a.StatusCode != 200 || a.Header.Get("ETag") == tag || a.body != "whole" {
			t.Errorf("%q: %d", control, a.StatusCode)
		}
		loaded("after a change", 1)
	}
}
