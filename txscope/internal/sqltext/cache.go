package sqltext

import (
	"container/list"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/puzpuzpuz/xsync/v4"
)

// Bounds of a Cache: what is usual, and how many bytes a text can have to be kept.
const (
	DefaultEntries = 1000
	DefaultBytes   = 4 << 20
	MaxText        = 16 << 10
)

// Cache keeps values that follow from a text, such as what Parse says of it. It is bounded in texts
// and in their bytes. What was asked for since its turn came last stays longer, so texts that are used
// once do not drive out those that are used always.
//
// It is safe for concurrent use.
type Cache[T any] struct {
	make       func(text string) T
	maxEntries int
	maxBytes   int

	// Clear replaces all at once: what was being made meanwhile goes into what is dropped.
	kept atomic.Pointer[kept[T]]
}

// kept is what a Cache has kept since it was cleared.
type kept[T any] struct {
	byText *xsync.Map[string, *entry[T]]

	mu    sync.Mutex
	queue list.List // of *entry[T], the next to go first
	bytes int       // of all texts
}

type entry[T any] struct {
	text  string
	value T
	used  atomic.Bool // since it went to the queue's end
}

// NewCache returns an empty cache of at most maxEntries texts, with maxBytes bytes of text in all. make
// makes the value of a text. It can run several times at once, for the same text too.
func NewCache[T any](maxEntries, maxBytes int, make func(text string) T) *Cache[T] {
	c := &Cache[T]{make: make, maxEntries: maxEntries, maxBytes: maxBytes}
	c.Clear()
	return c
}

// Get returns the value of a text, which many callers may share.
func (c *Cache[T]) Get(text string) T {
	k := c.kept.Load()
	if e, ok := k.byText.Load(text); ok {
		if !e.used.Load() { // a write that is not needed would slow the other processors
			e.used.Store(true)
		}
		return e.value
	}
	if len(text) > min(MaxText, c.maxBytes) || c.maxEntries < 1 {
		return c.make(text)
	}
	// The text may be a part of something large, and so may be what the value refers to.
	text = strings.Clone(text)
	return c.keep(k, &entry[T]{text: text, value: c.make(text)})
}

// Clear drops everything. A Get that begins after it returns no value that was made before.
func (c *Cache[T]) Clear() {
	c.kept.Store(&kept[T]{byText: xsync.NewMap[string, *entry[T]]()})
}

// keep adds an entry, unless another was faster, and makes room for it. It returns the value that is
// kept.
func (c *Cache[T]) keep(k *kept[T], e *entry[T]) T {
	k.mu.Lock()
	defer k.mu.Unlock()
	if other, ok := k.byText.Load(e.text); ok {
		return other.value
	}
	for again := k.queue.Len(); k.queue.Len() >= c.maxEntries || k.bytes+len(e.text) > c.maxBytes; again-- {
		first := k.queue.Front()
		oldest := first.Value.(*entry[T])
		if again > 0 && oldest.used.Swap(false) {
			k.queue.MoveToBack(first)
			continue
		}
		k.queue.Remove(first)
		k.byText.Delete(oldest.text)
		k.bytes -= len(oldest.text)
	}
	k.byText.Store(e.text, e)
	k.queue.PushBack(e)
	k.bytes += len(e.text)
	return e.value
}
