// Package cachetest holds implementations of cache.Store to their contract.
package cachetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/alkey-go/alkey/cache"
)

// Options is what Run needs to know of a store.
type Options struct {
	// New makes an empty store that has room for at least 1 MB. Run closes it.
	New func(t *testing.T) cache.Store
	// Advance lets time pass on the clock by which the store's values expire. Leave it nil if that
	// is the real one.
	Advance func(time.Duration)
	// TooLarge is the length of a value that the store has no room for; 0: there is none.
	TooLarge int
}

// Run runs the suite.
func Run(t *testing.T, opts Options) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*testing.T, cache.Store, Options)
	}{
		{"a miss is nil", miss},
		{"what was set is got", roundTrip},
		{"an empty value is no miss", empty},
		{"many keys keep their order", order},
		{"no keys", noKeys},
		{"set replaces", replaces},
		{"keys and values are any bytes", anyBytes},
		{"ttl", ttl},
		{"a new ttl replaces the old", replacedTTL},
		{"a ttl that has passed", passedTTL},
		{"too large", tooLarge},
		{"many at once", many},
		{"a map", aMap},
		{"the keys are the caller's", callersKeys},
		{"a context that has ended", ended},
		{"concurrent use", concurrent},
		{"nothing older after Set", nothingOlder},
		{"many are set at once", setMany},
		{"each of many by itself", setEach},
		{"the list of items is the caller's", callersItems},
		{"nothing older after SetMany", nothingOlderMany},
		{"what was got stays as it is", stays},
		{"closed", closed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := opts.New(t)
			defer func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			c.run(t, s, opts)
		})
	}
}

func miss(t *testing.T, s cache.Store, _ Options) {
	expect(t, s, "never set", nil)
}

func roundTrip(t *testing.T, s cache.Store, _ Options) {
	set(t, s, "a", []byte("value"), 0)
	expect(t, s, "a", []byte("value"))
	expect(t, s, "a", []byte("value"))
	expect(t, s, "A", nil)
}

func empty(t *testing.T, s cache.Store, _ Options) {
	set(t, s, "empty", []byte{}, 0)
	expect(t, s, "empty", []byte{})
	set(t, s, "nil", nil, 0)
	expect(t, s, "nil", []byte{})
}

func order(t *testing.T, s cache.Store, _ Options) {
	set(t, s, "a", []byte("1"), 0)
	set(t, s, "b", []byte("2"), 0)
	got, err := s.Get(t.Context(), []string{"b", "none", "a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	want := [][]byte{[]byte("2"), nil, []byte("1"), []byte("2")}
	if len(got) != len(want) {
		t.Fatalf("got %d values for %d keys", len(got), len(want))
	}
	for i := range want {
		if !same(got[i], want[i]) {
			t.Errorf("value %d is %q, want %q", i, got[i], want[i])
		}
	}
}

func noKeys(t *testing.T, s cache.Store, _ Options) {
	if got, err := s.Get(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("Get of no keys: %q, %v", got, err)
	}
}

func replaces(t *testing.T, s cache.Store, _ Options) {
	for i := range 100 {
		v := []byte(strings.Repeat("x", i))
		set(t, s, "a", v, 0)
		expect(t, s, "a", v)
	}
}

func anyBytes(t *testing.T, s cache.Store, _ Options) {
	var every [256]byte
	for i := range every {
		every[i] = byte(i)
	}
	big := bytes.Repeat(every[:], 1024)
	for _, key := range []string{"alkey:users#1/page", "€ \r\n\x00", string(every[:]), strings.Repeat("k", 512)} {
		set(t, s, key, big, 0)
		expect(t, s, key, big)
	}
}

func ttl(t *testing.T, s cache.Store, o Options) {
	set(t, s, "none", []byte("1"), 0)
	set(t, s, "long", []byte("2"), time.Hour)
	set(t, s, "short", []byte("3"), short)
	o.expires(t, s, "short")
	expect(t, s, "long", []byte("2"))
	expect(t, s, "none", []byte("1"))
}

func replacedTTL(t *testing.T, s cache.Store, o Options) {
	set(t, s, "a", []byte("1"), short)
	set(t, s, "a", []byte("2"), time.Hour)
	set(t, s, "b", []byte("1"), time.Hour)
	set(t, s, "b", []byte("2"), short)
	o.expires(t, s, "b")
	expect(t, s, "a", []byte("2"))
}

// stays replaces and drops values while somebody has them.
func stays(t *testing.T, s cache.Store, _ Options) {
	const n, size = 20, 2000
	of := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, size) }
	name := func(i int) string { return "key " + strconv.Itoa(i) }
	var keys []string
	for i := range n {
		set(t, s, name(i), of(i), 0)
		keys = append(keys, name(i))
	}
	got, err := s.Get(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	local, _ := s.(cache.Local)
	for _, key := range keys {
		var v []byte
		if local != nil {
			v, _ = local.Lookup(key)
		}
		got = append(got, v)
	}
	for i := range n {
		set(t, s, name(i), of(i+100), 0)
		set(t, s, name(i), nil, -1)
	}
	for i := range 2000 {
		set(t, s, "other "+strconv.Itoa(i), of(i), 0)
	}
	for i, v := range got {
		if v != nil && !bytes.Equal(v, of(i%n)) {
			t.Errorf("value %d was modified while it was in use", i)
		}
	}
}

const short = 50 * time.Millisecond

// expires waits until key is a miss.
func (o Options) expires(t *testing.T, s cache.Store, key string) {
	t.Helper()
	if o.Advance != nil {
		o.Advance(2 * short)
		expect(t, s, key, nil)
		return
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		got, err := s.Get(t.Context(), []string{key})
		if err != nil {
			t.Fatal(err)
		}
		if got[0] == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s has a ttl of %v and is still there", key, short)
		}
	}
}

