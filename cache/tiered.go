package cache

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// tiered is a store in this process in front of another.
type tiered struct {
	near  *Memory
	far   Store
	dated dated         // far, if it is
	ttl   time.Duration // of near copies
	seed  maphash.Seed
	locks [256]lock // by key
}

// lock keeps a value out of the near store if another was set while it was read from the far one, or
// set there. It stands for many keys: what it keeps out needlessly is asked for again.
type lock struct {
	mu   sync.Mutex
	sets atomic.Uint64
}

// nearTTL is short beside the time that a process runs, and long beside the time between two
// requests for what is worth a place in the process.
const nearTTL = 10 * time.Second

// Tiered makes a Store of near in front of far: what near has is not asked for, what far has is
// copied into near, what is set is set in both. Close closes both.
//
// A near copy lives for 10 seconds and no longer than its value, then it is asked for again: so a
// value that is deleted from far, or expires there, is served for 10 seconds more at most. (Of a
// value that came from a Redis store it is also an eighth of the value's ttl at most. Copies of
// values that have changed since are misses to those who compare versions, as package request does.)
//
// While far is down near goes on to be used, and Set returns far's error.
func Tiered(near *Memory, far Store) Store { return TieredFor(near, far, nearTTL) }

// TieredFor is Tiered with near copies that live for ttl. With 0 or less it is 10 seconds.
func TieredFor(near *Memory, far Store, ttl time.Duration) Store {
	t := &tiered{near: near, far: far, ttl: ttl, seed: maphash.MakeSeed()}
	if t.ttl <= 0 {
		t.ttl = nearTTL
	}
	t.dated, _ = far.(dated)
	return t
}

func (t *tiered) lock(key string) *lock {
	return &t.locks[maphash.String(t.seed, key)%uint64(len(t.locks))]
}

// Lookup is part of Local.
func (t *tiered) Lookup(key string) ([]byte, bool) { return t.near.Lookup(key) }

// Get is part of Store.
func (t *tiered) Get(ctx context.Context, keys []string) ([][]byte, error) {
	values, err := t.near.Get(ctx, keys)
	if err != nil {
		return nil, err
	}
	var missing []string
	var at []int
	for i, v := range values {
		if v == nil {
			missing, at = append(missing, keys[i]), append(at, i)
		}
	}
	if len(missing) == 0 {
		return values, nil
	}
	found, err := t.ask(ctx, missing, nil, t.getFar)
	if err != nil {
		if len(missing) < len(keys) && ctx.Err() == nil && !errors.Is(err, ErrClosed) {
			return values, nil
		}
		return nil, err
	}
	for i, v := range found {
		values[at[i]] = v
	}
	return values, nil
}

// GetFresh is part of Fresh. What far has replaces the copies; while it does not answer they stay.
func (t *tiered) GetFresh(ctx context.Context, keys []string) ([][]byte, error) {
	had, err := t.near.Get(ctx, keys)
	if err != nil || len(keys) == 0 {
		return had, err
	}
	return t.ask(ctx, keys, had, t.getFresh)
}

// ask asks far, and copies what it has into near where near still has what it had: the answer may be
// older than a copy that has come meanwhile. A nil had is nothing.
func (t *tiered) ask(ctx context.Context, keys []string, had [][]byte, get farGetter) ([][]byte, error) {
	sets := make([]uint64, len(keys))
	for i, key := range keys {
		sets[i] = t.lock(key).sets.Load()
	}
	found, lives, err := get(ctx, keys)
	if err == nil && len(found) != len(keys) {
		err = fmt.Errorf("alkey: a value store returned %d values for %d keys", len(found), len(keys))
	}
	if err != nil {
		return nil, err
	}
	for i, v := range found {
		var copied []byte
		if had != nil {
			copied = had[i]
		}
		if v == nil && copied == nil {
			continue
		}
		ttl := t.ttl
		switch {
		case v == nil:
			ttl = -1
		case lives != nil && lives[i] > 0:
			ttl = min(ttl, lives[i])
		}
		l := t.lock(keys[i])
		l.mu.Lock()
		if l.sets.Load() == sets[i] && t.holds(keys[i], copied) {
			t.near.set(keys[i], v, ttl)
		}
		l.mu.Unlock()
	}
	return found, nil
}

// holds reports whether near has that very copy, or none.
func (t *tiered) holds(key string, copied []byte) bool {
	have, ok := t.near.Lookup(key)
	return !ok || copied != nil && len(have) == len(copied) && (len(have) == 0 || &have[0] == &copied[0])
}

// farGetter gets values from far and, if far knows, how long a copy of each may be kept.
type farGetter func(ctx context.Context, keys []string) ([][]byte, []time.Duration, error)

// getFresh is getFar for a far store that has copies itself.
func (t *tiered) getFresh(ctx context.Context, keys []string) ([][]byte, []time.Duration, error) {
	if f, ok := t.far.(Fresh); ok {
		values, err := f.GetFresh(ctx, keys)
		return values, nil, err
	}
	return t.getFar(ctx, keys)
}

func (t *tiered) getFar(ctx context.Context, keys []string) ([][]byte, []time.Duration, error) {
	if t.dated != nil {
		return t.dated.getDated(ctx, keys)
	}
	values, err := t.far.Get(ctx, keys)
	return values, nil, err
}

// Set is part of Store. Far comes first: a Get that begins when near has the value and loses it finds
// no older one in far. Of several Sets at the same time only far knows which was last: near gets none.
func (t *tiered) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := t.near.check(ctx); err != nil {
		return err
	}
	l := t.lock(key)
	before := l.sets.Load()
	err := t.far.Set(ctx, key, value, ttl)
	t.copy(l, before+1, Item{key, value, ttl})
	return err
}

// SetMany is part of Batcher: far's SetMany, or its Sets one after the other until one fails.
func (t *tiered) SetMany(ctx context.Context, items []Item) error {
	if err := t.near.check(ctx); err != nil {
		return err
	}
	expected := make(map[*lock]uint64, len(items))
	for _, item := range items {
		l := t.lock(item.Key)
		expected[l] = l.sets.Load()
	}
	err := SetMany(ctx, t.far, items)
	for _, item := range items {
		l := t.lock(item.Key)
		// Items share locks, and none of them is somebody else's Set.
		expected[l]++
		t.copy(l, expected[l], item)
	}
	return err
}

// copy sets in near what was set in far. If sets of its lock is not what is expected then, far may have
// something else.
func (t *tiered) copy(l *lock, expected uint64, item Item) {
	ttl := t.ttl
	if item.TTL != 0 {
		ttl = min(ttl, item.TTL)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sets.Add(1) != expected {
		ttl = -1
	}
	t.near.set(item.Key, item.Value, ttl)
}

// Close is part of Store.
func (t *tiered) Close() error { return errors.Join(t.near.Close(), t.far.Close()) }
