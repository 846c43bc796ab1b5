package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
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
	"sync"
	"syscall"
	"testing"
	"time"
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

// Two programs with one DATABASE_URL and one REDIS_URL, started at the same time, have the same keys.
func TestProgramsOverRedis(t *testing.T) {
	file := build(t)
	onURLs(t, func(t *testing.T, databaseURL string) {
		server := redisServer(t)
		variables := []string{"DATABASE_URL=" + databaseURL, "REDIS_URL=" + server.URL()}
		a, b := begin(t, file, variables...), begin(t, file, variables...)
		a.listens(t)
		b.listens(t)
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
	})
}

// executable is the program's file. The first test that needs it makes it, and TestMain removes it.
var executable struct {
	sync.Once
	dir, file string
	err       error
}

func build(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the program")
	}
	e := &executable
	e.Do(func() {
		if e.dir, e.err = os.MkdirTemp("", "alkey-example-test-"); e.err != nil {
			return
		}
		e.file = filepath.Join(e.dir, "app")
		if out, err := exec.Command("go", "build", "-o", e.file, ".").CombinedOutput(); err != nil {
			e.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if e.err != nil {
		t.Fatal(e.err)
	}
	return e.file
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
	p := begin(t, file, variables...)
	p.listens(t)
	return p
}

func begin(t *testing.T, file string, variables ...string) *program {
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
	p.lines = bufio.NewScanner(stderr)
	return p
}

func (p *program) listens(t *testing.T) {
	t.Helper()
	address := regexp.MustCompile(`http://localhost:\d+`)
	for p.url == "" && p.lines.Scan() {
		p.log.WriteString(p.lines.Text() + "\n")
		p.url = address.FindString(p.lines.Text())
	}
	if p.url == "" {
		t.Fatalf("no address in the log (%v):\n%s", p.cmd.Wait(), p.log.String())
	}
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
	for end := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			break
		}
		c.Close()
		if time.Now().After(end) {
			t.Fatal("it still takes connections")
		}
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
		"database": {"DATABASE_URL", "oracle://me:secret@host/db", "DATABASE_URL"},
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
