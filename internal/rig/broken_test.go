//go:build linux && alkeybroken

package rig

import (
	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

// switchOff leaves out one rule of the protocol.
func switchOff(store *tokens.Store, kit *request.Kit, rule string) error {
	if rule == "guard" {
		kit.SwitchOff(rule)
	} else {
		store.SwitchOff(rule)
	}
	return nil
}
