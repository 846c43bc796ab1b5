package mysql

import (
	"context"
	"database/sql/driver"
	"io"
	"slices"
	"strings"

	"github.com/alkey-go/alkey/txscope"
)

// Query is part of txscope.RunningSession.
func (s *session) Query(ctx context.Context, call *txscope.Call, run func() (driver.Rows, error)) (driver.Rows, error) {
	if s.plan == nil || s.plan.quiet || !s.sends(call) {
		return s.watch(run())
	}
	w := &writing{s, ctx, call, s.plan}
	return w.fetch(func() (driver.Rows, error) { return s.watch(run()) })
}

// watch keeps the rows that the driver has given in sight.
func (s *session) watch(rows driver.Rows, err error) (driver.Rows, error) {
	s.open = rows
	if err != nil || !s.inside() {
		return rows, err
	}
	return &trustedRows{txscope.Rows{Rows: rows}, s}, nil
}

// trustedRows are rows that are read in a transaction. The server can end that among them, as it does when
// a row that it locks for them is part of a deadlock.
type trustedRows struct {
	txscope.Rows
	s *session
}

// Next is part of driver.Rows.
func (r *trustedRows) Next(dest []driver.Value) error {
	err := r.Rows.Next(dest)
	r.failed(err)
	return err
}

// NextResultSet is part of driver.RowsNextResultSet.
func (r *trustedRows) NextResultSet() error {
	err := r.Rows.NextResultSet()
	r.failed(err)
	return err
}

// Close is part of driver.Rows.
func (r *trustedRows) Close() error {
	err := r.Rows.Close()
	r.failed(err)
	return err
}

func (r *trustedRows) failed(err error) {
	if err != nil && !isEOF(err) {
		r.s.trust(err)
	}
}

// fetch runs a statement that can return rows, while the server goes on with it.
func (w *writing) fetch(run func() (driver.Rows, error)) (driver.Rows, error) {
	p := w.plan
	if p.ddl {
		w.alter()
	}
	c := p.claim
	if c != nil && !c.table.Lasting && !w.inside() && w.mayBegin(w.ctx, c.table) {
		switch begun, err := w.begin(); {
		case err != nil:
			return nil, err
		case begun:
			return w.queryAlone(run)
		}
	}
	var apart []change
	switch {
	case p.commits == first:
		apart = p.apart
	case p.commits == maybe, !w.inside():
		// It can commit until its last row was read, so that is when it is published.
		apart = slices.Concat(p.apart, p.sweeps)
		if c != nil && !c.table.Lasting {
			apart = append(apart, w.whole(c.table, whyAlone)...)
		}
	default:
		apart = p.apart
	}
	done, err := w.separate(apart)
	if err != nil {
		return nil, err
	}
	if w.inside() || p.commits != never {
		for _, one := range p.sweeps {
			w.rec.Sweep(one.id, one.why)
		}
	}
	if p.commits != never || p.begins {
		if err := w.commits(); err != nil {
			done()
			return nil, err
		}
	}
	var rows driver.Rows
	if c != nil && !c.table.Lasting && w.inside() {
		rows, err = w.queryClaimed(run)
	} else {
		rows, err = run()
	}
	return w.until(rows, err, done)
}

// whole lists what is swept where the rows of a table are not known.
func (w *writing) whole(t *table, why string) []change {
	list := []change{{t.all, why}}
	for _, parent := range w.plan.known.parents(t) {
		list = append(list, change{parent.all, whyTouched})
	}
	return list
}

// until calls done when the rows are at their end.
func (w *writing) until(rows driver.Rows, err error, done func()) (driver.Rows, error) {
	if err != nil || len(rows.Columns()) == 0 {
		done()
		return rows, err
	}
	r := &lastRows{Rows: txscope.Rows{Rows: rows}, done: done}
	w.waiting = append(slices.DeleteFunc(w.waiting, func(old *lastRows) bool { return old.ended }), r)
	return r, nil
}

// lastRows are rows with which something ends that the statement has begun.
type lastRows struct {
	txscope.Rows
	done  func()
	ended bool
}

// Next is part of driver.Rows.
func (r *lastRows) Next(dest []driver.Value) error {
	err := r.Rows.Next(dest)
	if err != nil && !r.HasNextResultSet() {
		r.end()
	}
	return err
}

// Close is part of driver.Rows.
func (r *lastRows) Close() error {
	err := r.Rows.Close()
	r.end()
	return err
}

func (r *lastRows) end() {
	if !r.ended {
		r.ended = true
		r.done()
	}
}

// queryClaimed runs the statement in the transaction that is open. Rows that it returns can be seen, so
// what is certain is noted before.
func (w *writing) queryClaimed(run func() (driver.Rows, error)) (driver.Rows, error) {
	c := w.plan.claim
	if len(c.parents) == 0 {
		if keys, ok := w.known(); ok {
			w.record(w.identify(keys))
			return run()
		}
	}
	if len(c.parents) > 0 || !c.dml.Returning {
		w.sweepTable(whyQuery)
		return run()
	}
	w.readable()
	rows, err := run()
	if err != nil {
		return nil, err
	}
	at, ok := keyColumns(w.call.Query, c.table, rows.Columns())
	if !ok {
		w.sweepTable(whyOwnRows)
		return rows, nil
	}
	return &keyRows{Rows: txscope.Rows{Rows: rows}, w: w, at: at, found: found{claim: c, utf8: w.settings.results}}, nil
}

