package integration

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outbox-relay/relay/internal/relay"
)

// The checkpoint topic is deleted. Postgres knows what was committed, so that nothing is lost and nothing comes twice.
func TestRecoverFromADeletedCheckpointTopic(t *testing.T) {
	t.Parallel()
	c := newRecoveryCase(t, database(t), brokers(t))
	c.start()
	before := c.publish(10)
	c.stop()
	admin := kadm.NewClient(kafkaClient(t, c.bootstrap))
	if _, err := admin.DeleteTopic(t.Context(), relay.CheckpointTopic(c.name)); err != nil {
		t.Fatal(err)
	}
	c.awaitGone(admin)
	after := c.write(4)
	c.changesNothing()
	c.start()
	c.awaitHalt("its checkpoint topic is empty", "were deleted")
	f := c.findings()
	if f.Cause != relay.CheckpointLost || f.Kafka.Checkpoint != nil {
		t.Errorf("cause %s, %+v", f.Cause, f.Kafka)
	}
	c.mustClose(f, relay.ChooseKafka)
	c.counts(c.option(f, relay.ChoosePostgres), after, nil, nil)
	c.counts(c.option(f, relay.ChooseRestartFrom), after, before, nil)
	c.counts(c.option(f, relay.ChooseSkipToNow), nil, nil, after)
	c.expect(once("before", before)) // nothing meanwhile
	c.choose(relay.ChoosePostgres)
	c.awaitAll()
	last := c.publish(3)
	c.stop()
	c.expect(once("everything", before, after, last))
}

// awaitGone waits until the checkpoint topic is gone.
func (c *recoveryCase) awaitGone(admin *kadm.Client) {
	c.t.Helper()
	eventually(c.t, time.Minute, "the topic is gone", func() bool {
		details, err := admin.ListTopics(c.t.Context(), relay.CheckpointTopic(c.name))
		return err == nil && details[relay.CheckpointTopic(c.name)].Err != nil
	})
}
