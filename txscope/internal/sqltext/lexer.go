package sqltext

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// token is one word, name, literal, placeholder or sign of a text.
type token struct {
	kind tokenKind
	span Span
	// text is: of a word, the word in lower case; of a quoted name, "" (it is no keyword); of a sign,
	// the sign; of a text, what it says if it is plain.
	text string
	// name is what a word or a quoted name means as an identifier.
	name string
	// number is the ordinal of a placeholder.
	number int
	plain  bool // of a string: without escapes but doubled quotes, so text is what it says
}

type tokenKind uint8

const (
	end         tokenKind = iota // of the text
	word                         // a keyword or a name without quotes
	quoted                       // a quoted name
	str                          // a string, of whatever kind
	number                       // a number, without a sign
	placeholder                  // $1, ?, :name
	variable                     // @x, @@x
	sign                         // a single byte of punctuation, or :: or :=
)

// is reports whether the token is that keyword or that sign.
func (t *token) is(text string) bool {
	return (t.kind == word || t.kind == sign) && t.text == text
}

// isName reports whether the token can be a name.
func (t *token) isName() bool { return t.kind == word || t.kind == quoted }

// mode is a way in which a text can be read where the server's settings decide.
type mode struct {
	ansiQuotes   bool // MySQL: "x" is a name, not a string
	rawBackslash bool // MySQL: NO_BACKSLASH_ESCAPES; PostgreSQL: standard_conforming_strings, the default
	versionCode  bool // MySQL: /*!99999 x */ and /*M! x */ are code, not comments
}

// lexer splits a text into tokens. A text of which it cannot make sense to the end, such as one with a
// string that does not end, is torn.
type lexer struct {
	dialect Dialect
	mode    mode
	text    string
	at      int
	tokens  []token
	params  int // placeholders without a number so far
	code    int // open /*! comments that are read as code
	torn    bool

	// What was met that other modes read differently.
	sawQuotes, sawBackslash, sawVersion bool
	sawCode                             bool // a comment that is code
}

// lex reads the whole text. The last token is always end.
func lex(d Dialect, m mode, text string) *lexer {
	l := &lexer{dialect: d, mode: m, text: text, tokens: make([]token, 0, 8+len(text)/5)}
	for l.next() {
	}
	if l.code > 0 {
		l.torn = true
	}
	l.tokens = append(l.tokens, token{kind: end, span: Span{len(text), len(text)}})
	return l
}

// peek returns the byte n after the current one, 0 beyond the end.
func (l *lexer) peek(n int) byte {
	if l.at+n < len(l.text) {
		return l.text[l.at+n]
	}
	return 0
}

func (l *lexer) add(kind tokenKind, from int, text, name string) *token {
	l.tokens = append(l.tokens, token{kind: kind, span: Span{from, l.at}, text: text, name: name})
	return &l.tokens[len(l.tokens)-1]
}

// next reads one token, or skips what is none. It is false at the end.
func (l *lexer) next() bool {
	if l.at >= len(l.text) {
		return false
	}
	c := l.text[l.at]
	switch {
	case isSpace(c):
		l.at++
	case c == '-' && l.peek(1) == '-' && (l.dialect != MySQL || l.at+2 >= len(l.text) || l.peek(2) <= ' ' || l.peek(2) == 0x7f):
		l.line()
	case c == '#' && l.dialect == MySQL:
		l.line()
	case c == '/' && l.peek(1) == '*':
		l.comment()
	case c == '*' && l.peek(1) == '/' && l.code > 0:
		l.code--
		l.at += 2
	case c == '\'':
		l.str('\'', l.backslashes(false))
	case c == '"':
		l.doubleQuoted()
	case c == '`' && l.dialect != Postgres:
		l.quotedName('`', '`')
	case c == '[' && l.dialect == SQLite:
		l.bracketed()
	case c == '$' && l.dialect == Postgres:
		l.dollar()
	case c == '$' && l.dialect == SQLite && isWord(l.peek(1)):
		l.named()
	case c == '?' && l.dialect != Postgres:
		l.question()
	case c == ':':
		l.colon()
	case c == '@':
		l.variable()
	case l.dialect == MySQL && isWord(c) && l.afterPoint():
		l.word() // whatever it begins with
	case c >= '0' && c <= '9', c == '.' && isDigit(l.peek(1)) && !l.afterName():
		l.number()
	case isWordStart(c, l.dialect):
		l.word()
	default:
		l.at++
		l.add(sign, l.at-1, l.text[l.at-1:l.at], "")
	}
	return true
}

