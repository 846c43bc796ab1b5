package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/cache/cachetest"
	"github.com/alkey-go/alkey/internal/testserver"
)

// patient is for tests in which a machine that stalls must not count as an outage.
const patient = 20 * time.Second

// closing closes a client at the test's end.
func closing[C redis.UniversalClient](t testing.TB, client C) C {
	t.Helper()
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func clientOf(t testing.TB, server *testserver.RedisServer) *redis.Client {
	t.Helper()
	return closing(t, redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true}))
}

// clients makes one client of each kind, over servers of their own.
var clients = map[string]func(t testing.TB) redis.UniversalClient{
	"single": func(t testing.TB) redis.UniversalClient { return clientOf(t, testserver.Redis(t)) },
	"single, without context timeouts": func(t testing.TB) redis.UniversalClient {
		return closing(t, redis.NewClient(&redis.Options{Addr: testserver.Redis(t).Addr()}))
	},
	"cluster": func(t testing.TB) redis.UniversalClient {
		return closing(t, redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster(t, 3).addrs(), ContextTimeoutEnabled: true}))
	},
	"cluster, without context timeouts": func(t testing.TB) redis.UniversalClient {
		return closing(t, redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster(t, 3).addrs()[:1]}))
	},
	"cluster behind one address": func(t testing.TB) redis.UniversalClient { return clientOf(t, cluster(t, 1)[0]) },
	"ring": func(t testing.TB) redis.UniversalClient {
		return closing(t, redis.NewRing(&redis.RingOptions{
			Addrs:                 map[string]string{"a": testserver.Redis(t).Addr(), "b": testserver.Redis(t).Addr()},
			ContextTimeoutEnabled: true,
		}))
	},
	"sentinel": func(t testing.TB) redis.UniversalClient {
		return closing(t, redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: "values", SentinelAddrs: []string{sentinel(t, testserver.Redis(t))}, ContextTimeoutEnabled: true,
		}))
	},
}

func TestRedisConformance(t *testing.T) {
	t.Parallel()
	for kind, client := range clients {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := client(t)
			var n atomic.Int64
			cachetest.Run(t, cachetest.Options{
				New: func(*testing.T) cache.Store {
					return cache.NewRedisWith(c, cache.RedisOptions{
						Prefix: fmt.Sprintf("app%d:", n.Add(1)), Timeout: patient, MaxValue: 1 << 20,
					})
				},
				TooLarge: 1<<20 + 1,
			})
		})
	}
}

// servers are the nodes of a Cluster.
type servers []*testserver.RedisServer

func (s servers) addrs() []string {
	addrs := make([]string, len(s))
	for i := range s {
		addrs[i] = s[i].Addr()
	}
	return addrs
}

// cluster starts a Cluster of n masters, which have no replicas.
func cluster(t testing.TB, n int) servers {
	t.Helper()
	c := testserver.RedisCluster(t, n)
	nodes := make(servers, n)
	for i := range nodes {
		nodes[i] = c.Node(i)
	}
	return nodes
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patient); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it takes too long until %s", what)
		}
	}
}

func mustSet(t testing.TB, s cache.Store, key string, value []byte) {
	t.Helper()
	if err := s.Set(t.Context(), key, value, 0); err != nil {
		t.Fatalf("Set %q: %v", key, err)
	}
}

