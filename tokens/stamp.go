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

// AppendTo appends the stamp's text to b. It runs for every key, and a division by a constant is
// twice as fast as strconv's by any base.
func (s Stamp) AppendTo(b []byte) []byte {
	if s < 0 {
		return strconv.AppendInt(b, int64(s), 36)
	}
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	var text [13]byte // 36^13 is more than 2^63
	at := len(text)
	for u := uint64(s); ; u /= 36 {
		at--
		text[at] = digits[u%36]
		if u < 36 {
			return append(b, text[at:]...)
		}
	}
}

// Time returns the stamp as a time, which can be ahead of the host's clock.
func (s Stamp) Time() time.Time { return time.UnixMicro(int64(s)) }

// Owner is who sets fences: one transaction. It cannot be guessed and is never reused.
type Owner string

// NewOwner makes an owner of 130 random bits.
func NewOwner() Owner { return Owner(rand.Text()) }
