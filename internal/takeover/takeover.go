package takeover

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/kafkatx"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/position"
	"github.com/outbox-relay/relay/internal/topics"
)

// Options say how a lane is taken over by a process that is going to publish its rows.
type Options struct {
	KafkaOptions
	// Reader says how the rows are read; Take fills in the table's OID.
	Reader outboxread.Options
	// Topics says what becomes of topics that do not exist. Unavailable outlives an ownership.
	Topics      topics.Options
	Unavailable *topics.Unavailable
	// Partitioner names who chooses the partition of a key; see package partitioning.
	Partitioner string
	Compression kgo.CompressionCodec
}

// Owned is what the owner of a lane has, beside the row.
type Owned struct {
	*Kafka
	Topics *topics.Registry
	Reader *outboxread.Reader
	// Last is the last batch that was committed; its Seq is 0 if there was none.
	Last checkpoint.Record
	// LastOf is the last transaction of each transactional id, by its number.
	LastOf map[int]checkpoint.Transaction

	row *lanestore.Row
	o   Options
}

// Take makes this process the lane's owner: see the package's documentation. The caller has the
// lane's lock, and closes the row, whether or not it succeeds.
func Take(ctx context.Context, row *lanestore.Row, o Options) (*Owned, error) {
	if err := row.Bind(ctx); err != nil {
		return nil, err
	}
	identity, err := row.RaiseEpoch(ctx)
	if err != nil {
		return nil, err
	}
	kafka, err := OpenKafka(identity, o.KafkaOptions)
	if err != nil {
		return nil, err
	}
	owned := &Owned{
		Kafka: kafka, Topics: topics.NewRegistry(kafka.Admin, o.Unavailable, o.Topics),
		LastOf: make(map[int]checkpoint.Transaction), row: row, o: o,
	}
	if err := owned.take(ctx); err != nil {
		owned.Close()
		return nil, err
	}
	return owned, nil
}

// Close frees all of it.
func (w *Owned) Close() {
	if w.Reader != nil {
		w.Reader.Close()
	}
	w.Kafka.Close()
}

// take does what follows after the epoch was raised.
func (w *Owned) take(ctx context.Context) error {
	// The reader comes before the fence: what is wrong with it must not disturb a predecessor that
	// works.
	if err := w.row.PingWhile(ctx, w.openReader); err != nil {
		return err
	}
	partitioner, err := w.Topics.Partitioner(w.o.Partitioner, w.Log.Topic)
	if err != nil {
		return err
	}
	w.send = sending{
		partitioner: partitioner, compression: w.o.Compression, batchMaxBytes: w.Topics.BatchMaxBytes,
		records: w.o.Reader.Rows + checkpoint.PoolSize, now: w.Reader.Clock().Now,
	}
	kafkaCtx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	var last *checkpoint.Record
	err = w.row.PingWhile(kafkaCtx, func(ctx context.Context) (err error) {
		last, err = w.fenceAndRead(ctx)
		return err
	})
	if err != nil {
		return err
	}
	w.Topics.Clear = w.Producers.Markers.Clear
	if err := w.compare(ctx, last); err != nil {
		return err
	}
	if err := w.row.PingWhile(kafkaCtx, func(ctx context.Context) error { return w.closeRest(ctx, last) }); err != nil {
		return err
	}
	if last == nil {
		last = &checkpoint.Record{
			Version: checkpoint.Version, Lane: w.o.Lane, Position: position.Position{From: position.Beginning},
			Owner: w.row.Owner(), OwnerEpoch: w.row.Epoch(),
		}
	}
	// The first checkpoint of a lane, and the first on a new timeline, are written at once: from then
	// on an empty log is a lost log, and the server before the promotion is a stranger.
	if last.Identity != w.Identity || last.Table == nil || *last.Table != w.row.Table() {
		last.Identity, last.Table = w.Identity, new(w.row.Table())
		if err := w.row.PingWhile(kafkaCtx, func(ctx context.Context) error { return w.Sign(ctx, *last) }); err != nil {
			return err
		}
	}
	w.Last = *last
	return w.row.Complete(ctx, w.Last, w.Identity)
}

// openReader opens the reader, on the same server as the row.
func (w *Owned) openReader(ctx context.Context) (err error) {
	o := w.o.Reader
	o.OID = w.row.Table().OID
	if w.Reader, err = outboxread.Open(ctx, o); err != nil {
		return err
	}
	return w.Reader.CheckServer(ctx, w.row.Server())
}

// fenceAndRead is the Kafka side of a takeover. It returns the last checkpoint, nil if there is
// none.
func (w *Owned) fenceAndRead(ctx context.Context) (*checkpoint.Record, error) {
	if err := w.Meet(ctx); err != nil {
		return nil, err
	}
	// Before anything is fenced: another database under the same name must not disturb the lane that
	// it would fence.
	known, err := w.Log.ReadUnfenced(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkpoint.CompareIdentity(w.o.Lane, known, w.Identity); err != nil {
		return nil, err
	}
	bound := w.row.Before().BoundBy(known)
	err = checkpoint.CompareTable(w.o.Lane, bound.Table, w.row.Table(), func() string {
		return lanestore.DescribeOldTable(ctx, w.Reader.Conn(), bound)
	})
	if err != nil {
		return nil, err
	}
	return w.Fence(ctx, known)
}

// compare halts if the two logs contradict each other.
func (w *Owned) compare(ctx context.Context, last *checkpoint.Record) error {
	state, err := w.row.Read(ctx)
	if err != nil {
		return err
	}
	var now checkpoint.Server
	err = w.row.PingWhile(ctx, func(ctx context.Context) (err error) {
		now, err = lanestore.ReadNow(ctx, w.Reader.Conn(), w.o.Reader.Table)
		return err
	})
	if err != nil {
		return err
	}
	now.Name, now.Bound = w.o.Name, w.row.Table()
	now.Old = func() string { return lanestore.DescribeOldTable(ctx, w.row.Conn(), state.BoundBy(last)) }
	return checkpoint.Compare(w.o.Lane, state.Row, last, w.Identity, now)
}

// closeRest closes what only the last checkpoint decides.
func (w *Owned) closeRest(ctx context.Context, last *checkpoint.Record) error {
	c, err := w.Producers.CloseOpen(ctx, w.Client, last, true, w.o.LeftOpen)
	if err != nil {
		return err
	}
	if c.Wrote { // with ids that the pool had
		return kafkatx.ErrLeftOpen
	}
	if last := c.Follow(); last != nil {
		w.LastOf = last
	}
	return nil
}
