package sqlite

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/alkey-go/alkey/tokens"
)

// valueOf is sqlite3_preupdate_old or sqlite3_preupdate_new.
type valueOf func(tls *libc.TLS, db uintptr, column int32, value uintptr) int32

// addKey adds the row with the old or the new key, or sweeps its table.
func (s *session) addKey(db uintptr, t *table, of valueOf) {
	var buf [4]any
	key := buf[:0]
	for _, column := range t.key {
		v := s.value(db, column.index, of)
		if !column.exact.of(v) {
			s.rec.Sweep(t.all, whyKeyValue)
			return
		}
		key = append(key, v)
	}
	s.addRow(t, key)
}

// maxSpellings bounds in how many spellings one row is added.
const maxSpellings = 16

// addRow adds the row with the key, in all the spellings that it can have.
func (s *session) addRow(t *table, key []any) {
	spellings := 1
	for _, v := range key {
		if plainSpelling(v) != "" {
			spellings *= 2
		}
		if spellings > maxSpellings {
			s.rec.Sweep(t.all, whyKeySpelling)
			return
		}
	}
	s.addSpellings(t, key, 0)
}

// addSpellings adds the row with the key, and with every choice of plain spellings from one column on.
func (s *session) addSpellings(t *table, key []any, from int) {
	s.rec.Add(tokens.Row(t.name, key...))
	for i := from; i < len(key); i++ {
		if plain := plainSpelling(key[i]); plain != "" {
			other := slices.Clone(key)
			other[i] = plain
			s.addSpellings(t, other, i+1)
		}
	}
}

// float is a value that has no exact text.
type float struct{}

// value reads one column of the row that is about to change: an int64, a string, a []byte, a float or
// nil for NULL. The driver's own accessors read all columns before it too, and end text at a NUL.
func (s *session) value(db uintptr, column int, of valueOf) any {
	const size = int(unsafe.Sizeof(uintptr(0)))
	p := s.tls.Alloc(size)
	defer s.tls.Free(size)
	if of(s.tls, db, int32(column), p) != sqlite3.SQLITE_OK {
		return float{}
	}
	value := **(**uintptr)(unsafe.Pointer(&p))
	switch sqlite3.Xsqlite3_value_type(s.tls, value) {
	case sqlite3.SQLITE_INTEGER:
		return sqlite3.Xsqlite3_value_int64(s.tls, value)
	case sqlite3.SQLITE_TEXT:
		at := sqlite3.Xsqlite3_value_text(s.tls, value)
		if at == 0 {
			return float{} // no memory
		}
		return string(bytesAt(at, sqlite3.Xsqlite3_value_bytes(s.tls, value)))
	case sqlite3.SQLITE_BLOB:
		at := sqlite3.Xsqlite3_value_blob(s.tls, value)
		return append([]byte{}, bytesAt(at, sqlite3.Xsqlite3_value_bytes(s.tls, value))...)
	case sqlite3.SQLITE_NULL:
		return nil
	}
	return float{}
}

// of reports whether a Go value that is read from a column has the text of v, which the database
// holds.
func (e exactness) of(v any) bool {
	switch v := v.(type) {
	case int64:
		return e == always || v == 0 || v == 1
	case string, []byte:
		return e == always
	}
	return false
}

// bytesAt views memory of SQLite's.
func bytesAt(at uintptr, n int32) []byte {
	if at == 0 || n <= 0 {
		return nil
	}
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&at)), int(n))
}

// plainSpelling gives the text that a Go model has for a key whose spelling in the database is
// another: an int field that was read from "007" is 7. It is empty if there is no such.
func plainSpelling(v any) string {
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
			return formatUUID(v)
		}
		return plainSpelling(string(v))
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

// plainUUID takes the forms that UUID packages read.
func plainUUID(s string) string {
	digits := s
	switch len(s) {
	case 32:
	case 36, 38, 45:
		digits = strings.TrimPrefix(digits, "urn:uuid:")
		digits = strings.TrimSuffix(strings.TrimPrefix(digits, "{"), "}")
		digits = strings.ReplaceAll(digits, "-", "")
	default:
		return ""
	}
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != 16 {
		return ""
	}
	return formatUUID(b)
}

func formatUUID(b []byte) string {
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
