package cache

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"
	"time"
)

// signed is a store whose values are signed. A signed value is
//
//	1 byte    the format
//	32 bytes  HMAC-SHA256 of a label, the length of the key in 8 bytes, the key, and the value
//	value
type signed struct {
	store Store
	dated dated    // store, if it is
	keys  []signer // the first signs
}

const (
	formatSigned = 0xA5
	signatureAt  = 1
	signedAt     = signatureAt + sha256.Size // where the value begins

	// signedLabel keeps signatures apart from what else is signed with the same key.
	signedLabel = "alkey signed value 1\x00"

	// minSigningKey is how long a key must be for the signature to be as strong as its hash.
	minSigningKey = sha256.Size
)

// Signed makes a Store that signs what it stores in s, and for which a value without a valid signature
// is a miss: whoever can write to the server of s, and does not know the key, cannot put markup into
// pages. A signature belongs to a value and to its cache key, so that a value cannot be moved to another
// key; the prefix of a Redis store is no part of that: applications that share a server need keys of
// their own. An old value of the same key can be put back: package request finds by the version inside
// whether it is outdated, and what has no version, because its arguments name nothing that can change,
// lives for as long as whoever writes to the server lets it. Values can be read as before: nothing is encrypted.
//
// It belongs directly over the store that others can write to: Tiered(near, Signed(far, key)). So a value
// is checked when it comes from the server, and not each time that it is found near. It adds 33 bytes to
// a value, which count for the limits of s. It has the abilities of s: many values at once (Batcher),
// leases (Leaser; without any in s everybody gets one), Local and Fresh. Leases are not signed: whoever
// can write to the server can make others wait for as long as a lease lasts.
//
// Keys are random bytes, 32 or more of them, from where the application has its secrets: the same ones
// in all processes that share s. It panics if one is shorter or s is nil. To change the key without
// losing what is stored, first give the new one to all processes as one of the old, then as key, and
// take the old one away when the values that it has signed have expired.
func Signed(s Store, key []byte, old ...[]byte) Store {
	if s == nil {
		panic("alkey: cache.Signed needs a store")
	}
	w := &signed{store: s, keys: make([]signer, 1+len(old))}
	w.dated, _ = s.(dated)
	for i, key := range append([][]byte{key}, old...) {
		if len(key) < minSigningKey {
			panic(fmt.Sprintf("alkey: cache.Signed needs keys of %d random bytes or more: number %d has %d", minSigningKey, i+1, len(key)))
		}
		w.keys[i].init(key)
	}
	return w
}

// signer signs with one key.
type signer struct {
	states sync.Pool // *signing: a key is prepared once
}

// signing is one signature being made.
type signing struct {
	mac  hash.Hash
	head [len(signedLabel) + 8]byte
	sum  [sha256.Size]byte
}

func (s *signer) init(key []byte) {
	own := append([]byte(nil), key...) // the caller may wipe his
	s.states.New = func() any {
		state := &signing{mac: hmac.New(sha256.New, own)}
		copy(state.head[:], signedLabel)
		return state
	}
}

// appendSum appends the signature of a value.
func (s *signer) appendSum(dst []byte, key string, value []byte) []byte {
	state := s.sign(key, value)
	dst = append(dst, state.sum[:]...)
	s.states.Put(state)
	return dst
}

// verify reports, in a time that does not tell where they differ, whether sum is a value's signature.
func (s *signer) verify(sum []byte, key string, value []byte) bool {
	state := s.sign(key, value)
	same := hmac.Equal(sum, state.sum[:])
	s.states.Put(state)
	return same
}

func (s *signer) sign(key string, value []byte) *signing {
	state := s.states.Get().(*signing)
	binary.BigEndian.PutUint64(state.head[len(signedLabel):], uint64(len(key)))
	state.mac.Reset()
	// A hash takes all that is written to it.
	state.mac.Write(state.head[:])
	state.mac.Write(bytesOf(key))
	state.mac.Write(value)
	state.mac.Sum(state.sum[:0])
	return state
}

// seal returns the signed value.
func (s *signed) seal(key string, value []byte) []byte {
	sealed := make([]byte, 1, signedAt+len(value))
	sealed[0] = formatSigned
	sealed = s.keys[0].appendSum(sealed, key, value)
	return append(sealed, value...)
}

// open returns the value of a signed one, nil for what no key has signed.
func (s *signed) open(key string, sealed []byte) []byte {
	if len(sealed) < signedAt || sealed[0] != formatSigned {
		return nil
	}
	sum, value := sealed[signatureAt:signedAt], sealed[signedAt:]
	for i := range s.keys {
		if s.keys[i].verify(sum, key, value) {
			return value
		}
	}
	return nil
}

// opened returns the values of what the store has returned for keys, which it leaves as it is: a store
// may keep the list.
func (s *signed) opened(keys []string, sealed [][]byte) ([][]byte, error) {
	if len(sealed) != len(keys) {
		return nil, fmt.Errorf("alkey: a value store returned %d values for %d keys", len(sealed), len(keys))
	}
	values := make([][]byte, len(keys))
	for i, v := range sealed {
		if v != nil {
			values[i] = s.open(keys[i], v)
		}
	}
	return values, nil
}

// Get is part of Store.
func (s *signed) Get(ctx context.Context, keys []string) ([][]byte, error) {
	sealed, err := s.store.Get(ctx, keys)
	if err != nil {
		return nil, err
	}
	return s.opened(keys, sealed)
}

// getDated is part of dated.
func (s *signed) getDated(ctx context.Context, keys []string) ([][]byte, []time.Duration, error) {
	if s.dated == nil {
		values, err := s.Get(ctx, keys)
		return values, nil, err
	}
	sealed, lives, err := s.dated.getDated(ctx, keys)
	if err != nil {
		return nil, nil, err
	}
	values, err := s.opened(keys, sealed)
	return values, lives, err
}

// GetFresh is part of Fresh: Get, for a store that has no copies.
func (s *signed) GetFresh(ctx context.Context, keys []string) ([][]byte, error) {
	fresh, ok := s.store.(Fresh)
	if !ok {
		return s.Get(ctx, keys)
	}
	sealed, err := fresh.GetFresh(ctx, keys)
	if err != nil {
		return nil, err
	}
	return s.opened(keys, sealed)
}

// Lookup is part of Local. A store that is not local has nothing in this process.
func (s *signed) Lookup(key string) ([]byte, bool) {
	local, ok := s.store.(Local)
	if !ok {
		return nil, false
	}
	sealed, ok := local.Lookup(key)
	if !ok {
		return nil, false
	}
	value := s.open(key, sealed)
	return value, value != nil
}

// Set is part of Store.
func (s *signed) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return s.store.Set(ctx, key, s.seal(key, value), ttl)
}

// SetMany is part of Batcher: the store's SetMany, or its Sets one after the other until one fails.
func (s *signed) SetMany(ctx context.Context, items []Item) error {
	sealed := make([]Item, len(items))
	for i, item := range items {
		sealed[i] = Item{item.Key, s.seal(item.Key, item.Value), item.TTL}
	}
	return SetMany(ctx, s.store, sealed)
}

// Lease is part of Leaser: the store's, if it has any. Without, everybody gets it.
func (s *signed) Lease(ctx context.Context, key string, ttl time.Duration) (func(), error) {
	if leaser, ok := s.store.(Leaser); ok {
		return leaser.Lease(ctx, key, ttl)
	}
	return func() {}, nil
}

// Close is part of Store.
func (s *signed) Close() error { return s.store.Close() }
