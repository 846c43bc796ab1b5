//go:build cgo

package oracle

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// walk shows visit every message of a tree, and what is in it where visit says so.
func walk(m protoreflect.Message, visit func(m any) bool) {
	if !m.IsValid() || !visit(m.Interface()) {
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				walk(v.List().Get(i).Message(), visit)
			}
		default:
			walk(v.Message(), visit)
		}
		return true
	})
}

func rangeName(r *pg.RangeVar) sqltext.Name {
	return sqltext.Name{Qualifier: r.Schemaname, Name: r.Relname}
}

// nodesName is the name that a list of strings is.
func nodesName(list []*pg.Node) sqltext.Name {
	var n sqltext.Name
	for _, item := range list {
		n = sqltext.Name{Qualifier: n.Name, Name: item.GetString_().GetSval()}
	}
	return n
}

// syntax are functions that stand for what is not written as a call: LIKE … ESCAPE, SIMILAR TO.
var syntax = []sqltext.Name{{Qualifier: "pg_catalog", Name: "like_escape"}, {Qualifier: "pg_catalog", Name: "similar_to_escape"}}

func factsOf(s *pg.RawStmt) *facts {
	f := new(facts)
	walk(s.Stmt.ProtoReflect(), f.visit)
	f.write(into(s.Stmt))
	return f
}

// into returns the table that SELECT INTO makes. Only the first SELECT of a statement can have it.
func into(n *pg.Node) *pg.RangeVar {
	if e := n.GetExplainStmt(); e != nil && analyzes(e) {
		n = e.Query
	}
	s := n.GetSelectStmt()
	for s.GetLarg() != nil {
		s = s.Larg
	}
	return s.GetIntoClause().GetRel()
}

func (f *facts) write(r *pg.RangeVar) {
	if r != nil {
		f.writes = append(f.writes, rangeName(r))
	}
}

// ofRows reports whether objects of a kind hold rows, or show them.
func ofRows(k pg.ObjectType) bool {
	switch k {
	case pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_VIEW, pg.ObjectType_OBJECT_MATVIEW, pg.ObjectType_OBJECT_FOREIGN_TABLE:
		return true
	}
	return false
}

// visit takes in one message. It is false for what the statement does not run.
func (f *facts) visit(m any) bool {
	switch m := m.(type) {
	case *pg.InsertStmt:
		f.write(m.Relation)
		f.changes++
	case *pg.UpdateStmt:
		f.write(m.Relation)
		f.changes++
	case *pg.DeleteStmt:
		f.write(m.Relation)
		f.changes++
	case *pg.MergeStmt:
		f.write(m.Relation)
		f.changes++
	case *pg.CreateTableAsStmt:
		f.write(m.Into.GetRel())
	case *pg.CopyStmt:
		if m.IsFrom {
			f.write(m.Relation)
		}
		return m.Relation == nil
	case *pg.TruncateStmt:
		for _, r := range m.Relations {
			f.write(r.GetRangeVar())
		}
		f.anywhere = f.anywhere || m.Behavior == pg.DropBehavior_DROP_CASCADE
	case *pg.RefreshMatViewStmt:
		f.write(m.Relation)
	case *pg.CallStmt, *pg.DoStmt, *pg.ExecuteStmt, *pg.DropOwnedStmt:
		f.anywhere = true
	case *pg.ExplainStmt:
		return analyzes(m)
	case *pg.CreateFunctionStmt, *pg.RuleStmt, *pg.CreateTrigStmt, *pg.CreatePolicyStmt, *pg.VacuumStmt, *pg.ClusterStmt,
		*pg.ReindexStmt, *pg.GrantStmt, *pg.CommentStmt, *pg.LockStmt, *pg.LockingClause, *pg.IntoClause:
		return false
	case *pg.ViewStmt:
		f.write(m.View)
		return false
	case *pg.CreateStmt:
		f.write(m.Relation)
		return false
	case *pg.AlterTableStmt:
		if ofRows(m.Objtype) {
			f.write(m.Relation)
		}
	case *pg.PartitionCmd:
		f.write(m.Name)
	case *pg.RenameStmt:
		if ofRows(m.RenameType) {
			f.write(m.Relation)
			f.writes = append(f.writes, sqltext.Name{Name: m.Newname})
		}
	case *pg.DropStmt:
		if ofRows(m.RemoveType) {
			for _, o := range m.Objects {
				f.writes = append(f.writes, nodesName(o.GetList().GetItems()))
			}
		}
		f.anywhere = f.anywhere || m.RemoveType == pg.ObjectType_OBJECT_SCHEMA
	case *pg.RangeVar:
		f.reads = append(f.reads, rangeName(m))
	case *pg.FuncCall:
		if m.Funcformat == pg.CoercionForm_COERCE_EXPLICIT_CALL && !slices.Contains(syntax, nodesName(m.Funcname)) {
			f.calls = append(f.calls, nodesName(m.Funcname))
		}
	}
	return true
}

