package request_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

// TestNoStaleHit plays writers, crashes and requests of two processes against each other, over a
// simulated database, one token store and one value store. Whatever the interleaving, no hit is older
// than what was committed when the request read its tokens, and none shows what was never
// committed.
func TestNoStaleHit(t *testing.T) {
	hits, fetches := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		defer w.close()
		// Requests are the most frequent by far, and what has begun mostly ends.
		steps := rapid.SampledFrom([]func(*rapid.T){
			w.visit, w.visit, w.visit, w.visit, w.visit, w.visit, w.visit, w.visit, w.finish, w.finish, w.finish,
			w.fetch, w.fetch, w.fetch, w.load, w.open, w.commit, w.commit, w.fence, w.begin, w.advance, w.crash,
		})
		for range rapid.IntRange(200, 600).Draw(t, "steps") {
			steps.Draw(t, "step")(t)
		}
		hits += w.hits
		fetches += w.fetches
	})
	t.Logf("%d hits in %d fetches", hits, fetches)
	if hits*5 < fetches {
		t.Errorf("only %d hits in %d fetches: this shows little", hits, fetches)
	}
}

// lease is how long fences last in the simulation.
const lease = 30 * time.Second

// rows is how many rows the simulated table has.
const rows = 3

// contents is what a reader sees of the table: a version for each row.
type contents map[int]int

// world is the simulation. A version is the number of the write that made it.
type world struct {
	now     time.Time
	backend tokens.Backend
	store   [2]*tokens.Store
	kit     [2]*request.Kit

	committed contents
	order     map[int]int // when a version was committed; what never was is not in it
	last      int         // version
	writers   []*writer
	requests  []*visitor

	hits, fetches int
}

// writer is a transaction that changes one row.
type writer struct {
	process  int
	row      int
	version  int
	owner    tokens.Owner
	fencedAt time.Time
	done     bool           // committed
	ledger   *tokens.Writes // of a transaction that its process's requests may read in; else nil
}

// visitor is a request.
type visitor struct {
	process int
	ctx     context.Context
	loaded  []contents         // kept since the request began
	floor   map[int]int        // per row: the version committed when its token was read
	table   contents           // the same for the table
	asked   map[tokens.ID]bool // whose tokens were read
}

func newWorld() *world {
	w := &world{now: time.UnixMicro(1e15), committed: contents{}, order: map[int]int{}}
	w.backend = tokens.NewMemoryBackend(tokens.MemoryOptions{Now: func() time.Time { return w.now }})
	values := newValues()
	for i := range w.store {
		w.store[i] = tokens.New(w.backend, tokens.WithLogger(slog.New(slog.DiscardHandler)))
		kit, err := request.New(request.Config{Tokens: w.store[i], Values: values, Version: "1"})
		if err != nil {
			panic(err)
		}
		// The requests of the simulation share one goroutine: who waited would wait for ever.
		kit.SetFaults(request.Faults{NoFlights: true})
		w.kit[i] = kit
	}
	for row := range rows {
		w.committed[row] = 0
	}
	w.order[0] = 0
	return w
}

func (w *world) close() {
	for _, s := range w.store {
		_ = s.Close()
	}
}

func (w *world) changes(wr *writer) *tokens.Changes {
	return tokens.NewChanges(tokens.Row("users", wr.row))
}

// begin starts a transaction and makes its change, which only readers inside it see.
func (w *world) begin(t *rapid.T) {
	row := rapid.IntRange(0, rows-1).Draw(t, "row")
	for _, wr := range w.writers {
		if wr.row == row && !wr.done {
			return // the row is locked
		}
	}
	w.last++
	wr := &writer{process: rapid.IntRange(0, 1).Draw(t, "process"), row: row, version: w.last, owner: tokens.NewOwner()}
	if rapid.Bool().Draw(t, "readable inside") {
		wr.ledger = w.store[wr.process].Ledger().Begin()
		wr.ledger.Add(tokens.Row("users", row))
	}
	w.writers = append(w.writers, wr)
}

// pick returns a transaction, or nil if there is none.
func (w *world) pick(t *rapid.T, done bool) *writer {
	var some []*writer
	for _, wr := range w.writers {
		if wr.done == done {
			some = append(some, wr)
		}
	}
	if len(some) == 0 {
		return nil
	}
	return rapid.SampledFrom(some).Draw(t, "transaction")
}

func (w *world) drop(wr *writer) {
	for i, have := range w.writers {
		if have == wr {
			w.writers = append(w.writers[:i:i], w.writers[i+1:]...)
		}
	}
}

func (w *world) fence(t *rapid.T) {
	if wr := w.pick(t, false); wr != nil {
		w.fenceNow(t, wr)
	}
}

func (w *world) fenceNow(t *rapid.T, wr *writer) {
	if err := w.store[wr.process].Fence(context.Background(), wr.owner, w.changes(wr), lease); err != nil {
		t.Fatal(err)
	}
	wr.fencedAt = w.now
}

// commit is the database's part of it. A fence that may have lapsed is renewed first.
func (w *world) commit(t *rapid.T) {
	wr := w.pick(t, false)
	if wr == nil {
		return
	}
	if w.now.Sub(wr.fencedAt) > lease/2 {
		w.fenceNow(t, wr)
	}
	wr.done = true
	w.committed[wr.row] = wr.version
	w.order[wr.version] = len(w.order)
}

