package tokens

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/puzpuzpuz/xsync/v4"
)

// exResult is what an exploration found.
type exResult struct {
	states, moves int
	hits, stores  int
	wrong         []string // the interleaving that leads to a violation
}

// explore visits every state that a scenario can reach, breadth first, so that the first violation
// is one of the shortest.
func explore(sc *exScenario, broken exBreak) (result exResult) {
	e := newExplorer(sc, broken)
	defer e.close()
	sc = e.exScenario
	var (
		order  []string
		parent []int32
		at     int
		seen   = make(map[string]struct{})
		buf    []byte
	)
	visit := func(s *exState) {
		s.canonical(sc, broken)
		buf = s.encode(sc, buf[:0])
		if _, ok := seen[string(buf)]; ok {
			return
		}
		code := string(buf)
		seen[code] = struct{}{}
		order, parent = append(order, code), append(parent, int32(at))
	}
	visit(e.first())
	var s exState
	for ; at < len(order) && result.wrong == nil; at++ {
		s.decode(sc, order[at])
		e.moves(&s, func(m exMove, n *exState) {
			result.moves++
			switch m.what {
			case "finds a value":
				result.hits++
			case "stores its value":
				result.stores++
			}
			if m.wrong != "" && result.wrong == nil {
				result.wrong = append(e.path(order, parent, at), m.String())
			}
			visit(n)
		})
	}
	result.states = len(order)
	return result
}

// path tells the moves that lead to a state. Requests of one kind change places on the way: what
// matters is that one of them did it.
func (e *explorer) path(order []string, parent []int32, at int) (lines []string) {
	state := e.state
	var states []int
	for ; at != 0; at = int(parent[at]) {
		states = append(states, at)
	}
	from := 0
	for i := len(states) - 1; i >= 0; i-- {
		var s exState
		s.decode(e.exScenario, order[from])
		found := ""
		e2 := *e
		e2.moves(&s, func(m exMove, n *exState) {
			n.canonical(e.exScenario, e.broken)
			if found == "" && string(n.encode(e.exScenario, nil)) == order[states[i]] {
				found = m.String()
			}
		})
		s.decode(e.exScenario, order[states[i]])
		lines = append(lines, fmt.Sprintf("%-45s [%v]", found, &s))
		from = states[i]
	}
	e.restore(state)
	return lines
}

func (r *exResult) interleaving() string {
	var b strings.Builder
	for i, line := range r.wrong {
		fmt.Fprintf(&b, "%3d. %s\n", i+1, line)
	}
	return b.String()
}

// The keys of the scenarios.
var (
	exRow1  = exKey{ids: exIDs[0:1], rows: 1}
	exTable = exKey{ids: exIDs[2:3], rows: 3}
	exBoth  = exKey{ids: []ID{exIDs[0], exIDs[2]}, rows: 3}
	exAll   = exKey{ids: exIDs[3:4], rows: 3}
)

func exWriter(rows uint8) exConfig { return exConfig{key: -1, writes: rows} }
func exSweeper(rows uint8) exConfig {
	return exConfig{key: -1, writes: rows, unknown: true}
}
func exReader(key int) exConfig { return exConfig{key: key} }

func exIn(process int, c exConfig) exConfig {
	c.process = process
	return c
}

