package testserver

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// SentinelServer is a redis-server that watches a master and its replica, for one test. Its methods are for
// one goroutine.
type SentinelServer struct {
	t       T
	port    int
	config  string
	process process
	client  *redis.SentinelClient
	servers [2]*RedisServer
}

// SentinelName is the name under which a SentinelServer knows its master.
const SentinelName = "alkey"

// Sentinel starts a replica of master, and one Sentinel that watches the two, decides alone, and takes a
// server for failed that does not answer for half a second. It returns when Sentinel knows the replica,
// and the replica has all the master's data. Both are stopped at the test's end.
func Sentinel(t T, master *RedisServer) *SentinelServer {
	t.Helper()
	host, port := hostPort(master.Addr())
	replica := Redis(t, "--replicaof", host+" "+port)
	s := &SentinelServer{t: t, config: filepath.Join(t.TempDir(), "sentinel.conf"), servers: [2]*RedisServer{master, replica}}
	t.Cleanup(s.process.kill)
	err := onFreePort(func(own int) error {
		s.port = own
		text := fmt.Sprintf("bind 127.0.0.1\nport %d\ndir %s\nsentinel monitor %[3]s %s %s 1\n"+
			"sentinel down-after-milliseconds %[3]s 500\nsentinel failover-timeout %[3]s 2000\n",
			own, filepath.Dir(s.config), SentinelName, host, port)
		if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
			return err
		}
		return s.process.start(exec.Command("redis-server", s.config, "--sentinel"), func() error { return ping(s.Addr(), nil) })
	})
	if err != nil {
		t.Fatalf("sentinel: %v", err)
	}
	s.client = redis.NewSentinelClient(&redis.Options{Addr: s.Addr()})
	t.Cleanup(func() { _ = s.client.Close() })
	s.await(s.ready)
	return s
}

// ready says what is missing before the replica could take over.
func (s *SentinelServer) ready(ctx context.Context) error {
	replicas, err := s.client.Replicas(ctx, SentinelName).Result()
	if err != nil {
		return err
	}
	for _, r := range replicas {
		if r["master-link-status"] == "ok" && r["flags"] == "slave" {
			return nil
		}
	}
	return fmt.Errorf("no replica is ready: %v", replicas)
}

func (s *SentinelServer) await(so func(context.Context) error) {
	s.t.Helper()
	ctx, cancel := limited()
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := so(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("sentinel: not within %v: %v", startLimit, err)
		case <-tick.C:
		}
	}
}

// Addr returns host and port of Sentinel itself.
func (s *SentinelServer) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Master returns the server that Sentinel takes for the master.
func (s *SentinelServer) Master() *RedisServer {
	s.t.Helper()
	ctx, cancel := limited()
	defer cancel()
	addr, err := s.master(ctx)
	if err != nil {
		s.t.Fatalf("sentinel: %v", err)
	}
	for _, server := range s.servers {
		if server.Addr() == addr {
			return server
		}
	}
	s.t.Fatalf("sentinel: %s is the master", addr)
	return nil
}

func (s *SentinelServer) master(ctx context.Context) (string, error) {
	addr, err := s.client.GetMasterAddrByName(ctx, SentinelName).Result()
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(addr[0], addr[1]), nil
}

// Replica returns the other one.
func (s *SentinelServer) Replica() *RedisServer {
	s.t.Helper()
	if s.Master() == s.servers[0] {
		return s.servers[1]
	}
	return s.servers[0]
}

// Failover makes the replica the master, as Sentinel does when the master does not answer, and waits until it is.
// Sentinel takes a few seconds more to make the old master its replica.
func (s *SentinelServer) Failover() {
	s.t.Helper()
	old := s.Master()
	s.await(func(ctx context.Context) error { return s.client.Failover(ctx, SentinelName).Err() })
	s.Await(old)
}

// Await waits until Sentinel names another master than old.
func (s *SentinelServer) Await(old *RedisServer) {
	s.t.Helper()
	s.await(func(ctx context.Context) error {
		addr, err := s.master(ctx)
		if err == nil && addr == old.Addr() {
			err = fmt.Errorf("%s is still the master", addr)
		}
		return err
	})
}
