package main

import (
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/alkey-go/alkey"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
)

// site is the whole application on a server of its own.
type site struct {
	url    string
	client *http.Client
}

// newSite starts the application on the database of a DATABASE_URL.
func newSite(t *testing.T, ts *tokens.Store, databaseURL string) *site {
	t.Helper()
	at, err := sourceOf(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	db, err := alkey.Open(at.driver, at.dsn, ts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s := newStore(db)
	if err := s.migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, err := newApp(t.Context(), s, ts)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(a.routes())
	t.Cleanup(server.Close)
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &site{url: server.URL, client: client}
}

// onDatabases runs a test with every kind of database and a token store in process.
func onDatabases(t *testing.T, test func(*testing.T, *site)) {
	onURLs(t, func(t *testing.T, databaseURL string) {
		test(t, newSite(t, memoryStore(t), databaseURL))
	})
}

// onStores runs a test with every kind of database and every kind of token store.
func onStores(t *testing.T, test func(*testing.T, *site)) {
	t.Run("memory", func(t *testing.T) { onDatabases(t, test) })
	t.Run("redis", func(t *testing.T) {
		server := redisServer(t)
		onURLs(t, func(t *testing.T, databaseURL string) {
			test(t, newSite(t, redisStore(t, server), databaseURL))
		})
	})
}

func memoryStore(t *testing.T) *tokens.Store {
	ts := tokens.NewMemory()
	t.Cleanup(func() { ts.Close() })
	return ts
}

// redisServer starts a server that has been met before: on a new one nothing is used for two seconds.
func redisServer(t *testing.T) *testserver.RedisServer {
	t.Helper()
	server := testserver.Redis(t)
	tokenstest.Ready(t, redisStore(t, server))
	return server
}

func redisStore(t *testing.T, server *testserver.RedisServer) *tokens.Store {
	t.Helper()
	var opts tokens.RedisOptions
	opts.Addrs = []string{server.Addr()}
	ts, err := tokens.NewRedis(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ts.Close() })
	return ts
}

// page is an answer, with the keys that it shows.
type page struct {
	status   int
	location string
	body     string
	header   http.Header
	key      string            // of the whole page
	state    map[string]string // by the parts' keys
}

var (
	pageKey = regexp.MustCompile(`<code id="page-key">([^<]*)</code>`)
	partKey = regexp.MustCompile(`<b class="state \w+">([^<]*)</b> <code>([^<]*)</code>`)
)

func (s *site) do(r *http.Request) (page, error) {
	res, err := s.client.Do(r)
	if err != nil {
		return page{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return page{}, err
	}
	p := page{status: res.StatusCode, location: res.Header.Get("Location"), body: string(body), header: res.Header, state: map[string]string{}}
	if m := pageKey.FindStringSubmatch(p.body); m != nil {
		p.key = html.UnescapeString(m[1])
	}
	for _, m := range partKey.FindAllStringSubmatch(p.body, -1) {
		p.state[html.UnescapeString(m[2])] = m[1]
	}
	return p, nil
}

func (s *site) tryGet(path string) (page, error) {
	r, err := http.NewRequest(http.MethodGet, s.url+path, nil)
	if err != nil {
		return page{}, err
	}
	return s.do(r)
}

func (s *site) tryPost(path string, fields url.Values) (page, error) {
	r, err := http.NewRequest(http.MethodPost, s.url+path, strings.NewReader(fields.Encode()))
	if err != nil {
		return page{}, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return s.do(r)
}

// get asks for a page that must be there.
func (s *site) get(t *testing.T, path string) page {
	t.Helper()
	p, err := s.tryGet(path)
	if err != nil || p.status != http.StatusOK {
		t.Fatalf("GET %s: status %d, %v\n%s", path, p.status, err, p.body)
	}
	return p
}

// post sends a form, given as pairs of names and values, which must be answered with status.
func (s *site) post(t *testing.T, status int, path string, pairs ...string) page {
	t.Helper()
	fields := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		fields.Set(pairs[i], pairs[i+1])
	}
	p, err := s.tryPost(path, fields)
	if err != nil || p.status != status {
		t.Fatalf("POST %s %v: status %d, %v; want %d\n%s", path, fields, p.status, err, status, p.body)
	}
	return p
}

// part returns the key of the part that it ends with, and its state.
func (p page) part(t *testing.T, end string) (key, state string) {
	t.Helper()
	for k := range p.state {
		if strings.HasSuffix(k, end) {
			if key != "" {
				t.Fatalf("two parts end with %q", end)
			}
			key = k
		}
	}
	if key == "" {
		t.Fatalf("no part ends with %q: %v", end, p.state)
	}
	return key, p.state[key]
}

// all checks that all parts are in one state.
func (p page) all(t *testing.T, state string, parts int) {
	t.Helper()
	if len(p.state) != parts {
		t.Errorf("%d parts, want %d: %v", len(p.state), parts, p.state)
	}
	for key, s := range p.state {
		if s != state {
			t.Errorf("%s is %q, want %q", key, s, state)
		}
	}
}

func mustContain(t *testing.T, p page, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(p.body, text) {
			t.Errorf("the page does not have %q:\n%s", text, p.body)
		}
	}
}

func TestSecondRequestFinds(t *testing.T) {
	onStores(t, func(t *testing.T, s *site) {
		for path, parts := range map[string]int{"/users": 4, "/users/1": 3} {
			first := s.get(t, path)
			first.all(t, "made", parts)
			second := s.get(t, path)
			second.all(t, "found", parts)
			if first.key != second.key || !slices.Equal(slices.Sorted(maps.Keys(first.state)), slices.Sorted(maps.Keys(second.state))) {
				t.Errorf("%s has other keys without a change", path)
			}
		}
	})
}

// The front page is kept as a whole, until something changes that it shows.
func TestFrontPageIsKept(t *testing.T) {
	onStores(t, func(t *testing.T, s *site) {
		timing := func(p page, want string) {
			t.Helper()
			if got := p.header.Get("Server-Timing"); !strings.Contains(got, want) {
				t.Errorf("Server-Timing: %q, want %q in it", got, want)
			}
		}
		first := s.get(t, "/")
		first.all(t, "made", 2)
		timing(first, "page=stored")
		second := s.get(t, "/")
		timing(second, "page=hit")
		if first.body != second.body {
			t.Errorf("the page was not kept:\n%s\n%s", first.body, second.body)
		}

		s.post(t, http.StatusSeeOther, "/users/1/orders", "item", "Punched cards", "amount", "19.95")
		s.get(t, "/") // may have been begun by one who knows of the change since, and then keeps nothing
		now := s.get(t, "/")
		partStays(t, first, now, "/count")
		if before, _ := first.part(t, "/totals"); before == "" {
			t.Error("no totals")
		} else if after, _ := now.part(t, "/totals"); after == before {
			t.Errorf("%s did not change", before)
		}
		timing(s.get(t, "/"), "page=hit")
	})
}

// A client that has a user's page is told so, until the user or an order changes.
func TestNotModified(t *testing.T) {
	onStores(t, func(t *testing.T, s *site) {
		again := func(tag string) page {
			t.Helper()
			r, err := http.NewRequest(http.MethodGet, s.url+"/users/1", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("If-None-Match", tag)
			p, err := s.do(r)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		s.get(t, "/users/1") // its keys are new to the first
		tag := s.get(t, "/users/1").header.Get("ETag")
		if p := again(tag); tag == "" || p.status != http.StatusNotModified || p.body != "" {
			t.Errorf("with ETag %q: status %d, %q", tag, p.status, p.body)
		}
		s.post(t, http.StatusSeeOther, "/users/2", "name", "Grace B.")
		if p := again(tag); p.status != http.StatusNotModified {
			t.Errorf("after an edit of another user: status %d", p.status)
		}
		s.post(t, http.StatusSeeOther, "/users/1", "name", "Ada King")
		if p := again(tag); p.status != http.StatusOK {
			t.Errorf("after an edit: status %d", p.status)
		} else {
			mustContain(t, p, "<dd>Ada King</dd>")
		}
		s.get(t, "/users/1")
		tag = s.get(t, "/users/1").header.Get("ETag")
		s.post(t, http.StatusSeeOther, "/users/1/delete")
		if p := again(tag); p.status != http.StatusNotFound || p.header.Get("ETag") != "" {
			t.Errorf("after the deletion: status %d, ETag %q", p.status, p.header.Get("ETag"))
		}
	})
}

// An edit changes the keys of what shows the user, and of nothing else.
func TestEdit(t *testing.T) {
	onStores(t, func(t *testing.T, s *site) {
		s.get(t, "/users") // the first request makes the parts
		list, one, two, home := s.get(t, "/users"), s.get(t, "/users/1"), s.get(t, "/users/2"), s.get(t, "/")

		p := s.post(t, http.StatusSeeOther, "/users/1", "name", "Ada <King> & Sons", "email", "king@example.org")
		if p.location != "/users/1" {
			t.Errorf("sent to %q", p.location)
		}

		now := s.get(t, "/users/1")
		mustContain(t, now, "Ada &lt;King&gt; &amp; Sons", "king@example.org")
		changed(t, "the page of 1", one.key, now.key)
		partChanged(t, one, now, "/card")
		partStays(t, one, now, "/orders")
		partStays(t, one, now, "/totals")

		now = s.get(t, "/users/2")
		if now.key != two.key {
			t.Errorf("the page of 2: %s became %s", two.key, now.key)
		}
		now.all(t, "found", 3)

		now = s.get(t, "/users")
		mustContain(t, now, "Ada &lt;King&gt; &amp; Sons")
		partChanged(t, list, now, "/list")
		partChanged(t, list, now, "alkey:users#1")
		partStays(t, list, now, "alkey:users#2")
		partStays(t, list, now, "alkey:users#3")

		now = s.get(t, "/")
		partChanged(t, home, now, "/count")
		partStays(t, home, now, "/totals")
	})
}

func changed(t *testing.T, what, before, after string) {
	t.Helper()
	if before == "" || after == "" || before == after {
		t.Errorf("%s: %q did not change (%q)", what, before, after)
	}
}

func partChanged(t *testing.T, before, after page, end string) {
	t.Helper()
	b, _ := before.part(t, end)
	a, state := after.part(t, end)
	changed(t, end, b, a)
	if state != "made" {
		t.Errorf("%s is %q after a change", a, state)
	}
}

func partStays(t *testing.T, before, after page, end string) {
	t.Helper()
	b, _ := before.part(t, end)
	a, state := after.part(t, end)
	if a != b || state != "found" {
		t.Errorf("%s became %s and is %q", b, a, state)
	}
}

func TestFieldNotSentStays(t *testing.T) {
	onStores(t, func(t *testing.T, s *site) {
		s.post(t, http.StatusSeeOther, "/users/1", "name", "Ada King")
		mustContain(t, s.get(t, "/users/1"), "<dd>Ada King</dd>", ">ada@example.org</a>")
		s.post(t, http.StatusSeeOther, "/users/1", "email", "  king@example.org ")
		before := s.get(t, "/users/1")
		mustContain(t, before, "<dd>Ada King</dd>", ">king@example.org</a>")
		// Nothing sent changes nothing.
		s.post(t, http.StatusSeeOther, "/users/1")
		if now := s.get(t, "/users/1"); now.key != before.key {
			t.Errorf("an empty form changed %s to %s", before.key, now.key)
		}
	})
}

func TestMultipartForm(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *site) {
		body := "--x\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nAda King\r\n--x--\r\n"
		r, err := http.NewRequest(http.MethodPost, s.url+"/users/1", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		if p, err := s.do(r); err != nil || p.status != http.StatusSeeOther {
			t.Fatalf("status %d, %v", p.status, err)
		}
		mustContain(t, s.get(t, "/users/1"), "<dd>Ada King</dd>")
	})
}

func TestCreate(t *testing.T) {
	onStores(t, func(t *testing.T, s *site) {
		s.get(t, "/users")
		before := s.get(t, "/users")
		p := s.post(t, http.StatusSeeOther, "/users", "name", "Barbara Liskov", "email", "barbara@example.org")
		if p.location != "/users/4" {
			t.Fatalf("sent to %q", p.location)
		}
		created := s.get(t, p.location)
		mustContain(t, created, "Barbara Liskov", "barbara@example.org", "None so far.", "0 orders")
		if _, state := created.part(t, "/card"); state != "made" {
			t.Errorf("the card is %q for its first visitor", state)
		}
		s.get(t, p.location).all(t, "found", 3)

		now := s.get(t, "/users")
		mustContain(t, now, "Barbara Liskov")
		partChanged(t, before, now, "/list")
		partStays(t, before, now, "alkey:users#1")
	})
}

func TestOrder(t *testing.T) {
	onStores(t, func(t *testing.T, s *site) {
		user, home := s.get(t, "/users/1"), s.get(t, "/")
		mustContain(t, user, "2 orders, € 61.50")
		mustContain(t, home, "5 orders, € 170.35")
		p := s.post(t, http.StatusSeeOther, "/users/1/orders", "item", "Loom <cards>", "amount", "0,5")
		if p.location != "/users/1" {
			t.Errorf("sent to %q", p.location)
		}
		now := s.get(t, "/users/1")
		mustContain(t, now, "Loom &lt;cards&gt;", "€ 0.50", "3 orders, € 62.00")
		partChanged(t, user, now, "/orders")
		partChanged(t, user, now, "/totals")
		partStays(t, user, now, "/card")
		if now.key != user.key {
			t.Errorf("an order changed the user's key %s to %s", user.key, now.key)
		}
		now = s.get(t, "/")
		mustContain(t, now, "6 orders, € 170.85")
		partChanged(t, home, now, "/totals")
		partStays(t, home, now, "/count")
	})
}

func TestDelete(t *testing.T) {
	onStores(t, func(t *testing.T, s *site) {
		s.get(t, "/users")
		list, home := s.get(t, "/users"), s.get(t, "/")
		p := s.post(t, http.StatusSeeOther, "/users/1/delete")
		if p.location != "/users" {
			t.Errorf("sent to %q", p.location)
		}
		now := s.get(t, "/users")
		if strings.Contains(now.body, "Ada") {
			t.Error("the user is still listed")
		}
		partChanged(t, list, now, "/list")
		partStays(t, list, now, "alkey:users#2")
		// The cascade changed the orders.
		now = s.get(t, "/")
		mustContain(t, now, "2 users", "3 orders, € 108.85")
		partChanged(t, home, now, "/totals")

		if p, err := s.tryGet("/users/1"); err != nil || p.status != http.StatusNotFound {
			t.Errorf("status %d, %v", p.status, err)
		}
		s.post(t, http.StatusNotFound, "/users/1/delete")
		for _, id := range []string{"2", "3"} {
			s.post(t, http.StatusSeeOther, "/users/"+id+"/delete")
		}
		mustContain(t, s.get(t, "/users"), "There are no users.")
	})
}

func TestBadForms(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *site) {
		long := strings.Repeat("x", 101)
		for _, test := range []struct {
			name, path string
			pairs      []string
			wants      []string
		}{
			{"nothing", "/users", nil, []string{`id="name-error">This is needed.`, `id="email-error">This is needed.`}},
			{"blank name", "/users", []string{"name", " \t", "email", "x@example.org"}, []string{`id="name-error">This is needed.`, `value="x@example.org"`}},
			{"no e-mail address", "/users", []string{"name", "<X>", "email", "nobody"}, []string{`id="email-error">Enter an e-mail address`, `value="nobody"`, `value="&lt;X&gt;"`, `aria-invalid="true" aria-describedby="email-error"`}},
			{"long name", "/users", []string{"name", long, "email", "x@example.org"}, []string{`id="name-error">At most 100`, long}},
			{"bytes for a name", "/users", []string{"name", "a\xffb", "email", "x@example.org"}, []string{`id="name-error">Only letters`, "value=\"a\uFFFDb\""}},
			{"two lines for a name", "/users", []string{"name", "a\nb", "email", "x@example.org"}, []string{`id="name-error">Only letters`}},
			{"a zero for a name", "/users/1", []string{"name", "a\x00"}, []string{`id="name-error">Only letters`}},
			{"bytes for an address", "/users", []string{"name", "X", "email", "a\xff@example.org"}, []string{`id="email-error">Only letters`}},
			{"an edit to a control character", "/users/1", []string{"email", "a\u0085@example.org"}, []string{`id="email-error">Only letters`}},
			{"order of bytes", "/users/1/orders", []string{"item", "\xc0\x80", "amount", "1"}, []string{`id="item-error">Only letters`}},
			{"address of another", "/users", []string{"name", "X", "email", "GRACE@example.org"}, []string{`id="email-error">Another user has this`, `value="GRACE@example.org"`}},
			{"edit to a blank name", "/users/1", []string{"name", ""}, []string{`id="name-error">This is needed.`, `value="ada@example.org"`}},
			{"edit to no e-mail address", "/users/1", []string{"email", "a@"}, []string{`id="email-error">Enter an e-mail address`, `value="a@"`, `value="Ada Lovelace"`}},
			{"edit to a blank address", "/users/1", []string{"email", ""}, []string{`id="email-error">This is needed.`}},
			{"edit to another's address", "/users/1", []string{"name", "New", "email", "grace@example.org"}, []string{`id="email-error">Another user has this`, `value="New"`, `<dd>Ada Lovelace</dd>`}},
			{"order of nothing", "/users/1/orders", nil, []string{`id="item-error">This is needed.`, `id="amount-error">This is needed.`}},
			{"order for nothing", "/users/1/orders", []string{"item", "Gift", "amount", "0"}, []string{`id="amount-error">Enter an amount`, `value="Gift"`, `value="0"`}},
			{"order for text", "/users/1/orders", []string{"item", "Gift", "amount", "ten"}, []string{`id="amount-error">Enter an amount`}},
		} {
			t.Run(test.name, func(t *testing.T) {
				before := s.get(t, "/users")
				mustContain(t, s.post(t, http.StatusUnprocessableEntity, test.path, test.pairs...), test.wants...)
				s.get(t, "/users").all(t, "found", len(before.state))
			})
		}
	})
}

