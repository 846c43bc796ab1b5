package txscope

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"reflect"
)

// connector makes wrapped connections.
type connector struct {
	bare   driver.Connector
	db     *database
	shared Database
}

// Connect is part of driver.Connector.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	bare, err := c.bare.Connect(ctx)
	if err != nil {
		return nil, err
	}
	conn := newConn(bare, c.db)
	session, err := c.shared.Session(bare, recorder{conn})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("alkey: writes of a connection could not be seen, so it was closed: %w", err), bare.Close())
	}
	conn.watch(session)
	return conn, nil
}

// Driver returns the bare driver, which callers recognise the database by.
func (c *connector) Driver() driver.Driver { return c.bare.Driver() }

// Close closes the bare connector, if it can be closed.
func (c *connector) Close() error {
	c.db.renewals.close()
	if closer, ok := c.bare.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}

// dsnConnector is what database/sql makes for a driver that makes none itself.
type dsnConnector struct {
	dsn    string
	driver driver.Driver
}

func (c dsnConnector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c dsnConnector) Driver() driver.Driver                        { return c.driver }

func packageOf(d driver.Driver) string {
	t := reflect.TypeOf(d)
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return ""
	}
	return t.PkgPath()
}
