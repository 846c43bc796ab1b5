package middleware

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// front is the http.ResponseWriter that a handler gets in place of another. What the handler does with it
// goes to a sink.
//
// It has no optional interface that the one beneath has not, because handlers ask for them, and most of
// those that it has: see newFront. Flushing by http.ResponseController always comes here, so that nothing
// overtakes what the sink holds back. Deadlines and full duplex are found by Unwrap.
type front struct{ to sink }

// sink is what a front hands on to.
type sink interface {
	Header() http.Header
	WriteHeader(status int)
	Write(p []byte) (int, error)
	WriteString(s string) (int, error)
	ReadFrom(src io.Reader) (int64, error)
	FlushError() error
	Hijack() (net.Conn, *bufio.ReadWriter, error)
	Unwrap() http.ResponseWriter
}

func (f *front) Header() http.Header               { return f.to.Header() }
func (f *front) WriteHeader(status int)            { f.to.WriteHeader(status) }
func (f *front) Write(p []byte) (int, error)       { return f.to.Write(p) }
func (f *front) WriteString(s string) (int, error) { return f.to.WriteString(s) }
func (f *front) FlushError() error                 { return f.to.FlushError() }
func (f *front) Unwrap() http.ResponseWriter       { return f.to.Unwrap() }

// fronts tells that FlushError is there whatever is beneath.
func (f *front) fronts() {}

// The fronts with optional interfaces. Each is one pointer, so making one costs no memory.
type (
	flushing     struct{ *front }
	hijacking    struct{ *front }
	both         struct{ *front } // the two above
	bothAndFrom  struct{ *front } // and io.ReaderFrom, as net/http's own for HTTP/1
	flushAndPush struct{ *front } // and its own for HTTP/2
)

var (
	_ http.Flusher  = flushing{}
	_ http.Hijacker = hijacking{}
	_ io.ReaderFrom = bothAndFrom{}
	_ http.Pusher   = flushAndPush{}
)

func (f flushing) Flush()     { _ = f.to.FlushError() }
func (f both) Flush()         { _ = f.to.FlushError() }
func (f bothAndFrom) Flush()  { _ = f.to.FlushError() }
func (f flushAndPush) Flush() { _ = f.to.FlushError() }

func (f hijacking) Hijack() (net.Conn, *bufio.ReadWriter, error)   { return f.to.Hijack() }
func (f both) Hijack() (net.Conn, *bufio.ReadWriter, error)        { return f.to.Hijack() }
func (f bothAndFrom) Hijack() (net.Conn, *bufio.ReadWriter, error) { return f.to.Hijack() }

func (f bothAndFrom) ReadFrom(src io.Reader) (int64, error) { return f.to.ReadFrom(src) }

func (f flushAndPush) Push(target string, opts *http.PushOptions) error {
	return f.to.Unwrap().(http.Pusher).Push(target, opts)
}

// newFront returns f with those of the optional interfaces above that the writer beneath has. A Flusher or
// Hijacker that can only be reached by unwrapping counts: http.ResponseController would find it, and pass the
// sink by. Sets of interfaces that no server has lose io.ReaderFrom or http.Pusher, and http.CloseNotifier is
// never passed on: it is deprecated for the request's context.
func newFront(f *front, under http.ResponseWriter) http.ResponseWriter {
	flushes, hijacks := abilities(under)
	_, reads := under.(io.ReaderFrom)
	_, pushes := under.(http.Pusher)
	switch {
	case flushes && hijacks && reads:
		return bothAndFrom{f}
	case flushes && hijacks:
		return both{f}
	case flushes && pushes:
		return flushAndPush{f}
	case flushes:
		return flushing{f}
	case hijacks:
		return hijacking{f}
	}
	return f
}

// abilities tells what http.ResponseController can do with w.
func abilities(w http.ResponseWriter) (flushes, hijacks bool) {
	for {
		if !flushes {
			if _, flushes = w.(http.Flusher); !flushes {
				_, fronts := w.(interface{ fronts() })
				_, errs := w.(interface{ FlushError() error })
				flushes = errs && !fronts
			}
		}
		if !hijacks {
			_, hijacks = w.(http.Hijacker)
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if flushes && hijacks || !ok {
			return flushes, hijacks
		}
		w = u.Unwrap()
	}
}

// readFrom copies into w the way that is the fastest there.
func readFrom(w http.ResponseWriter, src io.Reader) (int64, error) {
	if to, ok := w.(io.ReaderFrom); ok {
		return to.ReadFrom(src)
	}
	return io.Copy(w, src)
}

// isFinal reports whether a status is that of the response, and not of one that comes before it.
func isFinal(status int) bool { return status >= 200 || status == http.StatusSwitchingProtocols }
