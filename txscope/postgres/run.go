package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/internal/catalog"
	"github.com/alkey-go/alkey/txscope/internal/rowid"
)

// Exec is part of txscope.RunningSession.
func (s *session) Exec(ctx context.Context, call *txscope.Call, run func() (driver.Result, error)) (res driver.Result, err error) {
	p := s.planOf(call)
	m, how := s.how(ctx, p, call)
	send := func() error { res, err = run(); return err }
	switch how {
	case bare:
		return run()
	case controlling:
		s.control(p, send)
	case inside:
		s.before(m)
		res, err = s.execute(ctx, m, call, run)
		s.after(m)
	case announced:
		if err = s.announce(m, call, send); err == nil && !wrote(res) && s.db.current() == m.schema {
			s.rec.RolledBack() // nothing has changed, which is as good
		}
	case wholly:
		if err = s.fence(ctx, m); err == nil {
			err = send()
			s.fenced(m, err)
		}
	case apart:
		err = s.apart(ctx, m, func() error {
			res, err = s.execute(ctx, m, call, run)
			return err
		})
		if refusesTransaction(err) {
			if err = s.fence(ctx, m); err == nil {
				res, err = s.conn.ExecContext(ctx, call.Query, call.Args)
				s.fenced(m, err)
			}
		}
	}
	s.settle(m)
	return res, err
}

// Query is part of txscope.RunningSession.
func (s *session) Query(ctx context.Context, call *txscope.Call, run func() (driver.Rows, error)) (found driver.Rows, err error) {
	p := s.planOf(call)
	m, how := s.how(ctx, p, call)
	send := func() error { found, err = run(); return err }
	switch how {
	case bare:
		return run()
	case controlling:
		s.control(p, send)
	case inside:
		s.before(m)
		found, err = s.query(ctx, m, call, run)
		s.after(m)
	case announced:
		err = s.announce(m, call, send)
	case wholly:
		if err = s.fence(ctx, m); err == nil {
			found, err = s.fencedRows(m, run)
		}
	case apart:
		found, err = s.apartRows(ctx, m, call, run)
		if refusesTransaction(err) {
			if err = s.fence(ctx, m); err == nil {
				found, err = s.fencedRows(m, func() (driver.Rows, error) { return s.conn.QueryContext(ctx, call.Query, call.Args) })
			}
		}
	}
	s.settle(m)
	return found, err
}

// refusesTransaction reports whether a statement has done nothing because it was run in a
// transaction of its own.
func refusesTransaction(err error) bool {
	return err != nil && hasCode(err, codeActiveTransaction, codeInvalidTermination)
}

// manner is how a statement is run.
type manner int

const (
	bare        manner = iota // it writes nothing
	controlling               // it is there to control the transaction
	inside                    // in the transaction that is open
	announced                 // outside of any; its rows are certain beforehand
	wholly                    // as it is, between a fence of everything and a sweep
	apart                     // in a transaction of its own
)

// how decides how a statement is run. The meaning is nil where none is needed.
func (s *session) how(ctx context.Context, p *plan, call *txscope.Call) (*meaning, manner) {
	if s.pg.IsClosed() || s.pg.IsBusy() {
		return nil, bare // it will not be sent
	}
	kind := p.control.Kind
	if rewrites(call.Args) {
		p, kind = rewritten, txscope.KindNone
	} else if p.undoes && s.status() != idle {
		return nil, controlling
	} else if kind != txscope.KindNone && kind != txscope.KindMixed {
		return nil, controlling
	} else if kind == txscope.KindNone && !s.veiled && s.db.quiet(p) {
		return nil, bare
	}
	known := s.db.current()
	var along *path
	if known != nil && (s.veiled && !p.queryless || !s.db.writesNothing(p)) {
		if along = s.along(ctx); along == nil && s.veiled {
			along = lostPath
		}
	}
	m := s.db.meaningOf(p, known, along)
	switch {
	case s.status() != idle && m.ends:
		return m, wholly
	case s.status() != idle:
		return m, inside
	case m.reads && !m.ends:
		return m, inside
	case m.ends || m.alone:
		return m, wholly
	case m.certain(call.Args):
		return m, announced
	default:
		return m, apart
	}
}

