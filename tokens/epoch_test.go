package tokens_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
)

// named is a process whose connections have a name, and are closed by nobody but their owner: a collection
// of garbage would, too.
func named(t testing.TB, addr, name string) *process {
	t.Helper()
	var mu sync.Mutex
	var kept []net.Conn
	t.Cleanup(func() { runtime.KeepAlive(&kept) })
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		mu.Lock()
		defer mu.Unlock()
		kept = append(kept, c)
		return c, err
	}
	p := startProcess(t, tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{
		Addrs: []string{addr}, ClientName: name, MaxIdleConns: 1, Dialer: dial,
	}})
	tokenstest.Ready(t, p.Store)
	return p
}

// connections returns the numbers of the connections that have a name.
func connections(t testing.TB, c *redis.Client, name string) map[string]bool {
	t.Helper()
	list, err := c.ClientList(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		for _, f := range fields {
			if f == "name="+name {
				found[fields[0]] = true
			}
		}
	}
	return found
}

// sweep makes the store begin a new epoch, as another process does that has found a loss.
func sweep(t testing.TB, p *process) tokens.Stamp {
	t.Helper()
	stamp, err := p.redis.Restore(t.Context(), 1<<53) // whoever has swept before
	if err != nil {
		t.Fatal(err)
	}
	return stamp
}

// TestReadsInFlightAreRepeated: a reply that comes when another connection has found a loss is not believed.
func TestReadsInFlightAreRepeated(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	front := newProxy(t, server.Addr())
	p, other := newProcess(t, front.addr()), newProcess(t, server.Addr())
	old := p.get(t, row1)

	caught := front.hold()
	type result struct {
		stamp tokens.Stamp
		err   error
	}
	done := make(chan result)
	go func() {
		stamp, err := tokens.Get(context.Background(), p.Store, row1)
		done <- result{stamp, err}
	}()
	<-caught
	pass := front.let()
	sweep(t, other)
	if _, err := tokens.Get(t.Context(), p.Store, row1); !errors.Is(err, tokens.ErrFenced) { // on a new connection
		t.Errorf("after the sweep: %v", err)
	}
	pass()
	if r := <-done; !errors.Is(r.err, tokens.ErrFenced) {
		t.Errorf("the read in flight gave the stamp %d, %v; it was %d before", r.stamp, r.err, old)
	}
}

// TestWritesInFlightAreRepeated: a fence that was set before a loss is set again, a publish too.
func TestWritesInFlightAreRepeated(t *testing.T) {
	t.Parallel()
	for name, op := range map[string]func(p *process) error{
		"Fence": func(p *process) error {
			return p.Fence(context.Background(), "w", tokens.NewChanges(row1), time.Minute)
		},
		"Publish": func(p *process) error {
			_, err := p.Publish(context.Background(), "w", tokens.NewChanges(row1))
			return err
		},
		"Release": func(p *process) error { return p.Release(context.Background(), "w", tokens.NewChanges(row1)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testserver.Redis(t)
			front := newProxy(t, server.Addr())
			p, other, c := newProcess(t, front.addr()), newProcess(t, server.Addr()), plain(t, server.Addr())
			if err := op(p); err != nil { // the script is known
				t.Fatal(err)
			}
			caught := front.hold()
			done := make(chan error)
			go func() { done <- op(p) }()
			<-caught
			pass := front.let()
			do(t, c, "flushall")
			sweep(t, other)
			record := recordPrefix + row1.String()
			do(t, c, "set", record, "7!w@9999999999999999")
			if _, err := tokens.Get(t.Context(), p.Store, tokens.Row("users", 2)); !errors.Is(err, tokens.ErrFenced) {
				t.Errorf("after the sweep: %v", err)
			}
			pass()
			if err := <-done; err != nil {
				t.Error(err)
			}
			switch got := c.Get(t.Context(), record).Val(); {
			case name == "Fence" && (!strings.HasPrefix(got, "7!w@") || strings.HasSuffix(got, "9999999999999999")),
				name == "Publish" && len(got) != 16,
				name == "Release" && got != "7":
				t.Errorf("the record is %q", got)
			}
		})
	}
}

