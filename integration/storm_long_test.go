//go:build long

package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/cluster"
	"github.com/outbox-relay/relay/internal/relay"
	"github.com/outbox-relay/relay/internal/sandbox"
)

// storm breaks things at random: relays, brokers, Postgres, and what the relay stands on there.
type storm struct {
	t        *testing.T
	settings []string
	relays   []*relayProcess
	// writersURL logs in as another role than the relays do.
	writersURL string
	kafka      *cluster.Cluster
	postgres   *sandbox.Postgres
	mending    sync.WaitGroup // of brokers
	broken     chan struct{}  // holds one value while a broker is broken
	counts     map[string]int
}

// TestStorm: writers write, now and then an event that can never be sent as it is; what is parked is mended and brought back,
// and what is published goes after two seconds; meanwhile everything breaks. It runs for RELAY_TEST_STORM, 5m unless set.
func TestStorm(t *testing.T) {
	length := stormLength(t)
	kafka := threeBrokers(t)
	postgres, url := ownPostgres(t)
	setOfDatabase(t, url, "synchronous_commit = "+stormCommit(t))
	s := &storm{
		t: t, kafka: kafka, postgres: postgres, writersURL: url, broken: make(chan struct{}, 1), counts: make(map[string]int),
		settings: relaySettings(t, stormLogin(t, url), kafka.Bootstrap, "RELAY_BATCH_ROWS=500", "RELAY_TRANSACTION_TIMEOUT=10s",
			"RELAY_RETENTION=2s", "RELAY_TOPICS_PATIENCE=3s"),
	}
	load := startWorkload(t, url, 16, &workload{pause: 10 * time.Millisecond, poison: 300})
	ctx, stopMending := context.WithCancel(t.Context())
	defer stopMending()
	go mend(ctx, url)
	for range 3 {
		s.relays = append(s.relays, s.start())
	}
	for end := time.Now().Add(length); time.Now().Before(end); {
		s.strike()
		wait(t.Context(), time.Duration(rand.Int64N(int64(3*time.Second))))
	}
	s.mending.Wait()
	load.stop()
	t.Logf("faults: %v", s.counts)
	awaitPublished(t, load)
	eventually(t, 3*time.Minute, "nothing is parked any more", func() bool { return count(t, url, `SELECT count(*) FROM outbox_parked`) == 0 })
	t.Logf("%d poisoned events; %d requests, %d events released by them; %d rows left in the outbox", load.poisoned.Load(),
		count(t, url, `SELECT count(*) FROM outbox_parked_audit`), count(t, url, `SELECT coalesce(sum(events), 0)::int FROM outbox_parked_audit`),
		count(t, url, `SELECT count(*) FROM outbox`))
	for _, r := range s.relays {
		r.Terminate()
		r.Wait(time.Minute)
	}
	finish(t, load, s.settings, "outbox.event.account")
}

// start starts a relay that has one chance in two to end by itself at a step of some batch.
func (s *storm) start() *relayProcess {
	settings := s.settings
	if rand.IntN(2) == 0 {
		steps := relay.Steps()
		settings = append(settings[:len(settings):len(settings)],
			fmt.Sprintf("RELAY_FAILPOINT=%s:%d", steps[rand.IntN(len(steps))], 1+rand.IntN(400)))
	}
	return startRelay(s.t, settings, "run")
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
		wait(s.t.Context(), time.Duration(rand.Int64N(int64(15*time.Second))))
		r.Resume()
	case fault < 7:
		s.counts["relay stopped"]++
		r.Terminate()
		r.Wait(time.Minute)
		s.relays[i] = s.start()
	case fault < 9:
		s.strikeBroker()
	case fault < 12:
		s.strikeSurroundings()
	case fault < 13:
		s.strikeEveryBroker(i)
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

// strikeEveryBroker kills all brokers at once, and relay i while the others may be catching up.
func (s *storm) strikeEveryBroker(i int) {
	s.broken <- struct{}{}
	s.counts["all brokers killed at once"]++
	strikeCluster(s.t, s.kafka, func() {
		wait(s.t.Context(), time.Duration(rand.Int64N(int64(5*time.Second))))
		s.relays[i].Kill()
	})
	s.relays[i] = s.start()
	<-s.broken
}

// strikeBroker breaks a broker, unless one is broken, and mends it in the background.
func (s *storm) strikeBroker() {
	select {
	case s.broken <- struct{}{}:
	default:
		return
	}
	node := 1 + rand.IntN(3)
	freeze := rand.IntN(2) == 0
	breaking, mending := s.kafka.Kill, func() error { return s.kafka.Revive(s.t.Context(), node) }
	if freeze {
		breaking, mending = s.kafka.Freeze, func() error { return s.kafka.Thaw(node) }
		s.counts["broker frozen"]++
	} else {
		s.counts["broker killed"]++
	}
	if err := breaking(node); err != nil {
		s.t.Fatal(err)
	}
	s.mending.Go(func() {
		wait(s.t.Context(), time.Duration(rand.Int64N(int64(8*time.Second))))
		if err := mending(); err != nil {
			s.t.Error(err)
		}
		<-s.broken
	})
}
