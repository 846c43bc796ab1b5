package mysql

import (
	"cmp"
	"context"
	"database/sql/driver"
	"fmt"
	"hash/maphash"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/internal/catalog"
	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// knowledge is what is known of the schema of all databases that the user can see. Only checked and met
// change once it was made.
type knowledge struct {
	generation int64        // of database.generation, when it was read
	checked    atomic.Int64 // when it was read last and found the same, in nanoseconds since database.start
	digest     uint64       // of all that was read

	server     server
	schema     *catalog.Schema
	tables     map[*catalog.Table]*table
	procedures map[string][]*catalog.Routine // procedures and functions, by routineName
	packages   map[string]bool               // MariaDB's, folded
	views      map[string]bool               // folded, without their database
	lasts      bool                          // there are tables without transactions

	rules *txscope.TouchRules
	touch map[*table][]*table // the tables that are swept when that of their children is

	mu  sync.Mutex
	met map[sqltext.Name]bool // names that were looked for in vain
}

// server is what the server can do.
type server struct {
	mariadb          bool
	returnsDeleted   bool   // DELETE … RETURNING
	returnsInserted  bool   // INSERT … RETURNING
	skipsLocked      string // what a SELECT ends with that locks rows for sharing and waits for none; "" without
	cluster          bool   // several servers give out values of AUTO_INCREMENT
	foldsTables      bool
	limit, limitHint string // bounds a query of the schema in time: what goes before it, and after SELECT
}

// table is a table with what only MySQL's are asked for.
type table struct {
	*catalog.Table
	all         tokens.ID
	types       []columnType
	innodb      bool
	partitioned bool
	unstable    bool  // the value of a column depends on more than the row
	auto        int   // the AUTO_INCREMENT column; -1 without one
	follow      []int // columns that an UPDATE of any other sets: ON UPDATE CURRENT_TIMESTAMP
}

// columnType is what is known of a column's values.
type columnType struct {
	name     string // of the type, in lower case
	unsigned bool
	length   int  // in characters, or in bytes where there are none
	rowTime  bool // the server keeps from when and until when the row is the current one
	ascii    bool // ASCII text is kept as it is sent
	utf8     bool // and so is all text in UTF-8
}

// lookup finds the table that a name means.
func (k *knowledge) lookup(n sqltext.Name, path string) *table {
	if n.Qualifier == "" && path == unknownPath {
		return nil
	}
	t := k.schema.Lookup(n, []string{path})
	if t == nil {
		return nil
	}
	return k.tables[t]
}

// maxMet bounds how many names are looked for.
const maxMet = 1000

// firstMet reports whether one of the names is looked for the first time.
func (k *knowledge) firstMet(names []sqltext.Name) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	first := false
	for _, n := range names {
		if !k.met[n] && len(k.met) < maxMet {
			if k.met == nil {
				k.met = make(map[sqltext.Name]bool)
			}
			k.met[n], first = true, true
		}
	}
	return first
}

// tame reports whether the source of the procedure that is called is known, and that neither it nor
// what it calls ends transactions.
func (k *knowledge) tame(s *sqltext.Statement, path string) bool {
	found := false
	for _, n := range inSchema(append(slices.Clone(s.Calls), s.Reads...), path) {
		for _, r := range k.procedures[n.Name] {
			if found = true; !k.tameRoutine(r, make(map[*catalog.Routine]bool)) {
				return false
			}
		}
	}
	return found && !k.packaged(s.Calls) && !k.packaged(s.Reads)
}

func (k *knowledge) tameRoutine(r *catalog.Routine, seen map[*catalog.Routine]bool) bool {
	if seen[r] {
		return true
	}
	seen[r] = true
	body := &r.Source.Body
	if r.Source.Opaque || body.Dynamic || body.Transactions {
		return false
	}
	for _, n := range body.Calls {
		for _, called := range k.procedures[n.Name] {
			if !k.tameRoutine(called, seen) {
				return false
			}
		}
	}
	return true
}

