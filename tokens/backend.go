package tokens

import (
	"context"
	"errors"
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

// Restorer is what a Backend has beside the protocol if its server can lose what it holds: restarted
// empty or from an old snapshot, failed over to a replica that lagged. The package comment says how a
// loss is found and what a sweep of it is. A backend without it never loses a record that matters.
type Restorer interface {
	// Epoch counts the losses that this process has noticed: it grows whenever the process sweeps, and
	// when it finds that another has swept or that the server is a different one. What was read in an
	// earlier epoch says nothing about this one. Operations during which it grows are repeated by the
	// backend itself, so what they return belongs to the epoch at their end. It does no I/O.
	Epoch() uint64

	// Seen returns the largest stamp that the backend has met, in replies that its callers did not get
	// too. It does no I/O.
	Seen() Stamp

	// Restore sweeps everything as after a loss, unless somebody has swept since: unless every server
	// records a sweep with a stamp larger than since. With since 0 it sweeps only if something was lost, or
	// a server does not say who it is. It returns the stamp of the latest sweep, and an error while one of
	// several servers does not answer.
	Restore(ctx context.Context, since Stamp) (Stamp, error)
}

// ErrRefused is in the error of an operation that a server has answered with the refusal of a write:
// it is full, or a replica, or cannot persist. Such a server takes no fences, so it is not read either.
var ErrRefused = errors.New("alkey: the token store takes no writes")

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
