package templatefuncs

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"sync"
	texttemplate "text/template"
	"text/template/parse"
)

// Set is a set of templates that is parsed once and executed by many requests at a time, each of
// which the functions serve from its own scope. It executes clones of the templates. A clone belongs to
// one execution from its beginning to its end; then it forgets the request and waits for the next.
// Clones are made when more executions run at a time than clones wait, so a server under steady
// load makes none. MaxIdle bounds how many wait. Safe for concurrent use.
type Set struct {
	source   *template.Template // never executed: html/template clones nothing that was
	outlines map[string]*outline
	groups   []*group
	shapes   shapes

	executions sync.Pool // *execution

	mu   sync.Mutex
	idle []*bound // the last one was used last and is the warmest
}

// ErrNoRequest is returned by Execute without a request, and by the functions of FuncMap(nil).
var ErrNoRequest = errors.New("alkey: no request")

// New makes a Set of t and all templates associated with it. Parse t first, with the functions that
// it needs: FuncMap(nil) stands in for this package's, which the Set replaces by those of the
// request that executes. What is done to t afterwards has no effect on the Set.
//
// It is an error if t was executed before, and if html/template finds a template whose output it
// cannot escape. A template that is refused on its own is accepted as part of one that is not:
// <<define "attributes">>href="<<.>>" title="<<end>> may be the beginning of a tag's attributes.
//
// Fragments are checked too. The error says, for each call that is wrong, where it is: one that stands
// elsewhere than in the text of an element, or not by itself; one that names a template that is not there,
// or that cannot stand by itself.
func New(t *template.Template, opts ...Option) (*Set, error) {
	if t == nil {
		return nil, errors.New("alkey: templatefuncs.New: no template")
	}
	var set settings
	for _, o := range opts {
		if o != nil {
			o(&set)
		}
	}
	if err := set.check(); err != nil {
		return nil, fmt.Errorf("alkey: templatefuncs.New: %w", err)
	}
	source, err := t.Clone()
	if err != nil {
		return nil, fmt.Errorf("alkey: templatefuncs.New: make the set before a template is executed: %w", err)
	}
	outlines, err := bodiesOf(source).check(set.groups)
	if err != nil {
		return nil, fmt.Errorf("alkey: templatefuncs.New: %w", err)
	}
	s := &Set{source: source, outlines: outlines, groups: set.groups}
	if err := s.addProbe(); err != nil {
		return nil, fmt.Errorf("alkey: templatefuncs.New: %w", err)
	}
	first, err := s.clone() // which tells whether html/template takes all templates together
	if err != nil {
		return nil, err
	}
	s.put(first)
	return s, nil
}

