package testserver

import (
	"os/exec"
	"runtime"
	"syscall"
)

// spawn starts cmd so that it does not outlive this process, and closes done when it has ended.
func spawn(cmd *exec.Cmd, done chan<- struct{}) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error, 1)
	go func() {
		// The kernel sends the signal when the starting thread ends, not the process: this one
		// stays for as long as the server runs (go.dev/issue/27505).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // that it was killed is no error
			close(done)
		}
	}()
	return <-started
}
