package tokens_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/internal/testsecrets"
	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
)

// TestSecretsOfRedis: nothing that a process writes, and no error that it gets, shows a password of Redis,
// whatever is wrong with the configuration or the server.
func TestSecretsOfRedis(t *testing.T) {
	testsecrets.Run(t, secretsOfRedis, "REDIS_URL=", "REDIS_DB=", "REDIS_MAX_CONNECTIONS=")
}

// secretsOfRedis do wrong things with passwords, and tell what comes of it.
var secretsOfRedis = map[string]testsecrets.Case{
	"wrong URLs": func(t *testing.T, tell func(error)) {
		pw := url.QueryEscape(password)
		for _, text := range []string{
			"user:" + password + "@localhost", "http://user:" + password + "@localhost", "redis://user:" + password + "@localhost:1",
			"redis://localhost:" + password, "redis://:s3cr3t\x7f@localhost", "redis://:s3cr3t@localhost/users", "redis://:s3cr3t@local host",
			"redis://:s3cr3t@localhost?password=s3cr3t", "redis://localhost?s3cr3t=s3cr3t", "redis://:s3cr3t@localhost?read_timeout=s3cr3t", "redis://:%zzs3cr3t@localhost",
			"redis://:" + pw + "@localhost?addr=:s3cr3t@x", "redis://:" + pw + "@localhost?addr=localhost:1&read_only=true", "redis://:s3cr3t@localhost?addr=x&db=s3cr3t",
			"redis://:" + pw + "@localhost?master_name=", "redis://:" + pw + "@localhost?master_name=m&replica_only=true", "redis://:s3cr3t@localhost?master_name=m&password=s3cr3t&db=s3cr3t",
			"unix://user:s3cr3t@", "rediss://:s3cr3t@[::1", "redis://:s3cr3t@localhost:s3cr3t", "s3cr3t", "redis:s3cr3t", "://s3cr3t",
		} {
			t.Setenv("REDIS_URL", text)
			s, err := tokens.FromEnv(t.Context())
			if err == nil {
				// Some are odd, and right: then no server answers.
				_, err = tokens.Get(t.Context(), s, "alkey:users#1")
				_ = s.Close()
			}
			if err == nil {
				t.Errorf("%q is no error", text)
			}
			tell(err)
		}
		t.Setenv("REDIS_URL", "redis://:"+pw+"@localhost?addr=localhost:1")
		t.Setenv("REDIS_DB", "7")
		_, err := tokens.FromEnv(t.Context())
		tell(err)
		t.Setenv("REDIS_DB", "seven")
		_, err = tokens.FromEnv(t.Context())
		tell(err)
	},
	"wrong options": func(t *testing.T, tell func(error)) {
		login := redis.UniversalOptions{Addrs: []string{"localhost:1"}, Username: "app", Password: password, SentinelPassword: password}
		for _, opts := range []tokens.RedisOptions{
			{UniversalOptions: redis.UniversalOptions{Username: "app", Password: password}},
			{UniversalOptions: login, TTL: time.Second},
			{UniversalOptions: login, MaxOwners: -1},
			{UniversalOptions: redis.UniversalOptions{Addrs: login.Addrs, Password: password, ReadOnly: true}},
			{Client: redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "localhost:1"}, Password: password})},
		} {
			_, err := tokens.NewRedisBackend(opts)
			if err == nil {
				t.Error("no error")
			}
			tell(err)
			if opts.Client != nil {
				_ = opts.Client.Close()
			}
		}
	},
	"wrong password": func(t *testing.T, tell func(error)) {
		server := testserver.Redis(t, "--requirepass", "another")
		tellLife(t, server.URLFor(url.UserPassword("", password)), tell)
		tellLife(t, server.URLFor(url.UserPassword("app", password)), tell)
		tellOptions(t, redis.UniversalOptions{Addrs: []string{server.Addr()}, Password: password}, tell)
		tellOptions(t, redis.UniversalOptions{Addrs: []string{server.Addr()}, CredentialsProvider: func() (string, string) { return "app", password }}, tell)
	},
	"a password that is not wanted": func(t *testing.T, tell func(error)) {
		server := testserver.Redis(t)
		tellLife(t, server.URLFor(url.UserPassword("app", password)), tell)
	},
	"not allowed": func(t *testing.T, tell func(error)) {
		server := serverWithACL(t, "user app on >"+password+" ~* -@all +evalsha +mget")
		tellLife(t, server.URLFor(app), tell)
	},
	"no such host": func(t *testing.T, tell func(error)) {
		tellLife(t, (&url.URL{Scheme: "redis", User: app, Host: "alkey.invalid:6379"}).String(), tell)
	},
	"no such port": func(t *testing.T, tell func(error)) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		_ = l.Close()
		for _, scheme := range []string{"redis", "rediss"} {
			tellLife(t, (&url.URL{Scheme: scheme, User: app, Host: addr}).String(), tell)
		}
		tellOptions(t, redis.UniversalOptions{Addrs: []string{addr}, MasterName: "m", Password: password, SentinelPassword: password}, tell)
	},
	"TLS": func(t *testing.T, tell func(error)) {
		secure, plain := testserver.RedisTLS(t, asUser...), testserver.Redis(t, asUser...)
		tellLife(t, secure.URLFor(app), tell) // not trusted
		tellLife(t, strings.Replace(secure.URLFor(app), "rediss", "redis", 1), tell)
		tellLife(t, strings.Replace(plain.URLFor(app), "redis", "rediss", 1), tell)
		tellOptions(t, redis.UniversalOptions{Addrs: []string{secure.Addr()}, Username: "app", Password: password, TLSConfig: &tls.Config{ServerName: "another"}}, tell)
	},
	"an outage": func(t *testing.T, tell func(error)) {
		server := testserver.Redis(t, asUser...)
		t.Setenv("REDIS_URL", server.URLFor(app))
		s, err := tokens.FromEnv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := settled(t.Context(), s, "alkey:users#1"); err != nil {
			t.Fatal(err)
		}
		server.Stop()
		tellStore(t, s, tell) // and closes it, with what could not be published
	},
	"values": func(t *testing.T, tell func(error)) {
		server := testserver.Redis(t, "--requirepass", "another")
		client := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: password, ContextTimeoutEnabled: true})
		defer client.Close()
		for range 2 {
			s := cache.Signed(cache.NewRedisWith(client, cache.RedisOptions{Timeout: 5 * time.Second}), []byte(strings.Repeat(testsecrets.Word, 10)))
			_, err := s.Get(t.Context(), []string{"a"})
			tell(err)
			tell(s.Set(t.Context(), "a", nil, 0))
			_, err = s.(cache.Leaser).Lease(t.Context(), "a", time.Second)
			tell(err)
			_ = s.Close()
			server.Stop()
		}
		func() {
			defer func() { tell(fmt.Errorf("panic: %v", recover())) }()
			cache.Signed(cache.NewMemory(1), []byte(testsecrets.Word))
		}()
	},
}

