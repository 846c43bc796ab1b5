//go:build linux

package rig

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/jmoiron/sqlx"
	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/middleware"
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	_ "github.com/alkey-go/alkey/txscope/postgres"
	_ "github.com/alkey-go/alkey/txscope/sqlite"
)

// web is one web process: what an application is that uses alkey.
type web struct {
	config WebConfig
	db     *sqlx.DB
	log    *slog.Logger
}

// serve runs a web process until its standard input ends, and says on standard output where it listens.
func serve(config string) error {
	var w web
	if err := json.Unmarshal([]byte(config), &w.config); err != nil {
		return err
	}
	file, err := os.OpenFile(w.config.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	w.log = slog.New(slog.NewJSONHandler(file, nil)).With("web", w.config.Name)
	slog.SetDefault(w.log)

	ctx := context.Background()
	store, err := tokens.NewRedis(ctx, tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{Addrs: []string{w.config.Redis}}})
	if err != nil {
		return err
	}
	opts := []txscope.Option{txscope.Lease(w.config.Lease)}
	if w.config.Strict {
		opts = append(opts, txscope.Strict())
	}
	if w.db, err = txscope.Open(w.config.Driver, w.config.DSN, store, opts...); err != nil {
		return err
	}
	// Connections stay where they are: what is in a pool when a fault comes is used after it.
	w.db.SetMaxOpenConns(12)
	w.db.SetMaxIdleConns(12)
	client := redis.NewClient(&redis.Options{Addr: w.config.Values, ContextTimeoutEnabled: true})
	// On a busy machine a value may take its time: this is no rig for the value store.
	var values cache.Store = cache.NewRedisWith(client, cache.RedisOptions{Timeout: time.Second})
	if w.config.Near {
		values = cache.Tiered(cache.NewMemory(4<<20), values)
	}
	kit, err := request.New(request.Config{Tokens: store, Values: values, Version: "rig", Logger: w.log, OnFetch: noteFetch})
	if err != nil {
		return err
	}
	if w.config.Off != "" {
		if err := switchOff(store, kit, w.config.Off); err != nil {
			return err
		}
	}
	router := chi.NewRouter()
	router.Use(middleware.For(kit))
	router.Get("/page", w.page)
	router.Post("/write", w.write)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: router}
	go func() {
		// The end of the input is the order to stop, and comes with the end of who has started this.
		_, _ = io.Copy(io.Discard, os.Stdin)
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
	}()
	fmt.Println(l.Addr())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return errors.Join(w.db.Close(), values.Close(), store.Close(), client.Close())
}

// fetches is what a request has fetched, by key without its tokens.
type fetches struct {
	mu   sync.Mutex
	list []request.FetchEvent
}

type fetchesKey struct{}

func noteFetch(ctx context.Context, e request.FetchEvent) {
	if f, ok := ctx.Value(fetchesKey{}).(*fetches); ok {
		f.mu.Lock()
		f.list = append(f.list, e)
		f.mu.Unlock()
	}
}

// noted runs fetch, and returns what it has fetched, the last first: that is what it was asked for.
func noted(ctx context.Context, fetch func(context.Context) error) ([]request.FetchEvent, error) {
	f := new(fetches)
	err := fetch(context.WithValue(ctx, fetchesKey{}, f))
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.Reverse(f.list)
	return f.list, err
}

