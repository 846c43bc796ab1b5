package sqltext

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// claim makes what was read of a DML count. Everything up to the end must have been understood.
func (p *parser) claim(s *Statement, d *DML) {
	if !p.done() || p.confused {
		return
	}
	s.DML = d
	d.End = -1
	if !d.Returning {
		d.End = p.tokens[len(p.tokens)-1].span.To
	}
}

// target reads the table of a DML, with what stands around its name.
func (p *parser) target(d *DML) bool {
	from := p.at
	if p.dialect == Postgres && p.tok(0).is("only") && (p.tok(1).isName() || p.tok(1).is("(")) {
		p.move(1)
		if p.accept("(") {
			n, ok := p.name()
			if !ok || !p.accept(")") {
				return false
			}
			d.Table = n
			d.Target = p.span(from, p.at)
			p.alias(d, from)
			return true
		}
	}
	n, ok := p.name()
	if !ok {
		return false
	}
	d.Table = n
	if p.dialect == Postgres {
		p.accept("*")
	}
	if p.tok(0).is("partition") && p.tok(1).is("(") {
		p.move(1)
		p.group()
	}
	d.Target = p.span(from, p.at)
	p.alias(d, from)
	return true
}

// alias reads an alias after a table, if there is one.
func (p *parser) alias(d *DML, from int) {
	if p.accept("as") {
		if !p.tok(0).isName() {
			return
		}
	} else if t := p.tok(0); !t.isName() || t.kind == word && slices.Contains(afterTable, t.text) {
		return
	}
	d.Alias = p.tok(0).name
	p.move(1)
	d.Target = p.span(from, p.at)
}

// afterTable are the words that can follow a table and are no alias.
var afterTable = []string{
	"set", "where", "from", "using", "values", "value", "select", "default", "overriding", "on", "returning", "order", "limit", "with", "table",
	"join", "inner", "left", "right", "full", "cross", "natural", "straight_join", "outer", "use", "force", "ignore", "indexed", "not", "partition", "for", "as", "union", "group", "having",
}

// insert reads INSERT and REPLACE.
func (p *parser) insert(s *Statement, replace bool) {
	s.Verb = Insert
	if replace {
		s.Verb = Replace
	}
	d := new(DML)
	for {
		switch {
		case p.accept("low_priority"), p.accept("delayed"), p.accept("high_priority"):
		case p.tok(0).is("ignore") && p.dialect == MySQL:
			p.move(1)
			d.Ignore = true
		case p.dialect == SQLite && p.tok(0).is("or"):
			p.move(1)
			switch {
			case p.accept("replace"):
				s.Verb = Replace
			case p.accept("ignore"):
				d.Ignore = true
			default:
				p.move(1)
			}
		default:
			goto into
		}
	}
into:
	p.accept("into")
	from := p.at
	n, ok := p.name()
	if !ok {
		s.Verb = Unknown
		return
	}
	d.Table = n
	if p.tok(0).is("partition") && p.tok(1).is("(") {
		p.move(1)
		p.group()
	}
	d.Target = p.span(from, p.at)
	if p.accept("as") {
		d.Alias = p.tok(0).name
		p.move(1)
	}
	s.write(n)
	if p.tok(0).is("(") && !p.startsQuery(p.at+1) {
		if d.Columns, ok = p.columns(); !ok {
			return
		}
	}
	if p.accept("overriding") {
		p.skip("system", "user", "value")
	}
	if !p.source(d) {
		return
	}
	if !p.conflict(d) {
		return
	}
	p.returning(d)
	p.claim(s, d)
}

// startsQuery reports whether a query begins at the token.
func (p *parser) startsQuery(at int) bool {
	for ; at < len(p.tokens); at++ {
		t := &p.tokens[at]
		if t.is("(") {
			continue
		}
		return t.is("select") || t.is("with") || t.is("values") && p.dialect != MySQL && at+1 < len(p.tokens) && p.tokens[at+1].is("(") || t.is("table")
	}
	return false
}

// columns reads (a, b). A column of which only a part is named counts as "".
func (p *parser) columns() ([]string, bool) {
	from, to, ok := p.group()
	if !ok {
		return nil, false
	}
	list := []string{}
	for from < to {
		next := p.comma(from, to)
		list = append(list, p.column(from, next))
		from = next + 1
	}
	return list, true
}

// column returns the name that a range of tokens is, folded.
func (p *parser) column(from, to int) string {
	switch {
	case to-from == 1 && p.tokens[from].isName():
		return p.tokens[from].name
	case p.dialect == MySQL && to-from >= 3 && p.tokens[to-1].isName() && p.tokens[to-2].is("."):
		return p.tokens[to-1].name
	}
	return ""
}

