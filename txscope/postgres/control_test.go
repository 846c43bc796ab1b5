package postgres_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/txscopetest"
)

func code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// expect asserts what was published.
func (f *fixture) expect(want string) {
	f.Helper()
	if got := f.published(); got != want {
		f.Errorf("published %q; want %q (%v)\n%s", got, want, f.reasons(), f.log)
	}
}

// TestTexts: transactions that are controlled by text.
func TestTexts(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	f.db.SetMaxIdleConns(0) // each begins with a connection of its own
	for _, c := range []struct {
		name  string
		texts []string // an error is expected of those that begin with "!"
		want  string
	}{
		{"commit", []string{"BEGIN", "UPDATE users SET seen = 1 WHERE id = 1", "COMMIT"}, "users#1"},
		{"rollback", []string{"BEGIN", "UPDATE users SET seen = 1 WHERE id = 1", "ROLLBACK"}, ""},
		{"end", []string{"START TRANSACTION", "UPDATE users SET seen = 1 WHERE name = 'b'", "END"}, "users#2"},
		{"commit of a failed transaction", []string{"BEGIN", "UPDATE users SET seen = 1", "!SELECT 1/0", "COMMIT"}, ""},
		{"rollback to", []string{"BEGIN", "SAVEPOINT a", "UPDATE users SET seen = 1 WHERE id = 1", "ROLLBACK TO a", "UPDATE users SET seen = 1 WHERE id = 2", "COMMIT"}, "users#2"},
		{"rollback to after a failure", []string{"BEGIN", "UPDATE users SET seen = 1 WHERE id = 3", "SAVEPOINT a", "UPDATE users SET seen = 1 WHERE id = 1", "!SELECT 1/0", "ROLLBACK TO a", "COMMIT"}, "users#3"},
		{"rollback of an unknown table", []string{"BEGIN", "SAVEPOINT a", "SELECT dynamic('pairs')", "ROLLBACK TO a", "UPDATE users SET seen = 1 WHERE id = 2", "COMMIT"}, "users!"},
		{"chain", []string{"BEGIN", "UPDATE users SET seen = 1 WHERE id = 1", "COMMIT AND CHAIN", "UPDATE users SET seen = 1 WHERE id = 2", "ROLLBACK"}, "users#1"},
		{"chain, committed", []string{"BEGIN", "UPDATE users SET seen = 1 WHERE id = 1", "COMMIT AND CHAIN", "UPDATE users SET seen = 1 WHERE id = 2", "COMMIT"}, "users#1 users#2"},
		{"rollback and chain", []string{"BEGIN", "UPDATE users SET seen = 1 WHERE id = 1", "ROLLBACK AND CHAIN", "UPDATE users SET seen = 1 WHERE id = 2", "ROLLBACK"}, ""},
		{"in one text", []string{"BEGIN; UPDATE users SET seen = 1 WHERE id = 1; COMMIT"}, "*!"},
		{"in one text, rolled back", []string{"BEGIN; UPDATE users SET seen = 1 WHERE id = 1; ROLLBACK"}, "*!"},
		{"left open by a text", []string{"BEGIN; UPDATE users SET seen = 1 WHERE id = 1", "COMMIT"}, "*!"},
		{"begun with a setting", []string{"BEGIN; SET LOCAL statement_timeout = 1000", "UPDATE users SET seen = 1 WHERE id = 1", "COMMIT"}, "users#1"},
		{"ended with a question", []string{"BEGIN", "UPDATE users SET seen = 1 WHERE id = 1", "SELECT 1; COMMIT"}, "users#1"},
		{"written and ended", []string{"BEGIN", "UPDATE users SET seen = 1 WHERE id = 1", "UPDATE users SET seen = 1 WHERE id = 2; COMMIT"}, "*!"},
		{"ended and failed", []string{"BEGIN", "UPDATE users SET seen = 1 WHERE id = 1", "!UPDATE users SET seen = 1 WHERE id = 2; COMMIT; SELECT 1/0"}, "*!"},
		{"failed and begun anew", []string{"BEGIN", "!SELECT 1/0", "ROLLBACK; BEGIN; UPDATE users SET seen = 1", "COMMIT"}, "*!"},
		{"several in a transaction", []string{"BEGIN", "UPDATE users SET seen = 1; DELETE FROM tags", "COMMIT"}, "tags! users!"},
		{"several that fail", []string{"!UPDATE users SET seen = 1; SELECT 1/0"}, ""},
		{"prepared transaction", []string{"BEGIN", "UPDATE users SET seen = 1 WHERE id = 1", "PREPARE TRANSACTION 'x'", "COMMIT PREPARED 'x'"}, "*!"},
		{"reading only", []string{"BEGIN READ ONLY", "SELECT * FROM users", "!UPDATE users SET seen = 1", "COMMIT"}, ""},
		{"set to reading only", []string{"BEGIN", "SET TRANSACTION READ ONLY", "SELECT * FROM users", "COMMIT"}, ""},
		{"a procedure that commits", []string{"CALL committing(3)"}, "*!"},
		{"a block that commits", []string{"DO $$ BEGIN UPDATE users SET seen = 1; COMMIT; END $$"}, "*!"},
		{"a prepared statement", []string{"PREPARE p AS UPDATE users SET seen = $1", "EXECUTE p(3)", "DEALLOCATE p"}, "users!"},
		{"a cursor", []string{"BEGIN", "DECLARE c CURSOR FOR SELECT * FROM users", "FETCH 2 FROM c", "COMMIT"}, ""},
		{"a cursor that writes", []string{"BEGIN", "DECLARE c CURSOR FOR SELECT add_tag('q')", "FETCH 2 FROM c", "COMMIT"}, "tags!"},
		{"a cursor that writes in COMMIT", []string{"BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT add_tag('q')", "COMMIT", "FETCH c"}, "*!"},
		{"an update of a cursor's row", []string{"BEGIN", "DECLARE c CURSOR FOR SELECT * FROM users WHERE id = 2 FOR UPDATE", "FETCH c", "UPDATE users SET seen = 1 WHERE CURRENT OF c", "COMMIT"}, "users#2"},
		{"vacuum", []string{"VACUUM users", "ANALYZE users"}, ""},
		{"an index made beside", []string{"CREATE INDEX CONCURRENTLY seen ON users (seen)"}, "users!"},
		{"create and fill", []string{"BEGIN", "CREATE TABLE fresh (id int PRIMARY KEY)", "INSERT INTO fresh VALUES (1)", "COMMIT", "INSERT INTO fresh VALUES (2)"}, "fresh! fresh#2"},
		{"drop", []string{"CREATE TABLE fresh (id int PRIMARY KEY)", "DROP TABLE fresh"}, "fresh!"},
		{"rename", []string{"CREATE TABLE fresh (id int PRIMARY KEY)", "ALTER TABLE fresh RENAME TO fresher", "INSERT INTO fresher VALUES (2)", "ALTER TABLE fresher RENAME TO fresh"}, "fresh! fresher! fresher#2"},
		{"new trigger", []string{"CREATE TABLE fresh (id int PRIMARY KEY)", "CREATE TRIGGER audit AFTER INSERT ON fresh FOR EACH ROW EXECUTE FUNCTION audit()", "INSERT INTO fresh VALUES (2)"}, "audit! fresh! fresh#2"},
		{"new trigger in the same transaction", []string{"BEGIN", "CREATE TABLE fresh (id int PRIMARY KEY)", "CREATE TRIGGER audit AFTER INSERT ON fresh FOR EACH ROW EXECUTE FUNCTION audit()", "INSERT INTO fresh VALUES (2)", "COMMIT"}, "audit! fresh!"},
		{"locks", []string{"BEGIN", "SELECT * FROM users FOR UPDATE", "SELECT pg_advisory_xact_lock(1)", "LOCK TABLE tags", "COMMIT"}, ""},
		{"what costs nothing", []string{"LISTEN a", "NOTIFY a", "UNLISTEN *", "SHOW search_path", "SET application_name = 'x'", "RESET application_name", "DISCARD PLANS", "SELECT 1", "SELECT count(*), now() FROM users"}, ""},
		{"all discarded", []string{"UPDATE users SET seen = 1", "DISCARD ALL", "UPDATE users SET seen = 2 WHERE name = 'b'"}, "users#1 users#2 users#3"},
		{"the judge deallocated", []string{"BEGIN", "UPDATE plain SET v = 5", "COMMIT", "BEGIN", "UPDATE plain SET v = 6", "COMMIT", "BEGIN", "DEALLOCATE ALL", "UPDATE users SET seen = 2 WHERE id = 2", "SELECT dynamic('pairs')", "COMMIT"}, "pairs! plain! users!"},
		{"refresh", []string{"CREATE MATERIALIZED VIEW fresh AS SELECT 1", "REFRESH MATERIALIZED VIEW fresh", "DROP MATERIALIZED VIEW fresh"}, "fresh!"},
		{"copy from a program", []string{"COPY plain FROM PROGRAM 'echo 1'"}, "plain!"},
		{"copy to", []string{"COPY plain TO PROGRAM 'cat > /dev/null'"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.TB = t
			f.exec(f.bare, plainReset+plainData)
			f.exec(f.db, "ANALYZE plain") // the schema is known
			f.published()
			conn := f.conn()
			for _, text := range c.texts {
				query, fails := strings.CutPrefix(text, "!")
				_, err := conn.ExecContext(f.ctx, query)
				if (err != nil) != fails {
					t.Fatalf("%s: %v", query, err)
				}
			}
			f.expect(c.want)
			if strings.Contains(f.log.String(), "WARN") {
				t.Errorf("%s", f.log)
			}
		})
	}
}

