package relay

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outbox-relay/relay/integration/cluster"
	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/recovery"
)

// The checkpoint topic is deleted. Postgres knows what was committed, so that nothing is lost and
// nothing comes twice.
func TestRecoverFromADeletedCheckpointTopic(t *testing.T) {
	t.Parallel()
	c := newRecoveryCase(t, kit.Database(t), kit.Brokers(t))
	c.start()
	before := c.publish(10)
	c.stop()
	admin := kadm.NewClient(kit.KafkaClient(t, c.bootstrap))
	if _, err := admin.DeleteTopic(t.Context(), checkpoint.TopicName(c.name)); err != nil {
		t.Fatal(err)
	}
	c.awaitGone(admin)
	after := c.write(4)
	c.changesNothing()
	c.start()
	c.awaitHalt("its checkpoint topic is empty", "were deleted")
	f := c.findings()
	if f.Cause != checkpoint.CheckpointLost || f.Kafka.Checkpoint != nil {
		t.Errorf("cause %s, %+v", f.Cause, f.Kafka)
	}
	c.mustClose(f, recovery.ChooseKafka)
	c.counts(c.option(f, recovery.ChoosePostgres), after, nil, nil)
	c.counts(c.option(f, recovery.ChooseRestartFrom), after, before, nil)
	c.counts(c.option(f, recovery.ChooseSkipToNow), nil, nil, after)
	c.expect(once("before", before)) // nothing meanwhile
	c.choose(recovery.ChoosePostgres)
	c.awaitAll()
	last := c.publish(3)
	c.stop()
	c.expect(once("everything", before, after, last))
}

// awaitGone waits until the checkpoint topic is gone.
func (c *recoveryCase) awaitGone(admin *kadm.Client) {
	c.t.Helper()
	kit.Eventually(c.t, time.Minute, "the topic is gone", func() bool {
		details, err := admin.ListTopics(c.t.Context(), checkpoint.TopicName(c.name))
		return err == nil && details[checkpoint.TopicName(c.name)].Err != nil
	})
}

// Somebody deletes the records of the topic, which leaves the topic itself.
func TestRecoverFromATruncatedCheckpointTopic(t *testing.T) {
	t.Parallel()
	c := newRecoveryCase(t, kit.Database(t), kit.Brokers(t))
	c.start()
	before := c.publish(6)
	c.stop()
	admin := kadm.NewClient(kit.KafkaClient(t, c.bootstrap))
	c.setPolicy(admin, "delete") // which a topic needs to have for its records to be deleted
	ends, err := admin.ListEndOffsets(t.Context(), checkpoint.TopicName(c.name))
	if err != nil {
		t.Fatal(err)
	}
	// The broker may not have heard of the policy yet.
	kit.Eventually(t, time.Minute, "the records are deleted", func() bool {
		deleted, err := admin.DeleteRecords(t.Context(), ends.Offsets())
		if err != nil {
			t.Fatal(err)
		}
		return deleted.Error() == nil
	})
	after := c.write(3)
	// The policy is refused first, with the command that fixes it.
	f := c.findings()
	if f.Cause != checkpoint.CheckpointPolicy || len(f.Choices) > 0 || !strings.Contains(f.Try, "kafka-configs.sh") {
		t.Errorf("cause %s, choices %+v, try %s", f.Cause, f.Choices, f.Try)
	}
	c.start()
	c.relay.AwaitLog(time.Minute, "lane halted")
	c.relay.AwaitLog(time.Minute, "cleanup.policy=delete")
	c.stop() // which is quicker than to wait until it looks again
	c.setPolicy(admin, "compact")
	c.start()
	c.awaitHalt("its checkpoint topic is empty")
	f = c.findings()
	if f.Cause != checkpoint.CheckpointLost || !f.Kafka.Exists || f.Kafka.Start == 0 {
		t.Errorf("cause %s, %+v", f.Cause, f.Kafka)
	}
	place := fmt.Sprint(c.idOf(before[4]))
	c.counts(c.option(c.findings("--from", place), recovery.ChooseRestartFrom), after, before[4:], nil)
	c.choose(recovery.ChooseRestartFrom, "--from", place)
	c.awaitAll()
	c.stop()
	c.expect(once("the old ones", before[:4]), twice("those from the place on", before[4:]), once("the new ones", after))
}

