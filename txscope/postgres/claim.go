package postgres

import (
	"database/sql"
	"database/sql/driver"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope/internal/catalog"
	"github.com/alkey-go/alkey/txscope/internal/rowid"
	"github.com/alkey-go/alkey/txscope/internal/sqltext"
)

// action is a statement that writes rows of one table which can be told: from its text and
// arguments, or from what it returns. Nothing else writes that table in the course of it.
type action struct {
	dml   *sqltext.DML
	verb  catalog.Verbs
	named *table // by the statement
	table *table // whose rows they are

	// certain says that nothing follows from the statement: no other table is written.
	certain bool

	// keys are the primary keys of all rows that can be written, each value in the key's order; nil if the
	// text does not say.
	keys [][]sqltext.Operand

	needed []int // the columns of named by which rows and their parents are told

	// returning is the text that returns the key, and what touches need; "" if it cannot be made.
	returning string
	// unreadable is what to tell people if it is because columns may not be read.
	unreadable string

	touches []*touch

	// large says that the statement has last written more rows than are told apart. Then its keys are not
	// asked for, which costs more the more there are.
	large atomic.Bool
}

// act finds out whether the rows of a statement can be told. If not, why tells why.
func (r *resolver) act(st *sqltext.Statement, named *table, effect *catalog.Effect) (a *action, why string) {
	t, d := named.root(), st.DML
	switch {
	case d == nil:
		if st.Verb == sqltext.Truncate {
			return nil, whyTruncate
		}
		if st.Verb == sqltext.Schema {
			return nil, whyDDL
		}
		return nil, whyRows
	case t.whole != "":
		return nil, t.whole
	case named.whole == whyForeign || len(t.Rules) > 0 || named.View:
		return nil, whyTrigger
	case effect.Anywhere || slices.ContainsFunc(effect.Tables, func(o *catalog.Table) bool { return r.schema.of[o].root() == t }):
		return nil, whyTrigger
	}
	a = &action{dml: d, named: named, table: t}
	switch st.Verb {
	case sqltext.Insert:
		a.verb = catalog.Insert
		if d.Upsert {
			a.verb |= catalog.Update
		}
	case sqltext.Update:
		a.verb = catalog.Update
	case sqltext.Delete:
		a.verb = catalog.Delete
	default:
		return nil, whyRows
	}
	a.certain = effect.Empty() && !st.Anywhere && !st.Alone
	columns := assigned(t.Table, d)
	stays := t.KeyStays(a.verb, columns)
	if !stays && a.verb != catalog.Insert {
		return nil, whyMoved
	}
	a.touches = r.db.touches(a, columns)
	r.settleTouches(a)
	a.needed = a.needs()
	if stays {
		a.keys = r.keys(st, a)
	}
	if d.End >= 0 && !d.Returning && !named.policies && !t.policies {
		a.returning, a.unreadable = r.returning(a)
	}
	return a, ""
}

// keys finds the primary keys that a text gives.
func (r *resolver) keys(st *sqltext.Statement, a *action) [][]sqltext.Operand {
	for _, i := range a.table.Key {
		switch a.table.Columns[i].Kind {
		case catalog.Integer, catalog.UUID:
		default:
			return nil // how text is compared, and spelled in the database, no statement tells
		}
		if a.table.wraps[i] {
			return nil
		}
	}
	if a.verb&catalog.Insert != 0 {
		// OVERRIDING USER VALUE ignores the values. Of an upsert the row can be another, by another key; a
		// partition can have some of its own.
		if a.verb&catalog.Update != 0 && (a.table.Uniques > 0 || a.named.Uniques > 0) || strings.Contains(strings.ToLower(st.Span.Of(r.plan.query)), "overriding") {
			return nil
		}
		return r.certain(a.inserted())
	}
	return r.certain(a.chosen())
}

// certain returns the keys if their arguments stand in no other place of the text: there they may get
// another type, and with it another value.
func (r *resolver) certain(keys [][]sqltext.Operand) [][]sqltext.Operand {
	for _, key := range keys {
		if slices.ContainsFunc(key, r.repeated) {
			return nil
		}
	}
	return keys
}

