package tokens

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/puzpuzpuz/xsync/v4"
)

// Memory is the backend of one process. Records are immutable and replaced under the map's lock on
// their bucket, so readers take no lock at all. As in Redis Cluster every step touches one record:
// a publish takes its stamp first, and a mint takes its stamp while the record cannot be fenced.
type Memory struct {
	records *xsync.Map[ID, *record]
	now     func() time.Time
	max     int64
	owners  int
	clock   atomic.Int64 // a Stamp
	closed  atomic.Bool
	evict   atomic.Bool  // an eviction is running
	full    atomic.Int64 // how many records there must be for the next
}

// MemoryOptions sets up a Memory.
type MemoryOptions struct {
	// Now is the clock of stamps and deadlines. Default: time.Now.
	Now func() time.Time
	// MaxRecords bounds the records. Past it a tenth is dropped, none of them fenced: that changes
	// keys, and nothing else. Default 1,000,000, which is about 200 MB.
	MaxRecords int
	// MaxOwners bounds the transactions that have a fence of their own on one record at a time, as
	// RedisOptions.MaxOwners does. Default 128.
	MaxOwners int
}

type record struct {
	stamp  Stamp
	fences []fence
	one    [1]fence // where a single fence stands: most have no more
}

type fence struct {
	owner    Owner
	deadline int64 // microseconds since the epoch
}

// NewMemoryBackend makes an empty backend. Most callers want NewMemory.
func NewMemoryBackend(opts MemoryOptions) *Memory {
	m := &Memory{
		records: xsync.NewMap[ID, *record](),
		now:     opts.Now,
		max:     int64(opts.MaxRecords),
		owners:  opts.MaxOwners,
	}
	if m.now == nil {
		m.now = time.Now
	}
	if m.max <= 0 {
		m.max = 1_000_000
	}
	if m.owners <= 0 {
		m.owners = defaultMaxOwners
	}
	m.full.Store(m.max)
	return m
}

// tick gives out the next stamp.
func (m *Memory) tick() Stamp {
	now := m.now().UnixMicro()
	for {
		last := m.clock.Load()
		next := max(last+1, now)
		if m.clock.CompareAndSwap(last, next) {
			return Stamp(next)
		}
	}
}

// Read is part of Backend.
func (m *Memory) Read(ctx context.Context, ids []ID) (Snapshot, error) {
	if err := m.check(ctx); err != nil {
		return Snapshot{}, err
	}
	states := make([]State, len(ids))
	for i, id := range ids {
		if r, ok := m.records.Load(id); ok && r.stamp != 0 && len(r.fences) == 0 {
			states[i] = State{Stamp: r.stamp}
			continue
		}
		states[i] = m.mint(id)
	}
	return Snapshot{Clock: Stamp(m.clock.Load()), States: states}, nil
}

// mint makes a record usable if it can be made so.
func (m *Memory) mint(id ID) State {
	r, _ := m.records.Compute(id, func(old *record, _ bool) (*record, xsync.ComputeOp) {
		if old == nil {
			return &record{stamp: m.tick()}, xsync.UpdateOp
		}
		live := old.live(m.now().UnixMicro())
		switch {
		case old.stamp == 0 && len(live) > 0:
			// Nobody has this record's token: it stays at 0.
			return &record{fences: live}, xsync.UpdateOp
		case old.stamp == 0 || len(live) < len(old.fences):
			return &record{stamp: m.tick(), fences: live}, xsync.UpdateOp
		default:
			return old, xsync.CancelOp
		}
	})
	m.bound()
	return State{Stamp: r.stamp, Fenced: len(r.fences) > 0}
}

// Fence is part of Backend.
func (m *Memory) Fence(ctx context.Context, owner Owner, ids []ID, lease time.Duration) error {
	if err := m.check(ctx); err != nil {
		return err
	}
	for _, id := range ids {
		m.records.Compute(id, func(old *record, _ bool) (*record, xsync.ComputeOp) {
			return old.fenced(owner, m.now().Add(lease).UnixMicro(), m.owners), xsync.UpdateOp
		})
	}
	m.bound()
	return nil
}

