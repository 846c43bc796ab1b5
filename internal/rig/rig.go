//go:build linux

package rig

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Options set up a run.
type Options struct {
	Program  []string // runs a web process where WebEnv is set
	Dir      string   // for everything that is kept: logs, databases of Redis
	Database string   // "postgres" or "sqlite"
	DSN      string   // of an empty one
	Off      string   // the rule that the web processes leave out; "" for none
	Strict   bool     // they refuse commits that cannot be fenced
	Webs     int
	Readers  int
	Writers  int
	Lease    time.Duration
	Seed     uint64 // of what the clients ask for
	// Roles has only the first web process written through and only the others read through.
	Roles bool
	// First ends the run at the first finding.
	First bool
	Logf  func(format string, args ...any)
}

// Rig is one run: servers, web processes, clients who read and write through them, and the faults that are
// done to all this. Make one with New; its methods are for one goroutine.
type Rig struct {
	Options
	db     *sql.DB // unwrapped
	redis  [2]*redisServer
	master int // index of the token store's server
	link   *Proxy
	values *redisServer
	webs   []*webProcess
	client *http.Client
	start  time.Time

	clients sync.WaitGroup
	cancel  context.CancelFunc
	blind   atomic.Bool  // readers rest
	leave   atomic.Int64 // clients go away after this many nanoseconds at most; 0: they do not
	hot     atomic.Int64 // the row that is locked, 0 for none
	marks   atomic.Int64

	record   *Record
	outcomes []outcome
	broken   chan error // what makes the run worthless
}

// New starts everything but the clients.
func New(o Options) (r *Rig, err error) {
	r = &Rig{Options: o, start: time.Now(), broken: make(chan error, 16)}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return r, err
	}
	if r.record, err = newRecord(filepath.Join(o.Dir, "reads.jsonl"), r.start, o.First); err != nil {
		return r, err
	}
	if err := r.openDatabase(); err != nil {
		return r, err
	}
	for i := range r.redis {
		if r.redis[i], err = newRedisServer(filepath.Join(o.Dir, fmt.Sprintf("redis%d", i))); err != nil {
			return r, err
		}
	}
	if r.values, err = newRedisServer(filepath.Join(o.Dir, "values")); err != nil {
		return r, err
	}
	if r.link, err = NewProxy(r.redis[0].addr()); err != nil {
		return r, err
	}
	if err := r.attach(); err != nil {
		return r, err
	}
	r.client = &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: o.Readers + o.Writers},
		Timeout:   2*o.Lease + 5*time.Second,
	}
	for i := range o.Webs {
		w := &webProcess{rig: r, number: i}
		r.webs = append(r.webs, w)
		if w.front, err = NewProxy(r.redis[0].addr()); err != nil {
			return r, err
		}
		if err := w.launch(); err != nil {
			return r, err
		}
	}
	return r, nil
}

// weather sets what happens to what passes between all web processes and the token store.
func (r *Rig) weather(w Weather) {
	for _, web := range r.webs {
		web.front.Set(w)
	}
}

// hangUp ends all connections of web processes to the token store.
func (r *Rig) hangUp() {
	for _, web := range r.webs {
		web.front.Reset()
	}
}

// attach makes the other server a replica of the master, through the link.
func (r *Rig) attach() error {
	r.link.Set(Weather{})
	r.link.Retarget(r.redis[r.master].addr())
	r.link.Reset()
	if err := r.spare().follow(r.link.Addr()); err != nil {
		return err
	}
	return r.spare().synced()
}

// spare is the server that is not the master.
func (r *Rig) spare() *redisServer { return r.redis[1-r.master] }

// Rows is how many rows the table items has.
const Rows = 16

func (r *Rig) openDatabase() (err error) {
	driver := map[string]string{"postgres": "pgx", "sqlite": "sqlite"}[r.Database]
	if r.db, err = sql.Open(driver, r.DSN); err != nil {
		return err
	}
	r.db.SetMaxIdleConns(r.Readers + r.Writers + 2)
	notes := `CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mark text NOT NULL)`
	if r.Database == "sqlite" {
		notes = `CREATE TABLE notes (id INTEGER PRIMARY KEY, mark text NOT NULL)`
	}
	for _, statement := range []string{
		`CREATE TABLE items (id integer PRIMARY KEY, version bigint NOT NULL, mark text NOT NULL)`,
		`CREATE TABLE history (item integer, version bigint, mark text NOT NULL, PRIMARY KEY (item, version))`,
		notes,
	} {
		if _, err := r.db.Exec(statement); err != nil {
			return err
		}
	}
	for row := 1; row <= Rows; row++ {
		if _, err := r.db.Exec(`INSERT INTO items (id, version, mark) VALUES ($1, 0, '')`, row); err != nil {
			return err
		}
	}
	return nil
}

// now is the time since the run began.
func (r *Rig) now() time.Duration { return time.Since(r.start) }

// fail notes what makes the run worthless.
func (r *Rig) fail(err error) {
	select {
	case r.broken <- err:
	default:
	}
}

// Close stops everything and waits for it. The web processes are asked to stop; one that does not, or says that it
// failed, is an error.
func (r *Rig) Close() error {
	r.stopClients()
	var errs []error
	for _, w := range r.webs {
		errs = append(errs, w.stop())
		if w.front != nil {
			w.front.Close()
		}
	}
	if r.link != nil {
		r.link.Close()
	}
	for _, s := range []*redisServer{r.redis[0], r.redis[1], r.values} {
		if s != nil {
			s.stop()
		}
	}
	if r.client != nil {
		r.client.CloseIdleConnections()
	}
	if r.db != nil {
		errs = append(errs, r.db.Close())
	}
	if r.record != nil {
		errs = append(errs, r.record.close())
	}
	select {
	case err := <-r.broken:
		errs = append(errs, err)
	default:
	}
	return errors.Join(errs...)
}

