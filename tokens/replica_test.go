package tokens_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
)

// TestFirstReplica: a master that gets a replica has another replication id from then on, and has lost nothing.
func TestFirstReplica(t *testing.T) {
	t.Parallel()
	master, replica := testserver.Redis(t), testserver.Redis(t)
	m := plain(t, master.Addr())
	p := newProcess(t, master.Addr())
	stamp, epoch, replid := p.get(t, row1), p.Epoch(), told(t, m, "master_replid")
	follow(t, plain(t, replica.Addr()), master)
	if told(t, m, "master_replid") == replid {
		t.Fatal("the replication id is that of before: nothing was tested")
	}
	if got := newProcess(t, master.Addr()).get(t, row1); got != stamp {
		t.Errorf("a new connection finds stamp %d, it was %d: everything was swept", got, stamp)
	}
	if got := p.get(t, row1); got != stamp || p.Epoch() != epoch {
		t.Errorf("stamp %d in epoch %d, it was %d in epoch %d", got, p.Epoch(), stamp, epoch)
	}
}

// TestMasterThatWasReplica: a master that was a replica for a while has lost what the other had not heard of. It is
// noticed also by who comes so late that the server itself remembers no other.
func TestMasterThatWasReplica(t *testing.T) {
	t.Parallel()
	s := newReplicated(t)
	writer := newProcess(t, s.front.addr())
	writer.get(t, row1)
	s.follows(t)
	s.lag(t)
	lost := bump(t, writer, row1)
	do(t, s.r, "replicaof", "no", "one")
	follow(t, s.m, s.replica)
	do(t, s.m, "replicaof", "no", "one")
	do(t, s.m, "config", "set", "repl-backlog-ttl", "1")
	eventually(t, "the server forgets that it was a replica", func() bool {
		return strings.Trim(told(t, s.m, "master_replid2"), "0") == ""
	})
	if got := newProcess(t, s.front.addr()).get(t, row1); got <= lost {
		t.Errorf("stamp %d after %d was lost", got, lost)
	}
}

// follow makes a server a replica of another, and waits until it has what that has.
func follow(t testing.TB, c *redis.Client, master *testserver.RedisServer) {
	t.Helper()
	host, port, _ := strings.Cut(master.Addr(), ":")
	do(t, plain(t, master.Addr()), "config", "set", "repl-diskless-sync-delay", "0")
	do(t, c, "replicaof", host, port)
	eventually(t, "the replica has what the master has", func() bool {
		return told(t, c, "master_link_status") == "up" && told(t, c, "master_sync_in_progress") == "0"
	})
}

// TestClusterFirstReplica: as on a single server.
func TestClusterFirstReplica(t *testing.T) {
	t.Parallel()
	cluster := testserver.RedisCluster(t, 3)
	one, _ := clusterBackend(t, cluster, "")
	tokens.SetClusterGrace(one, 0)
	before := mustRead(t, one, row1, sweepOfAll)
	replid := told(t, cluster.Client(0), "master_replid")
	cluster.AddReplica(0)
	if told(t, cluster.Client(0), "master_replid") == replid {
		t.Fatal("the replication id is that of before: nothing was tested")
	}
	two, _ := clusterBackend(t, cluster, "")
	tokens.SetClusterGrace(two, 0)
	for i, s := range mustRead(t, two, row1, sweepOfAll).States {
		if s != before.States[i] {
			t.Errorf("record %d is %+v, it was %+v: everything was swept", i, s, before.States[i])
		}
	}
}
