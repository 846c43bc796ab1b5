package tokens

import (
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
)

type user struct {
	ID   int64
	Name string
}

func (user) TableName() string { return "users" }

type byPointer struct{ ID uint32 }

func (*byPointer) TableName() string { return "Pointers" }

type tagged struct {
	ID   int `db:"id"`
	Code string
	Real string `alkey:"pk"`
}

func (tagged) TableName() string { return "tagged" }

type member struct {
	Org  int64 `alkey:"pk"`
	Note string
	User *string `alkey:"pk"`
}

func (member) TableName() string { return "members" }

type dbTagged struct {
	ID  string `db:"code"`
	Key int    `db:"id,omitempty"`
}

func (dbTagged) TableName() string { return "db" }

type base struct {
	ID      int `db:"id"`
	Created int
}

type Base struct {
	ID int `db:"id"`
}

type embeds struct {
	base
	Name string
}

func (embeds) TableName() string { return "embeds" }

type embedsPointer struct {
	*Base
	Name string
}

func (embedsPointer) TableName() string { return "embeds_pointer" }

type hides struct {
	base
	Key string `db:"id"`
}

func (hides) TableName() string { return "hides" }

type admin struct {
	user
	Level int
}

type PromotedUser = user

type lostAdmin struct{ *PromotedUser }

type withUUID struct{ ID uuid.UUID }

func (withUUID) TableName() string { return "uuids" }

type withNull struct{ ID sql.NullInt64 }

func (withNull) TableName() string { return "nulls" }

type withPointer struct{ ID *int }

func (withPointer) TableName() string { return "pointers" }

type withAny struct{ ID any }

func (withAny) TableName() string { return "any" }

type withText struct{ ID string }

func (withText) TableName() string { return "texts" }

type withLoud struct{ ID loudInt }

func (withLoud) TableName() string { return "loud" }

type knows struct{ table, row string }

func (k *knows) AlkeyID() (string, string) { return k.table, k.row }
func (k knows) TableName() string          { return "not asked" }

type slug string

func (s slug) AlkeyID() (string, string) { return "slugs", string(s) }

type partitioned struct {
	ID   int
	Year int
}

func (p partitioned) TableName() string { return fmt.Sprintf("orders_%d", p.Year) }

type schema struct{ ID int }

func (schema) TableName() string { return "Shop.Order Lines" }

type userPointer *user

func TestIdentifyModels(t *testing.T) {
	id := uuid.MustParse("0198c0de-0000-7000-8000-00000000abcd")
	u := &user{ID: 1}
	for _, c := range []struct {
		v    any
		want ID
	}{
		{user{ID: 1}, Row("users", 1)},
		{u, Row("users", 1)},
		{&u, Row("users", 1)},
		{pointer(&u), Row("users", 1)},
		{userPointer(u), Row("users", 1)},
		{user{}, Table("users")},
		{&user{Name: "new"}, Table("users")},
		{byPointer{ID: 2}, Row("pointers", 2)},
		{&byPointer{ID: 2}, Row("pointers", 2)},
		{pointer(&byPointer{ID: 2}), Row("pointers", 2)},
		{tagged{ID: 1, Real: "r/1"}, Row("tagged", "r/1")},
		{tagged{ID: 1}, Table("tagged")},
		{member{Org: 7, User: pointer("x")}, Row("members", 7, "x")},
		{member{Org: 0, User: pointer("x")}, Row("members", 0, "x")},
		{member{Org: 7, User: pointer("")}, Row("members", 7, "")},
		{member{Org: 7}, Table("members")},
		{member{User: pointer("")}, Table("members")},
		{dbTagged{ID: "no", Key: 4}, Row("db", 4)},
		{embeds{base: base{ID: 5}}, Row("embeds", 5)},
		{embedsPointer{Base: &Base{ID: 5}}, Row("embeds_pointer", 5)},
		{&embedsPointer{}, Table("embeds_pointer")},
		{hides{base: base{ID: 5}, Key: "k"}, Row("hides", "k")},
		{admin{user: user{ID: 6}}, Row("users", 6)},
		{lostAdmin{&user{ID: 6}}, Row("users", 6)},
		{withUUID{id}, Row("uuids", id)},
		{withUUID{}, Table("uuids")},
		{withNull{sql.NullInt64{Int64: 8, Valid: true}}, Row("nulls", 8)},
		{withNull{}, Table("nulls")},
		{withPointer{pointer(9)}, Row("pointers", 9)},
		{withPointer{}, Table("pointers")},
		{withAny{"x"}, Row("any", "x")},
		{withAny{}, Table("any")},
		{withText{"*"}, Row("texts", "*")},
		{withText{"alkey:users#1"}, Row("texts", "alkey:users#1")},
		{withLoud{7}, Row("loud", 7)},
		{&knows{"Docs", "a,b"}, Row("docs", "a,b")},
		{knows{"docs", ""}, Table("docs")},
		{slug("x y"), Row("slugs", "x y")},
		{partitioned{ID: 1, Year: 2025}, Row("orders_2025", 1)},
		{partitioned{ID: 1, Year: 2026}, Row("orders_2026", 1)},
		{schema{ID: 1}, ID{Table: "shop.order%20lines", Row: "1"}},

		{reflect.TypeFor[user](), Table("users")},
		{reflect.TypeFor[*user](), Table("users")},
		{reflect.TypeFor[byPointer](), Table("pointers")},
		{reflect.TypeFor[slug](), Table("slugs")},
		{reflect.TypeFor[noKey](), Table("no_keys")},
		{pointer(reflect.TypeFor[user]()), Table("users")},

		{Row("users", 1), Row("users", 1)},
		{pointer(Global), Global},
		{"alkey:Users#1", Row("users", 1)},
		{pointer("alkey:*#*"), Global},
		{namedString("alkey:users#*"), Table("users")},
	} {
		got, err := identify(c.v)
		if err != nil {
			t.Errorf("%T %+v: %v", c.v, c.v, err)
			continue
		}
		sameID(t, fmt.Sprintf("%T %+v", c.v, c.v), got, c.want)
		if again, ok := Identify(c.v); !ok || again != got {
			t.Errorf("Identify(%T) = %s, %v", c.v, again, ok)
		}
	}
}

