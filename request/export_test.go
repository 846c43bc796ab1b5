package request

import "reflect"

// Token returns the text that the key has if it is storable.
func (k Key) Token() string { return k.text }

// The stored form of values.
const HeaderSize = headerSize

// OpenValue opens a stored value that is looked for with a mark and a stamp of zero.
func OpenValue(value []byte) ([]byte, bool) { return open(value, new([markSize]byte), 0) }

// SealValue makes one.
func SealValue(payload []byte) []byte {
	value := append(make([]byte, headerSize), payload...)
	seal(value, new([markSize]byte), 0)
	return value
}

// TypeName is what distinguishes types under one key.
func TypeName[T any]() string { return string(appendType(nil, reflect.TypeFor[T]())) }

// ExecutableDigest is the default version.
func ExecutableDigest() string { return executableDigest() }

// HasRemedy reports whether there is an error of its own for a rule of Config.
func HasRemedy(field, rule string) bool { return remedies[field+" "+rule] != "" }
