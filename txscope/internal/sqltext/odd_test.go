package sqltext

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestOddTexts holds texts that were misread once. All are ones that a server takes.
func TestOddTexts(t *testing.T) {
	for _, c := range []struct {
		dialect    Dialect
		text, want string
	}{
		{Postgres, `(SELECT * INTO t FROM users)`, "schema t"},
		{Postgres, `WITH x AS (SELECT 1) (SELECT * INTO t FROM x)`, "schema t"},
		{Postgres, `SELECT * INTO temp FROM users`, "schema temp"},
		{Postgres, `SELECT 1 AS into INTO t`, "schema t"},
		{Postgres, `DELETE FROM users USING c.as WHERE 4 = id`, "delete users | id=[4] joined"},
		{Postgres, `SELECT 1 AS as INTO t`, "schema t"},
		{Postgres, `INSERT INTO t SELECT 1 AS returning`, "insert t |"},
		{Postgres, `CREATE TABLE t AS EXECUTE p(1)`, "schema t anywhere"},
		{Postgres, `CREATE RULE r AS ON INSERT TO v DO (DELETE FROM a; DELETE FROM b); DELETE FROM c`, "schema insert v a\ndelete c |"},
		{Postgres, `PREPARE transaction (text) AS UPDATE users SET a = $1`, "session users"},
		{Postgres, `REFRESH MATERIALIZED VIEW view WITH DATA`, "copy view"},
		{Postgres, `DROP TABLE if CASCADE`, "schema if"},
		{Postgres, `EXPLAIN ("analyze", buffers) UPDATE users SET a = 1`, "update users"},
		{Postgres, `EXPLAIN ANALYZE FORMAT`, "unknown anywhere"},
		{Postgres, `WITH t AS (SELECT 1) SEARCH DEPTH FIRST BY n SET insert UPDATE users SET a = 1`, "update users | a:=1 with"},
		{Postgres, `UPDATE users SET a = s.case WHERE id = 6`, "update users | a:=<s.case> id=[6]"},
		{Postgres, `UPDATE users SET a = (SELECT 1 AS case) WHERE id = 6`, "update users | a:=<(SELECT 1 AS case)> id=[6]"},
		{Postgres, `UPDATE users SET (address.street) = 3`, "update users | address:=<3>"},
		{Postgres, `UPDATE "U" SET a = 1 FROM u WHERE u.id = 6`, "update U | a:=1 joined"},
		{Postgres, `UPDATE users SET a = 1 WHERE user = 'bob'`, "update users | a:=1"},
		{Postgres, `INSERT INTO users (values) VALUES (1)`, "insert users | columns=values (1)"},
		{Postgres, `DELETE FROM users values WHERE id = 1`, "delete users"},
		{MySQL, `UPDATE a1.5 SET a = 1`, "update a1.5 | a:=1"},
		{MySQL, `UPDATE 1st SET 2$ = 5`, "update 1st | 2$:=5"},
		{MySQL, `UPDATE users SET a = 1 WHERE returning = 3 AND id = 4`, "update users | a:=1 id=[4]"},
		{MySQL, `UPDATE t SET x = 1e5WHERE id = 3`, "update t | x:=<1e5> id=[3]"},
		{MySQL, `UPDATE t SET x = 1.5WHERE id = 3`, "update t | x:=<1.5> id=[3]"},
		{MySQL, `UPDATE t SET x = 1e5e + .5 - 2.e3 WHERE id = 3`, "update t | x:=<1e5e + .5 - 2.e3> id=[3]"},
		{MySQL, `DELETE FROM users returning`, "delete users anywhere"},
		{MySQL, `DELETE r FROM returning AS r`, "delete returning"},
		{MySQL, `DELETE r FROM ((SELECT 1) q, b r)`, "delete b"},
		{MySQL, `DELETE shop.b FROM shop.x AS b`, "delete shop.x"},
		{MySQL, `UPDATE only JOIN b SET x = 1`, "update only b"},
		{MySQL, `UPDATE users SET a = 1 /*! WHERE id = 3 */`, "update users | a:=1 id=[3]"},
		{MySQL, `UPDATE users SET a = 1 /*! WHERE (id = 3 */)`, "update users"},
		{MySQL, `ALTER TABLE users RENAME people`, "schema users people alone"},
		{MySQL, `ALTER TABLE users RENAME = people`, "schema users people alone"},
		{MySQL, `RENAME TABLE tables TO d`, "schema tables d alone"},
		{MySQL, `UPDATE t SET x = 1 WHERE CASE WHEN a THEN end AND id = 5 AND b ELSE 1 END`, "update t anywhere"},
		{MySQL, `UPDATE t SET x = 1 WHERE d > NOW() - INTERVAL 1 AND id = 5 AND 1 DAY`, "update t | x:=1"},
		{MySQL, `UPDATE t SET x = 1 WHERE d > NOW() - INTERVAL 1 DAY AND id = 5`, "update t | x:=1 id=[5]"},
		{MySQL, `UPDATE {OJ a LEFT JOIN b ON a.id = b.id} SET a.x = 1`, "update OJ anywhere"},
		{MySQL, `DELETE HISTORY FROM t`, "delete HISTORY t"},
		{MySQL, `BEGIN DELETE FROM t`, "control anywhere alone control=other"},
		{MySQL, `SELECT 1 /*!99999 /* */ + ' */ ; DELETE FROM t -- ' */`, "unknown t anywhere alone control=other"},
		{MySQL, `ALTER TABLE t CONVERT TABLE u TO PARTITION p0 VALUES LESS THAN (5)`, "schema t u alone"},
		{Postgres, "SELECT E'a'\n'\\'' ; DELETE FROM b WHERE x = E'\\''", "read\ndelete b |"},
		{Postgres, "SELECT 'a' -- b\n 'c; DELETE FROM d'", "read"},
		{Postgres, `UPDATE t SET x = 1 WHERE id = 1 AND x = 5OR 1 = 1`, "unknown anywhere alone control=other"},
		{Postgres, `UPDATE t SET x = 0x1F + 1_000 + 1e-5 WHERE id = 1`, "update t | x:=<0x1F + 1_000 + 1e-5> id=[1]"},
	} {
		if got := describe(c.dialect, c.text); got != c.want {
			t.Errorf("%d: %s\ngot  %s\nwant %s", c.dialect, c.text, got, c.want)
		}
	}
}

