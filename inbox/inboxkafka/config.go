package inboxkafka

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
)

// Config says what a Consumer reads, and how. Required are Brokers and Topics; the zero value of
// every other field works.
type Config struct {
	// Brokers are the bootstrap servers of the cluster, HOST:PORT each. Required, unless Options has
	// kgo.SeedBrokers.
	Brokers []string

	// Options are added to the Kafka client, for TLS, SASL, timeouts and tests. What the promises of
	// this package rest on is set after them: group, topics, isolation level, commits, rebalance
	// callbacks. A transactional id, control records, topics by regular expression and partitions of
	// one's own are refused. Defaults to none.
	Options []kgo.Opt

	// Group is the consumer group. All processes of the service are in it, all with the same name of
	// their inbox: marks of one name say nothing to another, and a partition that moved between two
	// would have effects twice. Defaults to the name of the inbox's consumer.
	Group string

	// Topics are the topics to consume. All processes of a group have the same ones: a topic that is
	// left out is not retained for. Required.
	Topics []string

	// Identify makes a message of a record: who sent it, and its id. A record for which it returns an
	// error is parked, not skipped; see the package. It must be quick, must not keep the record, and
	// must return the same for the same record always. Defaults to RelayIdentity.
	Identify func(*kgo.Record) (inbox.Message, error)

	// Workers is how many calls of a handler run at once, each for another key: over all partitions
	// of this process. Handlers leave one connection of the pool to the work of the inbox itself,
	// such as commits, so Workers beyond the others only wait. New refuses a pool of one connection.
	// Defaults to 16.
	Workers int

	// Batch is how many messages one transaction handles at most. With Handle and more than 1, the
	// handler is called for one after the other in one transaction: fewer commits, and all of them
	// again if one fails. AtMostOnce has no batches. Defaults to 100 for HandleBatch, and to 1
	// otherwise.
	Batch int

	// MaxRecords bounds the records that this process holds, waiting or in flight, and for each
	// partition also the distance from the first record that is not done to the last one held: a
	// partition whose key waits is not fetched beyond it, the others are. Larger values hold more
	// memory and keep more keys busy. Between 1 and 1,000,000. Defaults to 10,000.
	MaxRecords int

	// MaxBytes bounds the bytes of keys, values and headers of the records that this process holds; a
	// single larger record is still taken, alone. The client holds one answer of each broker besides,
	// of a quarter of this. A compressed batch of records that takes more than this once it is
	// decompressed, and more than 16 MiB, is not read: it is parked under its place, with cause size.
	// At least 64 KiB. Defaults to 64 MiB.
	MaxBytes int64

	// Attempts is how often a message is tried before it is parked. Negative is without end. An
	// outage, and a message that was not to blame, count for nothing. Defaults to 10.
	Attempts int

	// AttemptsFor parks a message that has failed for so long, handling and waiting together but
	// without outages, even if it was tried less often than Attempts. Defaults to 0: no limit.
	AttemptsFor time.Duration

	// BackoffMin and BackoffMax bound the wait of a key after a failure of its message: it doubles,
	// with jitter of a half. The pauses between the trials of an outage are made in the same way, but
	// are 5 s at most. Default to 100 ms and 30 s.
	BackoffMin, BackoffMax time.Duration

	// CrashLimit is how often the process may end while it handles one message before the message is
	// parked: the first time in company, then alone, so 1 is as 2. Negative is without end. Defaults
	// to 3.
	CrashLimit int

	// DrainTimeout is how long handlers may go on once Run's context has ended, or a partition goes
	// to another process. Then their context ends too; what they did not commit is handled again.
	// Defaults to 20 s.
	DrainTimeout time.Duration

	// CommitInterval is how often offsets are committed. What lies between the last commit and a
	// crash is fetched once more, and skipped. Defaults to 1 s.
	CommitInterval time.Duration

	// RetryInterval is how often this process asks whether somebody wants parked messages to be tried
	// again. Defaults to 1 s.
	RetryInterval time.Duration

	// Retention is how long marks are kept. It is refused if it is shorter than a message can still
	// come back: the retention and one segment of its topic, and ReplayWindow. KeepForever keeps
	// them, and asks the cluster nothing. Defaults to that sum, and to KeepForever if a topic keeps
	// records forever. If several Consumers share the name of an inbox, the longest one counts for
	// all.
	Retention time.Duration

	// ReplayWindow is how long after its record has left the topic a message may still be sent once
	// more, by a replay from a copy or a producer that tries again. Defaults to 24 h.
	ReplayWindow time.Duration

	// SweepInterval is how often old marks are removed, after the settings of the topics have been
	// looked at once more. Defaults to 1 h.
	SweepInterval time.Duration

	// StartOffset is where a partition begins for which the group has no offset. An end loses what
	// was sent before. Defaults to the beginning.
	StartOffset kgo.Offset

	// Instance makes this process a static member of the group under that name (group.instance.id): a
	// restart within SessionTimeout moves no partitions. No two processes have the same one. Defaults
	// to none.
	Instance string

	// Rack is where this process runs, for brokers that let consumers fetch from the nearest replica.
	// Defaults to none.
	Rack string

	// SessionTimeout is how long this process may be silent before its partitions go to others. The
	// brokers' group.min.session.timeout.ms (6 s) bounds it from below. Defaults to 45 s.
	SessionTimeout time.Duration

	// Balancers choose who gets which partition, the first one that all members have. Defaults to
	// kgo.CooperativeStickyBalancer: a rebalance stops only what moves.
	Balancers []kgo.GroupBalancer

	// Hooks are told of events. Defaults to none.
	Hooks Hooks

	// Logger receives what happens, attributes only, never a payload or a secret. Defaults to a
	// logger that discards.
	Logger *slog.Logger
}

