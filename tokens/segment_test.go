package tokens

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// keyText joins the segments of args as a key does, with "T" for every token.
func keyText(args ...any) (string, error) {
	segments, err := AppendSegments(nil, args...)
	var parts []string
	for _, s := range segments {
		if !s.ID.IsZero() {
			parts = append(parts, "T", s.ID.String())
			continue
		}
		parts = append(parts, s.Text)
	}
	return strings.Join(parts, "/"), err
}

type (
	date   time.Time // has no methods of its own
	bits   uint8
	list   []any
	tree   map[string]tree
	point  struct{ X, Y int }
	secret struct {
		Name string
		id   uuid.UUID
		at   time.Time
		n    *int
		any  any
		_    int
	}
	shouting   string
	onPointer  struct{ s string }
	users      []user
	selfish    *selfish
	marshaller struct{ text string }
)

func (b bits) String() string                     { return fmt.Sprintf("bit%d", uint8(b)) }
func (u shouting) String() string                 { return strings.ToUpper(string(u)) }
func (p *onPointer) String() string               { return "on " + p.s }
func (users) String() string                      { return "users" }
func (m marshaller) MarshalText() ([]byte, error) { return []byte(m.text), nil }
func (m marshaller) String() string               { return "not asked" }

func TestSegmentsText(t *testing.T) {
	id := uuid.MustParse("0198c0de-0000-7000-8000-00000000abcd")
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("CET", 3600))
	var anything any = "x"
	for _, c := range []struct {
		arg  any
		want string
	}{
		{"page", "page"},
		{"", ""},
		{"€ – ü?&=#+ <b>", "€ – ü?&=#+ <b>"},
		{"a:b,c{d}[e](f)", "a:b,c{d}[e](f)"},
		{"a/b%c", "a%2Fb%25c"},
		{"\x00\n\x1f\x7f", "%00%0A%1F%7F"},
		{"\u0080\u009f\u00a0", "%C2%80%C2%9F\u00a0"},
		{"\u2028\u2029\u202f", "%E2%80%A8%E2%80%A9\u202f"},
		{"\xff\xe2\x80", "%FF%E2%80"},
		{"\ufffd", "\ufffd"},
		{"ALKEY:x", "ALKEY:x"},
		{" alkey:x", " alkey:x"},
		{Text("page"), "page"},
		{Text("alkey:users#1"), "alkey%3Ausers#1"},
		{Text("alkey:a:/"), "alkey%3Aa:%2F"},
		{Text("alkey%3Ax"), "alkey%253Ax"},
		{pointer(Text("alkey:users#1").(text)), "alkey%3Ausers#1"},
		{namedString("a/b"), "a%2Fb"},
		{1, "1"},
		{int8(-1), "-1"},
		{uint64(math.MaxUint64), "18446744073709551615"},
		{uintptr(7), "7"},
		{namedInt(3), "3"},
		{true, "true"},
		{1.5, "1.5"},
		{float32(0.1), "0.1"},
		{1e6, "1000000"},
		{1e-7, "1e-07"},
		{1e300, "1e+300"},
		{math.NaN(), "NaN"},
		{math.Inf(-1), "-Inf"},
		{1 + 2i, "(1+2i)"},
		{complex64(0.1i), "(0+0.1i)"},
		{nil, "%nil"},
		{(*int)(nil), "%nil"},
		{(**onPointer)(nil), "%nil"},
		{pointer[any](nil), "%nil"},
		{pointer(pointer(5)), "5"},
		{&anything, "x"},
		{pointer[any](&anything), "x"},
		{at, "2026-01-02T02:04:05.000006Z"},
		{date(at), "2026-01-02T02:04:05.000006Z"},
		{90 * time.Second, "1m30s"},
		{time.March, "March"},
		{id, id.String()},
		{&id, id.String()},
		{bits(3), "bit3"},
		{shouting("x/y"), "X%2FY"},
		{marshaller{"m"}, "m"},
		{onPointer{"x"}, "on x"},
		{&onPointer{"x"}, "on x"},
		{*big.NewInt(7), "7"},
		{&url.URL{Scheme: "https", Host: "h", Path: "/p"}, "https:%2F%2Fh%2Fp"},
		{[]byte("a/b"), "a%2Fb"},
		{[]byte(nil), ""},

		{[]int{}, "%[]"},
		{[]int(nil), "%[]"},
		{[]string{""}, "%[%~]"},
		{[]string{"", ""}, "%[%~,%~]"},
		{[]string{"a,b", "c"}, "%[a%2Cb,c]"},
		{[]string{"{[:]}", "€/"}, "%[%7B%5B%3A%5D%7D,€%2F]"},
		{[2]int{1, 2}, "%[1,2]"},
		{[]any{1, "x", nil, []any{}, Text("alkey:x")}, "%[1,x,%nil,%[],alkey%3Ax]"},
		{[]bits{1, 2}, "%[bit1,bit2]"},
		{[][]byte{[]byte("a"), nil}, "%[a,%~]"},
		{[]*int{nil, pointer(1)}, "%[%nil,1]"},
		{map[string]int{"b": 2, "a": 1, "": 0}, "%{%~:0,a:1,b:2}"},
		{map[any]int{1: 2, "1": 1}, "%{1:1,1:2}"},
		{map[point]bool{{2, 1}: true, {1, 2}: false}, "%{%{X:1,Y:2}:false,%{X:2,Y:1}:true}"},
		{map[string]int(nil), "%{}"},
		{struct{}{}, "%{}"},
		{point{1, 2}, "%{X:1,Y:2}"},
		{&point{1, 2}, "%{X:1,Y:2}"},
		{secret{"n", id, at, pointer(1), bits(1), 5}, "%{Name:n,id:" + id.String() + ",at:2026-01-02T02%3A04%3A05.000006Z,n:1,any:bit1}"},
		{map[string]secret{"k": {}}, "%{k:%{Name:%~,id:00000000-0000-0000-0000-000000000000,at:0001-01-01T00%3A00%3A00Z,n:%nil,any:%nil}}"},
		{tree{"a": {"b": nil}}, "%{a:%{b:%{}}}"},
		{errors.New("x"), "%{s:x}"},
		{list{1, list{2}}, "%[1,%[2]]"},
	} {
		got, err := keyText(c.arg)
		if err != nil || got != c.want {
			t.Errorf("%T %v: %q, %v, want %q", c.arg, c.arg, got, err, c.want)
		}
	}
}

