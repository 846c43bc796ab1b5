package postgres_test

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// TestPath: names without a schema are the server's, whatever the search_path is, and identifiers are
// the same on all connections.
func TestPath(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	conn := f.conn()
	step := func(want string, texts ...string) {
		t.Helper()
		for _, text := range texts {
			f.exec(conn, text)
		}
		f.expect(want)
	}
	const update = `UPDATE users SET name = 'x' WHERE id = 1`
	step("users#1", update)
	step("archive.users#1", `SET search_path = archive, public`, update)
	step("tags#x", `UPDATE tags SET v = 3 WHERE tag = 'x'`)
	step("archive.users#1", `UPDATE users SET name = 'y'`)
	step("users#1", `RESET search_path`, update)
	step("archive.users#1", `SELECT set_config('search_path', 'archive', false)`, update)
	step("users#1", `DISCARD ALL`, update)
	step("archive.users#1 users#2", `BEGIN`, `SET LOCAL search_path = archive`, update, `COMMIT`, `UPDATE users SET name = 'x' WHERE id = 2`)
	step("users#1", `BEGIN`, `SET search_path = archive`, `ROLLBACK`, update)
	step("archive.users#1 users#2", `BEGIN`, `SAVEPOINT a`, `SET search_path = archive`, update, `SAVEPOINT b`, `ROLLBACK TO b`, `RELEASE a`, `SET search_path = public`, `UPDATE users SET name = 'x' WHERE id = 2`, `COMMIT`)
	step("users#1", `BEGIN`, `SAVEPOINT a`, `SET search_path = archive`, `ROLLBACK TO a`, update, `COMMIT`)
	step("archive.users#1", `DO $$ BEGIN PERFORM set_config('search_path', 'archive', false); END $$`, update)
	step("archive.users#1", `RESET search_path`, `CREATE FUNCTION tenant() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('search_path', 'archive', false); END $$`, `SELECT tenant()`, update)
	step("archive.users#1", `RESET search_path`, `CREATE FUNCTION by_tenant() RETURNS void LANGUAGE sql AS 'SELECT public.tenant()'`, `SELECT by_tenant()`, update)
	step("archive.users! users#1", `RESET search_path`, `CREATE FUNCTION elsewhere() RETURNS void LANGUAGE sql SET search_path = archive AS 'UPDATE archive.users SET name = ''q'''`, `SELECT elsewhere()`, update)

	// Another default of the connection's: its tables have the same names for all.
	db, err := txscope.Open("pgx", f.dsn+"&search_path=archive,public", f.store)
	f.must(err)
	defer db.Close()
	f.exec(db, `UPDATE public.users SET name = 'z' WHERE id = 1`)
	f.expect("public.users#1") // archive is this database's default
	f.exec(db, update)
	f.expect("users#1")
}

// TestTemporary: a temporary table hides another, and is nobody else's.
func TestTemporary(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	conn := f.conn()
	f.exec(conn, `UPDATE users SET seen = 1 WHERE id = 1`)
	f.expect("users#1")
	f.exec(conn, `CREATE TEMP TABLE users (seen int)`)
	f.exec(conn, `INSERT INTO users VALUES (1)`)
	f.exec(conn, `UPDATE users SET seen = 2`)
	f.expect("")
	f.exec(conn, `UPDATE public.users SET seen = 1 WHERE id = 1`)
	f.expect("users#1")
	tx, err := conn.BeginTx(f.ctx, nil)
	f.must(err)
	f.exec(tx, `DROP TABLE users`)
	f.exec(tx, `UPDATE users SET seen = 3 WHERE id = 2`)
	f.must(tx.Commit())
	f.expect("users#2")
	f.exec(conn, `UPDATE users SET seen = 2 WHERE id = 2`)
	f.expect("users#2")
}

