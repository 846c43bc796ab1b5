package request

import (
	"reflect"

	"github.com/alkey-go/alkey/tokens"
)

// Token returns the text that the key has if it is storable.
func (k Key) Token() string { return k.text }

// HeaderSize is where the payload begins of a value without identifiers of its own.
const HeaderSize = headerSize + 1

// OpenValue opens a stored value that is looked for with a mark and a stamp of zero.
func OpenValue(value []byte) (payload []byte, extras []tokens.ID, ok bool) {
	o, ok := open(value, new(mark))
	if !ok || o.stamp != 0 {
		return nil, nil, false
	}
	extras, ok = o.identifiers()
	return o.payload, extras, ok
}

// SealValue makes one.
func SealValue(payload []byte, extras ...tokens.ID) []byte {
	return sealed(new(mark), 0, present, extras, payload)
}

// TypeName is what distinguishes types under one key.
func TypeName[T any]() string { return string(appendType(nil, reflect.TypeFor[T]())) }

// ExecutableDigest is the default version.
func ExecutableDigest() string { return executableDigest() }

// HasRemedy reports whether there is an error of its own for a rule of Config.
func HasRemedy(field, rule string) bool { return remedies[field+" "+rule] != "" }

// Faults are rules that a Kit leaves out.
type Faults struct {
	NoGuard, NoRecheck, NoJudgement, NoRecord, NoFlights, NoSharing bool
}

// SetFaults must be called before the Kit is used.
func (k *Kit) SetFaults(f Faults) {
	k.faults = faults{f.NoGuard, f.NoRecheck, f.NoJudgement, f.NoRecord, f.NoFlights, f.NoSharing}
}
