package alkey_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	_ "github.com/alkey-go/alkey/txscope/postgres"
)

// The replica of these tests shows each commit after replicaDelay, and by what it takes to apply it.
// Requests are promised that it is no further behind than replicaLag. A load that finds it further
// behind than replicaChecked, on a machine that stalls, fails and is not stored: the promise was broken.
const (
	replicaDelay   = 200 * time.Millisecond
	replicaChecked = 500 * time.Millisecond
	replicaLag     = 600 * time.Millisecond
	replicaRows    = 10
)

// TestReplicaLag has requests of one process read a replica that lags while another process writes to
// the primary. No hit is older than what the primary had when its request began.
func TestReplicaLag(t *testing.T) {
	r := newReplicated(t, replicaLag)
	r.run(t, func() bool { return r.hits >= 2_000 && r.renewed >= 15 }, 60*time.Second)
	t.Logf("%d hits, %d of them the first of another version than before, in %d reads beside %d commits; the replica was too late for %d loads",
		r.hits, r.renewed, r.reads, r.commits, r.late)
	for _, fault := range r.faults {
		t.Error(fault)
	}
	if r.hits < 2_000 || r.renewed < 15 {
		t.Error("that shows little")
	}
}

// TestReplicaLagIsMissed: if nobody is told that the data comes from a replica, stale hits are found.
func TestReplicaLagIsMissed(t *testing.T) {
	r := newReplicated(t, 0)
	r.run(t, func() bool { return len(r.faults) > 0 }, 60*time.Second)
	if len(r.faults) == 0 {
		t.Errorf("nothing is found in %d hits beside %d commits", r.hits, r.commits)
	}
	t.Logf("after %d hits and %d commits: %q", r.hits, r.commits, r.faults)
}

// versions of the rows.
type versions [replicaRows]int64

// replicated is one run.
type replicated struct {
	writer  *sqlx.DB // to the primary, of one process
	primary *sqlx.DB // unwrapped: what is true
	replica *sqlx.DB // where the other process reads
	kit     *request.Kit

	mu          sync.Mutex
	stopped     bool
	log         []commit // those that were acknowledged, in order
	reads, hits int
	renewed     int // hits that were the first of another version than before
	commits     int
	late        int
	shown       versions // newest of the hits
	faults      []string
}

type commit struct {
	at  time.Time
	now versions
}

func newReplicated(t *testing.T, lag time.Duration) *replicated {
	// A snapshot on the replica keeps the primary from removing what it shows, which would hold up the replica.
	server := testserver.Postgres(t, "-c", "hot_standby_feedback=on", "-c", "wal_receiver_status_interval=1s")
	dsn := server.Database(t)
	addr := testserver.Redis(t).Addr()
	discard := slog.New(slog.DiscardHandler)
	store := func() *tokens.Store {
		backend, err := tokens.NewRedisBackend(tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{Addrs: []string{addr}}})
		if err != nil {
			t.Fatal(err)
		}
		s := tokens.New(backend, tokens.WithLogger(discard))
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	open := func(dsn string, store *tokens.Store) *sqlx.DB {
		var db *sqlx.DB
		var err error
		if store != nil {
			db, err = alkey.Open("pgx", dsn, store)
		} else {
			db, err = sqlx.Open("pgx", dsn)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	r := &replicated{primary: open(dsn, nil), writer: open(dsn, store())}
	r.writer.MustExec("CREATE TABLE users (id INTEGER PRIMARY KEY, version BIGINT NOT NULL)")
	for row := range replicaRows {
		r.writer.MustExec("INSERT INTO users VALUES ($1, 0)", row)
	}
	replica := server.Replica(t, 0)
	replica.CatchUp()
	replica.SetDelay(replicaDelay)
	readers := store()
	r.replica = open(replica.Of(dsn), readers)
	var err error
	if r.kit, err = request.New(request.Config{Tokens: readers, ReplicaLag: lag, Version: "test", Logger: discard}); err != nil {
		t.Fatal(err)
	}
	return r
}

// run lets requests read while others write, until enough.
func (r *replicated) run(t *testing.T, enough func() bool, limit time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() { r.write(ctx, t) })
	for i := range 4 {
		all.Go(func() { r.read(ctx, t, rand.New(rand.NewPCG(uint64(i), 1))) })
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for done := false; !done && ctx.Err() == nil; {
		<-tick.C
		r.mu.Lock()
		done = enough() || len(r.faults) >= 3 || t.Failed()
		r.mu.Unlock()
	}
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	cancel()
	all.Wait()
}

func (r *replicated) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopped
}

// write commits a new version of some row every few milliseconds: of the first half the time, of the second
// a quarter, and so on, so that there are rows that change all the time and rows that are left alone for a
// while.
func (r *replicated) write(ctx context.Context, t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var now versions
	for n := int64(1); !r.over(); n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		row := 0
		for row < replicaRows-1 && random.IntN(2) == 0 {
			row++
		}
		if _, err := r.writer.ExecContext(context.Background(), "UPDATE users SET version = $1 WHERE id = $2", n, row); err != nil {
			t.Error(err)
			return
		}
		now[row] = n
		r.mu.Lock()
		r.commits++
		r.log = append(r.log, commit{time.Now(), now})
		r.mu.Unlock()
	}
}

