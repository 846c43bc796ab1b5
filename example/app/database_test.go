package main

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"go.uber.org/goleak"

	"github.com/alkey-go/alkey/internal/testserver"
)

// The servers that all tests share.
var (
	postgresServer = testserver.Share(testserver.Postgres)
	mariaDBServer  = testserver.Share(testserver.MariaDB)
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(testserver.StopAfter(m, postgresServer, mariaDBServer), goleak.Cleanup(func(code int) {
		if dir := executable.dir; dir != "" {
			_ = os.RemoveAll(dir)
		}
		os.Exit(code)
	}))
}

// onURLs runs a test with the DATABASE_URL of an empty database of every kind.
func onURLs(t *testing.T, test func(t *testing.T, databaseURL string)) {
	t.Run("SQLite", func(t *testing.T) { test(t, filepath.Join(t.TempDir(), "app.db")) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, postgresServer.Get(t).Database(t)) })
	t.Run("MariaDB", func(t *testing.T) {
		config, err := mysql.ParseDSN(mariaDBServer.Get(t).Database(t))
		if err != nil {
			t.Fatal(err)
		}
		test(t, (&url.URL{Scheme: "mysql", User: url.User(config.User), Host: config.Addr, Path: config.DBName}).String())
	})
}

// openBare opens a database without alkey.
func openBare(t *testing.T, databaseURL string) store {
	t.Helper()
	at, err := sourceOf(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqlx.Open(at.driver, at.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		db.Close()
		if err := at.remove(); err != nil {
			t.Error(err)
		}
	})
	return newStore(db)
}

