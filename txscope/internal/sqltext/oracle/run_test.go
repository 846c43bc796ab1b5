package oracle

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// judge compares what sqltext says of a text with what the other parser says. accepted is false if the
// other takes it for no statement; fault is "" if there is none.
type judge func(text string) (accepted bool, fault string)

// run tries the seeds, and then texts that are made of them.
func run(t *testing.T, m *mutator, seeds []string, n int, judge judge) {
	t.Helper()
	accepted, faults := 0, 0
	seen := map[string]bool{}
	try := func(text string) {
		ok, fault := judge(text)
		if ok {
			accepted++
		}
		if fault == "" {
			return
		}
		small, fault := shrink(text, fault, judge)
		if !seen[small] {
			seen[small] = true
			t.Errorf("%s\nof %q", fault, small)
			faults++
		}
	}
	for _, text := range seeds {
		try(text)
	}
	for i := 0; i < n && faults < 25; i++ {
		try(m.next())
	}
	t.Logf("%d texts tried, of which %d are statements", len(seeds)+n, accepted)
	if faults == 0 && accepted < (len(seeds)+n)/10 {
		t.Error("the other parser takes too few of them for the rest to say much")
	}
}

// shrink leaves out what it can of a text so that there is still a fault.
func shrink(text, fault string, judge judge) (string, string) {
	pieces := split(text)
	for size := len(pieces) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(pieces); {
			less := slices.Concat(pieces[:at], pieces[at+size:])
			if _, f := judge(join(less)); f != "" {
				pieces, fault = less, f
			} else {
				at++
			}
		}
	}
	return join(pieces), fault
}

func source(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

// tally counts how much is claimed of what could be.
type tally struct{ dml, claimed, keys, found, ends int }

// much fails if so little is claimed that its being right says nothing.
func (c *tally) much(t *testing.T) {
	t.Helper()
	if c.dml == 0 || c.claimed < c.dml/2 || c.ends < c.claimed/2 || c.keys == 0 || c.found < c.keys/2 {
		t.Errorf("less than half is claimed of what could be: %+v", *c)
	}
}

// facts are what another parser says of a statement.
type facts struct {
	writes, reads, calls []sqltext.Name
	anywhere             bool
	changes              int // statements that change rows, at any depth
}
