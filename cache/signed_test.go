package cache_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/cache/cachetest"
	"github.com/alkey-go/alkey/internal/testserver"
)

var (
	_ cache.Batcher = cache.Signed(cache.NewMemory(0), secret(1)).(cache.Batcher)
	_ cache.Leaser  = cache.Signed(cache.NewMemory(0), secret(1)).(cache.Leaser)
	_ cache.Local   = cache.Signed(cache.NewMemory(0), secret(1)).(cache.Local)
	_ cache.Fresh   = cache.Signed(cache.NewMemory(0), secret(1)).(cache.Fresh)
)

// secret makes the n-th key.
func secret(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func TestSignedConformance(t *testing.T) {
	client := clientOf(t, testserver.Redis(t))
	var n atomic.Int64
	onRedis := func() cache.Store {
		return cache.NewRedisWith(client, cache.RedisOptions{
			Prefix: fmt.Sprintf("app%d:", n.Add(1)), Timeout: patient, MaxValue: 1 << 20,
		})
	}
	inMemory := func() cache.Store { return cache.NewMemory(8 << 20) }
	for name, make := range map[string]func() cache.Store{
		"redis":  func() cache.Store { return cache.Signed(onRedis(), secret(1)) },
		"memory": func() cache.Store { return cache.Signed(inMemory(), secret(1), secret(2)) },
		"a store that only has Get": func() cache.Store {
			return cache.Signed(&spy{Store: cache.NewMemory(8 << 20)}, secret(1))
		},
		"near of redis": func() cache.Store {
			return cache.Tiered(cache.NewMemory(8<<20), cache.Signed(onRedis(), secret(1)))
		},
		"over tiers": func() cache.Store {
			return cache.Signed(cache.Tiered(cache.NewMemory(8<<20), onRedis()), secret(1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cachetest.Run(t, cachetest.Options{New: func(*testing.T) cache.Store { return make() }, TooLarge: 8<<20 + 1})
		})
	}
}

// TestSignedFormat fixes what lies on servers: other builds, and other processes of this one, read it.
func TestSignedFormat(t *testing.T) {
	const want = "a5" + "e59f43f45445713dcae5600bad98084d74b202b46db7fe2fb99a2c4e93bdbe94" + "76616c7565"
	m := cache.NewMemory(1 << 20)
	s := cache.Signed(m, secret(1))
	mustSet(t, s, "key", []byte("value"))
	sealed, _ := m.Lookup("key")
	if got := hex.EncodeToString(sealed); got != want {
		t.Errorf("it is written as %s, want %s", got, want)
	}
}

// TestSignedRefuses: nothing is a value but what was signed for its key, to the bit.
func TestSignedRefuses(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		m := cache.NewMemory(1 << 20)
		s := cache.Signed(m, secret(1), secret(2))
		key := rapid.String().Draw(r, "key")
		value := rapid.SliceOf(rapid.Byte()).Draw(r, "value")
		mustSet(t, s, key, value)
		sealed, _ := m.Lookup(key)
		missing := func(key, what string) {
			if v, err := s.Get(t.Context(), []string{key}); err != nil || v[0] != nil {
				r.Fatalf("%s: %q, %v", what, v, err)
			}
			if v, ok := s.(cache.Local).Lookup(key); ok || v != nil {
				r.Fatalf("%s: %q is looked up", what, v)
			}
		}
		other := rapid.String().Filter(func(k string) bool { return k != key }).Draw(r, "other")
		mustSet(t, m, other, sealed)
		missing(other, "moved to another key")

		damaged := bytes.Clone(sealed)
		damaged[rapid.IntRange(0, len(damaged)-1).Draw(r, "at")] ^= byte(1 << rapid.IntRange(0, 7).Draw(r, "bit"))
		mustSet(t, m, key, damaged)
		missing(key, "one bit is changed")

		mustSet(t, m, key, sealed[:rapid.IntRange(0, len(sealed)-1).Draw(r, "cut")])
		missing(key, "cut off")
		mustSet(t, m, key, append(bytes.Clone(sealed), rapid.Byte().Draw(r, "more")))
		missing(key, "continued")
		mustSet(t, m, key, value)
		missing(key, "not signed")

		mustSet(t, cache.Signed(m, secret(3)), key, value)
		missing(key, "signed with another key")

		// The boundary between key and value is signed too.
		if len(value) > 0 {
			longer := key + string(value[:1])
			mustSet(t, m, longer, append(bytes.Clone(sealed[:33]), value[1:]...))
			missing(longer, "a part of the value in the key")
		}
	})
}

