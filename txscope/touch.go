package txscope

import "github.com/alkey-go/alkey/tokens"

// Touch has a write to a row change its parents' keys too, for pages of a parent that show its
// children. The parents are the rows that the row's foreign keys name, and those that they named
// before. A parent that cannot be told is changed with its whole table; that is so where the foreign
// key references other columns than the primary key.
func Touch() Option { return func(db *database) { db.touch.all = true } }

// TouchTables is Touch for writes to some tables only: those of the children, as identifiers write
// them. Given several times, it adds to them.
func TouchTables(children ...string) Option {
	return func(db *database) {
		if db.touch.tables == nil {
			db.touch.tables = make(map[string]bool)
		}
		for _, name := range children {
			db.touch.tables[tokens.Table(name).Table] = true
		}
	}
}

// TouchAncestors has Touch and TouchTables go on from the parents to their parents, and so on. With
// TouchTables it goes on from parents that are named there too.
func TouchAncestors() Option { return func(db *database) { db.touch.ancestors = true } }

// TouchRules tells a capture whose parents change with them. The zero value touches nobody. Safe for
// concurrent use.
type TouchRules struct {
	all       bool
	tables    map[string]bool
	ancestors bool
}

// Any reports whether there can be a table that touches its parents.
func (r *TouchRules) Any() bool { return r.all || len(r.tables) > 0 }

// Parents reports whether a write to a row of the table, as identifiers write it, changes its parents.
func (r *TouchRules) Parents(table string) bool { return r.all || r.tables[table] }

// Ancestors reports whether a parent that was touched touches its own parents, if Parents is true
// of it.
func (r *TouchRules) Ancestors() bool { return r.ancestors }
