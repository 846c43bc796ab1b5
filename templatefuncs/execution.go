package templatefuncs

import (
	"context"
	"fmt"
	"io"
	"reflect"

	"github.com/alkey-go/alkey/request"
)

// execution is one page that has fragments, while it is made. Where a template calls a fragment nothing is
// written: the execution notes how much of the output is there by then. So nothing in the output can
// be taken for the place of a fragment, whatever users write. When the page is there up to its
// fragments these are resolved together, which may execute more templates, and so on.
type execution struct {
	set   *Set
	bound *bound
	ctx   context.Context // of the page

	out    []byte // what the templates have written, one after the other
	end    int    // of the page in it
	chunks [][]call
	count  int // of the calls
	page   int // of them, that are the page's own, which are the first
	depth  int // of fragments, around the template that is being executed

	failed  error // of a call that html/template knows by another name
	latest  latest
	options option // of the call that is being read
	args    []any  // of the key that is being made
	varied  []varied
}

// varied is what a group of functions varies by in this execution.
type varied struct {
	asked  bool
	values []any // and before them, how many there are
}

// call is one fragment of a page.
type call struct {
	part      request.Part
	fill      func(context.Context) ([]request.Piece, error) // make, bound to the call once and for all
	execution *execution
	outline   *outline
	data      reflect.Value
	at        int // where it comes into what the templates have written
	depth     int
}

const (
	// maxDepth bounds fragments in fragments, each of which is a round trip. Browsers stop at some hundred
	// elements.
	maxDepth = 1000
	// callsOfChunk is how many calls are allocated at once.
	callsOfChunk = 32
	// What is kept for the next page, at most.
	maxKeptBytes  = 256 << 10
	maxKeptChunks = 8
)

// Write is part of io.Writer, for the templates.
func (e *execution) Write(p []byte) (int, error) {
	e.out = append(e.out, p...)
	return len(p), nil
}

// render makes the page. Then writeTo writes it.
func (e *execution) render(o *outline, data any) error {
	if err := e.bound.execute(e, o, data); err != nil {
		return err
	}
	e.end, e.page = len(e.out), e.count
	if e.page == 0 {
		return nil
	}
	parts := make([]*request.Part, e.page)
	for i := range parts {
		parts[i] = &e.call(i).part
	}
	return request.Resolve(e.ctx, parts...)
}

// writeTo writes the page.
func (e *execution) writeTo(w io.Writer) error {
	write := func(p []byte) error {
		if len(p) == 0 {
			return nil
		}
		_, err := w.Write(p)
		return err
	}
	from := 0
	for i := range e.page {
		c := e.call(i)
		if err := write(e.out[from:c.at]); err != nil {
			return err
		}
		from = c.at
		if err := write(c.part.Value); err != nil {
			return err
		}
	}
	return write(e.out[from:e.end])
}

// call returns one of the calls.
func (e *execution) call(i int) *call { return &e.chunks[i/callsOfChunk][i%callsOfChunk] }

// next returns a new call.
func (e *execution) next() *call {
	if e.count == len(e.chunks)*callsOfChunk {
		e.chunks = append(e.chunks, make([]call, callsOfChunk))
	}
	c := e.call(e.count)
	e.count++
	if c.fill == nil {
		c.fill = c.make
	}
	return c
}

// check reports why there cannot be a fragment of that template here.
func (e *execution) check(o *outline) error {
	switch {
	case e.bound.binding.scope == nil:
		return e.bound.binding.missing()
	case o.refused != nil:
		return o.refused
	case e.depth >= maxDepth:
		return fmt.Errorf("exceeded maximum fragment depth (%d)", maxDepth)
	}
	return nil
}

// add notes that a fragment comes here.
func (e *execution) add(o *outline, data reflect.Value, extras []reflect.Value) error {
	b := &e.bound.binding
	c := e.next()
	c.execution, c.outline, c.data, c.at, c.depth = e, o, data, len(e.out), e.depth
	p := &c.part
	p.Fill, p.Uncached = c.fill, o.uncached || e.options.uncached
	args := e.args[:0]
	varies := false
	if !p.Uncached {
		varies = e.shape(o, data).varies
		p.Kind = e.latest.kind
		for _, group := range o.groups {
			args = append(args, e.vary(group)...)
		}
	}
	args = append(args, argument(data))
	for _, extra := range extras {
		args = append(args, argument(extra))
	}
	if e.options.ttl > 0 {
		args = append(args, request.TTL(e.options.ttl))
	}
	e.args = args
	p.Args = args
	err := b.scope.Prepare(p)
	if err == nil && varies {
		// The data has an end, as is known now.
		p.Args = append(args, e.set.shapes.inside(data))
		err = b.scope.Prepare(p)
	}
	clear(args)
	p.Args = nil
	return err
}

// latest is what the last call was of: the next is often of the same.
type latest struct {
	outline *outline
	shape   *shape
	kind    *request.Kind
}

// shape returns the shape of data and sets latest.
func (e *execution) shape(o *outline, data reflect.Value) *shape {
	l := &e.latest
	if l.outline != o || l.shape == nil || !l.shape.fits(data) {
		s := e.set.shapes.of(data)
		*l = latest{o, s, o.kind(s)}
	}
	return l.shape
}

// vary returns what the functions of a group vary by, as arguments of a key.
func (e *execution) vary(group int) []any {
	if e.varied == nil {
		e.varied = make([]varied, len(e.set.groups))
	}
	v := &e.varied[group]
	if !v.asked {
		values := e.set.groups[group].vary(e.ctx)
		*v = varied{asked: true, values: append([]any{len(values)}, values...)}
	}
	return v.values
}

// make executes the fragment's template, for request.Resolve.
func (c *call) make(ctx context.Context) ([]request.Piece, error) {
	e := c.execution
	b := &e.bound.binding
	outer := b.ctx
	defer func() { b.ctx = outer }()
	b.ctx, e.depth = ctx, c.depth+1
	first, from := e.count, len(e.out)
	if err := e.bound.execute(e, c.outline, c.data); err != nil {
		return nil, err
	}
	pieces := make([]request.Piece, 0, 2*(e.count-first)+1)
	for i := first; i < e.count; i++ {
		inner := e.call(i)
		if inner.at > from {
			pieces = append(pieces, request.Piece{Text: e.out[from:inner.at]})
			from = inner.at
		}
		pieces = append(pieces, request.Piece{Part: &inner.part})
	}
	if from < len(e.out) {
		pieces = append(pieces, request.Piece{Text: e.out[from:]})
	}
	return pieces, nil
}

// reset makes the execution ready for another page. What it keeps is bounded.
func (e *execution) reset() {
	chunks := e.chunks
	if len(chunks) > maxKeptChunks {
		chunks = append([][]call(nil), chunks[:maxKeptChunks]...) // the list would keep the others
	}
	for i := range min(e.count, len(chunks)*callsOfChunk) {
		c := e.call(i)
		*c = call{fill: c.fill}
	}
	out := e.out[:0]
	if cap(out) > maxKeptBytes {
		out = nil
	}
	*e = execution{chunks: chunks, out: out, args: e.args}
}

// argument is a value as an argument of a key.
func argument(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Invalid:
		return nil
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			// Of a template that is given nothing nothing can change. A nil of another type is another value.
			return []any{nil, v.Type().String()}
		}
	case reflect.Struct, reflect.Array:
		if v.CanAddr() {
			return v.Addr().Interface()
		}
	}
	return v.Interface()
}
