package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/internal/admin"
	"github.com/outbox-relay/relay/internal/config"
	"github.com/outbox-relay/relay/internal/preflight"
	"github.com/outbox-relay/relay/internal/telemetry"
)

func (p program) runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "publish the outbox to Kafka until SIGTERM",
		UsageText: "relay run --database-url URL --brokers HOST:PORT[,HOST:PORT] [flags]",
		Description: `Publishes committed rows of the outbox to Kafka. Start as many as you like: each lane runs in one process,
and another takes it over when that one ends.

At the start it checks that Postgres and Kafka are there and fit, for up to --start-timeout. Once it runs it
waits for them as long as it takes. SIGTERM or SIGINT stops it after the batches in flight; a second one at once.

Every flag is also an environment variable and a key of the file: --topics-create,
RELAY_TOPICS_CREATE, and topics.create. A flag wins over the environment, and that over the file.

Examples:
   relay run --database-url postgres://relay@db:5432/app --brokers kafka:9092
   relay run --config /etc/relay/relay.yaml --log-level debug
   RELAY_BROKERS=a:9092,b:9092 relay run --database-url "host=db dbname=app user=relay"`,
		Flags: append(settingFlags(), profileFlag(true), traceFlag()),
		Action: func(c *cli.Context) error {
			cfg, err := p.load(c, config.Everything)
			if err != nil {
				return err
			}
			ctx, err := withFailpoint(c.Context, p.getenv("RELAY_FAILPOINT"))
			if err != nil {
				return err
			}
			p.boundMemory(cfg.Relay)
			return profiled(c.String("profile"), func() error {
				return traced(ctx, c.String("trace"), func(ctx context.Context) error { return p.runRelay(ctx, cfg) })
			})
		},
	}
}

func laneNames(lanes []relay.Lane) []string {
	names := make([]string, len(lanes))
	for i, lane := range lanes {
		names[i] = lane.Name
	}
	return names
}

func (p program) getenv(name string) string {
	for _, entry := range p.environ {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// runRelay checks the servers and publishes until ctx is cancelled. A stop by signal is no error.
func (p program) runRelay(ctx context.Context, cfg config.Config) error {
	logger := p.logger(cfg)
	b := readBuild()
	metrics := telemetry.New(telemetry.Build{Version: b.Version, Revision: b.Revision, GoVersion: b.Go},
		laneNames(cfg.Relay.WithDefaults().Lanes)...)
	cfg.Relay.Logger, cfg.Relay.Hooks = logger, metrics.Hooks()
	publisher, err := relay.New(&cfg.Relay)
	if err != nil {
		return err
	}
	var started atomic.Bool
	status := func() []relay.LaneStatus {
		if !started.Load() {
			return nil
		}
		return publisher.Status()
	}
	if err := metrics.Watch(status); err != nil {
		return err
	}
	serve, err := p.adminServer(cfg, metrics, status, logger)
	if err != nil {
		return err
	}
	for _, warning := range cfg.Warnings {
		logger.Warn("doubtful setting", "setting", warning)
	}
	logger.Info("relay starts", "version", b.Version, "brokers", cfg.Relay.Brokers, "admin", serve.address)
	return serve.around(ctx, func(ctx context.Context) error {
		stopLog := context.AfterFunc(ctx, func() { logger.Info("draining", "cause", context.Cause(ctx)) })
		defer stopLog()
		if err := check(ctx, cfg, logger); err != nil || ctx.Err() != nil {
			return err
		}
		started.Store(true)
		err := publisher.Run(ctx)
		if err == nil {
			logger.Info("relay stopped")
		}
		return err
	})
}

// check looks at the servers. A signal meanwhile ends it without an error.
func check(ctx context.Context, cfg config.Config, logger *slog.Logger) error {
	tables, outboxes := []string{"relay_lanes", "relay_bindings", "relay_recoveries", "outbox_parked",
		"outbox_parked_audit"}, []string(nil)
	for _, lane := range cfg.Relay.Lanes {
		outboxes = append(outboxes, lane.Table)
	}
	err := preflight.Check(ctx, preflight.Config{
		DatabaseURL: cfg.Relay.DatabaseURL, Tables: append(tables, outboxes...), Outboxes: outboxes,
		Brokers: cfg.Relay.Brokers, KafkaOptions: cfg.Relay.KafkaOptions, ExplainKafka: cfg.Kafka.Explain,
		Timeout: cfg.StartTimeout, Logger: logger,
	})
	if err != nil && ctx.Err() != nil {
		return nil
	}
	return err
}

// anyPort is where metrics and health are served when another relay on this machine has the default
// address.
const anyPort = "127.0.0.1:0"

// service is the admin server, or none.
type service struct {
	server  *admin.Server
	address string
}

func (p program) adminServer(cfg config.Config, metrics *telemetry.Metrics, status func() []relay.LaneStatus,
	logger *slog.Logger) (service, error) {
	if cfg.Admin == config.AdminOff {
		return service{address: config.AdminOff}, nil
	}
	served := admin.Config{Metrics: metrics.Gatherer(), Status: status, ReadyWithin: cfg.ReadyWithin, Logger: logger}
	server, err := admin.Listen(cfg.Admin, served)
	if errors.Is(err, admin.ErrTaken) && cfg.Admin == config.DefaultAdmin {
		// That port was not asked for: a second relay on one machine must not fail for it.
		logger.Warn("the default admin address is taken by another process, so a free port is used; --admin names one",
			"taken", cfg.Admin)
		server, err = admin.Listen(anyPort, served)
	}
	if err != nil {
		return service{}, err
	}
	return service{server, server.Address()}, nil
}

// around serves while work runs, to its very end, so that a drain can be watched. A server that
// fails ends the work.
func (s service) around(ctx context.Context, work func(context.Context) error) error {
	if s.server == nil {
		return work(ctx)
	}
	working, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() {
		err := s.server.Serve(serving)
		if err != nil {
			failed(err)
		}
		served <- err
	}()
	err := work(working)
	stop()
	return errors.Join(err, <-served)
}
