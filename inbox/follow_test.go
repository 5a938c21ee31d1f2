package inbox_test

import (
	"maps"
	"testing"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/outbox"
)

func TestAFollowUpEventSaysWhereItCameFrom(t *testing.T) {
	m := message("m1", "k")
	follow := func(headers map[string]string) map[string]string {
		return m.Follow(outbox.Message{AggregateID: "42", Headers: headers}).Headers
	}
	check := func(what string, got, want map[string]string) {
		t.Helper()
		if !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	check("the first of a chain", follow(nil), map[string]string{"causation_id": "m1", "correlation_id": "m1"})
	m.Headers = []inbox.Header{
		{Name: "correlation_id", Value: []byte("old")}, {Name: "correlation_id", Value: []byte("m0")}, {Name: "causation_id", Value: []byte("m0")},
		{Name: "traceparent", Value: []byte("00-1-2-01")}, {Name: "tracestate", Value: []byte("a=b")}, {Name: "other", Value: []byte("x")},
	}
	check("a later one", follow(nil), map[string]string{
		"causation_id": "m1", "correlation_id": "m0", "traceparent": "00-1-2-01", "tracestate": "a=b",
	})
	own := map[string]string{"correlation_id": "mine", "x": "y"}
	check("own headers", follow(own), map[string]string{
		"causation_id": "m1", "correlation_id": "mine", "x": "y", "traceparent": "00-1-2-01", "tracestate": "a=b",
	})
	check("the caller's map", own, map[string]string{"correlation_id": "mine", "x": "y"})
	m.Headers = []inbox.Header{{Name: "traceparent", Value: []byte{0xff}}, {Name: "correlation_id", Value: []byte("a\x00")}}
	check("what Postgres cannot store", follow(nil), map[string]string{"causation_id": "m1", "correlation_id": "m1"})
}
