package request_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

// names fetches names, and tells whose fill has made.
func names(ctx context.Context, prefix string, ids ...int) (got map[int]string, missing []int, err error) {
	got, err = request.FetchMany(ctx, ids, func(id int) []any { return []any{tokens.Row("users", id), "name"} },
		func(_ context.Context, m []int) (map[int]string, error) {
			missing = append(missing, m...)
			found := map[int]string{99: "not asked for"}
			for _, id := range m {
				if id < 10 {
					found[id] = fmt.Sprint(prefix, id)
				}
			}
			return found, nil
		})
	return got, missing, err
}

func TestFetchMany(t *testing.T) {
	store, b := newStore(t)
	values := &counted{values: newValues()}
	f := newFetcher(t, request.Config{Tokens: store, Values: values})
	for id := range 20 {
		warm(t, store, tokens.Row("users", id))
	}
	check := func(what, prefix string, ids []int, want map[int]string, wantMissing ...int) {
		t.Helper()
		b.reads.Store(0)
		values.gets.Store(0)
		got, missing, err := names(f.open(t), prefix, ids...)
		if err != nil || !maps.Equal(got, want) || !slices.Equal(missing, wantMissing) {
			t.Errorf("%s: %v made of %v, %v; want %v of %v", what, got, missing, err, want, wantMissing)
		}
		if b.reads.Load() != 1 || values.gets.Load() != 1 {
			t.Errorf("%s: %d reads of tokens and %d of values", what, b.reads.Load(), values.gets.Load())
		}
	}
	check("first", "a", []int{1, 2, 3, 2}, map[int]string{1: "a1", 2: "a2", 3: "a3"}, 1, 2, 3)
	check("found", "b", []int{3, 1}, map[int]string{1: "a1", 3: "a3"})
	check("some", "b", []int{1, 4, 2, 5}, map[int]string{1: "a1", 2: "a2", 4: "b4", 5: "b5"}, 4, 5)
	check("what does not exist", "c", []int{1, 10, 11}, map[int]string{1: "a1"}, 10, 11)
	check("and is known not to", "d", []int{10, 1, 11}, map[int]string{1: "a1"})
	publish(t, store, user2)
	warm(t, store, user2)
	check("after a change", "e", []int{1, 2, 3}, map[int]string{1: "a1", 2: "e2", 3: "a3"}, 2)

	// They are the values that Fetch has, but where there is none.
	if v, made := fetch(t, f.open(t), "?", user1, "name"); v != "a1" || made {
		t.Errorf("Fetch: %q, made %t", v, made)
	}
	fetch(t, f.open(t), "f6", tokens.Row("users", 6), "name")
	check("made by Fetch", "g", []int{6}, map[int]string{6: "f6"})
	// A string cannot say that there is none.
	ctx := f.open(t)
	if v, made := fetch(t, ctx, "f11", tokens.Row("users", 11), "name"); v != "f11" || !made {
		t.Errorf("Fetch of what does not exist: %q, made %t", v, made)
	}
	if v, made := fetch(t, ctx, "?", tokens.Row("users", 11), "name"); v != "f11" || made {
		t.Errorf("Fetch of it again: %q, made %t", v, made)
	}

	if got, missing, err := names(f.open(t), "h"); len(got)+len(missing) != 0 || err != nil {
		t.Errorf("of no keys: %v, %v, %v", got, missing, err)
	}
}

func TestFetchManyFails(t *testing.T) {
	values := newValues()
	f := newFetcher(t, request.Config{Values: values})
	got, err := request.FetchMany(f.open(t), []int{1, 2}, func(id int) []any { return []any{tokens.Row("users", id)} },
		func(context.Context, []int) (map[int]int, error) { return map[int]int{1: 1}, errPanic })
	if got != nil || !errors.Is(err, errPanic) || values.len() != 0 {
		t.Errorf("%v, %v, and %d entries", got, err, values.len())
	}
	_, err = request.FetchMany(t.Context(), []int{1}, nil, func(context.Context, []int) (map[int]int, error) { return nil, nil })
	if !errors.Is(err, request.ErrNoScope) {
		t.Errorf("without a scope: %v", err)
	}
	// Arguments that make no key.
	for range 2 {
		made := 0
		got, err := request.FetchMany(f.open(t), []int{1, 2}, func(id int) []any {
			if id == 1 {
				return []any{func() {}}
			}
			return []any{user2, "x"}
		}, func(_ context.Context, m []int) (map[int]int, error) {
			made += len(m)
			return map[int]int{1: 1, 2: 2}, nil
		})
		if err != nil || len(got) != 2 {
			t.Errorf("%v, %v", got, err)
		}
	}
	if f.last().Key == "" || !slices.ContainsFunc(f.events, func(e request.FetchEvent) bool { return e.Reason == request.Unstable }) {
		t.Errorf("%+v", f.events)
	}
}

