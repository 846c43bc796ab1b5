package testserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresServer is a PostgreSQL of its own for one test, or for the tests that share it (Share).
// DSN and Database can be called by several goroutines, the other methods by one.
type PostgresServer struct {
	t       T
	program string
	args    []string

	site
	process   process
	killed    bool // and not started since
	databases atomic.Int64
}

// Postgres starts a PostgreSQL on a free port, with args as on the command line ("-c",
// "wal_level=logical") after its own. A commit survives Kill and Stop, and is not safe from a fall
// of the machine. The server trusts everybody who connects from this machine. It is stopped and its
// data removed at the test's end. Without PostgreSQL it calls Missing.
func Postgres(t T, args ...string) *PostgresServer {
	t.Helper()
	program, ok := postgresProgram(filepath.SplitList(os.Getenv("PATH")), "/usr/lib/postgresql")
	if !ok {
		Missing(t, "PostgreSQL (Debian's package postgresql)")
	}
	s := &PostgresServer{t: t, program: program, args: args}
	if err := s.launch(); err != nil {
		t.Fatalf("postgres: %v", err)
	}
	return s
}

// DSN returns the URL of the superuser's connection to the database postgres, without TLS.
func (s *PostgresServer) DSN() string { return s.dsn("postgres") }

// Database creates an empty database and returns the URL of the superuser's connection to it. It is
// dropped at t's end, whoever is connected, if the server runs.
func (s *PostgresServer) Database(t T) string {
	t.Helper()
	name := fmt.Sprintf("alkey_%d", s.databases.Add(1))
	if err := s.exec("CREATE DATABASE " + name); err != nil {
		t.Fatalf("postgres: %v", err)
	}
	t.Cleanup(func() {
		if s.Pid() == 0 {
			return
		}
		if err := s.exec("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)"); err != nil {
			t.Logf("postgres: %v", err)
		}
	})
	return s.dsn(name)
}

// Pid returns the process id of the postmaster, 0 while the server is stopped.
func (s *PostgresServer) Pid() int { return s.process.pid() }

// Stop ends the server at once: clients are told, transactions under way are lost. It waits until
// the server is gone. Calling it again does nothing.
func (s *PostgresServer) Stop() {
	if s.process.cmd == nil {
		return
	}
	// The postmaster kills what does not end within five seconds.
	if err := s.process.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		_ = s.process.cmd.Process.Kill()
	}
	<-s.process.done
	s.process.cmd = nil
}

// Kill ends the server without a word to anybody, as if it had crashed, and waits until it is gone.
// Calling it again does nothing.
func (s *PostgresServer) Kill() {
	if s.process.cmd == nil {
		return
	}
	backends := children(s.process.pid())
	_ = s.process.cmd.Process.Kill() // first: it would start to recover
	for _, backend := range backends {
		_ = backend.Kill()
		_ = backend.Release()
	}
	s.process.kill()
	s.killed = true
}

// Start starts the server again on the same port and with its data, after Stop or Kill.
func (s *PostgresServer) Start() {
	s.t.Helper()
	s.process.again(s.t, "postgres", s.start)
}

// Restart stops the server if it runs, and starts it.
func (s *PostgresServer) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

func (s *PostgresServer) launch() error {
	options := []string{"--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--wal-segsize=1", "--no-sync"}
	return s.settle(s.t, "postgres", template{
		program: s.program,
		args:    options,
		fill: func(dir string) (*exec.Cmd, error) {
			return exec.Command(filepath.Join(filepath.Dir(s.program), "initdb"), append(options, dir)...), nil
		},
	}, s.start, s.remove)
}

// remove stops the server and removes its data.
func (s *PostgresServer) remove() {
	s.Stop()
	// A killed server leaves a segment of shared memory, which the next one in its folder takes away.
	if s.killed && s.start() == nil {
		s.Stop()
	}
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Logf("postgres: %v", err)
	}
}

func (s *PostgresServer) start() error {
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.port)}
	for _, setting := range []string{
		"listen_addresses=127.0.0.1",
		"unix_socket_directories=",
		// With synchronous_commit=off, which is hardly faster once there is no fsync, Kill and Stop
		// would lose commits.
		"fsync=off",
		"full_page_writes=off",
		"max_connections=100",
		"shared_buffers=32MB",
		"dynamic_shared_memory_type=mmap", // files in the data folder, which go with it
	} {
		args = append(args, "-c", setting)
	}
	cmd := exec.Command(s.program, append(args, s.args...)...)
	cmd.Dir, cmd.Env = s.dir, environment()
	s.account.run(cmd)
	err := s.process.start(cmd, s.answers)
	if err == nil {
		s.killed = false
	}
	return err
}

// answers asks the server for its folder: on its port there may be another one.
func (s *PostgresServer) answers() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var dir string
	if err := conn.QueryRow(ctx, "SHOW data_directory").Scan(&dir); err != nil {
		return err
	}
	if dir != s.data() {
		return errors.New("another server has the port")
	}
	return nil
}

func (s *PostgresServer) exec(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

func (s *PostgresServer) dsn(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

// postgresProgram finds the server's program, beside which initdb is: in one of the folders of path,
// or where Debian has a folder for each version, in the newest.
func postgresProgram(path []string, versions string) (string, bool) {
	installed, _ := filepath.Glob(filepath.Join(versions, "*", "bin")) // the pattern is not at fault
	major := func(bin string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
		return n
	}
	slices.SortFunc(installed, func(a, b string) int { return major(b) - major(a) })
	for _, bin := range slices.Concat(path, installed) {
		server, err := exec.LookPath(filepath.Join(bin, "postgres"))
		if err != nil {
			continue
		}
		if _, err := exec.LookPath(filepath.Join(bin, "initdb")); err == nil {
			return server, true
		}
	}
	return "", false
}
