package inbox

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/integration/victim"
)

// sickKeys are keys with a message that fails.
type sickKeys struct {
	kinds map[string]string // of each key
	first int64             // the version that fails
}

// newSickKeys poisons the first n keys of a sender, in ways that end in parking.
func newSickKeys(c *inboxCase, s *sender, n int, first int64) sickKeys {
	kinds := []string{victim.Permanent, victim.Transient, victim.Panic, victim.BadData}
	sick := sickKeys{kinds: make(map[string]string), first: first}
	for i := range n {
		key, kind := s.key(i*(s.keys/n)), kinds[i%len(kinds)]
		sick.kinds[key] = kind
		c.poison(key, first, kind)
	}
	return sick
}

func (k sickKeys) keys() []string { return slices.Sorted(maps.Keys(k.kinds)) }

// without leaves out the messages that wait.
func (k sickKeys) without(sent deliveries) deliveries {
	handled := maps.Clone(sent)
	maps.DeleteFunc(handled, func(_ identity, d delivery) bool { return k.kinds[d.key] != "" && d.version >= k.first })
	return handled
}

// expectParked checks that exactly these keys are parked, from the message on that fails, in order,
// and each for its reason.
func (k sickKeys) expectParked(c *inboxCase, sent deliveries) {
	c.t.Helper()
	want := make(map[string]int)
	for _, d := range sent {
		if k.kinds[d.key] != "" && d.version >= k.first {
			want[d.key]++
		}
	}
	conn := kit.Connect(c.t, c.url)
	defer kit.CloseQuietly(conn)
	rows, err := conn.Query(c.t.Context(), `
SELECT convert_from(key, 'UTF8'), count(*), min(cause) FILTER (WHERE place = 1),
       bool_and(convert_from(payload, 'UTF8')::bigint = $1 + place - 1), coalesce(bool_and(cause = 'behind') FILTER (WHERE place > 1), true)
FROM (SELECT k.key, p.*, row_number() OVER (PARTITION BY k.id ORDER BY p.id) AS place
      FROM inbox_parked_keys k JOIN inbox_parked p ON p.key_id = k.id WHERE k.consumer = $2) queue
GROUP BY key ORDER BY 1`, k.first, c.settings.Consumer)
	if err != nil {
		c.t.Fatal(err)
	}
	got := make(map[string]int)
	var key, cause string
	var parked int
	var inOrder, behind bool
	_, err = pgx.ForEachRow(rows, []any{&key, &parked, &cause, &inOrder, &behind}, func() error {
		got[key] = parked
		reason := "attempts"
		if k.kinds[key] == victim.Permanent {
			reason = "permanent"
		}
		if cause != reason || !inOrder || !behind {
			c.t.Errorf("key %s (%s): the first is parked for %s, in order %t, all others behind it %t", key, k.kinds[key], cause, inOrder, behind)
		}
		return nil
	})
	if err != nil || !maps.Equal(got, want) {
		c.t.Errorf("parked: %v, want %v (%v)", got, want, err)
	}
}

// askForRetry asks for all parked keys by the command, as a person would who has fixed the cause,
// and returns its exit status.
func (c *inboxCase) askForRetry(wait string) (status int) {
	c.t.Helper()
	asked := kit.StartRelay(c.t, []string{"RELAY_DATABASE_URL=" + c.url}, "inbox", "parked", "retry", "--all", "--consumer", c.settings.Consumer,
		"--why", "mended", "--wait", wait)
	return asked.Wait(time.Minute)
}

// askAgain asks for the parked keys that came back.
func (c *inboxCase) askAgain() {
	c.t.Helper()
	kit.Execute(c.t, c.url, fmt.Sprintf(`UPDATE inbox_parked_keys SET requested_at = now(), requested_by = 'tester', reason = 'mended'
WHERE consumer = '%s' AND requested_at IS NULL`, c.settings.Consumer))
}

func (c *inboxCase) parkedKeys() int {
	c.t.Helper()
	return c.count("SELECT count(*) FROM inbox_parked_keys WHERE consumer = $1", c.settings.Consumer)
}

