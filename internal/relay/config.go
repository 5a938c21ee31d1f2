package relay

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/partitioning"
)

// Config says what a Relay reads, where it publishes to, and how. The zero value of every field but DatabaseURL and
// Brokers works.
type Config struct {
	// DatabaseURL is the connection string of the primary that holds the outbox, as a URL or as keyword=value pairs. The
	// relay connects directly: a pooler in transaction mode has no session for it to hold. Required.
	DatabaseURL string

	// DatabaseURLFunc, where set, returns the connection string of each new session in place of DatabaseURL, for passwords that
	// change while the relay runs. It names the same database. An error of it is that of a connection that fails. Defaults to none.
	DatabaseURLFunc func() (string, error)

	// Brokers are the bootstrap servers of the cluster, HOST:PORT each. Required.
	Brokers []string

	// Name names the deployment: it stands in the transactional ids, the consumer group and the checkpoint topic, so it
	// must be unique for each database on one cluster, and must not change while rows are unpublished. It is also the header
	// source of every record, and consumers tell the messages of two sources apart: after a change, a message that is
	// published a second time is a new one to them. Letters, digits, '.', '_' and '-'. Defaults to the name of the database.
	Name string

	// Lanes are the outbox tables to publish, one lane each. Defaults to one lane named "outbox" on the table "outbox"
	// beside relay_lanes.
	Lanes []Lane

	// Route is the topic of a row whose topic column is null; {aggregate_type} stands for that column.
	// Defaults to "outbox.event.{aggregate_type}".
	Route string

	// Topics says what to do about a topic that does not exist.
	Topics Topics

	// Partitioner names how a key chooses its partition; see package partitioning. Defaults to "murmur2", as Java clients
	// do.
	Partitioner string

	// Compression of record batches: none, gzip, snappy, lz4 or zstd. Defaults to "lz4".
	Compression string

	// ContentType is the content-type header of a row that has none of its own. Defaults to "application/json".
	ContentType string

	// Poison says what becomes of a row that can never be sent. Defaults to Park.
	Poison Policy

	// Check, where set, is asked about each record before it is sent; an error refuses the row as Kafka would, for good. It must
	// be quick and must not keep the record.
	Check func(*kgo.Record) error

	// BatchRows bounds the rows in one Kafka transaction. Larger batches drain a backlog faster and hold more memory.
	// Defaults to 5,000.
	BatchRows int

	// BatchBytes bounds the bytes of keys, payloads and headers in one Kafka transaction; a single larger row still goes,
	// alone. Defaults to 8 MiB.
	BatchBytes int

	// Retention is how long a published row stays in the outbox, by its created_at and the clock of Postgres. RemoveAtOnce lets
	// it go as soon as it is published, KeepForever never. Defaults to 24 h.
	Retention time.Duration

	// PollMin is the pause after the first read that finds nothing; it doubles up to PollMax. Defaults to 2 ms.
	PollMin time.Duration

	// PollMax bounds the pause between reads of an idle outbox, and so the latency of the first row after a quiet time.
	// Defaults to 50 ms.
	PollMax time.Duration

	// TransactionTimeout is how long brokers let a Kafka transaction stay open before they abort it: the longest time that
	// a frozen relay with no standby can hold back read_committed consumers. Defaults to 15 s.
	TransactionTimeout time.Duration

	// SessionTimeout is how long a relay may be silent before the others in its group take its lanes over. The brokers'
	// group.min.session.timeout.ms (6 s) bounds it from below. Defaults to 6 s.
	SessionTimeout time.Duration

	// DrainTimeout is how long Run waits, after its context is cancelled, for the batches in flight. Defaults to 10 s.
	DrainTimeout time.Duration

	// RetryMin and RetryMax bound the pause before a lane is taken over anew after a failure; it doubles, with jitter.
	// Default to 100 ms and 5 s.
	RetryMin, RetryMax time.Duration

	// KafkaOptions are added to every Kafka client, for TLS, SASL and tests.
	KafkaOptions []kgo.Opt

	// Logger receives what happens, attributes only, never a payload or a secret. Defaults to a logger that discards.
	Logger *slog.Logger

	// Observer is told of batches and of states; it must be quick and safe for concurrent use. Defaults to none.
	Observer Observer

	// parkedBytes bounds the memory for the names of parked aggregates of a lane. Tests set it.
	parkedBytes int

	// Step, where set, is called at each step of a batch, on the goroutine that takes it. Tests use it to kill the process
	// there.
	Step func(Step)

	// databaseTime, where set, changes what the database says of its time. Tests use it for clocks that differ.
	databaseTime func(time.Time) time.Time

	// schema of the tables, found when the session that holds the lane's lock was opened. It holds for all other sessions of
	// the lane until that one ends, whatever becomes of the role's search_path.
	schema string

	// repeats is what the Kafka clients of all lanes have said lately.
	repeats *repeats

	// pace bounds the batches of the lane, beside BatchRows.
	pace *pace
}

// Policy says what becomes of a row that can never be sent.
type Policy string

