package tokens_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
)

const recordPrefix = "alkey.cache.TOKENS:"

// eventually waits for something that others bring about.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !so(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// process is one process over a server.
type process struct {
	*tokens.Store
	redis *tokens.Redis
}

// newProcess has its own connections to addr, which is ready when it returns. One of them is kept: while it
// is in use the next operation makes another.
func newProcess(t testing.TB, addr string, opts ...tokens.Option) *process {
	t.Helper()
	p := startProcess(t, tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{Addrs: []string{addr}, MaxIdleConns: 1}}, opts...)
	tokenstest.Ready(t, p.Store)
	return p
}

func startProcess(t testing.TB, o tokens.RedisOptions, opts ...tokens.Option) *process {
	t.Helper()
	b, err := tokens.NewRedisBackend(o)
	if err != nil {
		t.Fatal(err)
	}
	// The machine may be busy: only what the tests do is an outage.
	opts = append([]tokens.Option{
		tokens.WithReadTimeout(10 * time.Second), tokens.WithWriteTimeout(10 * time.Second), tokens.WithLogger(slog.New(slog.DiscardHandler)),
	}, opts...)
	p := &process{tokens.New(b, opts...), b.(*tokens.Redis)}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// get reads what must be usable.
func (p *process) get(t testing.TB, id tokens.ID) tokens.Stamp {
	t.Helper()
	stamp, err := tokens.Get(t.Context(), p.Store, id)
	if err != nil {
		t.Fatal(err)
	}
	return stamp
}

// recovers reads until a token is usable again. In between there must be a fenced one, and no usable one
// that is not newer than all of before.
func (p *process) recovers(t testing.TB, id tokens.ID, before tokens.Stamp) tokens.Stamp {
	t.Helper()
	var fenced bool
	var stamp tokens.Stamp
	eventually(t, "the token is usable", func() bool {
		var err error
		stamp, err = tokens.Get(t.Context(), p.Store, id)
		fenced = fenced || errors.Is(err, tokens.ErrFenced)
		return err == nil
	})
	if stamp <= before {
		t.Fatalf("the token has stamp %d again, and had %d", stamp, before)
	}
	if !fenced {
		t.Error("everything was usable at once: nothing was fenced after the loss")
	}
	return stamp
}

func bump(t testing.TB, p *process, id tokens.ID) tokens.Stamp {
	t.Helper()
	stamp, err := tokens.Bump(t.Context(), p.Store, id)
	if err != nil {
		t.Fatal(err)
	}
	return stamp
}

func plain(t testing.TB, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func do(t testing.TB, c *redis.Client, args ...any) {
	t.Helper()
	if err := c.Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(args, err)
	}
}

var row1 = tokens.Row("users", 1)

// TestLoss: whatever a server loses, no token of before is usable again, in a process that had not heard of
// what was lost either.
func TestLoss(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, s *testserver.RedisServer, c *redis.Client, reader *process){
		"restarted empty": func(t *testing.T, s *testserver.RedisServer, _ *redis.Client, _ *process) { s.Restart() },
		// There it has one: see below.
		"restarted from old snapshot": func(t *testing.T, s *testserver.RedisServer, _ *redis.Client, _ *process) { s.Restart() },
		"FLUSHALL":                    func(t *testing.T, _ *testserver.RedisServer, c *redis.Client, _ *process) { do(t, c, "flushall") },
		"clock deleted": func(t *testing.T, _ *testserver.RedisServer, c *redis.Client, _ *process) {
			do(t, c, "del", recordPrefix+"clock")
		},
		"clock of another type": func(t *testing.T, _ *testserver.RedisServer, c *redis.Client, _ *process) {
			do(t, c, "del", recordPrefix+"clock")
			do(t, c, "rpush", recordPrefix+"clock", "1")
		},
		"clock set back": func(t *testing.T, _ *testserver.RedisServer, c *redis.Client, _ *process) {
			do(t, c, "set", recordPrefix+"clock", "5")
		},
		// It is not behind the record's stamp.
		"clock set back a little": func(t *testing.T, _ *testserver.RedisServer, c *redis.Client, reader *process) {
			clock := c.Get(t.Context(), recordPrefix+"clock").Val()
			reader.get(t, tokens.Row("users", 2))
			do(t, c, "set", recordPrefix+"clock", clock)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testserver.Redis(t)
			c := plain(t, server.Addr())
			reader, writer := newProcess(t, server.Addr()), newProcess(t, server.Addr())
			old := reader.get(t, row1)
			if name == "restarted from old snapshot" {
				do(t, c, "save")
			}
			epoch := reader.Epoch()
			last := bump(t, writer, row1) // which the reader does not hear of
			lose(t, server, c, reader)
			new := reader.recovers(t, row1, old)
			if new < last+tokens.Stamp(time.Minute.Microseconds()) {
				t.Errorf("after the loss the stamp is %d: less than a minute after %d", new, last)
			}
			if reader.Epoch() == epoch {
				t.Error("the reader's epoch goes on")
			}
			identity := told(t, c, "run_id") + ":0:" // it was no replica
			if got := c.Get(t.Context(), recordPrefix+"identity").Val(); !strings.HasPrefix(got, identity) {
				t.Errorf("the identity is %q, want %s…", got, identity)
			}
		})
	}
}

