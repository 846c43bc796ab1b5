package tokens

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisCluster is the backend on Redis Cluster. Its records lie on several nodes, and a script touches
// one record, or the clock, and nothing else. So what is one step on a single server is several here:
//
//   - Fence and Release are one script for each record, sent to all nodes at once: one round trip. A fence
//     that could not be set on all its records has failed.
//   - Publish takes its stamp from the clock's node, then sends one script for each record: two round
//     trips. The owner's fence stays on each record until its own script runs, so nobody reads one that
//     is not stamped yet. A record may have got a larger stamp meanwhile, from another writer: it stays,
//     and is as good. Who may store under it began to load after that writer took it, and so after the
//     commit that is published here.
//   - Read is one GET for each record, sent to all nodes at once: one round trip, the clock's GET in it.
//   - A mint fences the record with an owner of its own, takes a stamp, and then gives it to the record,
//     which is three round trips. Without that fence a stamp could be older than a commit that it hides:
//     a writer could fence, commit and publish between the second step and the third, and leave no
//     trace on a record without a stamp. A publish that meets the fence calls the mint off; a reader
//     that meets it, and no other, takes the stamp beside it or mints too.
//
// What a reader sees of an argument is put together from records that were read one by one. That is
// no weaker than one moment: a value found under the largest of their stamps was stored by somebody
// whose watermark was not below it. All of the records that had their stamp by then, he read as they
// are or smaller, and of a commit that he did not load the stamp is larger, or its fence is there: it is
// until each of its records has that stamp, and the reader read them after he began, so he has met one or the
// other if the commit came before. An explorer of all interleavings (two writers, a mint, a storing and
// a serving reader, records read one by one) finds no stale hit; nor, of one record, with scripts that
// run twice.
//
// Reads go to masters only. Any node that is asked has to take writes, as on a single server; with one
// node down all reads fail that need one of its records, and the Store takes that for an outage of all.
//
// What is kept of losses is in clusterSessions.
//
// Not noticed is that records are taken away from a node that goes on: by FLUSHALL on one that has not the
// clock, or when a slot is given by hand to a node without its records (redis-cli --cluster fix). They
// are missing then and get new stamps, but fences that commits under way had set on them are renewed
// within a second only.
//
// Safe for concurrent use.
type redisCluster struct {
	settings
	clusterSessions
	now func() time.Time
}

// A mint whose process has died is under way for so long, in name: it keeps nobody from reading.
const mintLease = 5 * time.Second

// minting begins the owner of a mint's fence. NewOwner makes letters and digits only.
const minting = "~m"

//go:embed lua/cluster.lua
var clusterLua string

//go:embed lua/cluster_clock.lua
var clusterClockLua string

//go:embed lua/cluster_read.lua
var clusterReadLua string

//go:embed lua/cluster_publish.lua
var clusterPublishLua string

//go:embed lua/cluster_claim.lua
var clusterClaimLua string

//go:embed lua/cluster_mint.lua
var clusterMintLua string

var (
	clusterFence   = newClusterScript(recordLua + fenceLua)
	clusterRelease = newClusterScript(recordLua + releaseLua)
	clusterClock   = newClusterScript(recordLua + clusterClockLua)
	clusterRead    = newClusterScript(clusterReadLua)
	clusterPublish = newClusterScript(recordLua + clusterLua + clusterPublishLua)
	clusterClaim   = newClusterScript(recordLua + clusterLua + clusterClaimLua)
	clusterMint    = newClusterScript(recordLua + clusterLua + clusterMintLua)
)

// newRedisCluster makes the backend on Redis Cluster.
func newRedisCluster(opts RedisOptions, s settings) (Backend, error) {
	var o *redis.ClusterOptions
	if c, ok := opts.Client.(*redis.ClusterClient); ok {
		o = rawCluster(c.Options())
	} else {
		if opts.DB != 0 {
			return nil, fmt.Errorf("%w: RedisOptions.DB is %d: Redis Cluster has 0 only", ErrOptions, opts.DB)
		}
		universal := opts.UniversalOptions
		o = universal.Cluster()
	}
	b := &redisCluster{settings: s, now: time.Now}
	b.init(o, opts.Hooks, s.prefix)
	return b, nil
}

// report sets where the backend tells what its user should know.
func (b *redisCluster) report(l *slog.Logger) { b.logger = l }

func (b *redisCluster) warnOfEviction(ctx context.Context, l *slog.Logger) {
	_ = b.control.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		warnOfEviction(ctx, c, l)
		return nil
	})
}

// keys returns the clock's key and those of the records.
func (b *redisCluster) keys(ids []ID) []string {
	return appendRecordKeys(append(make([]string, 0, len(ids)+1), b.clock), b.prefix, ids)
}

