package templatefuncs

import (
	"context"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pages is an application that executes pages.
type pages struct {
	store  *tokens.Store
	values cache.Store
	kit    *request.Kit
}

func newPages(t testing.TB) *pages { return newPagesOf(t, 64<<20) }

// newPagesOf has room for that many bytes of values.
func newPagesOf(t testing.TB, bytes int64) *pages {
	t.Helper()
	store := tokens.NewMemory()
	t.Cleanup(func() { _ = store.Close() })
	return newPagesOver(t, store, cache.NewMemory(bytes), "test")
}

func newPagesOver(t testing.TB, store *tokens.Store, values cache.Store, version string) *pages {
	t.Helper()
	kit, err := request.New(request.Config{Tokens: store, Values: values, Version: version, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return &pages{store: store, values: values, kit: kit}
}

// execute executes "page" for a request of its own. The page is made twice at first: of a row that nobody has
// asked for before, the token is younger than the request.
func (p *pages) execute(t testing.TB, set *Set, data any) (string, request.Stats, error) {
	t.Helper()
	return p.executeIn(t.Context(), set, data)
}

func (p *pages) executeIn(ctx context.Context, set *Set, data any) (string, request.Stats, error) {
	ctx, scope := p.kit.Open(ctx)
	var b strings.Builder
	err := set.ExecuteContext(&b, ctx, "page", data)
	return b.String(), scope.Stats(), err
}

func newTokens(t testing.TB) *tokens.Store {
	store := tokens.NewMemory()
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// recorder is a value store that tells its keys and counts how often it is asked.
type recorder struct {
	mu   sync.Mutex
	m    map[string][]byte
	gets int
}

func newRecorder() *recorder { return &recorder{m: make(map[string][]byte)} }

func (r *recorder) Get(_ context.Context, keys []string) ([][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gets++
	values := make([][]byte, len(keys))
	for i, k := range keys {
		values[i] = r.m[k]
	}
	return values, nil
}

func (r *recorder) Set(_ context.Context, key string, value []byte, _ time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.m[key] = value
	return nil
}

func (r *recorder) Close() error { return nil }

func (r *recorder) keys() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.m))
}

// gc collects what nothing leads to, out of pools too.
func gc() {
	runtime.GC()
	runtime.GC()
	runtime.GC()
}
