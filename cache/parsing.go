package cache

import "time"

// parsing takes the values of one Get out of their entries.
type parsing struct {
	names, texts []string
	limit        int
	at           []int // where the texts stand in values; nil: in the same places

	values [][]byte
	lives  []time.Duration // nil: nobody asks
}

const (
	// together is how many entries make a batch. They share memory: one allocation costs less than many,
	// and what is kept of a batch keeps little else.
	together = 8
	// sharedSize is how long a value may be that shares memory.
	sharedSize = 8 << 10
)

// run sets values, and lives if there is such a list.
func (p *parsing) run() {
	for from := 0; from < len(p.texts); from += together {
		p.batch(from, min(from+together, len(p.texts)))
	}
}

// batch parses the entries of one batch.
func (p *parsing) batch(from, to int) {
	var entries [together]entry
	var whole [together]bool
	shared := 0
	for n, text := range p.texts[from:to] {
		e := &entries[n]
		if *e, whole[n] = parseEntry(p.names[from+n], text, p.limit); whole[n] && p.shares(e) {
			shared += e.size
		}
	}
	room := make([]byte, shared)
	for n := range to - from {
		if !whole[n] {
			continue
		}
		e := &entries[n]
		var own []byte
		if p.shares(e) {
			own, room = room[:e.size:e.size], room[e.size:]
		}
		value, ok := e.value(own)
		if !ok {
			continue
		}
		place := from + n
		if p.at != nil {
			place = p.at[place]
		}
		if p.values[place] = value; p.lives != nil {
			p.lives[place] = e.ttl
		}
	}
}

// shares reports whether the value of an entry shares memory with others. Who asks how long values live
// keeps them, and each for itself.
func (p *parsing) shares(e *entry) bool { return e.s2 && p.lives == nil && e.size <= sharedSize }
