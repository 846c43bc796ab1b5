package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/alkey-go/alkey/tokens"
)

func (f *fixture) zbStamp(id tokens.ID) tokens.Stamp {
	s, err := tokens.Get(f.ctx, f.store, id)
	f.must(err)
	return s
}

// each: set on bare, run on one wrapped conn; id must change.
func TestZBMissed(t *testing.T) {
	for _, c := range []struct {
		name string
		set  []string
		run  []string
		id   tokens.ID
		cfg  func(*gomysql.Config)
	}{
		{"quoted rand", []string{"DELETE FROM users", "INSERT INTO users SELECT seq, 'n', 0 FROM seq_1_to_2"},
			// repeated: 16 tries of one-row choices
			nil, tokens.ID{}, nil},
		{"sql_select_limit narrow", nil, []string{"SET sql_select_limit = 1", "UPDATE users SET v = 2 WHERE id IN (1, 2, 3)"}, tokens.Row("users", 3), nil},
		{"sql_select_limit upsert", nil, []string{"SET sql_select_limit = 1", "INSERT INTO tags VALUES ('x', 9), ('y', 9) ON DUPLICATE KEY UPDATE v = 9"}, tokens.Row("tags", "y"), nil},
		{"sql_select_limit schema", []string{"CREATE TABLE zz (id INT PRIMARY KEY, v INT)", "CREATE TRIGGER zzt AFTER UPDATE ON zz FOR EACH ROW UPDATE users SET v = 77 WHERE id = 1", "INSERT INTO zz VALUES (1,1)"},
			[]string{"UPDATE zz SET v = 3 WHERE id = 1"}, tokens.Row("users", 1), func(c *gomysql.Config) { c.Params = map[string]string{"sql_select_limit": "100"} }},
		{"upsert zero among several", nil, []string{"INSERT INTO notes (id, v) VALUES (0, 1), (2, 5) ON DUPLICATE KEY UPDATE v = 9"}, tokens.Row("notes", 4), nil},
		{"upsert truncated among several", []string{"INSERT INTO tags VALUES ('" + strings.Repeat("q", 50) + "', 1)"}, []string{"SET sql_mode = ''", "INSERT INTO tags VALUES ('" + strings.Repeat("q", 60) + "', 1), ('x', 5) ON DUPLICATE KEY UPDATE v = 9"}, tokens.Row("tags", strings.Repeat("q", 50)), nil},
		{"upsert clamped among several", []string{"CREATE TABLE tiny (id TINYINT PRIMARY KEY, v INT)", "INSERT INTO tiny VALUES (127, 1), (1, 1)"}, []string{"SET sql_mode = ''", "INSERT INTO tiny VALUES (300, 1), (1, 5) ON DUPLICATE KEY UPDATE v = 9"}, tokens.Row("tiny", 127), nil},
		{"upsert text zero among several", nil, []string{"SET sql_mode = ''", "INSERT INTO notes (id, v) VALUES ('', 1), (2, 5) ON DUPLICATE KEY UPDATE v = 9"}, tokens.Row("notes", 4), nil},
		{"pad char", []string{"CREATE TABLE cc (id CHAR(10) PRIMARY KEY, v INT)", "INSERT INTO cc VALUES ('abc', 1)"}, []string{"SET sql_mode = 'PAD_CHAR_TO_FULL_LENGTH'", "UPDATE cc SET v = 5 WHERE v = 1"}, tokens.Row("cc", "abc"), nil},
		{"names latin1", []string{"INSERT INTO tags VALUES ('ü', 1)"}, []string{"SET NAMES latin1", "UPDATE tags SET v = 5 WHERE v = 1"}, tokens.Row("tags", "ü"), nil},
		{"results latin1", []string{"INSERT INTO tags VALUES ('ü', 1)"}, []string{"SET character_set_results = latin1", "DELETE FROM tags WHERE v = 1"}, tokens.Row("tags", "ü"), nil},
		{"generated in key", []string{"CREATE TABLE gg (t INT, a INT, id INT AS (a + 1) STORED, v INT, PRIMARY KEY (t, id))", "INSERT INTO gg (t, a, v) VALUES (1, 6, 1)"}, []string{"UPDATE gg SET v = 5 WHERE t = 1"}, tokens.Row("gg", 1, 7), nil},
		{"merge engine", []string{"CREATE TABLE m1 (id INT PRIMARY KEY, v INT) ENGINE=MyISAM", "CREATE TABLE mm (id INT PRIMARY KEY, v INT) ENGINE=MRG_MYISAM UNION=(m1) INSERT_METHOD=LAST", "INSERT INTO m1 VALUES (1, 1)"}, []string{"UPDATE mm SET v = 5"}, tokens.Row("m1", 1), nil},
		{"merge engine 2", []string{"CREATE TABLE m1 (id INT PRIMARY KEY, v INT) ENGINE=MyISAM", "CREATE TABLE mm (id INT PRIMARY KEY, v INT) ENGINE=MRG_MYISAM UNION=(m1) INSERT_METHOD=LAST", "INSERT INTO m1 VALUES (1, 1)"}, []string{"UPDATE m1 SET v = 5 WHERE id = 1"}, tokens.Row("mm", 1), nil},
		{"limit triggers", zbTriggers(), []string{"UPDATE aaa SET v = 3 WHERE id = 1"}, tokens.Row("users", 1), func(c *gomysql.Config) { c.Params = map[string]string{"sql_select_limit": "60"} }},
		{"autocommit quoted", nil, []string{"START TRANSACTION", "UPDATE users SET v = 99 WHERE id = 1", "SET `autocommit` = 1"}, tokens.Row("users", 1), nil},
	} {
		if c.run == nil {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			f := setUp(t, c.cfg)
			for _, s := range c.set {
				if _, err := f.bare.Exec(s); err != nil {
					t.Skip(s, err)
				}
			}
			conn, err := f.db.Conn(f.ctx)
			f.must(err)
			defer conn.Close()
			was := f.zbStamp(c.id)
			for _, s := range c.run {
				if _, err := conn.ExecContext(f.ctx, s); err != nil {
					t.Fatal(s, err)
				}
			}
			if c.name == "autocommit quoted" {
				var v int
				f.must(f.bare.QueryRow("SELECT v FROM users WHERE id=1").Scan(&v))
				t.Log("v is", v)
			}
			if f.zbStamp(c.id) == was {
				t.Errorf("MISSED %v\n%s", c.id, f.reasons())
			}
		})
	}
}

