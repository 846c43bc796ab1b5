package txscope_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"testing"
	"time"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// A statement that was announced and returns rows is over when they are: until then the database may
// not have committed it, and what was read before the commit would be stored under the new token.
func TestAnnouncedRowsArePublishedWhenTheyAreClosed(t *testing.T) {
	s := newSeam(t)
	rows, err := s.db.QueryContext(t.Context(), "WRITE")
	s.must(err)
	s.wantCalls("fence", "query WRITE []")
	if !s.Fenced(row1) {
		t.Error("the fence was lifted while the rows are unread")
	}
	for rows.Next() {
	}
	s.must(rows.Err())
	s.wantCalls("close rows", "publish")
	if s.Fenced(row1) {
		t.Error("the fence is still there")
	}
}

// What is done on the connection while the rows are open says nothing of the statement that they are of.
func TestConnectionIsUsedWhileAnnouncedRowsAreOpen(t *testing.T) {
	for name, use := range map[string]func(*sql.Conn) error{
		"ping":      func(c *sql.Conn) error { return c.PingContext(t.Context()) },
		"statement": func(c *sql.Conn) error { _, err := c.ExecContext(t.Context(), "READ"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSeam(t)
			conn, err := s.db.Conn(t.Context())
			s.must(err)
			defer conn.Close()
			was := s.Stamp(row1)
			rows, err := conn.QueryContext(t.Context(), "WRITE")
			s.must(err)
			s.must(use(conn))
			if !s.Fenced(row1) {
				t.Error("the fence was lifted while the rows are unread")
			}
			s.must(rows.Close())
			if s.Stamp(row1) == was {
				t.Error("the key has not changed")
			}
		})
	}
}

// Who reads the rows of a statement does not wait for its end when he marks more as changed.
func TestChangedWhileRowsAreOpen(t *testing.T) {
	row3 := tokens.Row("t", 3)
	apart := func(session *seamSession, _ context.Context, _ *txscope.Call, run func() (driver.Rows, error)) (driver.Rows, error) {
		done, err := session.rec.Apart(tokens.NewChanges(row1), "a table without transactions")
		if err != nil {
			return nil, err
		}
		rows, err := run()
		return &doneRows{txscope.Rows{Rows: rows}, func() { done(true) }}, err
	}
	for name, c := range map[string]struct {
		text  string
		query func(*seamSession, context.Context, *txscope.Call, func() (driver.Rows, error)) (driver.Rows, error)
	}{
		"announced": {"WRITE", nil},
		"apart":     {"APART", apart},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSeam(t)
			s.d.query = c.query
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			ctx, _ = txscope.OpenScope(ctx, s.Store)
			was := s.Stamp(row3)
			rows, err := s.db.QueryContext(ctx, c.text)
			s.must(err)
			s.must(txscope.Changed(ctx, row3))
			if s.Stamp(row3) != was {
				t.Error("it was published before the statement was over")
			}
			for rows.Next() {
			}
			s.must(rows.Err())
			if s.Stamp(row3) == was {
				t.Error("what was marked has not changed")
			}
		})
	}
}

// doneRows call done once when they are closed.
type doneRows struct {
	txscope.Rows
	done func()
}

func (r *doneRows) Close() error {
	if r.done != nil {
		r.done()
		r.done = nil
	}
	return r.Rows.Close()
}

// What a text does to transactions is asked whenever it runs: it can depend on the connection's state.
func TestControlOfPreparedStatementsIsAskedAtEachRun(t *testing.T) {
	s := newSeam(t)
	conn, err := s.db.Conn(t.Context())
	s.must(err)
	defer conn.Close()
	asked := 0
	s.d.control = func(query string) {
		if query == "READ" {
			asked++
		}
	}
	stmt, err := conn.PrepareContext(t.Context(), "READ")
	s.must(err)
	defer stmt.Close()
	before := asked
	for range 3 {
		_, err := stmt.ExecContext(t.Context())
		s.must(err)
	}
	if asked-before != 3 {
		t.Errorf("asked %d times", asked-before)
	}
}

// What is marked while the statement is being fenced is published, whether the fence is on it or not.
// The moment that matters is short: each round meets another.
func TestChangedWhileFencing(t *testing.T) {
	s := newSeam(t)
	mark := tokens.Row("u", 1)
	marked := make(chan error)
	for round := range 400 {
		ctx, _ := txscope.OpenScope(t.Context(), s.Store)
		was := s.Stamp(mark)
		s.d.before = func(session *seamSession, _ *txscope.Call) {
			for i := range 900 {
				session.rec.Add(tokens.Row("t", i))
			}
			begun := make(chan struct{})
			go func() {
				close(begun)
				for range 500 * (round % 100) {
				}
				marked <- txscope.Changed(ctx, mark)
			}()
			<-begun
			s.must(session.rec.Committing())
		}
		rows, err := s.db.QueryContext(ctx, "WRITE")
		s.must(err)
		s.must(<-marked)
		s.must(rows.Close())
		if s.Stamp(mark) == was {
			t.Fatal("what was marked has not changed")
		}
	}
}
