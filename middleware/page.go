package middleware

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/alkey-go/alkey/request"
)

// PageOption is how CachePage keeps responses.
type PageOption func(*pages)

// PageLimit sets how many bytes the body of a response can have that is kept. Larger ones pass as if there
// were no CachePage, and at most that much of one is held in memory. Default: 1 MiB. It panics if limit is
// not positive.
func PageLimit(limit int) PageOption {
	if limit <= 0 {
		panic(fmt.Sprintf("alkey: PageLimit(%d): a limit must be positive", limit))
	}
	return func(p *pages) { p.limit = limit }
}

// PageHeaders adds to the headers that are kept with a response. Others are sent with the response that the
// handler has made, and not with those that are found. These are kept already: Accept-CH, Accept-Ranges,
// Access-Control-*, Cache-Control, Content-Disposition, -Encoding, -Language, -Length, -Location,
// -Security-Policy, -Security-Policy-Report-Only and -Type, Cross-Origin-*, ETag, Expires, Last-Modified,
// Link, Origin-Agent-Cluster, Permissions-Policy, Referrer-Policy, Strict-Transport-Security, Vary,
// X-Content-Type-Options, X-Frame-Options, X-Robots-Tag and X-XSS-Protection. It panics for a header that
// belongs to one response or one connection: Set-Cookie, Date, Age, Server-Timing, Connection, Keep-Alive,
// Proxy-*, TE, Trailer, Transfer-Encoding, Upgrade and WWW-Authenticate.
func PageHeaders(names ...string) PageOption {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = textproto.CanonicalMIMEHeaderKey(name)
		if neverStored(list[i]) || !isToken(name) {
			panic(fmt.Sprintf("alkey: PageHeaders: %q cannot be kept: leave it out", name))
		}
	}
	return func(p *pages) { p.names = append(p.names, list...) }
}

// PageQuery names the parameters of the URL's query that tell pages apart. The others, and the order of
// all, make no difference: the handler must not use them in the page. Default: all parameters. Without
// names: none. A query that is malformed counts as it is.
func PageQuery(names ...string) PageOption {
	list := slices.Clone(names)
	return func(p *pages) { p.query, p.someQuery = append(p.query, list...), true }
}

// defaultLimit is the size of the largest body that is kept.
const defaultLimit = 1 << 20

// storedHeaders are kept by default.
var storedHeaders = []string{
	"Accept-Ch", "Accept-Ranges", "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language",
	"Content-Length", "Content-Location", "Content-Security-Policy", "Content-Security-Policy-Report-Only", "Content-Type",
	"Cross-Origin-Embedder-Policy", "Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy", "Etag", "Expires",
	"Last-Modified", "Link", "Origin-Agent-Cluster", "Permissions-Policy", "Referrer-Policy",
	"Strict-Transport-Security", "Vary", "X-Content-Type-Options", "X-Frame-Options", "X-Robots-Tag", "X-Xss-Protection",
}

// neverStored reports whether a header belongs to one response or one connection.
func neverStored(name string) bool {
	switch name {
	case "Set-Cookie", "Set-Cookie2", "Date", "Age", "Server-Timing", "Connection", "Keep-Alive", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade", "Www-Authenticate":
		return true
	}
	return strings.HasPrefix(name, "Proxy-") || strings.HasPrefix(name, http.TrailerPrefix)
}

// pages is one CachePage.
type pages struct {
	key       func(*http.Request) []any
	limit     int
	names     []string // of headers
	query     []string
	someQuery bool
}

