package tokens_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/internal/testsecrets"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
)

const password = testsecrets.Word + ":pa/ss"

// environment sets the variables of FromEnv; those that are not named are not set.
func environment(t *testing.T, vars map[string]string) {
	t.Helper()
	for _, name := range []string{"REDIS_URL", "REDIS_DB", "REDIS_MAX_CONNECTIONS"} {
		t.Setenv(name, vars[name])
	}
}

// logged returns what is logged by default while fn runs.
func logged(t *testing.T, fn func()) string {
	t.Helper()
	var b bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&b, nil)))
	defer slog.SetDefault(before)
	fn()
	return b.String()
}

func TestFromEnvRefusesWrongValues(t *testing.T) {
	for name, test := range map[string]struct {
		vars  map[string]string
		names string
	}{
		"no scheme":             {map[string]string{"REDIS_URL": "user:" + password + "@localhost"}, "REDIS_URL"},
		"other scheme":          {map[string]string{"REDIS_URL": "http://user:" + password + "@localhost"}, "REDIS_URL"},
		"password not coded":    {map[string]string{"REDIS_URL": "redis://user:" + password + "@localhost:1"}, "REDIS_URL"},
		"password as port":      {map[string]string{"REDIS_URL": "redis://localhost:" + password}, "REDIS_URL"},
		"control character":     {map[string]string{"REDIS_URL": "redis://:s3cr3t\x7f@localhost"}, "REDIS_URL"},
		"database":              {map[string]string{"REDIS_URL": "redis://:s3cr3t@localhost/users"}, "REDIS_URL"},
		"parameter":             {map[string]string{"REDIS_URL": "redis://:s3cr3t@localhost?password=s3cr3t"}, "REDIS_URL"},
		"parameter of Sentinel": {map[string]string{"REDIS_URL": "redis://:s3cr3t@localhost?master_name=m&password=s3cr3t&max_retries=few"}, "REDIS_URL"},
		"unknown to Sentinel":   {map[string]string{"REDIS_URL": "redis://:s3cr3t@localhost?master_name=m&secret=s3cr3t"}, "REDIS_URL"},
		"no master":             {map[string]string{"REDIS_URL": "redis://:s3cr3t@localhost?master_name="}, "master_name"},
		"replicas of Sentinel":  {map[string]string{"REDIS_URL": "redis://:s3cr3t@localhost?master_name=m&replica_only=true"}, "REDIS_URL"},
		"unknown to a cluster":  {map[string]string{"REDIS_URL": "redis://:s3cr3t@localhost?addr=a:1&password=s3cr3t"}, "REDIS_URL"},
		"address":               {map[string]string{"REDIS_URL": "redis://:s3cr3t@localhost?addr=user:s3cr3t@b"}, "REDIS_URL"},
		"replicas of a cluster": {map[string]string{"REDIS_URL": "redis://:s3cr3t@localhost?addr=a:1&read_only=true"}, "REDIS_URL"},
		"database of a cluster": {map[string]string{"REDIS_URL": "redis://:s3cr3t@localhost?addr=a:1", "REDIS_DB": "1"}, "REDIS_DB"},
		"REDIS_DB":              {map[string]string{"REDIS_URL": "redis://:s3cr3t@localhost", "REDIS_DB": "one"}, "REDIS_DB"},
		"URL as REDIS_DB":       {map[string]string{"REDIS_DB": "redis://:s3cr3t@localhost"}, "REDIS_DB"},
		"REDIS_DB below 0":      {map[string]string{"REDIS_DB": "-1"}, "REDIS_DB"},
		"no connections":        {map[string]string{"REDIS_URL": "redis://localhost", "REDIS_MAX_CONNECTIONS": "0"}, "REDIS_MAX_CONNECTIONS"},
		"connections":           {map[string]string{"REDIS_MAX_CONNECTIONS": "10 or so"}, "REDIS_MAX_CONNECTIONS"},
	} {
		t.Run(name, func(t *testing.T) {
			environment(t, test.vars)
			s, err := tokens.FromEnv(t.Context())
			if err == nil {
				_ = s.Close()
				t.Fatal("no error")
			}
			if !errors.Is(err, tokens.ErrOptions) || !strings.Contains(err.Error(), test.names) {
				t.Errorf("the error does not name %s: %v", test.names, err)
			}
			for _, secret := range []string{"s3cr3t", "pa/ss", "user:"} {
				if strings.Contains(strings.ReplaceAll(err.Error(), "[user:password@]", ""), secret) {
					t.Errorf("the error shows %q: %v", secret, err)
				}
			}
		})
	}
}

