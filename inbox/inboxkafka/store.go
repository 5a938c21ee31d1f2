package inboxkafka

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/inbox"
)

// store is what the loop needs of an *inbox.Inbox. Tests put their own in its place.
type store interface {
	Check(context.Context) error
	Incarnation(context.Context) (inbox.Incarnation, error)
	Bind(context.Context, inbox.Incarnation) context.Context
	Flush(context.Context, inbox.Incarnation) error
	Handle(context.Context, inbox.Message, func(context.Context, pgx.Tx) error) (inbox.Result, error)
	HandleBatch(context.Context, []inbox.Message, func(context.Context, pgx.Tx, []inbox.Message) error) ([]inbox.Outcome, error)
	AtMostOnce(context.Context, inbox.Message, func(context.Context) error) (inbox.Result, error)
	Park(ctx context.Context, m inbox.Message, cause inbox.Cause, attempts int, why error) (inbox.Result, error)
	Seen(context.Context, []inbox.Message) ([]bool, error)
	Started(context.Context, []inbox.Message) ([]int, error)
	Start(context.Context, []inbox.Message) ([]int, error)
	Open(ctx context.Context, topic string, partition int32) (crashed bool, err error)
	Close(ctx context.Context, topic string, partition int32) error
	Requested(ctx context.Context, limit int) ([]inbox.ParkedKey, error)
	Redrive(context.Context, inbox.ParkedKey, func(context.Context, pgx.Tx, inbox.Message) error) (inbox.Redriven, error)
	RedriveFailed(ctx context.Context, key inbox.ParkedKey, why error) error
	Retain(ctx context.Context, keep time.Duration, claimants ...string) error
	Sweep(context.Context) (inbox.Swept, error)
	RedriveOnce(context.Context, inbox.ParkedKey, func(context.Context, inbox.Message) error) (inbox.Redriven, error)
}
