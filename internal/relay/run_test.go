package relay

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/election"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/pipeline"
	"github.com/outbox-relay/relay/internal/takeover"
	"github.com/outbox-relay/relay/partitioning"
)

func TestRunPublishesEachRowOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.insertOrders(50, "before")
	s := r.start(r.config())
	s.awaitRows(t, 50)
	second := r.insertOrders(50, "after")
	s.awaitRows(t, 100)
	if got := s.relay.Status(); len(got) != 1 || got[0].State != Running || got[0].Seq != int64(len(s.batches)) || got[0].Lane != "outbox" {
		t.Errorf("status %+v", got)
	}
	if err := s.relay.Run(t.Context()); !errors.Is(err, errRunning) {
		t.Errorf("a second Run returned %v", err)
	}
	s.stop()
	if got := s.relay.Status(); len(got) != 0 {
		t.Errorf("status after the end %+v", got)
	}
	r.expect(orders, merge(first, second))
	murmur2, err := partitioning.New("murmur2")
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range r.records(orders, false) {
		if want := murmur2.Partition(record.Key, 3); record.Partition != int32(want) {
			t.Errorf("key %s lies on partition %d, want %d", record.Key, record.Partition, want)
		}
	}
	for i, b := range s.batches {
		if b.Seq != int64(i+1) || b.Lane != "outbox" || b.Rows == 0 || b.Bytes == 0 || b.Took <= 0 || time.Since(b.Oldest) > time.Hour {
			t.Errorf("batch %d was told as %+v", i, b)
		}
	}
	if seq := query[int64](t, r.conn, `SELECT seq FROM relay_lanes`); seq != int64(len(s.batches)) {
		t.Errorf("Postgres knows of batch %d, %d were committed", seq, len(s.batches))
	}
}

func TestManySmallPagesKeepTheOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	cfg.BatchRows = 3
	want := r.insertOrders(200, "v")
	s := r.start(cfg)
	s.awaitRows(t, 200)
	s.stop()
	r.expect(orders, want)
}

func TestARelayGoesOnWhereAnotherEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	cfg.BatchRows = 7
	want := make(map[string][]string)
	for i := range 4 {
		want = merge(want, r.insertOrders(40, strings.Repeat("r", i+1)))
		s := r.start(cfg)
		if i%2 == 0 {
			s.awaitRows(t, 10) // and away, in the middle of a window
		} else {
			s.await(t, "a batch", func(r *recorder) bool { return len(r.batches) > 0 })
		}
		s.stop()
	}
	last := r.start(cfg)
	insert(t, r.conn, "end", "end")
	r.awaitEnd(orders)
	last.stop()
	r.expect(orders, merge(want, theEnd))
}

func TestTwoRelaysShareALane(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one := r.start(r.config())
	first := r.insertOrders(20, "one")
	one.awaitRows(t, 20)
	two := r.start(r.config())
	second := r.insertOrders(20, "two")
	both := func() int { return rowsOf(one) + rowsOf(two) }
	deadline := time.Now().Add(patience)
	for both() < 40 && time.Now().Before(deadline) {
		insertNothing(t, r)
	}
	one.stop()
	third := r.insertOrders(20, "three")
	two.await(t, "the second relay takes the lane over", func(*recorder) bool { return two.rows > 0 })
	for both() < 60 && time.Now().Before(deadline) {
		insertNothing(t, r)
	}
	two.stop()
	r.expect(orders, merge(first, second, third))
}

func rowsOf(s *started) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows
}

// insertNothing is a round trip to the database: a pause that ends by itself.
func insertNothing(t *testing.T, r *rig) { t.Helper(); query[int](t, r.conn, `SELECT 1`) }

// A cancelled Run commits what was begun, and begins nothing.
func TestCancelDrainsTheBatchInFlight(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	cfg.Step = func(step pipeline.Step) {
		if step == pipeline.BeforeEnd {
			once.Do(func() { close(reached); <-release })
		}
	}
	want := r.insertOrders(20, "v")
	s := r.start(cfg)
	<-reached
	s.cancel()
	close(release)
	s.stop()
	r.expect(orders, want)
	if s.rows != 20 {
		t.Errorf("%d rows were told as committed", s.rows)
	}
}