type noKey struct{ Name string }

func (noKey) TableName() string { return "no_keys" }

type hiddenKey struct {
	id int `alkey:"pk"`
}

func (hiddenKey) TableName() string { return "t" }

type mapKey struct{ ID map[string]int }

func (mapKey) TableName() string { return "t" }

type rawArrayKey struct{ ID [16]byte }

func (rawArrayKey) TableName() string { return "t" }

type selfKey struct{ ID *selfKey }

func (selfKey) TableName() string { return "t" }

type badTag struct {
	ID int `alkey:"key"`
}

func (badTag) TableName() string { return "t" }

type First struct {
	A int `db:"id"`
}
type Second struct {
	B int `db:"id"`
}
type ambiguous struct {
	First
	Second
}

func (ambiguous) TableName() string { return "t" }

type noName struct{ ID int }

func (noName) TableName() string { return "" }

type notStruct []string

func (notStruct) TableName() string { return "t" }

type panics struct{ ID int }

func (panics) TableName() string { panic("no table today") }

type panicsID struct{ ID int }

func (*panicsID) AlkeyID() (string, string) { panic("no row today") }

type failingKey struct{ ID failing }

func (failingKey) TableName() string { return "t" }

func TestModelsThatCannotBeIdentified(t *testing.T) {
	var nilUser *user
	for _, c := range []struct {
		v      any
		reason string
	}{
		{nilUser, "it is nil"},
		{&nilUser, "it is nil"},
		{(*slug)(nil), "it is nil"},
		{noKey{"x"}, "has no key; tag"},
		{hiddenKey{1}, "field id, is unexported"},
		{mapKey{}, "field ID, is of type map[string]int"},
		{rawArrayKey{}, "field ID, is of type [16]uint8"},
		{selfKey{}, "field ID, is of type *tokens.selfKey"},
		{badTag{1}, `unknown tag`},
		{ambiguous{}, "fields A and B are both"},
		{noName{1}, "TableName gives no name"},
		{notStruct{"x"}, "no struct"},
		{panics{1}, "TableName of tokens.panics panicked: no table today"},
		{panicsID{1}, "AlkeyID of *tokens.panicsID panicked: no row today"},
		{lostAdmin{}, "TableName of tokens.lostAdmin panicked"},
		{failingKey{}, "it failed"},
		{withAny{[]int{1}}, "[]int has no stable text"},
		{&knows{}, "AlkeyID gives no table"},
		{reflect.TypeFor[int](), "type int is no model"},
		{reflect.TypeFor[panics](), "panicked"},
		{reflect.TypeFor[knows](), "zero value gives no table"},
	} {
		_, err := AppendSegments(nil, "x", c.v)
		want := fmt.Sprintf("argument 2 (%T)", c.v)
		if !errors.Is(err, ErrModel) || !strings.Contains(err.Error(), c.reason) || !strings.Contains(err.Error(), want) {
			t.Errorf("%T: %v, want it to say %q and %q", c.v, err, want, c.reason)
		}
		if id, ok := Identify(c.v); ok {
			t.Errorf("%T is identified as %s", c.v, id)
		}
		if id, err := identify(c.v); !errors.Is(err, ErrModel) || !strings.HasPrefix(err.Error(), "alkey: ") {
			t.Errorf("%T: identify gives %s, %v", c.v, id, err)
		}
	}
}

func TestIdentifyTellsWhatToPass(t *testing.T) {
	for _, v := range []any{"users", 1, nil, Text("alkey:users#1"), struct{}{}, []int{1}, (*int)(nil), "alkey:users", []user{{ID: 1}}, []user{}} {
		id, err := identify(v)
		if !errors.Is(err, ErrMalformed) || !id.IsZero() {
			t.Errorf("%#v: %s, %v", v, id, err)
		}
		if _, ok := Identify(v); ok {
			t.Errorf("%#v is identified", v)
		}
	}
	_, err := identify("users")
	if !strings.Contains(err.Error(), "tokens.Table") {
		t.Errorf("no remedy: %v", err)
	}
	if _, ok := Identify(func() {}); ok {
		t.Error("a function is identified")
	}
}

// The shapes of types are made once and shared.
func TestIdentifyConcurrently(t *testing.T) {
	type fresh struct{ embeds }
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			v := fresh{embeds{base: base{ID: i + 1}}}
			if id, err := identify(&v); err != nil || id != Row("embeds", i+1) {
				t.Errorf("got %s, %v", id, err)
			}
		})
	}
	all.Wait()
}
