// Package versus measures a piece of work beside the baseline that it is to be compared with.
package versus

import (
	"slices"
	"testing"
	"time"
)

// Run makes three benchmarks: "by=baseline" and "by=alkey" for time and memory, and "by=turns", which
// does a few of each in turn and reports the medians of what one takes as "baseline-ns" and
// "alkey-ns", and the median of the turns' ratios. On a machine that is now faster and now slower, and
// where a round trip sometimes waits for another process, only the turns can be compared. Each of the
// two goes first in every other turn.
func Run(b *testing.B, baseline, alkey func()) {
	b.Helper()
	alone := func(work func()) func(*testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				work()
			}
		}
	}
	b.Run("by=baseline", alone(baseline))
	b.Run("by=alkey", alone(alkey))
	b.Run("by=turns", func(b *testing.B) {
		const few = 10
		var first, second, ratio []float64
		for i := 0; b.Loop(); i++ {
			var x, y float64
			if i%2 == 0 {
				x, y = timed(few, baseline), timed(few, alkey)
			} else {
				y, x = timed(few, alkey), timed(few, baseline)
			}
			first, second, ratio = append(first, x), append(second, y), append(ratio, y/x)
		}
		b.ReportMetric(median(first), "baseline-ns")
		b.ReportMetric(median(second), "alkey-ns")
		b.ReportMetric(median(ratio), "ratio")
		b.ReportMetric(0, "ns/op")
	})
}

// timed returns the nanoseconds that one of n takes.
func timed(n int, work func()) float64 {
	from := time.Now()
	for range n {
		work()
	}
	return float64(time.Since(from)) / float64(n)
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}
