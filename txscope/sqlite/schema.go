package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// schema is what is known of the tables of one database file. It is not changed once made.
type schema struct {
	generation int64             // of database.generation, when it was read
	cookie     int32             // SQLite's own, which every change of the schema changes
	tables     map[string]*table // by name, as SQLite spells it
}

// table is what is known of one table or view.
type table struct {
	all     tokens.ID // the table
	name    string    // for tokens.Row
	kind    kind
	columns int
	rowID   bool // the key is the rowid
	key     []keyColumn
	why     string    // there is no key
	parents []foreign // that a write to a row touches

	// Where it is.
	database, own string
}

type kind int

const (
	ordinary kind = iota
	virtual
	view
)

// keyColumn is a column of a primary key.
type keyColumn struct {
	index    int
	exact    exactness
	name     string
	affinity affinity
	folded   bool // texts of other spelling can be equal
}

// exactness says which values of a column have the text that a Go value has that was read from it.
type exactness int

const (
	always      exactness = iota
	integerOnly           // BOOLEAN: Go reads 'true' and 1 alike
	never                 // DATE and the like: the driver makes times of them
)

func exactnessOf(declared string) exactness {
	switch strings.ToUpper(declared) {
	case "BOOLEAN", "BOOL":
		return integerOnly
	case "DATE", "DATETIME", "TIMESTAMP", "TIME":
		return never
	}
	return always
}

// qualified names a table as models do: those of the default schema bare.
func qualified(database, name string) string {
	if isDefault(database) {
		return name
	}
	return database + "." + name
}

func isDefault(database string) bool {
	return database == "" || strings.EqualFold(database, "main") || strings.EqualFold(database, "temp")
}

// attached is a database of a connection.
type attached struct {
	name string // "main", "temp", or what ATTACH calls it
	file string // empty in memory: nothing of it is shared with other connections
}

func readAttached(ctx context.Context, conn driver.QueryerContext) (list []attached, err error) {
	err = query(ctx, conn, `SELECT name, file FROM pragma_database_list`, nil, func() {}, func(row []driver.Value) error {
		name, _ := row[0].(string)
		file, _ := row[1].(string)
		list = append(list, attached{name, file})
		return nil
	})
	return list, err
}

// readSchema reads the tables of the database. It runs no module of a virtual table. begun is called
// when the first snapshot is taken: what has changed when the foreign keys are read, SQLite's schema
// cookie tells later.
func readSchema(ctx context.Context, conn driver.QueryerContext, database string, touch *txscope.TouchRules, begun func()) (map[string]*table, error) {
	tables := make(map[string]*table)
	text := `SELECT m.name, m.type, m.rootpage, c.cid, c.type, c.pk,
	c.pk = 1 AND EXISTS (SELECT 1 FROM pragma_index_list(m.name, ?1) WHERE origin = 'pk'), c.name
FROM ` + quoted(database) + `.sqlite_master AS m
LEFT JOIN pragma_table_xinfo(CASE WHEN m.type = 'table' AND m.rootpage > 0 THEN m.name END, ?1) AS c
WHERE m.type IN ('table', 'view')`
	err := query(ctx, conn, text, []driver.NamedValue{{Ordinal: 1, Value: database}}, begun, func(row []driver.Value) error {
		name, ok := row[0].(string)
		if !ok {
			return errors.New("a table has no name")
		}
		t := tables[name]
		if t == nil {
			t = &table{name: qualified(database, name), database: database, own: name, why: whyNoKey}
			t.all = tokens.Table(t.name)
			tables[name] = t
		}
		root, _ := row[2].(int64)
		switch {
		case row[1] == "view":
			t.kind = view
			return nil
		case root <= 0:
			t.kind = virtual
			return nil
		}
		t.columns++
		position, _ := row[5].(int64)
		if position <= 0 {
			return nil
		}
		index, _ := row[3].(int64)
		declared, _ := row[4].(string)
		for len(t.key) < int(position) {
			t.key = append(t.key, keyColumn{index: -1})
		}
		column, _ := row[7].(string)
		t.key[position-1] = keyColumn{index: int(index), exact: exactnessOf(declared), name: column, affinity: affinityOf(declared)}
		indexed, _ := row[6].(int64)
		t.rowID = position == 1 && indexed == 0 && strings.EqualFold(declared, "INTEGER")
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		t.rowID = t.rowID && len(t.key) == 1
		for _, k := range t.key {
			if k.index < 0 || k.exact == never {
				t.key, t.why = nil, whyKeyType
				break
			}
		}
	}
	if touch.Any() && !strings.EqualFold(database, "temp") {
		if err := readParents(ctx, conn, database, touch, tables); err != nil {
			return nil, err
		}
	}
	return tables, nil
}

// quoted makes a name of any text.
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// query calls begun when the first row is there, or that there is none, and each for every row.
func query(ctx context.Context, conn driver.QueryerContext, text string, args []driver.NamedValue, begun func(), each func([]driver.Value) error) (err error) {
	rows, err := conn.QueryContext(ctx, text, args)
	if err != nil {
		return fmt.Errorf("the schema cannot be read: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	begun()
	dest := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(dest); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the schema cannot be read: %w", err)
		}
		if err := each(dest); err != nil {
			return err
		}
	}
}
