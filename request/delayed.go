package request

import (
	"context"
	"time"
)

// delayed is what one call of Resolve has made and not stored yet: with many fragments missing, storing
// each by itself would cost a round trip for each. Other requests of the process find it by its flights.
type delayed struct {
	products []*product
	size     int       // of the values, in bytes
	since    time.Time // the first of them
}

const (
	// maxDelay is how old a value can get, as far as no fill takes longer: other processes want it too.
	maxDelay = 10 * time.Millisecond
	// maxDelayed bounds the memory, in bytes.
	maxDelayed = 1 << 20
)

// delay keeps a value that is to be stored until store is called, which it does itself when it is time.
func (r *resolver) delay(ctx context.Context, p *product) {
	d := &r.delayed
	if p.flight != nil {
		r.flights.approach(p.flight, landing{value: p.made})
	}
	if len(d.products) == 0 {
		d.since = time.Now()
	}
	d.products = append(d.products, p)
	if d.size += len(p.made); d.size >= maxDelayed || time.Since(d.since) >= maxDelay {
		r.store(ctx)
	}
}

// store stores what was delayed.
func (r *resolver) store(ctx context.Context) {
	products := r.delayed.products
	r.delayed = delayed{}
	r.scope.store(ctx, products)
	for _, p := range products {
		if p.flight != nil {
			r.flights.drop(p.flight)
		}
		r.scope.report(ctx, p, nil)
	}
}
