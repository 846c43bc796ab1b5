// Package postgres captures the writes to PostgreSQL databases through pgx's driver for database/sql,
// github.com/jackc/pgx/v5/stdlib, which it imports. Import it for its effect:
//
//	import _ "github.com/alkey-go/alkey/txscope/postgres"
//
//	db, err := txscope.Open("pgx", "postgres://localhost/app", store)
//
// Connectors of stdlib.GetConnector and stdlib.GetPoolConnector go to txscope.Wrap.
//
// # What is seen
//
// Tables: everything. Last thing before COMMIT the capture asks the server, in one round trip, which
// tables the transaction holds locks on as writing takes them (pg_locks). By whatever means they were
// written, triggers, foreign keys' actions, rules, views, functions, DO blocks and dynamic SQL included, those
// that are not accounted for row by row are swept. Constraints and triggers that wait for COMMIT are made
// to run before that (SET CONSTRAINTS ALL IMMEDIATE); what they refuse, Commit returns as ever.
//
// Rows: those of a statement that writes one table by INSERT, UPDATE or DELETE, if the catalogue shows
// that nothing else can write that table in the course of it, that no key column is assigned, and that no
// trigger changes the key. They are told
//
//   - by integers and UUIDs in the text or among the arguments, for conditions "key = value" and "key IN
//     (values)" and for VALUES. Of other Go values, text above all, of keys of type oid, and of arguments
//     that stand in the text more than once, what the database makes of them is not certain;
//   - else by the keys that the statement returns: those of its own RETURNING, or of one that the capture
//     adds to it. None is added where the user may not read the key, which the log says once for each table
//     with what to grant, where policies hide rows, and to statements that are run as a query and return
//     nothing.
//
// The server keeps to the table that it has planned a statement for: where another of that name, a temporary
// one say, comes first in the search_path, both may be written, and the judge decides.
//
// Everything else sweeps the table: MERGE, TRUNCATE, COPY, several statements in one text, tables without a
// primary key, with inheritance, with rules, or foreign ones; views sweep what they show, and
// themselves. More than 1,000 rows of a table are all of its rows.
//
// A SELECT is certain to write nothing unless it calls, by itself, by a view or by a policy, a function
// that users of the database have made and that may write: its source says so, or cannot be read. Then
// the judge decides. Functions in C write nothing if they are declared STABLE or IMMUTABLE or belong to
// one of the extensions that are known not to. Those in languages other than SQL, PL/pgSQL and C may write.
//
// # Outside of transactions
//
// A statement whose rows are certain beforehand, by key, and that cannot write anything else, is
// fenced, runs as it is, and is published. Every other that may write runs in a transaction of its
// own. What refuses that (VACUUM, CREATE INDEX CONCURRENTLY, a procedure that commits) runs as it is
// between a fence and a sweep, of all tables if need be. So does a text that begins or ends
// transactions beside other statements, "BEGIN; UPDATE ...; COMMIT" say: it changes all keys, which
// separate statements do not.
//
// The server rolls back a transaction whose COMMIT comes later than half the lease after the judge: the
// capture sets idle_in_transaction_session_timeout for the rest of it, unless it is shorter already.
//
// # Identifiers
//
// Tables of the default schema are written bare, others with their schema: "archive.users". The default
// schema is the first of the search_path that the first connection of the database has, normally public;
// what a connection sets later changes what names in its statements mean, not how tables are written.
// A row of a partition is the row of the table that is partitioned; a statement that names a partition
// sweeps the partition's own identifier. With inheritance a write to a table sweeps its ancestors and
// descendants too.
//
// Keys are written as the database holds them: integers (smallint, int, bigint, oid) in decimal, uuid in
// its 36 characters, text, varchar, "char", name, citext and enums as they are, char(n) with its padding,
// bytea as tokens.Row writes bytes. Domains count as what they are made of. Text that reads as an
// integer or as a UUID counts in its plain spelling too, as a model with such a field has it, and so
// does a UUID in 16 bytes. Keys of all other types, numeric, floating point and times above all, have
// no exact text: their tables are swept.
//
// Temporary tables have no identifiers: nobody else sees them. On a connection that has temporary views,
// what may run the functions in them is left to the judge.
//
// # The schema
//
// Keys, foreign keys, triggers, functions, rules, views, partitions and privileges are read from the
// catalogue once, again after a change that is seen on any connection of the database, and when they
// are older than txscope.MaxSchemaAge and something has changed. Within that age a trigger, a function or
// a foreign key that another program has made or changed may go unnoticed where nobody asks the judge: by
// statements outside of transactions. A table that is new, or has got another's name, is noticed by the judge at once. If
// another program drops, renames or retypes a key column, or takes the right to read it, a statement
// in a transaction to which RETURNING is added can fail until the schema is read again.
//
// In a transaction whose rows are told apart, another program's new trigger is noticed by the judge, a deferred
// one too, if it writes another table. If it writes further rows of the table that the statement writes, it
// goes unnoticed until the schema is read again. And a SELECT that calls a function newly made elsewhere
// is missed until then in transactions that are not judged: those that do nothing else that may write, as
// one outside of any.
//
// # What is not seen
//
// Writes of other programs, and those that functions make through dblink, foreign data wrappers' own
// connections or background workers: follow them with tokens.Bump, or txscope.Changed. Sequences, large
// objects and the catalogue itself have no keys. Functions that are given to pgx
// (stdlib.OptionAfterConnect, stdlib.OptionResetSession) run unseen: the search_path that they set counts,
// what they write does not, nor what temporary views call that they make. Of what is done through Conn.Bare
// the judge sees all that a transaction does that is begun and ended by the wrapped connection; outside
// of one, use of the bare connection changes all keys. A transaction must not be ended and another begun
// through the bare connection in one use of it.
//
// The server must show a session its own locks. Where it does not (no right to read pg_locks, a
// pooler that divides transactions between connections, a database that is only compatible), which is found
// out once and logged, what is not known from a statement alone changes all keys. With a pooler in
// transaction mode configure pgx for it, by default_query_exec_mode=exec or simple_protocol.
package postgres
