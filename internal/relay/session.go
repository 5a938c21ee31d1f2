package relay

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/kafkatx"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/position"
	"github.com/outbox-relay/relay/internal/retention"
	"github.com/outbox-relay/relay/internal/takeover"
	"github.com/outbox-relay/relay/internal/topics"
)

// session is one ownership of a lane, from its takeover to the first doubt. Three goroutines pass a
// batch on:
//
//	read     the next page, while the batches before it are in flight
//	produce  begin, produce the rows and the checkpoint, flush; one batch at a time, so that records of a key keep their order
//	commit   wait for the batch before, intent, check, end; one batch at a time, so that committed batches are a prefix
//
// The first error ends all three. Nothing survives it: the next session starts from what the two
// logs say.
type session struct {
	cfg        *Config
	lane       *lane
	row        *lanestore.Row
	owned      *takeover.Owned
	client     *kgo.Client // for questions to the cluster
	producers  *kafkatx.Pool
	reader     *outboxread.Reader
	topics     *topics.Registry
	admin      *kadm.Client // on that client
	log        *checkpoint.Log
	identity   checkpoint.ClusterIdentity
	last       checkpoint.Record // committed, when the session began
	parking    *parking.Planner
	queue      *parking.Queue    // of outbox_parked; opened when it is needed
	progress   position.Position // after the last batch that was begun
	seq        int64             // of that batch
	unsendable error             // the row that ended the session, if one did
	drain      <-chan struct{}
	committed  atomic.Int64                   // the last batch that was committed
	settled    chan struct{}                  // has a value after each commit
	produced   chan struct{}                  // closed when nothing more is begun
	lastOf     map[int]checkpoint.Transaction // of each transactional id, by its number; the producing goroutine's
	cleaner    *retention.Cleaner             // nil if nothing is ever removed
}

// batch is one Kafka transaction on its way from the producing to the committing goroutine.
type batch struct {
	seq    int64
	page   *outboxread.Page
	oldest time.Time
	begun  time.Time
	// plan and txn are replaced where the batch is begun again without rows that were refused; they
	// are final once flushed has its one value. The intent is then written again.
	plan    atomic.Pointer[parking.Plan]
	txn     *kafkatx.Txn
	flushed chan error
}

// run publishes until drain is closed, when it finishes what has been read, or until something
// fails or ctx ends.
func (s *session) run(ctx context.Context, drain <-chan struct{}) error {
	group, ctx := errgroup.WithContext(ctx)
	// A commit is never cancelled: closing the producers is what ends it, when another goroutine has
	// failed.
	stop := context.AfterFunc(ctx, s.producers.Close)
	defer stop()
	s.drain = drain
	if s.cfg.Retention != KeepForever {
		s.cleaner = retention.Start(ctx, s.cleanerOptions(), s.last.Position)
		defer s.cleaner.Stop()
	}
	pages := make(chan *outboxread.Page)
	// One place: the next batch is produced while the last one commits.
	batches := make(chan *batch, 1)
	group.Go(func() error {
		defer close(pages)
		return s.read(ctx, pages)
	})
	group.Go(func() error {
		defer close(batches)
		return s.produce(ctx, pages, batches)
	})
	ended := make(chan struct{})
	group.Go(func() error {
		defer close(ended)
		return s.commit(ctx, batches)
	})
	group.Go(func() error { return s.producers.Markers.Failed(ctx, ended) })
	if err := group.Wait(); err != nil {
		return err
	}
	return s.unsendable
}

// recordOptions say what records the lane makes of rows.
func (c *Config) recordOptions() outboxread.RecordOptions {
	return outboxread.RecordOptions{Source: c.Name, Route: c.Route, Allowed: c.Topics.Allow, ContentType: c.ContentType}
}

func (s *session) cleanerOptions() retention.Options {
	return retention.Options{
		Lane: s.lane.Name, Table: s.lane.Table, OID: s.row.Table().OID, Age: max(0, s.cfg.Retention),
		Database: s.cfg.sessions(), Server: s.row.Server(), Logger: s.lane.log, Removed: s.cfg.Hooks.removed,
	}
}

