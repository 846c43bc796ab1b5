package request_test

import (
	"context"
	"fmt"
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
