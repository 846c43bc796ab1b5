package sqlite

import (
	"context"
	"database/sql/driver"
	"slices"
	"strconv"
	"strings"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// foreign is a foreign key of a table whose rows touch their parents.
type foreign struct {
	parent *table
	// columns of the child, in the order of the parent's key if byKey is true.
	columns []foreignColumn
	byKey   bool // the parent's row is told by its primary key
}

type foreignColumn struct {
	index int
	name  string
}

// affinity is what SQLite makes of a value before it is stored in a column, or compared with one.
type affinity int

const (
	affinityNone affinity = iota
	affinityText
	affinityNumber // INTEGER and NUMERIC are the same to integers
	affinityReal
	affinityUnclear // none in a STRICT table, NUMERIC in others
)

func affinityOf(declared string) affinity {
	declared = strings.ToUpper(declared)
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(declared, p) })
	}
	switch {
	case has("INT"):
		return affinityNumber
	case has("CHAR", "CLOB", "TEXT"):
		return affinityText
	case declared == "" || has("BLOB"):
		return affinityNone
	case has("REAL", "FLOA", "DOUB"):
		return affinityReal
	case declared == "ANY":
		return affinityUnclear
	default:
		return affinityNumber
	}
}

// key gives a child's value as the parent's key has it. It is false if that cannot be told.
func (k keyColumn) key(v any) (any, bool) {
	switch value := v.(type) {
	case int64:
		if k.affinity == affinityReal || k.affinity == affinityUnclear {
			return nil, false
		}
		if k.affinity == affinityText {
			v = strconv.FormatInt(value, 10)
		}
	case string:
		switch {
		case k.folded || k.affinity == affinityReal || k.affinity == affinityUnclear:
			return nil, false
		case k.affinity == affinityNumber:
			n, err := strconv.ParseInt(strings.Trim(value, " \t\n\v\f\r"), 10, 64)
			if err != nil {
				return nil, false
			}
			v = n
		}
	}
	return v, k.exact.of(v)
}

// Why parents are swept.
const (
	whyOtherColumns = "touched by a foreign key to other columns than the primary key"
	whyOtherType    = "touched by a foreign key whose value is not spelled like the primary key"
	whyParentless   = "touched by a table whose foreign keys are not known"
	whyNotAsked     = "touched by its children's children outside of an explicit transaction"
	whyTooMany      = "touched by its children's children, which are too many"
	whyNotRead      = "touched by its children's children, which could not be read"
)