// incompressible returns n bytes.
func incompressible(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func TestRedisCompresses(t *testing.T) {
	client := clientOf(t, testserver.Redis(t))
	text := []byte(strings.Repeat("<li>Ada Lovelace</li>", 200))
	for _, c := range []struct {
		name  string
		opts  cache.RedisOptions
		value []byte
		fewer bool // bytes on the server than the value has
	}{
		{"long", cache.RedisOptions{}, text, true},
		{"just short enough", cache.RedisOptions{}, text[:1024], false},
		{"just too long", cache.RedisOptions{}, text[:1025], true},
		{"random", cache.RedisOptions{}, incompressible(4000), false},
		{"saves too little", cache.RedisOptions{}, append(incompressible(4000), make([]byte, 1500)...), false},
		{"saves a third", cache.RedisOptions{}, append(incompressible(4000), make([]byte, 2500)...), true},
		{"own threshold", cache.RedisOptions{CompressOver: 100}, text[:200], true},
		{"never", cache.RedisOptions{CompressOver: -1}, text, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.opts.Timeout = patient
			s := cache.NewRedisWith(client, c.opts)
			defer s.Close()
			mustSet(t, s, "a", c.value)
			n, err := client.StrLen(t.Context(), "alkey.cache.VALUES:a").Result()
			if err != nil {
				t.Fatal(err)
			}
			if fewer := int(n) < len(c.value); fewer != c.fewer {
				t.Errorf("%d bytes are stored as %d", len(c.value), n)
			}
			// Whoever has other settings reads it all the same.
			other := cache.NewRedisWith(client, cache.RedisOptions{CompressOver: 1 << 20, Timeout: patient})
			defer other.Close()
			if got, err := other.Get(t.Context(), []string{"a"}); err != nil || !bytes.Equal(got[0], c.value) {
				t.Errorf("%d bytes came back of %d, %v", len(got[0]), len(c.value), err)
			}
		})
	}
}

// TestRedisTTL checks what the server is told.
func TestRedisTTL(t *testing.T) {
	client := clientOf(t, testserver.Redis(t))
	for _, c := range []struct{ own, given, want time.Duration }{
		{0, 0, -1},
		{time.Hour, 0, time.Hour},
		{0, time.Minute, time.Minute},
		{time.Hour, time.Minute, time.Minute},
		{time.Minute, time.Hour, time.Minute},
		{-time.Hour, 0, -1},
		{-time.Hour, time.Hour, time.Hour},
	} {
		s := cache.NewRedisWith(client, cache.RedisOptions{TTL: c.own, Timeout: patient})
		if err := s.Set(t.Context(), "a", []byte("1"), c.given); err != nil {
			t.Fatal(err)
		}
		got, err := client.PTTL(t.Context(), "alkey.cache.VALUES:a").Result()
		if err != nil {
			t.Fatal(err)
		}
		if c.want < 0 && got != c.want || c.want > 0 && (got <= c.want-patient || got > c.want) {
			t.Errorf("a store of %v, Set with %v: the key lives for %v", c.own, c.given, got)
		}
		// Shorter than the server can count.
		if err := s.Set(t.Context(), "b", []byte("1"), time.Nanosecond); err != nil {
			t.Error(err)
		}
		_ = s.Close()
	}
}

