package tokens_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/alkey-go/alkey/tokens"
	"pgregory.net/rapid"
)

var ledgerIDs = []tokens.ID{user1, user2, users, order1, orders, tokens.Global}

// TestLedgerLaws compares ledgers with a reference that keeps every change in plain lists: what is
// open, what a COMMIT would make true, and what each view has lost.
func TestLedgerLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &ledgers{}
		for i := range m.real {
			m.real[i] = new(tokens.Ledger)
		}
		t.Repeat(map[string]func(*rapid.T){
			"Begin":            m.begin,
			"Join":             m.join,
			"Add":              m.add,
			"Incomplete":       m.incomplete,
			"Savepoint":        m.savepoint,
			"ReleaseSavepoint": m.release,
			"RollbackTo":       m.rollbackTo,
			"End":              m.end,
			"View":             m.view,
			"":                 m.check,
		})
	})
}

// ledgers is the reference, beside two real ones.
type ledgers struct {
	real         [2]*tokens.Ledger
	transactions []*transaction
	views        []*view
}

type transaction struct {
	real       *tokens.Writes
	in         [2]bool
	layers     []savepoint
	dirty      bool
	incomplete bool
	ended      bool
}

type savepoint struct {
	name string
	ids  []tokens.ID
}

type view struct {
	real *tokens.View
	of   int
	lost []tokens.ID
}

func affects(changes []tokens.ID, id tokens.ID) bool {
	return slices.ContainsFunc(changes, id.DependsOn)
}

func (x *transaction) changes() (ids []tokens.ID) {
	for _, l := range x.layers {
		ids = append(ids, l.ids...)
	}
	return ids
}

// lose tells the views of what was taken back.
func (m *ledgers) lose(x *transaction, ids []tokens.ID) {
	if x.incomplete {
		ids = append(slices.Clone(ids), tokens.Global)
	}
	for _, v := range m.views {
		if x.in[v.of] {
			v.lost = append(v.lost, ids...)
		}
	}
}

// pick draws a transaction, ended or not.
func (m *ledgers) pick(t *rapid.T) *transaction {
	if len(m.transactions) == 0 {
		t.Skip("no transaction")
	}
	return rapid.SampledFrom(m.transactions).Draw(t, "transaction")
}

func (m *ledgers) open(t *rapid.T) *transaction {
	x := m.pick(t)
	if x.ended {
		t.Skip("it has ended")
	}
	return x
}

func (m *ledgers) begin(t *rapid.T) {
	at := rapid.IntRange(0, 1).Draw(t, "ledger")
	x := &transaction{real: m.real[at].Begin(), layers: make([]savepoint, 1)}
	x.in[at] = true
	m.transactions = append(m.transactions, x)
}

func (m *ledgers) join(t *rapid.T) {
	x, at := m.open(t), rapid.IntRange(0, 1).Draw(t, "ledger")
	m.real[at].Join(x.real)
	x.in[at] = true
}

func (m *ledgers) add(t *rapid.T) {
	x, id := m.open(t), rapid.SampledFrom(ledgerIDs).Draw(t, "id")
	x.real.Add(id)
	top := &x.layers[len(x.layers)-1]
	top.ids = append(top.ids, id)
	x.dirty = true
}

func (m *ledgers) incomplete(t *rapid.T) {
	x := m.open(t)
	x.real.Incomplete()
	x.dirty, x.incomplete = true, true
}

var savepointNames = rapid.SampledFrom([]string{"a", "A", "b"})

func (m *ledgers) savepoint(t *rapid.T) {
	x, name := m.open(t), savepointNames.Draw(t, "name")
	x.real.Savepoint(name)
	x.layers = append(x.layers, savepoint{name: name})
}

func (x *transaction) find(name string) int {
	for i := len(x.layers) - 1; i > 0; i-- {
		if strings.EqualFold(x.layers[i].name, name) {
			return i
		}
	}
	return -1
}

