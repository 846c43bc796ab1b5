package middleware_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/go-chi/chi/v5"

	"github.com/alkey-go/alkey/middleware"
	"github.com/alkey-go/alkey/tokens"
)

// A page that greets its user has the user in its key: CachePage knows no cookies.
func ExampleCachePage() {
	store := tokens.NewMemory()
	defer store.Close()
	store.AddDatabase() // as alkey.Open does
	m, err := middleware.New(middleware.Config{Tokens: store, Version: "1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	if _, err := tokens.Get(ctx, store, tokens.Table("articles")); err != nil { // as requests before have
		fmt.Println(err)
		return
	}
	currentUser := func(r *http.Request) string { return r.Header.Get("X-User") } // what the session says

	r := chi.NewRouter()
	r.Use(m)
	r.With(middleware.CachePage(func(r *http.Request) []any {
		return []any{tokens.Text(currentUser(r)), tokens.Table("articles")}
	}, middleware.PageQuery("page"))).Get("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("  the handler runs")
		fmt.Fprintf(w, "Hello %s, page %q", currentUser(r), r.FormValue("page"))
	})

	visit := func(user, url string) {
		req := httptest.NewRequest("GET", url, nil)
		req.Header.Set("X-User", user)
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		fmt.Println(w.Body)
	}
	visit("Ada", "/")
	visit("Ada", "/?utm_source=mail")
	visit("Grace", "/")
	visit("Ada", "/?page=2")
	if _, err := tokens.Bump(ctx, store, tokens.Row("articles", 7)); err != nil { // as a commit does
		fmt.Println(err)
	}
	visit("Ada", "/")
	// Output:
	//   the handler runs
	// Hello Ada, page ""
	// Hello Ada, page ""
	//   the handler runs
	// Hello Grace, page ""
	//   the handler runs
	// Hello Ada, page "2"
	//   the handler runs
	// Hello Ada, page ""
}
