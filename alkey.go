package alkey

import (
	"context"
	"net/http"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/alkey-go/alkey/middleware"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// Config sets up the middleware. Tokens is required; every other field has a default.
type Config = middleware.Config

// Middleware makes the middleware, which goes first on the router. As chi's own do it panics if it
// is set up wrongly; middleware.New returns the error.
func Middleware(cfg Config) func(http.Handler) http.Handler {
	m, err := middleware.New(cfg)
	if err != nil {
		panic(err)
	}
	return m
}

// Open opens a database whose writes change keys. It is an ordinary *sqlx.DB. Import the package
// under txscope that has the driver; txscope.Wrap does the same for any driver.Connector.
func Open(driverName, dsn string, store *tokens.Store, opts ...txscope.Option) (*sqlx.DB, error) {
	return txscope.Open(driverName, dsn, store, opts...)
}

// CacheKey returns the key for args, as in "hof5npxcjl/alkey:users#1/page": the tokens of all that
// args name, then the rest as text. Where storing a value would not be safe it returns a key that is
// equal to no other. It panics without the middleware. See request.CacheKey and request.Scope.Key.
func CacheKey(r *http.Request, args ...any) string { return request.CacheKey(r, args...) }

// Fetch returns the value stored for args if nothing that they name has changed since, and else
// calls fill and stores what it returns. See request.Fetch.
func Fetch[T any](r *http.Request, fill func(context.Context) (T, error), args ...any) (T, error) {
	return request.Fetch(r.Context(), fill, args...)
}

// FetchMany is Fetch for many keys: one round trip for all, and one call of fill for those that were
// not found. See request.FetchMany.
func FetchMany[K comparable, T any](r *http.Request, keys []K, args func(K) []any, fill func(ctx context.Context, missing []K) (map[K]T, error), opts ...request.Option) (map[K]T, error) {
	return request.FetchMany(r.Context(), keys, args, fill, opts...)
}

// NotModified sends 304 Not Modified if the client has the response already, and reports whether it
// did: then the handler returns. Call it before anything is loaded. See request.NotModified.
func NotModified(w http.ResponseWriter, r *http.Request, args ...any) bool {
	return request.NotModified(w, r, args...)
}

// CachePage makes a middleware that keeps whole responses, under what key returns for the request. What
// differs between users must be in that. See middleware.CachePage.
func CachePage(key func(r *http.Request) []any, opts ...middleware.PageOption) func(http.Handler) http.Handler {
	return middleware.CachePage(key, opts...)
}

// TTL is an argument of Fetch: the value is kept for d at most.
func TTL(d time.Duration) request.Option { return request.TTL(d) }

// Lease is an argument of Fetch: processes take turns in making the value, and the others wait for d at
// most. See request.Config.
func Lease(d time.Duration) request.Option { return request.Lease(d) }
