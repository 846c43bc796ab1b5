package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope/internal/catalog"
	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// loader reads a schema. Its maps are by the oids of the catalogue.
type loader struct {
	ctx     context.Context
	session *session
	db      *database

	schema    *schema
	tables    map[uint32]*table
	order     []*table
	functions map[uint32]*function
	named     map[uint32]sqltext.Name // tables and functions, as a Source names them

	divided map[uint32][]int // the columns by which the rows of a table are divided into partitions
	anyhow  map[uint32]bool  // or by more than columns

	runs map[*table][]string // the functions of a table's triggers
}

type function struct {
	*catalog.Routine
	dependsOnly bool // the body is not a text, what it depends on tells what it does
	steers      bool // it may change the search_path or the role
}

// The catalogue's objects of users: not of the server's own schemas, and not temporary.
const (
	ofUsers     = `n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'`
	userTables  = `pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND ` + ofUsers + ` AND c.relkind IN ('r', 'p', 'f', 'm', 'v') AND c.relpersistence <> 't'`
	firstUserID = 16384 // oids below are the server's own
)

// beginCatalogue begins a transaction for reading the catalogue. Compiling its queries takes longer than
// running them.
const beginCatalogue = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '30s'; SET LOCAL jit = off; SET LOCAL search_path = pg_catalog`

// load reads the schema, all of it as of one time: in a transaction that catalogue has begun.
func load(ctx context.Context, s *session, db *database, user, fingerprint string) (*schema, error) {
	l := &loader{
		ctx: ctx, session: s, db: db,
		schema:    &schema{user: user, fingerprint: fingerprint, byOID: make(map[uint32]*table), of: make(map[*catalog.Table]*table), others: make(map[uint32]bool)},
		tables:    make(map[uint32]*table),
		functions: make(map[uint32]*function),
		named:     make(map[uint32]sqltext.Name),
		divided:   make(map[uint32][]int),
		anyhow:    make(map[uint32]bool),
		runs:      make(map[*table][]string),
	}
	l.schema.byOID = l.tables
	for _, step := range []func() error{
		l.readTables, l.readOthers, l.readColumns, l.readKeys, l.readPartitions, l.readInheritance, l.readForeignKeys,
		l.readFunctions, l.readTriggers, l.readRules, l.readExpressions, l.readHidden, l.readListening,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	l.finish()
	return l.schema, nil
}

// catalogue runs fn in a transaction for reading the catalogue, on an idle connection.
func (s *session) catalogue(ctx context.Context, fn func() error) error {
	s.own = true
	err := s.send(ctx, beginCatalogue)
	if err == nil {
		err = fn()
	}
	rollback := s.rollback(ctx)
	s.own = false
	return errors.Join(err, rollback)
}

// ambience reads the schema that new tables go to, and the user.
func ambience(ctx context.Context, s *session) (home, user string, err error) {
	rows, err := s.ask(ctx, `SELECT coalesce((pg_catalog.current_schemas(false))[1], '`+defaultHome+`'), current_user`)
	if err != nil {
		return "", "", err
	}
	return rows[0].text(0), rows[0].text(1), nil
}

// each calls fn for every row of a query.
func (l *loader) each(sql string, fn func(row) error) error {
	rows, err := l.session.ask(l.ctx, sql)
	if err != nil {
		return fmt.Errorf("the catalogue cannot be read: %w", err)
	}
	for _, r := range rows {
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) readTables() error {
	return l.each(`SELECT c.oid, n.nspname, c.relname, c.relkind, c.relrowsecurity, pg_catalog.quote_ident(n.nspname), pg_catalog.quote_ident(c.relname) FROM `+userTables, func(r row) error {
		t := &table{Table: &catalog.Table{Schema: r.text(1), Name: r.text(2)}, oid: r.oid(0)}
		t.ID = l.db.identifier(sqltext.Name{Qualifier: t.Schema, Name: t.Name})
		t.all = tokens.Table(t.ID)
		t.spelled = [2]string{r.text(6), r.text(5) + "." + r.text(6)}
		t.policies = r.is(4)
		switch r.text(3) {
		case "v":
			t.View = true
			t.whole = whyView
		case "m":
			t.whole = whyNoKey
		case "f":
			t.whole = whyForeign
		}
		l.tables[t.oid] = t
		l.order = append(l.order, t)
		l.schema.of[t.Table] = t
		l.named[t.oid] = sqltext.Name{Qualifier: t.Schema, Name: t.Name}
		return nil
	})
}

func (l *loader) readOthers() error {
	return l.each(`SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid >= `+strconv.Itoa(firstUserID)+` AND c.relkind IN ('i', 'I', 'S', 't') AND c.relpersistence <> 't'`, func(r row) error {
		l.schema.others[r.oid(0)] = true
		return nil
	})
}

func (l *loader) readColumns() error {
	return l.each(`WITH RECURSIVE base(oid, type) AS (
	SELECT oid, oid FROM pg_catalog.pg_type WHERE typtype <> 'd'
	UNION ALL
	SELECT d.oid, base.type FROM pg_catalog.pg_type d JOIN base ON d.typtype = 'd' AND d.typbasetype = base.oid
)
SELECT a.attrelid, a.attname, a.attnum, t.typname, t.typtype, t.typnamespace = 'pg_catalog'::regnamespace,
	a.attgenerated <> '', a.attidentity <> '' OR a.atthasdef,
	pg_catalog.has_table_privilege(c.oid, 'SELECT') OR pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')
