package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// writing is one statement that writes, on its way.
type writing struct {
	*session
	ctx  context.Context
	call *txscope.Call
	plan *plan
}

// Exec is part of txscope.RunningSession.
func (s *session) Exec(ctx context.Context, call *txscope.Call, run func() (driver.Result, error)) (driver.Result, error) {
	if s.plan == nil || s.plan.quiet || !s.sends(call) {
		return run()
	}
	w := writing{s, ctx, call, s.plan}
	return w.exec(run)
}

// sends reports whether the driver sends the statement: without InterpolateParams one with arguments has
// to be prepared, which database/sql does when it is told to.
func (s *session) sends(call *txscope.Call) bool {
	return call.Memo != nil || len(call.Args) == 0 || s.wire.config.InterpolateParams
}

// exec runs the statement in the way that its plan asks for.
func (w *writing) exec(run func() (driver.Result, error)) (driver.Result, error) {
	done, err := w.before()
	if err != nil {
		return nil, err
	}
	defer done()
	c := w.plan.claim
	switch {
	case c == nil || c.table.Lasting:
		if err := w.commits(); err != nil {
			return nil, err
		}
		return run()
	case w.inside():
		return w.claimed(run)
	}
	if keys, ok := w.known(); ok && len(c.parents) == 0 && (len(keys) == 1 || c.verb != update) {
		w.record(w.identify(keys))
		if err := w.announce(statement); err != nil {
			return nil, err
		}
		res, err := run()
		if err == nil && w.affected(res) == 0 && len(w.plan.sweeps) == 0 {
			w.rec.RolledBack() // nothing has changed
		}
		return res, err
	}
	if !w.mayBegin(w.ctx, c.table) {
		w.sweepTable(whyAlone)
		if err := w.announce(statement); err != nil {
			return nil, err
		}
		return run()
	}
	return w.alone(run)
}

// before notes all that is certain to be written besides the rows of a claim, and puts up the fences of
// what no transaction can take back. done ends these.
func (w *writing) before() (done func(), err error) {
	if w.plan.ddl {
		w.alter()
	}
	done, err = w.separate(w.plan.apart)
	if err != nil {
		return nil, err
	}
	for _, c := range w.plan.sweeps {
		w.rec.Sweep(c.id, c.why)
	}
	return done, nil
}

// separate announces what changes in tables without transactions: those of list, and that of a claim.
func (w *writing) separate(list []change) (done func(), err error) {
	why := whyLasting
	changes := new(tokens.Changes)
	for _, c := range list {
		changes.Add(c.id)
		why = c.why
	}
	if c := w.plan.claim; c != nil && c.table.Lasting {
		if keys, ok := w.known(); ok {
			for _, id := range w.identify(keys).ids {
				changes.Add(id)
			}
		} else {
			changes.Add(c.table.all)
		}
	}
	if changes.Empty() {
		return func() {}, nil
	}
	publish, err := w.rec.Apart(changes, why)
	if err != nil {
		return nil, err
	}
	return func() { publish(!w.wire.dead()) }, nil // the server may go on with it all the same
}

// commits announces what the statement commits, if it does.
func (w *writing) commits() error {
	if w.inside() && (w.plan.commits != never || w.plan.begins) {
		w.climb(w.ctx) // it can be the end of what is open
	}
	switch p := w.plan; {
	case p.commits == maybe:
		return w.announce(several)
	case p.commits == first && w.spared():
		return nil
	case p.commits == first, p.begins && w.wire.has(inTransaction):
		return w.announce(implicit)
	case p.begins, w.inside():
		return nil
	case p.several || len(p.apart) > 0:
		return w.announce(several)
	default:
		return w.announce(statement)
	}
}

// spared reports whether a statement that can commit what is open does not: UNLOCK TABLES without locks,
// and SET of autocommit, which commits when it is switched on.
func (w *writing) spared() bool {
	p := w.plan
	return p.turns == unlocks && !w.locked && !w.odd || p.turns&switches != 0 && p.turns&besides == 0 && w.wire.has(autocommit)
}