func TestSegmentsOfModels(t *testing.T) {
	for _, c := range []struct {
		args []any
		want string
	}{
		{nil, ""},
		{[]any{&user{ID: 1}, "page"}, "T/alkey:users#1/page"},
		{[]any{"alkey:Users#1", Row("users", 2), pointer(Global)}, "T/alkey:users#1/T/alkey:users#2/T/alkey:*#*"},
		{[]any{reflect.TypeFor[user]()}, "T/alkey:users#*"},
		{[]any{[]user{{ID: 1}, {ID: 2}}}, "%(2)/T/alkey:users#1/T/alkey:users#2"},
		{[]any{&[]*user{{ID: 1}, {}}}, "%(2)/T/alkey:users#1/T/alkey:users#*"},
		{[]any{[1]byPointer{{ID: 1}}}, "%(1)/T/alkey:pointers#1"},
		{[]any{[]user{}, []*user(nil)}, "%(0)/%(0)"},
		{[]any{users{{ID: 1}}}, "%(1)/T/alkey:users#1"},
		{[]any{[]tableNamer{user{ID: 1}, &byPointer{ID: 1}}}, "%(2)/T/alkey:users#1/T/alkey:pointers#1"},
		{[]any{[]any{user{ID: 1}, Global, "alkey:users#*", reflect.TypeFor[user]()}}, "%(4)/T/alkey:users#1/T/alkey:*#*/T/alkey:users#*/T/alkey:users#*"},
		{[]any{[]string{"alkey:users#1"}}, "%(1)/T/alkey:users#1"},
		{[]any{[]ID{Row("users", 1)}}, "%(1)/T/alkey:users#1"},
		{[]any{[]reflect.Type{reflect.TypeFor[user]()}}, "%(1)/T/alkey:users#*"},
		{[]any{[]any{}, []string{}}, "%[]/%[]"},
	} {
		got, err := keyText(c.args...)
		if err != nil || got != c.want {
			t.Errorf("%v: %q, %v, want %q", c.args, got, err, c.want)
		}
	}
	segments, err := AppendSegments(nil, []user{{ID: 1}}, Text("%(1)"), Global, []any{1})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false, false, false, false} {
		if segments[i].isCount() != want {
			t.Errorf("%+v is a count: %v", segments[i], !want)
		}
	}
}

