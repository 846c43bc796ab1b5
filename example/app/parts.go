package main

import (
	"context"
	"html/template"
	"net/http"
	"strings"

	"github.com/alkey-go/alkey/request"
)

// part is a piece of a page that the cache keeps: a value that was loaded, or rendered HTML. The
// page shows beside it what the cache tells: the key, and whether this request found the part.
type part[T any] struct {
	Value T
	Cache request.FetchEvent
}

// fetch gets a part from the cache, or has load make it. Nothing is ever invalidated: when a row or
// table that args name changes, so does the key. The one rule is that what load uses was read in
// this request. (alkey.Fetch(r, load, args...) does the same for a program that does not ask what
// became of it.)
func fetch[T any](r *http.Request, load func(context.Context) (T, error), args ...any) (part[T], error) {
	var p part[T]
	var err error
	ctx := noting(r.Context(), func(e request.FetchEvent) { p.Cache = e })
	p.Value, err = request.Fetch(ctx, load, args...)
	return p, err
}

// part is fetch for HTML: the template of that name, executed with what load returns. The name is
// the last part of the key.
func (a *app) part(r *http.Request, name string, load func(context.Context) (any, error), args ...any) (part[template.HTML], error) {
	return fetch(r, func(ctx context.Context) (template.HTML, error) {
		data, err := load(ctx)
		if err != nil {
			return "", err
		}
		var html strings.Builder
		err = a.templates.ExecuteContext(&html, ctx, name, data)
		return template.HTML(html.String()), err // html/template has escaped it
	}, append(args, name)...)
}

type noteKey struct{}

// noting returns a context in which note gets what became of each fetch and each fragment.
func noting(ctx context.Context, note func(request.FetchEvent)) context.Context {
	return context.WithValue(ctx, noteKey{}, note)
}

// onFetch is called by the cache for every fetch and every fragment. An application without such
// curious pages needs nothing of the kind.
func onFetch(ctx context.Context, e request.FetchEvent) {
	if note, ok := ctx.Value(noteKey{}).(func(request.FetchEvent)); ok {
		note(e)
	}
}