// claimed runs the statement in the transaction that is open, and notes its rows.
func (w *writing) claimed(run func() (driver.Result, error)) (driver.Result, error) {
	c := w.plan.claim
	w.readable()
	if keys, ok := w.known(); ok {
		if len(c.parents) > 0 {
			return w.touching(keys, run)
		}
		res, err := run()
		if err == nil {
			var f *found
			f, err = w.narrow(keys, w.affected(res))
			w.record(f)
		}
		return res, err
	}
	if keys, step, ok := w.generated(); ok {
		res, err := run()
		if err == nil {
			f := w.inserted(res, keys, step)
			err = w.children(f, keys)
			w.record(f)
		}
		return res, err
	}
	switch {
	case w.busy():
		return w.unclaimed(whyBusy, run)
	case c.returns:
		return w.returning(run)
	case c.looks:
		return w.looking(run)
	case c.locks:
		return w.locking(run)
	}
	return w.unclaimed(c.why, run)
}

// readable finds out how text is sent that the session is going to read.
func (w *writing) readable() {
	if w.plan.claim.reads {
		w.setUp(w.ctx)
	}
}

// known gives the keys of the rows that the statement writes, if they are certain beforehand.
func (w *writing) known() ([][]any, bool) {
	c, args := w.plan.claim, w.call.Args
	if keys, ok := c.known(args, false); ok {
		return keys, true
	}
	if !c.textual() {
		return nil, false
	}
	keys, ok := c.known(args, true)
	if !ok || !w.setUp(w.ctx).utf8 {
		return nil, false
	}
	return keys, true
}

// unclaimed runs a statement whose rows are not known.
func (w *writing) unclaimed(why string, run func() (driver.Result, error)) (driver.Result, error) {
	w.sweepTable(why)
	return run()
}

// alone gives the statement a transaction of its own.
func (w *writing) alone(run func() (driver.Result, error)) (driver.Result, error) {
	if begun, err := w.begin(); !begun {
		if err != nil {
			return nil, err
		}
		w.sweepTable(whyAlone)
		if err := w.announce(statement); err != nil {
			return nil, err
		}
		return run()
	}
	res, err := w.claimed(run)
	if err == nil {
		err = w.commit()
	} else {
		w.trust(err)
		w.rollback()
	}
	if err != nil {
		return nil, err
	}
	return res, nil
}

// begin begins a transaction of the statement's own. It is false without an error if the server will have
// none.
func (w *writing) begin() (bool, error) {
	_, err := w.conn.ExecContext(w.ctx, "START TRANSACTION", nil)
	if err == nil {
		return true, nil
	}
	w.trust(err)
	var answer *mysql.MySQLError
	if errors.As(err, &answer) {
		w.ask(w.ctx)
		return false, nil
	}
	return false, err
}

// ends makes sure that a transaction of the statement's own ends, whatever completion_type says.
const ends = " AND NO CHAIN NO RELEASE"

// commit commits the statement's own transaction.
func (w *writing) commit() error {
	w.climb(w.ctx)
	if err := w.announce(commit); err != nil {
		w.rollback()
		return err
	}
	_, err := w.conn.ExecContext(w.ctx, "COMMIT"+ends, nil)
	w.trust(err)
	if err != nil && !w.wire.dead() && w.ctx.Err() != nil && w.InTransaction() {
		w.rollback() // the context has ended before it was sent
	}
	return err
}

// rollback ends the statement's own transaction, which the server may have done already.
func (w *writing) rollback() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), askLimit)
	defer cancel()
	_, err := w.conn.ExecContext(ctx, "ROLLBACK"+ends, nil)
	w.trust(err)
	if err == nil || w.wire.dead() {
		w.answered = true
		w.rec.RolledBack()
	}
}