// TestRedisForeign: what does not come from this store, or not whole, is a miss, and no error, and
// does not keep the others from being found.
func TestRedisForeign(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"single", "cluster"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			client := clients[kind](t)
			s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: patient})
			defer s.Close()
			const prefix = "alkey.cache.VALUES:"
			ctx := t.Context()
			keys := []string{"good"}
			mustSet(t, s, "good", []byte("value"))
			plant := func(key string, err error) {
				if err != nil {
					t.Fatalf("%s: %v", key, err)
				}
				keys = append(keys, key)
			}
			for _, value := range [][]byte{[]byte("short"), []byte(strings.Repeat("long ", 1000))} {
				mustSet(t, s, "source", value)
				entry, err := client.Get(ctx, prefix+"source").Bytes()
				if err != nil {
					t.Fatal(err)
				}
				name := fmt.Sprint(len(value))
				plant(name+"moved", client.Set(ctx, prefix+name+"moved", entry, 0).Err())
				for n := range len(entry) {
					if n > 20 && n < len(entry)-20 && n%17 != 0 {
						continue
					}
					for what, damaged := range map[string][]byte{
						"cut":     entry[:n],
						"changed": append(append(bytes.Clone(entry[:n]), entry[n]^1), entry[n+1:]...),
						"longer":  append(bytes.Clone(entry), make([]byte, n+1)...),
					} {
						// Under the same key, so that it is the damage that is noticed.
						if err := client.Set(ctx, prefix+"source", damaged, 0).Err(); err != nil {
							t.Fatal(err)
						}
						if got, err := s.Get(ctx, []string{"source"}); err != nil || got[0] != nil {
							t.Fatalf("%s at %d: %.40q, %v", what, n, got, err)
						}
					}
				}
			}
			plant("text", client.Set(ctx, prefix+"text", "<p>Hello</p>", 0).Err())
			plant("empty", client.Set(ctx, prefix+"empty", "", 0).Err())
			plant("number", client.Incr(ctx, prefix+"number").Err())
			plant("list", client.RPush(ctx, prefix+"list", "a").Err())
			plant("hash", client.HSet(ctx, prefix+"hash", "a", "b").Err())
			plant("bits", client.SetBit(ctx, prefix+"bits", 100, 1).Err())
			got, err := s.Get(ctx, keys)
			if err != nil {
				t.Fatal(err)
			}
			if string(got[0]) != "value" {
				t.Errorf("beside foreign entries a value is %q", got[0])
			}
			for i, key := range keys[1:] {
				if got[i+1] != nil {
					t.Errorf("%s: %.40q", key, got[i+1])
				}
				// It is replaced as any value is.
				mustSet(t, s, key, []byte("new"))
			}
			if got, err := s.Get(ctx, keys[1:]); err != nil || string(bytes.Join(got, nil)) != strings.Repeat("new", len(got)) {
				t.Errorf("replaced: %q, %v", got, err)
			}
		})
	}
}

// TestRedisRoundTrips: many values are one command to a single server, and one pipeline elsewhere.
func TestRedisRoundTrips(t *testing.T) {
	t.Parallel()
	keys := make([]string, 100)
	for i := range keys {
		keys[i] = fmt.Sprintf("alkey:users#%d/page", i)
	}
	for kind, want := range map[string]map[string]int{
		"single":                            {"mget": 1},
		"single, without context timeouts":  {"mget": 1},
		"cluster":                           {"pipeline": 1},
		"cluster, without context timeouts": {"pipeline": 1},
		"cluster behind one address":        {"pipeline": 1}, // once it has refused the first MGET
		"ring":                              {"pipeline": 1},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			client := clients[kind](t)
			s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: patient})
			defer s.Close()
			get := func() {
				if _, err := s.Get(t.Context(), keys); err != nil {
					t.Fatal(err)
				}
			}
			get()
			h := new(hook)
			client.AddHook(h)
			get()
			if got := h.take(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("Get of %d keys: %v", len(keys), got)
			}
		})
	}
}

// hook counts commands and pipelines by name, and holds up what it is told to.
type hook struct {
	mu    sync.Mutex
	calls map[string]int
	hold  func(ctx context.Context, name string) error
}

func (h *hook) take() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	calls := h.calls
	h.calls = nil
	return calls
}

func (h *hook) note(ctx context.Context, name string) error {
	h.mu.Lock()
	if h.calls == nil {
		h.calls = make(map[string]int)
	}
	h.calls[name]++
	h.mu.Unlock()
	if h.hold != nil {
		return h.hold(ctx, name)
	}
	return nil
}

func (h *hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := h.note(ctx, cmd.Name()); err != nil {
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

func (h *hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := h.note(ctx, "pipeline"); err != nil {
			return err
		}
		return next(ctx, cmds)
	}
}

// outages are ways in which a server is away, and comes back.
var outages = map[string]struct{ begin, end func(*testserver.RedisServer) }{
	"stopped": {(*testserver.RedisServer).Stop, (*testserver.RedisServer).Restart},
	"paused":  {(*testserver.RedisServer).Pause, (*testserver.RedisServer).Resume},
}

// endless never gives up by itself: what ends a call is the store.
func endless(addr string, contexts bool) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: contexts, ReadTimeout: -1, MaxRetries: -1})
}