// read follows the outbox. An empty read moves the progress in memory only.
func (s *session) read(ctx context.Context, pages chan<- *outboxread.Page) error {
	progress := s.last.Position
	pause := s.cfg.PollMin
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.drain:
			return nil
		default:
		}
		s.cfg.Step(BeforeRead)
		page, err := s.reader.Next(ctx, progress)
		if err != nil {
			return err
		}
		s.lane.progressed()
		progress = page.After
		if len(page.Records) > 0 {
			s.cfg.Step(AfterRead)
			pause = s.cfg.PollMin
			select {
			case pages <- page:
			case <-s.drain: // not begun, so left to the next owner
				return nil
			case <-s.produced: // a row ends the session
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		s.reader.Put(page)
		if progress.Open() {
			continue
		}
		s.lane.caughtUp()
		timer.Reset(pause)
		select {
		case <-timer.C:
		case <-s.drain:
			return nil
		case <-s.produced:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(2*pause, s.cfg.PollMax)
	}
}

// produce opens a transaction for each page. It waits for the acknowledgements of one page before
// it begins the next. In between it looks after what is parked.
func (s *session) produce(ctx context.Context, pages <-chan *outboxread.Page, batches chan<- *batch) error {
	defer close(s.produced)
	s.lane.parked.Store(int64(len(s.parking.Keys)))
	look := time.NewTimer(0)
	defer look.Stop()
	looking := len(s.parking.Keys) > 0 || s.parking.Requested
	if !looking {
		<-look.C
	}
	for {
		in, drain := pages, (<-chan struct{})(nil)
		if s.parking.Full() {
			in, drain = nil, s.drain
			s.lane.failed(Waiting, s.parking.ErrFull())
		}
		select {
		case <-drain:
			return nil
		case page, ok := <-in:
			if !ok {
				return nil
			}
			if ends, err := s.sendPage(ctx, page, batches); err != nil || ends {
				return err
			}
		case <-look.C:
			pause, err := s.lookAfterParked(ctx, batches)
			if err != nil {
				return err
			}
			if looking = pause > 0; looking {
				look.Reset(pause)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		if !looking && len(s.parking.Keys) > 0 {
			looking = true
			look.Reset(parkedLook)
		}
	}
}

// sendPage publishes what was read from the outbox, in one batch or in several. It reports whether
// the session ends with it.
func (s *session) sendPage(ctx context.Context, p *outboxread.Page, batches chan<- *batch) (ends bool, err error) {
	for from := 0; from < len(p.Records); {
		if ready, err := s.awaitTopics(ctx, p); err != nil || !ready {
			return true, err
		}
		if err := s.checkLimits(ctx, p); err != nil {
			return true, err
		}
		sieve := func() *parking.Plan { return s.parking.PlanPage(p, from) }
		pl, err := s.planned(ctx, p, from, sieve)
		if err != nil {
			return true, err
		}
		if pl.Halted != nil && pl.Empty() {
			s.unsendable = pl.Halted
			return true, nil
		}
		pl, err = s.send(ctx, p, pl, sieve, batches)
		if err != nil || pl.Halted != nil {
			s.unsendable = pl.Halted
			return true, err
		}
		from = pl.Next
		p.Release()
	}
	s.reader.Put(p)
	return false, nil
}

// send makes a batch of a page and hands it to the committing goroutine. It returns the plan that
// was carried out.
func (s *session) send(
	ctx context.Context, p *outboxread.Page, pl *parking.Plan, sieve func() *parking.Plan, batches chan<- *batch,
) (*parking.Plan, error) {
	txn, err := s.beginTransaction(ctx)
	if err != nil {
		return pl, err
	}
	s.seq++
	b := &batch{seq: s.seq, page: p, oldest: p.Oldest, begun: txn.Begun, txn: txn, flushed: make(chan error, 1)}
	b.plan.Store(pl)
	// The committing goroutine may write the intent while this one produces.
	select {
	case batches <- b:
	case <-ctx.Done():
		return pl, ctx.Err()
	}
	err = s.publish(ctx, b, sieve)
	pl = b.plan.Load()
	if err == nil {
		s.progress = pl.After
		s.parking.Adopt(pl)
		s.lane.parked.Store(int64(len(s.parking.Keys)))
	}
	b.flushed <- err
	return pl, err
}

func (s *session) beginTransaction(ctx context.Context) (*kafkatx.Txn, error) {
	s.cfg.Step(BeforeBegin)
	txn, err := s.producers.Begin(ctx)
	if err != nil {
		return nil, err
	}
	s.cfg.Step(AfterBegin)
	return txn, nil
}

// fill produces the rows and the checkpoint and waits until all are acknowledged.
func (s *session) fill(ctx context.Context, b *batch) error {
	pl := b.plan.Load()
	transactions, err := s.enlist(b, pl)
	if err != nil {
		return err
	}
	last := checkpoint.Record{
		Version: checkpoint.Version, Lane: s.lane.Name, Seq: b.seq, Position: pl.After, Identity: s.identity, Table: new(s.row.Table()),
		Owner: s.row.Owner(), OwnerEpoch: s.row.Epoch(), Transactions: transactions,
	}
	value, err := last.Encode()
	if err != nil {
		return err
	}
	// Brokers abort a transaction that stays open longer: waiting on is of no use.
	ctx, cancel := context.WithTimeout(ctx, s.cfg.TransactionTimeout+time.Second)
	defer cancel()
	records, given := b.txn.Deadline(ctx)
	defer given()
	s.cfg.Step(BeforeProduce)
	for i := range b.page.Records {
		if pl.Drop == nil || !pl.Drop[i] {
			b.txn.Produce(records, &b.page.Records[i])
		}
	}
	b.txn.Produce(records, s.log.Message(value))
	s.cfg.Step(AfterProduce)
	s.cfg.Step(BeforeFlush)
	if err := b.txn.Flush(ctx); err != nil {
		return err
	}
	s.cfg.Step(AfterFlush)
	return nil
}

// faulty are the places of the records that can never be sent.
func faulty(p *outboxread.Page) []int {
	var at []int
	for _, fault := range p.Faults {
		at = append(at, fault.At)
	}
	return at
}