// due is what a replica must show of what is read at a time.
func (r *replicated) due(at time.Time) (v versions) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.log) - 1; i >= 0; i-- {
		if r.log[i].at.Before(at.Add(-replicaChecked)) {
			return r.log[i].now
		}
	}
	return v
}

// errLate is returned by a load that finds the replica further behind than was promised.
var errLate = errors.New("the replica is late")

type queryer interface {
	SelectContext(ctx context.Context, dest any, query string, args ...any) error
}

func load(ctx context.Context, from queryer) (v versions, err error) {
	var rows []struct {
		ID      int   `db:"id"`
		Version int64 `db:"version"`
	}
	if err := from.SelectContext(ctx, &rows, "SELECT id, version FROM users"); err != nil {
		return v, err
	}
	if len(rows) != replicaRows {
		return v, fmt.Errorf("%d rows", len(rows))
	}
	for _, row := range rows {
		v[row.ID] = row.Version
	}
	return v, nil
}

// snapshot is a transaction on the replica in which several requests read.
type snapshot struct {
	tx *sqlx.Tx
	at time.Time // before its first query
}

// read has one request after the other.
func (r *replicated) read(ctx context.Context, t *testing.T, random *rand.Rand) {
	var old snapshot
	defer func() {
		if old.tx != nil {
			_ = old.tx.Rollback()
		}
	}()
	for n := 0; !r.over() && ctx.Err() == nil; n++ {
		if n%50 == 0 {
			if old.tx != nil {
				_ = old.tx.Rollback()
			}
			old = snapshot{at: time.Now()}
			var err error
			if old.tx, err = r.replica.BeginTxx(context.Background(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}); err != nil {
				t.Error(err)
				return
			}
			if _, err := load(context.Background(), old.tx); err != nil {
				t.Error(err)
				return
			}
		}
		if err := r.request(t, random, old); err != nil {
			t.Error(err)
			return
		}
	}
}

// request is one request: it reads the floor from the primary, loads something from the replica perhaps,
// and asks for values, which it makes of what it has loaded or loads then.
func (r *replicated) request(t *testing.T, random *rand.Rand, old snapshot) error {
	floor, err := load(context.Background(), r.primary)
	if err != nil {
		return err
	}
	ctx, _ := r.kit.Open(context.Background())
	loading := func(from queryer, at time.Time) (versions, error) {
		v, err := load(ctx, from)
		if err != nil {
			return v, err
		}
		for row, due := range r.due(at) {
			if v[row] < due {
				return v, errLate
			}
		}
		return v, nil
	}
	get := func() (versions, error) { return loading(r.replica, time.Now()) }
	switch random.IntN(4) {
	case 0:
		before, late := get()
		if late != nil && !errors.Is(late, errLate) {
			return late
		}
		get = func() (versions, error) { return before, late }
	case 1:
		get = func() (versions, error) { return loading(old.tx, old.at) }
	}
	for range 4 {
		row := random.IntN(replicaRows)
		other := (row + 1) % replicaRows
		made := false
		text, err := request.Fetch(ctx, func(ctx context.Context) (string, error) {
			made = true
			v, err := get()
			return fmt.Sprintf("%d:%d,%d:%d", row, v[row], other, v[other]), err
		}, tokens.Row("users", row), tokens.Row("users", other), "pair")
		switch {
		case errors.Is(err, errLate):
			r.mu.Lock()
			r.late++
			r.mu.Unlock()
		case err != nil:
			return err
		default:
			r.check(t, text, made, floor)
		}
	}
	return nil
}

// check checks a value that another request has made: it is no older than the primary was.
func (r *replicated) check(t *testing.T, text string, made bool, floor versions) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads++
	if made {
		return
	}
	r.hits++
	for part := range strings.SplitSeq(text, ",") {
		at, v, _ := strings.Cut(part, ":")
		row, err1 := strconv.Atoi(at)
		version, err2 := strconv.ParseInt(v, 10, 64)
		if err1 != nil || err2 != nil {
			t.Errorf("a value is %q", text)
			return
		}
		if version < floor[row] {
			r.faults = append(r.faults, fmt.Sprintf("a hit shows version %d of row %d, and the primary had %d when the request began", version, row, floor[row]))
		}
		if version > r.shown[row] {
			r.shown[row] = version
			r.renewed++
		}
	}
}
