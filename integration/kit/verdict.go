package kit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/harness/ledger"
)

// Verdict compares what was committed with what a read_committed consumer sees.
type Verdict struct{ ledger.Verdict }

func (v Verdict) String() string {
	return fmt.Sprintf("committed %d, published %d, lost %d, duplicated %d, reordered %d, invented %d",
		v.Written, v.Published, v.Lost, v.Duplicated, v.Reordered, v.Invented)
}

// Judge compares the ledger with records, each partition in the order of its offsets.
func Judge(committed map[uuid.UUID]ledger.Event, records []*kgo.Record) Verdict {
	l := ledger.New[uuid.UUID]()
	for id, e := range committed {
		l.Commit([]ledger.Entry[uuid.UUID]{{ID: id, Event: e}})
	}
	for _, r := range records {
		id, err := uuid.Parse(Header(r, "msg_id"))
		version, unreadable := strconv.ParseInt(string(r.Value), 10, 64)
		if err := errors.Join(err, unreadable); err != nil {
			l.ArriveUnreadable(fmt.Errorf("%s/%d offset %d: key %q: %w", r.Topic, r.Partition, r.Offset, r.Key, err))
			continue
		}
		l.Arrive([]ledger.Entry[uuid.UUID]{{ID: id, Event: ledger.Event{Aggregate: string(r.Key), Version: version}}})
	}
	return Verdict{l.Audit()}
}

// Require fails the test unless everything arrived once and in order.
func (v Verdict) Require(t testing.TB) {
	t.Helper()
	t.Log(v)
	if v.Written == 0 {
		t.Error("nothing was committed: the test shows nothing")
	}
	if v.Faults() > 0 {
		t.Error(v)
		for _, examples := range v.Examples {
			t.Log(strings.Join(examples, "\n"))
		}
	}
}

// Header is the value of a header of a record, or "".
func Header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// Everything reads the topics to their ends as a read_committed consumer, once no transaction is
// open on them. Call it when no relay runs any more.
func Everything(t testing.TB, bootstrap []string, topics ...string) []*kgo.Record {
	t.Helper()
	admin := kadm.NewClient(KafkaClient(t, bootstrap))
	var ends kadm.ListedOffsets
	Eventually(t, time.Minute, "no transaction is open on "+fmt.Sprint(topics), func() bool {
		var err error
		if ends, err = admin.ListEndOffsets(t.Context(), topics...); err != nil || ends.Error() != nil {
			return false
		}
		stable, err := admin.ListCommittedOffsets(t.Context(), topics...)
		if err != nil || stable.Error() != nil {
			return false
		}
		decided := true
		ends.Each(func(end kadm.ListedOffset) {
			lso, ok := stable.Lookup(end.Topic, end.Partition)
			decided = decided && ok && lso.Offset == end.Offset
		})
		return decided
	})
	client := KafkaClient(t, bootstrap, kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	left := make(map[string]int64)
	ends.Each(func(end kadm.ListedOffset) {
		if end.Offset > 0 {
			left[fmt.Sprintf("%s/%d", end.Topic, end.Partition)] = end.Offset
		}
	})
	var records []*kgo.Record
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read %v: %v; not read to the end: %v", topics, err, left)
		}
		for r := range fetches.RecordsAll() {
			place := fmt.Sprintf("%s/%d", r.Topic, r.Partition)
			if r.Offset+1 >= left[place] {
				delete(left, place)
			}
			if !r.Attrs.IsControl() {
				records = append(records, r)
			}
		}
	}
	return records
}
