package templatefuncs

import (
	"context"
	"html/template"
	"strings"
	"testing"
)

// TestRefused: New says of every fragment that is where it must not be, where that is.
func TestRefused(t *testing.T) {
	const x = `{{define "x"}}<b>{{.}}</b>{{end}}`
	for _, test := range []struct {
		name, text string
		errs       []string // none: accepted
	}{
		{"text", `<p>{{fragment "x" .}}</p>`, nil},
		{"attribute", `<p title="{{fragment "x" .}}">`, []string{"page:1:12:", `fragment "x" .`, "an attribute"}},
		{"single quotes", `<p title='{{fragment "x" .}}'>`, []string{"page:1:12:", "an attribute"}},
		{"no quotes", `<p title={{fragment "x" .}}>`, []string{"page:1:11:", "an attribute"}},
		{"attribute's name", `<p {{fragment "x" .}}>`, []string{"page:1:5:", "a tag"}},
		{"second line", "<p>\n  <b title=\"{{fragments \"x\" .}}\">", []string{"page:2:14:", "an attribute"}},
		{"URL", `<a href="{{fragment "x" .}}">`, []string{"page:1:11:", "a URL"}},
		{"URL's query", `<a href="/?q={{fragment "x" .}}">`, []string{"page:1:15:", "a URL"}},
		{"srcset", `<img srcset="{{fragment "x" .}}">`, []string{"page:1:15:", "a URL"}},
		{"event", `<p onclick="f({{fragment "x" .}})">`, []string{"page:1:16:", "a script"}},
		{"style attribute", `<p style="color: {{fragment "x" .}}">`, []string{"page:1:19:", "a style"}},
		{"script", `<script>x = {{fragment "x" .}}</script>`, []string{"page:1:14:", "a script"}},
		{"script's string", `<script>x = "{{fragment "x" .}}"</script>`, []string{"page:1:15:", "a script"}},
		{"template literal", "<script>x = `{{fragment \"x\" .}}`</script>", []string{"page:1:15:", "a script"}},
		{"regular expression", `<script>x = /{{fragment "x" .}}/</script>`, []string{"page:1:15:", "a script"}},
		{"script's comment", `<script>/* {{fragment "x" .}} */</script>`, []string{"page:1:13:", "a comment"}},
		{"JSON", `<script type="application/json">{{fragment "x" .}}</script>`, []string{"page:1:34:", "a script"}},
		{"template in a script", `<script type="text/template">{{fragment "x" .}}</script>`, nil},
		{"style", `<style>{{fragment "x" .}}</style>`, []string{"page:1:9:", "a style"}},
		{"style's string", `<style>p { content: "{{fragment "x" .}}" }</style>`, []string{"page:1:23:", "a URL"}},
		{"comment", `<!-- {{fragment "x" .}} -->`, []string{"page:1:7:", "a comment"}},
		{"conditional comment", `<!--[if IE]>{{fragment "x" .}}<![endif]-->`, []string{"page:1:14:", "a comment"}},
		{"title", `<title>{{fragment "x" .}}</title>`, []string{"page:1:9:", "a title"}},
		{"text area", `<textarea>{{fragments "x" .}}</textarea>`, []string{"page:1:12:", "a text area"}},
		{"meta", `<meta http-equiv="refresh" content="{{fragment "x" .}}">`, []string{"page:1:38:"}},

		{"in an included template", `<p>{{template "y" .}}</p>{{define "y"}}<i title="{{fragment "x" .}}">{{end}}`, []string{"page:1:51:", "an attribute"}},
		{"in a template that is included in an attribute", `<p title="{{template "y" .}}">{{define "y"}}{{fragment "x" .}}{{end}}`, []string{"page:1:21:", `template "y"`, "has fragments"}},
		{"further in", `<p title="{{template "y" .}}">{{define "y"}}{{template "z" .}}{{end}}{{define "z"}}{{fragment "x" .}}{{end}}`, []string{"page:1:21:", `template "y"`, "has fragments"}},
		{"in a part", `{{template "open"}}{{fragment "x" .}}">{{define "open"}}<p title="{{end}}`, []string{"page:1:21:", "an attribute"}},
		{"in a template that is included in both", `{{template "y" .}}<p title="{{template "y" .}}">{{define "y"}}{{fragment "x" .}}{{end}}`, []string{"page:1:39:", `template "y"`}},
		{"in one branch", `{{if .}}<p>{{fragment "x" .}}</p>{{else}}<p title="{{fragment "x" .}}">{{end}}`, []string{"page:1:53:"}},
		{"dead", `{{range .}}{{break}}<p title="{{fragment "x" .}}">{{end}}`, nil},

		{"argument", `{{printf "%s" (fragment "x" .)}}`, []string{"page:1:15:", "by itself"}},
		{"parentheses", `{{(fragment "x" .)}}`, []string{"page:1:3:", "by itself"}},
		{"without arguments as one", `{{print fragment}}`, []string{"page:1:8:", "by itself"}},
		{"argument of itself", `{{fragment "x" (fragment "x" .)}}`, []string{"page:1:16:", "by itself"}},
		{"argument of template", `{{template "x" (fragment "x" .)}}`, []string{"page:1:16:", "by itself"}},
		{"pipeline", `{{fragment "x" . | print}}`, []string{"page:1:2:", "by itself"}},
		{"end of a pipeline", `{{. | fragment "x"}}`, []string{"page:1:6:", "by itself"}},
		{"escaped by hand", `{{fragment "x" . | html}}`, []string{"page:1:2:", "by itself"}},
		{"if", `{{if fragment "x" .}}{{end}}`, []string{"page:1:5:", "by itself"}},
		{"else if", `{{if .}}{{else if fragments "x" .}}{{end}}`, []string{"page:1:18:", "by itself"}},
		{"with", `{{with fragment "x" .}}{{end}}`, []string{"page:1:7:", "by itself"}},
		{"range", `{{range fragment "x" .}}{{end}}`, []string{"page:1:8:", "by itself"}},
		{"variable", `{{$v := fragment "x" .}}`, []string{"page:1:8:", "by itself"}},
		{"assignment", `{{$v := 1}}{{$v = fragment "x" .}}`, []string{"page:1:18:", "by itself"}},
		{"field of it", `{{(fragment "x" .).Name}}`, []string{"page:1:3:", "by itself"}},

		{"no name", `{{fragment}}`, []string{"page:1:2:", "name of a template is missing"}},
		{"number for a name", `{{fragment 1 .}}`, []string{"page:1:2:", "no template's name"}},
		{"nil for a name", `{{fragment nil .}}`, []string{"page:1:2:", "no template's name"}},
		{"no collection", `{{fragments "x"}}`, []string{"page:1:2:", "collection is missing"}},
		{"no such template", `<p>{{fragment "gone" .}}</p>`, []string{"page:1:5:", `no template "gone"`}},
		{"template that ends in an attribute", `{{fragment "open" .}}{{template "open"}}">{{define "open"}}<p title="{{end}}`, []string{"page:1:2:", "cannot stand by itself", "ends in a non-text context"}},
		{"template that cannot be escaped", `{{fragment "bad" .}}{{define "bad"}}<p {{.}}"></p>{{end}}`, []string{"page:1:2:", "cannot stand by itself", `"bad"`}},
		{"computed name", `{{fragment .Name .}}{{define "open"}}<p title="{{end}}{{define "use"}}{{template "open"}}">{{end}}`, nil},
		{"bad duration", `{{fragment "x" . (cacheTTL "soon")}}`, []string{"page:1:18:", "soon"}},
		{"negative duration", `{{fragment "x" . (cacheTTL "-1s")}}`, []string{"page:1:18:", "-1s"}},
		{"a taken name", `{{alkey_fragment 0 .}}`, []string{"page:1:2:", "taken"}},
		{"a taken name of a template", `{{define "alkey:probe"}}x{{end}}`, []string{`"alkey:probe"`, "taken"}},
		{"several", `<p title="{{fragment "x" .}}">{{fragment "gone"}}`, []string{"page:1:12:", "page:1:32:"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(parsed(t, test.text+x, template.FuncMap{simpleFragment: func(...any) string { return "" }}))
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
}

// TestRefusedPerRequest: New says of every function that it cannot bind why.
func TestRefusedPerRequest(t *testing.T) {
	good := func(context.Context, ...int) (string, error) { return "", nil }
	for _, test := range []struct {
		name  string
		funcs []template.FuncMap
		want  string // "": accepted
	}{
		{"good", []template.FuncMap{{"f": good}}, ""},
		{"none", []template.FuncMap{nil}, ""},
		{"no function", []template.FuncMap{{"f": "x"}}, "no function"},
		{"nil", []template.FuncMap{{"f": nil}}, "no function"},
		{"nil function", []template.FuncMap{{"f": (func(context.Context) string)(nil)}}, "nil"},
		{"no context", []template.FuncMap{{"f": func() string { return "" }}}, "context.Context"},
		{"another parameter", []template.FuncMap{{"f": func(string, context.Context) string { return "" }}}, "context.Context"},
		{"many contexts", []template.FuncMap{{"f": func(...context.Context) string { return "" }}}, "context.Context"},
		{"no result", []template.FuncMap{{"f": func(context.Context) {}}}, "one value"},
		{"two results", []template.FuncMap{{"f": func(context.Context) (int, int) { return 1, 1 }}}, "error"},
		{"three results", []template.FuncMap{{"f": func(context.Context) (int, int, error) { return 1, 1, nil }}}, "one value"},
		{"no identifier", []template.FuncMap{{"f-g": good}}, "identifier"},
		{"no name", []template.FuncMap{{"": good}}, "identifier"},
		{"our name", []template.FuncMap{{"cacheKey": good}}, "taken"},
		{"fragment", []template.FuncMap{{"fragment": good}}, "taken"},
		{"an option", []template.FuncMap{{"cacheIf": good}}, "taken"},
		{"twice", []template.FuncMap{{"f": good}, {"f": good}}, "taken"},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := []Option{nil}
			for _, f := range test.funcs {
				opts = append(opts, PerRequest(f, nil))
			}
			_, err := New(parsed(t, `x`), opts...)
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}