func TestZBRand(t *testing.T) {
	for _, where := range []string{"`rand`() < 0.5", "rand\f() < 0.5"} {
		f := setUp(t, nil)
		missed := 0
		for i := range 30 {
			a, b := f.zbStamp(tokens.Row("users", 1)), f.zbStamp(tokens.Row("users", 2))
			v := 100 + i
			got := f.published(func() {
				f.execOn(f.db, fmt.Sprintf("UPDATE users SET v = %d WHERE id < 3 AND %s", v, where))
			})
			var one, two int
			f.must(f.bare.QueryRow("SELECT v FROM users WHERE id=1").Scan(&one))
			f.must(f.bare.QueryRow("SELECT v FROM users WHERE id=2").Scan(&two))
			if one == v && f.zbStamp(tokens.Row("users", 1)) == a || two == v && f.zbStamp(tokens.Row("users", 2)) == b {
				missed++
				_ = got
			}
		}
		if missed > 0 {
			t.Errorf("%q: MISSED in %d of 30", where, missed)
		}
	}
}

// Statements that are taken to commit and may not.
func TestZBEarly(t *testing.T) {
	for _, text := range []string{
		"CHECKSUM TABLE users", "UNLOCK TABLES", "FLUSH STATUS", "FLUSH TABLES", "CHECK TABLE users", "ANALYZE TABLE users", "OPTIMIZE TABLE users", "REPAIR TABLE logs", "LOAD INDEX INTO CACHE logs",
		"CACHE INDEX logs IN default", "PURGE BINARY LOGS BEFORE '2000-01-01'", "RESET QUERY CACHE", "SET autocommit = 1", "SET autocommit = 0", "STOP SLAVE", "START SLAVE", "CHANGE MASTER TO MASTER_HOST='x'",
		"CREATE TABLE IF NOT EXISTS users (id INT)", "DROP TABLE IF EXISTS nothere", "CREATE OR REPLACE VIEW vv AS SELECT 1", "DROP VIEW IF EXISTS nope", "GRANT SELECT ON *.* TO nobody@nowhere IDENTIFIED BY 'x'", "CREATE DATABASE IF NOT EXISTS test", "RENAME TABLE plain TO plain2",
		"ALTER TABLE users COMMENT 'x'", "DROP FUNCTION IF EXISTS nope", "CREATE SEQUENCE sq", "DROP TEMPORARY TABLE IF EXISTS nope", "CREATE INDEX iv ON users (v)", "SET PASSWORD = ''", "FLUSH PRIVILEGES", "INSTALL SONAME 'nope'", "CREATE TEMPORARY SEQUENCE tsq", "DROP SEQUENCE IF EXISTS nope", "DROP TEMPORARY SEQUENCE IF EXISTS nope", "SET STATEMENT max_statement_time=5 FOR CHECKSUM TABLE users", "CREATE ROLE IF NOT EXISTS rr", "DROP USER IF EXISTS nope", "SET GLOBAL max_connections=100", "ALTER SERVER nope OPTIONS (USER 'x')",
		"BACKUP STAGE START", "BACKUP LOCK users", "KILL QUERY 99999", "DROP INDEX IF EXISTS nope ON users", "TRUNCATE plain", "HELP 'x'", "ALTER EVENT nope ENABLE", "DROP EVENT IF EXISTS nope", "DROP TRIGGER IF EXISTS nope", "CREATE SERVER IF NOT EXISTS s1 FOREIGN DATA WRAPPER mysql OPTIONS (USER 'a')", "RESET MASTER", "FLUSH LOCAL BINARY LOGS", "FLUSH HOSTS", "FLUSH USER_RESOURCES", "SET DEFAULT ROLE NONE", "SET ROLE NONE", "CREATE OR REPLACE TEMPORARY TABLE tt (id INT)", "ALTER TABLE users DISABLE KEYS", "EXECUTE IMMEDIATE 'SELECT 1'", "CREATE TEMPORARY TABLE tt2 SELECT 1", "DROP PREPARE nope", "PREPARE s FROM 'SELECT 1'", "DO 1", "BINLOG ''", "SIGNAL SQLSTATE '01000'", "GET DIAGNOSTICS @a = NUMBER", "CALL tame(5)", "CALL wild(5)",
	} {
		t.Run(text, func(t *testing.T) {
			f := setUp(t, nil)
			conn, err := f.db.Conn(f.ctx)
			f.must(err)
			defer conn.Close()
			id := tokens.Row("users", 1)
			was := f.zbStamp(id)
			f.execOn(conn, "START TRANSACTION")
			f.execOn(conn, "UPDATE users SET v = 99 WHERE id = 1")
			_, err = conn.ExecContext(f.ctx, text)
			var v int
			short, cancel := context.WithTimeout(f.ctx, 5*time.Second)
			defer cancel()
			if err := f.bare.QueryRowContext(short, "SELECT v FROM users WHERE id = 1").Scan(&v); err != nil {
				t.Skip("blocked ", err)
			}
			committed := v == 99
			now := f.zbStamp(id)
			if !committed && now == was {
				// fine; commit
				if _, err := conn.ExecContext(f.ctx, "COMMIT"); err != nil {
					t.Fatal(err)
				}
				if f.zbStamp(id) == was {
					t.Errorf("MISSED at COMMIT")
				}
				return
			}
			if committed && now == was {
				t.Errorf("MISSED: committed by it (err %v)", err)
			}
			if !committed && now != was {
				f.execOn(conn, "COMMIT")
				_ = f.bare.QueryRow("SELECT v FROM users WHERE id = 1").Scan(&v)
				if f.zbStamp(id) == now && v == 99 {
					t.Errorf("EARLY: published before the commit, and not again (err %v)", err)
				}
			}
		})
	}
}

