package alkey_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"

	"github.com/alkey-go/alkey"
	"github.com/alkey-go/alkey/internal/testsecrets"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	_ "github.com/alkey-go/alkey/txscope/mysql"
	_ "github.com/alkey-go/alkey/txscope/postgres"
	_ "github.com/alkey-go/alkey/txscope/sqlite"
)

const databasePassword = testsecrets.Word + ":p@ss/w%rd"

// TestSecretsOfDatabases: nothing that a process writes, and no error that it gets of a database that alkey
// has opened, shows its password, whatever is wrong with the data source's name or the server. Errors of the
// drivers' own are part of that: alkey passes them on as they are.
func TestSecretsOfDatabases(t *testing.T) { testsecrets.Run(t, secretsOfDatabases) }

// secretsOfDatabases do wrong things with passwords, and tell what comes of it.
var secretsOfDatabases = map[string]testsecrets.Case{
	"wrong names": func(t *testing.T, tell func(error)) {
		host := closedPort(t)
		for driver, names := range map[string][]string{
			"pgx": {
				"postgres://app:s3cr3t@" + host + ":x/db", "postgres://app:s3cr3t@%zz/db", "postgres://app:s3cr3t/pa@" + host + "/db", "postgres://app:s3cr3t@" + host + "/db?sslmode=s0me",
				"host=localhost password=s3cr3t port=x", "host=localhost password='s3cr3t port=1", "password=s3cr3t =", "postgres://" + host + "/db?password=s3cr3t&connect_timeout=x",
				"postgres://" + host + "/db?sslpassword=s3cr3t&sslcert=/none&sslkey=/none&sslmode=require", "postgres://app:s3cr3t@" + host + "/db?sslrootcert=/none&sslmode=verify-full",
				"postgres://app:s3cr3t@" + host + "/db?target_session_attrs=x", "app:s3cr3t@" + host, "postgres:// app:s3cr3t@" + host + "/\x7f", "postgres://app:s3cr3t@[::1/db",
			},
			"mysql": {
				"app:s3cr3t@" + host, "app:s3cr3t@tcp(" + host + "/db", "app:s3cr3t@tcp(" + host + ")/db?timeout=x", "app:s3cr3t@tcp(" + host + ")/db?tls=none", "app:s3cr3t@none(" + host + ")/db",
				"app:s3cr3t@tcp(" + host + ")/%zz", "mysql://app:s3cr3t@" + host + "/db", "app:s3cr3t@tcp(" + host + ")/db?parseTime=s0me", "s3cr3t", "app:s3cr3t",
				"app:s3cr3t@tcp(" + host + ")/db?collation=none", "app:s3cr3t@tcp(" + host + ")/db?serverPubKey=none",
			},
			"sqlite": {
				// SQLite has no passwords; it quotes what stands for a host in a name, where none belongs.
				"file:/none/s.db?_pragma=key('s3cr3t')", "file:/none/s.db?password=s3cr3t", "/none/none.db?_pragma=%zz&password=s3cr3t", "/none/none.db?_txlock=x&_auth_pass=s3cr3t",
			},
		} {
			for _, name := range names {
				tellDatabase(t, driver, name, tell)
			}
		}
	},
	"no capture": func(t *testing.T, tell func(error)) {
		for _, driver := range []string{"none", "postgres"} {
			_, err := alkey.Open(driver, "postgres://app:s3cr3t@localhost/db", tokens.NewMemory())
			tell(err)
		}
		store := tokens.NewMemory()
		defer store.Close()
		_, err := alkey.Open("pgx", "postgres://app:s3cr3t@localhost/db", nil)
		tell(err)
		_, err = alkey.Open("pgx", "postgres://app:s3cr3t@localhost/db", store, txscope.Lease(1))
		tell(err)
	},
	"no such host": func(t *testing.T, tell func(error)) {
		for _, host := range []string{"alkey.invalid:1", closedPort(t)} {
			tellDatabase(t, "pgx", postgresName(host, "disable"), tell)
			tellDatabase(t, "mysql", mysqlName(host), tell)
		}
	},
	"PostgreSQL": func(t *testing.T, tell func(error)) {
		server := testserver.Postgres(t)
		u, err := url.Parse(server.DSN())
		if err != nil {
			t.Fatal(err)
		}
		right := sqlx.MustOpen("pgx", server.DSN())
		defer right.Close()
		// The test server trusts everybody.
		var rules string
		if err := right.Get(&rules, "SHOW hba_file"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(rules, []byte("host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		right.MustExec("CREATE ROLE app LOGIN PASSWORD 'another'")
		right.MustExec("SELECT pg_reload_conf()")
		for end := time.Now().Add(20 * time.Second); refused(t, postgresName(u.Host, "disable")) == nil; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the server does not ask for passwords")
			}
		}
		tellDatabase(t, "pgx", postgresName(u.Host, "disable"), tell) // wrong password
		tellDatabase(t, "pgx", postgresName(u.Host, "require"), tell) // no TLS
		right.MustExec("ALTER ROLE app PASSWORD '" + databasePassword + "'")
		right.MustExec("CREATE TABLE users (id int PRIMARY KEY); GRANT SELECT ON users TO app")
		tellOutage(t, "pgx", postgresName(u.Host, "disable"), server.Kill, tell)
	},
	"MariaDB": func(t *testing.T, tell func(error)) {
		server := testserver.MariaDB(t)
		config, err := mysql.ParseDSN(server.Database(t))
		if err != nil {
			t.Fatal(err)
		}
		right := sqlx.MustOpen("mysql", config.FormatDSN())
		defer right.Close()
		right.MustExec("CREATE USER app IDENTIFIED BY 'another'")
		name := strings.Replace(mysqlName(config.Addr), "/mysql", "/"+config.DBName, 1)
		tellDatabase(t, "mysql", name, tell)
		tellDatabase(t, "mysql", name+"&tls=true", tell)
		right.MustExec("ALTER USER app IDENTIFIED BY '" + databasePassword + "'")
		right.MustExec("CREATE TABLE users (id int PRIMARY KEY)")
		right.MustExec("GRANT SELECT ON " + config.DBName + ".* TO app")
		tellOutage(t, "mysql", name, server.Kill, tell)
	},
}

// refused returns the error of a connection.
func refused(t *testing.T, name string) error {
	t.Helper()
	db := sqlx.MustOpen("pgx", name)
	defer db.Close()
	return db.PingContext(t.Context())
}

// closedPort returns an address on which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func postgresName(host, tls string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("app", databasePassword), Host: host, Path: "postgres", RawQuery: "connect_timeout=5&sslmode=" + tls}
	return u.String()
}

