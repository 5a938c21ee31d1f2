package relay

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/position"
	"github.com/outbox-relay/relay/internal/topics"
)

// parking keeps the order of aggregates that have a row which cannot be sent: that row and all later ones of its aggregate
// go to outbox_parked, in order, and from there to Kafka or away when a person has decided, or when the topic that they
// wait for is back. It belongs to the producing goroutine, which sees every row once and in order: an aggregate is parked,
// or is not, after a given batch, and no other process has a say in it. People ask through outbox_parked_audit.
type parking struct {
	cfg       *Config
	table     string
	topics    *topics.Registry
	pieces    *pieces
	condemned map[outboxread.RowKey]error // rows that the brokers have refused
	keys      map[string]parkedKey
	bytes     int             // what keys hold, about
	partial   bool            // keys are not all that are parked: there are more than memory is for
	trying    map[string]bool // held topics that are being tried again
	requested bool            // somebody has asked for something lately
	until     time.Time       // requests are looked for until then, though nothing is parked: one may come late
	scratch   []byte
}

// parkedKey is an aggregate that is parked.
type parkedKey struct {
	// topic that its first row waits for; empty where it waits for a person.
	topic string
	// free: nothing holds the first row any more, since the one before it was discarded.
	free bool
}

// The causes of a parked row, as outbox_parked has them.
const (
	causeRefused = "refused"
	causeTopic   = "topic"
	causeBehind  = "behind"
)

// plan is what a batch does with the rows of its page, and with those that are parked.
type plan struct {
	drop  []bool // by place in the page: what the transaction leaves out; nil for nothing
	sent  int
	bytes int
	after position.Position
	next  int  // place in the page of the first row that is left to the next batch
	fetch bool // the plan cannot be made before the payload of its first row is there

	parks    []aside // rows of the outbox that are parked
	skips    []aside // rows of the outbox that are left out for good
	releases []release
	again    []aside     // parked rows that were refused again
	refused  []*rowError // those of parks and skips that can never be sent, for the log
	done     []outcome

	keys   map[string]parkedKey // that are parked after the batch, or wait for something else
	freed  []string             // that are not parked any more
	halted error                // the row before which the batch ends, under the policy Halt
}

// aside is a row that is not sent, and why. A row that is parked already is named by its place.
type aside struct {
	outboxread.RowKey
	place      int64
	cause, err string
}

// release is the place of a parked row that is published or discarded, and the request that asked for it; 0 for none.
type release struct{ place, request int64 }

// outcome is what came of a request.
type outcome struct {
	request int64
	text    string
}

// works reports whether the batch changes what is parked.
func (p *plan) works() bool {
	return len(p.parks)+len(p.skips)+len(p.releases)+len(p.again)+len(p.done) > 0
}

// empty reports whether the batch would do nothing at all.
func (p *plan) empty() bool { return p.sent == 0 && !p.works() }

func (p *plan) leaveOut(pg *outboxread.Page, i int) {
	if p.drop == nil {
		p.drop = make([]bool, len(pg.Records))
	}
	p.drop[i] = true
	p.sent--
	p.bytes -= outboxread.RecordBytes(&pg.Records[i])
}

func (p *plan) park(key string, k parkedKey) {
	if p.keys == nil {
		p.keys = make(map[string]parkedKey)
	}
	p.keys[key] = k
}

// sieve decides for each row of a page that was read from the outbox, from a place on, whether it is sent. It may be asked again
// about the same page, once more rows are condemned, more topics are held or pieces are smaller.
func (k *parking) sieve(p *outboxread.Page, from int) *plan {
	pl := &plan{sent: len(p.Records), bytes: p.Bytes, after: p.After, next: len(p.Records)}
	if from == 0 && k.quiet(p) {
		return pl
	}
	for i := range from {
		pl.leaveOut(p, i)
	}
	k.pieces.begin(p)
	faults := p.Faults
	for i := from; i < len(p.Records); i++ {
		record := &p.Records[i]
		for len(faults) > 0 && faults[0].At < i {
			faults = faults[1:]
		}
		var refused error
		if len(faults) > 0 && faults[0].At == i {
			refused = faults[0].Err
		}
		k.scratch = outboxread.AggregateOf(k.scratch[:0], record)
		if k.parked(pl) {
			pl.leaveOut(p, i)
			pl.parks = append(pl.parks, aside{RowKey: p.Key(i), cause: causeBehind})
			continue
		}
		if refused == nil {
			refused = k.refuses(p, i)
		}
		if refused != nil {
			if k.refuse(p, pl, i, refused) {
				return pl
			}
			continue
		}
		if away := k.topics.Unavailable.Suspended(record.Topic); away != nil {
			pl.leaveOut(p, i)
			pl.parks = append(pl.parks, aside{RowKey: p.Key(i), cause: causeTopic, err: away.Error()})
			pl.park(string(k.scratch), parkedKey{topic: record.Topic})
			continue
		}
		if k.pieces.ends(p, i) || p.IsLarge(i) && i > from {
			k.cut(p, pl, i)
			return pl
		}
		if p.IsLarge(i) && !p.Fetched(i) {
			pl.fetch = true
			return pl
		}
	}
	return pl
}

// quiet reports whether the page is sent as it is, without a look at its rows.
func (k *parking) quiet(p *outboxread.Page) bool {
	return len(k.keys) == 0 && len(p.Faults) == 0 && len(k.condemned) == 0 && k.cfg.Check == nil &&
		!p.HasLarge() && p.Largest <= k.topics.SmallestLimit() && k.pieces.whole(p) && !k.topics.Unavailable.AnySuspended()
}

