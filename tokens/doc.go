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
// # What happens when the store is lost
//
// A server that was restarted, empty or from an old snapshot, or promoted without having heard of
// everything, has lost fences and stamps. It is found out before anybody uses what it says:
//
//   - Every new connection compares the server's run_id and replication id with those that the store
//     records, and sweeps if they differ, in one script, before anything else is sent on it. (The replication id
//     of a master that was no replica since it was started says nothing: it changes with its first replica.) What is
//     recorded has the stamp of the sweep: one that is smaller than the largest that this process remembers is a server
//     from before (a fail-back), and is swept too.
//   - Every operation that reads or sets the clock compares it with the largest stamp that this process had
//     seen when the command was sent. A clock that is missing, or behind that, was lost.
//   - A process for which the store was down for a second or longer sweeps when it is back, unless another has
//     done so since. After a shorter time it asks the server once more who it is; one that does not say is swept.
//
// The sweep sets the clock a minute ahead of the largest of the store's stamps, those that the process has
// seen, and the time, and gives everything that stamp: no stamp that was lost is given out again, whatever
// the clocks say, and no token of before is current. It also fences everything for two seconds by the
// server's time. A commit that was under way when its fence was lost is over by then, or has renewed
// the fence, which is done every second.
//
// When a process sweeps, or finds that another has, an epoch of it ends ([Store.Epoch]): requests
// forget the tokens that they have read, operations that are under way are done again, and connections
// that were opened before are not used again, since they may lead to another server.
//
// So a server that is only new costs a cold cache and two seconds, and one that went back in time costs no
// stale hit.
//
//	fault                                    found by                         then
//	restarted, empty or from a snapshot      the new connection: run_id       sweep
//	fail-over, to a replica that lagged      the new connection: both         sweep
//	the old master is used again             the stamp in its identity        sweep
//	FLUSHALL, the clock deleted or set back  the next read, mint or publish   sweep
//	the master was made a replica            the next read is refused         bypass, then a sweep (1)
//	full, cannot persist, too few replicas   the next read is refused         bypass, then a sweep (1)
//	no answer                                the read's or write's limit      bypass, then a sweep (1)
//	one process is cut off                   the same, in that process        bypass there, then a sweep (1)
//
// (1) If it lasted for a second or longer.
//
// A store that would take no fence is not read: each read carries a write that changes nothing (SETRANGE of no
// bytes on the clock), which only a server that takes writes answers. One of them is refused, and reads fail at
// once from then on ([ErrDown], [ErrRefused]) until a probe in the background has succeeded with both.
//
// While the store is down commits go on, unless txscope.Strict says otherwise. What should have been
// published is kept, and published first thing when the store is back, before this process
// trusts any token; past a bound ([WithMaxWaiting]) it becomes one change of everything. That protects the
// readers of this process, and those of others for whom the store was down too. It does not protect
// those of a process that had the store all the while: what they see of a commit by a writer who
// alone was cut off is as old as before, until the commit is published. Strict refuses such commits.
//
// # What is not found out
//
//   - A server that does not say who it is, because INFO is refused or a proxy answers it: only its clock
//     is looked at, and a warning says so once. A snapshot or a replica whose clock is not behind what
//     the process has seen is taken for the server of before.
//   - A master that is cut off together with one process while the others go on with another. Give it
//     min-replicas-to-write 1.
//   - A proxy that leads connections which stay open to another server; and a master that was made a replica,
//     has taken over another's data and is the master again before this process has read once. Sentinel
//     closes connections when it does that.
//   - A process that starts with a server of before and has not heard of the one in between.
//   - A single record deleted by hand, or evicted: the policies allkeys-* are warned of.
//
// # Many writers of one record
//
// Every transaction under way has a fence of its own on the records that it changes, up to a bound (128, see
// [RedisOptions] and [MemoryOptions]). Those past it share one, which nobody lifts and whose deadline is
// the latest of theirs. It stands at least as long as each of their own would have, so it hides what they
// would have hidden; that it stands longer, a lease at most, costs loads from the database and nothing else.
// When it runs out the record gets a new stamp, as with any fence whose owner has died.
//
// # Records in Redis
//
// The key is a prefix ("alkey.cache.TOKENS:") and the identifier, the value a string: the stamp in
// decimal, followed by !<owner>@<deadline> for every fence. A fenced record has no time to live;
// publish and release give it the time to live again. Sweeps never have one. The clock is a plain
// integer under the prefix and "clock"; "identity" holds the server's run_id, its replication id (0 if it was
// no replica since it was started) and the stamp of the latest sweep, with colons between them. A record of any other form counts as missing,
// so an older program that puts its own strings there changes keys as it should.
//
// Use a server, or at least a database of it, with the eviction policy noeviction or volatile-*.
package tokens
