package request_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

// pageOf is a page that is made of a text.
func pageOf(url, text string, made *int) *request.Page {
	return &request.Page{
		Args: []any{user1},
		URL:  url,
		Fits: func([]byte) bool { return true },
		Make: func(context.Context, *request.PageFill) ([]byte, []string) {
			*made++
			return []byte(text), nil
		},
	}
}

func TestServePage(t *testing.T) {
	f := newFetcher(t, request.Config{})
	if _, _, err := request.ServePage(t.Context(), &request.Page{}); !errors.Is(err, request.ErrNoScope) {
		t.Errorf("without a scope: %v", err)
	}
	made := 0
	for i, want := range []request.PageResult{request.PageMade, request.PageFound, request.PageFound} {
		response, result, err := request.ServePage(f.open(t), pageOf("/", "page", &made))
		if err != nil || result != want || result == request.PageFound && string(response) != "page" {
			t.Errorf("%d: %q %d %v", i, response, result, err)
		}
	}
	// A value of the same arguments is another, even under the same text.
	if v, err := request.Fetch(f.open(t), func(context.Context) (string, error) { return "value", nil }, user1, "/"); v != "value" || err != nil {
		t.Errorf("%q %v", v, err)
	}
	// What does not fit is made anew.
	p := pageOf("/", "page", &made)
	p.Fits = func([]byte) bool { return false }
	if _, result, _ := request.ServePage(f.open(t), p); result != request.PageMade {
		t.Errorf("what does not fit: %d", result)
	}
	p = pageOf("/x", "page", &made)
	p.FindOnly = true
	if _, result, _ := request.ServePage(f.open(t), p); result != request.PagePassed {
		t.Errorf("what is not there: %d", result)
	}
	if made != 2 {
		t.Errorf("made %d times", made)
	}
}

// TestServePageStores: a store that fails or has something else is one that has nothing.
func TestServePageStores(t *testing.T) {
	v := newValues()
	f := newFetcher(t, request.Config{Values: v})
	made := 0
	serve := func(what string, want int) {
		t.Helper()
		made = 0
		if _, _, err := request.ServePage(f.open(t), pageOf("/", "page", &made)); err != nil || made != want {
			t.Errorf("%s: made %d times, %v", what, made, err)
		}
	}
	serve("at first", 1)
	serve("stored", 0)
	for key, value := range v.m {
		for _, bad := range [][]byte{nil, {}, value[:len(value)/2], append([]byte("x"), value[1:]...)} {
			v.m[key] = bad
			serve("spoilt", 1)
		}
	}
	v.get = cache.ErrDown
	serve("down", 1)
	v.get, v.missing = nil, true
	serve("of few words", 1)
	v.missing = false
	serve("again", 0)
}

// TestRefusalsLapse: that a response could not be kept is remembered for seconds, and of some pages only.
func TestRefusalsLapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, _ := newStore(t)
		warm(t, store, user1)
		kit := newKit(t, request.Config{Tokens: store})
		gate := make(chan struct{})
		var running, most atomic.Int64
		visit := func() {
			p := pageOf("/", "page", new(int))
			p.Make = func(_ context.Context, fill *request.PageFill) ([]byte, []string) {
				if n := running.Add(1); n > most.Load() {
					most.Store(n)
				}
				<-gate
				running.Add(-1)
				fill.Release("status", true)
				return nil, nil
			}
			_, _, _ = request.ServePage(first(kit.Open(t.Context())), p)
		}
		round := func(what string, want int64) {
			t.Helper()
			most.Store(0)
			for range 3 {
				go visit()
				synctest.Wait()
			}
			if n := most.Load(); n != want {
				t.Errorf("%s: %d at once, want %d", what, n, want)
			}
			for range 3 {
				gate <- struct{}{}
				synctest.Wait()
			}
		}
		round("nothing is known", 1)
		round("one was refused", 3)
		time.Sleep(time.Minute)
		round("that is long ago", 1)
	})
	f := newFetcher(t, request.Config{})
	for i := range 2 * request.MaxPageNotes {
		p := pageOf(strconv.Itoa(i), "", new(int))
		p.Make = func(_ context.Context, fill *request.PageFill) ([]byte, []string) {
			fill.Release("status", true)
			return nil, nil
		}
		_, _, _ = request.ServePage(f.open(t), p)
	}
	if n := f.kit.PageNotes(); n > request.MaxPageNotes || n < request.MaxPageNotes/2 {
		t.Errorf("%d pages are remembered", n)
	}
}

