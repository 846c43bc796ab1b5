package postgres_test

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope/txscopetest"
)

// TestReplyLost: a server that hangs up in place of its answer to a COMMIT has carried it out. The driver calls
// that error safe to retry.
func TestReplyLost(t *testing.T) {
	for _, c := range []struct {
		name string
		lost string // the answer to this is
		run  func(f *fixture, db *sql.DB) error
	}{
		{"Commit", "commit", func(f *fixture, db *sql.DB) error {
			tx, err := db.BeginTx(f.ctx, nil)
			f.must(err)
			f.exec(tx, `UPDATE users SET seen = seen + 1 WHERE id = 1`)
			return tx.Commit()
		}},
		{"COMMIT as text", "commit", func(f *fixture, db *sql.DB) error {
			conn, err := db.Conn(f.ctx)
			f.must(err)
			defer conn.Close()
			f.exec(conn, `BEGIN`)
			f.exec(conn, `UPDATE users SET seen = seen + 1 WHERE id = 1`)
			_, err = conn.ExecContext(f.ctx, `COMMIT`)
			return err
		}},
		{"a transaction of the capture's own", "commit", func(f *fixture, db *sql.DB) error {
			_, err := db.ExecContext(f.ctx, `UPDATE users SET seen = seen + 1 WHERE id < 2`)
			return err
		}},
		{"a text of several statements", "commit", func(f *fixture, db *sql.DB) error {
			conn, err := db.Conn(f.ctx)
			f.must(err)
			defer conn.Close()
			_, err = conn.ExecContext(f.ctx, `BEGIN; UPDATE users SET seen = seen + 1 WHERE id = 1; COMMIT`)
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := setUp(t, plainSchema+plainData)
			f.exec(f.bare, `UPDATE users SET seen = 0`)
			shared := txscopetest.NewFixture(t)
			config, err := pgx.ParseConfig(f.dsn)
			f.must(err)
			var cut cutting
			config.DialFunc = cut.dial
			db := shared.Wrap(stdlib.GetConnector(*config))
			defer db.Close()
			f.exec(db, `SELECT 1`)
			row := tokens.Row("users", 1)
			before := shared.Stamp(row)
			cut.answerTo(c.lost)
			if err := c.run(f, db); err == nil {
				t.Error("no error")
			}
			if got := f.query(f.bare, `SELECT seen FROM users WHERE id = 1`)[0]; got != "1" {
				t.Fatalf("it ran %s times", got)
			}
			if !shared.Fenced(row) && shared.Stamp(row) == before {
				t.Error("what was committed is neither fenced nor published")
			}
		})
	}
}

// TestJudgeCancelled: a client that goes away while its transaction is judged changes no keys, and leaves nothing
// fenced.
func TestJudgeCancelled(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	shared := txscopetest.NewFixture(t)
	config, err := pgx.ParseConfig(f.dsn)
	f.must(err)
	var cut cutting
	config.DialFunc = cut.dial
	db := shared.Wrap(stdlib.GetConnector(*config))
	defer db.Close()
	f.exec(db, `UPDATE users SET seen = 1`) // the judge is known
	row := tokens.Row("plain", 1)
	before := shared.Stamp(row)
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	tx, err := db.BeginTx(ctx, nil)
	f.must(err)
	f.exec(tx, `UPDATE users SET seen = 2 WHERE id = 1 OR name = 'x'`)
	everything := false
	shared.Backend.OnCall(func(c txscopetest.Call) {
		for _, id := range c.IDs {
			everything = everything || id.IsSweep() && id.Table == tokens.Global.Table
		}
	})
	asked := false
	cut.answerTo("alkey_judge")
	cut.then = func() { asked = true; cancel() }
	if err := tx.Commit(); err == nil {
		t.Error("no error")
	}
	if !asked {
		t.Fatal("the judge was not asked")
	}
	if got := f.query(f.bare, `SELECT seen FROM users WHERE id = 1`)[0]; got != "1" {
		t.Errorf("it was committed: %s", got)
	}
	if everything {
		t.Error("all keys were fenced")
	}
	if shared.Fenced(row) || shared.Stamp(row) != before {
		t.Error("another table's keys have changed, or are fenced")
	}
	if shared.Fenced(tokens.Row("users", 1)) {
		t.Error("what was rolled back is fenced")
	}
}

// cutting makes connections of which one is cut in place of an answer.
type cutting struct {
	mu   sync.Mutex
	word []byte // in lower case; nil: none is cut
	then func() // is called when it is
}

func (c *cutting) answerTo(word string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.word = []byte(word)
}

func (c *cutting) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	return &cutConn{Conn: conn, cutting: c}, err
}

// cuts reports whether what is sent is what has no answer. It is once.
func (c *cutting) cuts(sent []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.word == nil || !bytes.Contains(bytes.ToLower(sent), c.word) {
		return false
	}
	c.word = nil
	if c.then != nil {
		c.then()
	}
	return true
}

type cutConn struct {
	net.Conn
	cutting *cutting
	mu      sync.Mutex
	cut     bool
}

func (c *cutConn) Write(b []byte) (int, error) {
	if c.cutting.cuts(b) {
		c.mu.Lock()
		c.cut = true
		c.mu.Unlock()
	}
	return c.Conn.Write(b)
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return 0, io.EOF // the server has answered
	}
	return n, err
}
