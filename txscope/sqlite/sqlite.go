// Package sqlite captures the writes to SQLite databases through modernc.org/sqlite, which it
// imports. Import it for its effect:
//
//	import _ "github.com/alkey-go/alkey/txscope/sqlite"
//
//	db, err := txscope.Open("sqlite", "app.db", store)
//
// # What is seen
//
// SQLite itself reports every row that is inserted, updated or deleted (its pre-update hook), by
// whatever means: triggers, foreign keys' actions, REPLACE, views with INSTEAD OF triggers, attached
// databases. The row's identifier is made from the primary key's value in the database, the old one
// and the new one. DDL, and writes to virtual tables such as FTS5's, sweep the table (the
// authorizer names it when the statement is prepared). So does a write to a table without a primary
// key, and one whose key has no exact text in Go: floating point, NULL, and columns declared DATE,
// DATETIME, TIME or TIMESTAMP, of which the driver makes times.
//
// The tables of main and temp are written bare, those of an attached database with its name:
// "archive.users". The keys' spelling is the database's: with COLLATE NOCASE the row is the one
// that was stored, not the one that was asked for. Text that reads as an integer or as a UUID
// counts in its plain spelling too, as a model with such a field has it, and so does a UUID in 16
// bytes.
//
// Transactions are followed however they are begun and ended: by the API, by text, by savepoints, by
// SQLite itself after an error. What is done through Conn.Bare is seen as well. Only what replaces a
// whole database at once (Deserialize, and Restore of a backup) is not: follow it with
// tokens.Bump(ctx, store, tokens.Global).
//
// The authorizer and the commit, rollback and pre-update hooks of a connection belong to the capture.
// A connection that has its own when it is opened, set by a connection hook, is refused.
package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

func init() { txscope.Register("sqlite", capture{}) }

type capture struct{}

// Handles is part of txscope.Capture.
func (capture) Handles(d driver.Driver) bool {
	_, ok := d.(*sqlite.Driver)
	return ok
}

// Database is part of txscope.Capture.
func (capture) Database(warn func(string, error)) txscope.Database {
	db := &database{warn: warn, files: make(map[string]*schema)}
	db.generation.Store(1)
	return db
}

// database is what connections know together: the schemas of the files. What is known counts while
// nobody changes a schema, and until somebody has.
type database struct {
	warn       func(string, error)
	generation atomic.Int64 // goes up with every change of a schema
	changing   atomic.Int32 // transactions that have changed a schema and are not over

	mu    sync.Mutex
	files map[string]*schema
}

func (db *database) cached(file string, generation int64) *schema {
	db.mu.Lock()
	defer db.mu.Unlock()
	if s := db.files[file]; s != nil && s.generation == generation {
		return s
	}
	return nil
}

func (db *database) cache(file string, s *schema) {
	db.mu.Lock()
	db.files[file] = s
	db.mu.Unlock()
}

// Session is part of txscope.Database.
func (db *database) Session(conn driver.Conn, rec txscope.Recorder) (txscope.Session, error) {
	s := &session{db: db, rec: rec, surprises: make(map[string]int)}
	var ok bool
	if s.conn, ok = conn.(driver.QueryerContext); !ok {
		return nil, errDriver
	}
	if s.tls, s.handle = handleOf(conn); s.tls == nil {
		return nil, errDriver
	}
	if s.occupied() {
		return nil, errors.New("alkey: the SQLite connection has an authorizer or hooks of its own, and the capture needs them: do not set them in a connection hook")
	}
	s.callbacks.authorize = s.authorize
	s.callbacks.preUpdate = s.preUpdate
	s.callbacks.commit = s.commit
	s.callbacks.rollback = s.rollback
	if !s.register() {
		return nil, errors.New("alkey: SQLite takes no authorizer")
	}
	return s, nil
}

var errDriver = errors.New("alkey: this version of modernc.org/sqlite is not known to the capture: use the one that alkey's go.mod names")

// handleOf reaches for the SQLite handle of a connection, which the driver keeps to itself. Whether
// a transaction is open, and the bytes of a text with a NUL in it, can be learned by no other means;
// and the driver's own way to the authorizer makes four strings of every column that a query reads.
func handleOf(conn driver.Conn) (*libc.TLS, uintptr) {
	v := reflect.ValueOf(conn)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil, 0
	}
	db, tls := v.Elem().FieldByName("db"), v.Elem().FieldByName("tls")
	if !db.IsValid() || db.Kind() != reflect.Uintptr || !tls.IsValid() || tls.Type() != reflect.TypeFor[*libc.TLS]() {
		return nil, 0
	}
	return (*libc.TLS)(tls.UnsafePointer()), uintptr(db.Uint())
}

