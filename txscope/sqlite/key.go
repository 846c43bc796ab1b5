package sqlite

import (
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/alkey-go/alkey/txscope/internal/rowid"
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

// addRow adds the row with the key, in all the spellings that it can have.
func (s *session) addRow(t *table, key []any) {
	var ok bool
	if s.ids, ok = rowid.Append(s.ids[:0], t.name, key...); !ok {
		s.rec.Sweep(t.all, whyKeySpelling)
		return
	}
	for _, id := range s.ids {
		s.rec.Add(id)
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
