package cache

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/maypok86/otter/v2"
)

// Leaser is what a Store can implement that lets the processes which share it take turns in making a
// value. A lease is a hint and protects nothing: it may be lost with the server, and two can hold one
// when it has run out.
type Leaser interface {
	// Lease takes the lease of key for ttl at most and returns how to give it back early, which is
	// bounded in time and need not succeed. It returns nil, without an error, if somebody else holds the
	// lease. Leases and values do not share keys.
	Lease(ctx context.Context, key string, ttl time.Duration) (release func(), err error)
}

// Fresh is what a Store can implement that has copies of values which another holds.
type Fresh interface {
	// GetFresh is Get that does not answer from copies, and replaces them.
	GetFresh(ctx context.Context, keys []string) ([][]byte, error)
}

// leasePrefix keeps leases apart from values. No key that package request makes begins with it.
const leasePrefix = "%lease-"

// Lease is part of Leaser. The store drops leases under pressure, as it does values.
func (m *Memory) Lease(ctx context.Context, key string, ttl time.Duration) (func(), error) {
	if err := m.check(ctx); err != nil {
		return nil, err
	}
	name := leasePrefix + key
	owner := rand.Text()
	mine := value{bytes: []byte(owner), deadline: time.Now().Add(ttl)}
	got, _ := m.values.Compute(name, func(have value, found bool) (value, otter.ComputeOp) {
		if found && time.Now().Before(have.deadline) {
			return have, otter.CancelOp
		}
		return mine, otter.WriteOp
	})
	if string(got.bytes) != owner {
		return nil, nil
	}
	return func() {
		m.values.ComputeIfPresent(name, func(have value) (value, otter.ComputeOp) {
			if string(have.bytes) == owner {
				return have, otter.InvalidateOp
			}
			return have, otter.CancelOp
		})
	}, nil
}

// Lease is part of Leaser: the far store's, if it has any. Without, everybody gets it.
func (t *tiered) Lease(ctx context.Context, key string, ttl time.Duration) (func(), error) {
	if far, ok := t.far.(Leaser); ok {
		return far.Lease(ctx, key, ttl)
	}
	return func() {}, nil
}