// TestFetchManyShares: what others make is waited for, after one's own.
func TestFetchManyShares(t *testing.T) {
	bubble(t, func(t *testing.T, f *fetcher) {
		release := make(chan struct{})
		one := ask(f.open(t), "one", release, user1, "name")
		synctest.Wait()
		type result struct {
			got     map[int]string
			missing []int
			err     error
		}
		results := make(chan result, 2)
		for range 2 {
			go func() {
				got, missing, err := names(f.open(t), "many", 1, 2)
				results <- result{got, missing, err}
			}()
			synctest.Wait()
		}
		if len(results) != 0 {
			t.Fatal("they do not wait")
		}
		close(release)
		synctest.Wait()
		one.is(t, "the one", "one", true)
		made := 0
		for range 2 {
			r := <-results
			if want := (map[int]string{1: "one", 2: "many2"}); r.err != nil || !maps.Equal(r.got, want) {
				t.Errorf("%v, %v", r.got, r.err)
			}
			made += len(r.missing)
		}
		if made != 1 {
			t.Errorf("%d values were made", made)
		}
	})
}

// TestFetchManyCrosswise: two requests that make what the other needs.
func TestFetchManyCrosswise(t *testing.T) {
	bubble(t, func(t *testing.T, f *fetcher) {
		release, done := make(chan struct{}), make(chan error, 2)
		for _, ids := range [][]int{{1, 2}, {2, 1}} {
			go func() {
				_, err := request.FetchMany(f.open(t), ids[:1], func(id int) []any { return []any{tokens.Row("users", id), "outer"} },
					func(ctx context.Context, m []int) (map[int]string, error) {
						<-release
						got, err := request.FetchMany(ctx, ids[1:], func(id int) []any { return []any{tokens.Row("users", id), "outer"} },
							func(ctx context.Context, m []int) (map[int]string, error) {
								return map[int]string{ids[1]: "inner"}, nil
							})
						return map[int]string{ids[0]: got[ids[1]]}, err
					})
				done <- err
			}()
		}
		synctest.Wait()
		close(release)
		synctest.Wait()
		if len(done) != 2 {
			t.Fatal("they wait for each other")
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestFetchManyOfOneValue: two keys can have the same arguments. Their value is made once. When the caller
// gives up nobody else waits, and what he has started has ended before FetchMany returns.
func TestFetchManyOfOneValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFetcher(t, request.Config{Tokens: tokens.NewMemory()})
		defer f.store.Close()
		gate := make(chan struct{})
		var runs, running atomic.Int64
		two := func(ctx context.Context) (got map[int]string, err error) {
			return request.FetchMany(ctx, []int{1, 2}, func(int) []any { return []any{user1, "name"} },
				func(_ context.Context, missing []int) (map[int]string, error) {
					runs.Add(1)
					running.Add(1)
					defer running.Add(-1)
					<-gate
					return map[int]string{missing[0]: "a"}, nil
				})
		}
		ctx, cancel := context.WithCancel(f.open(t))
		time.AfterFunc(time.Second, cancel)
		time.AfterFunc(2*time.Second, func() { close(gate) })
		if _, err := two(ctx); running.Load() != 0 {
			t.Errorf("it returns with %v, and the fill runs on", err)
		}
		synctest.Wait()
		runs.Store(0)
		if got, err := two(f.open(t)); err != nil || !maps.Equal(got, map[int]string{1: "a", 2: "a"}) || runs.Load() != 1 {
			t.Errorf("%v, %v, in %d runs", got, err, runs.Load())
		}
	})
}
