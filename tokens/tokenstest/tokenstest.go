// Package tokenstest holds an implementation of tokens.Backend to its contract. A backend's own
// test calls Run:
//
//	func TestConformance(t *testing.T) {
//		tokenstest.Run(t, func(t testing.TB) tokenstest.Harness {
//			b := mybackend.New(...)
//			t.Cleanup(func() { b.Close() })
//			return tokenstest.Harness{Backend: b}
//		})
//	}
package tokenstest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alkey-go/alkey/tokens"
)

// Harness is one backend under test.
type Harness struct {
	// Backend is used by one test only, which may close it. Whoever made it closes it too.
	Backend tokens.Backend

	// Advance moves the clock of stamps and deadlines, back too where d is negative. nil: the
	// backend runs on a clock of its own. Then the suite waits for short leases to run out.
	Advance func(d time.Duration)

	// MaxOwners is how many owners can have a fence of their own on one record. Default 128.
	MaxOwners int

	// Plant puts a raw text in the place of a record, as a foreign program could. nil: nobody but
	// the backend can write its records. The text of a record is "<stamp>" in decimal, followed by
	// "!<owner>@<deadline>" for every fence.
	Plant func(id tokens.ID, text string)
}

// Run runs the whole suite. open makes a backend that holds no records that another call's
// backend can meet; it registers its clean-up with t.
func Run(t *testing.T, open func(t testing.TB) Harness) {
	tests := []struct {
		name string
		run  func(*suite)
	}{
		{"read", (*suite).read},
		{"fence", (*suite).fence},
		{"publish", (*suite).publish},
		{"release", (*suite).release},
		{"every kind of identifier", (*suite).identifiers},
		{"no identifiers", (*suite).none},
		{"a thousand identifiers", (*suite).thousand},
		{"the same identifier twice", (*suite).repeated},
		{"closed", (*suite).closed},
		{"cancelled", (*suite).cancelled},
		{"stamps ahead of the clock", (*suite).ahead},
		{"foreign values", (*suite).foreign},
		{"owners with any text", (*suite).owners},
		{"many owners", (*suite).crowd},
		{"twice and late", (*suite).late},
		{"crash", (*suite).crash},
		{"model", (*suite).model},
		{"race to mint", (*suite).raceToMint},
		{"race of two writers", (*suite).raceOfWriters},
		{"race beside a third fence", (*suite).raceBesideFence},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.run(&suite{T: t, Harness: open(t)})
		})
	}
}

const (
	long  = time.Hour             // a lease that does not run out in a test
	short = 40 * time.Millisecond // one that does, where the clock cannot be moved
	limit = 30 * time.Second      // for what is polled
)

type suite struct {
	*testing.T
	Harness
	max tokens.Stamp // the largest stamp met
}

var tables atomic.Int64

// row names rows of tables that no other test has: a backend may be shared.
func rows(n int) []tokens.ID {
	table := fmt.Sprintf("t%d", tables.Add(1))
	ids := make([]tokens.ID, n)
	for i := range ids {
		ids[i] = tokens.ID{Table: table, Row: fmt.Sprint(i + 1)}
	}
	return ids
}

func row() tokens.ID { return rows(1)[0] }

// see reads records. What every Snapshot must be is checked here.
func (s *suite) see(ids ...tokens.ID) []tokens.State {
	s.Helper()
	snap, err := s.Backend.Read(s.Context(), ids)
	if err != nil {
		s.Fatalf("Read: %v", err)
	}
	s.check(snap, len(ids))
	return snap.States
}

func (s *suite) check(snap tokens.Snapshot, n int) {
	s.Helper()
	if len(snap.States) != n {
		s.Fatalf("Read of %d records returned %d states", n, len(snap.States))
	}
	if snap.Clock < s.max {
		s.Fatalf("the clock went back from %d to %d", s.max, snap.Clock)
	}
	for i, state := range snap.States {
		if state.Stamp > snap.Clock {
			s.Fatalf("record %d has stamp %d, larger than the clock %d", i, state.Stamp, snap.Clock)
		}
		if state.Stamp == 0 && !state.Fenced {
			s.Fatalf("record %d is usable without a stamp", i)
		}
	}
	s.max = snap.Clock
}

