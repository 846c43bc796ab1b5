package rig

import (
	"bytes"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Proxy is a TCP proxy on loopback that does to connections what networks and servers do to them at
// their worst. It is made for protocols in which a client sends a command and waits for its reply, as
// Redis's: what arrives at once counts as one. Safe for concurrent use.
type Proxy struct {
	listener net.Listener
	done     chan struct{}
	running  sync.WaitGroup

	mu      sync.Mutex
	target  string
	weather Weather
	links   map[*link]struct{}
}

// Weather is what a Proxy does to what passes. The zero value lets everything pass at once.
type Weather struct {
	Refuse bool // connections are reset, new ones too
	Drop   bool // nothing arrives, in either direction; the connections stay open

	// Commands and Replies are held back for a random time each, up to this long.
	Commands, Replies time.Duration
	// Scripts says that only the commands are that run scripts of Redis: those that read pass at once.
	Scripts bool

	// The probabilities, for each command: that its reply is cut in the middle; that the server carries
	// it out and the connection ends without a reply, so that the client sends it again; and that the
	// connection ends, and the server gets it all the same, some time later.
	Cut, Repeat, Late float64
}

// lateness is how late a late command is at most. It is longer than a client tries to repeat it.
const lateness = time.Second

// NewProxy starts a proxy before the server at target.
func NewProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target, links: make(map[*link]struct{}), done: make(chan struct{})}
	p.running.Go(p.accept)
	return p, nil
}

// Addr returns the address to connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Set changes the weather. Connections that have lost something are reset when it no longer drops.
func (p *Proxy) Set(w Weather) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.weather = w
	for l := range p.links {
		if w.Refuse || l.lost && !w.Drop {
			l.reset()
		}
	}
}

// Retarget connects to another server from now on. Open connections stay where they are.
func (p *Proxy) Retarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Reset ends all connections.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
}

// Close ends everything.
func (p *Proxy) Close() {
	p.mu.Lock()
	select {
	case <-p.done:
	default:
		close(p.done)
		_ = p.listener.Close()
	}
	p.mu.Unlock()
	p.Reset()
	p.running.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		l := &link{proxy: p, client: client, target: p.target, ended: make(chan struct{})}
		p.links[l] = struct{}{}
		select {
		case <-p.done:
			l.reset()
		default:
			if p.weather.Refuse {
				l.reset()
			}
		}
		p.mu.Unlock()
		p.running.Go(l.run)
	}
}

// chance reports true with a probability.
func chance(probability float64) bool { return probability > 0 && rand.Float64() < probability }

// upTo is a random time.
func upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

// link is one connection of a client, and the one to the server that belongs to it.
type link struct {
	proxy  *Proxy
	client net.Conn
	target string

	// Guarded by proxy.mu.
	server net.Conn // nil: not yet
	lost   bool     // something was dropped: the rest means nothing
	over   bool

	ended chan struct{}
}

// chunk is what arrived at once.
type chunk struct {
	data []byte
	due  time.Time
}

// weather asks what to do; it notes if that is to lose something.
func (l *link) weather() Weather {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	w := l.proxy.weather
	l.lost = l.lost || w.Drop
	w.Drop = l.lost
	return w
}

// reset ends both connections, without a goodbye where there is somebody to hear it. It needs proxy.mu.
func (l *link) reset() {
	if l.over {
		return
	}
	l.over = true
	close(l.ended)
	abort(l.client)
	if l.server != nil {
		abort(l.server)
	}
}

func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

func (l *link) end() {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	l.reset()
}

// run carries both directions until one ends.
func (l *link) run() {
	defer func() {
		l.end()
		l.proxy.mu.Lock()
		delete(l.proxy.links, l)
		l.proxy.mu.Unlock()
	}()
	commands := make(chan chunk, 64)
	var all sync.WaitGroup
	defer all.Wait()
	// A client that is gone takes along what was held back: of a process that dies, some bytes never leave.
	all.Go(func() {
		defer l.end()
		defer close(commands)
		l.receive(l.client, commands, func(w Weather, data []byte) time.Duration {
			if w.Scripts && !bytes.Contains(data, []byte("evalsha")) {
				return 0
			}
			return w.Commands
		})
	})
	// While packets are dropped, a connection is accepted and hangs.
	if l.weather().Drop {
		<-l.ended
		for range commands {
		}
		return
	}
	server, err := net.DialTimeout("tcp", l.target, time.Second)
	l.proxy.mu.Lock()
	if err == nil && l.over {
		abort(server)
	} else if err == nil {
		l.server = server
	}
	gone := err != nil || l.over
	l.proxy.mu.Unlock()
	if gone {
		l.end()
		for range commands {
		}
		return
	}
	replies := make(chan chunk, 64)
	all.Go(func() {
		defer close(replies)
		l.receive(server, replies, func(w Weather, _ []byte) time.Duration {
			if w.Scripts {
				return 0
			}
			return w.Replies
		})
	})
	all.Go(func() {
		for c := range commands {
			if !l.command(server, c) {
				l.end()
			}
		}
	})
	for c := range replies {
		if !l.reply(c) {
			l.end()
		}
	}
	l.end()
}

// receive reads until the connection ends.
func (l *link) receive(from net.Conn, to chan<- chunk, delay func(Weather, []byte) time.Duration) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if w := l.weather(); !w.Drop {
				select {
				case to <- chunk{append([]byte(nil), buffer[:n]...), time.Now().Add(upTo(delay(w, buffer[:n])))}:
				case <-l.ended:
					return
				}
			}
		}
		if err != nil {
			return
		}
	}
}

// await waits until a chunk is due. It is false if the link has ended before.
func (l *link) await(c chunk) bool {
	timer := time.NewTimer(time.Until(c.due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ended:
		return false
	}
}

// command passes a command on. It is false if that is the link's end.
func (l *link) command(server net.Conn, c chunk) bool {
	if !l.await(c) {
		return false
	}
	w := l.weather()
	switch {
	case w.Drop:
		return true
	case chance(w.Late):
		l.proxy.running.Go(func() { l.proxy.deliver(l.target, c.data, upTo(lateness)) })
		return false
	}
	_, err := server.Write(c.data)
	return err == nil
}

// reply passes a reply on. It is false if that is the link's end.
func (l *link) reply(c chunk) bool {
	if !l.await(c) {
		return false
	}
	w := l.weather()
	switch {
	case w.Drop:
		return true
	case chance(w.Repeat):
		return false
	case chance(w.Cut):
		if n := len(c.data) / 2; n > 0 {
			_, _ = l.client.Write(c.data[:n])
			// Not a reset, which would take the bytes back that the client has not read.
			l.proxy.mu.Lock()
			if tcp, ok := l.client.(*net.TCPConn); ok && !l.over {
				_ = tcp.CloseWrite()
			}
			l.proxy.mu.Unlock()
			l.await(chunk{due: time.Now().Add(50 * time.Millisecond)})
		}
		return false
	}
	_, err := l.client.Write(c.data)
	return err == nil
}

// deliver gives a server a command whose client is gone, after a while, on a connection of its own.
func (p *Proxy) deliver(target string, data []byte, after time.Duration) {
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.done:
		return
	}
	server, err := net.DialTimeout("tcp", target, time.Second)
	if err != nil {
		return
	}
	defer server.Close()
	_ = server.SetDeadline(time.Now().Add(time.Second))
	if _, err := server.Write(data); err == nil {
		_, _ = server.Read(make([]byte, 1<<10))
	}
}
