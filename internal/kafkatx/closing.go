package kafkatx

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/backoff"
	"github.com/outbox-relay/relay/internal/checkpoint"
)

// Closing sees to it, in a takeover, that no partition holds a transaction of the lane open that
// has been decided. It runs before the fence, as long as the coordinators still know what they have
// decided, and again once the last checkpoint is final, which names every batch that was committed.
type Closing struct {
	pool    *Pool
	client  *kgo.Client
	ids     []string
	own     Place              // the lane's partition of the checkpoint topic
	last    *checkpoint.Record // as far as it is known
	final   bool               // it is the last one
	places  Partitions         // to look at: those of transactions that are open
	topics  map[string]bool    // and all partitions of these
	states  map[string]Coordinated
	unseen  map[string]error // topics of which a partition could not be asked
	Wrote   bool             // a marker, that is
	decided map[decidedKey]decision
	doubts  map[decidedKey]int // how often a transaction was seen open that nobody could decide
}

// mostDoubts is how often a transaction is seen open and undecided until the lane halts: some tens
// of milliseconds.
const mostDoubts = 5

// decision is what a marker that has been written once said.
type decision struct {
	id   string
	fate fate
}

// decidedKey names a transaction.
type decidedKey struct {
	producerID int64
	epoch      int16
}

// What becomes of a transaction that a partition holds open.
type fate int

const (
	foreign   fate = iota // not of this lane
	running               // not decided yet, and the fence aborts it; or its markers are under way
	undecided             // not known yet: the checkpoint will tell
	commits               // it was committed, and its marker is missing
	aborts                // it was aborted, and its marker is missing
	clash                 // one marker would decide it and another
)

// fateOf decides an open transaction by what the coordinator said before the partition was asked.
//
// With transaction.version 2 an epoch names a transaction. An id begins another transaction only
// once its last one is seen to be closed, so what is open and decided is the last one; the
// coordinator raises the epoch by one when it commits, and by one or two when it aborts, and
// forgets what it decided when the id is taken.
func (c *Closing) fateOf(o Open, state Coordinated) fate {
	if known, ok := c.decided[decidedKey{o.ProducerID, o.Epoch}]; ok {
		return known.fate // and its marker was left out once more
	}
	committed := c.last != nil && c.last.Transactions.Committed(o.ProducerID, o.Epoch)
	unknown := c.last != nil && c.last.Unreadable // it may name the transaction
	if state.ProducerID == o.ProducerID {
		ago := int(state.Epoch) - int(o.Epoch)
		switch {
		case state.State == Ongoing && ago == 0:
			return running
		case state.State == Ongoing && slices.Contains(state.Partitions[o.Topic], o.Partition):
			return clash
		case state.State != Ongoing && !state.State.Decided():
			return running // its markers are being written
		case state.State == CompleteCommit && ago == 1:
			return commits
		case state.State == CompleteAbort && (ago == 1 || ago == 2 && !unknown) && !committed:
			return aborts
		}
	}
	switch {
	case committed:
		return commits
	case state.ProducerID != o.ProducerID:
		return foreign
	case c.final && (c.last == nil || c.last.Transactions != nil):
		// Committed batches are a prefix, and the last of each id is in the checkpoint. An earlier
		// one was seen to be closed before its id was used again.
		return aborts
	}
	return undecided
}

// CloseOpen closes what is open and decided. It asks through client. Before the fence, last is what
// could be read of the checkpoint; topics are looked at beside those that it names.
func (r *Pool) CloseOpen(
	ctx context.Context, client *kgo.Client, last *checkpoint.Record, final bool, topics []string,
) (*Closing, error) {
	c := &Closing{
		pool: r, client: client, ids: r.o.IDs, own: r.o.Checkpoints,
		last: last, final: final, topics: make(map[string]bool), decided: make(map[decidedKey]decision),
		doubts: make(map[decidedKey]int),
	}
	for _, topic := range topics {
		c.topics[topic] = true
	}
	c.places = Partitions{c.own.Topic: {c.own.Partition}}
	if err := c.chooseTopics(ctx); err != nil {
		return nil, err
	}
	for pause := askAgain; ; pause = min(2*pause, askAgainMost) {
		again, err := c.round(ctx)
		if err != nil || !again {
			return c, err
		}
		if err := backoff.Sleep(ctx, pause); err != nil {
			return nil, fmt.Errorf("wait for the end of the lane's last transactions: %w%s", err, c.busyWith())
		}
	}
}

