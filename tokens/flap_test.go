package tokens_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alkey-go/alkey/tokens"
)

// choosy answers probes, which ask for one record, and fails what pages ask for.
type choosy struct{ *faulty }

func (b choosy) Read(ctx context.Context, ids []tokens.ID) (tokens.Snapshot, error) {
	if len(ids) > 1 {
		return tokens.Snapshot{}, errFault
	}
	return b.faulty.Read(ctx, ids)
}

// TestFlappingOutage: a store that answers probes and fails pages is not probed at every page, and logged once.
func TestFlappingOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l := choosy{newFaulty()}, newLogs()
		s := tokens.New(b, tokens.WithLogger(slog.New(l)))
		defer s.Close()
		const seconds = 60
		for range seconds * 100 {
			if _, err := s.Read(t.Context(), []tokens.ID{user1}); !errors.Is(err, tokens.ErrDown) {
				t.Fatalf("Read: %v", err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := b.count("Read"); n < seconds || n > 5*seconds {
			t.Errorf("%d probes in %d seconds", n, seconds)
		}
		if n := l.count(slog.LevelWarn) + l.count(slog.LevelInfo); n != 1 {
			t.Errorf("%d lines logged", n)
		}
		time.Sleep(forever)
		if n := l.count(slog.LevelInfo); n != 1 {
			t.Errorf("that it is over is logged %d times", n)
		}
		// What happens later is an outage of its own.
		if _, err := s.Read(t.Context(), []tokens.ID{user1}); !errors.Is(err, tokens.ErrDown) {
			t.Fatalf("Read: %v", err)
		}
		probed := b.count("Read")
		time.Sleep(50 * time.Millisecond)
		if n := b.count("Read"); n != probed+1 {
			t.Errorf("%d probes soon after it began", n-probed)
		}
		if n := l.count(slog.LevelWarn); n != 2 {
			t.Errorf("%d outages logged", n)
		}
	})
}