// TestDeferred: what waits for COMMIT fails as it does with the bare driver, and is seen.
func TestDeferred(t *testing.T) {
	f := setUp(t, `CREATE TABLE parents (id int PRIMARY KEY, n int);
		CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
		CREATE FUNCTION counting() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE parents SET n = n + 1; RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER counted AFTER INSERT ON children DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION counting();
		INSERT INTO parents VALUES (1, 0)`)
	for _, db := range []*sql.DB{f.bare, f.db} {
		tx, err := db.BeginTx(f.ctx, nil)
		f.must(err)
		f.exec(tx, `INSERT INTO children VALUES (1, 7)`)
		err = tx.Commit()
		if code(err) != "23503" {
			t.Errorf("COMMIT: %v", err)
		}
		if _, err = db.ExecContext(f.ctx, `INSERT INTO children VALUES (1, 7)`); code(err) != "23503" {
			t.Errorf("alone: %v", err)
		}
	}
	f.expect("")
	f.inTx(func(tx *sql.Tx) { f.exec(tx, `INSERT INTO children VALUES (1, 1)`) })
	f.expect("children#1 parents!")
	f.exec(f.db, `INSERT INTO children VALUES (2, 1)`)
	f.expect("children#2 parents!")
}

// TestErrors: those of statements are the bare driver's, however the capture runs them.
func TestErrors(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	for _, query := range []string{
		`UPDATE users SET name = 'x' WHERE nothing = 1`,
		`UPDATE users SET email = 'a@x' WHERE name = 'b'`,
		`INSERT INTO orders (id, user_id) VALUES (1, 99)`,
		`INSERT INTO users (id) VALUES (1)`,
		`UPDATE users SET name = 1/0`,
		`UPDATE nothing SET name = 1`,
		`UPDATE users SET`,
		`UPDATE users SET name = 'x' WHERE`,
		`SELECT 1/0`,
		`DELETE FROM users WHERE id = 'x'`,
	} {
		for _, args := range [][]any{nil, {1}} {
			_, bare := f.bare.ExecContext(f.ctx, query, args...)
			_, wrapped := f.db.ExecContext(f.ctx, query, args...)
			if bare == nil || fmt.Sprint(bare) != fmt.Sprint(wrapped) {
				t.Errorf("%s: %v; bare %v", query, wrapped, bare)
			}
			var a, b *pgconn.PgError
			if errors.As(bare, &a) != errors.As(wrapped, &b) || a != nil && (a.Position != b.Position || a.Code != b.Code || a.Detail != b.Detail) {
				t.Errorf("%s: %#v; bare %#v", query, b, a)
			}
			tx, err := f.db.BeginTx(f.ctx, nil)
			f.must(err)
			_, inside := tx.ExecContext(f.ctx, query, args...)
			if fmt.Sprint(bare) != fmt.Sprint(inside) {
				t.Errorf("%s: %v; bare %v", query, inside, bare)
			}
			f.must(tx.Rollback())
		}
	}
	f.expect("")
}