func (s *suite) fences(owner tokens.Owner, lease time.Duration, ids ...tokens.ID) {
	s.Helper()
	if err := s.Backend.Fence(s.Context(), owner, ids, lease); err != nil {
		s.Fatalf("Fence: %v", err)
	}
}

// publishes returns the new stamp, which must be larger than all before.
func (s *suite) publishes(owner tokens.Owner, ids ...tokens.ID) tokens.Stamp {
	s.Helper()
	stamp, err := s.Backend.Publish(s.Context(), owner, ids)
	if err != nil {
		s.Fatalf("Publish: %v", err)
	}
	if stamp <= s.max {
		s.Fatalf("Publish gave stamp %d after %d", stamp, s.max)
	}
	s.max = stamp
	return stamp
}

func (s *suite) releases(owner tokens.Owner, ids ...tokens.ID) {
	s.Helper()
	if err := s.Backend.Release(s.Context(), owner, ids); err != nil {
		s.Fatalf("Release: %v", err)
	}
}

// usable reads one record that must be usable.
func (s *suite) usable(id tokens.ID) tokens.Stamp {
	s.Helper()
	state := s.see(id)[0]
	if state.Fenced {
		s.Fatalf("%s is fenced", id)
	}
	return state.Stamp
}

// fenced reads one record that must be fenced.
func (s *suite) fenced(id tokens.ID) tokens.Stamp {
	s.Helper()
	state := s.see(id)[0]
	if !state.Fenced {
		s.Fatalf("%s is usable with stamp %d", id, state.Stamp)
	}
	return state.Stamp
}

// fresh reads one record that must be usable with a stamp larger than all before.
func (s *suite) fresh(id tokens.ID) tokens.Stamp {
	s.Helper()
	before := s.max
	stamp := s.usable(id)
	if stamp <= before {
		s.Fatalf("%s has stamp %d and not one larger than %d", id, stamp, before)
	}
	return stamp
}

// is reads one record that must be usable with a known stamp.
func (s *suite) is(id tokens.ID, want tokens.Stamp) {
	s.Helper()
	if got := s.usable(id); got != want {
		s.Fatalf("%s has stamp %d, want %d", id, got, want)
	}
}

// lease is one that lapse can let run out.
func (s *suite) lease() time.Duration {
	if s.Advance != nil {
		return time.Minute
	}
	return short
}

// lapse lets leases run out and returns the first stamp with which id is usable.
func (s *suite) lapse(id tokens.ID) tokens.Stamp {
	s.Helper()
	if s.Advance != nil {
		s.Advance(time.Minute + time.Millisecond)
		return s.usable(id)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); <-tick.C {
		if state := s.see(id)[0]; !state.Fenced {
			return state.Stamp
		}
	}
	s.Fatalf("%s is still fenced %v after a lease of %v", id, limit, s.lease())
	return 0
}

func (s *suite) read() {
	ids := rows(3)
	states := s.see(ids...)
	for i, state := range states {
		if state.Fenced || state.Stamp == 0 {
			s.Fatalf("a missing record was read as %+v", state)
		}
		s.is(ids[i], state.Stamp)
	}
	before := s.max
	again := s.see(ids[2], ids[0])
	if again[0] != states[2] || again[1] != states[0] {
		s.Fatal("the states are not in the order of the identifiers")
	}
	if s.max != before {
		s.Fatalf("reading what is there moved the clock from %d to %d", before, s.max)
	}
	if next := s.fresh(row()); next <= before {
		s.Fatalf("a record made later has stamp %d, not larger than %d", next, before)
	}
}

