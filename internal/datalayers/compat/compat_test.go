// Package compat runs the suites of others over bare drivers and over the same drivers captured by
// txscope.Wrap, and compares: what passes bare must pass wrapped. `make compat` runs it.
package compat

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	"github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"

	"github.com/alkey-go/alkey/internal/datalayers/compat/drivers"
	"github.com/alkey-go/alkey/internal/testserver"
)

// explained are the tests that do not end alike, as suite/database/test, each with the reason.
var explained = map[string]string{}

// suite is the test suite of another project.
type suite struct {
	name   string
	source func(t *testing.T) string // the folder with the package
	omit   []string                  // files that have to do with no database and cannot be built elsewhere
	patch  []replacement
	extra  string // a file of testdata that goes with it
	env    func(kind, dsn string) []string
}

type replacement struct {
	pattern *regexp.Regexp
	with    string
}

func replace(pattern, with string) replacement {
	return replacement{regexp.MustCompile(pattern), with}
}

//go:embed testdata
var testdata embed.FS

// The kinds of databases.
const (
	sqlite   = "sqlite"
	postgres = "postgres"
	mariaDB  = "mysql"
)

var suites = []suite{
	{
		name:   "sqlx",
		source: func(t *testing.T) string { return moduleDir(t, "github.com/jmoiron/sqlx") },
		patch: []replacement{
			// As a package of its own: the drivers import sqlx.
			replace(`"github.com/jmoiron/sqlx`, `"`+suiteModule),
			replace(`(?m)^\t_ "github.com/(lib/pq|mattn/go-sqlite3|go-sql-driver/mysql)"$`, ``),
			replace(`= Connect\("(postgres|mysql|sqlite3)",`, `= connectCompat("$1",`),
		},
		extra: "sqlx_compat_test.go",
		env: func(kind, dsn string) []string {
			dsns := map[string]string{sqlite: "skip", postgres: "skip", mariaDB: "skip"}
			dsns[kind] = dsn
			return []string{"SQLX_SQLITE_DSN=" + dsns[sqlite], "SQLX_POSTGRES_DSN=" + dsns[postgres], "SQLX_MYSQL_DSN=" + dsns[mariaDB]}
		},
	},
	{
		name:   "GORM",
		source: gormTests,
		omit:   []string{"lru_test.go"}, // of an internal package
		patch: []replacement{
			replace(`gorm\.Open\(`, `openCompat(`),
			replace(`sql\.Open\("mysql"`, `sql.Open("compat-mysql"`),
			replace(`(?m)^\tpostgresDSN( *)=.*$`, `	postgresDSN$1= os.Getenv("GORM_DSN")`),
			// Servers that nobody starts here; what is called of their dialectors, PostgreSQL's has.
			replace(`(?m)^\t"gorm\.io/driver/(gaussdb|sqlserver)"$`, `	$1 "gorm.io/driver/postgres"`),
		},
		extra: "gorm_compat_test.go",
		env: func(kind, dsn string) []string {
			return []string{"GORM_DIALECT=" + kind, "GORM_DSN=" + dsn, "DEBUG=false"}
		},
	},
}

// suiteModule is what the module of a copied suite is called: internal packages can be imported there.
const suiteModule = "github.com/alkey-go/alkey/internal/datalayers/compat/suite"

// moduleDir is where a module of the build lies.
func moduleDir(t *testing.T, path string) string {
	t.Helper()
	return strings.TrimSpace(string(output(t, exec.Command("go", "list", "-m", "-f", "{{.Dir}}", path))))
}

// gormTests finds GORM's suite, which is no part of its module: in the checkout that GORM_CHECKOUT
// names, else in a clone.
func gormTests(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("GORM_CHECKOUT"); dir != "" {
		return filepath.Join(dir, "tests")
	}
	version := strings.TrimSpace(string(output(t, exec.Command("go", "list", "-m", "-f", "{{.Version}}", "gorm.io/gorm"))))
	dir := filepath.Join(t.TempDir(), "gorm")
	clone := exec.Command("git", "clone", "--quiet", "--depth", "1", "--branch", version, "https://github.com/go-gorm/gorm", dir)
	if out, err := clone.CombinedOutput(); err != nil {
		t.Fatalf("GORM's suite cannot be cloned: %v\n%s\nName a checkout of %s in GORM_CHECKOUT.", err, out, version)
	}
	return filepath.Join(dir, "tests")
}

// The servers that all runs share.
var (
	postgresServer = testserver.Share(testserver.Postgres)
	mariaDBServer  = testserver.Share(testserver.MariaDB)
)

// TestMain runs the comparison, which takes some minutes, for `make compat` only.
func TestMain(m *testing.M) {
	if os.Getenv("ALKEY_COMPAT") == "" {
		fmt.Println("`make compat` runs what is tested here")
		return
	}
	goleak.VerifyTestMain(testserver.StopAfter(m, postgresServer, mariaDBServer))
}

