package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// source is where the data is, as alkey.Open takes it.
type source struct {
	driver string // "pgx", "mysql" or "sqlite"
	dsn    string
	remove func() error // takes away what is there for this run only
}

var scheme = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]+):`)

// sourceOf reads a DATABASE_URL. What can hold a password is not repeated in errors.
func sourceOf(value string) (source, error) {
	if value == "" {
		return temporary()
	}
	name, rest := "", value
	if m := scheme.FindStringSubmatch(value); m != nil {
		name, rest = strings.ToLower(m[1]), value[len(m[0]):]
	}
	var (
		s   = source{remove: func() error { return nil }}
		err error
	)
	switch name {
	case "postgres", "postgresql":
		s.driver = "pgx"
		s.dsn, err = postgresDSN(name, rest)
	case "mysql", "mariadb":
		s.driver = "mysql"
		s.dsn, err = mysqlDSN(name, rest)
	case "sqlite", "file":
		s.driver = "sqlite"
		s.dsn, err = sqliteDSN(rest)
	case "":
		s.driver = "sqlite"
		s.dsn, err = fileDSN(value, "")
	default:
		err = fmt.Errorf("this example knows no database %q; give it postgres://…, mysql://… or the path of an SQLite file", name)
	}
	if err != nil {
		return source{}, fmt.Errorf("DATABASE_URL: %w", err)
	}
	return s, nil
}

// temporary is a file that goes when the program ends.
func temporary() (source, error) {
	dir, err := os.MkdirTemp("", "alkey-example-")
	if err != nil {
		return source{}, err
	}
	dsn, err := fileDSN(filepath.Join(dir, "app.db"), "")
	return source{"sqlite", dsn, func() error { return os.RemoveAll(dir) }}, err
}

// postgresDSN gives pgx the URL as it is.
func postgresDSN(name, rest string) (string, error) {
	_, err := parseURL(name, rest)
	return name + ":" + rest, err
}

// mysqlDSN makes of an URL what go-sql-driver calls a DSN, whose parameters the URL can have.
func mysqlDSN(name, rest string) (string, error) {
	u, err := parseURL(name, rest)
	if err != nil {
		return "", err
	}
	config, err := mysql.ParseDSN("/?" + strings.ReplaceAll(u.RawQuery, "/", "%2F"))
	if err != nil {
		return "", err
	}
	config.User = u.User.Username()
	config.Passwd, _ = u.User.Password()
	config.Net, config.Addr = "tcp", u.Host
	config.DBName = strings.TrimPrefix(u.Path, "/")
	if config.DBName == "" {
		return "", fmt.Errorf("it names no database: %s://user:password@host:port/database", name)
	}
	config.ParseTime = true
	config.ClientFoundRows = true // an edit that changes nothing has found its row all the same
	return config.FormatDSN(), nil
}

// parseURL does not say what is wrong with an URL: it may be in the middle of the password, which
// ends up elsewhere if what is special in it is not encoded.
func parseURL(name, rest string) (*url.URL, error) {
	u, err := url.Parse(name + ":" + rest)
	if err != nil || u.Opaque != "" || u.Fragment != "" || u.User == nil && strings.Contains(rest, "@") {
		return nil, fmt.Errorf("this is no URL of the form %s://user:password@host:port/database; what is special in the password is percent-encoded", name)
	}
	return u, nil
}

// sqliteDSN reads what follows sqlite: or file:, a path and perhaps parameters.
func sqliteDSN(rest string) (string, error) {
	path, query, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "?")
	path, err := url.PathUnescape(path)
	if err != nil {
		return "", err
	}
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return "", err
	}
	if slices.Contains(parameters["mode"], "memory") || slices.Contains(parameters["vfs"], "memdb") {
		// Each connection would have a database of its own.
		return "", fmt.Errorf("this example needs a file, not a database in memory; leave it out for a temporary file")
	}
	return fileDSN(path, query)
}

// settings are what SQLite needs to serve many requests at a time: readers do not wait for a
// writer, a writer waits for another, and orders do not outlive their user.
const settings = "_journal_mode=WAL&_synchronous=NORMAL&_busy_timeout=5000&_txlock=immediate&_foreign_keys=1"

func fileDSN(path, query string) (string, error) {
	if path == "" || strings.HasPrefix(path, ":memory:") {
		return "", fmt.Errorf("it names no file; leave it out for a temporary one")
	}
	if query != "" {
		query += "&"
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query + settings, nil
}
