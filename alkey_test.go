package alkey_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/jmoiron/sqlx"
	"go.uber.org/goleak"

	"github.com/alkey-go/alkey"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	_ "github.com/alkey-go/alkey/txscope/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type account struct {
	ID   int    `db:"id"`
	Name string `db:"name"`
}

func (account) TableName() string { return "accounts" }

func openAccounts(t *testing.T, store *tokens.Store, opts ...txscope.Option) *sqlx.DB {
	t.Helper()
	db, err := alkey.Open("sqlite", filepath.Join(t.TempDir(), "app.db"), store, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.MustExec(`CREATE TABLE accounts (id INTEGER PRIMARY KEY, name TEXT)`)
	db.MustExec(`INSERT INTO accounts (name) VALUES ('Ann'), ('Ben')`)
	return db
}

// TestEndToEnd is the promise: keys and fetched values change with the rows, and only with those.
func TestEndToEnd(t *testing.T) {
	store := tokens.NewMemory()
	t.Cleanup(func() { _ = store.Close() })
	db := openAccounts(t, store)
	h := alkey.Middleware(alkey.Config{Tokens: store})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for id := 1; id <= 2; id++ {
			a := &account{ID: id}
			name, err := alkey.Fetch(r, func(ctx context.Context) (string, error) {
				var name string
				err := db.GetContext(ctx, &name, `SELECT name FROM accounts WHERE id = ?`, id)
				return name + " (made)", err
			}, a, "name")
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintln(w, alkey.CacheKey(r, a, "page"))
			fmt.Fprintln(w, name)
		}
	}))
	page := func() []string {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		return strings.Split(strings.TrimSpace(w.Body.String()), "\n")
	}
	page() // reads the tokens for the first time
	page() // stores
	before := page()
	if again := page(); strings.Join(again, "\n") != strings.Join(before, "\n") {
		t.Errorf("nothing was changed, and %q became %q", before, again)
	}
	for _, key := range []string{before[0], before[2]} {
		if strings.HasPrefix(key, "%") {
			t.Errorf("a one-shot key: %q", key)
		}
	}
	db.MustExec(`UPDATE accounts SET name = 'Eve' WHERE id = 1`)
	after := page()
	if after[0] == before[0] || after[1] != "Eve (made)" {
		t.Errorf("the row was changed: %q became %q", before[:2], after[:2])
	}
	if after[2] != before[2] || after[3] != before[3] {
		t.Errorf("the other row was not changed: %q became %q", before[2:], after[2:])
	}
	tx := db.MustBegin()
	tx.MustExec(`UPDATE accounts SET name = 'Nobody' WHERE id = 1`)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if rolled := page(); strings.Join(rolled, "\n") != strings.Join(after, "\n") {
		t.Errorf("after a rollback %q became %q", after, rolled)
	}
}

