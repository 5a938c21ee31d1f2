//go:build more || bench

package bench

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/bench"
)

// logView writes what a bench does to the log of the test.
type logView struct{ t testing.TB }

func (v logView) Event(line string) { v.t.Log(line) }
func (logView) Progress(string)     {}

// benchConfig is a bench on the servers of this run, in an empty database.
func benchConfig(t testing.TB) bench.Config {
	return bench.Config{
		DatabaseURL: kit.EmptyDatabase(t), Brokers: kit.Brokers(t), Relay: []string{kit.RelayBinary(t), "run"}, View: logView{t},
		Environ: os.Environ(), StartTimeout: time.Minute, Rows: kit.NumberOf(t, "RELAY_TEST_BENCH_ROWS", 1_000_000),
	}
}

func runBench(t testing.TB, cfg bench.Config) *bench.Result {
	t.Helper()
	result, err := bench.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s\n%s", result.Text(), line)
	return result
}

// A bench leaves the database and the cluster as it found them, also when it is cancelled in the
// middle.
func TestABenchMeasuresAndLeavesNothingBehind(t *testing.T) {
	cfg := benchConfig(t)
	cfg.Rows, cfg.Rounds, cfg.Duration, cfg.Idle = 20_000, 1, time.Second, time.Second
	cfg.Trace, cfg.Rates, cfg.Retained, cfg.OpenTransaction, cfg.ParkedKeys = true, []int{200}, 10_000, true, 100
	conn, admin := kit.Connect(t, cfg.DatabaseURL), kadm.NewClient(kit.KafkaClient(t, cfg.Brokers))
	r := runBench(t, cfg)
	for name, value := range map[string]float64{
		"relay_rows_per_s": r.RelayRowsPerSecond, "raw_rows_per_s": r.RawRowsPerSecond, "raw_ring_rows_per_s": r.RawRingRowsPerSecond,
		"ratio": r.Ratio, "ring_ratio": r.RingRatio, "p50_ms": r.P50, "p99_ms": r.P99, "bare_p50_ms": r.BareP50, "bare_p99_ms": r.BareP99,
	} {
		if value <= 0 {
			t.Errorf("%s is %v", name, value)
		}
	}
	if len(r.Conditions) != 3 || r.Conditions[0].Ratio <= 0 || r.Conditions[1].Ratio <= 0 || r.Conditions[2].Ratio <= 0 {
		t.Errorf("conditions %+v", r.Conditions)
	}
	if r.Rates[0].Events != 200 {
		t.Errorf("%d events at a rate of 200 for a second", r.Rates[0].Events)
	}
	if trace := r.Rates[0].Trace; trace == nil || trace.Batches == 0 || len(trace.Stages) != 7 {
		t.Errorf("the trace is %+v", trace)
	} else if sum := meanOf(trace); sum <= 0 || sum > r.Rates[0].Max {
		t.Errorf("the stages take %.1f ms together, the events %+v", sum, r.Rates[0].Latency)
	}
	nothingLeft(t, conn, admin)

	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	stopped := errors.New("stopped by the test")
	cfg.View = stopView{logView{t}, func() { cancel(stopped) }}
	if _, err := bench.Run(ctx, cfg); !errors.Is(err, stopped) {
		t.Errorf("a cancelled bench returned %v", err)
	}
	nothingLeft(t, conn, admin)
}

// stopView stops a bench while a relay publishes.
type stopView struct {
	logView
	stop func()
}

// Progress stops the bench at the step.
func (v stopView) Progress(line string) {
	if strings.Contains(line, "publishing") {
		v.stop()
	}
}

// nothingLeft checks that no schema, topic or group of a bench is there.
func nothingLeft(t testing.TB, conn *pgx.Conn, admin *kadm.Client) {
	t.Helper()
	var schemas int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_namespace WHERE nspname ~ '^relay_bench_'").Scan(&schemas); err != nil {
		t.Fatal(err)
	}
	if schemas != 0 {
		t.Errorf("%d schemas are left", schemas)
	}
	kit.Eventually(t, 10*time.Second, "no topic is left", func() bool {
		topics, err := admin.ListTopics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return !strings.Contains(strings.Join(topics.Names(), " "), "relay-bench-") &&
			!strings.Contains(strings.Join(topics.Names(), " "), "relay.relay_bench_")
	})
	groups, err := admin.ListGroups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if names := strings.Join(groups.Groups(), " "); strings.Contains(names, "relay.relay_bench_") {
		t.Errorf("groups are left: %s", names)
	}
}

// meanOf is the mean of all stages together.
func meanOf(trace *bench.Trace) float64 {
	sum := 0.0
	for _, s := range trace.Stages {
		sum += s.Mean
	}
	return sum
}
