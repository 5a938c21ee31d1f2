package inboxkafka

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
)

// transactions sends records in transactions of n, and aborts the last one if told so.
func (r *rig) transactions(abort bool, n int, records ...*kgo.Record) {
	r.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("t"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	ctx := r.t.Context()
	for len(records) > 0 {
		batch := records[:min(n, len(records))]
		records = records[len(batch):]
		end := kgo.TryCommit
		if len(records) == 0 && abort {
			end = kgo.TryAbort
		}
		if err := client.BeginTransaction(); err != nil {
			r.t.Fatal(err)
		}
		if err := client.ProduceSync(ctx, batch...).FirstErr(); err != nil {
			r.t.Fatal(err)
		}
		if err := client.EndTransaction(ctx, end); err != nil {
			r.t.Fatal(err)
		}
	}
}

// ends are the last stable offsets.
func (r *rig) ends() map[int32]int64 {
	r.t.Helper()
	listed, err := kadm.NewClient(r.producer).ListCommittedOffsets(r.t.Context(), topic)
	if err != nil {
		r.t.Fatal(err)
	}
	ends := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends
}

// noLag waits until every partition is read to its end, as this process says.
func noLag(t *testing.T, c *process, ends map[int32]int64) {
	t.Helper()
	var last []PartitionStats
	eventually(t, "no lag", func() bool {
		last = c.Stats().Partitions
		for _, p := range last {
			if p.Lag != 0 || p.Watermark != ends[p.Partition] || p.Stable != ends[p.Partition] {
				return false
			}
		}
		return len(last) == len(ends)
	})
}

// The last offset of a partition is that of a marker, and some partitions hold nothing, or nothing
// new.
func TestTheLagOfATopicThatIsReadToItsEndIsNone(t *testing.T) {
	r := newRig(t, 4)
	cfg := r.config()
	begin := make(chan struct{})
	cfg.Handler = func(ctx context.Context, _ pgx.Tx, _ inbox.Message) error {
		select {
		case <-begin:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	r.transactions(false, 2, r.record(0, "a"), r.record(0, "a"), r.record(0, "a"))
	gone := r.record(1, "gone")
	delete(r.want, "gone")
	r.sent--
	r.transactions(true, 1, r.record(1, "b"), gone)
	r.send(r.record(2, "c"))
	ends := r.ends()
	if ends[0] != 5 || ends[1] != 4 || ends[2] != 1 || ends[3] != 0 {
		t.Fatalf("the partitions end at %v", ends)
	}
	c := r.start(cfg)
	eventually(t, "a lag", func() bool {
		lag := int64(0)
		for _, p := range c.Stats().Partitions {
			lag += p.Lag
		}
		return lag == 5+4+1
	})
	close(begin)
	noLag(t, c, ends)
	r.awaitEffects()
	eventually(t, "commits of the ends", func() bool { return r.committed(0) == 5 && r.committed(1) == 4 })
	if err := c.end(); err != nil {
		t.Fatal(err)
	}
	// The next process is handed nothing, and knows if it stands.
	noLag(t, r.start(cfg), ends)
}
