package testserver

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
)

// MariaDBServer is a MariaDB of its own for one test, or for the tests that share it (Share). DSN
// and Database can be called by several goroutines, the other methods by one.
type MariaDBServer struct {
	t       T
	program string
	args    []string

	site
	process   process
	databases atomic.Int64
}

// MariaDB starts a MariaDB on a free port, with args as on the command line ("--sql-mode=ANSI")
// after its own. It speaks utf8mb4. A commit survives Kill and Stop, and is not safe from a fall of
// the machine. The server trusts everybody who connects from this machine. It is stopped and its
// data removed at the test's end. Without mariadbd it calls Missing.
func MariaDB(t T, args ...string) *MariaDBServer {
	t.Helper()
	program, ok := mariadbProgram(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin")
	if !ok {
		Missing(t, "MariaDB (Debian's package mariadb-server-core)")
	}
	s := &MariaDBServer{t: t, program: program, args: args}
	if err := s.launch(); err != nil {
		t.Fatalf("mariadbd: %v", err)
	}
	return s
}

// DSN returns what github.com/go-sql-driver/mysql needs to connect as root to no database.
func (s *MariaDBServer) DSN() string { return s.config("").FormatDSN() }

// Database creates an empty database and returns what github.com/go-sql-driver/mysql needs to
// connect to it as root. It is dropped at t's end, if the server runs.
func (s *MariaDBServer) Database(t T) string {
	t.Helper()
	name := fmt.Sprintf("alkey_%d", s.databases.Add(1))
	if err := s.exec("CREATE DATABASE " + name); err != nil {
		t.Fatalf("mariadbd: %v", err)
	}
	t.Cleanup(func() {
		if s.Pid() == 0 {
			return
		}
		// A transaction that nobody ended holds it up.
		if err := s.exec("SET STATEMENT lock_wait_timeout = 2 FOR DROP DATABASE IF EXISTS " + name); err != nil {
			t.Logf("mariadbd: %v", err)
		}
	})
	return s.config(name).FormatDSN()
}

// Pid returns the process id, 0 while the server is stopped.
func (s *MariaDBServer) Pid() int { return s.process.pid() }

// Stop is Kill: an orderly end takes longer and keeps no more.
func (s *MariaDBServer) Stop() { s.process.kill() }

// Kill ends the server without a word to anybody, as if it had crashed, and waits until it is gone.
// Calling it again does nothing.
func (s *MariaDBServer) Kill() { s.process.kill() }

// Start starts the server again on the same port and with its data, after Stop or Kill.
func (s *MariaDBServer) Start() {
	s.t.Helper()
	s.process.again(s.t, "mariadbd", s.start)
}

// Restart stops the server if it runs, and starts it.
func (s *MariaDBServer) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

func (s *MariaDBServer) launch() error {
	return s.settle(s.t, "mariadb", template{
		program: s.program,
		args:    append([]string{setup}, storage()...),
		fill:    s.bootstrap,
	}, s.start, s.remove)
}

// storage is what the server is told of its files when it makes them and ever after.
func storage() []string {
	return []string{"--innodb-log-file-size=8M", "--innodb-buffer-pool-size=16M", "--debug-no-sync"}
}

// setup makes the accounts of root such that they connect over TCP and without a password.
const setup = "CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n"

// bootstrap fills a data folder as mariadb-install-db does, which Debian delivers without a program
// that it calls.
func (s *MariaDBServer) bootstrap(dir string) (*exec.Cmd, error) {
	statements := []byte(setup)
	for _, name := range []string{"system_tables", "performance_tables", "system_tables_data", "sys_schema"} {
		text, err := s.script(name)
		if err != nil {
			return nil, err
		}
		statements = append(statements, text...)
	}
	args := []string{"--no-defaults", "--bootstrap", "--datadir=" + dir, "--tmpdir=" + dir, "--skip-name-resolve", "--log-warnings=0", "--innodb-fast-shutdown=0"}
	cmd := exec.Command(s.program, append(args, storage()...)...)
	cmd.Stdin = bytes.NewReader(statements)
	return cmd, nil
}

// script reads a script that is installed with the server.
func (s *MariaDBServer) script(name string) ([]byte, error) {
	program, err := filepath.EvalSymlinks(s.program)
	if err != nil {
		return nil, err
	}
	prefix := filepath.Dir(filepath.Dir(program))
	var failed error
	for _, file := range []string{"share/mysql/mysql_", "share/mysql/mariadb_", "share/mariadb/mariadb_", "share/mariadb_"} {
		text, err := os.ReadFile(filepath.Join(prefix, file+name+".sql"))
		if err == nil {
			return text, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed
}

// remove stops the server and removes its data.
func (s *MariaDBServer) remove() {
	s.Stop()
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Logf("mariadbd: %v", err)
	}
}

func (s *MariaDBServer) start() error {
	if err := errors.Join(os.MkdirAll(s.temporary(), 0o700), s.account.own(s.temporary())); err != nil {
		return err
	}
	args := []string{
		"--no-defaults",
		"--datadir=" + s.data(),
		"--tmpdir=" + s.temporary(), // of its own: a server that starts removes what it finds of others'
		"--bind-address=127.0.0.1",
		"--port=" + strconv.Itoa(s.port),
		"--socket=socket", // in the data folder: a full path may be too long for a socket
		"--skip-name-resolve",
		"--character-set-server=utf8mb4",
		"--collation-server=utf8mb4_general_ci",
		"--max-connections=100",
		// With 0, which is hardly faster, Kill would lose a second's commits.
		"--innodb-flush-log-at-trx-commit=2",
		"--innodb-doublewrite=0",
		"--key-buffer-size=1M",
		"--aria-pagecache-buffer-size=8M",
	}
	cmd := exec.Command(s.program, slices.Concat(args, storage(), s.args)...)
	cmd.Dir, cmd.Env = s.dir, environment()
	s.account.run(cmd)
	return s.process.start(cmd, s.answers)
}

// answers asks the server for its folder: on its port there may be another one.
func (s *MariaDBServer) answers() error {
	return s.connected(time.Second, func(ctx context.Context, db *sql.DB) error {
		var dir string
		err := db.QueryRowContext(ctx, "SELECT @@datadir").Scan(&dir)
		if err == nil && filepath.Clean(dir) != s.data() {
			err = errors.New("another server has the port")
		}
		return err
	})
}

func (s *MariaDBServer) exec(statement string) error {
	return s.connected(startLimit, func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, statement)
		return err
	})
}

func (s *MariaDBServer) connected(limit time.Duration, use func(context.Context, *sql.DB) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cfg := s.config("")
	cfg.Logger = new(mysql.NopLogger) // that a server does not answer yet is no news
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	return errors.Join(use(ctx, db), db.Close())
}

func (s *MariaDBServer) temporary() string { return filepath.Join(s.dir, "tmp") }

func (s *MariaDBServer) config(database string) *mysql.Config {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.DBName = "root", "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), database
	return cfg
}

// mariadbProgram finds the server's program in one of the folders of path or in those where systems
// keep what only root starts.
func mariadbProgram(path []string, more ...string) (string, bool) {
	for _, bin := range slices.Concat(path, more) {
		if server, err := exec.LookPath(filepath.Join(bin, "mariadbd")); err == nil {
			return server, true
		}
	}
	return "", false
}
