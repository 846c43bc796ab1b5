package tokens

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

const (
	exRows    = 2
	exRecords = 6
	exActors  = 5
	exLate    = 2
)

// What the explored records are, by their index.
var exIDs = [exRecords]ID{
	{Table: "users", Row: "1"}, {Table: "users", Row: "2"}, {Table: "users", Row: all},
	Global, {Table: "users", Row: sweep}, sweepAll,
}

// exState is everything at one moment: the database, the records of the token store, the processes,
// the requests and writers, and the value cache. Two states that differ only in how large their
// stamps are, not in their order, are one state: encode compares ranks.
type exState struct {
	db      [exRows]uint8 // how often each row was changed, as committed
	clock   Stamp
	seen    [2]Stamp // by process
	records [exRecords]exRecord
	actors  [exActors]exActor
	late    [exLate]exDuplicate // operations that will arrive a second time
	values  []exValue           // the cache: everything that was ever stored and can still be found

	losses   uint8 // how often the store was lost
	graceful bool  // the two seconds after a loss are over
	saved    bool  // there is a snapshot, or a replica that lags
	snapshot [exRecords]exRecord
	then     Stamp // the snapshot's clock
}

// exGrace is the bit of the fence that a sweep after a loss sets.
const exGrace = exActors

type exRecord struct {
	there  bool
	stamp  Stamp
	fences uint8 // a bit for each actor, and exGrace
}

// exActor is a writer, or a request that may have a transaction of its own.
type exActor struct {
	phase exPhase
	w     Stamp // the watermark
	tok   Stamp
	// Judged when the key was asked for.
	storable bool
	has      uint8         // the rows that the request has loaded
	val      [exRows]uint8 // and what it found there
	com      [exRows]uint8 // committed when the tokens were read

	pc         exPC
	lapsed     bool // the fences that this actor has left are past their deadline
	depth      uint8
	layers     [2]uint8 // rows written, by savepoint
	captured   [2]uint8 // what the ledger knows of them
	dirty      bool     // of the ledger's entry
	incomplete bool     // of the ledger's entry
	lost       uint8    // what the request's own ledger says was taken back
	plost      uint8    // and the process's
}

// exPhase is how far a request has come.
type exPhase uint8

const (
	exIdle   exPhase = iota
	exOpen           // has its watermark
	exAsked          // has usable tokens
	exMissed         // found no value and may store its own
)

// exPC is how far a transaction has come.
type exPC uint8

const (
	exNone      exPC = iota
	exBegun          // requests only: writers fence as they begin
	exFenced         // holds its rows' locks
	exLimbo          // the connection was lost in COMMIT: the database has still to decide
	exCommitted      // in the database, not in the store
	exDead           // nobody will publish it
	exDone
)

type exDuplicate struct {
	op    exOp
	actor uint8
}

type exOp uint8

const (
	exNoOp exOp = iota
	exFence
	exPublish
	exRelease
	exSpent // it has arrived
)

type exValue struct {
	key     uint8
	version Stamp
	val     [exRows]uint8
}

// What a row can hold beside the number of its last committed change.
const (
	exDirty = 12 // plus the savepoint's depth: written, not committed
	exGone  = 15 // was written and taken back: never committed
)

// clone copies s so that both can change.
func (s *exState) clone() *exState {
	n := *s
	n.values = slices.Clone(s.values)
	return &n
}

// keep adds a value to the cache.
func (s *exState) keep(v exValue) {
	if !slices.Contains(s.values, v) {
		s.values = append(s.values, v)
	}
}

// turn replaces what was read of a row's value everywhere: it was committed, or taken back.
func (s *exState) turn(row int, from, to uint8) {
	for i := range s.actors {
		if a := &s.actors[i]; a.has&(1<<row) != 0 && a.val[row] == from {
			a.val[row] = to
		}
	}
	for i := range s.values {
		if s.values[i].val[row] == from {
			s.values[i].val[row] = to
		}
	}
}

