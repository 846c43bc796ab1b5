package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// flipCtx ends at its n-th question.
type flipCtx struct {
	context.Context
	mu   sync.Mutex
	left int
	done chan struct{}
}

func (c *flipCtx) Done() <-chan struct{} { return c.done }
func (c *flipCtx) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left > 0 {
		return nil
	}
	if c.left == 0 {
		close(c.done)
	}
	return context.Canceled
}

func TestZBFlip(t *testing.T) {
	for _, q := range []string{
		"INSERT INTO tags VALUES ('x', 9) ON DUPLICATE KEY UPDATE v = 9",
		"UPDATE users SET v = 2 WHERE id IN (1, 2, 3)",
		"UPDATE users SET v = 9 WHERE v > 0",
		"DELETE FROM users WHERE v > 0",
		"INSERT INTO notes (v) VALUES (9)",
	} {
		for n := 1; n < 25; n++ {
			f := setUp(t, nil)
			conn, err := f.db.Conn(f.ctx)
			f.must(err)
			f.execOn(conn, "SELECT 1")
			f.execOn(conn, "START TRANSACTION")
			ctx := &flipCtx{Context: f.ctx, left: n, done: make(chan struct{})}
			f.backend.Calls()
			_, err = conn.ExecContext(ctx, q)
			_, cerr := conn.ExecContext(f.ctx, "COMMIT")
			conn.Close()
			f.db.Close()
			got := changesOf(f.backend.Calls())
			var changed int
			f.must(f.bare.QueryRow("SELECT (SELECT COUNT(*) FROM tags WHERE v = 9) + (SELECT COUNT(*) <> 3 OR SUM(v IN (2, 9)) <> 1 FROM users) + (SELECT COUNT(*) FROM notes WHERE v = 9)").Scan(&changed))
			if changed > 0 && len(got) == 0 {
				t.Errorf("MISSED n=%d %s: err %v, commit %v", n, q, err, cerr)
			}
			f.bare.Close()
		}
	}
}

// deadlock has tx lose one.
func (f *fixture) zbDeadlock(tx *sql.Tx) {
	f.Helper()
	other, err := f.bare.Begin()
	f.must(err)
	f.execOn(f.bare, "CREATE TABLE IF NOT EXISTS heavy (id INT PRIMARY KEY, v INT)")
	f.execOn(other, "INSERT INTO heavy SELECT seq, 1 FROM seq_1_to_500")
	f.execOn(other, "UPDATE users SET v = 50 WHERE id = 2")
	f.execOn(tx, "UPDATE users SET v = 60 WHERE id = 1")
	done := make(chan error)
	go func() {
		_, err := tx.Exec("UPDATE users SET v = 61 WHERE id = 2")
		done <- err
	}()
	time.Sleep(300 * time.Millisecond)
	_, err = other.Exec("UPDATE users SET v = 51 WHERE id = 1")
	derr := <-done
	f.must(err)
	f.must(other.Rollback())
	var m *gomysql.MySQLError
	if !errors.As(derr, &m) || m.Number != 1213 {
		f.Fatal("no deadlock: ", derr)
	}
}

func TestZBPrepareAfterDeadlock(t *testing.T) {
	for _, way := range []string{"exec", "prepare"} {
		f := setUp(t, nil, txscope.Strict())
		tx, err := f.db.Begin()
		f.must(err)
		f.zbDeadlock(tx)
		f.backend.SetDown(true)
		if way == "exec" {
			_, err = tx.Exec("INSERT INTO users VALUES (70, 'x', 1)")
		} else {
			st, perr := tx.Prepare("INSERT INTO users VALUES (70, 'x', ?)")
			f.must(perr)
			_, err = st.Exec(1)
		}
		f.backend.SetDown(false)
		var n int
		f.must(f.bare.QueryRow("SELECT COUNT(*) FROM users WHERE id = 70").Scan(&n))
		_ = tx.Rollback()
		if n != 0 {
			t.Errorf("UNFENCED %s: committed though Strict could not fence it (err %v)", way, err)
		}
	}
}

