package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/outbox-relay/relay/internal/harness/ledger"
	"github.com/outbox-relay/relay/internal/harness/workload"
	"github.com/outbox-relay/relay/internal/hint"
)

// MostMessages bounds the size of a demo: the simulated broker keeps every message in memory.
const MostMessages = 5_000_000

// Config says how large a demo is and who watches it. The zero value of every field works.
type Config struct {
	// Messages is how many messages are committed; those rolled back come on top. Defaults to 20,000.
	Messages int

	// Writers is how many business transactions run at the same time. Defaults to 16.
	Writers int

	// Relay is the command that runs a relay configured by RELAY_* variables. Defaults to this
	// program with the argument run.
	Relay []string

	// Consumer is the command that runs the consumer's process, Bank. Defaults to this program with
	// the argument demo-consumer.
	Consumer []string

	// StallAfter is how long nothing may be published before the demo gives up, and counts what is
	// missing as lost. Defaults to one minute.
	StallAfter time.Duration

	// View is told of the progress. Defaults to none.
	View View
}

// View is told how a demo goes, from several goroutines at once.
type View interface {
	// Event is called with a line for each thing that happens, such as a kill.
	Event(line string)
	// Progress is called several times a second.
	Progress(Progress)
}

// Progress is where a demo stands.
type Progress struct {
	Messages   int // to commit
	Written    int // committed
	RolledBack int
	Published  int // distinct messages that the consumer has read
	Behind     int // committed and not read yet
	Faults     int // duplicates and inversions seen so far
	Kills      int // of the relay
	Booked     int // messages that the consumer has handled, about
	BankKills  int // of the consumer
}

// progressEvery is the time between two calls of View.Progress.
const progressEvery = 100 * time.Millisecond

// WithDefaults returns a copy with every unset field but Relay and Consumer at its default.
func (c Config) WithDefaults() Config {
	if c.Messages == 0 {
		c.Messages = 20_000
	}
	if c.Writers == 0 {
		c.Writers = 16
	}
	if c.StallAfter == 0 {
		c.StallAfter = time.Minute
	}
	if c.View == nil {
		c.View = noView{}
	}
	return c
}

type noView struct{}

func (noView) Event(string)      {}
func (noView) Progress(Progress) {}

// Validate reports every fault of the configuration. Call it on a Config WithDefaults.
func (c Config) Validate() error {
	var faults []error
	if c.Messages < 1 || c.Messages > MostMessages {
		faults = append(faults, hint.New(fmt.Sprintf("messages: %d is not between 1 and %d", c.Messages, MostMessages), "--messages 20000"))
	}
	if c.Writers < 1 || c.Writers > 64 {
		faults = append(faults, fmt.Errorf("writers: %d is not between 1 and 64", c.Writers))
	}
	return errors.Join(faults...)
}

// Run runs a demo to its end and returns what was found. It leaves neither a process nor a folder
// behind, whether it ends well, by an error or because ctx is cancelled; then the error is that of
// ctx. That messages were lost or duplicated is no error but is in the Result.
func Run(ctx context.Context, cfg Config) (result *Result, err error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Relay == nil || cfg.Consumer == nil {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program, to run it as the relay and the consumer: %w", err)
		}
		if cfg.Relay == nil {
			cfg.Relay = []string{self, "run"}
		}
		if cfg.Consumer == nil {
			cfg.Consumer = []string{self, "demo-consumer"}
		}
	}
	cfg.View.Event("starting a throw-away Postgres and a simulated Kafka broker (kfake, in this process)")
	s, err := newStage(ctx, accounts(cfg.Writers), cfg.View.Event)
	if err != nil {
		return nil, orCancelled(ctx, err)
	}
	defer func() { err = errors.Join(err, s.close()) }()
	cfg.View.Event(fmt.Sprintf("Postgres %s and the broker are up; %d writers commit %s messages",
		s.version, cfg.Writers, grouped(cfg.Messages)))
	p := newPlay(cfg, s)
	result, err = p.run(ctx)
	if err != nil {
		return nil, orCancelled(ctx, err)
	}
	return result, nil
}

