package demo

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/harness/ledger"
	"github.com/outbox-relay/relay/internal/harness/workload"
)

func TestDecode(t *testing.T) {
	id := uuid.Must(uuid.NewV7())
	header := kgo.RecordHeader{Key: "msg_id", Value: []byte(id.String())}
	value := []byte(`{"account":"account-001","version":7}`)
	e, err := decode(&kgo.Record{Key: []byte("account-001"), Value: value, Headers: []kgo.RecordHeader{header}})
	if err != nil || e != (workload.Entry{ID: id, Event: ledger.Event{Aggregate: "account-001", Version: 7}}) {
		t.Fatalf("decoded %+v, %v", e, err)
	}
	for _, bad := range []struct {
		name, want string
		record     kgo.Record
	}{
		{"no id", "0 headers msg_id", kgo.Record{Key: []byte("account-001"), Value: value}},
		{"two ids", "2 headers msg_id", kgo.Record{Key: []byte("account-001"), Value: value, Headers: []kgo.RecordHeader{header, header}}},
		{"no uuid", "header msg_id", kgo.Record{Key: []byte("account-001"), Value: value, Headers: []kgo.RecordHeader{{Key: "msg_id", Value: []byte("7")}}}},
		{"no value", "value", kgo.Record{Key: []byte("account-001"), Headers: []kgo.RecordHeader{header}}},
		{"another key", "but the value is of", kgo.Record{Key: []byte("account-002"), Value: value, Headers: []kgo.RecordHeader{header}}},
	} {
		if _, err := decode(&bad.record); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: %v", bad.name, err)
		}
	}
}
