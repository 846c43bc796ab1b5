package tokens

import (
	"time"

	"github.com/redis/go-redis/v9"
)

// SetClusterGrace sets how long everything is fenced after a loss; 0 for not at all.
func SetClusterGrace(b Backend, d time.Duration) { b.(*redisCluster).grace = d }

// ClusterIdentityKey returns the key under which it is kept which nodes have been swept for.
func ClusterIdentityKey(b Backend) string { return b.(*redisCluster).who }

// ClusterClients returns how many clients are open, one for each epoch that operations are still in.
func ClusterClients(b Backend) int {
	c := b.(*redisCluster)
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// RawCluster returns options as they were before a client was made with them.
func RawCluster(o *redis.ClusterOptions) *redis.ClusterOptions { return rawCluster(o) }
