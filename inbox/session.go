package inbox

import (
	"context"
	"fmt"
)

// Open notes that this process works on a partition. It reports whether another one did so before and never closed it: that one
// crashed, or was cut off, and a message that it was handling may be why.
func (i *Inbox[TTx]) Open(ctx context.Context, topic string, partition int32) (crashed bool, err error) {
	err = i.again(ctx, func() error {
		crashed = false
		return i.transact(ctx, func(tx Tx, _ TTx) (bool, error) {
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
func (i *Inbox[TTx]) Close(ctx context.Context, topic string, partition int32) error {
	err := i.again(ctx, func() error {
		return i.transact(ctx, func(tx Tx, _ TTx) (bool, error) {
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
