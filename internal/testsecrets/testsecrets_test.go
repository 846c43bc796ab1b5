package testsecrets

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Run passes if nothing is shown.
func TestRun(t *testing.T) {
	Run(t, map[string]Case{
		"one": func(t *testing.T, tell func(error)) {
			slog.Warn("refused")
			tell(nil)
			tell(fmt.Errorf("refused: %w", errors.New("no")))
		},
		"another": func(t *testing.T, tell func(error)) { tell(errors.New("no")) },
	})
}

// What is wrong with an output is found.
func TestJudge(t *testing.T) {
	const warning = `{"level":"WARN"}` + "\n"
	one, two := errorOf("one")+"no\n", errorOf("two")+"no\n"
	address := url.URL{User: url.UserPassword("app", Word+":@/%")}
	for name, c := range map[string]struct {
		output  string
		skipped []string
		faults  []string
	}{
		"nothing shown": {one + two + warning, nil, nil},
		"shown":         {one + two + warning + "dialing " + Word + "\nand more\n", nil, []string{"a password is shown: dialing " + Word}},
		"in capitals":   {one + two + warning + strings.ToUpper(Word), nil, []string{"a password is shown"}},
		"in a URL":      {one + two + warning + address.String(), nil, []string{"a password is shown"}},
		"twice":         {one + Word + "\n" + two + warning + Word, nil, []string{"a password is shown", "a password is shown"}},
		"no error":      {one + warning, nil, []string{"two: nothing went wrong"}},
		"skipped":       {one + warning + skipOf("two"), []string{"two"}, nil},
		"no warning":    {one + two, nil, []string{"no warning"}},
	} {
		t.Run(name, func(t *testing.T) {
			skipped, faults := judge(c.output, []string{"one", "two"})
			if !slices.Equal(skipped, c.skipped) || !slices.EqualFunc(faults, c.faults, strings.HasPrefix) {
				t.Errorf("skipped %q, wrong %q", skipped, faults)
			}
		})
	}
}
