package tokens_test

import (
	"math"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/alkey-go/alkey/tokens"
)

func TestStampText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := tokens.Stamp(rapid.OneOf(
			rapid.Int64(),
			rapid.SampledFrom([]int64{0, 1, 35, 36, 1295, 1296, math.MaxInt64, math.MinInt64, -1}),
		).Draw(t, "stamp"))
		want := strconv.FormatInt(int64(s), 36)
		if got := string(s.AppendTo([]byte("x"))); got != "x"+want {
			t.Errorf("AppendTo gives %q, not %q", got, "x"+want)
		}
		if s.String() != want {
			t.Errorf("String gives %q, not %q", s, want)
		}
	})
}

func TestStampTime(t *testing.T) {
	at := time.Date(2026, 11, 23, 1, 2, 3, 456000, time.UTC)
	if got := tokens.Stamp(at.UnixMicro()).Time(); !got.Equal(at) {
		t.Errorf("the time is %v, not %v", got, at)
	}
}
