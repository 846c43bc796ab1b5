package tokens_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
)

// TestSentinel: a Store that is made with Sentinel's address follows a fail-over, and no token of before is
// usable after it.
func TestSentinel(t *testing.T) {
	master := testserver.Redis(t)
	s := testserver.Sentinel(t, master)
	p := startProcess(t, tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{Addrs: []string{s.Addr()}, MasterName: testserver.SentinelName}},
		tokens.WithReadTimeout(time.Second), tokens.WithWriteTimeout(time.Second), tokens.WithLogger(slog.New(slog.DiscardHandler)))
	tokenstest.Ready(t, p.Store)
	old, epoch := p.get(t, row1), p.Epoch()
	s.Failover()
	p.follows(t, row1, old)
	if p.Epoch() == epoch {
		t.Error("the epoch goes on")
	}
	now := plain(t, s.Master().Addr())
	if n := now.Exists(t.Context(), recordPrefix+"alkey:users#1").Val(); n != 1 {
		t.Error("the new master has no record of the row")
	}
}

// follows waits until the process has found the new master: until then it goes on with the old one, which
// takes writes for some seconds more unless it wants replicas (min-replicas-to-write).
func (p *process) follows(t testing.TB, id tokens.ID, before tokens.Stamp) {
	t.Helper()
	var fenced bool
	eventually(t, "the token is new", func() bool {
		stamp, err := tokens.Get(t.Context(), p.Store, id)
		if err == nil && stamp < before {
			t.Fatalf("the token has stamp %d, and had %d", stamp, before)
		}
		fenced = fenced || errors.Is(err, tokens.ErrFenced)
		return err == nil && stamp > before
	})
	if !fenced {
		t.Error("everything was usable at once: nothing was fenced after the fail-over")
	}
}

// TestSentinelFromEnv: the URL names Sentinel, and user and password are its own.
func TestSentinelFromEnv(t *testing.T) {
	s := testserver.Sentinel(t, testserver.Redis(t))
	environment(t, map[string]string{"REDIS_URL": "redis://" + s.Addr() + "/3?master_name=" + testserver.SentinelName, "REDIS_DB": "2"})
	store, err := tokens.FromEnv(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	tokenstest.Ready(t, store)
	c := redis.NewClient(&redis.Options{Addr: s.Master().Addr(), DB: 2})
	defer c.Close()
	if n := c.Exists(t.Context(), recordPrefix+"clock").Val(); n != 1 {
		t.Error("the master's database 2 has no clock")
	}
}

// TestLentSentinelClient: the options of a client that follows Sentinel lead to the master too.
func TestLentSentinelClient(t *testing.T) {
	s := testserver.Sentinel(t, testserver.Redis(t))
	client := redis.NewFailoverClient(&redis.FailoverOptions{SentinelAddrs: []string{s.Addr()}, MasterName: testserver.SentinelName})
	defer client.Close()
	p := startProcess(t, tokens.RedisOptions{Client: client}, tokens.WithReadTimeout(time.Second), tokens.WithWriteTimeout(time.Second))
	tokenstest.Ready(t, p.Store)
	old := p.get(t, row1)
	s.Failover()
	p.follows(t, row1, old)
}