type node struct {
	Name string
	Next *node
}

type panicking struct{ ID int }

func (panicking) String() string { panic("no text today") }

func TestSegmentsThatAreRefused(t *testing.T) {
	cycle := &node{Name: "a"}
	cycle.Next = &node{Name: "b", Next: cycle}
	loop := map[string]any{}
	loop["x"] = loop
	ring := []any{nil}
	ring[0] = ring
	var self selfish
	self = &self
	var eternal any
	eternal = &eternal
	long := &node{}
	for range 1_000_000 {
		long = &node{Next: long}
	}
	for _, c := range []struct {
		arg    any
		kind   error
		reason string
	}{
		{func() {}, ErrUnstable, "func() has no stable text"},
		{make(chan int), ErrUnstable, "chan int has no stable text"},
		{reflect.ValueOf(new(int)).UnsafePointer(), ErrUnstable, "unsafe.Pointer has no stable text"},
		{[]any{1, func() {}}, ErrUnstable, "func() has no stable text"},
		{struct{ f func() }{}, ErrUnstable, "func() has no stable text"},
		{cycle, ErrUnstable, "contains itself"},
		{*cycle, ErrUnstable, "contains itself"},
		{loop, ErrUnstable, "contains itself"},
		{ring, ErrUnstable, "contains itself"},
		{self, ErrUnstable, "without end"},
		{eternal, ErrUnstable, "without end"},
		{[]any{eternal}, ErrUnstable, "contains itself"},
		{long, ErrUnstable, "nested deeper"},
		{failing{}, ErrUnstable, "it failed"},
		{panicking{}, ErrUnstable, "panicked: no text today"},
		{map[string]any{"k": panicking{}}, ErrUnstable, "panicked: no text today"},

		{"alkey:users", ErrMalformed, `"alkey:users": `},
		{"alkey:", ErrMalformed, "tokens.Text"},
		{namedString("alkey:x"), ErrMalformed, "tokens.Text"},
		{marshaller{"alkey:x"}, ErrMalformed, "tokens.Text"},
		{[]byte("alkey:x"), ErrMalformed, "tokens.Text"},
		{ID{}, ErrMalformed, "zero ID"},
		{[]ID{Global, {}}, ErrMalformed, "element 1: the zero ID"},
		{[]string{"alkey:users#1", "alkey:x"}, ErrMalformed, "element 1"},

		{[]any{user{ID: 1}, "page"}, ErrModel, "element 0 names something that can change and element 1 does not"},
		{[]string{"alkey:users#1", "x"}, ErrModel, "element 1 does not"},
		{[]any{nil, user{}}, ErrModel, "element 0 does not"},
		{[]*user{nil}, ErrModel, "element 0: it is nil"},
		{[]tableNamer{user{}, nil}, ErrModel, "element 1 is nil"},
		{[]reflect.Type{nil}, ErrModel, "element 0 is nil"},
		{[]noKey{{}}, ErrModel, "element 0: model tokens.noKey"},
		{map[string]user{"a": {}}, ErrModel, "tokens.user is inside"},
		{map[string]*user{"a": nil}, ErrModel, "*tokens.user is inside"},
		{map[user]int{{}: 1}, ErrModel, "tokens.user is inside"},
		{struct{ u user }{}, ErrModel, "tokens.user is inside"},
		{struct{ us users }{}, ErrModel, "tokens.users is inside"},
		{struct{ IDs []ID }{}, ErrModel, "[]tokens.ID is inside"},
		{[][]user{{}}, ErrModel, "[]tokens.user is inside"},
		{[]any{1, []any{Global}}, ErrModel, "tokens.ID is inside"},
		{map[string]any{"k": "alkey:users#1"}, ErrModel, `the identifier "alkey:users#1" is inside`},
		{map[string]any{"alkey:users#1": 1}, ErrModel, "is inside"},
		{struct{ T reflect.Type }{reflect.TypeFor[user]()}, ErrModel, "is inside"},
	} {
		before := []Segment{{Text: "before"}}
		got, err := AppendSegments(before, "x", c.arg)
		where := fmt.Sprintf("argument 2 (%T)", c.arg)
		if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.reason) || !strings.Contains(err.Error(), where) || !strings.HasPrefix(err.Error(), "alkey: ") {
			t.Errorf("%T: %v, want it to say %q", c.arg, err, c.reason)
		}
		if !slices.Equal(got, before) {
			t.Errorf("%T: %v was appended", c.arg, got)
		}
		if _, ok := Identify(c.arg); ok {
			t.Errorf("%T is identified", c.arg)
		}
	}
	if _, err := AppendSegments(nil, failing{}); !errors.Is(err, errFailing) {
		t.Errorf("the cause is lost: %v", err)
	}
}

