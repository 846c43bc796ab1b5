package tokens

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// RedisOptions sets up the Redis backend: what go-redis takes to make a client, or a client whose
// options are taken.
type RedisOptions struct {
	// Client lends its options if it is set: a *redis.Client, also one that redis.NewFailoverClient has
	// made, or a *redis.ClusterClient. The backend makes clients of its own from them, because it has to
	// know each connection before anything else is sent on it; Client's pool and hooks are not used (see
	// Hooks), and it stays open. Only the dialer of a failover client goes through Client, which must not be closed
	// before the Store. For Sentinel give MasterName and the Sentinels' Addrs instead: then the backend
	// hears of a fail-over from Sentinel itself.
	Client redis.UniversalClient
	// UniversalOptions name the server if Client is nil: one address; the Sentinels' addresses and
	// MasterName; or several addresses, or IsClusterMode, for Redis Cluster. Reads go to masters only:
	// ReadOnly, RouteByLatency and RouteRandomly are refused. ContextTimeoutEnabled is always set,
	// client-side caching and the pool of its own for pipelines never.
	redis.UniversalOptions

	// Hooks are added to the clients that the backend makes: telemetry, for one.
	Hooks []redis.Hook
	// Prefix stands before every key and keeps applications apart. Default "alkey.cache.TOKENS:".
	Prefix string
	// TTL is how long a record lives that nobody fences: then its keys change. Default 24 h, at
	// least a minute.
	TTL time.Duration
	// MaxOwners bounds the transactions that have a fence of their own on one record at a time. Those
	// past it share one, which runs out with the latest of their leases and is lifted by nobody: the
	// record stays unusable longer than it must, and no longer than a lease. Default 128.
	MaxOwners int
}

const (
	defaultPrefix = "alkey.cache.TOKENS:"
	defaultTTL    = 24 * time.Hour
	// defaultMaxOwners keeps a record below 6 KB.
	defaultMaxOwners = 128
)

// ErrOptions is returned for RedisOptions and environment variables that cannot be used.
var ErrOptions = errors.New("alkey: wrong options")

// settings is what the backends on Redis have in common.
type settings struct {
	prefix string
	ttl    time.Duration
	owners int // MaxOwners
}

// settings returns what opts say, with the defaults in it.
func (opts *RedisOptions) settings() (settings, error) {
	s := settings{prefix: opts.Prefix, ttl: opts.TTL, owners: opts.MaxOwners}
	if s.prefix == "" {
		s.prefix = defaultPrefix
	}
	if s.ttl == 0 {
		s.ttl = defaultTTL
	}
	if s.ttl < time.Minute {
		return s, fmt.Errorf("%w: RedisOptions.TTL is %v: at least a minute, or 0 for %v", ErrOptions, opts.TTL, defaultTTL)
	}
	if s.owners == 0 {
		s.owners = defaultMaxOwners
	}
	if s.owners < 1 {
		return s, fmt.Errorf("%w: RedisOptions.MaxOwners is %d: at least 1, or 0 for %d", ErrOptions, opts.MaxOwners, defaultMaxOwners)
	}
	return s, nil
}

// NewRedisBackend makes the backend alone, without any I/O: a *Redis for a single server or Sentinel,
// and one of Redis Cluster for that. The error wraps ErrOptions.
func NewRedisBackend(opts RedisOptions) (Backend, error) {
	s, err := opts.settings()
	if err != nil {
		return nil, err
	}
	switch c := opts.Client.(type) {
	case nil:
		if len(opts.Addrs) == 0 {
			return nil, fmt.Errorf("%w: RedisOptions has neither Client nor Addrs: name the server as in Addrs: []string{\"localhost:6379\"}", ErrOptions)
		}
		if opts.ReadOnly || opts.RouteByLatency || opts.RouteRandomly {
			return nil, fmt.Errorf("%w: RedisOptions: tokens are read from masters only: leave out ReadOnly, RouteByLatency and RouteRandomly", ErrOptions)
		}
		universal := opts.UniversalOptions
		switch {
		case opts.MasterName != "":
			return newRedis(s, hooked(opts.Hooks, failover(universal.Failover()))), nil
		case len(opts.Addrs) > 1 || opts.IsClusterMode:
			return newRedisCluster(opts, s)
		default:
			return newRedis(s, hooked(opts.Hooks, single(universal.Simple()))), nil
		}
	case *redis.Client:
		return newRedis(s, hooked(opts.Hooks, single(raw(c.Options())))), nil
	case *redis.ClusterClient:
		return newRedisCluster(opts, s)
	default:
		return nil, fmt.Errorf("%w: RedisOptions.Client is a %T: only a *redis.Client or a *redis.ClusterClient is supported", ErrOptions, c)
	}
}

