//go:build !cgo

package oracle

import "testing"

func TestPostgres(t *testing.T) {
	t.Skip("PostgreSQL's parser needs a C compiler: set CGO_ENABLED=1 and install one")
}
