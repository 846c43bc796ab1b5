package tokenstest

import (
	"errors"
	"testing"
	"time"

	"github.com/alkey-go/alkey/tokens"
)

// Ready waits until nothing in the store is fenced as a whole: on a server that alkey has not met
// before, or that was lost, everything is for two seconds.
func Ready(t testing.TB, s *tokens.Store) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var err error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); <-tick.C {
		if _, err = tokens.Get(t.Context(), s, tokens.Global); err == nil {
			return
		}
		if !errors.Is(err, tokens.ErrFenced) && !errors.Is(err, tokens.ErrDown) {
			break
		}
	}
	t.Fatalf("the store is not ready: %v", err)
}
