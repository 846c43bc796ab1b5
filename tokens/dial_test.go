package tokens_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

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
				o.Addrs = []string{"redis:6379"}
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
