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
// bytes. So these fields of a model identify the row that they were read from: integers; strings,
// []byte and types made of them, if they hold what the database does; UUIDs, which the database can
// hold as text of any form or as 16 bytes; types with a Value method, if it gives what the database
// holds; and several of these together for a composite key, in the order of PRIMARY KEY (…). A
// boolean is 0 or 1.
//
// With txscope.Touch a write to a row changes its parents too, those that its foreign keys name before
// the write and after it. The keys count as they are declared, whether SQLite enforces them or not. A
// key is spelled as the parent has it: 7 for '7' where the parent's key is an integer. Where that
// cannot be told (another collation than BINARY, a float), and where the foreign key references other
// columns than the primary key, the parent's table is swept. Parents of parents, with
// txscope.TouchAncestors, are read just before COMMIT; what commits by itself sweeps their tables. A
// write to a table that the transaction has made or altered itself sweeps everything, for its
// foreign keys are not known yet. Temporary tables touch nobody.
//
// A write to a view, which INSTEAD OF triggers carry out, sweeps the view too. But a write to a table
// changes no key of the views over it, so keys of what is read from a view must name the tables that
// it reads.
//
// Transactions are followed however they are begun and ended: by the API, by text, by savepoints, by
// SQLite itself after an error. What is done through Conn.Bare is seen as well. Only what replaces a
// whole database at once (Deserialize, and Restore of a backup) is not: follow it with
// tokens.Bump(ctx, store, tokens.Global).
//
// Rows that are left open hold a snapshot of the database. What is read meanwhile on the same
// connection is as old as they are, and is stored for others only if nothing has changed it since.
//
// A schema that another process changes is noticed as SQLite notices it, by the schema cookie.
//
// The authorizer and the commit, rollback and pre-update hooks of a connection belong to the capture.
// A connection that has its own when it is opened, set by a connection hook, is refused.
package sqlite

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"
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
func (capture) Database(setup txscope.Setup) txscope.Database {
	db := &database{warn: setup.Warn, touch: setup.Touch, files: make(map[string]*schema)}
	db.generation.Store(1)
	return db
}

// database is what connections know together: the schemas of the files. What is known counts while
// nobody changes a schema, and until somebody has.
type database struct {
	warn       func(string, error)
	touch      *txscope.TouchRules
	generation atomic.Int64 // goes up with every change of a schema
	changing   atomic.Int32 // transactions that have changed a schema and are not over

	mu    sync.Mutex
	files map[string]*schema
}

