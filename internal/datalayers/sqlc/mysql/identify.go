// Package mysql is what sqlc makes for this kind of database, and a method that it does not make.
package mysql

// TableName makes authors something that a key can name.
func (Author) TableName() string { return "authors" }