func (m *ledgers) release(t *rapid.T) {
	x, name := m.open(t), savepointNames.Draw(t, "name")
	at := x.find(name)
	if got := x.real.ReleaseSavepoint(name); got != (at > 0) {
		t.Fatalf("ReleaseSavepoint(%q) = %t", name, got)
	}
	if at > 0 {
		for _, l := range x.layers[at:] {
			x.layers[at-1].ids = append(x.layers[at-1].ids, l.ids...)
		}
		x.layers = x.layers[:at]
	}
}

func (m *ledgers) rollbackTo(t *rapid.T) {
	x, name := m.open(t), savepointNames.Draw(t, "name")
	at := x.find(name)
	if got := x.real.RollbackTo(name); got != (at > 0) {
		t.Fatalf("RollbackTo(%q) = %t", name, got)
	}
	if at > 0 {
		var lost []tokens.ID
		for _, l := range x.layers[at:] {
			lost = append(lost, l.ids...)
		}
		m.lose(x, lost)
		x.layers = x.layers[:at+1]
		x.layers[at].ids = nil
	}
}

func (m *ledgers) end(t *rapid.T) {
	x := m.pick(t)
	outcome := rapid.SampledFrom([]tokens.Outcome{tokens.Committed, tokens.RolledBack, tokens.Unknown}).Draw(t, "outcome")
	x.real.End(outcome)
	if x.ended {
		return // the second time, nothing happens
	}
	x.ended = true
	if outcome != tokens.Committed && x.dirty {
		m.lose(x, x.changes())
	}
}

func (m *ledgers) view(t *rapid.T) {
	at := rapid.IntRange(0, 1).Draw(t, "ledger")
	m.views = append(m.views, &view{real: m.real[at].View(), of: at})
}

func (m *ledgers) check(t *rapid.T) {
	for _, x := range m.transactions {
		if x.ended {
			continue
		}
		if got := x.real.Dirty(); got != x.dirty {
			t.Fatalf("Dirty is %t, want %t", got, x.dirty)
		}
		changes := x.real.Changes()
		if want := tokens.NewChanges(x.changes()...); !slices.Equal(changes.IDs(), want.IDs()) {
			t.Fatalf("COMMIT would change %v, want %v", changes.IDs(), want.IDs())
		}
	}
	if len(m.views) == 0 {
		return
	}
	// Views are asked at different times: what they have not been asked yet, they must catch up on.
	v := rapid.SampledFrom(m.views).Draw(t, "view")
	writing := false
	for _, x := range m.transactions {
		writing = writing || !x.ended && x.in[v.of] && x.dirty
	}
	if got := v.real.Writing(); got != writing {
		t.Fatalf("Writing is %t, want %t", got, writing)
	}
	for _, id := range ledgerIDs {
		changed := false
		for _, x := range m.transactions {
			changed = changed || !x.ended && x.in[v.of] && (x.incomplete || affects(x.changes(), id))
		}
		if got := v.real.Changed(id); got != changed {
			t.Fatalf("Changed(%s) is %t, want %t", id, got, changed)
		}
		if got, want := v.real.Lost(id), affects(v.lost, id); got != want {
			t.Fatalf("Lost(%s) is %t, want %t: %v", id, got, want, v.lost)
		}
	}
}

