//go:build long

package relay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/pipeline"
	"github.com/outbox-relay/relay/internal/sandbox"
)

// storm breaks things at random: relays, brokers, Postgres, and what the relay stands on there.
type storm struct {
	t        *testing.T
	settings []string
	relays   []*kit.RelayProcess
	// writersURL logs in as another role than the relays do.
	writersURL string
	brokers    *kit.BrokerBreaker
	postgres   *sandbox.Postgres
	counts     map[string]int
}

// TestStorm: writers write, now and then an event that can never be sent as it is; what is parked
// is fixed and brought back, and what is published goes after two seconds; meanwhile everything
// breaks. It runs for RELAY_TEST_STORM, 5m unless set.
func TestStorm(t *testing.T) {
	length := kit.StormLength(t)
	kafka := kit.ThreeBrokers(t)
	postgres, url := kit.OwnPostgres(t)
	kit.SetOfDatabase(t, url, "synchronous_commit = "+kit.StormCommit(t))
	s := &storm{
		t: t, brokers: kit.BreakerOf(t, kafka), postgres: postgres, writersURL: url, counts: make(map[string]int),
		settings: kit.RelaySettings(t, stormLogin(t, url), kafka.Bootstrap, "RELAY_BATCH_ROWS=500", "RELAY_TRANSACTION_TIMEOUT=10s",
			"RELAY_RETENTION=2s", "RELAY_TOPICS_PATIENCE=3s"),
	}
	load := kit.StartWorkload(t, url, 16, &kit.Workload{Pause: 10 * time.Millisecond, Poison: 300})
	ctx, stopMending := context.WithCancel(t.Context())
	defer stopMending()
	go kit.Mend(ctx, url)
	for range 3 {
		s.relays = append(s.relays, s.start())
	}
	for end := time.Now().Add(length); time.Now().Before(end); {
		s.strike()
		kit.Wait(t.Context(), time.Duration(rand.Int64N(int64(3*time.Second))))
	}
	s.brokers.Mended()
	load.Stop()
	t.Logf("faults: %v", s.counts)
	kit.AwaitPublished(t, load)
	kit.Eventually(t, 3*time.Minute, "nothing is parked any more", func() bool { return count(t, url, `SELECT count(*) FROM outbox_parked`) == 0 })
	t.Logf("%d poisoned events; %d requests, %d events released by them; %d rows left in the outbox", load.Poisoned.Load(),
		count(t, url, `SELECT count(*) FROM outbox_parked_audit`), count(t, url, `SELECT coalesce(sum(events), 0)::int FROM outbox_parked_audit`),
		count(t, url, `SELECT count(*) FROM outbox`))
	for _, r := range s.relays {
		r.Terminate()
		r.Wait(time.Minute)
	}
	kit.Finish(t, load, s.settings, "outbox.event.account")
}

// start starts a relay that has one chance in two to end by itself at a step of some batch.
func (s *storm) start() *kit.RelayProcess {
	settings := s.settings
	if rand.IntN(2) == 0 {
		steps := pipeline.Steps()
		settings = append(settings[:len(settings):len(settings)],
			fmt.Sprintf("RELAY_FAILPOINT=%s:%d", steps[rand.IntN(len(steps))], 1+rand.IntN(400)))
	}
	return kit.StartRelay(s.t, settings, "run")
}

func (s *storm) strike() {
	i := rand.IntN(len(s.relays))
	r := s.relays[i]
	switch fault := rand.IntN(14); {
	case !r.Alive():
		s.counts["relay failpoint"]++
		s.relays[i] = s.start()
	case fault < 4:
		s.counts["relay killed"]++
		r.Kill()
		s.relays[i] = s.start()
	case fault < 6:
		s.counts["relay paused"]++
		r.Pause()
		kit.Wait(s.t.Context(), time.Duration(rand.Int64N(int64(15*time.Second))))
		r.Resume()
	case fault < 7:
		s.counts["relay stopped"]++
		r.Terminate()
		r.Wait(time.Minute)
		s.relays[i] = s.start()
	case fault < 9:
		if fault := s.brokers.One(); fault != "" {
			s.counts[fault]++
		}
	case fault < 12:
		s.strikeSurroundings()
	case fault < 13:
		s.counts["all brokers killed at once"]++
		s.brokers.All(func() { // and a relay, while the others may be catching up
			kit.Wait(s.t.Context(), time.Duration(rand.Int64N(int64(5*time.Second))))
			r.Kill()
		})
		s.relays[i] = s.start()
	default:
		s.counts["postgres crashed"]++
		if err := s.postgres.Kill(); err != nil {
			s.t.Fatal(err)
		}
		if err := s.postgres.Restart(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
	}
}
