package alkey_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/internal/versus"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
)

type row struct{ ID int64 }

func (row) TableName() string { return "rows" }

// What a request pays that asks for the key of one row, or prefetches those of a hundred, its scope
// included, beside a plain MGET of the same keys.
func BenchmarkRequestOverRedis(b *testing.B) {
	ctx := context.Background()
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
	kit, err := request.New(request.Config{Tokens: store})
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{1, 100} {
		rows := make([]*row, n)
		keys := []string{"alkey.cache.TOKENS:clock"}
		for i := range rows {
			rows[i] = &row{ID: int64(1000 + i)}
			keys = append(keys, fmt.Sprintf("alkey.cache.TOKENS:alkey:rows#%d", rows[i].ID))
		}
		keys = append(keys, "alkey.cache.TOKENS:alkey:rows#!", "alkey.cache.TOKENS:alkey:*#!")
		warm, scope := kit.Open(ctx)
		if err := scope.Prefetch(warm, rows); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			versus.Run(b, func() {
				if err := client.MGet(ctx, keys...).Err(); err != nil {
					b.Fatal(err)
				}
			}, func() {
				ctx, scope := kit.Open(ctx)
				if n > 1 {
					if err := scope.Prefetch(ctx, rows); err != nil {
						b.Fatal(err)
					}
					return
				}
				if key, err := scope.Key(ctx, rows[0], "page"); err != nil || !key.Storable() {
					b.Fatal(key.Reason(), err)
				}
			})
		})
	}
}
