package postgres

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope/internal/catalog"
	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// schema is what is known of a database at one time. It is not changed once made, but for when it
// was found to hold.
type schema struct {
	*catalog.Schema
	generation  atomic.Int64 // of schemas.generation, before it was last found to hold
	fingerprint string
	checked     atomic.Int64 // when it was last found to hold: nanoseconds since schemas began
	edition     int64        // how many schemas of the database were read before it

	byOID  map[uint32]*table
	of     map[*catalog.Table]*table
	others map[uint32]bool // indexes, sequences and the like, which are locked with their tables

	user string // whose privileges were read
	// hidden says that operators, casts, domains or orders call functions that may write: no text shows them.
	hidden  bool
	listens bool // event triggers run with changes of the schema

	commits  map[string]bool // procedures that may commit, and what calls them
	steering map[string]bool // functions that may change the search_path or the role, and views that call them
}

// table is what is known of a table or view beside what follows from it.
type table struct {
	*catalog.Table
	oid      uint32
	all      tokens.ID
	spelled  [2]string // as regclass writes it: bare, and with its schema
	numbers  []int16   // the attribute numbers of its columns
	readable []bool    // columns that the user may read
	wraps    []bool    // columns of a type for which -1 is a large number

	steers      bool     // a trigger or a rule of it may change the search_path or the role
	partitionOf *table   // the root of its partitions
	relatives   []*table // those whose rows are its own, and whose own its rows are: inheritance

	// guarded says that a policy for its rows, when they are read too, calls functions that may write.
	guarded bool
	// policies says that what may be read of it can be less than what may be written.
	policies bool
	// whole tells why its rows are never told apart; "" if they are.
	whole string
}

// root is the table whose rows t's are: rows are told apart by the table that is partitioned.
func (t *table) root() *table {
	if t.partitionOf != nil {
		return t.partitionOf
	}
	return t
}

// guarded reports whether reading one of the tables may write by a policy.
func (s *schema) guarded(names []sqltext.Name) bool {
	for _, t := range s.of {
		if t.guarded && slices.ContainsFunc(names, func(n sqltext.Name) bool { return n.Name == t.Name }) {
			return true
		}
	}
	return false
}

// mayCommit reports whether a procedure may commit, or is not known.
func (s *schema) mayCommit(calls []sqltext.Name) bool {
	for _, n := range calls {
		if s.commits[n.Name] {
			return true
		}
	}
	return len(calls) == 0
}

// readsView reports whether one of the names can be a view's, or of something that is not known.
func (s *schema) readsView(names []sqltext.Name) bool {
	for _, n := range names {
		known := false
		for t := range s.Tables {
			if t.Name == n.Name {
				known = true
				if t.View {
					return true
				}
			}
		}
		if !known && n.Qualifier != "pg_catalog" {
			return true
		}
	}
	return false
}

// schemas keep the newest schema, and what of it is known to hold. They are safe for concurrent use.
type schemas struct {
	generation atomic.Int64 // goes up with every change of the schema that is seen, or suspected
	changing   atomic.Int32 // transactions that have changed the schema, or may have, and are not over

	known   atomic.Pointer[schema]
	failed  atomic.Int64  // when it could not be read: as schema.checked; 0: never
	reading chan struct{} // holds an element while a connection reads
	began   time.Time

	// Of the database, read once.
	home  atomic.Pointer[string] // the default schema
	judge atomic.Int32           // a judgement
}

func (db *schemas) now() int64 { return int64(time.Since(db.began)) + 1 }

// newest is the schema that was read last, whether it holds or not. It is nil if none was read.
func (db *schemas) newest() *schema { return db.known.Load() }

// current is the schema by which rows can be told, or nil.
func (db *schemas) current() *schema {
	s := db.known.Load()
	if s == nil || db.changing.Load() > 0 || s.generation.Load() != db.generation.Load() {
		return nil
	}
	return s
}

// alters notes that a transaction begins to change the schema, or may have changed it and is about to
// commit; altered notes that it is over.
func (db *schemas) alters() { db.changing.Add(1) }

func (db *schemas) altered() {
	db.generation.Add(1)
	db.changing.Add(-1)
}

// suspect has the database asked whether the schema still holds. Until it has answered nobody tells rows
// by it.
func (db *schemas) suspect() { db.generation.Add(1) }

