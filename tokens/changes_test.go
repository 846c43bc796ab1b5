package tokens

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseChanges(t *testing.T) {
	for _, c := range []struct {
		args []any
		want []ID
	}{
		{nil, nil},
		{[]any{user{ID: 1}, "alkey:users#2", Row("users", 1)}, []ID{Row("users", 1), Row("users", 2)}},
		{[]any{Row("b", 1), Table("a")}, []ID{Table("a"), Row("b", 1)}},
		{[]any{Row("a", 1), Table("a"), Row("a", 2)}, []ID{Table("a")}},
		{[]any{&user{}}, []ID{Table("users")}},
		{[]any{reflect.TypeFor[user]()}, []ID{Table("users")}},
		{[]any{Row("a", 1), Global}, []ID{Global}},
		{[]any{[]user{{ID: 1}, {ID: 2}}}, []ID{Row("users", 1), Row("users", 2)}},
		{[]any{[]ID{Row("a", 1)}, []*user{}}, []ID{Row("a", 1)}},
		{[]any{[]user{}}, nil},
	} {
		changes, err := ParseChanges(c.args...)
		if err != nil {
			t.Errorf("%v: %v", c.args, err)
			continue
		}
		if got := changes.IDs(); !slices.Equal(got, c.want) {
			t.Errorf("%v changes %v, want %v", c.args, got, c.want)
		}
		if changes.Empty() != (len(c.want) == 0) {
			t.Errorf("%v: empty: %v", c.args, changes.Empty())
		}
	}
}

func TestParseChangesThatNameNothing(t *testing.T) {
	for _, c := range []struct {
		arg  any
		kind error
	}{
		{"users", ErrMalformed}, {nil, ErrMalformed}, {1, ErrMalformed}, {Text("alkey:users#1"), ErrMalformed}, {"%(1)", ErrMalformed},
		{[]int{1}, ErrMalformed}, {[]any{}, ErrMalformed}, {Row("users", nil), ErrMalformed}, {Table(""), ErrMalformed}, {"alkey:users", ErrMalformed},
		{(*user)(nil), ErrModel}, {noKey{}, ErrModel}, {[]any{user{ID: 1}, 1}, ErrModel}, {func() {}, ErrUnstable},
	} {
		changes, err := ParseChanges(Row("a", 1), c.arg)
		if !errors.Is(err, c.kind) || changes != nil || !strings.HasPrefix(err.Error(), "alkey: ") {
			t.Errorf("%T %v: %v, %v", c.arg, c.arg, changes, err)
		}
	}
}

func TestChangesOfManyRows(t *testing.T) {
	c := new(Changes)
	c.Add(Row("b", 1))
	for i := range MaxRowsPerTable {
		c.Add(Row("a", i))
		c.Add(Row("a", i))
	}
	if got := len(c.IDs()); got != MaxRowsPerTable+1 {
		t.Errorf("%d changes, want each of the rows", got)
	}
	if c.Affect(Row("a", MaxRowsPerTable)) {
		t.Error("a row that was not changed is affected")
	}
	c.Add(Row("a", MaxRowsPerTable))
	c.Add(Row("a", 0))
	if got, want := c.IDs(), []ID{Table("a"), Row("b", 1)}; !slices.Equal(got, want) {
		t.Errorf("one row more: %v, want %v", got, want)
	}
	if !c.Affect(Row("a", -1)) || c.Affect(Row("b", 2)) {
		t.Error("one row more does not change the whole table, or another's")
	}
}

func TestChangesThatCannotBeNamed(t *testing.T) {
	for _, id := range []ID{{}, sweepAll, {Table: all, Row: "1"}} {
		if got := NewChanges(Row("a", 1), id).IDs(); !slices.Equal(got, []ID{Global}) {
			t.Errorf("%s changes %v, want everything", id, got)
		}
	}
	if got := NewChanges(ID{"a", sweep}).IDs(); !slices.Equal(got, []ID{Table("a")}) {
		t.Errorf("the sweep of a table changes %v", got)
	}
}

// manyIDs are someIDs, and so many rows that a list does not hold them.
func manyIDs() *rapid.Generator[ID] {
	rows := rapid.Custom(func(t *rapid.T) ID {
		return Row(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "table"), rapid.IntRange(1, 2*fewChanges).Draw(t, "row"))
	})
	tables := rapid.Map(rapid.IntRange(1, 2*fewChanges), func(n int) ID { return Table(fmt.Sprintf("t%d", n)) })
	return rapid.OneOf(rows, rows, rows, tables, rapid.SampledFrom([]ID{Table("a"), Table("b"), Row("a", 1), Row("b", 1)}), someIDs())
}

// The records that a write affects and the ones that a reader looks at meet exactly where Affect
// says so, and that is where one of the changes affects the reader's argument.
func TestChangesAffect(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfN(manyIDs(), 0, 3*fewChanges).Draw(t, "changes")
		c := NewChanges(ids...)
		records := c.records()
		if c.size() != len(records) && !c.Empty() {
			t.Fatalf("size %d, but the records are %v", c.size(), records)
		}
		if sorted := slices.SortedFunc(slices.Values(records), compareIDs); len(slices.Compact(sorted)) != len(records) {
			t.Fatalf("records repeat: %v", records)
		}
		if got := c.IDs(); !slices.IsSortedFunc(got, compareIDs) {
			t.Fatalf("IDs are out of order: %v", got)
		}
		if got := NewChanges(c.IDs()...); !slices.Equal(got.IDs(), c.IDs()) {
			t.Fatalf("%v make %v", c.IDs(), got.IDs())
		}
		arg := someIDs().Draw(t, "argument")
		one := slices.ContainsFunc(ids, arg.DependsOn)
		met := slices.ContainsFunc(appendDependencies(nil, arg), func(id ID) bool { return slices.Contains(records, id) })
		if c.Affect(arg) != one || met != one {
			t.Fatalf("%v on %s: Affect %v, records %v, one by one %v", ids, arg, c.Affect(arg), met, one)
		}
	})
}

func TestChangesMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(manyIDs(), 0, 2*fewChanges).Draw(t, "a")
		b := rapid.SliceOfN(manyIDs(), 0, 2*fewChanges).Draw(t, "b")
		c := NewChanges(a...)
		clone := c.Clone()
		before := c.IDs()
		clone.Merge(NewChanges(b...))
		if want := NewChanges(slices.Concat(b, a)...).IDs(); !slices.Equal(clone.IDs(), want) {
			t.Fatalf("%v and %v make %v, want %v", a, b, clone.IDs(), want)
		}
		if !slices.Equal(c.IDs(), before) {
			t.Fatalf("a change of the clone reached the original: %v", c.IDs())
		}
		clone.Merge(clone)
		if want := NewChanges(slices.Concat(b, a)...).IDs(); !slices.Equal(clone.IDs(), want) {
			t.Fatalf("merged with itself: %v, want %v", clone.IDs(), want)
		}
	})
}