func isSpace(c byte) bool {
	return c == ' ' || c >= '\t' && c <= '\r'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isWord(c byte) bool {
	return isLetter(c) || isDigit(c) || c == '_' || c == '$' || c >= utf8.RuneSelf
}

func isWordStart(c byte, d Dialect) bool {
	return isLetter(c) || c == '_' || c >= utf8.RuneSelf || c == '$' && d == MySQL
}

// afterName reports whether a name stands just before, so that a point divides names.
func (l *lexer) afterName() bool {
	if n := len(l.tokens); n > 0 {
		t := &l.tokens[n-1]
		return t.isName() && t.span.To == l.at
	}
	return false
}

// afterPoint reports whether a name and a point stand just before.
func (l *lexer) afterPoint() bool {
	n := len(l.tokens)
	return n > 1 && l.tokens[n-1].is(".") && l.tokens[n-2].isName()
}

// line skips a comment to the end of the line.
func (l *lexer) line() {
	for l.at < len(l.text) && l.text[l.at] != '\n' && (l.dialect != Postgres || l.text[l.at] != '\r') {
		l.at++
	}
}

// comment skips /* … */. MySQL's /*! … */ and MariaDB's /*M! … */ are code, for some versions only if
// they begin with a number.
func (l *lexer) comment() {
	if l.dialect == MySQL {
		skip := 0
		switch {
		case l.peek(2) == '!':
			skip = 3
		case (l.peek(2) == 'M' || l.peek(2) == 'm') && l.peek(3) == '!':
			skip = 4
		}
		if skip > 0 {
			l.sawCode = true
			version := skip
			for version < skip+6 && isDigit(l.peek(version)) {
				version++
			}
			if version-skip < 5 {
				version = skip
			}
			conditional := version > skip || skip == 4 // MySQL takes /*M! for a comment
			l.sawVersion = l.sawVersion || conditional
			if l.mode.versionCode || !conditional {
				l.at += version
				l.code++
				return
			}
		}
	}
	nests := l.dialect == Postgres
	if l.dialect == MySQL {
		// MySQL nests comments in those that it skips for their version.
		nests = l.peek(2) == '!' || l.peek(3) == '!' && l.peek(2)|0x20 == 'm'
	}
	l.at += 2
	for depth := 1; l.at < len(l.text); {
		switch {
		case l.text[l.at] == '*' && l.peek(1) == '/':
			l.at += 2
			if depth--; depth == 0 {
				return
			}
		case l.text[l.at] == '/' && l.peek(1) == '*' && nests:
			l.at += 2
			depth++
		default:
			l.at++
		}
	}
	l.torn = l.torn || l.dialect != SQLite // SQLite lets a comment end with the text
}

// backslashes reports whether a backslash escapes in a string of the text. e says that it is one of
// PostgreSQL's E'…'.
func (l *lexer) backslashes(e bool) bool {
	switch l.dialect {
	case Postgres:
		return e
	case MySQL:
		return !l.mode.rawBackslash
	}
	return false
}

// str reads a string in quotes, which begins at l.at, or before it with a prefix.
func (l *lexer) str(quote byte, backslashes bool) { l.strFrom(l.at, quote, backslashes) }

func (l *lexer) strFrom(from int, quote byte, backslashes bool) {
	l.at++
	begin, plain, doubled := l.at, true, false
	for l.at < len(l.text) {
		switch c := l.text[l.at]; {
		case c == '\\' && (backslashes || l.dialect == MySQL):
			l.sawBackslash = true
			plain = false
			l.at++
			if backslashes {
				l.at++
			}
		case c == quote && l.peek(1) == quote:
			doubled = true
			l.at += 2
		case c == quote && l.continued():
			plain = false
		case c == quote:
			text := l.text[begin:l.at]
			l.at++
			t := l.add(str, from, "", "")
			if t.plain = plain; plain && doubled {
				text = strings.ReplaceAll(text, string([]byte{quote, quote}), string(quote))
			}
			if plain {
				t.text = text
			}
			return
		default:
			l.at++
		}
	}
	l.at = len(l.text)
	l.torn = true
}

// continued reports whether PostgreSQL goes on with the string whose closing quote is at l.at: another
// quote follows, on a line of its own. Then it moves on to what follows that.
func (l *lexer) continued() bool {
	if l.dialect != Postgres {
		return false
	}
	newline := false
	for at := l.at + 1; at < len(l.text); at++ {
		switch c := l.text[at]; {
		case c == '\n' || c == '\r':
			newline = true
		case isSpace(c):
		case c == '-' && strings.HasPrefix(l.text[at:], "--"):
			for at+1 < len(l.text) && l.text[at+1] != '\n' && l.text[at+1] != '\r' {
				at++
			}
		case c == '\'' && newline:
			l.at = at + 1
			return true
		default:
			return false
		}
	}
	return false
}

// doubleQuoted reads "…", which is a name, or for MySQL a string unless ANSI_QUOTES is set.
func (l *lexer) doubleQuoted() {
	if l.dialect == MySQL {
		l.sawQuotes = true
		if !l.mode.ansiQuotes {
			l.str('"', l.backslashes(false))
			return
		}
	}
	l.quotedName('"', '"')
}

// quotedName reads a name in quotes, which are doubled inside it.
func (l *lexer) quotedName(open, closing byte) {
	from := l.at
	l.at++
	begin, doubled := l.at, false
	for l.at < len(l.text) {
		if l.text[l.at] != closing {
			l.at++
			continue
		}
		if l.peek(1) == closing {
			doubled = true
			l.at += 2
			continue
		}
		name := l.text[begin:l.at]
		l.at++
		if doubled {
			name = strings.ReplaceAll(name, string([]byte{closing, closing}), string(closing))
		}
		l.add(quoted, from, "", l.truncate(name))
		return
	}
	l.torn = true
}

// bracketed reads SQLite's [name].
func (l *lexer) bracketed() {
	from := l.at
	for l.at < len(l.text) && l.text[l.at] != ']' {
		l.at++
	}
	if l.at >= len(l.text) {
		l.torn = true
		return
	}
	l.at++
	l.add(quoted, from, "", l.text[from+1:l.at-1])
}

// maxName is how many bytes of a name PostgreSQL keeps.
const maxName = 63

// truncate cuts a name as PostgreSQL does, between characters.
func (l *lexer) truncate(name string) string {
	if l.dialect != Postgres || len(name) <= maxName {
		return name
	}
	cut := maxName
	for cut > 0 && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return name[:cut]
}

// dollar reads PostgreSQL's $1, or a string in $tag$ … $tag$.
func (l *lexer) dollar() {
	from := l.at
	if isDigit(l.peek(1)) {
		l.at++
		for l.at < len(l.text) && isDigit(l.text[l.at]) {
			l.at++
		}
		t := l.add(placeholder, from, "", "")
		n, err := strconv.Atoi(l.text[from+1 : l.at])
		if err != nil {
			l.torn = true
		}
		t.number = n
		return
	}
	tag := 1
	for c := l.peek(tag); isLetter(c) || c == '_' || c >= utf8.RuneSelf || tag > 1 && isDigit(c); c = l.peek(tag) {
		tag++
	}
	if l.peek(tag) != '$' {
		l.at++
		l.add(sign, from, "$", "")
		return
	}
	delimiter := l.text[from : from+tag+1]
	l.at += len(delimiter)
	length := strings.Index(l.text[l.at:], delimiter)
	if length < 0 {
		l.at = len(l.text)
		l.torn = true
		return
	}
	body := l.text[l.at : l.at+length]
	l.at += length + len(delimiter)
	t := l.add(str, from, body, "")
	t.plain = true
}

// question reads ? and SQLite's ?7.
func (l *lexer) question() {
	from := l.at
	l.at++
	if l.dialect == SQLite && isDigit(l.peek(0)) {
		for l.at < len(l.text) && isDigit(l.text[l.at]) {
			l.at++
		}
		n, err := strconv.Atoi(l.text[from+1 : l.at])
		if err != nil {
			l.torn = true
		}
		l.params = max(l.params, n)
		l.add(placeholder, from, "", "").number = n
		return
	}
	l.params++
	l.add(placeholder, from, "", "").number = l.params
}

// named reads SQLite's :name, @name and $name, whose ordinal is not reckoned.
func (l *lexer) named() {
	from := l.at
	l.at++
	for l.at < len(l.text) && isWord(l.text[l.at]) {
		l.at++
	}
	l.add(placeholder, from, "", "")
}

// colon reads ::, :=, SQLite's :name, or a colon.
func (l *lexer) colon() {
	from := l.at
	switch {
	case l.peek(1) == ':' && l.dialect == Postgres, l.peek(1) == '=':
		l.at += 2
	case l.dialect == SQLite && isWord(l.peek(1)):
		l.named()
		return
	default:
		l.at++
	}
	l.add(sign, from, l.text[from:l.at], "")
}

// variable reads MySQL's @x, @@x and @'x', and SQLite's placeholder @x. Elsewhere @ is a sign.
func (l *lexer) variable() {
	from := l.at
	switch {
	case l.dialect == SQLite && isWord(l.peek(1)):
		l.named()
		return
	case l.dialect != MySQL:
		l.at++
		l.add(sign, from, "@", "")
		return
	}
	for l.peek(0) == '@' {
		l.at++
	}
	switch c := l.peek(0); c {
	case '\'', '"', '`':
		tokens, sawQuotes := len(l.tokens), l.sawQuotes
		if c == '`' {
			l.quotedName('`', '`')
		} else {
			l.str(c, l.backslashes(false))
		}
		l.tokens, l.sawQuotes = l.tokens[:tokens], sawQuotes
	default:
		for l.at < len(l.text) && (isWord(l.text[l.at]) || l.text[l.at] == '.') {
			l.at++
		}
	}
	l.add(variable, from, "", "")
}

// number reads a number without a sign.
func (l *lexer) number() {
	if l.dialect == MySQL {
		l.mysqlNumber()
		return
	}
	from := l.at
	for l.at < len(l.text) {
		c := l.text[l.at]
		switch {
		case isDigit(c), isLetter(c), c == '_':
		case c == '.' && l.onlyDigits(from):
		case (c == '+' || c == '-') && l.exponent(from):
		default:
			goto done
		}
		l.at++
	}
done:
	text := l.text[from:l.at]
	// 1OR 2 is a number and a keyword to PostgreSQL before 15.
	l.torn = l.torn || l.dialect == Postgres && !wellFormed(text)
	l.add(number, from, text, "")
}

// mysqlNumber reads a number as MySQL does: letters after digits make a name of them, as in 1st, but a
// number with a point or an exponent ends with its last digit, as in 1e5WHERE.
func (l *lexer) mysqlNumber() {
	from := l.at
	digits := func() {
		for isDigit(l.peek(0)) {
			l.at++
		}
	}
	exponent := func() bool {
		n := 1
		if c := l.peek(1); c == '+' || c == '-' {
			n = 2
		}
		if l.peek(0)|0x20 != 'e' || !isDigit(l.peek(n)) {
			return false
		}
		l.at += n
		digits()
		return true
	}
	digits()
	switch {
	case l.peek(0) == '.':
		l.at++
		digits()
		exponent()
	case !exponent():
		for isWord(l.peek(0)) {
			l.at++
		}
		if text := l.text[from:l.at]; !numeric(text) {
			l.add(word, from, lower(text), text)
			return
		}
	}
	l.add(number, from, l.text[from:l.at], "")
}

// wellFormed reports whether PostgreSQL takes all of a word that begins with a digit for a number.
func wellFormed(s string) bool {
	s = strings.ReplaceAll(s, "_", "")
	if len(s) > 2 && s[0] == '0' && strings.ContainsRune("xXoObB", rune(s[1])) {
		_, err := strconv.ParseUint(s, 0, 64)
		return err == nil || errors.Is(err, strconv.ErrRange)
	}
	return numeric(s)
}

// onlyDigits reports whether what was read since from are digits: a point makes a fraction of them.
func (l *lexer) onlyDigits(from int) bool {
	for i := from; i < l.at; i++ {
		if !isDigit(l.text[i]) {
			return false
		}
	}
	return true
}

// exponent reports whether a sign belongs to the number: 1e-5.
func (l *lexer) exponent(from int) bool {
	if l.at-from < 2 || !isDigit(l.peek(1)) {
		return false
	}
	e := l.text[l.at-1]
	if e != 'e' && e != 'E' || !isDigit(l.text[l.at-2]) && l.text[l.at-2] != '.' {
		return false
	}
	return !(l.text[from] == '0' && l.at-from > 1 && (l.text[from+1] == 'x' || l.text[from+1] == 'X'))
}

// numeric reports whether a word that begins with a digit is a number.
func numeric(s string) bool {
	if len(s) > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'b') {
		for _, c := range []byte(s[2:]) {
			if !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'f') {
				return false
			}
		}
		return true
	}
	i := 0
	for i < len(s) && (isDigit(s[i]) || s[i] == '.') {
		i++
	}
	if i == len(s) {
		return true
	}
	if s[i] != 'e' && s[i] != 'E' {
		return false
	}
	i++
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		i++
	}
	digits := i
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return i == len(s) && i > digits
}

