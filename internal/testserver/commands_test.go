package testserver_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/internal/testserver"
)

// TestCommands: every command is noted once, in its order, and a pipeline is one round trip.
func TestCommands(t *testing.T) {
	c := client(t, testserver.Redis(t))
	ctx := t.Context()
	sent := new(testserver.Commands)
	c.AddHook(sent)
	_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, "a", 1, 0)
		p.Get(ctx, "a")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Del(ctx, "a").Err(); err != nil {
		t.Fatal(err)
	}
	trips := sent.Take()
	if len(trips) != 2 || len(trips[0]) != 2 || len(trips[1]) != 1 {
		t.Fatalf("the round trips are %v", trips)
	}
	if cmd := trips[0][0]; cmd.Name() != "set" || cmd.Args()[1] != "a" {
		t.Errorf("first %v is sent", cmd)
	}
	if names := sent.TakeNames(); names != "" {
		t.Errorf("what was taken is there again: %s", names)
	}
	if err := c.Exists(ctx, "a").Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(ctx, "a").Err(); err != redis.Nil {
		t.Fatal(err)
	}
	if names := sent.TakeNames(); names != "exists get" {
		t.Errorf("noted is %q", names)
	}
}
