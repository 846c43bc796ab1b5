package sqlite

import (
	"encoding/hex"
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
	var also string // another spelling, of a key with one column
	for _, column := range t.key {
		v, ok := s.value(db, column, of)
		if !ok {
			s.rec.Add(t.all)
			return
		}
		other := plainSpelling(v)
		if other != "" && len(t.key) > 1 {
			s.rec.Add(t.all)
			return
		}
		also = other
		key = append(key, v)
	}
	s.rec.Add(tokens.Row(t.name, key...))
	if also != "" {
		s.rec.Add(tokens.Row(t.name, also))
	}
}

// value reads one column of the row that is about to change. It is false for a value without exact
// text. The driver's own accessors read all columns before it too, and end text at a NUL.
func (s *session) value(db uintptr, column keyColumn, of valueOf) (v any, ok bool) {
	const size = int(unsafe.Sizeof(uintptr(0)))
	p := s.tls.Alloc(size)
	defer s.tls.Free(size)
	if of(s.tls, db, int32(column.index), p) != sqlite3.SQLITE_OK {
		return nil, false
	}
	value := **(**uintptr)(unsafe.Pointer(&p))
	switch kind := sqlite3.Xsqlite3_value_type(s.tls, value); {
	case kind == sqlite3.SQLITE_INTEGER:
		n := sqlite3.Xsqlite3_value_int64(s.tls, value)
		return n, column.exact == always || n == 0 || n == 1
	case column.exact != always:
		return nil, false
	case kind == sqlite3.SQLITE_TEXT:
		at := sqlite3.Xsqlite3_value_text(s.tls, value)
		return string(bytesAt(at, sqlite3.Xsqlite3_value_bytes(s.tls, value))), at != 0
	case kind == sqlite3.SQLITE_BLOB:
		at := sqlite3.Xsqlite3_value_blob(s.tls, value)
		return append([]byte{}, bytesAt(at, sqlite3.Xsqlite3_value_bytes(s.tls, value))...), true
	}
	return nil, false
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