// word reads a keyword or a name, and the strings that begin with a letter: E'…', N'…', U&'…'.
func (l *lexer) word() {
	from := l.at
	for l.at < len(l.text) && isWord(l.text[l.at]) {
		l.at++
	}
	text := l.text[from:l.at]
	next := l.peek(0)
	if l.dialect == Postgres {
		switch {
		case next == '\'' && len(text) == 1 && strings.ContainsAny(text, "eE"):
			l.strFrom(from, '\'', true)
			return
		case next == '\'' && len(text) == 1 && strings.ContainsAny(text, "bBxXnN"):
			l.strFrom(from, '\'', false)
			if n := len(l.tokens); n > 0 {
				l.tokens[n-1].plain = false
			}
			return
		case next == '&' && len(text) == 1 && strings.ContainsAny(text, "uU") && (l.peek(1) == '\'' || l.peek(1) == '"'):
			l.unicode(from)
			return
		}
	}
	if l.dialect != Postgres && next == '\'' && len(text) == 1 && strings.ContainsAny(text, "bBxXnN") {
		l.strFrom(from, '\'', l.backslashes(false))
		if n := len(l.tokens); n > 0 {
			l.tokens[n-1].plain = false
		}
		return
	}
	low := lower(text)
	name := text
	if l.dialect == Postgres {
		name = l.truncate(low)
	}
	l.add(word, from, low, name)
}

// unicode reads U&'…' and U&"…". What escapes in the name mean is not worked out.
func (l *lexer) unicode(from int) {
	l.at++
	if l.text[l.at] == '\'' {
		l.strFrom(from, '\'', false)
		if n := len(l.tokens); n > 0 {
			l.tokens[n-1].plain = false
		}
		return
	}
	before := len(l.tokens)
	l.quotedName('"', '"')
	if n := len(l.tokens); n > before { // else the name does not end
		t := &l.tokens[n-1]
		t.span.From = from
		if strings.Contains(t.name, `\`) || strings.Contains(strings.ToLower(l.text), "uescape") {
			l.torn = true
		}
	}
}

// lower folds ASCII letters, and makes a copy only if there is something to fold.
func lower(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