// TestPageStoreThatPanics: nobody waits for ever.
func TestPageStoreThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, _ := newStore(t)
		warm(t, store, user1)
		kit := newKit(t, request.Config{Tokens: store, Values: panicking{newValues()}})
		gate := make(chan struct{})
		var served, recovered atomic.Int64
		for range 3 {
			go func() {
				defer func() {
					if recover() != nil {
						recovered.Add(1)
					}
				}()
				p := pageOf("/", "page", new(int))
				p.Make = func(context.Context, *request.PageFill) ([]byte, []string) {
					<-gate
					return []byte("page"), nil
				}
				_, _, _ = request.ServePage(first(kit.Open(t.Context())), p)
				served.Add(1)
			}()
		}
		synctest.Wait()
		close(gate)
		synctest.Wait()
		if served.Load() != 0 || recovered.Load() != 3 {
			t.Errorf("%d served, %d recovered", served.Load(), recovered.Load())
		}
	})
}

// panicking is a value store that panics when something is stored.
type panicking struct{ *values }

func (panicking) Set(context.Context, string, []byte, time.Duration) error { panic("full") }

// TestPageEvents: OnFetch is told of pages too.
func TestPageEvents(t *testing.T) {
	f := newFetcher(t, request.Config{})
	p := func() *request.Page {
		p := pageOf("url", "page", new(int))
		p.Make = func(ctx context.Context, _ *request.PageFill) ([]byte, []string) {
			_ = key(t, ctx, user2)
			return []byte("page"), nil
		}
		return p
	}
	for range 2 {
		_, _, _ = request.ServePage(f.open(t), p())
	}
	var events []string
	for _, e := range f.events {
		_, key, _ := strings.Cut(e.Key, "/")
		events = append(events, fmt.Sprintf("%s hit=%t stored=%t on=%d %v", key, e.Hit, e.Stored, e.Dependencies, e.Err))
	}
	if got, want := strings.Join(events, "; "), "alkey:users#1/url hit=false stored=true on=2 <nil>; alkey:users#1/url hit=true stored=false on=2 <nil>"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestServerTimingText(t *testing.T) {
	for want, stats := range map[string]request.Stats{
		`alkey;desc="keys=0 hits=0";dur=0.0`: {},
		`alkey;desc="keys=12 hits=11 bypass=fenced:1";dur=0.4`: {
			Keys: 12, Hits: 11, Bypasses: [request.ReasonCount]int{request.Fenced: 1},
			Tokens: 350 * time.Microsecond, Values: 200 * time.Microsecond, Both: 150 * time.Microsecond, Fills: time.Hour,
		},
		`alkey;desc="keys=3 hits=0 shared=1 misses=2 stored=1 bypass=store-down:1,own-write:2 page=set-cookie";dur=1500.0`: {
			Keys: 3, Shared: 1, Misses: 2, Stored: 1, Page: "set-cookie", Tokens: 1500 * time.Millisecond,
			Bypasses: [request.ReasonCount]int{request.StoreDown: 1, request.OwnWrite: 2},
		},
	} {
		if got := stats.ServerTiming(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestMatchesETag(t *testing.T) {
	for _, c := range []struct {
		tag   string
		asked []string
		want  bool
	}{
		{`"a"`, []string{`"a"`}, true},
		{`"a"`, []string{`W/"a"`}, true},
		{`W/"a"`, []string{`"b", "a"`}, true},
		{`W/"a"`, []string{`"b"`, `W/"a"`}, true},
		{`"a"`, []string{`*`}, true},
		{``, []string{`*`}, false},
		{`"a"`, []string{`"b"`}, false},
		{`"a"`, nil, false},
	} {
		if got := request.MatchesETag(http.Header{"If-None-Match": c.asked}, c.tag); got != c.want {
			t.Errorf("%q, %q: %t", c.tag, c.asked, got)
		}
	}
}

// TestDropETag: the tag of a page is not that of an error, but an error can have one of its own.
func TestDropETag(t *testing.T) {
	f := newFetcher(t, request.Config{})
	ctx := f.open(t)
	w, _ := visit(ctx, "GET", nil, []any{user1})
	s, _ := request.FromContext(ctx)
	own := http.Header{"Etag": {`"own"`}}
	s.DropETag(own)
	s.DropETag(w.Header())
	if own.Get("ETag") == "" || w.Header().Get("ETag") != "" {
		t.Errorf("%v %v", own, w.Header())
	}
}

// The middleware is what makes pages of responses. Whoever has another kind of response calls ServePage
// himself.
func ExampleServePage() {
	store := tokens.NewMemory()
	defer store.Close()
	kit, err := request.New(request.Config{Tokens: store, Version: "1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 2 {
		ctx, _ := kit.Open(context.Background())
		response, result, err := request.ServePage(ctx, &request.Page{
			Args: []any{"greeting"},
			URL:  "/hello",
			Fits: func(response []byte) bool { return len(response) > 0 },
			Make: func(context.Context, *request.PageFill) (response []byte, vary []string) {
				fmt.Println("it is made")
				return []byte("hello"), nil
			},
		})
		fmt.Printf("%q %t %v\n", response, result == request.PageFound, err)
	}
	// Output:
	// it is made
	// "" false <nil>
	// "hello" true <nil>
}
