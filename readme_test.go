package alkey_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every block of Go in the documentation compiles: a whole program as it is, a fragment inside a
// function to which the names are given that the text around it speaks of.
func TestDocumentationCompiles(t *testing.T) {
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	overlay := map[string]string{}
	var packages []string
	temp := t.TempDir()
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```")
	for _, file := range append(files, "README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range blocks.FindAllStringSubmatch(string(text), -1) {
			name := fmt.Sprintf("%s_%d", strings.TrimSuffix(filepath.Base(file), ".md"), i+1)
			source := block[1]
			if !strings.Contains(source, "package main") {
				source = program(source)
			}
			path := filepath.Join(temp, name+".go")
			if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
				t.Fatal(err)
			}
			// The overlay puts the program inside the module without a file in the tree.
			overlay[filepath.Join(root, "internal", "documentation", name, "main.go")] = path
			packages = append(packages, "./internal/documentation/"+name)
		}
	}
	if len(packages) < 5 {
		t.Fatalf("only %d blocks of Go found", len(packages))
	}
	data, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(temp, "overlay.json")
	if err := os.WriteFile(config, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", append([]string{"build", "-overlay", config, "-o", os.DevNull}, packages...)...).CombinedOutput()
	if err != nil {
		for _, path := range overlay {
			if strings.Contains(string(out), strings.TrimSuffix(filepath.Base(path), ".go")) {
				source, _ := os.ReadFile(path)
				t.Logf("%s:\n%s", filepath.Base(path), source)
			}
		}
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%d blocks compile", len(packages))
}

// program makes a package of a fragment.
func program(fragment string) string {
	imports := map[string]string{
		"alkey.":         "github.com/alkey-go/alkey",
		"middleware.":    "github.com/alkey-go/alkey/middleware",
		"request.":       "github.com/alkey-go/alkey/request",
		"templatefuncs.": "github.com/alkey-go/alkey/templatefuncs",
		"tokens.":        "github.com/alkey-go/alkey/tokens",
		"txscope.":       "github.com/alkey-go/alkey/txscope",
		"cache.":         "github.com/alkey-go/alkey/cache",
		"chi.":           "github.com/go-chi/chi/v5",
		"redis.":         "github.com/redis/go-redis/v9",
		"template.":      "html/template",
		"http.":          "net/http",
		"time.":          "time",
		"log.":           "log",
		"fmt.":           "fmt",
		"os.":            "os",
		"errors.":        "errors",
		"sql.":           "database/sql",
		"sqlx.":          "github.com/jmoiron/sqlx",
		"pgx.":           "github.com/jackc/pgx/v5",
		"stdlib.":        "github.com/jackc/pgx/v5/stdlib",
		"mysql.":         "github.com/go-sql-driver/mysql",
		"driver.":        "database/sql/driver",
		"strconv.":       "strconv",
		"reflect.":       "reflect",
		"slog.":          "log/slog",
	}
	given := []struct{ name, of, needs string }{
		{"ctx", "context.Context", ""},
		{"r", "*http.Request", "http."},
		{"w", "http.ResponseWriter", "http."},
		{"store", "*tokens.Store", "tokens."},
		{"db", "*sqlx.DB", "sqlx."},
		{"router", "chi.Router", "chi."},
		{"client", "*redis.Client", "redis."},
		{"secret", "[]byte", ""},
		{"user", "User", ""},
		{"users", "[]User", ""},
		{"connector", "driver.Connector", "driver."},
		{"dsn", "string", ""},
		{"translate", "func(context.Context, string) string", ""},
		{"language", "func(context.Context) string", ""},
	}
	var parameters, types []string
	text := fragment
	for _, g := range given {
		if regexp.MustCompile(`\b` + g.name + `\b`).MatchString(fragment) {
			parameters = append(parameters, g.name+" "+g.of)
			text += " " + g.needs
		}
	}
	if !strings.Contains(fragment, "type User ") {
		types = append(types, "type User struct{ ID int64; Name string }", `func (User) TableName() string { return "users" }`)
	}
	var b strings.Builder
	b.WriteString("package fragment\n\nimport (\n\t\"context\"\n")
	for use, path := range imports {
		if regexp.MustCompile(`(^|[^\w.])` + regexp.QuoteMeta(use)).MatchString(text) {
			fmt.Fprintf(&b, "\t%q\n", path)
		}
	}
	b.WriteString(")\n\nvar _ context.Context\n\n" + strings.Join(types, "\n") + "\n\n")
	// What is declared at the top level stays there.
	if regexp.MustCompile(`(?m)^(func|type|var) `).MatchString(fragment) {
		return b.String() + fragment
	}
	fmt.Fprintf(&b, "func fragment(%s) error {\n%s\nreturn nil\n}\n", strings.Join(parameters, ", "), fragment)
	return b.String()
}