// Whoever starts first makes the tables. All others find them, now and later.
func TestMigrate(t *testing.T) {
	onURLs(t, func(t *testing.T, databaseURL string) {
		var wg sync.WaitGroup
		for range 6 {
			s := openBare(t, databaseURL)
			wg.Go(func() {
				if err := s.migrate(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		s := openBare(t, databaseURL)
		totals, err := s.totals(t.Context())
		if err != nil || totals != (Totals{Count: 5, Cents: 17035}) {
			t.Errorf("%+v, %v", totals, err)
		}
		if err := s.deleteUser(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if err := s.migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		users, err := s.users(t.Context())
		if err != nil || len(users) != 2 {
			t.Errorf("%v, %v", users, err)
		}
	})
}

// A start that is cut short anywhere is made up for by the next one.
func TestMigrateAfterCrash(t *testing.T) {
	onURLs(t, func(t *testing.T, databaseURL string) {
		s := openBare(t, databaseURL)
		whole := s.schema
		for n := 1; n < strings.Count(whole, ";\n"); n++ {
			parts := strings.SplitAfterN(whole, ";\n", n+1)
			s.schema = strings.Join(parts[:n], "") + "there is no such statement;\n"
			if err := s.migrate(t.Context()); err == nil {
				t.Fatal("no error")
			}
		}
		s.schema = whole
		if err := s.migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		totals, err := s.totals(t.Context())
		if err != nil || totals != (Totals{Count: 5, Cents: 17035}) {
			t.Errorf("%+v, %v", totals, err)
		}
		if id, err := s.createUser(t.Context(), "Barbara Liskov", "barbara@example.org"); err != nil || id < 4 {
			t.Errorf("%d, %v", id, err)
		}
	})
}

func TestSQLiteURLs(t *testing.T) {
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
			t.Run("open", func(t *testing.T) {
				s := openBare(t, test.value)
				if err := s.migrate(t.Context()); err != nil {
					t.Fatal(err)
				}
				for pragma, want := range map[string]string{"journal_mode": "wal", "foreign_keys": "1", "busy_timeout": "5000", "synchronous": "1"} {
					var got string
					if err := s.db.Get(&got, "PRAGMA "+pragma); err != nil || got != want {
						t.Errorf("%s = %s, %v", pragma, got, err)
					}
				}
			})
			if _, err := os.Stat(test.file); err != nil {
				t.Errorf("a file that was named is gone: %v", err)
			}
		})
	}
}

func TestServerURLs(t *testing.T) {
	for value, want := range map[string]source{
		"postgres://me:p%40ss@host:5433/db?sslmode=disable": {driver: "pgx", dsn: "postgres://me:p%40ss@host:5433/db?sslmode=disable"},
		"PostgreSQL://a:1,b:2/db":                           {driver: "pgx", dsn: "postgresql://a:1,b:2/db"},
		"postgres:///db?host=/run/postgresql":               {driver: "pgx", dsn: "postgres:///db?host=/run/postgresql"},

		"mysql://me@host/db":                           {driver: "mysql", dsn: "me@tcp(host)/db?clientFoundRows=true&parseTime=true"},
		"MariaDB://host:3307/db?clientFoundRows=false": {driver: "mysql", dsn: "tcp(host:3307)/db?clientFoundRows=true&parseTime=true"},
		"mysql://[::1]/db":                             {driver: "mysql", dsn: "tcp([::1])/db?clientFoundRows=true&parseTime=true"},
		"mysql:///db":                                  {driver: "mysql", dsn: "/db?clientFoundRows=true&parseTime=true"},
		"mysql://host/a%20b%2Fc?loc=Europe/Berlin&tls=skip-verify": {driver: "mysql", dsn: "tcp(host)/a%20b%2Fc?clientFoundRows=true&loc=Europe%2FBerlin&parseTime=true&tls=skip-verify"},
	} {
		at, err := sourceOf(value)
		if err != nil || at.driver != want.driver || at.dsn != want.dsn {
			t.Errorf("%s: %q, %q, %v", value, at.driver, at.dsn, err)
		}
	}

	// The driver reads what the URL says, whatever the password is made of.
	for _, password := range []string{"", "secret", "p@ss/w:rd?#%", "a)b(c/", "é ü&=+"} {
		u := url.URL{Scheme: "mysql", User: url.UserPassword("me", password), Host: "host:1", Path: "/a b/c"}
		at, err := sourceOf(u.String())
		if err != nil {
			t.Errorf("%q: %v", password, err)
			continue
		}
		config, err := mysql.ParseDSN(at.dsn)
		if err != nil || config.User != "me" || config.Passwd != password || config.Addr != "host:1" || config.DBName != "a b/c" {
			t.Errorf("%q: %v, %v", password, config, err)
		}
	}
}

func TestURLErrors(t *testing.T) {
	for value, want := range map[string]string{
		"oracle://me:secret@host/db":         `knows no database "oracle"`,
		"sqlserver:secret":                   "mysql://",
		"postgres:secret":                    "percent-encoded",
		"postgres://me:sec%zzsecret@host/db": "percent-encoded",
		"postgres://me:1/secret@host/db":     "percent-encoded",
		"mysql://me:1?a=secret@host/db":      "percent-encoded",
		"postgres://me:se/secret@host/db":    "percent-encoded",
		"postgres://me:1#secret@host/db":     "percent-encoded",
		"mysql:secret":                       "percent-encoded",
		"mysql://me:secret#secret@host/db":   "percent-encoded",
		"mysql://me:secret@host":             "names no database",
		"mysql://me:secret@host/":            "names no database",
		"mysql://me:secret@host/db?tls=none": "",
		"sqlite::memory:":                    "names no file",
		":memory:":                           "names no file",
		"sqlite:":                            "names no file",
		"file:%zz":                           "DATABASE_URL",
		"file:x?mode=memory":                 "in memory",
		"file:x?cache=shared&mode=memory":    "in memory",
		"sqlite:x?mode=%6demory":             "in memory",
		"file:/x?vfs=memdb":                  "in memory",
		"file:x?mode=%zz":                    "DATABASE_URL",
	} {
		_, err := sourceOf(value)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "DATABASE_URL") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error %v", value, err)
		}
	}
}
