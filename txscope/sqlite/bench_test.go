package sqlite_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"runtime"
	"testing"

	"modernc.org/sqlite"

	"github.com/alkey-go/alkey/internal/versus"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	_ "github.com/alkey-go/alkey/txscope/sqlite"
)

// BenchmarkDriver compares the wrapped driver with the bare one, each on a file of its own.
func BenchmarkDriver(b *testing.B) {
	for _, work := range []struct {
		name string
		on   func(b *testing.B, db *sql.DB) func()
	}{
		{"select", selects},
		{"prepared", prepared},
		{"update", updates},
		{"update10000", updatesOfMany},
	} {
		b.Run("work="+work.name, func(b *testing.B) {
			versus.Run(b, work.on(b, benchDB(b, false)), work.on(b, benchDB(b, true)))
		})
	}
}

func benchDB(b *testing.B, wrapped bool) *sql.DB {
	b.Helper()
	c, err := sqlite.NewConnector("file:" + filepath.Join(b.TempDir(), "bench.db") + "?_journal_mode=WAL&_synchronous=NORMAL")
	if err != nil {
		b.Fatal(err)
	}
	if wrapped {
		store := tokens.NewMemory()
		b.Cleanup(func() { _ = store.Close() })
		if c, err = txscope.Wrap(c, store); err != nil {
			b.Fatal(err)
		}
	}
	db := sql.OpenDB(c)
	b.Cleanup(func() { _ = db.Close() })
	_, err = db.Exec(`CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, email TEXT, visits INTEGER);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 1000)
		INSERT INTO users SELECT i, 'user ' || i, 'user' || i || '@example.com', 0 FROM n`)
	if err != nil {
		b.Fatal(err)
	}
	return db
}

// BenchmarkIdleConnection reports what a connection takes in memory that has been used once and waits
// in the pool: of the heap, as SQLite's own memory is not, and the same either way.
func BenchmarkIdleConnection(b *testing.B) {
	const connections = 100
	for _, wrapped := range []bool{false, true} {
		by := "baseline"
		if wrapped {
			by = "alkey"
		}
		b.Run("by="+by, func(b *testing.B) {
			var total uint64
			for b.Loop() {
				db := benchDB(b, wrapped)
				db.SetMaxIdleConns(connections)
				before := heap()
				var all []*sql.Conn
				for range connections {
					conn, err := db.Conn(b.Context())
					if err != nil {
						b.Fatal(err)
					}
					if _, err := conn.ExecContext(b.Context(), `SELECT count(*) FROM users`); err != nil {
						b.Fatal(err)
					}
					all = append(all, conn)
				}
				for _, conn := range all {
					if err := conn.Close(); err != nil {
						b.Fatal(err)
					}
				}
				all = nil
				if after := heap(); after > before {
					total += after - before
				}
				if err := db.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(total)/float64(b.N)/connections, "B/connection")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func selects(b *testing.B, db *sql.DB) func() {
	var name, email string
	i := 0
	return func() {
		i++
		row := db.QueryRow(`SELECT name, email FROM users WHERE id = ?`, i%1000+1)
		if err := row.Scan(&name, &email); err != nil {
			b.Fatal(err)
		}
	}
}

func prepared(b *testing.B, db *sql.DB) func() {
	stmt, err := db.Prepare(`SELECT name, email FROM users WHERE id = ?`)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = stmt.Close() })
	var name, email string
	i := 0
	return func() {
		i++
		if err := stmt.QueryRow(i%1000+1).Scan(&name, &email); err != nil {
			b.Fatal(err)
		}
	}
}

func updates(b *testing.B, db *sql.DB) func() {
	ctx := context.Background()
	i := 0
	return func() {
		i++
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tx.Exec(`UPDATE users SET visits = visits + 1 WHERE id = ?`, i%1000+1); err != nil {
			b.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

func updatesOfMany(b *testing.B, db *sql.DB) func() {
	_, err := db.Exec(`WITH RECURSIVE n(i) AS (SELECT 1001 UNION ALL SELECT i+1 FROM n WHERE i < 10000)
		INSERT INTO users SELECT i, 'user ' || i, 'user' || i || '@example.com', 0 FROM n`)
	if err != nil {
		b.Fatal(err)
	}
	return func() {
		if _, err := db.Exec(`UPDATE users SET visits = visits + 1`); err != nil {
			b.Fatal(err)
		}
	}
}