func (s *suite) fence() {
	ids := rows(3)
	known, missing := ids[0], ids[1]
	stamp := s.fresh(known)
	s.fences("w1", long, known, missing)
	if got := s.fenced(known); got != stamp {
		s.Fatalf("the fence changed the stamp from %d to %d", stamp, got)
	}
	if got := s.fenced(missing); got != 0 {
		s.Fatalf("a record made by a fence has stamp %d", got)
	}
	s.fresh(ids[2])

	s.fences("w2", long, known, missing)
	s.releases("w1", known, missing)
	if got := s.fenced(known); got != stamp {
		s.Fatalf("stamp %d beside another owner's fence, want %d", got, stamp)
	}
	if got := s.fenced(missing); got != 0 {
		s.Fatalf("stamp %d beside another owner's fence, want 0", got)
	}
	s.releases("w2", known, missing)
	s.is(known, stamp)

	// Renewed, it lives on past its first deadline, and one lift is enough.
	id := row()
	s.fences("w1", s.lease(), id)
	s.fences("w1", long, id)
	witness := row()
	s.fences("w3", s.lease(), witness)
	s.lapse(witness)
	s.fenced(id)
	s.releases("w1", id)
	s.fresh(id)
}

func (s *suite) publish() {
	ids := rows(4)
	known, missing, made, other := ids[0], ids[1], ids[2], ids[3]
	old := s.see(known, other)
	s.fences("w1", long, known, made)
	stamp := s.publishes("w1", known, missing, made)
	s.is(known, stamp)
	s.is(other, old[1].Stamp)
	// A publish makes no records and deletes those that only fences had made. A reader who finds
	// one gives it a stamp of its own.
	for _, id := range []tokens.ID{missing, made} {
		if got := s.usable(id); got <= stamp {
			s.Fatalf("the publish made a record: stamp %d, published %d", got, stamp)
		}
	}

	// Fences of others stay, and the stamp of nobody stays 0.
	id := row()
	s.fences("w1", long, known, id)
	s.fences("w2", long, known, id)
	stamp = s.publishes("w1", known, id)
	if got := s.fenced(known); got != stamp {
		s.Fatalf("stamp %d, published %d", got, stamp)
	}
	if got := s.fenced(id); got != 0 {
		s.Fatalf("a record that nobody has read was given stamp %d", got)
	}
	stamp = s.publishes("w2", known, id)
	s.is(known, stamp)
	s.fresh(id)

	// Without fences and without an owner: a change by hand.
	stamp = s.publishes("", known)
	s.is(known, stamp)
	s.fences("w1", long, known)
	stamp = s.publishes("", known)
	if got := s.fenced(known); got != stamp {
		s.Fatalf("stamp %d, published %d", got, stamp)
	}
	s.publishes("w1", known)

	// One stamp for all.
	ids = rows(5)
	s.see(ids...)
	stamp = s.publishes("w1", ids...)
	for _, id := range ids {
		s.is(id, stamp)
	}
}

func (s *suite) release() {
	ids := rows(3)
	known, missing, made := ids[0], ids[1], ids[2]
	stamp := s.fresh(known)
	s.fences("w1", long, known, made)
	s.releases("w1", known, missing, made)
	s.is(known, stamp)
	s.fresh(missing)
	s.fresh(made)

	s.fences("w1", long, known)
	s.fences("w2", long, known)
	s.releases("w1", known)
	s.fenced(known)
	s.releases("w2", known)
	s.is(known, stamp)

	// Of part of what was fenced only.
	ids = rows(2)
	s.see(ids...)
	s.fences("w1", long, ids...)
	s.releases("w1", ids[0])
	s.usable(ids[0])
	s.fenced(ids[1])
}

func (s *suite) identifiers() {
	table := row().Table
	ids := []tokens.ID{
		{Table: table, Row: "1"}, {Table: table, Row: "1,2"}, {Table: table, Row: "a%2Fb"}, {Table: table, Row: "0e8c9f0a-4b1d-4d6e-9a70-2f1f6e1a9b11"},
		{Table: table, Row: "*"}, {Table: table, Row: "!"}, {Table: "app." + table, Row: "1"}, {Table: "app." + table, Row: "*"},
		tokens.Global, {Table: "*", Row: "!"},
	}
	for i, state := range s.see(ids...) {
		if state.Fenced {
			s.Fatalf("%s is fenced", ids[i])
		}
	}
	for i, id := range ids {
		before := s.see(ids...)
		s.fences("w1", long, id)
		s.fenced(id)
		stamp := s.publishes("w1", id)
		for j, state := range s.see(ids...) {
			want := before[j]
			if i == j {
				want.Stamp = stamp
			}
			if state != want {
				s.Fatalf("publishing %s made %+v of %s, want %+v", id, state, ids[j], want)
			}
		}
	}
}