// certain reports whether all that a statement changes is known before it runs.
func (m *meaning) certain(args []driver.NamedValue) bool {
	a := m.action
	if a == nil || !a.certain || !a.tells() || len(m.sweeps) > 0 || len(m.spoils) > 0 || m.unknown != "" {
		return false
	}
	if _, ok := a.claim(nil, args); !ok {
		return false
	}
	for _, t := range a.touches {
		if len(t.above) > 0 {
			return false // it takes a transaction to find out who they are
		}
	}
	return a.touchesGiven(args)
}

// before records what is known of a statement before it runs.
func (s *session) before(m *meaning) {
	if m.reads {
		return
	}
	s.work.judge = true
	if m.alters {
		s.alter()
		s.uncertain(whyDDL)
	}
	for _, sw := range m.sweeps {
		s.rec.Sweep(sw.table, sw.why)
	}
	for _, sp := range m.spoils {
		s.work.spoil(sp)
	}
	if m.global != "" && s.work.global == "" {
		s.work.global = m.global
	}
	if m.unknown != "" || m.alters && len(m.sweeps) == 0 {
		s.work.vague = true
	}
	switch {
	case m.unknown != "":
		s.uncertain(m.unknown)
	case len(m.spoils) > 0 || m.global != "":
		s.rec.Unsure()
	}
}

// after makes sure that what a statement meant before it ran is what it meant when it ran: somebody
// can have changed the schema meanwhile.
func (s *session) after(m *meaning) {
	if s.db.current() == m.schema || m.reads && s.status() == idle {
		return
	}
	s.uncertain(whyNoSchema)
}

// settle takes in what a statement may have done to the session.
func (s *session) settle(m *meaning) {
	if m != nil && (m.steers || m.unknown != "") {
		s.lose(m.veils || m.unknown != "")
	}
	if s.doubtful && s.status() == idle && !s.altering {
		s.doubtful = false
		s.db.suspect()
	}
}

// control runs a statement that controls the transaction.
func (s *session) control(p *plan, run func() error) {
	broken := s.status() == failed
	err := run()
	switch p.control.Kind {
	case txscope.KindCommit:
		if err == nil && broken {
			s.rec.RolledBack()
		}
	case txscope.KindRollback, txscope.KindRollbackTo:
		s.undo()
	case txscope.KindMixed:
		if err == nil && p.undoes {
			s.undo()
			s.rec.RolledBack()
		}
	}
}

// announce runs a statement whose rows are certain, and fenced before it runs.
func (s *session) announce(m *meaning, call *txscope.Call, run func() error) error {
	ids, _ := m.action.claim(nil, call.Args)
	s.record(m.action, ids)
	s.touchGiven(m.action, call.Args)
	if err := s.rec.Committing(); err != nil {
		return err
	}
	changed := s.recheck(m) // fencing takes a while
	if changed {
		if err := s.rec.Committing(); err != nil {
			return err
		}
	}
	s.end()
	err := run()
	if !changed && s.recheck(m) {
		s.rec.Missed()
	}
	return err
}

// recheck records more if the schema has changed since: the statement can write more by that.
func (s *session) recheck(m *meaning) (changed bool) {
	if s.db.current() == m.schema {
		return false
	}
	s.rec.Widen(tokens.Global, whyNoSchema)
	return true
}

