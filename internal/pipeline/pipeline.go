package pipeline

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/kafkatx"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/position"
	"github.com/outbox-relay/relay/internal/retention"
	"github.com/outbox-relay/relay/internal/timeline"
	"github.com/outbox-relay/relay/internal/topics"
)

// Deps are what a takeover has made ready. The caller closes them, once the pipeline has ended.
type Deps struct {
	// Row is the lane's row. It is the committer's until Run returns.
	Row *lanestore.Row
	// Reader reads the outbox.
	Reader *outboxread.Reader
	// Producers are fenced. Run closes them if it has to interrupt a commit.
	Producers *kafkatx.Pool
	// Topics are those that rows go to.
	Topics *topics.Registry
	// Log is the lane's partition of the checkpoint topic.
	Log *checkpoint.Log
	// Identity is what every checkpoint bears.
	Identity checkpoint.ClusterIdentity
	// Last is the last checkpoint that was committed.
	Last checkpoint.Record
	// LastOf is the last transaction of each transactional id, by its number in the pool.
	LastOf map[int]checkpoint.Transaction
}

// Options are what a pipeline is told.
type Options struct {
	// Name is that of the lane, and Table its outbox, "table" or "schema.table".
	Name, Table string
	// PollMin and PollMax are the pauses after a read that found nothing: the first, and the longest.
	// In between they grow with the time since a row was found.
	PollMin, PollMax time.Duration
	// RetryMin and RetryMax are those between attempts to ask a cluster that does not answer.
	RetryMin, RetryMax time.Duration
	// TransactionTimeout is how long brokers let a transaction stay open.
	TransactionTimeout time.Duration
	// WorkTimeout bounds what a batch writes about parked rows.
	WorkTimeout time.Duration
	// Reader are the options of the reader. The session that reads parked rows uses them, too.
	Reader outboxread.Options
	// Parking says what becomes of rows that can never be sent.
	Parking parking.Options
	// Retention says what is removed once it is published; nil for nothing.
	Retention *retention.Options
	// Step is called at each step of a batch, on the goroutine that takes it.
	Step func(Step)
	// Trace is called after each commit; nil for nothing.
	Trace  func(timeline.Batch)
	Logger *slog.Logger
}

// Lane is what a pipeline asks of its lane, and tells it. Each function is set; all are called on
// the pipeline's goroutines.
type Lane struct {
	// Progressed is called after each read of the outbox, and CaughtUp if nothing is left to read.
	Progressed, CaughtUp func()
	// Waiting says why nothing is published now, and Working that it goes on.
	Waiting func(error)
	Working func()
	// Parked is how many aggregates are parked.
	Parked func(aggregates int)
	// Published is told how far the lane has come, and Committed what was published, after each batch.
	Published func(position.Position)
	Committed func(Batch)
	// Hold shows on the session of the lane's row that this process lives.
	Hold func(context.Context) error
	// Status is what the lane's row is to say of the lane.
	Status func() (state, reason string)
}

// Batch describes one committed Kafka transaction.
type Batch struct {
	Lane  string
	Seq   int64
	Rows  int
	Bytes int // of keys, values and headers
	// Parked and Skipped rows were not sent; Released ones were parked before, and have been
	// published or discarded.
	Parked, Skipped, Released int
	// Oldest is the created_at of the oldest row.
	Oldest time.Time
	// Took is the time from the begin of the transaction to its commit.
	Took time.Duration
	// Delays are those of the rows.
	Delays Delays
}

// Memory is what a lane knows of its rows beyond the pipeline that found it out. One pipeline at a
// time uses it.
type Memory struct {
	pace    *pace
	poison  map[outboxread.RowKey]error // rows that the brokers have refused; the publisher's
	renewed int64                       // id of the row for which the producers were last made again; the publisher's
}

// NewMemory is that of a lane whose batches have so many rows at most.
func NewMemory(rows int) *Memory {
	return &Memory{pace: newPace(rows), poison: make(map[outboxread.RowKey]error)}
}

// Rows is the most rows that a batch may have now.
func (m *Memory) Rows() int { return m.pace.rows() }

// Pipeline publishes what is in an outbox.
type Pipeline struct {
	o       Options
	d       Deps
	lane    Lane
	memory  *Memory
	planner *parking.Planner

	creations *creations
}

// pending is a batch on its way from the publisher to the committer: one Kafka transaction.
type pending struct {
	seq    int64
	page   *outboxread.Page
	ids    []int64 // of the page, if the batch is traced
	oldest time.Time
	// created are those of the rows that are sent; see creations.
	created []int64
	times   timeline.Times // each is set by the goroutine that takes the step
	// plan and txn are replaced if the batch is begun again without rows that were refused; they are
	// final once flushed has its one value. The intent is then written again.
	plan    atomic.Pointer[parking.Plan]
	txn     *kafkatx.Txn
	flushed chan error
}

// Open reads what is parked. Meanwhile it pings on the session of the lane's row.
func Open(ctx context.Context, d Deps, o Options, lane Lane, memory *Memory) (*Pipeline, error) {
	p := &Pipeline{
		o: o, d: d, lane: lane, memory: memory, planner: parking.New(o.Parking, d.Topics, memory.poison),
		creations: newCreations(),
	}
	err := d.Row.PingWhile(ctx, func(ctx context.Context) error {
		return parking.Load(ctx, d.Reader.Conn(), o.Name, p.planner, d.Reader.Routed)
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Run publishes until drain is closed, when it finishes what has been read, or until something
// fails or ctx ends. It may be called once.
func (p *Pipeline) Run(ctx context.Context, drain <-chan struct{}) error {
	group, ctx := errgroup.WithContext(ctx)
	// A commit is never cancelled: closing the producers is what ends it, when another goroutine has
	// failed.
	stop := context.AfterFunc(ctx, p.d.Producers.Close)
	defer stop()
	var cleaner *retention.Cleaner
	if p.o.Retention != nil {
		cleaner = retention.Start(ctx, *p.o.Retention, p.d.Last.Position)
		defer cleaner.Stop()
	}
	commits := newCommits(p.d.Last.Seq)
	publisher := p.newPublisher(commits, drain)
	defer publisher.releases.close()
	reader, committer := p.newReader(publisher), p.newCommitter(commits, cleaner)
	pages := make(chan *outboxread.Page)
	// One place: the next batch is produced while the last one commits.
	batches := make(chan *pending, 1)
	group.Go(func() error {
		defer close(pages)
		return reader.run(ctx, p.d.Last.Position, pages)
	})
	group.Go(func() error {
		defer close(batches)
		return publisher.run(ctx, pages, batches)
	})
	ended := make(chan struct{})
	group.Go(func() error {
		defer close(ended)
		return committer.run(ctx, batches)
	})
	group.Go(func() error { return p.d.Producers.Markers.Failed(ctx, ended) })
	if err := group.Wait(); err != nil {
		return err
	}
	return publisher.unsendable
}

// commits is the number of the last batch that was committed: the committer adds, and the publisher
// waits.
type commits struct {
	last atomic.Int64
	news chan struct{} // has a value after each commit
}

func newCommits(last int64) *commits {
	c := &commits{news: make(chan struct{}, 1)}
	c.last.Store(last)
	return c
}

func (c *commits) add(seq int64) {
	c.last.Store(seq)
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// await waits until a batch, and with it every one before it, has been committed.
func (c *commits) await(ctx context.Context, seq int64) error {
	for c.last.Load() < seq {
		select {
		case <-c.news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