// fresh reports whether there is no need to read the schema, or no use in it.
func (db *database) fresh() bool {
	if db.changing.Load() > 0 {
		return true
	}
	now := db.now()
	if failed := db.failed.Load(); failed != 0 && now-failed < int64(db.maxAge) {
		return true
	}
	s := db.known.Load()
	return s != nil && s.generation.Load() == db.generation.Load() && now-s.checked.Load() < int64(db.maxAge)
}

// What a statement waits for the catalogue at most: a constant, and half of the time that it has left
// itself.
const patience = 2 * time.Second

// silence is how long a server may say nothing while the catalogue is read.
const silence = 30 * time.Second

// impatience is how many times as long as it has waited in vain nobody waits again.
const impatience = 10

// patienceFor is how long a statement waits for the catalogue.
func patienceFor(ctx context.Context) time.Duration {
	limit := patience
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end)/2)
	}
	return limit
}

// refresh reads the schema, or asks whether it still holds, on an idle connection. One connection at
// a time does; the others go on with the old one, and wait only where there is none that holds. If it
// takes too long they go on without one.
func (db *database) refresh(ctx context.Context, s *session) {
	limit := patienceFor(ctx)
	if limit < time.Millisecond {
		return
	}
	select {
	case db.reading <- struct{}{}:
	default:
		if db.current() != nil {
			return
		}
		waiting := time.NewTimer(limit)
		defer waiting.Stop()
		select {
		case db.reading <- struct{}{}:
		case <-waiting.C:
			return
		case <-ctx.Done():
			return
		}
	}
	defer func() { <-db.reading }()
	if db.fresh() {
		return
	}
	if limit = patienceFor(ctx); limit < time.Millisecond {
		return
	}
	// An end of the context costs the connection. So the server keeps the time, of each question; the context
	// is for one that does not answer at all, which the statement would wait for as well.
	given := silence
	if end, ok := ctx.Deadline(); ok {
		given = min(given, time.Until(end))
	}
	reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), given)
	defer cancel()
	until := time.Now().Add(limit)
	err := db.read(withPatience(reading, until), s, limit)
	switch {
	case err == nil:
		db.failed.Store(0)
	case errors.Is(err, errImpatient), errors.Is(err, context.DeadlineExceeded), hasCode(err, codeQueryCanceled):
		// As if it had failed longer ago.
		db.failed.Store(max(1, db.now()-int64(db.maxAge)+min(int64(db.maxAge), impatience*int64(limit))))
		db.warn("PostgreSQL's catalogue takes too long to read: meanwhile whole tables are changed where rows would do, and reading costs a transaction", err)
	case ctx.Err() != nil || s.pg.IsClosed():
		// The statement that waits will find out.
	default:
		db.failed.Store(db.now())
		db.warn("PostgreSQL's catalogue cannot be read: whole tables are changed where rows would do, and reading costs a transaction; let the database's user read pg_catalog", err)
	}
}

// read brings what is known up to date.
func (db *database) read(ctx context.Context, s *session, limit time.Duration) error {
	if err := db.probe(ctx, s); err != nil {
		return err
	}
	home, user, err := ambience(ctx, s)
	if err != nil {
		return err
	}
	db.home.CompareAndSwap(nil, &home)
	generation := db.generation.Load()
	old := db.known.Load()
	began := db.now()
	var fresh *schema
	err = s.catalogue(ctx, func() error {
		if err := s.send(ctx, "SET LOCAL statement_timeout = "+strconv.FormatInt(max(1, limit.Milliseconds()), 10)); err != nil {
			return err
		}
		now, err := fingerprint(ctx, s)
		if err != nil {
			return err
		}
		if old != nil && now == old.fingerprint {
			return nil
		}
		fresh, err = load(ctx, s, db, user, now)
		return err
	})
	switch {
	case err != nil:
		// What is not known to hold does not count.
		db.generation.Add(1)
		return err
	case fresh == nil:
		old.generation.Store(generation)
		old.checked.Store(began)
		return nil
	}
	if old != nil {
		fresh.edition = old.edition + 1
	}
	fresh.generation.Store(generation)
	fresh.checked.Store(began)
	db.known.Store(fresh)
	db.plans.Clear()
	return nil
}

// identifier writes the table part of identifiers: tables of the default schema bare.
func (db *database) identifier(n sqltext.Name) string {
	if home := db.home.Load(); n.Qualifier == "" || home != nil && n.Qualifier == *home || home == nil && n.Qualifier == defaultHome {
		return n.Name
	}
	return n.Qualifier + "." + n.Name
}

const defaultHome = "public"
