package request_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

// A job opens a scope for each piece of its work.
func ExampleKit_Open() {
	store := tokens.NewMemory()
	defer store.Close()
	kit, err := request.New(request.Config{Tokens: store})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 {
		ctx, scope := kit.Open(context.Background())
		key, err := scope.Key(ctx, tokens.Row("users", 1), "report")
		if err != nil {
			fmt.Println(err)
			return
		}
		// The first to ask for a row cannot know how old the data is that it has.
		fmt.Printf("usable %t, storable %t, reason %q\n", key.Usable(), key.Storable(), key.Reason())
	}
	// Output:
	// usable true, storable false, reason "younger"
	// usable true, storable true, reason ""
	// usable true, storable true, reason ""
}

func ExampleScope_Key() {
	store := tokens.NewMemory()
	defer store.Close()
	kit, err := request.New(request.Config{Tokens: store})
	if err != nil {
		fmt.Println(err)
		return
	}
	last := ""
	ask := func() {
		ctx, scope := kit.Open(context.Background())
		key, err := scope.Key(ctx, &user{ID: 1}, "page")
		if err != nil {
			fmt.Println(err)
			return
		}
		token, rest, _ := strings.Cut(key.String(), "/")
		fmt.Println(rest, "- as before:", token == last)
		last = token
	}
	ask() // one-shot: nobody has asked for this row before
	ask()
	ask()
	if _, err := tokens.Bump(context.Background(), store, &user{ID: 1}); err != nil {
		fmt.Println(err)
	}
	ask()
	ask()
	// Output:
	// alkey:users#1/page - as before: false
	// alkey:users#1/page - as before: false
	// alkey:users#1/page - as before: true
	// alkey:users#1/page - as before: false
	// alkey:users#1/page - as before: true
}

func ExampleFetch() {
	store := tokens.NewMemory()
	defer store.Close()
	kit, err := request.New(request.Config{
		Tokens: store,
		OnFetch: func(_ context.Context, e request.FetchEvent) {
			fmt.Printf("found %t, stored %t, reason %q\n", e.Hit, e.Stored, e.Reason)
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 {
		ctx, _ := kit.Open(context.Background())
		total, err := request.Fetch(ctx, func(context.Context) (int, error) {
			return 42, nil // a costly sum of the user's orders
		}, &user{ID: 1}, tokens.Table("orders"), "total")
		fmt.Println(total, err)
	}
	// Output:
	// found false, stored false, reason "younger"
	// 42 <nil>
	// found false, stored true, reason ""
	// 42 <nil>
	// found true, stored false, reason ""
	// 42 <nil>
}

// What a fill asks for becomes part of what its value depends on.
func ExampleFetch_inside() {
	store := tokens.NewMemory()
	defer store.Close()
	kit, err := request.New(request.Config{Tokens: store})
	if err != nil {
		fmt.Println(err)
		return
	}
	page := func() {
		ctx, _ := kit.Open(context.Background())
		_, err := request.Fetch(ctx, func(ctx context.Context) (string, error) {
			fmt.Println("making the page")
			total, err := request.Fetch(ctx, func(context.Context) (int, error) {
				fmt.Println("making the total")
				return 42, nil
			}, tokens.Table("orders"), "total")
			return fmt.Sprint("in all: ", total), err
		}, &user{ID: 1}, "page")
		if err != nil {
			fmt.Println(err)
		}
	}
	page() // nobody has asked before: what is made is not stored
	page()
	page() // found
	if _, err := tokens.Bump(context.Background(), store, tokens.Row("orders", 7)); err != nil {
		fmt.Println(err)
	}
	page() // made anew
	page() // found
	// Output:
	// making the page
	// making the total
	// making the page
	// making the total
	// making the page
	// making the total
}

func ExampleFetchMany() {
	store := tokens.NewMemory()
	defer store.Close()
	kit, err := request.New(request.Config{Tokens: store})
	if err != nil {
		fmt.Println(err)
		return
	}
	ids := []int{1, 2, 3}
	get := func() {
		ctx, _ := kit.Open(context.Background())
		names, err := request.FetchMany(ctx, ids,
			func(id int) []any { return []any{tokens.Row("users", id), "name"} },
			func(_ context.Context, missing []int) (map[int]string, error) {
				fmt.Println("loading", missing)
				return map[int]string{1: "Ann", 2: "Ben"}, nil // there is no user 3
			})
		fmt.Println(names, err)
	}
	get() // nobody has asked before: nothing is stored
	get()
	get()
	// Output:
	// loading [1 2 3]
	// map[1:Ann 2:Ben] <nil>
	// loading [1 2 3]
	// map[1:Ann 2:Ben] <nil>
	// map[1:Ann 2:Ben] <nil>
}

func ExampleNotModified() {
	store := tokens.NewMemory()
	defer store.Close()
	kit, err := request.New(request.Config{Tokens: store, Version: "1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		me := &user{ID: 7} // whoever is logged in: the page greets him
		if request.NotModified(w, r, me, &user{ID: 1}, "page") {
			return
		}
		fmt.Fprint(w, "the page")
	}
	var etag string
	get := func() {
		r := httptest.NewRequest("GET", "/users/1", nil)
		if etag != "" {
			r.Header.Set("If-None-Match", etag)
		}
		ctx, _ := kit.Open(r.Context()) // the middleware does this
		w := httptest.NewRecorder()
		handler(w, r.WithContext(ctx))
		etag = w.Header().Get("ETag")
		fmt.Printf("%d %q, has an ETag: %t\n", w.Code, w.Body, etag != "")
	}
	get() // nobody has asked before: the response must not carry a tag
	get()
	get()
	if _, err := tokens.Bump(context.Background(), store, &user{ID: 1}); err != nil {
		fmt.Println(err)
	}
	get()
	// Output:
	// 200 "the page", has an ETag: false
	// 200 "the page", has an ETag: true
	// 304 "", has an ETag: true
	// 200 "the page", has an ETag: true
}

// A page of parts, each found or made by itself.
func ExampleResolve() {
	store := tokens.NewMemory()
	defer store.Close()
	kit, err := request.New(request.Config{Tokens: store})
	if err != nil {
		fmt.Println(err)
		return
	}
	row := func(id int) *request.Part {
		return &request.Part{
			Args: []any{&user{ID: id}, "row"},
			Fill: func(context.Context) ([]request.Piece, error) {
				fmt.Println("making", id)
				return []request.Piece{{Text: fmt.Appendf(nil, "<li>%d</li>", id)}}, nil
			},
		}
	}
	page := func() {
		ctx, _ := kit.Open(context.Background())
		rows := []*request.Part{row(1), row(2)}
		if err := request.Resolve(ctx, rows...); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s%s\n", rows[0].Value, rows[1].Value)
	}
	page() // nobody has asked before: nothing is stored
	page()
	page()
	// Output:
	// making 1
	// making 2
	// <li>1</li><li>2</li>
	// making 1
	// making 2
	// <li>1</li><li>2</li>
	// <li>1</li><li>2</li>
}
