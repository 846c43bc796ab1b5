package templatefuncs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	texttemplate "text/template"
	"time"
	"weak"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

// is executes a page and says what it came out as, and how much of it was found.
func (p *pages) is(t testing.TB, what string, set *Set, data any, want string, hits, misses int) {
	t.Helper()
	got, stats, err := p.execute(t, set, data)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
	if stats.Hits != hits || stats.Misses != misses {
		t.Errorf("%s: %d hits and %d misses, want %d and %d", what, stats.Hits, stats.Misses, hits, misses)
	}
}

// know makes tokens that requests from now on have seen before they begin.
func (p *pages) know(t testing.TB, ids ...tokens.ID) {
	t.Helper()
	if _, err := p.store.Read(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
}

// change is a commit elsewhere.
func (p *pages) change(t testing.TB, id tokens.ID) {
	t.Helper()
	if _, err := tokens.Bump(t.Context(), p.store, id); err != nil {
		t.Fatal(err)
	}
	p.know(t, id)
}

var user1, user2 = tokens.Row("users", 1), tokens.Row("users", 2)

func TestFragmentDependencies(t *testing.T) {
	p := newPages(t)
	p.know(t, user1, user2, tokens.Table("orders"))
	set := mustSet(t, `{{fragment "outer" .One}}{{define "outer"}}[{{.Name}} {{fragment "inner" other}}]{{end}}{{define "inner"}}({{.Name}}{{if cacheKey "alkey:orders#*"}}{{end}}){{end}}`,
		template.FuncMap{"other": func() *user { return &other }})
	one := &user{ID: 1, Name: "one"}
	other = user{ID: 2, Name: "two"}
	data := map[string]any{"One": one}
	p.is(t, "first", set, data, "[one (two)]", 0, 2)
	p.is(t, "found", set, data, "[one (two)]", 1, 0)
	other.Name = "TWO"
	p.is(t, "nothing is known of a change", set, data, "[one (two)]", 1, 0)
	p.change(t, user2)
	p.is(t, "after a change of the inner row", set, data, "[one (TWO)]", 0, 2)
	p.is(t, "found again", set, data, "[one (TWO)]", 1, 0)
	one.Name = "ONE"
	p.change(t, user1)
	p.is(t, "after a change of the outer row", set, data, "[ONE (TWO)]", 1, 1)
	p.change(t, tokens.Table("orders"))
	p.is(t, "after a change of what the inner one has asked for", set, data, "[ONE (TWO)]", 0, 2)
	p.change(t, tokens.Row("users", 3))
	p.is(t, "after a change of another row", set, data, "[ONE (TWO)]", 1, 0)
}

var other user

// TestUncachedInside: a fragment depends on what is made each time inside it, whatever the condition says.
func TestUncachedInside(t *testing.T) {
	for _, call := range []string{
		`{{fragment "inner" other (cacheIf false)}}`, `{{fragment "inner" other (cacheIf true)}}`, `{{fragment "inner" 1 other (cacheIf false)}}`,
		`{{fragments "inner" others (cacheIf false)}}`, `{{fragment "between" 1 (cacheIf false)}}`,
	} {
		p := newPages(t)
		p.know(t, user1, user2)
		set := mustSet(t, `{{fragment "outer" .}}{{define "outer"}}[`+call+`]{{end}}{{define "between"}}{{fragment "inner" other (cacheIf false)}}{{end}}{{define "inner"}}({{name}}){{end}}`, template.FuncMap{
			"other":  func() *user { return &other },
			"others": func() []*user { return []*user{&other} },
			"name":   func() string { return other.Name },
		})
		for _, name := range []string{"two", "TWO"} {
			other = user{ID: 2, Name: name}
			p.change(t, user2)
			for range 2 {
				got, stats, err := p.execute(t, set, &user{ID: 1})
				if want := "[(" + name + ")]"; err != nil || got != want {
					t.Errorf("%s: %q, %v; want %q", call, got, err, want)
				}
				if got != "" && stats.Hits+stats.Misses == 0 {
					t.Errorf("%s: nothing is cached", call)
				}
			}
		}
	}
}

// TestUnstableInside: what makes no key can be shown by a fragment that is not cached. What is around it is
// not stored: nobody knows when it must be made again.
func TestUnstableInside(t *testing.T) {
	store := newRecorder()
	p := newPagesOver(t, newTokens(t), store, "test")
	p.know(t, user1)
	set := mustSet(t, `{{fragment "outer" .}}{{define "outer"}}[{{fragment "inner" inside (cacheIf false)}}]{{end}}{{define "inner"}}{{len .}}{{end}}`,
		template.FuncMap{"inside": func() any { return [][]any{{&user{ID: 2}}} }})
	for range 2 {
		p.is(t, "always", set, &user{ID: 1}, "[1]", 0, 1)
	}
	if keys := store.keys(); len(keys) > 0 {
		t.Errorf("stored: %q", keys)
	}
}

// TestFragmentKeys: what is another fragment, and what is the same.
func TestFragmentKeys(t *testing.T) {
	p := newPages(t)
	p.know(t, user1)
	n := 0
	set := mustSet(t, `{{fragment .Name .Data .Extra}}{{define "a"}}{{count}}{{end}}{{define "b"}}{{count}}{{end}}{{define "alkey:users#1"}}{{count}}{{end}}`,
		template.FuncMap{"count": func() int { n++; return n }})
	type page struct{ Name, Data, Extra any }
	u := &user{ID: 1}
	seen := make(map[string]int)
	for i, d := range []page{
		{"a", u, "x"}, {"b", u, "x"}, {"a", u, "y"}, {"a", u, nil}, {"a", nil, "x"}, {"a", (*user)(nil), "x"}, {"a", (*time.Time)(nil), "x"},
		{"a", "alkey:users#1", "x"}, {"a", "alkey", "x"}, {"alkey:users#1", u, "x"}, {"a", 1, "x"}, {"a", "1", "x"}, {"a", u, tokens.Text("alkey:users#1")}, {"a", u, "alkey:users#1"},
		{"a", template.HTML("1"), "x"}, {"a", []any{1}, "x"}, {"a", []any{"1"}, "x"}, {"a", []int{1}, "x"}, {"a", map[string]any{"k": 1}, "x"}, {"a", map[string]any{"k": "1"}, "x"},
		{"a", map[any]string{1: "k"}, "x"}, {"a", map[any]string{"1": "k"}, "x"}, {"a", plain1{"x"}, "x"}, {"a", plain2{"x"}, "x"}, {"a", summary{ID: 1}, "x"},
	} {
		first, _, err := p.execute(t, set, d)
		if err != nil {
			t.Fatalf("%+v: %v", d, err)
		}
		if j, ok := seen[first]; ok {
			t.Errorf("%d and %d are one fragment", j, i)
		}
		seen[first] = i
		again, _, err := p.execute(t, set, d)
		if err != nil || again != first {
			t.Errorf("%+v is not found again: %q, then %q, %v", d, first, again, err)
		}
	}
}

// TestFragmentTypes: two types can have one name.
func TestFragmentTypes(t *testing.T) {
	of := func(inText bool) any {
		if inText {
			type row struct{ X string }
			return row{"<b>"}
		}
		type row struct{ X template.HTML }
		return row{"<b>"}
	}
	p := newPages(t)
	set := mustSet(t, `{{fragment "f" .}}{{define "f"}}{{.Row.X}}{{end}}`)
	type holder struct{ Row any }
	for _, hold := range []func(row any) any{
		func(row any) any { return map[string]any{"Row": row} },
		func(row any) any { return holder{row} },
		func(row any) any { // the type that differs is the data's own
			t := reflect.StructOf([]reflect.StructField{{Name: "Row", Type: reflect.TypeOf(row)}})
			v := reflect.New(t).Elem()
			v.Field(0).Set(reflect.ValueOf(row))
			return v.Interface()
		},
	} {
		p.is(t, "HTML", set, hold(of(false)), "<b>", 0, 1)
		p.is(t, "text", set, hold(of(true)), "&lt;b&gt;", 0, 1)
		p.is(t, "text again", set, hold(of(true)), "&lt;b&gt;", 1, 0)
	}
	for range 2 { // they have one key, and take turns
		set := mustSet(t, `{{fragment "f" .}}{{define "f"}}{{.X}}{{end}}`)
		p.is(t, "data of HTML", set, of(false), "<b>", 0, 1)
		p.is(t, "data of text", set, of(true), "&lt;b&gt;", 0, 1)
	}
}

// TestFragmentVersions: what was stored by other templates or another build is not found.
func TestFragmentVersions(t *testing.T) {
	store, values := tokens.NewMemory(), cache.NewMemory(1<<20)
	defer store.Close()
	const inner = `{{define "inner"}}({{.Name}}){{end}}{{define "other"}}o{{end}}`
	page := func(body string) string { return `{{fragment "f" .}}{{define "f"}}` + body + `{{end}}` }
	u := &user{ID: 1, Name: "n"}
	p := newPagesOver(t, store, values, "1")
	p.know(t, user1)
	get := func(what, text, version, want string, hits, misses int) {
		t.Helper()
		newPagesOver(t, store, values, version).is(t, what, mustSet(t, text, template.FuncMap{"upper": strings.ToUpper, "UPPER": strings.ToUpper}), u, want, hits, misses)
	}
	get("first", page(`a{{template "inner" .}}`)+inner, "1", "a(n)", 0, 1)
	get("the same", page(`a{{template "inner" .}}`)+inner, "1", "a(n)", 1, 0)
	get("another page around it", `<p>`+page(`a{{template "inner" .}}`)+inner, "1", "<p>a(n)", 1, 0)
	get("another template elsewhere", page(`a{{template "inner" .}}`)+strings.Replace(inner, "}}o{{", "}}p{{", 1), "1", "a(n)", 1, 0)
	get("another build", page(`a{{template "inner" .}}`)+inner, "2", "a(n)", 0, 1)
	get("another text", page(`b{{template "inner" .}}`)+inner, "2", "b(n)", 0, 1)
	get("another included template", page(`b{{template "inner" .}}`)+strings.Replace(inner, "(", "((", 1), "2", "b((n)", 0, 1)
	get("another fragment inside", page(`b{{fragment "inner" .}}`)+inner, "2", "b(n)", 0, 2)
	get("the same again", page(`b{{fragment "inner" .}}`)+inner, "2", "b(n)", 1, 0)
	get("another template of the fragment inside", page(`b{{fragment "inner" .}}`)+strings.Replace(inner, "(", "((", 1), "2", "b((n)", 0, 2)
	get("a computed name", page(`b{{fragment (print "inner") .}}`)+inner, "2", "b(n)", 0, 2)
	get("which may be any template", page(`b{{fragment (print "inner") .}}`)+strings.Replace(inner, "}}o{{", "}}p{{", 1), "2", "b(n)", 1, 1)
	get("text that looks like an action", page("b{{print `{{.Name}}`}}"), "3", "b{{.Name}}", 0, 1)
	get("another function", page(`{{upper .Name}}`), "3", "N", 0, 1)
	get("and another", page(`{{UPPER .Name}}`), "3", "N", 0, 1)
}

// TestFragmentDigest: text and actions that print alike are not the same template.
func TestFragmentDigest(t *testing.T) {
	digests := make(map[string]string)
	for _, text := range []string{
		`<<"x">>`, `{{"x"}}`, `{{.x}}`, `<<.x>>`, `<<.x.y>>`, `<<(.x).y>>`, `<<if .x>>y<<end>>`, `<<with .x>>y<<end>>`, `<<range .x>>y<<end>>`, `<<if .x>><<else>>y<<end>>`, `<<if .x>>y<<else>><<end>>z`,
		`<<$x := .>>`, `<<$x := .>><<$x = .>>`, `<<range .x>><<break>><<end>>`, `<<range .x>><<continue>><<end>>`, `<<.x | print>>`, `<<print .x>>`, `<<(print .x)>>`, `<<1>>`, `<<'1'>>`, `<<true>>`, `<<print nil>>`,
		`<<template "x">>`, `<<template "x" .>>`, `<<template "y" .>>`, `<<print "a" "b">>`, `<<print "ab">>`, `a<<"b">>`, `<<"a">>b`,
	} {
		tmpl, err := template.New("t").Delims("<<", ">>").Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		b := bodies{"t": tmpl.Tree}
		all, err := b.read()
		if err != nil {
			t.Fatal(err)
		}
		d := b.outlines(all, nil, nil)["t"].digest
		if have, ok := digests[d]; ok {
			t.Errorf("%s and %s have one digest", have, text)
		}
		digests[d] = text
	}
}

func TestFragmentTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPages(t)
		p.know(t, user1)
		n := 0
		set := mustSet(t, `{{fragment "f" . (cacheTTL "10m")}}{{fragment "f" . "long" (cacheTTL .Hour)}}{{fragment "f" . "both" (cacheTTL "1h") (cacheTTL "1m")}}{{define "f"}}{{count}} {{end}}`,
			template.FuncMap{"count": func() int { n++; return n }})
		data := struct {
			user
			Hour time.Duration
		}{user{ID: 1}, time.Hour}
		p.is(t, "first", set, data, "1 2 3 ", 0, 3)
		time.Sleep(59 * time.Second)
		p.is(t, "found", set, data, "1 2 3 ", 3, 0)
		time.Sleep(2 * time.Second)
		p.is(t, "after a minute", set, data, "1 2 4 ", 2, 1)
		time.Sleep(9 * time.Minute)
		p.is(t, "after ten", set, data, "5 2 6 ", 1, 2)
		time.Sleep(time.Hour)
		p.is(t, "after an hour", set, data, "7 8 9 ", 0, 3)
	})
}