// What is shared without a cycle is no cycle.
func TestSegmentsOfSharedParts(t *testing.T) {
	n := &node{Name: "a"}
	s := []int{1}
	got, err := keyText([]any{n, n, s, s, s[:0], s})
	if want := "%[%{Name:a,Next:%nil},%{Name:a,Next:%nil},%[1],%[1],%[],%[1]]"; err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func TestEqualTimesShareTheirText(t *testing.T) {
	now := time.Now()
	want, err := keyText(now, struct{ at time.Time }{now})
	if err != nil {
		t.Fatal(err)
	}
	for _, same := range []time.Time{now.Round(0), now.UTC(), now.In(time.FixedZone("x", -7200))} {
		if got, _ := keyText(same, struct{ at time.Time }{same}); got != want {
			t.Errorf("%v: %s, want %s", same, got, want)
		}
	}
	if got, _ := keyText(now.Add(1), struct{ at time.Time }{now}); got == want {
		t.Error("a nanosecond later is the same")
	}
}

func TestArgumentsAreNotChanged(t *testing.T) {
	m := map[string][]string{"a": {"/"}}
	s := secret{any: m}
	if _, err := AppendSegments(nil, s, &s, m); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s, secret{any: map[string][]string{"a": {"/"}}}) {
		t.Errorf("the argument was changed: %+v", s)
	}
}

// value draws what has stable text, with a liking for what means something in a key. Two draws
// that are not reflect.DeepEqual do not mean the same: each form is drawn as one type only.
func value() *rapid.Generator[any] {
	texts := rapid.OneOf(rapid.SampledFrom([]string{"", "a", "b", "%nil", "%(1)", "%[]", "%~", "a,b", "a:b", "%[a", "a]", "%5B"}), keyParts()).
		Filter(func(s string) bool { return !looksLikeID(s) })
	leaf := rapid.OneOf(
		rapid.Map(texts, func(s string) any { return s }),
		rapid.Just[any](nil),
	)
	return rapid.OneOf(leaf, rapid.Custom(func(t *rapid.T) any { return composite(leaf, 3).Draw(t, "composite") }))
}

