package alkey_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every claim of docs/reliability.md names the tests that hold it, as `package.TestName`: all of them exist, and
// no promise is without one.
func TestReliabilityClaimsHaveTests(t *testing.T) {
	text, err := os.ReadFile("docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	promised := map[string]int{"P1": 0, "P2": 0, "P3": 0, "P4": 0, "P5": 0, "P6": 0, "P7": 0}
	tests := regexp.MustCompile("`([a-z/]+)\\.(Test\\w+|Fuzz\\w+)`")
	claims := 0
	section := ""
	for i, line := range strings.Split(string(text), "\n") {
		if heading, ok := strings.CutPrefix(line, "#"); ok {
			section = heading
		}
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.Contains(section, "How each promise is tested") ||
			strings.Contains(cells[1], "---") || strings.TrimSpace(cells[1]) == "promise" {
			continue
		}
		claims++
		named := tests.FindAllStringSubmatch(line, -1)
		if len(named) == 0 {
			t.Errorf("docs/reliability.md:%d: a claim without a test: %s", i+1, line)
		}
		for _, promise := range strings.Fields(strings.ReplaceAll(cells[1], ",", " ")) {
			if _, ok := promised[promise]; !ok {
				t.Errorf("docs/reliability.md:%d: there is no promise %q", i+1, promise)
			}
			promised[promise] += len(named)
		}
	}
	for promise, n := range promised {
		if n == 0 {
			t.Errorf("no test is named for %s", promise)
		}
	}
	if claims < 20 {
		t.Errorf("only %d claims found: is the table still there?", claims)
	}
	known := map[string]map[string]int{}
	for _, named := range tests.FindAllStringSubmatch(string(text), -1) {
		dir, name := named[1], named[2]
		if known[dir] == nil {
			known[dir] = testsIn(t, dir)
		}
		if n := known[dir][name]; n != 1 {
			t.Errorf("docs/reliability.md names %s.%s, of which there are %d", dir, name, n)
		}
	}
}

// testsIn counts the tests and fuzz targets of a folder by name, "alkey" being the root's. A name can be there twice, in
// the package and in the one outside it.
func testsIn(t *testing.T, dir string) map[string]int {
	t.Helper()
	if dir == "alkey" {
		dir = "."
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %q: %v", dir, err)
	}
	names := map[string]int{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, declared := range parsed.Decls {
			if f, ok := declared.(*ast.FuncDecl); ok && f.Recv == nil {
				names[f.Name.Name]++
			}
		}
	}
	return names
}
