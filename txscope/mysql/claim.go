package mysql

import (
	"database/sql/driver"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope/internal/catalog"
	"github.com/alkey-go/alkey/txscope/internal/rowid"
	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// claim is how the rows of a statement that writes one table can be told. It belongs to a plan and is
// not changed once made.
type claim struct {
	table *table
	dml   *sqltext.DML
	verb  sqltext.Verb

	rows  []keyOf // that the statement names, as far as it does
	named bool    // by conditions of its WHERE; else by the values that it inserts

	// The ways to learn rows that the statement does not name; why tells what stands in the way of all.
	inserts bool // by LastInsertId, if it is only the AUTO_INCREMENT column that is missing
	returns bool // by RETURNING
	locks   bool // by selecting them beforehand
	looks   bool // by selecting them afterwards
	why     string

	placeholders int // in the WHERE

	columns []int    // that are selected of the rows: those of the key, then those that name parents
	parents []parent // that change with the rows
	moves   bool     // rows can be given other parents
	reads   bool     // text is among the columns
}

// keyOf is a key in a text, in the order of the table's key.
type keyOf []part

// part is one column's part of a key.
type part struct {
	operand sqltext.Operand
	missing bool // the column is left out, so it has its default
}

// The reasons why rows cannot be told.
const (
	whyRows      = "rows that nothing tells beforehand"
	whyReplaced  = "REPLACE with other unique keys"
	whyUpserted  = "ON DUPLICATE KEY UPDATE with other unique keys"
	whyWhere     = "a WHERE that may mean other rows a moment later"
	whyDefault   = "a key that the database makes"
	whyLasting   = "a table without transactions"
	whyMany      = "more rows than are told apart"
	whyOtherRows = "rows that came in between"
	whyCommitted = "READ COMMITTED on a server without SKIP LOCKED"
	whyNoMatched = "the number of matched rows is not known"
	whyRefused   = "the key columns cannot be read"
	whyAlone     = "a connection that cannot be given a transaction"
	whyCharset   = "text that is not read in UTF-8"
	whyBusy      = "rows that are still open"
	whyOwnRows   = "RETURNING without the key"
)

// claimOf makes the claim of a statement, or tells why there is none.
func claimOf(k *knowledge, t *table, s *sqltext.Statement, text string, effect *catalog.Effect) (*claim, string) {
	d := s.DML
	use := t.use(s)
	switch {
	case t.View:
		return nil, whyView
	case len(t.Key) == 0:
		return nil, whyNoKey
	case effect.Writes(t.Table):
		return nil, whyReaches
	case slices.ContainsFunc(t.Key, func(i int) bool { return t.Columns[i].Kind == catalog.Other }):
		return nil, whyKeyKind
	case !t.KeyStays(use.Verbs, use.Assigned):
		return nil, whyKeyAssigned
	case s.Verb == sqltext.Replace && t.Uniques > 0:
		return nil, whyReplaced
	case d.Upsert && t.Uniques > 0:
		return nil, whyUpserted
	}
	c := &claim{table: t, dml: d, verb: s.Verb, why: whyRows, columns: t.Key}
	c.touch(k, use.Assigned)
	c.reads = slices.ContainsFunc(c.columns, func(i int) bool { return t.Columns[i].Kind == catalog.Text })
	switch s.Verb {
	case sqltext.Update, sqltext.Delete:
		c.choose(k, s, text)
	case sqltext.Insert, sqltext.Replace:
		c.insert(k, s)
	default:
		return nil, whyNotPlain
	}
	return c, ""
}

// choose takes in the WHERE of an UPDATE or a DELETE.
func (c *claim) choose(k *knowledge, s *sqltext.Statement, text string) {
	d, t := c.dml, c.table
	c.named = true
	c.rows = []keyOf{{}}
	for _, column := range t.Key {
		i := slices.IndexFunc(d.Keys, func(key sqltext.Key) bool { return strings.EqualFold(key.Column, t.Columns[column].Name) })
		if i < 0 || len(c.rows)*len(d.Keys[i].Values) > tokens.MaxRowsPerTable {
			c.rows = nil
			break
		}
		var longer []keyOf
		for _, begin := range c.rows {
			for _, v := range d.Keys[i].Values {
				longer = append(longer, append(slices.Clone(begin), part{operand: v}))
			}
		}
		c.rows = longer
	}
	if t.Lasting {
		c.why = whyLasting
		return
	}
	c.returns = s.Verb == sqltext.Delete && k.server.returnsDeleted && d.End >= 0 && !d.Joined && !d.With
	var stable bool
	c.placeholders, stable = chooses(d.Where.Of(text))
	c.locks = stable && !d.Joined && !d.With && !d.Cursor && !t.unstable && !d.Returning
	if !c.locks {
		c.why = whyWhere
	}
}

// insert takes in the values of an INSERT or a REPLACE.
func (c *claim) insert(k *knowledge, s *sqltext.Statement) {
	d, t := c.dml, c.table
	for _, row := range d.Values {
		var key keyOf
		for _, column := range t.Key {
			i := column
			if d.Columns != nil {
				i = slices.IndexFunc(d.Columns, func(name string) bool { return strings.EqualFold(name, t.Columns[column].Name) })
			} else if len(row) != len(t.Columns) {
				i = len(row)
			}
			switch {
			case i >= 0 && i < len(row):
				key = append(key, part{operand: row[i]})
			case i < 0:
				key = append(key, part{missing: true})
			default:
				key = append(key, part{}) // an Expression, of which nothing is known
			}
		}
		c.rows = append(c.rows, key)
	}
	if t.Lasting {
		c.why = whyLasting
		return
	}
	c.inserts = s.Verb == sqltext.Insert && !d.Ignore && d.Values != nil && t.innodb && t.auto >= 0 &&
		(len(d.Values) == 1 || !t.partitioned && !k.server.cluster)
	if slices.ContainsFunc(s.Calls, func(n sqltext.Name) bool { return strings.EqualFold(n.Name, "last_insert_id") }) {
		// It decides what LastInsertId is.
		c.inserts = false
	} else {
		c.returns = s.Verb == sqltext.Insert && !d.Upsert && k.server.returnsInserted && d.End >= 0 && c.generates()
	}
	c.looks = d.Upsert && d.Values != nil && len(d.Values) <= tokens.MaxRowsPerTable
	if !c.inserts {
		c.why = whyDefault
	}
}

// meets reports whether the statement can write a row that has the key of another in another spelling.
func (c *claim) meets() bool { return c.named || c.dml.Upsert || c.verb == sqltext.Replace }

// values gives the keys that an INSERT names, which the rows that it makes have in this spelling, and those
// that it meets in another that compares equal.
func (c *claim) values(args []driver.NamedValue, utf8 bool) ([][]any, bool) {
	keys := make([][]any, 0, len(c.rows))
	for _, row := range c.rows {
		var key []any
		for i, p := range row {
			column := c.table.Key[i]
			v, ok := c.table.exact(column, c.value(p, args), false, utf8)
			if !ok || p.missing || column == c.table.auto && isZero(v) {
				return nil, false
			}
			key = append(key, v)
		}
		keys = append(keys, key)
	}
	return keys, len(keys) > 0
}

// generates reports whether LastInsertId of an INSERT with RETURNING can be told: the table has no
// AUTO_INCREMENT column, or the statement leaves that to the database.
func (c *claim) generates() bool {
	t, d := c.table, c.dml
	if t.auto < 0 {
		return true
	}
	return d.Columns != nil && t.IsKey(t.auto) && !slices.ContainsFunc(d.Columns, func(name string) bool {
		return name == "" || strings.EqualFold(name, t.Columns[t.auto].Name)
	})
}

// textual reports whether it inserts keys of which a part is text.
func (c *claim) textual() bool {
	return !c.meets() && slices.ContainsFunc(c.table.Key, func(i int) bool { return c.table.Columns[i].Kind == catalog.Text })
}

// known gives the keys of all rows that the statement can write, if they are certain beforehand. utf8 says
// that the connection speaks UTF-8.
func (c *claim) known(args []driver.NamedValue, utf8 bool) ([][]any, bool) {
	if len(c.rows) == 0 || len(c.rows) > tokens.MaxRowsPerTable || len(c.rows) > 1 && c.returns && (c.named || c.dml.Ignore) {
		return nil, false // of several rows RETURNING tells which are there
	}
	keys := make([][]any, 0, len(c.rows))
	for _, row := range c.rows {
		key, ok := c.resolve(row, args, false, utf8)
		if !ok {
			return nil, false
		}
		keys = append(keys, key)
	}
	return keys, true
}

// generated gives the keys of all rows with a hole, which is nil, where the database fills in the
// AUTO_INCREMENT column.
func (c *claim) generated(args []driver.NamedValue) ([][]any, bool) {
	if !c.inserts || len(c.rows) > tokens.MaxRowsPerTable {
		return nil, false
	}
	keys := make([][]any, 0, len(c.rows))
	for _, row := range c.rows {
		key, ok := c.resolve(row, args, true, false)
		if !ok {
			return nil, false
		}
		keys = append(keys, key)
	}
	return keys, true
}

// resolve gives the values of a key in the database. With holes the AUTO_INCREMENT column must be
// missing, and its value is nil.
func (c *claim) resolve(row keyOf, args []driver.NamedValue, holes, utf8 bool) ([]any, bool) {
	key := make([]any, 0, len(row))
	hole := false
	for i, p := range row {
		column := c.table.Key[i]
		if holes && column == c.table.auto {
			if !c.fills(p, args) {
				return nil, false
			}
			hole = true
			key = append(key, nil)
			continue
		}
		v, ok := c.table.exact(column, c.value(p, args), c.meets(), utf8)
		if !ok || p.missing {
			return nil, false
		}
		if column == c.table.auto && !c.named && isZero(v) {
			return nil, false // the database puts another in its place
		}
		key = append(key, v)
	}
	return key, hole == holes
}

// fills reports whether the database fills in the AUTO_INCREMENT column. Zero depends on a mode of the
// server: LastInsertId tells how it came out, of one row.
func (c *claim) fills(p part, args []driver.NamedValue) bool {
	if p.missing || p.operand.Kind == sqltext.Null || p.operand.Kind == sqltext.Default {
		return true
	}
	v := c.value(p, args)
	if _, null := v.(sqlNull); null {
		return true
	}
	return len(c.rows) == 1 && isZero(v)
}

func isZero(v any) bool { return v == int64(0) || v == uint64(0) || v == false }

// sqlNull is NULL as a value.
type sqlNull struct{}

// value is what an operand is, as Go has it; nil if that cannot be told.
func (c *claim) value(p part, args []driver.NamedValue) any {
	switch o := &p.operand; o.Kind {
	case sqltext.Argument:
		if o.Ordinal < 1 || o.Ordinal > len(args) {
			return nil
		}
		if v := args[o.Ordinal-1].Value; v != nil {
			return v
		}
		return sqlNull{}
	case sqltext.Integer:
		return o.Int
	case sqltext.String:
		return o.Text
	case sqltext.Null:
		return sqlNull{}
	}
	return nil
}

// exact gives a value as the column holds it, if that is certain: compared says that rows are chosen by
// it, and else it is inserted. A string is compared as the collation has it, in which 'abc ' and 'ABC'
// can be the same, so it chooses no row for certain. What is inserted is kept as it is if it is plain
// ASCII that fits, or any text where connection and column speak UTF-8, and a number if it fits: a server
// that is not strict stores another value else.
func (t *table) exact(column int, v any, compared, inUTF8 bool) (any, bool) {
	typ := &t.types[column]
	switch t.Columns[column].Kind {
	case catalog.Integer:
		return typ.integer(v)
	case catalog.UUID:
		if s, ok := v.(string); ok && len(s) == 36 {
			if id, ok := rowid.ParseUUID(s); ok {
				return rowid.FormatUUID(id), true
			}
		}
	case catalog.Bytes:
		var b []byte
		switch v := v.(type) {
		case []byte:
			b = v
		default:
			return nil, false
		}
		if b == nil || typ.length < len(b) || typ.name == "binary" && len(b) != typ.length {
			return nil, false
		}
		return b, true
	case catalog.Text:
		s, ok := v.(string)
		if !ok || compared || !typ.ascii || utf8.RuneCountInString(s) > typ.length {
			return nil, false
		}
		if !plainASCII(s) && !(inUTF8 && typ.utf8 && utf8.ValidString(s)) {
			return nil, false
		}
		switch typ.name {
		case "char":
			return s, !strings.HasSuffix(s, " ")
		case "varchar", "tinytext", "text", "mediumtext", "longtext":
			return s, true
		}
	}
	return nil, false
}

func plainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// invariant reports whether text is the same in all character sets that it can be read in. A "?" stands for
// what a set lacks, and some have letters in the place of other signs.
func invariant(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" -_.:,/+", r))
	}) < 0
}