FROM pg_catalog.pg_attribute a JOIN (`+userTables+`) ON c.oid = a.attrelid
JOIN base ON base.oid = a.atttypid JOIN pg_catalog.pg_type t ON t.oid = base.type
WHERE a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum`, func(r row) error {
		t := l.tables[r.oid(0)]
		if t == nil {
			return nil
		}
		c := catalog.Column{Name: r.text(1), Generated: r.is(6), Auto: r.is(7)}
		c.Kind = kindOfType(r.text(3), r.text(4), r.is(5))
		t.Columns = append(t.Columns, c)
		t.numbers = append(t.numbers, int16(r.number(2)))
		t.readable = append(t.readable, r.is(8))
		t.wraps = append(t.wraps, r.text(3) == "oid")
		return nil
	})
}

// kindOfType tells how Go writes the values of a type.
func kindOfType(name, kind string, builtin bool) catalog.Kind {
	switch {
	case kind == "e", name == "citext":
		return catalog.Text
	case !builtin:
		return catalog.Other
	}
	switch name {
	case "int2", "int4", "int8", "oid":
		return catalog.Integer
	case "text", "varchar", "bpchar", "name", "char":
		return catalog.Text
	case "uuid":
		return catalog.UUID
	case "bytea":
		return catalog.Bytes
	}
	return catalog.Other
}

// indexOf returns the index of the column with an attribute number, or -1.
func (t *table) indexOf(number int16) int { return slices.Index(t.numbers, number) }

// columns turns attribute numbers, as an array's text, into indexes.
func (t *table) columns(numbers string) ([]int, bool) {
	var columns []int
	for _, n := range strings.Fields(numbers) {
		number, err := strconv.ParseInt(n, 10, 16)
		i := t.indexOf(int16(number))
		if err != nil || i < 0 {
			return nil, false
		}
		columns = append(columns, i)
	}
	return columns, len(columns) > 0
}

func (l *loader) readKeys() error {
	return l.each(`SELECT i.indrelid, i.indisprimary, array_to_string(i.indkey::int2[], ' '), i.indnkeyatts