// session watches one connection.
type session struct {
	db        *database
	rec       txscope.Recorder
	conn      driver.QueryerContext
	tls       *libc.TLS
	handle    uintptr // *sqlite3
	callbacks callbacks

	schemas   map[string]*schema // by the name of the database on this connection
	read      int64              // the generation of schemas; 0 if they must be read
	failed    int64              // the generation at which they could not be read
	staleTemp bool
	surprises map[string]int // how often a table was not as it is known
	altering  bool           // the transaction has changed a schema

	preparing  *memo // of the statement that is being prepared, and does not run
	followed   bool  // the wrapper knows what the statement does to savepoints
	committing bool  // SQLite has begun to commit, and not rolled back since

	// The table that the statement wrote last, and how many of its rows.
	last                   *table
	lastDatabase, lastName string
	rows                   int
}

// callbacks are what SQLite calls. It holds them by addresses that the garbage collector does not
// see, so they live in the session, which lives as long as the connection.
type callbacks struct {
	authorize func(tls *libc.TLS, arg uintptr, action int32, arg1, arg2, database, origin uintptr) int32
	preUpdate func(tls *libc.TLS, arg, db uintptr, op int32, database, table uintptr, oldRowID, newRowID int64)
	commit    func(tls *libc.TLS, arg uintptr) int32
	rollback  func(tls *libc.TLS, arg uintptr)
}

// address gives a Go function in the form that the translated C code calls: what a func value is in
// memory, see https://go.dev/s/go11func.
func address[F any](f *F) uintptr { return *(*uintptr)(unsafe.Pointer(f)) }

func (s *session) register() bool {
	sqlite3.Xsqlite3_preupdate_hook(s.tls, s.handle, address(&s.callbacks.preUpdate), 0)
	sqlite3.Xsqlite3_commit_hook(s.tls, s.handle, address(&s.callbacks.commit), 0)
	sqlite3.Xsqlite3_rollback_hook(s.tls, s.handle, address(&s.callbacks.rollback), 0)
	return sqlite3.Xsqlite3_set_authorizer(s.tls, s.handle, address(&s.callbacks.authorize), 0) == sqlite3.SQLITE_OK
}

// occupied reports whether somebody watches the connection already.
func (s *session) occupied() bool {
	db := *(**sqlite3.Tsqlite3)(unsafe.Pointer(&s.handle))
	return db.FxAuth != 0 || db.FxCommitCallback != 0 || db.FxRollbackCallback != 0 || db.FxPreUpdateCallback != 0
}

// memo is what a prepared statement is remembered by: what it does that no hook reports when it
// runs.
type memo struct {
	writes    []target // tables of which the hook may not tell
	sweeps    []tokens.ID
	alters    bool // a schema
	altersOwn bool // that of temp
	attaches  bool
}

type target struct{ database, table string }

func (m *memo) empty() bool {
	return len(m.writes) == 0 && len(m.sweeps) == 0 && !m.alters && !m.altersOwn && !m.attaches
}

// Control is part of txscope.Session.
func (s *session) Control(query string) txscope.Control { return control(query) }

// Prepare is part of txscope.Session.
func (s *session) Prepare(_ string, prepare func() error) (any, error) {
	m := new(memo)
	s.preparing = m
	err := prepare()
	s.preparing = nil
	if err != nil || m.empty() {
		return nil, err
	}
	return m, nil
}

// Idle is part of txscope.Session. The schema is read between transactions only: reading takes a
// snapshot, which would make a transaction's first write fail where it waits for a lock otherwise.
func (s *session) Idle(ctx context.Context) {
	s.committing = false
	generation := s.db.generation.Load()
	if s.read == generation && !s.staleTemp || s.failed == generation || s.db.changing.Load() > 0 {
		return
	}
	schemas, err := s.readSchemas(ctx, generation)
	if err != nil {
		s.read = 0
		if !transient(ctx, err) {
			s.failed = generation
			s.db.warn("SQLite's schema cannot be read: whole tables are changed where rows would do", err)
		}
		return
	}
	// What was read while somebody changed it has an old generation as soon as he is done.
	s.schemas, s.read, s.staleTemp = schemas, generation, false
}

func transient(ctx context.Context, err error) bool {
	var e *sqlite.Error
	if ctx.Err() != nil {
		return true
	}
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT:
		return true
	}
	return false
}

