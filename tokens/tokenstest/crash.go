package tokenstest

import (
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

// crash holds the backend to the protocol's table of what readers see after a writer has died at
// each step, before and after its lease.
func (s *suite) crash() {
	type step = func(s *suite, id tokens.ID)
	fence := func(s *suite, id tokens.ID) { s.fences("w1", s.lease(), id) }
	commit := func(*suite, tokens.ID) {} // in the database: the store hears nothing of it
	publish := func(s *suite, id tokens.ID) { s.publishes("w1", id) }
	release := func(s *suite, id tokens.ID) { s.releases("w1", id) }
	table := []struct {
		name          string
		steps         []step
		before, after sight
	}{
		{"before the fence", nil, same, same},
		{"after the fence", []step{fence}, fenced, newer},
		{"after renewing the fence", []step{fence, fence}, fenced, newer},
		{"after COMMIT", []step{fence, commit}, fenced, newer},
		{"in publish, which has not arrived", []step{fence, commit}, fenced, newer},
		{"in publish, which has arrived", []step{fence, commit, publish}, newer, newer},
		{"in publish, which was run twice", []step{fence, commit, publish, publish}, newer, newer},
		{"after publish", []step{fence, commit, publish}, newer, newer},
		{"after publish, of which a fence comes late", []step{fence, commit, publish, fence}, fenced, newer},
		{"after ROLLBACK, before release", []step{fence}, fenced, newer},
		{"after release", []step{fence, release}, same, same},
		{"after release, run twice", []step{fence, release, release}, same, same},
		{"after release, of which a fence comes late", []step{fence, release, fence}, fenced, newer},
	}
	for _, test := range table {
		for _, start := range []string{"missing", "stamped"} {
			s.Run("died "+test.name+", record "+start, func(t *testing.T) {
				s := &suite{T: t, Harness: s.Harness, max: s.max}
				run := func() (tokens.ID, tokens.Stamp) {
					id := row()
					var stamp tokens.Stamp
					if start == "stamped" {
						stamp = s.usable(id)
					}
					for _, step := range test.steps {
						step(s, id)
					}
					return id, stamp
				}

				// Without a clock to move, the lease may be over before anybody can look: what
				// readers see before that is looked at under a long one.
				id, stamp := run()
				if s.Advance == nil && test.before == fenced {
					s.fences("w1", long, id)
				}
				s.sees(id, stamp, test.before)

				id, stamp = run()
				if test.before == fenced {
					if got := s.lapse(id); got <= stamp {
						s.Fatalf("stamp %d became %d after the lease", stamp, got)
					}
					s.usable(id)
				} else {
					s.sees(id, stamp, test.after)
				}
			})
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

// sees compares what a reader sees with what it should.
func (s *suite) sees(id tokens.ID, old tokens.Stamp, want sight) {
	s.Helper()
	before := s.max // the stamp of the publish, if there was one
	switch {
	case want == fenced:
		if got := s.fenced(id); got < old || (old == 0 && got != 0) {
			s.Fatalf("stamp %d became %d under a fence", old, got)
		}
	case want == same && old != 0:
		s.is(id, old)
	case want == same:
		s.fresh(id)
	default:
		if got := s.usable(id); got <= old || got < before {
			s.Fatalf("stamp %d became %d, and %d has been given out", old, got, before)
		}
	}
}
