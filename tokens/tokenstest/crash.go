package tokenstest

import (
	"fmt"
	"testing"

	"github.com/alkey-go/alkey/tokens"
)

// sight is what a reader sees of a record, compared with the stamp it had before the writer came.
type sight int

const (
	same   sight = iota // usable with the stamp from before; a missing record is made anew
	fenced              // not usable
	newer               // usable with a stamp larger than all that were given out before
)

// crash holds the backend to the protocol's table of what readers see after a writer of three
// records has died at each step, before and after its lease. A backend may apply a fence, a publish
// or a release record by record, and a client library may split it: some operations reach a part of
// the records only.
func (s *suite) crash() {
	type records struct{ all, reached []tokens.ID }
	type step = func(s *suite, w records)
	fence := func(s *suite, w records) { s.fences("w1", s.lease(), w.all...) }
	commit := func(*suite, records) {} // in the database: the store hears nothing of it
	publish := func(s *suite, w records) { s.publishes("w1", w.all...) }
	release := func(s *suite, w records) { s.releases("w1", w.all...) }
	fencePart := func(s *suite, w records) { s.fences("w1", s.lease(), w.reached...) }
	publishPart := func(s *suite, w records) { s.publishes("w1", w.reached...) }
	releasePart := func(s *suite, w records) { s.releases("w1", w.reached...) }
	type sights struct{ before, after sight } // the end of the lease
	var (
		untouched = sights{same, same}
		dead      = sights{fenced, newer}
		published = sights{newer, newer}
	)
	table := []struct {
		name          string
		steps         []step
		reached, rest sights
	}{
		{"before the fence", nil, untouched, untouched},
		{"in the fence", []step{fencePart}, dead, untouched},
		{"in the fence, which then arrives", []step{fencePart, fence}, dead, dead},
		{"after the fence", []step{fence}, dead, dead},
		{"after renewing the fence", []step{fence, fence}, dead, dead},
		{"in renewing the fence", []step{fence, fencePart}, dead, dead},
		{"in COMMIT", []step{fence}, dead, dead},
		{"in COMMIT, which was done", []step{fence, commit}, dead, dead},
		{"in COMMIT, in renewing the fence", []step{fence, commit, fencePart}, dead, dead},
		{"after COMMIT", []step{fence, commit}, dead, dead},
		{"in publish, which has not arrived", []step{fence, commit}, dead, dead},
		{"in publish", []step{fence, commit, publishPart}, published, dead},
		{"in publish, of which a fence comes late", []step{fence, commit, publishPart, fencePart}, dead, dead},
		{"in publish, which was run again", []step{fence, commit, publishPart, publish}, published, published},
		{"in publish, which has arrived", []step{fence, commit, publish}, published, published},
		{"in publish, which was run twice", []step{fence, commit, publish, publish}, published, published},
		{"after publish", []step{fence, commit, publish}, published, published},
		{"after publish, of which a fence comes late", []step{fence, commit, publish, fence}, dead, dead},
		{"after ROLLBACK, before release", []step{fence}, dead, dead},
		{"in release", []step{fence, releasePart}, untouched, dead},
		{"after release", []step{fence, release}, untouched, untouched},
		{"after release, run twice", []step{fence, release, release}, untouched, untouched},
		{"after release, of which a fence comes late", []step{fence, release, fence}, dead, dead},
	}
	for _, test := range table {
		for _, start := range []string{"missing", "stamped"} {
			for part := 1; part <= 2; part++ {
				if part > 1 && test.reached == test.rest {
					continue // however far it reached
				}
				s.Run(fmt.Sprintf("died %s, records %s, %d of 3 reached", test.name, start, part), func(t *testing.T) {
					s := &suite{T: t, Harness: s.Harness, max: s.max}
					died := func() *scene {
						c := &scene{suite: s, ids: rows(3), old: make([]tokens.Stamp, 3)}
						if start == "stamped" {
							for i, state := range s.see(c.ids...) {
								c.old[i] = state.Stamp
							}
						}
						c.given = s.max
						for _, step := range test.steps {
							step(s, records{c.ids, c.ids[:part]})
						}
						return c
					}
					before := []sight{test.reached.before, test.rest.before, test.rest.before}
					after := []sight{test.reached.after, test.rest.after, test.rest.after}
					if part == 2 {
						before[1], after[1] = before[0], after[0]
					}

					// Without a clock to move, the lease may be over before anybody can look: what
					// readers see before that is looked at under a long one.
					c := died()
					for i, id := range c.ids {
						if s.Advance == nil && before[i] == fenced {
							s.fences("w1", long, id)
						}
					}
					c.sees(before)

					c = died()
					for i, id := range c.ids {
						if before[i] == fenced {
							s.lapse(id)
						}
					}
					c.sees(after)
				})
			}
		}
	}

	s.Run("another writer is under way", func(t *testing.T) {
		s := &suite{T: t, Harness: s.Harness, max: s.max}
		for _, first := range []bool{true, false} {
			for _, start := range []string{"missing", "stamped"} {
				id := row()
				var stamp tokens.Stamp
				if start == "stamped" {
					stamp = s.usable(id)
				}
				witness := row()
				if first {
					s.fences("w2", long, id)
				}
				s.fences("w1", s.lease(), id, witness)
				if !first {
					s.fences("w2", long, id)
				}
				s.lapse(witness) // w1 has died

				before := s.max
				switch got := s.fenced(id); {
				case start == "missing" && got != 0:
					s.Fatalf("a record that nobody could use was given stamp %d", got)
				case start == "stamped" && got <= before:
					s.Fatalf("a dead fence was dropped and stamp %d became %d", stamp, got)
				}
				if start == "stamped" {
					s.is(id, s.publishes("w2", id))
				} else {
					s.publishes("w2", id)
					s.fresh(id)
				}
			}
		}
	})

	// A release or a fence must not sweep a dead writer's fence away: its commit may be done.
	s.Run("others pass by the dead writer's fence", func(t *testing.T) {
		s := &suite{T: t, Harness: s.Harness, max: s.max}
		for _, pass := range []func(tokens.ID){
			func(id tokens.ID) { s.fences("w2", long, id); s.releases("w2", id) },
			func(id tokens.ID) { s.releases("w2", id) },
		} {
			id, witness := row(), row()
			stamp := s.usable(id)
			s.fences("w1", s.lease(), id, witness)
			s.lapse(witness)
			pass(id)
			if got := s.lapse(id); got <= stamp {
				s.Fatalf("stamp %d became %d after a fence past its deadline was dropped", stamp, got)
			}
		}
	})
}

// scene is what a writer has left: its records, the stamps they had before it came (0: missing), and
// the largest stamp that had been given out then.
type scene struct {
	*suite
	ids   []tokens.ID
	old   []tokens.Stamp
	given tokens.Stamp
}

// sees compares what a reader of all records sees with what it should.
func (c *scene) sees(want []sight) {
	c.Helper()
	given := c.max
	for i, state := range c.see(c.ids...) {
		old, got := c.old[i], state.Stamp
		if state.Fenced != (want[i] == fenced) {
			c.Fatalf("record %d: %+v", i+1, state)
		}
		switch {
		case want[i] == fenced && (got < old || old == 0 && got != 0):
			c.Fatalf("record %d: stamp %d became %d under a fence", i+1, old, got)
		case want[i] == same && (old != 0 && got != old || old == 0 && got <= given):
			c.Fatalf("record %d: stamp %d became %d, and %d has been given out", i+1, old, got, given)
		case want[i] == newer && got <= c.given:
			c.Fatalf("record %d: stamp %d became %d, and %d had been given out before the writer came", i+1, old, got, c.given)
		}
	}
}
