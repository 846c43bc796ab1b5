package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/internal/testserver"
)

var (
	_ cache.Batcher = (*cache.Redis)(nil)
	_ cache.Batcher = cache.Tiered(nil, nil).(cache.Batcher)
)

// itemsOf makes n items with values of that many bytes.
func itemsOf(n, size int) []cache.Item {
	items := make([]cache.Item, n)
	for i := range items {
		items[i] = cache.Item{Key: fmt.Sprintf("alkey:users#%d/page", i), Value: bytes.Repeat([]byte{byte('a' + i%26)}, size)}
	}
	return items
}

// data is a hook that does not count what makes connections.
type data struct{ hook }

func connects(cmd redis.Cmder) bool { return cmd.Name() == "hello" || cmd.Name() == "client" }

func (h *data) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	count := h.hook.ProcessHook(next)
	return func(ctx context.Context, cmd redis.Cmder) error {
		if connects(cmd) {
			return next(ctx, cmd)
		}
		return count(ctx, cmd)
	}
}

func (h *data) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	count := h.hook.ProcessPipelineHook(next)
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if connects(cmds[0]) {
			return next(ctx, cmds)
		}
		return count(ctx, cmds)
	}
}

// TestRedisSetsManyAtOnce: one round trip for a hundred values, and bounded ones for more.
func TestRedisSetsManyAtOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"single", "single, without context timeouts", "cluster", "ring"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			client := clients[kind](t)
			s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: patient})
			defer s.Close()
			h := new(data)
			client.AddHook(h)
			for _, c := range []struct {
				n, size int
				want    map[string]int
			}{
				{0, 0, map[string]int{}},
				{1, 10, map[string]int{"set": 1}},
				{100, 3000, map[string]int{"pipeline": 1}},
				{256, 10, map[string]int{"pipeline": 1}},
				{600, 10, map[string]int{"pipeline": 3}},
				{5, 400_000, map[string]int{"pipeline": 2, "set": 1}},
			} {
				items := itemsOf(c.n, c.size)
				if err := s.SetMany(t.Context(), items); err != nil {
					t.Fatal(err)
				}
				if got := h.take(); fmt.Sprint(got) != fmt.Sprint(c.want) {
					t.Errorf("%d values of %d bytes: %v, want %v", c.n, c.size, got, c.want)
				}
				for _, item := range items {
					if got, err := s.Get(t.Context(), []string{item.Key}); err != nil || !bytes.Equal(got[0], item.Value) {
						t.Fatalf("%s: %.20q, %v", item.Key, got, err)
					}
				}
				h.take()
			}
		})
	}
}

// tardy lets every pipeline succeed, but only when its time is over.
type tardy struct {
	hook
	begun int
}

func (h *tardy) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() != "set" {
			return next(ctx, cmds) // which makes a connection
		}
		h.begun++
		<-ctx.Done()
		return next(context.WithoutCancel(ctx), cmds)
	}
}

// TestRedisManyTakeTooLong: a server that takes its time is not down, but is not waited for for ever.
func TestRedisManyTakeTooLong(t *testing.T) {
	server := testserver.Redis(t)
	client := clientOf(t, server)
	s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: 50 * time.Millisecond})
	defer s.Close()
	h := new(tardy)
	client.AddHook(h)
	items := itemsOf(2560, 1)
	if err := s.SetMany(t.Context(), items); err == nil || errors.Is(err, cache.ErrDown) {
		t.Errorf("SetMany: %v", err)
	}
	if h.begun != 1 {
		t.Errorf("%d round trips were begun", h.begun)
	}
	other := cache.NewRedisWith(clientOf(t, server), cache.RedisOptions{Timeout: patient})
	defer other.Close()
	got, err := other.Get(t.Context(), []string{items[0].Key, items[255].Key, items[256].Key})
	if err != nil || got[0] == nil || got[1] == nil || got[2] != nil {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

// TestRedisManyWhileDown: many values cost one time limit, the next none.
func TestRedisManyWhileDown(t *testing.T) {
	for _, contexts := range []bool{true, false} {
		t.Run(fmt.Sprint("contexts=", contexts), func(t *testing.T) {
			server := testserver.Redis(t)
			client := closing(t, endless(server.Addr(), contexts))
			s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: 100 * time.Millisecond})
			t.Cleanup(func() { _ = s.Close() })
			eventually(t, "values are stored", func() bool { return s.SetMany(t.Context(), itemsOf(2, 10)) == nil })
			server.Pause()
			h := new(data)
			client.AddHook(h)
			if err := s.SetMany(t.Context(), itemsOf(1000, 10)); !errors.Is(err, cache.ErrDown) {
				t.Errorf("SetMany: %v", err)
			}
			if err := s.SetMany(t.Context(), itemsOf(1000, 10)); !errors.Is(err, cache.ErrDown) {
				t.Errorf("SetMany: %v", err)
			}
			if n := h.take()["pipeline"]; n != 1 {
				t.Errorf("%d round trips were begun", n)
			}
			server.Resume()
			eventually(t, "values are stored again", func() bool { return s.SetMany(t.Context(), itemsOf(2, 10)) == nil })
		})
	}
}

