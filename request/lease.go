package request

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"
)

const (
	firstPoll = 2 * time.Millisecond
	lastPoll  = 50 * time.Millisecond
)

// turn takes the lease of a value's version, which the caller releases, or waits for the value of who
// has it. It waits for as long as the lease lasts at most; then, and if there are no leases to be had, the
// caller goes on without. The value it returns is a hit, as it is stored.
func (s *Scope) turn(ctx context.Context, e *entry) (release func(), raw []byte) {
	k := s.kit
	key := e.leaseKey()
	limit := time.NewTimer(e.lease)
	defer limit.Stop()
	poll := time.NewTimer(firstPoll)
	defer poll.Stop()
	for pause := firstPoll; ; {
		release, err := k.leaser.Lease(ctx, key, e.lease)
		if err != nil {
			k.leasing.report(ctx, k.config.Logger, "lease", err)
			return func() {}, nil
		}
		if release != nil && pause == firstPoll {
			return release, nil
		}
		if release == nil {
			select {
			case <-poll.C:
				pause = min(2*pause, lastPoll)
				poll.Reset(pause)
			case <-limit.C:
				return func() {}, nil
			case <-ctx.Done():
				return func() {}, nil
			}
		}
		get := k.values.Get
		if k.fresh != nil {
			get = k.fresh.GetFresh
		}
		if values := s.values(ctx, []string{e.key}, get); len(values) == 1 && e.take(ctx, values[0]) {
			if release != nil {
				release()
			}
			return func() {}, e.raw
		}
		if release != nil {
			return release, nil // who had it has failed
		}
	}
}

// leaseKey names a version of a value.
func (e *entry) leaseKey() string {
	b := append([]byte(e.key), 0)
	b = append(b, e.mark[:]...)
	b = append(b, 0)
	b = e.stamp.AppendTo(b)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}
