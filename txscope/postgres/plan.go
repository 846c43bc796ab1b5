package postgres

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/internal/catalog"
	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// plan is what the capture makes of a text. It is shared by all who run the text.
type plan struct {
	query     string
	text      *sqltext.Text
	control   txscope.Control
	chains    bool // the text is COMMIT AND CHAIN and nothing else
	undoes    bool // it is ROLLBACK AND CHAIN
	loses     bool // what the session's path and role are is not known after it
	queryless bool // it runs no query: SET, LOCK and the like, some of which must come first in a transaction

	quiet atomic.Pointer[schema]  // by this schema it writes nothing, and loses nothing
	last  atomic.Pointer[meaning] // the newest of its meanings
}

// notUnderstood is the plan of a text that cannot be read.
var notUnderstood = newPlan("", &sqltext.Text{Statements: []sqltext.Statement{{
	Verb: sqltext.Unknown, Anywhere: true, Why: whyUnreadable, Control: sqltext.OtherControl, Alone: true,
}}})

// rewritten is the plan of a text that another takes the place of when it runs.
var rewritten = newPlan("", &sqltext.Text{Statements: []sqltext.Statement{{Verb: sqltext.Unknown, Anywhere: true, Why: whyUnreadable}}})

func newPlan(query string, text *sqltext.Text) *plan {
	p := &plan{query: query, text: text, queryless: true}
	several := len(text.Statements) > 1
	for i := range text.Statements {
		st := &text.Statements[i]
		kind := kinds[st.Control]
		switch {
		case kind == txscope.KindNone:
		case several:
			p.control = txscope.Control{Kind: txscope.KindMixed}
		default:
			p.control = txscope.Control{Kind: kind, Name: st.Savepoint}
		}
		if !several && st.Control == sqltext.OtherControl {
			words := wordsOf(query, st)
			if n := len(words); n > 2 && words[n-1] == "chain" && words[n-2] == "and" {
				p.chains = words[0] == "commit" || words[0] == "end"
				p.undoes = words[0] == "rollback" || words[0] == "abort"
			}
		}
		lost, _ := loses(query, st)
		p.loses = p.loses || lost
		p.queryless = p.queryless && runsNothing(st)
	}
	return p
}

// runsNothing reports whether a statement runs no query, and no function.
func runsNothing(st *sqltext.Statement) bool {
	switch st.Verb {
	case sqltext.Control, sqltext.Session, sqltext.Maintain:
		return true
	}
	return false
}

// wordsOf are the words and names of a statement.
func wordsOf(query string, st *sqltext.Statement) []string {
	return sqltext.Words(sqltext.Postgres, st.Span.Of(query))
}

// kinds are what the kinds of package sqltext are to package txscope.
var kinds = [...]txscope.Kind{
	sqltext.NoControl:    txscope.KindNone,
	sqltext.Begin:        txscope.KindBegin,
	sqltext.Commit:       txscope.KindCommit,
	sqltext.Rollback:     txscope.KindRollback,
	sqltext.Savepoint:    txscope.KindSavepoint,
	sqltext.Release:      txscope.KindRelease,
	sqltext.RollbackTo:   txscope.KindRollbackTo,
	sqltext.OtherControl: txscope.KindMixed,
}

// loses reports whether a statement can change the session's search_path, what is found along it, or
// the role, and whether it can make temporary views. What a function does is known by the schema.
func loses(query string, st *sqltext.Statement) (lost, views bool) {
	switch st.Verb {
	case sqltext.Schema:
		return true, slices.ContainsFunc(wordsOf(query, st), func(w string) bool {
			return w == "view" || w == "rule" || w == "policy" || w == "security"
		})
	case sqltext.Call, sqltext.Do, sqltext.Execute, sqltext.Unknown:
		return true, true
	case sqltext.Session:
		words := wordsOf(query, st)
		if len(words) == 0 || words[0] == "set" || words[0] == "reset" || words[0] == "discard" {
			return slices.ContainsFunc(words, steering), false
		}
	case sqltext.Control:
		// What SET LOCAL has set, and a SET that is rolled back, ends with the transaction.
		switch st.Control {
		case sqltext.Begin, sqltext.Savepoint, sqltext.Release:
			return false, false
		}
		return true, false
	case sqltext.Read:
		if len(st.Writes) > 0 {
			return true, false // SELECT INTO can make a temporary table
		}
	}
	return slices.ContainsFunc(st.Calls, func(n sqltext.Name) bool { return steering(n.Name) }), false
}

