package request

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"github.com/alkey-go/alkey/tokens"
)

// A stored value is a header, the identifiers that it depends on beside those that its key names,
// and the payload:
//
//	4 bytes   the format
//	4 bytes   a checksum of all that follows
//	16 bytes  the mark: a digest of the application's version, the value's type and its codec
//	8 bytes   the stamp: the largest among all identifiers that the value depends on
//	1 byte    the kind: a value, or that there is none
//	varint    how many identifiers follow, each as its length and "table#row"
//	payload
//
// What does not agree in all of it with what is looked for is a miss.
const (
	format     = "akv2"
	markSize   = 16
	checksumAt = len(format)
	markAt     = checksumAt + 4
	stampAt    = markAt + markSize
	kindAt     = stampAt + 8
	headerSize = kindAt + 1
)

// mark tells which values can be decoded as a type. Those of one Kit are unique: they can be compared
// by their addresses.
type mark [markSize]byte

// The kinds of a stored value.
const (
	present byte = iota
	absent       // FetchMany's fill had none
)

// castagnoli is the checksum that processors compute by themselves.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealed makes a value to store, with room for a payload of that many bytes in one allocation.
func sealed(m *mark, stamp tokens.Stamp, kind byte, extras []tokens.ID, payload []byte) []byte {
	size := headerSize + binary.MaxVarintLen64 + len(payload)
	for _, id := range extras {
		size += binary.MaxVarintLen16 + len(id.Table) + 1 + len(id.Row)
	}
	value := make([]byte, kindAt, size)
	copy(value, format)
	copy(value[markAt:], m[:])
	binary.BigEndian.PutUint64(value[stampAt:], uint64(stamp))
	value = append(value, kind)
	value = binary.AppendUvarint(value, uint64(len(extras)))
	for _, id := range extras {
		value = binary.AppendUvarint(value, uint64(len(id.Table)+1+len(id.Row)))
		value = append(append(append(value, id.Table...), '#'), id.Row...)
	}
	value = append(value, payload...)
	binary.BigEndian.PutUint32(value[checksumAt:], crc32.Checksum(value[markAt:], castagnoli))
	return value
}

// opened is a stored value whose identifiers have not been read yet.
type opened struct {
	stamp   tokens.Stamp
	kind    byte
	count   int    // of the identifiers
	rest    []byte // identifiers and payload
	payload []byte // set by open if there are no identifiers, else by identifiers
}

// open reads the header of a stored value with that mark.
func open(value []byte, m *mark) (o opened, ok bool) {
	if len(value) <= headerSize || binary.BigEndian.Uint32(value[checksumAt:]) != crc32.Checksum(value[markAt:], castagnoli) {
		return opened{}, false
	}
	return openWhole(value, m)
}

// openWhole is open for a value of which no byte can be another than was stored: it has not left this
// process, or somebody else has looked.
func openWhole(value []byte, m *mark) (o opened, ok bool) {
	if len(value) <= headerSize ||
		string(value[:len(format)]) != format ||
		mark(value[markAt:stampAt]) != *m ||
		value[kindAt] > absent {
		return opened{}, false
	}
	n, size := binary.Uvarint(value[headerSize:])
	if size <= 0 || n > maxNamed {
		return opened{}, false
	}
	o = opened{
		stamp: tokens.Stamp(binary.BigEndian.Uint64(value[stampAt:])),
		kind:  value[kindAt],
		count: int(n),
		rest:  value[headerSize+size:],
	}
	if n == 0 {
		o.payload = o.rest
	}
	return o, true
}

// identifiers reads the identifiers and sets the payload.
func (o *opened) identifiers() (ids []tokens.ID, ok bool) {
	if o.count == 0 {
		return nil, true
	}
	b := o.rest
	ids = make([]tokens.ID, 0, min(o.count, len(b)))
	// One string for the parts of all: they live as long as each other.
	text := string(b[:o.span()])
	at := 0
	for range o.count {
		// The bounds are span's: text has what passes them.
		n, size := binary.Uvarint(b[at:])
		if size <= 0 || n > uint64(len(b)-at-size) {
			return nil, false
		}
		at += size
		table, row, found := strings.Cut(text[at:at+int(n)], "#")
		id := tokens.ID{Table: table, Row: row}
		if !found || table == "" || row == "" || id.IsSweep() {
			return nil, false
		}
		ids = append(ids, id)
		at += int(n)
	}
	o.payload = b[at:]
	return ids, true
}

