package testserver

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisClusterServer is a Redis Cluster of its own for one test. Its methods are for one goroutine.
type RedisClusterServer struct {
	t     T
	nodes []*clusterNode
}

// clusterNode is one server of a cluster. The masters come first, and have the slots.
type clusterNode struct {
	*RedisServer
	id     string
	client *redis.Client
}

// clusterSlots is how many slots a cluster has.
const clusterSlots = 16384

// RedisCluster starts masters on free ports, with the slots shared evenly, and waits until each takes
// the cluster for complete. Args are options of each, as on the command line. No node ever takes another
// for failed unless args shorten --cluster-node-timeout, and slots of a node that is down do not keep
// others from answering. Without redis-server on the PATH it calls Missing.
func RedisCluster(t T, masters int, args ...string) *RedisClusterServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		Missing(t, "redis-server")
	}
	c := &RedisClusterServer{t: t}
	for range masters {
		c.launch(args)
	}
	if err := c.form(); err != nil {
		t.Fatalf("redis cluster: %v", err)
	}
	return c
}

// launch starts a node that knows no other.
func (c *RedisClusterServer) launch(args []string) *clusterNode {
	c.t.Helper()
	n := &clusterNode{RedisServer: &RedisServer{t: c.t, dir: c.t.TempDir()}}
	c.t.Cleanup(n.Stop)
	err := onFreePort(func(port int) error {
		n.port = port
		n.args = append([]string{
			"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
			"--cluster-require-full-coverage", "no", "--cluster-node-timeout", "60000",
			"--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0",
		}, args...)
		if bus := n.busPort(); bus != port+busOffset {
			n.args = append(n.args, "--cluster-port", strconv.Itoa(bus))
		}
		return n.start()
	})
	if err != nil {
		c.t.Fatalf("redis cluster: %v", err)
	}
	n.client = redis.NewClient(&redis.Options{Addr: n.Addr(), MaxRetries: -1})
	c.t.Cleanup(func() { _ = n.client.Close() })
	ctx, cancel := limited()
	defer cancel()
	if n.id, err = n.client.ClusterMyID(ctx).Result(); err != nil {
		c.t.Fatalf("redis cluster: %v", err)
	}
	c.nodes = append(c.nodes, n)
	return n
}

const busOffset = 10_000

// busPort is where nodes talk to each other: by default so far above the port that there may be none.
func (n *clusterNode) busPort() int {
	if n.port+busOffset > 65_535 {
		return n.port - busOffset
	}
	return n.port + busOffset
}

// limited bounds what a node is asked.
func limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), startLimit)
}

// form makes a cluster of the nodes.
func (c *RedisClusterServer) form() error {
	ctx, cancel := limited()
	defer cancel()
	for i, n := range c.nodes {
		first, end := i*clusterSlots/len(c.nodes), (i+1)*clusterSlots/len(c.nodes)
		slots := make([]int, 0, end-first)
		for slot := first; slot < end; slot++ {
			slots = append(slots, slot)
		}
		if err := n.client.ClusterAddSlots(ctx, slots...).Err(); err != nil {
			return err
		}
		// Nodes do not join as long as they have the same epoch of configuration.
		if err := n.client.Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
			return err
		}
		if err := c.nodes[0].meet(ctx, n); err != nil {
			return err
		}
	}
	return c.await(ctx, c.complete)
}

func (n *clusterNode) meet(ctx context.Context, other *clusterNode) error {
	if n == other {
		return nil
	}
	return n.client.Do(ctx, "cluster", "meet", "127.0.0.1", other.port, other.busPort()).Err()
}

// await polls until so has nothing against it any more.
func (c *RedisClusterServer) await(ctx context.Context, so func(context.Context) error) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := so(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %w", startLimit, err)
		case <-tick.C:
		}
	}
}

