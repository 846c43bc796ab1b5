package sqltext

import "strings"

// Routine is what the source of a routine, trigger, rule or view can do.
type Routine struct {
	// Writes are the tables that it names as written. A name can be that of a view.
	Writes []Name
	// Truncates says that it may do so to one of them.
	Truncates bool
	// Calls are the names before a parenthesis, or after CALL. It can hold names that are none of a
	// routine.
	Calls []Name
	// Reads are the other names that can be those of tables or views. It can hold names that are none.
	Reads []Name

	// Dynamic says that it runs text that it makes, changes what a database is made of beyond its
	// tables, or could not be read: it may write anywhere.
	Dynamic bool
	// Transactions says that it may commit or roll back.
	Transactions bool

	// Assigns are the columns of NEW that it may assign, folded.
	Assigns []string
	// Whole says that any column of the row may become another: NEW is assigned as a whole, has an
	// alias, or what PostgreSQL's function returns is not certain to be NEW, OLD or NULL.
	Whole bool
}

// Body reads the source of a routine, trigger, rule or view: PL/pgSQL, LANGUAGE sql, what
// pg_get_viewdef and pg_get_ruledef give, and the bodies that MySQL's information_schema gives.
//
// It looks for the verbs at any place of the source, whatever stands around them, so it can report a
// table that is not written, but leaves none out that the source names as written.
func Body(d Dialect, source string) Routine {
	r := &routine{dialect: d, source: source}
	first := lex(d, mode{}, source)
	readings := []*lexer{first}
	if d == MySQL {
		// The mode that the source was made in is not known: it means all that it can mean.
		for n := 1; n < 8; n++ {
			m := mode{ansiQuotes: n&1 != 0, rawBackslash: n&2 != 0, versionCode: n&4 != 0}
			readings = append(readings, lex(d, m, source))
		}
	}
	// A server took the source, so a reading in which it is torn is not the server's, unless all are.
	understood := false
	for _, l := range readings {
		if !l.torn {
			understood = true
			r.read(l.tokens)
		}
	}
	if !understood {
		r.Dynamic = true
		r.read(first.tokens)
	}
	return r.Routine
}

// routine reads the tokens of one source.
type routine struct {
	Routine
	dialect Dialect
	source  string
	tokens  []token
}

// at returns a token; beyond either end, one that is nothing.
func (r *routine) at(i int) *token {
	if i < 0 || i >= len(r.tokens) {
		return &token{}
	}
	return &r.tokens[i]
}

// any reports whether a token is one of those keywords or signs.
func (t *token) any(texts ...string) bool {
	for _, text := range texts {
		if t.is(text) {
			return true
		}
	}
	return false
}

// read goes through all tokens, and looks at what follows each that can begin something.
func (r *routine) read(tokens []token) {
	r.tokens = tokens
	for i := range tokens {
		t := &tokens[i]
		if r.at(i - 1).is(".") {
			if r.dialect == Postgres && t.isName() && r.at(i-2).isName() && !r.isNew(r.at(i-2)) {
				// A column, or a function that is written as one: row.function.
				r.Reads = addName(r.Reads, Name{r.at(i - 2).name, t.name})
			}
			continue // whatever it is called
		}
		if r.isNew(t) {
			r.useOfNew(i)
		}
		if t.isName() {
			r.call(i)
		}
		switch t.kind {
		case word:
			r.word(i)
		case variable:
			if strings.Contains(lower(t.span.Of(r.source)), "autocommit") {
				r.Transactions = true
			}
		}
	}
}