// packaged reports whether a name is that of a routine in a package, of which nothing is known.
func (k *knowledge) packaged(names []sqltext.Name) bool {
	return len(k.packages) > 0 && slices.ContainsFunc(names, func(n sqltext.Name) bool {
		return k.packages[strings.ToLower(n.Qualifier)]
	})
}

// parents returns the tables that are swept when t is.
func (k *knowledge) parents(t *table) []*table { return k.touch[t] }

// reader reads the schema.
type reader struct {
	ctx  context.Context
	s    *session
	hash maphash.Hash
	k    *knowledge

	base     string
	grants   grants
	lasting  map[string]bool // engines without transactions
	byName   map[[2]string]*table
	routines []*catalog.Routine
}

var seed = maphash.MakeSeed()

// readKnowledge reads the schema. The error is that of a query without which nothing can be known; where
// others are refused, what they would show is taken to be anything.
func readKnowledge(ctx context.Context, s *session) (*knowledge, error) {
	r := &reader{
		ctx: ctx, s: s, base: *s.db.base.Load(), byName: make(map[[2]string]*table),
		k: &knowledge{rules: s.db.Touch, tables: make(map[*catalog.Table]*table), procedures: make(map[string][]*catalog.Routine), packages: make(map[string]bool), views: make(map[string]bool)},
	}
	r.hash.SetSeed(seed)
	for _, step := range []func() error{r.server, r.engines, r.privileges, r.tables, r.columns, r.keys, r.foreignKeys, r.packages, r.triggers, r.views, r.procedures} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	all := make([]*catalog.Table, 0, len(r.byName))
	for _, t := range r.byName {
		r.k.lasts = r.k.lasts || t.Lasting
		if t.View {
			r.k.views[strings.ToLower(t.Name)] = true
		}
		all = append(all, t.Table)
		r.k.tables[t.Table] = t
	}
	r.k.schema = catalog.New(all, r.routines, r.k.server.foldsTables)
	r.k.touch = sweptWith(r.k)
	r.k.digest = r.hash.Sum64()
	return r.k, nil
}

// each runs a query and calls fn for every row, in texts; NULL is "".
func (r *reader) each(query string, fn func(row []string)) error {
	row := []string{}
	return r.s.query(r.ctx, query, nil, func(values []driver.Value) error {
		row = row[:0]
		for _, v := range values {
			t := text(v)
			row = append(row, t)
			r.note(t)
		}
		fn(row)
		return nil
	})
}

// note adds to the digest.
func (r *reader) note(t string) {
	_, _ = r.hash.WriteString(t)
	_ = r.hash.WriteByte(0)
}

// view is each for a table of information_schema, bounded in time.
func (r *reader) view(columns, from string, fn func(row []string)) error {
	l := &r.k.server
	// A connection can have another limit of its own.
	return r.each(l.limit+"SELECT "+l.limitHint+columns+" FROM information_schema."+from+" LIMIT 18446744073709551615", fn)
}

// text is a value as text.
func text(v driver.Value) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []byte:
		return string(v)
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	}
	return fmt.Sprint(v)
}

// The databases that belong to the server.
const notSystem = ` NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')`

func (r *reader) server() error {
	return r.each("SELECT VERSION(), @@lower_case_table_names LIMIT 1", func(row []string) {
		sv := &r.k.server
		sv.foldsTables = row[1] != "0"
		version := row[0]
		sv.mariadb = strings.Contains(strings.ToLower(version), "mariadb")
		if !sv.mariadb {
			sv.limitHint = "/*+ MAX_EXECUTION_TIME(10000) */ "
			if major, _ := versionOf(version); major >= 8 {
				sv.skipsLocked = " FOR SHARE SKIP LOCKED"
			}
			return
		}
		sv.limit = "SET STATEMENT max_statement_time = 10 FOR "
		version = strings.TrimPrefix(version, "5.5.5-") // what old replicas believe to be a version
		major, minor := versionOf(version)
		sv.returnsDeleted = true
		sv.returnsInserted = major > 10 || major == 10 && minor >= 5
		if major > 10 || major == 10 && minor >= 6 {
			sv.skipsLocked = " LOCK IN SHARE MODE SKIP LOCKED"
		}
	})
}

