package alkey_test

import (
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/alkey-go/alkey"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	_ "github.com/alkey-go/alkey/txscope/mysql"
	_ "github.com/alkey-go/alkey/txscope/postgres"
	_ "github.com/alkey-go/alkey/txscope/sqlite"
)

// The page on captures has a table of what each database's capture tells of each kind of statement:
// the row, the whole table, or everything. Each of its cells is what is found here. A cell of the
// table beyond what it says would be a hit lost, one below it a stale page.
func TestCapturePage(t *testing.T) {
	compareCaptures(t, "| statement |", capturedStatements)
}

// So it does of the parents that a write to their children touches.
func TestCapturePageTouch(t *testing.T) {
	compareCaptures(t, "| write to a child |", touchingStatements, txscope.Touch())
}

func compareCaptures(t *testing.T, begin string, statements []capturedStatement, opts ...txscope.Option) {
	page := readCaptureTable(t, begin)
	for _, d := range capturedDatabases {
		t.Run(d.name, func(t *testing.T) {
			f := newCaptured(t, d, opts...)
			for _, s := range statements {
				texts, own := s.on[d.name]
				if !own {
					texts = s.on[""]
				}
				want := page[s.kind][d.name]
				switch {
				case want == "":
					t.Errorf("the page has no row %q", s.kind)
				case texts == nil && want != "–":
					t.Errorf("the page says %q of %q, and this test has no statement for it", want, s.kind)
				case texts != nil:
					if got := f.grade(t, s.table, texts, s.touches); got != want {
						t.Errorf("%s: the page says %q, and it is %q:\n%s\n%s", s.kind, want, got, strings.Join(texts, "\n"), f.why(t))
					}
				}
			}
		})
	}
	if len(page) != len(statements) {
		t.Errorf("the page has %d rows, and this test %d", len(page), len(statements))
	}
}