// The policies.
const (
	// Park sets the row and all later rows of its aggregate aside, in order, in outbox_parked; all other aggregates go on.
	Park Policy = "park"
	// Skip leaves the row out, records that in outbox_parked_audit, and goes on, also with its aggregate.
	Skip Policy = "skip"
	// Halt stops the lane before the row until a person has acted.
	Halt Policy = "halt"
)

// Policies lists every Policy.
func Policies() []Policy { return []Policy{Park, Skip, Halt} }

// The ends of the scale of Retention, whose zero is "not set".
const (
	// RemoveAtOnce removes a row as soon as it is published.
	RemoveAtOnce = time.Duration(-1)
	// KeepForever removes nothing.
	KeepForever = time.Duration(math.MaxInt64)
)

// Lane is one outbox table and its stream. The fields beside Name and Table are the lane's own values of the settings of
// the same name in Config; the zero value is that of Config.
type Lane struct {
	// Name of the lane: letters, digits, '_' and '-'. It stands in the transactional ids.
	Name string

	// Table is the outbox table, optionally with its schema: "outbox" or "billing.outbox". Without one it is the table beside
	// relay_lanes, in the first schema of the search_path that has that.
	Table string

	Route       string
	Partitioner string
	Compression string
	ContentType string
	Poison      Policy
	BatchRows   int
	BatchBytes  int
	Retention   time.Duration
	PollMin     time.Duration
	PollMax     time.Duration

	// TopicsAllow is Config.Topics.Allow of the lane.
	TopicsAllow []string
}

// of returns the configuration of one lane: its own values, and for the rest those that all lanes share.
func (c Config) of(l Lane) Config {
	override(&c.Route, l.Route)
	override(&c.Partitioner, l.Partitioner)
	override(&c.Compression, l.Compression)
	override(&c.ContentType, l.ContentType)
	override(&c.Poison, l.Poison)
	override(&c.BatchRows, l.BatchRows)
	override(&c.BatchBytes, l.BatchBytes)
	override(&c.Retention, l.Retention)
	override(&c.PollMin, l.PollMin)
	override(&c.PollMax, l.PollMax)
	if l.TopicsAllow != nil {
		c.Topics.Allow = l.TopicsAllow
	}
	return c
}

func override[T comparable](field *T, value T) {
	var zero T
	if value != zero {
		*field = value
	}
}

// Topics says what the relay does about topics that do not exist.
type Topics struct {
	// Allow lists the topics that the column topic of a row may name; * stands for any text. A row that names another is parked:
	// who may insert rows may otherwise write to every topic that the relay may write to. Topics of Kafka and of the relay itself
	// are always refused. Defaults to what Route can make: its topic, or its pattern.
	Allow []string

	// Create makes a missing topic. Defaults to false: its rows are parked until it exists, and the lane names it.
	Create bool

	// Partitions of a topic that is created. Defaults to 0: the cluster's default.
	Partitions int32

	// ReplicationFactor of a topic that is created. Defaults to 0: the cluster's default.
	ReplicationFactor int16

	// Patience is how long the lane as a whole waits for topics that are away: denied, without a leader or with too few replicas
	// in sync. It is one budget for all topics, and it takes 50 times as long to fill up again. Once it is used up, the rows of
	// such a topic are set aside, with all later rows of their aggregates, and everything else goes on; they go out by
	// themselves, in order, once the topic is back. A topic that does not exist is not waited for. Defaults to 10 s.
	Patience time.Duration
}

// Step is a point in the life of a batch, named for the failpoints of the tests.
type Step string

// The steps of a batch, each before and after.
const (
	BeforeRead    Step = "before-read"
	AfterRead     Step = "after-read"
	BeforeBegin   Step = "before-begin"
	AfterBegin    Step = "after-begin"
	BeforeProduce Step = "before-produce"
	AfterProduce  Step = "after-produce"
	BeforeFlush   Step = "before-flush"
	AfterFlush    Step = "after-flush"
	BeforeIntent  Step = "before-intent"
	AfterIntent   Step = "after-intent"
	BeforeEnd     Step = "before-end"
	AfterEnd      Step = "after-end"
)

// Steps lists every Step in the order of a batch.
func Steps() []Step {
	return []Step{
		BeforeRead, AfterRead, BeforeBegin, AfterBegin, BeforeProduce, AfterProduce,
		BeforeFlush, AfterFlush, BeforeIntent, AfterIntent, BeforeEnd, AfterEnd,
	}
}

