package tokens

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// exScenario is who takes part.
type exScenario struct {
	name    string
	keys    []exKey
	actors  []exConfig
	late    int  // operations that arrive a second time, as late as can be
	evict   bool // records without a fence can be lost
	losses  int  // how often the store is lost: comes back empty, or as it was some time ago
	torn    bool // rows are loaded one by one
	ledgers bool // set where a request has transactions
	cold    bool // nothing has ever been read when it begins
}

// exKey is what a request caches a value under: a value made of rows.
type exKey struct {
	ids     []ID
	rows    uint8
	records []int // that the value's version can come from
}

// exConfig is one actor: a writer (no key), a reader, or a request with transactions of its own.
type exConfig struct {
	key        int   // -1: a writer
	writes     uint8 // rows, a bit for each
	unknown    bool  // writers: the capture knows the table only
	process    int
	scopeless  bool // its transactions are begun without the request's context
	savepoints bool
	captures   bool // late: what was changed is known when COMMIT is asked for
}

func (c *exConfig) writer() bool { return c.key < 0 }
func (c *exConfig) reader() bool { return c.key >= 0 && c.writes == 0 }

func (sc *exScenario) alike(i, j int) bool {
	a, b := sc.actors[i], sc.actors[j]
	return a.reader() && a == b
}

// exBreak says what a protocol that is broken on purpose leaves out.
type exBreak struct {
	noFence   bool // writers do not fence
	noGuard   bool // storable whatever the watermark
	judgeOnce bool // storable is judged when the key is asked for, not when the value is stored
	noLost    bool // what was taken back is forgotten at once
	noSweep   bool // a store that was lost is not swept
	noGrace   bool // and fences nothing
	noMinute  bool // and gives out stamps again that were lost
	backend   func(*Memory) Backend
}

const exLease = 30 * time.Second

// explorer makes the moves of a scenario on real Stores, one for each process, over one real
// memory backend, which it sets to a state before each move.
type explorer struct {
	*exScenario
	broken  exBreak
	memory  *Memory
	stores  [2]*Store
	now     time.Time
	owners  [exActors]Owner
	changes [exActors]*Changes
	ctx     context.Context

	state  *exState
	emit   func(m exMove, n *exState)
	scopes [exActors]*View   // of the requests' own ledgers
	procs  [exActors]*View   // of the processes'
	writes [exActors]*Writes // open transactions
}

// exMove is one step of one actor, or of nobody.
type exMove struct {
	actor int
	what  string
	wrong string // what the step violates
}

func (m exMove) String() string {
	who := "-"
	if m.actor >= 0 {
		who = fmt.Sprint(m.actor)
	}
	if m.wrong != "" {
		return fmt.Sprintf("%s %s: %s", who, m.what, m.wrong)
	}
	return who + " " + m.what
}

func newExplorer(sc *exScenario, broken exBreak) *explorer {
	own := *sc
	own.keys = slices.Clone(sc.keys)
	sc = &own
	e := &explorer{exScenario: sc, broken: broken, now: time.UnixMicro(1), ctx: context.Background()}
	e.memory = NewMemoryBackend(MemoryOptions{Now: func() time.Time { return e.now }})
	var backend Backend = e.memory
	if broken.backend != nil {
		backend = broken.backend(e.memory)
	}
	for i := range e.stores {
		e.stores[i] = New(backend, WithReadTimeout(0), WithWriteTimeout(0), WithLogger(slog.New(slog.DiscardHandler)))
	}
	for i := range sc.actors {
		c := &sc.actors[i]
		e.owners[i] = Owner(fmt.Sprint("w", i))
		e.changes[i] = exChanges(c.writes)
		if c.unknown {
			e.changes[i] = NewChanges(ID{Table: "users", Row: all})
		}
		sc.ledgers = sc.ledgers || !c.writer() && c.writes != 0
	}
	for i := range sc.keys {
		k := &sc.keys[i]
		k.records = nil
		for _, id := range k.ids {
			for _, dep := range appendDependencies(nil, id) {
				k.records = append(k.records, slices.Index(exIDs[:], dep))
			}
		}
	}
	return e
}

func (e *explorer) close() {
	for _, s := range e.stores {
		_ = s.Close()
	}
}