// steering reports whether a word of a statement or of a function's source can stand for a change of the
// search_path or of the role.
func steering(word string) bool {
	for _, w := range []string{"search_path", "schema", "role", "authorization", "set_config", "all", "temp"} {
		if strings.Contains(word, w) {
			return true
		}
	}
	return false
}

// meaning is what a text does by a schema, for names looked up along a path.
type meaning struct {
	schema *schema // nil: not known
	path   *path   // nil: not known

	reads  bool   // it writes nothing
	steers bool   // the session's path and role are not known after it
	veils  bool   // nor whether there are temporary views
	alters bool   // the schema
	alone  bool   // it may refuse to run in a transaction
	ends   bool   // it may end a transaction in its course
	chains bool   // it commits, and begins another
	global string // it can write what the judge does not see; why

	sweeps  []sweep // tables that it writes, rows not known
	spoils  []spoil
	unknown string // it may write what is not named; why
	action  *action
}

type sweep struct {
	table tokens.ID
	why   string
}

// spoil is a table that may be written besides what a statement names: the judge tells whether it was.
type spoil struct {
	table *table
	why   string
}

// Reasons of sweeps.
const (
	whyRows       = "rows not known from the statement"
	whyForbidden  = "the primary key may not be read"
	whyRole       = "the privileges of the role are not known"
	whyNoKey      = "no primary key"
	whyKeyKind    = "a primary key without exact text"
	whyMoved      = "the primary key may be assigned"
	whyTrigger    = "a trigger, cascade, rule or function may write it"
	whyHidden     = "hidden by another table of its name"
	whyView       = "written as a view"
	whyTemporary  = "temporary views or functions"
	whyPartition  = "written by the name of a partition"
	whyInherited  = "inheritance"
	whyForeign    = "a foreign table"
	whyTruncate   = "TRUNCATE"
	whyDDL        = "its definition may have changed"
	whyUnreadable = "a text that is not understood"
	whyBare       = "the bare connection was used"
	whyNoSchema   = "the schema is not known"
	whyNoTable    = "a table that is not known"
	whyPath       = "the search_path is not known"
	whyNoJudge    = "the server does not tell what was written"
	whyJudged     = "found written before COMMIT"
	whyEnds       = "the text ends transactions itself"
	whyCursor     = "a cursor that calls functions"
	whyUnlocked   = "a schema, an enum or a cursor that a function may have changed"
	whyUnread     = "rows that were not read"
	whyTooMany    = "too many rows in one statement"
	whyTouched    = "touched by a child"
)

// meaningOf finds or works out what a text means. The schema is nil if nobody knows it now.
func (db *database) meaningOf(p *plan, s *schema, path *path) *meaning {
	if m := p.last.Load(); m != nil && m.schema == s && m.path == path {
		return m
	}
	m := &meaning{schema: s, path: path, chains: p.chains}
	r := resolver{db: db, plan: p, schema: s, path: path, meaning: m}
	r.resolve()
	p.last.Store(m)
	return m
}

// quiet reports whether a text is certain to write nothing, and to leave the session as it is.
func (db *database) quiet(p *plan) bool {
	if s := db.current(); s != nil && p.quiet.Load() == s {
		return true
	}
	s := db.current()
	return db.writesNothing(p) && !p.loses && (s == nil || !s.steers(p.text))
}

// writesNothing reports whether a text is certain to write nothing. For this no path is needed: a
// name counts as all that it can mean.
func (db *database) writesNothing(p *plan) bool {
	if s := db.current(); s != nil {
		if p.quiet.Load() == s {
			return true
		}
		for i := range p.text.Statements {
			if !s.reads(&p.text.Statements[i]) {
				return false
			}
		}
		if !p.loses && !s.steers(p.text) {
			p.quiet.Store(s)
		}
		return true
	}
	// While the schema changes functions and views can become others. Where it was never read nothing is
	// known of them.
	s := db.newest()
	for i := range p.text.Statements {
		st := &p.text.Statements[i]
		if !harmless(st) {
			return false
		}
		if st.Verb == sqltext.Read && (!plainCalls(st.Calls) || s == nil && len(st.Reads) > 0 || s != nil && s.readsView(st.Reads)) {
			return false
		}
	}
	return true
}

