package tokens_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/internal/versus"
	"github.com/alkey-go/alkey/tokens"
)

// The keys of a page, beside the plain client's pipeline of GETs of the same records on the same cluster.
func BenchmarkRedisClusterRead(b *testing.B) {
	store, client := clusterPair(b)
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
				pipe := client.Pipeline()
				for _, key := range keys {
					pipe.Get(ctx, key)
				}
				if _, err := pipe.Exec(ctx); err != nil {
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

// What a write transaction of one row adds: a fence, a stamp and a publish, three round trips, beside as
// many of pipelined SETs of the same keys.
func BenchmarkRedisClusterWrite(b *testing.B) {
	store, client := clusterPair(b)
	ctx := context.Background()
	row := tokens.Row("users", 1)
	changes := tokens.NewChanges(row)
	if _, err := store.Read(ctx, []tokens.ID{row, tokens.Table("users"), tokens.Global}); err != nil {
		b.Fatal(err)
	}
	set := func(keys ...string) {
		pipe := client.Pipeline()
		for _, key := range keys {
			pipe.Set(ctx, key, "1700000000000000", 0)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			b.Fatal(err)
		}
	}
	const p = "raw.cache.TOKENS:"
	versus.Run(b, func() {
		set(p+"alkey:users#1", p+"alkey:users#*", p+"alkey:*#*")
		set(p + "clock")
		set(p+"alkey:users#1", p+"alkey:users#*", p+"alkey:*#*")
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

// clusterPair starts a cluster, and returns a Store over it beside a plain client.
func clusterPair(b *testing.B) (*tokens.Store, *redis.ClusterClient) {
	b.Helper()
	backend, client := clusterBackend(b, testserver.RedisCluster(b, 3), "")
	tokens.SetClusterGrace(backend, 0)
	// A machine that stalls must not count as an outage here.
	store := tokens.New(backend, tokens.WithReadTimeout(10*time.Second), tokens.WithWriteTimeout(10*time.Second))
	b.Cleanup(func() { _ = store.Close() })
	return store, client
}
