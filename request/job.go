package request

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/tokens"
)

// product is one value that somebody asks for and that was not found.
type product struct {
	*entry
	flight *flight // nil: it is not shared

	// encode makes the payload of what the fill has made. It is called if the value may be stored.
	encode func() (payload []byte, kind byte, err error)
	// decode takes what somebody else has made.
	decode func(payload []byte, kind byte) error

	segments []tokens.Segment // of the arguments, where the entry does not live in one call

	made  []byte // as it is stored, if others may have it
	store bool   // made is to be stored

	event FetchEvent
	left  bool // the fill goes on without its caller, and with the rest of this
}

// errAbsent is what decode returns if it is given that there is no value, and wants one.
var errAbsent = errors.New("alkey: there is no value")

// accept takes a value that was found or made elsewhere. It is false if it cannot be decoded.
func (p *product) accept(ctx context.Context) bool {
	if err := p.decode(p.payload, p.kind); err != nil {
		if err != errAbsent {
			p.scope.complain(ctx, err)
		}
		p.reject()
	}
	return p.found
}

// maxBoardings is how often one waits for fills that fail because somebody else gives up.
const maxBoardings = 3

// obtain makes a value, or waits for somebody who makes it. If own is true fill has made it or has
// failed, and else p.decode was given it, or it was not to be had.
func (s *Scope) obtain(ctx context.Context, p *product, fill func(context.Context) error) (own bool, err error) {
	t := s.fills.flights
	in, waiter := s.enclosing(ctx)
	products := []*product{p}
	if err := in.cycle(identities(products)); err != nil {
		return false, err
	}
	for try := 1; ; try++ {
		r := &runner{parent: waiter, waiting: 1}
		leads := s.board(ctx, in, p, r, waiter, try <= maxBoardings)
		if leads && s.landed(ctx, p, try) {
			if p.accept(ctx) {
				s.sharing(p)
				return false, nil
			}
			p.flight = nil
		}
		if p.flight == nil || leads {
			left, err := s.run(ctx, in, r, products, fill)
			if left {
				p.left = true
				return false, err
			}
			if p.found && err == nil {
				if p.accept(ctx) {
					s.sharing(p)
					return false, nil
				}
				p.settings.lease = 0
				try = maxBoardings
				continue
			}
			return true, err
		}
		if err := t.await(ctx, p.flight, waiter); err != nil {
			return false, err
		}
		landed := p.flight.landing
		taken, err := s.shared(ctx, p, &landed)
		if taken {
			return false, err
		}
		if !landed.orphaned {
			try = maxBoardings
		}
	}
}

// landed looks once more for a value that p is to make: its flight may have ended since it was looked
// for. It does so where that costs nothing, and after somebody else was waited for.
func (s *Scope) landed(ctx context.Context, p *product, try int) (found bool) {
	var failed *crash
	guarded(func() {
		var raw []byte
		if k := s.kit; k.local != nil {
			raw, _ = k.local.Lookup(p.key)
		}
		if raw == nil && try > 1 {
			if values := s.values(ctx, []string{p.key}, s.kit.values.Get); len(values) == 1 {
				raw = values[0]
			}
		}
		found = p.take(ctx, raw)
	}, func(c *crash) {
		if failed = c; c != nil || found {
			s.fills.flights.land(p.flight, landing{value: p.raw, crash: c})
		}
	})
	failed.again()
	return found
}

// board finds p a flight: one that r leads, one to wait for, or none.
func (s *Scope) board(ctx context.Context, in *frame, p *product, r, waiter *runner, wait bool) (leads bool) {
	p.flight = nil
	if _, reason := p.judge(); reason != 0 || ctx.Err() != nil || s.kit.faults.noFlights {
		return false
	}
	var others []*runner
	if in == nil && s.fills.any() {
		// A goroutine beside the fills of its request, or one that a fill has started.
		others = s.fills.runners()
	}
	p.flight, leads = s.fills.flights.board(flightKey{p.identity, p.stamp}, r, waiter, others, wait)
	return leads
}