FROM pg_catalog.pg_index i JOIN (`+userTables+`) ON c.oid = i.indrelid
WHERE i.indisunique OR i.indisexclusion`, func(r row) error {
		t := l.tables[r.oid(0)]
		switch {
		case t == nil:
		case !r.is(1):
			t.Uniques++
		default:
			if key, ok := t.columns(r.text(2)); ok && len(key) >= int(r.number(3)) {
				t.Key = key[:r.number(3)] // columns that the index only includes are no key
			}
		}
		return nil
	})
}

func (l *loader) readPartitions() error {
	err := l.each(`SELECT c.oid, pg_catalog.pg_partition_root(c.oid)::oid FROM `+userTables+` WHERE c.relispartition`, func(r row) error {
		t, root := l.tables[r.oid(0)], l.tables[r.oid(1)]
		if t != nil && root != nil && t != root {
			t.partitionOf = root
		}
		return nil
	})
	if err != nil {
		return err
	}
	return l.each(`SELECT partrelid, array_to_string(partattrs::int2[], ' ') FROM pg_catalog.pg_partitioned_table`, func(r row) error {
		t := l.tables[r.oid(0)]
		if t == nil {
			return nil
		}
		columns, ok := t.columns(r.text(1)) // an expression is number 0
		if ok {
			columns, ok = translate(t, columns)
		}
		root := t.root().oid
		l.divided[root] = append(l.divided[root], columns...)
		if !ok {
			l.anyhow[root] = true
		}
		return nil
	})
}

// moves makes of a trigger of a table that is partitioned, for INSERT or DELETE, the one for rows that
// an UPDATE moves to another partition: they are deleted from one and inserted into the other. It is nil
// if there is none.
func (l *loader) moves(t *table, tr *catalog.Trigger) *catalog.Trigger {
	columns, divided := l.divided[t.oid]
	if !divided || tr.On&(catalog.Insert|catalog.Delete) == 0 {
		return nil
	}
	move := &catalog.Trigger{Name: tr.Name, On: catalog.Update, Source: tr.Source}
	if !l.anyhow[t.oid] {
		move.Columns = columns
	}
	return move
}

// readInheritance relates the tables of a family: what is written to one can show in the others.
func (l *loader) readInheritance() error {
	parents := make(map[uint32][]uint32)
	err := l.each(`SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i JOIN (`+userTables+`) ON c.oid = i.inhrelid AND NOT c.relispartition`, func(r row) error {
		parents[r.oid(0)] = append(parents[r.oid(0)], r.oid(1))
		return nil
	})
	for child := range parents {
		todo, done := []uint32{child}, map[uint32]bool{child: true}
		for len(todo) > 0 {
			at := todo[0]
			todo = todo[1:]
			for _, parent := range parents[at] {
				if c, p := l.tables[child], l.tables[parent]; c != nil && p != nil && !done[parent] {
					done[parent] = true
					todo = append(todo, parent)
					c.relatives = append(c.relatives, p)
					p.relatives = append(p.relatives, c)
					c.whole, p.whole = whyInherited, whyInherited
				}
			}
		}
	}
	return err
}

// readForeignKeys reads those between whole tables. That a partition has some of its own counts for
// the table that is partitioned.
func (l *loader) readForeignKeys() error {
	action := func(code string) catalog.Action {
		switch code {
		case "c":
			return catalog.Cascade
		case "n", "d":
			return catalog.SetNull
		}
		return catalog.NoAction
	}
	return l.each(`SELECT k.conname, k.conrelid, array_to_string(k.conkey, ' '), k.confrelid, array_to_string(k.confkey, ' '), k.confdeltype, k.confupdtype
FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0`, func(r row) error {
		child, parent := l.tables[r.oid(1)], l.tables[r.oid(3)]
		if child == nil || parent == nil {
			return nil
		}
		columns, ok := child.columns(r.text(2))
		refers, okToo := parent.columns(r.text(4))
		if !ok || !okToo || len(columns) != len(refers) {
			return nil
		}
		if columns, ok = translate(child, columns); !ok {
			return nil
		}
		if refers, ok = translate(parent, refers); !ok {
			return nil
		}
		child, parent = child.root(), parent.root()
		child.Parents = append(child.Parents, &catalog.ForeignKey{
			Name: r.text(0), Child: child.Table, Columns: columns, Parent: parent.Table, Refers: refers,
			OnDelete: action(r.text(5)), OnUpdate: action(r.text(6)),
		})
		return nil
	})
}

// translate turns the columns of a partition into those of the table that is partitioned.
func translate(t *table, columns []int) ([]int, bool) {
	if t.partitionOf == nil {
		return columns, true
	}
	translated := make([]int, len(columns))
	for i, c := range columns {
		if translated[i] = t.partitionOf.ColumnIndex(t.Columns[c].Name); translated[i] < 0 {
			return nil, false
		}
	}
	return translated, true
}

// harmlessExtensions have functions in C that write to no table. Others are taken to.
var harmlessExtensions = []string{
	"amcheck", "bloom", "btree_gin", "btree_gist", "citext", "cube", "dict_int", "dict_xsyn", "earthdistance", "fuzzystrmatch",
	"hstore", "intarray", "isn", "ltree", "moddatetime", "pageinspect", "pg_buffercache", "pg_freespacemap", "pg_prewarm",
	"pg_stat_statements", "pg_trgm", "pg_uuidv7", "pg_visibility", "pg_walinspect", "pgcrypto", "pgrowlocks", "pgstattuple", "postgis",
	"postgis_raster", "postgis_sfcgal", "seg", "sslinfo", "tcn", "tsm_system_rows", "tsm_system_time", "unaccent", "uuid-ossp", "vector",
}

// readFunctions reads what users have made, in the server's own schemas too. A function that is not volatile
// writes nothing itself, but can call one that does.
func (l *loader) readFunctions() error {
	err := l.each(`SELECT p.oid, n.nspname, p.proname, p.prokind, p.provolatile, g.lanname, coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc), p.prosqlbody IS NOT NULL,
	(SELECT e.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
		WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e' LIMIT 1)
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace AND n.nspname !~ '^pg_temp_' JOIN pg_catalog.pg_language g ON g.oid = p.prolang
WHERE p.oid >= `+strconv.Itoa(firstUserID), func(r row) error {
		f := &function{Routine: &catalog.Routine{Name: r.text(2)}}
		language, volatile := r.text(5), r.text(4) == "v"
		f.steers = slices.ContainsFunc(sqltext.Words(sqltext.Postgres, r.text(6)), steersWord)
		switch {
		case language == "sql" && r.is(7):
			f.dependsOnly = true
		case language == "sql", language == "plpgsql":
			f.Source.Body = sqltext.Body(sqltext.Postgres, r.text(6))
		case r.text(3) == "a": // what it is made of counts
		case language == "c" || language == "internal":
			f.Pure = !volatile || slices.Contains(harmlessExtensions, r.text(8))
			f.Source.Opaque = !f.Pure
		default:
			f.Source.Opaque = true // what is declared STABLE can call what is not
		}
		if slices.ContainsFunc(f.Source.Body.Calls, obscure) {
			f.Source.Opaque = true
		}
		l.functions[r.oid(0)] = f
		l.named[r.oid(0)] = sqltext.Name{Qualifier: r.text(1), Name: r.text(2)}
		return nil
	})
	if err != nil {
		return err
	}
	// Of aggregates, and of bodies that are kept parsed, only their parts are known.
	return l.each(`SELECT d.objid, d.refclassid = 'pg_catalog.pg_proc'::regclass, d.refobjid
FROM pg_catalog.pg_depend d
WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.refclassid IN ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_class'::regclass) AND d.objid >= `+strconv.Itoa(firstUserID), func(r row) error {
		f := l.functions[r.oid(0)]
		if f == nil {
			return nil
		}
		name, known := l.named[r.oid(2)]
		switch {
		case r.is(1) && known:
			f.Source.Body.Calls = append(f.Source.Body.Calls, name)
		case f.dependsOnly && known:
			f.Source.Body.Writes = append(f.Source.Body.Writes, name)
		}
		return nil
	})
}

// steersWord reports whether a word of a function's source can stand for a change of the search_path, of
// what is found along it, or of the role.
func steersWord(w string) bool {
	switch w {
	case "set_config", "search_path", "schema", "role", "authorization", "reset", "discard", "drop", "temp", "temporary":
		return true
	}
	return false
}

// Bits of pg_trigger.tgtype.
const (
	triggerRow = 1 << iota
	triggerBefore
	triggerInsert
	triggerDelete
	triggerUpdate
	triggerTruncate
	triggerInstead
)

