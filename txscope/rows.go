package txscope

import (
	"database/sql/driver"
	"io"
	"reflect"
)

// Rows stands around a driver's rows where something is to be done as they are read or closed: embed
// it, and define what is different. Of the optional methods, those that the driver's rows lack answer
// as database/sql does for rows without them. Like all rows it is for one call at a time.
type Rows struct{ driver.Rows }

var (
	_ driver.RowsNextResultSet              = Rows{}
	_ driver.RowsColumnTypeScanType         = Rows{}
	_ driver.RowsColumnTypeDatabaseTypeName = Rows{}
	_ driver.RowsColumnTypeLength           = Rows{}
	_ driver.RowsColumnTypeNullable         = Rows{}
	_ driver.RowsColumnTypePrecisionScale   = Rows{}
)

// HasNextResultSet is part of driver.RowsNextResultSet.
func (r Rows) HasNextResultSet() bool {
	next, ok := r.Rows.(driver.RowsNextResultSet)
	return ok && next.HasNextResultSet()
}

// NextResultSet is part of driver.RowsNextResultSet.
func (r Rows) NextResultSet() error {
	next, ok := r.Rows.(driver.RowsNextResultSet)
	if !ok {
		return io.EOF
	}
	return next.NextResultSet()
}

// ColumnTypeScanType is part of driver.RowsColumnTypeScanType.
func (r Rows) ColumnTypeScanType(index int) reflect.Type {
	if t, ok := r.Rows.(driver.RowsColumnTypeScanType); ok {
		return t.ColumnTypeScanType(index)
	}
	return reflect.TypeFor[any]()
}

// ColumnTypeDatabaseTypeName is part of driver.RowsColumnTypeDatabaseTypeName.
func (r Rows) ColumnTypeDatabaseTypeName(index int) string {
	if t, ok := r.Rows.(driver.RowsColumnTypeDatabaseTypeName); ok {
		return t.ColumnTypeDatabaseTypeName(index)
	}
	return ""
}

// ColumnTypeLength is part of driver.RowsColumnTypeLength.
func (r Rows) ColumnTypeLength(index int) (length int64, ok bool) {
	if t, ok := r.Rows.(driver.RowsColumnTypeLength); ok {
		return t.ColumnTypeLength(index)
	}
	return 0, false
}

// ColumnTypeNullable is part of driver.RowsColumnTypeNullable.
func (r Rows) ColumnTypeNullable(index int) (nullable, ok bool) {
	if t, ok := r.Rows.(driver.RowsColumnTypeNullable); ok {
		return t.ColumnTypeNullable(index)
	}
	return false, false
}

// ColumnTypePrecisionScale is part of driver.RowsColumnTypePrecisionScale.
func (r Rows) ColumnTypePrecisionScale(index int) (precision, scale int64, ok bool) {
	if t, ok := r.Rows.(driver.RowsColumnTypePrecisionScale); ok {
		return t.ColumnTypePrecisionScale(index)
	}
	return 0, 0, false
}