// greeting is what a new connection goes through before anything else is sent on it.
type greeting = func(context.Context, *redis.Conn) error

// dial makes a client whose connections are greeted.
type dial func(greeting) *redis.Client

func hooked(hooks []redis.Hook, d dial) dial {
	if len(hooks) == 0 {
		return d
	}
	return func(greet greeting) *redis.Client {
		c := d(greet)
		for _, h := range hooks {
			c.AddHook(h)
		}
		return c
	}
}

// single returns the dial of one server.
func single(opts *redis.Options) dial {
	return func(greet greeting) *redis.Client {
		o := *opts
		o.OnConnect = after(opts.OnConnect, greet)
		// A server that hangs is given up after the Store's limits, whatever the client's timeouts are.
		o.ContextTimeoutEnabled = true
		// Every read is a pipeline: a second pool would only double the connections.
		o.PipelinePoolSize = -1
		o.ClientSideCache, o.ClientSideCacheConfig = nil, nil
		c := redis.NewClient(&o)
		c.AddHook(dialing{})
		return c
	}
}

// failover returns the dial of the master that Sentinels name.
func failover(opts *redis.FailoverOptions) dial {
	return func(greet greeting) *redis.Client {
		o := *opts
		o.OnConnect = after(opts.OnConnect, func(ctx context.Context, cn *redis.Conn) error {
			err := greet(ctx, cn)
			if err != nil && isSentinel(ctx, cn) {
				return nil // the client asks them through connections of the same kind
			}
			return err
		})
		o.ContextTimeoutEnabled = true
		o.PipelinePoolSize = -1
		c := redis.NewFailoverClient(&o)
		c.AddHook(dialing{})
		return c
	}
}

// isSentinel asks the other end of a connection what it is.
func isSentinel(ctx context.Context, cn *redis.Conn) bool {
	role, err := cn.Do(ctx, "role").Slice()
	return err == nil && len(role) > 0 && role[0] == "sentinel"
}

func after(first, then greeting) greeting {
	if first == nil {
		return then
	}
	return func(ctx context.Context, cn *redis.Conn) error {
		if err := first(ctx, cn); err != nil {
			return err
		}
		return then(ctx, cn)
	}
}

// raw returns options as they were before a client was made with them. A client turns what is
// disabled into 0, and the next client would take that for the default.
func raw(initialized *redis.Options) *redis.Options {
	o := *initialized
	if o.MaxRetries == 0 {
		o.MaxRetries = -1
	}
	o.MinRetryBackoff = rawBackoff(o.MinRetryBackoff)
	o.MaxRetryBackoff = rawBackoff(o.MaxRetryBackoff)
	o.ReadTimeout = rawTimeout(o.ReadTimeout)
	o.WriteTimeout = rawTimeout(o.WriteTimeout)
	// Both belong to the client, which goes on to change them.
	o.PushNotificationProcessor = nil
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &o
}

func rawBackoff(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func rawTimeout(d time.Duration) time.Duration {
	if d == 0 || d == -1 {
		return d - 1
	}
	return d
}

// refusal returns what is wrong with a server that has answered a write with err.
func refusal(op, prefix string, err error) error {
	if redis.HasErrorPrefix(err, "NOPERM") {
		return fmt.Errorf("%w: Redis %s: %w (the user needs the commands and keys that alkey's documentation names, SETRANGE on %s* among them)",
			ErrRefused, op, err, prefix)
	}
	return fmt.Errorf("%w: Redis %s: %w", ErrRefused, op, err)
}

// isAnswer reports whether err is what a server has said.
func isAnswer(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}

// refused reports whether err is a server's refusal of a write.
func refused(err error) bool {
	for _, code := range []string{"READONLY", "OOM", "MISCONF", "NOREPLICAS", "NOPERM", "MASTERDOWN"} {
		if redis.HasErrorPrefix(err, code) {
			return true
		}
	}
	return false
}