// TestElsewhere: what another program changes of the schema.
func TestElsewhere(t *testing.T) {
	const age = time.Second
	f := setUp(t, plainSchema+plainData, txscope.MaxSchemaAge(age))
	f.exec(f.db, "SELECT 1")
	eventually := func(query, want string) {
		t.Helper()
		f.published()
		deadline := time.Now().Add(30 * age)
		for {
			f.exec(f.db, query)
			got := f.published()
			if got == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: published %q; want %q", query, got, want)
			}
			time.Sleep(age / 20)
		}
	}
	// A table that is not known is found at once, by the judge.
	f.exec(f.bare, `CREATE TABLE fresh (id int PRIMARY KEY, v int); INSERT INTO fresh VALUES (1, 1)`)
	f.exec(f.db, `UPDATE fresh SET v = 2 WHERE id = 1`)
	f.expect("fresh!")
	eventually(`UPDATE fresh SET v = 2 WHERE id = 1`, "fresh#1")
	// So is one that takes the name of another.
	f.exec(f.bare, `ALTER TABLE fresh RENAME TO older; CREATE TABLE fresh (id int PRIMARY KEY, v int)`)
	f.inTx(func(tx *sql.Tx) { f.exec(tx, `INSERT INTO fresh VALUES (1, 1)`) })
	f.expect("fresh!")
	// What the judge cannot see counts when the schema's age has come.
	f.exec(f.bare, `CREATE OR REPLACE FUNCTION pure(n int) RETURNS int LANGUAGE sql AS $$ UPDATE plain SET v = n; SELECT n + 1 $$`)
	eventually(`SELECT pure(2)`, "plain!")
	f.exec(f.bare, `CREATE TRIGGER audit AFTER UPDATE ON tags FOR EACH ROW EXECUTE FUNCTION audit()`)
	eventually(`UPDATE tags SET v = 4 WHERE tag = 'x'`, "audit! tags#x")
	f.exec(f.bare, `DROP TRIGGER audit ON tags`)
	eventually(`UPDATE tags SET v = 4 WHERE tag = 'x'`, "tags#x")
	f.exec(f.bare, `ALTER TABLE tags DROP CONSTRAINT tags_pkey; ALTER TABLE tags ADD PRIMARY KEY (v, tag)`)
	eventually(`UPDATE users SET seen = 4 WHERE id = 1`, "users#1")
	eventually(`DELETE FROM tags WHERE tag = 'x'`, "") // the first has deleted it
}

// TestChanging: while the schema changes on one connection the others are not exact, and see the
// change as soon as it is there.
func TestChanging(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	f.exec(f.db, `UPDATE tags SET v = 2 WHERE tag = 'x'`)
	f.expect("tags#x")
	tx, err := f.db.BeginTx(f.ctx, nil)
	f.must(err)
	f.exec(tx, `CREATE TRIGGER audit AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION audit()`)
	f.exec(f.db, `UPDATE tags SET v = 3 WHERE tag = 'x'`)
	f.expect("tags!")
	f.exec(f.db, `SELECT pure(1)`) // in a transaction of its own
	f.expect("")
	f.must(tx.Commit())
	f.expect("users!")
	f.exec(f.db, `UPDATE users SET seen = 2 WHERE id = 1`)
	f.expect("audit! users#1")
}

// TestPrivileges: what the user may not read makes the capture less exact, and never fails a
// statement.
func TestPrivileges(t *testing.T) {
	f := setUp(t, plainSchema+plainData+`
		CREATE ROLE writer_`+"x"+` LOGIN;
		GRANT USAGE ON SCHEMA public TO writer_x;
		GRANT SELECT, INSERT, UPDATE, DELETE ON users, tags TO writer_x;
		GRANT INSERT, UPDATE (v), SELECT (v) ON members TO writer_x;
		GRANT INSERT ON things TO writer_x;
		GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO writer_x;
		CREATE TABLE guarded (id int PRIMARY KEY, owner text DEFAULT current_user);
		GRANT ALL ON guarded TO writer_x;
		ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
		CREATE POLICY writing ON guarded FOR INSERT WITH CHECK (true);
		CREATE POLICY reading ON guarded FOR SELECT USING (id < 10);`)
	f.Cleanup(func() {
		for _, text := range []string{`DROP OWNED BY writer_x`, `DROP ROLE writer_x`} {
			if _, err := f.bare.Exec(text); err != nil {
				t.Error(err)
			}
		}
	})
	db, err := txscope.Open("pgx", strings.Replace(f.dsn, "postgres@", "writer_x@", 1), f.store)
	f.must(err)
	defer db.Close()
	for _, c := range []struct{ query, want string }{
		{`UPDATE users SET seen = 1 WHERE name = 'b'`, "users#2"},
		{`UPDATE members SET v = 3 WHERE v = 1`, "members!"},
		{`INSERT INTO things VALUES ('` + uuid + `'::uuid, 1) ON CONFLICT DO NOTHING`, "things!"},
		{`INSERT INTO things VALUES ('f190a0b4-7f3e-7cc0-8f00-0123456789ab', 1)`, "things#f190a0b4-7f3e-7cc0-8f00-0123456789ab"},
		{`INSERT INTO guarded (id) SELECT 70`, "guarded!"},
		{`INSERT INTO guarded (id) VALUES (71)`, "guarded#71"},
	} {
		f.exec(db, c.query)
		f.expect(c.want)
		f.inTx(func(*sql.Tx) {})
	}
	// Privileges are those of a role.
	conn := f.conn()
	f.exec(conn, `SET ROLE writer_x`)
	f.exec(conn, `UPDATE members SET v = 3 WHERE v = 1`)
	f.exec(conn, `UPDATE members SET v = 4 WHERE v = 3`)
	f.expect("members!")
	f.exec(conn, `RESET ROLE`)
	f.exec(conn, `UPDATE members SET v = 5`)
	f.expect("members#1,ann members#2,bob")
}

