package tokens

import (
	"strings"
	"sync"
	"sync/atomic"
)

// Ledger knows what open transactions have changed and what ended transactions took back, so that
// nobody stores what he may have read of it. A request's scope has one for its own transactions,
// and the Store has one for the transactions that were begun without a scope. The zero value is
// empty and ready to use. Safe for concurrent use.
type Ledger struct {
	mu   sync.Mutex
	open map[*Writes]struct{}

	written atomic.Int32 // open transactions that have written
	// The last link of a list that is followed forwards only: a View holds the link that was last
	// when it was made, so the garbage collector frees what no View can still see. Nil while there
	// is none but first.
	last  atomic.Pointer[undone]
	first undone
}

// outlive makes the first link apart from the ledger. A ledger that lives as long as the process
// would otherwise keep the whole list, by its head.
func (l *Ledger) outlive() { l.last.Store(new(undone)) }

// undone is something that was changed and taken back: rolled back, or of unknown outcome.
type undone struct {
	changes *Changes
	next    *undone
}

func (l *Ledger) tail() *undone {
	if last := l.last.Load(); last != nil {
		return last
	}
	return &l.first
}

// Begin enters a transaction that has written nothing so far.
func (l *Ledger) Begin() *Writes {
	w := new(Writes)
	w.layers = w.base[:]
	w.ledgers = append(w.first[:0], l)
	l.enter(w)
	return w
}

func (l *Ledger) enter(w *Writes) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		l.open = make(map[*Writes]struct{})
	}
	l.open[w] = struct{}{}
}

// take notes that changes were made and taken back.
func (l *Ledger) take(changes *Changes) {
	if changes.Empty() {
		return
	}
	n := &undone{changes: changes}
	l.mu.Lock()
	l.tail().next = n
	l.last.Store(n)
	l.mu.Unlock()
}

// Outcome is how a transaction ended.
type Outcome int

// The outcomes.
const (
	Committed  Outcome = iota // for certain
	RolledBack                // for certain
	Unknown                   // the connection was lost in COMMIT, say
)

// String names the outcome.
func (o Outcome) String() string {
	switch o {
	case Committed:
		return "committed"
	case RolledBack:
		return "rolled back"
	default:
		return "unknown"
	}
}

// Writes is what one transaction has changed, in layers: one for the transaction and one for every
// savepoint in it. Safe for concurrent use: database/sql rolls back from another goroutine when a
// context ends.
type Writes struct {
	mu         sync.Mutex
	limits     *ChangeLimits // nil: the default
	first      [1]*Ledger    // where ledgers begins: most transactions have one
	ledgers    []*Ledger
	base       [1]layer // where layers begins: most have no savepoint
	layers     []layer
	dirty      bool
	incomplete bool
	ended      bool
}

type layer struct {
	name    string // of the savepoint; "" for the transaction
	changes Changes
}

// Join enters the transaction in another ledger too: its changes reach requests that l serves.
func (l *Ledger) Join(w *Writes) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	for _, have := range w.ledgers {
		if have == l {
			return
		}
	}
	w.ledgers = append(w.ledgers, l)
	l.enter(w)
	if w.dirty {
		l.written.Add(1)
	}
}

// Limit bounds what the transaction and its savepoints tell apart, all together. Call it before
// anything is added, and do not modify the limits afterwards.
func (w *Writes) Limit(limits *ChangeLimits) {
	limits = limits.complete()
	w.mu.Lock()
	w.limits = limits
	for i := range w.layers {
		w.layers[i].changes.limits = limits
	}
	w.mu.Unlock()
}

// Add notes that the transaction has changed id: a row, a table (all its rows) or Global.
func (w *Writes) Add(id ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.touch()
	newest := &w.layers[len(w.layers)-1].changes
	newest.Add(id)
	if len(w.layers) == 1 {
		return
	}
	// Each layer keeps within the limits by itself.
	rows, tables := 0, 0
	for i := range w.layers {
		r, t := w.layers[i].changes.told()
		rows, tables = rows+r, tables+t
	}
	switch l := newest.limit(); {
	case tables > l.Tables:
		newest.Add(Global)
	case rows > l.Rows:
		newest.sweepRows()
	}
}

// Incomplete notes that the transaction has changed what the capture cannot tell yet: until it
// ends, and for good if it does not commit, it may have changed anything.
func (w *Writes) Incomplete() {
	w.mu.Lock()
	w.touch()
	w.incomplete = true
	w.mu.Unlock()
}

// touch needs w.mu.
func (w *Writes) touch() {
	if w.dirty || w.ended {
		return
	}
	w.dirty = true
	for _, l := range w.ledgers {
		l.written.Add(1)
	}
}

