package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/alkey-go/alkey/internal/testserver"
)

// The program starts with nothing set up, says where it listens, answers, and on SIGTERM ends in
// order and leaves nothing behind.
func TestProgram(t *testing.T) {
	file, temp := build(t), t.TempDir()
	p := start(t, file, "TMPDIR="+temp)
	if key := p.page(t, "Ada Lovelace"); !strings.HasSuffix(key, "/alkey:users#1/page") {
		t.Errorf("the key is %q", key)
	}
	log := p.end(t)
	if !strings.Contains(log, "REDIS_URL is not set") {
		t.Errorf("it does not say that it serves alone:\n%s", log)
	}
	left, err := os.ReadDir(temp)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Two programs with one DATABASE_URL and one REDIS_URL have the same keys.
func TestProgramsOverRedis(t *testing.T) {
	server := testserver.Redis(t)
	file := build(t)
	variables := []string{"DATABASE_URL=" + filepath.Join(t.TempDir(), "app.db"), "REDIS_URL=" + server.URL()}
	a, b := start(t, file, variables...), start(t, file, variables...)
	b.page(t, "Ada Lovelace") // hears of the token
	before := b.page(t, "Ada Lovelace")
	if key := a.page(t, "Ada Lovelace"); key != before || !regexp.MustCompile(`^[0-9a-z]+/alkey:users#1/page$`).MatchString(key) {
		t.Errorf("the programs have the keys %q and %q", key, before)
	}
	res, err := http.PostForm(a.url+"/users/1", url.Values{"name": {"Ada King"}})
	if err != nil || res.StatusCode != http.StatusOK { // of the page that it redirects to
		t.Fatalf("%v, %v", res, err)
	}
	res.Body.Close()
	b.page(t, "Ada King") // hears of the new one
	after := b.page(t, "Ada King")
	changed(t, "the other program's page", before, after)
	if key := a.page(t, "Ada King"); key != after {
		t.Errorf("after the edit the programs have the keys %q and %q", key, after)
	}
	for _, p := range []*program{a, b} {
		if log := p.end(t); strings.Contains(log, "WARN") || strings.Contains(log, "ERROR") {
			t.Errorf("the log:\n%s", log)
		}
	}
}

// build makes the program and returns its file.
func build(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the program")
	}
	file := filepath.Join(t.TempDir(), "app")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", file, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return file
}

// program is one that runs.
type program struct {
	url   string
	cmd   *exec.Cmd
	lines *bufio.Scanner
	log   strings.Builder
}

// start runs the program with the variables for its environment, and waits until it listens.
func start(t *testing.T, file string, variables ...string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	p := &program{cmd: exec.CommandContext(ctx, file)}
	p.cmd.Env = append([]string{"PORT=0"}, variables...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`http://localhost:\d+`)
	p.lines = bufio.NewScanner(stderr)
	for p.url == "" && p.lines.Scan() {
		p.log.WriteString(p.lines.Text() + "\n")
		p.url = address.FindString(p.lines.Text())
	}
	if p.url == "" {
		t.Fatalf("no address in the log (%v):\n%s", p.cmd.Wait(), p.log.String())
	}
	return p
}

// page asks for the page of user 1, which must have that text, and returns its key.
func (p *program) page(t *testing.T, text string) string {
	t.Helper()
	res, err := http.Get(p.url + "/users/1")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	key := pageKey.FindSubmatch(body)
	if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(body), text) || key == nil {
		t.Fatalf("status %d, %v\n%s", res.StatusCode, err, body)
	}
	return string(key[1])
}

// end tells the program to end, which it must do in order, and returns its log.
func (p *program) end(t *testing.T) string {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for p.lines.Scan() {
		p.log.WriteString(p.lines.Text() + "\n")
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, p.log.String())
	}
	return p.log.String()
}

// When it is told to end, serve still answers the request that it has begun.
func TestServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	begun, finish := make(chan struct{}), make(chan struct{})
	served := make(chan error, 1)
	go func() {
		served <- serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(begun)
			<-finish
			io.WriteString(w, "done")
		}))
	}()
	answered := make(chan string, 1)
	go func() {
		res, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			answered <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		answered <- string(body)
	}()
	<-begun
	cancel()
	// It takes no more connections once it is ending.
	for {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			break
		}
		c.Close()
		runtime.Gosched()
	}
	select {
	case err := <-served:
		t.Errorf("it did not wait for the request: %v", err)
	default:
	}
	close(finish)
	if got := <-answered; got != "done" {
		t.Errorf("answer %q", got)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}

	// A listener that fails is an error, not an end in order.
	l, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := serve(t.Context(), l, http.NotFoundHandler()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("error %v", err)
	}
}

