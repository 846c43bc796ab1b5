package testserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(t *testing.T, s *testserver.RedisServer) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(opts)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRedisStartsAndStops(t *testing.T) {
	var pid int
	t.Run("one test", func(t *testing.T) {
		a, b := testserver.Redis(t), testserver.Redis(t, "--maxmemory", "10mb")
		if a.Addr() == b.Addr() {
			t.Fatalf("two servers on %s", a.Addr())
		}
		pid = a.Pid()
		ca, cb := client(t, a), client(t, b)
		if err := ca.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if got, err := cb.Exists(t.Context(), "k").Result(); err != nil || got != 0 {
			t.Fatalf("the servers share their data: %d, %v", got, err)
		}
		if got, err := cb.ConfigGet(t.Context(), "maxmemory").Result(); err != nil || got["maxmemory"] != "10485760" {
			t.Fatalf("the option is not set: %v, %v", got, err)
		}
	})
	if pid == 0 {
		t.Skip("no server")
	}
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Signal(syscall.Signal(0)) // asks whether the process is there
	}
	if err == nil {
		t.Errorf("the server %d outlived its test", pid)
	}
}

func TestRedisRestarts(t *testing.T) {
	s := testserver.Redis(t)
	c := client(t, s)
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	before, addr := s.Pid(), s.Addr()
	s.Stop()
	s.Stop()
	if s.Pid() != 0 {
		t.Errorf("a stopped server has pid %d", s.Pid())
	}
	if err := c.Get(t.Context(), "k").Err(); err == nil {
		t.Error("a stopped server answers")
	}
	s.Restart()
	if s.Pid() == before || s.Addr() != addr {
		t.Errorf("restarted as %d on %s, was %d on %s", s.Pid(), s.Addr(), before, addr)
	}
	if err := c.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("after a restart: %v", err)
	}
	s.Pause()
	s.Resume()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Errorf("after a pause: %v", err)
	}
}

// A server with TLS is trusted through its own authority only, and speaks nothing else.
func TestRedisTLS(t *testing.T) {
	s := testserver.RedisTLS(t)
	opts, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	if opts.TLSConfig == nil {
		t.Fatalf("%s is not a URL for TLS", s.URL())
	}
	trusting := s.TLS()
	for name, test := range map[string]struct {
		tls *tls.Config
		ok  bool
	}{
		"its authority":      {trusting, true},
		"the system's roots": {opts.TLSConfig, false},
		"no TLS":             {nil, false},
	} {
		c := redis.NewClient(&redis.Options{Addr: s.Addr(), TLSConfig: test.tls, MaxRetries: -1})
		if err := c.Ping(t.Context()).Err(); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
		_ = c.Close()
	}
	pem, err := os.ReadFile(s.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) || !roots.Equal(trusting.RootCAs) {
		t.Errorf("%s does not hold the authority's certificate", s.CAFile())
	}
}

// fake notes how a test ended.
type fake struct {
	testserver.T
	ended string
}

func (f *fake) Fatalf(format string, args ...any) {
	f.ended = "failed: " + fmt.Sprintf(format, args...)
	panic(f)
}

func (f *fake) Skipf(format string, args ...any) {
	f.ended = "skipped: " + fmt.Sprintf(format, args...)
	panic(f)
}

func TestMissing(t *testing.T) {
	for env, want := range map[string]string{"": "skipped", "0": "skipped", "1": "failed"} {
		t.Run("required="+env, func(t *testing.T) {
			t.Setenv("PATH", t.TempDir())
			t.Setenv(testserver.RequireEnv, env)
			f := &fake{T: t}
			func() {
				defer func() {
					if r := recover(); r != f {
						t.Errorf("a server was started without a program: %v", r)
					}
				}()
				testserver.Redis(f)
			}()
			if !strings.HasPrefix(f.ended, want) || !strings.Contains(f.ended, "redis-server") {
				t.Errorf("the test was %q, want %s", f.ended, want)
			}
		})
	}
}

func TestRedisThatDoesNotStart(t *testing.T) {
	t.Run("start", func(t *testing.T) {
		testserver.Redis(t) // skips where there is none
		f := &fake{T: t}
		func() {
			defer func() { _ = recover() }()
			testserver.Redis(f, "--no-such-option", "1")
		}()
		if !strings.HasPrefix(f.ended, "failed") || !strings.Contains(f.ended, "no-such-option") {
			t.Errorf("the test was %q", f.ended)
		}
	})
}