// TestEpochClosesConnections: those of the epoch before are closed when nothing is under way on them.
func TestEpochClosesConnections(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	front := newProxy(t, server.Addr())
	p, other, c := named(t, front.addr(), "reader"), newProcess(t, server.Addr()), plain(t, server.Addr())
	closes := func(before map[string]bool) {
		t.Helper()
		if len(before) == 0 {
			t.Fatal("there was no connection")
		}
		eventually(t, "the connections of before are closed", func() bool {
			for id := range connections(t, c, "reader") {
				if before[id] {
					return false
				}
			}
			return true
		})
	}
	read := func() error {
		_, err := p.Read(context.Background(), []tokens.ID{row1})
		return err
	}

	// Found on an open connection.
	before, epoch := connections(t, c, "reader"), p.Epoch()
	do(t, c, "flushall")
	if err := read(); err != nil {
		t.Error(err)
	}
	if got := p.Epoch() - epoch; got != 1 {
		t.Errorf("%d epochs began", got)
	}
	closes(before)
	tokenstest.Ready(t, p.Store)

	// Found on a new one, while another is in use.
	before, epoch = connections(t, c, "reader"), p.Epoch()
	caught, done := front.hold(), make(chan error)
	go func() { done <- read() }()
	<-caught
	pass := front.let()
	sweep(t, other)
	for range 3 {
		if err := read(); err != nil {
			t.Error(err)
		}
	}
	if got := p.Epoch() - epoch; got != 1 {
		t.Errorf("%d epochs began", got)
	}
	for id := range before {
		if !connections(t, c, "reader")[id] {
			t.Error("a connection is closed that is in use")
		}
	}
	pass()
	if err := <-done; err != nil {
		t.Error(err)
	}
	closes(before)

	if err := p.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "all are closed", func() bool { return len(connections(t, c, "reader")) == 0 })
}

// identity returns the stamp of the latest sweep.
func identity(t testing.TB, c *redis.Client) int64 {
	t.Helper()
	text := c.Get(t.Context(), recordPrefix+"identity").Val()
	n, err := strconv.ParseInt(text[strings.LastIndex(text, ":")+1:], 10, 64)
	if err != nil {
		t.Fatalf("the identity is %q", text)
	}
	return n
}

// TestReturnSweeps: a process for which the store was down sweeps when it is back, unless another has done so
// since.
func TestReturnSweeps(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	c := plain(t, server.Addr())
	fronts := [2]*proxy{newProxy(t, server.Addr()), newProxy(t, server.Addr())}
	var p [2]*process
	for i := range p {
		p[i] = newProcess(t, fronts[i].addr(), tokens.WithReadTimeout(time.Second))
	}
	before := identity(t, c)
	for i := range p {
		fronts[i].point("")
		eventually(t, "the store is down", func() bool {
			_, err := p[i].Read(t.Context(), []tokens.ID{row1})
			return errors.Is(err, tokens.ErrDown)
		})
	}
	back := func(i int) {
		epoch := p[i].Epoch()
		fronts[i].point(server.Addr())
		eventually(t, "the store is back", func() bool {
			_, err := p[i].Read(t.Context(), []tokens.ID{row1})
			return err == nil
		})
		if p[i].Epoch() == epoch {
			t.Errorf("process %d goes on with what it has read before", i)
		}
	}
	back(0)
	first := identity(t, c)
	if first <= before {
		t.Error("the process that is back first does not sweep")
	}
	back(1)
	if identity(t, c) != first {
		t.Error("the process that is back second sweeps too")
	}
}

