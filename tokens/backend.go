package tokens

import (
	"context"
	"time"
)

// Backend is the protocol on one kind of server. The package comment states what each operation
// does to a record and why; tokenstest.Run holds an implementation to it. Implementations are safe
// for concurrent use. Every operation is one round trip on a single server, may be run twice or
// late without harm, and knows records only: which records an argument depends on and a write
// affects is the Store's business. They keep no list of records beyond a call that has
// succeeded.
type Backend interface {
	// Read returns the state of every record in ids, in order. A record that is missing, bare of
	// both stamp and fence, or not understood is given a new stamp first, and so is one from which
	// a fence past its deadline had to be dropped.
	Read(ctx context.Context, ids []ID) (Snapshot, error)

	// Fence puts owner's fence on every record, with the deadline lease from now; a fence that
	// owner has there already is renewed. A missing record is created with stamp 0. Fences of other
	// owners stay.
	Fence(ctx context.Context, owner Owner, ids []ID, lease time.Duration) error

	// Publish gives every record that exists one new stamp, larger than any before, and lifts
	// owner's fences. A record with stamp 0 keeps it while other fences are on it, and is deleted
	// when none is. No record is created. An empty owner has no fences.
	Publish(ctx context.Context, owner Owner, ids []ID) (Stamp, error)

	// Release lifts owner's fences and changes no stamp. A record with stamp 0 and no fence left is
	// deleted.
	Release(ctx context.Context, owner Owner, ids []ID) error

	// Close frees what the backend holds. Operations after it return ErrClosed.
	Close() error
}

// Snapshot is what Read saw.
type Snapshot struct {
	Clock  Stamp   // the largest stamp that the server has given out
	States []State // States[i] belongs to ids[i]
}

// State is what a reader sees of one record.
type State struct {
	Stamp  Stamp
	Fenced bool // a fence before its deadline is on it: not usable
}
