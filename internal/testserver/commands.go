package testserver

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Commands is a hook of go-redis that notes what its client sends, except for what a new connection begins
// with: when the pool makes one is chance. Its zero value has noted nothing. Its methods can be called by
// several goroutines.
type Commands struct {
	mu   sync.Mutex
	sent [][]redis.Cmder
}

var _ redis.Hook = (*Commands)(nil)

// Take returns what was sent since it was called last. Each element is a round trip: a pipeline, or a command
// by itself. Its commands are for their names and arguments; one that is still under way has no result yet,
// and is about to be written to.
func (c *Commands) Take() [][]redis.Cmder {
	c.mu.Lock()
	defer c.mu.Unlock()
	sent := c.sent
	c.sent = nil
	return sent
}

// TakeNames is Take for the names of the commands, in lower case with spaces between them.
func (c *Commands) TakeNames() string {
	var names []string
	for _, cmd := range slices.Concat(c.Take()...) {
		names = append(names, cmd.Name())
	}
	return strings.Join(names, " ")
}

func (c *Commands) note(trip []redis.Cmder) {
	switch trip[0].Name() {
	case "hello", "auth", "select", "client":
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, trip)
}

// DialHook notes nothing.
func (c *Commands) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook notes a command.
func (c *Commands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.note([]redis.Cmder{cmd})
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook notes a pipeline.
func (c *Commands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.note(slices.Clone(cmds))
		return next(ctx, cmds)
	}
}
