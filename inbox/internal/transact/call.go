package transact

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
)

// grace is how long a handler has to return once its context has ended.
const grace = time.Second

// Call runs a handler with its deadline, in its own goroutine: one that panics, or never returns,
// takes nothing else with it. The connection of tx is cut if the handler does not return, so that
// it can change nothing any more; tx may be nil.
func (r *Runner[TTx]) Call(ctx context.Context, tx inboxdriver.Tx, handler func(context.Context) error) error {
	limited, cancel := context.WithTimeoutCause(ctx, r.HandlerTimeout, failure.ErrTimeout)
	defer cancel()
	done := make(chan error, 1)
	go r.protect(limited, handler, done)
	select {
	case err := <-done:
		return r.interpret(ctx, limited, tx, err)
	case <-limited.Done():
	}
	last := time.NewTimer(grace)
	defer last.Stop()
	select {
	case err := <-done:
		return r.interpret(ctx, limited, tx, err)
	case <-last.C:
	}
	if tx != nil {
		tx.Abandon()
	}
	return errors.Join(context.Cause(limited), failure.ErrLeftBehind)
}

// Blame says whether a handler is to blame if it was not done in time, or returned a SQLSTATE that
// is about the server. If the database does not answer, or is unwell, it is not. Blame asks after
// the transaction has given its connection back, which may be the only one.
func (r *Runner[TTx]) Blame(ctx context.Context, err error) error {
	ranOut := errors.Is(err, failure.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)
	switch {
	case err == nil || ended(ctx):
		return err
	case failure.IsDoubted(err):
		if r.isWell(ctx) {
			return failure.OfMessage(err)
		}
	case !ranOut || failure.IsUnavailable(err) || r.answers(ctx):
		return err
	}
	return failure.Unavailable(err)
}

// errLateNil is what a handler's nil means once its context has ended. A statement whose context
// has ended is never sent, and leaves the transaction well: if the handler swallows that error, a
// COMMIT would keep half of the effect.
var errLateNil = errors.New("inbox: the handler returned nil after its context had ended, so parts of its work may " +
	"have failed; it should return the errors of its statements")

// ended reports whether a context has ended. It looks at the deadline too, because others (the net
// package for one) do so, and may have failed a moment before the timer of the context fires.
func ended(ctx context.Context) bool {
	deadline, limited := ctx.Deadline()
	return ctx.Err() != nil || limited && !time.Now().Before(deadline)
}

// interpret says what the outcome of a handler means. It runs once the handler has returned:
// whatever the handler did before that, it did while its context was good, unless the context has
// ended by now.
func (r *Runner[TTx]) interpret(ctx, limited context.Context, tx inboxdriver.Tx, err error) error {
	switch {
	case err == nil && !ended(limited):
		return nil
	case err == nil:
		err = errLateNil
	}
	switch {
	case ended(ctx):
		return errors.Join(endOf(ctx), err)
	case ended(limited):
		// A query that the deadline cut off closes its connection: that is the handler's slowness and
		// no outage.
		return errors.Join(failure.ErrTimeout, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		// So does a query that the handler cut off by itself.
		return err
	case tx != nil && tx.Lost(ctx):
		return failure.Unavailable(err)
	case !failure.SaysUnavailable(err) && failure.IsUnavailable(err):
		return failure.Doubt(err)
	}
	return err
}

// endOf is the error of a context that has ended.
func endOf(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return context.DeadlineExceeded
}

// errExit is the failure of a handler that ended its goroutine, as testing.T.FailNow does.
var errExit = errors.New("inbox: the handler ended its goroutine and did not return")

// protect turns a panic into an error. It sends the error by a deferred call, which runs if the
// goroutine ends too.
func (r *Runner[TTx]) protect(ctx context.Context, handler func(context.Context) error, done chan<- error) {
	err := errExit
	defer func() {
		if value := recover(); value != nil {
			err = r.Panicked(value, debug.Stack())
		}
		done <- err
	}()
	err = handler(ctx)
}
