package inbox

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/integration/victim"
)

// relayInbox runs relay inbox on the service's database and returns its exit status and both
// streams.
func (c *inboxCase) relayInbox(arguments ...string) (status int, out, errs string) {
	c.t.Helper()
	p := kit.StartRelay(c.t, []string{"RELAY_DATABASE_URL=" + c.url}, append([]string{"inbox"}, arguments...)...)
	status = p.Wait(time.Minute)
	return status, string(p.Stdout()), string(p.Stderr())
}

// expect is relayInbox with a status and a text that must come.
func (c *inboxCase) expect(status int, text string, arguments ...string) {
	c.t.Helper()
	got, out, errs := c.relayInbox(arguments...)
	if got != status || !strings.Contains(out+errs, text) {
		c.t.Errorf("relay inbox %s ended with %d, want %d and %q\n%s%s", strings.Join(arguments, " "), got, status, text, out, errs)
	}
}

// A person's day: a key is parked, a retry fails, the cause is fixed, a retry succeeds; then all
// that one source sent is handled once more on purpose. All of it with the commands, on a consumer
// that runs.
func TestAPersonRetriesAndReplaysWithTheCommands(t *testing.T) {
	t.Parallel()
	c := newInboxCase(t, 1)
	s := newSender(t, c.bootstrap, c.settings.Topics[0], "stock", 2)
	sick, well := s.key(0), s.key(1)
	c.poison(sick, 2, victim.Permanent)
	s.transaction([]string{sick, well, sick, sick, well}, true)
	consumer := c.start("")
	kit.Eventually(t, time.Minute, "two messages are parked, and three handled", func() bool {
		return c.count("SELECT count(*) FROM inbox_parked") == 2 && c.effects() == 3
	})
	c.expect(0, "1 key with 2 messages", "parked", "list", "--consumer", c.settings.Consumer)
	c.expect(1, "failed again, 2 left", "parked", "retry", "--key", sick, "--why", "does it go now?")
	kit.Execute(t, c.url, "DELETE FROM poison")
	c.expect(0, "done", "parked", "retry", "--key", sick, "--why", "mended")
	if n := c.effects(); n != 5 || c.parkedKeys() != 0 {
		t.Errorf("%d effects after the retry, want 5; %d keys are parked", n, c.parkedKeys())
	}
	if n := c.count("SELECT count(*) FROM inbox_audit WHERE action IN ('retry', 'retried')"); n != 4 {
		t.Errorf("%d entries in the audit, want two retries and what came of each", n)
	}

	c.expect(0, "would forget 5 marks", "forget", "--consumer", c.settings.Consumer, "--source", "stock", "--dry-run")
	c.stop(consumer)
	c.expect(0, "forgot 5 marks", "forget", "--consumer", c.settings.Consumer, "--source", "stock", "--why", "wrong amount", "--yes")
	c.setBack()
	consumer = c.start("")
	kit.Eventually(t, time.Minute, "all of it is handled again", func() bool { return c.effects() == 10 })
	c.stop(consumer)
	c.setBack()
	s.transaction([]string{well}, true)
	consumer = c.start("")
	kit.Eventually(t, time.Minute, "the new message is handled", func() bool { return c.effects() >= 11 })
	c.stop(consumer)
	if n := c.effects(); n != 11 {
		t.Errorf("%d effects, want 11: what is not forgotten is skipped", n)
	}
	c.expect(0, "nothing to do", "sweep")
}

// setBack sets the group of the consumer back to the beginning, as Kafka's own tool does.
func (c *inboxCase) setBack() {
	c.t.Helper()
	admin := kadm.NewClient(kit.KafkaClient(c.t, c.bootstrap))
	offsets := make(kadm.Offsets)
	for _, topic := range c.settings.Topics {
		offsets.AddOffset(topic, 0, 0, -1)
	}
	kit.Eventually(c.t, time.Minute, "the group is empty and is set back", func() bool {
		answer, err := admin.CommitOffsets(c.t.Context(), c.settings.Consumer, offsets)
		return err == nil && answer.Ok()
	})
	fetched, err := admin.FetchOffsets(c.t.Context(), c.settings.Consumer)
	if err != nil {
		c.t.Fatal(err)
	}
	if place, _ := fetched.Lookup(c.settings.Topics[0], 0); place.At != 0 {
		c.t.Fatalf("the group is at %d", place.At)
	}
}
