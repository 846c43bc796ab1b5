package mysql

import (
	"database/sql/driver"
	"fmt"
	"reflect"
	"sync/atomic"

	"github.com/go-sql-driver/mysql"
)

// wire is what the driver knows of a connection and keeps to itself. Whether a transaction is open the
// server tells with every answer, and the driver notes it; there is no other way to learn it without
// a round trip.
type wire struct {
	status   *uint16 // the server's status flags, as of its last answer that had any
	closed   *atomic.Bool
	watching *bool // a context is watched for the statement that runs, or for rows that are not closed
	config   *mysql.Config

	packets  *[]byte // where packets are read into
	compress *bool
}

// Status flags of the protocol.
const (
	inTransaction = 1 << 0
	autocommit    = 1 << 1
)

// wireOf reaches for the fields of the driver's connection. Where they are not what they are known to
// be, nothing could be relied on.
func wireOf(conn driver.Conn) (wire, error) {
	v := reflect.ValueOf(conn)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Type().PkgPath() != reflect.TypeFor[mysql.MySQLDriver]().PkgPath() {
		return wire{}, fmt.Errorf("alkey: a connection of type %T hides that of github.com/go-sql-driver/mysql: what wraps connections, for telemetry say, goes around the connector that txscope.Wrap returns, not into the one that Wrap is given", conn)
	}
	unknown := fmt.Errorf("alkey: this version of github.com/go-sql-driver/mysql, with connections of type %T, is not known to the capture: use the one that alkey's go.mod names", conn)
	if _, ok := conn.(bareConn); !ok || v.Elem().Kind() != reflect.Struct {
		return wire{}, unknown
	}
	field := func(name string) reflect.Value { return v.Elem().FieldByName(name) }
	status, closed, watching, config, compress := field("status"), field("closed"), field("watching"), field("cfg"), field("compress")
	var packets reflect.Value
	if buf := field("buf"); buf.IsValid() && buf.Kind() == reflect.Struct {
		packets = buf.FieldByName("cachedBuf")
	}
	switch {
	case !status.IsValid() || status.Kind() != reflect.Uint16,
		!closed.IsValid() || closed.Type() != reflect.TypeFor[atomic.Bool](),
		!watching.IsValid() || watching.Kind() != reflect.Bool,
		!config.IsValid() || config.Type() != reflect.TypeFor[*mysql.Config]() || config.IsNil(),
		!packets.IsValid() || packets.Type() != reflect.TypeFor[[]byte](),
		!compress.IsValid() || compress.Kind() != reflect.Bool:
		return wire{}, unknown
	}
	return wire{
		status:   (*uint16)(status.Addr().UnsafePointer()),
		closed:   (*atomic.Bool)(closed.Addr().UnsafePointer()),
		watching: (*bool)(watching.Addr().UnsafePointer()),
		config:   (*mysql.Config)(config.UnsafePointer()),
		packets:  (*[]byte)(packets.Addr().UnsafePointer()),
		compress: (*bool)(compress.Addr().UnsafePointer()),
	}, nil
}

// bareConn is what the driver's connections can do.
type bareConn interface {
	driver.Conn
	driver.ExecerContext
	driver.QueryerContext
	driver.ConnPrepareContext
	driver.Pinger
}

// dead reports whether the connection is closed, by the driver too, which does so when a context ends
// or the network fails.
func (w *wire) dead() bool { return w.closed.Load() }

func (w *wire) has(flag uint16) bool { return *w.status&flag != 0 }

// unread reports whether the server has more to send of rows that the driver gave. In doubt it is true.
func unread(rows driver.Rows) bool {
	v := reflect.ValueOf(rows)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return true
	}
	conn := v.Elem().FieldByName("mc") // nil when the last row was read
	return !conn.IsValid() || conn.Kind() != reflect.Pointer || !conn.IsNil()
}

// The server tells how many rows an UPDATE has matched, and how many of them it has changed, in the text
// that goes with its answer: "Rows matched: 3  Changed: 2  Warnings: 0", in whatever language. The driver
// makes nothing of it, but it is there, in the buffer that the answer was read into.

// forget wipes what the buffer holds of an earlier answer. The connection must not be busy.
func (w *wire) forget() { clear((*w.packets)[:min(len(*w.packets), 64)]) }

// matched reads the number of rows that an UPDATE has matched from the answer that came since forget. It
// is false if there is no such answer in the buffer.
func (w *wire) matched(affected int64) (int64, bool) {
	if w.config.ClientFoundRows {
		return affected, true
	}
	b := *w.packets
	if *w.compress || len(b) < 4 || b[3] != 1 {
		return 0, false
	}
	size := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
	if size > len(b)-4 {
		return 0, false
	}
	a := answer{b[4 : 4+size]}
	if first, ok := a.byte(); !ok || first != 0 {
		return 0, false // no OK
	}
	if n, ok := a.integer(); !ok || n != uint64(affected) {
		return 0, false
	}
	if _, ok := a.integer(); !ok { // LastInsertId
		return 0, false
	}
	if len(a.rest) < 4 || uint16(a.rest[0])|uint16(a.rest[1])<<8 != *w.status {
		return 0, false
	}
	a.rest = a.rest[4:] // the status and the number of warnings
	text := a
	if size, ok := text.integer(); ok && size == uint64(len(text.rest)) {
		a = text // its length goes before it
	}
	matched, ok1 := a.number()
	changed, ok2 := a.number()
	return matched, ok1 && ok2 && changed == affected && matched >= changed
}

// answer is what is unread of an OK packet.
type answer struct{ rest []byte }

func (a *answer) byte() (byte, bool) {
	if len(a.rest) == 0 {
		return 0, false
	}
	b := a.rest[0]
	a.rest = a.rest[1:]
	return b, true
}

// integer reads an integer that says how long it is.
func (a *answer) integer() (n uint64, ok bool) {
	first, ok := a.byte()
	size := 0
	switch first {
	case 0xfb, 0xff:
		return 0, false
	case 0xfc:
		size = 2
	case 0xfd:
		size = 3
	case 0xfe:
		size = 8
	default:
		return uint64(first), ok
	}
	for i := range size {
		b, more := a.byte()
		if !more {
			return 0, false
		}
		n |= uint64(b) << (8 * i)
	}
	return n, true
}

// number reads the next number that stands in the text, in decimal.
func (a *answer) number() (n int64, ok bool) {
	for len(a.rest) > 0 && (a.rest[0] < '0' || a.rest[0] > '9') {
		a.rest = a.rest[1:]
	}
	for len(a.rest) > 0 && a.rest[0] >= '0' && a.rest[0] <= '9' && n < 1<<58 {
		n, ok = 10*n+int64(a.rest[0]-'0'), true
		a.rest = a.rest[1:]
	}
	return n, ok
}