// Every reason that the page explains is one that a capture gives.
func TestCapturePageReasons(t *testing.T) {
	var sources strings.Builder
	err := filepath.WalkDir("txscope", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		sources.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	reasons := 0
	for cell := range readCaptureTable(t, "| reason |") {
		for _, reason := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(cell, -1) {
			reasons++
			if !strings.Contains(sources.String(), strconv.Quote(reason[1])) {
				t.Errorf("no capture gives the reason %q", reason[1])
			}
		}
	}
	if reasons < 10 {
		t.Errorf("only %d reasons found", reasons)
	}
}

// readCaptureTable reads the page's table that begins so: by the first cell of a row and by the name of
// a column.
func readCaptureTable(t *testing.T, begin string) map[string]map[string]string {
	t.Helper()
	text, err := os.ReadFile("docs/capture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), begin)
	if !found {
		t.Fatalf("docs/capture.md has no table %q", begin)
	}
	lines := strings.Split(rest, "\n")
	cells := func(line string) []string {
		parts := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		return parts
	}
	names := cells(lines[0])
	page := make(map[string]map[string]string)
	for _, line := range lines[2:] {
		if !strings.HasPrefix(line, "|") {
			break
		}
		row := cells(line)
		page[row[0]] = make(map[string]string)
		for i, name := range names {
			page[row[0]][name] = row[i+1]
		}
	}
	return page
}

// captured is a database with a few rows in tables of every kind.
type captured struct {
	capturedDatabase
	store *tokens.Store
	db    *sqlx.DB
	bare  *sql.DB
}

type capturedDatabase struct {
	name, driver string
	dsn          func(t *testing.T) string
	bare         string            // added to the dsn for the bare database
	types        *strings.Replacer // of the schema's and the statements' names for types
	more         []string          // of the schema
}

var capturedDatabases = []capturedDatabase{
	{
		name:   "SQLite",
		driver: "sqlite",
		dsn: func(t *testing.T) string {
			return "file:" + filepath.Join(t.TempDir(), "app.db") + "?_journal_mode=WAL&_busy_timeout=5000&_foreign_keys=1"
		},
		types: strings.NewReplacer("SERIAL", "INTEGER", "STRING", "TEXT", "UUID", "TEXT"),
		more: []string{
			`CREATE TRIGGER audit AFTER UPDATE ON audited BEGIN INSERT INTO journal (v) VALUES (NEW.v); END`,
			`CREATE TRIGGER through INSTEAD OF UPDATE ON recent BEGIN UPDATE notes SET v = NEW.v WHERE id = OLD.id; END`,
		},
	},
	{
		name:   "PostgreSQL",
		driver: "pgx",
		dsn:    func(t *testing.T) string { return testserver.Postgres(t).Database(t) },
		bare:   "&default_query_exec_mode=exec", // no prepared SELECT * outlives a new column
		types:  strings.NewReplacer("SERIAL", "INTEGER GENERATED BY DEFAULT AS IDENTITY", "STRING", "TEXT", "DOUBLE", "DOUBLE PRECISION"),
		more: []string{
			`CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO journal (v) VALUES (NEW.v); RETURN NULL; END $$`,
			`CREATE TRIGGER audit AFTER UPDATE ON audited FOR EACH ROW EXECUTE FUNCTION note()`,
			`CREATE TABLE parted (id INTEGER PRIMARY KEY, v INTEGER) PARTITION BY HASH (id)`,
			`CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0)`,
			`CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1)`,
			`CREATE FUNCTION visit() RETURNS INTEGER LANGUAGE sql AS $$ UPDATE notes SET v = v + 1 WHERE id = 1 RETURNING v $$`,
			`CREATE PROCEDURE visit_all() LANGUAGE sql AS $$ UPDATE notes SET v = v + 1 $$`,
			`CREATE PROCEDURE visit_now() LANGUAGE plpgsql AS $$ BEGIN UPDATE notes SET v = v + 1; COMMIT; END $$`,
		},
	},
	{
		name:   "MariaDB",
		driver: "mysql",
		dsn:    func(t *testing.T) string { return testserver.MariaDB(t).Database(t) },
		types:  strings.NewReplacer("SERIAL", "INTEGER AUTO_INCREMENT", "STRING", "VARCHAR(40)"),
		more: []string{
			`CREATE TRIGGER audit AFTER UPDATE ON audited FOR EACH ROW INSERT INTO journal (v) VALUES (NEW.v)`,
			`CREATE TABLE parted (id INTEGER PRIMARY KEY, v INTEGER) PARTITION BY HASH (id) PARTITIONS 2`,
			`CREATE FUNCTION visit() RETURNS INTEGER MODIFIES SQL DATA BEGIN UPDATE notes SET v = v + 1 WHERE id = 1; RETURN 1; END`,
			`CREATE PROCEDURE visit_all() UPDATE notes SET v = v + 1`,
			`CREATE PROCEDURE visit_now() BEGIN UPDATE notes SET v = v + 1; COMMIT; END`,
			`CREATE TABLE lasting (id INTEGER PRIMARY KEY, v INTEGER) ENGINE = MyISAM`,
		},
	},
}

// keysOfCaptured are the tables that are compared, and their keys.
var keysOfCaptured = map[string][]string{
	"notes": {"id"}, "numbered": {"id"}, "others": {"id"}, "products": {"id"}, "parents": {"id"}, "children": {"id"}, "orphans": {"id"},
	"audited": {"id"}, "journal": {"id"}, "tags": {"tag"}, "devices": {"id"}, "members": {"grp", "who"}, "plain": nil,
	"doubles": {"id"}, "parted": {"id"}, "lasting": {"id"}, "later": {"id"},
}

var schemaOfCaptured = []string{
	`CREATE TABLE notes (id INTEGER PRIMARY KEY, v INTEGER)`,
	`CREATE TABLE numbered (id SERIAL PRIMARY KEY, v INTEGER)`,
	`CREATE TABLE others (id INTEGER PRIMARY KEY, v INTEGER)`,
	`CREATE TABLE products (id INTEGER PRIMARY KEY, sku INTEGER UNIQUE, v INTEGER)`,
	`CREATE TABLE parents (id INTEGER PRIMARY KEY, v INTEGER)`,
	`CREATE TABLE children (id INTEGER PRIMARY KEY, parent_id INTEGER, v INTEGER, FOREIGN KEY (parent_id) REFERENCES parents (id) ON DELETE CASCADE)`,
	`CREATE TABLE orphans (id INTEGER PRIMARY KEY, parent_id INTEGER, v INTEGER, FOREIGN KEY (parent_id) REFERENCES parents (id) ON DELETE SET NULL)`,
	`CREATE TABLE audited (id INTEGER PRIMARY KEY, v INTEGER)`,
	`CREATE TABLE journal (id SERIAL PRIMARY KEY, v INTEGER)`,
	`CREATE TABLE tags (tag STRING PRIMARY KEY, v INTEGER)`,
	`CREATE TABLE devices (id UUID PRIMARY KEY, v INTEGER)`,
	`CREATE TABLE members (grp INTEGER, who STRING, v INTEGER, PRIMARY KEY (grp, who))`,
	`CREATE TABLE plain (id INTEGER, v INTEGER)`,
	`CREATE TABLE doubles (id DOUBLE PRIMARY KEY, v INTEGER)`,
	`CREATE TABLE later (id INTEGER PRIMARY KEY, v INTEGER)`,
	`CREATE TABLE many (v INTEGER)`,
	`INSERT INTO many (v) VALUES (1)` + strings.Repeat(`, (1)`, 32), // 33 × 33 are more than 1,000
	`CREATE VIEW recent AS SELECT id, v FROM notes WHERE id > 0`,
}

func newCaptured(t *testing.T, d capturedDatabase, opts ...txscope.Option) *captured {
	t.Helper()
	dsn := d.dsn(t)
	f := &captured{capturedDatabase: d, store: tokens.NewMemory()}
	var err error
	if f.bare, err = sql.Open(d.driver, dsn+d.bare); err != nil {
		t.Fatal(err)
	}
	if f.db, err = alkey.Open(d.driver, dsn, f.store, opts...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range []interface{ Close() error }{f.db, f.bare, f.store} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	for _, text := range slices.Concat(schemaOfCaptured, d.more) {
		f.run(t, f.types.Replace(text))
	}
	return f
}

// run runs a text on the bare database.
func (f *captured) run(t *testing.T, text string) {
	t.Helper()
	if _, err := f.bare.Exec(text); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}

// tables are those that are there, in the order of their names.
func (f *captured) tables(t *testing.T) []string {
	t.Helper()
	var there []string
	for name := range keysOfCaptured {
		rows, err := f.bare.Query("SELECT 1 FROM " + name + " WHERE 1 = 0")
		if err == nil {
			rows.Close()
			there = append(there, name)
		}
	}
	slices.Sort(there)
	return there
}

// fill gives every table the same three rows again.
func (f *captured) fill(t *testing.T) {
	t.Helper()
	there := f.tables(t) // children before their parents
	for _, name := range there {
		f.run(t, "DELETE FROM "+name)
	}
	slices.Reverse(there)
	for _, name := range there {
		columns, values := "id, v", func(i int) string { return fmt.Sprintf("%d, %d", i, 10*i) }
		switch name {
		case "tags":
			columns, values = "tag, v", func(i int) string { return fmt.Sprintf("'%c', %d", 'a'+i, i) }
		case "members":
			columns, values = "grp, who, v", func(i int) string { return fmt.Sprintf("%d, 'x', %d", i, i) }
		case "devices":
			values = func(i int) string { return fmt.Sprintf("'6ba7b810-9dad-11d1-80b4-00c04fd430c%d', %d", i, i) }
		case "children", "orphans":
			columns, values = "id, parent_id, v", func(i int) string { return fmt.Sprintf("%d, %d, %d", i, i, i) }
		case "products":
			columns, values = "id, sku, v", func(i int) string { return fmt.Sprintf("%d, %d, %d", i, i, i) }
		case "numbered", "journal":
			values = func(i int) string { return fmt.Sprintf("%d, %d", 100_000+i, i) } // beyond what is numbered here
		}
		f.run(t, fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s), (%s), (%s)", name, columns, values(1), values(2), values(3)))
	}
}

// rows reads all rows.
func (f *captured) rows(t *testing.T) map[tokens.ID]string {
	t.Helper()
	all := make(map[tokens.ID]string)
	for _, name := range f.tables(t) {
		key := keysOfCaptured[name]
		rows, err := f.bare.Query("SELECT * FROM " + name)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values, dest := make([]sql.NullString, len(columns)), make([]any, len(columns))
			for i := range dest {
				dest[i] = &values[i]
			}
			if err := rows.Scan(dest...); err != nil {
				t.Fatal(err)
			}
			var parts []any
			for _, column := range key {
				parts = append(parts, values[slices.Index(columns, column)].String)
			}
			if parts != nil {
				all[tokens.Row(name, parts...)] = fmt.Sprint(values)
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// grade runs the texts, one after the other, and tells what they have changed the keys of: rows of
// the table, the table, or everything. No row may have changed whose key has not, and what is touched
// must have another key too.
func (f *captured) grade(t *testing.T, table string, texts []string, touched []tokens.ID) string {
	t.Helper()
	f.fill(t)
	ids := []tokens.ID{tokens.Global}
	for name := range keysOfCaptured {
		ids = append(ids, tokens.Table(name))
		for i := 1; i <= 9; i++ {
			ids = append(ids, tokens.Row(name, i))
		}
	}
	before := f.rows(t)
	for id := range before {
		ids = append(ids, id)
	}
	was, err := f.store.Read(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		text = f.types.Replace(text)
		if err := execArgs(t.Context(), f.db, text); err != nil {
			t.Errorf("%v\n%s", err, text)
			return "an error"
		}
	}
	after := f.rows(t)
	is, err := f.store.Read(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	tables, needless, foreign := false, false, false
	for i, id := range ids {
		due := before[id] != after[id] || slices.Contains(touched, id)
		switch changed := was[i] != is[i]; {
		case !changed && due:
			t.Errorf("STALE: %s was %q and is %q, and its key is the same\n%s", id, before[id], after[id], strings.Join(texts, "\n"))
		case changed && id.Table == table:
			tables = true
			needless = needless || !id.IsTable() && !due
		case changed && id == tokens.Row("others", 9):
			foreign = true
		}
	}
	switch {
	case foreign:
		return "everything"
	case needless:
		return "table"
	case tables:
		return "row"
	default:
		return "nothing"
	}
}

// why tells the reasons of all that was swept so far.
func (f *captured) why(t *testing.T) string {
	t.Helper()
	stats, err := txscope.Stats(t.Context(), f.db)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("sweeps so far: %v, problems: %v", stats.Sweeps, stats.Problems)
}

// capturedStatement is a kind of statement: a row of the page.
type capturedStatement struct {
	kind  string
	table string              // that is looked at
	on    map[string][]string // the texts by database; "" for all. Arguments follow " -- "

	touches []tokens.ID // the rows whose keys change for a child's sake
}

func on(texts ...string) map[string][]string { return map[string][]string{"": texts} }

var capturedStatements = []capturedStatement{
	{"`INSERT … VALUES`", "notes", on(`INSERT INTO notes (id, v) VALUES (?, 1), (?, 1) -- 7, 8`), nil},
	{"`INSERT` without the key, which the database makes", "numbered", on(`INSERT INTO numbered (v) VALUES (1)`), nil},
	{"`INSERT … SELECT`", "notes", on(`INSERT INTO notes (id, v) SELECT id + 6, v FROM products`), nil},
	{"`UPDATE`, `DELETE` by the key, an integer", "notes", on(`UPDATE notes SET v = 2 WHERE id = ? -- 1`, `DELETE FROM notes WHERE id IN (1, 2)`), nil},
	{"`UPDATE` by any other condition", "notes", on(`UPDATE notes SET v = v + 1 WHERE v > ? -- 10`), nil},
	{"`UPDATE` by a subquery, the clock, or with `LIMIT`", "notes", map[string][]string{
		"":        {`UPDATE notes SET v = v + 1 WHERE id IN (SELECT id FROM products WHERE sku = ?) -- 2`},
		"MariaDB": {`UPDATE notes SET v = v + 1 ORDER BY id LIMIT 1`},
	}, nil},
	{"`DELETE` by any other condition", "notes", on(`DELETE FROM notes WHERE v > ? -- 10`), nil},
	{"`UPDATE` of the key itself", "notes", on(`UPDATE notes SET id = 9 WHERE id = 1`), nil},
	{"`UPDATE` by a key that is text", "tags", on(`UPDATE tags SET v = 9 WHERE tag = ? -- 'c'`), nil},
	{"`UPDATE` by a UUID", "devices", map[string][]string{
		"":       {`UPDATE devices SET v = 9 WHERE id = ? -- '6BA7B810-9DAD-11D1-80B4-00C04FD430C1'`},
		"SQLite": {`UPDATE devices SET v = 9 WHERE id = ? -- '6ba7b810-9dad-11d1-80b4-00c04fd430c1'`}, // which is text there
	}, nil},
	{"`UPDATE` by a composite key", "members", on(`UPDATE members SET v = 9 WHERE grp = ? AND who = ? -- 2, 'x'`), nil},
	{"upsert: `ON CONFLICT DO UPDATE`, `ON DUPLICATE KEY UPDATE`", "notes", map[string][]string{
		"":        {`INSERT INTO notes (id, v) VALUES (1, 7) ON CONFLICT (id) DO UPDATE SET v = excluded.v`},
		"MariaDB": {`INSERT INTO notes (id, v) VALUES (1, 7) ON DUPLICATE KEY UPDATE v = VALUES(v)`},
	}, nil},
	{"the same where there is another unique key", "products", map[string][]string{
		"":        {`INSERT INTO products (id, sku, v) VALUES (7, 2, 7) ON CONFLICT (sku) DO UPDATE SET v = excluded.v`},
		"MariaDB": {`INSERT INTO products (id, sku, v) VALUES (7, 2, 7) ON DUPLICATE KEY UPDATE v = VALUES(v)`},
	}, nil},
	{"`REPLACE`, no unique key but the primary key", "notes", map[string][]string{
		"SQLite":  {`REPLACE INTO notes (id, v) VALUES (1, 7)`},
		"MariaDB": {`REPLACE INTO notes (id, v) VALUES (1, 7)`},
	}, nil},
	{"`REPLACE` where there is another unique key", "products", map[string][]string{
		"SQLite":  {`REPLACE INTO products (id, sku, v) VALUES (1, 2, 7)`},
		"MariaDB": {`REPLACE INTO products (id, sku, v) VALUES (1, 2, 7)`},
	}, nil},
	{"`UPDATE … FROM`, `UPDATE` of a join", "notes", map[string][]string{
		"":        {`UPDATE notes SET v = products.v + 50 FROM products WHERE products.id = notes.id AND products.sku = 2`},
		"MariaDB": {`UPDATE notes JOIN products ON products.id = notes.id SET notes.v = products.v + 50 WHERE products.sku = 2`},
	}, nil},
	{"`DELETE … USING`", "notes", map[string][]string{
		"PostgreSQL": {`DELETE FROM notes USING products WHERE products.id = notes.id AND products.sku = 2`},
		"MariaDB":    {`DELETE FROM notes USING notes JOIN products ON products.id = notes.id WHERE products.sku = 2`},
	}, nil},
	{"`MERGE`", "notes", map[string][]string{
		"PostgreSQL": {`MERGE INTO notes USING products ON notes.id = products.id AND products.id = 1 WHEN MATCHED THEN UPDATE SET v = 99`},
	}, nil},
	{"a `WITH` that writes", "notes", map[string][]string{
		"PostgreSQL": {`WITH gone AS (DELETE FROM notes WHERE id = 1 RETURNING id) SELECT count(*) FROM gone`},
	}, nil},
	{"a table whose triggers write to other tables", "audited", on(`UPDATE audited SET v = 9 WHERE id = ? -- 1`), nil},
	{"the tables that triggers write to", "journal", on(`UPDATE audited SET v = 9 WHERE id = ? -- 1`), nil},
	{"a parent with `ON DELETE CASCADE` or `SET NULL`", "parents", on(`DELETE FROM parents WHERE id = ? -- 1`), nil},
	{"its children, by the cascade", "children", on(`DELETE FROM parents WHERE id = ? -- 1`), nil},
	{"a view: the tables beneath", "notes", on(`UPDATE recent SET v = 9 WHERE id = ? -- 1`), nil},
	{"a partitioned table", "parted", map[string][]string{
		"PostgreSQL": {`UPDATE parted SET v = 9 WHERE id = ? -- 1`},
		"MariaDB":    {`UPDATE parted SET v = 9 WHERE id = ? -- 1`},
	}, nil},
	{"a table of an engine without transactions, as MyISAM", "lasting", map[string][]string{
		"MariaDB": {`UPDATE lasting SET v = 9 WHERE id = ? -- 1`},
	}, nil},
	{"a table without a primary key", "plain", on(`UPDATE plain SET v = 9 WHERE id = ? -- 1`), nil},
	{"a key without exact text: floating point", "doubles", on(`UPDATE doubles SET v = 9 WHERE id = ? -- 1`), nil},
	{"`TRUNCATE`", "notes", map[string][]string{
		"PostgreSQL": {`TRUNCATE notes`},
		"MariaDB":    {`TRUNCATE notes`},
	}, nil},
	{"`SELECT` of a function that writes", "notes", map[string][]string{
		"PostgreSQL": {`SELECT visit()`},
		"MariaDB":    {`SELECT visit()`},
	}, nil},
	{"`CALL` of a procedure", "notes", map[string][]string{
		"PostgreSQL": {`CALL visit_all()`},
		"MariaDB":    {`CALL visit_all()`},
	}, nil},
	{"`CALL` of a procedure that commits", "notes", map[string][]string{
		"PostgreSQL": {`CALL visit_now()`},
		"MariaDB":    {`CALL visit_now()`},
	}, nil},
	{"`DO` (PostgreSQL), `EXECUTE IMMEDIATE` (MariaDB)", "notes", map[string][]string{
		"PostgreSQL": {`DO $$ BEGIN UPDATE notes SET v = 9 WHERE id = 1; END $$`},
		"MariaDB":    {`EXECUTE IMMEDIATE 'UPDATE notes SET v = 9 WHERE id = 1'`},
	}, nil},
	{"several statements in one text", "notes", map[string][]string{
		"":        {`UPDATE notes SET v = 9 WHERE id = 1; UPDATE notes SET v = 9 WHERE id = 2`},
		"MariaDB": nil, // the driver takes one at a time by default
	}, nil},
	{"more than 1,000 rows of one table in one transaction, or 10,000 of all (`MaxRowsPerTable`, `MaxRows`)", "numbered", on(`INSERT INTO numbered (v) SELECT a.v FROM many a, many b`), nil},
	{"`CREATE INDEX CONCURRENTLY`", "notes", map[string][]string{
		"PostgreSQL": {`CREATE INDEX CONCURRENTLY notes_by_v ON notes (v)`},
	}, nil},
	{"`CREATE INDEX`", "later", on(`CREATE INDEX by_v ON later (v)`), nil},
	{"`ALTER TABLE`", "later", on(`ALTER TABLE later ADD COLUMN w INTEGER`), nil},
	{"`DROP TABLE`", "later", on(`DROP TABLE later`), nil},
}

var touchingStatements = func() []capturedStatement {
	one, three := tokens.Row("parents", 1), tokens.Row("parents", 3)
	touching := func(kind string, touched []tokens.ID, texts ...string) capturedStatement {
		return capturedStatement{kind, "parents", on(texts...), touched}
	}
	all := []capturedStatement{
		touching("`INSERT … VALUES`, `UPDATE` and `DELETE` by the key", []tokens.ID{one},
			`INSERT INTO children (id, parent_id, v) VALUES (7, 1, 0)`, `UPDATE children SET v = 9 WHERE id = 1`, `DELETE FROM children WHERE id = 7`),
		touching("`INSERT … SELECT`", []tokens.ID{one}, `INSERT INTO children (id, parent_id, v) SELECT 7, 1, v FROM products WHERE id = 1`),
		touching("`UPDATE`, `DELETE` by any other condition", []tokens.ID{one}, `UPDATE children SET v = 9 WHERE v < 2`, `DELETE FROM children WHERE v = 9`),
		touching("an upsert", []tokens.ID{one}),
		touching("an `UPDATE` by the key that gives it another parent", []tokens.ID{one, three}, `UPDATE children SET parent_id = 3 WHERE id = 1`),
		touching("the same by any other condition", []tokens.ID{one, three}, `UPDATE children SET parent_id = 3 WHERE v < 2`),
		touching("a cascade or a trigger that writes to it", []tokens.ID{one}, `DELETE FROM parents WHERE id = 1`),
	}
	all[3].on = map[string][]string{
		"":        {`INSERT INTO children (id, parent_id, v) VALUES (1, 1, 9) ON CONFLICT (id) DO UPDATE SET v = excluded.v`},
		"MariaDB": {`INSERT INTO children (id, parent_id, v) VALUES (1, 1, 9) ON DUPLICATE KEY UPDATE v = VALUES(v)`},
	}
	return all
}()
