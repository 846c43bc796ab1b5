package txscopetest

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// Fixture is what the tests of a capture stand on: a token store that tells what was asked of it, and
// all that is logged.
type Fixture struct {
	Backend *Backend
	Store   *tokens.Store
	Logged  *Log

	t testing.TB
}

// NewFixture makes a Fixture, whose store is closed at the test's end.
func NewFixture(t testing.TB) *Fixture {
	f := &Fixture{Backend: NewBackend(), Logged: new(Log), t: t}
	f.Store = tokens.New(f.Backend, tokens.WithLogger(f.Logged.Logger()),
		// A machine that stalls must not count as an outage here.
		tokens.WithReadTimeout(10*time.Second), tokens.WithWriteTimeout(10*time.Second))
	t.Cleanup(func() { _ = f.Store.Close() })
	return f
}

// Options are opts, after one that has a database log to Logged.
func (f *Fixture) Options(opts ...txscope.Option) []txscope.Option {
	return append([]txscope.Option{txscope.WithLogger(f.Logged.Logger())}, opts...)
}

// Wrap opens a wrapped database over the store, which is closed at the test's end.
func (f *Fixture) Wrap(c driver.Connector, opts ...txscope.Option) *sql.DB {
	f.t.Helper()
	wrapped, err := txscope.Wrap(c, f.Store, f.Options(opts...)...)
	if err != nil {
		f.t.Fatal(err)
	}
	db := sql.OpenDB(wrapped)
	f.t.Cleanup(func() { _ = db.Close() })
	return db
}

// Stamp returns the stamp of what an identifier depends on.
func (f *Fixture) Stamp(id tokens.ID) tokens.Stamp {
	f.t.Helper()
	return f.read(id).Stamp
}

// Fenced reports whether somebody has announced a change of what an identifier depends on.
func (f *Fixture) Fenced(id tokens.ID) bool {
	f.t.Helper()
	return f.read(id).Fenced
}

func (f *Fixture) read(id tokens.ID) tokens.Token {
	f.t.Helper()
	found, err := f.Store.Read(context.Background(), []tokens.ID{id})
	if err != nil {
		f.t.Fatal(err)
	}
	return found[0]
}

// Log keeps what is logged. The zero value is empty. It is safe for concurrent use.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Logger returns a logger that writes to the log, in text.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// Write is part of io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String returns all that was logged.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Reset forgets what was logged.
func (l *Log) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Reset()
}
