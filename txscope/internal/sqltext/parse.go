package sqltext

import (
	"reflect"
	"slices"
	"strings"
)

// Parse reads a text. It always has an answer: what is not understood is Unknown, and may write
// anywhere.
func Parse(d Dialect, text string) *Text {
	first := lex(d, mode{versionCode: true}, text)
	t := parseTokens(first)
	if d != MySQL || !first.sawQuotes && !first.sawBackslash && !first.sawVersion {
		return t
	}
	for _, m := range otherModes(first) {
		t = merge(t, parseTokens(lex(d, m, text)))
	}
	return t
}

// otherModes are those in which the text may read differently. What one mode hides from the lexer,
// such as a quote within a comment, another can show, so each is tried with all the others.
func otherModes(l *lexer) []mode {
	var modes []mode
	for i := 1; i < 8; i++ {
		m := mode{ansiQuotes: i&1 != 0, rawBackslash: i&2 != 0, versionCode: i&4 == 0}
		modes = append(modes, m)
	}
	if !l.sawVersion {
		modes = slices.DeleteFunc(modes, func(m mode) bool { return !m.versionCode })
	}
	return modes
}

const whyModes = "it reads differently by the server's modes"

// merge makes of two readings one that says all that either says.
func merge(a, b *Text) *Text {
	if len(a.Statements) != len(b.Statements) {
		s := Statement{Verb: Unknown, Anywhere: true, Why: whyModes, Control: OtherControl, Alone: true}
		for _, t := range []*Text{a, b} {
			for i := range t.Statements {
				o := &t.Statements[i]
				s.Span = Span{min(s.Span.From, o.Span.From), max(s.Span.To, o.Span.To)}
				s.take(o)
			}
		}
		return &Text{Statements: []Statement{s}}
	}
	m := &Text{Statements: slices.Clone(a.Statements)}
	for i := range m.Statements {
		s, o := &m.Statements[i], &b.Statements[i]
		if s.Verb != o.Verb {
			s.Verb, s.Anywhere, s.Why = Unknown, true, whyModes
		}
		if s.Control != o.Control || s.Savepoint != o.Savepoint {
			s.Control, s.Savepoint = OtherControl, ""
		}
		s.DML = agree(s.DML, o.DML)
		if s.Body != o.Body {
			s.Body = ""
		}
		s.take(o)
	}
	return m
}

// agree returns what two readings of a DML have in common; nil if that is too little. Only values may
// differ: then they are whatever they are.
func agree(a, b *DML) *DML {
	if a == nil || b == nil {
		return nil
	}
	c := *a
	if len(a.Assigned) != len(b.Assigned) || len(a.Values) != len(b.Values) || len(a.Keys) != len(b.Keys) {
		return nil
	}
	c.Assigned = slices.Clone(a.Assigned)
	for i := range c.Assigned {
		c.Assigned[i].Value = common(a.Assigned[i].Value, b.Assigned[i].Value)
	}
	c.Values = slices.Clone(a.Values)
	for i := range c.Values {
		if len(a.Values[i]) != len(b.Values[i]) {
			return nil
		}
		c.Values[i] = slices.Clone(a.Values[i])
		for j := range c.Values[i] {
			c.Values[i][j] = common(a.Values[i][j], b.Values[i][j])
		}
	}
	// What chooses the rows is all or nothing.
	rest := *b
	rest.Assigned, rest.Values = c.Assigned, c.Values
	if !reflect.DeepEqual(&c, &rest) {
		return nil
	}
	for i := range c.Assigned {
		if a.Assigned[i].Column != b.Assigned[i].Column {
			return nil
		}
	}
	return &c
}

func common(a, b Operand) Operand {
	if a == b {
		return a
	}
	return Operand{Span: Span{min(a.Span.From, b.Span.From), max(a.Span.To, b.Span.To)}}
}

// take adds what o writes, calls and reads.
func (s *Statement) take(o *Statement) {
	s.Writes = union(s.Writes, o.Writes)
	s.Calls = union(s.Calls, o.Calls)
	s.Reads = union(s.Reads, o.Reads)
	if o.Anywhere && !s.Anywhere {
		s.Anywhere, s.Why = true, o.Why
	}
	s.Alone = s.Alone || o.Alone
}

func union(a, b []Name) []Name {
	a = slices.Clip(a)
	for _, n := range b {
		if !slices.Contains(a, n) {
			a = append(a, n)
		}
	}
	return a
}

