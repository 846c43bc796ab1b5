package tokens

import (
	"database/sql/driver"
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrModel is returned for a model that cannot be identified: nil, or with a key that is missing,
// unexported, or of a kind without stable text; and for a model or an identifier inside another
// argument, where its changes would go unnoticed.
var ErrModel = errors.New("alkey: model cannot be identified")

// Identify tells what v names: an ID, an identifier's text, a model instance (a zero key means the
// table) or a model's reflect.Type. It is false for everything else, and for a model that cannot
// be identified; AppendSegments tells why.
//
// A model is a type with a method TableName() string and a key: the fields tagged `alkey:"pk"` in
// their order, else the field tagged `db:"id"`, else the field ID. Fields of embedded structs count
// as Go promotes them. A key that is all zero, or NULL in a part, means the table. A type that
// knows better has the method AlkeyID() (table, row string), where row is the text of a key of one
// column and "" means the table. The receivers may be values or pointers, and so may v.
func Identify(v any) (ID, bool) {
	id, err := identify(v)
	return id, err == nil
}

// identify is Identify with the reason.
func identify(v any) (ID, error) {
	var buf [1]Segment
	segments, several, f := appendArgument(buf[:0], v)
	if f == nil && several.IsValid() {
		f = &fault{kind: ErrMalformed, why: "several are named where one is meant; pass them one by one"}
	}
	if f == nil && segments[0].ID.IsZero() {
		f = &fault{kind: ErrMalformed, why: "it is plain text; " + passInstead}
	}
	if f != nil {
		return ID{}, f.in(fmt.Sprintf("%T", v))
	}
	return segments[0].ID, nil
}

const passInstead = `pass a model, a model's reflect.Type, tokens.Row, tokens.Table or an identifier's text such as "alkey:users#1"`

// fault is why something cannot be identified or written as text; where it was met is added by
// whoever knows.
type fault struct {
	kind  error // a sentinel
	why   string
	cause error // what a method of the user's has returned, if anything
}

func (f *fault) in(where string) error {
	if f.cause != nil {
		return fmt.Errorf("%w: %s: %s: %w", f.kind, where, f.why, f.cause)
	}
	return fmt.Errorf("%w: %s: %s", f.kind, where, f.why)
}

func (f *fault) plain() error { return fmt.Errorf("%w: %s", f.kind, f.why) }

type (
	tableNamer interface{ TableName() string }
	identifier interface{ AlkeyID() (table, row string) }
)

var (
	tableNamerType  = reflect.TypeFor[tableNamer]()
	identifierType  = reflect.TypeFor[identifier]()
	marshalerType   = reflect.TypeFor[encoding.TextMarshaler]()
	stringerType    = reflect.TypeFor[fmt.Stringer]()
	valuerType      = reflect.TypeFor[driver.Valuer]()
	reflectTypeType = reflect.TypeFor[reflect.Type]()
	idType          = reflect.TypeFor[ID]()
	textType        = reflect.TypeFor[text]()
	timeType        = reflect.TypeFor[time.Time]()
	byteType        = reflect.TypeFor[byte]()
)

// shape is what is known of a type: how far down its pointers lead, and what is there.
type shape struct {
	pointers int
	base     reflect.Type
	role     role
	model    *model // with role isModel
	texter   texter
	valuer   bool
	bytes    bool // a slice of bytes
	several  bool // a slice or array whose elements all name something, by their type
	hidden   bool // a struct with unexported fields
}

type role uint8

const (
	isPlain role = iota
	isModel
	isID
	isType // a reflect.Type
	isText // made by Text
	isTime
)

// texter is the method by which a type gives its text.
type texter uint8

const (
	noTexter texter = iota
	marshaler
	stringer
)

// shapes holds the *shape of every reflect.Type that was met. It is a memo: what is in it follows
// from the type alone.
var shapes sync.Map

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s, _ := shapes.LoadOrStore(t, newShape(t))
	return s.(*shape)
}

// maxPointers bounds the pointers to follow at once; a type can be a pointer to itself.
const maxPointers = 8

func newShape(t reflect.Type) *shape {
	s := &shape{base: t}
	if t.Implements(reflectTypeType) {
		s.role = isType
		return s
	}
	for s.base.Kind() == reflect.Pointer && s.pointers < maxPointers {
		s.base = s.base.Elem()
		s.pointers++
	}
	t = s.base
	if t.Kind() == reflect.Interface {
		return s // what is in it has a shape of its own
	}
	s.valuer = has(t, valuerType)
	switch {
	case has(t, marshalerType):
		s.texter = marshaler
	case has(t, stringerType):
		s.texter = stringer
	}
	switch {
	case t == idType:
		s.role = isID
	case t == textType:
		s.role = isText
	case has(t, identifierType) || has(t, tableNamerType):
		s.role = isModel
		s.model = newModel(t)
	case t == timeType, s.texter == noTexter && t.ConvertibleTo(timeType):
		s.role = isTime
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		s.bytes = t.Kind() == reflect.Slice && t.Elem() == byteType
		s.several = names(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			s.hidden = s.hidden || !t.Field(i).IsExported()
		}
	}
	return s
}

