//go:build linux && !alkeybroken

package rig

import (
	"errors"

	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

func switchOff(*tokens.Store, *request.Kit, string) error {
	return errors.New("rig: rules can be switched off only in a program that was built with -tags alkeybroken")
}
