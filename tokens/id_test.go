package tokens

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

type (
	namedInt    int16
	namedString string
	loudInt     int // its method is not what a database holds
	label       struct{ s string }
	failing     struct{}
)

func (loudInt) String() string               { return "loud" }
func (l label) String() string               { return "label " + l.s }
func (failing) MarshalText() ([]byte, error) { return nil, errFailing }
func (failing) Value() (driver.Value, error) { return nil, errFailing }

func pointer[T any](v T) *T { return &v }

func sameID(t *testing.T, what string, got, want ID) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %s, want %s", what, got, want)
	}
}

var errFailing = errors.New("it failed")

func TestRow(t *testing.T) {
	id := uuid.MustParse("0198c0de-0000-7000-8000-00000000abcd")
	berlin := time.FixedZone("CET", 3600)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, berlin)
	for _, c := range []struct {
		table string
		key   []any
		want  string
	}{
		{"users", nil, "alkey:users#*"},
		{"users", []any{1}, "alkey:users#1"},
		{"users", []any{0}, "alkey:users#0"},
		{"users", []any{-7}, "alkey:users#-7"},
		{"users", []any{int8(1)}, "alkey:users#1"},
		{"users", []any{uint64(math.MaxUint64)}, "alkey:users#18446744073709551615"},
		{"users", []any{namedInt(3)}, "alkey:users#3"},
		{"users", []any{loudInt(3)}, "alkey:users#3"},
		{"users", []any{time.Duration(3)}, "alkey:users#3"},
		{"users", []any{"1"}, "alkey:users#1"},
		{"users", []any{namedString("x")}, "alkey:users#x"},
		{"users", []any{""}, "alkey:users#~"},
		{"users", []any{"~"}, "alkey:users#%7E"},
		{"users", []any{"*"}, "alkey:users#%2A"},
		{"users", []any{"!"}, "alkey:users#%21"},
		{"users", []any{"a b/ü,#"}, "alkey:users#a%20b%2F%C3%BC%2C%23"},
		{"users", []any{"\xff\x00"}, "alkey:users#%FF%00"},
		{"users", []any{"alkey:users#1"}, "alkey:users#alkey%3Ausers%231"},
		{"users", []any{Text("x")}, "alkey:users#x"},
		{"users", []any{[]byte("x\x01")}, "alkey:users#x%01"},
		{"users", []any{[]byte{}}, "alkey:users#~"},
		{"users", []any{true}, "alkey:users#1"},
		{"users", []any{false}, "alkey:users#0"},
		{"users", []any{1.5}, "alkey:users#1.5"},
		{"users", []any{1234567.0}, "alkey:users#1234567"},
		{"users", []any{1e21}, "alkey:users#1e%2B21"},
		{"users", []any{math.Copysign(0, -1)}, "alkey:users#0"},
		{"users", []any{float32(0.1)}, "alkey:users#0.10000000149011612"},
		{"users", []any{id}, "alkey:users#0198c0de-0000-7000-8000-00000000abcd"},
		{"users", []any{&id}, "alkey:users#0198c0de-0000-7000-8000-00000000abcd"},
		{"users", []any{label{"x"}}, "alkey:users#label%20x"},
		{"users", []any{at}, "alkey:users#2026-01-02T02%3A04%3A05.000006Z"},
		{"users", []any{pointer(pointer(5))}, "alkey:users#5"},
		{"users", []any{sql.NullInt64{Int64: 7, Valid: true}}, "alkey:users#7"},
		{"users", []any{sql.NullString{String: "", Valid: true}}, "alkey:users#~"},
		{"users", []any{sql.Null[time.Time]{V: at, Valid: true}}, "alkey:users#2026-01-02T02%3A04%3A05.000006Z"},
		{"members", []any{7, "x"}, "alkey:members#7,x"},
		{"members", []any{"", "x"}, "alkey:members#~,x"},
		{"members", []any{"", ""}, "alkey:members#~,~"},
		{"members", []any{"a,b"}, "alkey:members#a%2Cb"},
		{"Shop.Users", []any{1}, "alkey:shop.users#1"},
		{"ÄPFEL", []any{1}, "alkey:%C3%A4pfel#1"},
		{"*", []any{1}, "alkey:%2A#1"},
		{"a#b", nil, "alkey:a%23b#*"},
	} {
		id := Row(c.table, c.key...)
		if id.String() != c.want {
			t.Errorf("Row(%q, %#v) = %s, want %s", c.table, c.key, id, c.want)
		}
		if f := id.check(); f != nil {
			t.Errorf("Row(%q, %#v) is no valid ID: %s", c.table, c.key, f.why)
		}
	}
}

