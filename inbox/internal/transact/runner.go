package transact

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
	"github.com/outbox-relay/relay/inbox/internal/tables"
)

// Options are what a Runner needs.
type Options struct {
	// HandlerTimeout bounds one call of a handler, and Reruns how often a transaction runs again that
	// Postgres broke off because of another one.
	HandlerTimeout time.Duration
	Reruns         int
	// Panicked makes the error of a handler that panicked.
	Panicked func(value any, stack []byte) error
}

// Runner runs the transactions of one inbox.
type Runner[TTx any] struct {
	Driver inboxdriver.Driver[TTx]
	SQL    *tables.Statements
	Options

	// Idle is idleMargin, which tests shorten.
	Idle time.Duration

	// Connections is how many the pool has at most; 0 is no bound.
	Connections int

	// room has a place for each handler that may hold a connection: one less than the pool has, so
	// that a flush, a park or a question of our own never waits for handlers. Nil if the pool has no
	// bound, or one connection only.
	room chan struct{}
}

// NewRunner returns a Runner on a driver.
func NewRunner[TTx any](driver inboxdriver.Driver[TTx], sql *tables.Statements, options Options) *Runner[TTx] {
	r := &Runner[TTx]{Driver: driver, SQL: sql, Options: options, Idle: idleMargin, Connections: driver.Size()}
	if r.Connections > 1 {
		r.room = make(chan struct{}, r.Connections-1)
	}
	return r
}

// Do runs first and work in a transaction and commits it if keep is true. Rolled back, it leaves
// nothing. No handler runs in it, so its isolation and its bounds are ours.
func (r *Runner[TTx]) Do(
	ctx context.Context, work func(tx inboxdriver.Tx, native TTx) (keep bool, err error),
	first ...inboxdriver.Statement,
) error {
	var in int64
	all := append(make([]inboxdriver.Statement, 0, len(first)+3), ReadCommitted, r.OwnBounds().Set())
	if _, is := r.bound(ctx); is {
		all = append(all, inboxdriver.Statement{SQL: r.SQL.IsIn,
			Each: func(row inboxdriver.Row) error { return row.Scan(&in) }})
	}
	return r.DoIn(ctx, &in, work, append(all, first...)...)
}

// DoIn is Do for first statements that set the bounds and find out which incarnation the
// transaction is in. If the context is bound to another one nothing is done. A nil in is for
// retries, which no offset waits for.
func (r *Runner[TTx]) DoIn(
	ctx context.Context, in *int64, work func(tx inboxdriver.Tx, native TTx) (keep bool, err error),
	first ...inboxdriver.Statement,
) (err error) {
	tx, native, err := r.Driver.Begin(ctx, r.AnswerTimeout(), first...)
	if err != nil {
		return fmt.Errorf("begin: %w", failure.OfStatement(ctx, err))
	}
	tx = boundedTx{tx, r.AnswerTimeout()}
	committed := false
	defer func() {
		if !committed {
			err = r.Blame(ctx, errors.Join(err, r.rollBack(ctx, tx, err)))
		}
	}()
	if in != nil {
		if err := r.StillIn(ctx, *in); err != nil {
			return err
		}
	}
	keep, err := work(tx, native)
	if err != nil || !keep {
		return err
	}
	committed = true
	err = r.commit(ctx, tx)
	if errors.Is(err, inboxdriver.ErrRolledBack) && failure.IsUnavailable(err) {
		return r.Blame(ctx, failure.Doubt(err))
	}
	return err
}

// DoHandling is DoIn around a handler: it leaves one connection of the pool to others.
func (r *Runner[TTx]) DoHandling(
	ctx context.Context, in *int64, work func(tx inboxdriver.Tx, native TTx) (keep bool, err error),
	first ...inboxdriver.Statement,
) error {
	if r.room != nil {
		select {
		case r.room <- struct{}{}:
			defer func() { <-r.room }()
		case <-ctx.Done():
			return fmt.Errorf("wait for a connection: %w", ctx.Err())
		}
	}
	return r.DoIn(ctx, in, work, first...)
}

// commit ends the transaction. If COMMIT is interrupted its outcome is unknown, so it gets its own
// timeout, whatever becomes of ctx.
func (r *Runner[TTx]) commit(ctx context.Context, tx inboxdriver.Tx) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.AnswerTimeout())
	defer cancel()
	if err := tx.Commit(limited); err != nil {
		return fmt.Errorf("commit: %w", failure.OfDatabase(ctx, err))
	}
	return nil
}

// rollBack reports only what the caller does not know: a connection that is gone has rolled back by
// itself.
func (r *Runner[TTx]) rollBack(ctx context.Context, tx inboxdriver.Tx, cause error) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.AnswerTimeout())
	defer cancel()
	err := tx.Rollback(limited)
	if err == nil || cause != nil {
		return nil
	}
	return fmt.Errorf("roll back: %w", failure.OfDatabase(ctx, err))
}

// boundedTx bounds each call of Send.
type boundedTx struct {
	inboxdriver.Tx
	limit time.Duration
}

// Send as inboxdriver.Tx has it.
func (t boundedTx) Send(ctx context.Context, statements ...inboxdriver.Statement) error {
	limited, cancel := context.WithTimeout(ctx, t.limit)
	defer cancel()
	return t.Tx.Send(limited, statements...)
}

// answers reports whether the database answers soon. If every connection is in use it does, for all
// that is known here.
func (r *Runner[TTx]) answers(ctx context.Context) bool {
	return r.probe(ctx, "SELECT 1") == nil || r.Driver.Busy()
}

// probe runs statements in its own transaction, and waits for the answer for a short time.
func (r *Runner[TTx]) probe(ctx context.Context, texts ...string) error {
	const soon = 3 * time.Second
	limited, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	first := make([]inboxdriver.Statement, len(texts))
	for n, text := range texts {
		first[n] = inboxdriver.Statement{SQL: text}
	}
	return r.Do(limited, func(inboxdriver.Tx, TTx) (bool, error) { return false, nil }, first...)
}

// isWell reports whether the server is well as far as a small transaction can tell: it answers, and
// can write to its disk. A refusal that is not about the server came from a server that is well; so
// did that of a limit which somebody has set (53400).
func (r *Runner[TTx]) isWell(ctx context.Context) bool {
	err := r.probe(ctx, tables.LittleMemory, tables.Spill)
	if err == nil {
		return true
	}
	if state, sent := failure.SQLState(err); sent {
		return state == failure.LimitExceeded || !failure.IsUnavailable(err)
	}
	return r.Driver.Busy()
}

// Rerun runs work until it is not broken off by another transaction any more, Options.Reruns times
// more at most.
func (r *Runner[TTx]) Rerun(ctx context.Context, work func() error) error {
	for attempt := 1; ; attempt++ {
		err := work()
		if err == nil || !failure.Rerunnable(err) || attempt > r.Reruns {
			return err
		}
		// Two that met once meet again unless one waits longer than the other.
		if Pause(ctx, time.Duration(rand.Int64N(int64(attempt)*int64(4*time.Millisecond)))) != nil {
			return err
		}
	}
}

// Pause waits, or returns the error of the context.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