// repeated reports whether an operand is an argument that the text has more than once.
func (r *resolver) repeated(o sqltext.Operand) bool {
	if o.Kind != sqltext.Argument {
		return false
	}
	if r.arguments == nil {
		r.arguments = sqltext.Arguments(sqltext.Postgres, r.plan.query)
	}
	return r.arguments[o.Ordinal] > 1
}

// settleTouches has the parents of rows asked for where the text gives them by arguments that are not
// certain.
func (r *resolver) settleTouches(a *action) {
	for _, t := range a.touches {
		for _, row := range a.dml.Values {
			for _, at := range t.given {
				if at < len(row) && r.repeated(row[at]) {
					t.given = nil
					break
				}
			}
		}
	}
}

// inserted are the keys of VALUES.
func (a *action) inserted() [][]sqltext.Operand {
	d := a.dml
	at, ok := a.positions(a.named.columnsOf(a.table, a.table.Key))
	if !ok || len(d.Values) == 0 || len(d.Values) > tokens.MaxRowsPerTable {
		return nil
	}
	keys := make([][]sqltext.Operand, 0, len(d.Values))
	for _, row := range d.Values {
		key := make([]sqltext.Operand, len(at))
		for i, position := range at {
			if position >= len(row) || !plain(row[position]) {
				return nil
			}
			key[i] = row[position]
		}
		keys = append(keys, key)
	}
	return keys
}

// positions are the places of columns in the rows of VALUES.
func (a *action) positions(columns []int) ([]int, bool) {
	at := make([]int, len(columns))
	for i, column := range columns {
		at[i] = column
		if column < 0 {
			return nil, false
		}
		if a.dml.Columns == nil {
			continue
		}
		at[i] = -1
		for j, name := range a.dml.Columns {
			if name == a.named.Columns[column].Name {
				at[i] = j
			}
		}
		if at[i] < 0 {
			return nil, false
		}
	}
	return at, true
}

// columnsOf finds the columns of another table in t, by name: a partition can have them in another
// order. One that is missing is -1.
func (t *table) columnsOf(o *table, columns []int) []int {
	if t == o {
		return columns
	}
	mine := make([]int, len(columns))
	for i, c := range columns {
		mine[i] = -1
		for j := range t.Columns {
			if t.Columns[j].Name == o.Columns[c].Name {
				mine[i] = j
			}
		}
	}
	return mine
}

func plain(o sqltext.Operand) bool {
	switch o.Kind {
	case sqltext.Argument, sqltext.Integer, sqltext.String:
		return true
	}
	return false
}

// chosen are the keys that WHERE allows: for each part of the key some values, in all combinations.
func (a *action) chosen() [][]sqltext.Operand {
	keys := [][]sqltext.Operand{nil}
	for _, i := range a.table.Key {
		var values []sqltext.Operand
		for _, k := range a.dml.Keys {
			if k.Column == a.table.Columns[i].Name {
				values = k.Values
				break
			}
		}
		if values == nil || len(values)*len(keys) > tokens.MaxRowsPerTable {
			return nil
		}
		var longer [][]sqltext.Operand
		for _, key := range keys {
			for _, v := range values {
				if !plain(v) {
					return nil
				}
				longer = append(longer, append(key[:len(key):len(key)], v))
			}
		}
		keys = longer
	}
	return keys
}

// returning makes the text that returns the columns by which rows and their parents are told, or tells what
// to do so that it can be.
func (r *resolver) returning(a *action) (text, unreadable string) {
	list, missing := a.list()
	switch {
	case len(missing) > 0:
		table := a.named.spelled[1]
		return "", "table " + table + ": all rows are changed where some would do, because the columns that tell them apart may not be read; GRANT SELECT (" +
			strings.Join(missing, ", ") + ") ON " + table + " TO " + quoted(r.schema.user)
	case list == "":
		return "", ""
	}
	query := r.plan.query
	return query[:a.dml.End] + "\nRETURNING " + list + query[a.dml.End:], ""
}

