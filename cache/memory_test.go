package cache_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/cache/cachetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemoryConformance(t *testing.T) {
	cachetest.Run(t, cachetest.Options{
		New:      func(*testing.T) cache.Store { return cache.NewMemory(8 << 20) },
		TooLarge: 8 << 20,
	})
}

func TestMemoryExpiresOnTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := cache.NewMemory(1 << 20)
		defer m.Close()
		if err := m.Set(t.Context(), "a", []byte("1"), time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute - time.Nanosecond)
		if _, ok := m.Lookup("a"); !ok {
			t.Error("gone before its deadline")
		}
		time.Sleep(time.Nanosecond)
		if v, ok := m.Lookup("a"); ok {
			t.Errorf("%q is there at its deadline", v)
		}
	})
}

// TestMemoryIsBounded fills a store many times over and counts what is still there.
func TestMemoryIsBounded(t *testing.T) {
	const limit = 1 << 20
	m := cache.NewMemory(limit)
	defer m.Close()
	keys := make([]string, 0, 20_000)
	for i := range 20_000 {
		key := fmt.Sprintf("alkey:users#%d", i)
		keys = append(keys, key)
		if err := m.Set(t.Context(), key, make([]byte, rand.IntN(2000)), 0); err != nil {
			t.Fatal(err)
		}
	}
	values, err := m.Get(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	bytes, n := 0, 0
	for i, v := range values {
		if v != nil {
			bytes += len(v) + len(keys[i])
			n++
		}
	}
	if bytes > limit {
		t.Errorf("%d bytes in %d entries are kept, the limit is %d", bytes, n, limit)
	}
	if bytes < limit/2 {
		t.Errorf("only %d bytes are kept of the %d allowed", bytes, limit)
	}
}

// TestMemoryWeighsEntries checks the constant for an entry: the heap must not outgrow the bound by
// much, even where values are tiny.
func TestMemoryWeighsEntries(t *testing.T) {
	for _, size := range []int{1, 300, 3000} {
		const limit = 2 << 20
		before := heap()
		m := cache.NewMemory(limit)
		for i := range 30_000 {
			if i*size > 4*limit {
				break
			}
			if err := m.Set(t.Context(), fmt.Sprintf("alkey:users#%d/x", i), make([]byte, size), 0); err != nil {
				t.Fatal(err)
			}
		}
		used := heap() - before
		runtime.KeepAlive(m)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		t.Logf("values of %d bytes: %.1f MB of heap for a bound of %d MB", size, float64(used)/(1<<20), limit>>20)
		if used > limit*5/4 {
			t.Errorf("values of %d bytes: %d bytes of heap are in use for a bound of %d", size, used, limit)
		}
	}
}

// heap returns the bytes that are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// TestMemoryCountsWhatIsBehindASlice: a value can be a small part of a large array.
func TestMemoryCountsWhatIsBehindASlice(t *testing.T) {
	const limit = 4 << 20
	before := heap()
	m := cache.NewMemory(limit)
	defer m.Close()
	for i := range 2000 {
		if err := m.Set(t.Context(), fmt.Sprint(i), make([]byte, 100, 64<<10), 0); err != nil {
			t.Fatal(err)
		}
	}
	if used := heap() - before; used > limit*3/2 {
		t.Errorf("%d bytes of heap are in use for a bound of %d", used, limit)
	}
	if v, ok := m.Lookup("1999"); !ok || len(v) != 100 {
		t.Errorf("%d bytes of 100 are there", len(v))
	}
}

func TestMemoryTooLarge(t *testing.T) {
	m := cache.NewMemory(1000)
	defer m.Close()
	ctx := t.Context()
	if err := m.Set(ctx, "a", []byte("small"), 0); err != nil {
		t.Fatal(err)
	}
	if err := m.Set(ctx, "a", make([]byte, 1000), 0); err != nil {
		t.Fatal(err)
	}
	if v, ok := m.Lookup("a"); ok {
		t.Errorf("%q is served after it was replaced", v)
	}
	for _, limit := range []int64{0, -1} {
		none := cache.NewMemory(limit)
		if err := none.Set(ctx, "a", nil, 0); err != nil {
			t.Fatal(err)
		}
		if _, ok := none.Lookup("a"); ok {
			t.Errorf("a store of %d bytes keeps a value", limit)
		}
		none.Close()
	}
}

// TestMemoryIsAMapWithHoles: a value that is there is the one that was set last.
func TestMemoryIsAMapWithHoles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := cache.NewMemory(rapid.Int64Range(0, 3000).Draw(t, "bytes"))
		defer m.Close()
		last := map[string]string{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			key := rapid.StringOfN(rapid.SampledFrom([]rune("ab")), 0, 2, -1).Draw(t, "key")
			if rapid.Bool().Draw(t, "set") {
				v := rapid.SliceOfN(rapid.Byte(), 0, 900).Draw(t, "value")
				last[key] = string(v)
				if err := m.Set(t.Context(), key, v, 0); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if v, ok := m.Lookup(key); ok && string(v) != last[key] {
				t.Fatalf("%q holds %q, want %q", key, v, last[key])
			}
		}
	})
}

func TestMemoryClosedWhileInUse(t *testing.T) {
	m := cache.NewMemory(1 << 20)
	ctx := t.Context()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 500 {
				_ = m.Set(ctx, fmt.Sprint(i), []byte("x"), 0)
				_, _ = m.Get(ctx, []string{fmt.Sprint(i)})
			}
		})
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := m.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

func BenchmarkMemoryLookup(b *testing.B) {
	m := cache.NewMemory(1 << 20)
	defer m.Close()
	if err := m.Set(b.Context(), "alkey:users#1/page", make([]byte, 300), 0); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := m.Lookup("alkey:users#1/page"); !ok {
			b.Fatal("a miss")
		}
	}
}

func ExampleMemory() {
	values := cache.NewMemory(64 << 20)
	defer values.Close()
	fmt.Println(values.Lookup("alkey:users#1/page"))
	// Output: [] false
}
