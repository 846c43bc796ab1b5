//go:build cgo

package oracle

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"

	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// change is what INSERT, UPDATE and DELETE have in common.
type change struct {
	insert                  bool
	relation                *pg.RangeVar
	with                    *pg.WithClause
	returning, joined       []*pg.Node
	where                   *pg.Node
	assigned, columns, rows []*pg.Node
	conflict                pg.OnConflictAction
}

func changeOf(n *pg.Node) *change {
	if m := n.GetInsertStmt(); m != nil {
		c := &change{insert: true, relation: m.Relation, with: m.WithClause, returning: m.ReturningList, columns: m.Cols, rows: m.SelectStmt.GetSelectStmt().GetValuesLists()}
		if o := m.OnConflictClause; o != nil {
			c.conflict, c.assigned = o.Action, o.TargetList
		}
		return c
	}
	if m := n.GetUpdateStmt(); m != nil {
		return &change{relation: m.Relation, with: m.WithClause, returning: m.ReturningList, joined: m.FromClause, where: m.WhereClause, assigned: m.TargetList}
	}
	if m := n.GetDeleteStmt(); m != nil {
		return &change{relation: m.Relation, with: m.WithClause, returning: m.ReturningList, joined: m.UsingClause, where: m.WhereClause}
	}
	return nil
}

// judgeDML compares a claim with what PostgreSQL reads.
func judgeDML(text string, i int, ours *sqltext.Statement, theirs *pg.Node, count *tally) string {
	d, c := ours.DML, changeOf(theirs)
	verb := sqltext.Insert
	switch {
	case theirs.GetUpdateStmt() != nil:
		verb = sqltext.Update
	case theirs.GetDeleteStmt() != nil:
		verb = sqltext.Delete
	}
	switch {
	case ours.Verb != verb:
		return fmt.Sprintf("verb %d, not %d", ours.Verb, verb)
	case d.Table != rangeName(c.relation):
		return fmt.Sprintf("table %s, not %s", d.Table, rangeName(c.relation))
	case d.Alias != c.relation.GetAlias().GetAliasname():
		return fmt.Sprintf("alias %q, not %q", d.Alias, c.relation.GetAlias().GetAliasname())
	case d.With != (c.with != nil):
		return fmt.Sprintf("with is %v", d.With)
	case d.Joined != (len(c.joined) > 0):
		return fmt.Sprintf("joined is %v", d.Joined)
	case d.Returning != (len(c.returning) > 0):
		return fmt.Sprintf("returning is %v", d.Returning)
	case d.Cursor != (c.where.GetCurrentOfExpr() != nil):
		return fmt.Sprintf("cursor is %v", d.Cursor)
	case d.Ignore != (c.conflict == pg.OnConflictAction_ONCONFLICT_NOTHING), d.Upsert != (c.conflict == pg.OnConflictAction_ONCONFLICT_UPDATE):
		return fmt.Sprintf("ignore is %v, upsert %v", d.Ignore, d.Upsert)
	case d.Where.Empty() != (c.where == nil):
		return fmt.Sprintf("where is %v", d.Where)
	}
	for _, judge := range []func() string{
		func() string { return judgeColumns(d, c) },
		func() string { return judgeRows(d, c) },
		func() string { return judgeKeys(d, c, count) },
		func() string { return judgeParts(text, d, c) },
		func() string { return judgeEnd(text, i, d, count) },
	} {
		if fault := judge(); fault != "" {
			return fault
		}
	}
	return ""
}

// judgeColumns compares the columns that are named and that are assigned.
func judgeColumns(d *sqltext.DML, c *change) string {
	if len(d.Columns) != len(c.columns) {
		return fmt.Sprintf("columns %q, not %d", d.Columns, len(c.columns))
	}
	for i, n := range c.columns {
		want := n.GetResTarget().GetName()
		if len(n.GetResTarget().GetIndirection()) > 0 {
			want = ""
		}
		if d.Columns[i] != want {
			return fmt.Sprintf("columns %q, of which %d is %q", d.Columns, i, want)
		}
	}
	if len(d.Assigned) != len(c.assigned) {
		return fmt.Sprintf("assigned are %v, not %d", d.Assigned, len(c.assigned))
	}
	for i, n := range c.assigned {
		r := n.GetResTarget()
		if d.Assigned[i].Column != r.GetName() {
			return fmt.Sprintf("assigned are %v, of which %d is %q", d.Assigned, i, r.GetName())
		}
		if len(r.GetIndirection()) == 0 && !is(d.Assigned[i].Value, r.GetVal()) {
			return fmt.Sprintf("assigned are %v, of which %d is %v", d.Assigned, i, r.GetVal())
		}
	}
	return ""
}

// judgeRows compares VALUES.
func judgeRows(d *sqltext.DML, c *change) string {
	if d.Values == nil {
		return ""
	}
	if len(d.Values) != len(c.rows) {
		return fmt.Sprintf("%d rows, not %d", len(d.Values), len(c.rows))
	}
	for i, row := range c.rows {
		items := row.GetList().GetItems()
		if len(d.Values[i]) != len(items) {
			return fmt.Sprintf("row %d has %d values, not %d", i, len(d.Values[i]), len(items))
		}
		for j, n := range items {
			if !is(d.Values[i][j], n) {
				return fmt.Sprintf("value %d of row %d is %v, not %v", j, i, d.Values[i][j], n)
			}
		}
	}
	return ""
}

