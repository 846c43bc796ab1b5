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

// checkEscaping returns the templates that html/template does not execute by themselves, with its reasons.
// The error is of those that are not parts of others either, and of fragments that stand where
// html/template would not let them have HTML. It executes none of the templates.
func (b bodies) checkEscaping(all readings) (refused map[string]error, err error) {
	refused = make(map[string]error)
	accepted := make(map[string]bool) // as part of another
	misplaced := make(map[string]bool)
	var errs []error
	for _, name := range b.names() {
		parts := b.reach(name, all, false)
		delete(parts, name)
		p, err := b.probe(name, parts)
		if err != nil {
			refused[name] = err
			continue
		}
		maps.Copy(accepted, parts)
		for _, part := range append(slices.Sorted(maps.Keys(parts)), name) {
			for _, err := range b.misplaced(p.Lookup(part).Tree, all) {
				if text := err.Error(); !misplaced[text] {
					misplaced[text] = true
					errs = append(errs, err)
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		if !accepted[name] {
			errs = append(errs, fmt.Errorf("template %q: %w", name, refused[name]))
		}
	}
	return refused, errors.Join(errs...)
}

// probeName is the name of the template that a probe executes. New refuses it in sets.
const probeName = "alkey:probe"

// probe makes html/template escape one template without executing it. What it infers of one template it
// uses for the next, so every probe begins anew, with the named template and its parts only.
func (b bodies) probe(name string, parts map[string]bool) (*template.Template, error) {
	p, err := template.New(probeName).Parse(probeOf(name))
	if err != nil {
		return nil, err
	}
	if _, err := p.AddParseTree(name, b[name].Copy()); err != nil {
		return nil, err
	}
	for part := range parts {
		if _, err := p.AddParseTree(part, b[part].Copy()); err != nil {
			return nil, err
		}
	}
	err = p.Execute(io.Discard, nil)
	if e, ok := errors.AsType[*template.Error](err); ok {
		// html/template blames what it was asked to execute.
		switch {
		case e.Node == nil:
			e.Name = name
		case e.ErrorCode == template.ErrBranchEnd && inProbe(e.Node):
			return nil, fmt.Errorf("html/template:%s: ends in a non-text context: in a tag, an attribute, a script or a style that it does not close", name)
		}
	}
	return p, err
}

// probeOf is a template that makes html/template escape the named ones and executes none of them: its
// escaper looks into branches that are never taken.
func probeOf(names ...string) string {
	var b strings.Builder
	b.WriteString("{{if false}}")
	for _, name := range names {
		fmt.Fprintf(&b, "{{template %q}}", name)
	}
	b.WriteString("{{end}}")
	return b.String()
}

func inProbe(n parse.Node) bool {
	location, _ := (*parse.Tree)(nil).ErrorContext(n)
	return strings.HasPrefix(location, probeName+":")
}

// misplaced reports the fragments in a template that html/template has escaped, where they do not stand
// in the text of an element. There it puts one escaper behind them, and elsewhere others.
func (b bodies) misplaced(tree *parse.Tree, all readings) (errs []error) {
	inspect(tree.Root, func(n parse.Node) {
		switch n := n.(type) {
		case *parse.ActionNode:
			first, ok := n.Pipe.Cmds[0].Args[0].(*parse.IdentifierNode)
			if !ok || !isFragment(first.Ident) || len(n.Pipe.Decl) > 0 {
				return
			}
			escapers := n.Pipe.Cmds[1:]
			if len(escapers) == 0 { // never executed: it comes after a break, say
				return
			}
			escaper, ok := escapers[0].Args[0].(*parse.IdentifierNode)
			if !ok || !strings.HasPrefix(escaper.Ident, escaperPrefix) {
				return // it does not stand by itself, which is an error already
			}
			if len(escapers) > 1 || escaper.Ident != textEscaper {
				errs = append(errs, at(tree, n.Pipe.Cmds[0], fmt.Errorf("it stands in %s: a fragment can only stand in the text of an element", place(escaper.Ident))))
			}
		case *parse.TemplateNode:
			// html/template has made a copy for another context, which it does not show.
			i := strings.LastIndex(n.Name, derived)
			if i < 0 || b[n.Name[:i]] == nil || b[n.Name] != nil {
				return
			}
			if name := n.Name[:i]; all.haveFragments(b.reach(name, all, false)) {
				location, _ := tree.ErrorContext(n)
				errs = append(errs, fmt.Errorf("%s: <{{template %q}}>: the template has fragments, and does not stand in the text of an element here", location, name))
			}
		}
	})
	return errs
}

const (
	// escaperPrefix begins the names of the functions that html/template puts behind actions.
	escaperPrefix = "_html_template_"
	textEscaper   = escaperPrefix + "htmlescaper"
	// derived stands between a template's name and a context.
	derived = "$htmltemplate_"
)

// place says in words where an action stands.
func place(escaper string) string {
	switch strings.TrimPrefix(escaper, escaperPrefix) {
	case "attrescaper", "nospaceescaper":
		return "an attribute"
	case "htmlnamefilter":
		return "a tag"
	case "commentescaper":
		return "a comment"
	case "cssescaper", "cssvaluefilter":
		return "a style"
	case "jsregexpescaper", "jsstrescaper", "jstmpllitescaper", "jsvalescaper":
		return "a script"
	case "rcdataescaper":
		return "a title or a text area"
	case "srcsetescaper", "urlescaper", "urlfilter", "urlnormalizer":
		return "a URL"
	default:
		return "another place"
	}
}
