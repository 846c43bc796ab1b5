package mysql_test

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// TestNothingIsMissed runs what is easily missed, on one connection, and asks whether the key of a row
// has changed that did.
func TestNothingIsMissed(t *testing.T) {
	for _, c := range []struct {
		name      string
		set, text []string
		id        tokens.ID
	}{
		{"a trigger that assigns what is referenced", []string{
			"CREATE TABLE par (id INT PRIMARY KEY, code INT, x INT, UNIQUE (code))",
			"CREATE TABLE chi (id INT PRIMARY KEY, code INT, FOREIGN KEY (code) REFERENCES par (code) ON UPDATE CASCADE)",
			"INSERT INTO par VALUES (1, 5, 5)", "INSERT INTO chi VALUES (1, 5)",
			"CREATE TRIGGER tr BEFORE UPDATE ON par FOR EACH ROW SET NEW.code = NEW.x"},
			[]string{"UPDATE par SET x = 6 WHERE id = 1"}, tokens.Row("chi", 1)},
		{"ODBC's outer join", nil, []string{"UPDATE {OJ users LEFT JOIN pairs ON users.id = pairs.a} SET users.v = 9"}, user(1)},
		{"DELETE HISTORY", []string{"CREATE TABLE h (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING", "INSERT INTO h VALUES (1, 1)", "UPDATE h SET v = 2"},
			[]string{"DELETE HISTORY FROM h"}, tokens.Row("h", 1)},
		{"a versioned row", []string{"CREATE TABLE h (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING", "INSERT INTO h VALUES (1, 1)"},
			[]string{"UPDATE h SET v = 2 WHERE v = 1"}, tokens.Row("h", 1)},
		{"Oracle's mode", nil, []string{"SET sql_mode = 'ORACLE'", "BEGIN UPDATE users SET v = 99; END;"}, user(1)},
		{"ANSI_QUOTES", nil, []string{"SET sql_mode = 'ANSI_QUOTES'", `UPDATE "users" SET "v" = 99 WHERE "id" = 1`}, user(1)},
		{"ANSI_QUOTES and a name that is a text else", nil, []string{"SET sql_mode = 'ANSI_QUOTES'", `UPDATE users SET v = 99 WHERE "id" = "v"`}, user(1)},
		{"SET STATEMENT", nil, []string{"SET STATEMENT max_statement_time = 1 FOR UPDATE users SET v = 77"}, user(1)},
		{"SET STATEMENT in a procedure", []string{"CREATE PROCEDURE zp() SET STATEMENT max_statement_time = 1 FOR UPDATE users SET v = 77"}, []string{"CALL zp()"}, user(1)},
		{"EXPLAIN that runs a function", []string{"CREATE FUNCTION zg() RETURNS INT DETERMINISTIC BEGIN UPDATE users SET v = v + 1; RETURN 5; END"},
			[]string{"EXPLAIN SELECT * FROM pairs WHERE a = zg()"}, user(1)},
		{"ANALYZE of a statement", nil, []string{"ANALYZE UPDATE users SET v = 9 WHERE id = 1"}, user(1)},
		{"a column called end", []string{"CREATE TABLE ce (id INT PRIMARY KEY, x INT, a INT, b INT, `end` INT)", "INSERT INTO ce VALUES (5, 0, 1, 0, 1), (6, 0, 0, 1, 0)"},
			[]string{"UPDATE ce SET x = 1 WHERE CASE WHEN a THEN end AND id = 5 AND b ELSE 1 END"}, tokens.Row("ce", 6)},
		{"an interval with AND", []string{"CREATE TABLE iv (id INT PRIMARY KEY, x INT, d DATETIME)", "INSERT INTO iv VALUES (5, 0, NOW() + INTERVAL 5 DAY), (6, 0, NOW() + INTERVAL 5 DAY)"},
			[]string{"UPDATE iv SET x = 2 WHERE d > NOW() - INTERVAL 1 AND id = 5 AND 1 DAY"}, tokens.Row("iv", 6)},
		{"savepoints with the same name to the server", nil, []string{"START TRANSACTION", "SAVEPOINT e", "UPDATE users SET v = 55 WHERE id = 1", "SAVEPOINT é", "ROLLBACK TO e", "COMMIT"}, user(1)},
		{"savepoints in upper and lower case", nil, []string{"BEGIN", "SAVEPOINT a", "UPDATE users SET v = 55 WHERE id = 1", "SAVEPOINT A", "ROLLBACK TO a", "COMMIT"}, user(1)},
		{"CONVERT TABLE", []string{"CREATE TABLE pt (id INT PRIMARY KEY) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10))", "CREATE TABLE pu (id INT PRIMARY KEY)", "INSERT INTO pu VALUES (15)"},
			[]string{"ALTER TABLE pt CONVERT TABLE pu TO PARTITION p1 VALUES LESS THAN (20)"}, tokens.Row("pu", 15)},
		{"BEGIN commits what is open", nil, []string{"BEGIN", "UPDATE users SET v = 9 WHERE id = 1", "BEGIN", "ROLLBACK"}, user(1)},
		{"autocommit that is switched on commits", nil, []string{"SET autocommit = 0", "UPDATE users SET v = 9 WHERE id = 1", "SET autocommit = 1", "ROLLBACK"}, user(1)},
		{"a change of the schema commits", nil, []string{"BEGIN", "UPDATE users SET v = 9 WHERE id = 1", "CREATE TABLE other (id INT)", "ROLLBACK"}, user(1)},
		{"a change of the schema that fails commits", nil, []string{"BEGIN", "UPDATE users SET v = 9 WHERE id = 1", "! CREATE TABLE users (id INT)", "ROLLBACK"}, user(1)},
		{"FLUSH commits", nil, []string{"BEGIN", "UPDATE users SET v = 9 WHERE id = 1", "FLUSH TABLES", "ROLLBACK"}, user(1)},
		{"LOCK TABLES commits", nil, []string{"BEGIN", "UPDATE users SET v = 9 WHERE id = 1", "LOCK TABLES users WRITE", "ROLLBACK"}, user(1)},
		{"a write under LOCK TABLES", nil, []string{"LOCK TABLES users WRITE", "UPDATE users SET v = 9 WHERE v > 0", "UNLOCK TABLES"}, user(1)},
		{"COMMIT AND CHAIN", nil, []string{"BEGIN", "UPDATE users SET v = 9 WHERE id = 2", "COMMIT AND CHAIN", "UPDATE users SET v = 9 WHERE id = 1", "COMMIT"}, user(1)},
		{"completion_type", nil, []string{"SET completion_type = 1", "BEGIN", "COMMIT", "UPDATE users SET v = 9 WHERE id = 1", "COMMIT"}, user(1)},
		{"XA", nil, []string{"XA START 'x'", "UPDATE users SET v = 9 WHERE id = 1", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'"}, user(1)},
		{"XA in one phase", nil, []string{"XA START 'x'", "UPDATE users SET v = 9 WHERE id = 1", "XA END 'x'", "XA COMMIT 'x' ONE PHASE"}, user(1)},
		{"EXECUTE IMMEDIATE", nil, []string{"EXECUTE IMMEDIATE 'UPDATE users SET v = 9 WHERE id = 1'"}, user(1)},
		{"PREPARE and EXECUTE", nil, []string{"PREPARE p FROM 'UPDATE users SET v = 9 WHERE id = 1'", "EXECUTE p"}, user(1)},
		{"EXECUTE in a transaction that goes on", nil, []string{"BEGIN", "EXECUTE IMMEDIATE 'UPDATE users SET v = 9 WHERE id = 1'", "COMMIT"}, user(1)},
		{"BEGIN NOT ATOMIC", nil, []string{"BEGIN NOT ATOMIC UPDATE users SET v = 9 WHERE id = 1; END"}, user(1)},
		{"RENAME TABLE", nil, []string{"RENAME TABLE users TO people"}, user(1)},
		{"RENAME TABLE, the new name", []string{"DROP TABLE plain"}, []string{"RENAME TABLE users TO plain"}, tokens.Table("plain")},
		{"DROP TABLE", nil, []string{"DROP TABLE users"}, user(1)},
		{"a temporary table in the way, and gone", nil, []string{"CREATE TEMPORARY TABLE users (id INT PRIMARY KEY, v INT)", "DROP TEMPORARY TABLE users", "UPDATE users SET v = 9 WHERE v = 1"}, user(1)},
		{"a function that writes", nil, []string{"SELECT note_it(3)"}, tokens.Row("notes", 4)},
		{"a function that writes, in a transaction", nil, []string{"BEGIN", "SET @x = note_it(3)", "COMMIT"}, tokens.Row("notes", 4)},
		{"a view that writes", nil, []string{"SELECT * FROM writers"}, tokens.Row("notes", 4)},
		{"a procedure that commits", nil, []string{"BEGIN", "UPDATE users SET v = 9 WHERE id = 1", "CALL wild(2)", "ROLLBACK"}, user(1)},
		{"sql_select_limit", nil, []string{"SET sql_select_limit = 1", "UPDATE users SET v = 9 WHERE id IN (2, 3, 77)"}, user(3)},
		{"sql_select_limit and the schema", nil, []string{"SET sql_select_limit = 1", "UPDATE watched SET v = 9"}, tokens.Row("seen", 1)},
		{"sql_select_limit and an upsert", nil, []string{"SET sql_select_limit = 1", "INSERT INTO tags VALUES ('abc', 5), ('Y', 5) ON DUPLICATE KEY UPDATE v = 5"}, tokens.Row("tags", "y")},
		{"an upsert with zero", nil, []string{"INSERT INTO notes (id, v) VALUES (1, 5), (0, 5) ON DUPLICATE KEY UPDATE v = 9"}, tokens.Row("notes", 4)},
		{"an upsert with a text for zero", nil, []string{"INSERT INTO notes (id, v) VALUES (1, 5), ('0', 5) ON DUPLICATE KEY UPDATE v = 9"}, tokens.Row("notes", 4)},
		{"an upsert that is cut off", nil, []string{"SET sql_mode = ''", "INSERT INTO tags VALUES ('x', 9), ('" + strings.Repeat("q", 60) + "', 1) ON DUPLICATE KEY UPDATE v = 9"}, tokens.Row("tags", strings.Repeat("q", 50))},
		{"an upsert that is clamped", []string{"CREATE TABLE tiny (id TINYINT PRIMARY KEY, v INT)"}, []string{"SET sql_mode = ''", "INSERT INTO tiny VALUES (1, 9), (300, 1) ON DUPLICATE KEY UPDATE v = 9"}, tokens.Row("tiny", 127)},
		{"an insert that is clamped", []string{"CREATE TABLE tiny (id TINYINT PRIMARY KEY, v INT)"}, []string{"INSERT IGNORE INTO tiny VALUES (300, 1)"}, tokens.Row("tiny", 127)},
		{"PAD_CHAR_TO_FULL_LENGTH", []string{"CREATE TABLE cc (id CHAR(10) PRIMARY KEY, v INT)", "INSERT INTO cc VALUES ('abc', 1)"}, []string{"SET sql_mode = 'PAD_CHAR_TO_FULL_LENGTH'", "UPDATE cc SET v = 2"}, tokens.Row("cc", "abc")},
		{"SET NAMES", []string{"INSERT INTO tags VALUES ('ü', 1)"}, []string{"SET NAMES latin1", "UPDATE tags SET v = 9"}, tokens.Row("tags", "ü")},
		{"character_set_results", []string{"INSERT INTO tags VALUES ('ü', 1)"}, []string{"SET character_set_results = latin1", "DELETE FROM tags WHERE v = 1"}, tokens.Row("tags", "ü")},
		{"autocommit in quotes", nil, []string{"SET autocommit = 0", "UPDATE users SET v = 9 WHERE id = 1", "SET `autocommit` = 1", "ROLLBACK"}, user(1)},
		{"a table that another connection has made", []string{}, []string{"! UPDATE later SET v = 2"}, tokens.Table("later")},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := setUp(t, nil)
			for _, text := range c.set {
				f.execOn(f.bare, text)
			}
			conn := f.conn(f.db)
			was := f.stamp(c.id)
			for _, text := range c.text {
				if text, fails := strings.CutPrefix(text, "! "); fails {
					if _, err := conn.ExecContext(f.ctx, text); err == nil {
						t.Fatalf("%s has not failed", text)
					}
				} else {
					f.execOn(conn, text)
				}
			}
			if c.name == "a table that another connection has made" {
				f.execOn(f.bare, "CREATE TABLE later (id INT PRIMARY KEY, v INT)")
				f.execOn(f.bare, "INSERT INTO later VALUES (1, 1)")
				f.execOn(conn, "UPDATE later SET v = 2")
			}
			if f.stamp(c.id) == was {
				t.Errorf("the key of %s has not changed\n%s", c.id, f.log)
			}
		})
	}
}

