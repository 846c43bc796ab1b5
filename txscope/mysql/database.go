package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// database is what connections know together: the schema, and what texts mean by it.
type database struct {
	txscope.Setup
	base  atomic.Pointer[string] // the database whose tables are written bare in identifiers
	texts *sqltext.Cache[*entry]

	known      atomic.Pointer[knowledge]
	generation atomic.Int64 // goes up with every change of the schema that was seen
	changing   atomic.Int32 // statements under way that may change it

	start   time.Time
	reading chan struct{} // holds a value while a connection reads the schema

	mu       sync.Mutex
	failed   time.Duration // since start, when the schema could not be read last; 0: never
	failedAt int64         // and at which generation
	suspects suspects
}

// suspects are the tables and views that changes of the schema have named since it was read.
type suspects struct {
	all   bool            // they can be any
	bare  bool            // only because the bare connection was used
	names map[string]bool // folded, without their database
}

// maxSuspects bounds how many are told apart.
const maxSuspects = 1000

// entry is what is kept of a text: what it says, and what that means as the schema was known last.
type entry struct {
	text  string
	says  *sqltext.Text
	plans [2]atomic.Pointer[plan] // for as many default databases
}

func newDatabase(setup txscope.Setup) *database {
	db := &database{Setup: setup, start: time.Now(), reading: make(chan struct{}, 1)}
	db.texts = sqltext.NewCache(sqltext.DefaultEntries, sqltext.DefaultBytes, func(text string) *entry {
		return &entry{text: text, says: sqltext.Parse(sqltext.MySQL, text)}
	})
	return db
}

// nameBase gives the database that the first connection begins in the bare names.
func (db *database) nameBase(name string) { db.base.CompareAndSwap(nil, &name) }

// plan returns what a text means for names in a database.
func (db *database) plan(text, path string) *plan {
	e := db.texts.Get(text)
	at := &e.plans[0]
	for i := range e.plans {
		p := e.plans[i].Load()
		if p != nil && p.path != path {
			continue
		}
		if p != nil && db.current(p) {
			return p
		}
		at = &e.plans[i]
		break
	}
	p := makePlan(db, e.says, e.text, path, db.now())
	at.Store(p)
	return p
}

// now returns what is known of the schema, nil if that is nothing certain.
func (db *database) now() *knowledge {
	k := db.known.Load()
	if k == nil || k.generation != db.generation.Load() || db.changing.Load() > 0 {
		return nil
	}
	return k
}

// current reports whether a plan still counts. One that was made without the schema does not: what is
// suspect can be more by now.
func (db *database) current(p *plan) bool { return p.known != nil && p.known == db.now() }

// outdated reports whether the schema has changed since a plan was made that writes by it.
func (db *database) outdated(p *plan) bool {
	return !p.quiet && !p.ddl && p.known != nil && (p.known.generation != db.generation.Load() || db.changing.Load() > 0)
}

// altering and altered stand around what can change the schema. p is nil if nothing is known of that.
func (db *database) altering(p *plan) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.changing.Add(1)
	sus := &db.suspects
	if p == nil || p.commits == maybe || len(sus.names)+len(p.altered) > maxSuspects {
		*sus = suspects{all: true, bare: p == nil && (!sus.all && len(sus.names) == 0 || sus.bare)}
	} else if sus.bare {
		sus.bare = false
	}
	if sus.all {
		return
	}
	if sus.names == nil {
		sus.names = make(map[string]bool)
	}
	for _, n := range p.altered {
		sus.names[strings.ToLower(n.Name)] = true
	}
}

func (db *database) altered() {
	db.generation.Add(1)
	db.changing.Add(-1)
}

// showsMore reports whether one of the names, while the schema is not known, may be that of a view, which
// can call functions. What was a table when the schema was read last is none, unless a change has named it.
func (db *database) showsMore(names []sqltext.Name) bool {
	if len(names) == 0 {
		return false
	}
	k := db.known.Load()
	db.mu.Lock()
	defer db.mu.Unlock()
	if k == nil || db.suspects.all {
		return true
	}
	return slices.ContainsFunc(names, func(n sqltext.Name) bool {
		name := strings.ToLower(n.Name)
		return k.views[name] || db.suspects.names[name]
	})
}

