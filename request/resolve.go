package request

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/alkey-go/alkey/tokens"
)

// Part is one of many values that Resolve finds or makes together, such as a fragment of a page. It
// belongs to one call of Resolve. It is large: allocate many at once.
type Part struct {
	// Kind is what the part has in common with others. Without one the key is of Args alone.
	Kind *Kind
	// Args are the arguments of the part's key, after the name of its Kind. Options can stand among them.
	// Leases do not apply. They are not looked at again once the part is prepared.
	Args []any
	// Uncached parts are made each time. What is around one depends on its Args all the same, and is not
	// stored if these make no key.
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

	prepared bool
	entry    entry            // its key is "" for what is not cached
	segments []tokens.Segment // of the arguments
	*product                  // nil for what is not cached, and for what was found
	parent   *Part            // that it is a piece of
	same     *Part            // which has been asked for before
	frame    *frame           // of the fill
	pieces   []Piece          // that Fill returned
	done     bool
	err      error

	// Where most segments and identifiers find room.
	segmentRoom [3]tokens.Segment
	idRoom      [2]tokens.ID
}

// Kind is what many parts have in common: the fragments that one template makes of data of one type, say.
// Make one with NewKind and use it for all of them, in all requests. Safe for concurrent use.
type Kind struct {
	head  tokens.Segment
	extra string
	typ   reflect.Type
	marks atomic.Pointer[kindMark] // the newest
}

// kindMark is a mark of one Kit.
type kindMark struct {
	kit  *Kit
	mark *mark
}

// NewKind makes a Kind. The name is text that begins the keys of its parts. Extra is what else they depend on
// and what does not change while the program runs, such as a digest of a template, and typ the type of
// what they are made of, nil for none. A value that was stored with others is a miss.
func NewKind(name, extra string, typ reflect.Type) *Kind {
	if typ == nil {
		typ = reflect.TypeFor[Part]()
	}
	// Text has no errors.
	head, _ := tokens.AppendSegments(nil, tokens.Text(name))
	return &Kind{head: head[0], extra: extra, typ: typ}
}

// markIn returns the mark of the parts' values in one Kit. A program has one, or few.
func (k *Kind) markIn(kit *Kit) *mark {
	if m := k.marks.Load(); m != nil && m.kit == kit {
		return m.mark
	}
	m := &kindMark{kit, kit.markOf(marked{k.typ, reflect.TypeFor[Part](), k.extra})}
	k.marks.Store(m)
	return m.mark
}

// Piece is a text or, if there is one, a part.
type Piece struct {
	Text []byte
	Part *Part
}

// Resolve sets the values of parts and of all parts inside them. It looks for all parts of one level at
// once, with one round trip for their tokens and values, and fills those that were not found one after
// the other. The parts that these are made of are the next level. Two parts of the same Kind and
// arguments are one.
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
	r := resolver{ctx: ctx, scope: s, flights: s.fills.flights}
	r.in, r.runner.parent = s.enclosing(ctx)
	r.runner.waiting = 1
	if r.room, ok = s.kit.rooms.Get().(*room); !ok {
		r.room = &room{known: make(map[*knownKey]*Part, len(parts))}
	}
	var crashed *crash
	var err error
	guarded(func() {
		err = r.resolve(ctx, parts)
		r.store(ctx)
	}, func(c *crash) {
		crashed = c
		r.close(c)
	})
	crashed.again()
	r.room.reset()
	s.kit.rooms.Put(r.room)
	return err
}

// room is memory for one call of Resolve after another.
type room struct {
	known   map[*knownKey]*Part // what was asked for
	fresh   []*Part             // of a level
	entries []*entry            // of a level
	reading reading
}

// reset empties the room. What it keeps is bounded.
func (m *room) reset() {
	if len(m.known) > maxRoom {
		m.known = make(map[*knownKey]*Part)
	}
	clear(m.known)
	m.fresh, m.entries = emptied(m.fresh), emptied(m.entries)
}

// maxRoom is how long the lists are, at most, that are kept for another page.
const maxRoom = 1024

// emptied returns a list to append to, without what is in it: the same, if it is not too long to be kept.
func emptied[T any](list []T) []T {
	if cap(list) > maxRoom {
		return nil
	}
	clear(list[:cap(list)])
	return list[:0]
}

