package tokens

import (
	"crypto/rand"
	"strconv"
	"time"
)

// Stamp is a version: microseconds since the Unix epoch on the token store's clock, made strictly
// increasing as a hybrid logical clock is (Kulkarni et al., "Logical Physical Clocks", 2014):
// next = max(last+1, now). 0 is no stamp.
type Stamp int64

// String writes the stamp in base 36, as it stands in keys.
func (s Stamp) String() string { return strconv.FormatInt(int64(s), 36) }

// AppendTo appends the stamp's text to b.
func (s Stamp) AppendTo(b []byte) []byte { return strconv.AppendInt(b, int64(s), 36) }

// Time returns the stamp as a time, which can be ahead of the host's clock.
func (s Stamp) Time() time.Time { return time.UnixMicro(int64(s)) }

// Owner is who sets fences: one transaction. It cannot be guessed and is never reused.
type Owner string

// NewOwner makes an owner of 130 random bits.
func NewOwner() Owner { return Owner(rand.Text()) }