// first returns the state that everything begins with.
func (e *explorer) first() *exState {
	s := new(exState)
	e.restore(s)
	if !e.cold {
		// The sweeps have been read before, by somebody.
		if _, err := e.stores[0].Read(e.ctx, []ID{{Table: "users", Row: "0"}}); err != nil {
			panic(err)
		}
		e.memory.records.Delete(ID{Table: "users", Row: "0"})
		e.stores[1].see(e.stores[0].Seen())
	}
	e.capture(s)
	return s
}

// exBits of a set of changes: a row each, and everything.
const exEverything = 1 << exRows

func exChanges(bits uint8) *Changes {
	c := new(Changes)
	if bits&exEverything != 0 {
		c.Add(Global)
	}
	for row := range exRows {
		if bits&(1<<row) != 0 {
			c.Add(exIDs[row])
		}
	}
	return c
}

func exBits(c *Changes) (bits uint8) {
	if c.everything {
		return exEverything
	}
	for id := range c.All {
		row := slices.Index(exIDs[:exRows], id)
		if row < 0 {
			return exEverything
		}
		bits |= 1 << row
	}
	return bits
}

// restore sets the backend, the stores and the ledgers to a state.
func (e *explorer) restore(s *exState) {
	for i := range s.records {
		r := &s.records[i]
		if !r.there {
			e.memory.records.Delete(exIDs[i])
			continue
		}
		real := &record{stamp: r.stamp}
		for j := range e.actors {
			if r.fences&(1<<j) == 0 {
				continue
			}
			deadline := e.now.Add(exLease).UnixMicro()
			if s.actors[j].lapsed {
				deadline = e.now.UnixMicro() - 1
			}
			real.fences = append(real.fences, fence{e.owners[j], deadline})
		}
		if r.fences&(1<<exGrace) != 0 {
			deadline := e.now.Add(grace).UnixMicro()
			if s.graceful {
				deadline = e.now.UnixMicro() - 1
			}
			real.fences = append(real.fences, fence{exLoss, deadline})
		}
		e.memory.records.Store(exIDs[i], real)
	}
	e.memory.clock.Store(int64(s.clock))
	for i := range e.stores {
		e.stores[i].seen.Store(int64(s.seen[i]))
	}
	if e.ledgers {
		e.restoreLedgers(s)
	}
}

func (e *explorer) restoreLedgers(s *exState) {
	for i := range e.stores {
		e.stores[i].ledger = Ledger{}
	}
	for i := range e.actors {
		c, a := &e.actors[i], &s.actors[i]
		e.scopes[i], e.procs[i], e.writes[i] = nil, nil, nil
		if a.phase == exIdle {
			continue
		}
		own, process := new(Ledger), e.stores[c.process].Ledger()
		e.scopes[i], e.procs[i] = exView(own, a.lost), exView(process, a.plost)
		if a.pc != exBegun && a.pc != exFenced && a.pc != exCommitted {
			continue
		}
		l := own
		if c.scopeless {
			l = process
		}
		w := l.Begin()
		w.layers[0].changes = *exChanges(a.captured[0])
		if a.depth == 2 {
			w.layers = append(w.layers, layer{"s", *exChanges(a.captured[1])})
		}
		w.incomplete = a.incomplete
		if a.dirty {
			w.touch()
		}
		e.writes[i] = w
	}
}

// exView makes a view for which lost was taken back after it had been made.
func exView(l *Ledger, lost uint8) *View {
	v := l.View()
	if lost != 0 {
		// The view passes the ledger's last link, which may be its first.
		if v.at.changes == nil {
			v.at.changes = new(Changes)
		}
		n := &undone{changes: exChanges(lost), next: v.at}
		v.at = &undone{next: n}
		v.clean.Store(v.at)
	}
	return v
}

func exLost(v *View) uint8 {
	bits := exBits(&v.lost)
	for at := v.at; at != v.ledger.tail(); at = at.next {
		bits |= exBits(at.next.changes)
	}
	return bits
}

