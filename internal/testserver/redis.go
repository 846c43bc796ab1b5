// Package testserver starts real servers for tests and stops them.
package testserver

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// T is what starting a server needs of a test: *testing.T, *testing.B and *rapid.T have it, and a
// TestMain can bring its own.
type T interface {
	Helper()
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Cleanup(func())
	TempDir() string
}

// RequireEnv names the environment variable that, set to 1, makes a missing server an error.
const RequireEnv = "ALKEY_REQUIRE_SERVERS"

// Missing ends a test whose server is not installed: it is skipped, or fails where RequireEnv says
// that servers must be there.
func Missing(t T, what string) {
	t.Helper()
	if os.Getenv(RequireEnv) == "1" {
		t.Fatalf("%s is not installed, and %s=1", what, RequireEnv)
	}
	t.Skipf("%s is not installed", what)
}

// RedisServer is a redis-server of its own for one test. Its methods are for one goroutine.
type RedisServer struct {
	t    T
	port int
	dir  string
	args []string
	tls  *tls.Config // nil: the port speaks no TLS

	process process
}

// Redis starts a redis-server on a free port, which keeps nothing on disk unless args say so
// (options as on the command line, "--appendonly", "yes"). It is stopped at the test's end.
// Without redis-server on the PATH it calls Missing.
func Redis(t T, args ...string) *RedisServer {
	t.Helper()
	return launch(t, &RedisServer{t: t, args: args})
}

// RedisTLS is Redis with a port that speaks TLS only, with a certificate for 127.0.0.1 of an authority
// of its own: CAFile. Where redis-server was built without TLS it calls Missing.
func RedisTLS(t T, args ...string) *RedisServer {
	t.Helper()
	return launch(t, &RedisServer{t: t, args: args, tls: new(tls.Config)})
}

func launch(t T, s *RedisServer) *RedisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		Missing(t, "redis-server")
	}
	s.dir = t.TempDir()
	if s.tls != nil {
		roots, err := certify(s.dir)
		if err != nil {
			t.Fatalf("redis-server: %v", err)
		}
		s.tls.RootCAs = roots
	}
	t.Cleanup(s.Stop)
	err := onFreePort(func(port int) error {
		s.port = port
		err := s.start()
		if err != nil && s.tls != nil && strings.Contains(err.Error(), ">>> '\"tls-port\"") {
			Missing(t, "a redis-server that was built with TLS")
		}
		return err
	})
	if err != nil {
		t.Fatalf("redis-server: %v", err)
	}
	return s
}

// Addr returns host and port.
func (s *RedisServer) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// URL returns the address as REDIS_URL takes it.
func (s *RedisServer) URL() string { return s.URLFor(nil) }

// URLFor returns URL with a user's name and password.
func (s *RedisServer) URLFor(user *url.Userinfo) string {
	u := url.URL{Scheme: "redis", User: user, Host: s.Addr()}
	if s.tls != nil {
		u.Scheme = "rediss"
	}
	return u.String()
}

// TLS returns what a client needs to trust the server of RedisTLS, nil for a server of Redis.
func (s *RedisServer) TLS() *tls.Config { return s.tls.Clone() }

// CAFile returns the path of the authority's certificate of a server of RedisTLS, in PEM.
func (s *RedisServer) CAFile() string { return filepath.Join(s.dir, caFile) }

// Pid returns the process id, 0 while the server is stopped.
func (s *RedisServer) Pid() int { return s.process.pid() }

// Stop kills the server and waits until it is gone. Calling it again does nothing.
func (s *RedisServer) Stop() { s.process.kill() }

// Restart starts the server again on the same port, after stopping it if it runs. Without
// persistence it comes back empty.
func (s *RedisServer) Restart() {
	s.t.Helper()
	s.Stop()
	if err := s.start(); err != nil {
		s.t.Fatalf("redis-server: %v", err)
	}
}

// start runs the server and returns when it answers.
func (s *RedisServer) start() error {
	args := []string{
		"--bind", "127.0.0.1", "--dir", s.dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no", "--pidfile", filepath.Join(s.dir, "redis.pid"),
	}
	if s.tls == nil {
		args = append(args, "--port", strconv.Itoa(s.port))
	} else {
		args = append(args, "--port", "0", "--tls-port", strconv.Itoa(s.port), "--tls-auth-clients", "no", "--tls-ca-cert-file", s.CAFile(),
			"--tls-cert-file", filepath.Join(s.dir, certFile), "--tls-key-file", filepath.Join(s.dir, keyFile))
	}
	return s.process.start(exec.Command("redis-server", append(args, s.args...)...), func() error { return ping(s.Addr(), s.tls) })
}

// ping waits for the answer that a server gives once it has loaded its data.
func ping(addr string, secure *tls.Config) error {
	dialer := &net.Dialer{Timeout: time.Second}
	var conn net.Conn
	var err error
	if secure == nil {
		conn, err = dialer.Dial("tcp", addr)
	} else {
		conn, err = tls.DialWithDialer(dialer, "tcp", addr, secure)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	// With a password set the server refuses, and so it is there.
	if line != "+PONG\r\n" && !bytes.HasPrefix([]byte(line), []byte("-NOAUTH")) {
		return errors.New(line)
	}
	return nil
}
