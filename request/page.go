package request

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alkey-go/alkey/tokens"
)

// Page is a whole response that is kept as a value is: what CachePage of package middleware is made of. It
// belongs to one call of ServePage.
type Page struct {
	// Args are the arguments of the page's key. Options can stand among them; leases do not apply.
	Args []any
	// URL tells pages of the same arguments apart. It names nothing, whatever it looks like.
	URL string
	// Header is the request's, in which variants of the page differ.
	Header http.Header
	// FindOnly looks for the page and does not make it.
	FindOnly bool
	// Alone keeps the request from waiting for others that make the page, and others from waiting for it.
	Alone bool

	// Fits reports whether a stored response may answer the request. It does not modify it.
	Fits func(response []byte) bool
	// Make makes the response, on the caller's goroutine. What it asks for with ctx, or through the request
	// meanwhile, is what the page depends on. It returns the response as it is to be stored, nil for one
	// that is not, and the names of the request headers that it was chosen by: canonical, sorted, each
	// once, and no more than MaxVary.
	Make func(ctx context.Context, fill *PageFill) (response []byte, vary []string)
}

// MaxVary is how many request headers the variants of one page can differ in.
const MaxVary = 16

// PageResult is what ServePage has done.
type PageResult int

const (
	// PagePassed: nothing was looked for or made, or what was found may not be served and what would be
	// made may not be stored. The caller serves the request as if there were no cache.
	PagePassed PageResult = iota
	// PageFound: the response was stored, or made for another request at the same time.
	PageFound
	// PageMade: Make was called.
	PageMade
)

// ServePage returns the response that is stored for a page, if there is one that is up to date and fits,
// and else has it made, and stores it. All is as for Fetch, with these differences. A page has variants: a
// stored response answers requests that have the same in the headers that it was chosen by. Make runs on
// the caller's goroutine, with ctx. Others who wait do so until it has returned, PageFill.Release was
// called, or ctx has ended, and then take the response, if it would be a hit for them and fits, or make
// their own; nothing is stored of what was made when ctx has ended. Make's panics are the caller's alone.
//
// Arguments that make no key are logged, once each. The error wraps ErrNoScope if ctx carries no scope.
func ServePage(ctx context.Context, p *Page) (response []byte, result PageResult, err error) {
	s, ok := FromContext(ctx)
	if !ok {
		return nil, PagePassed, fmt.Errorf("%w: a page needs the middleware", ErrNoScope)
	}
	var e entry
	var room [4]tokens.Segment
	segments, err := s.parsePage(&e, room[:0], p)
	if err != nil {
		s.asked(&e.version, e.first)
		s.complain(ctx, err)
		s.outcome("unstable")
		return nil, PagePassed, nil
	}
	if e.here() {
		if response, _, ok := p.open(&e); ok {
			s.hit(ctx, &e, segments)
			s.outcome("hit")
			return response, PageFound, nil
		}
	}
	response, result = s.servePage(ctx, p, e, segments)
	return response, result, nil
}

// parsePage sets e to the page's entry.
func (s *Scope) parsePage(e *entry, dst []tokens.Segment, p *Page) ([]tokens.Segment, error) {
	args := append(p.Args[:len(p.Args):len(p.Args)], tokens.Text(p.URL))
	args, e.settings = s.kit.withoutOptions(args)
	e.lease = 0
	e.mark = s.kit.mark(reflect.TypeFor[Page](), &s.kit.defaults)
	return s.parse(e, dst, args)
}

// servePage is ServePage where more is to be done than to look into this process. It is apart because what
// it needs is moved to the heap.
func (s *Scope) servePage(ctx context.Context, p *Page, find entry, segments []tokens.Segment) (response []byte, result PageResult) {
	find.ids = appendIdentifiers(nil, segments)
	found, response, err := s.findPage(ctx, p, &find)
	if err != nil {
		s.complain(ctx, err)
	}
	if found != nil {
		s.hit(ctx, found, segments)
		s.outcome("hit")
		return response, PageFound
	}
	// What was looked at may have left in find what a response of others depends on. The tokens are
	// read now, so that a new entry has them.
	base := new(entry)
	if _, err := s.parsePage(base, nil, p); err != nil || !base.read {
		base.version = find.version
	}
	base.ids = find.ids
	s.asked(&base.version, base.first)
	s.describe(base, segments)
	in, waiter := s.enclosing(ctx)
	_, reason := base.judge()
	if reason == 0 && !base.read {
		reason = OwnWrite // which has emptied the memo since
	}
	if reason == 0 && in.cycle([]identity{base.identity}) != nil {
		reason = Unstable // the page is inside itself, and the outer one is stored
	}
	switch {
	case reason != 0:
		s.outcome(reason.word())
		return nil, PagePassed
	case p.FindOnly:
		s.outcome("miss")
		return nil, PagePassed
	}
	return s.obtainPage(ctx, p, base, in, waiter)
}

