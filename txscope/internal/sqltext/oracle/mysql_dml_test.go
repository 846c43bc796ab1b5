package oracle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sqlc-dev/marino/ast"
	"github.com/sqlc-dev/marino/mysql"
	"github.com/sqlc-dev/marino/opcode"

	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// mysqlChange is what INSERT, REPLACE, UPDATE and DELETE of one table have in common.
type mysqlChange struct {
	verb           sqltext.Verb
	table          tableSource
	with           bool
	columns        []*ast.ColumnName
	rows           [][]ast.ExprNode
	ignore, upsert bool
	query          bool // INSERT … SELECT
	assigned       []*ast.Assignment
	where          ast.ExprNode
	order          *ast.OrderByClause
	limit          *ast.Limit
}

// mysqlChangeOf returns nil for all but those of one table.
func mysqlChangeOf(n ast.StmtNode) *mysqlChange {
	one := func(refs *ast.TableRefsClause) (tableSource, bool) {
		if j := refs.TableRefs; j.Right == nil {
			if s, ok := j.Left.(*ast.TableSource); ok {
				if name, ok := s.Source.(*ast.TableName); ok {
					return tableSource{name, s.AsName.O}, true
				}
			}
		}
		return tableSource{}, false
	}
	var c *mysqlChange
	var ok bool
	switch n := n.(type) {
	case *ast.InsertStmt:
		c = &mysqlChange{verb: sqltext.Insert, columns: n.Columns, rows: n.Lists, ignore: n.IgnoreErr, upsert: len(n.OnDuplicate) > 0, query: n.Select != nil, assigned: n.OnDuplicate}
		if n.IsReplace {
			c.verb = sqltext.Replace
		}
		c.table, ok = one(n.Table)
		if s, ok := n.Select.(*ast.SelectStmt); ok {
			for _, row := range s.Lists { // VALUES ROW (…)
				c.rows = append(c.rows, row.Values)
			}
		}
	case *ast.UpdateStmt:
		c = &mysqlChange{verb: sqltext.Update, with: n.With != nil, assigned: n.List, where: n.Where, order: n.Order, limit: n.Limit}
		c.table, ok = one(n.TableRefs)
	case *ast.DeleteStmt:
		c = &mysqlChange{verb: sqltext.Delete, with: n.With != nil, where: n.Where, order: n.Order, limit: n.Limit}
		c.table, ok = one(n.TableRefs)
		ok = ok && !n.IsMultiTable
	}
	if !ok {
		return nil
	}
	return c
}

// judgeMySQLDML compares a claim with what the other parser reads.
func judgeMySQLDML(text string, mode mysql.SQLMode, i, statements int, ours *sqltext.Statement, c *mysqlChange, count *tally) string {
	d := ours.DML
	switch {
	case ours.Verb != c.verb:
		return fmt.Sprintf("verb %d, not %d", ours.Verb, c.verb)
	case d.Table != tableName(c.table.name):
		return fmt.Sprintf("table %s, not %s", d.Table, tableName(c.table.name))
	case d.Alias != c.table.alias:
		return fmt.Sprintf("alias %q, not %q", d.Alias, c.table.alias)
	case d.With != c.with:
		return fmt.Sprintf("with is %v", d.With)
	case d.Joined, d.Cursor:
		return "it is joined, or has a cursor"
	case (c.verb == sqltext.Insert) && d.Ignore != c.ignore, d.Upsert != c.upsert:
		return fmt.Sprintf("ignore is %v, upsert %v", d.Ignore, d.Upsert)
	case d.Where.Empty() != (c.where == nil && c.order == nil && c.limit == nil):
		return fmt.Sprintf("where is %v", d.Where)
	}
	for _, judge := range []func() string{
		func() string { return judgeMySQLColumns(d, c) },
		func() string { return judgeMySQLKeys(d, c, count) },
		func() string { return judgeMySQLParts(text, mode, d, c) },
		func() string { return judgeMySQLEnd(text, mode, i, statements, d, c, count) },
	} {
		if fault := judge(); fault != "" {
			return fault
		}
	}
	return ""
}

