package testserver

import (
	"fmt"
	"os"
	"sync"
)

// Shared is a server for all tests of a package, which each take a database of their own from it.
// The first test that asks starts it; the package keeps it in a variable and stops it in TestMain:
//
//	var postgres = testserver.Share(testserver.Postgres)
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(testserver.StopAfter(m, postgres)) }
//
//	func TestQuery(t *testing.T) {
//		dsn := postgres.Get(t).Database(t)
//
// Its methods can be called by several goroutines. A test that stops or kills a server wants one of
// its own.
type Shared[S any] struct {
	launch func(t T) S

	mu      sync.Mutex
	owner   *owner // nil: it was not started
	server  S
	failure string // why it does not start
}

// Share returns a server that is not started yet. Start is Postgres, MariaDB, Redis or the like, and
// gets args.
func Share[S any](start func(t T, args ...string) S, args ...string) *Shared[S] {
	return &Shared[S]{launch: func(t T) S { return start(t, args...) }}
}

// Get returns the server, after starting it if that is yet to be done. Where it is not installed
// each test that asks is skipped, or fails (Missing); one that did not start is not tried again.
func (s *Shared[S]) Get(t T) S {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != "" {
		t.Fatalf("%s", s.failure)
	}
	if s.owner == nil {
		owner := &owner{test: t}
		defer func() {
			owner.test = nil
			if s.owner == nil { // t has been ended
				s.failure = owner.failure
				owner.end()
			}
		}()
		s.server = s.launch(owner)
		s.owner = owner
	}
	return s.server
}

// Stop stops the server if it was started.
func (s *Shared[S]) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != nil {
		s.owner.end()
		s.owner = nil
	}
}

// Main is what TestMain runs: *testing.M.
type Main interface{ Run() int }

// StopAfter returns m with the servers stopped after its tests.
func StopAfter(m Main, servers ...interface{ Stop() }) Main { return stopping{m, servers} }

type stopping struct {
	Main
	servers []interface{ Stop() }
}

func (s stopping) Run() int {
	defer func() {
		for _, server := range s.servers {
			server.Stop()
		}
	}()
	return s.Main.Run()
}

// owner is the T of a shared server, which outlives the test that starts it.
type owner struct {
	test     T // who starts the server; nil when it runs
	failure  string
	cleanups []func()
}

func (o *owner) Helper() {}

func (o *owner) Logf(format string, args ...any) {
	if o.test == nil {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
		return
	}
	o.test.Helper()
	o.test.Logf(format, args...)
}

// Fatalf ends the test that starts the server. Later there is nobody to tell: the server's methods
// that fail without a test of their own panic.
func (o *owner) Fatalf(format string, args ...any) {
	o.failure = fmt.Sprintf(format, args...)
	if o.test == nil {
		panic(o.failure)
	}
	o.test.Helper()
	o.test.Fatalf("%s", o.failure)
}

func (o *owner) Skipf(format string, args ...any) {
	if o.test == nil {
		panic(fmt.Sprintf(format, args...))
	}
	o.test.Helper()
	o.test.Skipf(format, args...)
}

func (o *owner) Cleanup(f func()) { o.cleanups = append(o.cleanups, f) }

func (o *owner) TempDir() string {
	dir, err := os.MkdirTemp("", "alkey-server-")
	if err != nil {
		o.Fatalf("%v", err)
	}
	o.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// end calls what was to be called at the end, the last one first.
func (o *owner) end() {
	for len(o.cleanups) > 0 {
		last := len(o.cleanups) - 1
		f := o.cleanups[last]
		o.cleanups = o.cleanups[:last]
		f()
	}
}
