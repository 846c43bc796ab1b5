package request

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// Kit is what the scopes of all requests share: the stores, the application's version, the logger.
// An application has one, which the middleware makes, or two if jobs have their own. It need not be
// closed: its goroutines are the fills that somebody waits for. Make one with New. Safe for concurrent use.
type Kit struct {
	config Config
	tokens *tokens.Store
	values cache.Store
	local  cache.Local  // values, if it can be asked without waiting
	fresh  cache.Fresh  // values, if it has copies that can be out of date
	leaser cache.Leaser // values, if it has leases

	defaults settings
	flights  flights
	known    *known
	pages    pageNotes
	random   string // of this Kit's one-shot keys
	scopes   atomic.Uint64
	version  func() string
	marks    sync.Map     // *mark by marked
	marked   atomic.Int32 // marks by marked
	lists    sync.Pool    // *lists
	rooms    sync.Pool    // *room

	faults     faults
	complaints complaints
	reading    health
	writing    health
	leasing    health
}

// faults are rules that tests leave out, to see that they are missed. Nobody else sets any.
type faults struct {
	noGuard     bool // a request stores whatever it has loaded
	noRecheck   bool // what was storable when it was asked for is when it is stored
	noJudgement bool // who waits for a flight takes what comes
	noRecord    bool // what a fill asks for is not the value's
	noFlights   bool // every request makes its own
	noSharing   bool // what others have made depends on nothing but its arguments
}

// New makes a Kit. The error wraps ErrConfig and names the fields that are wrong.
func New(cfg Config) (*Kit, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	k := &Kit{
		config:  cfg,
		tokens:  cfg.Tokens,
		values:  cfg.Values,
		random:  rand.Text(),
		version: executableDigest,
		known:   newKnown(),
		defaults: settings{
			ttl:    cfg.ValueTTL,
			lease:  cfg.Lease,
			codec:  cfg.Codec,
			strong: cfg.StrongETag,
		},
	}
	k.tokens.ExpectLag(cfg.ReplicaLag)
	k.local, _ = cfg.Values.(cache.Local)
	k.fresh, _ = cfg.Values.(cache.Fresh)
	k.leaser, _ = cfg.Values.(cache.Leaser)
	if cfg.Version != "" {
		k.version = func() string { return cfg.Version }
	}
	return k, nil
}

// Config returns what the Kit was made from, with the defaults filled in; a default Version stays
// empty.
func (k *Kit) Config() Config { return k.config }

type (
	kitKey    struct{ kit *Kit } // the scope of one Kit
	newestKey struct{}           // the scope that was opened last
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
	case kitKey:
		if k.kit == c.scope.kit {
			return c.scope
		}
	}
	return c.Context.Value(key)
}

// Open opens a scope and returns a context that carries it. Inside a scope of the same Kit it
// returns that scope: what a request may have loaded is no newer for being looked at from inside. A
// scope of another Kit over the same token store has tokens of its own and shares the rest, the age
// of the request's data and its transactions.
//
// A scope holds every token that was asked for. It serves one request or one piece of a job's work:
// what changes after it was opened can be used in it but not stored. It need not be closed.
//
// What outlives its request, or goes on for long, opens a scope of its own for each piece of work:
// each event that it sends, each message that it handles. It has to start from a context without a
// scope: context.Background(), or one derived from it before any scope was opened. The request's
// context, and what context.WithoutCancel makes of it, carry the request's scope, which would give
// the same keys for ever.
func (k *Kit) Open(ctx context.Context) (context.Context, *Scope) {
	newest, _ := FromContext(ctx)
	if newest != nil && newest.kit == k {
		return ctx, newest
	}
	s, ok := ctx.Value(kitKey{k}).(*Scope)
	if !ok {
		s = &Scope{kit: k, number: k.scopes.Add(1)}
		if s.fills = &s.ownFills; newest != nil {
			s.fills = newest.fills
		} else {
			s.fills.flights = &k.flights
		}
	}
	ctx, tx := txscope.OpenScope(ctx, k.tokens)
	if !ok {
		s.tx = tx
		tx.OnChange(s.forget)
	}
	return scopeContext{ctx, s}, s
}

// FromContext returns the scope that was opened last.
func FromContext(ctx context.Context) (*Scope, bool) {
	s, ok := ctx.Value(newestKey{}).(*Scope)
	return s, ok
}

