package templatefuncs

import (
	"context"
	"fmt"
	"html/template"
	"net/http"

	"github.com/alkey-go/alkey/request"
)

// ErrNoScope is request.ErrNoScope: the request did not go through the middleware.
var ErrNoScope = request.ErrNoScope

// FuncMap returns the functions for one request, which must carry a scope: it went through the
// middleware. Without a request (nil) they are there to be parsed with: calling one fails the
// template.
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
	ctx   context.Context // nil: no request
	scope *request.Scope  // nil: ctx carries none
}

func bind(ctx context.Context) binding {
	scope, _ := request.FromContext(ctx)
	return binding{ctx: ctx, scope: scope}
}

// funcs returns the functions bound to b, for whatever request b names when they are called.
func (b *binding) funcs() template.FuncMap {
	return template.FuncMap{"cacheKey": b.cacheKey}
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
