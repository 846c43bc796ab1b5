package testserver

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func sample(t *testing.T, args ...string) template {
	t.Helper()
	shell, err := exec.LookPath("sh")
	if err != nil {
		Missing(t, "sh")
	}
	return template{program: shell, args: args, fill: func(dir string) (*exec.Cmd, error) {
		return exec.Command(shell, "-c", "cd '"+dir+"' && mkdir a && echo text >a/b && echo x >>"+filepath.Join(os.TempDir(), "fills")), nil
	}}
}

// dirs gives the test a cache and a place for temporary folders of its own.
func dirs(t *testing.T) (cache, temp string) {
	t.Helper()
	cache, temp = t.TempDir(), t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("HOME", cache)
	t.Setenv("TMPDIR", temp)
	return cache, temp
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func fills(t *testing.T, temp string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(temp, "fills"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), "x")
}

// However many ask at the same time, each gets a whole copy, and one template is kept.
func TestTemplateIsMadeOnce(t *testing.T) {
	_, temp := dirs(t)
	to := t.TempDir()
	var asking sync.WaitGroup
	for i := range 8 {
		asking.Go(func() {
			dir := filepath.Join(to, fmt.Sprint(i))
			if err := sample(t).copyTo(dir); err != nil {
				t.Error(err)
				return
			}
			if text, err := os.ReadFile(filepath.Join(dir, "a", "b")); err != nil || string(text) != "text\n" {
				t.Errorf("copied %q, %v", text, err)
			}
		})
	}
	asking.Wait()
	before := fills(t, temp)
	if err := sample(t).copyTo(filepath.Join(to, "later")); err != nil {
		t.Fatal(err)
	}
	if after := fills(t, temp); after != before {
		t.Errorf("made anew: %d times, then %d", before, after)
	}
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if found := names(t, cache); len(found) != 1 {
		t.Errorf("the cache holds %q", found)
	}
	if found := names(t, temp); len(found) != 1 {
		t.Errorf("left behind: %q", found)
	}

	if err := sample(t, "another").copyTo(filepath.Join(to, "another")); err != nil {
		t.Fatal(err)
	}
	if found := names(t, cache); len(found) != 2 {
		t.Errorf("with other arguments the cache holds %q", found)
	}
}

func TestTemplateThatCannotBeMade(t *testing.T) {
	_, temp := dirs(t)
	tpl := sample(t)
	tpl.fill = func(string) (*exec.Cmd, error) { return exec.Command(tpl.program, "-c", "echo why; exit 3"), nil }
	err := tpl.copyTo(filepath.Join(t.TempDir(), "copy"))
	if err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("the error is %v", err)
	}
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if found := append(names(t, cache), names(t, temp)...); len(found) != 0 {
		t.Errorf("left behind: %q", found)
	}
}

// What others could have put there is not taken.
func TestCacheIsPrivate(t *testing.T) {
	cache, temp := dirs(t)
	name := fmt.Sprintf("alkey-testserver-%d", os.Geteuid())
	plant := func(dir string) {
		planted := filepath.Join(dir, name)
		if err := os.Mkdir(planted, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(planted, 0o770); err != nil {
			t.Fatal(err)
		}
	}
	plant(cache)
	if got, err := cacheDir(); err != nil || got != filepath.Join(temp, name) {
		t.Errorf("the cache is in %q, %v", got, err)
	}
	if err := os.Remove(filepath.Join(temp, name)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), filepath.Join(temp, name)); err != nil {
		t.Fatal(err)
	}
	if got, err := cacheDir(); err == nil {
		t.Errorf("the cache is in %q behind a link", got)
	}
}

// A link in a folder to copy could lead anywhere.
func TestCopyTreeTakesFilesOnly(t *testing.T) {
	from := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(from, "link")); err != nil {
		t.Fatal(err)
	}
	if err := copyTree(from, filepath.Join(t.TempDir(), "to"), account{}); err == nil {
		t.Error("a link was copied")
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("PGOPTIONS", "-c work_mem=1MB")
	t.Setenv("MYSQL_HOME", "/")
	t.Setenv("LC_MESSAGES", "de_DE.UTF-8")
	t.Setenv("ALKEY_TEST", "kept")
	env := strings.Join(environment(), "\n")
	for name, kept := range map[string]bool{"PGOPTIONS=": false, "MYSQL_HOME=": false, "LC_MESSAGES=": false, "ALKEY_TEST=kept": true, "LC_ALL=C": true, "TZ=UTC": true} {
		if strings.Contains(env, name) != kept {
			t.Errorf("%s: want %t in\n%s", name, kept, env)
		}
	}
}

func TestPrograms(t *testing.T) {
	place := func(dir string, programs ...string) string {
		t.Helper()
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, program := range programs {
			if err := os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\n"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	versions := t.TempDir()
	place(filepath.Join(versions, "9", "bin"), "postgres", "initdb")
	place(filepath.Join(versions, "10", "bin"), "postgres", "initdb")
	place(filepath.Join(versions, "11", "bin"), "initdb")
	onPath, half := place(t.TempDir(), "postgres", "initdb", "mariadbd"), place(t.TempDir(), "postgres")

	for name, test := range map[string]struct {
		path     []string
		versions string
		want     string
	}{
		"the newest that is whole": {[]string{half}, versions, filepath.Join(versions, "10", "bin", "postgres")},
		"the path first":           {[]string{half, onPath}, versions, filepath.Join(onPath, "postgres")},
		"none":                     {[]string{half}, half, ""},
	} {
		if got, ok := postgresProgram(test.path, test.versions); got != test.want || ok != (test.want != "") {
			t.Errorf("%s: %q, %t", name, got, ok)
		}
	}
	if got, ok := mariadbProgram([]string{half}, onPath); !ok || got != filepath.Join(onPath, "mariadbd") {
		t.Errorf("mariadbd is %q, %t", got, ok)
	}
	if got, ok := mariadbProgram([]string{half}); ok {
		t.Errorf("mariadbd is %q", got)
	}
}
