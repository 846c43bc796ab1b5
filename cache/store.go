// Package cache holds the stores in which computed values are kept. What may be stored and when a
// stored value may be served is decided elsewhere, by package request: a store here knows keys and
// bytes only, and may lose any of them at any time.
package cache

import (
	"context"
	"errors"
	"time"
)

// Store keeps values by key. It may drop any value at any time, but never returns one under
// another key, or an older one after Set of the same key has returned in this process. Whoever uses
// it treats an error as a miss. Implementations are safe for concurrent use, do not keep the slice
// of keys, and are held to this contract by cachetest.Run.
type Store interface {
	// Get returns the values of keys, in order, with one round trip for all. What is not there is
	// nil; a stored value is not, even if it is empty. The caller must not modify the values. An
	// error comes without values: the store did not answer, ctx ended, or ErrClosed.
	Get(ctx context.Context, keys []string) ([][]byte, error)

	// Set stores value under key and replaces what was there. The store may keep the slice: the
	// caller must not modify it afterwards. After ttl, which must not be negative, the value is a
	// miss; a ttl of 0 sets no limit beyond the store's own. A value that is too large for the
	// store is dropped without an error, and so is what was there.
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error

	// Close frees what the store holds and ends its goroutines. Operations after it return
	// ErrClosed. Closing again does nothing.
	Close() error
}

// Local is what a Store can implement that has values in this process: a hit then costs no
// allocation.
type Local interface {
	// Lookup returns the value of key, which the caller must not modify, if the process has it. It
	// never waits. If it is false, Get knows.
	Lookup(key string) (value []byte, ok bool)
}

// ErrClosed is returned by a Store after Close.
var ErrClosed = errors.New("alkey: value store is closed")
