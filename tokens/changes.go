package tokens

import (
	"fmt"
	"slices"
)

// MaxRowsPerTable is how many rows of one table a transaction can change, by default, before the
// change counts as one of all the table's rows.
const MaxRowsPerTable = 1000

// ChangeLimits bounds a set of changes, and with it the memory that a transaction takes here and the
// work that its fence is for the server. What does not fit counts as more than it is, never as less.
type ChangeLimits struct {
	// RowsPerTable is how many rows of one table are told apart. With one more the table counts as
	// changed in all its rows. 0: MaxRowsPerTable.
	RowsPerTable int
	// Rows is how many rows of all tables together are told apart. With one more each of their tables
	// counts as changed in all its rows. 0: 10,000.
	Rows int
	// Tables is how many tables are told apart. With one more everything counts as changed. 0: 1,000.
	Tables int
}

var defaultLimits = ChangeLimits{RowsPerTable: MaxRowsPerTable, Rows: 10_000, Tables: 1000}

// complete returns limits with the defaults for what is 0.
func (l *ChangeLimits) complete() *ChangeLimits {
	if l == nil || l.RowsPerTable > 0 && l.Rows > 0 && l.Tables > 0 {
		return l
	}
	full := *l
	for _, f := range []struct {
		limit     *int
		byDefault int
	}{
		{&full.RowsPerTable, defaultLimits.RowsPerTable},
		{&full.Rows, defaultLimits.Rows},
		{&full.Tables, defaultLimits.Tables},
	} {
		if *f.limit <= 0 {
			*f.limit = f.byDefault
		}
	}
	return &full
}

// Changes is a set of changes: rows, tables (all their rows) or everything. It is bounded as
// ChangeLimits says by default. The zero value is empty. It is not safe for concurrent use.
type Changes struct {
	limits     *ChangeLimits // nil: the default
	everything bool
	// While there are few: rows, and tables of which no row is listed. Most transactions change a
	// row or two, and maps would cost them more than their fence.
	list []ID
	// All, once there are more. A nil set of rows: all of them.
	tables map[string]map[string]struct{}
	rows   int // in list or tables
	named  int // tables in list

	affected []ID // what records returned, until something is added
}

// fewChanges is how many a list holds.
const fewChanges = 16

// NewChanges makes a set of ids.
func NewChanges(ids ...ID) *Changes {
	c := new(Changes)
	for _, id := range ids {
		c.Add(id)
	}
	return c
}

// ParseChanges makes a set from the arguments of a write: whatever Identify takes, and slices of
// models. A table means all its rows. Plain text and nil are errors: they name nothing that could
// change.
func ParseChanges(args ...any) (*Changes, error) {
	segments, err := AppendSegments(nil, args...)
	if err != nil {
		return nil, err
	}
	c := new(Changes)
	for _, s := range segments {
		if s.isCount() {
			continue
		}
		if s.ID.IsZero() {
			return nil, fmt.Errorf("%w: %q names nothing that can change; pass a model, tokens.Row, tokens.Table or an identifier's text", ErrMalformed, s.Text)
		}
		c.Add(s.ID)
	}
	return c, nil
}

// Add adds a row, a table (all its rows) or Global. The zero ID counts as Global: a change that
// cannot be named must not be lost.
func (c *Changes) Add(id ID) {
	c.affected = nil
	switch {
	case c.everything:
	case id.IsZero() || id.Table == all:
		c.all()
	case id.Row == all || id.Row == sweep:
		c.sweep(id.Table)
	default:
		c.row(id)
	}
}

func (c *Changes) row(id ID) {
	if c.tables == nil {
		known := 0 // the table
		for _, have := range c.list {
			if have.Table != id.Table {
				continue
			}
			if have == id || have.Row == all {
				return
			}
			known = 1
		}
		if len(c.list) < c.few() {
			c.list = append(c.list, id)
			c.rows++
			c.named += 1 - known
			return
		}
		c.index()
		if c.everything {
			return
		}
	}
	rows, known := c.tables[id.Table]
	if known && rows == nil {
		return
	}
	if rows == nil {
		rows = make(map[string]struct{})
		c.tables[id.Table] = rows
	}
	if _, again := rows[id.Row]; again {
		return
	}
	rows[id.Row] = struct{}{}
	c.rows++
	switch l := c.limit(); {
	case len(c.tables) > l.Tables:
		c.all()
	case len(rows) > l.RowsPerTable:
		c.sweep(id.Table)
	case c.rows > l.Rows:
		c.sweepRows()
	}
}

func (c *Changes) sweep(table string) {
	if c.tables == nil {
		rows := len(c.list)
		c.list = slices.DeleteFunc(c.list, func(id ID) bool { return id.Table == table && id.Row != all })
		if rows -= len(c.list); rows > 0 {
			c.rows -= rows
			c.named--
		} else if slices.Contains(c.list, ID{table, all}) {
			return
		}
		if len(c.list) < c.few() {
			c.list = append(c.list, ID{table, all})
			c.named++
			return
		}
		c.index()
		if c.everything {
			return
		}
	}
	c.rows -= len(c.tables[table])
	c.tables[table] = nil
	if len(c.tables) > c.limit().Tables {
		c.all()
	}
}

