package operator

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// AskedKey is a retry that is asked for, or would be.
type AskedKey struct {
	KeyName
	// Messages counts those that were parked when it was asked.
	Messages int64 `json:"messages"`
	// Joined is true if somebody had asked for it before and it was still open: it was not asked for
	// again.
	Joined bool `json:"joined"`
	// Done is true once it has ended. Left then counts the messages that are still parked, of which
	// the first one failed again with Error; 0 and nil if the whole queue was handled.
	Done  bool    `json:"done"`
	Left  int64   `json:"left"`
	Error *string `json:"error"`
}

// Ended reports whether the retry has ended.
func (a AskedKey) Ended() bool { return a.Done }

// FailedAgain reports whether the retry ended at a message that could still not be handled.
func (a AskedKey) FailedAgain() bool { return a.Done && a.Left > 0 }

// Plan returns what Retry would ask for, and changes nothing. Errors are explained.
func (in Inbox) Plan(ctx context.Context, f InboxFilter) ([]AskedKey, error) {
	list, err := in.List(ctx, f)
	if err != nil {
		return nil, err
	}
	asked := []AskedKey{}
	for _, k := range list.Keys {
		asked = append(asked, AskedKey{KeyName: k.KeyName, Messages: k.Messages, Joined: k.RequestedAt != nil})
	}
	return asked, nil
}

// retryQuery asks for a retry of keys. A key for which it is asked already is not touched: a
// consumer may hold it for as long as its handler takes. A message without a key is named in the
// audit by its id.
const retryQuery = `
WITH free AS (
    SELECT id FROM inbox_parked_keys WHERE id = ANY ($1) AND requested_at IS NULL ORDER BY id FOR NO KEY UPDATE
), asked AS (
    UPDATE inbox_parked_keys k SET requested_at = clock_timestamp(), requested_by = session_user, reason = $2
      FROM free WHERE k.id = free.id RETURNING k.id, k.consumer, k.topic, k.key
), noted AS (
    INSERT INTO inbox_audit (consumer, action, topic, key, source, msg_id, reason, details)
    SELECT a.consumer, 'retry', a.topic, a.key, h.source, h.msg_id, $2, jsonb_build_object('key_id', a.id)
      FROM asked a LEFT JOIN LATERAL (
           SELECT source, msg_id FROM inbox_parked p WHERE a.key IS NULL AND p.key_id = a.id ORDER BY p.id LIMIT 1) AS h ON true
     ORDER BY a.id
)
SELECT id FROM asked`

// Retry asks for a retry of each key that the filter chooses, for the given reason, which must not
// be empty, and does not wait. All are asked for or none. Errors are explained.
func (in Inbox) Retry(ctx context.Context, f InboxFilter, reason string) ([]AskedKey, error) {
	asked, err := in.Plan(ctx, f)
	if err != nil || len(asked) == 0 {
		return asked, err
	}
	ids := []int64{}
	for _, a := range asked {
		ids = append(ids, a.KeyID)
	}
	rows, err := in.conn.Query(ctx, retryQuery, ids, reason)
	if err != nil {
		return nil, fmt.Errorf("ask for a retry: %w", ExplainInbox(err))
	}
	taken, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("ask for a retry: %w", ExplainInbox(err))
	}
	for i := range asked {
		asked[i].Joined = !slices.Contains(taken, asked[i].KeyID)
	}
	return asked, nil
}

// Await waits until every retry has ended, and fills in what came of them. The end of ctx ends it
// with its error; what was done by then is filled in. Other errors are explained.
func (in Inbox) Await(ctx context.Context, asked []AskedKey) error {
	return await(ctx, func(ctx context.Context) (int, error) { return in.look(ctx, asked) })
}

// look fills in which retries have ended, and returns how many have not.
func (in Inbox) look(ctx context.Context, asked []AskedKey) (open int, err error) {
	ids := []int64{}
	for _, a := range asked {
		if !a.Done {
			ids = append(ids, a.KeyID)
		}
	}
	rows, err := in.conn.Query(ctx, `
SELECT k.id, k.requested_at IS NULL, (SELECT count(*) FROM inbox_parked p WHERE p.key_id = k.id),
       (SELECT p.error FROM inbox_parked p WHERE p.key_id = k.id ORDER BY p.id LIMIT 1)
  FROM inbox_parked_keys k WHERE k.id = ANY ($1)`, ids)
	if err != nil {
		return 0, fmt.Errorf("read inbox_parked_keys: %w", ExplainInbox(err))
	}
	type state struct {
		ended bool
		left  int64
		err   *string
	}
	there := map[int64]state{}
	var id int64
	var s state
	if _, err := pgx.ForEachRow(rows, []any{&id, &s.ended, &s.left, &s.err}, func() error { there[id] = s; return nil }); err != nil {
		return 0, fmt.Errorf("read inbox_parked_keys: %w", ExplainInbox(err))
	}
	for i := range asked {
		a := &asked[i]
		if a.Done {
			continue
		}
		s, parked := there[a.KeyID]
		if parked && !s.ended {
			open++
			continue
		}
		a.Done, a.Left, a.Error = true, s.left, s.err
	}
	return open, nil
}

// Idle says of each consumer that the retries are about why they are not carried out now: it seems
// that no process of it runs, because none has a session. Errors are explained.
func (in Inbox) Idle(ctx context.Context, asked []AskedKey) ([]string, error) {
	var idle []string
	for _, a := range asked {
		note := fmt.Sprintf("no process of consumer %s has a session, so it seems that none runs; the retry waits for one", a.Consumer)
		if slices.Contains(idle, note) {
			continue
		}
		runs, err := in.Runs(ctx, a.Consumer)
		if err != nil {
			return nil, err
		}
		if !runs {
			idle = append(idle, note)
		}
	}
	return idle, nil
}

// Runs reports whether a process of the consumer seems to run: one has a session. Errors are
// explained.
func (in Inbox) Runs(ctx context.Context, consumer string) (runs bool, err error) {
	const query = `SELECT EXISTS (SELECT FROM inbox_sessions WHERE consumer = $1)`
	if err := in.conn.QueryRow(ctx, query, consumer).Scan(&runs); err != nil {
		return false, fmt.Errorf("read inbox_sessions: %w", ExplainInbox(err))
	}
	return runs, nil
}