func user(id int) tokens.ID { return tokens.Row("users", id) }

// stamp reads a token when nothing fences it any more.
func (f *fixture) stamp(id tokens.ID) tokens.Stamp {
	f.Helper()
	found, err := f.store.Read(f.ctx, []tokens.ID{id})
	f.must(err)
	if found[0].Fenced {
		f.Fatalf("%s is fenced and nothing is under way", id)
	}
	return found[0].Stamp
}

func (f *fixture) conn(db *sql.DB) *sql.Conn {
	f.Helper()
	c, err := db.Conn(f.ctx)
	f.must(err)
	f.Cleanup(func() { _ = c.Close() })
	return c
}

// TestPublishedAtTheEnd: a statement that could have committed and has not leaves nothing unpublished.
func TestPublishedAtTheEnd(t *testing.T) {
	for _, text := range []string{
		"CHECKSUM TABLE users", "UNLOCK TABLES", "LOAD INDEX INTO CACHE logs", "CACHE INDEX logs IN default", "PURGE BINARY LOGS BEFORE '2000-01-01'",
		"SET autocommit = 1", "CREATE TEMPORARY TABLE x (id INT)", "DROP TEMPORARY TABLE IF EXISTS x", "DROP TEMPORARY SEQUENCE IF EXISTS x",
		"SET STATEMENT max_statement_time = 5 FOR CHECKSUM TABLE users", "CALL tame(1)", "DO 1", "SELECT 1", "EXECUTE IMMEDIATE 'SELECT 1'", "SET @x = 1",
		"! CREATE TABEL x", "! UPDATE nowhere SET v = 1", "! INSERT INTO users (id) VALUES (2)",
	} {
		t.Run(text, func(t *testing.T) {
			f := setUp(t, nil)
			c := f.conn(f.db)
			f.execOn(c, "BEGIN")
			f.execOn(c, "UPDATE users SET v = 9 WHERE id = 1")
			if text, fails := strings.CutPrefix(text, "! "); !fails {
				f.execOn(c, text)
			} else if _, err := c.ExecContext(f.ctx, text); err == nil {
				t.Fatal("it has not failed")
			}
			var v int
			f.must(f.bare.QueryRow("SELECT v FROM users WHERE id = 1").Scan(&v))
			if v == 9 {
				t.Fatal("it has committed")
			}
			got := f.published(func() { f.execOn(c, "COMMIT") })
			if !slices.Contains(got, "users#1") && !slices.Contains(got, "*#!") {
				t.Errorf("COMMIT has published %v", got)
			}
		})
	}
}