// has reports whether a value of type t has a method set, if need be by its address.
func has(t, methods reflect.Type) bool {
	return t.Implements(methods) || t.Kind() != reflect.Interface && reflect.PointerTo(t).Implements(methods)
}

// names reports whether all values of type t name something that can change. It does not ask for
// t's shape: a type can be a slice of itself.
func names(t reflect.Type) bool {
	for range maxPointers {
		if t.Kind() != reflect.Pointer {
			break
		}
		t = t.Elem()
	}
	return t == idType || t.Implements(reflectTypeType) || has(t, identifierType) || has(t, tableNamerType)
}

// follow follows the pointers that lead to the base. It is false if one is nil.
func (s *shape) follow(v reflect.Value) (reflect.Value, bool) {
	for range s.pointers {
		if v.IsNil() {
			return v, false
		}
		v = v.Elem()
	}
	return v, true
}

// methods returns v in a form that has all of its type's methods, those of pointer receivers
// included.
func methods(v reflect.Value) any {
	if !v.CanAddr() {
		c := reflect.New(v.Type())
		c.Elem().Set(v)
		return c.Interface()
	}
	return v.Addr().Interface()
}

// model is how the instances of a type are identified.
type model struct {
	typ        reflect.Type
	identifier bool // it has AlkeyID; else it has TableName
	keys       []keyField
	why        string                    // there is no usable key
	table      atomic.Pointer[tableText] // a memo of the first name met
}

type tableText struct{ name, encoded string }

type keyField struct {
	name  string
	index []int
	plain bool // an integer, to be read as such
	sign  bool
}

func newModel(t reflect.Type) *model {
	m := &model{typ: t, identifier: has(t, identifierType)}
	if !m.identifier {
		m.keys, m.why = findKey(t)
	}
	return m
}

const giveKey = "tag the exported field of its primary key `alkey:\"pk\"`, or give it a method AlkeyID() (table, row string)"

func findKey(t reflect.Type) (keys []keyField, why string) {
	if t.Kind() != reflect.Struct {
		return nil, "it is no struct, so it has no key; give it a method AlkeyID() (table, row string)"
	}
	var tagged, db, named []reflect.StructField
	for _, f := range reflect.VisibleFields(t) {
		if tag, ok := f.Tag.Lookup("alkey"); ok {
			if tag != "pk" {
				return nil, fmt.Sprintf("field %s has the unknown tag `alkey:%q`; the one that is known is `alkey:\"pk\"`", f.Name, tag)
			}
			tagged = append(tagged, f)
		}
		if name, _, _ := strings.Cut(f.Tag.Get("db"), ","); name == "id" {
			db = append(db, f)
		}
		if f.Name == "ID" {
			named = append(named, f)
		}
	}
	found := tagged
	if len(found) == 0 {
		if found, why = shallowest(db); why != "" {
			return nil, why
		}
	}
	if len(found) == 0 {
		found = named
	}
	if len(found) == 0 {
		return nil, "it has no key; " + giveKey
	}
	for _, f := range found {
		if !f.IsExported() {
			return nil, fmt.Sprintf("its key, field %s, is unexported; export it, or give the type a method AlkeyID() (table, row string)", f.Name)
		}
		if !canBeKey(f.Type) {
			return nil, fmt.Sprintf("its key, field %s, is of type %s, which has no stable text; %s", f.Name, f.Type, giveKey)
		}
		k := keyField{name: f.Name, index: f.Index}
		if s := shapeOf(f.Type); s.pointers == 0 && !s.valuer {
			k.sign = isInt(f.Type.Kind())
			k.plain = k.sign || isUint(f.Type.Kind())
		}
		keys = append(keys, k)
	}
	return keys, ""
}

// shallowest picks the field that hides the others, as a promoted field would.
func shallowest(fields []reflect.StructField) (found []reflect.StructField, why string) {
	for _, f := range fields {
		switch {
		case len(found) == 0 || len(f.Index) < len(found[0].Index):
			found = []reflect.StructField{f}
		case len(f.Index) == len(found[0].Index):
			found = append(found, f)
		}
	}
	if len(found) > 1 {
		return nil, fmt.Sprintf("its fields %s and %s are both tagged `db:\"id\"`; tag the right one `alkey:\"pk\"`", found[0].Name, found[1].Name)
	}
	return found, ""
}

