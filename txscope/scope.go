package txscope

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alkey-go/alkey/tokens"
)

// Scope ties the transactions of one request (or job) to its reads: how new the data is that it
// may have loaded, and what its own transactions have changed. Safe for concurrent use.
type Scope struct {
	store     *tokens.Store
	lag       time.Duration // that the watermark allowed for when the scope opened
	watermark atomic.Int64  // a tokens.Stamp
	ledger    tokens.Ledger
	own       tokens.View // of ledger
	shared    tokens.View // of the store's ledger: transactions without a scope

	mu        sync.Mutex
	open      []*transaction // oldest first
	listeners []func(*tokens.Changes)
}

// ErrNoScope is returned where a context must carry a scope and does not: open one with the
// middleware or with request.Kit.Open.
var ErrNoScope = errors.New("alkey: the context carries no scope")

// onCommitLimit bounds what OnCommit's functions may take.
const onCommitLimit = 30 * time.Second

type (
	storeKey  struct{ store *tokens.Store } // the scope of one store
	newestKey struct{}                      // the scope that was opened last
)

// scopeContext carries a scope under both keys.
type scopeContext struct {
	context.Context
	scope *Scope
}

// Value is part of context.Context.
func (c scopeContext) Value(key any) any {
	switch k := key.(type) {
	case newestKey:
		return c.scope
	case storeKey:
		if k.store == c.scope.store {
			return c.scope
		}
	}
	return c.Context.Value(key)
}

// OpenScope opens a scope for the store. Inside a scope of the same store it returns that scope:
// what was loaded since the outer one opened is no newer for being looked at from inside.
func OpenScope(ctx context.Context, store *tokens.Store) (context.Context, *Scope) {
	s, ok := scopeOf(ctx, store)
	if !ok {
		s = &Scope{store: store}
		s.own.Open(&s.ledger)
		s.shared.Open(store.Ledger())
		w := watermarkOf(store)
		s.lag = w.lag
		s.watermark.Store(int64(w.stamp))
		return scopeContext{ctx, s}, s
	}
	if s.lag < store.Lag() {
		s.watermark.Store(0) // what it has loaded may be older than it said
	}
	if newest, _ := FromContext(ctx); newest == s {
		return ctx, s
	}
	return scopeContext{ctx, s}, s
}

// FromContext returns the scope that was opened last.
func FromContext(ctx context.Context) (*Scope, bool) {
	s, ok := ctx.Value(newestKey{}).(*Scope)
	return s, ok
}

func scopeOf(ctx context.Context, store *tokens.Store) (*Scope, bool) {
	s, ok := ctx.Value(storeKey{store}).(*Scope)
	return s, ok
}

// Store returns the store that the scope was opened for.
func (s *Scope) Store() *tokens.Store { return s.store }

// Watermark returns the largest stamp that the process had seen when the scope opened, or when the
// oldest transaction began in which the scope has run a query. Data that the scope loads is at
// least as new as that. Where it may come from replicas it is what had been seen their lag before: see
// tokens.Store.Watermark.
func (s *Scope) Watermark() tokens.Stamp { return tokens.Stamp(s.watermark.Load()) }

// lower makes the scope's watermark the smaller of its own and w. One that was taken before replicas
// were spoken of, or for a shorter lag, says nothing of what was loaded.
func (s *Scope) lower(w watermark) {
	if w.lag < s.store.Lag() {
		w.stamp = 0
	}
	for {
		have := s.watermark.Load()
		if int64(w.stamp) >= have || s.watermark.CompareAndSwap(have, int64(w.stamp)) {
			return
		}
	}
}

// watermark tells how new what was loaded since it was taken is at least, from replicas that lag
// behind by no more than lag. A transaction or a statement on a replica sees what the replica had
// applied when it began, so theirs allow for the lag as the scope's does.
type watermark struct {
	stamp tokens.Stamp
	lag   time.Duration
}

func watermarkOf(store *tokens.Store) (w watermark) {
	w.stamp, w.lag = store.Watermark()
	return w
}

// Usable reports whether a stored value that depends on id may be served to this scope: no open
// transaction, of this scope or of none, has changed it.
func (s *Scope) Usable(id tokens.ID) bool {
	return !s.own.Changed(id) && !s.shared.Changed(id)
}

// Storable reports whether a value that depends on id may be stored for others by this scope: it
// cannot have seen what is not committed, or what never was. Ask again when storing.
func (s *Scope) Storable(id tokens.ID) bool {
	// What is taken back counts as lost before it stops counting as open, so this order sees it.
	return !s.own.Writing() && !s.shared.Changed(id) && !s.own.Lost(id) && !s.shared.Lost(id)
}

// OnChange calls fn with what a transaction of the scope has changed, before the call returns that
// committed it, or lost the connection in doing so. What fn knows of older tokens it must forget.
func (s *Scope) OnChange(fn func(*tokens.Changes)) {
	s.mu.Lock()
	s.listeners = append(s.listeners, fn)
	s.mu.Unlock()
}

func (s *Scope) changed(c *tokens.Changes) {
	s.mu.Lock()
	listeners := s.listeners
	s.mu.Unlock()
	for _, fn := range listeners {
		fn(c)
	}
}

func (s *Scope) enter(t *transaction) {
	s.mu.Lock()
	s.open = append(s.open, t)
	s.mu.Unlock()
}

func (s *Scope) leave(t *transaction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, have := range s.open {
		if have == t {
			s.open = append(s.open[:i:i], s.open[i+1:]...)
			return
		}
	}
}

func (s *Scope) transactions() []*transaction {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*transaction(nil), s.open...)
}

// Changed marks args as changed by hand, for what no capture can know: models, identifiers,
// tokens.Table (all rows of the table) or tokens.Global. Every transaction of the scope that is
// open and has written publishes them when it commits; with none, they are published at once. The
// error wraps ErrNoScope, tokens.ErrMalformed, tokens.ErrModel, or tokens.ErrDown: then the change
// is kept and published as soon as the store is back.
func Changed(ctx context.Context, args ...any) error {
	s, ok := FromContext(ctx)
	if !ok {
		return ErrNoScope
	}
	changes, err := tokens.ParseChanges(args...)
	if err != nil {
		return err
	}
	marked := false
	for _, t := range s.transactions() {
		if !t.writes.Dirty() {
			continue
		}
		added, err := t.add(ctx, changes)
		if err != nil {
			return err
		}
		marked = marked || added
	}
	if marked {
		return nil
	}
	_, err = s.store.Publish(ctx, "", changes)
	s.changed(changes)
	return err
}

// OnCommit calls fn after the scope's newest open transaction has committed and its changes are
// published, before Commit returns, and never if it does not commit. With no transaction open it
// calls fn at once, and so it does without a scope in ctx, where it cannot know of any. The context
// that fn gets has ctx's values, is not cancelled with it, and ends after 30 seconds. A panic of a
// function that is called after a commit is logged.
//
// database/sql still holds the transaction's connection while fn runs: fn must not use the same
// *sql.Conn, which would wait for itself for ever, nor the same database if its pool is limited to
// one connection.
func OnCommit(ctx context.Context, fn func(context.Context)) {
	if s, ok := FromContext(ctx); ok {
		open := s.transactions()
		for i := len(open) - 1; i >= 0; i-- {
			if open[i].explicit.Load() && open[i].afterwards(ctx, fn) {
				return
			}
		}
	}
	callDetached(ctx, fn)
}

func callDetached(ctx context.Context, fn func(context.Context)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), onCommitLimit)
	defer cancel()
	fn(ctx)
}