func TestZBBeginTx(t *testing.T) {
	f := setUp(t, nil)
	conn, err := f.db.Conn(f.ctx)
	f.must(err)
	defer conn.Close()
	id := tokens.Row("users", 1)
	was := f.zbStamp(id)
	f.execOn(conn, "START TRANSACTION")
	f.execOn(conn, "UPDATE users SET v = 99 WHERE id = 1")
	tx, err := conn.BeginTx(f.ctx, nil)
	f.must(err)
	f.must(tx.Rollback())
	var v int
	f.must(f.bare.QueryRow("SELECT v FROM users WHERE id = 1").Scan(&v))
	if v == 99 && f.zbStamp(id) == was {
		t.Errorf("MISSED: BeginTx committed, Rollback released")
	}
}

func TestZBCompletion(t *testing.T) {
	f := setUp(t, nil)
	conn, err := f.db.Conn(f.ctx)
	f.must(err)
	f.execOn(conn, "SET completion_type = 1")
	f.execOn(conn, "UPDATE users SET v = 50 WHERE v > 1")
	f.execOn(conn, "INSERT INTO users VALUES (77, 'x', 1)")
	conn.Close()
	var n int
	f.must(f.bare.QueryRow("SELECT COUNT(*) FROM users WHERE id = 77").Scan(&n))
	if n != 1 {
		t.Errorf("an autocommit INSERT was not committed: %d", n)
	}
}