func passedTTL(t *testing.T, s cache.Store, _ Options) {
	set(t, s, "new", []byte("1"), -1)
	expect(t, s, "new", nil)
	set(t, s, "old", []byte("1"), 0)
	set(t, s, "old", []byte("2"), -time.Hour)
	expect(t, s, "old", nil)
	set(t, s, "old", []byte("3"), time.Hour)
	expect(t, s, "old", []byte("3"))
}

func tooLarge(t *testing.T, s cache.Store, o Options) {
	if o.TooLarge == 0 {
		t.Skip("the store takes any value")
	}
	set(t, s, "a", []byte("small"), 0)
	set(t, s, "a", make([]byte, o.TooLarge), 0)
	expect(t, s, "a", nil)
	set(t, s, "a", []byte("small again"), 0)
	expect(t, s, "a", []byte("small again"))
}

func many(t *testing.T, s cache.Store, _ Options) {
	const n = 1000
	keys, want := make([]string, n), make([][]byte, n)
	for i := range n {
		keys[i] = fmt.Sprintf("alkey:users#%d/page", i)
		if i%3 == 0 {
			continue
		}
		want[i] = []byte(strings.Repeat(keys[i], i%40))
		set(t, s, keys[i], want[i], 0)
	}
	got, err := s.Get(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if !same(got[i], want[i]) {
			t.Errorf("%s: %.40q, want %.40q", keys[i], got[i], want[i])
		}
	}
}

// aMap compares the store with a map, of values that are long and short, and that can be compressed
// and cannot.
func aMap(t *testing.T, s cache.Store, _ Options) {
	run := 0
	rapid.Check(t, func(r *rapid.T) {
		run++
		want := map[string][]byte{}
		keys := rapid.SliceOfN(rapid.Map(rapid.SampledFrom([]string{"", "a", "b", "c/d", "€"}), func(k string) string {
			return fmt.Sprint(run, "/", k)
		}), 1, 8)
		r.Repeat(map[string]func(*rapid.T){
			"set": func(r *rapid.T) {
				key := keys.Draw(r, "key")[0]
				v := bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 0, 1500).Draw(r, "value"), rapid.IntRange(1, 3).Draw(r, "times"))
				ttl := rapid.SampledFrom([]time.Duration{0, time.Hour, -1}).Draw(r, "ttl")
				if err := s.Set(t.Context(), key, bytes.Clone(v), ttl); err != nil {
					r.Fatal(err)
				}
				if delete(want, key); ttl >= 0 {
					want[key] = append([]byte{}, v...)
				}
			},
			"set many": func(r *rapid.T) {
				var items []cache.Item
				for _, key := range keys.Draw(r, "keys") {
					v := bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 0, 1500).Draw(r, "value"), rapid.IntRange(1, 3).Draw(r, "times"))
					ttl := rapid.SampledFrom([]time.Duration{0, time.Hour, -1}).Draw(r, "ttl")
					items = append(items, cache.Item{Key: key, Value: bytes.Clone(v), TTL: ttl})
					if delete(want, key); ttl >= 0 {
						want[key] = append([]byte{}, v...)
					}
				}
				if err := cache.SetMany(t.Context(), s, items); err != nil {
					r.Fatal(err)
				}
			},
			"get": func(r *rapid.T) {
				asked := keys.Draw(r, "keys")
				got, err := s.Get(t.Context(), asked)
				if err != nil {
					r.Fatal(err)
				}
				for i, key := range asked {
					if !same(got[i], want[key]) {
						r.Fatalf("%q holds %.40q, want %.40q", key, got[i], want[key])
					}
				}
			},
		})
	})
}