// sweepRows sweeps every table of which rows are listed.
func (c *Changes) sweepRows() {
	if c.tables == nil {
		c.index()
	}
	c.affected = nil
	for table, rows := range c.tables {
		if rows != nil {
			c.tables[table] = nil
		}
	}
	c.rows = 0
}

func (c *Changes) all() { *c = Changes{everything: true, limits: c.limits} }

func (c *Changes) limit() *ChangeLimits {
	if c.limits == nil {
		return &defaultLimits
	}
	return c.limits
}

// few is how many a list holds: less than any limit.
func (c *Changes) few() int {
	l := c.limit()
	return min(fewChanges, l.RowsPerTable, l.Rows, l.Tables)
}

// index makes maps of the list.
func (c *Changes) index() {
	list := c.list
	c.list, c.tables = nil, make(map[string]map[string]struct{})
	c.rows, c.named = 0, 0
	for _, id := range list {
		c.Add(id)
	}
}

// told is how many rows and how many tables the set tells apart.
func (c *Changes) told() (rows, tables int) { return c.rows, c.named + len(c.tables) }

// Merge adds all of o.
func (c *Changes) Merge(o *Changes) {
	for id := range o.All {
		c.Add(id)
	}
}

// All yields the changes in no order, as IDs returns them.
func (c *Changes) All(yield func(ID) bool) {
	if c.everything {
		yield(Global)
		return
	}
	for _, id := range c.list {
		if !yield(id) {
			return
		}
	}
	for table, rows := range c.tables {
		if rows == nil {
			if !yield(ID{table, all}) {
				return
			}
			continue
		}
		for row := range rows {
			if !yield(ID{table, row}) {
				return
			}
		}
	}
}

// IDs returns the changes in the order of their text; a table stands for all its rows.
func (c *Changes) IDs() []ID {
	ids := slices.Collect(c.All)
	slices.SortFunc(ids, compareIDs)
	return ids
}

// Empty reports whether nothing has changed.
func (c *Changes) Empty() bool { return !c.everything && len(c.list) == 0 && len(c.tables) == 0 }

// Affect reports whether a value made from the argument id can be affected.
func (c *Changes) Affect(id ID) bool {
	if c.everything {
		return true
	}
	if id == Global {
		return !c.Empty()
	}
	for _, change := range c.list {
		if id.DependsOn(change) {
			return true
		}
	}
	rows, ok := c.tables[id.Table]
	if !ok {
		return false
	}
	if rows == nil || id.Row == all {
		return true
	}
	_, ok = rows[id.Row]
	return ok
}

// Clone returns an independent copy.
func (c *Changes) Clone() *Changes {
	if c.tables == nil {
		return &Changes{limits: c.limits, everything: c.everything, list: slices.Clone(c.list), rows: c.rows, named: c.named}
	}
	n := &Changes{limits: c.limits}
	n.Merge(c)
	return n
}

// records returns the records that the changes affect, without repetition: one transaction of many
// rows writes its table's record once. The caller must not modify them. They are worked out once for
// a fence, its renewals and the publish.
func (c *Changes) records() []ID {
	if c.affected == nil && !c.Empty() {
		c.affected = c.appendRecords(make([]ID, 0, c.size()))
	}
	return c.affected
}

func (c *Changes) appendRecords(ids []ID) []ID {
	if c.everything {
		return appendAffected(ids, Global)
	}
	for i, id := range c.list {
		if id.Row == all {
			ids = append(ids, ID{id.Table, sweep})
		} else {
			ids = append(ids, id)
		}
		if c.first(i) {
			ids = append(ids, ID{id.Table, all})
		}
	}
	for table, rows := range c.tables {
		for row := range rows {
			ids = append(ids, ID{table, row})
		}
		if rows == nil {
			ids = append(ids, ID{table, sweep})
		}
		ids = append(ids, ID{table, all})
	}
	return append(ids, Global)
}

// first reports whether the i-th of the list is the first of its table.
func (c *Changes) first(i int) bool {
	for _, id := range c.list[:i] {
		if id.Table == c.list[i].Table {
			return false
		}
	}
	return true
}

// size is the number of records affected.
func (c *Changes) size() int {
	if c.everything {
		return 2
	}
	n := 1
	for i := range c.list {
		n++
		if c.first(i) {
			n++
		}
	}
	for _, rows := range c.tables {
		n += max(len(rows), 1) + 1
	}
	return n
}

func compareIDs(a, b ID) int {
	if a.Table != b.Table {
		if a.Table < b.Table {
			return -1
		}
		return 1
	}
	switch {
	case a.Row < b.Row:
		return -1
	case a.Row > b.Row:
		return 1
	}
	return 0
}