// readTriggers reads those of users. One of a partition counts for the table that is partitioned:
// which partition a row is in is not known beforehand.
func (l *loader) readTriggers() error {
	return l.each(`SELECT t.tgrelid, t.tgname, t.tgtype, t.tgfoid, array_to_string(t.tgattr::int2[], ' ')
FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' ORDER BY t.tgrelid, t.tgname`, func(r row) error {
		t := l.tables[r.oid(0)]
		if t == nil {
			return nil
		}
		kind := r.number(2)
		tr := &catalog.Trigger{Name: r.text(1), Before: kind&triggerRow != 0 && kind&(triggerBefore|triggerInstead) != 0}
		for bit, verb := range map[int64]catalog.Verbs{triggerInsert: catalog.Insert, triggerUpdate: catalog.Update, triggerDelete: catalog.Delete, triggerTruncate: catalog.Truncate} {
			if kind&bit != 0 {
				tr.On |= verb
			}
		}
		if f := l.functions[r.oid(3)]; f != nil {
			tr.Source = f.Source
			if f.Pure && tr.Before {
				tr.Source.Body.Whole = true // which columns it assigns is not known
			}
			l.runs[t.root()] = append(l.runs[t.root()], f.Name)
		} else if r.oid(3) >= firstUserID {
			tr.Source.Opaque = true // a function of one session only
		}
		if attributes := r.text(4); attributes != "" {
			columns, ok := t.columns(attributes)
			if ok {
				columns, ok = translate(t, columns)
			}
			if ok {
				tr.Columns = columns
			}
		}
		root := t.root()
		root.Triggers = append(root.Triggers, tr)
		if move := l.moves(root, tr); move != nil {
			root.Triggers = append(root.Triggers, move)
		}
		return nil
	})
}

// readRules reads what views and rules are made of. The catalogue keeps that parsed, so what they
// depend on is certain, but not what of it they write.
func (l *loader) readRules() error {
	type rule struct {
		on     *table
		view   bool
		source catalog.Source
	}
	rules := make(map[uint32]*rule)
	var order []*rule
	err := l.each(`SELECT r.oid, r.ev_class, r.rulename, d.refclassid = 'pg_catalog.pg_proc'::regclass, d.refobjid
FROM pg_catalog.pg_rewrite r LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
	AND d.refclassid IN ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_class'::regclass) AND d.refobjid <> r.ev_class
WHERE r.oid >= `+strconv.Itoa(firstUserID)+` ORDER BY r.oid`, func(r row) error {
		on := l.tables[r.oid(1)]
		if on == nil {
			return nil
		}
		one := rules[r.oid(0)]
		if one == nil {
			one = &rule{on: on, view: r.text(2) == "_RETURN"}
			rules[r.oid(0)] = one
			order = append(order, one)
		}
		name, known := l.named[r.oid(4)]
		switch body := &one.source.Body; {
		case !known:
			one.source.Opaque = one.source.Opaque || r.is(3) && r.oid(4) >= firstUserID
		case r.is(3):
			body.Calls = append(body.Calls, name)
		case one.view:
			body.Reads = append(body.Reads, name)
		default:
			body.Writes = append(body.Writes, name)
			body.Reads = append(body.Reads, name)
		}
		return nil
	})
	for _, one := range order {
		if one.view {
			one.on.Definition = one.source
			continue
		}
		// A rule can write what it is for, too.
		one.source.Body.Writes = append(one.source.Body.Writes, l.named[one.on.oid])
		one.on.root().Rules = append(one.on.root().Rules, one.source)
	}
	return err
}

// readExpressions reads which functions the defaults, checks, indexes and policies of a table call.
func (l *loader) readExpressions() error {
	return l.each(`SELECT x.relation, x.policy, d.refobjid FROM (
	SELECT 'pg_catalog.pg_attrdef'::regclass AS class, oid, adrelid AS relation, false AS policy FROM pg_catalog.pg_attrdef
	UNION ALL SELECT 'pg_catalog.pg_constraint'::regclass, oid, conrelid, false FROM pg_catalog.pg_constraint WHERE conrelid <> 0
	UNION ALL SELECT 'pg_catalog.pg_class'::regclass, indexrelid, indrelid, false FROM pg_catalog.pg_index
	UNION ALL SELECT 'pg_catalog.pg_policy'::regclass, oid, polrelid, true FROM pg_catalog.pg_policy
) x JOIN pg_catalog.pg_depend d ON d.classid = x.class AND d.objid = x.oid AND d.refclassid = 'pg_catalog.pg_proc'::regclass`, func(r row) error {
		t, f := l.tables[r.oid(0)], l.functions[r.oid(2)]
		if t == nil || f == nil || f.Pure {
			return nil
		}
		t.root().Triggers = append(t.root().Triggers, &catalog.Trigger{
			On: catalog.AnyVerb, Source: catalog.Source{Body: sqltext.Routine{Calls: []sqltext.Name{l.named[r.oid(2)]}}},
		})
		t.guarded = t.guarded || r.is(1)
		return nil
	})
}

