// Package sqlite3 stands in for the driver that GORM's SQLite dialector imports and, given a pool,
// never opens: it spares the tests a C compiler's minute.
package sqlite3
