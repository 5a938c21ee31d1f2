package load

import (
	"encoding/binary"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func record(number, aggregate int) *kgo.Record {
	return &kgo.Record{Key: strconv.AppendInt(nil, int64(aggregate), 10), Value: binary.BigEndian.AppendUint64(nil, uint64(number))}
}

func TestEventsThatAreLostDoubledReorderedOrInventedAreCounted(t *testing.T) {
	e := NewEvents(6)
	e.Inserted(0, 5)
	now := time.Now()
	for _, r := range []*kgo.Record{
		record(2, 7), record(0, 7), record(1, 8), record(1, 8), record(3, 8), // 0 after 2, and 1 again
		record(6, 7), {Key: []byte("x"), Value: make([]byte, 8)}, {Key: []byte("7"), Value: []byte("short")},
	} {
		e.note(r, now)
	}
	if e.Lost() != 1 || e.Doubled != 1 || e.Reordered != 1 || e.Invented != 3 {
		t.Errorf("lost %d, doubled %d, reordered %d, invented %d", e.Lost(), e.Doubled, e.Reordered, e.Invented)
	}
	if committed, read := e.Counts(); committed != 5 || read != 4 {
		t.Errorf("%d committed, %d read", committed, read)
	}
	if committed, read := e.Newest(); committed != 5 || read != 4 {
		t.Errorf("the newest are %d and %d", committed, read)
	}
	if err := e.Complete(); err == nil || !strings.Contains(err.Error(), "of 5 events 4 were read") {
		t.Errorf("the error is %v", err)
	}
}

func TestEventsThatArriveOnceAndInOrderAreComplete(t *testing.T) {
	e := NewEvents(3)
	e.Inserted(0, 2) // there is room for one more, which is not written
	for i := range 2 {
		e.note(record(i, 1), time.Now())
	}
	if err := e.Complete(); err != nil || !e.all() {
		t.Errorf("got %v", err)
	}
}

func TestLatencyIsThatOfTheEventsAfterTheWarmUp(t *testing.T) {
	e := NewEvents(1102)
	start := time.Now()
	for i := range 1100 { // the last two were not written
		e.Committed[i] = start
		e.Arrived[i] = start.Add(time.Duration(i-99) * time.Millisecond) // 1 ms to 1,000 ms from number 100 on
	}
	if got, want := LatencyOf(e.Since(e.Committed, 100)), (Latency{P50: 500, P99: 990, P999: 999, Max: 1000}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := LatencyOf(nil); got != (Latency{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestKeysAtASteadyRateHaveOneWriterEach(t *testing.T) {
	for event := range 3 * SteadyAggregates {
		if writer := event % Writers; event%SteadyAggregates%Writers != writer {
			t.Fatalf("event %d of writer %d has a key of writer %d", event, writer, event%SteadyAggregates%Writers)
		}
	}
}
