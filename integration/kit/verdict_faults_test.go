package kit

import (
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/harness/ledger"
)

// The judge of every crash test must itself see each fault.
func TestTheVerdictSeesEveryFault(t *testing.T) {
	first, second, rolledBack := uuid.New(), uuid.New(), uuid.New()
	committed := map[uuid.UUID]ledger.Event{first: {Aggregate: "1", Version: 1}, second: {Aggregate: "1", Version: 2}}
	record := func(id uuid.UUID, value string) *kgo.Record {
		return &kgo.Record{Key: []byte("1"), Value: []byte(value), Headers: []kgo.RecordHeader{{Key: "msg_id", Value: []byte(id.String())}}}
	}
	one, two := record(first, "1"), record(second, "2")
	for name, c := range map[string]struct {
		records                               []*kgo.Record
		lost, duplicated, reordered, invented int
	}{
		"all is well":   {records: []*kgo.Record{one, two}},
		"lost":          {records: []*kgo.Record{one}, lost: 1},
		"duplicated":    {records: []*kgo.Record{one, two, two}, duplicated: 1},
		"reordered":     {records: []*kgo.Record{two, one}, reordered: 1},
		"rolled back":   {records: []*kgo.Record{one, two, record(rolledBack, "3")}, invented: 1},
		"another value": {records: []*kgo.Record{one, record(second, "7")}, invented: 1},
	} {
		t.Run(name, func(t *testing.T) {
			v := Judge(committed, c.records)
			if v.Lost != c.lost || v.Duplicated != c.duplicated || v.Reordered != c.reordered || v.Invented != c.invented {
				t.Errorf("got %v", v)
			}
		})
	}
}