func TestFromEnvWithoutRedis(t *testing.T) {
	environment(t, nil)
	var s *tokens.Store
	log := logged(t, func() {
		var err error
		if s, err = tokens.FromEnv(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	defer s.Close()
	if !s.InProcess() {
		t.Error("the store is not in process")
	}
	if !strings.Contains(log, "level=WARN") || !strings.Contains(log, "REDIS_URL") {
		t.Errorf("no warning: %q", log)
	}
}

func TestFromEnvConnects(t *testing.T) {
	server := testserver.Redis(t, "--requirepass", "s3cr3t")
	plain := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: "s3cr3t", DB: 3})
	defer plain.Close()
	environment(t, map[string]string{
		"REDIS_URL":             "redis://:s3cr3t@" + server.Addr() + "/5",
		"REDIS_DB":              "3",
		"REDIS_MAX_CONNECTIONS": "2",
	})
	s, err := tokens.FromEnv(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tokenstest.Ready(t, s)
	stamp, err := tokens.Get(t.Context(), s, "alkey:users#1")
	if err != nil {
		t.Fatal(err)
	}
	if s.InProcess() {
		t.Error("the store is in process")
	}
	if got, err := plain.Get(t.Context(), "alkey.cache.TOKENS:alkey:users#1").Int64(); err != nil || tokens.Stamp(got) != stamp {
		t.Errorf("database 3 has the stamp %d, %v; the store %d", got, err, stamp)
	}
	done := make(chan error)
	for range 20 {
		go func() {
			_, err := tokens.Get(context.Background(), s, "alkey:users#1")
			done <- err
		}()
	}
	for range 20 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	clients, err := plain.ClientList(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(clients, "addr=") - strings.Count(clients, "laddr="); n > 3 {
		t.Errorf("%d connections, one of which is the test's; at most 2 were allowed", n)
	}
}

// A server that does not answer, or not to this password, is a warning: the application starts, and
// its requests go uncached until the server is there.
func TestUnreachableServerIsAWarning(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	_ = l.Close()
	guarded := testserver.Redis(t, "--requirepass", "another")
	for name, addr := range map[string]string{"nobody there": nobody, "wrong password": guarded.Addr()} {
		t.Run(name, func(t *testing.T) {
			environment(t, map[string]string{"REDIS_URL": "redis://user:s3cr3t@" + addr})
			var s *tokens.Store
			log := logged(t, func() {
				var err error
				if s, err = tokens.FromEnv(t.Context()); err != nil {
					t.Fatal(err)
				}
			})
			defer s.Close()
			if !strings.Contains(log, "level=WARN") || strings.Contains(log, "s3cr3t") {
				t.Errorf("the warning is %q", log)
			}
			if _, err := tokens.Get(t.Context(), s, "alkey:users#1"); !errors.Is(err, tokens.ErrDown) {
				t.Errorf("a key gives %v, not that the store is down", err)
			}
		})
	}
}

func TestRedisOptionsAreChecked(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "localhost:1"})
	defer client.Close()
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "localhost:1"}})
	defer ring.Close()
	universal := func(o redis.UniversalOptions) tokens.RedisOptions { return tokens.RedisOptions{UniversalOptions: o} }
	for name, opts := range map[string]tokens.RedisOptions{
		"nothing":     {},
		"a ring":      {Client: ring},
		"replicas":    universal(redis.UniversalOptions{Addrs: []string{"a:1"}, ReadOnly: true}),
		"the nearest": universal(redis.UniversalOptions{Addrs: []string{"a:1"}, RouteByLatency: true}),
		"any":         universal(redis.UniversalOptions{Addrs: []string{"a:1"}, MasterName: "m", RouteRandomly: true}),
		"TTL":         {Client: client, TTL: 1},
		"owners":      {Client: client, MaxOwners: -1},
	} {
		if s, err := tokens.NewRedis(t.Context(), opts); !errors.Is(err, tokens.ErrOptions) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
}

// A server that has forgotten the scripts, as after SCRIPT FLUSH or a restart, gets them again.
func TestScriptsAreLoadedAgain(t *testing.T) {
	server := testserver.Redis(t)
	b, client := redisBackend(t, server.Addr(), "")
	ids := []tokens.ID{tokens.Row("users", 1)}
	for range 2 {
		if err := client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Read(t.Context(), ids); err != nil {
			t.Error(err)
		}
		if err := b.Fence(t.Context(), "w", ids, 1e9); err != nil {
			t.Error(err)
		}
		if _, err := b.Publish(t.Context(), "w", ids); err != nil {
			t.Error(err)
		}
		if err := b.Release(t.Context(), "w", ids); err != nil {
			t.Error(err)
		}
	}
}

// A client that the application has already lends its options, and is left open.
func TestClientOfTheApplication(t *testing.T) {
	server := testserver.Redis(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()}) // go-redis's defaults
	defer client.Close()
	s, err := tokens.NewRedis(t.Context(), tokens.RedisOptions{Client: client, Prefix: "mine:"})
	if err != nil {
		t.Fatal(err)
	}
	tokenstest.Ready(t, s)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n, err := client.Exists(t.Context(), "mine:alkey:*#*").Result(); err != nil || n != 1 {
		t.Errorf("the client gives %d, %v", n, err)
	}
}
