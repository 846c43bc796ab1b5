package sqltext

// Token is a word, name, literal, placeholder or sign of a text.
type Token struct {
	Kind TokenKind
	Span Span
	// Text is a word in lower case, a name in quotes as it means, or a sign; "" of all else.
	Text string
	// Number is the ordinal of a placeholder.
	Number int
}

// TokenKind is a kind of Token.
type TokenKind uint8

// The kinds.
const (
	Sign        TokenKind = iota // a byte of punctuation, or :: or :=
	Word                         // a keyword, or a name without quotes
	Quoted                       // a name in quotes; MySQL's "x" is a Literal
	Literal                      // a string or a number
	Placeholder                  // $1, ?, :name
	Variable                     // @x, @@x
)

// Is reports whether the token is that word or that sign.
func (t Token) Is(text string) bool { return (t.Kind == Word || t.Kind == Sign) && t.Text == text }

// Tokens splits a text, or a part of one, without its comments and spaces. It is false for a text of
// which it cannot make sense to the end, such as one with a string that does not end: then it gives what
// there was before. Of the modes that a server can be in it reads the text in the default one only.
func Tokens(d Dialect, text string) (list []Token, whole bool) {
	l := lex(d, mode{}, text)
	list = make([]Token, 0, len(l.tokens)-1)
	for _, t := range l.tokens[:len(l.tokens)-1] {
		out := Token{Kind: kinds[t.kind], Span: t.span, Number: t.number}
		switch t.kind {
		case word, sign:
			out.Text = t.text
		case quoted:
			out.Text = t.name
		}
		list = append(list, out)
	}
	return list, !l.torn
}

// kinds are those of Token, by those of the lexer.
var kinds = [...]TokenKind{
	word: Word, quoted: Quoted, str: Literal, number: Literal, placeholder: Placeholder, variable: Variable, sign: Sign,
}

// Words returns the words and names among a text's tokens in order, whatever stands between them.
func Words(d Dialect, text string) []string {
	list, _ := Tokens(d, text)
	var words []string
	for _, t := range list {
		if t.Kind == Word || t.Kind == Quoted {
			words = append(words, t.Text)
		}
	}
	return words
}

// Arguments counts how often a text has each placeholder, by ordinal.
func Arguments(d Dialect, text string) map[int]int {
	list, _ := Tokens(d, text)
	times := make(map[int]int)
	for _, t := range list {
		if t.Kind == Placeholder {
			times[t.Number]++
		}
	}
	return times
}
