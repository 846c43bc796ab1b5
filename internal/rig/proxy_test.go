//go:build linux

package rig

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// counting is a server that answers every line with the line and its name, and remembers it.
type counting struct {
	listener net.Listener
	name     string
	running  sync.WaitGroup

	mu    sync.Mutex
	lines []string
	conns []net.Conn
}

func serveCounting(t *testing.T, name string) *counting {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &counting{listener: l, name: name}
	s.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			s.running.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		s.running.Wait()
	})
	return s
}

func (s *counting) serve(c net.Conn) {
	defer c.Close()
	for scan := bufio.NewScanner(c); scan.Scan(); {
		s.mu.Lock()
		s.lines = append(s.lines, scan.Text())
		s.mu.Unlock()
		_, _ = io.WriteString(c, scan.Text()+" "+s.name+"\n")
	}
}

// count returns how often the server got a line.
func (s *counting) count(line string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, l := range s.lines {
		if l == line {
			n++
		}
	}
	return n
}

func proxied(t *testing.T) (*Proxy, *counting) {
	s := serveCounting(t, "one")
	p, err := NewProxy(s.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, s
}

type caller struct {
	net.Conn
	*bufio.Reader
}

func dial(t *testing.T, p *Proxy) caller {
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return caller{c, bufio.NewReader(c)}
}

func (c caller) Read(p []byte) (int, error) { return c.Reader.Read(p) }

// call returns the answer to a line, and what of it came if it was cut.
func (c caller) call(t *testing.T, line string) (string, error) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c.Conn, line+"\n"); err != nil {
		return "", err
	}
	text, err := c.ReadString('\n')
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("no answer to %q", line)
	}
	return strings.TrimSuffix(text, "\n"), err
}

func mustCall(t *testing.T, c caller, line, want string) {
	t.Helper()
	if got, err := c.call(t, line); err != nil || got != want {
		t.Fatalf("the answer to %q is %q, %v", line, got, err)
	}
}

func TestProxyPasses(t *testing.T) {
	p, s := proxied(t)
	c := dial(t, p)
	mustCall(t, c, "a", "a one")
	mustCall(t, c, "b", "b one")
	p.Set(Weather{Commands: 3 * time.Millisecond, Replies: 3 * time.Millisecond})
	for range 20 {
		mustCall(t, c, "late", "late one")
	}
	if n := s.count("late"); n != 20 {
		t.Errorf("the server got %d of 20 lines", n)
	}
	p.Set(Weather{Commands: time.Hour, Replies: time.Hour, Scripts: true})
	mustCall(t, c, "get", "get one")
}

func TestProxyRefuses(t *testing.T) {
	p, s := proxied(t)
	c := dial(t, p)
	mustCall(t, c, "a", "a one")
	p.Set(Weather{Refuse: true})
	refused := []caller{c}
	// A connection that is reset right away can be an error of making it, too.
	if conn, err := net.Dial("tcp", p.Addr()); err == nil {
		defer conn.Close()
		refused = append(refused, caller{conn, bufio.NewReader(conn)})
	}
	for _, c := range refused {
		if got, err := c.call(t, "refused"); err == nil {
			t.Errorf("the answer is %q", got)
		}
	}
	if s.count("refused") != 0 {
		t.Error("it arrived all the same")
	}
	p.Set(Weather{})
	mustCall(t, dial(t, p), "b", "b one")
}

func TestProxyDrops(t *testing.T) {
	p, s := proxied(t)
	c := dial(t, p)
	mustCall(t, c, "a", "a one")
	p.Set(Weather{Drop: true})
	for _, c := range []caller{c, dial(t, p)} {
		if _, err := io.WriteString(c.Conn, "dropped\n"); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(30 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("there is an answer, or the connection has ended: %v", err)
		}
	}
	p.Set(Weather{})
	// What has lost something is of no use any more.
	if got, err := c.call(t, "after"); err == nil {
		t.Errorf("the answer is %q", got)
	}
	mustCall(t, dial(t, p), "b", "b one")
	if s.count("dropped") != 0 {
		t.Error("it arrived all the same")
	}
}

func TestProxyCutsReplies(t *testing.T) {
	p, s := proxied(t)
	c := dial(t, p)
	p.Set(Weather{Cut: 1})
	if got, err := c.call(t, "abcdef"); err == nil || got != "abcde" {
		t.Errorf("half of the answer is %q, %v", got, err)
	}
	if s.count("abcdef") != 1 {
		t.Error("it did not arrive")
	}
}

func TestProxyLosesReplies(t *testing.T) {
	p, s := proxied(t)
	p.Set(Weather{Repeat: 1})
	if got, err := dial(t, p).call(t, "again"); err == nil || got != "" {
		t.Errorf("the answer is %q, %v", got, err)
	}
	p.Set(Weather{})
	mustCall(t, dial(t, p), "again", "again one")
	if n := s.count("again"); n != 2 {
		t.Errorf("it was carried out %d times", n)
	}
}

func TestProxyDeliversLate(t *testing.T) {
	p, s := proxied(t)
	p.Set(Weather{Late: 1})
	if got, err := dial(t, p).call(t, "tardy"); err == nil {
		t.Errorf("the answer is %q", got)
	}
	if err := until(20*time.Second, "the late command", func() (bool, error) { return s.count("tardy") == 1, nil }); err != nil {
		t.Error(err)
	}
}

// A client that dies takes along what was held back.
func TestProxyHoldsBack(t *testing.T) {
	p, s := proxied(t)
	p.Set(Weather{Commands: time.Hour})
	c := dial(t, p)
	if _, err := io.WriteString(c.Conn, "unsent\n"); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if err := until(20*time.Second, "the end of the connection", func() (bool, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.links) == 0, nil
	}); err != nil {
		t.Fatal(err)
	}
	if s.count("unsent") != 0 {
		t.Error("it arrived all the same")
	}
}

func TestProxyRetargets(t *testing.T) {
	p, _ := proxied(t)
	c := dial(t, p)
	mustCall(t, c, "a", "a one")
	p.Retarget(serveCounting(t, "two").listener.Addr().String())
	mustCall(t, c, "b", "b one")
	mustCall(t, dial(t, p), "c", "c two")
	p.Reset()
	if got, err := c.call(t, "d"); err == nil {
		t.Errorf("the answer is %q", got)
	}
	mustCall(t, dial(t, p), "e", "e two")
}
