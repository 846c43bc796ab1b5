package tokens_test

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/alkey-go/alkey/tokens"
)

type Article struct {
	ID    int64
	Title string
}

func (Article) TableName() string { return "articles" }

// Membership has a composite key.
type Membership struct {
	Org  int64  `alkey:"pk"`
	User string `alkey:"pk"`
	Role string
}

func (Membership) TableName() string { return "memberships" }

func ExampleRow() {
	fmt.Println(tokens.Row("articles", 7))
	fmt.Println(tokens.Row("Shop.Articles", "7/b"))
	fmt.Println(tokens.Row("memberships", 7, "ann"))
	fmt.Println(tokens.Row("articles"))
	// Output:
	// alkey:articles#7
	// alkey:shop.articles#7%2Fb
	// alkey:memberships#7,ann
	// alkey:articles#*
}

func ExampleParseID() {
	id, err := tokens.ParseID("alkey:Articles#%37")
	fmt.Println(id, err)
	_, err = tokens.ParseID("alkey:articles")
	fmt.Println(errors.Is(err, tokens.ErrMalformed))
	fmt.Println(err)
	// Output:
	// alkey:articles#7 <nil>
	// true
	// alkey: malformed identifier: "alkey:articles": "#" and a row are missing; "#*" stands for the whole table
}

func ExampleIdentify() {
	for _, v := range []any{
		Article{ID: 7},
		&Article{Title: "not saved yet"},
		reflect.TypeFor[Article](),
		Membership{Org: 7, User: "ann"},
		"alkey:articles#7",
		"articles",
	} {
		fmt.Println(tokens.Identify(v))
	}
	// Output:
	// alkey:articles#7 true
	// alkey:articles#* true
	// alkey:articles#* true
	// alkey:memberships#7,ann true
	// alkey:articles#7 true
	// alkey:# false
}

func ExampleText() {
	fromUser := "alkey:articles#7"
	segments, _ := tokens.AppendSegments(nil, &Article{ID: 7}, tokens.Text(fromUser))
	for _, s := range segments {
		fmt.Printf("%v %q\n", s.ID.IsZero(), s.Text)
	}
	// Output:
	// false ""
	// true "alkey%3Aarticles#7"
}

func ExampleAppendSegments() {
	type filter struct {
		Sort string
		Tags []string
	}
	segments, err := tokens.AppendSegments(nil, []Article{{ID: 7}, {ID: 8}}, "page/1", filter{"title", []string{"a", "b"}})
	for _, s := range segments {
		if s.ID.IsZero() {
			fmt.Println(s.Text)
		} else {
			fmt.Println(s.ID)
		}
	}
	fmt.Println(err)

	_, err = tokens.AppendSegments(nil, "page", map[string]any{"author": &Article{ID: 7}})
	fmt.Println(err)
	// Output:
	// %(2)
	// alkey:articles#7
	// alkey:articles#8
	// page%2F1
	// %{Sort:title,Tags:%[a,b]}
	// <nil>
	// alkey: model cannot be identified: argument 2 (map[string]interface {}): *tokens_test.Article is inside the argument, where its changes would go unnoticed; pass it, or a slice of such, as an argument of its own
}
