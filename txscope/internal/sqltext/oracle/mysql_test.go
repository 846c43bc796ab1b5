package oracle

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sqlc-dev/marino/ast"
	"github.com/sqlc-dev/marino/format"
	"github.com/sqlc-dev/marino/mysql"
	"github.com/sqlc-dev/marino/parser"

	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

func TestMySQL(t *testing.T) {
	n, seed := inputs(t, 60_000)
	list := seeds(t, "mysql.sql", "mysql")
	m := newMutator(list, map[pieceKind][]string{
		word: {"offset", "end", "begin", "do", "e", "n", "b", "x", "N", "Ü", "é", "analyze", "on", "as", "not", "null", "in", "and", "or", "xor", "between", "is", "from", "case", "using", "set",
			"quick", "ignore", "partition", "a$b", "1a", "$a", "value", "row", "dual", "div", "user", "current_user", "return", "any", "some", "offset"},
		name:   {"`A``b`", "`select`", "`a.b`", "`set`", "`--`", "`'`", `"a"`, `"a""b"`, `"--"`, "`a b`"},
		str:    {`''`, `';'`, `'\''`, `'\\'`, `"\""`, `'\'`, `"'"`, `'"'`, `'--'`, `'/*'`, `'#'`, `b'1'`, `x'ff'`, "'a' 'b'", "_utf8'x'", `""`, `"a""b"`, `'a''b'`, `"\\"`},
		number: {"0", "-1", "1.5", ".5", "1e5", "0x1f", "9223372036854775808", "007", "5.", "0b1", "1e"},
		space: {" ", "\n", "\t", "/**/", "/* ; */", "/* ' */", "/* \" */", "-- x\n", "-- '\n", "--\n", "# x\n", "#'\n", "/*-- */", "\r", "--\t\n", "/*! */", "/*!50000 */", "/*!99999 x */", "/*+ a */",
			"/*!", "*/", "/*!40101 "},
		sign: {" OR ", " AND ", " IS NULL", "=", "<", ">", "-", "+", "*", "/", "!", "@", "#", "||", "&&", "->>", ".x", ";", ",", "(", ")", "()", ":=", "%", "^", "|", "&", "~", "`", "?", "--", "\\"},
	}, "`", []string{"EXPLAIN", "EXPLAIN ANALYZE", "WITH w AS (SELECT 1)", "WITH RECURSIVE w (a) AS (SELECT 1 UNION SELECT 2), v AS (SELECT 3)", "CREATE TABLE ct AS", "(", "BEGIN;", "SELECT 1;",
		"INSERT INTO i1", "REPLACE i2", "PREPARE p FROM", "/*!", "CREATE OR REPLACE VIEW v1 AS", "CREATE TRIGGER t BEFORE INSERT ON users FOR EACH ROW"})
	m.random = source(seed)
	var count tally
	run(t, m, list, n, func(text string) (accepted bool, fault string) {
		// A text is judged in each mode in which it is one.
		for i, mode := range []mysql.SQLMode{0, mysql.ModeANSIQuotes, mysql.ModeNoBackslashEscapes, mysql.ModeANSIQuotes | mysql.ModeNoBackslashEscapes} {
			if i > 0 && !strings.ContainsAny(text, `"\`) {
				break
			}
			ok, fault := judgeMySQL(text, mode, &count)
			accepted = accepted || ok
			if fault != "" {
				return true, fmt.Sprintf("mode %d: %s", mode, fault)
			}
		}
		return accepted, ""
	})
	t.Logf("%d statements change one table: %d are claimed, %d of them to the end; %d of %d keys are found", count.dml, count.claimed, count.ends, count.found, count.keys)
	count.much(t)
}

func parseMySQL(text string, mode mysql.SQLMode) (list []ast.StmtNode, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the other parser: %v", r)
		}
	}()
	p := parser.New()
	p.SetSQLMode(mode)
	list, _, err = p.Parse(text, "", "")
	return list, err
}

func judgeMySQL(text string, mode mysql.SQLMode, count *tally) (accepted bool, fault string) {
	ours := sqltext.Parse(sqltext.MySQL, text).Statements
	list, err := parseMySQL(text, mode)
	if err != nil || slices.ContainsFunc(list, foreign) {
		return false, ""
	}
	if len(ours) != len(list) {
		for i := range ours {
			if ours[i].Anywhere {
				return true, ""
			}
		}
		return true, fmt.Sprintf("%d statements, where the other parser reads %d", len(ours), len(list))
	}
	for i, theirs := range list {
		if fault := judgeMySQLStatement(text, mode, i, &ours[i], list, theirs, count); fault != "" {
			return true, fmt.Sprintf("statement %d: %s", i, fault)
		}
	}
	return true, ""
}

// foreign reports whether a statement is none of MySQL's or MariaDB's: the parser takes those of TiDB too.
func foreign(n ast.StmtNode) bool {
	switch n := n.(type) {
	case *ast.TraceStmt, *ast.PlanReplayerStmt, *ast.AdminStmt, *ast.BRIEStmt, *ast.NonTransactionalDMLStmt, *ast.ImportIntoStmt, *ast.RecoverTableStmt, *ast.FlashBackTableStmt,
		*ast.FlashBackDatabaseStmt, *ast.FlashBackToTimestampStmt, *ast.SplitRegionStmt, *ast.DistributeTableStmt, *ast.CompactTableStmt, *ast.CreateBindingStmt, *ast.DropBindingStmt,
		*ast.SetBindingStmt, *ast.LoadStatsStmt, *ast.LockStatsStmt, *ast.UnlockStatsStmt, *ast.DropStatsStmt, *ast.RefreshStatsStmt, *ast.TrafficStmt, *ast.CleanupTableLockStmt,
		*ast.RepairTableStmt, *ast.CreateStatisticsStmt, *ast.DropStatisticsStmt, *ast.CreatePlacementPolicyStmt, *ast.CreateMaskingPolicyStmt, *ast.CreateSequenceStmt, *ast.DropSequenceStmt,
		*ast.AlterSequenceStmt:
		return true
	case *ast.CreateTableStmt:
		return n.TemporaryKeyword == ast.TemporaryGlobal
	case *ast.DeleteStmt:
		// It takes QUICK for a table where it stands after IGNORE.
		return n.IsMultiTable && slices.ContainsFunc(n.Tables.Tables, func(t *ast.TableName) bool { return t.Name.L == "quick" })
	}
	return false
}

// reserved reports whether a name is a word that MySQL takes for no name, unlike the other parser.
func reserved(n *ast.TableName) bool {
	for _, name := range []string{n.Schema.L, n.Name.L} {
		if slices.Contains([]string{"join", "straight_join", "natural", "left", "right", "inner", "cross", "limit", "order", "where", "set", "on", "using", "from", "into", "for", "*"}, name) {
			return true
		}
	}
	return false
}

// mysqlFacts are what the other parser says of a statement.
type mysqlFacts struct{ facts }

func tableName(n *ast.TableName) sqltext.Name {
	return sqltext.Name{Qualifier: n.Schema.O, Name: n.Name.O}
}

func (f *mysqlFacts) write(n *ast.TableName) {
	if n != nil && !reserved(n) && !strings.Contains(n.Name.O, `\`) { // the other parser takes it for an escape
		f.writes = append(f.writes, tableName(n))
	}
}

// source is a table in a list of tables, and its alias.
type tableSource struct {
	name  *ast.TableName
	alias string
}

// tableSources lists the tables that are joined.
func tableSources(n ast.ResultSetNode) []tableSource {
	switch n := n.(type) {
	case *ast.Join:
		if n == nil {
			return nil
		}
		return append(tableSources(n.Left), tableSources(n.Right)...)
	case *ast.TableSource:
		if name, ok := n.Source.(*ast.TableName); ok {
			return []tableSource{{name, n.AsName.O}}
		}
		return tableSources(n.Source)
	}
	return nil
}

func (s *tableSource) named(schema, table ast.CIStr) bool {
	if s.alias != "" {
		return strings.EqualFold(s.alias, table.O)
	}
	return s.name.Name.L == table.L && (schema.L == "" || s.name.Schema.L == "" || schema.L == s.name.Schema.L)
}

// Enter takes in one node, and skips what the statement does not run.
func (f *mysqlFacts) Enter(n ast.Node) (ast.Node, bool) {
	switch n := n.(type) {
	case *ast.ExplainStmt:
		return n, !n.Analyze
	case *ast.InsertStmt:
		f.changes++
		for _, s := range tableSources(n.Table.TableRefs) {
			f.write(s.name)
		}
	case *ast.UpdateStmt:
		f.changes++
		sources := tableSources(n.TableRefs.TableRefs)
		for _, a := range n.List {
			for _, s := range sources {
				if a.Column.Table.O == "" || s.named(a.Column.Schema, a.Column.Table) {
					f.write(s.name)
				}
			}
		}
	case *ast.DeleteStmt:
		f.changes++
		sources := tableSources(n.TableRefs.TableRefs)
		if !n.IsMultiTable {
			for _, s := range sources {
				f.write(s.name)
			}
			break
		}
		for _, t := range n.Tables.Tables {
			for _, s := range sources {
				if s.named(t.Schema, t.Name) {
					f.write(s.name)
				}
			}
		}
	case *ast.LoadDataStmt:
		f.write(n.Table)
	case *ast.LoadXMLStmt:
		f.write(n.Table)
	case *ast.TruncateTableStmt:
		f.write(n.Table)
	case *ast.CreateTableStmt:
		f.write(n.Table)
		if n.Select != nil {
			n.Select.Accept(f)
		}
		return n, true
	case *ast.CreateViewStmt:
		f.write(n.ViewName)
		return n, true
	case *ast.DropTableStmt:
		for _, t := range n.Tables {
			f.write(t)
		}
	case *ast.RenameTableStmt:
		for _, t := range n.TableToTables {
			f.write(t.OldTable)
			f.write(t.NewTable)
		}
	case *ast.AlterTableStmt:
		f.write(n.Table)
		for _, s := range n.Specs {
			f.write(s.NewTable)
		}
		return n, true
	case *ast.CallStmt, *ast.ExecuteStmt, *ast.DropDatabaseStmt:
		f.anywhere = true
	case *ast.CreateTriggerStmt, *ast.CreateEventStmt, *ast.CreateFunctionStmt, *ast.ProcedureInfo, *ast.GrantStmt, *ast.RevokeStmt, *ast.ShowStmt,
		*ast.AnalyzeTableStmt, *ast.LockTablesStmt, *ast.CreateIndexStmt, *ast.DropIndexStmt, *ast.FlushStmt, *ast.HandlerReadStmt, *ast.AlterEventStmt:
		return n, true
	case *ast.TableName:
		if !reserved(n) && !strings.Contains(n.Name.O, `\`) {
			f.reads = append(f.reads, tableName(n))
		}
	case *ast.DeleteTableList:
		return n, true // names of what stands in the list of tables
	case *ast.FuncCallExpr:
		if n.Schema.O != "" || len(n.FnName.O) == 1 && n.FnName.O != `\` || n.FnName.L == "write_something" { // the seeds' own, which are not built in
			f.calls = append(f.calls, sqltext.Name{Qualifier: n.Schema.O, Name: n.FnName.O})
		}
	}
	return n, false
}

func (f *mysqlFacts) Leave(n ast.Node) (ast.Node, bool) { return n, true }

func judgeMySQLStatement(text string, mode mysql.SQLMode, i int, ours *sqltext.Statement, list []ast.StmtNode, theirs ast.StmtNode, count *tally) string {
	var f mysqlFacts
	theirs.Accept(&f)
	if fault := judgeMySQLControl(ours, theirs); fault != "" {
		return fault
	}
	if !ours.Anywhere {
		if f.anywhere {
			return "it may write anywhere"
		}
		for _, w := range f.writes {
			if !slices.Contains(ours.Writes, w) {
				return fmt.Sprintf("it writes %s, not only %v", w, ours.Writes)
			}
		}
		for _, r := range f.reads {
			if !slices.Contains(ours.Writes, r) && !slices.Contains(ours.Reads, r) {
				return fmt.Sprintf("it reads %s, not only %v", r, ours.Reads)
			}
		}
		for _, c := range f.calls {
			if !slices.ContainsFunc(ours.Calls, func(n sqltext.Name) bool { return strings.EqualFold(n.Name, c.Name) }) {
				return fmt.Sprintf("it calls %s, not only %v", c, ours.Calls)
			}
		}
	}
	c := mysqlChangeOf(theirs)
	if c != nil {
		count.dml++
	}
	if ours.DML == nil {
		return ""
	}
	if c == nil {
		return "it is no simple one"
	}
	count.claimed++
	return judgeMySQLDML(text, mode, i, len(list), ours, c, count)
}

// judgeMySQLControl compares what is said of transactions.
func judgeMySQLControl(ours *sqltext.Statement, theirs ast.StmtNode) string {
	want, savepoint := sqltext.NoControl, ""
	switch n := theirs.(type) {
	case *ast.BeginStmt:
		want = sqltext.Begin
	case *ast.CommitStmt:
		want = sqltext.Commit
		if n.CompletionType == ast.CompletionTypeChain {
			want = sqltext.OtherControl
		}
	case *ast.RollbackStmt:
		want, savepoint = sqltext.Rollback, n.SavepointName
		if savepoint != "" {
			want = sqltext.RollbackTo
		} else if n.CompletionType == ast.CompletionTypeChain {
			want = sqltext.OtherControl
		}
	case *ast.SavepointStmt:
		want, savepoint = sqltext.Savepoint, n.Name
	case *ast.ReleaseSavepointStmt:
		want, savepoint = sqltext.Release, n.Name
	case *ast.XAStmt:
		want = sqltext.OtherControl
	}
	if ours.Control == sqltext.OtherControl || ours.Control == want && ours.Savepoint == savepoint {
		return ""
	}
	return fmt.Sprintf("control %d of %q, not %d of %q", ours.Control, ours.Savepoint, want, savepoint)
}

// text writes a node, so that two can be compared.
func nodeText(n ast.Node) string {
	if n == nil {
		return ""
	}
	var b strings.Builder
	if err := n.Restore(format.NewRestoreCtx(format.DefaultRestoreFlags, &b)); err != nil {
		return err.Error()
	}
	return b.String()
}
