package sqltext

import (
	"slices"
	"strings"
	"testing"
)

// bodyCase says what a source can do. Names are written as they are shown, joined by spaces; calls and
// reads are those that must be among what is found.
type bodyCase struct {
	name, source         string
	writes, calls, reads string
	dynamic, ends, whole bool
	assigns              string
}

func names(list []Name) string {
	texts := make([]string, len(list))
	for i, n := range list {
		texts[i] = n.String()
	}
	return strings.Join(texts, " ")
}

func testBodies(t *testing.T, d Dialect, cases []bodyCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := Body(d, c.source)
			if w := names(got.Writes); w != c.writes {
				t.Errorf("writes %q, want %q", w, c.writes)
			}
			if a := strings.Join(got.Assigns, " "); a != c.assigns {
				t.Errorf("assigns %q, want %q", a, c.assigns)
			}
			if got.Dynamic != c.dynamic {
				t.Errorf("dynamic is %v", got.Dynamic)
			}
			if got.Transactions != c.ends {
				t.Errorf("transactions is %v", got.Transactions)
			}
			if got.Whole != c.whole {
				t.Errorf("whole is %v", got.Whole)
			}
			for _, call := range strings.Fields(c.calls) {
				if !slices.Contains(strings.Fields(names(got.Calls)), call) {
					t.Errorf("calls %q, want %s too", names(got.Calls), call)
				}
			}
			for _, read := range strings.Fields(c.reads) {
				if !slices.Contains(strings.Fields(names(got.Reads)), read) {
					t.Errorf("reads %q, want %s too", names(got.Reads), read)
				}
			}
		})
	}
}