func TestNotFound(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *site) {
		for _, path := range []string{"/none", "/users/99", "/users/0", "/users/x", "/users/01", "/users/-1", "/users/%2e", "/users/9999999999999999999", "/users/1/none", "/static/", "/static/none"} {
			p, err := s.tryGet(path)
			if err != nil || p.status != http.StatusNotFound {
				t.Errorf("GET %s: status %d, %v", path, p.status, err)
			}
			mustContain(t, p, "<h1>Not Found</h1>", "All users")
		}
		s.post(t, http.StatusNotFound, "/users/99", "name", "X")
		s.post(t, http.StatusNotFound, "/users/99", "name", "")
		s.post(t, http.StatusNotFound, "/users/99")
		s.post(t, http.StatusNotFound, "/users/x", "name", "X")
		s.post(t, http.StatusNotFound, "/users/99/delete")
		s.post(t, http.StatusNotFound, "/users/99/orders", "item", "X", "amount", "1")
		s.post(t, http.StatusNotFound, "/users/99/orders")
	})
}

// What a form was sent to shows the user when it is opened as a page, and other methods are told
// which ones there are.
func TestMethods(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *site) {
		for _, path := range []string{"/users/1/orders", "/users/1/delete"} {
			if p, err := s.tryGet(path); err != nil || p.status != http.StatusSeeOther || p.location != "/users/1" {
				t.Errorf("GET %s: status %d to %q, %v", path, p.status, p.location, err)
			}
		}
		if p, err := s.tryGet("/users/x/orders"); err != nil || p.status != http.StatusNotFound {
			t.Errorf("GET of nobody's orders: status %d, %v", p.status, err)
		}
		mustContain(t, s.get(t, "/users/1"), "Ada Lovelace")
		for _, test := range []struct {
			method, path string
			status       int
			allow        string
		}{
			{http.MethodPost, "/", http.StatusMethodNotAllowed, "GET, HEAD"},
			{http.MethodPost, "/static/style.css", http.StatusMethodNotAllowed, "GET, HEAD"},
			{http.MethodPut, "/users", http.StatusMethodNotAllowed, "GET, HEAD, POST"},
			{http.MethodDelete, "/users/1", http.StatusMethodNotAllowed, "GET, HEAD, POST"},
			{http.MethodPatch, "/users/1/orders", http.StatusMethodNotAllowed, "GET, HEAD, POST"},
			{"BREW", "/users", http.StatusMethodNotAllowed, "GET, HEAD, POST"},
			{"BREW", "/none", http.StatusNotFound, ""},
			{http.MethodDelete, "/none", http.StatusNotFound, ""},
		} {
			r, err := http.NewRequest(test.method, s.url+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			p, err := s.do(r)
			if err != nil || p.status != test.status || p.header.Get("Allow") != test.allow {
				t.Errorf("%s %s: status %d, allowed %q, %v", test.method, test.path, p.status, p.header.Get("Allow"), err)
			}
			mustContain(t, p, "<h1>"+http.StatusText(test.status)+"</h1>", "All users")
		}
	})
}

