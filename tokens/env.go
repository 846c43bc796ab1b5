package tokens

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// FromEnv makes the Store that the environment names:
//
//   - REDIS_URL is the server, as redis://[user:password@]host[:port][/database], or rediss:// for
//     TLS; query parameters are go-redis's. With master_name=NAME the host is a Sentinel, user and
//     password are the Sentinel's, and the parameters username and password the server's; with
//     addr=HOST:PORT, once for each further node, it is a Redis Cluster, or another Sentinel beside
//     master_name. Without REDIS_URL the Store serves one process only, and a warning says so.
//   - REDIS_DB is the number of the database and overrides the URL's. A cluster has 0 only.
//   - REDIS_MAX_CONNECTIONS bounds the connections to the server, in a cluster to each node. Default:
//     go-redis's, 10 for each CPU.
//
// A wrong value is an error that names the variable, wraps ErrOptions and shows no password. A
// server that does not answer is a warning only.
func FromEnv(ctx context.Context) (*Store, error) {
	text := os.Getenv("REDIS_URL")
	db, haveDB, err := numberFromEnv("REDIS_DB", 0)
	if err != nil {
		return nil, err
	}
	connections, haveConnections, err := numberFromEnv("REDIS_MAX_CONNECTIONS", 1)
	if err != nil {
		return nil, err
	}
	if text == "" {
		slog.Default().Warn("alkey: REDIS_URL is not set: tokens are kept in this process and serve no other")
		return NewMemory(), nil
	}
	server, err := parseRedisURL(text)
	if err != nil {
		return nil, err
	}
	if haveDB {
		if err := server.database(db); err != nil {
			return nil, err
		}
	}
	if haveConnections {
		server.connections(connections)
	}
	b, err := server.backend()
	if err != nil {
		return nil, err
	}
	return connect(ctx, b), nil
}

// redisURL is what a URL names: one of the three.
type redisURL struct {
	single   *redis.Options
	sentinel *redis.FailoverOptions
	cluster  *redis.ClusterOptions
}

// parseRedisURL keeps the parsers' own messages to itself: they quote the URL, password and all.
func parseRedisURL(text string) (redisURL, error) {
	const form = "redis://[user:password@]host[:port][/database], or rediss:// for TLS"
	scheme, _, found := strings.Cut(text, "://")
	if !found || scheme != "redis" && scheme != "rediss" && scheme != "unix" {
		return redisURL{}, fmt.Errorf("%w: REDIS_URL does not begin with redis:// or rediss://: write it as %s", ErrOptions, form)
	}
	var server redisURL
	u, err := url.Parse(text)
	if err == nil {
		query := u.Query()
		err = checkAddresses(query["addr"])
		switch {
		case err != nil:
		case query.Has("master_name"):
			server.sentinel, err = redis.ParseFailoverURL(text)
			if err == nil && server.sentinel.MasterName == "" {
				return redisURL{}, fmt.Errorf("%w: REDIS_URL: master_name is empty", ErrOptions)
			}
			if err == nil && (server.sentinel.ReplicaOnly || server.sentinel.RouteByLatency || server.sentinel.RouteRandomly) {
				return redisURL{}, errReplicas
			}
		case query.Has("addr"):
			server.cluster, err = redis.ParseClusterURL(text)
			if err == nil && (server.cluster.ReadOnly || server.cluster.RouteByLatency || server.cluster.RouteRandomly) {
				return redisURL{}, errReplicas
			}
		default:
			server.single, err = redis.ParseURL(text)
		}
	}
	if err != nil {
		return redisURL{}, fmt.Errorf("%w: REDIS_URL is not understood (its text may hold a password and is not shown): write it as %s; "+
			"percent-encode what is special in user and password; the database is a number; parameters are those of go-redis", ErrOptions, form)
	}
	return server, nil
}

// checkAddresses refuses what is no host and port: the text could be a password, and what dials it would
// show it.
func checkAddresses(addrs []string) error {
	for _, addr := range addrs {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return err
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return err
		}
	}
	return nil
}

var errReplicas = fmt.Errorf("%w: REDIS_URL: tokens are read from masters only: leave out replica_only, read_only, route_by_latency and route_randomly", ErrOptions)

func (u *redisURL) database(db int) error {
	switch {
	case u.single != nil:
		u.single.DB = db
	case u.sentinel != nil:
		u.sentinel.DB = db
	case db != 0:
		return fmt.Errorf("%w: REDIS_DB is %d: a Redis Cluster has database 0 only", ErrOptions, db)
	}
	return nil
}

func (u *redisURL) connections(n int) {
	switch {
	case u.single != nil:
		u.single.PoolSize, u.single.MaxActiveConns, u.single.MinIdleConns = n, n, min(u.single.MinIdleConns, n)
	case u.sentinel != nil:
		u.sentinel.PoolSize, u.sentinel.MaxActiveConns, u.sentinel.MinIdleConns = n, n, min(u.sentinel.MinIdleConns, n)
	default:
		u.cluster.PoolSize, u.cluster.MaxActiveConns, u.cluster.MinIdleConns = n, n, min(u.cluster.MinIdleConns, n)
	}
}

func (u *redisURL) backend() (Backend, error) {
	var opts RedisOptions
	s, err := opts.settings()
	if err != nil {
		return nil, err
	}
	switch {
	case u.single != nil:
		return newRedis(s, single(u.single)), nil
	case u.sentinel != nil:
		return newRedis(s, failover(u.sentinel)), nil
	default:
		// It lends its options and is not used otherwise.
		lent := redis.NewClusterClient(u.cluster)
		defer lent.Close()
		opts.Client = lent
		return NewRedisBackend(opts)
	}
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
		return 0, false, fmt.Errorf("%w: %s is not a whole number of at least %d (its text may hold a password and is not shown)", ErrOptions, name, least)
	}
	return n, true, nil
}