// shared takes the result of a flight, if it is this request's too.
func (s *Scope) shared(ctx context.Context, p *product, l *landing) (taken bool, err error) {
	l.crash.again()
	if !p.take(ctx, l.value) {
		if !s.kit.faults.noJudgement || !p.sound {
			return false, nil
		}
		p.found, p.payload, p.kind = true, p.opened.payload, p.opened.kind
	}
	if l.err == nil && !p.accept(ctx) {
		return false, nil
	}
	s.sharing(p)
	return true, l.err
}

// sharing notes that p is what somebody else has made. Who asked for it depends on all that it names, as
// with every hit: until now only what its arguments name was known.
func (s *Scope) sharing(p *product) {
	p.event.Shared = true
	s.counters.shared.Add(1)
	if s.fills.any() && !s.kit.faults.noSharing {
		_, reason := p.judge()
		s.fills.noteVersion(&p.version, reason)
	}
}

// identities lists what the products are known by.
func identities(products []*product) []identity {
	ids := make([]identity, len(products))
	for i, p := range products {
		ids[i] = p.identity
	}
	return ids
}

// job is one fill that runs on a goroutine of its own, because who asked for it may stop waiting while
// others go on.
type job struct {
	scope    *Scope
	frame    *frame
	runner   *runner
	products []*product
	fill     func(context.Context) error
	asker    context.Context // of the caller

	err   error
	crash *crash
	done  chan struct{}
}

// run runs a fill and waits for it. Fills that are shared go on without the caller if ctx ends while
// others wait: then left is true, and nothing that the fill has made may be touched.
func (s *Scope) run(ctx context.Context, in *frame, r *runner, products []*product, fill func(context.Context) error) (left bool, err error) {
	t := s.fills.flights
	j := &job{scope: s, runner: r, products: products, fill: fill, asker: ctx, done: make(chan struct{})}
	j.frame = &frame{scope: s, runner: r, parent: in, values: identities(products)}
	shared := slices.ContainsFunc(products, func(p *product) bool { return p.flight != nil })
	inner := ctx
	if shared {
		// The fill belongs to all that wait for it.
		var stop context.CancelFunc
		inner, stop = context.WithCancel(context.WithoutCancel(ctx))
		t.mu.Lock()
		r.stop = stop
		t.mu.Unlock()
	}
	t.begin(r)
	go j.main(context.WithValue(inner, frameKey{}, j.frame))
	if shared {
		select {
		case <-j.done:
		case <-ctx.Done():
			if t.desert(r) {
				t.end(r)
				return true, ctx.Err()
			}
			<-j.done
		}
		t.mu.Lock()
		t.leave(r)
		t.mu.Unlock()
	} else {
		<-j.done
	}
	t.end(r)
	j.crash.again()
	return false, j.err
}

// main is the goroutine.
func (j *job) main(ctx context.Context) {
	s, t := j.scope, j.scope.fills.flights
	landings := make([]landing, len(j.products))
	guarded(func() {
		j.frame.goroutine = goroutineID()
		t.start(j.runner, j.frame.goroutine)
		if j.err = s.fills.begin(j.frame); j.err != nil {
			return
		}
		if p := j.products[0]; len(j.products) == 1 && p.flight != nil && p.lease > 0 && s.kit.leaser != nil {
			release, raw := s.turn(ctx, p.entry)
			if raw != nil {
				s.fills.end(j.frame)
				landings[0].value = raw
				return
			}
			defer release()
		}
		from := time.Now()
		j.err = j.fill(ctx)
		took := time.Since(from)
		s.counters.fills.Add(int64(took))
		ids, reason := s.fills.end(j.frame)
		ended := ctx.Err() != nil || j.asker.Err() != nil && t.abandoned(j.runner)
		for _, p := range j.products {
			p.event.Took = took
			s.prepare(ctx, p, ids, reason, j.err, ended)
		}
		s.store(ctx, j.products)
		for i, p := range j.products {
			landings[i].err, landings[i].value = j.err, p.made
		}
	}, func(c *crash) {
		if c != nil {
			s.fills.end(j.frame)
		}
		t.finish(j.runner)
		j.frame.ended.Store(true)
		j.crash = c
		heard := false
		for i, p := range j.products {
			if p.flight != nil {
				landings[i].crash = c
				heard = t.land(p.flight, landings[i]) || heard
			}
		}
		if c != nil && c.panicked != nil && !heard {
			// Who asked for it has left, and so have the others.
			s.kit.config.Logger.ErrorContext(ctx, "alkey: a fill panicked when nobody waited for it any more", "panic", c.panicked)
		}
		close(j.done)
	})
}

