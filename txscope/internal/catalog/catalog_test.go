package catalog

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// fixture builds schemas by name.
type fixture struct {
	tables   map[string]*Table
	order    []*Table
	routines []*Routine
}

func newFixture(names ...string) *fixture {
	f := &fixture{tables: make(map[string]*Table)}
	for _, name := range names {
		t := &Table{Schema: "public", Name: name, ID: name, Key: []int{0}, Columns: []Column{{Name: "id", Kind: Integer}, {Name: "parent_id", Kind: Integer}, {Name: "name", Kind: Text}}}
		f.tables[name] = t
		f.order = append(f.order, t)
	}
	return f
}

func (f *fixture) reference(child, parent string, onDelete, onUpdate Action) {
	c, p := f.tables[child], f.tables[parent]
	c.Parents = append(c.Parents, &ForeignKey{Name: child + "_" + parent, Child: c, Columns: []int{1}, Parent: p, Refers: []int{0}, OnDelete: onDelete, OnUpdate: onUpdate})
}

func (f *fixture) trigger(table string, tr Trigger) {
	f.tables[table].Triggers = append(f.tables[table].Triggers, &tr)
}

func (f *fixture) schema() *Schema { return New(f.order, f.routines, false) }

func body(writes []string, calls ...string) Source {
	var s Source
	for _, w := range writes {
		s.Body.Writes = append(s.Body.Writes, sqltext.Name{Name: w})
	}
	for _, c := range calls {
		s.Body.Calls = append(s.Body.Calls, sqltext.Name{Name: c})
	}
	return s
}

func (e *Effect) describe() string {
	var names []string
	for _, t := range e.Tables {
		names = append(names, t.Name)
	}
	slices.Sort(names)
	if e.Anywhere {
		names = append(names, "anywhere: "+e.Why)
	}
	return strings.Join(names, " ")
}

func TestEffect(t *testing.T) {
	f := newFixture("users", "orders", "items", "notes", "audit", "stats", "plain")
	f.reference("orders", "users", Cascade, NoAction)
	f.reference("items", "orders", Cascade, Cascade)
	f.reference("notes", "users", SetNull, SetNull)
	f.trigger("notes", Trigger{On: Update, Columns: []int{2}, Source: body([]string{"plain"})})
	f.trigger("items", Trigger{On: Delete, Source: body([]string{"audit"}, "recount")})
	f.trigger("stats", Trigger{On: Insert, Source: body([]string{"stats"})})
	f.routines = append(f.routines, &Routine{Name: "recount", Source: body([]string{"stats"}, "recount", "harmless")},
		&Routine{Name: "harmless", Pure: true, Source: Source{Opaque: true}},
		&Routine{Name: "magic", Source: Source{Opaque: true}},
		&Routine{Name: "typo", Source: body([]string{"nowhere"})},
		&Routine{Name: "dyn", Source: Source{Body: sqltext.Routine{Dynamic: true}}})
	view := &Table{Schema: "public", Name: "shown", View: true, Definition: Source{Body: sqltext.Routine{Reads: []sqltext.Name{{Name: "orders"}}, Calls: []sqltext.Name{{Name: "recount"}}}}}
	f.tables["shown"] = view
	f.order = append(f.order, view)
	s := f.schema()

	const unknown = "anywhere: " + whyUnknown
	for _, c := range []struct {
		name  string
		uses  []Use
		calls []string
		reads []string
		want  string
	}{
		{"nothing follows", []Use{{f.tables["plain"], AnyVerb, nil}}, nil, nil, ""},
		{"insert", []Use{{f.tables["users"], Insert, nil}}, nil, nil, ""},
		{"delete cascades", []Use{{f.tables["users"], Delete, nil}}, nil, nil, "audit items notes orders stats"},
		{"delete further down", []Use{{f.tables["orders"], Delete, nil}}, nil, nil, "audit items stats"},
		{"update of the key", []Use{{f.tables["users"], Update, []int{0}}}, nil, nil, "notes"},
		{"update of another column", []Use{{f.tables["users"], Update, []int{2}}}, nil, nil, ""},
		{"update of any column", []Use{{f.tables["users"], Update, nil}}, nil, nil, "notes"},
		{"update cascades", []Use{{f.tables["orders"], Update, []int{0}}}, nil, nil, "items"},
		{"update of a trigger's column", []Use{{f.tables["notes"], Update, []int{2}}}, nil, nil, "plain"},
		{"truncate", []Use{{f.tables["orders"], Truncate, nil}}, nil, nil, "items"},
		{"a function", nil, []string{"RECOUNT"}, nil, "stats"},
		{"built-in functions", nil, []string{"now", "count"}, []string{"users"}, ""},
		{"a pure function", nil, []string{"harmless"}, nil, ""},
		{"an opaque function", nil, []string{"magic"}, nil, "anywhere: " + whyOpaque},
		{"dynamic SQL", nil, []string{"dyn"}, nil, "anywhere: " + whyDynamic},
		{"an unknown table", nil, []string{"typo"}, nil, unknown},
		{"reading a view", nil, nil, []string{"shown"}, "stats"},
		{"writing a view that calls a function", []Use{{view, Update, nil}}, nil, nil, "audit items orders stats"},
	} {
		t.Run(c.name, func(t *testing.T) {
			named := func(list []string) (names []sqltext.Name) {
				for _, n := range list {
					names = append(names, sqltext.Name{Name: n})
				}
				return names
			}
			e := s.Effect(c.uses, named(c.calls), named(c.reads))
			if got := e.describe(); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			for _, table := range f.order {
				if want := e.Anywhere || slices.Contains(e.Tables, table); e.Writes(table) != want {
					t.Errorf("Writes(%s) = %v", table.Name, !want)
				}
			}
		})
	}
}