// TestSignedOnASharedServer: what others write to the server is no value, whether or not they know how a
// store writes.
func TestSignedOnASharedServer(t *testing.T) {
	server := testserver.Redis(t)
	client := clientOf(t, server)
	plain := cache.NewRedisWith(client, cache.RedisOptions{Timeout: patient})
	near := cache.NewMemory(1 << 20)
	s := cache.Tiered(near, cache.Signed(plain, secret(1)))
	defer s.Close()
	const evil = "<script>steal()</script>"
	get := func(key string) []byte {
		t.Helper()
		v, err := s.Get(t.Context(), []string{key})
		if err != nil {
			t.Fatal(err)
		}
		return v[0]
	}
	if err := client.Set(t.Context(), "alkey.cache.VALUES:page", evil, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if v := get("page"); v != nil {
		t.Errorf("what another program has put there is a value: %q", v)
	}
	mustSet(t, plain, "page", []byte(evil)) // with the store's checksum
	if v := get("page"); v != nil {
		t.Errorf("what a store without the key has put there is a value: %q", v)
	}
	if _, ok := near.Lookup("page"); ok {
		t.Error("it is copied into the process")
	}
	mustSet(t, s, "page", []byte("<p>Hello</p>"))
	if err := near.Set(t.Context(), "page", nil, -1); err != nil {
		t.Fatal(err)
	}
	if v := get("page"); string(v) != "<p>Hello</p>" {
		t.Errorf("what was signed is %q", v)
	}
	if err := client.Copy(t.Context(), "alkey.cache.VALUES:page", "alkey.cache.VALUES:admin", 0, true).Err(); err != nil {
		t.Fatal(err)
	}
	if v := get("admin"); v != nil {
		t.Errorf("the value of another key: %q", v)
	}
}

// TestSignedChangesKeys: a new key signs, old ones are valid until they are taken away.
func TestSignedChangesKeys(t *testing.T) {
	m := cache.NewMemory(1 << 20)
	set := func(key string, keys ...[]byte) { mustSet(t, cache.Signed(m, keys[0], keys[1:]...), key, []byte(key)) }
	set("1", secret(1))
	set("1 before 2", secret(1), secret(2))
	set("2 before 1", secret(2), secret(1))
	set("2", secret(2))
	names := []string{"1", "1 before 2", "2 before 1", "2"}
	for _, c := range []struct {
		keys [][]byte
		want string
	}{
		{[][]byte{secret(1)}, `["1" "1 before 2" "" ""]`},
		{[][]byte{secret(1), secret(2)}, `["1" "1 before 2" "2 before 1" "2"]`},
		{[][]byte{secret(3), secret(2), secret(1)}, `["1" "1 before 2" "2 before 1" "2"]`},
		{[][]byte{secret(2)}, `["" "" "2 before 1" "2"]`},
		{[][]byte{secret(3)}, `["" "" "" ""]`},
	} {
		v, err := cache.Signed(m, c.keys[0], c.keys[1:]...).Get(t.Context(), names)
		if got := fmt.Sprintf("%q", v); err != nil || got != c.want {
			t.Errorf("with %d keys, the first of %d: %s, %v, want %s", len(c.keys), c.keys[0][0], got, err, c.want)
		}
	}
	// The keys are copied: who wipes his does not change them.
	mine := secret(4)
	s := cache.Signed(m, mine)
	clear(mine)
	mustSet(t, s, "wiped", []byte("1"))
	wantValues(t, cache.Signed(m, secret(4)), []string{"wiped"}, "1")
}

func TestSignedNeedsKeys(t *testing.T) {
	const key = "much too short a secret"
	for name, call := range map[string]func(){
		"needs a store":                 func() { cache.Signed(nil, secret(1)) },
		"number 1 has 0":                func() { cache.Signed(cache.NewMemory(0), nil) },
		"number 1 has 23":               func() { cache.Signed(cache.NewMemory(0), []byte(key)) },
		"number 2 has 31":               func() { cache.Signed(cache.NewMemory(0), secret(1), secret(1)[:31]) },
		"keys of 32 random bytes or mo": func() { cache.Signed(cache.NewMemory(0), secret(1), nil) },
	} {
		func() {
			defer func() {
				p := fmt.Sprint(recover())
				if !strings.Contains(p, name) || strings.Contains(p, key) {
					t.Errorf("%s: recovered %q", name, p)
				}
			}()
			call()
		}()
	}
}

// TestSignedKeepsAbilities: leases, copies that are replaced, and how long copies may be kept.
func TestSignedKeepsAbilities(t *testing.T) {
	t.Run("leases", func(t *testing.T) {
		leases(t, cache.Signed(cache.NewMemory(1<<20), secret(1)).(cache.Leaser))
		// Without leases below everybody gets one.
		l := cache.Signed(&spy{Store: cache.NewMemory(1 << 20)}, secret(1)).(cache.Leaser)
		for range 2 {
			if release, err := l.Lease(t.Context(), "a", time.Hour); err != nil || release == nil {
				t.Fatalf("no lease: %v", err)
			}
		}
	})
	t.Run("fresh", func(t *testing.T) {
		far := cache.NewMemory(1 << 20)
		s := cache.Signed(cache.Tiered(cache.NewMemory(1<<20), far), secret(1))
		mustSet(t, s, "a", []byte("old"))
		mustSet(t, cache.Signed(far, secret(1)), "a", []byte("new")) // by another process
		wantValues(t, s, []string{"a"}, "old")
		if v, err := s.(cache.Fresh).GetFresh(t.Context(), []string{"a"}); err != nil || string(v[0]) != "new" {
			t.Errorf("GetFresh: %q, %v", v, err)
		}
		mustSet(t, far, "a", []byte("forged"))
		if v, err := s.(cache.Fresh).GetFresh(t.Context(), []string{"a"}); err != nil || v[0] != nil {
			t.Errorf("GetFresh of what is not signed: %q, %v", v, err)
		}
		s = cache.Signed(&spy{Store: far}, secret(1))
		mustSet(t, s, "a", []byte("newer"))
		if v, err := s.(cache.Fresh).GetFresh(t.Context(), []string{"a"}); err != nil || string(v[0]) != "newer" {
			t.Errorf("GetFresh of a store without copies: %q, %v", v, err)
		}
		if v, ok := s.(cache.Local).Lookup("a"); ok || v != nil {
			t.Errorf("Lookup in a store that is not local: %q", v)
		}
	})
	t.Run("copies", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			far := cache.NewMemory(1 << 20)
			s := cache.TieredFor(cache.NewMemory(1<<20), cache.Signed(far, secret(1)), time.Hour)
			if err := cache.Signed(far, secret(1)).Set(t.Context(), "a", []byte("1"), time.Second); err != nil {
				t.Fatal(err)
			}
			wantValues(t, s, []string{"a"}, "1")
			time.Sleep(time.Second)
			wantValues(t, s, []string{"a"}, "")
		})
	})
}

