package middleware_test

import (
	"bufio"
	"context"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/alkey-go/alkey/middleware"
	"github.com/alkey-go/alkey/tokens"
)

var (
	article1 = tokens.Row("articles", 1)
	article2 = tokens.Row("articles", 2)
	articles = tokens.Table("articles")
)

// site is a server with one handler behind CachePage.
type site struct {
	*httptest.Server
	t     testing.TB
	store *tokens.Store
	runs  atomic.Int64 // of the handler
	log   *lockedBuffer
}

// setup is how a site is built.
type setup struct {
	config middleware.Config
	key    func(*http.Request) []any
	opts   []middleware.PageOption
	// outside and inside stand around CachePage.
	outside, inside []func(http.Handler) http.Handler
	handler         http.HandlerFunc
	http2           bool
	plain           bool // without CachePage
}

// newSite starts a server. The tokens of the articles are known before.
func newSite(t testing.TB, s setup) *site {
	t.Helper()
	w := &site{t: t, store: s.config.Tokens, log: new(lockedBuffer)}
	if w.store == nil {
		w.store = newStore(t)
		s.config.Tokens = w.store
	}
	if s.config.Logger == nil {
		s.config.Logger = slog.New(slog.NewTextHandler(w.log, nil))
	}
	if s.config.Version == "" {
		s.config.Version = "test"
	}
	w.warm(article1, article2, articles, tokens.Global)
	if s.key == nil {
		s.key = func(*http.Request) []any { return []any{article1, "page"} }
	}
	r := chi.NewRouter()
	r.Use(newMiddleware(t, s.config))
	r.Use(s.outside...)
	if !s.plain {
		r.Use(middleware.CachePage(s.key, s.opts...))
	}
	r.Use(s.inside...)
	r.HandleFunc("/*", func(rw http.ResponseWriter, r *http.Request) {
		w.runs.Add(1)
		s.handler(rw, r)
	})
	w.Server = httptest.NewUnstartedServer(r)
	w.Server.Config.ErrorLog = log.New(w.log, "", 0)
	if s.http2 {
		w.EnableHTTP2 = true
		w.StartTLS()
	} else {
		w.Start()
	}
	t.Cleanup(func() {
		w.CloseClientConnections()
		w.Close()
	})
	if tr, ok := w.Client().Transport.(*http.Transport); ok {
		tr.DisableCompression = true
		t.Cleanup(tr.CloseIdleConnections)
	}
	return w
}

// warm reads tokens, so that they exist before the next request begins.
func (w *site) warm(ids ...tokens.ID) {
	w.t.Helper()
	if _, err := w.store.Read(context.Background(), ids); err != nil {
		w.t.Fatal(err)
	}
}

// publish makes a commit's changes known, as another process would.
func (w *site) publish(ids ...tokens.ID) {
	w.t.Helper()
	if _, err := w.store.Publish(context.Background(), "", tokens.NewChanges(ids...)); err != nil {
		w.t.Fatal(err)
	}
	w.warm(ids...)
}

// answer is a response that was read.
type answer struct {
	*http.Response
	body string
}

// do sends a request. The header is given as names and values in turn.
func (w *site) do(method, path string, header ...string) answer {
	w.t.Helper()
	a, err := w.try(context.Background(), method, path, header...)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *site) try(ctx context.Context, method, path string, header ...string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, w.URL+path, nil)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	client := *w.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res, string(body)}, err
}

// get is do for GET.
func (w *site) get(path string, header ...string) answer {
	w.t.Helper()
	return w.do("GET", path, header...)
}

// ran checks how often the handler has run since it was asked last.
func (w *site) ran(what string, want int64) {
	w.t.Helper()
	if n := w.runs.Swap(0); n != want {
		w.t.Errorf("%s: the handler ran %d times, want %d", what, n, want)
	}
}

// raw sends a request as text and returns what comes back until the server closes the connection: all
// bytes but for the date, and for where chunks begin.
func (w *site) raw(line string) string {
	w.t.Helper()
	addr := w.Listener.Addr().String()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, line+"\r\nHost: "+addr+"\r\nConnection: close\r\n\r\n"); err != nil {
		w.t.Fatal(err)
	}
	var b strings.Builder
	r := bufio.NewReader(conn)
	for chunked := false; ; {
		line, err := r.ReadString('\n')
		if err == io.EOF && b.Len() == 0 {
			return "nothing"
		}
		if err != nil {
			w.t.Fatal(err)
		}
		chunked = chunked || line == "Transfer-Encoding: chunked\r\n"
		if !strings.HasPrefix(line, "Date: ") {
			b.WriteString(line)
		}
		if line == "\r\n" {
			if chunked {
				if _, err := io.Copy(&b, httputil.NewChunkedReader(r)); err != nil {
					b.WriteString(err.Error())
				}
				b.WriteString(" - the end - ")
			}
			break
		}
	}
	if _, err := io.Copy(&b, r); err != nil {
		w.t.Fatal(err)
	}
	return b.String()
}

// lockedBuffer is a log.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// text is a handler that writes a text.
func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
}

// listing is a value store that shows all it has.
type listing struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (l *listing) Get(_ context.Context, keys []string) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	values := make([][]byte, len(keys))
	for i, k := range keys {
		values[i] = l.m[k]
	}
	return values, nil
}

func (l *listing) Set(_ context.Context, key string, value []byte, _ time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = map[string][]byte{}
	}
	l.m[key] = value
	return nil
}

func (l *listing) Close() error { return nil }

func (l *listing) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for k, v := range l.m {
		b.WriteString(k)
		b.Write(v)
	}
	return b.String()
}