// mark tells which values can be decoded as t: those of the same type, written by the same codec and
// the same version of the application.
func (k *Kit) mark(t reflect.Type, s *settings) *mark {
	if s.ownCodec {
		return k.markOf(marked{t, reflect.TypeOf(s.codec), ""})
	}
	if m, ok := k.marks.Load(t); ok {
		return m.(*mark)
	}
	m, _ := k.marks.LoadOrStore(t, k.markOf(marked{t, reflect.TypeOf(s.codec), ""}))
	return m.(*mark)
}

func (k *Kit) markOf(of marked) *mark {
	if m, ok := k.marks.Load(of); ok {
		return m.(*mark)
	}
	fresh := newMark(k.version(), of)
	if k.marked.Load() >= maxMarks {
		return fresh
	}
	m, known := k.marks.LoadOrStore(of, fresh)
	if !known {
		k.marked.Add(1)
	}
	return m.(*mark)
}

// maxMarks bounds what is remembered of a Part.Extra that comes from data, as it should not: such parts
// are kept and found, and cost a digest each.
const maxMarks = 10_000

// complaints logs one error of each kind. The same page makes the same error at every request.
type complaints struct {
	mu   sync.Mutex
	said map[string]struct{} // kinds
}

// maxComplaints bounds what is remembered, and so what is logged.
const maxComplaints = 100

func (c *complaints) about(ctx context.Context, l *slog.Logger, err error) {
	kind := kindOf(err)
	c.mu.Lock()
	_, known := c.said[kind]
	n := len(c.said)
	if !known && n < maxComplaints {
		if c.said == nil {
			c.said = make(map[string]struct{})
		}
		c.said[kind] = struct{}{}
	}
	c.mu.Unlock()
	if known || n >= maxComplaints {
		return
	}
	l.ErrorContext(ctx, "alkey: not cached", "error", err)
	if n+1 == maxComplaints {
		l.WarnContext(ctx, "alkey: errors of further kinds are not logged", "logged", maxComplaints)
	}
}

// ofData is what differs between errors of one kind: quoted texts and characters, identifiers, which
// element of a list it is, and what a method panicked with.
var ofData = regexp.MustCompile(`(?s)"(?:[^"\\]|\\.)*"(?:\.\.\.)?|'(?:[^'\\]|\\.[^']*)'|alkey:[^\s"]+|element \d+|panicked: .*`)

// kindOf returns the text of an error without what comes from the data: users must not be able to
// make up new kinds until no more are logged. What is left comes from the program: the fault, the
// argument's position and its type. An error that was returned by somebody else's code stands for
// its type.
func kindOf(err error) string {
	text := err.Error()
	var causes []error
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		causes = []error{e.Unwrap()}
	case interface{ Unwrap() []error }:
		causes = e.Unwrap()
	}
	for _, cause := range causes {
		if cause == nil {
			continue
		}
		if rest, ok := strings.CutSuffix(text, cause.Error()); ok {
			text = fmt.Sprintf("%s%T", rest, cause)
			break
		}
	}
	return ofData.ReplaceAllString(text, "")
}

// health logs when something begins to fail and when it works again, and nothing between. A store that
// fails at times, and one that goes on to answer from copies while what is behind it does not, would log
// at every request: it works again when it has not failed for a while.
type health struct {
	failing atomic.Bool
	last    atomic.Int64 // when it failed, in nanoseconds since the Unix epoch
}

// calm is how long what has failed must not fail to count as working again.
const calm = 5 * time.Second

func (h *health) report(ctx context.Context, l *slog.Logger, what string, err error) {
	switch {
	case err == nil:
		if h.failing.Load() && time.Now().UnixNano()-h.last.Load() >= int64(calm) && h.failing.CompareAndSwap(true, false) {
			l.InfoContext(ctx, "alkey: the value store works again", "operation", what)
		}
	case ctx.Err() != nil:
		// The caller gave up; that says nothing about the store.
	default:
		h.last.Store(time.Now().UnixNano())
		if h.failing.CompareAndSwap(false, true) {
			l.WarnContext(ctx, "alkey: the value store fails: requests go uncached", "operation", what, "error", err)
		}
	}
}
