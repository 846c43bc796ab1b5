package middleware

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestDirectives(t *testing.T) {
	for value, want := range map[string][]string{
		"":                                 nil,
		"no-store":                         {"no-store"},
		" Max-Age=5 ,\tNO-STORE":           {"max-age", "no-store"},
		`private="x, no-store", public`:    {"private", "public"},
		`a="\", private", b`:               {"a", "b"},
		`a=b"c, private" , d`:              {"a", "d"},
		",,a,,":                            {"a"},
		"a=b=c,d":                          {"a", "d"},
		`"no-store"`:                       nil,
		`no-cache="set-cookie",max-age=60`: {"no-cache", "max-age"},
	} {
		if got, ok := directives([]string{value}); !ok || !slices.Equal(got, want) {
			t.Errorf("%q: %q %t, want %q", value, got, ok, want)
		}
	}
	for _, value := range []string{`a="`, `a="b\"`, `"`, `a, b="c, d`, `a="\`} {
		if got, ok := directives([]string{value}); ok {
			t.Errorf("%q: %q", value, got)
		}
	}
}

// FuzzDirectives: what is not in quotes is seen, whatever stands around it.
func FuzzDirectives(f *testing.F) {
	f.Add("max-age=5", `ext="a, b"`)
	f.Add(`a="\"`, `"`)
	f.Fuzz(func(t *testing.T, before, after string) {
		names, ok := directives([]string{before})
		more, okMore := directives([]string{before + ",no-store," + after})
		if ok && okMore && (len(more) <= len(names) || more[len(names)] != "no-store") {
			t.Errorf("%q, %q: %q", before, after, more)
		}
		if _, okAfter := directives([]string{after}); ok && okMore != okAfter {
			t.Errorf("%q, %q: %t and %t", before, after, okMore, okAfter)
		}
	})
}

// TestHeldBackIsFreed: when it is known that a response is not kept, what was held back of it is not either.
func TestHeldBackIsFreed(t *testing.T) {
	under := httptest.NewRecorder()
	c := newRecorder(&visit{pages: &pages{limit: 1 << 10}, w: under, r: httptest.NewRequest("GET", "/", nil)}, nil)
	for range 2 {
		if _, err := c.Write(make([]byte, 1<<10)); err != nil { // the second is too much
			t.Fatal(err)
		}
		if c.state == holding && len(c.body) != 1<<10 || c.state != holding && c.body != nil {
			t.Errorf("state %d: %d bytes are held", c.state, len(c.body))
		}
		if c.state == holding {
			c.pass() // as by refuse
		}
	}
	if under.Body.Len() != 2<<10 {
		t.Errorf("%d bytes have passed", under.Body.Len())
	}
}

func TestStoredIsRead(t *testing.T) {
	for _, s := range []stored{
		{header: []change{}, body: []byte{}},
		{public: true, header: []change{{"A", replaces, []string{"1", ""}}, {"B", deletes, []string{}}, {"C", adds, []string{strings.Repeat("x", 300)}}}, body: []byte("body")},
	} {
		got, ok := decodeStored(s.encode())
		if !ok || !reflect.DeepEqual(got, s) {
			t.Errorf("%+v %t, want %+v", got, ok, s)
		}
	}
}

// FuzzStored: what cannot be read is a miss, and what can be is what would be written.
func FuzzStored(f *testing.F) {
	s := stored{public: true, header: []change{{"A", adds, []string{"1", "2"}}, {"B", deletes, nil}}, body: []byte("body")}
	f.Add(s.encode())
	f.Add([]byte{0, 0})
	f.Add([]byte{0, 3, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, ok := decodeStored(b)
		if !ok {
			return
		}
		again, ok := decodeStored(s.encode())
		if !ok || !reflect.DeepEqual(again, s) {
			t.Errorf("%+v and %+v", s, again)
		}
		s.apply(http.Header{})
	})
}

// FuzzVary: whoever names a header finds it in the list, or the response is not kept.
func FuzzVary(f *testing.F) {
	f.Add("accept, ORIGIN")
	f.Add("*")
	f.Fuzz(func(t *testing.T, value string) {
		names, ok := varied([]string{value, "origin"})
		if ok && (!slices.Contains(names, "Origin") || !slices.IsSorted(names)) {
			t.Errorf("%q: %q", value, names)
		}
		if ok && strings.Contains(value, "*") && slices.Contains(names, "*") {
			t.Errorf("%q: %q", value, names)
		}
	})
}
