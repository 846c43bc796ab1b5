package request

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"

	"github.com/alkey-go/alkey/tokens"
)

// FetchEvent is how one Fetch came out.
type FetchEvent struct {
	// Key is the text of the key, tokens included, that a hit was found or a value stored under, and
	// a one-shot key for a value that may not be stored. (Inside the value store the tokens are not
	// part of the key: they stand in the value, so that a new version replaces the old.)
	Key    string
	Hit    bool   // the value was found
	Stored bool   // the value was made and stored
	Reason Reason // why a value that was made may not be stored; zero if it may, and for a hit
	Err    error  // of fill
}

// Fetch returns the value that is stored for args if there is one that is up to date, and else
// calls fill and stores what it returns. A value is up to date as long as nothing that args name
// has changed and the application is the same build.
//
// A []byte or string is stored as it is, any other T as encoding/json writes it. What is found is
// what JSON makes of what was stored: unexported fields are lost. A value that was stored by the
// same args for another type, that cannot be decoded, or that the store fails to return is not
// there.
//
// What fill returns goes to the caller, with its error. It is stored only if there is no error, ctx
// has not ended, and the key was storable before fill and is still. Arguments that make no key do
// not fail the request: they are logged, once each, and nothing is stored. If fill panics, so does
// Fetch. Without a scope in ctx the error wraps ErrNoScope, and fill is not called.
func Fetch[T any](ctx context.Context, fill func(context.Context) (T, error), args ...any) (T, error) {
	s, ok := FromContext(ctx)
	if !ok {
		var none T
		return none, fmt.Errorf("%w: Fetch needs the middleware, or Kit.Open in a job", ErrNoScope)
	}
	var e entry
	if err := s.enter(ctx, &e, args); err != nil {
		s.complain(ctx, err)
	}
	e.mark = s.kit.mark(reflect.TypeFor[T]())
	if e.usable {
		if payload, ok := e.find(ctx); ok {
			v, err := decode[T](payload)
			if err == nil {
				e.report(ctx, FetchEvent{Hit: true})
				return v, nil
			}
			s.complain(ctx, err)
		}
	}
	v, err := fill(ctx)
	event := FetchEvent{Err: err}
	if _, event.Reason = e.judge(); err == nil && event.Reason == 0 && ctx.Err() == nil {
		if value, err := encode(&e, v); err != nil {
			s.complain(ctx, err)
		} else {
			event.Stored = e.store(ctx, value)
		}
	}
	e.report(ctx, event)
	return v, err
}

// entry is one value in the value store, as one Fetch looks for it.
type entry struct {
	version
	key  string // the arguments without their tokens; "" if they make no key
	text string // with their tokens; "" if nobody asks
	mark *[markSize]byte
}

// enter sets e to the entry for args.
func (s *Scope) enter(ctx context.Context, e *entry, args []any) error {
	e.scope = s
	var few [4]tokens.Segment
	segments, err := appendSegments(few[:0], args)
	if err != nil {
		e.first = Unstable
		return err
	}
	var text [128]byte
	e.key = stableKey(appendStable(text[:0], segments))
	err = s.resolve(ctx, &e.version, segments)
	if s.kit.config.OnFetch != nil {
		e.text = string(e.appendText(text[:0], segments))
	}
	return err
}

// maxKey is how long a key of the value store can be. A longer one is replaced by its digest.
const maxKey = 512

// digestPrefix begins what no other key can begin with, for the reason given at oneShotPrefix.
const digestPrefix = "%sha256-"

// stableKey makes the key of the value store from the arguments without their tokens.
func stableKey(text []byte) string {
	if len(text) > maxKey {
		sum := sha256.Sum256(text)
		return digestPrefix + hex.EncodeToString(sum[:])
	}
	return string(text)
}

// appendStable appends the arguments without their tokens.
func appendStable(b []byte, segments []tokens.Segment) []byte {
	for i := range segments {
		if i > 0 {
			b = append(b, '/')
		}
		if id := segments[i].ID; id.IsZero() {
			b = append(b, segments[i].Text...)
		} else {
			b = id.AppendTo(b)
		}
	}
	return b
}

// find returns the payload of a hit.
func (e *entry) find(ctx context.Context) ([]byte, bool) {
	k := e.scope.kit
	var value []byte
	if k.local != nil {
		value, _ = k.local.Lookup(e.key)
	}
	if value == nil {
		values, err := k.values.Get(ctx, []string{e.key})
		k.reading.report(ctx, k.config.Logger, "get", err)
		if err != nil || len(values) != 1 {
			return nil, false
		}
		value = values[0]
	}
	payload, ok := open(value, e.mark, e.stamp)
	if !ok {
		return nil, false
	}
	// A transaction of this request may have written since the tokens were read.
	usable, _ := e.judge()
	return payload, usable
}

// store reports whether the value store took the value.
func (e *entry) store(ctx context.Context, value []byte) bool {
	k := e.scope.kit
	err := k.values.Set(ctx, e.key, value, k.config.ValueTTL)
	k.writing.report(ctx, k.config.Logger, "set", err)
	return err == nil
}

// report tells OnFetch. It makes a one-shot key for a value that cannot be stored.
func (e *entry) report(ctx context.Context, event FetchEvent) {
	fn := e.scope.kit.config.OnFetch
	if fn == nil {
		return
	}
	event.Key = e.text
	if event.Reason != 0 {
		k := Key{version: e.version, text: e.text, number: e.scope.keys.Add(1)}
		event.Key = k.oneShot()
	}
	fn(ctx, event)
}
