package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/hint"
)

// KeyQueue is one parked key in full.
type KeyQueue struct {
	KeyName
	// RequestedAt is since when a retry is asked for, RequestedBy by whom and Reason why; nil where
	// none is.
	RequestedAt *time.Time `json:"requested_at"`
	RequestedBy *string    `json:"requested_by"`
	Reason      *string    `json:"reason"`
	// TotalMessages counts the parked messages, also beyond the limit.
	TotalMessages int64 `json:"total_messages"`
	// Messages are the first messages, in the order in which they are to be handled.
	Messages []Message `json:"messages"`
	// Audit are the newest entries about the key, the newest first.
	Audit []Entry `json:"audit"`
}

// Message is a parked message.
type Message struct {
	// ID is its number in the queue, Source and MsgID its identity.
	ID     int64  `json:"id"`
	Source string `json:"source"`
	MsgID  string `json:"msg_id"`
	// Type of the event; it may be empty.
	Type string `json:"type"`
	// Partition and Offset are where the record was; -1 if it came from no topic. RecordTime is its
	// time, nil for none.
	Partition  int32      `json:"partition"`
	Offset     int64      `json:"offset"`
	RecordTime *time.Time `json:"record_time"`
	// PayloadBytes is the size of the payload; nil for a tombstone.
	PayloadBytes *int64 `json:"payload_bytes"`
	// ParkedAt is when it was parked.
	ParkedAt time.Time `json:"parked_at"`
	// Cause is one of Causes; Error says it in words, nil if there is none; Attempts is how often the
	// message was tried.
	Cause    string  `json:"cause"`
	Error    *string `json:"error"`
	Attempts int     `json:"attempts"`
}

// Entry is an entry of inbox_audit.
type Entry struct {
	// ID is its number, At when it was written, By the login that wrote it.
	ID int64     `json:"id"`
	At time.Time `json:"at"`
	By string    `json:"by"`
	// Action is unknown, retry, retried, discard or forget.
	Action string `json:"action"`
	// Source and MsgID name the one message that it is about; nil for the key as a whole.
	Source *string `json:"source"`
	MsgID  *string `json:"msg_id"`
	// Reason is what a person gave, nil where none did; Details is what else is known.
	Reason  *string         `json:"reason"`
	Details json.RawMessage `json:"details"`
}

const messagesQuery = `
SELECT id, source, msg_id, type, partition, "offset", record_time, octet_length(payload)::bigint, parked_at, cause, error, attempts
  FROM inbox_parked WHERE key_id = $1 ORDER BY id LIMIT $2`

// auditQuery reads what is known of a key, or of the one message that is parked without one.
const auditQuery = `
SELECT id, at, by, action, source, msg_id, reason, details FROM inbox_audit
 WHERE consumer = $1 AND topic = $2 AND key IS NOT DISTINCT FROM $3
   AND ($3 IS NOT NULL OR (source, msg_id) IN (SELECT source, msg_id FROM inbox_parked WHERE key_id = $4))
 ORDER BY id DESC LIMIT $5`

