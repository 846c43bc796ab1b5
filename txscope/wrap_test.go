package txscope_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/txscopetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func wrap(t *testing.T, d *fakeDriver, opts ...txscope.Option) (*sql.DB, *txscopetest.Fixture) {
	t.Helper()
	f := txscopetest.NewFixture(t)
	return f.Wrap(d, opts...), f
}

// Each scenario is run on the bare driver and on the wrapped one. What the driver is asked, and
// what the caller gets, is the same.
func TestAsTheBareDriver(t *testing.T) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	ctx := context.Background()
	read := func(rows *sql.Rows, err error) (any, error) {
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		var all []int
		for rows.Next() {
			var n int
			if err := rows.Scan(&n); err != nil {
				return nil, err
			}
			all = append(all, n)
		}
		types, err := rows.ColumnTypes()
		if err != nil {
			return nil, err
		}
		length, ok := types[0].Length()
		null, known := types[0].Nullable()
		return []any{all, types[0].Name(), types[0].DatabaseTypeName(), types[0].ScanType(), length, ok, null, known, rows.NextResultSet()}, rows.Err()
	}
	scenarios := map[string]func(db *sql.DB) (any, error){
		"exec":              func(db *sql.DB) (any, error) { return db.ExecContext(ctx, "WRITE ?", 1) },
		"exec without args": func(db *sql.DB) (any, error) { return db.ExecContext(ctx, "WRITE") },
		"exec skipped":      func(db *sql.DB) (any, error) { return db.ExecContext(ctx, "WRITE SKIP ?", "a") },
		"exec, named":       func(db *sql.DB) (any, error) { return db.ExecContext(ctx, "WRITE ?", sql.Named("n", 1)) },
		"exec, cancelled":   func(db *sql.DB) (any, error) { return db.ExecContext(gone, "WRITE ?", 1) },
		"exec, too many":    func(db *sql.DB) (any, error) { return db.ExecContext(ctx, "WRITE", 1) },
		"exec, special":     func(db *sql.DB) (any, error) { return db.ExecContext(ctx, "WRITE ?", special{"x"}) },
		"exec, removed":     func(db *sql.DB) (any, error) { return db.ExecContext(ctx, "WRITE", special{"remove"}) },
		"query":             func(db *sql.DB) (any, error) { return read(db.QueryContext(ctx, "SELECT ?", 1)) },
		"query that writes": func(db *sql.DB) (any, error) { return read(db.QueryContext(ctx, "WRITE ?", 1)) },
		"query skipped":     func(db *sql.DB) (any, error) { return read(db.QueryContext(ctx, "SELECT SKIP ?", "a")) },
		"query, named":      func(db *sql.DB) (any, error) { return read(db.QueryContext(ctx, "SELECT ?", sql.Named("n", 1))) },
		"query, special":    func(db *sql.DB) (any, error) { return read(db.QueryContext(ctx, "SELECT ?", special{"x"})) },
		"ping":              func(db *sql.DB) (any, error) { return nil, db.PingContext(ctx) },
		"prepared": func(db *sql.DB) (any, error) {
			s, err := db.PrepareContext(ctx, "WRITE ?")
			if err != nil {
				return nil, err
			}
			defer s.Close()
			if _, err := s.ExecContext(ctx, "a"); err != nil {
				return nil, err
			}
			if _, err := s.ExecContext(ctx, special{"x"}); err != nil {
				return nil, err
			}
			return read(s.QueryContext(ctx, "b"))
		},
		"prepared, named": func(db *sql.DB) (any, error) {
			s, err := db.PrepareContext(ctx, "WRITE ?")
			if err != nil {
				return nil, err
			}
			defer s.Close()
			return s.ExecContext(ctx, sql.Named("n", 1))
		},
		"prepared, cancelled": func(db *sql.DB) (any, error) {
			s, err := db.PrepareContext(ctx, "WRITE ?")
			if err != nil {
				return nil, err
			}
			defer s.Close()
			return s.QueryContext(gone, 1)
		},
		"commit": func(db *sql.DB) (any, error) {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return nil, err
			}
			if _, err := tx.Exec("WRITE ?", 1); err != nil {
				return nil, err
			}
			return nil, tx.Commit()
		},
		"rollback": func(db *sql.DB) (any, error) {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return nil, err
			}
			return nil, tx.Rollback()
		},
		"read only": func(db *sql.DB) (any, error) {
			tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
			if err != nil {
				return nil, err
			}
			return nil, tx.Rollback()
		},
		"isolation": func(db *sql.DB) (any, error) {
			tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
			if err != nil {
				return nil, err
			}
			return nil, tx.Rollback()
		},
		"begin, cancelled": func(db *sql.DB) (any, error) {
			c, err := db.Conn(ctx)
			if err != nil {
				return nil, err
			}
			defer c.Close()
			_, err = c.BeginTx(gone, nil)
			return nil, err
		},
		"bad connection, tried again": func(db *sql.DB) (any, error) {
			if err := db.Ping(); err != nil {
				return nil, err
			}
			d := db.Driver().(*fakeDriver)
			bad := 2
			d.on = func(call string) error {
				if strings.Contains(call, "SELECT 7") && bad > 0 {
					bad--
					return driver.ErrBadConn
				}
				return nil
			}
			return read(db.QueryContext(ctx, "SELECT 7"))
		},
		"open fails": func(db *sql.DB) (any, error) {
			db.Driver().(*fakeDriver).on = func(string) error { return errLost }
			return nil, db.Ping()
		},
		"statement fails": func(db *sql.DB) (any, error) {
			db.Driver().(*fakeDriver).on = func(call string) error {
				if strings.Contains(call, "WRITE") {
					return errLost
				}
				return nil
			}
			return db.Exec("WRITE")
		},
		"raw": func(db *sql.DB) (any, error) {
			c, err := db.Conn(ctx)
			if err != nil {
				return nil, err
			}
			defer c.Close()
			return nil, c.Raw(func(c any) error {
				if w, ok := c.(*txscope.Conn); ok {
					c = w.Bare()
				}
				s, err := c.(driver.Conn).Prepare("SELECT raw")
				if err != nil {
					return err
				}
				return s.Close()
			})
		},
		"statistics": func(db *sql.DB) (any, error) {
			db.SetMaxOpenConns(3)
			a, err := db.Conn(ctx)
			if err != nil {
				return nil, err
			}
			_, err = db.Exec("SELECT")
			stats := db.Stats()
			return []int{stats.OpenConnections, stats.InUse, stats.Idle}, errors.Join(err, a.Close())
		},
		"context ends in the transaction": func(db *sql.DB) (any, error) {
			ended, cancel := context.WithCancel(ctx)
			tx, err := db.BeginTx(ended, nil)
			if err != nil {
				cancel()
				return nil, err
			}
			cancel()
			for err == nil {
				_, err = tx.ExecContext(ctx, "SELECT")
				time.Sleep(time.Millisecond)
			}
			// Whether the connection was kept shows in what the next use asks of the driver.
			for db.Stats().InUse > 0 {
				time.Sleep(time.Millisecond)
			}
			db.Driver().(*fakeDriver).calls()
			_, err = db.Exec("SELECT")
			return nil, err
		},
	}
	for _, kind := range []string{"plain", "old", "queryer", "new"} {
		for name, scenario := range scenarios {
			if kind == "queryer" && (name == "exec, special" || name == "exec, removed") {
				// The difference that the package comment states: database/sql checks the arguments against
				// the connection, because Conn has ExecContext where the bare one has not.
				continue
			}
			t.Run(kind+"/"+name, func(t *testing.T) {
				outcome := func(db *sql.DB, d *fakeDriver) string {
					value, err := scenario(db)
					d.on = nil
					_ = db.Close()
					if _, ok := value.(sql.Result); ok {
						n, _ := value.(sql.Result).RowsAffected()
						value = n
					}
					return fmt.Sprintf("%v, %v\n%s", value, err, strings.Join(d.calls(), "\n"))
				}
				bare := &fakeDriver{kind: kind}
				want := outcome(sql.OpenDB(bare), bare)
				wrapped := &fakeDriver{kind: kind}
				db, _ := wrap(t, wrapped)
				if got := outcome(db, wrapped); got != want {
					t.Errorf("wrapped:\n%s\n\nbare:\n%s", got, want)
				}
			})
		}
	}
}

