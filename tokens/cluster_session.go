package tokens

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// clusterSessions is the epochs of a backend on the nodes of a Redis Cluster: it finds out which server each new
// connection has reached, sweeps when one may have lost something, and replaces the client when an
// epoch ends.
//
// Which servers have been swept for is kept in one hash, beside the clock: under the id of each node its
// run_id and lineage, and the stamp of the latest sweep. A node that is not there, or is there with
// another identity, is swept for before anything is read from it, and recorded after that: who dies in
// between is followed by somebody who sweeps again.
//
// A sweep is three scripts: it fences everything for two seconds, sets the clock a minute ahead, and
// gives that stamp to everything. Without the last, the fence that has lapsed would do it; without the
// first, a process that dies after the second would leave a clock that looks in order and nothing swept.
//
// All this goes through a client of its own, whose connections are not looked at.
type clusterSessions struct {
	epochs[*clusterClient]
	options *redis.ClusterOptions // of the clients, without the greeting
	hooks   []redis.Hook
	control *redis.ClusterClient
	clock   string // keys
	all     string
	who     string
	grace   time.Duration
	logger  *slog.Logger

	hidden  atomic.Bool   // it was said that nodes do not tell who they are
	sweeper chan struct{} // holds one value while a sweep is made
}

// clusterClient is the client of one epoch.
type clusterClient struct {
	*redis.ClusterClient

	mu    sync.Mutex
	nodes []string // addresses of the nodes that it has met
}

// clusterNode is a node as it names itself. The zero clusterNode does not tell.
type clusterNode struct {
	id       string
	identity string // run_id and lineage
	replica  bool
}

// maxIdle is how long a connection is used again after it was used last. A master that is replaced, and takes
// its place back later, may have lost what the other was told, and closes no connection over it. Each of
// the two takes as long as cluster-node-timeout, 15 seconds by default; a process that uses its connections
// meanwhile is sent on to the other master, and ends its epoch.
const maxIdle = 10 * time.Second

// survey bounds how long the nodes are waited for that may be recorded together.
const survey = 50 * time.Millisecond

var (
	// errReplica refuses a connection to a replica. It may be promoted later, and what it lost would not
	// be noticed on a connection that was there before.
	errReplica = errors.New("alkey: this node of the Redis Cluster is a replica")
	// errNotServing refuses a connection to a node that has just been started, or that is cut off.
	errNotServing = errors.New("alkey: this node of the Redis Cluster does not serve")
)

//go:embed lua/cluster_sweep.lua
var clusterSweepLua string

//go:embed lua/cluster_identity.lua
var clusterIdentityLua string

var (
	clusterSweep    = newClusterScript(recordLua + clusterSweepLua)
	clusterIdentity = newClusterScript(recordLua + clusterIdentityLua)
)

// rawCluster returns options as they were before a client was made with them, as raw does.
func rawCluster(initialized *redis.ClusterOptions) *redis.ClusterOptions {
	o := *initialized
	if o.MaxRedirects == 0 {
		o.MaxRedirects = -1
	}
	o.MinRetryBackoff = rawBackoff(o.MinRetryBackoff)
	o.MaxRetryBackoff = rawBackoff(o.MaxRetryBackoff)
	if o.ReadTimeout == 0 {
		o.ReadTimeout = -1
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = -1
	}
	return &o
}

func (k *clusterSessions) init(o *redis.ClusterOptions, hooks []redis.Hook, prefix string) {
	own := *o
	// Both belong to the client that they were given to, which goes on to change them.
	own.PushNotificationProcessor = nil
	own.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	own.Addrs = slices.Clone(o.Addrs)
	own.ContextTimeoutEnabled = true
	own.ReadOnly, own.RouteByLatency, own.RouteRandomly = false, false, false
	// Every operation is a pipeline: a second pool would only double the connections.
	own.PipelinePoolSize = -1
	if own.ConnMaxIdleTime <= 0 || own.ConnMaxIdleTime > maxIdle {
		own.ConnMaxIdleTime = maxIdle
	}
	k.options, k.hooks = &own, hooks
	k.control = k.client(k.copyOptions())
	k.clock, k.all, k.who = prefix+"clock", prefix+sweepAll.String(), identityKey(prefix)
	k.grace, k.logger = grace, slog.Default()
	k.sweeper = make(chan struct{}, 1)
	k.begin(k.newClient)
}

