package request_test

import (
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/request"
)

func TestConfigFaults(t *testing.T) {
	store, _ := newStore(t)
	for _, c := range []struct {
		name string
		cfg  request.Config
		want []string
	}{
		{"nothing", request.Config{}, []string{"alkey: ", "Config.Tokens is missing", "tokens.FromEnv", "tokens.NewMemory"}},
		{"a negative ttl", request.Config{Tokens: store, ValueTTL: -1}, []string{"alkey: ", "Config.ValueTTL is negative", "0"}},
		{"a negative lease", request.Config{Tokens: store, Lease: -1}, []string{"alkey: ", "Config.Lease is negative", "0"}},
		{"a negative bound", request.Config{Tokens: store, MaxIdentifiers: -1}, []string{"alkey: ", "Config.MaxIdentifiers is negative", "10,000"}},
		{"a bound too large", request.Config{Tokens: store, MaxIdentifiers: 1_000_001}, []string{"alkey: ", "Config.MaxIdentifiers is larger than 1,000,000"}},
		{"a negative lag", request.Config{Tokens: store, ReplicaLag: -1}, []string{"alkey: ", "Config.ReplicaLag is negative", "0"}},
		{"both", request.Config{ValueTTL: -time.Hour}, []string{"Config.Tokens", "Config.ValueTTL"}},
	} {
		k, err := request.New(c.cfg)
		if k != nil || !errors.Is(err, request.ErrConfig) {
			t.Errorf("%s: %v, %v", c.name, k, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", c.name, err, w)
			}
		}
	}
}

func TestConfigDefaults(t *testing.T) {
	store, _ := newStore(t)
	k, err := request.New(request.Config{Tokens: store})
	if err != nil {
		t.Fatal(err)
	}
	c := k.Config()
	if _, ok := c.Values.(*cache.Memory); !ok || c.Logger != slog.Default() || c.ValueTTL != 0 || c.Lease != 0 || c.Codec != (request.JSON{}) {
		t.Errorf("the defaults are %+v", c)
	}
}

// TestConfigRules: every rule has an error that says what to do.
func TestConfigRules(t *testing.T) {
	for f := range reflect.TypeFor[request.Config]().Fields() {
		rules, ok := f.Tag.Lookup("validate")
		if !ok {
			t.Errorf("Config.%s has no validate tag", f.Name)
		}
		for rule := range strings.SplitSeq(rules, ",") {
			name, _, _ := strings.Cut(rule, "=")
			if name != "-" && name != "omitempty" && !request.HasRemedy(f.Name, name) {
				t.Errorf("Config.%s: no remedy for %q", f.Name, name)
			}
		}
	}
}