func (db *database) cached(file string, generation int64, cookie int32) *schema {
	db.mu.Lock()
	defer db.mu.Unlock()
	if s := db.files[file]; s != nil && s.generation == generation && s.cookie == cookie {
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
	s := &session{db: db, rec: rec}
	var err error
	if s.tls, s.field, err = handleOf(conn); err != nil {
		return nil, err
	}
	s.conn = conn.(driver.QueryerContext)
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
	if db.touch.Any() && db.touch.Ancestors() {
		return ancestralSession{s}, nil
	}
	return s, nil
}

// handleOf reaches for the SQLite handle of a connection, which the driver keeps to itself, where it
// keeps it: it is 0 once the connection is closed. Whether a transaction is open, and the bytes of a
// text with a NUL in it, can be learned by no other means; and the driver's own way to the authorizer
// makes four strings of every column that a query reads.
func handleOf(conn driver.Conn) (*libc.TLS, *uintptr, error) {
	v := reflect.ValueOf(conn)
	if v.Kind() != reflect.Pointer || v.Elem().Type().PkgPath() != reflect.TypeFor[sqlite.Driver]().PkgPath() {
		return nil, nil, fmt.Errorf("alkey: a connection of type %T hides that of modernc.org/sqlite: what wraps connections, for telemetry say, goes around the connector that txscope.Wrap returns, not into the one that Wrap is given", conn)
	}
	unknown := fmt.Errorf("alkey: this version of modernc.org/sqlite, with connections of type %T, is not known to the capture: use the one that alkey's go.mod names", conn)
	if _, ok := conn.(driver.QueryerContext); !ok || v.Elem().Kind() != reflect.Struct {
		return nil, nil, unknown
	}
	db, tls := v.Elem().FieldByName("db"), v.Elem().FieldByName("tls")
	if !db.IsValid() || db.Kind() != reflect.Uintptr || db.Uint() == 0 || !tls.IsValid() || tls.Type() != reflect.TypeFor[*libc.TLS]() {
		return nil, nil, unknown
	}
	return (*libc.TLS)(tls.UnsafePointer()), (*uintptr)(db.Addr().UnsafePointer()), nil
}

// session watches one connection.
type session struct {
	db        *database
	rec       txscope.Recorder
	conn      driver.QueryerContext
	tls       *libc.TLS
	field     *uintptr // where the driver keeps the handle
	closed    bool
	callbacks callbacks

	schemas   map[string]*schema // by the name of the database on this connection
	read      int64              // the generation of schemas; 0 if they must be read
	failed    int64              // the generation at which they could not be read
	staleTemp bool
	altering  bool // the transaction has changed a schema

	// The text that was read last, and what it does to transactions: most come again at once.
	lastText    string
	lastControl txscope.Control

	preparing  *memo // of the statement that is being prepared, and does not run
	running    *memo // of the prepared statement that runs
	followed   bool  // the wrapper knows what the statement does to savepoints
	committing bool  // SQLite has begun to commit, and not rolled back since
	doubtful   bool  // it has rolled back what it had begun to commit

	// The table that the statement wrote last, and how many of its rows.
	last                   *table
	lastDatabase, lastName uintptr // where SQLite keeps the names
	rows                   int
	swept                  bool        // nothing more is to be known of its rows
	ids                    []tokens.ID // of one row; kept for its memory

	targets []target // what the statement writes to, if it is run at once
	// deaf says that the pre-update hook is off for the rest of the statement, which writes to nothing
	// but a table that was swept: SQLite takes half as long for a row then.
	deaf bool

	awaited map[tokens.ID]awaited // parents that were touched and whose own are not yet
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

// handle is the *sqlite3 of the connection. It is 0 if that is closed, which the user can do by way
// of the bare connection: SQLite must not be called then.
func (s *session) handle() uintptr {
	if s.closed {
		return 0
	}
	return *s.field
}

// sqlite3At views SQLite's own state of a connection.
func sqlite3At(handle uintptr) *sqlite3.Tsqlite3 {
	return *(**sqlite3.Tsqlite3)(unsafe.Pointer(&handle))
}

func (s *session) register() bool {
	db := s.handle()
	if db == 0 {
		return false
	}
	sqlite3.Xsqlite3_preupdate_hook(s.tls, db, address(&s.callbacks.preUpdate), 0)
	sqlite3.Xsqlite3_commit_hook(s.tls, db, address(&s.callbacks.commit), 0)
	sqlite3.Xsqlite3_rollback_hook(s.tls, db, address(&s.callbacks.rollback), 0)
	return sqlite3.Xsqlite3_set_authorizer(s.tls, db, address(&s.callbacks.authorize), 0) == sqlite3.SQLITE_OK
}

// occupied reports whether somebody watches the connection already.
func (s *session) occupied() bool {
	db := sqlite3At(s.handle())
	return db.FxAuth != 0 || db.FxCommitCallback != 0 || db.FxRollbackCallback != 0 || db.FxPreUpdateCallback != 0
}

// Reading is part of txscope.SnapshotSession.
func (s *session) Reading() bool {
	db := s.handle()
	return db != 0 && sqlite3At(db).FnVdbeActive > 0
}

// cookie is the schema cookie of a database of the connection, as SQLite knows it: at the start of
// a statement it compares it with that in the file. It is false if there is no such database.
func (s *session) cookie(database string) (int32, bool) {
	handle := s.handle()
	if handle == 0 {
		return 0, false
	}
	db := sqlite3At(handle)
	all := unsafe.Slice(*(**sqlite3.TDb)(unsafe.Pointer(&db.FaDb)), int(db.FnDb))
	for i := range all {
		// The first is main, whatever it is called.
		if (i == 0 && database == "main" || is(all[i].FzDbSName, database)) && all[i].FpSchema != 0 {
			return (*(**sqlite3.TSchema)(unsafe.Pointer(&all[i].FpSchema))).Fschema_cookie, true
		}
	}
	return 0, false
}

// memo is what a prepared statement is remembered by: what it does that no hook reports when it
// runs. SQLite prepares it anew when the schema has changed: what it says then is added.
type memo struct {
	targets   []target // tables that it writes to
	writes    []target // those of which the hook may not tell
	sweeps    []sweep
	alters    bool // a schema
	altersOwn bool // that of temp
	attaches  bool
}

type target struct{ database, table string }

// sweep is of a table, or of all.
type sweep struct {
	id  tokens.ID
	why string
}

// Why tables are swept, for those who read the statistics.
const (
	whyNoKey       = "no primary key"
	whyKeyType     = "a primary key of a type that Go reads as a time"
	whyKeyValue    = "a primary key whose value has no exact text: a float, or NULL"
	whyKeySpelling = "a primary key that Go can spell in too many ways"
	whyManyRows    = "too many rows in one transaction"
	whyVirtual     = "a virtual table"
	whyView        = "written to through a view"
	whyInternal    = "a table of SQLite's own"
	whyDefinition  = "its definition was changed"
	whyRenamed     = "a table was renamed"
	whySchema      = "the schema was being changed"
	whyUnread      = "the schema had not been read, or had changed since"
	whyUnreadable  = "the schema could not be read"
	whyUnknown     = "not in the schema that is known"
)

// Control is part of txscope.Session.
func (s *session) Control(query string) txscope.Control {
	switch {
	case query == s.lastText:
	case len(query) > maxLastText:
		return control(query)
	default:
		s.lastText, s.lastControl = query, control(query)
	}
	return s.lastControl
}

// maxLastText bounds what a connection that is not in use keeps of texts.
const maxLastText = 4 << 10

// Prepare is part of txscope.Session.
func (s *session) Prepare(_ string, prepare func() error) (any, error) {
	m := new(memo)
	s.preparing = m
	err := prepare()
	s.preparing = nil
	return m, err
}

// Idle is part of txscope.Session. The schema is read between transactions only: reading takes a
// snapshot, which would make a transaction's first write fail where it waits for a lock otherwise.
func (s *session) Idle(ctx context.Context) {
	s.committing, s.doubtful = false, false
	generation := s.db.generation.Load()
	if s.handle() == 0 || s.read == generation && !s.staleTemp || s.failed == generation || s.db.changing.Load() > 0 {
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
			cookie, _ := s.cookie(a.name)
			if shared := s.db.cached(a.file, generation, cookie); shared != nil {
				schemas[a.name] = shared
				continue
			}
		}
		read := &schema{generation: generation}
		if read.tables, err = readSchema(ctx, s.conn, a.name, s.db.touch, func() { read.cookie, _ = s.cookie(a.name) }); err != nil {
			return nil, err
		}
		schemas[a.name] = read
		if a.file != "" && isDefault(a.name) {
			s.db.cache(a.file, read)
		}
	}
	return schemas, nil
}

// Before is part of txscope.Session.
func (s *session) Before(_ context.Context, call *txscope.Call) {
	s.last, s.committing, s.doubtful = nil, false, false
	s.followed = true
	s.targets = s.targets[:0]
	if m, ok := call.Memo.(*memo); ok {
		s.apply(m)
		s.running = m
	}
}

// After is part of txscope.Session.
func (s *session) After(context.Context, *txscope.Call, error) {
	s.listen()
	s.followed, s.running = false, nil
	if s.altering && !s.InTransaction() {
		s.Ended() // of a schema change that sweeps nothing the recorder has heard nothing
	}
}

// apply takes in what a statement is remembered by. What it changes comes first: the recorder may
// find that the transaction before is over, and then what that has altered is.
func (s *session) apply(m *memo) {
	for _, w := range m.writes {
		s.write(w.database, w.table)
	}
	for _, w := range m.sweeps {
		s.rec.Sweep(w.id, w.why)
	}
	if m.alters {
		s.alter()
	}
	if m.altersOwn {
		s.alterTemp()
	}
	if m.attaches {
		s.read = 0
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
	clear(s.awaited)
	if s.altering {
		s.altering = false
		s.db.generation.Add(1)
		s.db.changing.Add(-1)
	}
}

// InTransaction is part of txscope.Session.
func (s *session) InTransaction() bool {
	db := s.handle()
	return db != 0 && sqlite3.Xsqlite3_get_autocommit(s.tls, db) == 0
}

// Judge is part of txscope.Session. SQLite calls its hooks for every commit and every rollback. In
// doubt is only what it rolls back after it has called the hook for the commit: with several
// databases attached, one can have been committed by then, for all to see, when another fails. What
// makes a commit fail otherwise, as a lock or a constraint, is found out before.
func (s *session) Judge(error) txscope.Verdict {
	switch {
	case s.InTransaction():
		return txscope.VerdictOngoing
	case s.doubtful:
		return txscope.VerdictUnknown
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
	if !s.InTransaction() {
		s.Ended()
	}
}

// Close is part of txscope.Session. SQLite must not be left with the addresses of callbacks.
func (s *session) Close() {
	if db := s.handle(); db != 0 {
		sqlite3.Xsqlite3_preupdate_hook(s.tls, db, 0, 0)
		sqlite3.Xsqlite3_commit_hook(s.tls, db, 0, 0)
		sqlite3.Xsqlite3_rollback_hook(s.tls, db, 0, 0)
		sqlite3.Xsqlite3_set_authorizer(s.tls, db, 0, 0)
	}
	s.closed = true
}

// commit is SQLite's commit hook.
func (s *session) commit(*libc.TLS, uintptr) int32 {
	s.last = nil
	s.sweepAbove()
	if err := s.rec.Committing(); err != nil {
		return 1
	}
	s.committing, s.doubtful = true, false
	return 0
}

// rollback is SQLite's rollback hook.
func (s *session) rollback(*libc.TLS, uintptr) {
	s.last = nil
	if s.committing {
		s.committing, s.doubtful = false, true
		return
	}
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
		s.last = nil // it may be another table by now
		s.listen()
		w := target{libc.GoString(database), libc.GoString(arg1)}
		s.note(w)
		s.write(w.database, w.table)
	case sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_VTABLE, sqlite3.SQLITE_CREATE_VIEW, sqlite3.SQLITE_DROP_VIEW:
		s.define(libc.GoString(database), libc.GoString(arg1))
	case sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_DROP_VTABLE:
		s.redefine(libc.GoString(database), libc.GoString(arg1))
	case sqlite3.SQLITE_CREATE_TEMP_TABLE, sqlite3.SQLITE_DROP_TEMP_TABLE, sqlite3.SQLITE_CREATE_TEMP_VIEW, sqlite3.SQLITE_DROP_TEMP_VIEW:
		s.define("temp", libc.GoString(arg1))
	case sqlite3.SQLITE_ALTER_TABLE:
		s.redefine(libc.GoString(arg1), libc.GoString(arg2))
	case sqlite3.SQLITE_FUNCTION:
		if is(arg2, "sqlite_rename_table") {
			s.sweep(tokens.Global, whyRenamed) // the new name is not told
		}
	case sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH:
		if m := s.remembers(); m != nil {
			m.attaches = true
		}
		if s.preparing == nil {
			s.read = 0
		}
	case sqlite3.SQLITE_SAVEPOINT:
		if s.preparing == nil && !s.followed {
			s.rec.Incomplete()
		}
	}
	return sqlite3.SQLITE_OK
}

// remembers is the memo of the statement that the authorizer speaks of, if it has one.
func (s *session) remembers() *memo {
	if s.preparing != nil {
		return s.preparing
	}
	return s.running
}

// note keeps what a statement writes to.
func (s *session) note(w target) {
	all := &s.targets
	if m := s.remembers(); m != nil {
		all = &m.targets
	}
	if !slices.Contains(*all, w) {
		*all = append(*all, w)
	}
}

// write takes in that a statement writes to a table. Only what the pre-update hook does not see is
// of interest.
func (s *session) write(database, name string) {
	switch name {
	case "sqlite_master", "sqlite_schema":
		s.alters(database)
		return
	case "sqlite_temp_master", "sqlite_temp_schema":
		s.alters("temp")
		return
	}
	t, why := s.lookup(database, name)
	switch {
	case t == nil:
	case internal(name):
		why = whyInternal
	case t.kind == virtual:
		why = whyVirtual
	case t.kind == view:
		why = whyView
	default:
		return
	}
	if m, w := s.remembers(), (target{database, name}); m != nil && !slices.Contains(m.writes, w) {
		m.writes = append(m.writes, w)
	}
	if s.preparing == nil {
		s.rec.Sweep(tokens.Table(qualified(database, name)), why)
	}
}

func internal(name string) bool { return len(name) > 7 && name[:7] == "sqlite_" }

// define takes in that a statement changes the definition of a table or view. That is swept first:
// see apply.
func (s *session) define(database, name string) {
	s.sweep(tokens.Table(qualified(database, name)), whyDefinition)
	s.alters(database)
}

// redefine is define for a table that may have rows. Their parents may show them as they were.
func (s *session) redefine(database, name string) {
	if id := tokens.Table(qualified(database, name)); database != "temp" && s.db.touch.Parents(id.Table) {
		// The statement itself may have been noted as a change of the schema already, that it has not
		// made yet.
		if t, _ := s.known(database, name); t == nil {
			s.sweep(tokens.Global, whyParentless)
		} else {
			for _, above := range s.above(t) {
				s.sweep(above.all, whyDefinition)
			}
		}
	}
	s.define(database, name)
}

// alters takes in that a statement changes the schema of a database, if only by an index.
func (s *session) alters(database string) {
	own := database == "temp"
	if m := s.remembers(); m != nil {
		m.alters = m.alters || !own
		m.altersOwn = m.altersOwn || own
	}
	switch {
	case s.preparing != nil:
	case own:
		s.alterTemp()
	default:
		s.alter()
	}
}

func (s *session) sweep(id tokens.ID, why string) {
	if m, w := s.remembers(), (sweep{id, why}); m != nil && !slices.Contains(m.sweeps, w) {
		m.sweeps = append(m.sweeps, w)
	}
	if s.preparing == nil {
		s.rec.Sweep(id, why)
	}
}

// lookup is nil for a table that nothing certain is known of, and tells why.
func (s *session) lookup(database, name string) (*table, string) {
	if s.db.changing.Load() > 0 {
		return nil, whySchema
	}
	return s.known(database, name)
}

// known is lookup by what was last read, if SQLite has seen no other schema since.
func (s *session) known(database, name string) (*table, string) {
	generation := s.db.generation.Load()
	switch {
	case s.failed == generation && s.read != generation:
		return nil, whyUnreadable
	case s.read != generation:
		return nil, whyUnread
	}
	known := s.schemas[database]
	if known == nil {
		return nil, whyUnknown
	}
	if cookie, ok := s.cookie(database); !ok || cookie != known.cookie {
		s.read = 0 // changed by somebody else
		return nil, whyUnread
	}
	if t := known.tables[name]; t != nil {
		return t, ""
	}
	return nil, whyUnknown
}

// preUpdate is SQLite's pre-update hook: a row is about to change.
func (s *session) preUpdate(_ *libc.TLS, _, db uintptr, op int32, database, name uintptr, oldRowID, newRowID int64) {
	// Names that are where others were are those of another schema: with that, SQLite prepares every
	// statement anew, and the authorizer forgets last.
	if s.last == nil || name != s.lastName || database != s.lastDatabase {
		if !s.meet(db, database, name) {
			return
		}
	} else if s.swept {
		return
	}
	s.row(db, op, oldRowID, newRowID)
}

// meet takes in that the statement writes to another table than before. It is false if nothing certain
// is known of that, and it was swept.
func (s *session) meet(db, database, name uintptr) bool {
	in, own := libc.GoString(database), libc.GoString(name)
	t, why := s.lookup(in, own)
	if t == nil || t.kind != ordinary || t.columns != int(sqlite3.Xsqlite3_preupdate_count(s.tls, db)) {
		s.last = nil
		s.unknown(in, own, cmp.Or(why, whyUnread))
		return false
	}
	s.last, s.lastDatabase, s.lastName = t, database, name
	s.rows, s.swept = 0, false
	return true
}

// row adds a row of the table that was met last.
func (s *session) row(db uintptr, op int32, oldRowID, newRowID int64) {
	t := s.last
	if len(t.parents) > 0 {
		s.touch(db, t, op)
	}
	if s.rows > tokens.MaxRowsPerTable {
		return
	}
	s.rows++
	switch {
	case len(t.key) == 0:
		s.sweepRest(t.why)
	case s.rows > tokens.MaxRowsPerTable:
		s.sweepRest(whyManyRows)
	case t.rowID:
		if op != sqlite3.SQLITE_INSERT {
			s.rec.Add(tokens.ID{Table: t.all.Table, Row: strconv.FormatInt(oldRowID, 10)})
		}
		if op == sqlite3.SQLITE_INSERT || op == sqlite3.SQLITE_UPDATE && newRowID != oldRowID {
			s.rec.Add(tokens.ID{Table: t.all.Table, Row: strconv.FormatInt(newRowID, 10)})
		}
	default:
		if op != sqlite3.SQLITE_INSERT {
			s.addKey(db, t, sqlite3.Xsqlite3_preupdate_old)
		}
		if op != sqlite3.SQLITE_DELETE {
			s.addKey(db, t, sqlite3.Xsqlite3_preupdate_new)
		}
	}
}

// sweepRest sweeps the table that was met last. Its further rows are of no interest then, but for
// their parents.
func (s *session) sweepRest(why string) {
	t := s.last
	s.rec.Sweep(t.all, why)
	s.rows = tokens.MaxRowsPerTable + 1
	s.swept = len(t.parents) == 0
	if s.swept && s.followed && s.writesOnly(target{t.database, t.own}) {
		s.deaf = true
		sqlite3.Xsqlite3_preupdate_hook(s.tls, s.handle(), 0, 0)
	}
}

// writesOnly reports whether the statement that runs writes to no table but one. The authorizer was
// told of all, those of triggers and foreign keys' actions included.
func (s *session) writesOnly(one target) bool {
	all := s.targets
	if s.running != nil {
		all = s.running.targets
	}
	return len(all) == 1 && all[0] == one
}

// listen has the pre-update hook called again, before anything else is run.
func (s *session) listen() {
	if !s.deaf {
		return
	}
	s.deaf = false
	if db := s.handle(); db != 0 {
		sqlite3.Xsqlite3_preupdate_hook(s.tls, db, address(&s.callbacks.preUpdate), 0)
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
