package relay

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/pipeline"
	"github.com/outbox-relay/relay/internal/retention"
)

// rig is a database with an outbox and a broker in this process. The broker is good for faults that
// are injected one by one; what happens when a real one crashes is shown elsewhere.
type rig struct {
	t       testing.TB
	url     string
	conn    *pgx.Conn
	cluster *kfake.Cluster
}

// orders is the topic of the events that insert writes; it has three partitions.
const orders = "outbox.event.order"

func newRig(t testing.TB) *rig {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DefaultNumPartitions(3),
		kfake.GroupMinSessionTimeout(100*time.Millisecond), kfake.SeedTopics(3, orders))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	r := &rig{t: t, url: newDatabase(t), cluster: cluster}
	r.conn = open(t, r.url)
	return r
}

func (r *rig) config() Config {
	return Config{
		DatabaseURL: r.url, Brokers: r.cluster.ListenAddrs(), Name: "test", SessionTimeout: time.Second,
		Topics:   Topics{Allow: []string{"*"}},
		RetryMin: 10 * time.Millisecond, RetryMax: 50 * time.Millisecond, KafkaOptions: []kgo.Opt{kgo.FetchMaxWait(100 * time.Millisecond)},
	}
}

// insertOrders writes one transaction with n events that share five keys, and returns the values of
// each key in order.
func (r *rig) insertOrders(n int, prefix string) map[string][]string {
	r.t.Helper()
	want := make(map[string][]string)
	exec(r.t, r.conn, `BEGIN`)
	for i := range n {
		key, value := fmt.Sprintf("o-%d", i%5), fmt.Sprintf("%s %d", prefix, i)
		insert(r.t, r.conn, key, value)
		want[key] = append(want[key], value)
	}
	exec(r.t, r.conn, `COMMIT`)
	return want
}

// records reads a topic to its end: to that of the decided transactions, or with uncommitted to the
// end of the log.
func (r *rig) records(topic string, uncommitted bool) []*kgo.Record {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	isolation := kgo.ReadCommitted()
	if uncommitted {
		isolation = kgo.ReadUncommitted()
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.ConsumeTopics(topic),
		kgo.FetchIsolationLevel(isolation), kgo.KeepControlRecords(), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	list := kadm.NewClient(client).ListCommittedOffsets
	if uncommitted {
		list = kadm.NewClient(client).ListEndOffsets
	}
	ends, err := list(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	left := make(map[int32]int64)
	ends.Each(func(end kadm.ListedOffset) {
		if end.Offset > 0 {
			left[end.Partition] = end.Offset
		}
	})
	var records []*kgo.Record
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			r.t.Fatalf("read %s: %v (partitions left: %v)", topic, err, left)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			if !record.Attrs.IsControl() {
				records = append(records, record)
			}
			if record.Offset+1 >= left[record.Partition] {
				delete(left, record.Partition)
			}
		})
	}
	return records
}

// expect checks that a read_committed consumer sees exactly these values, in this order for each
// key.
func (r *rig) expect(topic string, want map[string][]string) {
	r.t.Helper()
	got := make(map[string][]string)
	for _, record := range r.records(topic, false) {
		got[string(record.Key)] = append(got[string(record.Key)], string(record.Value))
	}
	if !maps.EqualFunc(got, want, slices.Equal) {
		r.t.Errorf("%s holds %v, want %v", topic, got, want)
	}
}

// theEnd is an event that is written last.
var theEnd = map[string][]string{"end": {"end"}}

// awaitEnd reads the topic until a read_committed consumer sees it.
func (r *rig) awaitEnd(topic string) {
	r.t.Helper()
	r.awaitRecord(topic, func(record *kgo.Record) bool { return string(record.Key) == "end" })
}

// awaitRecord reads the topic until a read_committed consumer sees a record like that.
func (r *rig) awaitRecord(topic string, like func(*kgo.Record) bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.ConsumeTopics(topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			r.t.Fatalf("the last row of %s did not come: %v", topic, err)
		}
		if slices.ContainsFunc(fetches.Records(), like) {
			return
		}
	}
}

func merge(parts ...map[string][]string) map[string][]string {
	all := make(map[string][]string)
	for _, part := range parts {
		for key, values := range part {
			all[key] = append(all[key], values...)
		}
	}
	return all
}

// recorder keeps what the hooks are told, and a test can wait on it.
type recorder struct {
	mu        sync.Mutex
	rows      int
	batches   []pipeline.Batch
	states    []LaneStatus
	takeovers []error
	removals  []retention.Removal
	deviation time.Duration // of the clock, as it was last read
	changed   chan struct{}
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{})} }

func (r *recorder) note(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) Committed(b pipeline.Batch) {
	r.note(func() { r.rows += b.Rows; r.batches = append(r.batches, b) })
}
func (r *recorder) Changed(s LaneStatus) { r.note(func() { r.states = append(r.states, s) }) }
func (r *recorder) TookOver(_ string, _ time.Duration, err error) {
	r.note(func() { r.takeovers = append(r.takeovers, err) })
}
func (r *recorder) Removed(removal retention.Removal) {
	r.note(func() { r.removals = append(r.removals, removal) })
}

func (r *recorder) ClockRead(_ string, deviation time.Duration) {
	r.note(func() { r.deviation = deviation })
}

func (r *recorder) hooks() Hooks {
	return Hooks{
		Committed: r.Committed, Changed: r.Changed, TookOver: r.TookOver, Removed: r.Removed, ClockRead: r.ClockRead,
	}
}

// state is the last one told.
func (r *recorder) state() LaneStatus {
	if len(r.states) == 0 {
		return LaneStatus{}
	}
	return r.states[len(r.states)-1]
}

// await waits until the condition holds.
func (r *recorder) await(t testing.TB, what string, condition func(*recorder) bool) {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		r.mu.Lock()
		changed, ok := r.changed, condition(r)
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-limit.C:
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Fatalf("waited in vain until %s; %d rows, takeovers %v, states %+v", what, r.rows, r.takeovers, r.states)
		}
	}
}

func (r *recorder) awaitRows(t testing.TB, n int) {
	t.Helper()
	r.await(t, fmt.Sprintf("%d rows are committed", n), func(r *recorder) bool { return r.rows >= n })
}

func (r *recorder) awaitState(t testing.TB, state State) (reason string) {
	t.Helper()
	r.await(t, "the lane is "+string(state), func(r *recorder) bool { reason = r.state().Reason; return r.state().State == state })
	return reason
}

// started is a relay that runs.
type started struct {
	*recorder
	t      testing.TB
	relay  *Relay
	cancel context.CancelFunc
	done   chan error
	once   sync.Once
}

func (r *rig) start(cfg Config) *started {
	r.t.Helper()
	s := &started{recorder: newRecorder(), t: r.t, done: make(chan error, 1)}
	cfg.Hooks = s.hooks()
	s.relay = New(cfg.WithDefaults())
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() { s.done <- s.relay.Run(ctx) }()
	r.t.Cleanup(s.stop)
	return s
}

// stop drains the relay.
func (s *started) stop() {
	s.t.Helper()
	s.once.Do(func() {
		s.cancel()
		select {
		case err := <-s.done:
			if err != nil {
				s.t.Errorf("Run returned %v", err)
			}
		case <-time.After(patience):
			s.t.Fatal("Run did not return")
		}
	})
}
