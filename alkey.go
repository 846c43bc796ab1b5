package alkey

import (
	"context"
	"net/http"

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