// word looks at a keyword and what follows it.
func (r *routine) word(i int) {
	t, prev, next := r.at(i), r.at(i-1), r.at(i+1)
	switch t.text {
	case "insert":
		r.insert(i + 1)
	case "replace":
		if r.dialect != Postgres && !prev.is("or") && !next.is("(") {
			r.insert(i + 1)
		}
	case "update":
		r.update(i)
	case "delete":
		r.delete(i + 1)
	case "truncate":
		r.truncate(i + 1)
	case "merge":
		if next.is("into") {
			r.write(r.skip(i+2, "only"))
		}
	case "copy":
		if r.dialect == Postgres {
			r.copy(i + 1)
		}
	case "into":
		r.into(i + 1)
	case "create", "alter", "drop", "rename", "refresh":
		r.schema(i)
	case "from", "join", "straight_join", "using":
		if !(t.text == "using" && next.is("(")) {
			r.reads(i + 1)
		}
	case "table":
		if next.isName() {
			r.reads(i + 1)
		}
	case "call":
		if name, _, ok := r.name(i + 1); ok {
			r.Calls = addName(r.Calls, name)
		}
		r.arguments(i + 1)
	case "execute", "prepare":
		r.Dynamic = r.Dynamic || !r.executesNothing(i)
	case "do":
		if r.dialect == Postgres && (next.kind == str || next.is("language")) {
			r.Dynamic = true
		}
	case "return":
		r.result(i + 1)
	case "for", "foreach":
		if r.dialect == Postgres {
			r.targets(i + 1)
		}
	default:
		r.transaction(i)
	}
}

// transaction looks for what commits or rolls back. MySQL's DDL does so too: see schema.
func (r *routine) transaction(i int) {
	prev, next := r.at(i-1), r.at(i+1)
	switch r.at(i).text {
	case "commit", "rollback", "abort":
		r.Transactions = r.Transactions || !prev.is("on")
	case "start":
		r.Transactions = r.Transactions || next.is("transaction")
	case "autocommit", "xa":
		r.Transactions = r.Transactions || r.dialect == MySQL
	case "grant", "revoke", "analyze", "optimize", "repair", "check", "flush", "reset", "cache",
		"lock", "unlock", "install", "uninstall", "stop", "change":
		if r.dialect == MySQL && (prev.kind == end || prev.any(";", "begin", "then", "else", "loop", "do", "repeat")) {
			r.Transactions = true // they commit implicitly, or may
		}
	}
}

// executesNothing reports whether EXECUTE or PREPARE at i is a part of CREATE TRIGGER or of GRANT.
func (r *routine) executesNothing(i int) bool {
	next := r.at(i + 1)
	if next.is("on") {
		return true // GRANT EXECUTE ON
	}
	if !next.any("function", "procedure") || !r.at(0).is("create") {
		return false
	}
	_, after, ok := r.name(i + 2)
	return ok && r.at(after).is("(")
}

// skip passes over keywords.
func (r *routine) skip(i int, words ...string) int {
	for r.at(i).any(words...) {
		i++
	}
	return i
}

// name reads a name with its qualifiers, and returns where it ends.
func (r *routine) name(i int) (name Name, after int, ok bool) {
	t := r.at(i)
	if t.kind == str && t.plain && r.dialect == SQLite {
		return Name{Name: t.text}, i + 1, true
	}
	if !t.isName() {
		return Name{}, i, false
	}
	name.Name = t.name
	for i++; r.at(i).is(".") && r.at(i+1).isName(); i += 2 {
		name = Name{Qualifier: name.Name, Name: r.at(i + 1).name}
	}
	return name, i, true
}

// write takes the name at i for that of a table that is written.
func (r *routine) write(i int) (after int) {
	name, after, ok := r.name(i)
	if !ok {
		// A verb and no name: not understood, but for MySQL's text in quotes, which is a name in
		// another mode.
		r.Dynamic = r.Dynamic || r.dialect != MySQL
		return i
	}
	r.Writes = addName(r.Writes, name)
	return after
}

// writeList takes a list of names for those of tables that are written.
func (r *routine) writeList(i int) (after int) {
	for {
		i = r.write(r.skip(i, "only"))
		i = r.skip(i, "*")
		if !r.at(i).is(",") {
			return i
		}
		i++
	}
}

func addName(names []Name, n Name) []Name {
	for _, have := range names {
		if have == n {
			return names
		}
	}
	return append(names, n)
}

func addColumn(columns []string, c string) []string {
	for _, have := range columns {
		if have == c {
			return columns
		}
	}
	return append(columns, c)
}
