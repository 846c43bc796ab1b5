package sqltext

import (
	"strings"
	"testing"
)

func TestTokens(t *testing.T) {
	for _, c := range []struct {
		dialect Dialect
		text    string
		want    string // kinds and texts; "" if the text is torn
	}{
		{MySQL, "WHERE `a`.B >= ? AND f\v(1.5, 'x') -- c", "w:where q: s:. w:b s:> s:= p: w:and w:f s:( l: s:, l: s:)"},
		{MySQL, `x = "y" /* c */ := @@z`, "w:x s:= l: s::= v:"},
		{Postgres, `"A" = $1::int`, "q: s:= p: s::: w:int"},
		{SQLite, `[a b] = :n`, "q: s:= p:"},
		{MySQL, "x = 'y", ""},
		{MySQL, "x /* y", ""},
	} {
		list, ok := Tokens(c.dialect, c.text)
		var got []string
		for _, token := range list {
			got = append(got, "swqlpv"[token.Kind:token.Kind+1]+":"+token.Text)
		}
		if s := strings.Join(got, " "); s != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, %v; want %q", c.text, s, ok, c.want)
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