// findPage looks for a page in the value store, and for the variant of it that is known to be the
// request's.
func (s *Scope) findPage(ctx context.Context, p *Page, base *entry) (found *entry, response []byte, err error) {
	asked := s.kit.pages.vary(base.key)
	entries := []*entry{base}
	if len(asked) > 0 { // ahead of what base says, to spare a round trip
		entries = append(entries, p.variant(base, asked))
	}
	if err := s.lookup(ctx, entries); err != nil {
		return nil, nil, err
	}
	for _, e := range slices.Backward(entries) {
		if !e.found {
			continue
		}
		response, vary, ok := p.open(e)
		if ok {
			return e, response, nil
		}
		if e == base && len(vary) > 0 && !slices.Equal(vary, asked) {
			s.kit.pages.learn(base.key, vary)
			v := p.variant(base, vary)
			if err := s.lookup(ctx, []*entry{v}); err != nil {
				return nil, nil, err
			}
			if v.found {
				if response, _, ok := p.open(v); ok {
					return v, response, nil
				}
			}
		}
	}
	return nil, nil, nil
}

// obtainPage makes a page, or waits for somebody who makes it.
func (s *Scope) obtainPage(ctx context.Context, p *Page, base *entry, in *frame, waiter *runner) ([]byte, PageResult) {
	t, notes := s.fills.flights, &s.kit.pages
	// take takes what was made elsewhere, if it fits.
	take := func(q *product) []byte {
		response, vary, ok := p.open(q.entry)
		if !ok {
			if len(vary) > 0 {
				notes.learn(base.key, vary)
			}
			return nil
		}
		s.sharing(q)
		s.outcome("shared")
		s.report(ctx, q, nil)
		return response
	}
	for try := 1; ; try++ {
		vary := notes.vary(base.key)
		q := &product{entry: p.variant(base, vary)}
		r := &runner{parent: waiter, waiting: 1}
		leads := false
		if !p.Alone && !notes.refused(base.key) {
			leads = s.board(ctx, in, q, r, waiter, try <= maxBoardings)
		}
		// To look once more, wherever it is stored, costs less than to make a page that was made since.
		if leads && s.landed(ctx, q, try+1) {
			if response := take(q); response != nil {
				return response, PageFound
			}
			if try <= maxBoardings && !slices.Equal(vary, notes.vary(base.key)) {
				continue // now it is known which variant to look for
			}
			q.flight, leads = nil, false
		}
		if q.flight == nil || leads {
			return nil, s.makePage(ctx, p, base, q, in, r)
		}
		if err := t.await(ctx, q.flight, waiter); err != nil {
			// The handler is to say what it says when its context has ended.
			s.outcome("gone")
			return nil, PagePassed
		}
		landed := q.flight.landing
		if q.take(ctx, landed.value) {
			if response := take(q); response != nil {
				return response, PageFound
			}
			continue // it is another variant
		}
		if !landed.orphaned {
			try = maxBoardings
		}
	}
}

// ifNoneMatchKey is of the context that Make gets: what the client has, which NotModified knows even if the
// handler gets a request that does not say so.
type ifNoneMatchKey struct{}

// PageFill is a page that is being made.
type PageFill struct {
	ctx     context.Context // of the request
	scope   *Scope
	flights *flights
	flight  *flight // nil: nobody waits
	key     string  // of the page in all its variants
	alone   bool

	mu     sync.Mutex
	landed bool
}

// Release says that the response will not be stored, and why, in one word: those who wait for it need not
// wait any longer. If lasting is true that is likely to be so the next time, and requests for the page do
// not wait for each other for some seconds. Make then returns no response.
func (f *PageFill) Release(why string, lasting bool) {
	f.scope.outcome(why)
	// An error that a handler makes of its client's leaving says nothing of the next request.
	if lasting = lasting && f.ctx.Err() == nil; lasting {
		f.refuse()
	}
	f.land(landing{orphaned: !lasting})
}

// refuse keeps requests for the page from waiting for each other. What comes of one that nobody has waited
// for says nothing of them.
func (f *PageFill) refuse() {
	if !f.alone {
		f.scope.kit.pages.refuse(f.key)
	}
}

// land ends the flight, once.
func (f *PageFill) land(l landing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.landed {
		return
	}
	if f.landed = true; f.flight != nil {
		f.flights.land(f.flight, l)
	}
}