// comma returns where the next comma stands in a range of tokens, outside of parentheses and of
// brackets, or its end.
func (p *parser) comma(from, to int) int {
	var n nesting
	for i := from; i < to; i++ {
		if n.step(p.tokens, i); n.outside() && p.tokens[i].is(",") {
			return i
		}
	}
	return to
}

// source reads what an INSERT takes its rows from.
func (p *parser) source(d *DML) bool {
	switch {
	case p.accept("default", "values"):
	case p.tok(0).is("values"), p.tok(0).is("value"):
		p.move(1)
		rows := [][]Operand{}
		for {
			p.accept("row")
			from, to, ok := p.group()
			if !ok {
				return false
			}
			rows = append(rows, p.operands(from, to))
			if !p.accept(",") {
				break
			}
		}
		d.Values = rows
	case p.dialect == MySQL && p.tok(0).is("set"):
		p.move(1)
		list, ok := p.assignments("on", "as", "returning")
		if !ok {
			return false
		}
		d.Columns = []string{}
		row := []Operand{}
		for _, a := range list {
			d.Columns = append(d.Columns, a.Column)
			row = append(row, a.Value)
		}
		d.Values = [][]Operand{row}
	default:
		if !p.startsQuery(p.at) {
			return false
		}
		p.query()
	}
	return true
}

// query moves over a query to what can follow it in an INSERT.
func (p *parser) query() {
	for p.at < len(p.tokens) {
		p.at = p.find("on", "returning")
		if p.tok(0).is("returning") || p.tok(1).is("conflict") || p.tok(1).is("duplicate") || p.done() {
			return
		}
		p.move(1)
	}
}

// conflict reads ON CONFLICT and ON DUPLICATE KEY UPDATE.
func (p *parser) conflict(d *DML) bool {
	if p.dialect == MySQL && p.accept("as") {
		p.move(1) // the name of the new row
		p.group()
	}
	for p.accept("on", "conflict") {
		switch {
		case p.tok(0).is("("):
			p.group()
			if p.accept("where") {
				p.at = p.find("do")
			}
		case p.accept("on", "constraint"):
			p.move(1)
		}
		switch {
		case p.accept("do", "nothing"):
			d.Ignore = true
		case p.accept("do", "update", "set"):
			d.Upsert = true
			list, ok := p.assignments("where", "returning", "on")
			if !ok {
				return false
			}
			d.Assigned = append(d.Assigned, list...)
			if p.accept("where") {
				p.at = p.find("returning", "on")
			}
		default:
			return false
		}
	}
	if p.accept("on", "duplicate", "key", "update") {
		d.Upsert = true
		list, ok := p.assignments("returning")
		if !ok {
			return false
		}
		d.Assigned = list
	}
	return true
}

func (p *parser) returning(d *DML) {
	if p.accept("returning") {
		// MySQL lets it be an alias.
		p.confused = p.confused || p.done() || p.tok(0).is("where") || p.tok(0).is("order") || p.tok(0).is("limit")
		d.Returning = true
		p.at = len(p.tokens)
	}
}

// assignments reads a = b, (c, d) = (e, f) up to one of the words.
func (p *parser) assignments(until ...string) ([]Assignment, bool) {
	stop := p.find(until...)
	list := []Assignment{}
	for p.at < stop {
		next := p.comma(p.at, stop)
		if p.tok(0).is("(") {
			from, to, ok := p.group()
			if !ok || !p.accept("=") {
				return nil, false
			}
			for from < to {
				c := p.comma(from, to)
				list = append(list, Assignment{p.assigned(from, c), Operand{Span: p.span(p.at, next)}})
				from = c + 1
			}
		} else {
			at := p.at
			for at < next && !p.tokens[at].is("=") && !p.tokens[at].is(":=") {
				at++
			}
			if at >= next-1 || at == p.at {
				return nil, false
			}
			list = append(list, Assignment{p.assigned(p.at, at), p.operand(at+1, next)})
		}
		p.at = next + 1
	}
	p.at = stop
	return list, len(list) > 0
}

// assigned is column for the left side of an assignment: PostgreSQL's a.b and a[1] are parts of a.
func (p *parser) assigned(from, to int) string {
	if p.dialect == Postgres && p.tokens[from].isName() {
		return p.tokens[from].name
	}
	return p.column(from, to)
}

