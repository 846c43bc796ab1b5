package request_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

// book makes parts and notes which are filled.
type book struct {
	filled []string
	before func(name string) // runs in every fill
}

// part makes a part of a row: a text around other parts.
func (b *book) part(id tokens.ID, name string, inner ...*request.Part) *request.Part {
	return &request.Part{Args: []any{id, name}, Fill: func(context.Context) ([]request.Piece, error) {
		b.filled = append(b.filled, name)
		if b.before != nil {
			b.before(name)
		}
		pieces := []request.Piece{{Text: []byte("<" + name)}}
		for _, p := range inner {
			pieces = append(pieces, request.Piece{Part: p})
		}
		return append(pieces, request.Piece{Text: []byte(">")}), nil
	}}
}

func (b *book) take() string {
	text := strings.Join(b.filled, " ")
	b.filled = nil
	return text
}

func TestResolve(t *testing.T) {
	store, backend := newStore(t)
	values := &counted{values: newValues()}
	f := newFetcher(t, request.Config{Tokens: store, Values: values})
	rows := make([]tokens.ID, 10)
	for i := range rows {
		rows[i] = tokens.Row("rows", i)
		warm(t, store, rows[i])
	}
	b := new(book)
	get := func(what, want, filled string, reads, gets int64) {
		t.Helper()
		leaf := b.part(rows[1], "leaf")
		parts := []*request.Part{
			b.part(rows[2], "a", b.part(rows[3], "b", leaf), b.part(rows[4], "c")),
			b.part(rows[5], "d"),
			b.part(rows[4], "c"),
			b.part(rows[1], "leaf"),
		}
		backend.reads.Store(0)
		values.gets.Store(0)
		if err := request.Resolve(f.open(t), parts...); err != nil {
			t.Fatal(err)
		}
		var text []byte
		for _, p := range parts {
			text = append(text, p.Value...)
		}
		if string(text) != want {
			t.Errorf("%s: %q, want %q", what, text, want)
		}
		if got := b.take(); got != filled {
			t.Errorf("%s: filled %q, want %q", what, got, filled)
		}
		if backend.reads.Load() != reads || values.gets.Load() != gets {
			t.Errorf("%s: %d reads of tokens, %d of values; want %d and %d", what, backend.reads.Load(), values.gets.Load(), reads, gets)
		}
	}
	const page = "<a<b<leaf>><c>><d><c><leaf>"
	get("first", page, "a d c leaf b", 2, 2)
	get("found", page, "", 1, 1)
	publish(t, store, rows[1])
	warm(t, store, rows[1])
	// The tokens of the inner ones are known with the outer one's.
	get("after a change of the innermost", page, "a leaf b", 1, 2)
	get("found again", page, "", 1, 1)
	publish(t, store, rows[5])
	warm(t, store, rows[5])
	get("after a change of one", page, "d", 1, 1)
	publish(t, store, rows[2])
	warm(t, store, rows[2])
	get("after a change of the outermost", page, "a", 1, 2)
}

func TestResolveKind(t *testing.T) {
	f := newFetcher(t, request.Config{})
	b := new(book)
	get := func(extra string) {
		p := b.part(user1, "x")
		p.Kind = request.NewKind("kind", extra, nil)
		if err := request.Resolve(f.open(t), p); err != nil || string(p.Value) != "<x>" {
			t.Errorf("%q, %v", p.Value, err)
		}
	}
	for _, c := range [][2]string{{"1", "x"}, {"1", ""}, {"2", "x"}, {"2", ""}} {
		get(c[0])
		if got := b.take(); got != c[1] {
			t.Errorf("with %s it fills %q", c[0], got)
		}
	}
}

