package txscope

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/alkey-go/alkey/tokens"
)

// Capture sees the writes of one kind of database. Its package registers it, as drivers are
// registered with database/sql:
//
//	func init() { txscope.Register("sqlite", capture{}) }
//
// What it must keep to is short. Every change that a commit makes visible is given to the Recorder
// before that commit: to the row where the row is certain, else as a table, else as tokens.Global.
// Too much costs cache hits, too little serves stale data. And a failure of its own never fails
// the user's statement: it is warned of, and what cannot be told exactly is swept. Package
// txscopetest holds a capture to that.
//
// Like the interfaces of database/sql/driver these are the least that every capture has. What
// further captures need can be added beside them as optional interfaces.
type Capture interface {
	// Handles reports whether connections of d are of the capture's kind.
	Handles(d driver.Driver) bool

	// Database makes what the connections of one connector share, such as what is known of the
	// schema.
	Database(s Setup) Database
}

// Setup is what a Database is made with.
type Setup struct {
	// Warn counts a problem of the capture, and logs it once for each text of a message, which says
	// what is lost by it and what to do. Safe for concurrent use.
	Warn func(message string, err error)

	// Lease is how long a fence lasts.
	Lease time.Duration

	// MaxSchemaAge is how long what is known of the schema can be used before the database is asked
	// whether it still holds. A change of the schema that the capture sees counts at once.
	MaxSchemaAge time.Duration

	// Touch tells whose parents change with them.
	Touch *TouchRules
}

// Database is what the connections of one connector share in a capture. It is safe for concurrent
// use.
type Database interface {
	// Session begins to watch a connection, before anything is prepared on it. An error makes the
	// connection unusable: it means that writes could go unseen.
	Session(conn driver.Conn, rec Recorder) (Session, error)
}

// Session watches one connection. The wrapper calls it as database/sql calls a connection: one call
// at a time, from whichever goroutine.
type Session interface {
	// Control reads a text before it is prepared or run: what does it do to transactions? It runs
	// for every text, so it must be quick with those that do nothing.
	Control(query string) Control

	// Prepare is told before a text is prepared, and calls prepare, which does so. What it returns
	// beside prepare's error is kept with the statement, and is Call.Memo whenever that runs.
	Prepare(query string, prepare func() error) (memo any, err error)

	// Idle is called before a statement or a BEGIN that finds no transaction open. It can run
	// queries of its own. ctx is the statement's.
	Idle(ctx context.Context)

	// Before is called before a statement runs.
	Before(ctx context.Context, call *Call)

	// After is called when a statement has run, with its error. Rows may still be unread.
	After(ctx context.Context, call *Call, err error)

	// InTransaction reports whether a transaction is open on the connection, by whatever means it
	// was begun.
	InTransaction() bool

	// Judge tells how the transaction stands after a COMMIT, or a statement that the Recorder was
	// told would commit, has failed with err. It can be asked for a ROLLBACK that failed, too, and
	// with a nil err for a transaction that a text has ended and the Recorder has heard nothing of.
	Judge(err error) Verdict

	// Ended is called when a transaction, or a statement outside of any, is over.
	Ended()

	// Bare is called after the bare connection was handed out, at the first occasion at which it is
	// not in use any more. What was written through it and not seen must be recorded now.
	Bare()

	// Close is called before the connection is closed.
	Close()
}

// SnapshotSession is a Session that knows of snapshots outside of transactions: where rows that are
// left open can keep later statements on the connection from seeing what was committed meanwhile.
// Without it every statement outside of a transaction must see all that was committed before it
// began, as it does where a connection runs one statement at a time.
type SnapshotSession interface {
	Session

	// Reading reports whether a statement that began earlier is not over. It is asked before every
	// statement that finds no transaction open, so it must be quick. In doubt it is true, which costs
	// cache hits.
	Reading() bool
}

// RunningSession is a Session that has a hand in how statements run: it can send another text, ask
// for keys before or after, or give a statement outside of any transaction one of its own.
type RunningSession interface {
	Session

	// Exec is called in place of the driver, between Before and After. run sends the statement as it
	// is; it is called once at most. An error of run's is returned as it is: driver.ErrSkip means that
	// the statement was not sent.
	//
	// A statement in a transaction of its own goes like this: Unsure, BEGIN, the statement, what it
	// changed to the Recorder, Committing, COMMIT. If it is rolled back instead, RolledBack; if COMMIT
	// fails its error is returned, and Judge is asked about it.
	Exec(ctx context.Context, call *Call, run func() (driver.Result, error)) (driver.Result, error)

	// Query is Exec for rows. Rows that end a transaction of their own do so when Next has nothing
	// more to give, or when they are closed before. Then Next returns the error of a COMMIT that
	// failed, and Close returns it again.
	Query(ctx context.Context, call *Call, run func() (driver.Rows, error)) (driver.Rows, error)
}

