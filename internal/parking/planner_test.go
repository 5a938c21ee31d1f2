package parking

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/position"
	"github.com/outbox-relay/relay/internal/topics"
)

func TestPageIsCutBeforeTheRowThatHaltsTheLane(t *testing.T) {
	topics := topics.NewRegistry(nil, topics.NewUnavailable(time.Hour), topics.Options{})
	k := New(Options{Policy: Halt}, topics, nil)
	p := &outboxread.Page{Faults: []outboxread.Fault{{At: 3, Err: errors.New("not a row")}}}
	for id := range int64(5) {
		p.IDs = append(p.IDs, id+10)
		p.Records = append(p.Records, kgo.Record{Topic: "t", Key: []byte("k"), Headers: make([]kgo.RecordHeader, 6)})
	}
	p.Window, p.After = position.Position{From: position.Beginning, To: position.Snapshot{Xmin: 9, Xmax: 9}}, position.Position{From: position.Snapshot{Xmin: 9, Xmax: 9}}
	pl := k.PlanPage(p, 0)
	if pl.Halted == nil || pl.Sent != 3 || pl.After.LastID != 12 || !pl.After.Open() || !slices.Equal(pl.Drop, []bool{false, false, false, true, true}) {
		t.Errorf("%+v", pl)
	}
}