// A drain that takes too long is given up: the batch is left to the next owner, and its rows come
// out once.
func TestADrainThatTakesTooLongIsGivenUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	cfg.DrainTimeout = 10 * time.Millisecond
	givenUp := make(chan struct{})
	cfg.Logger = slog.New(onMessage{"draining took too long", sync.OnceFunc(func() { close(givenUp) })})
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	cfg.Step = func(step pipeline.Step) {
		if step == pipeline.BeforeIntent {
			once.Do(func() { close(reached); <-release })
		}
	}
	want := r.insertOrders(20, "v")
	s := r.start(cfg)
	<-reached
	s.cancel()
	<-givenUp
	close(release)
	s.stop()
	next := r.start(r.config())
	insert(t, r.conn, "end", "end")
	r.awaitEnd(orders)
	next.stop()
	r.expect(orders, merge(want, theEnd))
}

// onMessage is a log handler that calls a function at each message that starts with a text.
type onMessage struct {
	text string
	call func()
}

func (h onMessage) Enabled(context.Context, slog.Level) bool { return true }
func (h onMessage) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h onMessage) WithGroup(string) slog.Handler            { return h }
func (h onMessage) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, h.text) {
		h.call()
	}
	return nil
}

func TestAMissingTopicIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	cfg.Route = "later.{aggregate_type}"
	want := r.insertOrders(20, "v")
	s := r.start(cfg)
	s.await(t, "the lane names the topic", func(rec *recorder) bool {
		reason := rec.state().Reason
		return rec.state().State == Running && strings.Contains(reason, "later.order") && strings.Contains(reason, "topics.create")
	})
	until(t, func() bool {
		return query[string](t, r.conn, `SELECT state || coalesce(reason, '') FROM relay_lanes`) == "running"+s.state().Reason
	})
	if err := r.cluster.CreateTopic("later.order", 3, nil); err != nil {
		t.Fatal(err)
	}
	s.awaitRows(t, 20)
	s.await(t, "the lane does without no topic", func(rec *recorder) bool { return rec.state().Reason == "" })
	if len(s.takeovers) != 1 {
		t.Errorf("it took %d takeovers to wait", len(s.takeovers))
	}
	s.stop()
	r.expect("later.order", want)
}

func TestARelayThatWaitsForATopicEndsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	cfg.Route = "never.{aggregate_type}"
	r.insertOrders(1, "v")
	s := r.start(cfg)
	s.awaitState(t, Waiting)
	s.stop()
}

func TestTopicsAreCreatedWhereAsked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	cfg.Route = "made.{aggregate_type}"
	cfg.Topics = Topics{Create: true, Partitions: 5, ReplicationFactor: 1}
	want := r.insertOrders(20, "v")
	s := r.start(cfg)
	s.awaitRows(t, 20)
	s.stop()
	if n := len(r.cluster.PartitionInfos("made.order")); n != 5 {
		t.Errorf("the topic has %d partitions", n)
	}
	r.expect("made.order", want)
}

// owner has taken the lane over, and publishes nothing.
type owner struct {
	*takeover.Owned
	row *lanestore.Row
}

// takeOver makes a process the owner of the lane without a group.
func (r *rig) takeOver(cfg Config, name string) (*owner, error) {
	r.t.Helper()
	cfg = cfg.WithDefaults()
	l := newLane(&cfg, cfg.Lanes[0], name, election.NewMember())
	row, err := lanestore.Open(r.t.Context(), l.cfg.rowOptions(cfg.Lanes[0], name))
	if err != nil {
		return nil, err
	}
	r.t.Cleanup(row.Close)
	owned, err := l.takeOver(r.t.Context(), row)
	if err == nil {
		r.t.Cleanup(owned.Close)
	} else {
		row.Close() // as a relay that gives up does
	}
	return &owner{owned, row}, err
}

