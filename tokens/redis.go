package tokens

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisOptions sets up the Redis backend: Client, or what go-redis takes to make one.
type RedisOptions struct {
	// Client is used if it is set; Close leaves it open. Set ContextTimeoutEnabled in its options:
	// without it a server that hangs is given up after half a second, not after the Store's limits.
	Client redis.UniversalClient
	// UniversalOptions make a client if Client is nil. ContextTimeoutEnabled is always set.
	redis.UniversalOptions

	// Prefix stands before every key and keeps applications apart. Default "alkey.cache.TOKENS:".
	Prefix string
	// TTL is how long a record lives that nobody fences: then its keys change. Default 24 h, at
	// least a minute.
	TTL time.Duration
}

// Redis is the backend that processes share, on a single Redis server of version 5 or newer. Every
// operation is one script, or a plain MGET, and one round trip. Safe for concurrent use.
type Redis struct {
	client redis.UniversalClient
	owned  bool // Close closes the client
	prefix string
	ttl    time.Duration
	now    func() time.Time
	seen   atomic.Int64 // the largest stamp that a reply has named
	closed atomic.Bool

	clock, everything string // keys
}

const (
	defaultPrefix = "alkey.cache.TOKENS:"
	defaultTTL    = 24 * time.Hour
	// hangLimit bounds one attempt of a client that does not respect deadlines of contexts.
	hangLimit = 500 * time.Millisecond
	// firstContact bounds how long a start waits for the server.
	firstContact = 2 * time.Second
)

// ErrOptions is returned for RedisOptions and environment variables that cannot be used.
var ErrOptions = errors.New("alkey: wrong options")

//go:embed lua/record.lua
var recordLua string

//go:embed lua/fence.lua
var fenceLua string

//go:embed lua/publish.lua
var publishLua string

//go:embed lua/release.lua
var releaseLua string

//go:embed lua/mint.lua
var mintLua string

var (
	fenceScript   = redis.NewScript(recordLua + fenceLua)
	publishScript = redis.NewScript(recordLua + publishLua)
	releaseScript = redis.NewScript(recordLua + releaseLua)
	mintScript    = redis.NewScript(recordLua + mintLua)
)

// NewRedis makes a Store over a Redis server. A server that does not answer is a warning: requests
// go uncached until it is there. Wrong options are an error that wraps ErrOptions.
func NewRedis(ctx context.Context, opts RedisOptions) (*Store, error) {
	b, err := NewRedisBackend(opts)
	if err != nil {
		return nil, err
	}
	return connect(ctx, b), nil
}

// connect makes the first contact, which dials, and gives a new server its clock, before a request
// has to wait for it.
func connect(ctx context.Context, b *Redis) *Store {
	s := New(b)
	ctx, cancel := context.WithTimeout(ctx, firstContact)
	defer cancel()
	if snap, err := b.Read(ctx, []ID{sweepAll}); err != nil {
		s.outage.begin(s, err, false)
	} else {
		s.see(snap.Clock)
		b.warnOfEviction(ctx, s.logger)
	}
	return s
}

// warnOfEviction warns of a server that drops any record when it is full: one that is read or fenced
// must not go. A server that does not tell is left alone.
func (b *Redis) warnOfEviction(ctx context.Context, l *slog.Logger) {
	const field = "maxmemory_policy:"
	info, _ := b.client.Info(ctx, "memory").Result()
	_, rest, told := strings.Cut(info, field)
	policy, _, _ := strings.Cut(rest, "\r\n")
	if !told {
		config, _ := b.client.ConfigGet(ctx, "maxmemory-policy").Result()
		policy = config["maxmemory-policy"]
	}
	if strings.HasPrefix(policy, "allkeys-") {
		l.Warn("alkey: the token store's Redis server evicts tokens when it is full, and what they guard can go stale: "+
			"set maxmemory-policy noeviction on it, and keep values on another Redis server", "maxmemory-policy", policy)
	}
}

