package tokens_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
)

// TestCannotPersist: a server that refuses writes because it could not save its data is not read, and is again
// when it has saved it.
func TestCannotPersist(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := testserver.Redis(t, "--save", "3600 1", "--dir", dir, "--dbfilename", "snapshot")
	p, c := newProcess(t, server.Addr()), plain(t, server.Addr())
	old := p.get(t, row1)
	// A file cannot take the place of a directory that has something in it.
	inTheWay := filepath.Join(dir, "snapshot")
	if err := os.MkdirAll(filepath.Join(inTheWay, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	do(t, c, "bgsave")
	eventually(t, "a write is refused", func() bool { return c.Set(t.Context(), "x", 1, time.Minute).Err() != nil })
	if _, err := tokens.Get(t.Context(), p.Store, row1); !errors.Is(err, tokens.ErrDown) || !errors.Is(err, tokens.ErrRefused) {
		t.Fatalf("a server that takes no writes is read: %v", err)
	}
	if err := p.redis.Fence(t.Context(), "w", []tokens.ID{row1}, time.Minute); !errors.Is(err, tokens.ErrRefused) {
		t.Errorf("fenced: %v", err)
	}
	if err := os.RemoveAll(inTheWay); err != nil {
		t.Fatal(err)
	}
	do(t, c, "bgsave")
	p.recovers(t, row1, old)
}
