INSERT INTO users (id, name) VALUES (1, 'a'), (?, ?)
INSERT users VALUES (1, 'it''s', 'it\'s', "x", N'y', x'ff', b'01', 0xff, _utf8mb4'z')
INSERT LOW_PRIORITY IGNORE INTO users (id) VALUES (9)
INSERT HIGH_PRIORITY users () VALUES ()
INSERT INTO shop.users PARTITION (p0, p1) (id, users.name) VALUE (1, DEFAULT), (NULL, DEFAULT(name))
INSERT INTO users SET id = 5, name = 'x', n = DEFAULT ON DUPLICATE KEY UPDATE name = VALUES(name), n = n + 1
INSERT INTO users (id, n) VALUES (?, ?) ON DUPLICATE KEY UPDATE n = n + 1, id = LAST_INSERT_ID(id)
INSERT INTO users (id) VALUES (1), (2) AS new(i) ON DUPLICATE KEY UPDATE n = new.i
INSERT INTO users VALUES ROW(1, 2), ROW(3, 4)
INSERT INTO users SELECT * FROM old_users WHERE id > 3 ORDER BY id LIMIT 10 FOR UPDATE
INSERT INTO users (a, b) SELECT a, b FROM x JOIN y ON x.id = y.id ON DUPLICATE KEY UPDATE a = x.a
INSERT INTO users (SELECT 1 UNION ALL SELECT 2)
INSERT INTO users (id) (SELECT 1)
INSERT INTO users TABLE old_users
INSERT INTO users WITH x AS (SELECT 1 AS id) SELECT id FROM x
INSERT INTO users (id) VALUES ((SELECT max(id) FROM counters) + 1), (-5), (- 5), (+5), (5.0), (1e3), ('7'), ((8)), (NULL), (TRUE)
INSERT INTO users (name) VALUES (?) RETURNING id, name
INSERT INTO `users` (`id`, `na``me`) VALUES (1, 'x')
REPLACE INTO users (id, name) VALUES (?, ?)
REPLACE users SET id = 1
REPLACE LOW_PRIORITY INTO users SELECT * FROM b
REPLACE INTO users (id) VALUES (1) RETURNING id
UPDATE users SET name = ?, updated_at = NOW() WHERE id = ?
UPDATE users SET name = 'x' WHERE id IN (1, 2, ?)
UPDATE users SET name = 'x' WHERE id = 7 AND version = 3
UPDATE users SET name = 'x' WHERE id = 7 OR version = 3
UPDATE users SET name = 'x' WHERE id = 7 || version = 3
UPDATE users SET name = 'x' WHERE id = 7 && version = 3
UPDATE users SET name = 'x' WHERE id = 7 XOR version = 3
UPDATE users SET name = 'x' WHERE (id = 7) AND ((version = 3) AND (a OR b))
UPDATE users SET name = 'x' WHERE NOT id = 7 AND a = 1 AND ! b = 2
UPDATE users SET name = 'x' WHERE 7 = id AND a <=> 3 AND b := 4
UPDATE users SET name = 'x' WHERE a BETWEEN 1 AND 2 AND id = 5
UPDATE users SET name = 'x' WHERE a IS NOT NULL AND id = 5 AND b LIKE 'x' ESCAPE '!' AND c REGEXP 'x' AND d SOUNDS LIKE 'e'
UPDATE users SET name = 'x' WHERE id = BINARY 5 AND BINARY a = 6 AND b = 5 COLLATE utf8mb4_bin
UPDATE users SET name = 'x' WHERE id IN (SELECT id FROM posts WHERE id = 3)
UPDATE users SET name = 'x' WHERE id = (SELECT 1) AND EXISTS (SELECT 1 FROM posts p WHERE p.user_id = users.id)
UPDATE users SET name = 'x' WHERE (id, a) = (1, 2) AND (b, c) IN ((1, 2), (3, 4))
UPDATE users SET name = 'x' WHERE users.id = 5 AND shop.users.a = 6
UPDATE users u SET u.name = 'x' WHERE u.id = 5 AND id = 6
UPDATE users AS u SET u.name = 'x', shop.u.b = 2 WHERE u.id = 5 ORDER BY u.id DESC LIMIT 3
UPDATE LOW_PRIORITY IGNORE users SET a = 1 WHERE id = 3
UPDATE users PARTITION (p0) SET a = 1 WHERE id = 3
UPDATE users USE INDEX (i) SET a = 1 WHERE id = 3
UPDATE users SET a = CASE WHEN b = 1 AND c = 2 THEN 3 ELSE 4 END, d = (SELECT max(x) FROM y WHERE z = 1) WHERE CASE WHEN e THEN id = 1 ELSE id = 2 END AND id = 3
UPDATE users SET a = IF(b = 1, 2, 3), c = EXTRACT(YEAR FROM d), e = SUBSTRING(f FROM 1 FOR 2), g = TRIM(BOTH 'x' FROM h), i = CONVERT(j USING utf8mb4), k = CAST(l AS SIGNED), m = n DIV 2 MOD 3, o = p->'$.q', r = s->>'$.t' WHERE id = 3
UPDATE users SET a = NOW() + INTERVAL 1 DAY, b = DATE_ADD(c, INTERVAL ? HOUR), d = INSERT('a', 1, 1, 'b'), e = REPLACE('a', 'b', 'c'), f = VALUES(g), h = LEFT(i, 1), j = TRUNCATE(k, 1) WHERE id = 3
UPDATE users SET a = @x := 5, b = @@session.y, c = @`z`, d = @'w' WHERE id = 3
UPDATE users SET a = 5--1 WHERE id = 3
UPDATE users SET a = 5 -- 1¶ WHERE id = 3
UPDATE users SET a = 5 # WHERE id = 1¶ WHERE id = 3
UPDATE users SET a = 5 /* WHERE id = 1 */ WHERE id = 3
UPDATE users SET a = 5 /*! WHERE id = 3 */
UPDATE users SET a = 5 /*!50000 WHERE id = 3 */
UPDATE users SET a = 'x\'y', b = "x\"y", c = 'x''y', d = "x""y", e = 'x"y', f = "x'y" WHERE id = 3
UPDATE users SET a = 'one' 'two' WHERE id = 3
UPDATE users SET a = 1 WHERE id = 3;
UPDATE a, b SET a.x = 1, b.y = 2 WHERE a.id = b.id
UPDATE a JOIN shop.b ON a.id = b.id SET a.x = b.x WHERE a.id = 3
UPDATE a INNER JOIN b USING (id) LEFT JOIN c ON (c.id = b.id AND c.x = 1) SET x = 1
UPDATE a q, shop.b AS r SET q.x = 1, r.y = 2
UPDATE (a, b) SET a.x = 1
UPDATE (a JOIN b ON a.id = b.id) SET b.x = 1
UPDATE a NATURAL JOIN b STRAIGHT_JOIN c SET c.x = 1
UPDATE a, (SELECT id, max(x) AS x FROM b GROUP BY id) q SET a.x = q.x WHERE a.id = q.id
UPDATE a CROSS JOIN b FORCE INDEX FOR JOIN (i, j) SET a.x = 1, b.x = 2
WITH c AS (SELECT 1 AS id) UPDATE users SET a = 1 WHERE id IN (SELECT id FROM c)
WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) DELETE FROM users WHERE id IN (SELECT n FROM c)
WITH c AS (SELECT 1 AS id) UPDATE users JOIN c ON users.id = c.id SET users.a = 1
DELETE FROM users
DELETE FROM users WHERE id = ?
DELETE LOW_PRIORITY QUICK IGNORE FROM users WHERE id = 3 ORDER BY id LIMIT 1
DELETE FROM users AS u WHERE u.id = 3
DELETE FROM shop.users PARTITION (p0) WHERE id IN (1, 2)
DELETE FROM users WHERE id = 3 RETURNING id, name
DELETE x FROM users AS x JOIN posts p ON p.uid = x.id
DELETE a, shop.b.* FROM a INNER JOIN shop.b ON a.id = b.id WHERE a.id = 3
DELETE FROM a USING a JOIN b ON a.id = b.id WHERE a.id = 3
DELETE FROM a.*, b USING a, b, c WHERE a.id = b.id
DELETE q, r FROM a AS q, (SELECT 1) z, b r
DELETE a FROM a LEFT JOIN b USING (id) WHERE b.id IS NULL
TRUNCATE users
TRUNCATE TABLE shop.users
LOAD DATA LOCAL INFILE 'x' REPLACE INTO TABLE users FIELDS TERMINATED BY ',' LINES TERMINATED BY '¶' IGNORE 1 LINES (a, @b) SET c = @b
LOAD DATA INFILE "x" IGNORE INTO TABLE shop.users PARTITION (p0) CHARACTER SET utf8mb4
SELECT * FROM users WHERE id = 1 FOR UPDATE
SELECT * FROM users LOCK IN SHARE MODE
SELECT * FROM users FOR UPDATE OF users SKIP LOCKED
SELECT id INTO @v FROM users LIMIT 1
SELECT id FROM users INTO OUTFILE '/tmp/x'
SELECT 'DELETE FROM a', "DELETE FROM b", `DELETE FROM c` FROM d /* DELETE FROM e */ -- DELETE FROM f
SELECT write_something(1), shop.f(2), (SELECT g()), COUNT(DISTINCT a), GROUP_CONCAT(b ORDER BY c SEPARATOR ';') FROM d WHERE h() IS NOT NULL GROUP BY i() WITH ROLLUP HAVING j() > 1 WINDOW w AS (PARTITION BY k)
SELECT * FROM (SELECT 1 FROM a) b JOIN (c, d) ON true LEFT OUTER JOIN e PARTITION (p) AS f USING (g) NATURAL RIGHT JOIN h
(SELECT 1) UNION (SELECT 2 FROM a) ORDER BY 1 LIMIT 2
SELECT SQL_CALC_FOUND_ROWS HIGH_PRIORITY DISTINCT STRAIGHT_JOIN /*+ NO_INDEX(a) */ a.* FROM a USE INDEX (i), b IGNORE INDEX FOR ORDER BY (j)
SELECT CASE a WHEN 1 THEN 2 END, MATCH (b) AGAINST ('c' IN BOOLEAN MODE), DATE '2020-01-01', {d '2020-01-01'}, a COLLATE utf8mb4_bin FROM e
VALUES ROW(1, 2)
TABLE users ORDER BY id
SHOW TABLES LIKE 'x'
DESCRIBE users
EXPLAIN UPDATE users SET a = 1
EXPLAIN ANALYZE SELECT * FROM users
EXPLAIN FORMAT = JSON DELETE FROM users
EXPLAIN ANALYZE FORMAT = TREE SELECT f(1)
CREATE TABLE newt AS SELECT * FROM users
CREATE TEMPORARY TABLE IF NOT EXISTS newt (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(10) DEFAULT 'x' ON UPDATE CURRENT_TIMESTAMP) IGNORE SELECT 1
CREATE TABLE newt LIKE users
CREATE TABLE newt (id INT, FOREIGN KEY (id) REFERENCES b (c) ON DELETE CASCADE ON UPDATE SET NULL) ENGINE = InnoDB COMMENT 'DELETE FROM a'
CREATE OR REPLACE ALGORITHM = MERGE DEFINER = `a`@`b` SQL SECURITY INVOKER VIEW v AS SELECT * FROM users WITH CHECK OPTION
CREATE UNIQUE INDEX i ON users (a(10), b DESC)
ALTER TABLE users ADD COLUMN x INT AFTER y, DROP COLUMN z, MODIFY a TEXT, RENAME TO people
ALTER TABLE a EXCHANGE PARTITION p WITH TABLE b
ALTER TABLE a TRUNCATE PARTITION p
RENAME TABLE a TO b, shop.c TO d
DROP TABLE IF EXISTS a, shop.b
DROP TEMPORARY TABLE a
DROP VIEW v
DROP INDEX i ON users
DROP DATABASE shop
CALL p(1, @x)
CALL shop.p
DO f(1), SLEEP(0)
PREPARE p FROM 'DELETE FROM a'
EXECUTE p USING @a
DEALLOCATE PREPARE p
SET @a = 1, SESSION sql_mode = 'ANSI_QUOTES', autocommit = 0
SET NAMES utf8mb4
SET TRANSACTION ISOLATION LEVEL READ COMMITTED
LOCK TABLES a WRITE, b READ
UNLOCK TABLES
ANALYZE TABLE users
OPTIMIZE TABLE users
FLUSH TABLES
KILL 5
USE shop
GRANT SELECT, INSERT, UPDATE (a), DELETE ON shop.* TO 'x'@'y'
BEGIN
START TRANSACTION READ ONLY
START TRANSACTION WITH CONSISTENT SNAPSHOT
COMMIT
COMMIT AND CHAIN
ROLLBACK
ROLLBACK TO SAVEPOINT sp
SAVEPOINT `Sp`
RELEASE SAVEPOINT sp
BEGIN; UPDATE users SET a = 1 WHERE id = 1; DELETE FROM posts WHERE id = 2; COMMIT
INSERT INTO a (id) VALUES (1); INSERT INTO b (id) VALUES (';'), (";"); /* ; */ SELECT 1
/*!40000 UPDATE users SET x = 1 */
/*!40000 ALTER TABLE users DISABLE KEYS */
UPDATE users SET a = 1 /*! , b = 2 */ WHERE id = 1
UPDATE täble SET ä = 1 WHERE ö = 2
UPDATE 1st SET 2nd = 3 WHERE shop.1st.4th = 5
UPDATE `update` SET `set` = 1 WHERE `where` = 2
UPDATE users SET a = 1 WHERE id = ? AND b = ? LIMIT ?
UPDATE users SET a = '\'; DELETE FROM b; SET @c = ''
SELECT "a\"; DELETE FROM b; SELECT "
XA START 'x'
HANDLER users READ FIRST
CREATE TRIGGER t BEFORE INSERT ON users FOR EACH ROW SET NEW.a = 1
CREATE PROCEDURE p() BEGIN DELETE FROM a; END
DELETE FROM users WHERE id = 1 AND (a, b) NOT IN (SELECT 1, 2 FROM c)
UPDATE users SET a = (SELECT b FROM c WHERE c.id = users.id LIMIT 1) WHERE id = -3
UPDATE users SET a = 1 WHERE id IN (1, NULL) AND b = NULL AND c = DEFAULT(c)
