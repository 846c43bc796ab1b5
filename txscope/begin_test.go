package txscope_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/alkey-go/alkey/txscope"
)

// A BEGIN by the API that commits what was begun by text is a commit like any other.
func TestBeginCommitsWhatIsOpen(t *testing.T) {
	for _, c := range []struct {
		name    string
		strict  bool // and the store is down
		fails   bool
		want    []string
		changed bool
	}{
		{"plain", false, false, []string{"exec BEGIN []", "exec WRITE []", "fence", "begin {Isolation:0 ReadOnly:false}", "publish", "rollback"}, true},
		{"refused", true, false, []string{"exec BEGIN []", "exec WRITE []", "fence"}, false},
		{"it fails", false, true, []string{"exec BEGIN []", "exec WRITE []", "fence", "begin {Isolation:0 ReadOnly:false}", "release"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var opts []txscope.Option
			if c.strict {
				opts = append(opts, txscope.Strict())
			}
			s := newSeam(t, opts...)
			failure := errors.New("no")
			s.d.on = func(call string) error {
				if c.fails && call == "begin {Isolation:0 ReadOnly:false}" {
					return failure
				}
				return nil
			}
			s.d.begin = func(session *seamSession) error {
				err := session.rec.Committing()
				if err == nil {
					session.c.inTx = false
				}
				return err
			}
			conn, err := s.db.Conn(t.Context())
			s.must(err)
			was := s.Stamp(row1)
			s.exec(conn, t.Context(), "BEGIN")
			s.exec(conn, t.Context(), "WRITE")
			s.Backend.SetDown(c.strict)
			tx, err := conn.BeginTx(t.Context(), nil)
			switch {
			case c.strict:
				if !errors.Is(err, txscope.ErrFence) {
					t.Errorf("got %v", err)
				}
			case c.fails:
				if !errors.Is(err, failure) {
					t.Errorf("got %v", err)
				}
			default:
				s.must(err)
				s.must(tx.Rollback())
			}
			got := s.calls()
			if len(got) < len(c.want) || !slices.Equal(got[:len(c.want)], c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			s.Backend.SetDown(false)
			if !c.strict {
				if now := s.Stamp(row1) != was; now != c.changed {
					t.Errorf("changed: %v", now)
				}
			}
			s.must(conn.Close())
		})
	}
}

// What was announced and has not come about leaves the transaction open, and is published when that
// commits.
func TestOngoing(t *testing.T) {
	s := newSeam(t)
	s.d.before = func(session *seamSession, call *txscope.Call) {
		switch call.Query {
		case "WRITE":
			session.rec.Add(row1)
		case "MAYBE":
			_ = session.rec.Committing()
		}
	}
	s.d.after = func(session *seamSession, call *txscope.Call) {
		if call.Query == "MAYBE" {
			session.rec.Ongoing()
		}
	}
	was := s.Stamp(row1)
	tx, err := s.db.BeginTx(t.Context(), nil)
	s.must(err)
	s.exec(tx, t.Context(), "WRITE")
	s.exec(tx, t.Context(), "MAYBE")
	if !s.Fenced(row1) {
		t.Error("it was published")
	}
	s.must(tx.Commit())
	if s.Stamp(row1) == was || s.Fenced(row1) {
		t.Error("the commit has not changed it")
	}
}
