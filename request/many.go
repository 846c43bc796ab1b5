package request

import (
	"context"
	"fmt"
	"reflect"
)

// FetchMany is Fetch for many keys at once: one round trip for all tokens and values, and one call of
// fill for all keys that were not found. The arguments of a key's value are what args returns for it;
// Options can stand among them, and opts are for all. Keys that are given twice count once.
//
//	names, err := request.FetchMany(ctx, ids,
//		func(id int) []any { return []any{tokens.Row("users", id), "name"} },
//		func(ctx context.Context, missing []int) (map[int]string, error) { return loadNames(ctx, missing) })
//
// The result has the values that were found and those that fill has returned. What fill does not
// return of missing does not exist: it is stored that there is none, and the result has no such key. (Fetch
// with the same arguments makes the value then.) What fill asks for while it runs counts for all values that
// it makes. All else is as for Fetch, but that there are no leases; after an error there is no result.
func FetchMany[K comparable, T any](ctx context.Context, keys []K, args func(K) []any, fill func(ctx context.Context, missing []K) (map[K]T, error), opts ...Option) (map[K]T, error) {
	s, ok := FromContext(ctx)
	if !ok {
		return nil, fmt.Errorf("%w: FetchMany needs the middleware, or Kit.Open in a job", ErrNoScope)
	}
	values := make(map[K]T, len(keys))
	seen := make(map[K]struct{}, len(keys))
	products := make([]*product, 0, len(keys))
	entries := make([]*entry, 0, len(keys))
	keyOf := make(map[*product]K, len(keys))
	made := make(map[K]T) // by this call's own fills
	for _, key := range keys {
		if _, again := seen[key]; again || key != key {
			continue // a key that is not equal to itself has no value
		}
		seen[key] = struct{}{}
		list := args(key)
		for _, o := range opts {
			list = append(list[:len(list):len(list)], o)
		}
		e := new(entry)
		p := &product{entry: e}
		list, e.settings = s.kit.withoutOptions(list)
		e.lease = 0
		e.mark = s.kit.mark(reflect.TypeFor[T](), &e.settings)
		var err error
		if p.segments, err = s.parse(e, nil, list); err != nil {
			s.complain(ctx, err)
		} else {
			e.ids = appendIdentifiers(nil, p.segments)
		}
		p.encode = func() ([]byte, byte, error) {
			v, ok := made[key]
			if !ok {
				return nil, absent, nil
			}
			payload, err := encode(e.codec, &v)
			return payload, present, err
		}
		p.decode = func(payload []byte, kind byte) error {
			if kind == absent {
				return nil
			}
			v, err := decode[T](e.codec, payload)
			if err == nil {
				values[key] = v
			}
			return err
		}
		keyOf[p] = key
		products, entries = append(products, p), append(entries, e)
	}
	if err := s.lookup(ctx, entries); err != nil {
		s.complain(ctx, err)
	}
	missing := products[:0]
	for _, p := range products {
		if p.found && p.accept(ctx) {
			s.hit(ctx, p.entry, p.segments)
			continue
		}
		s.asked(&p.version, p.first)
		s.describe(p.entry, p.segments)
		missing = append(missing, p)
	}
	err := s.obtainAll(ctx, missing, func(ctx context.Context, some []*product) error {
		list := make([]K, len(some))
		for i, p := range some {
			list[i] = keyOf[p]
		}
		got, err := fill(ctx, list)
		if err != nil {
			return err
		}
		for _, key := range list {
			if v, ok := got[key]; ok {
				made[key] = v
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for key, v := range made {
		values[key] = v
	}
	return values, nil
}

// obtainAll is obtain for many: those that nobody makes are made first, then others are waited for.
func (s *Scope) obtainAll(ctx context.Context, products []*product, fill func(context.Context, []*product) error) error {
	t := s.fills.flights
	in, waiter := s.enclosing(ctx)
	if err := in.cycle(identities(products)); err != nil {
		for _, p := range products {
			s.report(ctx, p, err)
		}
		return err
	}
	var waits []*product // that have boarded and not been awaited
	defer func() {
		for _, p := range waits {
			t.disembark(p.flight, waiter)
		}
	}()
	for wait := true; len(products) > 0; wait = false {
		r := &runner{parent: waiter, waiting: 1}
		var own, twins, rejected []*product
		for _, p := range products {
			switch leads := s.board(ctx, in, p, r, waiter, wait); {
			case p.flight == nil || leads:
				own = append(own, p)
			case p.flight.runner == r:
				// Two keys have the same arguments. This call counts once among those that wait.
				t.disembark(p.flight, waiter)
				twins = append(twins, p)
			default:
				waits = append(waits, p)
			}
		}
		if len(own) > 0 {
			left, err := s.run(ctx, in, r, own, func(ctx context.Context) error { return fill(ctx, own) })
			for _, p := range own {
				p.left = left
				s.report(ctx, p, err)
			}
			if err != nil {
				return err
			}
		}
		// take takes the result of a flight.
		take := func(p *product) error {
			taken, err := s.shared(ctx, p, &p.flight.landing)
			if !taken {
				rejected = append(rejected, p)
				return nil
			}
			s.report(ctx, p, err)
			return err
		}
		for _, p := range twins {
			if err := take(p); err != nil {
				return err
			}
		}
		for len(waits) > 0 {
			p := waits[0]
			waits = waits[1:]
			if err := t.await(ctx, p.flight, waiter); err != nil {
				s.report(ctx, p, err)
				return err
			}
			if err := take(p); err != nil {
				return err
			}
		}
		products = rejected
	}
	return nil
}