// TestRedisOutage: the first calls wait for a bounded time, the others are not sent at all, and the
// store comes back by itself.
func TestRedisOutage(t *testing.T) {
	for _, contexts := range []bool{true, false} {
		for name, outage := range outages {
			t.Run(fmt.Sprintf("%s/contexts=%v", name, contexts), func(t *testing.T) {
				server := testserver.Redis(t)
				client := closing(t, endless(server.Addr(), contexts))
				s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: 100 * time.Millisecond})
				t.Cleanup(func() { _ = s.Close() })
				eventually(t, "a value is stored", func() bool { return s.Set(t.Context(), "a", []byte("1"), 0) == nil })

				outage.begin(server)
				if v, err := s.Get(t.Context(), []string{"a", "b"}); !errors.Is(err, cache.ErrDown) || v != nil {
					t.Fatalf("Get: %q, %v", v, err)
				}
				h := new(hook)
				client.AddHook(h)
				for range 100 {
					if _, err := s.Get(t.Context(), []string{"a", "b"}); !errors.Is(err, cache.ErrDown) {
						t.Errorf("Get: %v", err)
					}
					if err := s.Set(t.Context(), "a", []byte("2"), 0); !errors.Is(err, cache.ErrDown) {
						t.Errorf("Set: %v", err)
					}
				}
				probes, wanted := 0, 2
				if name == "paused" && !contexts {
					wanted = 1 // it waits as long as the client does
				}
				eventually(t, "it has been probed in vain", func() bool {
					calls := h.take()
					if calls["mget"] != 0 || calls["set"] != 0 {
						t.Errorf("the server is asked while it is down: %v", calls)
					}
					probes += calls["get"]
					return probes >= wanted
				})

				outage.end(server)
				eventually(t, "the store is back", func() bool {
					err := s.Set(t.Context(), "a", []byte("3"), 0)
					if err != nil && !errors.Is(err, cache.ErrDown) {
						t.Errorf("Set: %v", err)
					}
					return err == nil
				})
				eventually(t, "the value is there", func() bool {
					v, err := s.Get(t.Context(), []string{"a"})
					return err == nil && string(v[0]) == "3"
				})
			})
		}
	}
}

// TestRedisIsSlow: a server that answers later than calls wait is down, though it answers probes.
func TestRedisIsSlow(t *testing.T) {
	const timeout = 10 * time.Millisecond
	server := testserver.Redis(t)
	client := closing(t, redis.NewClient(&redis.Options{Addr: server.Addr()}))
	s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: timeout})
	t.Cleanup(func() { _ = s.Close() })
	eventually(t, "a value is stored", func() bool { return s.Set(t.Context(), "a", []byte("1"), 0) == nil })
	var slow atomic.Bool
	var asked, probed atomic.Int64
	slow.Store(true)
	client.AddHook(&hook{hold: func(_ context.Context, name string) error {
		if name == "mget" {
			asked.Add(1)
		}
		if slow.Load() {
			time.Sleep(2 * timeout)
		}
		if name == "get" {
			probed.Add(1)
		}
		return nil
	}})
	eventually(t, "it has been probed", func() bool {
		if _, err := s.Get(t.Context(), []string{"a"}); !errors.Is(err, cache.ErrDown) {
			t.Errorf("Get: %v", err)
		}
		return probed.Load() >= 3
	})
	if n := asked.Load(); n != 1 {
		t.Errorf("%d calls were made to a server that is too slow", n)
	}
	slow.Store(false)
	eventually(t, "the store is back", func() bool {
		v, err := s.Get(t.Context(), []string{"a"})
		return err == nil && string(v[0]) == "1"
	})
}

