package rig

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults.
const (
	KillWeb      Kind = "kill a web process"             // with what it sends and gets held back, so that some die between COMMIT and publish
	PauseShort   Kind = "pause a web process"            // for less than half the lease
	PauseLong    Kind = "pause one beyond the lease"     //
	RedisEmpty   Kind = "Redis comes back empty"         //
	RedisOld     Kind = "Redis comes back from snapshot" // that is some time old
	RedisLog     Kind = "Redis comes back from its log"  // the append-only file
	FailOver     Kind = "fail over to a lagged replica"  //
	FailBack     Kind = "fail over, and back"            // to the first master, which has missed what was written meanwhile
	FlushAll     Kind = "FLUSHALL"                       //
	Drop         Kind = "packets are dropped"            //
	Refuse       Kind = "connections are refused"        //
	CutOff       Kind = "one web process is cut off"     // from the token store, and the others go on
	Delay        Kind = "commands and replies are late"  // within the time limits, and beyond
	Repeat       Kind = "commands are repeated"          // carried out, but not answered
	Late         Kind = "commands come after their time" // when the client has given up, and repeated them
	CutReply     Kind = "replies are cut"                //
	Full         Kind = "Redis is full"                  // for a while
	Demote       Kind = "the master is demoted"          // under open connections
	Lock         Kind = "rows are locked"                // so that fenced statements wait
	KillInCommit Kind = "kill a backend in COMMIT"       // of PostgreSQL
	Cancel       Kind = "clients cancel"                 // their requests
)

// trait is what there is to know of a kind.
type trait struct {
	lasts [2]time.Duration // from, to
	// quiet is how long nothing need be found after it: the fence that a sweep puts on everything lasts two
	// seconds, and a process that has found the store away may be up to a second late to see it back. A process that
	// was paused, or whose commands were late, finds the store away.
	quiet time.Duration
	// unfenced says that fences may fail meanwhile: for some or all the token store is away or takes no
	// writes, or they are not in time for it.
	unfenced bool
	// lease says that fences can be left, which run out with their lease.
	lease bool
	// only is the database that it can be done to; "": any.
	only string
}

const (
	sweepFence = 2 * time.Second
	sweepQuiet = sweepFence + time.Second
)

var traits = map[Kind]trait{
	KillWeb:      {lasts: [2]time.Duration{100 * time.Millisecond, 600 * time.Millisecond}, lease: true},
	PauseShort:   {lasts: [2]time.Duration{50 * time.Millisecond, 1200 * time.Millisecond}, unfenced: true},
	PauseLong:    {lasts: [2]time.Duration{200 * time.Millisecond, 900 * time.Millisecond}, unfenced: true}, // more than the lease
	RedisEmpty:   {lasts: [2]time.Duration{0, time.Second}, quiet: sweepQuiet, unfenced: true},
	RedisOld:     {lasts: [2]time.Duration{0, time.Second}, quiet: sweepQuiet, unfenced: true},
	RedisLog:     {lasts: [2]time.Duration{0, time.Second}, quiet: sweepQuiet, unfenced: true},
	FailOver:     {lasts: [2]time.Duration{50 * time.Millisecond, 900 * time.Millisecond}, quiet: sweepQuiet, unfenced: true},
	FailBack:     {lasts: [2]time.Duration{300 * time.Millisecond, 1500 * time.Millisecond}, quiet: sweepQuiet, unfenced: true},
	FlushAll:     {quiet: sweepQuiet},
	Drop:         {lasts: [2]time.Duration{100 * time.Millisecond, 1500 * time.Millisecond}, quiet: sweepQuiet, unfenced: true},
	Refuse:       {lasts: [2]time.Duration{50 * time.Millisecond, 1500 * time.Millisecond}, quiet: sweepQuiet, unfenced: true},
	CutOff:       {lasts: [2]time.Duration{300 * time.Millisecond, 1500 * time.Millisecond}, quiet: sweepQuiet, unfenced: true},
	Delay:        {lasts: [2]time.Duration{400 * time.Millisecond, 1200 * time.Millisecond}, quiet: sweepQuiet, unfenced: true},
	Repeat:       {lasts: [2]time.Duration{400 * time.Millisecond, 1200 * time.Millisecond}, quiet: sweepQuiet, unfenced: true},
	Late:         {lasts: [2]time.Duration{400 * time.Millisecond, 1200 * time.Millisecond}, quiet: sweepQuiet, unfenced: true, lease: true},
	CutReply:     {lasts: [2]time.Duration{400 * time.Millisecond, 1200 * time.Millisecond}, quiet: sweepQuiet, unfenced: true},
	Full:         {lasts: [2]time.Duration{200 * time.Millisecond, 1200 * time.Millisecond}, quiet: sweepQuiet, unfenced: true},
	Demote:       {lasts: [2]time.Duration{200 * time.Millisecond, 1200 * time.Millisecond}, quiet: sweepQuiet, unfenced: true},
	Lock:         {lasts: [2]time.Duration{400 * time.Millisecond, 1200 * time.Millisecond}},
	KillInCommit: {lasts: [2]time.Duration{200 * time.Millisecond, 800 * time.Millisecond}, lease: true, only: "postgres"},
	Cancel:       {lasts: [2]time.Duration{300 * time.Millisecond, 1200 * time.Millisecond}, lease: true},
}

