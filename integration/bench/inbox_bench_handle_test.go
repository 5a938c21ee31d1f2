//go:build bench

package bench

import (
	"testing"

	"github.com/outbox-relay/relay/integration/kit"
)

// What the inbox costs beside the same business write without one. The ratios are what the design
// promises.
func TestBenchInboxBesideBareWrites(t *testing.T) {
	rounds := kit.NumberOf(t, "RELAY_TEST_BENCH_ROUNDS", 5)
	for _, goroutines := range []int{1, 16} {
		b := newInboxBench(t)
		single := []side{b.bare(), b.handle(), b.byHand(), b.barePipelined(), b.handlePipelined(), b.autocommit()}
		rates := b.beside(rounds, goroutines, single...)
		t.Logf("one message a transaction, %d at once: median of %d rounds of %v, ratios to the first%s",
			goroutines, rounds, b.round, table(rates, single...))
		atLeast(t, "Handle beside the bare write", ratiosOf(rates, single[1], single[0]), 0.7)
		t.Logf("Handle beside a table by hand: %v; statements sent at once: %v",
			ratiosOf(rates, single[1], single[2]), ratiosOf(rates, single[4], single[3]))
		for _, n := range []int{100, 500} {
			batched := []side{b.bareBatch(n), b.handleBatch(n)}
			rates := b.beside(rounds, goroutines, batched...)
			t.Logf("many messages a transaction, %d at once%s", goroutines, table(rates, batched...))
			atLeast(t, batched[1].name+" beside the bare batch", ratiosOf(rates, batched[1], batched[0]), 0.8)
		}
	}
}

// atLeast fails the test if the median is less than what was promised.
func atLeast(t testing.TB, what string, r ratios, promised float64) {
	t.Helper()
	if r.median() < promised {
		t.Errorf("%s: %v, want %.2f at least", what, r, promised)
	}
}