func begin(t *testing.T, db *sql.DB) *sql.Tx {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "WRITE"); err != nil {
		t.Fatal(err)
	}
	return tx
}

func TestProtocol(t *testing.T) {
	fail := func(err error) func() error { return func() error { return err } }
	for _, c := range []struct {
		name     string
		commit   func() error
		want     []string
		fenced   bool // afterwards
		changed  bool
		storable bool
	}{
		{"committed", fail(nil), []string{"fence", "publish"}, false, true, true},
		{"rolled back", fail(errors.New("no")), []string{"fence", "release"}, false, false, false},
		{"unknown", fail(errLost), []string{"fence", "fence"}, true, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &fakeDriver{kind: "new", onCommit: c.commit}
			db, f := wrap(t, d)
			_, scope := txscope.OpenScope(t.Context(), f.Store)
			before := f.Stamp(row1)
			tx := begin(t, db)
			if scope.Storable(row1) || scope.Usable(row1) || !scope.Usable(tokens.Row("t", 2)) {
				t.Error("others see the open transaction wrongly")
			}
			if ops := f.Backend.Ops(); len(ops) != 0 {
				t.Errorf("before COMMIT: %v", ops)
			}
			if err := tx.Commit(); !errors.Is(err, c.commit()) {
				t.Errorf("got %v", err)
			}
			if ops := f.Backend.Ops(); !slices.Equal(ops, c.want) {
				t.Errorf("got %v, want %v", ops, c.want)
			}
			if got := f.Fenced(row1); got != c.fenced {
				t.Errorf("fenced: %v", got)
			}
			if got := f.Stamp(row1) != before; got != c.changed {
				t.Errorf("changed: %v", got)
			}
			if got := scope.Storable(row1); got != c.storable {
				t.Errorf("storable: %v", got)
			}
		})
	}
}

