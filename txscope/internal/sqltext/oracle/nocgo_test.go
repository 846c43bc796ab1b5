//go:build !cgo

package oracle

import (
	"os"
	"testing"
)

// TestPostgres cannot run, which is an error where everything must: see internal/testserver.RequireEnv.
func TestPostgres(t *testing.T) {
	const missing = "PostgreSQL's parser needs a C compiler: set CGO_ENABLED=1 and install one"
	if os.Getenv("ALKEY_REQUIRE_SERVERS") == "1" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}
