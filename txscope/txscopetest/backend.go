package txscopetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alkey-go/alkey/tokens"
)

// Backend is a token store in memory that tells what was asked of it, and fails when it is told to.
// It is safe for concurrent use.
type Backend struct {
	memory *tokens.Memory

	mu    sync.Mutex
	down  bool
	calls []Call
	hook  func(Call)
}

// Call is one writing operation.
type Call struct {
	Op    string // "fence", "publish" or "release"
	Owner tokens.Owner
	IDs   []tokens.ID
}

// ErrDown is what a Backend returns while it is down.
var ErrDown = errors.New("the backend is down, as the test wants it")

// NewBackend makes a Backend that works.
func NewBackend() *Backend {
	return &Backend{memory: tokens.NewMemoryBackend(tokens.MemoryOptions{})}
}

// SetDown makes all operations fail, or work again.
func (b *Backend) SetDown(down bool) {
	b.mu.Lock()
	b.down = down
	b.mu.Unlock()
}

// OnCall has fn called before every writing operation.
func (b *Backend) OnCall(fn func(Call)) {
	b.mu.Lock()
	b.hook = fn
	b.mu.Unlock()
}

// Calls returns the writing operations since it was called last, failed ones included.
func (b *Backend) Calls() []Call {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := b.calls
	b.calls = nil
	return calls
}

// Ops returns the names of the writing operations since Calls or Ops was called last.
func (b *Backend) Ops() []string {
	ops := []string{}
	for _, c := range b.Calls() {
		ops = append(ops, c.Op)
	}
	return ops
}

// Published returns what was published since Calls, Ops or Published was called last, each once and
// sorted: rows as "users#1", swept tables as "users#!", and "*#!". Tables and everything, which are
// published with each of them, are left out.
func (b *Backend) Published() []string {
	published := []string{}
	for _, c := range b.Calls() {
		if c.Op != "publish" {
			continue
		}
		for _, id := range c.IDs {
			if !id.IsTable() && id != tokens.Global {
				published = append(published, strings.TrimPrefix(id.String(), "alkey:"))
			}
		}
	}
	slices.Sort(published)
	return slices.Compact(published)
}

func (b *Backend) note(op string, owner tokens.Owner, ids []tokens.ID) error {
	call := Call{op, owner, slices.Clone(ids)}
	b.mu.Lock()
	hook := b.hook
	b.mu.Unlock()
	if hook != nil {
		hook(call)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, call)
	return b.state()
}

// state needs b.mu.
func (b *Backend) state() error {
	if b.down {
		return ErrDown
	}
	return nil
}

// Read is part of tokens.Backend.
func (b *Backend) Read(ctx context.Context, ids []tokens.ID) (tokens.Snapshot, error) {
	b.mu.Lock()
	err := b.state()
	b.mu.Unlock()
	if err != nil {
		return tokens.Snapshot{}, err
	}
	return b.memory.Read(ctx, ids)
}

// Fence is part of tokens.Backend.
func (b *Backend) Fence(ctx context.Context, owner tokens.Owner, ids []tokens.ID, lease time.Duration) error {
	if err := b.note("fence", owner, ids); err != nil {
		return err
	}
	return b.memory.Fence(ctx, owner, ids, lease)
}

// Publish is part of tokens.Backend.
func (b *Backend) Publish(ctx context.Context, owner tokens.Owner, ids []tokens.ID) (tokens.Stamp, error) {
	if err := b.note("publish", owner, ids); err != nil {
		return 0, err
	}
	return b.memory.Publish(ctx, owner, ids)
}

// Release is part of tokens.Backend.
func (b *Backend) Release(ctx context.Context, owner tokens.Owner, ids []tokens.ID) error {
	if err := b.note("release", owner, ids); err != nil {
		return err
	}
	return b.memory.Release(ctx, owner, ids)
}

// Close is part of tokens.Backend.
func (b *Backend) Close() error { return b.memory.Close() }