// canBeKey reports whether some values of type t can be keys; it does not rule out that others
// cannot.
func canBeKey(t reflect.Type) bool {
	if names(t) {
		return false // and its shape may be the one that is being made
	}
	s := shapeOf(t)
	if s.valuer || s.texter != noTexter || s.role == isTime || s.bytes {
		return true
	}
	switch k := s.base.Kind(); k {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64, reflect.Interface:
		return true
	default:
		return isInt(k) || isUint(k)
	}
}

// identify identifies the instance v, which is where the pointers of arg end.
func (m *model) identify(arg any, v reflect.Value) (ID, *fault) {
	if m.identifier {
		instance, ok := arg.(identifier)
		if !ok {
			instance = methods(v).(identifier)
		}
		table, row, f := callAlkeyID(instance)
		if f == nil && table == "" {
			f = m.fault("AlkeyID gives no table; return the table's name")
		}
		if f != nil {
			return ID{}, f
		}
		id := ID{Table: m.encodeTable(table), Row: all}
		if row != "" {
			id.Row = shorten(encode(row))
		}
		return id, nil
	}
	instance, ok := arg.(tableNamer)
	if !ok {
		instance = methods(v).(tableNamer)
	}
	name, f := callTableName(instance)
	if f == nil && name == "" {
		f = m.fault("TableName gives no name; return the table's name")
	}
	if f == nil && m.why != "" {
		f = m.fault(m.why)
	}
	if f != nil {
		return ID{}, f
	}
	row, f := m.row(v)
	if f != nil {
		return ID{}, f
	}
	return ID{Table: m.encodeTable(name), Row: shorten(row)}, nil
}

// identifyType identifies the table of the model's type, by an instance that is zero.
func (m *model) identifyType() (ID, *fault) {
	var table string
	var f *fault
	if instance := reflect.New(m.typ).Interface(); m.identifier {
		table, _, f = callAlkeyID(instance.(identifier))
	} else {
		table, f = callTableName(instance.(tableNamer))
	}
	if f == nil && table == "" {
		f = m.fault("its zero value gives no table; pass tokens.Table instead of the type")
	}
	if f != nil {
		return ID{}, f
	}
	return ID{Table: m.encodeTable(table), Row: all}, nil
}

func (m *model) fault(why string) *fault {
	return &fault{kind: ErrModel, why: fmt.Sprintf("model %s: %s", m.typ, why)}
}

func (m *model) encodeTable(name string) string {
	memo := m.table.Load()
	if memo != nil && memo.name == name {
		return memo.encoded
	}
	encoded := encodeTable(name)
	if memo == nil {
		m.table.CompareAndSwap(nil, &tableText{name, encoded})
	}
	return encoded
}

// row returns the row part for the instance v.
func (m *model) row(v reflect.Value) (string, *fault) {
	if len(m.keys) == 1 {
		k, f := m.key(v, &m.keys[0])
		if f != nil || k.zero || k.null {
			return all, f
		}
		return encodeKey(k.text), nil
	}
	row, zero := "", true
	for i := range m.keys {
		k, f := m.key(v, &m.keys[i])
		if f != nil || k.null {
			return all, f
		}
		if i > 0 {
			row += ","
		}
		row += encodeKey(k.text)
		zero = zero && k.zero
	}
	if zero {
		return all, nil
	}
	return row, nil
}

func (m *model) key(v reflect.Value, field *keyField) (key, *fault) {
	for i, at := range field.index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return key{zero: true}, nil
			}
			v = v.Elem()
		}
		v = v.Field(at)
	}
	if field.plain {
		if field.sign {
			return intKey(v.Int()), nil
		}
		return uintKey(v.Uint()), nil
	}
	k, f := keyOfValue(v, true)
	if f != nil {
		in := m.fault(fmt.Sprintf("its key, field %s: %s", field.name, f.why))
		in.cause = f.cause
		return key{}, in
	}
	return k, nil
}

// key is one part of a primary key.
type key struct {
	text string // as it is: not encoded
	zero bool   // not given yet
	null bool   // no key
}

func intKey(n int64) key   { return key{text: strconv.FormatInt(n, 10), zero: n == 0} }
func uintKey(n uint64) key { return key{text: strconv.FormatUint(n, 10), zero: n == 0} }

// keyOf reads a part of a key.
func keyOf(v any) (key, *fault) {
	switch v := v.(type) {
	case nil:
		return key{null: true}, nil
	case int:
		return intKey(int64(v)), nil
	case int64:
		return intKey(v), nil
	case string:
		return key{text: v, zero: v == ""}, nil
	}
	return keyOfValue(reflect.ValueOf(v), true)
}

