//go:build linux

package rig

import (
	"context"
	"fmt"
	"time"
)

// inflict does one fault, and waits for as long as the plan gives the cache to be back.
func (r *Rig) inflict(ctx context.Context, f Fault) error {
	o := outcome{Fault: f, begin: r.now()}
	r.record.begin(f, o.begin, len(r.outcomes)%sampleEvery == 0)
	if r.Logf != nil {
		r.Logf("%8.3fs %s for %v", o.begin.Seconds(), f.Kind, f.Lasts)
	}
	if err := deeds[f.Kind](r, ctx, f); err != nil {
		return fmt.Errorf("%s: %w", f.Kind, err)
	}
	r.blind.Store(false)
	o.end = r.now()
	r.step("over")
	r.outcomes = append(r.outcomes, o)
	if err := r.pass(ctx, min(time.Second, f.After)); err != nil {
		return err
	}
	r.record.sampled()
	return r.pass(ctx, f.After-min(time.Second, f.After))
}

// sampleEvery says of how many faults the history of one goes through the checker of linearizability.
const sampleEvery = 4

// outcome is what came of a fault.
type outcome struct {
	Fault
	begin, end time.Duration
}

// step notes a step of a fault.
func (r *Rig) step(format string, args ...any) { r.record.note(fmt.Sprintf(format, args...), r.now()) }

// deeds are how the faults are done.
var deeds = map[Kind]func(r *Rig, ctx context.Context, f Fault) error{
	KillWeb:    (*Rig).killWeb,
	PauseShort: func(r *Rig, ctx context.Context, f Fault) error { return r.sleep(ctx, f) },
	PauseLong:  func(r *Rig, ctx context.Context, f Fault) error { return r.sleep(ctx, f) },
	RedisEmpty: (*Rig).redisEmpty,
	RedisOld:   (*Rig).redisOld,
	RedisLog:   (*Rig).redisLog,
	FailOver:   (*Rig).failOver,
	FailBack:   (*Rig).failBack,
	FlushAll:   func(r *Rig, _ context.Context, _ Fault) error { return r.redis[r.master].do("FLUSHALL") },
	Drop: func(r *Rig, ctx context.Context, f Fault) error {
		return r.under(ctx, Weather{Drop: true}, f.Lasts)
	},
	Refuse: func(r *Rig, ctx context.Context, f Fault) error {
		return r.under(ctx, Weather{Refuse: true}, f.Lasts)
	},
	Delay: func(r *Rig, ctx context.Context, f Fault) error {
		// The time limit of a read is 250 ms, that of a write 500 ms.
		d := 5*time.Millisecond + time.Duration(f.Size*f.Size*float64(400*time.Millisecond))
		return r.under(ctx, Weather{Commands: d, Replies: d, Scripts: f.Blind}, f.Lasts)
	},
	Repeat: func(r *Rig, ctx context.Context, f Fault) error {
		return r.under(ctx, Weather{Repeat: 0.02 + 0.3*f.Size}, f.Lasts)
	},
	Late: func(r *Rig, ctx context.Context, f Fault) error {
		return r.under(ctx, Weather{Late: 0.02 + 0.2*f.Size}, f.Lasts)
	},
	CutReply: func(r *Rig, ctx context.Context, f Fault) error {
		return r.under(ctx, Weather{Cut: 0.02 + 0.3*f.Size}, f.Lasts)
	},
	CutOff:       (*Rig).cutOff,
	Full:         (*Rig).full,
	Demote:       (*Rig).demote,
	Lock:         (*Rig).lock,
	KillInCommit: (*Rig).killInCommit,
	Cancel: func(r *Rig, ctx context.Context, f Fault) error {
		r.leave.Store(int64(2*time.Millisecond + time.Duration(f.Size*float64(20*time.Millisecond))))
		defer r.leave.Store(0)
		return r.pass(ctx, f.Lasts)
	},
}

// under lets time pass in some weather.
func (r *Rig) under(ctx context.Context, w Weather, d time.Duration) error {
	r.weather(w)
	defer r.weather(Weather{})
	return r.pass(ctx, d)
}

