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
	go func() { done <- protect(limited, handler) }()
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
	return i.late(ctx, tx, errors.Join(context.Cause(limited), ErrLeftBehind))
}

// late says whether a handler that was not done in time is to blame for it. Where the database does not answer, it waited for that.
func (i *Of[T]) late(ctx context.Context, tx Tx, err error) error {
	if tx == nil || ctx.Err() != nil || i.answers(ctx) {
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
		return i.late(ctx, tx, errors.Join(ErrTimeout, err))
	case tx != nil && tx.Lost(ctx):
		return Unavailable(err)
	}
	return err
}

// errExit is the failure of a handler that ended its goroutine, as testing.T.FailNow does.
var errExit = errors.New("inbox: the handler ended its goroutine and did not return")

// protect turns a panic into an error.
func protect(ctx context.Context, handler func(context.Context) error) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
			return
		}
		err = errExit
	}()
	err = handler(ctx)
	returned = true
	return err
}
