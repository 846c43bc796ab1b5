// Package middleware puts a scope of package request on every HTTP request. It works with chi and
// with anything else that chains func(http.Handler) http.Handler.
//
// It goes first in the chain, before whatever may load data: data that was loaded before the scope
// opened is older than the scope knows. Beneath a router that has it already, and mounted twice, it
// does nothing more.
//
// The http.ResponseWriter is passed on as it is, but for GET and HEAD: there it is one that checks the
// header before it is written, for request.NotModified and for Config.Debug. It implements http.Flusher,
// http.Hijacker, io.ReaderFrom and http.Pusher if the server's own does, and http.ResponseController works
// with it.
//
// CachePage keeps whole responses.
//
// A handler that goes on for long, as for server-sent events or WebSockets, opens scopes of its own:
// see request.Kit.Open.
package middleware

import (
	"context"
	"log/slog"
	"net/http"
	"sync"

	"github.com/alkey-go/alkey/request"
)

// Config sets up the middleware.
type Config = request.Config

// New makes the middleware. The error wraps request.ErrConfig and names the fields that are wrong.
func New(cfg Config) (func(http.Handler) http.Handler, error) {
	kit, err := request.New(cfg)
	if err != nil {
		return nil, err
	}
	return For(kit), nil
}

// For makes the middleware of a Kit, which jobs may use as well: then they share its value store.
func For(kit *request.Kit) func(http.Handler) http.Handler {
	var first sync.Once
	debug := kit.Config().Debug
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			first.Do(func() { warn(r.Context(), kit.Config()) })
			outer := r.Context()
			ctx, scope := kit.Open(outer)
			if ctx == outer {
				next.ServeHTTP(w, r)
				return
			}
			r = r.WithContext(ctx)
			if !debug && r.Method != http.MethodGet && r.Method != http.MethodHead {
				next.ServeHTTP(w, r)
				return
			}
			t := newTap(w, scope, debug)
			returned := false
			defer func() {
				if !returned {
					t.abort()
				}
			}()
			next.ServeHTTP(newFront(&t.front, w), r)
			returned = true
			t.end()
		})
	}
}

// warn tells of a token store that nobody writes to. At the first request the application's
// databases are open, and if none was opened over a store that serves this process only, there is
// a second store somewhere, and keys never change.
func warn(ctx context.Context, cfg request.Config) {
	if cfg.Tokens.InProcess() && cfg.Tokens.Databases() == 0 {
		cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "alkey: the middleware's token store is in process and no database was opened with it: keys will not change. Give alkey.Open and alkey.Middleware the same store")
	}
}
