package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// work is what is known of the transaction that is open.
//
// A table is exact if everything that the transaction has written to it was given to the recorder, row
// by row, so the judge need not sweep it. That stays true when a savepoint is rolled back to: what
// was written since is gone with what was recorded since, and so are its locks. A table that is spoiled
// stays so, which is safe.
type work struct {
	judge   bool // something may have been written
	unknown string
	exact   []uint32 // oids of tables
	spoiled []spoil
	all     bool // every table is spoiled
	vague   bool // tables may have been dropped that no statement has named
	global  string

	families []family // touched, and whose own parents are to be
}

func (w *work) reset() {
	w.judge, w.all, w.vague, w.unknown, w.global = false, false, false, "", ""
	w.exact, w.spoiled, w.families = w.exact[:0], w.spoiled[:0], nil
}

// claimed notes that all that a statement wrote to a table was recorded.
func (w *work) claimed(t *table) {
	if !slices.Contains(w.exact, t.oid) {
		w.exact = append(w.exact, t.oid)
	}
}

func (w *work) spoil(sp spoil) {
	if w.spoils(sp.table) == "" {
		w.spoiled = append(w.spoiled, sp)
	}
}

// spoils tells why a table is spoiled; "" if it is not.
func (w *work) spoils(t *table) string {
	for _, sp := range w.spoiled {
		if sp.table.oid == t.oid {
			return sp.why
		}
	}
	return ""
}

// accounts reports whether a table need not be swept.
func (w *work) accounts(t *table) bool {
	return !w.all && slices.Contains(w.exact, t.oid) && w.spoils(t) == ""
}

// uncertain notes that something may be written of which nothing else is known.
func (s *session) uncertain(why string) {
	s.work.judge, s.work.all = true, true
	if s.work.unknown == "" {
		s.work.unknown = why
	}
	s.rec.Unsure()
}

// judgement is whether the server tells what a transaction has written.
const (
	judgeUnknown int32 = iota
	judgeWorks
	judgeFails
)

// probe finds out, once, whether the judge works. It sees its own lock on pg_locks if it does: a
// server that only has a table of that name shows nothing.
func (db *database) probe(ctx context.Context, s *session) error {
	if db.judge.Load() != judgeUnknown {
		return nil
	}
	rows, err := s.ask(ctx, `SELECT count(*) FROM pg_catalog.pg_locks l WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation'`)
	switch {
	case err == nil && rows[0].number(0) > 0:
		db.judge.Store(judgeWorks)
		return nil
	case err != nil && !unsupported(err):
		return err // another time it may be told
	}
	db.judge.Store(judgeFails)
	db.warn("pg_locks does not tell what a transaction has written: what is not known from its statements changes all keys; let the database's user read pg_locks, and give each transaction a server connection of its own", err)
	return nil
}

// unsupported reports whether a server has refused a query for what it asks: it has no such thing, or
// does not show it to this user.
func unsupported(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && (strings.HasPrefix(answer.Code, "42") || strings.HasPrefix(answer.Code, "0A"))
}

// BeforeCommit is part of txscope.CommittingSession.
func (s *session) BeforeCommit(ctx context.Context) error {
	if s.pg.IsClosed() {
		return nil
	}
	if s.status() == failed {
		s.rec.RolledBack() // that is all that its COMMIT can do
		return nil
	}
	if err := s.verdict(ctx); err != nil {
		return err
	}
	s.end()
	return nil
}

// verdict sweeps what the transaction has written and is not accounted for. The error is of the
// user's transaction: of a constraint that has waited for COMMIT.
func (s *session) verdict(ctx context.Context) error {
	if !s.work.judge {
		return nil
	}
	if err := s.find(ctx); err != nil {
		return err
	}
	s.ascend(ctx)
	if s.doubtful {
		s.alter() // from before COMMIT on nobody tells rows by what was known
	}
	if !s.pg.IsClosed() && s.status() == failed {
		return errUnrescued
	}
	return nil
}

// errUnrescued is the error of a COMMIT that the server would answer with ROLLBACK, and no error,
// because a question of the capture's own has failed and its savepoint could not be rolled back to.
var errUnrescued = fmt.Errorf("alkey: what the transaction has written could not be asked for: %w", pgx.ErrTxCommitRollback)

// find is verdict without what is touched.
func (s *session) find(ctx context.Context) error {
	if s.work.global != "" {
		s.rec.Sweep(tokens.Global, s.work.global)
	}
	if s.db.judge.Load() == judgeUnknown {
		// A server that shows nothing would be taken for one that has nothing to show. Without an answer the
		// judge will not get one either.
		_ = s.db.probe(ctx, s)
	}
	if s.db.judge.Load() == judgeFails {
		s.doubtful = s.doubtful || s.work.all
		if s.work.unknown != "" || len(s.work.spoiled) > 0 {
			s.rec.Sweep(tokens.Global, whyNoJudge)
		}
		return nil
	}
	locked, err := s.locks(ctx)
	var users *constraintError
	switch {
	case err == nil:
	case asConstraint(err, &users):
		return users.err
	case s.pg.IsClosed():
		return nil // nobody can send its COMMIT any more: a client that goes away must not cost the others their keys
	default:
		s.doubtful = true
		s.rec.Sweep(tokens.Global, whyNoJudge)
		if ctx.Err() == nil {
			s.db.warn("what a transaction has written could not be asked for: all keys are changed; see that the database's user may read pg_locks", err)
		}
		return nil
	}
	return s.account(ctx, locked)
}