// keyRows are rows that a statement returns of what it writes, with their keys among the columns.
type keyRows struct {
	txscope.Rows
	w     *writing
	at    []int // where the columns of the key are
	found found
	dest  []driver.Value // for rows that nobody reads
	ended bool
}

// Next is part of driver.Rows.
func (r *keyRows) Next(dest []driver.Value) error {
	err := r.Rows.Next(dest)
	if err != nil {
		r.ended = true
		return err
	}
	var buf [4]driver.Value
	key := buf[:0]
	for _, i := range r.at {
		key = append(key, dest[i])
	}
	r.found.ids = r.found.ids[:0]
	before := r.found.lost
	r.found.read(key)
	if before == "" {
		r.w.record(&r.found)
	}
	return nil
}

// Close is part of driver.Rows. The rows that nobody has read were written, too.
func (r *keyRows) Close() error {
	if !r.ended && r.found.lost == "" {
		if r.dest == nil {
			r.dest = make([]driver.Value, len(r.Columns()))
		}
		for r.found.lost == "" && r.Next(r.dest) == nil {
		}
	}
	r.ended = true
	return r.Rows.Close()
}

// keyColumns finds the key among the columns that RETURNING names. A column can be called like another,
// so the list must be one of plain names.
func keyColumns(query string, t *table, columns []string) ([]int, bool) {
	at := strings.LastIndex(strings.ToLower(query), "returning")
	if at < 0 || strings.ContainsAny(query, "#\"") || strings.Contains(query, "--") || strings.Contains(query, "/*") {
		return nil, false
	}
	list := strings.TrimRight(strings.TrimSpace(query[at+len("returning"):]), "; \t\r\n")
	var names []string
	if list == "*" {
		for _, c := range t.Columns {
			names = append(names, c.Name)
		}
	} else {
		for name := range strings.SplitSeq(list, ",") {
			name = strings.TrimSpace(name)
			if len(name) > 2 && name[0] == '`' && name[len(name)-1] == '`' {
				name = name[1 : len(name)-1]
			}
			names = append(names, name)
		}
	}
	if !slices.EqualFunc(names, columns, strings.EqualFold) {
		return nil, false
	}
	var found []int
	for _, column := range t.Key {
		i := slices.IndexFunc(names, func(name string) bool { return strings.EqualFold(name, t.Columns[column].Name) })
		if i < 0 {
			return nil, false
		}
		found = append(found, i)
	}
	return found, true
}

// queryAlone runs a statement in a transaction of its own, which has begun and ends with the rows.
func (w *writing) queryAlone(run func() (driver.Rows, error)) (driver.Rows, error) {
	w.rec.Unsure()
	done, err := w.separate(w.plan.apart)
	if err != nil {
		w.rollback()
		return nil, err
	}
	for _, c := range w.plan.sweeps {
		w.rec.Sweep(c.id, c.why)
	}
	rows, err := w.queryClaimed(run)
	if err != nil {
		w.trust(err)
		w.rollback()
		done()
		return nil, err
	}
	own := &ownRows{Rows: txscope.Rows{Rows: rows}, w: w, done: done}
	if len(rows.Columns()) > 0 {
		return own, nil
	}
	if own.end(io.EOF); own.failed != nil {
		return nil, own.failed
	}
	return rows, nil
}

// ownRows are the rows of a statement in a transaction of its own.
type ownRows struct {
	txscope.Rows
	w      *writing
	done   func()
	ended  bool
	failed error // what the statement, or its COMMIT, has failed with
}

// Next is part of driver.Rows.
func (r *ownRows) Next(dest []driver.Value) error {
	if r.ended {
		if r.failed != nil {
			return r.failed
		}
		return io.EOF
	}
	err := r.Rows.Next(dest)
	if err == nil || isEOF(err) && r.HasNextResultSet() {
		return err
	}
	r.end(err)
	if r.failed != nil {
		return r.failed
	}
	return err
}

// Close is part of driver.Rows.
func (r *ownRows) Close() error {
	if r.end(io.EOF); r.failed != nil {
		return r.failed
	}
	return r.Rows.Close()
}

// end ends the transaction; err is io.EOF where the statement has not failed. The driver must be done
// with the rows before it can send anything else.
func (r *ownRows) end(err error) {
	if r.ended {
		return
	}
	r.ended = true
	defer r.done()
	r.Columns() // the driver remembers them
	if cerr := r.Rows.Close(); isEOF(err) && cerr != nil {
		err = cerr
	}
	r.w.open = nil
	if !isEOF(err) {
		r.failed = err
		r.w.trust(err)
		r.w.rollback()
		return
	}
	r.failed = r.w.commit()
}

const whyQuery = "a statement that is run as a query"
