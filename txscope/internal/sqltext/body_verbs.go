package sqltext

// insert reads what follows INSERT or REPLACE. MySQL has both without INTO.
func (r *routine) insert(i int) {
	switch r.dialect {
	case MySQL:
		i = r.skip(i, "low_priority", "delayed", "high_priority", "ignore")
	case SQLite:
		if r.at(i).is("or") {
			i += 2
		}
	}
	switch t := r.at(i); {
	case t.is("into") && r.at(i+1).is("table"): // LOAD DATA … REPLACE INTO TABLE: see into
	case t.is("into"):
		r.write(i + 1)
	case r.dialect == MySQL && t.isName() && !t.any("on", "or"): // AFTER INSERT ON
		r.write(i)
	}
}

// update reads what follows the UPDATE at i.
func (r *routine) update(i int) {
	prev, next := r.at(i-1), r.at(i+1)
	switch {
	case prev.is("on"):
		return // ON UPDATE CASCADE, a rule's ON UPDATE TO
	case prev.is("for") && !r.opens(i):
		return // FOR UPDATE OF t
	case prev.is("key") && r.at(i-2).any("no", "duplicate"):
		return // FOR NO KEY UPDATE, ON DUPLICATE KEY UPDATE
	case prev.any("before", "after", "of", "or", "insert", "delete") && next.any("of", "on", "or"):
		return // the events of a trigger
	case prev.any("do", "then") && next.is("set") && !r.at(i+2).any("set", "as") && !r.at(i+3).is("set"):
		return // ON CONFLICT DO UPDATE SET, MERGE's THEN UPDATE SET; a table can be called set, though
	}
	i++
	if r.dialect == MySQL {
		for _, name := range r.tables(r.skip(i, "low_priority", "ignore")) {
			r.Writes = addName(r.Writes, name)
		}
		return
	}
	if r.dialect == SQLite && next.is("or") {
		i += 2
	}
	i = r.skip(i, "only", "(")
	if name, _, ok := r.name(i); ok && !r.at(i).any("on", "or") {
		r.Writes = addName(r.Writes, name)
	}
}

// opens reports whether the UPDATE at i, after FOR, may be a statement: OPEN c FOR UPDATE t SET …, or
// MariaDB's SET STATEMENT … FOR UPDATE t SET ….
func (r *routine) opens(i int) bool {
	next := r.at(i + 1)
	return next.isName() && !next.any("of", "nowait", "skip", "wait", "loop", "into", "lock", "limit", "union") || r.at(i+2).is("set") ||
		r.dialect == MySQL && next.is("(")
}

// delete reads what follows DELETE. In MySQL's forms for several tables all that are named count.
func (r *routine) delete(i int) {
	if r.dialect != MySQL {
		if r.at(i).is("from") {
			r.write(r.skip(i+1, "only", "("))
		}
		return
	}
	i = r.skip(i, "low_priority", "quick", "ignore", "history")
	for !r.at(i).is("from") {
		if t := r.at(i); !t.isName() && !t.any(".", "*", ",") || t.is("on") {
			return // AFTER DELETE ON
		}
		i++
	}
	for _, name := range r.tables(i + 1) {
		r.Writes = addName(r.Writes, name)
	}
}

// truncate reads what follows TRUNCATE, which is a function of MySQL's too.
func (r *routine) truncate(i int) {
	i = r.skip(i, "table")
	if t := r.at(i); !t.isName() || t.any("on", "or") || r.dialect == MySQL && t.is("partition") {
		return
	}
	r.Truncates = true
	i = r.writeList(i)
	for ; r.at(i).kind == word; i++ {
		if r.at(i).is("cascade") {
			r.Dynamic = true // whatever refers to those
		}
	}
	r.Transactions = r.Transactions || r.dialect == MySQL
}

// copy reads what follows COPY.
func (r *routine) copy(i int) {
	if r.at(i).is("binary") && r.at(i+1).isName() && !r.at(i+1).any("from", "to") {
		i++
	}
	name, after, ok := r.name(i)
	if !ok {
		return
	}
	if r.at(after).is("(") {
		after = r.closing(after) + 1
	}
	if r.at(after).is("from") {
		r.Writes = addName(r.Writes, name)
	}
}

