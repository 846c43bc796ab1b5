package templatefuncs

import (
	"errors"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"text/template/parse"
)

// checkEscaping reports the templates that html/template would refuse to execute. It executes none
// of them.
func checkEscaping(t *template.Template) error {
	bodies := make(map[string]*parse.Tree)
	for _, d := range t.Templates() {
		if d.Tree != nil && d.Tree.Root != nil {
			bodies[d.Name()] = d.Tree
		}
	}
	refused := make(map[string]error)
	accepted := make(map[string]bool) // as part of another
	for name := range bodies {
		parts := included(bodies, name)
		if err := probe(bodies, name, parts); err != nil {
			refused[name] = err
		} else {
			maps.Copy(accepted, parts)
		}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		if !accepted[name] {
			errs = append(errs, fmt.Errorf("template %q: %w", name, refused[name]))
		}
	}
	return errors.Join(errs...)
}

// probeName is the name of the template that a probe executes.
const probeName = "alkey:probe"

// probe makes html/template escape one template without executing it: its escaper looks into
// branches that are never taken. What it infers of one template it uses for the next, so every
// probe begins anew, with the named template and its parts only.
func probe(bodies map[string]*parse.Tree, name string, parts map[string]bool) error {
	p, err := template.New(probeName).Parse(fmt.Sprintf("{{if false}}{{template %q}}{{end}}", name))
	if err != nil {
		return err
	}
	if _, err := p.AddParseTree(name, bodies[name].Copy()); err != nil {
		return err
	}
	for part := range parts {
		if body, ok := bodies[part]; ok && part != name {
			if _, err := p.AddParseTree(part, body.Copy()); err != nil {
				return err
			}
		}
	}
	err = p.Execute(io.Discard, nil)
	if e, ok := errors.AsType[*template.Error](err); ok {
		// html/template blames what it was asked to execute.
		switch {
		case e.Node == nil:
			e.Name = name
		case e.ErrorCode == template.ErrBranchEnd && inProbe(e.Node):
			return fmt.Errorf("html/template:%s: ends in a non-text context: in a tag, an attribute, a script or a style that it does not close", name)
		}
	}
	return err
}

func inProbe(n parse.Node) bool {
	location, _ := (*parse.Tree)(nil).ErrorContext(n)
	return strings.HasPrefix(location, probeName+":")
}

// included names the templates that the named one includes, directly or not.
func included(bodies map[string]*parse.Tree, name string) map[string]bool {
	names := make(map[string]bool)
	var walk func(parse.Node)
	walk = func(n parse.Node) {
		switch n := n.(type) {
		case *parse.ListNode:
			if n == nil { // no else
				return
			}
			for _, child := range n.Nodes {
				walk(child)
			}
		case *parse.IfNode:
			walk(n.List)
			walk(n.ElseList)
		case *parse.RangeNode:
			walk(n.List)
			walk(n.ElseList)
		case *parse.WithNode:
			walk(n.List)
			walk(n.ElseList)
		case *parse.TemplateNode:
			if names[n.Name] {
				return
			}
			names[n.Name] = true
			if body, ok := bodies[n.Name]; ok {
				walk(body.Root)
			}
		}
	}
	walk(bodies[name].Root)
	return names
}