func (s *suite) none() {
	s.see()
	s.fences("w1", long)
	s.releases("w1")
	s.publishes("w1")
	s.see()
}

func (s *suite) thousand() {
	ids := rows(1000)
	even := make([]tokens.ID, 0, len(ids)/2)
	for i := 0; i < len(ids); i += 2 {
		even = append(even, ids[i])
	}
	s.see(even...)
	s.fences("w1", long, ids...)
	for i, state := range s.see(ids...) {
		if !state.Fenced || (state.Stamp != 0) != (i%2 == 0) {
			s.Fatalf("record %d is %+v", i, state)
		}
	}
	stamp := s.publishes("w1", ids...)
	states := s.see(ids...)
	for i, state := range states {
		if state.Fenced || (i%2 == 0 && state.Stamp != stamp) || (i%2 == 1 && state.Stamp <= stamp) {
			s.Fatalf("record %d is %+v, published %d", i, state, stamp)
		}
	}
	s.fences("w2", long, ids...)
	s.releases("w2", ids...)
	for i, state := range s.see(ids...) {
		if state != states[i] {
			s.Fatalf("record %d is %+v after the release, want %+v", i, state, states[i])
		}
	}
}

func (s *suite) repeated() {
	id := row()
	states := s.see(id, id)
	if states[0] != states[1] {
		s.Fatalf("one record was read as %+v", states)
	}
	s.fences("w1", long, id, id)
	s.fenced(id)
	stamp := s.publishes("w1", id, id)
	s.is(id, stamp)
	s.fences("w1", long, id, id)
	s.releases("w1", id, id)
	s.is(id, stamp)
	made := row()
	s.fences("w1", long, made, made)
	s.releases("w1", made, made)
	s.fresh(made)
}

// each yields every operation on id.
func (s *suite) each(id tokens.ID) map[string]func(context.Context) error {
	ids := []tokens.ID{id}
	return map[string]func(context.Context) error{
		"Read":    func(ctx context.Context) error { _, err := s.Backend.Read(ctx, ids); return err },
		"Fence":   func(ctx context.Context) error { return s.Backend.Fence(ctx, "w1", ids, long) },
		"Publish": func(ctx context.Context) error { _, err := s.Backend.Publish(ctx, "w1", ids); return err },
		"Release": func(ctx context.Context) error { return s.Backend.Release(ctx, "w1", ids) },
	}
}

func (s *suite) closed() {
	id := row()
	s.see(id)
	if err := s.Backend.Close(); err != nil {
		s.Fatalf("Close: %v", err)
	}
	for name, op := range s.each(id) {
		if err := op(s.Context()); !errors.Is(err, tokens.ErrClosed) {
			s.Errorf("%s after Close: %v", name, err)
		}
	}
}

func (s *suite) cancelled() {
	id := row()
	stamp := s.usable(id)
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	for name, op := range s.each(id) {
		if err := op(ctx); !errors.Is(err, context.Canceled) {
			s.Errorf("%s with a cancelled context: %v", name, err)
		}
	}
	s.is(id, stamp)
}

