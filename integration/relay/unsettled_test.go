package relay

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/checkpoint"
)

// A partition holds a transaction open that its coordinator calls complete. Of two such, the
// takeover commits the one that the checkpoint knows, and aborts the other, so that readers get on
// and see what was committed and nothing else.
//
// To make them without a crash, a record is appended behind the coordinator's back under the
// identity of the relay's last transaction, by a request of the time when brokers did not check
// that.
func TestATakeoverEndsWhatBrokersHaveLeftOpen(t *testing.T) {
	t.Parallel()
	url := kit.Database(t)
	route, topic := kit.RouteOf(t)
	name := kit.UniqueName(t)
	settings := kit.RelaySettings(t, url, kit.Brokers(t), route, "RELAY_NAME="+name, "RELAY_LOG_LEVEL=debug")
	event(t, url, "first")
	r := kit.StartRelay(t, settings, "run")
	first := kit.Consume(t, kit.Brokers(t), 1, time.Minute, topic)[0]
	kit.Eventually(t, time.Minute, "the batch is confirmed", func() bool {
		return count(t, url, `SELECT count(*) FROM relay_lanes WHERE confirmed_seq = 1`) == 1
	})
	r.Kill()
	last := lastTransaction(t, kit.Brokers(t), name)

	committed, aborted := (first.Partition+1)%12, (first.Partition+2)%12
	unverified(t, func() {
		appendBehind(t, topic, committed, "committed", last.ProducerID, last.Epoch)
		appendBehind(t, topic, aborted, "aborted", last.ProducerID, last.Epoch+1)
	})
	again := kit.StartRelay(t, settings, "run")
	again.AwaitLog(time.Minute, "lane taken over")
	event(t, url, "last")
	var got []string
	for _, record := range kit.Consume(t, kit.Brokers(t), 3, time.Minute, topic) {
		got = append(got, string(record.Value))
	}
	again.Terminate()
	again.Wait(time.Minute)
	for _, record := range kit.Everything(t, kit.Brokers(t), topic) {
		if value := string(record.Value); !slices.Contains(got, value) {
			t.Errorf("read_committed shows %q as well", value)
		}
	}
	slices.Sort(got)
	if want := []string{"committed", "first", "last"}; !slices.Equal(got, want) {
		t.Errorf("read_committed shows %q, want %q", got, want)
	}
}

// lastTransaction is that of the last checkpoint of the deployment.
func lastTransaction(t *testing.T, bootstrap []string, name string) checkpoint.TransactionRecord {
	t.Helper()
	records := kit.Everything(t, bootstrap, checkpoint.TopicName(name))
	for _, record := range slices.Backward(records) {
		var checkpoint checkpoint.Record
		if string(record.Key) != "checkpoint" {
			continue
		}
		if err := json.Unmarshal(record.Value, &checkpoint); err != nil {
			t.Fatal(err)
		}
		return checkpoint.Transactions.Last[0]
	}
	t.Fatal("there is no checkpoint")
	return checkpoint.TransactionRecord{}
}

// unverified runs do while brokers do not check whether old clients have begun the transaction that
// they write to.
func unverified(t *testing.T, do func()) {
	t.Helper()
	admin := kadm.NewClient(kit.KafkaClient(t, kit.Brokers(t)))
	set := func(op kadm.IncrementalOp) {
		value := "false"
		responses, err := admin.AlterBrokerConfigs(kit.ContextOfCleanup(t), []kadm.AlterConfig{
			{Op: op, Name: "transaction.partition.verification.enable", Value: &value},
		})
		if err != nil || responses[0].Err != nil {
			t.Fatalf("set the verification of transactions: %v, %+v", err, responses)
		}
	}
	set(kadm.SetConfig)
	defer set(kadm.DeleteConfig)
	do()
}

// appendBehind appends a record to a transaction that its coordinator does not know of. It tries
// until the broker has heard that it need not ask.
func appendBehind(t *testing.T, topic string, partition int32, value string, producerID int64, epoch int16) {
	t.Helper()
	client := kit.KafkaClient(t, kit.Brokers(t))
	id := "not checked"
	request := kmsg.NewPtrProduceRequest()
	request.TransactionID, request.Acks, request.TimeoutMillis = &id, -1, 10_000
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, transactionalBatch(value, producerID, epoch)
	in := kmsg.NewProduceRequestTopic()
	in.Topic, in.Partitions = topic, append(in.Partitions, p)
	request.Topics = append(request.Topics, in)
	old := kit.KafkaClient(t, kit.Brokers(t), kgo.MaxVersions(kversion.V3_7_0())) // its requests are those of before transaction.version 2
	details, err := kadm.NewClient(client).ListTopics(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	leader := details[topic].Partitions[partition].Leader
	kit.Eventually(t, 10*time.Second, "the broker takes the record", func() bool {
		response, err := old.Broker(int(leader)).Request(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		code := response.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode
		if err := kerr.ErrorForCode(code); err != nil {
			t.Logf("append to %s/%d: %v", topic, partition, err)
		}
		return code == 0
	})
}

// transactionalBatch is a record batch of one record.
func transactionalBatch(value string, producerID int64, epoch int16) []byte {
	record := kmsg.Record{Value: []byte(value)}
	body := record.AppendTo(nil)
	record.Length = int32(len(body) - 1) // without the length itself, which takes one byte
	now := time.Now().UnixMilli()
	const transactional = 1 << 4
	batch := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: transactional, FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: producerID, ProducerEpoch: epoch, NumRecords: 1, Records: record.AppendTo(nil),
	}
	encoded := batch.AppendTo(nil)
	const lengthAt, afterLength, sumAt, afterSum = 8, 12, 17, 21
	binary.BigEndian.PutUint32(encoded[lengthAt:], uint32(len(encoded)-afterLength))
	binary.BigEndian.PutUint32(encoded[sumAt:], crc32.Checksum(encoded[afterSum:], crc32.MakeTable(crc32.Castagnoli)))
	return encoded
}

func event(t testing.TB, url, value string) {
	t.Helper()
	kit.Execute(t, url, fmt.Sprintf(`INSERT INTO outbox (aggregate_type, aggregate_id, type, payload)
		VALUES ('account', 'a', 'Changed', '%s')`, value))
}
