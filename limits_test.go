package alkey_test

import (
	"strings"
	"testing"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
)

// TestLongKeys: a row whose key is longer than an identifier can be is captured as any other, and named alike by
// who writes it and who reads it.
func TestLongKeys(t *testing.T) {
	for _, d := range capturedDatabases {
		t.Run(d.name, func(t *testing.T) {
			f := newCaptured(t, d)
			kind := "TEXT"
			if d.driver == "mysql" {
				kind = "VARCHAR(700) CHARACTER SET ascii COLLATE ascii_bin"
			}
			f.run(t, "CREATE TABLE files (path "+kind+" PRIMARY KEY, v INTEGER)")
			one, other := strings.Repeat("/path", 120)+"/1", strings.Repeat("/path", 120)+"/2"
			f.run(t, "INSERT INTO files VALUES ('"+one+"', 1), ('"+other+"', 1)")
			ids := []tokens.ID{tokens.Row("files", one), tokens.Table("files"), tokens.Row("files", other)}
			for _, text := range []string{
				"UPDATE files SET v = v + 1 WHERE path = '" + one + "'", "DELETE FROM files WHERE path = '" + one + "'", "INSERT INTO files VALUES ('" + one + "', 1)",
			} {
				before, err := f.store.Read(t.Context(), ids)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.db.ExecContext(t.Context(), text); err != nil {
					t.Fatal(err)
				}
				after, err := f.store.Read(t.Context(), ids)
				if err != nil {
					t.Fatal(err)
				}
				verb, _, _ := strings.Cut(text, " ")
				if before[0] == after[0] || before[1] == after[1] {
					t.Errorf("%s: the keys of the row and of its table are as they were", verb)
				}
				if before[2] != after[2] {
					t.Errorf("%s: the key of another row has changed", verb)
				}
			}
		})
	}
}

// TestTransactionPastItsLimits: many statements that change more than is told apart change the keys of all rows of
// their tables, and of no others.
func TestTransactionPastItsLimits(t *testing.T) {
	for _, d := range capturedDatabases {
		t.Run(d.name, func(t *testing.T) {
			f := newCaptured(t, d, txscope.MaxRows(10))
			for _, table := range []string{"notes", "others", "later"} {
				f.run(t, "INSERT INTO "+table+" (id, v) VALUES (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)")
			}
			ids := []tokens.ID{tokens.Row("notes", -1), tokens.Row("others", -1), tokens.Row("later", -1)}
			changed := func(rows int) (got [3]bool) {
				t.Helper()
				before, err := f.store.Read(t.Context(), ids)
				if err != nil {
					t.Fatal(err)
				}
				tx := f.db.MustBegin()
				for id := range rows {
					tx.MustExec(tx.Rebind("UPDATE notes SET v = v + 1 WHERE id = ?"), id+1)
					tx.MustExec(tx.Rebind("UPDATE others SET v = v + 1 WHERE id = ?"), id+1)
				}
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
				after, err := f.store.Read(t.Context(), ids)
				if err != nil {
					t.Fatal(err)
				}
				for i := range ids {
					got[i] = before[i] != after[i]
				}
				return got
			}
			if got := changed(5); got != [3]bool{} {
				t.Errorf("10 rows change other rows' keys: %v", got)
			}
			if got := changed(6); got != [3]bool{true, true, false} {
				t.Errorf("12 rows of two tables change the keys of their tables %v, want of these two", got)
			}
		})
	}
}
