package tokens_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
)

// asUser lets only the user "app" in, and him only to the keys of tokens.
var asUser = []string{"--user", "default", "off", "--user", "app", "on", ">" + password, "~alkey.cache.TOKENS:*", "+@all"}

var app = url.UserPassword("app", password)

// getFromEnv returns the stamp of a key from the store that the environment names.
func getFromEnv(t *testing.T) tokens.Stamp {
	t.Helper()
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
	return stamp
}

// stored returns the stamp that the server keeps.
func stored(t *testing.T, server *testserver.RedisServer) tokens.Stamp {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), Username: "app", Password: password, TLSConfig: server.TLS()})
	defer client.Close()
	stamp, err := client.Get(t.Context(), "alkey.cache.TOKENS:alkey:users#1").Int64()
	if err != nil {
		t.Fatal(err)
	}
	return tokens.Stamp(stamp)
}

func TestFromEnvAsNamedUser(t *testing.T) {
	server := testserver.Redis(t, asUser...)
	environment(t, map[string]string{"REDIS_URL": server.URLFor(app) + "/0"})
	if got, want := getFromEnv(t), stored(t, server); got != want {
		t.Errorf("the store gives the stamp %d, the server has %d", got, want)
	}
	wrong(t, server.URLFor(url.UserPassword("app", "another")), "WRONGPASS")
	wrong(t, server.URLFor(url.UserPassword("", password)), "WRONGPASS") // the user "default", who is off
}

// What FromEnv trusts is what the system trusts, and a process reads that once: the store is made in
// a process of its own, to which the test server's authority is the system's.
func TestFromEnvOverTLS(t *testing.T) {
	const child = "ALKEY_TEST_TLS_CHILD"
	if os.Getenv(child) != "" {
		fmt.Printf("stamp %d\n", getFromEnv(t))
		return
	}
	server := testserver.RedisTLS(t, asUser...)
	environment(t, map[string]string{"REDIS_URL": server.URLFor(app) + "/0"})

	t.Run("trusted", func(t *testing.T) {
		if runtime.GOOS != "linux" {
			t.Skip("SSL_CERT_FILE is not read on this system")
		}
		program, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestFromEnvOverTLS$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1", "SSL_CERT_FILE="+server.CAFile())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if want := fmt.Sprintf("stamp %d\n", stored(t, server)); !bytes.Contains(out, []byte(want)) {
			t.Errorf("the server has %sthe process says:\n%s", want, out)
		}
		if bytes.Contains(out, []byte(password)) {
			t.Errorf("the password is shown:\n%s", out)
		}
	})
	t.Run("not trusted", func(t *testing.T) {
		wrong(t, server.URLFor(app), "does not answer") // go-redis dials until the deadline, and says no more
	})
	t.Run("options", func(t *testing.T) {
		opts := tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{
			Addrs: []string{server.Addr()}, Username: "app", Password: password, TLSConfig: server.TLS(),
		}}
		s, err := tokens.NewRedis(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		tokenstest.Ready(t, s)
		if stamp, err := tokens.Get(t.Context(), s, "alkey:users#1"); err != nil || stamp != stored(t, server) {
			t.Errorf("the store gives the stamp %d, %v", stamp, err)
		}
	})
}

// wrong makes a store of a URL that the server refuses for a reason, which a warning names.
func wrong(t *testing.T, address, reason string) {
	t.Helper()
	environment(t, map[string]string{"REDIS_URL": address})
	var s *tokens.Store
	log := logged(t, func() {
		var err error
		if s, err = tokens.FromEnv(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	defer s.Close()
	if !strings.Contains(log, "level=WARN") || !strings.Contains(log, reason) {
		t.Errorf("the warning does not say %s: %q", reason, log)
	}
	for _, secret := range []string{password, url.QueryEscape(password), "another"} {
		if strings.Contains(log, secret) {
			t.Errorf("the warning shows the password: %q", log)
		}
	}
	if _, err := tokens.Get(t.Context(), s, "alkey:users#1"); !errors.Is(err, tokens.ErrDown) {
		t.Errorf("a key gives %v, not that the store is down", err)
	}
}
