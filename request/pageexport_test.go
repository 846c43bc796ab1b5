package request

// MaxPageNotes is how many pages a Kit remembers something of.
const MaxPageNotes = 2 * maxPageNotes

// PageNotes returns of how many it does.
func (k *Kit) PageNotes() int {
	k.pages.mu.RLock()
	defer k.pages.mu.RUnlock()
	return len(k.pages.young) + len(k.pages.old)
}
