package alkey_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/alkey-go/alkey"

type rule struct {
	pattern string
	allowed []string
}

// mayImport says which packages of the module a package may import. The first pattern that fits
// counts; "x/..." is x and all beneath it.
var mayImport = []rule{
	{".", []string{"middleware", "request", "txscope", "tokens"}},
	{"middleware", []string{"request", "txscope"}},
	{"templatefuncs", []string{"request", "cache"}},
	{"request", []string{"tokens", "txscope", "cache"}},
	{"txscope", []string{"tokens"}},
	{"txscope/txscopetest", []string{"txscope", "tokens"}},
	{"txscope/internal/...", []string{"txscope/internal/...", "tokens"}},
	{"txscope/...", []string{"txscope", "tokens", "txscope/internal/..."}},
	{"tokens", nil},
	{"tokens/tokenstest", []string{"tokens"}},
	{"cache", nil},
	{"cache/cachetest", []string{"cache"}},
	// Helpers of tests.
	{"internal/...", []string{"internal/..."}},
	{"example/...", []string{"..."}},
}

// TestImportsGoOneWay checks the imports of every package, whatever it is built for, against the
// arrows above. Tests may import anything.
func TestImportsGoOneWay(t *testing.T) {
	packages := 0
	for dir, imports := range moduleImports(t) {
		packages++
		at := slices.IndexFunc(mayImport, func(r rule) bool { return fits(dir, r.pattern) })
		if at < 0 {
			t.Errorf("package %s has no place among the others: say in mayImport what it may import", dir)
			continue
		}
		for _, imported := range imports {
			if !slices.ContainsFunc(mayImport[at].allowed, func(p string) bool { return fits(imported, p) }) {
				t.Errorf("package %s imports %s, and may import %q only", dir, imported, mayImport[at].allowed)
			}
		}
	}
	if packages < 5 {
		t.Errorf("only %d packages were found", packages)
	}
}

func fits(dir, pattern string) bool {
	above, tree := strings.CutSuffix(pattern, "...")
	if !tree {
		return dir == pattern
	}
	above = strings.TrimSuffix(above, "/")
	return above == "" || dir == above || strings.HasPrefix(dir, above+"/")
}

// moduleImports lists by folder what the packages of the module import of each other.
func moduleImports(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	set := token.NewFileSet()
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != "." && (name == "testdata" || name == "vendor" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(file, "go.mod")); err == nil && file != "." {
				return fs.SkipDir // another module
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(set, file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir := path.Dir(filepath.ToSlash(file))
		if _, known := found[dir]; !known {
			found[dir] = nil // a package that imports none of ours needs a rule too
		}
		for _, spec := range f.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if p == module {
				found[dir] = append(found[dir], ".")
			} else if rest, ok := strings.CutPrefix(p, module+"/"); ok {
				found[dir] = append(found[dir], rest)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
