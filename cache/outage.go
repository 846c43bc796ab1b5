package cache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// outage knows which servers do not answer: the one that there is, or nodes of a Cluster. Each has
// a goroutine that asks until it does.
type outage struct {
	count    atomic.Int32 // of the servers that are down
	answered atomic.Bool  // some server has answered since the last one fell

	mu    sync.Mutex
	down  map[string]struct{} // by address; all that is not a Cluster is one server, without one
	pause time.Duration       // before the first probe of the next server that falls
	ended time.Time           // the last outage
	ctx   context.Context
	stop  context.CancelFunc
	done  sync.WaitGroup
}

const (
	firstPause = 25 * time.Millisecond
	lastPause  = time.Second
	// probeLimit is how long a probe can take: longer than a call, because it may have to dial.
	probeLimit = time.Second
)

func (o *outage) init() {
	o.down = make(map[string]struct{})
	o.pause = firstPause
	o.ctx, o.stop = context.WithCancel(context.Background())
}

// any reports whether a server is down.
func (o *outage) any() bool { return o.count.Load() > 0 }

// answer notes that some server has answered.
func (o *outage) answer() {
	if o.any() {
		o.answered.Store(true)
	}
}

// reachable returns those of names whose servers are not down, and where they stand. The error is
// ErrDown if there are none, and no other server is known to answer.
func (o *outage) reachable(r *Redis, names []string) (up []string, at []int, err error) {
	servers := o.serversOf(r, names)
	o.mu.Lock()
	defer o.mu.Unlock()
	_, all := o.down[""]
	for i, name := range names {
		if _, down := o.down[servers[i]]; !down && !all {
			up, at = append(up, name), append(at, i)
		}
	}
	if len(up) == 0 && (all || !o.answered.Load()) {
		return nil, nil, ErrDown
	}
	return up, at, nil
}

// serversOf returns the address of every name's server: the master's in a Cluster, which the client
// knows unless it never had contact to any node.
func (o *outage) serversOf(r *Redis, names []string) []string {
	c, ok := r.client.(*redis.ClusterClient)
	o.mu.Lock()
	_, all := o.down[""]
	o.mu.Unlock()
	if !ok || all {
		return make([]string, len(names))
	}
	servers, err := within(o.ctx, r, r.options.Timeout, func(ctx context.Context) []string {
		servers := make([]string, len(names))
		for i, name := range names {
			if master, err := c.MasterForKey(ctx, name); err == nil {
				servers[i] = master.Options().Addr
			}
		}
		return servers
	})
	if err != nil {
		return make([]string, len(names))
	}
	return servers
}

// begin notes that the servers of names do not answer. One that has answered all the same, for
// another name of the call, is found by its first probe.
func (o *outage) begin(r *Redis, names []string) {
	servers := o.serversOf(r, names)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ctx.Err() != nil {
		return
	}
	for i, server := range servers {
		if _, known := o.down[server]; known {
			continue
		}
		if len(o.down) == 0 {
			// A server that falls again at once answers probes and is too slow for more: it is asked
			// ever more rarely.
			if time.Since(o.ended) < 10*o.pause {
				o.pause = min(2*o.pause, lastPause)
			} else {
				o.pause = firstPause
			}
		}
		o.down[server] = struct{}{}
		o.answered.Store(false)
		o.count.Add(1)
		name, pause := names[i], o.pause
		o.done.Go(func() { o.probe(r, server, name, pause) })
	}
}

// probe asks for a name until its server answers as fast as calls need it.
func (o *outage) probe(r *Redis, server, name string, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-o.ctx.Done():
			return
		case <-timer.C:
		}
		if o.back(r, name) {
			break
		}
		pause = min(2*pause, lastPause)
		timer.Reset(pause)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.down, server)
	o.count.Add(-1)
	o.ended = time.Now()
}

func (o *outage) back(r *Redis, name string) bool {
	ctx, cancel := context.WithTimeout(o.ctx, probeLimit)
	defer cancel()
	done := make(chan bool, 1)
	go func() {
		from := time.Now()
		err := r.client.Process(ctx, redis.NewStringCmd(ctx, "get", name))
		done <- answered(err) && time.Since(from) <= r.options.Timeout
	}()
	// A client that does not obey its context is waited for: there is never more than one probe.
	select {
	case ok := <-done:
		return ok
	case <-o.ctx.Done():
		return false
	}
}

// close ends the probes.
func (o *outage) close() {
	o.mu.Lock()
	o.stop()
	o.mu.Unlock()
	o.done.Wait()
}
