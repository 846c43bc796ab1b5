package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisOptions sets up a Redis store. What is 0 has its default.
type RedisOptions struct {
	// TTL is how long a value is kept at most, also where Set is given a longer ttl. Default: no
	// limit, the server drops what it has no room for.
	TTL time.Duration
	// Prefix stands before every key and keeps applications apart. Default "alkey.cache.VALUES:".
	Prefix string
	// Timeout is how long a call waits for the server; a value that comes later than the page is of
	// no use. Default 50 ms.
	Timeout time.Duration
	// CompressOver is the length in bytes over which values are compressed, where that saves a third
	// or more: markup and JSON, less so plain text. Default 1024; negative: none are.
	CompressOver int
	// MaxValue is how long a value can be, in bytes, when it is stored, found, or uncompressed. Longer
	// ones are not kept. Default 8 MiB.
	MaxValue int
}

const (
	defaultPrefix       = "alkey.cache.VALUES:"
	defaultTimeout      = 50 * time.Millisecond
	defaultCompressOver = 1 << 10
	defaultMaxValue     = 8 << 20

	// refusalPause is how long nothing is stored after the server has refused a value: a server that
	// is full, or a replica, still answers reads.
	refusalPause = time.Second
)

// Redis is a Store on Redis, which processes share: a single server, Sentinel, Cluster or Ring. It
// is for values alone; the server may evict them (maxmemory-policy allkeys-lru) and lose them, which
// the server of tokens must not.
//
// A server that does not answer costs the first calls their Timeout. From then on calls fail at
// once, with ErrDown, until a probe in the background finds it back. In a Cluster that is so for
// each node: the values of a node that is down are misses, and ErrDown is for when no node answers.
// With ReadOnly or RouteByLatency a Cluster reads from replicas, which lag: fresh values are misses.
//
// Safe for concurrent use. Make one with NewRedis.
type Redis struct {
	client  redis.UniversalClient
	options RedisOptions
	obeys   bool        // the client gives up when its context does
	single  atomic.Bool // one server has all keys: it takes MGET
	closed  atomic.Bool
	outage  outage
	refusal atomic.Pointer[refusal]
}

type refusal struct {
	until time.Time
	err   error
}

// NewRedis makes a Store on the server of client, which keeps values for ttl at most; 0 sets no
// limit. It does no I/O. Close leaves the client open.
//
// Set ContextTimeoutEnabled in the client's options. Without it go-redis does not stop when a
// context ends: calls here do all the same, but leave a goroutine and a connection behind that wait
// for the client's own time-outs, and every call pays for a goroutine.
func NewRedis(client redis.UniversalClient, ttl time.Duration) *Redis {
	return NewRedisWith(client, RedisOptions{TTL: ttl})
}

// NewRedisWith is NewRedis with more to set. It panics if client is nil.
func NewRedisWith(client redis.UniversalClient, opts RedisOptions) *Redis {
	if client == nil {
		panic("alkey: cache.NewRedis needs a client")
	}
	opts.TTL = max(opts.TTL, 0)
	if opts.Prefix == "" {
		opts.Prefix = defaultPrefix
	}
	if opts.Timeout <= 0 {
		opts.Timeout = defaultTimeout
	}
	if opts.CompressOver == 0 {
		opts.CompressOver = defaultCompressOver
	}
	if opts.MaxValue <= 0 {
		opts.MaxValue = defaultMaxValue
	}
	r := &Redis{client: client, options: opts}
	switch c := client.(type) {
	case *redis.Client:
		r.obeys = c.Options().ContextTimeoutEnabled
		r.single.Store(true)
	case *redis.ClusterClient:
		r.obeys = c.Options().ContextTimeoutEnabled
	case *redis.Ring:
		r.obeys = c.Options().ContextTimeoutEnabled
	}
	r.outage.init()
	return r
}

// Get is part of Store: one MGET, or one pipeline where keys lie on several servers.
func (r *Redis) Get(ctx context.Context, keys []string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	if err := r.get(ctx, keys, values, nil); err != nil {
		return nil, err
	}
	return values, nil
}