// cutOff keeps one web process from the token store while the others go on. With Strict, nothing that it was asked
// to write meanwhile may be committed.
func (r *Rig) cutOff(ctx context.Context, f Fault) error {
	victim := r.webs[f.Victim%len(r.webs)]
	w := Weather{Refuse: true}
	if f.Size < 0.5 {
		w = Weather{Drop: true}
	}
	r.step("web process %d is cut off", victim.number)
	victim.front.Set(w)
	from := r.now()
	err := r.pass(ctx, f.Lasts)
	to := r.now()
	victim.front.Set(Weather{})
	if r.Strict {
		r.record.cutOff(victim.number, span{from, to})
	}
	return err
}

// killWeb kills a web process while what it sends to the token store and gets from there is held back:
// what it holds back when it dies is lost. Another takes its place.
func (r *Rig) killWeb(ctx context.Context, f Fault) error {
	d := time.Duration(float64(120*time.Millisecond) * f.Size)
	if !r.Strict {
		d /= 2 // a fence on a new connection is the third round trip, and has 500 ms
	}
	late := Weather{Commands: d, Replies: d, Scripts: f.Blind}
	if err := r.under(ctx, late, f.Lasts); err != nil {
		return err
	}
	r.weather(late)
	victim := r.webs[f.Victim%len(r.webs)]
	r.step("web process %d is killed", victim.number)
	victim.kill()
	r.weather(Weather{})
	return victim.launch()
}

// sleep pauses a web process.
func (r *Rig) sleep(ctx context.Context, f Fault) error {
	victim := r.webs[f.Victim%len(r.webs)]
	address := victim.address()
	r.step("web process %d is paused", victim.number)
	if err := victim.pause(); err != nil {
		return err
	}
	// A balancer notices after a while.
	err := r.pass(ctx, min(100*time.Millisecond, f.Lasts))
	victim.set("")
	if err == nil {
		err = r.pass(ctx, f.Lasts-min(100*time.Millisecond, f.Lasts))
	}
	if rerr := victim.resume(); err == nil {
		err = rerr
	}
	victim.set(address)
	return err
}

// restart kills the token store's server and starts it after some time; prepare does what is to be done to its
// files while it is down.
func (r *Rig) restart(ctx context.Context, f Fault, prepare func(*redisServer) error) error {
	server := r.redis[r.master]
	r.step("Redis is killed")
	server.stop()
	if err := prepare(server); err != nil {
		return err
	}
	if err := r.pass(ctx, f.Lasts); err != nil {
		return err
	}
	if err := server.start(); err != nil {
		return err
	}
	r.step("Redis is back")
	return nil
}

func (r *Rig) redisEmpty(ctx context.Context, f Fault) error {
	return r.restart(ctx, f, (*redisServer).wipe)
}

// redisOld brings back what Redis had some time ago. What was written since may be in no value that is stored,
// or in all.
func (r *Rig) redisOld(ctx context.Context, f Fault) error {
	old, err := r.redis[r.master].snapshot()
	if err != nil {
		return err
	}
	r.step("a snapshot was made")
	r.blind.Store(f.Blind)
	if err := r.pass(ctx, 50*time.Millisecond+time.Duration(f.Size*float64(400*time.Millisecond))); err != nil {
		return err
	}
	err = r.restart(ctx, Fault{Lasts: f.Lasts / 4}, func(s *redisServer) error {
		if err := s.wipe(); err != nil {
			return err
		}
		return s.restore(old)
	})
	r.blind.Store(false)
	return err
}

func (r *Rig) redisLog(ctx context.Context, f Fault) error {
	if err := r.redis[r.master].log(); err != nil {
		return err
	}
	if err := r.pass(ctx, time.Duration(f.Size*float64(300*time.Millisecond))); err != nil {
		return err
	}
	return r.restart(ctx, f, func(*redisServer) error { return nil })
}

// lag cuts the replica off from its master for some time, in which writers go on.
func (r *Rig) lag(ctx context.Context, f Fault) error {
	if err := r.attach(); err != nil {
		return err
	}
	r.link.Set(Weather{Refuse: true})
	r.step("the replica lags from now on")
	r.blind.Store(f.Blind)
	return r.pass(ctx, f.Lasts)
}

// failOver kills the master and promotes a replica that has missed the last writes. The old master comes
// back as a replica.
func (r *Rig) failOver(ctx context.Context, f Fault) error {
	if err := r.lag(ctx, f); err != nil {
		return err
	}
	r.step("the master is killed")
	old := r.redis[r.master]
	old.stop()
	if err := r.spare().promote(); err != nil {
		return err
	}
	r.swap()
	r.hangUp()
	r.step("the replica is the master")
	r.blind.Store(false)
	if err := old.wipe(); err != nil {
		return err
	}
	if err := old.start(); err != nil {
		return err
	}
	return r.attach()
}