// Run has the clients work while the faults of the plan are done, one after the other. It ends before with
// the first finding if the options say so.
func (r *Rig) Run(ctx context.Context, plan []Fault) error {
	if err := r.startClients(ctx); err != nil {
		return err
	}
	defer r.stopClients()
	if err := r.warm(ctx); err != nil {
		return ended(err)
	}
	for _, f := range plan {
		if err := r.pass(ctx, f.Before); err != nil {
			return ended(err)
		}
		if err := r.inflict(ctx, f); err != nil {
			return ended(err)
		}
	}
	return nil
}

// errEnough ends a run at a finding.
var errEnough = errors.New("rig: enough was found")

func ended(err error) error {
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// pass lets time pass.
func (r *Rig) pass(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-r.record.enough:
		return errEnough
	case err := <-r.broken:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// warm waits until values come from the cache.
func (r *Rig) warm(ctx context.Context) error {
	for range 400 {
		if r.record.hits.Load() > 500 {
			return r.pass(ctx, time.Second)
		}
		if err := r.pass(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("rig: hardly anything comes from the cache, before any fault")
}

// webProcess is one web process and its successors.
type webProcess struct {
	rig    *Rig
	number int
	front  *Proxy // before the token store's server, for this process alone
	daemon *daemon
	output *tail
	input  interface{ Close() error }
	lives  int

	mu     sync.Mutex
	url    string // "" while no new request should go there
	paused []span // for longer than the lease
	from   time.Duration
}

// span is from when to when, since the run began.
type span struct{ from, to time.Duration }

func (w *webProcess) launch() error {
	r := w.rig
	w.lives++
	name := fmt.Sprintf("%d.%d", w.number, w.lives)
	driver := map[string]string{"postgres": "pgx", "sqlite": "sqlite"}[r.Database]
	config, err := json.Marshal(WebConfig{
		Name: name, Redis: w.front.Addr(), Values: r.values.addr(), Near: w.number == 1, Driver: driver, DSN: r.DSN, Rows: Rows,
		Lease: r.Lease, Strict: r.Strict, Off: r.Off, Log: filepath.Join(r.Dir, fmt.Sprintf("web%d.jsonl", w.number)),
	})
	if err != nil {
		return err
	}
	cmd := exec.Command(r.Program[0], r.Program[1:]...)
	cmd.Env = append(os.Environ(), WebEnv+"="+string(config), "GOMAXPROCS=2")
	w.output = new(tail)
	cmd.Stderr = w.output
	// Pipes of our own: those of exec.Cmd are waited for, and a process that is killed while it is paused
	// must not hold anybody up.
	in, input, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	out, output, err := os.Pipe()
	if err != nil {
		return errors.Join(err, input.Close())
	}
	defer out.Close()
	cmd.Stdin, cmd.Stdout = in, output
	w.input = input
	w.daemon, err = launch(cmd)
	_ = output.Close()
	if err != nil {
		return errors.Join(err, input.Close())
	}
	if err := out.SetReadDeadline(time.Now().Add(settled)); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("rig: web process %s does not start: %w\n%s", name, err, w.output)
	}
	w.set("http://" + strings.TrimSpace(line))
	return nil
}

func (w *webProcess) set(url string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.url = url
}

// address returns the URL of the process, "" while nobody should ask it.
func (w *webProcess) address() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.url
}

// kill ends the process as a fault.
func (w *webProcess) kill() {
	w.set("")
	w.daemon.kill()
	_ = w.input.Close()
	w.daemon = nil
}

// pause stops the process until resume.
func (w *webProcess) pause() error {
	w.mu.Lock()
	w.from = w.rig.now()
	w.mu.Unlock()
	return w.daemon.signal(syscall.SIGSTOP)
}

func (w *webProcess) resume() error {
	err := w.daemon.signal(syscall.SIGCONT)
	w.resumed()
	return err
}

// resumed notes the end of a pause.
func (w *webProcess) resumed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if to := w.rig.now(); to-w.from > w.rig.Lease {
		w.paused = append(w.paused, span{w.from, to})
	}
}

// asleep returns the pauses of the process that were longer than the lease.
func (w *webProcess) asleep() []span {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]span(nil), w.paused...)
}

// stop asks the process to stop, and waits. What it has complained of is an error.
func (w *webProcess) stop() error {
	if w.daemon == nil {
		return nil
	}
	w.set("")
	_ = w.input.Close()
	timer := time.NewTimer(settled)
	defer timer.Stop()
	var err error
	select {
	case <-w.daemon.done:
	case <-timer.C:
		_ = w.daemon.signal(syscall.SIGQUIT) // it prints its stacks
		select {
		case <-w.daemon.done:
		case <-time.After(time.Second):
		}
		w.daemon.kill()
		err = fmt.Errorf("rig: web process %d does not stop", w.number)
	}
	if state := w.daemon.cmd.ProcessState; err == nil && !state.Success() {
		err = fmt.Errorf("rig: web process %d has ended with %s", w.number, state)
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, w.output)
	}
	w.daemon = nil
	return err
}

// any returns a web process that can be asked, -1 if there is none.
func (r *Rig) any(from, to int) (int, string) {
	for range 8 {
		i := from + rand.IntN(to-from)
		if url := r.webs[i].address(); url != "" {
			return i, url
		}
	}
	return -1, ""
}
