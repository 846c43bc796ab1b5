//go:build alkeybroken

package request

import "fmt"

// SwitchOff breaks the Kit for good, so that a test rig can show that it notices: "guard" (what was
// loaded before a change is stored under the token that came with it). Call it before the Kit is used.
// It exists in builds with the tag alkeybroken only.
func (k *Kit) SwitchOff(rule string) {
	if rule != "guard" {
		panic(fmt.Sprintf("alkey: no rule is called %q", rule))
	}
	k.faults.noGuard = true
}