func TestZBFunctions(t *testing.T) {
	f := setUp(t, nil)
	q := func(db interface {
		execer
		QueryRowContext(ctx context.Context, q string, args ...any) *sql.Row
	}, run, ask string) string {
		if strings.HasPrefix(run, "SELECT") {
			var x any
			_ = db.QueryRowContext(f.ctx, run).Scan(&x, new(any), new(any))
		} else {
			f.execOn(db, run)
		}
		if strings.HasPrefix(ask, "ddl:") {
			f.execOn(f.db, "CREATE OR REPLACE TABLE other (id INT)")
			ask = ask[4:]
		}
		var a, b, c sql.NullString
		row := db.QueryRowContext(f.ctx, ask)
		if err := row.Scan(&a); err != nil {
			if strings.HasPrefix(ask, "SHOW") {
				rows, err := f.zbRows(db, ask)
				return fmt.Sprint(rows, err)
			}
			return err.Error()
		}
		_, _ = b, c
		return a.String
	}
	for _, c := range [][2]string{
		{"UPDATE users SET v = v + 1 WHERE v > 0", "SELECT ROW_COUNT()"},
		{"UPDATE users SET v = v + 1 WHERE id = 1", "SELECT ROW_COUNT()"},
		{"UPDATE users SET v = v + 1 WHERE id IN (1, 2, 77)", "SELECT ROW_COUNT()"},
		{"UPDATE users SET v = v + 1 WHERE id = 1", "ddl:SELECT ROW_COUNT()"},
		{"INSERT INTO notes (v) VALUES (1), (2)", "SELECT ROW_COUNT()"},
		{"INSERT INTO notes (v) VALUES (1), (2)", "SELECT LAST_INSERT_ID() > 3"},
		{"INSERT INTO notes (v) SELECT 1 UNION ALL SELECT 2", "SELECT ROW_COUNT()"},
		{"DELETE FROM notes WHERE v = 2", "SELECT ROW_COUNT()"},
		{"UPDATE users SET name = CONCAT(name, 1/0) WHERE v > 0", "SHOW WARNINGS"},
		{"UPDATE users SET name = CONCAT(name, 1/0) WHERE v > 0", "SELECT @@warning_count > 0"},
		{"INSERT INTO tags VALUES ('x', 2) ON DUPLICATE KEY UPDATE v = v + 1 + COALESCE(1/0, 1)", "SELECT @@warning_count > 0"},
		{"INSERT IGNORE INTO users VALUES (1, 'a', 1), (90, 'b', 1)", "SELECT @@warning_count > 0"},
		{"SELECT SQL_CALC_FOUND_ROWS * FROM users LIMIT 1", "SELECT FOUND_ROWS()"},
		{"SELECT SQL_CALC_FOUND_ROWS * FROM users LIMIT 1", "ddl:SELECT FOUND_ROWS()"},
	} {
		for _, inTx := range []bool{false, true} {
			var out [2]string
			for i, db := range []*sql.DB{f.bare, f.db} {
				conn, err := db.Conn(f.ctx)
				f.must(err)
				if inTx {
					f.execOn(conn, "BEGIN")
				}
				f.execOn(conn, "SET sql_mode = 'ERROR_FOR_DIVISION_BY_ZERO'")
				out[i] = q(conn, c[0], c[1])
				if inTx {
					f.execOn(conn, "ROLLBACK")
				}
				conn.Close()
			}
			if out[0] != out[1] {
				t.Errorf("DIFF tx=%v %s; %s: bare %s wrapped %s", inTx, c[0], c[1], out[0], out[1])
			}
		}
	}
}

func (f *fixture) zbRows(db any, q string) (out []string, err error) {
	rows, err := db.(*sql.Conn).QueryContext(f.ctx, q)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var a, b, c string
		if err := rows.Scan(&a, &b, &c); err != nil {
			return nil, err
		}
		out = append(out, a+b+c)
	}
	return out, rows.Err()
}

func zbTriggers() []string {
	list := []string{"CREATE TABLE aaa (id INT PRIMARY KEY, v INT)", "INSERT INTO aaa VALUES (1,1)"}
	for i := range 70 {
		list = append(list, fmt.Sprintf("CREATE TRIGGER a%02d BEFORE INSERT ON aaa FOR EACH ROW SET @x = 1", i))
	}
	return append(list, "CREATE TRIGGER zzt AFTER UPDATE ON aaa FOR EACH ROW UPDATE users SET v = 77 WHERE id = 1")
}
