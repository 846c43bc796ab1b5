package txscope

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
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

	touch        TouchRules
	maxSchemaAge time.Duration
	limits       tokens.ChangeLimits // complete

	renewals *renewals
	stats    stats

	warned    sync.Map     // messages that were logged
	slowAt    atomic.Int64 // when slow has logged last, in nanoseconds since 1970
	scopeless atomic.Bool  // a request without a scope was logged
}

// ErrOption is returned by Open and Wrap for an option that makes no sense.
var ErrOption = errors.New("alkey: invalid option")

// The default lease and the shortest one. A fence is renewed every quarter of a short lease, and
// COMMIT is sent in the first half: less than a second leaves too little for a slow round trip.
const (
	defaultLease = 30 * time.Second
	minLease     = time.Second

	defaultSchemaAge = time.Minute
	minSchemaAge     = time.Second
)

// The default limits of what is told apart in one transaction.
const (
	defaultMaxRows   = 10_000
	defaultMaxTables = 1000
)

// Lease sets how long a fence lasts whose transaction died: until then what it was about to change
// is read past the cache. A COMMIT during which the process is paused must not take longer. At
// least 1 s; default 30 s.
func Lease(d time.Duration) Option { return func(db *database) { db.lease = d } }

// Strict refuses a commit that cannot be fenced because the token store is down: the transaction
// is rolled back with ErrFence. Without it the commit goes ahead, and its changes are published as
// soon as the store is back.
func Strict() Option { return func(db *database) { db.strict = true } }

// MaxSchemaAge sets how long what is known of the schema is used before the database is asked whether
// it still holds: until then a trigger, a foreign key or a primary key that another program has made
// or changed may not be reckoned with. What is changed through the wrapped database counts at once,
// and SQLite tells by itself. At least 1 s; default 1 minute.
func MaxSchemaAge(d time.Duration) Option { return func(db *database) { db.maxSchemaAge = d } }

// MaxRowsPerTable sets how many rows of one table are told apart in one transaction: with one more the
// keys of all rows of the table change. (Of what a single statement changes more than 1,000 rows are
// not told apart in any case.) At least 1; default 1,000.
func MaxRowsPerTable(n int) Option { return func(db *database) { db.limits.RowsPerTable = n } }

// MaxRows sets how many rows of all tables together are told apart in one transaction: with one more
// the keys of all rows of these tables change. It bounds the memory that a transaction takes and how
// much its fence makes the token store do. At least 1; default 10,000.
func MaxRows(n int) Option { return func(db *database) { db.limits.Rows = n } }

// MaxTables sets how many tables are told apart in one transaction: with one more all keys change. At
// least 1; default 1,000.
func MaxTables(n int) Option { return func(db *database) { db.limits.Tables = n } }

// WithLogger sets where the database's warnings go. Default, and for nil: slog.Default.
func WithLogger(l *slog.Logger) Option { return func(db *database) { db.logger = l } }

func newDatabase(store *tokens.Store, opts []Option) (*database, error) {
	if store == nil {
		return nil, fmt.Errorf("%w: the token store is nil; make one with tokens.FromEnv, tokens.NewRedis or tokens.NewMemory", ErrOption)
	}
	if store.Closed() {
		return nil, fmt.Errorf("%w: the token store is closed: no change could be published", ErrOption)
	}
	db := &database{store: store, lease: defaultLease, maxSchemaAge: defaultSchemaAge}
	db.limits = tokens.ChangeLimits{RowsPerTable: tokens.MaxRowsPerTable, Rows: defaultMaxRows, Tables: defaultMaxTables}
	for _, o := range opts {
		if o != nil {
			o(db)
		}
	}
	if db.lease < minLease {
		return nil, fmt.Errorf("%w: Lease(%s): at least %s", ErrOption, db.lease, minLease)
	}
	if db.maxSchemaAge < minSchemaAge {
		return nil, fmt.Errorf("%w: MaxSchemaAge(%s): at least %s", ErrOption, db.maxSchemaAge, minSchemaAge)
	}
	for _, limit := range []struct {
		option string
		n      int
	}{{"MaxRowsPerTable", db.limits.RowsPerTable}, {"MaxRows", db.limits.Rows}, {"MaxTables", db.limits.Tables}} {
		if limit.n < 1 {
			return nil, fmt.Errorf("%w: %s(%d): at least 1", ErrOption, limit.option, limit.n)
		}
	}
	db.renewals = newRenewals(db.lease)
	if db.logger == nil {
		db.logger = slog.Default()
	}
	return db, nil
}

// warn counts a problem of the capture, and logs its message once.
func (db *database) warn(message string, err error) {
	db.stats.problem(message)
	if _, again := db.warned.LoadOrStore(message, struct{}{}); again {
		return
	}
	db.logger.Warn("alkey: "+message, "error", err)
}

// slowEvery is how often it is logged that fences are confirmed too late.
const slowEvery = time.Minute

// slow counts a commit that goes ahead although its fence was confirmed too late, and logs that from time
// to time: like an outage of the store it comes and goes.
func (db *database) slow() {
	db.stats.problem(slowFence)
	now, last := time.Now().UnixNano(), db.slowAt.Load()
	if last != 0 && now-last < int64(slowEvery) || !db.slowAt.CompareAndSwap(last, now) {
		return
	}
	db.logger.Warn("alkey: "+slowFence+". A commit goes ahead that other processes may not know of until it is published; txscope.Strict refuses such commits", "lease", db.lease)
}

// lost logs, once, that the store was closed before it could be told of a commit. After any other
// error the store sees to it later.
func (db *database) lost(err error) {
	if errors.Is(err, tokens.ErrClosed) {
		db.warn("a commit was not published because the token store was closed: other processes may serve what it made stale; close databases before their store", err)
	}
}

// watch logs, once, a query on behalf of an HTTP request that has no scope of the store: its
// transactions are not tied to what it reads.
func (db *database) watch(ctx context.Context) {
	if db.scopeless.Load() {
		return
	}
	// The scope first: it is found sooner than what lies at the root of the context.
	if _, ok := scopeOf(ctx, db.store); ok || ctx.Value(http.ServerContextKey) == nil || db.scopeless.Swap(true) {
		return
	}
	db.logger.Warn("alkey: a query of an HTTP request without a scope of this token store: put the middleware first in the chain, and give it and the database the same store")
}
