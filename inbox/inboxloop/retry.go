package inboxloop

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
	"github.com/outbox-relay/relay/inbox/internal/ledger"
)

// ParkedKey is a key of which messages are parked.
type ParkedKey struct {
	// ID is the row of inbox_parked_keys.
	ID int64
	// Topic and Key as in Message.
	Topic string
	Key   []byte
	// Last is the row of inbox_parked of the message that was the last one of the key; 0 if none is
	// left.
	Last int64
}

// Retried is what became of the first parked message of a key.
type Retried struct {
	// Message is the one that was tried; without an ID if there was none.
	Message inbox.Message
	// Result is Processed, or Failed with the error that Retry returned.
	Result inbox.Result
	// Row is the row of inbox_parked that the message had.
	Row int64
	// Left reports whether the key is still parked. If it is not, its next message is handled as
	// usual.
	Left bool
	// Busy reports that another process works on the key, or that the request for a retry has ended;
	// nothing was done.
	Busy bool
}

// mostRetryStarts is how often a parked message may be started and not ended before its retry
// counts as failed: it ends the process.
const mostRetryStarts = 3

// Requested returns keys for which a retry is asked for, the one that waits longest first, limit at
// most. A key is left to the process that works on the partition of its first message, if there is
// one (see Open): only that one can keep new messages of the key waiting, so that its queue comes
// to an end.
func (l *Loop[TTx]) Requested(ctx context.Context, limit int) ([]ParkedKey, error) {
	var keys []ParkedKey
	err := l.ledger.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
		return false, failure.OfDatabase(ctx, tx.Send(ctx, inboxdriver.Statement{
			SQL: l.ledger.SQL.Requested, Args: []any{l.ledger.Consumer, int64(limit), l.ledger.Session},
			Each: func(row inboxdriver.Row) error {
				var k ParkedKey
				err := row.Scan(&k.ID, &k.Topic, &k.Key, &k.Last)
				keys = append(keys, k)
				return err
			},
		}))
	})
	if err != nil {
		return nil, fmt.Errorf("look for retries that are asked for: %w", err)
	}
	return keys, nil
}

// Retry handles the first parked message of a key for which a retry is asked for, in one
// transaction with taking it out of the queue. Call it until Left is false: then the queue is
// empty, the request has ended, and the key is as any other. Meanwhile new messages of the key go
// to the end of its queue. After an error that stands, call RetryFailed.
func (l *Loop[TTx]) Retry(
	ctx context.Context, key ParkedKey, handler func(ctx context.Context, tx TTx, m inbox.Message) error,
) (Retried, error) {
	done := Retried{Left: true}
	starts, err := l.startParked(ctx, key)
	if err == nil && starts > mostRetryStarts {
		err = inbox.Permanent(fmt.Errorf("its process ended %d times while it was handled", starts-1))
	}
	if err == nil {
		err = l.ledger.Rerun(ctx, func() (err error) {
			done, err = l.retryHead(ctx, key, handler)
			return err
		})
	}
	if err != nil {
		done.Result = inbox.Failed
		if done.Message.ID != "" {
			l.ledger.TakeBack(ctx, identify(done.Message))
		}
		return done, fmt.Errorf("retry the first parked message of key %d: %w", key.ID, err)
	}
	if done.Busy || done.Message.ID != "" {
		return done, nil
	}
	done.Left, err = l.release(ctx, key)
	if err != nil {
		return done, fmt.Errorf("release key %d: %w", key.ID, err)
	}
	return done, nil
}

func (l *Loop[TTx]) retryHead(
	ctx context.Context, key ParkedKey, handler func(context.Context, TTx, inbox.Message) error,
) (Retried, error) {
	done := Retried{Left: true}
	err := l.ledger.DoHandling(ctx, nil, func(tx inboxdriver.Tx, native TTx) (bool, error) {
		head, err := l.head(ctx, tx, key)
		if err != nil || !head.found {
			done.Busy = !head.taken
			return false, err
		}
		done.Message, done.Row = head.Message, head.row
		err = l.ledger.Call(inbox.WithMessage(ctx, head.Message), tx, func(ctx context.Context) error {
			return handler(ctx, native, head.Message)
		})
		if err != nil {
			return false, err
		}
		id := identify(head.Message)
		err = tx.Send(ctx, inboxdriver.Statement{SQL: l.ledger.SQL.DropParked, Args: []any{head.row}},
			inboxdriver.Statement{
				SQL: l.ledger.SQL.DropStarted, Args: []any{l.ledger.Consumer, id.Source, id.Mark.String()},
			})
		return true, failure.OfDatabase(ctx, err)
	}, l.ledger.HandlerBounds().Set())
	if err == nil && done.Message.ID != "" {
		done.Result = inbox.Processed
	}
	return done, err
}

// head is the first parked message of a key: taken is whether the key is ours to take messages
// from, and found whether there is one.
type head struct {
	inbox.Message
	row          int64
	cause        inbox.Cause
	taken, found bool
}

