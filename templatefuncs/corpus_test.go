package templatefuncs

import (
	"bytes"
	"fmt"
	"html/template"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template/parse"
	"time"
)

// Upper has a pointer for a receiver: templates find it where they can take the address.
func (u *user) Upper() string { return strings.ToUpper(u.Name) }

func (u *user) Show() string { return "user " + u.Name }

// summary is the same row as user.
type summary struct {
	ID   int
	Name string
}

func (summary) TableName() string { return "users" }
func (s summary) Show() string    { return "summary " + s.Name }

// plain1 and plain2 have the same text in keys.
type plain1 struct{ Name string }
type plain2 struct{ Name string }

func (plain1) Show() string { return "1" }
func (plain2) Show() string { return "2" }

type node struct {
	Name     string
	Children []*node
}

type link struct {
	Name string
	Next *link
}

type holder struct{ Body any }

type item struct{ Kind, Name string }

var hostile = []string{
	"", "<b>", "</p>", `"`, "'", "`", "&amp;", "<!--alkey:0-->", "<!--alkey:ABCDEFGHIJKLMNOPQRSTUVWXYZ-->", "-->", "<!--",
	"alkey:users#1%", "\x00", "\xff\xfe", "{{.}}", "javascript:alert(1)", "</script>", "\u2028", "fragment:text", "%sha256-", "%nil", "a/b", "%[x]",
}

// corpusData is what every page of testdata/pages is given.
func corpusData() map[string]any {
	users := []user{{1, "Ann & Bob"}, {2, `<"Cy">`}, {3, "Di"}, {4, "Ed"}}
	pointers := make([]*user, len(users))
	for i := range users {
		pointers[i] = &users[i]
	}
	tree := &node{"root", []*node{{"left", []*node{{"leaf", nil}, {"leaf <2>", nil}}}, {"right", nil}}}
	var texts []string
	var htmls []template.HTML
	for _, h := range hostile {
		if !strings.HasPrefix(h, "alkey:") {
			texts, htmls = append(texts, h), append(htmls, template.HTML(h))
		}
	}
	return map[string]any{
		"Title":   "A <title> & \"more\"",
		"User":    pointers[0],
		"Value":   &struct{ user }{users[1]},
		"Users":   users,
		"Array":   &[2]user{users[0], users[2]},
		"One":     1,
		"Hundred": slices.Collect(func(yield func(int) bool) { _ = yield(1) && yield(2) && yield(3) && yield(2) }),

		"Pointers": pointers, "None": []*user(nil), "Nothing": nil, "NoUser": (*user)(nil), "NoStringer": (*time.Time)(nil),
		"PointerToList": &[]string{"x", "y"},
		"Map":           map[string]string{"b": "2", "a": "<1>", "c": "3"},
		"IntMap":        map[int]string{10: "ten", 9: "nine", -1: "minus"},
		"AnyMap":        map[string]any{"z": 1, "y": "two", "x": nil, "w": template.HTML("<br>")},
		"EmptyMap":      map[string]string{},
		"Seq":           iter.Seq[string](slices.Values([]string{"q", "r", "q"})),
		"Seq2":          iter.Seq2[int, string](slices.All([]string{"q", "r"})),
		"HTML":          template.HTML("<b>1</b>"), "HTMLText": "<b>1</b>", "Time": time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC), "List": []int{1, 2}, "Struct": plain1{"x"},
		"MixedHTML": map[string]any{"Body": template.HTML("<b>")}, "MixedText": map[string]any{"Body": "<b>"}, "MixedInt": map[string]any{"Body": 1}, "MixedDigit": map[string]any{"Body": "1"},
		"HolderHTML": holder{template.HTML("<b>")}, "HolderText": &holder{"<b>"},
		"Summary": summary{1, "Ann & Bob"}, "Plain1": plain1{"x"}, "Plain2": plain2{"x"},
		"Items": []item{{"text", "one"}, {"photo", "<two>"}, {"text", "three"}}, "Kind": "text", "Names": []string{"n", "m"},
		"Tree": tree, "Chain": &link{"a", &link{"b", &link{"a", nil}}},
		"Hostile": texts, "HostileHTML": htmls,
	}
}

var ownFuncs = template.FuncMap{"upper": strings.ToUpper}

// inPlain returns a copy of templates in which nothing is a fragment: template and range stand in
// their places.
func inPlain(t testing.TB, source *template.Template) *template.Template {
	t.Helper()
	return rewritten(t, source, func(names []string, call *parse.ActionNode) parse.Node {
		args := withoutOptions(call.Pipe.Cmds[0].Args[2:])
		var data parse.Node
		if len(args) > 0 {
			data = args[0]
		}
		node := includes(t, names, call.Pipe.Cmds[0].Args[1], data)
		if call.Pipe.Cmds[0].Args[0].String() == "fragments" {
			if data.Type() == parse.NodeNil {
				return &parse.TextNode{NodeType: parse.NodeText}
			}
			loop := nodeOf(t, `{{range .}}{{end}}`).(*parse.RangeNode)
			loop.Pipe.Cmds[0].Args[0] = data
			loop.List.Nodes = []parse.Node{includes(t, names, call.Pipe.Cmds[0].Args[1], nodeOf(t, `{{.}}`).(*parse.ActionNode).Pipe.Cmds[0].Args[0])}
			return loop
		}
		return node
	})
}

