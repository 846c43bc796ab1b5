package mysql

import (
	"database/sql/driver"
	"encoding/binary"
	"strings"
	"testing"

	gomysql "github.com/go-sql-driver/mysql"
	"pgregory.net/rapid"

	"github.com/alkey-go/alkey/txscope/internal/catalog"
)

func TestChooses(t *testing.T) {
	for text, want := range map[string]int{
		"":                                      0,
		"WHERE v > ? AND name = ?":              2,
		"WHERE name = '?' AND \"a?\" = `b?`":    0,
		"WHERE name = 'it''s' AND v = ?":        1,
		"WHERE LOWER(name) = ? ORDER BY id":     1,
		"WHERE v IN (?, ?, 3)":                  2,
		"WHERE v BETWEEN ? AND (v + ?)":         2,
		"WHERE d < ? - INTERVAL (1) DAY":        1,
		"WHERE limits = 1":                      0,
		"WHERE t.`select` = 5 and lcase(x) = 1": 0,
	} {
		if n, ok := chooses(text); !ok || n != want {
			t.Errorf("%q: %d, %v; want %d", text, n, ok, want)
		}
	}
	for _, text := range []string{
		"WHERE v < RAND()", "WHERE d < NOW()", "WHERE d < CURRENT_TIMESTAMP", "WHERE d < current_date - 1", "LIMIT 1", "WHERE v = 1 limit ?",
		"WHERE id IN (SELECT 1)", "WHERE v = @x", "WHERE @x := v", "WHERE v = app.f(1)", "WHERE v = f (1)", "WHERE v = f\n(1)", "WHERE v = 'a\\'b'",
		"WHERE v = 1 -- x", "WHERE v = 1 /*! AND w = 2 */", "WHERE v = 1 # x", "WHERE v = NEXT VALUE FOR s", "WHERE MATCH (a) AGAINST ('x')", "WHERE v = 'torn",
		"WHERE v = app.lower(1)", "WHERE UUID() = v", "WHERE d < UNIX_TIMESTAMP()", "WHERE d < LOCALTIME",
	} {
		if _, ok := chooses(text); ok {
			t.Errorf("%q counts as stable", text)
		}
	}
}

func TestLike(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"app", "app", true}, {"App", "app", true}, {"app", "apps", false}, {"app%", "apps", true}, {"%", "", true}, {"a_p", "axp", true},
		{`a\_p`, "axp", false}, {`a\_p`, "a_p", true}, {"%p%s", "apps", true}, {"", "a", false}, {"_", "", false},
	} {
		if got := likeFold(c.pattern, c.name); got != c.want {
			t.Errorf("%q like %q: %v", c.name, c.pattern, got)
		}
	}
}

func TestGrants(t *testing.T) {
	for _, c := range []struct {
		lines string
		want  bool
	}{
		{"GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*X'", false},
		{"GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION", true},
		{"GRANT SELECT, INSERT, TRIGGER ON `app`.* TO `u`@`%`", true},
		{"GRANT SELECT, INSERT ON `app`.* TO `u`@`%`", false},
		{"GRANT TRIGGER ON `other`.* TO `u`@`%`", false},
		{"GRANT TRIGGER ON `ap%`.* TO `u`@`%`", true},
		{"GRANT TRIGGER ON `app`.`users` TO `u`@`%`", false},
		{"GRANT EXECUTE ON PROCEDURE `app`.`p` TO `u`@`%`", false},
		{"GRANT `role`@`%` TO `u`@`%`", false},
		{"GRANT ALL PRIVILEGES ON *.* TO `u`@`%`\nREVOKE TRIGGER ON `app`.* FROM `u`@`%`", false},
		{"GRANT PROXY ON ''@'' TO 'root'@'localhost' WITH GRANT OPTION", false},
	} {
		var g grants
		for line := range strings.SplitSeq(c.lines, "\n") {
			g.add(line)
		}
		if got := g.has("app", "TRIGGER"); got != c.want {
			t.Errorf("%s: %v", c.lines, got)
		}
	}
}

