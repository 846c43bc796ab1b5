package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// settings are what a connection is set up with, as far as it was asked for.
type settings struct {
	asked     bool
	increment int64 // by how much one value of AUTO_INCREMENT differs from the next; 0: not known
	utf8      bool  // text is sent in UTF-8
	results   bool  // and comes so
	committed bool  // transactions read what others have committed meanwhile: READ COMMITTED, or less
}

// setUp returns the settings.
func (s *session) setUp(ctx context.Context) settings {
	if !s.settings.asked && !s.busy() {
		s.settings.asked = true
		isolation := "@@SESSION.tx_isolation"
		if k := s.db.known.Load(); k != nil && !k.server.mariadb && k.server.skipsLocked != "" {
			isolation = "@@SESSION.transaction_isolation" // MySQL 8 has the one, older servers have the other
		}
		_ = s.query(ctx, "SELECT @@SESSION.auto_increment_increment, @@character_set_client, @@character_set_connection, @@character_set_results, "+isolation+" LIMIT 1", nil, func(row []driver.Value) error {
			s.settings.increment = parseID(text(row[0]))
			s.settings.utf8 = text(row[1]) == "utf8mb4" && text(row[2]) == "utf8mb4"
			s.settings.results = text(row[3]) == "utf8mb4"
			s.settings.committed = strings.HasPrefix(text(row[4]), "READ-")
			return nil
		})
	}
	return s.settings
}

// prepared are statements of the session's own, the one that was used last at the end.
type prepared []preparedStmt

type preparedStmt struct {
	query string
	stmt  driver.Stmt
}

// maxPrepared bounds how many of them are kept.
const maxPrepared = 8

// rows runs a query of the session's own. unsent is true if that was not come to.
func (s *session) rows(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s.unsent = false
	if len(args) == 0 || s.wire.config.InterpolateParams {
		rows, err := s.conn.QueryContext(ctx, query, args)
		if !errors.Is(err, driver.ErrSkip) {
			return rows, err
		}
	}
	stmt, err := s.prepare(ctx, query)
	if err != nil {
		s.unsent = true
		return nil, err
	}
	return stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
}

// prepare prepares a statement, or finds it.
func (s *session) prepare(ctx context.Context, query string) (driver.Stmt, error) {
	p := s.prepared
	if i := slices.IndexFunc(p, func(have preparedStmt) bool { return have.query == query }); i >= 0 {
		one := p[i]
		copy(p[i:], p[i+1:])
		p[len(p)-1] = one
		return one.stmt, nil
	}
	stmt, err := s.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	if len(p) == maxPrepared {
		_ = p[0].stmt.Close()
		p = slices.Delete(p, 0, 1)
	}
	s.prepared = append(p, preparedStmt{strings.Clone(query), stmt})
	return stmt, nil
}

func (p *prepared) close() {
	for _, one := range *p {
		_ = one.stmt.Close()
	}
	*p = nil
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// The verbs of claims.
const (
	insert = sqltext.Insert
	update = sqltext.Update
)

// atMost bounds a query for keys: one more than are told apart.
var atMost = "LIMIT " + strconv.Itoa(tokens.MaxRowsPerTable+1)

// parseID reads an integer; 0 if it is none.
func parseID(s string) int64 {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	n, _ := strconv.ParseUint(s, 10, 64)
	return int64(n)
}
