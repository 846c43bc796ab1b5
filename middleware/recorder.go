package middleware

import (
	"bufio"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/alkey-go/alkey/request"
)

// recorder holds back a response that may be kept, until it is complete or it is known that it will
// not be kept. From then on all passes.
//
// Holding back is what lets others have the response before a slow client has read it. The server makes of
// one piece what it makes of many: where net/http decides by how much was written it is at the end, or
// at 2 kB, which come with the first piece.
type recorder struct {
	front front
	under http.ResponseWriter
	visit *visit
	fill  *request.PageFill

	before      http.Header // before the handler
	conditional bool        // the handler does not know what the client has

	state  state
	header http.Header // as it was when it was written; nil before
	vary   []string
	public bool
	length int // that the header says, -1 if it does not
	body   []byte
}

type state int

const (
	holding state = iota
	passing
	// mute: the client was told that it has the response.
	mute
)

func newRecorder(v *visit, fill *request.PageFill) *recorder {
	c := &recorder{under: v.w, visit: v, fill: fill, before: v.w.Header().Clone()}
	c.front.to = c
	return c
}

func (c *recorder) Header() http.Header { return c.under.Header() }

func (c *recorder) Unwrap() http.ResponseWriter { return c.under }

func (c *recorder) WriteHeader(status int) {
	switch {
	case c.state == holding && c.header != nil:
		// The handler has met an error after it had begun to write, most likely. The server complains.
		c.refuse("rewritten", true)
		c.under.WriteHeader(status)
		return
	case c.state != holding || !isFinal(status) && status >= 100:
		c.under.WriteHeader(status)
		return
	}
	h := c.under.Header()
	why, vary, public := refusal(status, c.before, h, c.visit.authorized)
	c.length = -1
	if text := h.Get("Content-Length"); why == "" && text != "" {
		n, err := strconv.Atoi(text)
		switch {
		case err != nil || n < 0 || len(h["Content-Length"]) > 1:
			why = "length"
		case n > c.visit.pages.limit:
			why = "size"
		}
		c.length = n
	}
	if why != "" {
		// A 304 is no sign of a response that cannot be kept.
		c.refuse(why, status != http.StatusNotModified)
		c.writeHeader(status)
		return
	}
	c.header, c.vary, c.public = h.Clone(), vary, public
}

// writeHeader writes the header that stands in the writer beneath, or tells the client that it has the
// response: the handler could not know.
func (c *recorder) writeHeader(status int) {
	if tag := c.under.Header().Get("Etag"); c.conditional && status == http.StatusOK && request.MatchesETag(c.visit.r.Header, tag) {
		c.state = mute
		notModified(c.under)
		return
	}
	c.under.WriteHeader(status)
}

// refuse is called when it is known that the response will not be kept. What was held back is sent.
func (c *recorder) refuse(why string, lasting bool) {
	c.fill.Release(why, lasting)
	c.pass()
}

// pass sends what is held back, and lets pass what comes.
func (c *recorder) pass() {
	c.state = passing
	if c.header == nil {
		return
	}
	trailers := c.restore(c.header)
	c.writeHeader(http.StatusOK)
	maps.Copy(c.under.Header(), trailers) // now they cannot change how the body is sent
	if body := c.body; len(body) > 0 && c.state == passing {
		c.body = nil
		_, _ = c.under.Write(body) // if the client has gone the handler's next Write tells
	}
}

// restore makes the header what it was. It returns the trailers that have been written to it since.
func (c *recorder) restore(was http.Header) (trailers http.Header) {
	h := c.under.Header()
	for name, values := range h {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			if trailers == nil {
				trailers = make(http.Header)
			}
			trailers[name] = values
		}
	}
	clear(h)
	maps.Copy(h, was)
	return trailers
}

// takes reports whether there is room for so many bytes. If there is not all passes.
func (c *recorder) takes(n int) bool {
	if c.state == holding && c.header == nil {
		c.WriteHeader(http.StatusOK)
	}
	if c.state != holding {
		return false
	}
	switch size := len(c.body) + n; {
	case c.length >= 0 && size > c.length:
		c.refuse("length", true)
	case size > c.visit.pages.limit:
		c.refuse("size", true)
	default:
		return true
	}
	return false
}

func (c *recorder) Write(p []byte) (int, error) {
	if c.takes(len(p)) {
		c.body = append(c.body, p...)
		return len(p), nil
	}
	if c.state == mute {
		return len(p), nil
	}
	return c.under.Write(p)
}

func (c *recorder) WriteString(s string) (int, error) {
	if c.takes(len(s)) {
		c.body = append(c.body, s...)
		return len(s), nil
	}
	if c.state == mute {
		return len(s), nil
	}
	return io.WriteString(c.under, s)
}

func (c *recorder) ReadFrom(src io.Reader) (n int64, err error) {
	if c.state == holding {
		piece := make([]byte, 16<<10)
		for c.state == holding {
			k, err := src.Read(piece)
			if k > 0 {
				written, failed := c.Write(piece[:k])
				n += int64(written)
				if failed != nil {
					return n, failed
				}
			}
			if err == io.EOF {
				return n, nil
			}
			if err != nil {
				return n, err
			}
		}
	}
	var rest int64
	if c.state == mute {
		rest, err = io.Copy(io.Discard, src)
	} else {
		rest, err = readFrom(c.under, src)
	}
	return n + rest, err
}

func (c *recorder) FlushError() error {
	if c.state == holding {
		if flushes, _ := abilities(c.under); flushes {
			c.refuse("flushed", true)
		}
	}
	return http.NewResponseController(c.under).Flush()
}

func (c *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if c.state == holding {
		if _, hijacks := abilities(c.under); hijacks {
			c.refuse("hijacked", true)
		}
	}
	return http.NewResponseController(c.under).Hijack()
}

// end is called when the handler has returned. It returns what is to be stored, nil for nothing.
func (c *recorder) end() (response []byte, vary []string) {
	switch {
	case c.state != holding:
		return nil, nil
	case c.header == nil:
		// A handler that has given up says nothing. So does one that has found its way to the writer
		// beneath.
		c.refuse("empty", true)
		return nil, nil
	case c.length >= 0 && len(c.body) != c.length:
		c.refuse("length", true)
		return nil, nil
	}
	for name := range c.under.Header() {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			c.refuse("transfer", true)
			return nil, nil
		}
	}
	s := stored{public: c.public, header: changes(c.before, c.header, c.visit.pages.headersOf(c.header)), body: c.body}
	return s.encode(), c.vary
}

// send sends what is still held back.
func (c *recorder) send() {
	if c.state == holding {
		c.pass()
	}
}

// abort is called when the handler has not returned: it panics. Who recovers may write a response of his
// own, to which the header of this one does not belong.
func (c *recorder) abort() {
	if c.state == holding && c.header != nil {
		c.state = passing
		c.restore(c.before)
	}
}