// judgeMySQLColumns compares the columns that are named and assigned, and the rows of VALUES.
func judgeMySQLColumns(d *sqltext.DML, c *mysqlChange) string {
	if len(d.Columns) != len(c.columns) {
		return fmt.Sprintf("columns %q, not %d", d.Columns, len(c.columns))
	}
	for i, n := range c.columns {
		if d.Columns[i] != n.Name.O {
			return fmt.Sprintf("columns %q, of which %d is %q", d.Columns, i, n.Name.O)
		}
	}
	if len(d.Assigned) != len(c.assigned) {
		return fmt.Sprintf("assigned are %v, not %d", d.Assigned, len(c.assigned))
	}
	for i, n := range c.assigned {
		if d.Assigned[i].Column != n.Column.Name.O || !isMySQL(d.Assigned[i].Value, n.Expr) {
			return fmt.Sprintf("assigned are %v, of which %d is %q: %s", d.Assigned, i, n.Column.Name.O, nodeText(n.Expr))
		}
	}
	if d.Values == nil {
		return ""
	}
	if len(d.Values) != len(c.rows) {
		return fmt.Sprintf("%d rows, not %d", len(d.Values), len(c.rows))
	}
	for i, row := range c.rows {
		if len(d.Values[i]) != len(row) {
			return fmt.Sprintf("row %d has %d values, not %d", i, len(d.Values[i]), len(row))
		}
		for j, n := range row {
			if !isMySQL(d.Values[i][j], n) {
				return fmt.Sprintf("value %d of row %d is %v, not %s", j, i, d.Values[i][j], nodeText(n))
			}
		}
	}
	return ""
}

func bare(n ast.ExprNode) ast.ExprNode {
	for {
		p, ok := n.(*ast.ParenthesesExpr)
		if !ok {
			return n
		}
		n = p.Expr
	}
}

// isMySQL reports whether an operand is what the other parser reads. An expression is anything.
func isMySQL(o sqltext.Operand, n ast.ExprNode) bool {
	n = bare(n)
	if o.Kind == sqltext.Argument {
		p, ok := n.(*ast.ParamMarkerExprBase)
		return ok && p.Offset >= o.Span.From && p.Offset < o.Span.To
	}
	negative := false
	if u, ok := n.(*ast.UnaryOperationExpr); ok && u.Op == opcode.Minus {
		n, negative = u.V, true
	}
	v, ok := n.(*ast.ValueExprBase)
	switch o.Kind {
	case sqltext.Integer:
		if !ok || v.Type.GetFlag()&mysql.IsBooleanFlag != 0 {
			return false
		}
		var got int64
		switch v.Kind() {
		case ast.KindInt64:
			got = v.GetInt64()
		case ast.KindUint64:
			got = int64(v.GetUint64())
		default:
			return false
		}
		if negative {
			got = -got
		}
		return got == o.Int
	case sqltext.String:
		return ok && !negative && v.Kind() == ast.KindString && v.GetString() == o.Text
	case sqltext.Null:
		return ok && !negative && v.Kind() == ast.KindNull
	case sqltext.Default:
		d, ok := n.(*ast.DefaultExpr)
		return ok && d.Name == nil
	}
	return true
}

// mysqlConditions returns those that AND joins.
func mysqlConditions(n ast.ExprNode) []ast.ExprNode {
	n = bare(n)
	if b, ok := n.(*ast.BinaryOperationExpr); ok && b.Op == opcode.LogicAnd {
		return append(mysqlConditions(b.L), mysqlConditions(b.R)...)
	}
	return []ast.ExprNode{n}
}

// mysqlKeyOf returns the column of a condition that chooses rows by it, and the values.
func mysqlKeyOf(c *mysqlChange, n ast.ExprNode) (column string, values []ast.ExprNode) {
	own := func(n ast.ExprNode) string {
		if e, ok := bare(n).(*ast.ColumnNameExpr); ok && (e.Name.Table.O == "" || c.table.named(e.Name.Schema, e.Name.Table)) {
			return e.Name.Name.O
		}
		return ""
	}
	switch n := n.(type) {
	case *ast.BinaryOperationExpr:
		if n.Op != opcode.EQ {
			return "", nil
		}
		if column = own(n.L); column != "" {
			return column, []ast.ExprNode{n.R}
		}
		return own(n.R), []ast.ExprNode{n.L}
	case *ast.PatternInExpr:
		if !n.Not && n.Sel == nil {
			return own(n.Expr), n.List
		}
	}
	return "", nil
}

