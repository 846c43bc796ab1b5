package datalayers

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// fixture is a database with some authors and their books. Every step finds the same rows.
type fixture struct {
	database
	dsn   string
	store *tokens.Store
	db    *sql.DB // wrapped: all that a layer gets
	bare  *sql.DB // another way to the same data
}

// onEach runs a test on every kind of database.
func onEach(t *testing.T, test func(t *testing.T, f *fixture)) { onSome(t, databases, test) }

func onSome(t *testing.T, databases []database, test func(t *testing.T, f *fixture)) {
	for _, d := range databases {
		t.Run(d.name+d.mode, func(t *testing.T) {
			f := &fixture{database: d, dsn: d.dsn(t), store: tokens.NewMemory()}
			f.db, f.bare = sql.OpenDB(f.wrap(t)), sql.OpenDB(f.bareConnector(t))
			t.Cleanup(func() {
				must(t, f.db.Close())
				must(t, f.bare.Close())
				must(t, f.store.Close())
			})
			for _, text := range d.schema {
				exec(t, f.bare, text)
			}
			test(t, f)
		})
	}
}

func (f *fixture) bareConnector(t *testing.T) driver.Connector {
	t.Helper()
	c, err := f.connector(f.dsn)
	must(t, err)
	return c
}

func (f *fixture) wrap(t *testing.T) driver.Connector {
	t.Helper()
	c, err := txscope.Wrap(f.bareConnector(t), f.store)
	must(t, err)
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func exec(t *testing.T, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, query string) {
	t.Helper()
	if _, err := db.ExecContext(context.Background(), query); err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
}

// Two documents, and the next.
var (
	documentA = uuid.MustParse("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
	documentB = uuid.MustParse("f47ac10b-58cc-4372-a567-0e02b2c3d479")
	documentC = uuid.MustParse("00112233-4455-6677-8899-aabbccddeeff")
)

// seed is what is there before every step. The next free key of authors and books is 4, of tags 3,
// of audits 1.
var seed = []string{
	`INSERT INTO authors (id, name, visits) VALUES (1, 'Ann', 10), (2, 'Bob', 20), (3, 'Cyd', 30)`,
	`INSERT INTO books (id, author_id, title) VALUES (1, 1, 'A'), (2, 1, 'B'), (3, 2, 'C')`,
	`INSERT INTO tags (id, name) VALUES (1, 'new'), (2, 'old')`,
	`INSERT INTO book_tags (book_id, tag_id) VALUES (1, 1), (2, 2)`,
	`INSERT INTO documents (id, title) VALUES ('` + documentA.String() + `', 'A'), ('` + documentB.String() + `', 'B')`,
}

// keys are the primary keys of the tables.
var keys = map[string][]string{
	"authors":   {"id"},
	"books":     {"id"},
	"tags":      {"id"},
	"book_tags": {"book_id", "tag_id"},
	"audits":    {"id"},
	"documents": {"id"},
}

// everything lists what there is, and what a step may come to make.
func everything() []tokens.ID {
	ids := []tokens.ID{tokens.Global}
	for table := range maps.Keys(keys) {
		ids = append(ids, tokens.Table(table))
		for i := 1; i <= 6 && len(keys[table]) == 1 && table != "documents"; i++ {
			ids = append(ids, tokens.Row(table, i))
		}
	}
	ids = append(ids, author(99)) // whom there never is
	for book := 1; book <= 4; book++ {
		for tag := 1; tag <= 3; tag++ {
			ids = append(ids, tokens.Row("book_tags", book, tag))
		}
	}
	return append(ids, tokens.Row("documents", documentA), tokens.Row("documents", documentB), tokens.Row("documents", documentC))
}

// reset brings the rows of the seed back, without alkey.
func (f *fixture) reset(t *testing.T) {
	t.Helper()
	tx, err := f.bare.BeginTx(t.Context(), nil)
	must(t, err)
	for _, text := range slices.Concat(f.empty, seed, f.counters) {
		exec(t, tx, text)
	}
	must(t, tx.Commit())
}

// contents are the rows of all tables.
func (f *fixture) contents(t *testing.T) map[tokens.ID]string {
	t.Helper()
	rows := make(map[tokens.ID]string)
	for table, key := range keys {
		f.read(t, table, key, rows)
	}
	return rows
}

func (f *fixture) read(t *testing.T, table string, key []string, into map[tokens.ID]string) {
	t.Helper()
	found, err := f.bare.QueryContext(t.Context(), "SELECT * FROM "+table)
	must(t, err)
	defer func() { must(t, found.Close()) }()
	columns, err := found.Columns()
	must(t, err)
	for found.Next() {
		values := make([]sql.NullString, len(columns))
		dest := make([]any, len(columns))
		for i := range dest {
			dest[i] = &values[i]
		}
		must(t, found.Scan(dest...))
		var parts []any
		for _, column := range key {
			parts = append(parts, values[slices.Index(columns, column)].String)
		}
		into[tokens.Row(table, parts...)] = fmt.Sprint(values)
	}
	must(t, found.Err())
}

func (f *fixture) tokens(t *testing.T, ids []tokens.ID) []tokens.Token {
	t.Helper()
	found, err := f.store.Read(t.Context(), ids)
	must(t, err)
	for i, token := range found {
		if token.Fenced {
			t.Fatalf("%s is fenced, and nothing is under way", ids[i])
		}
	}
	return found
}

// step is something that a program does with its data layer.
type step struct {
	name string
	do   func(ctx context.Context) error
	want want
}

// want says what a step changes.
type want struct {
	rows   []any             // exactly these, and their tables
	tables []string          // all of their keys
	most   map[string]want   // what may change, on databases where the capture is less exact here
	unable map[string]string // why the layer cannot do it, by database
}

// changes lists the rows that a step changes, as identifiers or as the layer's models. They are
// looked at when the step is over, and then a new row's model has its key.
func changes(rows ...any) want { return want{rows: rows} }

// sweeps lists tables of which a step changes all keys.
func sweeps(tables ...string) want { return want{tables: tables} }

// nothing is what reading changes, and what is rolled back.
var nothing = changes()

// atMostOn says what may change on a database whose capture is less exact here: too much costs hits
// of the cache, and is no fault.
func (w want) atMostOn(database string, most want) want {
	all := map[string]want{database: most}
	maps.Copy(all, w.most)
	w.most = all
	return w
}

// notOn says why the layer cannot do it on a database, with alkey or without: it is not asked to.
func (w want) notOn(database, reason string) want {
	w.unable = map[string]string{database: reason}
	return w
}

func author(id int64) tokens.ID        { return tokens.Row("authors", id) }
func book(id int64) tokens.ID          { return tokens.Row("books", id) }
func tag(id int64) tokens.ID           { return tokens.Row("tags", id) }
func tagged(book, tag int64) tokens.ID { return tokens.Row("book_tags", book, tag) }
func audit(id int64) tokens.ID         { return tokens.Row("audits", id) }
func document(id uuid.UUID) tokens.ID  { return tokens.Row("documents", id) }

// keysOf are all identifiers whose keys change.
func (w want) keysOf(t *testing.T, all []tokens.ID) map[tokens.ID]bool {
	t.Helper()
	changed := make(map[tokens.ID]bool)
	for _, row := range w.rows {
		id, ok := tokens.Identify(row)
		if !ok || id.IsTable() {
			t.Fatalf("%#v names no row", row)
		}
		if !slices.Contains(all, id) {
			t.Fatalf("nobody looks at %s", id)
		}
		changed[id] = true
	}
	for _, id := range all {
		if slices.Contains(w.tables, id.Table) {
			changed[id] = true
		}
	}
	for id := range maps.Clone(changed) {
		changed[tokens.Table(id.Table)] = true
		changed[tokens.Global] = true
	}
	return changed
}

// run does the steps, each with the rows of the seed, and compares all keys before and after.
func (f *fixture) run(t *testing.T, steps []step) {
	for _, s := range steps {
		if s.want.unable[f.name] != "" {
			continue
		}
		t.Run(strings.ReplaceAll(s.name, " ", "_"), func(t *testing.T) {
			f.reset(t)
			all := everything()
			rows, was := f.contents(t), f.tokens(t, all)
			if err := s.do(t.Context()); err != nil {
				t.Fatal(err)
			}
			now, is := f.contents(t), f.tokens(t, all)

			want := s.want.keysOf(t, all)
			most := want
			if w, less := s.want.most[f.name]; less {
				most = w.keysOf(t, all)
			}
			var needless, missing []tokens.ID
			for i, id := range all {
				switch changed := was[i] != is[i]; {
				case rows[id] != now[id] && !changed:
					t.Errorf("STALE: %s was %q and is %q, and its key is what it was", id, rows[id], now[id])
				case changed && !most[id]:
					needless = append(needless, id)
				case !changed && want[id]:
					missing = append(missing, id)
				}
			}
			if len(needless)+len(missing) > 0 {
				t.Errorf("other keys than expected have changed: too many %s, too few %s", needless, missing)
			}
			for id := range now {
				if !slices.Contains(all, id) {
					t.Errorf("%s was made, and nobody looks at it", id)
				}
			}
		})
	}
}
