package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/backoff"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// janitor removes published rows that are older than the retention. It lives as long as the session of the lane's owner, on
// a goroutine and a connection of its own, and whatever happens to it, publishing goes on: a failure is logged, told to the
// observer, and tried again later.
//
// It goes by the progress of the last batch that is committed in Kafka. A janitor whose session has been superseded holds
// an older progress, so what it removes has been published all the same: it needs no fence.
type janitor struct {
	s     *session
	table string // quoted
	age   time.Duration

	conn  *pgx.Conn
	sweep *sweep      // of a plain table
	parts *partitions // of a partitioned one
}

// The pauses of the janitor: between two rounds, a hundredth of the retention or longer where nothing is due, and after a
// failure. With retention 0 a batch that is committed ends a long pause.
const (
	shortRound   = 250 * time.Millisecond
	longRound    = 10 * time.Second
	firstFailure = time.Second
	lastFailure  = time.Minute
)

// janitorSettings bound what the janitor may cost others. Its own commits need not be durable: a row that comes back in a
// crash is removed again. A plan that reads the whole table is forbidden, as in the reader's session. The rest is internal/pg's.
var janitorSettings = map[string]string{
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

// startJanitor starts the janitor of a session and returns the function that ends it and waits for it.
func (s *session) startJanitor(ctx context.Context) (stop func()) {
	if s.cfg.Retention == KeepForever {
		return func() {}
	}
	s.news = make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	j := &janitor{s: s, table: pg.QuoteTable(s.lane.Table), age: max(0, s.cfg.Retention)}
	go func() {
		defer close(done)
		j.run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// hasPublished is told of progress that is committed in Kafka.
func (s *session) hasPublished(p position.Position) {
	s.published.Store(&p)
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// run makes rounds until ctx ends.
func (j *janitor) run(ctx context.Context) {
	defer j.disconnect()
	pause, failures := shortRound, firstFailure
	var last *position.Position
	var news <-chan struct{}
	for j.wait(ctx, pause, news) == nil {
		published := j.s.published.Load()
		removal := j.round(ctx, *published)
		if ctx.Err() != nil {
			return
		}
		j.s.cfg.Hooks.removed(removal)
		switch {
		case removal.Err != nil:
			pause, news = failures, nil
			failures = min(2*failures, lastFailure)
			level := slog.LevelWarn
			if isLockTimeout(removal.Err) { // somebody's transaction is open: usual, unless it stays so
				level = slog.LevelInfo
			}
			j.s.lane.log.Log(ctx, level, "retention failed; publishing goes on", "error", removal.Err, "retry_in", pause)
			continue
		case removal.Rows == 0 && removal.Added+removal.Emptied+removal.Dropped == 0 && published == last:
			pause = min(2*pause, j.slowest())
		default:
			pause = min(max(shortRound, j.age/100), j.slowest())
		}
		failures, last = firstFailure, published
		if j.age == 0 {
			news = j.s.news
		}
	}
}

// slowest is the longest pause between two rounds.
func (j *janitor) slowest() time.Duration {
	if j.age == 0 {
		return longRound
	}
	return min(max(shortRound, j.age/10), longRound)
}

// wait lets a pause pass, or a short one and then news.
func (j *janitor) wait(ctx context.Context, pause time.Duration, news <-chan struct{}) error {
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
func (j *janitor) round(ctx context.Context, published position.Position) (removal Removal) {
	removal.Lane = j.s.lane.Name
	if removal.Err = j.connect(ctx); removal.Err == nil {
		removal.Err = j.look(ctx)
	}
	if removal.Err != nil {
		j.disconnect()
		return removal
	}
	rule := rule{published: published, age: j.age}
	if j.parts != nil {
		// Each by itself: a writer may be in the way of one and not of the other.
		var added, emptied, dropped error
		removal.Added, added = j.parts.add(ctx, j.conn)
		removal.Emptied, emptied = j.parts.empty(ctx, j.conn, rule)
		removal.Dropped, dropped = j.parts.drop(ctx, j.conn)
		removal.Err = errors.Join(added, emptied, dropped)
	} else {
		removal.Rows, removal.Err = j.sweep.round(ctx, j.conn, rule)
	}
	if removal.Err != nil {
		j.disconnect()
	}
	return removal
}

// connect opens the janitor's connection where it has none.
func (j *janitor) connect(ctx context.Context) error {
	if j.conn != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	conn, err := j.s.cfg.sessions().Connect(ctx, pg.Options{
		Application: "relay " + j.s.lane.Name + " retention", Settings: janitorSettings,
	})
	if err != nil {
		return err
	}
	// The snapshots of one server say nothing about the rows of another.
	if err := pg.CheckServer(ctx, conn, j.s.row.server); err != nil {
		pg.Close(conn)
		return err
	}
	j.conn = conn
	return nil
}

// look finds out how the table is laid out, which may change under a running relay.
func (j *janitor) look(ctx context.Context) error {
	var partitioned bool
	var oid uint32
	err := j.conn.QueryRow(ctx, `SELECT relkind = 'p', oid FROM pg_class WHERE oid = $1::text::regclass`, j.table).Scan(&partitioned, &oid)
	if err != nil {
		return fmt.Errorf("look at the layout of %s: %w", j.s.lane.Table, err)
	}
	if bound := j.s.row.table.OID; bound != 0 && oid != bound {
		return fmt.Errorf("look at the layout of %s: %w", j.s.lane.Table, errSwapped)
	}
	switch {
	case !partitioned && j.sweep == nil:
		j.sweep, j.parts = &sweep{table: j.table, oid: j.s.row.table.OID}, nil
	case partitioned && j.parts == nil:
		j.sweep, j.parts = nil, &partitions{table: j.s.lane.Table}
	}
	return nil
}

func (j *janitor) disconnect() {
	if j.conn != nil {
		pg.Close(j.conn)
		j.conn = nil
	}
}
