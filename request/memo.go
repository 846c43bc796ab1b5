package request

import "github.com/alkey-go/alkey/tokens"

// memo holds the tokens that a request has read, the first few in a list: most requests ask for no
// more, and a list costs them less than a map.
type memo struct {
	list  []remembered
	index map[tokens.ID]tokens.Token // has all, once there are more than few
}

type remembered struct {
	id    tokens.ID
	token tokens.Token
}

const few = 8

func (m *memo) get(id tokens.ID) (tokens.Token, bool) {
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

// expect makes room for n more.
func (m *memo) expect(n int) {
	if m.index == nil && len(m.list)+n > few {
		m.index = make(map[tokens.ID]tokens.Token, len(m.list)+n)
		for _, r := range m.list {
			m.index[r.id] = r.token
		}
		m.list = nil
	}
}

// put adds what is not there.
func (m *memo) put(id tokens.ID, t tokens.Token) {
	if m.expect(1); m.index != nil {
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