// Kinds returns all kinds that can be done over a database.
func Kinds(database string) []Kind {
	var all []Kind
	for kind, t := range traits {
		if t.only == "" || t.only == database {
			all = append(all, kind)
		}
	}
	slices.Sort(all)
	return all
}

// Fenced returns those of kinds during which every commit is fenced: what is promised without Strict, too.
func Fenced(kinds []Kind) []Kind {
	return slices.DeleteFunc(slices.Clone(kinds), func(k Kind) bool { return traits[k].unfenced })
}

// Fault is one fault of a plan.
type Fault struct {
	Kind   Kind          `json:"kind"`
	Before time.Duration `json:"before"` // nothing happens
	Lasts  time.Duration `json:"lasts"`
	After  time.Duration `json:"after"` // until the next: for the cache to be back
	Victim int           `json:"victim"`
	Size   float64       `json:"size"` // how bad it is, from 0 to 1
	// Blind says that nobody reads while it lasts, where data is lost: what was written then is in no store of
	// values. Where things are late it says that only what is written is.
	Blind bool `json:"blind"`
}

// observed is how long the hits are counted after a fault, in its plan.
const observed = 2 * time.Second

// Plan makes the faults of a run: all kinds in turn, each turn in another order. The same seed, kinds and
// lease give the same faults at the same times.
func Plan(seed uint64, kinds []Kind, lease, total time.Duration) []Fault {
	r := rand.New(rand.NewPCG(seed, 0))
	var plan []Fault
	for at := time.Duration(0); at < total; {
		for _, i := range r.Perm(len(kinds)) {
			f := newFault(r, kinds[i], lease)
			if at += f.Before + f.Lasts + f.After; at > total && len(plan) > 0 {
				return plan
			}
			plan = append(plan, f)
		}
	}
	return plan
}

func newFault(r *rand.Rand, kind Kind, lease time.Duration) Fault {
	t := traits[kind]
	between := func(from, to time.Duration) time.Duration {
		return (from + time.Duration(r.Float64()*float64(to-from))).Round(time.Millisecond)
	}
	f := Fault{
		Kind:   kind,
		Before: between(300*time.Millisecond, 700*time.Millisecond),
		Lasts:  between(t.lasts[0], t.lasts[1]),
		Victim: r.IntN(1 << 16),
		Size:   r.Float64(),
		Blind:  r.IntN(3) == 0,
	}
	if kind == PauseLong {
		f.Lasts += lease
	}
	if f.After = t.quiet; t.lease {
		f.After = max(f.After, lease)
	}
	f.After += observed
	return f
}
