package datalayers

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"testing"

	"github.com/XSAM/otelsql"

	"github.com/alkey-go/alkey/txscope"
)

// TestTelemetryAbove has otelsql go around the connector that Wrap returns: all is seen.
func TestTelemetryAbove(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		db := otelsql.OpenDB(f.wrap(t))
		t.Cleanup(func() { must(t, db.Close()) })
		f.run(t, plainSteps(f, db))
	})
}

// TestTelemetryBelow has Wrap go around otelsql, which hides the driver: nothing is written unseen,
// and the error says what to do.
func TestTelemetryBelow(t *testing.T) {
	explained := func(t *testing.T, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "goes around the connector that txscope.Wrap returns") {
			t.Errorf("the error does not say where telemetry goes: %v", err)
		}
	}
	onEach(t, func(t *testing.T, f *fixture) {
		bare := f.bareConnector(t).Driver()
		below := instrumented{f.dsn, otelsql.WrapDriver(bare), nil}
		_, err := txscope.Wrap(below, f.store)
		explained(t, err)
		if !errors.Is(err, txscope.ErrNoCapture) {
			t.Errorf("the error is not ErrNoCapture: %v", err)
		}

		// One that tells what it wraps is found out at the first connection.
		below.tells = bare
		c, err := txscope.Wrap(below, f.store)
		must(t, err)
		db := sql.OpenDB(c)
		defer func() { must(t, db.Close()) }()
		explained(t, db.PingContext(t.Context()))
	})
}

// instrumented connects through a driver that otelsql has wrapped.
type instrumented struct {
	dsn     string
	wrapped driver.Driver
	tells   driver.Driver // for its driver; nil: the wrapped one
}

func (c instrumented) Connect(context.Context) (driver.Conn, error) { return c.wrapped.Open(c.dsn) }

func (c instrumented) Driver() driver.Driver {
	if c.tells != nil {
		return c.tells
	}
	return c.wrapped
}
