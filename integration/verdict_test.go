package integration

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// verdict compares what was committed with what a read_committed consumer sees.
type verdict struct {
	committed, published                  int
	lost, duplicated, reordered, invented int
	details                               []string // the first of each kind
}

func (v *verdict) fault(counter *int, format string, args ...any) {
	if *counter++; *counter <= 3 {
		v.details = append(v.details, fmt.Sprintf(format, args...))
	}
}

func (v verdict) String() string {
	return fmt.Sprintf("committed %d, published %d, lost %d, duplicated %d, reordered %d, invented %d",
		v.committed, v.published, v.lost, v.duplicated, v.reordered, v.invented)
}

// judge compares the ledger with records, each partition in the order of its offsets.
func judge(ledger map[uuid.UUID]ledgerEntry, records []*kgo.Record) verdict {
	v := verdict{committed: len(ledger)}
	seen := make(map[uuid.UUID]bool, len(ledger))
	last := make(map[string]int64)
	for _, r := range records {
		id, err := uuid.Parse(header(r, "msg_id"))
		entry, known := ledger[id]
		version, _ := strconv.ParseInt(string(r.Value), 10, 64)
		switch {
		case err != nil || !known || string(r.Key) != strconv.Itoa(entry.account) || version != entry.version:
			v.fault(&v.invented, "invented: %s/%d offset %d: key %q value %q msg_id %q", r.Topic, r.Partition, r.Offset, r.Key, r.Value, header(r, "msg_id"))
			continue
		case seen[id]:
			v.fault(&v.duplicated, "duplicated: %s/%d offset %d: key %q version %d", r.Topic, r.Partition, r.Offset, r.Key, version)
			continue
		}
		seen[id] = true
		if before := last[string(r.Key)]; version != before+1 {
			v.fault(&v.reordered, "out of order: %s/%d offset %d: key %q version %d after %d", r.Topic, r.Partition, r.Offset, r.Key, version, before)
		}
		last[string(r.Key)] = version
	}
	v.published = len(seen)
	for id, entry := range ledger {
		if !seen[id] {
			v.fault(&v.lost, "lost: account %d version %d msg_id %s", entry.account, entry.version, id)
		}
	}
	return v
}

// require fails the test unless everything arrived once and in order.
func (v verdict) require(t testing.TB) {
	t.Helper()
	t.Log(v)
	if v.committed == 0 {
		t.Error("nothing was committed: the test shows nothing")
	}
	if v.lost+v.duplicated+v.reordered+v.invented > 0 {
		t.Error(v)
		for _, d := range v.details {
			t.Log(d)
		}
	}
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// everything reads the topics to their ends as a read_committed consumer, once no transaction is open on them. Call it when
// no relay runs any more.
func everything(t testing.TB, bootstrap []string, topics ...string) []*kgo.Record {
	t.Helper()
	admin := kadm.NewClient(kafkaClient(t, bootstrap))
	var ends kadm.ListedOffsets
	eventually(t, time.Minute, "no transaction is open on "+fmt.Sprint(topics), func() bool {
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
	client := kafkaClient(t, bootstrap, kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
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
