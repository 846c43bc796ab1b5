package cache

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"pgregory.net/rapid"
)

// readEntry is parseEntry with the value.
func readEntry(name, text string, limit int) (value []byte, ttl time.Duration, ok bool) {
	e, ok := parseEntry(name, text, limit)
	if !ok {
		return nil, 0, false
	}
	value, ok = e.value(nil)
	return value, e.ttl, ok
}

// TestEntryFormat fixes what lies on servers: other builds read it.
func TestEntryFormat(t *testing.T) {
	for _, c := range []struct {
		value string
		ttl   time.Duration
		entry string
	}{
		{"value", 0, "a1 b588f816 00 76616c7565"},
		{"", time.Hour, "a1 07b8fa54 80dddb01"},
		{strings.Repeat("a", 2000), 300 * time.Millisecond, "a2 cc59b381 ac02 d00f006111011900c306"},
	} {
		entry, err := hex.DecodeString(strings.ReplaceAll(c.entry, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		value, ttl, ok := readEntry("p:key", string(entry), 2000)
		if !ok || value == nil || string(value) != c.value || ttl != c.ttl {
			t.Errorf("%s is read as %.10q, %v, %v", c.entry, value, ttl, ok)
		}
		// How a block is compressed is up to the version of the compressor.
		if made := appendEntry("p:key", []byte(c.value), c.ttl, 1024); made[0] != entry[0] || made[0] == formatPlain && !bytes.Equal(made, entry) {
			t.Errorf("%.10q for %v is written as %x, want %x", c.value, c.ttl, made, entry)
		}
	}
}

func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		value := bytes.Repeat(rapid.SliceOf(rapid.Byte()).Draw(t, "value"), rapid.IntRange(0, 100).Draw(t, "times"))
		given := time.Duration(rapid.Int64Range(0, int64(maxTTL)).Draw(t, "ttl")).Truncate(time.Millisecond)
		threshold := rapid.IntRange(-1, 2000).Draw(t, "threshold")
		entry := string(appendEntry(name, value, given, threshold))
		got, ttl, ok := readEntry(name, entry, len(value))
		if !ok || !bytes.Equal(got, value) || got == nil || ttl != given {
			t.Fatalf("read as %q, %v, %v", got, ttl, ok)
		}
		if len(entry) > len(value)+maxHeader {
			t.Fatalf("an entry of %d bytes for %d", len(entry), len(value))
		}
		if _, _, ok := readEntry(name+"x", entry, len(value)); ok {
			t.Fatal("it is another key's too")
		}
		if len(value) > 0 {
			if got, _, ok := readEntry(name, entry, len(value)-1); ok {
				t.Fatalf("%d bytes are over the limit", len(got))
			}
		}
		damaged := []byte(entry)
		damaged[rapid.IntRange(0, len(damaged)-1).Draw(t, "at")] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
		if _, _, ok := readEntry(name, string(damaged), len(value)); ok {
			t.Fatal("one bit is changed")
		}
	})
}

// TestEntryBomb: a block can say that it is long, and be short.
func TestEntryBomb(t *testing.T) {
	const limit = 1 << 20
	forge := func(block []byte) string {
		entry := append([]byte{formatS2, 0, 0, 0, 0, 0}, block...)
		binary.BigEndian.PutUint32(entry[checksumAt:], checksum("a", entry))
		return string(entry)
	}
	within := forge(s2.Encode(nil, make([]byte, limit)))
	if value, _, ok := readEntry("a", within, limit); !ok || len(value) != limit {
		t.Fatalf("%d bytes of %d, %v", len(value), limit, ok)
	}
	for name, bomb := range map[string]string{
		"long":          forge(s2.Encode(nil, make([]byte, 100*limit))),
		"says 4 GB":     forge(append(binary.AppendUvarint(nil, 1<<32-1), 0)),
		"says too much": forge(append(binary.AppendUvarint(nil, 1<<63), 0)),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 100 {
			if value, _, ok := readEntry("a", bomb, limit); ok {
				t.Fatalf("%s: %d bytes", name, len(value))
			}
		}
		runtime.ReadMemStats(&after)
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > limit {
			t.Errorf("%s: %d bytes are allocated to find it out 100 times", name, allocated)
		}
	}
}

// FuzzEntry reads what is no entry, and what has an entry's checksum and nothing else of it.
func FuzzEntry(f *testing.F) {
	for _, value := range []string{"", "value", strings.Repeat("long ", 500)} {
		f.Add(string(appendEntry("key", []byte(value), time.Hour, 100)))
	}
	f.Add("")
	f.Add("<p>Hello</p>")
	f.Add("\xa2\x00\x00\x00\x00\x00")
	f.Fuzz(func(t *testing.T, text string) {
		const limit = 1 << 16
		if value, _, ok := readEntry("key", text, limit); ok && (len(value) > limit || value == nil) {
			t.Errorf("%d bytes of %d", len(value), limit)
		}
		if len(text) < ttlAt {
			return
		}
		forged := []byte(text)
		binary.BigEndian.PutUint32(forged[checksumAt:], checksum("key", forged))
		value, ttl, ok := readEntry("key", string(forged), limit)
		if !ok {
			return
		}
		if len(value) > limit || value == nil || ttl < 0 {
			t.Errorf("%d bytes of %d, ttl %v", len(value), limit, ttl)
		}
		again, _, ok := readEntry("key", string(appendEntry("key", value, ttl, 100)), limit)
		if !ok || !bytes.Equal(again, value) {
			t.Errorf("%q comes back as %q, %v", value, again, ok)
		}
	})
}
