package templatefuncs

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"html/template"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/template/parse"
	"time"

	"github.com/alkey-go/alkey/request"
)

// outline is what New has found out about one template of a set.
type outline struct {
	name string

	// calls says that there are fragments in the template, and paged that there are some in it or in what
	// it includes.
	calls, paged bool
	// digest is of the template and of all that a fragment of it consists of.
	digest string
	// groups are the functions of single requests that a fragment of it may call, as places in the set's,
	// and uncached says that one of them varies by nobody knows what.
	groups   []int
	uncached bool
	// refused is why html/template does not execute the template by itself.
	refused error

	kinds sync.Map // *request.Kind by *shape
}

// kind returns what the fragments have in common that are made of data of that shape.
func (o *outline) kind(s *shape) *request.Kind {
	if kind, ok := o.kinds.Load(s); ok {
		return kind.(*request.Kind)
	}
	name := "fragment:" + o.name
	if s.typ != nil {
		name += ":" + s.typ.String()
	}
	kind, _ := o.kinds.LoadOrStore(s, request.NewKind(name, o.digest+s.digest, s.typ))
	return kind.(*request.Kind)
}

// bodies are the templates of a set that have a content, by name.
type bodies map[string]*parse.Tree

// reading is what stands in one template.
type reading struct {
	includes map[string]bool // by name
	calls    []fragmentCall
	computed bool // the name of a fragment is not in the template
	words    map[string]bool
	own      []byte // digest of what stands there
}

// fragmentCall is a call of fragment or fragments that is where it may be.
type fragmentCall struct {
	action *parse.ActionNode
	name   string // "" for a computed one
	named  bool
}

// read reads a template. The errors are of calls that are where they must not be.
func read(tree *parse.Tree) (r reading, errs []error) {
	r.includes, r.words = make(map[string]bool), make(map[string]bool)
	proper := make(map[parse.Node]bool) // names of functions that are where they may be
	sum := sha256.New()
	inspect(tree.Root, func(n parse.Node) {
		digest(sum, n)
		switch n := n.(type) {
		case *parse.TemplateNode:
			r.includes[n.Name] = true
		case *parse.ActionNode:
			first, ok := n.Pipe.Cmds[0].Args[0].(*parse.IdentifierNode)
			if !ok || !isFragment(first.Ident) || len(n.Pipe.Decl) > 0 || len(n.Pipe.Cmds) > 1 {
				return
			}
			proper[first] = true
			call, err := readCall(n)
			if err != nil {
				errs = append(errs, at(tree, n.Pipe.Cmds[0], err))
				return
			}
			r.calls = append(r.calls, call)
			r.computed = r.computed || !call.named
		case *parse.CommandNode:
			if err := checkTTL(n); err != nil {
				errs = append(errs, at(tree, n, err))
			}
		case *parse.IdentifierNode:
			r.words[n.Ident] = true
			if strings.HasPrefix(n.Ident, simpleFragment) {
				errs = append(errs, at(tree, n, errors.New("the name of the function is taken")))
			}
			if isFragment(n.Ident) && !proper[n] {
				errs = append(errs, at(tree, n, errNotAlone))
			}
		}
	})
	r.own = sum.Sum(nil)
	return r, errs
}

func (c fragmentCall) command() *parse.CommandNode { return c.action.Pipe.Cmds[0] }

func isFragment(function string) bool { return function == "fragment" || function == "fragments" }

var errNotAlone = errors.New("it must stand by itself: its result cannot be an argument, a condition, a variable's value or part of a pipeline")

// at says where in a template an error is.
func at(tree *parse.Tree, n parse.Node, err error) error {
	location, context := tree.ErrorContext(n)
	return fmt.Errorf("%s: <%s>: %w", location, context, err)
}

