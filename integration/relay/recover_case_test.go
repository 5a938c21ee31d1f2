package relay

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/recovery"
)

// recoveryCase is a lane whose logs will be made to contradict each other, and the ledger of what
// was committed.
type recoveryCase struct {
	t         *testing.T
	url       string
	name      string // of the deployment
	bootstrap []string
	topic     string
	settings  []string
	more      []string // settings of the relays
	relay     *kit.RelayProcess

	written []uuid.UUID // committed, in their order
}

func newRecoveryCase(t *testing.T, url string, bootstrap []string, more ...string) *recoveryCase {
	t.Helper()
	name := kit.UniqueName(t)
	c := &recoveryCase{t: t, url: url, name: name, bootstrap: bootstrap, topic: name + ".account", more: more}
	c.configure()
	return c
}

// configure makes the settings from what the case knows now.
func (c *recoveryCase) configure() {
	c.settings = kit.RelaySettings(c.t, c.url, c.bootstrap,
		append([]string{"RELAY_NAME=" + c.name, "RELAY_ROUTE=" + c.name + ".{aggregate_type}"}, c.more...)...)
}

// write commits n events, one transaction each, and returns their identities.
func (c *recoveryCase) write(n int) []uuid.UUID {
	c.t.Helper()
	conn := kit.Connect(c.t, c.url)
	defer kit.CloseQuietly(conn)
	ids := make([]uuid.UUID, n)
	for i := range ids {
		err := conn.QueryRow(c.t.Context(), `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload)
VALUES ('account', $1, 'Changed', '') RETURNING msg_id`, fmt.Sprint(i%5)).Scan(&ids[i])
		if err != nil {
			c.t.Fatal(err)
		}
	}
	c.written = append(c.written, ids...)
	return ids
}

// start runs a relay.
func (c *recoveryCase) start() {
	c.t.Helper()
	c.relay = kit.StartRelay(c.t, c.settings, "run")
}

// stop ends the relay in order.
func (c *recoveryCase) stop() {
	c.t.Helper()
	c.relay.Terminate()
	if status := c.relay.Wait(30 * time.Second); status != 0 {
		c.t.Errorf("SIGTERM ended the relay with status %d", status)
	}
}

// publish writes n events and waits until they have been published.
func (c *recoveryCase) publish(n int) []uuid.UUID {
	c.t.Helper()
	ids := c.write(n)
	c.awaitAll()
	return ids
}

// awaitAll waits until the lane's row says that every row of the table is published.
func (c *recoveryCase) awaitAll() {
	c.t.Helper()
	kit.Eventually(c.t, time.Minute, "every row is published", func() bool {
		conn, err := pgx.Connect(c.t.Context(), c.url)
		if err != nil {
			return false
		}
		defer kit.CloseQuietly(conn)
		var left int
		err = conn.QueryRow(c.t.Context(), `
SELECT count(*) FROM outbox LEFT JOIN relay_lanes ON true
WHERE state IS DISTINCT FROM 'running' OR snapshot_to IS NOT NULL OR snapshot_from IS NULL OR confirmed_seq < seq
   OR NOT pg_visible_in_snapshot(xact_id, snapshot_from)`).Scan(&left)
		return err == nil && left == 0
	})
}

// awaitHalt waits until the relay has halted with a diagnosis that says all of this.
func (c *recoveryCase) awaitHalt(says ...string) {
	c.t.Helper()
	c.relay.AwaitLog(time.Minute, "lane halted")
	for _, text := range append(says, "relay recover outbox") {
		if log := string(c.relay.Stderr()); !strings.Contains(log, text) {
			c.t.Errorf("the diagnosis does not say %q:\n%s", text, kit.Tail([]byte(log)))
		}
	}
}

// published reads the topic and counts each message.
func (c *recoveryCase) published() map[uuid.UUID]int {
	c.t.Helper()
	counts := map[uuid.UUID]int{}
	for _, record := range kit.Everything(c.t, c.bootstrap, c.topic) {
		id, err := uuid.Parse(kit.Header(record, "msg_id"))
		if err != nil {
			c.t.Fatal(err)
		}
		counts[id]++
	}
	return counts
}

// expect checks that each message was published as often as it says, and no other was.
func (c *recoveryCase) expect(sets ...expected) {
	c.t.Helper()
	got := c.published()
	for _, set := range sets {
		for i, id := range set.ids {
			if got[id] != set.times {
				c.t.Errorf("%s: message %d of %d was published %d times, want %d", set.what, i, len(set.ids), got[id], set.times)
			}
			delete(got, id)
		}
	}
	if len(got) > 0 {
		c.t.Errorf("%d messages were published that are not expected", len(got))
	}
}

type expected struct {
	what  string
	times int
	ids   []uuid.UUID
}

func once(what string, ids ...[]uuid.UUID) expected  { return expected{what, 1, slices.Concat(ids...)} }
func twice(what string, ids ...[]uuid.UUID) expected { return expected{what, 2, slices.Concat(ids...)} }
func never(what string, ids ...[]uuid.UUID) expected { return expected{what, 0, slices.Concat(ids...)} }

// recover runs the command, which must succeed, and returns what it printed.
func (c *recoveryCase) recover(arguments ...string) []byte {
	c.t.Helper()
	process := kit.StartRelay(c.t, c.settings, append([]string{"recover", "outbox"}, arguments...)...)
	if status := process.Wait(time.Minute); status != 0 {
		c.t.Fatalf("relay recover %q ended with status %d:\n%s", arguments, status, process.Stderr())
	}
	return process.Stdout()
}

