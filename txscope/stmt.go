package txscope

import (
	"context"
	"database/sql/driver"
	"io"
)

// stmt is a prepared statement that knows its connection.
type stmt struct {
	c     *Conn
	bare  driver.Stmt
	query string
	memo  any
}

// convertingStmt is a stmt of a driver that converts arguments by column. database/sql treats
// statements with that method differently, so others must not have it.
type convertingStmt struct {
	*stmt
	legacyConverter
}

func newStmt(c *Conn, bare driver.Stmt, query string, memo any) driver.Stmt {
	s := &stmt{c: c, bare: bare, query: query, memo: memo}
	if cc, ok := bare.(legacyConverter); ok {
		return convertingStmt{s, cc}
	}
	return s
}

var (
	_ driver.StmtExecContext   = (*stmt)(nil)
	_ driver.StmtQueryContext  = (*stmt)(nil)
	_ driver.NamedValueChecker = (*stmt)(nil)
)

// Close is part of driver.Stmt.
func (s *stmt) Close() error { return s.bare.Close() }

// NumInput is part of driver.Stmt.
func (s *stmt) NumInput() int { return s.bare.NumInput() }

// CheckNamedValue is part of driver.NamedValueChecker. database/sql asks the connection where a
// statement has no such method.
func (s *stmt) CheckNamedValue(nv *driver.NamedValue) error {
	if checker, ok := s.bare.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(nv)
	}
	if s.c.checker != nil {
		return s.c.checker.CheckNamedValue(nv)
	}
	return driver.ErrSkip
}

// ExecContext is part of driver.StmtExecContext.
func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.c.exec(ctx, Call{Query: s.query, Args: args, Memo: s.memo}, s.bare)
}

// Exec is part of driver.Stmt.
func (s *stmt) Exec(args []driver.Value) (driver.Result, error) {
	return s.ExecContext(context.Background(), namedValues(args))
}

// QueryContext is part of driver.StmtQueryContext.
func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.c.query(ctx, Call{Query: s.query, Args: args, Memo: s.memo}, s.bare)
}

// Query is part of driver.Stmt.
func (s *stmt) Query(args []driver.Value) (driver.Rows, error) {
	return s.QueryContext(context.Background(), namedValues(args))
}

func namedValues(values []driver.Value) []driver.NamedValue {
	args := make([]driver.NamedValue, len(values))
	for i, v := range values {
		args[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return args
}

// rows are the rows of a statement that is committed by itself, at the latest when they are closed.
type rows struct {
	Rows
	c       *Conn
	ctx     context.Context
	refused error // why the commit that a row was to make did not happen
	closed  bool
}

// Next is part of driver.Rows.
func (r *rows) Next(dest []driver.Value) error {
	r.c.ctx = r.ctx
	return r.read(r.Rows.Next(dest))
}

// NextResultSet is part of driver.RowsNextResultSet.
func (r *rows) NextResultSet() error {
	r.c.ctx = r.ctx
	return r.read(r.Rows.NextResultSet())
}

// read takes in what the driver said.
func (r *rows) read(err error) error {
	r.c.ctx = nil
	if err == nil || err == io.EOF {
		return err
	}
	r.refused = r.c.refused
	return r.c.refusal(err)
}

// Close is part of driver.Rows.
func (r *rows) Close() error {
	c := r.c
	c.ctx = r.ctx
	err := r.Rows.Close()
	if r.refused != nil && err != nil {
		c.refused = r.refused // drivers say it again
	}
	err = c.refusal(err)
	if !r.closed {
		r.closed = true
		c.unread--
		c.settle(err)
	}
	c.ctx = nil
	c.callDue()
	return err
}
