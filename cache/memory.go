package cache

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// Memory is a Store in this process, bounded in bytes. What is used rarely is dropped first. It has
// no goroutines of its own. Make one with NewMemory.
type Memory struct {
	values *otter.Cache[string, value]
	max    int64
	closed atomic.Bool
}

type value struct {
	bytes    []byte
	deadline time.Time // the zero time: none
}

// overhead is what an entry costs beside its key and its value: the cache's node, its places in the
// hash table and in the eviction queues, and the allocator's rounding.
const overhead = 160

// NewMemory makes an empty store of at most maxBytes, keys and a constant for every entry included.
// With 0 or less it keeps nothing.
func NewMemory(maxBytes int64) *Memory {
	return &Memory{
		max: maxBytes,
		values: otter.Must(&otter.Options[string, value]{
			MaximumWeight: uint64(max(maxBytes, 1)),
			Weigher:       func(key string, v value) uint32 { return uint32(weight(key, cap(v.bytes))) },
			// Eviction runs in the call that makes it necessary: no goroutine outlives a call.
			Executor: func(fn func()) { fn() },
		}),
	}
}

func weight(key string, bytes int) int64 { return int64(len(key)) + int64(bytes) + overhead }

// Lookup is part of Local.
func (m *Memory) Lookup(key string) ([]byte, bool) {
	v, ok := m.lookup(key)
	return v.bytes, ok
}

func (m *Memory) lookup(key string) (value, bool) {
	v, ok := m.values.GetIfPresent(key)
	if !ok || m.closed.Load() {
		return value{}, false
	}
	// An entry past its deadline stays until it is replaced or dropped for room.
	if !v.deadline.IsZero() && !time.Now().Before(v.deadline) {
		return value{}, false
	}
	return v, true
}

// Get is part of Store.
func (m *Memory) Get(ctx context.Context, keys []string) ([][]byte, error) {
	if err := m.check(ctx); err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i], _ = m.Lookup(key)
	}
	return values, nil
}

// getDated is part of dated.
func (m *Memory) getDated(ctx context.Context, keys []string) ([][]byte, []time.Duration, error) {
	if err := m.check(ctx); err != nil {
		return nil, nil, err
	}
	values, lives := make([][]byte, len(keys)), make([]time.Duration, len(keys))
	for i, key := range keys {
		v, ok := m.lookup(key)
		if !ok {
			continue
		}
		if values[i] = v.bytes; !v.deadline.IsZero() {
			lives[i] = max(time.Until(v.deadline), 1)
		}
	}
	return values, lives, nil
}

// Set is part of Store. It keeps the slice, or a copy where the slice takes up much more room than
// the value.
func (m *Memory) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := m.check(ctx); err != nil {
		return err
	}
	m.set(key, value, ttl)
	return nil
}

// set is Set without a context. On a closed store it does nothing.
func (m *Memory) set(key string, bytes []byte, ttl time.Duration) {
	if w := weight(key, len(bytes)); w > m.max || w > math.MaxUint32 || ttl < 0 {
		m.values.Invalidate(key)
		return
	}
	if bytes == nil || cap(bytes)-len(bytes) > len(bytes)/8 {
		// The array behind a slice is kept whole.
		bytes = append(make([]byte, 0, len(bytes)), bytes...)
	}
	v := value{bytes: bytes}
	if ttl > 0 {
		v.deadline = time.Now().Add(ttl)
	}
	m.values.Set(key, v)
	if m.closed.Load() {
		// Close may have emptied the cache just before.
		m.values.InvalidateAll()
	}
}

// Close is part of Store.
func (m *Memory) Close() error {
	if m.closed.CompareAndSwap(false, true) {
		m.values.InvalidateAll()
	}
	return nil
}

func (m *Memory) check(ctx context.Context) error {
	if m.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}
