package templatefuncs_test

import (
	"context"
	"fmt"
	"html/template"
	"os"

	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/templatefuncs"
	"github.com/alkey-go/alkey/tokens"
)

type Author struct {
	ID   int
	Name string
}

func (Author) TableName() string { return "authors" }

// A list of authors, in which each is a fragment. It is made again when its author has changed, and only
// then.
func Example_fragments() {
	store := tokens.NewMemory()
	defer store.Close()
	kit, err := request.New(request.Config{Tokens: store})
	if err != nil {
		panic(err)
	}

	// Once, when the program starts:
	made := 0
	t := template.Must(template.New("page").Delims("<<", ">>").
		Funcs(templatefuncs.FuncMap(nil)).
		Funcs(template.FuncMap{"count": func() string { made++; return "" }}).
		Parse(`<<define "author">><li><<.Name>><<count>></li><<end>><ul><<fragments "author" .>></ul>
`))
	set, err := templatefuncs.New(t)
	if err != nil {
		panic(err)
	}

	// For every request:
	authors := []*Author{{ID: 1, Name: "Ann & Bob"}, {ID: 2, Name: "Cy"}}
	show := func() {
		ctx, _ := kit.Open(context.Background())
		if err := set.ExecuteContext(os.Stdout, ctx, "page", authors); err != nil {
			panic(err)
		}
	}
	ctx, scope := kit.Open(context.Background())
	// It makes the tokens of rows that nobody has asked for yet.
	if err := scope.Prefetch(ctx, authors); err != nil {
		panic(err)
	}
	show()
	show()
	fmt.Println("made:", made)

	// A commit to a database that was opened with alkey.Open does this by itself.
	authors[1].Name = "Cyrus"
	if _, err := tokens.Bump(ctx, store, authors[1]); err != nil {
		panic(err)
	}
	show()
	fmt.Println("made:", made)
	// Output:
	// <ul><li>Ann &amp; Bob</li><li>Cy</li></ul>
	// <ul><li>Ann &amp; Bob</li><li>Cy</li></ul>
	// made: 2
	// <ul><li>Ann &amp; Bob</li><li>Cyrus</li></ul>
	// made: 3
}

type languageKey struct{}

// A function that answers for the request: each language has fragments of its own where words are
// translated, and shares the others.
func ExamplePerRequest() {
	store := tokens.NewMemory()
	defer store.Close()
	kit, err := request.New(request.Config{Tokens: store})
	if err != nil {
		panic(err)
	}
	words := map[string]string{"en": "written by", "de": "geschrieben von"}
	language := func(ctx context.Context) string { return ctx.Value(languageKey{}).(string) }

	funcs := template.FuncMap{
		"by": func(ctx context.Context) string { return words[language(ctx)] },
	}
	t := template.Must(template.New("page").Delims("<<", ">>").
		Funcs(templatefuncs.FuncMap(nil)).Funcs(funcs).
		Parse(`<p><<fragment "by" .>></p>
<<- define "by">><<by>> <<fragment "name" .>><<end>>
<<- define "name">><b><<.Name>></b><<end>>
`))
	set, err := templatefuncs.New(t, templatefuncs.PerRequest(funcs, func(ctx context.Context) []any {
		return []any{language(ctx)}
	}))
	if err != nil {
		panic(err)
	}

	for _, l := range []string{"en", "de", "en"} {
		ctx, _ := kit.Open(context.WithValue(context.Background(), languageKey{}, l))
		if err := set.ExecuteContext(os.Stdout, ctx, "page", Author{ID: 1, Name: "Ann"}); err != nil {
			panic(err)
		}
	}
	// Output:
	// <p>written by <b>Ann</b></p>
	// <p>geschrieben von <b>Ann</b></p>
	// <p>written by <b>Ann</b></p>
}
