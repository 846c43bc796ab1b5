package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

func init() { txscope.Register("mysql", capture{}) }

type capture struct{}

// Handles is part of txscope.Capture.
func (capture) Handles(d driver.Driver) bool {
	switch d.(type) {
	case *mysql.MySQLDriver, mysql.MySQLDriver:
		return true
	}
	return false
}

// Database is part of txscope.Capture.
func (capture) Database(setup txscope.Setup) txscope.Database { return newDatabase(setup) }

// Session is part of txscope.Database.
func (db *database) Session(conn driver.Conn, rec txscope.Recorder) (txscope.Session, error) {
	w, err := wireOf(conn)
	if err != nil {
		return nil, err
	}
	db.nameBase(w.config.DBName)
	return &session{db: db, rec: rec, conn: conn.(bareConn), wire: w, path: w.config.DBName}, nil
}

// session watches one connection.
type session struct {
	db   *database
	rec  txscope.Recorder
	conn bareConn
	wire wire

	path     string // the database that names without one are in
	strayed  bool   // path must be asked for
	settings settings
	locked   bool            // LOCK TABLES is in force, which a transaction would end
	odd      bool            // and so it may be, for all that is known
	private  map[string]bool // names of temporary tables that were made, folded

	prepared prepared // the session's own statements
	unsent   bool     // the last one could not be prepared

	// Of the statement that runs.
	last     *plan           // of the text that Control has read last
	coming   *plan           // of the same, until Idle has seen it or the statement runs
	control  txscope.Control // what Control has said of it
	plan     *plan
	stage    stage
	was      bool // a transaction was open before it
	answered bool // the server has told how the transaction stands since it failed
	altering bool // it can change the schema, and the other connections are told so

	doubtful bool        // the server has not told how the transaction stands since an error
	open     driver.Rows // given last; they may not be at their end
	waiting  []*lastRows // rows with whose end something is published
	pending  pending     // what waits for the end of the transaction
}

// stage is what was announced of the statement that runs, for Judge.
type stage uint8

const (
	nothing   stage = iota
	statement       // it commits by itself
	several         // statements of the text commit one by one, or tables without transactions are written
	implicit        // it commits what is open before it does anything, and itself
	commit          // a COMMIT
)

var (
	_ txscope.SnapshotSession   = (*session)(nil)
	_ txscope.RunningSession    = (*session)(nil)
	_ txscope.CommittingSession = (*session)(nil)
	_ txscope.BeginningSession  = (*session)(nil)
)

// memo is what is kept with a prepared statement. The server knows it with the database that was the
// default one when it was prepared.
type memo struct {
	plan *plan
	path string
}

// Control is part of txscope.Session.
func (s *session) Control(query string) txscope.Control {
	p := s.planOf(query, s.pathNow())
	s.coming, s.last = p, p
	s.control = p.control
	switch s.control.Kind {
	case txscope.KindSavepoint, txscope.KindRelease, txscope.KindRollbackTo:
		switch {
		case !s.wire.has(autocommit), !plainASCII(s.control.Name):
			// The wrapper may not know of the transaction; or the server takes the name for that of another
			// savepoint, as "é" for "e".
			s.control = txscope.Control{Kind: txscope.KindMixed}
		case !s.wire.has(inTransaction):
			s.control = txscope.Control{} // without a transaction they do nothing
		}
	}
	return s.control
}

// Prepare is part of txscope.Session.
func (s *session) Prepare(query string, prepare func() error) (any, error) {
	if s.strayed && !asks(query) {
		ctx, cancel := context.WithTimeout(context.Background(), askLimit)
		s.findPath(ctx)
		cancel()
	}
	m := &memo{path: s.pathNow()}
	m.plan = s.planOf(query, m.path)
	err := prepare()
	if err != nil {
		s.trust(err)
	} // else the answer does not say how the transaction stands
	return m, err
}

// unknownPath stands for a default database that is not known.
const unknownPath = "\x00"

// planOf returns what a text means for names in a database.
func (s *session) planOf(query, path string) *plan {
	if p := s.last; p != nil && p.text == query && p.path == path && s.db.current(p) {
		return p
	}
	return s.db.plan(query, path)
}

// Idle is part of txscope.Session. Where one change of the schema follows another, it is not read in
// between, nor between a statement and one that asks about it.
func (s *session) Idle(ctx context.Context) {
	coming := s.coming
	s.coming = nil
	if coming == nil && s.locked {
		s.odd = true // what comes can be a BEGIN, which would end LOCK TABLES
	}
	if coming != nil && (coming.schema || coming.asks) || s.db.fresh() || s.busy() || s.wire.has(inTransaction) {
		return
	}
	s.db.refresh(ctx, s)
}

