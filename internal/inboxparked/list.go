package inboxparked

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// Causes are what a parked message may wait for, as in inbox_parked.cause.
var Causes = []string{"permanent", "attempts", "crash", "identity", "size", Behind}

// Behind is the cause of a message that waits for an earlier one of its key.
const Behind = "behind"

// Filter chooses parked keys. The zero value chooses all of them; several fields must all hold.
type Filter struct {
	// KeyID is the number of a key; 0 for any.
	KeyID int64
	// Consumer and Topic name them; empty for any.
	Consumer, Topic string
	// Key is the key of the records; nil for any.
	Key []byte
	// Cause of the first message, one of Causes; empty for any.
	Cause string
	// Error is a part of the error of the first message, in any case; empty for any.
	Error string
	// OlderThan is how long the first message has been parked at least; 0 for any.
	OlderThan time.Duration
	// MsgID is the id of one message, which may stand anywhere in the queue; empty for any.
	MsgID string
	// Limit bounds the keys, those that have been parked for longest first; 0 for no bound.
	Limit int
}

// Empty reports whether the filter chooses everything, up to its limit.
func (f Filter) Empty() bool {
	return f.KeyID == 0 && f.Consumer == "" && f.Topic == "" && f.Key == nil && f.Cause == "" && f.Error == "" &&
		f.OlderThan == 0 && f.MsgID == ""
}

// Name says which key something is about.
type Name struct {
	// KeyID is its number, which a person gives back.
	KeyID int64 `json:"key_id"`
	// Consumer and Topic as the messages have them.
	Consumer string `json:"consumer"`
	Topic    string `json:"topic"`
	// Key is the key of the records as text; nil where it is no text, and where there is none: such a message waits alone.
	Key *string `json:"key"`
	// KeyHex is the key in hexadecimal; nil where there is none.
	KeyHex *string `json:"key_hex"`
}

// setKey fills in both forms of the key.
func (n *Name) setKey(key []byte) {
	n.Key, n.KeyHex = nil, nil
	if key == nil {
		return
	}
	digits := hex.EncodeToString(key)
	n.KeyHex = &digits
	if utf8.Valid(key) {
		text := string(key)
		n.Key = &text
	}
}

// Key is a parked key.
type Key struct {
	Name
	// Messages counts its parked messages.
	Messages int64 `json:"messages"`
	// Source and MsgID are those of its first message, the one that is to be handled next.
	Source string `json:"source"`
	MsgID  string `json:"msg_id"`
	// Cause is why the first message waits, one of Causes: Behind where the one before it was discarded.
	Cause string `json:"cause"`
	// Error says it in words; nil where there is none. Attempts is how often the message was tried.
	Error    *string `json:"error"`
	Attempts int     `json:"attempts"`
	// Since is when the first message was parked, by the clock of Postgres; AgeSeconds is the time from then to now.
	Since      time.Time `json:"since"`
	AgeSeconds float64   `json:"age_seconds"`
	// RequestedAt is since when a retry is asked for, RequestedBy by whom and Reason why; nil where none is.
	RequestedAt *time.Time `json:"requested_at"`
	RequestedBy *string    `json:"requested_by"`
	Reason      *string    `json:"reason"`
}

// List is what a filter has chosen.
type List struct {
	// Keys are those chosen, by consumer, the one parked first at the top.
	Keys []Key `json:"keys"`
	// TotalKeys and TotalMessages count all that match, also beyond the limit.
	TotalKeys     int64 `json:"total_keys"`
	TotalMessages int64 `json:"total_messages"`
}

// listQuery finds the keys that a filter chooses. Of a filter with a message, messages counts that message.
const listQuery = `
SELECT k.id, k.consumer, k.topic, k.key, n.messages, h.source, h.msg_id, h.cause, h.error, h.attempts, h.parked_at,
       extract(epoch FROM clock_timestamp() - h.parked_at)::float8, k.requested_at, k.requested_by, k.reason,
       count(*) OVER (), (sum(n.messages) OVER ())::bigint
  FROM inbox_parked_keys k
       CROSS JOIN LATERAL (SELECT * FROM inbox_parked p WHERE p.key_id = k.id ORDER BY p.id LIMIT 1) AS h
       CROSS JOIN LATERAL (SELECT count(*) AS messages FROM inbox_parked p
                            WHERE p.key_id = k.id AND ($8::text IS NULL OR p.msg_id = $8)) AS n
 WHERE ($1::bigint IS NULL OR k.id = $1) AND ($2::text IS NULL OR k.consumer = $2) AND ($3::text IS NULL OR k.topic = $3)
   AND ($4::bytea IS NULL OR k.key = $4)
   AND ($5::text IS NULL OR h.cause = $5)
   AND ($6::text IS NULL OR strpos(lower(h.error), lower($6)) > 0)
   AND ($7::float8 IS NULL OR h.parked_at <= clock_timestamp() - make_interval(secs => $7))
   AND n.messages > 0
 ORDER BY k.consumer, h.parked_at, h.id
 LIMIT $9`

func (f Filter) args() []any {
	return []any{
		orNull(f.KeyID), orNull(f.Consumer), orNull(f.Topic), f.Key, orNull(f.Cause), orNull(f.Error), orNull(f.OlderThan.Seconds()),
		orNull(f.MsgID), orNull(f.Limit),
	}
}

// orNull is a parameter that is null where nothing was set.
func orNull[T comparable](value T) *T {
	var unset T
	if value == unset {
		return nil
	}
	return &value
}

// Read lists what is parked. Errors are explained.
func Read(ctx context.Context, conn *pgx.Conn, f Filter) (List, error) {
	list := List{Keys: []Key{}}
	rows, err := conn.Query(ctx, listQuery, f.args()...)
	if err != nil {
		return list, fmt.Errorf("read inbox_parked: %w", Explain(err))
	}
	var k Key
	var key []byte
	fields := []any{
		&k.KeyID, &k.Consumer, &k.Topic, &key, &k.Messages, &k.Source, &k.MsgID, &k.Cause, &k.Error, &k.Attempts, &k.Since, &k.AgeSeconds,
		&k.RequestedAt, &k.RequestedBy, &k.Reason, &list.TotalKeys, &list.TotalMessages,
	}
	_, err = pgx.ForEachRow(rows, fields, func() error {
		k.setKey(key)
		k.Since = k.Since.UTC()
		k.RequestedAt = inUTC(k.RequestedAt)
		list.Keys = append(list.Keys, k)
		return nil
	})
	if err != nil {
		return list, fmt.Errorf("read inbox_parked: %w", Explain(err))
	}
	return list, nil
}

func inUTC(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	utc := at.UTC()
	return &utc
}

// readOnly runs work in one snapshot that changes nothing.
func readOnly(ctx context.Context, conn *pgx.Conn, work func(pgx.Tx) error) error {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("begin: %w", Explain(err))
	}
	return errors.Join(work(tx), tx.Rollback(context.WithoutCancel(ctx)))
}
