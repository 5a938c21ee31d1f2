package operator

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Consumer is what the database knows of a consumer.
type Consumer struct {
	// Consumer is its name.
	Consumer string `json:"consumer"`
	// RetentionSeconds is how long its marks are kept; nil forever.
	RetentionSeconds *float64 `json:"retention_seconds"`
	// MarksEstimate is about how many marks it has, by the statistics of Postgres; 0 if there are
	// none yet.
	MarksEstimate int64 `json:"marks_estimate"`
	// ParkedKeys and ParkedMessages count what is parked; Requested are the keys for which a retry is
	// asked for.
	ParkedKeys     int64 `json:"parked_keys"`
	ParkedMessages int64 `json:"parked_messages"`
	Requested      int64 `json:"requested"`
	// Claims counts effects that were begun and are not known to be done.
	Claims int64 `json:"claims"`
	// Partitions counts those that a process works on, or worked on until it ended without notice;
	// Instances the processes.
	Partitions int64 `json:"partitions"`
	Instances  int64 `json:"instances"`
	// OpenedAt is when the newest of these sessions began; nil if there is none.
	OpenedAt *time.Time `json:"opened_at"`
}

const consumersQuery = `
WITH found AS MATERIALIZED (
    SELECT consumer, marks FROM inbox_estimate()
), names AS (
    SELECT consumer FROM inbox_consumers UNION SELECT consumer FROM found UNION SELECT consumer FROM inbox_parked_keys
     UNION SELECT consumer FROM inbox_sessions UNION SELECT consumer FROM inbox_claims
)
SELECT n.consumer, extract(epoch FROM c.retention)::float8, coalesce(f.marks, 0),
       (SELECT count(*) FROM inbox_parked_keys k WHERE k.consumer = n.consumer),
       (SELECT count(*) FROM inbox_parked_keys k JOIN inbox_parked p ON p.key_id = k.id WHERE k.consumer = n.consumer),
       (SELECT count(requested_at) FROM inbox_parked_keys k WHERE k.consumer = n.consumer),
       (SELECT count(*) FROM inbox_claims x WHERE x.consumer = n.consumer), s.partitions, s.instances, s.opened_at
  FROM names n LEFT JOIN inbox_consumers c ON c.consumer = n.consumer LEFT JOIN found f ON f.consumer = n.consumer
       CROSS JOIN LATERAL (SELECT count(*) AS partitions, count(DISTINCT instance) AS instances, max(opened_at) AS opened_at
                             FROM inbox_sessions s WHERE s.consumer = n.consumer) AS s
 ORDER BY n.consumer`

// Consumers lists every consumer that the database knows of. Errors are explained.
func (in Inbox) Consumers(ctx context.Context) ([]Consumer, error) {
	rows, err := in.conn.Query(ctx, consumersQuery)
	if err != nil {
		return nil, fmt.Errorf("read the tables of the inbox: %w", ExplainInbox(err))
	}
	consumers, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Consumer, err error) {
		err = row.Scan(&c.Consumer, &c.RetentionSeconds, &c.MarksEstimate, &c.ParkedKeys, &c.ParkedMessages, &c.Requested, &c.Claims,
			&c.Partitions, &c.Instances, &c.OpenedAt)
		c.OpenedAt = inUTC(c.OpenedAt)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the tables of the inbox: %w", ExplainInbox(err))
	}
	return append([]Consumer{}, consumers...), nil
}
