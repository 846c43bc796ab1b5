package request

import (
	"bytes"
	"runtime"
	"strconv"
)

// goroutineID is the number of the goroutine that calls it, as stack traces have it, or 0. It is asked
// for where a value is made, which takes longer by far, and for one purpose: a fill that asks through
// its request, and not with the context that it was given, is to be found out before it waits for
// itself.
func goroutineID() uint64 {
	var text [64]byte
	line := bytes.TrimPrefix(text[:runtime.Stack(text[:], false)], []byte("goroutine "))
	end := bytes.IndexByte(line, ' ')
	if end < 0 {
		return 0
	}
	id, err := strconv.ParseUint(string(line[:end]), 10, 64)
	if err != nil {
		return 0
	}
	return id
}