// TestOwnTransactions: what a request has written and not committed reaches nobody else, and what
// it committed is seen by itself.
func TestOwnTransactions(t *testing.T) {
	store := tokens.NewMemory()
	t.Cleanup(func() { _ = store.Close() })
	db := openAccounts(t, store)
	kit, err := request.New(request.Config{Tokens: store, Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	ann, ben := tokens.Row("accounts", 1), tokens.Row("accounts", 2)
	if _, err := store.Read(t.Context(), []tokens.ID{ann, ben}); err != nil {
		t.Fatal(err)
	}
	key := func(ctx context.Context, id tokens.ID) request.Key {
		s, _ := request.FromContext(ctx)
		k, err := s.Key(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	is := func(what string, k request.Key, usable bool, why request.Reason) {
		t.Helper()
		if k.Usable() != usable || k.Reason() != why {
			t.Errorf("%s: usable %t, reason %q; want %t, %q", what, k.Usable(), k.Reason(), usable, why)
		}
	}
	for _, commit := range []bool{false, true} {
		ctx, _ := kit.Open(t.Context())
		before := key(ctx, ann)
		is("before", before, true, 0)
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE accounts SET name = 'Zoe' WHERE id = 1`); err != nil {
			t.Fatal(err)
		}
		is("of before, when it is written", before, false, request.OwnWrite)
		is("the row", key(ctx, ann), false, request.OwnWrite)
		is("another row", key(ctx, ben), true, request.OwnWrite)
		other, _ := kit.Open(t.Context())
		is("for another request", key(other, ann), true, 0)
		name, err := request.Fetch(ctx, func(ctx context.Context) (name string, err error) {
			return name, tx.GetContext(ctx, &name, `SELECT name FROM accounts WHERE id = 1`)
		}, ann, commit)
		if name != "" && name != "Zoe" || err != nil {
			t.Errorf("inside: %q, %v", name, err)
		}

		if commit {
			err = tx.Commit()
		} else {
			err = tx.Rollback()
		}
		if err != nil {
			t.Fatal(err)
		}
		if commit {
			is("of before, when it is committed", before, false, request.OwnWrite)
			is("asked again", key(ctx, ann), true, request.Younger)
			is("another row, when it is committed", key(ctx, ben), true, 0)
		} else {
			is("of before, when it is rolled back", before, true, request.OwnWrite)
			is("asked again", key(ctx, ann), true, request.OwnWrite)
			is("another row, when it is rolled back", key(ctx, ben), true, 0)
		}
		next, _ := kit.Open(t.Context())
		is("in the next request", key(next, ann), true, 0)
		want := "Ann"
		if commit {
			want = "Zoe"
		}
		got, err := request.Fetch(next, func(ctx context.Context) (string, error) {
			var name string
			err := db.GetContext(ctx, &name, `SELECT name FROM accounts WHERE id = 1`)
			return name, err
		}, ann, commit)
		if got != want || err != nil {
			t.Errorf("afterwards: %q, %v; want %q", got, err, want)
		}
	}
}

// TestTransactionLowersTheWatermark: what is read in a transaction is as old as its beginning.
func TestTransactionLowersTheWatermark(t *testing.T) {
	store := tokens.NewMemory()
	t.Cleanup(func() { _ = store.Close() })
	db := openAccounts(t, store)
	kit, err := request.New(request.Config{Tokens: store, Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	ann := tokens.Row("accounts", 1)
	if _, err := store.Read(t.Context(), []tokens.ID{ann}); err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tokens.Bump(t.Context(), store, ann); err != nil {
		t.Fatal(err)
	}
	ctx, scope := kit.Open(t.Context())
	k, err := scope.Key(ctx, ann)
	if err != nil || !k.Storable() {
		t.Fatalf("before the query: %q, %v", k.Reason(), err)
	}
	var name string
	if err := tx.GetContext(ctx, &name, `SELECT name FROM accounts WHERE id = 1`); err != nil {
		t.Fatal(err)
	}
	if k.Reason() != request.Younger || !k.Usable() {
		t.Errorf("after a query in an older transaction: usable %t, reason %q", k.Usable(), k.Reason())
	}
}

// TestOrderInTheChain: a handler before the middleware that asks the database is told of, once, and
// the request is answered all the same.
func TestOrderInTheChain(t *testing.T) {
	store := tokens.NewMemory()
	t.Cleanup(func() { _ = store.Close() })
	for _, c := range []struct {
		name  string
		lines int
	}{{"before the middleware", 1}, {"after the middleware", 0}} {
		t.Run(c.name, func(t *testing.T) {
			log := new(journal)
			db := openAccounts(t, store, txscope.WithLogger(log.logger()))
			loads := func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					var n int
					if err := db.GetContext(r.Context(), &n, `SELECT count(*) FROM accounts`); err != nil || n != 2 {
						t.Errorf("%d accounts, %v", n, err)
					}
					next.ServeHTTP(w, r)
				})
			}
			r := chi.NewRouter()
			if c.lines > 0 {
				r.Use(loads)
			}
			r.Use(alkey.Middleware(alkey.Config{Tokens: store}))
			if c.lines == 0 {
				r.Use(loads)
			}
			r.Get("/{id}", func(w http.ResponseWriter, r *http.Request) {
				var a account
				if err := db.GetContext(r.Context(), &a, `SELECT * FROM accounts WHERE id = ?`, chi.URLParam(r, "id")); err != nil {
					t.Error(err)
				}
				fmt.Fprint(w, alkey.CacheKey(r, a, a.Name))
			})
			// The warning is about requests of a server, so this is one.
			server := httptest.NewServer(r)
			defer server.Close()
			for range 3 {
				res, err := server.Client().Get(server.URL + "/1")
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || res.StatusCode != http.StatusOK || !strings.HasSuffix(string(body), "/alkey:accounts#1/Ann") {
					t.Errorf("status %d, %q, %v", res.StatusCode, body, err)
				}
			}
			if n := log.count("without a scope of this token store"); n != c.lines {
				t.Errorf("%d warnings, want %d:\n%s", n, c.lines, log)
			}
		})
	}
}

// TestTwoStoresAreToldOf: a middleware whose store no database was opened with gives keys that
// never change.
func TestTwoStoresAreToldOf(t *testing.T) {
	for _, c := range []struct {
		name  string
		same  bool
		lines int
	}{{"one store", true, 0}, {"two stores", false, 1}} {
		t.Run(c.name, func(t *testing.T) {
			log := new(journal)
			store, other := tokens.NewMemory(), tokens.NewMemory()
			t.Cleanup(func() { _, _ = store.Close(), other.Close() })
			h := alkey.Middleware(alkey.Config{Tokens: store, Logger: log.logger()})(http.NotFoundHandler())
			// The database may be opened after the router is set up.
			if c.same {
				openAccounts(t, store)
			} else {
				openAccounts(t, other)
			}
			for range 3 {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
			}
			if n := log.count("the same store"); n != c.lines {
				t.Errorf("%d warnings, want %d:\n%s", n, c.lines, log)
			}
		})
	}
}

// journal collects what is logged.
type journal struct {
	mu sync.Mutex
	b  strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

func (j *journal) count(text string) int { return strings.Count(j.String(), text) }

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func TestMiddlewarePanics(t *testing.T) {
	defer func() {
		err, _ := recover().(error)
		if !errors.Is(err, request.ErrConfig) {
			t.Errorf("panicked with %v", err)
		}
	}()
	alkey.Middleware(alkey.Config{})
}

func TestOpenNeedsACapture(t *testing.T) {
	store := tokens.NewMemory()
	t.Cleanup(func() { _ = store.Close() })
	if _, err := alkey.Open("unheard-of", "", store); !errors.Is(err, txscope.ErrNoCapture) {
		t.Errorf("the error is %v", err)
	}
}

func TestFetchWithoutMiddleware(t *testing.T) {
	_, err := alkey.Fetch(httptest.NewRequest("GET", "/", nil), func(context.Context) (int, error) { return 1, nil }, "x")
	if !errors.Is(err, request.ErrNoScope) {
		t.Errorf("the error is %v", err)
	}
}