// idOf is the id of an event.
func (c *recoveryCase) idOf(msgID uuid.UUID) (id int64) {
	c.t.Helper()
	conn := kit.Connect(c.t, c.url)
	defer kit.CloseQuietly(conn)
	if err := conn.QueryRow(c.t.Context(), "SELECT id FROM outbox WHERE msg_id = $1", msgID).Scan(&id); err != nil {
		c.t.Fatal(err)
	}
	return id
}

func (c *recoveryCase) setPolicy(admin *kadm.Client, policy string) {
	c.t.Helper()
	alter := []kadm.AlterConfig{{Name: "cleanup.policy", Value: &policy}}
	responses, err := admin.AlterTopicConfigs(c.t.Context(), alter, checkpoint.TopicName(c.name))
	if err != nil || responses[0].Err != nil {
		c.t.Fatal(err, responses)
	}
}

// The row of the lane is restored alone, to an earlier state, from a dump of the one table. The
// outbox has everything.
func TestRecoverFromRelayTablesRestoredAlone(t *testing.T) {
	t.Parallel()
	c := newRecoveryCase(t, kit.Database(t), kit.Brokers(t))
	c.start()
	first := c.publish(5)
	kit.Execute(t, c.url, "CREATE TABLE dumped AS SELECT * FROM relay_lanes")
	second := c.publish(7)
	c.stop()
	kit.Execute(t, c.url, "DELETE FROM relay_lanes; INSERT INTO relay_lanes SELECT * FROM dumped")
	after := c.write(4)
	c.start()
	c.awaitHalt("Postgres knows only of batch", "relay_lanes alone was restored")
	f := c.findings()
	if f.Cause != checkpoint.DatabaseBehind {
		t.Errorf("cause %s", f.Cause)
	}
	c.counts(c.option(f, recovery.ChooseKafka), after, nil, nil)
	c.counts(c.option(f, recovery.ChoosePostgres), after, second, nil)
	c.counts(c.option(c.findings("--scan"), recovery.ChoosePostgres), after, second, nil)
	c.choose(recovery.ChooseKafka)
	c.awaitAll()
	c.stop()
	c.expect(once("everything", first, second, after))
}

func TestRecoverFromARemovedRow(t *testing.T) {
	t.Parallel()
	c := newRecoveryCase(t, kit.Database(t), kit.Brokers(t))
	c.start()
	before := c.publish(5)
	c.stop()
	kit.Execute(t, c.url, "DELETE FROM relay_lanes")
	after := c.write(4)
	c.start()
	c.awaitHalt("its state was removed")
	f := c.findings()
	if f.Cause != checkpoint.RowRemoved {
		t.Errorf("cause %s", f.Cause)
	}
	c.mustClose(f, recovery.ChoosePostgres)
	c.counts(c.option(f, recovery.ChooseKafka), after, nil, nil)
	c.choose(recovery.ChooseKafka)
	c.awaitAll()
	c.stop()
	c.expect(once("everything", before, after))
}

// The relay is pointed at another cluster: first by mistake, and then because the lane is to move.
func TestRecoverOnAnotherCluster(t *testing.T) {
	t.Parallel()
	c := newRecoveryCase(t, kit.Database(t), kit.Brokers(t))
	c.start()
	before := c.publish(5)
	c.stop()
	here := c.bootstrap
	c.bootstrap = kit.OwnCluster(t, cluster.Options{}).Bootstrap
	c.configure()
	after := c.write(4)
	c.start()
	c.awaitHalt("written for the Kafka cluster", "point the relay at its own cluster")
	f := c.findings("--scan")
	if f.Cause != checkpoint.AnotherCluster || len(f.Scan.Missing) != 1 {
		t.Errorf("cause %s, scan %+v", f.Cause, f.Scan)
	}
	c.mustClose(f, recovery.ChooseKafka)
	c.counts(c.option(f, recovery.ChoosePostgres), after, nil, nil)
	c.choose(recovery.ChoosePostgres)
	c.awaitAll()
	c.stop()
	c.expect(once("what was written since", after))
	// Back on the first one, whose checkpoint is now the older of the two.
	c.bootstrap = here
	c.configure()
	c.expect(once("what was written before", before))
	c.start()
	c.awaitHalt("written for the Kafka cluster")
}

