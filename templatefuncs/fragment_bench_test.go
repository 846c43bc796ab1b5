package templatefuncs_test

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/internal/versus"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/templatefuncs"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
)

// article is what a fragment of the benchmarks shows: 300 bytes with its summary, 3 kB with its paragraphs,
// or with its tags, which are markup more than text and are stored compressed.
type article struct {
	ID         int
	Title      string
	Author     string
	Summary    string
	Paragraphs []string
	Tags       []string
	Comments   int
}

func (*article) TableName() string { return "articles" }

// vocabulary is what the texts of the articles are made of. Text has to be as dull as real text is: what is
// stored is compressed.
//
//go:embed testdata/bench/words.txt
var vocabulary string

type articlePage struct {
	Title string
	Intro string
	Rows  []*article
	Ready []template.HTML // what the rows come out as
}

// sizes are the templates of a row, by the size of what comes out.
var sizes = []struct {
	name, file string
	least      int
	most       int
}{
	{"300B", "row300.html", 270, 330},
	{"3kB", "row3k.html", 2700, 3300},
	{"3kB-markup", "row3k-markup.html", 2700, 3300},
}

func newArticlePage() *articlePage {
	words := strings.Fields(vocabulary)
	random := rand.New(rand.NewPCG(1, 2)) // the same texts each time
	text := func(least int) string {
		var b strings.Builder
		for b.Len() < least {
			b.WriteString(words[random.IntN(len(words))] + " ")
		}
		return b.String()
	}
	d := &articlePage{Title: "Articles", Intro: "Everything that was written this year, the newest first."}
	for i := range 100 {
		a := &article{ID: 1000 + i, Title: fmt.Sprintf("On keys & doors, %d", i+1), Author: "Ada", Summary: text(70), Comments: i}
		for range 7 {
			a.Paragraphs = append(a.Paragraphs, text(370))
		}
		for range 36 {
			a.Tags = append(a.Tags, words[random.IntN(len(words))])
		}
		d.Rows = append(d.Rows, a)
	}
	return d
}

// benchmarkTemplates parses one page of testdata/bench, and one of the rows as "row".
func benchmarkTemplates(tb testing.TB, page, row string, funcs template.FuncMap) *template.Template {
	tb.Helper()
	t := template.New("").Delims("<<", ">>").Funcs(templatefuncs.FuncMap(nil)).Funcs(funcs)
	for name, file := range map[string]string{"page": page, "row": row} {
		text, err := os.ReadFile(filepath.Join("testdata", "bench", file))
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := t.New(name).Parse(string(text)); err != nil {
			tb.Fatal(err)
		}
	}
	return t
}

// BenchmarkFragments is a page of a hundred fragments that are all found, its scope included.
//
// Of the pages where each fragment is a call, the baseline is the same page with a function that returns
// the same constant text in place of each fragment. Where tokens or values are on Redis it also gets
// them, with one raw MGET each, both at the same time: of the texts, as a program keeps them that does its
// own caching, or of the values as alkey stores them ("as-stored"), which it does not decompress. Of the page
// where fragments are made by one call the baseline writes the same texts in a range.
func BenchmarkFragments(b *testing.B) {
	for _, where := range []string{"process", "tokens-on-Redis", "both-on-Redis", "both-on-Redis-as-stored", "both-on-Redis-as-stored-uncompressed"} {
		b.Run("where="+where, func(b *testing.B) {
			for _, size := range sizes {
				b.Run("size="+size.name, func(b *testing.B) {
					p := newBenchmarkPage(b, where, size.file)
					if n := len(p.data.Ready[0]); n < size.least || n > size.most {
						b.Fatalf("a row is %d bytes: %s", n, p.data.Ready[0])
					}
					b.Run("calls=100", func(b *testing.B) { p.run(b, "page.html", "page.html") })
					b.Run("calls=1", func(b *testing.B) { p.run(b, "list.html", "ready.html") })
				})
			}
		})
	}
}

type benchmarkPage struct {
	data   *articlePage
	where  string
	row    string // file
	kit    *request.Kit
	tokens []string // keys of the records; nil: they are in process

	client      *redis.Client // of the tokens
	valueClient *redis.Client // nil: the values are in process
}