// TestQuotedFunctions: a function is one however it is written.
func TestQuotedFunctions(t *testing.T) {
	f := setUp(t, nil)
	for _, where := range []string{"`rand`() < 2", "rand\f() < 2", "rand /* */ () < 2", "RAND( ) < 2"} {
		got := f.published(func() {
			_, err := f.db.ExecContext(f.ctx, "UPDATE users SET v = v + 1 WHERE "+where)
			if err != nil {
				t.Logf("%s: %v", where, err)
			}
		})
		if len(got) > 0 && !slices.Equal(got, []string{"users#!"}) {
			t.Errorf("%s: published %v", where, got)
		}
	}
}

// TestPreparedSavepoint: what a prepared SAVEPOINT does depends on when it runs.
func TestPreparedSavepoint(t *testing.T) {
	f := setUp(t, nil)
	conn := f.conn(f.db)
	was := f.stamp(user(1))
	savepoint, err := conn.PrepareContext(f.ctx, "SAVEPOINT a")
	f.must(err)
	defer func() { _ = savepoint.Close() }()
	tx, err := conn.BeginTx(f.ctx, nil)
	f.must(err)
	f.execOn(tx, "SAVEPOINT a")
	f.execOn(tx, "UPDATE users SET v = 66 WHERE id = 1")
	_, err = savepoint.ExecContext(f.ctx)
	f.must(err)
	f.execOn(tx, "ROLLBACK TO a")
	f.must(tx.Commit())
	if f.stamp(user(1)) == was {
		t.Error("the key has not changed")
	}
}