// WithDefaults returns a copy with every unset field at its default.
func (c Config) WithDefaults() Config {
	if len(c.Lanes) == 0 {
		c.Lanes = []Lane{{Name: "outbox", Table: "outbox"}}
	}
	setDefault(&c.Route, "outbox.event.{aggregate_type}")
	setDefault(&c.Partitioner, "murmur2")
	setDefault(&c.Compression, "lz4")
	setDefault(&c.ContentType, "application/json")
	setDefault(&c.Poison, Park)
	setDefault(&c.Topics.Patience, 10*time.Second)
	setDefault(&c.parkedBytes, 64<<20)
	setDefault(&c.BatchRows, 5000)
	setDefault(&c.BatchBytes, 8<<20)
	setDefault(&c.Retention, 24*time.Hour)
	setDefault(&c.PollMin, 2*time.Millisecond)
	setDefault(&c.PollMax, 50*time.Millisecond)
	setDefault(&c.TransactionTimeout, 15*time.Second)
	setDefault(&c.SessionTimeout, 6*time.Second)
	setDefault(&c.DrainTimeout, 10*time.Second)
	setDefault(&c.RetryMin, 100*time.Millisecond)
	setDefault(&c.RetryMax, 5*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Observer == nil {
		c.Observer = noObserver{}
	}
	if c.Step == nil {
		c.Step = func(Step) {}
	}
	if c.repeats == nil {
		c.repeats = newRepeats()
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

var compressions = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

// Validate reports every fault of the configuration at once. Call it on a Config WithDefaults.
func (c Config) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(c.DatabaseURL == "",
		"database-url: not set; give the connection string of the primary, such as postgres://relay@db:5432/app")
	fault(len(c.Brokers) == 0, "brokers: not set; give HOST:PORT of at least one broker")
	for _, b := range c.Brokers {
		fault(strings.TrimSpace(b) == "", "brokers: an empty address in the list")
	}
	fault(c.Name != "" && !validName(c.Name),
		"name: %q has characters other than letters, digits, '.', '_' and '-', or is longer than 100", c.Name)
	seen, tables := map[string]bool{}, map[string]string{}
	for _, l := range c.Lanes {
		// No dot: name a with lane b.c and name a.b with lane c would share their transactional ids.
		fault(!validName(l.Name) || strings.Contains(l.Name, "."),
			"lanes: %q has characters other than letters, digits, '_' and '-', or is longer than 100", l.Name)
		fault(l.Table == "", "lanes: lane %q has no table", l.Name)
		fault(seen[l.Name], "lanes: two lanes are named %q", l.Name)
		fault(tables[l.Table] != "", "lanes: lanes %q and %q publish the same table, %s: each of its events would be sent twice",
			tables[l.Table], l.Name, l.Table)
		seen[l.Name], tables[l.Table] = true, l.Name
	}
	shared := c.validateLane("")
	faults = append(faults, shared...)
	for _, l := range c.Lanes {
		if len(shared) == 0 {
			faults = append(faults, c.of(l).validateLane("lane "+l.Name+": ")...)
		}
	}
	fault(c.TransactionTimeout < time.Second, "transaction.timeout: %v is less than 1s", c.TransactionTimeout)
	fault(c.SessionTimeout < time.Second, "session.timeout: %v is less than 1s", c.SessionTimeout)
	fault(c.DrainTimeout < 0, "drain.timeout: %v is negative", c.DrainTimeout)
	fault(c.RetryMin < time.Millisecond, "retry.min: %v is less than 1ms", c.RetryMin)
	fault(c.RetryMax < c.RetryMin, "retry.max: %v is less than retry.min (%v)", c.RetryMax, c.RetryMin)
	fault(c.Topics.Patience < 0, "topics.patience: %v is negative", c.Topics.Patience)
	fault(c.Topics.Partitions < 0, "topics.partitions: %d is negative", c.Topics.Partitions)
	fault(c.Topics.ReplicationFactor < 0, "topics.replication-factor: %d is negative", c.Topics.ReplicationFactor)
	return errors.Join(faults...)
}

// validateLane reports the faults of what a lane may have for itself, each after the prefix.
func (c Config) validateLane(prefix string) (faults []error) {
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(prefix+format, args...))
		}
	}
	if err := checkRoute(c.Route); err != nil {
		fault(true, "route: %w", err)
	}
	for _, pattern := range c.Topics.Allow {
		if err := checkAllowed(pattern); err != nil {
			fault(true, "topics.allow: %w", err)
		}
	}
	if _, ok := compressions[c.Compression]; !ok {
		names := slices.Sorted(maps.Keys(compressions))
		fault(true, "compression: %q is none of %s", c.Compression, strings.Join(names, ", "))
	}
	if _, err := partitioning.New(c.Partitioner); err != nil {
		fault(true, "partitioner: %w", err)
	}
	fault(!slices.Contains(Policies(), c.Poison), "poison: %q is none of park, skip, halt", c.Poison)
	fault(c.BatchRows < 1 || c.BatchRows > 100_000, "batch.rows: %d is not between 1 and 100000", c.BatchRows)
	fault(c.BatchBytes < 1<<10 || c.BatchBytes > 1<<30, "batch.bytes: %d is not between 1 KiB and 1 GiB", c.BatchBytes)
	fault(c.Retention < 0 && c.Retention != RemoveAtOnce, "retention: %v is negative", c.Retention)
	fault(c.PollMin < 100*time.Microsecond, "poll.min: %v is less than 100µs", c.PollMin)
	fault(c.PollMax < c.PollMin, "poll.max: %v is less than poll.min (%v)", c.PollMax, c.PollMin)
	return faults
}

// validName reports whether s can stand in a transactional id, a group and a topic.
func validName(s string) bool {
	return s != "" && len(s) <= 100 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
	})
}
