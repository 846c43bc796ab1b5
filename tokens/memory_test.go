package tokens_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
)

// clock is a clock that a test moves.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.at.Store(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

func TestMemoryConformance(t *testing.T) {
	tokenstest.Run(t, func(t testing.TB) tokenstest.Harness {
		c := newClock()
		b := tokens.NewMemoryBackend(tokens.MemoryOptions{Now: c.now})
		t.Cleanup(func() { _ = b.Close() })
		return tokenstest.Harness{Backend: b, Advance: c.advance}
	})
}

// The same on the clock that applications use.
func TestMemoryConformanceRealClock(t *testing.T) {
	tokenstest.Run(t, func(t testing.TB) tokenstest.Harness {
		b := tokens.NewMemoryBackend(tokens.MemoryOptions{})
		t.Cleanup(func() { _ = b.Close() })
		return tokenstest.Harness{Backend: b}
	})
}

func TestMemoryDropsRecordsPastItsBound(t *testing.T) {
	const bound = 100
	c := newClock()
	b := tokens.NewMemoryBackend(tokens.MemoryOptions{Now: c.now, MaxRecords: bound})
	defer b.Close()
	sweeps := []tokens.ID{{Table: "users", Row: "!"}, {Table: "*", Row: "!"}}
	fenced := []tokens.ID{{Table: "users", Row: "fenced"}, {Table: "users", Row: "*"}}
	kept, err := b.Read(t.Context(), append(sweeps, fenced...))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Fence(t.Context(), "w", fenced, time.Hour); err != nil {
		t.Fatal(err)
	}
	first := make(map[tokens.ID]tokens.Stamp)
	var last tokens.Stamp
	for i := range 10 * bound {
		id := tokens.ID{Table: "users", Row: fmt.Sprint(i)}
		snap, err := b.Read(t.Context(), []tokens.ID{id})
		if err != nil {
			t.Fatal(err)
		}
		first[id], last = snap.States[0].Stamp, snap.Clock
	}
	left := 0
	for id, stamp := range first {
		snap, err := b.Read(t.Context(), []tokens.ID{id})
		if err != nil {
			t.Fatal(err)
		}
		switch got := snap.States[0].Stamp; {
		case got == stamp:
			left++
		case got <= last:
			t.Fatalf("%s was dropped and came back with stamp %d, %d had been given out", id, got, last)
		}
	}
	if left > bound+10 {
		t.Errorf("%d of %d records are left, the bound is %d", left, len(first), bound)
	}
	after, err := b.Read(t.Context(), append(sweeps, fenced...))
	if err != nil {
		t.Fatal(err)
	}
	for i, state := range after.States {
		if state.Stamp != kept.States[i].Stamp || state.Fenced != (i >= len(sweeps)) {
			t.Errorf("a sweep or a fenced record was dropped: %+v, before %+v", state, kept.States[i])
		}
	}
}

// Fences alone are bounded by their transactions; those that are dead may go.
func TestMemoryDropsDeadFences(t *testing.T) {
	const bound = 100
	c := newClock()
	b := tokens.NewMemoryBackend(tokens.MemoryOptions{Now: c.now, MaxRecords: bound})
	defer b.Close()
	for i := range 5 * bound {
		ids := []tokens.ID{{Table: "users", Row: fmt.Sprint(i)}}
		if err := b.Fence(t.Context(), tokens.Owner(fmt.Sprint("w", i)), ids, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	live := 0
	for i := range 5 * bound {
		snap, err := b.Read(t.Context(), []tokens.ID{{Table: "users", Row: fmt.Sprint(i)}})
		if err != nil {
			t.Fatal(err)
		}
		if snap.States[0].Fenced {
			live++
		}
	}
	if live != 5*bound {
		t.Errorf("%d fences before their deadline were dropped", 5*bound-live)
	}
	c.advance(time.Hour)
	stale, err := b.Read(t.Context(), []tokens.ID{{Table: "users", Row: "0"}})
	if err != nil || stale.States[0].Fenced {
		t.Errorf("a dead fence: %+v, %v", stale, err)
	}
}
