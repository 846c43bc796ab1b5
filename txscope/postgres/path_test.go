package postgres_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// stamp is what is published of an identifier.
func (f *fixture) stamp(id tokens.ID) tokens.Stamp {
	f.Helper()
	s, err := tokens.Get(f.ctx, f.store, id)
	f.must(err)
	return s
}

// twoSchemas has a table k in two schemas, the default one and another.
const twoSchemas = `CREATE TABLE k (id int PRIMARY KEY, v int); INSERT INTO k VALUES (1, 0), (2, 0);
	CREATE SCHEMA ten; CREATE TABLE ten.k (id int PRIMARY KEY, v int); INSERT INTO ten.k VALUES (1, 0), (2, 0);
	CREATE FUNCTION fix() RETURNS int LANGUAGE plpgsql AS $$ BEGIN UPDATE ten.k SET v = 9; RETURN 1; END $$;
	CREATE TABLE u (id int PRIMARY KEY, v int); INSERT INTO u VALUES (1, 1);`

// TestChangesInDisguise runs statements one after another on one connection; those that begin with ?
// are run as queries. Each list changes a row that no single text shows.
func TestChangesInDisguise(t *testing.T) {
	first := `UPDATE k SET v = 1 WHERE id = 2`
	then := `UPDATE k SET v = 1 WHERE id = 1`
	for _, c := range []struct {
		name, schema string
		run          []string
		id           tokens.ID
	}{
		{"a function sets the path", twoSchemas + `CREATE FUNCTION tenant(t text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('search_path', t, false); END $$`,
			[]string{first, "SELECT public.tenant('ten')", then}, tokens.Row("ten.k", 1)},
		{"a parsed body sets the path", twoSchemas + `CREATE FUNCTION tenant() RETURNS text BEGIN ATOMIC SELECT set_config('search_path', 'ten', false); END`,
			[]string{first, "SELECT public.tenant()", then}, tokens.Row("ten.k", 1)},
		{"a function with SET SCHEMA", twoSchemas + `CREATE FUNCTION tenant() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET SCHEMA 'ten'; END $$`,
			[]string{first, "SELECT public.tenant()", then}, tokens.Row("ten.k", 1)},
		{"a view of a view of it", twoSchemas + `CREATE FUNCTION tenant() RETURNS text BEGIN ATOMIC SELECT set_config('search_path', 'ten', false); END;
			CREATE VIEW inner_one AS SELECT tenant(); CREATE VIEW outer_one AS SELECT * FROM inner_one`,
			[]string{first, "?SELECT * FROM public.outer_one", then}, tokens.Row("ten.k", 1)},
		{"a trigger sets the path", twoSchemas + `CREATE FUNCTION tenant() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('search_path', 'ten', false); RETURN NULL; END $$;
			CREATE TRIGGER tr AFTER UPDATE ON u FOR EACH ROW EXECUTE FUNCTION tenant()`,
			[]string{first, "UPDATE u SET v = 2 WHERE id = 1", then}, tokens.Row("ten.k", 1)},
		{"a comment in SET", twoSchemas, []string{first, "SET/**/search_path = ten", then}, tokens.Row("ten.k", 1)},
		{"SET and UPDATE in one text", twoSchemas, []string{"BEGIN", "UPDATE ten.k SET v = 1 WHERE id = 2", "SET LOCAL search_path = ten; UPDATE k SET v = 1 WHERE id = 1", "COMMIT"}, tokens.Row("ten.k", 1)},
		{"a chained transaction", twoSchemas, []string{"BEGIN", "SET LOCAL search_path = ten", then, "COMMIT AND CHAIN", "UPDATE public.k SET v = 5 WHERE id = 2", "UPDATE k SET v = 5 WHERE id = 1", "COMMIT"}, tokens.Row("k", 1)},
		{"a cursor that outlives its transaction", twoSchemas, []string{"BEGIN", "DECLARE c CURSOR WITH HOLD/**/FOR SELECT fix()", "COMMIT"}, tokens.Row("ten.k", 1)},
		{"schemas change places", twoSchemas, []string{"BEGIN", "ALTER SCHEMA public RENAME TO old", "ALTER SCHEMA ten RENAME TO public", "COMMIT"}, tokens.Row("k", 1)},
		{"an enum's value is renamed", `CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TABLE k (id int PRIMARY KEY, m mood); INSERT INTO k VALUES (1, 'a')`,
			[]string{"ALTER TYPE mood RENAME VALUE 'a' TO 'c'"}, tokens.Row("k", 1)},
		{"a temporary function", twoSchemas, []string{"CREATE FUNCTION pg_temp.own() RETURNS int LANGUAGE plpgsql AS $$ BEGIN UPDATE k SET v = 9; RETURN 1; END $$", "?SELECT pg_temp.own()"}, tokens.Row("k", 1)},
		{"a temporary view", twoSchemas, []string{"CREATE TEMP VIEW tv AS SELECT fix()", "?SELECT * FROM tv"}, tokens.Row("ten.k", 1)},
		{"a temporary view whose DROP is taken back", twoSchemas, []string{"CREATE TEMP VIEW tv AS SELECT fix()", "BEGIN", "DROP VIEW tv", "?SELECT 1", "ROLLBACK", "?SELECT * FROM tv"}, tokens.Row("ten.k", 1)},
		{"a temporary table with a trigger", twoSchemas + `CREATE FUNCTION fixing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE ten.k SET v = 9; RETURN NULL; END $$`,
			[]string{"CREATE TEMP TABLE tt (id int)", "CREATE TRIGGER tr AFTER INSERT ON tt EXECUTE FUNCTION fixing()", "INSERT INTO tt VALUES (1)"}, tokens.Row("ten.k", 1)},
		{"a temporary table with a default", twoSchemas, []string{"CREATE TEMP TABLE tt (id int, x int DEFAULT fix())", "SELECT 1", "INSERT INTO tt (id) VALUES (1)"}, tokens.Row("ten.k", 1)},
		{"a temporary table that is gone", twoSchemas, []string{"BEGIN", "CREATE TEMP TABLE k (id int PRIMARY KEY, v int) ON COMMIT DROP", first, "COMMIT", then}, tokens.Row("k", 1)},
		{"a temporary table that is hidden", twoSchemas, []string{"CREATE TEMP TABLE k (id int PRIMARY KEY, v int)", "SET search_path = public, pg_temp", then}, tokens.Row("k", 1)},
		{"a table by the name of a temporary one", twoSchemas, []string{"CREATE TEMP TABLE n (id int PRIMARY KEY)", "DROP TABLE n", "CREATE TABLE n (id int PRIMARY KEY)", "INSERT INTO n VALUES (1)"}, tokens.Row("n", 1)},
		{"an oid by another number", `CREATE TABLE o (id oid PRIMARY KEY, v int); INSERT INTO o VALUES (4294967295, 0)`, []string{"UPDATE o SET v = 1 WHERE id = -1"}, tokens.Row("o", int64(4294967295))},
		{"a domain's default", twoSchemas + `CREATE DOMAIN dd AS int DEFAULT fix(); CREATE TABLE d (id int PRIMARY KEY, x dd)`, []string{"INSERT INTO d (id) VALUES (1)"}, tokens.Row("ten.k", 1)},
		{"a row moves to another partition", `CREATE TABLE log (id serial PRIMARY KEY, what text);
			CREATE TABLE pt (id int, r int, PRIMARY KEY (id, r)) PARTITION BY LIST (r); CREATE TABLE pt1 PARTITION OF pt FOR VALUES IN (1); CREATE TABLE pt2 PARTITION OF pt FOR VALUES IN (2);
			INSERT INTO pt VALUES (1, 1);
			CREATE FUNCTION lg() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log (what) VALUES (TG_OP); RETURN NULL; END $$;
			CREATE TRIGGER lg AFTER INSERT ON pt FOR EACH ROW EXECUTE FUNCTION lg()`,
			[]string{"BEGIN", "INSERT INTO log (id, what) VALUES (100, 'x')", "UPDATE pt SET r = 2 WHERE id = 1", "COMMIT"}, tokens.Row("log", 1)},
		{"a partition has a unique key of its own", `CREATE TABLE p (id int PRIMARY KEY, email text, v int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
			CREATE UNIQUE INDEX ON p1 (email); INSERT INTO p VALUES (1, 'a', 0)`,
			[]string{"INSERT INTO p1 VALUES (2, 'a', 1) ON CONFLICT (email) DO UPDATE SET v = 1"}, tokens.Row("p", 1)},
		{"a block attaches a partition", `CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); CREATE TABLE p1 (id int PRIMARY KEY, v int); INSERT INTO p1 VALUES (1, 1)`,
			[]string{"DO $$ BEGIN ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (0) TO (100); END $$"}, tokens.Row("p", 1)},
		{"a block attaches a partition to what is written by key", `CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200);
			CREATE TABLE p1 (id int PRIMARY KEY, v int); INSERT INTO p1 VALUES (1, 1); INSERT INTO p2 VALUES (101, 1)`,
			[]string{"BEGIN", "UPDATE p SET v = 2 WHERE id = 101", "DO $$ BEGIN ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (0) TO (100); END $$", "COMMIT"}, tokens.Row("p", 1)},
		{"a block makes a table inherit", `CREATE TABLE p (id int PRIMARY KEY, v int); CREATE TABLE p1 (id int NOT NULL, v int); INSERT INTO p1 VALUES (1, 1)`,
			[]string{"DO $$ BEGIN ALTER TABLE p1 INHERIT p; END $$"}, tokens.Row("p", 1)},
		{"schemas change places in a block", twoSchemas, []string{"DO $$ BEGIN ALTER SCHEMA public RENAME TO old; ALTER SCHEMA ten RENAME TO public; END $$"}, tokens.Row("k", 1)},
		{"an enum's value is renamed in a block", `CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TABLE k (id int PRIMARY KEY, m mood); INSERT INTO k VALUES (1, 'a')`,
			[]string{"DO $$ BEGIN ALTER TYPE mood RENAME VALUE 'a' TO 'c'; END $$"}, tokens.Row("k", 1)},
		{"a cursor of a block that outlives its transaction", twoSchemas, []string{"DO $$ BEGIN EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT fix()'; END $$"}, tokens.Row("ten.k", 1)},
		{"a function in the server's own schema", twoSchemas + `CREATE FUNCTION pg_catalog.fixes() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN public.fix(); END $$`,
			[]string{"SELECT fixes()"}, tokens.Row("ten.k", 1)},
		{"a function in another language that is said to be stable", twoSchemas + `CREATE LANGUAGE other HANDLER plpgsql_call_handler; CREATE FUNCTION fixes() RETURNS int STABLE LANGUAGE other AS $$ BEGIN RETURN fix(); END $$`,
			[]string{"SELECT fixes()"}, tokens.Row("ten.k", 1)},
		{"an extension's function that runs a text", twoSchemas + `CREATE EXTENSION tablefunc`,
			[]string{"SELECT * FROM crosstab('SELECT fix()::text, ''a''::text, ''b''::text') AS (a text, b text)"}, tokens.Row("ten.k", 1)},
		{"an order with a function", twoSchemas + `CREATE FUNCTION compare(a int, b int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM fix(); RETURN btint4cmp(a, b); END $$;
			CREATE OPERATOR CLASS fixing FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 compare(int, int); CREATE INDEX ON u (v fixing)`,
			[]string{"SET enable_seqscan = off", "?SELECT v FROM u WHERE v > 0"}, tokens.Row("ten.k", 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := setUp(t, c.schema)
			conn := f.conn()
			was := f.stamp(c.id)
			for _, text := range c.run {
				if text == c.run[len(c.run)-1] && text != "COMMIT" {
					was = f.stamp(c.id)
				}
				if q, ok := strings.CutPrefix(text, "?"); ok {
					f.query(conn, q)
				} else {
					f.exec(conn, text)
				}
			}
			if f.stamp(c.id) == was {
				t.Errorf("%v has not changed; published %q", c.id, f.published())
			}
		})
	}
}

