package tokens

import (
	"crypto/sha256"
	"encoding/hex"
)

const (
	// maxPart is how long a table or row part of an identifier can be, in bytes: an identifier has a
	// kilobyte at most, whatever comes from a request or stands in a database. Captures and readers make
	// the same digest of a longer one, so nothing is lost but that a person can read it.
	maxPart = 512

	// digestPrefix begins the digest that stands for a longer part. No other part begins so: there two
	// hexadecimal digits follow a "%".
	digestPrefix = "%sha256-"
	digestLen    = len(digestPrefix) + 2*sha256.Size
)

// shorten returns an encoded part, or its digest if it is too long.
func shorten(part string) string {
	if len(part) <= maxPart {
		return part
	}
	sum := sha256.Sum256([]byte(part))
	b := make([]byte, 0, digestLen)
	b = append(b, digestPrefix...)
	return string(hex.AppendEncode(b, sum[:]))
}

// isDigest reports whether a part is a digest as shorten makes it.
func isDigest(part string) bool {
	if len(part) != digestLen || part[:len(digestPrefix)] != digestPrefix {
		return false
	}
	for i := len(digestPrefix); i < len(part); i++ {
		if c := part[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