// TestDeadlock: the server rolls a transaction back, and what comes after commits by itself.
func TestDeadlock(t *testing.T) {
	f := setUp(t, nil)
	tx, err := f.db.BeginTx(f.ctx, nil)
	f.must(err)
	other, err := f.bare.BeginTx(f.ctx, nil)
	f.must(err)
	f.execOn(tx, "UPDATE users SET v = 10 WHERE id = 1")
	for _, text := range []string{"UPDATE users SET v = 11 WHERE id = 2", "UPDATE tags SET v = 7", "UPDATE pairs SET v = 7"} {
		f.execOn(other, text) // it has done more, so the server prefers it
	}
	done := make(chan error, 1)
	go func() {
		_, err := other.ExecContext(f.ctx, "UPDATE users SET v = 11 WHERE id = 1")
		done <- err
	}()
	f.waitsForLock()
	f.backend.Calls()
	_, err = tx.ExecContext(f.ctx, "UPDATE users SET v = 10 WHERE name = 'b'")
	if !isNumber(err, 1213) {
		t.Fatalf("no deadlock: %v", err)
	}
	f.must(<-done)
	f.must(other.Commit())
	if got := f.published(func() { f.execOn(tx, "UPDATE users SET v = 12 WHERE id = 3") }); !slices.Equal(got, []string{"users#3"}) {
		t.Errorf("after the deadlock a statement has published %v", got)
	}
	if got := f.published(func() { f.must(tx.Rollback()) }); len(got) != 0 {
		t.Errorf("the rollback has published %v", got)
	}
	var v int
	f.must(f.bare.QueryRow("SELECT v FROM users WHERE id = 3").Scan(&v))
	if v != 12 {
		t.Fatalf("v = %d: the test is wrong", v)
	}
}

