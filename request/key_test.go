package request_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

func TestKeyText(t *testing.T) {
	store, _ := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	warm(t, store, user1, user2, orders, tokens.Global)
	token := func(id tokens.ID) string {
		s, err := tokens.Get(t.Context(), store, id)
		if err != nil {
			t.Fatal(err)
		}
		return s.String()
	}
	one, two, table, all := token(user1), token(user2), token(tokens.Table("users")), token(tokens.Global)
	ctx, _ := kit.Open(t.Context())
	for _, c := range []struct {
		args []any
		want string
	}{
		{[]any{&user{ID: 1}, "page"}, one + "/alkey:users#1/page"},
		{[]any{user{ID: 1}}, one + "/alkey:users#1"},
		{[]any{"alkey:users#1", user2, "x"}, one + "/alkey:users#1/" + two + "/alkey:users#2/x"},
		{[]any{"a", &user{ID: 1}, "b", &user{ID: 2}, "c", orders, 7}, "a/" + one + "/alkey:users#1/b/" + two + "/alkey:users#2/c/" + token(orders) + "/alkey:orders#*/7"},
		{[]any{user{}}, table + "/alkey:users#*"},
		{[]any{reflect.TypeFor[user]()}, table + "/alkey:users#*"},
		{[]any{tokens.Global}, all + "/alkey:*#*"},
		{[]any{"page"}, "page"},
		{[]any{"a/b", "c"}, "a%2Fb/c"},
		{[]any{user1, user1}, one + "/alkey:users#1/" + one + "/alkey:users#1"},
	} {
		k := key(t, ctx, c.args...)
		judged(t, c.want, k, true, 0)
		if k.String() != c.want {
			t.Errorf("%v: %q, want %q", c.args, k, c.want)
		}
	}
}

func TestKeyChangesWithItsRow(t *testing.T) {
	store, _ := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	texts := func() (string, string) {
		warm(t, store, user1, user2)
		ctx, _ := kit.Open(t.Context())
		return key(t, ctx, user1, "page").String(), key(t, ctx, user2, "page").String()
	}
	a1, a2 := texts()
	b1, b2 := texts()
	if a1 != b1 || a2 != b2 {
		t.Errorf("without a change: %s, %s became %s, %s", a1, a2, b1, b2)
	}
	publish(t, store, user1)
	c1, c2 := texts()
	if c1 == a1 || c2 != a2 {
		t.Errorf("after a change of user 1: %s, %s became %s, %s", a1, a2, c1, c2)
	}
	publish(t, store, tokens.Table("users"))
	d1, d2 := texts()
	if d1 == c1 || d2 == c2 {
		t.Errorf("after a change of all users: %s, %s became %s, %s", c1, c2, d1, d2)
	}
}

func TestKeyYounger(t *testing.T) {
	store, _ := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	warm(t, store, user1, user2)
	ctx, _ := kit.Open(t.Context())
	publish(t, store, user1)
	judged(t, "changed since", key(t, ctx, user1), true, request.Younger)
	judged(t, "unchanged", key(t, ctx, user2), true, 0)
	judged(t, "both", key(t, ctx, user2, user1), true, request.Younger)
	judged(t, "the third of three", key(t, ctx, user2, user2, user1), true, request.Younger)
	judged(t, "first of all", key(t, ctx, tokens.Row("users", 3)), true, request.Younger)
	ctx, _ = kit.Open(t.Context())
	judged(t, "in the next request", key(t, ctx, user1), true, 0)
}

func TestKeyFenced(t *testing.T) {
	store, _ := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	warm(t, store, user1, user2)
	owner, changes := tokens.NewOwner(), tokens.NewChanges(user1)
	if err := store.Fence(t.Context(), owner, changes, time.Hour); err != nil {
		t.Fatal(err)
	}
	ctx, _ := kit.Open(t.Context())
	judged(t, "the row", key(t, ctx, user1), false, request.Fenced)
	judged(t, "its table", key(t, ctx, tokens.Table("users")), false, request.Fenced)
	judged(t, "another row", key(t, ctx, user2), true, 0)
	judged(t, "both rows", key(t, ctx, user2, user1), false, request.Fenced)
	if _, err := store.Publish(t.Context(), owner, changes); err != nil {
		t.Fatal(err)
	}
	judged(t, "after the commit, in the same request", key(t, ctx, user1), false, request.Fenced)
	ctx, _ = kit.Open(t.Context())
	judged(t, "in the next request", key(t, ctx, user1), true, 0)
}