func newBenchmarkPage(b *testing.B, where, row string) *benchmarkPage {
	b.Helper()
	p := &benchmarkPage{data: newArticlePage(), where: where, row: row}
	store, values := tokens.NewMemory(), cache.Store(cache.NewMemory(64<<20))
	if where != "process" {
		addr := testserver.Redis(b).Addr()
		p.client = redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
		b.Cleanup(func() { _ = p.client.Close() })
		backend, err := tokens.NewRedisBackend(tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{Addrs: []string{addr}}})
		if err != nil {
			b.Fatal(err)
		}
		_ = store.Close()
		// A machine that stalls must not count as an outage here.
		store = tokens.New(backend, tokens.WithReadTimeout(10*time.Second), tokens.WithWriteTimeout(10*time.Second))
		tokenstest.Ready(b, store)
		const prefix = "alkey.cache.TOKENS:"
		p.tokens = append(p.tokens, prefix+"clock", prefix+"alkey:articles#!", prefix+"alkey:*#!")
		for _, a := range p.data.Rows {
			p.tokens = append(p.tokens, fmt.Sprintf("%salkey:articles#%d", prefix, a.ID))
		}
	}
	b.Cleanup(func() { _ = store.Close() })
	if strings.HasPrefix(where, "both") {
		p.valueClient = redis.NewClient(&redis.Options{Addr: testserver.Redis(b).Addr(), ContextTimeoutEnabled: true})
		b.Cleanup(func() { _ = p.valueClient.Close() })
		options := cache.RedisOptions{Timeout: 10 * time.Second}
		if strings.HasSuffix(where, "uncompressed") {
			options.CompressOver = -1
		}
		values = cache.NewRedisWith(p.valueClient, options)
	}
	kit, err := request.New(request.Config{Tokens: store, Values: values, Version: "benchmark"})
	if err != nil {
		b.Fatal(err)
	}
	p.kit = kit
	t := benchmarkTemplates(b, "page.html", row, nil)
	for _, a := range p.data.Rows {
		var text bytes.Buffer
		if err := t.ExecuteTemplate(&text, "row", a); err != nil {
			b.Fatal(err)
		}
		p.data.Ready = append(p.data.Ready, template.HTML(text.String()))
	}
	return p
}

// run compares a page, which has found all its fragments before, with the baseline's page.
func (p *benchmarkPage) run(b *testing.B, page, baseline string) {
	set, err := templatefuncs.New(benchmarkTemplates(b, page, p.row, nil))
	if err != nil {
		b.Fatal(err)
	}
	// In the baseline every fragment comes out as the same text.
	constant := p.data.Ready[0]
	plain := benchmarkTemplates(b, baseline, p.row, template.FuncMap{
		"fragment": func(string, any) template.HTML { return constant },
	})
	misses := 0
	execute := func(w io.Writer) {
		ctx, scope := p.kit.Open(b.Context())
		if err := set.ExecuteContext(w, ctx, "page", p.data); err != nil {
			b.Fatal(err)
		}
		misses = scope.Stats().Misses
	}
	for range 3 {
		execute(io.Discard)
	}
	var text bytes.Buffer
	if execute(&text); misses != 0 {
		b.Fatalf("%d misses", misses)
	}
	for _, r := range p.data.Ready {
		if !strings.Contains(text.String(), string(r)) {
			b.Fatal("a row is not on the page")
		}
	}
	wait := p.waiting(b)
	versus.Run(b, func() {
		wait()
		if err := plain.ExecuteTemplate(io.Discard, "page", p.data); err != nil {
			b.Fatal(err)
		}
	}, func() { execute(io.Discard) })
}

// waiting returns what the baseline does before it renders: it gets the tokens and the values, where they are
// on Redis.
func (p *benchmarkPage) waiting(b *testing.B) func() {
	mget := func(c *redis.Client, keys []string) {
		if err := c.MGet(b.Context(), keys...).Err(); err != nil {
			b.Error(err)
		}
	}
	switch {
	case p.tokens == nil:
		return func() {}
	case p.valueClient == nil:
		return func() { mget(p.client, p.tokens) }
	}
	var keys []string
	if strings.Contains(p.where, "as-stored") {
		var err error
		keys, err = p.valueClient.Keys(b.Context(), "*").Result()
		if err != nil || len(keys) != len(p.data.Rows) {
			b.Fatalf("%d values, %v", len(keys), err)
		}
	} else {
		for i, text := range p.data.Ready {
			keys = append(keys, fmt.Sprintf("text:%d", i))
			if err := p.valueClient.Set(b.Context(), keys[i], string(text), 0).Err(); err != nil {
				b.Fatal(err)
			}
		}
	}
	return func() {
		done := make(chan struct{})
		go func() {
			defer close(done)
			mget(p.valueClient, keys)
		}()
		mget(p.client, p.tokens)
		<-done
	}
}