// locked is a table that the transaction has locked as writing does.
type locked struct {
	oid     uint32
	name    string // as regclass writes it
	written bool   // locked as INSERT, UPDATE and DELETE do, and not more
}

// judgeName is the prepared statement's. It stands for the text, whose only variable part is the
// lease.
func (db *database) judgeName() string {
	return "alkey_judge_" + strconv.FormatInt(db.idleLimit(), 10)
}

// idleLimit is how many milliseconds may pass between the judge and COMMIT: half the lease. A process
// that was paused for longer finds that the server has rolled back.
func (db *database) idleLimit() int64 { return int64(db.lease / 2 / time.Millisecond) }

// judgeText is the judge's query. The locks that a savepoint took are gone if it was rolled back.
func (db *database) judgeText() string {
	const setting = `'idle_in_transaction_session_timeout'`
	limit := strconv.FormatInt(db.idleLimit(), 10)
	return `SELECT l.relation, l.relation::pg_catalog.regclass::pg_catalog.text, l.mode = 'RowExclusiveLock',
	(SELECT CASE WHEN t = '0' OR t::pg_catalog.interval > '` + limit + ` ms' THEN pg_catalog.set_config(` + setting + `, '` + limit + `', true) END FROM pg_catalog.current_setting(` + setting + `) t)
FROM pg_catalog.pg_locks l
WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.relation >= ` + strconv.Itoa(firstUserID) + `
	AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')`
}

// redefinedText asks whether the transaction has made or changed what no lock on a table tells of: a
// function above all. Then it asks whether rows have changed, or will in COMMIT, and no lock tells: by another name
// of a schema that has tables, or of an enum's value, or by a cursor that outlives the transaction. What another
// one that began later has committed counts too, which does no harm. The age of what the transaction has
// written is 0, and negative if a savepoint's or an exception block's own transaction did.
var redefinedText = func() string {
	var parts []string
	for _, from := range []string{"pg_proc", "pg_namespace", "pg_operator", "pg_cast", "pg_event_trigger", "pg_constraint"} {
		part := "EXISTS (SELECT FROM pg_catalog." + from + " x WHERE x.oid >= " + strconv.Itoa(firstUserID) + " AND pg_catalog.age(x.xmin) <= 0"
		if from == "pg_constraint" {
			part += " AND x.contypid <> 0" // those of domains
		}
		parts = append(parts, part+")")
	}
	return "SELECT " + strings.Join(parts, " OR ") + `,
	EXISTS (SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'f', 'm', 'v') AND pg_catalog.age(c.xmin) > 0
		WHERE ` + ofUsers + ` AND pg_catalog.age(n.xmin) <= 0)
	OR EXISTS (SELECT FROM pg_catalog.pg_enum e JOIN pg_catalog.pg_type t ON t.oid = e.enumtypid WHERE pg_catalog.age(e.xmin) <= 0 AND pg_catalog.age(t.xmin) > 0)
	OR EXISTS (SELECT FROM pg_catalog.pg_cursors c WHERE c.is_holdable AND c.creation_time >= pg_catalog.transaction_timestamp())`
}()

// constraintError is an error of what was to wait for COMMIT.
type constraintError struct{ err error }

func (e *constraintError) Error() string { return e.err.Error() }

func asConstraint(err error, target **constraintError) bool {
	e, ok := err.(*constraintError)
	*target = e
	return ok
}

// locks asks the judge, in one round trip. Deferred triggers write in COMMIT, so they are made to run
// first, whether any are known or not: another program can have made one.
func (s *session) locks(ctx context.Context) ([]locked, error) {
	var b pgconn.Batch
	b.ExecParams("SET CONSTRAINTS ALL IMMEDIATE", nil, nil, nil, nil)
	b.ExecParams("SAVEPOINT "+savepoint, nil, nil, nil, nil)
	if s.prepared {
		b.ExecPrepared(s.db.judgeName(), nil, nil, nil)
	} else {
		b.ExecParams(s.db.judgeText(), nil, nil, nil, nil)
	}
	if s.work.all {
		b.ExecParams(redefinedText, nil, nil, nil, nil)
	}
	b.ExecParams("RELEASE SAVEPOINT "+savepoint, nil, nil, nil, nil)
	results, err := s.pg.ExecBatch(ctx, &b).ReadAll()
	s.judged = true
	if err != nil {
		var answer *pgconn.PgError
		if errors.As(err, &answer) && (len(results) == 0 || results[0].Err != nil) {
			return nil, &constraintError{err}
		}
		s.rescue(ctx)
		if s.prepared && hasCode(err, codeNoPreparedStatement) && !s.pg.IsClosed() && s.status() != failed {
			s.prepared = false // the user has discarded it
			delete(s.pg.CustomData(), s.db.judgeName())
			return s.locks(ctx)
		}
		return nil, err
	}
	rows, err := rowsOf(results[2])
	if err != nil {
		return nil, err
	}
	if s.work.all {
		redefined, err := rowsOf(results[3])
		if err != nil {
			return nil, err
		}
		s.doubtful = s.doubtful || redefined[0].is(0)
		if redefined[0].is(1) {
			s.rec.Sweep(tokens.Global, whyUnlocked)
		}
	}
	found := make([]locked, len(rows))
	for i, r := range rows {
		found[i] = locked{r.oid(0), r.text(1), r.is(2)}
	}
	return found, nil
}