// readHidden finds out whether there are functions that run without standing in any text.
func (l *loader) readHidden() error {
	return l.each(`SELECT oprcode::oid FROM pg_catalog.pg_operator WHERE oid >= `+strconv.Itoa(firstUserID)+`
UNION SELECT castfunc FROM pg_catalog.pg_cast WHERE castfunc >= `+strconv.Itoa(firstUserID)+`
UNION SELECT amproc FROM pg_catalog.pg_amproc WHERE amproc >= `+strconv.Itoa(firstUserID)+`
UNION SELECT d.refobjid FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_constraint'::regclass AND d.objid = k.oid AND d.refclassid = 'pg_catalog.pg_proc'::regclass
	WHERE k.contypid <> 0
UNION SELECT d.refobjid FROM pg_catalog.pg_type t JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.refclassid = 'pg_catalog.pg_proc'::regclass
	WHERE t.typtype = 'd'`, func(r row) error {
		f := l.functions[r.oid(0)]
		if f == nil || f.Pure {
			return nil
		}
		b := &f.Source.Body
		if f.Source.Opaque || b.Dynamic || len(b.Writes) > 0 || len(b.Calls) > 0 && slices.ContainsFunc(b.Calls, l.isFunction) {
			l.schema.hidden = true
		}
		return nil
	})
}

// isFunction reports whether a name is that of a function that may write.
func (l *loader) isFunction(n sqltext.Name) bool {
	for _, f := range l.functions {
		if f.Name == n.Name && !f.Pure {
			return true
		}
	}
	return false
}

func (l *loader) readListening() error {
	return l.each(`SELECT EXISTS (SELECT FROM pg_catalog.pg_event_trigger)`, func(r row) error {
		l.schema.listens = r.is(0)
		return nil
	})
}

// finish puts together what was read.
func (l *loader) finish() {
	var tables []*catalog.Table
	for _, t := range l.order {
		tables = append(tables, t.Table)
		if t.whole != "" {
			continue
		}
		if len(t.Key) == 0 {
			t.whole = whyNoKey
		}
		for _, i := range t.Key {
			if t.Columns[i].Kind == catalog.Other {
				t.whole = whyKeyKind
			}
		}
	}
	var routines []*catalog.Routine
	for _, f := range l.functions {
		routines = append(routines, f.Routine)
	}
	l.schema.commits = l.callers(func(f *function) bool {
		return f.Source.Opaque || f.Source.Body.Transactions || f.Source.Body.Dynamic
	})
	l.schema.steering = l.callers(func(f *function) bool {
		return f.Source.Opaque || f.Source.Body.Dynamic || f.steers
	})
	l.findSteering()
	l.schema.Schema = catalog.New(tables, routines, false)
	for _, t := range l.order {
		if root := t.partitionOf; root != nil {
			// What is done to a partition by its name has the same consequences.
			t.Triggers, t.Rules, t.Parents, t.Children = root.Triggers, root.Rules, root.Parents, root.Children
		}
	}
}

// findSteering finds the tables and views by which the search_path or the role may be changed.
func (l *loader) findSteering() {
	steering := l.schema.steering
	known := func(n sqltext.Name) bool { return steering[n.Name] }
	runs := func(s *catalog.Source) bool {
		return s.Opaque || slices.ContainsFunc(s.Body.Calls, known) || slices.ContainsFunc(s.Body.Reads, known)
	}
	for found := true; found; { // what reads such a view is one, too
		found = false
		for _, t := range l.order {
			if t.View && !steering[t.Name] && runs(&t.Definition) {
				steering[t.Name], found = true, true
			}
		}
		for _, f := range l.functions {
			if !steering[f.Name] && runs(&f.Source) {
				steering[f.Name], found = true, true
			}
		}
	}
	for _, t := range l.order {
		t.steers = slices.ContainsFunc(l.runs[t], func(name string) bool { return steering[name] }) ||
			slices.ContainsFunc(t.Triggers, func(tr *catalog.Trigger) bool { return runs(&tr.Source) }) ||
			slices.ContainsFunc(t.Rules, func(s catalog.Source) bool { return runs(&s) })
	}
}

