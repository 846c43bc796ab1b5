package cache

import (
	"runtime"
	"sync/atomic"
	"time"
)

// parsing takes the values of one Get out of their entries. Many large ones are decompressed on several
// processors: of a page of a hundred fragments that is most of what a Get costs beside the waiting.
type parsing struct {
	names, texts []string
	limit        int
	at           []int // where the texts stand in values; nil: in the same places

	values [][]byte
	lives  []time.Duration // nil: nobody asks

	next atomic.Int32 // batch that nobody has taken
	left atomic.Int32 // batches that are not done
	done chan struct{}
}

const (
	// together is how many entries make a batch. They share memory: one allocation costs less than many,
	// and what is kept of a batch keeps little else.
	together = 8
	// sharedSize is how long a value may be that shares memory.
	sharedSize = 8 << 10
	// helperWorth is how many bytes of compressed entries are worth waking another processor.
	helperWorth = 32 << 10
)

// run sets values, and lives if there is such a list.
func (p *parsing) run() {
	batches := (len(p.texts) + together - 1) / together
	helpers := min(p.compressed()/helperWorth, batches-1, runtime.GOMAXPROCS(0)-1)
	if helpers <= 0 {
		for i := range batches {
			p.batch(i)
		}
		return
	}
	p.left.Store(int32(batches))
	p.done = make(chan struct{})
	for range helpers {
		go p.work()
	}
	// Where the other processors are busy this does it all, and does not wait for helpers: one that comes
	// late finds nothing to do.
	p.work()
	<-p.done
}

// work does batches until there are none.
func (p *parsing) work() {
	batches := (len(p.texts) + together - 1) / together
	for {
		i := int(p.next.Add(1)) - 1
		if i >= batches {
			return
		}
		p.batch(i)
		if p.left.Add(-1) == 0 {
			close(p.done)
		}
	}
}

// compressed is the length of all entries that have to be decompressed.
func (p *parsing) compressed() int {
	n := 0
	for _, text := range p.texts {
		if text != "" && text[0] == formatS2 {
			n += len(text)
		}
	}
	return n
}

// batch parses the entries of one batch.
func (p *parsing) batch(i int) {
	from := i * together
	to := min(from+together, len(p.texts))
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
