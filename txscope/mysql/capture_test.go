package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"testing"

	gomysql "github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	_ "github.com/alkey-go/alkey/txscope/mysql"
	"github.com/alkey-go/alkey/txscope/txscopetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testserver.StopAfter(m, server)) }

// fixture is a wrapped database with a few tables, over a store that tells what was asked of it.
type fixture struct {
	*testing.T
	ctx     context.Context
	config  *gomysql.Config
	backend *txscopetest.Backend
	store   *tokens.Store
	db      *sql.DB
	bare    *sql.DB
	log     *txscopetest.Log
}

// setUp opens a database of its own, with what set makes of the driver's configuration.
func setUp(t *testing.T, set func(*gomysql.Config), opts ...txscope.Option) *fixture {
	t.Helper()
	shared := txscopetest.NewFixture(t)
	f := &fixture{T: t, ctx: context.Background(), backend: shared.Backend, store: shared.Store, log: shared.Logged}
	cfg, err := gomysql.ParseDSN(server.Get(t).Database(t))
	f.must(err)
	if set != nil {
		set(cfg)
	}
	f.config = cfg
	f.bare = f.open(cfg)
	for _, text := range schema {
		f.execOn(f.bare, text)
	}
	f.db = f.wrap(cfg, shared.Options(opts...)...)
	return f
}

// open opens a bare database.
func (f *fixture) open(cfg *gomysql.Config) *sql.DB {
	f.Helper()
	c, err := gomysql.NewConnector(cfg)
	f.must(err)
	db := sql.OpenDB(c)
	f.Cleanup(func() { _ = db.Close() })
	return db
}

// wrap opens a wrapped database.
func (f *fixture) wrap(cfg *gomysql.Config, opts ...txscope.Option) *sql.DB {
	f.Helper()
	c, err := gomysql.NewConnector(cfg)
	f.must(err)
	w, err := txscope.Wrap(c, f.store, opts...)
	f.must(err)
	db := sql.OpenDB(w)
	f.Cleanup(func() { _ = db.Close() })
	return db
}

