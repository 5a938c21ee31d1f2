package relay

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/kafkaclient"
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/pipeline"
	"github.com/outbox-relay/relay/internal/timeline"
)

// Config is what package relay at the root of the module hands to the engine. The fields are
// documented there. Each is set: that package fills in the defaults and reports faults. Only the
// hooks, DatabaseURLFunc, Check, Step and Trace may be nil.
type Config struct {
	DatabaseURL     string
	DatabaseURLFunc func() (string, error)
	Brokers         []string
	Name            string
	Lanes           []Lane

	Route       string
	Topics      Topics
	Partitioner string
	Compression string
	ContentType string
	Poison      parking.Policy
	Check       func(*kgo.Record) error
	BatchRows   int
	BatchBytes  int
	Retention   time.Duration
	PollMin     time.Duration
	PollMax     time.Duration

	TransactionTimeout time.Duration
	SessionTimeout     time.Duration
	DrainTimeout       time.Duration
	RetryMin, RetryMax time.Duration
	KafkaOptions       []kgo.Opt
	Logger             *slog.Logger
	Hooks              Hooks

	// Step, where set, is called at each step of a batch, on the goroutine that takes it. Tests use
	// it to kill the process there.
	Step func(pipeline.Step)

	// Trace is called after each commit of a batch; nil for nothing.
	Trace func(timeline.Batch)

	// parkedBytes bounds the memory for the names of parked aggregates of a lane. Tests set it;
	// otherwise it is 64 MiB.
	parkedBytes int

	// databaseTime, where set, changes what the database says of its time. Tests use it for clocks
	// that differ.
	databaseTime func(time.Time) time.Time

	// database opens the sessions of the lane; see sessions.
	database *pg.Database

	// repeats is what the Kafka clients of all lanes have said lately.
	repeats *kafkaclient.Repeats
}

// The ends of the scale of Retention.
const (
	// RemoveAtOnce removes a row as soon as it is published.
	RemoveAtOnce = time.Duration(-1)
	// KeepForever removes nothing.
	KeepForever = time.Duration(math.MaxInt64)
)

// Lane is one outbox table and its stream, with all that may differ between lanes; those fields of
// Config are of no account until they are set to those of a lane, see of.
type Lane struct {
	Name  string
	Table string

	Route       string
	Partitioner string
	Compression string
	ContentType string
	Poison      parking.Policy
	BatchRows   int
	BatchBytes  int
	Retention   time.Duration
	PollMin     time.Duration
	PollMax     time.Duration
	TopicsAllow []string
}

// of returns the configuration of one lane.
func (c Config) of(l Lane) Config {
	c.Route, c.Partitioner, c.Compression, c.ContentType = l.Route, l.Partitioner, l.Compression, l.ContentType
	c.Poison, c.BatchRows, c.BatchBytes, c.Retention = l.Poison, l.BatchRows, l.BatchBytes, l.Retention
	c.PollMin, c.PollMax, c.Topics.Allow = l.PollMin, l.PollMax, l.TopicsAllow
	return c
}

// Topics says what the relay does about topics that do not exist.
type Topics struct {
	Allow             []string
	Create            bool
	Partitions        int32
	ReplicationFactor int16
	Timeout           time.Duration
}

type stepKey struct{}

// WithStep has a Relay that runs under the context call step at each step of a batch. It is for
// tests and for binaries with failpoints, which have no other way through the public package.
func WithStep(ctx context.Context, step func(pipeline.Step)) context.Context {
	return context.WithValue(ctx, stepKey{}, step)
}

type traceKey struct{}

// WithTrace has a Relay that runs under the context call trace after each commit of a batch. It is
// for measurements of where time goes.
func WithTrace(ctx context.Context, trace func(timeline.Batch)) context.Context {
	return context.WithValue(ctx, traceKey{}, trace)
}

// withInternals returns a copy with what the engine shares among its lanes.
func (c Config) withInternals() Config {
	if c.parkedBytes == 0 {
		c.parkedBytes = 64 << 20
	}
	if c.Step == nil {
		c.Step = func(pipeline.Step) {}
	}
	if c.repeats == nil {
		c.repeats = kafkaclient.NewRepeats()
	}
	return c
}

var compressions = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}
