package postgres

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// path is where names without a schema are looked up. Paths that are the same are one path, so that
// they can be compared.
type path struct {
	schemas   []string
	temporary map[string]bool // the session's own tables, which hide others of their names
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

// along returns the connection's path, and asks for it if it is not known. It is nil if it cannot be.
func (s *session) along(ctx context.Context) *path {
	if s.path != nil || s.status() == failed || s.pg.IsClosed() || s.pg.IsBusy() {
		return s.path
	}
	rows, err := s.ask(ctx, `SELECT s, NULL, current_user FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) WITH ORDINALITY AS x(s, i)
UNION ALL SELECT NULL, relname, current_user FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema() AND relkind IN ('r', 'p', 'v', 'f')`)
	if err != nil {
		return nil
	}
	var schemas []string
	temporary := make(map[string]bool)
	for _, r := range rows {
		s.user = r.text(2)
		switch {
		case r[0] == nil:
			temporary[r.text(1)] = true
		case !strings.HasPrefix(r.text(0), "pg_temp_") && r.text(0) != "pg_catalog":
			schemas = append(schemas, r.text(0))
		}
	}
	s.path = s.db.paths.of(schemas)
	if len(temporary) > 0 {
		s.path = &path{schemas: schemas, temporary: temporary}
	}
	return s.path
}
