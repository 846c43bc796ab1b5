package alkey_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// TestStrict: while the token store takes no fences, whatever is to commit is refused by a strict
// database with ErrFence, and nothing of it is in the database; the connection is none the worse.
// Other databases commit, and their keys change when the store is back. Then the strict one commits too.
func TestStrict(t *testing.T) {
	for _, d := range capturedDatabases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			dsn := d.dsn(t)
			if d.driver == "mysql" {
				dsn += "?multiStatements=true"
			}
			for _, trouble := range troubles {
				t.Run(trouble.name, func(t *testing.T) {
					newStrict(t, d, dsn, trouble).run(t)
				})
			}
		})
	}
}

// trouble is why a token store takes no fences.
type trouble struct {
	name       string
	lease      time.Duration
	begin, end func(t *testing.T, server *testserver.RedisServer, client *redis.Client)
}

var troubles = []trouble{
	{
		// It can take fences in the end that nobody waits for any more: they lapse.
		name: "hangs", lease: 5 * time.Second,
		begin: func(t *testing.T, server *testserver.RedisServer, _ *redis.Client) { server.Pause() },
		end:   func(t *testing.T, server *testserver.RedisServer, _ *redis.Client) { server.Resume() },
	},
	{name: "is a replica", lease: time.Hour, begin: say("REPLICAOF", "127.0.0.1", "1"), end: say("REPLICAOF", "NO", "ONE")},
	{name: "is full", lease: time.Hour, begin: say("CONFIG", "SET", "maxmemory", "1"), end: say("CONFIG", "SET", "maxmemory", "0")},
}

