package tokens

import (
	"fmt"
	"slices"
)

// MaxRowsPerTable is how many rows of one table a transaction can change before the change counts
// as one of all the table's rows.
const MaxRowsPerTable = 1000

// Changes is a set of changes: rows, tables (all their rows) or everything. The zero value is
// empty. It is not safe for concurrent use.
type Changes struct {
	everything bool
	tables     map[string]map[string]struct{} // a nil set of rows: all of them
}

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
	switch {
	case c.everything:
	case id == Global || id.IsZero() || id.Table == all:
		c.everything, c.tables = true, nil
	case id.Row == all || id.Row == sweep:
		c.sweep(id.Table)
	default:
		rows, known := c.tables[id.Table]
		if known && rows == nil {
			return
		}
		if rows == nil {
			rows = make(map[string]struct{})
			if c.tables == nil {
				c.tables = make(map[string]map[string]struct{})
			}
			c.tables[id.Table] = rows
		}
		rows[id.Row] = struct{}{}
		if len(rows) > MaxRowsPerTable {
			c.sweep(id.Table)
		}
	}
}

func (c *Changes) sweep(table string) {
	if c.tables == nil {
		c.tables = make(map[string]map[string]struct{})
	}
	c.tables[table] = nil
}

// Merge adds all of o.
func (c *Changes) Merge(o *Changes) {
	for id := range o.all {
		c.Add(id)
	}
}

// all yields the changes in no order.
func (c *Changes) all(yield func(ID) bool) {
	if c.everything {
		yield(Global)
		return
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
	ids := slices.Collect(c.all)
	slices.SortFunc(ids, compareIDs)
	return ids
}

// Empty reports whether nothing has changed.
func (c *Changes) Empty() bool { return !c.everything && len(c.tables) == 0 }

// Affect reports whether a value made from the argument id can be affected.
func (c *Changes) Affect(id ID) bool {
	if c.everything {
		return true
	}
	if id == Global {
		return len(c.tables) > 0
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
	n := new(Changes)
	n.Merge(c)
	return n
}

// records returns the records that the changes affect, without repetition, sweeps and tables
// last: one transaction of many rows writes its table's record once.
func (c *Changes) records() []ID {
	if c.Empty() {
		return nil
	}
	var ids []ID
	if c.everything {
		return appendAffected(ids, Global)
	}
	n := 1
	for _, rows := range c.tables {
		n += len(rows) + 2
	}
	ids = make([]ID, 0, n)
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

// size is the number of records affected.
func (c *Changes) size() int {
	if c.everything {
		return 2
	}
	n := 1
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