// databases make an empty database each time.
var databases = []struct {
	name string
	kind string
	only string // the suite that it is for; "": all
	dsn  func(t *testing.T) string
}{
	{"SQLite", sqlite, "", func(t *testing.T) string { return filepath.Join(t.TempDir(), "test.db") }},
	// With pgx's defaults. The suites drop tables and make others of the same name, and what is kept
	// prepared on them fails, bare or wrapped; GORM's suite ends over that.
	{"PostgreSQL", postgres, "", onPostgres("")},
	{"PostgreSQL, nothing kept prepared", postgres, "GORM", onPostgres("&default_query_exec_mode=describe_exec")},
	// As GORM's suite wants it.
	{"PostgreSQL, simple protocol", postgres, "GORM", onPostgres("&default_query_exec_mode=simple_protocol")},
	{"MariaDB", mariaDB, "", func(t *testing.T) string {
		config, err := mysql.ParseDSN(mariaDBServer.Get(t).Database(t))
		must(t, err)
		config.ParseTime = true
		return strings.Replace(config.FormatDSN(), "parseTime=true", "parseTime=true&loc=Local", 1)
	}},
}

func onPostgres(settings string) func(*testing.T) string {
	return func(t *testing.T) string { return postgresServer.Get(t).Database(t) + settings }
}

// TestCompat is the whole comparison.
func TestCompat(t *testing.T) {
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "suite\tdatabase\tpasses bare\tpasses wrapped\tskipped\tfails either way")
	var notes []string
	for _, s := range suites {
		t.Run(s.name, func(t *testing.T) {
			binary := s.build(t)
			all := make(map[string]results)
			for _, d := range databases {
				if d.only != "" && d.only != s.name {
					continue
				}
				t.Run(d.name, func(t *testing.T) {
					run := func(tests string) (bare, wrapped results) {
						return s.run(t, binary, d.kind, d.dsn, tests)
					}
					bare, wrapped := run(".")
					if unsteady := again(bare, wrapped, run); len(unsteady) > 0 {
						notes = append(notes, fmt.Sprintf("%s/%s, did not end alike the first time: %s", s.name, d.name, strings.Join(unsteady, ", ")))
					}
					all[d.name] = bare
					failing := alike(bare, wrapped, "fail")
					for _, name := range failing {
						notes = append(notes, fmt.Sprintf("%s/%s/%s, fails either way: %s", s.name, d.name, name, bare.why(name)))
					}
					fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\n", s.name, d.name, bare.count("pass"), wrapped.count("pass"), bare.count("skip"), len(failing))
					s.compare(t, d.name, bare, wrapped)
				})
			}
			for name, missing := range unmet(all) {
				notes = append(notes, fmt.Sprintf("%s/%s: %d tests do not run either way, because the suite panics or exits before them", s.name, name, missing))
			}
		})
	}
	must(t, w.Flush())
	fmt.Printf("\n%s\n", &table)
	for _, note := range notes {
		fmt.Println(note)
	}
	for _, name := range slices.Sorted(maps.Keys(explained)) {
		fmt.Printf("%s: %s\n", name, explained[name])
	}
}

// compare fails for tests that do not end alike and are not explained, and for an explanation that
// explains nothing any more.
func (s *suite) compare(t *testing.T, database string, bare, wrapped results) {
	t.Helper()
	for driver, r := range map[string]results{"bare": bare, "wrapped": wrapped} {
		if r.count("pass") == 0 {
			t.Fatalf("nothing passes over the %s driver:\n%s", driver, r.output[""])
		}
	}
	names := maps.Clone(bare.ended)
	maps.Copy(names, wrapped.ended)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		key := s.name + "/" + database + "/" + name
		_, known := explained[key]
		switch alike := bare.ended[name] == wrapped.ended[name]; {
		case alike && known:
			t.Errorf("%s: both end in %q; what was explained is no more", key, bare.ended[name])
		case !alike && !known:
			t.Errorf("%s: %q over the bare driver, %q over the wrapped one\n--- bare:\n%s--- wrapped:\n%s", key, bare.ended[name], wrapped.ended[name], bare.output[name], wrapped.output[name])
		}
	}
}

// again runs tests that have not ended alike up to five times more, over both drivers: some depend
// on the clock. One that has passed over a driver once passes over it.
func again(bare, wrapped results, run func(tests string) (bare, wrapped results)) (names []string) {
	for range 5 {
		differ := make(map[string]bool)
		for _, r := range []results{bare, wrapped} {
			for name, ended := range r.ended {
				if bare.ended[name] != wrapped.ended[name] && ended != "skip" {
					top, _, _ := strings.Cut(name, "/")
					differ[top] = true
				}
			}
		}
		if len(differ) == 0 || len(differ) > 20 {
			break
		}
		tests := slices.Sorted(maps.Keys(differ))
		if names == nil {
			names = tests
		}
		b, w := run("^(" + strings.Join(tests, "|") + ")$")
		bare.merge(b)
		wrapped.merge(w)
	}
	return names
}

