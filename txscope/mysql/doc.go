// Package mysql captures the writes to MySQL and MariaDB databases through
// github.com/go-sql-driver/mysql, which it imports. Import it for its effect:
//
//	import _ "github.com/alkey-go/alkey/txscope/mysql"
//
//	db, err := txscope.Open("mysql", "user:password@/app", store)
//
// It is tested on MariaDB 10.11, and written for MySQL 8 by its documentation.
//
// # What is seen
//
// These servers tell nobody which rows a statement has changed. So the text of each statement is
// analysed, once, together with what is known of the schema: foreign keys and their actions, the bodies
// of triggers and routines, the definitions of views. What a statement writes besides the table that it
// names sweeps the tables in question. What is not understood, or may do anything, sweeps everything:
// EXECUTE of text, CALL of a procedure that commits or whose source cannot be read, XA.
//
// The rows of a statement that writes one table are known
//
//   - beforehand, where the text or its arguments name them: integers against a key of integers, by = or
//     IN in the WHERE, or among the values of an INSERT; there also UUIDs, bytes and text that the server
//     keeps as they are sent;
//   - by LastInsertId, where the database numbers them;
//   - on MariaDB by RETURNING, which is appended to INSERT and DELETE;
//   - by SELECT … FOR UPDATE before an UPDATE, or a DELETE on MySQL, with the statement's own WHERE. It
//     counts if the WHERE depends on the rows only (no subquery, clock, variable or LIMIT), and if the
//     statement has then matched as many rows as were locked;
//   - by SELECT after an ON DUPLICATE KEY UPDATE.
//
// Else the table is swept: without a primary key, or with one of DECIMAL, floating point, dates, BIT or
// JSON; if the key is assigned; for UPDATE and DELETE of several tables, LOAD DATA and TRUNCATE; for REPLACE
// and ON DUPLICATE KEY UPDATE with unique keys besides the primary one, since these can change rows of
// other keys; if a trigger, view or cascade reaches the table itself; and for more than
// tokens.MaxRowsPerTable rows. txscope.Stats tells why.
//
// A statement outside of any transaction whose rows are not known beforehand runs in a transaction of its
// own. Under LOCK TABLES, which a transaction would end, and with autocommit off nothing is given one.
//
// ROW_COUNT(), FOUND_ROWS(), @@warning_count and SHOW WARNINGS tell of the capture's own query where it asks
// for keys by RETURNING or after a statement, as with ON DUPLICATE KEY UPDATE, an UPDATE of several keys that
// are not all there, and Touch; outside of a transaction they tell of its COMMIT. The first statement of a
// connection that needs its settings is preceded by a SELECT of them. Use RowsAffected. LAST_INSERT_ID() is
// not touched.
//
// While a MERGE table exists, every write to a MyISAM table changes everything.
//
// A write to a table changes no key of the views over it, so keys of what is read
// from those must name the tables that it is in.
//
// # Keys
//
// The identifier of a row has its key as the database holds it. With a collation in which 'abc' is 'ABC'
// the row is the one that was stored, however it was asked for. Integers are decimal. CHAR, VARCHAR, TEXT,
// ENUM and SET are their text as it is read, BINARY and VARBINARY their bytes, MariaDB's UUID 36 characters
// in lower case. Text that reads as an integer or as a UUID counts in its plain spelling too, as a model
// with such a field has it, and so does a UUID in 16 bytes.
//
// The tables of the database that the first connection begins in, which is that of the DSN, are written
// bare, those of others with its name: "archive.users". USE is followed.
//
// # Transactions
//
// Whether a transaction is open the server tells with each answer, so one that it has rolled back by
// itself, after a deadlock say, is known to be over, and what is written after that counts as written
// outside of it. Statements that commit implicitly, such as changes of the schema, are fenced before they
// run. Tables without transactions, as those of MyISAM, are fenced before each statement and published
// after it, whatever becomes of the transaction around it.
//
// What is written through Conn.Bare is not seen: it sweeps everything.
//
// # The schema
//
// The schema is read from information_schema by the first statement, after each change of it that any
// connection of the database makes, and when it is older than txscope.MaxSchemaAge. For all there is to be
// seen the user of the database needs, on the databases that it writes to, besides SELECT:
//
//   - TRIGGER. Without it triggers are hidden, and every write sweeps everything;
//   - EXECUTE and SHOW VIEW, if triggers and views call routines;
//   - the right to read the source of routines that other users have defined: SHOW_ROUTINE on MySQL, SELECT
//     on mysql.proc on MariaDB. Without it whoever calls them sweeps everything.
//
// Where the user has no more than SELECT on a database, the foreign keys of its tables are asked for one by
// one. If they are more than 200, any DELETE or UPDATE is taken to change everything: TRIGGER on that
// database shows them at once. A table of a database that the user cannot see is not known to reference
// another.
//
// # What is not seen
//
// Writes by others: programs that do not use this package, the event scheduler, replication. The values of
// sequences. INSERT DELAYED is published when it is accepted, which is before the row is there.
//
// The driver keeps to itself what the capture must know of a connection, so it depends on the driver's
// version: a connection of a version that is not known is refused.
package mysql
