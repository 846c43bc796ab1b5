package tokens_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
)

// afterwards is a hook that does something once, when the next command or pipeline has been answered and nobody
// has been told.
type afterwards struct{ do atomic.Pointer[func()] }

func (h *afterwards) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *afterwards) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		defer h.now()
		return next(ctx, cmd)
	}
}

func (h *afterwards) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		defer h.now()
		return next(ctx, cmds)
	}
}

func (h *afterwards) now() {
	if do := h.do.Swap(nil); do != nil {
		(*do)()
	}
}

// TestEpochEndsAsTimeRunsOut: what was answered in an epoch that is over does not count, also when there is no
// time left to ask again.
func TestEpochEndsAsTimeRunsOut(t *testing.T) {
	t.Parallel()
	for name, addrs := range map[string]func() []string{
		"single":  func() []string { return []string{testserver.Redis(t).Addr()} },
		"cluster": func() []string { return testserver.RedisCluster(t, 3).Addrs() },
	} {
		t.Run(name, func(t *testing.T) {
			hook := new(afterwards)
			b, err := tokens.NewRedisBackend(tokens.RedisOptions{
				UniversalOptions: redis.UniversalOptions{Addrs: addrs(), IsClusterMode: name == "cluster"},
				Hooks:            []redis.Hook{hook},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			ids := []tokens.ID{row1}
			for op, run := range map[string]func(context.Context) error{
				"read": func(ctx context.Context) error { _, err := b.Read(ctx, ids); return err },
				"fence": func(ctx context.Context) error {
					return b.Fence(ctx, "w", ids, time.Minute)
				},
			} {
				if err := run(t.Context()); err != nil { // which makes the connections
					t.Fatalf("%s: %v", op, err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				loss := func() {
					r := b.(tokens.Restorer)
					if _, err := r.Restore(t.Context(), r.Seen()); err != nil {
						t.Errorf("Restore: %v", err)
					}
					cancel()
				}
				hook.do.Store(&loss)
				if err := run(ctx); err == nil {
					t.Errorf("%s: no error, though the store was lost meanwhile", op)
				}
				cancel()
			}
		})
	}
}

// TestClusterConnectionRefused: a node that answers a new connection with an error, as one does that has as many
// clients as it may, has lost nothing, and nothing is swept for it.
func TestClusterConnectionRefused(t *testing.T) {
	t.Parallel()
	cluster := testserver.RedisCluster(t, 3)
	var refuses atomic.Bool
	b, err := tokens.NewRedisBackend(tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{
		Addrs: cluster.Addrs(),
		OnConnect: func(ctx context.Context, cn *redis.Conn) error {
			if refuses.Load() {
				return cn.Do(ctx, "nosuchcommand").Err()
			}
			return nil
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	mustRead(t, b, row1)
	if _, err := b.Publish(t.Context(), "", []tokens.ID{row1}); err != nil {
		t.Fatal(err)
	}
	// The connection on which the clock's script ran is the one that reads it.
	const prefix = "alkey.cache.TOKENS:"
	node := plain(t, cluster.Addrs()[cluster.Owner(cluster.Slot(prefix+"clock"))])
	clients, err := node.ClientList(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for client := range strings.Lines(clients) {
		if id, _, _ := strings.Cut(strings.TrimPrefix(client, "id="), " "); strings.Contains(client, "cmd=evalsha") {
			killed++
			do(t, node, "client", "kill", "id", id)
		}
	}
	if killed == 0 {
		t.Fatalf("no connection to kill:\n%s", clients)
	}
	r := b.(tokens.Restorer)
	before := r.Epoch()
	refuses.Store(true)
	if _, err := b.Read(t.Context(), []tokens.ID{row1}); err == nil {
		t.Error("a read through no connection has no error")
	}
	if epoch := r.Epoch(); epoch != before {
		t.Errorf("the epoch was %d and is %d", before, epoch)
	}
}

// probed is a backend whose reads are held, and whose fences fail when they are told to.
type probed struct {
	*tokens.Memory
	fails  atomic.Bool   // the next read
	begun  chan struct{} // a read is held, or a fence
	read   chan struct{}
	fence  chan struct{}
	probes atomic.Int64 // fences of probes
}

func (b *probed) Read(ctx context.Context, ids []tokens.ID) (tokens.Snapshot, error) {
	if b.fails.Swap(false) {
		return tokens.Snapshot{}, errFault
	}
	select {
	case b.begun <- struct{}{}:
		<-b.read
	case <-b.read:
	}
	return b.Memory.Read(context.Background(), ids)
}

func (b *probed) Fence(ctx context.Context, owner tokens.Owner, ids []tokens.ID, lease time.Duration) error {
	if owner == "probe" {
		b.probes.Add(1)
		return b.Memory.Fence(context.Background(), owner, ids, lease)
	}
	b.begun <- struct{}{}
	<-b.fence
	return errFault
}

// TestFailureWhileProbed: what fails while the store is asked whether it is back begins an outage of its own, which
// does not end with that answer.
func TestFailureWhileProbed(t *testing.T) {
	t.Parallel()
	b := &probed{
		Memory: tokens.NewMemoryBackend(tokens.MemoryOptions{}),
		begun:  make(chan struct{}),
		read:   make(chan struct{}),
		fence:  make(chan struct{}),
	}
	s := tokens.New(b, tokens.WithReadTimeout(0), tokens.WithWriteTimeout(0))
	defer s.Close()
	owner, changes := tokens.NewOwner(), tokens.NewChanges(row1)
	fenced := make(chan error)
	go func() { fenced <- s.Fence(t.Context(), owner, changes, time.Minute) }()
	<-b.begun
	b.fails.Store(true)
	if _, err := s.Read(t.Context(), []tokens.ID{row1}); !errors.Is(err, tokens.ErrDown) {
		t.Fatalf("a read that failed: %v", err)
	}
	<-b.begun // the probe reads
	close(b.fence)
	if err := <-fenced; !errors.Is(err, tokens.ErrDown) {
		t.Fatalf("a fence that failed: %v", err)
	}
	_ = s.Release(t.Context(), owner, changes)
	close(b.read)
	eventually(t, "the store is back", func() bool {
		_, err := s.Read(t.Context(), []tokens.ID{row1})
		return err == nil
	})
	if b.probes.Load() == 0 {
		t.Error("a fence has failed, and whether the store takes one was not asked")
	}
}