// locking selects the keys of the rows that the statement will write, and locks them. Locked rows meet the
// statement's WHERE for as long as it depends on the row only, so the statement matches them; if it
// matches no more rows than these, it matches these, whatever others have committed in between and
// however the transaction is isolated.
func (w *writing) locking(run func() (driver.Result, error)) (driver.Result, error) {
	c := w.plan.claim
	f, err := w.lock()
	switch {
	case err != nil && w.fatal(err):
		return nil, err
	case err != nil:
		return w.unclaimed(whyRefused, run)
	case f.lost != "":
		return w.unclaimed(f.lost, run)
	}
	w.wire.forget()
	res, err := run()
	if err != nil {
		return nil, err
	}
	if w.compare(f, w.affected(res)); c.moves {
		err = w.children(f, f.keys)
	}
	w.record(f)
	return res, err
}

// compare makes sure that the statement that was run has written no other rows than were found.
func (w *writing) compare(f *found, affected int64) {
	if affected == 0 {
		*f = found{claim: f.claim, utf8: f.utf8} // nothing has changed
		return
	}
	matched, ok := affected, true
	if w.plan.claim.verb == update {
		matched, ok = w.wire.matched(affected)
	}
	switch {
	case !ok:
		f.lose(whyNoMatched)
	case matched != int64(f.rows):
		f.lose(whyOtherRows)
	}
}

// lock selects the keys. Under READ COMMITTED the statement itself would wait for no row that it does not
// match, while a query for them would: so that one waits for none. Those that it leaves out are matched by
// the statement then, or are not, and the number of rows tells.
func (w *writing) lock() (*found, error) {
	c := w.plan.claim
	text := w.call.Query
	lock := forUpdate
	if w.setUp(w.ctx).committed {
		if w.plan.known.server.skipsLocked == "" {
			return &found{claim: c, lost: whyCommitted}, nil
		}
		lock += " SKIP LOCKED"
	}
	f := &found{claim: c, utf8: w.settings.results}
	query := "SELECT " + c.table.quoted(c.columns) + " FROM " + c.dml.Target.Of(text) + " " + c.dml.Where.Of(text) + "\n" + atMost + lock
	err := w.query(w.ctx, query, w.whereArgs(), func(row []driver.Value) error {
		f.read(row)
		return nil
	})
	return f, err
}

// whereArgs are the arguments of the WHERE, which are the last ones.
func (w *writing) whereArgs() []driver.NamedValue {
	n := min(w.plan.claim.placeholders, len(w.call.Args))
	args := slices.Clone(w.call.Args[len(w.call.Args)-n:])
	for i := range args {
		args[i].Ordinal = i + 1
	}
	return args
}

// fatal reports whether an error of the session's own query is one that the statement has to fail with:
// the connection or the transaction is gone, or the statement would wait as long for nothing.
func (w *writing) fatal(err error) bool {
	if w.wire.dead() || w.ctx.Err() != nil || errors.Is(err, driver.ErrBadConn) {
		return true
	}
	w.ask(w.ctx)
	if !w.wire.has(inTransaction) && w.wire.has(autocommit) {
		return true
	}
	var answer *mysql.MySQLError
	return errors.As(err, &answer) && waited[answer.Number]
}

// waited are the errors of those who waited too long, or were interrupted.
var waited = numbers(1020, 1205, 1206, 1213, 1317, 1969, 3024)