// TestPrepare: who prepares a part hears why its arguments make no key, and the log does not.
func TestPrepare(t *testing.T) {
	var log journal
	f := newFetcher(t, request.Config{Logger: log.logger()})
	b := new(book)
	kind := request.NewKind("alkey:users#1/x", "", reflect.TypeFor[int]())
	good := func() *request.Part {
		p := b.part(user1, "x")
		p.Kind = kind
		return p
	}
	for i, filled := range []string{"x bad", "bad"} {
		ctx := f.open(t)
		s, _ := request.FromContext(ctx)
		p, bad := good(), b.part(user1, "bad")
		bad.Args = append(bad.Args, func() {})
		if err := s.Prepare(p); err != nil {
			t.Error(err)
		}
		p.Args = nil // it is not looked at again
		if err := s.Prepare(bad); !errors.Is(err, tokens.ErrUnstable) || !strings.Contains(err.Error(), "argument 3") {
			t.Errorf("%v", err)
		}
		if err := request.Resolve(ctx, p, bad); err != nil || string(p.Value) != "<x>" || string(bad.Value) != "<bad>" {
			t.Errorf("%q, %q, %v", p.Value, bad.Value, err)
		}
		if got := b.take(); got != filled || p.Hit != (i > 0) || bad.Hit {
			t.Errorf("filled %q, hit %t", got, p.Hit)
		}
	}
	if key := f.last().Key; !strings.Contains(key, "alkey%3Ausers#1%2Fx/") {
		t.Errorf("the name of the kind is not text in %q", key)
	}
	if lines := log.lines(); lines[0] != "" {
		t.Errorf("logged: %q", lines)
	}

	ctx := f.open(t)
	key(t, ctx, user2) // its token is known
	again := b.part(user2, "again")
	s, _ := request.FromContext(ctx)
	for _, extra := range []any{"a", func() {}, "b"} {
		again.Args = append(again.Args[:2], extra)
		if err := s.Prepare(again); (err == nil) != (extra == "a" || extra == "b") {
			t.Error(err)
		}
	}
	if err := request.Resolve(ctx, again); err != nil {
		t.Error(err)
	}
	if e := f.last(); !e.Stored || e.Dependencies != 1 || !strings.HasSuffix(e.Key, "/again/b") {
		t.Errorf("prepared again: %+v", e)
	}
	alone := &request.Part{Kind: kind, Fill: b.part(user1, "alone").Fill}
	if err := request.Resolve(f.open(t), alone); err != nil || string(alone.Value) != "<alone>" {
		t.Errorf("a kind without arguments: %q, %v", alone.Value, err)
	}
	if got := log.count("at least one argument"); got != 0 {
		t.Error("a kind without arguments makes no key")
	}
}

// TestResolveUncached: what is not cached is made each time, and its dependencies are those of the part
// that it is in.
func TestResolveUncached(t *testing.T) {
	f := newFetcher(t, request.Config{})
	b := new(book)
	ctx := f.open(t)
	b.before = func(name string) {
		if name == "inner" {
			key(t, ctx, orders)
		}
	}
	get := func(filled string) {
		t.Helper()
		inner, alone := b.part(user2, "inner"), b.part(user2, "alone")
		inner.Uncached, alone.Uncached = true, true
		ctx = f.open(t)
		outer := b.part(user1, "outer", inner)
		if err := request.Resolve(ctx, outer, alone); err != nil || string(outer.Value) != "<outer<inner>>" {
			t.Errorf("%q, %v", outer.Value, err)
		}
		if got := b.take(); got != filled {
			t.Errorf("filled %q, want %q", got, filled)
		}
	}
	get("outer alone inner")
	get("alone")
	publish(t, f.store, user2) // which the inner one is made of
	warm(t, f.store, user2)
	get("outer alone inner")
	get("alone")
	publish(t, f.store, orders)
	warm(t, f.store, orders)
	get("outer alone inner")
}

// TestResolveUnstable: nobody knows when a part must be made again if its arguments make no key, so what is
// around it is not stored either.
func TestResolveUnstable(t *testing.T) {
	for _, uncached := range []bool{false, true} {
		f := newFetcher(t, request.Config{})
		b := new(book)
		warm(t, f.store, user1)
		for range 2 {
			inner := b.part(user2, "inner")
			inner.Args, inner.Uncached = append(inner.Args, func() {}), uncached
			_, err := request.Fetch(f.open(t), func(ctx context.Context) (string, error) {
				outer := b.part(user1, "outer", inner)
				return "", request.Resolve(ctx, outer)
			}, user1, "around")
			if err != nil {
				t.Fatal(err)
			}
			if got := b.take(); got != "outer inner" {
				t.Errorf("filled %q", got)
			}
		}
	}
}

