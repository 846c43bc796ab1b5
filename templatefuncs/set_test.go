package templatefuncs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"weak"

	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

type user struct {
	ID   int
	Name string
}

func (*user) TableName() string { return "users" }

// site is an application of its own: one with other tokens than the next.
type site struct {
	kit *request.Kit
	key string // of user 1 and "page"
}

func newSite(t testing.TB, bumps int) *site {
	t.Helper()
	ctx := t.Context()
	store := tokens.NewMemory()
	t.Cleanup(func() { store.Close() })
	kit, err := request.New(request.Config{Tokens: store})
	if err != nil {
		t.Fatal(err)
	}
	// A token that is there before the scope opens is storable: its key is the same in all scopes.
	if _, err := tokens.Get(ctx, store, tokens.Row("users", 1)); err != nil {
		t.Fatal(err)
	}
	for range bumps {
		if _, err := tokens.Bump(ctx, store, tokens.Row("users", 1)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, scope := kit.Open(ctx)
	key, err := scope.Key(ctx, &user{ID: 1}, "page")
	if err != nil || !key.Storable() {
		t.Fatalf("Key = %v, storable %v, %v", key, key.Storable(), err)
	}
	return &site{kit: kit, key: key.String()}
}

func (s *site) request(t testing.TB) *http.Request {
	ctx, _ := s.kit.Open(t.Context())
	return httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
}

func parsed(t testing.TB, text string, funcs ...template.FuncMap) *template.Template {
	t.Helper()
	tmpl := template.New("page").Funcs(FuncMap(nil))
	for _, f := range funcs {
		tmpl.Funcs(f)
	}
	if _, err := tmpl.Parse(text); err != nil {
		t.Fatal(err)
	}
	return tmpl
}

func mustSet(t testing.TB, text string, funcs ...template.FuncMap) *Set {
	t.Helper()
	set, err := New(parsed(t, text, funcs...))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestCacheKey(t *testing.T) {
	s := newSite(t, 0)
	for _, test := range []struct {
		name, left, right, text, want string
	}{
		{"default delimiters", "", "", `<p>{{cacheKey .User "page"}}</p>`, `<p>KEY</p>`},
		{"angle brackets", "<<", ">>", `<p><<cacheKey .User "page">></p>`, `<p>KEY</p>`},
		{"square brackets", "[[", "]]", `[[define "x"]][[cacheKey . "page"]][[end]]<p>[[template "x" .User]]</p>`, `<p>KEY</p>`},
		{"pipeline", "", "", `{{"page" | cacheKey .User}}`, `KEY`},
		{"variable", "", "", `{{$k := cacheKey .User "page"}}{{$k}} {{$k}}`, `KEY KEY`},
		{"condition", "", "", `{{if eq (cacheKey .User "page") .Key}}same{{end}}`, `same`},
		{"attribute", "", "", `<p data-key="{{cacheKey .User "page"}}">`, `<p data-key="KEY">`},
		{"script", "", "", `<script>key = {{cacheKey .User "page"}}</script>`, `<script>key = "KEY"</script>`},
		{"text is escaped", "", "", `{{cacheKey "<b>"}}`, `&lt;b&gt;`},
	} {
		t.Run(test.name, func(t *testing.T) {
			tmpl, err := template.New("page").Delims(test.left, test.right).Funcs(FuncMap(nil)).Parse(test.text)
			if err != nil {
				t.Fatal(err)
			}
			set, err := New(tmpl)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.ReplaceAll(test.want, "KEY", s.key)
			data := map[string]any{"User": &user{ID: 1}, "Key": s.key}

			var got strings.Builder
			if err := set.Execute(&got, s.request(t), "page", data); err != nil || got.String() != want {
				t.Errorf("Set.Execute: %q, %v; want %q", got.String(), err, want)
			}

			// FuncMap binds one request to one template.
			r := s.request(t)
			tmpl, err = template.New("page").Delims(test.left, test.right).Funcs(FuncMap(r)).Parse(test.text)
			if err != nil {
				t.Fatal(err)
			}
			got.Reset()
			if err := tmpl.Execute(&got, data); err != nil || got.String() != want {
				t.Errorf("FuncMap: %q, %v; want %q", got.String(), err, want)
			}
		})
	}
}

// Many requests of several applications share one set. None may see the binding of another.
func TestExecuteConcurrently(t *testing.T) {
	sites := make([]*site, 8)
	keys := make(map[string]bool)
	for i := range sites {
		// The clocks of two stores may stand at the same microsecond.
		for bumps := 0; sites[i] == nil || keys[sites[i].key]; bumps++ {
			sites[i] = newSite(t, bumps)
		}
		keys[sites[i].key] = true
	}
	set := mustSet(t, `{{template "row" .}}{{define "row"}}{{cacheKey . "page"}} {{yield}}{{cacheKey . "page"}}{{end}}`,
		template.FuncMap{"yield": func() string { runtime.Gosched(); return "" }})

	var wg sync.WaitGroup
	for i := range 32 * len(sites) {
		s := sites[i%len(sites)]
		wg.Go(func() {
			for range 20 {
				var got strings.Builder
				err := set.Execute(&got, s.request(t), "page", &user{ID: 1})
				if want := s.key + " " + s.key; err != nil || got.String() != want {
					t.Errorf("%q, %v; want %q", got.String(), err, want)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, b := range set.idle {
		if b.binding != (binding{}) {
			t.Error("a clone that waits is bound to a request")
		}
	}
}

// However many execute at a time, MaxIdle clones wait afterwards, and they serve the next.
func TestClones(t *testing.T) {
	s := newSite(t, 0)
	var clones sync.WaitGroup
	release := make(chan struct{})
	set := mustSet(t, `{{wait}}{{cacheKey "x"}}`, template.FuncMap{"wait": func() string {
		clones.Done()
		<-release
		return ""
	}})

	n := MaxIdle() + 5
	clones.Add(n)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if err := set.Execute(io.Discard, s.request(t), "page", nil); err != nil {
				t.Error(err)
			}
		})
	}
	clones.Wait()
	if len(set.idle) != 0 {
		t.Errorf("%d clones wait while all execute", len(set.idle))
	}
	close(release)
	wg.Wait()
	if len(set.idle) != MaxIdle() {
		t.Errorf("%d clones wait, want %d", len(set.idle), MaxIdle())
	}

	last := set.idle[len(set.idle)-1]
	clones.Add(10)
	for range 10 {
		if err := set.Execute(io.Discard, s.request(t), "page", nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(set.idle) != MaxIdle() || set.idle[len(set.idle)-1] != last {
		t.Error("a request that found clones waiting did not use the one used last")
	}
}

// Neither the request nor the data outlives an execution, however it ended.
func TestNothingIsKept(t *testing.T) {
	set := mustSet(t, `{{cacheKey .User "page"}}{{call .Do}}`)
	s := newSite(t, 0)
	type ctxKey struct{}

	for _, test := range []struct {
		name  string
		do    func() (string, error)
		wants bool // an error
	}{
		{"success", func() (string, error) { return "", nil }, false},
		{"error", func() (string, error) { return "", errors.New("no") }, true},
		{"panic", func() (string, error) { panic("no") }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			request, data := func() (weak.Pointer[user], weak.Pointer[user]) {
				inRequest, inData := &user{ID: 2, Name: strings.Repeat("x", 3)}, &user{ID: 1, Name: strings.Repeat("y", 3)}
				r := s.request(t)
				r = r.WithContext(context.WithValue(r.Context(), ctxKey{}, inRequest))
				err := set.Execute(io.Discard, r, "page", map[string]any{"User": inData, "Do": test.do})
				if (err != nil) != test.wants {
					t.Fatalf("error: %v", err)
				}
				return weak.Make(inRequest), weak.Make(inData)
			}()
			runtime.GC()
			runtime.GC()
			if request.Value() != nil {
				t.Error("the request is kept")
			}
			if data.Value() != nil {
				t.Error("the data is kept")
			}
			if len(set.idle) != 1 || set.idle[0].binding != (binding{}) {
				t.Error("the clone did not come back unbound")
			}
		})
	}
	runtime.KeepAlive(set)
}

type panicking struct{}

func (panicking) Write([]byte) (int, error) { panic(http.ErrAbortHandler) }

// html/template lets a panic of the writer through. Its clone is not used again.
func TestPanicOfWriter(t *testing.T) {
	s := newSite(t, 0)
	set := mustSet(t, `{{cacheKey .}}`)
	func() {
		defer func() {
			if got := recover(); got != http.ErrAbortHandler {
				t.Errorf("recovered %v, want the writer's panic", got)
			}
		}()
		_ = set.Execute(panicking{}, s.request(t), "page", &user{ID: 1})
		t.Error("no panic")
	}()
	if len(set.idle) != 0 {
		t.Error("the clone came back")
	}
	if err := set.Execute(io.Discard, s.request(t), "page", &user{ID: 1}); err != nil {
		t.Error(err)
	}
}

// A function of a template may execute the same set.
func TestExecuteInside(t *testing.T) {
	outer, inner := newSite(t, 0), newSite(t, 1)
	var set *Set
	set = mustSet(t, `{{cacheKey . "page"}} {{inside .}} {{cacheKey . "page"}}{{define "inner"}}{{cacheKey . "page"}}{{end}}`,
		template.FuncMap{"inside": func(u *user) (string, error) {
			var b strings.Builder
			err := set.Execute(&b, inner.request(t), "inner", u)
			return b.String(), err
		}})
	var got strings.Builder
	want := outer.key + " " + inner.key + " " + outer.key
	if err := set.Execute(&got, outer.request(t), "page", &user{ID: 1}); err != nil || got.String() != want {
		t.Errorf("%q, %v; want %q", got.String(), err, want)
	}
}

func TestExecuteErrors(t *testing.T) {
	s := newSite(t, 0)
	failed := errors.New("own error")
	set := mustSet(t, `{{define "key"}}before {{cacheKey .}}{{end}}{{define "own"}}{{own}}{{end}}{{define "field"}}{{.Missing}}{{end}}`,
		template.FuncMap{"own": func() (string, error) { return "", failed }})

	t.Run("no request", func(t *testing.T) {
		if err := set.Execute(io.Discard, nil, "key", nil); !errors.Is(err, ErrNoRequest) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("no scope", func(t *testing.T) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		err := set.Execute(io.Discard, r, "key", &user{ID: 1})
		if !errors.Is(err, ErrNoScope) || !errors.Is(err, request.ErrNoScope) || !strings.Contains(err.Error(), "middleware") || !strings.Contains(err.Error(), "cacheKey") {
			t.Errorf("error %v", err)
		}
		if err := set.ExecuteContext(io.Discard, t.Context(), "key", &user{ID: 1}); !errors.Is(err, ErrNoScope) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("no scope, no key", func(t *testing.T) {
		plain := mustSet(t, `<p>{{.}}</p>`)
		var got strings.Builder
		if err := plain.ExecuteContext(&got, t.Context(), "page", "&"); err != nil || got.String() != "<p>&amp;</p>" {
			t.Errorf("%q, %v", got.String(), err)
		}
	})
	t.Run("parsing only", func(t *testing.T) {
		err := parsed(t, `{{cacheKey .}}`).Execute(io.Discard, &user{ID: 1})
		if !errors.Is(err, ErrNoRequest) || !strings.Contains(err.Error(), "cacheKey") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("bad argument", func(t *testing.T) {
		var got strings.Builder
		err := set.Execute(&got, s.request(t), "key", func() {})
		if !errors.Is(err, tokens.ErrUnstable) {
			t.Errorf("error %v", err)
		}
		for _, want := range []string{"cacheKey", "func()", "page:1"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not name %q", err, want)
			}
		}
		if _, ok := errors.AsType[interface {
			error
			Unwrap() error
		}](err); !ok || got.String() != "before " {
			t.Errorf("%T after %q: not as html/template's", err, got.String())
		}
	})
	t.Run("nil model", func(t *testing.T) {
		err := set.Execute(io.Discard, s.request(t), "key", (*user)(nil))
		if !errors.Is(err, tokens.ErrModel) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("nil data", func(t *testing.T) {
		// As html/template does: nil is passed on, and a field of it is nothing.
		if err := set.Execute(io.Discard, s.request(t), "field", nil); err != nil {
			t.Errorf("error %v", err)
		}
	})
	t.Run("undefined template", func(t *testing.T) {
		err := set.Execute(io.Discard, s.request(t), "none", nil)
		want := template.New("page").ExecuteTemplate(io.Discard, "none", nil)
		if err == nil || err.Error() != want.Error() {
			t.Errorf("error %v, want %v", err, want)
		}
	})
	t.Run("function's error", func(t *testing.T) {
		if err := set.Execute(io.Discard, s.request(t), "own", nil); !errors.Is(err, failed) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("writer's error", func(t *testing.T) {
		err := set.Execute(failing{failed}, s.request(t), "key", &user{ID: 1})
		if err != failed {
			t.Errorf("error %v", err)
		}
	})
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestNew(t *testing.T) {
	never := template.FuncMap{"never": func() (string, error) { panic("New executed a template") }}
	for _, test := range []struct {
		name, text string
		errs       []string // none: accepted
	}{
		{"fine", `<p>{{never}}</p>`, nil},
		{"empty", ``, nil},
		{"only definitions", `{{define "a"}}{{never}}{{end}}`, nil},
		{"branches", `{{if never}}<p>{{else}}<p title="{{end}}`, []string{`"page"`, "page:1", "branches end in different contexts"}},
		{"end in an attribute", `<p title="{{never}}`, []string{`"page"`, "ends in a non-text context"}},
		{"end in a script", `<p>{{define "a"}}<script>{{end}}`, []string{`"a"`, "ends in a non-text context"}},
		{"quote in a name", `<p {{never}}"></p>`, []string{`"page"`, "html/template:page", "in attribute name"}},
		{"no such template", `{{define "a"}}{{template "gone"}}{{end}}`, []string{`"a"`, `"gone"`}},
		{"part of an accepted one", `{{template "open"}}{{never}}">{{define "open"}}<p title="{{template "inner"}}{{end}}{{define "inner"}}{{never}}" class="{{end}}`, nil},
		{"part of a refused one", `{{define "a"}}{{template "b"}}{{end}}{{define "b"}}<p title="{{end}}`, []string{`"a"`, `"b"`}},
		{"each other's part", `{{define "a"}}<p title="{{if never}}{{template "b"}}{{end}}{{end}}{{define "b"}}{{template "a"}}{{end}}`, []string{`"a"`, `"b"`}},
		{"each by itself", `{{define "a"}}{{template "b"}}{{never}}">{{end}}{{define "b"}}<p title="{{end}}{{define "c"}}{{template "b"}}{{end}}`, []string{`"c"`, "ends in a non-text context"}},
		{"part in a range", `{{range .}}{{template "b"}}">{{end}}{{define "b"}}<p title="{{end}}`, nil},
		{"part in a range's else", `{{range .}}{{else}}{{template "b"}}">{{end}}{{define "b"}}<p title="{{end}}`, nil},
		{"part in a with", `{{with .}}{{else with never}}{{template "b"}}">{{end}}{{define "b"}}<p title="{{end}}`, nil},
		{"part in an if", `{{if .}}{{else if never}}{{template "b"}}">{{end}}{{define "b"}}<p title="{{end}}`, nil},
		{"recursion", `{{define "a"}}<p>{{never}}</p>{{if .}}{{template "a" .}}{{end}}{{end}}`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(parsed(t, test.text, never))
			if (err != nil) != (test.errs != nil) {
				t.Fatalf("error %v", err)
			}
			for _, want := range test.errs {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not name %q", err, want)
				}
			}
		})
	}

	t.Run("nil", func(t *testing.T) {
		if _, err := New(nil); err == nil {
			t.Error("no error")
		}
	})
	t.Run("executed before", func(t *testing.T) {
		tmpl := parsed(t, `x`)
		if err := tmpl.Execute(io.Discard, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := New(tmpl); err == nil || !strings.Contains(err.Error(), "before") {
			t.Errorf("error %v", err)
		}
	})
}

// A set is as its template was when it was made.
func TestIndependence(t *testing.T) {
	tmpl := parsed(t, `{{greet}} {{.missing}}`, template.FuncMap{"greet": func() string { return "hello" }})
	tmpl.Option("missingkey=error")
	set, err := New(tmpl)
	if err != nil {
		t.Fatal(err)
	}
	template.Must(tmpl.Parse(`changed`))
	tmpl.Funcs(template.FuncMap{"greet": func() string { return "changed" }})
	if err := tmpl.Execute(io.Discard, nil); err != nil {
		t.Fatal(err)
	}

	var got bytes.Buffer
	if err := set.ExecuteContext(&got, t.Context(), "page", map[string]int{"missing": 1}); err != nil || got.String() != "hello 1" {
		t.Errorf("%q, %v", got.String(), err)
	}
	if err := set.ExecuteContext(io.Discard, t.Context(), "page", map[string]int{}); err == nil {
		t.Error("the template's option is lost")
	}
}

func ExampleSet() {
	store := tokens.NewMemory()
	defer store.Close()
	kit, err := request.New(request.Config{Tokens: store})
	if err != nil {
		panic(err)
	}

	// Once, when the program starts:
	set, err := New(template.Must(template.New("page").
		Delims("<<", ">>").
		Funcs(FuncMap(nil)).
		Parse(`<p><<if cacheKey .User "page">>It has a key.<<end>></p>`)))
	if err != nil {
		panic(err)
	}

	// For every request:
	ctx, _ := kit.Open(context.Background())
	var page strings.Builder
	if err := set.ExecuteContext(&page, ctx, "page", map[string]any{"User": &user{ID: 1}}); err != nil {
		panic(err)
	}
	fmt.Println(page.String())
	// Output: <p>It has a key.</p>
}