// A body that cannot be read as a form says why, and changes nothing.
func TestBadBodies(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *site) {
		before := s.get(t, "/users/1")
		const urlencoded, multipart = "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"
		part := "--x\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\n"
		large := strings.Repeat("x", maxForm)
		for _, test := range []struct {
			name, kind, body string
			status           int
		}{
			{"too large", urlencoded, "name=" + large, http.StatusRequestEntityTooLarge},
			{"too large, in parts", multipart, part + large + "\r\n--x--\r\n", http.StatusRequestEntityTooLarge},
			{"JSON", "application/json", `{"name": "X"}`, http.StatusUnsupportedMediaType},
			{"text", "text/plain; charset=utf-8", "name=X", http.StatusUnsupportedMediaType},
			{"something", "", "name=X", http.StatusUnsupportedMediaType},
			{"no media type", ";", "name=X", http.StatusUnsupportedMediaType},
			{"no escape", urlencoded, "name=%zz", http.StatusBadRequest},
			{"no parts", multipart, "name=X", http.StatusBadRequest},
			{"no boundary", "multipart/form-data", part, http.StatusBadRequest},
			{"nothing", "", "", http.StatusSeeOther}, // a form without fields
		} {
			t.Run(test.name, func(t *testing.T) {
				r, err := http.NewRequest(http.MethodPost, s.url+"/users/1", strings.NewReader(test.body))
				if err != nil {
					t.Fatal(err)
				}
				if test.kind != "" {
					r.Header.Set("Content-Type", test.kind)
				}
				p, err := s.do(r)
				if err != nil || p.status != test.status {
					t.Fatalf("status %d, %v; want %d", p.status, err, test.status)
				}
				if p.status != http.StatusSeeOther {
					mustContain(t, p, "<h1>"+http.StatusText(test.status)+"</h1>")
				}
				if now := s.get(t, "/users/1"); now.key != before.key {
					t.Errorf("it changed %s to %s", before.key, now.key)
				}
			})
		}
	})
}

