package templatefuncs

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"runtime"
	"sync"
)

// Set is a set of templates that is parsed once and executed by many requests at a time, each of
// which cacheKey serves from its own scope. It executes clones of the templates. A clone belongs to
// one execution from its beginning to its end; then it forgets the request and waits for the next.
// Clones are made when more executions run at a time than clones wait, so a server under steady
// load makes none. MaxIdle bounds how many wait. Safe for concurrent use.
type Set struct {
	source *template.Template // never executed: html/template clones nothing that was

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
func New(t *template.Template) (*Set, error) {
	if t == nil {
		return nil, errors.New("alkey: templatefuncs.New: no template")
	}
	source, err := t.Clone()
	if err != nil {
		return nil, fmt.Errorf("alkey: templatefuncs.New: make the set before a template is executed: %w", err)
	}
	if err := checkEscaping(source); err != nil {
		return nil, fmt.Errorf("alkey: templatefuncs.New: %w", err)
	}
	return &Set{source: source}, nil
}

// MaxIdle is how many clones a Set keeps for executions to come: four for every processor that Go
// uses, and 16 at least. A clone of a hundred templates takes about half a megabyte.
func MaxIdle() int { return max(16, 4*runtime.GOMAXPROCS(0)) }

// Execute writes the template of that name for a request, as html/template's ExecuteTemplate does:
// its errors are returned as they are, and what was written before one stays written.
func (s *Set) Execute(w io.Writer, r *http.Request, name string, data any) error {
	if r == nil {
		return fmt.Errorf("%w: Set.Execute was called with nil; use ExecuteContext where there is none", ErrNoRequest)
	}
	return s.ExecuteContext(w, r.Context(), name, data)
}

// ExecuteContext is Execute for what is no HTTP request: a job, say, whose context comes from
// request.Kit.Open.
func (s *Set) ExecuteContext(w io.Writer, ctx context.Context, name string, data any) error {
	b, err := s.take()
	if err != nil {
		return err
	}
	// A panic, of w say, leaves the clone in a state that html/template does not speak of. It is
	// dropped.
	whole := false
	defer func() {
		b.binding = binding{}
		if whole {
			s.put(b)
		}
	}()
	b.binding = bind(ctx)
	err = b.template.ExecuteTemplate(w, name, data)
	whole = true
	return err
}

// bound is a clone whose functions serve the request that its binding names.
type bound struct {
	template *template.Template
	binding  binding
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
	clone, err := s.source.Clone()
	if err != nil {
		return nil, fmt.Errorf("alkey: %w", err)
	}
	b := &bound{template: clone}
	clone.Funcs(b.binding.funcs())
	return b, nil
}

func (s *Set) put(b *bound) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) < MaxIdle() {
		s.idle = append(s.idle, b)
	}
}