func versionOf(v string) (major, minor int) {
	a, rest, _ := strings.Cut(v, ".")
	b, _, _ := strings.Cut(rest, ".")
	major, _ = strconv.Atoi(a)
	minor, _ = strconv.Atoi(b)
	return major, minor
}

func (r *reader) engines() error {
	r.lasting = make(map[string]bool)
	err := r.view("ENGINE, TRANSACTIONS", "ENGINES ORDER BY ENGINE", func(row []string) {
		if row[1] != "YES" {
			r.lasting[strings.ToLower(row[0])] = true
		}
	})
	if err != nil {
		return err
	}
	variables := "performance_schema.global_variables"
	if r.k.server.mariadb {
		variables = "information_schema.GLOBAL_VARIABLES"
	}
	err = r.each("SELECT VARIABLE_VALUE FROM "+variables+" WHERE VARIABLE_NAME = 'wsrep_on' LIMIT 1", func(row []string) {
		r.k.server.cluster = strings.EqualFold(row[0], "ON")
	})
	if refused(err) {
		r.k.server.cluster, err = true, nil // for all that is known
	}
	return err
}

func (r *reader) tables() error {
	merged := false
	var parts []*table // that a table of the MERGE engine can show the rows of
	err := r.view("TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, CREATE_OPTIONS", "TABLES WHERE TABLE_SCHEMA"+notSystem+" ORDER BY TABLE_SCHEMA, TABLE_NAME", func(row []string) {
		kind, engine := row[2], strings.ToLower(row[3])
		t := &table{Table: &catalog.Table{Schema: row[0], Name: row[1], View: strings.Contains(kind, "VIEW")}, auto: -1}
		t.ID = r.s.db.tableName(row[0], row[1])
		t.all = tokens.Table(t.ID)
		t.innodb = engine == "innodb"
		t.Lasting = !t.View && !t.innodb && (engine == "" || r.lasting[engine])
		t.partitioned = strings.Contains(row[4], "partitioned")
		if !t.View && engine != "" && !slices.Contains(localEngines, engine) {
			t.Triggers = append(t.Triggers, &catalog.Trigger{Name: engine, On: catalog.AnyVerb, Source: catalog.Source{Opaque: true}})
		}
		if kind == "SYSTEM VERSIONED" {
			t.partitioned = true // its rows can be in several places, too
		}
		r.byName[[2]string{row[0], row[1]}] = t
		merged = merged || engine == "mrg_myisam"
		if engine == "myisam" {
			parts = append(parts, t)
		}
	})
	if err != nil || !merged {
		return err
	}
	for _, t := range parts {
		t.Triggers = append(t.Triggers, &catalog.Trigger{Name: "mrg_myisam", On: catalog.AnyVerb, Source: catalog.Source{Opaque: true}})
	}
	return nil
}

// localEngines keep the rows of a table to that table. Others can keep them in other tables: MERGE,
// FEDERATED, CONNECT, SPIDER.
var localEngines = []string{"innodb", "myisam", "aria", "memory", "csv", "archive", "blackhole", "rocksdb", "tokudb", "ndbcluster", "columnstore", "mroonga", "s3", "oqgraph", "sphinx", "sequence"}

