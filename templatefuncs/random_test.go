package templatefuncs

import (
	"fmt"
	"html/template"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestRandomTemplates: whatever New accepts comes out as html/template has it, in any order of executions.
// The templates are made at random: pieces of pages, in any context, with the values, the templates and the
// fragments that stand in them.
func TestRandomTemplates(t *testing.T) {
	const templates = 5
	name := func(i int) string { return fmt.Sprint("t", i) }
	values := []string{`{{.Text}}`, `{{.HTML}}`, `{{.JS}}`, `{{.Number}}`, `{{.URL}}`, `{{.List}}`, `{{.Text | html}}`, `{{printf "%s" .HTML}}`, `{{.CSS}}`}
	texts := []string{`a`, `<b>`, `</b>`, ` < `, `&lt;`, `<!-- c -->`, `"`, "'", `<br/>`, "\n", `<svg><`, `<noscript>`, `</noscript>`, `<template>`, `<xmp>`, `<math>`, `<iframe>`, `-->`, `</script>`}
	places := []string{
		`<p title="%s">`, `<p title='%s'>`, `<p title=%s>`, `<p %s="x">`, `<a href="%s">`, `<a href="/x?q=%s#%[1]s">`, `<img srcset="%s">`, `<p onclick="f(%s)">`, `<p style="color: %s">`,
		`<script>x = %s</script>`, `<script>x = "%s"</script>`, "<script>x = `%s`</script>", `<script type="text/template">%s</script>`, `<script type="application/json">%s</script>`, `<style>%s</style>`,
		`<!-- %s -->`, `<title>%s</title>`, `<textarea>%s</textarea>`, `<iframe srcdoc="%s"></iframe>`, `<svg><a xlink:href="%s"/></svg>`, `<meta http-equiv="refresh" content="0; url=%s">`,
	}
	around := []string{
		`{{if .Yes}}%s{{end}}`, `{{if .No}}x{{else}}%s{{end}}`, `{{if .No}}%s{{end}}`, `{{with .Next}}%s{{else}}none{{end}}`, `{{range .Many}}%s{{end}}`, `{{range .Many}}%s{{break}}{{end}}`,
		`{{range $i, $x := .Many}}{{if $i}}{{continue}}{{end}}%s{{end}}`, `{{$v := .}}{{with $v}}%s{{end}}`,
	}
	type data struct {
		Text, URL string
		HTML      template.HTML
		JS        template.JS
		CSS       template.CSS
		Number    int
		List      []string
		Yes, No   bool
		Next      *data
		Many      []data
	}
	newData := func(rt *rapid.T) *data {
		d := &data{
			Text: rapid.SampledFrom(hostile[:7]).Draw(rt, "text"), URL: "javascript:f()//?a=b&c", HTML: `<i title="x">&amp;</i>`, JS: `f("x")`, CSS: `url("x")`, Number: 7, List: []string{"<", "x"}, Yes: true,
		}
		one, two := *d, *d
		two.Text += "2"
		d.Next, d.Many = &one, []data{one, two}
		return d
	}
	accepted, all := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		var text strings.Builder
		for i := range templates {
			var piece func(depth int) string
			piece = func(depth int) string {
				kinds := 4
				if depth > 2 {
					kinds = 2
				}
				switch k := rapid.IntRange(0, kinds+1).Draw(rt, "kind"); {
				case k == 0:
					return rapid.SampledFrom(texts).Draw(rt, "text")
				case k == 1:
					return rapid.SampledFrom(values).Draw(rt, "value")
				case k == 2 || k == 3:
					if i == templates-1 {
						return "leaf"
					}
					call := "template"
					if depth == 0 || rapid.IntRange(0, 5).Draw(rt, "any place") == 0 {
						call = rapid.SampledFrom([]string{"template", "fragment", "fragment"}).Draw(rt, "call")
					}
					return fmt.Sprintf(`{{%s %q .}}`, call, name(rapid.IntRange(i+1, templates-1).Draw(rt, "name")))
				case k == 4:
					return fmt.Sprintf(rapid.SampledFrom(places).Draw(rt, "place"), piece(depth+1))
				default:
					return fmt.Sprintf(rapid.SampledFrom(around).Draw(rt, "around"), piece(depth))
				}
			}
			fmt.Fprintf(&text, `{{define %q}}`, name(i))
			for range rapid.IntRange(1, 4).Draw(rt, "pieces") {
				text.WriteString(piece(0))
			}
			text.WriteString(`{{end}}`)
		}
		source := parsed(t, text.String())
		all++
		set, err := New(source)
		if err != nil {
			return
		}
		accepted++
		p := newPages(t)
		d := newData(rt)
		for range 6 {
			page := name(rapid.IntRange(0, templates-1).Draw(rt, "page"))
			var want, got strings.Builder
			plainErr := inPlain(t, source).ExecuteTemplate(&want, page, d)
			ctx, _ := p.kit.Open(t.Context())
			err := set.ExecuteContext(&got, ctx, page, d)
			if (err != nil) != (plainErr != nil) {
				rt.Fatalf("%s\n%s: %v, want %v", text.String(), page, err, plainErr)
			}
			if err == nil && got.String() != want.String() {
				rt.Fatalf("%s\n%s:\n%s, want\n%s", text.String(), page, got.String(), want.String())
			}
		}
	})
	if all > 50 && accepted < all/10 {
		t.Errorf("of %d sets only %d are accepted", all, accepted)
	}
	t.Logf("%d of %d sets are accepted", accepted, all)
}
