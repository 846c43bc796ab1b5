package request

import (
	"slices"

	"github.com/alkey-go/alkey/tokens"
)

// memo holds the tokens that a request has read, in the order in which it asked. Most requests ask for no more
// than a few, and a page that prefetches its rows asks for them again in the same order, so the place after
// the last that was found is looked at first. An index is made when that does not help. What was read
// first, and at once, may be there more than once until there is an index.
type memo struct {
	list  []remembered
	index map[tokens.ID]int // of list; nil, or of all
	next  int               // in list
}

type remembered struct {
	id    tokens.ID
	token tokens.Token
}

const few = 8

func (m *memo) get(id tokens.ID) (tokens.Token, bool) {
	if m.next < len(m.list) && m.list[m.next].id == id {
		m.next++
		return m.list[m.next-1].token, true
	}
	at := m.find(id)
	if at < 0 {
		return tokens.Token{}, false
	}
	m.next = at + 1
	return m.list[at].token, true
}

// find returns the place of id in the list, -1 for none.
func (m *memo) find(id tokens.ID) int {
	if m.index == nil && len(m.list) > few {
		m.order()
	}
	if m.index != nil {
		if at, ok := m.index[id]; ok {
			return at
		}
		return -1
	}
	for i := range m.list {
		if m.list[i].id == id {
			return i
		}
	}
	return -1
}

// order makes the index, and drops what is there again.
func (m *memo) order() {
	m.index, m.next = make(map[tokens.ID]int, 2*len(m.list)), 0
	kept := m.list[:0]
	for _, r := range m.list {
		if _, again := m.index[r.id]; !again {
			m.index[r.id] = len(kept)
			kept = append(kept, r)
		}
	}
	clear(m.list[len(kept):])
	m.list = kept
}

func (m *memo) empty() bool { return len(m.list) == 0 }

// expect makes room for n more.
func (m *memo) expect(n int) { m.list = slices.Grow(m.list, n) }

// put adds what is not there, or what is read together with it.
func (m *memo) put(id tokens.ID, t tokens.Token) {
	if m.index != nil {
		m.index[id] = len(m.list)
	}
	m.list = append(m.list, remembered{id, t})
}

// forget drops what the changes affect.
func (m *memo) forget(changes *tokens.Changes) {
	m.index, m.next = nil, 0
	m.list = slices.DeleteFunc(m.list, func(r remembered) bool { return changes.Affect(r.id) })
}
