// Package testsecrets looks for passwords in all that a process writes.
package testsecrets

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/alkey-go/alkey/internal/testserver"
)

// Word has to be in every password and key of the cases, and must be in nothing else that they write.
const Word = "s3cr3t"

// Case does wrong things with passwords, and tells every error that comes of it.
type Case func(t *testing.T, tell func(error))

// child is set for the process that runs the cases.
const child = "ALKEY_TEST_SECRETS_CHILD"

// Run runs the cases, each as a test, in a process of its own, and fails if Word is in what it writes: what libraries
// write for themselves counts too, so its whole output is read. It fails as well if a case fails or tells no error, and
// if nothing logs a warning. env is added to the process's environment. Where a server that cases need is missing the
// others run, and the test is skipped after that, or fails (testserver.Missing).
//
// The process is the test binary with the one test that calls Run, which should do nothing else and be no subtest.
func Run(t *testing.T, cases map[string]Case, env ...string) {
	t.Helper()
	if os.Getenv(child) != "" {
		slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stdout, nil)))
		for name, run := range cases {
			t.Run(name, func(t *testing.T) {
				t.Cleanup(func() {
					if t.Skipped() {
						fmt.Println(skipOf(name))
					}
				})
				run(t, func(err error) { tell(name, err) })
			})
		}
		return
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(append(os.Environ(), child+"=1"), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	skipped, faults := judge(string(out), slices.Sorted(maps.Keys(cases)))
	for _, fault := range faults {
		t.Error(fault)
	}
	if len(faults) > 0 {
		t.Logf("the process wrote:\n%s", out)
	}
	if len(skipped) > 0 {
		testserver.Missing(t, fmt.Sprintf("a server for %q", skipped))
	}
}

// judge reads what a process has written that ran cases, and returns those that were skipped and what is wrong.
func judge(output string, cases []string) (skipped, faults []string) {
	for line := range strings.Lines(output) {
		if strings.Contains(strings.ToLower(line), Word) {
			faults = append(faults, "a password is shown: "+line)
		}
	}
	for _, name := range cases {
		if strings.Contains(output, skipOf(name)) {
			skipped = append(skipped, name)
		} else if !strings.Contains(output, errorOf(name)) {
			faults = append(faults, name+": nothing went wrong, so it shows nothing")
		}
	}
	if !strings.Contains(output, `"level":"WARN"`) {
		faults = append(faults, "no warning is logged")
	}
	return skipped, faults
}

func skipOf(name string) string  { return "skipped is " + name + "." }
func errorOf(name string) string { return "error of " + name + ": " }

// tell writes an error as programs do.
func tell(name string, err error) {
	if err == nil {
		return
	}
	fmt.Printf("%s%v\n", errorOf(name), err)
	fmt.Printf("%+v\n%q\n", err, err)
	slog.Error("an application's own", "error", err)
	for ; err != nil; err = errors.Unwrap(err) {
		fmt.Printf("%T: %v\n", err, err)
	}
}