// NewRedisBackend makes the backend alone, without any I/O. The error wraps ErrOptions.
func NewRedisBackend(opts RedisOptions) (*Redis, error) {
	b := &Redis{client: opts.Client, prefix: opts.Prefix, ttl: opts.TTL, now: time.Now}
	if b.prefix == "" {
		b.prefix = defaultPrefix
	}
	if b.ttl == 0 {
		b.ttl = defaultTTL
	}
	if b.ttl < time.Minute {
		return nil, fmt.Errorf("%w: RedisOptions.TTL is %v: at least a minute, or 0 for %v", ErrOptions, opts.TTL, defaultTTL)
	}
	b.clock, b.everything = b.prefix+"clock", b.list([]ID{sweepAll})[0]
	switch c := opts.Client.(type) {
	case nil:
		if len(opts.Addrs) == 0 {
			return nil, fmt.Errorf("%w: RedisOptions has neither Client nor Addrs: name the server as in Addrs: []string{\"localhost:6379\"}", ErrOptions)
		}
		if len(opts.Addrs) > 1 || opts.MasterName != "" || opts.IsClusterMode {
			return nil, fmt.Errorf("%w: RedisOptions: Redis Cluster and Sentinel are not supported: name a single server", ErrOptions)
		}
		universal := opts.UniversalOptions
		universal.ContextTimeoutEnabled = true
		b.client, b.owned = redis.NewClient(universal.Simple()), true
	case *redis.Client:
		if o := c.Options(); !o.ContextTimeoutEnabled && (o.ReadTimeout < 0 || o.ReadTimeout > hangLimit) {
			b.client = c.WithTimeout(hangLimit)
		}
	default:
		return nil, fmt.Errorf("%w: RedisOptions.Client is a %T: only a client of a single server, *redis.Client, is supported", ErrOptions, c)
	}
	return b, nil
}

// keys yields the key of every record. It is the one place where a record gets its key; none is the
// clock's. The keys share one string: they are short, and live for one command.
func (b *Redis) keys(ids []ID) iter.Seq[string] {
	size := 0
	for _, id := range ids {
		size += len(b.prefix) + id.textLen()
	}
	var text strings.Builder
	text.Grow(size)
	return func(yield func(string) bool) {
		for _, id := range ids {
			from := text.Len()
			text.WriteString(b.prefix)
			id.writeTo(&text)
			if !yield(text.String()[from:]) {
				return
			}
		}
	}
}

func (b *Redis) list(ids []ID) []string {
	return slices.AppendSeq(make([]string, 0, len(ids)), b.keys(ids))
}

// withClock returns the keys of a script that takes a stamp: the clock and the sweep of everything,
// which tick needs, then the records.
func (b *Redis) withClock(ids []ID) []string {
	keys := make([]string, 0, len(ids)+2)
	return slices.AppendSeq(append(keys, b.clock, b.everything), b.keys(ids))
}

// Read is part of Backend: one MGET, and one script more where something has to be minted.
func (b *Redis) Read(ctx context.Context, ids []ID) (Snapshot, error) {
	if b.closed.Load() {
		return Snapshot{}, ErrClosed
	}
	args := make([]any, 2, len(ids)+2)
	args[0], args[1] = "mget", b.clock
	for key := range b.keys(ids) {
		args = append(args, key)
	}
	// One of strings costs an allocation a value less than MGet's. What is missing is "".
	cmd := redis.NewStringSliceCmd(ctx, args...)
	if err := b.client.Process(ctx, cmd); err != nil {
		return Snapshot{}, b.failure("read", err)
	}
	values := cmd.Val()
	if len(values) != len(ids)+1 {
		return Snapshot{}, fmt.Errorf("alkey: Redis read: %d values for %d keys", len(values), len(ids)+1)
	}
	clock, ok := parseStamp(values[0])
	if !ok {
		return b.mint(ctx, ids)
	}
	snap := Snapshot{Clock: clock, States: make([]State, len(ids))}
	now := max(b.now().UnixMicro(), int64(clock))
	for i, v := range values[1:] {
		stamp, fences, ok := parseRecord(v)
		// now decides only whether to ask the server, whose time decides. It is also the largest stamp
		// given out: a host whose clock is slow must not go without a dead writer's record for as long.
		// A stamp ahead of the clock must not be a token before the clock is ahead of it: else the next
		// publish of another record that the argument depends on would not be the largest.
		if !ok || stamp == 0 && len(fences) == 0 || stamp > clock || lapsed(fences, now) {
			return b.mint(ctx, ids)
		}
		snap.States[i] = State{Stamp: stamp, Fenced: len(fences) > 0}
	}
	b.see(clock)
	return snap, nil
}