// capture reads back what a move has made of the backend, the stores and the ledgers.
func (e *explorer) capture(n *exState) {
	for i, id := range exIDs {
		r := &n.records[i]
		*r = exRecord{}
		real, ok := e.memory.records.Load(id)
		if !ok {
			continue
		}
		r.there, r.stamp = true, real.stamp
		for _, f := range real.fences {
			j := exGrace
			if f.owner != exLoss {
				j = slices.Index(e.owners[:], f.owner)
			}
			r.fences |= 1 << j
		}
	}
	n.clock = Stamp(e.memory.clock.Load())
	for i := range e.stores {
		n.seen[i] = e.stores[i].Seen()
	}
	if !e.ledgers {
		return
	}
	for i := range e.actors {
		a := &n.actors[i]
		if e.scopes[i] != nil && a.phase != exIdle {
			a.lost, a.plost = exLost(e.scopes[i]), exLost(e.procs[i])
		}
		w := e.writes[i]
		if w == nil {
			continue
		}
		a.captured, a.dirty, a.incomplete = [2]uint8{}, false, false
		if w.ended {
			continue
		}
		for j := range w.layers {
			a.captured[j] = exBits(&w.layers[j].changes)
		}
		a.dirty, a.incomplete = w.dirty, w.incomplete
	}
}

// do makes a move that changes the store or a ledger.
func (e *explorer) do(actor int, what string, op func(n *exState) error) {
	e.restore(e.state)
	n := e.state.clone()
	if err := op(n); err != nil {
		panic(fmt.Sprintf("%s: %v", what, err))
	}
	e.capture(n)
	e.emit(exMove{actor: actor, what: what}, n)
}

// edit makes a move of which the store hears nothing.
func (e *explorer) edit(actor int, what string, op func(n *exState)) {
	n := e.state.clone()
	op(n)
	e.emit(exMove{actor: actor, what: what}, n)
}

// moves makes every move that is possible in a state, and calls emit with what follows.
func (e *explorer) moves(s *exState, emit func(exMove, *exState)) {
	e.state, e.emit = s, emit
	for i := range e.actors {
		switch c := &e.actors[i]; {
		case c.writer():
			e.write(i)
		default:
			e.request(i)
			if c.writes != 0 {
				e.transaction(i)
			}
		}
		a := &s.actors[i]
		if (a.pc == exDead || a.pc == exDone) && !a.lapsed && s.fencedBy(i) {
			e.edit(i, "has been away for longer than its lease", func(n *exState) { n.actors[i].lapsed = true })
		}
		if a.pc == exLimbo {
			e.edit(i, "is dead: the database commits it", func(n *exState) { e.commits(n, i, exDead) })
			e.edit(i, "is dead: the database rolls it back", func(n *exState) { e.rollsBack(n, i, exDead) })
		}
	}
	for i, d := range s.late {
		if d.op != exNoOp && d.op != exSpent {
			e.arrive(i, d)
		}
	}
	if e.losses > 0 {
		e.lose()
	}
	if e.evict {
		for i := range exIDs[:4] {
			if s.records[i].there && s.records[i].fences == 0 {
				e.edit(-1, "the store drops "+exIDs[i].String(), func(n *exState) { n.records[i] = exRecord{} })
			}
		}
	}
}

// exLoss is the owner of the fence that a sweep after a loss sets.
const exLoss = Owner("~lost")

// lose makes the moves of a store that loses what it holds. The first who comes to it afterwards sweeps.
// Requests keep the tokens that they have read here: that they are forgotten is for those that came
// from another server.
func (e *explorer) lose() {
	s := e.state
	if int(s.losses) < e.losses {
		if !s.saved {
			e.edit(-1, "a snapshot of the store is taken", func(n *exState) {
				n.saved, n.snapshot, n.then = true, s.records, s.clock
			})
		}
		e.edit(-1, "the store comes back empty", func(n *exState) {
			n.records, n.clock = [exRecords]exRecord{}, 0
			e.sweep(n)
		})
		if s.saved {
			e.edit(-1, "the store comes back from the snapshot", func(n *exState) {
				n.records, n.clock = s.snapshot, s.then
				e.sweep(n)
			})
		}
	}
	if s.fencedBy(exGrace) && !s.graceful && e.settled() {
		e.edit(-1, "the two seconds are over", func(n *exState) { n.graceful = true })
	}
}

