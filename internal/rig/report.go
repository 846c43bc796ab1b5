//go:build linux

package rig

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

// Report is what a run has shown.
type Report struct {
	Options
	Took                 time.Duration
	Reads, Failed        int64
	Writes, Refused      int64
	Hits, Shared, Made   int64
	Findings             []Finding
	Faults               []FaultReport
	Histories, Unordered int // that went through the checker of linearizability, and that it refuses
	Operations           int // in them
}

// FaultReport is what came of one fault.
type FaultReport struct {
	Fault
	Hits      int           // in the two seconds after it and its quiet time
	Recovery  time.Duration // from its end until the hit rate was back
	Recovered bool
}

// Finish has the clients stop and the faults' traces disappear, checks that every process then shows what is
// committed, and judges the run. linear checks a history; nil: none is checked.
func (r *Rig) Finish(ctx context.Context, linear func([]Op) bool) (*Report, error) {
	r.stopClients()
	took := r.now()
	if !r.First {
		if err := r.settled(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.record.judge(ctx, r); err != nil {
		return nil, err
	}
	c := r.record
	p := &Report{
		Options: r.Options, Took: took, Reads: c.reads.Load(), Failed: c.failed.Load(), Writes: c.commits.Load(), Refused: c.refused.Load(),
		Hits: c.hits.Load(), Shared: c.shared.Load(), Made: c.made.Load(), Findings: c.Findings(),
	}
	usual := 0.0
	if len(r.outcomes) > 0 {
		usual = c.rate(r.outcomes[0].begin-time.Second, r.outcomes[0].begin)
	}
	for _, o := range r.outcomes {
		p.Faults = append(p.Faults, c.after(o, usual, took))
	}
	if linear != nil {
		for _, ops := range c.histories() {
			p.Histories++
			p.Operations += len(ops)
			if !linear(ops) {
				p.Unordered++
			}
		}
	}
	return p, nil
}

// settled waits until leases have run out, and checks that nothing was lost: every process shows what is committed.
func (r *Rig) settled(ctx context.Context) error {
	if err := r.pass(ctx, r.Lease+sweepFence); err != nil {
		return ended(err)
	}
	for range 2 {
		for i, w := range r.webs {
			floor, err := r.floor(ctx)
			if err != nil {
				return err
			}
			read := &Read{Begin: r.now(), Web: i, Floor: floor}
			var page Page
			all := make([]int, Rows)
			for row := range all {
				all[row] = row + 1
			}
			read.Err = r.ask(ctx, nil, "GET", w.address()+"/page?show=everything+table+notes+many:"+join(all), &page)
			read.End, read.Values, read.Failed = r.now(), page.Values, page.Err
			if read.Err != nil || read.Failed != "" {
				return fmt.Errorf("rig: web process %d does not answer when all is over: %w %s", i, read.Err, read.Failed)
			}
			r.record.read(r, read)
			r.record.ceiling(read, &floor)
		}
	}
	return nil
}

// rate returns which part of the values came from the cache.
func (c *Record) rate(from, to time.Duration) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	hits, values := c.between(from, to)
	return float64(hits) / float64(max(values, 1))
}

// between needs c.mu.
func (c *Record) between(from, to time.Duration) (hits, values int) {
	for i := max(int(from/bucketSize), 0); i < min(int(to/bucketSize), len(c.buckets)); i++ {
		hits, values = hits+c.buckets[i].hits, values+c.buckets[i].values
	}
	return hits, values
}

// after tells what came after a fault. The hit rate is back when of what is read in 150 ms half as much is found
// as usual.
func (c *Record) after(o outcome, usual float64, end time.Duration) FaultReport {
	const window = 3 * bucketSize
	c.mu.Lock()
	defer c.mu.Unlock()
	p := FaultReport{Fault: o.Fault}
	from := o.end + max(o.After-observed, 0)
	p.Hits, _ = c.between(from, from+observed)
	for at := o.end; at+window <= min(end, o.end+o.After); at += bucketSize {
		hits, values := c.between(at, at+window)
		if values >= 10 && float64(hits) >= usual/2*float64(values) {
			p.Recovered, p.Recovery = true, at-o.end
			break
		}
	}
	return p
}

// Count returns how often there was something of a judgement.
func (p *Report) Count(j Judgement) int {
	n := 0
	for _, f := range p.Findings {
		if f.Judgement == j {
			n += f.Times
		}
	}
	return n
}

// Err says what the run has shown that must not be.
func (p *Report) Err() error {
	var errs []error
	for _, f := range p.Findings {
		if f.Judgement != Asleep && len(errs) < 10 {
			errs = append(errs, errors.New(f.String()))
		}
	}
	if p.Unordered > 0 {
		errs = append(errs, fmt.Errorf("%d of %d histories are not linearizable", p.Unordered, p.Histories))
	}
	return errors.Join(errs...)
}

// enoughHits is how many hits must be found after every fault.
const enoughHits = 100

// Cold says after which faults hardly anything came from the cache: who never caches is never stale.
func (p *Report) Cold() error {
	var errs []error
	for i, f := range p.Faults {
		if f.Hits < enoughHits && i < len(p.Faults)-1 {
			errs = append(errs, fmt.Errorf("fault %d, %s: only %d hits in the %v after it", i, f.Kind, f.Hits, observed))
		}
	}
	return errors.Join(errs...)
}

// Table writes the report for people.
func (p *Report) Table(w io.Writer) {
	strict := ""
	if p.Strict {
		strict = ", strict"
	}
	if p.Off != "" {
		strict += ", WITHOUT " + p.Off
	}
	fmt.Fprintf(w, "seed %d, %s, %d web processes, lease %v%s, %v\n\n", p.Seed, p.Database, p.Webs, p.Lease, strict, p.Took.Round(time.Second))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "fault\ttimes\tleast hits in 2 s after\tback: median\tworst\tnot back\t")
	kinds := make(map[Kind][]FaultReport)
	for _, f := range p.Faults {
		kinds[f.Kind] = append(kinds[f.Kind], f)
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		line(t, string(kind), kinds[kind])
	}
	line(t, "all", p.Faults)
	_ = t.Flush()
	fmt.Fprintf(w, "\npages read %d (%d failed), commits %d (%d writes failed or refused)\n", p.Reads, p.Failed, p.Writes, p.Refused)
	fmt.Fprintf(w, "values %d: checked hits %d, shared %d, made %d\n", p.Hits+p.Shared+p.Made, p.Hits, p.Shared, p.Made)
	fmt.Fprintf(w, "linearizability: %d histories, %d operations, %d refused\n", p.Histories, p.Operations, p.Unordered)
	fmt.Fprintf(w, "stale %d, dirty %d, wrong %d, %s %d; %s %d\n", p.Count(Stale), p.Count(Dirty), p.Count(Wrong), Bare, p.Count(Bare), Asleep, p.Count(Asleep))
}