// update reads UPDATE.
func (p *parser) update(s *Statement) {
	s.Verb = Update
	d := new(DML)
	for {
		switch {
		case p.dialect == MySQL && (p.tok(0).is("low_priority") || p.tok(0).is("high_priority") || p.tok(0).is("ignore")):
			p.move(1)
		case p.dialect == SQLite && p.tok(0).is("or"):
			p.move(2)
		default:
			goto table
		}
	}
table:
	if p.dialect == MySQL {
		if at := p.find("set"); !p.alone(at) {
			p.updateMany(s, at)
			return
		}
	}
	if !p.target(d) {
		s.Verb = Unknown
		return
	}
	s.write(d.Table)
	if p.dialect == SQLite {
		p.indexed()
	}
	if !p.accept("set") {
		return
	}
	var ok bool
	if d.Assigned, ok = p.assignments("from", "where", "order", "limit", "returning"); !ok {
		return
	}
	if p.tok(0).is("from") {
		d.Joined = true
		p.at = p.find("where", "order", "limit", "returning")
	}
	if !p.where(d) {
		return
	}
	p.returning(d)
	p.claim(s, d)
}

// alone reports whether the range of tokens from here on is one table.
func (p *parser) alone(to int) bool {
	for i := p.at; i < to; i++ {
		t := &p.tokens[i]
		if t.is(",") || t.is("(") && !(i > p.at && p.tokens[i-1].is("partition")) || t.is("join") || t.is("straight_join") {
			// A partition's list has commas too; then it is many, which claims nothing.
			return false
		}
	}
	return true
}

// updateMany reads MySQL's UPDATE of several tables: written are those with a column that is assigned.
func (p *parser) updateMany(s *Statement, set int) {
	refs, whole := p.tables(p.at, set)
	p.at = set
	if !whole || !p.accept("set") {
		s.anywhere("an UPDATE of several tables that is not understood")
		for _, r := range refs {
			s.write(r.table)
		}
		return
	}
	stop := p.find("where", "order", "limit")
	for p.at < stop {
		next := p.comma(p.at, stop)
		at := p.at
		for at < next && !p.tokens[at].is("=") && !p.tokens[at].is(":=") {
			at++
		}
		found := false
		if at-p.at >= 3 && p.tokens[at-2].is(".") {
			owner := p.tokens[at-3].name
			for _, r := range refs {
				if strings.EqualFold(owner, r.alias) || r.alias == "" && strings.EqualFold(owner, r.table.Name) {
					s.write(r.table)
					found = true
				}
			}
		}
		if !found {
			for _, r := range refs {
				s.write(r.table)
			}
		}
		p.at = next + 1
	}
}

// ref is a table in FROM or the like.
type ref struct {
	table Name
	alias string
}

// tables lists the tables of a range of tokens that joins them. whole is false if the range has what
// was not understood.
func (p *parser) tables(from, to int) (refs []ref, whole bool) {
	whole = true
	begins := true // a table can begin here
	for i := from; i < to; i++ {
		t := &p.tokens[i]
		switch {
		case t.is(","), t.is("join"), t.is("straight_join"):
			begins = true
		case t.is("("):
			if !begins {
				// ON (…), USING (…), INDEX (…): no table of this level.
				closing := p.closing(i)
				if closing < 0 || closing >= to {
					return refs, false
				}
				i = closing
				continue
			}
			if i+1 < to && !p.tokens[i+1].is("(") && p.startsQuery(i+1) {
				closing := p.closing(i)
				if closing < 0 || closing >= to {
					return refs, false
				}
				i, begins = closing, false
			}
		case begins && t.isName() && !(p.dialect == Postgres && t.is("only")) && !(t.is("lateral") && (p.dialect == Postgres || p.tokens[min(i+1, len(p.tokens)-1)].is("("))):
			in := &parser{dialect: p.dialect, text: p.text, tokens: p.tokens[:to], at: i}
			var d DML
			if !in.target(&d) {
				return refs, false
			}
			refs = append(refs, ref{d.Table, d.Alias})
			i, begins = in.at-1, false
		}
	}
	return refs, whole && len(refs) > 0
}

// delete reads DELETE.
func (p *parser) delete(s *Statement) {
	s.Verb = Delete
	d := new(DML)
	if p.dialect == MySQL {
		p.skip("low_priority", "high_priority", "quick", "ignore")
		if !p.tok(0).is("from") {
			p.deleteMany(s, p.find("from"), "from")
			return
		}
		if using := p.find("using"); using < p.find("where") {
			p.move(1)
			p.deleteMany(s, using, "using")
			return
		}
	}
	if !p.accept("from") || !p.target(d) {
		s.Verb = Unknown
		return
	}
	s.write(d.Table)
	if p.dialect == SQLite {
		p.indexed()
	}
	if p.tok(0).is("using") {
		d.Joined = true
		p.at = p.find("where", "returning")
	}
	if !p.where(d) {
		return
	}
	p.returning(d)
	p.claim(s, d)
}