// TestRedisIsAwayAtTheStart: making a store needs no server.
func TestRedisIsAwayAtTheStart(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"single", "cluster"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			start := func() *testserver.RedisServer { return testserver.Redis(t) }
			if kind == "cluster" {
				start = func() *testserver.RedisServer { return cluster(t, 1)[0] }
			}
			server := start()
			server.Stop()
			opts := redis.UniversalOptions{Addrs: []string{server.Addr()}, IsClusterMode: kind == "cluster"}
			client := closing(t, redis.NewUniversalClient(&opts))
			s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: 100 * time.Millisecond})
			t.Cleanup(func() { _ = s.Close() })
			for range 3 {
				if _, err := s.Get(t.Context(), []string{"a"}); !errors.Is(err, cache.ErrDown) {
					t.Errorf("Get: %v", err)
				}
				if err := s.Set(t.Context(), "a", nil, 0); !errors.Is(err, cache.ErrDown) {
					t.Errorf("Set: %v", err)
				}
			}
			server.Restart()
			eventually(t, "the store is there", func() bool { return s.Set(t.Context(), "a", []byte("1"), 0) == nil })
		})
	}
}

// TestRedisContexts: the caller's context ends a call, whatever the client does, and says nothing
// about the server.
func TestRedisContexts(t *testing.T) {
	server := testserver.Redis(t)
	client := closing(t, endless(server.Addr(), false))
	s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: time.Hour})
	defer s.Close()
	mustSet(t, s, "a", []byte("1"))
	sent := make(chan struct{}, 10)
	client.AddHook(&hook{hold: func(context.Context, string) error { sent <- struct{}{}; return nil }})
	server.Pause()
	for name, call := range map[string]func(context.Context) error{
		"Get": func(ctx context.Context) error { _, err := s.Get(ctx, []string{"a"}); return err },
		"Set": func(ctx context.Context) error { return s.Set(ctx, "a", []byte("1"), 0) },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-sent
			cancel()
		}()
		if err := call(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, cache.ErrDown) {
			t.Errorf("%s: %v", name, err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, cache.ErrDown) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		<-sent
	}
	server.Resume()
	if v, err := s.Get(t.Context(), []string{"a"}); err != nil || string(v[0]) != "1" {
		t.Errorf("the server is taken to be down: %q, %v", v, err)
	}
}

// TestRedisDeadlines: so does a deadline that the client obeys, though the connection's timer is
// sometimes faster than the context's.
func TestRedisDeadlines(t *testing.T) {
	server := testserver.Redis(t)
	client := closing(t, endless(server.Addr(), true))
	s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: time.Hour})
	defer s.Close()
	mustSet(t, s, "a", []byte("1"))
	server.Pause()
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Millisecond)
		if _, err := s.Get(ctx, []string{"a"}); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, cache.ErrDown) {
			t.Errorf("Get: %v", err)
		}
		cancel()
	}
	server.Resume()
	if v, err := s.Get(t.Context(), []string{"a"}); err != nil || string(v[0]) != "1" {
		t.Errorf("the server is taken to be down: %q, %v", v, err)
	}
}