// CommittingSession is a Session that has something to do before a COMMIT: to ask the database what
// was written, say.
type CommittingSession interface {
	Session

	// BeforeCommit is called before the wrapper fences and sends the COMMIT of a transaction that was
	// begun by the API or by text. What it finds goes to the Recorder. An error is what COMMIT would
	// have failed with: the transaction is rolled back, and the user gets that error. A failure of the
	// session's own is none; it sweeps instead.
	BeforeCommit(ctx context.Context) error
}

// BeginningSession is a Session of a database whose BEGIN commits the transaction that is open.
type BeginningSession interface {
	Session

	// BeforeBegin is called before a BEGIN by the API where a transaction is open. It announces to the
	// Recorder that this commits; with an error BEGIN is not sent.
	BeforeBegin(ctx context.Context) error
}

// Recorder takes what a Session sees. Its methods are called while a method of the connection runs,
// from the same goroutine; in the middle of a statement, if the session can, since a row that the
// statement returns can be read by others in the request before it ends.
type Recorder interface {
	// Add notes that the running statement changes a row.
	Add(row tokens.ID)

	// Sweep notes that the running statement changes rows that are not known: of a table, or
	// anything with tokens.Global. why is for the people who read Stats: a few words without
	// anything of the statement's values, "no primary key" say.
	Sweep(table tokens.ID, why string)

	// Widen is Sweep for a statement that is announced already, and may change more than was said then.
	// Call Committing again, or Missed, for it to be fenced too.
	Widen(table tokens.ID, why string)

	// Unsure notes that the running transaction may have changed what is not known yet: until it is
	// over nothing counts as unchanged to its own request, and if it does not commit the request
	// stores nothing any more. What it did change must be added before the commit.
	Unsure()

	// Apart notes changes that become visible by themselves while a transaction goes on, and that
	// its rollback does not take back: those of tables without transactions. They are fenced
	// when it returns, and published by done, which must be called, or left to their lease where it is not
	// certain that the database is done with them. With an error the statement must not be run.
	Apart(changes *tokens.Changes, why string) (done func(certain bool), err error)

	// Incomplete notes that the running transaction has done what the session could not follow, as
	// a savepoint set behind its back. Nothing that is recorded is forgotten from then on, before
	// the transaction ends, and nothing is stored that could have been seen in it.
	Incomplete()

	// Committing announces that what was added is about to be committed by the database itself: a
	// statement outside of a transaction, or one that commits implicitly. It must be called before
	// that can happen; it puts the fences up. With an error the commit must be prevented; a session that
	// cannot do so calls Missed when it has happened. For a COMMIT that the wrapper sends itself it does
	// nothing more. Of a commit that is announced between two statements, Judge tells what became of it.
	Committing() error

	// Missed is Committing where it is too late for that: a statement that may have committed what was
	// added was sent without an announcement. Nothing can be refused any more, so there is no error, with
	// Strict either. What became of it is told as of what was announced: it has been committed if the
	// call that runs returns no error, else Judge tells.
	Missed()

	// Committed notes that what was announced has been committed, for certain, and that the call goes
	// on with something else.
	Committed()

	// Ongoing notes that what was announced has not come about: the statement is over, and the
	// transaction that it was to commit goes on.
	Ongoing()

	// RolledBack notes that the database has rolled the transaction back, for certain, also if its
	// commit was announced.
	RolledBack()
}

// Call is one statement about to run, or run. It is valid during the call only.
type Call struct {
	Query string // the text; of a prepared statement too
	Args  []driver.NamedValue
	Memo  any // what Prepare returned; nil for a text that is run at once
}

// Control is what a text does to transactions.
type Control struct {
	Kind Kind
	Name string // of the savepoint
}

// Kind is a kind of Control.
type Kind int

// The kinds. A statement that commits as a side effect is none of these: the session announces
// it to the Recorder.
const (
	KindNone       Kind = iota // nothing
	KindBegin                  // BEGIN, START TRANSACTION
	KindCommit                 // COMMIT, END
	KindRollback               // ROLLBACK of the transaction
	KindSavepoint              // SAVEPOINT; outside a transaction it may begin one
	KindRelease                // RELEASE; it may commit a transaction that a savepoint began
	KindRollbackTo             // ROLLBACK TO
	KindMixed                  // several statements, not all of them None, or what cannot be told
)

// Verdict is how a transaction stands.
type Verdict int

// The verdicts. In doubt it is Unknown: what is taken for rolled back and was committed is served
// stale, while the reverse costs some cache hits.
const (
	VerdictOngoing    Verdict = iota // still open; it can be committed later
	VerdictCommitted                 // for certain
	VerdictRolledBack                // for certain
	VerdictUnknown                   // the connection was lost, say
)

func (v Verdict) outcome() tokens.Outcome {
	switch v {
	case VerdictCommitted:
		return tokens.Committed
	case VerdictRolledBack:
		return tokens.RolledBack
	default:
		return tokens.Unknown
	}
}
