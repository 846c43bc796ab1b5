package tokens_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
)

// TestEveryProbeDials: however long a server has refused connections, it is met soon after it is there. By itself
// go-redis dials once a second then, and tells everybody meanwhile what came of that.
func TestEveryProbeDials(t *testing.T) {
	for name, o := range map[string]redis.UniversalOptions{
		"single":  {},
		"cluster": {IsClusterMode: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var last time.Time
				var longest time.Duration
				o.Addrs = []string{"192.0.2.1:6379"} // no name: the resolver must not be met in a bubble first
				o.PoolSize = 3
				o.Dialer = func(context.Context, string, string) (net.Conn, error) {
					mu.Lock()
					defer mu.Unlock()
					if !last.IsZero() {
						longest = max(longest, time.Since(last))
					}
					last = time.Now()
					return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
				}
				b, err := tokens.NewRedisBackend(tokens.RedisOptions{UniversalOptions: o})
				if err != nil {
					t.Fatal(err)
				}
				s := tokens.New(b, tokens.WithLogger(slog.New(slog.DiscardHandler)))
				defer s.Close()
				if _, err := s.Read(t.Context(), []tokens.ID{user1}); !errors.Is(err, tokens.ErrDown) || !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("Read: %v", err)
				}
				time.Sleep(time.Minute)
				mu.Lock()
				defer mu.Unlock()
				if longest = max(longest, time.Since(last)); longest > 300*time.Millisecond {
					t.Errorf("nobody dialled for %v", longest)
				}
			})
		})
	}
}

// TestFailedDialsAreNotKept: what stands for connections that could not be made, and that nobody waited for, fails
// no operation once the server is there.
func TestFailedDialsAreNotKept(t *testing.T) {
	server := testserver.Redis(t)
	var up atomic.Bool
	var refused atomic.Int64
	b, err := tokens.NewRedisBackend(tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{
		Addrs: []string{server.Addr()}, PoolSize: 4, MinIdleConns: 4,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if !up.Load() {
				refused.Add(1)
				return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	read := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		_, err := b.Read(ctx, []tokens.ID{user1})
		return err
	}
	for range 8 {
		if err := read(time.Millisecond); err == nil { // which does not wait for the dial
			t.Fatal("it is read without a server")
		}
	}
	// Dials that nobody waits for end too, and are kept.
	eventually(t, "connections were refused", func() bool { return refused.Load() >= 4*5 })
	if err := read(10 * time.Second); err == nil {
		t.Fatal("it is read without a server")
	}
	up.Store(true)
	eventually(t, "the server is read", func() bool { return read(10*time.Second) == nil })
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 5 {
				if err := read(10 * time.Second); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}
