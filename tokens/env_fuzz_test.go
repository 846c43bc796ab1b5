package tokens

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

// A REDIS_URL is understood, or is an error that shows nothing of what may be a password.
func FuzzRedisURL(f *testing.F) {
	for _, s := range []string{
		"", "redis://", "redis://localhost", "redis://user:hunter2@host:6379/3", "rediss://:hunter2@[::1]:6380/0?dial_timeout=3",
		"redis://:hunter2@a:1?addr=b:2&addr=c:3", "redis://:hunter2@a:1?master_name=m&addr=b:2", "redis://h?master_name=",
		"redis://a:1?addr=hunter2", "redis://a:1?addr=b:2&read_only=true", "unix:///tmp/redis.sock?db=2", "http://hunter2@x", "redis://h/%zz",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		server, err := parseRedisURL(s)
		if err != nil {
			if !errors.Is(err, ErrOptions) {
				t.Errorf("%q: %v", s, err)
			}
			if u, perr := url.Parse(s); perr == nil {
				if password, ok := u.User.Password(); ok && len(password) > 3 && !strings.Contains(ErrOptions.Error(), password) &&
					strings.Contains(err.Error(), password) && !strings.Contains("REDIS_URL does not begin with redis:// or rediss:// is not understood", password) {
					t.Errorf("%q: the error shows the password: %v", s, err)
				}
			}
			return
		}
		n := 0
		for _, is := range []bool{server.single != nil, server.sentinel != nil, server.cluster != nil} {
			if is {
				n++
			}
		}
		if n != 1 {
			t.Fatalf("%q is %d kinds of server", s, n)
		}
		if err := server.database(3); (err != nil) != (server.cluster != nil) {
			t.Errorf("%q: database 3: %v", s, err)
		}
		server.connections(2)
	})
}
