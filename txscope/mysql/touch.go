package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"strings"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/internal/catalog"
	"github.com/alkey-go/alkey/txscope/internal/rowid"
)

// parent is a reference whose parent changes with the child.
type parent struct {
	known *knowledge
	table *table
	at    []int // of the columns that name it, among those of the claim, in the order of its key; nil: it is named otherwise
	// looks says that the parent has to be looked up: its key can be spelled in another way than the
	// child has it, or its own parents are wanted.
	looks bool
}

const whyTouched = "a child of which it is not known whose it is"

// touch works out whose parents change with the rows of a claim.
func (c *claim) touch(k *knowledge, assigned []int) {
	c.parents, c.columns = k.references(c.table)
	if len(c.parents) == 0 {
		return
	}
	assigned = c.table.Written(assigned)
	for _, key := range c.table.Parents {
		c.moves = c.moves || assigned == nil || slices.ContainsFunc(key.Columns, func(i int) bool { return slices.Contains(assigned, i) })
	}
}

// references lists the parents that change with rows of t, and the columns that tell them: those of the
// key come first.
func (k *knowledge) references(t *table) (parents []parent, columns []int) {
	columns = slices.Clip(t.Key)
	if !k.rules.Parents(t.all.Table) {
		return nil, columns
	}
	for _, key := range t.Parents {
		p := parent{known: k, table: k.tables[key.Parent]}
		if own, ok := key.ByKey(); ok {
			p.looks = k.climbs(p.table)
			for i, column := range own {
				kind := t.Columns[column].Kind
				if kind == catalog.Other || kind != key.Parent.Columns[key.Parent.Key[i]].Kind {
					p.at = nil
					break
				}
				p.looks = p.looks || kind == catalog.Text
				at := slices.Index(columns, column)
				if at < 0 {
					at = len(columns)
					columns = append(columns, column)
				}
				p.at = append(p.at, at)
			}
		}
		parents = append(parents, p)
	}
	return parents, columns
}

// climbs reports whether a parent's own parents change with it.
func (k *knowledge) climbs(t *table) bool {
	return k.rules.Ancestors() && len(t.Parents) > 0 && k.rules.Parents(t.all.Table)
}

// above lists the tables that are swept when t is as that of a parent.
func (k *knowledge) above(t *table) []*table {
	if !k.climbs(t) {
		return nil
	}
	return k.parents(t)
}

// sweptWith lists the tables that are swept when a table is whose rows' parents change with them.
func sweptWith(k *knowledge) map[*table][]*table {
	all := make(map[*table][]*table)
	if !k.rules.Any() {
		return all
	}
	for _, t := range k.tables {
		seen := []*table{}
		var add func(child *table)
		add = func(child *table) {
			for _, key := range child.Parents {
				p := k.tables[key.Parent]
				if slices.Contains(seen, p) {
					continue
				}
				seen = append(seen, p)
				if k.climbs(p) {
					add(p)
				}
			}
		}
		if k.rules.Parents(t.all.Table) {
			add(t)
		}
		if len(seen) > 0 {
			all[t] = seen
		}
	}
	return all
}

// above are parents that change.
type above struct {
	ids    []tokens.ID
	swept  []*table
	lookup []lookup
}

// lookup is a parent that has to be looked up by the key that its child has.
type lookup struct {
	known *knowledge // that the table belongs to
	table *table
	key   []any
}

func (l *lookup) id() tokens.ID { return tokens.Row(l.table.ID, l.key...) }

// read takes in whose child a row is.
func (a *above) read(p *parent, row []any) {
	if p.at == nil {
		a.sweep(p)
		return
	}
	var key []any
	for _, i := range p.at {
		if row[i] == nil {
			return // NULL names nobody
		}
		key = append(key, row[i])
	}
	if p.looks {
		a.lookup = append(a.lookup, lookup{p.known, p.table, keep(key)})
		return
	}
	var ok bool
	if a.ids, ok = rowid.Append(a.ids, p.table.ID, key...); !ok {
		a.sweep(p)
	}
}

