package inbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Of is an inbox whose handlers get transactions of type TTx. Inbox is the one of pgx, and inboxsql.New returns the one of
// database/sql; both do the same. Its methods may be called from many goroutines.
type Inbox[TTx any] struct {
	driver Driver[TTx]
	cfg    Config
	sql    statements

	// seenUntil is until when batches are marked with ON CONFLICT, in nanoseconds since 1970.
	seenUntil atomic.Int64

	// idle is idleMargin, which tests shorten.
	idle time.Duration

	// room has a place for each handler that may hold a connection: one less than the pool has, so that a flush, a park or a question
	// of our own never waits for handlers. Nil where the pool has no bound, or one connection only.
	room        chan struct{}
	connections int

	// session is the instance with a random part: one that is named by its host has the same name after a crash.
	session string

	mu sync.Mutex
	// started are the messages whose row in inbox_started this process wrote and has not taken away.
	started map[identity]bool
}

// NewWithDriver returns an inbox on a driver; see New.
func NewWithDriver[TTx any](driver Driver[TTx], config *Config) (*Inbox[TTx], error) {
	if config == nil {
		config = &Config{}
	}
	cfg := config.WithDefaults()
	var missing error
	if driver == nil {
		missing = errors.New("inbox: the pool, or the database, is nil")
	}
	if err := errors.Join(missing, cfg.validate()); err != nil {
		return nil, err
	}
	session := cfg.Instance
	if config.Instance != "" {
		session += "/" + randomPart()
	}
	made := &Inbox[TTx]{
		driver: driver, cfg: cfg, sql: newStatements(cfg.Schema), session: session, idle: idleMargin,
		started: map[identity]bool{},
	}
	if made.connections = driver.Size(); made.connections > 1 {
		made.room = make(chan struct{}, made.connections-1)
	}
	return made, nil
}

// Connections returns how many connections the pool had at most when the inbox was made; 0 is no bound.
func (i *Inbox[TTx]) Connections() int { return i.connections }

// Consumer returns the name under which messages are marked.
func (i *Inbox[TTx]) Consumer() string { return i.cfg.Consumer }

// Instance returns who this process is.
func (i *Inbox[TTx]) Instance() string { return i.cfg.Instance }

// transact runs first and work in a transaction and commits it where keep is true. Rolled back, it leaves nothing. No handler runs in
// it, so its isolation and its bounds are ours.
func (i *Inbox[TTx]) transact(ctx context.Context, work func(tx Tx, native TTx) (keep bool, err error), first ...Statement) error {
	var in int64
	all := append(make([]Statement, 0, len(first)+3), readCommitted, i.ownBounds().set())
	if _, is := i.bound(ctx); is {
		all = append(all, Statement{SQL: i.sql.isIn, Each: func(row Row) error { return row.Scan(&in) }})
	}
	return i.transactIn(ctx, &in, work, append(all, first...)...)
}

// transactIn is transact where the first statements set the bounds and find out which incarnation the transaction is in. Where the
// context is bound to another one nothing is done. A nil in is for retries, which no offset waits for.
func (i *Inbox[TTx]) transactIn(
	ctx context.Context, in *int64, work func(tx Tx, native TTx) (keep bool, err error), first ...Statement,
) (err error) {
	tx, native, err := i.driver.Begin(ctx, i.patience(), first...)
	if err != nil {
		return fmt.Errorf("begin: %w", ofStatement(ctx, err))
	}
	tx = patientTx{tx, i.patience()}
	committed := false
	defer func() {
		if !committed {
			err = i.blame(ctx, errors.Join(err, i.rollBack(ctx, tx, err)))
		}
	}()
	if in != nil {
		if err := i.stillIn(ctx, *in); err != nil {
			return err
		}
	}
	keep, err := work(tx, native)
	if err != nil || !keep {
		return err
	}
	committed = true
	err = i.commit(ctx, tx)
	if errors.Is(err, ErrRolledBack) && IsUnavailable(err) {
		return i.blame(ctx, classify(err, doubted))
	}
	return err
}

