package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// leaseScript takes a lease that nobody else has. The client runs it again when a reply was lost: who has
// the lease already is given it again.
const leaseScript = `local have = redis.call('get', KEYS[1])
if have and have ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[2])
return 1`

// releaseScript deletes a lease if it is still the owner's.
const releaseScript = `if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0`

// Lease is part of Leaser. A server that is down or refuses is an error, and nobody's lease.
func (r *Redis) Lease(ctx context.Context, key string, ttl time.Duration) (func(), error) {
	if err := r.check(ctx); err != nil {
		return nil, err
	}
	name := r.options.Prefix + leasePrefix + key
	if r.outage.any() {
		if up, _, err := r.outage.reachable(r, []string{name}); err != nil || len(up) == 0 {
			return nil, ErrDown
		}
	}
	owner := rand.Text()
	type outcome struct {
		taken bool
		err   error
	}
	got, err := within(ctx, r, r.options.Timeout, func(ctx context.Context) outcome {
		cmd := redis.NewIntCmd(ctx, "eval", leaseScript, 1, name, owner, max(ttl.Milliseconds(), 1))
		err := r.client.Process(ctx, cmd)
		return outcome{cmd.Val() == 1, err}
	})
	if err == nil {
		err = got.err
	}
	if err == nil {
		r.outage.answer()
		if !got.taken {
			return nil, nil
		}
		return func() { r.giveBack(ctx, name, owner) }, nil
	}
	if _, refused := errors.AsType[redis.Error](err); refused {
		return nil, err
	}
	return nil, r.failed(ctx, err, []string{name})
}

// giveBack deletes a lease. One that cannot be deleted runs out.
func (r *Redis) giveBack(ctx context.Context, name, owner string) {
	if r.closed.Load() || r.outage.any() {
		return
	}
	ctx = context.WithoutCancel(ctx)
	_, _ = within(ctx, r, r.options.Timeout, func(ctx context.Context) error {
		return r.client.Process(ctx, redis.NewCmd(ctx, "eval", releaseScript, 1, name, owner))
	})
}