// orCancelled returns the error of ctx in place of whatever its end caused.
func orCancelled(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// play is one demo on its stage.
type play struct {
	cfg     Config
	stage   *stage
	ledger  *ledger.Ledger[uuid.UUID]
	gate    *gate
	relays  *relays
	kills   int
	banks   *banks
	started time.Time
	stalled atomic.Bool
	hidden  int // records that the read_committed consumer was spared
	echoes  int // messages sent again on purpose
}

func newPlay(cfg Config, s *stage) *play {
	p := &play{cfg: cfg, stage: s, ledger: ledger.New[uuid.UUID](), kills: kills(cfg.Messages), started: time.Now()}
	p.gate = newGate(cfg.Messages, p.kills+1)
	p.relays = &relays{
		command: cfg.Relay, environ: settings(os.Environ(), s.databaseURL, s.broker.Addresses),
		ledger: p.ledger, gate: p.gate, events: cfg.View.Event,
	}
	p.banks = &banks{
		command: cfg.Consumer, environ: bankSettings(os.Environ(), s.bankURL, s.broker.Addresses),
		databaseURL: s.bankURL, messages: cfg.Messages, events: cfg.View.Event,
	}
	return p
}

// errStalled ends a demo in which nothing happens any more.
var errStalled = errors.New("nothing was published any more")

// run has everybody act until all is published, read and booked, and judges.
func (p *play) run(ctx context.Context) (*Result, error) {
	acting, end := context.WithCancel(ctx)
	defer end()
	duplicates, err := newEcho(p.stage.broker.Addresses)
	if err != nil {
		return nil, err
	}
	defer duplicates.close()
	see := func(r *kgo.Record, e workload.Entry) { duplicates.see(acting, r, e.Version) }
	reader, err := newConsumer(p.stage.broker.Addresses, p.ledger, see)
	if err != nil {
		return nil, err
	}
	defer reader.close()
	others, acting := errgroup.WithContext(acting)
	others.Go(func() error { return unlessOver(acting, reader.run(acting)) })
	others.Go(func() error { return p.banks.look(acting) })
	others.Go(func() error { return p.watch(acting) })
	others.Go(func() error { p.show(acting); return nil })
	others.Go(func() error {
		defer end() // the others end when the main part does
		return p.act(acting, reader, duplicates)
	})
	if err := others.Wait(); err != nil && !errors.Is(err, errStalled) {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	p.cfg.View.Event("both consumers have stopped; what the bank booked is compared with the outbox")
	effects, err := auditEffects(ctx, p.stage.databaseURL)
	if err != nil {
		return nil, err
	}
	return p.judge(effects), nil
}

// unlessOver drops the error of a part that was told to end.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// act writes, publishes, consumes and kills, until everything committed has been read and booked,
// and the last relay and the last consumer have stopped.
func (p *play) act(ctx context.Context, reader *consumer, duplicates *echo) (err error) {
	group, acting := errgroup.WithContext(ctx)
	for i := range p.cfg.Writers {
		group.Go(func() error { return write(acting, i, p.stage.databaseURL, p.gate, p.ledger) })
	}
	var relay, bank *running
	defer func() { err = errors.Join(err, relay.end(), bank.end()) }()
	group.Go(func() (err error) {
		relay, err = p.relays.run(acting, p.kills)
		return err
	})
	group.Go(func() (err error) {
		bank, err = p.banks.run(acting, bankKills(p.cfg.Messages))
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	s, _ := p.ledger.Now()
	if err := p.relays.await(ctx, relay, s.Written); err != nil {
		return err
	}
	return p.finish(ctx, reader, duplicates, relay, bank)
}

// finish stops the last relay, so that nothing can follow, reads to the end what there is, and
// waits until the consumer has done so.
func (p *play) finish(ctx context.Context, reader *consumer, duplicates *echo, relay, bank *running) (err error) {
	p.cfg.View.Event("everything written has been read; the last relay is stopped in order, and the topic read to its end")
	if err := relay.Stop(ctx); err != nil {
		return err
	}
	if err := reader.readToEnd(ctx); err != nil {
		return err
	}
	if p.echoes, err = duplicates.finish(ctx); err != nil {
		return err
	}
	if err := reader.readToEnd(ctx); err != nil {
		return err
	}
	uncommitted, err := countUncommitted(ctx, p.stage.broker.Addresses, reader)
	if err != nil {
		return err
	}
	s, _ := p.ledger.Now()
	p.hidden = uncommitted - s.Records
	if err := p.banks.awaitEnds(ctx, p.stage.broker.Addresses, bank, reader.lastMessages()); err != nil {
		return err
	}
	return bank.Stop(ctx)
}

// watch ends the demo if nothing is published or booked for too long.
func (p *play) watch(ctx context.Context) error {
	done, since := 0, time.Now()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s, _ := p.ledger.Now()
		booked := int(p.banks.booked.Load())
		switch {
		case s.Published+booked > done:
			done, since = s.Published+booked, time.Now()
		case time.Since(since) < p.cfg.StallAfter:
		case s.Missing > 0 || booked < s.Published:
			p.stalled.Store(true)
			return errStalled
		default:
			return fmt.Errorf("nothing was written or read for %v", p.cfg.StallAfter)
		}
	}
}

// show tells the view how it goes.
func (p *play) show(ctx context.Context) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		s, _ := p.ledger.Now()
		p.cfg.View.Progress(Progress{
			Messages: p.cfg.Messages, Written: s.Written, RolledBack: s.RolledBack, Published: s.Published,
			Behind: s.Missing, Faults: s.Duplicated + s.Reordered, Kills: p.relays.count(),
			Booked: int(p.banks.booked.Load()), BankKills: int(p.banks.killed.Load()),
		})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// judge says what the ledger and the bank's books tell once everybody has ended.
func (p *play) judge(e *effects) *Result {
	took := time.Since(p.started)
	s := p.ledger.Audit()
	return &Result{
		Written: s.Written, RolledBack: s.RolledBack, Published: s.Published,
		Lost: s.Lost, Duplicated: s.Duplicated, Reordered: s.Reordered, Invented: s.Invented,
		RelayKills: p.relays.count(), Seconds: round(took.Seconds(), 3),
		PerSecond: round(float64(s.Published)/took.Seconds(), 0), Hidden: p.hidden,
		Effects: e.messages, EffectsLost: e.lost, EffectsTwice: e.twice, EffectsReordered: e.reordered, EffectsInvented: e.invented,
		ConsumerKills: int(p.banks.killed.Load()), DuplicatesSent: p.echoes, DuplicatesRefused: max(0, p.echoes-e.twice),
		BalancesWrong: e.wrong, SumBefore: e.before, SumAfter: e.after, accounts: e.accounts,
		Postgres: p.stage.version, writers: p.cfg.Writers, stalled: p.stalled.Load(), stallAfter: p.cfg.StallAfter, examples: s.Examples,
	}
}
