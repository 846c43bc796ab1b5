package catalog

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// Use is what a statement does to the rows of one table.
type Use struct {
	Table    *Table
	Verbs    Verbs
	Assigned []int // the columns that an update assigns; nil: any
}

// Effect is what a statement can do to tables besides what it says.
type Effect struct {
	// Tables can be written, rows unknown. The statement's own table is among them if something
	// besides the statement can write to it.
	Tables []*Table
	// Anywhere says that it can write what cannot be told, and Why why.
	Anywhere bool
	Why      string
}

// Empty reports whether there is none.
func (e *Effect) Empty() bool { return !e.Anywhere && len(e.Tables) == 0 }

// Writes reports whether t can be written.
func (e *Effect) Writes(t *Table) bool { return e.Anywhere || slices.Contains(e.Tables, t) }

// Reasons of an Effect.Why.
const (
	whyOpaque  = "a trigger, routine or view whose source cannot be read"
	whyDynamic = "dynamic SQL in a trigger or routine"
	whyUnknown = "a trigger or routine that writes a table which is not known"
)

// Effect tells what follows from uses, from calling functions or procedures and from reading tables
// and views: foreign keys' actions, triggers, rules, routines, and what these do in turn. It errs on
// the side of more. Names of functions that no user has made are taken to write nothing.
func (s *Schema) Effect(uses []Use, calls, reads []sqltext.Name) *Effect {
	f := &follow{schema: s, effect: new(Effect), done: make(map[step]bool)}
	for _, u := range uses {
		f.use(u)
	}
	f.calls(calls)
	f.reads(reads)
	return f.effect
}

// follow walks from what a statement does to what follows. Every step is taken once, so it ends.
type follow struct {
	schema *Schema
	effect *Effect
	done   map[step]bool
}

// step is something done to a table, a view that is read, or a routine that runs.
type step struct {
	table   *Table
	verb    Verbs
	columns string // that an update assigns; "" for any, and for the other verbs
	routine *Routine
}

func (f *follow) anywhere(why string) {
	if !f.effect.Anywhere {
		f.effect.Anywhere, f.effect.Why = true, why
	}
}

// write notes that a table can be written, with what follows.
func (f *follow) write(u Use) {
	if !slices.Contains(f.effect.Tables, u.Table) {
		f.effect.Tables = append(f.effect.Tables, u.Table)
	}
	f.use(u)
}

// use takes the verbs of a use one by one. There are as many sets of columns as there are foreign
// keys, and the statement's own.
func (f *follow) use(u Use) {
	for verb := Insert; verb <= Truncate; verb <<= 1 {
		if u.Verbs&verb == 0 {
			continue
		}
		at := step{table: u.Table, verb: verb}
		if f.done[at] {
			continue
		}
		if verb == Update && u.Assigned != nil {
			at.columns = fmt.Sprint(u.Assigned)
		}
		if !f.done[at] {
			f.done[at] = true
			f.one(u.Table, verb, u.Assigned)
		}
	}
}

func (f *follow) one(t *Table, verb Verbs, assigned []int) {
	if verb == Update {
		assigned = t.Written(assigned)
	}
	for _, tr := range t.Triggers {
		if tr.On&verb == 0 {
			continue
		}
		if verb == Update && tr.Columns != nil && assigned != nil && !overlap(tr.Columns, assigned) {
			continue
		}
		f.source(&tr.Source)
	}
	for i := range t.Rules {
		f.source(&t.Rules[i])
	}
	if t.View {
		f.through(t)
	}
	for _, k := range t.Children {
		switch {
		case verb == Delete && k.OnDelete == Cascade:
			f.write(Use{k.Child, Delete, nil})
		case verb == Delete && k.OnDelete == SetNull,
			verb == Update && k.OnUpdate != NoAction && (assigned == nil || overlap(k.Refers, assigned)):
			f.write(Use{k.Child, Update, k.Columns})
		case verb == Truncate:
			f.write(Use{k.Child, Truncate, nil})
		}
	}
}

