package cache_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/internal/testserver"
)

// leases are what every Leaser does.
func leases(t *testing.T, l cache.Leaser) {
	t.Helper()
	take := func(key string, ttl time.Duration) func() {
		t.Helper()
		release, err := l.Lease(t.Context(), key, ttl)
		if err != nil {
			t.Fatal(err)
		}
		return release
	}
	release := take("a", time.Hour)
	if release == nil {
		t.Fatal("a lease that nobody has is refused")
	}
	if take("a", time.Hour) != nil {
		t.Error("two have one lease")
	}
	other := take("b", time.Hour)
	if other == nil {
		t.Error("a lease keeps another")
	}
	release()
	second := take("a", time.Hour)
	if second == nil {
		t.Error("a lease is not given back")
	}
	release() // late: it is somebody else's now
	if take("a", time.Hour) != nil {
		t.Error("a lease was given back by one who had it before")
	}
	if s, ok := l.(cache.Store); ok {
		if err := s.Set(t.Context(), "a", []byte("value"), 0); err != nil {
			t.Fatal(err)
		}
		if v, err := s.Get(t.Context(), []string{"a", "b"}); err != nil || string(v[0]) != "value" || v[1] != nil {
			t.Errorf("values are %q, %v", v, err)
		}
		if take("a", time.Hour) != nil {
			t.Error("a value has ended a lease")
		}
	}
}

func TestLeaseMemory(t *testing.T) {
	leases(t, cache.NewMemory(1<<20))
	synctest.Test(t, func(t *testing.T) {
		m := cache.NewMemory(1 << 20)
		first, err := m.Lease(t.Context(), "a", time.Second)
		if first == nil || err != nil {
			t.Fatal(err)
		}
		time.Sleep(999 * time.Millisecond)
		if again, _ := m.Lease(t.Context(), "a", time.Second); again != nil {
			t.Error("it runs out too early")
		}
		time.Sleep(2 * time.Millisecond)
		if again, _ := m.Lease(t.Context(), "a", time.Second); again == nil {
			t.Error("it does not run out")
		}
	})
	m := cache.NewMemory(1 << 20)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Lease(t.Context(), "a", time.Second); !errors.Is(err, cache.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestLeaseRedis(t *testing.T) {
	server := testserver.Redis(t)
	for _, obeys := range []bool{true, false} {
		client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: obeys})
		defer client.Close()
		r := cache.NewRedisWith(client, cache.RedisOptions{Timeout: 10 * time.Second})
		defer r.Close()
		leases(t, r)
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		leases(t, cache.Tiered(cache.NewMemory(1<<20), r).(cache.Leaser))
		if _, err := r.Lease(t.Context(), "short", time.Minute); err != nil {
			t.Fatal(err)
		}
		if ttl, err := client.PTTL(t.Context(), "alkey.cache.VALUES:%lease-short").Result(); err != nil || ttl <= 50*time.Second || ttl > time.Minute {
			t.Errorf("it runs out in %v, %v", ttl, err)
		}
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// lossy is a connection that breaks, when it is told to, once the server has answered.
type lossy struct {
	net.Conn
	lose *atomic.Bool
}

func (l lossy) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if err == nil && l.lose.CompareAndSwap(true, false) {
		return 0, io.EOF
	}
	return n, err
}

// TestLeaseReplyIsLost: who was given the lease and did not hear of it has it.
func TestLeaseReplyIsLost(t *testing.T) {
	var lose atomic.Bool
	client := redis.NewClient(&redis.Options{Addr: testserver.Redis(t).Addr(), ContextTimeoutEnabled: true, Protocol: 2,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			return lossy{c, &lose}, err
		}})
	defer client.Close()
	r := cache.NewRedisWith(client, cache.RedisOptions{Timeout: 10 * time.Second})
	defer r.Close()
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	lose.Store(true)
	release, err := r.Lease(t.Context(), "a", time.Hour)
	if release == nil || err != nil {
		t.Fatalf("nobody else has the lease, and it is not given: %v", err)
	}
	if lose.Load() {
		t.Fatal("no reply was lost")
	}
	if again, err := r.Lease(t.Context(), "a", time.Hour); again != nil || err != nil {
		t.Errorf("it is given to another: %v", err)
	}
	release()
	if again, err := r.Lease(t.Context(), "a", time.Hour); again == nil || err != nil {
		t.Errorf("it was not given back: %v", err)
	}
}

// plain is a store without leases.
type plain struct{ cache.Store }

// TestFresh: what another process has replaced is found behind a copy.
func TestFresh(t *testing.T) {
	far := cache.NewMemory(1 << 20)
	s := cache.Tiered(cache.NewMemory(1<<20), plain{far})
	ctx := context.Background()
	if err := s.Set(ctx, "a", []byte("old"), 0); err != nil {
		t.Fatal(err)
	}
	if err := far.Set(ctx, "a", []byte("new"), 0); err != nil {
		t.Fatal(err)
	}
	get := func(fn func(context.Context, []string) ([][]byte, error), want string) {
		t.Helper()
		if v, err := fn(ctx, []string{"a", "none"}); err != nil || string(v[0]) != want || v[1] != nil {
			t.Errorf("got %q, %v; want %q", v, err, want)
		}
	}
	get(s.Get, "old")
	get(s.(cache.Fresh).GetFresh, "new")
	get(s.Get, "new")
	for range 2 {
		if release, err := s.(cache.Leaser).Lease(ctx, "a", time.Hour); release == nil || err != nil {
			t.Errorf("over a store without leases: %v", err)
		}
	}
}
