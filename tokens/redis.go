package tokens

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis is the backend that processes share, on a single Redis server of version 5 or newer, or on the
// master that Sentinels name. Every operation is one script, or a plain MGET behind a write that changes
// nothing, and one round trip. Safe for concurrent use.
type Redis struct {
	settings
	sessions
	now    func() time.Time
	health []any // a command that changes nothing and is refused where a fence would be
}

// firstContact bounds how long a start waits for the server.
const firstContact = 2 * time.Second

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

// NewRedis makes a Store over Redis: a single server, Sentinel or Cluster. A server that does not answer
// is a warning: requests go uncached until it is there. Wrong options are an error that wraps ErrOptions.
func NewRedis(ctx context.Context, opts RedisOptions) (*Store, error) {
	b, err := NewRedisBackend(opts)
	if err != nil {
		return nil, err
	}
	return connect(ctx, b), nil
}

// connect makes the first contact, which dials, and gives a new server its clock, before a request
// has to wait for it.
func connect(ctx context.Context, b Backend) *Store {
	s := New(b)
	ctx, cancel := context.WithTimeout(ctx, firstContact)
	defer cancel()
	snap, err := b.Read(ctx, []ID{sweepAll})
	if err != nil {
		s.outage.begin(s, err, errors.Is(err, ErrRefused))
		return s
	}
	s.see(snap.Clock)
	if b, ok := b.(interface {
		warnOfEviction(context.Context, *slog.Logger)
	}); ok {
		b.warnOfEviction(ctx, s.logger)
	}
	return s
}

// warnOfEviction warns of a server that drops any record when it is full: one that is read or fenced
// must not go. A server that does not tell is left alone.
func (b *Redis) warnOfEviction(ctx context.Context, l *slog.Logger) {
	s, err := b.enter()
	if err != nil {
		return
	}
	defer b.leave(s)
	warnOfEviction(ctx, s.client, l)
}

func warnOfEviction(ctx context.Context, c redis.UniversalClient, l *slog.Logger) {
	const field = "maxmemory_policy:"
	info, _ := c.Info(ctx, "memory").Result()
	_, rest, told := strings.Cut(info, field)
	policy, _, _ := strings.Cut(rest, "\r\n")
	if !told {
		config, _ := c.ConfigGet(ctx, "maxmemory-policy").Result()
		policy = config["maxmemory-policy"]
	}
	if strings.HasPrefix(policy, "allkeys-") {
		l.Warn("alkey: the token store's Redis server evicts tokens when it is full, and what they guard can go stale: "+
			"set maxmemory-policy noeviction on it, and keep values on another Redis server", "maxmemory-policy", policy)
	}
}

func newRedis(s settings, d dial) *Redis {
	clock := s.prefix + "clock"
	b := &Redis{settings: s, now: time.Now, health: []any{"setrange", clock, 0, ""}}
	b.init(d, [3]string{clock, s.prefix + sweepAll.String(), s.prefix + "identity"})
	return b
}

// report sets where the backend tells what its user should know.
func (b *Redis) report(l *slog.Logger) { b.logger = l }

// recordKeys calls add with the key of every record. It is the one place where a record gets its key; none
// is the clock's. The keys share one string: they are short, and live for one command.
func recordKeys(prefix string, ids []ID, add func(key string)) {
	size := 0
	for _, id := range ids {
		size += len(prefix) + id.textLen()
	}
	var text strings.Builder
	text.Grow(size)
	for _, id := range ids {
		from := text.Len()
		text.WriteString(prefix)
		id.writeTo(&text)
		add(text.String()[from:])
	}
}

func (b *Redis) list(ids []ID) []string {
	return appendRecordKeys(make([]string, 0, len(ids)), b.prefix, ids)
}

// withClock returns the keys of a script that takes a stamp: the clock, then the records.
func (b *Redis) withClock(ids []ID) []string {
	return appendRecordKeys(append(make([]string, 0, len(ids)+1), b.names[0]), b.prefix, ids)
}

func appendRecordKeys(keys []string, prefix string, ids []ID) []string {
	recordKeys(prefix, ids, func(key string) { keys = append(keys, key) })
	return keys
}

// Read is part of Backend: one MGET behind a write that changes nothing, and one script more where
// something has to be minted.
func (b *Redis) Read(ctx context.Context, ids []ID) (snap Snapshot, err error) {
	args := make([]any, 2, len(ids)+2)
	args[0], args[1] = "mget", b.health[1]
	recordKeys(b.prefix, ids, func(key string) { args = append(args, key) })
	for range maxAttempts {
		l, err := b.enter()
		if err != nil {
			return Snapshot{}, err
		}
		snap, err := b.read(ctx, l, ids, args)
		again, err := b.settle(ctx, l, err)
		if !again {
			return snap, err
		}
	}
	return Snapshot{}, failure("read", errUnsettled)
}

