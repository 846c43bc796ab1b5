package request

import (
	"crypto/rand"
	"strconv"
	"strings"

	"github.com/alkey-go/alkey/tokens"
)

// Key is the key for some arguments as one scope sees them. Ask it right before a value is served
// or stored: the answers can change while transactions run. The zero Key is neither usable nor
// storable.
type Key struct {
	version
	text   string
	number uint64 // of the key in its scope
}

// Usable reports whether a value that was stored under the key may be served: no commit that
// changes it is under way, the tokens could be read, and this request has not changed it itself.
func (k Key) Usable() bool {
	usable, _ := k.judge()
	return usable
}

// Storable reports whether a value made in this request may be stored for others: it is usable,
// the request's data is as new as the tokens, and holds nothing uncommitted or rolled back.
func (k Key) Storable() bool { return k.Reason() == 0 }

// Reason tells why the key is not storable. It is zero for a key that is.
func (k Key) Reason() Reason {
	_, reason := k.judge()
	return reason
}

// String returns the key's text if it is storable, and else a one-shot key, which is equal to no
// other in any process: what is stored under it is never found. The same Key gives the same
// one-shot key each time.
func (k Key) String() string {
	if k.Storable() {
		return k.text
	}
	return k.oneShot()
}

// oneShotPrefix begins what no text of a key can begin with: there "%" is followed by two
// hexadecimal digits, or begins one of a few marks of package tokens.
const oneShotPrefix = "%once-"

func (k Key) oneShot() string {
	if k.scope == nil {
		return oneShotPrefix + rand.Text()
	}
	b := make([]byte, 0, 128)
	b = append(b, oneShotPrefix...)
	b = append(b, k.scope.kit.random...)
	b = append(b, '-')
	b = strconv.AppendUint(b, k.scope.number, 36)
	b = append(b, '.')
	b = strconv.AppendUint(b, k.number, 36)
	if k.text != "" {
		b = appendWithoutTokens(append(b, '/'), k.text)
	}
	return string(b)
}

// appendWithoutTokens appends a key's text without its tokens. A token is what stands before an
// identifier, and nothing else in a key begins as identifiers do.
func appendWithoutTokens(b []byte, text string) []byte {
	for first := true; ; first = false {
		segment, rest, more := strings.Cut(text, "/")
		if more && strings.HasPrefix(rest, tokens.Scheme) {
			segment, rest, more = strings.Cut(rest, "/")
		}
		if !first {
			b = append(b, '/')
		}
		b = append(b, segment...)
		if !more {
			return b
		}
		text = rest
	}
}

// Reason is why a value may not be stored, or not be served either.
type Reason int

// The reasons, in the order in which they are given if there are several.
const (
	// Unstable: the arguments have no stable text, or there are none.
	Unstable Reason = iota + 1
	// StoreDown: the tokens could not be read.
	StoreDown
	// Fenced: a commit that changes an argument is under way, or its process died in it.
	Fenced
	// OwnWrite: a transaction of this request has written and is still open, has committed a change
	// of an argument since the key was asked for, or was rolled back after it changed one. The
	// same goes for transactions that were begun without a request's context.
	OwnWrite
	// Younger: an argument may have changed since the request loaded its data. A stored value may
	// be served.
	Younger
	// TooMany: the request has asked for more identifiers than Config.MaxIdentifiers, or the value
	// depends on more.
	TooMany
	// ReasonCount is how many reasons there are, none (0) included.
	ReasonCount
)

// String names the reason, in lower case; "" for none.
func (r Reason) String() string {
	switch r {
	case 0:
		return ""
	case Unstable:
		return "unstable"
	case StoreDown:
		return "store down"
	case Fenced:
		return "fenced"
	case OwnWrite:
		return "own write"
	case Younger:
		return "younger"
	case TooMany:
		return "too many identifiers"
	default:
		return "reason " + strconv.Itoa(int(r))
	}
}

// version is what a key or a value depends on, as one scope has read it.
type version struct {
	scope      *Scope
	generation uint64       // of the scope's memo, from before the tokens were read
	stamp      tokens.Stamp // the largest
	first      Reason       // why not storable when it was asked for
	usable     bool         // when it was asked for
	nameless   bool         // the arguments name nothing that can change

	// Most keys have one identifier or two: those need no allocation.
	count  int
	inline [2]dependency
	more   []dependency
}

type dependency struct {
	id    tokens.ID
	stamp tokens.Stamp
}

func (v *version) add(id tokens.ID, t tokens.Token) {
	if t == unread {
		v.first, v.usable = TooMany, false
		t = tokens.Token{}
	}
	d := dependency{id, t.Stamp}
	if v.count < len(v.inline) {
		v.inline[v.count] = d
	} else {
		v.more = append(v.more, d)
	}
	v.count++
	v.stamp = max(v.stamp, t.Stamp)
	if t.Fenced {
		v.first, v.usable = Fenced, false
	}
}

// settle judges for the first time, when the dependencies of the arguments are there.
func (v *version) settle() {
	v.nameless = v.count == 0
	v.usable, v.first = v.judge()
}

// clear forgets the dependencies.
func (v *version) clear() { *v = version{scope: v.scope, usable: true} }

func (v *version) dependency(i int) *dependency {
	if i < len(v.inline) {
		return &v.inline[i]
	}
	return &v.more[i-len(v.inline)]
}

// judge tells whether a stored value may be served now and, if one may not be stored now, why. What
// was wrong when the key was asked for stays wrong.
func (v *version) judge() (usable bool, reason Reason) {
	switch {
	case v.scope == nil:
		return false, Unstable
	case v.first != 0 && v.first < OwnWrite || v.first == TooMany:
		return false, v.first
	}
	tx := v.scope.tx
	usable, storable := v.usable, v.first != OwnWrite
	for i := range v.count {
		id := v.dependency(i).id
		// Storable comes first and implies Usable: in the other order a transaction that ended
		// between the two would go unnoticed.
		if tx.Storable(id) {
			continue
		}
		storable = false
		usable = usable && tx.Usable(id)
	}
	if v.nameless && !tx.Storable(tokens.Global) {
		// What names nothing may have been made of anything.
		storable = false
	}
	// A commit makes the memo forget before its transaction counts as ended, so this comes after.
	switch outdated, lost := v.outdated(); {
	case lost:
		return false, StoreDown
	case outdated:
		usable, storable = false, false
	}
	switch {
	case !storable:
		return usable, OwnWrite
	case v.stamp > tx.Watermark() && !v.scope.kit.faults.noGuard:
		return usable, Younger
	}
	return usable, 0
}

// outdated reports whether what the version depends on has changed since: by a commit of this request,
// or, lost, because the token store may have lost what it was read from.
func (v *version) outdated() (outdated, lost bool) {
	s := v.scope
	if s.generation.Load() == v.generation && s.epoch.Load() == s.kit.tokens.Epoch() {
		return false, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renew()
	lost = v.generation < s.began
	for i := range v.count {
		d := v.dependency(i)
		if t, ok := s.memo.get(d.id); !ok || t.Stamp != d.stamp {
			return true, lost
		}
	}
	return false, false
}
