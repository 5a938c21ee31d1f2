package identity

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
)

func TestIdentities(t *testing.T) {
	record := func(headers ...string) *kgo.Record {
		r := &kgo.Record{Topic: "orders", Partition: 3, Offset: 9, Timestamp: time.UnixMilli(1_700_000_000_123),
			Key: []byte("k"), Value: []byte("v")}
		for i := 0; i < len(headers); i += 2 {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: headers[i], Value: []byte(headers[i+1])})
		}
		return r
	}
	own := func(id, source string) func(*kgo.Record) (inbox.Message, error) {
		return func(*kgo.Record) (inbox.Message, error) {
			return inbox.Message{ID: id, Source: source, Topic: "elsewhere"}, nil
		}
	}
	for _, test := range []struct {
		name       string
		record     *kgo.Record
		by         func(*kgo.Record) (inbox.Message, error)
		id, source string
		fault      string
	}{
		{"relay", record("msg_id", "1", "source", "shop", "type", "t"), Relay, "1", "shop", ""},
		{"relay, no id", record("source", "shop"), Relay, "9@1700000000123", "orders:3", "no header msg_id"},
		{"relay, no source", record("msg_id", "1"), Relay, "9@1700000000123", "orders:3", "no header source"},
		{"Debezium", record("id", "2"), Debezium, "2", "orders", ""},
		{"Debezium, no id", record(), Debezium, "9@1700000000123", "orders:3", "no header id"},
		{"own", record(), own("x", "y"), "x", "y", ""},
		{"own, empty", record(), own("", "y"), "9@1700000000123", "orders:3", "id is empty"},
		{"own, long", record(), own("x", strings.Repeat("y", 256)), "9@1700000000123", "orders:3", "256 bytes"},
		{"own, zero byte", record(), own("x\x00", "y"), "9@1700000000123", "orders:3", "zero byte"},
		{"own, not UTF-8", record(), own("\xff", "y"), "9@1700000000123", "orders:3", "UTF-8"},
		{"type, not UTF-8", record("msg_id", "1", "source", "shop", "type", "\xff"), Relay, "9@1700000000123", "orders:3", "type"},
		{"panic", record(), func(*kgo.Record) (inbox.Message, error) { panic("boom") }, "9@1700000000123", "orders:3", "boom"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, err := Of(test.record, test.by)
			if (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
				t.Fatalf("error %v, want %q in it", err, test.fault)
			}
			if m.ID != test.id || m.Source != test.source {
				t.Errorf("identity %q of %q, want %q of %q", m.ID, m.Source, test.id, test.source)
			}
			if m.Topic != "orders" || m.Partition != 3 || m.Offset != 9 || string(m.Key) != "k" {
				t.Errorf("place: %+v", m)
			}
			if err != nil && (string(m.Payload) != "v" || len(m.Headers) != len(test.record.Headers)) {
				t.Errorf("what is parked has lost its payload or headers: %+v", m)
			}
		})
	}
}

func fuzzRecord(id, source, kind string, key []byte) *kgo.Record {
	return &kgo.Record{Topic: "orders", Partition: 3, Offset: 9, Key: key, Headers: []kgo.RecordHeader{
		{Key: "msg_id", Value: []byte(id)}, {Key: "source", Value: []byte(source)}, {Key: "type", Value: []byte(kind)},
	}}
}

func FuzzIdentify(f *testing.F) {
	f.Add("m-1", "shop", "placed", []byte("k"))
	f.Add("", "\x00", "\xff", []byte(nil))
	f.Fuzz(func(t *testing.T, id, source, kind string, key []byte) {
		r := fuzzRecord(id, source, kind, key)
		m, err := Of(r, Relay)
		if fault("id", m.ID, mostID) != nil || fault("source", m.Source, mostSource) != nil || storable("type", m.Type) != nil {
			t.Fatalf("a message that cannot be marked: %+v", m)
		}
		if err == nil && (m.ID != id || m.Source != source || m.Type != kind) || err != nil && m.Source != "orders:3" {
			t.Fatalf("identity %q of %q, %v", m.ID, m.Source, err)
		}
	})
}
