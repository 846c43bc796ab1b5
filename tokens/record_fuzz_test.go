package tokens

import (
	"strconv"
	"strings"
	"testing"
)

// What is understood of a record is all there is to it: written again it is the same.
func FuzzParseRecord(f *testing.F) {
	for _, s := range []string{"", "0", "17", "0!a@1", "17!a@1!b@2", "17!", "17!a", "17!a@", "17!@1", "x", "-1", "1e3", "01!a@01", "17!a@1!", "99999999999999999999", "17!a@99999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		stamp, fences, ok := parseRecord(s)
		if !ok {
			if stamp != 0 || fences != nil {
				t.Errorf("%q is not understood and gives %d, %v", s, stamp, fences)
			}
			return
		}
		var b strings.Builder
		b.WriteString(strconv.FormatInt(int64(stamp), 10))
		for _, f := range fences {
			if f.owner == "" || f.deadline < 0 {
				t.Errorf("%q gives the fence %+v", s, f)
			}
			b.WriteString("!" + string(f.owner) + "@" + strconv.FormatInt(f.deadline, 10))
		}
		again, same, ok := parseRecord(b.String())
		if !ok || again != stamp || len(same) != len(fences) {
			t.Errorf("%q is written again as %q, which gives %d, %v, %v", s, b.String(), again, same, ok)
		}
	})
}