// TestFragmentErrors: errors are html/template's, where and whatever they are, and nothing is left of a
// page that failed.
func TestFragmentErrors(t *testing.T) {
	failed := errors.New("own error")
	own := template.FuncMap{
		"fail":   func() (string, error) { return "", failed },
		"panics": func() string { panic("oops") },
	}
	for _, test := range []struct {
		name, body string
		is         error
	}{
		{"field", `{{.Missing}}`, nil},
		{"method", `{{.Fails}}`, errMethod},
		{"function", `<b>{{fail}}</b>`, failed},
		{"panic of a function", `{{panics}}`, nil},
		{"panic of a method", `{{.Panics}}`, nil},
		{"further in", `<b>{{fragment "g" .}}</b>`, failed},
		{"argument", `{{fragment "ok" .Missing}}`, nil},
		{"of a list", `{{fragments "g" .List}}`, failed},
		{"included", `{{template "g" .}}`, failed},
		{"second", `{{fragment "ok" .}}{{fragment "g" .}}`, failed},
	} {
		t.Run(test.name, func(t *testing.T) {
			source := parsed(t, `<p>{{fragment "ok" .}}{{fragment "f" .}}</p>{{define "f"}}`+test.body+`{{end}}{{define "g"}}{{fail}}{{end}}{{define "ok"}}ok{{end}}`, own)
			data := &failing2{ID: 1, List: []int{1}}
			want := inPlain(t, source).ExecuteTemplate(io.Discard, "page", data)
			set, err := New(source)
			if err != nil {
				t.Fatal(err)
			}
			store := newRecorder()
			p := newPagesOver(t, newTokens(t), store, "test")
			for range 3 {
				var b bytes.Buffer
				ctx, _ := p.kit.Open(t.Context())
				err := set.ExecuteContext(&b, ctx, "page", data)
				if err == nil || err.Error() != want.Error() {
					t.Errorf("%v, want %v", err, want)
				}
				if exec, ok := errors.AsType[texttemplate.ExecError](err); !ok || exec.Name == "" {
					t.Errorf("%T", err)
				}
				if test.is != nil && !errors.Is(err, test.is) {
					t.Errorf("%v is not %v", err, test.is)
				}
				if b.Len() > 0 {
					t.Errorf("%q is written", b.String())
				}
			}
			for _, key := range store.keys() {
				if !strings.Contains(key, "fragment:ok:") {
					t.Errorf("%q is stored", key)
				}
			}
		})
	}
}

