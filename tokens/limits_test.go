package tokens

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

type document struct {
	Path string `alkey:"pk"`
}

func (document) TableName() string { return "documents" }

type link struct {
	From string `alkey:"pk"`
	To   string `alkey:"pk"`
}

func (link) TableName() string { return "links" }

type titled struct{ title string }

func (t titled) AlkeyID() (table, row string) { return "titles", t.title }

// TestLongIdentifiers: whoever names a row that has a very long key, the reader and the writer, in
// whatever way, names it by the same short identifier.
func TestLongIdentifiers(t *testing.T) {
	long := strings.Repeat("/a/long/path", 1000)
	encoded := strings.Repeat("%2Fa%2Flong%2Fpath", 1000)
	for name, same := range map[string][]any{
		"a row":            {Row("documents", long), document{long}, &document{long}, "alkey:documents#" + encoded, "alkey:DOCUMENTS#" + strings.ToLower(strings.ReplaceAll(encoded, "p", "%70"))},
		"a composite key":  {Row("links", long, "b"), link{long, "b"}, "alkey:links#" + encoded + ",b"},
		"the other part":   {Row("links", "b", long), link{"b", long}, "alkey:links#b," + encoded},
		"many short parts": {Row("links", strings.Repeat("a", 300), strings.Repeat("b", 300)), link{strings.Repeat("a", 300), strings.Repeat("b", 300)}},
		"AlkeyID":          {Row("titles", long), titled{long}},
		"a table":          {Table(long), "alkey:" + encoded + "#*", "alkey:" + strings.ToUpper(encoded) + "#*"},
		"a table's row":    {Row(long, 1), "alkey:" + encoded + "#1"},
	} {
		first, ok := Identify(same[0])
		if !ok {
			t.Fatalf("%s: %v is no identifier", name, same[0])
		}
		if n := len(first.String()); n > 1031 {
			t.Errorf("%s: the identifier has %d bytes", name, n)
		}
		if f := first.check(); f != nil {
			t.Errorf("%s: %s is no valid ID: %s", name, first, f.why)
		}
		if again, err := ParseID(first.String()); err != nil || again != first {
			t.Errorf("%s: %s is read as %s, %v", name, first, again, err)
		}
		for i, v := range same[1:] {
			if id, ok := Identify(v); !ok || id != first {
				t.Errorf("%s: number %d is %.100s, want %s", name, i+1, id, first)
			}
		}
	}
	for name, ids := range map[string][2]ID{
		"the end differs":          {Row("documents", long+"1"), Row("documents", long+"2")},
		"the parts differ":         {Row("links", long+"a", "b"), Row("links", long, "a"+"b")},
		"a key like a digest":      {Row("documents", long), Row("documents", Row("documents", long).Row)},
		"a table like a digest":    {Table(long), Table(Table(long).Table)},
		"a row of another table":   {Row("documents", long), Row("links", long)},
		"long, and all of a table": {Row("documents", long), Table("documents")},
	} {
		if ids[0] == ids[1] {
			t.Errorf("%s: both are %s", name, ids[0])
		}
	}
}

// TestLongIdentifiersBegin fixes where: what is not too long is readable.
func TestLongIdentifiersBegin(t *testing.T) {
	for n, want := range map[int]string{
		512: strings.Repeat("a", 512),
		513: "%sha256-02425c0f5b0dabf3d2b9115f3f7723a02ad8bcfb1534a0d231614fd42b8188f6",
	} {
		if id := Row("t", strings.Repeat("a", n)); id.Row != want {
			t.Errorf("a key of %d bytes gives %s, want %s", n, id.Row, want)
		}
	}
	byHand := ID{"t", strings.Repeat("a", 513)}
	if _, err := byHand.MarshalText(); !errors.Is(err, ErrMalformed) {
		t.Errorf("an ID with a long row, put together by hand: %v", err)
	}
	if _, err := ParseChanges(byHand); !errors.Is(err, ErrMalformed) {
		t.Errorf("as an argument of a write: %v", err)
	}
	for _, text := range []string{
		"alkey:t#%sha256-", "alkey:t#%sha256-" + strings.Repeat("A", 64), "alkey:t#%sha256-" + strings.Repeat("a", 65), "alkey:t#%sha256-" + strings.Repeat("a", 63) + "g",
		"alkey:t#1,%sha256-" + strings.Repeat("a", 64),
	} {
		if id, err := ParseID(text); err == nil {
			t.Errorf("%s is read as %s", text, id)
		}
	}
}