var schema = []string{
	`CREATE TABLE users (id INT PRIMARY KEY, name VARCHAR(50), v INT)`,
	`CREATE TABLE notes (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, user_id INT, v INT)`,
	`CREATE TABLE tags (tag VARCHAR(50) PRIMARY KEY, v INT)`,
	`CREATE TABLE pairs (a INT, b VARCHAR(20), v INT, PRIMARY KEY (a, b))`,
	`CREATE TABLE mails (id INT PRIMARY KEY, mail VARCHAR(50) UNIQUE, v INT)`,
	`CREATE TABLE logs (id INT AUTO_INCREMENT PRIMARY KEY, v INT) ENGINE=MyISAM`,
	`CREATE TABLE plain (v INT)`,
	`CREATE TABLE parents (id INT PRIMARY KEY, v INT)`,
	`CREATE TABLE children (id INT PRIMARY KEY, parent_id INT, v INT, FOREIGN KEY (parent_id) REFERENCES parents (id) ON DELETE CASCADE)`,
	`CREATE TABLE watched (id INT PRIMARY KEY, v INT)`,
	`CREATE TABLE seen (id INT AUTO_INCREMENT PRIMARY KEY, v INT)`,
	`CREATE TRIGGER watch AFTER UPDATE ON watched FOR EACH ROW INSERT INTO seen (v) VALUES (NEW.v)`,
	`CREATE FUNCTION note_it(x INT) RETURNS INT BEGIN INSERT INTO notes (v) VALUES (x); RETURN x; END`,
	`CREATE PROCEDURE tame(x INT) UPDATE plain SET v = x`,
	`CREATE PROCEDURE wild(x INT) BEGIN UPDATE plain SET v = x; COMMIT; END`,
	`CREATE VIEW vusers AS SELECT id, v FROM users`,
	`CREATE VIEW writers AS SELECT note_it(3) AS n`,
	`INSERT INTO users VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)`,
	`INSERT INTO notes (user_id, v) VALUES (1, 1), (1, 2), (2, 3)`,
	`INSERT INTO tags VALUES ('Abc', 1), ('x', 2), ('y', 3)`,
	`INSERT INTO pairs VALUES (1, 'a', 1), (1, 'b', 1), (2, 'a', 1)`,
	`INSERT INTO mails VALUES (1, 'a', 1), (2, 'b', 2)`,
	`INSERT INTO logs (v) VALUES (1), (2)`,
	`INSERT INTO plain VALUES (1)`,
	`INSERT INTO parents VALUES (1, 1), (2, 2)`,
	`INSERT INTO children VALUES (1, 1, 1), (2, 1, 2), (3, 2, 3)`,
	`INSERT INTO watched VALUES (1, 1)`,
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func (f *fixture) execOn(e execer, query string, args ...any) sql.Result {
	f.Helper()
	res, err := e.ExecContext(f.ctx, query, args...)
	if err != nil {
		f.Fatalf("%s: %v", query, err)
	}
	return res
}

// published runs fn and lists what was published meanwhile, without tables of listed rows and Global.
func (f *fixture) published(fn func()) []string {
	f.Helper()
	f.backend.Calls()
	fn()
	return f.backend.Published()
}

func (f *fixture) reasons() string {
	f.Helper()
	stats, err := txscope.Stats(f.ctx, f.db)
	f.must(err)
	return fmt.Sprintf("%+v", stats)
}

// TestWhatIsSeen runs each statement outside of any transaction and in one.
func TestWhatIsSeen(t *testing.T) {
	for _, c := range []struct {
		query string
		args  []any
		want  string // "#!" is a sweep
	}{
		{"UPDATE users SET v = 9 WHERE id = 1", nil, "users#1"},
		{"UPDATE users SET v = ? WHERE id = ?", []any{9, 1}, "users#1"},
		{"UPDATE users SET v = ? WHERE id IN (?, 3)", []any{9, 1}, "users#1 users#3"},
		{"UPDATE users SET v = ? WHERE v > ?", []any{9, 1}, "users#2 users#3"},
		{"UPDATE users SET v = 9", nil, "users#1 users#2 users#3"},
		{"UPDATE tags SET v = ? WHERE tag = ?", []any{9, "abc "}, "tags#Abc"},
		{"UPDATE users SET v = ? WHERE id = ?", []any{9, " 01"}, "users#1"},
		{"UPDATE users SET v = 9 WHERE id = 7", nil, ""},
		{"UPDATE users SET v = 1 WHERE id = 1", nil, ""},
		{"DELETE FROM users WHERE id IN (1, 7)", nil, "users#1"},
		{"INSERT INTO tags VALUES (?, 9) ON DUPLICATE KEY UPDATE v = 9", []any{"ABC"}, "tags#Abc"},
		{"INSERT INTO tags VALUES (?, 9), ('new', 1) ON DUPLICATE KEY UPDATE v = 9", []any{"ABC"}, "tags#Abc tags#new"},
		{"REPLACE INTO tags VALUES (?, 9)", []any{"ABC"}, "tags#!"},
		{"DELETE FROM users WHERE v > ?", []any{1}, "users#2 users#3"},
		{"DELETE FROM users WHERE id = ?", []any{1}, "users#1"},
		{"DELETE FROM users ORDER BY id LIMIT 1", nil, "users#1"},
		{"INSERT INTO users (id, v) VALUES (?, 1)", []any{7}, "users#7"},
		{"INSERT INTO users VALUES (7, 'a', 1), (8, 'b', ?)", []any{7}, "users#7 users#8"},
		{"INSERT INTO notes (v) VALUES (?)", []any{7}, "notes#4"},
		{"INSERT INTO notes (v) VALUES (?), (2), (3)", []any{7}, "notes#4 notes#5 notes#6"},
		{"INSERT INTO notes (id, v) VALUES (?, ?)", []any{nil, 7}, "notes#4"},
		{"INSERT INTO notes (id, v) VALUES (?, ?)", []any{0, 7}, "notes#4"},
		{"INSERT INTO notes (v) SELECT v FROM users WHERE id > ?", []any{1}, "notes#4 notes#5"},
		{"INSERT INTO tags VALUES (?, ?)", []any{"New", 1}, "tags#New"},
		{"INSERT INTO tags VALUES (?, ?)", []any{"ü", 1}, "tags#%C3%BC"},
		{"INSERT IGNORE INTO tags VALUES (?, ?), ('z', 1)", []any{"X", 1}, "tags#z"},
		{"INSERT INTO pairs VALUES (?, ?, 1)", []any{3, "c"}, "pairs#3,c"},
		{"UPDATE pairs SET v = 2 WHERE a = ?", []any{1}, "pairs#1,a pairs#1,b"},
		{"INSERT INTO users (id, v) VALUES (?, 1) ON DUPLICATE KEY UPDATE v = 8", []any{1}, "users#1"},
		{"INSERT INTO mails (id, mail, v) VALUES (?, 'b', 1) ON DUPLICATE KEY UPDATE v = 8", []any{7}, "mails#!"},
		{"REPLACE INTO users (id, v) VALUES (?, 1)", []any{1}, "users#1"},
		{"REPLACE INTO mails (id, mail, v) VALUES (?, 'b', 1)", []any{1}, "mails#!"},
		{"UPDATE users SET id = 9 WHERE id = 1", nil, "users#!"},
		{"UPDATE users SET v = v + 1 LIMIT 1", nil, "users#!"},
		{"UPDATE users SET v = 9 WHERE v < RAND() + 5", nil, "users#!"},
		{"UPDATE users u JOIN notes n ON n.user_id = u.id SET u.v = 9, n.v = 9", nil, "notes#! users#!"},
		{"DELETE n FROM notes n JOIN users u ON u.id = n.user_id", nil, "notes#!"},
		{"DELETE FROM parents WHERE id = 1", nil, "children#! parents#1"},
		{"UPDATE watched SET v = 2 WHERE id = 1", nil, "seen#! watched#1"},
		{"UPDATE vusers SET v = 5 WHERE id = 1", nil, "users#! vusers#!"},
		{"INSERT INTO plain VALUES (1)", nil, "plain#!"},
		{"INSERT INTO logs (id, v) VALUES (9, 1)", nil, "logs#9"},
		{"UPDATE logs SET v = 9", nil, "logs#!"},
		{"TRUNCATE users", nil, "users#!"},
		{"CALL tame(5)", nil, "plain#!"},
		{"CALL wild(5)", nil, "*#!"},
		{"UPDATE /*! users */ SET v = 5 WHERE id = 2", nil, "users#2"},
	} {
		for _, mode := range []string{"alone", "in a transaction", "prepared"} {
			t.Run(c.query+" "+mode, func(t *testing.T) {
				f := setUp(t, nil)
				got := f.published(func() {
					switch mode {
					case "alone":
						f.execOn(f.db, c.query, c.args...)
					case "prepared":
						s, err := f.db.PrepareContext(f.ctx, c.query)
						f.must(err)
						_, err = s.ExecContext(f.ctx, c.args...)
						f.must(err)
						f.must(s.Close())
					default:
						tx, err := f.db.BeginTx(f.ctx, nil)
						f.must(err)
						defer func() { _ = tx.Rollback() }()
						f.execOn(tx, c.query, c.args...)
						f.must(tx.Commit())
					}
				})
				if strings.Join(got, " ") != c.want {
					t.Errorf("published %v, want %s\n%s\n%s", got, c.want, f.reasons(), f.log)
				}
			})
		}
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