// transactHandling is transactIn around a handler: it leaves one connection of the pool to others.
func (i *Inbox[TTx]) transactHandling(
	ctx context.Context, in *int64, work func(tx Tx, native TTx) (keep bool, err error), first ...Statement,
) error {
	if i.room != nil {
		select {
		case i.room <- struct{}{}:
			defer func() { <-i.room }()
		case <-ctx.Done():
			return fmt.Errorf("wait for a connection: %w", ctx.Err())
		}
	}
	return i.transactIn(ctx, in, work, first...)
}

// commit ends the transaction. A COMMIT that is cut off leaves nobody wiser, so it has time of its own, whatever ctx says.
func (i *Inbox[TTx]) commit(ctx context.Context, tx Tx) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), i.patience())
	defer cancel()
	if err := tx.Commit(limited); err != nil {
		return fmt.Errorf("commit: %w", ofDatabase(ctx, err))
	}
	return nil
}

// rollBack reports only what the caller does not know: a connection that is gone has rolled back by itself.
func (i *Inbox[TTx]) rollBack(ctx context.Context, tx Tx, cause error) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), i.patience())
	defer cancel()
	err := tx.Rollback(limited)
	if err == nil || cause != nil {
		return nil
	}
	return fmt.Errorf("roll back: %w", ofDatabase(ctx, err))
}

// patientTx bounds each call of Send.
type patientTx struct {
	Tx
	limit time.Duration
}

// Send as Tx has it.
func (t patientTx) Send(ctx context.Context, statements ...Statement) error {
	limited, cancel := context.WithTimeout(ctx, t.limit)
	defer cancel()
	return t.Tx.Send(limited, statements...)
}

// answers reports whether the database answers soon. Where every connection is in use it does, for all that is known here.
func (i *Inbox[TTx]) answers(ctx context.Context) bool {
	return i.probe(ctx, "SELECT 1") == nil || i.driver.Busy()
}

// probe runs statements in a transaction of its own, and waits for the answer for a short time.
func (i *Inbox[TTx]) probe(ctx context.Context, texts ...string) error {
	const soon = 3 * time.Second
	limited, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	first := make([]Statement, len(texts))
	for n, text := range texts {
		first[n] = Statement{SQL: text}
	}
	return i.transact(limited, func(Tx, TTx) (bool, error) { return false, nil }, first...)
}

// The statements of isWell. The second one writes about a megabyte of temporary files, for which
// nobody needs a right, and leaves nothing behind.
const (
	littleMemory = "SET LOCAL work_mem = '64kB'"
	spill        = "SELECT count(*) FROM generate_series(1, 40000)"
)

// isWell reports whether the server is well as far as a small transaction can tell: it answers, and
// can write to its disk. A refusal that is not about the server came from a server that is well; so
// did that of a limit which somebody has set (53400).
func (i *Inbox[TTx]) isWell(ctx context.Context) bool {
	err := i.probe(ctx, littleMemory, spill)
	if err == nil {
		return true
	}
	if state, sent := sqlState(err); sent {
		return state == limitExceeded || !IsUnavailable(err)
	}
	return i.driver.Busy()
}

// limitExceeded is what Postgres says at a limit of its configuration, temp_file_limit for one.
const limitExceeded = "53400"

// again runs work until it is not broken off by another transaction any more, Config.Reruns times more at most.
func (i *Inbox[TTx]) again(ctx context.Context, work func() error) error {
	for attempt := 1; ; attempt++ {
		err := work()
		if err == nil || !retriable(err) || attempt > i.cfg.Reruns {
			return err
		}
		// Two that met once meet again unless one waits longer than the other.
		if pause(ctx, time.Duration(rand.Int64N(int64(attempt)*int64(4*time.Millisecond)))) != nil {
			return err
		}
	}
}

// pause waits, or returns the error of the context.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