// harmless reports whether a statement says of nothing that it is written.
func harmless(st *sqltext.Statement) bool {
	switch {
	case st.Anywhere:
		return false
	case st.Verb == sqltext.Session:
		return true // also if it names what it does not run yet, as PREPARE does
	case len(st.Writes) > 0:
		return false
	}
	switch st.Verb {
	case sqltext.Read, sqltext.Maintain:
		return true
	case sqltext.Control:
		return st.Control != sqltext.OtherControl
	}
	return false
}

// plainCalls reports whether all calls are of a few functions that every server has and uses most.
func plainCalls(calls []sqltext.Name) bool {
	for _, n := range calls {
		switch n.Name {
		case "count", "sum", "min", "max", "avg", "coalesce", "nullif", "greatest", "least", "lower", "upper", "length", "now", "exists", "in", "any", "all", "values", "as", "over", "filter", "cast", "extract", "date_trunc":
			if n.Qualifier == "" {
				continue
			}
		}
		return false
	}
	return true
}

// obscure reports whether what a function does stands nowhere: that of a session's own function, and of
// those of the server and of its extensions that run SQL which is given to them as text, or by a name in a
// text.
func obscure(n sqltext.Name) bool {
	if strings.HasPrefix(n.Qualifier, ownSchema) {
		return true
	}
	if strings.HasSuffix(n.Name, "_to_xml") || strings.HasSuffix(n.Name, "_to_xmlschema") || strings.HasSuffix(n.Name, "_to_xml_and_xmlschema") {
		return true
	}
	switch n.Name {
	case "ts_stat", "ts_rewrite", "connectby", "xpath_table": // the last two are of tablefunc and xml2
		return true
	}
	return strings.HasPrefix(n.Name, "crosstab") // of tablefunc
}

// reads reports whether a statement is certain to write nothing by the schema.
func (s *schema) reads(st *sqltext.Statement) bool {
	return harmless(st) && (runsNothing(st) || s.silent(st))
}

// silent reports whether what a statement calls and reads is certain to write nothing.
func (s *schema) silent(st *sqltext.Statement) bool {
	return !s.hidden && !slices.ContainsFunc(st.Calls, obscure) && !s.guarded(st.Reads) && s.Effect(nil, st.Calls, st.Reads).Empty()
}

// steers reports whether a text calls a function, or reads a view, that may change the session's
// search_path or role.
func (s *schema) steers(text *sqltext.Text) bool {
	for i := range text.Statements {
		if s.steersBy(&text.Statements[i]) {
			return true
		}
	}
	return false
}

// steersBy is steers for one statement.
func (s *schema) steersBy(st *sqltext.Statement) bool {
	known := func(n sqltext.Name) bool { return s.steering[n.Name] || strings.HasPrefix(n.Qualifier, ownSchema) }
	if slices.ContainsFunc(st.Calls, known) {
		return true
	}
	return len(s.steering) > 0 && slices.ContainsFunc(st.Reads, func(n sqltext.Name) bool { return s.steering[n.Name] })
}

// resolver works out a meaning.
type resolver struct {
	db      *database
	plan    *plan
	schema  *schema
	path    *path
	lost    bool // there may be temporary views that are not known
	meaning *meaning

	arguments map[int]int // how often the text has each; nil until it is needed
}

func (r *resolver) resolve() {
	m, text := r.meaning, r.plan.text
	m.reads = true
	if r.path != nil && r.path.lost {
		r.path, r.lost = nil, true
	}
	for i := range text.Statements {
		st := &text.Statements[i]
		switch {
		case runsNothing(st) && harmless(st), r.plan.chains:
		case !r.veiled(st) && r.schema != nil && (r.schema.reads(st) || r.ephemeral(st)):
		default:
			m.reads = false
			r.statement(st)
		}
		r.follow(st)
	}
	if r.plan.control.Kind == txscope.KindMixed {
		for i := range text.Statements {
			switch text.Statements[i].Control {
			case sqltext.NoControl, sqltext.Savepoint, sqltext.Release, sqltext.RollbackTo:
			default:
				m.ends = true
			}
		}
	}
}

// follow takes in what a statement may do to the path, by which those after it in the text are read.
func (r *resolver) follow(st *sqltext.Statement) {
	m := r.meaning
	lost, views := loses(r.plan.query, st)
	if r.schema != nil && r.schema.steersBy(st) {
		lost, views = true, true
	}
	m.steers, m.veils = m.steers || lost, m.veils || views
	if m.steers {
		r.path = nil
	}
}

// veiled reports whether a statement may run what stands in temporary views.
func (r *resolver) veiled(st *sqltext.Statement) bool {
	return !runsNothing(st) && (r.lost || r.path.veils(st))
}