func TestRowWithoutStableText(t *testing.T) {
	for _, key := range [][]any{
		{nil}, {1, nil}, {(*int)(nil)}, {[]byte(nil)}, {sql.NullInt64{}}, {func() {}}, {make(chan int)},
		{map[string]int{}}, {struct{}{}}, {[]int{1}}, {[16]byte{1}}, {1i}, {failing{}},
		{label{"x"}, pointer[any](nil)},
	} {
		if id := Row("users", key...); !id.IsZero() {
			t.Errorf("Row(%#v) = %s, want the zero ID", key, id)
		}
	}
	if id := Row("", 1); !id.IsZero() {
		t.Errorf("a row of no table is %s", id)
	}
	if id := Table(""); !id.IsZero() {
		t.Errorf("no table is %s", id)
	}
}

func TestParseID(t *testing.T) {
	for text, want := range map[string]ID{
		"alkey:*#*":             Global,
		"alkey:users#*":         Table("users"),
		"alkey:users#1":         Row("users", 1),
		"alkey:USERS#1":         Row("users", 1),
		"alkey:%55sers#%31":     Row("users", 1),
		"alkey:users#%2a":       Row("users", "*"),
		"alkey:%2A#*":           Table("*"),
		"alkey:%c3%84#%C3%84":   Row("Ä", "Ä"),
		"alkey:shop.users#a-_.": Row("shop.users", "a-_."),
		"alkey:members#7,x":     Row("members", 7, "x"),
		"alkey:members#%37,x,~": Row("members", 7, "x", ""),
		"alkey:members#7%2Cx":   Row("members", "7,x"),
		"alkey:users#~":         Row("users", ""),
		"alkey:users#%7e":       Row("users", "~"),
		"alkey:users#ABC":       Row("users", "ABC"),
	} {
		id, err := ParseID(text)
		if err != nil {
			t.Errorf("ParseID(%q): %v", text, err)
		}
		sameID(t, text, id, want)
	}
}

func TestParseIDMalformed(t *testing.T) {
	for text, reason := range map[string]string{
		"":                     "does not begin",
		"users#1":              "does not begin",
		"ALKEY:users#1":        "does not begin",
		"alkey:":               "are missing",
		"alkey:users":          "are missing",
		"alkey:#1":             "the table",
		"alkey:users#":         "the row",
		"alkey:users#!":        "internal",
		"alkey:*#!":            "internal",
		"alkey:*#1":            "goes with",
		"alkey:users#,":        "part is empty",
		"alkey:users#1,":       "part is empty",
		"alkey:users#1,,2":     "part is empty",
		"alkey:users#1,*":      "'*' must be",
		"alkey:users#1#2":      "'#' must be",
		"alkey:us ers#1":       "' ' must be",
		"alkey:~#1":            "'~' must be",
		"alkey:users#a~":       "'~' must be",
		"alkey:users#ä":        "'ä' must be",
		"alkey:users#\xff":     "UTF-8",
		"alkey:users#%":        "no escape",
		"alkey:users#%4":       "no escape",
		"alkey:users#%zz":      "no escape",
		"alkey:users#%4,1":     "no escape",
		"alkey:a,b#1":          "',' must be",
		"alkey:users#1/page":   "'/' must be",
		" alkey:users#1":       "does not begin",
		"alkey:users#1 ":       "' ' must be",
		"alkey:users#<script>": "'<' must be",
	} {
		id, err := ParseID(text)
		if !errors.Is(err, ErrMalformed) || !id.IsZero() {
			t.Errorf("ParseID(%q) = %s, %v", text, id, err)
			continue
		}
		if !strings.HasPrefix(err.Error(), "alkey: ") || !strings.Contains(err.Error(), reason) {
			t.Errorf("ParseID(%q): %v, want it to say %q", text, err, reason)
		}
	}
	_, err := ParseID("alkey:" + strings.Repeat("\x00", 1<<20))
	if n := len(err.Error()); n > 500 {
		t.Errorf("the error for a long text has %d bytes", n)
	}
}

func TestIDsByHand(t *testing.T) {
	for _, id := range []ID{
		{}, {Table: "users"}, {Row: "1"}, {Table: "Users", Row: "1"}, {Table: "a b", Row: "1"}, {Table: "users", Row: "%2a"},
		{Table: "users", Row: "%41"}, {Table: "users", Row: "!"}, {Table: "*", Row: "!"}, {Table: "*", Row: "1"},
		{Table: "users", Row: "1,"}, {Table: "a#b", Row: "1"}, {Table: "users", Row: "a#b"}, {Table: "%C3%84", Row: "1"},
	} {
		if _, err := AppendSegments(nil, id); !errors.Is(err, ErrMalformed) {
			t.Errorf("%#v as an argument: %v", id, err)
		}
		if _, err := id.MarshalText(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%#v as text: %v", id, err)
		}
		if _, ok := Identify(id); ok {
			t.Errorf("%#v is identified", id)
		}
	}
	for _, id := range []ID{Global, {Table: "users", Row: "1"}, {Table: "users", Row: "*"}, {Table: "%2A", Row: "%2A"}, {Table: "m", Row: "~,A"}} {
		if got, ok := Identify(id); !ok || got != id {
			t.Errorf("%s is not identified", id)
		}
	}
}