// judgeMySQLKeys compares the conditions that choose rows.
func judgeMySQLKeys(d *sqltext.DML, c *mysqlChange, count *tally) string {
	type condition struct {
		column string
		values []ast.ExprNode
	}
	var all []condition
	if c.where != nil {
		for _, n := range mysqlConditions(c.where) {
			column, values := mysqlKeyOf(c, n)
			if column == "" || len(values) == 0 {
				continue
			}
			all = append(all, condition{column, values})
			if !slices.ContainsFunc(values, func(n ast.ExprNode) bool {
				_, value := n.(*ast.ValueExprBase)
				_, argument := n.(*ast.ParamMarkerExprBase)
				return !value && !argument
			}) {
				count.keys++
			}
		}
	}
	count.found += len(d.Keys)
	for _, k := range d.Keys {
		if !slices.ContainsFunc(all, func(c condition) bool {
			return c.column == k.Column && slices.EqualFunc(k.Values, c.values, isMySQL)
		}) {
			return fmt.Sprintf("key %v is no condition of it", k)
		}
	}
	return ""
}

// judgeMySQLParts puts the table and what chooses its rows into a SELECT, which must choose alike.
func judgeMySQLParts(text string, mode mysql.SQLMode, d *sqltext.DML, c *mysqlChange) string {
	if c.verb == sqltext.Insert || c.verb == sqltext.Replace {
		return ""
	}
	selects := "SELECT 1 FROM " + d.Target.Of(text) + "\n" + d.Where.Of(text)
	list, err := parseMySQL(selects, mode)
	if err != nil {
		return fmt.Sprintf("%q: %v", selects, err)
	}
	if len(list) != 1 {
		return fmt.Sprintf("%q is %d statements", selects, len(list))
	}
	s, ok := list[0].(*ast.SelectStmt)
	if !ok || s.From == nil {
		return fmt.Sprintf("%q is no SELECT", selects)
	}
	from := tableSources(s.From.TableRefs)
	if len(from) != 1 || nodeText(from[0].name) != nodeText(c.table.name) || from[0].alias != c.table.alias {
		return fmt.Sprintf("%q chooses from another table", selects)
	}
	text1, text2 := "", ""
	if s.Where != nil {
		text1 = nodeText(s.Where)
	}
	if c.where != nil {
		text2 = nodeText(c.where)
	}
	if s.OrderBy != nil {
		text1 += nodeText(s.OrderBy)
	}
	if c.order != nil {
		text2 += nodeText(c.order)
	}
	if s.Limit != nil {
		text1 += nodeText(s.Limit)
	}
	if c.limit != nil {
		text2 += nodeText(c.limit)
	}
	if text1 != text2 {
		return fmt.Sprintf("%q chooses otherwise: %s, not %s", selects, text1, text2)
	}
	return ""
}

// judgeMySQLEnd puts something in where a RETURNING can stand, which the other parser does not know.
func judgeMySQLEnd(text string, mode mysql.SQLMode, i, statements int, d *sqltext.DML, c *mysqlChange, count *tally) string {
	if d.End < 0 || c.limit != nil || c.upsert || c.query || c.verb == sqltext.Replace || text[d.End-1] == '@' {
		return ""
	}
	count.ends++
	insert := "\nLIMIT 77"
	if c.verb == sqltext.Insert {
		insert = "\nON DUPLICATE KEY UPDATE zz = 1"
	}
	changed := text[:d.End] + insert + text[d.End:]
	list, err := parseMySQL(changed, mode)
	if err != nil {
		if strings.Contains(text, "/*!") {
			return "" // it may end within a comment that is code
		}
		return fmt.Sprintf("%q: %v", changed, err)
	}
	if len(list) != statements {
		return fmt.Sprintf("%q is %d statements", changed, len(list))
	}
	if after := mysqlChangeOf(list[i]); after == nil || after.limit == nil && !after.upsert {
		return fmt.Sprintf("%q is not changed by what was put in", changed)
	}
	return ""
}