// A transaction whose COMMIT by text did not end it goes on.
func TestBusy(t *testing.T) {
	busy := true
	d := &fakeDriver{kind: "new"}
	db, f := wrap(t, d)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tx, err := conn.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	d.on = func(call string) error {
		if busy && strings.Contains(call, "COMMIT") {
			return errBusy
		}
		return nil
	}
	for _, query := range []string{"WRITE", "COMMIT"} {
		_, err = tx.ExecContext(t.Context(), query)
	}
	if !errors.Is(err, errBusy) {
		t.Fatalf("got %v", err)
	}
	if ops := f.Backend.Ops(); !slices.Equal(ops, []string{"fence"}) || !f.Fenced(row1) {
		t.Errorf("busy: %v", ops)
	}
	busy = false
	if _, err := tx.ExecContext(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if ops := f.Backend.Ops(); !slices.Equal(ops, []string{"fence", "publish"}) || f.Fenced(row1) {
		t.Errorf("committed: %v", ops)
	}
	_ = tx.Rollback()
}

func TestConnectionOfUnendedCommitIsNotUsedAgain(t *testing.T) {
	d := &fakeDriver{kind: "new", onCommit: func() error { return errBusy }}
	db, f := wrap(t, d)
	tx := begin(t, db)
	d.calls()
	if err := tx.Commit(); !errors.Is(err, errBusy) {
		t.Fatalf("got %v", err)
	}
	if calls := d.calls(); !slices.Equal(calls, []string{"commit", "close"}) {
		t.Errorf("got %v", calls)
	}
	if ops := f.Backend.Ops(); !slices.Equal(ops, []string{"fence", "release"}) {
		t.Errorf("got %v", ops)
	}
}

// A call is entered once, whatever its text turns out to do.
func TestEnteredOnce(t *testing.T) {
	for _, kind := range []string{"old", "new"} {
		d := &fakeDriver{kind: kind}
		db, _ := wrap(t, d)
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, query := range []string{"SELECT", "COMMIT"} {
			d.idle = 0
			if _, err := conn.ExecContext(t.Context(), query); err != nil {
				t.Fatal(err)
			}
			rows, err := conn.QueryContext(t.Context(), query)
			if err != nil {
				t.Fatal(err)
			}
			_ = rows.Close()
			if d.idle != 2 {
				t.Errorf("%s, %s: entered %d times in 2 calls", kind, query, d.idle)
			}
		}
	}
}

// Outside of a transaction a scope learns how old the snapshot is that rows left open hold.
func TestSnapshot(t *testing.T) {
	d := &fakeDriver{kind: "new"}
	db, f := wrap(t, d)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	read := func() *txscope.Scope {
		t.Helper()
		if _, err := tokens.Bump(t.Context(), f.Store, row1); err != nil {
			t.Fatal(err)
		}
		ctx, scope := txscope.OpenScope(t.Context(), f.Store)
		if _, err := conn.ExecContext(ctx, "SELECT"); err != nil {
			t.Fatal(err)
		}
		return scope
	}
	if before := read().Watermark(); before != f.Store.Seen() {
		t.Fatalf("nothing is open, and the watermark is %v of %v", before, f.Store.Seen())
	}
	since := f.Store.Seen()
	d.reading = true
	for range 2 {
		if got := read().Watermark(); got != since {
			t.Errorf("watermark %v, and the snapshot is of %v", got, since)
		}
	}
	d.reading = false
	if got := read().Watermark(); got != f.Store.Seen() {
		t.Errorf("nothing is open any more, and the watermark is %v of %v", got, f.Store.Seen())
	}
}

func TestAutocommit(t *testing.T) {
	d := &fakeDriver{kind: "new"}
	db, f := wrap(t, d)
	d.on = func(call string) error {
		if strings.HasPrefix(call, "exec") && !f.Fenced(row1) {
			t.Error("not fenced when it is sent")
		}
		return nil
	}
	if _, err := db.Exec("WRITE"); err != nil {
		t.Fatal(err)
	}
	if ops := f.Backend.Ops(); !slices.Equal(ops, []string{"fence", "publish"}) {
		t.Errorf("got %v", ops)
	}
	for want, err := range map[string]error{"release": errors.New("no"), "fence": errLost} {
		d.on = func(call string) error {
			if strings.HasPrefix(call, "exec") {
				return err
			}
			return nil
		}
		if _, got := db.Exec("WRITE"); !errors.Is(got, err) {
			t.Errorf("got %v", got)
		}
		if ops := f.Backend.Ops(); !slices.Equal(ops, []string{"fence", want}) {
			t.Errorf("after %v: %v", err, ops)
		}
	}
}

// What a capture says was written through the bare connection is published when the connection goes
// back, or is used again.
func TestBare(t *testing.T) {
	d := &fakeDriver{kind: "new"}
	db, f := wrap(t, d)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, next := range []struct {
		name string
		call func() error
	}{
		{"a statement", func() error {
			_, err := conn.ExecContext(t.Context(), "SELECT")
			return err
		}},
		{"a ping", func() error { return conn.PingContext(t.Context()) }},
		{"back in the pool", func() error { return conn.Close() }},
	} {
		if err := conn.Raw(func(c any) error { c.(*txscope.Conn).Bare(); return nil }); err != nil {
			t.Fatal(err)
		}
		if ops := f.Backend.Ops(); len(ops) != 0 {
			t.Errorf("%s: before it: %v", next.name, ops)
		}
		if err := next.call(); err != nil {
			t.Fatalf("%s: %v", next.name, err)
		}
		if ops := f.Backend.Ops(); !slices.Contains(ops, "fence") {
			t.Errorf("%s: %v", next.name, ops)
		}
	}
}

// The fence is renewed while COMMIT runs, and not afterwards.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proceed := make(chan struct{})
		d := &fakeDriver{kind: "new", onCommit: func() error { <-proceed; return nil }}
		db, f := wrap(t, d, txscope.Lease(10*time.Second))
		tx := begin(t, db)
		done := make(chan error)
		go func() { done <- tx.Commit() }()
		for range 60 {
			time.Sleep(time.Second)
			synctest.Wait()
			if !f.Fenced(row1) {
				t.Fatal("the fence has lapsed")
			}
		}
		if n := len(f.Backend.Ops()); n < 60 || n > 62 {
			t.Errorf("fenced %d times in a minute", n)
		}
		close(proceed)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if ops := f.Backend.Ops(); !slices.Equal(ops, []string{"publish"}) {
			t.Errorf("got %v", ops)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if ops := f.Backend.Ops(); len(ops) != 0 {
			t.Errorf("afterwards: %v", ops)
		}
	})
}

