package request

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/alkey-go/alkey/tokens"
)

// FetchEvent is how one value was come by.
type FetchEvent struct {
	// Key is the text of the key, tokens included, that a hit was found or a value stored under, and
	// a one-shot key for a value that may not be stored. (Inside the value store the tokens are not
	// part of the key: they stand in the value, so that a new version replaces the old.)
	Key    string
	Hit    bool   // the value was found
	Shared bool   // the value was made for another request, or by another process, at the same time
	Stored bool   // the value was made and stored
	Reason Reason // why a value that was made may not be stored; zero if it may, and for a hit
	Err    error  // of fill, or of the context that ended first

	// Dependencies is how many identifiers the value depends on, as far as is known: those of its
	// arguments and, for a hit and for a value that was stored, those that fill has asked for.
	Dependencies int
	Took         time.Duration // by fill
}

// Fetch returns the value that is stored for args if there is one that is up to date, and else
// calls fill and stores what it returns. A value is up to date as long as nothing that args name
// has changed, nothing that was asked for while it was made (with Fetch, Key, Prefetch and the like, by
// whatever context of the request), and the application is the same build. Options stand among args.
//
// A []byte or string is stored as it is, any other T as Config.Codec writes it, JSON by default. What is
// found is what that makes of what was stored: unexported fields are lost. A value that was stored by
// the same args for another type, that cannot be decoded, or that the store fails to return is not
// there. "Not found" is a value like any other: a nil pointer, say.
//
// What fill returns goes to the caller, with its error. It is stored only if there is no error, the
// context has not ended, and the key was storable before fill and is still, with all that the value
// depends on. Arguments that make no key do not fail the request: they are logged, once each, and
// nothing is stored. Without a scope in ctx the error wraps ErrNoScope, and fill is not called.
//
// Requests of one process that ask for one value at the same time share one fill, if they may store
// it. Who has waited for another's fill judges the result as he would a stored value, and else fills
// himself. The error of a fill is shared on the same terms, a panic and runtime.Goexit always. Who
// waits stops when ctx ends, with ctx's error. The fill goes on for the others: it runs on a goroutine
// of its own, with a context that has ctx's values and ends when nobody waits any more. So in that
// case alone fill can still run after Fetch has returned. Before the last of them returns it has ended.
//
// As with every wait, do not hold meanwhile what others need to go on: the last connection of a pool,
// by rows that are open, say.
//
// A fill that asks for its own value, itself or through others, gets an error that wraps ErrCycle. If it
// starts goroutines they must fetch with the context that the fill was given.
func Fetch[T any](ctx context.Context, fill func(context.Context) (T, error), args ...any) (T, error) {
	s, ok := FromContext(ctx)
	if !ok {
		var none T
		return none, fmt.Errorf("%w: Fetch needs the middleware, or Kit.Open in a job", ErrNoScope)
	}
	var e entry
	args, e.settings = s.kit.withoutOptions(args)
	e.mark = s.kit.mark(reflect.TypeFor[T](), &e.settings)
	var room [4]tokens.Segment
	segments, err := s.parse(&e, room[:0], args)
	if err == nil && e.here() && e.kind == present {
		if v, err := decodeHere[T](e.codec, e.payload); err == nil {
			s.hit(ctx, &e, segments)
			return v, nil
		}
	}
	return fetchFurther(ctx, s, e, segments, err, fill)
}

// fetchFurther is Fetch where more is to be done than to look into this process. It is apart because
// what it needs is moved to the heap.
func fetchFurther[T any](ctx context.Context, s *Scope, e entry, segments []tokens.Segment, err error, fill func(context.Context) (T, error)) (T, error) {
	var none, made, given T
	p := &product{entry: &e}
	p.encode = func() ([]byte, byte, error) {
		payload, err := encode(e.codec, &made)
		return payload, present, err
	}
	p.decode = func(payload []byte, kind byte) (err error) {
		if kind == absent {
			return errAbsent
		}
		given, err = decode[T](e.codec, payload)
		return err
	}
	e.found = false
	if err == nil {
		e.ids = appendIdentifiers(nil, segments)
		err = s.lookup(ctx, []*entry{&e})
	}
	if err != nil {
		s.complain(ctx, err)
	}
	if e.found && p.accept(ctx) {
		s.hit(ctx, &e, segments)
		return given, nil
	}
	s.asked(&e.version, e.first)
	s.describe(&e, segments)
	own, err := s.obtain(ctx, p, func(ctx context.Context) (err error) {
		made, err = fill(ctx)
		return err
	})
	s.report(ctx, p, err)
	switch {
	case own:
		return made, err
	case err != nil:
		return none, err
	default:
		return given, nil
	}
}

// hit counts a hit and tells of it.
func (s *Scope) hit(ctx context.Context, e *entry, segments []tokens.Segment) {
	s.counters.hits.Add(1)
	s.asked(&e.version, e.reason)
	if fn := s.kit.config.OnFetch; fn != nil {
		s.describe(e, segments)
		fn(ctx, FetchEvent{Key: e.text, Hit: true, Dependencies: e.count})
	}
}

// describe makes the text of the key for those who want to know.
func (s *Scope) describe(e *entry, segments []tokens.Segment) {
	if s.kit.config.OnFetch != nil {
		var text [128]byte
		e.text = string(e.appendText(text[:0], segments))
	}
}

// report tells OnFetch of a value that was not found. It makes a one-shot key for one that cannot be
// stored.
func (s *Scope) report(ctx context.Context, p *product, err error) {
	fn := s.kit.config.OnFetch
	if fn == nil {
		return
	}
	if p.left {
		fn(ctx, FetchEvent{Key: p.text, Err: err})
		return
	}
	event := p.event
	event.Key, event.Err = p.text, err
	if event.Dependencies == 0 {
		event.Dependencies = p.count
	}
	if event.Reason != 0 {
		k := Key{version: p.version, text: p.text, number: s.keys.Add(1)}
		event.Key = k.oneShot()
	}
	fn(ctx, event)
}