func (s *session) readSchemas(ctx context.Context, generation int64) (map[string]*schema, error) {
	list, err := readAttached(ctx, s.conn)
	if err != nil {
		return nil, err
	}
	schemas := make(map[string]*schema, len(list))
	for _, a := range list {
		if a.file != "" && isDefault(a.name) {
			if shared := s.db.cached(a.file, generation); shared != nil {
				schemas[a.name] = shared
				continue
			}
		}
		tables, err := readSchema(ctx, s.conn, a.name)
		if err != nil {
			return nil, err
		}
		read := &schema{generation: generation, tables: tables}
		schemas[a.name] = read
		if a.file != "" && isDefault(a.name) {
			s.db.cache(a.file, read)
		}
	}
	return schemas, nil
}

// Before is part of txscope.Session.
func (s *session) Before(_ context.Context, call *txscope.Call) {
	s.last, s.committing = nil, false
	s.followed = true
	if m, ok := call.Memo.(*memo); ok {
		s.apply(m)
	}
}

// After is part of txscope.Session.
func (s *session) After(context.Context, *txscope.Call, error) { s.followed = false }

func (s *session) apply(m *memo) {
	if m.alters {
		s.alter()
	}
	if m.altersOwn {
		s.alterTemp()
	}
	if m.attaches {
		s.read = 0
	}
	for _, w := range m.writes {
		s.write(w.database, w.table)
	}
	for _, id := range m.sweeps {
		s.rec.Add(id)
	}
}

// alter notes that the transaction changes a schema: nobody can tell rows by what is known, until
// it is over and the schema read again.
func (s *session) alter() {
	s.last = nil
	if !s.altering {
		s.altering = true
		s.db.changing.Add(1)
	}
}

func (s *session) alterTemp() {
	s.last = nil
	s.staleTemp = true
	delete(s.schemas, "temp")
}

// Ended is part of txscope.Session.
func (s *session) Ended() {
	if s.altering {
		s.altering = false
		s.db.generation.Add(1)
		s.db.changing.Add(-1)
	}
}

// InTransaction is part of txscope.Session.
func (s *session) InTransaction() bool {
	return s.handle != 0 && sqlite3.Xsqlite3_get_autocommit(s.tls, s.handle) == 0
}

// Judge is part of txscope.Session. SQLite calls its hooks for every commit and every rollback, so
// there is no doubt.
func (s *session) Judge(error) txscope.Verdict {
	switch {
	case s.InTransaction():
		return txscope.VerdictOngoing
	case s.committing:
		return txscope.VerdictCommitted
	default:
		return txscope.VerdictRolledBack
	}
}

// Bare is part of txscope.Session. The hooks have seen all that was written, unless they were
// replaced.
func (s *session) Bare() {
	s.register()
}

// Close is part of txscope.Session. SQLite must not be left with the addresses of callbacks.
func (s *session) Close() {
	sqlite3.Xsqlite3_preupdate_hook(s.tls, s.handle, 0, 0)
	sqlite3.Xsqlite3_commit_hook(s.tls, s.handle, 0, 0)
	sqlite3.Xsqlite3_rollback_hook(s.tls, s.handle, 0, 0)
	sqlite3.Xsqlite3_set_authorizer(s.tls, s.handle, 0, 0)
	s.handle = 0
}

// commit is SQLite's commit hook.
func (s *session) commit(*libc.TLS, uintptr) int32 {
	s.last = nil
	if err := s.rec.Committing(); err != nil {
		return 1
	}
	s.committing = true
	return 0
}

// rollback is SQLite's rollback hook.
func (s *session) rollback(*libc.TLS, uintptr) {
	s.last, s.committing = nil, false
	s.rec.RolledBack()
}

// authorize is SQLite's authorizer: it is told what a statement does when it is prepared, and when
// it is prepared anew because the schema has changed.
func (s *session) authorize(_ *libc.TLS, _ uintptr, action int32, arg1, arg2, database, _ uintptr) int32 {
	if s.committing && s.preparing == nil && !s.InTransaction() {
		// The next statement of a text: those before it have succeeded.
		s.committing = false
		s.rec.Committed()
	}
	switch action {
	case sqlite3.SQLITE_READ, sqlite3.SQLITE_SELECT:
	case sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE:
		s.write(libc.GoString(database), libc.GoString(arg1))
	case sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_CREATE_VTABLE, sqlite3.SQLITE_DROP_VTABLE,
		sqlite3.SQLITE_CREATE_VIEW, sqlite3.SQLITE_DROP_VIEW:
		s.define(libc.GoString(database), libc.GoString(arg1))
	case sqlite3.SQLITE_CREATE_TEMP_TABLE, sqlite3.SQLITE_DROP_TEMP_TABLE, sqlite3.SQLITE_CREATE_TEMP_VIEW, sqlite3.SQLITE_DROP_TEMP_VIEW:
		s.define("temp", libc.GoString(arg1))
	case sqlite3.SQLITE_ALTER_TABLE:
		s.define(libc.GoString(arg1), libc.GoString(arg2))
	case sqlite3.SQLITE_FUNCTION:
		if is(arg2, "sqlite_rename_table") {
			s.sweep(tokens.Global) // the new name is not told
		}
	case sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH:
		if s.preparing != nil {
			s.preparing.attaches = true
		} else {
			s.read = 0
		}
	case sqlite3.SQLITE_SAVEPOINT:
		if s.preparing == nil && !s.followed {
			s.rec.Incomplete()
		}
	}
	return sqlite3.SQLITE_OK
}

