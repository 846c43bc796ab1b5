package request

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/tokens"
)

// entry is one value in the value store, as one request looks for it.
type entry struct {
	version  // of the arguments; of a value that was found, with all that it depends on
	identity // its key is "" if the arguments make none
	settings
	text  string // the arguments with their tokens; "" if nobody asks
	read  bool   // the tokens of the arguments are known
	known *knownKey

	// What is set where tokens or values must be waited for.
	ids    []tokens.ID // that the arguments name
	place  int         // of their tokens in a reading, -1 if they are not together
	raw    []byte      // as it is stored
	copied bool        // raw may be a copy that is out of date
	opened opened
	extras []tokens.ID // that raw names
	sound  bool        // opened and extras are raw's

	// The result.
	found   bool
	reason  Reason // why what was found could not be stored now
	payload []byte
	kind    byte
}

// parse sets e to the entry for args, without I/O. The segments are for those that have to wait.
func (s *Scope) parse(e *entry, dst []tokens.Segment, args []any) ([]tokens.Segment, error) {
	e.scope = s
	segments, err := appendSegments(dst, args)
	if err != nil {
		e.first = Unstable
		return nil, err
	}
	s.locate(e, segments)
	return segments, nil
}

// locate sets the key of e, and its tokens where they are known.
func (s *Scope) locate(e *entry, segments []tokens.Segment) {
	var text [128]byte
	stable := appendStable(text[:0], segments)
	if len(stable) > maxKey {
		sum := sha256.Sum256(stable)
		stable = hex.AppendEncode(append(stable[:0], digestPrefix...), sum[:])
	}
	e.known = s.kit.known.get(stable)
	e.key = e.known.name
	e.usable = true
	if e.read = s.recall(&e.version, segments); e.read {
		e.settle()
	} else if e.count > 0 {
		e.version.clear()
	}
}

// maxKey is how long a key of the value store can be. A longer one is replaced by its digest.
const maxKey = 512

// digestPrefix begins what no other key can begin with, for the reason given at oneShotPrefix.
const digestPrefix = "%sha256-"

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

// here looks for a value where nothing has to be waited for: the tokens are read, the value is in
// this process and depends on nothing that its key does not name. It is false if somebody must look
// further.
func (e *entry) here() bool {
	k := e.scope.kit
	if !e.read || k.local == nil {
		return false
	}
	raw, ok := k.local.Lookup(e.key)
	if !ok {
		return false
	}
	o, ok := k.open(raw, e.mark)
	if !ok || o.count > 0 || o.stamp != e.stamp {
		return false
	}
	// A transaction of this request may have written since the tokens were read.
	usable, reason := e.judge()
	if !usable {
		return false
	}
	e.reason = reason
	e.found, e.payload, e.kind = true, o.payload, o.kind
	return true
}

// reading is the tokens that several entries need, each once.
type reading struct {
	ids        []tokens.ID
	index      map[tokens.ID]int // of ids, once there are more than a few
	all        []tokens.Token    // of ids, as far as they were read
	generation uint64
}

func (r *reading) find(id tokens.ID) int {
	if r.index != nil {
		if i, ok := r.index[id]; ok {
			return i
		}
		return -1
	}
	for i := range r.ids {
		if r.ids[i] == id {
			return i
		}
	}
	return -1
}

// add adds what is not there. It returns where ids begin in r.ids, if they all stand there one after the
// other, and else -1.
func (r *reading) add(ids []tokens.ID) (place int) {
	place = len(r.ids)
	for i, id := range ids {
		if at := r.find(id); at >= 0 {
			if i == 0 {
				place = at
			} else if at != place+i {
				place = -1
			}
			continue
		}
		if place >= 0 && place+i != len(r.ids) {
			place = -1
		}
		if r.index == nil && len(r.ids) >= few {
			r.index = make(map[tokens.ID]int, 4*few)
			for i, have := range r.ids {
				r.index[have] = i
			}
		}
		if r.index != nil {
			r.index[id] = len(r.ids)
		}
		r.ids = append(r.ids, id)
	}
	return place
}

