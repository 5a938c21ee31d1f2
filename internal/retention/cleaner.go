package retention

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/backoff"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// Options say what a Cleaner removes, and from where.
type Options struct {
	// Lane is the name of the lane, for its session and for the log.
	Lane string
	// Table is the outbox, "table" or "schema.table", and OID the table that this name has to lead
	// to; 0 for any.
	Table string
	OID   uint32
	// Age is how old a published row has to be. Defaults to 0: it goes at once.
	Age time.Duration
	// Database opens the connection, and Server is the one that it has to lead to.
	Database *pg.Database
	Server   pg.Server
	// Logger and Removed receive what was removed and what failed.
	Logger  *slog.Logger
	Removed func(Removal)
}

// Removal is one round: what was removed from the outbox, and why no more was.
type Removal struct {
	Lane string
	// Rows that were deleted one by one; those of partitions are not counted.
	Rows int64
	// Added, Emptied and Dropped are partitions of a partitioned outbox. Each goes through all
	// three.
	Added, Emptied, Dropped int
	// Err is why the round ended early; nil if all was removed that was due. Publishing goes on
	// either way.
	Err error
}

// Cleaner removes published rows that are older than the retention. A failure is logged, told, and
// tried again later.
type Cleaner struct {
	o         Options
	published atomic.Pointer[position.Position] // committed in Kafka
	news      chan struct{}                     // holds a value if published has changed since the last look
	cancel    context.CancelFunc
	ended     chan struct{}

	conn  *pgx.Conn
	sweep *sweep      // of a plain table
	parts *partitions // of a partitioned one
}

// The pauses of a Cleaner: between two rounds, a hundredth of the retention or longer if nothing is
// due, and after a failure. With retention 0 a batch that is committed ends a long pause.
const (
	shortRound   = 250 * time.Millisecond
	longRound    = 10 * time.Second
	firstFailure = time.Second
	lastFailure  = time.Minute
)

// settings bound what the Cleaner may cost others. Its own commits need not be durable: a row that
// comes back in a crash is removed again. A plan that reads the whole table is forbidden, as in the
// reader's session. Package pg pins the rest.
var settings = map[string]string{
	"synchronous_commit":              "off",
	"lock_timeout":                    "100ms",
	"statement_timeout":               "5min",
	"enable_seqscan":                  "off",
	"enable_bitmapscan":               "off",
	"enable_sort":                     "off",
	"enable_hashjoin":                 "off",
	"enable_mergejoin":                "off",
	"max_parallel_workers_per_gather": "0",
	"jit":                             "off",
}

// Start starts a Cleaner that uses a position which is committed in Kafka. The caller has to
// Stop it.
func Start(ctx context.Context, o Options, published position.Position) *Cleaner {
	ctx, cancel := context.WithCancel(ctx)
	c := &Cleaner{o: o, news: make(chan struct{}, 1), cancel: cancel, ended: make(chan struct{})}
	c.published.Store(&published)
	go func() {
		defer close(c.ended)
		c.run(ctx)
	}()
	return c
}

// Stop ends the Cleaner and waits for it. A nil Cleaner is one that removes nothing.
func (c *Cleaner) Stop() {
	if c != nil {
		c.cancel()
		<-c.ended
	}
}