// identityKey returns a key in the clock's slot. Where the prefix has braces of its own they decide on both, or
// the key is elsewhere, which is no worse than that another node has to be there.
func identityKey(prefix string) string {
	if strings.ContainsAny(prefix, "{}") {
		return prefix + "identity"
	}
	return prefix + "identity:{" + prefix + "clock}"
}

// copyOptions returns options for one client, which goes on to write to them.
func (k *clusterSessions) copyOptions() *redis.ClusterOptions {
	o := *k.options
	o.Addrs = slices.Clone(o.Addrs)
	return &o
}

// client makes a client. Hooks are those of its nodes: reads do not go through the client as a whole.
func (k *clusterSessions) client(o *redis.ClusterOptions) *redis.ClusterClient {
	c := redis.NewClusterClient(o)
	c.OnNewNode(func(node *redis.Client) {
		node.AddHook(dialing{})
		for _, h := range k.hooks {
			node.AddHook(h)
		}
	})
	return c
}

// newClient makes the client of an epoch. It knows the nodes of the one before: those that it was first told of
// may be gone.
func (k *clusterSessions) newClient(before *clusterClient) *clusterClient {
	o := k.copyOptions()
	o.OnConnect = after(o.OnConnect, k.greet)
	if before != nil {
		for _, addr := range before.addrs() {
			if !slices.Contains(o.Addrs, addr) {
				o.Addrs = append(o.Addrs, addr)
			}
		}
	}
	c := &clusterClient{ClusterClient: k.client(o)}
	c.OnNewNode(func(node *redis.Client) { c.meet(node.Options().Addr) })
	return c
}

// meet notes a node. Go-redis makes one anew when it was away.
func (c *clusterClient) meet(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.nodes, addr) {
		c.nodes = append(c.nodes, addr)
	}
}

func (c *clusterClient) addrs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes)
}

// lookAround makes clients ask which node has which slots, in the background, after a node did not answer. By
// itself go-redis does that when a node sends it on, and every minute: one that is gone, and was
// replaced, sends nobody on.
func (k *clusterSessions) lookAround(ctx context.Context, c *redis.ClusterClient, err error) {
	if err == nil || errors.Is(err, errLost) || errors.Is(err, context.Canceled) || errors.Is(err, ErrClosed) {
		return
	}
	if _, answer := errors.AsType[redis.Error](err); answer && !redis.HasErrorPrefix(err, "CLUSTERDOWN") {
		return
	}
	c.ReloadState(ctx)
	k.control.ReloadState(ctx)
}

// greet is called on every new connection before anything else is sent on it.
func (k *clusterSessions) greet(ctx context.Context, cn *redis.Conn) error {
	node, err := k.ask(ctx, cn)
	switch {
	case err != nil:
		return failure("identify", err)
	case node.replica:
		return errReplica
	case node.id == "" && !k.hidden.Swap(true):
		k.logger.Warn("alkey: a node of the token store's Redis Cluster does not say who it is (INFO server, INFO replication, CLUSTER MYID and CLUSTER INFO): " +
			"after a restart from an old snapshot, or a fail-over to a replica that lagged, stale values can be served. " +
			"Let alkey's user call these, and connect to the nodes themselves")
	}
	_, err = k.identify(ctx, node, -1)
	return err
}

// ask asks a node who it is. One that does not serve yet is an error: the fence on everything has to
// last after it does. Until then commits under way could not renew the fences that it has lost.
func (k *clusterSessions) ask(ctx context.Context, c interface{ Pipeline() redis.Pipeliner }) (clusterNode, error) {
	pipe := c.Pipeline()
	ping := pipe.Ping(ctx) // is refused while a node loads its data
	state := pipe.ClusterInfo(ctx)
	id := pipe.ClusterMyID(ctx)
	server := pipe.Info(ctx, "server")
	replication := pipe.Info(ctx, "replication")
	stats := pipe.Info(ctx, "stats")
	if _, err := pipe.Exec(ctx); err != nil {
		if _, answer := errors.AsType[redis.Error](err); !answer {
			return clusterNode{}, err
		}
	}
	if redis.HasErrorPrefix(ping.Err(), "LOADING") {
		return clusterNode{}, ping.Err()
	}
	if got := field(state.Val(), "cluster_state"); got != "ok" && state.Err() == nil {
		return clusterNode{}, fmt.Errorf("%w: its cluster_state is %q", errNotServing, got)
	}
	run, line := field(server.Val(), "run_id"), lineage(replication.Val(), stats.Val())
	if state.Err() != nil || id.Val() == "" || run == "" || line == "" {
		return clusterNode{}, nil
	}
	return clusterNode{id: id.Val(), identity: run + ":" + line, replica: field(replication.Val(), "role") == "slave"}, nil
}

