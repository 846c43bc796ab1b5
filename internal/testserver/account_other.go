//go:build !unix

package testserver

import (
	"io/fs"
	"os/exec"
)

// account is the user that runs a server: oneself.
type account struct{}

func unprivileged() (account, error) { return account{}, nil }

func (account) run(*exec.Cmd) {}

func (account) own(string) error { return nil }

// private tells whether a folder is one. Who may write to it is left to the system, which gives
// every user folders of his own.
func private(dir fs.FileInfo) bool { return dir.IsDir() }
