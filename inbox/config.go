package inbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/outbox-relay/relay/inbox/internal/tables"
)

// Config says who consumes, and how. Only Consumer is required.
type Config struct {
	// Consumer is the name under which messages are marked: that of the service, the same for all of
	// its processes and forever. Two services that both need each message have two names. At most 255
	// bytes. Required.
	Consumer string

	// Schema is the schema of the inbox tables. Defaults to none: the search_path of the connection
	// finds them.
	Schema string

	// Instance is who this process is, in claims and sessions; no two processes have the same one at
	// once. Defaults to the host name, the process id and a random part.
	Instance string

	// HandlerTimeout bounds one call of a handler. Its context ends then; a handler that goes on
	// regardless is left behind: its connection is closed, so that it can change nothing any more.
	// The call counts as a failure, ErrTimeout. Defaults to 30 s.
	HandlerTimeout time.Duration

	// Reruns is how often a transaction that Postgres broke off because of another one (a
	// serialization failure, a deadlock) is run again, handler and all, before the error is returned.
	// Negative is never. Defaults to 10.
	Reruns int

	// Logger receives what is parked and why, without payloads. Defaults to none.
	Logger *slog.Logger
}

// WithDefaults returns a copy with every unset field at its default.
func (c Config) WithDefaults() Config {
	if c.Instance == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown" // a name for people; the random part tells processes apart
		}
		c.Instance = fmt.Sprintf("%s/%d/%s", host, os.Getpid(), randomPart())
	}
	if c.HandlerTimeout == 0 {
		c.HandlerTimeout = 30 * time.Second
	}
	if c.Reruns == 0 {
		c.Reruns = 10
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// randomPart tells two processes apart whose names are the same.
func randomPart() string { return strings.ToLower(rand.Text()[:8]) }

// validate returns every fault of a configuration that has its defaults.
func (c Config) validate() error {
	var faults []error
	if reason := tables.CheckName(c.Consumer); reason != "" {
		faults = append(faults, fmt.Errorf("inbox: Consumer %s", reason))
	}
	if reason := tables.CheckText(c.Schema); reason != "" {
		faults = append(faults, fmt.Errorf("inbox: Schema %s", reason))
	}
	if reason := tables.CheckText(c.Instance); reason != "" {
		faults = append(faults, fmt.Errorf("inbox: Instance %s", reason))
	}
	if c.HandlerTimeout < 0 {
		faults = append(faults, fmt.Errorf("inbox: HandlerTimeout is %v; give a time such as 30s", c.HandlerTimeout))
	}
	return errors.Join(faults...)
}
