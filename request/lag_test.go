package request_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alkey-go/alkey/request"
	"github.com/alkey-go/alkey/tokens"
)

// With replicas a key is storable when its token has been seen for as long as they may be behind, and
// usable from the first: what others store is no older.
func TestKeyReplicaLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := tokens.NewMemory()
		defer store.Close()
		kit := newKit(t, request.Config{Tokens: store, ReplicaLag: time.Second})
		open := func() context.Context {
			ctx, _ := kit.Open(t.Context())
			return ctx
		}
		first := open()
		judged(t, "new", key(t, first, user1), true, request.Younger)
		time.Sleep(time.Second)
		judged(t, "in a request that began before", key(t, first, user1), true, request.Younger)
		second := open()
		judged(t, "a second later", key(t, second, user1), true, 0)

		publish(t, store, user1)
		judged(t, "changed", key(t, open(), user1), true, request.Younger)
		judged(t, "changed, and read before", key(t, second, user1), true, 0)
		time.Sleep(time.Second - time.Nanosecond)
		judged(t, "changed not quite a second ago", key(t, open(), user1), true, request.Younger)
		time.Sleep(time.Nanosecond)
		judged(t, "changed a second ago", key(t, open(), user1), true, 0)
	})
}

// The longest lag of all Kits holds for each, as they load from the same databases.
func TestReplicaLagOfTwoKits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := tokens.NewMemory()
		defer store.Close()
		kit := newKit(t, request.Config{Tokens: store})
		warm(t, store, user1)
		ctx, _ := kit.Open(t.Context())
		judged(t, "without a lag", key(t, ctx, user1), true, 0)
		other := newKit(t, request.Config{Tokens: store, ReplicaLag: time.Second})
		inner, _ := other.Open(ctx)
		judged(t, "of a scope inside one that knew of no lag", key(t, inner, user1), true, request.Younger)
		newKit(t, request.Config{Tokens: store, ReplicaLag: time.Minute})
		time.Sleep(time.Second)
		ctx, _ = other.Open(t.Context())
		judged(t, "a second later", key(t, ctx, user1), true, request.Younger)
		time.Sleep(time.Minute - time.Second)
		ctx, _ = other.Open(t.Context())
		judged(t, "a minute later", key(t, ctx, user1), true, 0)
	})
}
