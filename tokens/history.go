package tokens

import (
	"sync"
	"sync/atomic"
	"time"
)

// history knows what a Store had seen some time ago, by the monotonic clock. It is for requests whose
// data comes from replicas that lag behind: see Store.Watermark. Nothing is kept until a lag is asked
// for. What is kept then is bounded, and no goroutine keeps it. Safe for concurrent use.
type history struct {
	lag atomic.Int64 // a time.Duration; 0: off

	mu     sync.Mutex
	origin time.Time // of the times below
	ripe   Stamp     // had been seen lag ago
	// What is younger, in a ring, the oldest first. Each sample holds what was seen in a span of
	// lag/samplesPerLag or more, under the time at which the last of it was seen: nothing counts as
	// seen before it was.
	samples [ringSize]sample
	first   int
	count   int
}

type sample struct {
	begun time.Duration // of the span
	at    time.Duration // the newest in it was seen
	stamp Stamp
}

// As many spans as make up the lag, and room for those at its ends.
const (
	samplesPerLag = 64
	ringSize      = samplesPerLag + 4
)

// extend makes the lag d, if that is longer than it was. What had been seen that long ago is not known
// then, and counts as nothing.
func (h *history) extend(d time.Duration, clock func() time.Time, seen func() Stamp) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d <= time.Duration(h.lag.Load()) {
		return
	}
	h.origin, h.ripe, h.first, h.count = clock(), 0, 0, 0
	// What is seen from here on is noted by who sees it; what was seen before is taken in here.
	h.lag.Store(int64(d))
	stamp := seen()
	h.add(clock().Sub(h.origin), stamp)
}

// note takes in that a stamp has been seen, by now at the latest.
func (h *history) note(now time.Time, stamp Stamp) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := max(now.Sub(h.origin), 0) // the lag can have been extended since
	h.ripen(at)
	h.add(at, stamp)
}

// before returns what had been seen lag ago, and the lag.
func (h *history) before(now time.Time) (Stamp, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ripen(now.Sub(h.origin))
	return h.ripe, time.Duration(h.lag.Load())
}

// ripen needs h.mu.
func (h *history) ripen(now time.Duration) {
	lag := time.Duration(h.lag.Load())
	for h.count > 0 && now-h.samples[h.first].at >= lag {
		h.ripe = max(h.ripe, h.samples[h.first].stamp)
		h.first = (h.first + 1) % ringSize
		h.count--
	}
}

// add needs h.mu. Who has seen a smaller stamp may come later than who has seen a larger one.
func (h *history) add(at time.Duration, stamp Stamp) {
	span := time.Duration(h.lag.Load()) / samplesPerLag
	if h.count > 0 {
		newest := &h.samples[(h.first+h.count-1)%ringSize]
		if stamp <= newest.stamp {
			return
		}
		// The spans of a full ring are longer than the lag together, so it is full only for a moment in
		// which several goroutines have read the time and not come here in that order.
		if at-newest.begun < span || h.count == ringSize {
			newest.at, newest.stamp = max(newest.at, at), stamp
			return
		}
		at = max(at, newest.at)
	} else if stamp <= h.ripe {
		return
	}
	h.samples[(h.first+h.count)%ringSize] = sample{begun: at, at: at, stamp: stamp}
	h.count++
}

// ExpectLag says that what is loaded on behalf of requests may come from replicas that are up to lag
// behind. Of all the lags that it is given the longest holds, for everybody who uses the Store.
func (s *Store) ExpectLag(lag time.Duration) {
	if lag > 0 {
		s.history.extend(lag, s.now, s.Seen)
	}
}

// Watermark returns the watermark of what is loaded from now on, and the lag that it allows for: the
// largest stamp that this process had seen that long ago. It does no I/O.
//
// Why that is safe. The store gives a stamp out after the database has completed the commits that it
// is for, and a larger one each time. So when a stamp had been seen, lag ago, the commits of it and of
// all smaller ones were complete, and a replica that is at most lag behind has applied them: what is
// loaded from it now is at least as new as the watermark. Of the commits of a larger stamp nobody
// here knows since when they are complete, only since when their stamp has been seen. So a value that
// depends on one is not stored. A process that is younger than the lag had seen nothing: its
// watermark is 0.
func (s *Store) Watermark() (Stamp, time.Duration) {
	if s.history.lag.Load() == 0 {
		return s.Seen(), 0
	}
	return s.history.before(s.now())
}

// Lag returns the longest lag that ExpectLag was given.
func (s *Store) Lag() time.Duration { return time.Duration(s.history.lag.Load()) }
