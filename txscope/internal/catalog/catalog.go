// Package catalog is what captures know of a database's schema, and what follows from it: which
// tables a statement can write besides the one that it names, and whether the rows that it names are
// all that it changes there. Package rowid writes the identifiers of rows.
package catalog

import (
	"slices"
	"strings"

	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// Schema is what is known of a database at one time. Once it was made it is not changed any more, so
// it can be shared.
type Schema struct {
	tables   map[string][]*Table // by name, without a qualifier
	routines map[string][]*Routine
	fold     bool
}

// Table is a table or a view.
type Table struct {
	Schema, Name string
	ID           string // the table part of identifiers, before it is encoded: "users", "archive.users"

	Columns []Column
	Key     []int // the primary key's columns, as indexes into Columns, in the key's order; nil without one

	// Uniques counts the unique keys besides the primary key. REPLACE deletes rows by any of them.
	Uniques int

	Parents  []*ForeignKey // whose child it is
	Children []*ForeignKey // whose parent it is; New fills it in

	Triggers []*Trigger
	Rules    []Source // run beside or instead of what a statement does to the table

	View       bool
	Definition Source // of a view

	// Lasting says that a rollback does not take back what was written: MyISAM and others.
	Lasting bool
}

// Column is a column of a table.
type Column struct {
	Name      string
	Kind      Kind
	Auto      bool // filled in by the database where it is left out: AUTO_INCREMENT
	Generated bool // always computed by the database from other columns
}

// Kind is how a column's values are written in identifiers.
type Kind uint8

// The kinds.
const (
	Other   Kind = iota // no exact text: rows are not told apart by it
	Integer             // decimal
	Text                // as it is stored
	UUID                // 36 characters, lower case
	Bytes
)

// ForeignKey is a reference from a child to its parent.
type ForeignKey struct {
	Name     string
	Child    *Table
	Columns  []int // of the child
	Parent   *Table
	Refers   []int // the parent's columns, in the order of Columns
	OnDelete Action
	OnUpdate Action
}

// ByKey reports whether the reference is to the parent's primary key, and gives the child's columns
// in the order of that key.
func (k *ForeignKey) ByKey() (columns []int, ok bool) {
	if len(k.Refers) != len(k.Parent.Key) {
		return nil, false
	}
	for _, part := range k.Parent.Key {
		i := slices.Index(k.Refers, part)
		if i < 0 {
			return nil, false
		}
		columns = append(columns, k.Columns[i])
	}
	return columns, true
}

// Action is what happens to the children of a row that is deleted, or whose columns are updated.
type Action uint8

// The actions.
const (
	NoAction Action = iota // and RESTRICT
	Cascade
	SetNull // and SET DEFAULT
)

// Verbs is a set of what can be done to rows.
type Verbs uint8

// The verbs.
const (
	Insert Verbs = 1 << iota
	Update
	Delete
	Truncate

	AnyVerb = Insert | Update | Delete | Truncate
)

// Trigger is a trigger of a table.
type Trigger struct {
	Name    string
	On      Verbs
	Before  bool  // it runs before the row is written, for each row, and can change it
	Columns []int // UPDATE OF: it runs only if one of these is assigned; nil: always
	Source  Source
}

// Routine is a function or procedure that users of the database have made.
type Routine struct {
	Name   string // folded, without a qualifier
	Source Source
	Pure   bool // it writes nothing, for certain
}

// Source is the text of a trigger, routine, view or rule.
type Source struct {
	Body   sqltext.Routine
	Opaque bool // it cannot be read: a language that is not known, or no privilege
}

// New makes a Schema. fold says that names of tables are compared without case.
func New(tables []*Table, routines []*Routine, fold bool) *Schema {
	s := &Schema{tables: make(map[string][]*Table), routines: make(map[string][]*Routine), fold: fold}
	for _, t := range tables {
		t.Children = nil
	}
	for _, t := range tables {
		name := s.folded(t.Name)
		s.tables[name] = append(s.tables[name], t)
		for _, k := range t.Parents {
			k.Parent.Children = append(k.Parent.Children, k)
		}
	}
	for _, r := range routines {
		// Whether the names of routines have case differs by what they are; taking two for one is safe.
		name := strings.ToLower(r.Name)
		s.routines[name] = append(s.routines[name], r)
	}
	return s
}

func (s *Schema) folded(name string) string {
	if s.fold {
		return strings.ToLower(name)
	}
	return name
}

// Tables yields all tables and views.
func (s *Schema) Tables(yield func(*Table) bool) {
	for _, list := range s.tables {
		for _, t := range list {
			if !yield(t) {
				return
			}
		}
	}
}

// Lookup finds the table that a name means where path are the schemas that names without a qualifier
// are looked up in, in this order. It is nil if there is none.
func (s *Schema) Lookup(n sqltext.Name, path []string) *Table {
	list := s.tables[s.folded(n.Name)]
	if n.Qualifier != "" {
		path = []string{n.Qualifier}
	}
	for _, schema := range path {
		for _, t := range list {
			if t.Schema == schema || s.fold && strings.EqualFold(t.Schema, schema) {
				return t
			}
		}
	}
	return nil
}

// named finds all tables that a name in a routine can mean: which path holds there is not known.
func (s *Schema) named(n sqltext.Name) []*Table {
	var found []*Table
	for _, t := range s.tables[s.folded(n.Name)] {
		if n.Qualifier == "" || strings.EqualFold(t.Schema, n.Qualifier) {
			found = append(found, t)
		}
	}
	return found
}

// ColumnIndex returns the index of a column, or -1. A name in another case than the column's is taken
// for it if there is none in the same.
func (t *Table) ColumnIndex(name string) int {
	if i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name }); i >= 0 {
		return i
	}
	return slices.IndexFunc(t.Columns, func(c Column) bool { return strings.EqualFold(c.Name, name) })
}

// IsKey reports whether a column belongs to the primary key.
func (t *Table) IsKey(column int) bool { return slices.Contains(t.Key, column) }