// sweep is what the first does who comes to a store that was lost: a process with what it has seen.
func (e *explorer) sweep(n *exState) {
	n.losses++
	n.saved, n.snapshot, n.then, n.graceful = false, [exRecords]exRecord{}, 0, false
	if e.broken.noSweep {
		return
	}
	everything := &n.records[slices.Index(exIDs[:], sweepAll)]
	stamp := max(n.clock, everything.stamp) + 1
	if !e.broken.noMinute {
		// A minute is more than all that can have been given out.
		stamp = max(stamp, e.state.clock+1)
	}
	n.clock, everything.there, everything.stamp = stamp, true, stamp
	if !e.broken.noGrace {
		everything.fences |= 1 << exGrace
	}
}

// settled reports whether each commit that was under way is over, or has its fence: what is so
// two seconds after a loss.
func (e *explorer) settled() bool {
	for i := range e.actors {
		switch a := &e.state.actors[i]; a.pc {
		case exFenced, exLimbo, exCommitted:
			var rows uint8
			if e.actors[i].writer() {
				rows = e.actors[i].writes
			} else {
				rows = a.layers[0] | a.layers[1] | a.captured[0] | a.captured[1]
			}
			for row := range exRows {
				if rows&(1<<row) != 0 && e.state.records[row].fences&(1<<i) == 0 && !e.actors[i].unknown {
					return false
				}
			}
		}
	}
	return true
}

// locked reports whether another transaction holds one of the rows in the database.
func (e *explorer) locked(i int, rows uint8) bool {
	for j := range e.actors {
		if i == j {
			continue
		}
		a := &e.state.actors[j]
		switch held := e.held(j, a); a.pc {
		case exBegun, exFenced, exLimbo:
			if held&rows != 0 {
				return true
			}
		}
	}
	return false
}

func (e *explorer) held(j int, a *exActor) uint8 {
	if e.actors[j].writer() {
		return e.actors[j].writes
	}
	return a.layers[0] | a.layers[1]
}

// commits makes actor's writes true in the database.
func (e *explorer) commits(n *exState, i int, next exPC) {
	a := &n.actors[i]
	for row := range exRows {
		if e.held(i, a)&(1<<row) == 0 {
			continue
		}
		n.db[row]++
		top := uint8(0)
		if a.layers[1]&(1<<row) != 0 {
			top = 1
		}
		n.turn(row, exDirty+top, n.db[row])
		n.turn(row, exDirty+1-top, exGone)
	}
	a.pc, a.depth, a.layers = next, 0, [2]uint8{}
	if next == exCommitted && !e.actors[i].writer() {
		a.depth = 1 // the ledger still has it
	}
}

// rollsBack undoes actor's writes in the database.
func (e *explorer) rollsBack(n *exState, i int, next exPC) {
	a := &n.actors[i]
	if !e.actors[i].writer() {
		for row := range exRows {
			if e.held(i, a)&(1<<row) != 0 {
				n.turn(row, exDirty, exGone)
				n.turn(row, exDirty+1, exGone)
			}
		}
	}
	a.pc, a.depth, a.layers = next, 0, [2]uint8{}
}

// twice runs op, and in another future also leaves a second one on its way.
func (e *explorer) twice(i int, what string, d exOp, op func(n *exState) error) {
	e.do(i, what, op)
	if e.late == 0 {
		return
	}
	for at := range e.late {
		if e.state.late[at].op == exNoOp {
			e.do(i, what+", and a second one is on its way", func(n *exState) error {
				n.late[at] = exDuplicate{d, uint8(i)}
				return op(n)
			})
			return
		}
	}
}

func (e *explorer) arrive(at int, d exDuplicate) {
	i := int(d.actor)
	store, owner, changes := e.stores[e.actors[i].process], e.owners[i], e.changes[i]
	what := [...]string{exFence: "fence", exPublish: "publish", exRelease: "release"}[d.op]
	e.do(i, "its second "+what+" arrives", func(n *exState) error {
		n.late[at].op = exSpent
		n.actors[i].lapsed = n.actors[i].lapsed && d.op != exFence
		switch d.op {
		case exFence:
			return store.Fence(e.ctx, owner, changes, exLease)
		case exPublish:
			_, err := store.Publish(e.ctx, owner, changes)
			return err
		default:
			return store.Release(e.ctx, owner, changes)
		}
	})
}

