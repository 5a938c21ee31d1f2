package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/twmb/franz-go/pkg/kgo"
)

// bench is one run.
type bench struct {
	cfg     Config
	site    *site
	records []kgo.Record // of the raw producers
}

// Run measures and returns what it found. Whatever it has made on the servers is removed before it
// returns, whether it ends well, by an error or because ctx is cancelled; then the error is the
// cause of that.
func Run(ctx context.Context, cfg Config) (result *Result, err error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &bench{cfg: cfg}
	if b.site, err = openSite(ctx, cfg.DatabaseURL, cfg.StartTimeout, cfg.Brokers, cfg.KafkaOptions); err != nil {
		return nil, orCause(ctx, err)
	}
	defer func() { err = errors.Join(err, b.site.close()) }()
	result, err = b.run(ctx)
	if err != nil {
		return nil, orCause(ctx, err)
	}
	return result, nil
}

// orCause returns the cause of a cancelled ctx in place of what that led to.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (b *bench) event(format string, args ...any) { b.cfg.View.Event(fmt.Sprintf(format, args...)) }
func (b *bench) progress(format string, args ...any) {
	b.cfg.View.Progress(fmt.Sprintf(format, args...))
}

func (b *bench) run(ctx context.Context) (*Result, error) {
	p, err := b.site.newPlace(ctx, b.cfg.StartTimeout)
	if err != nil {
		return nil, err
	}
	r := &Result{
		Rows: b.cfg.Rows, Size: b.cfg.Size, Batch: b.cfg.Batch, Partitions: b.cfg.Partitions, Compression: b.cfg.Compression,
		Conditions: []Condition{}, CPUs: runtime.NumCPU(),
	}
	if err := p.conn.QueryRow(ctx, "SELECT split_part(current_setting('server_version'), ' ', 1)").Scan(&r.Postgres); err != nil {
		return nil, fmt.Errorf("ask Postgres for its version: %w", err)
	}
	b.event("Postgres %s; all that is made has a name that begins with relay_bench_ or relay-bench-, and is removed at the end", r.Postgres)
	if err := b.drains(ctx, p, r); err != nil {
		return nil, err
	}
	b.records = nil
	debug.FreeOSMemory() // so that the collection of this process's memory is not part of what follows
	if err := b.latencies(ctx, p, r); err != nil {
		return nil, err
	}
	return r, nil
}

// drains has the relay, the raw producers and the relay under each condition take their turns.
func (b *bench) drains(ctx context.Context, p *place, r *Result) error {
	b.progress("making records for the raw producer")
	b.records = records(b.cfg.Rows, b.cfg.Size, b.cfg.Batch)
	others := conditions(b.cfg)
	var relay, one, ring []float64
	for n := range b.cfg.Rounds {
		raw, err := b.raw(ctx, 1)
		if err != nil {
			return err
		}
		d, err := b.drain(ctx, p, b.cfg.Rows, "drain")
		if err == nil {
			err = p.empty(ctx)
		}
		if err != nil {
			return err
		}
		six, err := b.raw(ctx, ringIDs)
		if err != nil {
			return err
		}
		relay, one, ring = append(relay, d.RowsPerSecond), append(one, raw), append(ring, six)
		r.Rounds = append(r.Rounds, Round{Relay: d, RawRowsPerSecond: round(raw, 0), RawRingRowsPerSecond: round(six, 0)})
		r.PeakRSSMB = larger(r.PeakRSSMB, d.PeakRSSMB)
		b.event("round %d of %d: relay %s rows/s, raw with one id %s, with %d ids %s", n+1, b.cfg.Rounds,
			grouped(int(d.RowsPerSecond)), grouped(int(raw)), ringIDs, grouped(int(six)))
		for _, c := range others {
			if err := c.measure(ctx, b); err != nil {
				return err
			}
			b.event("round %d of %d: relay with %s: %s rows/s", n+1, b.cfg.Rounds, c.name, grouped(int(c.drains[n].RowsPerSecond)))
		}
	}
	r.RelayRowsPerSecond, r.RawRowsPerSecond, r.RawRingRowsPerSecond = round(median(relay), 0), round(median(one), 0), round(median(ring), 0)
	r.Ratio = round(r.RelayRowsPerSecond/r.RawRowsPerSecond, 3)
	r.RingRatio = round(r.RelayRowsPerSecond/r.RawRingRowsPerSecond, 3)
	for _, c := range others {
		r.Conditions = append(r.Conditions, c.result(r.RelayRowsPerSecond))
	}
	return nil
}

func (c *condition) result(plain float64) Condition {
	var speeds []float64
	for _, d := range c.drains {
		speeds = append(speeds, d.RowsPerSecond)
	}
	speed := round(median(speeds), 0)
	return Condition{Name: c.name, RowsPerSecond: speed, Ratio: round(speed/plain, 3), Drains: c.drains}
}

// latencies runs one relay at each rate, and leaves it idle in the end.
func (b *bench) latencies(ctx context.Context, p *place, r *Result) (err error) {
	topic, _, err := b.site.newTopic(ctx, b.cfg.Partitions)
	if err != nil {
		return err
	}
	traces, err := b.traces()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, traces.remove()) }()
	c, err := StartRelay(ctx, traces.asked(b.cfg), p.url, p.name, topic)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop(context.Background()), traces.read(err, r.Rates)) }()
	for _, rate := range b.cfg.Rates {
		found, events, err := b.steady(ctx, p, rate)
		if err != nil {
			return err
		}
		r.Rates = append(r.Rates, found)
		traces.events = append(traces.events, events)
		b.event("at %s inserts/s: p50 %.1f ms, p99 %.1f ms, max %.1f ms", grouped(rate), found.P50, found.P99, found.Max)
	}
	r.Latency = r.Rates[0].Latency
	bare, err := b.bare(ctx)
	if err != nil {
		return err
	}
	r.BareP50, r.BareP99, r.BareMax = bare.P50, bare.P99, bare.Max
	b.event("a bare Kafka transaction: p50 %.1f ms, p99 %.1f ms", bare.P50, bare.P99)
	r.Idle, err = b.idle(ctx, c, p)
	return err
}

func larger(a, b *float64) *float64 {
	if a == nil || b != nil && *b > *a {
		return b
	}
	return a
}
