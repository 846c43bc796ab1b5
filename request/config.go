package request

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-playground/validator/v10"

	"github.com/alkey-go/alkey/cache"
	"github.com/alkey-go/alkey/tokens"
)

// Config sets up a Kit, and with it the middleware.
type Config struct {
	// Tokens is the process's token store, the same that its databases were opened with. Required.
	Tokens *tokens.Store `validate:"required"`

	// Values is where Fetch keeps values. Default: in this process, at most 64 MiB.
	Values cache.Store `validate:"-"`

	// ValueTTL is how long a stored value is kept at most. No value needs it to stay right; it
	// frees the room of values that nobody asks for any more, and it is the one limit on values
	// whose arguments name nothing that can change. Default 0: as long as Values keeps them.
	ValueTTL time.Duration `validate:"min=0"`

	// Version is the version of the application's build, part of every stored value: values of
	// another version are misses. Default: a digest of the executable, which the first Fetch of the
	// process computes: that takes some milliseconds, once.
	Version string `validate:"-"`

	// Codec turns values into the bytes that are stored; []byte and string need none. Default: JSON.
	Codec Codec `validate:"-"`

	// Lease makes the processes that share Values take turns: one makes a value, and the others wait for
	// it, for as long as this at most, and then make it themselves. It is for values that take long to
	// make; choose more than that takes. It costs a round trip before each fill. Values must be a
	// cache.Leaser, as the stores of package cache are. Default 0: every process makes its own.
	Lease time.Duration `validate:"min=0"`

	// ReplicaLag says that requests may load their data from replicas of the database, and how far these
	// are behind at most. What has changed within that time, or the process has not known for so long, is
	// loaded and not stored, so that what a replica does not show yet is never served to others. A
	// replica that is further behind must not be asked. Of all Kits over one token store the longest
	// lag holds. Default 0: all data comes from the primary.
	ReplicaLag time.Duration `validate:"min=0"`

	// MaxIdentifiers is how many identifiers one request can ask for, those that the values depend on which
	// it finds included. What it asks for beyond is not cached: its keys are one-shot (TooMany), and nothing is
	// asked of the token store for them. It bounds what a request that takes its identifiers from its
	// input can add to the token store and to the process's memory. At most 1,000,000; default 10,000.
	MaxIdentifiers int `validate:"min=0,max=1000000"`

	// StrongETag makes NotModified send strong ETags. Default: weak ones. See StrongETag.
	StrongETag bool `validate:"-"`

	// CacheControl is the Cache-Control header that NotModified sets where the handler has set none.
	// Default "private, no-cache": no shared cache keeps the response, and the browser asks each time.
	CacheControl string `validate:"-"`

	// Vary names the request headers that NotModified adds to Vary. Default: Cookie. Empty and not
	// nil: none.
	Vary []string `validate:"-"`

	// Debug makes the middleware tell in a Server-Timing header, which browsers show, what the request
	// has asked for until its header was written: see Stats.ServerTiming. Anybody can read it. Default: no.
	Debug bool `validate:"-"`

	// Logger gets the warnings. Default: slog.Default().
	Logger *slog.Logger `validate:"-"`

	// OnFetch is told how each value was come by that is fetched, before the call returns, on the caller's goroutine and
	// with the caller's context: for metrics, or to show on a page what came from the cache. It is
	// not told of a fill that panicked. Default: nobody is told.
	OnFetch func(ctx context.Context, e FetchEvent) `validate:"-"`
}

// ErrConfig is returned by New for a Config that cannot work. The error names the fields and what
// to do about them.
var ErrConfig = errors.New("alkey: invalid Config")

// defaultValues is the size of the value store that a Kit makes itself.
const defaultValues = 64 << 20

// remedies has a line for every rule in Config's tags, by field and rule.
var remedies = map[string]string{
	"Tokens required":    "is missing: open a store with tokens.FromEnv or tokens.NewMemory, and open the databases with the same one",
	"Lease min":          "is negative: use a positive duration, or 0 for no leases",
	"MaxIdentifiers min": "is negative: use how many identifiers a request can ask for, or 0 for the default, 10,000",
	"MaxIdentifiers max": "is larger than 1,000,000: a request that needs more identifiers should depend on tables",
	"ReplicaLag min":     "is negative: use how far replicas may be behind, or 0 if all data comes from the primary",
	"ValueTTL min":       "is negative: use a positive duration, or 0 to keep values as long as there is room",
}

// check is the one place where a Config is judged.
func (c *Config) check() error {
	err := validator.New(validator.WithRequiredStructEnabled()).Struct(c)
	var faults validator.ValidationErrors
	if !errors.As(err, &faults) {
		return err
	}
	errs := make([]error, len(faults))
	for i, f := range faults {
		remedy, ok := remedies[f.StructField()+" "+f.Tag()]
		if !ok {
			remedy = fmt.Sprintf("does not satisfy %q", f.Tag()+"="+f.Param())
		}
		errs[i] = fmt.Errorf("%w: Config.%s %s", ErrConfig, f.StructField(), remedy)
	}
	return errors.Join(errs...)
}

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	if c.Values == nil {
		c.Values = cache.NewMemory(defaultValues)
	}
	if c.Codec == nil {
		c.Codec = JSON{}
	}
	if c.MaxIdentifiers == 0 {
		c.MaxIdentifiers = defaultMaxIdentifiers
	}
	if c.CacheControl == "" {
		c.CacheControl = "private, no-cache"
	}
	if c.Vary == nil {
		c.Vary = []string{"Cookie"}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}
