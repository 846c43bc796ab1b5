package tokens

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
)

// clusterScript is a script that touches one key.
type clusterScript struct {
	*redis.Script
	text string
}

func newClusterScript(text string) clusterScript { return clusterScript{redis.NewScript(text), text} }

// maxRounds bounds how often a script is sent again to those that have not run it: nodes that do not know
// it, and keys whose slot is on its way.
const maxRounds = 5

// each runs the script on every key, in one round trip to all nodes, and calls done with its reply, if there is a
// done. It stops at the first error, when some have run it and others have not.
func (s clusterScript) each(ctx context.Context, c *redis.ClusterClient, keys []string, args func(i int) []any, done func(i int, reply any) error) error {
	cmds := make([]*redis.Cmd, len(keys))
	left := make([]int, len(keys))
	for i := range left {
		left[i] = i
	}
	unknown := false // some node does not know the script
	var last error
	for range maxRounds {
		if len(left) == 0 {
			return nil
		}
		if err := s.send(ctx, c, keys, left, unknown, args, cmds); err != nil {
			return err
		}
		again := left[:0]
		for _, i := range left {
			err := cmds[i].Err()
			switch {
			case err == nil || errors.Is(err, redis.Nil):
				if done == nil {
					continue
				}
				if err := done(i, cmds[i].Val()); err != nil {
					return err
				}
			case redis.HasErrorPrefix(err, "NOSCRIPT"):
				unknown, last = true, err
				again = append(again, i)
			case moving(err):
				last = err
				again = append(again, i)
			default:
				return err
			}
		}
		left = again
	}
	if len(left) == 0 {
		return nil
	}
	return last
}

// send sends the script for the keys that are left. Where some node does not know it, each gets its text once, and its
// hash for the other keys.
func (s clusterScript) send(ctx context.Context, c *redis.ClusterClient, keys []string, left []int, unknown bool, args func(int) []any, cmds []*redis.Cmd) error {
	told := make(map[*redis.Client]bool)
	batch := make([]redis.Cmder, 0, len(left))
	for _, i := range left {
		name, script := "evalsha", s.Hash()
		if unknown {
			node, err := c.MasterForKey(ctx, keys[i])
			if err != nil {
				return err
			}
			if !told[node] {
				told[node] = true
				name, script = "eval", s.text
			}
		}
		own := args(i)
		all := append(make([]any, 0, 4+len(own)), name, script, 1, keys[i])
		cmds[i] = redis.NewCmd(ctx, append(all, own...)...)
		batch = append(batch, cmds[i])
	}
	pipe := c.Pipeline()
	_ = pipe.BatchProcess(ctx, batch...)
	_, _ = pipe.Exec(ctx) // each command has its own error
	return nil
}

// moving reports whether a command came to a node that does not have the key's slot, or has it only in part.
func moving(err error) bool {
	for _, code := range []string{"MOVED", "ASK", "TRYAGAIN"} {
		if redis.HasErrorPrefix(err, code) {
			return true
		}
	}
	return false
}

// values reads keys, "" for what is missing or not a string: from each node in one pipeline that begins
// with a write that changes nothing, as on a single server. What does not come in this way, because a slot has
// moved or a connection was closed, is asked for again by a script that does the same for one key, and
// that the client sends on to the node that has the slot.
func (b *redisCluster) values(ctx context.Context, c *redis.ClusterClient, keys []string) ([]string, error) {
	parts, err := byNode(ctx, c, keys)
	if err != nil {
		return nil, failure("read", err)
	}
	values := make([]string, len(keys))
	if len(parts) == 1 {
		parts[0].read(ctx, keys, values)
	} else {
		var group sync.WaitGroup
		for _, p := range parts[1:] {
			group.Go(func() { p.read(ctx, keys, values) })
		}
		parts[0].read(ctx, keys, values)
		group.Wait()
	}
	var missed []int
	for _, p := range parts {
		if err := p.refused; err != nil {
			return nil, refusal("read", b.prefix, err)
		}
		missed = append(missed, p.missed...)
	}
	if missed == nil {
		return values, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, failure("read", err)
	}
	err = clusterRead.each(ctx, c, pick(keys, missed), func(int) []any { return nil }, func(n int, reply any) error {
		values[missed[n]], _ = reply.(string)
		return nil
	})
	if err != nil && refused(err) {
		return nil, refusal("read", b.prefix, err)
	}
	return values, failure("read", err)
}

// part is what one node is asked for.
type part struct {
	node *redis.Client
	at   []int // in the keys

	missed  []int // of at: to be asked for again
	refused error // what the node says to a write
}

// byNode tells which node has which keys, as far as the client knows.
func byNode(ctx context.Context, c *redis.ClusterClient, keys []string) ([]*part, error) {
	var parts []*part
next:
	for i, key := range keys {
		node, err := c.MasterForKey(ctx, key)
		if err != nil {
			return nil, err
		}
		for _, p := range parts {
			if p.node == node {
				p.at = append(p.at, i)
				continue next
			}
		}
		p := &part{node: node, at: make([]int, 1, len(keys))}
		p.at[0] = i
		parts = append(parts, p)
	}
	return parts, nil
}

func (p *part) read(ctx context.Context, keys, values []string) {
	health := redis.NewIntCmd(ctx, "setrange", keys[p.at[0]], 0, "")
	cmds := make([]*redis.StringCmd, len(p.at))
	all := append(make([]redis.Cmder, 0, len(p.at)+1), health)
	args := make([]any, 2*len(p.at))
	for n, i := range p.at {
		own := args[2*n : 2*n+2 : 2*n+2]
		own[0], own[1] = "get", keys[i]
		cmds[n] = redis.NewStringCmd(ctx, own...)
		all = append(all, cmds[n])
	}
	pipe := p.node.Pipeline()
	_ = pipe.BatchProcess(ctx, all...)
	_, err := pipe.Exec(ctx)
	if err != nil && !slices.ContainsFunc(all, func(c redis.Cmder) bool { return c.Err() != nil }) {
		// Each command has its own error, unless none was sent: a server refused the connection. What has
		// no reply must not look as if it were missing, least of all the clock.
		p.missed = p.at
		return
	}
	if err := health.Err(); err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
		if refused(err) {
			p.refused = err
		}
		p.missed = p.at
		return
	}
	for n, i := range p.at {
		switch err := cmds[n].Err(); {
		case err == nil:
			values[i] = cmds[n].Val()
		case !errors.Is(err, redis.Nil) && !redis.HasErrorPrefix(err, "WRONGTYPE"):
			p.missed = append(p.missed, i)
		}
	}
}
