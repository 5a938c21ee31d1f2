package relay

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/pipeline"
	"github.com/outbox-relay/relay/internal/position"
)

// One partition of three refuses its records: nothing of that transaction may be seen, also not
// what was accepted.
func TestAnErrorOfOnePartitionAbortsTheWholeBatch(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]*kerr.Error{
		"an unknown error": kerr.UnknownServerError, "an unknown producer": kerr.InvalidProducerIDMapping,
		"a lost transaction": kerr.InvalidTxnState,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			fault := r.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: orders, Partitions: []int32{1}, Err: code})
			want := r.insertOrders(30, "v")
			s := r.start(r.config())
			s.awaitRows(t, 30)
			s.stop()
			if fault.Hits() != 1 {
				t.Fatalf("the fault was met %d times", fault.Hits())
			}
			if len(s.takeovers) < 2 {
				t.Errorf("%d takeovers: the lane went on in place", len(s.takeovers))
			}
			r.expect(orders, want)
			if written := len(r.records(orders, true)); written <= 30 {
				t.Errorf("the log holds %d records: the batch that failed has left none, so the test shows nothing", written)
			}
		})
	}
}

// An outage of a partition delays; it is not the fault of a row and loses nothing.
func TestAPartitionWithoutALeaderIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	fault := r.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: orders, Partitions: []int32{1}, Err: kerr.NotLeaderForPartition, Count: 5})
	want := r.insertOrders(30, "v")
	s := r.start(r.config())
	s.awaitRows(t, 30)
	s.stop()
	if fault.Hits() != 5 {
		t.Errorf("the fault was met %d times", fault.Hits())
	}
	r.expect(orders, want)
}

// lossyDialer makes connections on which, once armed, the answer to one EndTxn is lost: the broker
// has done its work, and the connection ends before the relay hears of it.
type lossyDialer struct {
	armed atomic.Bool
	lost  atomic.Int64
}

func (d *lossyDialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &lossyConn{Conn: conn, dialer: d}, nil
}

type lossyConn struct {
	net.Conn
	dialer *lossyDialer
	doomed atomic.Bool
}

