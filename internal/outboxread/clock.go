package outboxread

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/outbox-relay/relay/internal/pg"
)

// Clock is the time of Postgres, which records are stamped with: brokers delete records by their
// timestamps, so a host whose clock is behind by more than the retention of a topic would publish
// what is deleted at once. created_at would not do either: after an outage, or a long time parked,
// it is as old. It is read at the takeover and with each tail read; in between, and during a drain,
// the monotonic clock of this process is added. Nil stands for the clock of this host.
type Clock struct {
	o       ClockOptions
	reading atomic.Pointer[clockReading]
	warned  bool // used by the goroutine that reads
}

// clockReading is a time of the database, and when it came, by the clock of this host with its
// monotonic part.
type clockReading struct{ database, local time.Time }

// largeDeviation is how far the two clocks may be apart before it is said.
const largeDeviation = 30 * time.Second

// ClockOptions say who is told of the time of the database.
type ClockOptions struct {
	Lane   string
	Logger *slog.Logger
	// Read is called after each reading; a positive deviation is a host that is ahead.
	Read func(lane string, deviation time.Duration)
	// Changed, if set, changes what the database says. Tests use it for clocks that differ.
	Changed func(time.Time) time.Time
}

// NewClock returns a Clock that has no reading yet.
func NewClock(o ClockOptions) *Clock { return &Clock{o: o} }

// set is told the time of the database, the moment that its answer arrives.
func (c *Clock) set(database time.Time) {
	if c == nil {
		return
	}
	local := time.Now()
	if c.o.Changed != nil {
		database = c.o.Changed(database)
	}
	c.reading.Store(&clockReading{database, local})
	deviation := local.Sub(database)
	c.o.Read(c.o.Lane, deviation)
	switch large := deviation.Abs() > largeDeviation; {
	case large && !c.warned:
		c.warned = true
		c.o.Logger.Warn("the clock of this host differs from that of the database; records are stamped with the time of the database; "+
			"set both by NTP, because ages and metrics are wrong meanwhile", "ahead_by", deviation.Round(time.Millisecond))
	case !large:
		c.warned = false
	}
}

// Now is the time of the database.
func (c *Clock) Now() time.Time {
	if c == nil {
		return time.Now()
	}
	r := c.reading.Load() // there is one since the reader was opened
	return r.database.Add(time.Since(r.local))
}

// readClock asks the database for its time.
func (r *Reader) readClock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	var now time.Time
	if err := r.conn.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return fmt.Errorf("read the time of the database: %w", err)
	}
	r.o.Clock.set(now)
	return nil
}
