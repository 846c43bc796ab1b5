//go:build alkeybroken

package tokens

import (
	"fmt"
)

// SwitchOff breaks the protocol for good, so that a test rig can show that it notices: "fence" (Fence
// does nothing and succeeds), "owner" (all transactions have the same), "identity" (a loss of the
// store is not looked for, and a missing clock is made anew without a sweep) or "health" (a store that
// takes no writes is read all the same). Call it before the Store is used. It exists in builds with
// the tag alkeybroken only.
func (s *Store) SwitchOff(rule string) {
	off, ok := map[string]rules{"fence": ruleFence, "owner": ruleOwner, "identity": ruleIdentity, "health": ruleHealth}[rule]
	if !ok {
		panic(fmt.Sprintf("alkey: no rule is called %q", rule))
	}
	s.off |= off
	if b, ok := s.backend.(interface{ switchOff(rules) }); ok {
		b.switchOff(off)
	}
}

func (b *Redis) switchOff(off rules) { b.off |= off }
