package templatefuncs

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
	"github.com/alkey-go/alkey/txscope"
	_ "github.com/alkey-go/alkey/txscope/sqlite"
)

// TestFragmentsOfADatabase: a page shows what was committed, its own request's writes, and never what was
// rolled back.
func TestFragmentsOfADatabase(t *testing.T) {
	p := newPages(t)
	db, err := txscope.Open("sqlite", filepath.Join(t.TempDir(), "app.db"), p.store)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	exec := func(ctx context.Context, query string) {
		t.Helper()
		if _, err := db.ExecContext(ctx, query); err != nil {
			t.Fatal(err)
		}
	}
	exec(t.Context(), `CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)`)
	exec(t.Context(), `INSERT INTO users VALUES (1, 'one'), (2, 'two')`)
	p.know(t, user1, user2, tokens.Table("users"))
	set := mustSet(t, `{{fragments "row" .}}{{define "row"}}({{.Name}}){{end}}`)
	page := func(ctx context.Context) string {
		t.Helper()
		var users []*user
		if err := db.SelectContext(ctx, &users, `SELECT id, name FROM users ORDER BY id`); err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := set.ExecuteContext(&b, ctx, "page", users); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	open := func() context.Context {
		ctx, _ := p.kit.Open(t.Context())
		return ctx
	}
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	check("first", page(open()), "(one)(two)")
	check("found", page(open()), "(one)(two)")

	ctx := open()
	exec(ctx, `UPDATE users SET name = 'ONE' WHERE id = 1`)
	check("in the request that has committed", page(ctx), "(ONE)(two)")
	check("in the next", page(open()), "(ONE)(two)")

	early := open()
	check("a request that has loaded before", page(early), "(ONE)(two)")
	exec(open(), `UPDATE users SET name = 'TWO' WHERE id = 2`)
	check("and the page that it makes afterwards", page(open()), "(ONE)(TWO)")

	ctx = open()
	tx, err := db.BeginTxx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, `UPDATE users SET name = 'dirty' WHERE id = 1`); err != nil {
		t.Fatal(err)
	}
	var dirty []*user
	if err := tx.SelectContext(ctx, &dirty, `SELECT id, name FROM users ORDER BY id`); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := set.ExecuteContext(&b, ctx, "page", dirty); err != nil {
		t.Fatal(err)
	}
	check("in its own transaction", b.String(), "(dirty)(TWO)")
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	check("after it was rolled back", page(open()), "(ONE)(TWO)")
}

// flights counts how many commands are sent and how many are under way at the same time.
type flights struct {
	mu              sync.Mutex
	sent            []string
	under, together int
	both            chan struct{} // closed when two are under way, nil if nobody waits for that
}

func (f *flights) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (f *flights) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return f.fly([]redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

func (f *flights) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return f.fly(cmds, func() error { return next(ctx, cmds) })
	}
}

func (f *flights) fly(cmds []redis.Cmder, send func() error) error {
	var names []string
	for _, cmd := range cmds {
		if !f.beside(cmd) {
			names = append(names, cmd.Name())
		}
	}
	if len(names) == 0 {
		return send()
	}
	f.mu.Lock()
	f.sent = append(f.sent, names...)
	f.under++
	f.together = max(f.together, f.under)
	both := f.both
	if f.under == 2 && both != nil {
		close(both)
		f.both = nil
	}
	f.mu.Unlock()
	if both != nil {
		select { // until the other is there too: else it would be chance
		case <-both:
		case <-time.After(10 * time.Second):
		}
	}
	err := send()
	f.mu.Lock()
	f.under--
	f.mu.Unlock()
	return err
}

// beside reports whether a command is one that a new connection begins with, or goes along with a read to
// find out whether the server takes writes.
func (f *flights) beside(cmd redis.Cmder) bool {
	return cmd.Name() == "hello" || cmd.Name() == "client" || cmd.Name() == "setrange" ||
		slices.Contains(cmd.Args(), any("alkey.cache.TOKENS:identity"))
}

// take returns what was sent since it was called last, and how much of it at the same time.
func (f *flights) take() (string, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sent, together := strings.Join(f.sent, " "), f.together
	f.sent, f.together = nil, 0
	return sent, together
}

// TestFragmentRoundTrips: a page of a hundred fragments that are all found costs one round trip, for tokens
// and values at the same time, and one more for each level of what changed.
func TestFragmentRoundTrips(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: testserver.Redis(t).Addr(), ContextTimeoutEnabled: true})
	defer client.Close()
	f := new(flights)
	store, err := tokens.NewRedis(t.Context(), tokens.RedisOptions{Client: client, Hooks: []redis.Hook{f}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	tokenstest.Ready(t, store)
	p := newPagesOver(t, store, cache.NewRedisWith(client, cache.RedisOptions{Timeout: 20 * time.Second}), "test")
	set := mustSet(t, `{{range .}}<p>{{fragment "row" .}}</p>{{end}}{{fragments "row" . "list"}}{{define "row"}}<b>{{.Name}}</b>{{fragment "inner" .}}{{end}}{{define "inner"}}<i>{{.ID}}</i>{{end}}`)
	users := make([]*user, 100)
	for i := range users {
		users[i] = &user{ID: i + 1, Name: fmt.Sprint("user ", i+1)}
		p.know(t, tokens.Row("users", i+1))
	}
	want, _, err := p.execute(t, set, users)
	if err != nil {
		t.Fatal(err)
	}
	client.AddHook(f)
	f.take()
	f.both = make(chan struct{})
	got, stats, err := p.execute(t, set, users)
	if err != nil || got != want || stats.Hits != 200 || stats.Misses != 0 {
		t.Errorf("%d hits, %d misses, %v, equal: %t", stats.Hits, stats.Misses, err, got == want)
	}
	if sent, together := f.take(); sent != "mget mget" || together != 2 {
		t.Errorf("sent %q, %d at the same time", sent, together)
	}
	if _, err := tokens.Bump(t.Context(), store, tokens.Row("users", 1), tokens.Row("users", 2)); err != nil {
		t.Fatal(err)
	}
	f.take()
	if _, stats, err = p.execute(t, set, users); err != nil || stats.Misses != 6 {
		t.Errorf("%d misses, %v", stats.Misses, err)
	}
	// The tokens of the inner fragments are known: their values and six writes are left.
	if sent, _ := f.take(); sent != "mget mget mget set set set set set set" {
		t.Errorf("sent %q", sent)
	}
}

// TestFragmentsConcurrently: many requests and writers share a set and everything else, and every page is
// whole.
func TestFragmentsConcurrently(t *testing.T) {
	p := newPages(t)
	set := mustSet(t, `{{fragments "row" .}}{{fragment "last" last}}{{define "row"}}[{{.ID}}{{fragment "name" .}}]{{end}}{{define "name"}}({{.Name}}){{end}}{{define "last"}}{{fragment "name" .}}{{end}}`,
		map[string]any{"last": func() *user { return &user{ID: 9, Name: "name 9"} }})
	users := make([]*user, 10)
	var want strings.Builder
	for i := range users {
		users[i] = &user{ID: i, Name: fmt.Sprint("name ", i)}
		fmt.Fprintf(&want, "[%d(name %d)]", i, i)
	}
	users = users[1:]
	text := strings.TrimPrefix(want.String(), "[0(name 0)]") + "(name 9)"
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 40 {
				if i == 0 {
					if _, err := tokens.Bump(t.Context(), p.store, tokens.Row("users", 1+n%9)); err != nil {
						t.Error(err)
					}
					continue
				}
				if got, _, err := p.execute(t, set, users); err != nil || got != text {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
}