// parseTokens divides the tokens into statements.
func parseTokens(l *lexer) *Text {
	t := new(Text)
	if l.torn {
		t.Statements = []Statement{{Verb: Unknown, Span: Span{0, len(l.text)}, Anywhere: true, Why: "a text that does not end", Control: OtherControl, Alone: true}}
		return t
	}
	tokens := l.tokens[:len(l.tokens)-1]
	for len(tokens) > 0 {
		n, whole := length(l.dialect, tokens)
		if n > 0 {
			p := &parser{dialect: l.dialect, text: l.text, tokens: tokens[:n]}
			s := p.statement()
			s.Span = Span{tokens[0].span.From, tokens[n-1].span.To}
			if !whole {
				s.anywhere("a routine with statements of its own")
				s.DML = nil
			}
			if l.sawCode && s.DML != nil && (cut(l.text, s.DML.Where) || cut(l.text, s.DML.Target)) {
				s.DML = nil
			}
			t.Statements = append(t.Statements, s)
		}
		tokens = tokens[min(n+1, len(tokens)):]
	}
	return t
}

// cut reports whether a part of the text may hold the begin or the end of a comment that is code, without
// the other: alone it would read differently.
func cut(text string, s Span) bool {
	part := s.Of(text)
	return strings.Contains(part, "*/") || strings.Contains(part, "/*")
}

// length returns how many tokens the first statement has. Where a routine's body makes that hard to
// tell it is all of them, and whole is false.
func length(d Dialect, tokens []token) (n int, whole bool) {
	inside := ruleEnd(d, tokens)
	for i := range tokens {
		if !tokens[i].is(";") || i < inside {
			continue
		}
		if hasBody(d, tokens[:i]) {
			if i == len(tokens)-1 {
				return i, true
			}
			return len(tokens), false
		}
		return i, true
	}
	return len(tokens), true
}

// ruleEnd returns where the parentheses end in which CREATE RULE has statements; 0 for all else.
func ruleEnd(d Dialect, tokens []token) int {
	if d != Postgres || !tokens[0].is("create") {
		return 0
	}
	at := 1
	if len(tokens) > 3 && tokens[1].is("or") && tokens[2].is("replace") {
		at = 3
	}
	if len(tokens) <= at || !tokens[at].is("rule") {
		return 0
	}
	var n nesting
	for i := range tokens {
		n.step(tokens, i)
		if !n.outside() {
			continue
		}
		if tokens[i].is(";") {
			return 0
		}
		if i > 0 && tokens[i].is(")") && (i+1 == len(tokens) || tokens[i+1].is(";")) {
			return i
		}
	}
	return 0
}

// hasBody reports whether tokens begin a statement that can hold others: CREATE TRIGGER … BEGIN, BEGIN
// NOT ATOMIC.
func hasBody(d Dialect, tokens []token) bool {
	if len(tokens) == 0 {
		return false
	}
	if tokens[0].is("begin") {
		return len(tokens) > 1 && tokens[1].is("not")
	}
	if !tokens[0].is("create") && !tokens[0].is("alter") {
		return d == MySQL && (tokens[0].is("if") || tokens[0].is("while") || tokens[0].is("loop") || tokens[0].is("for") || tokens[0].is("repeat") || tokens[0].is("case"))
	}
	routine := false
	for i := range tokens {
		switch t := &tokens[i]; {
		case t.kind != word:
		case slices.Contains(routineWords, t.text):
			routine = true
		case routine && slices.Contains(bodyWords, t.text):
			return true
		}
	}
	return false
}

var (
	routineWords = []string{"trigger", "procedure", "function", "event", "package"}
	bodyWords    = []string{"begin", "if", "case", "loop", "while", "repeat", "for", "do", "atomic"}
)

// parser reads one statement.
type parser struct {
	dialect Dialect
	text    string
	tokens  []token
	at      int

	confused bool // it is not certain where a clause begins
}

var nothing = token{kind: end}

// tok returns the token n after the current one.
func (p *parser) tok(n int) *token {
	if p.at+n < len(p.tokens) {
		return &p.tokens[p.at+n]
	}
	return &nothing
}

// move passes over n tokens.
func (p *parser) move(n int) { p.at = min(p.at+n, len(p.tokens)) }

// accept moves on if the tokens that follow are these keywords and signs.
func (p *parser) accept(texts ...string) bool {
	for i, text := range texts {
		if !p.tok(i).is(text) {
			return false
		}
	}
	p.move(len(texts))
	return true
}

// skip moves over any of these.
func (p *parser) skip(texts ...string) {
	for slices.ContainsFunc(texts, p.tok(0).is) {
		p.move(1)
	}
}

func (p *parser) done() bool { return p.at >= len(p.tokens) }

// name reads a name with its qualifier. ok is false if there is none.
func (p *parser) name() (n Name, ok bool) {
	if !p.tok(0).isName() {
		return Name{}, false
	}
	n.Name = p.tok(0).name
	p.move(1)
	for p.tok(0).is(".") && p.tok(1).isName() {
		n.Qualifier, n.Name = n.Name, p.tok(1).name
		p.move(2)
	}
	return n, true
}

// group moves over a group in parentheses and returns what is in it, as a range of tokens.
func (p *parser) group() (from, to int, ok bool) {
	if !p.tok(0).is("(") {
		return 0, 0, false
	}
	from = p.at + 1
	closing := p.closing(p.at)
	if closing < 0 {
		return 0, 0, false
	}
	p.at = closing + 1
	return from, closing, true
}

