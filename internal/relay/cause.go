package relay

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/topics"
)

// Cause is what impairs a lane, as one of a few words: its Reason is for people, and this is for
// metrics.
type Cause string

// The causes.
const (
	// CauseHalted: the lane has halted.
	CauseHalted Cause = "halted"
	// CauseKafka: brokers do not answer, or refuse.
	CauseKafka Cause = "kafka"
	// CausePostgres: Postgres does not answer, or refuses.
	CausePostgres Cause = "postgres"
	// CauseTopic: the lane waits for a topic, or parks what goes there.
	CauseTopic Cause = "topic"
	// CauseTable: a session of another program keeps readers off the outbox.
	CauseTable Cause = "table"
	// CauseTransaction: the end of a transaction is not written everywhere.
	CauseTransaction Cause = "transaction"
	// CauseParking: so much is parked that nothing new is published.
	CauseParking Cause = "parking"
	// CauseLock: a stranger has the lane's lock.
	CauseLock Cause = "lock"
	// CauseSettings: this process has other settings than the owner of the lane.
	CauseSettings Cause = "settings"
	// CauseOther: anything else.
	CauseOther Cause = "other"
)

// causeOf finds out what a failure is about.
func causeOf(err error) Cause {
	if cause, ok := errors.AsType[*causedError](err); ok {
		return cause.cause
	}
	if _, ok := errors.AsType[*checkpoint.HaltError](err); ok {
		return CauseHalted
	}
	_, ofServer := errors.AsType[*pgconn.PgError](err)
	_, ofConnecting := errors.AsType[*pgconn.ConnectError](err)
	_, ofBroker := errors.AsType[*kerr.Error](err)
	_, ofNetwork := errors.AsType[net.Error](err)
	switch {
	case parking.IsFull(err):
		return CauseParking
	case topics.IsWaiting(err):
		return CauseTopic
	case ofServer, ofConnecting, pgconn.Timeout(err), pg.Refused(err) != nil, errors.Is(err, lanestore.ErrLost):
		return CausePostgres
	case ofBroker, ofNetwork, errors.Is(err, kgo.ErrClientClosed), errors.Is(err, io.EOF), errors.Is(err, context.DeadlineExceeded):
		// What goes to Postgres and is cut off has been told apart by the state of its session.
		return CauseKafka
	}
	return CauseOther
}

// causedError is an error whose cause is known where it is returned.
type causedError struct {
	error
	cause Cause
}

func (e *causedError) Unwrap() error { return e.error }

// ofPostgres marks an error of a session on Postgres.
func ofPostgres(err error) error {
	if _, halted := errors.AsType[*checkpoint.HaltError](err); err == nil || halted {
		return err
	}
	return &causedError{err, CausePostgres}
}
