package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/cache/cachetest"
	"github.com/alkey-go/alkey/internal/testserver"
)

func TestTieredConformance(t *testing.T) {
	client := clientOf(t, testserver.Redis(t))
	var n atomic.Int64
	onRedis := func() cache.Store {
		return cache.NewRedisWith(client, cache.RedisOptions{
			Prefix: fmt.Sprintf("app%d:", n.Add(1)), Timeout: patient, MaxValue: 1 << 20,
		})
	}
	for name, c := range map[string]struct {
		near int64
		far  func() cache.Store
	}{
		"redis":                     {8 << 20, onRedis},
		"redis, near nothing":       {0, onRedis},
		"redis, near small":         {2000, onRedis},
		"memory":                    {8 << 20, func() cache.Store { return cache.NewMemory(1 << 20) }},
		"memory, near small":        {2000, func() cache.Store { return cache.NewMemory(1 << 20) }},
		"a store that only has Get": {8 << 20, func() cache.Store { return &spy{Store: cache.NewMemory(1 << 20)} }},
	} {
		t.Run(name, func(t *testing.T) {
			cachetest.Run(t, cachetest.Options{
				New: func(*testing.T) cache.Store {
					return cache.TieredFor(cache.NewMemory(c.near), c.far(), 100*time.Millisecond)
				},
				TooLarge: 8<<20 + 1,
			})
		})
	}
}

// spy is a store that says what it was asked for, and fails when it is told to.
type spy struct {
	cache.Store
	mu    sync.Mutex
	asked [][]string
	fault error
	hold  func() // called when Get has its values
	stay  func() // called when Set has set
}

func (s *spy) Get(ctx context.Context, keys []string) ([][]byte, error) {
	s.mu.Lock()
	s.asked = append(s.asked, slices.Clone(keys))
	fault, hold := s.fault, s.hold
	s.mu.Unlock()
	if fault != nil {
		return nil, fault
	}
	values, err := s.Store.Get(ctx, keys)
	if hold != nil {
		hold()
	}
	return values, err
}

func (s *spy) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	s.mu.Lock()
	fault, stay := s.fault, s.stay
	s.mu.Unlock()
	if fault != nil {
		return fault
	}
	err := s.Store.Set(ctx, key, value, ttl)
	if stay != nil {
		stay()
	}
	return err
}

func (s *spy) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = err
}

func (s *spy) take() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func wantValues(t *testing.T, s cache.Store, keys []string, want ...string) {
	t.Helper()
	got, err := s.Get(t.Context(), keys)
	if err != nil {
		t.Fatalf("Get %q: %v", keys, err)
	}
	for i := range want {
		if string(got[i]) != want[i] || (got[i] == nil) != (want[i] == "") {
			t.Errorf("%s holds %q, want %q", keys[i], got[i], want[i])
		}
	}
}

// TestTieredAsksForWhatIsMissing, and once.
func TestTieredAsksForWhatIsMissing(t *testing.T) {
	near, far := cache.NewMemory(1<<20), &spy{Store: cache.NewMemory(1 << 20)}
	s := cache.Tiered(near, far)
	defer s.Close()
	mustSet(t, s, "both", []byte("1"))
	mustSet(t, far, "far", []byte("2"))
	mustSet(t, near, "near", []byte("3"))
	keys := []string{"far", "both", "none", "near"}
	for _, want := range [][][]string{{{"far", "none"}}, {{"none"}}} {
		wantValues(t, s, keys, "2", "1", "", "3")
		if asked := far.take(); fmt.Sprint(asked) != fmt.Sprint(want) {
			t.Errorf("the far store is asked for %q, want %q", asked, want)
		}
	}
	wantValues(t, s, []string{"both", "far"}, "1", "2")
	if asked := far.take(); asked != nil {
		t.Errorf("the far store is asked for %q, and all is near", asked)
	}
	if v, ok := s.(cache.Local).Lookup("far"); !ok || string(v) != "2" {
		t.Errorf("Lookup of what was copied: %q, %v", v, ok)
	}
	wantValues(t, far, []string{"both"}, "1")
}