// lineage returns what tells of a loss beside the run_id, as lua/identify.lua explains; "" if the node does not tell.
func lineage(replication, stats string) string {
	if field(replication, "master_replid2") == strings.Repeat("0", 40) && field(stats, "total_net_repl_input_bytes") == "0" {
		return "0"
	}
	return field(replication, "master_replid")
}

// field returns a field of what INFO says.
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// identify sweeps if the node may have lost something, if the clock was lost, or if nobody has swept after
// since. It returns the stamp of the latest sweep.
func (k *clusterSessions) identify(ctx context.Context, node clusterNode, since Stamp) (Stamp, error) {
	for range maxAttempts {
		swept, fine, err := k.inspect(ctx, node, since)
		if err == nil && !fine {
			swept, err = k.sweepOnce(ctx, node, since)
		}
		if err != nil {
			return 0, failure("identify", err)
		}
		if k.met(swept) {
			return swept, nil
		}
		// Another connection has heard of a later sweep meanwhile.
	}
	return 0, errUnsettled
}

// inspect returns the stamp of the latest sweep, and whether it is as good as a new one.
func (k *clusterSessions) inspect(ctx context.Context, node clusterNode, since Stamp) (swept Stamp, fine bool, err error) {
	known, seen := k.swept(), k.seen.Load()
	pipe := k.control.Pipeline()
	recorded := pipe.HMGet(ctx, k.who, "swept", node.id)
	at := pipe.Get(ctx, k.clock)
	_, _ = pipe.Exec(ctx) // each command has its own error
	for _, err := range []error{recorded.Err(), at.Err()} {
		if err != nil && !errors.Is(err, redis.Nil) && !redis.HasErrorPrefix(err, "WRONGTYPE") {
			return 0, false, err
		}
	}
	clock, ok := parseStamp(at.Val())
	if !ok || int64(clock) < seen || len(recorded.Val()) != 2 {
		return 0, false, nil
	}
	swept, ok = stampOf(recorded.Val()[0])
	if !ok || swept < known || swept <= since || node.id != "" && recorded.Val()[1] != node.identity {
		return 0, false, nil
	}
	k.see(clock)
	return swept, true, nil
}

// sweepOnce sweeps, unless somebody does that meanwhile. One sweep will do for all connections of the
// process that find a loss at the same time.
func (k *clusterSessions) sweepOnce(ctx context.Context, node clusterNode, since Stamp) (Stamp, error) {
	select {
	case k.sweeper <- struct{}{}:
		defer func() { <-k.sweeper }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if swept, fine, err := k.inspect(ctx, node, since); err != nil || fine {
		return swept, err
	}
	return k.sweep(ctx, node)
}

// sweep sweeps everything, and records that it did so for the node and for all masters that answer: a node that
// is new to the process most often comes with others.
func (k *clusterSessions) sweep(ctx context.Context, node clusterNode) (Stamp, error) {
	nodes := k.masters(ctx)
	if node.id != "" {
		nodes[node.id] = node.identity // who may be another than the one that control has reached
	}
	reply, err := clusterSweep.Run(ctx, k.control, []string{k.all}, k.grace.Microseconds(), 0).Result()
	if err != nil {
		return 0, err
	}
	had, ok := stampOf(reply)
	if !ok {
		return 0, fmt.Errorf("alkey: Redis sweep: reply %q not understood", reply)
	}
	stamp, _, err := runClock(ctx, k.control, k.clock, "leap", k.seen.Load(), max(had, k.swept()))
	if err != nil {
		return 0, err
	}
	if err := clusterSweep.Run(ctx, k.control, []string{k.all}, k.grace.Microseconds(), int64(stamp)).Err(); err != nil {
		return 0, err
	}
	args := []any{int64(stamp)}
	for id, identity := range nodes {
		args = append(args, id, identity)
	}
	if err := clusterIdentity.Run(ctx, k.control, []string{k.who}, args...).Err(); err != nil {
		return 0, err
	}
	k.see(stamp)
	return stamp, nil
}

// masters asks all masters who they are. What does not answer soon, or does not tell, is left out.
func (k *clusterSessions) masters(ctx context.Context) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, survey)
	defer cancel()
	var mu sync.Mutex
	nodes := make(map[string]string)
	_ = k.control.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		if node, err := k.ask(ctx, c); err == nil && node.id != "" && !node.replica {
			mu.Lock()
			nodes[node.id] = node.identity
			mu.Unlock()
		}
		return nil
	})
	return nodes
}
