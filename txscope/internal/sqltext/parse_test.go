package sqltext

import (
	"fmt"
	"strings"
	"testing"
)

// describe writes what Parse says of a text, a line for each statement.
func describe(d Dialect, text string) string {
	var b strings.Builder
	t := Parse(d, text)
	for i := range t.Statements {
		s := &t.Statements[i]
		fmt.Fprintf(&b, "%s", verbs[s.Verb])
		for _, n := range s.Writes {
			fmt.Fprintf(&b, " %s", n)
		}
		if s.Anywhere {
			b.WriteString(" anywhere")
		}
		if s.Alone {
			b.WriteString(" alone")
		}
		if s.Control != NoControl {
			fmt.Fprintf(&b, " control=%s", controls[s.Control])
		}
		if s.Savepoint != "" {
			fmt.Fprintf(&b, "(%s)", s.Savepoint)
		}
		if s.DML != nil {
			b.WriteString(s.DML.describe(text))
		}
		b.WriteString("\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

var verbs = map[Verb]string{
	Unknown: "unknown", Read: "read", Insert: "insert", Replace: "replace", Update: "update", Delete: "delete", Merge: "merge", Truncate: "truncate", Copy: "copy",
	Schema: "schema", Call: "call", Do: "do", Execute: "execute", Control: "control", Session: "session", Maintain: "maintain",
}

var controls = map[ControlKind]string{
	Begin: "begin", Commit: "commit", Rollback: "rollback", Savepoint: "savepoint", Release: "release", RollbackTo: "rollback to", OtherControl: "other",
}

func (d *DML) describe(text string) string {
	var b strings.Builder
	b.WriteString(" |")
	if d.Alias != "" {
		fmt.Fprintf(&b, " as=%s", d.Alias)
	}
	if d.Columns != nil {
		fmt.Fprintf(&b, " columns=%s", strings.Join(d.Columns, ","))
	}
	for _, row := range d.Values {
		fmt.Fprintf(&b, " (%s)", describeOperands(row, text))
	}
	for _, a := range d.Assigned {
		fmt.Fprintf(&b, " %s:=%s", a.Column, describeOperands([]Operand{a.Value}, text))
	}
	for _, k := range d.Keys {
		fmt.Fprintf(&b, " %s=[%s]", k.Column, describeOperands(k.Values, text))
	}
	if d.Ignore {
		b.WriteString(" ignore")
	}
	if d.Upsert {
		b.WriteString(" upsert")
	}
	if d.Joined {
		b.WriteString(" joined")
	}
	if d.With {
		b.WriteString(" with")
	}
	if d.Cursor {
		b.WriteString(" cursor")
	}
	if d.Returning {
		b.WriteString(" returning")
	}
	if d.End < 0 {
		b.WriteString(" closed")
	}
	return b.String()
}

func describeOperands(list []Operand, text string) string {
	var parts []string
	for _, o := range list {
		switch o.Kind {
		case Argument:
			parts = append(parts, fmt.Sprintf("$%d", o.Ordinal))
		case Integer:
			parts = append(parts, fmt.Sprint(o.Int))
		case String:
			parts = append(parts, fmt.Sprintf("%q", o.Text))
		case Null:
			parts = append(parts, "null")
		case Default:
			parts = append(parts, "default")
		default:
			parts = append(parts, "<"+o.Span.Of(text)+">")
		}
	}
	return strings.Join(parts, ",")
}

func TestTruncates(t *testing.T) {
	for source, want := range map[string]bool{
		"BEGIN TRUNCATE a; END":             true,
		"BEGIN UPDATE a SET n = n + 1; END": false,
		"BEGIN n := truncate(1.5, 1); END":  false,
		"BEGIN TRUNCATE TABLE a, b; END":    true,
		"BEGIN x := 'TRUNCATE a'; END":      false,
	} {
		if got := Body(Postgres, source).Truncates; got != want {
			t.Errorf("%s: %v", source, got)
		}
	}
}

// TestExplainCalls: MariaDB calls the functions of a statement that it only explains.
func TestExplainCalls(t *testing.T) {
	for _, text := range []string{"EXPLAIN SELECT f()", "DESCRIBE SELECT * FROM (SELECT f()) x"} {
		s := Parse(MySQL, text).Statements[0]
		if len(s.Calls) != 1 || s.Calls[0].Name != "f" || s.Verb != Read || len(s.Writes) > 0 {
			t.Errorf("%s: %+v", text, s)
		}
	}
	if s := Parse(MySQL, "EXPLAIN DELETE FROM a").Statements[0]; len(s.Writes) > 0 || s.Anywhere {
		t.Errorf("%+v", s)
	}
}

func TestParse(t *testing.T) {
	all := []Dialect{Postgres, MySQL, SQLite}
	pg, my, lite := []Dialect{Postgres}, []Dialect{MySQL}, []Dialect{SQLite}
	for _, c := range []struct {
		dialects []Dialect
		text     string
		want     string
	}{
		{all, "", ""},
		{all, " ; -- nothing\n ;; ", ""},
		{all, "SELECT 1", "read"},
		{all, "select * from users where name = 'x; delete from users'", "read"},
		{all, "(SELECT 1) UNION (SELECT 2)", "read"},

		// INSERT.
		{all, "INSERT INTO users (id, name) VALUES (1, 'a'), (-2, 'it''s')", "insert users | columns=id,name (1,\"a\") (-2,\"it's\")"},
		{all, "INSERT INTO users VALUES ('~''~''~', '', 'x')", "insert users | (\"~'~'~\",\"\",\"x\")"},
		{all, "INSERT INTO users VALUES ('''', '''''')", "insert users | (\"'\",\"''\")"},
		{pg, `INSERT INTO users VALUES (E'it''s', 'a''\b')`, `insert users | ("it's","a'\\b")`},
		{my, `INSERT INTO users VALUES ("say ""it's""", 'a''\b')`, `insert users | (<"say ""it's""">,<'a''\b'>)`},
		{pg, "INSERT INTO users AS u VALUES ($1, DEFAULT, null) ON CONFLICT (id) DO UPDATE SET name = excluded.name, n = u.n + 1 WHERE u.n < 5 RETURNING id", "insert users | as=u ($1,default,null) name:=<excluded.name> n:=<u.n + 1> upsert returning closed"},
		{pg, "INSERT INTO users SELECT * FROM old JOIN x ON old.id = x.id ON CONFLICT ON CONSTRAINT k DO NOTHING", "insert users | ignore"},
		{pg, "INSERT INTO users DEFAULT VALUES", "insert users |"},
		{pg, "INSERT INTO public.users (id) OVERRIDING SYSTEM VALUE VALUES ($1::bigint)", "insert public.users | columns=id ($1)"},
		{pg, "INSERT INTO users (id, tags[1], addr.street) VALUES ($1, 2, 3)", "insert users | columns=id,, ($1,2,3)"},
		{pg, "WITH x AS (SELECT 1) INSERT INTO users SELECT * FROM x", "insert users | with"},
		{my, "INSERT IGNORE INTO users SET id = ?, name = ? ON DUPLICATE KEY UPDATE name = VALUES(name)", "insert users | columns=id,name ($1,$2) name:=<VALUES(name)> ignore upsert"},
		{my, "INSERT INTO users VALUES ROW(1,2), ROW(3,4)", "insert users | (1,2) (3,4)"},
		{my, "INSERT INTO users (users.id, name) VALUES (?, ?) AS new ON DUPLICATE KEY UPDATE name = new.name", "insert users | columns=id,name ($1,$2) name:=<new.name> upsert"},
		{my, "REPLACE LOW_PRIORITY INTO users (id) VALUES (9)", "replace users | columns=id (9)"},
		{lite, "INSERT OR REPLACE INTO users (id) VALUES (?1)", "replace users | columns=id ($1)"},
		{lite, "INSERT OR IGNORE INTO users (id) VALUES (:id)", "insert users | columns=id (<:id>) ignore"},

		// UPDATE.
		{all, "UPDATE users SET name = 'x' WHERE id = 7 AND (n = 1 OR n = 2)", "update users | name:=\"x\" id=[7]"},
		{all, "UPDATE users SET a = 1 WHERE id = 7 OR n = 1", "update users | a:=1"},
		{all, "UPDATE users SET a = 1 WHERE n BETWEEN 1 AND id = 5", "update users | a:=1"},
		{all, "UPDATE users SET a = 1 WHERE n BETWEEN 1 AND 2 AND id = 5", "update users | a:=1 id=[5]"},
		{all, "UPDATE users SET a = 1 WHERE CASE WHEN b AND id = 5 AND c THEN 1 ELSE 0 END = 1", "update users | a:=1"},
		{all, "UPDATE users SET a = CASE WHEN b THEN 1 ELSE 2 END, c = (SELECT max(id) FROM x WHERE y = 1) WHERE ((id = 5))", "update users | a:=<CASE WHEN b THEN 1 ELSE 2 END> c:=<(SELECT max(id) FROM x WHERE y = 1)> id=[5]"},
		{all, "UPDATE users SET a = 1 WHERE NOT id = 5 AND 6 = n", "update users | a:=1 n=[6]"},
		{all, "UPDATE users SET a = 1 WHERE id = 5 - 1", "update users | a:=1"},
		{all, "UPDATE users SET a = 1 WHERE id IN (1, 2) AND id NOT IN (3)", "update users | a:=1 id=[1,2]"},
		{all, "UPDATE users SET a = 1 WHERE id IN (1, 1+1)", "update users | a:=1"},
		{all, "UPDATE users SET a = 1 WHERE users.id = 1 AND other.id = 2", "update users | a:=1 id=[1]"},
		{all, "UPDATE users AS u SET a = 1 WHERE users.id = 1 AND u.id = 2", "update users | as=u a:=1 id=[2]"},
		{pg, "UPDATE ONLY users * u SET (a, b) = ($1, $2), c = d IS DISTINCT FROM e FROM x WHERE u.id = $3", "update users | as=u a:=<($1, $2)> b:=<($1, $2)> c:=<d IS DISTINCT FROM e> id=[$3] joined"},
		{pg, "UPDATE users SET addr.street = 'x', tags[2] = 'y' WHERE CURRENT OF c", "update users | addr:=\"x\" tags:=\"y\" cursor"},
		{my, "UPDATE users SET a = 1 WHERE id = 3 ORDER BY id LIMIT 1", "update users | a:=1 id=[3]"},
		{my, "UPDATE users SET a = 1 WHERE id = 3 || n", "update users | a:=1"},
		{my, "UPDATE users SET a = 1 WHERE id = 3 && n = 1", "update users | a:=1"},
		{my, "UPDATE a, b SET a.x = 1 WHERE a.id = b.id", "update a"},
		{my, "UPDATE a JOIN b ON (a.id = b.id) SET x = 1", "update a b"},
		{my, "UPDATE db.a AS q LEFT JOIN (SELECT 1) z ON 1 SET q.x = 1", "update db.a"},

		// DELETE.
		{all, "DELETE FROM users", "delete users |"},
		{pg, "DELETE FROM users USING x WHERE users.id = $1 AND x.u = users.id RETURNING *", "delete users | id=[$1] joined returning closed"},
		{my, "DELETE a, b FROM users a JOIN posts AS b JOIN c WHERE 1", "delete users posts"},
		{my, "DELETE FROM a, x.b USING a JOIN x.b JOIN c", "delete a x.b"},

		// Writes within.
		{pg, "WITH d AS (DELETE FROM a RETURNING *), i AS (INSERT INTO b SELECT * FROM d) SELECT 1", "read a b"},
		{pg, "WITH d AS (DELETE FROM a RETURNING *) UPDATE users SET x = 1 WHERE id = 1", "update users a"},
		{pg, "SELECT * INTO TEMP TABLE t FROM users", "schema t"},
		{pg, "EXPLAIN (ANALYZE, BUFFERS) UPDATE users SET a = 1", "update users"},
		{pg, "EXPLAIN UPDATE users SET a = 1", "read"},
		{my, "ANALYZE FORMAT=JSON UPDATE users SET a = 1", "update users"},
		{my, "SET STATEMENT max_statement_time=1 FOR DELETE FROM users", "delete users"},

		// Others.
		{pg, "MERGE INTO users u USING x ON u.id = x.id WHEN MATCHED THEN DELETE", "merge users"},
		{pg, "TRUNCATE TABLE a, ONLY b RESTART IDENTITY", "truncate a b"},
		{my, "TRUNCATE a", "truncate a alone"},
		{pg, "COPY users (id, name) FROM STDIN", "copy users"},
		{pg, "COPY BINARY users FROM '/x'", "copy users"},
		{pg, "COPY (SELECT 1) TO STDOUT", "read"},
		{pg, "COPY users TO STDOUT", "read"},
		{my, "LOAD DATA LOCAL INFILE 'x' REPLACE INTO TABLE users FIELDS TERMINATED BY ','", "copy users"},
		{pg, "REFRESH MATERIALIZED VIEW CONCURRENTLY v", "copy v"},
		{pg, "CALL p(1)", "call anywhere"},
		{pg, "DO $$ BEGIN DELETE FROM x; END $$", "do anywhere"},
		{my, "DO sleep(1)", "read"},
		{pg, "EXECUTE p(1)", "execute anywhere"},
		{all, "FROBNICATE users", "unknown anywhere"},
		{all, "UPDATE users SET name = 'no end", "unknown anywhere alone control=other"},

		// DDL.
		{pg, "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON ONLY users (id)", "schema users alone"},
		{pg, "CREATE TRIGGER t BEFORE UPDATE OF name ON users FOR EACH ROW EXECUTE FUNCTION f()", "schema users"},
		{pg, "ALTER TABLE IF EXISTS ONLY users ATTACH PARTITION p FOR VALUES IN (1)", "schema users p"},
		{pg, "DROP TABLE IF EXISTS a, b.c CASCADE", "schema a b.c"},
		{pg, "DROP SCHEMA x CASCADE", "schema anywhere"},
		{pg, "DROP FUNCTION f(int) CASCADE", "schema anywhere"},
		{pg, "DROP FUNCTION f(int)", "schema"},
		{my, "SELECT 1 --\x7f '\n; DELETE FROM a -- '", "read\ndelete a |"},
		{pg, "VACUUM (FULL) users", "maintain alone"},
		{my, "RENAME TABLE a TO b, c TO d", "schema a b c d alone"},
		{my, "CREATE TEMPORARY TABLE t (id int)", "schema t"},
		{my, "CREATE TABLE IF NOT EXISTS t LIKE u", "schema t alone"},
		{my, "CREATE TRIGGER t BEFORE INSERT ON users FOR EACH ROW BEGIN SET NEW.a = 1; SET NEW.b = 2; END", "schema users anywhere alone"},

		// Control.
		{all, "BEGIN", "control control=begin"},
		{pg, "START TRANSACTION ISOLATION LEVEL SERIALIZABLE", "control control=begin"},
		{all, "COMMIT", "control control=commit"},
		{pg, "COMMIT AND CHAIN", "control control=other"},
		{pg, "COMMIT AND NO CHAIN", "control control=commit"},
		{pg, "COMMIT PREPARED 'x'", "control anywhere control=other"},
		{pg, "PREPARE TRANSACTION 'x'", "control control=other"},
		{all, "ROLLBACK", "control control=rollback"},
		{all, "ROLLBACK TO SAVEPOINT Sp", "control control=rollback to(sp)"},
		{all, "SAVEPOINT sp", "control control=savepoint(sp)"},
		{all, "RELEASE SAVEPOINT sp", "control control=release(sp)"},
		{my, "XA COMMIT 'x'", "control anywhere control=other"},
		{my, "SET autocommit = 1", "session alone"},
		{my, "SET @@session.autocommit := 0", "session alone"},

		// Several statements, and what only looks like several.
		{all, "DELETE FROM a; DELETE FROM b;", "delete a |\ndelete b |"},
		{pg, "INSERT INTO a VALUES ($x$;$x$, E'\\';', '\\'); DELETE FROM b", "insert a | (\";\",<E'\\';'>,\"\\\\\")\ndelete b |"},
		{pg, "/* /* ; */ ; */ DELETE FROM \"a;b\" -- ;", "delete a;b |"},
		{my, "DELETE FROM a -- ;\n; # ;\nDELETE FROM `b;c`", "delete a |\ndelete b;c |"},
		{my, "/*! DELETE FROM a */", "delete a |"},
		{my, "DELETE FROM a /*!99999 WHERE id = 1 */", "delete a"},
		{my, "/*M! DELETE FROM a */", "unknown a anywhere alone control=other"},
		{my, `UPDATE a SET x = "y", z = 'a' WHERE id = 1`, "update a | x:=<\"y\"> z:=\"a\" id=[1]"},
		{my, `UPDATE a SET x = 1 WHERE "id" = 1`, "update a"},
		{my, `INSERT INTO a (id, x) VALUES (1, "y")`, "insert a | columns=id,x (1,<\"y\">)"},
		{my, `UPDATE a SET x = 'y\'' WHERE id = 1`, "unknown a anywhere alone control=other"},
	} {
		for _, d := range c.dialects {
			want := c.want
			if d == MySQL && (want == "control control=begin") {
				want = "control alone control=begin"
			}
			if strings.Contains(c.text, "Sp") && d != Postgres {
				want = strings.ReplaceAll(want, "(sp)", "(Sp)")
			}
			if got := describe(d, c.text); got != want {
				t.Errorf("%d: %s\ngot  %s\nwant %s", d, c.text, got, want)
			}
		}
	}
}
