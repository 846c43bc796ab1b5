// Package rig does to alkey what happens to programs in production, and checks that no value is stale or dirty.
// It runs real processes: some web processes with the middleware, a database that is opened through
// alkey, and Redis behind a TCP proxy; clients read and write through the web processes over HTTP, while one of
// them, or the database, or Redis, or what is between them, is killed, paused, cut off, filled, emptied,
// promoted or demoted.
//
//	make soak DURATION=10m SEED=7
//
// The faults are chosen at random. The same seed gives the same faults, of the same length, in the same
// order and with the same time between them (Plan); what processes do meanwhile differs.
//
// # What is checked
//
// Every row has a version that grows by one with each change, and the mark of the transaction that made it.
// Before each request its client reads all versions by a connection of its own to the database: the floor. A value
// that comes from the cache and shows a row in an older version is stale. After the answer the client reads them
// again: the ceiling. A value that shows a newer version was shown before its commit, and is dirty; so is one
// with a mark that no committed transaction has left in the table history. That is checked for rows, tables, for a
// table that only grows, and for everything, for values that name a dependency that only their fill knows, and for data that was
// loaded before its value was asked for.
//
// An acknowledged commit is too weak a floor: a writer that is killed acknowledges nothing. When all faults are over
// every process must show what is committed, for all that was ever written: then no publish is lost. Of a
// part of the faults the history of each row goes through porcupine, as that of a register. And after each fault there
// must be hits: who never caches is never stale.
//
// # What is not
//
// Some of what package tokens does not promise is kept out, and some is counted apart:
//
//   - Without Strict, what is committed without a fence can be stale until it is published. Runs without Strict do faults only
//     during which every commit is fenced (Fenced); all faults are for Strict.
//   - A process that is paused for longer than the lease, between sending COMMIT and its outcome. A value that is stale for
//     no other reason counts as Asleep. PostgreSQL refuses such a COMMIT; single statements outside of a transaction, and SQLite,
//     do not.
//   - A process is never cut off together with a server that others do not use.
//   - Two faults at a time. They come one after the other, when the cache is back; but for processes that are killed, and rows
//     that are locked, while commands are late.
//
// # That it can fail
//
// TestOff runs web processes in which one rule of the protocol is left out: the fence, its owner, the guard, the
// store's identity, its health. The rig has to find something stale without each of them.
package rig
