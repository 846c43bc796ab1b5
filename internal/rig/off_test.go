//go:build linux

package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/alkey-go/alkey/internal/testserver"
)

// breakable builds the web process with rules that can be switched off.
var breakable = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "alkey-rig-off-")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "web")
	cmd := exec.Command("go", "test", "-c", "-tags", "alkeybroken", "-o", program, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

// TestOff leaves out one rule of the protocol at a time, and the rig has to find what that breaks. TestOn is its
// counterpart.
func TestOff(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		testserver.Missing(t, "redis-server")
	}
	dir, err := breakable()
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err != nil {
		t.Fatal(err)
	}
	for rule, run := range map[string]struct {
		options Options
		fault   Fault
	}{
		// Between COMMIT and publish the old tokens are there.
		"fence": {fault: Fault{Kind: Delay, Size: 0.2, Blind: true, Lasts: 5 * time.Second}},
		// What was loaded before a commit is stored under the tokens that come with it.
		"guard": {fault: Fault{Kind: Delay, Lasts: 5 * time.Second}},
		// A commit under way loses its fence to the publish of another one that changes the same table.
		"owner": {Options{Writers: 2}, Fault{Kind: Lock, Size: 0.5, Lasts: 5 * time.Second}},
		// A replica that lags has the old tokens, and so has the store of values what belongs to them: nobody has read
		// since.
		"identity": {fault: Fault{Kind: FailOver, Blind: true, Lasts: 700 * time.Millisecond, After: 500 * time.Millisecond}},
		// Who only reads does not notice that the master is none any more.
		"health": {Options{Roles: true, Webs: 2}, Fault{Kind: Demote, Lasts: 2 * time.Second, After: 500 * time.Millisecond}},
	} {
		t.Run(rule, func(t *testing.T) {
			o := run.options
			o.Program = []string{filepath.Join(dir, "web")}
			o.Database, o.Strict, o.Off, o.First = "postgres", true, rule, true
			r := launched(t, o)
			run.fault.Before = 200 * time.Millisecond
			var plan []Fault
			for range int(time.Minute / (run.fault.Before + run.fault.Lasts + run.fault.After)) {
				plan = append(plan, run.fault)
			}
			if err := r.Run(t.Context(), plan); err != nil {
				t.Fatal(err)
			}
			report, err := r.Finish(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if report.Count(Stale) == 0 {
				t.Errorf("without the rule nothing stale is found in %v", report.Took)
				report.Table(t.Output())
				return
			}
			t.Logf("after %v: %s", report.Took.Round(time.Millisecond), report.Findings[0])
		})
	}
}

// TestOn does what TestOff does to web processes with all rules: then nothing may be found. Among other tests only one
// process is written through and another read through; TestSoak has those that are both.
func TestOn(t *testing.T) {
	plan := []Fault{
		{Kind: Delay, Size: 0.2, Blind: true, Lasts: time.Second},
		{Kind: Delay, Lasts: time.Second},
		{Kind: Lock, Size: 0.5, Lasts: time.Second},
		{Kind: FailOver, Blind: true, Lasts: 700 * time.Millisecond, After: sweepQuiet},
		{Kind: Demote, Lasts: 2 * time.Second, After: sweepQuiet},
	}
	runs := map[string]Options{"roles": {Roles: true, Webs: 2}}
	if *duration > short {
		runs["all"] = Options{}
	} else {
		plan = hurried(plan)
	}
	for name, o := range runs {
		t.Run(name, func(t *testing.T) {
			o.Database, o.Strict = "postgres", true
			r := launched(t, o)
			if err := r.Run(t.Context(), plan); err != nil {
				t.Fatal(err)
			}
			finished(t, r)
		})
	}
}
