package postgres_test

import (
	"database/sql"
	"database/sql/driver"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
)

const plainSchema = `
CREATE TABLE users (id serial PRIMARY KEY, name text, email text UNIQUE, seen int);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE ON UPDATE CASCADE, v int);
CREATE TABLE tags (tag text PRIMARY KEY, v int);
CREATE TABLE things (id uuid PRIMARY KEY, v int);
CREATE TABLE members (grp int, who text, v int, PRIMARY KEY (grp, who));
CREATE TABLE pairs (a int, b int, v int, PRIMARY KEY (a, b));
CREATE TABLE plain (v int);
CREATE TABLE floats (id float8 PRIMARY KEY, v int);
CREATE TABLE "Mixed Case" ("The Id" int PRIMARY KEY, "group" int);
CREATE TABLE blobs (id bytea PRIMARY KEY, v int);
CREATE TABLE stamped (id int PRIMARY KEY, v int, updated_at timestamptz);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE TABLE renamed (id int PRIMARY KEY, v int);
CREATE FUNCTION shift() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := NEW.id + 100; RETURN NEW; END $$;
CREATE TRIGGER shift BEFORE INSERT OR UPDATE ON renamed FOR EACH ROW EXECUTE FUNCTION shift();
CREATE TABLE audited (id int PRIMARY KEY, v int);
CREATE TABLE audit (id serial PRIMARY KEY, what text);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit (what) VALUES (TG_OP); RETURN NULL; END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON audited FOR EACH ROW EXECUTE FUNCTION audit();
CREATE VIEW people AS SELECT id, name FROM users;
CREATE TABLE parted (id int, v int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (100);
CREATE TABLE parted_high (v int, id int NOT NULL);
ALTER TABLE parted ATTACH PARTITION parted_high FOR VALUES FROM (100) TO (1000);
CREATE TABLE ruled (id int PRIMARY KEY, v int);
CREATE RULE ruled AS ON UPDATE TO ruled DO ALSO INSERT INTO plain VALUES (NEW.v);
CREATE TABLE base (id int PRIMARY KEY, v int);
CREATE TABLE derived (more int) INHERITS (base);
CREATE SCHEMA archive;
CREATE TABLE archive.users (id int PRIMARY KEY, name text);
CREATE FUNCTION add_tag(t text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO tags VALUES (t, 0); RETURN 7; END $$;
CREATE FUNCTION pure(n int) RETURNS int LANGUAGE sql AS $$ SELECT n + 1 $$;
CREATE FUNCTION dynamic(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'UPDATE ' || t || ' SET v = 9'; END $$;
CREATE VIEW tagging AS SELECT id, add_tag('by view') AS n FROM users;
CREATE PROCEDURE work(n int) LANGUAGE plpgsql AS $$ BEGIN UPDATE pairs SET v = n; END $$;
CREATE PROCEDURE committing(n int) LANGUAGE plpgsql AS $$ BEGIN UPDATE pairs SET v = n; COMMIT; UPDATE tags SET v = n; END $$;
`

const plainData = `
INSERT INTO users (name, email) VALUES ('a', 'a@x'), ('b', 'b@x'), ('c', 'c@x');
INSERT INTO orders VALUES (10, 1, 1), (11, 1, 1), (12, 2, 1);
INSERT INTO tags VALUES ('x', 1), ('y', 1), ('007', 1);
INSERT INTO things VALUES ('0190a0b4-7f3e-7cc0-8f00-0123456789ab', 1);
INSERT INTO members VALUES (1, 'ann', 1), (2, 'bob', 1);
INSERT INTO pairs VALUES (1, 1, 1), (1, 2, 1), (2, 1, 1);
INSERT INTO plain VALUES (1);
INSERT INTO floats VALUES (1.5, 1);
INSERT INTO "Mixed Case" VALUES (1, 1), (2, 2);
INSERT INTO blobs VALUES ('\x0102', 1);
INSERT INTO stamped VALUES (1, 1), (2, 2);
INSERT INTO renamed VALUES (1, 1), (2, 2);
INSERT INTO audited VALUES (1, 1), (2, 2);
INSERT INTO parted VALUES (1, 1), (2, 1), (101, 1);
INSERT INTO ruled VALUES (1, 1);
INSERT INTO base VALUES (1, 1);
INSERT INTO derived VALUES (2, 1, 1);
INSERT INTO archive.users VALUES (1, 'old');
`

const plainReset = `DROP TABLE IF EXISTS fresh, fresher; DROP INDEX IF EXISTS seen;
TRUNCATE users, orders, tags, things, members, pairs, plain, floats, "Mixed Case", blobs, stamped, renamed, audited, audit, parted, ruled, base, derived, archive.users RESTART IDENTITY;
`

