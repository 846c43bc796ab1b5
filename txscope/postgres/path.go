package postgres

import (
	"context"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// path is where names without a schema are looked up. Paths that are the same are one path, so that
// they can be compared.
type path struct {
	schemas []string
	// temporary are the session's own tables and views, by name. Those of a path that has some are not
	// shared.
	temporary map[string]temporary
	first     bool // they hide all others of their names
	veiled    bool // reading some of them may call functions
	lost      bool // nothing of this is known; there may be such
}

// temporary is what is known of a temporary table or view.
type temporary struct {
	plain bool // what is written to it has no consequences
	veils bool // reading it may call functions
}

// lostPath takes the place of a path that could not be asked for on a connection that may have
// temporary views.
var lostPath = &path{lost: true, veiled: true}

// own finds a temporary table or view of the session that a name means.
func (p *path) own(n sqltext.Name) (t temporary, ok bool) {
	if p == nil || n.Qualifier != ownSchema && (n.Qualifier != "" || !p.first) {
		return temporary{}, false
	}
	t, ok = p.temporary[n.Name]
	return t, ok
}

// ownSchema stands for the schema of a session's own tables, whichever that is.
const ownSchema = "pg_temp"

// veils reports whether a statement may run functions that stand in temporary views.
func (p *path) veils(st *sqltext.Statement) bool {
	switch {
	case p == nil || !p.veiled:
		return false
	case p.lost || len(st.Writes) > 0 || !plainCalls(st.Calls):
		return true // what it calls, or sets off, may read them
	}
	return slices.ContainsFunc(st.Reads, func(n sqltext.Name) bool { return p.temporary[n.Name].veils })
}

// paths are those that connections have. There are as many as there are different search_paths in
// use.
type paths struct {
	mu  sync.Mutex
	all []*path
}

// maxPaths bounds what is kept, should an application use a search_path for each of its customers.
const maxPaths = 256

func (ps *paths) of(schemas []string) *path {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.all {
		if slices.Equal(p.schemas, schemas) {
			return p
		}
	}
	p := &path{schemas: schemas}
	if len(ps.all) >= maxPaths {
		ps.all = slices.Delete(ps.all, 0, maxPaths/2)
	}
	ps.all = append(ps.all, p)
	return p
}

// pathQuery asks for the schemas in order, and for the session's own tables. Of these it finds out
// whether writing one calls a function that users have made: all else has no row in pg_depend.
const pathQuery = `SELECT s, NULL, NULL, NULL, current_user FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) WITH ORDINALITY AS x(s, i)
UNION ALL SELECT NULL, c.relname,
	c.relkind = 'r' AND NOT (c.relhastriggers OR c.relhasrules OR c.relhassubclass OR c.relrowsecurity)
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid WHERE a.attrelid = c.oid AND t.typtype = 'd')
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN (
		SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass AS class, oid, adrelid AS relation FROM pg_catalog.pg_attrdef
		UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid, conrelid FROM pg_catalog.pg_constraint
		UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, indexrelid, indrelid FROM pg_catalog.pg_index
	) x ON d.classid = x.class AND d.objid = x.oid WHERE x.relation = c.oid AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass),
	c.relkind = 'v' OR c.relrowsecurity, current_user
FROM pg_catalog.pg_class c WHERE c.relnamespace = pg_catalog.pg_my_temp_schema() AND c.relkind IN ('r', 'p', 'v', 'f')`

// along returns the connection's path, and asks for it if it is not known, or was asked for when the
// schema was another: schemas that are new can have become part of it. It is nil if it cannot be told.
func (s *session) along(ctx context.Context) *path {
	known := s.db.current()
	if s.path != nil && s.pathOf == known || s.status() == failed || s.pg.IsClosed() || s.pg.IsBusy() {
		return s.path
	}
	s.path = nil
	rows, err := s.ask(ctx, pathQuery)
	if err != nil {
		return nil
	}
	found := &path{temporary: make(map[string]temporary)}
	for _, r := range rows {
		s.user = r.text(4)
		switch name := r.text(0); {
		case r[0] == nil:
			one := temporary{plain: r.is(2), veils: r.is(3)}
			found.temporary[r.text(1)] = one
			found.veiled = found.veiled || one.veils
		case strings.HasPrefix(name, "pg_temp_"):
			found.first = len(found.schemas) == 0
		case name != "pg_catalog":
			found.schemas = append(found.schemas, name)
		}
	}
	s.veil(found.veiled)
	switch {
	case len(found.temporary) == 0:
		found = s.db.paths.of(found.schemas)
	case s.status() != idle:
		s.unsettled = true // they may be there until COMMIT only
	}
	s.path, s.pathOf = found, known
	return found
}

// lose takes in that a statement may have changed the path, or what is found along it.
func (s *session) lose(views bool) {
	s.path, s.unsettled = nil, true
	if views || s.veiled {
		s.veil(true)
		s.veiling = true
	}
}

// undo takes in that part of a transaction was rolled back.
func (s *session) undo() {
	if s.unsettled {
		s.path = nil
	}
	if s.veiling {
		s.veil(true)
	}
}

// settled takes in that the transaction is over.
func (s *session) settled() {
	s.undo()
	s.unsettled, s.veiling = false, false
}

// veil notes whether the connection may have temporary views. It outlives the session where the
// connection belongs to a pool of pgx's own.
func (s *session) veil(may bool) {
	if s.veiled = may; may {
		s.pg.CustomData()[veiledKey] = true
	} else {
		delete(s.pg.CustomData(), veiledKey)
	}
}

const veiledKey = "alkey_views" // of pgconn's CustomData

// veiledBefore reports whether an earlier session on the connection has left it with temporary views.
func (s *session) veiledBefore() bool {
	_, before := s.pg.CustomData()[veiledKey]
	return before
}

// resets knows when the connection was taken from database/sql's pool again, if a function of the
// user's runs then: it may set the search_path.
type resets struct {
	last   *time.Time // nil: there is no such function
	seen   time.Time
	always bool // the driver does not tell
}

func resetsOf(conn *stdlib.Conn) resets {
	c := reflect.ValueOf(conn).Elem()
	function, last := c.FieldByName("resetSessionFunc"), c.FieldByName("lastResetSessionTime")
	if !function.IsValid() || function.Kind() != reflect.Func || !last.IsValid() || last.Type() != reflect.TypeFor[time.Time]() {
		return resets{always: true}
	}
	if f := runtime.FuncForPC(function.Pointer()); f != nil && strings.HasPrefix(f.Name(), reflect.TypeFor[stdlib.Conn]().PkgPath()+".") {
		return resets{} // the driver's own, which does nothing
	}
	return resets{last: (*time.Time)(last.Addr().UnsafePointer())}
}

// again reports whether such a function may have run since it was asked last.
func (r *resets) again() bool {
	if r.last == nil || r.last.Equal(r.seen) {
		return r.always
	}
	r.seen = *r.last
	return true
}
