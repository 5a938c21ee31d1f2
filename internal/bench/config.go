package bench

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/internal/bench/load"
)

// Config says what Run measures, and on which servers. The zero value of every field but
// DatabaseURL, Brokers and Relay works.
type Config struct {
	// DatabaseURL is the connection string of a database in which the role may create schemas.
	// Required.
	DatabaseURL string

	// Brokers are the bootstrap servers, HOST:PORT each. Required.
	Brokers []string

	// KafkaOptions are added to every Kafka client of the bench.
	KafkaOptions []kgo.Opt

	// Relay is the command that runs a relay configured by RELAY_* variables, such as this binary and
	// "run". Required.
	Relay []string

	// Environ is the environment of the relay, NAME=value each, to which the bench adds what it must
	// set: the database, the schema, the names and the batch. Defaults to nothing.
	Environ []string

	// Rows is how many rows a backlog has. Defaults to 1,000,000.
	Rows int

	// Size is how many bytes a payload has, at least 8. Defaults to 200.
	Size int

	// Batch is how many rows a Kafka transaction takes. Defaults to 5,000.
	Batch int

	// Rounds is how often everybody drains or produces, in turn. Medians are reported. Defaults to 3.
	Rounds int

	// Partitions of the topics. Defaults to 12.
	Partitions int32

	// Compression and Partitioner are those of the relay, for the raw producer. Default to those of
	// relay.Config.
	Compression, Partitioner string

	// Rates are inserts a second, one a transaction, at which latency is measured. Defaults to 2,000.
	Rates []int

	// Duration is how long latency is measured at each rate, after a warm-up of 3 s. Defaults to
	// 15 s.
	Duration time.Duration

	// Idle is how long an idle relay is watched. Defaults to 10 s.
	Idle time.Duration

	// Retained adds a drain with so many published rows behind the backlog in the table. Defaults to
	// 0: no such drain.
	Retained int

	// OpenTransaction adds a drain during which another transaction stays open. Defaults to false.
	OpenTransaction bool

	// ParkedKeys adds a drain with so many of its 10,000 aggregates parked, whose rows are parked
	// too. Defaults to 0: no such drain.
	ParkedKeys int

	// Trace says at each rate where the time of the events went, for which the relay writes when each
	// step of each batch was done. The relay must know run --trace. Defaults to false.
	Trace bool

	// StartTimeout bounds the wait for Postgres, and for the relay to take its lane over. Defaults to
	// 30 s.
	StartTimeout time.Duration

	// View is told of the progress. Defaults to none.
	View View
}

// View is told how a run goes, by one goroutine.
type View interface {
	// Event is called with a line for each thing that has been done.
	Event(line string)
	// Progress is called several times a second with how far the present step is.
	Progress(line string)
}

type noView struct{}

func (noView) Event(string)    {}
func (noView) Progress(string) {}

// WithDefaults returns a copy with every unset field at its default.
func (c Config) WithDefaults() Config {
	defaults := new(relay.Config).WithDefaults()
	setDefault(&c.Rows, 1_000_000)
	setDefault(&c.Size, 200)
	setDefault(&c.Batch, 5000)
	setDefault(&c.Rounds, 3)
	setDefault(&c.Partitions, 12)
	setDefault(&c.Compression, defaults.Compression)
	setDefault(&c.Partitioner, defaults.Partitioner)
	setDefault(&c.Duration, 15*time.Second)
	setDefault(&c.Idle, 10*time.Second)
	setDefault(&c.StartTimeout, 30*time.Second)
	if len(c.Rates) == 0 {
		c.Rates = []int{2000}
	}
	if c.View == nil {
		c.View = noView{}
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports every fault of the configuration. Call it on a Config WithDefaults.
func (c Config) Validate() error {
	var faults []error
	between := func(name string, value, least, most int) {
		if value < least || value > most {
			faults = append(faults, fmt.Errorf("%s: %d is not between %d and %d", name, value, least, most))
		}
	}
	between("rows", c.Rows, 1000, 1_000_000_000)
	between("size", c.Size, 8, 500_000)
	between("batch", c.Batch, 1, 100_000)
	between("rounds", c.Rounds, 1, 100)
	between("partitions", int(c.Partitions), 1, 10_000)
	between("retained", c.Retained, 0, 1_000_000_000)
	between("parked-keys", c.ParkedKeys, 0, load.Aggregates)
	for _, rate := range c.Rates {
		between("rate", rate, 1, 100_000)
	}
	if _, ok := compressions[c.Compression]; !ok {
		faults = append(faults, fmt.Errorf("compression: %q is unknown to the relay", c.Compression))
	}
	if c.Duration < time.Second {
		faults = append(faults, fmt.Errorf("seconds: %v is less than a second", c.Duration))
	}
	if c.Idle < time.Second {
		faults = append(faults, fmt.Errorf("idle: %v is less than a second", c.Idle))
	}
	if len(c.Relay) == 0 {
		faults = append(faults, errors.New("relay: no command"))
	}
	return errors.Join(faults...)
}

var compressions = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

// median of values, which are not changed; 0 if there are none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
