package middleware

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/alkey-go/alkey/request"
)

// refusal tells in one word why a response with that status and header cannot be kept, and "" of one that
// can. It also returns what Vary names, and whether the response says public. What stood in the header before
// the handler is in before.
func refusal(status int, before, h http.Header, authorized bool) (why string, vary []string, public bool) {
	if status != http.StatusOK {
		return "status", nil, false
	}
	if len(h["Set-Cookie"]) > 0 {
		return "set-cookie", nil, false
	}
	if len(h["Trailer"]) > 0 || len(h["Transfer-Encoding"]) > 0 || len(h["Content-Range"]) > 0 {
		return "transfer", nil, false
	}
	for name := range h {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			return "transfer", nil, false
		}
	}
	control, ok := directives(h["Cache-Control"])
	if !ok || slices.Contains(control, "no-store") {
		return "no-store", nil, false
	}
	if slices.Contains(control, "private") {
		return "private", nil, false
	}
	if public = slices.Contains(control, "public"); authorized && !public {
		return "authorization", nil, false
	}
	names := h["Vary"]
	if h.Get("Content-Encoding") != "" {
		// Whoever has encoded it may have forgotten to say so.
		names = append(names[:len(names):len(names)], "Accept-Encoding")
	}
	if vary, ok = varied(names); !ok {
		return "vary", nil, false
	}
	for _, name := range []string{"Content-Security-Policy", "Content-Security-Policy-Report-Only"} {
		for _, policy := range h[name] {
			if strings.Contains(strings.ToLower(policy), "'nonce-") {
				return "nonce", nil, false
			}
		}
	}
	if !forAllOrigins(before, h, vary) {
		return "cors", nil, false
	}
	return "", vary, public
}

// directives returns the names of the directives of Cache-Control, in lower case. A directive with a list of
// names (private="x") counts as one without. It is false for what cannot be read to the end.
func directives(values []string) (names []string, ok bool) {
	for _, value := range values {
		for value != "" {
			end := strings.IndexAny(value, `,="`)
			if end < 0 {
				end = len(value)
			}
			if name := strings.ToLower(strings.Trim(value[:end], " \t")); name != "" {
				names = append(names, name)
			}
			// The argument, if there is one, goes to the next comma that is not in quotes.
			quoted := false
			for ; end < len(value) && (quoted || value[end] != ','); end++ {
				switch {
				case quoted && value[end] == '\\':
					end++
				case value[end] == '"':
					quoted = !quoted
				}
			}
			if quoted {
				return names, false
			}
			value = value[min(end+1, len(value)):]
		}
	}
	return names, true
}

// varied returns what Vary names: canonical, sorted, each once. It is false for "*", for what names no
// header, and for too many.
func varied(values []string) (names []string, ok bool) {
	for _, value := range values {
		for name := range strings.SplitSeq(value, ",") {
			switch name = strings.Trim(name, " \t"); {
			case name == "":
			case name == "*" || !isToken(name):
				return nil, false
			default:
				names = append(names, textproto.CanonicalMIMEHeaderKey(name))
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return names, len(names) <= request.MaxVary
}

// isToken reports whether s can be the name of a header.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if ('a' > c || c > 'z') && ('A' > c || c > 'Z') && ('0' > c || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

const (
	crossOrigin   = "Access-Control-"
	allowedOrigin = crossOrigin + "Allow-Origin"
)

// forAllOrigins reports whether what the handler says of other origins can be said to all that get the same
// response.
func forAllOrigins(before, h http.Header, vary []string) bool {
	allowed := h[allowedOrigin]
	return len(allowed) == 0 || slices.Equal(allowed, before[allowedOrigin]) ||
		len(allowed) == 1 && allowed[0] == "*" || slices.Contains(vary, "Origin")
}

// headersOf returns the names of the headers that are kept with a response.
func (p *pages) headersOf(h http.Header) []string {
	names := p.names
	for name := range h {
		if strings.HasPrefix(name, crossOrigin) && !slices.Contains(p.names, name) {
			names = append(names[:len(names):len(names)], name)
		}
	}
	return names
}
