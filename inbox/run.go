package inbox

import (
	"context"
	"errors"
	"runtime/debug"
	"time"
)

// grace is how long a handler has to return once its context has ended.
const grace = time.Second

// call runs a handler with its deadline, in a goroutine of its own: one that panics, or never returns, takes nobody with it. The
// connection of tx is cut where the handler does not return, so that it can change nothing any more; tx may be nil.
func (i *Of[T]) call(ctx context.Context, tx Tx, handler func(context.Context) error) error {
	limited, cancel := context.WithTimeoutCause(ctx, i.cfg.HandlerTimeout, ErrTimeout)
	defer cancel()
	done := make(chan error, 1)
	go protect(limited, handler, done)
	select {
	case err := <-done:
		return i.judge(ctx, limited, tx, err)
	case <-limited.Done():
	}
	patience := time.NewTimer(grace)
	defer patience.Stop()
	select {
	case err := <-done:
		return i.judge(ctx, limited, tx, err)
	case <-patience.C:
	}
	if tx != nil {
		tx.Abandon()
	}
	return errors.Join(context.Cause(limited), ErrLeftBehind)
}

// late says whether a handler that was not done in time is to blame for it. Where the database does not answer, it waited for that.
// It asks once the transaction has given its connection back, which may be the only one.
func (i *Of[T]) late(ctx context.Context, err error) error {
	ranOut := errors.Is(err, ErrTimeout) || errors.Is(err, context.DeadlineExceeded)
	if !ranOut || ctx.Err() != nil || IsUnavailable(err) || i.answers(ctx) {
		return err
	}
	return Unavailable(err)
}

// judge says what the error of a handler is about.
func (i *Of[T]) judge(ctx, limited context.Context, tx Tx, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errors.Join(ctx.Err(), err)
	case limited.Err() != nil:
		// A query that the deadline cut off closes its connection: that is the handler's slowness and no outage.
		return errors.Join(ErrTimeout, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		// So does a query that the handler cut off by itself.
		return err
	case tx != nil && tx.Lost(ctx):
		return Unavailable(err)
	}
	return err
}

// errExit is the failure of a handler that ended its goroutine, as testing.T.FailNow does.
var errExit = errors.New("inbox: the handler ended its goroutine and did not return")

// protect turns a panic into an error. It sends the error by a deferred call, which runs where the goroutine ends too.
func protect(ctx context.Context, handler func(context.Context) error, done chan<- error) {
	err := errExit
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
		done <- err
	}()
	err = handler(ctx)
}