// write makes the moves of a writer, whose transaction changes the same rows each time. It tries
// until one commits.
func (e *explorer) write(i int) {
	c, a := &e.actors[i], &e.state.actors[i]
	store, owner, changes := e.stores[c.process], e.owners[i], e.changes[i]
	fence := func() error {
		if e.broken.noFence {
			return nil
		}
		return store.Fence(e.ctx, owner, changes, exLease)
	}
	switch a.pc {
	case exNone:
		if e.locked(i, c.writes) {
			return
		}
		e.twice(i, "writes, fences", exFence, func(n *exState) error {
			n.actors[i].pc = exFenced
			return fence()
		})
	case exFenced:
		e.edit(i, "COMMIT", func(n *exState) { e.commits(n, i, exCommitted) })
		e.twice(i, "ROLLBACK, releases", exRelease, func(n *exState) error {
			e.rollsBack(n, i, exNone)
			if e.late > 0 {
				n.actors[i].pc = exDone // an owner is never used again
			}
			return store.Release(e.ctx, owner, changes)
		})
		e.edit(i, "ROLLBACK, dies before release", func(n *exState) { e.rollsBack(n, i, exDead) })
		e.edit(i, "dies in COMMIT", func(n *exState) { n.actors[i].pc = exLimbo })
		if !e.broken.noFence {
			e.do(i, "renews its fence", func(*exState) error { return fence() })
			e.do(i, "loses the connection in COMMIT, abandons", func(n *exState) error {
				n.actors[i].pc = exLimbo
				return store.Abandon(e.ctx, owner, changes, exLease)
			})
		}
	case exCommitted:
		e.twice(i, "publishes", exPublish, func(n *exState) error {
			n.actors[i].pc = exDone
			_, err := store.Publish(e.ctx, owner, changes)
			return err
		})
		e.edit(i, "dies before publish", func(n *exState) { n.actors[i].pc = exDead })
		e.do(i, "publishes, dies before it knows", func(n *exState) error {
			n.actors[i].pc = exDead
			_, err := store.Publish(e.ctx, owner, changes)
			return err
		})
	}
}

// The rules that a request goes by, stated once more: tokens know nothing of requests.

func (e *explorer) usable(i int, token Token) bool {
	if token.Fenced {
		return false
	}
	if e.ledgers {
		for _, id := range e.keys[e.actors[i].key].ids {
			if e.scopes[i].Changed(id) || e.procs[i].Changed(id) {
				return false
			}
		}
	}
	return true
}

// clean reports whether nothing of the request's own or the process's transactions can be in a
// value of its.
func (e *explorer) clean(i int) bool {
	if !e.ledgers {
		return true
	}
	if e.scopes[i].Writing() {
		return false
	}
	for _, id := range e.keys[e.actors[i].key].ids {
		if e.procs[i].Changed(id) {
			return false
		}
		if !e.broken.noLost && (e.scopes[i].Lost(id) || e.procs[i].Lost(id)) {
			return false
		}
	}
	return true
}

