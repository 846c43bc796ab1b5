// Package versus measures a piece of work beside the baseline that it is to be compared with.
package versus

import (
	"testing"
	"time"
)

// Run makes three benchmarks: "by=baseline" and "by=alkey" for time and memory, and "by=turns", which
// does a few of each in turn and reports what one takes as "baseline-ns" and "alkey-ns", and their
// ratio. On a machine that is now faster and now slower only the turns can be compared.
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
		const few = 20
		var first, second time.Duration
		turns := 0
		for b.Loop() {
			first += timed(few, baseline)
			second += timed(few, alkey)
			turns++
		}
		n := float64(turns * few)
		b.ReportMetric(float64(first)/n, "baseline-ns")
		b.ReportMetric(float64(second)/n, "alkey-ns")
		b.ReportMetric(float64(second)/float64(first), "ratio")
		b.ReportMetric(0, "ns/op")
	})
}

func timed(n int, work func()) time.Duration {
	from := time.Now()
	for range n {
		work()
	}
	return time.Since(from)
}
