package request

import (
	"sync/atomic"
	"time"
)

// Stats is what a scope has counted since it was opened.
type Stats struct {
	Keys   int // that were asked for, by Key and CacheKey, and in every way of fetching
	Hits   int // values that were found
	Shared int // values that another request was making
	Misses int // values that were made here
	Stored int // of those, that were stored

	// Bypasses counts by Reason the keys that were not storable when they were asked for. Values can
	// be found under them all the same, unless the Reason says otherwise.
	Bypasses [ReasonCount]int

	Tokens time.Duration // spent reading tokens, as far as somebody waited
	Values time.Duration // spent reading values that are not in this process
	Fills  time.Duration // spent in fills, those inside others counted twice
}

// counters is what Stats is read from.
type counters struct {
	keys, hits, shared, misses, stored atomic.Int32
	bypasses                           [ReasonCount]atomic.Int32
	tokens, values, fills              atomic.Int64
}

// Stats returns the counts so far, as for a Server-Timing header.
func (s *Scope) Stats() Stats {
	c := &s.counters
	stats := Stats{
		Keys:   int(c.keys.Load()),
		Hits:   int(c.hits.Load()),
		Shared: int(c.shared.Load()),
		Misses: int(c.misses.Load()),
		Stored: int(c.stored.Load()),
		Tokens: time.Duration(c.tokens.Load()),
		Values: time.Duration(c.values.Load()),
		Fills:  time.Duration(c.fills.Load()),
	}
	for i := range c.bypasses {
		stats.Bypasses[i] = int(c.bypasses[i].Load())
	}
	return stats
}

// asked counts a key.
func (c *counters) asked(reason Reason) {
	c.keys.Add(1)
	if reason != 0 {
		c.bypasses[reason].Add(1)
	}
}

// since adds what has passed to one of the times.
func since(total *atomic.Int64, from time.Time) { total.Add(int64(time.Since(from))) }
