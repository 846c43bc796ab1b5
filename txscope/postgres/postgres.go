package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

func init() { txscope.Register("pgx", capture{}) }

type capture struct{}

// Handles is part of txscope.Capture.
func (capture) Handles(d driver.Driver) bool {
	_, ok := d.(*stdlib.Driver)
	return ok
}

// Database is part of txscope.Capture.
func (capture) Database(setup txscope.Setup) txscope.Database { return newDatabase(setup) }

// database is what connections know together: the schema, and what the texts of statements mean.
type database struct {
	warn   func(string, error)
	lease  time.Duration
	maxAge time.Duration
	touch  *txscope.TouchRules

	plans *sqltext.Cache[*plan]
	paths paths
	schemas
}

func newDatabase(setup txscope.Setup) *database {
	db := &database{warn: setup.Warn, lease: setup.Lease, maxAge: setup.MaxSchemaAge, touch: setup.Touch}
	db.plans = sqltext.NewCache(sqltext.DefaultEntries, sqltext.DefaultBytes, func(query string) *plan {
		return newPlan(query, sqltext.Parse(sqltext.Postgres, query))
	})
	db.began, db.reading = time.Now(), make(chan struct{}, 1)
	db.generation.Store(1)
	return db
}

// Session is part of txscope.Database.
func (db *database) Session(conn driver.Conn, rec txscope.Recorder) (txscope.Session, error) {
	bare, ok := conn.(*stdlib.Conn)
	if !ok {
		return nil, fmt.Errorf("alkey: a connection of type %T hides that of github.com/jackc/pgx/v5/stdlib: what wraps connections, for telemetry say, goes around the connector that txscope.Wrap returns, not into the one that Wrap is given", conn)
	}
	c := bare.Conn()
	s := &session{db: db, rec: rec, conn: bare, pgx: c, pg: c.PgConn(), resets: resetsOf(bare)}
	s.veiled = s.veiledBefore()
	return s, nil
}

// session watches one connection.
type session struct {
	db   *database
	rec  txscope.Recorder
	conn *stdlib.Conn
	pgx  *pgx.Conn
	pg   *pgconn.PgConn

	// The text that was read last: most are read by Control just before they run.
	lastText string
	lastPlan *plan

	path      *path   // nil if it must be asked for
	pathOf    *schema // that was current when it was
	unsettled bool    // the transaction has changed what the path is made of, and may take it back
	veiled    bool    // there may be temporary views
	veiling   bool    // the transaction has made or dropped some, and may take it back
	user      string  // whose privileges count; known if the path is
	resets    resets

	config   *config // of how queries of the capture's own are sent; nil until it is needed
	judged   bool    // the judge has been asked on this connection
	prepared bool    // and is a prepared statement

	own      bool // a transaction of the capture's own is open
	ending   bool // a COMMIT may have been sent
	gone     bool // the connection was closed before that
	poisons  bool // a text that ends transactions may leave open what was open before
	altering bool // the transaction has changed the schema
	doubtful bool // the transaction may have changed the schema by means that cannot be seen
	work     work // of the transaction that is open
}

var (
	_ txscope.RunningSession    = (*session)(nil)
	_ txscope.CommittingSession = (*session)(nil)
)

// The states of a connection's transaction, as the server tells them with every answer.
const (
	idle   = 'I' // none is open
	failed = 'E' // one is open and can only be rolled back, to a savepoint at least
)

// status is the state of the transaction that is open on the connection.
func (s *session) status() byte { return s.pg.TxStatus() }

// Control is part of txscope.Session.
func (s *session) Control(query string) txscope.Control { return s.plan(query).control }

// Prepare is part of txscope.Session.
func (s *session) Prepare(query string, prepare func() error) (any, error) {
	if err := prepare(); err != nil {
		return nil, err
	}
	return s.plan(query), nil
}

// plan finds or makes the plan of a text.
func (s *session) plan(query string) *plan {
	if s.lastPlan != nil && s.lastText == query {
		return s.lastPlan
	}
	var p *plan
	if s.pg.ParameterStatus("standard_conforming_strings") == "off" && strings.IndexByte(query, '\\') >= 0 {
		p = notUnderstood
	} else {
		p = s.db.plans.Get(query)
	}
	s.lastText, s.lastPlan = query, p
	return p
}

