package lanestore

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/pg"
)

// A lane's partition of the checkpoint topic is in its row of relay_lanes, so the order of the
// lanes in the configuration is free. A lane without one is given the lowest that is free: where
// the row of a lane was lost, that is its old one, whose checkpoint tells that the row was lost.
// The next partition would be empty, and a lane that starts there publishes everything again.

// newPartitions lists the lanes of $1 that have no partition, each with the one that it is to be
// given.
const newPartitions = `
SELECT missing.lane, free.n AS partition
FROM (SELECT given.lane, row_number() OVER (ORDER BY given.place) AS turn FROM unnest($1::text[]) WITH ORDINALITY AS given (lane, place)
      WHERE NOT EXISTS (SELECT FROM relay_lanes r WHERE r.lane = given.lane AND r.partition IS NOT NULL)) missing
JOIN (SELECT n, row_number() OVER (ORDER BY n) AS turn FROM generate_series(0, (SELECT count(*)::int FROM relay_lanes) + cardinality($1)) n
      WHERE NOT EXISTS (SELECT FROM relay_lanes r WHERE r.partition = n)) free USING (turn)`

// Register gives lanes that are new their partitions of the checkpoint topic, in their order, and
// returns this lane's.
func (l *Row) Register(ctx context.Context, lanes []string) (partition int32, err error) {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	_, err = l.conn.Exec(ctx, `INSERT INTO relay_lanes AS r (lane, partition) SELECT lane, partition FROM (`+newPartitions+`) made
ON CONFLICT (lane) DO UPDATE SET partition = excluded.partition WHERE r.partition IS NULL`, lanes)
	if err != nil {
		return 0, fmt.Errorf("give lane %s its partition of the checkpoint topic: %w", l.o.Lane, err)
	}
	return PartitionOf(ctx, l.conn, lanes, l.o.Lane)
}

// PartitionOf returns the partition that a lane has, or would be given. It changes nothing.
func PartitionOf(ctx context.Context, conn *pgx.Conn, lanes []string, lane string) (partition int32, err error) {
	err = conn.QueryRow(ctx, `SELECT partition FROM relay_lanes WHERE lane = $2 AND partition IS NOT NULL
UNION ALL SELECT partition FROM (`+newPartitions+`) made WHERE lane = $2`, lanes, lane).Scan(&partition)
	if err != nil {
		return 0, fmt.Errorf("read the partition of lane %s: %w", lane, err)
	}
	return partition, nil
}