// keyOfValue reads a part of a key as the database will hold it, since that is what a write of the
// row is seen by: what database/sql would send, and only then what the type gives as text.
func keyOfValue(v reflect.Value, valuers bool) (key, *fault) {
	for range 2 * maxPointers {
		if v.Kind() != reflect.Pointer && v.Kind() != reflect.Interface {
			break
		}
		if v.IsNil() {
			return key{null: true}, nil
		}
		v = v.Elem()
	}
	s := shapeOf(v.Type())
	if s.valuer && valuers {
		sent, f := callValue(methods(v).(driver.Valuer))
		if f != nil {
			return key{}, f
		}
		if sent == nil {
			return key{null: true}, nil
		}
		k, f := keyOfValue(reflect.ValueOf(sent), false)
		k.zero = k.zero || v.IsZero()
		return k, f
	}
	if s.role == isTime {
		t := asTime(v)
		return key{text: timeText(t), zero: t.IsZero()}, nil
	}
	switch kind := v.Kind(); {
	case isInt(kind):
		return intKey(v.Int()), nil
	case isUint(kind):
		return uintKey(v.Uint()), nil
	case kind == reflect.String:
		return key{text: v.String(), zero: v.Len() == 0}, nil
	case kind == reflect.Bool && v.Bool():
		return key{text: "1"}, nil
	case kind == reflect.Bool:
		return key{text: "0", zero: true}, nil
	case kind == reflect.Float32 || kind == reflect.Float64:
		// database/sql sends float32 as float64, and to a database -0 and 0 are equal.
		n := v.Float()
		if n == 0 {
			n = 0
		}
		return key{text: floatText(n, 64), zero: n == 0}, nil
	case s.bytes:
		return key{text: string(v.Bytes()), zero: v.Len() == 0, null: v.IsNil()}, nil
	case s.texter != noTexter:
		t, f := s.texter.call(v)
		if f != nil {
			return key{}, f
		}
		return key{text: t, zero: v.IsZero()}, nil
	}
	return key{}, &fault{kind: ErrModel, why: fmt.Sprintf("%s has no stable text; %s", v.Type(), giveKey)}
}

func isInt(k reflect.Kind) bool  { return reflect.Int <= k && k <= reflect.Int64 }
func isUint(k reflect.Kind) bool { return reflect.Uint <= k && k <= reflect.Uintptr }

// asTime needs a v whose role is isTime.
func asTime(v reflect.Value) time.Time { return v.Convert(timeType).Interface().(time.Time) }

// timeText writes an instant: equal times have one text, whatever their location and monotonic
// reading.
func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// floatText writes the shortest text that reads back as n, without an exponent where an integer
// would have none: a number is the same text whatever its Go type.
func floatText(n float64, bits int) string {
	format := byte('f')
	if abs := math.Abs(n); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.FormatFloat(n, format, -1, bits)
}

// The methods of users are called here and nowhere else. One that panics must not take a request
// with it.

func callTableName(m tableNamer) (name string, f *fault) {
	defer recovered(&f, ErrModel, m, "TableName")
	return m.TableName(), nil
}

func callAlkeyID(m identifier) (table, row string, f *fault) {
	defer recovered(&f, ErrModel, m, "AlkeyID")
	table, row = m.AlkeyID()
	return table, row, nil
}

func callValue(v driver.Valuer) (sent driver.Value, f *fault) {
	defer recovered(&f, ErrModel, v, "Value")
	sent, err := v.Value()
	if err != nil {
		return nil, &fault{kind: ErrModel, why: fmt.Sprintf("method Value of %T failed", v), cause: err}
	}
	return sent, nil
}

// call needs a v that is no nil pointer.
func (how texter) call(v reflect.Value) (s string, f *fault) {
	switch m := methods(v); how {
	case marshaler:
		return callMarshalText(m.(encoding.TextMarshaler))
	default:
		return callString(m.(fmt.Stringer))
	}
}

func callMarshalText(m encoding.TextMarshaler) (s string, f *fault) {
	defer recovered(&f, ErrUnstable, m, "MarshalText")
	b, err := m.MarshalText()
	if err != nil {
		return "", &fault{kind: ErrUnstable, why: fmt.Sprintf("method MarshalText of %T failed", m), cause: err}
	}
	return string(b), nil
}

func callString(m fmt.Stringer) (s string, f *fault) {
	defer recovered(&f, ErrUnstable, m, "String")
	return m.String(), nil
}

func recovered(f **fault, kind error, m any, method string) {
	if p := recover(); p != nil {
		*f = &fault{kind: kind, why: fmt.Sprintf("method %s of %T panicked: %v", method, m, p)}
	}
}
