//go:build linux

package rig

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// startClients has readers and writers begin.
func (r *Rig) startClients(ctx context.Context) error {
	ctx, r.cancel = context.WithCancel(ctx)
	if _, err := r.floor(ctx); err != nil {
		return err
	}
	for i := range r.Readers {
		r.clients.Go(func() { r.reader(ctx, rand.New(rand.NewPCG(r.Seed, uint64(i)))) })
	}
	for i := range r.Writers {
		r.clients.Go(func() { r.writer(ctx, i, rand.New(rand.NewPCG(r.Seed, uint64(1000+i)))) })
	}
	return nil
}

// stopClients waits for them.
func (r *Rig) stopClients() {
	if r.cancel == nil {
		return
	}
	r.cancel()
	r.clients.Wait()
	r.cancel = nil
}

// Floor is what an unwrapped connection has found committed: the version of every row, and the number of
// notes under 0.
type Floor [Rows + 1]Cell

func (r *Rig) floor(ctx context.Context) (f Floor, err error) {
	rows, err := r.db.QueryContext(ctx, `SELECT id, version, mark FROM items UNION ALL SELECT 0, count(*), '' FROM notes`)
	if err != nil {
		return f, err
	}
	defer rows.Close()
	for rows.Next() {
		var c Cell
		if err := rows.Scan(&c.Row, &c.Version, &c.Mark); err != nil {
			return f, err
		}
		f[c.Row] = c
	}
	return f, rows.Err()
}

// pausing waits, and is false if the run is over.
func pausing(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// reader asks for one page after the other. What is found committed before the next page is the ceiling of
// what the one before can show, and the floor of the next.
func (r *Rig) reader(ctx context.Context, random *rand.Rand) {
	var last *Read
	for pausing(ctx, time.Duration(random.Int64N(int64(2*time.Millisecond)))) {
		floor, err := r.floor(ctx)
		if err != nil {
			if ctx.Err() == nil {
				r.fail(fmt.Errorf("rig: what is committed cannot be read: %w", err))
			}
			return
		}
		r.record.ceiling(last, &floor)
		last = nil
		if r.blind.Load() {
			continue
		}
		first := 0
		if r.Roles {
			first = 1
		}
		web, at := r.any(first, r.Webs)
		if at == "" {
			continue
		}
		query := url.Values{"show": {shown(random)}}
		if random.IntN(4) == 0 {
			query.Set("hold", time.Duration(random.Int64N(int64(25*time.Millisecond))).String())
		}
		read := &Read{Begin: r.now(), Web: web, Floor: floor}
		var page Page
		read.Err = r.ask(ctx, random, http.MethodGet, at+"/page?"+query.Encode(), &page)
		read.End = r.now()
		read.Values, read.Failed = page.Values, page.Err
		if ctx.Err() != nil {
			return
		}
		r.record.read(r, read)
		last = read
	}
}

// shown chooses what a page shows.
func shown(random *rand.Rand) string {
	row := func() string { return strconv.Itoa(1 + random.IntN(Rows)) }
	var show []string
	if random.IntN(4) == 0 {
		show = append(show, "early:"+row())
	}
	many := make([]string, 0, Rows)
	for i, at := 0, random.IntN(Rows); i < 8; i++ {
		many = append(many, strconv.Itoa(1+(at+i)%Rows))
	}
	show = append(show, "many:"+strings.Join(many, ","))
	switch random.IntN(5) {
	case 0:
		show = append(show, "table", "notes")
	case 1:
		show = append(show, "everything")
	case 2:
		show = append(show, "nested:"+row())
	case 3:
		show = append(show, "row:"+row(), "table")
	}
	random.Shuffle(len(show), func(i, j int) { show[i], show[j] = show[j], show[i] })
	return strings.Join(show, " ")
}

// writer writes now and then. The first of them keeps to the row that is locked, while there is one.
func (r *Rig) writer(ctx context.Context, number int, random *rand.Rand) {
	for pausing(ctx, 10*time.Millisecond+time.Duration(random.Int64N(int64(60*time.Millisecond)))) {
		last := r.Webs
		if r.Roles {
			last = 1
		}
		web, at := r.any(0, last)
		if at == "" {
			continue
		}
		kind := "rows"
		switch random.IntN(20) {
		case 0:
			kind = "note"
		case 1, 2:
			kind = "rollback"
		case 3, 4:
			kind = "savepoint"
		case 5, 6:
			kind = "own"
		case 7, 8, 9:
			kind = "statement"
		}
		w := &Write{Web: web, Kind: kind, Mark: "m" + strconv.FormatInt(r.marks.Add(1), 10)}
		for range 1 + random.IntN(3) {
			if row := 1 + random.IntN(Rows); !contains(w.Rows, row) {
				w.Rows = append(w.Rows, row)
			}
		}
		if hot := r.hot.Load(); hot > 0 && number == 0 {
			w.Kind, w.Rows[0] = "statement", int(hot)
		}
		if w.Kind == "statement" {
			w.Rows = w.Rows[:1]
		}
		hold := time.Duration(0)
		if random.IntN(4) == 0 {
			hold = time.Duration(random.Int64N(int64(15 * time.Millisecond)))
		}
		r.write(ctx, random, w, at, hold)
	}
}

// write asks the web process at an address for a write. When the run is over nobody knows how it ends.
func (r *Rig) write(ctx context.Context, random *rand.Rand, w *Write, at string, hold time.Duration) {
	query := url.Values{"kind": {w.Kind}, "mark": {w.Mark}, "rows": {join(w.Rows)}, "hold": {hold.String()}}
	w.Begin = r.now()
	r.record.writing(w)
	var out Written
	err := r.ask(ctx, random, http.MethodPost, at+"/write?"+query.Encode(), &out)
	if ctx.Err() == nil || err == nil {
		r.record.wrote(w, out, err, r.now())
	}
}

func contains(list []int, n int) bool {
	for _, have := range list {
		if have == n {
			return true
		}
	}
	return false
}

func join(list []int) string {
	text := make([]string, len(list))
	for i, n := range list {
		text[i] = strconv.Itoa(n)
	}
	return strings.Join(text, ",")
}

// ask sends a request. While clients cancel, it may give up before the answer comes.
func (r *Rig) ask(ctx context.Context, random *rand.Rand, method, address string, into any) error {
	if leave := r.leave.Load(); leave > 0 && random.IntN(2) == 0 {
		limited, cancel := context.WithTimeout(ctx, time.Duration(random.Int64N(leave)))
		defer cancel()
		ctx = limited
	}
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
