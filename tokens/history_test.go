package tokens

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// past knows all that was seen, and when: what the history has to agree with.
type past []sample

// until returns the largest stamp seen until then.
func (p past) until(at time.Duration) (largest Stamp) {
	for _, s := range p {
		if s.at <= at {
			largest = max(largest, s.stamp)
		}
	}
	return largest
}

// The history never tells of more than had been seen lag ago, and of no less than had been seen a span
// earlier, however often something is seen.
func TestHistoryLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lag := time.Duration(rapid.Int64Range(samplesPerLag, int64(time.Second)).Draw(t, "lag"))
		start := time.Now()
		now := time.Duration(0)
		clock := func() time.Time { return start.Add(now) }
		var all past
		see := func(stamp Stamp) Stamp {
			all = append(all, sample{at: now, stamp: stamp})
			return stamp
		}
		last := Stamp(rapid.IntRange(0, 10).Draw(t, "seen before"))
		var h history
		h.extend(lag, clock, func() Stamp { return see(last) })
		for i := range rapid.IntRange(1, 400).Draw(t, "steps") {
			// Often so that many fall in one span, at times so that nothing is seen for long.
			most := lag / rapid.SampledFrom([]time.Duration{1000, samplesPerLag, 3, 1}).Draw(t, "pace") * 2
			now += time.Duration(rapid.Int64Range(0, int64(most)).Draw(t, "passes"))
			if rapid.IntRange(0, 3).Draw(t, "do") > 0 {
				last += Stamp(rapid.IntRange(0, 5).Draw(t, "grows"))
				h.note(clock(), see(last))
			}
			got, of := h.before(clock())
			if of != lag {
				t.Fatalf("the lag is %v, not %v", of, lag)
			}
			if most := all.until(now - lag); got > most {
				t.Fatalf("step %d: %d, and only %d had been seen lag ago", i, got, most)
			}
			if least := all.until(now - lag - lag/samplesPerLag); got < least {
				t.Fatalf("step %d: %d, and %d had been seen a span before that", i, got, least)
			}
		}
	})
}

// Who has read the time may be late in saying what he has seen: others have been there since, the lag
// was extended, or so many come at once that the ring is full. Nothing counts as seen too early by it.
func TestHistoryOfLateComers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lag := time.Duration(rapid.Int64Range(1, 300).Draw(t, "lag"))
		start := time.Now()
		now := time.Duration(0)
		clock := func() time.Time { return start.Add(now) }
		var all past
		var h history
		h.extend(lag, clock, func() Stamp { return 0 })
		for i := range rapid.IntRange(1, 300).Draw(t, "steps") {
			now += time.Duration(rapid.IntRange(0, 20).Draw(t, "passes"))
			late := time.Duration(rapid.IntRange(0, 100).Draw(t, "late"))
			stamp := Stamp(rapid.IntRange(1, 1000).Draw(t, "stamp"))
			all = append(all, sample{at: max(now-late, 0), stamp: stamp})
			h.note(start.Add(now-late), stamp)
			if rapid.IntRange(0, 30).Draw(t, "extend") == 0 {
				lag += time.Duration(rapid.IntRange(0, 100).Draw(t, "by"))
				h.extend(lag, clock, func() Stamp { return all.until(now) })
			}
			if got, _ := h.before(clock()); got > all.until(now-lag) {
				t.Fatalf("step %d: %d, and only %d had been seen lag ago", i, got, all.until(now-lag))
			}
		}
	})
}

// A process is told nothing of the time before it: what it had seen when a lag was first spoken of
// counts only when that lag has passed, and so after each longer one.
func TestWatermark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewMemory()
		defer s.Close()
		publish := func() Stamp {
			t.Helper()
			stamp, err := Bump(t.Context(), s, "alkey:users#1")
			if err != nil {
				t.Fatal(err)
			}
			return stamp
		}
		is := func(want Stamp, lag time.Duration) {
			t.Helper()
			if got, of := s.Watermark(); got != want || of != lag || s.Lag() != lag {
				t.Errorf("the watermark is %d for a lag of %v (%v), want %d for %v", got, of, s.Lag(), want, lag)
			}
		}
		first := publish()
		is(first, 0)
		s.ExpectLag(0)
		is(first, 0)
		s.ExpectLag(time.Second)
		is(0, time.Second)
		time.Sleep(time.Second - time.Nanosecond)
		is(0, time.Second)
		time.Sleep(time.Nanosecond)
		is(first, time.Second)
		second := publish()
		if s.Seen() != second {
			t.Error("what is seen has changed by the lag")
		}
		time.Sleep(time.Second - time.Nanosecond)
		is(first, time.Second)
		s.ExpectLag(time.Millisecond) // the longest holds
		is(first, time.Second)
		time.Sleep(time.Nanosecond)
		is(second, time.Second)
		s.ExpectLag(time.Minute)
		is(0, time.Minute)
		third := publish()
		time.Sleep(time.Minute)
		is(third, time.Minute)
		time.Sleep(24 * time.Hour) // nothing is seen for long
		is(third, time.Minute)
	})
}

// What is seen while a lag is first spoken of is in the history.
func TestWatermarkOfManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 200 {
			s := NewMemory()
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() {
					for range 5 {
						if _, err := Bump(t.Context(), s, Global); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Go(func() { s.ExpectLag(time.Second) })
			all.Wait()
			time.Sleep(time.Second)
			if w, _ := s.Watermark(); w != s.Seen() {
				t.Fatalf("the watermark is %d, and %d had been seen", w, s.Seen())
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func BenchmarkWatermark(b *testing.B) {
	for name, lag := range map[string]time.Duration{"none": 0, "lag": time.Second} {
		b.Run(name, func(b *testing.B) {
			s := NewMemory()
			defer s.Close()
			s.ExpectLag(lag)
			for b.Loop() {
				s.Watermark()
			}
		})
	}
}
