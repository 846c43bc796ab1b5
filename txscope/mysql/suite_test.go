package mysql_test

import (
	"bytes"
	"context"
	"database/sql"
	"net"
	"slices"
	"strings"
	"testing"

	gomysql "github.com/go-sql-driver/mysql"
	"pgregory.net/rapid"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/txscopetest"
)

// server is shared by all tests but the suite.
var server = testserver.Share(testserver.MariaDB)

func TestSuite(t *testing.T) {
	// A table without transactions that is anywhere on the server makes the capture less exact.
	server := testserver.MariaDB(t)
	plain := func(*gomysql.Config) {}
	interpolated := func(c *gomysql.Config) { c.InterpolateParams, c.MultiStatements = true, true }
	foundRows := func(c *gomysql.Config) { c.ClientFoundRows, c.ParseTime = true, true }
	for _, run := range []struct {
		name    string
		modes   []func(*gomysql.Config) // each check draws one
		batches bool
		opts    []txscope.Option
	}{
		{"any mode", []func(*gomysql.Config){plain, interpolated, foundRows}, false, nil},
		{"batches and touch", []func(*gomysql.Config){interpolated}, true, []txscope.Option{txscope.Touch()}},
		{"touch ancestors", []func(*gomysql.Config){plain, foundRows}, false, []txscope.Option{txscope.Touch(), txscope.TouchAncestors()}},
	} {
		t.Run(run.name, func(t *testing.T) {
			txscopetest.Fewer(t)
			main := suiteDatabase(t, server)
			s := suite(len(run.opts) > 0)
			if s.Batches = run.batches; s.Batches {
				// What a text commits by the way the suite does not follow.
				s.Statements = slices.DeleteFunc(s.Statements, func(one txscopetest.Statement) bool { return one.Commits })
			}
			s.TouchParents, s.TouchAncestors = len(run.opts) > 0, len(run.opts) > 1
			s.Open = func(t *rapid.T, store *tokens.Store) (wrapped, bare *sql.DB) {
				mode := rapid.SampledFrom(run.modes).Draw(t, "mode")
				return main.open(t, store, mode, run.opts)
			}
			txscopetest.Run(t, s)
		})
	}
}

// suiteDB is a database for all checks of a suite, which find it empty.
type suiteDB struct{ dsn, name string }

func suiteDatabase(t *testing.T, server *testserver.MariaDBServer) suiteDB {
	dsn := server.Database(t)
	cfg, err := gomysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return suiteDB{dsn, cfg.DBName}
}

