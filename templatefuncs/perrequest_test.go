package templatefuncs

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"strings"
	"testing"

	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

type languageKey struct{}

func language(ctx context.Context) string {
	l, _ := ctx.Value(languageKey{}).(string)
	return l
}

// translate is a function of single requests.
var translate = template.FuncMap{
	"t": func(ctx context.Context, words ...string) string {
		return language(ctx) + ":" + strings.Join(words, ",")
	},
}

// in executes a page in a language.
func (p *pages) in(t testing.TB, set *Set, language string, data any) (string, request.Stats) {
	t.Helper()
	got, stats, err := p.executeIn(context.WithValue(t.Context(), languageKey{}, language), set, data)
	if err != nil {
		t.Fatal(err)
	}
	return got, stats
}

func TestPerRequest(t *testing.T) {
	p := newPages(t)
	p.know(t, user1)
	asked := 0
	set, err := New(parsed(t, `{{t "page"}} {{fragment "greeting" .}} {{fragment "name" .}} {{fragment "around" .}}{{define "greeting"}}{{t "hello" .Name}}{{end}}{{define "name"}}{{.Name}}{{end}}{{define "around"}}[{{fragment "greeting" .}}]{{end}}`, translate),
		PerRequest(translate, func(ctx context.Context) []any { asked++; return []any{language(ctx)} }))
	if err != nil {
		t.Fatal(err)
	}
	u := &user{ID: 1, Name: "Ann"}
	for _, step := range []struct {
		language     string
		hits, misses int
	}{
		{"en", 0, 3}, // the greeting in the other fragment is the one on the page
		{"en", 3, 0},
		{"de", 1, 2}, // the name is the same in all languages
		{"de", 3, 0},
		{"en", 3, 0},
	} {
		asked = 0
		got, stats := p.in(t, set, step.language, u)
		want := fmt.Sprintf("%[1]s:page %[1]s:hello,Ann Ann [%[1]s:hello,Ann]", step.language)
		if got != want || stats.Hits != step.hits || stats.Misses != step.misses {
			t.Errorf("%q, %d hits, %d misses; want %q, %d, %d", got, stats.Hits, stats.Misses, want, step.hits, step.misses)
		}
		if asked != 1 {
			t.Errorf("it is asked %d times what the functions vary by", asked)
		}
	}
}

// TestPerRequestUnknown: what varies by nobody knows what is in no fragment that is stored, however far
// inside.
func TestPerRequestUnknown(t *testing.T) {
	n := 0
	funcs := template.FuncMap{"token": func(context.Context) (int, error) { n++; return n, nil }}
	const fragments = `{{define "direct"}}d{{token}}{{end}}{{define "includes"}}i{{template "direct" .}}{{end}}{{define "around"}}a{{fragment "includes" .}}{{end}}{{define "computed"}}c{{fragment (print "plain") .}}{{end}}{{define "plain"}}p{{.Name}}{{end}}`
	for name, want := range map[string][2]string{
		"direct": {"d1", "d2"}, "includes": {"id1", "id2"}, "around": {"aid1", "aid2"}, "plain": {"pAnn", "pAnn"},
		"computed": {"cpAnn", "cpBob"}, // it might have been any
	} {
		t.Run(name, func(t *testing.T) {
			n = 0
			store := newRecorder()
			p := newPagesOver(t, newTokens(t), store, "test")
			p.know(t, user1)
			set, err := New(parsed(t, fmt.Sprintf(`{{fragment %q .}}`, name)+fragments, funcs), PerRequest(funcs, nil))
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range want {
				u := &user{ID: 1, Name: []string{"Ann", "Bob"}[i]}
				if name == "computed" {
					p.change(t, user1)
				}
				if got, _ := p.in(t, set, "", u); got != want {
					t.Errorf("%q, want %q", got, want)
				}
			}
			for _, key := range store.keys() {
				if !strings.Contains(key, "fragment:plain:") {
					t.Errorf("%q is stored", key)
				}
			}
		})
	}
}