func TestBodyPostgres(t *testing.T) {
	testBodies(t, Postgres, []bodyCase{
		{name: "updated_at", source: `BEGIN NEW.updated_at = now(); RETURN NEW; END`, assigns: "updated_at", calls: "now"},
		{name: "updated_at with :=", source: "\nBEGIN\n  new.\"updatedAt\" := clock_timestamp();\n  RETURN new;\nEND;\n",
			assigns: "updatedAt"},
		{name: "audit", source: `BEGIN
			IF TG_OP = 'DELETE' THEN
				INSERT INTO audit.log (op, row) VALUES ('D', to_jsonb(OLD)); RETURN OLD;
			ELSIF (TG_OP = 'UPDATE') THEN
				INSERT INTO audit.log SELECT 'U', now(), OLD.*, NEW.*; RETURN NEW;
			END IF;
			INSERT INTO audit.log (op, row) VALUES ('I', row_to_json(NEW));
			RETURN NULL; -- after
		END`, writes: "audit.log", calls: "to_jsonb row_to_json"},
		{name: "coalesce", source: `BEGIN UPDATE counts SET n = n + 1; RETURN COALESCE(NEW, OLD); END`, writes: "counts"},
		{name: "counter cache", source: `BEGIN
			UPDATE posts SET comments = comments + 1 WHERE id = NEW.post_id;
			UPDATE ONLY stats AS s SET n = s.n - 1 FROM posts p WHERE p.id = s.id;
			RETURN NEW; END`, writes: "posts stats", reads: "posts"},
		{name: "soft delete", source: `BEGIN UPDATE users SET deleted_at = now() WHERE id = OLD.id; RETURN NULL; END`, writes: "users"},
		{name: "comparison is no assignment", source: `BEGIN IF NEW.id = OLD.id AND NEW.a = 1 OR (NEW.b = 2) THEN
			PERFORM refresh_totals(NEW.id); END IF; WHILE NEW.c = 1 LOOP NULL; END LOOP; RETURN NEW; END`, calls: "refresh_totals"},
		{name: "assignments", source: `<<l>> DECLARE x int := 1; BEGIN
			NEW.a = 1; IF x = 1 THEN NEW.b = 2; ELSE NEW.c := 3; END IF;
			LOOP NEW.d = 4; EXIT; END LOOP;
			SELECT y, z INTO STRICT NEW.e, NEW.f FROM t;
			INSERT INTO u DEFAULT VALUES RETURNING id INTO x, NEW.g;
			GET DIAGNOSTICS NEW.h = ROW_COUNT;
			NEW.i[1] := 3; NEW.j.k = 4; CALL p(x, NEW.l); FETCH c INTO NEW.m;
			RETURN NEW; END`,
			writes: "u", assigns: "a b c d e f g h i j l m", calls: "p", reads: "t"},
		{name: "new as a whole", source: `BEGIN NEW := fix(NEW); RETURN NEW; END`, whole: true, calls: "fix"},
		{name: "select into new", source: `BEGIN SELECT * INTO NEW FROM t LIMIT 1; RETURN NEW; END`, whole: true},
		{name: "alias", source: `DECLARE n ALIAS FOR NEW; BEGIN n.id := 1; RETURN n; END`, whole: true},
		{name: "another record", source: `DECLARE r record; BEGIN r.id := 7; RETURN r; END`, whole: true},
		{name: "populated record", source: `BEGIN RETURN jsonb_populate_record(NEW, '{}'); END`, whole: true},
		{name: "out argument", source: `BEGIN CALL change(NEW); RETURN NEW; END`, whole: true, calls: "change"},
		{name: "for", source: `BEGIN FOR NEW IN SELECT * FROM t LOOP END LOOP; RETURN NEW; END`, whole: true},
		{name: "loops", source: `DECLARE r record; BEGIN
			FOR r IN SELECT * FROM a JOIN b USING (id), c.d x FOR UPDATE OF a LOOP
				DELETE FROM ONLY e WHERE id = r.id;
			END LOOP;
			FOR r IN UPDATE f SET n = 1 RETURNING id LOOP NULL; END LOOP;
			FOR i IN 1..10 LOOP MERGE INTO g USING h ON g.id = h.id WHEN MATCHED THEN UPDATE SET a = 1
				WHEN NOT MATCHED THEN INSERT (id) VALUES (1); END LOOP;
			END`, writes: "e f g", reads: "a b c.d h"},
		{name: "upsert", source: `INSERT INTO t AS x (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET n = x.n + 1`, writes: "t"},
		{name: "with", source: `WITH m AS (DELETE FROM a RETURNING *), n AS (UPDATE b SET c = 1 RETURNING d) INSERT INTO e SELECT * FROM m, n`,
			writes: "a b e", reads: "m n"},
		{name: "a table called set", source: `BEGIN UPDATE set SET a = 1; UPDATE "select" SET b = 1; END`, writes: "set select"},
		{name: "locks", source: `SELECT 1 FROM t FOR NO KEY UPDATE; SELECT 1 FROM t FOR UPDATE NOWAIT`},
		{name: "truncate", source: `TRUNCATE TABLE ONLY a, b.c * RESTART IDENTITY`, writes: "a b.c"},
		{name: "truncate cascade", source: `TRUNCATE a CASCADE`, writes: "a", dynamic: true},
		{name: "copy", source: `COPY a (x, y) FROM '/tmp/x'; COPY b TO '/tmp/y'; COPY BINARY c FROM '/tmp/z'; COPY (SELECT 1 FROM d) TO '/tmp/a'`,
			writes: "a c", reads: "d"},
		{name: "tables made", source: `CREATE TEMP TABLE IF NOT EXISTS a ON COMMIT DROP AS SELECT * FROM b; DROP TABLE IF EXISTS c, d CASCADE;
			ALTER TABLE e ADD COLUMN f int, DROP COLUMN g; REFRESH MATERIALIZED VIEW CONCURRENTLY h; SELECT * INTO TEMP i FROM j;
			CREATE INDEX k ON l (m)`, writes: "a c d e h i", reads: "b j"},
		{name: "triggers switched off", source: `ALTER TABLE a DISABLE TRIGGER ALL`, writes: "a", dynamic: true},
		{name: "schema", source: `DROP SCHEMA s CASCADE`, dynamic: true},
		{name: "function made", source: `BEGIN CREATE FUNCTION f() RETURNS int AS $q$ SELECT 1 $q$ LANGUAGE sql; END`, dynamic: true},
		{name: "execute", source: `BEGIN EXECUTE 'UPDATE ' || t || ' SET a = 1'; END`, dynamic: true},
		{name: "execute format", source: `BEGIN RETURN QUERY EXECUTE format('…', 1); END`, dynamic: true},
		{name: "for in execute", source: `BEGIN FOR r IN EXECUTE q LOOP NULL; END LOOP; OPEN c FOR EXECUTE q; END`, dynamic: true},
		{name: "execute a variable called function", source: `BEGIN EXECUTE function USING a; END`, dynamic: true},
		{name: "do", source: `BEGIN DO $$ BEGIN DELETE FROM x; END $$; END`, dynamic: true},
		{name: "torn", source: `BEGIN PERFORM 'x; UPDATE t SET a = 1; END`, dynamic: true},
		{name: "no name", source: `INSERT INTO $1`, dynamic: true},
		{name: "transactions", source: `BEGIN UPDATE a SET b = 1; COMMIT AND CHAIN; END`, writes: "a", ends: true},
		{name: "rollback", source: `BEGIN ROLLBACK; END`, ends: true},
		{name: "trigger", source: `CREATE TRIGGER x BEFORE INSERT OR DELETE OR UPDATE OF a, b OR TRUNCATE ON t FOR EACH ROW
			WHEN (old.* IS DISTINCT FROM new.*) EXECUTE FUNCTION public.f()`, calls: "public.f"},
		{name: "rule", source: `CREATE RULE "_INSERT" AS ON INSERT TO public.v DO INSTEAD INSERT INTO t (id) VALUES (new.id)`, writes: "t"},
		{name: "rules", source: `CREATE RULE r AS ON UPDATE TO v WHERE (new.a <> old.a) DO INSTEAD ( UPDATE t SET a = new.a
			WHERE (t.id = old.id); DELETE FROM u; );`, writes: "t u"},
		{name: "rule on delete", source: `CREATE RULE r AS ON DELETE TO v DO INSTEAD NOTHING`},
		{name: "rule also", source: `CREATE RULE r AS ON DELETE TO v DO ALSO UPDATE t SET n = 1`, writes: "t"},
		{name: "view", source: ` SELECT u.id, count(p.*) AS "update", touch(u.id) FROM (users u LEFT JOIN s.posts p ON ((p.uid = u.id))) WHERE (u.x = f(1));`,
			calls: "count touch f", reads: "users s.posts"},
		{name: "views of views", source: `SELECT 1 FROM a, LATERAL (SELECT 2 FROM b, ONLY c) x, f(1) WHERE EXISTS (TABLE d)`,
			reads: "a b c d", calls: "f"},
		{name: "strings and comments", source: `BEGIN RAISE NOTICE 'UPDATE a SET b = 1'; /* DELETE FROM c */ -- TRUNCATE d
			PERFORM $q$ INSERT INTO e $q$; END`},
		{name: "escapes", source: `BEGIN PERFORM E'it\'s'; DELETE FROM t; PERFORM '\'; DELETE FROM u; END`, writes: "t u"},
		{name: "attributes", source: `BEGIN IF NEW.update = 1 THEN x.delete := NEW.execute; END IF; RETURN NEW; END`},
		{name: "trigger events", source: `BEGIN IF TG_OP IN ('INSERT', 'UPDATE') THEN RETURN NEW; END IF; RETURN OLD; END`},
		{name: "cursor that writes", source: `BEGIN OPEN c FOR UPDATE t SET x = 1 RETURNING *; OPEN d FOR UPDATE set SET y = 1; END`, writes: "t set"},
		{name: "cursors that lock", source: `BEGIN FOR r IN SELECT 1 FROM t FOR UPDATE LOOP NULL; END LOOP; SELECT 1 INTO x FROM t FOR UPDATE OF t; END`},
		{name: "words called", source: `BEGIN PERFORM filter(1), key(2); END`, calls: "filter key"},
		{name: "compared", source: `BEGIN IF OLD IS DISTINCT FROM NEW THEN NEW.a = 1; END IF; IF NEW IS NOT DISTINCT FROM OLD THEN NEW.b = 1; END IF; RETURN NEW; END`, assigns: "a b"},
		{name: "continued string", source: "BEGIN x := E'b'\n'\\''; DELETE FROM t WHERE y = E'\\''; END", writes: "t"},
		{name: "empty", source: ``},
	})
}