// laneOwner opens the lane's row for a process of the given name.
func (r *rig) laneOwner(owner string) *lanestore.Row {
	r.t.Helper()
	cfg := r.config().WithDefaults()
	row, err := lanestore.Open(r.t.Context(), cfg.rowOptions(cfg.Lanes[0], owner))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(row.Close)
	return row
}

// runOnce takes the lane over and publishes what there is.
func (r *rig) runOnce(cfg Config) {
	r.t.Helper()
	s := r.start(cfg)
	n := query[int](r.t, r.conn, `SELECT count(*)::int FROM outbox`)
	s.awaitRows(r.t, n)
	s.stop()
}

func TestATakeoverHaltsWhereTheLogsContradictEachOther(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(r *rig, cfg *Config)
		says   string
	}{
		"the checkpoint topic was deleted": {func(r *rig, _ *Config) {
			if err := r.cluster.DeleteTopic(checkpoint.TopicName("test")); err != nil {
				r.t.Fatal(err)
			}
		}, "checkpoint topic is empty"},
		"Postgres was set back": {func(r *rig, _ *Config) { exec(r.t, r.conn, `UPDATE relay_lanes SET seq = seq - 1`) }, "restored to an earlier time"},
		"Postgres ran ahead":    {func(r *rig, _ *Config) { exec(r.t, r.conn, `UPDATE relay_lanes SET seq = seq + 2`) }, "lost records"},
		"its row was removed":   {func(r *rig, _ *Config) { exec(r.t, r.conn, `DELETE FROM relay_lanes`) }, "state was removed"},
		"the lanes have changed places": {func(r *rig, cfg *Config) {
			exec(r.t, r.conn, `DELETE FROM relay_bindings`)
			cfg.Lanes = []Lane{{Name: "other", Table: "outbox"}}
		}, "relay_lanes were changed or removed"},
		"another database under the same name": {func(r *rig, cfg *Config) { cfg.DatabaseURL = newDatabase(r.t) }, "written for database"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			want := r.insertOrders(3, "v")
			r.runOnce(r.config())
			cfg := r.config()
			c.change(r, &cfg)
			_, err := r.takeOver(cfg, "next")
			for range 50 { // a topic that has just been made anew is not known everywhere at once
				if !errors.Is(err, kerr.UnknownTopicOrPartition) {
					break
				}
				_, err = r.takeOver(cfg, "next")
			}
			if fault := (*checkpoint.HaltError)(nil); !errors.As(err, &fault) || !strings.Contains(fault.Diagnosis, c.says) {
				t.Errorf("got %v, want a halt that says %q", err, c.says)
			}
			r.expect(orders, want)
		})
	}
}

// Another database under the name of a running lane must not fence it.
func TestAStrangerDoesNotDisturbTheLane(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.insertOrders(10, "one")
	s := r.start(r.config())
	s.awaitRows(t, 10)
	cfg := r.config()
	cfg.DatabaseURL = newDatabase(t)
	if _, err := r.takeOver(cfg, "stranger"); err == nil {
		t.Fatal("a stranger took the lane over")
	}
	second := r.insertOrders(10, "two")
	s.awaitRows(t, 20)
	s.stop()
	if len(s.takeovers) != 1 {
		t.Errorf("the lane was taken over %d times", len(s.takeovers))
	}
	r.expect(orders, merge(first, second))
}

func TestACheckpointOfANewerVersionHalts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insertOrders(3, "v")
	r.runOnce(r.config())
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	record := &kgo.Record{Topic: checkpoint.TopicName("test"), Key: []byte(checkpoint.Key), Value: []byte(`{"version":2}`)}
	if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
		t.Fatal(err)
	}
	_, err = r.takeOver(r.config(), "next")
	if fault := (*checkpoint.HaltError)(nil); !errors.As(err, &fault) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("got %v", err)
	}
}
