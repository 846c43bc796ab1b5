package sqltext

import "slices"

// statement reads the statement from its first word.
func (p *parser) statement() Statement {
	var s Statement
	p.dispatch(&s)
	p.scan(&s)
	if p.dialect == MySQL && (s.Verb == Update || s.Verb == Delete) && (p.confused || slices.ContainsFunc(p.tokens, func(t token) bool { return t.is("{") })) {
		s.anywhere("it is not certain which tables are meant")
		s.DML = nil
	}
	if s.Verb == Unknown && !s.Anywhere {
		s.anywhere(p.unknown())
	}
	return s
}

// unknown says what is not understood, by the statement's first word.
func (p *parser) unknown() string {
	const plain = "a statement that is not understood"
	if len(p.tokens) > 0 && p.tokens[0].kind == word && len(p.tokens[0].text) < 20 {
		return plain + ": " + p.tokens[0].text
	}
	return plain
}

func (p *parser) dispatch(s *Statement) {
	first := p.tok(0)
	if first.is("(") {
		// (SELECT …) UNION …
		for p.tok(0).is("(") {
			p.move(1)
		}
		switch p.tok(0).text {
		case "values", "table":
			s.Verb = Read
		case "select", "with":
			p.dispatch(s)
		}
		return
	}
	if first.kind != word {
		return
	}
	p.move(1)
	switch first.text {
	case "with":
		p.with(s)
	case "select":
		p.selects(s)
	case "values", "table", "show", "help", "handler":
		s.Verb = Read
	case "explain", "desc", "describe":
		p.explain(s)
	case "insert", "replace":
		p.insert(s, first.text == "replace")
	case "update":
		p.update(s)
	case "delete":
		p.delete(s)
	case "merge":
		p.accept("into")
		p.accept("only")
		p.writes(s, Merge)
	case "truncate":
		p.truncate(s)
	case "copy":
		p.copy(s)
	case "load":
		p.load(s)
	case "refresh":
		p.accept("materialized", "view")
		if p.tok(1).isName() && !p.tok(1).is("with") {
			p.accept("concurrently")
		}
		p.writes(s, Copy)
	case "call":
		s.Verb = Call
		s.anywhere("CALL")
	case "do":
		p.do(s)
	case "execute", "exec":
		s.Verb = Execute
		s.anywhere("EXECUTE")
	case "prepare":
		s.Verb = Session
		switch {
		case p.tok(0).is("transaction") && p.tok(1).kind == str:
			s.Verb, s.Control = Control, OtherControl
		case p.find("as") < len(p.tokens):
			// EXECUTE runs it, and may be far away.
			p.at = p.find("as") + 1
			p.runs(s)
			s.Verb = Session
		}
	case "create", "alter", "drop", "rename", "comment", "grant", "revoke", "security", "import", "reassign", "reindex", "cluster", "vacuum":
		p.schema(s, first.text)
	case "analyze", "analyse":
		p.analyze(s)
	case "check", "checksum", "optimize", "repair", "flush", "cache", "purge", "reset", "checkpoint":
		s.Verb = Maintain
		if p.dialect == Postgres && first.text == "reset" {
			s.Verb = Session
		}
		s.Alone = p.dialect == MySQL
	case "lock", "unlock":
		s.Verb = Session
		s.Alone = p.dialect == MySQL
	case "set":
		p.set(s)
	case "declare":
		// Its query runs later; what it calls counts now.
		s.Verb = Read
		if p.dialect == MySQL {
			s.anywhere("DECLARE") // of a block, in Oracle's mode
		}
	case "listen", "unlisten", "notify", "discard", "deallocate", "fetch", "move", "close", "use", "kill", "stop", "change", "get", "signal", "resignal", "binlog",
		"attach", "detach", "pragma", "shutdown", "install", "uninstall", "open":
		s.Verb = Session
		s.Alone = p.dialect == MySQL && (first.text == "install" || first.text == "uninstall" || first.text == "stop" || first.text == "change")
		if first.text == "binlog" {
			s.anywhere("BINLOG")
		}
	case "begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "xa":
		p.control(s, first.text)
	}
}