// TestNoJudge: where the server does not tell, what is not known changes everything.
func TestNoJudge(t *testing.T) {
	f := setUp(t, plainSchema+plainData+`REVOKE SELECT ON pg_locks FROM PUBLIC;
		CREATE ROLE blind LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO blind; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO blind`)
	f.Cleanup(func() {
		for _, text := range []string{`DROP OWNED BY blind`, `DROP ROLE blind`} {
			if _, err := f.bare.Exec(text); err != nil {
				t.Error(err)
			}
		}
	})
	g := setUpOn(t, strings.Replace(f.dsn, "postgres@", "blind@", 1), "")
	for _, c := range []struct{ query, want string }{
		{`UPDATE users SET seen = 1 WHERE name = 'b'`, "users#2"},
		{`UPDATE plain SET v = 3`, "plain!"},
		{`UPDATE audited SET v = 2 WHERE id = 1`, "*!"},
		{`SELECT add_tag('z')`, "*!"},
		{`SELECT pure(1)`, ""},
	} {
		g.exec(g.db, c.query)
		g.expect(c.want)
	}
	if log := g.log.String(); strings.Count(log, "WARN") != 1 || !strings.Contains(log, "pg_locks") {
		t.Error(log)
	}
}

// TestJudgeRevoked: the judge that fails later does not fail the transaction.
func TestJudgeRevoked(t *testing.T) {
	f := setUp(t, plainSchema+plainData+`CREATE ROLE blinded LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO blinded`)
	f.Cleanup(func() {
		for _, text := range []string{`DROP OWNED BY blinded`, `DROP ROLE blinded`} {
			if _, err := f.bare.Exec(text); err != nil {
				t.Error(err)
			}
		}
	})
	g := setUpOn(t, strings.Replace(f.dsn, "postgres@", "blinded@", 1), "")
	g.exec(g.db, `UPDATE plain SET v = 2`)
	g.expect("plain!")
	f.exec(f.bare, `REVOKE SELECT ON pg_locks FROM PUBLIC`)
	g.inTx(func(tx *sql.Tx) { g.exec(tx, `UPDATE tags SET v = 3 WHERE tag = 'x'`) })
	g.expect("*!")
	if got := f.query(f.bare, `SELECT v FROM tags WHERE tag = 'x'`); got[0] != "3" {
		t.Error(got)
	}
	if log := g.log.String(); strings.Count(log, "WARN") != 1 || !strings.Contains(log, "pg_locks") {
		t.Error(log)
	}
}

// TestConcurrent: many connections of one database, with changes of the schema between. Run it with
// the race detector.
func TestConcurrent(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 20 {
				switch (i + n) % 5 {
				case 0:
					f.exec(f.db, `UPDATE users SET seen = $1 WHERE id = $2`, n, i)
				case 1:
					f.exec(f.db, `UPDATE plain SET v = 1 WHERE v = -1`)
				case 2:
					f.query(f.db, `SELECT pure(1), * FROM people`)
				case 3:
					f.exec(f.db, `DELETE FROM tags WHERE tag = $1`, "none")
				default:
					if i == 0 {
						f.exec(f.db, `CREATE OR REPLACE FUNCTION pure(n int) RETURNS int LANGUAGE sql AS $$ SELECT n + 2 $$`)
					}
				}
			}
		})
	}
	wg.Wait()
}

