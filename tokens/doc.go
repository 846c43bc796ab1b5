// Package tokens is the heart of alkey: identifiers of what can change, and the protocol by which
// everyone who reads a cache learns that it has changed.
//
// # Words
//
// An identifier ([ID]) names what can change: a row "alkey:users#1", a table "alkey:users#*",
// everything "alkey:*#*". The store holds a record for each, with a stamp ([Stamp]) and the fences
// of the writers that are about to change it. What a reader sees of one argument is its token
// ([Token]): the largest stamp among the records that the argument depends on. A value stored under
// a token is current exactly as long as the token is.
//
//	argument     depends on                   write                   changes
//	users#1      users#1, users#!, *#!        row 1 of users          users#1, users#*, *#*
//	users#*      users#*, *#!                 unknown rows of users   users#!, users#*, *#*
//	*#*          *#*, *#!                     unknown tables          *#!, *#*
//
// The sweeps users#! and *#! are internal: all rows of a table at once, all rows of all tables.
// Stamps come from one clock and each is larger than all before, so the largest among several
// changes exactly when one of them does.
//
// # A write transaction
//
//  1. Statements run; what they change is collected. Nothing is sent to the store.
//  2. Fence, last thing before COMMIT: one round trip puts owner@deadline on every record that will
//     change. A missing record is created with stamp 0: fenced, and no token of anybody's.
//  3. COMMIT in the database. The fence is renewed every second while it runs, and set again first
//     if it is older than half the lease when COMMIT is to be sent.
//  4. Committed: publish. One round trip gives all changed records one new stamp and lifts the
//     owner's fences; a record with stamp 0 and no fence left is deleted, and none is created, for
//     the store holds what is read and not what is written.
//     Certainly rolled back: release lifts the fences and changes no stamp.
//     Unknown, as when the connection is lost in COMMIT: the fence is renewed once more and left to
//     run out.
//
// Publish and release are not cut short when a request is cancelled, and all operations can run
// twice and late: client libraries repeat a script whose reply was lost.
//
// A read-only transaction costs nothing, nor does one rolled back before step 2.
//
// # A read
//
//  1. When a request begins, its watermark is the largest stamp that the process has seen of the
//     store ([Store.Seen]). No I/O.
//  2. When it asks for keys, all records are read in one round trip. A record that is missing, or
//     bare of stamp and fence, or not understood, gets a new stamp (it is minted). One with a live
//     fence is not usable. A fence past its deadline has lost its owner: it is dropped, and the
//     record gets a new stamp.
//  3. The guard: with a token larger than the watermark the request may have loaded its data before
//     that change. It may use what others have stored under the token, and must not store.
//
// Deadlines are judged by the store's time only. A reader asks the store about one as soon as its
// own clock, or the largest stamp given out, is past it. To ask too early costs a round trip. To ask
// too late, as a host with a slow clock does while nobody is given a stamp, costs loads from the
// database: the record stays fenced. Neither can make a value wrong.
//
// # What happens at a crash
//
// A writer dies after each step; a reader comes later. "Bypass" is a key that is not usable: the
// reader loads from the database and stores nothing.
//
//	the writer dies           database   store                until the lease ends  after it
//	before the fence          old        untouched            hits, old: right      the same
//	in the fence              old        fenced, or not       bypass, or hits       new stamp, misses once
//	after the fence           old        fenced               bypass                new stamp, misses once
//	in COMMIT                 old or new fenced               bypass                new stamp, misses once
//	after COMMIT              new        fenced               bypass                new stamp, misses once
//	in publish                new        fenced, or stamped   bypass, or misses     new stamp, misses once
//	after publish             new        stamped              misses once           the same
//	after ROLLBACK            old        fenced               bypass                new stamp, misses once
//	in or after release       old        fenced, or lifted    bypass, or hits       new stamp, or hits
//
// In no row does a reader find an old value under a usable token after the commit: either the
// token is new, or the fence is there. Leave out the fence, the guard or the owner in the fence
// and an interleaving of a dozen steps breaks this; the package's tests explore all of them.
//
// # Records in Redis
//
// The key is a prefix ("alkey.cache.TOKENS:") and the identifier, the value a string: the stamp in
// decimal, followed by !<owner>@<deadline> for every fence. A fenced record has no time to live;
// publish and release give it the time to live again. Sweeps never have one. The clock is a plain
// integer under the prefix and "clock": a clock that is missing starts a minute ahead of all that
// is known, and sweeps everything. A value of any other form counts as missing, so an older
// program that puts its own strings there changes keys as it should.
//
// Use a server, or at least a database of it, with the eviction policy noeviction or volatile-*.
package tokens
