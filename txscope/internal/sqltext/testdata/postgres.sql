INSERT INTO users (id, name) VALUES (1, 'a')
INSERT INTO users (id, name) VALUES ($1, $2), ($3, $4), (DEFAULT, NULL)
INSERT INTO users VALUES (1, 'it''s', E'it\'s', $q$;$q$, N'x', B'01', X'ff', U&'d\0061')
INSERT INTO public.users AS u (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = excluded.name, n = u.n + 1 WHERE u.n < 5 RETURNING u.id AS key, *
INSERT INTO users (id) VALUES (1) ON CONFLICT DO NOTHING
INSERT INTO users (id) VALUES (1) ON CONFLICT ON CONSTRAINT users_pkey DO NOTHING RETURNING id
INSERT INTO users (id) VALUES (1) ON CONFLICT (lower(email) text_pattern_ops, (a + b)) WHERE active DO UPDATE SET (a, b) = (1, 2), c = DEFAULT
INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET (a, b) = (SELECT x, y FROM z WHERE z.id = excluded.id), c[1] = 2, d.e = 3
INSERT INTO users DEFAULT VALUES RETURNING id
INSERT INTO users (id) OVERRIDING SYSTEM VALUE VALUES (1)
INSERT INTO users OVERRIDING USER VALUE SELECT 1
INSERT INTO users (id, tags[1], address.street) VALUES (1, 2, 3)
INSERT INTO users SELECT * FROM old_users WHERE id > 3 ORDER BY id LIMIT 10 OFFSET 2 FOR UPDATE
INSERT INTO users (a, b) SELECT a, b FROM x JOIN y ON x.id = y.id ON CONFLICT DO NOTHING
INSERT INTO users (SELECT 1 UNION ALL SELECT 2)
INSERT INTO users (id) (VALUES (1), (2))
INSERT INTO users TABLE old_users
INSERT INTO users WITH x AS (SELECT 1 AS id) SELECT id FROM x
INSERT INTO users (id) WITH x AS (DELETE FROM old RETURNING id) SELECT id FROM x RETURNING id
INSERT INTO users (id) VALUES ((SELECT max(id) FROM counters) + 1)
INSERT INTO users (id) VALUES (nextval('users_id_seq'::regclass)), (coalesce($1, 7)), (CAST($2 AS bigint)), ($3::int8), (-5), (- 5), (+5), (5.0), (1e3), (0x1F), ('7'), ((8))
WITH x AS (SELECT 1) INSERT INTO users SELECT * FROM x
WITH x AS (INSERT INTO a VALUES (1) RETURNING *), y AS (UPDATE b SET c = 1 RETURNING *), z AS MATERIALIZED (DELETE FROM d RETURNING *) SELECT * FROM x, y, z
WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 100) SEARCH DEPTH FIRST BY n SET ord CYCLE n SET cyc USING path UPDATE users SET a = t.n FROM t WHERE users.id = t.n
WITH x AS NOT MATERIALIZED (SELECT 1) DELETE FROM users USING x WHERE users.id = 3
WITH a AS (WITH b AS (DELETE FROM c RETURNING *) SELECT * FROM b) SELECT * FROM a
WITH moved AS (DELETE FROM ONLY public.a AS q WHERE q.x RETURNING q.*) INSERT INTO b SELECT * FROM moved
UPDATE users SET name = $1, updated_at = now() WHERE id = $2
UPDATE users SET name = 'x' WHERE id IN (1, 2, $3)
UPDATE users SET name = 'x' WHERE id = 7 AND version = 3
UPDATE users SET name = 'x' WHERE id = 7 OR version = 3
UPDATE users SET name = 'x' WHERE (id = 7) AND ((version = 3) AND (a OR b))
UPDATE users SET name = 'x' WHERE ((id = 7 AND (b = 2)))
UPDATE users SET name = 'x' WHERE NOT id = 7 AND a = 1
UPDATE users SET name = 'x' WHERE 7 = id AND '2020-01-01'::date < b
UPDATE users SET name = 'x' WHERE a BETWEEN 1 AND 2 AND id = 5
UPDATE users SET name = 'x' WHERE a BETWEEN SYMMETRIC 1 AND b AND id = 5 AND c NOT BETWEEN 2 AND 3
UPDATE users SET name = 'x' WHERE a IS DISTINCT FROM b AND id = 5
UPDATE users SET name = 'x' WHERE a IS NOT NULL AND id = 5 AND b LIKE 'x' ESCAPE '!'
UPDATE users SET name = 'x' WHERE id = ANY ($1) AND x = ALL (ARRAY[1, 2])
UPDATE users SET name = 'x' WHERE id = $1::bigint AND n = $2::text
UPDATE users SET name = 'x' WHERE id IN (SELECT id FROM posts WHERE id = 3)
UPDATE users SET name = 'x' WHERE id = (SELECT 1) AND EXISTS (SELECT 1 FROM posts p WHERE p.user_id = users.id)
UPDATE users SET name = 'x' WHERE (id, a) = (1, 2) AND (b, c) IN ((1, 2), (3, 4))
UPDATE users SET name = 'x' WHERE id = 1 COLLATE "C" AND a = 'b' COLLATE "C"
UPDATE users SET name = 'x' WHERE users.id = 5 AND public.users.a = 6
UPDATE users u SET name = 'x' WHERE u.id = 5 AND id = 6
UPDATE users AS u SET a = s.a FROM src AS s WHERE s.id = u.id AND u.id = 5 AND s.x = 6
UPDATE users SET a = s.a FROM src s JOIN other o ON (o.id = s.id) LEFT JOIN z USING (id), LATERAL f(1) AS g(h), ROWS FROM (f(1), g(2)) WITH ORDINALITY WHERE users.id = 5
UPDATE ONLY users SET a = 1 WHERE id = 3
UPDATE ONLY (users) SET a = 1 WHERE id = 3
UPDATE users * SET a = 1 WHERE id = 3
UPDATE users SET (a, b) = (1, DEFAULT), (c, d) = ROW(2, 3), (e, f) = (SELECT 1, 2 FROM g) WHERE id = 3
UPDATE users SET a = CASE WHEN b = 1 AND c = 2 THEN 3 ELSE 4 END, d = (SELECT max(x) FROM y WHERE z = 1) WHERE CASE WHEN e THEN id = 1 ELSE id = 2 END AND id = 3
UPDATE users SET a[1] = 2, b[1:2] = '{1}', c.d = 3, e = array[1, 2], f = '{"a": 1}'::jsonb -> 'a', g = h ->> 'b' WHERE id = 3
UPDATE users SET a = extract(year FROM b), c = substring(d FROM 1 FOR 2), e = trim(BOTH 'x' FROM f), g = position('a' IN h), i = overlay(j PLACING 'k' FROM 1) WHERE id = 3
UPDATE users SET a = b AT TIME ZONE 'UTC', c = interval '1 day', d = timestamp '2020-01-01' WHERE id = 3
UPDATE users SET a = 1 WHERE CURRENT OF c
UPDATE users SET a = 1 WHERE id = 3 RETURNING *
UPDATE users SET a = 1 WHERE id = 3 RETURNING id, a AS "returning", (SELECT 1 FROM b WHERE c)
UPDATE users SET a = 1
UPDATE "Pub"."User; DELETE FROM z" AS u SET a = 1
UPDATE U&"d\0061ta" SET a = 1
UPDATE U&"d!0061ta" UESCAPE '!' SET a = 1
UPDATE täble SET ä = 1 WHERE ö = 2
UPDATE Users SET Name = 1 WHERE ID = 2
UPDATE a_very_long_name_of_a_table_that_has_more_than_sixty_three_bytes_in_all SET a = 1
UPDATE db.public.users SET a = 1 WHERE id = 1
UPDATE set SET set = 1 WHERE set = 2
UPDATE users SET a = 1 FROM "from" WHERE "where" = 1
UPDATE users SET a = sum(b) FILTER (WHERE c = 1) OVER (PARTITION BY d ORDER BY e ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) WHERE id = 1
UPDATE users SET a = a + 1, b = b || 'x', c = c # 1, d = d @> '{}', e = e ~* 'x', f = @ -5, g = !! 5, h = i OPERATOR(pg_catalog.+) 1 WHERE id = 3
UPDATE users SET a = 5 -- WHERE id = 1¶ WHERE id = 2
UPDATE users SET a = 5 /* /* nested */ WHERE id = 1 */ WHERE id = 2
UPDATE users SET a = $body$ text 'with' quotes; $body$, b = $$;$$ WHERE id = 2
UPDATE users SET a = 'one' ¶ 'two' WHERE id = 2
UPDATE users SET a = 'x\' WHERE id = 2
UPDATE users SET a = 1 WHERE id = 2 -- the end
UPDATE users SET a = 1 WHERE id = 2;
DELETE FROM users
DELETE FROM users WHERE id = $1
DELETE FROM ONLY users u WHERE u.id = 3 RETURNING *
DELETE FROM users USING posts p, b JOIN c ON b.id = c.id WHERE users.id = p.user_id AND users.id = 4
DELETE FROM users WHERE CURRENT OF my_cursor
DELETE FROM users AS u WHERE NOT EXISTS (SELECT FROM posts WHERE posts.user_id = u.id) AND u.id IN (1)
MERGE INTO users u USING src s ON u.id = s.id WHEN MATCHED AND s.gone THEN DELETE WHEN MATCHED THEN UPDATE SET a = s.a WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)
MERGE INTO ONLY users USING (SELECT 1 AS id) s ON users.id = s.id WHEN NOT MATCHED THEN DO NOTHING
MERGE INTO users USING src ON true WHEN NOT MATCHED BY SOURCE THEN DELETE WHEN NOT MATCHED THEN INSERT DEFAULT VALUES RETURNING merge_action(), users.*
WITH x AS (DELETE FROM a RETURNING id) MERGE INTO users USING x ON users.id = x.id WHEN MATCHED THEN UPDATE SET b = 1
TRUNCATE users
TRUNCATE TABLE ONLY a, public.b *, "c" RESTART IDENTITY
TRUNCATE a, b CONTINUE IDENTITY CASCADE
COPY users FROM STDIN
COPY users (id, name) FROM '/tmp/x' WITH (FORMAT csv, HEADER true, DELIMITER ',') WHERE id > 3
COPY BINARY users FROM STDIN
COPY users FROM PROGRAM 'cat' CSV
COPY users TO STDOUT
COPY (SELECT * FROM users) TO STDOUT (FORMAT binary)
COPY (DELETE FROM users RETURNING *) TO STDOUT
COPY (WITH x AS (UPDATE a SET b = 1 RETURNING *) SELECT * FROM x) TO '/tmp/x'
SELECT * FROM users WHERE id = 1 FOR UPDATE OF users NOWAIT
SELECT * FROM users u, posts p FOR NO KEY UPDATE SKIP LOCKED
SELECT update, delete, insert, set FROM copy WHERE truncate = 1 AND merge = 2
SELECT 'DELETE FROM a', "DELETE FROM b", $$DELETE FROM c$$ /* DELETE FROM d */ -- DELETE FROM e
SELECT write_something(1), s.f(2), (SELECT g()), h(DISTINCT a ORDER BY b) FROM unnest($1) AS x(y) WHERE i() IS NOT NULL GROUP BY j(), ROLLUP (k) HAVING l() > 1 WINDOW w AS (PARTITION BY m())
SELECT * INTO newt FROM users
SELECT 1 AS a INTO TEMP TABLE newt WHERE true
SELECT * INTO UNLOGGED newt FROM users UNION SELECT * FROM b
(SELECT 1) UNION (SELECT 2 INTERSECT SELECT 3) ORDER BY 1
(SELECT * INTO newt FROM users)
(WITH x AS (DELETE FROM a RETURNING *) SELECT * FROM x)
SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x) y JOIN (VALUES (1), (2)) AS v(w) ON true
SELECT * FROM users TABLESAMPLE bernoulli (10) REPEATABLE (1), ONLY posts, public.tags *, JSON_TABLE(a, '$' COLUMNS (b int PATH '$.b')) AS jt
SELECT a.b.c, (d).e, (f(1)).g, h[1], ARRAY(SELECT 1 FROM i), ROW(1, 2), CAST(j AS k.l) FROM m
SELECT CASE a WHEN 1 THEN 2 END, b::int[], c IS DOCUMENT, xmlelement(name d), current_user, now() FROM e
VALUES (1, f(2)), (3, 4)
TABLE users
CREATE TABLE newt AS SELECT * FROM users WITH NO DATA
CREATE TEMP TABLE IF NOT EXISTS newt (a, b) ON COMMIT DROP AS WITH x AS (SELECT 1) SELECT * FROM x
CREATE TABLE newt AS EXECUTE p(1)
CREATE TABLE newt (id int PRIMARY KEY, a text DEFAULT f(1), CHECK (g(a)), FOREIGN KEY (a) REFERENCES b (c) ON DELETE CASCADE ON UPDATE SET NULL)
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (2)
CREATE MATERIALIZED VIEW mv AS SELECT * FROM users
REFRESH MATERIALIZED VIEW CONCURRENTLY mv WITH DATA
CREATE OR REPLACE VIEW v AS SELECT * FROM users WHERE id = 1 WITH CHECK OPTION
CREATE UNIQUE INDEX CONCURRENTLY i ON users (lower(name)) WHERE id = 1
ALTER TABLE users ADD COLUMN x int, DROP COLUMN y, ALTER z TYPE text USING f(z)
ALTER TABLE IF EXISTS ONLY users RENAME TO people
ALTER TABLE p ATTACH PARTITION p1 FOR VALUES IN (1)
ALTER TABLE users RENAME COLUMN a TO b
DROP TABLE IF EXISTS a, b.c CASCADE
DROP VIEW v; DROP MATERIALIZED VIEW mv; DROP INDEX i
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ DELETE FROM a; SELECT 1 $$
CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC DELETE FROM a; SELECT 1; END
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE a SET b = 1; RETURN NEW; END'
CREATE TRIGGER t BEFORE INSERT OR UPDATE OF a, b ON users REFERENCING NEW TABLE AS n FOR EACH ROW WHEN (OLD.a IS DISTINCT FROM NEW.a) EXECUTE FUNCTION f('x')
CREATE RULE r AS ON INSERT TO v DO INSTEAD INSERT INTO users (id) VALUES (NEW.id)
CREATE RULE r AS ON UPDATE TO v DO ALSO (UPDATE a SET b = 1; DELETE FROM c)
CREATE SCHEMA s CREATE TABLE t (id int) CREATE VIEW v AS SELECT 1
DROP SCHEMA s CASCADE
GRANT SELECT, INSERT, UPDATE (a), DELETE, TRUNCATE ON users TO bob
COMMENT ON TABLE users IS 'DELETE FROM a'
EXPLAIN UPDATE users SET a = 1
EXPLAIN ANALYZE UPDATE users SET a = 1 WHERE id = 2
EXPLAIN ANALYSE VERBOSE DELETE FROM users
EXPLAIN (ANALYZE, BUFFERS, FORMAT json) INSERT INTO users VALUES (1)
EXPLAIN (ANALYZE false) DELETE FROM users
EXPLAIN (SELECT 1)
EXPLAIN ANALYZE (SELECT f(1))
EXPLAIN ANALYZE EXECUTE p(1)
EXPLAIN ANALYZE CREATE TABLE newt AS SELECT * FROM users
EXPLAIN ANALYZE SELECT * INTO newt FROM users
PREPARE p (int, text) AS UPDATE users SET a = $1 WHERE id = $2
EXECUTE p(1, 'x')
DEALLOCATE p
DECLARE c CURSOR WITH HOLD FOR SELECT f(1) FROM users FOR UPDATE
FETCH NEXT FROM c
CALL p(1, 'x')
DO $$ BEGIN DELETE FROM a; END $$ LANGUAGE plpgsql
LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE
SET search_path TO a, b
SET LOCAL x = 'DELETE FROM a'
SHOW ALL
NOTIFY c, 'UPDATE a SET b = 1'
VACUUM (FULL, ANALYZE) users
ANALYZE users (a, b)
CLUSTER users USING i
REINDEX TABLE users
BEGIN
START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY
COMMIT AND NO CHAIN
COMMIT AND CHAIN
END
ROLLBACK
ABORT
SAVEPOINT "Sp"
RELEASE sp
ROLLBACK TO SAVEPOINT sp
PREPARE TRANSACTION 'x'
COMMIT PREPARED 'x'
BEGIN; UPDATE users SET a = 1 WHERE id = 1; DELETE FROM posts WHERE id = 2 RETURNING id; COMMIT
INSERT INTO a (id) VALUES (1); INSERT INTO b (id) VALUES (';'), ($$;$$); /* ; */ SELECT 1
IMPORT FOREIGN SCHEMA s FROM SERVER t INTO u
SECURITY LABEL ON TABLE users IS 'x'
REASSIGN OWNED BY a TO b
DROP OWNED BY a
CREATE DATABASE d
CREATE TABLE newt (LIKE users INCLUDING ALL) INHERITS (p) PARTITION BY RANGE (id)
ALTER TABLE users INHERIT p
SELECT setval('s', 1), lo_unlink(2), pg_advisory_lock(3), query_to_xml('DELETE FROM a', true, false, '')