// sweep notes a parent of which it is not known which row it is, and its own parents with it.
func (a *above) sweep(p *parent) {
	for _, t := range append([]*table{p.table}, p.known.above(p.table)...) {
		a.sweepTable(t)
	}
}

func (a *above) sweepTable(t *table) {
	if !slices.Contains(a.swept, t) {
		a.swept = append(a.swept, t)
	}
}

func (a *above) merge(b *above) {
	a.ids = append(a.ids, b.ids...)
	a.lookup = append(a.lookup, b.lookup...)
	for _, t := range b.swept {
		a.sweepTable(t)
	}
}

// pending are the parents that are looked up before a transaction commits, each once, in the order in
// which they were met.
type pending struct {
	lookup     []lookup
	looked     int // how many of them were looked up, for a commit that may not come about
	met        map[tokens.ID]bool
	savepoints []savepoint
	lost       bool // savepoints can have been set unseen, so nothing is forgotten
}

// savepoint is a savepoint with how many parents had been met before.
type savepoint struct {
	name  string
	after int
}

// add adds a parent. It is false if they are too many.
func (p *pending) add(l *lookup) bool {
	id := l.id()
	switch {
	case p.met[id]:
		return true
	case len(p.lookup) >= tokens.MaxRowsPerTable:
		return false
	case p.met == nil:
		p.met = make(map[tokens.ID]bool)
	}
	p.met[id] = true
	p.lookup = append(p.lookup, *l)
	return true
}

// follow takes in what a statement that ended with err did to savepoints. What came after one that is
// rolled back to is forgotten, as the wrapper forgets what is recorded.
func (p *pending) follow(c txscope.Control, err error) {
	switch {
	case c.Kind == txscope.KindNone, errors.Is(err, driver.ErrSkip):
	case c.Kind == txscope.KindMixed:
		p.lost = true
	case c.Kind == txscope.KindSavepoint && err == nil:
		p.savepoints = slices.DeleteFunc(p.savepoints, func(s savepoint) bool { return strings.EqualFold(s.name, c.Name) }) // it takes its place
		p.savepoints = append(p.savepoints, savepoint{c.Name, len(p.lookup)})
	case c.Kind == txscope.KindRelease && err == nil:
		if i := p.find(c.Name); i >= 0 {
			p.savepoints = p.savepoints[:i]
		}
	case c.Kind == txscope.KindRollbackTo && err == nil:
		p.rollbackTo(p.find(c.Name))
	case c.Kind == txscope.KindSavepoint, c.Kind == txscope.KindRelease, c.Kind == txscope.KindRollbackTo:
		p.lost = true // an error does not tell what is there
	}
}

// find returns the index of a savepoint, or -1.
func (p *pending) find(name string) int {
	return slices.IndexFunc(p.savepoints, func(s savepoint) bool { return strings.EqualFold(s.name, name) })
}

func (p *pending) rollbackTo(savepoint int) {
	if p.lost || savepoint < 0 {
		return
	}
	p.savepoints = p.savepoints[:savepoint+1]
	after := p.savepoints[savepoint].after
	for i := range p.lookup[after:] {
		delete(p.met, p.lookup[after+i].id())
	}
	p.lookup = p.lookup[:after]
	p.looked = min(p.looked, after)
}

// touch gives the recorder the parents that change. Those that have to be looked up wait for the end of the
// transaction: they are locked then, and nothing is waited for any more while they are.
func (s *session) touch(a *above) {
	for _, id := range a.ids {
		s.rec.Add(id)
	}
	for _, t := range a.swept {
		s.rec.Sweep(t.all, whyTouched)
	}
	if len(a.lookup) > 0 {
		s.rec.Unsure()
	}
	for i := range a.lookup {
		if l := &a.lookup[i]; !s.pending.add(l) {
			s.sweepParent(l.known, l.table)
		}
	}
}

// sweepParent notes that it is not known which rows of a parent's table change, nor whose children they
// are.
func (s *session) sweepParent(k *knowledge, t *table) {
	s.rec.Sweep(t.all, whyTouched)
	for _, more := range k.above(t) {
		s.rec.Sweep(more.all, whyTouched)
	}
}