// list writes the columns by which rows and their parents are told, as the statement refers to them; missing
// are those that may not be read. It is empty if there are any, or if one is not there.
func (a *action) list() (text string, missing []string) {
	var list []string
	for _, c := range a.needed {
		if c < 0 {
			return "", nil
		}
		name := quoted(a.named.Columns[c].Name)
		list = append(list, a.reference()+"."+name)
		if !a.named.readable[c] {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return "", missing
	}
	return strings.Join(list, ", "), nil
}

// reference is how the statement refers to its table.
func (a *action) reference() string {
	if a.dml.Alias != "" {
		return quoted(a.dml.Alias)
	}
	return quoted(a.dml.Table.Name)
}

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// claim makes the identifiers of the rows that the text names with these arguments.
func (a *action) claim(dst []tokens.ID, args []driver.NamedValue) ([]tokens.ID, bool) {
	if a.keys == nil || !ordinary(args) {
		return dst, false
	}
	var buf [4]any
	for _, key := range a.keys {
		values := buf[:0]
		none := false
		for i, o := range key {
			v, null, ok := valueOf(o, args, a.table.Columns[a.table.Key[i]].Kind)
			if !ok {
				return dst, false
			}
			none = none || null
			values = append(values, v)
		}
		if none {
			continue // nothing is equal to NULL, and no key is NULL
		}
		var ok bool
		if dst, ok = rowid.Append(dst, a.table.ID, values...); !ok {
			return dst, false
		}
	}
	return dst, true
}

// tells reports whether the number of rows that are written tells which of those that the text names
// are: all of them, or none.
func (a *action) tells() bool {
	return len(a.keys) == 1 || a.verb == catalog.Insert && !a.dml.Ignore
}

// ordinary reports whether all arguments are values: pgx takes options as the first ones too, and
// texts that write the text anew.
func ordinary(args []driver.NamedValue) bool {
	if len(args) == 0 {
		return true
	}
	switch args[0].Value.(type) {
	case pgx.QueryExecMode, pgx.QueryRewriter, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
		return false
	}
	return true
}

// rewrites reports whether the text that runs can be another than the one that was read. pgx's own
// rewriters only put in arguments.
func rewrites(args []driver.NamedValue) bool {
	for _, a := range args {
		switch a.Value.(type) {
		case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
			continue
		case pgx.NamedArgs, pgx.StrictNamedArgs:
			return false
		case pgx.QueryRewriter:
			return true
		}
		return false
	}
	return false
}

// valueOf is the value that the database compares a key with, or stores as one, if that is certain.
func valueOf(o sqltext.Operand, args []driver.NamedValue, kind catalog.Kind) (v any, null, ok bool) {
	switch o.Kind {
	case sqltext.Integer:
		return o.Int, false, kind == catalog.Integer
	case sqltext.String:
		if kind != catalog.UUID || len(o.Text) != uuidLength {
			return nil, false, false
		}
		id, ok := rowid.ParseUUID(o.Text)
		return rowid.FormatUUID(id), false, ok
	case sqltext.Argument:
		if o.Ordinal < 1 || o.Ordinal > len(args) {
			return nil, false, false
		}
		return valueOfArgument(args[o.Ordinal-1].Value, kind)
	}
	return nil, false, false
}

const uuidLength = 36

// valueOfArgument is valueOf for a Go value. pgx takes it as it is, so it can be of any type. In doubt
// the database is asked for the key, which costs little.
func valueOfArgument(arg any, kind catalog.Kind) (v any, null, ok bool) {
	switch n := arg.(type) {
	case nil:
		return nil, true, true
	case int64:
		return n, false, kind == catalog.Integer
	case int:
		return int64(n), false, kind == catalog.Integer
	case int32:
		return int64(n), false, kind == catalog.Integer
	case string:
		if kind != catalog.UUID || len(n) != uuidLength {
			return nil, false, false
		}
		id, ok := rowid.ParseUUID(n)
		return rowid.FormatUUID(id), false, ok
	}
	rv := reflect.ValueOf(arg)
	for rv.Kind() == reflect.Pointer {
		if rv.IsNil() {
			return nil, true, true
		}
		if special(rv.Interface()) {
			return valueOfSpecial(rv.Interface(), kind)
		}
		rv = rv.Elem()
	}
	if !rv.CanInterface() {
		return nil, false, false
	}
	if v := rv.Interface(); special(v) {
		return valueOfSpecial(v, kind)
	}
	switch k := rv.Kind(); {
	case kind == catalog.Integer && reflect.Int <= k && k <= reflect.Int64:
		return rv.Int(), false, true
	case kind == catalog.Integer && reflect.Uint <= k && k <= reflect.Uint64:
		return rv.Uint(), false, true
	case kind == catalog.UUID && rv.Type() == reflect.TypeFor[[16]byte]():
		return rowid.FormatUUID(rv.Interface().([16]byte)), false, true
	}
	return nil, false, false
}

// special reports whether a value has methods by which pgx may send something else than its kind
// says.
func special(v any) bool {
	switch v.(type) {
	case driver.Valuer, fmt.Stringer, encoding.TextMarshaler, pgtype.Int64Valuer, pgtype.UUIDValuer, pgtype.TextValuer:
		return true
	}
	return reflect.TypeOf(v).NumMethod() > 0
}

// valueOfSpecial reads such a value where all that it can be sent as is the same.
func valueOfSpecial(v any, kind catalog.Kind) (_ any, null, ok bool) {
	switch v := v.(type) {
	case sql.NullInt64:
		return v.Int64, !v.Valid, kind == catalog.Integer
	case sql.NullInt32:
		return int64(v.Int32), !v.Valid, kind == catalog.Integer
	case sql.NullInt16:
		return int64(v.Int16), !v.Valid, kind == catalog.Integer
	case pgtype.Int8:
		return v.Int64, !v.Valid, kind == catalog.Integer
	case pgtype.Int4:
		return int64(v.Int32), !v.Valid, kind == catalog.Integer
	case pgtype.Int2:
		return int64(v.Int16), !v.Valid, kind == catalog.Integer
	case pgtype.UUID:
		return rowid.FormatUUID(v.Bytes), !v.Valid, kind == catalog.UUID
	}
	valuer, ok := v.(driver.Valuer)
	if !ok {
		return nil, false, false
	}
	sent, err := valuer.Value()
	if err != nil {
		return nil, false, false
	}
	rv := reflect.Indirect(reflect.ValueOf(v))
	switch sent := sent.(type) {
	case int64:
		if rv.Kind() >= reflect.Int && rv.Kind() <= reflect.Int64 && rv.Int() == sent {
			_, text := v.(fmt.Stringer) // which is sent where pgx sends text
			return sent, false, kind == catalog.Integer && !text
		}
	case string:
		if kind != catalog.UUID || len(sent) != uuidLength {
			return nil, false, false
		}
		id, ok := rowid.ParseUUID(sent)
		if rv.Kind() == reflect.Array && rv.Type().ConvertibleTo(reflect.TypeFor[[16]byte]()) {
			ok = ok && rv.Convert(reflect.TypeFor[[16]byte]()).Interface() == id
		} else {
			ok = false
		}
		return rowid.FormatUUID(id), false, ok
	}
	return nil, false, false
}

// decode reads a value that the server has sent, as Go code reads it that scans it into the type that
// fits best. It is false for what has no exact text.
func decode(raw []byte, f *pgconn.FieldDescription, kind catalog.Kind) (v any, ok bool) {
	binaryFormat := f.Format == pgx.BinaryFormatCode
	switch kind {
	case catalog.Integer:
		switch {
		case !binaryFormat:
			n, err := strconv.ParseInt(string(raw), 10, 64)
			return n, err == nil
		case len(raw) == 2:
			return int64(int16(binary.BigEndian.Uint16(raw))), true
		case len(raw) == 4 && f.DataTypeOID == pgtype.OIDOID:
			return int64(binary.BigEndian.Uint32(raw)), true
		case len(raw) == 4:
			return int64(int32(binary.BigEndian.Uint32(raw))), true
		case len(raw) == 8:
			return int64(binary.BigEndian.Uint64(raw)), true
		}
	case catalog.Text:
		return string(raw), true // in both formats
	case catalog.UUID:
		if !binaryFormat {
			return string(raw), len(raw) == uuidLength
		}
		if len(raw) == 16 {
			return rowid.FormatUUID([16]byte(raw)), true
		}
	case catalog.Bytes:
		if binaryFormat {
			return append([]byte{}, raw...), true
		}
		if s, found := strings.CutPrefix(string(raw), `\x`); found {
			b, err := hex.DecodeString(s)
			return b, err == nil
		}
	}
	return nil, false
}
