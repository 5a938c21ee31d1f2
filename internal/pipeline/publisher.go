package pipeline

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/kafkatx"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/position"
	"github.com/outbox-relay/relay/internal/timeline"
	"github.com/outbox-relay/relay/internal/topics"
)

// publisher opens a transaction for each page. It waits for the acknowledgements of one page before
// it begins the next. In between it looks after what is parked.
type publisher struct {
	producers          *kafkatx.Pool
	log                *checkpoint.Log
	checkpoint         checkpoint.Record // what that of every batch says
	transactionTimeout time.Duration
	planner            *parking.Planner
	topics             *topics.Registry
	wait               *topicWait
	limits             *limits
	isolation          *isolation
	releases           *releases
	creations          *creations
	transactions       *transactions
	last               begun
	read               int64 // number of the last batch of rows that were read, not parked
	unsendable         error // the row that ended the pipeline, if one did
	putBack            func(*outboxread.Page)
	waiting            func(error)
	parked             func(aggregates int)
	step               func(Step)
	traced             bool
	commits            *commits
	wanted             chan struct{}   // takes a value if no batch is under way
	drain              <-chan struct{} // closed if the lane is to end
	ended              chan struct{}   // closed when nothing more is begun
}

// begun is the last batch that was begun: its number, and the position after it.
type begun struct {
	seq   int64
	after position.Position
}

// parkedLook is how long the publisher waits before it looks again whether a parked aggregate may
// go on, and parkedRounds how many batches of parked rows it publishes in a row before it turns to
// new rows.
const (
	parkedLook   = time.Second
	parkedRounds = 2
)

// errDrained ends a batch that was waiting for a topic when the lane was told to drain.
var errDrained = errors.New("the lane was handed on while a batch waited for a topic")

func (p *Pipeline) newPublisher(commits *commits, drain <-chan struct{}) *publisher {
	table, limits := p.d.Row.Table(), &limits{p.d.Topics, p.memory}
	return &publisher{
		producers: p.d.Producers, log: p.d.Log,
		checkpoint: checkpoint.Record{
			Version: checkpoint.Version, Lane: p.o.Name, Identity: p.d.Identity, Table: &table,
			Owner: p.d.Row.Owner(), OwnerEpoch: p.d.Row.Epoch(),
		},
		transactionTimeout: p.o.TransactionTimeout,
		planner:            p.planner,
		topics:             p.d.Topics,
		wait: &topicWait{
			topics: p.d.Topics, retryMin: p.o.RetryMin, retryMax: p.o.RetryMax,
			waiting: p.lane.Waiting, working: p.lane.Working, drain: drain, logger: p.o.Logger,
		},
		limits:       limits,
		isolation:    &isolation{p.d.Topics, limits, p.planner, p.o.TransactionTimeout, p.o.Logger},
		releases:     p.newReleases(commits),
		creations:    p.creations,
		transactions: &transactions{p.d.LastOf, p.d.Producers.Markers},
		last:         begun{p.d.Last.Seq, p.d.Last.Position},
		read:         p.d.Last.Seq,
		putBack:      p.d.Reader.Put,
		waiting:      p.lane.Waiting,
		parked:       p.lane.Parked,
		step:         p.o.Step,
		traced:       p.o.Trace != nil,
		commits:      commits,
		wanted:       make(chan struct{}),
		drain:        drain,
		ended:        make(chan struct{}),
	}
}

