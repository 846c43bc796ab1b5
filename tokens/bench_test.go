package tokens_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/internal/versus"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
)

// The row, its table's sweep and the sweep of everything, which is what one key of one row reads,
// by all cores at once; beside a map and a lock.
func BenchmarkMemoryRead(b *testing.B) {
	ids := []tokens.ID{{Table: "users", Row: "1"}, {Table: "users", Row: "!"}, {Table: "*", Row: "!"}}
	b.Run("by=baseline", func(b *testing.B) {
		var mu sync.RWMutex
		records := map[tokens.ID]tokens.State{ids[0]: {Stamp: 1}, ids[1]: {Stamp: 2}, ids[2]: {Stamp: 3}}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				states := make([]tokens.State, 0, len(ids))
				mu.RLock()
				for _, id := range ids {
					states = append(states, records[id])
				}
				mu.RUnlock()
				if states[2].Stamp != 3 {
					b.Error(states)
				}
			}
		})
	})
	b.Run("by=alkey", func(b *testing.B) {
		m := tokens.NewMemoryBackend(tokens.MemoryOptions{})
		ctx := context.Background()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := m.Read(ctx, ids); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

func BenchmarkRedisRead(b *testing.B) {
	store, client := redisPair(b)
	ctx := context.Background()
	for _, rows := range []int{1, 100} {
		args := make([]tokens.ID, rows)
		keys := []string{"alkey.cache.TOKENS:clock"}
		for i := range args {
			args[i] = tokens.Row("users", 1000+i)
			keys = append(keys, "alkey.cache.TOKENS:"+args[i].String())
		}
		keys = append(keys, "alkey.cache.TOKENS:alkey:users#!", "alkey.cache.TOKENS:alkey:*#!")
		if _, err := store.Read(ctx, args); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			versus.Run(b, func() {
				if err := client.MGet(ctx, keys...).Err(); err != nil {
					b.Fatal(err)
				}
			}, func() {
				if _, err := store.Read(ctx, args); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// What a write transaction of one row adds: a fence and a publish, beside two EVALSHA of the same
// scripts on the same keys.
func BenchmarkRedisWrite(b *testing.B) {
	store, client := redisPair(b)
	ctx := context.Background()
	row := tokens.Row("users", 1)
	changes := tokens.NewChanges(row)
	if _, err := store.Read(ctx, []tokens.ID{row, tokens.Table("users"), tokens.Global}); err != nil {
		b.Fatal(err)
	}
	const p = "alkey.cache.TOKENS:"
	records := []string{p + "alkey:users#1", p + "alkey:users#*", p + "alkey:*#*"}
	withClock := append([]string{p + "clock"}, records...)
	versus.Run(b, func() {
		owner := string(tokens.NewOwner())
		if err := client.EvalSha(ctx, tokens.FenceScriptHash(), records, owner, int64(30_000_000), 128).Err(); err != nil {
			b.Fatal(err)
		}
		if err := client.EvalSha(ctx, tokens.PublishScriptHash(), withClock, owner, int64(0), int64(86_400_000)).Err(); err != nil {
			b.Fatal(err)
		}
	}, func() {
		owner := tokens.NewOwner()
		if err := store.Fence(ctx, owner, changes, 30*time.Second); err != nil {
			b.Fatal(err)
		}
		if _, err := store.Publish(ctx, owner, changes); err != nil {
			b.Fatal(err)
		}
	})
}

// redisPair starts a server, and returns a Store over it beside a plain client with its scripts loaded.
func redisPair(b *testing.B) (*tokens.Store, *redis.Client) {
	b.Helper()
	addr := testserver.Redis(b).Addr()
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	b.Cleanup(func() { _ = client.Close() })
	backend, err := tokens.NewRedisBackend(tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{Addrs: []string{addr}}})
	if err != nil {
		b.Fatal(err)
	}
	// A machine that stalls must not count as an outage here.
	store := tokens.New(backend, tokens.WithReadTimeout(10*time.Second), tokens.WithWriteTimeout(10*time.Second))
	b.Cleanup(func() { _ = store.Close() })
	tokenstest.Ready(b, store)
	ctx := context.Background()
	changes := tokens.NewChanges(tokens.Row("warm", 1))
	if err := store.Fence(ctx, "warm", changes, time.Second); err != nil {
		b.Fatal(err)
	}
	if _, err := store.Publish(ctx, "warm", changes); err != nil {
		b.Fatal(err)
	}
	return store, client
}
