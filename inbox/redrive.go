package inbox

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ParkedKey is a key of which messages are parked.
type ParkedKey struct {
	// ID is the row of inbox_parked_keys.
	ID int64
	// Topic and Key as in Message.
	Topic string
	Key   []byte
	// Last is the row of inbox_parked of the message that was the last one of the key; 0 where none is left.
	Last int64
}

// Redriven is what became of the first parked message of a key.
type Redriven struct {
	// Message is the one that was tried; without an ID where there was none.
	Message Message
	// Result is Processed, or Failed with the error that Redrive returned.
	Result Result
	// Row is the row of inbox_parked that the message had.
	Row int64
	// Left reports whether the key is still parked. Where it is not, its next message is handled as usual.
	Left bool
	// Busy reports that another process works on the key, or that nobody asks for a retry any more; nothing was done.
	Busy bool
}

// mostRedriveStarts is how often a parked message may be started and not ended before its retry counts as failed: it ends the process.
const mostRedriveStarts = 3

// Requested returns keys for which a retry is asked for, the one that waits longest first, limit at most. A key is left to the
// process that works on the partition of its first message, if there is one (see Open): only that one can keep new messages of the
// key waiting, so that its queue comes to an end.
func (i *Inbox[TTx]) Requested(ctx context.Context, limit int) ([]ParkedKey, error) {
	var keys []ParkedKey
	err := i.transact(ctx, func(tx Tx, _ TTx) (bool, error) {
		return false, ofDatabase(ctx, tx.Send(ctx, Statement{
			SQL: i.sql.requested, Args: []any{i.cfg.Consumer, int64(limit), i.session},
			Each: func(row Row) error {
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

// Redrive handles the first parked message of a key for which a retry is asked for, in one transaction with taking it out of the
// queue. Call it until Left is false: then the queue is empty, the request has ended, and the key is as any other. Meanwhile new
// messages of the key go to the end of its queue. After an error that stands, call RedriveFailed.
func (i *Inbox[TTx]) Redrive(ctx context.Context, key ParkedKey, handler func(ctx context.Context, tx TTx, m Message) error) (Redriven, error) {
	done := Redriven{Left: true}
	starts, err := i.startParked(ctx, key)
	if err == nil && starts > mostRedriveStarts {
		err = Permanent(fmt.Errorf("its process ended %d times while it was handled", starts-1))
	}
	if err == nil {
		err = i.again(ctx, func() (err error) {
			done, err = i.redriveOnce(ctx, key, handler)
			return err
		})
	}
	if err != nil {
		done.Result = Failed
		if done.Message.ID != "" {
			i.takeBack(ctx, done.Message.identity())
		}
		return done, fmt.Errorf("retry the first parked message of key %d: %w", key.ID, err)
	}
	if done.Busy || done.Message.ID != "" {
		return done, nil
	}
	done.Left, err = i.release(ctx, key)
	if err != nil {
		return done, fmt.Errorf("release key %d: %w", key.ID, err)
	}
	return done, nil
}

func (i *Inbox[TTx]) redriveOnce(ctx context.Context, key ParkedKey, handler func(context.Context, TTx, Message) error) (Redriven, error) {
	done := Redriven{Left: true}
	err := i.transactHandling(ctx, nil, func(tx Tx, native TTx) (bool, error) {
		taken, err := i.takeKey(ctx, tx, key)
		if err != nil || !taken {
			done.Busy = !taken
			return false, err
		}
		head, found, err := i.head(ctx, tx, key)
		if err != nil || !found {
			return false, err
		}
		done.Message, done.Row = head.Message, head.row
		err = i.call(WithMessage(ctx, head.Message), tx, func(ctx context.Context) error { return handler(ctx, native, head.Message) })
		if err != nil {
			return false, err
		}
		id := head.identity()
		err = tx.Send(ctx, Statement{SQL: i.sql.dropParked, Args: []any{head.row}},
			Statement{SQL: i.sql.dropStarted, Args: []any{i.cfg.Consumer, id.source, id.key.String()}})
		return true, ofDatabase(ctx, err)
	}, i.handlerBounds().set())
	if err == nil && done.Message.ID != "" {
		done.Result = Processed
	}
	return done, err
}

// takeKey reports whether the key is ours to take messages from.
func (i *Inbox[TTx]) takeKey(ctx context.Context, tx Tx, key ParkedKey) (taken bool, err error) {
	err = tx.Send(ctx, Statement{SQL: i.sql.claimKey, Args: []any{key.ID}, Each: func(row Row) error {
		taken = true
		var id int64
		return row.Scan(&id)
	}})
	if err != nil {
		return false, fmt.Errorf("take the key: %w", ofStatement(ctx, err))
	}
	return taken, nil
}

// parkedMessage is a message with its row.
type parkedMessage struct {
	Message
	row   int64
	cause Cause
}

func (i *Inbox[TTx]) head(ctx context.Context, tx Tx, key ParkedKey) (head parkedMessage, found bool, err error) {
	err = tx.Send(ctx, Statement{SQL: i.sql.head, Args: []any{key.ID}, Each: func(row Row) error {
		found = true
		var when *time.Time
		var headers string
		m := &head.Message
		err := row.Scan(&head.row, &m.Topic, &m.Key, &m.Source, &m.ID, &m.Type, &m.Partition, &m.Offset, &when, &m.Payload,
			&head.cause, &headers)
		if err != nil {
			return err
		}
		if when != nil {
			m.Time = *when
		}
		m.Headers, err = readHeaders(headers)
		return err
	}})
	if err != nil {
		return head, false, fmt.Errorf("read the parked message: %w", ofStatement(ctx, err))
	}
	return head, found, nil
}

// readHeaders reads the JSON that the statement makes: [[name, value], …] in hexadecimal, null for no value.
func readHeaders(text string) ([]Header, error) {
	var pairs [][2]*string
	if err := json.Unmarshal([]byte(text), &pairs); err != nil {
		return nil, fmt.Errorf("read headers: %w", err)
	}
	var headers []Header
	for _, pair := range pairs {
		var h Header
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
var errUnread = errors.New("its records were never read; read them from the topic with a consumer that has the room, and discard the entry")

// startParked records, before it is handled, that the first message of the key is about to be, and returns how often that was
// recorded and not ended. A message that ends its process would otherwise do so as soon as the next one starts, for ever.
func (i *Inbox[TTx]) startParked(ctx context.Context, key ParkedKey) (starts int, err error) {
	err = i.again(ctx, func() error {
		return i.transact(ctx, func(tx Tx, _ TTx) (bool, error) {
			taken, err := i.takeKey(ctx, tx, key)
			if err != nil || !taken {
				return false, err
			}
			head, found, err := i.head(ctx, tx, key)
			if err != nil || !found {
				return false, err
			}
			if head.cause == CauseSize {
				return false, Permanent(errUnread)
			}
			id := head.identity()
			err = tx.Send(ctx, durably, Statement{
				SQL: i.sql.startParked, Args: []any{i.cfg.Consumer, id.source, id.key.String()},
				Each: func(row Row) error { return row.Scan(&starts) },
			})
			return err == nil, ofStatement(ctx, err)
		})
	})
	return starts, err
}

// release removes the row of a key whose queue is empty. Who adds a message holds the row, so the queue is looked at once that
// transaction has ended: in a statement after the lock.
func (i *Inbox[TTx]) release(ctx context.Context, key ParkedKey) (left bool, err error) {
	err = i.again(ctx, func() error {
		left = false
		return i.transact(ctx, func(tx Tx, _ TTx) (bool, error) {
			locked, dropped := false, int64(0)
			err := tx.Send(ctx,
				Statement{SQL: i.sql.lockKey, Args: []any{key.ID}, Each: func(row Row) error {
					locked = true
					var id int64
					return row.Scan(&id)
				}},
				Statement{SQL: i.sql.dropKey, Args: []any{key.ID}, Affected: &dropped})
			if err != nil {
				return false, ofDatabase(ctx, err)
			}
			if left = locked && dropped == 0; left || !locked {
				return false, nil
			}
			return true, i.auditRetry(ctx, tx, key, nil, map[string]any{"outcome": "all messages of the key are handled"})
		})
	})
	return left, err
}

// RedriveFailed ends the request for a retry, which failed: the first message keeps its place with the error, and the key stays parked
// until somebody asks again.
func (i *Inbox[TTx]) RedriveFailed(ctx context.Context, key ParkedKey, why error) error {
	err := i.again(ctx, func() error {
		return i.transact(ctx, func(tx Tx, _ TTx) (bool, error) {
			taken, err := i.takeKey(ctx, tx, key)
			if err != nil || !taken {
				return false, err
			}
			head, found, err := i.head(ctx, tx, key)
			if err != nil || !found {
				return false, err
			}
			id := head.identity()
			err = tx.Send(ctx,
				Statement{SQL: i.sql.failed, Args: []any{key.ID, errorText(why)}},
				Statement{SQL: i.sql.endRequest, Args: []any{key.ID}},
				Statement{SQL: i.sql.dropStarted, Args: []any{i.cfg.Consumer, id.source, id.key.String()}})
			if err != nil {
				return false, ofDatabase(ctx, err)
			}
			details := map[string]any{"outcome": "failed again", "error": errorText(why)}
			return true, i.auditRetry(ctx, tx, key, &head.Message, details)
		})
	})
	if err != nil {
		return fmt.Errorf("end the retry of key %d: %w", key.ID, err)
	}
	i.cfg.Logger.WarnContext(ctx, "retry of a parked key failed", "consumer", i.cfg.Consumer, "topic", key.Topic, "key_id", key.ID,
		"error", why)
	return nil
}

func (i *Inbox[TTx]) auditRetry(ctx context.Context, tx Tx, key ParkedKey, m *Message, details map[string]any) error {
	var source, id any
	if m != nil {
		source, id = m.Source, m.ID
	}
	return i.audit(ctx, tx, "retried", key.Topic, key.Key, source, id, details)
}

func (i *Inbox[TTx]) audit(ctx context.Context, tx Tx, action, topic string, key []byte, source, id any, details map[string]any) error {
	text, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("write the audit: %w", err)
	}
	err = tx.Send(ctx, Statement{
		SQL: i.sql.audit, Args: []any{i.cfg.Consumer, action, topic, orNull(key), source, id, string(text)},
	})
	if err != nil {
		return fmt.Errorf("write the audit: %w", ofDatabase(ctx, err))
	}
	return nil
}
