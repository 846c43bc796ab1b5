// Package oracle compares sqltext with parsers that others wrote: PostgreSQL's own, and one for MySQL.
// It has tests only, and is a module of its own so that those parsers are in nobody's go.mod.
//
// The tests change statements at random, and look at those that the other parser takes. Two variables
// of the environment say how many: ALKEY_ORACLE is how many inputs are tried for each dialect, and
// ALKEY_ORACLE_SEED where the random numbers begin. Without them a run takes a few seconds.
package oracle
