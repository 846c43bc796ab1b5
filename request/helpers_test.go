package request_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type user struct {
	ID   int
	Name string
}

func (user) TableName() string { return "users" }

var (
	user1  = tokens.Row("users", 1)
	user2  = tokens.Row("users", 2)
	orders = tokens.Table("orders")
)

// backend is the memory backend with an ear, and a switch to turn it off.
type backend struct {
	tokens.Backend
	reads atomic.Int64
	down  atomic.Bool
	// afterRead, if set, runs between a read and its return.
	afterRead atomic.Pointer[func()]
}

var errSwitchedOff = errors.New("switched off")

func (b *backend) Read(ctx context.Context, ids []tokens.ID) (tokens.Snapshot, error) {
	b.reads.Add(1)
	if b.down.Load() {
		return tokens.Snapshot{}, errSwitchedOff
	}
	s, err := b.Backend.Read(ctx, ids)
	if fn := b.afterRead.Load(); fn != nil {
		(*fn)()
	}
	return s, err
}

func (b *backend) Publish(ctx context.Context, o tokens.Owner, ids []tokens.ID) (tokens.Stamp, error) {
	if b.down.Load() {
		return 0, errSwitchedOff
	}
	return b.Backend.Publish(ctx, o, ids)
}

func newStore(t testing.TB) (*tokens.Store, *backend) {
	b := &backend{Backend: tokens.NewMemoryBackend(tokens.MemoryOptions{})}
	s := tokens.New(b, tokens.WithLogger(slog.New(slog.DiscardHandler)))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, b
}

func newKit(t testing.TB, cfg request.Config) *request.Kit {
	t.Helper()
	if cfg.Version == "" {
		cfg.Version = "test"
	}
	k, err := request.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// journal collects what is logged.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

func (j *journal) lines() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Split(strings.TrimSuffix(j.b.String(), "\n"), "\n")
}

func (j *journal) count(text string) int {
	n := 0
	for _, l := range j.lines() {
		if strings.Contains(l, text) {
			n++
		}
	}
	return n
}

// publish makes a commit's changes known, as another process would.
func publish(t testing.TB, s *tokens.Store, ids ...tokens.ID) {
	t.Helper()
	if _, err := s.Publish(t.Context(), "", tokens.NewChanges(ids...)); err != nil {
		t.Fatal(err)
	}
}

// warm reads the tokens of ids, so that they exist before the next scope opens.
func warm(t testing.TB, s *tokens.Store, ids ...tokens.ID) {
	t.Helper()
	if _, err := s.Read(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
}

func key(t testing.TB, ctx context.Context, args ...any) request.Key {
	t.Helper()
	s, ok := request.FromContext(ctx)
	if !ok {
		t.Fatal("no scope")
	}
	k, err := s.Key(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// judged checks all that a key says about itself.
func judged(t testing.TB, what string, k request.Key, usable bool, why request.Reason) {
	t.Helper()
	if k.Usable() != usable {
		t.Errorf("%s: usable is %t", what, k.Usable())
	}
	if k.Reason() != why {
		t.Errorf("%s: the reason is %q, want %q", what, k.Reason(), why)
	}
	if k.Storable() != (why == 0) {
		t.Errorf("%s: storable is %t", what, k.Storable())
	}
	if once := strings.HasPrefix(k.String(), "%once-"); once == k.Storable() {
		t.Errorf("%s: the text is %q", what, k)
	}
	if a, b := k.String(), k.String(); a != b {
		t.Errorf("%s: its text changes from %q to %q", what, a, b)
	}
}

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// values is a value store that is not Local, and fails on demand.
type values struct {
	mu      sync.Mutex
	m       map[string][]byte
	ttl     time.Duration // of the last Set
	get     error
	set     error
	missing bool   // return fewer values than keys
	during  func() // called in Get, before it returns
}

func newValues() *values { return &values{m: map[string][]byte{}} }

var _ cache.Store = (*values)(nil)

func (v *values) Get(_ context.Context, keys []string) ([][]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.get != nil {
		return nil, v.get
	}
	if v.missing {
		return nil, nil
	}
	out := make([][]byte, len(keys))
	for i, k := range keys {
		out[i] = v.m[k]
	}
	if v.during != nil {
		v.during()
	}
	return out, nil
}

func (v *values) Set(_ context.Context, key string, value []byte, ttl time.Duration) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.set != nil {
		return v.set
	}
	v.m[key], v.ttl = value, ttl
	return nil
}

func (v *values) Close() error { return nil }

func (v *values) len() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.m)
}
