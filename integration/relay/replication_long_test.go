//go:build long

package relay

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/integration/kit"
)

func TestThreeBrokersKeepWhatWasCommittedWhenOneIsKilled(t *testing.T) {
	kafka := kit.ThreeBrokers(t)
	name := kit.UniqueName(t)
	kit.CreateTopic(t, kafka.Bootstrap, name, 3)
	producer := kit.KafkaClient(t, kafka.Bootstrap, kgo.TransactionalID(name))
	written := 0
	commit := func() {
		t.Helper()
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for key := range 30 {
			record := &kgo.Record{Topic: name, Key: []byte(fmt.Sprint(key)), Value: []byte(fmt.Sprint(written))}
			producer.Produce(t.Context(), record, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
			written++
		}
		if err := producer.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := producer.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
	commit()
	for id := 1; id <= len(kafka.Bootstrap); id++ {
		if err := kafka.Kill(id); err != nil {
			t.Fatal(err)
		}
		commit() // on the two that are left
		if err := kafka.Revive(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		commit()
	}
	seen := map[string]bool{}
	for _, record := range kit.Consume(t, kafka.Bootstrap, written, time.Minute, name) {
		if seen[string(record.Value)] {
			t.Errorf("record %s came twice", record.Value)
		}
		seen[string(record.Value)] = true
	}
	if len(seen) != written {
		t.Fatalf("%d of %d records", len(seen), written)
	}
}

func TestAFrozenBrokerComesBack(t *testing.T) {
	kafka := kit.ThreeBrokers(t)
	name := kit.UniqueName(t)
	kit.CreateTopic(t, kafka.Bootstrap, name, 3)
	if err := kafka.Freeze(2); err != nil {
		t.Fatal(err)
	}
	producer := kit.KafkaClient(t, kafka.Bootstrap)
	for key := range 30 { // to every partition, so also to those that the frozen one led
		record := &kgo.Record{Topic: name, Key: []byte(fmt.Sprint(key))}
		if err := producer.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := kafka.Thaw(2); err != nil {
		t.Fatal(err)
	}
	kit.Consume(t, kafka.Bootstrap, 30, time.Minute, name)
}
