package request_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/tokens/tokenstest"
)

// reads is how many reads a soak checks: a few, or what ALKEY_SOAK says.
func reads(t *testing.T, few int) int64 {
	text := os.Getenv("ALKEY_SOAK")
	if text == "" {
		return int64(few)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("ALKEY_SOAK is a number of reads, and not %q", text)
	}
	return int64(n)
}

// TestSoak has requests of two processes read while others write, commit and roll back, and checks each
// value against what was committed when its request began. ALKEY_SOAK=1000000 checks that many reads of
// each kind.
func TestSoak(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		soak(t, inMemory(t), request.Faults{}, reads(t, 20_000)).verify(t)
	})
	t.Run("redis", func(t *testing.T) {
		soak(t, onRedis(t), request.Faults{}, reads(t, 4_000)).verify(t)
	})
}

// TestSoakFinds leaves out one rule at a time: the soak has to find what that breaks.
func TestSoakFinds(t *testing.T) {
	for name, f := range map[string]request.Faults{
		"guard":     {NoGuard: true},
		"recheck":   {NoRecheck: true},
		"judgement": {NoJudgement: true},
		"record":    {NoRecord: true},
		"sharing":   {NoSharing: true},
	} {
		t.Run(name, func(t *testing.T) {
			// As a rule a few thousand reads are enough.
			s := soak(t, inMemory(t), f, 2_000_000)
			if len(s.faults) == 0 {
				t.Errorf("nothing is found in %d reads without it", s.reads.Load())
			}
			t.Logf("after %d reads: %q", s.reads.Load(), s.faults)
		})
	}
}

// processes are the stores of two processes.
type processes struct {
	tokens [2]*tokens.Store
	values [2]cache.Store
}

func inMemory(t *testing.T) (p processes) {
	b := tokens.NewMemoryBackend(tokens.MemoryOptions{})
	values := cache.NewMemory(1 << 20)
	for i := range p.tokens {
		p.tokens[i] = tokens.New(b, tokens.WithLogger(slog.New(slog.DiscardHandler)))
		t.Cleanup(func() { p.tokens[i].Close() })
		p.values[i] = values
	}
	return p
}

func onRedis(t *testing.T) (p processes) {
	addr := testserver.Redis(t).Addr()
	for i := range p.tokens {
		client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
		t.Cleanup(func() { client.Close() })
		var err error
		if p.tokens[i], err = tokens.NewRedis(t.Context(), tokens.RedisOptions{Client: client}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.tokens[i].Close() })
		tokenstest.Ready(t, p.tokens[i])
		p.values[i] = cache.NewRedisWith(client, cache.RedisOptions{Timeout: 5 * time.Second})
		t.Cleanup(func() { p.values[i].Close() })
	}
	// One of them keeps copies.
	p.values[1] = cache.Tiered(cache.NewMemory(1<<20), p.values[1])
	return p
}

const soakRows = 6

// state is a version of every row, and 0 for those that a value does not show.
type state [soakRows]int64

// database has rows of versions, each larger than the one that it replaces.
type database struct {
	mu        sync.Mutex
	last      int64
	committed state
	was       map[int64]bool // committed at some time
	pending   [2]state       // by process: of transactions that its requests can read in
	locks     [soakRows]sync.Mutex
}

func (d *database) now() state {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.committed
}

// inside is what a transaction of the process sees.
func (d *database) inside(process int) state {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.committed
	for row, v := range d.pending[process] {
		if v != 0 {
			s[row] = v
		}
	}
	return s
}

// soaking is one run.
type soaking struct {
	db     database
	stores processes
	kits   [2]*request.Kit
	limit  int64

	reads, hits, shared, writes atomic.Int64
	unmodified                  atomic.Int64  // of the hits, what a client had
	permits                     chan struct{} // to write
	stop                        atomic.Bool

	mu     sync.Mutex
	faults []string
	sent   [soakRows]response // the last with an ETag that a client keeps, by row
}

// response is what a client has.
type response struct{ etag, body string }

