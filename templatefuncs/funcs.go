package templatefuncs

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"reflect"
	"time"

	"github.com/alkey-go/alkey/request"
)

// ErrNoScope is request.ErrNoScope: the request did not go through the middleware.
var ErrNoScope = request.ErrNoScope

// ErrNoSet is returned by fragment and fragments in templates that are not executed by a Set.
var ErrNoSet = errors.New("alkey: fragments need a Set")

// FuncMap returns the functions for one request, which must carry a scope: it went through the
// middleware. Without a request (nil) they are there to be parsed with: calling one fails the
// template. Fragments fail it in any case, because only a Set has them.
//
// Templates that are parsed once belong into a Set. It binds the functions to each request without
// a clone for every one.
func FuncMap(r *http.Request) template.FuncMap {
	var b binding
	if r != nil {
		b = bind(r.Context())
	}
	return b.funcs()
}

// binding is what the functions of a template know of the request that executes it.
type binding struct {
	ctx       context.Context // of the request, or of the fragment that is being made; nil: no request
	scope     *request.Scope  // nil: ctx carries none
	execution *execution      // nil: of a page without fragments, or without a Set
}

func bind(ctx context.Context) binding {
	scope, _ := request.FromContext(ctx)
	return binding{ctx: ctx, scope: scope}
}

// funcs returns the functions bound to b, for whatever request b names when they are called.
func (b *binding) funcs() template.FuncMap {
	return template.FuncMap{
		"cacheKey":  b.cacheKey,
		"fragment":  b.fragment,
		"fragments": b.fragments,
		"cacheTTL":  cacheTTL,
		"cacheIf":   cacheIf,
	}
}

// cacheKey is the template function of that name.
func (b *binding) cacheKey(args ...any) (string, error) {
	if b.scope == nil {
		return "", b.missing()
	}
	key, err := b.scope.Key(b.ctx, args...)
	if err != nil {
		return "", err
	}
	return key.String(), nil
}

func (b *binding) missing() error {
	if b.ctx == nil {
		return fmt.Errorf("%w: the functions of FuncMap(nil) are there to be parsed with; execute the template through a Set, or with FuncMap(r)", ErrNoRequest)
	}
	return fmt.Errorf("%w: the request did not go through alkey's middleware; put it first in the chain", ErrNoScope)
}

// fragment is the template function of that name. It writes nothing: the fragment comes in where the
// template stands when it is called.
func (b *binding) fragment(args ...reflect.Value) (string, error) {
	e, o, rest, err := b.begin(args)
	if err != nil {
		return "", err
	}
	var data reflect.Value
	if len(rest) > 0 {
		data, rest = dug(rest[0]), rest[1:]
	}
	return "", e.add(o, data, rest)
}

// fragments is the template function of that name.
func (b *binding) fragments(args ...reflect.Value) (string, error) {
	e, o, rest, err := b.begin(args)
	if err != nil {
		return "", err
	}
	if len(rest) == 0 {
		return "", errors.New("the collection is missing")
	}
	list, extras := dug(rest[0]), rest[1:]
	for (list.Kind() == reflect.Pointer || list.Kind() == reflect.Interface) && !list.IsNil() {
		list = list.Elem()
	}
	switch list.Kind() {
	case reflect.Invalid:
		return "", nil
	case reflect.Slice, reflect.Array:
		for i := range list.Len() {
			if err := e.add(o, dug(list.Index(i)), extras); err != nil {
				return "", fmt.Errorf("element %d: %w", i, err)
			}
		}
		return "", nil
	default:
		return "", each(list, func(element reflect.Value) error { return e.add(o, dug(element), extras) })
	}
}

// begin reads the arguments that both functions have. The rest is without options.
func (b *binding) begin(args []reflect.Value) (e *execution, o *outline, rest []reflect.Value, err error) {
	e = b.execution
	switch {
	case e == nil && b.ctx == nil:
		return nil, nil, nil, b.missing()
	case e == nil:
		return nil, nil, nil, fmt.Errorf("%w: make one with templatefuncs.New and execute the template through it", ErrNoSet)
	case len(args) == 0:
		return nil, nil, nil, errors.New("the name of a template is missing")
	}
	name := dug(args[0])
	for name.Kind() == reflect.Pointer || name.Kind() == reflect.Interface {
		name = name.Elem()
	}
	if name.Kind() != reflect.String {
		return nil, nil, nil, fmt.Errorf("a template's name must be a string, and is %v", name)
	}
	if o = e.latest.outline; o == nil || o.name != name.String() {
		if o = e.set.outlines[name.String()]; o == nil {
			return nil, nil, nil, fmt.Errorf("template %q not defined", name.String())
		}
	}
	if err := e.check(o); err != nil {
		return nil, nil, nil, err
	}
	e.options = option{}
	rest = args[1:]
	for i, arg := range rest {
		if arg.IsValid() && arg.Type() == optionType {
			return e, o, e.takeOptions(rest, i), nil
		}
	}
	return e, o, rest, nil
}

// takeOptions returns args without the options, the first of which is at i.
func (e *execution) takeOptions(args []reflect.Value, i int) []reflect.Value {
	rest := append(make([]reflect.Value, 0, len(args)-1), args[:i]...)
	for _, arg := range args[i:] {
		if !arg.IsValid() || arg.Type() != optionType {
			rest = append(rest, arg)
			continue
		}
		o := arg.Interface().(option)
		if o.ttl > 0 {
			e.options.ttl = o.ttl
		}
		e.options.uncached = e.options.uncached || o.uncached
	}
	return rest
}

// dug returns what an interface without methods holds, which is what html/template makes of the argument
// of template.
func dug(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Interface && v.NumMethod() == 0 {
		return v.Elem()
	}
	return v
}

// option stands among the arguments of a fragment. Of several ttl the last counts; with one condition that
// is false the fragment is not cached.
type option struct {
	ttl      time.Duration
	uncached bool
}

var optionType = reflect.TypeFor[option]()

// cacheTTL is the template function of that name.
func cacheTTL(ttl any) (option, error) {
	switch d := ttl.(type) {
	case time.Duration:
		return option{ttl: d}, checkDuration(d)
	case string:
		parsed, err := parseTTL(d)
		return option{ttl: parsed}, err
	default:
		return option{}, fmt.Errorf("it wants a time.Duration or a string such as \"10m\", and not %T", ttl)
	}
}

// cacheIf is the template function of that name. A condition is true as it is for if.
func cacheIf(condition reflect.Value) (option, error) {
	if condition = dug(condition); !condition.IsValid() {
		return option{uncached: true}, nil
	}
	truth, ok := template.IsTrue(condition.Interface())
	if !ok {
		return option{}, fmt.Errorf("can't use %v", condition)
	}
	return option{uncached: !truth}, nil
}
