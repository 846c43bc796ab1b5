package request

import (
	"slices"

	"github.com/alkey-go/alkey/tokens"
)

// memo holds the tokens that a request has read, in a list until somebody looks for one among more than a few:
// most requests ask for no more than a few, and a page that finds all its values looks for none.
type memo struct {
	list  []remembered
	index map[tokens.ID]tokens.Token // has all, if there is one
}

type remembered struct {
	id    tokens.ID
	token tokens.Token
}

const few = 8

func (m *memo) get(id tokens.ID) (tokens.Token, bool) {
	if m.index == nil && len(m.list) > few {
		m.index = make(map[tokens.ID]tokens.Token, 2*len(m.list))
		for _, r := range m.list {
			m.index[r.id] = r.token
		}
		m.list = nil
	}
	if m.index != nil {
		t, ok := m.index[id]
		return t, ok
	}
	for i := range m.list {
		if m.list[i].id == id {
			return m.list[i].token, true
		}
	}
	return tokens.Token{}, false
}

func (m *memo) empty() bool { return len(m.list)+len(m.index) == 0 }

// expect makes room for n more.
func (m *memo) expect(n int) {
	if m.index == nil {
		m.list = slices.Grow(m.list, n)
	}
}

// put adds what is not there.
func (m *memo) put(id tokens.ID, t tokens.Token) {
	if m.index != nil {
		m.index[id] = t
		return
	}
	m.list = append(m.list, remembered{id, t})
}

// forget drops what the changes affect.
func (m *memo) forget(changes *tokens.Changes) {
	for id := range m.index {
		if changes.Affect(id) {
			delete(m.index, id)
		}
	}
	kept := m.list[:0]
	for _, r := range m.list {
		if !changes.Affect(r.id) {
			kept = append(kept, r)
		}
	}
	m.list = kept
}