// makePage has a page made and stores it.
func (s *Scope) makePage(ctx context.Context, p *Page, base *entry, q *product, in *frame, r *runner) PageResult {
	t, k := s.fills.flights, s.kit
	fill := &PageFill{ctx: ctx, scope: s, flights: t, flight: q.flight, key: base.key, alone: p.Alone}
	fr := &frame{scope: s, runner: r, parent: in, values: []identity{base.identity}, goroutine: goroutineID()}
	if err := s.fills.begin(fr); err != nil {
		s.complain(ctx, err)
		fill.Release("cycle", false)
		return PagePassed
	}
	t.begin(r)
	t.start(r, fr.goroutine)
	// The handler may go on for long after its client has left.
	stop := context.AfterFunc(ctx, func() { fill.land(landing{orphaned: true}) })
	from := time.Now()
	returned := false
	defer func() {
		stop()
		s.fills.end(fr)
		t.finish(r)
		fr.ended.Store(true)
		t.end(r)
		if !returned {
			fill.Release("panic", true)
		}
		fill.land(landing{}) // at the latest
	}()
	s.outcome("miss")
	inner := context.WithValue(ctx, frameKey{}, fr)
	if asked := p.Header["If-None-Match"]; asked != nil {
		inner = context.WithValue(inner, ifNoneMatchKey{}, asked)
	}
	response, vary := p.Make(inner, fill)
	returned = true
	ids, why := s.fills.end(fr)
	q.event.Took = time.Since(from)
	s.counters.fills.Add(int64(q.event.Took))
	if err := ctx.Err(); response == nil || err != nil {
		s.counters.misses.Add(1)
		if err != nil {
			fill.Release("gone", false)
		}
		s.report(ctx, q, err)
		return PageMade
	}
	// Once a page was seen to vary in a header it goes on to do so: who forgets to name it in one of
	// two responses means the same for both.
	vary = k.pages.widen(base.key, vary)
	q = &product{entry: p.variant(base, vary), flight: q.flight, event: q.event}
	q.encode = func() ([]byte, byte, error) { return p.seal(wholePage, vary, response), present, nil }
	value := s.finish(ctx, q, ids, why, nil, false)
	switch reason := q.event.Reason; {
	case value == nil:
		if reason == OwnWrite || reason == Unstable || reason == TooMany {
			fill.refuse()
		}
		s.outcome(reason.word())
	case !q.event.Stored:
		s.outcome("not-stored")
	default:
		if len(vary) > 0 {
			s.storeIndex(ctx, p, base, vary)
		}
		k.pages.learn(base.key, vary)
		s.outcome("stored")
	}
	fill.land(landing{value: value, orphaned: value == nil && ctx.Err() != nil})
	s.report(ctx, q, nil)
	return PageMade
}

// storeIndex stores under the page's own key which headers its variants differ in. It is a hint: each
// variant says itself whom it is for.
func (s *Scope) storeIndex(ctx context.Context, p *Page, base *entry, vary []string) {
	k := s.kit
	index := sealed(base.mark, base.stamp, present, nil, p.seal(pageIndex, vary, nil))
	k.known.set(base.key, nil)
	k.writing.report(ctx, k.config.Logger, "set", k.values.Set(ctx, base.key, index, base.ttl))
}

// A page lies in the store as the payload of a value:
//
//	1 byte    the kind: a response, or which headers the variants differ in
//	varint    how many headers that are, each as its length and name
//	16 bytes  a digest of what the request had in them; if there are any, and for a response
//	          the response
const (
	wholePage byte = iota + 1
	pageIndex
)

// digestSize is that of the request's headers. They hold secrets, which have no place in a store.
const digestSize = 16

// seal makes the payload.
func (p *Page) seal(kind byte, vary []string, response []byte) []byte {
	size := 1 + binary.MaxVarintLen16 + digestSize + len(response)
	for _, name := range vary {
		size += binary.MaxVarintLen32 + len(name)
	}
	b := make([]byte, 0, size)
	b = append(b, kind)
	b = binary.AppendUvarint(b, uint64(len(vary)))
	for _, name := range vary {
		b = binary.AppendUvarint(b, uint64(len(name)))
		b = append(b, name...)
	}
	if kind == wholePage && len(vary) > 0 {
		digest := p.digest(vary)
		b = append(b, digest[:]...)
	}
	return append(b, response...)
}

// open returns the response of an entry that was found, if it is one for this request, and which headers it
// was chosen by, or the variants are.
func (p *Page) open(e *entry) (response []byte, vary []string, ok bool) {
	b := e.payload
	if len(b) < 2 {
		return nil, nil, false
	}
	kind, b := b[0], b[1:]
	n, size := binary.Uvarint(b)
	if size <= 0 || n > MaxVary {
		return nil, nil, false
	}
	b = b[size:]
	for range n {
		length, size := binary.Uvarint(b)
		if size <= 0 || length > uint64(len(b)-size) {
			return nil, nil, false
		}
		b = b[size:]
		vary = append(vary, string(b[:length]))
		b = b[length:]
	}
	if kind != wholePage {
		return nil, vary, false
	}
	if n > 0 {
		digest := p.digest(vary)
		if len(b) < digestSize || string(b[:digestSize]) != string(digest[:]) {
			return nil, vary, false
		}
		b = b[digestSize:]
	}
	return b, vary, p.Fits(b)
}