// finish publishes a commit, or rolls back and releases.
func (w *world) finish(t *rapid.T) {
	done := rapid.Bool().Draw(t, "committed")
	wr := w.pick(t, done)
	if wr == nil {
		return
	}
	s := w.store[wr.process]
	outcome := tokens.Committed
	if done {
		if _, err := s.Publish(context.Background(), wr.owner, w.changes(wr)); err != nil {
			t.Fatal(err)
		}
	} else {
		outcome = tokens.RolledBack
		if err := s.Release(context.Background(), wr.owner, w.changes(wr)); err != nil {
			t.Fatal(err)
		}
	}
	if wr.ledger != nil {
		wr.ledger.End(outcome)
	}
	w.drop(wr)
}

// crash ends a writer where it stands. Its ledger would die with its process; here it hears that
// the connection was lost.
func (w *world) crash(t *rapid.T) {
	wr := w.pick(t, rapid.Bool().Draw(t, "committed"))
	if wr == nil {
		return
	}
	if wr.ledger != nil {
		wr.ledger.End(tokens.Unknown)
	}
	w.drop(wr)
}

func (w *world) advance(t *rapid.T) {
	w.now = w.now.Add(time.Duration(rapid.Int64Range(0, int64(2*lease)).Draw(t, "by")))
}

// open begins a request that stays for some time.
func (w *world) open(t *rapid.T) {
	if len(w.requests) == 4 {
		w.requests = w.requests[1:]
	}
	w.requests = append(w.requests, w.newVisitor(t))
}

func (w *world) newVisitor(t *rapid.T) *visitor {
	v := &visitor{process: rapid.IntRange(0, 1).Draw(t, "process"), floor: map[int]int{}, asked: map[tokens.ID]bool{}}
	v.ctx, _ = w.kit[v.process].Open(context.Background())
	return v
}

func (w *world) request(t *rapid.T) *visitor {
	if len(w.requests) == 0 {
		w.open(t)
	}
	return rapid.SampledFrom(w.requests).Draw(t, "request")
}

// see reads the database, outside of any transaction or inside those of the process that can be
// read in.
func (w *world) see(t *rapid.T, process int) contents {
	c := maps.Clone(w.committed)
	if rapid.Bool().Draw(t, "inside transactions") {
		for _, wr := range w.writers {
			if wr.process == process && wr.ledger != nil && !wr.done {
				c[wr.row] = wr.version
			}
		}
	}
	return c
}

func (w *world) load(t *rapid.T) {
	v := w.request(t)
	v.loaded = append(v.loaded, w.see(t, v.process))
}

// visit is a request of one question.
func (w *world) visit(t *rapid.T) {
	w.ask(t, w.newVisitor(t), rapid.IntRange(-1, rows-1).Draw(t, "row"))
}

func (w *world) fetch(t *rapid.T) { w.ask(t, w.request(t), rapid.IntRange(-1, rows-1).Draw(t, "row")) }

// ask fetches a row, or the table for -1, and checks a hit.
func (w *world) ask(t *rapid.T, v *visitor, row int) {
	id := tokens.Table("users")
	if row >= 0 {
		id = tokens.Row("users", row)
	}
	if !v.asked[id] {
		v.asked[id] = true
		if row >= 0 {
			v.floor[row] = w.committed[row]
		} else {
			v.table = maps.Clone(w.committed)
		}
	}
	steps := rapid.SampledFrom([]func(*rapid.T){w.begin, w.finish, w.commit, w.fence, w.visit})
	meanwhile := func() {
		for rapid.IntRange(0, 3).Draw(t, "something happens meanwhile") == 3 {
			steps.Draw(t, "meanwhile")(t)
		}
	}
	made := false
	got, err := request.Fetch(v.ctx, func(context.Context) (contents, error) {
		made = true
		meanwhile()
		from := w.see(t, v.process)
		if n := len(v.loaded); n > 0 && rapid.Bool().Draw(t, "loaded before") {
			from = v.loaded[rapid.IntRange(0, n-1).Draw(t, "which")]
		}
		if row >= 0 {
			from = contents{row: from[row]}
		}
		meanwhile()
		return from, nil
	}, id)
	if err != nil {
		t.Fatal(err)
	}
	w.fetches++
	if made {
		return
	}
	w.hits++
	for _, wr := range w.writers {
		if _, in := got[wr.row]; in && wr.ledger != nil && wr.process == v.process {
			t.Fatal(fmt.Sprintf("a hit on %s: a transaction of the process has changed row %d and is open", id, wr.row))
		}
	}
	for r, version := range got {
		at, ok := w.order[version]
		if !ok {
			t.Fatal(fmt.Sprintf("a dirty hit on %s: row %d has version %d, which is not committed", id, r, version))
		}
		floor := v.table[r]
		if row >= 0 {
			floor = v.floor[r]
		}
		if at < w.order[floor] {
			t.Fatal(fmt.Sprintf("a stale hit on %s: row %d has version %d, and %d was committed when the token was read", id, r, version, floor))
		}
	}
}
