package request

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/alkey-go/alkey/tokens"
)

// Part is one of many values that Resolve finds or makes together, such as a fragment of a page. It
// belongs to one call of Resolve.
type Part struct {
	// Args are the arguments of the part's key; Options can stand among them. Leases do not apply.
	Args []any
	// Extra is what else the part depends on and what does not change while the program runs, such as a
	// digest of its template. A value that was stored with another is a miss.
	Extra string
	// Uncached parts are made each time.
	Uncached bool
	// Fill makes the part of texts and of other parts, in order. It runs on the caller's goroutine. What
	// it asks for with its context, or through the request meanwhile, is what the part depends on, and so
	// are the parts that it returns.
	Fill func(ctx context.Context) ([]Piece, error)

	// Value is what the part came out as, when Resolve has returned without an error. It must not be
	// modified: others may have the same bytes.
	Value []byte
	// Hit says that it was found.
	Hit bool

	*product         // nil for what is not cached
	parent   *Part   // that it is a piece of
	same     *Part   // which has been asked for before
	frame    *frame  // of the fill
	pieces   []Piece // that Fill returned
	done     bool
	err      error
}

// Piece is a text or, if there is one, a part.
type Piece struct {
	Text []byte
	Part *Part
}

// Resolve sets the values of parts and of all parts inside them. It looks for all parts of one level at
// once, with one round trip for their tokens and values, and fills those that were not found one after
// the other. The parts that these are made of are the next level. Two parts of the same arguments and
// the same Extra are one.
//
// The first error of a Fill is returned, and nothing is stored of the parts that it is in. Flights are
// shared with other requests as Fetch does, but a Fill runs with ctx and not for longer than the caller
// waits. A part that is inside itself is an error that wraps ErrCycle. Arguments that make no key are
// logged, and the part is made each time. The error wraps ErrNoScope if ctx carries no scope.
func Resolve(ctx context.Context, parts ...*Part) error {
	s, ok := FromContext(ctx)
	if !ok {
		return ErrNoScope
	}
	r := resolver{ctx: ctx, scope: s, flights: s.fills.flights, known: make(map[identity]*Part, len(parts))}
	r.in, r.runner.parent = s.enclosing(ctx)
	r.runner.waiting = 1
	var crashed *crash
	var err error
	guarded(func() { err = r.resolve(ctx, parts) }, func(c *crash) {
		crashed = c
		r.close(c)
	})
	crashed.again()
	return err
}

// resolver is one call of Resolve.
type resolver struct {
	scope   *Scope
	ctx     context.Context // of Resolve
	flights *flights
	in      *frame // that Resolve was called in
	runner  runner
	running bool
	current *Part // whose Fill runs

	known map[identity]*Part
	made  []*Part // by Fill, outer ones first
	waits []*Part // for flights of others
}

func (r *resolver) resolve(ctx context.Context, parts []*Part) error {
	wait := true
	for {
		for len(parts) > 0 {
			var err error
			if parts, err = r.level(ctx, parts, wait); err != nil {
				return err
			}
		}
		settled := r.settle(ctx)
		if len(r.waits) == 0 {
			if !settled {
				return fmt.Errorf("%w: parts of a page are inside each other", ErrCycle)
			}
			return nil
		}
		// The parts of others come last: meanwhile they are made.
		rejected, err := r.await(ctx)
		if err != nil {
			return err
		}
		wait = false
		if parts, err = r.fill(ctx, rejected, wait); err != nil {
			return err
		}
	}
}

// level finds the parts, or fills them, and returns those that they are made of.
func (r *resolver) level(ctx context.Context, parts []*Part, wait bool) ([]*Part, error) {
	s := r.scope
	room := newRoom(len(parts))
	fresh, entries := make([]*Part, 0, len(parts)), make([]*entry, 0, len(parts))
	for _, p := range parts {
		again, err := r.enter(ctx, p, room)
		if err != nil {
			return nil, err
		}
		if again {
			continue
		}
		fresh = append(fresh, p)
		if p.product != nil {
			entries = append(entries, p.entry)
		}
	}
	if err := s.lookup(ctx, entries); err != nil {
		s.complain(ctx, err)
	}
	missing := fresh[:0]
	for _, p := range fresh {
		if p.product != nil {
			if p.found {
				s.hit(ctx, p.entry, p.segments)
				p.Value, p.Hit, p.done = p.payload, true, true
				continue
			}
			s.asked(&p.version, p.first)
			s.describe(p.entry, p.segments)
		}
		missing = append(missing, p)
	}
	return r.fill(ctx, missing, wait)
}

