package txscope

import (
	"log/slog"
	"time"

	"github.com/alkey-go/alkey/tokens"
)

// Option sets up a database that Open or Wrap makes.
type Option func(*database)

// database is what all connections of one wrapped connector share.
type database struct {
	store  *tokens.Store
	lease  time.Duration
	strict bool
	logger *slog.Logger
}

// Lease sets how long a fence lasts whose transaction died: until then what it was about to change
// is read past the cache. A COMMIT must not take longer. Default 30 s.
func Lease(d time.Duration) Option { return func(db *database) { db.lease = d } }

// Strict refuses a commit that cannot be fenced because the token store is down: the transaction
// is rolled back with ErrFence. Without it the commit goes ahead, and its changes are published as
// soon as the store is back.
func Strict() Option { return func(db *database) { db.strict = true } }

// WithLogger sets where the database's warnings go. Default: slog.Default.
func WithLogger(l *slog.Logger) Option { return func(db *database) { db.logger = l } }
