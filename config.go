package relay

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/topicname"
	"github.com/outbox-relay/relay/partitioning"
)

// Config says what a Relay reads, where it publishes to, and how. Only DatabaseURL and Brokers are
// required; the zero value of every other field works.
type Config struct {
	// DatabaseURL is the connection string of the primary that holds the outbox, as a URL or as
	// keyword=value pairs. Connect directly: a pooler in transaction mode has no session that the
	// relay can hold. Required.
	DatabaseURL string

	// DatabaseURLFunc returns the connection string of each new session, for passwords that change
	// while the relay runs. It must name the same database as DatabaseURL. If it fails, the relay
	// treats that as a failed connection and tries again. Defaults to nil: every session uses
	// DatabaseURL.
	DatabaseURLFunc func() (string, error)

	// Brokers are the bootstrap servers of the Kafka cluster, HOST:PORT each. Required.
	Brokers []string

	// Name identifies the deployment on the Kafka cluster: the transactional ids, the consumer
	// group and the checkpoint topic contain it. It must be unique for each database, and must not
	// change while rows are unpublished. It is also the header "source" of every record, by which
	// consumers recognize duplicates: after a change, they take a message that is published again
	// for a new one. Letters, digits, '.', '_' and '-'; at most 100 characters. Defaults to the
	// name of the database.
	Name string

	// Lanes are the outbox tables to publish. Each is published in its own order, with its own
	// transactions. Defaults to one lane named "outbox" on the table "outbox" in the schema of
	// relay_lanes.
	Lanes []Lane

	// Route is the topic of a row whose column topic is null; {aggregate_type} is replaced by that
	// column. Defaults to "outbox.event.{aggregate_type}".
	Route string

	// Topics says which topics a row may name, and what happens if a topic is missing or
	// unavailable.
	Topics Topics

	// Partitioner names the rule by which the key of a record chooses its partition; see package
	// partitioning. A change moves keys to other partitions, so their records may be read out of
	// order once. Defaults to "murmur2", the rule of Java clients.
	Partitioner string

	// Compression of record batches: "none", "gzip", "snappy", "lz4" or "zstd". Defaults to "snappy".
	Compression string

	// ContentType is the header "content-type" of a row that has none in its headers. Defaults to
	// "application/json".
	ContentType string

	// Poison says what happens to a row that can never be sent. Defaults to Park.
	Poison Policy

	// Check is asked about each record before it is sent, for example to validate it against a
	// schema. An error means that the row can never be sent: Poison then applies to it, with the
	// error as the reason. Check is called on the goroutine that publishes the lane, so it must be
	// quick; it must not change or keep the record. It must be safe for concurrent use if there are
	// several lanes. Defaults to nil: no check.
	Check func(*kgo.Record) error

	// BatchRows is the most rows in one Kafka transaction, from 1 to 100,000. More rows drain a
	// backlog faster and need more memory. Defaults to 5,000.
	BatchRows int

	// BatchBytes is the most bytes of keys, payloads and headers in one Kafka transaction, from 1
	// KiB to 1 GiB. A row that is larger goes alone. The relay needs about three times as much
	// memory for each lane. Defaults to 8 MiB.
	BatchBytes int

	// Retention is how long a published row stays in the outbox, measured from its created_at by
	// the clock of Postgres. RemoveAtOnce deletes rows as soon as they are published, KeepForever
	// never does. Defaults to 24 h.
	Retention time.Duration

	// PollMin is the pause after the first read that finds no row. Further pauses are an eighth of
	// the time since the last row was found, up to PollMax. A shorter pause costs Postgres more
	// queries. At least 100 µs. Defaults to 2 ms.
	PollMin time.Duration

	// PollMax is the longest pause between two reads of an idle outbox. The first row after a quiet
	// time waits up to this long. Defaults to 50 ms.
	PollMax time.Duration

	// TransactionTimeout is how long brokers let a Kafka transaction stay open before they abort
	// it. If a relay freezes and no other takes over, read_committed consumers wait up to this
	// long. At least 1 s. Defaults to 15 s.
	TransactionTimeout time.Duration

	// SessionTimeout is how long a relay may be silent before the others of its group take its
	// lanes over. Brokers refuse less than their group.min.session.timeout.ms, which is 6 s unless
	// it was changed. At least 1 s. Defaults to 6 s.
	SessionTimeout time.Duration

	// DrainTimeout is how long Run waits for the batches in flight after its context is cancelled.
	// What is not done by then is left to the next owner of the lane; nothing is lost. Defaults to
	// 10 s.
	DrainTimeout time.Duration

	// RetryMin and RetryMax bound the pause before the relay takes a lane over again after a
	// failure. The pause doubles with each failure and has jitter. RetryMin is at least 1 ms.
	// Default to 100 ms and 5 s.
	RetryMin, RetryMax time.Duration

	// KafkaOptions are added to those of every Kafka client, for example for TLS and SASL. They
	// must not set what the relay itself sets, such as transactional ids or acknowledgements.
	// Defaults to none: no TLS, no authentication.
	KafkaOptions []kgo.Opt

	// Logger receives what happens. Attributes never hold a payload or a secret. Defaults to a
	// logger that discards.
	Logger *slog.Logger

	// Hooks are called when batches are committed and when lanes change. Defaults to none.
	Hooks Hooks
}