// TestTouch: parents change with their children.
func TestTouch(t *testing.T) {
	const schema = `
		CREATE TABLE regions (id int PRIMARY KEY);
		CREATE TABLE shops (id int PRIMARY KEY, region int REFERENCES regions, v int);
		CREATE TABLE sales (id int PRIMARY KEY, shop int REFERENCES shops, v int);
		CREATE TABLE codes (id int PRIMARY KEY, code text UNIQUE);
		CREATE TABLE coded (id int PRIMARY KEY, code text REFERENCES codes (code));
		CREATE TABLE fixed (id int PRIMARY KEY, shop int REFERENCES shops, v int);
		CREATE FUNCTION fix() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.shop := 2; RETURN NEW; END $$;
		CREATE TRIGGER fix BEFORE INSERT OR UPDATE ON fixed FOR EACH ROW EXECUTE FUNCTION fix();
		INSERT INTO regions VALUES (1), (2);
		INSERT INTO shops VALUES (1, 1, 1), (2, 2, 1), (3, 1, 1);
		INSERT INTO sales VALUES (10, 1, 1), (11, 2, 1), (12, NULL, 1);
		INSERT INTO codes VALUES (1, 'a');`
	cases := []struct {
		name, query string
		args        []any
		parents     string
		ancestors   string
	}{
		{"insert", `INSERT INTO sales VALUES (20, 2, 1)`, nil, "sales#20 shops#2", "regions#2 sales#20 shops#2"},
		{"insert returning", `INSERT INTO sales (id, shop) VALUES (20, $1) RETURNING id`, []any{2}, "sales#20 shops#2", "regions#2 sales#20 shops#2"},
		{"insert of an orphan", `INSERT INTO sales VALUES (20, NULL, 1)`, nil, "sales#20", "sales#20"},
		{"update", `UPDATE sales SET v = 2 WHERE id = 10`, nil, "sales#10 shops#1", "regions#1 sales#10 shops#1"},
		{"update of all", `UPDATE sales SET v = 2`, nil, "sales#10 sales#11 sales#12 shops#1 shops#2", "regions#1 regions#2 sales#10 sales#11 sales#12 shops#1 shops#2"},
		{"move", `UPDATE sales SET shop = $1 WHERE id = $2`, []any{3, 11}, "sales#11 shops#2 shops#3", "regions#1 regions#2 sales#11 shops#2 shops#3"},
		{"move of several", `UPDATE sales SET shop = 3 WHERE v = $1 AND shop IS NOT NULL`, []any{1}, "sales#10 sales#11 shops#1 shops#2 shops#3", "regions#1 regions#2 sales#10 sales#11 shops#1 shops#2 shops#3"},
		{"move of none", `UPDATE sales SET shop = 3 WHERE id = 99`, nil, "", ""},
		{"move returning", `UPDATE sales SET shop = 3 WHERE id = 11 RETURNING id, shop`, nil, "sales#11 shops#2 shops#3", "regions#1 regions#2 sales#11 shops#2 shops#3"},
		{"move by a join", `UPDATE sales SET shop = s.id FROM shops s WHERE s.id = 3 AND sales.id = 11`, nil, "sales#11 shops!", "regions! sales#11 shops!"},
		{"delete", `DELETE FROM sales WHERE id = 11`, nil, "sales#11 shops#2", "regions#2 sales#11 shops#2"},
		{"delete returning", `DELETE FROM sales WHERE id = 11 RETURNING id`, nil, "sales#11 shops#2", "regions#2 sales#11 shops#2"},
		{"truncate", `TRUNCATE sales`, nil, "sales! shops!", "regions! sales! shops!"},
		{"by another key", `INSERT INTO coded VALUES (1, 'a')`, nil, "coded#1 codes!", "coded#1 codes!"},
		{"a trigger moves", `UPDATE fixed SET v = 2 WHERE id = 5`, nil, "", ""},
		{"a trigger chooses", `INSERT INTO fixed VALUES (6, 1, 1)`, nil, "fixed#6 shops#2", "fixed#6 regions#2 shops#2"},
		{"in the middle", `UPDATE shops SET v = 2 WHERE id = 3`, nil, "regions#1 shops#3", "regions#1 shops#3"},
		{"do", `DO $$ BEGIN UPDATE sales SET v = 3; END $$`, nil, "sales! shops!", "regions! sales! shops!"},
	}
	for _, mode := range []string{"parents", "ancestors", "tables"} {
		t.Run(mode, func(t *testing.T) {
			opts := []txscope.Option{txscope.Touch()}
			switch mode {
			case "ancestors":
				opts = append(opts, txscope.TouchAncestors())
			case "tables":
				opts = []txscope.Option{txscope.TouchTables("Sales")}
			}
			f := setUp(t, schema, opts...)
			f.exec(f.db, "SELECT 1")
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					f.TB = t
					want := c.parents
					switch {
					case mode == "ancestors":
						want = c.ancestors
					case mode == "tables" && !strings.Contains(c.parents, "sales"):
						// Only the child itself.
						var own []string
						for _, w := range strings.Fields(c.parents) {
							if strings.HasPrefix(w, "coded") || strings.HasPrefix(w, "fixed") || c.name == "in the middle" && strings.HasPrefix(w, "shops") {
								own = append(own, w)
							}
						}
						want = strings.Join(own, " ")
					}
					for _, inTx := range []bool{true, false} {
						f.exec(f.bare, `TRUNCATE regions, shops, sales, codes, coded, fixed;`+schema[strings.Index(schema, "INSERT INTO regions"):])
						if !strings.Contains(c.query, "RETURNING") {
							// Without rows, a query tells less.
						} else if inTx {
							f.inTx(func(tx *sql.Tx) { f.query(tx, c.query, c.args...) })
						} else {
							f.query(f.db, c.query, c.args...)
						}
						if got := f.published(); got != want && strings.Contains(c.query, "RETURNING") {
							t.Errorf("as a query, in a transaction %v: published %q; want %q", inTx, got, want)
						}
						f.exec(f.bare, `TRUNCATE regions, shops, sales, codes, coded, fixed;`+schema[strings.Index(schema, "INSERT INTO regions"):])
						if inTx {
							f.inTx(func(tx *sql.Tx) { f.exec(tx, c.query, c.args...) })
						} else {
							f.exec(f.db, c.query, c.args...)
						}
						if got := f.published(); got != want {
							t.Errorf("in a transaction %v: published %q; want %q", inTx, got, want)
						}
					}
				})
			}
		})
	}
}

