package cache_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/internal/testserver"
)

// lifeOfValues runs everything that a value store does on a server, which it restarts at the end, and
// returns the first thing that went wrong.
func lifeOfValues(t *testing.T, server *testserver.RedisServer, user, password string) error {
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), Username: user, Password: password, ContextTimeoutEnabled: true})
	defer client.Close()
	s := cache.NewRedisWith(client, cache.RedisOptions{Timeout: patient})
	defer s.Close()
	ctx := t.Context()
	if err := oneLife(ctx, s); err != nil {
		return err
	}
	release, err := s.Lease(ctx, "a", time.Minute)
	if err != nil || release == nil {
		return fmt.Errorf("lease: %w", err)
	}
	release()
	if release, err = s.Lease(ctx, "a", time.Minute); err != nil || release == nil {
		return fmt.Errorf("the lease is not given back: %w", err)
	}
	server.Stop()
	if _, err := s.Get(ctx, []string{"a"}); !errors.Is(err, cache.ErrDown) {
		return fmt.Errorf("a server that is stopped: %w", err)
	}
	server.Restart()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err = s.Get(ctx, []string{"a"}); err == nil {
			return oneLife(ctx, s)
		}
		if time.Now().After(end) {
			return fmt.Errorf("after a restart: %w", err)
		}
	}
}

// oneLife sets, gets and drops values, one and many.
func oneLife(ctx context.Context, s cache.Store) error {
	items := itemsOf(3, 10)
	if err := s.Set(ctx, "a", []byte("1"), time.Hour); err != nil {
		return fmt.Errorf("set: %w", err)
	}
	if err := cache.SetMany(ctx, s, items); err != nil {
		return fmt.Errorf("set many: %w", err)
	}
	v, err := s.Get(ctx, []string{"a", items[0].Key, "none"})
	if err != nil || string(v[0]) != "1" || v[1] == nil || v[2] != nil {
		return fmt.Errorf("get: %q, %w", v, err)
	}
	if err := s.Set(ctx, "a", nil, -1); err != nil {
		return fmt.Errorf("drop: %w", err)
	}
	if v, err := s.Get(ctx, []string{"a"}); err != nil || v[0] != nil {
		return fmt.Errorf("what was dropped: %q, %w", v, err)
	}
	return nil
}

// TestACLOfValues: what docs/redis.md allows is enough, and each of the commands is needed.
func TestACLOfValues(t *testing.T) {
	const user, password = "alkey-values", "s3cr3t"
	page, err := os.ReadFile("../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^user ` + user + ` .*$`).FindString(string(page))
	words := strings.Fields(regexp.MustCompile(`>\S+`).ReplaceAllLiteralString(line, ">"+password))
	if len(words) < 5 {
		t.Fatalf("docs/redis.md has no user %s", user)
	}
	try := func(t *testing.T, words []string) error {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "users.acl")
		if err := os.WriteFile(file, []byte("user default off\n"+strings.Join(words, " ")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return lifeOfValues(t, testserver.Redis(t, "--aclfile", file), user, password)
	}
	t.Run("all", func(t *testing.T) {
		if err := try(t, words); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	})
	for _, word := range words {
		if strings.HasPrefix(word, "+") || strings.HasPrefix(word, "~") {
			t.Run("without "+word, func(t *testing.T) {
				err := try(t, slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == word }))
				if err == nil {
					t.Error("it is not needed")
				}
				t.Log(err)
			})
		}
	}
}