// TestExact: what counts as certain is what the column holds.
func TestExact(t *testing.T) {
	column := func(kind catalog.Kind, c columnType) *table {
		return &table{Table: &catalog.Table{Columns: []catalog.Column{{Kind: kind}}}, types: []columnType{c}}
	}
	tiny := column(catalog.Integer, columnType{name: "tinyint"})
	small := column(catalog.Integer, columnType{name: "tinyint", unsigned: true})
	big := column(catalog.Integer, columnType{name: "bigint", unsigned: true})
	char := column(catalog.Text, columnType{name: "char", length: 5, ascii: true, utf8: true})
	varchar := column(catalog.Text, columnType{name: "varchar", length: 5, ascii: true, utf8: true})
	latin := column(catalog.Text, columnType{name: "varchar", length: 5, ascii: true})
	enum := column(catalog.Text, columnType{name: "enum", length: 5, ascii: true})
	fixed := column(catalog.Bytes, columnType{name: "binary", length: 2})
	raw := column(catalog.Bytes, columnType{name: "varbinary", length: 2})
	uuid := column(catalog.UUID, columnType{name: "uuid", length: -1})
	const id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	for _, c := range []struct {
		t        *table
		v        any
		compared bool
		utf8     bool
		want     any // nil: not certain
	}{
		{tiny, int64(127), false, false, int64(127)},
		{tiny, int64(-128), false, false, int64(-128)},
		{tiny, int64(128), false, false, nil},
		{tiny, int64(-129), false, false, nil},
		{tiny, uint64(128), false, false, nil},
		{tiny, true, true, false, int64(1)},
		{tiny, "1", true, false, nil},
		{tiny, 1.0, true, false, nil},
		{tiny, nil, true, false, nil},
		{tiny, sqlNull{}, false, false, nil},
		{small, int64(255), false, false, int64(255)},
		{small, int64(256), false, false, nil},
		{small, int64(-1), false, false, nil},
		{big, uint64(1<<64 - 1), false, false, uint64(1<<64 - 1)},
		{char, "abc", false, false, "abc"},
		{char, "abc ", false, false, nil},
		{char, "abc", true, false, nil},
		{varchar, "abc ", false, false, "abc "},
		{varchar, "abcdef", false, false, nil},
		{varchar, "üüüüü", false, true, "üüüüü"},
		{varchar, "ü", false, false, nil},
		{varchar, "\xff", false, true, nil},
		{latin, "ü", false, true, nil},
		{latin, "u", false, false, "u"},
		{enum, "a", false, false, nil},
		{fixed, []byte{1, 2}, true, false, []byte{1, 2}},
		{fixed, []byte{1}, true, false, nil},
		{raw, []byte{1}, true, false, []byte{1}},
		{raw, []byte{1, 2, 3}, false, false, nil},
		{raw, []byte(nil), false, false, nil},
		{uuid, strings.ToUpper(id), true, false, id},
		{uuid, "{" + id + "}", true, false, nil},
	} {
		got, ok := c.t.exact(0, c.v, c.compared, c.utf8)
		if b, isBytes := c.want.([]byte); isBytes {
			if g, _ := got.([]byte); !ok || string(g) != string(b) {
				t.Errorf("%s of %v: %v, %v", c.t.types[0].name, c.v, got, ok)
			}
			continue
		}
		if ok != (c.want != nil) || ok && got != c.want {
			t.Errorf("%s of %v: %v, %v; want %v", c.t.types[0].name, c.v, got, ok, c.want)
		}
	}
}

// okPacket is an answer to an UPDATE as the server sends it.
func okPacket(affected, id uint64, status uint16, info string) []byte {
	payload := []byte{0}
	payload = appendLength(payload, affected)
	payload = appendLength(payload, id)
	payload = binary.LittleEndian.AppendUint16(payload, status)
	payload = append(payload, 0, 0)
	payload = appendLength(payload, uint64(len(info)))
	payload = append(payload, info...)
	return append([]byte{byte(len(payload)), 0, 0, 1}, payload...)
}

func appendLength(b []byte, n uint64) []byte {
	switch {
	case n < 251:
		return append(b, byte(n))
	case n < 1<<16:
		return append(b, 0xfc, byte(n), byte(n>>8))
	case n < 1<<24:
		return append(b, 0xfd, byte(n), byte(n>>8), byte(n>>16))
	}
	return binary.LittleEndian.AppendUint64(append(b, 0xfe), n)
}

func TestMatched(t *testing.T) {
	status := uint16(3)
	compress := false
	w := func(packet []byte) *wire {
		buf := append(packet, make([]byte, 200)...)
		return &wire{status: &status, compress: &compress, packets: &buf, config: new(gomysql.Config)}
	}
	rapid.Check(t, func(t *rapid.T) {
		changed := rapid.Int64Range(0, 1<<40).Draw(t, "changed")
		matched := changed + rapid.Int64Range(0, 1000).Draw(t, "more")
		info := rapid.SampledFrom([]string{"Rows matched: %m  Changed: %c  Warnings: 0", "Datensätze gefunden: %m  Geändert: %c  Warnungen: 7"}).Draw(t, "info")
		info = strings.NewReplacer("%m", text(matched), "%c", text(changed)).Replace(info)
		packet := okPacket(uint64(changed), rapid.Uint64().Draw(t, "id"), status, info)
		if n, ok := w(packet).matched(changed); !ok || n != matched {
			t.Fatalf("%d, %v; want %d", n, ok, matched)
		}
		if n, ok := w(packet).matched(changed + 1); ok {
			t.Fatalf("another answer's: %d", n)
		}
		wiped := w(packet)
		wiped.forget()
		if n, ok := wiped.matched(changed); ok {
			t.Fatalf("an answer that was wiped: %d", n)
		}
		torn := w(packet[4:])
		if n, ok := torn.matched(changed); ok && n != matched {
			t.Fatalf("an answer without its header: %d", n)
		}
	})
}

// FuzzMatched: whatever is in the buffer, it is read within its bounds.
func FuzzMatched(f *testing.F) {
	f.Add(okPacket(2, 0, 3, "Rows matched: 3  Changed: 2  Warnings: 0"), int64(2))
	f.Fuzz(func(t *testing.T, buf []byte, affected int64) {
		status, compress := uint16(3), false
		w := &wire{status: &status, compress: &compress, packets: &buf, config: new(gomysql.Config)}
		if n, ok := w.matched(affected); ok && n < affected {
			t.Errorf("%d rows matched and %d changed", n, affected)
		}
	})
}

// FuzzChooses: what counts as stable has no word that is not.
func FuzzChooses(f *testing.F) {
	f.Add("WHERE v > ? AND name = 'x' ORDER BY id")
	f.Add("WHERE v < RAND() LIMIT 1")
	f.Fuzz(func(t *testing.T, text string) {
		n, stable := chooses(text)
		if n < 0 || n > strings.Count(text, "?") {
			t.Errorf("%d placeholders", n)
		}
		if stable && strings.ContainsAny(text, "@#\\") {
			quoted := strings.ContainsAny(text, "'\"`")
			if !quoted {
				t.Errorf("%q is stable", text)
			}
		}
	})
}

func TestWireRefusesOthers(t *testing.T) {
	if _, err := wireOf(struct{ driver.Conn }{}); err == nil {
		t.Error("a connection that is none of the driver's is taken")
	}
	if _, err := wireOf(nil); err == nil {
		t.Error("nil is taken")
	}
}
