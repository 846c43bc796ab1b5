package request

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/alkey-go/alkey/tokens"
)

// known remembers of the keys that were asked for last what their values depend on beside what the
// keys name, so that those tokens are read together with the value. What it has forgotten, or knows
// wrongly, costs a round trip. It also spares a Fetch the allocation of its key.
type known struct {
	seed   maphash.Seed
	shards [16]shard
	// front finds most of what is asked for without a lock and with one digest of its text. In it are keys
	// without extras.
	front [1024]atomic.Pointer[knownKey]
}

// shard has two generations: what is asked for moves to the young one, and when that is full the old
// one is dropped.
type shard struct {
	mu         sync.RWMutex
	young, old map[string]*knownKey
	weight     int // of young: one for each key and one for each identifier
}

// knownKey is never changed, only replaced.
type knownKey struct {
	name   string
	extras []tokens.ID
}

const (
	// maxKnown is the weight of one generation of a shard: some 130,000 keys and identifiers in all.
	maxKnown = 4096
	// maxKnownOf is how many identifiers of one key are remembered.
	maxKnownOf = 1024
)

func newKnown() *known { return &known{seed: maphash.MakeSeed()} }

// get returns what is known of the key with that text, which enters if it is new.
func (k *known) get(text []byte) *knownKey {
	sum := maphash.Bytes(k.seed, text)
	at := k.place(sum)
	if found := at.Load(); found != nil && found.name == string(text) {
		return found
	}
	found := k.shards[sum%uint64(len(k.shards))].get(text)
	if len(found.extras) == 0 {
		at.Store(found)
	}
	return found
}

// place returns where in the front a key belongs by its digest.
func (k *known) place(sum uint64) *atomic.Pointer[knownKey] {
	return &k.front[sum/uint64(len(k.shards))%uint64(len(k.front))]
}

func (s *shard) get(text []byte) *knownKey {
	s.mu.RLock()
	found := s.young[string(text)]
	s.mu.RUnlock()
	if found != nil {
		return found
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if found = s.young[string(text)]; found != nil {
		return found
	}
	if found = s.old[string(text)]; found == nil {
		found = &knownKey{name: string(text)}
	}
	s.put(found)
	return found
}

// set notes what the value of a key depends on.
func (k *known) set(name string, extras []tokens.ID) {
	if len(extras) > maxKnownOf {
		extras = nil
	}
	sum := maphash.String(k.seed, name)
	s := &k.shards[sum%uint64(len(k.shards))]
	if at := k.place(sum); len(extras) > 0 {
		// Before anything else: a get under way may just have put there what it was, and this is called
		// again for each value that is found.
		if front := at.Load(); front != nil && front.name == name {
			at.CompareAndSwap(front, nil)
		}
	}
	s.mu.RLock()
	have := s.young[name]
	s.mu.RUnlock()
	if have != nil && slices.Equal(have.extras, extras) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(&knownKey{name: name, extras: slices.Clip(extras)})
}

// put needs s.mu.
func (s *shard) put(key *knownKey) {
	if have := s.young[key.name]; have != nil {
		s.weight -= 1 + len(have.extras)
	}
	if s.young == nil || s.weight+1+len(key.extras) > maxKnown {
		s.young, s.old, s.weight = make(map[string]*knownKey), s.young, 0
	}
	s.young[key.name] = key
	s.weight += 1 + len(key.extras)
}
