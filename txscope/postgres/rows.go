package postgres

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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
		if !r.done && err != io.EOF {
			r.reader.sweep(whyUnread) // a value that Go cannot have, say: the others were written all the same
		}
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
			_ = r.Next(dest) // what it says of an error, Close says too
		}
		r.done = true
	}
	return r.Rows.Close()
}

// apartRows runs a statement that returns rows in a transaction of its own. If they are few they are read
// at once and it is committed, as the server commits without waiting for the reader: who reads them may
// wait for what it has locked. Else it is committed when they are read or closed.
func (s *session) apartRows(ctx context.Context, m *meaning, call *txscope.Call, run func() (driver.Rows, error)) (driver.Rows, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	s.before(m)
	found, err := s.query(ctx, m, call, run)
	if err != nil {
		return found, s.abandon(ctx, err)
	}
	r := &ownRows{Rows: txscope.Rows{Rows: found}, s: s, ctx: ctx, m: m}
	r.readAhead()
	switch {
	case !r.done:
	case r.err == nil:
		s.rec.Committed()
		s.ending = false
	case len(r.ahead) == 0 || !errors.As(r.err, new(*pgconn.PgError)):
		return nil, r.err
	}
	return r, nil
}

// What is read before the first row is given out.
const (
	maxAhead      = 1000    // rows
	maxAheadBytes = 1 << 20 // of their values
)

// ownRows end a transaction of the capture's own.
type ownRows struct {
	txscope.Rows
	s     *session
	ctx   context.Context
	m     *meaning
	ahead [][]driver.Value // read, and not given out
	done  bool
	last  error // what Next returns in the end; nil for io.EOF
	err   error // of the statement, the commit, or what prevented it
}

// readAhead reads rows up to a bound, and ends the transaction if there are no more.
func (r *ownRows) readAhead() {
	width := len(r.Columns())
	for size := 0; len(r.ahead) < maxAhead && size < maxAheadBytes; {
		row := make([]driver.Value, width)
		if err := r.Rows.Next(row); err != nil {
			r.end(err)
			return
		}
		for i, v := range row {
			size += 16 // of the value itself
			switch v := v.(type) {
			case []byte:
				row[i] = bytes.Clone(v) // it holds until the next row only
				size += len(v)
			case string:
				size += len(v)
			}
		}
		r.ahead = append(r.ahead, row)
	}
}

// Next is part of driver.Rows.
func (r *ownRows) Next(dest []driver.Value) error {
	if len(r.ahead) > 0 {
		copy(dest, r.ahead[0])
		r.ahead = r.ahead[1:]
		return nil
	}
	if !r.done {
		err := r.Rows.Next(dest)
		if err == nil {
			return nil
		}
		r.end(err)
	}
	if r.last != nil {
		return r.last
	}
	return io.EOF
}

// Close is part of driver.Rows.
func (r *ownRows) Close() error {
	r.ahead = nil
	if !r.done {
		r.end(io.EOF)
	}
	return r.err
}

// end commits, unless the statement has failed: a value that was not understood is no failure of
// its. err is what Next has returned.
func (r *ownRows) end(err error) {
	described := describe(r.Rows)
	r.done = true
	if err != io.EOF {
		r.last = err
	}
	if r.err = r.Rows.Close(); r.err != nil {
		r.err = r.s.abandon(r.ctx, r.err)
	} else {
		r.s.after(r.m)
		r.err = r.s.commit(r.ctx)
	}
	if r.err != nil {
		r.last = r.err
	}
	r.Rows = txscope.Rows{Rows: described} // COMMIT has taken the driver's descriptions away
}

// described are rows that are over, and still tell what their columns are.
type described []column

type column struct {
	name, database           string
	scan                     reflect.Type
	length, precision, scale int64
	variable, decimal        bool
}

func describe(rows txscope.Rows) described {
	d := make(described, len(rows.Columns()))
	for i, name := range rows.Columns() {
		c := &d[i]
		c.name, c.database, c.scan = name, rows.ColumnTypeDatabaseTypeName(i), rows.ColumnTypeScanType(i)
		c.length, c.variable = rows.ColumnTypeLength(i)
		c.precision, c.scale, c.decimal = rows.ColumnTypePrecisionScale(i)
	}
	return d
}

// Columns is part of driver.Rows.
func (d described) Columns() []string {
	names := make([]string, len(d))
	for i := range d {
		names[i] = d[i].name
	}
	return names
}

// Next is part of driver.Rows.
func (d described) Next([]driver.Value) error { return io.EOF }

// Close is part of driver.Rows.
func (d described) Close() error { return nil }

// ColumnTypeDatabaseTypeName is part of driver.RowsColumnTypeDatabaseTypeName.
func (d described) ColumnTypeDatabaseTypeName(i int) string { return d[i].database }

// ColumnTypeScanType is part of driver.RowsColumnTypeScanType.
func (d described) ColumnTypeScanType(i int) reflect.Type { return d[i].scan }

// ColumnTypeLength is part of driver.RowsColumnTypeLength.
func (d described) ColumnTypeLength(i int) (int64, bool) { return d[i].length, d[i].variable }

// ColumnTypePrecisionScale is part of driver.RowsColumnTypePrecisionScale.
func (d described) ColumnTypePrecisionScale(i int) (precision, scale int64, ok bool) {
	return d[i].precision, d[i].scale, d[i].decimal
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
