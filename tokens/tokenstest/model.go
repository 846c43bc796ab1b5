package tokenstest

import (
	"time"

	"github.com/alkey-go/alkey/tokens"
	"pgregory.net/rapid"
)

// model compares the backend with a reference of a few lines, in random interleavings of several
// owners on a few records.
func (s *suite) model() {
	rapid.Check(s.T, func(t *rapid.T) {
		m := &reference{
			suite:   s,
			records: make(map[tokens.ID]*entry),
			ids:     append(rows(3), rows(1)...),
			owners:  []tokens.Owner{"w1", "w2", "w3", ""},
		}
		actions := map[string]func(*rapid.T){
			"Read":    m.read,
			"Fence":   m.fence,
			"Publish": m.publish,
			"Release": m.release,
		}
		if s.Advance != nil {
			actions["Advance"] = m.advance
		}
		t.Repeat(actions)
	})
}

// reference is what the records should be. Stamps are compared by order: what a new one is, is the
// backend's business.
type reference struct {
	suite   *suite
	records map[tokens.ID]*entry // nil: missing
	ids     []tokens.ID
	owners  []tokens.Owner
	now     time.Duration // by which the clock was advanced
}

// entry is one record.
type entry struct {
	stamp  tokens.Stamp
	fences map[tokens.Owner]time.Duration // deadlines
	// Past their deadline when the record was published: dropping them then was as good as
	// dropping them at the next read, with another new stamp.
	settled bool
}

func (m *reference) some(t *rapid.T) []tokens.ID {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(m.ids), 1, len(m.ids), rapid.ID[tokens.ID]).Draw(t, "ids")
}

func (m *reference) owner(t *rapid.T) tokens.Owner {
	return rapid.SampledFrom(m.owners).Draw(t, "owner")
}

func (m *reference) advance(t *rapid.T) {
	d := time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second
	m.suite.Advance(d)
	m.now += d
}

func (r *entry) live(now time.Duration) (live, dead int) {
	for _, deadline := range r.fences {
		if deadline > now {
			live++
		} else {
			dead++
		}
	}
	return live, dead
}

func (m *reference) read(t *rapid.T) {
	ids := m.some(t)
	before := m.suite.max
	snap, err := m.suite.Backend.Read(m.suite.Context(), ids)
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	if snap.Clock < before {
		t.Fatalf("the clock went back from %d to %d", before, snap.Clock)
	}
	m.suite.max = snap.Clock
	for i, id := range ids {
		got, r := snap.States[i], m.records[id]
		if got.Stamp > snap.Clock {
			t.Fatalf("%s: stamp %d is larger than the clock %d", id, got.Stamp, snap.Clock)
		}
		if r == nil {
			r = &entry{}
			m.records[id] = r
		}
		live, dead := r.live(m.now)
		if got.Fenced != (live > 0) {
			t.Fatalf("%s: fenced is %t, with %d live fences", id, got.Fenced, live)
		}
		switch {
		case r.stamp == 0 && live > 0:
			if got.Stamp != 0 {
				t.Fatalf("%s: stamp %d of a record that only fences have made", id, got.Stamp)
			}
		case r.stamp == 0, dead > 0 && !r.settled:
			if got.Stamp <= before {
				t.Fatalf("%s: stamp %d is not new: %d was given out", id, got.Stamp, before)
			}
		case dead > 0:
			if got.Stamp != r.stamp && got.Stamp <= before {
				t.Fatalf("%s: stamp %d is neither new nor the published %d", id, got.Stamp, r.stamp)
			}
		case got.Stamp != r.stamp:
			t.Fatalf("%s: stamp %d, want %d", id, got.Stamp, r.stamp)
		}
		r.stamp, r.settled = got.Stamp, false
		for o, deadline := range r.fences {
			if deadline <= m.now {
				delete(r.fences, o)
			}
		}
	}
}

func (m *reference) fence(t *rapid.T) {
	ids, owner := m.some(t), m.owner(t)
	if owner == "" {
		owner = "w1"
	}
	lease := time.Hour
	if m.suite.Advance != nil {
		lease = time.Duration(rapid.IntRange(1, 60).Draw(t, "lease")) * time.Second
	}
	if err := m.suite.Backend.Fence(m.suite.Context(), owner, ids, lease); err != nil {
		t.Fatalf("Fence: %v", err)
	}
	for _, id := range ids {
		r := m.records[id]
		if r == nil {
			r = &entry{}
			m.records[id] = r
		}
		if r.fences == nil {
			r.fences = make(map[tokens.Owner]time.Duration)
		}
		r.fences[owner] = m.now + lease
	}
}

func (m *reference) publish(t *rapid.T) {
	ids, owner := m.some(t), m.owner(t)
	stamp, err := m.suite.Backend.Publish(m.suite.Context(), owner, ids)
	if err != nil {
		t.Fatalf("Publish: %v", err)
	}
	if stamp <= m.suite.max {
		t.Fatalf("Publish gave stamp %d after %d", stamp, m.suite.max)
	}
	m.suite.max = stamp
	for _, id := range ids {
		r := m.records[id]
		if r == nil {
			continue
		}
		delete(r.fences, owner)
		if r.stamp != 0 {
			r.stamp, r.settled = stamp, true
		} else if len(r.fences) == 0 {
			delete(m.records, id)
		}
	}
}

func (m *reference) release(t *rapid.T) {
	ids, owner := m.some(t), m.owner(t)
	if err := m.suite.Backend.Release(m.suite.Context(), owner, ids); err != nil {
		t.Fatalf("Release: %v", err)
	}
	for _, id := range ids {
		r := m.records[id]
		if r == nil {
			continue
		}
		delete(r.fences, owner)
		if r.stamp == 0 && len(r.fences) == 0 {
			delete(m.records, id)
		}
	}
}
