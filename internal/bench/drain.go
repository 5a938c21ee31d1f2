package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/bench/load"
	"github.com/outbox-relay/relay/internal/harness/child"
	"github.com/outbox-relay/relay/internal/harness/usage"
)

// drainLimit bounds a drain: half a minute, and a millisecond a row.
func drainLimit(rows int) time.Duration {
	return 30*time.Second + time.Duration(rows)*time.Millisecond
}

// drain fills the outbox of a place, starts a relay and measures how fast it publishes: from the
// moment at which it has taken its lane over to the commit of the last row. Afterwards the relay is
// stopped and the topic deleted; the rows stay.
func (b *bench) drain(ctx context.Context, p *place, rows int, what string) (_ Drain, err error) {
	topic, remove, err := b.site.newTopic(ctx, b.cfg.Partitions)
	if err != nil {
		return Drain{}, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	xid, err := load.Backlog{Rows: rows, Size: b.cfg.Size, Tell: func(done int) {
		b.progress("%s: %s of %s rows inserted", what, grouped(done), grouped(rows))
	}}.Insert(ctx, p.conn)
	if err != nil {
		return Drain{}, err
	}
	if err := p.checkpoint(ctx); err != nil {
		return Drain{}, err
	}
	c, err := StartRelay(ctx, b.cfg, p.url, p.name, topic)
	if err != nil {
		return Drain{}, err
	}
	began := time.Now()
	start, err := usage.Of(c.ID())
	if err == nil {
		err = b.awaitPublished(ctx, c, p, xid, topic, rows, what)
	}
	took := time.Since(began)
	if err != nil {
		return Drain{}, errors.Join(err, c.Stop(context.Background()))
	}
	end, err := usage.Of(c.ID())
	if err = errors.Join(err, c.Stop(context.Background())); err != nil {
		return Drain{}, err
	}
	d := Drain{RowsPerSecond: round(float64(rows)/took.Seconds(), 0), PeakRSSMB: megabytes(end, end.Peak)}
	if end.Known {
		d.CPUSecondsPerMillion = number((end.Processor-start.Processor).Seconds()*1e6/float64(rows), 2)
	}
	return d, nil
}

// awaitPublished returns once every row up to the transaction xid is committed on the topic: the
// lane's row says which rows are intended, and the topic has nothing undecided.
func (b *bench) awaitPublished(ctx context.Context, c *child.Child, p *place, xid, topic string, rows int, what string) error {
	const query = `SELECT snapshot_to IS NULL AND snapshot_from IS NOT NULL AND pg_visible_in_snapshot($1::text::xid8, snapshot_from)
FROM relay_lanes`
	began := time.Now()
	err := poll(ctx, 10*time.Millisecond, drainLimit(rows), what+": everything is published", func() (done bool, err error) {
		if err := lives(c); err != nil {
			return false, err
		}
		if err := p.conn.QueryRow(ctx, query, xid).Scan(&done); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return false, fmt.Errorf("read the lane: %w", err)
		}
		b.progress("%s: publishing for %.0f s", what, time.Since(began).Seconds())
		return done, nil
	})
	if err != nil {
		return err
	}
	return poll(ctx, time.Millisecond, time.Minute, what+": the last batch is committed", func() (bool, error) {
		committed, err := b.site.admin.ListCommittedOffsets(ctx, topic)
		if err == nil {
			err = committed.Error()
		}
		if err != nil {
			return false, fmt.Errorf("list the committed end of topic %s: %w", topic, err)
		}
		ends, err := b.site.admin.ListEndOffsets(ctx, topic)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			return false, fmt.Errorf("list the end of topic %s: %w", topic, err)
		}
		same := true
		for partition, end := range ends[topic] {
			same = same && committed[topic][partition].Offset == end.Offset
		}
		return same, nil
	})
}

// raw has a raw producer with so many transactional ids publish as many records, to its own topic.
func (b *bench) raw(ctx context.Context, ids int) (_ float64, err error) {
	topic, remove, err := b.site.newTopic(ctx, b.cfg.Partitions)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	p, err := newRawProducer(ctx, b.cfg, ids, topic)
	if err != nil {
		return 0, err
	}
	defer p.close()
	b.progress("raw producer with %d transactional ids", ids)
	return p.produce(ctx, b.records, b.cfg.Rows)
}