// Poison is in 20 keys of many, while consumers are killed. Exactly those keys are parked, in
// order. Then the cause is fixed, and they are handled in order while new messages of theirs arrive
// and consumers are killed. RELAY_TEST_POISON_KEYS sets how many keys there are, and
// RELAY_TEST_POISON_KILLS how many kills.
func TestPoisonParksItsKeysOnlyThroughKillsAndARetryHandlesThemInOrder(t *testing.T) {
	t.Parallel()
	const sickOnes, few = 20, 6
	c := newInboxCase(t, 6)
	c.settings.Attempts, c.settings.Backoff = 3, 100*time.Millisecond
	s := newSender(t, c.bootstrap, c.settings.Topics[0], "stock", kit.NumberOf(t, "RELAY_TEST_POISON_KEYS", 2_000))
	kills := kit.NumberOf(t, "RELAY_TEST_POISON_KILLS", few)
	sick := newSickKeys(c, s, sickOnes, 2)
	again := startRepeater(t, c.bootstrap, 500, c.settings.Topics...)
	loop := crashLoop{kills: kills, slots: 2, deadline: time.Minute + time.Duration(kills)*6*time.Second, batch: func() bool { return rand.IntN(4) > 0 }}

	s.running.Go(func() { s.fillKeys(sick, 12) })
	first := loop.killAll(t, c)
	s.running.Wait()
	again.finish(len(s.sent))
	records := c.drain(loop.deadline, c.start("", takesMany), c.start("", takesMany))
	requireTwice(t, s.sent, records)
	sick.expectParked(c, s.sent)
	c.judgeEffects(sick.without(s.sent), records).require(t)

	kit.Execute(t, c.url, "DELETE FROM poison")
	before := len(s.sent)
	again = startRepeater(t, c.bootstrap, 100, c.settings.Topics...)
	s.choose = func() []string { return append(sick.keys(), s.random(5)...) }
	s.most = len(s.sent) + 3000
	s.start(20 * time.Millisecond)
	if status := c.askForRetry("0"); status != 0 {
		t.Errorf("the command that does not wait ended with status %d", status)
	}
	loop.enough = func() bool { c.askAgain(); return c.parkedKeys() == 0 }
	second := loop.killAll(t, c)
	last := c.start("")
	kit.Eventually(t, time.Minute, "nothing is parked any more", loop.enough)
	s.stop()
	again.finish(len(s.sent))
	records = c.drain(loop.deadline, last, c.start(""))
	t.Logf("%d kills while parking %v, %d while handling them %v, with new messages: %d", first.total, first.at, second.total, second.at, len(s.sent)-before)
	t.Logf("retries: %d asked for again", c.count("SELECT count(*) FROM inbox_audit WHERE action = 'retried' AND details->>'outcome' = 'failed again'"))
	c.judgeEffects(s.sent, records).require(t)
}

// takesMany lets a consumer take many messages at once.
func takesMany(s *victim.Settings) { s.Batch = true }

// fillKeys sends one message of every key, and then more of the sick ones and of some others,
// versions 2 to last.
func (s *sender) fillKeys(sick sickKeys, last int64) {
	all := make([]string, s.keys)
	for i := range all {
		all[i] = s.key(i)
	}
	for keys := range slices.Chunk(all, 500) {
		s.transaction(keys, rand.IntN(10) > 0)
	}
	missing := func() (keys []string) {
		for _, key := range all {
			if s.next[key] == 0 {
				keys = append(keys, key)
			}
		}
		return keys
	}
	for keys := missing(); len(keys) > 0; keys = missing() { // of those that were aborted
		s.transaction(keys[:min(len(keys), 500)], true)
	}
	for version := int64(2); version <= last; version++ {
		s.transaction(append(sick.keys(), s.random(200)...), true)
	}
}

// A message ends each process that handles it. It is parked after a set number of crashes, and
// none of its neighbours is.
func TestAMessageThatEndsItsProcessIsParkedAndItsNeighboursAreNot(t *testing.T) {
	for name, batch := range map[string]bool{"one by one": false, "many at once": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const limit = 3
			c := newInboxCase(t, 2)
			c.settings.Batch, c.settings.CrashLimit, c.settings.SessionTimeout = batch, limit, time.Second
			s := newSender(t, c.bootstrap, c.settings.Topics[0], "stock", 40)
			bad := s.key(7)
			c.poison(bad, 3, victim.Crash)
			for range 10 {
				keys := make([]string, s.keys)
				for i := range keys {
					keys[i] = s.key(i)
				}
				s.transaction(keys, true)
			}
			ends, _ := c.ends()
			crashes := c.crashUntilParked(ends, 1)
			t.Logf("parked after %d crashes with a limit of %d", crashes, limit)
			if crashes < limit || crashes > limit+2 {
				t.Errorf("%d crashes, want the limit of %d and one or two to find the message", crashes, limit)
			}
			if n := c.count(`SELECT count(*) FROM inbox_parked p JOIN inbox_parked_keys k ON k.id = p.key_id
				WHERE k.key = $1 AND (p.cause = 'crash') = (p.payload = '3') AND p.cause IN ('crash', 'behind')`, []byte(bad)); n != 8 {
				t.Errorf("%d messages of the key are parked for the reasons they should be, want 8", n)
			}
			if n := c.parkedKeys(); n != 1 {
				t.Errorf("%d keys are parked, want 1", n)
			}
			kit.Execute(t, c.url, "DELETE FROM poison")
			last := c.start("")
			if status := c.askForRetry("30s"); status != 0 || c.parkedKeys() != 0 {
				t.Errorf("the command that waits ended with status %d; %d keys are parked", status, c.parkedKeys())
			}
			c.judgeEffects(s.sent, c.drain(time.Minute, last)).require(t)
		})
	}
}

// crashUntilParked starts a consumer again whenever it crashes, until so many keys are parked and
// all is committed, and returns how often it crashed.
func (c *inboxCase) crashUntilParked(ends places, parked int) (crashes int) {
	c.t.Helper()
	consumer := c.start("")
	kit.Eventually(c.t, time.Minute, "the message is parked", func() bool {
		if !consumer.Alive() {
			if status := consumer.ExitCode(); status != -1 {
				c.t.Fatalf("the consumer ended with status %d", status)
			}
			crashes++
			consumer = c.start("")
		}
		return c.parkedKeys() >= parked
	})
	c.awaitCommitted(ends, 30*time.Second)
	c.stop(consumer)
	return crashes
}