// Prepare makes the key of a part that s is to resolve. Resolve does that itself, but logs what
// Prepare returns: why the arguments make no key, as Scope.Key says it. Such a part is made each time. A part
// whose Args have changed is prepared again.
func (s *Scope) Prepare(p *Part) (err error) {
	e := &p.entry
	if p.prepared {
		*e = entry{} // of other arguments
	}
	p.prepared = true
	e.scope = s
	var args []any
	args, e.settings = s.kit.withoutOptions(p.Args)
	p.segments = p.segmentRoom[:0]
	if p.Uncached {
		if len(args) > 0 {
			if p.segments, err = appendSegments(p.segments, args); err != nil {
				e.first = Unstable
			}
		}
		e.ids = appendIdentifiers(p.idRoom[:0], p.segments)
		return nil
	}
	if p.Kind == nil {
		e.mark = s.kit.markOf(marked{reflect.TypeFor[Part](), reflect.TypeFor[Part](), ""})
	} else {
		e.mark = p.Kind.markIn(s.kit)
		p.segments = append(p.segments, p.Kind.head)
	}
	if len(args) > 0 || p.Kind == nil {
		p.segments, err = appendSegments(p.segments, args)
	}
	if err != nil {
		e.first = Unstable
		return err
	}
	s.locate(e, p.segments)
	e.ids = appendIdentifiers(p.idRoom[:0], p.segments)
	return nil
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

	room    *room
	made    []*Part // by Fill, outer ones first
	waits   []*Part // for flights of others
	delayed delayed
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
		r.store(ctx)
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
	fresh, entries := slices.Grow(r.room.fresh[:0], len(parts)), slices.Grow(r.room.entries[:0], len(parts))
	r.room.fresh, r.room.entries = fresh, entries
	for _, p := range parts {
		again, err := r.enter(ctx, p)
		if err != nil {
			return nil, err
		}
		if again {
			continue
		}
		fresh = append(fresh, p)
		if p.cached() {
			entries = append(entries, &p.entry)
		} else if s.fills.any() {
			s.fills.note(s, p.entry.ids, p.entry.first)
		}
	}
	err := s.lookupWith(ctx, &r.room.reading, entries)
	r.room.reading.reset()
	if err != nil {
		s.complain(ctx, err)
	}
	missing := fresh[:0]
	for _, p := range fresh {
		if p.cached() {
			if p.entry.found {
				s.hit(ctx, &p.entry, p.segments)
				p.Value, p.Hit, p.done = p.entry.payload, true, true
				continue
			}
			s.asked(&p.entry.version, p.entry.first)
			s.describe(&p.entry, p.segments)
			p.product = &product{entry: &p.entry}
		}
		missing = append(missing, p)
	}
	return r.fill(ctx, missing, wait)
}

// cached reports whether the part is one that can be found.
func (p *Part) cached() bool { return p.entry.key != "" }

// enter prepares a part. It is true for one that was met before.
func (r *resolver) enter(ctx context.Context, p *Part) (again bool, err error) {
	s := r.scope
	if !p.prepared {
		if err := s.Prepare(p); err != nil {
			s.complain(ctx, err)
		}
	}
	if !p.cached() {
		return false, nil
	}
	e := &p.entry
	if p.parent != nil {
		err = p.parent.frame.cycle([]identity{e.identity})
	} else if r.in != nil {
		err = r.in.cycle([]identity{e.identity})
	}
	if err != nil {
		return false, err
	}
	// A key that was forgotten meanwhile is known by another address: then the part is found twice.
	have := r.room.known[e.known]
	if have == nil || have.entry.mark != e.mark {
		r.room.known[e.known] = p
		return false, nil
	}
	p.same = have
	r.made = append(r.made, p)
	return true, nil
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
		p.frame.values = []identity{p.entry.identity}
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
	s.prepare(ctx, p.product, ids, reason, nil, ctx.Err() != nil)
	if p.store {
		r.delay(ctx, p.product)
		return
	}
	if p.flight != nil {
		r.flights.land(p.flight, landing{value: p.made})
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
	e := &p.entry
	if !p.cached() {
		to.note(s, e.ids, e.first)
		return
	}
	_, reason := e.judge()
	to.note(s, nil, reason)
	for i := range e.count {
		to.add(e.dependency(i).id)
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
			r.flights.drop(f)
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