// Written adds to the columns that an update assigns those that are written besides: by triggers that
// run before, and those that the database computes. It is nil if that can be any.
func (t *Table) Written(assigned []int) []int {
	if assigned == nil {
		return nil
	}
	all := slices.Clone(assigned)
	for _, tr := range t.Triggers {
		if !tr.Before || tr.On&Update == 0 {
			continue
		}
		if tr.Source.Opaque || tr.Source.Body.Whole {
			return nil
		}
		for _, name := range tr.Source.Body.Assigns {
			i := t.ColumnIndex(name)
			if i < 0 {
				return nil
			}
			all = append(all, i)
		}
	}
	if len(all) > 0 {
		for i := range t.Columns {
			if t.Columns[i].Generated {
				all = append(all, i)
			}
		}
	}
	return all
}

// through follows a write to a view to the tables that it shows, and to what showing them runs.
func (f *follow) through(view *Table) {
	f.source(&view.Definition)
	for _, n := range view.Definition.Body.Reads {
		for _, t := range f.schema.named(n) {
			f.write(Use{t, AnyVerb &^ Truncate, nil})
		}
	}
}

func (f *follow) source(s *Source) {
	if s.Opaque {
		f.anywhere(whyOpaque)
		return
	}
	if s.Body.Dynamic {
		f.anywhere(whyDynamic)
	}
	for _, n := range s.Body.Writes {
		tables := f.schema.named(n)
		if len(tables) == 0 {
			f.anywhere(whyUnknown)
		}
		verbs := AnyVerb
		if !s.Body.Truncates {
			verbs &^= Truncate
		}
		for _, t := range tables {
			f.write(Use{t, verbs, nil})
		}
	}
	f.calls(s.Body.Calls)
	f.reads(s.Body.Reads)
}

func (f *follow) calls(names []sqltext.Name) {
	for _, n := range names {
		for _, r := range f.schema.routines[strings.ToLower(n.Name)] {
			if at := (step{routine: r}); !r.Pure && !f.done[at] {
				f.done[at] = true
				f.source(&r.Source)
			}
		}
	}
}

// reads follows what views do when they are read. A name with a qualifier can also be a call:
// PostgreSQL takes row.function for function(row).
func (f *follow) reads(names []sqltext.Name) {
	for _, n := range names {
		if n.Qualifier != "" {
			f.calls([]sqltext.Name{n})
		}
		for _, t := range f.schema.named(n) {
			if at := (step{table: t}); t.View && !f.done[at] {
				f.done[at] = true
				f.source(&t.Definition)
			}
		}
	}
}

func overlap(a, b []int) bool {
	return slices.ContainsFunc(a, func(i int) bool { return slices.Contains(b, i) })
}

// KeyStays reports whether rows that a statement names by primary key are those that it writes in t,
// so far as the statement and what runs before each row is concerned: no rule or view stands between,
// no key column is assigned or computed from what is, and no trigger changes the key. assigned nil
// means any column. It does not say that nothing else writes t: Effect does.
func (t *Table) KeyStays(verb Verbs, assigned []int) bool {
	if t.View || len(t.Rules) > 0 || len(t.Key) == 0 {
		return false
	}
	if verb&Update != 0 {
		if assigned = t.Written(assigned); assigned == nil || overlap(t.Key, assigned) {
			return false
		}
	}
	if verb&Insert == 0 {
		return true
	}
	for _, tr := range t.Triggers {
		if !tr.Before || tr.On&Insert == 0 {
			continue
		}
		if tr.Source.Opaque || tr.Source.Body.Whole {
			return false
		}
		for _, name := range tr.Source.Body.Assigns {
			if i := t.ColumnIndex(name); i < 0 || t.IsKey(i) {
				return false
			}
		}
	}
	return true
}