func composite(leaf *rapid.Generator[any], depth int) *rapid.Generator[any] {
	inner := leaf
	if depth > 1 {
		inner = rapid.OneOf(leaf, rapid.Deferred(func() *rapid.Generator[any] { return composite(leaf, depth-1) }))
	}
	return rapid.OneOf(
		rapid.Map(rapid.SliceOfN(inner, 0, 3), func(s []any) any {
			if s == nil {
				s = []any{}
			}
			return s
		}),
		rapid.Map(rapid.MapOfN(keyParts().Filter(func(s string) bool { return !looksLikeID(s) }), inner, 0, 3), func(m map[string]any) any {
			if m == nil {
				m = map[string]any{}
			}
			return m
		}),
	)
}

// argument draws values, identifiers, texts and slices of models.
func argument() *rapid.Generator[any] {
	return rapid.OneOf(
		value(),
		rapid.Map(someIDs(), func(id ID) any { return id }),
		rapid.Map(rapid.SliceOfN(rapid.Int64Range(0, 2), 0, 3), func(keys []int64) any {
			s := make([]user, len(keys))
			for i, k := range keys {
				s[i].ID = k
			}
			return s
		}),
		rapid.Map(rapid.SampledFrom([]string{"alkey:users#1", "alkey:", "alkey:*#*", "alkey%3A"}), Text),
	)
}

func TestArgumentsDoNotShareKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drawn := rapid.SliceOfN(rapid.SliceOfN(argument(), 1, 3), 2, 6).Draw(t, "lists")
		seen := map[string][]any{}
		for _, args := range drawn {
			key, err := keyText(args...)
			if err != nil {
				t.Fatal(err)
			}
			if other, ok := seen[key]; ok && !reflect.DeepEqual(plain(other), plain(args)) {
				t.Fatalf("%#v and %#v share the key %q", other, args, key)
			}
			seen[key] = args
			if strings.ContainsFunc(key, unicode.IsControl) || !utf8.ValidString(key) {
				t.Fatalf("%q is no clean text", key)
			}
		}
	})
}

// Every list of up to three small arguments has a key of its own.
func TestSmallArgumentsDoNotShareKeys(t *testing.T) {
	leaves := []any{"", "a", "a,a", "nil", "%nil", "~", nil}
	var composites []any
	for _, parts := range lists(leaves, 2) {
		composites = append(composites, parts)
		m := map[string]any{}
		for i, part := range parts {
			m[[]string{"", "a"}[i]] = part
		}
		composites = append(composites, m)
		if len(parts) == 1 {
			composites = append(composites, map[string]any{"a:a": parts[0]}, []any{parts}, []any{[]any{parts[0], "a"}, "a"}, []any{parts, "a"})
		}
	}
	args := append(slices.Clone(leaves), "%(1)", "(1)", "%[]", "[]", Text("alkey:users#1"), Row("users", 1), Table("users"))
	for _, keys := range lists([]any{int64(0), int64(1)}, 2) {
		several := []user{}
		for _, k := range keys {
			several = append(several, user{ID: k.(int64)})
		}
		args = append(args, several)
	}
	seen := map[string][]any{}
	check := func(args []any) {
		key, err := keyText(args...)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[key]; ok && !reflect.DeepEqual(other, args) {
			t.Errorf("%#v and %#v share the key %q", other, args, key)
		}
		seen[key] = args
	}
	for _, l := range lists(args, 3) {
		if len(l) > 0 { // no key is made of nothing
			check(l)
		}
	}
	for _, c := range composites {
		check([]any{c})
		for _, a := range args {
			check([]any{c, a})
			check([]any{a, c})
		}
	}
}

// lists returns all lists of up to n elements of from.
func lists(from []any, n int) [][]any {
	all := [][]any{{}}
	for begin := 0; n > 0; n-- {
		end := len(all)
		for _, l := range all[begin:end] {
			for _, e := range from {
				all = append(all, append(slices.Clone(l), e))
			}
		}
		begin = end
	}
	return all
}

// plain makes a text of Text and a string equal: they are the same unless the string is an
// identifier.
func plain(args []any) []any {
	out := slices.Clone(args)
	for i, a := range out {
		if s, ok := a.(text); ok && !looksLikeID(string(s)) {
			out[i] = string(s)
		}
	}
	return out
}