// The page's key is the one that the documentation shows.
func TestPageKey(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-z]+/alkey:users#1/page$`)
	onStores(t, func(t *testing.T, s *site) {
		for range 2 {
			if key := s.get(t, "/users/1").key; !form.MatchString(key) {
				t.Errorf("the key is %q", key)
			}
		}
	})
}

// A user is deleted by a button that another has to bring into view, without any script.
func TestDeletionAsks(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *site) {
		p := s.get(t, "/users/1")
		hidden := regexp.MustCompile(`(?s)<details>\s*<summary[^>]*>[^<]+</summary>(.*?)</details>`).FindStringSubmatch(p.body)
		if hidden == nil || strings.Count(p.body, `action="/users/1/delete"`) != 1 || !strings.Contains(hidden[1], `action="/users/1/delete"`) {
			t.Errorf("the form is not inside <details>:\n%s", p.body)
		}
	})
}

func TestHeaders(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *site) {

		r, err := http.NewRequest(http.MethodPost, s.url+"/users/1/delete", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		if p, err := s.do(r); err != nil || p.status != http.StatusForbidden {
			t.Errorf("a form of another site: status %d, %v", p.status, err)
		}

		r, err = http.NewRequest(http.MethodHead, s.url+"/users/1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := s.do(r); err != nil || p.status != http.StatusOK || p.body != "" {
			t.Errorf("HEAD: status %d, %q, %v", p.status, p.body, err)
		}

		p := s.get(t, "/users")
		for name, want := range map[string]string{"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff"} {
			if got := p.header.Get(name); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %q", name, got)
			}
		}
		if got := s.get(t, "/static/style.css").header.Get("Content-Type"); !strings.HasPrefix(got, "text/css") {
			t.Errorf("style.css is %q", got)
		}
	})
}