// TestResults: so are numbers of rows.
func TestResults(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	for _, query := range []string{
		`UPDATE users SET seen = 2`, `UPDATE users SET seen = 2 WHERE id = 1`, `UPDATE users SET seen = 2 WHERE id = 99`, `DELETE FROM tags WHERE v = 1`,
		`INSERT INTO users (name) VALUES ('x'), ('y') ON CONFLICT DO NOTHING`, `INSERT INTO users (name) SELECT 'z' FROM generate_series(1, 2000)`,
		`UPDATE people SET name = 'q'`, `UPDATE users SET seen = 3 RETURNING id`, `SELECT * FROM users`, `DO $$ BEGIN END $$`, `SELECT add_tag('r')`,
	} {
		for _, inTx := range []bool{false, true} {
			var counts []int64
			for _, db := range []*sql.DB{f.bare, f.db} {
				f.exec(f.bare, plainReset+plainData)
				tx, err := db.BeginTx(f.ctx, nil)
				f.must(err)
				var e execer = tx
				if !inTx {
					f.must(tx.Rollback())
					e = db
				}
				res, err := e.ExecContext(f.ctx, query)
				f.must(err)
				n, err := res.RowsAffected()
				f.must(err)
				if inTx {
					f.must(tx.Commit())
				}
				counts = append(counts, n)
			}
			if counts[0] != counts[1] {
				t.Errorf("%s, in a transaction %v: %d rows; bare %d", query, inTx, counts[1], counts[0])
			}
		}
	}
	f.exec(f.bare, `INSERT INTO users (name) SELECT 'z' FROM generate_series(1, 2000)`)
	f.published()
	f.exec(f.db, `UPDATE users SET seen = 5`)
	f.expect("users!")
	stats, err := txscope.Stats(f.ctx, f.db)
	f.must(err)
	// The next time they are not counted one by one, and the time after that they are few.
	f.exec(f.db, `UPDATE users SET seen = 5`)
	f.expect("users!")
	f.exec(f.bare, `DELETE FROM users WHERE id > 1`)
	f.exec(f.db, `UPDATE users SET seen = 5`)
	f.expect("users!")
	f.exec(f.db, `UPDATE users SET seen = 5`)
	f.expect("users#1")
	if !slices.ContainsFunc(stats.Sweeps, func(s txscope.Sweep) bool { return s.Table == "users" && s.Why == "too many rows in one statement" }) {
		t.Error(stats.Sweeps)
	}
}