// copied copies v with all that it points to, and refills its maps.
func copied(v any) any {
	switch v := v.(type) {
	case []any:
		c := make([]any, len(v), len(v)+1)
		for i := range v {
			c[i] = copied(v[i])
		}
		return c
	case map[string]any:
		c := make(map[string]any)
		keys := slices.Sorted(maps.Keys(v))
		slices.Reverse(keys)
		for _, k := range keys {
			c[k] = copied(v[k])
		}
		return c
	default:
		return v
	}
}

func TestCopiesShareKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := value().Draw(t, "value")
		want, err := keyText(v)
		if err != nil {
			t.Fatal(err)
		}
		c := copied(v)
		for _, same := range []any{v, c, &c, pointer(&c)} {
			if got, err := keyText(same); err != nil || got != want {
				t.Fatalf("%#v: %q, %v, want %q", same, got, err, want)
			}
		}
	})
}

// unescape undoes the encoding of text: the escapes alone.
func unescape(s string) (string, error) { return url.PathUnescape(s) }

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "alkey:users#1", "alkey:", "a/b%2F", "\x00\u0085\u2028", "\xff\xc3", "€", "%[a,b]", "alkey%3A"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		segments, err := AppendSegments(nil, Text(s), []any{Text(s), Text("")})
		if err != nil || len(segments) != 2 {
			t.Fatalf("%q: %v, %v", s, segments, err)
		}
		for _, g := range segments {
			if !g.ID.IsZero() || g.isCount() || looksLikeID(g.Text) || strings.Contains(g.Text, "/") ||
				strings.ContainsFunc(g.Text, unicode.IsControl) || strings.ContainsAny(g.Text, "\u2028\u2029") || !utf8.ValidString(g.Text) {
				t.Fatalf("%q gives %+v", s, g)
			}
		}
		if back, err := unescape(segments[0].Text); err != nil || back != s {
			t.Fatalf("%q gives %q, which is %q, %v", s, segments[0].Text, back, err)
		}
		inside := strings.TrimSuffix(strings.TrimPrefix(segments[1].Text, listMark), ","+emptyMark+"]")
		if s == "" && inside == emptyMark {
			return
		}
		if back, err := unescape(inside); err != nil || back != s || strings.ContainsAny(inside, ",:{}[]") {
			t.Fatalf("%q gives %q, in which is %q, %v", s, segments[1].Text, back, err)
		}
	})
}

func TestAppendSegmentsAllocates(t *testing.T) {
	var buf [4]Segment
	for _, c := range []struct {
		name string
		arg  any
		most float64
	}{
		{"a model with a key below 100", &user{ID: 42}, 0},
		{"a model", &user{ID: 123456}, 1},
		{"an ID", Row("users", 123456), 0},
		{"a composite ID", Row("users", 1, "x"), 0},
		{"an identifier", "alkey:users#1", 0},
		{"text", "a text", 0},
		{"Text", Text("a text"), 0},
	} {
		n := testing.AllocsPerRun(100, func() {
			if _, err := AppendSegments(buf[:0], c.arg, "page"); err != nil {
				t.Fatal(err)
			}
		})
		if n > c.most {
			t.Errorf("%s: %v allocations, want at most %v", c.name, n, c.most)
		}
	}
}

func BenchmarkAppendSegments(b *testing.B) {
	for _, c := range []struct {
		name string
		arg  any
	}{
		{"model", &user{ID: 123456}},
		{"model-below-100", &user{ID: 42}},
		{"composite", &member{Org: 7, User: pointer("x")}},
		{"uuid", &withUUID{uuid.MustParse("0198c0de-0000-7000-8000-00000000abcd")}},
		{"id", Row("users", 123456)},
		{"text", "a text"},
		{"time", time.Now()},
		{"map", map[string]any{"sort": "name", "page": 2}},
	} {
		b.Run("arg="+c.name, func(b *testing.B) {
			b.ReportAllocs()
			var buf [4]Segment
			for b.Loop() {
				if _, err := AppendSegments(buf[:0], c.arg, "page"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