func callersKeys(t *testing.T, s cache.Store, _ Options) {
	set(t, s, "a", []byte("1"), 0)
	keys := []string{"a"}
	if _, err := s.Get(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	keys[0] = "b"
	expect(t, s, "a", []byte("1"))
	expect(t, s, "b", nil)
}

func ended(t *testing.T, s cache.Store, _ Options) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Get(ctx, []string{"a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
	if err := s.Set(ctx, "a", []byte("1"), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Set: %v", err)
	}
	if err := cache.SetMany(ctx, s, []cache.Item{{Key: "a"}, {Key: "b"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("SetMany: %v", err)
	}
	expect(t, s, "a", nil)
	expect(t, s, "b", nil)
}

// concurrent checks that a reader never meets a value of another key, or half of one.
func concurrent(t *testing.T, s cache.Store, _ Options) {
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				key := fmt.Sprint("key", i%7)
				if g%2 == 0 {
					v := strings.Repeat(key+";", i%5+1)
					if err := s.Set(t.Context(), key, []byte(v), time.Minute); err != nil {
						t.Error(err)
					}
					continue
				}
				got, err := s.Get(t.Context(), []string{key})
				if err != nil {
					t.Error(err)
				} else if strings.ReplaceAll(string(got[0]), key+";", "") != "" {
					t.Errorf("%s holds %q", key, got[0])
				}
			}
		})
	}
	wg.Wait()
}

// nothingOlder checks that what a Set has replaced does not come back, while others read.
func nothingOlder(t *testing.T, s cache.Store, _ Options) {
	const last = 300
	var wg sync.WaitGroup
	for k := range 2 {
		key := fmt.Sprint("counter", k)
		var done atomic.Int64
		wg.Go(func() {
			for n := int64(1); n <= last; n++ {
				// Now and then the value is dropped: what a reader has just read must not take its place.
				if n%5 == 0 {
					if err := s.Set(t.Context(), key, nil, -1); err != nil {
						t.Error(err)
					}
				}
				if err := s.Set(t.Context(), key, strconv.AppendInt(nil, n, 10), time.Hour); err != nil {
					t.Error(err)
				}
				done.Store(n)
			}
		})
		for range 2 {
			wg.Go(func() {
				for least := int64(0); least < last; {
					least = done.Load()
					got, err := s.Get(t.Context(), []string{"none", key})
					if err != nil {
						t.Error(err)
						return
					}
					if got[1] == nil {
						continue
					}
					if n, err := strconv.ParseInt(string(got[1]), 10, 64); err != nil || n < least {
						t.Errorf("%s holds %q after %d was set", key, got[1], least)
						return
					}
				}
			})
		}
	}
	wg.Wait()
}

// setMany sets more values than a store is likely to send at once, long and short ones.
func setMany(t *testing.T, s cache.Store, _ Options) {
	if err := cache.SetMany(t.Context(), s, nil); err != nil {
		t.Errorf("no items: %v", err)
	}
	const n = 600
	items, keys := make([]cache.Item, n), make([]string, n)
	want := make([][]byte, n)
	for i := range n {
		keys[i] = fmt.Sprintf("alkey:users#%d/page", i)
		want[i] = []byte(strings.Repeat(keys[i], i%40))
		items[i] = cache.Item{Key: keys[i], Value: bytes.Clone(want[i])}
	}
	if err := cache.SetMany(t.Context(), s, items); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if !same(got[i], want[i]) {
			t.Errorf("%s: %.40q, want %.40q", keys[i], got[i], want[i])
		}
	}
}

