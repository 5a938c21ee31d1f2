package inbox

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/integration/victim"
	"github.com/outbox-relay/relay/internal/harness/ledger"
)

// identity is that of a message.
type identity struct{ source, id string }

// delivery is a message as its sender knows it.
type delivery struct {
	key     string
	version int64
}

func (d delivery) event() ledger.Event { return ledger.Event{Aggregate: d.key, Version: d.version} }

// deliveries are messages that were committed by their senders.
type deliveries map[identity]delivery

// copied counts how often each message is in the topics.
func copied(records []*kgo.Record) map[identity]int {
	copies := make(map[identity]int)
	for _, r := range records {
		copies[identity{kit.Header(r, "source"), kit.Header(r, "msg_id")}]++
	}
	return copies
}

// effectVerdict compares what was sent with the effects in the service's database.
type effectVerdict struct {
	ledger.Verdict
	copies, effects int
	accounts        int
	wrong           []string // accounts that do not hold what they should
	sum             int64
}

func (v effectVerdict) String() string {
	return fmt.Sprintf("messages %d in %d records, effects %d, lost %d, twice %d, inverted %d, invented %d; accounts %d, wrong %d, sum %d",
		v.Written, v.copies, v.effects, v.Lost, v.Duplicated, v.Reordered, v.Invented, v.accounts, len(v.wrong), v.sum)
}

// require fails the test unless every message had its effect once and in order.
func (v effectVerdict) require(t testing.TB) {
	t.Helper()
	t.Log(v)
	if v.Written == 0 {
		t.Error("nothing was sent: the test shows nothing")
	}
	if v.Faults()+len(v.wrong) > 0 || v.sum != 0 {
		t.Error(v)
		for _, examples := range v.Examples {
			t.Log(strings.Join(examples, "\n"))
		}
		t.Log(strings.Join(v.wrong[:min(3, len(v.wrong))], "\n"))
	}
}

// effect is one row of the service's table.
type effect struct {
	identity
	delivery
	place int64
	pid   int
}

// judgeEffects compares what was sent with what a consumer did. Tables of the inbox are not looked
// at.
func (c *inboxCase) judgeEffects(sent deliveries, records []*kgo.Record) effectVerdict {
	c.t.Helper()
	effects := c.readEffects()
	l := ledger.New[identity]()
	expected := make(map[int]int64, victim.Accounts)
	for id, d := range sent {
		l.Commit([]ledger.Entry[identity]{{ID: id, Event: d.event()}})
		from, to, amount := victim.Move(d.key, d.version)
		expected[from] -= amount
		expected[to] += amount
	}
	for _, e := range effects { // of each key in the order of their commits
		l.Arrive([]ledger.Entry[identity]{{ID: e.identity, Event: e.event()}})
	}
	v := effectVerdict{Verdict: l.Audit(), copies: len(records), effects: len(effects)}
	c.judgeAccounts(&v, expected)
	return v
}

func (c *inboxCase) judgeAccounts(v *effectVerdict, expected map[int]int64) {
	c.t.Helper()
	conn := kit.Connect(c.t, c.url)
	defer kit.CloseQuietly(conn)
	rows, err := conn.Query(c.t.Context(), "SELECT id, amount FROM balance WHERE consumer = $1", c.settings.Consumer)
	if err != nil {
		c.t.Fatal(err)
	}
	var id int
	var amount int64
	_, err = pgx.ForEachRow(rows, []any{&id, &amount}, func() error {
		v.accounts++
		v.sum += amount
		if amount != expected[id] {
			v.wrong = append(v.wrong, fmt.Sprintf("account %d holds %d, want %d", id, amount, expected[id]))
		}
		return nil
	})
	if err != nil || v.accounts != victim.Accounts {
		c.t.Fatalf("%d accounts: %v", v.accounts, err)
	}
}

func (c *inboxCase) readEffects() (effects []effect) {
	c.t.Helper()
	conn := kit.Connect(c.t, c.url)
	defer kit.CloseQuietly(conn)
	rows, err := conn.Query(c.t.Context(), `SELECT source, msg_id, key, version, place, pid FROM effect WHERE consumer = $1
ORDER BY key, place, version`, c.settings.Consumer)
	if err != nil {
		c.t.Fatal(err)
	}
	var e effect
	_, err = pgx.ForEachRow(rows, []any{&e.source, &e.id, &e.key, &e.version, &e.place, &e.pid}, func() error {
		effects = append(effects, e)
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return effects
}

// ofRelay are the messages that a workload committed and a relay of that name published.
func ofRelay(t testing.TB, load *kit.Workload, name string) deliveries {
	t.Helper()
	sent := make(deliveries)
	for id, e := range load.Ledger(t) {
		sent[identity{name, id.String()}] = delivery{e.Aggregate, e.Version}
	}
	return sent
}

// allDeliveries are the messages of all senders.
func allDeliveries(all ...deliveries) deliveries {
	sent := make(deliveries)
	for _, some := range all {
		maps.Copy(sent, some)
	}
	return sent
}

// requireTwice checks that every message is in the topics at least twice.
func requireTwice(t testing.TB, sent deliveries, records []*kgo.Record) {
	t.Helper()
	copies := copied(records)
	single := 0
	for id := range sent {
		if copies[id] < 2 {
			single++
		}
	}
	if single > 0 {
		t.Errorf("%d messages of %d were not produced twice", single, len(sent))
	}
	counts := slices.Sorted(maps.Values(copies))
	t.Logf("copies of a message: %d to %d", counts[0], counts[len(counts)-1])
}
