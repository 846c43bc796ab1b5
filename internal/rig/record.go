//go:build linux

package rig

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// Read is one page that a reader got.
type Read struct {
	Begin, End time.Duration // since the run began
	Web        int           // number of the process that was asked
	Floor      Floor         // what was committed before it began
	Values     []Value
	Failed     string // what the web process says went wrong
	Err        error  // no answer
}

// Write is one write that a writer has asked for.
type Write struct {
	Begin   time.Duration `json:"begin"`
	End     time.Duration `json:"end"` // 0: no answer
	Web     int           `json:"web"`
	Kind    string        `json:"kind"`
	Mark    string        `json:"mark"`
	Rows    []int         `json:"rows"`
	Outcome Outcome       `json:"outcome"` // "" if there was no answer
	Cells   []Cell        `json:"cells,omitempty"`
	Err     string        `json:"err,omitempty"`
}

// Judgement is what is wrong with a value, or why it is not counted as wrong.
type Judgement string

// The judgements.
const (
	Stale  Judgement = "stale"                           // older than what was committed when the request began
	Dirty  Judgement = "dirty"                           // never committed, or not yet
	Asleep Judgement = "paused in COMMIT past its lease" // stale, by a writer that slept: documented, and counted apart
	Wrong  Judgement = "loaded and older than committed" // the database or the rig is broken
	Bare   Judgement = "committed without a fence"       // by a process that was cut off, with Strict
)

// Finding is a value that should not have been served.
type Finding struct {
	Judgement Judgement     `json:"judgement"`
	At        time.Duration `json:"at"`
	Fault     string        `json:"fault"` // the last that was begun
	Web       int           `json:"web"`
	Begin     time.Duration `json:"begin"`
	End       time.Duration `json:"end"`
	Value     Value         `json:"value"`
	Cell      Cell          `json:"cell"`
	Committed Cell          `json:"committed"` // before the request began; if the value is dirty, after it ended
	Times     int           `json:"times"`     // that the row was served in this version, all but the first not told
}

func (f Finding) String() string {
	return fmt.Sprintf("%s, %d times: at %v web process %d (asked at %v) serves %s (%s) with row %d of version %d (%q), and committed is %d (%q); the fault: %s",
		f.Judgement, f.Times, f.End, f.Web, f.Begin, f.Value.Key, f.Value.From, f.Cell.Row, f.Cell.Version, f.Cell.Mark, f.Committed.Version, f.Committed.Mark, f.Fault)
}

// bucket counts what was read in some time.
type bucket struct{ hits, values int }

const bucketSize = 50 * time.Millisecond

// Op is an operation on one row as a register, for a checker of linearizability.
type Op struct {
	Row        int
	Write      bool
	Version    int64
	Begin, End time.Duration // End 0 of a write: nobody knows
}

// Record is what was seen in a run, and what of it is wrong. Safe for concurrent use.
type Record struct {
	start  time.Time
	first  bool
	enough chan struct{} // closed when nothing more need be found

	hits, shared, made atomic.Int64 // values
	reads, failed      atomic.Int64 // pages, and those without an answer or with an error
	commits, refused   atomic.Int64 // writes, and those that failed

	mu       sync.Mutex
	file     *os.File
	log      *bufio.Writer
	findings []Finding
	buckets  []bucket
	seen     map[Cell]Finding // versions that values have shown, by where first
	writes   map[string]*Write
	known    map[[2]int64]string // the mark of a row's version, as found committed
	last     Floor
	progress [Rows + 1][]progress
	fault    string
	sampling bool
	sample   []Op
	samples  [][]Op
}

// progress says that a version, or a later one, was committed by then.
type progress struct {
	version int64
	by      time.Duration
}

func newRecord(path string, start time.Time, first bool) (*Record, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &Record{
		start: start, first: first, enough: make(chan struct{}), file: file, log: bufio.NewWriterSize(file, 1<<16),
		seen: make(map[Cell]Finding), writes: make(map[string]*Write), known: make(map[[2]int64]string),
	}, nil
}

func (c *Record) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.log.Flush(); err != nil {
		return err
	}
	return c.file.Close()
}

// line writes a line of the log. It needs c.mu.
func (c *Record) line(v any) {
	text, err := json.Marshal(v)
	if err == nil {
		_, _ = c.log.Write(append(text, '\n')) // the error comes with Flush
	}
}

