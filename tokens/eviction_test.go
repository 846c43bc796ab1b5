package tokens_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
)

// TestEvictionIsWarnedOf: at the start, once, with the remedy; a server that does not tell its policy
// is not warned of, and serves as any other.
func TestEvictionIsWarnedOf(t *testing.T) {
	hide := func(command string) []string { return []string{"--rename-command", command, ""} }
	for _, c := range []struct {
		name string
		args []string
		warn string // what the warning names
	}{
		{"all keys", []string{"--maxmemory-policy", "allkeys-lru"}, "allkeys-lru"},
		{"all keys, by chance", []string{"--maxmemory-policy", "allkeys-random"}, "allkeys-random"},
		{"INFO is refused", append(hide("INFO"), "--maxmemory-policy", "allkeys-lfu"), "allkeys-lfu"},
		{"CONFIG is refused", append(hide("CONFIG"), "--maxmemory-policy", "allkeys-lfu"), "allkeys-lfu"},
		{"both are refused", append(append(hide("CONFIG"), hide("INFO")...), "--maxmemory-policy", "allkeys-lru"), ""},
		{"default", nil, ""},
		{"what has a time to live", []string{"--maxmemory-policy", "volatile-lru"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := testserver.Redis(t, c.args...).Addr()
			environment(t, map[string]string{"REDIS_URL": "redis://" + addr})
			for how, open := range map[string]func() (*tokens.Store, error){
				"FromEnv": func() (*tokens.Store, error) { return tokens.FromEnv(t.Context()) },
				"NewRedis": func() (*tokens.Store, error) {
					return tokens.NewRedis(t.Context(), tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{Addrs: []string{addr}}})
				},
			} {
				log := logged(t, func() {
					s, err := open()
					if err != nil {
						t.Fatal(err)
					}
					defer s.Close()
					for range 2 {
						if _, err := tokens.Get(t.Context(), s, "alkey:users#1"); err != nil && !errors.Is(err, tokens.ErrFenced) {
							t.Errorf("%s: %v", how, err)
						}
					}
				})
				policy := strings.Count(log, "maxmemory-policy=")
				if c.warn == "" {
					if policy != 0 {
						t.Errorf("%s: %s", how, log)
					}
					continue
				}
				if policy != 1 || !strings.Contains(log, "maxmemory-policy="+c.warn) || !strings.Contains(log, "noeviction") {
					t.Errorf("%s: the log says %q", how, log)
				}
			}
		})
	}
}
