// Package sqltext reads SQL texts: which tables a text writes, and which rows where it says so
// plainly. It is a lexer and as much of a parser as that takes. What it does not understand may
// write anywhere: it is never short of a table that the text names as written. What no text shows,
// such as triggers, cascades, rules and views, is left to those who know the schema.
package sqltext

import "strings"

// Dialect is a language. Where a server has modes in which a text reads differently, such as MySQL's
// ANSI_QUOTES, a text means all that it means in any of them.
type Dialect uint8

// The dialects.
const (
	Postgres Dialect = iota
	MySQL            // and MariaDB
	SQLite
)

// Text is what a text says. It is never changed after it was made, so it can be shared.
type Text struct {
	// Statements are in the order of the text. Empty ones are left out.
	Statements []Statement
}

// Verb is a kind of statement.
type Verb uint8

// The verbs.
const (
	Unknown  Verb = iota // not understood
	Read                 // SELECT, VALUES, TABLE, SHOW, EXPLAIN of whatever: reads, unless Writes, Calls or Anywhere say more
	Insert               // INSERT
	Replace              // REPLACE; SQLite's INSERT OR REPLACE
	Update               // UPDATE
	Delete               // DELETE
	Merge                // MERGE
	Truncate             // TRUNCATE
	Copy                 // COPY … FROM, LOAD DATA
	Schema               // CREATE, ALTER, DROP, RENAME, COMMENT, GRANT and other DDL
	Call                 // CALL
	Do                   // PostgreSQL's DO
	Execute              // EXECUTE of a statement prepared in SQL
	Control              // begins, ends or divides a transaction: see Statement.Control
	Session              // SET, RESET, LISTEN, NOTIFY, DECLARE, FETCH, PREPARE and others that write no table
	Maintain             // VACUUM, ANALYZE, REINDEX, CLUSTER, CHECKPOINT, OPTIMIZE and others that change no row
)

// ControlKind is what a statement does to transactions.
type ControlKind uint8

// The kinds.
const (
	NoControl    ControlKind = iota
	Begin                    // BEGIN, START TRANSACTION
	Commit                   // COMMIT, END
	Rollback                 // ROLLBACK, ABORT
	Savepoint                // SAVEPOINT
	Release                  // RELEASE [SAVEPOINT]
	RollbackTo               // ROLLBACK TO [SAVEPOINT]
	OtherControl             // COMMIT AND CHAIN, PREPARE TRANSACTION, COMMIT PREPARED, XA and others
)

// Statement is one statement of a text.
type Statement struct {
	Verb Verb
	Span Span // without the semicolon and what surrounds it

	// Writes are the tables that the statement names as written, by whatever part of it: WITH, EXPLAIN
	// ANALYZE, SELECT INTO, multi-table forms. A name can be that of a view.
	Writes []Name

	// Anywhere says that the statement may write what it does not name: CALL, DO, EXECUTE, what is not
	// understood. Why tells why in a few words, for people.
	Anywhere bool
	Why      string

	// Calls are the names that stand before a parenthesis, as those of functions do.
	Calls []Name
	// Reads are the other names that can be those of tables or views; what is read can write too, by
	// functions that a view calls. It can hold names that are none.
	Reads []Name

	// Body is the text of PostgreSQL's DO.
	Body string

	Control   ControlKind
	Savepoint string // its name, folded

	// Alone says that the statement refuses to run in a transaction, or may: VACUUM, CREATE INDEX
	// CONCURRENTLY, CREATE DATABASE. With MySQL, that it commits implicitly.
	Alone bool

	// DML is the form of a statement that writes one table by INSERT, REPLACE, UPDATE or DELETE and
	// does nothing else that writes; nil otherwise.
	DML *DML
}

// DML tells more of a statement that writes one table.
type DML struct {
	Table Name
	Alias string // "" without one
	// Target is the table as the text has it, with ONLY, PARTITION and its alias.
	Target Span

	// INSERT and REPLACE.
	Columns []string    // that are named, folded; nil: those of the table, in order
	Values  [][]Operand // of VALUES, by row; nil for INSERT … SELECT and DEFAULT VALUES
	Ignore  bool        // ON CONFLICT DO NOTHING, INSERT IGNORE
	Upsert  bool        // ON CONFLICT DO UPDATE, ON DUPLICATE KEY UPDATE

	// Assigned are the columns that UPDATE or an upsert assigns, folded.
	Assigned []Assignment

	// Keys are the conditions of the WHERE of UPDATE and DELETE that every row meets: column = operand
	// and column IN (operands), joined with whatever else by AND. Columns are the table's own.
	Keys []Key
	// Where is all that follows the table and its SET and chooses rows: WHERE, with ORDER BY and LIMIT
	// where the dialect has them, the keyword included; empty without any.
	Where Span
	// Cursor says that WHERE CURRENT OF chooses the row.
	Cursor bool
	// Joined says that other tables help to choose the rows: FROM, USING.
	Joined bool
	// With says that a WITH stands before it.
	With bool

	// Returning says that the statement has a RETURNING of its own.
	Returning bool
	// End is where "\nRETURNING …" can be put in so that it counts; -1 where it cannot: there is one
	// already, or the statement's end is not certain.
	End int
}

// Assignment is one assignment of UPDATE or an upsert.
type Assignment struct {
	Column string // folded
	Value  Operand
}

// Key is a condition that chooses rows by a column of the table.
type Key struct {
	Column string // folded
	Values []Operand
}

// OperandKind is a kind of Operand.
type OperandKind uint8

// The kinds.
const (
	Expression OperandKind = iota // anything else
	Argument                      // a placeholder, alone
	Integer                       // an integer literal, with its sign
	String                        // a string literal without escapes other than doubled quotes
	Null
	Default
)

// Operand is a value in a text.
type Operand struct {
	Kind    OperandKind
	Ordinal int    // of an Argument, from 1; PostgreSQL's $n is n, a ? counts from the text's begin
	Int     int64  // of an Integer
	Text    string // of a String
	Span    Span
}

// Span is a part of a text, in bytes.
type Span struct{ From, To int }

// Empty reports whether there is nothing in it.
func (s Span) Empty() bool { return s.From >= s.To }

// Of returns the part of text.
func (s Span) Of(text string) string { return text[s.From:s.To] }

// Name is a name of something in a database, as the database understands it: folded as the dialect
// folds what is not quoted.
type Name struct {
	Qualifier string // schema or database; "" without one
	Name      string
}

// String returns the name with its qualifier.
func (n Name) String() string {
	if n.Qualifier == "" {
		return n.Name
	}
	return n.Qualifier + "." + n.Name
}

// EqualFold reports whether two names are the same but for upper and lower case.
func (n Name) EqualFold(o Name) bool {
	return strings.EqualFold(n.Qualifier, o.Qualifier) && strings.EqualFold(n.Name, o.Name)
}