// request makes the moves of a request that wants a value. It begins anew for ever.
func (e *explorer) request(i int) {
	s := e.state
	c, a := &e.actors[i], &s.actors[i]
	key := &e.keys[c.key]
	store := e.stores[c.process]
	ends := func(a *exActor) {
		if c.reader() {
			*a = exActor{pc: a.pc, lapsed: a.lapsed}
			return
		}
		a.phase, a.tok, a.storable, a.com = exOpen, 0, false, [exRows]uint8{}
	}
	if a.phase != exIdle && (a.pc == exNone || a.pc == exDone || a.pc == exDead) {
		e.edit(i, "is over", func(n *exState) { n.actors[i] = exActor{pc: a.pc, lapsed: a.lapsed} })
	}
	switch a.phase {
	case exIdle:
		if c.writes != 0 && a.pc == exLimbo {
			return // the request died
		}
		e.restore(s)
		seen := store.Seen()
		e.edit(i, "request begins", func(n *exState) { n.actors[i].phase, n.actors[i].w = exOpen, seen })
	case exOpen:
		e.load(i)
		e.do(i, "reads its tokens", func(n *exState) error {
			tokens, err := store.Read(e.ctx, key.ids)
			if err != nil {
				return err
			}
			var token Token
			for _, t := range tokens {
				token.Stamp = max(token.Stamp, t.Stamp)
				token.Fenced = token.Fenced || t.Fenced
			}
			a := &n.actors[i]
			if !e.usable(i, token) {
				return nil
			}
			a.phase, a.tok = exAsked, token.Stamp
			a.storable = (token.Stamp <= a.w || e.broken.noGuard) && e.clean(i)
			for row := range exRows {
				if key.rows&(1<<row) != 0 {
					a.com[row] = s.db[row]
				}
			}
			if c.reader() {
				a.w = 0 // it has done its part
			}
			return nil
		})
	case exAsked:
		for _, v := range s.values {
			if int(v.key) != c.key || v.version != a.tok {
				continue
			}
			n := s.clone()
			ends(&n.actors[i])
			e.emit(exMove{i, "finds a value", e.judge(i, v)}, n)
		}
		e.edit(i, "finds no value", func(n *exState) {
			a := &n.actors[i]
			if !a.storable {
				ends(a)
				return
			}
			a.phase, a.com = exMissed, [exRows]uint8{}
		})
	case exMissed:
		e.load(i)
		if a.has != key.rows {
			return
		}
		if e.broken.judgeOnce {
			e.edit(i, "stores its value", func(n *exState) {
				n.keep(exValue{uint8(c.key), a.tok, a.val})
				ends(&n.actors[i])
			})
			return
		}
		e.restore(s)
		if e.clean(i) {
			e.edit(i, "stores its value", func(n *exState) {
				n.keep(exValue{uint8(c.key), a.tok, a.val})
				ends(&n.actors[i])
			})
		} else {
			e.edit(i, "must not store its value", func(n *exState) { ends(&n.actors[i]) })
		}
	}
}

// judge says what is wrong with a hit.
func (e *explorer) judge(i int, v exValue) string {
	s := e.state
	a := &s.actors[i]
	for row := range exRows {
		if e.keys[v.key].rows&(1<<row) == 0 {
			continue
		}
		switch got := v.val[row]; {
		case got >= exDirty:
			return fmt.Sprintf("DIRTY HIT: what it holds of row %d was never committed", row+1)
		case got < a.com[row]:
			return fmt.Sprintf("STALE HIT: change %d of row %d, and %d was committed when the tokens were read", got, row+1, a.com[row])
		}
	}
	return ""
}

// load makes the moves in which a request loads its rows, within its transaction or beside it.
func (e *explorer) load(i int) {
	s := e.state
	a := &s.actors[i]
	missing := e.keys[e.actors[i].key].rows &^ a.has
	if missing == 0 {
		return
	}
	loads := func(what string, rows uint8, inside bool) {
		e.edit(i, what, func(n *exState) {
			a := &n.actors[i]
			a.has |= rows
			for row := range exRows {
				if rows&(1<<row) == 0 {
					continue
				}
				a.val[row] = s.db[row]
				for depth, written := range a.layers {
					if inside && written&(1<<row) != 0 {
						a.val[row] = exDirty + uint8(depth)
					}
				}
			}
		})
	}
	loads("loads its rows", missing, false)
	if e.torn && missing == 3 {
		loads("loads row 1", 1, false)
		loads("loads row 2", 2, false)
	}
	if a.pc == exBegun || a.pc == exFenced {
		if missing&(a.layers[0]|a.layers[1]) != 0 {
			loads("loads its rows in its transaction", missing, true)
		}
	}
}

