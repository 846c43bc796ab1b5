package request

import (
	"strconv"
	"strings"
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
	Both   time.Duration // of those two, spent reading the one while the other was read
	Fills  time.Duration // spent in fills, those inside others counted twice

	// Page tells in one word, if Config.Debug is set, what became of the last page that was asked for:
	// "hit", "shared" (with a request that was making it), "stored" (it was made), or why it was not. "" is
	// for none.
	Page string
}

// ServerTiming returns the value of a Server-Timing header, such as
//
//	alkey;desc="keys=12 hits=11 bypass=fenced:1 page=hit";dur=0.4
//
// What is 0 is left out, but for keys and hits. The duration is in milliseconds: for how long tokens or
// values were waited for. Waiting for fills does not count, and goroutines of one request that wait at the
// same time do so each by itself.
func (s Stats) ServerTiming() string {
	b := make([]byte, 0, 128)
	b = append(b, `alkey;desc="keys=`...)
	b = strconv.AppendInt(b, int64(s.Keys), 10)
	b = append(b, " hits="...)
	b = strconv.AppendInt(b, int64(s.Hits), 10)
	for _, more := range []struct {
		name  string
		count int
	}{{"shared", s.Shared}, {"misses", s.Misses}, {"stored", s.Stored}} {
		if more.count > 0 {
			b = append(append(append(b, ' '), more.name...), '=')
			b = strconv.AppendInt(b, int64(more.count), 10)
		}
	}
	before := " bypass="
	for reason, count := range s.Bypasses {
		if count > 0 {
			b = append(append(b, before...), Reason(reason).word()...)
			b = strconv.AppendInt(append(b, ':'), int64(count), 10)
			before = ","
		}
	}
	if s.Page != "" {
		b = append(append(b, " page="...), s.Page...)
	}
	b = append(b, `";dur=`...)
	ms := float64(max(s.Tokens+s.Values-s.Both, 0)) / float64(time.Millisecond)
	return string(strconv.AppendFloat(b, ms, 'f', 1, 64))
}

// word is String in one word.
func (r Reason) word() string { return strings.ReplaceAll(r.String(), " ", "-") }

// counters is what Stats is read from.
type counters struct {
	keys, hits, shared, misses, stored atomic.Int32
	bypasses                           [ReasonCount]atomic.Int32
	tokens, values, both, fills        atomic.Int64
	page                               atomic.Pointer[string]
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
		Both:   time.Duration(c.both.Load()),
		Fills:  time.Duration(c.fills.Load()),
	}
	for i := range c.bypasses {
		stats.Bypasses[i] = int(c.bypasses[i].Load())
	}
	if page := c.page.Load(); page != nil {
		stats.Page = *page
	}
	return stats
}

// outcome notes what became of a page, for those who want to know.
func (s *Scope) outcome(word string) {
	if s.kit.config.Debug {
		s.counters.notePage(word)
	}
}

// notePage is apart because word is moved to the heap.
func (c *counters) notePage(word string) { c.page.Store(&word) }

// asked counts a key.
func (c *counters) asked(reason Reason) {
	c.keys.Add(1)
	if reason != 0 {
		c.bypasses[reason].Add(1)
	}
}

// overlap adds to both what two stretches of time have in common.
func (c *counters) overlap(from1, to1, from2, to2 time.Time) {
	from, to := from1, to1
	if from2.After(from) {
		from = from2
	}
	if to2.Before(to) {
		to = to2
	}
	if d := to.Sub(from); d > 0 {
		c.both.Add(int64(d))
	}
}

// since adds what has passed to one of the times.
func since(total *atomic.Int64, from time.Time) { total.Add(int64(time.Since(from))) }