// complete says what a node that runs misses in the cluster.
func (c *RedisClusterServer) complete(ctx context.Context) error {
	want := []string{"cluster_state:ok", "cluster_slots_assigned:" + strconv.Itoa(clusterSlots), "cluster_known_nodes:" + strconv.Itoa(len(c.nodes))}
	for i, n := range c.nodes {
		if n.Pid() == 0 {
			continue
		}
		info, err := n.client.ClusterInfo(ctx).Result()
		if err != nil {
			return err
		}
		for _, line := range want {
			if !strings.Contains(info, line) {
				return fmt.Errorf("node %d has no %s", i, line)
			}
		}
	}
	return nil
}

// Addrs returns host and port of every node.
func (c *RedisClusterServer) Addrs() []string {
	addrs := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		addrs[i] = n.Addr()
	}
	return addrs
}

// Node returns a node, to stop, pause or restart it: it comes back empty, with the slots it had.
func (c *RedisClusterServer) Node(i int) *RedisServer { return c.nodes[i].RedisServer }

// Slot returns the slot of a key.
func (c *RedisClusterServer) Slot(key string) int {
	c.t.Helper()
	ctx, cancel := limited()
	defer cancel()
	slot, err := c.running().client.ClusterKeySlot(ctx, key).Result()
	c.check(err)
	return int(slot)
}

// Owner returns the number of the node that has a slot.
func (c *RedisClusterServer) Owner(slot int) int {
	c.t.Helper()
	ctx, cancel := limited()
	defer cancel()
	owners, err := c.running().owners(ctx)
	c.check(err)
	for i, n := range c.nodes {
		for _, r := range owners[n.id] {
			if r.first <= slot && slot <= r.last {
				return i
			}
		}
	}
	c.t.Fatalf("redis cluster: nobody has slot %d", slot)
	return 0
}

// slotRange is a range of slots, with both its ends.
type slotRange struct{ first, last int }

// owners returns which nodes have which slots, as n knows it.
func (n *clusterNode) owners(ctx context.Context) (map[string][]slotRange, error) {
	text, err := n.client.ClusterNodes(ctx).Result()
	if err != nil {
		return nil, err
	}
	owners := make(map[string][]slotRange)
	for line := range strings.Lines(text) {
		fields := strings.Fields(line) // id, address, flags and five more, then the slots
		for _, slots := range fields[min(8, len(fields)):] {
			if strings.HasPrefix(slots, "[") {
				continue // on its way
			}
			first, last, found := strings.Cut(slots, "-")
			if !found {
				last = first
			}
			var r slotRange
			if r.first, err = strconv.Atoi(first); err != nil {
				return nil, err
			}
			if r.last, err = strconv.Atoi(last); err != nil {
				return nil, err
			}
			owners[fields[0]] = append(owners[fields[0]], r)
		}
	}
	return owners, nil
}

func (c *RedisClusterServer) running() *clusterNode {
	c.t.Helper()
	i := slices.IndexFunc(c.nodes, func(n *clusterNode) bool { return n.Pid() != 0 })
	if i < 0 {
		c.t.Fatalf("redis cluster: no node runs")
	}
	return c.nodes[i]
}

func (c *RedisClusterServer) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("redis cluster: %v", err)
	}
}

// Move moves a slot with its keys to another node.
func (c *RedisClusterServer) Move(slot, to int) {
	c.t.Helper()
	m := c.BeginMove(slot, to)
	m.Keys()
	m.End()
}

// SlotMove is a slot on its way. Until End the node that had it answers for the keys that it still has, and
// sends clients on with ASK for the others.
type SlotMove struct {
	cluster  *RedisClusterServer
	slot     int
	from, to *clusterNode
}

// BeginMove begins to move a slot to another node.
func (c *RedisClusterServer) BeginMove(slot, to int) *SlotMove {
	c.t.Helper()
	m := &SlotMove{c, slot, c.nodes[c.Owner(slot)], c.nodes[to]}
	ctx, cancel := limited()
	defer cancel()
	c.check(m.to.client.Do(ctx, "cluster", "setslot", slot, "importing", m.from.id).Err())
	c.check(m.from.client.Do(ctx, "cluster", "setslot", slot, "migrating", m.to.id).Err())
	return m
}

