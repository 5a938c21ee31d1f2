package inbox

import (
	"context"
	"fmt"
)

// Seen tells which messages were handled, or parked, before: those need not be handled again. It only reads, so that false means
// nothing: Handle decides. A replay skips what was handled with it, many messages at a time.
func (i *Inbox[TTx]) Seen(ctx context.Context, messages []Message) ([]bool, error) {
	seen := make([]bool, len(messages))
	ids, places := make([]identity, 0, len(messages)), make([]int, 0, len(messages))
	for n, m := range messages {
		if m.check() == nil { // one that cannot have a mark was not seen
			ids, places = append(ids, m.identity()), append(places, n)
		}
	}
	if len(ids) == 0 {
		return seen, nil
	}
	sources, keys := identityArrays(ids)
	err := i.transact(ctx, func(tx Tx, _ TTx) (bool, error) {
		return false, ofDatabase(ctx, tx.Send(ctx, Statement{
			SQL: i.sql.seen, Args: []any{i.cfg.Consumer, sources, keys},
			Each: func(row Row) error {
				var place int64
				err := row.Scan(&place)
				if err == nil {
					seen[places[place-1]] = true
				}
				return err
			},
		}))
	})
	if err != nil {
		return nil, fmt.Errorf("look for marks: %w", err)
	}
	return seen, nil
}