func (d suiteDB) open(t *rapid.T, store *tokens.Store, set func(*gomysql.Config), opts []txscope.Option) (wrapped, bare *sql.DB) {
	cfg, err := gomysql.ParseDSN(d.dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.DialFunc = dialPlain
	set(cfg)
	c, err := gomysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	bare = sql.OpenDB(c)
	for _, text := range []string{"DROP DATABASE " + d.name, "CREATE DATABASE " + d.name, "USE " + d.name} {
		if _, err := bare.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	w, err := txscope.Wrap(c, store, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return sql.OpenDB(w), bare
}

// suite adds to what all databases have in common what is MySQL's own.
func suite(touching bool) txscopetest.Suite {
	d := txscopetest.MariaDB()
	d.Exact = func(name string, g txscopetest.Grade) bool {
		switch {
		case name == "update in order", name == "update by a subquery":
			return false // which rows these mean is not certain beforehand
		case touching && strings.Contains(name, "returning"):
			return false // what is returned does not tell the parents
		}
		return g <= txscopetest.Returned
	}
	s := txscopetest.Shapes(d)

	var numbers, words, uuids, parts [][]any
	for i := range 40 {
		numbers = append(numbers, []any{i})
		parts = append(parts, []any{i % 4, i / 4})
	}
	for _, word := range []string{"Abc", "abc", "ABC", "x", "X", "ü"} {
		words = append(words, []any{word})
	}
	ids := []string{"6ba7b810-9dad-11d1-80b4-00c04fd430c8", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"}
	for _, id := range ids {
		uuids = append(uuids, []any{id})
	}
	s.Schema = append(s.Schema,
		`CREATE TABLE spelled (word VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT)`,
		`CREATE TABLE native (id UUID PRIMARY KEY, v INT)`,
		`CREATE TABLE raw16 (id BINARY(16) PRIMARY KEY, v INT)`,
		`CREATE TABLE parts (grp INT, id INT, v INT, PRIMARY KEY (grp, id)) PARTITION BY HASH (grp) PARTITIONS 3`,
		`CREATE TABLE staff (id INT PRIMARY KEY, v INT, boss INT, FOREIGN KEY (boss) REFERENCES staff (id) ON DELETE CASCADE)`,
		`CREATE TABLE numbered (v INT, id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY)`,
		`CREATE TABLE renamed (id INT PRIMARY KEY, v INT)`,
		`CREATE TRIGGER rename_it BEFORE INSERT ON renamed FOR EACH ROW SET NEW.id = NEW.id + 8`,
		`CREATE FUNCTION bump_it(x INT) RETURNS INT BEGIN UPDATE numbered SET v = v + x; RETURN x; END`,
		`CREATE PROCEDURE change_two(x INT) BEGIN UPDATE staff SET v = x WHERE id = 1; UPDATE parts SET v = x; END`,
		`CREATE PROCEDURE change_and_commit(x INT) BEGIN UPDATE staff SET v = x WHERE id = 2; COMMIT; UPDATE parts SET v = x + 1; END`,
		`CREATE VIEW bumping AS SELECT bump_it(id) AS n FROM staff`,
		`INSERT INTO spelled VALUES ('Abc', 1), ('x', 1), ('ü', 1)`,
		`INSERT INTO native VALUES ('`+ids[0]+`', 1)`,
		`INSERT INTO raw16 VALUES (UNHEX('`+strings.ReplaceAll(ids[0], "-", "")+`'), 1)`,
		`INSERT INTO parts VALUES (0, 0, 1), (1, 1, 1), (2, 1, 1), (3, 0, 1)`,
		`INSERT INTO staff VALUES (0, 1, NULL), (1, 1, 0), (2, 1, 1), (3, 1, 1)`,
		`INSERT INTO numbered (v) VALUES (1), (2)`,
	)
	raw := func(key []any) tokens.ID { return tokens.Row("raw16", key...) }
	s.Tables = append(s.Tables,
		txscopetest.Table{Name: "spelled", Key: []string{"word"}, Candidates: words},
		txscopetest.Table{Name: "native", Key: []string{"id"}, Candidates: uuids},
		txscopetest.Table{Name: "raw16", Key: []string{"id"}, ID: raw},
		txscopetest.Table{Name: "parts", Key: []string{"grp", "id"}, Candidates: parts},
		txscopetest.Table{Name: "staff", Key: []string{"id"}, Candidates: numbers},
		txscopetest.Table{Name: "numbered", Key: []string{"id"}, Candidates: numbers},
		txscopetest.Table{Name: "renamed", Key: []string{"id"}, Candidates: numbers},
	)
	s.Foreign = append(s.Foreign, txscopetest.Foreign{Child: "staff", Columns: []string{"boss"}, Parent: "staff"})

	n, v := txscopetest.Argument(txscopetest.Number), txscopetest.Argument(txscopetest.Value)
	word := func(t *rapid.T) any { return rapid.SampledFrom(words).Draw(t, "word")[0] }
	id := func(t *rapid.T) any { return rapid.SampledFrom(ids).Draw(t, "id") }
	oddID := func(t *rapid.T) any { return strings.ToUpper(rapid.SampledFrom(ids).Draw(t, "id")) }
	bits := func(t *rapid.T) any { return strings.ReplaceAll(id(t).(string), "-", "") }
	exact := func(name, text string, args ...txscopetest.Argument) txscopetest.Statement {
		return d.Statement(name, txscopetest.Returned, text, args...)
	}
	inexact := func(name, text string, args ...txscopetest.Argument) txscopetest.Statement {
		return d.Statement(name, txscopetest.Unknown, text, args...)
	}
	s.Statements = append(s.Statements,
		exact("spelled insert", `INSERT INTO spelled (word, v) VALUES (?, ?)`, word, v),
		exact("spelled insert if absent", `INSERT IGNORE INTO spelled (word, v) VALUES (?, ?), (?, 1)`, word, v, word),
		exact("spelled upsert", `INSERT INTO spelled (word, v) VALUES (?, ?) ON DUPLICATE KEY UPDATE v = VALUES(v)`, word, v),
		exact("spelled update", `UPDATE spelled SET v = ? WHERE word = ?`, v, word),
		exact("spelled update of a range", `UPDATE spelled SET v = v + ? WHERE word LIKE ?`, v, word),
		exact("spelled delete", `DELETE FROM spelled WHERE word = ?`, word),
		inexact("spelled replace", `REPLACE INTO spelled (word, v) VALUES (?, ?)`, word, v),
		exact("native insert", `INSERT INTO native (id, v) VALUES (?, ?)`, id, v),
		exact("native update", `UPDATE native SET v = ? WHERE id = ?`, v, oddID),
		exact("native replace", `REPLACE INTO native (v, id) VALUES (?, ?)`, v, oddID),
		exact("native upsert", `INSERT INTO native (id, v) VALUES (?, ?) ON DUPLICATE KEY UPDATE v = v + 1`, oddID, v),
		exact("native delete", `DELETE FROM native WHERE id = ?`, id),
		exact("native insert of a new one", `INSERT INTO native (id, v) VALUES (UUID(), ?)`, v),
		exact("bits insert", `INSERT INTO raw16 (id, v) VALUES (UNHEX(?), ?)`, bits, v),
		exact("bits update", `UPDATE raw16 SET v = ? WHERE id = UNHEX(?)`, v, bits),
		exact("bits delete", `DELETE FROM raw16 WHERE HEX(id) = UPPER(?)`, bits),
		exact("partitioned insert", `INSERT INTO parts (grp, id, v) VALUES (?, ?, ?)`, n, n, v),
		exact("partitioned update", `UPDATE parts SET v = ? WHERE id = ?`, v, n),
		inexact("partitioned update by key", `UPDATE parts PARTITION (p0, p1) SET v = ? WHERE grp = ? AND id IN (?, 1)`, v, n, n),
		exact("partitioned delete", `DELETE FROM parts WHERE grp >= ?`, n),
		inexact("staff", `DELETE FROM staff WHERE id = ?`, n),
		exact("staff insert", `INSERT INTO staff (id, v, boss) VALUES (?, ?, ?)`, n, v, n),
		exact("numbered insert", `INSERT INTO numbered (v) VALUES (?)`, v),
		exact("numbered insert of several", `INSERT INTO numbered (v) VALUES (?), (2), (3)`, v),
		exact("numbered insert with NULL", `INSERT INTO numbered (id, v) VALUES (NULL, ?), (DEFAULT, 2)`, v),
		exact("numbered insert with zero", `INSERT INTO numbered VALUES (?, 0)`, v),
		exact("numbered insert from another", `INSERT IGNORE INTO numbered (v) SELECT v FROM staff WHERE id > ?`, n),
		exact("numbered set", `INSERT INTO numbered SET v = ?`, v),
		exact("numbered with a key", `INSERT INTO numbered (id, v) VALUES (?, ?)`, func(t *rapid.T) any { return rapid.IntRange(1, 20).Draw(t, "id") }, v),
		inexact("renamed by a trigger", `INSERT INTO renamed (id, v) VALUES (?, ?)`, n, v),
		d.Query("select of a function that writes", txscopetest.Unknown, `SELECT bump_it(?)`, n),
		d.Query("select of a view that writes", txscopetest.Unknown, `SELECT * FROM bumping WHERE n < ?`, n),
		inexact("do", `DO bump_it(?)`, n),
		inexact("call", `CALL change_two(?)`, v),
		inexact("update ignore", `UPDATE IGNORE staff SET id = ?, v = ? WHERE id = ?`, n, v, n),
		inexact("version comment", `UPDATE /*!50000 staff */ /*M! SET v = ? */ WHERE id = ?`, v, n),
	)
	if !touching {
		commits := inexact("call that commits", `CALL change_and_commit(?)`, v)
		commits.Commits, commits.Rare = true, true
		s.Statements = append(s.Statements, commits)
	}
	return s
}

// dialPlain connects to a MariaDB such that the driver does not see that it can leave out what the
// columns of prepared statements are. Where it does so, the driver waits for ever after an Exec of a
// statement that returns rows, which the suite does.
func dialPlain(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &plainConn{Conn: c}, nil
}

type plainConn struct {
	net.Conn
	greeted bool
}

func (c *plainConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.greeted && n > 5 {
		c.greeted = true
		// The packet's header, the protocol, the server's version, then what is of fixed length up to
		// MariaDB's own capabilities.
		version := bytes.IndexByte(b[5:n], 0)
		if at := 5 + version + 27; version > 0 && at+4 <= n {
			clear(b[at : at+4])
		}
	}
	return n, err
}