// Keys moves the keys that are there.
func (m *SlotMove) Keys() {
	m.cluster.t.Helper()
	ctx, cancel := limited()
	defer cancel()
	for {
		keys, err := m.from.client.ClusterGetKeysInSlot(ctx, m.slot, 100).Result()
		m.cluster.check(err)
		if len(keys) == 0 {
			return
		}
		args := []any{"migrate", "127.0.0.1", m.to.port, "", 0, startLimit.Milliseconds(), "keys"}
		for _, key := range keys {
			args = append(args, key)
		}
		m.cluster.check(m.from.client.Do(ctx, args...).Err())
	}
}

// End gives the slot to its new node.
func (m *SlotMove) End() {
	m.cluster.t.Helper()
	ctx, cancel := limited()
	defer cancel()
	nodes := append([]*clusterNode{m.to, m.from}, m.cluster.nodes...)
	for i, n := range nodes {
		if n.Pid() == 0 || i > 1 && (n == m.to || n == m.from) {
			continue
		}
		err := n.client.Do(ctx, "cluster", "setslot", m.slot, "node", m.to.id).Err()
		if err != nil && i > 1 && strings.Contains(err.Error(), "only with masters") {
			continue // a replica hears of it from its master
		}
		m.cluster.check(err)
	}
}

// AddReplica starts a replica of a master and waits until it has all its data. It returns its number.
func (c *RedisClusterServer) AddReplica(of int, args ...string) int {
	c.t.Helper()
	n, master := c.launch(args), c.nodes[of]
	ctx, cancel := limited()
	defer cancel()
	c.check(master.meet(ctx, n))
	c.check(c.await(ctx, c.complete))
	c.check(c.await(ctx, func(ctx context.Context) error {
		return n.client.ClusterReplicate(ctx, master.id).Err() // it does not know its master at first
	}))
	c.check(c.await(ctx, func(ctx context.Context) error {
		info, err := n.client.Info(ctx, "replication").Result()
		if err == nil && !strings.Contains(info, "master_link_status:up") {
			err = fmt.Errorf("the replica has no link")
		}
		return err
	}))
	return len(c.nodes) - 1
}

// Lag cuts a replica's link to its master for good: what the master is told from now on, the replica does not hear.
func (c *RedisClusterServer) Lag(replica int) {
	c.t.Helper()
	n := c.nodes[replica]
	ctx, cancel := limited()
	defer cancel()
	// The master has no password: it sends away whoever has one.
	c.check(n.client.ConfigSet(ctx, "masterauth", "wrong").Err())
	c.check(n.client.Do(ctx, "client", "kill", "type", "master").Err())
	c.check(c.await(ctx, func(ctx context.Context) error {
		info, err := n.client.Info(ctx, "replication").Result()
		if err == nil && !strings.Contains(info, "master_link_status:down") {
			err = fmt.Errorf("the replica has its link")
		}
		return err
	}))
}

// Promote makes a replica the master in the place of its own, without asking anybody, and waits until
// every node that runs knows it.
func (c *RedisClusterServer) Promote(replica int) {
	c.t.Helper()
	n := c.nodes[replica]
	ctx, cancel := limited()
	defer cancel()
	c.check(n.client.Do(ctx, "cluster", "failover", "takeover").Err())
	c.check(c.await(ctx, func(ctx context.Context) error {
		for i, other := range c.nodes {
			if other.Pid() == 0 {
				continue
			}
			owners, err := other.owners(ctx)
			if err != nil {
				return err
			}
			if len(owners[n.id]) == 0 {
				return fmt.Errorf("node %d does not know the new master", i)
			}
		}
		return nil
	}))
}

// Flush empties a node.
func (c *RedisClusterServer) Flush(i int) {
	c.t.Helper()
	ctx, cancel := limited()
	defer cancel()
	c.check(c.nodes[i].client.FlushAll(ctx).Err())
}

// Client returns a client of one node, which follows no redirection. It is closed at the test's end.
func (c *RedisClusterServer) Client(i int) *redis.Client { return c.nodes[i].client }

// hostPort splits an address of one of the servers here.
func hostPort(addr string) (host, port string) {
	host, port, _ = net.SplitHostPort(addr)
	return host, port
}