// head takes the key, and reads its first message.
func (l *Loop[TTx]) head(ctx context.Context, tx inboxdriver.Tx, key ParkedKey) (h head, err error) {
	claimed := func(row inboxdriver.Row) error {
		h.taken = true
		var id int64
		return row.Scan(&id)
	}
	err = tx.Send(ctx, inboxdriver.Statement{SQL: l.ledger.SQL.ClaimKey, Args: []any{key.ID}, Each: claimed})
	if err != nil {
		return h, fmt.Errorf("take the key: %w", failure.OfStatement(ctx, err))
	}
	if !h.taken {
		return h, nil
	}
	// In a statement after the lock: what another process took out before is gone.
	read := func(row inboxdriver.Row) error {
		h.found = true
		var when *time.Time
		var headers string
		m := &h.Message
		err := row.Scan(&h.row, &m.Topic, &m.Key, &m.Source, &m.ID, &m.Type, &m.Partition, &m.Offset, &when, &m.Payload,
			&h.cause, &headers)
		if err != nil {
			return err
		}
		if when != nil {
			m.Time = *when
		}
		m.Headers, err = readHeaders(headers)
		return err
	}
	err = tx.Send(ctx, inboxdriver.Statement{SQL: l.ledger.SQL.Head, Args: []any{key.ID}, Each: read})
	if err != nil {
		return h, fmt.Errorf("read the parked message: %w", failure.OfStatement(ctx, err))
	}
	return h, nil
}

// readHeaders reads the JSON that the statement makes: [[name, value], …] in hexadecimal, null for
// no value.
func readHeaders(text string) ([]inbox.Header, error) {
	var pairs [][2]*string
	if err := json.Unmarshal([]byte(text), &pairs); err != nil {
		return nil, fmt.Errorf("read headers: %w", err)
	}
	var headers []inbox.Header
	for _, pair := range pairs {
		var h inbox.Header
		for n, digits := range pair {
			if digits == nil {
				continue
			}
			decoded, err := hex.DecodeString(*digits)
			if err != nil {
				return nil, fmt.Errorf("read headers: %w", err)
			}
			if n == 0 {
				h.Name = string(decoded)
			} else {
				h.Value = decoded
			}
		}
		headers = append(headers, h)
	}
	return headers, nil
}

// errUnread is why what is parked with CauseSize cannot be handled.
var errUnread = errors.New("its records were never read; read them from the topic with a consumer that has the room, " +
	"and discard the entry")

// startParked records, before it is handled, that the first message of the key is about to be, and
// returns how often that was recorded and not ended. A message that ends its process would
// otherwise do so as soon as the next one starts, forever.
func (l *Loop[TTx]) startParked(ctx context.Context, key ParkedKey) (starts int, err error) {
	err = l.ledger.Rerun(ctx, func() error {
		return l.ledger.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
			head, err := l.head(ctx, tx, key)
			if err != nil || !head.found {
				return false, err
			}
			if head.cause == inbox.CauseSize {
				return false, inbox.Permanent(errUnread)
			}
			id := identify(head.Message)
			err = tx.Send(ctx, ledger.Durably, inboxdriver.Statement{
				SQL: l.ledger.SQL.StartParked, Args: []any{l.ledger.Consumer, id.Source, id.Mark.String()},
				Each: func(row inboxdriver.Row) error { return row.Scan(&starts) },
			})
			return err == nil, failure.OfStatement(ctx, err)
		})
	})
	return starts, err
}

// release removes the row of a key whose queue is empty. A process that adds a message holds the
// row, so the queue is looked at once that transaction has ended: in a statement after the lock.
func (l *Loop[TTx]) release(ctx context.Context, key ParkedKey) (left bool, err error) {
	err = l.ledger.Rerun(ctx, func() error {
		left = false
		return l.ledger.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
			locked, dropped := false, int64(0)
			err := tx.Send(ctx,
				inboxdriver.Statement{SQL: l.ledger.SQL.LockKey, Args: []any{key.ID}, Each: func(row inboxdriver.Row) error {
					locked = true
					var id int64
					return row.Scan(&id)
				}},
				inboxdriver.Statement{SQL: l.ledger.SQL.DropKey, Args: []any{key.ID}, Affected: &dropped})
			if err != nil {
				return false, failure.OfDatabase(ctx, err)
			}
			if left = locked && dropped == 0; left || !locked {
				return false, nil
			}
			return true, l.auditRetry(ctx, tx, key, nil, map[string]any{"outcome": "all messages of the key are handled"})
		})
	})
	return left, err
}

// RetryFailed ends the request for a retry, which failed: the first message keeps its place with
// the error, and the key stays parked until somebody asks again.
func (l *Loop[TTx]) RetryFailed(ctx context.Context, key ParkedKey, why error) error {
	err := l.ledger.Rerun(ctx, func() error {
		return l.ledger.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
			head, err := l.head(ctx, tx, key)
			if err != nil || !head.found {
				return false, err
			}
			id := identify(head.Message)
			err = tx.Send(ctx,
				inboxdriver.Statement{SQL: l.ledger.SQL.Failed, Args: []any{key.ID, l.ledger.ErrorText(why)}},
				inboxdriver.Statement{SQL: l.ledger.SQL.EndRequest, Args: []any{key.ID}},
				inboxdriver.Statement{
					SQL: l.ledger.SQL.DropStarted, Args: []any{l.ledger.Consumer, id.Source, id.Mark.String()},
				})
			if err != nil {
				return false, failure.OfDatabase(ctx, err)
			}
			details := map[string]any{"outcome": "failed again", "error": l.ledger.ErrorText(why)}
			return true, l.auditRetry(ctx, tx, key, &head.Message, details)
		})
	})
	if err != nil {
		return fmt.Errorf("end the retry of key %d: %w", key.ID, err)
	}
	l.ledger.Logger.WarnContext(ctx, "retry of a parked key failed", "consumer", l.ledger.Consumer, "topic", key.Topic,
		"key_id", key.ID,
		"error", why)
	return nil
}

func (l *Loop[TTx]) auditRetry(
	ctx context.Context, tx inboxdriver.Tx, key ParkedKey, m *inbox.Message, details map[string]any,
) error {
	var source, id any
	if m != nil {
		source, id = m.Source, m.ID
	}
	return l.ledger.Audit(ctx, tx, "retried", key.Topic, key.Key, source, id, details)
}