// A process that was paused between the fence and COMMIT fences again: for half the lease, or for so long that
// the fence would not be renewed in time if the store lost it.
func TestPausedProcessFencesAgain(t *testing.T) {
	for _, c := range []struct {
		name  string
		lease time.Duration
		pause time.Duration
		want  []string
	}{
		{"half the lease", time.Second, 501 * time.Millisecond, []string{"fence", "fence", "fence", "publish"}},
		{"not quite", time.Second, 500 * time.Millisecond, []string{"fence", "publish"}},
		{"more than a second", time.Minute, 1001 * time.Millisecond, []string{"fence", "fence", "fence", "publish"}},
		{"a second", time.Minute, time.Second, []string{"fence", "publish"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			pausing(t, 2, c.pause, func(t *testing.T, d *pausedDB) {
				if err := d.tx.Commit(); err != nil {
					t.Fatal(err)
				}
				if ops := d.backend.Ops(); !slices.Equal(ops, c.want) {
					t.Errorf("got %v, want %v", ops, c.want)
				}
			}, txscope.Lease(c.lease))
		})
	}
}

// A store that confirms every fence too late holds up no commit for ever. With Strict it is refused, and
// nothing is left of the fences; else it is sent, and what it changed is published.
func TestFencesThatComeLate(t *testing.T) {
	for _, strict := range []bool{true, false} {
		t.Run(fmt.Sprint("strict ", strict), func(t *testing.T) {
			opts, want := []txscope.Option{txscope.Lease(time.Minute)}, []string{"fence", "fence", "fence", "publish"}
			if strict {
				opts, want = append(opts, txscope.Strict()), []string{"fence", "fence", "fence", "release"}
			}
			pausing(t, 1000, 2*time.Second, func(t *testing.T, d *pausedDB) {
				err := d.tx.Commit()
				if errors.Is(err, txscope.ErrFence) != strict || !strict && err != nil {
					t.Errorf("got %v", err)
				}
				if calls := d.driver.calls(); slices.Contains(calls, "commit") == strict || slices.Contains(calls, "rollback") != strict {
					t.Errorf("got %v", calls)
				}
				if ops := d.backend.Ops(); !slices.Equal(ops, want) {
					t.Errorf("got %v, want %v", ops, want)
				}
				if token, err := d.store.Read(t.Context(), []tokens.ID{row1}); err != nil || token[0].Fenced {
					t.Errorf("afterwards: %+v, %v", token, err)
				}
			}, opts...)
		})
	}
}

