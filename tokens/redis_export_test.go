package tokens

import "time"

// SetNow sets the host's clock, which decides only whether the server is asked about a deadline.
func (b *Redis) SetNow(now func() time.Time) { b.now = now }