// TestBare: what is written through the driver's own connection.
func TestBare(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	conn := f.conn()
	f.exec(conn, "SELECT 1")
	raw := func(fn func(*pgx.Conn) error) {
		f.must(conn.Raw(func(c any) error { return fn(c.(*txscope.Conn).Bare().(*stdlib.Conn).Conn()) }))
	}
	copying := func(c *pgx.Conn) error {
		_, err := c.CopyFrom(f.ctx, pgx.Identifier{"plain"}, []string{"v"}, pgx.CopyFromRows([][]any{{5}, {6}}))
		return err
	}
	raw(copying)
	f.exec(conn, "SELECT 1")
	f.expect("*!")

	tx, err := conn.BeginTx(f.ctx, nil)
	f.must(err)
	f.exec(tx, `UPDATE users SET seen = 1 WHERE id = 1`)
	raw(copying)
	f.must(tx.Commit())
	f.expect("plain! users!")

	tx, err = conn.BeginTx(f.ctx, nil)
	f.must(err)
	raw(copying)
	f.must(tx.Rollback())
	f.expect("")

	// A transaction that is begun through it.
	raw(func(c *pgx.Conn) error { _, err := c.Exec(f.ctx, "BEGIN; UPDATE tags SET v = 3"); return err })
	f.expect("")
	f.exec(conn, "UPDATE users SET seen = 1 WHERE id = 1")
	f.exec(conn, "COMMIT")
	f.expect("tags! users!")

	// And one that is ended through it.
	tx, err = conn.BeginTx(f.ctx, nil)
	f.must(err)
	f.exec(tx, `UPDATE users SET seen = 1 WHERE id = 1`)
	raw(func(c *pgx.Conn) error { _, err := c.Exec(f.ctx, "COMMIT"); return err })
	_ = tx.Rollback()
	f.expect("*!")
}