// TestClosedWhileDown: a store that is closed during an outage leaves nothing behind.
func TestClosedWhileDown(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	p := startProcess(t, tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{Addrs: []string{server.Addr()}}},
		tokens.WithReadTimeout(50*time.Millisecond), tokens.WithWriteTimeout(50*time.Millisecond), tokens.WithLogger(slog.New(slog.DiscardHandler)))
	server.Stop()
	if _, err := tokens.Bump(t.Context(), p.Store, row1); !errors.Is(err, tokens.ErrDown) {
		t.Errorf("bumped: %v", err)
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := p.Read(t.Context(), []tokens.ID{row1}); !errors.Is(err, tokens.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if _, err := p.redis.Restore(t.Context(), 0); !errors.Is(err, tokens.ErrClosed) {
		t.Errorf("restored: %v", err)
	}
}

// TestLentOptions: a client that is made with the options of another has the same.
func TestLentOptions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := func(name string) time.Duration {
			return rapid.SampledFrom([]time.Duration{-2, -1, 0, 1, time.Second}).Draw(t, name)
		}
		made := redis.NewClient(&redis.Options{
			Addr:            "localhost:1",
			MaxRetries:      rapid.SampledFrom([]int{-1, 0, 1, 5}).Draw(t, "retries"),
			MinRetryBackoff: max(-1, d("min backoff")),
			MaxRetryBackoff: max(-1, d("max backoff")),
			ReadTimeout:     d("read"),
			WriteTimeout:    d("write"),
			DialTimeout:     max(0, d("dial")),
			PoolTimeout:     max(0, d("pool")),
			ConnMaxIdleTime: max(-1, d("idle")),
			ConnMaxLifetime: max(0, d("life")),
			PoolSize:        rapid.IntRange(0, 3).Draw(t, "pool size"),
			DB:              rapid.IntRange(0, 3).Draw(t, "database"),
			Protocol:        rapid.SampledFrom([]int{0, 2, 3}).Draw(t, "protocol"),
			Password:        "s3cr3t",
		})
		defer made.Close()
		again := redis.NewClient(tokens.RawOptions(made.Options()))
		defer again.Close()
		for _, o := range []*redis.Options{made.Options(), again.Options()} {
			if o.Password != "s3cr3t" || o.Dialer == nil {
				t.Fatal("the options are not there")
			}
		}
		type comparable struct {
			retries, size, db, protocol                                 int
			minBackoff, maxBackoff, read, write, dial, pool, idle, life time.Duration
		}
		of := func(o *redis.Options) comparable {
			return comparable{o.MaxRetries, o.PoolSize, o.DB, o.Protocol,
				o.MinRetryBackoff, o.MaxRetryBackoff, o.ReadTimeout, o.WriteTimeout, o.DialTimeout, o.PoolTimeout, o.ConnMaxIdleTime, o.ConnMaxLifetime}
		}
		if want, got := of(made.Options()), of(again.Options()); want != got {
			t.Fatalf("the options were\n%+v, and are\n%+v", want, got)
		}
	})
}

// TestIdentity: what a new connection finds recorded decides whether everything is swept.
func TestIdentity(t *testing.T) {
	server := testserver.Redis(t)
	c := plain(t, server.Addr())
	run, line := told(t, c, "run_id"), "0" // it was no replica
	for name, test := range map[string]struct {
		identity string
		swept    bool
	}{
		"this server":                  {run + ":" + line + ":7", false},
		"another process":              {strings.Repeat("0", 40) + ":" + line + ":7", true},
		"another history":              {run + ":" + strings.Repeat("0", 40) + ":7", true},
		"a server that was not asked":  {"::7", true},
		"nothing":                      {"", true},
		"no stamp":                     {run + ":" + line + ":", true},
		"a stamp that is no number":    {run + ":" + line + ":seven", true},
		"a stamp with too many digits": {run + ":" + line + ":77777777777777777", true},
		"more than it should be":       {run + ":" + line + ":7:7", true},
	} {
		t.Run(name, func(t *testing.T) {
			do(t, c, "mset", "p:identity", test.identity, "p:clock", "100")
			do(t, c, "del", "p:alkey:*#!")
			b, _ := redisBackend(t, server.Addr(), "p:")
			snap, err := b.Read(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if swept := c.Exists(t.Context(), "p:alkey:*#!").Val() == 1; swept != test.swept {
				t.Errorf("swept: %t", swept)
			}
			if test.swept == (snap.Clock == 100) {
				t.Errorf("the clock is %d", snap.Clock)
			}
			if got := c.Get(t.Context(), "p:identity").Val(); test.swept != strings.HasPrefix(got, run+":"+line+":1") {
				t.Errorf("the identity is %q", got)
			}
		})
	}
}
