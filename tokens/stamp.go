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

// AppendTo appends the stamp's text to b. It runs for every key: with two digits at a time it takes
// a third of strconv's time.
func (s Stamp) AppendTo(b []byte) []byte {
	if s < 0 {
		return strconv.AppendInt(b, int64(s), 36)
	}
	var text [14]byte // 36^13 is more than 2^63
	at := len(text)
	u := uint64(s)
	for u >= 36*36 {
		at -= 2
		copy(text[at:], pairs[u%(36*36)][:])
		u /= 36 * 36
	}
	at -= 2
	copy(text[at:], pairs[u][:])
	if u < 36 {
		at++ // no leading zero
	}
	return append(b, text[at:]...)
}

// pairs holds the numbers of two digits.
var pairs = func() (p [36 * 36][2]byte) {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	for i := range p {
		p[i] = [2]byte{digits[i/36], digits[i%36]}
	}
	return p
}()

// Time returns the stamp as a time, which can be ahead of the host's clock.
func (s Stamp) Time() time.Time { return time.UnixMicro(int64(s)) }

// Owner is who sets fences: one transaction. It cannot be guessed and is never reused.
type Owner string

// NewOwner makes an owner of 130 random bits.
func NewOwner() Owner { return Owner(rand.Text()) }