// Before is part of txscope.Session.
func (s *session) Before(ctx context.Context, call *txscope.Call) {
	s.coming, s.stage, s.answered = nil, nothing, false
	s.was = s.wire.has(inTransaction)
	if s.doubtful {
		s.ask(ctx)
		if s.was && !s.doubtful && !s.inside() {
			s.rec.RolledBack()
			s.was = false
		}
	}
	if s.plan = s.planFor(call); s.plan.quiet {
		return
	}
	if s.strayed {
		s.findPath(ctx)
		s.plan = s.planFor(call)
	}
	if len(s.plan.strangers) > 0 && !s.busy() && !s.inside() && s.db.meet(ctx, s, s.plan) {
		s.plan = s.planFor(call)
	}
}

// planFor returns the plan of a statement as the schema is known now.
func (s *session) planFor(call *txscope.Call) *plan {
	m, ok := call.Memo.(*memo)
	if !ok {
		return s.planOf(call.Query, s.pathNow())
	}
	if !s.db.current(m.plan) {
		m.plan = s.planOf(call.Query, m.path)
	}
	return m.plan
}

func (s *session) pathNow() string {
	if s.strayed {
		return unknownPath
	}
	return s.path
}

// findPath asks for the default database.
func (s *session) findPath(ctx context.Context) {
	if s.busy() {
		return
	}
	var name string
	err := s.query(ctx, "SELECT DATABASE() LIMIT 1", nil, func(row []driver.Value) error {
		name = text(row[0])
		return nil
	})
	if err == nil {
		s.path, s.strayed = name, false
	}
}

// After is part of txscope.Session.
func (s *session) After(ctx context.Context, call *txscope.Call, err error) {
	p := s.plan
	s.plan = nil
	if s.last != nil && len(s.last.text) > sqltext.MaxText {
		s.last = nil // a large text is not kept for a connection that is idle
	}
	s.pending.follow(s.control, err)
	if !s.answered && !s.plainly(p, err) {
		s.trust(err)
	}
	if p == nil || errors.Is(err, driver.ErrSkip) {
		s.settled()
		return
	}
	if p.turns != 0 {
		s.turn(p, err)
	}
	if n := len(s.waiting); s.altering && n > 0 && s.busy() && !s.waiting[n-1].ended {
		// The procedure that returns the rows can change the schema until they are at their end.
		r := s.waiting[n-1]
		done := r.done
		r.done = func() { s.settled(); done() }
	} else {
		s.settled()
	}
	switch {
	case p.begins && s.stage == implicit && err == nil:
		s.rec.Committed()
	case s.stage == implicit && err == nil && s.was && s.InTransaction():
		// Not every server commits with every such statement.
		if !p.ddl {
			s.rec.Ongoing()
			break
		}
		// Or it has, and begun another.
		s.rec.Committed()
		s.rec.Sweep(tokens.Global, whyUnseen)
		s.rec.Incomplete()
	case s.stage == several && p.commits == maybe && !s.wire.dead():
		// What was announced is published. What the statement has left open can have changed the same
		// again.
		s.rec.Committed()
		if s.InTransaction() {
			s.rec.Sweep(tokens.Global, whyUnseen)
			s.rec.Incomplete()
		}
	case s.stage == nothing && err == nil && s.was && !p.ends && p.control.Kind != txscope.KindMixed && !s.busy() && !s.inside():
		// It has ended a transaction, and the analysis has not seen that coming. Late is better than
		// never.
		s.climb(ctx)
		s.missed(implicit)
	}
	if s.db.outdated(p) {
		s.sweepNow(whyChanged)
	}
}

// sweepNow sweeps everything, what a rollback would not take back too.
func (s *session) sweepNow(why string) {
	if publish, err := s.rec.Apart(tokens.NewChanges(tokens.Global), why); err == nil {
		publish(true)
	} // else others see it when this is committed
	s.rec.Widen(tokens.Global, why)
}

// settled tells the other connections that the schema has changed, if it may have.
func (s *session) settled() {
	if s.altering {
		s.altering = false
		s.db.altered()
	}
}

// alter tells the other connections that the schema may be changing.
func (s *session) alter() {
	if !s.altering {
		s.altering = true
		s.db.altering(s.plan)
	}
}

// trust takes in that a statement has ended with err. The answer to one that failed does not say how
// the transaction stands.
func (s *session) trust(err error) {
	switch {
	case errors.Is(err, driver.ErrSkip):
	case err != nil:
		s.doubtful = true
	case s.doubtful && !s.busy():
		s.doubtful = false
	}
}

