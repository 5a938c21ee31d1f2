package kafkaclient

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Logger hands the warnings and errors of a client on. The clients of a process try again for as
// long as a cluster is unavailable, all with the same words: so each message is a warning once in
// repeatAfter, and in between it is seen at debug only.
type Logger struct {
	log    *slog.Logger
	repeat *Repeats
}

// NewLogger hands on to log what it has not said lately. Clients that share r say it once together.
func NewLogger(log *slog.Logger, r *Repeats) Logger { return Logger{log, r} }

// Level is asked by the client before it makes a message.
func (l Logger) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelWarn) {
		return kgo.LogLevelWarn
	}
	return kgo.LogLevelNone
}

// Log is told by the client what happens.
func (l Logger) Log(level kgo.LogLevel, message string, attributes ...any) {
	attributes = append(attributes[:len(attributes):len(attributes)], "kafka_level", level.String())
	to := slog.LevelDebug
	if !ours(attributes) {
		if held, due := l.repeat.due(message, time.Now()); due {
			to = slog.LevelWarn
			if held > 0 {
				attributes = append(attributes, "held_back", held)
			}
		}
	}
	l.log.Log(context.Background(), to, "kafka: "+message, attributes...)
}

// ours reports whether the client speaks of an end that this process has caused itself.
func ours(attributes []any) bool {
	for _, attribute := range attributes {
		if err, ok := attribute.(error); ok && (errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed)) {
			return true
		}
	}
	return false
}

// repeatAfter is how long a message that was logged is held back.
const repeatAfter = time.Minute

// Repeats counts messages that come again and again. It compares their fixed text: what differs,
// such as the port of a connection, stands in attributes.
type Repeats struct {
	mu   sync.Mutex
	seen map[string]*repeated
}

type repeated struct {
	logged time.Time
	held   int // since then
}

// NewRepeats has seen no message yet.
func NewRepeats() *Repeats { return &Repeats{seen: make(map[string]*repeated)} }

// due reports whether the message is to be logged now, and how often it was held back before.
func (r *Repeats) due(message string, now time.Time) (held int, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.seen[message]
	if before != nil && now.Sub(before.logged) < repeatAfter {
		before.held++
		return 0, false
	}
	if before != nil {
		held = before.held
	}
	r.seen[message] = &repeated{logged: now}
	return held, true
}

// Options are common to every Kafka client of the relay; more come after them.
func Options(brokers []string, id string, log Logger, more []kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{
		kgo.SeedBrokers(brokers...),
		kgo.ClientID(id),
		// The first record to a topic that has just been made waits for this.
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.WithLogger(log),
	}, more...)
}
