package testserver_test

import (
	"strings"
	"testing"

	"github.com/alkey-go/alkey/internal/testserver"
)

func TestSharedServer(t *testing.T) {
	for _, test := range databases {
		t.Run(test.name, func(t *testing.T) {
			shared := testserver.Share(test.start, test.setting)
			var first databaseServer
			t.Run("first", func(t *testing.T) {
				first = shared.Get(t)
			})
			if first == nil {
				t.Skip("no server")
			}
			pid := first.Pid()
			t.Run("later", func(t *testing.T) {
				for range 3 {
					t.Run("one of many", func(t *testing.T) {
						t.Parallel()
						s := shared.Get(t)
						if s != first || s.Pid() != pid {
							t.Error("the second test got a server of its own")
						}
						db := open(t, test.driver, s.Database(t))
						exec(t, db, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
						if got := ask(t, db, test.show); got != test.shown {
							t.Errorf("the setting is %s", got)
						}
					})
				}
			})
			code := testserver.StopAfter(run(func() int {
				if first.Pid() != pid {
					t.Error("the server was stopped before the tests")
				}
				return 7
			}), shared).Run()
			if code != 7 || first.Pid() != 0 {
				t.Errorf("the tests ended with %d, the server has pid %d", code, first.Pid())
			}
			gone(t, pid)
			shared.Stop()
		})
	}
}

type run func() int

func (r run) Run() int { return r() }

// started is a server that counts its starts, and how often it was stopped.
type started struct {
	starts, stops int
	dir           string
}

func (s *started) start(ending func(testserver.T)) func(t testserver.T, args ...string) *started {
	return func(t testserver.T, args ...string) *started {
		s.starts++
		s.dir = t.TempDir()
		t.Cleanup(func() { s.stops++ })
		if ending != nil {
			ending(t)
		}
		return s
	}
}

// A server that does not start ends every test that asks, and is not waited for each time.
func TestSharedServerThatDoesNotStart(t *testing.T) {
	var s started
	shared := testserver.Share(s.start(func(t testserver.T) { t.Fatalf("no %s", "luck") }))
	for range 2 {
		f := &fake{T: t}
		ended(t, f, func() { shared.Get(f) })
		if !strings.Contains(f.ended, "failed: no luck") {
			t.Errorf("the test was %q", f.ended)
		}
	}
	if s.starts != 1 || s.stops != 1 || exists(s.dir) {
		t.Errorf("%d starts, %d stops, the folder is there: %t", s.starts, s.stops, exists(s.dir))
	}
	shared.Stop()
	if s.stops != 1 {
		t.Error("what did not start was stopped twice")
	}
}

func TestSharedServerThatIsMissing(t *testing.T) {
	t.Setenv(testserver.RequireEnv, "")
	var s started
	shared := testserver.Share(s.start(func(t testserver.T) { testserver.Missing(t, "it") }))
	for range 2 {
		f := &fake{T: t}
		ended(t, f, func() { shared.Get(f) })
		if !strings.Contains(f.ended, "skipped: it is not installed") {
			t.Errorf("the test was %q", f.ended)
		}
	}
}

// What a shared server's own methods have to say concerns no test that has ended.
func TestSharedServerFailsLater(t *testing.T) {
	var s started
	var owner testserver.T
	shared := testserver.Share(s.start(func(t testserver.T) { owner = t }))
	t.Run("first", func(t *testing.T) { shared.Get(t) })
	func() {
		defer func() {
			if r := recover(); r != "it broke" {
				t.Errorf("the server's failure gave %v", r)
			}
		}()
		owner.Fatalf("it %s", "broke")
	}()
	if shared.Get(t) != &s || s.stops != 0 || !exists(s.dir) {
		t.Error("the server was taken away from the tests that share it")
	}
	shared.Stop()
	if s.stops != 1 || exists(s.dir) {
		t.Errorf("%d stops, the folder is there: %t", s.stops, exists(s.dir))
	}
	if shared.Get(t); s.starts != 2 {
		t.Error("a server that was stopped does not start again")
	}
	shared.Stop()
}