// Read is part of Backend.
func (b *redisCluster) Read(ctx context.Context, ids []ID) (snap Snapshot, err error) {
	keys := b.keys(ids)
	err = b.do(ctx, func(ctx context.Context, c *redis.ClusterClient) (err error) {
		snap, err = b.read(ctx, c, keys)
		return err
	})
	if err != nil {
		return Snapshot{}, err
	}
	return snap, nil
}

// read reads the clock, whose key is the first, and the records.
func (b *redisCluster) read(ctx context.Context, c *redis.ClusterClient, keys []string) (Snapshot, error) {
	seen := b.seen.Load()
	values, err := b.values(ctx, c, keys)
	if err != nil {
		return Snapshot{}, err
	}
	clock, ok := parseStamp(values[0])
	if !ok || int64(clock) < seen {
		return Snapshot{}, errLost
	}
	keys, values = keys[1:], values[1:]
	states := make([]State, len(keys))
	var unfit []int
	// now decides only whether to ask the server, as on a single one.
	now := max(b.now().UnixMicro(), int64(clock))
	for i, v := range values {
		stamp, fences, ok := parseRecord(v)
		fenced := written(fences)
		if !ok || stamp == 0 && !fenced || lapsed(fences, now) {
			unfit = append(unfit, i)
			continue
		}
		states[i] = State{Stamp: stamp, Fenced: fenced}
	}
	if unfit != nil {
		if err := b.mint(ctx, c, keys, unfit, states, seen); err != nil {
			return Snapshot{}, err
		}
	}
	largest := clock
	for _, s := range states {
		largest = max(largest, s.Stamp)
	}
	if largest > clock {
		// Most often it was given out since the clock was read. If it was not, the clock has to reach
		// it before it is a token: else the next publish of another record that the argument depends on
		// would not be the largest.
		if clock, _, err = b.clockScript(ctx, c, "reach", seen, largest); err != nil {
			return Snapshot{}, err
		}
	}
	b.see(clock)
	return Snapshot{Clock: clock, States: states}, nil
}

// written reports whether fences of others than mints are among fences.
func written(fences []fence) bool {
	for _, f := range fences {
		if len(f.owner) < len(minting) || f.owner[:len(minting)] != minting {
			return true
		}
	}
	return false
}

// mint makes the unfit records usable that can be made so, and sets their states.
func (b *redisCluster) mint(ctx context.Context, c *redis.ClusterClient, keys []string, unfit []int, states []State, seen int64) error {
	owner := minting + string(NewOwner())
	began := make([]string, len(keys)) // when its node began each, by that node's time
	claimed := unfit[:0]
	var largest Stamp
	err := clusterClaim.each(ctx, c, pick(keys, unfit), func(int) []any {
		return []any{owner, mintLease.Microseconds(), b.owners}
	}, func(n int, reply any) error {
		i := unfit[n]
		reached, ok := parseState(reply, &states[i])
		if !ok {
			return fmt.Errorf("alkey: Redis mint: reply %q not understood", reply)
		}
		if began[i] = reached; reached != "" {
			claimed = append(claimed, i)
			largest = max(largest, states[i].Stamp)
		}
		return nil
	})
	if err != nil || len(claimed) == 0 {
		return failure("mint", err)
	}
	stamp, _, err := b.clockScript(ctx, c, "next", seen, largest)
	if err != nil {
		return err
	}
	err = clusterMint.each(ctx, c, pick(keys, claimed), func(n int) []any {
		return []any{owner, int64(stamp), began[claimed[n]], b.ttl.Milliseconds()}
	}, func(n int, reply any) error {
		if _, ok := parseState(reply, &states[claimed[n]]); !ok {
			return fmt.Errorf("alkey: Redis mint: reply %q not understood", reply)
		}
		return nil
	})
	return failure("mint", err)
}

func pick(keys []string, at []int) []string {
	picked := make([]string, len(at))
	for n, i := range at {
		picked[n] = keys[i]
	}
	return picked
}

// parseState reads what the scripts of a mint return: stamp, 0 or 1 (fenced), and the time at which a mint
// began.
func parseState(reply any, s *State) (began string, ok bool) {
	values, _ := reply.([]any)
	if len(values) != 3 {
		return "", false
	}
	stamp, good := stampOf(values[0])
	fenced, known := values[1].(int64)
	began, told := values[2].(string)
	*s = State{Stamp: stamp, Fenced: fenced != 0}
	return began, good && known && told
}

// clockScript runs what lua/cluster_clock.lua can do.
func (b *redisCluster) clockScript(ctx context.Context, c redis.Scripter, what string, seen int64, stamp Stamp) (clock Stamp, behind bool, err error) {
	clock, behind, err = runClock(ctx, c, b.clock, what, seen, stamp)
	if err != nil {
		return 0, false, failure("clock", err)
	}
	if what == "next" {
		b.see(clock)
	}
	return clock, behind, nil
}

