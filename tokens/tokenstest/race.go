package tokenstest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/alkey-go/alkey/tokens"
)

const (
	writers = 2
	readers = 3
	rounds  = 150
)

// raceToMint: who reads a missing record at the same time as others gets the stamp that they get.
func (s *suite) raceToMint() {
	for range 20 {
		ids := rows(3)
		var group sync.WaitGroup
		got := make([][]tokens.State, 4)
		for i := range got {
			group.Go(func() {
				snap, err := s.Backend.Read(s.Context(), ids)
				if err != nil {
					s.Errorf("Read: %v", err)
					return
				}
				got[i] = snap.States
			})
		}
		group.Wait()
		if s.Failed() {
			return
		}
		for _, states := range got[1:] {
			for i := range states {
				if states[i] != got[0][i] {
					s.Fatalf("one record was read as %+v and as %+v", got[0][i], states[i])
				}
			}
		}
	}
}

// raceOfWriters: two writers commit changes of two rows of one table, over and over, while readers
// keep values made of both rows under the table's token. No value may be found that is older than
// what had been committed when its token was read.
func (s *suite) raceOfWriters() {
	table := tokens.ID{Table: row().Table, Row: "*"}
	var (
		committed [writers]atomic.Int64 // the database: how often each row was changed
		published atomic.Int64          // the largest stamp whose publish has returned
		values    sync.Map              // from stamp to [writers]int64
		seen      atomic.Int64
		done      atomic.Bool
	)
	load := func() (db [writers]int64) {
		for i := range db {
			db[i] = committed[i].Load()
		}
		return db
	}
	var all, ours sync.WaitGroup
	ctx, cancel := context.WithTimeout(s.Context(), limit)
	defer cancel()
	fail := func(format string, args ...any) {
		s.Errorf(format, args...)
		cancel()
	}
	for i := range writers {
		ids := []tokens.ID{{Table: table.Table, Row: fmt.Sprint(i + 1)}, table}
		ours.Go(func() {
			for round := range rounds {
				owner := tokens.Owner(fmt.Sprintf("w%d.%d", i, round))
				if err := s.Backend.Fence(ctx, owner, ids, long); err != nil {
					fail("Fence: %v", err)
					return
				}
				if round%4 == 3 { // a rollback
					if err := s.Backend.Release(ctx, owner, ids); err != nil {
						fail("Release: %v", err)
						return
					}
					continue
				}
				committed[i].Add(1)
				stamp, err := s.Backend.Publish(ctx, owner, ids)
				if err != nil {
					fail("Publish: %v", err)
					return
				}
				raise(&published, int64(stamp))
				raise(&seen, int64(stamp))
			}
		})
	}
	for range readers {
		all.Go(func() {
			for !done.Load() {
				watermark := seen.Load()
				early := load()
				least := published.Load()
				current := load()
				snap, err := s.Backend.Read(ctx, []tokens.ID{table})
				if err != nil {
					fail("Read: %v", err)
					return
				}
				state := snap.States[0]
				raise(&seen, int64(snap.Clock))
				if state.Fenced {
					continue
				}
				if int64(state.Stamp) < least {
					fail("a usable token has stamp %d after %d was published", state.Stamp, least)
					return
				}
				if hit, ok := values.Load(state.Stamp); ok {
					for i, n := range hit.([writers]int64) {
						if n < current[i] {
							fail("a value of %v was found under stamp %d, and %v had been committed", hit, state.Stamp, current)
							return
						}
					}
				} else if int64(state.Stamp) <= watermark {
					values.Store(state.Stamp, early)
				}
			}
		})
	}
	ours.Wait()
	done.Store(true)
	all.Wait()
	if s.Failed() {
		return
	}
	snap, err := s.Backend.Read(s.Context(), []tokens.ID{table})
	if err != nil || snap.States[0].Fenced {
		s.Fatalf("after the race: %+v, %v", snap, err)
	}
}

// raceBesideFence: while one owner's fence is on the table, whatever others do there does not make
// it usable.
func (s *suite) raceBesideFence() {
	table := tokens.ID{Table: row().Table, Row: "*"}
	for _, start := range []string{"missing", "stamped"} {
		if start == "stamped" {
			s.usable(table)
		}
		s.fences("third", long, table)
		var all, ours sync.WaitGroup
		var done atomic.Bool
		for i := range writers {
			ours.Go(func() {
				ids := []tokens.ID{{Table: table.Table, Row: fmt.Sprint(i + 1)}, table}
				owner := tokens.Owner(fmt.Sprintf("w%d", i))
				for round := range rounds / 2 {
					if err := s.Backend.Fence(s.Context(), owner, ids, long); err != nil {
						s.Errorf("Fence: %v", err)
						return
					}
					var err error
					if round%2 == 0 {
						_, err = s.Backend.Publish(s.Context(), owner, ids)
					} else {
						err = s.Backend.Release(s.Context(), owner, ids)
					}
					if err != nil {
						s.Errorf("ending round %d: %v", round, err)
						return
					}
				}
			})
		}
		for range readers {
			all.Go(func() {
				for !done.Load() {
					snap, err := s.Backend.Read(s.Context(), []tokens.ID{table})
					if err != nil {
						s.Errorf("Read: %v", err)
						return
					}
					if state := snap.States[0]; !state.Fenced || (start == "missing" && state.Stamp != 0) {
						s.Errorf("beside a third owner's fence, record %s: %+v", start, state)
						return
					}
				}
			})
		}
		ours.Wait()
		done.Store(true)
		all.Wait()
		s.see() // the clock has moved
		s.publishes("third", table)
		s.usable(table)
	}
}

func raise(to *atomic.Int64, n int64) {
	for {
		have := to.Load()
		if n <= have || to.CompareAndSwap(have, n) {
			return
		}
	}
}