// mint reads all of ids again, so that what an argument depends on is read at one moment.
func (b *Redis) mint(ctx context.Context, ids []ID) (Snapshot, error) {
	reply, err := mintScript.Run(ctx, b.client, b.withClock(ids), b.seen.Load(), b.ttl.Milliseconds()).Slice()
	if err != nil {
		return Snapshot{}, b.failure("mint", err)
	}
	if len(reply) != 2*len(ids)+1 {
		return Snapshot{}, fmt.Errorf("alkey: Redis mint: %d values for %d records", len(reply), len(ids))
	}
	clock, ok := stampOf(reply[0])
	snap := Snapshot{Clock: clock, States: make([]State, len(ids))}
	for i := range ids {
		stamp, good := stampOf(reply[2*i+1])
		fenced, known := reply[2*i+2].(int64)
		ok = ok && good && known
		snap.States[i] = State{Stamp: stamp, Fenced: fenced != 0}
	}
	if !ok {
		return Snapshot{}, fmt.Errorf("alkey: Redis mint: reply %q not understood", reply)
	}
	b.see(clock)
	return snap, nil
}

// Fence is part of Backend.
func (b *Redis) Fence(ctx context.Context, owner Owner, ids []ID, lease time.Duration) error {
	if b.closed.Load() {
		return ErrClosed
	}
	return b.failure("fence", fenceScript.Run(ctx, b.client, b.list(ids), string(owner), lease.Microseconds()).Err())
}

// Publish is part of Backend.
func (b *Redis) Publish(ctx context.Context, owner Owner, ids []ID) (Stamp, error) {
	if b.closed.Load() {
		return 0, ErrClosed
	}
	reply, err := publishScript.Run(ctx, b.client, b.withClock(ids), string(owner), b.seen.Load(), b.ttl.Milliseconds()).Result()
	if err != nil {
		return 0, b.failure("publish", err)
	}
	stamp, ok := stampOf(reply)
	if !ok {
		return 0, fmt.Errorf("alkey: Redis publish: reply %q not understood", reply)
	}
	b.see(stamp)
	return stamp, nil
}

// Release is part of Backend.
func (b *Redis) Release(ctx context.Context, owner Owner, ids []ID) error {
	if b.closed.Load() {
		return ErrClosed
	}
	return b.failure("release", releaseScript.Run(ctx, b.client, b.list(ids), string(owner), b.ttl.Milliseconds()).Err())
}

// Close is part of Backend. A client that the options gave stays open.
func (b *Redis) Close() error {
	if b.closed.Swap(true) || !b.owned {
		return nil
	}
	if err := b.client.Close(); err != nil {
		return fmt.Errorf("alkey: closing the Redis client: %w", err)
	}
	return nil
}

func (b *Redis) see(stamp Stamp) {
	for {
		have := b.seen.Load()
		if int64(stamp) <= have || b.seen.CompareAndSwap(have, int64(stamp)) {
			return
		}
	}
}

// failure says which operation failed; nil stays nil. go-redis puts no password into its errors.
func (b *Redis) failure(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redis.ErrClosed):
		return ErrClosed
	default:
		return fmt.Errorf("alkey: Redis %s: %w", op, err)
	}
}

// stampOf reads a stamp from a script's reply.
func stampOf(v any) (Stamp, bool) {
	s, _ := v.(string)
	return parseStamp(s)
}

// parseStamp reads a stamp as scripts and the clock's key write it.
func parseStamp(s string) (Stamp, bool) {
	if s == "" || len(s) > 16 {
		return 0, false
	}
	var n int64
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = 10*n + int64(s[i]-'0')
	}
	return Stamp(n), true
}

// parseRecord reads a record as lua/record.lua does: what it does not understand counts as missing.
func parseRecord(s string) (Stamp, []fence, bool) {
	head, rest, fenced := strings.Cut(s, "!")
	stamp, ok := parseStamp(head)
	if !ok || !fenced {
		return stamp, nil, ok
	}
	fences := make([]fence, 0, 1+strings.Count(rest, "!"))
	for part := range strings.SplitSeq(rest, "!") {
		owner, digits, ok := strings.Cut(part, "@")
		deadline, good := parseStamp(digits)
		if !ok || !good || owner == "" {
			return 0, nil, false
		}
		fences = append(fences, fence{Owner(owner), int64(deadline)})
	}
	return stamp, fences, true
}

func lapsed(fences []fence, now int64) bool {
	for _, f := range fences {
		if f.deadline <= now {
			return true
		}
	}
	return false
}