// found needs c.mu.
func (c *Record) found(f Finding) {
	f.Fault, f.Times = c.fault, 1
	for i := range c.findings {
		if have := &c.findings[i]; have.Judgement == f.Judgement && have.Cell == f.Cell {
			have.Times++
			return
		}
	}
	c.findings = append(c.findings, f)
	c.line(f)
	if c.first && f.Judgement == Stale {
		select {
		case <-c.enough:
		default:
			close(c.enough)
		}
	}
}

// entry is a read in the log.
type entry struct {
	Begin  time.Duration `json:"read"`
	End    time.Duration `json:"end"`
	Web    int           `json:"web"`
	Floor  []int64       `json:"floor"`
	Values []Value       `json:"values"`
	Err    string        `json:"err,omitempty"`
}

// read checks a page that was got.
func (c *Record) read(r *Rig, p *Read) {
	c.reads.Add(1)
	e := entry{Begin: p.Begin, End: p.End, Web: p.Web, Values: p.Values, Err: p.Failed}
	for _, cell := range p.Floor {
		e.Floor = append(e.Floor, cell.Version)
	}
	if p.Err != nil {
		e.Err = p.Err.Error()
	}
	if e.Err != "" {
		c.failed.Add(1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.line(e)
	c.learn(&p.Floor, p.Begin)
	b := c.bucket(p.End)
	for _, v := range p.Values {
		b.values++
		switch v.From {
		case Hit:
			b.hits++
			c.hits.Add(1)
		case Shared:
			c.shared.Add(1)
		default:
			c.made.Add(1)
		}
		for _, cell := range v.Cells {
			floor := p.Floor[cell.Row]
			f := Finding{At: r.now(), Web: p.Web, Begin: p.Begin, End: p.End, Value: v, Cell: cell, Committed: floor}
			if _, again := c.seen[cell]; !again {
				c.seen[cell] = f
			}
			if cell.Version < floor.Version {
				f.Judgement = Stale
				if v.From == Made {
					f.Judgement = Wrong
				}
				c.found(f)
			}
			if c.sampling && cell.Row > 0 {
				c.sample = append(c.sample, Op{Row: cell.Row, Version: cell.Version, Begin: p.Begin, End: p.End})
			}
		}
	}
}

// bucket needs c.mu.
func (c *Record) bucket(at time.Duration) *bucket {
	i := int(at / bucketSize)
	for len(c.buckets) <= i {
		c.buckets = append(c.buckets, bucket{})
	}
	return &c.buckets[i]
}

// learn notes what is committed. It needs c.mu.
func (c *Record) learn(f *Floor, by time.Duration) {
	for row := 1; row <= Rows; row++ {
		cell := f[row]
		if cell.Version == c.last[row].Version {
			continue
		}
		c.known[[2]int64{int64(row), cell.Version}] = cell.Mark
		if cell.Version > c.last[row].Version { // readers come here in any order
			c.last[row] = cell
			c.progress[row] = append(c.progress[row], progress{cell.Version, by})
		}
	}
}

// until returns the time by which a version was committed for certain, 0 if that is never. It needs c.mu.
func (c *Record) until(row, version int64) time.Duration {
	list := c.progress[row]
	i := sort.Search(len(list), func(i int) bool { return list[i].version >= version })
	if i == len(list) {
		return 0
	}
	return list[i].by
}

// ceiling checks that a page shows nothing that was not committed when it was there.
func (c *Record) ceiling(p *Read, committed *Floor) {
	if p == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range p.Values {
		for _, cell := range v.Cells {
			if now := committed[cell.Row]; cell.Version > now.Version {
				c.found(Finding{Judgement: Dirty, At: p.End, Web: p.Web, Begin: p.Begin, End: p.End, Value: v, Cell: cell, Committed: now})
			}
		}
	}
}

// writing notes a write that is about to be asked for.
func (c *Record) writing(w *Write) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes[w.Mark] = w
}

func (c *Record) wrote(w *Write, out Written, err error, at time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Outcome, w.Cells, w.Err = out.Outcome, out.Cells, out.Err
	if err != nil {
		w.Err = err.Error()
	} else {
		w.End = at
	}
	if w.Outcome == Committed {
		c.commits.Add(1)
	} else if w.Outcome != RolledBack {
		c.refused.Add(1)
	}
	c.line(map[string]*Write{"write": w})
}

// cutOff checks that nothing was committed that a web process was asked for, and has answered, while it did not reach the
// token store.
func (c *Record) cutOff(web int, while span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.writes {
		if w.Web == web && w.Begin > while.from && w.End > 0 && w.End < while.to && w.Outcome == Committed {
			c.found(Finding{Judgement: Bare, At: w.End, Web: web, Begin: w.Begin, End: w.End, Cell: Cell{Row: w.Rows[0], Mark: w.Mark}})
		}
	}
}

// begin notes that a fault begins. Its history is sampled if sample is set.
func (c *Record) begin(f Fault, at time.Duration, sample bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = string(f.Kind)
	c.sampling = sample
	c.line(map[string]any{"fault": f, "at": at})
}

// note adds a line to the log: a step of a fault.
func (c *Record) note(step string, at time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.line(map[string]any{"step": step, "at": at})
}

// maxSample bounds the operations of a sample.
const maxSample = 30_000

// sampled ends a sample.
func (c *Record) sampled() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sampling && len(c.sample) > 0 {
		c.samples = append(c.samples, c.sample[:min(len(c.sample), maxSample)])
	}
	c.sampling, c.sample = false, nil
}

