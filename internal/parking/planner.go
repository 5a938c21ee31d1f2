package parking

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/topics"
)

// Planner keeps the order of aggregates that have a row which cannot be sent: that row and all
// later ones of its aggregate go to outbox_parked, in order, and from there to Kafka or away when a
// person has decided, or when the topic that they wait for is back. It belongs to the publisher,
// which sees every row once and in order: an aggregate is parked, or is not, after a given batch,
// and no other process has a say in it. People ask through outbox_parked_audit.
type Planner struct {
	o         Options
	topics    *topics.Registry
	pieces    *pieces
	poison    map[outboxread.RowKey]error // rows that the brokers have refused
	keys      map[string]aggregate
	bytes     int             // what keys hold, about
	partial   bool            // keys are not all that are parked: there are more than memory is for
	trying    map[string]bool // suspended topics that are being tried again
	requested bool            // somebody has asked for something lately
	until     time.Time       // requests are looked for until then, though nothing is parked: one may come late
	scratch   []byte
}

// Options say what becomes of rows that can never be sent.
type Options struct {
	// Table is the outbox, for a diagnosis.
	Table string
	// Policy applies to a row that can never be sent.
	Policy Policy
	// Check refuses records as Kafka would; nil refuses none.
	Check func(*kgo.Record) error
	// Bytes bounds the memory for the names of parked aggregates.
	Bytes  int
	Logger *slog.Logger
}

// New plans pages. The poison outlives the Planner.
func New(o Options, registry *topics.Registry, poison map[outboxread.RowKey]error) *Planner {
	return &Planner{o: o, topics: registry, pieces: newPieces(registry), poison: poison, keys: make(map[string]aggregate)}
}

// aggregate is one that is parked.
type aggregate struct {
	// topic that its first row waits for; empty if it waits for a person.
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

// PlanPage decides for each row of a page that was read from the outbox, from a place on, whether
// it is sent. It may be asked again about the same page, once more rows are poison, more topics are
// held or pieces are smaller.
func (k *Planner) PlanPage(p *outboxread.Page, from int) *Plan {
	pl := &Plan{Sent: len(p.Records), Bytes: p.Bytes, After: p.After, Next: len(p.Records)}
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
			pl.Parks = append(pl.Parks, aside{RowKey: p.Key(i), cause: causeBehind})
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
		if suspended := k.topics.Unavailable.Suspended(record.Topic); suspended != nil {
			pl.leaveOut(p, i)
			pl.Parks = append(pl.Parks, aside{RowKey: p.Key(i), cause: causeTopic, err: suspended.Error()})
			pl.park(string(k.scratch), aggregate{topic: record.Topic})
			continue
		}
		if k.pieces.ends(p, i) || p.IsLarge(i) && i > from {
			k.cut(p, pl, i)
			return pl
		}
		if p.IsLarge(i) && !p.Fetched(i) {
			pl.Fetch = true
			return pl
		}
	}
	return pl
}

// quiet reports whether the page is sent as it is, without a look at its rows.
func (k *Planner) quiet(p *outboxread.Page) bool {
	return len(k.keys) == 0 && len(p.Faults) == 0 && len(k.poison) == 0 && k.o.Check == nil &&
		!p.HasLarge() && p.Largest <= k.topics.SmallestLimit() && k.pieces.whole(p) && !k.topics.Unavailable.AnySuspended()
}

// parked reports whether the aggregate in scratch is parked, by the batches before or by this one.
func (k *Planner) parked(pl *Plan) bool {
	if _, parked := k.keys[string(k.scratch)]; parked {
		return true
	}
	_, parked := pl.keys[string(k.scratch)]
	return parked
}

// refuses returns why the record at a place can never be sent, or nil.
func (k *Planner) refuses(p *outboxread.Page, i int) error {
	r := &p.Records[i]
	if len(k.poison) > 0 {
		if err := k.poison[p.Key(i)]; err != nil {
			return err
		}
	}
	// A batch holds more than this; what is only just too large is refused by the client.
	switch size, most := p.Size(i), k.topics.Limit(r.Topic); {
	case size > topics.MaxRecordBytes:
		return fmt.Errorf("%w: the record has %d bytes, and the relay sends none larger than %d",
			kerr.MessageTooLarge, size, topics.MaxRecordBytes)
	case size > most:
		return fmt.Errorf("%w: the record has %d bytes, and topic %s takes batches of %d (max.message.bytes)",
			kerr.MessageTooLarge, size, r.Topic, most)
	}
	if k.o.Check != nil && (!p.IsLarge(i) || p.Fetched(i)) {
		return k.o.Check(r)
	}
	return nil
}

// refuse applies the policy to the row at place i, whose aggregate is in scratch. It reports
// whether the page ends before it.
func (k *Planner) refuse(p *outboxread.Page, pl *Plan, i int, why error) (ends bool) {
	fault := &RowError{id: p.IDs[i], msgID: p.Key(i).MsgID, topic: p.Records[i].Topic, err: why}
	switch k.o.Policy {
	case Halt:
		delete(k.poison, p.Key(i)) // at the next look it may have been corrected, or the topic changed
		k.cut(p, pl, i)
		pl.Halted = &checkpoint.HaltError{
			Diagnosis: fmt.Sprintf("%v", fault),
			Try: fmt.Sprintf("mend the cause, or correct or delete the row: it has id %d in %s; the lane looks again every %v",
				fault.id, k.o.Table, checkpoint.HaltedRetry),
		}
		return true
	case Skip:
		pl.leaveOut(p, i)
		pl.Skips = append(pl.Skips, aside{RowKey: p.Key(i), cause: causeRefused, err: why.Error()})
		pl.refused = append(pl.refused, fault)
	default:
		pl.leaveOut(p, i)
		pl.Parks = append(pl.Parks, aside{RowKey: p.Key(i), cause: causeRefused, err: why.Error()})
		pl.park(string(k.scratch), aggregate{})
		pl.refused = append(pl.refused, fault)
	}
	return false
}

