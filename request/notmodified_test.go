package request_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// visit asks for a page. The header of the request is given as names and values in turn.
func visit(ctx context.Context, method string, set http.Header, args []any, header ...string) (*httptest.ResponseRecorder, bool) {
	r := httptest.NewRequest(method, "/", nil).WithContext(ctx)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	for name, values := range set {
		w.Header()[name] = slices.Clone(values)
	}
	return w, request.NotModified(w, r, args...)
}

func TestNotModified(t *testing.T) {
	f := newFetcher(t, request.Config{})
	args := []any{user1, "page"}
	w, sent := visit(f.open(t), "GET", nil, args)
	tag := w.Header().Get("ETag")
	if sent || !regexp.MustCompile(`^W/"[A-Za-z0-9_-]{22}"$`).MatchString(tag) {
		t.Fatalf("sent %t, ETag %q", sent, tag)
	}
	if cc, vary := w.Header().Get("Cache-Control"), w.Header().Values("Vary"); cc != "private, no-cache" || !slices.Equal(vary, []string{"Cookie"}) {
		t.Errorf("Cache-Control %q, Vary %q", cc, vary)
	}
	strong := strings.TrimPrefix(tag, "W/")
	for _, c := range []struct {
		name   string
		method string
		header []string
		want   bool
	}{
		{"the tag", "GET", []string{"If-None-Match", tag}, true},
		{"HEAD", "HEAD", []string{"If-None-Match", tag}, true},
		{"as a strong one", "GET", []string{"If-None-Match", strong}, true},
		{"in a list", "GET", []string{"If-None-Match", `"a", W/"b,c" ,` + tag + `, "d"`}, true},
		{"in the second of two", "GET", []string{"If-None-Match", `"a"`, "If-None-Match", tag}, true},
		{"after empty elements", "GET", []string{"If-None-Match", " ,, " + tag}, true},
		{"any", "GET", []string{"If-None-Match", " * "}, true},
		{"another", "GET", []string{"If-None-Match", `"a"`}, false},
		{"none", "GET", nil, false},
		{"empty", "GET", []string{"If-None-Match", ""}, false},
		{"without quotes", "GET", []string{"If-None-Match", strings.Trim(strong, `"`)}, false},
		{"a part of it", "GET", []string{"If-None-Match", strong[:10] + `"`}, false},
		{"inside another", "GET", []string{"If-None-Match", `"x` + strong[1:]}, false},
		{"cut off", "GET", []string{"If-None-Match", strong[:len(strong)-1]}, false},
		{"after what is no tag", "GET", []string{"If-None-Match", "x " + tag}, false},
		{"after a tag without a comma", "GET", []string{"If-None-Match", `"a" ` + tag}, false},
		{"any in a list", "GET", []string{"If-None-Match", `*, "a"`}, false},
		{"since tomorrow", "GET", []string{"If-Modified-Since", time.Now().Add(24 * time.Hour).UTC().Format(http.TimeFormat)}, false},
		{"another, since tomorrow", "GET", []string{"If-None-Match", `"a"`, "If-Modified-Since", time.Now().Add(24 * time.Hour).UTC().Format(http.TimeFormat)}, false},
		{"the tag, since long ago", "GET", []string{"If-None-Match", tag, "If-Modified-Since", time.Unix(0, 0).UTC().Format(http.TimeFormat)}, true},
	} {
		w, sent := visit(f.open(t), c.method, nil, args, c.header...)
		if sent != c.want || (w.Code == http.StatusNotModified) != c.want {
			t.Errorf("%s: sent %t, status %d", c.name, sent, w.Code)
		}
		if got := w.Header().Get("ETag"); got != tag {
			t.Errorf("%s: ETag %q, want %q", c.name, got, tag)
		}
		if w.Body.Len() > 0 {
			t.Errorf("%s: a body", c.name)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		w, sent := visit(f.open(t), method, nil, args, "If-None-Match", tag)
		if sent || len(w.Header()) > 0 {
			t.Errorf("%s: sent %t, header %v", method, sent, w.Header())
		}
	}
	for _, other := range [][]any{{user2, "page"}, {user1}, {user1, "page", 1}} {
		if _, sent := visit(f.open(t), "GET", nil, other, "If-None-Match", tag); sent {
			t.Errorf("the tag of %v is taken for %v", args, other)
		}
	}
	publish(t, f.store, user1)
	warm(t, f.store, user1)
	if w, sent := visit(f.open(t), "GET", nil, args, "If-None-Match", tag); sent || w.Header().Get("ETag") == tag {
		t.Error("the tag outlives a change")
	}
}

// TestNotModifiedBuilds: another build, another tag.
func TestNotModifiedBuilds(t *testing.T) {
	store, _ := newStore(t)
	warm(t, store, user1)
	seen := map[string]bool{}
	for _, version := range []string{"1", "2"} {
		kit := newKit(t, request.Config{Tokens: store, Version: version})
		w, _ := visit(first(kit.Open(t.Context())), "GET", nil, []any{user1})
		seen[w.Header().Get("ETag")] = true
	}
	if len(seen) != 2 {
		t.Errorf("%v", seen)
	}
}

func TestNotModifiedHeader(t *testing.T) {
	set := http.Header{
		"Cache-Control": {"public, max-age=5"}, "Vary": {"Accept, cookie"}, "Content-Location": {"/page"}, "Expires": {"0"},
		"Content-Type": {"text/html"}, "Content-Length": {"5"}, "Content-Encoding": {"gzip"}, "Last-Modified": {"x"},
	}
	f := newFetcher(t, request.Config{})
	w, _ := visit(f.open(t), "GET", set, []any{user1})
	tag := w.Header().Get("ETag")
	w, sent := visit(f.open(t), "GET", set, []any{user1}, "If-None-Match", tag)
	want := http.Header{
		"Etag": {tag}, "Cache-Control": {"public, max-age=5"}, "Vary": {"Accept, cookie"}, "Content-Location": {"/page"}, "Expires": {"0"},
	}
	if got := w.Result().Header; !sent || !equalHeaders(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	w, _ = visit(f.open(t), "GET", http.Header{"Vary": {"Origin"}}, []any{user1})
	if got := w.Header().Values("Vary"); !slices.Equal(got, []string{"Origin", "Cookie"}) {
		t.Errorf("Vary %q", got)
	}
	w, _ = visit(f.open(t), "GET", http.Header{"Vary": {"*"}}, []any{user1})
	if got := w.Header().Values("Vary"); !slices.Equal(got, []string{"*"}) {
		t.Errorf("Vary %q", got)
	}
	f = newFetcher(t, request.Config{CacheControl: "no-store", Vary: []string{}, StrongETag: true})
	w, _ = visit(f.open(t), "GET", nil, []any{user1})
	if h := w.Header(); h.Get("Cache-Control") != "no-store" || len(h["Vary"]) > 0 || !strings.HasPrefix(h.Get("ETag"), `"`) {
		t.Errorf("%v", h)
	}
	f = newFetcher(t, request.Config{})
	w, _ = visit(f.open(t), "GET", nil, []any{user1, request.StrongETag()})
	if h := w.Header(); !strings.HasPrefix(h.Get("ETag"), `"`) {
		t.Errorf("%v", h)
	}
	strong := w.Header().Get("ETag")
	if _, sent := visit(f.open(t), "GET", nil, []any{user1}, "If-None-Match", strong); !sent {
		t.Error("the strong tag is another")
	}
}

func equalHeaders(a, b http.Header) bool {
	if len(a) != len(b) {
		return false
	}
	for name, values := range a {
		if !slices.Equal(values, b[name]) {
			return false
		}
	}
	return true
}

// TestNotModifiedIsJudged: the tag is sent only with what may be stored, and confirmed only where a
// stored value may be served.
func TestNotModifiedIsJudged(t *testing.T) {
	store, b := newStore(t)
	f := newFetcher(t, request.Config{Tokens: store})
	old := f.open(t)
	publish(t, f.store, user1)
	warm(t, f.store, user1)
	w, _ := visit(f.open(t), "GET", nil, []any{user1})
	tag := w.Header().Get("ETag")
	if tag == "" {
		t.Fatal("no tag")
	}
	check := func(what string, ctx context.Context, sent, tagged bool, header ...string) {
		t.Helper()
		w, got := visit(ctx, "GET", nil, []any{user1}, header...)
		if got != sent || (w.Header().Get("ETag") != "") != tagged {
			t.Errorf("%s: sent %t, header %v", what, got, w.Header())
		}
		if w.Header().Get("Cache-Control") == "" {
			t.Errorf("%s: no Cache-Control", what)
		}
	}
	check("younger", old, false, false)
	check("younger, and the client has it", old, true, true, "If-None-Match", tag)
	check("younger, and the client has something", old, true, false, "If-None-Match", "*")

	write := f.store.Ledger().Begin()
	ctx := f.open(t)
	write.Add(user1)
	check("own write", ctx, false, false, "If-None-Match", tag)
	check("own write, any", ctx, false, false, "If-None-Match", "*")
	write.End(tokens.RolledBack)
	check("rolled back", ctx, true, true, "If-None-Match", tag)
	check("rolled back, for one who has nothing", ctx, false, false)

	owner := tokens.NewOwner()
	if err := store.Fence(t.Context(), owner, tokens.NewChanges(user1), time.Hour); err != nil {
		t.Fatal(err)
	}
	check("fenced", f.open(t), false, false, "If-None-Match", tag)
	if err := store.Release(t.Context(), owner, tokens.NewChanges(user1)); err != nil {
		t.Fatal(err)
	}
	check("released", f.open(t), true, true, "If-None-Match", tag)
	b.down.Store(true)
	check("store down", f.open(t), false, false, "If-None-Match", tag)
	w, sent := visit(f.open(t), "GET", nil, []any{func() {}}, "If-None-Match", "*")
	if sent || w.Header().Get("ETag") != "" {
		t.Errorf("unstable: sent %t, %v", sent, w.Header())
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic without the middleware")
		}
	}()
	visit(t.Context(), "GET", nil, []any{user1})
}

// TestCheckETag: what a handler writes after NotModified keeps the tag from its response.
func TestCheckETag(t *testing.T) {
	for _, write := range []bool{false, true} {
		f := newFetcher(t, request.Config{})
		ctx := f.open(t)
		w, _ := visit(ctx, "GET", nil, []any{user1})
		if write {
			if err := txscope.Changed(ctx, user1); err != nil {
				t.Fatal(err)
			}
		}
		s, _ := request.FromContext(ctx)
		own := http.Header{"Etag": {`"own"`}}
		s.CheckETag(own)
		if own.Get("ETag") != `"own"` {
			t.Error("the ETag of somebody else is taken away")
		}
		if s.CheckETag(w.Header()); (w.Header().Get("ETag") == "") != write {
			t.Errorf("written %t: %v", write, w.Header())
		}
	}
}

func FuzzIfNoneMatch(f *testing.F) {
	store := tokens.NewMemory()
	defer store.Close()
	kit := newKit(f, request.Config{Tokens: store})
	warm(f, store, user1)
	ctx, _ := kit.Open(f.Context())
	w, _ := visit(ctx, "GET", nil, []any{user1})
	tag := w.Header().Get("ETag")
	f.Add("*")
	f.Add(`W/"a", "b"`)
	f.Fuzz(func(t *testing.T, list string) {
		_, sent := visit(ctx, "GET", nil, []any{user1}, "If-None-Match", list)
		if sent && strings.TrimSpace(list) != "*" && !strings.Contains(list, tag[2:]) {
			t.Errorf("%q matches", list)
		}
		if _, sent := visit(ctx, "GET", nil, []any{user1}, "If-None-Match", tag+","+list); !sent {
			t.Errorf("not found before %q", list)
		}
	})
}