// CachePage keeps whole responses to GET, under what key returns:
//
//	r.With(middleware.CachePage(func(r *http.Request) []any {
//		return []any{tokens.Table("articles"), "front"}
//	})).Get("/", front)
//
// A response is found as long as nothing that key names has changed, nothing that the handler has asked for
// (keys, values, fragments), and the application is the same build. All that request.Fetch says of
// values holds for responses, Options among the arguments included (leases do not apply). The middleware of
// New stands above. If key returns nil the request is served as if there were no CachePage. A list that is
// empty and not nil is one of a page that depends on what its handler asks for, and on nothing else.
//
// What differs between users must be in the key, the user first of all. CachePage knows no cookies and no
// sessions, and serves what it has to whoever asks for the same key:
//
//	middleware.CachePage(func(r *http.Request) []any {
//		return []any{currentUser(r), tokens.Table("articles"), "front"}
//	})
//
// The key also has the URL, with scheme, host, path and query: two routes do not share pages. By default
// all parameters of the query count, in any order, so that none is forgotten; then who makes up parameters
// fills the value store with pages that nobody asks for again. Say which count by PageQuery, and bound the
// store (the one in process is). What else a handler reads of the request, such as a forwarded host,
// belongs in the key, or its header's name in Vary.
//
// # What is kept
//
// A response of status 200 with the headers that PageHeaders lists, as far as the handler has set them, or
// a middleware between CachePage and the handler. What stands in the header before is written by the
// middlewares above, for each request. Vary is honoured: responses that name request headers there are
// found by requests that have the same in them, and a page has as many variants as were asked for. Of what
// is in them a digest is kept. An encoded response is one of a variant for its Accept-Encoding, even if
// Vary does not say so.
//
// Not kept is a response
//   - that sets a cookie, says no-store or private, or varies in "*", whoever has set that;
//   - with a nonce in its Content-Security-Policy, with trailers, or for one origin
//     (Access-Control-Allow-Origin) without Vary: Origin;
//   - to a request with Authorization, unless it says public; such a request is not answered by others
//     either;
//   - that was flushed or hijacked, is longer than PageLimit or not as long as its Content-Length says, or
//     that nobody has written anything of;
//   - whose handler panicked, wrote a second status (an error that it met too late), or was done when the
//     client had gone.
//
// A handler that recovers from a panic of its own, or gives up otherwise after it has begun to write, leaves
// half a page that looks like a whole one. It must say so, by http.Error (which keeps the page from being
// stored, though the status comes too late for the client) or by panicking on with http.ErrAbortHandler.
//
// Requests with a body, Range, If-Match or If-Unmodified-Since, and with Upgrade, are passed on. HEAD is
// answered from what GET has left. Other methods are passed on.
//
// # How it is served
//
// If the response has an ETag, and If-None-Match matches it, the client gets 304 Not Modified.
// If-Modified-Since alone never is enough. The handler sees neither of the two while its response may be
// kept: others want it whole. request.NotModified works all the same; what it says of Cache-Control by
// default, private, keeps the response from being stored: set another before.
//
// Requests for one page that come at the same time wait for one of them to make it, each no longer than its
// own context, and take the response if it is one for them. A request whose response cannot be kept makes
// no others wait, nor does a client that is slow or goes away. A response that may be kept is sent when it
// is complete; one that may not, from where that is known. If the handler panics before that nothing is
// sent, and who recovers may answer. Early hints (1xx) are sent at once, and not repeated.
//
// CachePage panics if key is nil; the handler it makes panics if no middleware of alkey has seen the request.
func CachePage(key func(r *http.Request) []any, opts ...PageOption) func(http.Handler) http.Handler {
	if key == nil {
		panic("alkey: CachePage without a key: give a function that returns what the page depends on")
	}
	p := &pages{key: key, limit: defaultLimit, names: slices.Clone(storedHeaders)}
	for _, o := range opts {
		o(p)
	}
	slices.Sort(p.names)
	p.names = slices.Compact(p.names)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, next) })
	}
}

func (p *pages) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if !cacheable(r) {
		next.ServeHTTP(w, r)
		return
	}
	args := p.key(r)
	if args == nil {
		next.ServeHTTP(w, r)
		return
	}
	v := visit{pages: p, w: w, r: r, next: next, authorized: r.Header["Authorization"] != nil}
	_, result, err := request.ServePage(r.Context(), &request.Page{
		Args:     args,
		URL:      p.target(r),
		Header:   r.Header,
		FindOnly: r.Method == http.MethodHead,
		Alone:    v.authorized,
		Fits:     v.fits,
		Make:     v.make,
	})
	switch {
	case err != nil:
		panic(fmt.Sprintf("alkey: CachePage for %s %s, which has not passed the middleware: put alkey.Middleware first on the router", r.Method, r.URL.Path))
	case result == request.PageFound:
		v.found()
	case result == request.PageMade:
		v.recorder.send()
	default:
		next.ServeHTTP(w, r)
	}
}