func TestBodyMySQL(t *testing.T) {
	testBodies(t, MySQL, []bodyCase{
		{name: "set new", source: "SET NEW.Slug = LOWER(NEW.title), NEW.`updated` = NOW()", assigns: "slug updated"},
		{name: "set among others", source: "BEGIN SET @a = 1, NEW.b = 2; IF NEW.c = 1 THEN SET `new`.d = 1; END IF; END", assigns: "b d"},
		{name: "signal", source: "BEGIN IF NEW.age < 0 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'UPDATE users'; END IF; END"},
		{name: "one statement", source: "INSERT INTO audit (id) VALUES (NEW.id)", writes: "audit"},
		{name: "update", source: "UPDATE `shop`.`counts` SET n = n + 1 WHERE id = NEW.id", writes: "shop.counts"},
		{name: "joined update", source: "UPDATE LOW_PRIORITY IGNORE a JOIN shop.b ON a.id = (b.id + f(1, c)) LEFT JOIN (d, e) USING (x) SET a.x = b.x, y = 1",
			writes: "a shop.b d e", calls: "f"},
		{name: "update of a query", source: "UPDATE a, (SELECT id FROM b, c) q SET a.x = 1 WHERE a.id = q.id", writes: "a", reads: "b c"},
		{name: "index hints", source: "UPDATE a USE INDEX FOR ORDER BY (i), b FORCE INDEX FOR JOIN (j), c SET a.x = 1", writes: "a b c"},
		{name: "delete", source: "DELETE QUICK FROM a WHERE id = OLD.id ORDER BY x LIMIT 1", writes: "a"},
		{name: "delete of several", source: "DELETE x, b.y.* FROM users AS x JOIN b.y ON x.id = y.id", writes: "users b.y"},
		{name: "delete using", source: "DELETE FROM a, b USING a INNER JOIN b JOIN c", writes: "a b c"},
		{name: "delete returning", source: "DELETE FROM a WHERE x = 1 RETURNING id, name", writes: "a"},
		{name: "insert forms", source: "BEGIN INSERT a VALUES (1); INSERT IGNORE INTO b SET c = 1; REPLACE d (e) VALUES (1); REPLACE INTO f SELECT * FROM g; END",
			writes: "a b d f", reads: "g"},
		{name: "functions", source: "BEGIN SET x = INSERT('a', 1, 1, 'b'), y = REPLACE('a', 'b', 'c'), z = TRUNCATE(1.5, 1), u = LEFT('a', 1); END"},
		{name: "upsert", source: "INSERT INTO a (id) VALUES (1) ON DUPLICATE KEY UPDATE n = VALUES(n), m = 2", writes: "a"},
		{name: "cursor", source: `BEGIN DECLARE done INT DEFAULT 0; DECLARE c CURSOR FOR SELECT id FROM a FOR UPDATE;
			DECLARE CONTINUE HANDLER FOR NOT FOUND SET done = 1; OPEN c; l: LOOP FETCH c INTO i; IF done THEN LEAVE l; END IF;
			CALL shop.fix(i); CALL plain; DO g(i); END LOOP; CLOSE c; END`, calls: "shop.fix plain g", reads: "a"},
		{name: "handler that writes", source: "BEGIN DECLARE EXIT HANDLER FOR SQLEXCEPTION UPDATE errors SET n = n + 1; SELECT a INTO @b FROM c; END",
			writes: "errors", reads: "c"},
		{name: "loops", source: "WHILE x DO UPDATE a SET b = 1; END WHILE", writes: "a"},
		{name: "prepared", source: "BEGIN PREPARE s FROM @q; EXECUTE s; DEALLOCATE PREPARE s; END", dynamic: true},
		{name: "immediate", source: "EXECUTE IMMEDIATE 'x'", dynamic: true},
		{name: "commits", source: "BEGIN START TRANSACTION; DELETE FROM a; COMMIT; END", writes: "a", ends: true},
		{name: "autocommit", source: "SET @@session.autocommit = 1", ends: true},
		{name: "schema", source: "BEGIN CREATE TABLE a (b INT); TRUNCATE c; RENAME TABLE d TO e, f TO g; END", writes: "a c d e f g", ends: true},
		{name: "temporary", source: "BEGIN CREATE TEMPORARY TABLE a AS SELECT * FROM b; DROP TEMPORARY TABLE IF EXISTS a; END", writes: "a", reads: "b"},
		{name: "implicit commit", source: "BEGIN LOCK TABLES a WRITE; UNLOCK TABLES; END", ends: true},
		{name: "load", source: "LOAD DATA INFILE 'x' REPLACE INTO TABLE a.b", writes: "a.b"},
		{name: "view", source: "select `shop`.`u`.`id` AS `id`,`f`(`shop`.`u`.`id`) AS `x` from (`shop`.`users` `u` join `shop`.`posts` `p` on(`p`.`uid` = `u`.`id`)) where 1",
			reads: "shop.users shop.posts", calls: "f"},
		{name: "ansi quotes", source: `INSERT INTO "a" VALUES ("x; DELETE FROM b")`, writes: "a"},
		{name: "backslashes", source: `BEGIN SET @a = '\'; DELETE FROM a; SET @b = '; DELETE FROM b; SET @c = 1 /* ' */; END`, writes: "b a"},
		{name: "version comments", source: "/*!50003 UPDATE a SET b = 1 */", writes: "a"},
		{name: "comments", source: "BEGIN # UPDATE a\n-- DELETE FROM b\n/* TRUNCATE c */ END"},
		{name: "torn", source: "SET @a = 'x", dynamic: true},
		{name: "odbc", source: "BEGIN UPDATE {OJ a LEFT JOIN b ON a.id = b.id} SET a.x = 8; DELETE c FROM {OJ c LEFT JOIN d ON c.id = d.id}; END", writes: "a b c d"},
		{name: "set statement", source: "SET STATEMENT max_statement_time = 1 FOR UPDATE t SET x = 77", writes: "t"},
		{name: "out argument", source: "CALL p(NEW.a, @x)", assigns: "a", calls: "p"},
	})
}