// TestPublishFindsLoss: who only writes finds out as well, and gives out no stamp that was lost.
func TestPublishFindsLoss(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(c *redis.Client, before string){
		"clock deleted":           func(c *redis.Client, _ string) { do(t, c, "del", recordPrefix+"clock") },
		"clock set back a little": func(c *redis.Client, before string) { do(t, c, "set", recordPrefix+"clock", before) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testserver.Redis(t)
			p, c := newProcess(t, server.Addr()), plain(t, server.Addr())
			before := c.Get(t.Context(), recordPrefix+"clock").Val()
			seen := p.get(t, row1)
			lose(c, before)
			if got := bump(t, p, tokens.Row("users", 2)); got <= seen+tokens.Stamp(time.Minute.Microseconds()) {
				t.Errorf("published %d after %d", got, seen)
			}
			if _, err := tokens.Get(t.Context(), p.Store, row1); !errors.Is(err, tokens.ErrFenced) {
				t.Errorf("after the loss: %v", err)
			}
		})
	}
}

// TestGrace: for two seconds by the server's time after a loss nothing is usable, and a writer who renews his
// fence has it on the new server by then.
func TestGrace(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	p, c := newProcess(t, server.Addr()), plain(t, server.Addr())
	owner, changes := tokens.NewOwner(), tokens.NewChanges(row1)
	if err := p.Fence(t.Context(), owner, changes, time.Minute); err != nil {
		t.Fatal(err)
	}
	server.Restart() // and the fence is gone
	at := c.Time(t.Context()).Val()
	if _, err := tokens.Get(t.Context(), p.Store, tokens.Row("users", 2)); !errors.Is(err, tokens.ErrFenced) {
		t.Fatalf("another row after the loss: %v", err)
	}
	record := c.Get(t.Context(), recordPrefix+"alkey:*#!").Val()
	_, digits, _ := strings.Cut(record, "!~lost@")
	deadline, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		t.Fatalf("the sweep of everything is %q", record)
	}
	if lease := time.UnixMicro(deadline).Sub(at); lease < 2*time.Second || lease > 12*time.Second {
		t.Errorf("everything is fenced for %v", lease)
	}
	if err := p.Fence(t.Context(), owner, changes, time.Minute); err != nil { // renewed
		t.Fatal(err)
	}
	eventually(t, "another row is usable", func() bool {
		_, err := tokens.Get(t.Context(), p.Store, tokens.Row("users", 2))
		return err == nil
	})
	if now := c.Time(t.Context()).Val(); now.UnixMicro() < deadline {
		t.Errorf("usable %v before the fence runs out", time.UnixMicro(deadline).Sub(now))
	}
	if _, err := tokens.Get(t.Context(), p.Store, row1); !errors.Is(err, tokens.ErrFenced) {
		t.Errorf("the row whose fence was renewed: %v", err)
	}
}

// replicated is a master and a replica that follows it through a proxy, and an address that leads to one of
// them.
type replicated struct {
	master, replica *testserver.RedisServer
	m, r            *redis.Client
	link, front     *proxy
}

func newReplicated(t testing.TB) *replicated {
	t.Helper()
	s := &replicated{master: testserver.Redis(t), replica: testserver.Redis(t)}
	s.m, s.r = plain(t, s.master.Addr()), plain(t, s.replica.Addr())
	s.link, s.front = newProxy(t, s.master.Addr()), newProxy(t, s.master.Addr())
	host, port, _ := net.SplitHostPort(s.link.addr())
	do(t, s.m, "config", "set", "repl-diskless-sync-delay", "0")
	do(t, s.r, "replicaof", host, port)
	return s
}

// follows waits until the replica has what the master has.
func (s *replicated) follows(t testing.TB) {
	t.Helper()
	eventually(t, "the replica has what the master has", func() bool {
		const everything = recordPrefix + "alkey:*#!"
		return told(t, s.r, "master_link_status") == "up" &&
			s.r.Get(t.Context(), recordPrefix+"clock").Val() == s.m.Get(t.Context(), recordPrefix+"clock").Val() &&
			s.r.Get(t.Context(), everything).Val() == s.m.Get(t.Context(), everything).Val()
	})
}

// lag cuts the replica off.
func (s *replicated) lag(t testing.TB) {
	t.Helper()
	s.link.point("")
	eventually(t, "the replica lags", func() bool { return told(t, s.r, "master_link_status") == "down" })
}

// TestFailover: the replica that takes over has not heard of a change, and a reader neither.
func TestFailover(t *testing.T) {
	t.Parallel()
	s := newReplicated(t)
	reader, writer := newProcess(t, s.front.addr()), newProcess(t, s.front.addr())
	old := reader.get(t, row1)
	s.follows(t)
	s.lag(t)
	bump(t, writer, row1)
	s.master.Stop()
	do(t, s.r, "replicaof", "no", "one")
	s.front.point(s.replica.Addr())
	reader.recovers(t, row1, old)
	// Who has heard of the change does not meet its old token either.
	writer.get(t, row1)
}

