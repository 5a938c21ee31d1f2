package event

import "testing"

func benchmarkMessages(n int) []Message {
	messages := make([]Message, n)
	for i := range messages {
		messages[i] = Message{AggregateType: "account", AggregateID: "0190f3a4", Type: "Changed", Payload: make([]byte, 200)}
	}
	return messages
}

// One operation is one call of Insert with one message, up to the statement.
func BenchmarkOneMessage(b *testing.B) {
	r := Rules{MaxBytes: 1_000_000, Route: "outbox.event.{aggregate_type}"}
	messages := benchmarkMessages(1)
	b.Run("check", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if faults := Check(r, messages); faults != nil {
				b.Fatal(faults)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ids, err := Identities(messages)
			if err != nil {
				b.Fatal(err)
			}
			for _, err := range Statements(messages, ids) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