// getDated is part of dated. Clocks of hosts differ, so an entry says how long its value lived when
// it was stored, and not until when: a copy lives for a small part of that.
func (r *Redis) getDated(ctx context.Context, keys []string) ([][]byte, []time.Duration, error) {
	values, lives := make([][]byte, len(keys)), make([]time.Duration, len(keys))
	if err := r.get(ctx, keys, values, lives); err != nil {
		return nil, nil, err
	}
	for i, ttl := range lives {
		if ttl > 0 {
			lives[i] = max(ttl/8, time.Millisecond)
		}
	}
	return values, lives, nil
}

// get sets values, and lives if there is such a list.
func (r *Redis) get(ctx context.Context, keys []string, values [][]byte, lives []time.Duration) error {
	if err := r.check(ctx); err != nil || len(keys) == 0 {
		return err
	}
	names := r.names(keys)
	var at []int // where the names stand in keys; nil: they are all
	if r.outage.any() {
		var err error
		if names, at, err = r.outage.reachable(r, names); err != nil || len(names) == 0 {
			return err
		}
	}
	got, err := within(ctx, r, r.options.Timeout, func(ctx context.Context) reply { return r.ask(ctx, names) })
	if err != nil {
		return r.failed(ctx, err, names)
	}
	if got.failed != nil {
		// The other nodes of a Cluster have answered.
		err := r.failed(ctx, got.err, got.failed)
		if len(got.failed) == len(names) {
			return err
		}
	}
	r.outage.answer()
	d := parsing{names: names, texts: got.texts, limit: r.options.MaxValue, at: at, values: values, lives: lives}
	d.run()
	return nil
}

// reply is what came of asking for names: texts has theirs in order, "" for a miss.
type reply struct {
	texts  []string
	failed []string // names
	err    error    // of one that failed
}

func (r *Redis) ask(ctx context.Context, names []string) reply {
	if r.single.Load() {
		args := make([]any, 1, len(names)+1)
		args[0] = "mget"
		for i := range names {
			args = append(args, &names[i]) // which saves the allocation of a copy
		}
		// One of strings costs an allocation a value less than MGet's. What is missing, or is no
		// string, is "".
		cmd := redis.NewStringSliceCmd(ctx, args...)
		err := r.client.Process(ctx, cmd)
		if err == nil && len(cmd.Val()) != len(names) {
			err = fmt.Errorf("alkey: Redis has %d values for %d keys", len(cmd.Val()), len(names))
		}
		if err == nil {
			return reply{texts: cmd.Val()}
		}
		if !redis.HasErrorPrefix(err, "CROSSSLOT") {
			return reply{failed: names, err: err}
		}
		// A Cluster behind one address.
		r.single.Store(false)
	}
	cmds := make([]*redis.StringCmd, len(names))
	for i, name := range names {
		cmds[i] = redis.NewStringCmd(ctx, "get", name)
	}
	if len(cmds) == 1 {
		_ = r.client.Process(ctx, cmds[0]) // the command has the error
	} else {
		pipe := r.client.Pipeline()
		for _, cmd := range cmds {
			_ = pipe.Process(ctx, cmd)
		}
		_, _ = pipe.Exec(ctx) // the commands have theirs
	}
	got := reply{texts: make([]string, len(names))}
	for i, cmd := range cmds {
		if err := cmd.Err(); answered(err) {
			got.texts[i] = cmd.Val()
		} else {
			got.failed, got.err = append(got.failed, names[i]), err
		}
	}
	return got
}

// answered reports whether the error of a GET is an answer: the key is not there, or not a string.
func answered(err error) bool {
	return err == nil || errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE")
}