// is reports whether an operand is what PostgreSQL reads. An expression is anything.
func is(o sqltext.Operand, n *pg.Node) bool {
	constant := n.GetAConst()
	switch o.Kind {
	case sqltext.Argument:
		if cast := n.GetTypeCast(); cast != nil {
			names := cast.TypeName.Names
			if last := names[len(names)-1].GetString_().GetSval(); !slices.Contains([]string{"int2", "int4", "int8", "uuid"}, last) || len(cast.TypeName.ArrayBounds) > 0 {
				return false
			}
			n = cast.Arg
		}
		return n.GetParamRef() != nil && int(n.GetParamRef().Number) == o.Ordinal
	case sqltext.Integer:
		if f := constant.GetFval(); f != nil {
			return f.Fval == strconv.FormatInt(o.Int, 10)
		}
		return constant != nil && !constant.Isnull && constant.GetSval() == nil && int64(constant.GetIval().GetIval()) == o.Int
	case sqltext.String:
		return constant.GetSval() != nil && constant.GetSval().Sval == o.Text
	case sqltext.Null:
		return constant.GetIsnull()
	case sqltext.Default:
		return n.GetSetToDefault() != nil
	}
	return true
}

// conditions returns those that AND joins.
func conditions(n *pg.Node) []*pg.Node {
	if b := n.GetBoolExpr(); b != nil && b.Boolop == pg.BoolExprType_AND_EXPR {
		var all []*pg.Node
		for _, a := range b.Args {
			all = append(all, conditions(a)...)
		}
		return all
	}
	return []*pg.Node{n}
}

// keyOf returns the column of a condition that chooses rows by it, and the values.
func keyOf(d *sqltext.DML, n *pg.Node) (column string, values []*pg.Node) {
	e := n.GetAExpr()
	if e == nil || len(e.Name) != 1 || e.Name[0].GetString_().GetSval() != "=" {
		return "", nil
	}
	switch e.Kind {
	case pg.A_Expr_Kind_AEXPR_OP:
		if column = columnOf(d, e.Lexpr); column != "" {
			return column, []*pg.Node{e.Rexpr}
		}
		return columnOf(d, e.Rexpr), []*pg.Node{e.Lexpr}
	case pg.A_Expr_Kind_AEXPR_IN:
		return columnOf(d, e.Lexpr), e.Rexpr.GetList().GetItems()
	}
	return "", nil
}

// columnOf returns the column of the table that a node is; "" if it is none.
func columnOf(d *sqltext.DML, n *pg.Node) string {
	var parts []string
	for _, f := range n.GetColumnRef().GetFields() {
		parts = append(parts, f.GetString_().GetSval())
	}
	owner := []string{d.Table.Name}
	if d.Alias != "" {
		owner[0] = d.Alias
	}
	switch {
	case len(parts) == 1,
		len(parts) == 2 && slices.Equal(parts[:1], owner),
		len(parts) == 3 && d.Alias == "" && slices.Equal(parts[:2], []string{d.Table.Qualifier, d.Table.Name}):
		return parts[len(parts)-1]
	}
	return ""
}

// judgeKeys compares the conditions that choose rows.
func judgeKeys(d *sqltext.DML, c *change, count *tally) string {
	type condition struct {
		column string
		values []*pg.Node
	}
	var all []condition
	for _, n := range conditions(c.where) {
		if column, values := keyOf(d, n); column != "" && len(values) > 0 {
			all = append(all, condition{column, values})
		}
	}
	for _, k := range all {
		if !slices.ContainsFunc(k.values, func(n *pg.Node) bool { return n.GetParamRef() == nil && n.GetAConst() == nil }) {
			count.keys++
		}
	}
	count.found += len(d.Keys)
	for _, k := range d.Keys {
		if !slices.ContainsFunc(all, func(c condition) bool {
			return c.column == k.Column && slices.EqualFunc(k.Values, c.values, is)
		}) {
			return fmt.Sprintf("key %v is no condition of it", k)
		}
	}
	return ""
}

// judgeParts puts the table and what chooses its rows into a SELECT, which must choose alike.
func judgeParts(text string, d *sqltext.DML, c *change) string {
	if d.Joined || d.Cursor || c.insert {
		return ""
	}
	table := d.Target.Of(text)
	if strings.Contains(table, "--") {
		table += "\n"
	}
	selects := "SELECT 1 FROM " + table + " " + d.Where.Of(text)
	tree, err := pg.Parse(selects)
	if err != nil {
		return fmt.Sprintf("%q: %v", selects, err)
	}
	if len(tree.Stmts) != 1 {
		return fmt.Sprintf("%q is %d statements", selects, len(tree.Stmts))
	}
	s := tree.Stmts[0].Stmt.GetSelectStmt()
	if s == nil || len(s.FromClause) != 1 || !same(s.FromClause[0].GetRangeVar(), c.relation) {
		return fmt.Sprintf("%q chooses from another table", selects)
	}
	if (s.WhereClause == nil) != (c.where == nil) || c.where != nil && !same(s.WhereClause, c.where) {
		return fmt.Sprintf("%q chooses otherwise", selects)
	}
	return ""
}

// judgeEnd puts a RETURNING in.
func judgeEnd(text string, i int, d *sqltext.DML, count *tally) string {
	if d.End < 0 {
		return ""
	}
	count.ends++
	returning := text[:d.End] + "\nRETURNING id" + text[d.End:]
	tree, err := pg.Parse(returning)
	if err != nil {
		return fmt.Sprintf("%q: %v", returning, err)
	}
	if i >= len(tree.Stmts) {
		return fmt.Sprintf("%q is %d statements", returning, len(tree.Stmts))
	}
	c := changeOf(tree.Stmts[i].Stmt)
	if c == nil || len(c.returning) != 1 || columnOf(&sqltext.DML{}, c.returning[0].GetResTarget().GetVal()) != "id" {
		return fmt.Sprintf("%q returns no id", returning)
	}
	return ""
}