// write takes in that a statement writes to a table. Only what the pre-update hook does not see is
// of interest.
func (s *session) write(database, name string) {
	switch name {
	case "sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_temp_schema":
		return // DDL, which is reported as such
	}
	if t := s.lookup(database, name); t != nil && t.kind != virtual && !internal(name) {
		return
	}
	if s.preparing != nil {
		s.preparing.writes = append(s.preparing.writes, target{database, name})
		return
	}
	s.rec.Add(tokens.Table(qualified(database, name)))
}

func internal(name string) bool { return len(name) > 7 && name[:7] == "sqlite_" }

// define takes in that a statement changes the definition of a table or view.
func (s *session) define(database, name string) {
	own := database == "temp"
	switch {
	case s.preparing == nil && own:
		s.alterTemp()
	case s.preparing == nil:
		s.alter()
	case own:
		s.preparing.altersOwn = true
	default:
		s.preparing.alters = true
	}
	s.sweep(tokens.Table(qualified(database, name)))
}

func (s *session) sweep(id tokens.ID) {
	if s.preparing != nil {
		s.preparing.sweeps = append(s.preparing.sweeps, id)
		return
	}
	s.rec.Add(id)
}

// lookup is nil for a table that nothing certain is known of.
func (s *session) lookup(database, name string) *table {
	if s.read != s.db.generation.Load() || s.db.changing.Load() > 0 {
		return nil
	}
	known := s.schemas[database]
	if known == nil {
		return nil
	}
	return known.tables[name]
}

// preUpdate is SQLite's pre-update hook: a row is about to change.
func (s *session) preUpdate(_ *libc.TLS, _, _ uintptr, op int32, database, name uintptr, oldRowID, newRowID int64) {
	t := s.last
	if t == nil || !is(name, s.lastName) || !is(database, s.lastDatabase) {
		s.lastDatabase, s.lastName = libc.GoString(database), libc.GoString(name)
		t = s.lookup(s.lastDatabase, s.lastName)
		if t == nil || t.kind != ordinary || t.columns != int(sqlite3.Xsqlite3_preupdate_count(s.tls, s.handle)) {
			s.last = nil
			s.surprise(s.lastDatabase, s.lastName)
			return
		}
		s.last, s.rows = t, 0
	}
	if s.rows > tokens.MaxRowsPerTable {
		return
	}
	s.rows++
	switch {
	case len(t.key) == 0 || s.rows > tokens.MaxRowsPerTable:
		s.rows = tokens.MaxRowsPerTable + 1
		s.rec.Add(t.all)
	case t.rowID:
		if op != sqlite3.SQLITE_INSERT {
			s.rec.Add(tokens.ID{Table: t.all.Table, Row: strconv.FormatInt(oldRowID, 10)})
		}
		if op == sqlite3.SQLITE_INSERT || op == sqlite3.SQLITE_UPDATE && newRowID != oldRowID {
			s.rec.Add(tokens.ID{Table: t.all.Table, Row: strconv.FormatInt(newRowID, 10)})
		}
	default:
		if op != sqlite3.SQLITE_INSERT {
			s.addKey(t, sqlite3.Xsqlite3_preupdate_old)
		}
		if op != sqlite3.SQLITE_DELETE {
			s.addKey(t, sqlite3.Xsqlite3_preupdate_new)
		}
	}
}

// is compares a C string with a Go string.
func is(c uintptr, s string) bool {
	p := *(*unsafe.Pointer)(unsafe.Pointer(&c))
	if p == nil {
		return s == ""
	}
	for i := range len(s) {
		if *(*byte)(unsafe.Add(p, i)) != s[i] {
			return false // at the latest at the NUL that ends c
		}
	}
	return *(*byte)(unsafe.Add(p, len(s))) == 0
}

// surprise sweeps a table that is not as it is known, and has the schemas read again, unless that
// has not helped before.
func (s *session) surprise(database, name string) {
	s.rec.Add(tokens.Table(qualified(database, name)))
	if s.read != s.db.generation.Load() || s.db.changing.Load() > 0 {
		return
	}
	const enough = 3
	if key := database + "." + name; s.surprises[key] < enough {
		s.surprises[key]++
		s.db.generation.Add(1)
	}
}