// Dirty reports whether the transaction has written, even if a savepoint took it back.
func (w *Writes) Dirty() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dirty
}

// Changes returns a copy of what a COMMIT now would make true.
func (w *Writes) Changes() *Changes {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.total()
}

// total needs w.mu.
func (w *Writes) total() *Changes {
	c := &Changes{limits: w.limits}
	for i := range w.layers {
		c.Merge(&w.layers[i].changes)
	}
	return c
}

// Savepoint begins a layer. Names are compared without case and can repeat, as in SQL.
func (w *Writes) Savepoint(name string) {
	w.mu.Lock()
	w.layers = append(w.layers, layer{name: name, changes: Changes{limits: w.limits}})
	w.mu.Unlock()
}

// ReleaseSavepoint gives the layers from the newest savepoint of that name on to the one below. It
// is false if there is none.
func (w *Writes) ReleaseSavepoint(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := w.find(name)
	if at < 0 {
		return false
	}
	for i := at; i < len(w.layers); i++ {
		w.layers[at-1].changes.Merge(&w.layers[i].changes)
	}
	w.layers = w.layers[:at]
	return true
}

// RollbackTo forgets what was changed since the newest savepoint of that name, which stays. What
// is forgotten is not stored by anybody who may have read it. It is false if there is none.
func (w *Writes) RollbackTo(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := w.find(name)
	if at < 0 {
		return false
	}
	lost := &Changes{limits: w.limits}
	for i := at; i < len(w.layers); i++ {
		lost.Merge(&w.layers[i].changes)
	}
	if w.incomplete {
		lost.Add(Global)
	}
	// In this order: there is no moment at which nobody knows of what was lost.
	for _, l := range w.ledgers {
		l.take(lost)
	}
	w.layers[at].changes = Changes{limits: w.limits}
	w.layers = w.layers[:at+1]
	return true
}

// Outermost reports whether the newest savepoint of that name is the oldest of all.
func (w *Writes) Outermost(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.find(name) == 1
}

// find needs w.mu. The layer of the transaction itself has no name.
func (w *Writes) find(name string) int {
	for i := len(w.layers) - 1; i > 0; i-- {
		if strings.EqualFold(w.layers[i].name, name) {
			return i
		}
	}
	return -1
}

// End closes the transaction. Calling it again does nothing.
func (w *Writes) End(o Outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	w.ended = true
	var lost *Changes
	if o != Committed && w.dirty {
		lost = w.total()
		if w.incomplete {
			lost.Add(Global)
		}
	}
	for _, l := range w.ledgers {
		if lost != nil {
			l.take(lost)
		}
		l.mu.Lock()
		delete(l.open, w)
		l.mu.Unlock()
		if w.dirty {
			l.written.Add(-1)
		}
	}
}

// affect reports whether what has been written so far can be seen in a value made from id.
func (w *Writes) affect(id ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.incomplete {
		return true
	}
	for i := range w.layers {
		if w.layers[i].changes.Affect(id) {
			return true
		}
	}
	return false
}

// View is a ledger as one request sees it: what is open now, and what was taken back since the
// View was made. Safe for concurrent use.
type View struct {
	ledger *Ledger
	mu     sync.Mutex
	at     *undone
	lost   Changes
	clean  atomic.Pointer[undone] // the last link, if nothing has been lost up to it
}

// View makes a view that begins now.
func (l *Ledger) View() *View {
	v := new(View)
	v.Open(l)
	return v
}

// Open makes of the zero View one of l that begins now.
func (v *View) Open(l *Ledger) {
	v.ledger, v.at = l, l.tail()
	v.clean.Store(v.at)
}

// Writing reports whether a transaction that has written is open.
func (v *View) Writing() bool { return v.ledger.written.Load() > 0 }

// Changed reports whether an open transaction has changed what a value made from id depends on.
func (v *View) Changed(id ID) bool {
	if !v.Writing() {
		return false
	}
	v.ledger.mu.Lock()
	open := make([]*Writes, 0, len(v.ledger.open))
	for w := range v.ledger.open {
		open = append(open, w)
	}
	v.ledger.mu.Unlock()
	for _, w := range open {
		if w.affect(id) {
			return true
		}
	}
	return false
}

// Lost reports whether something that a value made from id depends on was changed and taken back
// since the view was made.
func (v *View) Lost(id ID) bool {
	if v.clean.Load() == v.ledger.tail() {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	last := v.ledger.tail()
	for v.at != last {
		v.ledger.mu.Lock()
		v.at = v.at.next
		v.ledger.mu.Unlock()
		v.lost.Merge(v.at.changes)
	}
	if v.lost.Empty() {
		v.clean.Store(last)
	} else {
		v.clean.Store(nil) // which would keep all that follows it
	}
	return v.lost.Affect(id)
}
