package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"testing"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/alkey-go/alkey/internal/versus"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// BenchmarkDriver compares the wrapped driver with the bare one, each on a database of its own.
func BenchmarkDriver(b *testing.B) {
	for _, work := range []struct {
		name string
		on   func(b *testing.B, db *sql.DB) func()
	}{
		{"select", selects},
		{"prepared", prepared},
		{"update", updates},
		{"update-many", updatesMany},
		{"insert", inserts},
		{"insert-alone", insertsAlone},
	} {
		b.Run("work="+work.name, func(b *testing.B) {
			versus.Run(b, work.on(b, benchDB(b, false)), work.on(b, benchDB(b, true)))
		})
	}
}

func benchDB(b *testing.B, wrapped bool) *sql.DB {
	b.Helper()
	cfg, err := gomysql.ParseDSN(server.Get(b).Database(b))
	if err != nil {
		b.Fatal(err)
	}
	cfg.InterpolateParams = true
	c, err := gomysql.NewConnector(cfg)
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
	for _, text := range []string{
		`CREATE TABLE users (id INT PRIMARY KEY, name VARCHAR(50), email VARCHAR(50), visits INT)`,
		`CREATE TABLE notes (id INT AUTO_INCREMENT PRIMARY KEY, v INT)`,
		`INSERT INTO users SELECT seq, CONCAT('user ', seq), CONCAT('user', seq, '@example.com'), 0 FROM seq_1_to_10000`,
	} {
		if _, err := db.Exec(text); err != nil {
			b.Fatal(err)
		}
	}
	return db
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

// updates changes a row by its key, in a transaction.
func updates(b *testing.B, db *sql.DB) func() {
	i := 0
	return inTransaction(b, db, func(tx *sql.Tx) error {
		i++
		_, err := tx.Exec(`UPDATE users SET visits = visits + 1 WHERE id = ?`, i%1000+1)
		return err
	})
}

// updatesMany changes 10,000 rows.
func updatesMany(b *testing.B, db *sql.DB) func() {
	return inTransaction(b, db, func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE users SET visits = visits + 1 WHERE visits >= ?`, 0)
		return err
	})
}

func inserts(b *testing.B, db *sql.DB) func() {
	return inTransaction(b, db, func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO notes (v) VALUES (?)`, 1)
		return err
	})
}

// insertsAlone inserts outside of a transaction, where the wrapped driver makes one of the statement's
// own.
func insertsAlone(b *testing.B, db *sql.DB) func() {
	return func() {
		if _, err := db.Exec(`INSERT INTO notes (v) VALUES (?)`, 1); err != nil {
			b.Fatal(err)
		}
	}
}

func inTransaction(b *testing.B, db *sql.DB, work func(*sql.Tx) error) func() {
	return func() {
		tx, err := db.BeginTx(context.Background(), nil)
		if err != nil {
			b.Fatal(err)
		}
		if err := work(tx); err != nil {
			b.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdle reports how much memory a connection holds that has run a few statements.
func BenchmarkIdle(b *testing.B) {
	for _, wrapped := range []bool{false, true} {
		b.Run(fmt.Sprintf("wrapped=%v", wrapped), func(b *testing.B) {
			db := benchDB(b, wrapped)
			const connections = 50
			before := heap()
			for b.Loop() {
				var conns []*sql.Conn
				for range connections {
					c, err := db.Conn(context.Background())
					if err != nil {
						b.Fatal(err)
					}
					if _, err := c.ExecContext(context.Background(), `UPDATE users SET visits = visits + 1 WHERE id = ?`, 1); err != nil {
						b.Fatal(err)
					}
					var n int
					if err := c.QueryRowContext(context.Background(), `SELECT visits FROM users WHERE id = ?`, 1).Scan(&n); err != nil {
						b.Fatal(err)
					}
					conns = append(conns, c)
				}
				b.ReportMetric(float64(heap()-before)/connections, "B/conn")
				for _, c := range conns {
					_ = c.Close()
				}
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
