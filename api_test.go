package alkey_test

import (
	"bytes"
	"flag"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/api.txt anew")

// TestAPI compares what the package exports with testdata/api.txt: a change of it is a change for
// every user. After one that is meant, run go test -run TestAPI -update .
func TestAPI(t *testing.T) {
	const golden = "testdata/api.txt"
	got := exported(t)
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the package exports\n%s\nand %s has\n%s", got, golden, want)
	}
}

// exported lists the declarations that users of the root package see, without bodies and comments.
func exported(t *testing.T) string {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	p, err := doc.NewFromFiles(set, files, "github.com/alkey-go/alkey")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	show := func(n ast.Node) {
		if err := printer.Fprint(&b, set, n); err != nil {
			t.Fatal(err)
		}
		b.WriteByte('\n')
	}
	function := func(f *doc.Func) {
		f.Decl.Body, f.Decl.Doc = nil, nil
		show(f.Decl)
	}
	for _, v := range append(p.Consts, p.Vars...) {
		v.Decl.Doc = nil
		show(v.Decl)
	}
	for _, f := range p.Funcs {
		function(f)
	}
	for _, typ := range p.Types {
		typ.Decl.Doc = nil
		show(typ.Decl)
		for _, f := range append(typ.Funcs, typ.Methods...) {
			function(f)
		}
	}
	return b.String()
}