// Published receives the position of a batch that is committed in Kafka.
func (c *Cleaner) Published(p position.Position) {
	if c == nil {
		return
	}
	c.published.Store(&p)
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// run makes rounds until ctx ends.
func (c *Cleaner) run(ctx context.Context) {
	defer c.disconnect()
	pause, failures := shortRound, firstFailure
	var last *position.Position
	var news <-chan struct{}
	for c.wait(ctx, pause, news) == nil {
		published := c.published.Load()
		removal := c.round(ctx, *published)
		if ctx.Err() != nil {
			return
		}
		c.o.Removed(removal)
		switch {
		case removal.Err != nil:
			pause, news = failures, nil
			failures = min(2*failures, lastFailure)
			level := slog.LevelWarn
			if isLockTimeout(removal.Err) { // somebody's transaction is open: usual, unless it stays so
				level = slog.LevelInfo
			}
			c.o.Logger.Log(ctx, level, "retention failed; publishing goes on", "error", removal.Err, "retry_in", pause)
			continue
		case removal.Rows == 0 && removal.Added+removal.Emptied+removal.Dropped == 0 && published == last:
			pause = min(2*pause, c.slowest())
		default:
			pause = min(max(shortRound, c.o.Age/100), c.slowest())
		}
		failures, last = firstFailure, published
		if c.o.Age == 0 {
			news = c.news
		}
	}
}

// slowest is the longest pause between two rounds.
func (c *Cleaner) slowest() time.Duration {
	if c.o.Age == 0 {
		return longRound
	}
	return min(max(shortRound, c.o.Age/10), longRound)
}

// wait lets a pause pass, or a short one and then news.
func (c *Cleaner) wait(ctx context.Context, pause time.Duration, news <-chan struct{}) error {
	if err := backoff.Sleep(ctx, backoff.Jitter(min(pause, shortRound))); err != nil || pause <= shortRound {
		return err
	}
	timer := time.NewTimer(backoff.Jitter(pause - shortRound))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-news:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// round removes what is due now.
func (c *Cleaner) round(ctx context.Context, published position.Position) (removal Removal) {
	removal.Lane = c.o.Lane
	if removal.Err = c.connect(ctx); removal.Err == nil {
		removal.Err = c.look(ctx)
	}
	if removal.Err != nil {
		c.disconnect()
		return removal
	}
	rule := rule{published: published, age: c.o.Age}
	if c.parts != nil {
		// Each by itself: a writer may be in the way of one and not of the other.
		var added, emptied, dropped error
		removal.Added, added = c.parts.add(ctx, c.conn)
		removal.Emptied, emptied = c.parts.empty(ctx, c.conn, rule)
		removal.Dropped, dropped = c.parts.drop(ctx, c.conn)
		removal.Err = errors.Join(added, emptied, dropped)
	} else {
		removal.Rows, removal.Err = c.sweep.round(ctx, c.conn, rule)
	}
	if removal.Err != nil {
		c.disconnect()
	}
	return removal
}

// connect opens the connection if it has none.
func (c *Cleaner) connect(ctx context.Context) error {
	if c.conn != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	conn, err := c.o.Database.Connect(ctx, pg.Options{
		Application: "relay " + c.o.Lane + " retention", Settings: settings,
	})
	if err != nil {
		return err
	}
	// The snapshots of one server say nothing about the rows of another.
	if err := pg.CheckServer(ctx, conn, c.o.Server); err != nil {
		pg.Close(conn)
		return err
	}
	c.conn = conn
	return nil
}

// look finds out how the table is laid out, which may change under a running relay.
func (c *Cleaner) look(ctx context.Context) error {
	var partitioned bool
	var oid uint32
	err := c.conn.QueryRow(ctx, `SELECT relkind = 'p', oid FROM pg_class WHERE oid = $1::text::regclass`,
		pg.QuoteTable(c.o.Table)).Scan(&partitioned, &oid)
	if err != nil {
		return fmt.Errorf("look at the layout of %s: %w", c.o.Table, err)
	}
	if c.o.OID != 0 && oid != c.o.OID {
		return fmt.Errorf("look at the layout of %s: %w", c.o.Table, pg.ErrSwapped)
	}
	switch {
	case !partitioned && c.sweep == nil:
		c.sweep, c.parts = &sweep{table: pg.QuoteTable(c.o.Table), oid: c.o.OID}, nil
	case partitioned && c.parts == nil:
		c.sweep, c.parts = nil, &partitions{table: c.o.Table}
	}
	return nil
}

func (c *Cleaner) disconnect() {
	if c.conn != nil {
		pg.Close(c.conn)
		c.conn = nil
	}
}