// TestScope: what a request's own transaction has changed is not served to it.
func TestScope(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	f.exec(f.db, "SELECT 1")
	ctx, scope := txscope.OpenScope(context.Background(), f.store)
	tx, err := f.db.BeginTx(ctx, nil)
	f.must(err)
	usable := func(id tokens.ID, want bool) {
		t.Helper()
		if scope.Usable(id) != want {
			t.Errorf("%s is usable: %v", id, !want)
		}
	}
	if _, err := tx.ExecContext(ctx, `UPDATE users SET seen = 1 WHERE id = 1`); err != nil {
		t.Fatal(err)
	}
	usable(tokens.Row("users", 1), false)
	usable(tokens.Row("users", 2), true)
	if _, err := tx.ExecContext(ctx, `UPDATE plain SET v = 1`); err != nil {
		t.Fatal(err)
	}
	usable(tokens.Table("plain"), false)
	usable(tokens.Row("users", 2), true)
	if _, err := tx.ExecContext(ctx, `SELECT dynamic('pairs')`); err != nil {
		t.Fatal(err)
	}
	usable(tokens.Row("users", 2), false) // anything may have changed
	f.must(tx.Rollback())
	f.expect("")
}

// TestForbiddenKey: where the key may not be read, the log says once for each table what to do.
func TestForbiddenKey(t *testing.T) {
	f := setUp(t, plainSchema+plainData+`CREATE ROLE keyless LOGIN; GRANT INSERT, UPDATE (v), SELECT (v) ON members, tags TO keyless; GRANT INSERT ON pairs TO keyless`)
	f.Cleanup(func() {
		f.exec(f.bare, `DROP OWNED BY keyless`)
		f.exec(f.bare, `DROP ROLE keyless`)
	})
	g := setUpOn(t, strings.Replace(f.dsn, "postgres@", "keyless@", 1), "")
	g.exec(g.db, `INSERT INTO pairs (a, b) VALUES (8, 9)`)
	g.expect("pairs#8,9")
	if log := g.log.String(); strings.Contains(log, "WARN") {
		t.Error(log)
	}
	for range 3 {
		g.exec(g.db, `UPDATE members SET v = 3 WHERE v = 1`)
		g.inTx(func(tx *sql.Tx) { g.exec(tx, `UPDATE members SET v = 1 WHERE v = 3`) })
		g.expect("members!")
	}
	g.exec(g.db, `UPDATE tags SET v = v + 1`)
	g.expect("tags!")
	log := g.log.String()
	for _, remedy := range []string{`GRANT SELECT (\"grp\", \"who\") ON public.members TO \"keyless\"`, `GRANT SELECT (\"tag\") ON public.tags TO \"keyless\"`} {
		if strings.Count(log, remedy) != 1 {
			t.Errorf("%d times %s in\n%s", strings.Count(log, remedy), remedy, log)
		}
	}
	if n := strings.Count(log, "WARN"); n != 2 {
		t.Errorf("%d warnings:\n%s", n, log)
	}
	stats, err := txscope.Stats(g.ctx, g.db)
	g.must(err)
	for _, s := range stats.Sweeps {
		if s.Why != "the primary key may not be read" || s.Table == "members" && s.Count != 6 {
			t.Errorf("%+v", s)
		}
	}
	if len(stats.Problems) != 2 || stats.Problems[0].Count != 6 {
		t.Errorf("%+v", stats.Problems)
	}
}