// finish stores what a fill has made if that is safe. It returns the value as it is stored if others may
// have it, and for a fill that failed what tells them whether the error is theirs too. If ended is true
// nobody wants it.
func (s *Scope) finish(ctx context.Context, p *product, ids []tokens.ID, why Reason, failed error, ended bool) []byte {
	s.prepare(ctx, p, ids, why, failed, ended)
	s.store(ctx, []*product{p})
	return p.made
}

// prepare is finish without the storing: it sets made and store.
func (s *Scope) prepare(ctx context.Context, p *product, ids []tokens.ID, why Reason, failed error, ended bool) {
	e := p.entry
	s.counters.misses.Add(1)
	p.event.Err = failed
	p.made, p.store = nil, false
	reason, extras := s.complete(ctx, e, ids, why)
	p.event.Reason = reason
	p.event.Dependencies = e.count
	if reason != 0 || ended {
		return
	}
	if failed != nil {
		if p.flight != nil {
			p.made = sealed(e.mark, e.stamp, present, extras, nil)
		}
		return
	}
	payload, kind, err := p.encode()
	if err != nil {
		s.complain(ctx, err)
		return
	}
	value := sealed(e.mark, e.stamp, kind, extras, payload)
	if _, p.event.Reason = s.again(e); p.event.Reason != 0 {
		return
	}
	s.kit.known.set(e.key, extras)
	p.made, p.store = value, true
}

// store stores what was prepared, with one round trip for all. Whether a value may be stored is judged
// once more, for each by itself: since it was made the request may have written.
func (s *Scope) store(ctx context.Context, products []*product) {
	items := make([]cache.Item, 0, len(products))
	stored := make([]*product, 0, len(products))
	for _, p := range products {
		if !p.store {
			continue
		}
		p.store = false
		if _, p.event.Reason = s.again(p.entry); p.event.Reason != 0 {
			p.made = nil
			continue
		}
		items = append(items, cache.Item{Key: p.key, Value: p.made, TTL: p.ttl})
		stored = append(stored, p)
	}
	if len(items) == 0 || ctx.Err() != nil {
		return
	}
	k := s.kit
	var err error
	if len(items) == 1 {
		err = k.values.Set(ctx, items[0].Key, items[0].Value, items[0].TTL)
	} else {
		err = cache.SetMany(ctx, k.values, items)
	}
	k.writing.report(ctx, k.config.Logger, "set", err)
	if err != nil {
		return
	}
	for _, p := range stored {
		p.event.Stored = true
	}
	s.counters.stored.Add(int32(len(stored)))
}

// complete adds to an entry what its value was found to depend on, and tells why the value may not be
// stored. The extras are what the arguments do not name.
func (s *Scope) complete(ctx context.Context, e *entry, ids []tokens.ID, why Reason) (reason Reason, extras []tokens.ID) {
	if _, reason = s.again(e); reason != 0 {
		return reason, nil
	}
	if s.kit.faults.noRecord {
		return 0, nil
	}
	if why != 0 {
		return why, nil
	}
	for _, id := range ids {
		if !e.names(id) {
			extras = append(extras, id)
		}
	}
	if len(extras) == 0 {
		return 0, nil
	}
	if e.count+len(extras) > s.kit.config.MaxIdentifiers {
		return TooMany, nil
	}
	read, _, err := s.load(ctx, extras)
	if err != nil {
		return StoreDown, nil
	}
	for i, id := range extras {
		e.add(id, read[i])
	}
	_, reason = s.again(e)
	return reason, extras
}

// again judges an entry that was judged when it was asked for.
func (s *Scope) again(e *entry) (usable bool, reason Reason) {
	if s.kit.faults.noRecheck {
		return e.usable, e.first
	}
	return e.judge()
}

// names reports whether an identifier is among the dependencies.
func (v *version) names(id tokens.ID) bool {
	for i := range v.count {
		if v.dependency(i).id == id {
			return true
		}
	}
	return false
}
