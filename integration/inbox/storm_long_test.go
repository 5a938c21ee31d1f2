//go:build long

package inbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/cluster"
	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/integration/victim"
	"github.com/outbox-relay/relay/internal/pipeline"
	"github.com/outbox-relay/relay/internal/sandbox"
)

// inboxStorm breaks everything between a row in an outbox and its effect in another database.
type inboxStorm struct {
	t         *testing.T
	c         *inboxCase
	relaying  []string // settings of relays
	relays    []*kit.RelayProcess
	consumers []*kit.RelayProcess
	kafka     *cluster.Cluster
	brokers   *kit.BrokerBreaker
	postgres  *sandbox.Postgres // of the services that write outboxes
	effects   *sandbox.Postgres // of the consumers: a server by itself, so that no other process's commits flush its log
	gate      *gate
	counts    map[string]int

	mu     sync.Mutex
	beside map[string]int // faults made by goroutines beside that of the test
}

// TestInboxStorm: services write outboxes, relays publish, another producer repeats every record,
// and consumers move money through the inbox, while relays, consumers, brokers and Postgres break,
// messages are poisoned and fixed, and the network fails. It runs for RELAY_TEST_STORM, 5m unless
// set.
func TestInboxStorm(t *testing.T) {
	length := kit.StormLength(t)
	s, load := newInboxStorm(t)
	name := kit.SettingOf(s.relaying, "RELAY_NAME")
	again := startRepeater(t, s.kafka.Bootstrap, 2000, s.c.settings.Topics...)
	ctx, calm := context.WithCancel(t.Context())
	defer calm()
	var sickness sync.WaitGroup
	var sick int
	sickness.Go(func() { sick = s.sicken(ctx) })
	sickness.Go(func() { s.breakOwnStatements(ctx, length/3) })
	for end := time.Now().Add(length); time.Now().Before(end); {
		s.strike()
		kit.Wait(t.Context(), time.Duration(rand.Int64N(int64(2*time.Second))))
	}
	calm()
	sickness.Wait()
	s.brokers.Mended()
	load.Stop()
	t.Logf("faults: %v; beside them: %v", s.counts, s.beside)
	s.relays = append(s.relays, kit.StartRelay(t, s.relaying, "run")) // the others may all end by themselves
	kit.AwaitPublished(t, load)
	for _, r := range s.relays {
		r.Terminate()
		r.Wait(time.Minute)
	}
	sent := ofRelay(t, load, name)
	again.finish(len(sent))
	for _, consumer := range s.consumers {
		consumer.Kill()
	}
	calmed := []*kit.RelayProcess{s.c.start(""), s.c.start("", takesMany)}
	kit.Eventually(t, 5*time.Minute, "nothing is parked any more", func() bool { s.c.heal(); return s.c.parkedKeys() == 0 })
	records := s.c.drain(10*time.Minute, calmed...)
	kit.Eventually(t, time.Minute, "nothing is parked at the end", func() bool { return s.c.parkedKeys() == 0 })
	t.Logf("%d transactions committed; %d messages were poisoned for a while; %d retries came to an end, %d of them failed", load.Committed.Load(), sick,
		s.c.count("SELECT count(*) FROM inbox_audit WHERE action = 'retried'"),
		s.c.count("SELECT count(*) FROM inbox_audit WHERE action = 'retried' AND details->>'outcome' = 'failed again'"))
	requireTwice(t, sent, records)
	s.c.judgeEffects(sent, records).require(t)
}

func newInboxStorm(t *testing.T) (*inboxStorm, *kit.Workload) {
	t.Helper()
	kafka := kit.OwnCluster(t, cluster.Options{Brokers: 3, Properties: cluster.ShortSessions})
	postgres, orders := kit.OwnPostgres(t)
	effects, empty := consumersPostgres(t)
	kit.CreateTopic(t, kafka.Bootstrap, "outbox.event.account", 8)
	c := inboxCaseOn(t, empty, kafka.Bootstrap, "outbox.event.account")
	// With "off" a crash forgets effects and marks together; no offset may have passed them.
	kit.SetOfDatabase(t, empty, "synchronous_commit = "+kit.StormCommit(t))
	kit.SetOfDatabase(t, empty, "lock_timeout = '500ms'")
	g, through := newGate(t, empty)
	c.settings.DatabaseURL, c.settings.Attempts, c.settings.Backoff = through, 5, time.Second
	c.settings.CrashLimit = 3
	s := &inboxStorm{
		t: t, c: c, kafka: kafka, brokers: kit.BreakerOf(t, kafka), postgres: postgres, effects: effects, gate: g, counts: make(map[string]int), beside: make(map[string]int),
		relaying: kit.RelaySettings(t, orders, kafka.Bootstrap, "RELAY_NAME=storm", "RELAY_BATCH_ROWS=500", "RELAY_TRANSACTION_TIMEOUT=10s"),
	}
	load := kit.StartWorkload(t, orders, 6, &kit.Workload{Pause: 40 * time.Millisecond, Accounts: 300})
	for range 2 {
		s.relays = append(s.relays, s.startRelay())
	}
	for range 3 {
		s.consumers = append(s.consumers, s.startConsumer())
	}
	return s, load
}

