package templatefuncs

import (
	"bytes"
	"reflect"
	"testing"
	"text/template/parse"
)

// Two templates have the same digest if they are the same but for where in the file they stand, and only then.
func FuzzDigest(f *testing.F) {
	for _, pair := range [][2]string{
		{"a", "b"}, {"a<<.B>>c", "a<<.B>>c"}, {"a<<.B>>", "a<<  .B >>"}, {"<<.A.B>>", "<<(.A).B>>"}, {"<<\"x\">>", "<<`x`>>"},
		{"<<if .A>>x<<else>>y<<end>>", "<<if .A>>x<<end>>y"}, {"<<$x := 1>><<$x = 2>>", "<<$x := 1>><<$x := 2>>"},
		{"<<range .A>><<break>><<end>>", "<<range .A>><<continue>><<end>>"}, {"<<template \"a\" .>>", "<<template \"a\">>"},
		{"<<with .A>>1<<else with .B>>2<<end>>", "<<with .A>>1<<else>><<with .B>>2<<end>><<end>>"}, {"<<1>>", "<<0x1>>"}, {"<<- .A ->>", "<<.A>>"},
		{"<<f 1 2>>", "<<f (1 2)>>"}, {"<<.A | f>>", "<<f .A>>"}, {"<</* x */>>a", "a"},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		ta, tb := treeOf(a), treeOf(b)
		if ta == nil || tb == nil {
			return
		}
		ra, _ := read(ta)
		rb, _ := read(tb)
		if same := sameTree(reflect.ValueOf(ta.Root), reflect.ValueOf(tb.Root)); same != bytes.Equal(ra.own, rb.own) {
			t.Errorf("%q and %q: the same: %v", a, b, same)
		}
	})
}

func treeOf(text string) *parse.Tree {
	tree := parse.New("x")
	tree.Mode = parse.SkipFuncCheck
	if _, err := tree.Parse(text, "<<", ">>", make(map[string]*parse.Tree)); err != nil {
		return nil
	}
	return tree
}

// sameTree compares what was parsed field by field, without positions.
func sameTree(a, b reflect.Value) bool {
	if a.Kind() != b.Kind() || a.Type() != b.Type() {
		return false
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Interface:
		if a.Type() == reflect.TypeFor[*parse.Tree]() {
			return true
		}
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return sameTree(a.Elem(), b.Elem())
	case reflect.Struct:
		for i := range a.NumField() {
			field := a.Type().Field(i)
			if field.Name == "Pos" || field.Name == "Line" {
				continue
			}
			if !sameTree(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Slice:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !sameTree(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.String:
		return a.String() == b.String()
	case reflect.Bool:
		return a.Bool() == b.Bool()
	case reflect.Int, reflect.Int64:
		return a.Int() == b.Int()
	case reflect.Uint64, reflect.Uint8:
		return a.Uint() == b.Uint()
	case reflect.Float64:
		return a.Float() == b.Float()
	case reflect.Complex128:
		return a.Complex() == b.Complex()
	default:
		return false
	}
}
