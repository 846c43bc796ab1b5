package alkey_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/alkey-go/alkey"
	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/txscopetest"
)

// whole is all that a program has open.
type whole struct {
	store  *tokens.Store
	db     *sqlx.DB
	bare   *sqlx.DB
	values cache.Store
	client *redis.Client // of values
	kit    *request.Kit
	log    *txscopetest.Log
	user   int
}

// lastUser is the one of the last database: others would find what is stored of it, or fenced.
var lastUser atomic.Int64

// openWhole opens everything over a server, and a database in which there is one user, of version 0.
func openWhole(t *testing.T, server *testserver.RedisServer, hook redis.Hook, opts ...txscope.Option) *whole {
	t.Helper()
	w := &whole{log: new(txscopetest.Log), user: int(lastUser.Add(1))}
	options := tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{Addrs: []string{server.Addr()}}}
	limit := 500 * time.Millisecond
	if hook != nil {
		options.Hooks = []redis.Hook{hook}
		limit = 10 * time.Second // it stops commands
	}
	backend, err := tokens.NewRedisBackend(options)
	if err != nil {
		t.Fatal(err)
	}
	w.store = tokens.New(backend, tokens.WithLogger(w.log.Logger()), tokens.WithWriteTimeout(limit))
	t.Cleanup(func() { _ = w.store.Close() })
	// In this journal a reader keeps a COMMIT waiting.
	dsn := "file:" + filepath.Join(t.TempDir(), "app.db") + "?_journal_mode=DELETE&_busy_timeout=20000"
	if w.db, err = alkey.Open("sqlite", dsn, w.store, append(opts, txscope.WithLogger(w.log.Logger()))...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	if w.bare, err = sqlx.Open("sqlite", dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.bare.Close() })
	w.bare.MustExec("CREATE TABLE users (id INTEGER PRIMARY KEY, v INTEGER NOT NULL)")
	w.bare.MustExec("INSERT INTO users VALUES (?, 0)", w.user)
	w.client = redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = w.client.Close() })
	w.values = cache.NewRedis(w.client, 0)
	t.Cleanup(func() { _ = w.values.Close() })
	w.kit, err = request.New(request.Config{Tokens: w.store, Values: w.values, Version: "test", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *whole) row() tokens.ID { return tokens.Row("users", w.user) }

// fetch asks for the user's version through the cache.
func (w *whole) fetch(t *testing.T) {
	t.Helper()
	ctx, _ := w.kit.Open(t.Context())
	v, err := request.Fetch(ctx, func(ctx context.Context) (string, error) {
		var v int
		err := w.bare.GetContext(ctx, &v, "SELECT v FROM users")
		return fmt.Sprint(v), err
	}, w.row())
	if want := fmt.Sprint(w.version(t)); err != nil || v != want {
		t.Errorf("fetched %q, %v, and the database has %q", v, err, want)
	}
}

func (w *whole) version(t *testing.T) (v int) {
	t.Helper()
	if err := w.bare.Get(&v, "SELECT v FROM users"); err != nil {
		t.Fatal(err)
	}
	return v
}

// commit changes the user in a transaction.
func (w *whole) commit() error {
	tx, err := w.db.Beginx()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.Exec("UPDATE users SET v = v + 1 WHERE id = ?", w.user); err != nil {
		return err
	}
	return tx.Commit()
}

// token is what another process sees of the user: once the store has settled, if it is not to be fenced.
func (w *whole) token(t *testing.T, process *tokens.Store, fenced bool) tokens.Token {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		found, err := process.Read(t.Context(), []tokens.ID{w.row()})
		if err == nil && (fenced || !found[0].Fenced) {
			return found[0]
		}
		if time.Now().After(end) {
			t.Fatalf("nothing to be read: %v, %v", found, err)
		}
	}
}

