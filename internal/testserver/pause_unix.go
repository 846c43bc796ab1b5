//go:build unix

package testserver

import "syscall"

// Pause stops the process without closing its connections, until Resume: a server that hangs.
// Where the system cannot do that the test is skipped.
func (s *RedisServer) Pause() { s.t.Helper(); s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *RedisServer) Resume() { s.t.Helper(); s.signal(syscall.SIGCONT) }

func (s *RedisServer) signal(sig syscall.Signal) {
	s.t.Helper()
	if s.Pid() == 0 {
		s.t.Fatalf("redis-server is stopped")
	}
	if err := s.process.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("redis-server: %v", err)
	}
}