// transaction makes the moves of a request's own transaction.
func (e *explorer) transaction(i int) {
	s := e.state
	c, a := &e.actors[i], &s.actors[i]
	store, owner := e.stores[c.process], e.owners[i]
	if a.phase == exIdle {
		return
	}
	e.restore(s)
	w := func() *Writes { return e.writes[i] } // restored before each move
	dies := func(n *exState, pc exPC) {
		n.actors[i] = exActor{pc: pc, lapsed: a.lapsed, depth: a.depth, layers: a.layers}
	}
	rollback := func(n *exState) error {
		e.rollsBack(n, i, exNone)
		w().End(RolledBack)
		return nil
	}
	switch a.pc {
	case exNone:
		e.edit(i, "BEGIN", func(n *exState) { n.actors[i].pc, n.actors[i].depth = exBegun, 1 })
	case exBegun:
		for row := range exRows {
			if c.writes&(1<<row) == 0 || e.locked(i, 1<<row) {
				continue
			}
			e.do(i, fmt.Sprintf("writes row %d", row+1), func(n *exState) error {
				a := &n.actors[i]
				n.turn(row, exDirty+a.depth-1, exGone) // what it had written before, overwritten
				a.layers[a.depth-1] |= 1 << row
				if c.captures {
					w().Incomplete()
				} else {
					w().Add(exIDs[row])
				}
				return nil
			})
		}
		if c.savepoints && a.depth == 1 {
			e.do(i, "SAVEPOINT", func(n *exState) error {
				n.actors[i].depth = 2
				w().Savepoint("s")
				return nil
			})
		}
		if a.depth == 2 {
			e.do(i, "ROLLBACK TO", func(n *exState) error {
				for row := range exRows {
					if a.layers[1]&(1<<row) != 0 {
						n.turn(row, exDirty+1, exGone)
					}
				}
				n.actors[i].layers[1] = 0
				if !w().RollbackTo("S") {
					return fmt.Errorf("no savepoint")
				}
				return nil
			})
			e.do(i, "RELEASE SAVEPOINT", func(n *exState) error {
				a := &n.actors[i]
				for row := range exRows {
					if a.layers[1]&(1<<row) != 0 {
						n.turn(row, exDirty, exGone)
						n.turn(row, exDirty+1, exDirty)
					}
				}
				a.layers = [2]uint8{a.layers[0] | a.layers[1]}
				a.depth = 1
				if !w().ReleaseSavepoint("S") {
					return fmt.Errorf("no savepoint")
				}
				return nil
			})
		}
		e.do(i, "ROLLBACK", rollback)
		if a.layers == [2]uint8{} {
			e.do(i, "COMMIT of nothing", func(n *exState) error {
				e.rollsBack(n, i, exNone)
				w().End(Committed)
				return nil
			})
			break
		}
		e.do(i, "fences", func(n *exState) error {
			n.actors[i].pc = exFenced
			if c.captures {
				for row := range exRows {
					if e.held(i, a)&(1<<row) != 0 {
						w().Add(exIDs[row])
					}
				}
			}
			if e.broken.noFence {
				return nil
			}
			return store.Fence(e.ctx, owner, w().Changes(), exLease)
		})
		e.edit(i, "its process dies", func(n *exState) {
			e.rollsBack(n, i, exDead)
			dies(n, exDead)
			n.actors[i].depth, n.actors[i].layers = 0, [2]uint8{}
		})
	case exFenced:
		e.edit(i, "COMMIT", func(n *exState) {
			captured := n.actors[i].captured
			e.commits(n, i, exCommitted)
			a := &n.actors[i]
			a.captured = [2]uint8{captured[0] | captured[1]}
		})
		e.do(i, "ROLLBACK, releases", func(n *exState) error {
			changes := w().Changes()
			if err := rollback(n); err != nil {
				return err
			}
			return store.Release(e.ctx, owner, changes)
		})
		e.do(i, "loses the connection in COMMIT, abandons", func(n *exState) error {
			n.actors[i].pc = exLimbo
			changes := w().Changes()
			w().End(Unknown)
			return store.Abandon(e.ctx, owner, changes, exLease)
		})
		e.edit(i, "its process dies in COMMIT", func(n *exState) { dies(n, exLimbo) })
	case exCommitted:
		e.do(i, "publishes", func(n *exState) error {
			changes := w().Changes()
			if _, err := store.Publish(e.ctx, owner, changes); err != nil {
				return err
			}
			w().End(Committed)
			a := &n.actors[i]
			a.pc, a.depth = exDone, 0
			// The request forgets the tokens of what it has changed.
			if a.phase == exAsked || a.phase == exMissed {
				for _, id := range e.keys[c.key].ids {
					if changes.Affect(id) {
						a.phase, a.tok, a.storable, a.com = exOpen, 0, false, [exRows]uint8{}
					}
				}
			}
			return nil
		})
		e.edit(i, "its process dies before publish", func(n *exState) {
			dies(n, exDead)
			n.actors[i].depth = 0
		})
	}
}
