package templatefuncs

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// Option is how a Set is made.
type Option func(*settings)

// settings is what Options set.
type settings struct {
	groups []*group
}

// PerRequest gives the templates functions that answer for the request that executes them: what language it
// wants, who is logged in. Their first parameter is a context.Context, which a template does not pass: it
// is the request's, or that of the fragment in which the function is called. All else is as html/template
// has it. Parse the templates with the same functions, so that their names are known:
//
//	perRequest := template.FuncMap{
//		"t": func(ctx context.Context, text string) string { return translate(languageOf(ctx), text) },
//	}
//	t, err := template.New("").Funcs(templatefuncs.FuncMap(nil)).Funcs(perRequest).ParseFS(files, "*.html")
//	set, err := templatefuncs.New(t, templatefuncs.PerRequest(perRequest, func(ctx context.Context) []any {
//		return []any{languageOf(ctx)}
//	}))
//
// What such a function returns is no part of a fragment's key. So vary tells what it depends on: the values
// that it returns for a request become arguments of the keys of all fragments that call one of funcs,
// themselves or by what is in them, and of no others. (What is in a fragment by a computed name may be any
// template, and call any of them.) It is asked once for each execution, if at all. They must be all that
// the functions make their answers of, and as few as can be: the language, and not the user.
//
// Only fragments are told apart so. What is around the execution of a Set (a Fetch, a page that is cached
// whole) has a key of its own, which must name what such functions depend on.
//
// With a nil vary those fragments are made each time, and so is all that is around them, a Fetch or a cached
// page included. That is right for what is another in every response, such as a CSRF token or the nonce of a
// Content-Security-Policy.
// Better is to keep such a function out of fragments:
//
//	templatefuncs.PerRequest(template.FuncMap{
//		"csrf": func(ctx context.Context) string { return csrf.TokenOf(ctx) },
//	}, nil)
//
// New refuses functions of another form, and names that are this package's or were given before.
func PerRequest(funcs template.FuncMap, vary func(ctx context.Context) []any) Option {
	funcs = maps.Clone(funcs)
	return func(s *settings) { s.groups = append(s.groups, &group{given: funcs, vary: vary}) }
}

// group is what one PerRequest gives.
type group struct {
	given template.FuncMap
	funcs map[string]perRequest
	vary  func(context.Context) []any
}

// perRequest is a function and its type without the context.
type perRequest struct {
	fn   reflect.Value
	typ  reflect.Type
	many bool // variadic
}

var (
	contextType = reflect.TypeFor[context.Context]()
	errorType   = reflect.TypeFor[error]()
)

// check reads the functions of all groups.
func (s *settings) check() error {
	taken := make(map[string]bool)
	for name := range (&binding{}).funcs() {
		taken[name] = true
	}
	var errs []error
	for _, g := range s.groups {
		g.funcs = make(map[string]perRequest, len(g.given))
		for _, name := range slices.Sorted(maps.Keys(g.given)) {
			f, err := readPerRequest(name, g.given[name])
			if err == nil && (taken[name] || strings.HasPrefix(name, simpleFragment)) {
				err = errors.New("the name is taken")
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("PerRequest: function %q: %w", name, err))
				continue
			}
			taken[name] = true
			g.funcs[name] = f
		}
	}
	return errors.Join(errs...)
}

func readPerRequest(name string, function any) (perRequest, error) {
	if !isIdentifier(name) {
		return perRequest{}, errors.New("the name is no identifier")
	}
	fn := reflect.ValueOf(function)
	if fn.Kind() != reflect.Func {
		return perRequest{}, fmt.Errorf("%T is no function", function)
	}
	if fn.IsNil() {
		return perRequest{}, errors.New("the function is nil")
	}
	t := fn.Type()
	if t.NumIn() == 0 || t.In(0) != contextType {
		return perRequest{}, fmt.Errorf("the first parameter of %v is no context.Context", t)
	}
	if n := t.NumOut(); n != 1 && n != 2 || n == 2 && t.Out(1) != errorType {
		return perRequest{}, fmt.Errorf("%v must return one value, or a value and an error", t)
	}
	in, out := make([]reflect.Type, t.NumIn()-1), make([]reflect.Type, t.NumOut())
	for i := range in {
		in[i] = t.In(i + 1)
	}
	for i := range out {
		out[i] = t.Out(i)
	}
	return perRequest{fn: fn, typ: reflect.FuncOf(in, out, t.IsVariadic()), many: t.IsVariadic()}, nil
}

// isIdentifier reports whether html/template can call a function of that name.
func isIdentifier(name string) bool {
	for i, r := range name {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r)) {
			return false
		}
	}
	return name != ""
}

// bound returns the functions for whatever request b names when they are called.
func (g *group) bound(b *binding) template.FuncMap {
	funcs := make(template.FuncMap, len(g.funcs))
	for name, f := range g.funcs {
		funcs[name] = reflect.MakeFunc(f.typ, func(args []reflect.Value) []reflect.Value {
			if g.vary == nil && b.scope != nil {
				b.scope.Unstorable() // by a Fetch or CachePage around the Set
			}
			args = append([]reflect.Value{reflect.ValueOf(&b.ctx).Elem()}, args...)
			if f.many {
				return f.fn.CallSlice(args)
			}
			return f.fn.Call(args)
		}).Interface()
	}
	return funcs
}