// hidingLocks lets the server have pg_locks, and show nothing by it.
const hidingLocks = `SET allow_system_table_mods = on; ALTER VIEW pg_catalog.pg_locks RENAME TO pg_real_locks;
	CREATE VIEW pg_catalog.pg_locks AS SELECT * FROM pg_catalog.pg_real_locks WHERE false; GRANT SELECT ON pg_catalog.pg_locks TO PUBLIC; RESET allow_system_table_mods`

// TestBlindJudge: a server that shows no locks is not taken for one that has none, also by a transaction
// that had no time to find out before it began.
func TestBlindJudge(t *testing.T) {
	f := setUp(t, plainSchema+plainData+hidingLocks)
	tx, err := f.conn().BeginTx(inHaste{f.ctx}, nil)
	f.must(err)
	f.exec(tx, `SELECT add_tag('z')`)
	f.must(tx.Commit())
	f.expect("*!")
}

// inHaste is a context that says that it has ended already, and has not.
type inHaste struct{ context.Context }

func (inHaste) Deadline() (time.Time, bool) { return time.Now(), true }

// TestJudgeIsLate: a judge that could not be asked once is asked again.
func TestJudgeIsLate(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	g := setUpOn(t, f.dsn+"&statement_timeout=200", "", txscope.MaxSchemaAge(time.Second))
	locking, err := f.bare.Begin()
	f.must(err)
	f.exec(locking, `LOCK TABLE pg_catalog.pg_locks IN ACCESS EXCLUSIVE MODE`)
	g.exec(g.db, `SELECT 1`)
	f.must(locking.Rollback())
	for deadline := time.Now().Add(20 * time.Second); ; {
		g.exec(g.db, `SELECT add_tag('z' || random())`)
		got := g.published()
		if got == "tags!" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("published %q\n%s", got, g.log)
		}
	}
}

// TestUnknownSchema: what runs no query is run as it is also where the schema is not known.
func TestUnknownSchema(t *testing.T) {
	f := setUp(t, plainSchema+plainData)
	locking, err := f.bare.Begin()
	f.must(err)
	defer func() { f.must(locking.Rollback()) }()
	f.exec(locking, `LOCK TABLE pg_catalog.pg_policy IN ACCESS EXCLUSIVE MODE`)
	conn := f.conn()
	_, err = conn.ExecContext(hurried{f.ctx}, `SELECT add_tag('z')`)
	f.must(err)
	f.published()
	if _, err := conn.ExecContext(hurried{f.ctx}, `LOCK TABLE users`); code(err) != "25P01" {
		t.Errorf("LOCK outside of a transaction: %v", err)
	}
	f.expect("")
}

// TestRefusedInTransaction: a statement that is run again because it has refused to run in a transaction is
// seen like any other.
func TestRefusedInTransaction(t *testing.T) {
	f := setUp(t, `CREATE TABLE k (id int PRIMARY KEY, v int); INSERT INTO k VALUES (1, 0), (2, 0);
		CREATE FUNCTION alone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF now() <> statement_timestamp() THEN RAISE EXCEPTION 'not here' USING ERRCODE = '25001'; END IF; RETURN NEW; END $$;
		CREATE TRIGGER alone BEFORE UPDATE ON k FOR EACH ROW EXECUTE FUNCTION alone()`)
	f.exec(f.db, `UPDATE k SET v = 1 WHERE v = 0`)
	f.expect("k!")
	if got := f.query(f.bare, `SELECT DISTINCT v FROM k`); got[0] != "1" {
		t.Error(got)
	}
}
