package txscopetest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope/txscopetest"
)

func TestPublished(t *testing.T) {
	f := txscopetest.NewFixture(t)
	for _, changed := range [][]any{
		{tokens.Row("users", 2), tokens.Table("notes")},
		{tokens.Row("users", 1), tokens.Row("users", 2)},
		{tokens.Global},
	} {
		if _, err := tokens.Bump(t.Context(), f.Store, changed...); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := f.Backend.Published(), []string{"*#!", "notes#!", "users#1", "users#2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := f.Backend.Published(); len(got) != 0 {
		t.Errorf("told again: %q", got)
	}
}

func TestLog(t *testing.T) {
	var log txscopetest.Log
	log.Logger().Warn("careful")
	if got := log.String(); !strings.Contains(got, "level=WARN msg=careful") {
		t.Errorf("logged: %q", got)
	}
	log.Reset()
	if got := log.String(); got != "" {
		t.Errorf("logged: %q", got)
	}
}