// someLimits are small, so that a few changes pass them.
func someLimits() *rapid.Generator[ChangeLimits] {
	return rapid.Custom(func(t *rapid.T) ChangeLimits {
		return ChangeLimits{
			RowsPerTable: rapid.IntRange(1, 2*fewChanges).Draw(t, "rows per table"),
			Rows:         rapid.IntRange(1, 3*fewChanges).Draw(t, "rows"),
			Tables:       rapid.IntRange(1, 2*fewChanges).Draw(t, "tables"),
		}
	})
}

// within checks that changes keep limits.
func (l *ChangeLimits) within(t *rapid.T, c *Changes) {
	rows, tables := map[string]int{}, map[string]bool{}
	all := 0
	for id := range c.All {
		if id == Global {
			return
		}
		tables[id.Table] = true
		if !id.IsTable() {
			rows[id.Table]++
			all++
		}
	}
	for table, n := range rows {
		if n > l.RowsPerTable {
			t.Fatalf("%d rows of %s are told apart, limits %+v", n, table, *l)
		}
	}
	if all > l.Rows || len(tables) > l.Tables {
		t.Fatalf("%d rows of %d tables are told apart, limits %+v", all, len(tables), *l)
	}
	if gotRows, gotTables := c.told(); gotRows != all || gotTables != len(tables) {
		t.Fatalf("it counts %d rows of %d tables, and there are %d of %d", gotRows, gotTables, all, len(tables))
	}
}

// TestChangesKeepLimits: nothing that was changed is lost, whatever the limits; and while none is passed
// nothing else is changed.
func TestChangesKeepLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := someLimits().Draw(t, "limits")
		c := &Changes{limits: &limits}
		free := &Changes{limits: &ChangeLimits{RowsPerTable: 1 << 20, Rows: 1 << 20, Tables: 1 << 20}}
		passed := false
		for range rapid.IntRange(0, 6*fewChanges).Draw(t, "n") {
			id := manyIDs().Draw(t, "id")
			c.Add(id)
			free.Add(id)
			limits.within(t, c)
			if !c.Affect(id) {
				t.Fatalf("%s was added and is not affected", id)
			}
			if rapid.IntRange(0, 20).Draw(t, "clone") == 0 {
				c = c.Clone()
				limits.within(t, c)
			}
			rows, tables := free.told()
			passed = passed || rows > limits.Rows || tables > limits.Tables
			for _, table := range free.tables {
				passed = passed || len(table) > limits.RowsPerTable
			}
			if free.tables == nil {
				for _, a := range free.list {
					n := 0
					for _, b := range free.list {
						if a.Table == b.Table && b.Row != all {
							n++
						}
					}
					passed = passed || n > limits.RowsPerTable
				}
			}
		}
		for id := range free.All {
			if !c.Affect(id) {
				t.Fatalf("%s was changed and is lost", id)
			}
		}
		if !passed && !slices.Equal(c.IDs(), free.IDs()) {
			t.Fatalf("within the limits %v are %v", free.IDs(), c.IDs())
		}
	})
}