// Set is part of Store. What the server refuses to store is an error too; nothing is sent to it for
// the second that follows.
func (r *Redis) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := r.check(ctx); err != nil {
		return err
	}
	names := []string{r.options.Prefix + key}
	if r.outage.any() {
		if up, _, err := r.outage.reachable(r, names); err != nil {
			return err
		} else if len(up) == 0 {
			return errNode
		}
	}
	args, err := r.setting(names[0], value, ttl)
	if err != nil {
		return err
	}
	answer, err := within(ctx, r, r.options.Timeout, func(ctx context.Context) error {
		return r.client.Process(ctx, redis.NewCmd(ctx, args...))
	})
	if err == nil {
		err = answer
	}
	if err == nil {
		r.outage.answer()
		return nil
	}
	if _, refused := errors.AsType[redis.Error](err); refused {
		return r.refused(err)
	}
	return r.failed(ctx, err, names)
}

// errNode is returned for a value in a Cluster.
var errNode = fmt.Errorf("%w: the node of this key does not answer", ErrDown)

// setting returns the command that sets a value. The error says that the server does not take any at
// present.
func (r *Redis) setting(name string, value []byte, ttl time.Duration) (args []any, err error) {
	if ttl < 0 || len(value) > r.options.MaxValue {
		return []any{"del", name}, nil
	}
	if refused := r.refusal.Load(); refused != nil && time.Now().Before(refused.until) {
		return nil, refused.err
	}
	if own := r.options.TTL; ttl == 0 || own > 0 && own < ttl {
		ttl = own
	}
	if ttl > 0 {
		ttl = max(ttl, time.Millisecond)
	}
	args = []any{"set", name, appendEntry(name, value, ttl, r.options.CompressOver)}
	if ttl > 0 {
		args = append(args, "px", ttl.Milliseconds())
	}
	return args, nil
}

// refused makes of a server's answer what the caller gets, and begins the pause.
func (r *Redis) refused(err error) error {
	err = fmt.Errorf("alkey: Redis refuses to store a value: %w", err)
	r.refusal.Store(&refusal{time.Now().Add(refusalPause), err})
	return err
}

// Close is part of Store. The client stays open. A call that the client has not given up ends with
// the client's time-outs, or when the client is closed.
func (r *Redis) Close() error {
	if !r.closed.Swap(true) {
		r.outage.close()
	}
	return nil
}

func (r *Redis) check(ctx context.Context) error {
	if r.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}

// names returns the keys as the server has them. They share one string: they are short, and live
// for one command.
func (r *Redis) names(keys []string) []string {
	size := len(keys) * len(r.options.Prefix)
	for _, key := range keys {
		size += len(key)
	}
	var text strings.Builder
	text.Grow(size)
	names := make([]string, len(keys))
	for i, key := range keys {
		from := text.Len()
		text.WriteString(r.options.Prefix)
		text.WriteString(key)
		names[i] = text.String()[from:]
	}
	return names
}

// failed makes of an error what the caller gets, and notes that the servers of names do not answer
// unless the caller himself gave up.
func (r *Redis) failed(ctx context.Context, err error, names []string) error {
	if errors.Is(err, redis.ErrClosed) {
		return ErrClosed
	}
	cause := ctx.Err()
	if deadline, ok := ctx.Deadline(); ok && cause == nil && !time.Now().Before(deadline) {
		cause = context.DeadlineExceeded // the connection's timer was faster than the context's
	}
	if cause != nil {
		return fmt.Errorf("alkey: the value store was not waited for: %w", cause)
	}
	r.outage.begin(r, names)
	return fmt.Errorf("%w: %w", ErrDown, err)
}

// within runs call for at most limit. Where the client does not obey contexts the call is left to
// itself after that; it must not write to what the caller goes on to use.
func within[T any](ctx context.Context, r *Redis, limit time.Duration, call func(context.Context) T) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if r.obeys {
		return call(ctx), nil
	}
	type outcome struct {
		value    T
		panicked any // a hook of the client can panic: that is the caller's, as it is without a goroutine
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			o.panicked = recover()
			done <- o
		}()
		o.value = call(ctx)
	}()
	select {
	case o := <-done:
		if o.panicked != nil {
			panic(o.panicked)
		}
		return o.value, nil
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
