package tokens

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// FromEnv makes the Store that the environment names:
//
//   - REDIS_URL is the server, as redis://[user:password@]host[:port][/database], or rediss:// for
//     TLS; query parameters are go-redis's. Without it the Store serves one process only, and a
//     warning says so.
//   - REDIS_DB is the number of the database and overrides the URL's.
//   - REDIS_MAX_CONNECTIONS bounds the connections to the server. Default: go-redis's, 10 for each CPU.
//
// A wrong value is an error that names the variable, wraps ErrOptions and shows no password. A
// server that does not answer is a warning only.
func FromEnv(ctx context.Context) (*Store, error) {
	url := os.Getenv("REDIS_URL")
	db, haveDB, err := numberFromEnv("REDIS_DB", 0)
	if err != nil {
		return nil, err
	}
	connections, haveConnections, err := numberFromEnv("REDIS_MAX_CONNECTIONS", 1)
	if err != nil {
		return nil, err
	}
	if url == "" {
		slog.Default().Warn("alkey: REDIS_URL is not set: tokens are kept in this process and serve no other")
		return NewMemory(), nil
	}
	opts, err := parseRedisURL(url)
	if err != nil {
		return nil, err
	}
	if haveDB {
		opts.DB = db
	}
	if haveConnections {
		opts.PoolSize, opts.MaxActiveConns = connections, connections
		opts.MinIdleConns = min(opts.MinIdleConns, connections)
	}
	opts.ContextTimeoutEnabled = true
	b, err := NewRedisBackend(RedisOptions{Client: redis.NewClient(opts)})
	if err != nil {
		return nil, err
	}
	b.owned = true
	return connect(ctx, b), nil
}

// parseRedisURL keeps the parser's own message to itself: it quotes the URL, password and all.
func parseRedisURL(url string) (*redis.Options, error) {
	const form = "redis://[user:password@]host[:port][/database], or rediss:// for TLS"
	opts, err := redis.ParseURL(url)
	if err == nil {
		return opts, nil
	}
	scheme, _, found := strings.Cut(url, "://")
	if !found || scheme != "redis" && scheme != "rediss" && scheme != "unix" {
		return nil, fmt.Errorf("%w: REDIS_URL does not begin with redis:// or rediss://: write it as %s", ErrOptions, form)
	}
	return nil, fmt.Errorf("%w: REDIS_URL is not understood (its text may hold a password and is not shown): write it as %s; "+
		"percent-encode what is special in user and password; the database is a number; parameters are those of go-redis", ErrOptions, form)
}

// numberFromEnv reads a variable that is a whole number, at least least. It is false if the
// variable is not set.
func numberFromEnv(name string, least int) (int, bool, error) {
	text := strings.TrimSpace(os.Getenv(name))
	if text == "" {
		return 0, false, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least {
		return 0, false, fmt.Errorf("%w: %s is %.40q: a whole number, at least %d", ErrOptions, name, text, least)
	}
	return n, true, nil
}
