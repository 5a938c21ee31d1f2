package operator

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// Causes are what a parked message may wait for, as in inbox_parked.cause.
var Causes = []string{"permanent", "attempts", "crash", "identity", "size", Behind}

// Inbox is the side of the consumers: keys whose messages could not be handled, marks, and claims.
type Inbox struct{ conn *pgx.Conn }

// NewInbox works on the connection.
func NewInbox(conn *pgx.Conn) Inbox { return Inbox{conn} }

// InboxFilter chooses parked keys. The zero value chooses all of them; several fields must all
// hold.
type InboxFilter struct {
	// KeyID is the number of a key; 0 for any.
	KeyID int64
	// Consumer and Topic name them; empty for any.
	Consumer, Topic string
	// Key is the key of the records; nil for any.
	Key []byte

	Filter
}

// Empty reports whether the filter chooses everything, up to its limit.
func (f InboxFilter) Empty() bool {
	f.Limit = 0
	return f.KeyID == 0 && f.Consumer == "" && f.Topic == "" && f.Key == nil && f.Filter == Filter{}
}

func (f InboxFilter) args() []any {
	return append(f.Filter.args(), orNull(f.KeyID), orNull(f.Consumer), orNull(f.Topic), f.Key)
}

// KeyName says which key something is about.
type KeyName struct {
	// KeyID is its number, which a person gives back.
	KeyID int64 `json:"key_id"`
	// Consumer and Topic as the messages have them.
	Consumer string `json:"consumer"`
	Topic    string `json:"topic"`
	// Key is the key of the records as text; nil if it is no text, and where there is none: such a
	// message waits alone.
	Key *string `json:"key"`
	// KeyHex is the key in hexadecimal; nil if there is none.
	KeyHex *string `json:"key_hex"`
}

// setKey fills in both forms of the key.
func (n *KeyName) setKey(key []byte) {
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
	KeyName
	// Messages counts its parked messages.
	Messages int64 `json:"messages"`
	// Source and MsgID are those of its first message, the one that is to be handled next.
	Source string `json:"source"`
	MsgID  string `json:"msg_id"`
	// Cause is why the first message waits, one of Causes: Behind if the one before it was discarded.
	Cause string `json:"cause"`
	// Error says it in words; nil if there is none. Attempts is how often the message was tried.
	Error    *string `json:"error"`
	Attempts int     `json:"attempts"`
	// Since is when the first message was parked, by the clock of Postgres; AgeSeconds is the time
	// from then to now.
	Since      time.Time `json:"since"`
	AgeSeconds float64   `json:"age_seconds"`
	// RequestedAt is since when a retry is asked for, RequestedBy by whom and Reason why; nil where
	// none is.
	RequestedAt *time.Time `json:"requested_at"`
	RequestedBy *string    `json:"requested_by"`
	Reason      *string    `json:"reason"`
}

// Keys is what an InboxFilter has chosen.
type Keys struct {
	// Keys are those chosen, by consumer, the one parked first at the top.
	Keys []Key `json:"keys"`
	// TotalKeys and TotalMessages count all that match, also beyond the limit.
	TotalKeys     int64 `json:"total_keys"`
	TotalMessages int64 `json:"total_messages"`
}

// Counts returns how many queues are listed, and how many queues and items match in all.
func (l Keys) Counts() (shown, queues, items int64) {
	return int64(len(l.Keys)), l.TotalKeys, l.TotalMessages
}

// keysQuery finds the keys that a filter chooses. Of a filter with a message, messages counts that
// message.
const keysQuery = `
SELECT k.id, k.consumer, k.topic, k.key, n.messages, h.source, h.msg_id, h.cause, h.error, h.attempts, h.parked_at,
       extract(epoch FROM clock_timestamp() - h.parked_at)::float8, k.requested_at, k.requested_by, k.reason,
       count(*) OVER (), (sum(n.messages) OVER ())::bigint
  FROM inbox_parked_keys k
       CROSS JOIN LATERAL (SELECT * FROM inbox_parked p WHERE p.key_id = k.id ORDER BY p.id LIMIT 1) AS h
       CROSS JOIN LATERAL (SELECT count(*) AS messages FROM inbox_parked p
                            WHERE p.key_id = k.id AND ($4::text IS NULL OR p.msg_id = $4)) AS n
 WHERE ($6::bigint IS NULL OR k.id = $6) AND ($7::text IS NULL OR k.consumer = $7) AND ($8::text IS NULL OR k.topic = $8)
   AND ($9::bytea IS NULL OR k.key = $9)
   AND ` + firstMatches + `
   AND n.messages > 0
 ORDER BY k.consumer, h.parked_at, h.id
 LIMIT $5`

// List lists what is parked. Errors are explained.
func (in Inbox) List(ctx context.Context, f InboxFilter) (Keys, error) {
	list := Keys{Keys: []Key{}}
	rows, err := in.conn.Query(ctx, keysQuery, f.args()...)
	if err != nil {
		return list, fmt.Errorf("read inbox_parked: %w", ExplainInbox(err))
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
		return list, fmt.Errorf("read inbox_parked: %w", ExplainInbox(err))
	}
	return list, nil
}
