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

// lock keeps a value that was read from the far store out of the near one if another was set
// meanwhile.
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
	sets := make([]uint64, len(missing))
	for i, key := range missing {
		sets[i] = t.lock(key).sets.Load()
	}
	found, lives, err := t.getFar(ctx, missing)
	if err == nil && len(found) != len(missing) {
		err = fmt.Errorf("alkey: a value store returned %d values for %d keys", len(found), len(missing))
	}
	if err != nil {
		if len(missing) < len(keys) && ctx.Err() == nil && !errors.Is(err, ErrClosed) {
			return values, nil
		}
		return nil, err
	}
	for i, v := range found {
		if v == nil {
			continue
		}
		values[at[i]] = v
		ttl := t.ttl
		if lives != nil && lives[i] > 0 {
			ttl = min(ttl, lives[i])
		}
		l := t.lock(missing[i])
		l.mu.Lock()
		if l.sets.Load() == sets[i] {
			t.near.set(missing[i], v, ttl)
		}
		l.mu.Unlock()
	}
	return values, nil
}

func (t *tiered) getFar(ctx context.Context, keys []string) ([][]byte, []time.Duration, error) {
	if t.dated != nil {
		return t.dated.getDated(ctx, keys)
	}
	values, err := t.far.Get(ctx, keys)
	return values, nil, err
}

// Set is part of Store. Far comes first: a Get that begins when near has the value and loses it finds
// no older one in far.
func (t *tiered) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := t.near.check(ctx); err != nil {
		return err
	}
	err := t.far.Set(ctx, key, value, ttl)
	copied := t.ttl
	if ttl != 0 {
		copied = min(copied, ttl)
	}
	l := t.lock(key)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sets.Add(1)
	t.near.set(key, value, copied)
	return err
}

// Close is part of Store.
func (t *tiered) Close() error { return errors.Join(t.near.Close(), t.far.Close()) }
