package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/parking"
)

// Without Kafka a lane cannot be taken over, and what waits in its outbox is counted all the same:
// by the process that has the lane, and by no other.
func TestTheBacklogIsCountedWhileKafkaIsAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insertOrders(3, "v")
	cfg := r.config()
	cfg.Brokers = []string{"127.0.0.1:1"}
	cfg.KafkaOptions = nil
	s := r.start(cfg)
	status := func(s *started) LaneStatus {
		if lanes := s.relay.Status(); len(lanes) > 0 {
			return lanes[0]
		}
		return LaneStatus{} // it begins
	}
	until(t, func() bool {
		l := status(s)
		return l.State == Waiting && slices.Equal(l.Causes, []Cause{CauseKafka}) && l.Backlog != nil && l.Backlog.Rows == 3 && l.Backlog.Age > 0
	})
	other := r.start(cfg)
	until(t, func() bool { return status(other).State == Standby })
	if b := status(other).Backlog; b != nil {
		t.Errorf("a process that does not have the lane counts %+v", b)
	}
	s.stop()
	until(t, func() bool { b := status(other).Backlog; return b != nil && b.Rows == 3 })
}

// A table that is locked makes no error: the reads just wait. The lane says so, and by which session.
func TestALockedTableIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg, log := logging(r.config())
	s := r.start(cfg)
	r.insertOrders(3, "v")
	s.awaitRows(t, 3)
	until(t, func() bool { b := s.relay.Status()[0].Backlog; return b != nil && b.Rows == 0 })
	exec(t, r.conn, `SET application_name = 'maintenance'; BEGIN; LOCK TABLE outbox`)
	s.await(t, "the lane says so", func(s *recorder) bool {
		l := s.state()
		return l.State == Running && strings.Contains(l.Reason, `application "maintenance"`) && slices.Equal(l.Causes, []Cause{CauseTable})
	})
	exec(t, r.conn, `COMMIT`)
	s.await(t, "the lane says that it is over", func(s *recorder) bool { return s.state().State == Running && s.state().Reason == "" })
	if n := log.count("level=WARN", "nothing can be read", "maintenance"); n != 1 {
		t.Errorf("the lock was told of %d times", n)
	}
}

func TestTheCauseOfAFailureIsOneOfAFewWords(t *testing.T) {
	for want, errs := range map[Cause][]error{
		CauseHalted:   {fmt.Errorf("take over: %w", checkpoint.Halt("do this", "that happened")), ofPostgres(checkpoint.Halt("a", "b"))},
		CausePostgres: {&pgconn.PgError{Code: "42501"}, &pgconn.ConnectError{}, lanestore.ErrLost, ofPostgres(io.ErrUnexpectedEOF)},
		CauseKafka:    {kerr.CoordinatorNotAvailable, fmt.Errorf("flush: %w", context.DeadlineExceeded), io.EOF},
		CauseParking:  {parking.New(parking.Options{}, nil, nil).ErrFull()},
		CauseOther:    {errors.New("something")},
	} {
		for _, err := range errs {
			if got := causeOf(err); got != want {
				t.Errorf("the cause of %v is %s, want %s", err, got, want)
			}
		}
	}
}
