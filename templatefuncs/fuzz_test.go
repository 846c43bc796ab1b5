package templatefuncs

import (
	"html/template"
	"strings"
	"testing"
)

// FuzzFragments: whatever users write, in whatever fragments it stands, the page is what html/template
// makes of it without fragments, also when all comes from the cache.
func FuzzFragments(f *testing.F) {
	for _, text := range hostile {
		f.Add(text, "x", true)
		f.Add("x", text, false)
	}
	f.Add("<!--alkey:0--><!--alkey:1-->", "</p></li><script>", true)
	f.Add("\x00\x01\x7f", strings.Repeat("<!--alkey:", 40), false)
	source := parsed(f, `<!-- c --><h1 title="{{.A}}">{{.A}}</h1>{{fragment "box" .}}{{range .List}}<li>{{fragment "text" .}}</li>{{end}}{{fragments "text" .List "list"}}{{fragment .Kind .B}}{{fragment "html" .HTML (cacheIf .If)}}{{.B}}
{{define "box"}}<div data-a='{{.A}}' onclick="f({{.B}})"><a href="/{{.A}}?b={{.B}}">{{.A}}</a>{{fragment "text" .B}}{{template "script" .}}</div>{{end}}
{{define "text"}}<p title={{.}}>{{.}}</p>{{end}}{{define "other"}}<b>{{.}}</b>{{end}}{{define "html"}}{{.}}{{end}}{{define "script"}}<script>x = [{{.A}}, "{{.B}}"]; // {{.A}}
</script><style>p { color: {{.B}} }</style><title>{{.A}}</title><!-- {{.B}} -->{{end}}`)
	plain := inPlain(f, source)
	set, err := New(source)
	if err != nil {
		f.Fatal(err)
	}
	type page struct {
		A, B, Kind string
		List       []string
		HTML       template.HTML
		If         bool
	}
	f.Fuzz(func(t *testing.T, a, b string, condition bool) {
		if strings.HasPrefix(a, "alkey:") || strings.HasPrefix(b, "alkey:") {
			return // a text in the form of an identifier is one, or an error
		}
		data := page{A: a, B: b, Kind: "text", List: []string{a, b, a + b, "x"}, HTML: template.HTML(b), If: condition}
		for _, text := range data.List {
			if strings.HasPrefix(text, "alkey:") {
				return
			}
		}
		if condition {
			data.Kind = "other"
		}
		want := executed(t, plain, data)
		p := newPages(t)
		for range 3 {
			if got, _, err := p.execute(t, set, data); err != nil || got != want {
				t.Fatalf("%q, %v; want %q", got, err, want)
			}
		}
	})
}