func line(w io.Writer, name string, faults []FaultReport) {
	if len(faults) == 0 {
		return
	}
	least, lost := faults[0].Hits, 0
	var times []time.Duration
	for _, f := range faults {
		least = min(least, f.Hits)
		if f.Recovered {
			times = append(times, f.Recovery)
		} else {
			lost++
		}
	}
	slices.Sort(times)
	median, worst := time.Duration(0), time.Duration(0)
	if n := len(times); n > 0 {
		median, worst = times[n/2], times[n-1]
	}
	fmt.Fprintf(w, "%s\t%d\t%d\t%.2f s\t%.2f s\t%d\t\n", name, len(faults), least, median.Seconds(), worst.Seconds(), lost)
}

// Explain writes beside the logs what they say about a finding: every line of its row or its writers in the
// seconds around it, in the order of time. It returns the file.
func (r *Rig) Explain(f Finding, number int) (string, error) {
	r.record.mu.Lock()
	_ = r.record.log.Flush()
	r.record.mu.Unlock()
	files, err := filepath.Glob(filepath.Join(r.Dir, "*.jsonl"))
	if err != nil {
		return "", err
	}
	type said struct {
		at   time.Duration
		text string
	}
	var lines []said
	const around = 4 * time.Second
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return "", err
		}
		scan := bufio.NewScanner(file)
		scan.Buffer(nil, 1<<22)
		for scan.Scan() {
			at, text, ok := r.concerns(f, scan.Bytes())
			if ok && at > f.Begin-around && at < f.End+around/4 {
				lines = append(lines, said{at, filepath.Base(name) + " " + text})
			}
		}
		_ = file.Close()
	}
	slices.SortStableFunc(lines, func(a, b said) int { return cmp.Compare(a.at, b.at) })
	path := filepath.Join(r.Dir, fmt.Sprintf("finding%d.txt", number))
	out, err := os.Create(path)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(out, "%s\n\n", f)
	for _, l := range lines {
		fmt.Fprintf(out, "%12.6f %s\n", l.at.Seconds(), l.text)
	}
	return path, out.Close()
}

// concerns tells whether a line of a log has to do with a finding, when it was, and what it says of it.
func (r *Rig) concerns(f Finding, text []byte) (at time.Duration, said string, ok bool) {
	var l struct {
		// Of a web process.
		Time  time.Time `json:"time"`
		Level string    `json:"level"`
		Msg   string    `json:"msg"`
		Mark  string    `json:"mark"`
		Web   any       `json:"web"`
		Rows  []int     `json:"rows"`
		// Of the checker.
		Read   *time.Duration `json:"read"`
		End    time.Duration  `json:"end"`
		Values []Value        `json:"values"`
		Floor  []int64        `json:"floor"`
		Write  *Write         `json:"write"`
		Fault  any            `json:"fault"`
		Step   string         `json:"step"`
		At     time.Duration  `json:"at"`
		Err    any            `json:"err"`
		Error  any            `json:"error"`
	}
	if json.Unmarshal(text, &l) != nil {
		return 0, "", false
	}
	row := f.Cell.Row
	switch {
	case !l.Time.IsZero():
		ok = len(l.Rows) == 0 || slices.Contains(l.Rows, row)
		return l.Time.Sub(r.start), fmt.Sprintf("%v %s %s %v %v", l.Web, l.Msg, l.Mark, l.Rows, l.Error), ok
	case l.Read != nil:
		for _, v := range l.Values {
			for _, cell := range v.Cells {
				if cell.Row == row {
					said += fmt.Sprintf(" %s %s:%d", v.From, v.Key, cell.Version)
				}
			}
		}
		return *l.Read, fmt.Sprintf("web %v read, floor %d, until %.6f:%s", l.Web, l.Floor[row], l.End.Seconds(), said), said != ""
	case l.Write != nil:
		return l.Write.Begin, fmt.Sprintf("write %+v", *l.Write), slices.Contains(l.Write.Rows, row)
	case l.Step != "":
		return l.At, l.Step, true
	case l.Fault != nil:
		return l.At, fmt.Sprintf("fault %v", l.Fault), true
	}
	return 0, "", false
}