// chooseTopics lists the topics of the lane's last transactions.
func (c *Closing) chooseTopics(ctx context.Context) error {
	every := false
	if c.last != nil {
		for _, t := range c.last.Transactions.All() {
			for _, topic := range t.Topics {
				c.topics[topic] = true
			}
			every = every || t.EveryTopic
		}
		every = every || c.last.Unreadable
	}
	if every {
		all, err := kadm.NewClient(c.client).ListTopics(ctx)
		if err != nil {
			return fmt.Errorf("list topics: %w", err)
		}
		for topic := range all {
			c.topics[topic] = true
		}
	}
	delete(c.topics, c.own.Topic)
	return nil
}

// round looks once, and writes the markers that are missing. It reports whether to look again.
func (c *Closing) round(ctx context.Context) (again bool, err error) {
	if c.states, err = c.pool.Markers.coordinators.Ask(ctx, c.ids...); err != nil {
		return false, err
	}
	for _, state := range c.states {
		for topic, partitions := range state.Partitions {
			for _, partition := range partitions {
				if !slices.Contains(c.places[topic], partition) {
					c.places[topic] = append(c.places[topic], partition)
				}
			}
		}
	}
	seen, err := c.look(ctx)
	if err != nil {
		return false, err
	}
	missing := make(map[string][]Open) // by transactional id
	for _, o := range seen.Open {
		id := c.idOf(o)
		if id == "" {
			continue
		}
		switch fate := c.fateOf(o, c.states[id]); {
		case fate == commits, fate == aborts:
			c.decided[decidedKey{o.ProducerID, o.Epoch}] = decision{id, fate}
			missing[id] = append(missing[id], o)
		case fate == clash:
			return false, c.halt(id, o, fate)
		case fate == undecided && (o.Place == c.own || c.final):
			// The answer of the coordinator is older than that of the partition: a transaction that
			// began between the two is known to the next one. Only what stays open is in doubt.
			key := decidedKey{o.ProducerID, o.Epoch}
			if c.doubts[key]++; c.doubts[key] >= mostDoubts {
				return false, c.halt(id, o, fate)
			}
			again = true
		}
	}
	for _, id := range c.ids {
		state := c.states[id]
		if !state.State.Decided() {
			again = true
		}
		if state.State == Ongoing && !c.final {
			// It belongs to the predecessor, whose intents fail by now. Its end is awaited before
			// the fence, because the fence has the coordinators forget what they have decided.
			if _, _, _, err := Take(ctx, c.client, id, c.timeoutMillis()); err != nil {
				return false, err
			}
		}
	}
	for id, open := range missing {
		again = true
		if err := c.finish(ctx, id, open); err != nil {
			return false, err
		}
	}
	return again, nil
}

func (c *Closing) timeoutMillis() int32 { return int32(c.pool.o.TransactionTimeout.Milliseconds()) }

// look asks the partitions. Only that of the checkpoint must answer.
func (c *Closing) look(ctx context.Context) (Seen, error) {
	m := c.pool.Markers
	seen, err := m.lookAt(ctx, slices.Collect(maps.Keys(c.topics))...)
	if err != nil {
		return seen, err
	}
	further := make(Partitions)
	for topic, partitions := range c.places {
		if !c.topics[topic] {
			further[topic] = partitions
		}
	}
	more := m.lookSettled(ctx, further)
	if cause, ok := more.Unseen[c.own]; ok {
		return seen, cannotAsk(c.own, cause)
	}
	seen.Open = append(seen.Open, more.Open...)
	maps.Copy(seen.Unseen, more.Unseen)
	c.unseen = make(map[string]error)
	for place, cause := range seen.Unseen {
		c.unseen[place.Topic] = cannotAsk(place, cause)
	}
	return seen, nil
}

// idOf returns the transactional id of an open transaction, empty if it is not of this lane.
func (c *Closing) idOf(o Open) string {
	if known, ok := c.decided[decidedKey{o.ProducerID, o.Epoch}]; ok {
		return known.id // which may have another producer id by now
	}
	for _, id := range c.ids {
		if c.states[id].ProducerID == o.ProducerID {
			return id
		}
	}
	if c.last != nil {
		for _, t := range c.last.Transactions.All() {
			if t.ProducerID == o.ProducerID {
				return c.ids[t.Number]
			}
		}
	}
	return ""
}