// returning has the server return the keys of the rows that the statement writes.
func (w *writing) returning(run func() (driver.Result, error)) (driver.Result, error) {
	c := w.plan.claim
	at := c.dml.End
	f := &found{claim: c, utf8: w.settings.results}
	var first any
	query := w.call.Query[:at] + "\nRETURNING " + c.table.quoted(c.columns) + w.call.Query[at:]
	err := w.query(w.ctx, query, w.call.Args, func(row []driver.Value) error {
		if f.rows == 0 && c.table.auto >= 0 {
			first, _ = c.table.value(c.table.auto, row[slices.Index(c.table.Key, c.table.auto)])
		}
		f.read(row)
		return nil
	})
	var answer *mysql.MySQLError
	switch {
	case err == nil:
	case w.unsent && !w.fatal(err), errors.As(err, &answer) && unsaid[answer.Number]:
		// Nothing was run.
		if refused(err) {
			w.db.Warn("MySQL: the columns of a primary key cannot be read, so whole tables are changed where rows would do: grant SELECT on the table to the database's user", nil)
		}
		return w.unclaimed(whyRefused, run)
	case answer == nil:
		w.sweepTable(whyRefused) // it may have been run
		return nil, err
	default:
		return nil, err
	}
	w.record(f)
	res := result{affected: int64(f.rows)}
	if c.verb == insert {
		res.id = asID(first)
	}
	return &res, nil
}

// unsaid are the errors of a statement that the server does not begin with: it does not understand it, or
// the user lacks a privilege for it.
var unsaid = numbers(1054, 1064, 1142, 1143, 1295)

// result is what the driver's would be.
type result struct{ affected, id int64 }

var _ mysql.Result = (*result)(nil)

// RowsAffected is part of driver.Result.
func (r *result) RowsAffected() (int64, error) { return r.affected, nil }

// LastInsertId is part of driver.Result.
func (r *result) LastInsertId() (int64, error) { return r.id, nil }

// AllRowsAffected is part of mysql.Result.
func (r *result) AllRowsAffected() []int64 { return []int64{r.affected} }

// AllLastInsertIds is part of mysql.Result.
func (r *result) AllLastInsertIds() []int64 { return []int64{r.id} }

// affected is the number of rows that the statement has written; -1 if it is not known. With rows of its
// own to return it tells none.
func (w *writing) affected(res driver.Result) int64 {
	if w.plan.claim.dml.Returning {
		return -1
	}
	n, err := res.RowsAffected()
	if err != nil {
		return -1
	}
	return n
}

// generated gives the keys that LastInsertId will complete, and by how much one differs from the next.
func (w *writing) generated() (keys [][]any, step int64, ok bool) {
	c := w.plan.claim
	if keys, ok = c.generated(w.call.Args); !ok || len(keys) == 1 {
		return keys, 1, ok
	}
	step = w.setUp(w.ctx).increment
	return keys, step, step > 0
}

// inserted completes the keys of the rows that an INSERT has made. LastInsertId is the first of them, and
// the values of one INSERT whose rows are counted beforehand follow each other.
func (w *writing) inserted(res driver.Result, keys [][]any, step int64) *found {
	c := w.plan.claim
	f := &found{claim: c, utf8: w.settings.results}
	id, err := res.LastInsertId()
	if err != nil || w.affected(res) != int64(len(keys)) && !c.dml.Upsert {
		f.lose(whyDefault)
		return f
	}
	for i, key := range keys {
		if id == 0 && len(keys) > 1 {
			f.lose(whyDefault)
			return f
		}
		for k, v := range key {
			if v == nil {
				key[k] = c.table.id(id + int64(i)*step)
			}
		}
		f.add(key)
	}
	return f
}

// id is a value of the AUTO_INCREMENT column as LastInsertId gives it.
func (t *table) id(n int64) any {
	if t.types[t.auto].unsigned {
		return uint64(n)
	}
	return n
}

// looking selects the keys after an INSERT that may have met rows whose key is the same in another
// spelling. All rows that have changed are seen by the transaction that has changed them.
func (w *writing) looking(run func() (driver.Result, error)) (driver.Result, error) {
	c := w.plan.claim
	values, ok := c.values(w.call.Args, w.setUp(w.ctx).utf8)
	if !ok {
		return w.unclaimed(c.why, run)
	}
	before := &found{claim: c, utf8: w.settings.results}
	if len(c.parents) > 0 {
		var err error
		if before, err = w.find(w.ctx, values, forUpdate); err != nil && w.fatal(err) {
			return nil, err
		} else if err != nil {
			before.lose(whyRefused)
		}
	}
	res, err := run()
	if err != nil || w.affected(res) == 0 {
		return res, err
	}
	f, err := w.findAfter(values)
	if f.rows == 0 {
		f.lose(whyRefused)
	}
	f.take(before)
	w.record(f)
	return res, err
}