// Where nothing is refused, no request of this process uses what such a commit changes before it is published,
// and it is logged once a minute what to do.
func TestFencesThatComeLateAreNotReliedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend, logged := txscopetest.NewBackend(), new(txscopetest.Log)
		store := tokens.New(backend, tokens.WithWriteTimeout(0))
		defer store.Close()
		d := &fakeDriver{kind: "new"}
		c, err := txscope.Wrap(d, store, txscope.WithLogger(logged.Logger()))
		if err != nil {
			t.Fatal(err)
		}
		db := sql.OpenDB(c)
		defer db.Close()
		backend.OnCall(func(c txscopetest.Call) {
			if c.Op == "fence" {
				time.Sleep(2 * time.Second)
			}
		})
		ctx, _ := txscope.OpenScope(t.Context(), store)
		_, other := txscope.OpenScope(t.Context(), store)
		commits := 0
		d.onCommit = func() error {
			commits++
			if other.Usable(row1) || other.Storable(row1) || !other.Usable(row2) || !other.Storable(row2) {
				t.Error("another request uses what the commit changes, or nothing at all")
			}
			return nil
		}
		for _, c := range []struct {
			pause time.Duration
			logs  int
		}{{0, 1}, {0, 1}, {time.Minute, 2}} {
			time.Sleep(c.pause)
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.ExecContext(ctx, "WRITE"); err != nil {
				t.Fatal(err)
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			if !other.Usable(row1) || !other.Storable(row1) {
				t.Error("what is published is not used again")
			}
			if n := strings.Count(logged.String(), "fences too late"); n != c.logs {
				t.Errorf("after %d commits it was logged %d times, want %d\n%s", commits, n, c.logs, logged)
			}
		}
		if s, err := txscope.Stats(t.Context(), db); err != nil || len(s.Problems) != 1 || s.Problems[0].Count != 3 {
			t.Errorf("got %+v, %v", s, err)
		}
	})
}