// withCondition returns a copy in which no fragment is cached.
func withCondition(t testing.TB, source *template.Template) *template.Template {
	t.Helper()
	return rewritten(t, source, func(_ []string, call *parse.ActionNode) parse.Node {
		never := nodeOf(t, `{{print (cacheIf false)}}`).(*parse.ActionNode).Pipe.Cmds[0].Args[1]
		command := call.Pipe.Cmds[0]
		command.Args = append(command.Args, never)
		return call
	})
}

// includes is {{template name data}} for a name that may be computed.
func includes(t testing.TB, names []string, name, data parse.Node) parse.Node {
	one := func(name string) parse.Node {
		node := nodeOf(t, fmt.Sprintf(`{{template %q .}}`, name)).(*parse.TemplateNode)
		if node.Pipe.Cmds[0].Args[0] = data; data == nil || data.Type() == parse.NodeNil {
			node.Pipe = nil
		}
		return node
	}
	if s, ok := name.(*parse.StringNode); ok {
		return one(s.Text)
	}
	all := &parse.ListNode{NodeType: parse.NodeList}
	for _, candidate := range names {
		choice := nodeOf(t, fmt.Sprintf(`{{if eq . %q}}{{end}}`, candidate)).(*parse.IfNode)
		choice.Pipe.Cmds[0].Args[1] = name.Copy()
		choice.List.Nodes = []parse.Node{one(candidate)}
		all.Nodes = append(all.Nodes, choice)
	}
	return all
}

func withoutOptions(args []parse.Node) []parse.Node {
	return slices.DeleteFunc(slices.Clone(args), func(n parse.Node) bool {
		return strings.HasPrefix(n.String(), "cache") || n.String() == "$short"
	})
}

func nodeOf(t testing.TB, text string) parse.Node {
	t.Helper()
	parsed, err := template.New("").Funcs(FuncMap(nil)).Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Tree.Root.Nodes[0]
}

// rewritten returns a copy with other nodes in place of the calls of fragments.
func rewritten(t testing.TB, source *template.Template, replace func(names []string, call *parse.ActionNode) parse.Node) *template.Template {
	t.Helper()
	clone, err := source.Clone()
	if err != nil {
		t.Fatal(err)
	}
	clone.Funcs(template.FuncMap{"cacheKey": func(...any) string { return "key" }})
	trees := bodiesOf(clone)
	for _, tree := range trees {
		inspect(tree.Root, func(n parse.Node) {
			list, ok := n.(*parse.ListNode)
			if !ok {
				return
			}
			for i, child := range list.Nodes {
				call, ok := child.(*parse.ActionNode)
				if !ok {
					continue
				}
				if name, ok := call.Pipe.Cmds[0].Args[0].(*parse.IdentifierNode); ok && isFragment(name.Ident) {
					list.Nodes[i] = replace(trees.names(), call)
				}
			}
		})
	}
	return clone
}

func executed(t testing.TB, tmpl *template.Template, data any) string {
	t.Helper()
	var b bytes.Buffer
	if err := tmpl.ExecuteTemplate(&b, "page", data); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestCorpus: whatever the template and whatever is cached, the page is what html/template makes of the same
// templates without fragments.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/pages/*.html")
	if err != nil || len(files) < 25 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".html"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			source := parsed(t, string(text), ownFuncs)
			data := corpusData()
			want := executed(t, inPlain(t, source), data)
			if strings.TrimSpace(want) == "" && filepath.Base(file) != "empty_fragment.html" {
				t.Fatal("the page is empty")
			}
			compare(t, source, data, want)
		})
	}
}

// compare executes the templates in all ways that there are.
func compare(t testing.TB, source *template.Template, data any, want string) {
	t.Helper()
	s := newPages(t)
	set, err := New(source)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, set *Set, s *pages, hits bool) {
		t.Helper()
		got, stats, err := s.execute(t, set, data)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got != want {
			t.Errorf("%s:\n%q, want\n%q", what, got, want)
		}
		if hits && stats.Misses != 0 {
			t.Errorf("%s: %d misses", what, stats.Misses)
		}
	}
	check("the first time", set, s, false)
	check("the second time", set, s, false) // rows that nobody had asked for are younger than the first request
	check("the third time", set, s, true)
	check("with no room for values", set, newPagesOf(t, 0), false)
	never, err := New(withCondition(t, source))
	if err != nil {
		t.Fatal(err)
	}
	check("with cacheIf", never, s, false)
	if _, stats, _ := s.execute(t, never, data); stats.Hits != 0 || stats.Misses != 0 {
		t.Errorf("with cacheIf: %+v", stats)
	}
}