func TestBodySQLite(t *testing.T) {
	testBodies(t, SQLite, []bodyCase{
		{name: "forms", source: `CREATE TRIGGER x AFTER UPDATE OF a ON b BEGIN
			INSERT OR REPLACE INTO c VALUES (1); REPLACE INTO main.d VALUES (2); UPDATE OR IGNORE [e f] SET g = 1;
			DELETE FROM 'h'; SELECT replace('a', 'b', 'c'); END`, writes: "c main.d e f h"},
	})
}

func FuzzBody(f *testing.F) {
	for _, source := range []string{
		`BEGIN NEW.a = 1; SELECT b INTO NEW.c[1] FROM d; CALL e(NEW.f); RETURN NEW; END`,
		"DELETE a FROM b AS a JOIN c USING (d); UPDATE a, (SELECT 1) x SET y = 1",
		"CREATE TABLE a AS TABLE b; TRUNCATE c CASCADE; COPY d (e) FROM STDIN",
		"RETURN COALESCE(NEW, OLD)", "/*!50000 UPDATE a SET b = \"c\" */", "EXECUTE FUNCTION f(", "N'0", "INTO NEW.a[(",
	} {
		f.Add(source)
	}
	for _, text := range statements(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, source string) {
		for _, d := range []Dialect{Postgres, MySQL, SQLite} {
			got := Body(d, source)
			for _, list := range [][]Name{got.Writes, got.Calls, got.Reads} {
				for i, n := range list {
					if slices.Contains(list[:i], n) {
						t.Errorf("%q: %s twice", source, n)
					}
				}
			}
			// What is said does not depend on what stands before, if that is closed.
			if d != MySQL && !got.Dynamic && !strings.Contains(strings.ToLower(source), "create") {
				after := Body(d, "SELECT 1;\n"+source)
				if names(after.Writes) != names(got.Writes) || after.Dynamic {
					t.Errorf("%q: writes %q, and %q after another statement", source, names(got.Writes), names(after.Writes))
				}
			}
			// It is never short of a table for what stands after. SQLite's comments can end with the text.
			if !got.Dynamic && !(d == SQLite && strings.Contains(source, "/*")) {
				after := Body(d, source+"\n;DELETE FROM zzz")
				if !slices.Contains(after.Writes, Name{Name: "zzz"}) && !after.Dynamic {
					t.Errorf("%q: misses what follows", source)
				}
			}
		}
	})
}