// fence prepares for a text that commits in its course, or cannot run in a transaction: what it may
// change is fenced before.
func (s *session) fence(ctx context.Context, m *meaning) error {
	open := s.status() != idle && s.status() != failed
	if m.alters || m.unknown != "" || m.alone {
		s.alter() // nobody asks what it has changed before it commits
	}
	switch {
	case m.reads:
		// Its statements write nothing: what was written before is all that it can commit.
	case m.ends:
		s.rec.Sweep(tokens.Global, whyEnds)
	case m.unknown != "":
		s.rec.Sweep(tokens.Global, m.unknown)
	default:
		s.rec.Unsure()
		for _, sw := range m.sweeps {
			s.rec.Sweep(sw.table, sw.why)
		}
		for _, sp := range m.spoils {
			s.sweep(sp.table, sp.why)
		}
		if m.action != nil {
			s.sweep(m.action.table, whyRows)
		}
	}
	if open {
		if err := s.verdict(ctx); err != nil {
			return err
		}
	}
	s.poisons = s.status() != idle || !m.reads
	if err := s.rec.Committing(); err != nil {
		return err
	}
	s.end()
	return nil
}

// fenced takes in that such a text has run. Whatever it has committed is committed by now, also if a
// later statement of it has failed.
func (s *session) fenced(m *meaning, err error) {
	if s.pg.IsClosed() || pgconn.SafeToRetry(err) || errors.Is(err, driver.ErrBadConn) {
		return // Judge tells
	}
	s.rec.Committed()
	s.ending = false
	if s.status() != idle && s.poisons && (err != nil || !m.chains) {
		// What is open can be what was open before: then it is still to be committed.
		s.work.global = whyEnds
		s.uncertain(whyEnds)
	}
}

// apart runs a statement in a transaction of its own.
func (s *session) apart(ctx context.Context, m *meaning, run func() error) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	s.before(m)
	if err := run(); err != nil {
		return s.abandon(ctx, err)
	}
	s.after(m)
	return s.commit(ctx)
}

// begin begins a transaction of the capture's own.
func (s *session) begin(ctx context.Context) error {
	s.work.reset()
	s.rec.Unsure()
	s.work.judge = true
	if _, err := s.conn.ExecContext(ctx, "BEGIN", nil); err != nil {
		s.rec.RolledBack()
		return err
	}
	s.own = true
	return nil
}

// abandon ends it after an error, which it returns.
func (s *session) abandon(ctx context.Context, err error) error {
	if s.rollback(ctx) != nil {
		// It must not stay open. What cannot be sent is rolled back with the connection.
		closing, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.pg.Close(closing)
	}
	s.own = false
	s.rec.RolledBack()
	return err
}

// commit judges and commits it. The statement is over, which without a transaction would have
// committed it: a context that has ended since makes no difference.
func (s *session) commit(ctx context.Context) error {
	if ctx.Err() != nil {
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), rescueLimit)
		defer cancel()
		ctx = detached
	}
	if err := s.verdict(ctx); err != nil {
		return s.abandon(ctx, err)
	}
	if err := s.rec.Committing(); err != nil {
		return s.abandon(ctx, err)
	}
	s.end()
	tag, err := s.pgx.Exec(ctx, "COMMIT")
	switch {
	case err != nil && !s.pg.IsClosed() && s.status() != idle:
		return s.abandon(ctx, err) // it was not sent
	case err == nil && tag.String() == "ROLLBACK":
		err = pgx.ErrTxCommitRollback // without an error, as COMMIT of a transaction that has failed
	case err != nil && s.unsent(err):
		err = driver.ErrBadConn // as the driver says it
	}
	s.own = false
	return err
}

