package inbox

import (
	"context"
	"fmt"
)

// startedText asks for each message alone, as seenText does.
const startedText = `SELECT m.place, s.starts FROM unnest($2::text::text[], $3::uuid[]) WITH ORDINALITY AS m (source, id, place)
CROSS JOIN LATERAL (SELECT starts FROM {inbox_started} s
	WHERE s.consumer = $1 AND s.source = m.source AND s.msg_id = m.id LIMIT 1) AS s`

// Started returns how often each message was recorded by Start before and did not end, and records nothing. A consumer asks
// before it calls Start, to handle those that may be why a process ended alone: Start for one that only waits for its turn would
// count a start that was none.
func (i *Inbox[TTx]) Started(ctx context.Context, messages []Message) ([]int, error) {
	starts := make([]int, len(messages))
	ids, places := make([]identity, 0, len(messages)), make([]int, 0, len(messages))
	for n, m := range messages {
		if m.check() == nil { // one that cannot have a mark was not started
			ids, places = append(ids, m.identity()), append(places, n)
		}
	}
	if len(ids) == 0 {
		return starts, nil
	}
	sources, keys := identityArrays(ids)
	err := i.transact(ctx, func(tx Tx, _ TTx) (bool, error) {
		return false, ofDatabase(ctx, tx.Send(ctx, Statement{
			SQL: qualified(i.cfg.Schema, startedText), Args: []any{i.cfg.Consumer, sources, keys},
			Each: func(row Row) error {
				var place, n int64
				err := row.Scan(&place, &n)
				if err == nil {
					starts[places[place-1]] = int(n)
				}
				return err
			},
		}))
	})
	if err != nil {
		return nil, fmt.Errorf("look up what was started before: %w", err)
	}
	return starts, nil
}
