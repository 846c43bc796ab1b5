package alkey_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alkey-go/alkey"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// A function of OnCommit that panics is logged. The transaction has committed, the functions after
// it are called, and the connection goes back to the pool.
func TestPanicOnCommit(t *testing.T) {
	var log bytes.Buffer
	store := tokens.NewMemory()
	defer store.Close()
	db, err := alkey.Open("sqlite", filepath.Join(t.TempDir(), "p.db"), store, txscope.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	db.MustExec("CREATE TABLE rows (id INTEGER PRIMARY KEY)")
	kit, err := request.New(request.Config{Tokens: store})
	if err != nil {
		t.Fatal(err)
	}
	ctx, _ := kit.Open(t.Context())
	for range 3 {
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO rows DEFAULT VALUES"); err != nil {
			t.Fatal(err)
		}
		called := false
		txscope.OnCommit(ctx, func(context.Context) { panic("oh no") })
		txscope.OnCommit(ctx, func(context.Context) { called = true })
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if !called {
			t.Error("the second function was not called")
		}
		if n := db.Stats().InUse; n != 0 {
			t.Fatalf("%d connections are in use after the commit", n)
		}
	}
	if n := strings.Count(log.String(), "oh no"); n != 3 || !strings.Contains(log.String(), "TestPanicOnCommit") {
		t.Errorf("logged %d times, or without the stack: %s", n, log.String())
	}
	var n int
	if err := db.Get(&n, "SELECT count(*) FROM rows"); err != nil || n != 3 {
		t.Errorf("%d rows, %v", n, err)
	}
}

// Commits after the store was closed are logged, once, and refused by a strict database.
func TestCommitAfterStoreWasClosed(t *testing.T) {
	for _, strict := range []bool{false, true} {
		var log bytes.Buffer
		store := tokens.NewMemory()
		opts := []txscope.Option{txscope.WithLogger(slog.New(slog.NewTextHandler(&log, nil)))}
		if strict {
			opts = append(opts, txscope.Strict())
		}
		db, err := alkey.Open("sqlite", filepath.Join(t.TempDir(), "c.db"), store, opts...)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		db.MustExec("CREATE TABLE rows (id INTEGER PRIMARY KEY)")
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := db.Exec("INSERT INTO rows DEFAULT VALUES"); strict != errors.Is(err, txscope.ErrFence) || !strict && err != nil {
				t.Errorf("strict %v: %v", strict, err)
			}
		}
		if n := strings.Count(log.String(), "level="); !strict && n != 1 {
			t.Errorf("logged %d times: %s", n, log.String())
		}
		if _, err := alkey.Open("sqlite", "unused.db", store); !errors.Is(err, txscope.ErrOption) {
			t.Errorf("a database over a closed store: %v", err)
		}
	}
}

// A text that goes on after its COMMIT is run to its end before the functions of OnCommit are called:
// in the middle of a statement they could not use the database.
func TestOnCommitInsideAText(t *testing.T) {
	store := tokens.NewMemory()
	defer store.Close()
	db, err := alkey.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "t.db")+"?_journal_mode=WAL&_busy_timeout=5000", store)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.MustExec("CREATE TABLE rows (id INTEGER PRIMARY KEY)")
	kit, err := request.New(request.Config{Tokens: store})
	if err != nil {
		t.Fatal(err)
	}
	ctx, _ := kit.Open(t.Context())
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "BEGIN; INSERT INTO rows DEFAULT VALUES"); err != nil {
		t.Fatal(err)
	}
	var found []int
	txscope.OnCommit(ctx, func(ctx context.Context) {
		var n int
		if err := db.GetContext(ctx, &n, "SELECT count(*) FROM rows"); err != nil {
			t.Error(err)
		}
		found = append(found, n)
	})
	if _, err := conn.ExecContext(ctx, "COMMIT; INSERT INTO rows DEFAULT VALUES"); err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0] != 2 {
		t.Errorf("called %d times, and found %v rows; want once, and both", len(found), found)
	}
}

// A transaction that the database has nothing to commit of, and whose end stands in a text with other
// statements, has committed all the same: what was marked by hand is published.
func TestCommitOfNothingInAText(t *testing.T) {
	for _, text := range [][2]string{
		{"BEGIN; SELECT 1", "SELECT 2; COMMIT"},
		{"BEGIN; SELECT 1", "COMMIT"},
		{"SAVEPOINT a; SELECT 1", "RELEASE a"},
	} {
		store := tokens.NewMemory()
		defer store.Close()
		db, err := alkey.Open("sqlite", filepath.Join(t.TempDir(), "n.db"), store)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		kit, err := request.New(request.Config{Tokens: store})
		if err != nil {
			t.Fatal(err)
		}
		before, err := tokens.Get(t.Context(), store, "alkey:rates#1")
		if err != nil {
			t.Fatal(err)
		}
		ctx, _ := kit.Open(t.Context())
		conn, err := db.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.ExecContext(ctx, text[0]); err != nil {
			t.Fatal(err)
		}
		called := 0
		if err := txscope.Changed(ctx, "alkey:rates#1"); err != nil {
			t.Fatal(err)
		}
		txscope.OnCommit(ctx, func(context.Context) { called++ })
		if _, err := conn.ExecContext(ctx, text[1]); err != nil {
			t.Fatal(err)
		}
		if after, err := tokens.Get(t.Context(), store, "alkey:rates#1"); err != nil || after == before {
			t.Errorf("%q: the stamp is still %d, %v", text, after, err)
		}
		if called != 1 {
			t.Errorf("%q: OnCommit's function was called %d times", text, called)
		}
	}
}
