package relay

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/outbox"
)

// What is in a row stands on the record, byte for byte.
func TestTheRecordIsTheRow(t *testing.T) {
	t.Parallel()
	url := kit.Database(t)
	route, topic := kit.RouteOf(t)
	named := kit.UniqueName(t) + ".named"
	kit.StartRelay(t, kit.RelaySettings(t, url, kit.Brokers(t), route, "RELAY_TOPICS_ALLOW="+named), "run")
	source, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	binary := []byte{0, 1, 2, 0xff, 0xfe, '\n', 0}
	messages := []outbox.Message{
		{AggregateID: "order/42 é中😀", Payload: binary, Headers: map[string]string{
			"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "content-type": "application/x-binary", "tenant": "Zürich",
		}},
		{AggregateID: "gone", Payload: nil},
		{AggregateID: "empty", Payload: []byte{}},
		{AggregateID: "large", Payload: bytes.Repeat([]byte("x"), 900_000)},
		{AggregateID: "elsewhere", Payload: []byte("{}"), Topic: named},
	}
	tx := begin(t, url)
	for i := range messages {
		messages[i].AggregateType, messages[i].Type = "account", "Changed.v1"
	}
	ids, err := outbox.Insert(t.Context(), tx, messages...)
	if err != nil {
		t.Fatal(err)
	}
	kit.Commit(t, tx)
	byID := make(map[string]*kgo.Record)
	for _, r := range kit.Consume(t, kit.Brokers(t), len(messages), time.Minute, topic, named) {
		byID[kit.Header(r, "msg_id")] = r
	}
	for i, m := range messages {
		r := byID[ids[i].String()]
		if r == nil {
			t.Fatalf("%s did not arrive", m.AggregateID)
		}
		if string(r.Key) != m.AggregateID || !bytes.Equal(r.Value, m.Payload) || (r.Value == nil) != (m.Payload == nil) {
			t.Errorf("%s: key %q, %d bytes of value (nil: %t)", m.AggregateID, r.Key, len(r.Value), r.Value == nil)
		}
		if m.Topic != "" && r.Topic != m.Topic {
			t.Errorf("%s: on topic %s", m.AggregateID, r.Topic)
		}
		want := map[string]string{"source": source.Database, "type": "Changed.v1", "aggregate_type": "account", "content-type": "application/json"}
		for name, value := range m.Headers {
			want[name] = value
		}
		for name, value := range want {
			if kit.Header(r, name) != value {
				t.Errorf("%s: header %s = %q, want %q", m.AggregateID, name, kit.Header(r, name), value)
			}
		}
		created, err := time.Parse(time.RFC3339Nano, kit.Header(r, "created_at"))
		if err != nil || time.Since(created).Abs() > time.Minute {
			t.Errorf("%s: header created_at = %q", m.AggregateID, kit.Header(r, "created_at"))
		}
		if len(r.Headers) != len(want)+2 {
			t.Errorf("%s: headers %v", m.AggregateID, r.Headers)
		}
		if id, err := uuid.Parse(kit.Header(r, "msg_id")); err != nil || id.Version() != 7 {
			t.Errorf("%s: msg_id %q is not a UUID of version 7", m.AggregateID, kit.Header(r, "msg_id"))
		}
	}
}

// Kafka's own Java producer and consumer are the witnesses: the same keys go to the same
// partitions, and what its consumer prints is what was written.
func TestAJavaClientAgreesOnPartitionsAndContents(t *testing.T) {
	t.Parallel()
	kafka := kit.OneBroker(t)
	url := kit.Database(t)
	route, ours := kit.RouteOf(t)
	const partitions, keys = 12, 200
	kit.CreateTopic(t, kafka.Bootstrap, ours, partitions)
	theirs := kit.Topic(t, partitions)
	kit.StartRelay(t, kit.RelaySettings(t, url, kafka.Bootstrap, route), "run")
	var input strings.Builder
	tx := begin(t, url)
	for i := range keys {
		key, value := fmt.Sprintf("key-%d-é", i), fmt.Sprintf("value-%d", i)
		insert(t, tx, key, value)
		fmt.Fprintf(&input, "%s\t%s\n", key, value)
	}
	kit.Commit(t, tx)
	kit.Consume(t, kafka.Bootstrap, keys, time.Minute, ours)
	if output, err := kafka.ToolInput(t.Context(), strings.NewReader(input.String()), "org.apache.kafka.tools.ConsoleProducer",
		"--bootstrap-server", kafka.BootstrapServers(), "--topic", theirs, "--reader-property", "parse.key=true"); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	read := func(topic string) map[string]bool {
		output, err := kafka.Tool(t.Context(), "org.apache.kafka.tools.consumer.ConsoleConsumer",
			"--bootstrap-server", kafka.BootstrapServers(), "--topic", topic, "--from-beginning", "--max-messages", fmt.Sprint(keys),
			"--isolation-level", "read_committed", "--timeout-ms", "60000",
			"--formatter-property", "print.key=true", "--formatter-property", "print.partition=true")
		if err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		lines := make(map[string]bool)
		for line := range strings.Lines(string(output)) {
			if strings.HasPrefix(line, "Partition:") {
				lines[strings.TrimSpace(line)] = true
			}
		}
		return lines
	}
	got, want := read(ours), read(theirs)
	if len(want) != keys {
		t.Fatalf("the Java producer wrote %d of %d records", len(want), keys)
	}
	for line := range want {
		if !got[line] {
			t.Errorf("the Java producer wrote %q, and the relay did not", line)
		}
	}
}
