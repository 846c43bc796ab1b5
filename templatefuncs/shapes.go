package templatefuncs

import (
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// shape is a type of data. Values of several types can have one text in a key and come out differently: 1 and
// "1" in a script, a template.HTML and a string, two models of one row. So the type is part of a fragment's
// key, and so are those of what stands in interfaces inside.
type shape struct {
	typ    reflect.Type // nil: there is no data
	digest string       // of what the type is, as describe has it
	varies bool         // there are interfaces inside
}

// noShape is of no data.
var noShape = &shape{}

// fits reports, where that is quickly said, whether s is the shape of v.
func (s *shape) fits(v reflect.Value) bool {
	return v.IsValid() && v.Kind() != reflect.Interface && v.Type() == s.typ
}

// shapes are those that a Set was given.
type shapes struct{ known sync.Map } // *shape by reflect.Type

// of returns the shape of data.
func (s *shapes) of(v reflect.Value) *shape {
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() {
		return noShape
	}
	return s.ofType(v.Type())
}

func (s *shapes) ofType(t reflect.Type) *shape {
	if known, ok := s.known.Load(t); ok {
		return known.(*shape)
	}
	var b strings.Builder
	describe(&b, t, make(map[reflect.Type]bool))
	sum := sha256.Sum256([]byte(b.String()))
	known, _ := s.known.LoadOrStore(t, &shape{
		typ:    t,
		digest: string(sum[:]),
		varies: varies(t, make(map[reflect.Type]bool)),
	})
	return known.(*shape)
}

// describe writes what a type is, the same in every process. Its name would not do: types that are declared
// in two functions can have one name, and a string in the one can be a template.HTML in the other.
func describe(b *strings.Builder, t reflect.Type, seen map[reflect.Type]bool) {
	fmt.Fprintf(b, "%q.%q %v ", t.PkgPath(), t.Name(), t.Kind())
	if seen[t] {
		return
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		describe(b, t.Elem(), seen)
	case reflect.Array:
		fmt.Fprintf(b, "%d ", t.Len())
		describe(b, t.Elem(), seen)
	case reflect.Map:
		describe(b, t.Key(), seen)
		describe(b, t.Elem(), seen)
	case reflect.Struct:
		fmt.Fprintf(b, "%d ", t.NumField())
		for i := range t.NumField() {
			f := t.Field(i)
			fmt.Fprintf(b, "%q %t ", f.Name, f.Anonymous)
			describe(b, f.Type, seen)
		}
	default:
		fmt.Fprintf(b, "%q ", t.String())
	}
}

// varies reports whether values of one type can have other types inside.
func varies(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] || isWhole(t) {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return varies(t.Elem(), seen)
	case reflect.Map:
		return varies(t.Key(), seen) || varies(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if varies(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}

var (
	marshalerType = reflect.TypeFor[encoding.TextMarshaler]()
	stringerType  = reflect.TypeFor[fmt.Stringer]()
)

// isWhole reports whether keys do not look into values of the type: models, and what has a method for its
// text.
func isWhole(t reflect.Type) bool {
	if t.Kind() == reflect.Interface {
		return false
	}
	p := t
	if t.Kind() != reflect.Pointer {
		p = reflect.PointerTo(t)
	}
	_, table := p.MethodByName("TableName")
	_, row := p.MethodByName("AlkeyID")
	return table || row || p.Implements(marshalerType) || p.Implements(stringerType)
}

// inside returns a text for the types that stand in interfaces inside v, from which no key can have been
// made if it has no end.
func (s *shapes) inside(v reflect.Value) string {
	var b strings.Builder
	s.appendTypes(&b, v, 0)
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:8])
}

// maxNesting is how deep arguments of keys can be.
const maxNesting = 100

func (s *shapes) appendTypes(b *strings.Builder, v reflect.Value, depth int) {
	if !v.IsValid() || depth > maxNesting || isWhole(v.Type()) {
		return
	}
	switch v.Kind() {
	case reflect.Interface:
		if v = v.Elem(); v.IsValid() {
			b.WriteString(s.ofType(v.Type()).digest)
		}
		b.WriteByte(';')
		s.appendTypes(b, v, depth+1)
	case reflect.Pointer:
		s.appendTypes(b, v.Elem(), depth+1)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			s.appendTypes(b, v.Index(i), depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			s.appendTypes(b, v.Field(i), depth+1)
		}
	case reflect.Map:
		// In the order of keys, as far as they are equal in every process.
		var entries []string
		for it := v.MapRange(); it.Next(); {
			var entry strings.Builder
			key := it.Key()
			if key.Kind() == reflect.Interface {
				key = key.Elem()
			}
			if k := key.Kind(); k == reflect.String || k > reflect.Invalid && k <= reflect.Complex128 {
				fmt.Fprintf(&entry, "%v:", key)
			}
			s.appendTypes(&entry, it.Key(), depth+1)
			s.appendTypes(&entry, it.Value(), depth+1)
			entries = append(entries, entry.String())
		}
		slices.Sort(entries)
		for _, entry := range entries {
			b.WriteString(entry)
		}
	}
}