// Policy says what happens to a row that can never be sent.
type Policy string

// The policies.
const (
	// Park moves the row and all later rows of its aggregate to outbox_parked, in order. All other
	// aggregates go on.
	Park Policy = "park"
	// Skip leaves the row out, records that in outbox_parked_audit, and goes on with the next row.
	Skip Policy = "skip"
	// Halt stops the lane before the row until a person has acted.
	Halt Policy = "halt"
)

// Policies lists every Policy.
func Policies() []Policy { return []Policy{Park, Skip, Halt} }

// Values of Retention that are no durations. The zero value means the default.
const (
	// RemoveAtOnce deletes a row as soon as it is published.
	RemoveAtOnce = time.Duration(-1)
	// KeepForever deletes nothing.
	KeepForever = time.Duration(math.MaxInt64)
)

// Lane is one outbox table and the records that are made of it. All fields but Name and Table are
// settings of the lane in place of those of Config with the same name; the zero value means that of
// Config.
type Lane struct {
	// Name of the lane: letters, digits, '_' and '-', at most 100 characters. The transactional ids
	// contain it.
	Name string

	// Table is the outbox table: "outbox", or with its schema "billing.outbox". Without a schema it
	// is the table beside relay_lanes, in the first schema of the search_path that has that.
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

// Topics says which topics a row may name, and what happens if a topic is missing or unavailable.
type Topics struct {
	// Allow lists the topics that the column topic of a row may name; * matches any text. A row
	// that names another is treated as Poison says, because otherwise every login that may insert
	// rows could write to every topic that the relay may write to. Kafka's and the relay's own
	// topics are always refused. Defaults to what Route can make.
	Allow []string

	// Create makes a topic that does not exist. Defaults to false: the rows of a missing topic are
	// parked until it exists, and the status of the lane names it.
	Create bool

	// Partitions of a topic that is created. Defaults to 0: the cluster's default.
	Partitions int32

	// ReplicationFactor of a topic that is created. Defaults to 0: the cluster's default.
	ReplicationFactor int16

	// Timeout is how long a lane waits for unavailable topics: those that deny access, have no
	// leader, or have too few replicas in sync. It is one budget for all topics of the lane, and
	// refills 50 times slower than it is used. Once it is used up, the rows of such a topic are
	// parked with all later rows of their aggregates, and everything else goes on. They go out on
	// their own, in order, once the topic is available. A missing topic is not waited for. Defaults
	// to 10 s.
	Timeout time.Duration
}

// WithDefaults returns a copy with every unset field at its default. New does so by itself. It may
// be called on nil.
func (c *Config) WithDefaults() *Config {
	var d Config
	if c != nil {
		d = *c
	}
	if len(d.Lanes) == 0 {
		d.Lanes = []Lane{{Name: "outbox", Table: "outbox"}}
	}
	d.Route = cmp.Or(d.Route, "outbox.event.{aggregate_type}")
	d.Topics.Timeout = cmp.Or(d.Topics.Timeout, 10*time.Second)
	d.Partitioner = cmp.Or(d.Partitioner, "murmur2")
	d.Compression = cmp.Or(d.Compression, "snappy")
	d.ContentType = cmp.Or(d.ContentType, "application/json")
	d.Poison = cmp.Or(d.Poison, Park)
	d.BatchRows = cmp.Or(d.BatchRows, 5000)
	d.BatchBytes = cmp.Or(d.BatchBytes, 8<<20)
	d.Retention = cmp.Or(d.Retention, 24*time.Hour)
	d.PollMin = cmp.Or(d.PollMin, 2*time.Millisecond)
	d.PollMax = cmp.Or(d.PollMax, 50*time.Millisecond)
	d.TransactionTimeout = cmp.Or(d.TransactionTimeout, 15*time.Second)
	d.SessionTimeout = cmp.Or(d.SessionTimeout, 6*time.Second)
	d.DrainTimeout = cmp.Or(d.DrainTimeout, 10*time.Second)
	d.RetryMin = cmp.Or(d.RetryMin, 100*time.Millisecond)
	d.RetryMax = cmp.Or(d.RetryMax, 5*time.Second)
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	return &d
}

// shared returns the settings of Config that a lane may have for itself.
func (c *Config) shared() Lane {
	return Lane{
		Route: c.Route, Partitioner: c.Partitioner, Compression: c.Compression, ContentType: c.ContentType,
		Poison: c.Poison, BatchRows: c.BatchRows, BatchBytes: c.BatchBytes, Retention: c.Retention,
		PollMin: c.PollMin, PollMax: c.PollMax, TopicsAllow: c.Topics.Allow,
	}
}

// over returns the lane with what it leaves open as shared says.
func (l Lane) over(shared Lane) Lane {
	l.Route = cmp.Or(l.Route, shared.Route)
	l.Partitioner = cmp.Or(l.Partitioner, shared.Partitioner)
	l.Compression = cmp.Or(l.Compression, shared.Compression)
	l.ContentType = cmp.Or(l.ContentType, shared.ContentType)
	l.Poison = cmp.Or(l.Poison, shared.Poison)
	l.BatchRows = cmp.Or(l.BatchRows, shared.BatchRows)
	l.BatchBytes = cmp.Or(l.BatchBytes, shared.BatchBytes)
	l.Retention = cmp.Or(l.Retention, shared.Retention)
	l.PollMin = cmp.Or(l.PollMin, shared.PollMin)
	l.PollMax = cmp.Or(l.PollMax, shared.PollMax)
	if l.TopicsAllow == nil {
		l.TopicsAllow = shared.TopicsAllow
	}
	return l
}

// faults collects what is wrong with a Config. Each begins with the name of its setting.
type faults []error

func (f *faults) add(bad bool, format string, args ...any) {
	if bad {
		*f = append(*f, fmt.Errorf(format, args...))
	}
}

// validate reports every fault at once. The Config has its defaults.
func (c *Config) validate() error {
	var f faults
	f.add(c.DatabaseURL == "",
		"database-url: not set; give the connection string of the primary, such as postgres://relay@db:5432/app")
	f.add(len(c.Brokers) == 0, "brokers: not set; give HOST:PORT of at least one broker")
	for _, b := range c.Brokers {
		f.add(strings.TrimSpace(b) == "", "brokers: an empty address in the list")
	}
	f.add(c.Name != "" && !validName(c.Name),
		"name: %q has characters other than letters, digits, '.', '_' and '-', or is longer than 100", c.Name)
	c.validateLanes(&f)
	f.add(c.TransactionTimeout < time.Second, "transaction.timeout: %v is less than 1s", c.TransactionTimeout)
	f.add(c.SessionTimeout < time.Second, "session.timeout: %v is less than 1s", c.SessionTimeout)
	f.add(c.DrainTimeout < 0, "drain.timeout: %v is negative", c.DrainTimeout)
	f.add(c.RetryMin < time.Millisecond, "retry.min: %v is less than 1ms", c.RetryMin)
	f.add(c.RetryMax < c.RetryMin, "retry.max: %v is less than retry.min (%v)", c.RetryMax, c.RetryMin)
	f.add(c.Topics.Timeout < 0, "topics.patience: %v is negative", c.Topics.Timeout)
	f.add(c.Topics.Partitions < 0, "topics.partitions: %d is negative", c.Topics.Partitions)
	f.add(c.Topics.ReplicationFactor < 0, "topics.replication-factor: %d is negative", c.Topics.ReplicationFactor)
	return errors.Join(f...)
}

func (c *Config) validateLanes(f *faults) {
	seen, tables := map[string]bool{}, map[string]string{}
	for _, l := range c.Lanes {
		// No dot: name a with lane b.c and name a.b with lane c would share their transactional
		// ids.
		f.add(!validName(l.Name) || strings.Contains(l.Name, "."),
			"lanes: %q has characters other than letters, digits, '_' and '-', or is longer than 100", l.Name)
		f.add(l.Table == "", "lanes: lane %q has no table", l.Name)
		f.add(seen[l.Name], "lanes: two lanes are named %q", l.Name)
		f.add(tables[l.Table] != "",
			"lanes: lanes %q and %q publish the same table, %s: each of its events would be sent twice",
			tables[l.Table], l.Name, l.Table)
		seen[l.Name], tables[l.Table] = true, l.Name
	}
	shared := c.shared()
	before := len(*f)
	shared.validate("", f)
	if len(*f) > before {
		return // each lane would have the same faults
	}
	for _, l := range c.Lanes {
		own := l.over(shared)
		own.validate("lane "+l.Name+": ", f)
	}
}

var compressions = []string{"gzip", "lz4", "none", "snappy", "zstd"}

// validate adds the faults of what a lane may have for itself, each after the prefix.
func (l Lane) validate(prefix string, f *faults) {
	if err := topicname.CheckRoute(l.Route); err != nil {
		f.add(true, prefix+"route: %w", err)
	}
	for _, pattern := range l.TopicsAllow {
		if err := topicname.CheckAllowed(pattern); err != nil {
			f.add(true, prefix+"topics.allow: %w", err)
		}
	}
	f.add(!slices.Contains(compressions, l.Compression),
		prefix+"compression: %q is not one of %s", l.Compression, strings.Join(compressions, ", "))
	if _, err := partitioning.New(l.Partitioner); err != nil {
		f.add(true, prefix+"partitioner: %w", err)
	}
	f.add(!slices.Contains(Policies(), l.Poison), prefix+"poison: %q is not one of park, skip, halt", l.Poison)
	f.add(l.BatchRows < 1 || l.BatchRows > 100_000, prefix+"batch.rows: %d is not between 1 and 100000", l.BatchRows)
	f.add(l.BatchBytes < 1<<10 || l.BatchBytes > 1<<30,
		prefix+"batch.bytes: %d is not between 1 KiB and 1 GiB", l.BatchBytes)
	f.add(l.Retention < 0 && l.Retention != RemoveAtOnce, prefix+"retention: %v is negative", l.Retention)
	f.add(l.PollMin < 100*time.Microsecond, prefix+"poll.min: %v is less than 100µs", l.PollMin)
	f.add(l.PollMax < l.PollMin, prefix+"poll.max: %v is less than poll.min (%v)", l.PollMax, l.PollMin)
}

// validName reports whether s may be in a transactional id, a group and a topic.
func validName(s string) bool {
	return s != "" && len(s) <= 100 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
	})
}

// deployment returns Name, or the name of the database if there is none.
func (c *Config) deployment() (string, error) {
	if c.Name != "" {
		return c.Name, nil
	}
	parsed, err := pgx.ParseConfig(c.DatabaseURL)
	if err != nil {
		return "", fmt.Errorf("database-url: %w", err)
	}
	name := cmp.Or(parsed.Database, parsed.User)
	if !validName(name) {
		return "", fmt.Errorf("name: not set, and the name of the database, %q, cannot stand in for it; set name", name)
	}
	return name, nil
}