// parked reports whether the aggregate in scratch is parked, by the batches before or by this one.
func (k *parking) parked(pl *plan) bool {
	if _, parked := k.keys[string(k.scratch)]; parked {
		return true
	}
	_, parked := pl.keys[string(k.scratch)]
	return parked
}

// refuses returns why the record at a place can never be sent, or nil.
func (k *parking) refuses(p *outboxread.Page, i int) error {
	r := &p.Records[i]
	if len(k.condemned) > 0 {
		if err := k.condemned[p.Key(i)]; err != nil {
			return err
		}
	}
	// A batch holds more than this; what is only just too large is refused by the client.
	switch size, most := p.Size(i), k.topics.Limit(r.Topic); {
	case size > topics.MaxRecordBytes:
		return fmt.Errorf("%w: the record has %d bytes, and the relay sends none larger than %d", kerr.MessageTooLarge, size, topics.MaxRecordBytes)
	case size > most:
		return fmt.Errorf("%w: the record has %d bytes, and topic %s takes batches of %d (max.message.bytes)",
			kerr.MessageTooLarge, size, r.Topic, most)
	}
	if k.cfg.Check != nil && (!p.IsLarge(i) || p.Fetched(i)) {
		return k.cfg.Check(r)
	}
	return nil
}

// refuse applies the policy to the row at place i, whose aggregate is in scratch. It reports whether the page ends before it.
func (k *parking) refuse(p *outboxread.Page, pl *plan, i int, why error) (ends bool) {
	fault := &rowError{id: p.IDs[i], msgID: p.Key(i).MsgID, topic: p.Records[i].Topic, err: why}
	switch k.cfg.Poison {
	case Halt:
		delete(k.condemned, p.Key(i)) // at the next look it may have been corrected, or the topic changed
		k.cut(p, pl, i)
		pl.halted = &checkpoint.HaltError{
			Diagnosis: fmt.Sprintf("%v", fault),
			Try: fmt.Sprintf("mend the cause, or correct or delete the row: it has id %d in %s; the lane looks again every %v",
				fault.id, k.table, haltedRetry),
		}
		return true
	case Skip:
		pl.leaveOut(p, i)
		pl.skips = append(pl.skips, aside{RowKey: p.Key(i), cause: causeRefused, err: why.Error()})
		pl.refused = append(pl.refused, fault)
	default:
		pl.leaveOut(p, i)
		pl.parks = append(pl.parks, aside{RowKey: p.Key(i), cause: causeRefused, err: why.Error()})
		pl.park(string(k.scratch), parkedKey{})
		pl.refused = append(pl.refused, fault)
	}
	return false
}

// cut ends the page before place i: it publishes the window up to there.
func (k *parking) cut(p *outboxread.Page, pl *plan, i int) {
	for j := i; j < len(p.Records); j++ {
		pl.leaveOut(p, j)
	}
	pl.after, pl.next = p.Window, i
	if i > 0 {
		pl.after.LastID = p.IDs[i-1]
	}
}

// adopt makes the plan's view of what is parked that of the batches to come. The batch has been acknowledged whole; if it
// is not committed after all, the session ends, and the next one reads what is parked anew.
func (k *parking) adopt(pl *plan) {
	for key, state := range pl.keys {
		k.add(key, state)
	}
	for _, key := range pl.freed {
		k.remove(key)
		k.until = time.Now().Add(time.Minute)
	}
	clear(k.condemned) // what has been decided is not asked about again
	k.report(pl.refused)
}

// keyBytes is about what a parked aggregate takes in memory beside its key.
const keyBytes = 160

func (k *parking) add(key string, state parkedKey) {
	if _, parked := k.keys[key]; !parked {
		k.bytes += len(key) + keyBytes
	}
	k.keys[key] = state
}

func (k *parking) remove(key string) {
	if _, parked := k.keys[key]; parked {
		k.bytes -= len(key) + keyBytes
		delete(k.keys, key)
	}
}

// full reports whether no new row may be judged: of one that is parked memory could not tell its later rows.
func (k *parking) full() bool { return k.partial || k.bytes > k.cfg.parkedBytes }

// errFull says so.
func (k *parking) errFull() error {
	return fmt.Errorf("%d aggregates or more are parked, and memory is for no more: nothing new is published, because it "+
		"might overtake them; retry or discard parked aggregates (relay parked list), or mend the topics that they wait for", len(k.keys))
}

// reported is how many rows of a batch are logged one by one. All of them are in outbox_parked or outbox_parked_audit.
const reported = 3

// report logs the rows that a batch has set aside for good. A writer that goes wrong may write nothing else.
func (k *parking) report(refused []*rowError) {
	what := "a row that can never be sent is parked, with all later rows of its aggregate"
	if k.cfg.Poison == Skip {
		what = "a row that can never be sent is skipped"
	}
	for _, fault := range refused[:min(len(refused), reported)] {
		k.cfg.Logger.Error(what, "id", fault.id, "msg_id", fault.msgID, "topic", fault.topic, "error", fault.err)
	}
	if more := len(refused) - reported; more > 0 {
		k.cfg.Logger.Error("more rows of the same batch can never be sent", "policy", k.cfg.Poison, "rows", more)
	}
}