func readCall(n *parse.ActionNode) (fragmentCall, error) {
	args := n.Pipe.Cmds[0].Args[1:]
	function := n.Pipe.Cmds[0].Args[0].(*parse.IdentifierNode).Ident
	if len(args) == 0 {
		return fragmentCall{}, errors.New("the name of a template is missing")
	}
	if function == "fragments" && len(args) == 1 {
		return fragmentCall{}, errors.New("the collection is missing")
	}
	switch name := args[0].(type) {
	case *parse.StringNode:
		return fragmentCall{n, name.Text, true}, nil
	case *parse.NumberNode, *parse.BoolNode, *parse.NilNode:
		return fragmentCall{}, fmt.Errorf("%s is no template's name", name)
	}
	return fragmentCall{action: n}, nil
}

// checkTTL reports a duration in the template that is none.
func checkTTL(n *parse.CommandNode) error {
	function, ok := n.Args[0].(*parse.IdentifierNode)
	if !ok || function.Ident != "cacheTTL" || len(n.Args) != 2 {
		return nil
	}
	if text, ok := n.Args[1].(*parse.StringNode); ok {
		_, err := parseTTL(text.Text)
		return err
	}
	return nil
}

func parseTTL(text string) (time.Duration, error) {
	ttl, err := time.ParseDuration(text)
	if err != nil {
		return 0, err
	}
	return ttl, checkDuration(ttl)
}

func checkDuration(ttl time.Duration) error {
	if ttl <= 0 {
		return fmt.Errorf("%v is no time that something can be kept for; leave cacheTTL out to keep it as long as there is room, and use cacheIf not to keep it", ttl)
	}
	return nil
}

// bodiesOf returns the templates that are associated with t and have a content.
func bodiesOf(t *template.Template) bodies {
	b := make(bodies)
	for _, d := range t.Templates() {
		if d.Tree != nil && d.Tree.Root != nil {
			b[d.Name()] = d.Tree
		}
	}
	return b
}

// check tells what there is to know of all templates, and what is wrong with them.
func (b bodies) check(groups []*group) (map[string]*outline, error) {
	all, wrongCalls := b.read()
	if b[probeName] != nil {
		return nil, fmt.Errorf("template %q: the name is taken", probeName)
	}
	refused, wrongPlaces := b.checkEscaping(all)
	if err := errors.Join(wrongCalls, wrongPlaces, b.checkTargets(all, refused)); err != nil {
		return nil, err
	}
	return b.outlines(all, refused, groups), nil
}

// read reads all templates.
func (b bodies) read() (readings, error) {
	all := make(readings, len(b))
	var errs []error
	for _, name := range b.names() {
		r, wrong := read(b[name])
		for _, c := range r.calls {
			if c.named && b[c.name] == nil {
				wrong = append(wrong, at(b[name], c.command(), fmt.Errorf("there is no template %q", c.name)))
			}
		}
		all[name] = r
		errs = append(errs, wrong...)
	}
	return all, errors.Join(errs...)
}

// checkTargets reports the calls of fragments that html/template does not execute by themselves.
func (b bodies) checkTargets(all readings, refused map[string]error) error {
	var errs []error
	for _, name := range b.names() {
		for _, c := range all[name].calls {
			if err := refused[c.name]; c.named && err != nil {
				errs = append(errs, at(b[name], c.command(), fmt.Errorf("the template cannot stand by itself: %w", err)))
			}
		}
	}
	return errors.Join(errs...)
}

// outlines tells what there is to know of all templates.
func (b bodies) outlines(all readings, refused map[string]error, groups []*group) map[string]*outline {
	outlines := make(map[string]*outline, len(b))
	for name := range b {
		o := &outline{name: name, refused: refused[name], calls: len(all[name].calls) > 0}
		o.paged = all.haveFragments(b.reach(name, all, false))
		reached := b.reach(name, all, true)
		sum := sha256.New()
		for _, part := range slices.Sorted(maps.Keys(reached)) {
			field(sum, part)
			sum.Write(all[part].own)
		}
		o.digest = string(sum.Sum(nil))
		for i, g := range groups {
			if all.call(reached, g) {
				o.groups = append(o.groups, i)
				o.uncached = o.uncached || g.vary == nil
			}
		}
		outlines[name] = o
	}
	return outlines
}