func TestZBRowsDeadlock(t *testing.T) {
	f := setUp(t, nil, txscope.Strict())
	f.execOn(f.bare, "CREATE TABLE wide (id INT PRIMARY KEY, pad VARCHAR(2000))")
	f.execOn(f.bare, "INSERT INTO wide SELECT seq, REPEAT('x', 2000) FROM seq_1_to_100")
	f.execOn(f.bare, "CREATE TABLE heavy (id INT PRIMARY KEY, v INT)")
	tx, err := f.db.Begin()
	f.must(err)
	other, err := f.bare.Begin()
	f.must(err)
	f.execOn(other, "INSERT INTO heavy SELECT seq, 1 FROM seq_1_to_5000")
	f.execOn(other, "UPDATE wide SET pad = '' WHERE id = 100")
	f.execOn(tx, "UPDATE users SET v = 60 WHERE id = 1")
	done := make(chan error)
	go func() {
		rows, err := tx.Query("SELECT * FROM wide FOR UPDATE")
		if err == nil {
			n := 0
			for rows.Next() {
				n++
			}
			err = rows.Err()
			f.Log(n, "rows, then", err)
			rows.Close()
		}
		done <- err
	}()
	time.Sleep(500 * time.Millisecond)
	_, err = other.Exec("UPDATE users SET v = 51 WHERE id = 1")
	derr := <-done
	f.must(err)
	f.must(other.Rollback())
	if derr == nil {
		t.Fatal("no deadlock")
	}
	f.backend.SetDown(true)
	_, err = tx.Exec("INSERT INTO users VALUES (70, 'x', 1)")
	f.backend.SetDown(false)
	var n int
	f.must(f.bare.QueryRow("SELECT COUNT(*) FROM users WHERE id = 70").Scan(&n))
	_ = tx.Rollback()
	if n != 0 {
		t.Errorf("UNFENCED: committed though Strict could not fence it (err %v)", err)
	}
}