// waitsForLock waits until a connection waits for a lock.
func (f *fixture) waitsForLock() {
	f.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		var name string
		var n int
		f.must(f.bare.QueryRow("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'").Scan(&name, &n))
		if n > 0 {
			return
		}
		if time.Now().After(deadline) {
			f.Fatal("nobody waits for a lock")
		}
	}
}

func isNumber(err error, number uint16) bool {
	e, ok := err.(*gomysql.MySQLError)
	return ok && e.Number == number
}

// TestRowsThatCameInBetween: at READ COMMITTED an UPDATE can meet rows that were not there when their
// keys were selected.
func TestRowsThatCameInBetween(t *testing.T) {
	for _, foundRows := range []bool{false, true} {
		for _, comes := range []bool{false, true} {
			wire := new(tap)
			f := setUp(t, func(c *gomysql.Config) {
				c.ClientFoundRows = foundRows
				c.DialFunc = wire.dial
			})
			came := false
			wire.set(func(sent []byte) error {
				if comes && !came && bytes.Contains(sent, []byte("UPDATE users")) {
					came = true
					c := f.config.Clone()
					c.DialFunc = nil
					f.execOn(f.open(c), "INSERT INTO users VALUES (4, 'd', 5)")
				}
				return nil
			}, nil)
			got := f.published(func() {
				tx, err := f.db.BeginTx(f.ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
				f.must(err)
				f.execOn(tx, "UPDATE users SET v = v + 1 WHERE v > 0")
				f.must(tx.Commit())
			})
			want := []string{"users#1", "users#2", "users#3"}
			if comes {
				want = []string{"users#!"}
			}
			if !slices.Equal(got, want) || came != comes {
				t.Errorf("found rows %v, came %v: %v, want %v", foundRows, came, got, want)
			}
		}
	}
}

// tap stands between the driver and the server.
type tap struct {
	mu       sync.Mutex
	sending  func([]byte) error // before something is sent
	received func([]byte) error // before it is handed to the driver
}

func (t *tap) set(sending, received func([]byte) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sending, t.received = sending, received
}

func (t *tap) hooks() (sending, received func([]byte) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sending, t.received
}

func (t *tap) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &tapped{c, t}, nil
}

