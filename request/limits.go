package request

import (
	"errors"

	"github.com/alkey-go/alkey/tokens"
)

const (
	// defaultMaxIdentifiers is Config's.
	defaultMaxIdentifiers = 10_000

	// maxNamed is how many identifiers a stored value can name, whatever the Kit that has stored it may
	// have allowed: the largest MaxIdentifiers.
	maxNamed = 1_000_000
)

// errTooMany is logged for a request that has asked for too many identifiers.
var errTooMany = errors.New("alkey: a request has asked for more identifiers than Config.MaxIdentifiers: what it asks for beyond is not cached")

// unread stands for the token of an identifier that was not read because the request had asked for too
// many. The token store has no such stamp.
var unread = tokens.Token{Stamp: -1}

// bounded returns what may be read of ids, without what is too much for one request: the memo and what is
// being read for it have MaxIdentifiers at most. So a request that takes its identifiers from its input can
// fill neither the memory of the process nor the token store, which makes what is read. At and all are
// load's: where ids stand, and their tokens, of which those that must not be read become unread. What is
// new is reserved in s.loading until it is in the memo, or is given back. It needs s.mu.
func (s *Scope) bounded(ids []tokens.ID, at []int, all []tokens.Token) (within []tokens.ID, where []int, read []tokens.Token, reserved int) {
	room := s.kit.config.MaxIdentifiers - len(s.memo.list) - s.loading
	if len(ids) > room && s.memo.index == nil {
		s.memo.order()
		room = s.kit.config.MaxIdentifiers - len(s.memo.list) - s.loading
	}
	if len(ids) <= room {
		s.loading += len(ids)
		return ids, at, all, len(ids)
	}
	if at == nil {
		all = make([]tokens.Token, len(ids))
	}
	fits := make(map[tokens.ID]struct{}, max(room, 0))
	for i, id := range ids {
		place := i
		if at != nil {
			place = at[i]
		}
		if _, again := fits[id]; !again {
			if len(fits) >= room {
				all[place] = unread
				continue
			}
			fits[id] = struct{}{}
		}
		within, where = append(within, id), append(where, place)
	}
	s.loading += len(fits)
	return within, where, all, len(fits)
}

// giveBack gives back what was reserved for a read that has failed.
func (s *Scope) giveBack(reserved int) {
	s.mu.Lock()
	s.loading -= reserved
	s.mu.Unlock()
}
