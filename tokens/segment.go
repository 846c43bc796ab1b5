package tokens

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// Segment is one part of a key: an identifier whose token stands before it, or text.
type Segment struct {
	ID   ID     // the zero ID for text
	Text string // encoded: no "/", no control character
}

// ErrUnstable is returned for an argument that has no stable text: functions, channels, cycles, what
// is nested deeper than 100 levels, and what has a method for its text that fails.
var ErrUnstable = errors.New("alkey: argument has no stable text")

// Text marks s as text that is never read as an identifier. Use it for what comes from a user.
func Text(s string) any { return text(s) }

type text string

// AppendSegments appends the segments that args stand for, in order. What Identify takes becomes
// an identifier, a slice of such a count and its elements, and everything else text that is the
// same in every process:
//
//   - strings and numbers stand as they are: 1 and "1" are the same. "/", "%", control
//     characters and bytes that are not UTF-8 are percent-encoded;
//   - times are in UTC, and what has a MarshalText or String method gives its text by it;
//   - pointers stand for what they point to, lists, maps and structs for their contents, unexported
//     fields included, in a form that no text can take.
//
// A string that begins with "alkey:" must be an identifier, else the error wraps ErrMalformed; so
// does the error for an ID that is none. It wraps ErrModel for a model that cannot be identified,
// or that is inside another argument, where its changes would go unnoticed, and ErrUnstable for
// what has no stable text. It names the argument by its position, from 1, and its type. With an
// error nothing is appended.
func AppendSegments(dst []Segment, args ...any) ([]Segment, error) {
	n := len(dst)
	for i, arg := range args {
		var several reflect.Value
		var f *fault
		if dst, several, f = appendArgument(dst, arg); several.IsValid() {
			dst, f = appendSeveral(dst, several)
		}
		if f != nil {
			return dst[:n], f.in(fmt.Sprintf("argument %d (%T)", i+1, arg))
		}
	}
	return dst, nil
}

// isCount reports whether s only says how many segments a slice of models has.
func (s Segment) isCount() bool { return s.ID.IsZero() && strings.HasPrefix(s.Text, countMark) }

// What text cannot contain is a "%" that is not followed by two hexadecimal digits. These begin
// what is not text.
const (
	countMark = "%("
	listMark  = "%["
	mapMark   = "%{"
	nilMark   = "%nil"
	emptyMark = "%~" // the empty text inside a list or a map
)

// maxDepth bounds how deep lists, maps, structs and pointers are nested in an argument: what is
// deeper is a chain that grows with the data, and no part of a key.
const maxDepth = 100

// appendArgument appends what arg stands for. It appends nothing for a slice of models, which it
// returns: if it and appendSeveral called each other, dst would always be moved to the heap.
func appendArgument(dst []Segment, arg any) (all []Segment, several reflect.Value, f *fault) {
	switch a := arg.(type) {
	case nil:
		return append(dst, Segment{Text: nilMark}), several, nil
	case string:
		dst, f = appendString(dst, a)
		return dst, several, f
	case text:
		return append(dst, Segment{Text: escape(string(a))}), several, nil
	case int:
		return append(dst, Segment{Text: strconv.Itoa(a)}), several, nil
	case ID:
		dst, f = appendID(dst, a)
		return dst, several, f
	}
	v := reflect.ValueOf(arg)
	s := shapeOf(v.Type())
	v, ok := s.follow(v)
	for range maxPointers {
		// A pointer to an interface is followed as any other.
		if !ok || v.Kind() != reflect.Interface || v.IsNil() {
			break
		}
		v = v.Elem()
		arg, s = v.Interface(), shapeOf(v.Type())
		v, ok = s.follow(v)
	}
	if !ok {
		if s.role == isModel {
			return dst, several, &fault{kind: ErrModel, why: "it is nil; pass reflect.TypeFor of the model for its table"}
		}
		return append(dst, Segment{Text: nilMark}), several, nil
	}
	switch {
	case s.role == isModel:
		id, f := s.model.identify(arg, v)
		if f != nil {
			return dst, several, f
		}
		return append(dst, Segment{ID: id}), several, nil
	case s.role == isID:
		dst, f = appendID(dst, v.Interface().(ID))
		return dst, several, f
	case s.role == isType:
		dst, f = appendType(dst, arg.(reflect.Type))
		return dst, several, f
	case s.role == isText:
		return append(dst, Segment{Text: escape(v.String())}), several, nil
	case v.Kind() == reflect.Slice || v.Kind() == reflect.Array:
		found, f := s.namesSeveral(v)
		if f != nil {
			return dst, several, f
		}
		if found {
			return dst, v, nil
		}
	case v.Kind() == reflect.Interface && v.IsNil():
		return append(dst, Segment{Text: nilMark}), several, nil
	case v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer:
		return dst, several, &fault{kind: ErrUnstable, why: "it is a pointer to a pointer, and so on, without end"}
	}
	if t, ok, f := scalar(s, v); ok {
		if f != nil {
			return dst, several, f
		}
		dst, f = appendString(dst, t)
		return dst, several, f
	}
	var w writer
	if f := w.value(v); f != nil {
		return dst, several, f
	}
	return append(dst, Segment{Text: string(w.b)}), several, nil
}