// scan goes over the whole statement for what is called and read, and for the writes within it.
func (p *parser) scan(s *Statement) {
	for i := 0; i < len(p.tokens); i++ {
		t := &p.tokens[i]
		switch {
		case t.is("(") && i+2 < len(p.tokens) && p.tokens[i+1].kind == word && slices.Contains(inner, p.tokens[i+1].text) && !p.tokens[i+2].is("("):
			i = p.inner(s, i)
		case !t.isName():
		case i > 0 && p.tokens[i-1].is(".") && i > 1 && p.tokens[i-2].isName():
			s.mention(p, i, Name{p.tokens[i-2].name, t.name})
		case t.kind == word && slices.Contains(keywords, t.text) && !p.unquoted(i):
		default:
			s.mention(p, i, Name{"", t.name})
		}
	}
}

// inner are the words that begin a statement in parentheses that writes.
var inner = []string{"insert", "update", "delete", "merge", "replace", "with"}

// inner reads a statement in parentheses: WITH x AS (DELETE …). It returns where that ends.
func (p *parser) inner(s *Statement, at int) int {
	closing := p.closing(at)
	if closing < 0 {
		s.anywhere(p.unknown())
		s.DML = nil
		return at
	}
	in := p.sub(at+1, closing)
	for _, n := range in.Writes {
		s.write(n)
	}
	s.Calls, s.Reads = union(s.Calls, in.Calls), union(s.Reads, in.Reads)
	if in.Anywhere {
		s.anywhere(in.Why)
	}
	if len(in.Writes) > 0 || in.Anywhere {
		s.DML = nil
	}
	return closing
}

// mention notes a name as that of a function or of what may be a table.
func (s *Statement) mention(p *parser, i int, n Name) {
	if i+1 < len(p.tokens) && p.tokens[i+1].is("(") {
		if !slices.Contains(s.Calls, n) {
			s.Calls = append(s.Calls, n)
		}
		return
	}
	if len(s.Reads) < maxReads && !slices.Contains(s.Reads, n) {
		s.Reads = append(s.Reads, n)
	} else if len(s.Reads) >= maxReads {
		s.anywhere("very many names")
	}
}

// maxReads bounds a list that is searched from its begin.
const maxReads = 1000

// keywords stand for no function and no table when they are not quoted.
var keywords = []string{
	"select", "from", "where", "and", "or", "not", "in", "is", "null", "as", "on", "by", "set", "values", "into", "insert", "update", "delete",
	"order", "group", "having", "limit", "offset", "join", "inner", "left", "right", "outer", "cross", "union", "all", "distinct", "case", "when",
	"then", "else", "end", "asc", "desc", "returning", "using", "between", "like", "exists", "with", "over", "default", "conflict", "do", "true", "false",
}

// unquoted reports whether the keyword at i stands where a name would. Some can be names without quotes,
// as PostgreSQL's set and delete.
func (p *parser) unquoted(i int) bool {
	if i == 0 {
		return false
	}
	before := &p.tokens[i-1]
	if i+1 < len(p.tokens) && p.tokens[i+1].is("(") {
		t := &p.tokens[i]
		if slices.Contains(neverCalled, t.text) || t.is("conflict") && before.is("on") || t.is("insert") && before.is("then") {
			return false
		}
		return before.kind == sign && !before.is(")") || before.kind == word && slices.Contains(beforeOperand, before.text)
	}
	if before.is("(") {
		return !slices.Contains(neverCalled, p.tokens[i].text)
	}
	return before.is("from") || before.is("join") || before.is("straight_join") || before.is(",") || before.is("only") || before.is("table") || before.is("into") || before.is("using") || before.is("copy") || before.is("of") || before.is("update")
}

var (
	neverCalled   = []string{"select", "from", "where", "and", "or", "not", "in", "as", "on", "values", "distinct", "case", "when", "then", "else", "exists", "with", "using", "all", "null", "default"}
	beforeOperand = []string{"select", "where", "and", "or", "not", "on", "when", "then", "else", "case", "by", "having", "return", "returning", "distinct", "between", "like", "in", "from", "join", "limit", "offset", "set", "lateral", "using", "all"}
)

func (p *parser) writes(s *Statement, v Verb) {
	s.Verb = v
	n, ok := p.name()
	if !ok {
		s.Verb = Unknown
		return
	}
	s.write(n)
}

