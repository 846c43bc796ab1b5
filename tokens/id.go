package tokens

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ID names what can change: a row ("alkey:users#1"), a table ("alkey:users#*") or everything
// ("alkey:*#*"). Its fields hold the encoded parts as they stand in the identifier's text, so
// that two IDs are the same identifier exactly when they are ==. Make one with Row, Table,
// ParseID or Identify; the zero ID is no identifier, and using it is an error.
//
// Letters, digits and "_.-" stand for themselves. Every other byte of a table's name or of a key is
// percent-encoded, so that no key can look like "*" or like two parts; an empty part is "~". A table or
// a row that takes more than 512 bytes so is replaced by its digest, "%sha256-" and 64 hexadecimal
// digits: an identifier has no more than 1,031 bytes.
type ID struct {
	Table string // folded to lower case; "*" for everything
	Row   string // "*" for the table; the parts of a composite key are joined by ","
}

// Scheme begins the text of every identifier.
const Scheme = "alkey:"

const (
	all   = "*" // as a row: the table; as a table: everything
	sweep = "!" // as a row: all rows of the table at once; internal to this package
	empty = "~" // as a part of a row: the empty text
)

// Global is everything. As an argument of a key it stands for any change anywhere; as an argument
// of a write it changes all there is.
var Global = ID{Table: all, Row: all}

// ErrMalformed is returned for text that begins like an identifier and is none, for an ID that was
// put together by hand and is none, and for plain text where only an identifier makes sense.
var ErrMalformed = errors.New("alkey: malformed identifier")

// String returns the identifier's text, as in "alkey:users#1".
func (id ID) String() string { return Scheme + id.Table + "#" + id.Row }

// AppendTo appends the identifier's text to b.
func (id ID) AppendTo(b []byte) []byte {
	b = append(b, Scheme...)
	b = append(b, id.Table...)
	b = append(b, '#')
	return append(b, id.Row...)
}

// MarshalText returns the identifier's text. The error wraps ErrMalformed if id is none.
func (id ID) MarshalText() ([]byte, error) {
	if f := id.check(); f != nil {
		return nil, f.plain()
	}
	return id.AppendTo(nil), nil
}