// What a reader sees is at least as new as what was committed when he asked, whoever writes
// meanwhile.
func TestConcurrentEdits(t *testing.T) {
	onStores(t, func(t *testing.T, s *site) {
		const users, edits, readers = 3, 25, 3
		var (
			done    [users + 1]atomic.Int64 // the newest edit that was answered
			writing atomic.Int64
			wg      sync.WaitGroup
		)
		writing.Store(users)
		for id := 1; id <= users; id++ {
			wg.Go(func() {
				defer writing.Add(-1)
				for n := 1; n <= edits; n++ {
					p, err := s.tryPost(fmt.Sprintf("/users/%d", id), url.Values{"name": {fmt.Sprintf("user %d edit %d.", id, n)}})
					if err != nil || p.status != http.StatusSeeOther {
						t.Errorf("edit: status %d, %v", p.status, err)
						return
					}
					done[id].Store(int64(n))
				}
			})
		}
		name := regexp.MustCompile(`user (\d) edit (\d+)\.`)
		for range readers {
			wg.Go(func() {
				for i := 0; ; i++ {
					last := writing.Load() == 0 // one more round then
					id := i%users + 1
					for _, path := range []string{"/users", fmt.Sprintf("/users/%d", id)} {
						floor := done[id].Load()
						p, err := s.tryGet(path)
						if err != nil || p.status != http.StatusOK {
							t.Errorf("GET %s: status %d, %v", path, p.status, err)
							return
						}
						for _, m := range name.FindAllStringSubmatch(p.body, -1) {
							var of, n int64
							if _, err := fmt.Sscan(m[1]+" "+m[2], &of, &n); err != nil {
								t.Error(err)
								return
							}
							if of == int64(id) && n < floor {
								t.Errorf("%s shows edit %d of user %d, and %d was committed before", path, n, id, floor)
								return
							}
						}
					}
					if last && i >= users {
						return
					}
				}
			})
		}
		wg.Wait()
		for id := 1; id <= users; id++ {
			mustContain(t, s.get(t, "/users"), fmt.Sprintf("user %d edit %d.", id, edits))
		}
	})
}

