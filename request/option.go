package request

import (
	"encoding/json"
	"time"
)

// Option is how one value is kept. Options stand among the arguments of Fetch and NotModified, in any
// place, and are no part of the key:
//
//	request.Fetch(ctx, fill, user, "total", request.TTL(time.Hour))
//
// Of several of one kind the last counts.
type Option func(*settings)

// settings is what Options set.
type settings struct {
	ttl    time.Duration
	lease  time.Duration
	codec  Codec
	strong bool

	ownCodec bool // codec is not the Kit's
}

// TTL keeps the value for d at most, in place of Config.ValueTTL. With 0 it is kept as long as the
// value store keeps it; a negative d counts as 0.
func TTL(d time.Duration) Option { return func(s *settings) { s.ttl = max(d, 0) } }

// Lease is Config.Lease for one value: one process fills, the others wait for d at most. With 0 or
// less nobody waits.
func Lease(d time.Duration) Option { return func(s *settings) { s.lease = max(d, 0) } }

// EncodeWith stores one value by another codec than Config.Codec. Nil changes nothing.
func EncodeWith(c Codec) Option {
	return func(s *settings) {
		if c != nil {
			s.codec, s.ownCodec = c, true
		}
	}
}

// StrongETag makes NotModified send a strong ETag: the response is the same to the byte as long as
// the tokens are. That is not so behind a middleware that compresses.
func StrongETag() Option { return func(s *settings) { s.strong = true } }

// Codec turns values into bytes and back. Values are told apart by the codec's type too, so that what
// one codec wrote is not read by another. Safe for concurrent use.
type Codec interface {
	Marshal(v any) ([]byte, error)
	// Unmarshal reads what Marshal wrote into v, a pointer. It does not keep data.
	Unmarshal(data []byte, v any) error
}

// JSON is the Codec that a Kit has if it is given none: encoding/json.
type JSON struct{}

// Marshal is part of Codec.
func (JSON) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

// Unmarshal is part of Codec.
func (JSON) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// isOption reports whether an argument is an Option.
func isOption(arg any) bool {
	_, ok := arg.(Option)
	return ok
}

// withoutOptions returns the arguments that make the key, and the settings of those that do not.
// Without Options that is the list itself.
func (k *Kit) withoutOptions(args []any) ([]any, settings) {
	for _, arg := range args {
		if isOption(arg) {
			return k.splitOptions(args)
		}
	}
	return args, k.defaults
}

// splitOptions is apart from withoutOptions because the settings are moved to the heap.
func (k *Kit) splitOptions(args []any) ([]any, settings) {
	s := k.defaults
	kept := make([]any, 0, len(args))
	for _, arg := range args {
		if o, ok := arg.(Option); !ok {
			kept = append(kept, arg)
		} else if o != nil {
			o(&s)
		}
	}
	return kept, s
}
