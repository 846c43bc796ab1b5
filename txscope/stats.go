package txscope

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/alkey-go/alkey/tokens"
)

// Statistics tells what a database's transactions have changed since it was opened, and why the keys
// of whole tables had to change.
type Statistics struct {
	// Committed counts the transactions that changed something and were committed, RolledBack those
	// that had written and were rolled back, and Unknown those whose connection was lost in COMMIT.
	// A write outside of a transaction counts as one.
	Committed, RolledBack, Unknown int64

	// Rows counts the rows that committed transactions have changed one by one. A row whose key can
	// be spelled in more than one way counts once for each.
	Rows int64

	// Sweeps are the tables whose rows changed all at once, the most frequent first. A table appears
	// once for each reason.
	Sweeps []Sweep

	// Problems are what went wrong in the capture, the most frequent first. None of it has failed a
	// statement, but it may be why there are sweeps.
	Problems []Problem
}

// Sweep counts the committed transactions that changed the keys of all rows of a table.
type Sweep struct {
	Table string // as in identifiers; "*" for all tables
	Why   string
	Count int64
}

// Problem counts what went wrong in the capture.
type Problem struct {
	Message string
	Count   int64
}

// Stats returns the statistics of a database that Open returned, or that was opened with a connector
// that Wrap returned: a *sql.DB or *sqlx.DB. It takes a connection from the pool for a moment, within
// ctx, because database/sql shows its connector to nobody. The error wraps ErrNoCapture for another
// database.
func Stats(ctx context.Context, db interface {
	Conn(ctx context.Context) (*sql.Conn, error)
}) (Statistics, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return Statistics{}, fmt.Errorf("alkey: no connection for Stats: %w", err)
	}
	var s Statistics
	err = conn.Raw(func(c any) error {
		wrapped, ok := c.(*Conn)
		if !ok {
			return fmt.Errorf("%w: the database's connections are of type %T: open it with txscope.Open, or with a connector that txscope.Wrap returned", ErrNoCapture, c)
		}
		s = wrapped.db.stats.read()
		return nil
	})
	return s, errors.Join(err, conn.Close())
}

// Reasons of the wrapper's own.
const (
	whyByHand     = "marked by hand"
	whyMany       = "too many rows in one transaction"
	whyManyTables = "too many tables in one transaction"
	whyOthers     = "other reasons"
	otherTables   = "other tables"
)

// maxReasons bounds what is kept apart: names of tables come from the texts of statements.
const maxReasons = 1000

// stats counts. Safe for concurrent use.
type stats struct {
	mu       sync.Mutex
	total    Statistics // without its lists
	sweeps   map[sweepReason]int64
	problems map[string]int64
}

type sweepReason struct{ table, why string }

// ended counts a transaction that had written.
func (s *stats) ended(outcome tokens.Outcome, changes *tokens.Changes, why *tally) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch outcome {
	case tokens.Committed:
	case tokens.RolledBack:
		s.total.RolledBack++
		return
	default:
		s.total.Unknown++
		return
	}
	if changes.Empty() {
		return
	}
	s.total.Committed++
	for id := range changes.All {
		if id == tokens.Global || id.IsTable() {
			s.sweep(sweepReason{id.Table, why.of(id)})
		} else {
			s.total.Rows++
		}
	}
}

// sweep needs s.mu.
func (s *stats) sweep(r sweepReason) {
	if s.sweeps == nil {
		s.sweeps = make(map[sweepReason]int64)
	}
	if _, known := s.sweeps[r]; !known && len(s.sweeps) >= maxReasons {
		r = sweepReason{otherTables, whyOthers}
	}
	s.sweeps[r]++
}

func (s *stats) problem(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.problems == nil {
		s.problems = make(map[string]int64)
	}
	if _, known := s.problems[message]; !known && len(s.problems) >= maxReasons {
		message = whyOthers
	}
	s.problems[message]++
}

func (s *stats) read() Statistics {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := s.total
	for r, n := range s.sweeps {
		total.Sweeps = append(total.Sweeps, Sweep{r.table, r.why, n})
	}
	slices.SortFunc(total.Sweeps, func(a, b Sweep) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Table, b.Table), cmp.Compare(a.Why, b.Why))
	})
	for m, n := range s.problems {
		total.Problems = append(total.Problems, Problem{m, n})
	}
	slices.SortFunc(total.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Message, b.Message))
	})
	return total
}

// tally keeps why the tables of one transaction were swept: the first reason of each, and of so
// many tables only. Safe for concurrent use.
type tally struct {
	mu      sync.Mutex
	reasons []tableReason
}

type tableReason struct {
	table tokens.ID
	why   string
}

const maxTally = 64

func (t *tally) sweep(table tokens.ID, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.reasons) >= maxTally || t.at(table) >= 0 {
		return
	}
	t.reasons = append(t.reasons, tableReason{table, why})
}

// at needs t.mu.
func (t *tally) at(table tokens.ID) int {
	return slices.IndexFunc(t.reasons, func(r tableReason) bool { return r.table == table })
}

// of tells why the table was swept. One that nobody gave a reason for had too many rows, and
// everything too many tables.
func (t *tally) of(table tokens.ID) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch i := t.at(table); {
	case i >= 0:
		return t.reasons[i].why
	case len(t.reasons) >= maxTally:
		return whyOthers
	case table == tokens.Global:
		return whyManyTables
	default:
		return whyMany
	}
}