type failing2 struct {
	ID   int
	List []int
}

var errMethod = errors.New("of a method")

func (failing2) TableName() string      { return "failing" }
func (failing2) Fails() (string, error) { return "", errMethod }
func (failing2) Panics() string         { panic(errMethod) }

// TestFragmentCalls: what is wrong with a call fails the page where the call is.
func TestFragmentCalls(t *testing.T) {
	p := newPages(t)
	loop := map[string]any{}
	loop["self"] = loop
	for _, test := range []struct {
		name, text string
		is         error
		texts      []string
	}{
		{"function", `{{fragment "f" .Func}}`, tokens.ErrUnstable, []string{`page:1:2`, `<fragment "f" .Func>`, "error calling fragment", "func()"}},
		{"endless map", `{{fragment "f" .Loop}}`, tokens.ErrUnstable, []string{`page:1:2`, "contains itself"}},
		{"model inside", `{{fragment "f" .Inside}}`, tokens.ErrModel, []string{`page:1:2`, "inside the argument"}},
		{"extra", `{{fragment "f" .Int .Func}}`, tokens.ErrUnstable, []string{`page:1:2`, `<fragment "f" .Int .Func>`}},
		{"a model that panics", `{{fragment "f" .Panics}}`, nil, []string{`page:1:2`, `<fragment "f" .Panics>: error calling fragment: `, "of a model"}},
		{"element", `{{fragments "f" .Funcs}}`, tokens.ErrUnstable, []string{`page:1:2`, "element 1", `<fragments "f" .Funcs>`}},
		{"no list", `{{fragments "f" "text"}}`, nil, []string{`page:1:2`, "range can't iterate over text"}},
		{"nil pointer", `{{fragments "f" .NilPointer}}`, nil, []string{`page:1:2`, "range can't iterate over"}},
		{"option for a list", `{{fragments "f" (cacheTTL "1m")}}`, nil, []string{`page:1:2`, "collection is missing"}},
		{"no string", `{{fragment .Int .}}`, nil, []string{`page:1:2`, "must be a string", "7"}},
		{"no such template", `{{fragment .Name .}}`, nil, []string{`page:1:2`, `template "gone" not defined`}},
		{"a template that is refused", `{{fragment (print "open") .Int}}{{define "use"}}{{template "open"}}">{{end}}`, nil, []string{`page:1:2`, "non-text context"}},
		{"bad duration", `{{fragment "f" .Int (cacheTTL .Name)}}`, nil, []string{`page:1:21`, "cacheTTL", "gone"}},
		{"duration of no type", `{{fragment "f" .Int (cacheTTL 10)}}`, nil, []string{`page:1:21`, "cacheTTL", "int"}},
		{"no duration", `{{fragment "f" .Int (cacheTTL .Zero)}}`, nil, []string{`page:1:21`, "cacheTTL", "0s"}},
		{"itself", `{{fragment "self" .Int}}`, request.ErrCycle, []string{"self"}},
		{"itself by another", `{{fragment "one" .Int}}`, request.ErrCycle, []string{"one", "two"}},
		{"itself without an end", `{{fragment "endless" .Int}}`, nil, []string{"page:1:", "endless", "depth"}},
		{"itself uncached", `{{fragment "uncached" .Int}}`, nil, []string{"page:1:", "uncached", "depth"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			const rest = `{{define "f"}}{{end}}{{define "open"}}<p title="{{end}}{{define "self"}}{{fragment "self" .}}{{end}}{{define "one"}}{{fragment "two" .}}{{end}}{{define "two"}}{{fragment "one" .}}{{end}}` +
				`{{define "endless"}}{{fragment "endless" (inc .)}}{{end}}{{define "uncached"}}{{fragment "uncached" . (cacheIf false)}}{{end}}{{define "use2"}}{{template "open"}}">{{end}}`
			set := mustSet(t, test.text+rest, template.FuncMap{"inc": func(n int) int { return n + 1 }})
			data := map[string]any{
				"Func": func() {}, "Funcs": []any{1, func() {}}, "Loop": loop, "Inside": []any{[]any{&user{ID: 1}}}, "Int": 7, "Name": "gone", "Zero": time.Duration(0), "Panics": panics{}, "NilPointer": (*[]int)(nil),
			}
			var texts []string
			for range 3 { // the second time the calls are light
				got, _, err := p.execute(t, set, data)
				if err == nil || got != "" {
					t.Fatalf("%q, %v", got, err)
				}
				if test.is != nil && !errors.Is(err, test.is) {
					t.Errorf("%v is not %v", err, test.is)
				}
				for _, want := range test.texts {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("error %q does not name %q", err, want)
					}
				}
				texts = append(texts, err.Error())
			}
			if texts[0] != texts[1] || texts[1] != texts[2] {
				t.Errorf("the error changes: %q", texts)
			}
		})
	}
}

