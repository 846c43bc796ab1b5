package alkey_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
	_ "github.com/alkey-go/alkey/txscope/sqlite"
)

// What stands in the design as a number of round trips.
func TestRoundTrips(t *testing.T) {
	ctx := t.Context()
	client := redis.NewClient(&redis.Options{Addr: testserver.Redis(t).Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	sent := new(testserver.Commands)
	store, err := tokens.NewRedis(ctx, tokens.RedisOptions{Client: client, Hooks: []redis.Hook{sent}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	tokenstest.Ready(t, store)
	db, err := alkey.Open("sqlite", filepath.Join(t.TempDir(), "rows.db"), store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(ctx, "CREATE TABLE rows (id INTEGER PRIMARY KEY, n INTEGER)"); err != nil {
		t.Fatal(err)
	}
	kit, err := request.New(request.Config{Tokens: store})
	if err != nil {
		t.Fatal(err)
	}
	rows := make([]*row, 100)
	for i := range rows {
		rows[i] = &row{ID: int64(i + 1)}
		if _, err := db.ExecContext(ctx, "INSERT INTO rows VALUES (?, 0)", rows[i].ID); err != nil {
			t.Fatal(err)
		}
	}
	open := func() (context.Context, *request.Scope) { return kit.Open(ctx) }
	warm, scope := open()
	if err := scope.Prefetch(warm, rows, tokens.Table("rows"), tokens.Global); err != nil {
		t.Fatal(err)
	}

	check := func(what string, want int, fn func()) {
		t.Helper()
		sent.Take()
		fn()
		if got := len(sent.Take()); got != want {
			t.Errorf("%s: %d round trips, not %d", what, got, want)
		}
	}
	check("opening a scope", 0, func() { open() })
	check("a first key", 1, func() {
		ctx, scope := open()
		if _, err := scope.Key(ctx, rows[0], "page"); err != nil {
			t.Error(err)
		}
	})
	check("a prefetch of 100 rows and then their keys", 1, func() {
		ctx, scope := open()
		if err := scope.Prefetch(ctx, rows); err != nil {
			t.Error(err)
		}
		for _, r := range rows {
			if key, err := scope.Key(ctx, r, "row"); err != nil || !key.Storable() {
				t.Errorf("row %d: %v, %v", r.ID, key.Reason(), err)
			}
		}
	})
	check("one key of 100 rows", 1, func() {
		ctx, scope := open()
		if _, err := scope.Key(ctx, rows, tokens.Table("rows"), "list"); err != nil {
			t.Error(err)
		}
	})
	check("a write transaction", 2, func() {
		transact(t, ctx, db, func(tx *sqlx.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE rows SET n = n + 1 WHERE id = 1")
			return err
		})
	})
	check("a write transaction of 100 rows", 2, func() {
		transact(t, ctx, db, func(tx *sqlx.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE rows SET n = n + 1")
			return err
		})
	})
	check("a statement outside a transaction", 2, func() {
		if _, err := db.ExecContext(ctx, "UPDATE rows SET n = n + 1 WHERE id = 2"); err != nil {
			t.Error(err)
		}
	})
	check("a read-only transaction", 0, func() {
		transact(t, ctx, db, func(tx *sqlx.Tx) error {
			var n int
			return tx.GetContext(ctx, &n, "SELECT count(*) FROM rows")
		})
	})
	check("a transaction that is rolled back", 0, func() {
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM rows"); err != nil {
			t.Error(err)
		}
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
	})
}

func transact(t *testing.T, ctx context.Context, db *sqlx.DB, fn func(*sqlx.Tx) error) {
	t.Helper()
	tx, err := db.BeginTxx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if err := fn(tx); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}
