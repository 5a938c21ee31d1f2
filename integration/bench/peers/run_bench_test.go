//go:build bench

package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/bench/load"
	"github.com/outbox-relay/relay/internal/harness/usage"
	"github.com/outbox-relay/relay/internal/sandbox"
)

// topicPrefix begins the names of all topics that rows name. The relay's allow list has it.
const topicPrefix = "relay-bench-peers-"

// run is one run of all measurements.
type run struct {
	t       testing.TB
	plan    plan
	brokers []string
	admin   *kadm.Client
	server  *sandbox.Postgres
	master  int // process id of the postmaster
	report  *Report
}

func newRun(t testing.TB, p plan) *run {
	t.Helper()
	options := kit.PostgresOptions()
	options.Parameters["wal_level"] = "logical"
	server, err := sandbox.StartPostgres(t.Context(), options)
	if err != nil {
		t.Fatalf("no Postgres: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	r := &run{t: t, plan: p, brokers: kit.Brokers(t), server: server, report: &Report{}}
	r.admin = kadm.NewClient(kit.KafkaClient(t, r.brokers))
	var folder string
	conn := kit.Connect(t, server.URL)
	err = conn.QueryRow(t.Context(), "SELECT current_setting('data_directory'), split_part(current_setting('server_version'), ' ', 1)").
		Scan(&folder, &r.report.Run.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := os.ReadFile(folder + "/postmaster.pid")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(pid), "\n")
	if r.master, err = strconv.Atoi(first); err != nil {
		t.Fatal(err)
	}
	return r
}

// outbox makes a database with the tables of the migrations.
func (r *run) outbox(contender string) outbox {
	r.t.Helper()
	name := "peers_" + strings.ReplaceAll(contender, "-", "_") + "_" + uuid.NewString()[:8]
	url, err := r.server.CreateDatabase(r.t.Context(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	kit.Migrate(r.t, url)
	return outbox{name: name, url: url, brokers: r.brokers}
}

// topic makes a topic, and remove deletes it.
func (r *run) topic() (name string, remove func()) {
	r.t.Helper()
	name = topicPrefix + uuid.NewString()[:13]
	kit.CreateTopic(r.t, r.brokers, name, r.plan.partitions)
	return name, func() {
		if _, err := r.admin.DeleteTopic(r.t.Context(), name); err != nil {
			r.t.Fatal(err)
		}
	}
}

// sample is what has been used up to a moment.
type sample struct {
	at       time.Time
	cpu      map[int]time.Duration // of the processes of the contender
	peak     int64
	resident int64
	postgres time.Duration
	wal      int64
	commits  int64
}

func (r *run) sample(c contender) sample {
	r.t.Helper()
	s, err := r.trySample(c)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// trySample is sample for other goroutines than the test's.
func (r *run) trySample(c contender) (sample, error) {
	s := sample{cpu: map[int]time.Duration{}}
	for _, id := range c.ids() {
		u, err := usage.Of(id)
		if err != nil {
			return s, err
		}
		s.cpu[id] = u.Processor
		s.peak += u.Peak
		s.resident += u.Resident
	}
	family, err := usage.Family(r.master)
	if err != nil {
		return s, err
	}
	s.postgres = family.Processor
	err = kit.Ask(r.t, r.server.URL, `SELECT pg_current_wal_lsn() - '0/0'::pg_lsn, (SELECT sum(xact_commit + xact_rollback)::bigint FROM pg_stat_database)`,
		nil, &s.wal, &s.commits)
	s.at = time.Now()
	return s, err
}

// processor is what the processes of the contender have used since another sample, those that are
// new since then as a whole.
func (s sample) processor(since sample) (sum time.Duration) {
	for id, spent := range s.cpu {
		sum += spent - since.cpu[id]
	}
	return sum
}

// load is what was used between two samples.
func (s sample) load(since sample) Load {
	return Load{
		CPU: rounded(s.processor(since).Seconds(), 2), PeakRSS: rounded(float64(s.peak)/(1<<20), 1),
		PostgresCPU: rounded((s.postgres - since.postgres).Seconds(), 2), WAL: s.wal - since.wal,
		Transactions: s.commits - since.commits, Seconds: rounded(s.at.Sub(since.at).Seconds(), 2),
	}
}

// faults are those of events of which everything is read.
func faults(e *load.Events) Faults {
	return Faults{Lost: e.Lost(), Doubled: e.Doubled, Reordered: e.Reordered, Invented: e.Invented}
}

func quantiles(sorted []time.Duration) Quantiles {
	at := func(p float64) float64 { return load.Quantile(sorted, p) }
	return Quantiles{P10: at(0.1), P50: at(0.5), P90: at(0.9), P99: at(0.99), P999: at(0.999), Max: at(1)}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// execute runs statements on a session by itself.
func execute(ctx context.Context, url, statements string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	_, err = conn.PgConn().Exec(ctx, statements).ReadAll()
	return errors.Join(err, conn.Close(ctx))
}
