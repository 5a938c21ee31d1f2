package relay

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/outbox-relay/relay/internal/pg"
)

// databaseClock is the time of Postgres, which records are stamped with: brokers delete records by their timestamps, so a host
// whose clock is behind by more than the retention of a topic would publish what is deleted at once. created_at would not do
// either: after an outage, or a long time parked, it is as old. It is read at the takeover and with each tail read; in between,
// and during a drain, the monotonic clock of this process is added. Nil stands for the clock of this host.
type databaseClock struct {
	lane    string
	changed func(time.Time) time.Time // by a test; nil otherwise
	log     *slog.Logger
	tell    func(lane string, deviation time.Duration)
	reading atomic.Pointer[clockReading]
	warned  bool // used by the goroutine that reads
}

// clockReading is a time of the database, and when it came, by the clock of this host with its monotonic part.
type clockReading struct{ database, local time.Time }

// largeDeviation is how far the two clocks may be apart before it is said.
const largeDeviation = 30 * time.Second

func newDatabaseClock(cfg *Config, lane Lane) *databaseClock {
	return &databaseClock{lane: lane.Name, changed: cfg.databaseTime, log: cfg.Logger, tell: cfg.Hooks.clockRead}
}

// set is told the time of the database, the moment that its answer arrives.
func (c *databaseClock) set(database time.Time) {
	if c == nil {
		return
	}
	local := time.Now()
	if c.changed != nil {
		database = c.changed(database)
	}
	c.reading.Store(&clockReading{database, local})
	deviation := local.Sub(database)
	c.tell(c.lane, deviation)
	switch large := deviation.Abs() > largeDeviation; {
	case large && !c.warned:
		c.warned = true
		c.log.Warn("the clock of this host differs from that of the database; records are stamped with the time of the database; "+
			"set both by NTP, because ages and metrics are wrong meanwhile", "ahead_by", deviation.Round(time.Millisecond))
	case !large:
		c.warned = false
	}
}

// now is the time of the database.
func (c *databaseClock) now() time.Time {
	if c == nil {
		return time.Now()
	}
	r := c.reading.Load() // there is one since the reader was opened
	return r.database.Add(time.Since(r.local))
}

// readClock asks the database for its time.
func (r *windowReader) readClock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	var now time.Time
	if err := r.conn.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return fmt.Errorf("read the time of the database: %w", err)
	}
	r.clock.set(now)
	return nil
}
