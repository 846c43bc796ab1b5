package tokens_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/internal/testserver"
	"github.com/alkey-go/alkey/tokens"
)

// documentedACL returns a user's line of the ACL file in docs/redis.md, with a password in it.
func documentedACL(t testing.TB, user string) string {
	t.Helper()
	page, err := os.ReadFile("../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^user ` + user + ` .*$`).FindString(string(page))
	if line == "" {
		t.Fatalf("docs/redis.md has no user %s", user)
	}
	return regexp.MustCompile(`>\S+`).ReplaceAllLiteralString(line, ">"+password)
}

// serverWithACL starts a server that lets in a user as the line says, and nobody else.
func serverWithACL(t testing.TB, line string, args ...string) *testserver.RedisServer {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users.acl")
	if err := os.WriteFile(file, []byte("user default off\nuser admin on >admin ~* &* +@all\n"+line+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return testserver.Redis(t, append(args, "--aclfile", file)...)
}

// buffer collects what is logged. Safe for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// lifeOfTokens runs everything that a token store does on a server or cluster, which is restarted at the
// end, and returns the first thing that went wrong, warnings included.
func lifeOfTokens(t *testing.T, user string, restart func(), addrs ...string) error {
	log := new(buffer)
	b, err := tokens.NewRedisBackend(tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{
		Addrs: addrs, Username: user, Password: password,
	}})
	if err != nil {
		return err
	}
	s := tokens.New(b, tokens.WithLogger(slog.New(slog.NewTextHandler(log, nil))), tokens.WithReadTimeout(patience), tokens.WithWriteTimeout(patience))
	defer s.Close()
	if err := oneLife(t.Context(), s); err != nil {
		return err
	}
	if text := log.String(); strings.Contains(text, "WARN") || strings.Contains(text, "ERROR") {
		return fmt.Errorf("it is logged: %s", text)
	}
	before, err := tokens.Get(t.Context(), s, "alkey:users#1")
	if err != nil {
		return err
	}
	restart()
	after, err := getAfter(t.Context(), s, "alkey:users#1", tokens.ErrFenced, tokens.ErrDown)
	if err != nil {
		return fmt.Errorf("after a restart: %w", err)
	}
	if after <= before {
		return fmt.Errorf("after a restart the stamp is %d, and was %d", after, before)
	}
	return oneLife(t.Context(), s)
}

const patience = 10 * time.Second

// oneLife reads, mints, fences, renews, publishes, releases and abandons.
func oneLife(ctx context.Context, s *tokens.Store) error {
	before, err := settled(ctx, s, "alkey:users#1")
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	changes := tokens.NewChanges(tokens.Row("users", 1), tokens.Row("users", 2), tokens.Table("orders"))
	owner := tokens.NewOwner()
	for range 2 {
		if err := s.Fence(ctx, owner, changes, time.Minute); err != nil {
			return fmt.Errorf("fence: %w", err)
		}
	}
	if _, err := tokens.Get(ctx, s, "alkey:users#1"); !errors.Is(err, tokens.ErrFenced) {
		return fmt.Errorf("a fenced row gives %w", err)
	}
	stamp, err := s.Publish(ctx, owner, changes)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	after, err := tokens.Get(ctx, s, "alkey:users#1")
	if err != nil || after != stamp || after <= before {
		return fmt.Errorf("after a publish of %d the stamp is %d, before %d: %w", stamp, after, before, err)
	}
	// Rows that nobody reads leave nothing.
	owner, changes = tokens.NewOwner(), tokens.NewChanges(tokens.Row("unread", 1))
	if err := s.Fence(ctx, owner, changes, time.Minute); err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	if err := s.Release(ctx, owner, changes); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	owner = tokens.NewOwner()
	if err := s.Fence(ctx, owner, changes, time.Minute); err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	if _, err := s.Publish(ctx, owner, changes); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	// The fence of a writer that died runs out, and mint drops it.
	owner, changes = tokens.NewOwner(), tokens.NewChanges(tokens.Row("users", 3))
	if err := s.Abandon(ctx, owner, changes, time.Millisecond); err != nil {
		return fmt.Errorf("abandon: %w", err)
	}
	if _, err := settled(ctx, s, "alkey:users#3"); err != nil {
		return fmt.Errorf("after a fence has run out: %w", err)
	}
	return nil
}

// settled is Get that waits until no commit is under way.
func settled(ctx context.Context, s *tokens.Store, arg any) (tokens.Stamp, error) {
	return getAfter(ctx, s, arg, tokens.ErrFenced)
}

// getAfter is Get that waits for as long as it gets certain errors.
func getAfter(ctx context.Context, s *tokens.Store, arg any, passing ...error) (stamp tokens.Stamp, err error) {
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		stamp, err = tokens.Get(ctx, s, arg)
		if !slices.ContainsFunc(passing, func(p error) bool { return errors.Is(err, p) }) || time.Now().After(end) {
			return stamp, err
		}
	}
}

// TestACLOfTokens: what docs/redis.md allows is enough, the server is asked for nothing else, and without
// any one of the commands something fails or is warned of.
func TestACLOfTokens(t *testing.T) {
	const user = "alkey-tokens"
	line := documentedACL(t, user)
	t.Run("all", func(t *testing.T) {
		t.Parallel()
		server := serverWithACL(t, line)
		if err := lifeOfTokens(t, user, server.Restart, server.Addr()); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		// The usual way to open it asks a little more, of the server's eviction.
		s, err := tokens.NewRedis(t.Context(), tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{
			Addrs: []string{server.Addr()}, Username: user, Password: password,
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := settled(t.Context(), s, "alkey:users#1"); err != nil {
			t.Error(err)
		}
		admin := redis.NewClient(&redis.Options{Addr: server.Addr(), Username: "admin", Password: "admin"})
		defer admin.Close()
		deniedOnly(t, admin, user)
	})
	withoutEach(t, line, math.MaxInt, func(t *testing.T, line string) error {
		server := serverWithACL(t, line)
		return lifeOfTokens(t, user, server.Restart, server.Addr())
	})
}

// TestACLOfTokensInCluster is TestACLOfTokens for Redis Cluster, where commands are others.
func TestACLOfTokensInCluster(t *testing.T) {
	const user = "alkey-tokens-cluster"
	line := documentedACL(t, user)
	life := func(t *testing.T, line string) (*testserver.RedisClusterServer, error) {
		c := testserver.RedisCluster(t, 3)
		admit := func() {
			for i := range 3 {
				words := strings.Fields(line)
				args := []any{"acl", "setuser", user}
				for _, w := range words[2:] {
					args = append(args, w)
				}
				if err := c.Client(i).Do(t.Context(), args...).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		admit()
		return c, lifeOfTokens(t, user, func() {
			// What the others are is still recorded.
			i := c.Owner(c.Slot("alkey.cache.TOKENS:alkey:users#1"))
			if i == c.Owner(c.Slot("alkey.cache.TOKENS:identity")) {
				t.Fatal("the row and the identity are on one node: take another row")
			}
			c.Node(i).Restart()
			admit()
		}, c.Addrs()...)
	}
	t.Run("all", func(t *testing.T) {
		c, err := life(t, line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		for i := range 3 {
			deniedOnly(t, c.Client(i), user)
		}
	})
	// Each needs a cluster of its own, and seconds: every run of the tests draws some.
	withoutEach(t, line, 4, func(t *testing.T, line string) error {
		_, err := life(t, line)
		return err
	})
}

// withoutEach runs a life with a user's line from which one command or pattern is missing, for as many of them as
// are asked for, drawn at random.
func withoutEach(t *testing.T, line string, most int, life func(t *testing.T, line string) error) {
	words := strings.Fields(line)
	needed := slices.DeleteFunc(slices.Clone(words), func(w string) bool {
		// PING is for nodes that take long to load their data.
		return w[0] != '+' && w[0] != '~' || w == "+ping"
	})
	rand.Shuffle(len(needed), func(i, j int) { needed[i], needed[j] = needed[j], needed[i] })
	for _, word := range needed[:min(most, len(needed))] {
		t.Run("without "+word, func(t *testing.T) {
			t.Parallel()
			err := life(t, strings.Join(slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == word }), " "))
			if err == nil {
				t.Error("it is not needed")
			}
			t.Log(err)
		})
	}
}

// deniedOnly checks that a server has refused a user nothing but what go-redis tries and does without.
func deniedOnly(t *testing.T, admin *redis.Client, user string) {
	t.Helper()
	entries, err := admin.ACLLog(t.Context(), 100).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Username == user && e.Object != "command" && !strings.HasPrefix(e.Object, "client|") {
			t.Errorf("the server has refused %s: %s %q", user, e.Reason, e.Object)
		}
	}
}

// TestScriptsAreConstant: whatever is in identifiers and owners, the server is sent no other script than the
// few that are part of the package, and does with them what it does with any text.
func TestScriptsAreConstant(t *testing.T) {
	server := testserver.Redis(t)
	sent := new(testserver.Commands)
	b, err := tokens.NewRedisBackend(tokens.RedisOptions{
		UniversalOptions: redis.UniversalOptions{Addrs: []string{server.Addr()}},
		Hooks:            []redis.Hook{sent},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := tokens.New(b, tokens.WithReadTimeout(patience), tokens.WithWriteTimeout(patience), tokens.WithLogger(slog.New(slog.DiscardHandler)))
	defer s.Close()
	if err := oneLife(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	usual := scripts(sent)
	if len(usual) < 4 {
		t.Fatalf("the scripts of a life are %q", usual)
	}
	plain := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer plain.Close()
	if err := plain.Set(t.Context(), "canary", "alive", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for _, hostile := range []string{
		`'); redis.call('FLUSHALL') --`, "]] redis.call('DEL','canary') --[[", "%s%d%%", "\r\n*1\r\n$8\r\nFLUSHALL\r\n",
		"\x00", "!owner@9999999999999999", "1!x@1", "clock", "identity", "#!", "*#!", "\xff\xfe", strings.Repeat("}", 5000),
	} {
		for _, id := range []tokens.ID{tokens.Row(hostile, hostile), tokens.Row("users", hostile), tokens.Row("users", hostile, hostile), tokens.Table(hostile)} {
			before, err := settled(t.Context(), s, id)
			if err != nil {
				t.Fatalf("%q: %v", hostile, err)
			}
			owner := tokens.Owner(hostile)
			if strings.ContainsAny(hostile, "!@") {
				owner = tokens.NewOwner() // what a record cannot hold is not an owner that NewOwner makes
			}
			changes := tokens.NewChanges(id)
			if err := s.Fence(t.Context(), owner, changes, time.Minute); err != nil {
				t.Fatalf("%q: %v", hostile, err)
			}
			if _, err := tokens.Get(t.Context(), s, id); !errors.Is(err, tokens.ErrFenced) {
				t.Errorf("%q: a fenced record gives %v", hostile, err)
			}
			if _, err := s.Publish(t.Context(), owner, changes); err != nil {
				t.Fatalf("%q: %v", hostile, err)
			}
			if after, err := tokens.Get(t.Context(), s, id); err != nil || after <= before {
				t.Errorf("%q: after a publish the stamp is %d, %v, and was %d", hostile, after, err, before)
			}
		}
	}
	for _, one := range scripts(sent) {
		if !slices.Contains(usual, one) {
			t.Errorf("another script was sent: %.200s", one)
		}
	}
	if v, err := plain.Get(t.Context(), "canary").Result(); v != "alive" || err != nil {
		t.Errorf("the canary is %q, %v", v, err)
	}
	keys, err := plain.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if key != "canary" && !regexp.MustCompile(`^alkey\.cache\.TOKENS:(clock|identity|alkey:[A-Za-z0-9_.%*-]+#[A-Za-z0-9_.%*!,~-]+)$`).MatchString(key) {
			t.Errorf("there is a key %q", key)
		}
	}
}

// scripts returns which scripts were sent since it was called last, as texts or as digests.
func scripts(sent *testserver.Commands) []string {
	var all []string
	for _, cmd := range slices.Concat(sent.Take()...) {
		if name := cmd.Name(); name == "eval" || name == "evalsha" {
			if text := fmt.Sprint(cmd.Args()[1]); !slices.Contains(all, text) {
				all = append(all, text)
			}
		}
	}
	return all
}

// TestServerThatTakesNoWrites: a server that would take no fence is not read either.
func TestServerThatTakesNoWrites(t *testing.T) {
	for name, c := range map[string]struct{ begin, end []any }{
		"full":                 {[]any{"config", "set", "maxmemory", "1"}, []any{"config", "set", "maxmemory", "0"}},
		"without replicas":     {[]any{"config", "set", "min-replicas-to-write", "1"}, []any{"config", "set", "min-replicas-to-write", "0"}},
		"a replica of another": {[]any{"replicaof", "127.0.0.1", "1"}, []any{"replicaof", "no", "one"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testserver.Redis(t, "--maxmemory-policy", "noeviction")
			b, err := tokens.NewRedisBackend(tokens.RedisOptions{UniversalOptions: redis.UniversalOptions{Addrs: []string{server.Addr()}}})
			if err != nil {
				t.Fatal(err)
			}
			s := tokens.New(b, tokens.WithReadTimeout(patience), tokens.WithWriteTimeout(patience), tokens.WithLogger(slog.New(slog.DiscardHandler)))
			defer s.Close()
			if _, err := settled(t.Context(), s, "alkey:users#1"); err != nil {
				t.Fatal(err)
			}
			plain := redis.NewClient(&redis.Options{Addr: server.Addr()})
			defer plain.Close()
			if err := plain.Do(t.Context(), c.begin...).Err(); err != nil {
				t.Fatal(err)
			}
			if _, err := tokens.Get(t.Context(), s, "alkey:users#1"); !errors.Is(err, tokens.ErrDown) {
				t.Errorf("it is read: %v", err)
			}
			if err := plain.Do(t.Context(), c.end...).Err(); err != nil {
				t.Fatal(err)
			}
			if _, err := getAfter(t.Context(), s, "alkey:users#1", tokens.ErrDown, tokens.ErrFenced); err != nil {
				t.Errorf("it is not read again: %v", err)
			}
		})
	}
}
