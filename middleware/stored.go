package middleware

import (
	"encoding/binary"
	"net/http"
	"slices"
)

// stored is a response as it lies in the value store:
//
//	1 byte   flags
//	varint   how long the header is
//	header   for each name: a byte for what is done with it, the name, how many values follow, and
//	         those; every text with its length in front
//	body     the rest
type stored struct {
	public bool // it says so itself: those who are authorised may have it too
	header []change
	body   []byte
}

// change is what a handler has done to one name of the header.
type change struct {
	name   string
	how    byte
	values []string
}

// The ways to change a header.
const (
	replaces byte = iota // by no values too: that keeps net/http from adding one of its own
	adds                 // to the values that were there
	deletes
)

const flagPublic byte = 1

// changes tells what a handler has done to those names of a header that are stored: what stands there
// because of middlewares around the handler is theirs to write, for each request anew.
func changes(before, after http.Header, names []string) []change {
	var list []change
	for _, name := range names {
		had, was := before[name]
		has, is := after[name]
		switch n := len(had); {
		case was == is && slices.Equal(had, has):
		case !is:
			list = append(list, change{name, deletes, nil})
		case n > 0 && len(has) > n && slices.Equal(had, has[:n]):
			list = append(list, change{name, adds, has[n:]})
		default:
			list = append(list, change{name, replaces, has})
		}
	}
	return list
}

// apply repeats the changes.
func (s *stored) apply(h http.Header) {
	for _, c := range s.header {
		switch c.how {
		case adds:
			h[c.name] = append(h[c.name], c.values...)
		case deletes:
			delete(h, c.name)
		default:
			h[c.name] = c.values
		}
	}
}

func (s *stored) encode() []byte {
	var header []byte
	text := func(t string) {
		header = binary.AppendUvarint(header, uint64(len(t)))
		header = append(header, t...)
	}
	for _, c := range s.header {
		header = append(header, c.how)
		text(c.name)
		header = binary.AppendUvarint(header, uint64(len(c.values)))
		for _, v := range c.values {
			text(v)
		}
	}
	b := make([]byte, 1, 1+binary.MaxVarintLen64+len(header)+len(s.body))
	if s.public {
		b[0] |= flagPublic
	}
	b = binary.AppendUvarint(b, uint64(len(header)))
	b = append(b, header...)
	return append(b, s.body...)
}

// decodeStored reads what encode has written. The body is not copied.
func decodeStored(b []byte) (s stored, ok bool) {
	if len(b) == 0 {
		return stored{}, false
	}
	s.public = b[0]&flagPublic != 0
	size, n := binary.Uvarint(b[1:])
	if n <= 0 || size > uint64(len(b)-1-n) {
		return stored{}, false
	}
	s.body = b[1+n+int(size):]
	// One string for all texts: they live as long as each other.
	r := reader{text: string(b[1+n : 1+n+int(size)])}
	for r.text != "" && !r.broken {
		c := change{how: r.text[0]}
		r.text = r.text[1:]
		c.name = r.next()
		count := r.number()
		if count > uint64(len(r.text)) {
			return stored{}, false
		}
		c.values = make([]string, count)
		for i := range c.values {
			c.values[i] = r.next()
		}
		s.header = append(s.header, c)
	}
	return s, !r.broken
}

// reader reads texts from a text.
type reader struct {
	text   string
	broken bool
}

func (r *reader) number() uint64 {
	for i, shift := 0, 0; i < len(r.text) && shift < 63; i, shift = i+1, shift+7 {
		if r.text[i] < 0x80 {
			var n uint64
			for j := i; j >= 0; j-- {
				n = n<<7 | uint64(r.text[j]&0x7f)
			}
			r.text = r.text[i+1:]
			return n
		}
	}
	r.broken, r.text = true, ""
	return 0
}

func (r *reader) next() string {
	n := r.number()
	if n > uint64(len(r.text)) {
		r.broken, r.text = true, ""
		return ""
	}
	t := r.text[:n]
	r.text = r.text[n:]
	return t
}
