// Package txscope sees the writes of database transactions, and changes the keys of what they have
// written when they commit.
//
// [Open] returns an ordinary *sqlx.DB, and [Wrap] wraps any driver.Connector; every data layer on top
// of them is captured alike. What they make behaves as the bare driver in everything but this:
//
//   - A capture, in a package of its own for each kind of database, tells which rows and tables a
//     transaction changes. Import it beside this package; [Capture] is the seam, for those who write
//     another.
//   - A commit runs under the protocol that package tokens describes. Last thing before COMMIT is sent
//     the changes are fenced in the token store; while it runs the fences are renewed; when it has
//     succeeded the changes are published, and when it was rolled back the fences are released. If
//     nobody knows, they are left to run out. A transaction that has changed nothing costs nothing.
//   - A write outside of a transaction is fenced before SQLite, say, commits it by itself, and
//     published before the call returns that made it: Exec, or Close of the rows.
//   - Transactions are recognised however they are begun and ended: by the API or by text, with
//     savepoints, prepared or not. What a savepoint took back changes no key.
//
// A [Scope] ties this to a request: what its own open transactions have changed is neither served to
// it nor stored by it, and what was rolled back is not stored either. The middleware opens it; use the
// request's context for queries, and for BEGIN.
//
// # When the token store is down
//
// A commit goes ahead after a short wait, and what it changed is published as soon as the store is
// back. With [Strict] it is refused with [ErrFence] instead, and rolled back.
//
// # What stays as it was
//
// Contexts, prepared statements, named arguments, results, errors and their types, the pool's
// statistics, driver.ErrBadConn and driver.ErrSkip. Two things a caller can notice. database/sql's
// Conn.Raw gives a [*Conn], whose Bare method leads to the driver's connection. And with a driver whose
// connections have Queryer but not Execer, Exec refuses arguments of types that only the driver's
// statements accept; modernc.org/sqlite has both.
package txscope
