package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

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

	// Relay is the command that runs a relay configured by RELAY_* variables. Defaults to this program with the argument
	// run.
	Relay []string

	// StallAfter is how long nothing may be published before the demo gives up, and counts what is missing as lost.
	// Defaults to one minute.
	StallAfter time.Duration

	// View is told how it goes. Defaults to nobody.
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
}

// progressEvery is the time between two calls of View.Progress.
const progressEvery = 100 * time.Millisecond

// WithDefaults returns a copy with every unset field but Relay at its default.
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

// Run runs a demo to its end and returns what was found. It leaves neither a process nor a folder behind, whether it ends
// well, by an error or because ctx is cancelled; then the error is that of ctx. That messages were lost or duplicated is no
// error but stands in the Result.
func Run(ctx context.Context, cfg Config) (result *Result, err error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Relay == nil {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program, to run it as the relay: %w", err)
		}
		cfg.Relay = []string{self, "run"}
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
	ledger  *ledger
	gate    *gate
	relays  *relays
	kills   int
	started time.Time
	stalled atomic.Bool
}

func newPlay(cfg Config, s *stage) *play {
	p := &play{cfg: cfg, stage: s, ledger: newLedger(), kills: kills(cfg.Messages), started: time.Now()}
	p.gate = newGate(cfg.Messages, p.kills+1)
	p.relays = &relays{
		command: cfg.Relay, environ: settings(os.Environ(), s.databaseURL, s.broker.Addresses),
		ledger: p.ledger, gate: p.gate, events: cfg.View.Event,
	}
	return p
}

// errStalled ends a demo in which nothing happens any more.
var errStalled = errors.New("nothing was published any more")

// run has everybody act until all is published and read, and judges.
func (p *play) run(ctx context.Context) (*Result, error) {
	reader, err := newConsumer(p.stage.broker.Addresses, p.ledger)
	if err != nil {
		return nil, err
	}
	defer reader.close()
	acting, end := context.WithCancel(ctx)
	defer end()
	others, acting := errgroup.WithContext(acting)
	others.Go(func() error { return unlessOver(acting, reader.run(acting)) })
	others.Go(func() error { return p.watch(acting) })
	others.Go(func() error { p.show(acting); return nil })
	hidden := 0
	others.Go(func() error {
		defer end() // the others end when the main part does
		var err error
		hidden, err = p.act(acting, reader)
		return err
	})
	if err := others.Wait(); err != nil && !errors.Is(err, errStalled) {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return p.judge(hidden), nil
}

// unlessOver drops the error of a part that was told to end.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// act writes, publishes and kills, until everything committed has been read and the last relay has stopped. It returns how many
// records the read_committed consumer was spared.
func (p *play) act(ctx context.Context, reader *consumer) (hidden int, err error) {
	group, acting := errgroup.WithContext(ctx)
	for i := range p.cfg.Writers {
		group.Go(func() error { return write(acting, i, p.stage.databaseURL, p.gate, p.ledger) })
	}
	var last *child
	group.Go(func() (err error) {
		last, err = p.relays.run(acting, p.kills)
		return err
	})
	err = group.Wait()
	if last == nil {
		return 0, err
	}
	if err != nil {
		return 0, errors.Join(err, last.process.Kill())
	}
	s, _ := p.ledger.now()
	if err := p.relays.await(ctx, last, s.written); err != nil {
		return 0, errors.Join(err, last.process.Kill())
	}
	return p.finish(ctx, reader, last)
}

// finish stops the last relay, so that nothing can follow, and reads to the end what there is.
func (p *play) finish(ctx context.Context, reader *consumer, last *child) (hidden int, err error) {
	p.cfg.View.Event("everything written has been read; the last relay is stopped in order, and the topic read to its end")
	if err := last.stop(ctx); err != nil {
		return 0, err
	}
	if err := reader.readToEnd(ctx); err != nil {
		return 0, err
	}
	uncommitted, err := countUncommitted(ctx, p.stage.broker.Addresses, reader)
	if err != nil {
		return 0, err
	}
	s, _ := p.ledger.now()
	return uncommitted - s.records, nil
}

// watch ends the demo where nothing is published for too long.
func (p *play) watch(ctx context.Context) error {
	published, since := 0, time.Now()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s, _ := p.ledger.now()
		switch {
		case s.published > published:
			published, since = s.published, time.Now()
		case time.Since(since) < p.cfg.StallAfter:
		case s.missing > 0:
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
		s, _ := p.ledger.now()
		p.cfg.View.Progress(Progress{
			Messages: p.cfg.Messages, Written: s.written, RolledBack: s.rolledBack, Published: s.published,
			Behind: s.missing, Faults: s.duplicated + s.reordered, Kills: p.relays.count(),
		})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// judge says what the ledger tells once everybody has ended.
func (p *play) judge(hidden int) *Result {
	took := time.Since(p.started)
	s, lostCount, inventedCount, examples := p.ledger.audit()
	return &Result{
		Written: s.written, RolledBack: s.rolledBack, Published: s.published,
		Lost: lostCount, Duplicated: s.duplicated, Reordered: s.reordered, Invented: inventedCount,
		RelayKills: p.relays.count(), Seconds: round(took.Seconds(), 3),
		PerSecond: round(float64(s.published)/took.Seconds(), 0), Hidden: hidden,
		Postgres: p.stage.version, writers: p.cfg.Writers, stalled: p.stalled.Load(), stallAfter: p.cfg.StallAfter, examples: examples,
	}
}