// Names that are words of the language count where they can stand without quotes.
func TestWordsAsNames(t *testing.T) {
	for _, text := range []string{"SELECT 1 FROM set", "SELECT 1 FROM a JOIN delete ON true", "DELETE FROM a USING conflict", "COPY by TO STDOUT"} {
		s := Parse(Postgres, text).Statements[0]
		if !slices.ContainsFunc(s.Reads, func(n Name) bool {
			return slices.Contains([]string{"set", "delete", "conflict", "by"}, n.Name)
		}) {
			t.Errorf("%s: reads %v", text, s.Reads)
		}
	}
	s := Parse(Postgres, "SELECT delete(a), b FROM c, LATERAL insert(d)").Statements[0]
	for _, name := range []string{"delete", "insert"} {
		if !slices.Contains(s.Calls, Name{Name: name}) {
			t.Errorf("%s is not among the calls %v", name, s.Calls)
		}
	}
}

// A statement within one within one is read once, not twice at each depth.
func TestDepth(t *testing.T) {
	done := make(chan *Text, 1)
	go func() {
		done <- Parse(Postgres, "SELECT "+strings.Repeat("(WITH a AS ", 200)+"(DELETE FROM users RETURNING *)"+strings.Repeat(")", 200))
	}()
	select {
	case got := <-done:
		if s := got.Statements[0]; !s.Anywhere && !slices.Contains(s.Writes, Name{Name: "users"}) {
			t.Errorf("writes %v", s.Writes)
		}
	case <-time.After(time.Minute):
		t.Fatal("it takes for ever")
	}
}
