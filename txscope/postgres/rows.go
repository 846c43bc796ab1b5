package postgres

import (
	"context"
	"database/sql/driver"
	"io"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/alkey-go/alkey/txscope"
)

// query runs a statement that returns rows, and records those that it writes, as they are read if
// they return their keys.
func (s *session) query(ctx context.Context, m *meaning, call *txscope.Call, run func() (driver.Rows, error)) (driver.Rows, error) {
	a := m.action
	if a == nil || s.status() == failed {
		return run()
	}
	var was old
	if a.dml.Returning {
		was = s.previous(ctx, m, call)
	}
	found, err := run()
	if err != nil {
		return found, err
	}
	r := &reader{s: s, a: a, was: was}
	if inner, ok := pgxRows(found); ok && a.returnsOwn() && r.locate(inner) {
		s.work.claimed(a.table)
		r.given = s.gives(a, call.Args)
		return &keyRows{Rows: txscope.Rows{Rows: found}, inner: inner, reader: r}, nil
	}
	s.claimOr(a, call.Args, whyRows)
	return found, nil
}

// returnsOwn reports whether the columns of the table that a RETURNING of the statement's own returns
// can only be those of the rows that it writes. What is joined, and what WITH makes, can be another row
// of the same table, and the server names the same column.
func (a *action) returnsOwn() bool { return !a.dml.Joined && !a.dml.With }

// pgxRows reaches for pgx's rows in the driver's, where the driver keeps them: only they tell which
// columns of which table were returned, whatever they are called.
func pgxRows(rows driver.Rows) (pgx.Rows, bool) {
	r, ok := rows.(*stdlib.Rows)
	if !ok {
		return nil, false
	}
	field := reflect.ValueOf(r).Elem().FieldByName("rows")
	if !field.IsValid() || field.Type() != reflect.TypeFor[pgx.Rows]() || field.IsNil() {
		return nil, false
	}
	return *(*pgx.Rows)(field.Addr().UnsafePointer()), true
}

// locate finds the columns that a reader needs among those that are returned.
func (r *reader) locate(rows pgx.Rows) bool {
	r.fields = rows.FieldDescriptions()
	for n, c := range r.a.needed {
		at := -1
		for i := range r.fields {
			if c >= 0 && r.fields[i].TableOID == r.a.named.oid && int16(r.fields[i].TableAttributeNumber) == r.a.named.numbers[c] {
				at = i
			}
		}
		if at < 0 && n < len(r.a.table.Key) {
			return false
		}
		r.at = append(r.at, at)
	}
	return true
}

// needs are the columns by which rows and their parents are told.
func (a *action) needs() []int {
	columns := a.named.columnsOf(a.table, a.table.Key)
	for _, t := range a.touches {
		for _, c := range a.named.columnsOf(a.table, t.columns) {
			if !slices.Contains(columns, c) {
				columns = append(columns[:len(columns):len(columns)], c)
			}
		}
	}
	return columns
}

// keyRows records the rows that are read through it.
type keyRows struct {
	txscope.Rows
	inner  pgx.Rows
	reader *reader
	done   bool
}

// Next is part of driver.Rows.
func (r *keyRows) Next(dest []driver.Value) error {
	err := r.Rows.Next(dest)
	if err != nil {
		r.done = true
		return err
	}
	r.reader.read(r.inner.RawValues())
	return nil
}

// Close is part of driver.Rows. The rows that were not read were written all the same.
func (r *keyRows) Close() error {
	if !r.done {
		dest := make([]driver.Value, len(r.Columns()))
		for !r.done && !r.reader.swept {
			if err := r.Next(dest); err != nil && err != io.EOF {
				r.reader.sweep(whyUnread)
			}
		}
		r.done = true
	}
	return r.Rows.Close()
}

// apartRows runs a statement that returns rows in a transaction of its own, which is committed when
// they are read or closed.
func (s *session) apartRows(ctx context.Context, m *meaning, call *txscope.Call, run func() (driver.Rows, error)) (driver.Rows, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	s.before(m)
	found, err := s.query(ctx, m, call, run)
	if err != nil {
		return found, s.abandon(ctx, err)
	}
	return &ownRows{Rows: txscope.Rows{Rows: found}, s: s, ctx: ctx, m: m}, nil
}

// ownRows end a transaction of the capture's own.
type ownRows struct {
	txscope.Rows
	s    *session
	ctx  context.Context
	m    *meaning
	done bool
	err  error // of the commit, or what prevented it
}

// Next is part of driver.Rows.
func (r *ownRows) Next(dest []driver.Value) error {
	if r.done {
		if r.err != nil {
			return r.err
		}
		return io.EOF
	}
	err := r.Rows.Next(dest)
	if err == nil {
		return nil
	}
	if err == io.EOF {
		err = nil
	}
	if err = r.end(err); err != nil {
		return err
	}
	return io.EOF
}

// Close is part of driver.Rows.
func (r *ownRows) Close() error {
	if !r.done {
		return r.end(nil)
	}
	return r.err
}

// end commits, unless reading has failed with err.
func (r *ownRows) end(err error) error {
	r.done = true
	if closing := r.Rows.Close(); err == nil {
		err = closing
	}
	if err != nil {
		r.err = r.s.abandon(r.ctx, err)
		return r.err
	}
	r.s.after(r.m)
	r.err = r.s.commit(r.ctx)
	return r.err
}

// fencedRows runs a text between fence and sweep. What is to come of it comes before its rows are
// closed.
func (s *session) fencedRows(m *meaning, run func() (driver.Rows, error)) (driver.Rows, error) {
	found, err := run()
	if err != nil || s.poisons && s.status() != idle {
		s.fenced(m, err)
		return found, err
	}
	return &fencedRows{Rows: txscope.Rows{Rows: found}, s: s, m: m}, nil
}

type fencedRows struct {
	txscope.Rows
	s      *session
	m      *meaning
	closed bool
}

// Close is part of driver.Rows.
func (r *fencedRows) Close() error {
	err := r.Rows.Close()
	if !r.closed {
		r.closed = true
		r.s.fenced(r.m, err)
	}
	return err
}
