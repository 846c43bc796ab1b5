// Package cache holds the stores in which computed values are kept: Memory in this process, Redis
// for many, and Tiered with the one in front of the other. What may be stored and when a stored
// value may be served is decided elsewhere, by package request: a store here knows keys and bytes
// only, and may lose any of them at any time.
package cache

import (
	"context"
	"errors"
	"time"
)

// Store keeps values by key. It may drop any value at any time, but never returns one under
// another key. Once Set has returned without an error, an older value of the key comes back only
// where a server fails over to a replica that lagged, or another process, or a Set that had failed,
// writes it again: whoever stores values that can be outdated puts a version into them, as package
// request does, and treats an error as a miss. Implementations are safe for concurrent use, do not
// keep the slice of keys, and are held to this contract by cachetest.Run.
type Store interface {
	// Get returns the values of keys, in order, with one round trip for all. What is not there is
	// nil; a stored value is not, even if it is empty. The caller must not modify the values, and who
	// keeps some for long keeps copies: several can share memory. A store that could answer for some of
	// the keys only returns those, and nil for the others. An error comes without values: the store did
	// not answer (ErrDown), ctx ended, or ErrClosed.
	Get(ctx context.Context, keys []string) ([][]byte, error)

	// Set stores value under key and replaces what was there. The store may keep the slice: the
	// caller must not modify it afterwards. After ttl the value is a miss; a ttl of 0 sets no limit
	// beyond the store's own. A value that is too large for the store is dropped without an error,
	// and so is what was there; a negative ttl, one that has passed already, does the same. After an
	// error nobody knows which value is there, or will be.
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error

	// Close frees what the store holds and ends its goroutines. Operations after it return
	// ErrClosed. Closing again does nothing.
	Close() error
}

// Local is what a Store can implement that has values in this process: a hit then costs no
// allocation.
type Local interface {
	// Lookup returns the value of key if the process has it. Nobody may modify it any more, the store
	// included, for as long as somebody has it: strings are made of it without a copy. Lookup never
	// waits. If it is false, Get knows.
	Lookup(key string) (value []byte, ok bool)
}

// Batcher is what a Store can implement for which many values at once cost less than one after the other.
type Batcher interface {
	// SetMany is Set for every item, and of several with one key the last counts. Each value is stored
	// or not by itself: after an error nobody knows which are there, or will be. The store does not keep
	// the list, and may keep the values. What takes too long is given up: an error too.
	SetMany(ctx context.Context, items []Item) error
}

// Item is one value that SetMany stores, as Set takes it.
type Item struct {
	Key   string
	Value []byte
	TTL   time.Duration
}

// SetMany stores the items by s's own SetMany if it is a Batcher, and else one after the other until one
// fails.
func SetMany(ctx context.Context, s Store, items []Item) error {
	if b, ok := s.(Batcher); ok {
		return b.SetMany(ctx, items)
	}
	for _, item := range items {
		if err := s.Set(ctx, item.Key, item.Value, item.TTL); err != nil {
			return err
		}
	}
	return nil
}

// Errors of a Store.
var (
	// ErrDown is returned while the server of a Store does not answer, and wraps the reason.
	ErrDown = errors.New("alkey: value store is down")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("alkey: value store is closed")
)

// dated is a Store that knows how long its values have still to live.
type dated interface {
	// getDated is Get, with how long a copy of each value may be kept; 0 sets no limit.
	getDated(ctx context.Context, keys []string) ([][]byte, []time.Duration, error)
}
