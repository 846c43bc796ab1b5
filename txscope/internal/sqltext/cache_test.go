package sqltext

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

// size returns how many texts and bytes are kept, as counted and as they are.
func (c *Cache[T]) size(t interface{ Fatalf(string, ...any) }) (entries, bytes int) {
	k := c.kept.Load()
	k.mu.Lock()
	defer k.mu.Unlock()
	for text, e := range k.byText.All() {
		if text != e.text {
			t.Fatalf("%q is kept as %q", e.text, text)
		}
		entries++
		bytes += len(text)
	}
	if entries != k.queue.Len() || bytes != k.bytes {
		t.Fatalf("%d texts of %d bytes, counted as %d of %d", entries, bytes, k.queue.Len(), k.bytes)
	}
	return entries, bytes
}

func TestCacheBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maxEntries := rapid.IntRange(0, 8).Draw(t, "entries")
		maxBytes := rapid.SampledFrom([]int{0, 5, 40, 3 * MaxText}).Draw(t, "bytes")
		made := 0
		c := NewCache(maxEntries, maxBytes, func(text string) string { made++; return "<" + text + ">" })
		kept := map[string]bool{} // what may be kept
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.IntRange(0, 20).Draw(t, "clear") == 0 {
				c.Clear()
				clear(kept)
			}
			length := rapid.SampledFrom([]int{0, 1, 4, 6, 20, MaxText, MaxText + 1}).Draw(t, "length")
			text := strings.Repeat(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "letter"), length)
			before := made
			if got := c.Get(text); got != "<"+text+">" {
				t.Fatalf("the value of %.20q is %.20q", text, got)
			}
			if made == before && !kept[text] {
				t.Fatalf("%.20q was kept when it could not be", text)
			}
			keeps := length <= MaxText && length <= maxBytes && maxEntries > 0
			kept[text] = keeps
			entries, bytes := c.size(t)
			if entries > maxEntries || bytes > maxBytes {
				t.Fatalf("%d texts of %d bytes are kept, more than %d of %d", entries, bytes, maxEntries, maxBytes)
			}
			before = made
			if c.Get(text); keeps != (made == before) {
				t.Fatalf("%.20q of %d bytes, again: made is %v", text, length, made != before)
			}
		}
	})
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	made := map[string]int{}
	c := NewCache(100, DefaultBytes, func(text string) int { made[text]++; return len(text) })
	for i := range 10_000 {
		c.Get(fmt.Sprint("once ", i))
		c.Get(fmt.Sprint("always ", i%50))
	}
	for i := range 50 {
		if n := made[fmt.Sprint("always ", i)]; n != 1 {
			t.Errorf("a text that is used always was made %d times", n)
		}
	}
}

func TestCacheKeepsNoMoreThanTheText(t *testing.T) {
	c := NewCache(10, DefaultBytes, func(text string) string { return text[:1] })
	freed := make(chan struct{})
	func() {
		large := new([1 << 20]byte)
		runtime.AddCleanup(large, func(struct{}) { close(freed) }, struct{}{})
		c.Get(unsafe.String(&large[0], 100))
	}()
	for range 100 {
		runtime.GC()
		select {
		case <-freed:
			runtime.KeepAlive(c)
			return
		default:
			runtime.Gosched()
		}
	}
	t.Error("what a text was a part of is not freed")
}

// A value that was made before Clear is never seen by a Get that begins after it.
func TestCacheClear(t *testing.T) {
	var version atomic.Int64
	c := NewCache(4, DefaultBytes, func(string) int64 {
		v := version.Load()
		runtime.Gosched()
		return v
	})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 2000 {
				least := version.Load() - 1 // that one's Clear may be under way
				if got := c.Get(fmt.Sprint(i % 6)); got < least {
					t.Errorf("version %d, when %d was in force", got, least)
				}
			}
		})
	}
	for range 500 {
		version.Add(1)
		c.Clear()
	}
	wg.Wait()
	if entries, _ := c.size(t); entries > 4 {
		t.Errorf("%d texts are kept", entries)
	}
}

const benchmarked = "UPDATE accounts SET balance = balance - $1, updated_at = now(), version = version + 1 WHERE id = $2 AND version = $3 AND deleted_at IS NULL"

func TestCacheHitAllocatesNothing(t *testing.T) {
	c := NewCache(DefaultEntries, DefaultBytes, func(text string) *Text { return Parse(Postgres, text) })
	c.Get(benchmarked)
	if n := testing.AllocsPerRun(1000, func() { c.Get(benchmarked) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCacheHit(b *testing.B) {
	parse := func(text string) *Text { return Parse(Postgres, text) }
	full := func() *Cache[*Text] {
		c := NewCache(DefaultEntries, DefaultBytes, parse)
		for i := range DefaultEntries {
			c.Get(fmt.Sprint("SELECT ", i))
		}
		c.Get(benchmarked)
		return c
	}
	b.Run("by=one", func(b *testing.B) {
		c := full()
		b.ReportAllocs()
		for b.Loop() {
			c.Get(benchmarked)
		}
	})
	b.Run("by=parallel", func(b *testing.B) {
		c := full()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				c.Get(benchmarked)
			}
		})
	})
	b.Run("by=parsing", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			parse(benchmarked)
		}
	})
}
