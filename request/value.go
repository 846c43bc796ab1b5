package request

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"reflect"
	"runtime/debug"
	"strconv"
	"sync"

	"github.com/alkey-go/alkey/tokens"
)

// A stored value is a header and the payload:
//
//	4 bytes   the format
//	4 bytes   a checksum of all that follows
//	16 bytes  the mark: a digest of the application's version and the value's type
//	8 bytes   the stamp: the largest among the identifiers that the value depends on
//
// What does not agree in all of it with what is looked for is a miss.
const (
	format     = "akv1"
	markSize   = 16
	checksumAt = len(format)
	markAt     = checksumAt + 4
	stampAt    = markAt + markSize
	headerSize = stampAt + 8
)

// castagnoli is the checksum that processors compute by themselves.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal fills in the header before the payload of a value.
func seal(value []byte, mark *[markSize]byte, stamp tokens.Stamp) {
	copy(value, format)
	copy(value[markAt:], mark[:])
	binary.BigEndian.PutUint64(value[stampAt:], uint64(stamp))
	binary.BigEndian.PutUint32(value[checksumAt:], crc32.Checksum(value[markAt:], castagnoli))
}

// open returns the payload of a stored value with that mark and that stamp.
func open(value []byte, mark *[markSize]byte, stamp tokens.Stamp) (payload []byte, ok bool) {
	if len(value) < headerSize ||
		string(value[:len(format)]) != format ||
		[markSize]byte(value[markAt:stampAt]) != *mark ||
		binary.BigEndian.Uint64(value[stampAt:]) != uint64(stamp) ||
		binary.BigEndian.Uint32(value[checksumAt:]) != crc32.Checksum(value[markAt:], castagnoli) {
		return nil, false
	}
	return value[headerSize:], true
}

// encode makes the value to store. The error says what JSON cannot express.
func encode[T any](e *entry, v T) (value []byte, err error) {
	switch p := any(&v).(type) {
	case *string:
		value = make([]byte, headerSize, headerSize+len(*p))
		value = append(value, *p...)
	case *[]byte:
		value = make([]byte, headerSize, headerSize+len(*p))
		value = append(value, *p...)
	default:
		payload, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("alkey: a value of type %s cannot be stored: %w", reflect.TypeFor[T](), err)
		}
		value = append(make([]byte, headerSize, headerSize+len(payload)), payload...)
	}
	seal(value, e.mark, e.stamp)
	return value, nil
}

// decode returns a copy of what the payload says.
func decode[T any](payload []byte) (v T, err error) {
	switch p := any(&v).(type) {
	case *string:
		*p = string(payload)
	case *[]byte:
		*p = bytes.Clone(payload)
	default:
		return decodeJSON[T](payload)
	}
	return v, nil
}

// decodeJSON is apart from decode because its result is moved to the heap.
func decodeJSON[T any](payload []byte) (v T, err error) {
	if err := json.Unmarshal(payload, &v); err != nil {
		return v, fmt.Errorf("alkey: a stored %T cannot be decoded: %w", v, err)
	}
	return v, nil
}

func newMark(version string, t reflect.Type) *[markSize]byte {
	b := append([]byte(version), 0)
	sum := sha256.Sum256(appendType(b, t))
	return (*[markSize]byte)(sum[:markSize])
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