func mysqlName(host string) string {
	config := mysql.NewConfig()
	config.User, config.Passwd, config.Net, config.Addr, config.DBName, config.Timeout = "app", databasePassword, "tcp", host, "mysql", 5*time.Second
	return config.FormatDSN()
}

// tellDatabase opens a database in vain, and tells of all that goes wrong.
func tellDatabase(t *testing.T, driver, name string, tell func(error)) {
	t.Helper()
	store := tokens.NewMemory()
	defer store.Close()
	db, err := alkey.Open(driver, name, store)
	if err != nil {
		tell(err)
		return
	}
	defer db.Close()
	if err := tellUse(t, db, tell); err == nil {
		t.Errorf("%s %s works", driver, name)
	}
}

// tellUse uses a database in all ways, and returns the first error.
func tellUse(t *testing.T, db *sqlx.DB, tell func(error)) (first error) {
	t.Helper()
	note := func(err error) {
		if tell(err); first == nil {
			first = err
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// As the handler of a request without a scope, which is warned of.
	ctx = context.WithValue(ctx, http.ServerContextKey, httptest.NewUnstartedServer(nil).Config)
	note(db.PingContext(ctx))
	_, err := db.ExecContext(ctx, "UPDATE users SET id = id + 1")
	note(err)
	_, err = db.ExecContext(ctx, "nonsense FROM")
	note(err)
	var n int
	note(db.GetContext(ctx, &n, "SELECT count(*) FROM users"))
	if tx, err := db.BeginTxx(ctx, nil); err != nil {
		note(err)
	} else {
		_, err := tx.ExecContext(ctx, "DELETE FROM users WHERE id = 1")
		note(err)
		note(tx.Commit())
	}
	_, err = txscope.Stats(ctx, db)
	note(err)
	return first
}

// tellOutage uses a database whose password is right until its server is gone.
func tellOutage(t *testing.T, driver, name string, kill func(), tell func(error)) {
	t.Helper()
	store := tokens.NewMemory()
	defer store.Close()
	db, err := alkey.Open(driver, name, store)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.PingContext(t.Context()); err != nil {
		t.Fatalf("the password is not the right one, so the rest shows nothing: %v", err)
	}
	_ = tellUse(t, db, tell) // it may not write
	tx, err := db.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	kill()
	_, err = tx.ExecContext(t.Context(), "UPDATE users SET id = 2")
	tell(err)
	tell(tx.Commit())
	_ = tellUse(t, db, tell)
}
