package tokens

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// dialing is a hook by which a client dials for a moment, and never stops to. Go-redis by itself dials for half a
// second, tells everybody who comes what the last dial came to when as many as its pool is large have failed, and
// dials once a second from then on. The Store does better: it asks a server that is away for nothing but
// whether it is back.
type dialing struct{}

// redialing is how long a server is dialled again that refuses a connection: it may have been restarted, and a
// commit that cannot be fenced may be refused.
const redialing = 150 * time.Millisecond

// DialHook is part of redis.Hook.
func (dialing) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		begin := time.Now()
		for pause := 10 * time.Millisecond; ; pause *= 2 {
			c, err := next(ctx, network, addr)
			if err == nil {
				return c, nil
			}
			left := redialing - time.Since(begin)
			if left <= 0 || !waitFor(ctx, min(pause, left)) {
				return unreached{dialError{err}}, nil
			}
		}
	}
}

// waitFor waits, and is false if ctx ends before.
func waitFor(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ProcessHook is part of redis.Hook.
func (dialing) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook is part of redis.Hook.
func (dialing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// unreached stands for a connection that could not be made. Its first use fails as the dial did, and a client
// does not use it again. Where nobody waits for it any more a client keeps it for the next, and finds it broken then.
type unreached struct{ err error }

func (c unreached) Read([]byte) (int, error)         { return 0, c.err }
func (c unreached) Write([]byte) (int, error)        { return 0, c.err }
func (c unreached) Close() error                     { return nil }
func (c unreached) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c unreached) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c unreached) SetDeadline(time.Time) error      { return nil }
func (c unreached) SetReadDeadline(time.Time) error  { return nil }
func (c unreached) SetWriteDeadline(time.Time) error { return nil }

// SyscallConn is what a client checks a connection with that it has kept.
func (c unreached) SyscallConn() (syscall.RawConn, error) { return nil, c.err }

// dialError is the error of a dial. It hides of what type that is: a client would use the same unreached again and
// again, with a pause before each time, and then others.
type dialError struct{ err error }

func (e dialError) Error() string        { return e.err.Error() }
func (e dialError) Is(target error) bool { return errors.Is(e.err, target) }
