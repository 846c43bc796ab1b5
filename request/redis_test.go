package request_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

// commands is a hook that notes what is sent.
type commands struct {
	mu   sync.Mutex
	sent []string
}

func (c *commands) note(cmd ...redis.Cmder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range cmd {
		c.sent = append(c.sent, one.Name())
	}
}

// take returns what was sent since it was called last.
func (c *commands) take() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	sent := strings.Join(c.sent, " ")
	c.sent = nil
	return sent
}

func (c *commands) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *commands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.note(cmd)
		return next(ctx, cmd)
	}
}

func (c *commands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.note(cmds...)
		return next(ctx, cmds)
	}
}

// TestOneCommandOverRedis counts what a request sends to Redis.
func TestOneCommandOverRedis(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: testserver.Redis(t).Addr(), ContextTimeoutEnabled: true})
	defer client.Close()
	store, err := tokens.NewRedis(t.Context(), tokens.RedisOptions{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	users := make([]*user, 100)
	for i := range users {
		users[i] = &user{ID: i + 1}
	}
	kit := newKit(t, request.Config{Tokens: store})
	ctx, scope := kit.Open(t.Context())
	if err := scope.Prefetch(ctx, users, orders); err != nil { // makes the records
		t.Fatal(err)
	}

	sent := new(commands)
	client.AddHook(sent)
	ctx, scope = kit.Open(t.Context())
	if err := scope.Prefetch(ctx, users, orders); err != nil {
		t.Fatal(err)
	}
	if got := sent.take(); got != "mget" {
		t.Errorf("Prefetch sent %q", got)
	}
	for _, u := range users {
		judged(t, "prefetched", key(t, ctx, u, orders, "row"), true, 0)
	}
	if got := sent.take(); got != "" {
		t.Errorf("keys that were prefetched sent %q", got)
	}
	ctx, _ = kit.Open(t.Context())
	key(t, ctx, users, orders)
	if got := sent.take(); got != "mget" {
		t.Errorf("a key of all sent %q", got)
	}
	for range 2 {
		v, _ := fetch(t, ctx, "value", users[0], "x")
		if v != "value" {
			t.Errorf("fetched %q", v)
		}
	}
	if got := sent.take(); got != "" {
		t.Errorf("Fetch of what is known sent %q", got)
	}
}
