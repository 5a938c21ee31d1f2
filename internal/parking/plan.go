package parking

import (
	"fmt"

	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/position"
)

// Policy says what becomes of a row that can never be sent.
type Policy string

// The policies.
const (
	// Park sets the row and all later rows of its aggregate aside, in order, in outbox_parked; all
	// other aggregates go on.
	Park Policy = "park"
	// Skip leaves the row out, records that in outbox_parked_audit, and goes on, also with its
	// aggregate.
	Skip Policy = "skip"
	// Halt stops the lane before the row until a person has acted.
	Halt Policy = "halt"
)

// Plan is what a batch does with the rows of its page, and with those that are parked.
type Plan struct {
	Drop  []bool // by place in the page: what the transaction leaves out; nil for nothing
	Sent  int
	Bytes int
	After position.Position
	Next  int  // place in the page of the first row that is left to the next batch
	Fetch bool // the plan cannot be made before the payload of its first row is there

	Parks    []aside // rows of the outbox that are parked
	Skips    []aside // rows of the outbox that are left out for good
	Releases []release
	again    []aside     // parked rows that were refused again
	refused  []*RowError // those of parks and skips that can never be sent, for the log
	done     []outcome

	keys   map[string]aggregate // that are parked after the batch, or wait for something else
	freed  []string             // that are not parked any more
	Halted error                // the row before which the batch ends, under the policy Halt
}

// aside is a row that is not sent, and why. A row that is parked already is named by its place.
type aside struct {
	outboxread.RowKey
	place      int64
	cause, err string
}

// release is the place of a parked row that is published or discarded, and the request that asked
// for it; 0 for none.
type release struct{ place, request int64 }

// outcome is what came of a request.
type outcome struct {
	request int64
	text    string
}

// answer says what came of a request; 0 is none.
func (p *Plan) answer(request int64, text string) {
	if request != 0 {
		p.done = append(p.done, outcome{request, text})
	}
}

// Works reports whether the batch changes what is parked.
func (p *Plan) Works() bool {
	return len(p.Parks)+len(p.Skips)+len(p.Releases)+len(p.again)+len(p.done) > 0
}

// Empty reports whether the batch would do nothing at all.
func (p *Plan) Empty() bool { return p.Sent == 0 && !p.Works() }

func (p *Plan) leaveOut(pg *outboxread.Page, i int) {
	if p.Drop == nil {
		p.Drop = make([]bool, len(pg.Records))
	}
	p.Drop[i] = true
	p.Sent--
	p.Bytes -= outboxread.RecordBytes(&pg.Records[i])
}

func (p *Plan) park(key string, k aggregate) {
	if p.keys == nil {
		p.keys = make(map[string]aggregate)
	}
	p.keys[key] = k
}

// Changes counts the rows of outbox_parked and outbox_parked_audit that the batch writes.
func (p *Plan) Changes() int {
	return len(p.Parks) + len(p.Skips) + len(p.Releases) + len(p.again) + len(p.done)
}

// RowError is a fault of one row: Kafka or the relay refuses it however often it is tried.
type RowError struct {
	id    int64
	msgID string
	topic string
	err   error
}

func (e *RowError) Error() string {
	return fmt.Sprintf("row id %d (msg_id %s, topic %q) cannot be sent: %v", e.id, e.msgID, e.topic, e.err)
}

func (e *RowError) Unwrap() error { return e.err }
