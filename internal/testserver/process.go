package testserver

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// startLimit is how long a server may take to answer.
const startLimit = 20 * time.Second

// process is a server's program. The zero value is one that does not run.
type process struct {
	cmd  *exec.Cmd
	log  *output
	done chan struct{} // closed when the process has been waited for
}

// start runs cmd and returns when answers has nothing against it any more.
func (p *process) start(cmd *exec.Cmd, answers func() error) error {
	p.log = new(output)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	done := make(chan struct{})
	if err := spawn(cmd, done); err != nil {
		return err
	}
	p.cmd, p.done = cmd, done

	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		err := answers()
		select {
		case <-done:
			p.cmd = nil
			return fmt.Errorf("it ended at once:\n%s", p.log)
		default:
		}
		if err == nil {
			return nil
		}
		select {
		case <-done:
		case <-ctx.Done():
			p.kill()
			return fmt.Errorf("no answer within %v (%w):\n%s", startLimit, err, p.log)
		case <-tick.C:
		}
	}
}

// pid returns the process id, 0 while it does not run.
func (p *process) pid() int {
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// again starts a server of the name that does not run.
func (p *process) again(t T, name string, start func() error) {
	t.Helper()
	if p.pid() != 0 {
		t.Fatalf("%s runs already", name)
	}
	if err := start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// kill ends the process and returns when it is gone, and with it all that it has started and that
// prints where it does. Calling it again does nothing.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // an error says that it is gone already
	<-p.done
	p.cmd = nil
}

// site is where a database server runs.
type site struct {
	account account
	dir     string // belongs to account
	port    int
}

// data is the server's data folder.
func (s *site) data() string { return filepath.Join(s.dir, "data") }

// settle makes the site, with a data folder that is a copy of tpl's, and calls start for a free port. From
// when there is something to remove, remove is called at the test's end.
func (s *site) settle(t T, name string, tpl template, start func() error, remove func()) error {
	var err error
	if s.account, err = unprivileged(); err != nil {
		return err
	}
	if s.dir, err = s.account.mkdirTemp("alkey-" + name + "-"); err != nil {
		return err
	}
	t.Cleanup(remove)
	tpl.account = s.account
	if err := tpl.copyTo(s.data()); err != nil {
		return err
	}
	return onFreePort(func(port int) error {
		s.port = port
		return start()
	})
}

// onFreePort calls start with one free port after the other: another process may take a port before
// the server does.
func onFreePort(start func(port int) error) error {
	var err error
	for range 5 {
		var port int
		if port, err = freePort(); err != nil {
			continue
		}
		if err = start(port); err == nil {
			return nil
		}
	}
	return err
}

// freePort asks the system for a port that nobody uses now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// output keeps what a server prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