// with reads WITH: the statement that follows is what counts, and scan finds what the common table
// expressions write.
func (p *parser) with(s *Statement) {
	p.accept("recursive")
	for {
		if _, ok := p.name(); !ok {
			return
		}
		p.group() // columns
		if !p.accept("as") {
			return
		}
		p.skip("not", "materialized")
		if _, _, ok := p.group(); !ok {
			return
		}
		p.order()
		if !p.accept(",") {
			break
		}
	}
	switch p.tok(0).text {
	case "(", "select", "values", "table", "insert", "update", "delete", "merge", "replace":
		p.dispatch(s)
	}
	if s.DML != nil {
		s.DML.With = true
	}
}

// order moves over the SEARCH and CYCLE of a common table expression.
func (p *parser) order() {
	if p.accept("search", "depth", "first", "by") || p.accept("search", "breadth", "first", "by") {
		p.list()
		p.accept("set")
		p.name()
	}
	if p.accept("cycle") {
		p.list()
		if p.accept("restrict") {
			return
		}
		p.accept("set")
		p.name()
		if p.accept("to") {
			p.at = p.find("using")
		}
		p.accept("using")
		p.name()
	}
}

// list moves over names.
func (p *parser) list() {
	for {
		if _, ok := p.name(); !ok || !p.accept(",") {
			return
		}
	}
}

// selects reads SELECT; INTO makes a table, or fills variables.
func (p *parser) selects(s *Statement) {
	s.Verb = Read
	if p.dialect != Postgres {
		return
	}
	p.at = p.find("into")
	if !p.accept("into") {
		return
	}
	// Any of these can be the table's name too, if none follows.
	for slices.ContainsFunc(beforeTable, p.tok(0).is) && p.tok(1).isName() &&
		!slices.ContainsFunc(afterInto, p.tok(1).is) {
		p.move(1)
	}
	p.writes(s, Schema)
}

var (
	beforeTable = []string{"temporary", "temp", "unlogged", "table", "local", "global"}
	afterInto   = []string{"from", "where", "group", "having", "union", "except", "intersect", "order", "limit", "offset", "for", "window", "fetch"}
)

func (p *parser) explain(s *Statement) {
	analyze := false
	for {
		switch t := p.tok(0); {
		case t.is("analyze"), t.is("analyse"):
			analyze = true
			p.move(1)
		case t.is("verbose"), t.is("extended"), t.is("partitions"), t.is("query"), t.is("plan"):
			p.move(1)
		case t.is("format"):
			p.move(3) // = name
		case t.is("(") && p.dialect == Postgres && !p.tok(1).is("select") && !p.tok(1).is("("):
			from, to, ok := p.group()
			if !ok {
				return
			}
			for i := from; i < to; i++ {
				analyze = analyze || p.tokens[i].name == "analyze" || p.tokens[i].name == "analyse"
			}
		default:
			s.Verb = Read
			switch {
			case analyze:
				p.runs(s)
			case p.dialect == MySQL:
				// Nothing of it runs but what it selects from, to plan it: MariaDB calls functions for that.
				in := p.sub(p.at, len(p.tokens))
				in.Writes, in.Anywhere, in.Alone = nil, false, false
				s.take(&in)
				p.tokens = p.tokens[:p.at]
			default:
				p.tokens = p.tokens[:p.at] // nothing of it runs
			}
			return
		}
	}
}

// runs takes in the statement that follows, which runs within another that shows how.
func (p *parser) runs(s *Statement) {
	in := p.sub(p.at, len(p.tokens))
	s.Verb = in.Verb
	s.take(&in)
}

// analyze reads ANALYZE of tables, or MariaDB's ANALYZE of a statement, which runs it.
func (p *parser) analyze(s *Statement) {
	s.Verb = Maintain
	if p.dialect != MySQL {
		return
	}
	s.Alone = true
	if p.tok(0).is("table") || p.tok(0).is("local") || p.tok(0).is("no_write_to_binlog") {
		return
	}
	if p.accept("format") {
		p.move(2)
	}
	s.Verb, s.Alone = Read, false
	p.runs(s)
}

