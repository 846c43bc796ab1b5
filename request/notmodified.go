package request

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// NotModified sends 304 Not Modified if the client has the response already, and reports whether it
// did: then the handler returns. Call it before anything is loaded or written, with all that the
// response is made of as arguments:
//
//	if request.NotModified(w, r, currentUser, user, "page") {
//		return
//	}
//
// The client has the response if its If-None-Match has the ETag of the same arguments and the same
// build, or is "*", and nothing that the arguments name has changed since or is about to.
// If-Modified-Since alone never is enough: a second is too coarse. Only GET and HEAD are answered; for
// other methods NotModified does nothing. An ETag knows its arguments only, and nothing of what is asked
// for later. What differs between users must be among the arguments, the user first of all.
//
// It sets the header for both answers: the ETag, weak unless StrongETag says otherwise; Cache-Control,
// by default "private, no-cache", if there is none; and Vary, to which it adds what Config.Vary names.
// What the handler sets afterwards replaces that. The ETag is set only if the key is storable: a
// response that may be made of older data, or of what is not committed, must not carry the new tag.
// That is judged now, and by the middleware again when the header is written: the ETag is taken back if the
// handler has written to the database in between, and from errors.
//
// Options can stand among the arguments. Arguments that make no key are logged, once each, and there is
// no ETag. It panics if no middleware of alkey has seen the request.
func NotModified(w http.ResponseWriter, r *http.Request, args ...any) bool {
	ctx := r.Context()
	s, ok := FromContext(ctx)
	if !ok {
		panic(fmt.Sprintf("alkey: NotModified for %s %s, which has not passed the middleware: put alkey.Middleware first on the router, and pass the request that the handler got", r.Method, r.URL.Path))
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	args, settings := s.kit.withoutOptions(args)
	k, err := s.Key(ctx, args...)
	if err != nil {
		s.complain(ctx, err)
	}
	h := w.Header()
	if len(h["Cache-Control"]) == 0 {
		h.Set("Cache-Control", s.kit.config.CacheControl)
	}
	addVary(h, s.kit.config.Vary)

	usable, reason := k.judge()
	var tag string
	if usable || reason == 0 {
		tag = s.kit.etag(k.text, settings.strong)
	}
	asked, ok := r.Header["If-None-Match"]
	if !ok {
		asked, _ = ctx.Value(ifNoneMatchKey{}).([]string)
	}
	matches, any := tag != "" && slices.ContainsFunc(asked, func(list string) bool { return hasTag(list, tag) }), isAny(asked)
	if reason == 0 || matches {
		// What a client confirms to have was made when it was storable.
		h.Set("ETag", tag)
		s.tag(k, tag)
	}
	if !usable || !matches && !any {
		return false
	}
	// As http.ServeContent does: what describes a body goes, what a 200 would say stays.
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Encoding", "Content-Range", "Last-Modified"} {
		h.Del(name)
	}
	w.WriteHeader(http.StatusNotModified)
	return true
}

// tagged is an ETag that was set, and the key that it was made of.
type tagged struct {
	key Key
	tag string
}

func (s *Scope) tag(k Key, tag string) {
	s.mu.Lock()
	s.tagged = &tagged{k, tag}
	s.mu.Unlock()
}

// CheckETag takes from a header, which is about to be written with a response that has a body, the ETag
// that NotModified has set, if the request has written to the database since, or something it has read
// was taken back. It leaves an ETag alone that somebody else has set, and one that another's commit has made
// old meanwhile: it says less than the response holds, and the client asks in vain once. The middleware calls
// it for every response to GET and HEAD.
func (s *Scope) CheckETag(h http.Header) {
	if t := s.tagIn(h); t != nil && !t.key.Storable() {
		h.Del("ETag")
	}
}

// DropETag takes the ETag that NotModified has set from the header of an error: it is the tag of what the
// client wanted, and must not make the error last as long as that does not change.
func (s *Scope) DropETag(h http.Header) {
	if s.tagIn(h) != nil {
		h.Del("ETag")
	}
}

// tagIn returns the tag that NotModified has set, if the header has it.
func (s *Scope) tagIn(h http.Header) *tagged {
	s.mu.Lock()
	t := s.tagged
	s.mu.Unlock()
	if t == nil || h.Get("ETag") != t.tag {
		return nil
	}
	return t
}

// MatchesETag reports whether a request with this header comes from a client that has the response with that
// ETag: whether If-None-Match names it, by weak comparison, or is "*".
func MatchesETag(h http.Header, tag string) bool {
	asked := h["If-None-Match"]
	return tag != "" && (isAny(asked) || slices.ContainsFunc(asked, func(list string) bool { return hasTag(list, tag) }))
}

// etag makes the tag of a key's text, which has the tokens, and of the application's version.
func (k *Kit) etag(text string, strong bool) string {
	b := make([]byte, 0, 256)
	b = append(append(b, k.version()...), 0)
	b = append(b, text...)
	sum := sha256.Sum256(b)
	tag := make([]byte, 0, 32)
	if !strong {
		tag = append(tag, "W/"...)
	}
	tag = append(tag, '"')
	tag = base64.RawURLEncoding.AppendEncode(tag, sum[:16])
	return string(append(tag, '"'))
}

// isAny reports whether If-None-Match is "*".
func isAny(values []string) bool {
	return len(values) == 1 && strings.Trim(values[0], " \t") == "*"
}

// hasTag reports whether a list of entity tags has one, by the weak comparison of RFC 9110, section
// 8.8.3.2, which is the one for If-None-Match. What follows something that is no tag is not looked at.
func hasTag(list, tag string) bool {
	tag = strings.TrimPrefix(tag, "W/")
	for {
		list = strings.TrimLeft(list, " \t,")
		list = strings.TrimPrefix(list, "W/")
		if len(list) < 2 || list[0] != '"' {
			return false
		}
		end := strings.IndexByte(list[1:], '"')
		if end < 0 {
			return false
		}
		if list[:end+2] == tag {
			return true
		}
		list = list[end+2:]
		if rest := strings.TrimLeft(list, " \t"); rest != "" && rest[0] != ',' {
			return false
		}
	}
}

// addVary adds names to Vary that it does not have.
func addVary(h http.Header, names []string) {
	for _, name := range names {
		has := false
		for _, value := range h["Vary"] {
			for have := range strings.SplitSeq(value, ",") {
				have = strings.Trim(have, " \t")
				has = has || have == "*" || strings.EqualFold(have, name)
			}
		}
		if !has {
			h.Add("Vary", name)
		}
	}
}