// readings are of all templates of a set, by name.
type readings map[string]reading

// haveFragments reports whether there is a call of one in some of the templates.
func (all readings) haveFragments(names map[string]bool) bool {
	for name := range names {
		if len(all[name].calls) > 0 {
			return true
		}
	}
	return false
}

// call reports whether some of the templates call a function of the group.
func (all readings) call(names map[string]bool, g *group) bool {
	for name := range names {
		for word := range all[name].words {
			if _, ok := g.funcs[word]; ok {
				return true
			}
		}
	}
	return false
}

// names are the templates' names in order, so that errors always come in the same.
func (b bodies) names() []string { return slices.Sorted(maps.Keys(b)) }

// reach names the templates that executing the named one can execute: what it includes and, if deep, what
// its fragments are.
func (b bodies) reach(name string, all readings, deep bool) map[string]bool {
	reached := make(map[string]bool)
	var walk func(string)
	walk = func(name string) {
		if reached[name] || b[name] == nil {
			return
		}
		reached[name] = true
		r := all[name]
		for part := range r.includes {
			walk(part)
		}
		if !deep {
			return
		}
		for _, c := range r.calls {
			if c.named {
				walk(c.name)
			}
		}
		if r.computed {
			for other := range b {
				walk(other)
			}
		}
	}
	walk(name)
	return reached
}

// digest adds one node, without those in it, in a form that no other node has: texts with their lengths,
// because a text can look like an action.
func digest(sum hash.Hash, n parse.Node) {
	sum.Write([]byte{byte(n.Type())})
	switch n := n.(type) {
	case *parse.TextNode:
		field(sum, string(n.Text))
	case *parse.TemplateNode:
		field(sum, n.Name)
	case *parse.ListNode:
		size(sum, len(n.Nodes))
	case *parse.PipeNode:
		size(sum, len(n.Decl))
		size(sum, len(n.Cmds))
		if n.IsAssign {
			sum.Write([]byte{'='})
		}
	case *parse.CommandNode:
		size(sum, len(n.Args))
	case *parse.ChainNode:
		size(sum, len(n.Field))
		for _, name := range n.Field {
			field(sum, name)
		}
	case *parse.ActionNode, *parse.IfNode, *parse.RangeNode, *parse.WithNode, *parse.CommentNode:
	default:
		field(sum, n.String())
	}
}

func field(sum hash.Hash, text string) {
	size(sum, len(text))
	sum.Write([]byte(text))
}

func size(sum hash.Hash, n int) {
	sum.Write(binary.AppendUvarint(nil, uint64(n)))
}

// inspect calls visit with a node and all that is in it, from the outside in and in the order of the text.
func inspect(n parse.Node, visit func(parse.Node)) {
	branch := func(b *parse.BranchNode) {
		inspect(b.Pipe, visit)
		inspect(b.List, visit)
		if b.ElseList != nil {
			inspect(b.ElseList, visit)
		}
	}
	visit(n)
	switch n := n.(type) {
	case *parse.ListNode:
		for _, child := range n.Nodes {
			inspect(child, visit)
		}
	case *parse.ActionNode:
		inspect(n.Pipe, visit)
	case *parse.TemplateNode:
		if n.Pipe != nil {
			inspect(n.Pipe, visit)
		}
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	case *parse.PipeNode:
		for _, variable := range n.Decl {
			inspect(variable, visit)
		}
		for _, command := range n.Cmds {
			inspect(command, visit)
		}
	case *parse.CommandNode:
		for _, arg := range n.Args {
			inspect(arg, visit)
		}
	case *parse.ChainNode:
		inspect(n.Node, visit)
	}
}