// What a program has open is closed in any order, each of it twice, and nothing is left of it. What is not
// closed yet goes on, without what is.
func TestCloseInAnyOrder(t *testing.T) {
	server := testserver.Redis(t)
	for _, order := range []string{"store db values", "store values db", "db store values", "db values store", "values store db", "values db store"} {
		for _, outage := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, outage %t", order, outage), func(t *testing.T) {
				leaks := goleak.IgnoreCurrent()
				t.Run("program", func(t *testing.T) {
					w := openWhole(t, server, nil)
					w.token(t, w.store, false)
					w.fetch(t)
					w.fetch(t)
					if err := w.commit(); err != nil {
						t.Fatal(err)
					}
					if outage {
						client := redis.NewClient(&redis.Options{Addr: server.Addr()})
						defer client.Close()
						say("REPLICAOF", "127.0.0.1", "1")(t, server, client)
						defer say("REPLICAOF", "NO", "ONE")(t, server, client)
						if err := w.commit(); err != nil {
							t.Fatal(err)
						}
					}
					closers := map[string]func() error{"store": w.store.Close, "db": w.db.Close, "values": w.values.Close}
					for _, what := range strings.Fields(order) {
						for range 2 {
							if err := closers[what](); err != nil {
								t.Errorf("closing the %s: %v", what, err)
							}
						}
						w.fetch(t)
						if err := w.commit(); err != nil && what != "db" && !w.closed(t) {
							t.Errorf("after the %s was closed: %v", what, err)
						}
					}
					if lost := strings.Contains(w.log.String(), "could not be published"); lost != outage {
						t.Errorf("outage %t: %s", outage, w.log)
					}
				})
				if err := goleak.Find(leaks); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// closed reports whether the database is.
func (w *whole) closed(t *testing.T) bool {
	t.Helper()
	err := w.db.PingContext(t.Context())
	return err != nil && strings.Contains(err.Error(), "closed")
}

// What waits when a store is closed is published if the server takes it by then.
func TestCloseFlushes(t *testing.T) {
	server := testserver.Redis(t)
	w, other := openWhole(t, server, nil), openWhole(t, server, nil)
	before := w.token(t, other.store, false)
	say("REPLICAOF", "127.0.0.1", "1")(t, server, w.client)
	if err := w.commit(); err != nil {
		t.Fatal(err)
	}
	say("REPLICAOF", "NO", "ONE")(t, server, w.client)
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	// What was not published would not be told of by this process any more.
	if log := w.log.String(); strings.Contains(log, "could not be published") {
		t.Error(log)
	}
	if after := w.token(t, other.store, false); after.Stamp == before.Stamp {
		t.Error("the change is not published")
	}
}

// valve stops the commands of a client on their way: those of one name, the nth of them, before they are
// sent or after they were answered.
type valve struct {
	mu      sync.Mutex
	nth     int
	after   bool
	reached chan struct{}
	open    chan struct{}
}

// arm has the nth script from here on wait until open is closed. reached is closed when it does.
func (v *valve) arm(nth int, after bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.nth, v.after = nth, after
	v.reached, v.open = make(chan struct{}), make(chan struct{})
}

func (v *valve) stop(cmd redis.Cmder, after bool) {
	if name := cmd.Name(); name != "evalsha" && name != "fcall" {
		return
	}
	v.mu.Lock()
	if v.nth == 0 || v.after != after {
		v.mu.Unlock()
		return
	}
	v.nth--
	wait, open := v.nth == 0, v.open
	if wait {
		close(v.reached)
	}
	v.mu.Unlock()
	if wait {
		<-open
	}
}

func (v *valve) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (v *valve) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		v.stop(cmd, false)
		err := next(ctx, cmd)
		v.stop(cmd, true)
		return err
	}
}