type tapped struct {
	net.Conn
	tap *tap
}

func (c *tapped) Write(b []byte) (int, error) {
	if sending, _ := c.tap.hooks(); sending != nil {
		if err := sending(b); err != nil {
			_ = c.Close()
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

func (c *tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if _, received := c.tap.hooks(); received != nil && err == nil {
		if err := received(b[:n]); err != nil {
			_ = c.Close()
			return 0, err
		}
	}
	return n, err
}

// TestLostInCommit: the connection is lost before COMMIT is sent, or after.
func TestLostInCommit(t *testing.T) {
	lost := errors.New("lost")
	for _, c := range []struct {
		name   string
		alone  bool // the statement has a transaction of its own
		text   bool // BEGIN and COMMIT are texts of the user's
		before bool
		want   func(txscope.Statistics) int64
	}{
		{"before", false, false, true, func(s txscope.Statistics) int64 { return s.RolledBack }},
		{"after", false, false, false, func(s txscope.Statistics) int64 { return s.Unknown }},
		{"before, as text", false, true, true, func(s txscope.Statistics) int64 { return s.RolledBack }},
		{"after, as text", false, true, false, func(s txscope.Statistics) int64 { return s.Unknown }},
		{"after, alone", true, false, false, func(s txscope.Statistics) int64 { return s.Unknown }},
	} {
		t.Run(c.name, func(t *testing.T) {
			wire := new(tap)
			f := setUp(t, func(cfg *gomysql.Config) {
				quiet(cfg)
				cfg.DialFunc = wire.dial
			})
			sent := false
			wire.set(func(b []byte) error {
				if !bytes.Contains(b, []byte("COMMIT")) {
					return nil
				}
				sent = true
				if c.before {
					return lost
				}
				return nil
			}, func([]byte) error {
				if sent {
					return lost
				}
				return nil
			})
			f.backend.Calls()
			var err error
			switch {
			case c.alone:
				_, err = f.db.ExecContext(f.ctx, "UPDATE users SET v = 9 WHERE v = 1")
			case c.text:
				conn := f.conn(f.db)
				f.execOn(conn, "BEGIN")
				f.execOn(conn, "UPDATE users SET v = 9 WHERE v = 1")
				_, err = conn.ExecContext(f.ctx, "COMMIT")
			default:
				tx, terr := f.db.BeginTx(f.ctx, nil)
				f.must(terr)
				f.execOn(tx, "UPDATE users SET v = 9 WHERE v = 1")
				err = tx.Commit()
			}
			if err == nil || !sent {
				t.Fatalf("%v, sent: %v", err, sent)
			}
			wire.set(nil, nil)
			if s := f.statistics(); c.want(s) != 1 || s.Committed+s.RolledBack+s.Unknown != 1 {
				t.Errorf("%+v", s)
			}
			for _, call := range f.backend.Calls() {
				if call.Op == "publish" {
					t.Errorf("published: %+v", call)
				}
			}
		})
	}
}

// TestReadOnlyRejected: with RejectReadOnly the driver gives the answer of a server that has become read-only the
// name of a connection on which nothing was sent. What the text had committed before is not taken for rolled back.
func TestReadOnlyRejected(t *testing.T) {
	for name, c := range map[string]struct {
		begin []string
		text  string
	}{
		"several statements": {nil, "UPDATE users SET v = 9 WHERE id = 1; SET SESSION TRANSACTION READ ONLY; UPDATE users SET v = 9 WHERE id = 2"},
		"an implicit commit": {[]string{"BEGIN", "UPDATE users SET v = 9 WHERE id = 1", "SET SESSION TRANSACTION READ ONLY"}, "CREATE TABLE refused (id INT PRIMARY KEY)"},
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t, func(cfg *gomysql.Config) {
				quiet(cfg)
				cfg.MultiStatements, cfg.RejectReadOnly = true, true
			})
			before := f.stamp(user(1))
			conn := f.conn(f.db)
			for _, text := range c.begin {
				f.execOn(conn, text)
			}
			if _, err := conn.ExecContext(f.ctx, c.text); !errors.Is(err, driver.ErrBadConn) {
				t.Fatalf("got %v", err)
			}
			var v int
			if f.must(f.bare.QueryRow("SELECT v FROM users WHERE id = 1").Scan(&v)); v != 9 {
				t.Fatalf("v is %d: the server has committed nothing, so there is nothing to see", v)
			}
			token, err := f.store.Read(f.ctx, []tokens.ID{user(1)})
			f.must(err)
			if !token[0].Fenced && token[0].Stamp == before {
				t.Error("what was committed is neither fenced nor published")
			}
		})
	}
}

