package tokens

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// sessions is the epochs of a backend on one server at a time. Every new connection finds out which server
// it has reached; an epoch ends when that is not the one of before, or somebody has swept since.
type sessions struct {
	epochs[*redisClient]
	dial   dial
	names  [3]string // clock, sweep of everything, identity
	grace  time.Duration
	logger *slog.Logger
	off    rules
	hidden atomic.Bool // it was said that the server does not tell who it is
}

// redisClient is the client of one epoch.
type redisClient struct {
	*redis.Client
	pipes sync.Pool // redis.Pipeliner: every read has one
}

type redisSession = session[*redisClient]

// grace is how long everything is fenced after a loss. A commit whose fence was lost is over by then,
// or has renewed it: that is done every second.
const grace = 2 * time.Second

// maxAttempts bounds how often an operation is repeated because an epoch ended meanwhile.
const maxAttempts = 3

var (
	// errLost is what an operation finds that meets a clock that is missing or behind.
	errLost = errors.New("alkey: the token store's clock was lost")
	// errUnsettled ends an operation that was repeated too often.
	errUnsettled = errors.New("alkey: the token store was lost, or replaced, several times while it was asked")
)

//go:embed lua/identify.lua
var identifyLua string

var identifyScript = redis.NewScript(recordLua + identifyLua)

func (k *sessions) init(d dial, names [3]string) {
	k.dial, k.names, k.grace, k.logger = d, names, grace, slog.Default()
	k.begin(func(*redisClient) *redisClient { return &redisClient{Client: k.dial(k.greet)} })
}

// settle ends an operation on l, which began with enter and has come to err. Again says that it has to be
// repeated: a fence set in an epoch that is over may protect nobody, and what was read in it may be
// what another server knows. With no time left to repeat it, it has failed.
func (k *sessions) settle(ctx context.Context, l *redisSession, err error) (again bool, _ error) {
	defer k.leave(l)
	if errors.Is(err, errLost) {
		if err = k.repair(ctx, l); err != nil {
			return false, err
		}
		return true, errUnsettled
	}
	if k.current.Load() == l {
		return false, err
	}
	if err == nil {
		err = errUnsettled
	}
	return ctx.Err() == nil, err
}

// repair sweeps after a clock was found missing or behind, unless another process has done so since.
func (k *sessions) repair(ctx context.Context, l *redisSession) error {
	if k.off.has(ruleIdentity) {
		return k.repairQuietly(ctx, l)
	}
	_, err := k.identify(ctx, l.client, "")
	return err
}

// repairQuietly is what the rule would be without a sweep.
func (k *sessions) repairQuietly(ctx context.Context, l *redisSession) error {
	now := max(time.Now().UnixMicro(), k.seen.Load())
	return failure("repair", l.client.Set(ctx, k.names[0], now, 0).Err())
}

// greet is called on every new connection before anything else is sent on it.
func (k *sessions) greet(ctx context.Context, cn *redis.Conn) error {
	if k.off.has(ruleIdentity) {
		return nil
	}
	_, err := k.identify(ctx, cn, "")
	return err
}

// identify finds out who the server is, sweeps if it may have lost something or if since is not empty
// and nobody has swept after that stamp, and returns the stamp of the latest sweep.
func (k *sessions) identify(ctx context.Context, c redis.Scripter, since string) (Stamp, error) {
	for range maxAttempts {
		reply, err := identifyScript.Run(ctx, c, k.names[:], k.seen.Load(), int64(k.swept()), since, k.grace.Microseconds()).Slice()
		if err != nil {
			return 0, failure("identify", err)
		}
		if len(reply) != 4 {
			return 0, fmt.Errorf("alkey: Redis identify: %d values", len(reply))
		}
		swept, ok := stampOf(reply[0])
		clock, good := stampOf(reply[3])
		if !ok || !good {
			return 0, fmt.Errorf("alkey: Redis identify: reply %q not understood", reply)
		}
		if reply[2] != int64(0) && !k.hidden.Swap(true) {
			k.logger.Warn("alkey: the token store's Redis server does not say who it is (INFO server and INFO replication): " +
				"after a restart from an old snapshot, or a fail-over to a replica that lagged, stale values can be served. " +
				"Let alkey's user call INFO, and connect to the server itself")
		}
		k.see(clock)
		if k.met(swept) {
			return swept, nil
		}
		// Another connection has found a later sweep meanwhile: this one may have reached a server that is
		// no longer in use.
	}
	return 0, errUnsettled
}
