package txscope_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	"github.com/alkey-go/alkey/txscope/txscopetest"
)

// No fence gets older than the time between two renewals, however the commits that are under way together
// have begun, and however long their fences take.
func TestRenewalIsNeverLate(t *testing.T) {
	for _, c := range []struct {
		lease, every time.Duration
	}{
		{time.Minute, time.Second},
		{2 * time.Second, 500 * time.Millisecond},
	} {
		t.Run(c.lease.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const commits = 4
				proceed := make(chan struct{})
				d := &fakeDriver{kind: "new", onCommit: func() error { <-proceed; return nil }}
				db, f := wrap(t, d, txscope.Lease(c.lease))
				var mu sync.Mutex
				last := make(map[tokens.Owner]time.Time)
				fences := 0
				f.Backend.OnCall(func(call txscopetest.Call) {
					if call.Op != "fence" {
						return
					}
					mu.Lock()
					now := time.Now()
					if was, again := last[call.Owner]; again {
						if age := now.Sub(was); age > c.every {
							t.Errorf("a fence was %v old when it was renewed", age)
						}
					}
					last[call.Owner] = now
					fences++
					mu.Unlock()
					time.Sleep(time.Millisecond)
				})
				done := make(chan error)
				for range commits {
					tx := begin(t, db)
					go func() { done <- tx.Commit() }()
					time.Sleep(130 * time.Millisecond)
				}
				const renewals = 20
				time.Sleep(renewals * c.every)
				synctest.Wait()
				mu.Lock()
				if want := commits * renewals; fences < want || fences > want+2*commits {
					t.Errorf("fenced %d times, about %d are wanted", fences, want)
				}
				mu.Unlock()
				close(proceed)
				for range commits {
					if err := <-done; err != nil {
						t.Error(err)
					}
				}
				f.Backend.OnCall(nil)
				f.Backend.Ops()
				time.Sleep(time.Minute)
				synctest.Wait()
				if ops := f.Backend.Ops(); len(ops) != 0 {
					t.Errorf("afterwards: %v", ops)
				}
			})
		})
	}
}
