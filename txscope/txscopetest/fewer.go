package txscopetest

import (
	"flag"
	"strconv"
	"testing"
)

// Fewer lets a test run a fifth of the checks that are asked for (-rapid.checks, 100 by default). It is for
// servers on which a check takes long; each run of the tests draws others.
func Fewer(t testing.TB) {
	t.Helper()
	checks := flag.Lookup("rapid.checks")
	all := checks.Value.String()
	n, err := strconv.Atoi(all)
	if err != nil {
		t.Fatal(err)
	}
	if err := checks.Value.Set(strconv.Itoa(max(n/5, 1))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := checks.Value.Set(all); err != nil {
			t.Error(err)
		}
	})
}