// span is how many bytes the identifiers take, as far as they make sense.
func (o *opened) span() int {
	at := 0
	for range o.count {
		n, size := binary.Uvarint(o.rest[at:])
		if size <= 0 || n > uint64(len(o.rest)-at-size) {
			return at
		}
		at += size + int(n)
	}
	return at
}

// encode makes the payload of a value. The error says what the codec cannot express.
func encode[T any](c Codec, v *T) (payload []byte, err error) {
	switch p := any(v).(type) {
	case *string:
		return []byte(*p), nil
	case *[]byte:
		return *p, nil
	}
	payload, err = c.Marshal(*v)
	if err != nil {
		return nil, fmt.Errorf("alkey: a value of type %s cannot be stored: %w", reflect.TypeFor[T](), err)
	}
	return payload, nil
}

// decode returns a copy of what the payload says.
func decode[T any](c Codec, payload []byte) (v T, err error) {
	switch p := any(&v).(type) {
	case *string:
		*p = string(payload)
	case *[]byte:
		*p = append(make([]byte, 0, len(payload)), payload...)
	default:
		return decodeBy[T](c, payload)
	}
	return v, nil
}

// decodeHere is decode for what lies in this process, where nobody modifies it any more: a string is no
// copy.
func decodeHere[T any](c Codec, payload []byte) (v T, err error) {
	if p, ok := any(&v).(*string); ok {
		*p = unsafe.String(unsafe.SliceData(payload), len(payload))
		return v, nil
	}
	return decode[T](c, payload)
}

// decodeBy is apart from decode because its result is moved to the heap.
func decodeBy[T any](c Codec, payload []byte) (v T, err error) {
	if err := c.Unmarshal(payload, &v); err != nil {
		var none T
		return none, fmt.Errorf("alkey: a stored %T cannot be decoded: %w", v, err)
	}
	return v, nil
}

// marked names a mark: what it is a digest of, beside the application's version.
type marked struct {
	value reflect.Type
	codec reflect.Type
	extra string
}

func newMark(version string, of marked) *mark {
	b := append([]byte(version), 0)
	b = append(appendType(b, of.value), 0)
	b = append(appendType(b, of.codec), 0)
	b = append(b, of.extra...)
	sum := sha256.Sum256(b)
	return (*mark)(sum[:markSize])
}

// appendType appends a name of t that is t's alone in the application, as far as types have names:
// String leaves out all but the last part of an import path.
func appendType(b []byte, t reflect.Type) []byte {
	if t.Name() != "" {
		return append(append(append(b, t.PkgPath()...), '.'), t.Name()...)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return appendType(append(b, '*'), t.Elem())
	case reflect.Slice:
		return appendType(append(b, "[]"...), t.Elem())
	case reflect.Array:
		b = strconv.AppendInt(append(b, '['), int64(t.Len()), 10)
		return appendType(append(b, ']'), t.Elem())
	case reflect.Map:
		b = appendType(append(b, "map["...), t.Key())
		return appendType(append(b, ']'), t.Elem())
	case reflect.Struct:
		b = append(b, "struct{"...)
		for i := range t.NumField() {
			f := t.Field(i)
			b = append(append(b, f.Name...), ' ')
			b = appendType(b, f.Type)
			b = strconv.AppendQuote(append(b, ' '), string(f.Tag))
			b = append(b, ';')
		}
		return append(b, '}')
	default:
		return append(b, t.String()...)
	}
}

// executableDigest is the default version of the application: it is different after every build
// that differs. It is computed when it is needed first, which takes some milliseconds, and is the
// same for the life of the process.
var executableDigest = sync.OnceValue(func() string {
	if sum, err := digestExecutable(); err == nil {
		return sum
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			// Only of a clean work tree does the revision say all.
			if s.Key == "vcs.modified" && s.Value == "false" {
				return info.String()
			}
		}
	}
	// Two builds must not be taken for one: better every process for itself.
	return rand.Text()
})

func digestExecutable() (string, error) {
	// A deployment may have replaced the file since the process was started. Where there is a
	// /proc, it leads to the file that runs.
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		path, err := os.Executable()
		if err != nil {
			return "", err
		}
		if f, err = os.Open(path); err != nil {
			return "", err
		}
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return string(h.Sum(nil)), nil
}
