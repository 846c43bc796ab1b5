package testserver_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/redis/go-redis/v9"
)

func clusterClient(t *testing.T, c *testserver.RedisClusterServer) *redis.ClusterClient {
	t.Helper()
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestRedisCluster(t *testing.T) {
	c := testserver.RedisCluster(t, 3)
	client, ctx := clusterClient(t, c), t.Context()
	owners := make(map[int]string) // a key of each
	for i := 0; len(owners) < 3; i++ {
		key := fmt.Sprint("k", i)
		if err := client.Set(ctx, key, key, 0).Err(); err != nil {
			t.Fatal(err)
		}
		owners[c.Owner(c.Slot(key))] = key
	}
	for node, key := range owners {
		if got, err := c.Client(node).Get(ctx, key).Result(); err != nil || got != key {
			t.Errorf("node %d has %q under %s: %v", node, got, key, err)
		}
	}

	// A slot moves with its keys, and is on its way in between.
	key := owners[0]
	slot := c.Slot(key)
	move := c.BeginMove(slot, 1)
	if err := c.Client(0).Get(ctx, key).Err(); err != nil {
		t.Errorf("before it moves the key is read with %v", err)
	}
	move.Keys()
	if err := c.Client(0).Get(ctx, key).Err(); err == nil || !strings.HasPrefix(err.Error(), "ASK ") {
		t.Errorf("after it has moved the key is read with %v", err)
	}
	move.End()
	if got := c.Owner(slot); got != 1 {
		t.Errorf("node %d has the slot", got)
	}
	if got, err := client.Get(ctx, key).Result(); err != nil || got != key {
		t.Errorf("%q under %s: %v", got, key, err)
	}
	c.Move(slot, 2)
	if got, err := c.Client(2).Get(ctx, key).Result(); err != nil || got != key {
		t.Errorf("%q under %s: %v", got, key, err)
	}

	// One node is emptied, or restarted, and others are not.
	c.Flush(2)
	if err := client.Get(ctx, key).Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("a flushed node answers %v", err)
	}
	c.Node(1).Restart()
	if got := c.Owner(slot); got != 2 {
		t.Errorf("node %d has the slot", got)
	}
}

func TestRedisClusterReplica(t *testing.T) {
	c := testserver.RedisCluster(t, 3)
	client, ctx := clusterClient(t, c), t.Context()
	key := "k"
	master := c.Owner(c.Slot(key))
	if err := client.Set(ctx, key, "before", 0).Err(); err != nil {
		t.Fatal(err)
	}
	replica := c.AddReplica(master)
	c.Lag(replica)
	if err := client.Set(ctx, key, "after", 0).Err(); err != nil {
		t.Fatal(err)
	}
	c.Node(master).Stop()
	c.Promote(replica)
	if got := c.Owner(c.Slot(key)); got != replica {
		t.Fatalf("node %d has the slot, not the replica %d", got, replica)
	}
	if got, err := c.Client(replica).Get(ctx, key).Result(); err != nil || got != "before" {
		t.Errorf("the promoted replica knows %q: %v", got, err)
	}
}
