package testserver_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/alkey-go/alkey/internal/testserver"
)

// databaseServer is what the servers of databases have in common.
type databaseServer interface {
	DSN() string
	Database(t testserver.T) string
	Pid() int
	Stop()
	Kill()
	Start()
	Restart()
}

var databases = []struct {
	name, driver string
	start        func(t testserver.T, args ...string) databaseServer
	busy         string // is at work for longer than any test
	running      string // counts the queries at work that are like busy
	setting      string // an option that is not the default,
	show, shown  string // how to ask for it, and the answer
	wrong        string // an option that there is not
}{
	{
		name: "Postgres", driver: "pgx",
		start:   func(t testserver.T, args ...string) databaseServer { return testserver.Postgres(t, args...) },
		busy:    "SELECT count(*) FROM generate_series(1, 1000000000000)",
		running: "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT count(*) FROM gen%'",
		setting: "-cwork_mem=5MB", show: "SHOW work_mem", shown: "5MB",
		wrong: "-cno_such_option=1",
	},
	{
		name: "MariaDB", driver: "mysql",
		start:   func(t testserver.T, args ...string) databaseServer { return testserver.MariaDB(t, args...) },
		busy:    "SELECT benchmark(1000000000000, md5('x'))",
		running: "SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'SELECT bench%'",
		setting: "--sort-buffer-size=1048576", show: "SELECT @@global.sort_buffer_size", shown: "1048576",
		wrong: "--no-such-option=1",
	},
}

func open(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func exec(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func ask(t *testing.T, db *sql.DB, question string) string {
	t.Helper()
	var answer string
	if err := db.QueryRowContext(t.Context(), question).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", question, err)
	}
	return answer
}

// gone waits until a process has ended. One that its parent has not asked for yet has.
func gone(t *testing.T, pid int) {
	t.Helper()
	poll(t, func() bool {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err == nil {
			_, state, _ := strings.Cut(string(stat), ") ")
			return strings.HasPrefix(state, "Z")
		}
		p, err := os.FindProcess(pid)
		return err != nil || p.Signal(syscall.Signal(0)) != nil
	}, "process %d is still there", pid)
}

func poll(t *testing.T, done func() bool, format string, args ...any) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf(format, args...)
		}
	}
}

// Servers that start at the same time are strangers to each other, and none outlives its test.
func TestDatabaseServersStartAndStop(t *testing.T) {
	for _, test := range databases {
		t.Run(test.name, func(t *testing.T) {
			pids := make(chan int, 2)
			t.Run("tests", func(t *testing.T) {
				for _, args := range [][]string{nil, {test.setting}} {
					t.Run("server", func(t *testing.T) {
						t.Parallel()
						s := test.start(t, args...)
						pids <- s.Pid()
						db := open(t, test.driver, s.DSN())
						if got := ask(t, db, "SELECT 1"); got != "1" {
							t.Errorf("SELECT 1 gives %s", got)
						}
						if got := ask(t, db, test.show); (got == test.shown) != (args != nil) {
							t.Errorf("with %q the setting is %s", args, got)
						}
						exec(t, db, "CREATE DATABASE only_here")
					})
				}
			})
			close(pids)
			for pid := range pids {
				gone(t, pid)
			}
		})
	}
}