// The server keeps to the table that it has planned a statement for, though another comes first in the path
// since.
func TestPlansOutliveNames(t *testing.T) {
	for name, texts := range map[string]struct{ before, hide, after string }{
		"by a temporary table": {"CREATE TEMP TABLE other (id int)", "CREATE TEMP TABLE k (id int PRIMARY KEY, v int)", ""},
		"by another schema":    {"SET search_path = ten, public", "CREATE TABLE ten.k (id int PRIMARY KEY, v int)", ""},
		"by another name":      {"SET search_path = ten, public", "CREATE TABLE ten.j (id int PRIMARY KEY, v int)", "ALTER TABLE ten.j RENAME TO k"},
	} {
		for _, how := range []string{"alone", "in a transaction", "with RETURNING"} {
			t.Run(name+", "+how, func(t *testing.T) {
				f := setUp(t, `CREATE TABLE k (id int PRIMARY KEY, v int); INSERT INTO k VALUES (1, 0), (2, 0); CREATE SCHEMA ten`)
				conn := f.conn()
				update := func() {
					switch how {
					case "alone":
						f.exec(conn, `UPDATE k SET v = v + 1 WHERE id = $1`, 1)
					case "in a transaction":
						tx, err := conn.BeginTx(f.ctx, nil)
						f.must(err)
						f.exec(tx, `UPDATE k SET v = v + 1 WHERE id = $1`, 1)
						f.must(tx.Commit())
					default:
						f.query(conn, `UPDATE k SET v = v + $1 WHERE v < 9 RETURNING id`, 1)
					}
				}
				f.exec(conn, texts.before)
				update()
				f.exec(conn, texts.hide)
				if texts.after != "" {
					f.exec(conn, texts.after)
				}
				was := f.stamp(tokens.Row("k", 1))
				update()
				if got := f.query(f.bare, `SELECT v FROM public.k WHERE id = 1`); got[0] != "2" {
					t.Fatalf("the server has not kept to its plan: %v", got)
				}
				if f.stamp(tokens.Row("k", 1)) == was {
					t.Errorf("published %q", f.published())
				}
			})
		}
	}
}