// ahead: a stamp may be larger than what the host's clock says, and a new one is larger still.
func (s *suite) ahead() {
	ids := rows(4)
	known := s.fresh(ids[0])
	switch {
	case s.Advance != nil:
		s.Advance(-24 * time.Hour)
	case s.Plant != nil:
		known += 24 * 3600 * 1_000_000
		s.Plant(ids[0], fmt.Sprint(int64(known)))
	default:
		s.Skip("needs Advance or Plant")
	}
	stamp, err := s.Backend.Publish(s.Context(), "w1", ids[:1])
	if err != nil {
		s.Fatal(err)
	}
	if stamp <= known {
		s.Fatalf("published %d on a record with stamp %d", stamp, known)
	}
	s.max = stamp
	s.is(ids[0], stamp)
	s.fresh(ids[1])

	// The same where a dead fence is repaired.
	stamp = s.usable(ids[2])
	if s.Plant != nil {
		stamp += 48 * 3600 * 1_000_000
		s.Plant(ids[2], fmt.Sprintf("%d!w2@1", int64(stamp)))
	} else {
		s.fences("w2", s.lease(), ids[2])
		s.Advance(time.Hour)
	}
	if got := s.usable(ids[2]); got <= stamp {
		s.Fatalf("a fence past its deadline was dropped and stamp %d became %d", stamp, got)
	}
	s.fresh(ids[3])

	// A stamp that was read is behind the clock, so that a publish of anything else is larger: an
	// argument's token is the largest of several records'.
	if s.Plant == nil {
		return
	}
	other := row()
	s.fresh(other)
	planted := s.usable(ids[3]) + 72*3600*1_000_000
	s.Plant(ids[3], fmt.Sprint(int64(planted)))
	if got := s.usable(ids[3]); got != planted {
		s.Fatalf("the stamp %d is read as %d", planted, got)
	}
	if stamp, err := s.Backend.Publish(s.Context(), "w3", []tokens.ID{other}); err != nil || stamp <= planted {
		s.Fatalf("published %d, %v, after %d was read", stamp, err, planted)
	}
}

func (s *suite) foreign() {
	if s.Plant == nil {
		s.Skip("needs Plant")
	}
	for _, text := range []string{
		"", "0", "00", "-5", "abc", "12x", "x12", " 12", "1.5e9", "1700000000.123456", "99999999999999999999", "0x1f",
		"!", "12!", "12!w1", "12!w1@", "12!@5", "12!w1@x", "12!w1@-5", "12!!", "12!w1@5!", "\x00", "12\n", "12!w1@99999999999999999999", "€",
	} {
		id := row()
		s.Plant(id, text)
		s.stays(id, s.fresh(id), "planted %q", text)

		id = row()
		s.Plant(id, text)
		s.fences("w1", long, id)
		if got := s.fenced(id); got != 0 {
			s.Errorf("%q fenced has stamp %d", text, got)
		}
		s.publishes("w1", id)
		s.fresh(id)

		for name, op := range s.each(id) {
			if name == "Read" || name == "Fence" {
				continue
			}
			id = row()
			s.Plant(id, text)
			if err := op(s.Context()); err != nil {
				s.Errorf("%s of %q: %v", name, text, err)
			}
			s.see()
			s.fresh(id)
		}
	}

	// A record that the backend itself could have written.
	id := row()
	stamp := s.usable(id)
	s.Plant(id, fmt.Sprint(int64(stamp)))
	s.is(id, stamp)
	s.Plant(id, fmt.Sprintf("%d!w1@%d!w2@%d", int64(stamp), int64(1)<<52, int64(1)<<52))
	s.fenced(id)
	s.releases("w1", id)
	s.fenced(id)
	s.releases("w2", id)
	s.is(id, stamp)
}

func (s *suite) stays(id tokens.ID, want tokens.Stamp, format string, args ...any) {
	s.Helper()
	if got := s.usable(id); got != want {
		s.Errorf("%s: stamp %d became %d", fmt.Sprintf(format, args...), want, got)
	}
}

// owners: one owner's text may be the beginning or the end of another's, or mean something to a
// search.
func (s *suite) owners() {
	owners := []tokens.Owner{"w", "w1", "1w", "W", "w.", "%w", "w-1", "[w]", "^w$", tokens.NewOwner()}
	id := row()
	stamp := s.usable(id)
	for _, o := range owners {
		s.fences(o, long, id)
	}
	for i, o := range owners {
		s.releases(o, id)
		if i < len(owners)-1 {
			s.fenced(id)
		}
	}
	s.is(id, stamp)
	for _, o := range owners {
		s.fences("other", long, id)
		s.fences(o, long, id)
		s.releases("other", id)
		s.fenced(id)
		s.publishes(o, id)
		s.usable(id)
	}
}