// TestPerRequestContext: a function that asks for something inside a fragment makes it a dependency of that
// fragment.
func TestPerRequestContext(t *testing.T) {
	p := newPages(t)
	p.know(t, user1, user2)
	names := map[string]string{"one": "1"}
	funcs := template.FuncMap{
		"fetch": func(ctx context.Context, name string) (string, error) {
			return request.Fetch(ctx, func(context.Context) (string, error) { return names[name], nil }, user2, name)
		},
		"fails": func(ctx context.Context) (string, error) { return "", errMethod },
	}
	set, err := New(parsed(t, `{{fragment "f" .}}{{define "f"}}({{fetch "one"}}){{end}}{{define "failing"}}{{fails}}{{end}}`, funcs), PerRequest(funcs, func(context.Context) []any { return nil }))
	if err != nil {
		t.Fatal(err)
	}
	p.is(t, "first", set, &user{ID: 1}, "(1)", 0, 2)
	names["one"] = "2"
	p.is(t, "found", set, &user{ID: 1}, "(1)", 1, 0)
	p.change(t, user2)
	p.is(t, "after a change of what the function asks for", set, &user{ID: 1}, "(2)", 0, 2)

	ctx, _ := p.kit.Open(t.Context())
	if err := set.ExecuteContext(io.Discard, ctx, "failing", nil); !errors.Is(err, errMethod) || !strings.Contains(err.Error(), "error calling fails") {
		t.Errorf("%v", err)
	}
}

// TestVaryKeys: the values that functions vary by and the arguments of a call cannot be taken for each other.
func TestVaryKeys(t *testing.T) {
	p := newPages(t)
	n := 0
	funcs := template.FuncMap{"count": func(context.Context) int { n++; return n }}
	var vary []any
	set, err := New(parsed(t, `{{fragment "f" .A .B}}{{define "f"}}{{count}}{{end}}`, funcs), PerRequest(funcs, func(context.Context) []any { return vary }))
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, vary = range [][]any{nil, {"x"}, {"x", "y"}, {0}, {1, "x"}, {[]string{"x", "y"}}, {user1}} {
		for _, data := range []map[string]string{{"A": "x", "B": "y"}, {"A": "y", "B": "x"}, {"A": "0", "B": "x"}} {
			got, _ := p.in(t, set, "", data)
			if seen[got] {
				t.Errorf("%v, %v: it is found", vary, data)
			}
			seen[got] = true
		}
	}
	vary = []any{func() {}}
	if _, _, err := p.execute(t, set, map[string]string{"A": "x", "B": "y"}); err == nil || !errors.Is(err, tokens.ErrUnstable) || !strings.Contains(err.Error(), "error calling fragment") {
		t.Errorf("%v", err)
	}
}

// TestPerRequestInValue: what is for one request alone is not kept in a value around the Set.
func TestPerRequestInValue(t *testing.T) {
	p := newPages(t)
	p.know(t, user1)
	n := 0
	token := template.FuncMap{"csrf": func(context.Context) int { n++; return n }}
	for name, vary := range map[string]func(context.Context) []any{
		"":     nil,
		"kept": func(context.Context) []any { return nil },
	} {
		set, err := New(parsed(t, `{{csrf}}`, token), PerRequest(token, vary))
		if err != nil {
			t.Fatal(err)
		}
		n = 0
		for range 2 {
			ctx, _ := p.kit.Open(t.Context())
			_, err := request.Fetch(ctx, func(ctx context.Context) (string, error) {
				var b strings.Builder
				err := set.ExecuteContext(&b, ctx, "page", nil)
				return b.String(), err
			}, tokens.Row("users", 1), "value", name)
			if err != nil {
				t.Fatal(err)
			}
		}
		if want := map[string]int{"": 2, "kept": 1}[name]; n != want {
			t.Errorf("%q: made %d times, want %d", name, n, want)
		}
	}
}