// TestRedisClusterNode: while a node is away the values of the others are found.
func TestRedisClusterNode(t *testing.T) {
	t.Parallel()
	for _, contexts := range []bool{true, false} {
		t.Run(fmt.Sprintf("contexts=%v", contexts), func(t *testing.T) {
			t.Parallel()
			nodes := cluster(t, 3)
			client := closing(t, redis.NewClusterClient(&redis.ClusterOptions{Addrs: nodes.addrs(), ContextTimeoutEnabled: contexts}))
			s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: 3 * time.Second})
			t.Cleanup(func() { _ = s.Close() })
			var keys, away []string
			want := map[string]string{}
			for i := range 60 {
				key := fmt.Sprint("key", i)
				eventually(t, "a value is stored", func() bool { return s.Set(t.Context(), key, []byte(key), 0) == nil })
				master, err := client.MasterForKey(t.Context(), "alkey.cache.VALUES:"+key)
				if err != nil {
					t.Fatal(err)
				}
				if keys = append(keys, key); master.Options().Addr == nodes[2].Addr() {
					away = append(away, key)
				} else {
					want[key] = key
				}
			}
			if len(away) == 0 || len(want) == 0 {
				t.Fatalf("%d keys of %d lie on the last node", len(away), len(keys))
			}
			nodes[2].Stop()
			found := func() bool {
				values, err := s.Get(t.Context(), keys)
				if err != nil {
					return false
				}
				for i, v := range values {
					if string(v) != want[keys[i]] {
						return false
					}
				}
				return true
			}
			eventually(t, "the other nodes' values are found", found)
			for range 50 {
				if !found() {
					t.Error("they are lost again")
				}
			}
			if v, err := s.Get(t.Context(), away[:1]); err != nil || v[0] != nil {
				t.Errorf("a value of the node that is away: %q, %v", v, err)
			}
			if err := s.Set(t.Context(), away[0], nil, 0); !errors.Is(err, cache.ErrDown) {
				t.Errorf("Set on the node that is away: %v", err)
			}
			nodes[2].Restart()
			eventually(t, "the node is back", func() bool { return s.Set(t.Context(), away[0], []byte("new"), 0) == nil })
			eventually(t, "its value is found", func() bool {
				v, err := s.Get(t.Context(), away[:1])
				return err == nil && string(v[0]) == "new"
			})
			for _, node := range nodes {
				node.Stop()
			}
			eventually(t, "the store is down", func() bool {
				_, err := s.Get(t.Context(), keys)
				return errors.Is(err, cache.ErrDown)
			})
		})
	}
}

// TestRedisEvicts: a server that is full and drops what is used least is a cache that works.
func TestRedisEvicts(t *testing.T) {
	t.Parallel()
	const limit = 8 << 20
	server := testserver.Redis(t, "--maxmemory", fmt.Sprint(limit), "--maxmemory-policy", "allkeys-lru")
	client := clientOf(t, server)
	s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: patient})
	defer s.Close()
	valueOf := func(i int) []byte {
		r := rand.New(rand.NewPCG(uint64(i), 1))
		b := make([]byte, 2000+r.IntN(2000))
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		return b
	}
	var hits, misses atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), 1))
			for range 1500 {
				// A few are asked for often, and the rest are more than there is room for.
				i := r.IntN(50)
				if r.IntN(2) == 0 {
					i = r.IntN(10_000)
				}
				key, want := fmt.Sprint("alkey:users#", i), valueOf(i)
				got, err := s.Get(t.Context(), []string{key})
				switch {
				case err != nil:
					t.Error(err)
				case got[0] == nil:
					misses.Add(1)
					if err := s.Set(t.Context(), key, want, 0); err != nil {
						t.Error(err)
					}
				case !bytes.Equal(got[0], want):
					t.Errorf("%s holds another value", key)
				default:
					hits.Add(1)
				}
			}
		})
	}
	wg.Wait()
	info := client.InfoMap(t.Context(), "stats", "memory").Val()
	t.Logf("%d hits, %d misses, %s evicted, %s in use", hits.Load(), misses.Load(), info["Stats"]["evicted_keys"], info["Memory"]["used_memory_human"])
	if info["Stats"]["evicted_keys"] == "0" {
		t.Error("nothing was evicted: the test shows nothing")
	}
	if hits.Load() < 2000 {
		t.Errorf("%d hits of 6000, of which half ask for 50 values", hits.Load())
	}
}