func TestDatabasesAreSeparate(t *testing.T) {
	for _, test := range databases {
		t.Run(test.name, func(t *testing.T) {
			s := test.start(t)
			a, b := open(t, test.driver, s.Database(t)), open(t, test.driver, s.Database(t))
			exec(t, a, "CREATE TABLE t (id INTEGER PRIMARY KEY, name VARCHAR(20))", "INSERT INTO t VALUES (1, 'ä€')")
			if got := ask(t, a, "SELECT name FROM t"); got != "ä€" {
				t.Errorf("the name is %q", got)
			}
			exec(t, b, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
			if got := ask(t, b, "SELECT count(*) FROM t"); got != "0" {
				t.Errorf("a new database has %s rows", got)
			}

			// It is dropped with its test, though somebody is still connected.
			var dsn string
			var db *sql.DB
			t.Run("short", func(t *testing.T) {
				dsn = s.Database(t)
				var err error
				if db, err = sql.Open(test.driver, dsn); err != nil {
					t.Fatal(err)
				}
				exec(t, db, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
			})
			_ = db.Close()
			if err := open(t, test.driver, dsn).PingContext(t.Context()); err == nil {
				t.Error("the database outlived its test")
			}
		})
	}
}

// What was committed is there after a server was killed or stopped, and what was not is not.
func TestDatabaseServersKeepWhatWasCommitted(t *testing.T) {
	for _, test := range databases {
		t.Run(test.name, func(t *testing.T) {
			s := test.start(t)
			dsn := s.Database(t)
			exec(t, open(t, test.driver, dsn), "CREATE TABLE t (id INTEGER PRIMARY KEY)")
			for i, end := range []func(){s.Kill, s.Stop, s.Kill} {
				db := open(t, test.driver, dsn)
				tx, err := db.BeginTx(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tx.ExecContext(t.Context(), "INSERT INTO t VALUES (100)"); err != nil {
					t.Fatal(err)
				}
				exec(t, db, "INSERT INTO t VALUES ("+strconv.Itoa(i)+")")
				before := s.Pid()
				end()
				end()
				if s.Pid() != 0 {
					t.Errorf("a server that was ended has pid %d", s.Pid())
				}
				gone(t, before)
				if err := tx.Commit(); err == nil {
					t.Error("a transaction outlived its server")
				}
				if err := db.PingContext(t.Context()); err == nil {
					t.Error("a server that was ended answers")
				}
				s.Start()
				if got := ask(t, open(t, test.driver, dsn), "SELECT count(*) FROM t"); got != strconv.Itoa(i+1) {
					t.Errorf("%s rows are left, want %d", got, i+1)
				}
			}
			before := s.Pid()
			s.Restart()
			if s.Pid() == before {
				t.Error("Restart did nothing")
			}
			if got := ask(t, open(t, test.driver, dsn), "SELECT count(*) FROM t"); got != "3" {
				t.Errorf("%s rows are left after a restart", got)
			}
		})
	}
}

// A backend at work does not hold Kill and Stop up, nor does it go on without its server.
func TestDatabaseServersEndWhileBusy(t *testing.T) {
	for _, test := range databases {
		for name, end := range map[string]func(databaseServer){"Kill": databaseServer.Kill, "Stop": databaseServer.Stop} {
			t.Run(test.name+name, func(t *testing.T) {
				s := test.start(t)
				dsn := s.Database(t)
				busy, watch := open(t, test.driver, dsn), open(t, test.driver, dsn)
				var backend int
				if test.driver == "pgx" { // elsewhere the server is one process
					busy.SetMaxOpenConns(1)
					var err error
					if backend, err = strconv.Atoi(ask(t, busy, "SELECT pg_backend_pid()")); err != nil {
						t.Fatal(err)
					}
				}
				failed := make(chan error, 1)
				go func() {
					var n int
					failed <- busy.QueryRow(test.busy).Scan(&n)
				}()
				poll(t, func() bool { return ask(t, watch, test.running) == "1" }, "the backend does not work")
				pid := s.Pid()
				end(s)
				if err := <-failed; err == nil {
					t.Error("the query ended without its server")
				}
				gone(t, pid)
				if backend != 0 {
					gone(t, backend)
				}
			})
		}
	}
}

func TestDatabaseServersThatDoNotStart(t *testing.T) {
	for _, test := range databases {
		t.Run(test.name, func(t *testing.T) {
			test.start(t) // skips where there is none
			f := &fake{T: t}
			ended(t, f, func() { test.start(f, test.wrong) })
			if !strings.HasPrefix(f.ended, "failed") || !strings.Contains(f.ended, strings.Split(test.wrong, "=")[0][2:]) {
				t.Errorf("the test was %q", f.ended)
			}
		})
	}
}

// ended calls start, which ends f.
func ended(t *testing.T, f *fake, start func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if r := recover(); r != f {
			t.Errorf("the test went on: %v", r)
		}
	}()
	start()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
