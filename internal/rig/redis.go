//go:build linux

package rig

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisServer is a redis-server that can be killed and come back with what it had, with what it had
// some time ago, or with nothing. Its methods are for one goroutine.
type redisServer struct {
	dir    string
	port   int
	client *redis.Client // past the proxy
	daemon *daemon
	output *tail
	aof    bool
}

// settled is how long a server may take for what takes it milliseconds.
const settled = 20 * time.Second

func newRedisServer(dir string) (*redisServer, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	s := &redisServer{dir: dir}
	var err error
	for range 5 {
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
		if err = s.start(); err == nil {
			return s, nil
		}
		s.stop()
	}
	return nil, err
}

func (s *redisServer) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// start starts the server with what is in its folder.
func (s *redisServer) start() error {
	s.output = new(tail)
	aof := "no"
	if s.aof {
		aof = "yes"
	}
	cmd := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", strconv.Itoa(s.port), "--dir", s.dir,
		"--save", "", "--appendonly", aof, "--appendfsync", "everysec", "--daemonize", "no", "--pidfile", filepath.Join(s.dir, "redis.pid"),
		// A replica is wanted at once, and a master without replicas is one all the same.
		"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", "--repl-timeout", "5")
	cmd.Stdout, cmd.Stderr = s.output, s.output
	var err error
	if s.daemon, err = launch(cmd); err != nil {
		return err
	}
	s.client = redis.NewClient(&redis.Options{Addr: s.addr(), MaxRetries: -1, ContextTimeoutEnabled: true})
	err = until(settled, "redis-server", func() (bool, error) {
		if s.daemon.ended() {
			return false, fmt.Errorf("it has ended: %s", s.output)
		}
		err := s.do("PING")
		return err == nil, err
	})
	if err != nil {
		s.stop()
	}
	return err
}

// stop kills the server. Calling it again does nothing.
func (s *redisServer) stop() {
	if s.daemon == nil {
		return
	}
	s.daemon.kill()
	_ = s.client.Close()
	s.daemon = nil
}

// wipe removes what a server that is stopped has kept.
func (s *redisServer) wipe() error {
	s.aof = false
	if err := os.RemoveAll(filepath.Join(s.dir, "appendonlydir")); err != nil {
		return err
	}
	err := os.Remove(s.dump())
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

func (s *redisServer) dump() string { return filepath.Join(s.dir, "dump.rdb") }

// snapshot returns a copy of all data.
func (s *redisServer) snapshot() ([]byte, error) {
	if err := s.do("SAVE"); err != nil {
		return nil, err
	}
	return os.ReadFile(s.dump())
}

// restore makes a snapshot what a server that is stopped starts with.
func (s *redisServer) restore(snapshot []byte) error {
	return os.WriteFile(s.dump(), snapshot, 0o644)
}

// log turns the append-only file on, and returns when all data is in it.
func (s *redisServer) log() error {
	s.aof = true
	if err := s.do("CONFIG", "SET", "appendonly", "yes"); err != nil {
		return err
	}
	return until(settled, "append-only file", func() (bool, error) {
		info, err := s.info("persistence")
		return strings.Contains(info, "aof_rewrite_in_progress:0") && strings.Contains(info, "aof_rewrite_scheduled:0") &&
			strings.Contains(info, "aof_last_bgrewrite_status:ok"), err
	})
}

func (s *redisServer) do(args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return s.client.Do(ctx, args...).Err()
}

func (s *redisServer) info(section string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return s.client.Info(ctx, section).Result()
}

// follow makes the server a replica of the one at addr.
func (s *redisServer) follow(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	return s.do("REPLICAOF", host, port)
}

// promote makes a master of a replica.
func (s *redisServer) promote() error { return s.do("REPLICAOF", "NO", "ONE") }

// synced waits until a replica has all that its master had when it was asked.
func (s *redisServer) synced() error {
	return until(settled, "replica", func() (bool, error) {
		info, err := s.info("replication")
		return strings.Contains(info, "master_link_status:up") && strings.Contains(info, "master_sync_in_progress:0"), err
	})
}

// fill stores values until the server takes no more.
func (s *redisServer) fill() error {
	info, err := s.info("memory")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(info, "used_memory:")
	used, err := strconv.ParseInt(strings.TrimSpace(strings.SplitN(rest, "\r\n", 2)[0]), 10, 64)
	if err != nil {
		return err
	}
	if err := s.do("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", used+1<<20); err != nil {
		return err
	}
	for i := range 4096 {
		err := s.do("SET", fillerKey+strconv.Itoa(i), strings.Repeat("x", 16<<10))
		if redis.HasErrorPrefix(err, "OOM") {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("rig: the server does not get full")
}

// fillerKey begins the names of what fills a server.
const fillerKey = "rig.filler."

// empty makes room again.
func (s *redisServer) empty() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	keys, err := s.client.Keys(ctx, fillerKey+"*").Result()
	if err != nil {
		return err
	}
	if len(keys) > 0 {
		if err := s.client.Del(ctx, keys...).Err(); err != nil {
			return err
		}
	}
	return s.do("CONFIG", "SET", "maxmemory", "0")
}
