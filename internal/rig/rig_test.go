//go:build linux

package rig

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"go.uber.org/goleak"

	"github.com/alkey-go/alkey/internal/testserver"
)

// short is how long the soak takes that is one test among others.
const short = 15 * time.Second

var (
	duration = flag.Duration("rig.duration", short, "how long the soak does faults")
	seed     = flag.Uint64("rig.seed", 0, "of the faults; 0: the time")
	database = flag.String("rig.database", "postgres", "postgres or sqlite")
	strict   = flag.Bool("rig.strict", true, "commits that cannot be fenced are refused")
	only     = flag.String("rig.only", "", "the one kind of fault to be done")
)

func TestMain(m *testing.M) {
	if config := os.Getenv(WebEnv); config != "" {
		if err := serve(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// dsn makes an empty database.
func dsn(t *testing.T, database string) string {
	if database == "sqlite" {
		return "file:" + filepath.Join(t.TempDir(), "rig.db") + "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_txlock=immediate"
	}
	return testserver.Postgres(t, "-c", "log_min_messages=fatal").Database(t)
}

// launched starts a rig, which is closed at the test's end. Its folder stays if the test fails.
func launched(t *testing.T, o Options) *Rig {
	if _, err := exec.LookPath("redis-server"); err != nil {
		testserver.Missing(t, "redis-server")
	}
	o.DSN = dsn(t, o.Database)
	dir, err := os.MkdirTemp("", "alkey-rig-")
	if err != nil {
		t.Fatal(err)
	}
	o.Dir = dir
	if len(o.Program) == 0 {
		program, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		o.Program = []string{program}
	}
	o.Webs = cmp.Or(o.Webs, 3)
	o.Readers, o.Writers, o.Lease = cmp.Or(o.Readers, 5), cmp.Or(o.Writers, 3), cmp.Or(o.Lease, 3*time.Second)
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("what was logged is in %s", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return r
}

// TestSoak does faults for a while, and finds no value that is stale or dirty.
func TestSoak(t *testing.T) {
	of := *seed
	if of == 0 {
		of = uint64(time.Now().UnixNano()) % 1_000_000
	}
	t.Logf("seed %d", of)
	o := Options{Database: *database, Strict: *strict, Seed: of, Logf: t.Logf}
	kinds := Kinds(o.Database)
	if !o.Strict {
		kinds = Fenced(kinds)
	}
	if *only != "" {
		kinds = []Kind{Kind(*only)}
	}
	r := launched(t, o)
	plan := Plan(of, kinds, r.Lease, *duration)
	if *duration == short {
		plan = hurried(Plan(of, kinds, r.Lease, 4*short))
	}
	if err := r.Run(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	report := finished(t, r)
	// Among other tests the machine may be busy.
	if err := report.Cold(); err != nil && *duration > short {
		t.Error(err)
	}
	for i, f := range report.Findings[:min(len(report.Findings), 5)] {
		if path, err := r.Explain(f, i); err != nil {
			t.Error(err)
		} else {
			t.Log(path)
		}
	}
}

// finished ends a rig whose web processes follow all rules: nothing stale or dirty is found, and not because nothing
// was cached.
func finished(t *testing.T, r *Rig) *Report {
	t.Helper()
	report, err := r.Finish(t.Context(), linearizable)
	if err != nil {
		t.Fatal(err)
	}
	report.Table(t.Output())
	if err := report.Err(); err != nil {
		t.Error(err)
	}
	if report.Hits == 0 {
		t.Error("nothing came from the cache")
	}
	return report
}

// hurried makes of the first faults of a plan one that is short, with less time for the cache to be back.
func hurried(plan []Fault) []Fault {
	total := time.Duration(0)
	for i := range plan {
		f := &plan[i]
		f.After = min(f.After, sweepFence+200*time.Millisecond)
		if total += f.Before + f.Lasts + f.After; total > short {
			return plan[:i]
		}
	}
	return plan
}

// register is a row as a register of versions. What is in it when a history begins is not known.
var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		rows := make(map[int][]porcupine.Operation)
		for _, op := range history {
			row := op.Input.(Op).Row
			rows[row] = append(rows[row], op)
		}
		var all [][]porcupine.Operation
		for _, ops := range rows {
			all = append(all, ops)
		}
		return all
	},
	Init: func() any { return int64(-1) },
	Step: func(state, input, output any) (bool, any) {
		op, version := input.(Op), state.(int64)
		switch {
		case version < 0:
			return true, op.Version
		case op.Write:
			// Of some writes nobody has seen the version.
			return op.Version > version, op.Version
		default:
			return op.Version == version, version
		}
	},
}

// linearizable checks that a history can be one of registers. One that cannot be decided within a minute counts as
// one that cannot.
func linearizable(ops []Op) bool {
	last := int64(0)
	for _, op := range ops {
		last = max(last, int64(op.End))
	}
	history := make([]porcupine.Operation, len(ops))
	for i, op := range ops {
		end := int64(op.End)
		if end == 0 {
			end = last + 1 // at any time after it began
		}
		history[i] = porcupine.Operation{ClientId: i, Input: op, Call: int64(op.Begin), Return: end, Output: op.Version}
	}
	return porcupine.CheckOperationsTimeout(register, history, time.Minute) == porcupine.Ok
}

// A register that goes back in time is noticed, and so is a read of what nobody has written yet.
func TestLinearizable(t *testing.T) {
	const ms = time.Millisecond
	write := func(v int64, from, to time.Duration) Op {
		return Op{Row: 1, Write: true, Version: v, Begin: from, End: to}
	}
	read := func(v int64, from, to time.Duration) Op { return Op{Row: 1, Version: v, Begin: from, End: to} }
	for name, c := range map[string]struct {
		ops  []Op
		want bool
	}{
		"in order":         {[]Op{read(1, 0, ms), write(2, 2*ms, 3*ms), read(2, 4*ms, 5*ms)}, true},
		"at the same time": {[]Op{read(1, 0, 3*ms), write(2, ms, 4*ms), read(2, 2*ms, 5*ms)}, true},
		"never answered":   {[]Op{read(1, 0, ms), write(2, 2*ms, 0), read(1, 3*ms, 4*ms), read(2, 5*ms, 6*ms)}, true},
		"stale":            {[]Op{read(1, 0, ms), write(2, 2*ms, 3*ms), read(1, 4*ms, 5*ms)}, false},
		"back":             {[]Op{write(2, 0, 9*ms), read(2, ms, 2*ms), read(1, 3*ms, 4*ms)}, false},
		"too early":        {[]Op{read(1, 0, ms), read(2, 2*ms, 3*ms), write(2, 4*ms, 5*ms)}, false},
	} {
		if got := linearizable(c.ops); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestPlanIsReplayed(t *testing.T) {
	plan := func(seed uint64) []Fault { return Plan(seed, Kinds("postgres"), 3*time.Second, 5*time.Minute) }
	if !slices.Equal(plan(7), plan(7)) {
		t.Error("the same seed gives two plans")
	}
	if slices.Equal(plan(7), plan(8)) {
		t.Error("two seeds give one plan")
	}
	done := make(map[Kind]bool)
	for _, f := range plan(7) {
		done[f.Kind] = true
	}
	if len(done) != len(traits) {
		t.Errorf("in five minutes %d of %d kinds are done", len(done), len(traits))
	}
	for kind := range traits {
		if deeds[kind] == nil {
			t.Errorf("nobody knows how to do this: %s", kind)
		}
	}
}
