//go:build bench

package bench

import (
	"testing"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/bench"
)

// What `relay bench` measures, on the servers of this run.
func TestBenchBesideARawProducer(t *testing.T) {
	cfg := benchConfig(t)
	cfg.Rates = []int{50, 2000, 5000}
	runBench(t, cfg)
}

// Published rows that are kept, and a transaction that somebody forgot, make a drain no slower.
// RELAY_TEST_BENCH_RETAINED sets how many rows are kept.
func TestBenchUnderConditions(t *testing.T) {
	cfg := benchConfig(t)
	cfg.Retained, cfg.OpenTransaction, cfg.ParkedKeys = kit.NumberOf(t, "RELAY_TEST_BENCH_RETAINED", 20_000_000), true, 1000
	runBench(t, cfg)
}

// What `relay bench insert` measures.
func TestBenchInsert(t *testing.T) {
	result, err := bench.RunInsert(t.Context(), bench.InsertConfig{DatabaseURL: kit.EmptyDatabase(t), View: logView{t}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", result.Text())
}