// What must come first in a transaction does, though the capture has lost the path.
func TestFirstInTransaction(t *testing.T) {
	f := setUp(t, twoSchemas)
	conn := f.conn()
	for _, first := range []string{"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "LOCK TABLE k"} {
		f.exec(conn, "CREATE TEMP VIEW tv AS SELECT 1")
		f.exec(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ")
		f.exec(conn, first)
		f.exec(f.bare, "UPDATE u SET v = v + 1")
		if got, want := f.query(conn, "SELECT v FROM u"), f.query(f.bare, "SELECT v FROM u"); got[0] != want[0] {
			t.Errorf("after %s the transaction sees %s; want %s", first, got, want)
		}
		f.exec(conn, "UPDATE k SET v = 3 WHERE id = 1")
		f.exec(conn, "COMMIT")
		f.exec(conn, "DROP VIEW tv")
		f.published()
	}
}

// An argument that stands in two places has the type that it gets in the first.
func TestRepeatedArgument(t *testing.T) {
	f := setUp(t, `CREATE TABLE fl (id bigint PRIMARY KEY, x float8); INSERT INTO fl VALUES (9007199254740992, 1e30)`)
	f.exec(f.db, `UPDATE fl SET x = 2e30 WHERE x > $1 AND id = $1`, int64(9007199254740993))
	f.expect("fl#9007199254740992")
}

// Another connection makes a schema that comes first in everybody's path.
func TestSchemaAppearsInPath(t *testing.T) {
	f := setUp(t, `CREATE TABLE k (id int PRIMARY KEY, v int); INSERT INTO k VALUES (1, 0)`)
	a, b := f.conn(), f.conn()
	f.exec(b, `UPDATE k SET v = 1 WHERE id = 1`)
	f.expect("k#1")
	f.exec(a, `CREATE SCHEMA postgres`)
	f.exec(a, `CREATE TABLE postgres.k (id int PRIMARY KEY, v int)`)
	f.exec(a, `INSERT INTO postgres.k VALUES (1, 0)`)
	f.published()
	f.exec(b, `UPDATE k SET v = 1 WHERE id = 1`)
	f.expect("postgres.k#1")
}

type tenantKey struct{}

// A function that the driver runs whenever the connection is taken again changes the path.
func TestResetSessionSetsPath(t *testing.T) {
	f := setUp(t, `CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.k (id int PRIMARY KEY, v int); CREATE TABLE b.k (id int PRIMARY KEY, v int);
		INSERT INTO a.k VALUES (1, 0); INSERT INTO b.k VALUES (1, 0)`)
	config, err := pgx.ParseConfig(f.dsn)
	f.must(err)
	c, err := txscope.Wrap(stdlib.GetConnector(*config, stdlib.OptionResetSession(func(ctx context.Context, c *pgx.Conn) error {
		name, _ := ctx.Value(tenantKey{}).(string)
		_, err := c.Exec(ctx, "SET search_path = "+name)
		return err
	})), f.store)
	f.must(err)
	db := sql.OpenDB(c)
	defer func() { f.must(db.Close()) }()
	db.SetMaxOpenConns(1)
	f.exec(db, "SELECT 1") // the default schema is public
	for _, name := range []string{"a", "b", "a"} {
		_, err = db.ExecContext(context.WithValue(f.ctx, tenantKey{}, name), `UPDATE k SET v = 1 WHERE id = 1`)
		f.must(err)
		f.expect(name + ".k#1")
	}
}

// Event triggers are part of what the schema is found to have changed by.
func TestEventTriggerIsNoticed(t *testing.T) {
	f := setUp(t, `CREATE TABLE k (id int PRIMARY KEY, v int); CREATE TABLE ddl (id serial PRIMARY KEY);
		CREATE FUNCTION ev() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ddl DEFAULT VALUES; END $$`)
	conn := f.conn()
	f.exec(conn, "SELECT 1")
	f.exec(conn, "CREATE EVENT TRIGGER ev ON ddl_command_end EXECUTE FUNCTION ev()")
	for _, ddl := range []string{"CREATE INDEX CONCURRENTLY ON k (v)", "CREATE TEMP TABLE tt (id int)"} {
		f.exec(conn, "SELECT 1")
		f.published()
		f.exec(conn, ddl)
		if got := f.published(); !strings.Contains(got, "ddl!") && !strings.Contains(got, "*!") {
			t.Errorf("%s: published %q; ddl has %v", ddl, got, f.query(f.bare, "SELECT * FROM ddl"))
		}
	}
}

// Privileges come from other roles, too.
func TestRoleIsRevoked(t *testing.T) {
	f := setUp(t, `CREATE TABLE k (id int PRIMARY KEY, v int); INSERT INTO k VALUES (1, 0); CREATE ROLE k_reader; CREATE ROLE k_writer LOGIN;
		GRANT k_reader TO k_writer; GRANT SELECT ON k TO k_reader; GRANT UPDATE ON k TO k_writer`)
	f.Cleanup(func() {
		f.exec(f.bare, "DROP OWNED BY k_reader, k_writer")
		f.exec(f.bare, "DROP ROLE k_reader, k_writer")
	})
	g := setUpOn(t, strings.Replace(f.dsn, "postgres@", "k_writer@", 1), "", txscope.MaxSchemaAge(time.Second))
	g.exec(g.db, "UPDATE k SET v = 1")
	g.expect("k#1")
	f.exec(f.bare, "REVOKE k_reader FROM k_writer")
	g.exec(g.bare, "UPDATE k SET v = 2")
	for deadline := time.Now().Add(10 * time.Second); ; {
		_, err := g.db.ExecContext(g.ctx, "UPDATE k SET v = 3")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	g.expect("k!")
}

// What happens to temporary tables is nobody else's business.
func TestTemporaryTables(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	a, b := f.conn(), f.conn()
	for _, text := range []string{
		"CREATE TEMP TABLE tt (a int)", "CREATE INDEX ON tt (a)", "ALTER TABLE tt ADD b int",
		"INSERT INTO tt VALUES (1)", "INSERT INTO pg_temp.tt VALUES (2)", "UPDATE tt SET b = 1", "DELETE FROM tt WHERE a = 1", "TRUNCATE tt", "DROP TABLE tt",
	} {
		f.exec(a, text)
		if got := f.published(); got != "" {
			t.Errorf("%s: published %q", text, got)
		}
	}
	f.exec(a, "BEGIN")
	f.exec(a, "CREATE TEMP TABLE tt (a int) ON COMMIT DROP")
	f.exec(a, "CREATE INDEX ON tt (a)")
	f.exec(b, `UPDATE pairs SET v = 1 WHERE a = 1 AND b = 1`)
	f.expect("pairs#" + tokens.Row("pairs", 1, 1).Row)
	f.exec(a, "INSERT INTO tt VALUES (1)")
	f.exec(a, "UPDATE pairs SET v = 2 WHERE a = 1 AND b = 1")
	f.exec(a, "COMMIT")
	f.expect("pairs#" + tokens.Row("pairs", 1, 1).Row)
}
