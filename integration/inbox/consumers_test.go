package inbox

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/integration/victim"
)

// victimSession is how long a group waits for a consumer that was killed or frozen.
const victimSession = 2 * time.Second

// inboxCase is a consuming service with its database, topics and processes.
type inboxCase struct {
	t         testing.TB
	url       string
	bootstrap []string
	settings  victim.Settings
}

// newInboxCase makes the service's tables in a database that has no others, and a topic.
func newInboxCase(t testing.TB, partitions int32) *inboxCase {
	t.Helper()
	url := kit.EmptyDatabase(t)
	return inboxCaseOn(t, url, kit.Brokers(t), kit.Topic(t, partitions))
}

// inboxCaseOn is newInboxCase with an empty database and topics that exist.
func inboxCaseOn(t testing.TB, url string, bootstrap []string, topics ...string) *inboxCase {
	t.Helper()
	c := &inboxCase{t: t, url: url, bootstrap: bootstrap, settings: victim.Settings{
		DatabaseURL: url, Brokers: bootstrap, Topics: topics, Consumer: kit.UniqueName(t),
		SessionTimeout: victimSession, HandlerTimeout: 5 * time.Second, DrainTimeout: 5 * time.Second, Workers: 8,
	}}
	kit.MigrateInbox(t, url)
	kit.Execute(t, url, victim.Tables)
	c.openAccounts(c.settings.Consumer)
	return c
}

// openAccounts gives a consumer its own accounts.
func (c *inboxCase) openAccounts(consumer string) {
	c.t.Helper()
	kit.Execute(c.t, c.url, fmt.Sprintf("SELECT open_accounts('%s')", consumer))
}

// start runs a consumer with a failpoint, or with "", and with other settings.
func (c *inboxCase) start(fail string, changes ...func(*victim.Settings)) *kit.RelayProcess {
	c.t.Helper()
	settings := c.settings
	settings.Fail = fail
	for _, change := range changes {
		change(&settings)
	}
	return kit.StartCommand(c.t, kit.VictimBinary(c.t), []string{settings.Environment()})
}

// stop ends consumers in order.
func (c *inboxCase) stop(consumers ...*kit.RelayProcess) {
	c.t.Helper()
	for _, p := range consumers {
		p.Terminate()
	}
	for _, p := range consumers {
		if status := p.Wait(30 * time.Second); status != 0 {
			c.t.Errorf("SIGTERM ended a consumer with status %d", status)
		}
	}
}

// poison makes a message fail in one of the ways of package victim.
func (c *inboxCase) poison(key string, version int64, kind string) {
	c.t.Helper()
	kit.Execute(c.t, c.url, fmt.Sprintf("INSERT INTO poison VALUES ('%s', %d, '%s')", key, version, kind))
}

// count reads a number from the service's database.
func (c *inboxCase) count(query string, args ...any) (n int) {
	c.t.Helper()
	if err := kit.Ask(c.t, c.url, query, args, &n); err != nil {
		c.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// effects is how many effects there are.
func (c *inboxCase) effects() int {
	c.t.Helper()
	return c.count("SELECT count(*) FROM effect WHERE consumer = $1", c.settings.Consumer)
}

// awaitEffects waits until there are so many more.
func (c *inboxCase) awaitEffects(more int, timeout time.Duration) {
	c.t.Helper()
	before := c.effects()
	kit.Eventually(c.t, timeout, fmt.Sprintf("%d more effects", more), func() bool { return c.effects() >= before+more })
}

// places are the ends of partitions: of each, the offset after its last record.
type places map[string]int64

// ends are those of the topics as they are now. What a transaction writes at its end is not
// counted: it is not read. Call it when no producer runs any more.
func (c *inboxCase) ends() (ends places, records []*kgo.Record) {
	c.t.Helper()
	ends = make(places)
	records = kit.Everything(c.t, c.bootstrap, c.settings.Topics...)
	for _, r := range records {
		place := fmt.Sprintf("%s/%d", r.Topic, r.Partition)
		ends[place] = max(ends[place], r.Offset+1)
	}
	return ends, records
}

// awaitCommitted waits until the group has committed everything up to these ends.
func (c *inboxCase) awaitCommitted(ends places, timeout time.Duration) {
	c.t.Helper()
	admin := kadm.NewClient(kit.KafkaClient(c.t, c.bootstrap))
	var behind []string
	deadline := time.Now().Add(timeout)
	for {
		offsets, err := admin.FetchOffsets(c.t.Context(), c.settings.Consumer)
		behind = behind[:0]
		for place, end := range ends {
			topic, partition := splitPlace(c.t, place)
			offset, found := offsets.Lookup(topic, partition)
			if !found || offset.At < end {
				behind = append(behind, fmt.Sprintf("%s at %d of %d", place, offset.At, end))
			}
		}
		switch {
		case err == nil && len(behind) == 0:
			return
		case time.Now().After(deadline):
			c.t.Fatalf("not committed after %v: %s (%v); %d effects", timeout, strings.Join(behind, ", "), err, c.effects())
		}
		kit.Wait(c.t.Context(), 50*time.Millisecond)
	}
}

func splitPlace(t testing.TB, place string) (topic string, partition int32) {
	t.Helper()
	slash := strings.LastIndexByte(place, '/')
	if _, err := fmt.Sscan(place[slash+1:], &partition); err != nil {
		t.Fatal(err)
	}
	return place[:slash], partition
}

// drain lets consumers without failpoints handle what is left, ends them in order, and returns all
// records of the topics. Call it when no producer runs any more.
func (c *inboxCase) drain(timeout time.Duration, running ...*kit.RelayProcess) []*kgo.Record {
	c.t.Helper()
	for len(running) < 2 {
		running = append(running, c.start(""))
	}
	ends, records := c.ends()
	c.awaitCommitted(ends, timeout)
	c.stop(running...)
	c.nothingLeft()
	return records
}

// nothingLeft checks that no process is said to be at work. What was started and is handled may be
// left: if another process than the one that was killed has handled it.
func (c *inboxCase) nothingLeft() {
	c.t.Helper()
	if n := c.count("SELECT count(*) FROM inbox_sessions"); n > 0 {
		c.t.Errorf("%d partitions are said to be worked on, and no process runs", n)
	}
	const open = `SELECT count(*) FROM inbox_started s WHERE NOT EXISTS (
    SELECT FROM inbox i WHERE i.consumer = s.consumer AND i.source = s.source AND i.msg_id = s.msg_id)`
	if n := c.count(open); n > 0 {
		c.t.Errorf("%d messages are said to be started, and no process runs", n)
	}
	if n := c.count("SELECT count(*) FROM inbox_started"); n > 0 {
		c.t.Logf("%d messages that are handled are said to be started", n)
	}
}
