package sqltext

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestTokens(t *testing.T) {
	for _, c := range []struct {
		dialect Dialect
		text    string
		want    string // kinds and texts
		torn    bool
	}{
		{MySQL, "WHERE `a`.B >= ? AND f\v(1.5, 'x') -- c", "w:where q:a s:. w:b s:> s:= p: w:and w:f s:( l: s:, l: s:)", false},
		{MySQL, `x = "y" /* c */ := @@z`, "w:x s:= l: s::= v:", false},
		{Postgres, `"A" = $1::int`, "q:A s:= p: s::: w:int", false},
		{SQLite, `[a b] = :n`, "q:a b s:= p:", false},
		{MySQL, "x = 'y", "w:x s:=", true},
		{MySQL, "x /* y", "w:x", true},
	} {
		list, whole := Tokens(c.dialect, c.text)
		var got []string
		for _, token := range list {
			got = append(got, "swqlpv"[token.Kind:token.Kind+1]+":"+token.Text)
		}
		if s := strings.Join(got, " "); s != c.want || whole == c.torn {
			t.Errorf("%s: %q, whole: %v; want %q", c.text, s, whole, c.want)
		}
	}
}

// FuzzTokens: tokens stand in the text in order, and apart.
func FuzzTokens(f *testing.F) {
	f.Add("WHERE `a`.B >= ? AND f\v(1.5, 'x') -- c")
	f.Add("/*!50000 x */ @'y' \"z")
	f.Fuzz(func(t *testing.T, text string) {
		for _, d := range []Dialect{Postgres, MySQL, SQLite} {
			list, _ := Tokens(d, text)
			at := 0
			for _, token := range list {
				if token.Span.From < at || token.Span.Empty() || token.Span.To > len(text) {
					t.Fatalf("%q: %v after %d", text, token.Span, at)
				}
				at = token.Span.To
			}
		}
	})
}

func TestWords(t *testing.T) {
	for text, want := range map[string][]string{
		"":                                   nil,
		"SET/**/Search_Path=ten":             {"set", "search_path", "ten"},
		`set "search_path" to 'role', $1, 2`: {"set", "search_path", "to"},
		"DECLARE c CURSOR WITH HOLD--x\nFOR SELECT f()": {"declare", "c", "cursor", "with", "hold", "for", "select", "f"},
		"SELECT $$ set role x $$":                       {"select"},
	} {
		if got := Words(Postgres, text); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestArguments(t *testing.T) {
	for _, c := range []struct {
		dialect Dialect
		text    string
		want    map[int]int
	}{
		{Postgres, "SELECT 1", map[int]int{}},
		{Postgres, "UPDATE t SET x = $2 WHERE x > $1 AND id = $1 /* $2 */", map[int]int{1: 2, 2: 1}},
		{MySQL, "UPDATE t SET x = ? WHERE id = ?", map[int]int{1: 1, 2: 1}},
	} {
		if got := Arguments(c.dialect, c.text); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.text, got, c.want)
		}
	}
}