// closing returns where the parenthesis or bracket at i is closed, or the end.
func (r *routine) closing(i int) int {
	depth := 0
	for ; r.at(i).kind != end; i++ {
		switch t := r.at(i); {
		case t.any("(", "["):
			depth++
		case t.any(")", "]"):
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return i
}

// into reads what follows INTO: INSERT's table is seen to elsewhere. A name alone is taken for a
// variable, as in PL/pgSQL and MySQL: where SELECT INTO makes a table of it, the table is new.
func (r *routine) into(i int) {
	r.targets(i)
	j := r.skip(i, "temp", "temporary", "local", "global", "unlogged")
	named := j > i
	if r.at(j).is("table") {
		j++
		named = true
	}
	if t := r.at(j); named && t.isName() && !t.is("from") {
		r.write(j)
	}
}

// schema reads CREATE, ALTER, DROP, RENAME and REFRESH. What is done to tables and views is known by
// their names; what may come of the rest is not.
func (r *routine) schema(i int) {
	verb := r.at(i)
	j := r.skip(i+1, "or", "replace", "global", "local", "temp", "temporary", "unlogged", "recursive",
		"unique", "foreign", "materialized")
	temporary := r.at(j-1).any("temp", "temporary")
	object := r.at(j)
	if object.kind != word || verb.is("rename") && !object.any("table", "tables") ||
		verb.is("refresh") && !object.is("view") {
		return // a name like any other
	}
	switch object.text {
	case "from", "as", "and", "or", "is", "in", "then":
		return // so is this
	case "column", "constraint", "index", "sequence", "default", "not", "key", "primary", "expression",
		"identity", "statistics", "check", "partition":
		// It belongs to a table that is named before, or changes no row.
	case "table", "tables", "view":
		r.table(verb, r.skip(j+1, "if", "not", "exists", "concurrently", "only"))
	case "rule", "trigger":
		r.Dynamic = r.Dynamic || i > 0 // at the begin, it is the definition itself
	default:
		r.Dynamic = true
	}
	r.Transactions = r.Transactions || r.dialect == MySQL && !temporary
}

// table reads the names that follow CREATE TABLE, DROP TABLE and the like.
func (r *routine) table(verb *token, i int) {
	switch {
	case verb.is("drop"):
		r.writeList(i)
	case verb.is("rename"):
		for {
			i = r.write(i)
			if !r.at(i).any("to", ",") {
				return
			}
			i++
		}
	case verb.is("alter"):
		for i = r.write(i); r.at(i).kind != end && !r.at(i).is(";"); i++ {
			if r.at(i).any("rename", "attach", "detach", "inherit", "exchange", "trigger", "rule") {
				r.Dynamic = true // other tables, or other effects than those of the schema
			}
		}
	default:
		r.write(i)
	}
}

// reads takes the names in a list of tables for those of tables that are read.
func (r *routine) reads(i int) {
	for _, name := range r.tables(i) {
		r.Reads = addName(r.Reads, name)
	}
}

// tables returns the names in a list of tables with joins, of FROM or of MySQL's UPDATE, which begins
// at i. What stands in a query inside it is left to the FROM of that query.
func (r *routine) tables(i int) []Name {
	var names []Name
	lists := []bool{true} // by open parenthesis: whether what is in it is a list of tables
	expect := true        // a name here is one of a table
	for ; ; i++ {
		t := r.at(i)
		switch top := len(lists) - 1; {
		case t.kind == end, t.is(";"):
			return names
		case t.is("{"):
			i++ // ODBC's {OJ a LEFT JOIN b ON …}
			expect = true
		case t.is("("):
			list := expect && !r.at(i+1).any("select", "with", "values", "table")
			lists = append(lists, list)
			expect = list
		case t.is(")"):
			if top == 0 {
				return names
			}
			lists = lists[:top]
			expect = false
		case !lists[top]:
		case t.any(",", "straight_join"), t.is("join") && !r.at(i-1).is("for"), // USE INDEX FOR JOIN
			t.is("using") && !r.at(i+1).is("("):
			expect = true
		case expect && r.dialect == Postgres && t.any("only", "lateral"):
		case expect && r.dialect == MySQL && t.is("lateral") && r.at(i+1).is("("):
		case expect && (t.isName() || r.dialect == SQLite && t.kind == str):
			name, after, ok := r.name(i)
			if ok && !(r.at(after).is("(") && r.dialect != MySQL) {
				names = addName(names, name)
			}
			if ok {
				i = after - 1
			}
			expect = false
		case top == 0 && r.endsTables(i):
			return names
		default:
			expect = false
		}
	}
}

// endsTables reports whether the word at i ends a list of tables. It is none that may be a name there.
func (r *routine) endsTables(i int) bool {
	t, prev, next := r.at(i), r.at(i-1), r.at(i+1)
	switch {
	case t.any("where", "set", "having", "limit", "union", "except", "intersect", "into", "then"):
		return true
	case t.any("group", "order"):
		return !prev.is("for") // USE INDEX FOR ORDER BY
	case t.is("for"):
		return next.any("update", "share", "no", "key") // not FOR SYSTEM_TIME
	case t.is("on"):
		return next.any("conflict", "duplicate")
	case t.is("returning"):
		return !next.any(",", "set", "on", "where", "using", "join", "left", "right", "inner", "cross", "natural", "straight_join")
	}
	return false
}
