//go:build bench

package peers

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/outbox-relay/relay/integration/kit"
)

// plan says what is measured. Each field has a variable of the environment.
type plan struct {
	rounds     int   // turns of the relay and of tuned Debezium
	others     int   // turns of the others
	rows       int   // of a backlog
	coming     int   // rows a second that come while a backlog is drained
	rates      []int // inserts a second at which latency is measured
	seconds    int   // at each rate, after a warm-up
	rest       int   // seconds between the load and the latency after it
	kills      int   // in a drain that is disturbed
	size       int   // bytes of a payload
	partitions int32
	contenders []string
}

// of returns the contenders of a round. Each round begins with another one, so that none has always
// the same predecessor.
func (p plan) of(round int) (names []string) {
	for i := range p.contenders {
		name := p.contenders[(i+round-1)%len(p.contenders)]
		if round <= p.others || name == Relay || name == Debezium {
			names = append(names, name)
		}
	}
	return names
}

// The plan of `make bench-peers`, and a short one to try it.
func planOf(t testing.TB) plan {
	t.Helper()
	p := plan{rounds: 3, others: 1, rows: 400_000, coming: 2000, rates: []int{50, 500, 2000, 5000}, seconds: 8, rest: 60, kills: 1,
		size: 200, partitions: 12, contenders: All}
	if os.Getenv("RELAY_TEST_PEERS_SHORT") != "" {
		p.rounds, p.rows, p.rates, p.seconds, p.rest = 1, 50_000, []int{500}, 3, 0
		p.contenders = []string{Relay, Debezium, Poller, Pollers}
	}
	p.rounds = kit.NumberOf(t, "RELAY_TEST_PEERS_ROUNDS", p.rounds)
	p.others = kit.NumberOf(t, "RELAY_TEST_PEERS_OTHERS", p.others)
	p.rows = kit.NumberOf(t, "RELAY_TEST_PEERS_ROWS", p.rows)
	p.coming = kit.NumberOf(t, "RELAY_TEST_PEERS_COMING", p.coming)
	p.seconds = kit.NumberOf(t, "RELAY_TEST_PEERS_SECONDS", p.seconds)
	p.rest = kit.NumberOf(t, "RELAY_TEST_PEERS_REST", p.rest)
	p.kills = kit.NumberOf(t, "RELAY_TEST_PEERS_KILLS", p.kills)
	if text := os.Getenv("RELAY_TEST_PEERS_RATES"); text != "" {
		p.rates = nil
		for field := range strings.SplitSeq(text, ",") {
			rate, err := strconv.Atoi(field)
			if err != nil || rate < 1 {
				t.Fatalf("RELAY_TEST_PEERS_RATES=%q: %q is not a number of inserts a second", text, field)
			}
			p.rates = append(p.rates, rate)
		}
	}
	if text := os.Getenv("RELAY_TEST_PEERS"); text != "" {
		p.contenders = strings.Split(text, ",")
		for _, name := range p.contenders {
			if !slices.Contains(All, name) {
				t.Fatalf("RELAY_TEST_PEERS=%q: %q is none of %s", text, name, strings.Join(All, ", "))
			}
		}
	}
	if p.rounds < 1 || p.others < 0 || p.rows < 1000 || p.coming < 1 || p.seconds < 1 || p.rest < 0 || p.kills < 0 {
		t.Fatalf("a number of the plan is too small: %+v", p)
	}
	return p
}
