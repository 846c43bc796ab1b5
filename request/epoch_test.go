package request_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

// lossy is a backend whose store can lose what it holds.
type lossy struct {
	backend
	epoch atomic.Uint64
}

func (b *lossy) Epoch() uint64                                               { return b.epoch.Load() }
func (b *lossy) Seen() tokens.Stamp                                          { return 0 }
func (b *lossy) Restore(context.Context, tokens.Stamp) (tokens.Stamp, error) { return 0, nil }

// TestEpoch: what a request has read before the token store was lost is not used any more.
func TestEpoch(t *testing.T) {
	b := &lossy{}
	b.Backend = tokens.NewMemoryBackend(tokens.MemoryOptions{})
	store := tokens.New(b)
	defer store.Close()
	kit := newKit(t, request.Config{Tokens: store})
	warm, _ := kit.Open(t.Context())
	key(t, warm, user1, user2)

	ctx, _ := kit.Open(t.Context())
	before := key(t, ctx, user1)
	judged(t, "before", before, true, 0)
	reads := b.reads.Load()
	b.epoch.Add(1)
	judged(t, "before, after the loss", before, false, request.StoreDown)
	after := key(t, ctx, user1)
	judged(t, "after", after, true, 0)
	if n := b.reads.Load() - reads; n != 1 {
		t.Errorf("%d reads after the loss", n)
	}
	judged(t, "before, when it was read again", before, true, 0) // the store has the same token: nothing was lost

	// A read that a loss overtakes is repeated.
	var once atomic.Bool
	lose := func() {
		if !once.Swap(true) {
			b.epoch.Add(1)
		}
	}
	b.afterRead.Store(&lose)
	ctx, _ = kit.Open(t.Context())
	reads = b.reads.Load()
	judged(t, "overtaken", key(t, ctx, user2), true, 0)
	if n := b.reads.Load() - reads; n != 2 {
		t.Errorf("%d reads of what was overtaken", n)
	}
	b.afterRead.Store(nil)

	// What was read before a loss is not stored after it.
	ctx, _ = kit.Open(t.Context())
	if _, err := request.Fetch(ctx, func(context.Context) (string, error) {
		b.epoch.Add(1)
		return "stored", nil
	}, user1, "value"); err != nil {
		t.Fatal(err)
	}
	ctx, _ = kit.Open(t.Context())
	if got, _ := fetch(t, ctx, "made anew", user1, "value"); got != "made anew" {
		t.Errorf("%q was stored", got)
	}
}