func say(command ...any) func(*testing.T, *testserver.RedisServer, *redis.Client) {
	return func(t *testing.T, _ *testserver.RedisServer, client *redis.Client) {
		t.Helper()
		if err := client.Do(t.Context(), command...).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// strictDatabase is one database, opened three times.
type strictDatabase struct {
	capturedDatabase
	trouble trouble
	server  *testserver.RedisServer
	client  *redis.Client
	store   *tokens.Store

	strict, loose *sqlx.DB
	bare          *sqlx.DB
	forms         []commitForm
}

func newStrict(t *testing.T, d capturedDatabase, dsn string, trouble trouble) *strictDatabase {
	s := &strictDatabase{capturedDatabase: d, trouble: trouble, server: testserver.Redis(t)}
	s.client = redis.NewClient(&redis.Options{Addr: s.server.Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = s.client.Close() })
	backend, err := tokens.NewRedisBackend(tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{Addrs: []string{s.server.Addr()}}})
	if err != nil {
		t.Fatal(err)
	}
	s.store = tokens.New(backend, tokens.WithLogger(slog.New(slog.DiscardHandler)))
	t.Cleanup(func() { _ = s.store.Close() })
	keep := func(db *sqlx.DB, err error) *sqlx.DB {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	s.bare = keep(sqlx.Open(d.driver, dsn))
	for _, statement := range []string{"DROP TABLE IF EXISTS notes", "DROP TABLE IF EXISTS made", "CREATE TABLE notes (id INTEGER PRIMARY KEY, v INTEGER NOT NULL)"} {
		s.bare.MustExec(statement)
	}
	for _, f := range commitForms {
		if f.only == nil || slices.Contains(f.only, d.name) {
			s.forms = append(s.forms, f)
			s.bare.MustExec(fmt.Sprintf("INSERT INTO notes VALUES (%d, 0)", len(s.forms)))
		}
	}
	s.strict = keep(alkey.Open(d.driver, dsn, s.store, txscope.Strict(), txscope.Lease(trouble.lease)))
	s.loose = keep(alkey.Open(d.driver, dsn, s.store))
	return s
}

// content is what is in the database for everybody to see.
func (s *strictDatabase) content(t *testing.T) string {
	t.Helper()
	var rows []struct{ ID, V int }
	if err := s.bare.Select(&rows, "SELECT id, v FROM notes ORDER BY id"); err != nil {
		t.Fatal(err)
	}
	_, err := s.bare.Exec("SELECT id FROM made WHERE 1 = 0")
	return fmt.Sprint(rows, " made: ", err == nil)
}

// stamps are those of the forms' rows. It waits until the store is back.
func (s *strictDatabase) stamps(t *testing.T) []tokens.Token {
	t.Helper()
	var ids []tokens.ID
	for i := range s.forms {
		ids = append(ids, tokens.Row("notes", i+1))
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		found, err := s.store.Read(t.Context(), ids)
		var fenced []string
		for i := range found {
			if found[i].Fenced {
				fenced = append(fenced, s.forms[i].name)
			}
		}
		if err == nil && fenced == nil {
			return found
		}
		if time.Now().After(end) {
			t.Fatalf("the store is not back (%v), or these are fenced: %q", err, fenced)
		}
	}
}

func (s *strictDatabase) run(t *testing.T) {
	// Schemas are read, so that what follows is not all taken for changes of everything.
	for _, db := range []*sqlx.DB{s.strict, s.loose} {
		db.MustExec("UPDATE notes SET v = v + 1 WHERE id = 1")
	}
	before := s.stamps(t)
	s.trouble.begin(t, s.server, s.client)
	for i, f := range s.forms {
		t.Run(f.name, func(t *testing.T) {
			conn := s.conn(t, s.strict)
			for range 2 { // the connection is as it was
				was := s.content(t)
				if err := f.run(t.Context(), conn, i+1); !errors.Is(err, txscope.ErrFence) {
					t.Errorf("strict: %v", err)
				}
				if is := s.content(t); is != was {
					t.Errorf("refused, and in the database\n%s\nwas\n%s", is, was)
				}
				s.idle(t, conn, i+1)
			}
			if err := s.conn(t, s.strict).PingContext(t.Context()); err != nil {
				t.Error(err)
			}

			was := s.content(t)
			conn = s.conn(t, s.loose)
			if err := f.run(t.Context(), conn, i+1); err != nil {
				t.Errorf("not strict: %v", err)
			}
			if s.content(t) == was {
				t.Error("not strict: nothing was committed")
			}
			s.idle(t, conn, i+1)
			s.reset(t)
		})
	}
	s.harmless(t)
	s.trouble.end(t, s.server, s.client)

	after := s.stamps(t)
	for i, f := range s.forms {
		if after[i].Stamp == before[i].Stamp {
			t.Errorf("%s: what was committed without a fence is not published when the store is back", f.name)
		}
	}
	for i, f := range s.forms {
		was := s.content(t)
		if err := f.run(t.Context(), s.conn(t, s.strict), i+1); err != nil {
			t.Errorf("%s: when the store is back: %v", f.name, err)
		}
		if s.content(t) == was {
			t.Errorf("%s: when the store is back nothing is committed", f.name)
		}
		s.reset(t)
	}
	for i, now := range s.stamps(t) {
		if now.Stamp == after[i].Stamp {
			t.Errorf("%s: when the store is back no key changes", s.forms[i].name)
		}
	}
}

func (s *strictDatabase) conn(t *testing.T, db *sqlx.DB) *sql.Conn {
	t.Helper()
	conn, err := db.DB.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// idle checks that a connection has no transaction open, and can be used.
func (s *strictDatabase) idle(t *testing.T, conn *sql.Conn, row int) {
	t.Helper()
	// Nobody holds a lock on the row.
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	if _, err := s.bare.ExecContext(ctx, fmt.Sprintf("UPDATE notes SET v = v + 1 WHERE id = %d", row)); err != nil {
		t.Errorf("the row is locked: %v", err)
	}
	// And what others commit is seen.
	var seen, v int
	question := fmt.Sprintf("SELECT v FROM notes WHERE id = %d", row)
	if err := conn.QueryRowContext(t.Context(), question).Scan(&seen); err != nil {
		t.Errorf("the connection cannot be used: %v", err)
	}
	if err := s.bare.Get(&v, question); err != nil || seen != v {
		t.Errorf("the connection sees %d and not %d, %v", seen, v, err)
	}
	tx, err := conn.BeginTx(t.Context(), nil)
	if err != nil {
		t.Errorf("the connection begins no transaction: %v", err)
		return
	}
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
}

// harmless checks that what commits nothing needs no store.
func (s *strictDatabase) harmless(t *testing.T) {
	for name, err := range map[string]error{
		"a query": func() error {
			var n int
			return s.strict.Get(&n, "SELECT count(*) FROM notes")
		}(),
		"a transaction that reads": s.transaction(t, "SELECT v FROM notes", (*sql.Tx).Commit),
		"a rollback":               s.transaction(t, "UPDATE notes SET v = v + 1", (*sql.Tx).Rollback),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (s *strictDatabase) transaction(t *testing.T, statement string, end func(*sql.Tx) error) error {
	tx, err := s.strict.DB.BeginTx(t.Context(), nil)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(t.Context(), statement); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return end(tx)
}

// reset takes back what forms do besides changing their row.
func (s *strictDatabase) reset(t *testing.T) {
	t.Helper()
	if _, err := s.bare.Exec("DROP TABLE IF EXISTS made"); err != nil {
		t.Fatal(err)
	}
}

// commitForm is a way to commit a change of a row.
type commitForm struct {
	name string
	only []string // databases; nil: all
	run  func(ctx context.Context, c *sql.Conn, row int) error
}

// updateOf is the statement that changes the row.
func updateOf(row int) string { return fmt.Sprintf("UPDATE notes SET v = v + 1 WHERE id = %d", row) }

// texts runs texts of which %s is the update. If one fails, it rolls back.
func texts(list ...string) func(context.Context, *sql.Conn, int) error {
	return func(ctx context.Context, c *sql.Conn, row int) error {
		for _, text := range list {
			if _, err := c.ExecContext(ctx, strings.ReplaceAll(text, "%s", updateOf(row))); err != nil {
				return err
			}
		}
		return nil
	}
}

// inside runs texts in a transaction of the API.
func inside(list ...string) func(context.Context, *sql.Conn, int) error {
	return func(ctx context.Context, c *sql.Conn, row int) error {
		tx, err := c.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		for _, text := range list {
			if _, err := tx.ExecContext(ctx, strings.ReplaceAll(text, "%s", updateOf(row))); err != nil {
				return err
			}
		}
		return tx.Commit()
	}
}

// queried runs a text as a query, to the end of its rows.
func queried(text string) func(context.Context, *sql.Conn, int) error {
	return func(ctx context.Context, c *sql.Conn, row int) error {
		rows, err := c.QueryContext(ctx, strings.ReplaceAll(text, "%s", updateOf(row)))
		if err != nil {
			return err
		}
		for rows.Next() {
		}
		return errors.Join(rows.Err(), rows.Close())
	}
}

var commitForms = []commitForm{
	{name: "transaction", run: inside("%s")},
	{name: "transaction of several statements", run: inside("%s", "SELECT 1", "%s")},
	{name: "statement", run: texts("%s")},
	{name: "statement for all rows", run: texts("UPDATE notes SET v = v + 1")},
	{name: "replaced row", run: func(ctx context.Context, c *sql.Conn, row int) error {
		return inside(fmt.Sprintf("DELETE FROM notes WHERE id = %d", row), fmt.Sprintf("INSERT INTO notes VALUES (%d, %d)", row, time.Now().UnixMilli()%1_000_000_000))(ctx, c, row)
	}},
	{name: "prepared statement", run: func(ctx context.Context, c *sql.Conn, row int) error {
		s, err := c.PrepareContext(ctx, updateOf(row))
		if err != nil {
			return err
		}
		defer s.Close()
		_, err = s.ExecContext(ctx)
		return err
	}},
	{name: "prepared statement in a transaction", run: func(ctx context.Context, c *sql.Conn, row int) error {
		tx, err := c.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		s, err := tx.PrepareContext(ctx, updateOf(row))
		if err != nil {
			return err
		}
		defer s.Close()
		if _, err := s.ExecContext(ctx); err != nil {
			return err
		}
		return tx.Commit()
	}},
	{name: "BEGIN and COMMIT as text", run: texts("BEGIN", "%s", "COMMIT")},
	{name: "BEGIN and COMMIT as prepared text", run: func(ctx context.Context, c *sql.Conn, row int) error {
		for _, text := range []string{"BEGIN", updateOf(row), "COMMIT"} {
			s, err := c.PrepareContext(ctx, text)
			if err != nil {
				return err
			}
			_, err = s.ExecContext(ctx)
			if err = errors.Join(err, s.Close()); err != nil {
				return err
			}
		}
		return nil
	}},
	{name: "BEGIN as text, COMMIT as a query", run: func(ctx context.Context, c *sql.Conn, row int) error {
		if err := texts("BEGIN", "%s")(ctx, c, row); err != nil {
			return err
		}
		return queried("COMMIT")(ctx, c, row)
	}},
	{name: "savepoint", run: inside("%s", "SAVEPOINT a", "%s", "RELEASE SAVEPOINT a")},
	{name: "savepoint that is rolled back to", run: inside("%s", "SAVEPOINT a", "DELETE FROM notes", "ROLLBACK TO SAVEPOINT a", "%s")},
	{name: "savepoint as text", run: texts("BEGIN", "SAVEPOINT a", "%s", "RELEASE SAVEPOINT a", "COMMIT")},
	{name: "savepoint without BEGIN", only: []string{"SQLite"}, run: texts("SAVEPOINT a", "%s", "RELEASE SAVEPOINT a")},
	{name: "several statements in a text", run: texts("%s; %s")},
	{name: "a whole transaction in a text", run: texts("BEGIN; %s; COMMIT")},
	{name: "RETURNING", only: []string{"SQLite", "PostgreSQL"}, run: queried("%s RETURNING v")},
	{name: "INSERT that returns", only: []string{"MariaDB"}, run: func(ctx context.Context, c *sql.Conn, row int) error {
		return queried(fmt.Sprintf("REPLACE INTO notes VALUES (%d, %d) RETURNING v", row, time.Now().UnixMilli()%1_000_000_000))(ctx, c, row)
	}},
	{name: "DDL", run: texts("CREATE TABLE made (id INTEGER PRIMARY KEY)", "DROP TABLE made", "%s")},
	{name: "DDL alone", run: func(ctx context.Context, c *sql.Conn, row int) error {
		err := texts("CREATE TABLE made (id INTEGER PRIMARY KEY)")(ctx, c, row)
		if err == nil { // it does not say which row
			err = texts("%s")(ctx, c, row)
		}
		return err
	}},
	{name: "DDL in a transaction", only: []string{"SQLite", "PostgreSQL"}, run: inside("%s", "CREATE TABLE made (id INTEGER PRIMARY KEY)")},
	{name: "DDL that commits a transaction", only: []string{"MariaDB"}, run: inside("%s", "CREATE TABLE made (id INTEGER PRIMARY KEY)")},
	{name: "DDL that commits what a text began", only: []string{"MariaDB"}, run: orRollback(texts("BEGIN", "%s", "CREATE TABLE made (id INTEGER PRIMARY KEY)", "COMMIT"))},
	{name: "BEGIN that commits what is open", only: []string{"MariaDB"}, run: orRollback(texts("BEGIN", "%s", "BEGIN", "COMMIT"))},
	{name: "autocommit switched on", only: []string{"MariaDB"}, run: orRollback(texts("SET autocommit = 0", "%s", "SET autocommit = 1"), "SET autocommit = 1")},
	{name: "DO block", only: []string{"PostgreSQL"}, run: texts("DO $$ BEGIN %s; END $$")},
}

// orRollback rolls back what run has left open, as a program does: a statement that was refused because
// it would have committed leaves its transaction as it was.
func orRollback(run func(context.Context, *sql.Conn, int) error, more ...string) func(context.Context, *sql.Conn, int) error {
	return func(ctx context.Context, c *sql.Conn, row int) error {
		err := run(ctx, c, row)
		if err == nil {
			return nil
		}
		for _, text := range append([]string{"ROLLBACK"}, more...) {
			if _, rerr := c.ExecContext(ctx, text); rerr != nil {
				err = fmt.Errorf("%w, and then %s: %w", err, text, rerr)
			}
		}
		return err
	}
}