// TestRedisRefusesMany: a server that is full takes what is deleted, and for a while is sent no more.
func TestRedisRefusesMany(t *testing.T) {
	client := clientOf(t, testserver.Redis(t))
	s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: patient})
	defer s.Close()
	mustSet(t, s, "passed", []byte("1"))
	if err := client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	h := new(data)
	client.AddHook(h)
	items := append(itemsOf(600, 10), cache.Item{Key: "passed", TTL: -1})
	from := time.Now()
	for range 2 {
		if err := s.SetMany(t.Context(), items); err == nil || errors.Is(err, cache.ErrDown) {
			t.Errorf("SetMany: %v", err)
		}
	}
	// The first is refused in one round trip; afterwards only what has passed is deleted.
	if got := h.take(); time.Since(from) < time.Second && (got["pipeline"] != 1 || got["del"] != 2) {
		t.Errorf("sent: %v", got)
	}
	if got, err := s.Get(t.Context(), []string{"passed"}); err != nil || got[0] != nil {
		t.Errorf("what has passed: %q, %v", got, err)
	}
}

// TestRedisManyInACluster: values of nodes that answer are stored beside those of one that does not.
func TestRedisManyInACluster(t *testing.T) {
	nodes := cluster(t, 3)
	client := closing(t, redis.NewClusterClient(&redis.ClusterOptions{Addrs: nodes.addrs(), ContextTimeoutEnabled: true}))
	s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: 500 * time.Millisecond})
	t.Cleanup(func() { _ = s.Close() })
	items := itemsOf(100, 10)
	eventually(t, "values are stored", func() bool { return s.SetMany(t.Context(), items) == nil })
	nodes[0].Stop()
	for i := range items {
		items[i].Value = []byte("new")
	}
	keys := make([]string, len(items))
	for i := range keys {
		keys[i] = items[i].Key
	}
	for range 2 {
		if err := s.SetMany(t.Context(), items); !errors.Is(err, cache.ErrDown) {
			t.Errorf("SetMany: %v", err)
		}
	}
	eventually(t, "the other nodes have the new values", func() bool {
		if err := s.SetMany(t.Context(), items); !errors.Is(err, cache.ErrDown) {
			t.Fatalf("SetMany: %v", err)
		}
		got, err := s.Get(t.Context(), keys)
		n := 0
		for _, v := range got {
			if string(v) == "new" {
				n++
			}
		}
		return err == nil && n > 30 && n < 100
	})
}

// TestGetOfManyLarge: values that share memory come back in their places, and nothing that is appended to one
// reaches another.
func TestGetOfManyLarge(t *testing.T) {
	s := cache.NewRedisWith(clientOf(t, testserver.Redis(t)), cache.RedisOptions{Timeout: patient})
	defer s.Close()
	const n = 403
	items, keys := make([]cache.Item, 0, n), make([]string, n)
	for i := range n {
		keys[i] = fmt.Sprintf("alkey:users#%d/row", i)
		value := append(rows(i%7*1500+i), keys[i]...)
		if i%50 == 49 {
			value = append(rows(100_000), keys[i]...)
		}
		if i%11 != 0 {
			items = append(items, cache.Item{Key: keys[i], Value: value})
		}
	}
	if err := s.SetMany(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		got, err := s.Get(t.Context(), keys)
		if err != nil {
			t.Fatal(err)
		}
		next := 0
		for i, v := range got {
			if i%11 == 0 {
				if v != nil {
					t.Fatalf("%s: %.20q", keys[i], v)
				}
				continue
			}
			if !bytes.Equal(v, items[next].Value) {
				t.Fatalf("%s: %d bytes, want %d", keys[i], len(v), len(items[next].Value))
			}
			_ = append(v, "what somebody appends"...)
			next++
		}
	}
}