func TestZBSemiConsistent(t *testing.T) {
	f := setUp(t, nil)
	other, err := f.bare.Begin()
	f.must(err)
	f.execOn(other, "UPDATE users SET v = 60 WHERE id = 1")
	for name, db := range map[string]*sql.DB{"bare": f.bare, "wrapped": f.db} {
		conn, err := db.Conn(f.ctx)
		f.must(err)
		f.execOn(conn, "SET innodb_lock_wait_timeout = 1")
		f.execOn(conn, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
		_, err = conn.ExecContext(f.ctx, "UPDATE users SET v = 9 WHERE name = 'c'")
		t.Logf("RC %s: %v", name, err)
		conn.Close()
	}
	_ = other.Rollback()
}

func TestZBUnknownMyISAM(t *testing.T) {
	f := setUp(t, nil)
	conn, err := f.db.Conn(f.ctx)
	f.must(err)
	defer conn.Close()
	f.execOn(conn, "SELECT 1")
	for _, way := range []string{"1062", "rollback", "select of a view"} {
		// DDL that waits, on another connection
		block, err := f.bare.Conn(f.ctx)
		f.must(err)
		f.execOn(block, "BEGIN")
		var x int
		f.must(block.QueryRowContext(f.ctx, "SELECT v FROM plain").Scan(&x))
		done := make(chan struct{})
		go func() {
			_, _ = f.db.Exec("ALTER TABLE plain COMMENT 'x'")
			close(done)
		}()
		time.Sleep(300 * time.Millisecond)
		id := tokens.Row("logs", 30)
		switch way {
		case "1062":
			was := f.zbStamp(id)
			_, err = conn.ExecContext(f.ctx, "INSERT INTO logs (id, v) VALUES (30, 1), (1, 1)")
			var n int
			f.must(f.bare.QueryRow("SELECT COUNT(*) FROM logs WHERE id = 30").Scan(&n))
			if n == 1 && f.zbStamp(id) == was {
				t.Errorf("MISSED %s (err %v)", way, err)
			}
		case "rollback":
			id = tokens.Row("logs", 31)
			was := f.zbStamp(id)
			f.execOn(conn, "BEGIN")
			f.execOn(conn, "INSERT INTO logs (id, v) VALUES (31, 1)")
			f.execOn(conn, "ROLLBACK")
			var n int
			f.must(f.bare.QueryRow("SELECT COUNT(*) FROM logs WHERE id = 31").Scan(&n))
			if n == 1 && f.zbStamp(id) == was {
				t.Errorf("MISSED %s", way)
			}
		default:
			id = tokens.Row("notes", 4)
			was := f.zbStamp(id)
			rows, err := conn.QueryContext(f.ctx, "SELECT * FROM writers")
			f.must(err)
			for rows.Next() {
			}
			rows.Close()
			var n int
			f.must(f.bare.QueryRow("SELECT COUNT(*) FROM notes WHERE id = 4").Scan(&n))
			if n == 1 && f.zbStamp(id) == was {
				t.Errorf("MISSED %s", way)
			}
		}
		f.execOn(block, "ROLLBACK")
		block.Close()
		<-done
	}
}

func TestZBForeignHidden(t *testing.T) {
	f := setUp(t, nil)
	name := f.config.DBName
	f.execOn(f.bare, "CREATE DATABASE IF NOT EXISTS zbother")
	defer f.execOn(f.bare, "DROP DATABASE zbother")
	f.execOn(f.bare, "CREATE TABLE zbother.kids (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES "+name+".parents (id) ON DELETE CASCADE)")
	f.execOn(f.bare, "INSERT INTO zbother.kids VALUES (5, 2)")
	f.execOn(f.bare, "DROP TABLE children")
	for _, grant := range []string{"SELECT", "SELECT, EXECUTE, SHOW VIEW"} {
		f.execOn(f.bare, "CREATE OR REPLACE USER zb@'%' IDENTIFIED BY 'zb'")
		f.execOn(f.bare, "GRANT ALL ON `"+name+"`.* TO zb@'%'")
		f.execOn(f.bare, "GRANT "+grant+" ON zbother.* TO zb@'%'")
		cfg := f.config.Clone()
		cfg.User, cfg.Passwd = "zb", "zb"
		db := f.wrap(cfg)
		if err := db.Ping(); err != nil {
			t.Skip(err)
		}
		got := f.published(func() { f.execOn(db, "DELETE FROM parents WHERE id = 2") })
		if !strings.Contains(fmt.Sprint(got), "kids") && !strings.Contains(fmt.Sprint(got), "*#!") {
			t.Errorf("MISSED with %s: %v", grant, got)
		}
		f.execOn(f.bare, "INSERT INTO parents VALUES (2, 2)")
		f.execOn(f.bare, "INSERT IGNORE INTO zbother.kids VALUES (5, 2)")
	}
}

func TestZBOneShot(t *testing.T) {
	f := setUp(t, nil)
	for name, db := range map[string]*sql.DB{"bare": f.bare, "wrapped": f.db} {
		conn, err := db.Conn(f.ctx)
		f.must(err)
		f.execOn(conn, "SET TRANSACTION READ ONLY")
		f.execOn(f.db, "CREATE OR REPLACE TABLE other (id INT)")
		f.execOn(conn, "START TRANSACTION")
		_, err = conn.ExecContext(f.ctx, "UPDATE users SET v = 9 WHERE id = 1")
		t.Logf("ONESHOT %s: %v", name, err)
		f.execOn(conn, "ROLLBACK")
		conn.Close()
	}
}

func TestZBDelayed(t *testing.T) {
	f := setUp(t, nil)
	lock, err := f.bare.Conn(f.ctx)
	f.must(err)
	defer lock.Close()
	f.execOn(f.db, "SELECT 1")
	f.execOn(lock, "LOCK TABLES logs READ")
	id := tokens.Row("logs", 40)
	f.execOn(f.db, "INSERT DELAYED INTO logs (id, v) VALUES (40, 1)")
	was := f.zbStamp(id)
	f.execOn(lock, "UNLOCK TABLES")
	var n int
	for range 100 {
		time.Sleep(20 * time.Millisecond)
		f.must(f.bare.QueryRow("SELECT COUNT(*) FROM logs WHERE id = 40").Scan(&n))
		if n == 1 {
			break
		}
	}
	if n == 1 && f.zbStamp(id) == was {
		t.Errorf("EARLY: INSERT DELAYED is published before its row is there")
	}
}

func TestZBFlipTouch(t *testing.T) {
	for _, q := range []string{"UPDATE children SET parent_id = 2 WHERE id = 1", "UPDATE children SET parent_id = 2 WHERE v < 2", "INSERT INTO children VALUES (9, 2, 1)", "INSERT INTO children VALUES (1, 2, 1) ON DUPLICATE KEY UPDATE parent_id = 2"} {
		for n := 1; n < 14; n++ {
			f := setUp(t, nil, txscope.Touch())
			conn, err := f.db.Conn(f.ctx)
			f.must(err)
			f.execOn(conn, "SELECT 1")
			f.execOn(conn, "START TRANSACTION")
			ctx := &flipCtx{Context: f.ctx, left: n, done: make(chan struct{})}
			f.backend.Calls()
			_, err = conn.ExecContext(ctx, q)
			_, cerr := conn.ExecContext(f.ctx, "COMMIT")
			conn.Close()
			f.db.Close()
			got := strings.Join(changesOf(f.backend.Calls()), " ")
			var changed int
			f.must(f.bare.QueryRow("SELECT COUNT(*) <> 1 FROM children WHERE parent_id = 2").Scan(&changed))
			if changed > 0 && !strings.Contains(got, "parents#2") && !strings.Contains(got, "parents#!") {
				t.Errorf("MISSED n=%d %s: %q err %v, commit %v", n, q, got, err, cerr)
			}
			f.bare.Close()
		}
	}
}
