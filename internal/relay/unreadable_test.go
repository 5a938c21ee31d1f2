package relay

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/kafkatx"
	"github.com/outbox-relay/relay/internal/recovery"
)

// appendRaw writes a record with the key of a checkpoint, as anybody may who can write to the
// topic.
func (r *rig) appendRaw(value string) {
	r.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...))
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	record := &kgo.Record{Topic: checkpoint.TopicName("test"), Key: []byte(checkpoint.Key), Value: []byte(value)}
	if err := client.ProduceSync(r.t.Context(), record).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
}

// epochs tells which producers have been fenced: it lists the epochs of the lane's transactional
// ids.
func (r *rig) epochs() string {
	r.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...))
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	states, err := kafkatx.NewCoordinators(client).Ask(r.t.Context(), kafkatx.TransactionalIDs("test", "outbox")...)
	if err != nil {
		r.t.Fatal(err)
	}
	return fmt.Sprint(states)
}

// Only the last checkpoint counts. What stands before it is never decoded.
func TestAnUnreadableRecordBeforeTheLastCheckpointIsPassedOver(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	want := r.insertOrders(3, "v")
	r.runOnce(r.config())
	all := r.checkpoints()
	r.appendRaw("garbage")
	r.appendRaw(`{"version":99}`)
	r.append(all[len(all)-1])
	if f := r.inspect(); f.Cause != "" {
		t.Errorf("a contradiction is seen where there is none: %s", f.Diagnosis)
	}
	r.goesOn()
	r.expect(orders, merge(want, theEnd))
}

// The last checkpoint cannot be read: the lane halts before anybody is fenced, and every choice but
// Kafka's leads on.
func TestARecoveryPassesAnUnreadableCheckpoint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, value string
		way         recovery.Choice
		newer       bool
		again       int // how often rows come that were published before
		fresh       int // how often those come that were not
	}{
		{"garbage", "garbage", recovery.ChoosePostgres, false, 1, 1},
		{"garbage", "\xff\x00{", recovery.ChooseRestartFrom, false, 2, 1},
		{"garbage", `{"version":1,"seq":9223372036854775807}`, recovery.ChooseSkipToNow, false, 1, 0},
		{"nothing", "", recovery.ChoosePostgres, false, 1, 1},
		{"a newer version", `{"version":2,"seq":5000000000000,"place":"x"}`, recovery.ChoosePostgres, true, 1, 1},
	} {
		t.Run(c.name+" "+string(c.way), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			published := r.insertOrders(3, "one")
			r.runOnce(r.config())
			r.appendRaw(c.value)
			fresh := r.insertOrders(2, "two")
			before, fenced := r.laneText(), r.epochs()
			try := r.mustHalt(checkpoint.CheckpointUnreadable, "relay.test.checkpoints/0 offset ")
			if !strings.Contains(try, "upgrade this relay") || !strings.Contains(try, "relay recover outbox") {
				t.Errorf("to be tried: %s", try)
			}
			if after := r.epochs(); after != fenced {
				t.Errorf("somebody was fenced: %s became %s", fenced, after)
			}
			if after := r.laneText(); after != before {
				t.Errorf("the row changed from %s to %s", before, after)
			}
			r.expectUnreadable(c.newer)
			if _, err := r.recovery(r.config()).Apply(t.Context(), recovery.Decision{Choice: recovery.ChooseKafka}); !errors.Is(err, recovery.ErrClosed) {
				t.Errorf("kafka: %v", err)
			}
			r.recoverUnread(c.way)
			r.goesOn()
			want := theEnd
			for range c.fresh {
				want = merge(fresh, want)
			}
			if c.again == 2 { // from the beginning: those that were there come first
				want = merge(published, want)
			}
			r.expect(orders, merge(published, want))
			if last := r.lastReadable(); last.Recovery != nil {
				t.Errorf("no batch has followed: %+v", last)
			}
		})
	}
}