// TestConnectors: all ways to open a database.
func TestConnectors(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	check := func(t *testing.T, db *sql.DB) {
		t.Helper()
		f.published()
		if _, err := db.Exec(`UPDATE users SET seen = $1 WHERE id = $2`, 1, 2); err != nil {
			t.Fatal(err)
		}
		if got := f.published(); got != "users#2" {
			t.Errorf("published %q", got)
		}
	}
	t.Run("Open", func(t *testing.T) {
		db, err := txscope.Open("pgx", f.dsn, f.store)
		f.must(err)
		defer db.Close()
		check(t, db.DB)
		if _, err := db.NamedExec(`UPDATE users SET seen = :seen WHERE id = :id`, map[string]any{"seen": 4, "id": 3}); err != nil {
			t.Fatal(err)
		}
		if got := f.published(); got != "users#3" {
			t.Errorf("published %q", got)
		}
		if sqlx.BindType(db.DriverName()) != sqlx.DOLLAR {
			t.Error(db.DriverName())
		}
	})
	t.Run("pool", func(t *testing.T) {
		pool, err := pgxpool.New(f.ctx, f.dsn)
		f.must(err)
		defer pool.Close()
		c, err := txscope.Wrap(stdlib.GetPoolConnector(pool), f.store)
		f.must(err)
		db := sql.OpenDB(c)
		defer db.Close()
		db.SetMaxIdleConns(0)
		for range 5 {
			check(t, db)
			if _, err := db.Exec(`UPDATE plain SET v = 3`); err != nil {
				t.Fatal(err)
			}
			f.expect("plain!")
		}
	})
	t.Run("hidden", func(t *testing.T) {
		config, err := pgx.ParseConfig(f.dsn)
		f.must(err)
		c, err := txscope.Wrap(hiding{stdlib.GetConnector(*config)}, f.store)
		f.must(err)
		db := sql.OpenDB(c)
		defer db.Close()
		if err := db.Ping(); err == nil || !strings.Contains(err.Error(), "goes around") {
			t.Error(err)
		}
	})
}

type hiding struct{ driver.Connector }

func (h hiding) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := h.Connector.Connect(ctx)
	return struct{ driver.Conn }{c}, err
}

// TestArguments: options of pgx's own among the arguments.
func TestArguments(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	f.exec(f.db, `UPDATE users SET seen = 1 WHERE id = @id`, pgx.NamedArgs{"id": 2})
	f.expect("users#2")
	f.exec(f.db, `UPDATE users SET seen = $1 WHERE id = $2`, pgx.QueryExecModeExec, 2, 3)
	f.expect("users#3")
	f.exec(f.db, `UPDATE users SET seen = $1 WHERE id = $2`, pgx.QueryExecModeSimpleProtocol, 2, 3)
	f.expect("users#3")
	f.exec(f.db, `SELECT 1`, rewriter{})
	f.expect("tags!")
}

type rewriter struct{}

