package txscope_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// backAgain is longer than a store takes to notice that its backend is back.
const backAgain = time.Second

// What was committed by a statement that nobody has announced is published, and nothing of it is released
// by a ROLLBACK afterwards or when the connection is closed; also if the store is down then.
func TestMissed(t *testing.T) {
	for _, strict := range []bool{true, false} {
		for _, down := range []bool{true, false} {
			for _, closed := range []bool{true, false} {
				t.Run(fmt.Sprintf("strict %v, down %v, closed %v", strict, down, closed), func(t *testing.T) {
					var opts []txscope.Option
					if strict {
						opts = append(opts, txscope.Strict())
					}
					synctest.Test(t, func(t *testing.T) { testMissed(newSeam(t, opts...), down, closed) })
				})
			}
		}
	}
}

func testMissed(s *seam, down, closed bool) {
	s.d.after = func(session *seamSession, call *txscope.Call) {
		if call.Query == "UNSEEN" {
			session.c.inTx = false
			session.rec.Missed()
		}
	}
	ctx, _ := txscope.OpenScope(s.Context(), s.Store)
	was := s.Stamp(row1)
	conn, err := s.db.Conn(ctx)
	s.must(err)
	s.exec(conn, ctx, "BEGIN")
	s.exec(conn, ctx, "WRITE")
	called := false
	txscope.OnCommit(ctx, func(context.Context) { called = true })
	s.Backend.SetDown(down)
	s.exec(conn, ctx, "UNSEEN")
	if !called {
		s.Error("the functions of OnCommit were not called")
	}
	if closed {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	} else {
		s.exec(conn, ctx, "ROLLBACK")
		s.must(conn.Close())
	}
	s.Backend.SetDown(false)
	time.Sleep(backAgain)
	if s.Stamp(row1) == was {
		s.Error("what was committed is not published")
	}
	if got := s.stats(); got.Committed != 1 || got.RolledBack+got.Unknown != 0 {
		s.Errorf("got %+v", got)
	}
}

// What is found out late of an announced statement does not end what was announced: of a statement whose outcome
// nobody knows all stays fenced, and nothing counts as committed.
func TestWiden(t *testing.T) {
	row3 := tokens.Row("t", 3)
	for name, late := range map[string]func(txscope.Recorder) func(){
		"before it is sent": func(rec txscope.Recorder) func() {
			rec.Widen(row3, "seen late")
			if err := rec.Committing(); err != nil {
				t.Error(err)
			}
			return func() {}
		},
		"after it was sent": func(rec txscope.Recorder) func() {
			return func() {
				rec.Widen(row3, "seen late")
				rec.Missed()
			}
		},
		"of what is visible by itself": func(rec txscope.Recorder) func() {
			done, err := rec.Apart(tokens.NewChanges(row3), "a table without transactions")
			if err != nil {
				t.Error(err)
			}
			return func() { done(false) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSeam(t)
			ctx, _ := txscope.OpenScope(t.Context(), s.Store)
			before := s.stats()
			s.d.exec = func(session *seamSession, _ context.Context, _ *txscope.Call, _ func() (driver.Result, error)) (driver.Result, error) {
				session.rec.Add(row1)
				if err := session.rec.Committing(); err != nil {
					return nil, err
				}
				late(session.rec)()
				return nil, errLost
			}
			if _, err := s.db.ExecContext(ctx, "LOST"); err == nil {
				t.Error("it is not lost")
			}
			if !s.Fenced(row1) || !s.Fenced(row3) {
				t.Errorf("fenced: the row %v, what was seen late %v", s.Fenced(row1), s.Fenced(row3))
			}
			if got := s.stats(); got.Unknown == before.Unknown || got.Committed != before.Committed || got.RolledBack != before.RolledBack {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// Nothing is missed where nothing has changed.
func TestMissedOfNothing(t *testing.T) {
	s := newSeam(t)
	s.d.after = func(session *seamSession, _ *txscope.Call) { session.rec.Missed() }
	s.exec(s.db, t.Context(), "READ")
	s.wantCalls("exec READ []")
}

// A transaction goes on after a statement of it was refused that would have committed it.
func TestGoesOnAfterARefusedCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSeam(t, txscope.Strict())
		s.d.exec = func(session *seamSession, _ context.Context, call *txscope.Call, run func() (driver.Result, error)) (driver.Result, error) {
			if call.Query == "IMPLICIT" {
				if err := session.rec.Committing(); err != nil {
					return nil, err
				}
			}
			return run()
		}
		ctx, _ := txscope.OpenScope(t.Context(), s.Store)
		was := s.Stamp(row2)
		tx, err := s.db.BeginTx(ctx, nil)
		s.must(err)
		s.exec(tx, ctx, "WRITE")
		s.Backend.SetDown(true)
		if _, err := tx.ExecContext(ctx, "IMPLICIT"); !errors.Is(err, txscope.ErrFence) {
			t.Fatalf("got %v", err)
		}
		s.Backend.SetDown(false)
		time.Sleep(backAgain)
		if s.Stamp(row2) != was {
			t.Error("the store is not trusted, or a key has changed")
		}
		limited, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		s.must(txscope.Changed(limited, row2))
		if s.Stamp(row2) != was {
			t.Error("what is marked in the transaction has changed before it is committed")
		}
		s.must(tx.Commit())
		if s.Stamp(row2) == was {
			t.Error("what was marked in the transaction has not changed")
		}
	})
}

// A COMMIT that the database did not let happen because its session was refused the fence fails with
// ErrFence, whatever the driver calls it.
func TestRefusedInCommit(t *testing.T) {
	s := newSeam(t, txscope.Strict())
	veto := errors.New("vetoed by a hook")
	var session *seamSession
	s.d.before = func(now *seamSession, call *txscope.Call) {
		session = now
		now.fakeSession.Before(t.Context(), call)
	}
	s.d.onCommit = func() error {
		s.Backend.SetDown(true)
		session.rec.Add(row2)
		if err := session.rec.Committing(); err != nil {
			session.c.inTx = false
			session.rec.RolledBack()
			return veto
		}
		return nil
	}
	conn, err := s.db.Conn(t.Context())
	s.must(err)
	defer conn.Close()
	tx, err := conn.BeginTx(t.Context(), nil)
	s.must(err)
	s.exec(tx, t.Context(), "WRITE")
	if err := tx.Commit(); !errors.Is(err, txscope.ErrFence) || !errors.Is(err, veto) {
		t.Errorf("got %v", err)
	}
	s.failsAsItIs(conn)
}

// What the bare connection was refused is no business of the statements that follow.
func TestRefusedOnTheBareConnection(t *testing.T) {
	s := newSeam(t, txscope.Strict())
	conn, err := s.db.Conn(t.Context())
	s.must(err)
	defer conn.Close()
	s.Backend.SetDown(true)
	s.must(conn.Raw(func(c any) error { c.(*txscope.Conn).Bare(); return nil }))
	s.failsAsItIs(conn)
}

// failsAsItIs checks that a statement fails with the error of the driver, and no other.
func (s *seam) failsAsItIs(conn *sql.Conn) {
	s.Helper()
	broken := errors.New("broken")
	s.d.on = failing("exec READ", broken)
	if _, err := conn.ExecContext(s.Context(), "READ"); err != broken {
		s.Errorf("got %v", err)
	}
}
