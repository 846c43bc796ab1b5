package versus

import (
	"context"
	"database/sql"
	"runtime"
	"testing"
)

// Open opens a database of its own for a benchmark, by the bare driver or by the wrapped one. It has a
// table users with id from 1 to 1000, name, email and visits. It is closed at the benchmark's end.
type Open func(b *testing.B, wrapped bool) *sql.DB

// Work makes a piece of work on a database ready, and returns what does it once.
type Work func(b *testing.B, db *sql.DB) func()

// Drivers is Run for a piece of work by the bare driver and by the wrapped one.
func Drivers(b *testing.B, open Open, work Work) {
	b.Helper()
	Run(b, work(b, open(b, false)), work(b, open(b, true)))
}

// Select reads the name and the email of a user, by a query whose only argument is the id.
func Select(query string) Work {
	return func(b *testing.B, db *sql.DB) func() {
		return selecting(b, func(id int) *sql.Row { return db.QueryRow(query, id) })
	}
}

// SelectPrepared is Select with a query that is prepared once.
func SelectPrepared(query string) Work {
	return func(b *testing.B, db *sql.DB) func() {
		stmt, err := db.Prepare(query)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = stmt.Close() })
		return selecting(b, func(id int) *sql.Row { return stmt.QueryRow(id) })
	}
}

func selecting(b *testing.B, row func(id int) *sql.Row) func() {
	var name, email string
	i := 0
	return func() {
		i++
		if err := row(i%1000+1).Scan(&name, &email); err != nil {
			b.Fatal(err)
		}
	}
}

// Exec runs a statement outside of any transaction. args gives the arguments of the i-th time.
func Exec(query string, args func(i int) []any) Work {
	return func(b *testing.B, db *sql.DB) func() {
		i := 0
		return func() {
			i++
			if _, err := db.Exec(query, args(i)...); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// ExecInTx is Exec in a transaction of its own.
func ExecInTx(query string, args func(i int) []any) Work {
	return func(b *testing.B, db *sql.DB) func() {
		i := 0
		return func() {
			i++
			tx, err := db.Begin()
			if err != nil {
				b.Fatal(err)
			}
			if _, err := tx.Exec(query, args(i)...); err != nil {
				b.Fatal(err)
			}
			if err := tx.Commit(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// Args are always the same arguments.
func Args(args ...any) func(i int) []any { return func(int) []any { return args } }

// User is the id of one user after the other.
func User(i int) []any { return []any{i%1000 + 1} }

// IdleConnections makes two benchmarks, "by=baseline" and "by=alkey", of what a connection keeps on the
// heap that use has used once and that waits in the pool then: reported as "B/connection".
func IdleConnections(b *testing.B, open Open, use func(context.Context, *sql.Conn) error) {
	const connections = 50
	for _, wrapped := range []bool{false, true} {
		by := "baseline"
		if wrapped {
			by = "alkey"
		}
		b.Run("by="+by, func(b *testing.B) {
			db := open(b, wrapped)
			db.SetMaxIdleConns(connections)
			var kept int64
			for b.Loop() {
				before := heap()
				all := make([]*sql.Conn, connections)
				for i := range all {
					var err error
					if all[i], err = db.Conn(b.Context()); err != nil {
						b.Fatal(err)
					}
					if err := use(b.Context(), all[i]); err != nil {
						b.Fatal(err)
					}
				}
				for _, c := range all {
					if err := c.Close(); err != nil {
						b.Fatal(err)
					}
				}
				kept += heap() - before
				db.SetMaxIdleConns(0) // the next round has new ones
				db.SetMaxIdleConns(connections)
			}
			b.ReportMetric(float64(kept)/float64(b.N)/connections, "B/connection")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what the first has found dead only by way of a finalizer
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