// reset empties the reading and keeps some of its memory.
func (r *reading) reset() {
	if len(r.index) > maxRoom {
		r.index = nil
	}
	clear(r.index)
	*r = reading{ids: emptied(r.ids), index: r.index}
}

// load reads what is not read yet.
func (r *reading) load(ctx context.Context, s *Scope) error {
	n := len(r.all)
	if n == len(r.ids) {
		return nil
	}
	all, generation, err := s.load(ctx, r.ids[n:])
	if err != nil {
		return err
	}
	if n == 0 {
		r.generation = generation // of the oldest of several readings
	}
	r.all = append(r.all, all...)
	return nil
}

// addTo adds the tokens of ids to a version, which begin at place if that is not negative. It is false if
// some were not read.
func (r *reading) addTo(v *version, ids []tokens.ID, place int) bool {
	for n, id := range ids {
		i := place + n
		if place < 0 {
			i = r.find(id)
		}
		if i < 0 || i >= len(r.all) {
			return false
		}
		v.add(id, r.all[i])
	}
	return true
}

// lookup looks for what is stored for the entries: one round trip for the tokens and the values of all,
// at the same time, and one more for the tokens of what only the values name. The error is one that
// somebody must hear of: the entries have no tokens then.
func (s *Scope) lookup(ctx context.Context, entries []*entry) error {
	return s.lookupWith(ctx, new(reading), entries)
}

// lookupWith is lookup with an empty reading to use.
func (s *Scope) lookupWith(ctx context.Context, r *reading, entries []*entry) error {
	k := s.kit
	var (
		away    []string // keys of values that are not in this process
		awayFor []*entry
	)
	for _, e := range entries {
		if e.key == "" {
			continue
		}
		if e.read {
			if usable, _ := e.judge(); !usable {
				continue
			}
		}
		if k.local != nil && e.raw == nil {
			e.raw, _ = k.local.Lookup(e.key)
			e.copied = e.raw != nil
		}
		extras := e.known.extras
		if e.raw == nil {
			away, awayFor = append(away, e.key), append(awayFor, e)
		} else if e.unpack() {
			extras = e.extras
		}
		e.place = r.add(e.ids)
		r.add(extras)
	}
	values, err := s.loadBoth(ctx, r, away)
	if err != nil {
		for _, e := range entries {
			if e.key != "" && !e.read {
				e.first, e.usable = StoreDown, false
			}
		}
		if errors.Is(err, tokens.ErrDown) {
			return nil
		}
		return err
	}
	for i, e := range awayFor {
		if i < len(values) {
			e.raw = values[i]
		}
		if e.raw != nil && e.unpack() {
			r.add(e.extras)
		}
	}
	// What cannot be read here makes misses of what needs it.
	_ = r.load(ctx, s)
	var stale []*entry
	for _, e := range entries {
		if e.key == "" {
			continue
		}
		if !e.read {
			e.generation = r.generation
			e.read = r.addTo(&e.version, e.ids, e.place)
			e.settle()
		}
		if !e.match(r) && e.copied && k.fresh != nil {
			stale = append(stale, e)
		}
	}
	if len(stale) > 0 {
		s.refresh(ctx, r, stale)
	}
	return nil
}

// refresh asks once more for values of which this process had copies that are out of date.
func (s *Scope) refresh(ctx context.Context, r *reading, stale []*entry) {
	var keys []string
	var asked []*entry
	for _, e := range stale {
		if usable, _ := e.judge(); usable {
			keys, asked = append(keys, e.key), append(asked, e)
		}
	}
	if len(keys) == 0 {
		return
	}
	values := s.values(ctx, keys, s.kit.fresh.GetFresh)
	for i, e := range asked {
		if i < len(values) {
			e.raw = values[i]
		}
		if e.copied = false; e.raw != nil && e.unpack() {
			r.add(e.extras)
		}
	}
	_ = r.load(ctx, s)
	for _, e := range asked {
		e.match(r)
	}
}

// open is open for what the value store has returned.
func (k *Kit) open(value []byte, m *mark) (opened, bool) {
	switch k.values.(type) {
	case *cache.Memory, *cache.Redis: // which has a checksum of its own
		return openWhole(value, m)
	}
	return open(value, m)
}