// TestTieredCopiesDoNotOutlive: what is deleted from the far store is not served for long, and what
// expires there not at all, if the far store knows when.
func TestTieredCopiesDoNotOutlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := cache.NewMemory(1 << 20)
		s := cache.Tiered(cache.NewMemory(1<<20), far)
		defer s.Close()
		deleted := func(how string) {
			t.Helper()
			wantValues(t, s, []string{"a"}, "1")
			if err := far.Set(t.Context(), "a", nil, -1); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10*time.Second - 1)
			wantValues(t, s, []string{"a"}, "1")
			time.Sleep(time.Nanosecond)
			if v, err := s.Get(t.Context(), []string{"a"}); err != nil || v[0] != nil {
				t.Errorf("%s: %q, %v is served long after it was deleted", how, v, err)
			}
		}
		mustSet(t, s, "a", []byte("1"))
		deleted("set")
		mustSet(t, far, "a", []byte("1"))
		deleted("copied")

		for _, set := range []cache.Store{s, far} {
			if err := set.Set(t.Context(), "a", []byte("2"), 3*time.Second); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			wantValues(t, s, []string{"a"}, "2")
			time.Sleep(time.Second)
			if v, err := s.Get(t.Context(), []string{"a"}); err != nil || v[0] != nil {
				t.Errorf("%q, %v is served after its ttl", v, err)
			}
		}
	})
}

