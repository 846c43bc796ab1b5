package middleware_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alkey-go/alkey/middleware"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

var long = flag.Bool("long", false, "check pages for longer")

// shelf is a database of two rows of one number each. What it has committed only grows.
type shelf struct {
	store *tokens.Store
	rows  [2]atomic.Int64
	turns [2]sync.Mutex // as row locks
}

var shelfRows = [2]tokens.ID{article1, article2}

// write is a transaction: fence, commit, publish; or, to see that it is noticed, publish and commit.
func (d *shelf) write(t testing.TB, i int, early bool) {
	d.turns[i].Lock()
	defer d.turns[i].Unlock()
	owner, changes := tokens.NewOwner(), tokens.NewChanges(shelfRows[i])
	publish := func() {
		if _, err := d.store.Publish(context.Background(), owner, changes); err != nil {
			t.Error(err)
		}
	}
	if early {
		publish()
		pause()
		d.rows[i].Add(1)
		return
	}
	if err := d.store.Fence(context.Background(), owner, changes, time.Minute); err != nil {
		t.Error(err)
	}
	pause()
	if rand.IntN(4) == 0 {
		if err := d.store.Release(context.Background(), owner, changes); err != nil { // rolled back
			t.Error(err)
		}
		return
	}
	d.rows[i].Add(1)
	pause()
	publish()
}

// pause lets others go on.
func pause() {
	for range rand.IntN(4) {
		time.Sleep(0)
	}
	if rand.IntN(20) == 0 {
		time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
	}
}

// TestPagesAreNeverStale: readers and writers at once. A page shows at least what was committed when its
// request began, is whole, and is of the language that was asked for.
func TestPagesAreNeverStale(t *testing.T) {
	for _, early := range []bool{false, true} {
		name := "right"
		if early {
			name = "publishes too early"
		}
		t.Run(name, func(t *testing.T) {
			d := &shelf{store: newStore(t)}
			kit, err := request.New(middleware.Config{Tokens: d.store, Version: "soak", Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			var runs, asked, stale, wrong, left atomic.Int64
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				runs.Add(1)
				var n [2]int64
				for _, i := range rand.Perm(2) {
					if rand.IntN(2) == 0 {
						n[i] = d.rows[i].Load()
						pause()
						_ = request.CacheKey(r, shelfRows[i])
						continue
					}
					// What is inside is kept by itself.
					n[i], _ = request.Fetch(r.Context(), func(context.Context) (int64, error) {
						defer pause()
						return d.rows[i].Load(), nil
					}, shelfRows[i], "number")
				}
				w.Header().Set("Vary", "Accept-Language")
				fmt.Fprint(w, n[0], " ", n[1], " ", r.Header.Get("Accept-Language"))
				if r.Context().Err() == nil {
					_, _ = io.WriteString(w, " end")
				}
			})
			page := middleware.For(kit)(middleware.CachePage(func(*http.Request) []any { return []any{article1, "page"} })(handler))
			stop := make(chan struct{})
			done := func() bool {
				select {
				case <-stop:
					return true
				default:
					return false
				}
			}
			var wg sync.WaitGroup
			for i := range 2 {
				wg.Go(func() {
					for !done() {
						d.write(t, i, early)
						time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
					}
				})
			}
			for i := range 6 {
				wg.Go(func() {
					language := []string{"de", "en"}[i%2]
					for !done() {
						r := httptest.NewRequest("GET", "/", nil)
						r.Header.Set("Accept-Language", language)
						ctx, leave := context.WithCancel(r.Context())
						leaves := rand.IntN(20) == 0
						if leaves {
							time.AfterFunc(time.Duration(rand.IntN(100))*time.Microsecond, leave)
						}
						w := httptest.NewRecorder()
						least := [2]int64{d.rows[0].Load(), d.rows[1].Load()}
						page.ServeHTTP(w, r.WithContext(ctx))
						leave()
						if leaves {
							left.Add(1)
							continue
						}
						asked.Add(1)
						var n [2]int64
						var got, end string
						_, _ = fmt.Sscan(w.Body.String(), &n[0], &n[1], &got, &end)
						if got != language || end != "end" || w.Header().Get("Vary") != "Accept-Language" {
							wrong.Add(1)
						}
						if n[0] < least[0] || n[1] < least[1] {
							stale.Add(1)
						}
					}
				})
			}
			if early {
				for end := time.Now().Add(20 * time.Second); stale.Load() == 0 && time.Now().Before(end); {
					time.Sleep(10 * time.Millisecond)
				}
			} else {
				want := int64(20_000)
				if *long {
					want = 1_000_000
				}
				for end := time.Now().Add(5 * time.Minute); asked.Load() < want && time.Now().Before(end); {
					time.Sleep(10 * time.Millisecond)
				}
			}
			close(stop)
			wg.Wait()
			t.Logf("%d pages, %d left, %d made, %d stale, %d wrong; %d and %d commits",
				asked.Load(), left.Load(), runs.Load(), stale.Load(), wrong.Load(), d.rows[0].Load(), d.rows[1].Load())
			if wrong.Load() > 0 || early == (stale.Load() == 0) {
				t.Error("these are not the pages that were asked for")
			}
			if runs.Load() > asked.Load()*3/4 {
				t.Error("hardly any page was found")
			}
		})
	}
}