// canonical drops what cannot matter any more and replaces stamps by their ranks.
func (s *exState) canonical(sc *exScenario, broken exBreak) {
	goesBack := broken.noSweep || broken.noMinute // what is so not again found can be, after a loss
	if s.losses == uint8(sc.losses) {
		s.saved, s.snapshot, s.then = false, [exRecords]exRecord{}, 0
	}
	s.graceful = s.graceful && s.fencedBy(exGrace)
	for i := range s.actors {
		a := &s.actors[i]
		a.lapsed = a.lapsed && s.fencedBy(i)
		if i >= len(sc.actors) || !sc.actors[i].reader() || goesBack {
			continue
		}
		key := sc.actors[i].key
		switch {
		case a.phase == exOpen && s.newest(sc, key) > a.w && !broken.noGuard:
			// It will not store: what it has loaded and since when does not matter.
			*a = exActor{phase: exOpen}
		case a.phase == exAsked && !a.storable:
			a.has, a.val = 0, [exRows]uint8{}
		case a.phase == exMissed && !s.findable(sc, key, a.tok):
			*a = exActor{} // nobody would find what it stores
		}
	}
	s.values = slices.DeleteFunc(s.values, func(v exValue) bool {
		if !goesBack && !s.findable(sc, int(v.key), v.version) {
			return true
		}
		// What breaks no promise by its age breaks none where an older value does not.
		return slices.ContainsFunc(s.values, func(older exValue) bool {
			return older.key == v.key && older.version == v.version && older.val != v.val &&
				older.val[0] <= v.val[0] && older.val[1] <= v.val[1] && v.val[0] < exDirty && v.val[1] < exDirty
		})
	})

	var stamps [5 + 2*exRecords + 2*exActors + 64]Stamp
	n := 0
	add := func(t Stamp) {
		if t != 0 {
			stamps[n] = t
			n++
		}
	}
	add(s.clock)
	add(s.seen[0])
	add(s.seen[1])
	for i := range s.records {
		add(s.records[i].stamp)
		add(s.snapshot[i].stamp)
	}
	add(s.then)
	for i := range s.actors {
		add(s.actors[i].w)
		add(s.actors[i].tok)
	}
	for i := range s.values {
		add(s.values[i].version)
	}
	sorted := stamps[:n]
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	rank := func(t *Stamp) {
		// Where stamps are given out again it matters which.
		if *t != 0 && !broken.noMinute {
			i, _ := slices.BinarySearch(sorted, *t)
			*t = Stamp(i + 1)
		}
	}
	rank(&s.clock)
	rank(&s.seen[0])
	rank(&s.seen[1])
	for i := range s.records {
		rank(&s.records[i].stamp)
		rank(&s.snapshot[i].stamp)
	}
	rank(&s.then)
	for i := range s.actors {
		rank(&s.actors[i].w)
		rank(&s.actors[i].tok)
	}
	for i := range s.values {
		rank(&s.values[i].version)
	}
	slices.SortFunc(s.values, func(a, b exValue) int {
		if a.key != b.key {
			return int(a.key) - int(b.key)
		}
		if a.version != b.version {
			return int(a.version - b.version)
		}
		return bytes.Compare(a.val[:], b.val[:])
	})
}

func (s *exState) fencedBy(actor int) bool {
	for i := range s.records {
		if s.records[i].fences&(1<<actor) != 0 {
			return true
		}
	}
	return false
}

// newest is the least version that a key can have from now on.
func (s *exState) newest(sc *exScenario, key int) (version Stamp) {
	for _, r := range sc.keys[key].records {
		version = max(version, s.records[r].stamp)
	}
	return version
}

// findable reports whether a key with that version can still be asked for, or has been.
func (s *exState) findable(sc *exScenario, key int, version Stamp) bool {
	for i := range s.actors {
		a := &s.actors[i]
		if a.phase == exAsked && sc.actors[i].key == key && a.tok == version {
			return true
		}
	}
	return s.newest(sc, key) <= version // stamps never go back
}

// encode writes a canonical state. Requests of one kind are interchangeable.
func (s *exState) encode(sc *exScenario, b []byte) []byte {
	b = append(b, s.db[0]|s.db[1]<<4, byte(s.clock), byte(s.seen[0]), byte(s.seen[1]))
	for i := range s.records {
		b = s.records[i].encode(b)
	}
	var parts [exActors][]byte
	var buf [exActors * 12]byte
	space := buf[:0]
	for i := range sc.actors {
		from := len(space)
		space = s.actors[i].encode(space)
		parts[i] = space[from:len(space):len(space)]
	}
	for i := range sc.actors {
		// As many as five: the sort that needs the least code.
		for j := i; j > 0 && sc.alike(j-1, j) && bytes.Compare(parts[j-1], parts[j]) > 0; j-- {
			parts[j-1], parts[j] = parts[j], parts[j-1]
		}
	}
	for i := range sc.actors {
		b = append(b, parts[i]...)
	}
	if sc.late > 0 {
		late := s.late
		slices.SortFunc(late[:], func(a, b exDuplicate) int { return int(a.op)<<4 + int(a.actor) - int(b.op)<<4 - int(b.actor) })
		for _, d := range late {
			b = append(b, byte(d.op)<<4|d.actor)
		}
	}
	if sc.losses > 0 {
		b = append(b, s.losses|bit(s.graceful, 6)|bit(s.saved, 7))
		if s.saved {
			b = append(b, byte(s.then))
			for i := range s.snapshot {
				b = s.snapshot[i].encode(b)
			}
		}
	}
	for _, v := range s.values {
		b = append(b, v.key, byte(v.version), v.val[0]|v.val[1]<<4)
	}
	return b
}