// TestResults: what a statement returns is what it returns on the bare driver.
func TestResults(t *testing.T) {
	type outcome struct{ affected, id int64 }
	for _, c := range []struct {
		query string
		args  []any
	}{
		{"INSERT INTO notes (v) VALUES (1)", nil},
		{"INSERT INTO notes (v) VALUES (1), (?)", []any{2}},
		{"INSERT INTO notes (id, v) VALUES (77, 1)", nil},
		{"INSERT INTO notes (id, v) VALUES (?, 1), (NULL, 2), (0, 3)", []any{50}},
		{"INSERT INTO notes (v) SELECT v FROM users WHERE id > ?", []any{1}},
		{"INSERT INTO notes (v) SELECT v FROM users WHERE id > 100", nil},
		{"INSERT INTO notes (id, v) SELECT id + 10, v FROM users", nil},
		{"INSERT IGNORE INTO notes (id, v) VALUES (1, 1), (80, 1)", nil},
		{"INSERT IGNORE INTO mails (id, mail) VALUES (1, 'x'), (9, 'a'), (8, 'y')", nil},
		{"INSERT INTO notes (v) VALUES (LAST_INSERT_ID(7))", nil},
		{"INSERT INTO tags VALUES ('n', 1)", nil},
		{"INSERT INTO tags SELECT CONCAT(tag, 'x'), v FROM tags", nil},
		{"INSERT INTO tags VALUES (?, 1) ON DUPLICATE KEY UPDATE v = 8", []any{"ABC"}},
		{"INSERT INTO tags VALUES (?, 1) ON DUPLICATE KEY UPDATE v = 1", []any{"ABC"}},
		{"INSERT INTO notes (id, v) VALUES (1, 1) ON DUPLICATE KEY UPDATE v = 8, id = LAST_INSERT_ID(id)", nil},
		{"REPLACE INTO users VALUES (1, 'x', 1), (9, 'y', 1)", nil},
		{"UPDATE users SET v = 2", nil},
		{"UPDATE users SET v = 2 WHERE name > ?", []any{"a"}},
		{"UPDATE users SET v = 1 WHERE id = 1", nil},
		{"DELETE FROM users WHERE name > ?", []any{"a"}},
		{"DELETE FROM users WHERE id IN (1, 9)", nil},
		{"DELETE FROM users WHERE v > 100", nil},
		{"DELETE FROM users", nil},
		{"INSERT INTO logs (v) VALUES (1), (2)", nil},
		{"CALL tame(9)", nil},
		{"SELECT 1", nil},
	} {
		t.Run(c.query, func(t *testing.T) {
			for _, mode := range []func(*gomysql.Config){nil, func(c *gomysql.Config) { c.ClientFoundRows, c.InterpolateParams = true, true }} {
				f := setUp(t, mode)
				run := func(db *sql.DB) (o outcome) {
					// Both meet the same data: what one has done is undone.
					res, err := db.ExecContext(f.ctx, c.query, c.args...)
					f.must(err)
					o.affected, err = res.RowsAffected()
					f.must(err)
					o.id, err = res.LastInsertId()
					f.must(err)
					return o
				}
				wrapped := run(f.db)
				bare := run(setUp(t, mode).bare)
				if wrapped != bare {
					t.Errorf("%+v; on the bare driver %+v", wrapped, bare)
				}
			}
		})
	}
}