// execute runs a statement of which no rows are asked, and records the rows that it writes.
func (s *session) execute(ctx context.Context, m *meaning, call *txscope.Call, run func() (driver.Result, error)) (driver.Result, error) {
	a := m.action
	if a == nil || s.status() == failed {
		return run()
	}
	if ids, ok := a.claim(nil, call.Args); ok && (a.returning == "" && !a.dml.Returning || a.tells() && a.touchesGiven(call.Args)) {
		res, err := run()
		if err == nil && wrote(res) {
			s.record(a, ids)
			s.touchKnown(a, call.Args)
		}
		s.work.claimed(a.table)
		return res, err
	}
	text := a.returning
	if a.dml.Returning {
		if !a.returnsOwn() {
			res, err := run()
			s.claimOr(a, call.Args, whyRows)
			return res, err
		}
		text = call.Query
	} else if why := s.whyNotReturned(m); why != "" {
		s.sweep(a.table, why)
		return run()
	}
	if a.large.Load() {
		s.sweep(a.table, whyTooMany)
		res, err := run()
		if err == nil {
			n, err := res.RowsAffected()
			a.large.Store(err == nil && n > tokens.MaxRowsPerTable)
		}
		return res, err
	}
	if !a.dml.Returning && m.schema.edition > 0 {
		// pgx keeps a text's description, by which the key can have been of another type.
		text += "\n/* " + strconv.FormatInt(m.schema.edition, 10) + " */"
	}
	return s.returning(ctx, a, text, call, s.previous(ctx, m, call), run)
}

// claimOr records the rows that the text names, each of which may be written, and sweeps the table if
// it names none.
func (s *session) claimOr(a *action, args []driver.NamedValue, why string) {
	ids, ok := a.claim(nil, args)
	if !ok {
		s.sweep(a.table, why)
		return
	}
	s.record(a, ids)
	s.work.claimed(a.table)
	s.touchKnown(a, args)
}

// gives records the parents of rows that are inserted and may not return them, if the arguments tell.
func (s *session) gives(a *action, args []driver.NamedValue) bool {
	if !a.dml.Returning || a.verb != catalog.Insert || len(a.touches) == 0 || !a.touchesGiven(args) {
		return false
	}
	s.touchGiven(a, args)
	return true
}

// touchKnown records the parents where no rows are returned.
func (s *session) touchKnown(a *action, args []driver.NamedValue) {
	if a.touchesGiven(args) {
		s.touchGiven(a, args)
		return
	}
	for _, t := range a.touches {
		s.touchAll(t)
	}
}

// wrote reports whether a statement has written rows.
func wrote(res driver.Result) bool {
	n, err := res.RowsAffected()
	return err != nil || n != 0
}

// record notes the rows that a statement changes.
func (s *session) record(a *action, ids []tokens.ID) {
	for _, id := range ids {
		s.rec.Add(id)
	}
}

// whyNotReturned tells why a statement is not made to return the keys of its rows; "" if it is.
func (s *session) whyNotReturned(m *meaning) string {
	a := m.action
	switch {
	case a.unreadable != "":
		s.db.warn(a.unreadable, nil)
		return whyForbidden
	case a.returning == "":
		return whyRows
	case !s.mayRead(m):
		return whyRole
	}
	return ""
}

// mayRead reports whether what is known of privileges counts: it is known of one user.
func (s *session) mayRead(m *meaning) bool {
	return s.path != nil && s.user == m.schema.user
}

// returning runs a statement so that it returns the keys of the rows that it writes. Everything
// else is as without it, errors and their positions included.
func (s *session) returning(ctx context.Context, a *action, text string, call *txscope.Call, was old, run func() (driver.Result, error)) (driver.Result, error) {
	args := make([]any, 0, len(call.Args)+1)
	switch {
	case len(call.Args) == 0:
		args = append(args, pgx.QueryExecModeExec) // it is sent at once, as without arguments otherwise
	case call.Memo != nil && !s.configured().caches:
		args = append(args, pgx.QueryExecModeDescribeExec)
	}
	for _, arg := range call.Args {
		args = append(args, arg.Value)
	}
	before := s.status()
	rows, err := s.pgx.Query(ctx, text, args...)
	if err == nil {
		s.collect(&reader{s: s, a: a, was: was, given: s.gives(a, call.Args)}, rows)
		rows.Close()
		err = rows.Err()
	}
	var answer *pgconn.PgError
	switch {
	case err == nil:
	case errors.As(err, &answer):
		asBare(answer, a, call.Query)
	case pgconn.SafeToRetry(err):
		return nil, driver.ErrBadConn // as the driver says it
	case !s.pg.IsClosed() && s.status() == before:
		return run() // the arguments were refused, and nothing was run: the driver says it in other words
	}
	return driver.RowsAffected(rows.CommandTag().RowsAffected()), err
}

