//go:build long

package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestThreeBrokersKeepWhatWasCommittedWhenOneIsKilled(t *testing.T) {
	kafka := threeBrokers(t)
	name := uniqueName(t)
	createTopic(t, kafka.Bootstrap, name, 3)
	producer := kafkaClient(t, kafka.Bootstrap, kgo.TransactionalID(name))
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
	for _, record := range consume(t, kafka.Bootstrap, written, time.Minute, name) {
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
	kafka := threeBrokers(t)
	name := uniqueName(t)
	createTopic(t, kafka.Bootstrap, name, 3)
	if err := kafka.Freeze(2); err != nil {
		t.Fatal(err)
	}
	producer := kafkaClient(t, kafka.Bootstrap)
	for key := range 30 { // to every partition, so also to those that the frozen one led
		record := &kgo.Record{Topic: name, Key: []byte(fmt.Sprint(key))}
		if err := producer.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := kafka.Thaw(2); err != nil {
		t.Fatal(err)
	}
	consume(t, kafka.Bootstrap, 30, time.Minute, name)
}