func (rewriter) RewriteQuery(context.Context, *pgx.Conn, string, []any) (string, []any, error) {
	return `UPDATE tags SET v = 2`, nil, nil
}

// TestStrict: a commit that cannot be fenced is refused, whichever way a statement commits.
func TestStrict(t *testing.T) {
	f := setUp(t, plainSchema+plainData, txscope.Strict())
	f.exec(f.db, "SELECT 1")
	f.backend.SetDown(true)
	for _, query := range []string{
		`UPDATE users SET seen = 9 WHERE id = 1`, `UPDATE users SET seen = 9`, `UPDATE plain SET v = 9`, `SELECT add_tag('z')`,
		`CALL committing(9)`, `BEGIN; UPDATE users SET seen = 9; COMMIT`, `INSERT INTO users (seen) VALUES (9) RETURNING id`,
	} {
		if _, err := f.db.ExecContext(f.ctx, query); !errors.Is(err, txscope.ErrFence) {
			t.Errorf("Exec %s: %v", query, err)
		}
		if strings.HasPrefix(query, "BEGIN") {
			continue // not one for Query
		}
		rows, err := f.db.QueryContext(f.ctx, query)
		if err == nil {
			for rows.Next() {
			}
			err = rows.Err()
			if cerr := rows.Close(); cerr != nil && err == nil {
				err = cerr
			}
		}
		if !errors.Is(err, txscope.ErrFence) {
			t.Errorf("Query %s: %v", query, err)
		}
	}
	tx, err := f.db.BeginTx(f.ctx, nil)
	f.must(err)
	f.exec(tx, `UPDATE users SET seen = 9 WHERE id = 1`)
	if err := tx.Commit(); !errors.Is(err, txscope.ErrFence) {
		t.Error(err)
	}
	if got := f.query(f.bare, `SELECT 1 FROM users WHERE seen = 9 UNION SELECT 2 FROM plain WHERE v = 9 UNION SELECT 3 FROM tags WHERE v = 9 OR tag = 'z' UNION SELECT 4 FROM pairs WHERE v = 9`); len(got) > 0 {
		t.Error(got)
	}
}

// TestFenced: the fence is there before a statement can commit, and not before it has run if it runs
// in a transaction.
func TestFenced(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	f.exec(f.db, "SELECT 1")
	var seen []string
	f.backend.OnCall(func(c txscopetest.Call) {
		if c.Op == "fence" {
			seen = f.query(f.bare, `SELECT 1 FROM users WHERE seen = 9`)
		}
	})
	for _, query := range []string{`UPDATE users SET seen = 9 WHERE id = 1`, `UPDATE users SET seen = 9`, `DO $$ BEGIN UPDATE users SET seen = 9; END $$`, `DO $$ BEGIN UPDATE users SET seen = 9; COMMIT; END $$`} {
		f.exec(f.bare, `UPDATE users SET seen = 0`)
		f.exec(f.db, query)
		if ops := f.backend.Ops(); !slices.Equal(ops, []string{"fence", "publish"}) || len(seen) > 0 {
			t.Errorf("%s: %v, %v", query, ops, seen)
		}
	}
}

// until polls until a query of the bare database finds something, or nothing. It is for any goroutine.
func (f *fixture) until(something bool, query string) {
	f.Helper()
	for end := time.Now().Add(30 * time.Second); len(f.query(f.bare, query)) > 0 != something; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			f.Errorf("not in time: %s finds something: %t", query, something)
			return
		}
	}
}

