package preflight

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/pg"
)

// Config says what Check looks at. Every field but Outboxes, KafkaOptions and ExplainKafka is
// required.
type Config struct {
	// DatabaseURL is the connection string of Postgres.
	DatabaseURL string

	// Tables must exist and be readable, each with its schema if it has one: "outbox" or
	// "billing.outbox".
	Tables []string

	// Outboxes are those of the tables that are outboxes. What endangers their rows is logged as a
	// warning.
	Outboxes []string

	// Brokers are the bootstrap servers of Kafka.
	Brokers []string

	// KafkaOptions are added to the Kafka client.
	KafkaOptions []kgo.Opt

	// ExplainKafka says what is wrong with a connection to a broker, and whether waiting cannot
	// fix it; nil for an error that it does not know.
	ExplainKafka func(error) (lasting bool, explained error)

	// Timeout bounds the wait for servers that do not answer.
	Timeout time.Duration

	// Logger receives what is waited for.
	Logger *slog.Logger
}

// Check looks at Postgres and Kafka at the same time. It returns nil once both are fit, the
// explained fault at once if waiting cannot fix it, and every fault if the time is up. A
// cancelled ctx ends it with the context's error.
func Check(ctx context.Context, cfg Config) error {
	checking, stop := context.WithCancel(ctx)
	defer stop()
	checks := []func(context.Context, Config) error{checkPostgres, checkKafka}
	faults := make([]error, len(checks))
	var running sync.WaitGroup
	for i, check := range checks {
		running.Go(func() {
			faults[i] = check(checking, cfg)
			if errors.Is(faults[i], errForGood) {
				stop()
			}
		})
	}
	running.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	var found []error
	for _, fault := range faults {
		// What the other's fault cut short has found nothing.
		if fault != nil && !errors.Is(fault, context.Canceled) {
			found = append(found, fault)
		}
	}
	return errors.Join(found...)
}

// errForGood is wrapped by faults that waiting cannot fix.
var errForGood = errors.New("waiting does not help")

// permanent marks a fault that waiting cannot fix.
type permanent struct{ error }

func (p permanent) Unwrap() []error      { return []error{p.error} }
func (p permanent) Is(target error) bool { return target == errForGood }

func checkPostgres(ctx context.Context, cfg Config) error {
	parsed, err := pg.Config(cfg.DatabaseURL, Outbox)
	if err != nil {
		return permanent{errors.New("database-url: not a valid connection string")}
	}
	conn, err := connect(ctx, parsed, cfg.Timeout, waitLogger(cfg.Logger, "Postgres"))
	if err != nil {
		return err
	}
	defer pg.Close(conn)
	return lookAtTables(ctx, conn, cfg)
}

// lookAtTables checks that the tables are there, may be read, and hide no row.
func lookAtTables(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	looking, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	names := make([]string, len(cfg.Tables))
	for i, table := range cfg.Tables {
		names[i] = pgx.Identifier(strings.Split(table, ".")).Sanitize()
	}
	// Before anything is read from them: a policy makes that an error without the name of the role.
	err := pg.CheckRowSecurity(looking, conn, names...)
	if refused := pg.Refused(err); refused != nil {
		return permanent{hint.New(refused.Problem(), refused.Try())}
	}
	var faults []error
	known := make(map[uint32]string)
	for i, table := range cfg.Tables {
		var oid uint32
		if err == nil {
			oid, err = lookAt(looking, conn, names[i])
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if looking.Err() != nil {
			return hint.New(fmt.Sprintf("table %s: Postgres gave no answer within %v", table, cfg.Timeout),
				"look in pg_stat_activity for a session that holds a lock on the table, such as a migration")
		}
		if err == nil && known[oid] != "" {
			faults = append(faults, hint.New(
				fmt.Sprintf("tables %s and %s are one table: each of its events would be sent twice", known[oid], table),
				"name it in one lane only (lanes)"))
		}
		known[oid] = table
		if err != nil {
			faults = append(faults, fmt.Errorf("table %s: %w", table, Explain(err)))
			err = nil
		}
	}
	if err := errors.Join(faults...); err != nil {
		return permanent{err}
	}
	for _, table := range cfg.Outboxes {
		warnings, err := TableWarnings(ctx, conn, table)
		if err != nil {
			return err
		}
		for _, warning := range warnings {
			cfg.Logger.Warn(warning)
		}
	}
	return warnExposed(ctx, conn, cfg)
}

// lookAt reads no row of a table, and returns its oid: a table has more than one name, with its
// schema and without.
func lookAt(ctx context.Context, conn *pgx.Conn, name string) (oid uint32, err error) {
	if _, err := conn.Exec(ctx, "SELECT FROM "+name+" LIMIT 0"); err != nil {
		return 0, err
	}
	err = conn.QueryRow(ctx, "SELECT $1::text::regclass::oid", name).Scan(&oid)
	return oid, err
}

func checkKafka(ctx context.Context, cfg Config) error {
	opts := append([]kgo.Opt{kgo.SeedBrokers(cfg.Brokers...)}, cfg.KafkaOptions...)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return permanent{hint.Wrap(fmt.Errorf("brokers: %w", err), "--brokers HOST:PORT of a broker")}
	}
	defer client.Close()
	waiting := waitLogger(cfg.Logger, "Kafka")
	var lasting bool
	err = persist(ctx, cfg.Timeout, func(ctx context.Context) error {
		err := client.Ping(ctx)
		if err == nil {
			return nil
		}
		if cfg.ExplainKafka != nil {
			var explained error
			if lasting, explained = cfg.ExplainKafka(err); explained != nil {
				err = explained
			}
		}
		if lasting {
			return permanent{err}
		}
		waiting(err)
		return err
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case lasting:
		return permanent{fmt.Errorf("cannot connect to Kafka at %s: %w", strings.Join(cfg.Brokers, ", "), err)}
	case len(hint.Of(err)) > 0:
		return fmt.Errorf("no Kafka broker answers at %s within %v: %w", strings.Join(cfg.Brokers, ", "), cfg.Timeout, err)
	}
	return hint.Wrap(fmt.Errorf("no Kafka broker answers at %s within %v: %s",
		strings.Join(cfg.Brokers, ", "), cfg.Timeout, innermost(err)),
		"check --brokers, and that a broker runs there")
}

// waitLogger returns a function that logs the first failure: the rest would say the same.
func waitLogger(logger *slog.Logger, server string) func(error) {
	var once sync.Once
	return func(err error) {
		if !forGood(err) && !errors.Is(err, context.Canceled) {
			once.Do(func() { logger.Warn("waiting for "+server, "reason", innermost(err)) })
		}
	}
}

// persist calls try until it succeeds, fails permanently, or the time is up; it returns the last
// error of try that says more than that the time is up.
func persist(ctx context.Context, timeout time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pause := 50 * time.Millisecond
	var last error
	for {
		err := try(ctx)
		if err == nil || forGood(err) || errors.Is(err, errForGood) {
			return err
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		}
	}
}