// plainly reports whether err is the server's answer to a statement that had no transaction to end.
func (s *session) plainly(p *plan, err error) bool {
	if err == nil {
		return false
	}
	var answer *mysql.MySQLError
	return errors.As(err, &answer) && !s.was && !s.doubtful && s.wire.has(autocommit) && p != nil && p.commits != maybe && p.turns&switches == 0
}

// busy reports whether rows are not at their end, so that the connection can be used for nothing else.
func (s *session) busy() bool {
	if *s.wire.watching {
		return true
	}
	if s.open != nil && !unread(s.open) {
		s.open = nil
	}
	return s.open != nil
}

// ask has the server say how the transaction stands, if that is in doubt.
func (s *session) ask(ctx context.Context) {
	if !s.doubtful || s.wire.dead() || s.busy() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askLimit)
	defer cancel()
	if s.conn.Ping(ctx) == nil {
		s.doubtful = false
	}
}

// askLimit bounds how long the server can take for an answer that needs no work. The connection is
// closed then.
const askLimit = 10 * time.Second

// inside reports whether what is written now takes part in a transaction that goes on.
func (s *session) inside() bool {
	return !s.wire.dead() && (s.wire.has(inTransaction) || !s.wire.has(autocommit))
}

// InTransaction is part of txscope.Session.
func (s *session) InTransaction() bool {
	s.ask(context.Background())
	return !s.wire.dead() && s.wire.has(inTransaction)
}

// Reading is part of txscope.SnapshotSession. With autocommit off the first SELECT takes a snapshot,
// of which the wrapper hears nothing.
func (s *session) Reading() bool { return s.doubtful || s.wire.has(inTransaction) }

// announce is the recorder's Committing.
func (s *session) announce(st stage) error {
	before := s.stage
	if s.stage = st; st != commit {
		s.sweepAbove()
	}
	err := s.rec.Committing()
	if err != nil {
		s.stage = before // it is refused, and not sent
	}
	return err
}

// missed is announce for what has been sent without.
func (s *session) missed(st stage) {
	s.stage = st
	s.sweepAbove()
	s.rec.Missed()
}

// BeforeCommit is part of txscope.CommittingSession.
func (s *session) BeforeCommit(ctx context.Context) error {
	s.climb(ctx)
	s.stage = nothing
	if !s.wire.dead() {
		s.stage = commit
	} // else it cannot be sent any more
	return nil
}

// BeforeBegin is part of txscope.BeginningSession.
func (s *session) BeforeBegin(ctx context.Context) error {
	s.climb(ctx)
	return s.announce(implicit)
}

// Judge is part of txscope.Session. A connection that is lost takes what was open on it with it, so
// only what was announced is in doubt then.
//
// A server that answers with an error has come to an end with the statement: nothing of it can still
// be committed later. So where it cannot be told what was done, it counts as committed, except for a
// COMMIT of the user's, after which functions of OnCommit would be called.
func (s *session) Judge(err error) txscope.Verdict {
	var answer *mysql.MySQLError
	switch {
	case s.InTransaction():
		return txscope.VerdictOngoing
	case errors.Is(err, driver.ErrSkip), errors.Is(err, driver.ErrBadConn) && !s.mayBeRejected():
		return txscope.VerdictRolledBack // the driver says so only of what it has not sent
	case s.wire.dead():
		if s.stage == nothing {
			return txscope.VerdictRolledBack
		}
		return txscope.VerdictUnknown
	case err == nil:
		return txscope.VerdictCommitted
	case s.stage == nothing && errors.As(err, &answer) && s.was && !endedByError[answer.Number]:
		return txscope.VerdictCommitted // by what the analysis has not seen coming, before the error
	case s.stage == nothing:
		return txscope.VerdictRolledBack
	case !errors.As(err, &answer):
		return txscope.VerdictUnknown
	case s.stage == statement && undoneByError[answer.Number], s.stage == commit && refusedCommit[answer.Number]:
		return txscope.VerdictRolledBack
	case s.stage == commit:
		return txscope.VerdictUnknown
	default:
		return txscope.VerdictCommitted
	}
}

// mayBeRejected reports whether driver.ErrBadConn can mean that the server takes no writes, and has said so
// after it had committed something of what was announced.
func (s *session) mayBeRejected() bool {
	return s.wire.config.RejectReadOnly && (s.stage == several || s.stage == implicit)
}

