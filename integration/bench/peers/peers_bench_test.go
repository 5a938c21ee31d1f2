//go:build bench

package peers

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/cluster"
	"github.com/outbox-relay/relay/integration/connect"
	"github.com/outbox-relay/relay/integration/kit"
)

func TestMain(m *testing.M) { kit.Main(m) }

// What the relay and its peers do with the same rows on the same servers, in one run and in turn.
// The lines and the page are written to the folder that RELAY_TEST_PEERS_OUT names.
func TestBenchPeers(t *testing.T) {
	p := planOf(t)
	r := newRun(t, p)
	r.describe()
	for round := 1; round <= p.rounds; round++ {
		r.report.Bares = append(r.report.Bares, r.bare(round))
		for i := range p.contenders {
			// Each round begins with another one, so that none has always the quietest machine.
			r.turn(p.contenders[(i+round-1)%len(p.contenders)], round)
			r.write()
		}
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
	r.drain(c, at, head, r.plan.rows/5, 0) // for Java, which compiles what it uses
	r.drained(r.drain(c, at, head, r.plan.rows, 0))
	if err := c.start(ctx); err != nil {
		r.t.Fatal(err)
	}
	r.rates(c, at, head, "loaded")
	r.t.Logf("round %d: %s took %.0f s", round, name, time.Since(began).Seconds())
}

func (r *run) drained(d Drain) {
	r.report.Drains = append(r.report.Drains, d)
	r.t.Logf("round %d: %s: %+v", d.Round, d.Contender, d)
}

func (r *run) rates(c contender, at outbox, head Head, state string) {
	r.t.Helper()
	if err := pause(r.t.Context(), afterLoad); err != nil {
		r.t.Fatal(err)
	}
	for _, rate := range r.plan.rates {
		l := r.latency(c, at, head, state, rate)
		r.report.Latencies = append(r.report.Latencies, l)
		r.t.Logf("round %d: %s: %+v", l.Round, l.Contender, l)
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

// describe notes what is run, and where.
func (r *run) describe() {
	run := &r.report.Run
	run.Kind = "run"
	run.Rounds, run.Rows, run.Coming, run.Size, run.Partitions = r.plan.rounds, r.plan.rows, r.plan.coming, r.plan.size, r.plan.partitions
	run.Rates, run.Seconds, run.Rest, run.Contenders = r.plan.rates, r.plan.seconds, r.plan.rest, r.plan.contenders
	run.CPUs, run.Kafka, run.Debezium = runtime.NumCPU(), cluster.Version, connect.DebeziumVersion
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
	lines, err := os.Create(filepath.Join(folder, "peers.jsonl"))
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.report.WriteLines(lines); err != nil {
		r.t.Fatal(err)
	}
	if err := lines.Close(); err != nil {
		r.t.Fatal(err)
	}
}
