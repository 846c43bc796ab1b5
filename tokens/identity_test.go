package tokens

import (
	"testing"

	"github.com/redis/go-redis/v9"
)

// TestSweepsThatConnectionsMeet: an epoch ends with each later sweep that a connection finds, once, and a
// connection that finds an earlier one has reached a server of before.
func TestSweepsThatConnectionsMeet(t *testing.T) {
	made, err := NewRedisBackend(RedisOptions{UniversalOptions: redis.UniversalOptions{Addrs: []string{"localhost:1"}}})
	if err != nil {
		t.Fatal(err)
	}
	b := made.(*Redis)
	for i, step := range []struct {
		swept Stamp
		good  bool
		epoch uint64
	}{{10, true, 1}, {10, true, 1}, {9, false, 1}, {11, true, 2}, {10, false, 2}, {11, true, 2}, {20, true, 3}} {
		if good := b.met(step.swept); good != step.good || b.Epoch() != step.epoch {
			t.Errorf("step %d: %t, epoch %d", i, good, b.Epoch())
		}
	}
	if n := len(b.open); n != 1 {
		t.Errorf("%d clients are open", n)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if !b.met(30) || b.Epoch() != 3 {
		t.Error("an epoch begins after Close")
	}
}