// recoverUnread carries out a choice, and checks what both logs hold then.
func (r *rig) recoverUnread(way recovery.Choice) {
	r.t.Helper()
	seq := query[int64](r.t, r.conn, `SELECT seq FROM relay_lanes`)
	outcome, err := r.recovery(r.config()).Apply(r.t.Context(), recovery.Decision{Choice: way, Who: "one", Why: "test"})
	if err != nil {
		r.t.Fatal(err)
	}
	c := outcome.Checkpoint
	if c.Seq < seq+1_000_000_000_000 || c.Transactions != nil || c.Recovery.Cause != checkpoint.CheckpointUnreadable {
		r.t.Errorf("the checkpoint is %+v; Postgres had batch %d", c, seq)
	}
	if u := outcome.Before.Kafka.Unreadable; u.Version > checkpoint.Version && c.Seq <= 5_000_000_000_000 {
		r.t.Errorf("batch %d, and the newer relay had come to 5000000000000", c.Seq)
	}
	if f := r.inspect(); f.Cause != "" || f.Kafka.Unreadable != nil {
		r.t.Errorf("after the recovery: %s", f.Diagnosis)
	}
}

// expectUnreadable looks at the lane as relay recover shows it.
func (r *rig) expectUnreadable(newer bool) {
	r.t.Helper()
	f := r.inspect()
	var open []recovery.Choice
	for _, o := range f.Choices {
		open = append(open, o.Choice)
		if warned := strings.Contains(o.Caution, "a newer relay wrote"); warned != newer {
			r.t.Errorf("%s: caution %q, want a word of a newer relay: %t", o.Choice, o.Caution, newer)
		}
		if o.Choice == recovery.ChoosePostgres && (o.New.Count != 2 || o.Again.Count != 0) {
			r.t.Errorf("postgres publishes %+v, and %+v again", o.New, o.Again)
		}
		if o.Choice == recovery.ChooseRestartFrom && o.Again.Count != 3 {
			r.t.Errorf("restart-from publishes %+v again", o.Again)
		}
	}
	if f.Cause != checkpoint.CheckpointUnreadable || !slices.Equal(open, []recovery.Choice{recovery.ChoosePostgres, recovery.ChooseRestartFrom, recovery.ChooseSkipToNow}) {
		r.t.Errorf("cause %s, open %v", f.Cause, open)
	}
	if len(f.Closed) != 1 || f.Closed[0].Choice != recovery.ChooseKafka || !strings.Contains(f.Closed[0].Reason, "cannot be read") {
		r.t.Errorf("closed: %+v", f.Closed)
	}
	if u := f.Kafka.Unreadable; u == nil || u.Reason == "" || f.Kafka.Offset == nil || f.Kafka.Checkpoint != nil {
		r.t.Errorf("Kafka's side is %+v", f.Kafka)
	}
}

// lastReadable is the last readable checkpoint.
func (r *rig) lastReadable() (last checkpoint.Record) {
	r.t.Helper()
	for _, record := range r.records(checkpoint.TopicName("test"), false) {
		if c, err := checkpoint.Decode(record.Value); err == nil && string(record.Key) == checkpoint.Key {
			last = c
		}
	}
	return last
}

// A predecessor's last record becomes readable only behind the sentinel: the takeover halts there
// as well.
func TestAnUnreadableCheckpointHaltsBehindTheFenceToo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insertOrders(3, "v")
	r.runOnce(r.config())
	s, err := r.takeOver(r.config(), "one")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Producers.Close) // Fence makes another pool
	r.appendRaw("garbage")
	_, err = s.Fence(t.Context(), &s.Last)
	if fault := (*checkpoint.HaltError)(nil); !errors.As(err, &fault) || fault.Cause != checkpoint.CheckpointUnreadable {
		t.Errorf("got %v", err)
	}
}