// setEach sets items that differ in what becomes of them.
func setEach(t *testing.T, s cache.Store, o Options) {
	set(t, s, "passed", []byte("old"), 0)
	set(t, s, "large", []byte("old"), 0)
	items := []cache.Item{
		{Key: "twice", Value: []byte("1")},
		{Key: "short", Value: []byte("2"), TTL: short},
		{Key: "passed", Value: []byte("3"), TTL: -1},
		{Key: "long", Value: []byte("4"), TTL: time.Hour},
		{Key: "nil"},
		{Key: "twice", Value: []byte("5")},
	}
	if o.TooLarge > 0 {
		items = append(items, cache.Item{Key: "large", Value: make([]byte, o.TooLarge)})
	}
	items = append(items, cache.Item{Key: "last", Value: []byte("6")})
	if err := cache.SetMany(t.Context(), s, items); err != nil {
		t.Fatal(err)
	}
	expect(t, s, "twice", []byte("5"))
	expect(t, s, "passed", nil)
	expect(t, s, "nil", []byte{})
	expect(t, s, "last", []byte("6"))
	if o.TooLarge > 0 {
		expect(t, s, "large", nil)
	}
	o.expires(t, s, "short")
	expect(t, s, "long", []byte("4"))
	expect(t, s, "twice", []byte("5"))
}

func callersItems(t *testing.T, s cache.Store, _ Options) {
	items := []cache.Item{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("2")}}
	if err := cache.SetMany(t.Context(), s, items); err != nil {
		t.Fatal(err)
	}
	items[0], items[1] = cache.Item{Key: "c"}, cache.Item{Key: "d"}
	expect(t, s, "a", []byte("1"))
	expect(t, s, "b", []byte("2"))
	expect(t, s, "c", nil)
}

// nothingOlderMany is nothingOlder for values that are set together, by two at the same time.
func nothingOlderMany(t *testing.T, s cache.Store, _ Options) {
	const last, n = 60, 40
	var wg sync.WaitGroup
	for k := range 2 {
		keys := make([]string, n)
		for i := range keys {
			keys[i] = fmt.Sprint("counter", k, "/", i)
		}
		var done atomic.Int64
		wg.Go(func() {
			defer done.Store(last)
			for v := int64(1); v <= last; v++ {
				items := make([]cache.Item, n)
				for i, key := range keys {
					items[i] = cache.Item{Key: key, Value: strconv.AppendInt(nil, v, 10), TTL: time.Hour}
				}
				if err := cache.SetMany(t.Context(), s, items); err != nil {
					t.Error(err)
					return
				}
				done.Store(v)
			}
		})
		wg.Go(func() {
			for least := int64(0); least < last; {
				least = done.Load()
				got, err := s.Get(t.Context(), keys)
				if err != nil {
					t.Error(err)
					return
				}
				for i, v := range got {
					if v == nil {
						continue
					}
					if n, err := strconv.ParseInt(string(v), 10, 64); err != nil || n < least {
						t.Errorf("%s holds %q after %d was set", keys[i], v, least)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func closed(t *testing.T, s cache.Store, _ Options) {
	set(t, s, "a", []byte("1"), 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), []string{"a"}); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("Get: %v", err)
	}
	if err := s.Set(t.Context(), "a", []byte("1"), 0); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("Set: %v", err)
	}
	if err := cache.SetMany(t.Context(), s, []cache.Item{{Key: "a"}, {Key: "b"}}); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("SetMany: %v", err)
	}
	if l, ok := s.(cache.Local); ok {
		if v, ok := l.Lookup("a"); ok {
			t.Errorf("Lookup: %q", v)
		}
	}
}

func set(t *testing.T, s cache.Store, key string, value []byte, ttl time.Duration) {
	t.Helper()
	if err := s.Set(t.Context(), key, value, ttl); err != nil {
		t.Fatalf("Set %.20q: %v", key, err)
	}
}

// expect also looks where a store that is Local has the value.
func expect(t *testing.T, s cache.Store, key string, want []byte) {
	t.Helper()
	got, err := s.Get(t.Context(), []string{key})
	if err != nil {
		t.Fatalf("Get %.20q: %v", key, err)
	}
	if len(got) != 1 || !same(got[0], want) {
		t.Errorf("Get %.20q: %.40q, want %.40q", key, got, want)
	}
	if l, ok := s.(cache.Local); ok {
		if v, ok := l.Lookup(key); ok && !same(v, want) {
			t.Errorf("Lookup %.20q: %.40q, want %.40q", key, v, want)
		}
	}
}

func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