// ephemeral reports whether all that a statement changes are temporary tables, which nobody else sees.
func (r *resolver) ephemeral(st *sqltext.Statement) bool {
	if st.Anywhere || st.Alone || len(st.Writes) == 0 || !r.schema.silent(st) {
		return false
	}
	switch st.Verb {
	case sqltext.Schema:
		return r.temporary(st) && !r.schema.listens
	case sqltext.Insert, sqltext.Update, sqltext.Delete, sqltext.Merge, sqltext.Truncate, sqltext.Copy:
		return !slices.ContainsFunc(st.Writes, func(n sqltext.Name) bool { return !r.plain(n) || len(r.hidden(n)) > 0 })
	}
	return false
}

// plain reports whether a name is that of a temporary table to which writing has no consequences.
func (r *resolver) plain(n sqltext.Name) bool {
	t, ok := r.path.own(n)
	return ok && t.plain
}

// hidden are the tables that a name can have meant before the one that it means now. The server keeps to
// them where it has planned a statement before: a table that is made in an earlier schema of the path, a
// temporary one above all, does not have it planned anew.
func (r *resolver) hidden(n sqltext.Name) []*table {
	if r.path == nil || n.Qualifier != "" {
		return nil
	}
	_, found := r.path.own(n)
	var all []*table
	for i := range r.path.schemas {
		t := r.schema.Lookup(n, r.path.schemas[i:i+1])
		if t != nil && found {
			all = append(all, r.schema.of[t])
		}
		found = found || t != nil
	}
	return all
}

// statement takes in one statement that may write.
func (r *resolver) statement(st *sqltext.Statement) {
	m, writes := r.meaning, st.Writes
	m.alone = m.alone || st.Alone
	if st.Anywhere {
		r.unknown(st.Why)
	}
	if slices.ContainsFunc(st.Calls, obscure) {
		r.unknown("a function whose source is not known")
	}
	if r.veiled(st) {
		r.unknown(whyTemporary)
	}
	switch st.Verb {
	case sqltext.Schema:
		if r.schema != nil && r.schema.listens {
			r.unknown(whyDDL)
		}
		if r.temporary(st) {
			writes = nil // nobody else sees it
			break
		}
		m.alters = true
		if st.Anywhere {
			m.global = st.Why // it may lock no table, as ALTER SCHEMA … RENAME
		}
	case sqltext.Call:
		m.alone = m.alone || r.schema == nil || r.schema.mayCommit(st.Calls)
	case sqltext.Do:
		body := sqltext.Body(sqltext.Postgres, st.Body)
		m.alone = m.alone || body.Transactions || st.Body == ""
	case sqltext.Read:
		if words := wordsOf(r.plan.query, st); len(words) > 0 && words[0] == "declare" && slices.Contains(words, "hold") {
			m.global = whyCursor // it runs in COMMIT
		}
	case sqltext.Control:
		m.alone = true
	}
	if r.schema == nil {
		r.unknown(whyNoSchema)
		r.unresolved(writes)
		return
	}
	if r.schema.hidden || r.schema.guarded(st.Reads) {
		r.unknown(whyTrigger)
	}
	var uses []catalog.Use
	if st.Verb != sqltext.Schema {
		for _, n := range writes {
			for _, t := range r.hidden(n) {
				uses = append(uses, use(st, t.root().Table))
				r.spoil(t.root(), whyHidden)
			}
		}
	}
	writes = slices.DeleteFunc(slices.Clone(writes), r.plain)
	for _, n := range writes {
		t, why := r.lookup(n)
		if t == nil {
			r.unknown(why)
			continue
		}
		if st.Verb != sqltext.Schema {
			uses = append(uses, use(st, t.root().Table)) // no row is written by a change of the schema
		}
		r.steered(t.root())
		if t.View {
			r.sweep(t.all, whyView)
		}
	}
	effect := r.schema.Effect(uses, st.Calls, st.Reads)
	if effect.Anywhere {
		r.unknown(effect.Why)
	}
	for _, t := range effect.Tables {
		r.spoil(r.schema.of[t].root(), whyTrigger)
	}
	for _, n := range writes {
		t, _ := r.lookup(n)
		if t == nil || t.View {
			continue
		}
		if t.partitionOf != nil {
			r.sweep(t.all, whyPartition)
		}
		why := ""
		if len(r.plan.text.Statements) == 1 {
			m.action, why = r.act(st, t, effect)
		} else {
			why = whyRows
		}
		if m.action == nil {
			r.sweepRows(t.root(), why)
		}
	}
}