// The brokers have left the marker of a committed batch out, and the checkpoint that names the
// batch cannot be read. While its coordinator still knows the outcome it is written; otherwise the
// recovery halts, and nothing is aborted.
func TestARecoveryAbortsNothingThatItCannotDecide(t *testing.T) {
	t.Parallel()
	for name, halts := range map[string]bool{"the coordinator knows": false, "the coordinator has forgotten": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			want := r.insertOrders(30, "v")
			s := r.start(r.config())
			s.awaitRows(t, 30)
			s.stop()
			batch := r.lastBatch()
			missing := &leftOut{partition: 1, producerID: batch.ProducerID, epoch: batch.Epoch}
			missing.on(r, orders)
			if !halts {
				missing.known(r, kafkatx.TransactionalIDs("test", "outbox")[batch.Number])
			}
			r.appendRaw("garbage")
			_, err := r.recovery(r.config()).Apply(t.Context(), recovery.Decision{Choice: recovery.ChoosePostgres})
			fault := (*checkpoint.HaltError)(nil)
			if halted := errors.As(err, &fault) && fault.Cause == checkpoint.HangingTransaction; halted != halts || !halted && err != nil {
				t.Fatalf("got %v, want a halt: %t", err, halts)
			}
			if halts {
				if ends := missing.ends(); len(ends) != 0 {
					t.Errorf("it was ended: %v", ends)
				}
				return
			}
			missing.expect(t, true)
			r.goesOn()
			r.expect(orders, merge(want, theEnd))
		})
	}
}

// known has the coordinator say, until the marker is written, that the transaction is complete.
func (l *leftOut) known(r *rig, id string) {
	r.cluster.ControlKey(int16(kmsg.DescribeTransactions), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		if len(l.ends()) > 0 {
			return nil, nil, false
		}
		response := request.ResponseKind().(*kmsg.DescribeTransactionsResponse)
		for _, asked := range request.(*kmsg.DescribeTransactionsRequest).TransactionalIDs {
			state := kmsg.NewDescribeTransactionsResponseTransactionState()
			state.TransactionalID, state.State, state.ProducerID = asked, "Empty", -1
			if asked == id {
				state.State, state.ProducerID, state.ProducerEpoch = "CompleteCommit", l.producerID, l.epoch+1
			}
			response.TransactionStates = append(response.TransactionStates, state)
		}
		return response, nil, true
	})
}

// The number of a batch has 64 bits.
func TestBatchesAreCountedBeyond32Bits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	want := r.insertOrders(3, "v")
	r.runOnce(r.config())
	all := r.checkpoints()
	last := all[len(all)-1]
	last.Seq = math.MaxInt32
	r.append(last)
	exec(t, r.conn, `UPDATE relay_lanes SET seq = 2147483647, confirmed_seq = 2147483647`)
	r.goesOn()
	r.expect(orders, merge(want, theEnd))
}

// While a topic of the lane cannot be asked nothing is chosen, and no process is fenced: its
// coordinator may still know what is open there.
func TestARecoveryWithoutACheckpointWaitsForEveryTopic(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	want := r.insertOrders(30, "v")
	r.runOnce(r.config())
	r.appendRaw("garbage")
	away := atomic.Bool{}
	away.Store(true)
	r.cluster.ControlKey(int16(kmsg.DescribeProducers), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		response := request.ResponseKind().(*kmsg.DescribeProducersResponse)
		for _, asked := range request.(*kmsg.DescribeProducersRequest).Topics {
			answer := kmsg.NewDescribeProducersResponseTopic()
			answer.Topic = asked.Topic
			for _, n := range asked.Partitions {
				partition := kmsg.NewDescribeProducersResponseTopicPartition()
				if partition.Partition = n; asked.Topic == orders && n == 2 && away.Load() {
					partition.ErrorCode = kerr.LeaderNotAvailable.Code
				}
				answer.Partitions = append(answer.Partitions, partition)
			}
			response.Topics = append(response.Topics, answer)
		}
		return response, nil, true
	})
	fenced := r.epochs()
	_, err := r.recovery(r.config()).Apply(t.Context(), recovery.Decision{Choice: recovery.ChoosePostgres})
	if err == nil || !strings.Contains(err.Error(), orders+"/2 cannot be asked") {
		t.Errorf("got %v", err)
	}
	if after := r.epochs(); after != fenced {
		t.Errorf("somebody was fenced: %s became %s", fenced, after)
	}
	away.Store(false)
	r.recoverUnread(recovery.ChoosePostgres)
	r.goesOn()
	r.expect(orders, merge(want, theEnd))
}
