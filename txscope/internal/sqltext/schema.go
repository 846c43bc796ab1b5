package sqltext

import "slices"

// schema reads DDL, and what maintains tables. verb is its first word.
func (p *parser) schema(s *Statement, verb string) {
	s.Verb = Schema
	s.Alone = p.dialect == MySQL
	switch verb {
	case "create":
		p.create(s)
	case "alter":
		p.alter(s)
	case "drop":
		p.drop(s)
	case "rename":
		if !p.accept("table") {
			p.accept("tables")
		}
		p.exists()
		p.names(s)
	case "reassign", "import":
		s.anywhere("many tables at once")
	case "vacuum", "cluster", "reindex":
		s.Verb, s.Alone = Maintain, true
	}
}

// exists moves over IF EXISTS, IF NOT EXISTS and CONCURRENTLY, which can be names too.
func (p *parser) exists() {
	if p.tok(1).isName() {
		p.accept("concurrently")
	}
	if !p.accept("if", "exists") {
		p.accept("if", "not", "exists")
	}
}

// names notes all names that follow: a TO b, c WAIT 5.
func (p *parser) names(s *Statement) {
	for !p.done() {
		switch n, ok := p.name(); {
		case !ok:
			p.move(1)
		default:
			s.write(n)
			p.skip("to", "wait", "nowait")
		}
	}
}

func (p *parser) create(s *Statement) {
	p.accept("or", "replace")
	temporary := false
	for slices.ContainsFunc(beforeKind, p.tok(0).is) {
		temporary = temporary || p.tok(0).is("temporary") || p.tok(0).is("temp")
		p.move(1)
	}
	// MySQL writes DEFINER = a@b before the kind.
	if p.tok(0).is("definer") || p.tok(0).is("algorithm") || p.tok(0).is("sql") || p.tok(0).is("aggregate") {
		p.at = p.find("table", "view", "trigger", "function", "procedure", "event", "index")
	}
	kind := p.tok(0).text
	p.move(1)
	p.exists()
	switch kind {
	case "table", "view":
		p.writesMore(s)
		if temporary {
			s.Alone = false
		}
		if p.dialect == Postgres && p.find("execute") < len(p.tokens) {
			s.anywhere("EXECUTE")
		}
	case "index":
		s.Alone = s.Alone || slices.ContainsFunc(p.tokens, func(t token) bool { return t.is("concurrently") })
		p.on(s)
	case "trigger", "rule", "policy":
		p.on(s)
		if kind == "rule" {
			p.at = p.find("to")
			if p.accept("to") {
				p.writesMore(s)
			}
		}
	case "statistics":
	case "database", "tablespace":
		s.Alone = true
	case "schema":
		if len(p.tokens) > 6 {
			s.anywhere("CREATE SCHEMA with what is in it")
		}
	}
}

var beforeKind = []string{
	"temporary", "temp", "global", "local", "unlogged", "unique", "fulltext", "spatial", "materialized", "recursive", "virtual", "foreign", "online", "offline", "constraint", "or", "replace",
}

// writesMore is writes where something else is Schema whatever comes.
func (p *parser) writesMore(s *Statement) {
	if p.dialect == Postgres {
		p.accept("only")
	}
	if n, ok := p.name(); ok {
		s.write(n)
		return
	}
	s.anywhere("a schema change that is not understood")
}

// on finds ON and the table after it.
func (p *parser) on(s *Statement) {
	p.at = p.find("on")
	if p.accept("on") {
		p.writesMore(s)
	}
}

func (p *parser) alter(s *Statement) {
	p.skip("online", "offline", "ignore", "foreign", "materialized")
	switch p.tok(0).text {
	case "table", "view":
		p.move(1)
		p.exists()
		if p.accept("all") {
			s.anywhere("many tables at once")
			return
		}
		p.writesMore(s)
		p.others(s)
	case "system":
		s.Alone = true
	case "schema", "database", "type", "domain", "extension":
		if p.dialect == MySQL || p.tok(0).text != "database" {
			s.anywhere("a change to what many tables can use")
		}
	}
}

// others notes the further tables that ALTER TABLE is about.
func (p *parser) others(s *Statement) {
	for p.at < len(p.tokens) {
		switch {
		case p.dialect == MySQL && p.tok(0).is("rename") && !slices.ContainsFunc([]string{"column", "index", "key"}, p.tok(1).is):
			p.move(1)
			p.skip("to", "as", "=")
			if n, ok := p.name(); ok {
				s.write(n)
			}
		case p.accept("rename", "to"), p.accept("rename", "as"), p.accept("attach", "partition"), p.accept("detach", "partition"), p.accept("inherit"),
			p.accept("exchange", "partition"), p.accept("with", "table"), p.accept("to", "table"), p.accept("convert", "table"), p.accept("merge", "partitions"):
			if n, ok := p.name(); ok {
				s.write(n)
			}
		case p.tok(0).is("concurrently"):
			s.Alone = true
			p.move(1)
		default:
			p.move(1)
		}
	}
}

func (p *parser) drop(s *Statement) {
	temporary := p.accept("temporary")
	p.skip("materialized", "foreign")
	kind := p.tok(0).text
	p.move(1)
	if p.tok(0).is("concurrently") {
		s.Alone = true
	}
	p.exists()
	switch kind {
	case "table", "tables", "view":
		for {
			p.writesMore(s)
			if !p.accept(",") {
				break
			}
		}
		if temporary {
			s.Alone = false
		}
	case "index", "trigger", "rule", "policy":
		if p.find("on") < len(p.tokens) {
			p.on(s)
		}
	case "database", "tablespace":
		s.Alone = true
		s.anywhere("many tables at once")
	case "schema", "owned", "type", "domain", "extension", "server":
		s.anywhere("many tables at once")
	default:
		if p.dialect == Postgres && p.find("cascade") < len(p.tokens) {
			s.anywhere("DROP … CASCADE") // of columns too, whose default it is, say
		}
	}
}
