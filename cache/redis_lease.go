package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// releaseScript deletes a lease if it is still the owner's.
const releaseScript = `if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0`

// Lease is part of Leaser: SET NX PX. A server that is down or refuses is an error, and nobody's lease.
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
	answer, err := within(ctx, r, r.options.Timeout, func(ctx context.Context) error {
		return r.client.Process(ctx, redis.NewStatusCmd(ctx, "set", name, owner, "nx", "px", max(ttl.Milliseconds(), 1)))
	})
	if err == nil {
		err = answer
	}
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil
	case err == nil:
		r.outage.answer()
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