// room is memory for the parts of one level: a page has many.
type room struct {
	entries  []entry
	products []product
	segments []tokens.Segment
	ids      []tokens.ID
}

func newRoom(n int) *room {
	return &room{make([]entry, n), make([]product, n), make([]tokens.Segment, 0, 3*n), make([]tokens.ID, 0, n)}
}

// enter prepares a part. It is true for one that was met before.
func (r *resolver) enter(ctx context.Context, p *Part, room *room) (again bool, err error) {
	if p.Uncached {
		return false, nil
	}
	s := r.scope
	e := &room.entries[0]
	p.product = &room.products[0]
	p.entry = e
	room.entries, room.products = room.entries[1:], room.products[1:]
	var args []any
	args, e.settings = s.kit.withoutOptions(p.Args)
	e.mark = s.kit.markOf(marked{value: reflect.TypeFor[Part](), codec: reflect.TypeFor[JSON](), extra: p.Extra})
	if p.segments, err = s.parse(e, room.segments, args); err != nil {
		s.complain(ctx, err)
		return false, nil
	}
	e.ids = appendIdentifiers(room.ids, p.segments)
	room.segments, room.ids = p.segments[len(p.segments):], e.ids[len(e.ids):]
	if have := r.known[p.identity]; have != nil {
		for at := p.parent; at != nil; at = at.parent {
			if at == have {
				return false, p.parent.frame.cycle([]identity{p.identity})
			}
		}
		p.same = have
		r.made = append(r.made, p)
		return true, nil
	}
	r.known[p.identity] = p
	if r.in == nil {
		return false, nil
	}
	return false, r.in.cycle([]identity{p.identity})
}

// fill fills parts that were not found, except those that others make, and returns the parts that they
// are made of.
func (r *resolver) fill(ctx context.Context, parts []*Part, wait bool) (inner []*Part, err error) {
	if len(parts) > 0 && !r.running {
		r.running = true
		r.flights.begin(&r.runner)
		r.flights.start(&r.runner, goroutineID())
	}
	var own []*Part
	for _, p := range parts {
		if p.product != nil {
			p.encode = func() ([]byte, byte, error) { return p.Value, present, nil }
			p.decode = func(payload []byte, _ byte) error {
				p.Value = payload
				return nil
			}
			if leads := r.scope.board(ctx, r.in, p.product, &r.runner, &r.runner, wait); p.flight != nil && !leads {
				r.waits = append(r.waits, p)
				continue
			}
		}
		own = append(own, p)
	}
	for _, p := range own {
		r.made = append(r.made, p)
		r.current = p
		if err := r.run(ctx, p); err != nil {
			return nil, err
		}
		r.current = nil
		leaf := true
		for _, piece := range p.pieces {
			if piece.Part != nil {
				piece.Part.parent = p
				inner, leaf = append(inner, piece.Part), false
			}
		}
		if leaf {
			r.finish(ctx, p)
		}
	}
	return inner, nil
}

// run calls a part's Fill.
func (r *resolver) run(ctx context.Context, p *Part) (err error) {
	s := r.scope
	p.frame = &frame{scope: s, runner: &r.runner, parent: r.in, goroutine: r.runner.goroutine}
	if p.parent != nil {
		p.frame.parent = p.parent.frame
	}
	if p.product != nil {
		p.frame.values = []identity{p.identity}
	}
	if err := s.fills.begin(p.frame); err != nil {
		return err
	}
	from := time.Now()
	defer func() {
		took := time.Since(from)
		s.counters.fills.Add(int64(took))
		if s.fills.end(p.frame); p.product != nil {
			p.event.Took = took
		}
	}()
	p.pieces, p.err = p.Fill(context.WithValue(ctx, frameKey{}, p.frame))
	return p.err
}

