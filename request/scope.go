package request

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// Scope is what one request knows: its memo of the tokens it has read, and through package txscope
// how new its data is and what its transactions have changed. Make one with Kit.Open. Safe for
// concurrent use within its request.
type Scope struct {
	kit    *Kit
	tx     *txscope.Scope
	number uint64 // of the scope in its Kit
	keys   atomic.Uint64

	exceeded atomic.Bool // more was asked for than Config.MaxIdentifiers

	fills    *fills // of the request, which may have scopes of several Kits
	ownFills fills  // where fills points to in the first of them
	counters counters

	mu         sync.Mutex
	memo       memo          // fenced ones too: a page asks once
	loading    int           // identifiers that are being read for the memo
	tagged     *tagged       // by NotModified
	generation atomic.Uint64 // how often the memo had to forget; written under mu
	epoch      atomic.Uint64 // of the token store, to which the memo belongs; written under mu
	began      uint64        // the generation with which that epoch began
}

// ErrNoScope is returned where a context must carry a scope and does not: open one with the
// middleware or with Kit.Open. It is txscope's, under a name that is at hand beside FromContext.
var ErrNoScope = txscope.ErrNoScope

// ErrNoArguments is returned for a key of nothing.
var ErrNoArguments = errors.New("alkey: a key needs at least one argument")

// Kit returns the Kit that opened the scope.
func (s *Scope) Kit() *Kit { return s.kit }

// Key returns the key for args: models, model types, tokens.ID, identifiers as text, slices of
// models, and any other value that has a stable text. Tokens that the scope has not read yet are
// read with one round trip for all.
//
// The Key that comes with an error is one-shot. The error wraps tokens.ErrUnstable, tokens.ErrModel,
// tokens.ErrMalformed or ErrNoArguments for arguments that make no key; tokens.ErrClosed; or ctx's
// error if it ended before the tokens were read. A token store that is down is no error: the key
// says so, and so it does where the request has asked for more than Config.MaxIdentifiers.
func (s *Scope) Key(ctx context.Context, args ...any) (Key, error) {
	k := Key{number: s.keys.Add(1)}
	k.scope = s
	var few [4]tokens.Segment
	segments, err := appendSegments(few[:0], args)
	if err != nil {
		k.first = Unstable
		s.asked(&k.version, Unstable)
		return k, err
	}
	err = s.resolve(ctx, &k.version, segments)
	s.asked(&k.version, k.first)
	var text [128]byte
	k.text = string(k.appendText(text[:0], segments))
	return k, err
}

// Prefetch reads the tokens of all args with one round trip, so that keys for them cost none. It is
// for pages that know their models before they render. Errors are as for Key; a token store that is
// down is none. Inside a fill it is asking as any other: the value depends on args.
func (s *Scope) Prefetch(ctx context.Context, args ...any) error {
	// A page prefetches at every request: the lists are used again.
	l, ok := s.kit.lists.Get().(*lists)
	if !ok {
		l = new(lists)
	}
	defer func() {
		clear(l.segments)
		clear(l.ids)
		s.kit.lists.Put(l)
	}()
	var err error
	if l.segments, err = tokens.AppendSegments(l.segments[:0], args...); err != nil {
		return err
	}
	l.ids = appendIdentifiers(l.ids[:0], l.segments)
	_, _, err = s.load(ctx, l.ids)
	if s.fills.any() {
		var reason Reason
		if err != nil {
			reason = StoreDown
		}
		s.fills.note(s, l.ids, reason)
	}
	if errors.Is(err, tokens.ErrDown) {
		return nil
	}
	return err
}

// lists is memory for one Prefetch after another.
type lists struct {
	segments []tokens.Segment
	ids      []tokens.ID
}

func appendSegments(dst []tokens.Segment, args []any) ([]tokens.Segment, error) {
	if len(args) == 0 {
		return dst, ErrNoArguments
	}
	segments, err := tokens.AppendSegments(dst, args...)
	if err == nil && len(segments) == 1 && segments[0] == (tokens.Segment{}) {
		segments[0].Text = emptyText
	}
	return segments, err
}

// emptyText is the key of one empty text. Stores need not take a key of no bytes, and here it means
// that there is none. Lists write it for their empty elements, where it stands inside brackets; no
// other key is equal to it.
const emptyText = "%~"

func appendIdentifiers(ids []tokens.ID, segments []tokens.Segment) []tokens.ID {
	for i := range segments {
		if id := segments[i].ID; !id.IsZero() {
			ids = append(ids, id)
		}
	}
	return ids
}

// appendText appends the key's text. The dependencies stand in the order of the segments.
func (v *version) appendText(b []byte, segments []tokens.Segment) []byte {
	next := 0
	for i := range segments {
		if i > 0 {
			b = append(b, '/')
		}
		id := segments[i].ID
		if id.IsZero() {
			b = append(b, segments[i].Text...)
			continue
		}
		if next < v.count {
			b = v.dependency(next).stamp.AppendTo(b)
			next++
		} else {
			b = append(b, '0') // not read: the key is one-shot
		}
		b = append(b, '/')
		b = id.AppendTo(b)
	}
	return b
}