// cut ends the page before place i: it publishes the window up to there.
func (k *Planner) cut(p *outboxread.Page, pl *Plan, i int) {
	for j := i; j < len(p.Records); j++ {
		pl.leaveOut(p, j)
	}
	pl.After, pl.Next = p.Window, i
	if i > 0 {
		pl.After.LastID = p.IDs[i-1]
	}
}

// Adopt makes the plan's view of what is parked that of the batches to come. The batch has been
// acknowledged whole; if it is not committed after all, the pipeline ends, and the next one reads
// what is parked again.
func (k *Planner) Adopt(pl *Plan) {
	for key, state := range pl.keys {
		k.add(key, state)
	}
	for _, key := range pl.freed {
		k.remove(key)
		k.until = time.Now().Add(time.Minute)
	}
	clear(k.poison) // what has been decided is not asked about again
	k.report(pl.refused)
}

// KeyBytes is about what a parked aggregate takes in memory beside its key.
const KeyBytes = 160

// add notes that an aggregate is parked.
func (k *Planner) add(key string, state aggregate) {
	if _, parked := k.keys[key]; !parked {
		k.bytes += len(key) + KeyBytes
	}
	k.keys[key] = state
}

func (k *Planner) remove(key string) {
	if _, parked := k.keys[key]; parked {
		k.bytes -= len(key) + KeyBytes
		delete(k.keys, key)
	}
}

// Full reports whether no new row may be judged: of one that is parked memory could not tell its
// later rows.
func (k *Planner) Full() bool { return k.partial || k.bytes > k.o.Bytes }

// ErrFull says so; IsFull knows the error.
func (k *Planner) ErrFull() error {
	return fullError(fmt.Sprintf("%d aggregates or more are parked, and memory is for no more: nothing new is published, because it "+
		"might overtake them; retry or discard parked aggregates (relay parked list), or mend the topics that they wait for", len(k.keys)))
}

type fullError string

func (e fullError) Error() string { return string(e) }

// IsFull reports whether an error is one of ErrFull.
func IsFull(err error) bool {
	_, ok := errors.AsType[fullError](err)
	return ok
}

// Parked is how many aggregates are parked, as far as memory holds them.
func (k *Planner) Parked() int { return len(k.keys) }

// ExpectsReleases reports whether parked rows may go on soon: some are parked, or somebody has
// asked for something lately.
func (k *Planner) ExpectsReleases() bool {
	return len(k.keys) > 0 || k.requested || time.Now().Before(k.until)
}

// MarkPoison notes that the brokers have refused a row.
func (k *Planner) MarkPoison(row outboxread.RowKey, why error) { k.poison[row] = why }

// SendSmaller is told that a topic has refused records together, of that many bytes, which it takes
// one by one. It returns how many bytes go together from now on.
func (k *Planner) SendSmaller(topic string, bytes int) int {
	k.pieces.halve(topic, bytes)
	return k.pieces.bound(topic)
}

// SendAtMost is told the limit of a topic. It reports whether that is smaller than what the planner
// and the producers use.
func (k *Planner) SendAtMost(topic string, limit int) bool { return k.pieces.atMost(topic, limit) }

// Try has parked rows of a suspended topic planned as if it were available, until StopTrying.
func (k *Planner) Try(topic string) {
	if k.trying == nil {
		k.trying = make(map[string]bool)
	}
	k.trying[topic] = true
}

// StopTrying ends that for one topic.
func (k *Planner) StopTrying(topic string) { delete(k.trying, topic) }

// StopTryingAll ends it for all.
func (k *Planner) StopTryingAll() { k.trying = nil }

// HasRoomAgain reports whether memory, which held only a part of what is parked, is half empty: it
// is time to Load what is parked again.
func (k *Planner) HasRoomAgain() bool { return k.partial && k.bytes <= k.o.Bytes/2 }

// Reported is how many rows of a batch are logged one by one. All of them are in outbox_parked or
// outbox_parked_audit.
const Reported = 3

// report logs the rows that a batch has set aside for good. A writer that goes wrong may write
// nothing else.
func (k *Planner) report(refused []*RowError) {
	what := "a row that can never be sent is parked, with all later rows of its aggregate"
	if k.o.Policy == Skip {
		what = "a row that can never be sent is skipped"
	}
	for _, fault := range refused[:min(len(refused), Reported)] {
		k.o.Logger.Error(what, "id", fault.id, "msg_id", fault.msgID, "topic", fault.topic, "error", fault.err)
	}
	if more := len(refused) - Reported; more > 0 {
		k.o.Logger.Error("more rows of the same batch can never be sent", "policy", k.o.Policy, "rows", more)
	}
}