// deleteMany reads MySQL's DELETE from several tables: a list of tables or aliases, then FROM or USING
// and what they are.
func (p *parser) deleteMany(s *Statement, at int, then string) {
	names, ok := p.deleted(at)
	p.at = at
	if !ok || !p.accept(then) {
		s.anywhere("a DELETE from several tables that is not understood")
		return
	}
	refs, _ := p.tables(p.at, p.find("where", "order", "limit"))
	for _, n := range names {
		found := false
		for _, r := range refs {
			if strings.EqualFold(n.Name, r.alias) {
				s.write(r.table)
				found = true
			}
		}
		for _, r := range refs {
			if strings.EqualFold(n.Name, r.table.Name) && (n.Qualifier == "" || r.table.Qualifier == "" || strings.EqualFold(n.Qualifier, r.table.Qualifier)) {
				s.write(r.table)
				found = true
			}
		}
		if !found {
			// It is something else than a table here, such as MariaDB's DELETE HISTORY.
			s.write(n)
			for _, r := range refs {
				s.write(r.table)
			}
		}
	}
}

// deleted reads a, b.*, c up to a token.
func (p *parser) deleted(to int) (names []Name, ok bool) {
	for p.at < to {
		n, ok := p.name()
		if !ok {
			return nil, false
		}
		p.accept(".", "*")
		names = append(names, n)
		if !p.accept(",") {
			break
		}
	}
	return names, p.at == to && len(names) > 0
}

func (p *parser) indexed() {
	if p.accept("indexed", "by") {
		p.move(1)
	} else {
		p.accept("not", "indexed")
	}
}

// where reads what chooses the rows. It is false if something else stands there.
func (p *parser) where(d *DML) bool {
	from := p.at
	stop := p.find("returning")
	if from < stop && !p.tok(0).is("where") && (p.dialect == Postgres || !p.tok(0).is("order") && !p.tok(0).is("limit")) {
		return false
	}
	d.Where = p.span(from, stop)
	if p.accept("where") {
		if p.tok(0).is("current") && p.tok(1).is("of") {
			d.Cursor = true
		} else {
			d.Keys = p.keys(d, p.at, min(stop, p.find("order", "limit")))
		}
	}
	p.at = stop
	return true
}

// keys finds the conditions of a range of tokens that every row meets.
func (p *parser) keys(d *DML, from, to int) []Key {
	from, to = p.strip(from, to)
	var parts [][2]int
	var n nesting
	begin, between, interval := from, false, false
	for i := from; i < to; i++ {
		t := &p.tokens[i]
		n.step(p.tokens, i)
		switch {
		case !n.outside():
		case i > from && p.tokens[i-1].is("."):
		case t.is("or"), t.is("xor"), t.is(":="), t.is("|"), t.is(","):
			return nil // || too
		case t.is("between"):
			between = true
		case t.is("interval"):
			interval = p.dialect == MySQL
		case interval && t.kind == word && (slices.Contains(units, t.text) || strings.Contains(t.text, "_")):
			interval = false
		case t.is("and") && interval:
			return nil // INTERVAL a AND b DAY
		case t.is("and"):
			// The AND of BETWEEN, and what follows it, are no conditions.
			if !between {
				parts = append(parts, [2]int{begin, i})
				begin = i + 1
			}
			between = false
		case t.is("&") && p.dialect == MySQL:
			return nil // && and what binds otherwise
		}
	}
	if !n.outside() {
		return nil
	}
	parts = append(parts, [2]int{begin, to})
	var keys []Key
	for _, part := range parts {
		if f, t := p.strip(part[0], part[1]); f != part[0] {
			keys = append(keys, p.keys(d, f, t)...)
		} else if k, ok := p.key(d, f, t); ok {
			keys = append(keys, k)
		}
	}
	return keys
}

// units are those of MySQL's INTERVAL, but for the ones that are made of two.
var units = []string{"microsecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year"}

// strip takes off parentheses around the whole range.
func (p *parser) strip(from, to int) (int, int) {
	for from < to && p.tokens[from].is("(") && p.closing(from) == to-1 {
		from, to = from+1, to-1
	}
	return from, to
}

