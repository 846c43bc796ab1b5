package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxBatch and maxBatchBytes bound what is sent at once. A server must be able to take that within
	// the Timeout of a call, else it would count as one that does not answer.
	maxBatch      = 256
	maxBatchBytes = 1 << 20
)

// SetMany is part of Batcher: one round trip for 256 values or 1 MiB. Each may take the Timeout, and when
// that has passed since the call no further one begins: what is left is not stored, and the error says so.
func (r *Redis) SetMany(ctx context.Context, items []Item) error {
	if err := r.check(ctx); err != nil {
		return err
	}
	deadline := time.Now().Add(r.options.Timeout)
	var failed error
	for rest := items; len(rest) > 0; {
		if len(rest) < len(items) && !time.Now().Before(deadline) {
			return fmt.Errorf("alkey: %d of %d values are not stored: it takes too long", len(rest), len(items))
		}
		var err error
		var fatal bool
		if rest, fatal, err = r.setSome(ctx, rest); failed == nil {
			failed = err
		}
		if fatal {
			break
		}
	}
	return failed
}

// setSome stores as many items as are sent at once, and returns the rest. Fatal says that trying the
// rest would be in vain.
func (r *Redis) setSome(ctx context.Context, items []Item) (rest []Item, fatal bool, err error) {
	n, size := 0, 0
	for n < len(items) && n < maxBatch && (n == 0 || size+len(items[n].Value) <= maxBatchBytes) {
		size += len(items[n].Value)
		n++
	}
	items, rest = items[:n], items[n:]
	keys := make([]string, n)
	for i := range items {
		keys[i] = items[i].Key
	}
	names := r.names(keys)
	var failed error
	var at []int // where the names stand in items; nil: they are all
	if r.outage.any() {
		if names, at, err = r.outage.reachable(r, names); err != nil {
			return rest, true, err
		}
		if len(names) < n {
			failed = errNode
		}
	}
	cmds := make([]redis.Cmder, 0, len(names))
	sent := make([]string, 0, len(names))
	for i, name := range names {
		item := &items[i]
		if at != nil {
			item = &items[at[i]]
		}
		args, err := r.setting(name, item.Value, item.TTL)
		if err != nil {
			failed = err
			continue
		}
		cmds, sent = append(cmds, redis.NewCmd(ctx, args...)), append(sent, name)
	}
	if len(cmds) == 0 {
		return rest, false, failed
	}
	got, err := within(ctx, r, r.options.Timeout, func(ctx context.Context) outcomes { return r.send(ctx, cmds, sent) })
	switch {
	case err != nil:
		return rest, true, r.failed(ctx, err, sent)
	case got.failed != nil:
		failed = r.failed(ctx, got.err, got.failed)
		if fatal = len(got.failed) == len(sent); fatal {
			return rest, true, failed
		}
	case got.refused != nil:
		failed = r.refused(got.refused)
	}
	r.outage.answer()
	return rest, false, failed
}

// outcomes is what came of several commands.
type outcomes struct {
	refused error    // that the server gave to some
	failed  []string // names
	err     error    // of one that failed
}

// send runs the commands with one round trip for each server. Names are theirs.
func (r *Redis) send(ctx context.Context, cmds []redis.Cmder, names []string) (got outcomes) {
	var whole error
	if len(cmds) == 1 {
		whole = r.client.Process(ctx, cmds[0])
	} else {
		pipe := r.client.Pipeline()
		for _, cmd := range cmds {
			_ = pipe.Process(ctx, cmd)
		}
		_, whole = pipe.Exec(ctx)
	}
	for i, cmd := range cmds {
		err := cmd.Err()
		if err == nil {
			continue
		}
		if _, refused := errors.AsType[redis.Error](err); refused {
			got.refused = err
		} else {
			got.failed, got.err = append(got.failed, names[i]), err
		}
	}
	if whole != nil && got.refused == nil && got.failed == nil {
		got.failed, got.err = names, whole // a hook of the client has kept them from being sent
	}
	return got
}