// Show reads up to limit messages and up to limit entries of the one key that the filter chooses,
// in one snapshot; 0 is no bound. Errors are explained, and wrap ErrNotThere if nothing is parked
// under that name.
func (in Inbox) Show(ctx context.Context, f InboxFilter, limit int) (KeyQueue, error) {
	q := KeyQueue{Messages: []Message{}, Audit: []Entry{}}
	err := readOnly(ctx, in.conn, func(tx pgx.Tx) error {
		key, err := q.find(ctx, tx, f)
		if err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM inbox_parked WHERE key_id = $1`, q.KeyID).Scan(&q.TotalMessages); err != nil {
			return fmt.Errorf("count messages in inbox_parked: %w", ExplainInbox(err))
		}
		if err := q.readMessages(ctx, tx, limit); err != nil {
			return fmt.Errorf("read inbox_parked: %w", ExplainInbox(err))
		}
		if err := q.readAudit(ctx, tx, key, limit); err != nil {
			return fmt.Errorf("read inbox_audit: %w", ExplainInbox(err))
		}
		return nil
	})
	return q, err
}

// find reads the row of the one key that the filter chooses, and returns the key.
func (q *KeyQueue) find(ctx context.Context, tx pgx.Tx, f InboxFilter) ([]byte, error) {
	rows, err := tx.Query(ctx, `
SELECT id, consumer, topic, key, requested_at, requested_by, reason FROM inbox_parked_keys k
 WHERE ($1::bigint IS NULL OR id = $1) AND ($2::text IS NULL OR consumer = $2) AND ($3::text IS NULL OR topic = $3)
   AND ($4::bytea IS NULL OR key = $4)
   AND ($5::text IS NULL OR EXISTS (SELECT FROM inbox_parked p WHERE p.key_id = k.id AND p.msg_id = $5))
 ORDER BY id LIMIT 6`, orNull(f.KeyID), orNull(f.Consumer), orNull(f.Topic), f.Key, orNull(f.MsgID))
	if err != nil {
		return nil, fmt.Errorf("read inbox_parked_keys: %w", ExplainInbox(err))
	}
	var key, found []byte
	var others []string
	fields := []any{&q.KeyID, &q.Consumer, &q.Topic, &key, &q.RequestedAt, &q.RequestedBy, &q.Reason}
	_, err = pgx.ForEachRow(rows, fields, func() error {
		others = append(others, fmt.Sprintf("--key-id %d (consumer %s, topic %s)", q.KeyID, q.Consumer, q.Topic))
		found = key
		return nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("read inbox_parked_keys: %w", ExplainInbox(err))
	case len(others) == 0:
		return nil, notThere("relay inbox parked list", "nothing is parked under that name")
	case len(others) > 1:
		return nil, hint.New("that is parked more than once", strings.Join(others[:min(len(others), 5)], ", or "))
	}
	q.setKey(found)
	q.RequestedAt = inUTC(q.RequestedAt)
	return found, nil
}

func (q *KeyQueue) readMessages(ctx context.Context, tx pgx.Tx, limit int) error {
	rows, err := tx.Query(ctx, messagesQuery, q.KeyID, orNull(limit))
	if err != nil {
		return err
	}
	var m Message
	fields := []any{
		&m.ID, &m.Source, &m.MsgID, &m.Type, &m.Partition, &m.Offset, &m.RecordTime, &m.PayloadBytes, &m.ParkedAt, &m.Cause,
		&m.Error, &m.Attempts,
	}
	_, err = pgx.ForEachRow(rows, fields, func() error {
		m.RecordTime, m.ParkedAt = inUTC(m.RecordTime), m.ParkedAt.UTC()
		q.Messages = append(q.Messages, m)
		return nil
	})
	return err
}

func (q *KeyQueue) readAudit(ctx context.Context, tx pgx.Tx, key []byte, limit int) error {
	rows, err := tx.Query(ctx, auditQuery, q.Consumer, q.Topic, key, q.KeyID, orNull(limit))
	if err != nil {
		return err
	}
	q.Audit, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Entry, err error) {
		err = row.Scan(&e.ID, &e.At, &e.By, &e.Action, &e.Source, &e.MsgID, &e.Reason, &e.Details)
		e.At = e.At.UTC()
		return e, err
	})
	return err
}

// Payload reads the payload of the first message of the key that the filter chooses, or of the
// message that the filter names; nil is a tombstone. Errors are as those of Show.
func (in Inbox) Payload(ctx context.Context, f InboxFilter) (payload []byte, err error) {
	err = readOnly(ctx, in.conn, func(tx pgx.Tx) error {
		var q KeyQueue
		if _, err := q.find(ctx, tx, f); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `SELECT payload FROM inbox_parked WHERE key_id = $1 AND ($2::text IS NULL OR msg_id = $2) ORDER BY id LIMIT 1`,
			q.KeyID, orNull(f.MsgID)).Scan(&payload)
		if errors.Is(err, pgx.ErrNoRows) {
			return notThere("relay inbox parked list", "no message of that key is parked any more")
		}
		if err != nil {
			return fmt.Errorf("read inbox_parked: %w", ExplainInbox(err))
		}
		return nil
	})
	return payload, err
}