// callers are the names of the functions of which is is true, and of all that call them, by whatever
// way.
func (l *loader) callers(is func(*function) bool) map[string]bool {
	names := make(map[string]bool)
	for found := true; found; {
		found = false
		for _, f := range l.functions {
			calls := func(n sqltext.Name) bool { return names[n.Name] }
			if !names[f.Name] && (is(f) || slices.ContainsFunc(f.Source.Body.Calls, calls)) {
				names[f.Name], found = true, true
			}
		}
	}
	return names
}

// fingerprint changes with whatever the schema is made from. It is made of columns where rows of the
// catalogue are rewritten for other reasons too, as pg_class's are by TRUNCATE, else of row versions.
func fingerprint(ctx context.Context, s *session) (string, error) {
	first := strconv.Itoa(firstUserID)
	versions := func(table, where string) string {
		return `(SELECT count(*) || ':' || coalesce(sum(pg_catalog.hashtextextended(x.oid || ' ' || x.xmin, 0)), 0) FROM pg_catalog.` + table + ` x WHERE ` + where + `)`
	}
	rows, err := s.ask(ctx, `SELECT concat_ws('/',
	(SELECT count(*) || ':' || coalesce(sum(pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', c.oid, c.relname, c.relnamespace, c.relkind, c.relowner, c.relacl, c.relrowsecurity, c.relispartition), 0)), 0) FROM `+userTables+`),
	(SELECT count(*) || ':' || coalesce(sum(pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', a.attrelid, a.attnum, a.xmin), 0)), 0) FROM pg_catalog.pg_attribute a JOIN (`+userTables+`) ON c.oid = a.attrelid),
	(SELECT count(*) || ':' || coalesce(sum(pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', i.inhrelid, i.inhparent), 0)), 0) FROM pg_catalog.pg_inherits i),
	(SELECT count(*) || ':' || coalesce(sum(pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', i.indexrelid, i.indisunique, i.indisprimary), 0)), 0) FROM pg_catalog.pg_index i JOIN (`+userTables+`) ON c.oid = i.indrelid),
	`+versions("pg_proc", "x.oid >= "+first)+`,
	`+versions("pg_trigger", "NOT x.tgisinternal")+`,
	`+versions("pg_constraint", "x.oid >= "+first)+`,
	`+versions("pg_rewrite", "x.oid >= "+first)+`,
	`+versions("pg_policy", "true")+`,
	`+versions("pg_namespace", ofUsersAs("x"))+`,
	`+versions("pg_attrdef", "true")+`,
	`+versions("pg_type", "x.typtype = 'd' AND x.oid >= "+first)+`,
	`+versions("pg_event_trigger", "true")+`,
	(SELECT count(*) || ':' || coalesce(sum(pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', r.oid, r.rolname, r.rolsuper, r.rolinherit, r.rolbypassrls), 0)), 0) FROM pg_catalog.pg_roles r),
	(SELECT count(*) || ':' || coalesce(sum(pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', m.roleid, m.member, m.xmin), 0)), 0) FROM pg_catalog.pg_auth_members m),
	`+versions("pg_operator", "x.oid >= "+first)+`,
	`+versions("pg_cast", "x.oid >= "+first)+`,
	`+versions("pg_amproc", "x.oid >= "+first)+`)`)
	if err != nil {
		return "", err
	}
	return rows[0].text(0), nil
}

// ofUsersAs is ofUsers for another alias of pg_namespace.
func ofUsersAs(alias string) string {
	return strings.ReplaceAll(ofUsers, "n.nspname", alias+".nspname")
}

// row is a row of a query of the capture's own, in text.
type row [][]byte

func (r row) text(i int) string { return string(r[i]) }
func (r row) is(i int) bool     { return len(r[i]) == 1 && r[i][0] == 't' }
func (r row) oid(i int) uint32  { return uint32(r.number(i)) }

// number is 0 for what is none, as for NULL.
func (r row) number(i int) int64 {
	n, _ := strconv.ParseInt(string(r[i]), 10, 64)
	return n
}
