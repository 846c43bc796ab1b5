package tokens_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
	"github.com/redis/go-redis/v9"
)

// redisBackend makes a backend, with so many owners on a record, and the raw access that the suite plants
// foreign values with.
func redisBackend(t testing.TB, addr, prefix string, owners ...int) (*tokens.Redis, *redis.Client) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	made, err := tokens.NewRedisBackend(tokens.RedisOptions{Client: client, Prefix: prefix, MaxOwners: append(owners, 0)[0]})
	if err != nil {
		t.Fatal(err)
	}
	b := made.(*tokens.Redis)
	b.SetGrace(0) // tests of it wait for it
	t.Cleanup(func() {
		_ = b.Close()
		_ = client.Close()
	})
	return b, client
}

func TestRedisConformance(t *testing.T) {
	server := testserver.Redis(t)
	var n atomic.Int64
	tokenstest.Run(t, func(t testing.TB) tokenstest.Harness {
		prefix := fmt.Sprintf("app%d:", n.Add(1)) // as applications share a server
		b, client := redisBackend(t, server.Addr(), prefix, 12)
		return tokenstest.Harness{
			Backend:   b,
			MaxOwners: 12,
			Plant: func(id tokens.ID, text string) {
				if err := client.Set(t.Context(), prefix+id.String(), text, 0).Err(); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

func TestMiniredisConformance(t *testing.T) {
	tokenstest.Run(t, func(t testing.TB) tokenstest.Harness {
		server := miniredis.NewMiniRedis()
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Close)
		c := newClock()
		server.SetTime(c.now())
		b, _ := redisBackend(t, server.Addr(), "", 12)
		b.SetNow(c.now)
		return tokenstest.Harness{
			Backend:   b,
			MaxOwners: 12,
			Advance: func(d time.Duration) {
				c.advance(d)
				server.SetTime(c.now())
			},
			Plant: func(id tokens.ID, text string) {
				if err := server.Set("alkey.cache.TOKENS:"+id.String(), text); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

// known makes of a server one that alkey has met, with a clock that it has not set ahead.
func known(t testing.TB, client *redis.Client, prefix string, clock int64) {
	t.Helper()
	if err := client.MSet(t.Context(), prefix+"clock", clock, prefix+"identity", told(t, client, "run_id")+":0:1").Err(); err != nil {
		t.Fatal(err)
	}
}

// told returns a field of INFO.
func told(t testing.TB, client *redis.Client, field string) string {
	t.Helper()
	info, err := client.Info(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "\n"+field+":")
	value, _, _ := strings.Cut(rest, "\r")
	return value
}

// The host's clock may be wrong: it decides when the server is asked about a deadline, and nothing else.
func TestRedisHostClock(t *testing.T) {
	server := testserver.Redis(t)
	for name, off := range map[string]time.Duration{"fast": time.Hour, "slow": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			b, client := redisBackend(t, server.Addr(), name+":")
			b.SetNow(func() time.Time { return time.Now().Add(off) })
			read := func(row string) tokens.State {
				t.Helper()
				snap, err := b.Read(t.Context(), []tokens.ID{{Table: "users", Row: row}})
				if err != nil {
					t.Fatal(err)
				}
				return snap.States[0]
			}
			fence := func(row string, lease time.Duration) {
				t.Helper()
				if err := b.Fence(t.Context(), "w1", []tokens.ID{{Table: "users", Row: row}}, lease); err != nil {
					t.Fatal(err)
				}
			}
			serverTime := func() time.Time {
				t.Helper()
				at, err := client.Time(t.Context()).Result()
				if err != nil {
					t.Fatal(err)
				}
				return at
			}

			// A server that is new starts its clock a minute ahead: this one is at the time.
			known(t, client, name+":", serverTime().UnixMicro())
			before := read("1").Stamp
			fence("1", time.Minute)
			if state := read("1"); !state.Fenced || state.Stamp != before {
				t.Errorf("a live fence is read as %+v, the stamp was %d", state, before)
			}

			before = read("2").Stamp
			fence("2", time.Millisecond)
			for passed := serverTime().Add(time.Millisecond); !serverTime().After(passed); {
			}
			state := read("2")
			if name == "slow" {
				// Nobody has been given a stamp since: nothing says to this host that the lease is over.
				if !state.Fenced || state.Stamp != before {
					t.Errorf("a fence that the host takes to be live is read as %+v, the stamp was %d", state, before)
				}
				if _, err := b.Publish(t.Context(), "w2", []tokens.ID{{Table: "users", Row: "3"}}); err != nil {
					t.Fatal(err)
				}
				state = read("2")
			}
			if state.Fenced || state.Stamp <= before {
				t.Errorf("a dead fence is read as %+v, the stamp was %d", state, before)
			}
			// Stamps may be ahead of the time: they too decide only when the server is asked.
			if err := client.Set(t.Context(), name+":clock", time.Now().Add(time.Hour).UnixMicro(), 0).Err(); err != nil {
				t.Fatal(err)
			}
			if state := read("1"); !state.Fenced {
				t.Errorf("a live fence is read as %+v while the clock is ahead of the time", state)
			}
		})
	}
}

// What other programs put under a record's key counts as missing, of whatever type it is.
func TestRedisForeignTypes(t *testing.T) {
	server := testserver.Redis(t)
	plant := map[string]func(c *redis.Client, key string) error{
		"list": func(c *redis.Client, key string) error { return c.RPush(t.Context(), key, "a").Err() },
		"hash": func(c *redis.Client, key string) error { return c.HSet(t.Context(), key, "a", "b").Err() },
		"set":  func(c *redis.Client, key string) error { return c.SAdd(t.Context(), key, "a").Err() },
	}
	for name, put := range plant {
		t.Run(name, func(t *testing.T) {
			b, client := redisBackend(t, server.Addr(), name+":")
			for i, op := range []func([]tokens.ID) error{
				func(ids []tokens.ID) error { return nil },
				func(ids []tokens.ID) error { return b.Fence(t.Context(), "w1", ids, time.Millisecond) },
				func(ids []tokens.ID) error { _, err := b.Publish(t.Context(), "w1", ids); return err },
				func(ids []tokens.ID) error { return b.Release(t.Context(), "w1", ids) },
			} {
				ids := []tokens.ID{{Table: "users", Row: fmt.Sprint(i)}}
				if err := put(client, name+":"+ids[0].String()); err != nil {
					t.Fatal(err)
				}
				if err := op(ids); err != nil {
					t.Errorf("operation %d: %v", i, err)
				}
				deadline := time.Now().Add(20 * time.Second)
				for {
					snap, err := b.Read(t.Context(), ids)
					if err != nil {
						t.Fatal(err)
					}
					if !snap.States[0].Fenced {
						break
					}
					if time.Now().After(deadline) {
						t.Fatal("the fence does not run out")
					}
				}
			}
		})
	}
}

// A record lives for the TTL when nobody fences it; a fenced record and a sweep have none.
func TestRedisTTL(t *testing.T) {
	server := testserver.Redis(t)
	b, client := redisBackend(t, server.Addr(), "")
	row, sweep := tokens.ID{Table: "users", Row: "1"}, tokens.ID{Table: "users", Row: "!"}
	all := tokens.ID{Table: "*", Row: "!"}
	ids := []tokens.ID{row, sweep, all}
	ttl := func(id tokens.ID) time.Duration {
		t.Helper()
		d, err := client.TTL(t.Context(), "alkey.cache.TOKENS:"+id.String()).Result()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	check := func(when string, fenced bool) {
		t.Helper()
		if d := ttl(row); fenced != (d == -1) || !fenced && (d <= 23*time.Hour || d > 24*time.Hour) {
			t.Errorf("%s: the row's record lives for %v", when, d)
		}
		for _, id := range ids[1:] {
			if d := ttl(id); d != -1 {
				t.Errorf("%s: %s lives for %v", when, id, d)
			}
		}
	}
	step := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := b.Read(t.Context(), ids)
	step(err)
	check("read", false)
	step(b.Fence(t.Context(), "w1", ids, time.Hour))
	check("fenced", true)
	step(b.Release(t.Context(), "w1", ids))
	check("released", false)
	step(b.Fence(t.Context(), "w1", ids, time.Hour))
	_, err = b.Publish(t.Context(), "w1", ids)
	step(err)
	check("published", false)

	// What only writers touch leaves nothing behind.
	written := tokens.ID{Table: "users", Row: "written"}
	step(b.Fence(t.Context(), "w1", []tokens.ID{written}, time.Hour))
	_, err = b.Publish(t.Context(), "w1", []tokens.ID{written})
	step(err)
	if n := client.Exists(t.Context(), "alkey.cache.TOKENS:"+written.String()).Val(); n != 0 {
		t.Error("a record that was never read stays")
	}
}

// A server that was emptied starts its clock ahead of all that the process has seen, and no key
// from before comes back.
func TestRedisLostClock(t *testing.T) {
	server := testserver.Redis(t)
	b, client := redisBackend(t, server.Addr(), "")
	ids := []tokens.ID{{Table: "users", Row: "1"}, {Table: "users", Row: "!"}, {Table: "*", Row: "!"}}
	before, err := b.Read(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	lose := map[string]func() error{
		"clock":      func() error { return client.Del(t.Context(), "alkey.cache.TOKENS:clock").Err() },
		"clock text": func() error { return client.Set(t.Context(), "alkey.cache.TOKENS:clock", "soon", 0).Err() },
		"all":        func() error { return client.FlushAll(t.Context()).Err() },
	}
	for name, do := range lose {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		after, err := b.Read(t.Context(), ids)
		if err != nil {
			t.Fatalf("%s lost: %v", name, err)
		}
		if got, least := after.States[2].Stamp, before.Clock+tokens.Stamp(time.Minute.Microseconds()); got < least {
			t.Errorf("%s lost: everything is swept with stamp %d, want at least %d", name, got, least)
		}
		before = after
	}
	server.Restart()
	after, err := b.Read(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	if after.Clock <= before.Clock || after.States[2].Stamp <= before.Clock {
		t.Errorf("after a restart: %+v, before %+v", after, before)
	}
}

// An operation is one round trip, also for many records; a mint is one more.
func TestRedisRoundTrips(t *testing.T) {
	server := testserver.Redis(t)
	b, client := redisBackend(t, server.Addr(), "")
	ids := make([]tokens.ID, 100)
	for i := range ids {
		ids[i] = tokens.ID{Table: "users", Row: fmt.Sprint(i)}
	}
	commands := func(op func() error) int {
		t.Helper()
		if err := op(); err != nil { // scripts are loaded by the first use
			t.Fatal(err)
		}
		if err := client.ConfigResetStat(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if err := op(); err != nil {
			t.Fatal(err)
		}
		info, err := client.Info(t.Context(), "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		// Redis counts the commands of a script too.
		n := 0
		for line := range strings.Lines(info) {
			name, rest, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
			var calls int
			if _, err := fmt.Sscanf(rest, "calls=%d", &calls); err == nil && (name == "evalsha" || name == "eval" || name == "mget") {
				n += calls
			}
		}
		return n
	}
	for name, op := range map[string]func() error{
		"Read":    func() error { _, err := b.Read(t.Context(), ids); return err },
		"Fence":   func() error { return b.Fence(t.Context(), "w1", ids, time.Hour) },
		"Publish": func() error { _, err := b.Publish(t.Context(), "w1", ids); return err },
		"Release": func() error { return b.Release(t.Context(), "w1", ids) },
	} {
		if n := commands(op); n != 1 && name != "Read" || n > 2 {
			t.Errorf("%s took %d round trips", name, n)
		}
	}
	if n := commands(func() error { _, err := b.Read(t.Context(), ids); return err }); n != 1 {
		t.Errorf("a Read of known records took %d round trips", n)
	}
}
