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
//	header   how many names there are, and how many values in all; for each name a byte for what is done
//	         with it, the name, how many values follow, and those; every text with its length in front
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
	values := 0
	for _, c := range s.header {
		values += len(c.values)
	}
	var header []byte
	number := func(n int) { header = binary.AppendUvarint(header, uint64(n)) }
	text := func(t string) {
		number(len(t))
		header = append(header, t...)
	}
	number(len(s.header))
	number(values)
	for _, c := range s.header {
		header = append(header, c.how)
		text(c.name)
		number(len(c.values))
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
	// One string for all texts, and one list for all values: they live as long as each other.
	r := reader{text: string(b[1+n : 1+n+int(size)])}
	names, all := r.number(), r.number()
	if names > size || all > size {
		return stored{}, false
	}
	s.header = make([]change, names)
	values := make([]string, all)
	for i := range s.header {
		c := &s.header[i]
		c.how, c.name = r.byte(), r.next()
		count := r.number()
		if count > uint64(len(values)) {
			return stored{}, false
		}
		c.values, values = values[:count:count], values[count:]
		for j := range c.values {
			c.values[j] = r.next()
		}
	}
	return s, !r.broken && r.text == ""
}

// reader reads texts from a text. What it returns after the end counts for nothing.
type reader struct {
	text   string
	broken bool
}

func (r *reader) byte() byte {
	if r.text == "" {
		r.broken = true
		return 0
	}
	c := r.text[0]
	r.text = r.text[1:]
	return c
}

func (r *reader) number() (n uint64) {
	for shift := 0; shift < 63; shift += 7 {
		c := r.byte()
		if n |= uint64(c&0x7f) << shift; c < 0x80 {
			return n
		}
	}
	r.broken = true
	return 0
}

func (r *reader) next() string {
	n := r.number()
	if n > uint64(len(r.text)) {
		r.broken = true
		return ""
	}
	t := r.text[:n]
	r.text = r.text[n:]
	return t
}
