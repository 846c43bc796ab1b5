package postgres

import (
	"context"
	"database/sql/driver"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/internal/catalog"
	"github.com/alkey-go/alkey/txscope/internal/rowid"
)

// touch is a foreign key along which a statement changes the parents of the rows that it writes.
type touch struct {
	parent *table
	// columns are the child's, in the order of the parent's key. nil: the parent's rows are not told.
	columns []int
	kinds   []catalog.Kind
	moves   bool  // the statement may give the rows other parents
	given   []int // where VALUES has the columns, if what it has is what is stored
	above   []tokens.ID
}

// touches lists what a statement on a's table touches. assigned are the columns that it assigns; nil:
// any.
func (db *database) touches(a *action, assigned []int) []*touch {
	t := a.table
	if !db.touch.Any() || !db.touch.Parents(t.ID) {
		return nil
	}
	var all []*touch
	for _, k := range t.Parents {
		if a.verb == catalog.Update && k.Parent == nil {
			continue
		}
		one := &touch{parent: parentOf(k)}
		one.above = db.above(k.Parent)
		all = append(all, one)
		columns, byKey := k.ByKey()
		if !byKey || one.parent.whole != "" {
			continue
		}
		for _, c := range columns {
			one.kinds = append(one.kinds, t.Columns[c].Kind)
		}
		if slices.Contains(one.kinds, catalog.Other) || slices.Contains(one.kinds, catalog.Text) && !sameKinds(k) {
			continue
		}
		changes := t.triggerAssigns(a.verb, columns)
		if a.verb&catalog.Update != 0 {
			one.moves = changes || assigned == nil || overlap(columns, assigned)
		}
		if one.moves && a.verb != catalog.Update {
			continue // of an upsert the old row is not known
		}
		one.columns = columns
		if a.verb == catalog.Insert && !changes {
			if at, ok := a.positions(a.named.columnsOf(t, columns)); ok && len(a.dml.Values) > 0 {
				one.given = at
			}
		}
	}
	return all
}

func sameKinds(k *catalog.ForeignKey) bool {
	for i, c := range k.Columns {
		if k.Child.Columns[c].Kind != k.Parent.Columns[k.Refers[i]].Kind {
			return false
		}
	}
	return true
}

func overlap(a, b []int) bool {
	return slices.ContainsFunc(a, func(i int) bool { return slices.Contains(b, i) })
}

// parentOf wraps a parent as far as touching it takes.
func parentOf(k *catalog.ForeignKey) *table {
	p := &table{Table: k.Parent, all: tokens.Table(k.Parent.ID)}
	if len(k.Parent.Key) == 0 {
		p.whole = whyNoKey
	}
	for _, i := range k.Parent.Key {
		if k.Parent.Columns[i].Kind == catalog.Other {
			p.whole = whyKeyKind
		}
	}
	return p
}

// triggerAssigns reports whether a trigger may change one of the columns of a row before it is
// written.
func (t *table) triggerAssigns(verb catalog.Verbs, columns []int) bool {
	for _, tr := range t.Triggers {
		if !tr.Before || tr.On&verb&(catalog.Insert|catalog.Update) == 0 {
			continue
		}
		if tr.Source.Opaque || tr.Source.Body.Whole {
			return true
		}
		for _, name := range tr.Source.Body.Assigns {
			if i := t.ColumnIndex(name); i < 0 || slices.Contains(columns, i) {
				return true
			}
		}
	}
	return false
}

