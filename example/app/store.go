package main

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jmoiron/sqlx"
)

// User is a row of users. TableName makes it a model: cacheKey .User is a key of that row.
type User struct {
	ID    int64
	Name  string
	Email string
}

// TableName implements alkey's model.
func (User) TableName() string { return "users" }

// Order is a row of orders.
type Order struct {
	ID     int64
	UserID int64 `db:"user_id"`
	Item   string
	Cents  int64
}

// TableName implements alkey's model.
func (Order) TableName() string { return "orders" }

// Totals is how many orders there are, and what they cost together.
type Totals struct {
	Count int64
	Cents int64
}

var (
	errNotFound   = errors.New("no such row")
	errEmailTaken = errors.New("another user has this e-mail address")
)

// store is plain SQL over a database that alkey opened. Nothing in it says what changes when: alkey
// sees every write.
type store struct {
	db *sqlx.DB
	dialect
}

func newStore(db *sqlx.DB) store { return store{db, dialects[db.DriverName()]} }

func (s store) users(ctx context.Context) ([]User, error) {
	users := []User{}
	err := s.list(ctx, &users, `SELECT id, name, email FROM users ORDER BY name, id`)
	return users, err
}

func (s store) user(ctx context.Context, id int64) (User, error) {
	var u User
	err := s.get(ctx, &u, `SELECT id, name, email FROM users WHERE id = ?`, id)
	if errors.Is(err, sql.ErrNoRows) {
		err = errNotFound
	}
	return u, err
}

func (s store) createUser(ctx context.Context, name, email string) (id int64, err error) {
	const insert = `INSERT INTO users (name, email) VALUES (?, ?)`
	if s.returning {
		err := s.get(ctx, &id, insert+` RETURNING id`, name, email)
		return id, meaning(err)
	}
	result, err := s.db.ExecContext(ctx, insert, name, email)
	if err != nil {
		return 0, meaning(err)
	}
	return result.LastInsertId()
}

// updateUser changes what is not nil.
func (s store) updateUser(ctx context.Context, id int64, name, email *string) error {
	if name == nil && email == nil {
		_, err := s.user(ctx, id)
		return err
	}
	return s.change(ctx, `UPDATE users SET name = COALESCE(?, name), email = COALESCE(?, email) WHERE id = ?`, name, email, id)
}

// deleteUser deletes the user's orders too: the database does, and alkey sees it.
func (s store) deleteUser(ctx context.Context, id int64) error {
	return s.change(ctx, `DELETE FROM users WHERE id = ?`, id)
}

func (s store) orders(ctx context.Context, userID int64) ([]Order, error) {
	orders := []Order{}
	err := s.list(ctx, &orders, `SELECT id, user_id, item, cents FROM orders WHERE user_id = ? ORDER BY id DESC`, userID)
	return orders, err
}

func (s store) createOrder(ctx context.Context, userID int64, item string, cents int64) error {
	return s.change(ctx, `INSERT INTO orders (user_id, item, cents) VALUES (?, ?, ?)`, userID, item, cents)
}

func (s store) countUsers(ctx context.Context) (int64, error) {
	var n int64
	err := s.get(ctx, &n, `SELECT count(*) FROM users`)
	return n, err
}

func (s store) totals(ctx context.Context) (Totals, error) {
	var t Totals
	err := s.get(ctx, &t, `SELECT count(*) AS count, COALESCE(sum(cents), 0) AS cents FROM orders`)
	return t, err
}

func (s store) totalsOf(ctx context.Context, userID int64) (Totals, error) {
	var t Totals
	err := s.get(ctx, &t, `SELECT count(*) AS count, COALESCE(sum(cents), 0) AS cents FROM orders WHERE user_id = ?`, userID)
	return t, err
}

func (s store) get(ctx context.Context, dest any, query string, args ...any) error {
	return s.db.GetContext(ctx, dest, s.db.Rebind(query), args...)
}

func (s store) list(ctx context.Context, dest any, query string, args ...any) error {
	return s.db.SelectContext(ctx, dest, s.db.Rebind(query), args...)
}

// change writes what must find a row to write to.
func (s store) change(ctx context.Context, query string, args ...any) error {
	result, err := s.db.ExecContext(ctx, s.db.Rebind(query), args...)
	if err != nil {
		return meaning(err)
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		err = errNotFound
	}
	return err
}