// Publish is part of Backend.
func (m *Memory) Publish(ctx context.Context, owner Owner, ids []ID) (Stamp, error) {
	if err := m.check(ctx); err != nil {
		return 0, err
	}
	stamp := m.tick()
	for _, id := range ids {
		m.records.Compute(id, func(old *record, _ bool) (*record, xsync.ComputeOp) {
			switch {
			case old == nil:
				return nil, xsync.CancelOp
			case old.stamp == 0 && !old.others(owner):
				return nil, xsync.DeleteOp
			}
			r := old.without(owner)
			if r.stamp != 0 {
				r.stamp = max(r.stamp, stamp)
			}
			return r, xsync.UpdateOp
		})
	}
	return stamp, nil
}

// Release is part of Backend.
func (m *Memory) Release(ctx context.Context, owner Owner, ids []ID) error {
	if err := m.check(ctx); err != nil {
		return err
	}
	for _, id := range ids {
		m.records.Compute(id, func(old *record, _ bool) (*record, xsync.ComputeOp) {
			switch {
			case old == nil:
				return nil, xsync.CancelOp
			case old.stamp == 0 && !old.others(owner):
				return nil, xsync.DeleteOp
			}
			return old.without(owner), xsync.UpdateOp
		})
	}
	return nil
}

// Close is part of Backend.
func (m *Memory) Close() error {
	if m.closed.CompareAndSwap(false, true) {
		m.records.Clear()
	}
	return nil
}

func (m *Memory) check(ctx context.Context) error {
	if m.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}

// bound drops records when there are too many. Map.Size counts stripes of counters, not records.
func (m *Memory) bound() {
	if int64(m.records.Size()) <= m.full.Load() || !m.evict.CompareAndSwap(false, true) {
		return
	}
	defer m.evict.Store(false)
	drop := int64(m.records.Size()) - m.max + m.max/10
	for id := range m.records.All() {
		if drop <= 0 {
			break
		}
		m.records.Compute(id, func(old *record, ok bool) (*record, xsync.ComputeOp) {
			if !ok || id.IsSweep() || len(old.live(m.now().UnixMicro())) > 0 {
				return old, xsync.CancelOp
			}
			drop--
			return nil, xsync.DeleteOp
		})
	}
	// Where fences keep most of them, the next pass waits until it may find more.
	m.full.Store(max(m.max, int64(m.records.Size())+m.max/10))
}

// others reports whether others than owner have fences on the record.
func (r *record) others(owner Owner) bool {
	for _, f := range r.fences {
		if f.owner != owner {
			return true
		}
	}
	return false
}

// without returns a copy without owner's fence. A nil record is one without stamp and fences.
func (r *record) without(owner Owner) *record {
	n := new(record)
	n.fences = n.one[:0]
	if r == nil {
		return n
	}
	n.stamp = r.stamp
	for _, f := range r.fences {
		if f.owner != owner {
			n.fences = append(n.fences, f)
		}
	}
	return n
}

// crowd is the owner of the fence that those share who come when a record has as many owners as it
// may. Nobody lifts it, and each who joins can only put its deadline off: it stands at least as long as
// each of theirs would have. NewOwner makes letters and digits only.
const crowd = Owner("~crowd")

// fenced returns a copy with owner's fence.
func (r *record) fenced(owner Owner, deadline int64, most int) *record {
	n := r.without(owner)
	own := 0
	for i := range n.fences {
		if n.fences[i].owner != crowd {
			own++
		}
	}
	// Who has a fence of his own keeps it.
	if own < most {
		n.fences = append(n.fences, fence{owner, deadline})
		return n
	}
	for i := range n.fences {
		if n.fences[i].owner == crowd {
			n.fences[i].deadline = max(n.fences[i].deadline, deadline)
			return n
		}
	}
	n.fences = append(n.fences, fence{crowd, deadline})
	return n
}

// live returns the fences before their deadline.
func (r *record) live(now int64) []fence {
	live := r.fences[:0:0]
	for _, f := range r.fences {
		if f.deadline > now {
			live = append(live, f)
		}
	}
	return live
}