// settle finishes what was filled and whose pieces are there. It is false if something is left.
func (r *resolver) settle(ctx context.Context) bool {
	for {
		left, finished := 0, 0
		for i := len(r.made) - 1; i >= 0; i-- {
			switch p := r.made[i]; {
			case p.done:
			case p.ready():
				r.finish(ctx, p)
				finished++
			default:
				left++
			}
		}
		if left == 0 || finished == 0 {
			return left == 0
		}
	}
}

// ready reports whether all that a part is made of is there.
func (p *Part) ready() bool {
	if p.same != nil {
		return p.same.done
	}
	for _, piece := range p.pieces {
		if piece.Part != nil && !piece.Part.done {
			return false
		}
	}
	return true
}

// finish puts a part together from its pieces, and stores it.
func (r *resolver) finish(ctx context.Context, p *Part) {
	p.done = true
	if p.same != nil {
		p.Value, p.Hit = p.same.Value, p.same.Hit
		return
	}
	s := r.scope
	size := 0
	for _, piece := range p.pieces {
		if size += len(piece.Text); piece.Part != nil {
			size += len(piece.Part.Value)
		}
	}
	var value bytes.Buffer
	value.Grow(size)
	for _, piece := range p.pieces {
		if value.Write(piece.Text); piece.Part != nil {
			value.Write(piece.Part.Value)
		}
	}
	p.Value = value.Bytes()
	s.fills.mu.Lock()
	for _, piece := range p.pieces {
		if piece.Part != nil {
			piece.Part.handOn(s, p.frame)
		}
	}
	ids, reason := p.frame.ids, p.frame.reason
	s.fills.mu.Unlock()
	p.frame.ended.Store(true)
	if p.product == nil {
		return
	}
	var l landing
	l.value = s.finish(ctx, p.product, ids, reason, nil, ctx.Err() != nil)
	if p.flight != nil {
		r.flights.land(p.flight, l)
	}
	s.report(ctx, p.product, nil)
}

// handOn records for a fill what a part depends on. It needs fills.mu.
func (p *Part) handOn(s *Scope, to *frame) {
	if p.same != nil {
		p.same.handOn(s, to)
		return
	}
	if p.frame != nil {
		to.note(s, p.frame.ids, p.frame.reason)
	}
	if p.product != nil {
		_, reason := p.judge()
		to.note(s, nil, reason)
		for i := range p.count {
			to.add(p.dependency(i).id)
		}
	}
}

// await waits for the flights of others and returns the parts that their results do not fit.
func (r *resolver) await(ctx context.Context) (rejected []*Part, err error) {
	s := r.scope
	for len(r.waits) > 0 {
		p := r.waits[0]
		r.waits = r.waits[1:]
		if err := r.flights.await(ctx, p.flight, &r.runner); err != nil {
			s.report(ctx, p.product, err)
			return nil, err
		}
		taken, err := s.shared(ctx, p.product, &p.flight.landing)
		p.flight = nil
		if err != nil {
			s.report(ctx, p.product, err)
			return nil, err
		}
		if !taken {
			rejected = append(rejected, p)
			continue
		}
		p.done = true
		s.report(ctx, p.product, nil)
	}
	return rejected, nil
}

// close ends what is left after an error or a panic: others must not wait for it.
func (r *resolver) close(c *crash) {
	for _, p := range r.waits {
		r.flights.disembark(p.flight, &r.runner)
	}
	for _, p := range r.made {
		if p.frame != nil {
			p.frame.ended.Store(true)
		}
	}
	for _, f := range r.runner.flights {
		select {
		case <-f.done:
			continue
		default:
		}
		l := landing{orphaned: true}
		if r.current != nil && r.current.product != nil && r.current.flight == f {
			l.crash = c
		}
		r.flights.land(f, l)
	}
	if p := r.current; c == nil && p != nil && p.product != nil {
		r.scope.counters.misses.Add(1)
		r.scope.report(r.ctx, p.product, p.err)
	}
	if r.running {
		r.flights.finish(&r.runner)
		r.flights.end(&r.runner)
	}
}