// unpack reads what raw says of itself.
func (e *entry) unpack() bool {
	var ok bool
	if e.opened, ok = e.scope.kit.open(e.raw, e.mark); ok {
		e.extras, ok = e.opened.identifiers()
	}
	if e.sound = ok; ok && len(e.extras)+len(e.known.extras) > 0 {
		e.scope.kit.known.set(e.key, e.extras)
	}
	return ok
}

// match reports whether the stored value is a hit: its stamp is the largest among all its identifiers
// now, and this request may use them all.
func (e *entry) match(r *reading) bool {
	if e.raw == nil || !e.sound || e.first == StoreDown || e.opened.stamp < e.stamp {
		return false
	}
	if len(e.extras) == 0 {
		if e.stamp != e.opened.stamp {
			return false
		}
		usable, reason := e.judge()
		if !usable {
			return false
		}
		e.usable, e.reason = usable, reason
		e.found, e.payload, e.kind = true, e.opened.payload, e.opened.kind
		return true
	}
	v := e.version
	v.more = v.more[:len(v.more):len(v.more)]
	if !r.addTo(&v, e.extras, -1) || v.stamp != e.opened.stamp {
		return false
	}
	usable, reason := v.judge()
	if !usable {
		return false
	}
	v.usable, e.reason = usable, reason
	e.version = v
	e.found, e.payload, e.kind = true, e.opened.payload, e.opened.kind
	return true
}

// reject makes e what it was before a value was found that is of no use. What that depends on, beside the
// arguments, must not stand among what the key names: it would not be stored with the value that is made in
// its place, and a change of it would go unnoticed.
func (e *entry) reject() {
	e.found = false
	v := &e.version
	if v.count == len(e.ids) {
		return
	}
	v.count = len(e.ids)
	v.more = v.more[:max(0, v.count-len(v.inline))]
	v.stamp = 0
	for i := range v.count {
		v.stamp = max(v.stamp, v.dependency(i).stamp)
	}
}

// loadBoth reads tokens and values, at the same time if both have to be waited for.
func (s *Scope) loadBoth(ctx context.Context, r *reading, keys []string) (values [][]byte, err error) {
	if len(keys) == 0 {
		return nil, r.load(ctx, s)
	}
	if s.kit.tokens.InProcess() || s.knows(r.ids) {
		if err := r.load(ctx, s); err != nil {
			return nil, err
		}
		return s.values(ctx, keys, s.kit.values.Get), nil
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed *crash
	done := make(chan struct{})
	var asked, answered time.Time // of the values
	go guarded(func() {
		asked = time.Now()
		values = s.values(inner, keys, s.kit.values.Get)
		answered = time.Now()
	}, func(c *crash) {
		failed = c
		close(done)
	})
	from := time.Now()
	err = r.load(ctx, s)
	loaded := time.Now()
	if err != nil {
		cancel() // without tokens nobody uses values
	}
	<-done
	s.counters.overlap(from, loaded, asked, answered)
	failed.again()
	return values, err
}

// knows reports whether the memo has the tokens of ids.
func (s *Scope) knows(ids []tokens.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if _, ok := s.memo.get(id); !ok {
			return false
		}
	}
	return true
}

// values asks the value store. One that fails has nothing.
func (s *Scope) values(ctx context.Context, keys []string, get func(context.Context, []string) ([][]byte, error)) [][]byte {
	k := s.kit
	from := time.Now()
	values, err := get(ctx, keys)
	since(&s.counters.values, from)
	k.reading.report(ctx, k.config.Logger, "get", err)
	if err != nil || len(values) != len(keys) {
		return nil
	}
	return values
}

// take takes what somebody else has made or stored meanwhile, if it is a hit.
func (e *entry) take(ctx context.Context, raw []byte) bool {
	if e.raw = raw; raw == nil || !e.unpack() {
		return false
	}
	var r reading
	r.generation = e.scope.generation.Load()
	r.add(e.extras)
	return r.load(ctx, e.scope) == nil && e.match(&r)
}