// TestEffectAgainstModel compares with a walk that knows nothing of steps taken: over random graphs of
// foreign keys and triggers, what a delete reaches is the least set that is closed.
func TestEffectAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a", "b", "c", "d", "e"}
		f := newFixture(names...)
		one := rapid.SampledFrom(names)
		type edge struct {
			from, to string
			verb     Verbs // that sets it off
			then     Verbs
		}
		var edges []edge
		for range rapid.IntRange(0, 8).Draw(t, "edges") {
			from, to := one.Draw(t, "from"), one.Draw(t, "to")
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				f.reference(to, from, Cascade, NoAction)
				edges = append(edges, edge{from, to, Delete, Delete})
			case 1:
				f.reference(to, from, SetNull, NoAction)
				edges = append(edges, edge{from, to, Delete, Update})
			case 2:
				f.reference(to, from, NoAction, Cascade)
				edges = append(edges, edge{from, to, Update, Update})
			default:
				verb := rapid.SampledFrom([]Verbs{Insert, Update, Delete}).Draw(t, "verb")
				f.trigger(from, Trigger{On: verb, Source: body([]string{to})})
				edges = append(edges, edge{from, to, verb, AnyVerb})
				continue
			}
			edges = append(edges, edge{from, to, Truncate, Truncate})
		}
		verb := rapid.SampledFrom([]Verbs{Insert, Update, Delete}).Draw(t, "use")
		start := one.Draw(t, "start")

		// Columns are not modelled, so an UPDATE that sets parent_id is taken for one of the key: the
		// model may reach more than is possible, and never less.
		reached := map[string]Verbs{start: verb}
		written := map[string]bool{}
		for again := true; again; {
			again = false
			for _, e := range edges {
				if reached[e.from]&e.verb != 0 && (reached[e.to]&e.then != e.then || !written[e.to]) {
					reached[e.to] |= e.then
					written[e.to] = true
					again = true
				}
			}
		}
		e := f.schema().Effect([]Use{{f.tables[start], verb, nil}}, nil, nil)
		for _, table := range e.Tables {
			if !written[table.Name] {
				t.Fatalf("%s cannot be written: %v", table.Name, edges)
			}
		}
		// Without columns that make a difference both are the same.
		if !slices.ContainsFunc(edges, func(e edge) bool { return e.then == Update }) && len(e.Tables) != len(written) {
			t.Fatalf("%s, want %v", e.describe(), written)
		}
		for name := range written {
			if !e.Writes(f.tables[name]) && slices.ContainsFunc(edges, func(e edge) bool { return e.from == start && e.to == name && e.verb&verb != 0 }) {
				t.Fatalf("%s is one step away and was not found", name)
			}
		}
	})
}

