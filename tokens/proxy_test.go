package tokens_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy stands between clients and one server after another, as a virtual address does.
type proxy struct {
	listener net.Listener
	all      sync.WaitGroup

	mu     sync.Mutex
	target string // "": connections are refused
	conns  map[net.Conn]struct{}
	held   chan struct{} // replies wait for it to be closed; nil: none do
	caught chan struct{} // closed when a reply waits
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target, conns: make(map[net.Conn]struct{})}
	p.all.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.pass()
		p.point("")
		p.all.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// point sends new connections elsewhere, and cuts those that are open.
func (p *proxy) point(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

// hold keeps the replies on the connections that are open, from now on. What it returns is closed when one
// is there.
func (p *proxy) hold() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held, p.caught = make(chan struct{}), make(chan struct{})
	return p.caught
}

// let keeps no replies on connections that are opened from now on.
func (p *proxy) let() (pass func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := p.held
	p.held, p.caught = nil, nil
	return sync.OnceFunc(func() { close(held) })
}

// pass lets everything through.
func (p *proxy) pass() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		close(p.held)
		p.held, p.caught = nil, nil
	}
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.all.Go(func() { p.serve(c) })
	}
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	if target == "" {
		return
	}
	s, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer s.Close()
	p.mu.Lock()
	if p.target != target {
		p.mu.Unlock()
		return
	}
	p.conns[c], p.conns[s] = struct{}{}, struct{}{}
	p.mu.Unlock()
	p.all.Go(func() {
		defer s.Close()
		_, _ = io.Copy(s, c)
	})
	buffer := make([]byte, 1<<16)
	for {
		n, err := s.Read(buffer)
		if n > 0 {
			p.wait()
			if _, err := c.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) wait() {
	p.mu.Lock()
	held, caught := p.held, p.caught
	if caught != nil {
		select {
		case <-caught:
		default:
			close(caught)
		}
	}
	p.mu.Unlock()
	if held != nil {
		<-held
	}
}
