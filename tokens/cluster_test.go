package tokens_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
	"github.com/redis/go-redis/v9"
)

// clusterBackend makes a backend on a cluster, and the raw access that tests look at records with.
func clusterBackend(t testing.TB, c *testserver.RedisClusterServer, prefix string) (tokens.Backend, *redis.ClusterClient) {
	t.Helper()
	b, err := tokens.NewRedisBackend(tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{Addrs: c.Addrs()}, Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
	t.Cleanup(func() {
		_ = b.Close()
		_ = client.Close()
	})
	return b, client
}

func TestClusterConformance(t *testing.T) {
	cluster := testserver.RedisCluster(t, 3)
	var n atomic.Int64
	tokenstest.Run(t, func(t testing.TB) tokenstest.Harness {
		prefix := fmt.Sprintf("app%d:", n.Add(1)) // as applications share a cluster
		b, client := clusterBackend(t, cluster, prefix)
		tokens.SetClusterGrace(b, 0) // the tests of it wait for it
		return tokenstest.Harness{
			Backend: b,
			Plant: func(id tokens.ID, text string) {
				if err := client.Set(t.Context(), prefix+id.String(), text, 0).Err(); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

// onNode returns a row of a table whose record is on a node, or on none of several.
func onNode(t testing.TB, c *testserver.RedisClusterServer, prefix string, fits func(node int) bool) tokens.ID {
	t.Helper()
	for i := range 1000 {
		id := tokens.ID{Table: "users", Row: fmt.Sprint(i)}
		if fits(c.Owner(c.Slot(prefix + id.String()))) {
			return id
		}
	}
	t.Fatal("no such row")
	return tokens.ID{}
}

// epoch returns what the backend counts losses with.
func epoch(b tokens.Backend) uint64 { return b.(tokens.Restorer).Epoch() }

func mustRead(t testing.TB, b tokens.Backend, ids ...tokens.ID) tokens.Snapshot {
	t.Helper()
	snap, err := b.Read(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

// sweepOfAll is what a key of one row depends on besides its row.
var sweepOfAll = tokens.ID{Table: "*", Row: "!"}

// Slots move while operations run on their records: no stamp goes back, nothing that was published is read as it
// was before, and nothing that is fenced is usable.
func TestClusterMovingSlots(t *testing.T) {
	cluster := testserver.RedisCluster(t, 3)
	const prefix = "app:"
	b, _ := clusterBackend(t, cluster, prefix)
	tokens.SetClusterGrace(b, 0)
	type watched struct {
		id        tokens.ID
		fences    atomic.Int64 // odd while the record is fenced for certain
		published atomic.Int64
	}
	records := make([]*watched, 6)
	ids := make([]tokens.ID, 0, len(records)+1)
	for i := range records {
		records[i] = &watched{id: tokens.ID{Table: "users", Row: fmt.Sprint(i)}}
		ids = append(ids, records[i].id)
	}
	ids = append(ids, sweepOfAll)
	mustRead(t, b, ids...)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var stop atomic.Bool
	var reads, writes atomic.Int64
	var group sync.WaitGroup
	fail := func(format string, args ...any) {
		t.Errorf(format, args...)
		stop.Store(true)
	}
	for w := range 2 {
		group.Go(func() {
			mine := records[3*w : 3*w+3] // a writer of each
			for round := 0; !stop.Load(); round++ {
				owner := tokens.NewOwner()
				own := []tokens.ID{mine[0].id, mine[1].id, mine[2].id}
				if err := b.Fence(ctx, owner, own, time.Hour); err != nil {
					fail("Fence: %v", err)
					return
				}
				for _, r := range mine {
					r.fences.Add(1)
				}
				for _, r := range mine {
					r.fences.Add(1)
				}
				if round%4 == 3 {
					if err := b.Release(ctx, owner, own); err != nil {
						fail("Release: %v", err)
						return
					}
					continue
				}
				stamp, err := b.Publish(ctx, owner, own)
				if err != nil {
					fail("Publish: %v", err)
					return
				}
				for _, r := range mine {
					r.published.Store(int64(stamp))
				}
				writes.Add(1)
			}
		})
	}
	for range 2 {
		group.Go(func() {
			latest := make([]tokens.Stamp, len(ids))
			var clock tokens.Stamp
			for !stop.Load() {
				var fences, published [6]int64
				for i, r := range records {
					fences[i], published[i] = r.fences.Load(), r.published.Load()
				}
				snap, err := b.Read(ctx, ids)
				if err != nil {
					fail("Read: %v", err)
					return
				}
				reads.Add(1)
				if snap.Clock < clock {
					fail("the clock went back from %d to %d", clock, snap.Clock)
				}
				clock = snap.Clock
				for i, state := range snap.States {
					if state.Fenced {
						continue
					}
					if state.Stamp < latest[i] {
						fail("%s went back from %d to %d", ids[i], latest[i], state.Stamp)
					}
					latest[i] = state.Stamp
					if i == len(records) {
						continue
					}
					if int64(state.Stamp) < published[i] {
						fail("%s is read as %d after %d was published", ids[i], state.Stamp, published[i])
					}
					if now := records[i].fences.Load(); now == fences[i] && now%2 == 1 {
						fail("%s is usable while it is fenced", ids[i])
					}
				}
			}
		})
	}
	slots := []int{cluster.Slot(prefix + "clock"), cluster.Slot(prefix + sweepOfAll.String())}
	for _, r := range records {
		slots = append(slots, cluster.Slot(prefix+r.id.String()))
	}
	for move := 0; move < 3*len(slots) && !stop.Load(); move++ {
		slot := slots[move%len(slots)]
		m := cluster.BeginMove(slot, (cluster.Owner(slot)+1)%3)
		between := reads.Load() + 2
		m.Keys()
		for reads.Load() < between && !stop.Load() && ctx.Err() == nil { // some find the slot on its way
			time.Sleep(time.Millisecond)
		}
		m.End()
	}
	stop.Store(true)
	group.Wait()
	if reads.Load() < 50 || writes.Load() < 20 {
		t.Errorf("%d reads and %d writes while the slots moved", reads.Load(), writes.Load())
	}
	if n := epoch(b); n > 2 {
		t.Errorf("slots that move count as %d losses", n-1)
	}
}

// A node that comes back without its records, or takes over from one that was told more, is noticed by every
// process before it is read: everything is swept, and fenced for a while.
func TestClusterLoss(t *testing.T) {
	const prefix = "app:"
	clockOf := func(c *testserver.RedisClusterServer) int { return c.Owner(c.Slot(prefix + "clock")) }
	for name, lose := range map[string]func(t *testing.T, c *testserver.RedisClusterServer){
		"a node is restarted": func(t *testing.T, c *testserver.RedisClusterServer) {
			c.Node((clockOf(c) + 1) % 3).Restart()
		},
		"the clock's node is restarted": func(t *testing.T, c *testserver.RedisClusterServer) {
			c.Node(clockOf(c)).Restart()
		},
		"the clock's node is emptied": func(t *testing.T, c *testserver.RedisClusterServer) {
			c.Flush(clockOf(c))
		},
		"all are restarted": func(t *testing.T, c *testserver.RedisClusterServer) {
			for i := range 3 {
				c.Node(i).Restart()
			}
		},
		"the clock goes back": func(t *testing.T, c *testserver.RedisClusterServer) {
			if err := c.Client(clockOf(c)).Set(t.Context(), prefix+"clock", "1700000000000000", 0).Err(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := testserver.RedisCluster(t, 3)
			b, _ := clusterBackend(t, cluster, prefix)
			other, _ := clusterBackend(t, cluster, prefix)
			rows := make([]tokens.ID, 3)
			for i := range rows {
				rows[i] = onNode(t, cluster, prefix, func(node int) bool { return node == i })
			}
			ids := append([]tokens.ID{sweepOfAll}, rows...)
			settledCluster(t, b, ids)
			settledCluster(t, other, ids)
			before, epochs := mustRead(t, b, ids...), [2]uint64{epoch(b), epoch(other)}
			if err := b.Fence(t.Context(), "w1", rows, time.Hour); err != nil {
				t.Fatal(err)
			}

			lose(t, cluster)
			for i, b := range []tokens.Backend{b, other} {
				after := answers(t, b, ids)
				if least := before.Clock + tokens.Stamp(time.Minute.Microseconds()); after.States[0].Stamp < least || after.Clock < least {
					t.Errorf("backend %d: everything is swept with stamp %d, want at least %d", i, after.States[0].Stamp, least)
				}
				if i == 0 && !after.States[0].Fenced {
					t.Errorf("everything is usable at once after a loss: %+v", after)
				}
			}
			// Who does not open a connection of his own finds the sweep, and its fence, where everybody looks.
			if epoch(b) <= epochs[0] {
				t.Errorf("the loss was not noticed: epoch %d, it was %d", epoch(b), epochs[0])
			}
			if _, err := b.Publish(t.Context(), "w1", rows); err != nil {
				t.Fatal(err)
			}
			settledCluster(t, b, ids)
			settledCluster(t, other, ids)
			if n := epoch(b) - epochs[0]; n > 2 {
				t.Errorf("one loss counts as %d", n)
			}
			if n := tokens.ClusterClients(b); n != 1 {
				t.Errorf("%d clients are open", n)
			}
		})
	}
}

// answers reads until a node that was restarted answers again.
func answers(t testing.TB, b tokens.Backend, ids []tokens.ID) tokens.Snapshot {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		snap, err := b.Read(t.Context(), ids)
		if err == nil {
			return snap
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// settledCluster reads until nothing is fenced.
func settledCluster(t testing.TB, b tokens.Backend, ids []tokens.ID) tokens.Snapshot {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		snap := answers(t, b, ids)
		fenced := false
		for _, s := range snap.States {
			fenced = fenced || s.Fenced
		}
		if !fenced {
			return snap
		}
		if time.Now().After(deadline) {
			t.Fatalf("still fenced: %+v", snap)
		}
	}
}

// dispensable returns a row whose node other rows do without, and that node: the clock and the sweep of everything are
// elsewhere.
func dispensable(t testing.TB, c *testserver.RedisClusterServer, prefix string) (row tokens.ID, node int) {
	t.Helper()
	clock, sweep := c.Owner(c.Slot(prefix+"clock")), c.Owner(c.Slot(prefix+sweepOfAll.String()))
	row = onNode(t, c, prefix, func(n int) bool {
		node = n
		return n != clock && n != sweep
	})
	return row, node
}

// A replica that was promoted without having heard of a publish does not bring back what was before.
func TestClusterPromotedReplica(t *testing.T) {
	const prefix = "app:"
	cluster := testserver.RedisCluster(t, 3)
	b, _ := clusterBackend(t, cluster, prefix)
	tokens.SetClusterGrace(b, 0)
	row, master := dispensable(t, cluster, prefix)
	old := mustRead(t, b, row, sweepOfAll)
	replica := cluster.AddReplica(master)
	cluster.Lag(replica)
	published, err := b.Publish(t.Context(), "w1", []tokens.ID{row})
	if err != nil {
		t.Fatal(err)
	}
	before := epoch(b)
	cluster.Node(master).Stop()
	cluster.Promote(replica)
	after := answers(t, b, []tokens.ID{row, sweepOfAll})
	if after.States[0].Stamp != old.States[0].Stamp {
		t.Fatalf("the replica knows stamp %d and not %d: it has not lost anything", after.States[0].Stamp, old.States[0].Stamp)
	}
	if after.States[1].Stamp <= published {
		t.Errorf("%d was published, lost, and not swept: everything has stamp %d", published, after.States[1].Stamp)
	}
	if epoch(b) <= before {
		t.Error("the promotion was not noticed")
	}
}

// What needs a node that is down fails as a whole; what does not goes on. The Store takes it for an outage, and is
// back with the node.
func TestClusterNodeDown(t *testing.T) {
	const prefix = "app:"
	cluster := testserver.RedisCluster(t, 3)
	b, _ := clusterBackend(t, cluster, prefix)
	tokens.SetClusterGrace(b, 0)
	lost, down := dispensable(t, cluster, prefix)
	there := onNode(t, cluster, prefix, func(node int) bool { return node != down })
	mustRead(t, b, lost, there, sweepOfAll)
	cluster.Node(down).Stop()

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for name, op := range map[string]func() error{
		"Read":    func() error { _, err := b.Read(ctx, []tokens.ID{there, lost}); return err },
		"Fence":   func() error { return b.Fence(ctx, "w1", []tokens.ID{there, lost}, time.Hour) },
		"Publish": func() error { _, err := b.Publish(ctx, "w1", []tokens.ID{there, lost}); return err },
		"Release": func() error { return b.Release(ctx, "w1", []tokens.ID{there, lost}) },
	} {
		if err := op(); err == nil {
			t.Errorf("%s succeeds without one of its nodes", name)
		}
	}
	if err := b.Release(t.Context(), "w1", []tokens.ID{there}); err != nil {
		t.Errorf("what needs no node that is down: %v", err)
	}
	if snap := mustRead(t, b, there, sweepOfAll); snap.States[0].Fenced {
		t.Error("a record is fenced after the release")
	}

	// What a probe reads is on a node that is there.
	if _, err := b.(tokens.Restorer).Restore(t.Context(), 0); err == nil {
		t.Error("the outage is over without one of the nodes")
	}

	store := tokens.New(b, tokens.WithLogger(slog.New(slog.DiscardHandler)))
	if _, err := store.Read(t.Context(), []tokens.ID{lost}); !errors.Is(err, tokens.ErrDown) {
		t.Errorf("the Store reads a record of a node that is down: %v", err)
	}
	cluster.Node(down).Restart()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := store.Read(t.Context(), []tokens.ID{lost, there}); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// A node that takes no writes is not read, and another's records are.
func TestClusterRefused(t *testing.T) {
	const prefix = "app:"
	cluster := testserver.RedisCluster(t, 3)
	b, _ := clusterBackend(t, cluster, prefix)
	tokens.SetClusterGrace(b, 0)
	clock := cluster.Owner(cluster.Slot(prefix + "clock"))
	full := (clock + 1) % 3
	row := onNode(t, cluster, prefix, func(node int) bool { return node == full })
	there := onNode(t, cluster, prefix, func(node int) bool { return node == clock })
	mustRead(t, b, row, there)
	limit := func(bytes string) {
		if err := cluster.Client(full).ConfigSet(t.Context(), "maxmemory", bytes).Err(); err != nil {
			t.Fatal(err)
		}
	}
	limit("1")
	if _, err := b.Read(t.Context(), []tokens.ID{row, there}); !errors.Is(err, tokens.ErrRefused) {
		t.Errorf("a full node is read: %v", err)
	}
	if err := b.Fence(t.Context(), "w1", []tokens.ID{row}, time.Hour); !errors.Is(err, tokens.ErrRefused) {
		t.Errorf("a full node is fenced: %v", err)
	}
	mustRead(t, b, there)
	limit("0")
	mustRead(t, b, row, there)
}

// Nodes that have forgotten the scripts are told them again, in the middle of an operation.
func TestClusterNoScript(t *testing.T) {
	cluster := testserver.RedisCluster(t, 3)
	b, client := clusterBackend(t, cluster, "")
	tokens.SetClusterGrace(b, 0)
	ids := make([]tokens.ID, 40)
	for i := range ids {
		ids[i] = tokens.ID{Table: "users", Row: fmt.Sprint(i)}
	}
	forget := func() {
		for i := range 3 {
			if err := cluster.Client(i).ScriptFlush(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	forget()
	first := mustRead(t, b, ids...)
	forget()
	if err := b.Fence(t.Context(), "w1", ids, time.Hour); err != nil {
		t.Fatal(err)
	}
	for i, s := range mustRead(t, b, ids...).States {
		if !s.Fenced || s.Stamp != first.States[i].Stamp {
			t.Fatalf("record %d is %+v, it was %+v", i, s, first.States[i])
		}
	}
	forget()
	stamp, err := b.Publish(t.Context(), "w1", ids)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range mustRead(t, b, ids...).States {
		if s.Fenced || s.Stamp != stamp {
			t.Fatalf("record %d is %+v, %d was published", i, s, stamp)
		}
	}
	forget()
	if err := b.Release(t.Context(), "w1", ids); err != nil {
		t.Fatal(err)
	}
	// The text of a script is sent once to each node, not once for each record.
	evals := 0
	for i := range 3 {
		info, err := cluster.Client(i).Info(t.Context(), "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		if _, rest, found := strings.Cut(info, "cmdstat_eval:calls="); found {
			var n int
			_, _ = fmt.Sscanf(rest, "%d", &n)
			evals += n
		}
	}
	if evals > 60 {
		t.Errorf("the text of a script was sent %d times", evals)
	}
	if err := client.Del(t.Context(), "alkey.cache.TOKENS:alkey:users#0").Err(); err != nil {
		t.Fatal(err)
	}
	if s := mustRead(t, b, ids[0]).States[0]; s.Fenced || s.Stamp <= stamp {
		t.Errorf("a record that is missing is read as %+v", s)
	}
}

// An operation is one command for each record; who knows all records sends no script to read them.
func TestClusterCommands(t *testing.T) {
	cluster := testserver.RedisCluster(t, 3)
	b, _ := clusterBackend(t, cluster, "")
	tokens.SetClusterGrace(b, 0)
	ids := make([]tokens.ID, 50)
	for i := range ids {
		ids[i] = tokens.ID{Table: "users", Row: fmt.Sprint(i)}
	}
	ops := map[string]func() error{
		"Read":    func() error { _, err := b.Read(t.Context(), ids); return err },
		"Fence":   func() error { return b.Fence(t.Context(), "w1", ids, time.Hour) },
		"Publish": func() error { _, err := b.Publish(t.Context(), "w1", ids); return err },
		"Release": func() error { return b.Release(t.Context(), "w1", ids) },
	}
	for _, op := range ops { // scripts are loaded by the first use
		if err := op(); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]map[string]int{
		"Read":    {"get": len(ids) + 1, "setrange": 3},
		"Fence":   {"evalsha": len(ids)},
		"Publish": {"evalsha": len(ids) + 1},
		"Release": {"evalsha": len(ids)},
	} {
		for i := range 3 {
			if err := cluster.Client(i).ConfigResetStat(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if err := ops[name](); err != nil {
			t.Fatal(err)
		}
		got := make(map[string]int)
		for i := range 3 {
			info, err := cluster.Client(i).Info(t.Context(), "commandstats").Result()
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(info) {
				command, rest, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
				var calls int
				if _, err := fmt.Sscanf(rest, "calls=%d", &calls); err == nil {
					got[command] += calls
				}
			}
		}
		for command, n := range want {
			if got[command] != n {
				t.Errorf("%s took %d %s, want %d", name, got[command], command, n)
			}
		}
		if name == "Read" && got["evalsha"]+got["eval"] > 0 {
			t.Errorf("a Read of known records took scripts: %v", got)
		}
	}
}

// What other programs put under a record's key counts as missing, of whatever type it is; and under that
// of the identities it costs a sweep.
func TestClusterForeignTypes(t *testing.T) {
	cluster := testserver.RedisCluster(t, 3)
	b, client := clusterBackend(t, cluster, "app:")
	tokens.SetClusterGrace(b, 0)
	row := tokens.ID{Table: "users", Row: "1"}
	before := mustRead(t, b, row, sweepOfAll)
	for _, key := range []string{"app:" + row.String(), tokens.ClusterIdentityKey(b)} {
		if err := client.Del(t.Context(), key).Err(); err != nil {
			t.Fatal(err)
		}
		if err := client.RPush(t.Context(), key, "a").Err(); err != nil {
			t.Fatal(err)
		}
	}
	after := mustRead(t, b, row, sweepOfAll)
	if s := after.States[0]; s.Fenced || s.Stamp <= before.Clock {
		t.Errorf("a record that is a list is read as %+v", s)
	}
	other, _ := clusterBackend(t, cluster, "app:")
	tokens.SetClusterGrace(other, 0)
	if swept := mustRead(t, other, row, sweepOfAll); swept.States[1].Stamp <= after.Clock {
		t.Errorf("without identities everything has stamp %d", swept.States[1].Stamp)
	}
}

// Restore sweeps unless somebody has done so since.
func TestClusterRestore(t *testing.T) {
	cluster := testserver.RedisCluster(t, 3)
	b, _ := clusterBackend(t, cluster, "")
	other, _ := clusterBackend(t, cluster, "")
	for _, b := range []tokens.Backend{b, other} {
		tokens.SetClusterGrace(b, 0)
		mustRead(t, b, sweepOfAll)
	}
	r, o := b.(tokens.Restorer), other.(tokens.Restorer)
	since := r.Seen()
	swept, err := r.Restore(t.Context(), since)
	if err != nil {
		t.Fatal(err)
	}
	if s := mustRead(t, b, sweepOfAll).States[0]; s.Stamp != swept || swept <= since || r.Epoch() != 2 {
		t.Errorf("restored with stamp %d in epoch %d, everything has %d, before it was %d", swept, r.Epoch(), s.Stamp, since)
	}
	if again, err := o.Restore(t.Context(), since); err != nil || again != swept || o.Epoch() != 2 {
		t.Errorf("another restored with stamp %d, %v in epoch %d, want %d", again, err, o.Epoch(), swept)
	}
	if later, err := o.Restore(t.Context(), swept); err != nil || later <= swept || o.Epoch() != 3 {
		t.Errorf("another restored later with stamp %d, %v in epoch %d, after %d", later, err, o.Epoch(), swept)
	}
}

// A client lends its options, and not what makes it read from replicas.
func TestClusterOptions(t *testing.T) {
	if _, err := tokens.NewRedisBackend(tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{Addrs: []string{"a:1", "b:1"}, DB: 1}}); !errors.Is(err, tokens.ErrOptions) {
		t.Errorf("a database of a cluster: %v", err)
	}
	cluster := testserver.RedisCluster(t, 3)
	var connections atomic.Int64
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()[:1], ReadOnly: true, RouteRandomly: true,
		OnConnect: func(context.Context, *redis.Conn) error { connections.Add(1); return nil }})
	t.Cleanup(func() { _ = client.Close() })
	replica := cluster.AddReplica(0)
	sent := new(testserver.Commands)
	b, err := tokens.NewRedisBackend(tokens.RedisOptions{Client: client, Hooks: []redis.Hook{sent}})
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]tokens.ID, 30)
	for i := range ids {
		ids[i] = tokens.ID{Table: "users", Row: fmt.Sprint(i)}
	}
	mustRead(t, b, ids...)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if len(scripts(sent)) == 0 {
		t.Error("the hooks were not called")
	}
	if connections.Load() < 3 {
		t.Errorf("the client's OnConnect was called for %d connections", connections.Load())
	}
	info, err := cluster.Client(replica).Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	// Every read begins with SETRANGE.
	if strings.Contains(info, "cmdstat_setrange:") || strings.Contains(info, "cmdstat_evalsha:") {
		t.Errorf("the replica was read:\n%s", info)
	}
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the client that lent its options was closed: %v", err)
	}
}

// Nodes that do not say who they are warn once, and serve.
func TestClusterHidden(t *testing.T) {
	cluster := testserver.RedisCluster(t, 3)
	for i := range 3 {
		if err := cluster.Client(i).Do(t.Context(), "acl", "setuser", "app", "on", ">secret", "~*", "+@all", "-info").Err(); err != nil {
			t.Fatal(err)
		}
	}
	log := newLogs()
	b, err := tokens.NewRedisBackend(tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{Addrs: cluster.Addrs(), Username: "app", Password: "secret"}})
	if err != nil {
		t.Fatal(err)
	}
	tokens.SetClusterGrace(b, 0)
	store := tokens.New(b, tokens.WithLogger(slog.New(log)), tokens.WithReadTimeout(10*time.Second))
	for i := range 30 {
		if _, err := store.Read(t.Context(), []tokens.ID{tokens.Row("users", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	if n := log.count(slog.LevelWarn); n != 1 {
		t.Errorf("%d warnings", n)
	}
}

// A process that dies in a sweep is followed by one that sweeps: what is recorded is recorded last.
func TestClusterSweepCutShort(t *testing.T) {
	cluster := testserver.RedisCluster(t, 3)
	b, client := clusterBackend(t, cluster, "app:")
	tokens.SetClusterGrace(b, 0)
	before := mustRead(t, b, sweepOfAll)
	// As if it had died after it set the clock ahead, before it recorded anything.
	if err := client.Del(t.Context(), tokens.ClusterIdentityKey(b)).Err(); err != nil {
		t.Fatal(err)
	}
	other, _ := clusterBackend(t, cluster, "app:")
	tokens.SetClusterGrace(other, 0)
	after := mustRead(t, other, sweepOfAll)
	if after.States[0].Stamp <= before.Clock {
		t.Errorf("everything has stamp %d, the clock was %d", after.States[0].Stamp, before.Clock)
	}
	// A second process finds it recorded, and sweeps no more.
	third, _ := clusterBackend(t, cluster, "app:")
	if again := mustRead(t, third, sweepOfAll); again.States[0] != after.States[0] {
		t.Errorf("everything is %+v, it was %+v", again.States[0], after.States[0])
	}
}

// What is disabled in a client's options stays so in those made from them.
func TestClusterRawOptions(t *testing.T) {
	for name, o := range map[string]redis.ClusterOptions{
		"defaults": {},
		"disabled": {MaxRedirects: -1, MaxRetries: -1, MinRetryBackoff: -1, MaxRetryBackoff: -1, ReadTimeout: -1, WriteTimeout: -1},
		"set": {MaxRedirects: 2, MaxRetries: 1, MinRetryBackoff: time.Second, MaxRetryBackoff: 2 * time.Second,
			ReadTimeout: 3 * time.Second, WriteTimeout: 4 * time.Second},
		"no deadlines": {ReadTimeout: -2, WriteTimeout: -2},
	} {
		o.Addrs = []string{"localhost:1"}
		first := redis.NewClusterClient(&o)
		second := redis.NewClusterClient(tokens.RawCluster(first.Options()))
		kept := func(o *redis.ClusterOptions) []any {
			return []any{o.MaxRedirects, o.MaxRetries, o.MinRetryBackoff, o.MaxRetryBackoff, o.ReadTimeout, o.WriteTimeout}
		}
		if a, b := fmt.Sprint(kept(first.Options())), fmt.Sprint(kept(second.Options())); a != b {
			t.Errorf("%s: %s became %s", name, a, b)
		}
		_, _ = first.Close(), second.Close()
	}
}