// crowd: owners past the bound share a fence that none of them lifts, and that stands as long as each of
// theirs would have.
func (s *suite) crowd() {
	most := s.MaxOwners
	if most == 0 {
		most = 128
	}
	ids := rows(2)
	known, made := ids[0], ids[1]
	stamp := s.usable(known)
	owner := func(i int) tokens.Owner { return tokens.Owner(fmt.Sprintf("w%d", i)) }
	for i := range most {
		s.fences(owner(i), long, ids...)
	}
	s.fences(owner(0), long, ids...) // who is there already stays one
	for i := range most {
		s.releases(owner(i), ids...)
	}
	s.is(known, stamp)
	s.fresh(made)

	// One more than there is room for.
	ids = rows(2)
	known, made = ids[0], ids[1]
	stamp = s.usable(known)
	for i := range most {
		s.fences(owner(i), long, ids...)
	}
	lease := time.Duration(most+12) * short
	if s.Advance != nil {
		lease = time.Minute
	}
	s.fences("late", lease, ids...)
	s.fences("later", lease/2, ids...)
	for i := range most {
		s.releases(owner(i), ids...)
	}
	s.releases("later", ids...)
	if got := s.fenced(known); got != stamp {
		s.Fatalf("stamp %d beside the crowd's fence, want %d", got, stamp)
	}
	s.fenced(made)
	published := s.publishes("late", ids...)
	if got := s.fenced(known); got != published {
		s.Fatalf("stamp %d, published %d", got, published)
	}
	if got := s.fenced(made); got != 0 {
		s.Fatalf("a record that nobody has read was given stamp %d", got)
	}
	if s.Advance != nil {
		s.Advance(lease/2 + time.Second)
		s.fenced(known) // the lease of the one who came before
	}
	if got := s.lapse(known); got <= published {
		s.Fatalf("stamp %d after the crowd's lease, published %d", got, published)
	}
	s.lapse(made)

	// There is room again.
	stamp = s.usable(known)
	s.fences("late", long, known)
	s.releases("late", known)
	s.is(known, stamp)
}

// late: a client library may run an operation twice, and the second time after others have gone on.
func (s *suite) late() {
	for _, start := range []string{"missing", "stamped"} {
		s.Run(start, func(t *testing.T) {
			s := &suite{T: t, Harness: s.Harness, max: s.max}
			fresh := func() tokens.ID {
				id := row()
				if start == "stamped" {
					s.usable(id)
				}
				return id
			}

			id := fresh() // a fence twice
			s.fences("w1", long, id)
			s.fences("w1", long, id)
			s.publishes("w1", id)
			s.usable(id)

			id = fresh() // a publish twice
			s.fences("w1", long, id)
			s.publishes("w1", id)
			s.publishes("w1", id)
			s.usable(id)

			id = fresh() // a publish late: another's fence stays
			s.fences("w1", long, id)
			s.publishes("w1", id)
			s.fences("w2", long, id)
			s.publishes("w1", id)
			s.fenced(id)
			s.publishes("w2", id)
			s.usable(id)

			id = fresh() // a publish late: readers have gone on
			s.fences("w1", long, id)
			s.publishes("w1", id)
			s.usable(id)
			stamp := s.publishes("w1", id)
			s.is(id, stamp)

			id = fresh() // a release twice
			s.fences("w1", long, id)
			s.releases("w1", id)
			s.releases("w1", id)
			stamp = s.usable(id)
			s.releases("w1", id) // and late
			s.is(id, stamp)
			s.fences("w2", long, id)
			s.releases("w1", id)
			s.fenced(id)
			s.publishes("w1", id) // whoever has no fence lifts none
			s.fenced(id)
			s.releases("w2", id)
			s.usable(id)

			id = fresh() // a fence late: only until its lease has run out
			s.fences("w1", s.lease(), id)
			s.publishes("w1", id)
			stamp = s.usable(id)
			s.fences("w1", s.lease(), id)
			if got := s.lapse(id); got <= stamp {
				s.Fatalf("after the lease of a late fence stamp %d became %d", stamp, got)
			}
		})
	}
}