// TestRedisRefuses: a server that is full and drops nothing serves what it has, and is not sent
// what it would refuse.
func TestRedisRefuses(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t, "--maxmemory-policy", "noeviction")
	client := clientOf(t, server)
	s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: patient})
	defer s.Close()
	mustSet(t, s, "a", []byte("1"))
	if err := client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	err := s.Set(t.Context(), "b", []byte("1"), 0)
	if err == nil || !strings.Contains(err.Error(), "OOM") || errors.Is(err, cache.ErrDown) {
		t.Fatalf("Set on a full server: %v", err)
	}
	h := new(hook)
	client.AddHook(h)
	from, tries := time.Now(), 0
	for ; tries < 100; tries++ {
		if err := s.Set(t.Context(), "b", []byte("1"), 0); err == nil || errors.Is(err, cache.ErrDown) {
			t.Errorf("Set on a full server: %v", err)
		}
	}
	if sent := h.take()["set"]; time.Since(from) < time.Second && sent > 1 {
		t.Errorf("%d of %d values are sent", sent, tries)
	}
	if v, err := s.Get(t.Context(), []string{"a", "b"}); err != nil || string(v[0]) != "1" || v[1] != nil {
		t.Errorf("Get from a full server: %q, %v", v, err)
	}
	// What is to be dropped is.
	if err := s.Set(t.Context(), "a", nil, -1); err != nil {
		t.Errorf("a value is not dropped from a full server: %v", err)
	}
	if err := client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "values are stored again", func() bool { return s.Set(t.Context(), "b", []byte("2"), 0) == nil })
}

// TestRedisMayNotRead: a server that lets nobody in is down, as far as anybody can tell.
func TestRedisMayNotRead(t *testing.T) {
	server := testserver.Redis(t, "--requirepass", "secret")
	s := cache.NewRedisWith(clientOf(t, server), cache.RedisOptions{Timeout: patient})
	defer s.Close()
	if _, err := s.Get(t.Context(), []string{"a"}); !errors.Is(err, cache.ErrDown) || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("Get: %v", err)
	}
}

func TestRedisPanics(t *testing.T) {
	server := testserver.Redis(t)
	client := closing(t, redis.NewClient(&redis.Options{Addr: server.Addr()}))
	client.AddHook(&hook{hold: func(context.Context, string) error { panic("a hook") }})
	s := cache.NewRedis(client, 0)
	defer s.Close()
	for name, call := range map[string]func(){
		"a hook":       func() { _, _ = s.Get(t.Context(), []string{"a"}) },
		"needs a clie": func() { cache.NewRedis(nil, 0) },
	} {
		func() {
			defer func() {
				if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), name) {
					t.Errorf("%s: recovered %v", name, p)
				}
			}()
			call()
		}()
	}
}

func TestRedisCloses(t *testing.T) {
	server := testserver.Redis(t)
	client := clientOf(t, server)
	s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: patient})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the client is closed too: %v", err)
	}
	// Who closes the client ends the store.
	s = cache.NewRedisWith(client, cache.RedisOptions{Timeout: patient})
	defer s.Close()
	_ = client.Close()
	if _, err := s.Get(t.Context(), []string{"a"}); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("Get: %v", err)
	}
	if err := s.Set(t.Context(), "a", nil, 0); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("Set: %v", err)
	}
}

// TestRedisClosedWhileDown: probes end with the store.
func TestRedisClosedWhileDown(t *testing.T) {
	server := testserver.Redis(t)
	client := closing(t, endless(server.Addr(), false))
	s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: time.Millisecond})
	server.Pause()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				if _, err := s.Get(t.Context(), []string{"a"}); errors.Is(err, cache.ErrClosed) {
					return
				}
			}
		})
	}
	probed := make(chan struct{}, 1)
	client.AddHook(&hook{hold: func(_ context.Context, name string) error {
		if name == "get" {
			select {
			case probed <- struct{}{}:
			default:
			}
		}
		return nil
	}})
	<-probed
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// Two stores on two servers, and one in the process: values may be evicted, tokens may not.
func ExampleNewRedis() {
	values := redis.NewClient(&redis.Options{Addr: "values.internal:6379", ContextTimeoutEnabled: true})
	defer values.Close()
	store := cache.Tiered(cache.NewMemory(16<<20), cache.NewRedis(values, 24*time.Hour))
	defer store.Close()
}
