package inbox

import (
	"context"
	"errors"
	"fmt"
)

// Open notes that this process works on a partition. It reports whether another one did so before and never closed it: that one
// crashed, or was cut off, and a message that it was handling may be why.
func (i *Of[T]) Open(ctx context.Context, topic string, partition int32) (crashed bool, err error) {
	err = i.again(ctx, func() error {
		crashed = false
		return i.transact(ctx, func(tx Tx, _ T) (bool, error) {
			err := tx.Send(ctx, durably, Statement{
				SQL: i.sql.openSession, Args: []any{i.cfg.Consumer, topic, int64(partition), i.session},
				Each: func(row Row) error {
					var instance string
					err := row.Scan(&instance)
					crashed = instance != i.session
					return err
				},
			})
			return err == nil, ofDatabase(ctx, err)
		})
	})
	if err != nil {
		return false, fmt.Errorf("open the session of %s/%d: %w", topic, partition, err)
	}
	return crashed, nil
}

// Close notes that this process has ended its work on a partition in good order. It does nothing where another process has opened
// it meanwhile.
func (i *Of[T]) Close(ctx context.Context, topic string, partition int32) error {
	err := i.again(ctx, func() error {
		return i.transact(ctx, func(tx Tx, _ T) (bool, error) {
			err := tx.Send(ctx, Statement{
				SQL: i.sql.closeSession, Args: []any{i.cfg.Consumer, topic, int64(partition), i.session},
			})
			return err == nil, ofDatabase(ctx, err)
		})
	})
	if err != nil {
		return fmt.Errorf("close the session of %s/%d: %w", topic, partition, err)
	}
	return nil
}

// ErrNoSession is what Flush returns where this process has no session any more: another process has opened its partitions.
var ErrNoSession = errors.New("inbox: another process works on the partitions of this one")

// Flush returns once all that was committed before is on disk, and on the synchronous standbys. With synchronous_commit = off a
// crash of Postgres forgets the last transactions, effects and marks together; call Flush before an offset is committed, so that
// their messages come again. It needs a partition that is open.
func (i *Of[T]) Flush(ctx context.Context) error {
	var written int64
	err := i.again(ctx, func() error {
		return i.transact(ctx, func(tx Tx, _ T) (bool, error) {
			// A commit is flushed only where it has written something.
			err := tx.Send(ctx, durably, Statement{
				SQL: i.sql.flush, Args: []any{i.cfg.Consumer, i.session}, Affected: &written,
			})
			return err == nil, ofDatabase(ctx, err)
		})
	})
	switch {
	case err != nil:
		return fmt.Errorf("flush: %w", err)
	case written == 0:
		return ErrNoSession
	}
	return nil
}