func appendString(dst []Segment, s string) ([]Segment, *fault) {
	if !looksLikeID(s) {
		return append(dst, Segment{Text: escape(s)}), nil
	}
	id, why := parse(s)
	if why != "" {
		return dst, &fault{kind: ErrMalformed, why: quote(s) + ": " + why + "; text of a user goes in as tokens.Text"}
	}
	return append(dst, Segment{ID: id}), nil
}

func appendID(dst []Segment, id ID) ([]Segment, *fault) {
	if f := id.check(); f != nil {
		return dst, f
	}
	return append(dst, Segment{ID: id}), nil
}

func appendType(dst []Segment, t reflect.Type) ([]Segment, *fault) {
	s := shapeOf(t)
	if s.role != isModel {
		return dst, &fault{kind: ErrModel, why: fmt.Sprintf("type %s is no model; give it a method TableName() string", t)}
	}
	id, f := s.model.identifyType()
	if f != nil {
		return dst, f
	}
	return append(dst, Segment{ID: id}), nil
}

// namesSeveral reports whether the elements of v, a slice or array, all name something. Elements
// that do beside others that do not are a fault.
func (s *shape) namesSeveral(v reflect.Value) (bool, *fault) {
	if s.several {
		return true, nil
	}
	if k := s.base.Elem().Kind(); k != reflect.Interface && k != reflect.String {
		return false, nil
	}
	named, other := -1, -1
	for i := range v.Len() {
		if namesOne(v.Index(i)) {
			named = i
		} else {
			other = i
		}
	}
	if named >= 0 && other >= 0 {
		return false, &fault{kind: ErrModel, why: fmt.Sprintf("element %d names something that can change and element %d does not; pass the first kind as arguments of their own", named, other)}
	}
	return named >= 0, nil
}

func namesOne(v reflect.Value) bool {
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() {
		return false
	}
	s := shapeOf(v.Type())
	switch s.role {
	case isModel, isID, isType:
		return true
	case isPlain:
		v, ok := s.follow(v)
		return ok && v.Kind() == reflect.String && s.texter == noTexter && looksLikeID(v.String())
	default:
		return false
	}
}