// touched are the tables to be swept where rows of t change that are not known.
func (db *database) touched(t *table) []tokens.ID {
	if !db.touch.Any() || !db.touch.Parents(t.ID) {
		return nil
	}
	var ids []tokens.ID
	for _, k := range t.Parents {
		if id := tokens.Table(k.Parent.ID); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
		for _, id := range db.above(k.Parent) {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// above are the tables that a touched parent touches in turn, if it does. Which of their rows is not
// asked: they are swept.
func (db *database) above(parent *catalog.Table) []tokens.ID {
	if !db.touch.Ancestors() {
		return nil
	}
	var ids []tokens.ID
	done := []*catalog.Table{parent}
	for i := 0; i < len(done); i++ {
		if !db.touch.Parents(done[i].ID) {
			continue
		}
		for _, k := range done[i].Parents {
			if !slices.Contains(done, k.Parent) {
				done = append(done, k.Parent)
			}
			if id := tokens.Table(k.Parent.ID); !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// touch records a parent, or all of them if it is not told. A NULL names none.
func (s *session) touch(t *touch, values []any) {
	if slices.Contains(values, nil) {
		return
	}
	ids, ok := rowid.Append(nil, t.parent.ID, values...)
	if !ok {
		s.touchAll(t)
		return
	}
	for _, id := range ids {
		s.rec.Add(id)
	}
	if len(t.above) > 0 {
		s.work.climb(t.parent.Table, values)
		s.rec.Unsure() // who they touch is asked before COMMIT
	}
}

func (s *session) touchAll(t *touch) {
	s.rec.Sweep(t.parent.all, whyTouched)
	for _, id := range t.above {
		s.rec.Sweep(id, whyTouched)
	}
}

// touchesGiven reports whether the parents of all rows stand in the arguments.
func (a *action) touchesGiven(args []driver.NamedValue) bool {
	for _, t := range a.touches {
		if t.columns == nil {
			continue // swept
		}
		if t.given == nil {
			return false
		}
		for _, r := range a.dml.Values {
			for i, at := range t.given {
				if at >= len(r) || !plain(r[at]) {
					return false
				}
				if _, _, ok := valueOf(r[at], args, t.kinds[i]); !ok {
					return false
				}
			}
		}
	}
	return true
}

// touchGiven records the parents of rows that touchesGiven has found to be told.
func (s *session) touchGiven(a *action, args []driver.NamedValue) {
	for _, t := range a.touches {
		if t.columns == nil {
			s.touchAll(t)
			continue
		}
		for _, r := range a.dml.Values {
			values := make([]any, len(t.given))
			for i, at := range t.given {
				values[i], _, _ = valueOf(r[at], args, t.kinds[i])
			}
			s.touch(t, values)
		}
	}
}

// old are rows as they were before a statement gives them other parents: by identifier, the values of
// the columns that are needed.
type old map[tokens.ID][]any

// previous reads the rows that a statement is about to write, if it may give them other parents or may
// not return those that they have. They
// are locked as the statement locks them: else they could be moved once more in between. Without an
// answer their parents are not told.
func (s *session) previous(ctx context.Context, m *meaning, call *txscope.Call) old {
	a := m.action
	d := a.dml
	// Which columns a statement returns that was written so is not known before it has run.
	wanted := func(t *touch) bool { return t.columns != nil && (t.moves || d.Returning && a.verb != catalog.Insert) }
	if !slices.ContainsFunc(a.touches, wanted) || d.Joined || d.With || d.Cursor || d.Target.Empty() || !ordinary(call.Args) || !s.mayRead(m) {
		return nil
	}
	list, _ := a.list()
	if list == "" {
		return nil
	}
	text := "SELECT " + list + " FROM " + d.Target.Of(call.Query) + "\n" + d.Where.Of(call.Query) +
		"\nLIMIT " + strconv.Itoa(tokens.MaxRowsPerTable+1) + " FOR NO KEY UPDATE OF " + a.reference()
	rows, fields, ok := s.selected(ctx, text, call)
	if !ok || len(rows) > tokens.MaxRowsPerTable {
		return nil
	}
	found := make(old, len(rows))
	for _, r := range rows {
		values := make([]any, len(r))
		for i, raw := range r {
			if raw == nil {
				continue
			}
			if values[i], ok = decode(raw, &fields[i], a.named.Columns[a.needed[i]].Kind); !ok {
				return nil
			}
		}
		found[a.identify(values)] = values
	}
	return found
}

// identify names a row by the first of the values, which are its key.
func (a *action) identify(values []any) tokens.ID {
	return tokens.Row(a.table.ID, values[:len(a.table.Key)]...)
}

// selected runs a query of the capture's own with the arguments of a statement, of which it need not
// have all.
func (s *session) selected(ctx context.Context, text string, call *txscope.Call) ([]row, []pgconn.FieldDescription, bool) {
	var b pgconn.Batch
	var params pgx.ExtendedQueryBuilder
	var types []uint32
	if len(call.Args) > 0 {
		// The types that arguments have are those that they have in the statement.
		described, err := s.describe(ctx, call.Query)
		if err != nil || len(described.ParamOIDs) != len(call.Args) {
			return nil, nil, false
		}
		args := make([]any, len(call.Args))
		for i, arg := range call.Args {
			args[i] = arg.Value
		}
		if err := params.Build(s.pgx.TypeMap(), &pgconn.StatementDescription{ParamOIDs: described.ParamOIDs}, args); err != nil {
			return nil, nil, false
		}
		types = described.ParamOIDs
	}
	b.ExecParams("SAVEPOINT "+savepoint, nil, nil, nil, nil)
	b.ExecParams(text, params.ParamValues, types, params.ParamFormats, nil)
	b.ExecParams("RELEASE SAVEPOINT "+savepoint, nil, nil, nil, nil)
	results, err := s.pg.ExecBatch(ctx, &b).ReadAll()
	if err != nil {
		s.rescue(ctx)
		return nil, nil, false
	}
	rows, err := rowsOf(results[1])
	return rows, results[1].FieldDescriptions, err == nil
}

// describe asks for the types of a statement's arguments.
func (s *session) describe(ctx context.Context, text string) (*pgconn.StatementDescription, error) {
	if err := s.send(ctx, "SAVEPOINT "+savepoint); err != nil {
		return nil, err
	}
	described, err := s.pg.Prepare(ctx, "", text, nil)
	if err != nil {
		s.rescue(ctx)
		return nil, err
	}
	return described, s.send(ctx, "RELEASE SAVEPOINT "+savepoint)
}

// family is a table with rows that were touched, and whose own parents are yet to be.
type family struct {
	table *catalog.Table
	keys  map[tokens.ID][]any
}

// climb notes a row whose parents are touched before COMMIT.
func (w *work) climb(t *catalog.Table, key []any) {
	i := slices.IndexFunc(w.families, func(f family) bool { return f.table == t })
	if i < 0 {
		i = len(w.families)
		w.families = append(w.families, family{t, make(map[tokens.ID][]any)})
	}
	if f := w.families[i]; len(f.keys) <= tokens.MaxRowsPerTable {
		f.keys[tokens.Row(t.ID, key...)] = slices.Clone(key)
	}
}

// ascend touches the parents of what was touched, and so on. Who they are is read under a lock, without
// waiting for one: else they could become others before COMMIT. If it is taken they are all touched.
func (s *session) ascend(ctx context.Context) {
	done := make(map[tokens.ID]bool)
	for len(s.work.families) > 0 {
		f := s.work.families[0]
		s.work.families = s.work.families[1:]
		for id := range f.keys {
			if done[id] {
				delete(f.keys, id)
			}
			done[id] = true
		}
		if len(f.keys) > 0 {
			s.ascendFrom(ctx, f)
		}
	}
}

func (s *session) ascendFrom(ctx context.Context, f family) {
	if !s.db.touch.Parents(f.table.ID) {
		return
	}
	known := s.db.current()
	var t *table
	if known != nil {
		t = known.of[f.table]
	}
	if t == nil || len(f.keys) > tokens.MaxRowsPerTable {
		for _, k := range f.table.Parents {
			s.touchAll(&touch{parent: parentOf(k), above: s.db.above(k.Parent)})
		}
		return
	}
	a := &action{verb: catalog.Delete, named: t, table: t}
	a.touches = s.db.touches(a, []int{})
	a.needed = a.needs()
	r := reader{s: s, a: a}
	if !s.readFamily(ctx, &r, f) {
		for _, one := range a.touches {
			s.touchAll(one)
		}
	}
}

// readFamily reads rows of a family, and touches their parents.
func (s *session) readFamily(ctx context.Context, r *reader, f family) bool {
	a := r.a
	var key, list, where []string
	for _, i := range a.table.Key {
		key = append(key, quoted(a.table.Columns[i].Name))
	}
	for _, c := range a.needed {
		if !a.table.readable[c] {
			return false
		}
		list = append(list, quoted(a.table.Columns[c].Name))
	}
	for _, values := range f.keys {
		var texts []string
		for _, v := range values {
			text, ok := s.literal(v)
			if !ok {
				return false
			}
			texts = append(texts, text)
		}
		where = append(where, "("+strings.Join(texts, ", ")+")")
	}
	rows, err := s.ask(ctx, "SELECT "+strings.Join(list, ", ")+" FROM "+a.table.spelled[1]+
		" WHERE ("+strings.Join(key, ", ")+") IN ("+strings.Join(where, ", ")+") FOR SHARE NOWAIT")
	if err != nil {
		return false
	}
	for i := range a.needed {
		r.at = append(r.at, i)
		r.fields = append(r.fields, pgconn.FieldDescription{}) // in text
	}
	for _, values := range rows {
		if !r.decode(values) {
			return false
		}
		for _, t := range a.touches {
			if t.columns == nil {
				s.touchAll(t)
			} else {
				r.touch(t, r.values, true)
			}
		}
	}
	return true
}

// literal writes a key in a text.
func (s *session) literal(v any) (string, bool) {
	var text string
	switch v := v.(type) {
	case int64:
		text = strconv.FormatInt(v, 10)
	case uint64:
		text = strconv.FormatUint(v, 10)
	case string:
		text = v
	case []byte:
		text = `\x` + hex.EncodeToString(v)
	default:
		return "", false
	}
	escaped, err := s.pg.EscapeString(text)
	return "'" + escaped + "'", err == nil
}