func TestKeyUnstable(t *testing.T) {
	store, b := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	ctx, scope := kit.Open(t.Context())
	for _, c := range []struct {
		name string
		args []any
		want error
	}{
		{"nothing", nil, request.ErrNoArguments},
		{"a function", []any{func() {}}, tokens.ErrUnstable},
		{"a nil model", []any{(*user)(nil)}, tokens.ErrModel},
		{"a malformed identifier", []any{user1, "alkey:users"}, tokens.ErrMalformed},
		{"a model in a list", []any{[]any{"x", user{ID: 1}}}, tokens.ErrModel},
		{"the zero ID", []any{tokens.ID{}}, tokens.ErrMalformed},
	} {
		k, err := scope.Key(ctx, c.args...)
		if !errors.Is(err, c.want) || !strings.HasPrefix(fmt.Sprint(err), "alkey: ") {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		judged(t, c.name, k, false, request.Unstable)
	}
	if n := b.reads.Load(); n != 0 {
		t.Errorf("%d reads for keys that are none", n)
	}
}

func TestZeroKey(t *testing.T) {
	var k request.Key
	if k.Usable() || k.Storable() || k.Reason() != request.Unstable {
		t.Errorf("the zero key: usable %t, storable %t, %q", k.Usable(), k.Storable(), k.Reason())
	}
	if a, b := k.String(), k.String(); a == b {
		t.Errorf("two keys of nothing are equal: %s", a)
	}
}

func TestReasonText(t *testing.T) {
	want := []string{"", "unstable", "store down", "fenced", "own write", "younger", "too many identifiers", "reason 7"}
	for i, w := range want {
		if got := request.Reason(i).String(); got != w {
			t.Errorf("reason %d is %q, want %q", i, got, w)
		}
	}
}

// TestOneShot: one-shot keys differ from each other and from all others, and begin as no key's text
// can.
func TestOneShot(t *testing.T) {
	store, _ := newStore(t)
	form := regexp.MustCompile(`^%once-[A-Z2-7]{26}-[0-9a-z]+\.[0-9a-z]+/alkey:users#1/a%2Fb/alkey:orders#\*$`)
	seen := map[string]bool{}
	for range 2 {
		kit := newKit(t, request.Config{Tokens: store})
		for range 3 {
			ctx, scope := kit.Open(t.Context())
			publish(t, store, user1)
			for range 3 {
				text := key(t, ctx, user1, "a/b", orders).String()
				if !form.MatchString(text) {
					t.Errorf("the form of %q", text)
				}
				if seen[text] {
					t.Errorf("%q was there before", text)
				}
				seen[text] = true
				k, _ := scope.Key(ctx)
				seen[k.String()] = true
			}
		}
	}
	if len(seen) != 2*3*3*2 {
		t.Errorf("%d different keys", len(seen))
	}
	ctx, _ := newKit(t, request.Config{Tokens: store}).Open(t.Context())
	if text := key(t, ctx, tokens.Text("%once-x")).String(); strings.HasPrefix(text, "%once") {
		t.Errorf("text of a user gives %q", text)
	}
}

// TestOneShotNamesItsArguments: whatever the arguments are, what follows the random part is the key
// without its tokens.
func TestOneShotNamesItsArguments(t *testing.T) {
	store, b := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	rapid.Check(t, func(t *rapid.T) {
		args := rapid.SliceOfN(rapid.OneOf(
			rapid.Map(rapid.IntRange(0, 2), func(n int) any { return tokens.Row("users", n) }),
			rapid.Map(rapid.SampledFrom([]string{"", "/", "alkey:", "page", "0", "%", "alkey:users#1"}), tokens.Text),
			rapid.Map(rapid.String(), tokens.Text),
		), 1, 6).Draw(t, "args")
		segments, err := tokens.AppendSegments(nil, args...)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, s := range segments {
			if s.ID.IsZero() {
				want = append(want, s.Text)
			} else {
				want = append(want, s.ID.String())
			}
		}
		if len(segments) == 1 && want[0] == "" {
			want[0] = "%~"
		}
		ctx, scope := kit.Open(context.Background())
		w := store.Ledger().Begin()
		w.Add(tokens.Global)
		defer w.End(tokens.Committed)
		k, err := scope.Key(ctx, args...)
		if err != nil {
			t.Fatal(err)
		}
		if text := k.String(); !strings.HasPrefix(text, "%once-") {
			t.Fatalf("%q is not one-shot", text)
		} else if _, got, _ := strings.Cut(text, "/"); got != strings.Join(want, "/") {
			t.Fatalf("%q does not end in %q", text, strings.Join(want, "/"))
		}
	})
	_ = b
}

func TestKeyStoreDown(t *testing.T) {
	store, b := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	warm(t, store, user1)
	known, _ := kit.Open(t.Context())
	before := key(t, known, user1)

	b.down.Store(true)
	ctx, scope := kit.Open(t.Context())
	judged(t, "while it is down", key(t, ctx, user1, "page"), false, request.StoreDown)
	judged(t, "what names nothing", key(t, ctx, "page"), true, 0)
	judged(t, "what the request knew before", key(t, known, user1), true, 0)
	judged(t, "a key of before", before, true, 0)
	if err := scope.Prefetch(ctx, user1, user2); err != nil {
		t.Errorf("Prefetch: %v", err)
	}
	if text := key(t, ctx, user1, "page").String(); !strings.HasSuffix(text, "/alkey:users#1/page") {
		t.Errorf("the key is %q", text)
	}
	// The breaker: only the first of all these asked the backend, and probes.
	if n := b.reads.Load(); n > 50 {
		t.Errorf("%d reads of a store that is down", n)
	}

	b.down.Store(false)
	eventually(t, "keys work again", func() bool {
		ctx, _ := kit.Open(t.Context())
		return key(t, ctx, user1).Storable()
	})
	judged(t, "in a request that was refused before", key(t, ctx, user1), true, 0)
}

func TestKeyContextEnded(t *testing.T) {
	store, _ := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	warm(t, store, user1)
	ctx, scope := kit.Open(t.Context())
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	k, err := scope.Key(ctx, user1)
	if !errors.Is(err, context.Canceled) || !strings.HasPrefix(fmt.Sprint(err), "alkey: ") {
		t.Errorf("the error is %v", err)
	}
	judged(t, "cancelled", k, false, request.StoreDown)
	if err := scope.Prefetch(ctx, user1); !errors.Is(err, context.Canceled) {
		t.Errorf("Prefetch: %v", err)
	}
	judged(t, "by another context", key(t, context.WithoutCancel(ctx), user1), true, 0)
	judged(t, "what is known already", key(t, ctx, user1), true, 0)
}

func TestKeyStoreClosed(t *testing.T) {
	store := tokens.NewMemory()
	kit := newKit(t, request.Config{Tokens: store})
	ctx, scope := kit.Open(t.Context())
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	k, err := scope.Key(ctx, user1)
	if !errors.Is(err, tokens.ErrClosed) {
		t.Errorf("the error is %v", err)
	}
	judged(t, "closed", k, false, request.StoreDown)
	if err := scope.Prefetch(ctx, user1); !errors.Is(err, tokens.ErrClosed) {
		t.Errorf("Prefetch: %v", err)
	}
}

// TestForeignTransaction: a transaction that was begun without a request's context counts for all
// requests that were open before it ended.
func TestForeignTransaction(t *testing.T) {
	for _, c := range []struct {
		name    string
		outcome tokens.Outcome
		after   request.Reason
	}{
		{"committed", tokens.Committed, 0},
		{"rolled back", tokens.RolledBack, request.OwnWrite},
		{"unknown", tokens.Unknown, request.OwnWrite},
	} {
		t.Run(c.name, func(t *testing.T) {
			store, _ := newStore(t)
			kit := newKit(t, request.Config{Tokens: store})
			warm(t, store, user1, user2)
			ctx, _ := kit.Open(t.Context())
			before, other, text := key(t, ctx, user1), key(t, ctx, user2), key(t, ctx, "page")
			judged(t, "before", before, true, 0)

			w := store.Ledger().Begin()
			w.Add(user1)
			judged(t, "asked before, while it is open", before, false, request.OwnWrite)
			during := key(t, ctx, user1)
			judged(t, "asked while it is open", during, false, request.OwnWrite)
			judged(t, "its table", key(t, ctx, tokens.Table("users")), false, request.OwnWrite)
			judged(t, "another row", other, true, 0)
			judged(t, "what names nothing", text, true, request.OwnWrite)

			w.End(c.outcome)
			judged(t, "asked before, when it has ended", before, true, c.after)
			judged(t, "asked while it was open, when it has ended", during, false, request.OwnWrite)
			judged(t, "asked when it has ended", key(t, ctx, user1), true, c.after)
			judged(t, "another row, when it has ended", other, true, 0)
			judged(t, "what names nothing, when it has ended", text, true, c.after)
			ctx, _ = kit.Open(t.Context())
			judged(t, "in the next request", key(t, ctx, user1), true, 0)
		})
	}
}

// TestForgetsOwnChanges: after a commit of its own a request reads the tokens of what it changed
// again, and keys that it had before are not served any more.
func TestForgetsOwnChanges(t *testing.T) {
	store, b := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	warm(t, store, user1, user2)
	ctx, _ := kit.Open(t.Context())
	one, two := key(t, ctx, user1), key(t, ctx, user2)
	both := key(t, ctx, user2, orders, user1)
	if err := txscope.Changed(ctx, user1); err != nil {
		t.Fatal(err)
	}
	judged(t, "of before", one, false, request.OwnWrite)
	judged(t, "of several, of before", both, false, request.OwnWrite)
	judged(t, "of another row", two, true, 0)
	reads := b.reads.Load()
	again := key(t, ctx, user1)
	judged(t, "asked again", again, true, request.Younger)
	judged(t, "of before, when the new token is known", one, false, request.OwnWrite)
	key(t, ctx, user2)
	if n := b.reads.Load() - reads; n != 1 {
		t.Errorf("%d reads for one row that changed and one that did not", n)
	}
}

// TestReadDuringOwnCommit: a read that began before the request's own commit ended gives nothing to
// the memo.
func TestReadDuringOwnCommit(t *testing.T) {
	store, b := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	warm(t, store, user1, user2)
	ctx, _ := kit.Open(t.Context())
	old, err := tokens.Get(t.Context(), store, user1)
	if err != nil {
		t.Fatal(err)
	}
	times := 1
	commit := func() {
		if times > 0 {
			times--
			if err := txscope.Changed(ctx, user1); err != nil {
				t.Error(err)
			}
		}
	}
	b.afterRead.Store(&commit)
	b.reads.Store(0)
	k := key(t, ctx, user1, user2)
	judged(t, "asked during the commit", k, true, request.Younger)
	if n := b.reads.Load(); n != 2 {
		t.Errorf("%d reads", n)
	}
	if strings.Contains(k.String(), old.String()) {
		t.Errorf("%q has the token of before the commit", k)
	}

	// With a commit in every read the key is answered in the end, and not used.
	times = 1000
	reads := b.reads.Load()
	if err := txscope.Changed(ctx, user1); err != nil {
		t.Fatal(err)
	}
	judged(t, "asked during one commit after another", key(t, ctx, user1), false, request.OwnWrite)
	if n := b.reads.Load() - reads; n != 3 {
		t.Errorf("%d reads", n)
	}
}

// TestOneTokenForTheRequest: of two reads that overlap, the one that ends first counts.
func TestOneTokenForTheRequest(t *testing.T) {
	store, b := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	warm(t, store, user1)
	ctx, _ := kit.Open(t.Context())
	var inner request.Key
	overlap := func() {
		b.afterRead.Store(nil)
		publish(t, store, user1)
		inner = key(t, ctx, user1)
	}
	b.afterRead.Store(&overlap)
	outer := key(t, ctx, user1)
	if outer.Token() != inner.Token() {
		t.Errorf("one request has the keys %q and %q", outer.Token(), inner.Token())
	}
}

func TestPrefetch(t *testing.T) {
	store, b := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	users := make([]*user, 100)
	for i := range users {
		users[i] = &user{ID: i + 1}
	}
	ctx, scope := kit.Open(t.Context())
	b.reads.Store(0)
	if err := scope.Prefetch(ctx, users, orders, "text", user1); err != nil {
		t.Fatal(err)
	}
	if n := b.reads.Load(); n != 1 {
		t.Errorf("%d round trips to prefetch", n)
	}
	for _, u := range users {
		judged(t, "prefetched", key(t, ctx, u, orders, "row"), true, request.Younger)
	}
	if err := scope.Prefetch(ctx, users[:50], orders); err != nil {
		t.Fatal(err)
	}
	if err := scope.Prefetch(ctx); err != nil {
		t.Fatal(err)
	}
	if n := b.reads.Load(); n != 1 {
		t.Errorf("%d round trips in all", n)
	}
	if err := scope.Prefetch(ctx, users, &user{ID: 1000}); err != nil {
		t.Fatal(err)
	}
	if n := b.reads.Load(); n != 2 {
		t.Errorf("%d round trips for one more", n)
	}
	if err := scope.Prefetch(ctx, &user{ID: 1001}, func() {}); !errors.Is(err, tokens.ErrUnstable) {
		t.Errorf("a bad argument: %v", err)
	}
}

// TestReasonsInOrder: of several reasons the first counts.
func TestReasonsInOrder(t *testing.T) {
	store, b := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	row3 := tokens.Row("users", 3)
	warm(t, store, user1, user2, row3)
	ctx, scope := kit.Open(t.Context())
	publish(t, store, user1)
	younger := key(t, ctx, user1)
	judged(t, "younger", younger, true, request.Younger)
	w := store.Ledger().Begin()
	w.Add(user1)
	w.Add(user2)
	defer w.End(tokens.RolledBack)
	judged(t, "own write before younger", younger, false, request.OwnWrite)
	if err := store.Fence(t.Context(), tokens.NewOwner(), tokens.NewChanges(user2), time.Hour); err != nil {
		t.Fatal(err)
	}
	judged(t, "fenced before own write", key(t, ctx, user1, user2), false, request.Fenced)
	b.down.Store(true)
	judged(t, "store down before fenced", key(t, ctx, user1, user2, row3), false, request.StoreDown)
	k, _ := scope.Key(ctx, user1, user2, row3, func() {})
	judged(t, "unstable before store down", k, false, request.Unstable)
}

func TestNestedScopes(t *testing.T) {
	store, _ := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	other := newKit(t, request.Config{Tokens: store})
	strangers, _ := newStore(t)
	stranger := newKit(t, request.Config{Tokens: strangers})
	warm(t, store, user1)
	warm(t, strangers, user1)

	outer, scope := kit.Open(t.Context())
	if again, s := kit.Open(outer); again != outer || s != scope {
		t.Error("a scope opened in a scope is another one")
	}
	if s, ok := request.FromContext(outer); !ok || s != scope || s.Kit() != kit {
		t.Error("the context does not carry the scope")
	}
	publish(t, store, user1)
	publish(t, strangers, user1)

	inner, second := other.Open(outer)
	if second == scope {
		t.Fatal("two kits share a scope")
	}
	judged(t, "in the inner scope, as old as the outer", key(t, inner, user1), true, request.Younger)
	back, s := kit.Open(inner)
	if s != scope {
		t.Error("a scope opened in a scope of another kit in a scope is another one")
	}
	if s, _ := request.FromContext(back); s != scope {
		t.Error("the scope opened last is not the newest")
	}
	judged(t, "in a scope of another store", key(t, first(stranger.Open(back)), user1), true, 0)

	k := key(t, outer, user1)
	if err := txscope.Changed(inner, user1); err != nil {
		t.Fatal(err)
	}
	judged(t, "in the outer scope, after a change in the inner", k, false, request.OwnWrite)
}

func first(ctx context.Context, _ *request.Scope) context.Context { return ctx }

// TestConcurrentRequest is for the race detector, and checks that a request sees one token for a
// row that nobody of it changes.
func TestConcurrentRequest(t *testing.T) {
	store, _ := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	ctx, scope := kit.Open(t.Context())
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		seen = map[string]bool{}
	)
	for g := range 8 {
		wg.Go(func() {
			for i := range 100 {
				switch g % 4 {
				case 0:
					if err := scope.Prefetch(ctx, tokens.Row("users", i), orders); err != nil {
						t.Error(err)
					}
				case 1:
					if err := txscope.Changed(ctx, tokens.Row("users", i)); err != nil {
						t.Error(err)
					}
				case 2:
					publish(t, store, orders)
				default:
					k := key(t, ctx, tokens.Row("users", i), "x")
					_, _ = k.Storable(), k.String()
					if k := key(t, ctx, orders); k.Usable() {
						text, _, _ := strings.Cut(k.Token(), "/")
						mu.Lock()
						seen[text] = true
						mu.Unlock()
					}
				}
			}
		})
	}
	wg.Wait()
	if len(seen) > 1 {
		t.Errorf("one request saw the tokens %v of one table that it did not change", seen)
	}
}

