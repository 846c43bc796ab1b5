package tokens

// rules are those of the protocol that a test rig can switch off, to show that it would notice. In a
// normal build none ever is.
type rules uint8

const (
	ruleFence    rules = 1 << iota // Fence puts fences on records
	ruleOwner                      // each transaction has an owner of its own
	ruleIdentity                   // connections and clocks are checked for a loss of the store
	ruleHealth                     // a store is read only while it takes writes
)

func (r rules) has(rule rules) bool { return r&rule != 0 }
