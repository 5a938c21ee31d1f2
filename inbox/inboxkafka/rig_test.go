package inboxkafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
)

const topic = "orders"

// rig is a broker in this process and an inbox in memory.
type rig struct {
	t        *testing.T
	cluster  *kfake.Cluster
	producer *kgo.Client
	inbox    *fakeInbox
	sent     int
	want     map[string][]string // of each key, in order
}

func newRig(t *testing.T, partitions int32) *rig {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond),
		kfake.SeedTopics(partitions, topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	producer, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(producer.Close)
	return &rig{t: t, cluster: cluster, producer: producer, inbox: newFakeInbox(), want: map[string][]string{}}
}

// record is the next message of a key.
func (r *rig) record(partition int32, key string) *kgo.Record {
	value := fmt.Sprint(r.sent)
	r.sent++
	r.want[key] = append(r.want[key], value)
	return &kgo.Record{
		Topic: topic, Partition: partition, Key: []byte(key), Value: []byte(value), Headers: []kgo.RecordHeader{
			{Key: "msg_id", Value: []byte("m-" + value)}, {Key: "source", Value: []byte("shop")}, {Key: "type", Value: []byte("placed")},
		},
	}
}

func (r *rig) send(records ...*kgo.Record) {
	r.t.Helper()
	if err := r.producer.ProduceSync(r.t.Context(), records...).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
}

// sendMany sends n messages of the keys in turn.
func (r *rig) sendMany(n int, partition int32, keys ...string) {
	r.t.Helper()
	var records []*kgo.Record
	for i := range n {
		records = append(records, r.record(partition, keys[i%len(keys)]))
	}
	r.send(records...)
}

// settings are a configuration with a handler: the first one that is set.
type settings struct {
	Config
	Handler      func(context.Context, pgx.Tx, inbox.Message) error
	BatchHandler func(context.Context, pgx.Tx, []inbox.Message) error
	AtMostOnce   func(context.Context, inbox.Message) error
}

// open makes a consumer of them.
func (s settings) open(in inboxOf[pgx.Tx]) (*Consumer, error) {
	handler := Handler[pgx.Tx]{s.Handler, s.BatchHandler, s.AtMostOnce}
	return newConsumer(handling[pgx.Tx]{in, handler}, "billing", &s.Config)
}

// config is one whose times are short and whose handler does nothing.
func (r *rig) config() settings {
	return settings{Handler: nothing, Config: Config{
		Brokers: r.cluster.ListenAddrs(), Topics: []string{topic}, Retention: KeepForever,
		BackoffMin: 5 * time.Millisecond, BackoffMax: 40 * time.Millisecond,
		CommitInterval: 20 * time.Millisecond, RetryInterval: 20 * time.Millisecond, DrainTimeout: 5 * time.Second,
		SessionTimeout: time.Second,
		Options:        []kgo.Opt{kgo.FetchMaxWait(50 * time.Millisecond), kgo.HeartbeatInterval(50 * time.Millisecond)},
	}}
}

// process is a consumer that runs.
type process struct {
	*Consumer
	t    *testing.T
	stop context.CancelFunc
	done chan error
}

// start runs a consumer until it is stopped, or the test ends.
func (r *rig) start(cfg settings) *process {
	r.t.Helper()
	c, err := cfg.open(r.inbox)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &process{Consumer: c, t: r.t, stop: stop, done: make(chan error, 1)}
	go func() { p.done <- c.Run(ctx) }()
	r.t.Cleanup(func() {
		if err := p.end(); err != nil && !errors.Is(err, ErrDrain) {
			r.t.Errorf("Run: %v", err)
		}
	})
	return p
}

// end stops the process and returns what Run returned.
func (p *process) end() error {
	p.t.Helper()
	p.stop()
	select {
	case err := <-p.done:
		p.done <- err
		return err
	case <-time.After(patience):
		p.t.Error("Run did not return")
		return errors.New("Run did not return")
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// awaitEffects waits until everything sent has its effect, and checks that it has it once and in
// order.
func (r *rig) awaitEffects() {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d effects", r.sent), func() bool { return r.inbox.count() >= r.sent })
	r.checkEffects()
}

func (r *rig) checkEffects() {
	r.t.Helper()
	got := r.inbox.ofKeys()
	if !maps.EqualFunc(got, r.want, slices.Equal[[]string]) {
		for key := range r.want {
			if !slices.Equal(got[key], r.want[key]) {
				r.t.Errorf("key %q: effects %v, want %v", key, got[key], r.want[key])
			}
		}
	}
}

// committed returns the group's offset of a partition, -1 if there is none.
func (r *rig) committed(partition int32) int64 {
	r.t.Helper()
	offsets, err := kadm.NewClient(r.producer).FetchOffsets(r.t.Context(), "billing")
	if errors.Is(err, kerr.GroupIDNotFound) {
		return -1
	}
	if err != nil {
		r.t.Fatal(err)
	}
	if o, found := offsets.Lookup(topic, partition); found {
		return o.At
	}
	return -1
}

// resetGroup sets the group back to the beginning of so many partitions.
func (r *rig) resetGroup(partitions int32) error {
	offsets := kadm.Offsets{}
	for p := range partitions {
		offsets.AddOffset(topic, p, 0, -1)
	}
	admin := kadm.NewClient(r.producer)
	return admin.CommitAllOffsets(r.t.Context(), "billing", offsets)
}

// patience bounds every wait of a test: passing it is a failure, never a result.
const patience = 30 * time.Second
