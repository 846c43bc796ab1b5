package rowid

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/alkey-go/alkey/tokens"
)

func texts(ids []tokens.ID) []string {
	all := []string{}
	for _, id := range ids {
		all = append(all, id.String())
	}
	return all
}

func TestAppend(t *testing.T) {
	uuid := "0190a0b4-7f3e-7cc0-8f00-0123456789ab"
	raw, _ := ParseUUID(uuid)
	for _, c := range []struct {
		name string
		key  []any
		want []string
	}{
		{"integer", []any{int64(7)}, []string{"alkey:t#7"}},
		{"text", []any{"Ann"}, []string{"alkey:t#Ann"}},
		{"text that is an integer", []any{"7"}, []string{"alkey:t#7"}},
		{"text that reads as an integer", []any{"007"}, []string{"alkey:t#007", "alkey:t#7"}},
		{"uuid", []any{uuid}, []string{"alkey:t#" + uuid}},
		{"uuid in upper case", []any{"0190A0B4-7F3E-7CC0-8F00-0123456789AB"}, []string{"alkey:t#0190A0B4-7F3E-7CC0-8F00-0123456789AB", "alkey:t#" + uuid}},
		{"uuid in braces", []any{"{" + uuid + "}"}, []string{"alkey:t#%7B" + uuid + "%7D", "alkey:t#" + uuid}},
		{"uuid in 16 bytes", []any{raw[:]}, []string{tokens.Row("t", raw[:]).String(), "alkey:t#" + uuid}},
		{"composite", []any{int64(7), "x"}, []string{"alkey:t#7,x"}},
		{"composite with two spellings", []any{"07", "+8"}, []string{"alkey:t#07,%2B8", "alkey:t#7,%2B8", "alkey:t#07,8", "alkey:t#7,8"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ids, ok := Append(nil, "t", c.key...)
			if got := texts(ids); !ok || !slices.Equal(got, c.want) {
				t.Errorf("%v, %v; want %v", got, ok, c.want)
			}
		})
	}
	for _, columns := range []int{4, 64} {
		if ids, ok := Append(nil, "t", slices.Repeat([]any{"01"}, columns)...); ok {
			t.Errorf("%d columns with two spellings each: %v", columns, texts(ids))
		}
	}
	if ids, ok := Append(nil, "t", 1, nil); ok {
		t.Errorf("NULL: %v", texts(ids))
	}
}

// TestPlain: whatever a field of an integer type can be read from has the field's text among its
// spellings, and so has every form of a UUID.
func TestPlain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64().Draw(t, "n")
		want := tokens.Row("t", n)
		for _, form := range []string{want.Row, pad(want.Row)} {
			if ids, _ := Append(nil, "t", form); !slices.Contains(ids, want) {
				t.Fatalf("%q: %v lacks %v", form, ids, want)
			}
		}
		id := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid"))
		text := FormatUUID(id)
		if back, ok := ParseUUID(text); !ok || back != id {
			t.Fatalf("%q does not read as %v", text, id)
		}
		for _, form := range []any{text, "urn:uuid:" + text, "URN:UUID:" + text, id[:]} {
			if ids, _ := Append(nil, "t", form); !slices.Contains(ids, tokens.Row("t", text)) {
				t.Fatalf("%v: %v lacks %s", form, ids, text)
			}
		}
	})
}

// pad puts zeros before the digits.
func pad(s string) string {
	if s[0] == '-' {
		return "-00" + s[1:]
	}
	return "00" + s
}
