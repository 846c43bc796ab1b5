package sqltext

import "strings"

// isNew reports whether a token is NEW, a trigger's new row.
func (r *routine) isNew(t *token) bool {
	return t.is("new") || t.kind == quoted && strings.EqualFold(t.name, "new")
}

// assign notes that the column of NEW that is named at i may be assigned.
func (r *routine) assign(i int) {
	name := r.at(i).name
	if r.dialect != Postgres {
		name = strings.ToLower(name)
	}
	r.Assigns = addColumn(r.Assigns, name)
}

// useOfNew looks at what is done with the NEW at i. Targets of INTO and arguments of CALL are seen to
// where those words stand.
func (r *routine) useOfNew(i int) {
	prev := r.at(i - 1)
	if !r.at(i + 1).is(".") {
		if !r.readsRow(i) {
			r.Whole = true
		}
		return
	}
	if !r.at(i + 2).isName() {
		r.Whole = r.Whole || !r.at(i+2).is("*")
		return
	}
	_, j, _ := r.name(i)
	for r.at(j).is("[") || r.at(j).is(".") {
		if r.at(j).is("[") {
			j = r.closing(j)
		}
		j++
		if r.at(j).isName() {
			j++
		}
	}
	if r.at(j).is(":=") || r.at(j).is("=") && !insideExpression(prev) {
		r.assign(i + 2)
	}
}

// insideExpression reports whether what follows a token is a part of an expression, so that = compares.
func insideExpression(t *token) bool {
	return t.any("if", "elsif", "elseif", "and", "or", "xor", "not", "where", "on", "when", "while", "until",
		"case", "return", "select", "having", "between", "like", "in", "is", "from",
		"(", "=", "<", ">", "+", "-", "*", "/", "|", "%")
}

// readsRow reports whether the NEW at i, as a whole, is certainly only read: it is returned, is the
// argument of a function, or is compared.
func (r *routine) readsRow(i int) bool {
	prev, next := r.at(i-1), r.at(i+1)
	switch {
	case prev.is("return"):
		return r.dialect == Postgres && (next.is(";") || next.kind == end)
	case prev.any("(", ",") && next.any(",", ")"):
		return true
	case next.is("is"):
		return insideExpression(prev)
	case prev.is("from") && r.at(i-2).is("distinct"):
		return true
	case next.is("table"): // REFERENCING NEW TABLE AS
		return prev.is("referencing") || r.at(i-2).is("as")
	}
	return false
}

// targets reads the variables that follow INTO, or PL/pgSQL's FOR and FOREACH.
func (r *routine) targets(i int) {
	i = r.skip(i, "strict")
	for {
		if r.isNew(r.at(i)) {
			if r.at(i+1).is(".") && r.at(i+2).isName() {
				r.assign(i + 2)
			} else {
				r.Whole = true
			}
		}
		if r.at(i).kind == variable {
			i++
		} else {
			_, after, ok := r.name(i)
			if !ok {
				return
			}
			i = after
		}
		for r.at(i).is("[") {
			i = r.closing(i) + 1
		}
		if !r.at(i).is(",") {
			return
		}
		i++
	}
}

// arguments reads those of CALL, which can be assigned by the routine that is called.
func (r *routine) arguments(i int) {
	_, i, _ = r.name(i)
	if !r.at(i).is("(") {
		return
	}
	for last := r.closing(i); i < last; i++ {
		if !r.isNew(r.at(i)) || r.at(i-1).is(".") {
			continue
		}
		if r.at(i+1).is(".") && r.at(i+2).isName() {
			r.assign(i + 2)
		} else {
			r.Whole = true
		}
	}
}

// result reads what follows RETURN in PostgreSQL: a trigger's function gives the row with it.
func (r *routine) result(i int) {
	if r.dialect != Postgres || r.at(i).any("query", "next") {
		return
	}
	if r.at(i).is("coalesce") && r.at(i+1).is("(") && r.isNew(r.at(i+2)) &&
		r.at(i+3).is(",") && r.at(i+4).is("old") && r.at(i+5).is(")") {
		i += 5
	} else if t := r.at(i); !r.isNew(t) && !t.any("old", "null") {
		r.Whole = r.Whole || t.kind != end && !t.is(";")
		return
	}
	if t := r.at(i + 1); t.kind != end && !t.is(";") {
		r.Whole = true
	}
}

// call notes the name at i if it can be that of a function that is called.
func (r *routine) call(i int) {
	name, after, ok := r.name(i)
	if !ok || !r.at(after).is("(") || r.at(i-1).any("into", "references") {
		return
	}
	// These can be the names of no function.
	if after == i+1 && r.at(i).any("values", "in", "and", "or", "not", "when", "then", "else", "case", "exists", "any", "all", "some",
		"select", "from", "where", "on", "using", "as", "into", "distinct", "having", "union", "except", "intersect", "unique",
		"check", "table", "between") {
		return
	}
	r.Calls = addName(r.Calls, name)
}