// integer gives an integer if the type can hold it.
func (c *columnType) integer(v any) (any, bool) {
	bits := map[string]uint{"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}[c.name]
	if bits == 0 {
		return nil, false
	}
	switch n := v.(type) {
	case bool:
		if n {
			return int64(1), true
		}
		return int64(0), true
	case uint64:
		if c.unsigned {
			return n, n>>(bits-1)>>1 == 0
		}
		return n, n>>(bits-1) == 0
	case int64:
		switch {
		case n >= 0:
			_, ok := c.integer(uint64(n))
			return n, ok
		case c.unsigned:
			return nil, false
		}
		return n, n>>(bits-1) == -1
	}
	return nil, false
}

// found collects the identifiers of rows, and of the parents that change with them.
type found struct {
	claim *claim
	ids   []tokens.ID
	keys  [][]any // of rows that are looked for again
	rows  int
	lost  string // why the rows cannot be told any more
	above above
	utf8  bool // text is read in UTF-8
}

// add takes in the key of a row, as it is in the database.
func (f *found) add(key []any) {
	f.rows++
	if f.lost != "" {
		return
	}
	if f.rows > tokens.MaxRowsPerTable {
		f.lose(whyMany)
		return
	}
	var ok bool
	if f.ids, ok = rowid.Append(f.ids, f.claim.table.ID, key...); !ok {
		f.lose(whyKeyKind)
	}
}

func (f *found) lose(why string) {
	if f.lost == "" {
		f.lost, f.ids, f.keys = why, nil, nil
	}
}

// take adds the parents of the same rows at another time.
func (f *found) take(other *found) {
	if other.lost != "" {
		f.lose(other.lost)
	}
	f.above.merge(&other.above)
}

// read takes in the columns of a claim, as the driver gives them.
func (f *found) read(values []driver.Value) {
	c := f.claim
	var buf [8]any
	row := buf[:0]
	for i, v := range values {
		own, ok := c.table.value(c.columns[i], v)
		if !ok && i < len(c.table.Key) {
			f.rows++
			f.lose(whyKeyKind)
			return
		}
		if s, isText := own.(string); isText && !f.utf8 && !invariant(s) && c.table.Columns[c.columns[i]].Kind == catalog.Text {
			f.lose(whyCharset)
		}
		row = append(row, own)
	}
	key := row[:len(c.table.Key)]
	f.add(key)
	if len(c.parents) > 0 && f.lost == "" {
		f.keys = append(f.keys, keep(key))
		for i := range c.parents {
			f.above.read(&c.parents[i], row)
		}
	}
}

// keep copies a key that holds the driver's bytes.
func keep(key []any) []any {
	own := slices.Clone(key)
	for i, v := range own {
		if b, ok := v.([]byte); ok {
			own[i] = slices.Clone(b)
		}
	}
	return own
}

// value makes of what the driver gives for a column what identifiers are made of. Bytes must not be
// kept.
func (t *table) value(column int, v driver.Value) (any, bool) {
	switch kind := t.Columns[column].Kind; v := v.(type) {
	case nil:
		return nil, false
	case int64, uint64:
		return v, kind == catalog.Integer
	case []byte:
		switch kind {
		case catalog.Bytes:
			return v, true
		case catalog.Text, catalog.UUID, catalog.Integer:
			s := string(v)
			if t.types[column].name == "char" {
				s = strings.TrimRight(s, " ") // which it has by sql_mode only
			}
			return s, true
		}
	case string:
		return v, kind != catalog.Other && kind != catalog.Bytes
	}
	return nil, false
}

// quoted writes names of columns in a list.
func (t *table) quoted(columns []int) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = quote(t.Columns[c].Name)
	}
	return strings.Join(names, ", ")
}

func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }
