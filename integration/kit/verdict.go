package kit

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

// Verdict compares what was committed with what a read_committed consumer sees.
type Verdict struct {
	Committed, published                  int
	Lost, Duplicated, Reordered, Invented int
	details                               []string // the first of each kind
}

func (v *Verdict) fault(counter *int, format string, args ...any) {
	if *counter++; *counter <= 3 {
		v.details = append(v.details, fmt.Sprintf(format, args...))
	}
}

func (v Verdict) String() string {
	return fmt.Sprintf("committed %d, published %d, lost %d, duplicated %d, reordered %d, invented %d",
		v.Committed, v.published, v.Lost, v.Duplicated, v.Reordered, v.Invented)
}

// Judge compares the ledger with records, each partition in the order of its offsets.
func Judge(ledger map[uuid.UUID]LedgerEntry, records []*kgo.Record) Verdict {
	v := Verdict{Committed: len(ledger)}
	seen := make(map[uuid.UUID]bool, len(ledger))
	last := make(map[string]int64)
	for _, r := range records {
		id, err := uuid.Parse(Header(r, "msg_id"))
		entry, known := ledger[id]
		version, _ := strconv.ParseInt(string(r.Value), 10, 64)
		switch {
		case err != nil || !known || string(r.Key) != strconv.Itoa(entry.Account) || version != entry.Version:
			v.fault(&v.Invented, "invented: %s/%d offset %d: key %q value %q msg_id %q",
				r.Topic, r.Partition, r.Offset, r.Key, r.Value, Header(r, "msg_id"))
			continue
		case seen[id]:
			v.fault(&v.Duplicated, "duplicated: %s/%d offset %d: key %q version %d", r.Topic, r.Partition, r.Offset, r.Key, version)
			continue
		}
		seen[id] = true
		if before := last[string(r.Key)]; version != before+1 {
			v.fault(&v.Reordered, "out of order: %s/%d offset %d: key %q version %d after %d",
				r.Topic, r.Partition, r.Offset, r.Key, version, before)
		}
		last[string(r.Key)] = version
	}
	v.published = len(seen)
	for id, entry := range ledger {
		if !seen[id] {
			v.fault(&v.Lost, "lost: account %d version %d msg_id %s", entry.Account, entry.Version, id)
		}
	}
	return v
}

// Require fails the test unless everything arrived once and in order.
func (v Verdict) Require(t testing.TB) {
	t.Helper()
	t.Log(v)
	if v.Committed == 0 {
		t.Error("nothing was committed: the test shows nothing")
	}
	if v.Lost+v.Duplicated+v.Reordered+v.Invented > 0 {
		t.Error(v)
		for _, d := range v.details {
			t.Log(d)
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