func TestCacheKey(t *testing.T) {
	store, _ := newStore(t)
	j := new(journal)
	kit := newKit(t, request.Config{Tokens: store, Logger: j.logger()})
	warm(t, store, user1)
	r := httptest.NewRequest("GET", "/users/1", nil)
	func() {
		defer func() {
			if p := fmt.Sprint(recover()); !strings.Contains(p, "middleware") || !strings.Contains(p, "GET /users/1") {
				t.Errorf("panicked with %q", p)
			}
		}()
		request.CacheKey(r, user1)
	}()

	ctx, _ := kit.Open(r.Context())
	r = r.WithContext(ctx)
	if got, want := request.CacheKey(r, &user{ID: 1}, "page"), key(t, ctx, user1, "page").String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for range 3 {
		if text := request.CacheKey(r, func() {}); !strings.HasPrefix(text, "%once-") {
			t.Errorf("a bad argument gives %q", text)
		}
	}
	if n := j.count("stable text"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
}

// texter has a text, or an error or a panic of somebody else's making.
type texter struct{ says string }

func (t texter) MarshalText() ([]byte, error) {
	if t.says == "" {
		return nil, nil
	}
	if t.says[0] == '!' {
		panic(t.says)
	}
	return nil, errors.New(t.says)
}

// TestComplaintsAreOfKinds: what users send must not use up the lines that are logged.
func TestComplaintsAreOfKinds(t *testing.T) {
	store, _ := newStore(t)
	j := new(journal)
	kit := newKit(t, request.Config{Tokens: store, Logger: j.logger()})
	ctx, _ := kit.Open(t.Context())
	r := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
	for _, c := range []struct {
		name string
		arg  func(i int) any
	}{
		{"no identifier", func(i int) any { return fmt.Sprintf("alkey:%d", i) }},
		{"no identifier, with quotes", func(i int) any { return fmt.Sprintf(`alkey:"%d" \" "`, i) }},
		{"a long text", func(i int) any { return fmt.Sprintf("alkey:%d", i) + strings.Repeat(`"`, 100) }},
		{"a character", func(i int) any { return "alkey:users#" + string(rune(i+'\'')) }},
		{"an escape", func(i int) any { return fmt.Sprintf("alkey:users#%%%c", i+'%') }},
		{"an element", func(i int) any { return append(make([]any, i, i+2), user1, 1) }},
		{"an identifier inside", func(i int) any { return map[string]any{"a": tokens.Row("users", i)} }},
		{"an error", func(i int) any { return texter{fmt.Sprint("no ", i)} }},
		{"a panic", func(i int) any { return texter{fmt.Sprint("!\n", i)} }},
	} {
		before := len(j.lines())
		for i := range 300 {
			request.CacheKey(r, c.arg(i))
		}
		// A text can be wrong in a handful of ways.
		if n := len(j.lines()) - before; n > 6 {
			t.Errorf("%s: %d lines", c.name, n)
		}
	}
	// Faults of the program are kept apart: by what is wrong, by position and by type.
	before := len(j.lines())
	for range 3 {
		request.CacheKey(r, func() {})
		request.CacheKey(r, 1, func() {})
		request.CacheKey(r, func(int) {})
		request.CacheKey(r, (*user)(nil))
	}
	if n := len(j.lines()) - before; n != 4 {
		t.Errorf("%d lines of four faults: %q", n, j.lines()[before:])
	}
	// And there is an end to it, whatever the errors are.
	args := make([]any, 300)
	for i := range args {
		args[i] = func() {}
		request.CacheKey(r, args[:i+1]...)
		args[i] = i
	}
	if n := len(j.lines()); n != 101 || j.count("further kinds are not logged") != 1 {
		t.Errorf("%d lines are logged", n)
	}
}

// TestKeyOfAnEmptyText: one empty text is a key, and not the key of nothing.
func TestKeyOfAnEmptyText(t *testing.T) {
	store, _ := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	ctx, _ := kit.Open(t.Context())
	empty := key(t, ctx, "")
	judged(t, "one empty text", empty, true, 0)
	seen := map[string]bool{}
	for _, args := range [][]any{{""}, {"", ""}, {"%~"}, {"~"}, {nil}, {[]string{}}, {[]string{""}}, {[]user{}}, {"", "%~"}} {
		text := key(t, ctx, args...).String()
		if text == "" || seen[text] {
			t.Errorf("%q has the key %q", args, text)
		}
		seen[text] = true
	}
	for _, arg := range []any{tokens.Text(""), []byte(nil), texter{}} {
		if text := key(t, ctx, arg).String(); text != empty.String() {
			t.Errorf("%#v has the key %q, and an empty text %q", arg, text, empty)
		}
	}
	if once := request.CacheKey(httptest.NewRequest("GET", "/", nil).WithContext(ctx)); !strings.HasPrefix(once, "%once-") {
		t.Errorf("no arguments have the key %q", once)
	}
}

// TestKeyAllocates: the list of arguments and the key's text, and nothing else.
func TestKeyAllocates(t *testing.T) {
	store, _ := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	warm(t, store, user1)
	ctx, scope := kit.Open(t.Context())
	u := &user{ID: 1}
	key(t, ctx, u, "page")
	n := testing.AllocsPerRun(1000, func() {
		k, err := scope.Key(ctx, u, "page")
		if err != nil || len(k.String()) == 0 {
			t.Fatal(k, err)
		}
	})
	if n > 2 {
		t.Errorf("%v allocations for a key of one model and one text", n)
	}
}

// TestScopeOfItsOwn: what goes on after its request sees changes if it starts without a scope.
func TestScopeOfItsOwn(t *testing.T) {
	store, _ := newStore(t)
	kit := newKit(t, request.Config{Tokens: store})
	warm(t, store, user1)
	inRequest, _ := kit.Open(t.Context())
	before := key(t, inRequest, user1).String()
	publish(t, store, user1)
	ctx, _ := kit.Open(context.WithoutCancel(inRequest))
	if got := key(t, ctx, user1).String(); got != before {
		t.Errorf("the request's context gives %q, and gave %q", got, before)
	}
	ctx, _ = kit.Open(context.Background())
	after := key(t, ctx, user1)
	judged(t, "in a scope of its own", after, true, 0)
	if after.String() == before {
		t.Errorf("the row was changed, and its key is still %q", after)
	}
}