// analyzes reports whether EXPLAIN certainly runs its statement.
func analyzes(m *pg.ExplainStmt) bool {
	runs := false
	for _, o := range m.Options {
		if d := o.GetDefElem(); d.GetDefname() == "analyze" {
			switch arg := d.GetArg(); {
			case arg == nil:
				runs = true
			default:
				runs = strings.EqualFold(arg.GetString_().GetSval(), "true") || strings.EqualFold(arg.GetString_().GetSval(), "on") || arg.GetInteger().GetIval() == 1
			}
		}
	}
	return runs
}

func TestPostgres(t *testing.T) {
	n, seed := inputs(t, 100_000)
	list := seeds(t, "postgres.sql", "postgres")
	m := newMutator(list, map[pieceKind][]string{
		word: {"only", "of", "by", "over", "begin", "binary", "temp", "e", "n", "b", "x", "u", "A", "Ü", "é", "analyze", "matched", "returning", "on", "conflict", "as", "not", "null",
			"in", "and", "or", "between", "is", "distinct", "from", "end", "case", "uescape", "collate", "lateral", "using", "some", "a$b"},
		name:   {`"A""b"`, `"select"`, `"a.b"`, `""`, `"set"`, `U&"d!0061" UESCAPE '!'`, `"--"`, `"$$"`, `"'"`},
		str:    {`''`, `';'`, `E'\''`, `e'\\'`, `'\'`, `$a$ $$ ' $a$`, `$$'$$`, `U&'\0061'`, `'--'`, `'/*'`, `B'1'`, `x'f'`, "'a'\n'b'", `N'n'`, "E'a'\n'\\''", "'a'--'\n'b'", "'a' \r 'b\\'"},
		number: {"0", "-1", "1.5", ".5", "1e5", "0x1f", "9223372036854775808", "1_000", "007", "5."},
		space:  {" ", "\n", "\t", "/**/", "/* ; */", "/* ' */", "/* /* */ */", "-- x\n", "-- '\n", "--\n", "/*\"*/", "\r", "\f", "-- x\r", "--/*\n", "/*--*/"},
		sign: {"::int", "::bigint", " OR ", " AND ", "::text", " IS NULL", "=", "<", ">", "-", "+", "*", "/", "!", "@", "#", "||", "&&", "->>", "[1]", ".x", ";", ",", "(", ")", "()", ":", "::",
			":=", "%", "^", "|", "&", "~", "`", "?", "$", "$1a", "\\"},
	}, `"`, []string{"EXPLAIN", "EXPLAIN ANALYZE", "EXPLAIN (ANALYZE)", "EXPLAIN (VERBOSE, ANALYZE true)", "PREPARE p AS", "WITH w AS (SELECT 1)", "WITH w AS (DELETE FROM w1 RETURNING *)",
		"WITH w (a) AS MATERIALIZED (SELECT 1), v AS (INSERT INTO v1 VALUES (1))", "CREATE TABLE ct AS", "DECLARE c CURSOR FOR", "COPY (", "(", "BEGIN;", "SELECT 1;", "INSERT INTO i1"})
	m.random = source(seed)
	var count tally
	run(t, m, list, n, func(text string) (bool, string) { return judgePostgres(text, &count) })
	t.Logf("%d statements change one table: %d are claimed, %d of them can have a RETURNING; %d of %d keys are found", count.dml, count.claimed, count.ends, count.found, count.keys)
	count.much(t)
}