// undoneByError are the errors with which a statement fails before it comes to commit, so that nothing
// of it stays in tables with transactions. With others, as those of the binary log, it can have been
// committed all the same.
var undoneByError = numbers(
	1022, 1062, 1586, 1761, 1762, // duplicate keys
	1048, 1216, 1217, 1364, 1451, 1452, 3819, 4025, // constraints
	1264, 1265, 1292, 1366, 1406, 1411, 1690, // values
	1054, 1064, 1109, 1136, 1146, 1149, 1305, 1318, 1442, 1243, // texts
	1044, 1142, 1143, 1227, 1290, 1369, 1370, 1792, 1836, // rights
	1205, 1213, 1020, // locks
	1175, 1644, // safe updates, SIGNAL
)

// endedByError are the errors with which the server rolls back the transaction that a statement is in.
var endedByError = numbers(1020, 1205, 1206, 1213, 1402, 1613, 1614, 1689, 3101)

// refusedCommit are the errors of a COMMIT that was rolled back: a cluster has certified another
// transaction first, or the server has become read-only.
var refusedCommit = numbers(1213, 1290, 1792, 1836, 3101)

func numbers(list ...uint16) map[uint16]bool {
	set := make(map[uint16]bool, len(list))
	for _, n := range list {
		set[n] = true
	}
	return set
}

// Ended is part of txscope.Session.
func (s *session) Ended() { s.pending = pending{} }

// Bare is part of txscope.Session. Nothing is known of what was done, nor of how the connection is set
// up now.
func (s *session) Bare() {
	s.doubtful = true
	s.stray()
	s.odd = true
	s.alter()
	s.settled()
	s.rec.Sweep(tokens.Global, whyBare)
	s.stage = several // if the connection is lost, it is not known what of that was committed
}

// stray notes that the connection's settings are not known any more.
func (s *session) stray() {
	s.strayed = true
	s.settings = settings{}
}

// Close is part of txscope.Session.
func (s *session) Close() {
	s.settled()
	for _, r := range s.waiting {
		r.end()
	}
	s.waiting = nil
	s.prepared.close()
}

// turn is what a statement does to the session. It is a set.
type turn uint8

const (
	uses      turn = 1 << iota // USE
	sets                       // SET of whatever
	locks                      // LOCK TABLES
	unlocks                    // UNLOCK TABLES, and what does so by the way
	switches                   // SET of autocommit
	besides                    // SET of what commits whether autocommit is on or not
	temporary                  // it makes or drops temporary tables
	strays                     // anything
)

// turn takes in what a statement has done to the session. Of several in one text it is not known how far
// they have come, or which was the last.
func (s *session) turn(p *plan, err error) {
	if p.turns&strays != 0 {
		s.stray()
		s.odd = true
	}
	if p.turns&sets != 0 {
		s.settings = settings{}
	}
	if p.turns&uses != 0 && (err == nil || p.several) {
		s.strayed = true
	}
	switch {
	case p.turns&(locks|unlocks) == 0:
	case p.several, err != nil:
		s.odd = true
	default:
		s.locked = p.turns&locks != 0
	}
	if p.turns&temporary != 0 && err == nil {
		s.named(p)
	}
}

// maxPrivate bounds how many names of temporary tables are kept.
const maxPrivate = 1000

// named takes in that temporary tables were made or dropped. Of those whose names are not kept, because
// they are too many, the schema is asked.
func (s *session) named(p *plan) {
	for _, n := range p.named {
		name := strings.ToLower(n.Name)
		switch {
		case p.drops:
			delete(s.private, name)
		case len(s.private) < maxPrivate:
			if s.private == nil {
				s.private = make(map[string]bool)
			}
			s.private[name] = true
		}
	}
}

// mayBegin reports whether a statement outside of any transaction that writes t can be given one of its
// own: one that begins ends LOCK TABLES.
func (s *session) mayBegin(ctx context.Context, t *table) bool {
	if s.inside() || s.doubtful || s.busy() {
		return false
	}
	if s.odd {
		s.probe(ctx, t)
	}
	return !s.locked && !s.odd
}

// probe finds out whether LOCK TABLES is in force: then a table can only be used under the names that it
// was locked with.
func (s *session) probe(ctx context.Context, t *table) {
	err := s.query(ctx, "SELECT 1 FROM "+quote(t.Schema)+"."+quote(t.Name)+" AS `alkey is asking` LIMIT 0", nil, func([]driver.Value) error { return nil })
	var answer *mysql.MySQLError
	switch {
	case err == nil:
		s.odd, s.locked = false, false
	case errors.As(err, &answer) && answer.Number == 1100:
		s.odd, s.locked = false, true
	}
	s.ask(ctx)
}

// meets reports whether a plan's strangers are unknown for another reason than that they are
// temporary ones of this connection.
func (s *session) meets(strangers []sqltext.Name) bool {
	for _, n := range strangers {
		if !s.private[strings.ToLower(n.Name)] {
			return true
		}
	}
	return false
}
