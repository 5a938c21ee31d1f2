package relay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/pipeline"
)

// poisoned is a backlog with bad rows in it. An account is poisoned by two rows: one whose header
// is larger than the topic takes, or that no record can have, and one more later on.
type poisoned struct {
	rows, accounts, bad int // rows in all, accounts, and how many of them are poisoned
}

// fill writes the backlog and its ledger, versions of each account in order. Bad rows are at a
// third and at two thirds of the versions of the accounts 1 to bad.
func (p poisoned) fill(t testing.TB, url string) {
	t.Helper()
	kit.Execute(t, url, kit.WorkloadTables+fmt.Sprintf(`
INSERT INTO account (id, version) SELECT a::text, %[1]d FROM generate_series(1, %[2]d) a;
WITH made AS (
    SELECT outbox_uuidv7() AS msg_id, 1 + i %% %[2]d AS account, 1 + i / %[2]d AS version FROM generate_series(0, %[3]d) i
), kept AS (
    INSERT INTO ledger SELECT msg_id, account::text, version FROM made RETURNING msg_id, account::int, version
)
INSERT INTO outbox (msg_id, aggregate_type, aggregate_id, type, payload, headers)
SELECT msg_id, 'account', account::text, 'Changed', convert_to(version::text, 'UTF8'),
       CASE WHEN account > %[4]d OR version NOT IN (%[1]d / 3, 2 * %[1]d / 3) THEN NULL
            WHEN account %% 2 = 0 THEN '{"broken": null}'::jsonb
            ELSE jsonb_build_object('large', (SELECT string_agg(md5(random()::text || account || n), '') FROM generate_series(1, 2000) n)) END
FROM (SELECT * FROM kept ORDER BY version, account) ordered`, p.versions(), p.accounts, p.rows-1, p.bad))
}

func (p poisoned) versions() int { return p.rows / p.accounts }

// Bad rows are in a backlog. The relay is killed on the way at every step. The aggregates of the
// bad rows are parked in order and everything else is published. Then the cause is fixed and they
// come back, in order, while new rows of theirs are written and the relay is killed.
// RELAY_TEST_POISON_ROWS sets the size of the backlog: at a million rows there are 100 bad ones in
// 50 aggregates.
func TestPoisonParksItsAggregatesThroughKillsAndTheyComeBackInOrder(t *testing.T) {
	t.Parallel()
	p, most := poisoned{rows: 40_000, accounts: 200, bad: 10}, 5
	if text := os.Getenv("RELAY_TEST_POISON_ROWS"); text != "" {
		rows, err := strconv.Atoi(text)
		if err != nil || rows < 40_000 {
			t.Fatalf("RELAY_TEST_POISON_ROWS=%q is not a number from 40000", text)
		}
		p, most = poisoned{rows: rows / 1000 * 1000, accounts: 1000, bad: 50}, 12
	}
	url := kit.Database(t)
	route, topic := kit.RouteOf(t)
	bootstrap := kit.Brokers(t)
	admin := kadm.NewClient(kit.KafkaClient(t, bootstrap))
	small := "32768"
	response, err := admin.CreateTopic(t.Context(), 12, -1, map[string]*string{"max.message.bytes": &small}, topic)
	if err != nil || response.Err != nil {
		t.Fatal(err, response.Err)
	}
	p.fill(t, url)
	settings := kit.RelaySettings(t, url, bootstrap, route, fmt.Sprintf("RELAY_BATCH_ROWS=%d", max(500, p.rows/500)))
	began := time.Now()
	kills := p.killOften(t, settings, most)
	owner := kit.StartRelay(t, settings, "run")
	load := &kit.Workload{URL: url, Accounts: p.accounts}
	kit.AwaitPublished(t, load)
	owner.Terminate()
	owner.Wait(time.Minute)
	t.Logf("drained with %d kills in %v", kills, time.Since(began).Round(time.Second))
	p.expectParked(t, url)
	good := kit.Judge(load.Ledger(t), kit.Everything(t, bootstrap, topic))
	held := p.bad * (p.versions() - p.versions()/3 + 1)
	if good.Lost != held || good.Duplicated+good.Reordered+good.Invented > 0 {
		t.Fatalf("%v; %d rows are parked", good, held)
	}

	large := "4194304"
	if _, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &large}}, topic); err != nil {
		t.Fatal(err)
	}
	kit.Execute(t, url, `UPDATE outbox_parked SET headers = NULL WHERE headers ? 'broken'`)
	kit.Execute(t, url, `INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, reason)
SELECT DISTINCT lane, 'retry', aggregate_type, aggregate_id, 'mended' FROM outbox_parked`)
	ctx, stop := context.WithCancel(t.Context())
	load.Stopping = stop
	for range 4 {
		load.Writers.Go(func() { load.Write(ctx) })
	}
	kills = p.killOften(t, settings, most)
	owner = kit.StartRelay(t, settings, "run")
	kit.Eventually(t, 2*time.Minute, "every aggregate is back", func() bool {
		return count(t, url, `SELECT count(*) FROM outbox_parked`)+count(t, url, `SELECT count(*) FROM outbox_parked_audit WHERE done_at IS NULL`) == 0
	})
	load.Stop()
	kit.AwaitPublished(t, load)
	owner.Terminate()
	owner.Wait(time.Minute)
	t.Logf("brought back with %d kills; %d transactions meanwhile", kills, load.Committed.Load())
	kit.Judge(load.Ledger(t), kit.Everything(t, bootstrap, topic)).Require(t)
	if n := count(t, url, `SELECT count(*) FROM outbox_parked_audit WHERE outcome <> 'published' OR events = 0`); n > 0 {
		t.Errorf("%d requests ended otherwise", n)
	}
}