// killed gives a transaction that has written and whose connection the server has ended.
func killed(t *testing.T) (*fixture, *sql.Tx) {
	t.Helper()
	f := setUp(t, quiet)
	tx, err := f.db.BeginTx(f.ctx, nil)
	f.must(err)
	t.Cleanup(func() { _ = tx.Rollback() })
	f.execOn(tx, "UPDATE users SET v = 9 WHERE id = 1")
	var id int64
	f.must(tx.QueryRow("SELECT CONNECTION_ID()").Scan(&id))
	f.execOn(f.bare, "KILL "+itoa(id))
	return f, tx
}

// TestKill: connections that die.
func TestKill(t *testing.T) {
	t.Run("before COMMIT", func(t *testing.T) {
		f, tx := killed(t)
		f.backend.Calls()
		if err := tx.Commit(); err == nil {
			t.Fatal("COMMIT has not failed")
		}
		// Whether the server has got it nobody can tell, so it is fenced for as long as the lease is.
		for _, call := range f.backend.Calls() {
			if call.Op == "publish" {
				t.Errorf("%+v", call)
			}
		}
		if s := f.statistics(); s.Committed != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("in a statement of a transaction", func(t *testing.T) {
		f, tx := killed(t)
		if _, err := tx.ExecContext(f.ctx, "UPDATE users SET v = 9 WHERE v = 2"); err == nil {
			t.Fatal("the statement has not failed")
		}
		_ = tx.Rollback()
		if s := f.statistics(); s.RolledBack != 1 || s.Committed+s.Unknown != 0 {
			t.Errorf("%+v", s)
		}
		f.stamp(user(1))
	})
	t.Run("between statements", func(t *testing.T) {
		f := setUp(t, quiet)
		c := f.conn(f.db)
		var id int64
		f.must(c.QueryRowContext(f.ctx, "SELECT CONNECTION_ID()").Scan(&id))
		f.execOn(f.bare, "KILL "+itoa(id))
		_, err := c.ExecContext(f.ctx, "UPDATE users SET v = 9 WHERE v = 1")
		if err == nil {
			t.Fatal("the statement has not failed")
		}
		f.execOn(f.db, "UPDATE users SET v = 9 WHERE v = 1")
	})
	t.Run("the context ends while a lock is waited for", func(t *testing.T) {
		f := setUp(t, quiet)
		other, err := f.bare.BeginTx(f.ctx, nil)
		f.must(err)
		f.execOn(other, "UPDATE users SET v = 11 WHERE id = 1")
		ctx, cancel := context.WithCancel(f.ctx)
		done := make(chan error, 1)
		go func() {
			_, err := f.db.ExecContext(ctx, "UPDATE users SET v = 12 WHERE v > 0")
			done <- err
		}()
		f.waitsForLock()
		cancel()
		if err := <-done; err == nil {
			t.Fatal("the statement has not failed")
		}
		f.must(other.Rollback())
		if s := f.statistics(); s.Committed+s.Unknown != 0 {
			t.Errorf("%+v", s)
		}
		f.stamp(user(1))
	})
}

// quiet keeps the driver from logging what tests do to it.
func quiet(c *gomysql.Config) { c.Logger = new(gomysql.NopLogger) }

func (f *fixture) statistics() txscope.Statistics {
	f.Helper()
	s, err := txscope.Stats(f.ctx, f.db)
	f.must(err)
	return s
}
