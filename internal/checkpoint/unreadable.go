package checkpoint

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/brief"
)

// UnreadableError says that the last checkpoint of a lane cannot be read. It halts the lane.
type UnreadableError struct {
	fault   *HaltError
	Reason  string
	Version int   // that the record claims; 0 if it claims none
	Seq     int64 // the same
	Offset  int64
	Written time.Time
}

func (e *UnreadableError) Error() string { return e.fault.Error() }

func (e *UnreadableError) Unwrap() error { return e.fault }

// longestUnread bounds what is said of the content of a record that any client may have written.
const longestUnread = 300

// unreadable makes the error. It may have come from a relay that is newer, so what the record says
// of itself is looked up.
func unreadable(lane string, record *kgo.Record, cause error) *UnreadableError {
	e := &UnreadableError{Offset: record.Offset, Written: record.Timestamp}
	e.Reason = brief.Cut(strings.ToValidUTF8(cause.Error(), "?"), longestUnread)
	var claims struct {
		Version int   `json:"version"`
		Seq     int64 `json:"seq"`
	}
	if json.Unmarshal(record.Value, &claims) == nil {
		e.Version, e.Seq = claims.Version, claims.Seq
	}
	e.fault = Contradiction(CheckpointUnreadable,
		RecoverHint(lane, "if a newer relay wrote it, upgrade this relay; otherwise see to it that only relays write to the topic; "),
		"the last checkpoint of lane %s, at %s/%d offset %d, cannot be read: %s",
		lane, record.Topic, record.Partition, record.Offset, e.Reason)
	return e
}

// Newer reports whether the record claims to be of a later version than this relay knows.
func (e *UnreadableError) Newer() bool { return e.Version > Version }

// Placeholder represents the checkpoint when open transactions are judged: it is there, and tells
// of none.
func (e *UnreadableError) Placeholder() *Record {
	return &Record{Offset: e.Offset, Unreadable: true}
}