// closing returns where the group ends that opens at, or -1.
func (p *parser) closing(at int) int {
	depth := 0
	for i := at; i < len(p.tokens); i++ {
		switch {
		case p.tokens[i].is("("):
			depth++
		case p.tokens[i].is(")"):
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// find returns where one of the words stands next, outside of parentheses and of CASE … END; where the
// statement ends if nowhere.
func (p *parser) find(words ...string) int {
	var n nesting
	for i := p.at; i < len(p.tokens); i++ {
		t := &p.tokens[i]
		if n.step(p.tokens, i); n.outside() && t.kind == word && slices.Contains(words, t.text) && !p.inside(i) {
			return i
		}
	}
	// A CASE that does not end is a name, and may have hidden what was looked for.
	p.confused = p.confused || !n.outside()
	return len(p.tokens)
}

// nesting is how deep a token stands in parentheses, brackets and CASE … END.
type nesting struct {
	open  []bool // true for CASE
	below int    // groups that were closed and not opened, or not as it seemed
}

// step takes in the token at i.
func (n *nesting) step(tokens []token, i int) {
	switch t := &tokens[i]; {
	case t.is("("), t.is("["):
		n.open = append(n.open, false)
	case t.is(")"), t.is("]"):
		// A CASE that is still open here was a name.
		for len(n.open) > 0 && n.open[len(n.open)-1] {
			n.open = n.open[:len(n.open)-1]
		}
		if len(n.open) == 0 {
			n.below++
		} else {
			n.open = n.open[:len(n.open)-1]
		}
	case t.is("case"):
		if (i == 0 || !tokens[i-1].is(".") && !label(tokens, i)) && !(i+1 < len(tokens) && tokens[i+1].is(".")) {
			n.open = append(n.open, true)
		}
	case t.is("when"), t.is("then"), t.is("else"):
		// An END before it was a name.
		if (len(n.open) == 0 || !n.open[len(n.open)-1]) && i > 0 && !tokens[i-1].is(".") && !label(tokens, i) {
			n.below++
		}
	case t.is("end"):
		if len(n.open) > 0 && n.open[len(n.open)-1] && !tokens[i-1].is(".") && !label(tokens, i) {
			n.open = n.open[:len(n.open)-1]
		}
	}
}

// label reports whether AS stands before the token at i, so that it names something.
func label(tokens []token, i int) bool {
	return i > 0 && tokens[i-1].is("as") && !(i > 1 && tokens[i-2].is(".")) && !label(tokens, i-1)
}

// outside reports whether the token is in no group. What opens one is inside, what closes it is not.
func (n *nesting) outside() bool { return len(n.open) == 0 && n.below == 0 }

// inside reports whether the word at i is part of an expression, or of a name, where it would else
// begin a clause.
func (p *parser) inside(i int) bool {
	if i == 0 {
		return false
	}
	before := &p.tokens[i-1]
	switch {
	case before.is("."), i+1 < len(p.tokens) && p.tokens[i+1].is("."):
		return true
	case label(p.tokens, i) && !p.tokens[i].is("on") && !p.tokens[i].is("execute"): // CREATE RULE r AS ON, CREATE TABLE t AS EXECUTE
		return true
	case p.tokens[i].is("returning") && p.dialect != Postgres:
		// MySQL lets it be a column: then an operator or a comma stands before it.
		return before.kind == sign && !before.is(")") && !before.is("]") || before.kind == word && slices.Contains(operators, before.text)
	case p.tokens[i].is("from"):
		return before.is("distinct") && i >= 2 && (p.tokens[i-2].is("is") || p.tokens[i-2].is("not"))
	}
	return false
}

// operators are words that an operand follows.
var operators = []string{
	"where", "set", "on", "by", "and", "or", "xor", "not", "div", "mod", "like", "rlike", "regexp", "in", "is", "between", "binary", "collate", "interval", "escape",
	"case", "when", "then", "else", "using", "limit", "of", "update", "from", "join", "straight_join",
}

// span is the part of the text that a range of tokens covers.
func (p *parser) span(from, to int) Span {
	if from >= to {
		return Span{}
	}
	return Span{p.tokens[from].span.From, p.tokens[to-1].span.To}
}

func (s *Statement) anywhere(why string) {
	if !s.Anywhere {
		s.Anywhere, s.Why = true, why
	}
}

func (s *Statement) write(n Name) {
	if !slices.Contains(s.Writes, n) {
		s.Writes = append(s.Writes, n)
	}
}

// sub reads a range of tokens as a statement of its own.
func (p *parser) sub(from, to int) Statement {
	inner := &parser{dialect: p.dialect, text: p.text, tokens: p.tokens[from:to]}
	return inner.statement()
}
