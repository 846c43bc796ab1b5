package cache

import (
	"encoding/binary"
	"hash/crc32"
	"time"
	"unsafe"

	"github.com/klauspost/compress/s2"
)

// An entry is a value as it lies on a server:
//
//	1 byte   the format: what the body is
//	4 bytes  a checksum of the entry's full key and of all that follows
//	varint   the time that the value lives from when it was stored, in milliseconds; 0: no limit
//	body     the value, as it is or compressed
//
// What another program put there, what was cut off, changed, or moved to another key does not agree
// with the checksum and is a miss.
const (
	formatPlain = 0xA1
	formatS2    = 0xA2 // a block of S2, which has its length in front

	checksumAt = 1
	ttlAt      = checksumAt + 4
	maxHeader  = ttlAt + binary.MaxVarintLen64
)

// castagnoli is the checksum that processors compute by themselves.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendEntry makes the entry of a value. One longer than threshold is compressed if that saves a
// third of it: a hit has to undo it every time, which takes longer than to receive a third more over
// a fast network. A negative threshold compresses nothing.
func appendEntry(name string, value []byte, ttl time.Duration, threshold int) []byte {
	compress := threshold >= 0 && len(value) > threshold && s2.MaxEncodedLen(len(value)) >= 0
	room := len(value)
	if compress {
		room = s2.MaxEncodedLen(len(value))
	}
	entry := make([]byte, ttlAt, maxHeader+room)
	entry = binary.AppendUvarint(entry, uint64(ttl.Milliseconds()))
	body := len(entry)
	entry[0] = formatPlain
	if compress {
		// The block is written where it belongs: there is room for the longest.
		// Every hit undoes what is done once: EncodeBetter takes a third longer, and decoding a quarter less.
		if block := s2.EncodeBetter(entry[body:body+room], value); len(block) <= len(value)-len(value)/3 {
			entry[0] = formatS2
			entry = entry[:body+len(block)]
		}
	}
	if entry[0] == formatPlain {
		entry = append(entry, value...)
	}
	binary.BigEndian.PutUint32(entry[checksumAt:], checksum(name, entry))
	return entry
}

// entry is what is known of a value before it is decompressed.
type entry struct {
	body []byte
	size int // of the value
	s2   bool
	ttl  time.Duration
}

// parseEntry reads an entry but for its value. It is false for what is not an entry of that name, or
// has a value that is longer than limit.
func parseEntry(name, text string, limit int) (e entry, ok bool) {
	whole := bytesOf(text)
	if len(whole) <= ttlAt || whole[0] != formatPlain && whole[0] != formatS2 ||
		binary.BigEndian.Uint32(whole[checksumAt:]) != checksum(name, whole) {
		return entry{}, false
	}
	ms, n := binary.Uvarint(whole[ttlAt:])
	if n <= 0 || ms > uint64(maxTTL.Milliseconds()) {
		return entry{}, false
	}
	e = entry{body: whole[ttlAt+n:], s2: whole[0] == formatS2, ttl: time.Duration(ms) * time.Millisecond}
	if e.size = len(e.body); e.s2 {
		// The length is what the block says of itself: it is checked before the memory is taken.
		var err error
		if e.size, err = s2.DecodedLen(e.body); err != nil {
			return entry{}, false
		}
	}
	return e, e.size <= limit
}

// value returns the value of an entry, of which it may be a part. What has to be decompressed goes into
// room, which is as long as the value, or nil.
func (e *entry) value(room []byte) (value []byte, ok bool) {
	if !e.s2 {
		return e.body, true
	}
	if room == nil {
		room = make([]byte, e.size)
	}
	value, err := s2.Decode(room, e.body)
	return value, err == nil && value != nil
}

const maxTTL = time.Duration(1<<63 - 1)

func checksum(name string, entry []byte) uint32 {
	sum := crc32.Update(crc32.Checksum(bytesOf(name), castagnoli), castagnoli, entry[:checksumAt])
	return crc32.Update(sum, castagnoli, entry[ttlAt:])
}

// bytesOf returns the bytes of a text without a copy of them. Nobody may modify them: the callers
// of Get are told so.
func bytesOf(text string) []byte {
	if text == "" {
		return []byte{}
	}
	return unsafe.Slice(unsafe.StringData(text), len(text))
}
