package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// config is how a connection is used, as far as queries of the capture's own depend on it.
type config struct {
	// prepares says that the user lets pgx keep prepared statements on the server. Without it the
	// server behind the connection can be another for every transaction.
	prepares bool
	caches   bool // and how the statements of users run
}

func (s *session) configured() *config {
	if s.config == nil {
		c := s.pgx.Config()
		s.config = &config{
			prepares: c.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement && c.StatementCacheCapacity > 0,
			caches:   c.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement && c.StatementCacheCapacity > 0 || c.DefaultQueryExecMode == pgx.QueryExecModeCacheDescribe && c.DescriptionCacheCapacity > 0,
		}
	}
	return s.config
}

// savepoint is set around queries that the user's transaction must survive.
const savepoint = "alkey_capture"

// rescueLimit bounds what is sent for a context that has ended.
const rescueLimit = 5 * time.Second

// send sends texts that return nothing of interest.
func (s *session) send(ctx context.Context, text string) error {
	_, err := s.pg.Exec(ctx, text).ReadAll()
	return err
}

// rollback ends a transaction of the capture's own. Where it cannot be sent the connection is gone,
// and the transaction with it.
func (s *session) rollback(ctx context.Context) error {
	if s.pg.IsClosed() || s.status() == idle {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rescueLimit)
	defer cancel()
	return s.send(ctx, "ROLLBACK")
}

// ask runs a query of the capture's own. Inside of a transaction in which something may have been
// written it does so behind a savepoint: an error leaves the transaction as it was. The values are in text; NULL is nil.
func (s *session) ask(ctx context.Context, sql string) ([]row, error) {
	if until, ok := ctx.Value(patienceKey{}).(time.Time); ok && time.Now().After(until) {
		return nil, errImpatient
	}
	if s.status() == idle || s.own && !s.work.judge {
		return rowsOf(s.pg.ExecParams(ctx, sql, nil, nil, nil, nil).Read())
	}
	var b pgconn.Batch
	b.ExecParams("SAVEPOINT "+savepoint, nil, nil, nil, nil)
	b.ExecParams(sql, nil, nil, nil, nil)
	b.ExecParams("RELEASE SAVEPOINT "+savepoint, nil, nil, nil, nil)
	results, err := s.pg.ExecBatch(ctx, &b).ReadAll()
	if err != nil {
		s.rescue(ctx)
		return nil, err
	}
	return rowsOf(results[1])
}

// rescue brings the transaction back to where the savepoint was set.
func (s *session) rescue(ctx context.Context) {
	if s.pg.IsClosed() || s.status() != failed {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rescueLimit)
	defer cancel()
	// Without success the transaction stays failed, or the connection is closed: then nothing commits.
	_ = s.send(ctx, "ROLLBACK TO SAVEPOINT "+savepoint+"; RELEASE SAVEPOINT "+savepoint)
}

// errImpatient is the error of queries of the capture's own that come too late to be waited for.
var errImpatient = errors.New("alkey: the server takes too long")

const codeQueryCanceled = "57014" // by statement_timeout, say

type patienceKey struct{}

// withPatience has ask send nothing after a time. Unlike a deadline it does not end what is under way,
// which would close the connection.
func withPatience(ctx context.Context, until time.Time) context.Context {
	return context.WithValue(ctx, patienceKey{}, until)
}

func rowsOf(r *pgconn.Result) ([]row, error) {
	if r.Err != nil {
		return nil, r.Err
	}
	rows := make([]row, len(r.Rows))
	for i := range r.Rows {
		rows[i] = r.Rows[i]
	}
	return rows, nil
}