// asBare makes of an error for the text with RETURNING the one for the text without.
func asBare(err *pgconn.PgError, a *action, query string) {
	at := utf8.RuneCountInString(query[:max(a.dml.End, 0)]) + 2 // behind a newline, counted from 1
	if a.dml.End >= 0 && int(err.Position) == at && err.Message == `syntax error at or near "RETURNING"` {
		err.Message = "syntax error at end of input"
		err.Position = int32(utf8.RuneCountInString(query)) + 1
	}
}

// collect records the keys that are returned, and the parents.
func (s *session) collect(r *reader, rows pgx.Rows) {
	// There is a first row, or the fields are not known.
	for rows.Next() {
		if r.fields == nil && !r.locate(rows) {
			r.sweep(whyRows)
		}
		r.read(rows.RawValues())
	}
	if !r.swept {
		s.work.claimed(r.a.table)
	}
}

// reader records rows as they are read.
type reader struct {
	s      *session
	a      *action
	was    old  // nil: not known
	given  bool // the parents were recorded from the arguments
	fields []pgconn.FieldDescription
	at     []int // where a.needed are in a row; -1: not there
	n      int   // rows read
	swept  bool
	ids    []tokens.ID
	values []any
}

func (r *reader) read(raw [][]byte) {
	if r.swept {
		return
	}
	if r.n++; r.n > tokens.MaxRowsPerTable {
		r.a.large.Store(true)
		r.sweep(whyTooMany)
		return
	}
	if !r.decode(raw) {
		r.sweep(whyKeyKind)
		return
	}
	var ok bool
	r.ids, ok = rowid.Append(r.ids[:0], r.a.table.ID, r.values[:len(r.a.table.Key)]...)
	if !ok {
		r.sweep(whyKeyKind)
		return
	}
	for _, id := range r.ids {
		r.s.rec.Add(id)
	}
	if r.given {
		return
	}
	was := r.was[r.a.identify(r.values)]
	for _, t := range r.a.touches {
		switch {
		case t.columns == nil, t.moves && was == nil:
			r.s.touchAll(t)
		case t.moves:
			r.touch(t, was, false)
			r.touch(t, r.values, true)
		case was != nil:
			r.touch(t, was, false)
		default:
			r.touch(t, r.values, true)
		}
	}
}

// decode reads the needed values of a row. Those that are not there, and NULL, are nil.
func (r *reader) decode(raw [][]byte) bool {
	r.values = r.values[:0]
	for i, c := range r.a.needed {
		at := r.at[i]
		if at < 0 || raw[at] == nil {
			r.values = append(r.values, nil)
			continue
		}
		v, ok := decode(raw[at], &r.fields[at], r.a.named.Columns[c].Kind)
		if !ok {
			return false
		}
		r.values = append(r.values, v)
	}
	return true
}

// touch records a parent of a row that has these values; returned says that they are those that the
// statement has returned, which need not be all.
func (r *reader) touch(t *touch, row []any, returned bool) {
	columns := r.a.named.columnsOf(r.a.table, t.columns)
	values := make([]any, len(columns))
	for i, c := range columns {
		j := slices.Index(r.a.needed, c)
		if returned && r.at[j] < 0 {
			r.s.touchAll(t)
			return
		}
		values[i] = row[j]
	}
	r.s.touch(t, values)
}

func (r *reader) sweep(why string) {
	r.swept = true
	r.s.sweep(r.a.table, why)
}