// pausedDB has a transaction that has changed row1.
type pausedDB struct {
	driver  *fakeDriver
	backend *txscopetest.Backend
	store   *tokens.Store
	tx      *sql.Tx
}

// pausing runs a test on fake time in which the process is paused after each of the first fences.
func pausing(t *testing.T, fences int, pause time.Duration, test func(*testing.T, *pausedDB), opts ...txscope.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &pausedDB{driver: &fakeDriver{kind: "new"}, backend: txscopetest.NewBackend()}
		d.store = tokens.New(d.backend, tokens.WithWriteTimeout(0))
		defer d.store.Close()
		c, err := txscope.Wrap(d.driver, d.store, opts...)
		if err != nil {
			t.Fatal(err)
		}
		db := sql.OpenDB(c)
		defer db.Close()
		d.tx = begin(t, db)
		d.driver.calls()
		d.backend.OnCall(func(c txscopetest.Call) {
			if c.Op == "fence" && fences > 0 {
				fences--
				time.Sleep(pause)
			}
		})
		test(t, d)
	})
}

func TestChangedWaitsForCommit(t *testing.T) {
	proceed := make(chan struct{})
	reached := make(chan struct{})
	d := &fakeDriver{kind: "new", onCommit: func() error { close(reached); <-proceed; return nil }}
	db, f := wrap(t, d)
	ctx, _ := txscope.OpenScope(t.Context(), f.Store)
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, "WRITE"); err != nil {
		t.Fatal(err)
	}
	committed := make(chan error)
	go func() { committed <- tx.Commit() }()
	<-reached

	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := txscope.Changed(short, tokens.Row("t", 2)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	marked := make(chan error)
	go func() { marked <- txscope.Changed(ctx, tokens.Row("t", 3)) }()
	close(proceed)
	if err := errors.Join(<-committed, <-marked); err != nil {
		t.Fatal(err)
	}
	ops := f.Backend.Calls()
	last := ops[len(ops)-1]
	if last.Op != "publish" || !slices.Contains(last.IDs, tokens.Row("t", 3)) {
		t.Errorf("got %v", ops)
	}
}