func (v *valve) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A commit that is under way when its store is closed is published, or what it changed stays fenced for
// other processes; when its database is closed it is published. That holds wherever the commit is.
func TestCloseDuringCommit(t *testing.T) {
	server := testserver.Redis(t)
	const fence, publish = 1, 2
	for _, c := range []struct {
		name  string
		nth   int
		after bool
	}{
		{"before the fence is sent", fence, false},
		{"after the fence was answered", fence, true},
		{"before the publish is sent", publish, false},
		{"after the publish was answered", publish, true},
	} {
		for _, what := range []string{"store", "db"} {
			for _, strict := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s, strict %t", what, c.name, strict), func(t *testing.T) {
					var v valve
					w := openCommitting(t, server, &v, strict)
					before := w.token(t, w.other.store, false)
					v.arm(c.nth, c.after)
					committed := start(w.commit)
					await(t, v.reached)
					var closing <-chan error
					if what == "store" {
						closing = start(w.store.Close)
						w.eventually(t, "the store counts as closed", w.store.Closed)
					} else {
						// It waits for nobody: the connection is closed when the transaction is over.
						closing = start(w.db.Close)
					}
					close(v.open)
					w.ended(t, before, await(t, committed), what == "store" && c.nth == fence)
					if err := await(t, closing); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprintf("store while COMMIT runs, strict %t", strict), func(t *testing.T) {
			var v valve
			w := openCommitting(t, server, &v, strict)
			before := w.token(t, w.other.store, false)
			reader, err := w.bare.Beginx()
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Rollback()
			var was int
			if err := reader.Get(&was, "SELECT v FROM users"); err != nil {
				t.Fatal(err)
			}
			v.arm(fence, true)
			committed := start(w.commit)
			await(t, v.reached)
			close(v.open)
			w.eventually(t, "the commit is fenced", func() bool { return w.token(t, w.other.store, true).Fenced })
			if err := w.store.Close(); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-committed:
				t.Fatalf("the commit did not wait for the reader: %v", err)
			default:
			}
			if err := reader.Rollback(); err != nil {
				t.Fatal(err)
			}
			w.ended(t, before, await(t, committed), true)
			if log := w.log.String(); !strings.Contains(log, "close databases before their store") {
				t.Errorf("nobody is told: %s", log)
			}
		})
	}
}

// committing is a program and another process.
type committing struct {
	*whole
	other *whole
}

func openCommitting(t *testing.T, server *testserver.RedisServer, v *valve, strict bool) *committing {
	t.Helper()
	var opts []txscope.Option
	if strict {
		opts = append(opts, txscope.Strict())
	}
	w := &committing{openWhole(t, server, v, opts...), openWhole(t, server, nil)}
	w.token(t, w.store, false)
	for range 2 { // now the server knows the scripts, and the schema has been read
		if err := w.commit(); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// ended checks what another process sees of a commit that has ended with err: it is published, or, if
// that is allowed, fenced.
func (w *committing) ended(t *testing.T, before tokens.Token, err error, canBeFenced bool) {
	t.Helper()
	v := w.version(t)
	if err != nil {
		t.Errorf("the commit: %v", err)
	}
	if v != 3 {
		t.Fatalf("the database has version %d", v)
	}
	after := w.token(t, w.other.store, true)
	switch {
	case after.Fenced && !canBeFenced:
		t.Error("the commit is not published")
	case !after.Fenced && after.Stamp == before.Stamp:
		t.Error("the commit is lost: its key is usable and has not changed")
	}
}

func (w *committing) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func start(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

func await[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(15 * time.Second):
		t.Fatal("it hangs")
	}
	return v
}

// A server that hangs holds up no Close for long, and no commit.
func TestCloseWhileTheServerHangs(t *testing.T) {
	server := testserver.Redis(t)
	for _, what := range []string{"store", "db"} {
		t.Run(what, func(t *testing.T) {
			w := openWhole(t, server, nil)
			w.token(t, w.store, false)
			if err := w.commit(); err != nil {
				t.Fatal(err)
			}
			server.Pause()
			defer server.Resume()
			committed := start(w.commit)
			closing := start(map[string]func() error{"store": w.store.Close, "db": w.db.Close}[what])
			if err := await(t, committed); err != nil && !errors.Is(err, sql.ErrConnDone) && !w.closed(t) {
				t.Errorf("the commit: %v", err)
			}
			if err := await(t, closing); err != nil {
				t.Error(err)
			}
			if err := await(t, start(w.store.Close)); err != nil {
				t.Error(err)
			}
		})
	}
}