// Two processes share a database and a Redis server. What one writes changes the other's keys.
func TestTwoProcesses(t *testing.T) {
	onURLs(t, func(t *testing.T, databaseURL string) {
		server := redisServer(t)
		a, b := newSite(t, redisStore(t, server), databaseURL), newSite(t, redisStore(t, server), databaseURL)
		for range 2 {
			a.get(t, "/users/1")
			b.get(t, "/users/1")
		}
		before := b.get(t, "/users/1")
		before.all(t, "found", 3)
		if key := a.get(t, "/users/1").key; key != before.key {
			t.Errorf("the processes have the keys %s and %s", key, before.key)
		}
		a.post(t, http.StatusSeeOther, "/users/1", "name", "Ada King")
		now := b.get(t, "/users/1")
		mustContain(t, now, "<dd>Ada King</dd>")
		changed(t, "the other process's page", before.key, now.key)
		// By now it has seen the new token.
		now = b.get(t, "/users/1")
		partChanged(t, before, now, "/card")
		if key := a.get(t, "/users/1").key; key != now.key {
			t.Errorf("the processes have the keys %s and %s", key, now.key)
		}
	})
}

// Without its token store the application works, and caches nothing.
func TestStoreDown(t *testing.T) {
	onURLs(t, func(t *testing.T, databaseURL string) {
		server := testserver.Redis(t)
		s := newSite(t, redisStore(t, server), databaseURL)
		s.get(t, "/users/1")
		server.Stop()
		s.get(t, "/users/1").all(t, "not stored (store down)", 3)
		s.post(t, http.StatusSeeOther, "/users/1", "name", "Ada King")
		p := s.get(t, "/users/1")
		p.all(t, "not stored (store down)", 3)
		mustContain(t, p, "<dd>Ada King</dd>")
		p = s.post(t, http.StatusSeeOther, "/users", "name", "X", "email", "x@example.org")
		mustContain(t, s.get(t, p.location), "x@example.org")
	})
}
