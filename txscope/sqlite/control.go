package sqlite

import (
	"strings"

	"github.com/alkey-go/alkey/txscope"
)

// control reads what a text does to transactions. What it takes for more than it is costs
// exactness only; it never takes it for less.
func control(query string) txscope.Control {
	s := scanner{text: query}
	word := s.word()
	switch {
	case mayControl(word):
	case strings.IndexByte(query, ';') < 0:
		return txscope.Control{}
	}
	var found txscope.Control
	statements := 0
	for s = (scanner{text: query}); ; {
		c, any := s.statement()
		if any {
			statements++
		}
		if c.Kind != txscope.KindNone {
			found = c
		}
		if found.Kind != txscope.KindNone && statements > 1 {
			return txscope.Control{Kind: txscope.KindMixed}
		}
		if s.end() {
			return found
		}
	}
}

// mayControl reports whether a statement that begins with word may be one of those looked for.
func mayControl(word string) bool {
	switch len(word) {
	case 3:
		return strings.EqualFold(word, "END")
	case 5:
		return strings.EqualFold(word, "BEGIN")
	case 6:
		return strings.EqualFold(word, "COMMIT")
	case 7:
		return strings.EqualFold(word, "RELEASE")
	case 8:
		return strings.EqualFold(word, "ROLLBACK")
	case 9:
		return strings.EqualFold(word, "SAVEPOINT")
	}
	return false
}

// scanner reads SQLite's tokens, as far as is needed to find where statements begin and end.
type scanner struct {
	text string
	pos  int
}

func (s *scanner) end() bool { return s.pos >= len(s.text) }

// space skips white space and comments.
func (s *scanner) space() {
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; {
		case c == ' ' || c >= '\t' && c <= '\r' && c != '\v':
			s.pos++
		case c == 0xEF && strings.HasPrefix(s.text[s.pos:], "\uFEFF"):
			s.pos += len("\uFEFF")
		case strings.HasPrefix(s.text[s.pos:], "--"):
			n := strings.IndexByte(s.text[s.pos:], '\n')
			if n < 0 {
				s.pos = len(s.text)
				return
			}
			s.pos += n + 1
		case strings.HasPrefix(s.text[s.pos:], "/*"):
			n := strings.Index(s.text[s.pos+2:], "*/")
			if n < 0 {
				s.pos = len(s.text)
				return
			}
			s.pos += n + 4
		default:
			return
		}
	}
}

// word reads a bare word. It is empty if something else is next, which stays.
func (s *scanner) word() string {
	s.space()
	from := s.pos
	for s.pos < len(s.text) && wordByte(s.text[s.pos]) {
		s.pos++
	}
	return s.text[from:s.pos]
}

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '$' || c >= 0x80
}

// statement reads to the end of a statement. any is false if there is none, but only the end of
// the text or a semicolon.
func (s *scanner) statement() (c txscope.Control, any bool) {
	for s.space(); !s.end() && s.text[s.pos] == ';'; s.space() {
		s.pos++
	}
	if s.end() {
		return c, false
	}
	switch word := s.word(); {
	case !mayControl(word):
	case strings.EqualFold(word, "BEGIN"):
		c.Kind = txscope.KindBegin
	case strings.EqualFold(word, "SAVEPOINT"):
		c = s.named(txscope.KindSavepoint)
	case strings.EqualFold(word, "RELEASE"):
		s.optional("SAVEPOINT")
		c = s.named(txscope.KindRelease)
	case strings.EqualFold(word, "ROLLBACK"):
		c.Kind = txscope.KindRollback
		named := s.optional("TRANSACTION")
		to := s.optional("TO")
		if named && !to {
			s.name() // of the transaction; it has no meaning
			to = s.optional("TO")
		}
		if to {
			s.optional("SAVEPOINT")
			c = s.named(txscope.KindRollbackTo)
		}
	default:
		c.Kind = txscope.KindCommit
	}
	s.skip()
	return c, true
}

// optional skips a keyword if it is next, and is not itself the name that must follow.
func (s *scanner) optional(keyword string) bool {
	before := s.pos
	if !strings.EqualFold(s.word(), keyword) {
		s.pos = before
		return false
	}
	after := s.pos
	if s.space(); s.end() || s.text[s.pos] == ';' {
		s.pos = before // SAVEPOINT is a name where nothing follows it
		return keyword == "TRANSACTION"
	}
	s.pos = after
	return true
}

// named reads the name of a savepoint. One that is not plain ASCII cannot be compared here as
// SQLite compares it.
func (s *scanner) named(kind txscope.Kind) txscope.Control {
	name, ok := s.name()
	if !ok {
		return txscope.Control{Kind: txscope.KindMixed}
	}
	return txscope.Control{Kind: kind, Name: name}
}

func (s *scanner) name() (string, bool) {
	s.space()
	if s.end() {
		return "", false
	}
	var name string
	switch c := s.text[s.pos]; c {
	case '"', '\'', '`':
		from := s.pos
		if !s.quoted(c) {
			return "", false
		}
		name = strings.ReplaceAll(s.text[from+1:s.pos-1], string([]byte{c, c}), string(c))
	case '[':
		n := strings.IndexByte(s.text[s.pos:], ']')
		if n < 0 {
			return "", false
		}
		name = s.text[s.pos+1 : s.pos+n]
		s.pos += n + 1
	default:
		name = s.word()
	}
	for i := range len(name) {
		if name[i] >= 0x80 {
			return "", false
		}
	}
	return name, name != ""
}

// quoted skips what is between two quotes; a doubled one stands for itself. It is false if the text
// ends before.
func (s *scanner) quoted(quote byte) bool {
	for s.pos++; s.pos < len(s.text); s.pos++ {
		if s.text[s.pos] != quote {
			continue
		}
		if s.pos+1 < len(s.text) && s.text[s.pos+1] == quote {
			s.pos++
			continue
		}
		s.pos++
		return true
	}
	return false
}

// skip goes past the semicolon that ends the statement.
func (s *scanner) skip() {
	for !s.end() {
		switch c := s.text[s.pos]; c {
		case ';':
			s.pos++
			return
		case '"', '\'', '`':
			s.quoted(c)
		case '[':
			n := strings.IndexByte(s.text[s.pos:], ']')
			if n < 0 {
				s.pos = len(s.text)
				return
			}
			s.pos += n + 1
		case '-', '/':
			before := s.pos
			if s.space(); s.pos == before {
				s.pos++
			}
		default:
			s.pos++
		}
	}
}