// A copy of the database, made by CREATE DATABASE .. TEMPLATE, runs a relay under the name of the
// original.
func TestRecoverACopyOfTheDatabase(t *testing.T) {
	t.Parallel()
	databaseURL := kit.Database(t)
	c := newRecoveryCase(t, databaseURL, kit.Brokers(t))
	c.start()
	before := c.publish(5)
	c.stop()
	copied := copyDatabase(t, databaseURL)
	c.start()
	original := c.publish(3)
	working := c.relay
	c.url = copied
	c.configure()
	after := c.write(2)
	c.start()
	c.awaitHalt("oid", "copy")
	f := c.findings()
	if f.Cause != checkpoint.AnotherDatabase {
		t.Errorf("cause %s", f.Cause)
	}
	c.mustClose(f, recovery.ChooseKafka)
	c.counts(c.option(f, recovery.ChoosePostgres), after, nil, nil)
	// The copy disturbs no other relay until it is told to go on; then the original halts.
	c.expect(once("of the original", before, original))
	c.choose(recovery.ChoosePostgres)
	c.awaitAll()
	c.stop()
	c.expect(once("of the original", before, original), once("of the copy", after))
	c.url = databaseURL
	c.configure()
	more := c.write(2)
	working.AwaitLog(time.Minute, "lane halted")
	working.AwaitLog(time.Minute, "was dumped and restored, or this is a copy")
	c.expect(once("of the original", before, original), once("of the copy", after), never("written since", more))
}

// copyDatabase makes a copy of a database in its server, and returns its URL. It is dropped when
// the test ends.
func copyDatabase(t *testing.T, of string) string {
	t.Helper()
	address, err := url.Parse(of)
	if err != nil {
		t.Fatal(err)
	}
	original := strings.TrimPrefix(address.Path, "/")
	maintenance := kit.MaintenanceURL(t)
	kit.EndSession(address.String()) // what is copied must have no connections
	kit.Execute(t, maintenance, "CREATE DATABASE "+original+"_copy TEMPLATE "+original)
	t.Cleanup(func() { kit.Execute(t, maintenance, "DROP DATABASE IF EXISTS "+original+"_copy WITH (FORCE)") })
	address.Path += "_copy"
	return address.String()
}

// Two at once choose: one of them is refused, or finds that the other has settled it, and nothing
// comes twice.
func TestTwoRecoverAtOnce(t *testing.T) {
	t.Parallel()
	c := newRecoveryCase(t, kit.Database(t), kit.Brokers(t))
	c.start()
	before := c.publish(5)
	c.stop()
	kit.Execute(t, c.url, "UPDATE relay_lanes SET seq = seq - 1, confirmed_seq = confirmed_seq - 1")
	after := c.write(3)
	c.start()
	c.awaitHalt("Postgres knows only of batch")
	arguments := []string{"recover", "outbox", "--choose", "kafka", "--yes"}
	one, two := kit.StartRelay(t, c.settings, arguments...), kit.StartRelay(t, c.settings, arguments...)
	done := 0
	for _, process := range []*kit.RelayProcess{one, two} {
		switch status := process.Wait(time.Minute); status {
		case 0:
			done++
		case 1:
			if !bytes.Contains(process.Stderr(), []byte("Error:")) {
				t.Errorf("refused without a reason: %s", process.Stderr())
			}
		default:
			t.Errorf("ended with status %d", status)
		}
	}
	if done == 0 { // each has disturbed the other, and the lane still halts
		c.choose(recovery.ChooseKafka)
	}
	c.awaitAll()
	c.stop()
	c.expect(once("everything", before, after))
	conn := kit.Connect(t, c.url)
	var finished int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM relay_recoveries WHERE finished_at IS NOT NULL").Scan(&finished); err != nil ||
		finished != max(done, 1) {
		t.Errorf("%d recoveries are recorded (%v), and %d commands have succeeded", finished, err, done)
	}
}