// spoil takes in that a table may be written besides what the statement names.
func (r *resolver) spoil(t *table, why string) {
	r.steered(t)
	if !t.View { // its own tables count
		r.meaning.spoils = append(r.meaning.spoils, spoil{t, why})
	}
}

// steered takes in that a table may be written whose triggers run.
func (r *resolver) steered(t *table) {
	if t.steers {
		r.meaning.steers, r.meaning.veils = true, true
	}
}

// temporary reports whether a statement changes the definition of temporary tables only.
func (r *resolver) temporary(st *sqltext.Statement) bool {
	words := wordsOf(r.plan.query, st)
	if len(st.Writes) == 0 || len(words) < 2 {
		return false
	}
	switch words[0] {
	case "create":
		prefix := []string{"or", "replace", "global", "local", "unique"}
		kind := slices.IndexFunc(words[1:], func(w string) bool { return !slices.Contains(prefix, w) })
		switch {
		case kind < 0:
			return false
		case words[1+kind] == "temp", words[1+kind] == "temporary":
			return true
		case words[1+kind] != "index":
			return false // its name is new, and may be that of a temporary table
		}
	case "alter", "drop":
	default:
		return false
	}
	if slices.Contains(words, "cascade") {
		return false
	}
	return !slices.ContainsFunc(st.Writes, func(n sqltext.Name) bool {
		_, ok := r.path.own(n)
		return !ok
	})
}

// unresolved takes in what a statement names while the schema is not known: sweeping too much does
// no harm, and the judge finds the rest.
func (r *resolver) unresolved(writes []sqltext.Name) {
	for _, n := range writes {
		r.sweep(tokens.Table(r.db.identifier(n)), whyNoSchema)
	}
}

func (r *resolver) unknown(why string) {
	if r.meaning.unknown == "" {
		r.meaning.unknown = why
	}
}

func (r *resolver) sweep(id tokens.ID, why string) {
	for _, have := range r.meaning.sweeps {
		if have.table == id {
			return
		}
	}
	r.meaning.sweeps = append(r.meaning.sweeps, sweep{id, why})
}

// sweepRows sweeps a table, those that share its rows, and those that its rows touch.
func (r *resolver) sweepRows(t *table, why string) {
	r.sweep(t.all, why)
	for _, o := range t.relatives {
		r.sweep(o.all, whyInherited)
	}
	for _, id := range r.db.touched(t) {
		r.sweep(id, whyTouched)
	}
}

// lookup finds a table that a statement names. Without it, why tells why not.
func (r *resolver) lookup(n sqltext.Name) (t *table, why string) {
	var along []string
	if n.Qualifier == "" {
		if r.path == nil {
			return nil, whyPath
		}
		if _, hidden := r.path.temporary[n.Name]; hidden {
			return nil, whyNoTable // by a temporary table, or one that is hidden by it
		}
		along = r.path.schemas
	}
	found := r.schema.Lookup(n, along)
	if found == nil {
		return nil, whyNoTable
	}
	return r.schema.of[found], ""
}

// use tells what a statement does to a table that it names.
func use(st *sqltext.Statement, t *catalog.Table) catalog.Use {
	u := catalog.Use{Table: t}
	switch st.Verb {
	case sqltext.Insert, sqltext.Copy:
		u.Verbs = catalog.Insert
		if st.DML != nil && st.DML.Upsert {
			u.Verbs |= catalog.Update
			u.Assigned = assigned(t, st.DML)
		}
	case sqltext.Update:
		u.Verbs = catalog.Update
		if st.DML != nil {
			u.Assigned = assigned(t, st.DML)
		}
	case sqltext.Delete:
		u.Verbs = catalog.Delete
	case sqltext.Truncate:
		u.Verbs = catalog.Truncate
	default:
		u.Verbs = catalog.AnyVerb
	}
	if st.DML == nil && st.Verb != sqltext.Truncate && st.Verb != sqltext.Copy {
		u.Verbs, u.Assigned = catalog.AnyVerb, nil
	}
	return u
}

// assigned are the columns that an update assigns; nil if one is not known.
func assigned(t *catalog.Table, d *sqltext.DML) []int {
	columns := []int{}
	for _, a := range d.Assigned {
		i := t.ColumnIndex(a.Column)
		if i < 0 {
			return nil
		}
		columns = append(columns, i)
	}
	return columns
}