// judge looks again at all that was seen, when no client is left: with the history that the database has.
func (c *Record) judge(ctx context.Context, r *Rig) error {
	rows, err := r.db.QueryContext(ctx, `SELECT item, version, mark FROM history`)
	if err != nil {
		return err
	}
	defer rows.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for rows.Next() {
		var row, version int64
		var mark string
		if err := rows.Scan(&row, &version, &mark); err != nil {
			return err
		}
		c.known[[2]int64{row, version}] = mark
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for cell, f := range c.seen {
		if cell.Row == 0 || cell.Version == 0 {
			continue
		}
		mark, known := c.known[[2]int64{int64(cell.Row), cell.Version}]
		w := c.writes[cell.Mark]
		// A single statement leaves no history, and what it has written cannot be taken back.
		if !known && w != nil && w.Kind == "statement" {
			c.known[[2]int64{int64(cell.Row), cell.Version}], mark = cell.Mark, cell.Mark
		}
		if mark == cell.Mark {
			continue
		}
		f.Judgement, f.Committed = Dirty, Cell{Row: cell.Row, Version: cell.Version, Mark: mark}
		c.found(f)
	}
	for i := range c.findings {
		if f := &c.findings[i]; f.Judgement == Stale && c.slept(r, f) {
			f.Judgement = Asleep
		}
	}
	return nil
}

// slept reports whether all that a value misses was committed by processes that slept beyond the lease
// between sending COMMIT and its outcome. PostgreSQL refuses such a COMMIT, but not a single statement.
func (c *Record) slept(r *Rig, f *Finding) bool {
	for version := f.Cell.Version + 1; version <= f.Committed.Version; version++ {
		w := c.writes[c.known[[2]int64{int64(f.Cell.Row), version}]]
		if w == nil || r.Database == "postgres" && w.Kind != "statement" {
			return false
		}
		through := false
		for _, s := range r.webs[w.Web].asleep() {
			through = through || w.Begin < s.from && (w.End == 0 || w.End > s.to)
		}
		if !through {
			return false
		}
	}
	return f.Cell.Row > 0
}

// histories returns the samples with the writes that belong to them.
func (c *Record) histories() [][]Op {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all [][]Op
	for _, sample := range c.samples {
		from, to := sample[0].Begin, time.Duration(0)
		for _, op := range sample {
			from, to = min(from, op.Begin), max(to, op.End)
		}
		for key, mark := range c.known {
			w := c.writes[mark]
			if w == nil {
				continue
			}
			end := w.End
			if by := c.until(key[0], key[1]); by != 0 && (end == 0 || by < end) {
				end = by
			}
			if w.Begin > to || end != 0 && end < from {
				continue
			}
			sample = append(sample, Op{Row: int(key[0]), Write: true, Version: key[1], Begin: w.Begin, End: end})
		}
		all = append(all, sample)
	}
	return all
}

// Findings returns what was found.
func (c *Record) Findings() []Finding {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Finding(nil), c.findings...)
}