func TestRunErrors(t *testing.T) {
	for name, test := range map[string]struct{ variable, value, want string }{
		"database": {"DATABASE_URL", "postgres://me:secret@host/db", "DATABASE_URL"},
		"file":     {"DATABASE_URL", filepath.Join(t.TempDir(), "none", "app.db"), "database"},
		"redis":    {"REDIS_URL", "http://me:secret@host", "REDIS_URL"},
		"port":     {"PORT", "99999", "PORT"},
	} {
		t.Run(name, func(t *testing.T) {
			temp := t.TempDir()
			for name, value := range map[string]string{"TMPDIR": temp, "PORT": "0", "REDIS_URL": "", "REDIS_DB": "", "REDIS_MAX_CONNECTIONS": "", "DATABASE_URL": ""} {
				t.Setenv(name, value)
			}
			t.Setenv(test.variable, test.value)
			err := run(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v", err)
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestDatabase(t *testing.T) {
	dir := t.TempDir()
	// A name that means something in an URL.
	odd := filepath.Join(dir, "a b%20?c#d.db")
	for _, test := range []struct {
		value string
		file  string
	}{
		{filepath.Join(dir, "plain.db"), filepath.Join(dir, "plain.db")},
		{odd, odd},
		{"sqlite:" + filepath.Join(dir, "one.db"), filepath.Join(dir, "one.db")},
		{"sqlite://" + filepath.Join(dir, "three.db"), filepath.Join(dir, "three.db")},
		{"FILE:" + filepath.Join(dir, "file%20uri.db") + "?_cache_size=100", filepath.Join(dir, "file uri.db")},
	} {
		t.Run(test.value, func(t *testing.T) {
			dsn, remove, err := database(test.value)
			if err != nil {
				t.Fatal(err)
			}
			db, err := sqlx.Open("sqlite", dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			s := store{db}
			for range 2 { // the second finds the tables, and makes no users again
				if err := s.migrate(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := s.deleteUser(t.Context(), 1); err != nil && err != errNotFound {
					t.Fatal(err)
				}
			}
			users, err := s.users(t.Context())
			if err != nil || len(users) != 2 {
				t.Errorf("%v, %v", users, err)
			}
			for pragma, want := range map[string]string{"journal_mode": "wal", "foreign_keys": "1", "busy_timeout": "5000", "synchronous": "1"} {
				var got string
				if err := db.Get(&got, "PRAGMA "+pragma); err != nil || got != want {
					t.Errorf("%s = %s, %v", pragma, got, err)
				}
			}
			if _, err := os.Stat(test.file); err != nil {
				t.Error(err)
			}
			if err := remove(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(test.file); err != nil {
				t.Errorf("a file that was named is gone: %v", err)
			}
		})
	}

	for value, want := range map[string]string{
		"postgres://me:secret@host/db":    `"postgres"`,
		"mysql:secret":                    `"mysql"`,
		"sqlite::memory:":                 "names no file",
		":memory:":                        "names no file",
		"sqlite:":                         "names no file",
		"file:%zz":                        "DATABASE_URL",
		"file:x?mode=memory":              "in memory",
		"file:x?cache=shared&mode=memory": "in memory",
		"sqlite:x?mode=%6demory":          "in memory",
		"file:/x?vfs=memdb":               "in memory",
		"file:x?mode=%zz":                 "DATABASE_URL",
	} {
		_, _, err := database(value)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "DATABASE_URL") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error %v", value, err)
		}
	}
}

func TestCents(t *testing.T) {
	for text, want := range map[string]int64{"12.50": 1250, "12,5": 1250, "12": 1200, "0.01": 1, "007": 700, "999999.99": 99999999} {
		if got, ok := parseCents(text); !ok || got != want {
			t.Errorf("%q: %d, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "0", "0.00", ".5", "1.", "1.234", "1.2.3", "-1", "+1", "1e3", "1 000", "0x10", "1_0", "1000000", "½"} {
		if got, ok := parseCents(text); ok {
			t.Errorf("%q: %d", text, got)
		}
	}
	if got := money(123405); got != "€ 1234.05" {
		t.Error(got)
	}
}