func TestKeyStays(t *testing.T) {
	plain := func() *fixture { return newFixture("t") }
	with := func(tr Trigger) *fixture { f := plain(); f.trigger("t", tr); return f }
	before := func(r sqltext.Routine) Trigger {
		return Trigger{On: Insert | Update, Before: true, Source: Source{Body: r}}
	}
	for _, c := range []struct {
		name     string
		f        *fixture
		change   func(*Table)
		verb     Verbs
		assigned []int
		want     bool
	}{
		{"plain", plain(), nil, Update, []int{2}, true},
		{"insert", plain(), nil, Insert, nil, true},
		{"the key is assigned", plain(), nil, Update, []int{2, 0}, false},
		{"anything is assigned", plain(), nil, Update, nil, false},
		{"no key", plain(), func(t *Table) { t.Key = nil }, Insert, nil, false},
		{"a view", plain(), func(t *Table) { t.View = true }, Insert, nil, false},
		{"a rule", plain(), func(t *Table) { t.Rules = make([]Source, 1) }, Insert, nil, false},
		{"a trigger that stamps", with(before(sqltext.Routine{Assigns: []string{"NAME"}})), nil, Update, []int{2}, true},
		{"a trigger that changes the key", with(before(sqltext.Routine{Assigns: []string{"id"}})), nil, Update, []int{2}, false},
		{"a trigger that changes the key, of a delete", with(before(sqltext.Routine{Assigns: []string{"id"}})), nil, Delete, nil, true},
		{"a trigger that replaces the row", with(before(sqltext.Routine{Whole: true})), nil, Insert, nil, false},
		{"a trigger that assigns what is no column", with(before(sqltext.Routine{Assigns: []string{"x"}})), nil, Insert, nil, false},
		{"a trigger that cannot be read", with(Trigger{On: Update, Before: true, Source: Source{Opaque: true}}), nil, Update, []int{2}, false},
		{"a trigger that comes after", with(Trigger{On: Update, Source: Source{Opaque: true}}), nil, Update, []int{2}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := c.f.tables["t"]
			if c.change != nil {
				c.change(table)
			}
			if got := table.KeyStays(c.verb, c.assigned); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
}

// A trigger that truncates a table reaches those that refer to it; one that updates it does not.
func TestTruncatingTrigger(t *testing.T) {
	for _, truncates := range []bool{true, false} {
		f := newFixture("a", "b", "children")
		f.reference("children", "b", NoAction, NoAction)
		source := body([]string{"b"})
		source.Body.Truncates = truncates
		f.trigger("a", Trigger{On: Insert, Source: source})
		want := map[bool]string{true: "b children", false: "b"}[truncates]
		if got := f.schema().Effect([]Use{{f.tables["a"], Insert, nil}}, nil, nil).describe(); got != want {
			t.Errorf("truncates %v: %q, want %q", truncates, got, want)
		}
	}
}

// What a trigger or the database itself assigns counts as assigned by the statement.
func TestWrittenBesides(t *testing.T) {
	build := func(change func(parent *Table)) (*Schema, *Table) {
		f := newFixture("parents", "children")
		parent := f.tables["parents"]
		f.tables["children"].Parents = []*ForeignKey{{Child: f.tables["children"], Columns: []int{1}, Parent: parent, Refers: []int{1}, OnUpdate: Cascade}}
		change(parent)
		return f.schema(), parent
	}
	for _, c := range []struct {
		name   string
		change func(*Table)
		want   string
	}{
		{"nothing", func(*Table) {}, ""},
		{"a trigger assigns it", func(p *Table) {
			p.Triggers = []*Trigger{{On: Update, Before: true, Source: Source{Body: sqltext.Routine{Assigns: []string{"parent_id"}}}}}
		}, "children"},
		{"a trigger assigns another", func(p *Table) {
			p.Triggers = []*Trigger{{On: Update, Before: true, Source: Source{Body: sqltext.Routine{Assigns: []string{"name"}}}}}
		}, ""},
		{"a trigger replaces the row", func(p *Table) {
			p.Triggers = []*Trigger{{On: Update, Before: true, Source: Source{Body: sqltext.Routine{Whole: true}}}}
		}, "children"},
		{"it is computed", func(p *Table) { p.Columns[1].Generated = true }, "children"},
		{"a trigger waits for what is computed", func(p *Table) {
			p.Columns[0].Generated = true
			p.Triggers = []*Trigger{{On: Update, Columns: []int{0}, Source: body([]string{"children"})}}
		}, "children"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, parent := build(c.change)
			if got := s.Effect([]Use{{parent, Update, []int{2}}}, nil, nil).describe(); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	_, parent := build(func(p *Table) { p.Columns[0].Generated = true })
	if parent.KeyStays(Update, []int{2}) {
		t.Error("a key that is computed stays")
	}
}

// PostgreSQL takes u.purge for purge(u).
func TestCallByAttribute(t *testing.T) {
	f := newFixture("users", "logs")
	f.routines = []*Routine{{Name: "purge", Source: body([]string{"logs"})}}
	if got := f.schema().Effect(nil, nil, []sqltext.Name{{Qualifier: "u", Name: "purge"}}).describe(); got != "logs" {
		t.Errorf("%q", got)
	}
}

func TestColumnIndex(t *testing.T) {
	table := &Table{Columns: []Column{{Name: "ID"}, {Name: "id"}, {Name: "Name"}}}
	for name, want := range map[string]int{"ID": 0, "id": 1, "name": 2, "none": -1} {
		if got := table.ColumnIndex(name); got != want {
			t.Errorf("%s: %d", name, got)
		}
	}
}

func TestLookup(t *testing.T) {
	a := &Table{Schema: "public", Name: "Users"}
	b := &Table{Schema: "other", Name: "Users"}
	for _, c := range []struct {
		fold bool
		name sqltext.Name
		path []string
		want *Table
	}{
		{false, sqltext.Name{Name: "Users"}, []string{"none", "other", "public"}, b},
		{false, sqltext.Name{Name: "users"}, []string{"public"}, nil},
		{true, sqltext.Name{Name: "USERS"}, []string{"PUBLIC"}, a},
		{false, sqltext.Name{Qualifier: "public", Name: "Users"}, []string{"other"}, a},
		{false, sqltext.Name{Qualifier: "Public", Name: "Users"}, nil, nil},
		{false, sqltext.Name{Name: "Users"}, nil, nil},
	} {
		if got := New([]*Table{a, b}, nil, c.fold).Lookup(c.name, c.path); got != c.want {
			t.Errorf("%v by %v: %v", c.name, c.path, got)
		}
	}
}

func TestByKey(t *testing.T) {
	parent := &Table{Key: []int{2, 0}}
	child := &Table{}
	k := &ForeignKey{Child: child, Parent: parent, Columns: []int{5, 6}, Refers: []int{0, 2}}
	if columns, ok := k.ByKey(); !ok || !slices.Equal(columns, []int{6, 5}) {
		t.Errorf("%v, %v", columns, ok)
	}
	for _, refers := range [][]int{{0, 1}, {0}, {0, 1, 2}} {
		k.Refers = refers
		if columns, ok := k.ByKey(); ok {
			t.Errorf("%v: %v", refers, columns)
		}
	}
}
