package sqlite_test

import (
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/alkey-go/alkey/tokens"
)

// UUIDs as the usual packages have them: bytes with a text, that the database is sent as text or
// as bytes.
type (
	uuid       [16]byte
	textUUID   struct{ uuid }
	binaryUUID struct{ uuid }
)

func (u uuid) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func (u uuid) MarshalText() ([]byte, error)       { return []byte(u.String()), nil }
func (u textUUID) Value() (driver.Value, error)   { return u.String(), nil }
func (u binaryUUID) Value() (driver.Value, error) { return u.uuid[:], nil }
func (u *binaryUUID) Scan(v any) error            { copy(u.uuid[:], v.([]byte)); return nil }
func (u *textUUID) Scan(v any) error              { return scanUUID(&u.uuid, v) }
func (u *uuid) Scan(v any) error                  { return scanUUID(u, v) }

func scanUUID(u *uuid, v any) error {
	switch v := v.(type) {
	case []byte:
		if len(v) == 16 {
			copy(u[:], v)
			return nil
		}
		return scanUUID(u, string(v))
	case string:
		b, err := hex.DecodeString(strings.NewReplacer("-", "", "{", "", "}", "", "urn:uuid:", "").Replace(v))
		copy(u[:], b)
		return err
	}
	return fmt.Errorf("a UUID of type %T", v)
}

type slug string // a type made of string, with a text of its own

func (s slug) String() string { return "slug " + string(s) }

// money is sent to the database as an integer.
type money struct{ cents int64 }

func (m money) Value() (driver.Value, error) { return m.cents, nil }
func (m *money) Scan(v any) error            { m.cents = v.(int64); return nil }

// row is a model of table log with one key.
type row[K any] struct {
	ID K `db:"id"`
}

func (row[K]) TableName() string { return "log" }

type pair struct {
	Who slug `alkey:"pk" db:"who"`
	Grp int  `alkey:"pk" db:"grp"`
}

func (pair) TableName() string { return "log" }

// A model that was read from the database has the key that a write of its row changes: whatever Go's
// type, and however the database spells it.
func TestModelsAreWhatIsWritten(t *testing.T) {
	const text, upper, packed = "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "6BA7B8109DAD11D180B400C04FD430C8"
	type test struct {
		name, column, value string
		read                func(f *fixture) any
	}
	read := func(into any) func(f *fixture) any {
		return func(f *fixture) any {
			f.Helper()
			f.must(f.db.Get(into, `SELECT id FROM log`))
			return into
		}
	}
	for _, c := range []test{
		{"int", "INTEGER", `7`, read(&row[int]{})},
		{"uint8", "INTEGER", `7`, read(&row[uint8]{})},
		{"negative", "INTEGER", `-7`, read(&row[int64]{})},
		{"zero", "TEXT", `'0'`, read(&row[string]{})},
		{"int from text", "TEXT", `'007'`, read(&row[int]{})},
		{"text that looks like an integer", "TEXT", `'007'`, read(&row[string]{})},
		{"text from an integer", "INTEGER", `7`, read(&row[string]{})},
		{"int that is no alias of the rowid", "INT", `'0x7'`, read(&row[string]{})},
		{"text", "TEXT", `'ü #*/'`, read(&row[string]{})},
		{"a type made of string", "VARCHAR(20)", `'x'`, read(&row[slug]{})},
		{"bytes", "BLOB", `x'00ff2a'`, read(&row[[]byte]{})},
		{"text as bytes", "TEXT", `'x'`, read(&row[[]byte]{})},
		{"a Valuer of integers", "INTEGER", `250`, read(&row[money]{})},
		{"bool", "BOOLEAN", `1`, read(&row[bool]{})},
		{"a UUID in text", "TEXT", `'` + text + `'`, read(&row[uuid]{})},
		{"a UUID in capitals", "TEXT", `'` + upper + `'`, read(&row[uuid]{})},
		{"a UUID without dashes", "TEXT", `'` + packed + `'`, read(&row[uuid]{})},
		{"a UUID in braces", "TEXT", `'{` + text + `}'`, read(&row[uuid]{})},
		{"a UUID as urn", "TEXT", `'urn:uuid:` + text + `'`, read(&row[uuid]{})},
		{"a UUID in 16 bytes", "BLOB", `x'` + packed + `'`, read(&row[uuid]{})},
		{"a UUID in 16 bytes, as they are", "BLOB", `x'` + packed + `'`, read(&row[[]byte]{})},
		{"a UUID that is sent as text", "TEXT", `'` + text + `'`, read(&row[textUUID]{})},
		{"a UUID that is sent as text, in capitals", "TEXT", `'` + upper + `'`, read(&row[textUUID]{})},
		{"a UUID that is sent as bytes", "BLOB", `x'` + packed + `'`, read(&row[binaryUUID]{})},
		{"a UUID in text, as it is", "TEXT", `'` + upper + `'`, read(&row[string]{})},
	} {
		for _, table := range []string{"", "WITHOUT ROWID"} {
			t.Run(c.name+" "+table, func(t *testing.T) {
				f := setUp(t)
				f.exec(`CREATE TABLE log (id ` + c.column + ` PRIMARY KEY, v INT) ` + table)
				f.exec(`INSERT INTO log VALUES (` + c.value + `, 0)`)
				model := c.read(f)
				id, ok := tokens.Identify(model)
				if !ok || id.IsTable() {
					t.Fatalf("%+v is %s", model, id)
				}
				f.changes(func() { f.exec(`UPDATE log SET v = v + 1`) }, ids(id), tokens.Row("log", "another"))
				f.changes(func() { f.exec(`DELETE FROM log`) }, ids(id), tokens.Row("log", "another"))
			})
		}
	}
}

func TestModelsWithCompositeKeysAreWhatIsWritten(t *testing.T) {
	for _, who := range []string{"x", "a,b", "", "007", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8"} {
		for _, grp := range []string{"7", "'07'"} {
			t.Run(who+" "+grp, func(t *testing.T) {
				f := setUp(t)
				f.exec(`CREATE TABLE log (v INT, grp TEXT, who TEXT, PRIMARY KEY (who, grp))`)
				f.exec(`INSERT INTO log VALUES (0, `+grp+`, ?)`, who)
				var p pair
				f.must(f.db.Get(&p, `SELECT who, grp FROM log`))
				id, ok := tokens.Identify(p)
				if !ok || id.IsTable() {
					t.Fatalf("%+v is %s", p, id)
				}
				f.changes(func() { f.exec(`UPDATE log SET v = v + 1`) }, ids(id), tokens.Row("log", "x", 8))
			})
		}
	}
}