// unmet counts the tests that have run on another database and not on this one.
func unmet(all map[string]results) map[string]int {
	known := make(map[string]bool)
	for _, r := range all {
		for name := range r.ended {
			known[name] = !strings.Contains(name, "/")
		}
	}
	missing := make(map[string]int)
	for database, r := range all {
		for name, whole := range known {
			if whole && r.ended[name] == "" {
				missing[database]++
			}
		}
	}
	return missing
}

// build copies the suite to a temporary module and compiles it.
func (s *suite) build(t *testing.T) (binary string) {
	t.Helper()
	source, dir := s.source(t), t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS(source)))
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, r := range s.patch {
			text = r.pattern.ReplaceAll(text, []byte(r.with))
		}
		// What comes from the module cache is read-only.
		if err := os.Remove(path); err != nil || slices.Contains(s.omit, d.Name()) {
			return err
		}
		return os.WriteFile(path, text, 0o600)
	})
	must(t, err)
	extra, err := testdata.ReadFile("testdata/" + s.extra + ".txt")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, s.extra), extra, 0o600))
	writeModule(t, dir)

	binary = filepath.Join(dir, "suite.test")
	compile := exec.Command("go", "test", "-c", "-race", "-mod=mod", "-o", binary, ".")
	compile.Dir = dir
	output(t, compile)
	return binary
}

// writeModule makes dir a module with the versions of this one.
func writeModule(t *testing.T, dir string) {
	t.Helper()
	here, err := filepath.Abs("..")
	must(t, err)
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(here, name))
		must(t, err)
		_ = os.Remove(filepath.Join(dir, name)) // the suite's own, if any
		must(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	edit := exec.Command("go", "mod", "edit",
		"-module="+suiteModule,
		"-replace=github.com/alkey-go/alkey="+filepath.Join(here, "..", ".."),
		"-require=github.com/alkey-go/alkey/internal/datalayers@v0.0.0-00010101000000-000000000000",
		"-replace=github.com/alkey-go/alkey/internal/datalayers="+here,
		"-replace=github.com/mattn/go-sqlite3="+filepath.Join(here, "nosqlite3"))
	edit.Dir = dir
	output(t, edit)
}

// results are how tests ended.
type results struct {
	ended  map[string]string // "pass", "fail" or "skip"
	output map[string]string // "" is what no test has printed
}

func newResults() results { return results{make(map[string]string), make(map[string]string)} }

// note takes in a line of test2json.
func (r results) note(line []byte) {
	var event struct{ Action, Test, Output string }
	if err := json.Unmarshal(line, &event); err != nil {
		r.output[""] += string(line)
		return
	}
	switch event.Action {
	case "output":
		r.output[event.Test] += event.Output
	case "pass", "fail", "skip":
		if event.Test != "" {
			r.ended[event.Test] = event.Action
		}
	}
}

func (r results) count(how string) int {
	n := 0
	for _, ended := range r.ended {
		if ended == how {
			n++
		}
	}
	return n
}

// where is how tests begin a line.
var where = regexp.MustCompile(`\S+\.go:\d+: `)

// why is the first that a test has said.
func (r results) why(test string) string {
	for line := range strings.Lines(r.output[test]) {
		if where.MatchString(line) {
			return strings.TrimSpace(where.ReplaceAllString(line, ""))
		}
	}
	return "see its parts"
}

// merge takes over what passes in another run.
func (r results) merge(other results) {
	for name, ended := range other.ended {
		if ended == "pass" || r.ended[name] == "" {
			r.ended[name], r.output[name] = ended, other.output[name]
		}
	}
}

// alike are the tests, without their parts, that have ended in that way in both.
func alike(a, b results, how string) (names []string) {
	for name, ended := range a.ended {
		if ended == how && b.ended[name] == how && !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// run runs the tests of the suite that the pattern fits, over both drivers at the same time: they
// wait a lot.
func (s *suite) run(t *testing.T, binary, kind string, dsn func(*testing.T) string, tests string) (bare, wrapped results) {
	t.Helper()
	bare, wrapped = newResults(), newResults()
	var running sync.WaitGroup
	for name, r := range map[string]results{"bare": bare, "wrapped": wrapped} {
		cmd := exec.Command("go", "tool", "test2json", binary, "-test.v=test2json", "-test.timeout=20m", "-test.run="+tests)
		cmd.Dir = filepath.Dir(binary)
		cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir(), drivers.Environment+"="+name)
		cmd.Env = append(cmd.Env, s.env(kind, dsn(t))...)
		running.Go(func() {
			out, _ := cmd.Output() // tests may fail; what did not run is seen by comparison
			for line := range bytes.Lines(out) {
				r.note(line)
			}
		})
	}
	running.Wait()
	return bare, wrapped
}

func output(t *testing.T, cmd *exec.Cmd) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out, &stderr)
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