// TestFailBack: the old master is used again as it was. It knows who it is, and its clock was ahead: that
// others have swept since is in the stamp of its identity only.
func TestFailBack(t *testing.T) {
	t.Parallel()
	s := newReplicated(t)
	reader := newProcess(t, s.front.addr())
	s.follows(t)
	old := reader.get(t, row1)
	s.lag(t)
	do(t, s.r, "replicaof", "no", "one")
	s.front.point(s.replica.Addr())
	last := reader.recovers(t, row1, old)
	do(t, s.m, "set", recordPrefix+"clock", int64(last)+time.Hour.Microseconds())
	s.front.point(s.master.Addr())
	if reader.recovers(t, row1, last) <= last {
		t.Error("an old token is usable")
	}
}

// TestDemoted: a connection to a master that has become a replica goes on, and reads are refused on it at
// once.
func TestDemoted(t *testing.T) {
	t.Parallel()
	s := newReplicated(t)
	do(t, s.r, "replicaof", "no", "one")
	p := newProcess(t, s.master.Addr())
	old := p.get(t, row1)
	host, port, _ := net.SplitHostPort(s.replica.Addr())
	do(t, s.m, "replicaof", host, port)
	if _, err := tokens.Get(t.Context(), p.Store, row1); !errors.Is(err, tokens.ErrDown) || !errors.Is(err, tokens.ErrRefused) {
		t.Fatalf("a replica is read: %v", err)
	}
	do(t, s.m, "replicaof", "no", "one")
	p.recovers(t, row1, old)
}

// TestResynced: a server that has been a replica for a while, and taken over what another had, is the master
// again. It is the process that it was, and the clock is not behind.
func TestResynced(t *testing.T) {
	t.Parallel()
	s := newReplicated(t)
	reader, writer := newProcess(t, s.master.Addr()), newProcess(t, s.master.Addr())
	old := reader.get(t, row1)
	s.follows(t)
	s.lag(t)
	bump(t, writer, row1)
	do(t, s.r, "replicaof", "no", "one")
	host, port, _ := net.SplitHostPort(s.replica.Addr())
	do(t, s.m, "replicaof", host, port)
	eventually(t, "the master has what the replica had", func() bool { return told(t, s.m, "master_link_status") == "up" })
	do(t, s.m, "replicaof", "no", "one")
	do(t, s.m, "client", "kill", "type", "normal") // as Sentinel does
	reader.recovers(t, row1, old)
}

// TestFull: a server that has no room for fences is not read, and is again when there is room.
func TestFull(t *testing.T) {
	t.Parallel()
	for name, set := range map[string][2][]any{
		"memory":   {{"config", "set", "maxmemory", "1"}, {"config", "set", "maxmemory", "0"}},
		"replicas": {{"config", "set", "min-replicas-to-write", "1"}, {"config", "set", "min-replicas-to-write", "0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testserver.Redis(t)
			p, c := newProcess(t, server.Addr()), plain(t, server.Addr())
			old := p.get(t, row1)
			do(t, c, set[0]...)
			if _, err := tokens.Get(t.Context(), p.Store, row1); !errors.Is(err, tokens.ErrDown) || !errors.Is(err, tokens.ErrRefused) {
				t.Fatalf("a server that takes no writes is read: %v", err)
			}
			if err := p.redis.Fence(t.Context(), "w", []tokens.ID{row1}, time.Minute); !errors.Is(err, tokens.ErrRefused) {
				t.Errorf("fenced: %v", err)
			}
			do(t, c, set[1]...)
			p.recovers(t, row1, old)
		})
	}
}

// TestRefusedCommand: a user who may not call what shows whether the server takes writes is told so.
func TestRefusedCommand(t *testing.T) {
	server := testserver.Redis(t, "--user", "default", "on", "nopass", "~*", "+@all", "-setrange")
	b, _ := redisBackend(t, server.Addr(), "")
	_, err := b.Read(t.Context(), []tokens.ID{row1})
	if !errors.Is(err, tokens.ErrRefused) || !strings.Contains(err.Error(), "SETRANGE") {
		t.Errorf("the error is %v", err)
	}
}

// TestHiddenServer: a server that does not say who it is is warned of once, and its clock is looked at.
func TestHiddenServer(t *testing.T) {
	for name, args := range map[string][]string{
		"renamed": {"--rename-command", "INFO", ""},
		"refused": {"--user", "default", "on", "nopass", "~*", "+@all", "-info"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testserver.Redis(t, args...)
			l := newLogs()
			p := newProcess(t, server.Addr(), tokens.WithLogger(slog.New(l)))
			old := p.get(t, row1)
			done := make(chan error)
			for range 8 { // on several connections
				go func() {
					_, err := tokens.Get(context.Background(), p.Store, row1)
					done <- err
				}()
			}
			for range 8 {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			do(t, plain(t, server.Addr()), "flushall")
			p.recovers(t, row1, old)
			if n := l.count(slog.LevelWarn); n != 1 {
				t.Errorf("%d warnings", n)
			}
		})
	}
}
