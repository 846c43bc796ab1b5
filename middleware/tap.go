package middleware

import (
	"bufio"
	"io"
	"net"
	"net/http"

	"github.com/alkey-go/alkey/request"
)

// tap sees when the header of a response is about to be written. It holds nothing back.
type tap struct {
	front front
	under http.ResponseWriter
	scope *request.Scope
	debug bool
	began bool // the header is written
}

func newTap(w http.ResponseWriter, s *request.Scope, debug bool) *tap {
	t := &tap{under: w, scope: s, debug: debug}
	t.front.to = t
	return t
}

// begin is called before the header is written.
func (t *tap) begin(status int) {
	if t.began {
		return
	}
	t.began = true
	h := t.under.Header()
	switch {
	case status >= http.StatusBadRequest:
		t.scope.DropETag(h)
	case status != http.StatusNotModified:
		t.scope.CheckETag(h)
	}
	if t.debug {
		h.Add("Server-Timing", t.scope.Stats().ServerTiming())
	}
}

// end is called when the handler has returned. If it has written nothing the server writes the header now.
func (t *tap) end() { t.begin(http.StatusOK) }

// abort is called when the handler has not returned: it panics. Who recovers may write an error.
func (t *tap) abort() {
	if !t.began {
		t.scope.DropETag(t.under.Header())
	}
}

func (t *tap) Header() http.Header { return t.under.Header() }

func (t *tap) WriteHeader(status int) {
	if isFinal(status) {
		t.begin(status)
	}
	t.under.WriteHeader(status)
}

func (t *tap) Write(p []byte) (int, error) {
	t.begin(http.StatusOK)
	return t.under.Write(p)
}

func (t *tap) WriteString(s string) (int, error) {
	t.begin(http.StatusOK)
	return io.WriteString(t.under, s)
}

func (t *tap) ReadFrom(src io.Reader) (int64, error) {
	t.begin(http.StatusOK)
	return readFrom(t.under, src)
}

func (t *tap) FlushError() error {
	if flushes, _ := abilities(t.under); flushes {
		t.begin(http.StatusOK)
	}
	return http.NewResponseController(t.under).Flush()
}

func (t *tap) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffer, err := http.NewResponseController(t.under).Hijack()
	t.began = t.began || err == nil
	return conn, buffer, err
}

func (t *tap) Unwrap() http.ResponseWriter { return t.under }
