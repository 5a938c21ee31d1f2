package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/bench"
	"github.com/outbox-relay/relay/internal/config"
	"github.com/outbox-relay/relay/internal/harness/screen"
)

func (p program) benchCommand() *cli.Command {
	return &cli.Command{
		Name:      "bench",
		Usage:     "measure speed, latency and memory on your servers, beside a raw Kafka producer",
		UsageText: "relay bench --database-url URL --brokers HOST:PORT[,HOST:PORT] [flags]",
		Description: `Measures on real servers, in one run and in turn: the relay, as its own process, draining a backlog; a
raw transactional producer that is fed the same records from memory, with one transactional id and with a
pool of six whose commits overlap as the relay's do; then the time from the commit of an insert to a
read_committed consumer at steady rates, beside that of a bare Kafka transaction of one record; then an
idle relay. It compares, since figures differ from machine to machine; run it where nothing else runs.

It works in schemas (relay_bench_…), topics (relay-bench-…, relay.relay_bench_….checkpoints) and a consumer
group, and removes them at the end, also after Ctrl-C. It touches nothing of yours, but it takes
the servers' time and disk: about 1 KB a row in Postgres and Kafka together. The role needs CREATE on the
database, the Kafka principal the right to make and delete topics.

The JSON form is one line, documented in docs/performance.md; progress goes to standard error.

Examples:
   relay bench --database-url postgres://owner@db:5432/app --brokers kafka:9092
   relay bench --config relay.yaml --rows 5000000 --rounds 1 --rate 2000,5000 --output json
   relay bench --config relay.yaml --retained 20000000 --open-transaction --parked-keys 1000`,
		Flags:       slices.Concat(benchFlags(), []cli.Flag{profileFlag(false), outputFlag()}, settingFlags(benchSettings()...)),
		Subcommands: []*cli.Command{p.benchInsertCommand()},
		Action:      p.bench,
	}
}

func benchFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "rows", Value: 1_000_000, Usage: "`N` rows of a backlog; unset, 1000000"},
		&cli.IntFlag{Name: "size", Value: 200, Usage: "payloads of so many `BYTES`, which do not compress; unset, 200"},
		&cli.IntFlag{Name: "batch", Value: 5000, Usage: "`N` rows a Kafka transaction; unset, 5000"},
		&cli.IntFlag{Name: "rounds", Value: 3, Usage: "`N` turns of everybody; medians are shown; unset, 3"},
		&cli.IntFlag{Name: "partitions", Value: 12, Usage: "`N` partitions of a topic; unset, 12"},
		&cli.StringFlag{Name: "rate", Value: "2000", Usage: "`N[,N]` inserts a second at which latency is measured; " +
			"unset, 2000"},
		&cli.IntFlag{Name: "seconds", Value: 15, Usage: "measure latency for `N` seconds at each rate; unset, 15"},
		&cli.IntFlag{Name: "parked-keys", Usage: "drain also with `N` of the 10,000 aggregates of the backlog parked"},
		&cli.IntFlag{Name: "retained", Usage: "drain also with `N` published rows behind the backlog in the table"},
		&cli.BoolFlag{Name: "trace", Usage: "say where the time of the events went, at each rate, step by step"},
		&cli.StringFlag{Name: "picture", Usage: "draw what --trace has found as SVG, into `FILE`; it implies --trace"},
		&cli.BoolFlag{Name: "open-transaction", Usage: "drain also while another transaction stays open"},
	}
}

// benchSettings are the settings that have a flag of the command and that the relay it starts is
// given: how to reach the servers, and how records are sent. What names tables, topics or
// deployments is the bench's own.
func benchSettings() []string {
	var names []string
	for _, s := range config.Settings() {
		switch s.Name {
		case "database-url", "brokers", "partitioner", "compression", "batch.bytes", "poll.min", "poll.max", "start.timeout":
			names = append(names, s.Name)
			continue
		}
		if strings.HasPrefix(s.Name, "kafka.") {
			names = append(names, s.Name)
		}
	}
	return names
}