func TestChangedWithoutScope(t *testing.T) {
	if err := txscope.Changed(t.Context(), tokens.Global); !errors.Is(err, txscope.ErrNoScope) {
		t.Errorf("got %v", err)
	}
	called := false
	txscope.OnCommit(t.Context(), func(context.Context) { called = true })
	if !called {
		t.Error("OnCommit with nothing open does not call at once")
	}
}

func TestOptions(t *testing.T) {
	store := tokens.NewMemory()
	defer store.Close()
	d := &fakeDriver{}
	for name, err := range map[string]error{
		"store":         second(txscope.Wrap(d, nil)),
		"lease":         second(txscope.Wrap(d, store, txscope.Lease(time.Millisecond))),
		"connector":     second(txscope.Wrap(nil, store)),
		"store of Open": second(txscope.Open("sqlite", "x", nil)),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), "alkey: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := txscope.Wrap(d, store, nil, txscope.WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := txscope.Wrap(c, store); !errors.Is(err, txscope.ErrOption) {
		t.Errorf("wrapped twice: %v", err)
	}
	if n := store.Databases(); n != 1 {
		t.Errorf("%d databases", n)
	}
	if c.Driver() != driver.Driver(d) {
		t.Error("another driver")
	}
}

func second[T any](_ T, err error) error { return err }

type otherDriver struct{}

func (otherDriver) Open(string) (driver.Conn, error) { return nil, errors.New("unused") }

func (d otherDriver) OpenConnector(dsn string) (driver.Connector, error) {
	if strings.Contains(dsn, "secret") {
		return nil, fmt.Errorf("cannot parse %q", dsn)
	}
	return otherConnector{d}, nil
}

type otherConnector struct{ d otherDriver }

func (c otherConnector) Connect(context.Context) (driver.Conn, error) {
	return nil, errors.New("unused")
}
func (c otherConnector) Driver() driver.Driver { return c.d }

func init() { sql.Register("other", otherDriver{}) }

func TestNoCapture(t *testing.T) {
	store := tokens.NewMemory()
	defer store.Close()
	for name, want := range map[string]string{
		"sqlite":   `add import _ "github.com/alkey-go/alkey/txscope/sqlite"`,
		"pgx":      `for driver "pgx"`,
		"pgx/v5":   `for driver "pgx/v5"`,
		"postgres": `for driver "postgres"`,
		"mysql":    `for driver "mysql"`,
		"other":    `txscope.Capture`,
		"nowhere":  `imported are: fake`,
	} {
		_, err := txscope.Open(name, "x", store)
		if !errors.Is(err, txscope.ErrNoCapture) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := txscope.Wrap(otherConnector{}, store); !errors.Is(err, txscope.ErrNoCapture) {
		t.Errorf("got %v", err)
	}
	if n := store.Databases(); n != 0 {
		t.Errorf("%d databases", n)
	}
}

func TestNoPasswordInErrors(t *testing.T) {
	store := tokens.NewMemory()
	defer store.Close()
	for _, dsn := range []string{
		"user:secret@tcp(localhost)/db",
		"postgres://user:secret@localhost/db?x=%zz",
		"postgres://user:secret@word@localhost/db",
		"host=localhost password=secret dbname=x",
		"host=localhost password='secret word' dbname=x",
		"postgres://localhost/db?user=u&password=secret",
	} {
		_, err := txscope.Open("other", dsn, store)
		if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "word@") {
			t.Errorf("%s: %v", dsn, err)
		}
	}
}

func TestRegisterPanics(t *testing.T) {
	for name, register := range map[string]func(){
		"twice": func() { txscope.Register("fake", fakeCapture{}) },
		"nil":   func() { txscope.Register("nil", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			register()
		})
	}
}