// Write looks at the key of the request, which follows four bytes of length.
func (c *lossyConn) Write(b []byte) (int, error) {
	if len(b) > 6 && b[4] == 0 && b[5] == byte(kmsg.EndTxn) && c.dialer.armed.CompareAndSwap(true, false) {
		c.doomed.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *lossyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil && c.doomed.Load() {
		c.dialer.lost.Add(1)
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

func TestACommitWhoseAnswerIsLostIsNeitherLostNorDoubled(t *testing.T) {
	t.Parallel()
	for lost := range 4 {
		t.Run(fmt.Sprint(lost), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			cfg := r.config()
			dialer := new(lossyDialer)
			cfg.KafkaOptions = append(cfg.KafkaOptions, kgo.Dialer(dialer.dial))
			cfg.BatchRows = 10
			var ends atomic.Int64
			cfg.Step = func(step pipeline.Step) {
				if step == pipeline.BeforeEnd && ends.Add(1) == int64(lost+1) {
					dialer.armed.Store(true)
				}
			}
			want := r.insertOrders(50, "v")
			s := r.start(cfg)
			s.await(t, "an answer is lost", func(*recorder) bool { return dialer.lost.Load() == 1 && len(s.batches) > 0 })
			insert(t, r.conn, "end", "end")
			r.awaitEnd(orders)
			s.stop()
			r.expect(orders, merge(want, theEnd))
		})
	}
}

// small makes a topic that takes no batch of more than 2,000 bytes.
func (r *rig) small(topic string) {
	r.t.Helper()
	limit := "2000"
	if err := r.cluster.CreateTopic(topic, 3, map[string]string{"max.message.bytes": limit}); err != nil {
		r.t.Fatal(err)
	}
}

// insertTooLarge writes an event that no compression makes small, and returns its id.
func (r *rig) insertTooLarge(key string) int64 {
	r.t.Helper()
	payload := make([]byte, 10_000)
	if _, err := rand.Read(payload); err != nil {
		r.t.Fatal(err)
	}
	return query[int64](r.t, r.conn,
		`INSERT INTO outbox (aggregate_type, aggregate_id, type, payload) VALUES ('order', $1, 'T', $2) RETURNING id`, key, payload)
}

func TestARowTooLargeHaltsTheLaneBehindWhatStandsBeforeIt(t *testing.T) {
	t.Parallel()
	// With a disk that is slow to take an intent, the row is refused while what stands before it is
	// still in flight.
	for disk, delay := range map[string]float64{"fast": 0, "slow": 0.2} {
		for _, rows := range []int{1, 40} {
			t.Run(fmt.Sprintf("%s/%d", disk, rows), func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				r.small("small.order")
				slow := open(t, r.url)
				cfg := r.config()
				cfg.Route, cfg.Poison = "small.{aggregate_type}", parking.Halt
				cfg.Step = func(step pipeline.Step) {
					if step == pipeline.BeforeIntent && delay > 0 {
						exec(t, slow, `SELECT pg_sleep($1)`, delay)
					}
				}
				before := r.insertOrders(rows, "before")
				id := r.insertTooLarge("o-1")
				after := r.insertOrders(40, "after")
				s := r.start(cfg)
				expectHaltAt(t, r, s, id)
				r.expect("small.order", before)
				exec(t, r.conn, `DELETE FROM outbox WHERE id = $1`, id)
				insert(t, r.conn, "end", "end")
				if byItself := disk == "fast" && rows == 40; !byItself {
					s.stop() // it would look again in a while
					cfg.Step = nil
					s = r.start(cfg)
				}
				r.awaitEnd("small.order")
				s.stop()
				r.expect("small.order", merge(before, after, theEnd))
			})
		}
	}
}

func expectHaltAt(t *testing.T, r *rig, s *started, id int64) {
	t.Helper()
	reason := s.awaitState(t, Halted)
	for _, says := range []string{fmt.Sprintf("row id %d ", id), "small.order", "delete the row"} {
		if !strings.Contains(reason, says) {
			t.Errorf("the reason does not say %q: %s", says, reason)
		}
	}
	until(t, func() bool {
		return query[string](t, r.conn, `SELECT concat(state, ' ', reason) FROM relay_lanes`) == "halted "+reason
	})
}

func TestARowWithAnIllegalTopicHaltsTheLane(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	before := r.insertOrders(10, "before")
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic) VALUES ('order', 'o-1', 'T', 'a b')`)
	r.insertOrders(10, "after")
	cfg := r.config()
	cfg.Poison = parking.Halt
	s := r.start(cfg)
	reason := s.awaitState(t, Halted)
	if id := query[int64](t, r.conn, `SELECT id FROM outbox WHERE topic IS NOT NULL`); !strings.Contains(reason, fmt.Sprintf("row id %d ", id)) {
		t.Errorf("the reason is %q", reason)
	}
	s.stop()
	r.expect(orders, before)
}

// Another process announces itself while a batch is in flight: the batch is not committed by the
// one that has lost the lane.
func TestAnOwnerWhoseEpochIsStolenStops(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	thief := r.laneOwner("thief")
	cfg := r.config()
	var once sync.Once
	cfg.Step = func(step pipeline.Step) {
		if step == pipeline.BeforeIntent {
			once.Do(func() {
				if _, err := thief.RaiseEpoch(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	want := r.insertOrders(20, "v")
	s := r.start(cfg)
	s.awaitRows(t, 20)
	if err := thief.Intent(t.Context(), lanestore.Intent{Seq: 1, After: position.Position{From: position.Beginning}}, nil); err == nil {
		t.Error("two owners write intents")
	}
	s.stop()
	if len(s.takeovers) != 2 {
		t.Errorf("the lane was taken over %d times", len(s.takeovers))
	}
	if epoch := query[int64](t, r.conn, `SELECT owner_epoch FROM relay_lanes`); epoch != 3 {
		t.Errorf("the owner's epoch is %d", epoch)
	}
	r.expect(orders, want)
}

// The thief keeps the lock: the first owner stands by and has published nothing of the batch in
// flight.
func TestAnOwnerWhoHasLostTheLockStandsBy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	thief, waiter := r.laneOwner("thief"), open(t, r.url)
	exec(t, waiter, `SET lock_timeout = 0`)
	locked := make(chan error, 1)
	cfg := r.config()
	var once sync.Once
	cfg.Step = func(step pipeline.Step) {
		if step == pipeline.BeforeIntent {
			once.Do(func() {
				go func() {
					_, err := waiter.Exec(context.Background(), `SELECT pg_advisory_lock(`+lanestore.LockKey("$1")+`)`, "outbox")
					locked <- err
				}()
				awaitWaiter(t, r)
				if _, err := thief.RaiseEpoch(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	r.insertOrders(20, "v")
	s := r.start(cfg)
	if err := <-locked; err != nil {
		t.Fatal(err)
	}
	s.await(t, "the lane stands by", func(s *recorder) bool { return len(s.takeovers) == 1 && s.state().State == Standby })
	s.stop()
	if s.rows != 0 {
		t.Errorf("%d rows were committed", s.rows)
	}
	r.expect(orders, nil)
}

// awaitWaiter returns once a session waits for the lane's lock.
func awaitWaiter(t *testing.T, r *rig) {
	t.Helper()
	until(t, func() bool {
		return query[bool](t, r.conn, `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
	})
}

// The session that holds the lane's lock ends: the batch in flight is not committed twice, and the
// lane comes back.
func TestAnOwnerWhoseSessionIsEndedTakesOverAnew(t *testing.T) {
	t.Parallel()
	for _, at := range []pipeline.Step{pipeline.BeforeIntent, pipeline.AfterIntent, pipeline.BeforeEnd} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			cfg := r.config()
			var once sync.Once
			cfg.Step = func(step pipeline.Step) {
				if step == at {
					once.Do(func() {
						if n := query[int](t, r.conn, `SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))::int FROM (SELECT pid
							FROM pg_stat_activity WHERE application_name LIKE 'relay %' AND datname = current_database() OFFSET 0) mine`); n < 2 { // the cleaner may have one too
							t.Errorf("%d sessions were ended", n)
						}
					})
				}
			}
			want := r.insertOrders(20, "v")
			s := r.start(cfg)
			s.await(t, "it takes over anew", func(*recorder) bool { return len(s.takeovers) > 1 })
			insert(t, r.conn, "end", "end")
			r.awaitEnd(orders)
			s.stop()
			r.expect(orders, merge(want, theEnd))
		})
	}
}
