package mysql_test

import (
	"context"
	"database/sql"
	"testing"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/alkey-go/alkey/internal/versus"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// BenchmarkDriver compares the wrapped driver with the bare one, each on a database of its own.
func BenchmarkDriver(b *testing.B) {
	for _, c := range []struct {
		name string
		work versus.Work
	}{
		{"select", versus.Select(`SELECT name, email FROM users WHERE id = ?`)},
		{"prepared", versus.SelectPrepared(`SELECT name, email FROM users WHERE id = ?`)},
		{"update", versus.ExecInTx(`UPDATE users SET visits = visits + 1 WHERE id = ?`, versus.User)},
		{"update-many", versus.ExecInTx(`UPDATE users SET visits = visits + 1 WHERE visits >= ?`, versus.Args(0))},
		{"insert", versus.ExecInTx(`INSERT INTO notes (v) VALUES (?)`, versus.Args(1))},
		// Where the wrapped driver makes a transaction of the statement's own.
		{"insert-alone", versus.Exec(`INSERT INTO notes (v) VALUES (?)`, versus.Args(1))},
	} {
		b.Run("work="+c.name, func(b *testing.B) { versus.Drivers(b, benchDB, c.work) })
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

// BenchmarkIdle reports what a connection keeps that has run a few statements.
func BenchmarkIdle(b *testing.B) {
	versus.IdleConnections(b, benchDB, func(ctx context.Context, c *sql.Conn) error {
		if _, err := c.ExecContext(ctx, `UPDATE users SET visits = visits + 1 WHERE id = ?`, 1); err != nil {
			return err
		}
		var visits int
		return c.QueryRowContext(ctx, `SELECT visits FROM users WHERE id = ?`, 1).Scan(&visits)
	})
}