// killOften kills relays at random steps until there is nothing left to be killed at, and returns
// how often it did.
func (p poisoned) killOften(t testing.TB, settings []string, most int) (kills int) {
	t.Helper()
	steps := pipeline.Steps()
	for range most {
		failpoint := fmt.Sprintf("RELAY_FAILPOINT=%s:%d", steps[rand.IntN(len(steps))], 1+rand.IntN(8))
		process := kit.StartRelay(t, append(settings, failpoint), "run")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		select {
		case <-process.Done():
			kills++
		case <-ctx.Done(): // all was done before it came to that
			process.Kill()
		}
		cancel()
		if status := process.ExitCode(); status != -1 {
			t.Fatalf("%s: the relay ended with status %d", failpoint, status)
		}
	}
	return kills
}

// expectParked checks that the poisoned aggregates are parked from their first bad row on, in
// order, and no other.
func (p poisoned) expectParked(t testing.TB, url string) {
	t.Helper()
	first := p.versions() / 3
	conn := kit.Connect(t, url)
	rows, err := conn.Query(t.Context(), `
SELECT aggregate_id::int, count(*), min(cause) FILTER (WHERE nth = 1),
       bool_and(convert_from(payload, 'UTF8')::bigint = $1 + nth - 1), bool_and(cause = 'behind') FILTER (WHERE nth > 1)
FROM (SELECT *, row_number() OVER (PARTITION BY aggregate_id ORDER BY seq, id) AS nth FROM outbox_parked WHERE released_seq IS NULL) queue
GROUP BY aggregate_id ORDER BY 1`, first)
	if err != nil {
		t.Fatal(err)
	}
	aggregates := 0
	for rows.Next() {
		var account, parked int
		var cause string
		var inOrder, behind bool
		if err := rows.Scan(&account, &parked, &cause, &inOrder, &behind); err != nil {
			t.Fatal(err)
		}
		aggregates++
		if account > p.bad || parked != p.versions()-first+1 || cause != "refused" || !inOrder || !behind {
			t.Errorf("account %d: %d rows are parked, the first as %s, in order %t, all others behind it %t", account, parked, cause, inOrder, behind)
		}
	}
	if rows.Err() != nil || aggregates != p.bad {
		t.Errorf("%d aggregates are parked, want %d (%v)", aggregates, p.bad, rows.Err())
	}
}

func count(t testing.TB, url, query string) (n int) {
	t.Helper()
	if err := kit.Ask(t, url, query, nil, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A topic that does not exist holds its own aggregates only, through a change of the owner, and
// they go out in order once it is made.
func TestATopicThatIsMissingHoldsNobodyElse(t *testing.T) {
	t.Parallel()
	url := kit.Database(t)
	route, topic := kit.RouteOf(t)
	bootstrap := kit.Brokers(t)
	missing := kit.UniqueName(t) + ".missing"
	settings := kit.RelaySettings(t, url, bootstrap, route, "RELAY_TOPICS_CREATE=false", "RELAY_TOPICS_ALLOW="+missing)
	admin := kadm.NewClient(kit.KafkaClient(t, bootstrap))
	if response, err := admin.CreateTopic(t.Context(), 3, -1, nil, topic); err != nil || response.Err != nil {
		t.Fatal(err, response.Err)
	}
	load := kit.StartWorkload(t, url, 4, &kit.Workload{Pause: 10 * time.Millisecond, Accounts: 50})
	first := kit.StartRelay(t, settings, "run")
	kit.Eventually(t, time.Minute, "the lane publishes", func() bool { return kit.LaneSeq(t, url) > 3 })
	kit.Execute(t, url, fmt.Sprintf(`INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, payload)
SELECT 'late', (n %% 5)::text, 'Changed', '%s', convert_to((n / 5)::text, 'UTF8') FROM generate_series(0, 99) n`, missing))
	kit.Eventually(t, time.Minute, "its aggregates are set aside", func() bool {
		return count(t, url, `SELECT count(*) FROM outbox_parked WHERE aggregate_type = 'late'`) == 100
	})
	seq := kit.LaneSeq(t, url)
	kit.Eventually(t, time.Minute, "all others go on", func() bool { return kit.LaneSeq(t, url) > seq+5 })
	first.Kill()
	second := kit.StartRelay(t, settings, "run")
	second.AwaitLog(time.Minute, "lane taken over")
	kit.Eventually(t, time.Minute, "all others go on", func() bool { return kit.LaneSeq(t, url) > seq+10 })
	if response, err := admin.CreateTopic(t.Context(), 3, -1, nil, missing); err != nil || response.Err != nil {
		t.Fatal(err, response.Err)
	}
	kit.Eventually(t, time.Minute, "they go out by themselves", func() bool { return count(t, url, `SELECT count(*) FROM outbox_parked`) == 0 })
	load.Stop()
	kit.AwaitPublished(t, load)
	second.Terminate()
	second.Wait(time.Minute)
	kit.Judge(load.Ledger(t), kit.Everything(t, bootstrap, topic)).Require(t)
	next := make(map[string]int)
	for _, r := range kit.Everything(t, bootstrap, missing) {
		if key := string(r.Key); string(r.Value) != strconv.Itoa(next[key]) {
			t.Errorf("key %s: %s comes after %d others", key, r.Value, next[key])
		}
		next[string(r.Key)]++
	}
	if fmt.Sprint(next) != fmt.Sprint(map[string]int{"0": 20, "1": 20, "2": 20, "3": 20, "4": 20}) {
		t.Errorf("the topic holds %v", next)
	}
	if !strings.Contains(string(second.Stderr()), "lane taken over") {
		t.Error("the second relay never owned the lane")
	}
}
