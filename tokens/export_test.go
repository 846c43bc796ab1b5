package tokens

import (
	"time"

	"github.com/redis/go-redis/v9"
)

// The hashes under which the server knows the scripts, for benchmarks against the plain client.
func FenceScriptHash() string   { return fenceScript.Hash() }
func PublishScriptHash() string { return publishScript.Hash() }

// SetNow sets the host's clock, which decides only whether the server is asked about a deadline.
func (b *Redis) SetNow(now func() time.Time) { b.now = now }

// WithNow sets the Store's clock.
func WithNow(now func() time.Time) Option { return func(s *Store) { s.now = now } }

// SetGrace sets how long everything is fenced after a loss; 0 for not at all.
func (b *Redis) SetGrace(d time.Duration) { b.grace = d }

// RawOptions are those that a client lends.
func RawOptions(initialized *redis.Options) *redis.Options { return raw(initialized) }

// LostBy rolls the transaction back and returns what its first ledger keeps of it.
func LostBy(w *Writes) *Changes {
	l := w.ledgers[0]
	w.End(RolledBack)
	return l.last.Load().changes
}

// Fences returns how many fences, dead ones included, are on a record.
func (m *Memory) Fences(id ID) int {
	if r, ok := m.records.Load(id); ok {
		return len(r.fences)
	}
	return 0
}