// cacheable reports whether a request is one that a stored response may answer.
func cacheable(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	if r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody {
		return false
	}
	for _, name := range []string{"Range", "If-Range", "If-Match", "If-Unmodified-Since", "Upgrade"} {
		if r.Header[name] != nil {
			return false
		}
	}
	return true
}

// target is what the key has of the URL.
func (p *pages) target(r *http.Request) string {
	b := make([]byte, 0, 128)
	if b = append(b, "http://"...); r.TLS != nil {
		b = append(b[:0], "https://"...)
	}
	// A client of HTTP/2 may send a host with slashes in it.
	b = append(b, url.PathEscape(strings.ToLower(r.Host))...)
	path := r.URL.EscapedPath()
	b = append(b, path...)
	if asked, _, _ := strings.Cut(r.RequestURI, "?"); asked != "" && asked != path {
		// A middleware has rewritten the path: two that were not the same may be now.
		b = append(append(b, ' '), asked...)
	}
	if query := p.queryOf(r.URL.RawQuery); query != "" {
		b = append(append(b, '?'), query...)
	}
	return string(b)
}

// queryOf returns the parameters that count, in the same order for all.
func (p *pages) queryOf(raw string) string {
	if raw == "" || p.someQuery && len(p.query) == 0 {
		return ""
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return " " + raw // in which a handler may see more
	}
	if p.someQuery {
		maps.DeleteFunc(values, func(name string, _ []string) bool { return !slices.Contains(p.query, name) })
	}
	return values.Encode()
}

// visit is one request.
type visit struct {
	pages      *pages
	w          http.ResponseWriter
	r          *http.Request
	next       http.Handler
	authorized bool
	stored     stored // that was found
	recorder   *recorder
}

// fits is request.Page.Fits.
func (v *visit) fits(response []byte) (ok bool) {
	v.stored, ok = decodeStored(response)
	return ok && (v.stored.public || !v.authorized)
}

// found sends a response that was stored.
func (v *visit) found() {
	s, h := &v.stored, v.w.Header()
	s.apply(h)
	if tag := h.Get("Etag"); tag != "" && request.MatchesETag(v.r.Header, tag) {
		notModified(v.w)
		return
	}
	if v.r.Method == http.MethodHead {
		if _, ok := h["Content-Type"]; !ok && h.Get("Content-Encoding") == "" && len(s.body) > 0 {
			h.Set("Content-Type", http.DetectContentType(s.body)) // as net/http does where it sees a body
		}
		h.Set("Content-Length", strconv.Itoa(len(s.body)))
		v.w.WriteHeader(http.StatusOK)
		return
	}
	v.w.WriteHeader(http.StatusOK)
	if len(s.body) > 0 {
		_, _ = v.w.Write(s.body) // the client may have gone
	}
}

// notModified sends 304, without what describes a body.
func notModified(w http.ResponseWriter) {
	h := w.Header()
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Encoding", "Content-Range", "Last-Modified"} {
		h.Del(name)
	}
	w.WriteHeader(http.StatusNotModified)
}

// make is request.Page.Make.
func (v *visit) make(ctx context.Context, fill *request.PageFill) (response []byte, vary []string) {
	c := newRecorder(v, fill)
	v.recorder = c
	r := v.r.WithContext(ctx)
	// What middlewares change from here is not what other requests are compared with.
	r.Header = r.Header.Clone()
	c.conditional = r.Header["If-None-Match"] != nil
	r.Header.Del("If-None-Match")
	r.Header.Del("If-Modified-Since")
	returned := false
	defer func() {
		if !returned {
			c.abort()
		}
	}()
	v.next.ServeHTTP(newFront(&c.front, v.w), r)
	returned = true
	return c.end()
}