// sweepAbove sweeps the tables of the parents that are to be looked up, where there is no time for that.
func (s *session) sweepAbove() {
	for _, l := range s.pending.lookup[s.pending.looked:] {
		s.sweepParent(l.known, l.table)
	}
	s.pending.looked = len(s.pending.lookup)
}

// climb looks up the parents that wait for the end of the transaction, and their parents where these are
// wanted. Others can have changed them since the transaction began, so they are read as they are now, and
// locked against changes until it is committed. One that somebody else has locked, or that is not there any
// more, is not found, and its table is swept. If the transaction goes on all the same they wait for its end
// again: what was found can be forgotten with a savepoint that is younger than they are.
func (s *session) climb(ctx context.Context) {
	wanted := slices.Clone(s.pending.lookup)
	s.pending.looked = len(wanted)
	seen := make(map[tokens.ID]bool)
	for len(wanted) > 0 {
		k, t := wanted[0].known, wanted[0].table
		var keys [][]any
		var others []lookup
		for _, l := range wanted {
			if l.table != t {
				others = append(others, l)
			} else if id := l.id(); !seen[id] {
				seen[id] = true
				keys = append(keys, l.key)
			}
		}
		wanted = others
		if len(keys) > 0 {
			wanted = append(wanted, s.lookUp(ctx, k, t, keys)...)
		}
	}
}

// lookUp looks up rows of one table, and returns the parents of these that have to be looked up in turn.
func (s *session) lookUp(ctx context.Context, k *knowledge, t *table, keys [][]any) []lookup {
	if k != s.db.now() || k.server.skipsLocked == "" || len(keys) > tokens.MaxRowsPerTable || s.busy() || s.wire.dead() {
		s.sweepParent(k, t)
		return nil
	}
	c := &claim{table: t, columns: t.Key}
	if k.climbs(t) {
		c.parents, c.columns = k.references(t)
	}
	f := &found{claim: c}
	if slices.ContainsFunc(c.columns, func(i int) bool { return t.Columns[i].Kind == catalog.Text }) {
		f.utf8 = s.setUp(ctx).results
	}
	query, args := t.byKeys(c.columns, keys)
	err := s.query(ctx, query+k.server.skipsLocked, args, func(row []driver.Value) error {
		f.read(row)
		return nil
	})
	if err != nil || f.lost != "" || f.rows < len(keys) {
		s.sweepParent(k, t)
		return nil
	}
	for _, id := range f.ids {
		s.rec.Add(id)
	}
	more := f.above.lookup
	f.above.lookup = nil
	s.touch(&f.above)
	return more
}

// children reads whose children the rows are that the statement has written. Its error is that of findAfter.
func (w *writing) children(f *found, keys [][]any) error {
	if len(w.plan.claim.parents) == 0 || f.lost != "" || len(keys) == 0 {
		return nil
	}
	now, err := w.findAfter(keys)
	f.take(now)
	return err
}

// touching runs a statement that names its rows, and notes their parents, the old ones and the new ones.
func (w *writing) touching(keys [][]any, run func() (driver.Result, error)) (driver.Result, error) {
	c := w.plan.claim
	f := w.identify(keys)
	before := !(c.verb == insert && !c.dml.Upsert)
	if before {
		if c.returns && !c.dml.Upsert {
			return w.returning(run)
		}
		old, err := w.find(w.ctx, keys, forUpdate)
		switch {
		case err != nil && w.fatal(err):
			return nil, err
		case err != nil:
			return w.unclaimed(whyRefused, run)
		}
		if c.named {
			f = old
		} else {
			f.take(old)
		}
		w.wire.forget()
	}
	res, err := run()
	if err != nil {
		return nil, err
	}
	if c.named {
		w.compare(f, w.affected(res))
	} else if w.affected(res) == 0 {
		return res, nil
	}
	if !c.named || c.moves {
		if c.named {
			keys = f.keys
		}
		err = w.children(f, keys)
	}
	w.record(f)
	return res, err
}
