package cache_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/internal/versus"
)

// rows makes HTML of n bytes, as a table of people is.
func rows(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	names := []string{"Ada Lovelace", "Grace Hopper", "Edsger Dijkstra", "Barbara Liskov", "Donald Knuth", "Margaret Hamilton"}
	var b strings.Builder
	for b.Len() < n {
		id := r.IntN(100_000)
		fmt.Fprintf(&b, "<tr class=\"row\"><td><a href=\"/users/%d\">%s</a></td><td>user%d@example.org</td><td class=\"num\">%d.%02d</td></tr>\n",
			id, names[r.IntN(len(names))], id, r.IntN(10_000), r.IntN(100))
	}
	return []byte(b.String()[:n])
}

// BenchmarkRedisGet is Get beside the client's own command for the same values, uncompressed under
// keys of their own.
func BenchmarkRedisGet(b *testing.B) {
	server := testserver.Redis(b)
	for _, contexts := range []bool{true, false} {
		client := closing(b, redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: contexts}))
		for _, size := range []int{300, 3000} {
			for _, n := range []int{1, 100} {
				b.Run(fmt.Sprintf("contexts=%v/bytes=%d/values=%d", contexts, size, n), func(b *testing.B) {
					s, keys, raw := stored(b, client, n, size)
					ctx := b.Context()
					versus.Run(b, func() {
						if err := client.MGet(ctx, raw...).Err(); err != nil {
							b.Fatal(err)
						}
					}, func() {
						if values, err := s.Get(ctx, keys); err != nil || values[n-1] == nil {
							b.Fatal(values[n-1], err)
						}
					})
				})
			}
		}
	}
}

func BenchmarkRedisClusterGet(b *testing.B) {
	client := closing(b, redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster(b, 3).addrs(), ContextTimeoutEnabled: true}))
	for _, size := range []int{300, 3000} {
		b.Run(fmt.Sprintf("bytes=%d/values=100", size), func(b *testing.B) {
			s, keys, raw := stored(b, client, 100, size)
			ctx := b.Context()
			versus.Run(b, func() {
				pipe := client.Pipeline()
				for _, key := range raw {
					pipe.Get(ctx, key)
				}
				if _, err := pipe.Exec(ctx); err != nil {
					b.Fatal(err)
				}
			}, func() {
				if values, err := s.Get(ctx, keys); err != nil || values[99] == nil {
					b.Fatal(values[99], err)
				}
			})
		})
	}
}

// BenchmarkRedisSet is Set beside SET of the same value uncompressed.
func BenchmarkRedisSet(b *testing.B) {
	client := clientOf(b, testserver.Redis(b))
	for _, size := range []int{300, 3000} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			s, keys, raw := stored(b, client, 1, size)
			ctx, value := b.Context(), rows(size)
			versus.Run(b, func() {
				if err := client.Set(ctx, raw[0], value, 0).Err(); err != nil {
					b.Fatal(err)
				}
			}, func() {
				if err := s.Set(ctx, keys[0], value, 0); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkTieredGet is a Get of values that are near.
func BenchmarkTieredGet(b *testing.B) {
	s, keys, _ := stored(b, clientOf(b, testserver.Redis(b)), 100, 300)
	t := cache.Tiered(cache.NewMemory(1<<20), s)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if values, err := t.Get(ctx, keys); err != nil || values[99] == nil {
			b.Fatal(values[99], err)
		}
	}
}

// stored puts n values into a store, and under keys of their own.
func stored(b *testing.B, client redis.UniversalClient, n, size int) (s *cache.Redis, keys, raw []string) {
	b.Helper()
	s = cache.NewRedisWith(client, cache.RedisOptions{Timeout: patient})
	b.Cleanup(func() { _ = s.Close() })
	for i := range n {
		keys, raw = append(keys, fmt.Sprintf("alkey:users#%d/row", i)), append(raw, fmt.Sprintf("alkey.raw.VALUES:alkey:users#%d/row", i))
		value := rows(size + i%2)
		mustSet(b, s, keys[i], value)
		if err := client.Set(b.Context(), raw[i], value, 0).Err(); err != nil {
			b.Fatal(err)
		}
	}
	return s, keys, raw
}
