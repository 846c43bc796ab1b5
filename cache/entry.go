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

// appendEntry makes the entry of a value. One longer than threshold is compressed if that saves an
// eighth of it: a hit has to undo it every time. A negative threshold compresses nothing.
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
		if block := s2.Encode(entry[body:body+room], value); len(block) <= len(value)-len(value)/8 {
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

// parseEntry returns the value of an entry, of which it may be a part, and how long it lives. It is
// false for what is not an entry of that name, or is longer than limit.
func parseEntry(name, text string, limit int) (value []byte, ttl time.Duration, ok bool) {
	entry := bytesOf(text)
	if len(entry) <= ttlAt || entry[0] != formatPlain && entry[0] != formatS2 ||
		binary.BigEndian.Uint32(entry[checksumAt:]) != checksum(name, entry) {
		return nil, 0, false
	}
	ms, n := binary.Uvarint(entry[ttlAt:])
	if n <= 0 || ms > uint64(maxTTL.Milliseconds()) {
		return nil, 0, false
	}
	ttl = time.Duration(ms) * time.Millisecond
	body := entry[ttlAt+n:]
	if entry[0] == formatPlain {
		return body, ttl, len(body) <= limit
	}
	// The length is what the block says of itself: it is checked before the memory is taken.
	if size, err := s2.DecodedLen(body); err != nil || size > limit {
		return nil, 0, false
	}
	value, err := s2.Decode(nil, body)
	if err != nil {
		return nil, 0, false
	}
	if value == nil {
		value = []byte{}
	}
	return value, ttl, true
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