// resolve sets v, which is new, to what the segments depend on, and judges it for the first time.
// The error is one that a caller must see; v then says StoreDown.
func (s *Scope) resolve(ctx context.Context, v *version, segments []tokens.Segment) error {
	v.scope, v.usable = s, true
	if !s.recall(v, segments) {
		v.clear()
		ids := appendIdentifiers(make([]tokens.ID, 0, len(segments)), segments)
		read, generation, err := s.load(ctx, ids)
		if err != nil {
			v.first, v.usable = StoreDown, false
			if errors.Is(err, tokens.ErrDown) {
				return nil
			}
			return err
		}
		v.generation = generation
		if n := len(ids) - len(v.inline); n > 0 {
			v.more = make([]dependency, 0, n)
		}
		for i, id := range ids {
			v.add(id, read[i])
		}
	}
	v.settle()
	return nil
}

// recall sets v from the memo. It is false if something is not there.
func (s *Scope) recall(v *version, segments []tokens.Segment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renew()
	v.generation = s.generation.Load()
	for i := range segments {
		id := segments[i].ID
		if id.IsZero() {
			continue
		}
		t, ok := s.memo.get(id)
		if !ok {
			return false
		}
		v.add(id, t)
	}
	return true
}

// maxLoads bounds how often a read is repeated because the memo had to forget something meanwhile.
const maxLoads = 3

// load returns the token of every id: from the memo, or else with one round trip for all that are
// not in it, as far as there is room for them: what is beyond is unread. A read during which the memo had
// to forget something does not enter it, and is repeated. The generation is the memo's from before the
// read that is returned.
func (s *Scope) load(ctx context.Context, ids []tokens.ID) (all []tokens.Token, generation uint64, err error) {
	for range maxLoads {
		missing := ids
		var at []int // where they stand in ids; nil: they are all of ids
		s.mu.Lock()
		s.renew()
		generation = s.generation.Load()
		first := s.memo.empty()
		for i, id := range ids {
			if first {
				break
			}
			t, ok := s.memo.get(id)
			if ok && at == nil {
				missing, at = append([]tokens.ID(nil), ids[:i]...), places(i, len(ids))
				all = make([]tokens.Token, len(ids))
			}
			switch {
			case ok:
				all[i] = t
			case at != nil:
				missing, at = append(missing, id), append(at, i)
			}
		}
		asked := len(missing)
		var reserved int
		missing, at, all, reserved = s.bounded(missing, at, all)
		s.mu.Unlock()
		if len(missing) < asked && !s.exceeded.Swap(true) {
			s.complain(ctx, errTooMany)
		}
		if len(missing) == 0 {
			break
		}
		from := time.Now()
		read, err := s.kit.tokens.Read(ctx, missing)
		since(&s.counters.tokens, from)
		if err != nil {
			s.giveBack(reserved)
			return nil, generation, err
		}
		if at == nil {
			all = read
		}
		for i, j := range at {
			all[j] = read[i]
		}
		if s.remember(generation, missing, at, all, reserved) {
			break
		}
	}
	return all, generation, nil
}

// places returns 0, 1, ... n-1, with room for all.
func places(n, all int) []int {
	at := make([]int, n, all)
	for i := range at {
		at[i] = i
	}
	return at
}

// remember puts what was read into the memo: the tokens of ids, which stand in all where at says.
// It is false, and does nothing but give back what was reserved for them, if the memo had to forget
// something since generation.
func (s *Scope) remember(generation uint64, ids []tokens.ID, at []int, all []tokens.Token, reserved int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loading -= reserved
	s.renew()
	if s.generation.Load() != generation {
		return false
	}
	first := s.memo.index == nil && s.memo.empty()
	s.memo.expect(len(ids))
	for i, id := range ids {
		if at != nil {
			i = at[i]
		}
		if first {
			s.memo.put(id, all[i])
		} else if t, ok := s.memo.get(id); ok {
			// Another goroutine of the request was first. One token for the whole request is what
			// makes the parts of its page agree.
			all[i] = t
		} else {
			s.memo.put(id, all[i])
		}
	}
	return true
}

// forget drops the tokens of what the request itself has changed, and keeps reads that are under
// way out of the memo: they may have begun before the change.
func (s *Scope) forget(changes *tokens.Changes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation.Add(1)
	s.memo.forget(changes)
}

// renew empties the memo if the token store may have lost something since it was read: a token of
// before is not used any more. It needs s.mu.
func (s *Scope) renew() {
	epoch := s.kit.tokens.Epoch()
	if s.epoch.Load() == epoch {
		return
	}
	s.memo = memo{}
	s.began = s.generation.Add(1)
	s.epoch.Store(epoch)
}

// complain logs an error of arguments or values that the caller does not get to see.
func (s *Scope) complain(ctx context.Context, err error) {
	if ctx.Err() == nil {
		s.kit.complaints.about(ctx, s.kit.config.Logger, err)
	}
}

// CacheKey returns the text of the request's key for args, as in
// "hof5npxcjl/alkey:users#1/page", or a one-shot key where storing would not be safe. Arguments
// that make no key are logged, once each, and give a one-shot key. It panics if no middleware of
// alkey has seen the request.
func CacheKey(r *http.Request, args ...any) string {
	ctx := r.Context()
	s, ok := FromContext(ctx)
	if !ok {
		panic(fmt.Sprintf("alkey: CacheKey for %s %s, which has not passed the middleware: put alkey.Middleware first on the router, and pass the request that the handler got", r.Method, r.URL.Path))
	}
	k, err := s.Key(ctx, args...)
	if err != nil {
		s.complain(ctx, err)
	}
	return k.String()
}