type panics struct{}

func (panics) AlkeyID() (table, row string) { panic("of a model") }

// TestFragmentWithoutSet: elsewhere than in a Set the functions can be parsed, and no more.
func TestFragmentWithoutSet(t *testing.T) {
	s := newSite(t, 0)
	for _, name := range []string{"fragment", "fragments"} {
		text := fmt.Sprintf(`{{%s "f" .}}{{define "f"}}{{end}}`, name)
		tmpl, err := template.New("page").Funcs(FuncMap(s.request(t))).Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := tmpl.Execute(io.Discard, 1); !errors.Is(err, ErrNoSet) || !strings.Contains(err.Error(), "templatefuncs.New") {
			t.Errorf("%v", err)
		}
		if err := parsed(t, text).Execute(io.Discard, 1); !errors.Is(err, ErrNoRequest) {
			t.Errorf("%v", err)
		}
		set := mustSet(t, text)
		for range 2 {
			if err := set.ExecuteContext(io.Discard, t.Context(), "page", 1); !errors.Is(err, ErrNoScope) || !strings.Contains(err.Error(), "middleware") {
				t.Errorf("%v", err)
			}
		}
	}
	if err := parsed(t, `{{with cacheTTL "1m"}}{{end}}{{with cacheIf true}}{{end}}`).Execute(io.Discard, nil); err != nil {
		t.Error(err)
	}
}