// narrow leaves out the rows among keys that are not there, where the statement has written fewer rows
// than it names.
func (w *writing) narrow(keys [][]any, affected int64) (*found, error) {
	c := w.plan.claim
	all := w.identify(keys)
	switch {
	case affected == 0:
		return &found{claim: c}, nil
	case affected < 0 || affected >= int64(len(keys)) || c.verb != update || w.busy():
		return all, nil
	}
	f, err := w.findAfter(keys)
	if f.lost != "" || int64(f.rows) < affected {
		return all, err
	}
	return f, err
}

const forUpdate = " FOR UPDATE"

// find selects the columns of a claim from the rows that have one of the given keys.
func (w *writing) find(ctx context.Context, keys [][]any, lock string) (*found, error) {
	c := w.plan.claim
	f := &found{claim: c, utf8: w.settings.results}
	query, args := c.table.byKeys(c.columns, keys)
	err := w.query(ctx, query+lock, args, func(row []driver.Value) error {
		f.read(row)
		return nil
	})
	return f, err
}

// findAfter is find when the statement has run. What it has written is recorded whether the statement's
// context has ended or not, so the rows are lost where they cannot be read. That is no failure of the
// statement: there is an error only if the server has ended the transaction with it.
func (w *writing) findAfter(keys [][]any) (*found, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), askLimit)
	defer cancel()
	f, err := w.find(ctx, keys, "")
	if err == nil {
		return f, nil
	}
	f.lose(whyRefused)
	if w.ask(ctx); w.wire.dead() || w.wire.has(inTransaction) {
		return f, nil // what follows on a connection that is lost tells so
	}
	return f, err
}

// byKeys writes a query for the rows that have one of the given keys. Numbers stand in its text.
func (t *table) byKeys(columns []int, keys [][]any) (query string, args []driver.NamedValue) {
	var b strings.Builder
	b.WriteString("SELECT " + t.quoted(columns) + " FROM " + quote(t.Schema) + "." + quote(t.Name) + " WHERE ")
	for i, key := range keys {
		if i > 0 {
			b.WriteString(" OR ")
		}
		for j, v := range key {
			if j > 0 {
				b.WriteString(" AND ")
			}
			b.WriteString(quote(t.Columns[t.Key[j]].Name) + " = ")
			switch v := v.(type) {
			case int64:
				b.WriteString(strconv.FormatInt(v, 10))
			case uint64:
				b.WriteString(strconv.FormatUint(v, 10))
			default:
				b.WriteString("?")
				args = append(args, driver.NamedValue{Ordinal: len(args) + 1, Value: v})
			}
		}
	}
	return b.String() + " " + atMost, args // a connection can have another limit
}

// asID is LastInsertId of a value of the AUTO_INCREMENT column.
func asID(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case uint64:
		return int64(v)
	case string:
		return parseID(v)
	}
	return 0
}

// identify makes identifiers of keys.
func (w *writing) identify(keys [][]any) *found {
	f := &found{claim: w.plan.claim, utf8: w.settings.results}
	for _, key := range keys {
		f.add(key)
	}
	return f
}

// record gives the rows that were found to the recorder.
func (w *writing) record(f *found) {
	if f.lost != "" {
		w.sweepTable(f.lost)
		return
	}
	for _, id := range f.ids {
		w.rec.Add(id)
	}
	w.touch(&f.above)
}

// sweepTable notes that rows of the claim's table change that are not known.
func (w *writing) sweepTable(why string) {
	c := w.plan.claim
	w.rec.Sweep(c.table.all, why)
	for _, parent := range w.plan.known.parents(c.table) {
		w.rec.Sweep(parent.all, whyTouched)
	}
}