// addProbe adds the template that clone escapes all others by.
func (s *Set) addProbe() error {
	var names []string
	for name, o := range s.outlines {
		if o.refused == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	probe, err := template.New(probeName).Parse(probeOf(names...))
	if err == nil {
		_, err = s.source.AddParseTree(probeName, probe.Tree)
	}
	return err
}

// MaxIdle is how many clones a Set keeps for executions to come: four for every processor that Go
// uses, and 16 at least. A clone of a hundred templates takes about half a megabyte.
func MaxIdle() int { return max(16, 4*runtime.GOMAXPROCS(0)) }

// Execute writes the template of that name for a request, as html/template's ExecuteTemplate does:
// its errors are returned as they are, and what was written before one stays written.
//
// A template with fragments, or that includes some, is written when the page is whole. After an error
// nothing of it is.
func (s *Set) Execute(w io.Writer, r *http.Request, name string, data any) error {
	if r == nil {
		return fmt.Errorf("%w: Set.Execute was called with nil; use ExecuteContext where there is none", ErrNoRequest)
	}
	return s.ExecuteContext(w, r.Context(), name, data)
}

// ExecuteContext is Execute for what is no HTTP request: a job, say, whose context comes from
// request.Kit.Open.
func (s *Set) ExecuteContext(w io.Writer, ctx context.Context, name string, data any) error {
	o := s.outlines[name]
	switch {
	case o == nil || !o.paged && o.refused == nil:
		return s.with(func(b *bound) error {
			b.binding = bind(ctx)
			return b.template.ExecuteTemplate(w, name, data)
		})
	case o.refused != nil:
		return o.refused
	}
	e, ok := s.executions.Get().(*execution)
	if !ok {
		e = new(execution)
	}
	e.set, e.ctx = s, ctx
	err := s.with(func(b *bound) error {
		e.bound = b
		b.binding = bind(ctx)
		b.binding.execution = e
		return e.render(o, data)
	})
	if err == nil {
		err = e.writeTo(w)
	}
	// After a panic, which skips this, it is not known who still looks at it.
	e.reset()
	s.executions.Put(e)
	return err
}

// with calls fn with a clone. A panic, of a writer say, leaves the clone in a state that html/template does
// not speak of. It is dropped.
func (s *Set) with(fn func(*bound) error) error {
	b, err := s.take()
	if err != nil {
		return err
	}
	whole := false
	defer func() {
		b.binding = binding{}
		if whole {
			s.put(b)
		}
	}()
	err = fn(b)
	whole = true
	return err
}

// bound is a clone whose functions serve the request that its binding names.
type bound struct {
	set      *Set
	template *template.Template
	binding  binding

	sites int // how many calls became simple
}

// execute executes a template that may have fragments.
func (b *bound) execute(w io.Writer, o *outline, data any) error {
	err := b.template.ExecuteTemplate(w, o.name, data)
	if e := b.binding.execution; err != nil && e.failed != nil {
		err, e.failed = e.failed, nil
	}
	return err
}

// lighten makes the fragments in one template cheaper. Their calls write nothing, so the escaper behind
// them goes, which is the one for the text of an element, as New has seen to. And a call by a constant
// name, of data and nothing else, becomes one of a function for it alone. Reflection is what a page of many
// fragments spends most of its time with.
func (b *bound) lighten(name string) {
	tree := b.template.Lookup(name).Tree
	inspect(tree.Root, func(n parse.Node) {
		if action, ok := n.(*parse.ActionNode); ok && onlyEscaped(action) {
			action.Pipe.Cmds = action.Pipe.Cmds[:1]
			b.simplify(name, tree, action.Pipe)
		}
	})
}

// onlyEscaped reports whether an action is a fragment in the text of an element.
func onlyEscaped(n *parse.ActionNode) bool {
	if len(n.Pipe.Cmds) != 2 || len(n.Pipe.Decl) > 0 {
		return false
	}
	function, ok := n.Pipe.Cmds[0].Args[0].(*parse.IdentifierNode)
	escaper, isName := n.Pipe.Cmds[1].Args[0].(*parse.IdentifierNode)
	return ok && isName && isFragment(function.Ident) && escaper.Ident == textEscaper
}

// simplify replaces a call of fragment, if it is a simple one, by one of a function with one parameter and
// one result, because each is an allocation, and assigns that to a variable, because printing nothing takes
// time too.
func (b *bound) simplify(in string, tree *parse.Tree, n *parse.PipeNode) {
	args := n.Cmds[0].Args
	function := args[0].(*parse.IdentifierNode)
	if function.Ident != "fragment" || len(args) != 3 {
		return
	}
	name, ok := args[1].(*parse.StringNode)
	if !ok {
		return
	}
	s := callSite{bound: b, template: in, outline: b.set.outlines[name.Text]}
	s.location, s.context = tree.ErrorContext(n.Cmds[0])
	b.sites++
	simple := simpleFragment + strconv.Itoa(b.sites)
	b.template.Funcs(template.FuncMap{simple: s.fragment})
	n.Cmds[0].Args = []parse.Node{parse.NewIdentifier(simple).SetTree(tree).SetPos(function.Pos), args[2]}
	n.Decl = []*parse.VariableNode{{NodeType: parse.NodeVariable, Pos: n.Pos, Ident: []string{unnamed}}}
}

const (
	// simpleFragment begins names of functions that New refuses in templates.
	simpleFragment = "alkey_fragment"
	// unnamed is a variable that cannot be named in a template.
	unnamed = "$ "
)

// callSite is where a fragment is called.
type callSite struct {
	bound    *bound
	template string
	outline  *outline
	location string
	context  string
}

// fragment is the template function of that name, for a site and its data. What it panics with html/template
// takes for the error of the call.
func (s *callSite) fragment(data reflect.Value) bool {
	e := s.bound.binding.execution
	defer func() {
		if p := recover(); p != nil {
			err, ok := p.(error)
			if !ok {
				err = fmt.Errorf("%v", p)
			}
			e.failed = s.failed(err)
			panic(err)
		}
	}()
	err := e.check(s.outline)
	if err == nil {
		if e.options = (option{}); data.IsValid() && data.Type() == optionType {
			e.takeOptions([]reflect.Value{data}, 0)
			data = reflect.Value{}
		}
		err = e.add(s.outline, dug(data), nil)
	}
	if err != nil {
		panic(err)
	}
	return true
}

// failed is the error of a call, as html/template has it.
func (s *callSite) failed(err error) error {
	return texttemplate.ExecError{
		Name: s.template,
		Err:  fmt.Errorf("template: %s: executing %q at <%s>: error calling fragment: %w", s.location, s.template, s.context, err),
	}
}

func (s *Set) take() (*bound, error) {
	s.mu.Lock()
	if last := len(s.idle) - 1; last >= 0 {
		b := s.idle[last]
		s.idle[last] = nil
		s.idle = s.idle[:last]
		s.mu.Unlock()
		return b, nil
	}
	s.mu.Unlock()
	return s.clone()
}

// clone makes a clone. Its templates are escaped before any is executed, all at once: html/template escapes
// one that is included in an attribute, say, by way of a copy, and if the template was executed by itself
// before, it copies what is escaped for a text already. A fragment is executed by itself.
func (s *Set) clone() (*bound, error) {
	clone, err := s.source.Clone()
	if err != nil {
		return nil, fmt.Errorf("alkey: %w", err)
	}
	b := &bound{set: s, template: clone}
	clone.Funcs(b.binding.funcs())
	for _, g := range s.groups {
		clone.Funcs(g.bound(&b.binding))
	}
	if err := clone.ExecuteTemplate(io.Discard, probeName, nil); err != nil {
		return nil, fmt.Errorf("alkey: %w", err)
	}
	for name, o := range s.outlines {
		if o.calls {
			b.lighten(name)
		}
	}
	return b, nil
}

func (s *Set) put(b *bound) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) < MaxIdle() {
		s.idle = append(s.idle, b)
	}
}
