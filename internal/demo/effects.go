package demo

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// effects is what the bank did, compared with the outbox. The inbox is not asked.
type effects struct {
	messages  int // that had an effect
	lost      int // rows of the outbox without an effect
	twice     int // effects of a message after its first
	reordered int // effects after that of a later event of the account
	invented  int // messages with an effect and without a row in the outbox
	wrong     int // accounts whose balance is not what the outbox says
	accounts  int
	before    int64 // sum of all balances, in cents
	after     int64
}

// The rows of the outbox are the truth: the demo keeps all of them. Payloads are those of the
// writers.
const (
	countEffects = `
WITH effect AS (SELECT msg_id, count(*) AS times FROM bank.bookings GROUP BY msg_id)
SELECT count(*) FILTER (WHERE o.msg_id IS NULL), count(*) FILTER (WHERE e.msg_id IS NULL),
       count(e.msg_id), coalesce(sum(e.times - 1), 0)::bigint
  FROM outbox o FULL JOIN effect e ON e.msg_id = o.msg_id`

	// Of one account the bookings are committed one after the other, each with a higher id.
	countReordered = `
SELECT count(*) FROM (
    SELECT version, max(version) OVER (PARTITION BY account ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS highest
      FROM bank.bookings) AS booking
 WHERE version < highest`

	compareBalances = `
WITH event AS MATERIALIZED (SELECT aggregate_id, convert_from(payload, 'UTF8')::jsonb AS body FROM outbox),
move AS (
    SELECT aggregate_id AS account, -(body ->> 'cents')::bigint AS cents FROM event
    UNION ALL
    SELECT body ->> 'receiver', (body ->> 'cents')::bigint FROM event),
want AS (SELECT account, $1 + sum(cents)::bigint AS cents FROM move GROUP BY account)
SELECT count(*), count(*) FILTER (WHERE b.cents <> coalesce(w.cents, $1)), sum(b.cents)::bigint
  FROM bank.balances b LEFT JOIN want w USING (account)`
)

// auditEffects compares the books of the bank with the outbox, once all writing has ended.
func auditEffects(ctx context.Context, databaseURL string) (_ *effects, err error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return nil, fmt.Errorf("audit the consumer: %w", err)
	}
	defer func() { err = errors.Join(err, closeConn(conn)) }()
	e := &effects{}
	for _, q := range []struct {
		sql  string
		args []any
		into []any
	}{
		// Hashes of everything; without this much memory Postgres would write them to disk.
		{"SET work_mem = '256MB'", nil, nil},
		{countEffects, nil, []any{&e.invented, &e.lost, &e.messages, &e.twice}},
		{countReordered, nil, []any{&e.reordered}},
		{compareBalances, []any{int64(openingCents)}, []any{&e.accounts, &e.wrong, &e.after}},
	} {
		if q.into == nil {
			_, err = conn.Exec(ctx, q.sql)
		} else {
			err = conn.QueryRow(ctx, q.sql, q.args...).Scan(q.into...)
		}
		if err != nil {
			return nil, fmt.Errorf("audit the consumer: %w", err)
		}
	}
	// A message of which the outbox knows nothing has an effect all the same; it is counted apart.
	e.messages -= e.invented
	e.before = int64(e.accounts) * openingCents
	return e, nil
}
