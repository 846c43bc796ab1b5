package testserver

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
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

// children returns the processes that pid has started and that are there. Without the file of the
// kernel that names them there are none.
func children(pid int) []*os.Process {
	named := func() []string {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		return strings.Fields(string(text))
	}
	var found []*os.Process
	for _, name := range named() {
		child, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		process, err := os.FindProcess(child)
		if err != nil {
			continue
		}
		// The handle stays with one process, and this says that it is the right one.
		if !slices.Contains(named(), name) {
			_ = process.Release()
			continue
		}
		found = append(found, process)
	}
	return found
}
