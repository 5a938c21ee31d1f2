//go:build bench

package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/cluster"
	"github.com/outbox-relay/relay/integration/connect"
	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/bench/load"
)

// busyKeys is how many aggregates a backlog of busy ones has: their events come so close to each
// other that a batch has several of each, and the next batch too.
const busyKeys = 100

func TestMain(m *testing.M) { kit.Main(m) }

// What the relay and its peers do with the same rows on the same servers, in one run and in turn.
// The lines and the page are written to the folder that RELAY_TEST_PEERS_OUT names.
func TestBenchPeers(t *testing.T) {
	p := planOf(t)
	r := newRun(t, p)
	r.describe()
	for round := 1; round <= p.rounds; round++ {
		note(r, &r.report.Bares, r.bare(round))
		for _, name := range p.of(round) {
			// By itself, so that the others are measured if one fails.
			t.Run(fmt.Sprintf("%d-%s", round, name), func(t *testing.T) {
				turn := *r
				turn.t = t
				turn.turn(name, round)
			})
			r.write()
		}
	}
	t.Logf("\n%s", r.report.Text())
	if wrong := r.report.wrong(Relay); wrong != "" {
		t.Errorf("what the relay published has faults%s", wrong)
	}
}

// turn measures one contender once.
func (r *run) turn(name string, round int) {
	r.t.Helper()
	began := time.Now()
	ctx := r.t.Context()
	at := r.outbox(name)
	c := r.contender(name, at)
	defer func() {
		if err := c.close(context.WithoutCancel(ctx)); err != nil {
			r.t.Error(err)
		}
		if err := r.server.DropDatabase(context.WithoutCancel(ctx), at.name); err != nil {
			r.t.Error(err)
		}
	}()
	if err := c.prepare(ctx); err != nil {
		r.t.Fatal(err)
	}
	head := Head{Contender: name, Round: round}
	fifth := load.Backlog{Rows: r.plan.rows / 5}
	r.drain(c, at, head, fifth, 0) // for Java, which compiles what it uses
	note(r, &r.report.Drains, r.drain(c, at, head, load.Backlog{Rows: r.plan.rows}, 0))
	note(r, &r.report.Drains, r.coming(c, at, head, r.plan.rows/2))
	if err := c.start(ctx); err != nil {
		r.t.Fatal(err)
	}
	r.rates(c, at, head, "loaded")
	if r.plan.rest > 0 && (name == Relay || name == Debezium) {
		note(r, &r.report.Idles, r.idle(c, head))
		r.rates(c, at, head, "rested")
	}
	note(r, &r.report.Recoveries, r.recovery(c, at, head))
	if err := c.suspend(ctx); err != nil {
		r.t.Fatal(err)
	}
	fifth.Keys = busyKeys
	note(r, &r.report.Drains, r.drain(c, at, head, fifth, 0))
	if r.plan.kills > 0 {
		note(r, &r.report.Drains, r.drain(c, at, head, fifth, r.plan.kills))
	}
	r.t.Logf("round %d: %s took %.0f s", round, name, time.Since(began).Seconds())
}

// note keeps what was measured, and shows it.
func note[T any](r *run, in *[]T, line T) {
	*in = append(*in, line)
	text, err := json.Marshal(line)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Logf("%s", text)
}

// rates measures the latency of a contender that runs at each rate.
func (r *run) rates(c contender, at outbox, head Head, state string) {
	r.t.Helper()
	if state == "loaded" {
		if err := pause(r.t.Context(), afterLoad); err != nil {
			r.t.Fatal(err)
		}
	}
	for _, rate := range r.plan.rates {
		note(r, &r.report.Latencies, r.latency(c, at, head, state, rate))
	}
}

func (r *run) contender(name string, at outbox) contender {
	switch name {
	case Relay:
		return &relayContender{outbox: at, binary: kit.RelayBinary(r.t)}
	case Debezium:
		return (&debeziumContender{outbox: at}).tuned()
	case DebeziumUntuned:
		return &debeziumContender{outbox: at}
	case Poller:
		return &pollerContender{outbox: at, binary: kit.PollerBinary(r.t), instances: 1}
	case Pollers:
		return &pollerContender{outbox: at, binary: kit.PollerBinary(r.t), instances: PollerInstances}
	}
	r.t.Fatalf("there is no contender %q", name)
	return nil
}

// write writes what was found so far.
func (r *run) write() {
	r.t.Helper()
	folder := os.Getenv("RELAY_TEST_PEERS_OUT")
	if folder == "" {
		return
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		r.t.Fatal(err)
	}
	for name, write := range map[string]func(io.Writer) error{"peers.jsonl": r.report.WriteLines, "peers.html": r.report.WritePage} {
		file, err := os.Create(filepath.Join(folder, name))
		if err != nil {
			r.t.Fatal(err)
		}
		if err := errors.Join(write(file), file.Close()); err != nil {
			r.t.Fatal(err)
		}
	}
}

// describe notes what is run, and where.
func (r *run) describe() {
	run := &r.report.Run
	run.Kind = "run"
	run.Rounds, run.Others, run.Rows, run.Coming, run.Size, run.Partitions = r.plan.rounds, r.plan.others, r.plan.rows, r.plan.coming, r.plan.size, r.plan.partitions
	run.Rates, run.Seconds, run.Rest, run.Contenders = r.plan.rates, r.plan.seconds, r.plan.rest, r.plan.contenders
	run.CPUs, run.Kafka, run.Debezium = runtime.NumCPU(), cluster.Version, connect.DebeziumVersion
	run.Processor = lineOf(r.t, "/proc/cpuinfo", "model name")
	kilobytes, err := strconv.Atoi(strings.TrimSuffix(lineOf(r.t, "/proc/meminfo", "MemTotal"), " kB"))
	if err != nil {
		r.t.Fatal(err)
	}
	run.Memory = rounded(float64(kilobytes)/(1<<20), 1)
}

// lineOf is what a file of /proc says under a name; "unknown" if it says nothing.
func lineOf(t testing.TB, file, name string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