// prepareJudge prepares the judge's query on a connection that has needed it, between transactions.
// The connection can have it from an earlier session, if it belongs to a pool of pgx's own.
func (s *session) prepareJudge(ctx context.Context) {
	if !s.configured().prepares {
		s.judged = false // it is asked as a text
		return
	}
	name := s.db.judgeName()
	if _, known := s.pg.CustomData()[name]; !known {
		if _, err := s.pg.Prepare(ctx, name, s.db.judgeText(), nil); err != nil {
			s.config.prepares, s.judged = false, false
			return
		}
		s.pg.CustomData()[name] = true
	}
	s.prepared = true
}

// account sweeps the tables that are locked and not accounted for.
func (s *session) account(ctx context.Context, all []locked) error {
	known := s.db.newest()
	var strangers []uint32
	for _, l := range all {
		var t *table
		if known != nil {
			if t = known.byOID[l.oid]; t == nil && known.others[l.oid] {
				continue
			}
		}
		if t == nil || t.spelled[0] != l.name && t.spelled[1] != l.name {
			strangers = append(strangers, l.oid)
			continue
		}
		if l.written && s.work.accounts(t.root()) {
			continue
		}
		if !l.written {
			s.doubtful = true
			if s.work.vague {
				strangers = append(strangers, l.oid) // it may have become part of another
			}
		}
		s.sweep(t.root(), s.whyJudged(t.root()))
		if t.partitionOf != nil && !l.written {
			s.rec.Sweep(t.all, whyJudged)
		}
	}
	if len(strangers) > 0 {
		s.identify(ctx, strangers)
	}
	return nil
}

func (s *session) whyJudged(t *table) string {
	if why := s.work.spoils(t); why != "" {
		return why
	}
	if s.work.unknown != "" {
		return s.work.unknown
	}
	return whyJudged
}

// sweep sweeps a table, those that share its rows, and those that its rows touch.
func (s *session) sweep(t *table, why string) {
	s.rec.Sweep(t.all, why)
	for _, o := range t.relatives {
		s.rec.Sweep(o.all, whyInherited)
	}
	for _, id := range s.db.touched(t) {
		s.rec.Sweep(id, whyTouched)
	}
}

// identify sweeps locked relations that the schema does not have, or not by that name, and those that
// they are part of: new tables, temporary ones, indexes.
func (s *session) identify(ctx context.Context, oids []uint32) {
	list := ""
	for _, oid := range oids {
		if list != "" {
			list += ","
		}
		list += strconv.FormatUint(uint64(oid), 10)
	}
	rows, err := s.ask(ctx, `WITH RECURSIVE family(oid, relation) AS (
	SELECT x, x FROM unnest('{`+list+`}'::pg_catalog.oid[]) x
	UNION SELECT family.oid, i.inhparent FROM family JOIN pg_catalog.pg_inherits i ON i.inhrelid = family.relation
)
SELECT family.oid, family.relation, n.nspname, c.relname, c.relkind, c.relpersistence
FROM family LEFT JOIN pg_catalog.pg_class c ON c.oid = family.relation LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace`)
	if err != nil {
		s.rec.Sweep(tokens.Global, whyNoTable)
		s.db.warn("the name of a table that was written could not be asked for: all keys are changed", err)
		return
	}
	known := s.db.newest()
	for _, r := range rows {
		var t *table
		if known != nil {
			t = known.byOID[r.oid(1)]
		}
		switch {
		case r[3] == nil && t == nil:
			// It was dropped. Statements that name what they change make tables and drop them, too; but here
			// it may have been there before.
			if s.work.vague {
				s.rec.Sweep(tokens.Global, whyNoTable)
			}
			s.doubtful = true
			continue
		case r[3] == nil:
			s.sweep(t.root(), whyDDL)
			s.doubtful = true
			continue
		case r.text(5) == "t":
			continue // nobody else sees a temporary table
		}
		switch r.text(4) {
		case "r", "p", "f", "m", "v":
		default:
			continue // an index, a sequence, a table of long values
		}
		name := sqltext.Name{Qualifier: r.text(2), Name: r.text(3)}
		if t != nil && t.Name == name.Name && t.Schema == name.Qualifier {
			if !s.work.accounts(t.root()) {
				s.sweep(t.root(), s.whyJudged(t.root()))
			}
			continue
		}
		s.doubtful = true
		s.rec.Sweep(tokens.Table(s.db.identifier(name)), whyNoTable)
		if t != nil {
			s.sweep(t.root(), whyDDL)
		}
	}
}