func (s *session) planOf(call *txscope.Call) *plan {
	if p, ok := call.Memo.(*plan); ok {
		return p
	}
	return s.plan(call.Query)
}

// Idle is part of txscope.Session. It is where the schema is read: a query that fails inside of a
// transaction would end it.
func (s *session) Idle(ctx context.Context) {
	if s.pg.IsClosed() || s.status() != idle {
		return
	}
	s.work.reset()
	s.own, s.ending = false, false
	s.settled()
	if s.resets.again() {
		s.path = nil
	}
	if s.pg.IsBusy() {
		return
	}
	if s.judged && !s.prepared {
		s.prepareJudge(ctx)
	}
	if !s.db.fresh() {
		s.db.refresh(ctx, s)
	}
}

// Before is part of txscope.Session.
func (s *session) Before(context.Context, *txscope.Call) {}

// After is part of txscope.Session.
func (s *session) After(context.Context, *txscope.Call, error) {
	if len(s.lastText) > sqltext.MaxText {
		s.lastText, s.lastPlan = "", nil // a connection that is idle keeps no large text
	}
}

// InTransaction is part of txscope.Session.
func (s *session) InTransaction() bool { return !s.own && !s.pg.IsClosed() && s.status() != idle }

// Judge is part of txscope.Session.
func (s *session) Judge(err error) txscope.Verdict {
	ending := s.ending
	s.ending = false
	var refused *pgconn.PgError
	answered := errors.As(err, &refused)
	switch {
	case !s.pg.IsClosed() && s.status() != idle:
		return txscope.VerdictOngoing
	case !ending && err != nil:
		return txscope.VerdictRolledBack // nobody has sent a COMMIT
	case err == nil:
		return txscope.VerdictCommitted
	case errors.Is(err, pgx.ErrTxCommitRollback), s.unsent(err):
		return txscope.VerdictRolledBack
	case answered && (!fatal(refused) || refused.Code == codeIdleInTransaction):
		return txscope.VerdictRolledBack
	default:
		return txscope.VerdictUnknown
	}
}

// end notes that a COMMIT is about to be sent.
func (s *session) end() { s.ending, s.gone = true, s.pg.IsClosed() }

// unsent reports whether what was to be sent after end has not been. The driver calls an error safe to
// retry, and a bad connection, also where the server has hung up on a COMMIT that it may have carried out:
// it finds its connection closed when it goes on to read.
func (s *session) unsent(err error) bool {
	return s.gone || pgconn.SafeToRetry(err) && !errors.Is(err, pgconn.ErrConnClosed)
}

// Codes of errors, see https://www.postgresql.org/docs/current/errcodes-appendix.html.
const (
	codeActiveTransaction   = "25001" // it cannot run inside a transaction block
	codeIdleInTransaction   = "25P03" // the server has ended a session that was idle for too long
	codeNoPreparedStatement = "26000"
	codeInvalidTermination  = "2D000" // a procedure cannot COMMIT here
)

// fatal reports whether the server has ended the session with the error. It can have sent that after
// it had committed.
func fatal(err *pgconn.PgError) bool {
	severity := err.SeverityUnlocalized
	if severity == "" {
		severity = err.Severity
	}
	return severity != "ERROR"
}

func hasCode(err error, codes ...string) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range codes {
		if e.Code == c {
			return true
		}
	}
	return false
}

// Ended is part of txscope.Session.
func (s *session) Ended() {
	s.work.reset()
	s.ending = false
	if s.pg.IsClosed() || s.status() == idle {
		s.settled()
	}
	if s.altering {
		s.altering = false
		s.db.altered()
	}
	if s.doubtful {
		s.doubtful = false
		s.db.suspect()
	}
}

// alter notes that the transaction changes the schema: nobody can tell rows by what is known, until
// it is over and the schema read again.
func (s *session) alter() {
	if !s.altering {
		s.altering = true
		s.db.alters()
	}
}

// Bare is part of txscope.Session.
func (s *session) Bare() {
	s.lose(true)
	s.doubtful = true
	if !s.pg.IsClosed() && s.status() != idle {
		s.uncertain(whyBare)
		return
	}
	s.rec.Sweep(tokens.Global, whyBare)
}

// Close is part of txscope.Session.
func (s *session) Close() {
	if s.altering {
		s.altering = false
		s.db.altered()
	}
}