// short is a store that loses count.
type short struct{ cache.Store }

func (short) Get(context.Context, []string) ([][]byte, error)      { return [][]byte{nil}, nil }
func (short) GetFresh(context.Context, []string) ([][]byte, error) { return nil, cache.ErrDown }

func TestSignedPassesErrorsOn(t *testing.T) {
	s := cache.Signed(short{}, secret(1))
	if v, err := s.Get(t.Context(), []string{"a", "b"}); err == nil || v != nil {
		t.Errorf("one value for two keys: %q, %v", v, err)
	}
	if v, err := s.(cache.Fresh).GetFresh(t.Context(), []string{"a"}); !errors.Is(err, cache.ErrDown) || v != nil {
		t.Errorf("GetFresh: %q, %v", v, err)
	}
	down := &spy{Store: cache.NewMemory(1 << 20), fault: cache.ErrDown}
	s = cache.Tiered(cache.NewMemory(1<<20), cache.Signed(down, secret(1)))
	if v, err := s.Get(t.Context(), []string{"a"}); !errors.Is(err, cache.ErrDown) || v != nil {
		t.Errorf("Get: %q, %v", v, err)
	}
	if err := s.Set(t.Context(), "a", nil, 0); !errors.Is(err, cache.ErrDown) {
		t.Errorf("Set: %v", err)
	}
}

