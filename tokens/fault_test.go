package tokens_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alkey-go/alkey/tokens"
)

var errFault = errors.New("the server is away")

// fault is what a faulty backend does with an operation.
type fault int

const (
	works fault = iota
	fails       // at once, without having been executed
	hangs       // until the caller gives up
	loses       // is executed, and its reply is lost
	lates       // fails, and is executed a second later all the same
	drags       // takes 400 ms
)

// faulty is a memory backend that can be made to fail. It counts what it was asked for.
type faulty struct {
	*tokens.Memory
	mu      sync.Mutex
	reads   fault
	writes  fault
	calls   map[string]int
	changed []tokens.ID // by the last publish
	away    sync.WaitGroup
}

func newFaulty() *faulty {
	return &faulty{Memory: tokens.NewMemoryBackend(tokens.MemoryOptions{}), calls: make(map[string]int)}
}

// set makes all operations behave alike.
func (b *faulty) set(f fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reads, b.writes = f, f
}

func (b *faulty) setWrites(f fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writes = f
}

func (b *faulty) count(op string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls[op]
}

func (b *faulty) published() []tokens.ID {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// do runs op as the fault has it.
func (b *faulty) do(ctx context.Context, name string, op func(context.Context) error) error {
	b.mu.Lock()
	b.calls[name]++
	f := b.writes
	if name == "Read" {
		f = b.reads
	}
	b.mu.Unlock()
	switch f {
	case fails:
		return errFault
	case hangs:
		<-ctx.Done()
		return ctx.Err()
	case loses:
		_ = op(ctx)
		return errFault
	case lates:
		b.away.Go(func() {
			time.Sleep(time.Second)
			_ = op(context.Background())
		})
		return errFault
	case drags:
		time.Sleep(400 * time.Millisecond)
		return op(ctx)
	default:
		return op(ctx)
	}
}

func (b *faulty) Read(ctx context.Context, ids []tokens.ID) (snap tokens.Snapshot, err error) {
	var got tokens.Snapshot
	err = b.do(ctx, "Read", func(ctx context.Context) (err error) {
		snap, err := b.Memory.Read(ctx, ids)
		if ctx.Err() == nil {
			got = snap
		}
		return err
	})
	if err != nil {
		return tokens.Snapshot{}, err
	}
	return got, nil
}

func (b *faulty) Fence(ctx context.Context, owner tokens.Owner, ids []tokens.ID, lease time.Duration) error {
	return b.do(ctx, "Fence", func(ctx context.Context) error { return b.Memory.Fence(ctx, owner, ids, lease) })
}

func (b *faulty) Publish(ctx context.Context, owner tokens.Owner, ids []tokens.ID) (tokens.Stamp, error) {
	stamps := make(chan tokens.Stamp, 1)
	err := b.do(ctx, "Publish", func(ctx context.Context) error {
		stamp, err := b.Memory.Publish(ctx, owner, ids)
		stamps <- stamp
		b.mu.Lock()
		b.changed = slices.Clone(ids)
		b.mu.Unlock()
		return err
	})
	if err != nil {
		return 0, err
	}
	return <-stamps, nil
}

func (b *faulty) Release(ctx context.Context, owner tokens.Owner, ids []tokens.ID) error {
	return b.do(ctx, "Release", func(ctx context.Context) error { return b.Memory.Release(ctx, owner, ids) })
}

// logs keeps the levels of what was logged.
type logs struct {
	slog.Handler
	mu     sync.Mutex
	levels map[slog.Level]int
}

func newLogs() *logs { return &logs{Handler: slog.DiscardHandler, levels: make(map[slog.Level]int)} }

func (l *logs) Enabled(context.Context, slog.Level) bool { return true }

func (l *logs) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.levels[r.Level]++
	return nil
}

func (l *logs) count(level slog.Level) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.levels[level]
}

// outages makes a Store over a faulty backend.
func outages(t *testing.T, opts ...tokens.Option) (*tokens.Store, *faulty, *logs) {
	t.Helper()
	b, l := newFaulty(), newLogs()
	s := tokens.New(b, append([]tokens.Option{tokens.WithLogger(slog.New(l))}, opts...)...)
	t.Cleanup(func() {
		b.set(works)
		_ = s.Close()
		b.away.Wait()
	})
	return s, b, l
}