// TestStreams: what has no fragments is written as it comes, and what has some when it is whole.
func TestStreams(t *testing.T) {
	set := mustSet(t, `{{define "plain"}}before {{.Missing}}{{end}}{{define "reaches"}}before {{if false}}{{fragment "f"}}{{end}}{{.Missing}}{{end}}{{define "f"}}{{end}}`)
	p := newPages(t)
	ctx, _ := p.kit.Open(t.Context())
	for name, want := range map[string]string{"plain": "before ", "reaches": ""} {
		var b bytes.Buffer
		if err := set.ExecuteContext(&b, ctx, name, 1); err == nil || b.String() != want {
			t.Errorf("%s: %q, %v", name, b.String(), err)
		}
	}
	if err := set.ExecuteContext(failing{io.ErrShortWrite}, ctx, "plain", 1); err != io.ErrShortWrite {
		t.Errorf("%v", err)
	}
	whole := mustSet(t, `<p>{{fragment "f" 1}}</p>{{define "f"}}f{{end}}`)
	for i := range 4 {
		w := &failsAfter{n: i}
		err := whole.ExecuteContext(w, ctx, "page", nil)
		if want := strings.Join([]string{"<p>", "f", "</p>"}[:min(i, 3)], ""); w.String() != want || (err == nil) != (i == 3) {
			t.Errorf("%q, %v", w.String(), err)
		}
	}
}

