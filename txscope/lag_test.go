package txscope_test

import (
	"context"
	"database/sql"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/txscopetest"
)

// lagging is a database whose replicas are up to a second behind.
type lagging struct {
	*testing.T
	*txscopetest.Fixture
	driver *fakeDriver
	db     *sql.DB
}

// lag runs a test on fake time.
func lag(t *testing.T, test func(l *lagging)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lagging{T: t, driver: &fakeDriver{kind: "new"}}
		l.db, l.Fixture = wrap(t, l.driver)
		l.Store.ExpectLag(time.Second)
		test(l)
	})
}

func (l *lagging) bump() tokens.Stamp {
	l.Helper()
	stamp, err := tokens.Bump(l.Context(), l.Store, row1)
	if err != nil {
		l.Fatal(err)
	}
	return stamp
}

func (l *lagging) open() (context.Context, *txscope.Scope) {
	return txscope.OpenScope(l.Context(), l.Store)
}

func (l *lagging) is(what string, s *txscope.Scope, want tokens.Stamp) {
	l.Helper()
	if got := s.Watermark(); got != want {
		l.Errorf("%s: the watermark is %d, want %d", what, got, want)
	}
}

func (l *lagging) query(ctx context.Context, on interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}) {
	l.Helper()
	if _, err := on.ExecContext(ctx, "SELECT"); err != nil {
		l.Fatal(err)
	}
}

// A scope's watermark is what had been seen lag before it opened, and does not rise while it goes on.
func TestLagOfAScope(t *testing.T) {
	lag(t, func(l *lagging) {
		old := l.bump()
		_, young := l.open()
		l.is("younger than the lag", young, 0)
		time.Sleep(time.Second)
		ctx, scope := l.open()
		l.is("a second later", scope, old)
		fresh := l.bump()
		_, other := l.open()
		l.is("just after a change", other, old)
		time.Sleep(time.Hour)
		l.query(ctx, l.db)
		l.is("an hour later", scope, old)
		if _, inner := txscope.OpenScope(ctx, l.Store); inner != scope {
			l.Error("the inner scope is another")
		}
		_, later := l.open()
		l.is("opened an hour later", later, fresh)
	})
}

// What is read in a transaction is as old as a replica can have been when it began, which is older
// than what had been seen then, and older than a scope that opened since.
func TestLagOfATransaction(t *testing.T) {
	lag(t, func(l *lagging) {
		before := l.bump()
		time.Sleep(time.Second)
		during := l.bump()
		time.Sleep(500 * time.Millisecond)
		tx, err := l.db.BeginTx(l.Context(), nil)
		if err != nil {
			l.Fatal(err)
		}
		defer tx.Rollback()
		time.Sleep(900 * time.Millisecond)
		ctx, scope := l.open()
		l.is("before it queries", scope, during)
		l.query(ctx, tx)
		l.is("after it has queried in the transaction", scope, before)
	})
}

// So is what is read while rows of an earlier statement are open.
func TestLagOfASnapshot(t *testing.T) {
	lag(t, func(l *lagging) {
		before := l.bump()
		time.Sleep(time.Second)
		conn, err := l.db.Conn(l.Context())
		if err != nil {
			l.Fatal(err)
		}
		defer conn.Close()
		l.query(l.Context(), conn)
		during := l.bump()
		l.driver.reading = true
		time.Sleep(2 * time.Second)
		ctx, scope := l.open()
		l.is("before it queries", scope, during)
		l.query(ctx, conn)
		l.is("after it has queried beside the open rows", scope, before)
	})
}

// A scope, a transaction and a snapshot that began before the lag was spoken of, or before a longer one
// was, say nothing of how old their data is.
func TestLagIsSpokenOfLate(t *testing.T) {
	lag(t, func(l *lagging) {
		l.bump()
		time.Sleep(10 * time.Second)
		ctx, scope := l.open()
		conn, err := l.db.Conn(l.Context())
		if err != nil {
			l.Fatal(err)
		}
		defer conn.Close()
		l.query(l.Context(), conn)
		l.driver.reading = true
		tx, err := l.db.BeginTx(l.Context(), nil)
		if err != nil {
			l.Fatal(err)
		}
		defer tx.Rollback()
		l.Store.ExpectLag(2 * time.Second)
		time.Sleep(10 * time.Second)

		txscope.OpenScope(ctx, l.Store)
		l.is("opened again", scope, 0)
		for name, on := range map[string]interface {
			ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		}{"transaction": tx, "snapshot": conn} {
			ctx, later := l.open()
			l.is("before it queries", later, l.Store.Seen())
			l.query(ctx, on)
			l.is("after it has queried in the "+name, later, 0)
		}
	})
}