type userID int64

func (u userID) Value() (driver.Value, error) { return int64(u) + 0, nil }

type odd int64

func (o odd) Value() (driver.Value, error) { return int64(o) + 1, nil }

type uuidType [16]byte

func (u uuidType) Value() (driver.Value, error) { return "0190a0b4-7f3e-7cc0-8f00-0123456789ab", nil }

const uuid = "0190a0b4-7f3e-7cc0-8f00-0123456789ab"

var uuidBytes = [16]byte{0x01, 0x90, 0xa0, 0xb4, 0x7f, 0x3e, 0x7c, 0xc0, 0x8f, 0x00, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab}

func ptr[T any](v T) *T { return &v }

// TestRows: what statements change, inside and outside of transactions.
func TestRows(t *testing.T) {
	cases := []struct {
		name  string
		query string
		args  []any
		want  string
	}{
		{"update by integer", `UPDATE users SET name = 'x' WHERE id = 1`, nil, "users#1"},
		{"update by argument", `UPDATE users SET name = $1 WHERE id = $2`, []any{"x", 2}, "users#2"},
		{"update by int32 pointer", `UPDATE users SET name = 'x' WHERE id = $1`, []any{ptr(int32(2))}, "users#2"},
		{"update by uint8", `UPDATE users SET name = 'x' WHERE id = $1`, []any{uint8(2)}, "users#2"},
		{"update by NullInt64", `UPDATE users SET name = 'x' WHERE id = $1`, []any{sql.NullInt64{Int64: 2, Valid: true}}, "users#2"},
		{"update by valuer", `UPDATE users SET name = 'x' WHERE id = $1`, []any{userID(2)}, "users#2"},
		{"update by odd valuer", `UPDATE users SET name = 'x' WHERE id = $1`, []any{odd(2)}, "users#3"},
		{"update by pgtype", `UPDATE users SET name = 'x' WHERE id = $1`, []any{pgtype.Int8{Int64: 3, Valid: true}}, "users#3"},
		{"update by text", `UPDATE users SET name = 'x' WHERE id = $1`, []any{"2"}, "users#2"},
		{"update by several", `UPDATE users SET name = 'x' WHERE id IN ($1, $2, 3) AND name <> 'c'`, []any{1, 2}, "users#1 users#2"},
		{"update of some", `UPDATE users SET name = 'x' WHERE name > 'a'`, nil, "users#2 users#3"},
		{"update of none", `UPDATE users SET name = 'x' WHERE name = 'zzz'`, nil, ""},
		{"update of all with a comment", "UPDATE users SET name = 'x' -- all", nil, "users#1 users#2 users#3"},
		{"update by NULL", `UPDATE users SET name = 'x' WHERE id = $1`, []any{nil}, ""},
		{"update with alias", `UPDATE users AS u SET name = 'x' FROM orders o WHERE o.user_id = u.id AND o.id = 12`, nil, "users#2"},
		{"update by cast", `UPDATE users SET name = 'x' WHERE id = $1::int`, []any{2}, "users#2"},
		{"update with semicolon", `UPDATE users SET name = 'x' WHERE name = 'b';`, nil, "users#2"},
		{"update of the key", `UPDATE orders SET id = 13 WHERE id = 12`, nil, "orders!"},
		{"update of a referenced key", `UPDATE users SET id = 13 WHERE id = 1`, nil, "orders! users!"},
		{"insert serial", `INSERT INTO users (name) VALUES ($1), ($2)`, []any{"p", "q"}, "users#4 users#5"},
		{"insert", `INSERT INTO users (id, name) VALUES ($1, 'p'), (21, 'q')`, []any{20}, "users#20 users#21"},
		{"insert in order", `INSERT INTO users VALUES (20, 'p')`, nil, "users#20"},
		{"insert overriding", `INSERT INTO users (id, name) OVERRIDING USER VALUE VALUES (20, 'p')`, nil, "users#20"},
		{"insert select", `INSERT INTO users (name) SELECT tag FROM tags WHERE v = 1 AND tag <> '007'`, nil, "users#4 users#5"},
		{"insert default values", `INSERT INTO users DEFAULT VALUES`, nil, "users#4"},
		{"insert or nothing", `INSERT INTO users (id, name) VALUES (1, 'p'), (30, 'q') ON CONFLICT DO NOTHING`, nil, "users#30"},
		{"upsert by another key", `INSERT INTO users (id, email) VALUES (50, 'b@x') ON CONFLICT (email) DO UPDATE SET seen = 1`, nil, "users#2"},
		{"upsert by key", `INSERT INTO pairs (a, b) VALUES (1, 1), (5, 5) ON CONFLICT (a, b) DO UPDATE SET v = 7`, nil, "pairs#1,1 pairs#5,5"},
		{"delete", `DELETE FROM orders WHERE id = 10`, nil, "orders#10"},
		{"delete of several", `DELETE FROM orders WHERE user_id = $1`, []any{1}, "orders#10 orders#11"},
		{"delete using", `DELETE FROM orders USING users WHERE users.id = orders.user_id AND users.name = 'b'`, nil, "orders#12"},
		{"delete with cascade", `DELETE FROM users WHERE id = 1`, nil, "orders! users#1"},
		{"returning keys", `UPDATE users SET name = 'x' WHERE name > 'a' RETURNING name AS n, id AS whatever`, nil, "users#2 users#3"},
		{"returning no keys", `UPDATE users SET name = 'x' WHERE name > 'a' RETURNING name AS id`, nil, "users!"},
		{"returning nothing of its own, by key", `UPDATE users SET name = 'x' WHERE id = 2 RETURNING 1`, nil, "users#2"},
		{"insert returning", `INSERT INTO users (name) VALUES ('p') RETURNING id`, nil, "users#4"},
		{"text key", `UPDATE tags SET v = 2 WHERE tag = $1`, []any{"x"}, "tags#x"},
		{"text key like a number", `UPDATE tags SET v = 2 WHERE tag = '007'`, nil, "tags#007 tags#7"},
		{"uuid", `UPDATE things SET v = 2 WHERE id = $1`, []any{uuid}, "things#" + uuid},
		{"uuid in upper case", `UPDATE things SET v = 2 WHERE id = $1`, []any{strings.ToUpper(uuid)}, "things#" + uuid},
		{"uuid in braces", `UPDATE things SET v = 2 WHERE id = $1`, []any{"{" + uuid + "}"}, "things#" + uuid},
		{"uuid bytes", `UPDATE things SET v = 2 WHERE id = $1`, []any{uuidBytes}, "things#" + uuid},
		{"uuid type", `UPDATE things SET v = 2 WHERE id = $1`, []any{uuidType(uuidBytes)}, "things#" + uuid},
		{"uuid literal", `INSERT INTO things VALUES ('F190A0B4-7F3E-7CC0-8F00-0123456789AB', 1)`, nil, "things#f190a0b4-7f3e-7cc0-8f00-0123456789ab"},
		{"all uuids", `UPDATE things SET v = 2`, nil, "things#" + uuid},
		{"composite", `UPDATE members SET v = 2 WHERE grp = 1`, nil, "members#1,ann"},
		{"composite of integers", `DELETE FROM pairs WHERE b IN (1, 2) AND a = $1`, []any{1}, "pairs#1,1 pairs#1,2"},
		{"bytes", `UPDATE blobs SET v = 2`, nil, "blobs#%01%02"},
		{"without a key", `UPDATE plain SET v = 2`, nil, "plain!"},
		{"a key without text", `UPDATE floats SET v = 2`, nil, "floats!"},
		{"odd names", `UPDATE "Mixed Case" SET "group" = 2 WHERE "The Id" = 1`, nil, "mixed%20case#1"},
		{"odd names, all", `UPDATE "Mixed Case" AS "X" SET "group" = 2`, nil, "mixed%20case#1 mixed%20case#2"},
		{"trigger on another column", `UPDATE stamped SET v = 2 WHERE id = 1`, nil, "stamped#1"},
		{"trigger on the key", `UPDATE renamed SET v = 2 WHERE id = 101`, nil, "renamed!"},
		{"insert with a trigger on the key", `INSERT INTO renamed VALUES (5, 5)`, nil, "renamed#105"},
		{"delete with a trigger on the key", `DELETE FROM renamed WHERE id = 101`, nil, "renamed#101"},
		{"audit", `UPDATE audited SET v = 2 WHERE id = 1`, nil, "audit! audited#1"},
		{"audit of none", `UPDATE audited SET v = 2 WHERE id = 99`, nil, ""},
		{"view", `UPDATE people SET name = 'x' WHERE id = 1`, nil, "people! users!"},
		{"partitioned", `UPDATE parted SET v = 2 WHERE id = 1`, nil, "parted#1"},
		{"partitioned, all", `UPDATE parted SET v = 2`, nil, "parted#1 parted#101 parted#2"},
		{"a partition", `UPDATE parted_high SET v = 2 WHERE id = 101`, nil, "parted#101 parted_high!"},
		{"insert into a partition", `INSERT INTO parted_high VALUES (1, 105)`, nil, "parted#105 parted_high!"},
		{"insert into partitioned", `INSERT INTO parted VALUES (105, 1)`, nil, "parted#105"},
		{"rule", `UPDATE ruled SET v = 2 WHERE id = 1`, nil, "plain! ruled!"},
		{"parent by inheritance", `UPDATE base SET v = 2 WHERE id = 1`, nil, "base! derived!"},
		{"child by inheritance", `UPDATE derived SET v = 2 WHERE id = 1`, nil, "base! derived!"},
		{"another schema", `UPDATE archive.users SET name = 'x' WHERE id = 1`, nil, "archive.users#1"},
		{"the default schema by name", `UPDATE public.users SET name = 'x' WHERE id = 1`, nil, "users#1"},
		{"with", `WITH gone AS (DELETE FROM orders WHERE id = 10 RETURNING user_id) UPDATE users SET seen = 1 FROM gone WHERE users.id = gone.user_id`, nil, "orders! users!"},
		{"with that reads", `WITH u AS (SELECT 2 AS id) UPDATE users SET seen = 1 FROM u WHERE users.id = u.id`, nil, "users#2"},
		{"function", `SELECT add_tag('f')`, nil, "tags!"},
		{"function in a write", `UPDATE users SET seen = add_tag('f') WHERE id = 1`, nil, "tags! users#1"},
		{"function that writes nothing", `UPDATE users SET seen = pure(3) WHERE id = 1`, nil, "users#1"},
		{"function with dynamic SQL", `SELECT dynamic('pairs')`, nil, "pairs!"},
		{"view that calls", `SELECT * FROM tagging LIMIT 1`, nil, "tags!"},
		{"select into", `SELECT * INTO fresh FROM users`, nil, "fresh!"},
		{"truncate", `TRUNCATE users CASCADE`, nil, "orders! users!"},
		{"do", `DO $$ BEGIN UPDATE pairs SET v = 3; END $$`, nil, "pairs!"},
		{"do with dynamic SQL", `DO $$ BEGIN EXECUTE 'UPDATE pairs SET v = 3'; END $$`, nil, "pairs!"},
		{"call", `CALL work(3)`, nil, "pairs!"},
		{"several", `UPDATE users SET seen = 1 WHERE id = 1; DELETE FROM tags WHERE tag = 'x'`, nil, "tags! users!"},
		{"explain", `EXPLAIN UPDATE users SET seen = 1`, nil, ""},
		{"explain analyze", `EXPLAIN ANALYZE UPDATE users SET seen = 1`, nil, "users!"},
		{"select for update", `SELECT * FROM users FOR UPDATE`, nil, ""},
		{"values", `VALUES (1), (2)`, nil, ""},
		{"listen", `LISTEN x`, nil, ""},
		{"nextval", `SELECT nextval('users_id_seq')`, nil, ""},
		{"merge", `MERGE INTO tags t USING users u ON t.tag = u.name WHEN MATCHED THEN UPDATE SET v = 5`, nil, "tags!"},
	}
	for _, how := range []string{"in a transaction", "alone", "prepared, alone", "as a query", "as a query, closed early"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			f := setUp(t, plainSchema+plainData)
			query := strings.Contains(how, "query")
			for _, c := range cases {
				if c.name == "several" && (query || strings.Contains(how, "prepared")) {
					continue // the driver does not take it
				}
				t.Run(c.name, func(t *testing.T) {
					f.TB = t
					f.exec(f.bare, plainReset+plainData)
					var e execer = f.db
					var tx *sql.Tx
					if how == "in a transaction" {
						var err error
						tx, err = f.db.BeginTx(f.ctx, nil)
						f.must(err)
						e = tx
					}
					switch how {
					case "as a query":
						f.query(e, c.query, c.args...)
					case "as a query, closed early":
						rows, err := e.QueryContext(f.ctx, c.query, c.args...)
						f.must(err)
						f.must(rows.Close())
					case "prepared, alone":
						stmt, err := f.db.PrepareContext(f.ctx, c.query)
						f.must(err)
						_, err = stmt.ExecContext(f.ctx, c.args...)
						f.must(err)
						f.must(stmt.Close())
					default:
						f.exec(e, c.query, c.args...)
					}
					if tx != nil {
						f.must(tx.Commit())
					}
					got := f.published()
					if query && !strings.Contains(c.query, "RETURNING") && coarser(got, c.want) {
						return // without rows that are returned only arguments tell
					}
					if got != c.want {
						t.Errorf("published %q; want %q (%v)\n%s", got, c.want, f.reasons(), f.log)
					}
				})
			}
		})
	}
}

// coarser reports whether got sweeps the tables of all that want names.
func coarser(got, want string) bool {
	have := strings.Fields(got)
	for _, w := range strings.Fields(want) {
		table, _, _ := strings.Cut(strings.TrimSuffix(w, "!"), "#")
		found := false
		for _, g := range have {
			found = found || g == w || g == table+"!"
		}
		if !found {
			return false
		}
	}
	return true
}