func runClock(ctx context.Context, c redis.Scripter, key, what string, seen int64, stamp Stamp) (clock Stamp, behind bool, err error) {
	reply, err := clusterClock.Run(ctx, c, []string{key}, what, seen, int64(stamp)).Slice()
	if err != nil {
		return 0, false, err
	}
	ok := false
	if len(reply) == 2 {
		clock, ok = stampOf(reply[0])
	}
	if !ok {
		return 0, false, fmt.Errorf("alkey: Redis clock: reply %q not understood", reply)
	}
	return clock, reply[1] == int64(1), nil
}

// Fence is part of Backend.
func (b *redisCluster) Fence(ctx context.Context, owner Owner, ids []ID, lease time.Duration) error {
	keys := b.keys(ids)[1:]
	return b.do(ctx, func(ctx context.Context, c *redis.ClusterClient) error {
		return failure("fence", clusterFence.each(ctx, c, keys, func(int) []any {
			return []any{string(owner), lease.Microseconds(), b.owners}
		}, nil))
	})
}

// Publish is part of Backend.
func (b *redisCluster) Publish(ctx context.Context, owner Owner, ids []ID) (stamp Stamp, err error) {
	keys := b.keys(ids)[1:]
	err = b.do(ctx, func(ctx context.Context, c *redis.ClusterClient) (err error) {
		stamp, err = b.publish(ctx, c, owner, keys)
		return err
	})
	if err != nil {
		return 0, err
	}
	return stamp, nil
}

func (b *redisCluster) publish(ctx context.Context, c *redis.ClusterClient, owner Owner, keys []string) (Stamp, error) {
	seen := b.seen.Load()
	var largest Stamp
	for {
		stamp, _, err := b.clockScript(ctx, c, "next", seen, largest)
		if err != nil {
			return 0, err
		}
		err = clusterPublish.each(ctx, c, keys, func(int) []any {
			return []any{string(owner), int64(stamp), b.ttl.Milliseconds()}
		}, func(_ int, reply any) error {
			had, ok := stampOf(reply)
			if !ok {
				return fmt.Errorf("alkey: Redis publish: reply %q not understood", reply)
			}
			largest = max(largest, had)
			return nil
		})
		if err != nil {
			return 0, failure("publish", err)
		}
		if largest <= stamp || int64(largest) <= b.seen.Load() {
			return stamp, nil
		}
		// A record had a larger stamp. Unless another writer has taken that from the clock since, nobody
		// has, and so nobody has used it as a token: but a stamp that was published is to be the largest.
		_, behind, err := b.clockScript(ctx, c, "reach", seen, largest)
		if err != nil || !behind {
			return stamp, err
		}
	}
}

// Release is part of Backend.
func (b *redisCluster) Release(ctx context.Context, owner Owner, ids []ID) error {
	keys := b.keys(ids)[1:]
	return b.do(ctx, func(ctx context.Context, c *redis.ClusterClient) error {
		return failure("release", clusterRelease.each(ctx, c, keys, func(int) []any {
			return []any{string(owner), b.ttl.Milliseconds()}
		}, nil))
	})
}

// do runs an operation until it has run within one epoch.
func (b *redisCluster) do(ctx context.Context, op func(context.Context, *redis.ClusterClient) error) error {
	for range maxAttempts {
		known := b.swept()
		s, err := b.enter()
		if err != nil {
			return err
		}
		err = ctx.Err()
		if err == nil {
			err = op(ctx, s.client.ClusterClient)
			b.lookAround(ctx, s.client.ClusterClient, err)
		}
		if errors.Is(err, errLost) {
			_, err = b.identify(ctx, clusterNode{}, known)
			b.leave(s)
			if err != nil {
				return err
			}
			continue
		}
		current := b.current.Load() == s
		b.leave(s)
		if current || ctx.Err() != nil && err != nil {
			return err
		}
		if ctx.Err() != nil {
			break // what was answered belongs to an epoch that is over
		}
	}
	return errUnsettled
}

// Restore is part of Restorer.
func (b *redisCluster) Restore(ctx context.Context, since Stamp) (Stamp, error) {
	s, err := b.enter()
	if err != nil {
		return 0, err
	}
	defer b.leave(s)
	// What a probe reads is on one node or two, and a page needs all: with one away, the outage would be over and
	// begin again all the time.
	err = s.client.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		if err := node.Ping(ctx).Err(); !redis.HasErrorPrefix(err, "NOPERM") {
			return err
		}
		return nil
	})
	if err != nil {
		err = failure("probe", err)
		b.lookAround(ctx, s.client.ClusterClient, err)
		return 0, err
	}
	if since == 0 && b.hidden.Load() {
		since = b.swept()
	}
	return b.identify(ctx, clusterNode{}, since)
}

// Close is part of Backend. A client that the options gave stays open.
func (b *redisCluster) Close() error { return b.close(b.control) }