func sourceOf(e request.FetchEvent) Source {
	switch {
	case e.Hit:
		return Hit
	case e.Shared:
		return Shared
	default:
		return Made
	}
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func cells(ctx context.Context, q querier, query string, args ...any) ([]Cell, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Cell
	for rows.Next() {
		var c Cell
		if err := rows.Scan(&c.Row, &c.Version, &c.Mark); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, rows.Err()
}

func loadRow(ctx context.Context, q querier, row int) ([]Cell, error) {
	return cells(ctx, q, `SELECT id, version, mark FROM items WHERE id = $1`, row)
}

func loadTable(ctx context.Context, q querier) ([]Cell, error) {
	return cells(ctx, q, `SELECT id, version, mark FROM items`)
}

func loadNotes(ctx context.Context, q querier) ([]Cell, error) {
	return cells(ctx, q, `SELECT 0, count(*), '' FROM notes`)
}

func loadAll(ctx context.Context, q querier) ([]Cell, error) {
	return cells(ctx, q, `SELECT id, version, mark FROM items UNION ALL SELECT 0, count(*), '' FROM notes`)
}

// wait waits, unless the client goes away.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// parameters of a request.
type parameters struct{ *http.Request }

func (p parameters) ints(name string) []int {
	var list []int
	for text := range strings.SplitSeq(p.FormValue(name), ",") {
		if n, err := strconv.Atoi(text); err == nil {
			list = append(list, n)
		}
	}
	return list
}

func (p parameters) duration(name string) time.Duration {
	d, _ := time.ParseDuration(p.FormValue(name)) // missing: none
	return d
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// page answers with what is asked for: rows, tables, everything; loaded slowly (hold), or before it is asked
// for (early).
func (w *web) page(rw http.ResponseWriter, r *http.Request) {
	var page Page
	p := parameters{r}
	ctx := r.Context()
	fail := func(err error) {
		if err != nil && page.Err == "" {
			page.Err = err.Error()
		}
	}
	hold := p.duration("hold")
	for _, what := range strings.Fields(p.FormValue("show")) {
		name, _, _ := strings.Cut(what, ":")
		load, args := w.loader(what)
		if load == nil {
			fail(fmt.Errorf("nobody knows what %q is", what))
			continue
		}
		if name == "many" {
			values, err := w.many(ctx, what)
			page.Values = append(page.Values, values...)
			fail(err)
			continue
		}
		fill := func(ctx context.Context) ([]Cell, error) {
			defer wait(ctx, hold)
			return load(ctx)
		}
		if name == "early" {
			found, err := load(ctx)
			if err != nil {
				fail(err)
				continue
			}
			wait(ctx, hold)
			fill = func(context.Context) ([]Cell, error) { return found, nil }
		}
		v, err := fetch(ctx, fill, args)
		if err == nil {
			page.Values = append(page.Values, v)
		}
		fail(err)
	}
	answer(rw, page)
}

func fetch(ctx context.Context, fill func(context.Context) ([]Cell, error), args []any) (v Value, err error) {
	events, err := noted(ctx, func(ctx context.Context) (err error) {
		v.Cells, err = request.Fetch(ctx, fill, args...)
		return err
	})
	if err == nil && len(events) > 0 {
		v.Key, v.From = events[0].Key, sourceOf(events[0])
		// What is made of a stored value can be as old as that.
		if v.From == Made && len(events) > 1 {
			v.From = sourceOf(events[1])
		}
	}
	return v, err
}

// loader returns what loads something from the database, and the arguments of its key.
func (w *web) loader(what string) (load func(context.Context) ([]Cell, error), args []any) {
	name, number, _ := strings.Cut(what, ":")
	row, _ := strconv.Atoi(number)
	switch name {
	case "row", "early":
		return func(ctx context.Context) ([]Cell, error) { return loadRow(ctx, w.db, row) }, []any{tokens.Row("items", row), "row"}
	case "many":
		return func(context.Context) ([]Cell, error) { return nil, nil }, nil
	case "table":
		return func(ctx context.Context) ([]Cell, error) { return loadTable(ctx, w.db) }, []any{tokens.Table("items"), "all"}
	case "notes":
		return func(ctx context.Context) ([]Cell, error) { return loadNotes(ctx, w.db) }, []any{tokens.Table("notes"), "count"}
	case "everything":
		return func(ctx context.Context) ([]Cell, error) { return loadAll(ctx, w.db) }, []any{tokens.Global, "everything"}
	case "nested":
		// Of the second row nobody knows but the fill.
		return func(ctx context.Context) ([]Cell, error) {
			first, err := loadRow(ctx, w.db, row)
			if err != nil {
				return nil, err
			}
			inner := row%w.config.Rows + 1
			second, err := request.Fetch(ctx, func(ctx context.Context) ([]Cell, error) { return loadRow(ctx, w.db, inner) }, tokens.Row("items", inner), "row")
			return append(first, second...), err
		}, []any{tokens.Row("items", row), "nested"}
	default:
		return nil, nil
	}
}

// many answers with several rows, which it loads with one query.
func (w *web) many(ctx context.Context, what string) ([]Value, error) {
	var rows []int
	_, list, _ := strings.Cut(what, ":")
	for text := range strings.SplitSeq(list, ",") {
		if n, err := strconv.Atoi(text); err == nil {
			rows = append(rows, n)
		}
	}
	var got map[int][]Cell
	events, err := noted(ctx, func(ctx context.Context) (err error) {
		got, err = request.FetchMany(ctx, rows, func(row int) []any { return []any{tokens.Row("items", row), "row"} },
			func(ctx context.Context, missing []int) (map[int][]Cell, error) {
				found := make(map[int][]Cell, len(missing))
				all, err := loadTable(ctx, w.db)
				for _, c := range all {
					if slices.Contains(missing, c.Row) {
						found[c.Row] = []Cell{c}
					}
				}
				return found, err
			})
		return err
	})
	if err != nil {
		return nil, err
	}
	values := make([]Value, 0, len(got))
	for row, cells := range got {
		v := Value{Cells: cells}
		for _, e := range events {
			if strings.Contains(e.Key, "items#"+strconv.Itoa(row)+"/") {
				v.Key, v.From = e.Key, sourceOf(e)
			}
		}
		values = append(values, v)
	}
	return values, nil
}

// errOnPurpose ends a transaction that is to be rolled back.
var errOnPurpose = errors.New("rolled back on purpose")

// write runs a transaction, or a single statement, and says how it ended. What it reads meanwhile through
// the cache it answers too.
func (w *web) write(rw http.ResponseWriter, r *http.Request) {
	p := parameters{r}
	ctx := r.Context()
	mark, rows := p.FormValue("mark"), p.ints("rows")
	slices.Sort(rows) // in one order, so that nobody waits for each other
	var out Written
	note := func(event string) { w.log.Info(event, "mark", mark, "rows", rows) }
	var err error
	switch kind := p.FormValue("kind"); kind {
	case "statement":
		note("commit sent")
		_, err = w.db.ExecContext(ctx, `UPDATE items SET version = version + 1, mark = $1 WHERE id = $2`, mark, rows[0])
	default:
		var tx *sqlx.Tx
		if tx, err = w.db.BeginTxx(ctx, nil); err != nil {
			break
		}
		out.Cells, err = w.transact(ctx, tx, kind, mark, rows, p.duration("hold"), &out)
		if err != nil {
			if rerr := tx.Rollback(); rerr == nil && errors.Is(err, errOnPurpose) {
				out.Outcome = RolledBack
			}
			break
		}
		note("commit sent")
		err = tx.Commit()
	}
	switch {
	case err == nil:
		out.Outcome = Committed
	case out.Outcome == "":
		out.Outcome, out.Err = Failed, err.Error()
	}
	note(string(out.Outcome))
	answer(rw, out)
}

// transact does what a transaction does before it ends.
func (w *web) transact(ctx context.Context, tx *sqlx.Tx, kind, mark string, rows []int, hold time.Duration, out *Written) ([]Cell, error) {
	if kind == "note" {
		_, err := tx.ExecContext(ctx, `INSERT INTO notes (mark) VALUES ($1)`, mark)
		return nil, err
	}
	var all []Cell
	for _, row := range rows {
		c, err := w.update(ctx, tx, mark, row)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	own := func(row int) error {
		// What the transaction reads of its own is for itself alone.
		_, err := fetch(ctx, func(ctx context.Context) ([]Cell, error) { return loadRow(ctx, tx, row) }, []any{tokens.Row("items", row), "row"})
		return err
	}
	switch kind {
	case "savepoint":
		other := rows[len(rows)-1]%w.config.Rows + 1
		if other < rows[len(rows)-1] {
			break // not in the order of the rows
		}
		if _, err := tx.ExecContext(ctx, `SAVEPOINT part`); err != nil {
			return nil, err
		}
		if _, err := w.update(ctx, tx, mark+".part", other); err != nil {
			return nil, err
		}
		if err := own(other); err != nil {
			return nil, err
		}
		if _, err := tx.ExecContext(ctx, `ROLLBACK TO SAVEPOINT part`); err != nil {
			return nil, err
		}
		if err := own(other); err != nil {
			return nil, err
		}
	case "own", "rollback":
		if err := own(rows[0]); err != nil {
			return nil, err
		}
	}
	wait(ctx, hold)
	if kind == "rollback" {
		return nil, errOnPurpose
	}
	return all, nil
}

// update changes a row, and notes in the same transaction who did.
func (w *web) update(ctx context.Context, tx *sqlx.Tx, mark string, row int) (c Cell, err error) {
	if _, err := tx.ExecContext(ctx, `UPDATE items SET version = version + 1, mark = $1 WHERE id = $2`, mark, row); err != nil {
		return c, err
	}
	c = Cell{Row: row, Mark: mark}
	if err := tx.QueryRowContext(ctx, `SELECT version FROM items WHERE id = $1`, row).Scan(&c.Version); err != nil {
		return c, err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO history (item, version, mark) VALUES ($1, $2, $3)`, row, c.Version, mark)
	return c, err
}
