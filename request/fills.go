package request

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/alkey-go/alkey/tokens"
)

// fills are the fills that are open in one request. What is asked through the request meanwhile,
// through any of its scopes, by any goroutine and with whatever context, is what their values depend
// on.
type fills struct {
	// A request uses the flights of one Kit, that of its first scope: requests that waited for each
	// other in two places could do so without an end.
	flights *flights

	count atomic.Int32
	mu    sync.Mutex
	open  []*frame // oldest first
}

// ErrCycle is returned by fetching a value whose own fill asks for it, directly or by way of others.
var ErrCycle = errors.New("alkey: a value is asked for by its own fill")

// maxOpenFills is how many fills of one request can be open. A fill that asks for itself on a goroutine
// that it has started, and not with its own context, is not found out before.
const maxOpenFills = 10_000

// frame is one fill that is open, and records what its values depend on.
type frame struct {
	scope     *Scope
	runner    *runner
	parent    *frame     // the fill that asked for it
	values    []identity // that it makes
	goroutine uint64
	ended     atomic.Bool // nobody waits for it any more

	// All of these need fills.mu.
	ids    []tokens.ID
	index  map[tokens.ID]struct{} // of ids, once there are more than a few
	reason Reason                 // why the values must not be stored
}

// identity is what one value is known by.
type identity struct {
	key  string
	mark *mark
}

type frameKey struct{} // of the context that a fill gets

func (f *fills) any() bool { return f.count.Load() > 0 }

// enclosing returns the fill of the request that ctx or the goroutine belongs to, nil for none, and what
// runs it. That may be there alone: a fill that serves another request on its goroutine.
func (s *Scope) enclosing(ctx context.Context) (*frame, *runner) {
	f := s.fills
	byContext, _ := ctx.Value(frameKey{}).(*frame)
	if byContext != nil && byContext.ended.Load() {
		byContext = nil
	}
	if f.flights.idle() {
		return byContext, byContext.by()
	}
	goroutine := goroutineID()
	if here := f.innermost(goroutine); here != nil && !byContext.within(here) {
		return here, here.runner
	}
	if byContext != nil {
		return byContext, byContext.runner
	}
	return nil, f.flights.on(goroutine)
}

// innermost returns the newest fill that the goroutine runs.
func (f *fills) innermost(goroutine uint64) *frame {
	if goroutine == 0 || !f.any() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.open) - 1; i >= 0; i-- {
		if f.open[i].goroutine == goroutine {
			return f.open[i]
		}
	}
	return nil
}

// by returns what runs the fill.
func (f *frame) by() *runner {
	if f == nil {
		return nil
	}
	return f.runner
}

// within reports whether f is o or was asked for by it.
func (f *frame) within(o *frame) bool {
	for ; f != nil; f = f.parent {
		if f == o {
			return true
		}
	}
	return false
}

// cycle returns an error if one of the values is being made by f, or by a fill that waits for f.
func (f *frame) cycle(values []identity) error {
	for at := f; at != nil; at = at.parent {
		if at.ended.Load() {
			continue
		}
		for _, v := range values {
			for _, have := range at.values {
				if have == v && v.key != "" {
					return fmt.Errorf("%w: %s", ErrCycle, f.path(at, v))
				}
			}
		}
	}
	return nil
}

// path tells the way from a fill to itself.
func (f *frame) path(from *frame, v identity) string {
	text := quoted(v.key)
	for at := f; at != from; at = at.parent {
		if len(at.values) > 0 {
			text = quoted(at.values[0].key) + " asks for " + text
		}
	}
	return quoted(v.key) + " asks for " + text
}

// quoted is a key as error messages have it.
func quoted(key string) string {
	const most = 100
	if len(key) > most {
		key = strings.ToValidUTF8(key[:most], "") + "..."
	}
	return fmt.Sprintf("%q", key)
}

// begin opens a frame. It fails if there are too many.
func (f *fills) begin(fr *frame) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.open) >= maxOpenFills {
		return fmt.Errorf("%w: %d fills of one request are open", ErrCycle, len(f.open))
	}
	f.open = append(f.open, fr)
	f.count.Add(1)
	return nil
}

// end closes a frame and returns what it has recorded. What is asked from now on is not in its values.
func (f *fills) end(fr *frame) (ids []tokens.ID, reason Reason) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, have := range f.open {
		if have == fr {
			f.open = append(f.open[:i:i], f.open[i+1:]...)
			f.count.Add(-1)
			break
		}
	}
	return fr.ids, fr.reason
}

// runners returns what runs the open fills.
func (f *fills) runners() []*runner {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]*runner, len(f.open))
	for i, fr := range f.open {
		all[i] = fr.runner
	}
	return all
}

// note records for all open fills what was asked for through s, and why that was not storable.
func (f *fills) note(s *Scope, ids []tokens.ID, reason Reason) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fr := range f.open {
		fr.note(s, ids, reason)
	}
}

// noteVersion is note for what a version depends on.
func (f *fills) noteVersion(v *version, reason Reason) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fr := range f.open {
		fr.note(v.scope, nil, reason)
		for i := range v.count {
			fr.add(v.dependency(i).id)
		}
	}
}

// note needs fills.mu.
func (f *frame) note(s *Scope, ids []tokens.ID, reason Reason) {
	if s.kit.tokens != f.scope.kit.tokens {
		// Its tokens say nothing in the other store.
		reason = Unstable
	}
	if reason != 0 && (f.reason == 0 || reason < f.reason) {
		f.reason = reason
	}
	for _, id := range ids {
		f.add(id)
	}
}

// add needs fills.mu.
func (f *frame) add(id tokens.ID) {
	if f.index == nil {
		for _, have := range f.ids {
			if have == id {
				return
			}
		}
		if len(f.ids) < few {
			f.ids = append(f.ids, id)
			return
		}
		f.index = make(map[tokens.ID]struct{}, 4*few)
		for _, have := range f.ids {
			f.index[have] = struct{}{}
		}
	}
	if _, ok := f.index[id]; ok {
		return
	}
	if len(f.ids) >= f.scope.kit.config.MaxIdentifiers {
		if f.reason == 0 {
			f.reason = TooMany
		}
		return
	}
	f.index[id] = struct{}{}
	f.ids = append(f.ids, id)
}

// Unstorable keeps what is being made through this request from being stored: the values of all fills that
// are open, pages included. Call it where something goes into them that is for this request alone, such as
// a CSRF token.
func (s *Scope) Unstorable() {
	if s.fills.any() {
		s.fills.note(s, nil, Unstable)
	}
}

// asked notes that a key was asked for, and why it is not storable.
func (s *Scope) asked(v *version, reason Reason) {
	s.counters.asked(reason)
	if s.fills.any() {
		s.fills.noteVersion(v, reason)
	}
}
