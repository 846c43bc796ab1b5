// Package rowid makes the identifiers of rows from the values that a database holds in their primary
// keys.
package rowid

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/alkey-go/alkey/tokens"
)

// maxSpellings bounds how many identifiers one row can have.
const maxSpellings = 8

// Append appends the identifiers of a row to dst, and is false if there are too many or a value has no
// stable text. A row has one identifier for every spelling of its key that a Go model can have: what
// the database holds; the plain form of text that reads as an integer or a UUID, as a field of such a
// type has it; and the text of a UUID that is held in 16 bytes.
func Append(dst []tokens.ID, table string, key ...any) ([]tokens.ID, bool) {
	n := 1
	for _, v := range key {
		if Plain(v) == "" {
			continue
		}
		if n *= 2; n > maxSpellings {
			return dst, false
		}
	}
	if n == 1 {
		return appendRow(dst, table, key)
	}
	spelled := make([]any, len(key))
	for choice := range n {
		for i, v := range key {
			spelled[i] = v
			if plain := Plain(v); plain != "" {
				if choice&1 != 0 {
					spelled[i] = plain
				}
				choice >>= 1
			}
		}
		var ok bool
		if dst, ok = appendRow(dst, table, spelled); !ok {
			return dst, false
		}
	}
	return dst, true
}

func appendRow(dst []tokens.ID, table string, key []any) ([]tokens.ID, bool) {
	id := tokens.Row(table, key...)
	if id.IsZero() {
		return dst, false
	}
	return append(dst, id), true
}

// Plain gives the text that a Go model has for a key whose spelling in the database is another: an
// int field that was read from "007" is 7. It is empty if there is no such.
func Plain(v any) string {
	switch v := v.(type) {
	case string:
		if v == "" {
			return ""
		}
		if v[0] == '+' || v[0] == '-' || v[0] >= '0' && v[0] <= '9' {
			if plain := plainInteger(v); plain != "" {
				return different(plain, v)
			}
		}
		return different(plainUUID(v), v)
	case []byte:
		if len(v) == 16 {
			return FormatUUID([16]byte(v))
		}
		return Plain(string(v))
	}
	return ""
}

func different(plain, v string) string {
	if plain == v {
		return ""
	}
	return plain
}

func plainInteger(s string) string {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return strconv.FormatInt(n, 10)
	}
	if n, err := strconv.ParseUint(strings.TrimPrefix(s, "+"), 10, 64); err == nil {
		return strconv.FormatUint(n, 10)
	}
	return ""
}

func plainUUID(s string) string {
	if b, ok := ParseUUID(s); ok {
		return FormatUUID(b)
	}
	return ""
}

// ParseUUID reads a UUID in the forms that UUID packages read: 36 characters with hyphens, 32
// without, in braces, or as a URN, in upper or lower case.
func ParseUUID(s string) (id [16]byte, ok bool) {
	digits := s
	switch len(s) {
	case 32:
	case 36, 38, 45:
		if len(s) == 45 && strings.EqualFold(s[:9], "urn:uuid:") {
			digits = s[9:]
		}
		digits = strings.TrimSuffix(strings.TrimPrefix(digits, "{"), "}")
		digits = strings.ReplaceAll(digits, "-", "")
	default:
		return id, false
	}
	if len(digits) != 32 {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(digits))
	return id, err == nil
}

// FormatUUID writes a UUID in 36 characters, in lower case.
func FormatUUID(id [16]byte) string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