func (p *parser) truncate(s *Statement) {
	p.accept("table")
	for {
		p.accept("only")
		p.writes(s, Truncate)
		p.accept("*")
		if s.Verb == Unknown || !p.accept(",") {
			break
		}
	}
	if p.dialect == Postgres && p.find("cascade") < len(p.tokens) {
		s.anywhere("TRUNCATE … CASCADE")
	}
	s.Alone = p.dialect == MySQL
}

func (p *parser) copy(s *Statement) {
	if p.tok(0).is("(") {
		s.Verb = Read
		return
	}
	if p.tok(0).is("binary") && p.tok(1).isName() && !p.tok(1).is("from") && !p.tok(1).is("to") {
		p.move(1)
	}
	p.writes(s, Copy)
	p.group()
	switch {
	case p.tok(0).is("from"):
	case p.tok(0).is("to"):
		s.Verb, s.Writes = Read, nil
	default:
		s.Verb = Unknown
	}
}

func (p *parser) load(s *Statement) {
	switch {
	case p.dialect == Postgres:
		s.Verb = Session // a library
	case p.tok(0).is("data"), p.tok(0).is("xml"):
		p.at = p.find("into")
		if p.accept("into", "table") {
			p.writes(s, Copy)
		}
	case p.tok(0).is("index"):
		s.Verb, s.Alone = Maintain, true
	}
}

// do reads PostgreSQL's DO of a block, or MySQL's of expressions.
func (p *parser) do(s *Statement) {
	if p.dialect == MySQL {
		s.Verb = Read
		return
	}
	s.Verb = Do
	s.anywhere("DO")
	for i := range p.tokens {
		if p.tokens[i].kind == str && p.tokens[i].plain && !(i > 0 && p.tokens[i-1].is("language")) {
			s.Body = p.tokens[i].text
		}
	}
}

func (p *parser) set(s *Statement) {
	s.Verb = Session
	if p.dialect != MySQL {
		return
	}
	for i := range p.tokens {
		t := &p.tokens[i]
		if t.is("autocommit") || t.is("password") || t.kind == variable && slices.Contains([]string{"@@autocommit", "@@session.autocommit", "@@local.autocommit"}, lower(t.span.Of(p.text))) {
			s.Alone = true // it commits what is open, or can
		}
	}
	if p.tok(0).is("statement") {
		// MariaDB: SET STATEMENT x = y FOR statement
		p.at = p.find("for")
		if p.accept("for") {
			p.runs(s)
			return
		}
		s.Verb = Unknown
	}
}

// control reads what begins, ends or divides a transaction.
func (p *parser) control(s *Statement, first string) {
	s.Verb = Control
	s.Control = OtherControl
	switch first {
	case "begin":
		if p.tok(0).is("not") {
			s.Verb, s.Control = Unknown, OtherControl
			s.anywhere("BEGIN NOT ATOMIC")
			return
		}
		s.Control = Begin
		s.Alone = p.dialect == MySQL
		if p.accept("work"); p.dialect == MySQL && !p.done() {
			s.anywhere("BEGIN with a statement") // MariaDB in Oracle's mode
			s.Control = OtherControl
		}
	case "start":
		s.Alone = p.dialect == MySQL
		if p.tok(0).is("transaction") {
			s.Control = Begin
			return
		}
		s.Verb, s.Control = Session, NoControl // START REPLICA
	case "commit", "end", "rollback", "abort":
		p.skip("work", "transaction")
		rollback := first == "rollback" || first == "abort"
		switch {
		case p.tok(0).is("prepared"):
			if !rollback {
				s.anywhere("COMMIT PREPARED")
			}
		case rollback && p.accept("to"):
			p.accept("savepoint")
			p.savepoint(s, RollbackTo)
		case p.tok(0).is("and") && !p.tok(1).is("no"):
		case rollback:
			s.Control = Rollback
		default:
			s.Control = Commit
		}
	case "savepoint":
		p.savepoint(s, Savepoint)
	case "release":
		p.accept("savepoint")
		p.savepoint(s, Release)
	case "xa":
		s.anywhere("XA")
	}
}

func (p *parser) savepoint(s *Statement, kind ControlKind) {
	if t := p.tok(0); t.isName() || t.kind == str && t.plain {
		s.Control, s.Savepoint = kind, t.name
		if t.kind == str {
			s.Savepoint = t.text
		}
	}
}