// tellLife makes a store of a URL, and tells of all that goes wrong.
func tellLife(t *testing.T, address string, tell func(error)) {
	t.Helper()
	t.Setenv("REDIS_URL", address)
	s, err := tokens.FromEnv(t.Context())
	tell(err)
	if err == nil {
		tellStore(t, s, tell)
	}
}

func tellOptions(t *testing.T, opts redis.UniversalOptions, tell func(error)) {
	t.Helper()
	s, err := tokens.NewRedis(t.Context(), tokens.RedisOptions{UniversalOptions: opts})
	tell(err)
	if err == nil {
		tellStore(t, s, tell)
	}
}

func tellStore(t *testing.T, s *tokens.Store, tell func(error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	changes := tokens.NewChanges(tokens.Row("users", 1))
	for range 2 {
		_, err := tokens.Get(ctx, s, "alkey:users#1")
		tell(err)
		owner := tokens.NewOwner()
		tell(s.Fence(ctx, owner, changes, time.Second))
		_, err = s.Publish(ctx, owner, changes)
		tell(err)
		tell(s.Release(ctx, tokens.NewOwner(), changes))
		tell(s.Abandon(ctx, tokens.NewOwner(), changes, time.Second))
		_, err = tokens.Bump(ctx, s, "alkey:users#1")
		tell(err)
	}
	tell(s.Close())
	_, err := tokens.Get(ctx, s, "alkey:users#1")
	tell(err)
}
