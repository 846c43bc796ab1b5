//go:build linux

package rig

import (
	"context"
	"path/filepath"
	"testing"
	"time"
)

// TestAsleepIsCountedApart: a value that is stale for a writer that slept beyond the lease between sending COMMIT and
// its outcome does not count as stale, and any other does.
func TestAsleepIsCountedApart(t *testing.T) {
	const s = time.Second
	asleep := []span{{10 * s, 14 * s}}
	statement := Write{Mark: "m", Kind: "statement", Begin: 9 * s, End: 15 * s}
	transaction := statement
	transaction.Kind = "rows"
	unanswered, before, after, elsewhere := statement, statement, statement, statement
	unanswered.End, before.End, after.Begin, elsewhere.Web = 0, 13*s, 11*s, 1
	for name, c := range map[string]struct {
		database string
		write    Write
		pauses   []span
		missed   int64 // versions
		want     Judgement
	}{
		"a statement":                          {"postgres", statement, asleep, 1, Asleep},
		"a transaction":                        {"sqlite", transaction, asleep, 1, Asleep},
		"a transaction, PostgreSQL":            {"postgres", transaction, asleep, 1, Stale},
		"never answered":                       {"postgres", unanswered, asleep, 1, Asleep},
		"answered while it slept":              {"postgres", before, asleep, 1, Stale},
		"begun while it slept":                 {"postgres", after, asleep, 1, Stale},
		"another process slept":                {"postgres", elsewhere, asleep, 1, Stale},
		"nobody slept":                         {"postgres", statement, nil, 1, Stale},
		"of another writer a commit is missed": {"postgres", statement, asleep, 2, Stale},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Rig{Options: Options{Database: c.database}, webs: []*webProcess{{paused: c.pauses}, {}}}
			record, err := newRecord(filepath.Join(t.TempDir(), "reads.jsonl"), time.Now(), false)
			if err != nil {
				t.Fatal(err)
			}
			defer record.close()
			record.writing(&c.write)
			record.known[[2]int64{1, 5}] = "m"
			stale := &Finding{Judgement: Stale, Cell: Cell{Row: 1, Version: 4}, Committed: Cell{Row: 1, Version: 4 + c.missed}}
			got := Stale
			if record.slept(r, stale) {
				got = Asleep
			}
			if got != c.want {
				t.Errorf("it counts as %q, want %q", got, c.want)
			}
		})
	}
}

// TestPausesBeyondTheLease: of the pauses only those count.
func TestPausesBeyondTheLease(t *testing.T) {
	r := &Rig{Options: Options{Lease: time.Hour}, start: time.Now()}
	w := &webProcess{rig: r}
	for _, c := range []struct {
		paused time.Duration
		counts int
	}{{time.Hour - time.Minute, 0}, {time.Hour + time.Minute, 1}} {
		w.from = r.now() - c.paused
		w.resumed()
		if n := len(w.asleep()); n != c.counts {
			t.Errorf("a pause of %v makes %d beyond the lease", c.paused, n)
		}
	}
}

// TestAsleep is the exception as it happens: a statement waits in PostgreSQL while its process is paused for longer than the
// lease, and is carried out then. What others found before is stale until that process goes on.
func TestAsleep(t *testing.T) {
	t.Parallel()
	r := launched(t, Options{Database: "postgres", Strict: true, Webs: 2, Lease: time.Second})
	ctx := t.Context()
	const row = 1
	hit := func() bool {
		floor, err := r.floor(ctx)
		if err != nil {
			t.Fatal(err)
		}
		read := &Read{Begin: r.now(), Web: 1, Floor: floor}
		var page Page
		if read.Err = r.ask(ctx, nil, "GET", r.webs[1].address()+"/page?show=row:1", &page); read.Err != nil {
			t.Fatal(read.Err)
		}
		read.End, read.Values, read.Failed = r.now(), page.Values, page.Err
		r.record.read(r, read)
		return len(page.Values) == 1 && page.Values[0].From == Hit
	}
	eventually(t, "the row is cached", hit)

	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `UPDATE items SET mark = 'locked' WHERE id = $1`, row); err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		r.write(ctx, nil, &Write{Web: 0, Kind: "statement", Mark: "late", Rows: []int{row}}, r.webs[0].address(), 0)
	}()
	eventually(t, "the statement waits", func() bool {
		var waiting int
		err := r.db.QueryRowContext(ctx, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`).Scan(&waiting)
		return err == nil && waiting == 1
	})
	if err := r.webs[0].pause(); err != nil {
		t.Fatal(err)
	}
	if err := r.pass(ctx, r.Lease+50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the fence has run out, and the row is cached again", hit)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the statement is carried out", func() bool {
		floor, err := r.floor(ctx)
		return err == nil && floor[row].Version == 1
	})
	if !hit() {
		t.Error("the value is not found any more: nothing was tested")
	}
	if err := r.webs[0].resume(); err != nil {
		t.Fatal(err)
	}
	<-answered
	r.First = true // which leaves out what is checked when all is over
	report, err := r.Finish(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Count(Asleep) == 0 || report.Count(Stale) != 0 || report.Err() != nil {
		t.Errorf("%s %d, stale %d: %v", Asleep, report.Count(Asleep), report.Count(Stale), report.Err())
	}
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	if err := until(settled, what, func() (bool, error) { return so(), nil }); err != nil {
		t.Fatal(err)
	}
}

// TestCutOffIsRefused: a commit that a process has answered while it was cut off is found, and no other is.
func TestCutOffIsRefused(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := launched(t, Options{Database: "sqlite", Strict: true, Webs: 2})
	asked := func(web int, mark string) Outcome {
		w := &Write{Web: web, Kind: "rows", Mark: mark, Rows: []int{1}}
		r.write(ctx, nil, w, r.webs[web].address(), 0)
		return w.Outcome
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = r.inflict(ctx, Fault{Kind: CutOff, Lasts: 5 * time.Second, Size: 1})
	}()
	eventually(t, "the process that is cut off refuses", func() bool { return asked(0, "first") == Failed })
	from := r.now()
	if got := asked(0, "one"); got != Failed {
		t.Errorf("the process that is cut off: %q", got)
	}
	if got := asked(1, "two"); got != Committed {
		t.Errorf("the other process: %q", got)
	}
	r.record.cutOff(0, span{from, r.now()})
	if found := r.record.Findings(); len(found) > 0 {
		t.Errorf("found: %v", found)
	}
	r.record.cutOff(1, span{from, r.now()})
	if found := r.record.Findings(); len(found) != 1 || found[0].Judgement != Bare || found[0].Cell.Mark != "two" {
		t.Errorf("a commit without a fence is not found: %v", found)
	}
	cancel()
	<-over
}
