package txscope_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

func TestStats(t *testing.T) {
	s := newSeam(t)
	s.d.before = func(session *seamSession, call *txscope.Call) {
		for word := range strings.FieldsSeq(call.Query) {
			switch word {
			case "ROW":
				session.rec.Add(row1)
			case "OTHER":
				session.rec.Add(row2)
			case "MANY":
				for i := range tokens.MaxRowsPerTable + 1 {
					session.rec.Add(tokens.Row("t", i))
				}
			case "SWEEP":
				session.rec.Sweep(tokens.Table("u"), "no primary key")
			case "ALL":
				session.rec.Sweep(tokens.Global, "not understood")
			}
		}
		if !session.c.inTx {
			_ = session.rec.Committing()
		}
	}
	run := func(texts ...string) func() {
		return func() {
			tx, err := s.db.BeginTx(t.Context(), nil)
			s.must(err)
			for _, text := range texts {
				s.exec(tx, t.Context(), text)
			}
			s.must(tx.Commit())
		}
	}
	for _, c := range []struct {
		name string
		do   func()
		want txscope.Statistics
	}{
		{"nothing", func() {}, txscope.Statistics{}},
		{"a transaction that reads", run("SELECT"), txscope.Statistics{}},
		{"a row twice and another", run("ROW", "ROW OTHER"), txscope.Statistics{Committed: 1, Rows: 2}},
		{"a write outside of a transaction", func() { s.exec(s.db, t.Context(), "ROW") }, txscope.Statistics{Committed: 1, Rows: 1}},
		{"a sweep", run("SWEEP"), txscope.Statistics{Committed: 1, Sweeps: []txscope.Sweep{{Table: "u", Why: "no primary key", Count: 1}}}},
		{"a sweep again, of a table with a row", run("ROW SWEEP"), txscope.Statistics{Committed: 1, Rows: 1, Sweeps: []txscope.Sweep{{Table: "u", Why: "no primary key", Count: 1}}}},
		{"many rows", run("MANY"), txscope.Statistics{Committed: 1, Sweeps: []txscope.Sweep{{Table: "t", Why: "too many rows in one transaction", Count: 1}}}},
		{"everything", run("ALL"), txscope.Statistics{Committed: 1, Sweeps: []txscope.Sweep{{Table: "*", Why: "not understood", Count: 1}}}},
		{"a rollback", func() {
			tx, err := s.db.BeginTx(t.Context(), nil)
			s.must(err)
			s.exec(tx, t.Context(), "SWEEP")
			s.must(tx.Rollback())
		}, txscope.Statistics{RolledBack: 1}},
		{"a rollback of nothing", func() {
			tx, err := s.db.BeginTx(t.Context(), nil)
			s.must(err)
			s.must(tx.Rollback())
		}, txscope.Statistics{}},
		{"a lost connection", func() {
			s.d.onCommit = func() error { return errLost }
			defer func() { s.d.onCommit = nil }()
			tx, err := s.db.BeginTx(t.Context(), nil)
			s.must(err)
			s.exec(tx, t.Context(), "SWEEP")
			if err := tx.Commit(); !errors.Is(err, errLost) {
				t.Errorf("got %v", err)
			}
		}, txscope.Statistics{Unknown: 1}},
		{"by hand", func() {
			ctx, _ := txscope.OpenScope(t.Context(), s.Store)
			tx, err := s.db.BeginTx(ctx, nil)
			s.must(err)
			s.exec(tx, ctx, "ROW")
			s.must(txscope.Changed(ctx, tokens.Table("weather"), row2))
			s.must(tx.Commit())
		}, txscope.Statistics{Committed: 1, Rows: 2, Sweeps: []txscope.Sweep{{Table: "weather", Why: "marked by hand", Count: 1}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := s.stats()
			c.do()
			after := s.stats()
			got := txscope.Statistics{
				Committed:  after.Committed - before.Committed,
				RolledBack: after.RolledBack - before.RolledBack,
				Unknown:    after.Unknown - before.Unknown,
				Rows:       after.Rows - before.Rows,
			}
			for _, now := range after.Sweeps {
				for _, was := range before.Sweeps {
					if was.Table == now.Table && was.Why == now.Why {
						now.Count -= was.Count
					}
				}
				if now.Count > 0 {
					got.Sweeps = append(got.Sweeps, now)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
	sorted := slices.IsSortedFunc(s.stats().Sweeps, func(a, b txscope.Sweep) int { return int(b.Count - a.Count) })
	if sweeps := s.stats().Sweeps; !sorted || sweeps[0].Table != "u" {
		t.Errorf("the most frequent is not the first: %v", sweeps)
	}
}

// Names of tables come from the texts of statements: what is kept of them is bounded.
func TestStatsAreBounded(t *testing.T) {
	s := newSeam(t)
	n := 0
	s.d.before = func(session *seamSession, _ *txscope.Call) {
		if n++; n > 1 {
			for i := range 40 {
				session.rec.Sweep(tokens.Table(fmt.Sprintf("t%d_%d", n, i)), "no primary key")
			}
		}
	}
	for range 100 {
		tx, err := s.db.BeginTx(t.Context(), nil)
		s.must(err)
		s.exec(tx, t.Context(), "WRITE")
		s.must(tx.Commit())
	}
	got := s.stats()
	var all int64
	for _, sweep := range got.Sweeps {
		all += sweep.Count
	}
	if all != 99*40 {
		t.Errorf("%d sweeps are counted", all)
	}
	if len(got.Sweeps) > 1001 {
		t.Errorf("%d tables are kept", len(got.Sweeps))
	}
	if top := got.Sweeps[0]; top.Table != "other tables" || top.Count < 99*40-1001 {
		t.Errorf("what is not kept counts as %v", top)
	}
}

// Statistics can be asked for while the database works, of any kind of handle.
func TestStatsOfEveryHandle(t *testing.T) {
	s := newSeam(t)
	s.db.SetMaxOpenConns(4)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			tx, err := s.db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := tx.ExecContext(t.Context(), "WRITE"); err != nil {
				t.Error(err)
			}
			if err := tx.Commit(); err != nil {
				t.Error(err)
			}
			if _, err := txscope.Stats(t.Context(), s.db); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	got, err := txscope.Stats(t.Context(), sqlx.NewDb(s.db, "fake"))
	s.must(err)
	if got.Committed != 8 || got.Rows != 8 {
		t.Errorf("got %+v", got)
	}
	if n := s.db.Stats().InUse; n != 0 {
		t.Errorf("%d connections are still in use", n)
	}
}

func TestStatsOfAnotherDatabase(t *testing.T) {
	d := &fakeDriver{kind: "new"}
	db := sql.OpenDB(d)
	defer db.Close()
	if _, err := txscope.Stats(t.Context(), db); !errors.Is(err, txscope.ErrNoCapture) {
		t.Errorf("got %v", err)
	}
	if n := db.Stats().InUse; n != 0 {
		t.Errorf("%d connections are still in use", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := txscope.Stats(ctx, db); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