// TestTieredCopiesOfRedis: the copy of a value that expires soon is gone soon.
func TestTieredCopiesOfRedis(t *testing.T) {
	client := clientOf(t, testserver.Redis(t))
	far := cache.NewRedisWith(client, cache.RedisOptions{Timeout: patient})
	near := cache.NewMemory(1 << 20)
	s := cache.TieredFor(near, far, time.Hour)
	defer s.Close()
	if err := far.Set(t.Context(), "short", []byte("1"), 8*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := far.Set(t.Context(), "long", []byte("2"), time.Hour); err != nil {
		t.Fatal(err)
	}
	mustSet(t, far, "endless", []byte("3"))
	wantValues(t, s, []string{"short", "long", "endless"}, "1", "2", "3")
	eventually(t, "the copy is gone", func() bool { _, ok := near.Lookup("short"); return !ok })
	wantValues(t, near, []string{"short", "long", "endless"}, "", "2", "3")
	wantValues(t, far, []string{"short"}, "1") // with most of its time before it
}

// TestTieredFarIsDown: what is near is served.
func TestTieredFarIsDown(t *testing.T) {
	far := &spy{Store: cache.NewMemory(1 << 20)}
	s := cache.Tiered(cache.NewMemory(1<<20), far)
	defer s.Close()
	mustSet(t, s, "a", []byte("1"))
	far.fail(cache.ErrDown)
	wantValues(t, s, []string{"a"}, "1")
	wantValues(t, s, []string{"b", "a"}, "", "1")
	if v, err := s.Get(t.Context(), []string{"b", "c"}); !errors.Is(err, cache.ErrDown) || v != nil {
		t.Errorf("Get of what is not near: %q, %v", v, err)
	}
	if err := s.Set(t.Context(), "b", []byte("2"), 0); !errors.Is(err, cache.ErrDown) {
		t.Errorf("Set: %v", err)
	}
	wantValues(t, s, []string{"b", "a"}, "2", "1")
	far.fail(nil)
	wantValues(t, s, []string{"b", "c"}, "2", "")
}

// TestTieredDoesNotCopyTheOld: a value that was replaced after the far store had returned it stays
// out of the near one.
func TestTieredDoesNotCopyTheOld(t *testing.T) {
	far := &spy{Store: cache.NewMemory(1 << 20)}
	near := cache.NewMemory(1 << 20)
	s := cache.Tiered(near, far)
	defer s.Close()
	mustSet(t, far, "a", []byte("old"))
	far.hold = func() {
		if err := s.Set(t.Context(), "a", []byte("new"), 0); err != nil {
			t.Error(err)
		}
	}
	wantValues(t, s, []string{"a"}, "old")
	far.hold = nil
	wantValues(t, s, []string{"a"}, "new")

	mustSet(t, far, "b", []byte("old"))
	far.hold = func() {
		if err := s.Set(t.Context(), "b", nil, -1); err != nil {
			t.Error(err)
		}
	}
	wantValues(t, s, []string{"b"}, "old")
	far.hold = nil
	wantValues(t, s, []string{"b"}, "")
}

// TestTieredFreshBesideAnOldGet: a Get that was given the old value and is slow does not put it in the
// place of the new one, which GetFresh has found meanwhile.
func TestTieredFreshBesideAnOldGet(t *testing.T) {
	for name, was := range map[string]string{"nothing near": "", "an old copy near": "older"} {
		t.Run(name, func(t *testing.T) {
			far := &spy{Store: cache.NewMemory(1 << 20)}
			near := cache.NewMemory(1 << 20)
			s := cache.Tiered(near, far)
			defer s.Close()
			if was != "" {
				mustSet(t, near, "a", []byte(was))
			}
			get := s.Get
			if was != "" {
				get = s.(cache.Fresh).GetFresh
			}
			mustSet(t, far.Store, "a", []byte("old"))
			far.hold = func() {
				far.hold = nil
				mustSet(t, far.Store, "a", []byte("new")) // by another process
				if v, err := s.(cache.Fresh).GetFresh(t.Context(), []string{"a"}); err != nil || string(v[0]) != "new" {
					t.Errorf("GetFresh: %q, %v", v, err)
				}
			}
			if v, err := get(t.Context(), []string{"a"}); err != nil || string(v[0]) != "old" {
				t.Errorf("the slow one: %q, %v", v, err)
			}
			wantValues(t, near, []string{"a"}, "new")
		})
	}
}

// TestTieredFresh: copies are replaced by what is found, go where there is nothing, and stay while
// nobody knows.
func TestTieredFresh(t *testing.T) {
	far := &spy{Store: cache.NewMemory(1 << 20)}
	near := cache.NewMemory(1 << 20)
	s := cache.Tiered(near, far)
	defer s.Close()
	fresh := s.(cache.Fresh).GetFresh
	for _, key := range []string{"replaced", "deleted", "same"} {
		mustSet(t, s, key, []byte("old"))
	}
	mustSet(t, far.Store, "replaced", []byte("new"))
	if err := far.Store.Set(t.Context(), "deleted", nil, -1); err != nil {
		t.Fatal(err)
	}
	keys := []string{"replaced", "deleted", "same", "none"}
	far.fail(cache.ErrDown)
	if v, err := fresh(t.Context(), keys); !errors.Is(err, cache.ErrDown) || v != nil {
		t.Errorf("from a store that is down: %q, %v", v, err)
	}
	wantValues(t, near, keys, "old", "old", "old", "")
	far.fail(nil)
	far.take()
	if v, err := fresh(t.Context(), keys); err != nil || fmt.Sprintf("%q", v) != `["new" "" "old" ""]` || v[1] != nil {
		t.Errorf("fresh values are %q, %v", v, err)
	}
	if asked := far.take(); fmt.Sprint(asked) != fmt.Sprint([][]string{keys}) {
		t.Errorf("the far store is asked for %q", asked)
	}
	wantValues(t, near, keys, "new", "", "old", "")
}

// TestTieredFreshOfTiers: the copies of a far store that is tiered itself are no answer either.
func TestTieredFreshOfTiers(t *testing.T) {
	farthest := cache.NewMemory(1 << 20)
	s := cache.Tiered(cache.NewMemory(1<<20), cache.Tiered(cache.NewMemory(1<<20), farthest))
	defer s.Close()
	mustSet(t, s, "a", []byte("old"))
	mustSet(t, farthest, "a", []byte("new"))
	if v, err := s.(cache.Fresh).GetFresh(t.Context(), []string{"a"}); err != nil || string(v[0]) != "new" {
		t.Errorf("GetFresh: %q, %v", v, err)
	}
	wantValues(t, s, []string{"a"}, "new")
}

// TestTieredSetsAtOnce: after two Sets at the same time only the far store knows which was last.
func TestTieredSetsAtOnce(t *testing.T) {
	far := &spy{Store: cache.NewMemory(1 << 20)}
	s := cache.Tiered(cache.NewMemory(1<<20), far)
	defer s.Close()
	far.stay = func() {
		far.stay = nil
		mustSet(t, s, "a", []byte("second"))
	}
	mustSet(t, s, "a", []byte("first"))
	wantValues(t, far.Store, []string{"a"}, "second")
	wantValues(t, s, []string{"a"}, "second")
}

// TestTieredSetsMany: the far store is asked once if it can take many; what it has, near has too.
func TestTieredSetsMany(t *testing.T) {
	client := clientOf(t, testserver.Redis(t))
	far := cache.NewRedisWith(client, cache.RedisOptions{Timeout: patient})
	s := cache.Tiered(cache.NewMemory(1<<20), far)
	defer s.Close()
	h := new(data)
	client.AddHook(h)
	items := itemsOf(200, 100) // many of which share locks
	if err := cache.SetMany(t.Context(), s, items); err != nil {
		t.Fatal(err)
	}
	if got := h.take(); len(got) != 1 || got["pipeline"] != 1 {
		t.Errorf("sent: %v", got)
	}
	for _, item := range items {
		if v, ok := s.(cache.Local).Lookup(item.Key); !ok || !bytes.Equal(v, item.Value) {
			t.Errorf("%s is not near: %q", item.Key, v)
		}
	}
}

// TestTieredSetsManyOfOthers: while many are set somebody sets one of them.
func TestTieredSetsManyOfOthers(t *testing.T) {
	near, far := cache.NewMemory(1<<20), &spy{Store: cache.NewMemory(1 << 20)}
	s := cache.Tiered(near, far)
	defer s.Close()
	begun := false
	far.stay = func() {
		if begun {
			return
		}
		begun = true
		if err := s.Set(t.Context(), "b", []byte("other"), 0); err != nil {
			t.Error(err)
		}
	}
	if err := cache.SetMany(t.Context(), s, []cache.Item{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("2")}}); err != nil {
		t.Fatal(err)
	}
	if v, ok := near.Lookup("b"); ok {
		t.Errorf("near has %q, and does not know which was last", v)
	}
	wantValues(t, s, []string{"a", "b"}, "1", "2")
}

// TestTieredSetsManyWhileFarFails: the first error ends it, and near has the values.
func TestTieredSetsManyWhileFarFails(t *testing.T) {
	near, far := cache.NewMemory(1<<20), &spy{Store: cache.NewMemory(1 << 20)}
	s := cache.Tiered(near, far)
	defer s.Close()
	sets := 0
	far.stay = func() { sets++ }
	far.fail(cache.ErrDown)
	items := itemsOf(3, 10)
	if err := cache.SetMany(t.Context(), s, items); !errors.Is(err, cache.ErrDown) || sets != 0 {
		t.Errorf("%v after %d Sets", err, sets)
	}
	for _, item := range items {
		if _, ok := near.Lookup(item.Key); !ok {
			t.Errorf("%s is not near", item.Key)
		}
	}
}

func TestTieredClosesBoth(t *testing.T) {
	near, far := cache.NewMemory(1<<20), cache.NewMemory(1<<20)
	if err := cache.Tiered(near, far).Close(); err != nil {
		t.Fatal(err)
	}
	for _, s := range []cache.Store{near, far} {
		if _, err := s.Get(t.Context(), nil); !errors.Is(err, cache.ErrClosed) {
			t.Errorf("Get: %v", err)
		}
	}
}
