package testserver

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// template is a server's data folder as it is before the first start. It is made once for each user
// of the machine and kept, because making it takes longer than all else: a server gets a copy.
type template struct {
	program string                              // the server's executable
	args    []string                            // what else decides what is made
	fill    func(dir string) (*exec.Cmd, error) // fills an empty folder
	account account                             // runs fill
}

// copyTo makes dir, which is not there yet, a copy that belongs to the account.
func (tpl template) copyTo(dir string) error {
	name, err := tpl.name()
	if err != nil {
		return err
	}
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	made := filepath.Join(cache, name)
	if _, err := os.Stat(made); errors.Is(err, fs.ErrNotExist) {
		if err := tpl.build(made); err != nil {
			return err
		}
	}
	return copyTree(made, dir, tpl.account)
}

// build puts the template at made, all at once: others may do so at the same time.
func (tpl template) build(made string) error {
	// The account cannot reach into the cache, and nobody but this user shall.
	work, err := tpl.account.mkdirTemp("alkey-template-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	stage, err := os.MkdirTemp(filepath.Dir(made), "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)

	data := filepath.Join(work, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	if err := tpl.account.own(data); err != nil {
		return err
	}
	cmd, err := tpl.fill(data)
	if err != nil {
		return err
	}
	cmd.Dir, cmd.Env = work, environment()
	tpl.account.run(cmd)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w:\n%s", filepath.Base(cmd.Path), err, text)
	}
	if err := copyTree(data, filepath.Join(stage, "data"), account{}); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(stage, "data"), made); err != nil {
		if _, there := os.Stat(made); there != nil {
			return err
		}
	}
	return nil
}

// name is another one for another version of the program and for another way to fill the folder.
func (tpl template) name() (string, error) {
	program, err := filepath.EvalSymlinks(tpl.program)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(program)
	if err != nil {
		return "", err
	}
	key := fmt.Sprintf("%s %d %s %q", program, info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano), tpl.args)
	sum := sha256.Sum256([]byte(key))
	return fmt.Sprintf("%s-%x", filepath.Base(program), sum[:8]), nil
}

// cacheDir returns a folder that outlives the tests and that no other user can write to.
func cacheDir() (string, error) {
	name := fmt.Sprintf("alkey-testserver-%d", os.Geteuid())
	places := []string{os.TempDir()}
	if dir, err := os.UserCacheDir(); err == nil {
		places = []string{dir, os.TempDir()}
	}
	var failed error
	for _, place := range places {
		dir := filepath.Join(place, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		info, err := os.Lstat(dir)
		if err == nil && private(info) {
			return dir, nil
		}
		failed = errors.Join(failed, err, fmt.Errorf("others can write to %s", dir))
	}
	return "", failed
}

// mkdirTemp makes a folder that the account can use. It is in none of this user's own folders, which
// the account cannot reach.
func (a account) mkdirTemp(prefix string) (string, error) {
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return "", err
	}
	if err := a.own(dir); err != nil {
		_ = os.RemoveAll(dir)
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}

// copyTree copies folders and files, and gives them to the account, which alone may use them.
func copyTree(from, to string, owner account) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, inside)
		switch {
		case entry.IsDir():
			err = os.Mkdir(target, 0o700)
		case entry.Type().IsRegular():
			err = copyFile(path, target)
		default:
			err = fmt.Errorf("%s is neither a folder nor a file", path)
		}
		if err != nil {
			return err
		}
		return owner.own(target)
	})
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

// environment is this process's without what would change how a server behaves.
func environment() []string {
	env := []string{"LC_ALL=C", "TZ=UTC"}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		switch {
		case strings.HasPrefix(name, "PG"), strings.HasPrefix(name, "MYSQL"), strings.HasPrefix(name, "MARIADB"):
		case strings.HasPrefix(name, "LC_"), name == "LANG", name == "LANGUAGE", name == "TZ":
		default:
			env = append(env, entry)
		}
	}
	return env
}