// FuzzSigned reads what is no signed value: whatever is taken is, to the bit, what would be written.
func FuzzSigned(f *testing.F) {
	m := cache.NewMemory(1 << 24)
	s := cache.Signed(m, secret(1))
	for _, v := range []string{"", "value", "<p>Hello</p>"} {
		if err := s.Set(context.Background(), "key", []byte(v), 0); err != nil {
			f.Fatal(err)
		}
		sealed, _ := m.Lookup("key")
		f.Add("key", sealed)
	}
	f.Add("", []byte{})
	f.Add("key", bytes.Repeat([]byte{0xA5}, 33))
	f.Fuzz(func(t *testing.T, key string, sealed []byte) {
		mustSet(t, m, key, bytes.Clone(sealed))
		v, err := s.Get(t.Context(), []string{key})
		if err != nil {
			t.Fatal(err)
		}
		if v[0] == nil {
			return
		}
		mustSet(t, s, key, bytes.Clone(v[0]))
		if written, _ := m.Lookup(key); !bytes.Equal(written, sealed) {
			t.Errorf("%x is taken for %q, which is written as %x", sealed, v[0], written)
		}
	})
}

// BenchmarkSigned is what a signature costs when a value is stored and when it is found.
func BenchmarkSigned(b *testing.B) {
	for _, size := range []int{100, 10_000} {
		m := cache.NewMemory(1 << 20)
		s := cache.Signed(m, secret(1))
		value := bytes.Repeat([]byte("x"), size)
		b.Run(fmt.Sprintf("set/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				mustSet(b, s, "key", value)
			}
		})
		b.Run(fmt.Sprintf("lookup/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := s.(cache.Local).Lookup("key"); !ok {
					b.Fatal("a miss")
				}
			}
		})
	}
}

// Values on a server that others can write to, in front of which is a store in this process.
func ExampleSigned() {
	shared := cache.NewMemory(1 << 20) // cache.NewRedis(client, 24*time.Hour), in earnest
	key := []byte("32 random bytes, from a secret..")
	store := cache.Tiered(cache.NewMemory(1<<20), cache.Signed(shared, key))
	defer store.Close()

	ctx := context.Background()
	if err := store.Set(ctx, "page", []byte("<p>Hello</p>"), time.Hour); err != nil {
		fmt.Println(err)
	}
	// Somebody else writes to the server.
	if err := shared.Set(ctx, "other", []byte("<script>steal()</script>"), time.Hour); err != nil {
		fmt.Println(err)
	}
	values, err := store.Get(ctx, []string{"page", "other"})
	fmt.Printf("%s, %s, %v\n", values[0], values[1], err)
	// Output: <p>Hello</p>, , <nil>
}