func TestIDAsJSON(t *testing.T) {
	in := map[ID][]ID{Row("users", "a b"): {Global, Table("users")}}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"alkey:users#a%20b":["alkey:*#*","alkey:users#*"]}`; string(b) != want {
		t.Errorf("got %s, want %s", b, want)
	}
	var out map[ID][]ID
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(out[Row("users", "a b")], []ID{Global, Table("users")}) {
		t.Errorf("read back: %v", out)
	}
	var id ID
	if err := json.Unmarshal([]byte(`"users"`), &id); !errors.Is(err, ErrMalformed) {
		t.Errorf("plain text as an ID: %v", err)
	}
}

// keyParts draws parts of keys and names of tables: any bytes, with a liking for what means
// something.
func keyParts() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`[a-zA-Z0-9*!~,#:%/. _-]{0,5}`),
		rapid.String(),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 4), func(b []byte) string { return string(b) }),
	)
}

func TestIdentifiersRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := keyParts().Filter(func(s string) bool { return s != "" }).Draw(t, "table")
		var key []any
		for _, part := range rapid.SliceOfN(keyParts(), 0, 3).Draw(t, "key") {
			key = append(key, part)
		}
		id := Row(table, key...)
		got, err := ParseID(id.String())
		if err != nil || got != id {
			t.Fatalf("ParseID(%s) = %s, %v", id, got, err)
		}
		if f := id.check(); f != nil {
			t.Fatal(f.why)
		}
		if string(id.AppendTo(nil)) != id.String() {
			t.Fatalf("AppendTo gives %s for %s", id.AppendTo(nil), id)
		}
		if got := Row(strings.ToUpper(strings.ToLower(table)), key...); isASCII(table) && got != id {
			t.Fatalf("the table's case matters: %s and %s", got, id)
		}
	})
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

func TestKeysDoNotShareIdentifiers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfN(rapid.SliceOfN(keyParts(), 0, 3), 2, 8).Draw(t, "keys")
		seen := map[ID][]string{}
		for _, key := range keys {
			args := make([]any, len(key))
			for i := range key {
				args[i] = key[i]
			}
			id := Row("t", args...)
			if other, ok := seen[id]; ok && !slices.Equal(other, key) {
				t.Fatalf("%q and %q are both %s", other, key, id)
			}
			if id.IsSweep() || id.IsTable() != (len(key) == 0) {
				t.Fatalf("%q is %s", key, id)
			}
			seen[id] = key
		}
	})
}

// someIDs draws identifiers that often have to do with one another.
func someIDs() *rapid.Generator[ID] {
	return rapid.SampledFrom([]ID{
		Global, Table("a"), Table("b"), Row("a", 1), Row("a", 2), Row("b", 1), Row("a", "*"), Table("*"),
	})
}

func TestDependsOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id, change := someIDs().Draw(t, "id"), someIDs().Draw(t, "change")
		affected := appendAffected(nil, change)
		shared := slices.ContainsFunc(appendDependencies(nil, id), func(d ID) bool { return slices.Contains(affected, d) })
		if id.DependsOn(change) != shared {
			t.Fatalf("%s depends on %s: %v, but they share a record: %v", id, change, id.DependsOn(change), shared)
		}
	})
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{
		"alkey:*#*", "alkey:users#1", "alkey:Users#%2a", "alkey:m#7,x", "alkey:m#~,%7e", "alkey:%c3%84#!", "alkey:a#%4", "x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || !id.IsZero() {
				t.Fatalf("ParseID(%q) = %s, %v", s, id, err)
			}
			return
		}
		if again, err := ParseID(id.String()); err != nil || again != id {
			t.Fatalf("%q gives %s, which gives %s, %v", s, id, again, err)
		}
		if f := id.check(); f != nil || id.IsSweep() || id.IsZero() {
			t.Fatalf("%q gives %s: %v", s, id, f)
		}
		if id == Global || strings.Contains(id.String(), digestPrefix) {
			return // what a digest is of, nobody knows
		}
		name, why := decode(id.Table)
		if why != "" {
			t.Fatal(why)
		}
		var key []any
		if id.Row != all {
			for part := range strings.SplitSeq(id.Row, ",") {
				raw := ""
				if part != empty {
					raw, _ = decode(part)
				}
				key = append(key, raw)
			}
		}
		if made := Row(name, key...); made != id {
			t.Fatalf("%q gives %s, but Row(%q, %q) gives %s", s, id, name, key, made)
		}
	})
}
