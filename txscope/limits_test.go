package txscope_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// TestLimits: what a transaction changes beyond what is told apart is swept, and nothing is lost.
func TestLimits(t *testing.T) {
	const many, tables = "too many rows in one transaction", "too many tables in one transaction"
	for _, c := range []struct {
		name   string
		opts   []txscope.Option
		tables int // with
		rows   int // in each
		want   txscope.Statistics
	}{
		{"rows of one table, all", []txscope.Option{txscope.MaxRowsPerTable(5)}, 1, 5, txscope.Statistics{Committed: 1, Rows: 5}},
		{"rows of one table, one more", []txscope.Option{txscope.MaxRowsPerTable(5)}, 1, 6, swept(many, "t0")},
		{"more than by default", []txscope.Option{txscope.MaxRowsPerTable(2000)}, 1, 1500, txscope.Statistics{Committed: 1, Rows: 1500}},
		{"rows, all", []txscope.Option{txscope.MaxRows(30)}, 3, 10, txscope.Statistics{Committed: 1, Rows: 30}},
		{"rows, one more", []txscope.Option{txscope.MaxRows(29)}, 3, 10, swept(many, "t0", "t1", "t2")},
		{"tables, all", []txscope.Option{txscope.MaxTables(20)}, 20, 1, txscope.Statistics{Committed: 1, Rows: 20}},
		{"tables, one more", []txscope.Option{txscope.MaxTables(19)}, 20, 1, swept(tables, "*")},
		{"a few tables, one more", []txscope.Option{txscope.MaxTables(2)}, 3, 1, swept(tables, "*")},
		{"by default", nil, 11, 1000, swept(many, "t0", "t1", "t10", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9")},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSeam(t, c.opts...)
			s.d.before = func(session *seamSession, call *txscope.Call) {
				if call.Query != "WRITE" {
					return
				}
				for row := range c.rows {
					for table := range c.tables {
						session.rec.Add(tokens.Row(fmt.Sprint("t", table), row))
					}
				}
			}
			ids := []tokens.ID{tokens.Row("other", 1), tokens.Row("t0", -1)}
			for table := range c.tables {
				ids = append(ids, tokens.Row(fmt.Sprint("t", table), 0), tokens.Row(fmt.Sprint("t", table), c.rows-1))
			}
			before, err := s.Store.Read(t.Context(), ids)
			s.must(err)
			tx, err := s.db.BeginTx(t.Context(), nil)
			s.must(err)
			s.exec(tx, t.Context(), "WRITE")
			s.must(tx.Commit())
			after, err := s.Store.Read(t.Context(), ids)
			s.must(err)
			for i, id := range ids[2:] {
				if before[i+2] == after[i+2] {
					t.Errorf("%s was changed, and its key was not", id)
				}
			}
			everything := len(c.want.Sweeps) > 0 && c.want.Sweeps[0].Table == "*"
			if changed := before[0] != after[0]; changed != everything {
				t.Errorf("the key of a table that was not changed has changed: %v", changed)
			}
			if changed := before[1] != after[1]; changed != (len(c.want.Sweeps) > 0) {
				t.Errorf("the key of a row that was not changed has changed: %v", changed)
			}
			if got := s.stats(); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// swept is one commit that swept tables, and told no rows apart.
func swept(why string, tables ...string) (s txscope.Statistics) {
	s.Committed = 1
	for _, table := range tables {
		s.Sweeps = append(s.Sweeps, txscope.Sweep{Table: table, Why: why, Count: 1})
	}
	return s
}

func TestLimitsThatMakeNoSense(t *testing.T) {
	store := tokens.NewMemory()
	defer store.Close()
	for want, o := range map[string]txscope.Option{
		"MaxRowsPerTable(0)": txscope.MaxRowsPerTable(0),
		"MaxRows(-1)":        txscope.MaxRows(-1),
		"MaxTables(0)":       txscope.MaxTables(0),
	} {
		_, err := txscope.Wrap(&fakeDriver{}, store, o)
		if !errors.Is(err, txscope.ErrOption) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
