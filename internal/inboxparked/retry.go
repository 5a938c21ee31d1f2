package inboxparked

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Asked is a retry that is asked for, or would be.
type Asked struct {
	Name
	// Messages counts those that were parked when it was asked.
	Messages int64 `json:"messages"`
	// Joined is true where somebody had asked for it before and it was still open: it was not asked for again.
	Joined bool `json:"joined"`
	// Done is true once it has ended. Left then counts the messages that are still parked, of which the first one failed again
	// with Error; 0 and nil where the whole queue was handled.
	Done  bool    `json:"done"`
	Left  int64   `json:"left"`
	Error *string `json:"error"`
}

// FailedAgain reports whether the retry ended at a message that could still not be handled.
func (a Asked) FailedAgain() bool { return a.Done && a.Left > 0 }

// Plan returns what Retry would ask for, and changes nothing. Errors are explained.
func Plan(ctx context.Context, conn *pgx.Conn, f Filter) ([]Asked, error) {
	list, err := Read(ctx, conn, f)
	if err != nil {
		return nil, err
	}
	asked := []Asked{}
	for _, k := range list.Keys {
		asked = append(asked, Asked{Name: k.Name, Messages: k.Messages, Joined: k.RequestedAt != nil})
	}
	return asked, nil
}

// retryQuery asks for a retry of keys. A key for which it is asked already is not touched: a consumer may hold it for as long as its
// handler takes. A message without a key is named in the audit by its id.
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

// Retry asks for a retry of each key that the filter chooses, for the given reason, which must not be empty, and does not wait. All
// are asked for or none. Errors are explained.
func Retry(ctx context.Context, conn *pgx.Conn, f Filter, reason string) ([]Asked, error) {
	asked, err := Plan(ctx, conn, f)
	if err != nil || len(asked) == 0 {
		return asked, err
	}
	ids := []int64{}
	for _, a := range asked {
		ids = append(ids, a.KeyID)
	}
	rows, err := conn.Query(ctx, retryQuery, ids, reason)
	if err != nil {
		return nil, fmt.Errorf("ask for a retry: %w", Explain(err))
	}
	taken, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("ask for a retry: %w", Explain(err))
	}
	for i := range asked {
		asked[i].Joined = !slices.Contains(taken, asked[i].KeyID)
	}
	return asked, nil
}

// The pauses between the looks of Await.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = 500 * time.Millisecond
)

// Await waits until every retry has ended, and fills in what came of them. The end of ctx ends it with its error; what was done by then is
// filled in. Other errors are explained.
func Await(ctx context.Context, conn *pgx.Conn, asked []Asked) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	pause := firstPause
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		// A statement that is cut short would take the connection with it, so it is let through to its end.
		open, err := look(context.WithoutCancel(ctx), conn, asked)
		if err != nil || open == 0 {
			return err
		}
		timer.Reset(pause)
		pause = min(2*pause, longestPause)
	}
}

// look fills in which retries have ended, and returns how many have not.
func look(ctx context.Context, conn *pgx.Conn, asked []Asked) (open int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ids := []int64{}
	for _, a := range asked {
		if !a.Done {
			ids = append(ids, a.KeyID)
		}
	}
	rows, err := conn.Query(ctx, `
SELECT k.id, k.requested_at IS NULL, (SELECT count(*) FROM inbox_parked p WHERE p.key_id = k.id),
       (SELECT p.error FROM inbox_parked p WHERE p.key_id = k.id ORDER BY p.id LIMIT 1)
  FROM inbox_parked_keys k WHERE k.id = ANY ($1)`, ids)
	if err != nil {
		return 0, fmt.Errorf("read inbox_parked_keys: %w", Explain(err))
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
		return 0, fmt.Errorf("read inbox_parked_keys: %w", Explain(err))
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

// Idle names the consumers of the keys of which no process seems to run: none has a session. Errors are explained.
func Idle(ctx context.Context, conn *pgx.Conn, asked []Asked) ([]string, error) {
	var about []string
	for _, a := range asked {
		if !slices.Contains(about, a.Consumer) {
			about = append(about, a.Consumer)
		}
	}
	rows, err := conn.Query(ctx, `
SELECT consumer FROM unnest($1::text[]) AS about (consumer)
 WHERE NOT EXISTS (SELECT FROM inbox_sessions s WHERE s.consumer = about.consumer) ORDER BY consumer`, about)
	if err != nil {
		return nil, fmt.Errorf("read inbox_sessions: %w", Explain(err))
	}
	idle, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("read inbox_sessions: %w", Explain(err))
	}
	return idle, nil
}
