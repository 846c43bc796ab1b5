package rig

import "time"

// What the checker and the web processes tell each other.

// WebConfig is what a web process is started with, in the environment variable WebEnv.
type WebConfig struct {
	Name   string        // of the process: of its log lines too
	Redis  string        // the address of the token store's server
	Values string        // and of the values'
	Near   bool          // copies of values are kept in process
	Driver string        // of the database
	DSN    string        //
	Rows   int           // of the table items
	Lease  time.Duration // of fences
	Strict bool          //
	Off    string        // the rule to be switched off; "" for none
	Log    string        // the file for its log lines
}

// WebEnv is the environment variable that makes a web process of a program, and holds its WebConfig.
const WebEnv = "ALKEY_RIG_WEB"

// Cell is one row as somebody has seen it: its version, which grows by one with every change, and the mark
// of the transaction that made it. The row 0 is all of the table notes, and its version their number.
type Cell struct {
	Row     int    `json:"row"`
	Version int64  `json:"version"`
	Mark    string `json:"mark,omitempty"`
}

// Source is where a value came from.
type Source string

// The sources.
const (
	Hit    Source = "hit"    // it was stored
	Shared Source = "shared" // another request was making it
	Made   Source = "made"   // by this request, from the database
)

// Value is one value that a page shows.
type Value struct {
	Key   string `json:"key"` // as it was asked for, tokens included
	From  Source `json:"from"`
	Cells []Cell `json:"cells"`
}

// Page is what a web process answers to a reader.
type Page struct {
	Values []Value `json:"values"`
	Err    string  `json:"err,omitempty"`
}

// Outcome is how a write ended, as its web process sees it.
type Outcome string

// The outcomes.
const (
	Committed  Outcome = "committed"
	RolledBack Outcome = "rolled back" // as was asked for
	Failed     Outcome = "failed"      // with an error, which does not say that nothing was committed
)

// Written is what a web process answers to a writer.
type Written struct {
	Outcome Outcome `json:"outcome"`
	Cells   []Cell  `json:"cells,omitempty"` // what was committed
	Values  []Value `json:"values,omitempty"`
	Err     string  `json:"err,omitempty"`
}