// run publishes pages until there are no more, a row ends the pipeline, or something fails.
func (p *publisher) run(ctx context.Context, pages <-chan *outboxread.Page, batches chan<- *pending) error {
	defer close(p.ended)
	p.parked(p.planner.Parked())
	look := time.NewTimer(0)
	defer look.Stop()
	looking := p.planner.ExpectsReleases()
	if !looking {
		<-look.C
	}
	asked := false
	for {
		in, drain := pages, (<-chan struct{})(nil)
		if p.planner.Full() {
			in, drain = nil, p.drain
			p.waiting(p.planner.ErrFull())
		}
		var wanted chan<- struct{} // once for each page
		if !asked && p.free() {
			wanted = p.wanted
		}
		select {
		case wanted <- struct{}{}:
			asked = true
		case <-drain:
			return nil
		case page, ok := <-in:
			if !ok {
				return nil
			}
			asked = false
			if ends, err := p.sendPage(ctx, page, batches); err != nil || ends {
				return err
			}
		case <-look.C:
			pause, err := p.lookAfterParked(ctx, batches)
			if err != nil {
				return err
			}
			if looking = pause > 0; looking {
				look.Reset(pause)
			}
		case <-p.commits.news:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !looking && p.planner.Parked() > 0 {
			looking = true
			look.Reset(parkedLook)
		}
	}
}

// free reports whether every batch of rows that were read has been committed. Batches of parked rows
// do not count: new rows take turns with them.
func (p *publisher) free() bool { return p.commits.last.Load() >= p.read }

// sendPage publishes what was read from the outbox, in one batch or in several. It reports whether
// the pipeline ends with it.
func (p *publisher) sendPage(
	ctx context.Context, page *outboxread.Page, batches chan<- *pending,
) (ends bool, err error) {
	for from := 0; from < len(page.Records); {
		if ready, err := p.wait.forTopics(ctx, page); err != nil || !ready {
			return true, err
		}
		if err := p.limits.check(ctx, page); err != nil {
			return true, err
		}
		plan := func() *parking.Plan { return p.planner.PlanPage(page, from) }
		first, err := p.firstPlan(ctx, page, from, plan)
		if err != nil {
			return true, err
		}
		if first.Halted != nil && first.Empty() {
			p.unsendable = first.Halted
			return true, nil
		}
		done, err := p.send(ctx, page, first, plan, batches)
		p.read = p.last.seq
		if err != nil || done.Halted != nil {
			p.unsendable = done.Halted
			return true, err
		}
		from = done.Next
		page.Release()
	}
	p.putBack(page)
	return false, nil
}

// firstPlan makes a plan. If it begins with a large row that can be sent, as far as is known, that
// row's payload is read first.
func (p *publisher) firstPlan(
	ctx context.Context, page *outboxread.Page, from int, plan func() *parking.Plan,
) (*parking.Plan, error) {
	first := plan()
	if !first.Fetch {
		return first, nil
	}
	if err := p.releases.fetch(ctx, page, from); err != nil {
		return nil, err
	}
	return plan(), nil
}

// lookAfterParked carries out what was asked for, and sends what waited for a topic that is back.
// It returns when to look again; 0 is never.
func (p *publisher) lookAfterParked(ctx context.Context, batches chan<- *pending) (time.Duration, error) {
	if err := p.releases.begin(ctx, p.last.seq); err != nil {
		return 0, err
	}
	defer p.releases.end()
	for range parkedRounds {
		select {
		case <-p.drain:
			return 0, nil
		default:
		}
		more, err := p.sendParked(ctx, batches)
		if err != nil {
			return 0, err
		}
		if !more {
			if p.planner.ExpectsReleases() {
				return parkedLook, nil
			}
			return 0, nil
		}
	}
	return time.Nanosecond, nil
}

// sendParked publishes a page of parked rows, and reports whether there was anything to do.
func (p *publisher) sendParked(ctx context.Context, batches chan<- *pending) (bool, error) {
	page, plan, err := p.releases.next(ctx, p.last)
	if err != nil || page == nil {
		return false, err
	}
	if ready, err := p.wait.forTopics(ctx, page); err != nil || !ready {
		return false, err
	}
	if err := p.limits.check(ctx, page); err != nil {
		return false, err
	}
	first, err := p.firstPlan(ctx, page, 0, plan)
	if err != nil {
		return false, err
	}
	if first.Empty() {
		p.releases.putBack(page)
		return false, nil
	}
	if _, err = p.send(ctx, page, first, plan, batches); err != nil {
		return false, err // the client may still hold records of the page
	}
	p.releases.putBack(page)
	return true, nil
}

// send makes a batch of a page and hands it to the committer. It returns the plan that was carried
// out: the first, or one that plan has made since.
func (p *publisher) send(
	ctx context.Context, page *outboxread.Page, first *parking.Plan, plan func() *parking.Plan, batches chan<- *pending,
) (*parking.Plan, error) {
	txn, err := p.begin(ctx)
	if err != nil {
		return first, err
	}
	p.last.seq++
	b := &pending{
		seq: p.last.seq, page: page, oldest: page.Oldest, txn: txn, flushed: make(chan error, 1),
		times: timeline.Times{Asked: page.Asked, Read: page.Read, Begun: txn.Begun},
	}
	if p.traced {
		b.ids = slices.Clone(page.IDs)
	}
	b.plan.Store(first)
	// The committer may write the intent while this goroutine produces.
	select {
	case batches <- b:
	case <-ctx.Done():
		return first, ctx.Err()
	}
	err = p.publish(ctx, b, plan)
	done := b.plan.Load()
	if err == nil {
		p.last.after = done.After
		p.planner.Adopt(done)
		p.parked(p.planner.Parked())
	}
	b.flushed <- err
	return done, err
}

func (p *publisher) begin(ctx context.Context) (*kafkatx.Txn, error) {
	p.step(BeforeBegin)
	txn, err := p.producers.Begin(ctx)
	if err != nil {
		return nil, err
	}
	p.step(AfterBegin)
	return txn, nil
}

// publish produces a batch until the brokers have acknowledged it whole. What they refuse for good
// is taken out of it, and what they refuse for now is waited for: the transaction is aborted and
// the batch begun again, with a new plan.
func (p *publisher) publish(ctx context.Context, b *pending, plan func() *parking.Plan) error {
	for {
		err := p.produce(ctx, b)
		if err == nil {
			p.topics.Unavailable.Written(b.page.Records, b.plan.Load().Drop)
			return nil
		}
		if blocked := (*blockedError)(nil); errors.As(err, &blocked) {
			p.isolation.noteBlocked(blocked)
		} else if ctx.Err() != nil || !goesOnWithout(b.txn, p.log.Topic) {
			return err
		}
		rejected := rejectedOf(b.txn)
		if len(rejected) == 0 {
			p.isolation.noteUnavailable(b)
		}
		if err := b.txn.Abort(); err != nil {
			return err
		}
		if why := p.isolation.isolate(ctx, b, rejected); why != nil {
			return errors.Join(err, why)
		}
		ready, err := p.wait.forTopics(ctx, b.page)
		if err != nil {
			return err
		}
		if !ready {
			return errDrained
		}
		next := plan()
		if next.Halted != nil && next.Empty() {
			return next.Halted
		}
		b.plan.Store(next)
		if b.txn, err = p.begin(ctx); err != nil {
			return err
		}
	}
}

// produce produces the rows and the checkpoint and waits until all are acknowledged.
func (p *publisher) produce(ctx context.Context, b *pending) error {
	plan := b.plan.Load()
	transactions, err := p.transactions.with(b, plan)
	if err != nil {
		return err
	}
	last := p.checkpoint
	last.Seq, last.Position, last.Transactions = b.seq, plan.After, transactions
	value, err := last.Encode()
	if err != nil {
		return err
	}
	// Brokers abort a transaction that stays open longer: waiting on is of no use.
	ctx, cancel := context.WithTimeout(ctx, p.transactionTimeout+time.Second)
	defer cancel()
	records, given := b.txn.Deadline(ctx)
	defer given()
	b.created = p.creations.of(b.page, plan, b.created)
	p.step(BeforeProduce)
	for i := range b.page.Records {
		if plan.Drop == nil || !plan.Drop[i] {
			b.txn.Produce(records, &b.page.Records[i])
		}
	}
	b.txn.Produce(records, p.log.Message(value))
	b.times.Produced = time.Now()
	p.step(AfterProduce)
	p.step(BeforeFlush)
	if err := b.txn.Flush(ctx); err != nil {
		return err
	}
	b.times.Acknowledged = time.Now()
	p.step(AfterFlush)
	return nil
}