// finish writes the markers that are missing of an id's last transaction.
func (c *Closing) finish(ctx context.Context, id string, open []Open) error {
	state := c.states[id]
	if !state.State.Decided() {
		return nil // in a later round
	}
	commit := c.fateOf(open[0], state) == commits
	same := slices.DeleteFunc(open, func(o Open) bool { // another one is for a later round
		return o.ProducerID != open[0].ProducerID || (c.fateOf(o, state) == commits) != commit
	})
	for _, o := range same {
		c.pool.o.Logger.Warn("the brokers have left out the marker of a transaction; it is written now",
			"partition", o.String(), "offset", o.Start, "transactional_id", id, "producer_id", o.ProducerID, "epoch", o.Epoch,
			"commit", commit)
	}
	c.Wrote = true
	if same[0].ProducerID == state.ProducerID {
		_, err := Finish(ctx, c.client, id, c.timeoutMillis(), state, same, commit)
		return err
	}
	// The coordinator has given the id another producer id since: no transaction of it can end this
	// one.
	err := WriteMarkers(ctx, c.client, same, commit)
	if errors.Is(err, kerr.ClusterAuthorizationFailed) {
		return c.haltDenied(same[0], commit, err)
	}
	return err
}

// busyWith says which transactions have not come to an end.
func (c *Closing) busyWith() string {
	var text strings.Builder
	for _, id := range c.ids {
		if state := c.states[id]; !state.State.Decided() {
			fmt.Fprintf(&text, "; %s is %s on %v", id, state.State, state.Partitions)
		}
	}
	return text.String()
}

// halt says what is open and cannot be decided, and how a person can.
func (c *Closing) halt(id string, o Open, fate fate) error {
	why := "and neither its coordinator nor the checkpoint say whether it was committed"
	if fate == clash {
		why = "and another transaction of that id is under way there, so that one marker would decide both"
	}
	try := fmt.Sprintf("look at its records with kafka-console-consumer.sh --bootstrap-server %[1]s --topic %[2]s --partition %[3]d "+
		"--offset %[4]d --isolation-level read_uncommitted; hide them with kafka-transactions.sh --bootstrap-server %[1]s abort --topic %[2]s "+
		"--partition %[3]d --start-offset %[4]d; rows that are to be published again get a new xact_id (docs/recovery.md)",
		c.pool.o.Broker, o.Topic, o.Partition, o.Start)
	return checkpoint.Contradiction(checkpoint.HangingTransaction, try,
		"%s holds a transaction of %s open from offset %d (producer id %d, epoch %d), %s", o.Place, id, o.Start, o.ProducerID, o.Epoch, why)
}

func (c *Closing) haltDenied(o Open, commit bool, cause error) error {
	what := "aborted"
	if commit {
		what = "committed"
	}
	return checkpoint.Contradiction(checkpoint.HangingTransaction,
		"allow the relay to write its marker until the lane goes on: kafka-acls.sh --bootstrap-server "+
			c.pool.o.Broker+" --add --allow-principal User:… --operation Alter --cluster",
		"%s holds a transaction open from offset %d (producer id %d, epoch %d) that was %s, and its transactional id has another producer id "+
			"by now: %v", o.Place, o.Start, o.ProducerID, o.Epoch, what, cause)
}

// Follow has the pool go on from here: it remembers what could not be asked. It returns the last
// transactions of the ids by their numbers, nil if there is no checkpoint.
func (c *Closing) Follow() map[int]checkpoint.Transaction {
	if c.last == nil {
		return nil
	}
	for _, t := range c.last.Transactions.All() {
		topics := t.Topics
		if t.EveryTopic {
			topics = slices.Collect(maps.Keys(c.unseen))
		}
		for _, topic := range topics {
			if cause, ok := c.unseen[topic]; ok {
				t.Topics, t.EveryTopic = []string{topic}, false
				c.pool.Markers.remember(t, cause)
			}
		}
	}
	return c.last.Transactions.ByNumber()
}

// AllSeen is an error if a topic of the lane could not be asked what is open on it. The next
// checkpoint would have nothing of a transaction there, and so it would pass for an aborted one
// when the topic is back.
func (c *Closing) AllSeen(mayWriteTo func(topic string) bool) error {
	for _, topic := range slices.Sorted(maps.Keys(c.unseen)) {
		cause := c.unseen[topic]
		// What the relay may not read it has not written to, and a topic that was deleted has
		// nothing open.
		notMine := !mayWriteTo(topic) || errors.Is(cause, kerr.TopicAuthorizationFailed)
		if notMine || errors.Is(cause, kerr.UnknownTopicOrPartition) {
			continue
		}
		return fmt.Errorf("the checkpoint that names the last transactions cannot be read, so all topics of the lane must be seen to be "+
			"closed; bring the partition's broker back and run the command again: %w", cause)
	}
	return nil
}
