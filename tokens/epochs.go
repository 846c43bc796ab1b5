package tokens

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// epochs is the connection of a process to servers that may be replaced by others behind its back, or lose
// what they hold. Whenever that is found out an epoch ends: the client is replaced by a new one, for a pool
// can have connections to two servers at once after a fail-over, and the old one closes when the last
// operation on it has ended.
type epochs[C io.Closer] struct {
	connect func(before C) C // makes a client; before is that of the epoch before, the zero C for the first

	seen    atomic.Int64 // the largest stamp that a reply has named
	current atomic.Pointer[session[C]]

	mu     sync.Mutex
	known  Stamp                    // of the latest sweep that this process has heard of
	open   map[*session[C]]struct{} // whose clients are not closed
	closed bool
}

// session is the client of one epoch.
type session[C io.Closer] struct {
	client C
	epoch  uint64
	users  atomic.Int64 // operations, and one more while it is the current session; at 0 it is closed
}

// begin makes the first client.
func (k *epochs[C]) begin(connect func(before C) C) {
	k.connect, k.open = connect, make(map[*session[C]]struct{})
	var none C
	k.current.Store(k.next(1, none))
}

// next needs k.mu, or to be the first.
func (k *epochs[C]) next(epoch uint64, before C) *session[C] {
	s := &session[C]{client: k.connect(before), epoch: epoch}
	s.users.Store(1)
	k.open[s] = struct{}{}
	return s
}

// enter returns the session that an operation goes through. It ends with leave.
func (k *epochs[C]) enter() (*session[C], error) {
	for {
		s := k.current.Load()
		for n := s.users.Load(); n > 0; n = s.users.Load() {
			if s.users.CompareAndSwap(n, n+1) {
				return s, nil
			}
		}
		if k.current.Load() == s {
			return nil, ErrClosed
		}
	}
}

// leave ends the use of a session by an operation, or as the current one.
func (k *epochs[C]) leave(s *session[C]) {
	if s.users.Add(-1) > 0 {
		return
	}
	k.mu.Lock()
	_, open := k.open[s]
	delete(k.open, s)
	k.mu.Unlock()
	if open {
		// Its connections are of no use to anybody; neither is what closing them says.
		_ = s.client.Close()
	}
}

// swept returns the stamp of the latest sweep that this process has heard of.
func (k *epochs[C]) swept() Stamp {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known
}

// met notes the stamp of the latest sweep that a server records, and ends the epoch if it is new. It is
// false if a later one is known.
func (k *epochs[C]) met(swept Stamp) bool {
	k.mu.Lock()
	if k.closed || swept <= k.known {
		defer k.mu.Unlock()
		return k.closed || swept == k.known
	}
	first := k.known == 0
	k.known = swept
	if first {
		k.mu.Unlock()
		return true // nothing was read or fenced before
	}
	old := k.current.Load()
	k.current.Store(k.next(old.epoch+1, old.client))
	k.mu.Unlock()
	k.leave(old)
	return true
}

func (k *epochs[C]) see(stamp Stamp) {
	for {
		have := k.seen.Load()
		if int64(stamp) <= have || k.seen.CompareAndSwap(have, int64(stamp)) {
			return
		}
	}
}

// Epoch is part of Restorer.
func (k *epochs[C]) Epoch() uint64 { return k.current.Load().epoch }

// Seen is part of Restorer.
func (k *epochs[C]) Seen() Stamp { return Stamp(k.seen.Load()) }

// close closes all clients, those of operations under way and others too. Calling it again does nothing.
func (k *epochs[C]) close(others ...io.Closer) (err error) {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil
	}
	k.closed = true
	open := k.open
	k.open = nil
	k.mu.Unlock()
	k.current.Load().users.Add(-1)
	for _, c := range others {
		err = errors.Join(err, c.Close())
	}
	for s := range open {
		err = errors.Join(err, s.client.Close())
	}
	if err != nil {
		return fmt.Errorf("alkey: closing the Redis client: %w", err)
	}
	return nil
}