func (r *reader) columns() error {
	generated := "''"
	if !r.k.server.mariadb {
		generated = "GENERATION_EXPRESSION"
	} else {
		generated = "IF(IS_GENERATED = 'ALWAYS', GENERATION_EXPRESSION, '')"
	}
	columns := "TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_MAXIMUM_LENGTH, CHARACTER_SET_NAME, EXTRA, " + generated
	return r.view(columns, "COLUMNS WHERE TABLE_SCHEMA"+notSystem+" ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION", func(row []string) {
		t := r.byName[[2]string{row[0], row[1]}]
		if t == nil {
			return
		}
		extra := strings.ToLower(row[7])
		c := catalog.Column{Name: row[2], Kind: kindOf(row[3]), Auto: strings.Contains(extra, "auto_increment"), Generated: row[8] != ""}
		if c.Auto {
			t.auto = len(t.Columns)
		}
		if strings.Contains(extra, "on update") {
			t.follow = append(t.follow, len(t.Columns))
		}
		if c.Generated {
			t.unstable = t.unstable || !deterministic(row[8])
		}
		length, err := strconv.Atoi(row[5])
		if err != nil {
			length = -1
		}
		t.Columns = append(t.Columns, c)
		t.types = append(t.types, columnType{
			name:     row[3],
			unsigned: strings.Contains(row[4], "unsigned"),
			length:   length,
			rowTime:  row[8] == "ROW START" || row[8] == "ROW END",
			ascii:    slices.Contains(asciiSets, row[6]),
			utf8:     row[6] == "utf8mb4",
		})
	})
}

// asciiSets are character sets in which ASCII is ASCII.
var asciiSets = []string{"utf8mb4", "utf8mb3", "utf8", "latin1", "ascii"}

// kindOf tells how values of a type are written. DECIMAL, FLOAT and the types of dates have no text that
// all Go types agree on.
func kindOf(dataType string) catalog.Kind {
	switch strings.ToLower(dataType) {
	case "tinyint", "smallint", "mediumint", "int", "bigint":
		return catalog.Integer
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "inet4", "inet6":
		return catalog.Text
	case "uuid":
		return catalog.UUID
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob":
		return catalog.Bytes
	}
	return catalog.Other
}

func (r *reader) keys() error {
	err := r.view("TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME", "KEY_COLUMN_USAGE WHERE CONSTRAINT_NAME = 'PRIMARY' AND TABLE_SCHEMA"+notSystem+" ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION", func(row []string) {
		if t := r.byName[[2]string{row[0], row[1]}]; t != nil {
			// The end of a row's time is a part of the key where rows are versioned, and no part of what
			// names them.
			if i := t.ColumnIndex(row[2]); i >= 0 && !t.types[i].rowTime {
				t.Key = append(t.Key, i)
			}
		}
	})
	if err != nil {
		return err
	}
	return r.view("TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME", "TABLE_CONSTRAINTS WHERE CONSTRAINT_TYPE = 'UNIQUE' AND TABLE_SCHEMA"+notSystem+" ORDER BY TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME", func(row []string) {
		if t := r.byName[[2]string{row[0], row[1]}]; t != nil {
			t.Uniques++
		}
	})
}

func (r *reader) foreignKeys() error {
	found := make(map[constraint]*catalog.ForeignKey)
	err := r.view("CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME",
		"KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_NAME IS NOT NULL AND TABLE_SCHEMA"+notSystem+" ORDER BY CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION", func(row []string) {
			child, parent := r.byName[[2]string{row[0], row[1]}], r.tableFolded(row[4], row[5])
			if child == nil || parent == nil {
				return
			}
			n := constraint{row[0], row[1], row[2]}
			key := found[n]
			if key == nil {
				key = &catalog.ForeignKey{Name: row[2], Child: child.Table, Parent: parent.Table}
				found[n] = key
				child.Parents = append(child.Parents, key)
			}
			key.Columns = append(key.Columns, child.ColumnIndex(row[3]))
			key.Refers = append(key.Refers, parent.ColumnIndex(row[6]))
		})
	if err != nil {
		return err
	}
	err = r.view("CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, UPDATE_RULE, DELETE_RULE", "REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA"+notSystem+" ORDER BY CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME", func(row []string) {
		if key := found[constraint{row[0], row[1], row[2]}]; key != nil {
			key.OnUpdate, key.OnDelete = actionOf(row[3]), actionOf(row[4])
		}
	})
	if err != nil {
		return err
	}
	return r.hiddenKeys(found)
}