// failsAfter fails after n writes.
type failsAfter struct {
	bytes.Buffer
	n int
}

func (f *failsAfter) Write(p []byte) (int, error) {
	if f.n--; f.n < 0 {
		return 0, io.ErrShortWrite
	}
	return f.Buffer.Write(p)
}

// TestNothingIsKeptOfFragments: neither data nor pages outlive their execution, and what is kept to be used
// again is bounded.
func TestNothingIsKeptOfFragments(t *testing.T) {
	p := newPages(t)
	set := mustSet(t, `{{fragments "f" .Many "x"}}{{fragment "g" .Data}}{{fragment .Fails 1}}{{define "f"}}{{printf "%01000d" 7}}{{fragment "g" .}}{{end}}{{define "g"}}{{printf "%T" .}}{{end}}`)
	for _, name := range []string{"g", "gone"} {
		kept := func() weak.Pointer[plain1] {
			data := &plain1{Name: "data"}
			if _, _, err := p.execute(t, set, map[string]any{"Many": make([]int, 1000), "Data": data, "Fails": name}); (err != nil) != (name == "gone") {
				t.Fatal(err)
			}
			return weak.Make(data)
		}()
		e, ok := set.executions.Get().(*execution)
		if !ok {
			e = new(execution) // the race detector lets pools forget
		}
		if len(e.chunks) > maxKeptChunks || cap(e.chunks) > maxKeptChunks || cap(e.out) > maxKeptBytes || e.count != 0 || e.ctx != nil || e.bound != nil {
			t.Errorf("it keeps %d chunks and %d bytes: %+v", len(e.chunks), cap(e.out), e.count)
		}
		for _, chunk := range e.chunks {
			for i := range chunk {
				if c := &chunk[i]; c.data.IsValid() || c.outline != nil || c.part.Value != nil {
					t.Fatalf("a call is kept: %+v", c)
				}
			}
		}
		gc()
		if kept.Value() != nil {
			t.Errorf("%s: the data is kept", name)
		}
		runtime.KeepAlive(e)
		set.executions.Put(e)
	}
}