// key reads column = operand, operand = column, and column IN (operands).
func (p *parser) key(d *DML, from, to int) (Key, bool) {
	if column, next, ok := p.own(d, from, to); ok && next < to {
		switch {
		case p.tokens[next].is("="):
			if o := p.operand(next+1, to); o.Kind != Expression {
				return Key{column, []Operand{o}}, true
			}
		case p.tokens[next].is("in") && next+1 < to && p.tokens[next+1].is("(") && p.closing(next+1) == to-1:
			list := p.operands(next+2, to-1)
			if len(list) > 0 && !slices.ContainsFunc(list, func(o Operand) bool { return o.Kind == Expression }) {
				return Key{column, list}, true
			}
		}
		return Key{}, false
	}
	for at := from; at < to; at++ {
		if p.tokens[at].is("=") {
			if column, next, ok := p.own(d, at+1, to); ok && next == to {
				if o := p.operand(from, at); o.Kind != Expression {
					return Key{column, []Operand{o}}, true
				}
			}
			break
		}
	}
	return Key{}, false
}

// own reads a column of the DML's table, which may be qualified by its name or alias.
func (p *parser) own(d *DML, from, to int) (column string, next int, ok bool) {
	at := from
	for at < to && p.tokens[at].isName() {
		if at+1 < to && p.tokens[at+1].is(".") {
			at += 2
			continue
		}
		break
	}
	if at >= to || !p.tokens[at].isName() || p.tokens[at].kind == word && slices.Contains(keywords, p.tokens[at].text) {
		return "", 0, false
	}
	if at == from && p.tokens[at].kind == word && slices.Contains(constants, p.tokens[at].text) {
		return "", 0, false
	}
	switch (at - from) / 2 {
	case 0:
	case 1:
		owner := p.tokens[from].name
		if d.Alias != "" && !p.same(owner, d.Alias) || d.Alias == "" && !p.same(owner, d.Table.Name) {
			return "", 0, false
		}
	case 2:
		n := Name{p.tokens[from].name, p.tokens[from+2].name}
		if d.Alias != "" || !p.same(n.Qualifier, d.Table.Qualifier) || !p.same(n.Name, d.Table.Name) {
			return "", 0, false
		}
	default:
		return "", 0, false
	}
	return p.tokens[at].name, at + 1, true
}

// same reports whether two names are one, as far as the text can tell.
func (p *parser) same(a, b string) bool {
	return a == b || p.dialect != Postgres && strings.EqualFold(a, b)
}

// constants are words that stand for values, though they look like columns.
var constants = []string{
	"current_catalog", "current_date", "current_role", "current_schema", "current_time", "current_timestamp", "current_user", "localtime", "localtimestamp",
	"session_user", "system_user", "user", "utc_date", "utc_time", "utc_timestamp",
}

// operands reads a list of operands.
func (p *parser) operands(from, to int) []Operand {
	list := []Operand{}
	for from < to {
		next := p.comma(from, to)
		list = append(list, p.operand(from, next))
		from = next + 1
	}
	return list
}

// operand reads a range of tokens as an operand.
func (p *parser) operand(from, to int) Operand {
	o := Operand{Span: p.span(from, to)}
	from, to = p.strip(from, to)
	if p.dialect == Postgres && to-from == 3 && p.tokens[from+1].is("::") && p.tokens[from].kind == placeholder && slices.Contains(casts, p.tokens[from+2].text) {
		to = from + 1
	}
	negative := to-from == 2 && p.tokens[from].is("-") && p.tokens[from+1].kind == number
	if negative {
		from++
	}
	if to-from != 1 {
		return o
	}
	switch t := &p.tokens[from]; {
	case t.kind == placeholder && t.number > 0:
		o.Kind, o.Ordinal = Argument, t.number
	case t.kind == number:
		if n, ok := integer(t.text, negative); ok {
			o.Kind, o.Int = Integer, n
		}
	case t.kind == str && t.plain:
		o.Kind, o.Text = String, t.text
	case t.is("null"):
		o.Kind = Null
	case t.is("default"):
		o.Kind = Default
	}
	return o
}

// casts are the types that an integer or a UUID stays itself in.
var casts = []string{"int", "int2", "int4", "int8", "integer", "bigint", "smallint", "uuid"}

func integer(text string, negative bool) (int64, bool) {
	n, err := strconv.ParseUint(text, 10, 64)
	switch {
	case err != nil:
		return 0, false
	case negative && n <= math.MaxInt64+1:
		return -int64(n), true
	case negative || n > math.MaxInt64:
		return 0, false
	}
	return int64(n), true
}
