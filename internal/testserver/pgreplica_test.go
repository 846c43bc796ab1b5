package testserver_test

import (
	"testing"
	"time"

	"github.com/alkey-go/alkey/internal/testserver"
)

// A replica shows what its primary had committed, no sooner than the delay says, and takes no writes.
func TestPostgresReplica(t *testing.T) {
	primary := testserver.Postgres(t)
	dsn := primary.Database(t)
	db := open(t, "pgx", dsn)
	exec(t, db, "CREATE TABLE rows (id INTEGER)", "INSERT INTO rows VALUES (1)")
	replica := primary.Replica(t, 0)
	copied := open(t, "pgx", replica.Of(dsn))
	const count = "SELECT count(*) FROM rows"
	if got := ask(t, copied, count); got != "1" {
		t.Errorf("a new replica shows %s rows", got)
	}
	exec(t, db, "INSERT INTO rows VALUES (2)")
	replica.CatchUp()
	if got := ask(t, copied, count); got != "2" {
		t.Errorf("after it has caught up a replica shows %s rows", got)
	}

	replica.SetDelay(time.Hour)
	poll(t, func() bool { return ask(t, copied, "SHOW recovery_min_apply_delay") == "1h" }, "the delay is not set")
	exec(t, db, "INSERT INTO rows VALUES (3)")
	poll(t, func() bool {
		return ask(t, copied, "SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()") == "true"
	}, "the replica applies what it ought to hold back")
	if got := ask(t, copied, count); got != "2" {
		t.Errorf("a replica that lags an hour shows %s rows", got)
	}
	replica.SetDelay(0)
	replica.CatchUp()
	if got := ask(t, copied, count); got != "3" {
		t.Errorf("without the delay a replica shows %s rows", got)
	}

	if _, err := copied.ExecContext(t.Context(), "INSERT INTO rows VALUES (4)"); err == nil {
		t.Error("a replica takes writes")
	}
	pid := replica.Pid()
	replica.Restart()
	gone(t, pid)
	exec(t, db, "INSERT INTO rows VALUES (4)")
	replica.CatchUp()
	if got := ask(t, open(t, "pgx", replica.Of(dsn)), count); got != "4" {
		t.Errorf("a replica that was started again shows %s rows", got)
	}
}

// A replica ends with its test, before its primary.
func TestPostgresReplicaIsStopped(t *testing.T) {
	primary := testserver.Postgres(t)
	var pid int
	t.Run("test", func(t *testing.T) { pid = primary.Replica(t, time.Minute).Pid() })
	gone(t, pid)
}