// TestFragmentAllocations: a page whose fragments are found costs a few allocations for each.
func TestFragmentAllocations(t *testing.T) {
	p := newPages(t)
	users := make([]*user, 100)
	for i := range users {
		users[i] = &user{ID: 1000 + i, Name: "n"}
		p.know(t, tokens.Row("users", 1000+i))
	}
	for text, most := range map[string]float64{
		`{{fragments "f" .}}`:                      3 * 100,
		`{{range .}}{{fragment "f" .}}{{end}}`:     9 * 100,
		`{{range .}}{{fragment "f" . "x"}}{{end}}`: 16 * 100,
	} {
		set := mustSet(t, text+`{{define "f"}}{{.Name}}{{end}}`)
		page := func() {
			ctx, _ := p.kit.Open(t.Context())
			if err := set.ExecuteContext(io.Discard, ctx, "page", users); err != nil {
				t.Fatal(err)
			}
		}
		page()
		if got := testing.AllocsPerRun(20, page); got > most {
			t.Errorf("%s: %v allocations, want %v at most", text, got, most)
		}
	}
}

// TestFragmentInsideExecutions: a function of a page executes another page.
func TestFragmentInsideExecutions(t *testing.T) {
	p := newPages(t)
	p.know(t, user1, user2)
	var set *Set
	names := map[int]string{1: "one", 2: "two"}
	set = mustSet(t, `<p>{{fragment "outer" .}}</p>{{define "outer"}}[{{inside}}]{{end}}{{define "other"}}{{fragment "inner" two}}{{end}}{{define "inner"}}{{name .ID}}{{end}}`, template.FuncMap{
		"two":  func() *user { return &user{ID: 2} },
		"name": func(id int) string { return names[id] },
		"inside": func() (template.HTML, error) {
			var b strings.Builder
			err := set.ExecuteContext(&b, insideContext, "other", nil)
			return template.HTML(b.String()), err
		},
	})
	execute := func(want string) {
		t.Helper()
		ctx, _ := p.kit.Open(t.Context())
		insideContext = ctx // of the request, and not of the fill
		var b strings.Builder
		if err := set.ExecuteContext(&b, ctx, "page", &user{ID: 1}); err != nil || b.String() != want {
			t.Errorf("%q, %v; want %q", b.String(), err, want)
		}
	}
	execute("<p>[two]</p>")
	names[2] = "TWO"
	execute("<p>[two]</p>")
	p.change(t, user2)
	execute("<p>[TWO]</p>")
}

var insideContext context.Context
