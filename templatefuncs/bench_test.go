package templatefuncs_test

import (
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"testing"

	"github.com/alkey-go/alkey/internal/versus"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/templatefuncs"
	"github.com/alkey-go/alkey/tokens"
)

// page shows ten users, each with a key.
//
//go:embed testdata/page.html
var page string

type cardUser struct {
	ID    int
	Name  string
	Email string
	Since string
	Admin bool
}

func (*cardUser) TableName() string { return "users" }

type pageData struct {
	Title string
	Intro string
	Users []*cardUser
}

func newPageData() *pageData {
	d := &pageData{Title: "Users", Intro: "Everybody who has an account here, in the order in which they came."}
	for i := range 10 {
		d.Users = append(d.Users, &cardUser{
			ID:    i + 1,
			Name:  fmt.Sprintf("Ada & Grace %d", i+1),
			Email: fmt.Sprintf("user%d@example.org", i+1),
			Since: "2026-11-23",
			Admin: i%3 == 0,
		})
	}
	return d
}

func parsePage(tb testing.TB, funcs template.FuncMap) *template.Template {
	tb.Helper()
	t, err := template.New("page").Delims("<<", ">>").Funcs(funcs).Parse(page)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// BenchmarkExecute compares a page of ten keys that its scope has read before with the same page
// where a function that gives a constant stands in their place, executed by html/template.
func BenchmarkExecute(b *testing.B) {
	data := newPageData()
	plain := parsePage(b, template.FuncMap{"cacheKey": func(...any) (string, error) {
		return "hof5npxcjl/alkey:users#1/card", nil
	}})
	set, err := templatefuncs.New(parsePage(b, templatefuncs.FuncMap(nil)))
	if err != nil {
		b.Fatal(err)
	}
	ctx := storableScope(b, data.Users)
	versus.Run(b, func() {
		if err := plain.ExecuteTemplate(io.Discard, "page", data); err != nil {
			b.Fatal(err)
		}
	}, func() {
		if err := set.ExecuteContext(io.Discard, ctx, "page", data); err != nil {
			b.Fatal(err)
		}
	})
}

// storableScope returns a scope in which the users' keys are storable and have been read.
func storableScope(tb testing.TB, users []*cardUser) context.Context {
	tb.Helper()
	store := tokens.NewMemory()
	tb.Cleanup(func() { store.Close() })
	for _, u := range users {
		if _, err := tokens.Get(tb.Context(), store, u); err != nil {
			tb.Fatal(err)
		}
	}
	kit, err := request.New(request.Config{Tokens: store})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, scope := kit.Open(tb.Context())
	for _, u := range users {
		key, err := scope.Key(ctx, u, "card")
		if err != nil || !key.Storable() {
			tb.Fatalf("Key(%d) = %v, storable %v, %v", u.ID, key, key.Storable(), err)
		}
	}
	return ctx
}