// defaultsFor is WithDefaults for a kind of handler.
func (c *Config) defaultsFor(mode mode) Config {
	defaults := c.WithDefaults()
	if c.Batch == 0 && mode == inBatches {
		defaults.Batch = 100
	}
	return defaults
}

// WithDefaults returns a copy with every unset field at its default, apart from two that New knows:
// Group, which is the inbox's consumer, and Batch for HandleBatch.
func (c Config) WithDefaults() Config {
	if c.Identify == nil {
		c.Identify = RelayIdentity
	}
	setDefault(&c.Workers, 16)
	setDefault(&c.Batch, 1)
	setDefault(&c.MaxRecords, 10_000)
	setDefault(&c.MaxBytes, 64<<20)
	setDefault(&c.Attempts, 10)
	setDefault(&c.BackoffMin, 100*time.Millisecond)
	setDefault(&c.BackoffMax, max(30*time.Second, c.BackoffMin))
	setDefault(&c.CrashLimit, 3)
	setDefault(&c.DrainTimeout, 20*time.Second)
	setDefault(&c.CommitInterval, time.Second)
	setDefault(&c.RetryInterval, time.Second)
	setDefault(&c.ReplayWindow, 24*time.Hour)
	setDefault(&c.SweepInterval, time.Hour)
	setDefault(&c.SessionTimeout, 45*time.Second)
	if c.StartOffset == (kgo.Offset{}) {
		c.StartOffset = kgo.NewOffset().AtStart()
	}
	if len(c.Balancers) == 0 {
		c.Balancers = []kgo.GroupBalancer{kgo.CooperativeStickyBalancer()}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate returns every fault of a configuration that has its defaults.
func (c Config) validate(mode mode) error {
	var all faultList
	fault := all.add
	fault(len(c.Brokers) == 0 && len(c.Options) == 0, "Brokers: not set; give HOST:PORT of at least one broker")
	for _, b := range c.Brokers {
		fault(strings.TrimSpace(b) == "", "Brokers: an empty address in the list")
	}
	fault(len(c.Topics) == 0, "Topics: not set; give at least one")
	seen := map[string]bool{}
	for _, t := range c.Topics {
		fault(t == "", "Topics: an empty name in the list")
		fault(seen[t], "Topics: %q is in the list twice", t)
		seen[t] = true
	}
	fault(mode == unset, "the handler is not set; make one with Handle, HandleBatch or AtMostOnce")
	fault(mode == atMostOnce && c.Batch != 1, "Batch: %d with AtMostOnce, which handles one message at a time", c.Batch)
	c.validateLimits(fault)
	return errors.Join(all...)
}

// faultList collects what is wrong.
type faultList []error

func (l *faultList) add(bad bool, format string, args ...any) {
	if bad {
		*l = append(*l, fmt.Errorf("inboxkafka: "+format, args...))
	}
}

// validateLimits reports the faults of numbers and times.
func (c Config) validateLimits(fault func(bad bool, format string, args ...any)) {
	fault(c.Workers < 1 || c.Workers > 10_000, "Workers: %d is not between 1 and 10000", c.Workers)
	fault(c.Batch < 1 || c.Batch > 10_000, "Batch: %d is not between 1 and 10000", c.Batch)
	fault(c.MaxRecords < 1 || c.MaxRecords > 1_000_000, "MaxRecords: %d is not between 1 and 1000000", c.MaxRecords)
	fault(c.MaxBytes < 64<<10, "MaxBytes: %d is less than 64 KiB", c.MaxBytes)
	fault(c.AttemptsFor < 0, "AttemptsFor: %v is negative", c.AttemptsFor)
	fault(c.BackoffMin < time.Millisecond, "BackoffMin: %v is less than 1ms", c.BackoffMin)
	fault(c.BackoffMax < c.BackoffMin, "BackoffMax: %v is less than BackoffMin (%v)", c.BackoffMax, c.BackoffMin)
	fault(c.DrainTimeout < 0, "DrainTimeout: %v is negative", c.DrainTimeout)
	fault(c.CommitInterval < time.Millisecond, "CommitInterval: %v is less than 1ms", c.CommitInterval)
	fault(c.RetryInterval < time.Millisecond, "RetryInterval: %v is less than 1ms", c.RetryInterval)
	fault(c.Retention < 0, "Retention: %v is negative; KeepForever keeps marks forever", c.Retention)
	fault(c.ReplayWindow < 0, "ReplayWindow: %v is negative", c.ReplayWindow)
	fault(c.SweepInterval < time.Millisecond, "SweepInterval: %v is less than 1ms", c.SweepInterval)
	fault(c.SessionTimeout < 100*time.Millisecond, "SessionTimeout: %v is less than 100ms", c.SessionTimeout)
}
