package config

import (
	"slices"
	"strings"
	"time"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/internal/kafkaauth"
)

// Config is the whole configuration of the binary.
type Config struct {
	// Relay configures the engine. Its DatabaseURL carries Schema as search_path, and its
	// KafkaOptions carry Kafka.
	Relay relay.Config

	// Kafka says how the relay and the brokers know each other.
	Kafka kafkaauth.Config

	// DatabaseURLFile and DatabasePasswordFile name files that hold the connection string, or its
	// password. They are read again for each connection.
	DatabaseURLFile, DatabasePasswordFile string

	// Warnings are about what works, and perhaps should not.
	Warnings []string

	// Schema is the schema of the outbox; empty for the first of the role's search_path that holds
	// relay_lanes.
	Schema string

	// Admin is the address of the HTTP server for metrics and health, or "off".
	Admin string

	// ReadyWithin is how long a lane may go without progress before the process counts as not
	// ready.
	ReadyWithin time.Duration

	// StartTimeout bounds the wait for Postgres and Kafka at the start.
	StartTimeout time.Duration

	// LogLevel is debug, info, warn or error.
	LogLevel string

	// LogFormat is auto, json or text.
	LogFormat string
}

// AdminOff is the value of the setting admin that starts no server.
const AdminOff = "off"

// Kind is the form of a setting's value.
type Kind string

// The kinds of settings.
const (
	Text     Kind = "text"
	List     Kind = "list"     // texts, separated by commas; a sequence in the file
	Switch   Kind = "switch"   // true or false
	Number   Kind = "number"   // a whole number, not negative
	Size     Kind = "size"     // bytes, with an optional unit: KiB, MiB or GiB
	Duration Kind = "duration" // a number and a unit: 500ms, 2s, 1m30s; greater than zero
	// AnyDuration is a Duration that may be zero or without an end.
	AnyDuration Kind = "duration, 0 or forever"
)

// Setting is one thing that can be configured.
type Setting struct {
	// Name is the key in the file, such as topics.create.
	Name string
	// Kind says how the value is written.
	Kind Kind
	// Default is the value that counts if nothing is given, as it would be written; empty for
	// none.
	Default string
	// Help is one sentence without a full stop.
	Help string
	// Choices are the only values allowed; nil if any is.
	Choices []string
	// Group is the heading under which documentation lists the setting.
	Group string
	// Secret marks a value that must never be printed.
	Secret bool

	field func(*Config) any
}

// Flag returns the name of the flag, without dashes: topics-create.
func (s Setting) Flag() string { return strings.ReplaceAll(s.Name, ".", "-") }

// Env returns the name of the environment variable: RELAY_TOPICS_CREATE.
func (s Setting) Env() string {
	return Prefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(s.Name))
}

// Prefix begins every environment variable of the relay.
const Prefix = "RELAY_"

// DefaultAdmin is the address that metrics and health are served on unless told otherwise:
// loopback, since the server does not authenticate. The port lies outside 9100 to 9999, where
// the exporters of Postgres, Kafka and others on the same host listen, and below the ephemeral
// ports.
const DefaultAdmin = "127.0.0.1:8685"

// Settings returns every setting in the order of the documentation.
func Settings() []Setting {
	all := table()
	defaults := defaultConfig()
	for i, s := range all {
		all[i].Default = write(s.field(&defaults))
	}
	return all
}

// Lookup returns the setting of that name.
func Lookup(name string) (Setting, bool) {
	all := Settings()
	i := slices.IndexFunc(all, func(s Setting) bool { return s.Name == name })
	if i < 0 {
		return Setting{}, false
	}
	return all[i], true
}

func defaultConfig() Config {
	return Config{
		Relay:        *new(relay.Config).WithDefaults(),
		Admin:        DefaultAdmin,
		ReadyWithin:  30 * time.Second,
		StartTimeout: 10 * time.Second,
		LogLevel:     "info",
		LogFormat:    "auto",
	}
}

func table() []Setting {
	return slices.Concat(
		group("Connections", connections()), group("Kafka security", kafkaSecurity()), group("Records", records()), group("Batches", batches()),
		group("Times", times()), group("Operation", operation()),
	)
}

func group(name string, settings []Setting) []Setting {
	for i := range settings {
		settings[i].Group = name
	}
	return settings
}

func connections() []Setting {
	return []Setting{
		{Name: "database-url", Kind: Text, Secret: true,
			Help:  "connection string of the primary that holds the outbox; a PG* variable fills what it leaves out",
			field: func(c *Config) any { return &c.Relay.DatabaseURL }},
		{Name: "database-url-file", Kind: Text,
			Help:  "file that holds database-url; read again for each connection",
			field: func(c *Config) any { return &c.DatabaseURLFile }},
		{Name: "database-password-file", Kind: Text,
			Help:  "file that holds the password that database-url leaves out; read again for each connection",
			field: func(c *Config) any { return &c.DatabasePasswordFile }},
		{Name: "schema", Kind: Text,
			Help:  "schema of the outbox and of the relay's tables; unset, the first on the search_path that holds relay_lanes",
			field: func(c *Config) any { return &c.Schema }},
		{Name: "table", Kind: Text,
			Help:  "the outbox table, optionally with its schema",
			field: func(c *Config) any { return &c.Relay.Lanes[0].Table }},
		{Name: "lanes", Kind: List,
			Help:  "several outbox tables, NAME=TABLE each; in the file a lane may have its own settings",
			field: func(c *Config) any { return (*laneList)(&c.Relay.Lanes) }},
		{Name: "brokers", Kind: List,
			Help:  "bootstrap servers of the Kafka cluster, HOST:PORT each",
			field: func(c *Config) any { return &c.Relay.Brokers }},
		{Name: "name", Kind: Text,
			Help:  "name of the deployment, unique on the cluster, and source of its records, forever; unset, the database's",
			field: func(c *Config) any { return &c.Relay.Name }},
	}
}

