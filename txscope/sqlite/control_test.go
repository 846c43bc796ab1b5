package sqlite

import (
	"strings"
	"testing"

	"modernc.org/sqlite"

	"github.com/alkey-go/alkey/txscope"
)

func TestControl(t *testing.T) {
	type c = txscope.Control
	for query, want := range map[string]c{
		"":                                  {},
		"SELECT 1":                          {},
		"select ';commit'":                  {},
		"select 1;":                         {},
		"select 1; select 2":                {},
		"begin":                             {Kind: txscope.KindBegin},
		" \n\t/* ; */ Begin Immediate -- ;": {Kind: txscope.KindBegin},
		"\uFEFFBEGIN":                       {Kind: txscope.KindBegin},
		"BEGINNING":                         {},
		"explain commit":                    {},
		"COMMIT;;;":                         {Kind: txscope.KindCommit},
		";;commit":                          {Kind: txscope.KindCommit},
		"commit transaction x":              {Kind: txscope.KindCommit},
		"END":                               {Kind: txscope.KindCommit},
		"rollback":                          {Kind: txscope.KindRollback},
		"rollback transaction":              {Kind: txscope.KindRollback},
		"rollback transaction x;":           {Kind: txscope.KindRollback},
		"rollback to x":                     {Kind: txscope.KindRollbackTo, Name: "x"},
		"rollback/**/to/**/savepoint/**/x":  {Kind: txscope.KindRollbackTo, Name: "x"},
		"rollback transaction to x":         {Kind: txscope.KindRollbackTo, Name: "x"},
		"rollback transaction y to x":       {Kind: txscope.KindRollbackTo, Name: "x"},
		"rollback to savepoint":             {Kind: txscope.KindRollbackTo, Name: "savepoint"},
		`savepoint "a""b;"`:                 {Kind: txscope.KindSavepoint, Name: `a"b;`},
		"savepoint 'x'":                     {Kind: txscope.KindSavepoint, Name: "x"},
		"savepoint [x y]":                   {Kind: txscope.KindSavepoint, Name: "x y"},
		"savepoint `x`":                     {Kind: txscope.KindSavepoint, Name: "x"},
		"savepoint ü":                       {Kind: txscope.KindMixed},
		"release x":                         {Kind: txscope.KindRelease, Name: "x"},
		"release savepoint x;":              {Kind: txscope.KindRelease, Name: "x"},
		"release savepoint":                 {Kind: txscope.KindRelease, Name: "savepoint"},
		"begin; select 1":                   {Kind: txscope.KindMixed},
		"select 1; commit":                  {Kind: txscope.KindMixed},
		"select 'a''; x'; commit":           {Kind: txscope.KindMixed},
		"select \"a;\" -- ;\n; commit":      {Kind: txscope.KindMixed},
		"select 1 /* ; commit */; select 2": {},
		"select [;commit]; select 2":        {},
		"select 1 - -1; end":                {Kind: txscope.KindMixed},
		"select /* unended ; commit":        {},
	} {
		if got := control(query); got != want {
			t.Errorf("%q: got %v, want %v", query, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { control("SELECT a, b FROM c WHERE d = 'e'") }); n != 0 {
		t.Errorf("%v allocations for a text that does nothing", n)
	}
}

// FuzzControl compares what is read from a text with what SQLite's authorizer says: no statement
// that begins or ends a transaction or a savepoint may be missed.
func FuzzControl(f *testing.F) {
	for _, seed := range []string{
		"SELECT 1", "begin; commit", "savepoint \"a;b\"; release 'a;b'", "--x\nBEGIN", "/*", "select [a;b], `;`; rollback to x",
		"rollback transaction a to b", "create trigger t after insert on u begin select 1; end; commit", "\xef\xbb\xbfbegin", "select $a(;) ; begin",
	} {
		f.Add(seed)
	}
	var seen []string
	d := new(sqlite.Driver)
	d.RegisterConnectionHook(func(c sqlite.ExecQuerierContext, _ string) error {
		return c.(sqlite.AuthorizerRegisterer).RegisterAuthorizer(func(action sqlite.AuthorizerActionCode, arg1, arg2, _, _ string) sqlite.AuthorizerReturnCode {
			switch action {
			case sqlite.AuthTransaction:
				seen = append(seen, arg1)
			case sqlite.AuthSavepoint:
				seen = append(seen, arg1+" "+arg2)
			}
			return sqlite.AuthorizerOK
		})
	})
	conn, err := d.Open(":memory:")
	if err != nil {
		f.Fatal(err)
	}
	defer conn.Close()
	exec := conn.(sqlite.ExecQuerierContext)
	if _, err := exec.ExecContext(f.Context(), "CREATE TABLE u (a)", nil); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, query string) {
		if len(query) > 200 || strings.Contains(strings.ToLower(query), "attach") || strings.Contains(strings.ToLower(query), "recursive") {
			return
		}
		defer func() { _, _ = exec.ExecContext(t.Context(), "ROLLBACK", nil) }()
		seen = nil
		_, _ = exec.ExecContext(t.Context(), query, nil)
		got := control(query)
		if len(seen) > 0 && got.Kind == txscope.KindNone {
			t.Fatalf("SQLite has seen %q in %q", seen, query)
		}
		if got.Kind == txscope.KindMixed {
			return
		}
		for _, s := range seen {
			want := map[txscope.Kind]string{
				txscope.KindBegin:      "BEGIN",
				txscope.KindCommit:     "COMMIT",
				txscope.KindRollback:   "ROLLBACK",
				txscope.KindSavepoint:  "BEGIN " + got.Name,
				txscope.KindRelease:    "RELEASE " + got.Name,
				txscope.KindRollbackTo: "ROLLBACK " + got.Name,
			}[got.Kind]
			if s != want {
				t.Fatalf("SQLite has seen %q in %q, not %q", s, query, want)
			}
		}
	})
}
