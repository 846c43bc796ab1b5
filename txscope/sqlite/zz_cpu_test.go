package sqlite_test

import (
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
)

func cpu() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(1, &r) // RUSAGE_THREAD
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func BenchmarkZZ(b *testing.B) {
	runtime.LockOSThread()
	for _, w := range []struct {
		name string
		f    func(b *testing.B, wrapped bool) func()
		few  int
	}{
		{"select", func(b *testing.B, w bool) func() { return selects(b, benchDB(b, w)) }, 20},
		{"prepared", func(b *testing.B, w bool) func() { return prepared(b, benchDB(b, w)) }, 20},
		{"many", func(b *testing.B, w bool) func() { return updatesOfMany(b, benchDB(b, w)) }, 1},
	} {
		base, al := w.f(b, false), w.f(b, true)
		var x, y []time.Duration
		for range 400 {
			t0 := time.Now()
			for range w.few {
				base()
			}
			t1 := time.Now()
			for range w.few {
				al()
			}
			x, y = append(x, t1.Sub(t0)), append(y, time.Since(t1))
		}
		slices.Sort(x)
		slices.Sort(y)
		b.Logf("%s: min %.3f p5 %.3f p20 %.3f median %.3f (%v)", w.name, float64(y[0])/float64(x[0]), float64(y[20])/float64(x[20]), float64(y[80])/float64(x[80]), float64(y[200])/float64(x[200]), x[0])
	}
}