// swap makes the spare server the one that new connections reach.
func (r *Rig) swap() {
	r.master = 1 - r.master
	for _, web := range r.webs {
		web.front.Retarget(r.redis[r.master].addr())
	}
}

// failBack has a replica that lags take over, and then the old master again, which was cut off meanwhile and
// has what it had, under the name that it had.
func (r *Rig) failBack(ctx context.Context, f Fault) error {
	if err := r.lag(ctx, Fault{Lasts: f.Lasts / 4}); err != nil {
		return err
	}
	if err := r.spare().promote(); err != nil {
		return err
	}
	r.swap()
	r.hangUp()
	r.step("the replica is the master, and the old one cut off")
	r.blind.Store(f.Blind)
	if err := r.pass(ctx, f.Lasts); err != nil {
		return err
	}
	r.swap()
	r.hangUp()
	r.step("the old master is back")
	r.blind.Store(false)
	return r.attach()
}

// full fills Redis, and makes room again.
func (r *Rig) full(ctx context.Context, f Fault) error {
	server := r.redis[r.master]
	err := server.fill()
	r.step("Redis is full")
	if err == nil {
		err = r.pass(ctx, f.Lasts)
	}
	if eerr := server.empty(); err == nil {
		err = eerr
	}
	return err
}

// demote makes a replica of the master, whose connections stay open, and only then a master of the replica. The
// old master does not reach the new one for some time, and goes on to answer with what it has.
func (r *Rig) demote(ctx context.Context, f Fault) error {
	if err := r.attach(); err != nil {
		return err
	}
	old, young := r.redis[r.master], r.spare()
	r.link.Retarget(young.addr())
	r.link.Set(Weather{Refuse: true})
	if err := old.follow(r.link.Addr()); err != nil {
		return err
	}
	r.step("the master is demoted")
	if err := young.promote(); err != nil {
		return err
	}
	r.swap()
	r.step("the replica is the master")
	if err := r.pass(ctx, f.Lasts); err != nil {
		return err
	}
	return r.attach()
}

// lock locks one row after the other, while what is written to the token store comes a little late: commits are under
// way for long, and others overtake them.
func (r *Rig) lock(ctx context.Context, f Fault) error {
	r.weather(Weather{Commands: 40 * time.Millisecond, Scripts: true})
	defer r.weather(Weather{})
	defer r.hot.Store(0)
	for end, row := r.now()+f.Lasts, f.Victim; r.now() < end; row++ {
		tx, err := r.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		// It changes nothing: what it writes it takes back.
		_, err = tx.ExecContext(ctx, `UPDATE items SET mark = 'locked' WHERE id = $1`, row%Rows+1)
		if err == nil {
			r.hot.Store(int64(row%Rows + 1))
			err = r.pass(ctx, 50*time.Millisecond+time.Duration(f.Size*float64(200*time.Millisecond)))
		}
		if rerr := tx.Rollback(); err == nil && ctx.Err() == nil {
			err = rerr
		}
		if err == nil {
			err = r.pass(ctx, 30*time.Millisecond)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// killInCommit has COMMIT wait in PostgreSQL, for a standby that does not exist, and ends the connections on
// which one waits. The transaction stands, and nobody is told.
func (r *Rig) killInCommit(ctx context.Context, f Fault) error {
	set := func(statement string) error {
		_, err := r.db.ExecContext(ctx, statement)
		return err
	}
	if err := set(`ALTER SYSTEM SET synchronous_standby_names = 'nobody'`); err != nil {
		return err
	}
	err := set(`SELECT pg_reload_conf()`)
	for end := r.now() + f.Lasts; err == nil && r.now() < end; {
		if err = r.pass(ctx, 20*time.Millisecond+time.Duration(f.Size*float64(80*time.Millisecond))); err == nil {
			err = set(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()`)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err() // the server goes with the run
	}
	if rerr := set(`ALTER SYSTEM RESET synchronous_standby_names`); err == nil {
		err = rerr
	}
	if rerr := set(`SELECT pg_reload_conf()`); err == nil {
		err = rerr
	}
	return err
}