// appendSeveral appends the count and the elements of v. Without the count, ([a], [b, c]) and
// ([a, b], [c]) would be one key.
func appendSeveral(dst []Segment, v reflect.Value) ([]Segment, *fault) {
	n := v.Len()
	dst = append(slices.Grow(dst, n+1), Segment{Text: countMark + strconv.Itoa(n) + ")"})
	var models *shape // of the elements, if they are pointers to one kind of model
	if t := v.Type().Elem(); t.Kind() == reflect.Pointer {
		if s := shapeOf(t); s.role == isModel && s.pointers == 1 {
			models = s
		}
	}
	for i := range n {
		e := v.Index(i)
		if models != nil && !e.IsNil() {
			id, f := models.model.identify(e.Interface(), e.Elem())
			if f != nil {
				f.why = fmt.Sprintf("element %d: %s", i, f.why)
				return dst, f
			}
			dst = append(dst, Segment{ID: id})
			continue
		}
		if e.Kind() == reflect.Struct && e.CanAddr() {
			e = e.Addr()
		}
		var list reflect.Value
		var f *fault
		if dst, list, f = appendArgument(dst, e.Interface()); f != nil {
			f.why = fmt.Sprintf("element %d: %s", i, f.why)
			return dst, f
		}
		if list.IsValid() || dst[len(dst)-1].ID.IsZero() {
			return dst, &fault{kind: ErrModel, why: fmt.Sprintf("element %d is nil, or a list", i)}
		}
	}
	return dst, nil
}

// scalar gives the text of what is neither list nor map nor struct, or has a method for it. It is
// false for the rest.
func scalar(s *shape, v reflect.Value) (t string, ok bool, f *fault) {
	if s.role == isTime {
		return timeText(asTime(v)), true, nil
	}
	if s.texter != noTexter {
		t, f = s.texter.call(v)
		return t, true, f
	}
	switch k := v.Kind(); {
	case k == reflect.String:
		return v.String(), true, nil
	case k == reflect.Bool:
		return strconv.FormatBool(v.Bool()), true, nil
	case isInt(k):
		return strconv.FormatInt(v.Int(), 10), true, nil
	case isUint(k):
		return strconv.FormatUint(v.Uint(), 10), true, nil
	case k == reflect.Float32 || k == reflect.Float64:
		return floatText(v.Float(), v.Type().Bits()), true, nil
	case k == reflect.Complex64 || k == reflect.Complex128:
		return strconv.FormatComplex(v.Complex(), 'g', -1, v.Type().Bits()), true, nil
	case s.bytes:
		return string(v.Bytes()), true, nil
	}
	return "", false, nil
}

// writer writes the text of lists, maps and structs.
type writer struct {
	b     []byte
	above []visit // what holds the value that is being written
}

type visit struct {
	typ reflect.Type
	at  unsafe.Pointer
	len int
}

// value writes a value that is no scalar.
func (w *writer) value(v reflect.Value) *fault {
	if len(w.above) >= maxDepth {
		return &fault{kind: ErrUnstable, why: fmt.Sprintf("it is nested deeper than %d levels", maxDepth)}
	}
	here := visit{typ: v.Type()}
	switch v.Kind() {
	case reflect.Slice:
		here.at, here.len = v.UnsafePointer(), v.Len()
	case reflect.Map, reflect.Pointer:
		here.at = v.UnsafePointer()
	}
	if here.at != nil && (v.Kind() != reflect.Slice || here.len > 0) && slices.Contains(w.above, here) {
		return &fault{kind: ErrUnstable, why: fmt.Sprintf("it contains itself, by way of %s", v.Type())}
	}
	w.above = append(w.above, here)
	defer func() { w.above = w.above[:len(w.above)-1] }()

	switch v.Kind() {
	case reflect.Pointer:
		return w.element(v.Elem())
	case reflect.Slice, reflect.Array:
		return w.list(v)
	case reflect.Map:
		return w.entries(v)
	case reflect.Struct:
		return w.fields(v)
	default:
		return &fault{kind: ErrUnstable, why: fmt.Sprintf("%s has no stable text", v.Type())}
	}
}

// element writes what a list, a map, a struct or a pointer holds.
func (w *writer) element(v reflect.Value) *fault {
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() {
		w.b = append(w.b, nilMark...)
		return nil
	}
	s := shapeOf(v.Type())
	if s.role == isModel || s.role == isID || s.role == isType || s.several {
		return &fault{kind: ErrModel, why: fmt.Sprintf("%s is inside the argument, where its changes would go unnoticed; pass it, or a slice of such, as an argument of its own", v.Type())}
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			w.b = append(w.b, nilMark...)
			return nil
		}
		return w.value(v)
	}
	if s.role == isText {
		w.text(v.String())
		return nil
	}
	t, ok, f := scalar(s, v)
	switch {
	case f != nil:
		return f
	case !ok:
		return w.value(v)
	case looksLikeID(t):
		return &fault{kind: ErrModel, why: fmt.Sprintf("the identifier %s is inside the argument, where its changes would go unnoticed; pass it as an argument of its own, or as tokens.Text if it is the text of a user", quote(t))}
	}
	w.text(t)
	return nil
}

