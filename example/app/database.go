package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// settings are what SQLite needs to serve many requests at a time: readers do not wait for a
// writer, a writer waits for another, and orders do not outlive their user.
const settings = "_journal_mode=WAL&_synchronous=NORMAL&_busy_timeout=5000&_txlock=immediate&_foreign_keys=1"

var scheme = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]+):`)

// database returns the data source name of the file that a DATABASE_URL names, and what removes the
// file afterwards: a temporary one, if it names none.
func database(value string) (dsn string, remove func() error, err error) {
	if value == "" {
		dir, err := os.MkdirTemp("", "alkey-example-")
		if err != nil {
			return "", nil, err
		}
		return source(filepath.Join(dir, "app.db"), ""), func() error { return os.RemoveAll(dir) }, nil
	}
	path, query := value, ""
	if m := scheme.FindStringSubmatch(value); m != nil {
		name := strings.ToLower(m[1])
		if name != "sqlite" && name != "file" {
			// The value may hold a password: only its scheme is repeated.
			return "", nil, fmt.Errorf("DATABASE_URL: this example stores its data in SQLite, not in %q; give the path of a file", name)
		}
		path, query, _ = strings.Cut(strings.TrimPrefix(value[len(m[0]):], "//"), "?")
		if path, err = url.PathUnescape(path); err != nil {
			return "", nil, fmt.Errorf("DATABASE_URL: %w", err)
		}
	}
	if path == "" || strings.HasPrefix(path, ":memory:") {
		return "", nil, fmt.Errorf("DATABASE_URL: it names no file; leave it out for a temporary one")
	}
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return "", nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	if slices.Contains(parameters["mode"], "memory") || slices.Contains(parameters["vfs"], "memdb") {
		// Each connection would have a database of its own.
		return "", nil, fmt.Errorf("DATABASE_URL: this example needs a file, not a database in memory; leave it out for a temporary file")
	}
	return source(path, query), func() error { return nil }, nil
}

func source(path, query string) string {
	if query != "" {
		query += "&"
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query + settings
}