// judgePostgres judges by PostgreSQL's parser.
func judgePostgres(text string, count *tally) (accepted bool, fault string) {
	tree, err := pg.Parse(text)
	if err != nil {
		sqltext.Parse(sqltext.Postgres, text) // it must not panic
		return false, ""
	}
	ours := sqltext.Parse(sqltext.Postgres, text).Statements
	if len(ours) != len(tree.Stmts) {
		for i := range ours {
			if ours[i].Anywhere {
				return true, ""
			}
		}
		return true, fmt.Sprintf("%d statements, where PostgreSQL reads %d", len(ours), len(tree.Stmts))
	}
	for i, theirs := range tree.Stmts {
		if fault := judgeStatement(text, i, &ours[i], theirs, count); fault != "" {
			return true, fault
		}
	}
	return true, ""
}

func judgeStatement(text string, i int, ours *sqltext.Statement, theirs *pg.RawStmt, count *tally) string {
	from, to := int(theirs.StmtLocation), len(text)
	if theirs.StmtLen > 0 {
		to = from + int(theirs.StmtLen)
	}
	if !ours.Anywhere && (ours.Span.From < from || ours.Span.To > to) {
		return fmt.Sprintf("statement %d is at %v, not within %d and %d", i, ours.Span, from, to)
	}
	f := factsOf(theirs)
	if fault := judgeControl(ours, theirs.Stmt.GetTransactionStmt()); fault != "" {
		return fault
	}
	if !ours.Anywhere {
		if f.anywhere {
			return fmt.Sprintf("statement %d may write anywhere", i)
		}
		for _, w := range f.writes {
			if !slices.Contains(ours.Writes, w) {
				return fmt.Sprintf("statement %d writes %s, not only %v", i, w, ours.Writes)
			}
		}
		for _, r := range f.reads {
			if !slices.Contains(ours.Writes, r) && !slices.Contains(ours.Reads, r) {
				return fmt.Sprintf("statement %d reads %s, not only %v", i, r, ours.Reads)
			}
		}
		for _, c := range f.calls {
			if !slices.ContainsFunc(ours.Calls, func(n sqltext.Name) bool { return n.Name == c.Name }) {
				return fmt.Sprintf("statement %d calls %s, not only %v", i, c, ours.Calls)
			}
		}
	}
	single := f.changes == 1 && (theirs.Stmt.GetInsertStmt() != nil || theirs.Stmt.GetUpdateStmt() != nil || theirs.Stmt.GetDeleteStmt() != nil)
	if single {
		count.dml++
	}
	if ours.DML == nil {
		return ""
	}
	if !single {
		return fmt.Sprintf("statement %d is no simple one", i)
	}
	count.claimed++
	if fault := judgeDML(text, i, ours, theirs.Stmt, count); fault != "" {
		return fmt.Sprintf("statement %d: %s", i, fault)
	}
	return ""
}

var kinds = map[pg.TransactionStmtKind]sqltext.ControlKind{
	pg.TransactionStmtKind_TRANS_STMT_BEGIN:       sqltext.Begin,
	pg.TransactionStmtKind_TRANS_STMT_START:       sqltext.Begin,
	pg.TransactionStmtKind_TRANS_STMT_COMMIT:      sqltext.Commit,
	pg.TransactionStmtKind_TRANS_STMT_ROLLBACK:    sqltext.Rollback,
	pg.TransactionStmtKind_TRANS_STMT_SAVEPOINT:   sqltext.Savepoint,
	pg.TransactionStmtKind_TRANS_STMT_RELEASE:     sqltext.Release,
	pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_TO: sqltext.RollbackTo,
}

// judgeControl compares what is said of transactions.
func judgeControl(ours *sqltext.Statement, theirs *pg.TransactionStmt) string {
	want := sqltext.NoControl
	if theirs != nil {
		want = sqltext.OtherControl
		if k, ok := kinds[theirs.Kind]; ok && !theirs.Chain {
			want = k
		}
	}
	if ours.Control == sqltext.OtherControl || ours.Control == want && ours.Savepoint == theirs.GetSavepointName() {
		return ""
	}
	return fmt.Sprintf("control %d of %q, not %d", ours.Control, ours.Savepoint, want)
}

// same reports whether two trees are the same but for where they stand.
func same(a, b proto.Message) bool {
	unplace := func(m proto.Message) proto.Message {
		m = proto.Clone(m)
		walk(m.ProtoReflect(), func(m any) bool {
			r := m.(proto.Message).ProtoReflect()
			if f := r.Descriptor().Fields().ByName("location"); f != nil {
				r.Clear(f)
			}
			return true
		})
		return m
	}
	return proto.Equal(unplace(a), unplace(b))
}