// findings runs the command without a choice.
func (c *recoveryCase) findings(arguments ...string) recovery.Findings {
	c.t.Helper()
	var f recovery.Findings
	output := c.recover(append(arguments, "--output", "json")...)
	if err := json.Unmarshal(output, &f); err != nil {
		c.t.Fatalf("%v:\n%s", err, output)
	}
	return f
}

// option is a choice that must be open.
func (c *recoveryCase) option(f recovery.Findings, choice recovery.Choice) recovery.Option {
	c.t.Helper()
	i := slices.IndexFunc(f.Choices, func(o recovery.Option) bool { return o.Choice == choice })
	if i < 0 {
		c.t.Fatalf("%s is not open: %+v", choice, f.Closed)
	}
	return f.Choices[i]
}

// mustClose checks that a choice is not open, and that the command refuses it.
func (c *recoveryCase) mustClose(f recovery.Findings, choice recovery.Choice) {
	c.t.Helper()
	if !slices.ContainsFunc(f.Closed, func(o recovery.ClosedOption) bool { return o.Choice == choice && o.Reason != "" }) {
		c.t.Errorf("%s is open: %+v", choice, f.Choices)
	}
	process := kit.StartRelay(c.t, c.settings, "recover", "outbox", "--choose", string(choice), "--yes")
	if status := process.Wait(time.Minute); status != 1 || !strings.Contains(string(process.Stderr()), "not open") {
		c.t.Errorf("relay recover --choose %s ended with status %d:\n%s", choice, status, process.Stderr())
	}
}

// counts checks the sizes and the edges of what an option would do.
func (c *recoveryCase) counts(o recovery.Option, anew, again, skipped []uuid.UUID) {
	c.t.Helper()
	for _, set := range []struct {
		what string
		got  recovery.Rows
		want []uuid.UUID
	}{{"publishes", o.New, anew}, {"publishes again", o.Again, again}, {"skips", o.Skipped, skipped}} {
		switch {
		case set.got.Count != int64(len(set.want)):
			c.t.Errorf("%s %s %d rows, want %d", o.Choice, set.what, set.got.Count, len(set.want))
		case len(set.want) == 0:
		case set.got.First.MsgID != set.want[0] || set.got.Last.MsgID != set.want[len(set.want)-1]:
			c.t.Errorf("%s %s %+v to %+v, want %s to %s", o.Choice, set.what,
				set.got.First, set.got.Last, set.want[0], set.want[len(set.want)-1])
		}
	}
}

// choose takes a choice. The relay that has halted goes on by itself.
func (c *recoveryCase) choose(choice recovery.Choice, arguments ...string) {
	c.t.Helper()
	var outcome recovery.Outcome
	arguments = append([]string{"--choose", string(choice), "--yes", "--why", "the test says so", "--who", "tester", "--output", "json"}, arguments...)
	if err := json.Unmarshal(c.recover(arguments...), &outcome); err != nil {
		c.t.Fatal(err)
	}
	conn := kit.Connect(c.t, c.url)
	defer kit.CloseQuietly(conn)
	var recorded string
	err := conn.QueryRow(c.t.Context(), `SELECT concat_ws('|', cause, choice, who, why, finished_at IS NOT NULL)
FROM relay_recoveries ORDER BY id DESC LIMIT 1`).Scan(&recorded)
	if want := fmt.Sprintf("%s|%s|tester|the test says so|t", outcome.Before.Cause, choice); err != nil || recorded != want {
		c.t.Errorf("relay_recoveries says %q (%v), want %q", recorded, err, want)
	}
}

// logs is what both logs hold, byte for byte: the rows of relay's tables, and the records of the
// checkpoint topic.
func (c *recoveryCase) logs() string {
	c.t.Helper()
	conn := kit.Connect(c.t, c.url)
	defer kit.CloseQuietly(conn)
	var rows string
	err := conn.QueryRow(c.t.Context(), `SELECT concat(
    (SELECT string_agg(concat(ctid, xmin, xmax, l), ';') FROM relay_lanes l),
    (SELECT string_agg(concat(r), ';') FROM relay_recoveries r), (SELECT count(*) FROM outbox))`).Scan(&rows)
	if err != nil {
		c.t.Fatal(err)
	}
	admin := kadm.NewClient(kit.KafkaClient(c.t, c.bootstrap))
	ends, err := admin.ListEndOffsets(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	var offsets []string
	for _, topic := range slices.Sorted(maps.Keys(ends)) {
		if !strings.Contains(topic, c.name) {
			continue
		}
		for _, end := range ends[topic] {
			offsets = append(offsets, fmt.Sprintf("%s/%d %d %v", topic, end.Partition, end.Offset, end.Err))
		}
	}
	slices.Sort(offsets)
	return rows + "\n" + strings.Join(offsets, "\n")
}

// changesNothing runs the command in every form that must not write. No relay may run.
func (c *recoveryCase) changesNothing() {
	c.t.Helper()
	before := c.logs()
	c.recover()
	c.recover("--scan", "--output", "json")
	c.recover("--choose", "restart-from", "--from", "3")
	c.recover("--choose", "skip-to-now", "--why", "only looking")
	if after := c.logs(); after != before {
		c.t.Errorf("relay recover without --yes has changed something:\n%s\nbecame\n%s", before, after)
	}
}