func (s *soaking) verify(t *testing.T) {
	n, hits, shared := s.reads.Load(), s.hits.Load(), s.shared.Load()
	t.Logf("%d reads, %d writes: %.1f %% hits, of these %d by 304, %.1f %% shared, %d faults",
		n, s.writes.Load(), 100*float64(hits)/float64(n), s.unmodified.Load(), 100*float64(shared)/float64(n), len(s.faults))
	for _, f := range s.faults {
		t.Error(f)
	}
	if !s.shows() {
		t.Errorf("only %d hits in %d reads: this shows little", hits, n)
	}
}

// shows reports whether there were hits enough to judge by.
func (s *soaking) shows() bool { return s.hits.Load()*3 >= s.reads.Load() }

// enough reports whether the readers are done. On a machine that stalls the token store can be down, for
// seconds in which thousands of reads find nothing: then they go on.
func (s *soaking) enough() bool {
	n := s.reads.Load()
	return s.stop.Load() || n >= s.limit && (s.shows() || n >= 10*s.limit)
}

func (s *soaking) found(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults = append(s.faults, fmt.Sprintf(format, args...)); len(s.faults) >= 3 {
		s.stop.Store(true)
	}
}

func soak(t *testing.T, stores processes, f request.Faults, limit int64) *soaking {
	s := &soaking{stores: stores, limit: limit, permits: make(chan struct{}, 64)}
	s.db.was = map[int64]bool{0: true}
	for i := range s.kits {
		s.kits[i] = newKit(t, request.Config{
			Tokens: stores.tokens[i], Values: stores.values[i], Logger: slog.New(slog.DiscardHandler),
			OnFetch: func(_ context.Context, e request.FetchEvent) {
				s.reads.Add(1)
				if e.Hit {
					s.hits.Add(1)
				}
				if e.Shared {
					s.shared.Add(1)
				}
			},
		})
		s.kits[i].SetFaults(f)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var readers, writers sync.WaitGroup
	for i := range 8 {
		readers.Go(func() { s.read(ctx, t, i%2, rand.New(rand.NewPCG(uint64(i), 1))) })
	}
	for i := range 4 {
		writers.Go(func() { s.write(ctx, t, i%2, rand.New(rand.NewPCG(uint64(i), 2))) })
	}
	readers.Wait()
	s.stop.Store(true)
	cancel()
	writers.Wait()
	return s
}

// pause lets others go on, at times.
func pause(r *rand.Rand) {
	for range r.IntN(4) {
		runtime.Gosched()
	}
}

func (s *soaking) write(ctx context.Context, t *testing.T, process int, r *rand.Rand) {
	store := s.stores.tokens[process]
	for {
		select {
		case <-s.permits:
		case <-ctx.Done():
			return
		}
		row := r.IntN(soakRows)
		s.db.locks[row].Lock()
		s.db.mu.Lock()
		s.db.last++
		version := s.db.last
		s.db.mu.Unlock()
		changes := tokens.NewChanges(tokens.Row("users", row))
		// Requests of the process can read in the transaction.
		open := store.Ledger().Begin()
		open.Add(tokens.Row("users", row))
		s.db.mu.Lock()
		s.db.pending[process][row] = version
		s.db.mu.Unlock()
		pause(r)
		outcome, owner := tokens.Committed, tokens.NewOwner()
		if r.IntN(4) == 0 {
			outcome = tokens.RolledBack
		}
		if outcome == tokens.Committed || r.IntN(2) == 0 {
			// On a machine that stalls the store can be down: what cannot be fenced is not committed.
			if err := store.Fence(context.Background(), owner, changes, time.Minute); err != nil {
				outcome = tokens.RolledBack
			}
		}
		pause(r)
		s.db.mu.Lock()
		s.db.pending[process][row] = 0
		if outcome == tokens.Committed {
			s.db.committed[row] = version
			s.db.was[version] = true
		}
		s.db.mu.Unlock()
		pause(r)
		var err error
		if outcome == tokens.Committed {
			_, err = store.Publish(context.Background(), owner, changes)
		} else {
			err = store.Release(context.Background(), owner, changes)
		}
		if err != nil && !errors.Is(err, tokens.ErrDown) {
			t.Error(err)
		}
		open.End(outcome)
		s.db.locks[row].Unlock()
		s.writes.Add(1)
	}
}

// reader is a request.
type reader struct {
	*soaking
	t       *testing.T
	ctx     context.Context
	process int
	r       *rand.Rand
	floor   state // committed when it began
	before  state // what it has loaded before it asked
}

func (s *soaking) read(ctx context.Context, t *testing.T, process int, r *rand.Rand) {
	for n := 0; !s.enough(); n++ {
		if n%6 == 0 {
			select {
			case s.permits <- struct{}{}:
			default:
			}
		}
		q := &reader{soaking: s, t: t, process: process, r: r, floor: s.db.now()}
		q.ctx, _ = s.kits[process].Open(ctx)
		q.before = s.db.now()
		pause(r)
		for range 1 + r.IntN(3) {
			row := r.IntN(soakRows)
			switch r.IntN(9) {
			case 0:
				q.table()
			case 5, 6:
				q.response(row)
			case 7:
				q.tower(row)
			case 1, 2:
				q.pair(q.ctx, row, (row+1)%soakRows)
			case 3:
				q.many(row)
			case 4:
				q.page(row)
			default:
				q.row(q.ctx, row)
			}
		}
	}
}

// load reads the database, or takes what was read before.
func (q *reader) load() state {
	pause(q.r)
	defer pause(q.r)
	switch q.r.IntN(4) {
	case 0:
		return q.before
	case 1:
		return q.db.inside(q.process)
	default:
		return q.db.now()
	}
}

// check checks a value: if it was not made by this request it is committed, and it is never older than
// the request.
func (q *reader) check(what, text string, made bool) {
	for part := range strings.SplitSeq(text, ",") {
		at, v, _ := strings.Cut(part, ":")
		row, err1 := strconv.Atoi(at)
		version, err2 := strconv.ParseInt(v, 10, 64)
		if err1 != nil || err2 != nil {
			q.found("%s is %q", what, text)
			return
		}
		if version < q.floor[row] {
			q.found("stale: %s shows version %d of row %d, and %d was committed when the request began (made here: %t)", what, version, row, q.floor[row], made)
		}
		q.db.mu.Lock()
		committed := q.db.was[version]
		q.db.mu.Unlock()
		if !made && !committed {
			q.found("dirty: %s shows version %d of row %d, which is not committed", what, version, row)
		}
	}
}

func cell(s state, row int) string { return fmt.Sprintf("%d:%d", row, s[row]) }

// row asks for one row.
func (q *reader) row(ctx context.Context, row int) string {
	made := false
	text, err := request.Fetch(ctx, func(context.Context) (string, error) {
		made = true
		return cell(q.load(), row), nil
	}, tokens.Row("users", row), "row")
	if err != nil {
		q.found("row: %v", err)
		return cell(q.db.now(), row)
	}
	q.check("row", text, made)
	return text
}

// table asks for all rows.
func (q *reader) table() {
	made := false
	text, err := request.Fetch(q.ctx, func(context.Context) (string, error) {
		made = true
		s := q.load()
		all := make([]string, soakRows)
		for row := range all {
			all[row] = cell(s, row)
		}
		return strings.Join(all, ","), nil
	}, tokens.Table("users"), "table")
	if err != nil {
		q.found("table: %v", err)
		return
	}
	q.check("table", text, made)
}

// pair asks for a value of one row that its fill finds to depend on another.
func (q *reader) pair(ctx context.Context, row, other int) {
	made := false
	fromOutside := q.r.IntN(2) == 0
	text, err := request.Fetch(ctx, func(inner context.Context) (string, error) {
		made = true
		if fromOutside {
			inner = ctx
		}
		if q.r.IntN(2) == 0 {
			return cell(q.load(), row) + "," + q.row(inner, other), nil
		}
		second := q.row(inner, other)
		return cell(q.load(), row) + "," + second, nil
	}, tokens.Row("users", row), "pair", other)
	if err != nil {
		q.found("pair: %v", err)
		return
	}
	q.check("pair", text, made)
}

// tower asks for a value that depends on a row of which not even the fill knows, but only the fill of a
// value inside. The processes take turns in making it.
func (q *reader) tower(row int) {
	ask := func(ctx context.Context, args []any, fill func(ctx context.Context) string) (text string, made bool) {
		text, err := request.Fetch(ctx, func(ctx context.Context) (string, error) {
			made = true
			return fill(ctx), nil
		}, append(args, request.Lease(50*time.Millisecond))...)
		if err != nil {
			q.found("tower: %v", err)
		}
		return text, made
	}
	middle, top := (row+1)%soakRows, (row+2)%soakRows
	text, made := ask(q.ctx, []any{tokens.Row("users", row), "tower"}, func(ctx context.Context) string {
		inner, _ := ask(ctx, []any{tokens.Row("users", middle), "storey"}, func(ctx context.Context) string {
			return cell(q.load(), middle) + "," + q.row(ctx, top)
		})
		return cell(q.load(), row) + "," + inner
	})
	q.check("tower", text, made)
}

// response is a request for a page of two rows by a client that has the page perhaps.
func (q *reader) response(row int) {
	other := (row + 1) % soakRows
	q.mu.Lock()
	have := q.sent[row]
	q.mu.Unlock()
	q.reads.Add(1)
	r := httptest.NewRequest(http.MethodGet, "/", nil).WithContext(q.ctx)
	if have.etag != "" {
		r.Header.Set("If-None-Match", have.etag)
	}
	w := httptest.NewRecorder()
	if request.NotModified(w, r, tokens.Row("users", row), tokens.Row("users", other), "page") {
		q.hits.Add(1)
		q.unmodified.Add(1)
		q.check("304", have.body, false)
		return
	}
	s := q.load()
	body := cell(s, row) + "," + cell(s, other)
	q.check("200", body, true)
	scope, _ := request.FromContext(q.ctx)
	scope.CheckETag(w.Header())
	if etag := w.Header().Get("ETag"); etag != "" {
		q.mu.Lock()
		q.sent[row] = response{etag, body}
		q.mu.Unlock()
	}
}

// many asks for several rows at once.
func (q *reader) many(row int) {
	made := map[int]bool{}
	rows := []int{row, (row + 2) % soakRows, (row + 3) % soakRows}
	got, err := request.FetchMany(q.ctx, rows, func(row int) []any { return []any{tokens.Row("users", row), "row"} },
		func(_ context.Context, missing []int) (map[int]string, error) {
			s, found := q.load(), map[int]string{}
			for _, row := range missing {
				made[row], found[row] = true, cell(s, row)
			}
			return found, nil
		})
	if err != nil || len(got) != len(rows) {
		q.found("many: %v, %v", got, err)
		return
	}
	for row, text := range got {
		q.check("one of many", text, made[row])
	}
}

// page asks for parts inside parts.
func (q *reader) page(row int) {
	made := map[string]bool{}
	part := func(row int) *request.Part {
		return &request.Part{Args: []any{tokens.Row("users", row), "part"}, Fill: func(context.Context) ([]request.Piece, error) {
			made[fmt.Sprint("part", row)] = true
			return []request.Piece{{Text: []byte(cell(q.load(), row))}}, nil
		}}
	}
	whole := func(row int) *request.Part {
		inner := []*request.Part{part((row + 1) % soakRows), part((row + 2) % soakRows)}
		return &request.Part{Args: []any{tokens.Row("users", row), "whole"}, Fill: func(context.Context) ([]request.Piece, error) {
			made[fmt.Sprint("whole", row)] = true
			return []request.Piece{{Text: []byte(cell(q.load(), row))}, {Text: []byte{','}}, {Part: inner[0]}, {Text: []byte{','}}, {Part: inner[1]}}, nil
		}}
	}
	parts := []*request.Part{whole(row), part(row), whole((row + 1) % soakRows)}
	if err := request.Resolve(q.ctx, parts...); err != nil {
		q.found("page: %v", err)
		return
	}
	for _, p := range parts {
		q.check("page", string(p.Value), len(made) > 0)
	}
}

// TestEntriesDoNotGrow: what the servers hold follows from what is asked for, and not from how often it
// changes. ALKEY_SOAK=1000000 makes that many writes.
func TestEntriesDoNotGrow(t *testing.T) {
	const rows, written = 1000, 1100 // a tenth of what is written is never asked for
	writes := reads(t, 2_000)
	client := redis.NewClient(&redis.Options{Addr: testserver.Redis(t).Addr(), ContextTimeoutEnabled: true})
	defer client.Close()
	backend, err := tokens.NewRedisBackend(tokens.RedisOptions{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	store := tokens.New(backend, tokens.WithReadTimeout(time.Minute), tokens.WithWriteTimeout(time.Minute))
	defer store.Close()
	tokenstest.Ready(t, store)
	values := cache.NewRedisWith(client, cache.RedisOptions{Timeout: time.Minute})
	defer values.Close()
	var stored atomic.Int64
	kit := newKit(t, request.Config{Tokens: store, Values: values, OnFetch: func(_ context.Context, e request.FetchEvent) {
		if e.Stored {
			stored.Add(1)
		}
	}})
	// Each row has a value, or a part of a page.
	get := func(row int) {
		ctx, _ := kit.Open(t.Context())
		id := tokens.Row("users", row)
		var err error
		if row%2 == 0 {
			_, err = request.Fetch(ctx, func(context.Context) (string, error) { return "value", nil }, id, "value")
		} else {
			err = request.Resolve(ctx, &request.Part{Args: []any{id, "part"}, Fill: func(context.Context) ([]request.Piece, error) {
				return []request.Piece{{Text: []byte("text")}}, nil
			}})
		}
		if err != nil {
			t.Error(err)
		}
	}
	count := func() (inValues, inTokens int, size string) {
		all, err := client.Keys(t.Context(), "*").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range all {
			switch {
			case strings.HasPrefix(key, "alkey.cache.VALUES:"):
				inValues++
			case strings.HasPrefix(key, "alkey.cache.TOKENS:"):
				inTokens++
			default:
				t.Errorf("a key %q", key)
			}
		}
		info, err := client.InfoMap(t.Context(), "memory").Result()
		if err != nil {
			t.Fatal(err)
		}
		return inValues, inTokens, info["Memory"]["used_memory_human"]
	}
	for range 2 { // the request that makes a record is older than it
		for row := range rows {
			get(row)
		}
	}
	firstValues, firstTokens, firstSize := count()
	if firstValues != rows || firstTokens < rows || firstTokens > rows+10 {
		t.Fatalf("%d entries and %d records for %d rows", firstValues, firstTokens, rows)
	}
	before := stored.Load()
	const workers = 4
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 3))
			for range writes / workers {
				row := r.IntN(written)
				owner, changes := tokens.NewOwner(), tokens.NewChanges(tokens.Row("users", row))
				if err := store.Fence(t.Context(), owner, changes, time.Minute); err != nil {
					t.Error(err)
					return
				}
				var err error
				if r.IntN(10) == 0 {
					err = store.Release(t.Context(), owner, changes)
				} else {
					_, err = store.Publish(t.Context(), owner, changes)
				}
				if err != nil {
					t.Error(err)
					return
				}
				if row < rows {
					get(row)
				}
			}
		})
	}
	all.Wait()
	afterValues, afterTokens, afterSize := count()
	t.Logf("%d writes: %d values stored, %d entries and %d records (%s) before, %d and %d (%s) after",
		writes, stored.Load()-before, firstValues, firstTokens, firstSize, afterValues, afterTokens, afterSize)
	if afterValues != rows || afterTokens != firstTokens {
		t.Errorf("%d entries and %d records after the writes, %d and %d before", afterValues, afterTokens, rows, firstTokens)
	}
	if n := stored.Load() - before; n < writes/2 {
		t.Errorf("only %d values were stored after %d writes: this shows little", n, writes)
	}
}
