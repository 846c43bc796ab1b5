// Package drivers registers the drivers that the suites of others are run over: compat-sqlite3,
// compat-postgres and compat-mysql. With ALKEY_COMPAT_DRIVER=wrapped in the environment they are
// captured by txscope.Wrap, else bare. Either way they are the same Go drivers, whatever the suite
// would have used.
package drivers

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"os"
	"sync"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"

	"github.com/alkey-go/alkey/tokens"
	"github.com/alkey-go/alkey/txscope"
	_ "github.com/alkey-go/alkey/txscope/mysql"
	_ "github.com/alkey-go/alkey/txscope/postgres"
	_ "github.com/alkey-go/alkey/txscope/sqlite"
)

// Environment names the variable that wraps the drivers.
const Environment = "ALKEY_COMPAT_DRIVER"

func init() {
	sql.Register("compat-sqlite3", opener(func(path string) (driver.Connector, error) {
		// As mattn/go-sqlite3 has it, which the suites are written for: it waits when the database is
		// busy, tells that a column of dates holds times, and reads nothing before the first row is
		// asked for, so that rows which a test leaves open hold off no writer.
		return sqlite.NewConnector(path + "?_pragma=busy_timeout(5000)&_texttotime=1&_pragma=journal_mode(WAL)")
	}))
	sql.Register("compat-mysql", opener(mysql.MySQLDriver{}.OpenConnector))
	sql.Register("compat-postgres", opener(func(dsn string) (driver.Connector, error) {
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		return stdlib.GetConnector(*config), nil
	}))
}

// opener is a driver for sql.Open.
type opener func(dsn string) (driver.Connector, error)

var _ driver.DriverContext = opener(nil)

// Open is part of driver.Driver.
func (o opener) Open(dsn string) (driver.Conn, error) {
	c, err := o.OpenConnector(dsn)
	if err != nil {
		return nil, err
	}
	return c.Connect(context.Background())
}

// OpenConnector is part of driver.DriverContext.
func (o opener) OpenConnector(dsn string) (driver.Connector, error) {
	c, err := o(dsn)
	if err != nil || os.Getenv(Environment) != "wrapped" {
		return c, err
	}
	return txscope.Wrap(c, store())
}

// store is the token store of the process, which ends with it.
var store = sync.OnceValue(tokens.NewMemory)