// digest is of what the request has in the headers of these names.
func (p *Page) digest(vary []string) (digest [digestSize]byte) {
	var b []byte
	for _, name := range vary {
		b = append(append(b, name...), 0)
		b = appendLines(b, name, p.Header[name])
		b = append(b, 0)
	}
	sum := sha256.Sum256(b)
	copy(digest[:], sum[:])
	return digest
}

// appendLines appends the lines of a header. In those by which clients say what they accept it makes no
// difference how a list is spaced and spread over lines. In others, such as Cookie, it may be the
// difference between two users. What is absent differs from what is empty.
func appendLines(b []byte, name string, lines []string) []byte {
	lists := name == "Accept" || strings.HasPrefix(name, "Accept-")
	for _, line := range lines {
		if !lists || strings.Contains(line, `"`) { // in quotes white space counts
			b = append(append(b, '\n'), line...) // which no header has
			continue
		}
		for part := range strings.SplitSeq(line, ",") {
			b = append(append(b, ','), strings.Trim(part, " \t")...)
		}
	}
	return b
}

// variantMark begins what no segment of a key can be: there "%" is followed by two hexadecimal digits, or
// begins one of a few marks of package tokens.
const variantMark = "/%vary-"

// variant returns a new entry for the request's variant of a page, of which nothing was looked for yet: base
// itself, if it is not known to vary.
func (p *Page) variant(base *entry, vary []string) *entry {
	e := &entry{
		version:  base.version,
		identity: base.identity,
		settings: base.settings,
		text:     base.text,
		read:     base.read,
		known:    base.known,
		ids:      base.ids,
	}
	e.more = slices.Clip(e.more)
	if len(vary) == 0 {
		return e
	}
	h := sha256.New()
	for _, name := range vary {
		h.Write(append([]byte(name), 0))
	}
	digest := p.digest(vary)
	h.Write(digest[:])
	key := append([]byte(base.key), variantMark...)
	key = hex.AppendEncode(key, h.Sum(nil)[:digestSize])
	e.known = base.scope.kit.known.get(key)
	e.key = e.known.name
	return e
}

// pageNotes are what a process remembers of the pages that were asked for last. What it has forgotten costs
// a round trip, or a wait.
type pageNotes struct {
	mu sync.RWMutex
	// By key. What is written goes to the young one, and when that is full the old one is dropped.
	young, old map[string]pageNote
}

// pageNote is never changed, only replaced.
type pageNote struct {
	vary  []string  // the headers in which responses have differed
	until time.Time // requests do not wait for each other
}

const (
	maxPageNotes = 4096 // in each of the two generations
	// refusal is how long it is remembered that a response could not be stored.
	refusal = 5 * time.Second
)

func (n *pageNotes) get(key string) pageNote {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if note, ok := n.young[key]; ok {
		return note
	}
	return n.old[key]
}

func (n *pageNotes) set(key string, note pageNote) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.young[key]; !ok && (n.young == nil || len(n.young) >= maxPageNotes) {
		n.young, n.old = make(map[string]pageNote), n.young
	}
	n.young[key] = note
}

func (n *pageNotes) vary(key string) []string { return n.get(key).vary }

func (n *pageNotes) refused(key string) bool {
	note := n.get(key)
	return !note.until.IsZero() && time.Now().Before(note.until)
}

// learn notes what the stored page says of itself.
func (n *pageNotes) learn(key string, vary []string) {
	note := n.get(key)
	if len(vary) == 0 && len(note.vary) == 0 && note.until.IsZero() || note.until.IsZero() && slices.Equal(note.vary, vary) {
		return
	}
	n.set(key, pageNote{vary: vary})
}

// refuse notes that the page could not be stored.
func (n *pageNotes) refuse(key string) {
	note := n.get(key)
	note.until = time.Now().Add(refusal)
	n.set(key, note)
}

// widen adds to the headers that a response names those that others have named before.
func (n *pageNotes) widen(key string, vary []string) []string {
	known := n.vary(key)
	if len(known) == 0 {
		return vary
	}
	all := append(slices.Clone(vary), known...)
	slices.Sort(all)
	if all = slices.Compact(all); len(all) > MaxVary {
		return vary
	}
	return all
}