// exScenarios returns the smaller setting, or the full one: two writers and three readers in each
// way that they can meet, and requests that have transactions of their own.
func exScenarios(full bool) []exScenario {
	// The requests that take part in the full setting only.
	more := func(actors []exConfig, rest ...exConfig) []exConfig {
		if full {
			actors = append(actors, rest...)
		}
		return actors
	}
	late := 1
	if full {
		late = 2
	}
	own := exConfig{key: 0, writes: 1, savepoints: true}
	scenarios := []exScenario{
		{
			name: "two rows of a table, readers of the table",
			keys: []exKey{exTable},
			actors: more([]exConfig{exWriter(1), exWriter(2), exReader(0), exReader(0)},
				exReader(0)),
		}, {
			name: "two rows, rows loaded one by one", torn: true,
			keys:   []exKey{exTable},
			actors: more([]exConfig{exWriter(1), exWriter(2), exReader(0)}, exReader(0)),
		}, {
			name: "nothing was ever read", cold: true,
			keys:   []exKey{exTable},
			actors: more([]exConfig{exWriter(1), exWriter(2), exReader(0)}, exReader(0)),
		}, {
			name: "one row", keys: []exKey{exRow1},
			actors: more([]exConfig{exWriter(1), exWriter(1), exReader(0), exReader(0)},
				exReader(0)),
		}, {
			name:   "readers of a row and its table at once, and of the table",
			keys:   []exKey{exTable, exBoth},
			actors: more([]exConfig{exWriter(1), exWriter(2), exReader(1)}, exReader(0)),
		}, {
			name:   "a writer whose rows are not known",
			keys:   []exKey{exRow1, exTable},
			actors: more([]exConfig{exSweeper(3), exWriter(1), exReader(0)}, exReader(1)),
		}, {
			name: "readers of everything",
			keys: []exKey{exAll},
			actors: more([]exConfig{exSweeper(2), exWriter(1), exReader(0)},
				exReader(0), exReader(0)),
		}, {
			name: "operations arrive twice, and late", late: late,
			keys:   []exKey{exRow1},
			actors: more([]exConfig{exWriter(1), exWriter(1), exReader(0)}, exReader(0)),
		}, {
			name: "late, on two rows", late: 1,
			keys:   []exKey{exTable},
			actors: more([]exConfig{exWriter(1), exWriter(2), exReader(0)}, exReader(0)),
		}, {
			name: "the store drops records", evict: true,
			keys:   []exKey{exRow1},
			actors: more([]exConfig{exWriter(1), exWriter(1), exReader(0)}, exReader(0)),
		}, {
			name: "the store is lost", losses: 1,
			keys:   []exKey{exRow1},
			actors: more([]exConfig{exWriter(1), exWriter(1), exReader(0)}, exReader(0)),
		}, {
			name: "the store is lost twice", losses: 2,
			keys:   []exKey{exRow1},
			actors: more([]exConfig{exWriter(1), exReader(0)}, exReader(0)),
		}, {
			name: "the store is lost, two processes", losses: 1,
			keys: []exKey{exTable},
			actors: more([]exConfig{exIn(0, exWriter(1)), exIn(0, exReader(0))},
				exIn(1, exReader(0))),
		}, {
			name: "two processes",
			keys: []exKey{exTable},
			actors: more([]exConfig{exIn(0, exWriter(1)), exIn(1, exWriter(2)), exIn(0, exReader(0))},
				exIn(1, exReader(0))),
		}, {
			name: "own transaction",
			keys: []exKey{exRow1},
			actors: more([]exConfig{own, exReader(0)},
				exReader(0)),
		}, {
			name: "own transaction beside a writer of the row",
			keys: []exKey{exRow1},
			actors: more([]exConfig{{key: 0, writes: 1}, exWriter(1)},
				exReader(0)),
		}, {
			name: "own transaction on two rows", torn: full,
			keys:   []exKey{exTable},
			actors: more([]exConfig{{key: 0, writes: 3, savepoints: full}, exReader(0)}),
		}, {
			name: "own transaction that its capture knows at COMMIT only",
			keys: []exKey{exRow1},
			actors: more([]exConfig{{key: 0, writes: 1, savepoints: true, captures: true}, exReader(0)},
				exWriter(1)),
		}, {
			name: "own transaction begun without a scope",
			keys: []exKey{exRow1},
			actors: more([]exConfig{{key: 0, writes: 1, savepoints: true, scopeless: true}, exReader(0)},
				exReader(0)),
		},
	}
	if full {
		scenarios = append(scenarios, exScenario{
			name: "two requests with transactions, one without a scope",
			keys: []exKey{exRow1},
			actors: []exConfig{
				{key: 0, writes: 1},
				{key: 0, writes: 1, scopeless: true},
			},
		})
	}
	return scenarios
}

// TestExplore explores the protocol on the real Store and the real memory backend: every
// interleaving of the steps of writers and requests, a crash after every step, without a limit on
// the number of steps. No request may find a value that is older than what had been committed when
// its tokens were read, or one that was never committed. ALKEY_EXPLORE=full adds more requests; that
// takes minutes.
func TestExplore(t *testing.T) {
	var states atomic.Int64
	t.Cleanup(func() { t.Logf("%d distinct states in all", states.Load()) })
	for _, sc := range exScenarios(os.Getenv("ALKEY_EXPLORE") == "full") {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			r := explore(&sc, exBreak{})
			t.Logf("%d distinct states, %d moves, %d hits, %d values stored", r.states, r.moves, r.hits, r.stores)
			states.Add(int64(r.states))
			if r.wrong != nil {
				t.Fatalf("a hit that breaks a promise:\n%s", r.interleaving())
			}
			if r.hits == 0 || r.stores == 0 {
				t.Error("nothing was found in the cache, so nothing was checked")
			}
		})
	}
}