func records() []Setting {
	return []Setting{
		{Name: "route", Kind: Text,
			Help:  "topic of a row whose topic column is null; {aggregate_type} is replaced by that column",
			field: func(c *Config) any { return &c.Relay.Route }},
		{Name: "topics.allow", Kind: List,
			Help:  "topics that a row's topic column may name, * for any text; unset, those that route makes",
			field: func(c *Config) any { return &c.Relay.Topics.Allow }},
		{Name: "topics.create", Kind: Switch,
			Help:  "create a topic that does not exist; otherwise its aggregates are parked until it does",
			field: func(c *Config) any { return &c.Relay.Topics.Create }},
		{Name: "topics.partitions", Kind: Number,
			Help:  "partitions of a topic that is created; 0 is the cluster's default",
			field: func(c *Config) any { return &c.Relay.Topics.Partitions }},
		{Name: "topics.replication-factor", Kind: Number,
			Help:  "replicas of a topic that is created; 0 is the cluster's default",
			field: func(c *Config) any { return &c.Relay.Topics.ReplicationFactor }},
		{Name: "topics.patience", Kind: Duration,
			Help:  "how long a lane waits for unavailable topics, all together, before it parks their aggregates and goes on",
			field: func(c *Config) any { return &c.Relay.Topics.Timeout }},
		{Name: "poison", Kind: Text, Choices: []string{"park", "skip", "halt"},
			Help:  "a row that can never be sent: park its aggregate, leave the row out, or halt the lane",
			field: func(c *Config) any { return (*string)(&c.Relay.Poison) }},
		{Name: "partitioner", Kind: Text,
			Help:  "how a key chooses its partition; murmur2 is what Java clients do",
			field: func(c *Config) any { return &c.Relay.Partitioner }},
		{Name: "compression", Kind: Text, Choices: []string{"none", "gzip", "snappy", "lz4", "zstd"},
			Help:  "compression of record batches",
			field: func(c *Config) any { return &c.Relay.Compression }},
		{Name: "content-type", Kind: Text,
			Help:  "content-type header of a row that has none",
			field: func(c *Config) any { return &c.Relay.ContentType }},
	}
}

func batches() []Setting {
	return []Setting{
		{Name: "batch.rows", Kind: Number,
			Help:  "most rows in one Kafka transaction; larger batches drain a backlog faster and hold more memory",
			field: func(c *Config) any { return &c.Relay.BatchRows }},
		{Name: "batch.bytes", Kind: Size,
			Help:  "most bytes of keys, payloads and headers in one Kafka transaction; a larger row goes alone",
			field: func(c *Config) any { return (*sizeOf)(&c.Relay.BatchBytes) }},
	}
}

func times() []Setting {
	return []Setting{
		{Name: "retention", Kind: AnyDuration,
			Help:  "how long a published row stays in the outbox; 0 removes it as soon as it is published, forever never",
			field: func(c *Config) any { return (*anyDuration)(&c.Relay.Retention) }},
		{Name: "poll.min", Kind: Duration,
			Help:  "pause after the first read that finds nothing; it grows with the time since the last row, up to poll.max",
			field: func(c *Config) any { return &c.Relay.PollMin }},
		{Name: "poll.max", Kind: Duration,
			Help:  "longest pause between reads of an idle outbox",
			field: func(c *Config) any { return &c.Relay.PollMax }},
		{Name: "transaction.timeout", Kind: Duration,
			Help:  "how long brokers let a Kafka transaction stay open before they abort it",
			field: func(c *Config) any { return &c.Relay.TransactionTimeout }},
		{Name: "session.timeout", Kind: Duration,
			Help:  "how long a relay may be silent before another takes its lanes over",
			field: func(c *Config) any { return &c.Relay.SessionTimeout }},
		{Name: "drain.timeout", Kind: Duration,
			Help:  "how long a stopping relay waits for the batches in flight",
			field: func(c *Config) any { return &c.Relay.DrainTimeout }},
		{Name: "retry.min", Kind: Duration,
			Help:  "first pause before a lane is taken over again after a failure; it doubles up to retry.max",
			field: func(c *Config) any { return &c.Relay.RetryMin }},
		{Name: "retry.max", Kind: Duration,
			Help:  "longest pause before a lane is taken over again",
			field: func(c *Config) any { return &c.Relay.RetryMax }},
		{Name: "start.timeout", Kind: Duration,
			Help:  "how long to wait for Postgres and Kafka at the start; once running, the relay waits forever",
			field: func(c *Config) any { return &c.StartTimeout }},
		{Name: "ready.within", Kind: Duration,
			Help:  "how long a lane may go without progress before /readyz says 503",
			field: func(c *Config) any { return &c.ReadyWithin }},
	}
}

func operation() []Setting {
	return []Setting{
		{Name: "admin", Kind: Text,
			Help:  "HOST:PORT that serves /metrics, /livez and /readyz, or off",
			field: func(c *Config) any { return &c.Admin }},
		{Name: "log.level", Kind: Text, Choices: []string{"debug", "info", "warn", "error"},
			Help:  "least level that is logged",
			field: func(c *Config) any { return &c.LogLevel }},
		{Name: "log.format", Kind: Text, Choices: []string{"auto", "json", "text"},
			Help:  "form of the log; auto is JSON unless standard error is a terminal",
			field: func(c *Config) any { return &c.LogFormat }},
	}
}
