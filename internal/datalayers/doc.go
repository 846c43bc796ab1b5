// Package datalayers has no code, only tests: data layers as their users know them, over databases
// that txscope.Wrap captures. They are a module of their own so that no data layer is a dependency
// of alkey.
//
// A test gives the layer the *sql.DB of the wrapped connector and nothing else; all below that line
// is what a program without alkey would have. What each step changed is checked by the tokens of
// every row and table, and by comparing the tables themselves, read on a bare connection.
package datalayers