func TestResolveFails(t *testing.T) {
	values := newValues()
	f := newFetcher(t, request.Config{Values: values})
	b := new(book)
	broken := &request.Part{Args: []any{orders}, Fill: func(context.Context) ([]request.Piece, error) { return nil, errPanic }}
	whole := b.part(user1, "whole", b.part(user2, "good"), broken, b.part(user2, "not reached"))
	if err := request.Resolve(f.open(t), whole); !errors.Is(err, errPanic) {
		t.Errorf("%v", err)
	}
	if got := b.take(); got != "whole good" {
		t.Errorf("filled %q", got)
	}
	for k := range values.m {
		if !strings.HasSuffix(k, "good") {
			t.Errorf("%q is stored", k)
		}
	}
	// Nothing is left behind: the next does not wait.
	again := b.part(user1, "whole")
	if err := request.Resolve(f.open(t), again); err != nil || string(again.Value) != "<whole>" {
		t.Errorf("%q, %v", again.Value, err)
	}
	if err := request.Resolve(t.Context()); !errors.Is(err, request.ErrNoScope) {
		t.Errorf("without a scope: %v", err)
	}
	func() {
		defer func() {
			if p := fmt.Sprint(recover()); !strings.HasPrefix(p, "oops\n") {
				t.Errorf("recovered %v", p)
			}
		}()
		_ = request.Resolve(f.open(t), b.part(orders, "x"), &request.Part{Args: []any{user1, "y"}, Fill: func(context.Context) ([]request.Piece, error) { panic("oops") }}, b.part(orders, "z"))
	}()
	for _, name := range []string{"x", "y", "z"} {
		p := b.part(orders, name)
		if err := request.Resolve(f.open(t), p); err != nil {
			t.Error(err)
		}
	}
}

func TestResolveCycles(t *testing.T) {
	f := newFetcher(t, request.Config{})
	b := new(book)
	var self func() *request.Part
	self = func() *request.Part {
		return &request.Part{Args: []any{user1, "self"}, Fill: func(context.Context) ([]request.Piece, error) {
			return []request.Piece{{Part: b.part(user2, "between", self())}}, nil
		}}
	}
	if err := request.Resolve(f.open(t), self()); !errors.Is(err, request.ErrCycle) {
		t.Errorf("itself: %v", err)
	}
	// One is in the other, and the other in the one.
	one := func(inner ...*request.Part) *request.Part { return b.part(user1, "one", inner...) }
	two := func(inner ...*request.Part) *request.Part { return b.part(user2, "two", inner...) }
	if err := request.Resolve(f.open(t), one(two()), two(one())); !errors.Is(err, request.ErrCycle) {
		t.Errorf("each other: %v", err)
	}
	// A call inside a fill.
	var nested *request.Part
	nested = &request.Part{Args: []any{user1, "nested"}, Fill: func(ctx context.Context) ([]request.Piece, error) {
		return nil, request.Resolve(ctx, &request.Part{Args: nested.Args, Fill: nested.Fill})
	}}
	if err := request.Resolve(f.open(t), nested); !errors.Is(err, request.ErrCycle) {
		t.Errorf("by a call: %v", err)
	}
}

// TestResolveShares: two pages at the same time make each part once, though each has what the other
// needs, and wait for each other only where that ends.
func TestResolveShares(t *testing.T) {
	bubble(t, func(t *testing.T, f *fetcher) {
		rows := make([]tokens.ID, 6)
		for i := range rows {
			rows[i] = tokens.Row("rows", i)
			warm(t, f.store, rows[i])
		}
		release, done := make(chan struct{}), make(chan string, 2)
		books := []*book{{}, {}}
		orders := [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}}
		for i, b := range books {
			first := true
			b.before = func(string) {
				if first {
					first = false
					<-release
				}
			}
			go func() {
				var parts []*request.Part
				for _, n := range orders[i] {
					inner := b.part(rows[(n+1)%4], fmt.Sprint("inner", (n+1)%4))
					parts = append(parts, b.part(rows[n], fmt.Sprint("part", n), inner))
				}
				err := request.Resolve(f.open(t), parts...)
				text := fmt.Sprint(err)
				for _, p := range parts {
					text += string(p.Value)
				}
				done <- text
			}()
			synctest.Wait()
		}
		close(release)
		synctest.Wait()
		if len(done) != 2 {
			t.Fatal("they wait for each other")
		}
		texts := []string{<-done, <-done}
		slices.Sort(texts)
		if want := []string{
			"<nil><part0<inner1>><part1<inner2>><part2<inner3>><part3<inner0>>",
			"<nil><part3<inner0>><part2<inner3>><part1<inner2>><part0<inner1>>",
		}; !slices.Equal(texts, want) {
			t.Errorf("%q", texts)
		}
		all := append(books[0].filled, books[1].filled...)
		if len(all) > 12 {
			t.Errorf("%d fills of 8 parts: %q", len(all), all)
		}
	})
}