// TestExploreFindsFaults breaks the protocol on purpose: the explorer must see it.
func TestExploreFindsFaults(t *testing.T) {
	two := exScenario{keys: []exKey{exTable}, actors: []exConfig{exWriter(1), exWriter(2), exReader(0), exReader(0)}}
	one := exScenario{keys: []exKey{exRow1}, actors: []exConfig{exWriter(1), exWriter(1), exReader(0), exReader(0)}}
	lost := exScenario{losses: 1, keys: []exKey{exRow1}, actors: []exConfig{exWriter(1), exReader(0)}}
	own := exScenario{keys: []exKey{exRow1}, actors: []exConfig{{key: 0, writes: 1, savepoints: true}, exReader(0)}}
	scopeless := exScenario{keys: []exKey{exRow1}, actors: []exConfig{{key: 0, writes: 1, scopeless: true}, exReader(0)}}
	for _, test := range []struct {
		name     string
		broken   exBreak
		scenario exScenario
		want     string
	}{
		{"no fence", exBreak{noFence: true}, one, "STALE"},
		{"no guard", exBreak{noGuard: true}, one, "STALE"},
		{"one owner at a time", exBreak{backend: func(m *Memory) Backend { return oneOwner{m} }}, two, "STALE"},
		{"release keeps stamp 0", exBreak{backend: func(m *Memory) Backend { return zeroKept{m} }}, one, "STALE"},
		{"storable judged only when asked", exBreak{judgeOnce: true}, own, "DIRTY"},
		{"storable judged only when asked, no scope", exBreak{judgeOnce: true}, scopeless, "DIRTY"},
		{"what was taken back is forgotten", exBreak{noLost: true}, own, "DIRTY"},
		{"what was taken back is forgotten, no scope", exBreak{noLost: true}, scopeless, "DIRTY"},
		{"a fence past its deadline is dropped without a new stamp", exBreak{backend: func(m *Memory) Backend { return oldStamp{m} }}, one, "STALE"},
		{"publish lifts all fences", exBreak{backend: func(m *Memory) Backend { return liftsAll{m} }}, two, "STALE"},
		{"a store that was lost is not swept", exBreak{noSweep: true}, lost, "STALE"},
		{"nothing is fenced after a loss", exBreak{noGrace: true}, lost, "STALE"},
		{"lost stamps are given out again", exBreak{noMinute: true}, lost, "STALE"},
		{"publish keeps the stamp", exBreak{backend: func(m *Memory) Backend { return sameStamp{m} }}, one, "STALE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := explore(&test.scenario, test.broken)
			if r.wrong == nil {
				t.Fatalf("not found in %d states", r.states)
			}
			t.Logf("found after %d states:\n%s", r.states, r.interleaving())
			if last := r.wrong[len(r.wrong)-1]; !strings.Contains(last, test.want+" HIT") {
				t.Errorf("found %q, want a hit that is %s", last, test.want)
			}
		})
	}
}

// oneOwner keeps one fence on a record: the last.
type oneOwner struct{ *Memory }

func (b oneOwner) Fence(ctx context.Context, owner Owner, ids []ID, lease time.Duration) error {
	for _, id := range ids {
		each(b.Memory, id, func(r *record) *record {
			if r != nil {
				r.fences = nil
			}
			return r
		})
	}
	return b.Memory.Fence(ctx, owner, ids, lease)
}

// each replaces a record.
func each(m *Memory, id ID, change func(*record) *record) {
	m.records.Compute(id, func(old *record, _ bool) (*record, xsync.ComputeOp) {
		if old != nil {
			old = &record{stamp: old.stamp, fences: old.fences}
		}
		if r := change(old); r != nil {
			return r, xsync.UpdateOp
		}
		return nil, xsync.DeleteOp
	})
}

// zeroKept leaves a record bare with stamp 0, and takes 0 for a stamp.
type zeroKept struct{ *Memory }

func (b zeroKept) Release(_ context.Context, owner Owner, ids []ID) error {
	for _, id := range ids {
		each(b.Memory, id, func(r *record) *record {
			if r != nil {
				r.fences = r.without(owner).fences
			}
			return r
		})
	}
	return nil
}

func (b zeroKept) Read(ctx context.Context, ids []ID) (Snapshot, error) {
	bare := make([]bool, len(ids))
	for i, id := range ids {
		r, ok := b.records.Load(id)
		bare[i] = ok && r.stamp == 0 && len(r.fences) == 0
	}
	var others []ID
	for i, id := range ids {
		if !bare[i] {
			others = append(others, id)
		}
	}
	snap, err := b.Memory.Read(ctx, others)
	states := make([]State, len(ids))
	for i := range ids {
		if !bare[i] {
			states[i], snap.States = snap.States[0], snap.States[1:]
		}
	}
	return Snapshot{snap.Clock, states}, err
}

// oldStamp drops fences past their deadline and changes nothing else.
type oldStamp struct{ *Memory }

func (b oldStamp) Read(ctx context.Context, ids []ID) (Snapshot, error) {
	for _, id := range ids {
		each(b.Memory, id, func(r *record) *record {
			if r != nil && r.stamp != 0 {
				r.fences = r.live(b.now().UnixMicro())
			}
			return r
		})
	}
	return b.Memory.Read(ctx, ids)
}

// liftsAll lifts the fences of others too when it publishes.
type liftsAll struct{ *Memory }

func (b liftsAll) Publish(ctx context.Context, owner Owner, ids []ID) (Stamp, error) {
	for _, id := range ids {
		each(b.Memory, id, func(r *record) *record {
			if r != nil {
				r.fences = nil
			}
			return r
		})
	}
	return b.Memory.Publish(ctx, owner, ids)
}

// sameStamp lifts fences when it publishes and gives no new stamp.
type sameStamp struct{ *Memory }

func (b sameStamp) Publish(ctx context.Context, owner Owner, ids []ID) (Stamp, error) {
	return Stamp(b.clock.Load()), b.Release(ctx, owner, ids)
}
