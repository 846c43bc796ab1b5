package mysql

import (
	"slices"
	"strings"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/internal/catalog"
	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// plan is what a text means for the capture, as the schema is known. It is not changed once made.
type plan struct {
	text  string
	known *knowledge // nil: nothing is known of the schema
	path  string     // the default database

	control txscope.Control
	quiet   bool    // it writes nothing
	begins  bool    // a transaction, and commits the one that is open
	ends    bool    // COMMIT or ROLLBACK: the wrapper sees to it
	several bool    // statements that commit one by one outside of a transaction
	commits commits // what the wrapper does not know of
	ddl     bool    // it can change the schema
	schema  bool    // it does nothing else
	asks    bool    // it asks about the statement before, so that nothing may come between them
	turns   turn

	altered   []sqltext.Name // the tables and views that it makes, changes or drops, if it is known to do no more
	named     []sqltext.Name // the temporary tables that it makes or drops
	drops     bool           // and it drops them
	strangers []sqltext.Name // the tables that it writes and the schema does not know

	sweeps []change
	apart  []change // in tables without transactions; what may be one is in both lists
	claim  *claim   // how the rows of its one table can be told, which is in neither list then
}

// change is a table, or everything, and why its rows are not known.
type change struct {
	id  tokens.ID
	why string
}

// commits says what a text does to the transaction that is open.
type commits uint8

const (
	never commits = iota
	first         // it commits what is open, then does what it does, and commits that
	maybe         // it can do whatever
)

// The reasons for sweeps that have none of the analyser's or the catalog's. Those of claims are with
// them.
const (
	whyUnknownSchema = "the schema is not known"
	whyStranger      = "a table that the schema does not know"
	whyChanged       = "the schema has changed meanwhile"
	whyBare          = "the bare connection was used"
	whyFollows       = "a trigger, foreign key, view or routine"
	whyDDL           = "a change of the schema"
	whyTruncate      = "TRUNCATE"
	whyLoad          = "LOAD DATA"
	whySeveralTables = "a statement that writes several tables"
	whyNotPlain      = "a statement that is more than plain DML"
	whyView          = "a write to a view"
	whyReaches       = "a trigger or foreign key that reaches the table itself"
	whyNoKey         = "no primary key"
	whyKeyKind       = "a primary key without exact text"
	whyKeyAssigned   = "a primary key that is assigned, or that a trigger can change"
	whyManyTexts     = "several statements in one text"
	whyUnknownPath   = "a routine of a database that is not known"
	whyPackage       = "a routine in a package"
	whyUnseen        = "a transaction that may have begun or ended unseen"
)

// makePlan makes the plan of a text.
func makePlan(db *database, t *sqltext.Text, text, path string, k *knowledge) *plan {
	m := &maker{plan: &plan{text: text, known: k, path: path}, db: db, in: path}
	m.several = len(t.Statements) > 1
	for i := range t.Statements {
		m.statement(&t.Statements[i])
	}
	m.finish(t)
	return m.plan
}

// maker makes a plan.
type maker struct {
	*plan
	db *database
	in string // the database of what comes next
}

func (m *maker) finish(t *sqltext.Text) {
	m.control = m.controlOf(t)
	m.schema = len(t.Statements) > 0
	for i := range t.Statements {
		s := &t.Statements[i]
		m.schema = m.schema && s.Verb == sqltext.Schema
		m.asks = m.asks || asks(s.Span.Of(m.text))
	}
	if m.several && m.control.Kind == txscope.KindMixed {
		m.everything(maybe, whyUnseen)
	}
	m.quiet = !m.begins && m.commits == never && !m.ddl && m.claim == nil && len(m.sweeps) == 0 && len(m.apart) == 0
}

// controlOf tells what a text does to transactions.
func (m *maker) controlOf(t *sqltext.Text) txscope.Control {
	if len(t.Statements) == 1 {
		switch s := &t.Statements[0]; s.Control {
		case sqltext.Begin:
			return txscope.Control{Kind: txscope.KindBegin}
		case sqltext.Commit:
			return txscope.Control{Kind: txscope.KindCommit}
		case sqltext.Rollback:
			return txscope.Control{Kind: txscope.KindRollback}
		case sqltext.Savepoint:
			return txscope.Control{Kind: txscope.KindSavepoint, Name: s.Savepoint}
		case sqltext.Release:
			return txscope.Control{Kind: txscope.KindRelease, Name: s.Savepoint}
		case sqltext.RollbackTo:
			return txscope.Control{Kind: txscope.KindRollbackTo, Name: s.Savepoint}
		}
		if m.commits != maybe {
			return txscope.Control{}
		}
		return txscope.Control{Kind: txscope.KindMixed}
	}
	if m.commits == maybe {
		return txscope.Control{Kind: txscope.KindMixed}
	}
	for i := range t.Statements {
		if s := &t.Statements[i]; s.Control != sqltext.NoControl || s.Alone {
			return txscope.Control{Kind: txscope.KindMixed}
		}
	}
	return txscope.Control{}
}

// asks reports whether a statement asks about the one before.
func asks(text string) bool {
	text = strings.ToLower(text)
	for _, word := range []string{"found_rows", "row_count", "warning_count", "error_count"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	words := strings.Fields(text[:min(len(text), 100)])
	switch {
	case len(words) < 2:
		return false
	case words[0] == "show":
		return slices.ContainsFunc(words[1:min(len(words), 3)], func(w string) bool { return strings.HasPrefix(w, "warnings") || strings.HasPrefix(w, "errors") })
	case words[0] == "get":
		return slices.Contains(words[1:min(len(words), 3)], "diagnostics")
	}
	return false
}

// everything notes that a text may write anywhere, and commit.
func (m *maker) everything(c commits, why string) {
	m.commits = max(m.commits, c)
	m.sweep(tokens.Global, why)
}

func (m *maker) sweep(id tokens.ID, why string) { m.sweeps = addChange(m.sweeps, id, why) }

// anyhow notes a change in a table that may be one without transactions: what is open publishes it when
// it commits, and the statement by itself.
func (m *maker) anyhow(id tokens.ID, why string) {
	m.sweep(id, why)
	m.apart = addChange(m.apart, id, why)
}

func addChange(list []change, id tokens.ID, why string) []change {
	for _, c := range list {
		if c.id == id {
			return list
		}
	}
	return append(list, change{id, why})
}

// statement takes in one statement.
func (m *maker) statement(s *sqltext.Statement) {
	switch {
	case s.Control == sqltext.Begin:
		m.begins = true
		m.turns |= unlocks
	case s.Control == sqltext.Commit, s.Control == sqltext.Rollback:
		m.ends = true
	case s.Control == sqltext.OtherControl, s.Control == sqltext.NoControl && s.Verb == sqltext.Control:
		m.otherControl(s) // the latter is the statement of a SET STATEMENT
	case s.Verb == sqltext.Control:
	case s.Verb == sqltext.Call:
		m.call(s)
	case s.Verb == sqltext.Execute, s.Verb == sqltext.Unknown:
		m.turns |= strays
		m.ddl = true
		m.everything(maybe, s.Why)
		m.writes(s)
	default:
		m.session(s)
		m.writes(s)
	}
}

// words are those of a statement, in lower case.
func (m *maker) words(s *sqltext.Statement) []string {
	return sqltext.Words(sqltext.MySQL, s.Span.Of(m.text))
}

// otherControl takes in XA, COMMIT AND CHAIN and what was not understood.
func (m *maker) otherControl(s *sqltext.Statement) {
	if words := m.words(s); len(words) > 1 && words[0] == "xa" {
		switch words[1] {
		case "start", "begin", "end", "recover":
			// What is written between them is met when it is; it is XA COMMIT that counts.
			return
		}
	}
	why := s.Why
	if why == "" {
		why = whyUnseen
	}
	m.turns |= strays
	m.ddl = m.ddl || s.Verb == sqltext.Unknown
	m.everything(maybe, why)
	m.writes(s)
}

// call takes in CALL. A procedure whose source is known, and that leaves transactions alone, writes
// what follows from its source; each of its statements commits by itself outside of a transaction.
func (m *maker) call(s *sqltext.Statement) {
	m.turns |= sets
	if m.known == nil || !m.known.tame(s, m.in) {
		m.ddl = true
		m.everything(maybe, "CALL of a procedure that may do anything")
		return
	}
	m.several = true
	m.follow(nil, s)
}

// session takes in what a statement does to the connection.
func (m *maker) session(s *sqltext.Statement) {
	var word string
	var words []string
	switch s.Verb {
	case sqltext.Session, sqltext.Maintain, sqltext.Schema:
		if words = m.words(s); len(words) > 0 {
			word = words[0]
		}
	}
	if s.Alone && !(s.Verb == sqltext.Maintain && (word == "checksum" || word == "purge")) {
		m.commits = max(m.commits, first)
	}
	switch s.Verb {
	case sqltext.Session, sqltext.Maintain:
		switch word {
		case "use":
			m.turns |= uses
			m.in = unknownPath
		case "set":
			m.turns |= sets
			if len(words) > 1 && words[1] == "statement" {
				m.turns |= strays // FOR USE, say
				m.in = unknownPath
			}
			if commitsBesides(words) {
				m.turns |= besides
				m.commits = max(m.commits, first)
			}
			if n := strings.Count(strings.ToLower(s.Span.Of(m.text)), "autocommit"); n > 0 {
				if n > 1 || m.turns&switches != 0 {
					m.turns |= besides
				}
				m.turns |= switches
				m.commits = max(m.commits, first)
			}
		case "lock":
			m.turns |= locks
		case "unlock":
			m.turns |= unlocks
		case "flush":
			if slices.Contains(words, "lock") || slices.Contains(words, "export") {
				m.turns |= locks
			}
		case "prepare":
		default:
			if len(words) > 1 && s.Verb == sqltext.Session && !s.Alone {
				m.turns |= sets
			}
		}
	case sqltext.Schema:
		if s.Alone {
			m.ddl = true
			m.altered = append(m.altered, s.Writes...)
		} else {
			m.turns |= temporary
			m.named = append(m.named, s.Writes...)
			m.drops = !m.several && word == "drop"
		}
	}
}

// commitsBesides reports whether a SET commits for another reason than that it switches autocommit on: those
// of passwords and default roles change tables of the server's, and SET STATEMENT can be for one of them.
func commitsBesides(words []string) bool {
	for i, w := range words {
		if w == "password" || w == "role" && words[i-1] == "default" || w == "statement" && i == 1 {
			return true
		}
	}
	return false
}

// writes takes in the tables that a statement writes, and what follows from that.
func (m *maker) writes(s *sqltext.Statement) {
	if s.Anywhere {
		// It has the rights of the user, to whom all that it can write is shown.
		if m.known != nil && m.known.lasts || m.known == nil && m.db.mayLast() {
			m.anyhow(tokens.Global, s.Why)
		} else {
			m.sweep(tokens.Global, s.Why)
		}
	}
	if m.known == nil {
		m.blindly(s)
		return
	}
	var uses []catalog.Use
	tables := make([]*table, len(s.Writes))
	for i, n := range s.Writes {
		t := m.known.lookup(n, m.in)
		if t == nil {
			if s.Verb == sqltext.Schema {
				m.sweep(m.db.id(n, m.in), whyStranger)
				continue
			}
			if len(s.Writes) > 1 && slices.Contains(clauses, strings.ToLower(n.Name)) {
				m.sweep(m.db.id(n, m.in), whyStranger)
			} else {
				m.anyhow(m.db.id(n, m.in), whyStranger)
			}
			m.strangers = append(m.strangers, n)
			continue
		}
		tables[i] = t
		uses = append(uses, t.use(s))
	}
	effect := m.follow(uses, s)
	why := ""
	if len(s.Writes) == 1 && tables[0] != nil && s.DML != nil && !m.several {
		if m.claim, why = claimOf(m.known, tables[0], s, m.text, effect); m.claim != nil {
			return
		}
	}
	if why == "" {
		why = m.whyNot(s)
	}
	for _, t := range tables {
		if t != nil {
			m.table(t, why)
		}
	}
}

// clauses are words that the analyser can take for the name of a table, where a text reads differently in
// another version of the server. Without quotes none of them is one.
var clauses = []string{"where", "set", "from", "using", "join", "inner", "left", "right", "cross", "natural", "straight_join", "on", "as", "order", "limit", "partition", "use", "force", "ignore", "returning"}

// blindly takes in a statement where the schema is not known. A table can be one without transactions, or
// have triggers; a name that is read can be that of a view that calls a function.
func (m *maker) blindly(s *sqltext.Statement) {
	note := m.sweep
	if m.db.mayLast() {
		note = m.anyhow
	}
	if s.Verb == sqltext.Schema {
		for _, n := range s.Writes {
			m.sweep(m.db.id(n, m.in), whyDDL) // which runs no triggers
		}
		if len(s.Writes) > 0 && m.db.Touch.Any() {
			m.sweep(tokens.Global, whyUnknownSchema) // its rows have parents
		}
		if m.selects(s) && (slices.ContainsFunc(s.Calls, foreign) || m.db.showsMore(s.Reads)) {
			note(tokens.Global, whyUnknownSchema)
		}
		return
	}
	for _, n := range s.Writes {
		note(m.db.id(n, m.in), whyUnknownSchema)
	}
	if len(s.Writes) > 0 || slices.ContainsFunc(s.Calls, foreign) || m.db.showsMore(s.Reads) && !m.tells(s) {
		note(tokens.Global, whyUnknownSchema)
	}
}

// selects reports whether a statement makes a table of what it selects. In doubt it is true.
func (m *maker) selects(s *sqltext.Statement) bool {
	words := m.words(s)
	if len(words) == 0 || words[0] != "create" || !slices.Contains(words[:min(len(words), 5)], "table") {
		return false
	}
	words = words[slices.Index(words, "table")+1:]
	return slices.ContainsFunc(words, func(w string) bool { return slices.Contains([]string{"select", "values", "value", "table", "with"}, w) })
}

// tells reports whether a statement is one that shows what the server knows, and reads no rows.
func (m *maker) tells(s *sqltext.Statement) bool {
	words := m.words(s)
	return len(words) > 0 && slices.Contains([]string{"show", "use", "get", "help"}, words[0])
}

// whyNot tells why a statement makes no claim.
func (m *maker) whyNot(s *sqltext.Statement) string {
	switch {
	case m.several:
		return whyManyTexts
	case s.Verb == sqltext.Schema:
		return whyDDL
	case s.Verb == sqltext.Truncate:
		return whyTruncate
	case s.Verb == sqltext.Copy:
		return whyLoad
	case len(s.Writes) > 1:
		return whySeveralTables
	}
	return whyNotPlain
}

// follow takes in what follows from the uses of tables, and from what the statement calls and reads.
func (m *maker) follow(uses []catalog.Use, s *sqltext.Statement) *catalog.Effect {
	calls, reads := s.Calls, s.Reads
	if s.Verb == sqltext.Call {
		calls, reads = append(slices.Clone(calls), reads...), nil // a procedure needs no parentheses
	}
	switch {
	case m.known.packaged(calls):
		m.anyhow(tokens.Global, whyPackage)
	case m.in == unknownPath && slices.ContainsFunc(calls, foreign):
		m.anyhow(tokens.Global, whyUnknownPath)
	}
	effect := m.known.schema.Effect(uses, inSchema(calls, m.in), reads)
	if effect.Anywhere {
		m.anyhow(tokens.Global, effect.Why)
	}
	for _, t := range effect.Tables {
		m.table(m.known.tables[t], whyFollows)
	}
	return effect
}

// table notes that rows of a table change that are not known.
func (m *maker) table(t *table, why string) {
	if t.Lasting {
		m.apart = addChange(m.apart, t.all, why)
	} else {
		m.sweep(t.all, why)
	}
	for _, parent := range m.known.parents(t) {
		m.sweep(parent.all, whyTouched)
	}
}

// use tells what a statement does to one of the tables that it writes.
func (t *table) use(s *sqltext.Statement) catalog.Use {
	u := catalog.Use{Table: t.Table}
	switch s.Verb {
	case sqltext.Insert:
		u.Verbs = catalog.Insert
		if s.DML == nil || s.DML.Upsert {
			u.Verbs |= catalog.Update
		}
	case sqltext.Replace, sqltext.Copy:
		u.Verbs = catalog.Insert | catalog.Delete
	case sqltext.Update:
		u.Verbs = catalog.Update
	case sqltext.Delete:
		u.Verbs = catalog.Delete
	case sqltext.Truncate:
		u.Verbs = catalog.Truncate
	case sqltext.Schema:
		u.Verbs = catalog.Delete // DROP, or ALTER of columns
	default:
		u.Verbs = catalog.AnyVerb
	}
	if s.DML != nil && u.Verbs&catalog.Update != 0 {
		u.Assigned = t.assigned(s.DML)
	}
	return u
}

// assigned gives the columns that a statement assigns, and those that MySQL sets besides: by ON UPDATE
// CURRENT_TIMESTAMP. nil means any.
func (t *table) assigned(d *sqltext.DML) []int {
	columns := append([]int{}, t.follow...)
	for _, a := range d.Assigned {
		i := t.ColumnIndex(a.Column)
		if i < 0 {
			return nil
		}
		columns = append(columns, i)
	}
	return columns
}
