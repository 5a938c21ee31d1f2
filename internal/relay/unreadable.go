package relay

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/brief"
)

// unreadableError says that the last checkpoint of a lane cannot be read. It halts the lane.
type unreadableError struct {
	fault   *HaltError
	reason  string
	version int   // that the record claims; 0 if it claims none
	seq     int64 // the same
	offset  int64
	written time.Time
}

func (e *unreadableError) Error() string { return e.fault.Error() }

func (e *unreadableError) Unwrap() error { return e.fault }

// longestUnread bounds what is said of the content of a record that anybody may have written.
const longestUnread = 300

// unreadable makes the error. It may have come from a relay that is newer, so what the record says of itself is looked up.
func unreadable(lane string, record *kgo.Record, cause error) *unreadableError {
	e := &unreadableError{offset: record.Offset, written: record.Timestamp}
	e.reason = brief.Cut(strings.ToValidUTF8(cause.Error(), "?"), longestUnread)
	var claims struct {
		Version int   `json:"version"`
		Seq     int64 `json:"seq"`
	}
	if json.Unmarshal(record.Value, &claims) == nil {
		e.version, e.seq = claims.Version, claims.Seq
	}
	fault := (*HaltError)(nil)
	if errors.As(contradiction(CheckpointUnreadable,
		recoverTry(lane, "if a newer relay wrote it, upgrade this relay; otherwise see to it that only relays write to the topic; "),
		"the last checkpoint of lane %s, at %s/%d offset %d, cannot be read: %s",
		lane, record.Topic, record.Partition, record.Offset, e.reason), &fault) {
		e.fault = fault
	}
	return e
}

// newer reports whether the record claims to be of a later version than this relay knows.
func (e *unreadableError) newer() bool { return e.version > checkpointVersion }

// placeholder stands for the checkpoint when open transactions are judged: it is there, and tells of none.
func (e *unreadableError) placeholder() *Checkpoint {
	return &Checkpoint{offset: e.offset, unreadable: true}
}

// unknownBatches is how far a recovery stays away from the number of a checkpoint that it cannot read: farther than any
// lane comes, so that the number is not used again.
const unknownBatches = 1_000_000_000_000

// lastSeq is a number that neither log is beyond.
func (f *Findings) lastSeq() int64 {
	seq := max(f.state.seq, f.state.parked) // what later batches have parked would be undone
	if f.last != nil {
		seq = max(seq, f.last.Seq)
	}
	if f.unreadable == nil {
		return seq
	}
	if f.unreadable.seq < math.MaxInt64/2 { // it is only a claim, and must leave room
		seq = max(seq, f.unreadable.seq)
	}
	return seq + unknownBatches
}

// checkpoint is the last one, or what stands for it.
func (f *Findings) checkpoint() *Checkpoint {
	if f.unreadable != nil {
		return f.unreadable.placeholder()
	}
	return f.last
}

// judgeUnread looks at what Postgres alone tells.
func judgeUnread(lane string, row laneState, live Lineage, now serverNow) error {
	if err := judgeRows(lane, now); err != nil {
		return err
	}
	if row.lineage != nil {
		if cause, why, before := row.lineage.differs(live); cause != "" {
			return contradiction(cause, recoverTry(lane, before), "the row of lane %s in relay_lanes belongs elsewhere: %s", lane, why)
		}
	}
	return judgeTable(lane, row.table, now.bound, now.old)
}

// warnOfNewer adds a caution to each way on: a checkpoint of a newer relay is not to be replaced without a word.
func (f *Findings) warnOfNewer() {
	if f.unreadable == nil || !f.unreadable.newer() {
		return
	}
	caution := fmt.Sprintf("a newer relay wrote the last checkpoint (version %d, and this relay knows only version %d), "+
		"and this way replaces it: right only if no newer relay is to run the lane; otherwise upgrade this relay, which needs no choice",
		f.unreadable.version, checkpointVersion)
	for n := range f.Choices {
		if f.Choices[n].Caution != "" {
			f.Choices[n].Caution += "; "
		}
		f.Choices[n].Caution += caution
	}
}

// allSeen is an error if a topic of the lane could not be asked what is open on it. The next checkpoint would have nothing of a
// transaction there, and so it would pass for an aborted one when the topic is back.
func (c *closing) allSeen() error {
	cfg := c.s.cfg
	mayName := append([]string{strings.ReplaceAll(cfg.Route, routePlaceholder, anyText)}, cfg.allowedTopics()...)
	for _, topic := range slices.Sorted(maps.Keys(c.unseen)) {
		cause := c.unseen[topic]
		// What the relay may not read it has not written to, and a topic that was deleted has nothing open.
		notMine := checkNamed(topic, mayName) != nil || errors.Is(cause, kerr.TopicAuthorizationFailed)
		if notMine || errors.Is(cause, kerr.UnknownTopicOrPartition) {
			continue
		}
		return fmt.Errorf("the checkpoint that names the last transactions cannot be read, so all topics of the lane must be seen to be "+
			"closed; bring the partition's broker back and run the command again: %w", cause)
	}
	return nil
}