func (w *writer) text(s string) {
	if s == "" {
		w.b = append(w.b, emptyMark...)
		return
	}
	w.b = appendEscaped(w.b, s, true)
}

func (w *writer) list(v reflect.Value) *fault {
	w.b = append(w.b, listMark...)
	for i := range v.Len() {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		if f := w.element(v.Index(i)); f != nil {
			return f
		}
	}
	w.b = append(w.b, ']')
	return nil
}

func (w *writer) entries(v reflect.Value) *fault {
	type entry struct{ key, value string }
	var entries []entry
	into := w.b
	defer func() { w.b = into }()
	part := func(v reflect.Value) (string, *fault) {
		w.b = nil
		f := w.element(v)
		return string(w.b), f
	}
	for it := v.MapRange(); it.Next(); {
		var e entry
		var f *fault
		if e.key, f = part(it.Key()); f != nil {
			return f
		}
		if e.value, f = part(it.Value()); f != nil {
			return f
		}
		entries = append(entries, e)
	}
	// By value too: keys that differ can have one text.
	slices.SortFunc(entries, func(a, b entry) int {
		if c := strings.Compare(a.key, b.key); c != 0 {
			return c
		}
		return strings.Compare(a.value, b.value)
	})
	into = append(into, mapMark...)
	for i, e := range entries {
		if i > 0 {
			into = append(into, ',')
		}
		into = append(into, e.key...)
		into = append(into, ':')
		into = append(into, e.value...)
	}
	into = append(into, '}')
	return nil
}

func (w *writer) fields(v reflect.Value) *fault {
	t := v.Type()
	if shapeOf(t).hidden && !v.CanAddr() {
		c := reflect.New(t).Elem()
		c.Set(v)
		v = c
	}
	w.b = append(w.b, mapMark...)
	first := true
	for i := range t.NumField() {
		field := t.Field(i)
		if field.Name == "_" {
			continue
		}
		if !first {
			w.b = append(w.b, ',')
		}
		first = false
		w.b = append(append(w.b, field.Name...), ':')
		f := v.Field(i)
		if !field.IsExported() {
			// An unexported time or UUID has its text by a method as any other, and reflect calls
			// none on what it got from an unexported field.
			f = reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem()
		}
		if f := w.element(f); f != nil {
			return f
		}
	}
	w.b = append(w.b, '}')
	return nil
}

// escape encodes a text that stands by itself in a key. It allocates only where something must be
// encoded.
func escape(s string) string {
	if !looksLikeID(s) {
		if class(0).all(s, suspect) {
			return s
		}
		return string(appendEscaped(make([]byte, 0, len(s)+16), s, false))
	}
	b := append(make([]byte, 0, len(s)+16), strings.TrimSuffix(Scheme, ":")...)
	b = appendEscape(b, ':')
	return string(appendEscaped(b, s[len(Scheme):], false))
}

// appendEscaped encodes "/", "%", control characters, line separators and what is not UTF-8; inside
// lists, maps and structs their punctuation too.
func appendEscaped(b []byte, s string, inside bool) []byte {
	encoded := suspect
	if inside {
		encoded |= punctuation
	}
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if classes[c]&encoded != 0 {
				b = appendEscape(b, c)
			} else {
				b = append(b, c)
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || r < 0xA0 || r == '\u2028' || r == '\u2029' {
			for _, c := range []byte(s[i : i+size]) {
				b = appendEscape(b, c)
			}
		} else {
			b = append(b, s[i:i+size]...)
		}
		i += size
	}
	return b
}