// What a transaction has written is, at every moment until it commits, either known to be changed
// or known to be lost: a request that looks at both, in this order, never misses it.
func TestLedgerLeavesNoGap(t *testing.T) {
	for _, end := range []func(*tokens.Writes){
		func(w *tokens.Writes) { w.End(tokens.RolledBack) },
		func(w *tokens.Writes) { w.End(tokens.Unknown) },
		func(w *tokens.Writes) { w.RollbackTo("s") },
	} {
		for range 300 {
			l := new(tokens.Ledger)
			v := l.View()
			w := l.Begin()
			w.Savepoint("s")
			w.Add(user1)
			if !v.Writing() || !v.Changed(user1) {
				t.Fatal("an open transaction's change is not known")
			}
			var group sync.WaitGroup
			start := make(chan struct{})
			for range 2 {
				group.Go(func() {
					<-start
					for range 20 {
						if !v.Changed(user1) && !v.Lost(user1) {
							t.Error("neither changed nor lost")
						}
					}
				})
			}
			group.Go(func() {
				<-start
				end(w)
			})
			close(start)
			group.Wait()
			if !v.Lost(user1) || v.Lost(user2) {
				t.Fatalf("lost: row 1 %t, row 2 %t", v.Lost(user1), v.Lost(user2))
			}
			w.End(tokens.RolledBack)
			if v.Writing() {
				t.Fatal("a transaction that has ended is still writing")
			}
			if l.View().Lost(user1) {
				t.Fatal("a view lost what was taken back before it was made")
			}
		}
	}
}

// TestLedgerRace has everything done at once, for the race detector, and looks at what is left.
func TestLedgerRace(t *testing.T) {
	var own, process tokens.Ledger
	early := process.View()
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for n := range 200 {
				w := own.Begin()
				process.Join(w)
				w.Add(tokens.ID{Table: "users", Row: fmt.Sprint(i)})
				w.Savepoint("s")
				w.Add(order1)
				switch n % 4 {
				case 0:
					w.RollbackTo("s")
				case 1:
					w.ReleaseSavepoint("S")
				case 2:
					w.Incomplete()
				}
				// As database/sql does when a context ends.
				var two sync.WaitGroup
				two.Go(func() { w.End(tokens.Committed) })
				two.Go(func() { _ = w.Changes(); _ = w.Dirty() })
				two.Wait()
			}
		})
		group.Go(func() {
			for range 400 {
				for _, l := range []*tokens.Ledger{&own, &process} {
					v := l.View()
					_ = v.Writing()
					_ = v.Changed(users)
					_ = v.Lost(users)
					_ = early.Lost(order1)
				}
			}
		})
	}
	group.Wait()
	for _, l := range []*tokens.Ledger{&own, &process} {
		v := l.View()
		if v.Writing() || v.Changed(tokens.Global) || v.Lost(tokens.Global) {
			t.Error("something is left when all transactions have ended")
		}
	}
	if !early.Lost(order1) || early.Lost(user1) {
		t.Errorf("the first view lost the orders %t and the user %t", early.Lost(order1), early.Lost(user1))
	}
}

func TestOutcomeString(t *testing.T) {
	for outcome, want := range map[tokens.Outcome]string{
		tokens.Committed: "committed", tokens.RolledBack: "rolled back", tokens.Unknown: "unknown",
	} {
		if got := outcome.String(); got != want {
			t.Errorf("%d is %q, want %q", int(outcome), got, want)
		}
	}
}

// A view that nobody asks holds on to nothing that was taken back before it; asking it costs a
// comparison while nothing was.
func BenchmarkViewLost(b *testing.B) {
	var l tokens.Ledger
	v := l.View()
	b.ReportAllocs()
	for b.Loop() {
		if v.Lost(user1) {
			b.Fatal("lost")
		}
	}
}

// What was taken back is freed when no View can see it any more, also in the Store's ledger, which
// lives as long as the process.
func TestLedgerIsFreed(t *testing.T) {
	store := tokens.NewMemory()
	defer store.Close()
	view := store.Ledger().View()
	var first weak.Pointer[tokens.Changes]
	for i := range 100 {
		w := store.Ledger().Begin()
		w.Add(tokens.Row("users", i))
		lost := tokens.LostBy(w)
		if i == 0 {
			first = weak.Make(lost)
		}
	}
	if !view.Lost(tokens.Row("users", 0)) {
		t.Fatal("the view does not know of it")
	}
	deadline := time.Now().Add(20 * time.Second)
	for first.Value() != nil {
		if time.Now().After(deadline) {
			t.Fatal("what was taken back first is kept")
		}
		runtime.GC()
	}
	runtime.KeepAlive(view)
	runtime.KeepAlive(store)
}