// startRelay starts a relay that has one chance in two to end by itself.
func (s *inboxStorm) startRelay() *kit.RelayProcess {
	settings := s.relaying
	if rand.IntN(2) == 0 {
		steps := pipeline.Steps()
		settings = append(settings[:len(settings):len(settings)],
			fmt.Sprintf("RELAY_FAILPOINT=%s:%d", steps[rand.IntN(len(steps))], 1+rand.IntN(400)))
	}
	return kit.StartRelay(s.t, settings, "run")
}

// startConsumer starts a consumer that in two cases of three ends, or loses a connection now and
// then, by itself.
func (s *inboxStorm) startConsumer() *kit.RelayProcess {
	points := victim.Points()
	fail := ""
	switch point := points[rand.IntN(len(points))]; rand.IntN(3) {
	case 0:
		fail = fmt.Sprintf("%s:%d", point, 1+rand.IntN(300))
	case 1:
		fail = fmt.Sprintf("%s:%d:%s", victim.AfterCommit, 20+rand.IntN(200), victim.Cut)
	}
	return s.c.start(fail, func(settings *victim.Settings) {
		settings.Batch, settings.SQL = rand.IntN(2) == 0, rand.IntN(2) == 0
	})
}

func (s *inboxStorm) strike() {
	i, j := rand.IntN(len(s.relays)), rand.IntN(len(s.consumers))
	r, c := s.relays[i], s.consumers[j]
	switch fault := rand.IntN(24); {
	case !r.Alive():
		s.counts["relay failpoint"]++
		s.relays[i] = s.startRelay()
	case !c.Alive():
		s.counts["consumer failpoint or crash"]++
		s.consumers[j] = s.startConsumer()
	case fault < 2:
		s.counts["relay killed"]++
		r.Kill()
		s.relays[i] = s.startRelay()
	case fault < 6:
		s.counts["consumer killed"]++
		c.Kill()
		s.consumers[j] = s.startConsumer()
	case fault < 9:
		s.counts["consumer stopped"]++
		c.Terminate()
		c.Wait(time.Minute)
		s.consumers[j] = s.startConsumer()
	case fault < 12:
		s.counts["consumer frozen"]++
		c.Pause()
		kit.Wait(s.t.Context(), time.Duration(rand.Int64N(int64(4*victimSession))))
		c.Resume()
	case fault < 15:
		s.strikeNetwork(fault)
	case fault < 18:
		if fault := s.brokers.One(); fault != "" {
			s.counts[fault]++
		}
	case fault < 19:
		s.counts["all brokers killed at once"]++
		s.brokers.All(func() {})
	case fault < 20:
		s.counts["postgres of the services crashed"]++
		crash(s.t, s.postgres)
	default:
		s.counts["postgres of the consumers crashed"]++
		crash(s.t, s.effects)
	}
}

// strikeNetwork breaks what lies between consumers and their database.
func (s *inboxStorm) strikeNetwork(fault int) {
	if fault%3 == 0 {
		s.counts["connections left hanging"]++
		s.gate.replace()
		return
	}
	s.counts["database hanging"]++
	s.gate.shut()
	kit.Wait(s.t.Context(), time.Duration(rand.Int64N(int64(8*time.Second))))
	s.gate.open()
}

// sicken poisons messages that are still to come, in every way, until ctx ends, and fixes them a
// while later.
func (s *inboxStorm) sicken(ctx context.Context) (sick int) {
	kinds := victim.Kinds()
	for ctx.Err() == nil {
		kit.Wait(ctx, time.Second)
		kind := kinds[rand.IntN(len(kinds))]
		if s.c.try(ctx, fmt.Sprintf(`INSERT INTO poison SELECT key, place + %d, '%s' FROM progress ORDER BY random() LIMIT 1`, 1+rand.IntN(5), kind)) {
			sick++
		}
		if rand.IntN(12) == 0 {
			s.c.try(ctx, "DELETE FROM poison")
			s.c.try(ctx, retryAll)
		}
	}
	return sick
}

// retryAll asks for every parked key.
const retryAll = "UPDATE inbox_parked_keys SET requested_at = now(), requested_by = 'tester', reason = 'mended' WHERE requested_at IS NULL"

// heal takes all poison away and asks for every parked key.
func (c *inboxCase) heal() {
	c.t.Helper()
	kit.Execute(c.t, c.url, "DELETE FROM poison; "+retryAll)
}

// try runs a statement, and reports whether the database was there for it.
func (c *inboxCase) try(ctx context.Context, statement string) bool {
	conn, err := kit.ConnectBriefly(ctx, c.url)
	if err != nil {
		return false
	}
	defer kit.CloseQuietly(conn)
	_, err = conn.Exec(ctx, statement)
	return err == nil
}