// readParents reads the foreign keys of the tables that touch their parents.
func readParents(ctx context.Context, conn driver.QueryerContext, database string, touch *txscope.TouchRules, tables map[string]*table) error {
	folded := make(map[string]*table, len(tables)) // a foreign key can write the parent's name otherwise
	for name, t := range tables {
		folded[strings.ToLower(name)] = t
	}
	if err := readFolded(ctx, conn, database, tables); err != nil {
		return err
	}
	text := `SELECT m.name, f.id, f."table", c.cid, c.name, f."to"
FROM ` + quoted(database) + `.sqlite_master AS m, pragma_foreign_key_list(m.name, ?1) AS f
JOIN pragma_table_xinfo(m.name, ?1) AS c ON c.name = f."from" COLLATE NOCASE
WHERE m.type = 'table' AND m.rootpage > 0
ORDER BY m.name, f.id, f.seq`
	type reference struct {
		child  string
		id     int64
		parent string
		from   []foreignColumn
		to     []string
	}
	var all []reference
	err := query(ctx, conn, text, []driver.NamedValue{{Ordinal: 1, Value: database}}, func() {}, func(row []driver.Value) error {
		var r reference
		r.child, _ = row[0].(string)
		r.id, _ = row[1].(int64)
		r.parent, _ = row[2].(string)
		index, _ := row[3].(int64)
		from, _ := row[4].(string)
		to, _ := row[5].(string) // NULL stands for the primary key
		if n := len(all); n == 0 || all[n-1].child != r.child || all[n-1].id != r.id {
			all = append(all, r)
		}
		last := &all[len(all)-1]
		last.from = append(last.from, foreignColumn{int(index), from})
		last.to = append(last.to, to)
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range all {
		child, parent := tables[r.child], folded[strings.ToLower(r.parent)]
		if child == nil || parent == nil || !touch.Parents(child.all.Table) {
			continue
		}
		f := foreign{parent: parent, columns: r.from}
		f.columns, f.byKey = inOrder(r.from, r.to, parent.key)
		child.parents = append(child.parents, f)
	}
	return nil
}

// inOrder brings the columns of a foreign key into the order of the primary key that it references. It
// is false, and the order as it was, if it references others.
func inOrder(from []foreignColumn, to []string, key []keyColumn) ([]foreignColumn, bool) {
	if len(from) != len(key) {
		return from, false
	}
	ordered := make([]foreignColumn, len(key))
	for i, k := range key {
		at := slices.IndexFunc(to, func(name string) bool { return strings.EqualFold(name, k.name) })
		switch {
		case at >= 0:
			ordered[i] = from[at]
		case to[i] == "":
			ordered[i] = from[i]
		default:
			return from, false
		}
	}
	return ordered, true
}

// readFolded finds the key columns whose texts are compared otherwise than byte by byte.
func readFolded(ctx context.Context, conn driver.QueryerContext, database string, tables map[string]*table) error {
	text := `SELECT m.name, x.cid
FROM ` + quoted(database) + `.sqlite_master AS m, pragma_index_list(m.name, ?1) AS i, pragma_index_xinfo(i.name, ?1) AS x
WHERE m.type = 'table' AND m.rootpage > 0 AND i.origin = 'pk' AND x."key" AND x.coll <> 'BINARY'`
	return query(ctx, conn, text, []driver.NamedValue{{Ordinal: 1, Value: database}}, func() {}, func(row []driver.Value) error {
		name, _ := row[0].(string)
		index, _ := row[1].(int64)
		if t := tables[name]; t != nil {
			for i := range t.key {
				t.key[i].folded = t.key[i].folded || t.key[i].index == int(index)
			}
		}
		return nil
	})
}

// touch adds the parents of a row that is about to change: those that it has, and those that it will
// have.
func (s *session) touch(db uintptr, t *table, op int32) {
	for i := range t.parents {
		f := &t.parents[i]
		if op != sqlite3.SQLITE_INSERT {
			s.touchParent(f, func(column int) any { return s.value(db, f.columns[column].index, sqlite3.Xsqlite3_preupdate_old) })
		}
		if op != sqlite3.SQLITE_DELETE {
			s.touchParent(f, func(column int) any { return s.value(db, f.columns[column].index, sqlite3.Xsqlite3_preupdate_new) })
		}
	}
}

// touchParent adds the row that a foreign key names, or sweeps its table. value reads the columns of
// the foreign key.
func (s *session) touchParent(f *foreign, value func(column int) any) {
	var buf [4]any
	key := buf[:0]
	why := ""
	for i := range f.columns {
		v := value(i)
		switch {
		case v == nil:
			return // there is no parent
		case !f.byKey:
			why = whyOtherColumns
		case why == "":
			k, ok := f.parent.key[i].key(v)
			if !ok {
				why = whyOtherType
			}
			key = append(key, k)
		}
	}
	if why != "" {
		s.sweepParent(f.parent, why)
		return
	}
	s.addRow(f.parent, key)
	if s.db.touch.Ancestors() && len(f.parent.parents) > 0 {
		s.await(f.parent, key)
	}
}

// sweepParent sweeps a table that is touched, and those above it.
func (s *session) sweepParent(t *table, why string) {
	s.rec.Sweep(t.all, why)
	if s.db.touch.Ancestors() {
		s.sweepAll(s.above(t), why)
	}
}

func (s *session) sweepAll(tables []*table, why string) {
	for _, t := range tables {
		s.rec.Sweep(t.all, why)
	}
}

// above lists the tables that a write to any row of t touches.
func (s *session) above(t *table) (all []*table) {
	for i := 0; ; i++ {
		for _, f := range t.parents {
			if !slices.Contains(all, f.parent) {
				all = append(all, f.parent)
			}
		}
		if !s.db.touch.Ancestors() || i == len(all) {
			return all
		}
		t = all[i]
	}
}

// unknown takes in a write to a table that nothing certain is known of.
func (s *session) unknown(database, name, why string) {
	id := tokens.Table(qualified(database, name))
	s.rec.Sweep(id, why)
	if database != "temp" && s.db.touch.Parents(id.Table) {
		s.rec.Sweep(tokens.Global, whyParentless)
	}
}

// awaited is a row that was touched, and whose own parents must be: they are asked for before COMMIT.
type awaited struct {
	table *table
	key   []any
}

func (s *session) await(t *table, key []any) {
	id := tokens.Row(t.name, key...)
	if _, known := s.awaited[id]; known {
		return
	}
	if s.awaited == nil {
		s.awaited = make(map[tokens.ID]awaited)
	}
	if len(s.awaited) >= tokens.MaxRowsPerTable {
		s.sweepAll(s.above(t), whyTooMany)
		return
	}
	s.awaited[id] = awaited{t, slices.Clone(key)}
	s.rec.Unsure() // if it is rolled back nobody will have asked
}

// sweepAbove gives up to ask for the parents of rows that were touched.
func (s *session) sweepAbove() {
	for _, row := range s.awaited {
		s.sweepAll(s.above(row.table), whyNotAsked)
	}
	clear(s.awaited)
}

// ancestralSession is a session that has parents' parents touched.
type ancestralSession struct{ *session }

var _ txscope.CommittingSession = ancestralSession{}

// BeforeCommit is part of txscope.CommittingSession. What the rows that were touched reference is read
// now: if they were changed themselves, what they referenced before was touched then.
func (s ancestralSession) BeforeCommit(ctx context.Context) error {
	asked := make(map[tokens.ID]bool)
	for len(s.awaited) > 0 {
		for id, row := range s.awaited {
			delete(s.awaited, id)
			if asked[id] {
				continue
			}
			asked[id] = true
			if len(asked) > tokens.MaxRowsPerTable {
				s.sweepAll(s.above(row.table), whyTooMany)
			} else if err := s.ask(ctx, row); err != nil {
				s.sweepAll(s.above(row.table), whyNotRead)
				s.db.warn("the parents of a row that was touched cannot be read: their tables are changed where rows would do", err)
			}
		}
	}
	return nil
}

// ask touches the parents of a row.
func (s ancestralSession) ask(ctx context.Context, row awaited) error {
	var columns, conditions []string
	for _, f := range row.table.parents {
		for _, c := range f.columns {
			// As they are: the driver makes times of some texts, and ends others at a NUL.
			name := quoted(c.name)
			columns = append(columns, "CASE typeof("+name+") WHEN 'text' THEN CAST("+name+" AS BLOB) ELSE "+name+" END", "typeof("+name+")")
		}
	}
	args := make([]driver.NamedValue, len(row.key))
	for i, k := range row.table.key {
		conditions = append(conditions, quoted(k.name)+" = ?")
		args[i] = driver.NamedValue{Ordinal: i + 1, Value: row.key[i]}
	}
	text := "SELECT " + strings.Join(columns, ", ") + " FROM " + quoted(row.table.database) + "." + quoted(row.table.own) +
		" WHERE " + strings.Join(conditions, " AND ")
	return query(ctx, s.conn, text, args, func() {}, func(values []driver.Value) error {
		for i := range row.table.parents {
			f := &row.table.parents[i]
			s.touchParent(f, func(column int) any { return valueRead(values[2*column], values[2*column+1]) })
			values = values[2*len(f.columns):]
		}
		return nil
	})
}

// valueRead gives what the driver has read as session.value does.
func valueRead(v, kind driver.Value) any {
	switch kind {
	case "text":
		b, _ := v.([]byte)
		return string(b)
	case "null":
		return nil
	case "real":
		return float{}
	}
	return v
}
