package testserver_test

import (
	"testing"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/redis/go-redis/v9"
)

func TestSentinel(t *testing.T) {
	for name, replace := range map[string]func(*testserver.SentinelServer){
		"asked": (*testserver.SentinelServer).Failover,
		"the master is gone": func(s *testserver.SentinelServer) {
			master := s.Master()
			master.Stop()
			s.Await(master)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := testserver.Sentinel(t, testserver.Redis(t))
			client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: testserver.SentinelName, SentinelAddrs: []string{s.Addr()}})
			t.Cleanup(func() { _ = client.Close() })
			first, second := s.Master(), s.Replica()
			if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			replace(s)
			if s.Master() != second || s.Replica() != first {
				t.Fatalf("the master is %s, it was %s", s.Master().Addr(), first.Addr())
			}
			if got, err := client.Get(t.Context(), "k").Result(); err != nil || got != "v" {
				t.Errorf("the new master knows %q: %v", got, err)
			}
		})
	}
}