func (r *exRecord) encode(b []byte) []byte { return append(b, r.fences|bit(r.there, 7), byte(r.stamp)) }

func (r *exRecord) decode(code string) (rest string) {
	*r = exRecord{there: code[0]>>7 != 0, fences: code[0] & 127, stamp: Stamp(code[1])}
	return code[2:]
}

func bit(b bool, at int) byte {
	if b {
		return 1 << at
	}
	return 0
}

func (a *exActor) encode(b []byte) []byte {
	b = append(b, byte(a.phase)|byte(a.pc)<<2|bit(a.lapsed, 5)|bit(a.dirty, 6)|bit(a.incomplete, 7))
	if a.phase != exIdle {
		b = append(b, byte(a.w), byte(a.tok), bit(a.storable, 0)|a.has<<1, a.val[0]|a.val[1]<<4, a.com[0]|a.com[1]<<4, a.lost|a.plost<<4)
	}
	b = append(b, a.depth)
	if a.depth > 0 {
		b = append(b, a.layers[0]|a.layers[1]<<4, a.captured[0]|a.captured[1]<<4)
	}
	return b
}

// decode reads what encode wrote. Ranks serve as stamps.
func (s *exState) decode(sc *exScenario, code string) {
	*s = exState{values: s.values[:0]}
	s.db = [exRows]uint8{code[0] & 15, code[0] >> 4}
	s.clock, s.seen[0], s.seen[1] = Stamp(code[1]), Stamp(code[2]), Stamp(code[3])
	code = code[4:]
	for i := range s.records {
		code = s.records[i].decode(code)
	}
	for i := range sc.actors {
		a := &s.actors[i]
		c := code[0]
		a.phase, a.pc, a.lapsed, a.dirty, a.incomplete = exPhase(c&3), exPC(c>>2&7), c>>5&1 != 0, c>>6&1 != 0, c>>7&1 != 0
		code = code[1:]
		if a.phase != exIdle {
			a.w, a.tok = Stamp(code[0]), Stamp(code[1])
			a.storable, a.has = code[2]&1 != 0, code[2]>>1
			a.val = [exRows]uint8{code[3] & 15, code[3] >> 4}
			a.com = [exRows]uint8{code[4] & 15, code[4] >> 4}
			a.lost, a.plost = code[5]&15, code[5]>>4
			code = code[6:]
		}
		a.depth, code = code[0], code[1:]
		if a.depth > 0 {
			a.layers = [2]uint8{code[0] & 15, code[0] >> 4}
			a.captured = [2]uint8{code[1] & 15, code[1] >> 4}
			code = code[2:]
		}
	}
	if sc.late > 0 {
		for i := range s.late {
			s.late[i] = exDuplicate{exOp(code[0] >> 4), code[0] & 15}
			code = code[1:]
		}
	}
	if sc.losses > 0 {
		s.losses, s.graceful, s.saved = code[0]&63, code[0]>>6&1 != 0, code[0]>>7 != 0
		code = code[1:]
		if s.saved {
			s.then, code = Stamp(code[0]), code[1:]
			for i := range s.snapshot {
				code = s.snapshot[i].decode(code)
			}
		}
	}
	for ; code != ""; code = code[3:] {
		s.values = append(s.values, exValue{code[0], Stamp(code[1]), [exRows]uint8{code[2] & 15, code[2] >> 4}})
	}
}

// String shows the parts that an interleaving is read by.
func (s *exState) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "rows %v, clock %d, seen %v;", s.db, s.clock, s.seen)
	for i, r := range s.records {
		if !r.there {
			continue
		}
		fmt.Fprintf(&b, " %s=%d", strings.TrimPrefix(exIDs[i].String(), Scheme), r.stamp)
		for j := range s.actors {
			if r.fences&(1<<j) != 0 {
				fmt.Fprintf(&b, "!%d", j)
			}
		}
		if r.fences&(1<<exGrace) != 0 {
			b.WriteString("!lost")
		}
	}
	for _, v := range s.values {
		fmt.Fprintf(&b, "; cached key %d @%d: %v", v.key, v.version, v.val)
	}
	return b.String()
}