// TestWritesKeepLimits: savepoints share the limits of their transaction.
func TestWritesKeepLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := someLimits().Draw(t, "limits")
		w := new(Ledger).Begin()
		w.Limit(&limits)
		layers := [][]ID{nil}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				id := manyIDs().Draw(t, "id")
				w.Add(id)
				layers[len(layers)-1] = append(layers[len(layers)-1], id)
			},
			"savepoint": func(t *rapid.T) {
				w.Savepoint(fmt.Sprint(len(layers)))
				layers = append(layers, nil)
			},
			"release": func(t *rapid.T) {
				if len(layers) > 1 {
					last := len(layers) - 1
					w.ReleaseSavepoint(fmt.Sprint(last))
					layers[last-1] = append(layers[last-1], layers[last]...)
					layers = layers[:last]
				}
			},
			"roll back": func(t *rapid.T) {
				if len(layers) > 1 {
					w.RollbackTo(fmt.Sprint(len(layers) - 1))
					layers[len(layers)-1] = nil
				}
			},
			"": func(t *rapid.T) {
				c := w.Changes()
				limits.within(t, c)
				for _, id := range slices.Concat(layers...) {
					if !c.Affect(id) {
						t.Fatalf("%s was changed and is lost", id)
					}
				}
				rows, tables := 0, 0
				for i := range w.layers {
					limits.within(t, &w.layers[i].changes)
					r, n := w.layers[i].changes.told()
					rows, tables = rows+r, tables+n
				}
				if rows > limits.Rows || tables > limits.Tables {
					t.Fatalf("%d rows of %d tables are kept in %d layers, limits %+v", rows, tables, len(w.layers), limits)
				}
			},
		})
	})
}

// TestDefaultLimits: what a transaction can take is bounded where nobody sets anything.
func TestDefaultLimits(t *testing.T) {
	w := new(Ledger).Begin()
	for i := range 11 {
		for row := range MaxRowsPerTable {
			w.Add(Row(fmt.Sprint("t", i), row))
		}
	}
	c := w.Changes()
	if rows, tables := c.told(); rows > 10_000 || tables != 11 || !c.Affect(Row("t0", -1)) || c.Affect(Row("t11", 1)) {
		t.Errorf("of 11,000 rows of 11 tables %d rows of %d tables are told apart", rows, tables)
	}
	for i := range 1000 {
		w.Add(Row(fmt.Sprint("t", i), 1))
	}
	if got := w.Changes(); got.Affect(Row("other", 1)) {
		t.Error("1,000 tables are everything")
	}
	w.Add(Table("other"))
	if got := w.Changes().IDs(); !slices.Equal(got, []ID{Global}) {
		t.Errorf("1,001 tables are %d changes, want everything", len(got))
	}
	if full := (&ChangeLimits{Rows: 5}).complete(); *full != (ChangeLimits{MaxRowsPerTable, 5, 1000}) {
		t.Errorf("limits with defaults are %+v", *full)
	}
}

// TestWaitingIsBoundedInBytes: what waits for a store that is down is bounded in bytes too, however long the
// keys of rows are.
func TestWaitingIsBoundedInBytes(t *testing.T) {
	b := &deadBackend{Backend: NewMemoryBackend(MemoryOptions{})}
	s := New(b, WithMaxWaiting(100), WithLogger(slog.New(slog.DiscardHandler)))
	defer s.Close()
	worst := 0
	for i := range 1000 {
		changes := NewChanges(Row(strings.Repeat("t", 512), strings.Repeat("k", 10_000)+fmt.Sprint(i)), Row(strings.Repeat("u", 600), strings.Repeat("k", 500)+fmt.Sprint(i)))
		if _, err := s.Publish(t.Context(), NewOwner(), changes); !errors.Is(err, ErrDown) {
			t.Fatal(err)
		}
		s.outage.mu.Lock()
		size, records := 0, 0
		for _, w := range s.outage.waiting {
			for _, id := range w.changes.records() {
				size += len(id.String())
				records++
			}
		}
		s.outage.mu.Unlock()
		worst = max(worst, size)
		if records > 100 || size > 100*1031 {
			t.Fatalf("after %d commits %d records of %d bytes wait", i+1, records, size)
		}
	}
	if worst < 10_000 {
		t.Errorf("at most %d bytes waited: the test shows nothing", worst)
	}
}

// deadBackend does not answer.
type deadBackend struct{ Backend }

var errDead = errors.New("no answer")

func (*deadBackend) Read(context.Context, []ID) (Snapshot, error) { return Snapshot{}, errDead }
func (*deadBackend) Fence(context.Context, Owner, []ID, time.Duration) error {
	return errDead
}
func (*deadBackend) Publish(context.Context, Owner, []ID) (Stamp, error) { return 0, errDead }
func (*deadBackend) Release(context.Context, Owner, []ID) error          { return errDead }
