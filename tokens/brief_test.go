package tokens_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
)

// TestBriefOutage: a process that loses sight of the store for a moment sweeps nothing when it is back, if the
// server says who it is; one that was away for longer does.
func TestBriefOutage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		away   time.Duration
		hidden bool
		sweeps bool
	}{
		{"brief", time.Second - time.Millisecond, false, false},
		{"long", time.Second, false, true},
		{"brief, of a server that hides who it is", time.Second - time.Millisecond, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var args []string
			if c.hidden {
				args = []string{"--rename-command", "INFO", ""}
			}
			server := testserver.Redis(t, args...)
			front := newProxy(t, server.Addr())
			begin := time.Now()
			var away atomic.Int64
			p := newProcess(t, front.addr(), tokens.WithReadTimeout(0), tokens.WithWriteTimeout(0),
				tokens.WithNow(func() time.Time { return begin.Add(time.Duration(away.Load())) }))
			before := p.get(t, row1)
			front.point("")
			eventually(t, "the store is down", func() bool {
				_, err := p.Read(t.Context(), []tokens.ID{row1})
				return errors.Is(err, tokens.ErrDown)
			})
			away.Store(int64(c.away))
			front.point(server.Addr())
			eventually(t, "the store is back", func() bool {
				found, err := p.Read(t.Context(), []tokens.ID{row1})
				return err == nil && !found[0].Fenced
			})
			if swept := p.get(t, row1) != before; swept != c.sweeps {
				t.Errorf("swept: %v", swept)
			}
		})
	}
}