func (p program) bench(c *cli.Context) error {
	form, err := parseOutput(c.String("output"))
	if err == nil {
		err = notZero(c, "rows", "size", "batch", "rounds", "partitions", "seconds")
	}
	if err != nil {
		return err
	}
	rates, err := parseNumbers("rate", c.String("rate"))
	if err != nil {
		return err
	}
	loaded, err := p.load(c, config.Everything)
	if err != nil {
		return err
	}
	cfg := bench.Config{
		DatabaseURL: loaded.Relay.DatabaseURL, Brokers: loaded.Relay.Brokers, KafkaOptions: loaded.Relay.KafkaOptions,
		Compression: loaded.Relay.Compression, Partitioner: loaded.Relay.Partitioner, StartTimeout: loaded.StartTimeout,
		Rows: c.Int("rows"), Size: c.Int("size"), Batch: c.Int("batch"), Rounds: c.Int("rounds"),
		Partitions: int32(c.Int("partitions")),
		Rates:      rates, Duration: time.Duration(c.Int("seconds")) * time.Second,
		Retained: c.Int("retained"), OpenTransaction: c.Bool("open-transaction"),
		ParkedKeys: c.Int("parked-keys"), Trace: c.Bool("trace") || c.String("picture") != "",
		Environ: p.benchEnviron(loaded),
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program, to run it as the relay: %w", err)
	}
	cfg.Relay = []string{self, "run"}
	if folder := c.String("profile"); folder != "" {
		cfg.Relay = append(cfg.Relay, "--profile", folder)
	}
	if err := cfg.WithDefaults().Validate(); err != nil {
		return usageFaults("relay bench --help", err)
	}
	return p.measure(c.Context, form, func(ctx context.Context, view bench.View) (benchResult, error) {
		cfg.View = view
		result, err := bench.Run(ctx, cfg)
		if err != nil {
			return nil, err
		}
		return result, draw(c.String("picture"), result)
	})
}

// draw writes the picture of a result to a file, if one is named.
func draw(path string, result *bench.Result) error {
	if path == "" {
		return nil
	}
	if err := os.WriteFile(path, []byte(result.Picture()), 0o666); err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	return nil
}

// benchEnviron is our environment without what would configure a relay, and with the settings of
// benchSettings.
func (p program) benchEnviron(loaded config.Config) []string {
	environ := slices.DeleteFunc(slices.Clone(p.environ), func(entry string) bool { return strings.HasPrefix(entry, config.Prefix) })
	names := benchSettings()
	return append(environ, loaded.Environ(func(s config.Setting) bool { return slices.Contains(names, s.Name) })...)
}

// The time between two lines of progress: on a terminal, which redraws them, and elsewhere.
const redrawEvery, progressEvery = 100 * time.Millisecond, 5 * time.Second

// benchResult is what a bench has found.
type benchResult interface{ Text() string }

// measure runs a bench, shows how it goes, and prints the result.
func (p program) measure(ctx context.Context, form output, run func(context.Context, bench.View) (benchResult, error)) error {
	ctx, stop := untilClosed(ctx)
	defer stop(nil)
	every := progressEvery
	if p.terminal {
		every = redrawEvery
	}
	view := screen.New(p.stderr, p.terminal, every, stop)
	result, err := run(ctx, view)
	view.Close()
	if err != nil {
		return orSignal(ctx, err)
	}
	if form == outputJSON {
		err = json.NewEncoder(p.stdout).Encode(result)
	} else {
		_, err = io.WriteString(p.stdout, "\n"+result.Text())
	}
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// notZero refuses a zero that was given: in a Config it would stand for the default.
func notZero(c *cli.Context, flags ...string) error {
	var faults []error
	for _, flag := range flags {
		if c.IsSet(flag) && c.Int(flag) == 0 {
			faults = append(faults, usage(c.Command.HelpName+" --help", "--%s: 0 is too small", flag))
		}
	}
	return errors.Join(faults...)
}

// usageFaults makes faults of the arguments of the faults that err was joined from.
func usageFaults(try string, err error) error {
	var faults []error
	for _, fault := range apart(err) {
		faults = append(faults, usage(try, "--%v", fault))
	}
	return errors.Join(faults...)
}

// parseNumbers reads whole numbers separated by commas.
func parseNumbers(flag, text string) ([]int, error) {
	var numbers []int
	for field := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil {
			return nil, usage("--"+flag+" 1,2,4", "--%s: %q is not a list of whole numbers", flag, text)
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}
