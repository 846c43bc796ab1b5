package sqltext

import (
	"maps"
	"slices"
	"testing"
)

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