// mayLast reports whether, while the schema is not known, there can be tables without transactions. That
// the bare connection was used is no reason to think so.
func (db *database) mayLast() bool {
	k := db.known.Load()
	db.mu.Lock()
	defer db.mu.Unlock()
	return k == nil || k.lasts || !db.suspects.bare && (db.suspects.all || len(db.suspects.names) > 0)
}

// id names a table as identifiers do.
func (db *database) id(n sqltext.Name, path string) tokens.ID {
	schema := n.Qualifier
	if schema == "" {
		schema = path
	}
	if schema == unknownPath {
		return tokens.Global
	}
	return tokens.Table(db.tableName(schema, n.Name))
}

func (db *database) tableName(schema, name string) string {
	if base := *db.base.Load(); strings.EqualFold(schema, base) {
		return name
	}
	return schema + "." + name
}

// fresh reports whether what is known of the schema counts, and is not old.
func (db *database) fresh() bool {
	k := db.now()
	return k != nil && time.Since(db.start)-time.Duration(k.checked.Load()) < db.MaxSchemaAge
}

// refresh reads the schema if what is known of it does not count any more, or is old. Of several
// connections that find that, one reads; where nothing certain is known, the others wait for it.
func (db *database) refresh(ctx context.Context, s *session) {
	generation := db.generation.Load()
	k := db.known.Load()
	usable := k != nil && k.generation == generation
	if db.fresh() || db.changing.Load() > 0 {
		return
	}
	db.mu.Lock()
	wait := db.failed > 0 && db.failedAt == generation && time.Since(db.start)-db.failed < min(db.MaxSchemaAge, retryAfter)
	db.mu.Unlock()
	if wait {
		return
	}
	if usable {
		select {
		case db.reading <- struct{}{}:
		default:
			return
		}
	} else {
		select {
		case db.reading <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
	defer func() { <-db.reading }()
	if later := db.known.Load(); later != nil && later != k && later.generation == db.generation.Load() {
		return // it was read while we waited
	}
	db.read(ctx, s)
}

// retryAfter is how long a schema that cannot be read is left alone.
const retryAfter = 5 * time.Second

// read reads the schema. It is called with db.reading held.
func (db *database) read(ctx context.Context, s *session) {
	generation := db.generation.Load()
	at := time.Since(db.start)
	k, err := readKnowledge(ctx, s)
	switch {
	case err == nil:
		k.generation = generation
		k.checked.Store(int64(at))
		if old := db.known.Load(); old != nil && old.generation == generation && old.digest == k.digest {
			old.checked.Store(int64(at))
			return
		}
		db.known.Store(k)
		db.mu.Lock()
		if db.now() == k {
			db.suspects = suspects{} // nothing has changed since
		}
		db.mu.Unlock()
	case ctx.Err() != nil || s.wire.dead():
		// The next one tries again.
	default:
		db.Warn("MySQL's schema cannot be read: every statement that may write changes everything until it can", err)
		db.mu.Lock()
		db.failed, db.failedAt = max(at, 1), generation
		db.mu.Unlock()
		db.known.Store(nil)
	}
}

// meet reads the schema for the sake of tables that it does not know, once for each of them. It
// reports whether something has changed by that.
func (db *database) meet(ctx context.Context, s *session, p *plan) bool {
	if p.known == nil || !s.meets(p.strangers) || !p.known.firstMet(p.strangers) {
		return false
	}
	select {
	case db.reading <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-db.reading }()
	if db.now() == p.known {
		db.read(ctx, s)
	}
	return db.now() != p.known
}

// refused reports whether an error is a lack of privileges.
func refused(err error) bool {
	var e *mysql.MySQLError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Number {
	case 1044, 1142, 1143, 1227, 1370:
		return true
	}
	return false
}

// query runs a query of the session's own, and calls each for every row, whose bytes are valid during
// the call only.
func (s *session) query(ctx context.Context, query string, args []driver.NamedValue, each func(row []driver.Value) error) error {
	rows, err := s.rows(ctx, query, args)
	if err != nil {
		s.trust(err)
		return err
	}
	dest := make([]driver.Value, len(rows.Columns()))
	for err == nil {
		if err = rows.Next(dest); err == nil {
			err = each(dest)
		}
	}
	if isEOF(err) {
		err = nil
	}
	if cerr := rows.Close(); err == nil {
		err = cerr
	}
	s.trust(err)
	return err
}
