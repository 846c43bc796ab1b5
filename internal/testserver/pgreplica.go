package testserver

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresReplica is a standby of a PostgresServer that takes over all its databases by streaming, and
// answers reads. What PostgresServer can do it can, but for Database: it takes no writes.
type PostgresReplica struct {
	*PostgresServer
	primary *PostgresServer
}

// Replica starts a replica that shows a commit when the delay has passed since, and the time that it
// takes to apply it: SetDelay sets another. It runs with the arguments of its primary, is stopped at
// t's end, and is to be stopped before its primary. Without pg_basebackup it calls Missing.
func (s *PostgresServer) Replica(t T, delay time.Duration) *PostgresReplica {
	t.Helper()
	copier, err := s.copier()
	if err != nil {
		Missing(t, "pg_basebackup (Debian's package postgresql-client)")
	}
	r := &PostgresReplica{&PostgresServer{t: t, program: s.program, args: s.args}, s}
	if err := r.follow(copier); err != nil {
		t.Fatalf("postgres: replica: %v", err)
	}
	r.SetDelay(delay)
	return r
}

// Of returns the URL of the replica's copy of a database that Database of its primary has made.
func (r *PostgresReplica) Of(dsn string) string {
	r.t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		r.t.Fatalf("postgres: %v", err)
	}
	u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port))
	return u.String()
}

// SetDelay sets the delay. It is over for commits that wait, too, if it is shorter than before.
func (r *PostgresReplica) SetDelay(d time.Duration) {
	r.t.Helper()
	for _, statement := range []string{
		fmt.Sprintf("ALTER SYSTEM SET recovery_min_apply_delay = %d", d.Milliseconds()),
		"SELECT pg_reload_conf()",
	} {
		if err := r.exec(statement); err != nil {
			r.t.Fatalf("postgres: replica: %v", err)
		}
	}
}

// CatchUp waits until the replica shows all that its primary has committed by now.
func (r *PostgresReplica) CatchUp() {
	r.t.Helper()
	if err := r.catchUp(); err != nil {
		r.t.Fatalf("postgres: replica: %v", err)
	}
}

func (r *PostgresReplica) catchUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	var until string
	err := r.primary.ask(ctx, func(conn *pgx.Conn) error {
		// What is committed is flushed; where the next record will be can be a header further on.
		return conn.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(&until)
	})
	if err != nil {
		return err
	}
	return r.ask(ctx, func(conn *pgx.Conn) error {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			var there bool
			if err := conn.QueryRow(ctx, "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", until).Scan(&there); err != nil || there {
				return err
			}
			<-tick.C
		}
	})
}

// ask has use ask the server.
func (s *PostgresServer) ask(ctx context.Context, use func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.DSN())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return use(conn)
}

// copier finds pg_basebackup: beside the server's program, wherever links lead to it, or on the PATH.
func (s *PostgresServer) copier() (string, error) {
	const name = "pg_basebackup"
	if program, err := filepath.EvalSymlinks(s.program); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(program), name)); err == nil {
			return path, nil
		}
	}
	return exec.LookPath(name)
}

// follow copies the primary as it runs, and starts the copy.
func (r *PostgresReplica) follow(copier string) error {
	var err error
	r.account = r.primary.account
	if r.dir, err = r.account.mkdirTemp("alkey-replica-"); err != nil {
		return err
	}
	r.t.Cleanup(r.remove)
	cmd := exec.Command(copier, "--pgdata="+r.data(), "--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream", "--no-sync", "--no-password",
		"--host=127.0.0.1", "--port="+strconv.Itoa(r.primary.port), "--username=postgres")
	cmd.Dir, cmd.Env = r.dir, environment()
	r.account.run(cmd)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_basebackup: %w:\n%s", err, text)
	}
	return onFreePort(func(port int) error {
		r.port = port
		return r.start()
	})
}
