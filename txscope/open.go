package txscope

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/jmoiron/sqlx"

	"github.com/alkey-go/alkey/tokens"
)

// ErrNoCapture is returned by Open and Wrap for a driver whose writes nobody can see: the package
// of its capture is not imported, or there is none.
var ErrNoCapture = errors.New("alkey: no capture")

// Open opens a database as sqlx.Open does, with the driver registered as driverName, and captures
// every write: what is committed through it changes the keys of store. The package of the capture
// must be imported, which imports the driver too:
//
//	import _ "github.com/alkey-go/alkey/txscope/sqlite"
//
// The error wraps ErrNoCapture, ErrOption, or what the driver says of the dsn. It never shows a
// password.
func Open(driverName, dsn string, store *tokens.Store, opts ...Option) (*sqlx.DB, error) {
	bare, err := connectorOf(driverName, dsn)
	if err != nil {
		return nil, err
	}
	c, err := wrap(bare, driverName, store, opts)
	if err != nil {
		return nil, err
	}
	return sqlx.NewDb(sql.OpenDB(c), driverName), nil
}

// Wrap captures every write that is made through connections of c. What it returns goes to
// sql.OpenDB, and behaves as c does in everything else; its Driver is c's. Wrappers that are there
// for telemetry go around what Wrap returns, not into c. Wrap each connector once: what is shared
// between connections, such as the schema, belongs to one.
func Wrap(c driver.Connector, store *tokens.Store, opts ...Option) (driver.Connector, error) {
	if c == nil {
		return nil, fmt.Errorf("%w: the connector is nil", ErrOption)
	}
	if _, again := c.(*connector); again {
		return nil, fmt.Errorf("%w: the connector is wrapped already", ErrOption)
	}
	return wrap(c, "", store, opts)
}

func wrap(c driver.Connector, driverName string, store *tokens.Store, opts []Option) (driver.Connector, error) {
	db, err := newDatabase(store, opts)
	if err != nil {
		return nil, err
	}
	capture, err := captureOf(c.Driver(), driverName)
	if err != nil {
		return nil, err
	}
	store.AddDatabase()
	return &connector{bare: c, db: db, shared: capture.Database(Setup{
		Warn:         db.warn,
		Lease:        db.lease,
		MaxSchemaAge: db.maxSchemaAge,
		Touch:        &db.touch,
	})}, nil
}

// connectorOf makes the connector that sql.Open would use.
func connectorOf(driverName, dsn string) (driver.Connector, error) {
	if !slices.Contains(sql.Drivers(), driverName) {
		return nil, noCapture(driverName)
	}
	// database/sql shows a registered driver only through a DB.
	db, err := sql.Open(driverName, dsn)
	if err != nil {
		return nil, redact(dsn, err)
	}
	d := db.Driver()
	if err := db.Close(); err != nil {
		return nil, redact(dsn, err)
	}
	dc, ok := d.(driver.DriverContext)
	if !ok {
		return dsnConnector{dsn: dsn, driver: d}, nil
	}
	c, err := dc.OpenConnector(dsn)
	if err != nil {
		return nil, redact(dsn, err)
	}
	return c, nil
}

// registry holds the captures, as database/sql holds drivers.
var registry struct {
	mu       sync.Mutex
	captures map[string]Capture
}

// Register makes a capture known under the name of the driver it is for. It panics if the name is
// taken, or c is nil. Drivers are recognised by Capture.Handles, whatever name they have.
func Register(driverName string, c Capture) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if c == nil {
		panic("alkey: Register of a nil capture for " + driverName)
	}
	if _, dup := registry.captures[driverName]; dup {
		panic("alkey: Register called twice for " + driverName)
	}
	if registry.captures == nil {
		registry.captures = make(map[string]Capture)
	}
	registry.captures[driverName] = c
}

func captureOf(d driver.Driver, driverName string) (Capture, error) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if c, ok := registry.captures[driverName]; ok && c.Handles(d) {
		return c, nil
	}
	for _, name := range names() {
		if c := registry.captures[name]; c.Handles(d) {
			return c, nil
		}
	}
	if driverName == "" {
		driverName = packageOf(d)
	}
	return nil, noCaptureLocked(driverName)
}

// names needs registry.mu.
func names() []string {
	var names []string
	for name := range registry.captures {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// imports tells the package with the capture for a driver, by the driver's name or package.
var imports = map[string]string{
	"sqlite":             "sqlite",
	"modernc.org/sqlite": "sqlite",

	"pgx":                            "postgres",
	"pgx/v5":                         "postgres",
	"postgres":                       "postgres",
	"github.com/jackc/pgx/v5/stdlib": "postgres",
	"mysql":                          "mysql",
	"github.com/go-sql-driver/mysql": "mysql",
}

func noCapture(driverName string) error {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	return noCaptureLocked(driverName)
}

func noCaptureLocked(driverName string) error {
	if pkg, known := imports[driverName]; known {
		if _, imported := registry.captures[pkg]; !imported {
			return fmt.Errorf("%w for driver %q: add import _ \"github.com/alkey-go/alkey/txscope/%s\"", ErrNoCapture, driverName, pkg)
		}
	}
	have := "none"
	if n := names(); len(n) > 0 {
		have = strings.Join(n, ", ")
	}
	return fmt.Errorf("%w for driver %q: the captures that are imported are: %s; those for SQLite, PostgreSQL and MySQL are in github.com/alkey-go/alkey/txscope/sqlite, .../postgres and .../mysql; another can be written as a txscope.Capture. A driver that wraps another, for telemetry say, goes around the connector that txscope.Wrap returns", ErrNoCapture, driverName, have)
}

// redact takes the password of a dsn out of an error that the driver made of it. Where there is
// nothing to hide the error stays what it is.
func redact(dsn string, err error) error {
	text := err.Error()
	hidden := text
	for _, secret := range passwords(dsn) {
		hidden = strings.ReplaceAll(hidden, secret, "xxxxx")
	}
	if hidden == text {
		return fmt.Errorf("alkey: the database cannot be opened: %w", err)
	}
	return errors.New("alkey: the database cannot be opened: " + hidden)
}

// passwordForms match what stands for a password in the forms that a dsn can have: user:password@,
// greedily since a password can contain an "@", and password=... with or without quotes.
var passwordForms = []*regexp.Regexp{
	regexp.MustCompile(`^(?:[a-zA-Z][a-zA-Z0-9+.-]*://)?[^:/@]*:(.+)@`),
	regexp.MustCompile(`(?i)\bpass(?:word|wd)?\s*=\s*'((?:[^'\\]|\\.)*)'`),
	regexp.MustCompile(`(?i)\b(?:_auth_)?pass(?:word|wd)?\s*=\s*([^\s'&;]+)`),
}

// passwords finds what may be a password in a dsn, the longest form first.
func passwords(dsn string) []string {
	var found []string
	for _, form := range passwordForms {
		for _, m := range form.FindAllStringSubmatch(dsn, -1) {
			found = append(found, m[1])
			if plain, err := url.QueryUnescape(m[1]); err == nil {
				found = append(found, plain)
			}
			if plain, err := url.PathUnescape(m[1]); err == nil {
				found = append(found, plain)
			}
		}
	}
	found = slices.DeleteFunc(found, func(s string) bool { return s == "" })
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(found)
}
