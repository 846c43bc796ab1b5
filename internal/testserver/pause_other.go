//go:build !unix

package testserver

// Pause skips the test: this system cannot stop a process and let it go on.
func (s *RedisServer) Pause() {
	s.t.Helper()
	s.t.Skipf("redis-server cannot be paused on this system")
}

// Resume ends a Pause, which there is none of.
func (s *RedisServer) Resume() {}