// constraint names a foreign key.
type constraint struct{ schema, table, name string }

// showsKeys are the privileges on a database of which one lets its user see the foreign keys there, and
// what they do.
var showsKeys = []string{"TRIGGER", "REFERENCES", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX", "CREATE VIEW", "SHOW VIEW"}

// maxShown bounds how many tables are asked for one by one, each time that the schema is read.
const maxShown = 200

// hiddenKeys reads the foreign keys that information_schema does not show, or not what they do, to a user
// who has no more than SELECT on the database of the children. The tables themselves are shown.
func (r *reader) hiddenKeys(found map[constraint]*catalog.ForeignKey) error {
	var children []*table
	shows := make(map[string]bool)
	for _, t := range r.byName {
		if _, known := shows[t.Schema]; !known {
			shows[t.Schema] = slices.ContainsFunc(showsKeys, func(p string) bool { return r.grants.has(t.Schema, p) })
		}
		if t.innodb && !shows[t.Schema] {
			children = append(children, t)
		}
	}
	if len(children) > maxShown {
		r.s.db.Warn(fmt.Sprintf("MySQL: foreign keys of more than %d tables would have to be asked for one by one, so every DELETE and UPDATE is taken to change everything: grant TRIGGER on the databases that its user has SELECT on", maxShown), nil)
		r.addHidden()
		return nil
	}
	slices.SortFunc(children, func(a, b *table) int {
		return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
	})
	for _, child := range children {
		shown := false
		err := r.s.query(r.ctx, r.k.server.limit+"SHOW CREATE TABLE "+quote(child.Schema)+"."+quote(child.Name), nil, func(row []driver.Value) error {
			keys, ok := shownKeys(text(row[1]))
			for _, key := range keys {
				ok = ok && r.shownKey(found, child, key)
			}
			shown = ok
			return nil
		})
		if err != nil && (r.ctx.Err() != nil || r.s.wire.dead()) {
			return err
		}
		if err != nil || !shown {
			r.s.db.Warn("MySQL: foreign keys cannot be seen, so every DELETE and UPDATE is taken to change everything: grant TRIGGER on the databases that its user has SELECT on", nil)
			r.addHidden()
			return nil
		}
	}
	return nil
}

// addHidden takes all tables to have children that are not known.
func (r *reader) addHidden() {
	r.note("hidden foreign keys")
	for _, t := range r.byName {
		if !t.View {
			t.Triggers = append(t.Triggers, &catalog.Trigger{Name: "?", On: catalog.Delete | catalog.Update, Source: catalog.Source{Opaque: true}})
		}
	}
}

// shownKey takes in a foreign key of child as SHOW CREATE TABLE writes it. It is false if that was not
// understood.
func (r *reader) shownKey(found map[constraint]*catalog.ForeignKey, child *table, shown shownForeignKey) bool {
	n := constraint{child.Schema, child.Name, shown.name}
	r.note(fmt.Sprint(shown))
	if key := found[n]; key != nil {
		key.OnUpdate, key.OnDelete = shown.onUpdate, shown.onDelete // which are hidden all the same
		return true
	}
	schema := shown.schema
	if schema == "" {
		schema = child.Schema
	}
	parent := r.tableFolded(schema, shown.table)
	if parent == nil {
		return true // of a database that cannot be seen, so it cannot be written either
	}
	key := &catalog.ForeignKey{Name: n.name, Child: child.Table, Parent: parent.Table, OnDelete: shown.onDelete, OnUpdate: shown.onUpdate}
	for i := range shown.columns {
		key.Columns = append(key.Columns, child.ColumnIndex(shown.columns[i]))
		key.Refers = append(key.Refers, parent.ColumnIndex(shown.refers[i]))
	}
	if slices.Contains(key.Columns, -1) || slices.Contains(key.Refers, -1) {
		return false
	}
	found[n] = key
	child.Parents = append(child.Parents, key)
	return true
}

// shownForeignKey is a foreign key as SHOW CREATE TABLE writes it.
type shownForeignKey struct {
	name               string
	columns            []string
	schema, table      string // the parent; schema is "" if it is the child's
	refers             []string
	onDelete, onUpdate catalog.Action
}

// Names in SHOW CREATE TABLE, quoted or not as the connection has it.
const (
	shownName  = "(`(?:[^`]|``)+`|\"(?:[^\"]|\"\")+\"|[^\\s`\".,()]+)"
	shownNames = "\\(((?:`(?:[^`]|``)+`|\"(?:[^\"]|\"\")+\"|[^`\"()])+)\\)"
)

var (
	shownConstraint = regexp.MustCompile("(?m)^\\s*CONSTRAINT " + shownName + " FOREIGN KEY " + shownNames + " REFERENCES " + shownName + "(?:\\." + shownName + ")? " + shownNames + "(.*)$")
	oneShownName    = regexp.MustCompile(shownName)
)

// shownKeys reads the foreign keys in what SHOW CREATE TABLE gives. ok is false if there can be others.
func shownKeys(text string) (keys []shownForeignKey, ok bool) {
	for _, m := range shownConstraint.FindAllStringSubmatch(text, -1) {
		key := shownForeignKey{name: unquoted(m[1]), columns: namesIn(m[2]), table: unquoted(m[3]), refers: namesIn(m[5])}
		if m[4] != "" {
			key.schema, key.table = key.table, unquoted(m[4])
		}
		if len(key.columns) != len(key.refers) {
			return nil, false
		}
		key.onDelete, key.onUpdate = shownAction(m[6], "DELETE"), shownAction(m[6], "UPDATE")
		keys = append(keys, key)
	}
	return keys, len(keys) == strings.Count(strings.ToUpper(text), "FOREIGN KEY")
}

func namesIn(list string) []string {
	names := oneShownName.FindAllString(list, -1)
	for i := range names {
		names[i] = unquoted(names[i])
	}
	return names
}

func unquoted(name string) string {
	if q := name[:1]; len(name) > 1 && (q == "`" || q == `"`) {
		return strings.ReplaceAll(name[1:len(name)-1], q+q, q)
	}
	return name
}

func shownAction(rest, verb string) catalog.Action {
	_, rule, _ := strings.Cut(rest, "ON "+verb+" ")
	for _, one := range []string{"CASCADE", "SET NULL", "SET DEFAULT"} {
		if strings.HasPrefix(rule, one) {
			return actionOf(one)
		}
	}
	return catalog.NoAction
}

// tableFolded finds a table whose name may be in another case than it was made in.
func (r *reader) tableFolded(schema, name string) *table {
	if t := r.byName[[2]string{schema, name}]; t != nil {
		return t
	}
	for at, t := range r.byName {
		if strings.EqualFold(at[0], schema) && strings.EqualFold(at[1], name) {
			return t
		}
	}
	return nil
}

func actionOf(rule string) catalog.Action {
	switch rule {
	case "CASCADE":
		return catalog.Cascade
	case "SET NULL", "SET DEFAULT":
		return catalog.SetNull
	}
	return catalog.NoAction
}

func (r *reader) triggers() error {
	err := r.view("EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE, TRIGGER_NAME, EVENT_MANIPULATION, ACTION_TIMING, ACTION_STATEMENT", "TRIGGERS WHERE TRIGGER_SCHEMA"+notSystem+" ORDER BY TRIGGER_SCHEMA, TRIGGER_NAME", func(row []string) {
		t := r.tableFolded(row[0], row[1])
		if t == nil {
			return
		}
		t.Triggers = append(t.Triggers, &catalog.Trigger{
			Name:   row[2],
			On:     verbOf(row[3]),
			Before: row[4] == "BEFORE",
			Source: r.source(row[0], row[5], true),
		})
	})
	if err != nil {
		return err
	}
	for _, t := range r.byName {
		if !t.View && r.hides(t.Schema, "TRIGGER", "triggers cannot be seen, so every write is taken to change everything: grant TRIGGER on the database to its user") {
			t.Triggers = append(t.Triggers, &catalog.Trigger{Name: "?", On: catalog.AnyVerb, Before: true, Source: catalog.Source{Opaque: true}})
		}
	}
	return nil
}

// verbOf reads what a trigger is for.
func verbOf(event string) catalog.Verbs {
	var v catalog.Verbs
	for verb, name := range map[catalog.Verbs]string{catalog.Insert: "INSERT", catalog.Update: "UPDATE", catalog.Delete: "DELETE"} {
		if strings.Contains(event, name) {
			v |= verb
		}
	}
	if v == 0 {
		return catalog.AnyVerb
	}
	return v
}

// setsStatement finds MariaDB's SET STATEMENT x = y FOR statement, in which "FOR UPDATE" begins an UPDATE.
var setsStatement = regexp.MustCompile(`(?i)\bstatement\b`)

// source reads the source of a trigger, view or routine of a schema. Without the right to run routines
// there, those that it calls may be hidden.
func (r *reader) source(schema, text string, sql bool) catalog.Source {
	s := catalog.Source{Opaque: text == "" || !sql || setsStatement.MatchString(text)}
	if s.Opaque {
		return s
	}
	s.Body = sqltext.Body(sqltext.MySQL, text)
	calls := slices.ContainsFunc(s.Body.Calls, foreign)
	if r.k.packaged(s.Body.Calls) {
		s.Opaque = true
		return s
	}
	s.Body.Calls = inSchema(s.Body.Calls, schema)
	for _, names := range [][]sqltext.Name{s.Body.Writes, s.Body.Reads} {
		for i := range names {
			if names[i].Qualifier == "" {
				names[i].Qualifier = schema // whoever uses it
			}
		}
	}
	if calls && r.hides(schema, "EXECUTE", "routines that triggers and views call cannot be seen, so these are taken to change everything: grant EXECUTE on the database to its user") {
		s.Opaque = true
	}
	return s
}

// routineName names a routine so that those of different databases are told apart.
func routineName(schema, name string) string { return strings.ToLower(schema + "." + name) }

// inSchema names routines as routineName does, where path is the database of names without one.
func inSchema(names []sqltext.Name, path string) []sqltext.Name {
	all := make([]sqltext.Name, len(names))
	for i, n := range names {
		schema := n.Qualifier
		if schema == "" {
			schema = path
		}
		all[i] = sqltext.Name{Name: routineName(schema, n.Name)}
	}
	return all
}

// hides reports whether the user lacks a privilege that it takes to see what a schema holds.
func (r *reader) hides(schema, privilege, message string) bool {
	if r.grants.has(schema, privilege) {
		return false
	}
	r.s.db.Warn("MySQL: "+message, nil)
	return true
}

func (r *reader) views() error {
	hidden := false
	err := r.view("TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION", "VIEWS WHERE TABLE_SCHEMA"+notSystem+" ORDER BY TABLE_SCHEMA, TABLE_NAME", func(row []string) {
		if t := r.byName[[2]string{row[0], row[1]}]; t != nil {
			t.Definition = r.source(row[0], row[2], true)
			hidden = hidden || row[2] == ""
		}
	})
	if hidden {
		r.s.db.Warn("MySQL: the definition of a view cannot be seen, so whoever uses it is taken to change everything: grant SHOW VIEW on the database to its user", nil)
	}
	return err
}

// packages reads the names of MariaDB's packages, of whose routines nothing is known.
func (r *reader) packages() error {
	return r.view("ROUTINE_NAME", "ROUTINES WHERE ROUTINE_TYPE LIKE 'PACKAGE%' AND ROUTINE_SCHEMA"+notSystem, func(row []string) {
		r.k.packages[strings.ToLower(row[0])] = true
	})
}

func (r *reader) procedures() error {
	hidden := false
	err := r.view("ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_TYPE, ROUTINE_BODY, EXTERNAL_LANGUAGE, ROUTINE_DEFINITION", "ROUTINES WHERE ROUTINE_SCHEMA"+notSystem+" ORDER BY ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_TYPE", func(row []string) {
		if strings.HasPrefix(row[2], "PACKAGE") {
			return
		}
		sql := row[3] == "SQL" && (row[4] == "" || row[4] == "SQL")
		hidden = hidden || sql && row[5] == ""
		routine := &catalog.Routine{Name: routineName(row[0], row[1]), Source: r.source(row[0], row[5], sql)}
		r.routines = append(r.routines, routine)
		r.k.procedures[routine.Name] = append(r.k.procedures[routine.Name], routine)
	})
	if hidden {
		right := "SHOW_ROUTINE"
		if r.k.server.mariadb {
			right = "SELECT ON mysql.proc"
		}
		r.s.db.Warn("MySQL: the source of a routine cannot be seen, so whoever calls it is taken to change everything: grant "+right+" to the database's user, or make that user the definer of its routines", nil)
	}
	return err
}

// privileges reads what the user may do.
func (r *reader) privileges() error {
	err := r.each("SHOW GRANTS", func(row []string) { r.grants.add(row[0]) })
	if refused(err) {
		return nil
	}
	return err
}

// grants are the rights of the user on whole databases.
type grants []grant

type grant struct {
	pattern    string // of the database's name; "*" for all
	privileges string
	revoked    bool
}

// add reads a line of SHOW GRANTS. Grants on tables and routines say nothing of a whole database.
func (g *grants) add(line string) {
	privileges, rest, ok := strings.Cut(line, " ON ")
	if !ok {
		return
	}
	verb, privileges, _ := strings.Cut(privileges, " ")
	on, _, ok := strings.Cut(rest, ".* ")
	if !ok || verb != "GRANT" && verb != "REVOKE" {
		return
	}
	if on != "*" {
		if len(on) < 2 || on[0] != '`' || on[len(on)-1] != '`' {
			return
		}
		on = strings.ReplaceAll(on[1:len(on)-1], "``", "`")
	}
	*g = append(*g, grant{on, privileges, verb == "REVOKE"})
}

// has reports whether the user has a privilege on all that is in a schema.
func (g grants) has(schema, privilege string) bool {
	found := false
	for _, one := range g {
		if one.pattern != "*" && !likeFold(one.pattern, schema) {
			continue
		}
		for p := range strings.SplitSeq(one.privileges, ",") {
			if p = strings.TrimSpace(p); p != privilege && p != "ALL PRIVILEGES" && p != "ALL" {
				continue
			}
			if one.revoked {
				return false
			}
			found = true
		}
	}
	return found
}

// likeFold matches a pattern of LIKE without regard to case.
func likeFold(pattern, s string) bool { return like(strings.ToLower(pattern), strings.ToLower(s)) }

func like(pattern, s string) bool {
	for pattern != "" {
		switch c := pattern[0]; {
		case c == '%':
			for i := 0; i <= len(s); i++ {
				if like(pattern[1:], s[i:]) {
					return true
				}
			}
			return false
		case s == "":
			return false
		case c == '_':
		case c == '\\' && len(pattern) > 1:
			pattern = pattern[1:]
			fallthrough
		default:
			if pattern[0] != s[0] {
				return false
			}
		}
		pattern, s = pattern[1:], s[1:]
	}
	return s == ""
}