// TestKilled: the outcome is right when the connection dies.
func TestKilled(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	kill := func(conn *sql.Conn) func() {
		pid := f.query(conn, "SELECT pg_backend_pid()")[0]
		return func() {
			f.query(f.bare, "SELECT pg_terminate_backend("+pid+")")
			f.until(false, "SELECT 1 FROM pg_stat_activity WHERE pid = "+pid)
		}
	}
	t.Run("before COMMIT", func(t *testing.T) {
		conn := f.conn()
		die := kill(conn)
		tx, err := conn.BeginTx(f.ctx, nil)
		f.must(err)
		f.exec(tx, `UPDATE users SET seen = 9 WHERE id = 1`)
		f.backend.Ops()
		die()
		if err := tx.Commit(); err == nil {
			t.Error("no error")
		}
		if ops := f.backend.Ops(); slices.Contains(ops, "publish") {
			t.Error(ops)
		}
		f.fenced(t, tokens.Row("users", 1), false)
	})
	t.Run("in COMMIT", func(t *testing.T) {
		conn := f.conn()
		die := kill(conn)
		tx, err := conn.BeginTx(f.ctx, nil)
		f.must(err)
		f.exec(tx, `UPDATE users SET seen = 9 WHERE id = 2`)
		f.backend.OnCall(func(c txscopetest.Call) {
			if c.Op == "fence" {
				f.backend.OnCall(nil)
				die()
			}
		})
		if err := tx.Commit(); err == nil {
			t.Error("no error")
		}
		f.fenced(t, tokens.Row("users", 2), true) // nobody knows
	})
	t.Run("in a statement", func(t *testing.T) {
		conn := f.conn()
		die := kill(conn)
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.until(true, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'UPDATE users SET seen = pure(3), name = pg_sleep%'")
			die()
		}()
		if _, err := conn.ExecContext(f.ctx, `UPDATE users SET seen = pure(3), name = pg_sleep(60)::text`); err == nil {
			t.Error("no error")
		}
		<-done
		f.fenced(t, tokens.Row("users", 3), false)
	})
	t.Run("too late", func(t *testing.T) {
		f := setUp(t, plainSchema+plainData, txscope.Lease(time.Second))
		tx, err := f.db.BeginTx(f.ctx, nil)
		f.must(err)
		f.exec(tx, `UPDATE users SET seen = 9 WHERE id = 1`)
		f.backend.OnCall(func(c txscopetest.Call) {
			// The process is paused until the server has lost patience.
			if c.Op == "fence" {
				f.until(false, `SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()`)
			}
		})
		if err := tx.Commit(); err == nil {
			t.Error("no error")
		}
		f.backend.OnCall(nil)
		if got := f.query(f.bare, `SELECT 1 FROM users WHERE seen = 9`); len(got) > 0 {
			t.Error("it was committed")
		}
		if ops := f.backend.Ops(); slices.Contains(ops, "publish") {
			t.Error(ops)
		}
	})
}

func (f *fixture) fenced(t *testing.T, id tokens.ID, want bool) {
	t.Helper()
	found, err := f.store.Read(f.ctx, []tokens.ID{id})
	f.must(err)
	if found[0].Fenced != want {
		t.Errorf("%s is fenced: %v; want %v", id, found[0].Fenced, want)
	}
}

// TestContext: a context that ends in the middle.
func TestContext(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	f.exec(f.db, "SELECT 1")
	ctx, cancel := context.WithCancel(f.ctx)
	tx, err := f.db.BeginTx(ctx, nil)
	f.must(err)
	f.exec(tx, `UPDATE users SET seen = 9 WHERE id = 1`)
	cancel()
	if err := tx.Commit(); !errors.Is(err, context.Canceled) && !errors.Is(err, sql.ErrTxDone) {
		t.Error(err)
	}
	for _, query := range []string{`UPDATE users SET name = pg_sleep(60)::text`, `UPDATE users SET name = pg_sleep(60)::text WHERE id = 1`, `SELECT add_tag(pg_sleep(60)::text)`} {
		ctx, cancel := context.WithCancel(f.ctx)
		go func() {
			defer cancel()
			f.until(true, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
		}()
		if _, err := f.db.ExecContext(ctx, query); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", query, err)
		}
		f.exec(f.bare, `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`)
	}
	if got := f.query(f.bare, `SELECT 1 FROM users WHERE seen = 9`); len(got) > 0 {
		t.Error(got)
	}
	f.backend.Ops()
	f.exec(f.db, `UPDATE users SET seen = 3 WHERE id = 3`)
	f.expect("users#3")
}