func (b *Redis) read(ctx context.Context, l *redisSession, ids []ID, args []any) (Snapshot, error) {
	seen := b.floor()
	values, err := b.values(ctx, l, args)
	if err != nil {
		return Snapshot{}, err
	}
	if len(values) != len(ids)+1 {
		return Snapshot{}, fmt.Errorf("alkey: Redis read: %d values for %d keys", len(values), len(ids)+1)
	}
	clock, ok := parseStamp(values[0])
	if !ok || int64(clock) < seen {
		return Snapshot{}, errLost
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
			return b.mint(ctx, l, ids)
		}
		snap.States[i] = State{Stamp: stamp, Fenced: len(fences) > 0}
	}
	b.see(clock)
	return snap, nil
}

// values sends one MGET behind a SETRANGE of no bytes, in one round trip. A healthy server answers that with a
// length and changes nothing; one that would take no fence, because it is full, or a replica, or
// cannot persist, refuses it, and is not read.
func (b *Redis) values(ctx context.Context, l *redisSession, args []any) ([]string, error) {
	// A command of strings costs an allocation a value less than MGet's. What is missing is "".
	mget := redis.NewStringSliceCmd(ctx, args...)
	if b.off.has(ruleHealth) {
		if err := l.client.Process(ctx, mget); err != nil {
			return nil, failure("read", err)
		}
		return mget.Val(), nil
	}
	health := redis.NewIntCmd(ctx, b.health...)
	pipe, ok := l.client.pipes.Get().(redis.Pipeliner)
	if !ok {
		pipe = l.client.Pipeline()
	}
	_ = pipe.BatchProcess(ctx, health, mget)
	_, err := pipe.Exec(ctx) // which leaves it empty
	l.client.pipes.Put(pipe)
	switch answer := health.Err(); {
	case err == nil, mget.Err() == nil && redis.HasErrorPrefix(answer, "WRONGTYPE"):
		return mget.Val(), nil
	case answer != nil && isAnswer(answer):
		return nil, refusal("read", b.prefix, answer)
	default:
		return nil, failure("read", err) // which is also that of a connection that was not made
	}
}

// mint reads all of ids again, so that what an argument depends on is read at one moment.
func (b *Redis) mint(ctx context.Context, l *redisSession, ids []ID) (Snapshot, error) {
	reply, err := mintScript.Run(ctx, l.client, b.withClock(ids), b.floor(), b.ttl.Milliseconds()).Slice()
	if err != nil {
		return Snapshot{}, failure("mint", err)
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
	return b.do(ctx, func(l *redisSession) error {
		return failure("fence", fenceScript.Run(ctx, l.client, b.list(ids), string(owner), lease.Microseconds(), b.owners).Err())
	})
}

// Publish is part of Backend.
func (b *Redis) Publish(ctx context.Context, owner Owner, ids []ID) (stamp Stamp, err error) {
	err = b.do(ctx, func(l *redisSession) error {
		reply, err := publishScript.Run(ctx, l.client, b.withClock(ids), string(owner), b.floor(), b.ttl.Milliseconds()).Result()
		if err != nil {
			return failure("publish", err)
		}
		var ok bool
		if stamp, ok = stampOf(reply); !ok {
			return fmt.Errorf("alkey: Redis publish: reply %q not understood", reply)
		}
		b.see(stamp)
		return nil
	})
	return stamp, err
}

// Release is part of Backend.
func (b *Redis) Release(ctx context.Context, owner Owner, ids []ID) error {
	return b.do(ctx, func(l *redisSession) error {
		return failure("release", releaseScript.Run(ctx, l.client, b.list(ids), string(owner), b.ttl.Milliseconds()).Err())
	})
}

// do runs an operation that writes, until it has run within one epoch.
func (b *Redis) do(ctx context.Context, op func(*redisSession) error) error {
	for range maxAttempts {
		l, err := b.enter()
		if err != nil {
			return err
		}
		again, err := b.settle(ctx, l, op(l))
		if !again {
			return err
		}
	}
	return errUnsettled
}

// floor is the largest stamp seen before a command is sent: a clock behind it was lost.
func (b *Redis) floor() int64 {
	if b.off.has(ruleIdentity) {
		return 0
	}
	return b.seen.Load()
}

// Restore is part of Restorer.
func (b *Redis) Restore(ctx context.Context, since Stamp) (Stamp, error) {
	l, err := b.enter()
	if err != nil {
		return 0, err
	}
	defer b.leave(l)
	if since == 0 && b.hidden.Load() {
		since = b.swept()
	}
	if since == 0 {
		return b.identify(ctx, l.client, "")
	}
	return b.identify(ctx, l.client, strconv.FormatInt(int64(since), 10))
}

// Close is part of Backend. A client that the options gave stays open.
func (b *Redis) Close() error { return b.close() }

// failure says which operation failed; nil stays nil. go-redis puts no password into its errors.
func failure(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redis.ErrClosed):
		return ErrClosed
	case errors.Is(err, redis.Nil):
		return errLost
	case refused(err):
		return fmt.Errorf("%w: Redis %s: %w", ErrRefused, op, err)
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
	if stamp, ok := parseStamp(s); ok {
		return stamp, nil, true
	}
	head, rest, fenced := strings.Cut(s, "!")
	stamp, ok := parseStamp(head)
	if !ok || !fenced {
		return 0, nil, false
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