// UnmarshalText is ParseID.
func (id *ID) UnmarshalText(b []byte) error {
	parsed, err := ParseID(string(b))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// writeTo writes what AppendTo appends.
func (id ID) writeTo(b *strings.Builder) {
	b.WriteString(Scheme)
	b.WriteString(id.Table)
	b.WriteByte('#')
	b.WriteString(id.Row)
}

// textLen is the length of the identifier's text.
func (id ID) textLen() int { return len(Scheme) + len(id.Table) + 1 + len(id.Row) }

// IsZero reports whether id is the zero ID, which names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// IsTable reports whether id names a whole table.
func (id ID) IsTable() bool { return id.Row == all && id.Table != all }

// IsSweep reports whether id is the internal identifier of all rows of a table at once, or of all
// rows of all tables. Only backends meet these.
func (id ID) IsSweep() bool { return id.Row == sweep }

// DependsOn reports whether a value made from id can be affected by the change: change is a row,
// a table (meaning all its rows) or Global.
func (id ID) DependsOn(change ID) bool {
	if id == Global || change == Global {
		return true
	}
	return id.Table == change.Table && (id.Row == all || change.Row == all || id.Row == change.Row)
}

var sweepAll = ID{Table: all, Row: sweep}

// appendDependencies appends the records that a reader of the argument id must look at.
func appendDependencies(dst []ID, id ID) []ID {
	switch {
	case id == Global:
		return append(dst, Global, sweepAll)
	case id.Row == all:
		return append(dst, id, sweepAll)
	default:
		return append(dst, id, ID{id.Table, sweep}, sweepAll)
	}
}

// appendAffected appends the records that a write of id changes; a table means all its rows.
func appendAffected(dst []ID, id ID) []ID {
	switch {
	case id == Global:
		return append(dst, sweepAll, Global)
	case id.Row == all:
		return append(dst, ID{id.Table, sweep}, id, Global)
	default:
		return append(dst, id, ID{id.Table, all}, Global)
	}
}

// Row identifies one row of a table by its primary key; several values make a composite key, none
// makes the table. A key that has no stable text, and an empty table name, give the zero ID.
//
// What counts is the value that the database holds, because that is what a write is seen by: a
// driver.Valuer is asked first, numbers, strings and []byte are taken as such even if their type
// has a String method, and other types give their encoding.TextMarshaler or fmt.Stringer text.
// Pointers stand for what they point to; nil and NULL have no stable text. A bool is 1 or 0, as in
// databases that have no such type, and a time is in UTC. 7 and "7" are the same key; 0 and "" are
// keys like any other.
func Row(table string, key ...any) ID {
	id := Table(table)
	if len(key) == 0 || id.IsZero() {
		return id
	}
	row := ""
	for i, part := range key {
		k, f := keyOf(part)
		if f != nil || k.null {
			return ID{}
		}
		if i > 0 {
			row += ","
		}
		row += encodeKey(k.text)
	}
	id.Row = shorten(row)
	return id
}

// Table identifies a table. As an argument of a write it means all its rows. An empty name gives
// the zero ID.
func Table(name string) ID {
	if name == "" {
		return ID{}
	}
	return ID{Table: encodeTable(name), Row: all}
}

// ParseID reads an identifier's text. Parts are brought to their canonical form, so that equal
// identifiers are == after parsing. The error wraps ErrMalformed.
func ParseID(s string) (ID, error) {
	id, why := parse(s)
	if why != "" {
		return ID{}, fmt.Errorf("%w: %s: %s", ErrMalformed, quote(s), why)
	}
	return id, nil
}

func looksLikeID(s string) bool { return strings.HasPrefix(s, Scheme) }

// parse is ParseID with the bare reason, which is empty for an identifier.
func parse(s string) (id ID, why string) {
	if !looksLikeID(s) {
		return ID{}, `it does not begin with "alkey:"`
	}
	table, row, found := strings.Cut(s[len(Scheme):], "#")
	if !found {
		return ID{}, `"#" and a row are missing; "#*" stands for the whole table`
	}
	return canonical(table, row)
}

// canonical brings the parts of an identifier that somebody else has written to their one form.
func canonical(table, row string) (id ID, why string) {
	switch {
	case table == "":
		return ID{}, `the table before "#" is missing`
	case row == "":
		return ID{}, `the row after "#" is missing; "#*" stands for the whole table`
	case row == sweep:
		return ID{}, `"#!" is internal; "#*" stands for the whole table`
	case table == all && row != all:
		return ID{}, `"*" as a table goes with "#*" only`
	case table == all:
		return Global, ""
	}
	if table, why = canonicalTable(table); why != "" {
		return ID{}, why
	}
	if row != all {
		if row, why = canonicalRow(row); why != "" {
			return ID{}, why
		}
	}
	return ID{Table: table, Row: row}, ""
}

// check finds the fault in an ID that may have been put together by hand.
func (id ID) check() *fault {
	if id.Table != "" && id.Row != "" && max(len(id.Table), len(id.Row)) <= maxPart && unreserved.all(id.Table, upper) && unreserved.all(id.Row, 0) {
		return nil
	}
	if id.IsZero() {
		return &fault{kind: ErrMalformed, why: "the zero ID names nothing; was the table's name empty, or the key nil?"}
	}
	same, why := canonical(id.Table, id.Row)
	if why == "" && same == id {
		return nil
	}
	if why == "" {
		why = "it is not in canonical form"
	}
	return &fault{kind: ErrMalformed, why: quote(id.String()) + ": " + why + "; make IDs with tokens.Row, tokens.Table or tokens.ParseID"}
}

func encodeTable(name string) string { return shorten(encode(strings.ToLower(name))) }

func encodeKey(part string) string {
	if part == "" {
		return empty
	}
	return encode(part)
}

// classes says of every byte what it may be in a key.
var classes = func() (t [256]class) {
	for c := range len(t) {
		switch {
		case 'A' <= c && c <= 'Z':
			t[c] = unreserved | upper
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '.', c == '-':
			t[c] = unreserved
		case c < 0x20, c >= 0x7F, c == '/', c == '%':
			t[c] = suspect
		case strings.IndexByte(",:{}[]", byte(c)) >= 0:
			t[c] = punctuation
		}
	}
	return t
}()

type class uint8

const (
	unreserved  class = 1 << iota // stands for itself in an identifier
	upper                         // is another letter in a table's name
	suspect                       // in text: must be encoded, or the rune that it is part of may have to be
	punctuation                   // in text: has a meaning inside lists, maps and structs
)

// all reports whether every byte of s is of the class want and none of the class not.
func (want class) all(s string, not class) bool {
	for i := range len(s) {
		if classes[s[i]]&(want|not) != want {
			return false
		}
	}
	return true
}

// encode percent-encodes what does not stand for itself. It allocates only where there is such.
func encode(s string) string {
	if unreserved.all(s, 0) {
		return s
	}
	b := make([]byte, 0, len(s)+16)
	for i := range len(s) {
		if c := s[i]; classes[c]&unreserved != 0 {
			b = append(b, c)
		} else {
			b = appendEscape(b, c)
		}
	}
	return string(b)
}

func appendEscape(b []byte, c byte) []byte {
	const hex = "0123456789ABCDEF"
	return append(b, '%', hex[c>>4], hex[c&15])
}

// decode undoes encode for a part that somebody else has written.
func decode(part string) (raw, why string) {
	if part == "" {
		return "", `a part is empty; "~" stands for the empty text`
	}
	if unreserved.all(part, 0) {
		return part, ""
	}
	for i := 0; i < len(part); i++ {
		switch c := part[i]; {
		case classes[c]&unreserved != 0:
		case c != '%':
			r, size := utf8.DecodeRuneInString(part[i:])
			if r == utf8.RuneError && size == 1 {
				return "", "it is not valid UTF-8"
			}
			return "", fmt.Sprintf("%q must be percent-encoded; tokens.Row does that", r)
		case i+2 >= len(part) || !isHex(part[i+1]) || !isHex(part[i+2]):
			return "", fmt.Sprintf(`%s is no escape: two hexadecimal digits follow "%%"`, quote(part[i:min(i+3, len(part))]))
		default:
			i += 2
		}
	}
	b := make([]byte, 0, len(part))
	for i := 0; i < len(part); i++ {
		c := part[i]
		if c == '%' {
			c = unhex(part[i+1])<<4 | unhex(part[i+2])
			i += 2
		}
		b = append(b, c)
	}
	return string(b), ""
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// unhex needs a hexadecimal digit.
func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

func canonicalTable(table string) (same, why string) {
	if isDigest(table) {
		return table, ""
	}
	raw, why := decode(table)
	if why != "" {
		return "", why
	}
	return encodeTable(raw), ""
}

func canonicalRow(row string) (same, why string) {
	if isDigest(row) {
		return row, ""
	}
	changed := false
	for part := range strings.SplitSeq(row, ",") {
		if part == empty {
			continue
		}
		raw, why := decode(part)
		if why != "" {
			return "", why
		}
		changed = changed || encode(raw) != part
	}
	if !changed {
		return shorten(row), ""
	}
	parts := strings.Split(row, ",")
	for i, part := range parts {
		if part != empty {
			raw, _ := decode(part)
			parts[i] = encode(raw)
		}
	}
	return shorten(strings.Join(parts, ",")), ""
}

// quote quotes the beginning of a text for an error message: texts can come from outside, and be
// of any length.
func quote(s string) string {
	const most = 64
	if len(s) <= most {
		return strconv.Quote(s)
	}
	return strconv.Quote(s[:most]) + "..."
}
